// prompts.h: prompts alone, for what samples its own completions. A record has one of
//
//   prompt        a string, or a list of messages: its text ends where the assistant is to speak
//   prompt_ids    a list of token ids, which are taken as they are; needs no tokenizer
//
// and other columns are left alone, so that a file of preferences serves as a file of prompts.
#ifndef PROMPTS_H
#define PROMPTS_H

#include "preferences.h"

typedef PieceSet PromptSet; // prompt i is piece i

// Draft the column `prompt`, string or messages, as one part.
static void draft_prompt(Draft *d, const LineReader *r, const cJSON *record, ChatFormat format) {
    draft_clear(d, r);
    const cJSON *prompt = draft_column(d, r, record, "prompt");
    if (!prompt) return;
    if (!cJSON_IsArray(prompt)) {
        const char *text = record_string(r, record, "prompt");
        draft_part(d, text, strlen(text), false, "prompt");
        return;
    }
    const char *role = draft_messages(d, r, prompt, "prompt", format, false);
    if (!role) return;
    if (!strcmp(role, "assistant")) draft_fault(d, "the last message is the assistant's own");
    draft_turn(d, format, "assistant", NULL);
    draft_end_part(d, false, "prompt");
}

// Append the column `key`, a list of token ids below vocab_size; dies if it is anything else.
static void record_ids(TokenList *ids, const LineReader *r, const cJSON *record, const char *key,
                       int vocab_size) {
    const cJSON *list = record_item(r, record, key), *item;
    if (!cJSON_IsArray(list))
        die(EXIT_BAD_INPUT, "%s:%ld: \"%s\" is %s, expected a list of token ids", r->path,
            r->number, key, json_type_name(list));
    int i = 0;
    cJSON_ArrayForEach(item, list) {
        int64_t id;
        if (!json_integer(item, &id))
            die(EXIT_BAD_INPUT, "%s:%ld: %s[%d] is %s, expected a token id", r->path, r->number,
                key, i, cJSON_IsNumber(item) ? "not an integer" : json_type_name(item));
        if (id < 0 || id >= vocab_size)
            die(EXIT_BAD_INPUT,
                "%s:%ld: %s[%d]: token id %" PRId64 " is outside the model's vocabulary of %d",
                r->path, r->number, key, i, id, vocab_size);
        tokens_append(ids, (int)id);
        i++;
    }
}

// Load prompts. One longer than o->max_length tokens loses its beginning; an empty text becomes
// EOS, which is how generate begins a text from nothing. Without a tokenizer (NULL) all records
// must have prompt_ids, which are below o->vocab_size. Dies (EXIT_BAD_INPUT) where a record is not so.
static void prompts_load(PromptSet *d, const Tokenizer *t, const char *path, const DataOptions *o) {
    *d = (PieceSet){.pieces = 1, .max_length = o->max_length};
    LineReader reader;
    Draft draft = {0};
    RowWork w = {0};
    lines_open(&reader, path);
    for (cJSON *record; (record = record_next(&reader));) {
        draft_clear(&draft, &reader);
        w.ids.n = 0;
        if (record_get(record, "prompt_ids")) {
            record_ids(&w.ids, &reader, record, "prompt_ids", o->vocab_size);
            if (!w.ids.n) draft_fault(&draft, "\"prompt_ids\" is empty");
        } else if (!json_get(record, "prompt") && !json_get(record, "prompt_ids")) {
            record_missing(&reader, record, "\"prompt\" or \"prompt_ids\"");
        } else if (!record_get(record, "prompt")) {
            draft_fault(&draft, "\"%s\" is null",
                        json_get(record, "prompt") ? "prompt" : "prompt_ids");
        } else if (!t) {
            die(EXIT_BAD_INPUT,
                "%s:%ld: \"prompt\" is text, and there is no tokenizer: expected \"prompt_ids\"",
                path, reader.number);
        } else {
            draft_prompt(&draft, &reader, record, o->chat_format);
            draft_begin(&draft, t, &w.ids);
            const size_t first = w.ids.n;
            chat_encode(t, &w.ids, draft.text.data, draft.text.size);
            size_t inside = 0;
            for (size_t i = first; i < w.ids.n && !chat_has_tokens(o->chat_format); i++)
                inside += w.ids.data[i] == t->eos_id;
            d->counts.special += inside > 0;
            if (!w.ids.n) tokens_append(&w.ids, t->eos_id);
        }
        const size_t n = w.ids.n, room = (size_t)o->max_length, begin = n > room ? n - room : 0;
        d->counts.truncated += begin > 0 && !draft.fault[0];
        if (!draft.fault[0]) pieces_add(d, w.ids.data, &begin, &n, 0);
        record_done(&d->counts, &draft, &reader, record, o);
    }
    file_done(&reader, &draft, &w, &d->counts, d->n);
}

// Append one line about what was read.
static void prompts_report(Text *out, const PromptSet *d, const char *path) {
    text_print(out, "%s: %d prompts, %zu tokens", path, d->n, pieces_count(d, 0));
    counts_report(out, &d->counts);
}

#endif
