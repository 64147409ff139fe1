// findings.h: what report.c reads: logs of runs, results of an evaluation, texts, and what it took.
// From top to bottom:
//
//   records    JSONL, numbers and strings in it
//   runs       directories with metrics.jsonl
//   others     evaluation, benchmarks, texts, frontier, stages
//   lookup     what belongs to a policy
//
// All that is read stays in memory as JSON. What is missing is NAN or NULL: a report shows what
// there is. What is there and wrong stops the program with one sentence.
#ifndef FINDINGS_H
#define FINDINGS_H

#include "../base/common.h"
#include "../base/json.h"
#include "../base/jsonl.h"
#include "plot.h"
#include <dirent.h>

enum { MAX_NAMES = 64 };

// A run, and the rows of its log.
typedef struct {
    char *name, *dir;
    cJSON **rows;
    int n;
} Run;

// The best mean score that any policy can have at a KL, its standard error, and the slope there
// (NAN if unknown): the curve is concave, so it is below its tangents.
typedef struct {
    double kl, score, error, slope;
} Best;

// By increasing KL, for qsort.
static int best_compare(const void *a, const void *b) {
    const double x = ((const Best *)a)->kl, y = ((const Best *)b)->kl;
    return (x > y) - (x < y);
}

// What a model made of a benchmark: objects of evaluate's JSON.
typedef struct {
    const cJSON *set, *model;
} Mark;

typedef struct {
    Run runs[MAX_NAMES];
    int n_runs;
    cJSON *evaluation;              // or NULL
    const cJSON *policy[MAX_NAMES]; // its models, in their order
    const cJSON *baseline;          // one of them, or NULL
    int n_policies;
    cJSON **benchmarks; // (n_benchmarks) files
    int n_benchmarks;
    Mark *marks; // (n_marks) those of one benchmark one after another
    int n_marks;
    const char *judge; // the score that wins: "gold" or "reward"; NULL if there is no score
    cJSON **samples, **stages;
    int n_samples, n_stages;
    Best *frontier;
    int n_frontier;
    const char *names[2 * MAX_NAMES];
    int n_names; // of policies: a name's number is its colour's
} Report;

// ------------------------------------------------------------------------------------------------
// Reading

// All records of a JSONL file (n). A last line without a newline is of a run that is still going
// on, or was killed: it is left out.
static cJSON **jsonl_read(const char *path, int *n) {
    size_t size;
    char *text = file_read(path, &size);
    cJSON **records = NULL;
    long line = 1;
    *n = 0;
    for (char *s = text, *end; (end = memchr(s, '\n', size - (size_t)(s - text)));
         s = end + 1, line++) {
        if (text_is_blank(s, (size_t)(end - s))) continue;
        cJSON *record = json_parse(s, (size_t)(end - s), path, line);
        if (!cJSON_IsObject(record))
            die(EXIT_BAD_INPUT, "%s:%ld: expected a JSON object", path, line);
        records = mem_resize(records, (size_t)*n + 1, sizeof *records);
        records[(*n)++] = record;
    }
    free(text);
    return records;
}

// Free what jsonl_read made.
static void records_free(cJSON **records, int n) {
    for (int i = 0; i < n; i++) cJSON_Delete(records[i]);
    free(records);
}

// A number of a JSON object; NAN if it is missing or no number. The object may be NULL.
static double number_of(const cJSON *object, const char *key) {
    const cJSON *item = json_get(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

// A string of a JSON object, or NULL.
static const char *string_of(const cJSON *object, const char *key) {
    const cJSON *item = json_get(object, key);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

// Read a run, and keep its name and directory: both are freed with the report.
static void run_add(Report *r, char *name, char *dir) {
    char *path = path_join(dir, "metrics.jsonl");
    if (r->n_runs == MAX_NAMES) die(EXIT_USAGE, "--runs: more than %d", MAX_NAMES);
    for (int i = 0; i < r->n_runs; i++)
        if (!strcmp(r->runs[i].name, name))
            die(EXIT_USAGE, "--runs: two are called %s; tell them apart with NAME=DIR", name);
    Run *run = &r->runs[r->n_runs++];
    *run = (Run){.name = name, .dir = dir};
    run->rows = jsonl_read(path, &run->n);
    if (!run->n) die(EXIT_BAD_INPUT, "%s: contains no records", path);
    free(path);
}

// True if a training program has written there.
static bool is_run(const char *dir) {
    char *path = path_join(dir, "metrics.jsonl");
    const bool is = path_is_file(path);
    free(path);
    return is;
}

// The runs in the folders of `dir`, by name.
static void runs_scan(Report *r, const char *dir) {
    struct dirent **entries;
    const int n = scandir(dir, &entries, NULL, alphasort), before = r->n_runs;
    if (n < 0) die(EXIT_IO, "%s: cannot read: %s", dir, strerror(errno));
    for (int i = 0; i < n; i++) {
        char *path = path_join(dir, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && is_run(path))
            run_add(r, text_copy(entries[i]->d_name), path);
        else free(path);
        free(entries[i]);
    }
    free(entries);
    if (r->n_runs == before)
        die(EXIT_BAD_INPUT,
            "%s: no metrics.jsonl there or in its folders, expected a directory that "
            "a training program wrote; ./train_sft makes out/sft",
            dir);
}

// Read "NAME=DIR,DIR,..". Without a name, a run is called as its directory.
static void runs_read(Report *r, const char *text) {
    for (const char *s = text; s;) {
        const char *comma = strchr(s, ','), *end = comma ? comma : s + strlen(s);
        char *item = text_format("%.*s", (int)(end - s), s);
        char *equals = path_is_dir(item) ? NULL : strchr(item, '=');
        char *dir = text_copy(equals ? equals + 1 : item);
        if (!*dir || equals == item)
            die(EXIT_USAGE, "--runs %s: expected DIR or NAME=DIR, with commas between", text);
        if (!path_is_dir(dir)) die(EXIT_BAD_INPUT, "%s: no such directory", dir);
        for (size_t n = strlen(dir); n > 1 && dir[n - 1] == '/';) dir[--n] = 0;
        if (equals) *equals = 0;
        const char *slash = strrchr(dir, '/');
        if (is_run(dir)) run_add(r, text_copy(equals ? item : slash ? slash + 1 : dir), dir);
        else if (equals)
            die(EXIT_BAD_INPUT,
                "%s: no metrics.jsonl there, expected a directory that a training "
                "program wrote",
                dir);
        else runs_scan(r, dir), free(dir);
        free(item);
        s = comma ? comma + 1 : NULL;
    }
}

// evaluate calls its baseline "NAME (baseline)"; here it is NAME, as its run and its stage are.
// Strings of JSON are shortened in place.
static void name_shorten(const Report *r, const cJSON *object, const char *key) {
    const cJSON *item = json_get(object, key);
    if (!r->baseline || !cJSON_IsString(item)) return;
    char *tail = strstr(item->valuestring, " (baseline)");
    if (tail && !tail[strlen(" (baseline)")]) *tail = 0;
}

// Read the results of evaluate, and see who is in there.
static void evaluation_read(Report *r, const char *path) {
    const char *hint = "expected what evaluate --output writes";
    r->evaluation = json_read(path);
    const cJSON *models = json_get(r->evaluation, "models"), *item;
    if (json_get(r->evaluation, "benchmarks"))
        die(EXIT_BAD_INPUT, "%s: is of evaluate --benchmark, give it to --benchmarks", path);
    if (!cJSON_IsArray(models)) die(EXIT_BAD_INPUT, "%s: has no array \"models\", %s", path, hint);
    cJSON_ArrayForEach(item, models) {
        if (!string_of(item, "name"))
            die(EXIT_BAD_INPUT, "%s: a model without \"name\", %s", path, hint);
        if (r->n_policies == MAX_NAMES)
            die(EXIT_BAD_INPUT, "%s: more than %d models", path, MAX_NAMES);
        if (cJSON_IsTrue(json_get(item, "baseline"))) r->baseline = item;
        r->policy[r->n_policies++] = item;
    }
    if (!r->n_policies) die(EXIT_BAD_INPUT, "%s: \"models\" is empty, %s", path, hint);
    r->judge = string_of(r->evaluation, "judge");
    for (int i = 0; i < r->n_policies; i++) name_shorten(r, r->policy[i], "name");
    cJSON_ArrayForEach(item, json_get(r->evaluation, "comparisons")) {
        name_shorten(r, item, "a"), name_shorten(r, item, "b");
    }
}

// Put a model's results into the report, after those of other models on the same benchmark. Dies if they
// are there.
static void mark_add(Report *r, const char *path, Mark mark) {
    const char *set = string_of(mark.set, "name"), *model = string_of(mark.model, "name");
    int at = r->n_marks;
    for (int i = 0; i < r->n_marks; i++) {
        if (strcmp(string_of(r->marks[i].set, "name"), set)) continue;
        if (!strcmp(string_of(r->marks[i].model, "name"), model))
            die(EXIT_BAD_INPUT, "%s: %s on %s is there twice", path, model, set);
        at = i + 1;
    }
    r->marks = mem_resize(r->marks, (size_t)r->n_marks + 1, sizeof *r->marks);
    memmove(r->marks + at + 1, r->marks + at, (size_t)(r->n_marks++ - at) * sizeof *r->marks);
    r->marks[at] = mark;
}

// Read what evaluate --benchmark has written, one file or several with commas between.
static void benchmarks_read(Report *r, const char *text) {
    const char *hint = "expected what evaluate --benchmark .. --output writes";
    char *copy = text_copy(text), *rest = copy;
    for (char *path; (path = strsep(&rest, ","));) {
        cJSON *file = json_read(path);
        const cJSON *sets = json_get(file, "benchmarks"), *set, *model;
        r->benchmarks =
            mem_resize(r->benchmarks, (size_t)r->n_benchmarks + 1, sizeof *r->benchmarks);
        r->benchmarks[r->n_benchmarks++] = file;
        if (!cJSON_IsArray(sets) || !sets->child)
            die(EXIT_BAD_INPUT, "%s: has no \"benchmarks\", %s", path, hint);
        cJSON_ArrayForEach(set, sets) {
            if (!string_of(set, "name") || !cJSON_IsArray(json_get(set, "models")))
                die(EXIT_BAD_INPUT, "%s: a benchmark without \"name\" or \"models\", %s", path,
                    hint);
            cJSON_ArrayForEach(model, json_get(set, "models")) {
                if (!string_of(model, "name") ||
                    !isfinite(number_of(json_get(model, "acc"), "mean")))
                    die(EXIT_BAD_INPUT, "%s: a model without \"name\" or \"acc\", %s", path, hint);
                mark_add(r, path, (Mark){set, model});
            }
        }
    }
    free(copy);
}

// Die unless every record has these strings (NULL ends the list).
static void records_check(const char *path, cJSON **records, int n, const char *const *keys,
                          const char *hint) {
    if (!n) die(EXIT_BAD_INPUT, "%s: contains no records", path);
    for (int i = 0; i < n; i++)
        for (int k = 0; keys[k]; k++)
            if (!string_of(records[i], keys[k]))
                die(EXIT_BAD_INPUT, "%s: record %d has no string \"%s\", expected %s", path, i + 1,
                    keys[k], hint);
}

// The frontier as CSV: a line of names, of which kl, gold or reward, error and b (the slope) are
// looked for, then a line of numbers for each point. Sorted by KL.
static void frontier_read(Report *r, const char *path) {
    LineReader reader;
    int columns[4] = {-1, -1, -1, -1}; // of kl, score, error, slope
    lines_open(&reader, path);
    while (lines_next(&reader)) {
        char *rest = reader.line.data, *word;
        double values[4] = {NAN, NAN, 0, NAN};
        for (int c = 0; (word = strsep(&rest, ",")); c++) {
            word[strcspn(word, "\r")] = 0;
            if (reader.number == 1) {
                if (!strcmp(word, "kl")) columns[0] = c;
                if (!strcmp(word, "gold") || !strcmp(word, "reward")) columns[1] = c;
                if (!strcmp(word, "error")) columns[2] = c;
                if (!strcmp(word, "b")) columns[3] = c;
            }
            for (int k = 0; k < 4 && reader.number > 1; k++) {
                char *end = word;
                if (c == columns[k]) values[k] = strtod(word, &end);
                if (c == columns[k] && (end == word || *end || !isfinite(values[k])))
                    die(EXIT_BAD_INPUT, "%s:%ld: \"%s\" is not a number", path, reader.number,
                        word);
            }
        }
        if (columns[0] < 0 || columns[1] < 0)
            die(EXIT_BAD_INPUT, "%s:1: expected CSV whose first line names kl and gold or reward",
                path);
        if (reader.number == 1) continue;
        if (!isfinite(values[0]) || !isfinite(values[1]))
            die(EXIT_BAD_INPUT, "%s:%ld: fewer columns than the first line names", path,
                reader.number);
        r->frontier = mem_resize(r->frontier, (size_t)r->n_frontier + 1, sizeof *r->frontier);
        r->frontier[r->n_frontier++] = (Best){values[0], values[1], values[2], values[3]};
    }
    lines_close(&reader);
    if (r->n_frontier < 2) die(EXIT_BAD_INPUT, "%s: expected two points or more", path);
    qsort(r->frontier, (size_t)r->n_frontier, sizeof *r->frontier, best_compare);
}

// Read the texts. Lines about records that were skipped are left out.
static void samples_read(Report *r, const char *path) {
    const char *const keys[] = {"name", "prompt", "completion", NULL};
    int all, n = 0;
    r->samples = jsonl_read(path, &all);
    for (int i = 0; i < all; i++) {
        if (json_get(r->samples[i], "error")) cJSON_Delete(r->samples[i]);
        else r->samples[n++] = r->samples[i];
    }
    r->n_samples = n;
    records_check(path, r->samples, r->n_samples, keys, "what evaluate --samples_file writes");
    for (int i = 0; i < r->n_samples; i++) name_shorten(r, r->samples[i], "name");
}

// Read what it took to make the runs.
static void stages_read(Report *r, const char *path) {
    const char *const keys[] = {"name", NULL};
    r->stages = jsonl_read(path, &r->n_stages);
    records_check(path, r->stages, r->n_stages, keys, "name, command, seconds, peak_memory_mb");
}

// Give a name the next colour, if it has none.
static void name_collect(Report *r, const char *name) {
    int k = 0;
    while (k < r->n_names && strcmp(r->names[k], name)) k++;
    if (k == r->n_names && k < COUNT(r->names)) r->names[r->n_names++] = name;
}

// Give the policies their colours, in their order; then those who only have done benchmarks, and those
// who only have texts.
static void names_collect(Report *r) {
    for (int i = 0; i < r->n_policies; i++) name_collect(r, string_of(r->policy[i], "name"));
    for (int i = 0; i < r->n_marks; i++) name_collect(r, string_of(r->marks[i].model, "name"));
    for (int i = 0; i < r->n_samples; i++) name_collect(r, string_of(r->samples[i], "name"));
}

// The colour of a name: its place among the policies.
static int name_colour(const Report *r, const char *name) {
    int k = 0;
    while (k < r->n_names && strcmp(r->names[k], name)) k++;
    return k % PLOT_COLOURS;
}

// Free all that was read.
static void report_free(Report *r) {
    for (int i = 0; i < r->n_runs; i++) {
        records_free(r->runs[i].rows, r->runs[i].n);
        free(r->runs[i].name), free(r->runs[i].dir);
    }
    records_free(r->samples, r->n_samples), records_free(r->stages, r->n_stages);
    records_free(r->benchmarks, r->n_benchmarks);
    cJSON_Delete(r->evaluation);
    free(r->frontier), free(r->marks);
}

// ------------------------------------------------------------------------------------------------
// Lookup

// How a policy's score compares with the baseline's, prompt by prompt; NULL if nothing says so.
static const cJSON *policy_gain(const Report *r, const cJSON *policy) {
    const char *name = string_of(policy, "name"), *base = string_of(r->baseline, "name");
    const cJSON *item;
    cJSON_ArrayForEach(item, json_get(r->evaluation, "comparisons")) {
        const char *a = string_of(item, "a"), *b = string_of(item, "b"),
                   *s = string_of(item, "score");
        if (a && b && s && base && r->judge && !strcmp(a, name) && !strcmp(b, base) &&
            !strcmp(s, r->judge))
            return json_get(item, "difference");
    }
    return NULL;
}

// Wins over the baseline by the score that counts, or NULL.
static const cJSON *policy_wins(const Report *r, const cJSON *policy) {
    return r->judge ? json_get(json_get(policy, "wins"), r->judge) : NULL;
}

// The stage of this name, or NULL.
static const cJSON *stage_find(const Report *r, const char *name) {
    for (int i = 0; i < r->n_stages; i++)
        if (!strcmp(string_of(r->stages[i], "name"), name)) return r->stages[i];
    return NULL;
}

// The values of a key in the log against its steps; x and y have room for all rows.
static int run_series(const Run *run, const char *key, double *x, double *y) {
    int n = 0;
    for (int i = 0; i < run->n; i++) {
        const double step = number_of(run->rows[i], "step"), value = number_of(run->rows[i], key);
        if (isfinite(step) && isfinite(value)) x[n] = step, y[n++] = value;
    }
    return n;
}

// The first and the last value of a key in the log, if there are two or more.
static void run_ends(const Run *run, const char *key, double *first, double *last) {
    double *x = mem_alloc((size_t)run->n, sizeof *x), *y = mem_alloc((size_t)run->n, sizeof *y);
    const int n = run_series(run, key, x, y);
    if (n > 1) *first = y[0], *last = y[n - 1];
    free(x), free(y);
}

#endif
