// tasks.h: what is to be judged. From top to bottom:
//
//   types     a model, a prompt with its completions, an answer of a talk; all of it: Label
//   models    those that sample, and those that score
//   prompts   from a file, each once; with completions where the file has them
//   earlier   what the log of earlier runs knows of them
#ifndef TASKS_H
#define TASKS_H

#include "../../model.h"         // defines: GPT2
#include "../data/prompts.h"     // defines: draft_prompt
#include "../files/pretrained.h" // defines: Stops
#include "../run/reward.h"       // defines: Reward
#include "../run/sample.h"       // defines: Sampler
#include "feedback.h"
#include "web.h"
#include <pthread.h>

enum { MAX_JUDGES = 8, MAX_ANSWERS = 64 };

// ------------------------------------------------------------------------------------------------
// Types

typedef struct {
    char *name;
    GPT2 gpt2;
    Tokenizer tokenizer;
    ChatFormat format;
    Stops stops;
} Model;

// A prompt with its completions.
typedef struct {
    char *prompt; // JSON: a string or messages
    Text text;    // as chat_encode takes it
    bool chat;
    Text completions[MAX_SHOWN];
    const char *models[MAX_SHOWN];   // NULL: not known
    const char *finish[MAX_SHOWN];   // why each ended; NULL: not known
    int n;                           // completions; 0: not sampled yet
    bool ready, scored;              // all are complete; score, ratio and kl are known
    int64_t seed;                    // -1: not sampled here
    uint64_t done[MODES][MAX_SHOWN]; // who has judged, as bits; compare: [0]
    // Of each completion: what the reward models say, log pi(y|x) / ref(y|x), and KL(pi || ref).
    double score[MAX_SHOWN][MAX_JUDGES], ratio[MAX_SHOWN], kl[MAX_SHOWN];
    char *day[MAX_SHOWN]; // of a log's rows
    int before;           // item with the same prompt; -1: none
} Item;

// An answer in a talk.
typedef struct {
    int64_t number; // from 1; 0: free
    char *prompt;   // JSON: what was said before it
    Text answer;
    const char *finish;
    bool ready;
} Answer;

typedef struct {
    Model models[MAX_SHOWN];
    int n_models;
    GPT2 ref;
    Reward judges[MAX_JUDGES];
    int n_judges;
    bool has_ref, from_file, chat, uncertain;
    Sampler sampler;
    SampleOptions options;
    char sampling[17]; // hash of the models' weights and the settings
    int per_prompt, ahead;
    Web web;
    // Both threads, the web's and the one that samples, touch what is below; the lock is for that.
    pthread_mutex_t lock;
    pthread_cond_t wanted; // there may be work
    Feedback feedback;
    Item *items; // (n_items)
    int n_items, max_items;
    int *slots; // (n_slots) hash table: items by prompt
    size_t n_slots;
    int *order;                     // of the items, as they are shown
    int current[MAX_PEOPLE][MODES]; // the place that each is shown; -1: nothing
    Answer answers[MAX_ANSWERS];
    int64_t n_answers;
} Label;

// A place: an item and one of its completions, as a number. Compared are those of place_of(item, 0).
static int place_of(int item, int completion) { return item * MAX_SHOWN + completion; }
static int place_item(int place) { return place / MAX_SHOWN; }
static int place_completion(int place) { return place % MAX_SHOWN; }

// True if this mode can be chosen.
static bool mode_open(const Label *l, Mode mode) {
    if (mode == COMPARE) return l->from_file || l->per_prompt > 1 || l->n_models > 1;
    if (l->n_models > 1) return false; // the blind test compares
    return mode != TALK || l->n_models == 1;
}

// How many of an item's completions are judged in a mode, each by itself; compared they are one. Of those
// that are sampled for comparisons the first is judged.
static int item_units(const Label *l, const Item *item, Mode mode) {
    if (mode == COMPARE) return !item->ready || item->n > 1;
    return l->from_file ? item->n : 1;
}

// How much there is to be judged in a mode; *done: by this person, so far.
static int units_count(const Label *l, Mode mode, int who, int *done) {
    int all = 0;
    *done = 0;
    for (int i = 0; mode != TALK && i < l->n_items; i++)
        for (int c = 0; c < item_units(l, &l->items[i], mode); c++, all++)
            *done += l->items[i].done[mode][c] >> who & 1;
    return all;
}

// The first mode that is open.
static Mode modes_first(const Label *l) {
    int m = 0;
    while (!mode_open(l, (Mode)m)) m++;
    return (Mode)m;
}

// ------------------------------------------------------------------------------------------------
// Models

// Load a model that samples, under this name; both strings are ours from now on.
static void model_add(Label *l, const char *flag, char *name, char *dir, const char *chat_format) {
    if (l->n_models == MAX_SHOWN) die(EXIT_USAGE, "--%s: more than %d models", flag, MAX_SHOWN);
    for (int k = 0; k < l->n_models; k++)
        if (!strcmp(l->models[k].name, name))
            die(EXIT_USAGE, "--%s: two are called %s; tell them apart with NAME=DIR", flag, name);
    Model *m = &l->models[l->n_models++];
    m->name = name;
    model_load(&m->gpt2, dir);
    tokenizer_load(&m->tokenizer, dir);
    tokenizer_check(&m->tokenizer, m->gpt2.config.vocab_size, dir);
    m->format = chat_open(chat_format, &m->tokenizer, dir);
    m->stops = stops_read(dir, m->gpt2.config.vocab_size);
    free(dir);
}

// Load one model, called as its directory, or those of "NAME=DIR,NAME=DIR"; either is NULL.
static void models_load(Label *l, const char *one, const char *several, const char *chat_format) {
    if (one) model_add(l, "model", text_copy(one), text_copy(one), chat_format);
    while (several) {
        char *name, *dir;
        named_dir_next(&name, &dir, &several, "models");
        model_add(l, "models", name, dir, chat_format);
    }
}

// Hash what decides which texts are sampled, but for the seed: another model, or another temperature, is another
// experiment, whose completions of the same prompts are new.
static void sampling_hash(Label *l) {
    DiskHash h = disk_hash_begin();
    const SampleOptions *o = &l->options;
    const double numbers[] = {o->temperature, o->top_k, o->top_p, o->max_new_tokens, use_bf16};
    disk_hash_add(&h, numbers, sizeof numbers);
    for (int k = 0; k < l->n_models; k++) {
        const uint64_t weights = model_hash(&l->models[k].gpt2);
        disk_hash_add(&h, &weights, sizeof weights);
    }
    snprintf(l->sampling, sizeof l->sampling, "%016" PRIx64, disk_hash_end(&h));
}

// Load what scores and compares: reward models "A,B,C", each by itself, and the reference.
static void judges_load(Label *l, const char *rewards, const char *ref) {
    const Model *m = &l->models[0];
    while (rewards) {
        if (l->n_judges == MAX_JUDGES) die(EXIT_USAGE, "--reward_model: more than %d", MAX_JUDGES);
        char *dir = reward_next_dir(&rewards);
        reward_open_model(&l->judges[l->n_judges++], dir, &m->tokenizer, MAX_SHOWN);
        free(dir);
    }
    l->has_ref = ref;
    if (!ref) return;
    policy_load(&l->ref, ref, &m->tokenizer, m->gpt2.config.vocab_size);
    if (l->ref.config.n_positions < m->gpt2.config.n_positions)
        die(EXIT_BAD_INPUT, "%s: has %d positions, the model %d", ref, l->ref.config.n_positions,
            m->gpt2.config.n_positions);
}

// ------------------------------------------------------------------------------------------------
// Prompts

// The item of a prompt: the last that was made for it, or NULL. *slot: its place in the table.
static Item *item_find(const Label *l, const char *prompt, size_t *slot) {
    DiskHash h = disk_hash_begin();
    disk_hash_add(&h, prompt, strlen(prompt));
    *slot = disk_hash_end(&h) % l->n_slots;
    while (l->slots[*slot] >= 0 && strcmp(l->items[l->slots[*slot]].prompt, prompt))
        *slot = (*slot + 1) % l->n_slots;
    return l->slots[*slot] >= 0 ? &l->items[l->slots[*slot]] : NULL;
}

// Make room in the table for one more: it is at most half full.
static void items_reserve(Label *l) {
    if ((size_t)l->n_items * 2 < l->n_slots) return;
    l->n_slots = l->n_slots ? l->n_slots * 2 : 1024;
    l->slots = mem_resize(l->slots, l->n_slots, sizeof *l->slots);
    for (size_t k = 0; k < l->n_slots; k++) l->slots[k] = -1;
    for (int i = 0; i < l->n_items; i++) {
        size_t slot;
        item_find(l, l->items[i].prompt, &slot);
        l->slots[slot] = i;
    }
}

// True if the prompt, in this item or one before it, has a completion with this text already.
static bool item_has(const Label *l, const Item *item, const char *text) {
    for (; item; item = item->before >= 0 ? &l->items[item->before] : NULL)
        for (int c = 0; c < item->n; c++)
            if (!strcmp(item->completions[c].data, text)) return true;
    return false;
}

// Take a record's completion, of a file. Returns false if it has none that can be judged, as `generate` writes it
// for a record with a fault.
static bool item_take(Item *item, const LineReader *r, const cJSON *record) {
    if (!record_get(record, "completion") && json_get(record, "completion")) return false;
    const char *text = record_string(r, record, "completion");
    const char *name = cJSON_GetStringValue(json_get(record, "model"));
    const char *when = cJSON_GetStringValue(json_get(record, "when"));
    const char *finish = cJSON_GetStringValue(json_get(record, "finish_reason"));
    if (!name) name = cJSON_GetStringValue(json_get(record, "name")); // as `evaluate` has it
    if (!finish) finish = cJSON_GetStringValue(json_get(record, "finish"));
    if (text_is_blank(text, strlen(text)) || (r->mended && json_flaw(text))) return false;
    item->models[item->n] = name ? text_copy(name) : NULL;
    item->finish[item->n] = finish ? text_copy(finish) : NULL;
    item->day[item->n] = when ? text_format("%.10s", when) : NULL;
    text_append(&item->completions[item->n++], text, strlen(text));
    item->ready = true;
    return true;
}

// Read prompts, or prompts with completions: rows with the same prompt are one item as long as it has
// room for more. Records that cannot be used are counted and left out.
static void items_load(Label *l, const char *path, int64_t max_items) {
    LineReader r;
    Draft draft = {0};
    int64_t faults = 0, twice = 0;
    lines_open(&r, path);
    for (cJSON *record; (record = record_next(&r)); cJSON_Delete(record)) {
        size_t slot;
        draft_prompt(&draft, &r, record, l->models[0].format);
        char *prompt = cJSON_PrintUnformatted(json_get(record, "prompt"));
        items_reserve(l);
        Item *item = item_find(l, prompt, &slot);
        const bool known = item && (!l->from_file || item->n < MAX_SHOWN);
        const char *text =
            l->from_file ? cJSON_GetStringValue(json_get(record, "completion")) : NULL;
        const bool same = l->from_file ? text && item_has(l, item, text) : known;
        bool taken = !draft.fault[0] && !same && (known || !max_items || l->n_items < max_items);
        if (taken && !known) {
            if (l->n_items == l->max_items) {
                l->max_items = 2 * l->max_items + 64;
                l->items = mem_resize(l->items, (size_t)l->max_items, sizeof *l->items);
            }
            item = &l->items[l->n_items];
            *item =
                (Item){.prompt = prompt, .chat = draft.chat, .seed = -1, .before = l->slots[slot]};
            text_append(&item->text, draft.text.data, draft.text.size);
        }
        if (taken && l->from_file) taken = item_take(item, &r, record);
        if (taken && !known) l->slots[slot] = l->n_items++;
        else free(prompt);
        faults += draft.fault[0] || (!taken && !same && l->from_file && !max_items);
        twice += same;
    }
    lines_close(&r), draft_free(&draft);
    if (!l->n_items)
        die(EXIT_BAD_INPUT, "%s: has no %s", path, l->from_file ? "completions" : "prompts");
    printf("%s: %d prompts", path, l->n_items);
    if (twice) printf(", %" PRId64 " more are the same", twice);
    if (faults) printf(", %" PRId64 " cannot be used", faults);
    printf("\n");
    l->order = mem_alloc((size_t)l->n_items, sizeof *l->order);
    rng_permutation(l->order, l->n_items, l->options.seed, 0);
    for (int p = 0; p < MAX_PEOPLE; p++)
        for (int m = 0; m < MODES; m++) l->current[p][m] = -1;
}

// ------------------------------------------------------------------------------------------------
// Earlier runs

// A judgement of an item, without who and what was chosen.
static Verdict item_verdict(const Label *l, int i, Mode mode, int of) {
    const Item *item = &l->items[i];
    Verdict v = {.mode = mode,
                 .prompt = item->prompt,
                 .n = item->n,
                 .of = of,
                 .seed = item->seed,
                 .sampling = item->seed >= 0 ? l->sampling : NULL,
                 .item = i};
    for (int c = 0; c < item->n; c++) {
        v.completions[c] = item->completions[c].data;
        v.models[c] = item->models[c];
        v.finish[c] = item->finish[c];
    }
    return v;
}

// A person has judged an item, or has taken that back.
static void item_mark(Label *l, const Judgement *j, bool done) {
    uint64_t *people = &l->items[j->item].done[j->mode][j->mode == COMPARE ? 0 : j->of];
    if (done) *people |= (uint64_t)1 << j->who;
    else *people &= ~((uint64_t)1 << j->who);
}

// The sampler's own word for why a text ended, or NULL.
static const char *finish_known(const char *word) {
    for (int f = FINISH_EOS; word && f <= FINISH_CONTEXT; f++)
        if (!strcmp(word, finish_name((Finish)f))) return finish_name((Finish)f);
    return NULL;
}

// Give an item a judgement, if it is of its texts.
static void item_adopt(Label *l, int i, Judgement *j) {
    const Verdict own = item_verdict(l, i, j->mode, j->of);
    if (j->mode == TALK || j->of >= own.n || unit_of(&own) != j->unit) return;
    j->item = i;
    if (!j->undone) item_mark(l, j, true);
}

// Take the completions that a line of the log has: a second person is to see what the first saw.
static void item_restore(Label *l, Item *item, const Verdict *v) {
    const int n = l->n_models > 1 ? l->n_models : l->per_prompt;
    if (item->ready || v->mode == TALK || v->n != n || !v->sampling ||
        strcmp(v->sampling, l->sampling))
        return;
    for (; item->n < v->n; item->n++) {
        const char *text = v->completions[item->n];
        text_append(&item->completions[item->n], text, strlen(text));
        item->models[item->n] = l->models[l->n_models > 1 ? item->n : 0].name;
        item->finish[item->n] = finish_known(v->finish[item->n]);
    }
    item->ready = true;
    item->seed = v->seed;
}

// Go through the judgements of earlier runs: what was sampled then, and who has judged what.
static void items_recall(Label *l) {
    for (int k = 0; k < l->feedback.n; k++) {
        Judgement *j = &l->feedback.list[k];
        Verdict v;
        char *prompt;
        size_t slot;
        cJSON *line = cJSON_Parse(j->line);
        line_verdict(&v, &prompt, line);
        const Item *item = item_find(l, prompt, &slot);
        for (int i = item ? l->slots[slot] : -1; i >= 0; i = l->items[i].before) {
            if (!l->from_file) item_restore(l, &l->items[i], &v);
            item_adopt(l, i, j);
        }
        free(prompt);
        cJSON_Delete(line);
    }
}

// Free all of it.
static void label_free(Label *l) {
    sampler_free(&l->sampler);
    for (int m = 0; m < l->n_models; m++) {
        Model *model = &l->models[m];
        gpt2_free(&model->gpt2), tokenizer_free(&model->tokenizer);
        free(model->name);
    }
    for (int k = 0; k < l->n_judges; k++) reward_close(&l->judges[k]);
    if (l->has_ref) gpt2_free(&l->ref);
    for (int i = 0; i < l->n_items; i++) {
        Item *item = &l->items[i];
        for (int c = 0; c < item->n; c++) {
            text_free(&item->completions[c]);
            if (l->from_file) free((char *)item->models[c]); // else a model's own name
            if (l->from_file) free((char *)item->finish[c]);
            free(item->day[c]);
        }
        free(item->prompt), text_free(&item->text);
    }
    for (int k = 0; k < MAX_ANSWERS; k++)
        free(l->answers[k].prompt), text_free(&l->answers[k].answer);
    free(l->items), free(l->slots), free(l->order);
}

#endif
