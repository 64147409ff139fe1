// preferences.h: a prompt with two completions, one chosen and one rejected, or with one completion
// that is labelled good or bad. From top to bottom:
//
//   forms     a record as text in parts
//   pieces    the parts as tokens, sets of them
//   use       loading, report, split, batches
//
// A record has one of
//
//   prompt, chosen, rejected     three strings, or three lists of messages
//   chosen, rejected             the same with the prompt at the beginning of both; where they are
//                                messages, a `prompt` that is text is left alone (UltraFeedback)
//   prompt, completion, label    label: true or false, or 1 or 0
//
// and pairs for a reward model may also have
//
//   margin                       a number: by how much the chosen score has to be ahead
//
// For SPIN, which makes the other completion itself, completions_load takes prompt and completion
// without a label, too, or `messages`.
//
// A completion in messages is a reply of the assistant: one message, or several with nobody else's
// between. The pieces are tokenised each on its own and completions end with EOS, as in supervised
// fine-tuning. An empty prompt becomes EOS, which is how generate begins a text from nothing: so all of
// a completion counts.
#ifndef PREFERENCES_H
#define PREFERENCES_H

#include "dataset.h"

// ------------------------------------------------------------------------------------------------
// Forms

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

// Append the reply that begins with message i of the list `key`: all that is left of it must be the
// assistant's.
static void draft_reply(Draft *d, const LineReader *r, const cJSON *list, const char *key, int i,
                        ChatFormat format) {
    const cJSON *message = cJSON_GetArrayItem(list, i);
    bool said = false;
    for (const char *content; message; message = message->next) {
        const char *role = message_read(d, r, message, key, i++, &content);
        if (!role) return;
        if (strcmp(role, "assistant"))
            draft_fault(d, "\"%s\" is not one reply of the assistant", key);
        said |= !text_is_blank(content, strlen(content));
        chat_reply(&d->text, format, content);
        if (message->next) draft_turn(d, format, "assistant", NULL);
    }
    if (!said) draft_fault(d, "\"%s\" is empty", key);
    draft_end_part(d, true, key);
}

// Draft a prompt and the n replies in the columns `keys`, lists of messages. The prompt is one, too,
// or what the lists of two replies begin with. It ends where the assistant is to speak.
static void draft_replies(Draft *d, const LineReader *r, const cJSON *record,
                          const char *const *keys, int n, ChatFormat format) {
    const cJSON *prompt = record_get(record, "prompt"), *first = json_get(record, keys[0]);
    const char *content, *role;
    int shared = 0;
    for (int i = 0; i < n; i++)
        if (!messages_check(d, r, json_get(record, keys[i]), keys[i])) return;
    if (n == 1 || cJSON_IsArray(prompt)) {
        if (!draft_messages(d, r, prompt, "prompt", format, false)) return;
    } else if (prompt && !cJSON_IsString(prompt)) record_string(r, record, "prompt"); // dies
    else {
        shared = messages_shared(first, json_get(record, keys[1]));
        if (!shared && prompt)
            draft_fault(d,
                        "\"prompt\" is text, and the messages of chosen and rejected do not begin "
                        "with it");
        if (!shared) draft_fault(d, "chosen and rejected share no prompt");
    }
    for (int i = 0; i < shared; i++) {
        role = message_read(d, r, cJSON_GetArrayItem(first, i), keys[0], i, &content);
        if (!role) return;
        draft_turn(d, format, role, content);
    }
    draft_turn(d, format, "assistant", NULL);
    draft_end_part(d, false, "prompt");
    for (int i = 0; i < n && !d->fault[0]; i++)
        draft_reply(d, r, json_get(record, keys[i]), keys[i], shared, format);
}

// Draft a record in three parts: prompt, chosen, rejected (n = 2); or in two: prompt, completion.
static void draft_preference(Draft *d, const LineReader *r, const cJSON *record, int n,
                             ChatFormat format) {
    const char *const keys[2] = {n == 2 ? "chosen" : "completion", "rejected"};
    const char *text[2] = {NULL, NULL}, *human = "\n\nHuman:";
    const cJSON *prompt = record_get(record, "prompt");
    bool lists = cJSON_IsArray(prompt);
    size_t cut = 0;
    draft_clear(d, r);
    for (int i = 0; i < n; i++) lists |= cJSON_IsArray(draft_column(d, r, record, keys[i]));
    if (n == 1) draft_column(d, r, record, "prompt");
    if (d->fault[0]) return; // a column is null
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

// Draft a prompt and its completion: the columns of these names; or of a pair both, of which the
// chosen one comes first; or a conversation in `messages`, whose last reply is the completion and
// all before it the prompt.
static void draft_completion(Draft *d, const LineReader *r, const cJSON *record,
                             ChatFormat format) {
    const cJSON *messages = record_get(record, "messages"), *message;
    const bool pair = record_get(record, "chosen") || record_get(record, "rejected");
    if (!messages || pair || record_get(record, "prompt") || record_get(record, "completion")) {
        draft_preference(d, r, record, pair ? 2 : 1, format);
        return;
    }
    const char *role = "", *content = "";
    int i = 0;
    draft_clear(d, r);
    if (!messages_check(d, r, messages, "messages")) return;
    cJSON_ArrayForEach(message, messages) {
        role = message_read(d, r, message, "messages", i++, &content);
        if (!role) return;
        if (message->next) draft_turn(d, format, role, content);
    }
    if (strcmp(role, "assistant")) draft_fault(d, "the last message is not the assistant's");
    draft_turn(d, format, "assistant", NULL);
    draft_end_part(d, false, "prompt");
    if (text_is_blank(content, strlen(content))) draft_fault(d, "\"messages\" is empty");
    chat_reply(&d->text, format, content);
    draft_end_part(d, true, "messages");
}

// ------------------------------------------------------------------------------------------------
// Pieces

// Where the prompt of a preference begins once it is cut, in front of a completion of `longest`
// tokens. As row_truncate has it; but completions that must stay whole, because something is read
// at their last token, may cut it down to one token. If that does not do, or keep_start allows no
// cut, the example cannot be used.
static size_t prompt_begin(Draft *draft, size_t prompt, size_t longest, const DataOptions *o) {
    const size_t room = (size_t)o->max_length;
    size_t begin;
    if (!o->whole) {
        row_truncate(prompt + longest, prompt, o, &begin);
        return begin;
    }
    begin = prompt + longest > room ? prompt + longest - room : 0;
    if (begin && (o->keep_start || begin >= prompt))
        draft_fault(draft, "prompt and completion have %zu tokens, context is %d: the end is cut",
                    prompt + longest, o->max_length);
    return begin;
}

// Tokenise a preference: its pieces go to w->ids, piece i from w->begin[i] to w->end[i]. The prompt
// is cut once, for the longer completion, and is the same in front of both.
static void pieces_encode(RowWork *w, const Tokenizer *t, Draft *draft, const DataOptions *o,
                          DataCounts *counts) {
    size_t at = 0, longest = 0, inside = 0;
    bool joins = false, cut = false;
    if (draft->fault[0]) return;
    w->ids.n = 0;
    for (int i = 0; i < draft->n; i++) {
        const char *text = draft->text.data;
        const size_t prompt_bytes = draft->parts[0].end, prompt = i ? w->end[0] : 0;
        const size_t bytes = draft->parts[i].end - at, from = w->begin[i] = w->ids.n;
        if (i == 0) draft_begin(draft, t, &w->ids);
        const size_t first = w->ids.n - from;
        chat_encode(t, &w->ids, text + at, bytes);
        const size_t n = w->ids.n - from;
        for (size_t k = first; k < n && !chat_has_tokens(o->chat_format); k++)
            inside += w->ids.data[from + k] == t->eos_id && (i == 0 || k + 1 < n);
        if (i && prompt_bytes) { // prompt and completion as one text, to count where it matters
            w->text.size = w->joint.n = 0;
            text_append(&w->text, text, prompt_bytes);
            text_append(&w->text, text + at, bytes);
            draft_begin(draft, t, &w->joint);
            chat_encode(t, &w->joint, w->text.data, w->text.size);
            joins |= w->joint.n != prompt + n ||
                     memcmp(w->joint.data, w->ids.data, prompt * sizeof(int)) ||
                     memcmp(w->joint.data + prompt, w->ids.data + from, n * sizeof(int));
        }
        if (n == 0 || (i && w->ids.data[w->ids.n - 1] != t->eos_id))
            tokens_append(&w->ids, t->eos_id);
        w->end[i] = w->ids.n;
        if (i && o->max_completion && w->end[i] - from > (size_t)o->max_completion)
            w->end[i] = from + (size_t)o->max_completion, cut = true;
        if (i && w->end[i] - from > longest) longest = w->end[i] - from;
        at += bytes;
    }
    const size_t most = o->max_prompt ? (size_t)o->max_prompt : SIZE_MAX;
    const size_t prompt = w->end[0] < most ? w->end[0] : most, dropped = w->end[0] - prompt;
    if (prompt >= (size_t)o->max_length) {
        draft_fault(draft, "prompt has %zu tokens, context is %d", prompt, o->max_length);
        return;
    }
    w->begin[0] = dropped + prompt_begin(draft, prompt, longest, o);
    if (draft->fault[0]) return;
    const size_t room = (size_t)o->max_length - (w->end[0] - w->begin[0]); // for a completion
    for (int i = 1; i < draft->n; i++)
        if (w->end[i] - w->begin[i] > room) w->end[i] = w->begin[i] + room;
    const size_t n = w->end[1] - w->begin[1];
    if (draft->n == 3 && n == w->end[2] - w->begin[2] &&
        !memcmp(w->ids.data + w->begin[1], w->ids.data + w->begin[2], n * sizeof(int))) {
        draft_fault(draft, "chosen and rejected are identical in %zu tokens", n);
        draft->identical = true;
        return;
    }
    counts->truncated += cut || w->begin[0] > 0 || longest > room;
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
    float *margin;            // (n) PairSet: the column of this name; NULL if no row has one
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
        if (d->margin) d->margin = mem_resize(d->margin, d->max_n, sizeof *d->margin);
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

// Append example i of another set. Both have margins, or none has.
static void pieces_copy(PieceSet *to, const PieceSet *from, int i) {
    const size_t *start = from->start + (size_t)from->pieces * (size_t)i;
    pieces_add(to, from->tokens, start, start + 1, from->label[i]);
    if (from->margin) to->margin[to->n - 1] = from->margin[i];
}

// ------------------------------------------------------------------------------------------------
// Use

// Read the column `margin` of a record; `first`: of the first one, which decides whether there is
// such a column. All rows have it or none: a missing one would have to be guessed.
static float margin_read(PieceSet *d, const LineReader *r, const cJSON *record, bool first) {
    const cJSON *item = record_get(record, "margin");
    if (first && item) d->margin = mem_alloc(1, sizeof *d->margin);
    if (!item && d->margin) record_missing(r, record, "\"margin\", which earlier rows have");
    if (!item) return 0;
    if (!d->margin)
        die(EXIT_BAD_INPUT, "%s:%ld: \"margin\", which earlier rows do not have", r->path,
            r->number);
    if (!cJSON_IsNumber(item))
        die(EXIT_BAD_INPUT, "%s:%ld: \"margin\" is %s, expected a number", r->path, r->number,
            json_type_name(item));
    if (!(fabs(item->valuedouble) <= 1e6))
        die(EXIT_BAD_INPUT, "%s:%ld: \"margin\" %g is out of range (from -1e6 to 1e6)", r->path,
            r->number, item->valuedouble);
    return (float)item->valuedouble;
}

// The column `label`: 1 for true or 1, 0 for false or 0; a fault if it is null. Dies if it is anything
// else.
static int label_read(Draft *d, const LineReader *r, const cJSON *record) {
    const cJSON *label = draft_column(d, r, record, "label");
    int64_t number;
    if (!label || cJSON_IsBool(label)) return cJSON_IsTrue(label);
    if (json_integer(label, &number) && (number == 0 || number == 1)) return (int)number;
    die(EXIT_BAD_INPUT, "%s:%ld: \"label\" must be true or false, or 1 or 0 (found %s)", r->path,
        r->number, json_type_name(label));
}

// Load a set of 3 pieces an example (pairs only) or 2. Of a pair in a set of 2 both completions are
// taken, or, if they are not `labelled`, the chosen one.
static void preferences_load(PieceSet *d, int pieces, bool labelled, const Tokenizer *t,
                             const char *path, const DataOptions *o) {
    *d = (PieceSet){.pieces = pieces, .max_length = o->max_length};
    LineReader reader;
    Draft draft = {0};
    RowWork w = {0};
    lines_open(&reader, path);
    for (cJSON *record; (record = record_next(&reader));) {
        bool pair = pieces == 3 || record_get(record, "chosen") || record_get(record, "rejected");
        if (labelled) draft_preference(&draft, &reader, record, pair ? 2 : 1, o->chat_format);
        else draft_completion(&draft, &reader, record, o->chat_format);
        const int label = pair || !labelled ? 1 : label_read(&draft, &reader, record);
        const float margin =
            o->margins ? margin_read(d, &reader, record, d->counts.records == 0) : 0;
        pieces_encode(&w, t, &draft, o, &d->counts);
        if (!draft.fault[0]) pieces_add(d, w.ids.data, w.begin, w.end, label);
        if (!draft.fault[0] && d->margin) d->margin[d->n - 1] = margin;
        if (!draft.fault[0] && pair && labelled && pieces == 2) {
            w.begin[1] = w.begin[2], w.end[1] = w.end[2];
            pieces_add(d, w.ids.data, w.begin, w.end, 0);
        }
        record_done(&d->counts, &draft, &reader, record, o);
    }
    file_done(&reader, &draft, &w, &d->counts, d->n);
}

// Load pairs: what DPO, IPO and ORPO learn from.
static void pairs_load(PairSet *d, const Tokenizer *t, const char *path, const DataOptions *o) {
    preferences_load(d, 3, true, t, path, o);
}

// Load labelled completions: what KTO learns from. Of a pair both are taken, the chosen one with
// label true and then the rejected one.
static void labels_load(LabelSet *d, const Tokenizer *t, const char *path, const DataOptions *o) {
    preferences_load(d, 2, true, t, path, o);
}

// Load completions without a label: what SPIN learns to tell from the model's own. Of a pair the
// chosen one is taken.
static void completions_load(LabelSet *d, const Tokenizer *t, const char *path,
                             const DataOptions *o) {
    preferences_load(d, 2, false, t, path, o);
}

static void pieces_free(PieceSet *d) {
    free(d->start), free(d->tokens), free(d->label), free(d->margin);
    *d = (PieceSet){0};
}

// Tokens of pair i as TRL counts them: two rows, with the prompt in each.
static int64_t pair_tokens(const PairSet *d, int i) {
    const size_t *start = d->start + 3 * (size_t)i; // of prompt, chosen and rejected
    return (int64_t)(start[3] - start[0] + start[1] - start[0]);
}

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
    if (d->margin) text_print(out, ", each with its margin");
    counts_report(out, &d->counts);
}
static void labels_report(Text *out, const LabelSet *d, const char *path) {
    text_print(out, "%s: %d true and %d false completions, %zu tokens of prompts, %zu to learn",
               path, d->good, d->n - d->good, pieces_count(d, 0), pieces_count(d, 1));
    counts_report(out, &d->counts);
}

static void completions_report(Text *out, const LabelSet *d, const char *path) {
    text_print(out, "%s: %d completions, %zu tokens of prompts, %zu to learn", path, d->n,
               pieces_count(d, 0), pieces_count(d, 1));
    counts_report(out, &d->counts);
}

// A hash of all that a run sees of the data: lengths and tokens of the pieces, labels, margins.
static uint64_t pieces_hash(const PieceSet *d) {
    uint64_t hash = HASH_BEGIN;
    for (size_t i = 0; i < (size_t)d->pieces * d->n; i++) {
        hash = hash_add(hash, d->start[i + 1] - d->start[i]);
        for (size_t k = d->start[i]; k < d->start[i + 1]; k++)
            hash = hash_add(hash, (uint64_t)d->tokens[k]);
    }
    for (int i = 0; i < d->n; i++) hash = hash_add(hash, d->label[i]);
    for (int i = 0; d->margin && i < d->n; i++) {
        uint32_t bits;
        memcpy(&bits, &d->margin[i], sizeof bits);
        hash = hash_add(hash, bits);
    }
    return hash;
}

// Part a set as dataset_split does.
static void pieces_split(PieceSet *train, PieceSet *eval, const PieceSet *all, double fraction,
                         uint64_t seed) {
    *train = *eval = (PieceSet){.pieces = all->pieces, .max_length = all->max_length};
    unsigned char *drawn = split_draw(all->n, fraction, seed);
    for (int side = 0; all->margin && side < 2; side++)
        (side ? eval : train)->margin = mem_alloc(1, sizeof *all->margin);
    for (int i = 0; i < all->n; i++) pieces_copy(drawn[i] ? eval : train, all, i);
    free(drawn);
}

// Append all examples of another set, which comes from `names`, and release it. Dies (EXIT_BAD_INPUT) if only
// one of the two has margins.
static void pieces_append(PieceSet *d, PieceSet *more, const char *names) {
    if (!d->margin != !more->margin)
        die(EXIT_BAD_INPUT, "%s: has %s \"margin\", unlike what it is mixed with", names,
            more->margin ? "the column" : "no column");
    for (int i = 0; i < more->n; i++) pieces_copy(d, more, i);
    pieces_free(more);
}

// Example i of n that are spread evenly over a set of `all`.
static int spread(int i, int n, int all) { return (int)((int64_t)i * all / n); }

// Keep n examples of a set that has more, evenly spread.
static void pieces_thin(PieceSet *d, int n) {
    PieceSet all = *d;
    *d = (PieceSet){.pieces = all.pieces, .max_length = all.max_length};
    if (all.margin) d->margin = mem_alloc(1, sizeof *d->margin);
    for (int i = 0; i < n; i++) pieces_copy(d, &all, spread(i, n, all.n));
    pieces_free(&all);
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

// The row of pair i's chosen completion in a batch that pairs_batch has filled; the rejected one is
// the next row.
static int pair_row(const Batch *b, int i) {
    const bool shared = b->R > 1 && b->parent[1] == 0;
    return shared ? 3 * i + 1 : 2 * i;
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
