// dataset.h: from a file of texts to tokens and a mask of those to be learnt. From top to bottom:
//
//   drafts       one example as text in parts, with and without loss
//   rows         tokens, masks, truncation, faults of content
//   forms        text, prompt + completion, messages, plain .txt
//   use          loading, batches, report, split
//
// How a file is read line by line is in jsonl.h, how messages become text in chat.h, what has a prompt
// and completions apart (for DPO and all that follows SFT) in preferences.h. There are two kinds of
// faults. Those of structure (no JSON, a missing or mistyped column) are mistakes in making the file and
// stop the program with file and line. Those of content (an empty completion, a column that is null, a
// message of a tool, a prompt as long as the context) happen in any big file: such a record is skipped
// and counted, the first three are named, and only a file with nothing else is an error. With the option
// `strict` the first of them is one.
#ifndef DATASET_H
#define DATASET_H

#include "../../batch.h"
#include "../base/common.h"
#include "../base/jsonl.h"
#include "../base/tokenizer.h"
#include "chat.h"
#include "token_store.h" // defines: TokenStore
#include <omp.h>

typedef struct {
    int max_length;         // tokens that a row may have, >= 2
    bool all_tokens;        // learn the prompt too (not in preferences)
    bool keep_start;        // truncate as TRL's keep_start does
    ChatFormat chat_format; // how `messages` become text
    const char *text_field; // the column to read as `text` (NULL: "text")
    int max_prompt;         // last tokens that are left of a prompt (preferences.h; 0: all)
    int max_completion;     // tokens that a completion may have (preferences.h; 0: no limit)
    bool whole;             // completions must keep their end, EOS (preferences.h)
    bool margins;           // read the column `margin` (preferences.h)
    int vocab_size;         // ids in `prompt_ids` are below it (prompts.h)
    bool strict;            // a fault of content is an error
    const char *token_dir;  // where tokens of plain texts are kept (NULL: nowhere)
    int64_t token_least;    // of texts with so many bytes
    Text *faults; // gets a line of JSON for each record that is skipped (NULL: nothing does)
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

// A row is n tokens of a store, from number `at` on.
typedef struct {
    size_t at;
    int n, store;
} Row;

// Examples as rows. JSONL is one store with a mask, a plain text one without, whose rows overlap.
typedef struct {
    int n;
    Row *rows;           // (n)
    TokenStore **stores; // (n_stores)
    int n_stores;
    size_t max_n; // capacity
    DataCounts counts;
} Dataset;

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
    bool mended;     // the record's text was mended: json_flaw may find why
    bool chat;       // a conversation
} Draft;

// Begin a new example, of the record that was read last; the memory is kept.
static void draft_clear(Draft *d, const LineReader *r) {
    d->text.size = 0;
    text_append(&d->text, "", 0);
    d->n = 0;
    d->fault[0] = 0;
    d->identical = d->chat = false;
    d->mended = r->mended;
}

// Note the first fault of content.
__attribute__((format(printf, 2, 3))) static void draft_fault(Draft *d, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (!d->fault[0]) vsnprintf(d->fault, sizeof d->fault, format, args);
    va_end(args);
    d->fault[utf8_check(d->fault, strlen(d->fault))] = 0; // it may have been cut amid a character
}

// End a part here. Text that carries loss must not be blank: `name` is for that message.
static void draft_end_part(Draft *d, bool loss, const char *name) {
    const size_t begin = d->n ? d->parts[d->n - 1].end : 0, n = d->text.size - begin;
    const char *flaw = d->mended ? json_flaw(d->text.data + begin) : NULL;
    if (flaw) draft_fault(d, "\"%s\" contains %s", name, flaw);
    if (loss && text_is_blank(d->text.data + begin, n)) draft_fault(d, "\"%s\" is empty", name);
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

// Append one turn of a conversation; content NULL leaves the assistant's open. A turn for which the
// form has no place is a fault of content.
static void draft_turn(Draft *d, ChatFormat format, const char *role, const char *content) {
    const char *why = chat_turn(&d->text, format, role, content);
    if (why) draft_fault(d, "messages do not fit the chat template: %s", why);
}

// The value of column `key`. NULL and a fault if it is null; dies if there is no such column.
static const cJSON *draft_column(Draft *d, const LineReader *r, const cJSON *record,
                                 const char *key) {
    const cJSON *item = json_get(record, key);
    if (!item) return record_item(r, record, key); // which tells
    if (cJSON_IsNull(item)) draft_fault(d, "\"%s\" is null", key);
    return record_get(record, key);
}

// The string of column `key`; "" and a fault if it is null. Dies if it is not there or no string.
static const char *draft_string(Draft *d, const LineReader *r, const cJSON *record,
                                const char *key) {
    return draft_column(d, r, record, key) ? record_string(r, record, key) : "";
}

// True if the column `key` is a list of messages, which makes the draft a conversation; a fault if it
// has none. Dies if it is no list.
static bool messages_check(Draft *d, const LineReader *r, const cJSON *list, const char *key) {
    d->chat = true;
    if (!cJSON_IsArray(list))
        die(EXIT_BAD_INPUT, "%s:%ld: \"%s\" is %s, expected an array of messages", r->path,
            r->number, key, json_type_name(list));
    if (!list->child) draft_fault(d, "\"%s\" has no messages", key);
    return list->child;
}

// Message i of the column `key`: returns its role and sets *content. What has no text (a call of a
// tool) or no role that has a place in the chat is a fault: then the result is NULL. Dies if it is no
// message at all.
static const char *message_read(Draft *d, const LineReader *r, const cJSON *message,
                                const char *key, int i, const char **content) {
    const cJSON *role = json_get(message, "role"), *text = json_get(message, "content");
    const cJSON *calls = record_get(message, "tool_calls");
    const bool silent = cJSON_IsNull(text) || (!text && calls);
    if (!cJSON_IsString(role) || !(cJSON_IsString(text) || silent))
        die(EXIT_BAD_INPUT, "%s:%ld: %s[%d] needs strings \"role\" and \"content\"", r->path,
            r->number, key, i);
    const char *name = role->valuestring;
    if (strcmp(name, "assistant") && strcmp(name, "user") && strcmp(name, "system")) {
        draft_fault(d, "%s[%d].role \"%s\" (system, user or assistant expected)", key, i, name);
        return NULL;
    }
    if (cJSON_IsArray(calls) && calls->child) draft_fault(d, "%s[%d] calls a tool", key, i);
    if (silent) draft_fault(d, "%s[%d].content is null", key, i);
    *content = silent ? "" : text->valuestring;
    return d->fault[0] ? NULL : name;
}

// Append the ids that the tokenizer's template puts before a text: BOS, or none. A conversation has
// them only where its turns write them, as in TRL and `transformers`.
static void draft_begin(const Draft *d, const Tokenizer *t, TokenList *ids) {
    if (!d->chat) tokenizer_begin(t, ids);
}

// Append a list of messages, the column `key`, as chat text. With `loss` what the assistant says is
// to be learnt, with the token by which its turn ends if the form has one: what comes after the open
// turn of chat_turn. Returns the last role; NULL where the draft has a fault.
static const char *draft_messages(Draft *d, const LineReader *r, const cJSON *list, const char *key,
                                  ChatFormat format, bool loss) {
    int i = 0;
    const cJSON *message;
    const char *last = NULL;
    if (!messages_check(d, r, list, key)) return NULL;
    cJSON_ArrayForEach(message, list) {
        const char *content, *role = message_read(d, r, message, key, i++, &content);
        if (!role) return NULL;
        if (loss && !strcmp(role, "assistant")) {
            draft_turn(d, format, role, NULL);
            draft_end_part(d, false, key);
            if (text_is_blank(content, strlen(content))) draft_fault(d, "\"%s\" is empty", key);
            chat_reply(&d->text, format, content);
            draft_end_part(d, true, key);
        } else draft_turn(d, format, role, content);
        last = role;
    }
    return last;
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
static void dataset_add_row(Dataset *d, Row row) {
    if (d->n == INT_MAX - 1) die(EXIT_BAD_INPUT, "more than %d examples", d->n);
    if ((size_t)d->n + 1 > d->max_n) {
        d->max_n = d->max_n + d->max_n / 2 + 64;
        d->rows = mem_resize(d->rows, d->max_n, sizeof *d->rows);
    }
    d->rows[d->n++] = row;
}

// Let the data set use a store, one user of which it becomes. Returns its number.
static int dataset_add_store(Dataset *d, TokenStore *store) {
    d->stores = mem_resize(d->stores, (size_t)d->n_stores + 1, sizeof *d->stores);
    d->stores[d->n_stores] = store;
    return d->n_stores++;
}

// Append n tokens with their mask as a row of the last store.
static void dataset_add_tokens(Dataset *d, const int *tokens, const unsigned char *mask, size_t n) {
    TokenStore *store = d->stores[d->n_stores - 1];
    dataset_add_row(d, (Row){store->n, (int)n, d->n_stores - 1});
    store_add(store, tokens, mask, n);
}

// Working memory for turning drafts into rows.
typedef struct {
    TokenList ids, joint;
    Text mask;               // one byte for each id
    Text text;               // for `joint`
    size_t begin[3], end[3]; // where the pieces of a preference are in `ids`
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
    draft_begin(draft, t, &w->ids);
    draft_begin(draft, t, &w->joint);
    const size_t first = w->ids.n;
    while (w->mask.size < first) text_append(&w->mask, "\0", 1);
    for (int i = 0; i < draft->n; i++) {
        const Part *part = &draft->parts[i];
        if (part->loss && prompt == SIZE_MAX) prompt = w->ids.n;
        chat_encode(t, &w->ids, text + at, part->end - at);
        char mark = part->loss || o->all_tokens;
        while (w->mask.size < w->ids.n) text_append(&w->mask, &mark, 1);
        at = part->end;
    }
    size_t n = w->ids.n, inside = 0;
    bool joins = false;
    if (draft->n > 1) { // the same text as one piece, to count the rows where it matters
        chat_encode(t, &w->joint, text, at);
        joins = w->joint.n != n || memcmp(w->joint.data, w->ids.data, n * sizeof(int));
    }
    if (n == first || w->ids.data[n - 1] != t->eos_id) {
        tokens_append(&w->ids, t->eos_id);
        text_append(&w->mask, "\1", 1);
        n++;
    }
    for (size_t i = first; i + 1 < n && !chat_has_tokens(o->chat_format); i++)
        inside += w->ids.data[i] == t->eos_id;
    if (prompt >= (size_t)o->max_length) {
        draft_fault(draft, "prompt has %zu tokens, context is %d", prompt, o->max_length);
        return;
    }
    size_t kept = row_truncate(n, prompt, o, &begin);
    unsigned char *mask = (unsigned char *)w->mask.data + begin;
    mask[0] = 0; // nothing is before the first token to predict it from
    if (!memchr(mask, 1, kept)) {
        draft_fault(draft, "there is no token to learn");
        return;
    }
    d->counts.truncated += kept < n;
    d->counts.boundary += joins;
    d->counts.special += inside > 0;
    dataset_add_tokens(d, w->ids.data + begin, mask, kept);
}

// ------------------------------------------------------------------------------------------------
// Forms

// Draft an example for supervised fine-tuning. The record has one of
//
//   messages              a conversation: loss on what the assistant says
//   prompt, completion    two strings, or two lists of messages: loss on the completion
//   text                  (or the column options->text_field): loss everywhere
//
// A conversation must end with the assistant: after its last word comes EOS, and only there.
static void draft_sft(Draft *d, const LineReader *r, const cJSON *record, const DataOptions *o) {
    const char *field = o->text_field ? o->text_field : "text", *role = "assistant";
    const cJSON *messages = record_get(record, "messages"), *prompt = record_get(record, "prompt");
    const cJSON *completion = record_get(record, "completion");
    draft_clear(d, r);
    if (o->text_field || !(messages || prompt || completion)) {
        static const char *const others[] = {"messages", "prompt"};
        for (int i = 0; i < COUNT(others) && !o->text_field && !json_get(record, field); i++)
            if (json_get(record, others[i])) field = others[i]; // it is null
        if (!o->text_field && !json_get(record, field))
            record_missing(r, record, "\"text\", \"messages\", or \"prompt\" and \"completion\"");
        const char *text = draft_string(d, r, record, field);
        draft_part(d, text, strlen(text), true, field);
    } else if (messages) {
        role = draft_messages(d, r, messages, "messages", o->chat_format, true);
    } else if (cJSON_IsArray(prompt) || cJSON_IsArray(completion)) {
        if (draft_column(d, r, record, "prompt") && draft_column(d, r, record, "completion") &&
            draft_messages(d, r, prompt, "prompt", o->chat_format, false))
            role = draft_messages(d, r, completion, "completion", o->chat_format, true);
    } else {
        const char *first = draft_string(d, r, record, "prompt");
        const char *second = draft_string(d, r, record, "completion");
        draft_part(d, first, strlen(first), false, "prompt");
        draft_part(d, second, strlen(second), true, "completion");
    }
    if (role && strcmp(role, "assistant"))
        draft_fault(d, "the last message is not the assistant's");
}

// A piece of a plain text, and what one thread needs to turn it into tokens.
#ifndef PLAIN_PIECE
#define PLAIN_PIECE (1 << 20) // bytes; tests have less
#endif
typedef struct {
    const char *text;
    size_t n;
    MergeWork work;
    TokenList ids;
} PlainPiece;

// Append the tokens of a plain text, which is read and encoded in pieces, one for each thread at a time. Where
// the tokenizer does not allow that, or there is no place to cut, a piece may be the whole text. Returns
// whether it is blank.
static bool plain_encode(TokenStore *store, const Tokenizer *t, const char *path) {
    const bool local = tokenizer_is_local(t);
    const int threads = local ? omp_get_max_threads() : 1;
    PlainPiece *pieces = mem_alloc((size_t)threads, sizeof *pieces);
    for (int i = 0; i < threads; i++)
        pieces[i].work.words = mem_alloc(WORD_SLOTS, sizeof(WordSlot));
    size_t most = local ? PLAIN_PIECE : SIZE_MAX / 2;
    bool blank = true;
    TextReader reader;
    text_reader_open(&reader, path);
    do {
        text_reader_more(&reader, most * (size_t)threads);
        size_t at = 0;
        int n = 0;
        while (n < threads && at < reader.good) {
            PlainPiece *p = &pieces[n];
            const size_t left = reader.good - at, room = left < most ? left : most;
            p->text = reader.text.data + at;
            p->n = reader.end && left == room ? left : tokenizer_cut(p->text, room);
            if (!p->n) break; // no place to cut, yet
            at += p->n;
            n++;
        }
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (n > 1)
        for (int i = 0; i < n; i++) {
            PlainPiece *p = &pieces[i];
            p->ids.n = 0;
            encode_added(t, &p->work, &p->ids, p->text, p->n, 0, t->split_special);
        }
        for (int i = 0; i < n; i++) store_add(store, pieces[i].ids.data, NULL, pieces[i].ids.n);
        blank = blank && text_is_blank(reader.text.data, at);
        if (local) most = at ? PLAIN_PIECE : 2 * most;
        text_reader_done(&reader, at);
        progress_show("%s: %zu tokens", path, store->n);
    } while (!reader.end || reader.good);
    text_reader_close(&reader);
    for (int i = 0; i < threads; i++) {
        merge_work_free(&pieces[i].work);
        tokens_free(&pieces[i].ids);
    }
    free(pieces);
    progress_clear();
    return blank;
}

// A plain text becomes rows of max_length tokens (the last may be shorter), with EOS at its very
// end. A row begins with the last token of the row before: so every token but the first of the file
// is predicted exactly once.
static void dataset_add_plain(Dataset *d, const Tokenizer *t, const char *path,
                              const DataOptions *o) {
    TokenStore *s = store_new(t->vocab_size);
    const int number = dataset_add_store(d, s);
    if (!o->token_dir || !store_find(s, path, t, o->token_dir, o->token_least)) {
        store_add(s, t->before.data, NULL, t->before.n);
        if (plain_encode(s, t, path)) die(EXIT_BAD_INPUT, "%s: contains no text", path);
        if (!s->n || store_id(s, s->n - 1) != t->eos_id) store_add(s, &t->eos_id, NULL, 1);
    }
    for (size_t i = 0; i + 1 < s->n; i++) d->counts.special += store_id(s, i) == t->eos_id;
    for (size_t at = 0; at + 1 < s->n; at += (size_t)o->max_length - 1) {
        const size_t left = s->n - at;
        const int n = left < (size_t)o->max_length ? (int)left : o->max_length;
        dataset_add_row(d, (Row){at, n, number});
    }
    d->counts.records++;
}

// ------------------------------------------------------------------------------------------------
// Use

// Append to o->faults what record cannot be used and why: file, line, error.
static void fault_note(const DataOptions *o, const Draft *draft, const LineReader *r) {
    text_append(o->faults, "{\"file\": ", 9);
    text_json(o->faults, r->path, strlen(r->path));
    text_print(o->faults, ", \"line\": %ld, \"error\": ", r->number);
    text_json(o->faults, draft->fault, strlen(draft->fault));
    text_append(o->faults, "}\n", 2);
}

// Done with a record: count it, name its fault of content (with o->strict an error), free it.
static void record_done(DataCounts *c, const Draft *draft, const LineReader *r, cJSON *record,
                        const DataOptions *o) {
    c->records++;
    c->identical += draft->identical;
    if (draft->fault[0]) {
        if (o->strict) die(EXIT_BAD_INPUT, "%s:%ld: %s", r->path, r->number, draft->fault);
        if (++c->skipped <= 3) warn("%s:%ld: %s: skipped", r->path, r->number, draft->fault);
        if (o->faults) fault_note(o, draft, r);
    }
    cJSON_Delete(record);
}

static void row_work_free(RowWork *w) {
    tokens_free(&w->ids);
    tokens_free(&w->joint);
    text_free(&w->mask);
    text_free(&w->text);
}

// Done with the files of which n examples can be used: none is an error. Frees the working memory.
static void file_done(LineReader *r, Draft *draft, RowWork *w, const DataCounts *c, int n) {
    if (!c->records) die(EXIT_BAD_INPUT, "%s: contains no records", r->names);
    if (!n)
        die(EXIT_BAD_INPUT, "%s: all %ld records were skipped: nothing to train on", r->names,
            c->records);
    lines_close(r);
    draft_free(draft);
    row_work_free(w);
}

// True if a file of this name is plain text; it may be compressed.
static bool name_is_plain(const char *path) {
    static const char *const ends[] = {".txt", ".txt.gz", ".txt.zst"};
    for (int i = 0; i < COUNT(ends); i++)
        if (text_has_suffix(path, ends[i])) return true;
    return false;
}

// Load the files that `names` stands for (see file_list) for supervised fine-tuning: plain texts if
// the name of the first ends in .txt, else JSONL.
static void dataset_load(Dataset *d, const Tokenizer *t, const char *names, const DataOptions *o) {
    *d = (Dataset){0};
    FileList files = file_list(names);
    const bool plain = name_is_plain(files.names[0]);
    for (int i = 0; i < files.n; i++) {
        if (name_is_plain(files.names[i]) != plain)
            die(EXIT_BAD_INPUT, "%s: plain text (.txt) and JSONL cannot be mixed", names);
        if (plain) dataset_add_plain(d, t, files.names[i], o);
    }
    file_list_free(&files);
    if (plain && !d->n) die(EXIT_BAD_INPUT, "%s: has no token after its first one to learn", names);
    if (plain) return;
    LineReader reader;
    Draft draft = {0};
    RowWork work = {0};
    cJSON *record;
    dataset_add_store(d, store_new(t->vocab_size));
    lines_open(&reader, names);
    while ((record = record_next(&reader))) {
        draft_sft(&draft, &reader, record, o);
        dataset_add(d, t, &draft, &work, o);
        record_done(&d->counts, &draft, &reader, record, o);
    }
    file_done(&reader, &draft, &work, &d->counts, d->n);
}

// Keep the tokens of plain texts where the options said so when they were loaded: see store_keep.
static void dataset_keep(Dataset *d) {
    for (int i = 0; i < d->n_stores; i++) store_keep(d->stores[i]);
}

// Free all that dataset_load or dataset_split allocated.
static void dataset_free(Dataset *d) {
    for (int i = 0; i < d->n_stores; i++) store_free(d->stores[i]);
    free(d->stores), free(d->rows);
    *d = (Dataset){0};
}

// tokens, mask (n of row i) <- row i.
static void dataset_read(const Dataset *d, int i, int *tokens, unsigned char *mask) {
    const Row *row = &d->rows[i];
    const TokenStore *store = d->stores[row->store];
    store_read(store, row->at, tokens, (size_t)row->n);
    if (store->mask) memcpy(mask, store->mask + row->at, (size_t)row->n);
    else memset(mask, 1, (size_t)row->n);
    mask[0] = 0;
}

// Fill a batch with the rows of these indices (n), as they stand in rng_permutation's order.
static void dataset_batch(Batch *b, const Dataset *d, const int *indices, int n) {
    batch_clear(b);
    for (int i = 0; i < n; i++) {
        const int at = batch_open_row(b, -1, d->rows[indices[i]].n);
        dataset_read(d, indices[i], b->tokens + at, b->mask + at);
    }
}

// Number of tokens in all rows.
static size_t dataset_tokens(const Dataset *d) {
    size_t count = 0;
    for (int i = 0; i < d->n; i++) count += (size_t)d->rows[i].n;
    return count;
}

// Number of tokens of row i that count in the loss.
static long dataset_row_mask(const Dataset *d, int i) {
    const Row *row = &d->rows[i];
    const unsigned char *mask = d->stores[row->store]->mask;
    if (!mask) return row->n - 1;
    long count = 0;
    for (int k = 0; k < row->n; k++) count += mask[row->at + (size_t)k];
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
    text_print(out, "%s: %d rows, %zu tokens, %ld of them in the loss", path, d->n,
               dataset_tokens(d), dataset_count_mask(d));
    int kept = 0;
    for (int i = 0; i < d->n_stores; i++) kept += d->stores[i]->map != NULL;
    if (kept) text_print(out, "; of %d of %d texts the tokens were kept", kept, d->n_stores);
    counts_report(out, &d->counts);
}

// One step of a hash (64 bits, FNV-1a), which begins with HASH_BEGIN.
#define HASH_BEGIN 14695981039346656037u
static uint64_t hash_add(uint64_t hash, uint64_t x) { return (hash ^ x) * 1099511628211u; }

// A hash of all that a run sees of the data: row lengths, tokens and masks. Two runs with the same
// hash train on the same rows, whatever file and options they came from.
static uint64_t dataset_hash(const Dataset *d) {
    uint64_t hash = HASH_BEGIN;
    Batch row = {0};
    for (int i = 0; i < d->n; i++) {
        dataset_batch(&row, d, &i, 1);
        hash = hash_add(hash, (uint64_t)row.N);
        for (int k = 0; k < row.N; k++)
            hash = hash_add(hash, (uint64_t)(2 * (int64_t)row.tokens[k] + row.mask[k]));
    }
    batch_free(&row);
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

// Let `to` use the stores of another data set, too. Returns the number that the first of them gets.
static int dataset_share(Dataset *to, const Dataset *from) {
    const int first = to->n_stores;
    for (int i = 0; i < from->n_stores; i++) {
        dataset_add_store(to, from->stores[i]);
        from->stores[i]->users++;
    }
    return first;
}

// Part a data set into training and evaluation rows; both keep their order. The counts for the
// report stay with `all`.
static void dataset_split(Dataset *train, Dataset *eval, const Dataset *all, double fraction,
                          uint64_t seed) {
    *train = *eval = (Dataset){0};
    unsigned char *drawn = split_draw(all->n, fraction, seed);
    dataset_share(train, all);
    dataset_share(eval, all);
    for (int i = 0; i < all->n; i++) dataset_add_row(drawn[i] ? eval : train, all->rows[i]);
    free(drawn);
}

// Append the rows of another data set.
static void dataset_append(Dataset *d, const Dataset *more) {
    const int first = dataset_share(d, more);
    for (int i = 0; i < more->n; i++) {
        const Row *row = &more->rows[i];
        dataset_add_row(d, (Row){row->at, row->n, first + row->store});
    }
}

#endif
