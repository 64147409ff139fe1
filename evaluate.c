// evaluate.c: policies side by side on the same prompts. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp evaluate.c -o evaluate -lopenblas -lcjson -lm
//
//     ./evaluate --models sft=data/sft,dpo=out/dpo/final --baseline data/sft --ref_model data/sft
//         --dataset data/prefs_eval.jsonl --gold --output eval.json --samples_file samples.jsonl
//
// Each policy completes each prompt of the data once (--num_return_sequences: more often). Measured
// of these samples:
//
//     reward, gold    mean score: by a reward model or program (reward.h), by data/gold.h
//     win rate        share of samples that score higher than the baseline's for the same prompt;
//                     the baseline is another model, or the data's answers; a tie is half a win
//     KL              how far the policy went from the reference, in nats a completion, by the sum
//                     over the vocabulary (kl.h) and, beside it, from the sampled log-ratios
//     length          tokens, without EOS
//     repeated        share of 4-grams of tokens that were there before (Welleck et al. 2020)
//     ended           share of samples that the model ended itself, by EOS
//
// and of the answers in the data (column chosen, or completion, or the last of the messages):
//
//     perplexity      e to the mean negative log-likelihood of a token (nats/token)
//     accuracy        share of pairs whose chosen answer has the higher implicit reward
//                     log pi(y|x) - log ref(y|x); a tie is half
//
// A rate with one result a prompt has the exact binomial interval; all else Student's, with prompts
// as clusters (stats.h). Two policies are compared prompt by prompt: mean difference and exact sign
// test; on wins over the baseline that test is McNemar's. All policies draw the same random numbers
// and the baseline others, so a policy against itself wins by a fair coin.
//
// --best_of N adds to each policy the one that draws N samples and keeps the one of the highest
// reward (gold score, if there is no reward). Its KL to the policy is at most log N - (N - 1)/N.
//
// With --top_k, --top_p or --temperature 0 the samples are not the policy's: KL is then that of its
// whole distributions in the states that the samples pass, and there is no sampled estimate.
//
// --output writes one JSON object. A mean is {mean, error, low, high, clusters}: standard error,
// ends of the interval, number of prompts. What was not measured is null.
//
//     format, flags            1; the flags of this run
//     prompts, samples_per_prompt, level, judge
//                              judge: the score that wins in the table, "gold" or "reward" or null
//     models[]                 in the order of the table:
//         name, model          model: directory, null for the data
//         baseline, best_of    true or false; 1 for the policy itself
//         kl_bound             log best_of - (best_of - 1)/best_of, null for 1
//         perplexity           e to the mean of nll
//         reward, gold, kl, kl_sampled, nll, accuracy, length, repeated, ended
//                              means; nll in nats a token
//         wins                 {reward, gold}: {exact, rate, low, high, wins, ties, losses, p} or
//                              null; exact: the interval is binomial
//     comparisons[]            each two models, by each score:
//         a, b, score          names, "reward" or "gold"
//         difference           a's mean less b's: {mean, error, low, high}
//         better, worse, ties  prompts on which a's mean is higher, lower, equal
//         p                    two-sided, of the sign test on them
//         wins                 the same five of wins over the baseline, or null
//
// --samples_file writes a line a sample, of --best_of all: name, prompt_number and sample (from 0),
// prompt, completion, finish ("eos", "length", "context"; "data"), tokens, reward and gold. Before
// them comes a line for each record of the data that is skipped: file, line, error.
//
// With --benchmark FILE.jsonl,.. it does something else: the models answer the questions of benchmarks
// (docs/benchmarks.md; benchmark.h measures, report/benchmarks.h explains the keys of the JSON).
// --samples_file then has a line for each model and item.
//
// Without arguments: the model in data/sft, and the best of four of its samples by the reward model
// in data/rm, against the better answers of data/prefs_eval.jsonl.
#include "lib/base/common.h"
#include "lib/base/disk.h"
#include "lib/base/flags.h"
#include "lib/base/texts.h"
#include "losses.h"
#include "lib/base/tokenizer.h"
#include "lib/data/dataset.h"
#include "lib/data/preferences.h"
#include "lib/data/prompts.h"
#include "model.h"
#include "lib/files/guard.h"
#include "lib/files/pretrained.h"
#include "lib/run/sample.h"
#include "lib/run/kl.h"
#include "lib/run/reward.h"
#include "data/gold.h"
#include "lib/report/results.h"
#include "lib/report/benchmarks.h" // defines: benchmarks_open, benchmarks_score, benchmarks_print

static const char preset[] =
    "--models data/sft --ref_model data/sft --baseline data --dataset data/prefs_eval.jsonl "
    "--reward_model data/rm --gold --best_of 4 --max_new_tokens 50";

// One sample, measured.
typedef struct {
    float score[SCORES];
    double length, repeated, ended;
    Text line, text; // for --samples_file, all but the name; for the terminal
} Sample;

// What all entries share.
typedef struct {
    const Tokenizer *tokenizer; // NULL: the data are ids
    PieceSet data;
    int *first, *prompt; // (prompts) a prompt's first row in the data; (data.n) a row's prompt
    int B, prompt_room;  // rows at a time; tokens that a prompt may have
    SampleOptions sampling;
    GPT2 *ref;         // or NULL
    Reward *reward;    // or NULL
    Gold *gold;        // or NULL
    float *ref_answer; // (data.n, 2) the reference's log-probs of chosen and rejected, or NULL
    bool keep;         // samples for --samples_file
    int shown;         // prompts whose samples are shown
    Text lines;        // of --samples_file
    // Work space: prompts, samples or answers of a pass; its log-probs and divergences by token
    // (max_N); scores, sums and counts of rows (3 B).
    Sampler sampler;
    Batch batch, rows;
    int max_N;
    float *logp, *ref_logp, *kl, *score[SCORES], *row_sum;
    int *row_count;
    Finish *finish;
    Results results;
} Evaluation;

// ------------------------------------------------------------------------------------------------
// Data

// True if a record has an answer, or a column for one that is null here and may be there in another.
static bool answer_column(const cJSON *record) {
    static const char *const keys[] = {"chosen", "rejected", "completion", "messages"};
    for (int i = 0; i < COUNT(keys); i++)
        if (json_get(record, keys[i])) return true;
    return false;
}

// Load a file for its prompts and, where it has them, answers: 3 pieces an example if its first
// record has a pair, 2 if it has a completion, else the prompt alone. So too if the completion has
// a label: some are no answers to look up to. A record whose answers are null does not decide.
static void data_load(PieceSet *d, const Tokenizer *t, const char *path, const DataOptions *o) {
    LineReader reader;
    bool pair = false, completion = false, more = true;
    lines_open(&reader, path);
    while (more && !pair && !completion) {
        cJSON *record = record_next(&reader);
        const bool label = record_get(record, "label");
        pair = record_get(record, "chosen") || record_get(record, "rejected");
        completion = (record_get(record, "completion") && !label) || record_get(record, "messages");
        more = answer_column(record) && !label;
        cJSON_Delete(record);
    }
    lines_close(&reader);
    if ((pair || completion) && !t)
        die(EXIT_BAD_INPUT, "%s: has answers as text, and the model's directory has no tokenizer",
            path);
    if (pair) pairs_load(d, t, path, o);
    else if (completion) completions_load(d, t, path, o);
    else prompts_load(d, t, path, o);
}

// A prompt's tokens, and the row of the data that it stands in.
typedef struct {
    const int *tokens;
    int n, row;
} PromptKey;

static int prompt_compare(const void *x, const void *y) {
    const PromptKey *a = x, *b = y;
    const int order = a->n != b->n ? (a->n > b->n) - (a->n < b->n)
                                   : memcmp(a->tokens, b->tokens, (size_t)a->n * sizeof(int));
    return order ? order : a->row - b->row;
}

// Find the different prompts of the data and number them in their order there.
static void prompts_number(Evaluation *e) {
    const PieceSet *d = &e->data;
    PromptKey *keys = mem_alloc((size_t)d->n, sizeof *keys);
    e->first = mem_alloc((size_t)d->n, sizeof(int));
    e->prompt = mem_alloc((size_t)d->n, sizeof(int));
    for (int i = 0; i < d->n; i++) {
        const size_t *start = d->start + (size_t)d->pieces * i;
        keys[i] = (PromptKey){d->tokens + start[0], (int)(start[1] - start[0]), i};
    }
    qsort(keys, (size_t)d->n, sizeof *keys, prompt_compare);
    for (int i = 0, head = 0; i < d->n; i++) { // head: the first of those that are equal
        if (keys[i].n != keys[head].n ||
            memcmp(keys[i].tokens, keys[head].tokens, (size_t)keys[i].n * sizeof(int)))
            head = i;
        e->prompt[keys[i].row] = keys[head].row; // for now: its first row
    }
    for (int i = 0; i < d->n; i++) {
        if (e->prompt[i] == i)
            e->first[e->results.prompts] = i, e->prompt[i] = e->results.prompts++;
        else e->prompt[i] = e->prompt[e->prompt[i]];
    }
    free(keys);
}

// Fill e->batch with prompts [begin, end) as they are to be completed, their beginnings cut off
// where they leave too little room.
static void prompts_batch(Evaluation *e, int begin, int end) {
    batch_clear(&e->batch);
    for (int p = begin; p < end; p++) {
        const size_t *start = e->data.start + (size_t)e->data.pieces * e->first[p];
        const int n = (int)(start[1] - start[0]), keep = n < e->prompt_room ? n : e->prompt_room;
        batch_add_row(&e->batch, e->data.tokens + start[1] - keep, NULL, keep);
    }
}

// Room for the tokens of a pass.
static void work_reserve(Evaluation *e, int N) {
    if (N <= e->max_N) return;
    free(e->logp), free(e->ref_logp), free(e->kl);
    e->max_N = N;
    e->logp = mem_floats((size_t)N), e->ref_logp = mem_floats((size_t)N);
    e->kl = mem_floats((size_t)N);
}

// ------------------------------------------------------------------------------------------------
// Samples

// Share of the 4-grams of tokens (n) that were there before.
static double repeated_share(const int *tokens, int n) {
    const int grams = n - 3;
    int repeats = 0;
    for (int i = 1; i < grams; i++)
        for (int k = 0; k < i; k++)
            if (!memcmp(tokens + i, tokens + k, 4 * sizeof *tokens)) {
                repeats++;
                break;
            }
    return grams > 0 ? (double)repeats / grams : 0;
}

// e->score <- scores of the rows in e->rows by all judges.
static void rows_score(Evaluation *e) {
    const Batch *b = &e->rows;
    char *fault = e->reward ? reward_score(e->reward, e->score[REWARD], b, e->tokenizer) : NULL;
    if (fault) die(EXIT_BAD_INPUT, "%s", fault);
    for (int r = 0; r < b->R && e->gold; r++) {
        Text text = {0};
        const int at = b->row_start[r], n = b->row_start[r + 1] - at;
        text_add_bytes(&text, e->tokenizer, b->tokens + at, (size_t)n);
        e->score[GOLD][r] = (float)gold_parts(e->gold, text.data, text.size).score;
        text_free(&text);
    }
}

// Measure row r of e->rows; `finish` says how it ended. `shown`: it may come to the terminal. What
// the sample held before is replaced.
static void sample_measure(Evaluation *e, Sample *s, int r, const char *finish, bool shown) {
    const Batch *b = &e->rows;
    int begin = b->row_start[r], end = b->row_start[r + 1], prompt = begin;
    while (begin < end && !b->mask[begin]) begin++;
    const int eos = e->sampling.eos_id, all = end - begin;
    s->ended = end > begin && b->tokens[end - 1] == eos;
    end -= s->ended > 0;
    s->length = end - begin;
    s->repeated = repeated_share(b->tokens + begin, end - begin);
    for (int k = 0; k < SCORES; k++) s->score[k] = e->score[k][r];
    Text *t = &s->line;
    t->size = s->text.size = 0;
    if (shown)
        text_add_row(&s->text, e->tokenizer, b->tokens + prompt, begin - prompt, end - prompt);
    if (!e->keep) return;
    text_print(t, e->tokenizer ? "\"prompt\": " : "\"prompt_ids\": ");
    if (e->tokenizer) text_add_json(t, e->tokenizer, b->tokens + prompt, (size_t)(begin - prompt));
    else reward_print_ids(t, b->tokens + prompt, begin - prompt);
    text_print(t, e->tokenizer ? ", \"completion\": " : ", \"completion_ids\": ");
    if (e->tokenizer) text_add_json(t, e->tokenizer, b->tokens + begin, (size_t)all);
    else reward_print_ids(t, b->tokens + begin, all);
    text_print(t, ", \"finish\": \"%s\", \"tokens\": %d", finish, end - begin);
    if (e->reward) text_print(t, ", \"reward\": %.9g", (double)s->score[REWARD]);
    if (e->gold) text_print(t, ", \"gold\": %.9g", (double)s->score[GOLD]);
}

// Keep the text of sample i (from 0) of a prompt, for --samples_file.
static void sample_keep(Evaluation *e, const Entry *entry, const Sample *s, int prompt, int i) {
    if (!e->keep) return;
    text_print(&e->lines, "{\"name\": ");
    text_json(&e->lines, entry->name, strlen(entry->name));
    text_print(&e->lines, ", \"prompt_number\": %d, \"sample\": %d, %s}\n", prompt, i,
               s->line.data);
}

// Add sample number i (from 0) of a prompt to an entry.
static void sample_add(const Evaluation *e, Entry *entry, const Sample *s, int prompt, int i) {
    for (int k = 0; k < SCORES; k++)
        entry->score[k][(size_t)prompt * (size_t)e->results.per_prompt + (size_t)i] = s->score[k];
    if (s->text.size && i == 0) text_print(&entry->shown, "  %s\n", s->text.data);
    if (e->reward) entry_add(entry, REWARD, prompt, (double)s->score[REWARD], 1);
    if (e->gold) entry_add(entry, GOLD, prompt, (double)s->score[GOLD], 1);
    entry_add(entry, LENGTH, prompt, s->length, 1);
    entry_add(entry, REPEATED, prompt, s->repeated, 1);
    entry_add(entry, ENDED, prompt, s->ended, 1);
}

// The divergence from the reference of the samples in e->rows, completions of prompts from `begin`
// on: both ways to measure it.
static void rows_kl(Evaluation *e, Entry *entry, GPT2 *model, int begin) {
    const Batch *b = &e->rows;
    const bool drawn = e->sampling.temperature > 0 && e->sampling.top_p == 1 && !e->sampling.top_k;
    model->temperature = e->sampling.temperature > 0 ? (float)e->sampling.temperature : 1;
    e->ref->temperature = model->temperature;
    work_reserve(e, b->N);
    gpt2_forward(model, b);
    gpt2_forward(e->ref, b);
    kl_forward(e->kl, e->logp, e->ref_logp, model, e->ref);
    model->temperature = e->ref->temperature = 1;
    for (int r = 0; r < b->R; r++) {
        double kl = 0, ratio = 0;
        for (int t = b->row_start[r]; t < b->row_start[r + 1]; t++)
            kl += (double)e->kl[t], ratio += (double)e->logp[t] - (double)e->ref_logp[t];
        entry_add(entry, KL, begin + r, kl, 1);
        if (drawn) entry_add(entry, KL_SAMPLED, begin + r, ratio, 1);
    }
}

// Let the model complete all prompts, per_prompt groups of best_of samples each. The first sample
// of each group is the policy's own; `best`, if not NULL, gets the best of the group.
static void entry_sample(Evaluation *e, Entry *entry, Entry *best, GPT2 *model) {
    const int N = best ? best->best_of : 1, judge = e->reward ? REWARD : GOLD;
    const bool baseline = e->results.baseline && entry == e->results.entries;
    const uint64_t stream = baseline ? (uint64_t)1 << 40 : 0; // its own random numbers
    Sample *kept = mem_alloc((size_t)e->B, sizeof *kept), sample = {0};
    for (int begin = 0; begin < e->results.sampled; begin += e->B) {
        const int end = e->results.sampled - begin < e->B ? e->results.sampled : begin + e->B;
        prompts_batch(e, begin, end);
        for (int s = 0; s < e->results.per_prompt * N; s++) {
            const int group = s / N, candidate = s % N;
            sample_batch(&e->sampler, model, &e->sampling, &e->batch,
                         stream + ((uint64_t)s << 24) + (uint64_t)begin, &e->rows, e->finish);
            rows_score(e);
            for (int r = 0; r < e->rows.R; r++) {
                sample_measure(e, &sample, r, finish_name(e->finish[r]), begin + r < e->shown);
                sample_keep(e, entry, &sample, begin + r, s);
                if (candidate == 0) sample_add(e, entry, &sample, begin + r, group);
                if (!best) continue;
                if (candidate == 0 || sample.score[judge] > kept[r].score[judge]) {
                    const Sample other = kept[r];
                    kept[r] = sample, sample = other;
                }
                if (candidate < N - 1) continue;
                sample_add(e, best, &kept[r], begin + r, group);
                sample_keep(e, best, &kept[r], begin + r, group);
            }
            if (candidate == 0 && e->ref) rows_kl(e, entry, model, begin);
            progress_show("%s: %d of %d prompts", entry->name, begin, e->results.sampled);
        }
    }
    progress_clear();
    for (int r = 0; r < e->B; r++) text_free(&kept[r].line), text_free(&kept[r].text);
    text_free(&sample.line), text_free(&sample.text);
    free(kept);
}

// The data's answers as an entry: one for each prompt, which counts for all samples.
static void entry_answer(Evaluation *e, Entry *entry) {
    Sample sample = {0};
    for (int begin = 0; begin < e->results.sampled; begin += e->B) {
        const int end = e->results.sampled - begin < e->B ? e->results.sampled : begin + e->B;
        batch_clear(&e->rows);
        for (int p = begin; p < end; p++) {
            const size_t piece = (size_t)e->data.pieces * (size_t)e->first[p];
            batch_add_joined(&e->rows, &e->data, piece, piece + 1);
        }
        rows_score(e);
        for (int r = 0; r < e->rows.R; r++) {
            sample_measure(e, &sample, r, "data", begin + r < e->shown);
            sample_keep(e, entry, &sample, begin + r, 0);
            sample_add(e, entry, &sample, begin + r, 0);
            for (int k = 0; k < SCORES; k++)
                for (int i = 1; i < e->results.per_prompt; i++)
                    entry->score[k][(size_t)(begin + r) * (size_t)e->results.per_prompt +
                                    (size_t)i] = sample.score[k];
        }
    }
    text_free(&sample.line), text_free(&sample.text);
}

// ------------------------------------------------------------------------------------------------
// Answers in the data

// e->row_sum, e->row_count <- log-prob and tokens of rows begin to end of the data, `pieces` values
// each: 0 for the prompt, then its answers, which share its pass.
static void answers_forward(Evaluation *e, GPT2 *model, int begin, int end) {
    const PieceSet *d = &e->data;
    Batch *b = &e->rows;
    batch_clear(b);
    for (int i = begin; i < end; i++)
        for (int p = 0, parent = b->R; p < d->pieces; p++)
            batch_add_piece(b, d, (size_t)d->pieces * (size_t)i + (size_t)p, p ? parent : -1);
    work_reserve(e, b->N);
    gpt2_forward(model, b);
    lm_head_forward(model, e->logp);
    row_sum_forward(e->row_sum, e->row_count, e->logp, b->mask, b->row_start, b->R);
}

// The reference's log-probs of all pairs, once for all policies.
static void answers_reference(Evaluation *e) {
    e->ref_answer = mem_floats(2 * (size_t)e->data.n);
    for (int begin = 0; begin < e->data.n; begin += e->B) {
        const int end = e->data.n - begin < e->B ? e->data.n : begin + e->B;
        answers_forward(e, e->ref, begin, end);
        for (int i = begin; i < end; i++)
            memcpy(e->ref_answer + 2 * (size_t)i, e->row_sum + 3 * (i - begin) + 1,
                   2 * sizeof(float));
    }
}

// How well the policy foresees the answers, and which of two it gained more on.
static void entry_answers(Evaluation *e, Entry *entry, GPT2 *model) {
    const int pieces = e->data.pieces;
    for (int begin = 0; begin < e->data.n && pieces > 1; begin += e->B) {
        const int end = e->data.n - begin < e->B ? e->data.n : begin + e->B;
        answers_forward(e, model, begin, end);
        for (int i = begin; i < end; i++) {
            const float *sum = e->row_sum + pieces * (i - begin);
            const int count = e->row_count[pieces * (i - begin) + 1], p = e->prompt[i];
            entry_add(entry, NLL, p, -(double)sum[1], count);
            if (!e->ref_answer) continue;
            const double chosen = (double)sum[1] - (double)e->ref_answer[2 * (size_t)i];
            const double rejected = (double)sum[2] - (double)e->ref_answer[2 * (size_t)i + 1];
            entry_add(entry, ACCURACY, p, chosen > rejected ? 1 : chosen == rejected ? 0.5 : 0, 1);
        }
        progress_show("%s: %d of %d answers", entry->name, end, e->data.n);
    }
    progress_clear();
}

// ------------------------------------------------------------------------------------------------
// Files and policies

// Die unless a file of this name can be written at the end.
static void file_check(const char *flag, const char *path, bool overwrite) {
    if (path_is_dir(path))
        die(EXIT_USAGE, "--%s %s: is a directory, expected the name of a file", flag, path);
    if (!access(path, F_OK) && !overwrite)
        die(EXIT_USAGE, "--%s %s: already there; see --overwrite_output", flag, path);
    const char *slash = strrchr(path, '/');
    char *dir = !slash ? text_copy(".") : text_format("%.*s/", (int)(slash - path), path);
    if (access(dir, W_OK))
        die(EXIT_IO, "--%s %s: cannot write there: %s", flag, path, strerror(errno));
    free(dir);
}

// Append the policies of "NAME=DIR,DIR,.." to the results, each followed by its best of best_of
// samples, if that is above 1.
static void entries_add(Results *r, const char *flag, const char *list, int best_of) {
    while (list) {
        Entry entry = {.best_of = 1};
        named_dir_next(&entry.name, &entry.dir, &list, flag);
        if (r->n + 2 > MAX_ENTRIES) die(EXIT_USAGE, "--%s: too many policies", flag);
        r->entries[r->n++] = entry;
        if (best_of > 1)
            r->entries[r->n++] = (Entry){.name = text_format("%s, best of %d", entry.name, best_of),
                                         .dir = text_copy(entry.dir),
                                         .best_of = best_of};
    }
}

// The last lines: what it took, and where the results are.
static void ending_print(double began, const char *output, const char *samples_file) {
    char spent[32];
    printf("\n%s, peak memory %.0f MB\n", time_format(spent, seconds_now() - began),
           memory_peak_mb());
    if (output) printf("results: %s\n", output);
    if (samples_file) printf("samples: %s\n", samples_file);
}

// ------------------------------------------------------------------------------------------------
// Benchmarks

// Add the models of "NAME=DIR,DIR,.." (or NULL), policies or models of rewards.
static void scorers_add(Benchmarks *b, const char *flag, const char *text, bool reward) {
    Results *names = mem_alloc(1, sizeof *names);
    if (text) entries_add(names, flag, text, 1);
    for (int i = 0; i < names->n; i++) {
        const Entry *entry = &names->entries[i];
        for (int k = 0; k < b->n_scorers; k++)
            if (!strcmp(b->scorers[k].name, entry->name))
                die(EXIT_USAGE, "--%s: two are called %s; tell them apart with NAME=DIR", flag,
                    entry->name);
        if (b->n_scorers == MAX_SCORERS) die(EXIT_USAGE, "--%s: more than %d", flag, MAX_SCORERS);
        b->scorers[b->n_scorers++] = (Scorer){entry->name, entry->dir, reward};
    }
    free(names);
}

// Take the K of pass@K from "1,10" (or NULL).
static void pass_k_parse(Benchmarks *b, const char *text) {
    for (const char *s = text; s;) {
        char *end;
        const long k = strtol(s, &end, 10);
        if (end == s || (*end && *end != ',') || k < 1 || b->n_pass_k == MAX_PASS_K)
            die(EXIT_USAGE, "--pass_k %s: expected up to %d whole numbers, with commas between",
                text, MAX_PASS_K);
        if (k > b->n_samples)
            die(EXIT_USAGE, "--pass_k %ld: --num_return_sequences must be as many, is %d", k,
                b->n_samples);
        b->pass_k[b->n_pass_k++] = (int)k;
        s = *end ? end + 1 : NULL;
    }
    if (b->n_samples > 1 && b->sampling.temperature == 0)
        die(EXIT_USAGE, "--temperature 0: all %d samples of an item would be the same",
            b->n_samples);
}

int main(int argc, char **argv) {
    // ---- flags ---------------------------------------------------------------------------------
    // Those of sampling as in generate, but for top_k: a policy is what it is without cuts.
    struct {
        const char *models, *baseline, *ref_model, *tokenizer;
        const char *reward_model, *reward_command, *reward_ensemble;
        const char *dataset, *chat_format, *output, *samples_file;
        const char *benchmark, *target_delimiter, *answer_pattern, *answer_ignore, *stop, *pass_k;
        double reward_timeout, temperature, top_p, level;
        int best_of, num_return_sequences, top_k, max_new_tokens, max_length, batch_size;
        int eval_prompts, samples, max_items;
        int64_t seed;
        bool strict_data, gold, bf16, overwrite_output, reward_eos;
    } args = {
        .chat_format = "auto",
        .reward_timeout = 60,
        .reward_ensemble = "mean",
        .temperature = 1,
        .top_p = 1,
        .level = 0.9,
        .best_of = 1,
        .num_return_sequences = 1,
        .max_new_tokens = 100,
        .max_length = 1024,
        .batch_size = 64,
        .samples = 4,
        .seed = 42,
    };
    Flag flags[] = {
        FLAG_HEADING("policies"),
        FLAG_TEXT(args, models,
                  "directories in Hugging Face format: DIR,DIR,.. or NAME=DIR,NAME=DIR,.."),
        FLAG_TEXT(args, baseline, "what they win against: DIR, NAME=DIR, or data (its answers)"),
        FLAG_TEXT(args, ref_model, "the reference, for KL and accuracy"),
        FLAG_TEXT(args, tokenizer,
                  "directory with vocab.json and merges.txt, if not the first model's"),
        FLAG(args, best_of, 1, 1 << 16, "show each policy's best of so many samples too"),
        FLAG_HEADING("scores"),
        FLAG_TEXT(args, reward_model, "directory of a reward model, or of several: A,B,C"),
        FLAG_CHOICE(args, reward_ensemble, ENSEMBLE_CHOICES, ENSEMBLE_HELP),
        FLAG_SWITCH(args, reward_eos, "it scores a cut completion as if EOS came after it"),
        FLAG_TEXT(args, reward_command,
                  "program that reads JSONL rows and answers a number a line"),
        FLAG(args, reward_timeout, 1e-3, 1e6, "seconds that it may be silent"),
        FLAG_SWITCH(args, gold, "the gold score of film reviews (data/gold.h)"),
        FLAG_HEADING("data"),
        FLAG_TEXT(args, dataset,
                  "JSONL with prompt, prompt + completion, or prompt + chosen + rejected; text or "
                  "messages"),
        FLAG(args, eval_prompts, 0, 1e9, "complete no more different prompts than this (0: all)"),
        FLAG_SWITCH(args, strict_data, "a record that would be skipped is an error"),
        FLAG_CHOICE(args, chat_format, CHAT_CHOICES, CHAT_HELP),
        FLAG(args, max_length, 2, 1 << 20, "tokens of prompt and answer"),
        FLAG_HEADING("benchmarks, instead of --dataset"),
        FLAG_TEXT(args, benchmark,
                  "JSONL of questions with right answers: FILE,NAME=FILE,.. (docs/benchmarks.md)"),
        FLAG(args, max_items, 0, 1e9, "take so many items of a file, evenly spread (0: all)"),
        FLAG_TEXT(args, target_delimiter,
                  "text between prompt and continuation (none: as they are)"),
        FLAG_TEXT(args, answer_pattern,
                  "regular expression: the answer in what was written, by its last match and first "
                  "group (none: all of it)"),
        FLAG_TEXT(args, answer_ignore, "regular expression: what does not count in answers"),
        FLAG_TEXT(args, stop,
                  "what ends an answer: A|B, \\n is a newline (none: \\n, with a pattern "
                  "\\n\\n)"),
        FLAG_TEXT(args, pass_k,
                  "K,..: chance that one of K of the --num_return_sequences is right"),
        FLAG_HEADING("sampling"),
        FLAG(args, num_return_sequences, 1, 1 << 16, "samples of each prompt"),
        FLAG(args, max_new_tokens, 1, 1 << 20, "tokens of a sample at most"),
        FLAG(args, temperature, 0, 100,
             "divides the logits, for KL too (0: always the most probable token)"),
        FLAG(args, top_k, 0, 1 << 30, "draw from so many most probable tokens (0: all)"),
        FLAG(args, top_p, 0, 1, "draw from the fewest that have this share (1: all)"),
        FLAG(args, seed, 0, 9e15, "of the random numbers"),
        FLAG(args, batch_size, 1, 1 << 14, "prompts or rows of data at a time"),
        FLAG_SWITCH(args, bf16, "products in bfloat16, of sampling and of measuring"),
        FLAG_HEADING("output"),
        FLAG(args, level, 0.5, 0.9999, "of the intervals"),
        FLAG_TEXT(args, output, "file for all results as JSON"),
        FLAG_TEXT(args, samples_file, "file for all samples as JSONL"),
        FLAG_SWITCH(args, overwrite_output, "replace those files if they are there"),
        FLAG(args, samples, 0, 100, "prompts whose samples are shown"),
    };
    const char *config_file = flags_parse(argc, argv, flags, COUNT(flags),
                                          "policies side by side on the same prompts", preset);
    const bool scored = args.reward_model || args.reward_command || args.gold;
    const int B = args.batch_size;
    if (!args.models && !(args.benchmark && args.reward_model))
        die(EXIT_USAGE, "--models is needed; see --help");
    if (!args.benchmark && !args.dataset)
        die(EXIT_USAGE, "--dataset or --benchmark is needed; see --help");
    const struct {
        bool set;
        const char *name;
    } idle[] = {{args.dataset, "dataset"},
                {args.baseline, "baseline"},
                {args.best_of > 1, "best_of"},
                {args.reward_command, "reward_command"},
                {args.gold, "gold"},
                {args.eval_prompts > 0, "eval_prompts"},
                {args.reward_eos, "reward_eos"}};
    for (int i = 0; i < COUNT(idle) && args.benchmark; i++)
        if (idle[i].set) die(EXIT_USAGE, "--%s has no meaning with --benchmark", idle[i].name);
    if (args.reward_model && args.reward_command)
        die(EXIT_USAGE, "give either --reward_model or --reward_command");
    if (!args.reward_model && strcmp(args.reward_ensemble, "mean"))
        die(EXIT_USAGE, "--reward_ensemble is not used without --reward_model");
    if (!args.reward_model && args.reward_eos)
        die(EXIT_USAGE, "--reward_eos is not used without --reward_model");
    if ((args.baseline || args.best_of > 1) && !scored)
        die(EXIT_USAGE, "--%s needs a score: --reward_model, --reward_command or --gold",
            args.baseline ? "baseline" : "best_of");
    if (args.output && args.samples_file && !strcmp(args.output, args.samples_file))
        die(EXIT_USAGE, "--output and --samples_file name the same file: %s", args.output);
    if (args.output) file_check("output", args.output, args.overwrite_output);
    if (args.samples_file) file_check("samples_file", args.samples_file, args.overwrite_output);
    guard_output(args.output, config_file, flags, COUNT(flags), "output|samples_file");
    guard_output(args.samples_file, config_file, flags, COUNT(flags), "output|samples_file");

    if (args.benchmark) {
        if (args.num_return_sequences == 1 && !flag_given(flags, COUNT(flags), "temperature"))
            args.temperature = 0; // one answer is written greedily, as in lm-evaluation-harness
        Benchmarks b = {
            .tokenizer = args.tokenizer,
            .ref_model = args.ref_model,
            .chat_format = args.chat_format,
            .delimiter = args.target_delimiter ? args.target_delimiter : "",
            .rules = rules_open(args.answer_pattern, args.answer_ignore, args.stop),
            .sampling = {.temperature = args.temperature,
                         .top_k = args.top_k,
                         .top_p = args.top_p,
                         .seed = (uint64_t)args.seed,
                         .max_new_tokens = args.max_new_tokens},
            .n_samples = args.num_return_sequences,
            .most = args.max_items,
            .max_length = flag_given(flags, COUNT(flags), "max_length") ? args.max_length : 0,
            .batch_size = flag_given(flags, COUNT(flags), "batch_size") ? B : 0,
            .strict = args.strict_data,
            .keep = args.samples_file,
            .level = args.level,
        };
        pass_k_parse(&b, args.pass_k);
        scorers_add(&b, "models", args.models, false);
        scorers_add(&b, "reward_model", args.reward_model, true);
        products_begin(args.bf16);
        const double began = seconds_now();
        benchmarks_open(&b, args.benchmark);
        benchmarks_score(&b);
        benchmarks_print(&b);
        if (args.samples_file) disk_file_save(args.samples_file, b.lines.data, b.lines.size);
        if (args.output) {
            Text json = {0}, run = {0};
            flags_json(&run, flags, COUNT(flags), false);
            json_benchmarks(&json, &b, &run);
            disk_file_save(args.output, json.data, json.size);
            text_free(&json), text_free(&run);
        }
        ending_print(began, args.output, args.samples_file);
        benchmarks_free(&b), flags_free(flags, COUNT(flags));
        return stdout_end();
    }

    Evaluation e = {.keep = args.samples_file != NULL,
                    .results = {.judge = args.gold ? GOLD
                                         : scored  ? REWARD
                                                   : -1,
                                .baseline = args.baseline != NULL,
                                .per_prompt = args.num_return_sequences,
                                .level = args.level}};
    Results *results = &e.results;
    Entry *entries = results->entries;
    const bool from_data = args.baseline && !strcmp(args.baseline, "data");
    if (from_data) entries[results->n++] = (Entry){.name = text_copy("data"), .best_of = 1};
    else if (args.baseline) entries_add(results, "baseline", args.baseline, 1);
    if (results->n > 1) die(EXIT_USAGE, "--baseline %s: expected one policy", args.baseline);
    if (args.baseline) {
        char *name = text_format("%s (baseline)", entries[0].name);
        free(entries[0].name), entries[0].name = name;
    }
    entries_add(results, "models", args.models, args.best_of);
    for (int i = 0; i < results->n; i++)
        for (int k = 0; k < i; k++)
            if (!strcmp(entries[i].name, entries[k].name))
                die(EXIT_USAGE, "--models: two are called %s; tell them apart with NAME=DIR",
                    entries[i].name);

    // ---- models: all are loaded once now, so that no mistake comes to light after hours --------
    products_begin(args.bf16);
    const double began = seconds_now();
    const char *first = entries[results->baseline ? 1 : 0].dir;
    const char *tokenizer_dir = args.tokenizer ? args.tokenizer : first;
    GPT2 model, ref;
    model_load(&model, first);
    const GPT2Config config = model.config;
    gpt2_free(&model);
    Tokenizer tokenizer = {0};
    e.sampling = (SampleOptions){.temperature = args.temperature,
                                 .top_k = args.top_k,
                                 .top_p = args.top_p,
                                 .seed = (uint64_t)args.seed,
                                 .max_new_tokens = args.max_new_tokens,
                                 .eos_id = config.eos_token_id};
    e.B = B;
    e.tokenizer = args.tokenizer || dir_has_tokenizer(first) ? &tokenizer : NULL;
    if (e.tokenizer) {
        tokenizer_load(&tokenizer, tokenizer_dir);
        tokenizer_check(&tokenizer, config.vocab_size, tokenizer_dir);
        e.sampling.eos_id = tokenizer.eos_id, e.sampling.vocab_size = tokenizer.vocab_size;
        e.shown = args.samples;
    } else if (args.gold) die(EXIT_BAD_INPUT, "%s: has no tokenizer, and --gold needs text", first);
    int positions = config.n_positions;
    for (int i = 0; i < results->n; i++) {
        if (!entries[i].dir || entries[i].best_of > 1) continue;
        policy_load(&model, entries[i].dir, e.tokenizer, config.vocab_size);
        if (model.config.n_positions < positions) positions = model.config.n_positions;
        gpt2_free(&model);
    }
    if (args.ref_model) {
        policy_load(&ref, args.ref_model, e.tokenizer, config.vocab_size);
        if (ref.config.n_positions < positions) positions = ref.config.n_positions;
        e.ref = &ref;
    }
    Reward reward;
    if (args.reward_model) {
        reward_open_model(e.reward = &reward, args.reward_model, e.tokenizer, B);
        reward.append_eos = args.reward_eos;
        reward.ensemble = (Ensemble)choice_index(args.reward_ensemble, ENSEMBLE_CHOICES);
    }
    if (args.gold) gold_create(e.gold = mem_alloc(1, sizeof *e.gold));

    // ---- data ----------------------------------------------------------------------------------
    const DataOptions options = {
        .max_length = args.max_length < positions ? args.max_length : positions,
        .chat_format = chat_open(args.chat_format, e.tokenizer, tokenizer_dir),
        .vocab_size = config.vocab_size,
        .strict = args.strict_data,
        .faults = e.keep ? &e.lines : NULL,
    };
    const char *answers[] = {"no answers", "an answer each", "a chosen and a rejected answer each"};
    data_load(&e.data, e.tokenizer, args.dataset, &options);
    if (from_data && e.data.pieces == 1)
        die(EXIT_BAD_INPUT, "%s: has no answers to be the baseline", args.dataset);
    prompts_number(&e);
    const int prompts = results->prompts;
    results->sampled =
        args.eval_prompts && args.eval_prompts < prompts ? args.eval_prompts : prompts;
    Text report = {0};
    text_print(&report, "%s: %d rows, %s; %d different prompts", args.dataset, e.data.n,
               answers[e.data.pieces - 1], prompts);
    counts_report(&report, &e.data.counts);
    printf("%s\n", report.data);
    text_free(&report);

    // Room for prompt and sample in the context of every model, as in generate.
    const int new = args.max_new_tokens, half = positions / 2;
    e.prompt_room = new < half ? positions - new : positions - half;
    int longest = 0, cut = 0;
    for (int p = 0; p < results->sampled; p++) {
        const size_t *start = e.data.start + (size_t)e.data.pieces * (size_t)e.first[p];
        const int length = (int)(start[1] - start[0]);
        cut += length > e.prompt_room;
        if (length > longest) longest = length;
    }
    if (longest > e.prompt_room) longest = e.prompt_room;
    if (cut) warn("%d prompts are too long and lose their beginning", cut);
    if (new > positions - longest) {
        e.sampling.max_new_tokens = positions - longest;
        warn("samples have at most %d tokens, since a context has %d", positions - longest,
             positions);
    }

    // ---- measure -------------------------------------------------------------------------------
    for (int k = 0; k < SCORES; k++) e.score[k] = mem_floats((size_t)B);
    e.row_sum = mem_floats(3 * (size_t)B), e.row_count = mem_alloc(3 * (size_t)B, sizeof(int));
    e.finish = mem_alloc((size_t)B, sizeof *e.finish);
    if (args.reward_command)
        reward_open_command(e.reward = &reward, args.reward_command, args.reward_timeout);
    if (e.ref && e.data.pieces == 3) answers_reference(&e);
    results_alloc(results);
    for (int i = 0; i < results->n; i++) {
        Entry *entry = &entries[i], *best = i + 1 < results->n ? entry + 1 : NULL;
        if (best && best->best_of == 1) best = NULL;
        if (entry->best_of > 1) continue;
        if (!entry->dir) {
            entry_answer(&e, entry);
            continue;
        }
        policy_load(&model, entry->dir, e.tokenizer, config.vocab_size);
        entry_sample(&e, entry, best, &model);
        entry_answers(&e, entry, &model);
        gpt2_free(&model);
    }

    // ---- report --------------------------------------------------------------------------------
    results_finish(results);
    for (int i = 0; i < results->n && e.shown; i++)
        printf("\n%s (prompt | completion):\n%s", entries[i].name, entries[i].shown.data);
    table_print(results);
    comparisons_print(results);
    if (args.samples_file) disk_file_save(args.samples_file, e.lines.data, e.lines.size);
    if (args.output) {
        Text json = {0}, run = {0};
        flags_json(&run, flags, COUNT(flags), false);
        json_results(&json, results, &run);
        disk_file_save(args.output, json.data, json.size);
        text_free(&json), text_free(&run);
    }
    ending_print(began, args.output, args.samples_file);

    results_free(results);
    if (e.reward) reward_close(e.reward);
    if (e.gold) gold_free(e.gold);
    if (e.ref) gpt2_free(e.ref);
    if (e.tokenizer) tokenizer_free(&tokenizer);
    sampler_free(&e.sampler), batch_free(&e.batch), batch_free(&e.rows);
    for (int k = 0; k < SCORES; k++) free(e.score[k]);
    free(e.logp), free(e.ref_logp), free(e.kl), free(e.row_sum), free(e.row_count);
    free(e.finish), free(e.first), free(e.prompt), free(e.ref_answer), free(e.gold);
    pieces_free(&e.data), text_free(&e.lines), flags_free(flags, COUNT(flags));
    return stdout_end();
}
