// tokenizer.h: GPT-2's byte-level BPE (Radford et al. 2019), the same ids as `transformers` gives.
// From top to bottom:
//
//   pieces     how bytes are spelled in vocab.json, and the Tokenizer itself
//   loading    vocab.json + merges.txt (or tokenizer.json alone), added tokens, strict checks
//   scanning   the cut of a text into words: GPT-2's pattern by hand, no regular expressions
//   encoding   text -> ids
//   decoding   ids -> bytes, whole or as a stream, repair of broken UTF-8
//   saving     the texts of the four files that make AutoTokenizer work
//
// The order of work when encoding: added tokens such as <|endoftext|> are cut out of the text, the
// text between them is cut into words, and the bytes of each word are merged pair by pair.
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include "common.h"
#include "json.h"
#include "unicode.h"

// ------------------------------------------------------------------------------------------------
// Pieces

#define END_OF_TEXT "<|endoftext|>"

// One line of merges.txt, in a hash table by (left, right).
typedef struct {
    int left, right; // ids
    int rank;        // number of the line: the lowest rank merges first
    int result;      // id of left and right together; -1: this slot is empty
} Merge;

// A token that is found in the text before anything else is done, with its name as it is.
typedef struct {
    char *name;
    int id;
    bool special;    // not part of the text: tokenizer_decode can leave it out
    bool normalized; // searched for after those that are not; GPT-2 has no normaliser to do more
} AddedToken;

typedef struct Tokenizer {
    int vocab_size;     // ids are 0..vocab_size-1, added tokens included
    int n_pieces;       // tokens of vocab.json
    int eos_id;         // <|endoftext|>, unless tokenizer_config.json names another eos_token
    int pad_id;         // pad_token of tokenizer_config.json, or -1
    int byte_id[256];   // the token of each single byte
    Text bytes;         // the bytes of all tokens, back to back
    size_t *start;      // (vocab_size + 1) where each token begins in `bytes`
    Merge *merges;      // (merge_slots) open addressing
    size_t merge_slots; // a power of two
    AddedToken *added;  // (n_added)
    int n_added;
    bool added_first[256];        // bytes that an added token begins with
    Text vocab_file, merges_file; // as they were read, so that saving gives the same bytes again
} Tokenizer;

// A list of ids that grows.
typedef struct {
    int *data;
    size_t n, capacity;
} TokenList;

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

// ------------------------------------------------------------------------------------------------
// Loading. The two files are all that is needed; what later releases of `transformers` write
// beside them (or instead: tokenizer.json alone) is read for added tokens.

// From names as vocab.json spells them to ids, while loading. The names belong to the cJSON tree.
typedef struct {
    const cJSON **items; // (slots) open addressing; NULL: empty
    size_t slots;        // a power of two
} NameTable;

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

// The id of name[0..n), or -1.
static int name_find(const NameTable *names, const char *name, size_t n) {
    const cJSON *item = *name_slot(names, name, n);
    return item ? (int)item->valuedouble : -1;
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

// Fill pieces, byte ids and `names` from the object of vocab.json. `path` is for messages.
static void vocab_load(Tokenizer *t, NameTable *names, const cJSON *vocab, const char *path) {
    if (!cJSON_IsObject(vocab)) die(EXIT_BAD_INPUT, "%s: expected an object of tokens", path);
    const cJSON *item;
    size_t count = 0;
    cJSON_ArrayForEach(item, vocab) count++;
    if (count > INT_MAX / 4) die(EXIT_BAD_INPUT, "%s: %zu tokens are too many", path, count);
    t->n_pieces = (int)count;
    names->slots = hash_slots(count);
    names->items = mem_alloc(names->slots, sizeof *names->items);
    const cJSON **by_id = mem_alloc(count, sizeof *by_id);
    cJSON_ArrayForEach(item, vocab) {
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
        *name_slot(names, item->string, strlen(item->string)) = item;
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
        int n = utf8_encode(name, byte_glyph(b));
        t->byte_id[b] = name_find(names, name, (size_t)n);
        if (t->byte_id[b] < 0)
            die(EXIT_BAD_INPUT,
                "%s lacks byte token \"%.*s\" (byte 0x%02X): not a byte-level GPT-2 vocabulary",
                path, n, name, b);
    }
    free(by_id);
}

// The next line of `file` from *at on, without its newline; false at the end.
static bool line_next(const Text *file, size_t *at, const char **line, size_t *n) {
    if (*at >= file->size) return false;
    *line = file->data + *at;
    const char *end = memchr(*line, '\n', file->size - *at);
    *n = end ? (size_t)(end - *line) : file->size - *at;
    *at += *n + 1;
    return true;
}

// Only the first line can be the version: merges such as "# #" begin with the same sign.
static bool line_is_version(const char *line, size_t n, long number) {
    return number == 1 && n >= 8 && !memcmp(line, "#version", 8);
}

// Fill t->merges from t->merges_file: one merge a line, the two parts separated by one space.
static void merges_load(Tokenizer *t, const NameTable *names, const char *path) {
    size_t at = 0, n, lines = 0;
    const char *line;
    while (line_next(&t->merges_file, &at, &line, &n)) lines++;
    if (lines > INT_MAX / 4) die(EXIT_BAD_INPUT, "%s: %zu merges are too many", path, lines);
    t->merge_slots = hash_slots(lines);
    t->merges = mem_alloc(t->merge_slots, sizeof *t->merges);
    for (size_t i = 0; i < t->merge_slots; i++) t->merges[i].result = -1;
    Text joined = {0};
    at = 0;
    int rank = 0;
    for (long number = 1; line_next(&t->merges_file, &at, &line, &n); number++) {
        if (line_is_version(line, n, number)) continue;
        if (utf8_check(line, n) < n || memchr(line, 0, n))
            die(EXIT_BAD_INPUT, "%s:%ld: not a line of UTF-8 text", path, number);
        const char *space = memchr(line, ' ', n);
        size_t left_n = space ? (size_t)(space - line) : 0;
        size_t right_n = space ? n - left_n - 1 : 0;
        if (!left_n || !right_n || memchr(space + 1, ' ', right_n))
            die(EXIT_BAD_INPUT, "%s:%ld: expected two tokens separated by one space", path, number);
        joined.size = 0;
        text_append(&joined, line, left_n);
        text_append(&joined, space + 1, right_n);
        int left = name_find(names, line, left_n), right = name_find(names, space + 1, right_n);
        int result = name_find(names, joined.data, joined.size);
        if (left < 0 || right < 0)
            die(EXIT_BAD_INPUT, "%s:%ld: merge \"%.*s\": \"%.*s\" is not in the vocabulary", path,
                number, (int)n, line, (int)(left < 0 ? left_n : right_n),
                left < 0 ? line : space + 1);
        if (result < 0)
            die(EXIT_BAD_INPUT, "%s:%ld: merge \"%.*s\" gives \"%s\", not in the vocabulary", path,
                number, (int)n, line, joined.data);
        Merge *slot = merge_slot(t, left, right);
        if (slot->result >= 0)
            die(EXIT_BAD_INPUT, "%s:%ld: merge \"%.*s\" appears twice", path, number, (int)n, line);
        *slot = (Merge){left, right, rank++, result};
    }
    text_free(&joined);
}

// Note an added token. `options` is its JSON object (special, normalized, ..) or NULL. The same
// token may be listed in several files, but with one id only.
static void added_load(Tokenizer *t, const NameTable *names, const char *name, int64_t id,
                       const cJSON *options, const char *path) {
    const char *unsupported[] = {"single_word", "lstrip", "rstrip"};
    for (int i = 0; i < COUNT(unsupported); i++)
        if (cJSON_IsTrue(json_get(options, unsupported[i])))
            die(EXIT_BAD_INPUT, "%s: added token \"%s\": %s is not supported", path, name,
                unsupported[i]);
    if (!*name) die(EXIT_BAD_INPUT, "%s: an added token is empty", path);
    int known = name_find(names, name, strlen(name));
    for (int i = 0; i < t->n_added; i++) {
        bool same_name = !strcmp(t->added[i].name, name);
        if (same_name && t->added[i].id == id) return;
        if (same_name) known = t->added[i].id;
        else if (t->added[i].id == id)
            die(EXIT_BAD_INPUT, "%s: id %" PRId64 " used by \"%s\" and \"%s\"", path, id,
                t->added[i].name, name);
    }
    if (known >= 0 ? id != known : id < t->n_pieces || id > INT_MAX / 4)
        die(EXIT_BAD_INPUT, "%s: added token \"%s\" has id %" PRId64 ", expected %s%d", path, name,
            id, known >= 0 ? "" : "at least ", known >= 0 ? known : t->n_pieces);
    const cJSON *special = json_get(options, "special"), *normal = json_get(options, "normalized");
    t->added = mem_resize(t->added, (size_t)t->n_added + 1, sizeof *t->added);
    t->added[t->n_added++] =
        (AddedToken){text_copy(name), (int)id, !special || cJSON_IsTrue(special),
                     !normal || cJSON_IsTrue(normal)};
    t->added_first[(unsigned char)*name] = true;
}

// Read the JSON file dir/name if it is there; NULL if not. Stores its path in *path.
static cJSON *json_read_optional(const char *dir, const char *name, char **path) {
    *path = path_join(dir, name);
    return path_is_file(*path) ? json_read(*path) : NULL;
}

// The id of the token that tokenizer_config.json names for this role ("eos_token"), by its name or
// as an object with the name in "content". Without such an entry that of `otherwise`, or -1 if that
// is NULL. The token becomes an added token, since `transformers` finds it in texts as a whole.
static int role_load(Tokenizer *t, const NameTable *names, const cJSON *config, const char *role,
                     const char *otherwise, const char *path) {
    const cJSON *item = json_get(config, role);
    if (cJSON_IsObject(item)) item = json_get(item, "content");
    const char *name = cJSON_IsString(item) ? item->valuestring : otherwise;
    if (!name) return -1;
    for (int i = 0; i < t->n_added; i++)
        if (!strcmp(t->added[i].name, name)) return t->added[i].id;
    int id = name_find(names, name, strlen(name));
    if (id < 0) die(EXIT_BAD_INPUT, "%s: %s \"%s\" is not in the vocabulary", path, role, name);
    added_load(t, names, name, id, NULL, path);
    return id;
}

// Note all added tokens of a JSON list (NULL: none). Over the years there have been three forms:
// [{"id": 7, "content": "x"}], {"7": {"content": "x"}} and {"x": 7}.
static void added_load_list(Tokenizer *t, const NameTable *names, const cJSON *list,
                            const char *path) {
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        const cJSON *content = json_get(item, "content"), *number = json_get(item, "id");
        const char *name = cJSON_IsString(content) ? content->valuestring : NULL;
        char *end = "x";
        int64_t id = item->string ? strtoll(item->string, &end, 10) : 0;
        bool good = number ? json_integer(number, &id) : item->string && *item->string && !*end;
        if (cJSON_IsNumber(item) && item->string) {
            name = item->string;
            good = json_integer(item, &id);
        }
        if (!name || !good)
            die(EXIT_BAD_INPUT, "%s: added token \"%s\" lacks a name or an id", path,
                name           ? name
                : item->string ? item->string
                               : "");
        added_load(t, names, name, id, item, path);
    }
}

// Added tokens from the three files where they may be, then the roles.
static void specials_load(Tokenizer *t, const NameTable *names, const cJSON *json, const char *dir,
                          const char *vocab_path) {
    char *json_path = path_join(dir, "tokenizer.json"), *config_path, *list_path;
    cJSON *config = json_read_optional(dir, "tokenizer_config.json", &config_path);
    cJSON *list = json_read_optional(dir, "added_tokens.json", &list_path);
    added_load_list(t, names, json_get(json, "added_tokens"), json_path);
    added_load_list(t, names, json_get(config, "added_tokens_decoder"), config_path);
    added_load_list(t, names, list, list_path);
    const char *role_path = config ? config_path : vocab_path;
    t->eos_id = role_load(t, names, config, "eos_token", END_OF_TEXT, role_path);
    t->pad_id = role_load(t, names, config, "pad_token", NULL, role_path);
    if (cJSON_IsTrue(json_get(config, "add_prefix_space")))
        warn("%s: add_prefix_space is ignored: ids differ from those of transformers", config_path);
    free(json_path), free(config_path), free(list_path);
    cJSON_Delete(list), cJSON_Delete(config);
}

// For qsort: by id.
static int added_compare(const void *a, const void *b) {
    return ((const AddedToken *)a)->id - ((const AddedToken *)b)->id;
}

// Give added tokens that are not in vocab.json their places after it.
static void added_place(Tokenizer *t, const char *dir) {
    qsort(t->added, (size_t)t->n_added, sizeof *t->added, added_compare);
    t->vocab_size = t->n_pieces;
    for (int i = 0; i < t->n_added; i++)
        if (t->added[i].id >= t->vocab_size) t->vocab_size = t->added[i].id + 1;
    t->start = mem_resize(t->start, (size_t)t->vocab_size + 1, sizeof *t->start);
    for (int id = t->n_pieces; id < t->vocab_size; id++) {
        int i = 0;
        while (i < t->n_added && t->added[i].id != id) i++;
        if (i == t->n_added) die(EXIT_BAD_INPUT, "%s: no token has id %d", dir, id);
        text_append(&t->bytes, t->added[i].name, strlen(t->added[i].name));
        t->start[id + 1] = t->bytes.size;
    }
}

// Write vocab.json and merges.txt as they would be, for a directory with tokenizer.json alone
// (which is all that transformers 5 saves). `path` is for messages.
static void files_from_json(Tokenizer *t, const cJSON *root, const char *path) {
    const cJSON *model = json_get(root, "model"), *item, *type = json_get(model, "type");
    const cJSON *vocab = json_get(model, "vocab"), *merges = json_get(model, "merges");
    if (!cJSON_IsObject(vocab) || !cJSON_IsArray(merges) ||
        (cJSON_IsString(type) && strcmp(type->valuestring, "BPE")))
        die(EXIT_BAD_INPUT, "%s: expected a BPE model with vocab and merges", path);
    const char *comma = "{";
    cJSON_ArrayForEach(item, vocab) {
        text_print(&t->vocab_file, "%s", comma);
        text_json(&t->vocab_file, item->string, strlen(item->string));
        text_print(&t->vocab_file, ": %.0f", item->valuedouble);
        comma = ", ";
    }
    text_print(&t->vocab_file, "}");
    text_print(&t->merges_file, "#version: 0.2\n");
    cJSON_ArrayForEach(item, merges) { // "a b" in older files, ["a", "b"] in newer ones
        const cJSON *left = cJSON_IsArray(item) ? item->child : NULL,
                    *right = left ? left->next : 0;
        if (cJSON_IsString(item)) text_print(&t->merges_file, "%s\n", item->valuestring);
        else if (cJSON_IsString(left) && cJSON_IsString(right))
            text_print(&t->merges_file, "%s %s\n", left->valuestring, right->valuestring);
        else die(EXIT_BAD_INPUT, "%s: an entry of merges is not a pair of tokens", path);
    }
}

// True if the directory has the files of a tokenizer: a model of bare token ids has none.
static bool dir_has_tokenizer(const char *dir) {
    char *vocab = path_join(dir, "vocab.json"), *json = path_join(dir, "tokenizer.json");
    const bool has = path_is_file(vocab) || path_is_file(json);
    free(vocab), free(json);
    return has;
}

// Load the tokenizer of the checkpoint directory `dir`; dies if anything does not fit together.
static void tokenizer_load(Tokenizer *t, const char *dir) {
    *t = (Tokenizer){0};
    if (!path_is_dir(dir))
        die(EXIT_BAD_INPUT, "%s: %s", dir,
            path_is_file(dir) ? "is a file, expected a checkpoint directory" : "no such directory");
    char *json_path, *vocab_path = path_join(dir, "vocab.json");
    char *merges_path = path_join(dir, "merges.txt");
    cJSON *json = json_read_optional(dir, "tokenizer.json", &json_path);
    bool from_json = json && !path_is_file(vocab_path);
    if (from_json) files_from_json(t, json, json_path);
    else {
        t->vocab_file.data = file_read(vocab_path, &t->vocab_file.size);
        t->merges_file.data = file_read(merges_path, &t->merges_file.size);
    }
    const char *vocab_name = from_json ? json_path : vocab_path;
    cJSON *vocab = json_parse(t->vocab_file.data, t->vocab_file.size, vocab_name, 1);
    NameTable names;
    vocab_load(t, &names, vocab, vocab_name);
    merges_load(t, &names, from_json ? json_path : merges_path);
    specials_load(t, &names, json, dir, vocab_name);
    added_place(t, dir);
    free(names.items);
    cJSON_Delete(vocab), cJSON_Delete(json);
    free(json_path), free(vocab_path), free(merges_path);
}

// Make `name` a special token that is found in texts as a whole, as transformers' add_tokens does,
// and return its id: the one that it has, if it is a token already, or a new one after all others.
static int tokenizer_add_special(Tokenizer *t, const char *name) {
    const size_t length = strlen(name);
    for (int i = 0; i < t->n_added; i++)
        if (!strcmp(t->added[i].name, name)) return t->added[i].id;
    int id = 0;
    for (size_t n; id < t->vocab_size; id++) {
        const char *piece = tokenizer_piece(t, id, &n);
        if (n == length && !memcmp(piece, name, n)) break;
    }
    if (id == t->vocab_size) {
        text_append(&t->bytes, name, length);
        t->start = mem_resize(t->start, (size_t)++t->vocab_size + 1, sizeof *t->start);
        t->start[t->vocab_size] = t->bytes.size;
    }
    t->added = mem_resize(t->added, (size_t)t->n_added + 1, sizeof *t->added);
    t->added[t->n_added++] = (AddedToken){text_copy(name), id, true, false};
    qsort(t->added, (size_t)t->n_added, sizeof *t->added, added_compare);
    t->added_first[(unsigned char)*name] = true;
    return id;
}

// Die unless all ids are below the model's vocab_size.
static void tokenizer_check(const Tokenizer *t, int vocab_size, const char *dir) {
    if (t->vocab_size > vocab_size)
        die(EXIT_BAD_INPUT, "%s: the tokenizer has %d tokens, the model's vocab_size is %d", dir,
            t->vocab_size, vocab_size);
}

// Free all that tokenizer_load allocated.
static void tokenizer_free(Tokenizer *t) {
    for (int i = 0; i < t->n_added; i++) free(t->added[i].name);
    free(t->added), free(t->merges), free(t->start);
    text_free(&t->bytes), text_free(&t->vocab_file), text_free(&t->merges_file);
    *t = (Tokenizer){0};
}

// ------------------------------------------------------------------------------------------------
// Scanning. GPT-2 cuts a text into words by this pattern, the first alternative that fits winning:
//
//     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// Merges never cross the border of a word.

// 'L', 'N', 'S' as in unicode.h, or 'O' for all other code points.
static char unicode_kind(uint32_t code) {
    if (code < 0x80) { // nearly all text
        if ((code | 0x20) - 'a' < 26) return 'L';
        if (code - '0' < 10) return 'N';
        return code == ' ' || code - '\t' < 5 ? 'S' : 'O';
    }
    int low = 0, high = COUNT(unicode_ranges);
    while (low < high) { // find the first range that ends at or after `code`
        int middle = (low + high) / 2;
        if (unicode_ranges[middle].last < code) low = middle + 1;
        else high = middle;
    }
    bool inside = low < COUNT(unicode_ranges) && unicode_ranges[low].first <= code;
    return inside ? unicode_ranges[low].kind : 'O';
}

// The kind of the character at s[0..n), n > 0; *bytes is its length. A byte that is no UTF-8
// counts as a character of kind 'O'.
static char char_kind(const char *s, size_t n, size_t *bytes) {
    uint32_t code = 0;
    int length = utf8_decode(&code, s, n);
    *bytes = length ? (size_t)length : 1;
    return length ? unicode_kind(code) : 'O';
}

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

// ------------------------------------------------------------------------------------------------
// Encoding

// A part of a word while it is being merged: an element of a doubly linked list in an array.
typedef struct {
    int id;         // -1: swallowed by the part before it
    int prev, next; // indices, -1: none
} Symbol;

// Working memory of one call of tokenizer_encode.
typedef struct {
    Symbol *symbols; // (capacity) one for each byte of the word
    uint64_t *heap;  // (3 capacity) merges to do: rank << 32 | index of the left symbol
    size_t capacity, heap_n;
} MergeWork;

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
static void encode_word(const Tokenizer *t, MergeWork *w, TokenList *out, const char *word,
                        size_t n) {
    if (n > INT_MAX / 4) die(EXIT_BAD_INPUT, "a word of %zu bytes is too long", n);
    if (n > w->capacity) {
        w->capacity = 2 * n;
        w->symbols = mem_resize(w->symbols, w->capacity, sizeof *w->symbols);
        w->heap = mem_resize(w->heap, 3 * w->capacity, sizeof *w->heap);
    }
    Symbol *s = w->symbols;
    for (int i = 0; i < (int)n; i++)
        s[i] = (Symbol){t->byte_id[(unsigned char)word[i]], i - 1, i + 1 < (int)n ? i + 1 : -1};
    w->heap_n = 0;
    for (int i = 0; i + 1 < (int)n; i++) merge_offer(t, w, i);
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

// Append the ids of text without added tokens in it.
static void encode_plain(const Tokenizer *t, MergeWork *w, TokenList *out, const char *text,
                         size_t n) {
    for (size_t i = 0; i < n;) {
        size_t length = word_length(text + i, n - i);
        encode_word(t, w, out, text + i, length);
        i += length;
    }
}

// The longest added token that s[0..n) begins with, among those that are normalized or not; NULL.
static const AddedToken *added_match(const Tokenizer *t, const char *s, size_t n, bool normalized) {
    const AddedToken *best = NULL;
    size_t best_n = 0;
    if (!t->added_first[(unsigned char)*s]) return NULL;
    for (int i = 0; i < t->n_added; i++) {
        size_t length = strlen(t->added[i].name);
        if (t->added[i].normalized == normalized && length > best_n && length <= n &&
            !memcmp(s, t->added[i].name, length)) {
            best = &t->added[i];
            best_n = length;
        }
    }
    return best;
}

// Append the ids of text that may hold added tokens: first all that are not normalized are cut
// out, leftmost and longest first, then in what is between them those that are, then the rest is
// plain. What is between two of them is a text of its own to the pattern above.
static void encode_added(const Tokenizer *t, MergeWork *w, TokenList *out, const char *text,
                         size_t n, int pass) {
    if (pass == 2) {
        encode_plain(t, w, out, text, n);
        return;
    }
    size_t begin = 0, i = 0;
    while (i < n) {
        const AddedToken *token = added_match(t, text + i, n - i, pass == 1);
        if (!token) {
            i++;
            continue;
        }
        encode_added(t, w, out, text + begin, i - begin, pass + 1);
        tokens_append(out, token->id);
        begin = i += strlen(token->name);
    }
    encode_added(t, w, out, text + begin, n - begin, pass + 1);
}

// Append the ids of text[0..n), which the caller has checked to be UTF-8. With `allow_special`
// <|endoftext|> and other added tokens in it become their ids, as `transformers` does; without it
// they are ordinary text.
static void tokenizer_encode(const Tokenizer *t, TokenList *out, const char *text, size_t n,
                             bool allow_special) {
    MergeWork work = {0};
    encode_added(t, &work, out, text, n, allow_special ? 0 : 2);
    free(work.symbols), free(work.heap);
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

// ------------------------------------------------------------------------------------------------
// Saving. vocab.json and merges.txt go out as they came in. tokenizer.json is made from them: for
// the published vocabulary it is byte for byte the file that the Hugging Face hub has.

// Append the object of vocab.json in the order of ids.
static void vocab_json(Text *out, const Tokenizer *t) {
    cJSON *vocab = json_parse(t->vocab_file.data, t->vocab_file.size, "vocab.json", 1);
    const cJSON *item, **by_id = mem_alloc((size_t)t->n_pieces, sizeof *by_id);
    cJSON_ArrayForEach(item, vocab) by_id[(int)item->valuedouble] = item;
    for (int id = 0; id < t->n_pieces; id++) {
        text_append(out, id ? "," : "{", 1);
        text_json(out, by_id[id]->string, strlen(by_id[id]->string));
        text_print(out, ":%d", id);
    }
    text_append(out, "}", 1);
    free(by_id);
    cJSON_Delete(vocab);
}

// Append tokenizer.json, the form that the `tokenizers` library loads.
static void tokenizer_json(Text *out, const Tokenizer *t) {
    text_print(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    for (int i = 0; i < t->n_added; i++) {
        const AddedToken *a = &t->added[i];
        text_print(out, "%s{\"id\":%d,\"special\":%s,\"content\":", i ? "," : "", a->id,
                   a->special ? "true" : "false");
        text_json(out, a->name, strlen(a->name));
        text_print(out,
                   ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":%s}",
                   a->normalized ? "true" : "false");
    }
    text_print(out, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                    "\"add_prefix_space\":false,\"trim_offsets\":true},\"post_processor\":{"
                    "\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":false},"
                    "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                    "\"trim_offsets\":true},\"model\":{\"dropout\":null,\"unk_token\":null,"
                    "\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\","
                    "\"fuse_unk\":false,\"vocab\":");
    vocab_json(out, t);
    text_print(out, ",\"merges\":[");
    const char *line, *comma = "";
    size_t at = 0, n;
    for (long number = 1; line_next(&t->merges_file, &at, &line, &n); number++) {
        if (line_is_version(line, n, number)) continue;
        text_append(out, comma, strlen(comma));
        text_json(out, line, n);
        comma = ",";
    }
    text_print(out, "]}}");
}

// Append `"role": "name",` for tokenizer_config.json if there is such a token (id >= 0).
static void role_json(Text *out, const Tokenizer *t, const char *role, int id) {
    if (id < 0) return;
    size_t n;
    const char *piece = tokenizer_piece(t, id, &n);
    text_print(out, "  \"%s\": ", role);
    text_json(out, piece, n);
    text_print(out, ",\n");
}

// Append the added tokens for tokenizer_config.json, if any is not in vocab.json: transformers 5
// makes the tokenizer from that file and this list, and would number such tokens anew without it.
static void added_json(Text *out, const Tokenizer *t) {
    if (t->vocab_size == t->n_pieces) return;
    text_print(out, "  \"added_tokens_decoder\": {");
    for (int i = 0; i < t->n_added; i++) {
        const AddedToken *a = &t->added[i];
        text_print(out, "%s\n    \"%d\": {\"content\": ", i ? "," : "", a->id);
        text_json(out, a->name, strlen(a->name));
        text_print(out,
                   ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                   "\"normalized\": %s, \"special\": %s}",
                   a->normalized ? "true" : "false", a->special ? "true" : "false");
    }
    text_print(out, "\n  },\n");
}

// The texts of the files that a checkpoint directory needs for AutoTokenizer. The four buffers are
// zeroed by the caller and his to free.
static void tokenizer_files(const Tokenizer *t, int model_max_length, Text *vocab, Text *merges,
                            Text *json, Text *config) {
    text_append(vocab, t->vocab_file.data, t->vocab_file.size);
    text_append(merges, t->merges_file.data, t->merges_file.size);
    tokenizer_json(json, t);
    text_print(config, "{\n  \"add_prefix_space\": false,\n");
    added_json(config, t);
    role_json(config, t, "bos_token", t->eos_id);
    role_json(config, t, "eos_token", t->eos_id);
    role_json(config, t, "pad_token", t->pad_id);
    role_json(config, t, "unk_token", t->eos_id);
    text_print(config, "  \"model_max_length\": %d,\n  \"tokenizer_class\": \"GPT2Tokenizer\"\n}\n",
               model_max_length);
}

#endif
