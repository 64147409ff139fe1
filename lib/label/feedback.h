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

#include "../base/disk.h" // defines: disk_write, disk_sync, DiskFile
#include "../base/json.h" // defines: json_parse, json_get
#include <sys/file.h>

// ------------------------------------------------------------------------------------------------
// Judgements

typedef enum { COMPARE, JUDGE, CORRECT, TALK, MODES } Mode;
static const char *const mode_names[MODES] = {"compare", "judge", "correct", "talk"};

// What was chosen: a completion (0, 1, ..) or one of these.
enum { TIE = -1, BAD = -2, GOOD = -3, EDIT = -4, SKIP = -5, NO_CHOICE = -6 };
static const char *const choice_words[] = {"tie", "bad", "good", "edit", "skip"};

enum { MAX_SHOWN = 4, MAX_PEOPLE = 64 };

typedef struct {
    char *line; // as the log has it, without its end
    int who;    // index of the person
    Mode mode;
    uint64_t unit; // hash of what was judged: see unit_of
    int choice;
    uint64_t text; // hash of a corrected text
    bool undone;
    int item, of;   // where the program has it, and which of its completions; -1: nowhere
    int64_t answer; // of a talk: its number; 0: of an earlier run
} Judgement;

// A judgement as the page sends it, with what it is about.
typedef struct {
    Mode mode;
    int who, choice;
    const char *prompt;                 // JSON: a string or a list of messages
    const char *completions[MAX_SHOWN]; // in the order of sampling, not of the page
    const char *models[MAX_SHOWN];      // NULL: not known
    const char *finish[MAX_SHOWN];      // why each ended, as `generate` says it; NULL: not known
    int n, of;                          // completions; which of them was judged or corrected
    int64_t seed;                       // of the sampling; -1: not sampled here
    const char *sampling;               // hash of weights and settings; NULL: not sampled here
    const char *text, *note;            // the corrected text; "" or NULL: no note
    double seconds;                     // that the person took
    int item;                           // for Judgement
    int64_t answer;                     // likewise
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

// Append a list of strings; NULL becomes null.
static void text_strings(Text *out, const char *const *s, int n) {
    text_print(out, "[");
    for (int i = 0; i < n; i++) {
        text_print(out, i ? ", " : "");
        if (s[i]) text_string(out, s[i]);
        else text_print(out, "null");
    }
    text_print(out, "]");
}

// Append the line of a judgement.
static void verdict_line(Text *out, const Verdict *v, int number, const char *who) {
    text_print(out, "{\"number\": %d, \"mode\": \"%s\", \"who\": ", number, mode_names[v->mode]);
    text_string(out, who);
    text_print(out, ", \"when\": ");
    text_time(out);
    text_print(out, ", \"seconds\": %.1f, \"prompt\": %s, \"completions\": ", v->seconds,
               v->prompt);
    text_strings(out, v->completions, v->n);
    text_print(out, ", \"models\": ");
    text_strings(out, v->models, v->n);
    text_print(out, ", \"finish\": ");
    text_strings(out, v->finish, v->n);
    if (v->seed >= 0) text_print(out, ", \"seed\": %" PRId64, v->seed);
    if (v->sampling) text_print(out, ", \"sampling\": \"%s\"", v->sampling);
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

// Append text i of the line as `key`: a completion, or, if i is -1, what a person made of one. It is a string,
// or where the prompt is a list of messages, a list with one more. Then, with `about` before their names, the
// model that wrote it and why it ended.
static void text_reply(Text *out, const char *key, const char *about, const cJSON *line, int i) {
    const cJSON *text =
        i < 0 ? json_get(line, "text") : cJSON_GetArrayItem(json_get(line, "completions"), i);
    char *json = cJSON_PrintUnformatted(text), *name = text_format("%smodel", about);
    if (cJSON_IsArray(json_get(line, "prompt")))
        text_print(out, ", \"%s\": [{\"role\": \"assistant\", \"content\": %s}]", key, json);
    else text_print(out, ", \"%s\": %s", key, json);
    text_member(out, name, i < 0 ? NULL : cJSON_GetArrayItem(json_get(line, "models"), i));
    free(name);
    name = text_format("%sfinish", about);
    text_member(out, name, i < 0 ? NULL : cJSON_GetArrayItem(json_get(line, "finish"), i));
    free(json), free(name);
}

// Append the end of a row: from which seed the text is, who judged, when, and the note.
static void row_end(Text *out, const cJSON *line) {
    static const char *const keys[] = {"seed", "who", "when", "note"};
    for (int i = 0; i < COUNT(keys); i++) text_member(out, keys[i], json_get(line, keys[i]));
    text_print(out, "}\n");
}

// Append a pair of two texts of the line, as text_reply counts them.
static void row_of_pair(Text *out, const cJSON *line, int chosen, int rejected) {
    text_print(out, "{");
    text_member(out, "prompt", json_get(line, "prompt"));
    text_reply(out, "chosen", "chosen_", line, chosen);
    text_reply(out, "rejected", "rejected_", line, rejected);
    row_end(out, line);
}

// Append a text with a label, or, without one (NULL), as a demonstration.
static void row_of_text(Text *out, const cJSON *line, int i, const char *label) {
    text_print(out, "{");
    text_member(out, "prompt", json_get(line, "prompt"));
    text_reply(out, "completion", "", line, i);
    if (label) text_print(out, ", \"label\": %s", label);
    row_end(out, line);
}

// True if completions i and k of the line are the same text.
static bool line_equal(const cJSON *line, int i, int k) {
    const cJSON *texts = json_get(line, "completions");
    return cJSON_Compare(cJSON_GetArrayItem(texts, i), cJSON_GetArrayItem(texts, k), true);
}

// Append the rows that a line of the log stands for.
static void rows_of(Text out[ROW_FILES], const cJSON *line) {
    const Mode mode = mode_parse(cJSON_GetStringValue(json_get(line, "mode")));
    const int n = cJSON_GetArraySize(json_get(line, "completions"));
    const int choice = choice_parse(json_get(line, "choice"), n);
    const cJSON *of = json_get(line, "of");
    const int one = cJSON_IsNumber(of) ? of->valueint : 0;
    if (choice >= 0) {
        for (int i = 0; i < n; i++)
            if (!line_equal(line, i, choice)) row_of_pair(&out[PAIRS], line, choice, i);
    } else if (choice == BAD && mode == COMPARE) {
        for (int i = 0; i < n; i++) row_of_text(&out[LABELS], line, i, "false");
    } else if (choice == GOOD || choice == BAD) {
        row_of_text(&out[LABELS], line, one, choice == GOOD ? "true" : "false");
    } else if (choice == EDIT) {
        row_of_pair(&out[PAIRS], line, -1, one);
        row_of_text(&out[DEMONSTRATIONS], line, -1, NULL);
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
    bool stale;  // the rows are not what the log says: they are to be made anew
    bool broken; // the log has a half line that could not be taken back: nothing more is written
} Feedback;

// The path of a file of rows beside the log; free() it.
static char *rows_path(const char *log, int k) {
    const size_t stem = strlen(log) - (text_has_suffix(log, ".jsonl") ? 6 : 0);
    return text_format("%.*s.%s.jsonl", (int)stem, log, row_names[k]);
}

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
    const cJSON *finish = json_get(line, "finish"), *text, *of = json_get(line, "of"),
                *seed = json_get(line, "seed");
    *prompt = cJSON_PrintUnformatted(json_get(line, "prompt"));
    *v = (Verdict){.mode = mode_parse(cJSON_GetStringValue(json_get(line, "mode"))),
                   .prompt = *prompt,
                   .seed = cJSON_IsNumber(seed) ? (int64_t)seed->valuedouble : -1,
                   .sampling = cJSON_GetStringValue(json_get(line, "sampling")),
                   .text = cJSON_GetStringValue(json_get(line, "text")),
                   .of = cJSON_IsNumber(of) ? of->valueint : 0,
                   .item = -1};
    cJSON_ArrayForEach(text, texts) {
        if (v->n == MAX_SHOWN || !cJSON_IsString(text)) return false;
        v->models[v->n] = cJSON_GetStringValue(cJSON_GetArrayItem(models, v->n));
        v->finish[v->n] = cJSON_GetStringValue(cJSON_GetArrayItem(finish, v->n));
        v->completions[v->n++] = text->valuestring;
    }
    v->choice = choice_parse(json_get(line, "choice"), v->n);
    return *prompt && choice_fits(v->choice, v->mode) && v->of >= 0 && v->of < v->n &&
           (v->choice != EDIT || v->text);
}

// A hash of what a corrected text became; the same number for all other choices.
static uint64_t verdict_text(const Verdict *v) {
    DiskHash h = disk_hash_begin();
    if (v->choice == EDIT) disk_hash_add(&h, v->text, strlen(v->text));
    return disk_hash_end(&h);
}

// Keep a judgement, with its line of the log, text[0..n).
static void feedback_remember(Feedback *f, const Verdict *v, const char *text, size_t n) {
    if (f->n == f->max_n) {
        f->max_n = 2 * f->max_n + 64;
        f->list = mem_resize(f->list, (size_t)f->max_n, sizeof *f->list);
    }
    f->list[f->n++] = (Judgement){.line = text_format("%.*s", (int)n, text),
                                  .who = v->who,
                                  .mode = v->mode,
                                  .unit = unit_of(v),
                                  .choice = v->choice,
                                  .text = verdict_text(v),
                                  .answer = v->answer,
                                  .item = v->item,
                                  .of = v->of};
}

// Take a line of the log, `text`, number `line` of its file: a judgement with the next number, or one that is
// taken back. Dies (EXIT_BAD_INPUT) if it is neither.
static void feedback_take(Feedback *f, const char *text, size_t n, const char *path, long line) {
    int64_t number;
    char *prompt = NULL;
    Verdict v;
    cJSON *json = json_parse(text, n, path, line);
    const char *who = cJSON_GetStringValue(json_get(json, "who"));
    if (json_integer(json_get(json, "undo"), &number)) {
        if (number < 1 || number > f->n)
            die(EXIT_BAD_INPUT, "%s:%ld: undoes number %" PRId64 ", which is not before it", path,
                line, number);
        f->list[number - 1].undone = true;
    } else {
        if (!json_integer(json_get(json, "number"), &number) || !who ||
            !line_verdict(&v, &prompt, json))
            die(EXIT_BAD_INPUT, "%s:%ld: is no judgement that label has written", path, line);
        if (number != f->n + 1)
            die(EXIT_BAD_INPUT,
                "%s:%ld: number %" PRId64 ", expected %d: a line is missing or twice", path, line,
                number, f->n + 1);
        v.who = person_find(f, who);
        if (v.who < 0) die(EXIT_BAD_INPUT, "%s: more than %d people", path, MAX_PEOPLE);
        feedback_remember(f, &v, text, n);
    }
    free(prompt);
    cJSON_Delete(json);
}

// A file of rows could not be written. The log has it all, so nothing is lost.
static void rows_failed(Feedback *f, int k, int error) {
    if (!f->stale)
        warn("%s: cannot write: %s; it is made anew from %s at the next judgement or start",
             f->row_paths[k], strerror(error), f->path);
    f->stale = true;
}

// True if text[0..n) is the beginning of a line of the log, or a line begins with it.
static bool line_is_ours(const char *text, size_t n) {
    static const char *const begins[] = {"{\"number\": ", "{\"undo\": "};
    for (int i = 0; i < COUNT(begins); i++) {
        const size_t m = strlen(begins[i]);
        if (!memcmp(text, begins[i], n < m ? n : m)) return true;
    }
    return false;
}

// Make the files of rows anew, each whole or not at all. Where that fails they are stale.
static void rows_remake(Feedback *f) {
    Text rows[ROW_FILES] = {0};
    f->stale = false;
    for (int i = 0; i < f->n; i++) {
        if (f->list[i].undone) continue;
        cJSON *line = cJSON_Parse(f->list[i].line);
        rows_of(rows, line);
        cJSON_Delete(line);
    }
    for (int k = 0; k < ROW_FILES; k++) {
        DiskFile file = disk_file_begin(f->row_paths[k]);
        if (rows[k].size) disk_file_write(&file, rows[k].data, rows[k].size);
        const int error = disk_file_end(&file, true);
        if (error) rows_failed(f, k, error);
        text_free(&rows[k]);
    }
}

// Open the log at `path`, which is made if it is not there, and keep all others out. A last line that
// a kill has cut goes: nobody was told that it is on the disk. Dies where the file is not ours.
static void feedback_open(Feedback *f, const char *path) {
    *f = (Feedback){.path = text_copy(path), .fd = disk_open(path, O_RDWR | O_CREAT)};
    if (f->fd < 0) die(EXIT_IO, "%s: cannot open: %s", path, strerror(errno));
    if (flock(f->fd, LOCK_EX | LOCK_NB))
        die(EXIT_IO, "%s: another program is writing it; choose another --output", path);
    for (int k = 0; k < ROW_FILES; k++) f->row_paths[k] = rows_path(path, k);
    size_t size;
    char *all = file_read(path, &size);
    f->size = (off_t)size;
    while (f->size && all[f->size - 1] != '\n') f->size--;
    if (size && (!line_is_ours(all, size) || !line_is_ours(all + f->size, size - (size_t)f->size)))
        die(EXIT_BAD_INPUT, "%s: is no log of label's; choose another --output", path);
    if (f->size < (off_t)size) {
        warn("%s: its last line was cut off and is gone", path);
        if (ftruncate(f->fd, f->size)) die(EXIT_IO, "%s: cannot write: %s", path, strerror(errno));
    }
    long number = 0;
    for (const char *line = all, *end; line < all + f->size; line = end + 1) {
        end = memchr(line, '\n', (size_t)(all + f->size - line));
        feedback_take(f, line, (size_t)(end - line), path, ++number);
    }
    free(all);
    struct stat st;
    for (int k = 0; k < ROW_FILES; k++)
        if (!f->n && !stat(f->row_paths[k], &st) && st.st_size)
            die(EXIT_BAD_INPUT, "%s: has rows, and %s no judgement: move it away", f->row_paths[k],
                path);
    rows_remake(f);
    if (f->stale) die(EXIT_IO, "%s: what is made from it cannot be written", path);
}

// Append a line to the log and sync it; where that fails the log keeps its length. Returns an errno.
static int log_append(Feedback *f, const Text *line) {
    if (f->broken) return EIO;
    int error = 0;
    if (lseek(f->fd, f->size, SEEK_SET) < 0 || disk_write(f->fd, line->data, line->size) ||
        disk_sync(f->fd))
        error = errno;
    if (!error) f->size += (off_t)line->size;
    else f->broken = ftruncate(f->fd, f->size);
    return error;
}

// Append rows to a file of them and sync it. Returns an errno.
static int rows_append(const char *path, const Text *rows) {
    const int fd = disk_open(path, O_WRONLY | O_CREAT | O_APPEND);
    if (fd < 0) return errno;
    int error = disk_write(fd, rows->data, rows->size) || disk_sync(fd) ? errno : 0;
    if (disk_close(fd) && !error) error = errno;
    return error;
}

// This person's judgement of the same, if it was not taken back, or NULL.
static const Judgement *feedback_find(const Feedback *f, const Verdict *v) {
    const uint64_t unit = unit_of(v);
    for (int i = f->n - 1; i >= 0; i--) {
        const Judgement *j = &f->list[i];
        if (j->unit == unit && j->who == v->who && j->mode == v->mode && !j->undone) return j;
    }
    return NULL;
}

// Put a judgement on the disk. Returns 0 once the log has it, or the errno of what failed; then it does not.
static int feedback_add(Feedback *f, const Verdict *v) {
    Text line = {0}, rows[ROW_FILES] = {0};
    verdict_line(&line, v, f->n + 1, f->people[v->who]);
    const int error = log_append(f, &line);
    if (!error) {
        cJSON *json = cJSON_ParseWithLength(line.data, line.size);
        feedback_remember(f, v, line.data, line.size - 1);
        rows_of(rows, json);
        cJSON_Delete(json);
        if (f->stale) rows_remake(f);
        else
            for (int k = 0; k < ROW_FILES; k++) {
                const int failed = rows[k].size ? rows_append(f->row_paths[k], &rows[k]) : 0;
                if (failed) rows_failed(f, k, failed);
            }
    }
    text_free(&line);
    for (int k = 0; k < ROW_FILES; k++) text_free(&rows[k]);
    return error;
}

// The index of a person's last judgement that was not taken back; -1: there is none.
static int feedback_last(const Feedback *f, int who) {
    int i = f->n - 1;
    while (i >= 0 && (f->list[i].who != who || f->list[i].undone)) i--;
    return i;
}

// Take back judgement i. Returns 0 once the log has it, or an errno.
static int feedback_undo(Feedback *f, int i) {
    Text line = {0};
    text_print(&line, "{\"undo\": %d, \"who\": ", i + 1);
    text_string(&line, f->people[f->list[i].who]);
    text_print(&line, ", \"when\": ");
    text_time(&line);
    text_print(&line, "}\n");
    const int error = log_append(f, &line);
    text_free(&line);
    if (error) return error;
    f->list[i].undone = true;
    rows_remake(f);
    return 0;
}

// Let the log go.
static void feedback_close(Feedback *f) {
    if (f->stale) rows_remake(f);
    close(f->fd); // which frees the lock
    for (int k = 0; k < ROW_FILES; k++) free(f->row_paths[k]);
    for (int i = 0; i < f->n_people; i++) free(f->people[i]);
    for (int i = 0; i < f->n; i++) free(f->list[i].line);
    free(f->path), free(f->list);
    *f = (Feedback){.fd = -1};
}

// ------------------------------------------------------------------------------------------------
// Agreement

typedef struct {
    int n;               // units that both have judged and not skipped
    double share, kappa; // of equal choices; Cohen's kappa, nan where all choices are one
} Agreement;

// By what was judged, then by person.
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
