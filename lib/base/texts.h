// texts.h: tokens as text, for people, for files and for programs. Tokens are bytes: a text that a
// model wrote can stop amid a character, and a young model writes NULs. Special tokens are left
// out.
#ifndef TEXTS_H
#define TEXTS_H

#include "tokenizer.h" // defines: Tokenizer, tokenizer_decode, text_append_repaired

// Append the bytes of n tokens as they are. `out` is NUL-terminated even where there are none.
static void text_add_bytes(Text *out, const Tokenizer *t, const int *ids, size_t n) {
    tokenizer_decode(t, out, ids, n, true);
    text_append(out, "", 0);
}

// Append n tokens as valid UTF-8: what is no character becomes U+FFFD. NUL-terminated, too.
static void text_add_tokens(Text *out, const Tokenizer *t, const int *ids, size_t n) {
    Text bytes = {0};
    text_add_bytes(&bytes, t, ids, n);
    text_append_repaired(out, bytes.data, bytes.size);
    text_append(out, "", 0);
    text_free(&bytes);
}

// The same of a row as people are shown it, "prompt | completion": of its n tokens the first
// n_prompt are the prompt.
static void text_add_row(Text *out, const Tokenizer *t, const int *ids, int n_prompt, int n) {
    text_add_tokens(out, t, ids, (size_t)n_prompt);
    text_append(out, " |", 2);
    text_add_tokens(out, t, ids + n_prompt, (size_t)(n - n_prompt));
}

// Append n tokens as a JSON string. NULs become U+FFFD, too: many readers of JSON cannot hold them.
static void text_add_json(Text *out, const Tokenizer *t, const int *ids, size_t n) {
    Text bytes = {0}, clean = {0};
    text_add_bytes(&bytes, t, ids, n);
    for (size_t i = 0; i < bytes.size; i++)
        if (!bytes.data[i]) bytes.data[i] = (char)0xFF; // never part of a character
    text_append_repaired(&clean, bytes.data, bytes.size);
    text_json(out, clean.data, clean.size);
    text_free(&bytes);
    text_free(&clean);
}

#endif
