// dataset.h: from a file of texts to rows of tokens with a loss mask. From top to bottom:
//
//   lines      reading JSONL, and what is no JSONL
//   columns    typed access to the members of one record
//   chat       messages as text
//   drafts     one example as text in parts, with and without loss
//   rows       tokens, masks, truncation, faults of content
//   forms      text, prompt + completion, messages, plain .txt
//   use        loading, report, split, batches
//
// There are two kinds of faults. Those of structure (no JSON, a missing or mistyped column) are
// mistakes in making the file and stop the program with file and line. Those of content (an empty
// completion, a prompt as long as the context) happen in any big file: such a record is skipped and
// counted, the first three are named, and only a file with nothing else is an error.
#ifndef DATASET_H
#define DATASET_H

#include "common.h"
#include "json.h"
#include "tokenizer.h"

typedef enum { CHAT_HH, CHAT_SIMPLE } ChatFormat;

typedef struct {
    int max_length;         // tokens that a row may have, >= 2
    bool all_tokens;        // learn the prompt too
    bool keep_start;        // truncate as TRL's keep_start does
    ChatFormat chat_format; // how `messages` become text
    const char *text_field; // the column to read as `text` (NULL: "text")
} DataOptions;

// Examples as rows of one long array. Row i is tokens start[i] up to start[i + 1].
typedef struct {
    int n;                    // rows
    size_t *start;            // (n + 1)
    int *tokens;              // (start[n])
    unsigned char *mask;      // (start[n]) 1: the log-prob of this token counts in the loss
    size_t max_n, max_tokens; // capacities
    // What the report tells:
    long records;   // read from the file
    long skipped;   // for a fault of content
    long truncated; // rows cut to max_length
    long boundary;  // rows whose ids would differ had the parts been tokenised as one text
    long special;   // texts with <|endoftext|> inside
} Dataset;

// ------------------------------------------------------------------------------------------------
// Lines

enum { LINE_MAX_BYTES = 64 << 20 };

// A file that is read line by line.
typedef struct {
    FILE *file;
    const char *path;
    long number; // of the line in `line`, from 1
    Text line;
} LineReader;

// Die if the file that begins with head[0..n) is of a kind that people mistake for text.
static void impostor_check(const char *path, const char *head, size_t n) {
    const struct {
        const char *begin;
        size_t n;
        const char *what;
    } kinds[] = {
        {"\x1F\x8B", 2, "is gzip-compressed: unpack it first"},
        {"\xFF\xFE", 2, "is UTF-16, expected UTF-8"},
        {"\xFE\xFF", 2, "is UTF-16, expected UTF-8"},
        {"PAR1", 4, "is a Parquet file, expected JSONL: export it as JSON lines"},
        {"PK\x03\x04", 4, "is a zip file: unpack it first"},
        {"version https://git-lfs", 23,
         "is a Git LFS pointer, the data was not downloaded: run git lfs pull"},
    };
    for (int i = 0; i < COUNT(kinds); i++)
        if (n >= kinds[i].n && !memcmp(head, kinds[i].begin, kinds[i].n))
            die(EXIT_BAD_INPUT, "%s: %s", path, kinds[i].what);
}

// True if s[0..n) is nothing but white space.
static bool text_is_blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r\n", s[i]) || !s[i]) return false;
    return true;
}

// Begin to read `path`; dies if that is not possible.
static void lines_open(LineReader *r, const char *path) {
    *r = (LineReader){file_open(path), path, 0, {0}};
}

// Read the next line that is not blank into r->line, without its newline; false at the end. Only
// \n ends a line: U+2028 and the like are data inside strings.
static bool lines_next(LineReader *r) {
    int c = 0;
    do {
        r->line.size = 0;
        while ((c = getc_unlocked(r->file)) != EOF && c != '\n') {
            char byte = (char)c;
            if (r->line.size == LINE_MAX_BYTES)
                die(EXIT_BAD_INPUT, "%s:%ld: line longer than %d bytes", r->path, r->number + 1,
                    LINE_MAX_BYTES);
            text_append(&r->line, &byte, 1);
        }
        if (ferror(r->file)) die(EXIT_IO, "%s: cannot read: %s", r->path, strerror(errno));
        text_append(&r->line, "", 0);
        if (++r->number == 1) {
            impostor_check(r->path, r->line.data, r->line.size);
            if (r->line.size >= 3 && !memcmp(r->line.data, "\xEF\xBB\xBF", 3)) { // a BOM
                memmove(r->line.data, r->line.data + 3, r->line.size - 3 + 1);
                r->line.size -= 3;
            }
        }
        if (!text_is_blank(r->line.data, r->line.size)) return true;
    } while (c != EOF);
    return false;
}

// Close the file.
static void lines_close(LineReader *r) {
    fclose(r->file);
    text_free(&r->line);
}

// The next record: a JSON object on a line of its own. NULL at the end; cJSON_Delete() it.
static cJSON *record_next(LineReader *r) {
    if (!lines_next(r)) return NULL;
    const char *s = r->line.data;
    while (strchr(" \t", *s) && *s) s++;
    if (*s == '[')
        die(EXIT_BAD_INPUT, "%s:%ld: looks like a JSON array, one object per line expected",
            r->path, r->number);
    if (*s == '{' && text_is_blank(s + 1, strlen(s + 1)))
        die(EXIT_BAD_INPUT, "%s:%ld: looks like pretty-printed JSON, one object per line expected",
            r->path, r->number);
    cJSON *record = json_parse(r->line.data, r->line.size, r->path, r->number);
    if (!cJSON_IsObject(record))
        die(EXIT_BAD_INPUT, "%s:%ld: expected a JSON object", r->path, r->number);
    return record;
}

// ------------------------------------------------------------------------------------------------
// Columns

// What a JSON value is, for "... is a number, expected ...".
static const char *json_type_name(const cJSON *item) {
    if (cJSON_IsString(item)) return "a string";
    if (cJSON_IsNumber(item)) return "a number";
    if (cJSON_IsArray(item)) return "an array";
    if (cJSON_IsObject(item)) return "an object";
    return cJSON_IsNull(item) ? "null" : "true or false";
}

// Die because a column is missing; `what` names it, the record's keys are listed.
__attribute__((noreturn)) static void record_missing(const LineReader *r, const cJSON *record,
                                                     const char *what) {
    Text keys = {0};
    const cJSON *item;
    cJSON_ArrayForEach(item, record) text_print(&keys, "%s%s", keys.size ? ", " : "", item->string);
    die(EXIT_BAD_INPUT, "%s:%ld: missing %s (keys: %s)", r->path, r->number, what,
        keys.size ? keys.data : "none");
}

// The string of column `key`; dies if it is not there or no string.
static const char *record_string(const LineReader *r, const cJSON *record, const char *key) {
    const cJSON *item = json_get(record, key);
    if (!item) {
        char *what = text_format("\"%s\"", key);
        record_missing(r, record, what);
    }
    if (!cJSON_IsString(item))
        die(EXIT_BAD_INPUT, "%s:%ld: \"%s\" is %s, expected a string", r->path, r->number, key,
            json_type_name(item));
    return item->valuestring;
}

// ------------------------------------------------------------------------------------------------
// Chat. GPT-2 has no tokens for roles, so a conversation is plain text:
//
//   hh       "\n\nHuman: ..\n\nAssistant: .." as in HH-RLHF (Bai et al. 2022)
//   simple   "User: ..\n\nAssistant: .."
//
// What the assistant says begins with the space behind the colon, so that a prompt ends in
// "Assistant:", and its tokens are the same whether a reply follows or is yet to be generated.

// Append one turn to a conversation: `content` NULL leaves it open behind the colon.
static void chat_turn(Text *out, ChatFormat format, const char *role, const char *content) {
    bool user = !strcmp(role, "user"), assistant = !strcmp(role, "assistant");
    const char *name = assistant ? "Assistant" : user ? "User" : "System";
    if (user && format == CHAT_HH) name = "Human";
    bool first = format == CHAT_SIMPLE && !out->size;
    text_print(out, "%s%s:", first ? "" : "\n\n", name);
    if (content) text_print(out, " %s", content);
}

// ------------------------------------------------------------------------------------------------
// Drafts

// A stretch of the draft's text that is tokenised on its own.
typedef struct {
    size_t end; // where it ends; it begins where the one before ends
    bool loss;  // is to be learnt
} Part;

// One example on its way from record to row.
typedef struct {
    Text text;
    Part *parts; // (n)
    int n, max_n;
    char fault[160]; // why it cannot be used; "" if it can
} Draft;

// Begin a new example; the memory is kept.
static void draft_clear(Draft *d) {
    d->text.size = 0;
    text_append(&d->text, "", 0);
    d->n = 0;
    d->fault[0] = 0;
}

// Note the first fault of content.
__attribute__((format(printf, 2, 3))) static void draft_fault(Draft *d, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (!d->fault[0]) vsnprintf(d->fault, sizeof d->fault, format, args);
    va_end(args);
}

// End a part here. Text that carries loss must not be blank: `name` is for that message.
static void draft_end_part(Draft *d, bool loss, const char *name) {
    size_t begin = d->n ? d->parts[d->n - 1].end : 0;
    if (loss && text_is_blank(d->text.data + begin, d->text.size - begin))
        draft_fault(d, "\"%s\" is empty", name);
    if (d->n == d->max_n) {
        d->max_n = 2 * d->max_n + 8;
        d->parts = mem_resize(d->parts, (size_t)d->max_n, sizeof *d->parts);
    }
    d->parts[d->n++] = (Part){d->text.size, loss};
}

// Append a list of messages, the column `key`, as chat text. With `loss` what the assistant says is
// to be learnt: from the space behind "Assistant:" to the end of the content. *previous is the role
// before (NULL: none) and becomes the last one.
static void draft_messages(Draft *d, const LineReader *r, const cJSON *list, const char *key,
                           ChatFormat format, bool loss, const char **previous) {
    int i = 0;
    const cJSON *message;
    if (!cJSON_IsArray(list))
        die(EXIT_BAD_INPUT, "%s:%ld: \"%s\" is %s, expected an array of messages", r->path,
            r->number, key, json_type_name(list));
    if (!list->child)
        die(EXIT_BAD_INPUT, "%s:%ld: \"%s\" has no messages", r->path, r->number, key);
    cJSON_ArrayForEach(message, list) {
        const cJSON *role = json_get(message, "role"), *content = json_get(message, "content");
        if (!cJSON_IsString(role) || !cJSON_IsString(content))
            die(EXIT_BAD_INPUT, "%s:%ld: %s[%d] needs strings \"role\" and \"content\"", r->path,
                r->number, key, i);
        const char *name = role->valuestring;
        bool assistant = !strcmp(name, "assistant");
        if (!assistant && strcmp(name, "user") && strcmp(name, "system"))
            die(EXIT_BAD_INPUT, "%s:%ld: %s[%d].role \"%s\" (system, user or assistant expected)",
                r->path, r->number, key, i, name);
        if (assistant && *previous && !strcmp(*previous, "assistant"))
            die(EXIT_BAD_INPUT, "%s:%ld: %s[%d]: two assistant messages in a row", r->path,
                r->number, key, i);
        if (assistant && loss) {
            chat_turn(&d->text, format, name, NULL);
            draft_end_part(d, false, key);
            text_print(&d->text, " %s", content->valuestring);
            draft_end_part(d, true, key);
        } else chat_turn(&d->text, format, name, content->valuestring);
        *previous = name;
        i++;
    }
}

// Free the draft's memory.
static void draft_free(Draft *d) {
    text_free(&d->text);
    free(d->parts);
    *d = (Draft){0};
}

// ------------------------------------------------------------------------------------------------
// Rows

// Append a row to the data set.
static void dataset_add_row(Dataset *d, const int *tokens, const unsigned char *mask, size_t n) {
    if (d->n == INT_MAX - 1) die(EXIT_BAD_INPUT, "more than %d examples", d->n);
    if ((size_t)d->n + 2 > d->max_n) {
        d->max_n = 2 * d->max_n + 64;
        d->start = mem_resize(d->start, d->max_n, sizeof *d->start);
    }
    if (!d->n) d->start[0] = 0;
    size_t at = d->start[d->n];
    if (at + n > d->max_tokens) {
        d->max_tokens = 2 * d->max_tokens + n;
        d->tokens = mem_resize(d->tokens, d->max_tokens, sizeof *d->tokens);
        d->mask = mem_resize(d->mask, d->max_tokens, 1);
    }
    memcpy(d->tokens + at, tokens, n * sizeof *tokens);
    memcpy(d->mask + at, mask, n);
    d->start[++d->n] = at + n;
}

// Working memory for turning drafts into rows.
typedef struct {
    TokenList ids, joint;
    Text mask; // one byte for each id
} RowWork;

// Cut a row of n tokens, the first `prompt` of which come before all loss, to max_length tokens.
// What is kept is [*begin, *begin + the result). The end of a prompt matters more than its
// beginning, so the prompt is cut first, from the left, but not below half the room: a completion
// that is too long for what is left loses its end. With keep_start only the end is cut.
static size_t row_truncate(size_t n, size_t prompt, const DataOptions *o, size_t *begin) {
    size_t room = (size_t)o->max_length, half = room / 2;
    *begin = 0;
    if (n <= room) return n;
    if (!o->keep_start && prompt > half)
        *begin = n - room < prompt - half ? n - room : prompt - half;
    return room;
}

// Tokenise a draft part by part and append it as a row: the ids are those of a prompt alone plus
// those of a completion alone, because that is what a model sees when it generates. The mask comes
// from the lengths of the parts, never from ids. EOS is appended, with loss, unless the text ends
// with it. Faults of content are noted in draft->fault, and there is no row then.
static void dataset_add(Dataset *d, const Tokenizer *t, Draft *draft, RowWork *w,
                        const DataOptions *o) {
    const char *text = draft->text.data;
    size_t at = 0, prompt = SIZE_MAX, begin;
    if (draft->fault[0]) return;
    w->ids.n = w->joint.n = w->mask.size = 0;
    for (int i = 0; i < draft->n; i++) {
        const Part *part = &draft->parts[i];
        if (part->loss && prompt == SIZE_MAX) prompt = w->ids.n;
        tokenizer_encode(t, &w->ids, text + at, part->end - at, true);
        char mark = part->loss || o->all_tokens;
        while (w->mask.size < w->ids.n) text_append(&w->mask, &mark, 1);
        at = part->end;
    }
    size_t n = w->ids.n, inside = 0;
    bool joins = false;
    if (draft->n > 1) { // the same text as one piece, to count the rows where it matters
        tokenizer_encode(t, &w->joint, text, at, true);
        joins = w->joint.n != n || memcmp(w->joint.data, w->ids.data, n * sizeof(int));
    }
    if (!n || w->ids.data[n - 1] != t->eos_id) {
        tokens_append(&w->ids, t->eos_id);
        text_append(&w->mask, "\1", 1);
        n++;
    }
    for (size_t i = 0; i + 1 < n; i++) inside += w->ids.data[i] == t->eos_id;
    if (prompt >= (size_t)o->max_length) {
        draft_fault(draft, "prompt has %zu tokens, context is %d", prompt, o->max_length);
        return;
    }
    size_t kept = row_truncate(n, prompt, o, &begin);
    unsigned char *mask = (unsigned char *)w->mask.data + begin;
    mask[0] = 0; // nothing stands before the first token to predict it from
    if (!memchr(mask, 1, kept)) {
        draft_fault(draft, "there is no token to learn");
        return;
    }
    d->truncated += kept < n;
    d->boundary += joins;
    d->special += inside > 0;
    dataset_add_row(d, w->ids.data + begin, mask, kept);
}

// ------------------------------------------------------------------------------------------------
// Forms

// Draft an example for supervised fine-tuning. The record has one of
//
//   messages              a conversation: loss on what the assistant says
//   prompt, completion    two strings, or two lists of messages: loss on the completion
//   text                  (or the column options->text_field): loss everywhere
//
// A conversation must end with the assistant: behind its last word stands EOS, and only there.
static void draft_sft(Draft *d, const LineReader *r, const cJSON *record, const DataOptions *o) {
    const char *field = o->text_field ? o->text_field : "text", *role = NULL;
    const cJSON *messages = json_get(record, "messages"), *prompt = json_get(record, "prompt");
    const cJSON *completion = json_get(record, "completion");
    draft_clear(d);
    if (o->text_field || !(messages || prompt || completion)) {
        if (!o->text_field && !json_get(record, field))
            record_missing(r, record, "\"text\", \"messages\", or \"prompt\" and \"completion\"");
        const char *text = record_string(r, record, field);
        text_append(&d->text, text, strlen(text));
        draft_end_part(d, true, field);
    } else if (messages) {
        draft_messages(d, r, messages, "messages", o->chat_format, true, &role);
    } else if (!prompt || !completion) {
        record_missing(r, record, prompt ? "\"completion\"" : "\"prompt\"");
    } else if (cJSON_IsArray(prompt) || cJSON_IsArray(completion)) {
        draft_messages(d, r, prompt, "prompt", o->chat_format, false, &role);
        draft_messages(d, r, completion, "completion", o->chat_format, true, &role);
    } else {
        const char *first = record_string(r, record, "prompt");
        const char *second = record_string(r, record, "completion");
        text_append(&d->text, first, strlen(first));
        draft_end_part(d, false, "prompt");
        text_append(&d->text, second, strlen(second));
        draft_end_part(d, true, "completion");
    }
    if (role && strcmp(role, "assistant"))
        draft_fault(d, "the last message is not the assistant's");
}

// A plain text becomes rows of max_length tokens (the last may be shorter), with EOS at its very
// end. A row begins with the last token of the row before: so every token but the first of the file
// is predicted exactly once.
static void dataset_add_plain(Dataset *d, const Tokenizer *t, const char *path, int max_length) {
    size_t n;
    char *text = file_read(path, &n);
    impostor_check(path, text, n);
    size_t bom = n >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3) ? 3 : 0, bad = utf8_check(text, n);
    if (bad == n && memchr(text, 0, n)) bad = strlen(text);
    if (bad < n) {
        long line = 1;
        size_t line_begin = 0;
        for (size_t i = 0; i < bad; i++)
            if (text[i] == '\n') line++, line_begin = i + 1;
        die(EXIT_BAD_INPUT, "%s:%ld:%zu: %s 0x%02X", path, line, bad - line_begin + 1,
            text[bad] ? "invalid UTF-8 byte" : "NUL byte", (unsigned char)text[bad]);
    }
    if (text_is_blank(text, n)) die(EXIT_BAD_INPUT, "%s: contains no text", path);
    TokenList ids = {0};
    tokenizer_encode(t, &ids, text + bom, n - bom, true);
    if (ids.data[ids.n - 1] != t->eos_id) tokens_append(&ids, t->eos_id);
    for (size_t i = 0; i + 1 < ids.n; i++) d->special += ids.data[i] == t->eos_id;
    unsigned char *mask = mem_alloc((size_t)max_length, 1);
    memset(mask + 1, 1, (size_t)max_length - 1);
    for (size_t i = 0; i + 1 < ids.n; i += (size_t)max_length - 1) {
        size_t left = ids.n - i, row = left < (size_t)max_length ? left : (size_t)max_length;
        dataset_add_row(d, ids.data + i, mask, row);
    }
    d->records = 1;
    free(mask);
    free(text);
    tokens_free(&ids);
}

// ------------------------------------------------------------------------------------------------
// Use

// Load a file for supervised fine-tuning: plain text if its name ends in .txt, else JSONL.
static void dataset_load(Dataset *d, const Tokenizer *t, const char *path, const DataOptions *o) {
    *d = (Dataset){0};
    size_t length = strlen(path);
    if (length >= 4 && !strcmp(path + length - 4, ".txt")) {
        dataset_add_plain(d, t, path, o->max_length);
        return;
    }
    LineReader reader;
    Draft draft = {0};
    RowWork work = {0};
    cJSON *record;
    lines_open(&reader, path);
    while ((record = record_next(&reader))) {
        d->records++;
        draft_sft(&draft, &reader, record, o);
        dataset_add(d, t, &draft, &work, o);
        if (draft.fault[0] && ++d->skipped <= 3)
            warn("%s:%ld: %s: skipped", path, reader.number, draft.fault);
        cJSON_Delete(record);
    }
    if (!d->records) die(EXIT_BAD_INPUT, "%s: contains no records", path);
    if (!d->n)
        die(EXIT_BAD_INPUT, "%s: all %ld records were skipped: nothing to train on", path,
            d->records);
    lines_close(&reader);
    draft_free(&draft);
    tokens_free(&work.ids), tokens_free(&work.joint), text_free(&work.mask);
}

// Free all that dataset_load or dataset_split allocated.
static void dataset_free(Dataset *d) {
    free(d->start), free(d->tokens), free(d->mask);
    *d = (Dataset){0};
}

// Number of tokens of row i that count in the loss.
static long dataset_row_mask(const Dataset *d, int i) {
    long count = 0;
    for (size_t k = d->start[i]; k < d->start[i + 1]; k++) count += d->mask[k];
    return count;
}

// The same, of all rows.
static long dataset_count_mask(const Dataset *d) {
    long count = 0;
    for (int i = 0; i < d->n; i++) count += dataset_row_mask(d, i);
    return count;
}

// Append one line about what was read; counts that are 0 are left out.
static void dataset_report(Text *out, const Dataset *d, const char *path) {
    text_print(out, "%s: %d rows, %zu tokens, %ld of them in the loss", path, d->n, d->start[d->n],
               dataset_count_mask(d));
    if (d->skipped) text_print(out, "; %ld of %ld records skipped", d->skipped, d->records);
    if (d->truncated) text_print(out, "; %ld truncated", d->truncated);
    if (d->boundary) text_print(out, "; %ld would merge across the end of a part", d->boundary);
    if (d->special) text_print(out, "; " END_OF_TEXT " parsed inside %ld", d->special);
}

// A hash (64 bits, FNV-1a) of all that a run sees of the data: row lengths, tokens and masks. Two
// runs with the same hash train on the same rows, whatever file and options they came from.
static uint64_t dataset_hash(const Dataset *d) {
    uint64_t hash = 14695981039346656037u;
    for (int r = 0; r < d->n; r++) {
        hash = (hash ^ (d->start[r + 1] - d->start[r])) * 1099511628211u;
        for (size_t i = d->start[r]; i < d->start[r + 1]; i++)
            hash = (hash ^ (uint64_t)(2 * (int64_t)d->tokens[i] + d->mask[i])) * 1099511628211u;
    }
    return hash;
}

// Part a data set into training and evaluation rows: `fraction` of them, rounded, but at least one,
// drawn by seed; both keep their order. The counts for the report stay with `all`.
static void dataset_split(Dataset *train, Dataset *eval, const Dataset *all, double fraction,
                          uint64_t seed) {
    int need = (int)(fraction * all->n + 0.5);
    if (need < 1) need = 1;
    if (need >= all->n)
        die(EXIT_BAD_INPUT, "%d examples cannot be split into training and %d for evaluation",
            all->n, need);
    *train = *eval = (Dataset){0};
    Rng rng = rng_make(seed, RNG_SPLIT);
    for (int i = 0; i < all->n; i++) { // each of the rows left is drawn with chance need / left
        bool drawn = rng_below(&rng, (uint64_t)(all->n - i)) < (uint64_t)need;
        need -= drawn;
        size_t at = all->start[i], n = all->start[i + 1] - at;
        dataset_add_row(drawn ? eval : train, all->tokens + at, all->mask + at, n);
    }
}

// Fill a batch with the rows of these indices (n), as they stand in rng_permutation's order.
static void dataset_batch(Batch *b, const Dataset *d, const int *indices, int n) {
    batch_clear(b);
    for (int i = 0; i < n; i++) {
        size_t at = d->start[indices[i]], length = d->start[indices[i] + 1] - at;
        batch_add_row(b, d->tokens + at, d->mask + at, (int)length);
    }
}

#endif
