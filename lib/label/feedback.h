// feedback.h: what people say of completions, on disk. From top to bottom:
//
//   judgements  one of them, and its line in the log
//   rows        what the training programs read, made from a judgement
//   files       the log, which is only ever appended to, and the files of rows beside it
//   agreement   of two people on what both have judged
//
// The log is FEEDBACK.jsonl, a line for each judgement, on the disk before the page hears of it. A
// judgement that is taken back stays, with a line {"undo": NUMBER} after it. Beside it are
//
//   FEEDBACK.pairs.jsonl           prompt, chosen, rejected     for train_rm, train_dpo, train_orpo
//   FEEDBACK.labels.jsonl          prompt, completion, label    for train_kto
//   FEEDBACK.demonstrations.jsonl  prompt, completion           for train_sft
//
// which follow from the log and are made anew whenever it is opened. A tie, two completions that are both
// bad and a skip are no pair; two that are both bad are two labels.
#ifndef FEEDBACK_H
#define FEEDBACK_H

#include "../base/disk.h"  // defines: disk_write, disk_sync, DiskFile
#include "../base/json.h"  // defines: json_get
#include "../base/jsonl.h" // defines: LineReader, record_next
#include <sys/file.h>
#include <time.h>

// ------------------------------------------------------------------------------------------------
// Judgements

typedef enum { COMPARE, JUDGE, CORRECT, TALK, MODES } Mode;
static const char *const mode_names[MODES] = {"compare", "judge", "correct", "talk"};

// What was chosen: a completion (0, 1, ..) or one of these.
enum { TIE = -1, BAD = -2, GOOD = -3, EDIT = -4, SKIP = -5, NO_CHOICE = -6 };
static const char *const choice_words[] = {"tie", "bad", "good", "edit", "skip"};

enum { MAX_SHOWN = 4, MAX_PEOPLE = 64 };

typedef struct {
    int who; // index of the person
    Mode mode;
    uint64_t unit; // hash of what was judged: see unit_of
    int choice;
    bool undone;
    int item, of; // where the program has it, and which of its completions; -1: nowhere
} Judgement;

// A judgement as the page sends it, with what it is about.
typedef struct {
    Mode mode;
    int who, choice;
    const char *prompt;                 // JSON: a string or a list of messages
    const char *completions[MAX_SHOWN]; // in the order of sampling, not of the page
    const char *models[MAX_SHOWN];      // NULL: not known
    int n, of;                          // completions; which of them was judged or corrected
    int64_t seed;                       // of the sampling; -1: not sampled here
    const char *text, *note;            // the corrected text; "" or NULL: no note
    double seconds;                     // that the person took
    int item;                           // for Judgement
} Verdict;

// The choice that a word or a number of the log, or of a request, stands for; NO_CHOICE: none.
static int choice_parse(const cJSON *item, int n) {
    int64_t k;
    if (json_integer(item, &k) && k >= 0 && k < n) return (int)k;
    for (int i = 0; i < COUNT(choice_words); i++)
        if (cJSON_IsString(item) && !strcmp(item->valuestring, choice_words[i])) return -1 - i;
    return NO_CHOICE;
}

// True if this choice can be made in this mode.
static bool choice_fits(int choice, Mode mode) {
    switch (choice) {
    case NO_CHOICE:
        return false;
    case SKIP:
        return true;
    case BAD:
        return mode != CORRECT;
    case GOOD:
        return mode == JUDGE || mode == TALK;
    case EDIT:
        return mode == CORRECT;
    default:
        return mode == COMPARE; // TIE or a completion
    }
}

// The mode of this name; MODES: there is none.
static Mode mode_parse(const char *name) {
    int m = 0;
    while (m < MODES && (!name || strcmp(name, mode_names[m]))) m++;
    return (Mode)m;
}

// What a judgement is about, as a number: the prompt (JSON) and all completions where they were compared,
// else the one that was judged. Two people judged the same if this is the same.
static uint64_t unit_of(const Verdict *v) {
    DiskHash h = disk_hash_begin();
    disk_hash_add(&h, v->prompt, strlen(v->prompt) + 1);
    for (int i = 0; i < v->n; i++)
        if (v->mode == COMPARE || i == v->of)
            disk_hash_add(&h, v->completions[i], strlen(v->completions[i]) + 1);
    return disk_hash_end(&h);
}

// Append the time now in UTC, as ISO 8601 has it.
static void text_time(Text *out) {
    char s[32];
    const time_t now = time(NULL);
    struct tm utc;
    strftime(s, sizeof s, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    text_print(out, "\"%s\"", s);
}

static void text_string(Text *out, const char *s) { text_json(out, s, strlen(s)); }

// Append the line of a judgement.
static void verdict_line(Text *out, const Verdict *v, int number, const char *who) {
    text_print(out, "{\"number\": %d, \"mode\": \"%s\", \"who\": ", number, mode_names[v->mode]);
    text_string(out, who);
    text_print(out, ", \"when\": ");
    text_time(out);
    text_print(out, ", \"seconds\": %.1f, \"prompt\": %s, \"completions\": [", v->seconds,
               v->prompt);
    for (int i = 0; i < v->n; i++) {
        text_print(out, i ? ", " : "");
        text_string(out, v->completions[i]);
    }
    text_print(out, "], \"models\": [");
    for (int i = 0; i < v->n; i++) {
        text_print(out, i ? ", " : "");
        if (v->models[i]) text_string(out, v->models[i]);
        else text_print(out, "null");
    }
    text_print(out, "], \"seed\": ");
    if (v->seed >= 0) text_print(out, "%" PRId64, v->seed);
    else text_print(out, "null");
    if (v->mode != COMPARE) text_print(out, ", \"of\": %d", v->of);
    if (v->choice >= 0) text_print(out, ", \"choice\": %d", v->choice);
    else text_print(out, ", \"choice\": \"%s\"", choice_words[-1 - v->choice]);
    if (v->choice == EDIT) {
        text_print(out, ", \"text\": ");
        text_string(out, v->text);
    }
    if (v->note && *v->note) {
        text_print(out, ", \"note\": ");
        text_string(out, v->note);
    }
    text_print(out, "}\n");
}

// ------------------------------------------------------------------------------------------------
// Rows

enum { PAIRS, LABELS, DEMONSTRATIONS, ROW_FILES };
static const char *const row_names[ROW_FILES] = {"pairs", "labels", "demonstrations"};

// Append "key": value, and a comma before it if it is not the first; nothing if there is no value.
static void text_member(Text *out, const char *key, const cJSON *value) {
    if (!value || cJSON_IsNull(value)) return;
    char *json = cJSON_PrintUnformatted(value);
    text_print(out, "%s\"%s\": %s", out->data[out->size - 1] == '{' ? "" : ", ", key, json);
    free(json);
}

// Append a text of the assistant's: a string, or where the prompt is a list of messages, a list with one more.
static void text_reply(Text *out, const char *key, const cJSON *line, const cJSON *text) {
    char *json = cJSON_PrintUnformatted(text);
    if (cJSON_IsArray(json_get(line, "prompt")))
        text_print(out, ", \"%s\": [{\"role\": \"assistant\", \"content\": %s}]", key, json);
    else text_print(out, ", \"%s\": %s", key, json);
    free(json);
}

// Append the end of a row: who judged, when, from which seed the text is, and the note.
static void row_end(Text *out, const cJSON *line) {
    static const char *const keys[] = {"seed", "who", "when", "note"};
    for (int i = 0; i < COUNT(keys); i++) text_member(out, keys[i], json_get(line, keys[i]));
    text_print(out, "}\n");
}

// Append a pair, unless both are the same. A model is NULL if a person wrote the text.
static void row_of_pair(Text *out, const cJSON *line, const cJSON *chosen, const cJSON *rejected,
                        const cJSON *chosen_model, const cJSON *rejected_model) {
    if (!strcmp(chosen->valuestring, rejected->valuestring)) return;
    text_print(out, "{");
    text_member(out, "prompt", json_get(line, "prompt"));
    text_reply(out, "chosen", line, chosen);
    text_reply(out, "rejected", line, rejected);
    text_member(out, "chosen_model", chosen_model);
    text_member(out, "rejected_model", rejected_model);
    row_end(out, line);
}

// Append a labelled completion, or, without a label (NULL), a demonstration.
static void row_of_text(Text *out, const cJSON *line, const cJSON *completion, const char *label,
                        const cJSON *model) {
    text_print(out, "{");
    text_member(out, "prompt", json_get(line, "prompt"));
    text_reply(out, "completion", line, completion);
    if (label) text_print(out, ", \"label\": %s", label);
    text_member(out, "model", model);
    row_end(out, line);
}

// Append the rows that a line of the log stands for. A list's completion number i is cJSON's, so
// this is quadratic in MAX_SHOWN only.
static void rows_of(Text out[ROW_FILES], const cJSON *line) {
    const cJSON *texts = json_get(line, "completions"), *models = json_get(line, "models");
    const Mode mode = mode_parse(cJSON_GetStringValue(json_get(line, "mode")));
    const int n = cJSON_GetArraySize(texts);
    const int choice = choice_parse(json_get(line, "choice"), n);
    const cJSON *of = json_get(line, "of");
    const int one = cJSON_IsNumber(of) ? of->valueint : 0;
    const cJSON *text = cJSON_GetArrayItem(texts, one), *model = cJSON_GetArrayItem(models, one);
    if (choice >= 0) {
        for (int i = 0; i < n; i++)
            if (i != choice)
                row_of_pair(&out[PAIRS], line, cJSON_GetArrayItem(texts, choice),
                            cJSON_GetArrayItem(texts, i), cJSON_GetArrayItem(models, choice),
                            cJSON_GetArrayItem(models, i));
    } else if (choice == BAD && mode == COMPARE) {
        for (int i = 0; i < n; i++)
            row_of_text(&out[LABELS], line, cJSON_GetArrayItem(texts, i), "false",
                        cJSON_GetArrayItem(models, i));
    } else if (choice == GOOD || choice == BAD) {
        row_of_text(&out[LABELS], line, text, choice == GOOD ? "true" : "false", model);
    } else if (choice == EDIT) {
        const cJSON *edited = json_get(line, "text");
        row_of_pair(&out[PAIRS], line, edited, text, NULL, model);
        row_of_text(&out[DEMONSTRATIONS], line, edited, NULL, NULL);
    }
}

// ------------------------------------------------------------------------------------------------
// Files

typedef struct {
    char *path, *row_paths[ROW_FILES];
    int fd;          // of the log, locked
    off_t size;      // of the log
    Judgement *list; // (n) the judgement of number i + 1 is i
    int n, max_n;
    char *people[MAX_PEOPLE];
    int n_people;
} Feedback;

// The index of a person; a new one if nobody has this name yet. -1: there are too many.
static int person_find(Feedback *f, const char *name) {
    int i = 0;
    while (i < f->n_people && strcmp(f->people[i], name)) i++;
    if (i == MAX_PEOPLE) return -1;
    if (i == f->n_people) f->people[f->n_people++] = text_copy(name);
    return i;
}

// What a line of the log says, and its prompt as a new string; false if it is no judgement of ours.
static bool line_verdict(Verdict *v, char **prompt, const cJSON *line) {
    const cJSON *texts = json_get(line, "completions"), *models = json_get(line, "models");
    const cJSON *text, *of = json_get(line, "of"), *seed = json_get(line, "seed");
    *prompt = cJSON_PrintUnformatted(json_get(line, "prompt"));
    *v = (Verdict){.mode = mode_parse(cJSON_GetStringValue(json_get(line, "mode"))),
                   .prompt = *prompt,
                   .seed = cJSON_IsNumber(seed) ? (int64_t)seed->valuedouble : -1,
                   .of = cJSON_IsNumber(of) ? of->valueint : 0,
                   .item = -1};
    cJSON_ArrayForEach(text, texts) {
        if (v->n == MAX_SHOWN || !cJSON_IsString(text)) return false;
        v->models[v->n] = cJSON_GetStringValue(cJSON_GetArrayItem(models, v->n));
        v->completions[v->n++] = text->valuestring;
    }
    v->choice = choice_parse(json_get(line, "choice"), v->n);
    return *prompt && choice_fits(v->choice, v->mode) && v->of >= 0 && v->of < v->n &&
           (v->choice != EDIT || cJSON_IsString(json_get(line, "text")));
}

static void feedback_remember(Feedback *f, const Verdict *v) {
    if (f->n == f->max_n) {
        f->max_n = 2 * f->max_n + 64;
        f->list = mem_resize(f->list, (size_t)f->max_n, sizeof *f->list);
    }
    f->list[f->n++] = (Judgement){.who = v->who,
                                  .mode = v->mode,
                                  .unit = unit_of(v),
                                  .choice = v->choice,
                                  .item = v->item,
                                  .of = v->of};
}

// Take a line of the log: a judgement with the next number, or one that is taken back.
static void feedback_take(Feedback *f, const LineReader *r, const cJSON *line) {
    int64_t number;
    char *prompt = NULL;
    Verdict v;
    const char *who = cJSON_GetStringValue(json_get(line, "who"));
    if (json_integer(json_get(line, "undo"), &number)) {
        if (number < 1 || number > f->n)
            die(EXIT_BAD_INPUT, "%s:%ld: undoes number %" PRId64 ", which is not before it",
                r->path, r->number, number);
        f->list[number - 1].undone = true;
        return;
    }
    if (!json_integer(json_get(line, "number"), &number) || !who ||
        !line_verdict(&v, &prompt, line))
        die(EXIT_BAD_INPUT, "%s:%ld: is no judgement that label has written", r->path, r->number);
    if (number != f->n + 1)
        die(EXIT_BAD_INPUT, "%s:%ld: number %" PRId64 ", expected %d: a line is missing or twice",
            r->path, r->number, number, f->n + 1);
    v.who = person_find(f, who);
    if (v.who < 0) die(EXIT_BAD_INPUT, "%s: more than %d people", r->path, MAX_PEOPLE);
    feedback_remember(f, &v);
    free(prompt);
}

// Make the files of rows anew from the log, each whole or not at all. Returns an errno.
static int rows_remake(const Feedback *f) {
    Text rows[ROW_FILES] = {0};
    LineReader r;
    int error = 0;
    lines_open(&r, f->path);
    for (cJSON *line; f->n && (line = record_next(&r)); cJSON_Delete(line)) {
        int64_t number;
        if (json_integer(json_get(line, "number"), &number) && !f->list[number - 1].undone)
            rows_of(rows, line);
    }
    lines_close(&r);
    for (int k = 0; k < ROW_FILES; k++) {
        DiskFile file = disk_file_begin(f->row_paths[k]);
        if (rows[k].size) disk_file_write(&file, rows[k].data, rows[k].size);
        const int e = disk_file_end(&file, true);
        if (e && !error) error = e;
        text_free(&rows[k]);
    }
    return error;
}

// Open the log at `path`, which is made if it is not there, and keep all others out. A last line that
// a kill has cut goes: nobody was told that it is on the disk. Dies where the file is not ours.
static void feedback_open(Feedback *f, const char *path) {
    const size_t stem = strlen(path) - (text_has_suffix(path, ".jsonl") ? 6 : 0);
    *f = (Feedback){.path = text_copy(path), .fd = disk_open(path, O_RDWR | O_CREAT)};
    if (f->fd < 0) die(EXIT_IO, "%s: cannot open: %s", path, strerror(errno));
    if (flock(f->fd, LOCK_EX | LOCK_NB))
        die(EXIT_IO, "%s: another program is writing it; choose another --output", path);
    for (int k = 0; k < ROW_FILES; k++)
        f->row_paths[k] = text_format("%.*s.%s.jsonl", (int)stem, path, row_names[k]);
    size_t size;
    char *all = file_read(path, &size);
    f->size = (off_t)size;
    while (f->size && all[f->size - 1] != '\n') f->size--;
    free(all);
    if (f->size < (off_t)size) {
        warn("%s: its last line was cut off and is gone", path);
        if (ftruncate(f->fd, f->size)) die(EXIT_IO, "%s: cannot write: %s", path, strerror(errno));
    }
    LineReader r;
    lines_open(&r, path);
    for (cJSON *line; f->size && (line = record_next(&r)); cJSON_Delete(line))
        feedback_take(f, &r, line);
    lines_close(&r);
    const int error = rows_remake(f);
    if (error) die(EXIT_IO, "%s: cannot write what is made from it: %s", path, strerror(error));
}

// Append text to a file and sync it; where that fails the file keeps its length. Returns an errno.
static int file_append(int fd, off_t size, const Text *text) {
    int error = 0;
    if (lseek(fd, size, SEEK_SET) < 0 || disk_write(fd, text->data, text->size) || disk_sync(fd))
        error = errno;
    if (error && ftruncate(fd, size)) warn("cannot take back what was half written");
    return error;
}

// The same for a file of rows, at its end.
static int rows_append(const char *path, const Text *rows) {
    const int fd = disk_open(path, O_WRONLY | O_CREAT);
    if (fd < 0) return errno;
    int error = file_append(fd, lseek(fd, 0, SEEK_END), rows);
    if (disk_close(fd) && !error) error = errno;
    return error;
}

// True if this person has judged this already and did not take it back.
static bool feedback_has(const Feedback *f, const Verdict *v) {
    const uint64_t unit = unit_of(v);
    for (int i = f->n - 1; i >= 0; i--) {
        const Judgement *j = &f->list[i];
        if (j->unit == unit && j->who == v->who && j->mode == v->mode && !j->undone) return true;
    }
    return false;
}

// Put a judgement on the disk. Returns 0 once it is there, or the errno of what failed; then it is not
// in the log. The number of a row's file is that of ROW_FILES.
static int feedback_add(Feedback *f, const Verdict *v) {
    Text line = {0}, rows[ROW_FILES] = {0};
    verdict_line(&line, v, f->n + 1, f->people[v->who]);
    cJSON *json = cJSON_ParseWithLength(line.data, line.size);
    rows_of(rows, json);
    cJSON_Delete(json);
    int error = file_append(f->fd, f->size, &line);
    for (int k = 0; k < ROW_FILES && !error; k++)
        if (rows[k].size && (error = rows_append(f->row_paths[k], &rows[k])))
            if (ftruncate(f->fd, f->size)) warn("%s: cannot take back a line", f->path);
    if (!error) {
        f->size += (off_t)line.size;
        feedback_remember(f, v);
    }
    text_free(&line);
    for (int k = 0; k < ROW_FILES; k++) text_free(&rows[k]);
    return error;
}

// Take back the last judgement of a person; *which gets it, or NULL if there is none. Returns an errno.
static int feedback_undo(Feedback *f, int who, const Judgement **which) {
    int i = f->n - 1;
    while (i >= 0 && (f->list[i].who != who || f->list[i].undone)) i--;
    *which = NULL;
    if (i < 0) return 0;
    Text line = {0};
    text_print(&line, "{\"undo\": %d, \"who\": ", i + 1);
    text_string(&line, f->people[who]);
    text_print(&line, ", \"when\": ");
    text_time(&line);
    text_print(&line, "}\n");
    const int error = file_append(f->fd, f->size, &line);
    if (!error) {
        f->size += (off_t)line.size;
        f->list[i].undone = true;
        *which = &f->list[i];
    }
    text_free(&line);
    return error ? error : rows_remake(f);
}

static void feedback_close(Feedback *f) {
    close(f->fd); // which frees the lock
    for (int k = 0; k < ROW_FILES; k++) free(f->row_paths[k]);
    for (int i = 0; i < f->n_people; i++) free(f->people[i]);
    free(f->path), free(f->list);
    *f = (Feedback){.fd = -1};
}

// ------------------------------------------------------------------------------------------------
// Agreement

typedef struct {
    int n;               // units that both have judged and not skipped
    double share, kappa; // of equal choices; Cohen's kappa, nan where all choices are one
} Agreement;

static int judgement_compare(const void *a, const void *b) {
    const Judgement *x = a, *y = b;
    return x->unit != y->unit ? (x->unit > y->unit) - (x->unit < y->unit) : x->who - y->who;
}

// How far two people agree in a mode (Cohen 1960): with p the share of equal choices and q the share
// that two people with their habits would have by chance, kappa = (p - q) / (1 - q). Which side a
// completion was shown on does not count, nor does how somebody corrected.
static Agreement agreement_of(const Feedback *f, Mode mode, int a, int b) {
    enum { KINDS = MAX_SHOWN - EDIT };
    double counts[2][KINDS] = {{0}};
    Agreement g = {0};
    Judgement *both = mem_alloc((size_t)f->n, sizeof *both);
    int n = 0, equal = 0;
    for (int i = 0; i < f->n; i++) {
        const Judgement *j = &f->list[i];
        const bool counts_here = j->mode == mode && !j->undone && j->choice != SKIP;
        if (counts_here && (j->who == a || j->who == b)) both[n++] = *j;
    }
    qsort(both, (size_t)n, sizeof *both, judgement_compare);
    for (int i = 1; i < n; i++) {
        if (both[i].unit != both[i - 1].unit || both[i].who == both[i - 1].who) continue;
        g.n++;
        equal += both[i].choice == both[i - 1].choice;
        for (int k = 0; k < 2; k++) counts[k][both[i - 1 + k].choice - EDIT]++;
    }
    free(both);
    double chance = 0;
    for (int k = 0; k < KINDS; k++) chance += counts[0][k] * counts[1][k] / ((double)g.n * g.n);
    g.share = (double)equal / g.n;
    g.kappa = chance < 1 ? (g.share - chance) / (1 - chance) : NAN;
    return g;
}

#endif
