// dataset.h: from a file of texts to tokens and a mask of those to be learnt. From top to bottom:
//
//   chat         messages as text
//   drafts       one example as text in parts, with and without loss
//   rows         tokens, masks, truncation, faults of content
//   forms        text, prompt + completion, messages, plain .txt
//   use          loading, report, split, batches
//   preferences  a prompt with two completions, or with a labelled one: forms, pieces, use
//
// How a file is read line by line is in jsonl.h. There are two kinds of faults. Those of structure (no JSON, a missing or mistyped column) are
// mistakes in making the file and stop the program with file and line. Those of content (an empty
// completion, a prompt as long as the context) happen in any big file: such a record is skipped and
// counted, the first three are named, and only a file with nothing else is an error.
#ifndef DATASET_H
#define DATASET_H

#include "common.h"
#include "jsonl.h"
#include "tokenizer.h"

typedef enum { CHAT_HH, CHAT_SIMPLE } ChatFormat;

typedef struct {
    int max_length;         // tokens that a row may have, >= 2
    bool all_tokens;        // learn the prompt too (not in preferences)
    bool keep_start;        // truncate as TRL's keep_start does
    ChatFormat chat_format; // how `messages` become text
    const char *text_field; // the column to read as `text` (NULL: "text")
} DataOptions;

// What the report tells of a file.
typedef struct {
    long records;   // read
    long skipped;   // for a fault of content
    long identical; // of these: both completions are the same
    long truncated; // cut to max_length
    long boundary;  // whose ids would differ had the parts been tokenised as one text
    long special;   // with <|endoftext|> inside
} DataCounts;

// Examples as rows of one long array. Row i is tokens start[i] up to start[i + 1].
typedef struct {
    int n;                    // rows
    size_t *start;            // (n + 1)
    int *tokens;              // (start[n])
    unsigned char *mask;      // (start[n]) 1: the log-prob of this token counts in the loss
    size_t max_n, max_tokens; // capacities
    DataCounts counts;
} Dataset;

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
    bool identical;  // that is the fault: both completions are the same
} Draft;

// Begin a new example; the memory is kept.
static void draft_clear(Draft *d) {
    d->text.size = 0;
    text_append(&d->text, "", 0);
    d->n = 0;
    d->fault[0] = 0;
    d->identical = false;
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

// Append text[0..n) as one part.
static void draft_part(Draft *d, const char *text, size_t n, bool loss, const char *name) {
    text_append(&d->text, text, n);
    draft_end_part(d, loss, name);
}

// Die unless the column `key` is a list with at least one message.
static void messages_check(const LineReader *r, const cJSON *list, const char *key) {
    if (!cJSON_IsArray(list))
        die(EXIT_BAD_INPUT, "%s:%ld: \"%s\" is %s, expected an array of messages", r->path,
            r->number, key, json_type_name(list));
    if (!list->child)
        die(EXIT_BAD_INPUT, "%s:%ld: \"%s\" has no messages", r->path, r->number, key);
}

// Message i of the column `key`: returns its role and sets *content. `previous` is the role of the
// message before (NULL: none).
static const char *message_read(const LineReader *r, const cJSON *message, const char *key, int i,
                                const char *previous, const char **content) {
    const cJSON *role = json_get(message, "role"), *text = json_get(message, "content");
    if (!cJSON_IsString(role) || !cJSON_IsString(text))
        die(EXIT_BAD_INPUT, "%s:%ld: %s[%d] needs strings \"role\" and \"content\"", r->path,
            r->number, key, i);
    const char *name = role->valuestring;
    bool assistant = !strcmp(name, "assistant");
    if (!assistant && strcmp(name, "user") && strcmp(name, "system"))
        die(EXIT_BAD_INPUT, "%s:%ld: %s[%d].role \"%s\" (system, user or assistant expected)",
            r->path, r->number, key, i, name);
    if (assistant && previous && !strcmp(previous, "assistant"))
        die(EXIT_BAD_INPUT, "%s:%ld: %s[%d]: two assistant messages in a row", r->path, r->number,
            key, i);
    *content = text->valuestring;
    return name;
}

// Append a list of messages, the column `key`, as chat text. With `loss` what the assistant says is
// to be learnt: from the space behind "Assistant:" to the end of the content. *previous is the role
// before (NULL: none) and becomes the last one.
static void draft_messages(Draft *d, const LineReader *r, const cJSON *list, const char *key,
                           ChatFormat format, bool loss, const char **previous) {
    int i = 0;
    const cJSON *message;
    messages_check(r, list, key);
    cJSON_ArrayForEach(message, list) {
        const char *content, *role = message_read(r, message, key, i++, *previous, &content);
        if (loss && !strcmp(role, "assistant")) {
            chat_turn(&d->text, format, role, NULL);
            draft_end_part(d, false, key);
            text_print(&d->text, " %s", content);
            draft_end_part(d, true, key);
        } else chat_turn(&d->text, format, role, content);
        *previous = role;
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
    Text mask;               // one byte for each id
    Text text;               // for `joint`
    size_t begin[3], end[3]; // where the pieces of a preference lie in `ids`
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
    d->counts.truncated += kept < n;
    d->counts.boundary += joins;
    d->counts.special += inside > 0;
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
        draft_part(d, text, strlen(text), true, field);
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
        draft_part(d, first, strlen(first), false, "prompt");
        draft_part(d, second, strlen(second), true, "completion");
    }
    if (role && strcmp(role, "assistant"))
        draft_fault(d, "the last message is not the assistant's");
}

// A plain text becomes rows of max_length tokens (the last may be shorter), with EOS at its very
// end. A row begins with the last token of the row before: so every token but the first of the file
// is predicted exactly once.
static void dataset_add_plain(Dataset *d, const Tokenizer *t, const char *path, int max_length) {
    size_t n;
    char *text = text_read(path, &n);
    if (text_is_blank(text, n)) die(EXIT_BAD_INPUT, "%s: contains no text", path);
    TokenList ids = {0};
    tokenizer_encode(t, &ids, text, n, true);
    if (ids.data[ids.n - 1] != t->eos_id) tokens_append(&ids, t->eos_id);
    for (size_t i = 0; i + 1 < ids.n; i++) d->counts.special += ids.data[i] == t->eos_id;
    unsigned char *mask = mem_alloc((size_t)max_length, 1);
    memset(mask + 1, 1, (size_t)max_length - 1);
    for (size_t i = 0; i + 1 < ids.n; i += (size_t)max_length - 1) {
        size_t left = ids.n - i, row = left < (size_t)max_length ? left : (size_t)max_length;
        dataset_add_row(d, ids.data + i, mask, row);
    }
    d->counts.records = 1;
    free(mask);
    free(text);
    tokens_free(&ids);
}

// ------------------------------------------------------------------------------------------------
// Use

// Done with a record: count it, name its fault of content, free it.
static void record_done(DataCounts *c, const Draft *draft, const LineReader *r, cJSON *record) {
    c->records++;
    c->identical += draft->identical;
    if (draft->fault[0] && ++c->skipped <= 3)
        warn("%s:%ld: %s: skipped", r->path, r->number, draft->fault);
    cJSON_Delete(record);
}

// Done with a file of which n examples can be used: none is an error. Frees the working memory.
static void file_done(LineReader *r, Draft *draft, RowWork *w, const DataCounts *c, int n) {
    if (!c->records) die(EXIT_BAD_INPUT, "%s: contains no records", r->path);
    if (!n)
        die(EXIT_BAD_INPUT, "%s: all %ld records were skipped: nothing to train on", r->path,
            c->records);
    lines_close(r), draft_free(draft);
    tokens_free(&w->ids), tokens_free(&w->joint), text_free(&w->mask), text_free(&w->text);
}

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
        draft_sft(&draft, &reader, record, o);
        dataset_add(d, t, &draft, &work, o);
        record_done(&d->counts, &draft, &reader, record);
    }
    file_done(&reader, &draft, &work, &d->counts, d->n);
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

// Append what a report tells of skipped and changed records; counts that are 0 are left out.
static void counts_report(Text *out, const DataCounts *c) {
    if (c->skipped) text_print(out, "; %ld of %ld records skipped", c->skipped, c->records);
    if (c->identical) text_print(out, ", %ld for identical completions", c->identical);
    if (c->truncated) text_print(out, "; %ld truncated", c->truncated);
    if (c->boundary) text_print(out, "; %ld would merge across the end of a part", c->boundary);
    if (c->special) text_print(out, "; " END_OF_TEXT " parsed inside %ld", c->special);
}

// Append one line about what was read.
static void dataset_report(Text *out, const Dataset *d, const char *path) {
    text_print(out, "%s: %d rows, %zu tokens, %ld of them in the loss", path, d->n, d->start[d->n],
               dataset_count_mask(d));
    counts_report(out, &d->counts);
}

// One step of a hash (64 bits, FNV-1a), which begins with HASH_BEGIN.
#define HASH_BEGIN 14695981039346656037u
static uint64_t hash_add(uint64_t hash, uint64_t x) { return (hash ^ x) * 1099511628211u; }

// A hash of all that a run sees of the data: row lengths, tokens and masks. Two runs with the same
// hash train on the same rows, whatever file and options they came from.
static uint64_t dataset_hash(const Dataset *d) {
    uint64_t hash = HASH_BEGIN;
    for (int r = 0; r < d->n; r++) {
        hash = hash_add(hash, d->start[r + 1] - d->start[r]);
        for (size_t i = d->start[r]; i < d->start[r + 1]; i++)
            hash = hash_add(hash, (uint64_t)(2 * (int64_t)d->tokens[i] + d->mask[i]));
    }
    return hash;
}

// Draw the examples for evaluation: `fraction` of n, rounded, but at least one. Returns (n) 1 for
// each that is drawn, a pure function of the arguments.
static unsigned char *split_draw(int n, double fraction, uint64_t seed) {
    int need = (int)(fraction * n + 0.5);
    if (need < 1) need = 1;
    if (need >= n)
        die(EXIT_BAD_INPUT, "%d examples cannot be split into training and %d for evaluation", n,
            need);
    unsigned char *drawn = mem_alloc((size_t)n, 1);
    Rng rng = rng_make(seed, RNG_SPLIT);
    for (int i = 0; i < n; i++) { // each of those left is drawn with chance need / left
        drawn[i] = rng_below(&rng, (uint64_t)(n - i)) < (uint64_t)need;
        need -= drawn[i];
    }
    return drawn;
}

// Part a data set into training and evaluation rows; both keep their order. The counts for the
// report stay with `all`.
static void dataset_split(Dataset *train, Dataset *eval, const Dataset *all, double fraction,
                          uint64_t seed) {
    *train = *eval = (Dataset){0};
    unsigned char *drawn = split_draw(all->n, fraction, seed);
    for (int i = 0; i < all->n; i++) {
        size_t at = all->start[i], n = all->start[i + 1] - at;
        dataset_add_row(drawn[i] ? eval : train, all->tokens + at, all->mask + at, n);
    }
    free(drawn);
}

// Fill a batch with the rows of these indices (n), as they stand in rng_permutation's order.
static void dataset_batch(Batch *b, const Dataset *d, const int *indices, int n) {
    batch_clear(b);
    for (int i = 0; i < n; i++) {
        size_t at = d->start[indices[i]], length = d->start[indices[i] + 1] - at;
        batch_add_row(b, d->tokens + at, d->mask + at, (int)length);
    }
}

// ------------------------------------------------------------------------------------------------
// Preferences: a prompt with two completions, one chosen and one rejected, or with one completion
// that is labelled good or bad. The record has one of
//
//   prompt, chosen, rejected     three strings, or three lists of messages
//   chosen, rejected             the same with the prompt at the beginning of both
//   prompt, completion, label    label: true or false
//
// A completion in messages is one reply of the assistant. The pieces are tokenised each on its own
// and completions end with EOS, as in supervised fine-tuning. An empty prompt becomes EOS, which
// is how generate begins a text from nothing: so all of a completion counts.

// Bytes of the prompt that two texts share; 0 if there is none. In HH-RLHF it ends with the last
// "\n\nAssistant:" that both have in common; elsewhere where the last white space begins that both
// have, and after which something follows in both. So no word and no character is ever cut.
static size_t prompt_shared(const char *a, const char *b) {
    const char *marker = "\n\nAssistant:", *blank = " \t\r\n";
    size_t same = 0, n = strlen(marker);
    while (a[same] && a[same] == b[same]) same++;
    if (strstr(a, marker) || strstr(b, marker)) {
        for (size_t i = same; i >= n; i--)
            if (!memcmp(a + i - n, marker, n)) return i;
        return 0;
    }
    for (size_t i = same; i > 0; i--)
        if (a[i] && b[i] && strchr(blank, a[i]) && strchr(blank, b[i]) &&
            !strchr(blank, a[i - 1]) && a[i + strspn(a + i, blank)] && b[i + strspn(b + i, blank)])
            return i;
    return 0;
}

// The number of equal messages at the beginning of two lists; the last of either does not count.
static int messages_shared(const cJSON *a, const cJSON *b) {
    int n = 0;
    for (a = a->child, b = b->child; a->next && b->next && cJSON_Compare(a, b, true); n++)
        a = a->next, b = b->next;
    return n;
}

// Draft a prompt and the n replies in the columns `keys`, all of them lists of messages. The prompt
// ends with "Assistant:".
static void draft_replies(Draft *d, const LineReader *r, const cJSON *record,
                          const char *const *keys, int n, ChatFormat format) {
    const cJSON *prompt = json_get(record, "prompt"), *first = json_get(record, keys[0]);
    const char *role = NULL, *content;
    int shared = 0;
    for (int i = 0; i < n; i++) messages_check(r, json_get(record, keys[i]), keys[i]);
    if (prompt) draft_messages(d, r, prompt, "prompt", format, false, &role);
    else {
        shared = messages_shared(first, json_get(record, keys[1]));
        if (!shared) draft_fault(d, "chosen and rejected share no prompt");
    }
    for (int i = 0; i < shared; i++) {
        role = message_read(r, cJSON_GetArrayItem(first, i), keys[0], i, role, &content);
        chat_turn(&d->text, format, role, content);
    }
    chat_turn(&d->text, format, "assistant", NULL);
    draft_end_part(d, false, "prompt");
    for (int i = 0; i < n; i++) {
        const cJSON *reply = cJSON_GetArrayItem(json_get(record, keys[i]), shared);
        const char *name = message_read(r, reply, keys[i], shared, role, &content);
        if (strcmp(name, "assistant") || reply->next)
            draft_fault(d, "\"%s\" is not one reply of the assistant", keys[i]);
        text_append(&d->text, " ", 1);
        draft_part(d, content, strlen(content), true, keys[i]);
    }
}

// Draft a record in three parts: prompt, chosen, rejected (n = 2); or in two: prompt, completion.
static void draft_preference(Draft *d, const LineReader *r, const cJSON *record, int n,
                             ChatFormat format) {
    const char *const keys[2] = {n == 2 ? "chosen" : "completion", "rejected"};
    const char *text[2] = {NULL, NULL}, *human = "\n\nHuman:";
    const cJSON *prompt = json_get(record, "prompt");
    bool lists = cJSON_IsArray(prompt);
    size_t cut = 0;
    draft_clear(d);
    for (int i = 0; i < n; i++) lists |= cJSON_IsArray(record_item(r, record, keys[i]));
    if (n == 1) record_item(r, record, "prompt");
    if (n == 2 && cJSON_Compare(json_get(record, "chosen"), json_get(record, "rejected"), true)) {
        draft_fault(d, "chosen and rejected are identical");
        d->identical = true;
    }
    if (lists) {
        draft_replies(d, r, record, keys, n, format);
        return;
    }
    for (int i = 0; i < n; i++) text[i] = record_string(r, record, keys[i]);
    if (!prompt) {
        cut = prompt_shared(text[0], text[1]);
        if (!cut) draft_fault(d, "chosen and rejected share no prompt");
        if (strstr(text[0] + cut, human) || strstr(text[1] + cut, human))
            draft_fault(d, "a completion goes on with \"Human:\"");
    }
    const char *begin = prompt ? record_string(r, record, "prompt") : text[0];
    draft_part(d, begin, prompt ? strlen(begin) : cut, false, "prompt");
    for (int i = 0; i < n; i++) draft_part(d, text[i] + cut, strlen(text[i] + cut), true, keys[i]);
}

// Tokenise a preference: its pieces go to w->ids, piece i from w->begin[i] to w->end[i]. The prompt
// is cut once, for the longer completion, and is the same in front of both.
static void pieces_encode(RowWork *w, const Tokenizer *t, Draft *draft, const DataOptions *o,
                          DataCounts *counts) {
    size_t at = 0, longest = 0, inside = 0, begin;
    bool joins = false;
    if (draft->fault[0]) return;
    w->ids.n = 0;
    for (int i = 0; i < draft->n; i++) {
        const char *text = draft->text.data;
        const size_t prompt_bytes = draft->parts[0].end, prompt = i ? w->end[0] : 0;
        const size_t bytes = draft->parts[i].end - at, from = w->begin[i] = w->ids.n;
        tokenizer_encode(t, &w->ids, text + at, bytes, true);
        const size_t n = w->ids.n - from;
        for (size_t k = 0; k < n; k++)
            inside += w->ids.data[from + k] == t->eos_id && (i == 0 || k + 1 < n);
        if (i && prompt_bytes) { // prompt and completion as one text, to count where it matters
            w->text.size = w->joint.n = 0;
            text_append(&w->text, text, prompt_bytes);
            text_append(&w->text, text + at, bytes);
            tokenizer_encode(t, &w->joint, w->text.data, w->text.size, true);
            joins |= w->joint.n != prompt + n ||
                     memcmp(w->joint.data, w->ids.data, prompt * sizeof(int)) ||
                     memcmp(w->joint.data + prompt, w->ids.data + from, n * sizeof(int));
        }
        if (n == 0 || (i && w->ids.data[w->ids.n - 1] != t->eos_id))
            tokens_append(&w->ids, t->eos_id);
        w->end[i] = w->ids.n;
        if (i && w->end[i] - from > longest) longest = w->end[i] - from;
        at += bytes;
    }
    if (w->end[0] >= (size_t)o->max_length) {
        draft_fault(draft, "prompt has %zu tokens, context is %d", w->end[0], o->max_length);
        return;
    }
    const size_t kept = row_truncate(w->end[0] + longest, w->end[0], o, &begin);
    const size_t room = kept - (w->end[0] - begin); // for a completion
    w->begin[0] = begin;
    for (int i = 1; i < draft->n; i++)
        if (w->end[i] - w->begin[i] > room) w->end[i] = w->begin[i] + room;
    const size_t n = w->end[1] - w->begin[1];
    if (draft->n == 3 && n == w->end[2] - w->begin[2] &&
        !memcmp(w->ids.data + w->begin[1], w->ids.data + w->begin[2], n * sizeof(int))) {
        draft_fault(draft, "chosen and rejected are identical in %zu tokens", n);
        draft->identical = true;
        return;
    }
    counts->truncated += kept < w->end[0] + longest;
    counts->boundary += joins;
    counts->special += inside > 0;
}

// Examples in pieces: the tokens of prompt and completions, each from start[i] up to start[i + 1].
typedef struct {
    int n, pieces;            // examples; pieces of each
    size_t *start;            // (pieces * n + 1)
    int *tokens;              // (start[pieces * n])
    unsigned char *label;     // (n) LabelSet: 1 if the completion is good
    int good;                 // how many are
    int max_length;           // tokens that a prompt with a completion may have
    size_t max_n, max_tokens; // capacities
    DataCounts counts;
} PieceSet;

typedef PieceSet PairSet;  // prompt, chosen and rejected of pair i are pieces 3i, 3i + 1, 3i + 2
typedef PieceSet LabelSet; // prompt and completion of example i are pieces 2i, 2i + 1

// Append an example whose piece i is tokens[begin[i]..end[i]).
static void pieces_add(PieceSet *d, const int *tokens, const size_t *begin, const size_t *end,
                       int label) {
    if (d->n >= INT_MAX / 3) die(EXIT_BAD_INPUT, "more than %d examples", d->n);
    if ((size_t)d->n + 1 > d->max_n) {
        d->max_n = 2 * d->max_n + 64;
        d->start = mem_resize(d->start, (size_t)d->pieces * d->max_n + 1, sizeof *d->start);
        d->label = mem_resize(d->label, d->max_n, 1);
    }
    if (!d->n) d->start[0] = 0;
    size_t *start = d->start + (size_t)d->pieces * d->n;
    for (int i = 0; i < d->pieces; i++) {
        size_t n = end[i] - begin[i];
        if (start[i] + n > d->max_tokens) {
            d->max_tokens = 2 * d->max_tokens + n;
            d->tokens = mem_resize(d->tokens, d->max_tokens, sizeof *d->tokens);
        }
        memcpy(d->tokens + start[i], tokens + begin[i], n * sizeof *tokens);
        start[i + 1] = start[i] + n;
    }
    d->good += label;
    d->label[d->n++] = (unsigned char)label;
}

// Load a set of 3 pieces an example (pairs only) or 2 (labels; of a pair both completions).
static void pieces_load(PieceSet *d, int pieces, const Tokenizer *t, const char *path,
                        const DataOptions *o) {
    *d = (PieceSet){.pieces = pieces, .max_length = o->max_length};
    LineReader reader;
    Draft draft = {0};
    RowWork w = {0};
    lines_open(&reader, path);
    for (cJSON *record; (record = record_next(&reader));) {
        bool pair = pieces == 3 || json_get(record, "chosen") || json_get(record, "rejected");
        const cJSON *label = pair ? NULL : record_item(&reader, record, "label");
        if (label && !cJSON_IsBool(label))
            die(EXIT_BAD_INPUT, "%s:%ld: \"label\" must be true or false (found %s)", path,
                reader.number, json_type_name(label));
        draft_preference(&draft, &reader, record, pair ? 2 : 1, o->chat_format);
        pieces_encode(&w, t, &draft, o, &d->counts);
        if (!draft.fault[0]) pieces_add(d, w.ids.data, w.begin, w.end, pair || cJSON_IsTrue(label));
        if (!draft.fault[0] && pair && pieces == 2) {
            w.begin[1] = w.begin[2], w.end[1] = w.end[2];
            pieces_add(d, w.ids.data, w.begin, w.end, 0);
        }
        record_done(&d->counts, &draft, &reader, record);
    }
    file_done(&reader, &draft, &w, &d->counts, d->n);
}

// Load pairs: what DPO, IPO and ORPO learn from.
static void pairs_load(PairSet *d, const Tokenizer *t, const char *path, const DataOptions *o) {
    pieces_load(d, 3, t, path, o);
}

// Load labelled completions: what KTO learns from. Of a pair both are taken, the chosen one with
// label true and then the rejected one. A file with one label only is an error.
static void labels_load(LabelSet *d, const Tokenizer *t, const char *path, const DataOptions *o) {
    pieces_load(d, 2, t, path, o);
    if (d->good == 0 || d->good == d->n)
        die(EXIT_BAD_INPUT, "%s: all %d labels are %s: both are needed", path, d->n,
            d->good ? "true" : "false");
}

static void pieces_free(PieceSet *d) {
    free(d->start), free(d->tokens), free(d->label);
    *d = (PieceSet){0};
}
static void pairs_free(PairSet *d) { pieces_free(d); }
static void labels_free(LabelSet *d) { pieces_free(d); }

// Number of tokens in piece i of all examples.
static size_t pieces_count(const PieceSet *d, int i) {
    size_t count = 0;
    for (size_t k = (size_t)i; k < (size_t)d->pieces * d->n; k += (size_t)d->pieces)
        count += d->start[k + 1] - d->start[k];
    return count;
}

// Append one line about what was read.
static void pairs_report(Text *out, const PairSet *d, const char *path) {
    text_print(out, "%s: %d pairs, %zu tokens of prompts, %zu chosen, %zu rejected", path, d->n,
               pieces_count(d, 0), pieces_count(d, 1), pieces_count(d, 2));
    counts_report(out, &d->counts);
}
static void labels_report(Text *out, const LabelSet *d, const char *path) {
    text_print(out, "%s: %d true and %d false completions, %zu tokens of prompts, %zu to learn",
               path, d->good, d->n - d->good, pieces_count(d, 0), pieces_count(d, 1));
    counts_report(out, &d->counts);
}

// A hash of all that a run sees of the data: lengths and tokens of the pieces, labels.
static uint64_t pieces_hash(const PieceSet *d) {
    uint64_t hash = HASH_BEGIN;
    for (size_t i = 0; i < (size_t)d->pieces * d->n; i++) {
        hash = hash_add(hash, d->start[i + 1] - d->start[i]);
        for (size_t k = d->start[i]; k < d->start[i + 1]; k++)
            hash = hash_add(hash, (uint64_t)d->tokens[k]);
    }
    for (int i = 0; i < d->n; i++) hash = hash_add(hash, d->label[i]);
    return hash;
}
static uint64_t pairs_hash(const PairSet *d) { return pieces_hash(d); }
static uint64_t labels_hash(const LabelSet *d) { return pieces_hash(d); }

// Part a set as dataset_split does.
static void pieces_split(PieceSet *train, PieceSet *eval, const PieceSet *all, double fraction,
                         uint64_t seed) {
    *train = *eval = (PieceSet){.pieces = all->pieces, .max_length = all->max_length};
    unsigned char *drawn = split_draw(all->n, fraction, seed);
    for (int i = 0; i < all->n; i++) {
        const size_t *start = all->start + (size_t)all->pieces * i;
        pieces_add(drawn[i] ? eval : train, all->tokens, start, start + 1, all->label[i]);
    }
    free(drawn);
}
static void pairs_split(PairSet *train, PairSet *eval, const PairSet *all, double fraction,
                        uint64_t seed) {
    pieces_split(train, eval, all, fraction, seed);
}
static void labels_split(LabelSet *train, LabelSet *eval, const LabelSet *all, double fraction,
                         uint64_t seed) {
    pieces_split(train, eval, all, fraction, seed);
}

// Append a piece as a row of its own without loss (parent -1), or as the child of row `parent` with
// loss: together they have at most max_length tokens.
static void batch_add_piece(Batch *b, const PieceSet *d, size_t piece, int parent) {
    const size_t at = d->start[piece];
    int n = (int)(d->start[piece + 1] - at), room = d->max_length;
    if (parent >= 0) room -= b->row_start[parent + 1] - b->row_start[parent];
    if (n > room) n = room;
    batch_add_child(b, parent, d->tokens + at, NULL, n);
    if (parent < 0) memset(b->mask + b->N - n, 0, (size_t)n);
}

// Append a prompt and a completion as one row.
static void batch_add_joined(Batch *b, const PieceSet *d, size_t prompt, size_t completion) {
    batch_add_piece(b, d, prompt, -1);
    batch_add_piece(b, d, completion, b->R - 1);
    b->row_start[--b->R] = b->N; // child and parent become one row
}

// Fill a batch with the pairs of these indices (n), in this order. Rows of pair i: with `share` the
// prompt (row 3i) and its children chosen and rejected (3i + 1, 3i + 2), so that the prompt goes
// through the model once; else prompt with chosen (2i) and prompt with rejected (2i + 1).
static void pairs_batch(Batch *b, const PairSet *d, const int *indices, int n, bool share) {
    batch_clear(b);
    for (int i = 0; i < n; i++) {
        const size_t k = 3 * (size_t)indices[i];
        for (int p = 0; p < 3 && share; p++) batch_add_piece(b, d, k + (size_t)p, p ? 3 * i : -1);
        for (int p = 1; p < 3 && !share; p++) batch_add_joined(b, d, k, k + (size_t)p);
    }
}

// Fill a batch with n rows: the prompt of example prompts[i] with the completion of example
// completions[i]. The same indices twice give the data; others the mismatched pairs of KTO.
static void labels_batch(Batch *b, const LabelSet *d, const int *prompts, const int *completions,
                         int n) {
    batch_clear(b);
    for (int i = 0; i < n; i++)
        batch_add_joined(b, d, 2 * (size_t)prompts[i], 2 * (size_t)completions[i] + 1);
}

#endif
