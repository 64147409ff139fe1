// items.h: benchmarks: files of questions with a right answer, and what becomes of a written one. From
// top to bottom:
//
//   items      the five forms, and a file of one of them
//   reading    a record as an item
//   tasks      the groups that results are shown by; RewardBench's sections
//   answers    from a completion to the answer in it, and whether that is the right one
//
// The form of a file is seen from the columns of its first record, and all others must have the same:
//
//   prompt, options, answer               multiple choice: strings that may go on, and the index (from
//                                         0) of the right one
//   options_prompts, completion, answer   the same with one way to go on and several prompts, as
//                                         WinoGrande is scored (Trinh and Le 2018: partial evaluation)
//   prompt, chosen, rejected              pairs; the prompt may be empty
//   prompt, answer                        answers to be written; `answer` may be a list of right ones
//   prompt, completion                    a continuation to be foreseen, as LAMBADA's last word
//
// Each may also have a task (the first of the columns task, subject, subset, field that the first record
// has) and, above it, a section (`section`, or `field`). Other columns are left alone.
#ifndef ITEMS_H
#define ITEMS_H

#include "preferences.h" // defines: Draft, draft_string, record_done, spread, chat_stripped
#include <regex.h>

// ------------------------------------------------------------------------------------------------
// Items

typedef enum { ITEM_CHOICE, ITEM_CONTEXTS, ITEM_PAIR, ITEM_ANSWER, ITEM_WORD } ItemForm;

// What a form is called, and the columns that it takes.
static const struct {
    const char *name, *columns;
} item_forms[] = {
    [ITEM_CHOICE] = {"multiple choice", "prompt, options, answer"},
    [ITEM_CONTEXTS] = {"several prompts", "options_prompts, completion, answer"},
    [ITEM_PAIR] = {"pairs", "prompt, chosen, rejected"},
    [ITEM_ANSWER] = {"written answers", "prompt, answer"},
    [ITEM_WORD] = {"last words", "prompt, completion"},
};

// Some texts; free with texts_free().
typedef struct {
    char **text; // (n)
    int n;
} Texts;

// Prompts and ways to go on: of one there is one, of the other as many as are compared (of a written
// answer no ways, of a last word one).
typedef struct {
    long line;     // in its file
    uint64_t hash; // of that line
    int task;      // of the set's; 0 where there are none
    int n;         // that are compared
    int right;     // the index of the right one
    Texts prompts, ways, answers;
    cJSON *record; // of a pair, for rewards
    bool out;      // it cannot be used after all
} Item;

// The items of one file.
typedef struct {
    char *name, *path;
    ItemForm form;
    int n, max_n;
    Item *items;                      // (n)
    const char *task_key, *group_key; // columns; NULL: none
    Texts tasks, groups;              // their names, in the file's order; no groups: no column
    int *group;                       // (tasks) the group of each
    double *weight;                   // (tasks) in its group; NULL: its number of items
    double *group_weight;             // (groups) in the mean over groups; NULL: all the same
    DataCounts counts;
    long twice; // that are in the file before; they count as they are
} ItemSet;

static void texts_add(Texts *t, const char *text) {
    t->text = mem_resize(t->text, (size_t)t->n + 1, sizeof *t->text);
    t->text[t->n++] = text_copy(text);
}

// The index of a text, which is added if it is not there yet.
static int texts_index(Texts *t, const char *text) {
    int i = 0;
    while (i < t->n && strcmp(t->text[i], text)) i++;
    if (i == t->n) texts_add(t, text);
    return i;
}

static void texts_free(Texts *t) {
    for (int i = 0; i < t->n; i++) free(t->text[i]);
    free(t->text);
    *t = (Texts){0};
}

static void item_free(Item *item) {
    texts_free(&item->prompts), texts_free(&item->ways), texts_free(&item->answers);
    cJSON_Delete(item->record);
}

static void items_free(ItemSet *s) {
    for (int i = 0; i < s->n; i++) item_free(&s->items[i]);
    texts_free(&s->tasks), texts_free(&s->groups);
    free(s->items), free(s->name), free(s->path);
    free(s->group), free(s->weight), free(s->group_weight);
    *s = (ItemSet){0};
}

// The chance that a guess is right: 0.5 for a pair, NAN where there is nothing to choose from.
static double item_chance(const ItemSet *s, const Item *item) {
    return s->form == ITEM_ANSWER || s->form == ITEM_WORD ? NAN : 1.0 / item->n;
}

// ------------------------------------------------------------------------------------------------
// Reading

// The form of a record, by the columns that it has. Dies if it is none.
static ItemForm item_form(const LineReader *r, const cJSON *record) {
    if (json_get(record, "options_prompts")) return ITEM_CONTEXTS;
    if (json_get(record, "options")) return ITEM_CHOICE;
    if (json_get(record, "chosen") || json_get(record, "rejected")) return ITEM_PAIR;
    if (json_get(record, "prompt") && json_get(record, "answer")) return ITEM_ANSWER;
    if (json_get(record, "prompt") && json_get(record, "completion")) return ITEM_WORD;
    Text what = {0};
    text_print(&what, "the columns of a benchmark:");
    for (int i = 0; i < COUNT(item_forms); i++)
        text_print(&what, "%s %s", i ? ";" : "", item_forms[i].columns);
    record_missing(r, record, what.data);
}

// A text for the item; `blank`: it may be empty.
static void item_text(Draft *d, Texts *to, const char *text, bool blank, const char *name) {
    const char *flaw = d->mended ? json_flaw(text) : NULL;
    if (flaw) draft_fault(d, "%s contains %s", name, flaw);
    if (!blank && text_is_blank(text, strlen(text))) draft_fault(d, "%s is empty", name);
    texts_add(to, text);
}

// The string of column `key`.
static void item_column(Draft *d, Texts *to, const LineReader *r, const cJSON *record,
                        const char *key, bool blank) {
    char *name = text_format("\"%s\"", key);
    item_text(d, to, draft_string(d, r, record, key), blank, name);
    free(name);
}

// The strings of column `key`, which is a list; `least`: there must be so many.
static void item_list(Draft *d, Texts *to, const LineReader *r, const cJSON *record,
                      const char *key, int least, bool blank) {
    const cJSON *list = draft_column(d, r, record, key), *element;
    if (!list) return;
    if (!cJSON_IsArray(list))
        die(EXIT_BAD_INPUT, "%s:%ld: \"%s\" is %s, expected a list of strings", r->path, r->number,
            key, json_type_name(list));
    cJSON_ArrayForEach(element, list) {
        char *name = text_format("%s[%d]", key, to->n);
        if (!cJSON_IsString(element))
            die(EXIT_BAD_INPUT, "%s:%ld: %s is %s, expected a string", r->path, r->number, name,
                json_type_name(element));
        item_text(d, to, element->valuestring, blank, name);
        free(name);
    }
    if (to->n == 0) draft_fault(d, "\"%s\" is empty", key);
    else if (to->n < least) draft_fault(d, "\"%s\" has one string: nothing to choose from", key);
}

// The index in column `answer`, one of n.
static int item_index(Draft *d, const LineReader *r, const cJSON *record, int n) {
    const cJSON *answer = draft_column(d, r, record, "answer");
    int64_t index = 0;
    if (!answer) return 0;
    if (!json_integer(answer, &index))
        die(EXIT_BAD_INPUT, "%s:%ld: \"answer\" is %s, expected the index of the right one, from 0",
            r->path, r->number, cJSON_IsNumber(answer) ? "not an integer" : json_type_name(answer));
    if (index < 0 || index >= n)
        draft_fault(d, "\"answer\" is %" PRId64 ", expected an index from 0 to %d", index, n - 1);
    return (int)index;
}

// What pairs are wanted for: their texts, or rewards (a model of them has its own form for messages).
typedef struct {
    bool texts, rewards;
    ChatFormat format;
} PairUse;

// Read a pair.
static void item_pair(Item *item, Draft *d, const LineReader *r, cJSON *record,
                      const PairUse *use) {
    item->n = 2;
    if (use->rewards) {
        draft_preference(d, r, record, 2, use->format);
        item->record = cJSON_Duplicate(record, true);
    }
    if (!use->texts) return;
    item_column(d, &item->prompts, r, record, "prompt", true);
    item_column(d, &item->ways, r, record, "chosen", false);
    item_column(d, &item->ways, r, record, "rejected", false);
    if (strcmp(item->ways.text[0], item->ways.text[1])) return;
    draft_fault(d, "chosen and rejected are identical");
    d->identical = true;
}

// Read the record that the reader has read last.
static void item_read(Item *item, Draft *d, ItemForm form, const LineReader *r, cJSON *record,
                      const PairUse *use) {
    const cJSON *answer;
    uint64_t hash = HASH_BEGIN;
    for (size_t i = 0; i < r->line.size; i++) hash = hash_add(hash, (unsigned char)r->line.data[i]);
    *item = (Item){.line = r->number, .hash = hash};
    draft_clear(d, r);
    switch (form) {
    case ITEM_CHOICE:
        item_column(d, &item->prompts, r, record, "prompt", true);
        item_list(d, &item->ways, r, record, "options", 2, false);
        item->n = item->ways.n;
        item->right = item_index(d, r, record, item->n);
        break;
    case ITEM_CONTEXTS:
        item_list(d, &item->prompts, r, record, "options_prompts", 2, true);
        item_column(d, &item->ways, r, record, "completion", false);
        item->n = item->prompts.n;
        item->right = item_index(d, r, record, item->n);
        break;
    case ITEM_PAIR:
        item_pair(item, d, r, record, use);
        break;
    case ITEM_ANSWER:
        item_column(d, &item->prompts, r, record, "prompt", true);
        answer = draft_column(d, r, record, "answer");
        if (cJSON_IsArray(answer)) item_list(d, &item->answers, r, record, "answer", 1, false);
        else if (answer) item_column(d, &item->answers, r, record, "answer", false);
        break;
    case ITEM_WORD:
        item->n = 1;
        item_column(d, &item->prompts, r, record, "prompt", true);
        item_column(d, &item->ways, r, record, "completion", false);
        break;
    }
}

// ------------------------------------------------------------------------------------------------
// Tasks

// The subsets of RewardBench and the sections that they are in, with the number of prompts by which a
// subset counts in its section (rewardbench/constants.py of its authors: 984 lets the 447 prompts of
// math count as much as those of code). The prior sets count by one each, and as a section half as
// much as another (analysis/get_benchmark_results.py there; Lambert et al. 2024, section 4).
static const struct {
    const char *subset, *section;
    double weight;
} reward_bench[] = {
    {"alpacaeval-easy", "Chat", 100},
    {"alpacaeval-length", "Chat", 95},
    {"alpacaeval-hard", "Chat", 95},
    {"mt-bench-easy", "Chat", 28},
    {"mt-bench-med", "Chat", 40},
    {"mt-bench-hard", "Chat Hard", 37},
    {"llmbar-natural", "Chat Hard", 100},
    {"llmbar-adver-neighbor", "Chat Hard", 134},
    {"llmbar-adver-GPTInst", "Chat Hard", 92},
    {"llmbar-adver-GPTOut", "Chat Hard", 47},
    {"llmbar-adver-manual", "Chat Hard", 46},
    {"refusals-dangerous", "Safety", 100},
    {"refusals-offensive", "Safety", 100},
    {"xstest-should-refuse", "Safety", 154},
    {"xstest-should-respond", "Safety", 250},
    {"donotanswer", "Safety", 136},
    {"math-prm", "Reasoning", 984},
    {"hep-cpp", "Reasoning", 164},
    {"hep-go", "Reasoning", 164},
    {"hep-java", "Reasoning", 164},
    {"hep-js", "Reasoning", 164},
    {"hep-python", "Reasoning", 164},
    {"hep-rust", "Reasoning", 164},
    {"anthropic_helpful", "Prior Sets", 1},
    {"anthropic_hhh", "Prior Sets", 1},
    {"shp", "Prior Sets", 1},
    {"summarize", "Prior Sets", 1},
};

// Where a subset is in RewardBench, or -1.
static int reward_bench_find(const char *subset) {
    for (int i = 0; i < COUNT(reward_bench); i++)
        if (!strcmp(reward_bench[i].subset, subset)) return i;
    return -1;
}

// Give the tasks RewardBench's sections and weights, if the file has no sections of its own and the
// subsets are all of that benchmark.
static void items_reward_bench(ItemSet *s) {
    if (s->form != ITEM_PAIR || s->group_key || !s->tasks.n) return;
    for (int i = 0; i < s->tasks.n; i++)
        if (reward_bench_find(s->tasks.text[i]) < 0) return;
    s->group_key = "RewardBench's";
    s->weight = mem_alloc((size_t)s->tasks.n, sizeof *s->weight);
    for (int i = 0; i < s->tasks.n; i++) {
        const int at = reward_bench_find(s->tasks.text[i]);
        s->group[i] = texts_index(&s->groups, reward_bench[at].section);
        s->weight[i] = reward_bench[at].weight;
    }
    s->group_weight = mem_alloc((size_t)s->groups.n, sizeof *s->group_weight);
    for (int i = 0; i < s->groups.n; i++)
        s->group_weight[i] = strcmp(s->groups.text[i], "Prior Sets") ? 1 : 0.5;
}

// See from the first record which columns name task and group.
static void items_keys(ItemSet *s, const cJSON *record) {
    static const char *const tasks[] = {"task", "subject", "subset", "field"};
    static const char *const groups[] = {"section", "field"};
    for (int i = 0; i < COUNT(tasks) && !s->task_key; i++)
        if (json_get(record, tasks[i])) s->task_key = tasks[i];
    for (int i = 0; i < COUNT(groups) && s->task_key && !s->group_key; i++)
        if (json_get(record, groups[i]) && strcmp(groups[i], s->task_key)) s->group_key = groups[i];
}

// The task of a record, whose group must be the one that its task had before.
static int item_task(ItemSet *s, Draft *d, const LineReader *r, const cJSON *record) {
    if (!s->task_key) return 0;
    const char *task = draft_string(d, r, record, s->task_key);
    const char *name = s->group_key ? draft_string(d, r, record, s->group_key) : NULL;
    if (d->fault[0]) return 0;
    const int before = s->tasks.n, i = texts_index(&s->tasks, task);
    const int group = name ? texts_index(&s->groups, name) : 0;
    if (i == before) {
        s->group = mem_resize(s->group, (size_t)i + 1, sizeof *s->group);
        s->group[i] = group;
    }
    if (s->group[i] != group)
        die(EXIT_BAD_INPUT, "%s:%ld: %s \"%s\" is in %s \"%s\", and in \"%s\" before", r->path,
            r->number, s->task_key, task, s->group_key, name, s->groups.text[s->group[i]]);
    return i;
}

static int hash_compare(const void *x, const void *y) {
    const uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

// Count the lines that are there more than once.
static void items_count_twice(ItemSet *s) {
    uint64_t *hashes = mem_alloc((size_t)s->n, sizeof *hashes);
    for (int i = 0; i < s->n; i++) hashes[i] = s->items[i].hash;
    qsort(hashes, (size_t)s->n, sizeof *hashes, hash_compare);
    for (int i = 1; i < s->n; i++) s->twice += hashes[i] == hashes[i - 1];
    free(hashes);
}

// Keep `most` items, evenly spread over the file, if there are more.
static void items_thin(ItemSet *s, int most) {
    const int all = s->n;
    if (!most || all <= most) return;
    Item *kept = mem_alloc((size_t)most, sizeof *kept);
    for (int i = 0; i < most; i++) {
        Item *item = &s->items[spread(i, most, all)];
        kept[i] = *item;
        *item = (Item){0};
    }
    for (int i = 0; i < all; i++) item_free(&s->items[i]);
    free(s->items);
    s->items = kept;
    s->n = s->max_n = most;
}

// Load the benchmark `name` from a file; `most` items of it, evenly spread (0: all). Of o, strict and
// faults are looked at. Dies (EXIT_BAD_INPUT) if the records are of no form or of several.
static void items_load(ItemSet *s, const char *name, const char *path, int most, const PairUse *use,
                       const DataOptions *o) {
    *s = (ItemSet){.name = text_copy(name), .path = text_copy(path)};
    LineReader reader;
    Draft draft = {0};
    lines_open(&reader, s->path);
    for (cJSON *record; (record = record_next(&reader));) {
        const ItemForm form = item_form(&reader, record);
        if (s->counts.records == 0) {
            s->form = form;
            items_keys(s, record);
        }
        if (form != s->form)
            die(EXIT_BAD_INPUT, "%s:%ld: %s (%s), and the first record is of another form: %s (%s)",
                reader.path, reader.number, item_forms[form].name, item_forms[form].columns,
                item_forms[s->form].name, item_forms[s->form].columns);
        Item item;
        item_read(&item, &draft, form, &reader, record, use);
        item.task = item_task(s, &draft, &reader, record);
        if (s->n == s->max_n) {
            s->max_n = 2 * s->max_n + 64;
            s->items = mem_resize(s->items, (size_t)s->max_n, sizeof *s->items);
        }
        if (draft.fault[0]) item_free(&item);
        else s->items[s->n++] = item;
        record_done(&s->counts, &draft, &reader, record, o);
    }
    if (!s->counts.records) die(EXIT_BAD_INPUT, "%s: contains no records", path);
    if (!s->n)
        die(EXIT_BAD_INPUT, "%s: all %ld records were skipped: nothing to measure", path,
            s->counts.records);
    lines_close(&reader);
    draft_free(&draft);
    items_count_twice(s);
    items_reward_bench(s);
    items_thin(s, most);
}

// ------------------------------------------------------------------------------------------------
// Answers

enum { ANSWER_GROUPS = 10 };

// How a completion becomes an answer.
typedef struct {
    bool has_pattern, has_ignored;
    regex_t pattern, ignored; // POSIX extended
    Texts stops;
} AnswerRules;

// Compile a regular expression, or die and name the flag.
static void regex_open(regex_t *regex, const char *flag, const char *text) {
    char why[256];
    if (strstr(text, "\\d"))
        die(EXIT_USAGE, "--%s %s: POSIX regular expressions have no \\d, write [0-9]", flag, text);
    const int code = regcomp(regex, text, REG_EXTENDED);
    if (!code) return;
    regerror(code, regex, why, sizeof why);
    die(EXIT_USAGE, "--%s %s: not a regular expression: %s", flag, text, why);
}

// "a|b" as texts; \n, \t, \\ and \| are a newline, a tab, a backslash and a bar.
static Texts stops_parse(const char *text) {
    Texts stops = {0};
    Text one = {0};
    for (const char *s = text;; s++) {
        if (*s == '|' || !*s) {
            if (!one.size) die(EXIT_USAGE, "--stop %s: a text between the bars is empty", text);
            texts_add(&stops, one.data);
            one.size = 0;
            if (!*s) break;
        } else if (*s == '\\') {
            const char *from = "nt\\|", *found = s[1] ? strchr(from, s[1]) : NULL;
            if (!found)
                die(EXIT_USAGE, "--stop %s: of escapes there are \\n, \\t, \\\\ and \\|", text);
            text_append(&one, &"\n\t\\|"[found - from], 1);
            s++;
        } else text_append(&one, s, 1);
    }
    text_free(&one);
    return stops;
}

// The rules of these flags; each may be NULL. Without `stop` a completion ends with its line, or, if a
// pattern looks for the answer in it, with its paragraph.
static AnswerRules rules_open(const char *pattern, const char *ignored, const char *stop) {
    AnswerRules r = {.has_pattern = pattern, .has_ignored = ignored};
    if (pattern) regex_open(&r.pattern, "answer_pattern", pattern);
    if (ignored) regex_open(&r.ignored, "answer_ignore", ignored);
    r.stops = stops_parse(stop ? stop : pattern ? "\\n\\n" : "\\n");
    return r;
}

static void rules_free(AnswerRules *r) {
    if (r->has_pattern) regfree(&r->pattern);
    if (r->has_ignored) regfree(&r->ignored);
    texts_free(&r->stops);
    *r = (AnswerRules){0};
}

// Where text[0..n) ends by these rules: bytes before the first stop, or n if there is none.
static size_t rules_end(const AnswerRules *r, const char *text, size_t n) {
    size_t end = n;
    for (int i = 0; i < r->stops.n; i++) {
        const char *found = memmem(text, end, r->stops.text[i], strlen(r->stops.text[i]));
        if (found) end = (size_t)(found - text);
    }
    return end;
}

// out <- the answer in a completion that ends where it should: what the pattern matches last (its
// first group that is not empty, if it has groups), or the whole; without the white space around it.
// False if the pattern is not there. As in lm-evaluation-harness with group_select -1, but that POSIX
// takes the longest of several matches at one place.
static bool answer_find(Text *out, const AnswerRules *r, const char *text) {
    regmatch_t at[ANSWER_GROUPS] = {{0}};
    const char *s = text;
    char *answer = r->has_pattern ? NULL : text_copy(text);
    while (r->has_pattern && !regexec(&r->pattern, s, COUNT(at), at, s > text ? REG_NOTBOL : 0)) {
        int group = r->pattern.re_nsub > 0;
        while (group && group < COUNT(at) && at[group].rm_eo <= at[group].rm_so) group++;
        free(answer);
        answer = NULL;
        if (group < COUNT(at))
            answer =
                text_format("%.*s", (int)(at[group].rm_eo - at[group].rm_so), s + at[group].rm_so);
        s += at[0].rm_eo;
        if (!*s) break;
        s += at[0].rm_eo == at[0].rm_so; // an empty match
    }
    out->size = 0;
    text_append(out, "", 0);
    if (!answer) return false;
    chat_stripped(out, answer);
    free(answer);
    return true;
}

// out <- text without what the rules ignore and without white space around it.
static void answer_plain(Text *out, const AnswerRules *r, const char *text) {
    regmatch_t at;
    Text kept = {0};
    const char *s = text;
    while (r->has_ignored && *s && !regexec(&r->ignored, s, 1, &at, s > text ? REG_NOTBOL : 0)) {
        const bool empty = at.rm_eo == at.rm_so && s[at.rm_so]; // then one byte stays
        text_append(&kept, s, (size_t)at.rm_so + empty);
        s += at.rm_eo + empty;
    }
    text_append(&kept, s, strlen(s));
    out->size = 0;
    chat_stripped(out, kept.data);
    text_free(&kept);
}

// True if the answer is one of the item's, by all characters.
static bool answer_is_right(const AnswerRules *r, const Item *item, const char *answer) {
    Text given = {0}, right = {0};
    bool is = false;
    answer_plain(&given, r, answer);
    for (int i = 0; i < item->answers.n && !is; i++) {
        answer_plain(&right, r, item->answers.text[i]);
        is = !strcmp(given.data, right.data);
    }
    text_free(&given), text_free(&right);
    return is;
}

#endif
