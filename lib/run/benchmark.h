// benchmark.h: what models make of the items of benchmarks (items.h). From top to bottom:
//
//   scorers    the models, and what one of them makes of each item
//   ways       prompt and continuation as tokens, as lm-evaluation-harness takes them
//   likelihood log p(continuation | prompt) of all ways of many items in one pass
//   answers    samples, and how many of them are right
//   rewards    pairs by a reward model, or by log pi(y|x) - log ref(y|x)
//   all        every scorer on every benchmark
//
// Log-likelihoods are those of lm-evaluation-harness (package lm-eval, its `hf` model):
//
//   - White space at the end of the prompt goes over to the continuation; then both are tokenised as one
//     text, and what comes after as many tokens as the prompt has alone is the continuation's. (Training
//     here tokenises the parts each on its own, since that is what a model sees when it generates. The
//     two differ where a token would reach across the border; such items are counted.)
//   - An empty prompt is BOS, or EOS where the tokenizer has none.
//   - A model of P positions sees the last P + 1 tokens, the last of which is only predicted. What is
//     before them is cut off, and the item is counted.
//
// A passage of lm-eval is one row for each way to go on, padded. Here the longest beginning that all
// ways of an item share goes through the model once and the rest of each way continues it, nothing is
// padded, and a last token, which need only be predicted, does not go through the layers.
#ifndef BENCHMARK_H
#define BENCHMARK_H

#include "../../model.h"         // defines: GPT2, gpt2_forward, lm_head_targets, rows_forward
#include "../base/texts.h"       // defines: text_add_json, text_add_bytes
#include "../base/stats.h"       // defines: pass_at_k
#include "../data/items.h"       // defines: ItemSet, AnswerRules
#include "../files/pretrained.h" // defines: policy_load, model_load_reward
#include "reward.h"              // defines: Reward, reward_score_model
#include "sample.h"              // defines: Sampler, sampler_begin

// ------------------------------------------------------------------------------------------------
// Scorers

enum {
    MAX_SCORERS = 64,
    MAX_PASS_K = 8,
    GOOD_PASS = 2048, // tokens; more at a time are not faster
};

// By what a scorer tells right from wrong.
typedef enum { BY_NOTHING, BY_LIKELIHOOD, BY_SAMPLES, BY_IMPLICIT_REWARD, BY_REWARD } Judge;
static const char *const judge_names[] = {"nothing", "log-likelihood", "samples", "implicit reward",
                                          "reward model"};

// Measures of an item, by item; NAN: it has no such measure.
typedef enum {
    IS_RIGHT,        // 1 or 0; of samples, the share that is right
    IS_RIGHT_CHARS,  // by log-likelihood a character of the continuation
    IS_RIGHT_TOKENS, // by log-likelihood a token
    IS_NLL,          // -log p(continuation | prompt), nats
    IS_PASS,         // pass@k of the first k; the others follow
    IS_MEASURES = IS_PASS + MAX_PASS_K
} ItemMeasure;

// What a scorer made of the items of a benchmark.
typedef struct {
    Judge judge;
    double *value[IS_MEASURES]; // (items)
    long cut;                   // items that lost their beginning
    long joined;                // whose tokens are not those of prompt and continuation alone
    long tied;                  // pairs with equal scores: wrong
    long unfinished;            // samples that were cut at max_new_tokens
    double seconds;
} Scores;

// A policy, or a model of rewards.
typedef struct {
    char *name, *dir;
    bool reward;
} Scorer;

typedef struct {
    // What is wanted.
    const char *tokenizer, *ref_model; // directories, or NULL: the scorer's own; no reference
    const char *chat_format;
    const char *delimiter;  // between prompt and continuation
    AnswerRules rules;      // for written answers
    SampleOptions sampling; // for them, too
    int n_samples;          // of each
    int pass_k[MAX_PASS_K], n_pass_k;
    int most;       // items of a file; 0: all
    int max_length; // 0: what the model has
    int batch_size; // items at a time; 0: as many as make a good pass
    bool strict, keep;
    double level;
    // What there is.
    int n_sets, n_scorers;
    ItemSet *sets;               // (n_sets)
    Scorer scorers[MAX_SCORERS]; // (n_scorers)
    Scores *scores[MAX_SCORERS]; // (n_scorers, n_sets)
    Text lines;                  // of --samples_file
    // The scorer at work.
    GPT2 model;
    Tokenizer own;
    const Tokenizer *t;
    const Scorer *scorer;
    int window; // tokens that its model can be asked about
    Sampler sampler;
    Batch batch;
} Benchmarks;

// The item cannot be used: it is left out for all scorers.
static void item_drop(Benchmarks *b, ItemSet *s, Item *item, const Draft *draft) {
    if (item->out) return;
    item->out = true;
    const DataOptions o = {.strict = b->strict, .faults = b->keep ? &b->lines : NULL};
    const LineReader place = {.path = s->path, .number = item->line};
    s->counts.records--; // record_done counts it again
    record_done(&s->counts, draft, &place, NULL, &o);
}

// Begin the line of an item for --samples_file.
static void line_begin(Benchmarks *b, const ItemSet *s, int i) {
    const Item *item = &s->items[i];
    text_print(&b->lines, "{\"model\": ");
    text_json(&b->lines, b->scorer->name, strlen(b->scorer->name));
    text_print(&b->lines, ", \"benchmark\": ");
    text_json(&b->lines, s->name, strlen(s->name));
    text_print(&b->lines, ", \"line\": %ld, \"task\": ", item->line);
    if (s->task_key)
        text_json(&b->lines, s->tasks.text[item->task], strlen(s->tasks.text[item->task]));
    else text_print(&b->lines, "null");
}

// ------------------------------------------------------------------------------------------------
// Ways

// A way to go on: its tokens, prompt and all, in a list.
typedef struct {
    size_t at; // the first of them that the model sees
    int n;     // how many, the last of which is only predicted
    int from;  // the first one that counts, > 0
    int chars; // of the continuation, for IS_RIGHT_CHARS
    int same;  // an earlier way of the item with the same tokens, or itself
    // Its tokens 0 .. shared - 1 are those of all ways of its item. Where token t is predicted:
    int shared, shared_at, next_at, rest_at; // see way_target
    double sum;                              // log p(continuation | prompt)
    bool greedy;                             // each of its tokens was the most probable one
} Way;

// Characters of UTF-8 text.
static int utf8_length(const char *s) {
    int n = 0;
    for (; *s; s++) n += (*s & 0xC0) != 0x80;
    return n;
}

// Append the tokens of text[0..n) as a whole text: with BOS in front, where the tokenizer puts it there
// and the text does not begin with it.
static void text_encode(const Tokenizer *t, TokenList *ids, const char *text, size_t n) {
    const char *bos = t->bos_id >= 0 ? token_name(t, t->bos_id) : NULL;
    if (!bos || strncmp(text, bos, strlen(bos))) tokenizer_begin(t, ids);
    tokenizer_encode(t, ids, text, n, true);
}

// True if text[0..n) alone has the tokens ids[0..k).
static bool text_is_encoded(const Tokenizer *t, const char *text, size_t n, const int *ids,
                            size_t k) {
    TokenList own = {0};
    tokenizer_encode(t, &own, text, n, true);
    const bool same = own.n == k && !memcmp(own.data, ids, k * sizeof *ids);
    tokens_free(&own);
    return same;
}

// Encode prompt and continuation; their tokens follow those in `ids`. `cut` and `joined` are set if
// so it is. A continuation without tokens, or with more than the model sees, is noted as a fault.
static Way way_encode(const Benchmarks *b, TokenList *ids, Draft *fault, const char *prompt,
                      const char *continuation, bool *cut, bool *joined) {
    const Tokenizer *t = b->t;
    const int prefix = t->bos_id >= 0 ? t->bos_id : t->eos_id;
    const size_t at = ids->n, room = (size_t)b->window + 1;
    size_t prompt_bytes = strlen(prompt), n_prompt = 1;
    Text whole = {0};
    TokenList all = {0};
    for (size_t k; (k = chat_blank(prompt, prompt_bytes, true));) prompt_bytes -= k;
    text_print(&whole, "%s%s%s", prompt, b->delimiter, continuation);
    if (prompt_bytes) {
        text_encode(t, ids, prompt, prompt_bytes);
        n_prompt = ids->n - at;
        text_encode(t, &all, whole.data, whole.size);
    } else {
        tokens_append(ids, prefix);
        tokenizer_encode(t, &all, whole.data, whole.size, true);
        if (all.n == 0 || all.data[0] != prefix) n_prompt = 0;
    }
    for (size_t i = n_prompt; i < all.n; i++) tokens_append(ids, all.data[i]);
    if (!n_prompt) n_prompt = 1; // the prefix
    const size_t n = ids->n - at, own = n - n_prompt;
    if (prompt_bytes)
        *joined |= !text_is_encoded(t, whole.data + prompt_bytes, whole.size - prompt_bytes,
                                    ids->data + at + n_prompt, own);
    if (own == 0) draft_fault(fault, "a continuation has no token of its own");
    if (own >= room)
        draft_fault(fault, "a continuation has %zu tokens, context is %d", own, b->window);
    const size_t lost = n > room ? n - room : 0;
    *cut |= lost > 0;
    text_free(&whole), tokens_free(&all);
    // a blank between prompt and continuation is not one of the continuation's characters
    return (Way){.at = at + lost,
                 .n = (int)(n - lost),
                 .from = (int)(n_prompt - lost),
                 .chars = utf8_length(continuation + (!*b->delimiter && *continuation == ' '))};
}

// Encode all ways of an item, one after another in `ids`; false if the item has a fault.
static bool item_encode(Benchmarks *b, ItemSet *s, Item *item, TokenList *ids, Way *ways,
                        Scores *scores) {
    Draft fault = {0};
    bool cut = false, joined = false;
    for (int i = 0; i < item->n; i++) {
        const char *prompt = item->prompts.text[item->prompts.n > 1 ? i : 0];
        const char *way = item->ways.text[item->ways.n > 1 ? i : 0];
        ways[i] = way_encode(b, ids, &fault, prompt, way, &cut, &joined);
        for (ways[i].same = 0; ways[i].same < i; ways[i].same++) {
            const Way *a = &ways[i], *earlier = &ways[a->same];
            if (a->n == earlier->n && a->from == earlier->from &&
                !memcmp(ids->data + a->at, ids->data + earlier->at, (size_t)a->n * sizeof(int)))
                break;
        }
    }
    if (fault.fault[0]) item_drop(b, s, item, &fault);
    else {
        scores->cut += cut;
        scores->joined += joined;
    }
    return !fault.fault[0];
}

// ------------------------------------------------------------------------------------------------
// Likelihood

// Items that go through the model together.
typedef struct {
    TokenList ids;
    Way *ways; // (n_ways)
    int n_ways, max_ways;
    int *items, n_items, max_items; // indices in their set
    TokenList sources, targets;     // tokens of the batch, and which token to predict from there
    float *logp;                    // (targets)
    TokenStats *stats;              // (targets)
    size_t max_targets;
} Pass;

static void pass_free(Pass *p) {
    tokens_free(&p->ids), tokens_free(&p->sources), tokens_free(&p->targets);
    free(p->ways), free(p->items), free(p->logp), free(p->stats);
    *p = (Pass){0};
}

// Tokens that the ways (n) have in common from the first on, before the last one of any.
static int ways_shared(const TokenList *ids, const Way *ways, int n) {
    const int *first = ids->data + ways[0].at;
    int shared = ways[0].n - 1;
    for (int i = 1; i < n; i++) {
        const int *other = ids->data + ways[i].at;
        int k = 0;
        while (k < shared && k < ways[i].n - 1 && first[k] == other[k]) k++;
        shared = k;
    }
    return shared;
}

// Have `target` predicted from token `source` of the batch; returns its place among the targets.
static int pass_predict(Pass *p, int source, int target) {
    tokens_append(&p->sources, source);
    tokens_append(&p->targets, target);
    return (int)p->targets.n - 1;
}

// Where token t of a way, from <= t < n, is among the targets.
static int way_target(const Way *w, int t) {
    if (t < w->shared) return w->shared_at + t;
    return t == w->shared ? w->next_at : w->rest_at + t;
}

// Put the ways (n) of an item into the batch: what they share as a row, the rest of each as its child,
// each without its last token. The tokens after the shared ones all come from the same state, so they
// are asked for one after another.
static void ways_add(Pass *p, Batch *b, Way *ways, int n) {
    const int shared = ways_shared(&p->ids, ways, n), parent = shared ? b->R : -1, begin = b->N;
    const int *ids = p->ids.data;
    int from = ways[0].from;
    for (int i = 1; i < n; i++)
        if (ways[i].from < from) from = ways[i].from;
    if (shared) batch_add_row(b, ids + ways[0].at, NULL, shared);
    const int shared_at = (int)p->targets.n - from;
    for (int t = from; t < shared; t++) pass_predict(p, begin + t - 1, ids[ways[0].at + (size_t)t]);
    for (int i = 0; i < n; i++) {
        Way *w = &ways[i];
        w->shared = shared;
        w->shared_at = shared_at;
        if (w->same == i && w->from <= shared)
            w->next_at = pass_predict(p, begin + shared - 1, ids[w->at + (size_t)shared]);
    }
    for (int i = 0; i < n; i++) {
        Way *w = &ways[i];
        const int own = w->n - 1 - shared, row = b->N - shared; // where its token 0 would be
        if (w->same < i) continue;
        if (own > 0) batch_add_child(b, parent, ids + w->at + shared, NULL, own);
        const int first = w->from > shared ? w->from : shared + 1;
        w->rest_at = (int)p->targets.n - first;
        for (int t = first; t < w->n; t++) pass_predict(p, row + t - 1, ids[w->at + (size_t)t]);
    }
}

// Append "key": [..] to the line: the value of each way w.
#define LINE_LIST(b, key, n, format, value)                                                        \
    do {                                                                                           \
        text_print(&(b)->lines, ", \"%s\": [", key);                                               \
        for (int w = 0; w < (n); w++) text_print(&(b)->lines, "%s" format, w ? ", " : "", value);  \
        text_print(&(b)->lines, "]");                                                              \
    } while (0)

// The way with the highest log-likelihood over its `weight`, the first one of equals.
static int ways_best(const Way *ways, int n, const double *weight) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (ways[i].sum / weight[i] > ways[best].sum / weight[best]) best = i;
    return best;
}

// The ways of item i have their log-likelihoods: note what is right.
static void item_judge(Benchmarks *b, const ItemSet *s, int i, const Way *ways, Scores *scores) {
    const Item *item = &s->items[i];
    const int n = item->n;
    double *one = mem_alloc(3 * (size_t)n, sizeof *one), *chars = one + n, *tokens = chars + n;
    for (int w = 0; w < n; w++) {
        one[w] = 1;
        chars[w] = ways[w].chars;
        tokens[w] = ways[w].n - ways[w].from;
    }
    int choice = ways_best(ways, n, one);
    double right = choice == item->right;
    if (s->form == ITEM_CHOICE) {
        scores->value[IS_RIGHT_CHARS][i] = ways_best(ways, n, chars) == item->right;
        scores->value[IS_RIGHT_TOKENS][i] = ways_best(ways, n, tokens) == item->right;
    } else if (s->form == ITEM_PAIR && ways[0].sum == ways[1].sum) {
        right = 0;
        scores->tied++;
    } else if (s->form == ITEM_WORD) {
        right = ways[0].greedy;
        scores->value[IS_NLL][i] = -ways[0].sum;
    }
    scores->value[IS_RIGHT][i] = right;
    if (b->keep) {
        line_begin(b, s, i);
        LINE_LIST(b, "log_likelihoods", n, "%.9g", ways[w].sum);
        LINE_LIST(b, "tokens", n, "%.0f", tokens[w]);
        LINE_LIST(b, "characters", n, "%.0f", chars[w]);
        LINE_LIST(b, "greedy", n, "%s", ways[w].greedy ? "true" : "false");
        text_print(&b->lines, ", \"choice\": %d, \"answer\": %d, \"right\": %s}\n", choice,
                   item->right, right > 0 ? "true" : "false");
    }
    free(one);
}

// Run the items of the pass through the model, judge them, and empty the pass.
static void pass_run(Benchmarks *b, const ItemSet *s, Pass *p, Scores *scores) {
    if (p->targets.n > p->max_targets) {
        p->max_targets = p->targets.n;
        p->logp = mem_resize(p->logp, p->max_targets, sizeof *p->logp);
        p->stats = mem_resize(p->stats, p->max_targets, sizeof *p->stats);
    }
    gpt2_forward(&b->model, &b->batch);
    lm_head_targets(&b->model, p->logp, p->stats, p->sources.data, p->targets.data,
                    (int)p->targets.n);
    Way *ways = p->ways;
    for (int k = 0; k < p->n_items; k++) {
        const Item *item = &s->items[p->items[k]];
        for (int i = 0; i < item->n; i++) {
            Way *w = &ways[i];
            w->sum = 0;
            w->greedy = true;
            for (int t = w->from; t < w->n && w->same == i; t++) {
                w->sum += (double)p->logp[way_target(w, t)];
                w->greedy &= p->stats[way_target(w, t)].correct > 0;
            }
            if (!isfinite(w->sum))
                die(EXIT_DIVERGED, "%s: log-probs are not finite (%s:%ld)", b->scorer->dir, s->path,
                    item->line);
            if (w->same == i) continue;
            w->sum = ways[w->same].sum;
            w->greedy = ways[w->same].greedy;
        }
        item_judge(b, s, p->items[k], ways, scores);
        ways += item->n;
    }
    p->ids.n = p->sources.n = p->targets.n = 0;
    p->n_ways = p->n_items = 0;
    batch_clear(&b->batch);
}

// The next item of the pass: room for it and its ways.
static Way *pass_item(Pass *p, int item, int n) {
    if (p->n_items == p->max_items) {
        p->max_items = 2 * p->max_items + 64;
        p->items = mem_resize(p->items, (size_t)p->max_items, sizeof *p->items);
    }
    if (p->n_ways + n > p->max_ways) {
        p->max_ways = 2 * p->max_ways + n;
        p->ways = mem_resize(p->ways, (size_t)p->max_ways, sizeof *p->ways);
    }
    p->items[p->n_items] = item;
    return p->ways + p->n_ways;
}

// Score the items of a benchmark by the log-likelihoods of their ways.
static void items_score(Benchmarks *b, ItemSet *s, Scores *scores) {
    Pass p = {0};
    batch_clear(&b->batch);
    for (int i = 0; i < s->n; i++) {
        Item *item = &s->items[i];
        if (item->out) continue;
        Way *ways = pass_item(&p, i, item->n);
        if (!item_encode(b, s, item, &p.ids, ways, scores)) continue;
        ways_add(&p, &b->batch, ways, item->n);
        p.n_ways += item->n;
        p.n_items++;
        if (b->batch_size ? p.n_items < b->batch_size : b->batch.N < GOOD_PASS) continue;
        pass_run(b, s, &p, scores);
        progress_show("%s, %s: %d of %d items", b->scorer->name, s->name, i + 1, s->n);
    }
    if (p.n_items) pass_run(b, s, &p, scores);
    progress_clear();
    pass_free(&p);
}

// ------------------------------------------------------------------------------------------------
// Answers

// A row that grows: its text so far, and the tokens that are in it.
typedef struct {
    Text text;
    int n;
    bool stopped;
} Growing;

// Let all rows grow to their ends; one is also at its end where a stop is in its text.
static void rows_grow(Benchmarks *b, Growing *rows) {
    Sampler *sampler = &b->sampler;
    for (int r = 0; r < sampler->R; r++) {
        rows[r].text.size = 0;
        text_append(&rows[r].text, "", 0);
        rows[r].n = 0;
        rows[r].stopped = false;
    }
    for (bool more = true; more;) {
        more = sampler_step(sampler) > 0;
        for (int r = 0; r < sampler->R; r++) {
            SampleRow *row = &sampler->rows[r];
            Growing *g = &rows[r];
            const int n = row->n - row->n_prompt;
            if (g->n == n) continue;
            text_add_bytes(&g->text, b->t, row->tokens + row->n_prompt + g->n, (size_t)(n - g->n));
            g->n = n;
            g->stopped = rules_end(&b->rules, g->text.data, g->text.size) < g->text.size;
            if (g->stopped) row->finish = FINISH_EOS; // the sampler leaves it alone from here on
        }
    }
}

// What a row says, up to its end: valid UTF-8 without NULs.
static void growing_text(Text *out, const Benchmarks *b, Growing *g) {
    const size_t n = rules_end(&b->rules, g->text.data, g->text.size);
    for (size_t i = 0; i < n; i++)
        if (!g->text.data[i]) g->text.data[i] = (char)0xFF; // never part of a character
    out->size = 0;
    text_append_repaired(out, g->text.data, n);
    text_append(out, "", 0);
}

// Fill the batch with the prompts of items[0..n), whose beginnings are cut off where they would leave
// less room than max_new_tokens, but not below half of the context. Returns the longest of them.
static int prompts_add(Benchmarks *b, const ItemSet *s, const int *items, int n, Scores *scores) {
    const size_t room = prompt_room(b->window, b->sampling.max_new_tokens);
    TokenList ids = {0};
    int longest = 0;
    batch_clear(&b->batch);
    for (int i = 0; i < n; i++) {
        const char *prompt = s->items[items[i]].prompts.text[0];
        ids.n = 0;
        text_encode(b->t, &ids, prompt, strlen(prompt));
        if (!ids.n) tokens_append(&ids, b->t->bos_id >= 0 ? b->t->bos_id : b->t->eos_id);
        const size_t keep = ids.n < room ? ids.n : room;
        scores->cut += keep < ids.n;
        batch_add_row(&b->batch, ids.data + ids.n - keep, NULL, (int)keep);
        if ((int)keep > longest) longest = (int)keep;
    }
    tokens_free(&ids);
    return longest;
}

// Sample answers to items[0..n) and count the right ones. The random numbers of a sample depend on
// its item and number alone.
static void answers_sample(Benchmarks *b, const ItemSet *s, const int *items, int n, Growing *rows,
                           Scores *scores) {
    const int longest = prompts_add(b, s, items, n, scores), K = b->n_samples;
    Text *said = mem_alloc(2 * (size_t)n, sizeof *said), *found = said + n, one = {0}, answer = {0};
    int *right = mem_alloc((size_t)n, sizeof *right);
    SampleOptions o = b->sampling;
    o.eos_id = b->t->eos_id;
    o.vocab_size = b->t->vocab_size;
    if (o.max_new_tokens > b->window - longest) o.max_new_tokens = b->window - longest;
    for (int k = 0; k < K; k++) {
        sampler_begin(&b->sampler, &b->model, &o, &b->batch,
                      ((uint64_t)k << 24) + (uint64_t)items[0]);
        rows_grow(b, rows);
        for (int r = 0; r < n; r++) {
            growing_text(&one, b, &rows[r]);
            const bool is = answer_find(&answer, &b->rules, one.data) &&
                            answer_is_right(&b->rules, &s->items[items[r]], answer.data);
            right[r] += is;
            scores->unfinished += !rows[r].stopped && b->sampler.rows[r].finish != FINISH_EOS;
            text_print(&said[r], "%s", k ? ", " : "");
            text_print(&found[r], "%s", k ? ", " : "");
            text_json(&said[r], one.data, one.size);
            text_json(&found[r], answer.data, answer.size);
        }
    }
    for (int r = 0; r < n; r++) {
        const int i = items[r];
        scores->value[IS_RIGHT][i] = (double)right[r] / K;
        for (int k = 0; k < b->n_pass_k; k++)
            scores->value[IS_PASS + k][i] = pass_at_k(K, right[r], b->pass_k[k]);
        if (b->keep) {
            line_begin(b, s, i);
            text_print(&b->lines, ", \"completions\": [%s], \"found\": [%s], \"right\": %d}\n",
                       said[r].data, found[r].data, right[r]);
        }
        text_free(&said[r]), text_free(&found[r]);
    }
    text_free(&one), text_free(&answer);
    free(said), free(right);
}

// Score the items of a benchmark by the answers that the model writes.
static void answers_score(Benchmarks *b, const ItemSet *s, Scores *scores) {
    const int B = b->batch_size ? b->batch_size : 32;
    int *items = mem_alloc((size_t)B, sizeof *items), n = 0;
    Growing *rows = mem_alloc((size_t)B, sizeof *rows);
    for (int i = 0; i < s->n; i++) {
        items[n++] = i;
        if (n < B && i + 1 < s->n) continue;
        answers_sample(b, s, items, n, rows, scores);
        n = 0;
        progress_show("%s, %s: %d of %d items", b->scorer->name, s->name, i + 1, s->n);
    }
    progress_clear();
    for (int r = 0; r < B; r++) text_free(&rows[r].text);
    free(items), free(rows);
}

// ------------------------------------------------------------------------------------------------
// Rewards. As in RewardBench (Lambert et al. 2024) a pair is right if the chosen completion has the
// higher reward, and a tie is wrong. Prompt and completion are tokenised as in training, with EOS.

// Pairs as tokens, and the items that they are.
typedef struct {
    PairSet set;
    int *item; // (set.n)
    long cut, joined;
} Pairs;

static void pairs_encode(Benchmarks *b, ItemSet *s, Pairs *p, const DataOptions *o) {
    Draft draft = {0};
    RowWork w = {0};
    *p = (Pairs){.set = {.pieces = 3, .max_length = o->max_length}};
    p->item = mem_alloc((size_t)s->n, sizeof *p->item);
    for (int i = 0; i < s->n; i++) {
        Item *item = &s->items[i];
        const LineReader place = {.path = s->path, .number = item->line};
        if (item->out) continue;
        draft_preference(&draft, &place, item->record, 2, o->chat_format);
        pieces_encode(&w, b->t, &draft, o, &p->set.counts);
        if (draft.fault[0]) {
            item_drop(b, s, item, &draft);
            continue;
        }
        p->item[p->set.n] = i;
        pieces_add(&p->set, w.ids.data, w.begin, w.end, 0);
    }
    draft_free(&draft);
    row_work_free(&w);
}

static void pairs_drop(Pairs *p) {
    pieces_free(&p->set);
    free(p->item);
}

// Note what is right of the pairs' rewards (two each).
static void pairs_judge(Benchmarks *b, const ItemSet *s, const Pairs *p, const double *rewards,
                        Scores *scores) {
    scores->cut = p->set.counts.truncated;
    scores->joined = p->set.counts.boundary;
    for (int k = 0; k < p->set.n; k++) {
        const double chosen = rewards[2 * k], rejected = rewards[2 * k + 1];
        scores->value[IS_RIGHT][p->item[k]] = chosen > rejected;
        scores->tied += chosen == rejected;
        if (!b->keep) continue;
        line_begin(b, s, p->item[k]);
        text_print(&b->lines, ", \"rewards\": [%.9g, %.9g], \"right\": %s}\n", chosen, rejected,
                   chosen > rejected ? "true" : "false");
    }
}

// Score pairs by a model of rewards.
static void pairs_reward(Benchmarks *b, ItemSet *s, Reward *reward, const DataOptions *o,
                         Scores *scores) {
    enum { AT_A_TIME = 32 };
    Pairs p;
    pairs_encode(b, s, &p, o);
    double *rewards = mem_alloc(2 * (size_t)p.set.n + 1, sizeof *rewards);
    float score[2 * AT_A_TIME];
    for (int begin = 0; begin < p.set.n; begin += AT_A_TIME) {
        const int end = p.set.n - begin < AT_A_TIME ? p.set.n : begin + AT_A_TIME;
        int indices[AT_A_TIME];
        for (int i = begin; i < end; i++) indices[i - begin] = i;
        pairs_batch(&b->batch, &p.set, indices, end - begin, false);
        char *fault = reward_score_model(reward, score, &b->batch);
        if (fault) die(EXIT_BAD_INPUT, "%s", fault);
        for (int i = 0; i < 2 * (end - begin); i++) rewards[2 * begin + i] = (double)score[i];
        progress_show("%s, %s: %d of %d pairs", b->scorer->name, s->name, end, p.set.n);
    }
    progress_clear();
    pairs_judge(b, s, &p, rewards, scores);
    free(rewards);
    pairs_drop(&p);
}

// sums (n, 2) <- log pi(y|x) of the completions of all pairs.
static void pairs_sums(double *sums, Benchmarks *b, GPT2 *model, const Pairs *p) {
    int indices[GOOD_PASS];
    Rows rows = {0};
    const size_t *start = p->set.start;
    for (int begin = 0, end = 0; begin < p->set.n; begin = end) {
        size_t tokens = 0;
        while (end < p->set.n && end - begin < GOOD_PASS && (end == begin || tokens < GOOD_PASS)) {
            tokens += start[3 * (size_t)end + 3] - start[3 * (size_t)end];
            indices[end - begin] = end;
            end++;
        }
        pairs_batch(&b->batch, &p->set, indices, end - begin, true);
        rows_forward(&rows, model, &b->batch);
        for (int i = begin; i < end; i++)
            for (int k = 0; k < 2; k++) sums[2 * i + k] = (double)rows.sum[3 * (i - begin) + 1 + k];
    }
    rows_free(&rows);
}

// Score pairs by the policy's implicit reward log pi(y|x) - log ref(y|x), of which a positive factor
// (DPO's beta) does not matter. ref (n, 2): the reference's log-probs.
static void pairs_implicit(Benchmarks *b, const ItemSet *s, const Pairs *p, const double *ref,
                           Scores *scores) {
    double *rewards = mem_alloc(2 * (size_t)p->set.n + 1, sizeof *rewards);
    pairs_sums(rewards, b, &b->model, p);
    for (int i = 0; i < 2 * p->set.n; i++) rewards[i] -= ref[i];
    pairs_judge(b, s, p, rewards, scores);
    free(rewards);
}

// ------------------------------------------------------------------------------------------------
// All

// By what a scorer judges the items of a benchmark.
static Judge judge_of(const Benchmarks *b, const Scorer *scorer, const ItemSet *s) {
    if (scorer->reward) return s->form == ITEM_PAIR ? BY_REWARD : BY_NOTHING;
    if (s->form == ITEM_ANSWER) return BY_SAMPLES;
    return s->form == ITEM_PAIR && b->ref_model ? BY_IMPLICIT_REWARD : BY_LIKELIHOOD;
}

// The directory whose tokenizer a scorer's texts are for.
static const char *tokenizer_dir_of(const Benchmarks *b, const char *dir) {
    const char *found = b->tokenizer ? b->tokenizer : dir;
    if (!dir_has_tokenizer(found))
        die(EXIT_BAD_INPUT, "%s: has no tokenizer, and benchmarks are texts", found);
    return found;
}

// Memory for what a scorer will make of all benchmarks.
static Scores *scores_alloc(const Benchmarks *b, const Scorer *scorer) {
    Scores *scores = mem_alloc((size_t)b->n_sets, sizeof *scores);
    for (int i = 0; i < b->n_sets; i++) {
        scores[i].judge = judge_of(b, scorer, &b->sets[i]);
        for (int m = 0; m < IS_MEASURES; m++) {
            scores[i].value[m] = mem_alloc((size_t)b->sets[i].n, sizeof(double));
            for (int k = 0; k < b->sets[i].n; k++) scores[i].value[m][k] = NAN;
        }
    }
    return scores;
}

// Load the files of "FILE,NAME=FILE,..", each as a benchmark. Without a name it is called as the file,
// without .jsonl.
static void benchmarks_load(Benchmarks *b, const char *text, const PairUse *use) {
    const DataOptions o = {.strict = b->strict, .faults = b->keep ? &b->lines : NULL};
    FileList files = {0};
    Texts names = {0};
    for (const char *s = text; s;) {
        const char *comma = strchr(s, ',');
        char *item = text_format("%.*s", (int)(comma ? (size_t)(comma - s) : strlen(s)), s);
        char *equals = path_exists(item) ? NULL : strchr(item, '=');
        if (!*item || equals == item || (equals && !equals[1]))
            die(EXIT_USAGE,
                "--benchmark %s: expected FILE or NAME=FILE, several with commas between", text);
        if (equals) *equals = 0;
        const int before = files.n;
        file_list_expand(&files, equals ? equals + 1 : item);
        if (equals && files.n > before + 1)
            die(EXIT_USAGE, "--benchmark %s: %s is one name for %d files", text, item,
                files.n - before);
        for (int i = before; i < files.n; i++) {
            const char *slash = strrchr(files.names[i], '/');
            char *base = text_copy(equals ? item : slash ? slash + 1 : files.names[i]);
            char *dot = equals ? NULL : strstr(base, ".json");
            if (dot && dot > base) *dot = 0;
            texts_add(&names, base);
            free(base);
        }
        free(item);
        s = comma ? comma + 1 : NULL;
    }
    for (int i = 0; i < names.n; i++)
        for (int k = 0; k < i; k++)
            if (!strcmp(names.text[i], names.text[k]))
                die(EXIT_USAGE, "--benchmark: two are called %s; tell them apart with NAME=FILE",
                    names.text[i]);
    b->sets = mem_alloc((size_t)files.n, sizeof *b->sets);
    for (; b->n_sets < files.n; b->n_sets++)
        items_load(&b->sets[b->n_sets], names.text[b->n_sets], files.names[b->n_sets], b->most, use,
                   &o);
    file_list_free(&files);
    texts_free(&names);
}

// Load a policy and its tokenizer; `like`, if not NULL, is the reference's, which must be the same.
static void scorer_load(Benchmarks *b, const Scorer *scorer, const Tokenizer *like,
                        const GPT2 *ref) {
    if (like) policy_load(&b->model, scorer->dir, like, ref->config.vocab_size);
    else model_load(&b->model, scorer->dir);
    const char *dir = tokenizer_dir_of(b, scorer->dir);
    tokenizer_load(&b->own, dir);
    tokenizer_check(&b->own, b->model.config.vocab_size, dir);
    const int P = b->model.config.n_positions;
    b->window = b->max_length && b->max_length < P ? b->max_length : P;
    b->scorer = scorer;
    b->t = &b->own;
}

static void scorer_free(Benchmarks *b) {
    gpt2_free(&b->model);
    tokenizer_free(&b->own);
}

// What a model of P positions may be given of prompt and completion of a pair.
static int pair_length(const Benchmarks *b, int P) {
    return b->max_length && b->max_length < P ? b->max_length : P;
}

// Load files and look at all models, so that no mistake comes to light after hours. Dies if a file
// needs a policy and there is none.
static void benchmarks_open(Benchmarks *b, const char *files) {
    PairUse use = {.rewards = b->ref_model};
    const char *judge = b->ref_model;
    for (int i = 0; i < b->n_scorers; i++) {
        Scorer *scorer = &b->scorers[i];
        if (scorer->reward) {
            use.rewards = true;
            if (!judge) judge = scorer->dir;
            Reward reward;
            reward_open_model(&reward, scorer->dir, NULL, 1);
            reward_close(&reward);
            tokenizer_dir_of(b, scorer->dir);
        } else {
            scorer_load(b, scorer, NULL, NULL);
            scorer_free(b);
            use.texts |= !b->ref_model;
        }
    }
    if (use.rewards) {
        const char *dir = tokenizer_dir_of(b, judge);
        tokenizer_load(&b->own, dir);
        use.format = chat_open(b->chat_format, &b->own, dir);
        tokenizer_free(&b->own);
    }
    benchmarks_load(b, files, &use);
    for (int i = 0; i < b->n_sets; i++) {
        bool scored = false;
        for (int k = 0; k < b->n_scorers; k++)
            scored |= judge_of(b, &b->scorers[k], &b->sets[i]) != BY_NOTHING;
        if (!scored)
            die(EXIT_USAGE, "%s: %s; a reward model scores pairs alone: --models is needed",
                b->sets[i].path, item_forms[b->sets[i].form].name);
    }
}

// Let a model of rewards score what it can.
static void scorer_reward(Benchmarks *b, int c) {
    const Scorer *scorer = b->scorer = &b->scorers[c];
    const char *dir = tokenizer_dir_of(b, scorer->dir);
    Reward reward;
    tokenizer_load(&b->own, dir);
    b->t = &b->own;
    reward_open_model(&reward, scorer->dir, &b->own, 64);
    const DataOptions o = {.max_length = pair_length(b, reward_positions(&reward)),
                           .whole = true, // the score is read at EOS
                           .chat_format = chat_open(b->chat_format, &b->own, dir)};
    for (int i = 0; i < b->n_sets; i++) {
        Scores *scores = &b->scores[c][i];
        const double began = seconds_now();
        if (scores->judge == BY_REWARD) pairs_reward(b, &b->sets[i], &reward, &o, scores);
        scores->seconds = seconds_now() - began;
    }
    reward_close(&reward);
    tokenizer_free(&b->own);
}

// The reference: its model and tokenizer, and, by benchmark of pairs, the pairs as tokens and its
// log-probs of their completions.
typedef struct {
    GPT2 model;
    Tokenizer t;
    Pairs *pairs; // (n_sets)
    double **sum; // (n_sets, pairs, 2)
} Reference;

static void reference_open(Benchmarks *b, Reference *ref) {
    const char *dir = tokenizer_dir_of(b, b->ref_model);
    model_load(&ref->model, b->ref_model);
    tokenizer_load(&ref->t, dir);
    tokenizer_check(&ref->t, ref->model.config.vocab_size, dir);
    int length = ref->model.config.n_positions;
    for (int c = 0; c < b->n_scorers; c++) { // a pair is cut for all policies alike
        if (b->scorers[c].reward) continue;
        scorer_load(b, &b->scorers[c], &ref->t, &ref->model);
        if (b->window < length) length = b->window;
        scorer_free(b);
    }
    const DataOptions o = {.max_length = pair_length(b, length),
                           .chat_format = chat_open(b->chat_format, &ref->t, dir)};
    ref->pairs = mem_alloc((size_t)b->n_sets, sizeof *ref->pairs);
    ref->sum = mem_alloc((size_t)b->n_sets, sizeof *ref->sum);
    b->t = &ref->t;
    for (int i = 0; i < b->n_sets; i++) {
        if (b->sets[i].form != ITEM_PAIR) continue;
        pairs_encode(b, &b->sets[i], &ref->pairs[i], &o);
        ref->sum[i] = mem_alloc(2 * (size_t)ref->pairs[i].set.n + 1, sizeof(double));
        pairs_sums(ref->sum[i], b, &ref->model, &ref->pairs[i]);
    }
}

static void reference_close(Benchmarks *b, Reference *ref) {
    gpt2_free(&ref->model);
    tokenizer_free(&ref->t);
    for (int i = 0; i < b->n_sets; i++) {
        free(ref->sum[i]);
        if (ref->pairs[i].item) pairs_drop(&ref->pairs[i]);
    }
    free(ref->pairs), free(ref->sum);
}

// Let a policy do all benchmarks.
static void scorer_policy(Benchmarks *b, int c, const Reference *ref) {
    scorer_load(b, &b->scorers[c], ref ? &ref->t : NULL, ref ? &ref->model : NULL);
    for (int i = 0; i < b->n_sets; i++) {
        ItemSet *s = &b->sets[i];
        Scores *scores = &b->scores[c][i];
        const double began = seconds_now();
        if (scores->judge == BY_LIKELIHOOD) items_score(b, s, scores);
        if (scores->judge == BY_SAMPLES) answers_score(b, s, scores);
        if (scores->judge == BY_IMPLICIT_REWARD)
            pairs_implicit(b, s, &ref->pairs[i], ref->sum[i], scores);
        scores->seconds = seconds_now() - began;
    }
    scorer_free(b);
}

// Let all scorers do all benchmarks: b->scores.
static void benchmarks_score(Benchmarks *b) {
    Reference ref = {0};
    if (b->ref_model) reference_open(b, &ref);
    for (int c = 0; c < b->n_scorers; c++) {
        b->scores[c] = scores_alloc(b, &b->scorers[c]);
        if (b->scorers[c].reward) scorer_reward(b, c);
        else scorer_policy(b, c, b->ref_model ? &ref : NULL);
    }
    if (b->ref_model) reference_close(b, &ref);
    for (int i = 0; i < b->n_sets; i++) { // what one scorer cannot do does not count for the others
        ItemSet *s = &b->sets[i];
        int left = 0;
        for (int k = 0; k < s->n; k++) {
            left += !s->items[k].out;
            for (int c = 0; c < b->n_scorers && s->items[k].out; c++)
                for (int m = 0; m < IS_MEASURES; m++) b->scores[c][i].value[m][k] = NAN;
        }
        if (!left)
            die(EXIT_BAD_INPUT, "%s: none of its %d items can be used: nothing to measure", s->path,
                s->n);
    }
}

static void benchmarks_free(Benchmarks *b) {
    for (int c = 0; c < b->n_scorers; c++) {
        for (int i = 0; i < b->n_sets; i++)
            for (int m = 0; m < IS_MEASURES; m++) free(b->scores[c][i].value[m]);
        free(b->scores[c]), free(b->scorers[c].name), free(b->scorers[c].dir);
    }
    for (int i = 0; i < b->n_sets; i++) items_free(&b->sets[i]);
    free(b->sets);
    sampler_free(&b->sampler), batch_free(&b->batch);
    rules_free(&b->rules), text_free(&b->lines);
}

#endif
