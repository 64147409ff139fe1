// bpe.h: GPT-2's byte-level BPE (Radford et al. 2019), the same ids as `transformers` gives. Which
// files of a directory say what is tokenizer.h's matter; here is what is done with a text:
//
//   pieces        how bytes are spelled in a vocabulary, and the Tokenizer itself
//   vocabulary    filled from a vocabulary, merges and added tokens, with strict checks
//   scanning      the cut of a text into words: GPT-2's pattern by hand, no regular expressions
//   encoding      text -> ids
//   decoding      ids -> bytes, whole or as a stream, repair of broken UTF-8
//
// The order of work when encoding: added tokens such as <|endoftext|> are cut out of the text, what
// is between them is normalized (normalizer.h) and cut into words, and the bytes of each word are
// merged pair by pair. Source: the `tokenizers` library, whose ids the tests compare.
#ifndef BPE_H
#define BPE_H

#include "common.h"
#include "json.h"
#include "normalizer.h"
#include "unicode.h"

// ------------------------------------------------------------------------------------------------
// Pieces

#define END_OF_TEXT "<|endoftext|>"

// One merge, in a hash table by (left, right).
typedef struct {
    int left, right; // ids
    int rank;        // number of the line: the lowest rank merges first
    int result;      // id of left and right together; -1: this slot is empty
} Merge;

// A token that is found in the text before anything else is done.
typedef struct {
    char *name;
    char *pattern; // the name after normalization
    int id;
    bool special;                     // not part of the text: tokenizer_decode can leave it out
    bool normalized;                  // looked for in the normalized text, not before
    bool single_word, lstrip, rstrip; // only between non-words; takes white space with it
    bool search[2];                   // in which texts: as it came, and normalized
} AddedToken;

// From names as a vocabulary spells them to ids. The names belong to a cJSON tree.
typedef struct {
    const cJSON **items; // (slots) open addressing; NULL: empty
    size_t slots;        // a power of two
} NameTable;

// A list of ids that grows.
typedef struct {
    int *data;
    size_t n, capacity;
} TokenList;

// A cut of the text that comes before the one into words, or instead of it.
typedef enum { CUT_DIGITS, CUT_DIGIT_RUNS, CUT_WORDS } CutKind;

// A file of the tokenizer's, as it was read.
typedef struct {
    char *name; // below the directory
    Text text;
} TokenizerFile;

typedef struct Tokenizer {
    int vocab_size;     // ids are 0..vocab_size-1, added tokens included
    int n_pieces;       // tokens of the vocabulary
    int eos_id;         // always there
    bool eos_named;     // a file names it; otherwise it is <|endoftext|> for want of another
    int bos_id;         // these as transformers finds them, or -1
    int pad_id;         //
    int unk_id;         // only a name: what BPE takes for a byte without a token is unk_piece
    int byte_id[256];   // the token of each single byte, or -1
    Text bytes;         // the bytes of all tokens, back to back
    size_t *start;      // (vocab_size + 1) where each token begins in `bytes`
    cJSON *vocab;       // the vocabulary as it was read
    NameTable names;    // of `vocab`
    Merge *merges;      // (merge_slots) open addressing
    size_t merge_slots; // a power of two
    AddedToken *added;  // (n_added) in the order in which they were added
    int n_added;
    bool added_first[2][256]; // bytes that an added token begins with, for both searches
    bool split_special;       // special tokens are ordinary text
    Normalizer normalizer;
    CutKind cuts[8]; // (n_cuts) in this order, before the cut into words
    int n_cuts;
    bool prefix_space;       // what does not begin with a blank gets one in front
    bool whole;              // no cut into words (use_regex false)
    bool ignore_merges;      // a word that is a token is that token
    int unk_piece;           // the token for bytes that have none, or -1: these are left out
    bool fuse_unk;           // one for several in a row
    TokenList before, after; // ids that the template puts around a text, see tokenizer_begin
    TokenizerFile *files; // (n_files) as they were read, so that saving gives the same bytes again
    int n_files;
    int files_pad, files_added; // pad_id and n_added as they are in these files
} Tokenizer;

// Append one id.
static void tokens_append(TokenList *list, int id) {
    if (list->n == list->capacity) {
        list->capacity = 2 * list->capacity + 64;
        list->data = mem_resize(list->data, list->capacity, sizeof(int));
    }
    list->data[list->n++] = id;
}

// Free the list; it can be used again.
static void tokens_free(TokenList *list) {
    free(list->data);
    *list = (TokenList){0};
}

// The code point by which vocab.json spells a byte. Bytes that print in Latin-1 stand for
// themselves, the other 68 take U+0100 to U+0143 in order: space is U+0120, newline U+010A.
static uint32_t byte_glyph(int byte) {
    if (byte < 0x21) return (uint32_t)(0x100 + byte);
    if (byte >= 0x7F && byte <= 0xA0) return (uint32_t)(0x121 + byte - 0x7F);
    return byte == 0xAD ? 0x143 : (uint32_t)byte;
}

// The slot of the pair (left, right): its own, or the empty one where it would go.
static Merge *merge_slot(const Tokenizer *t, int left, int right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t mask = t->merge_slots - 1, i = (size_t)(key * 0x9E3779B97F4A7C15u >> 32) & mask;
    while (t->merges[i].result >= 0 && (t->merges[i].left != left || t->merges[i].right != right))
        i = (i + 1) & mask;
    return &t->merges[i];
}

// The bytes of one token; *n is their number. Not NUL-terminated, and may be half a character. Ids
// beyond the vocabulary (a model may have more rows than there are tokens) are empty.
static const char *tokenizer_piece(const Tokenizer *t, int id, size_t *n) {
    *n = 0;
    if (id < 0 || id >= t->vocab_size) return "";
    *n = t->start[id + 1] - t->start[id];
    return t->bytes.data + t->start[id];
}

// The first token of b's vocabulary that has other bytes in a's, or -1.
static int tokenizer_difference(const Tokenizer *a, const Tokenizer *b) {
    for (int id = 0; id < b->vocab_size; id++) {
        size_t n, m;
        const char *x = tokenizer_piece(a, id, &n), *y = tokenizer_piece(b, id, &m);
        if (n != m || memcmp(x, y, n)) return id;
    }
    return -1;
}

// ------------------------------------------------------------------------------------------------
// Vocabulary

// The slot of name[0..n): the item of that name, or the empty one where it would go.
static const cJSON **name_slot(const NameTable *names, const char *name, size_t n) {
    uint64_t hash = 14695981039346656037u; // FNV-1a
    for (size_t i = 0; i < n; i++) hash = (hash ^ (unsigned char)name[i]) * 1099511628211u;
    size_t i = (size_t)(hash ^ hash >> 32) & (names->slots - 1);
    while (names->items[i] &&
           (strncmp(names->items[i]->string, name, n) || names->items[i]->string[n]))
        i = (i + 1) & (names->slots - 1);
    return &names->items[i];
}

// The id of name[0..n) in the vocabulary, or -1.
static int name_find(const NameTable *names, const char *name, size_t n) {
    const cJSON *item = *name_slot(names, name, n);
    return item ? (int)item->valuedouble : -1;
}

// The added token of this name, or NULL.
static AddedToken *added_find(const Tokenizer *t, const char *name) {
    for (int i = 0; i < t->n_added; i++)
        if (!strcmp(t->added[i].name, name)) return &t->added[i];
    return NULL;
}

// The id of the token of this name, added or in the vocabulary, or -1.
static int tokenizer_find(const Tokenizer *t, const char *name) {
    const AddedToken *added = added_find(t, name);
    return added ? added->id : name_find(&t->names, name, strlen(name));
}

// The smallest power of two that leaves a hash table of n items at most half full.
static size_t hash_slots(size_t n) {
    size_t slots = 64;
    while (slots < 2 * n) slots *= 2;
    return slots;
}

// Append the bytes that `name` spells. A name with other characters in it was never made of bytes
// (an added token that was written into vocab.json): it stands for itself, as in `transformers`.
static void piece_append(Text *bytes, const char *name, const int byte_of[0x144]) {
    size_t n = strlen(name), before = bytes->size;
    uint32_t code = 0;
    for (size_t i = 0; i < n;) {
        i += (size_t)utf8_decode(&code, name + i, n - i); // json_parse has checked the UTF-8
        if (code >= 0x144 || byte_of[code] < 0) {
            bytes->size = before;
            text_append(bytes, name, n);
            return;
        }
        char byte = (char)byte_of[code];
        text_append(bytes, &byte, 1);
    }
}

// Fill pieces, byte ids and names from the object of vocab.json, t->vocab. `path` is for messages.
static void vocab_load(Tokenizer *t, const char *path) {
    if (!cJSON_IsObject(t->vocab)) die(EXIT_BAD_INPUT, "%s: expected an object of tokens", path);
    const cJSON *item;
    size_t count = 0;
    cJSON_ArrayForEach(item, t->vocab) count++;
    if (count > INT_MAX / 4) die(EXIT_BAD_INPUT, "%s: %zu tokens are too many", path, count);
    t->n_pieces = t->vocab_size = (int)count;
    t->names.slots = hash_slots(count);
    t->names.items = mem_alloc(t->names.slots, sizeof *t->names.items);
    const cJSON **by_id = mem_alloc(count, sizeof *by_id);
    cJSON_ArrayForEach(item, t->vocab) {
        int64_t id;
        if (!json_integer(item, &id))
            die(EXIT_BAD_INPUT, "%s: the id of \"%s\" is not an integer", path, item->string);
        if (id < 0 || id >= (int64_t)count)
            die(EXIT_BAD_INPUT, "%s: id %" PRId64 " of \"%s\" is outside vocab_size %zu", path, id,
                item->string, count);
        if (by_id[id])
            die(EXIT_BAD_INPUT, "%s: id %" PRId64 " used by \"%s\" and \"%s\"", path, id,
                by_id[id]->string, item->string);
        by_id[id] = item;
        *name_slot(&t->names, item->string, strlen(item->string)) = item;
    } // as many ids as tokens, none twice, all below the count: so there is no gap either
    int byte_of[0x144]; // by code point: the inverse of byte_glyph
    for (int c = 0; c < COUNT(byte_of); c++) byte_of[c] = -1;
    for (int b = 0; b < 256; b++) byte_of[byte_glyph(b)] = b;
    t->start = mem_alloc(count + 1, sizeof *t->start);
    text_append(&t->bytes, "", 0);
    for (size_t i = 0; i < count; i++) {
        piece_append(&t->bytes, by_id[i]->string, byte_of);
        t->start[i + 1] = t->bytes.size;
    }
    for (int b = 0; b < 256; b++) {
        char name[4];
        t->byte_id[b] = name_find(&t->names, name, (size_t)utf8_encode(name, byte_glyph(b)));
    }
    free(by_id);
}

// Make room for this many merges.
static void merges_begin(Tokenizer *t, size_t count, const char *path) {
    if (count > INT_MAX / 4) die(EXIT_BAD_INPUT, "%s: %zu merges are too many", path, count);
    t->merge_slots = hash_slots(count);
    t->merges = mem_alloc(t->merge_slots, sizeof *t->merges);
    for (size_t i = 0; i < t->merge_slots; i++) t->merges[i].result = -1;
}

// Note the merge of left[0..left_n) and right[0..right_n). `where` is for messages.
static void merge_add(Tokenizer *t, int rank, const char *left, size_t left_n, const char *right,
                      size_t right_n, const char *where) {
    Text joined = {0};
    text_append(&joined, left, left_n);
    text_append(&joined, right, right_n);
    const int a = name_find(&t->names, left, left_n), b = name_find(&t->names, right, right_n);
    const int result = name_find(&t->names, joined.data, joined.size);
    if (a < 0 || b < 0)
        die(EXIT_BAD_INPUT, "%s: merge \"%.*s %.*s\": \"%.*s\" is not in the vocabulary", where,
            (int)left_n, left, (int)right_n, right, (int)(a < 0 ? left_n : right_n),
            a < 0 ? left : right);
    if (result < 0)
        die(EXIT_BAD_INPUT, "%s: merge \"%.*s %.*s\" gives \"%s\", not in the vocabulary", where,
            (int)left_n, left, (int)right_n, right, joined.data);
    Merge *slot = merge_slot(t, a, b);
    if (slot->result >= 0)
        die(EXIT_BAD_INPUT, "%s: merge \"%.*s %.*s\" appears twice", where, (int)left_n, left,
            (int)right_n, right);
    *slot = (Merge){a, b, rank, result};
    text_free(&joined);
}

// Add a token as the library's add_tokens does: one that is in the vocabulary keeps its id, a new
// one gets the next. Of a token that was added before the flags change; it stays special if it was.
// Returns its id.
static int tokenizer_add(Tokenizer *t, const AddedToken *token) {
    AddedToken *a = added_find(t, token->name);
    if (!a) {
        int id = name_find(&t->names, token->name, strlen(token->name));
        if (id < 0) {
            id = t->vocab_size++;
            text_append(&t->bytes, token->name, strlen(token->name));
            t->start = mem_resize(t->start, (size_t)t->vocab_size + 1, sizeof *t->start);
            t->start[t->vocab_size] = t->bytes.size;
        }
        Text pattern = {0};
        normalizer_apply(&t->normalizer, &pattern, token->name, strlen(token->name));
        t->added = mem_resize(t->added, (size_t)t->n_added + 1, sizeof *t->added);
        a = &t->added[t->n_added++];
        *a = (AddedToken){.name = text_copy(token->name), .pattern = pattern.data, .id = id};
    }
    a->search[token->normalized] = true;
    a->search[!token->normalized] = false;
    a->special |= token->special;
    a->normalized = token->normalized;
    a->single_word = token->single_word;
    a->lstrip = token->lstrip;
    a->rstrip = token->rstrip;
    if (a->search[0]) t->added_first[0][(unsigned char)*a->name] = true;
    if (a->search[1]) t->added_first[1][(unsigned char)*a->pattern] = true;
    return a->id;
}

// Make `name` a special token that is found in texts as a whole, as transformers' add_tokens does,
// and return its id: the one that it has, if it is a token already, or a new one after all others.
static int tokenizer_add_special(Tokenizer *t, const char *name) {
    const AddedToken *added = added_find(t, name);
    if (added) return added->id;
    char *copy = text_copy(name);
    const int id = tokenizer_add(t, &(AddedToken){.name = copy, .special = true});
    free(copy);
    return id;
}

// Die unless all ids are below the model's vocab_size.
static void tokenizer_check(const Tokenizer *t, int vocab_size, const char *dir) {
    size_t n;
    const char *last = tokenizer_piece(t, t->vocab_size - 1, &n);
    if (t->vocab_size > vocab_size)
        die(EXIT_BAD_INPUT,
            "%s: the tokenizer has %d tokens, the model's vocab_size is %d (the last token is "
            "\"%.*s\")",
            dir, t->vocab_size, vocab_size, (int)n, last);
}

// Free all that tokenizer_load allocated.
static void tokenizer_free(Tokenizer *t) {
    for (int i = 0; i < t->n_added; i++) free(t->added[i].name), free(t->added[i].pattern);
    for (int i = 0; i < t->n_files; i++) free(t->files[i].name), text_free(&t->files[i].text);
    free(t->added), free(t->merges), free(t->start), free(t->files), free(t->names.items);
    cJSON_Delete(t->vocab);
    normalizer_free(&t->normalizer);
    text_free(&t->bytes), tokens_free(&t->before), tokens_free(&t->after);
    *t = (Tokenizer){0};
}

// ------------------------------------------------------------------------------------------------
// Scanning. GPT-2 cuts a text into words by this pattern, the first alternative that fits winning:
//
//     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// Merges never cross the border of a word.

// Length of the contraction that s[0..n) begins with ('s 't 'm 'd 're 've 'll), or 0.
static size_t contraction_length(const char *s, size_t n) {
    if (n < 2 || s[0] != '\'') return 0;
    if (strchr("stmd", s[1]) && s[1]) return 2;
    bool two =
        n > 2 && (!memcmp(s + 1, "re", 2) || !memcmp(s + 1, "ve", 2) || !memcmp(s + 1, "ll", 2));
    return two ? 3 : 0;
}

// Length of the first word of s[0..n), n > 0.
static size_t word_length(const char *s, size_t n) {
    size_t length = contraction_length(s, n), bytes;
    if (length) return length;
    char kind = char_kind(s, n, &length);
    if (*s == ' ' && n > 1) { // one space goes with what follows, unless that is white space too
        char next = char_kind(s + 1, n - 1, &bytes);
        if (next != 'S') kind = next, length = 1 + bytes;
    }
    size_t last = length; // bytes of the last character
    while (length < n && char_kind(s + length, n - length, &bytes) == kind) {
        last = bytes;
        length += bytes;
    }
    // White space before a word leaves its last character to that word; alone it is what it is.
    if (kind == 'S' && length < n && length > last) length -= last;
    return length;
}

// Length of the first part of s[0..n), n > 0, by a cut: for CUT_DIGITS a digit or all up to the
// next one, for CUT_DIGIT_RUNS all digits or none, for CUT_WORDS a word.
static size_t cut_length(CutKind kind, const char *s, size_t n) {
    if (kind == CUT_WORDS) return word_length(s, n);
    size_t length, bytes;
    const bool digit = unicode_is_digit(char_at(s, n, &length));
    if (digit && kind == CUT_DIGITS) return length;
    while (length < n && unicode_is_digit(char_at(s + length, n - length, &bytes)) == digit)
        length += bytes;
    return length;
}

// ------------------------------------------------------------------------------------------------
// Encoding

// A part of a word while it is being merged: an element of a doubly linked list in an array.
typedef struct {
    int id;         // -1: swallowed by the part before it
    int prev, next; // indices, -1: none
} Symbol;

// A word that was merged before, and its ids.
enum { WORD_BYTES = 16, WORD_IDS = 5, WORD_SLOTS = 1 << 15 };
typedef struct {
    uint64_t bytes[WORD_BYTES / 8]; // zeros after its end
    unsigned char n, n_ids;         // n is 0: there is none here
    int ids[WORD_IDS];
} WordSlot;

// Working memory of encoding. A long text has most of its words many times, and to look one up takes a
// fraction of the time of merging it.
typedef struct {
    Symbol *symbols; // (capacity) one for each byte of the word
    uint64_t *heap;  // (3 capacity) merges to do: rank << 32 | index of the left symbol
    size_t capacity, heap_n;
    Text text, name; // with a blank in front; a word as the vocabulary spells it
    WordSlot *words; // (WORD_SLOTS) each in the slot of its hash; NULL: none are kept
} MergeWork;

static void merge_work_free(MergeWork *w) {
    free(w->symbols), free(w->heap), free(w->words);
    text_free(&w->text), text_free(&w->name);
    *w = (MergeWork){0};
}

// Put a key into the heap; the smallest is at heap[0].
static void heap_push(MergeWork *w, uint64_t key) {
    size_t i = w->heap_n++;
    for (; i > 0 && w->heap[(i - 1) / 2] > key; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = key;
}

// Take the smallest key out of the heap, which must not be empty.
static uint64_t heap_pop(MergeWork *w) {
    uint64_t top = w->heap[0], key = w->heap[--w->heap_n];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < w->heap_n) {
        if (child + 1 < w->heap_n && w->heap[child + 1] < w->heap[child]) child++;
        if (w->heap[child] >= key) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = key;
    return top;
}

// Push the merge of symbol i with the next one, if there is such a merge.
static void merge_offer(const Tokenizer *t, MergeWork *w, int i) {
    if (i < 0 || w->symbols[i].next < 0) return;
    const Merge *m = merge_slot(t, w->symbols[i].id, w->symbols[w->symbols[i].next].id);
    if (m->result >= 0) heap_push(w, (uint64_t)m->rank << 32 | (uint32_t)i);
}

// Append the ids of one word. Of all merges that are possible the one of the lowest rank is done,
// the leftmost of equals, until none is left. A heap instead of a search through the word each
// time makes this n log n, which counts when someone sends a megabyte without a blank.
static void merge_word(const Tokenizer *t, MergeWork *w, TokenList *out, const char *word,
                       size_t n) {
    if (t->ignore_merges) {
        w->name.size = 0;
        for (size_t i = 0; i < n; i++) text_code(&w->name, byte_glyph((unsigned char)word[i]));
        const int id = name_find(&t->names, w->name.data, w->name.size);
        if (id >= 0) {
            tokens_append(out, id);
            return;
        }
    }
    if (n > INT_MAX / 4) die(EXIT_BAD_INPUT, "a word of %zu bytes is too long", n);
    if (n > w->capacity) {
        w->capacity = 2 * n;
        w->symbols = mem_resize(w->symbols, w->capacity, sizeof *w->symbols);
        w->heap = mem_resize(w->heap, 3 * w->capacity, sizeof *w->heap);
    }
    Symbol *s = w->symbols;
    int count = 0;
    bool after_unk = false; // a byte without a token was the last one
    for (size_t i = 0; i < n; i++) {
        int id = t->byte_id[(unsigned char)word[i]];
        const bool unk = id < 0;
        if (unk) id = t->unk_piece;
        if (id >= 0 && !(unk && after_unk && t->fuse_unk)) {
            s[count] = (Symbol){id, count - 1, count + 1};
            count++;
        }
        after_unk = unk && id >= 0;
    }
    if (!count) return;
    s[count - 1].next = -1;
    w->heap_n = 0;
    for (int i = 0; i + 1 < count; i++) merge_offer(t, w, i);
    while (w->heap_n) { // each merge removes a symbol and offers two, so the heap stays below 3n
        uint64_t key = heap_pop(w);
        int i = (int)(key & UINT32_MAX), next = s[i].next;
        if (s[i].id < 0 || next < 0) continue; // an offer that another merge made void
        const Merge *m = merge_slot(t, s[i].id, s[next].id);
        if (m->result < 0 || (uint64_t)m->rank != key >> 32) continue;
        s[i].id = m->result;
        s[i].next = s[next].next;
        if (s[i].next >= 0) s[s[i].next].prev = i;
        s[next].id = -1;
        merge_offer(t, w, s[i].prev);
        merge_offer(t, w, i);
    }
    for (int i = 0; i >= 0; i = s[i].next) tokens_append(out, s[i].id);
}

// The same, looked up where the word is short and was there before.
static void encode_word(const Tokenizer *t, MergeWork *w, TokenList *out, const char *word,
                        size_t n) {
    if (!w->words || n > WORD_BYTES) {
        merge_word(t, w, out, word, n);
        return;
    }
    WordSlot key = {.n = (unsigned char)n};
    memcpy(key.bytes, word, n);
    const uint64_t hash = rng_mix(key.bytes[0] ^ rng_mix(key.bytes[1]));
    WordSlot *slot = &w->words[hash % WORD_SLOTS];
    if (slot->n == n && !memcmp(slot->bytes, key.bytes, WORD_BYTES)) {
        for (int i = 0; i < slot->n_ids; i++) tokens_append(out, slot->ids[i]);
        return;
    }
    const size_t before = out->n;
    merge_word(t, w, out, word, n);
    if (out->n - before > WORD_IDS) return;
    while (before + key.n_ids < out->n) {
        key.ids[key.n_ids] = out->data[before + key.n_ids];
        key.n_ids++;
    }
    *slot = key;
}

// Append the ids of text without added tokens in it, n > 0, from cut number i on.
static void encode_plain(const Tokenizer *t, MergeWork *w, TokenList *out, const char *text,
                         size_t n, int i) {
    size_t length;
    if (i < t->n_cuts) {
        for (size_t at = 0; at < n; at += length) {
            length = cut_length(t->cuts[i], text + at, n - at);
            encode_plain(t, w, out, text + at, length, i + 1);
        }
        return;
    }
    if (t->prefix_space && *text != ' ') {
        w->text.size = 0;
        text_append(&w->text, " ", 1);
        text_append(&w->text, text, n);
        text = w->text.data;
        n++;
    }
    for (size_t at = 0; at < n; at += length) {
        length = t->whole ? n : word_length(text + at, n - at);
        encode_word(t, w, out, text + at, length);
    }
}

// The longest added token that s[0..n) begins with, of those that are looked for in this pass; NULL.
static const AddedToken *added_match(const Tokenizer *t, const char *s, size_t n, int pass,
                                     size_t *length) {
    const AddedToken *best = NULL;
    *length = 0;
    if (!t->added_first[pass][(unsigned char)*s]) return NULL;
    for (int i = 0; i < t->n_added; i++) {
        const AddedToken *a = &t->added[i];
        const char *name = pass ? a->pattern : a->name;
        const size_t bytes = strlen(name);
        if (a->search[pass] && bytes > *length && bytes <= n && !memcmp(s, name, bytes)) {
            best = a;
            *length = bytes;
        }
    }
    return best;
}

// True if a token that was found at text[begin..end) of n bytes stands by itself.
static bool added_alone(const char *text, size_t n, size_t begin, size_t end) {
    size_t bytes;
    if (begin) {
        const size_t at = char_before(text, begin);
        if (unicode_is_word(char_at(text + at, begin - at, &bytes))) return false;
    }
    return end == n || !unicode_is_word(char_at(text + end, n - end, &bytes));
}

// Append the ids of text that may hold added tokens. In pass 0 those that are not normalized are cut
// out, leftmost and longest first; what is between them is normalized, and in pass 1 those that are
// normalized are cut out of that; the rest is plain. Each part is a text of its own to what follows.
// With `split` special tokens are no tokens.
static void encode_added(const Tokenizer *t, MergeWork *w, TokenList *out, const char *text,
                         size_t n, int pass, bool split) {
    if (!n) return;
    if (pass == 2) {
        encode_plain(t, w, out, text, n, 0);
        return;
    }
    Text normal = {0};
    if (pass == 1 && t->normalizer.n) {
        normalizer_apply(&t->normalizer, &normal, text, n);
        text = normal.data;
        n = normal.size;
    }
    size_t done = 0, i = 0, length; // done: up to there text has become ids
    while (i < n) {
        const AddedToken *token = added_match(t, text + i, n - i, pass, &length);
        if (!token) {
            i++;
            continue;
        }
        size_t begin = i, end = i + length;
        i = end;
        if ((split && token->special) || (token->single_word && !added_alone(text, n, begin, end)))
            continue;
        if (token->lstrip) {
            begin = space_at_end(text, begin);
            if (begin < done) begin = done;
        }
        if (token->rstrip) end += space_at_start(text + end, n - end);
        if (done < begin) encode_added(t, w, out, text + done, begin - done, pass + 1, split);
        if (begin < end) tokens_append(out, token->id); // or the one before has taken all of it
        done = end;
    }
    if (done < n) encode_added(t, w, out, text + done, n - done, pass + 1, split);
    text_free(&normal);
}

// Append the ids of text[0..n), which the caller has checked to be UTF-8, without those of the
// template (tokenizer_begin). With `allow_special` <|endoftext|> and other special tokens in it
// become their ids, as `transformers` does; without it they are ordinary text.
static void tokenizer_encode(const Tokenizer *t, TokenList *out, const char *text, size_t n,
                             bool allow_special) {
    MergeWork work = {0};
    encode_added(t, &work, out, text, n, 0, !allow_special || t->split_special);
    merge_work_free(&work);
}

// True if a text may be cut where tokenizer_cut says, and the ids of its parts are those of the whole.
// Not if it is changed before it is cut into words, or if an added token takes white space with it.
static bool tokenizer_is_local(const Tokenizer *t) {
    bool local = !t->normalizer.n && !t->prefix_space && !t->whole;
    for (int i = 0; i < t->n_added; i++) {
        const char *name = t->added[i].name;
        const size_t n = strlen(name);
        local &= !t->added[i].rstrip;
        for (size_t at = 0, bytes; at < n; at += bytes)
            local &= char_kind(name + at, n - at, &bytes) != 'S';
    }
    return local;
}

// The last place in text[0..n) where white space begins, which ends every word: 0 if there is none.
static size_t tokenizer_cut(const char *text, size_t n) {
    for (size_t i = n, bytes; i-- > 1;) {
        const unsigned char here = (unsigned char)text[i];
        if (here >= 0x80 || unicode_kind(here) != 'S') continue;
        const size_t before = char_before(text, i);
        if (char_kind(text + before, i - before, &bytes) != 'S') return i;
    }
    return 0;
}

// Append the ids that the tokenizer's template puts before a text: BOS, or nothing.
static void tokenizer_begin(const Tokenizer *t, TokenList *out) {
    for (size_t i = 0; i < t->before.n; i++) tokens_append(out, t->before.data[i]);
}

// Append the ids that the template puts after a text: EOS, or nothing.
static void tokenizer_end(const Tokenizer *t, TokenList *out) {
    for (size_t i = 0; i < t->after.n; i++) tokens_append(out, t->after.data[i]);
}

// ------------------------------------------------------------------------------------------------
// Decoding. Tokens are bytes, so a character may be spread over several of them.

// Append the bytes of ids (n). With `skip_special` special tokens are left out.
static void tokenizer_decode(const Tokenizer *t, Text *out, const int *ids, size_t n,
                             bool skip_special) {
    for (size_t i = 0; i < n; i++) {
        int a = 0;
        while (a < t->n_added && !(t->added[a].id == ids[i] && t->added[a].special)) a++;
        if (skip_special && a < t->n_added) continue;
        size_t length;
        const char *piece = tokenizer_piece(t, ids[i], &length);
        text_append(out, piece, length);
    }
}

// s[0..n), n > 0, does not begin with a whole UTF-8 character. The number of its bytes that could
// be the beginning of one, at least 1.
static size_t utf8_broken_length(const char *s, size_t n) {
    const unsigned char *b = (const unsigned char *)s;
    int need = b[0] >= 0xF0 ? 4 : b[0] >= 0xE0 ? 3 : 2;
    if (b[0] < 0xC2 || b[0] > 0xF4) return 1;
    int low = b[0] == 0xE0 ? 0xA0 : b[0] == 0xF0 ? 0x90 : 0x80;  // the second byte is confined:
    int high = b[0] == 0xED ? 0x9F : b[0] == 0xF4 ? 0x8F : 0xBF; // no overlong form, no surrogate
    size_t i = 1;
    for (; i < n && i < (size_t)need && b[i] >= low && b[i] <= high; i++) low = 0x80, high = 0xBF;
    return i;
}

// Append s[0..n) with each broken character replaced by U+FFFD, one for each of the longest
// beginnings of a character: what Python's errors="replace" and the Unicode standard do.
static void text_append_repaired(Text *out, const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t good = utf8_check(s + i, n - i);
        text_append(out, s + i, good);
        i += good;
        if (i == n) break;
        text_append(out, "\xEF\xBF\xBD", 3);
        i += utf8_broken_length(s + i, n - i);
    }
}

// Number of bytes at the end of s[0..n) that begin a character which is not complete yet (0 to 3).
static size_t utf8_tail(const char *s, size_t n) {
    for (size_t k = 1; k <= 3 && k <= n; k++) {
        unsigned char first = (unsigned char)s[n - k];
        if ((first & 0xC0) == 0x80) continue; // not the first byte of a character
        bool lead = first >= 0xC2 && first <= 0xF4;
        bool open = lead && !utf8_check(s + n - k, k) && utf8_broken_length(s + n - k, k) == k;
        return open ? k : 0;
    }
    return 0;
}

// A text that comes token by token. Bytes of a character that is not complete yet are held back.
typedef struct {
    char held[4];
    size_t n;
} TokenStream;

// Append to `out` what can be shown after one more token. Begin with a zeroed stream.
static void token_stream_add(TokenStream *stream, const Tokenizer *t, Text *out, int id) {
    Text bytes = {0};
    size_t length;
    const char *piece = tokenizer_piece(t, id, &length);
    text_append(&bytes, stream->held, stream->n);
    text_append(&bytes, piece, length);
    stream->n = utf8_tail(bytes.data, bytes.size);
    size_t whole = bytes.size - stream->n;
    text_append_repaired(out, bytes.data, whole);
    memcpy(stream->held, bytes.data + whole, stream->n);
    text_free(&bytes);
}

// Append what is still held back: the text ends here.
static void token_stream_end(TokenStream *stream, Text *out) {
    text_append_repaired(out, stream->held, stream->n);
    stream->n = 0;
}

#endif
