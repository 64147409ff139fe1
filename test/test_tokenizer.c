// test_tokenizer.c: the tokenizer against `transformers` (goldens of dev/golden_tokenizer.py), its
// answers to bad files, and that it saves what it loaded.
#include "test.h"

#include "../lib/base/texts.h"
#include "../lib/base/tokenizer.h"
#include "../lib/files/checkpoint.h"

enum { SEED = 2, STRINGS_A_HASH = 2000, DECODES = 2000 }; // as in dev/golden_tokenizer.py

// ------------------------------------------------------------------------------------------------
// Golden files

typedef struct {
    uint64_t value;
    size_t count;
} Hash; // FNV-1a, 64 bits

static Hash hash_begin(void) { return (Hash){14695981039346656037u, 0}; }

static void hash_bytes(Hash *h, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) h->value = (h->value ^ (unsigned char)s[i]) * 1099511628211u;
    h->count += n;
}

static void hash_ids(Hash *h, const int *ids, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 32; k += 8) {
            char byte = (char)(ids[i] >> k & 0xFF);
            hash_bytes(h, &byte, 1);
        }
    h->count -= 3 * n; // count ids, not bytes
}

// Undo \xHH in s[0..n).
static Text text_unescape(const char *s, size_t n) {
    Text out = {0};
    text_append(&out, "", 0);
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        unsigned code;
        if (c == '\\' && sscanf(s + i, "\\x%2x", &code) == 1) {
            c = (char)code;
            i += 3;
        }
        text_append(&out, &c, 1);
    }
    return out;
}

// The ids of a golden line: numbers separated by blanks.
static TokenList tokens_parse(const char *s) {
    TokenList ids = {0};
    char *end;
    for (long id = strtol(s, &end, 10); end != s; id = strtol(s, &end, 10)) {
        tokens_append(&ids, (int)id);
        s = end;
    }
    return ids;
}

// Encode text (n bytes), with added tokens or without.
static TokenList encode(const Tokenizer *t, const char *text, size_t n, bool allow_special) {
    TokenList ids = {0};
    tokenizer_encode(t, &ids, text, n, allow_special);
    return ids;
}

static bool tokens_equal(const TokenList *a, const TokenList *b) {
    return a->n == b->n && (!a->n || !memcmp(a->data, b->data, a->n * sizeof(int)));
}

// ids (n) as text with bad UTF-8 replaced: what `transformers` calls decode. The same text must
// come out of a stream that is fed one token at a time.
static Text decode(const Tokenizer *t, const int *ids, size_t n, bool skip_special) {
    Text bytes = {0}, out = {0}, streamed = {0};
    text_append(&bytes, "", 0);
    text_append(&out, "", 0);
    text_append(&streamed, "", 0);
    tokenizer_decode(t, &bytes, ids, n, skip_special);
    text_append_repaired(&out, bytes.data, bytes.size);
    if (!skip_special) {
        TokenStream stream = {0};
        for (size_t i = 0; i < n; i++) {
            token_stream_add(&stream, t, &streamed, ids[i]);
            if (utf8_check(streamed.data, streamed.size) < streamed.size)
                CHECK(false, "a stream showed half a character");
        }
        token_stream_end(&stream, &streamed);
        if (streamed.size != out.size || memcmp(streamed.data, out.data, out.size))
            CHECK(false, "a stream gives \"%s\", not \"%s\"", streamed.data, out.data);
    }
    text_free(&bytes), text_free(&streamed);
    return out;
}

// ------------------------------------------------------------------------------------------------
// Character classes

static void test_unicode(void) {
    Text golden = {0};
    golden.data = file_read("test/golden/tokenizer_unicode.txt", &golden.size);
    size_t at = 0, n;
    const char *line;
    while (line_next(&golden, &at, &line, &n)) {
        unsigned first;
        uint64_t want;
        if (sscanf(line, "hash %x 4096 %" SCNx64, &first, &want) != 2) continue;
        Hash h = hash_begin();
        for (unsigned c = first; c < first + 4096; c++) {
            char kind = unicode_kind(c);
            hash_bytes(&h, &kind, 1);
        }
        CHECK(h.value == want, "classes of U+%04X to U+%04X", first, first + 4095);
    }
    text_free(&golden);
    for (int i = 1; i < COUNT(unicode_ranges); i++)
        if (unicode_ranges[i].first <= unicode_ranges[i - 1].last)
            CHECK(false, "range %d of unicode.h is not behind the one before", i);
}

// ------------------------------------------------------------------------------------------------
// Ids

// Random text number i of the generator in dev/golden_tokenizer.py.
static Text random_text(const Text *pool, int n_pool, uint64_t i) {
    Text out = {0};
    Rng rng = rng_make(SEED, i);
    for (uint64_t left = 1 + rng_below(&rng, 40); left > 0; left--) {
        int k = (int)rng_below(&rng, (uint64_t)n_pool + 1);
        if (k < n_pool) {
            text_append(&out, pool[k].data, pool[k].size);
            continue;
        }
        char bytes[4];
        uint32_t code = (uint32_t)rng_below(&rng, 0x110000);
        bool surrogate = code >= 0xD800 && code < 0xE000;
        text_append(&out, bytes, (size_t)utf8_encode(bytes, surrogate ? 'x' : code));
    }
    return out;
}

// The fragments that random texts are made of; *count is their number.
static Text *pool_load(int *count) {
    Text file = {0}, *pool = NULL;
    file.data = file_read("test/golden/tokenizer_pool.txt", &file.size);
    size_t at = 0, n;
    const char *line;
    *count = 0;
    for (int number = 0; line_next(&file, &at, &line, &n); number++) {
        if (number < 2) continue; // the header; fragments may begin with # too
        pool = mem_resize(pool, (size_t)*count + 1, sizeof *pool);
        pool[(*count)++] = text_unescape(line, n);
    }
    text_free(&file);
    return pool;
}

// Hash of the ids of texts in $ALIGN_TEST_DATA; false if they are not there.
static bool hash_corpus(Hash *h, const Tokenizer *t, const char *name) {
    bool hh = !strcmp(name, "hh");
    char *path = test_data(hh ? "data/hh_harmless_pairs.jsonl" : "data/tinyshakespeare.txt");
    if (!path) return false;
    Text file = {0};
    file.data = file_read(path, &file.size);
    size_t at = 0, n;
    const char *line;
    if (!hh) {
        TokenList ids = encode(t, file.data, file.size, true);
        hash_ids(h, ids.data, ids.n);
        tokens_free(&ids);
    }
    for (long number = 1; hh && line_next(&file, &at, &line, &n); number++) {
        cJSON *pair = json_parse(line, n, path, number);
        const char *sides[] = {"chosen", "rejected"};
        for (int k = 0; k < 2; k++) {
            const char *text = json_get(pair, sides[k])->valuestring;
            TokenList ids = encode(t, text, strlen(text), true);
            hash_ids(h, ids.data, ids.n);
            tokens_free(&ids);
        }
        cJSON_Delete(pair);
    }
    text_free(&file);
    free(path);
    return true;
}

// What a line "hash NAME COUNT HEX" stands for; false if it cannot be computed here.
static bool hash_named(Hash *h, const Tokenizer *t, const char *name, const Text *pool,
                       int n_pool) {
    unsigned first;
    if (sscanf(name, "fuzz_%u", &first) == 1) {
        for (unsigned i = first; i < first + STRINGS_A_HASH; i++) {
            Text text = random_text(pool, n_pool, i);
            TokenList ids = encode(t, text.data, text.size, true);
            hash_ids(h, ids.data, ids.n);
            text_free(&text), tokens_free(&ids);
        }
    } else if (!strncmp(name, "every_token", 11)) {
        for (int id = 0; id < t->vocab_size; id++) {
            Text text = decode(t, &id, 1, false);
            if (!strcmp(name, "every_token")) hash_bytes(h, text.data, text.size);
            else {
                TokenList ids = encode(t, text.data, text.size, true);
                hash_ids(h, ids.data, ids.n);
                tokens_free(&ids);
            }
            text_free(&text);
        }
    } else if (!strncmp(name, "decode", 6)) {
        for (uint64_t i = 0; i < DECODES; i++) {
            Rng rng = rng_make(SEED + 1, i);
            int ids[30], n = 1 + (int)rng_below(&rng, 30);
            for (int k = 0; k < n; k++) ids[k] = (int)rng_below(&rng, (uint64_t)t->vocab_size);
            Text text = decode(t, ids, (size_t)n, !strcmp(name, "decode_skip_special"));
            hash_bytes(h, text.data, text.size);
            text_free(&text);
        }
    } else if (!strcmp(name, "tokenizer_json")) {
        Text json = {0};
        tokenizer_json(&json, t);
        hash_bytes(h, json.data, json.size);
        text_free(&json);
    } else return hash_corpus(h, t, name);
    return true;
}

// All lines of one golden file.
static void test_golden(const Tokenizer *t, const char *path) {
    int n_pool;
    Text *pool = pool_load(&n_pool), file = {0};
    file.data = file_read(path, &file.size);
    size_t at = 0, n;
    const char *line;
    int no_corpus = 0;
    for (int number = 1; line_next(&file, &at, &line, &n); number++) {
        char name[64];
        size_t count;
        uint64_t value;
        bool plain = !strncmp(line, "plain ", 6), repair = !strncmp(line, "repair ", 7);
        if (number <= 2) continue;
        if (sscanf(line, "hash %63s %zu %" SCNx64, name, &count, &value) == 3) {
            Hash h = hash_begin();
            if (hash_named(&h, t, name, pool, n_pool))
                CHECK(h.value == value && h.count == count, "%s:%d: %s: %zu, expected %zu", path,
                      number, name, h.count, count);
            else no_corpus++;
            continue;
        }
        const char *text_begin = strchr(line, ' ') + 1, *tab = memchr(line, '\t', n);
        Text text = text_unescape(text_begin, (size_t)(tab - text_begin));
        if (repair) {
            Text want = text_unescape(tab + 1, (size_t)(line + n - tab - 1)), got = {0};
            text_append_repaired(&got, text.data, text.size);
            CHECK(got.size == want.size && !memcmp(got.data, want.data, got.size), "%s:%d: repair",
                  path, number);
            text_free(&want), text_free(&got);
        } else {
            char *numbers = text_format("%.*s", (int)(line + n - tab - 1), tab + 1);
            TokenList want = tokens_parse(numbers), got = encode(t, text.data, text.size, !plain);
            CHECK(tokens_equal(&got, &want), "%s:%d: ids of \"%s\"", path, number, text.data);
            Text back = {0};
            tokenizer_decode(t, &back, got.data, got.n, false);
            CHECK(back.size == text.size &&
                      (!back.size || !memcmp(back.data, text.data, back.size)),
                  "%s:%d: round trip", path, number);
            text_free(&back), tokens_free(&want), tokens_free(&got);
            free(numbers);
        }
        text_free(&text);
    }
    if (no_corpus) test_skip("texts of Shakespeare and HH-RLHF ($ALIGN_TEST_DATA)");
    for (int i = 0; i < n_pool; i++) text_free(&pool[i]);
    free(pool);
    text_free(&file);
}

// ------------------------------------------------------------------------------------------------
// Files

static void file_write(const char *dir, const char *name, const char *data, size_t n) {
    char *path = path_join(dir, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, n, file) != n || fclose(file))
        die(EXIT_IO, "%s: cannot write", path);
    free(path);
}

// Empty the test's folder of what tokenizers are made of.
static void dir_clear(const char *dir) {
    const char *names[] = {"vocab.json",          "merges.txt",
                           "tokenizer.json",      "tokenizer_config.json",
                           "added_tokens.json",   "special_tokens_map.json",
                           "chat_template.jinja", "config.json"};
    for (int i = 0; i < COUNT(names); i++) {
        char *path = path_join(dir, names[i]);
        unlink(path);
        free(path);
    }
}

static bool texts_equal(const Text *a, const Text *b) {
    return a->size == b->size && (!a->size || !memcmp(a->data, b->data, a->size));
}

// Save t, load it again and compare. With `all` with all files, otherwise with tokenizer.json and
// tokenizer_config.json alone. What is loaded is saved as it is.
static void test_save(const Tokenizer *t, const char *dir) {
    TokenizerFile *files, *again;
    const int n = tokenizer_files(t, 1024, &files);
    for (int all = 0; all < 2; all++) {
        dir_clear(dir);
        int written = 0;
        for (int i = 0; i < n; i++) {
            if (!all && strncmp(files[i].name, "tokenizer", 9)) continue;
            file_write(dir, files[i].name, files[i].text.data, files[i].text.size);
            written++;
        }
        Tokenizer u;
        tokenizer_load(&u, dir);
        CHECK(u.vocab_size == t->vocab_size && u.eos_id == t->eos_id && u.pad_id == t->pad_id,
              "vocabulary of %d, eos %d, pad %d", u.vocab_size, u.eos_id, u.pad_id);
        CHECK(texts_equal(&u.bytes, &t->bytes), "pieces after saving");
        CHECK(u.merge_slots == t->merge_slots &&
                  !memcmp(u.merges, t->merges, u.merge_slots * sizeof *u.merges),
              "merges after saving");
        const int m = tokenizer_files(&u, 77, &again);
        CHECK(m == written, "%d files, %d before", m, written);
        for (int i = 0; i < m; i++) {
            int k = 0;
            while (strcmp(files[k].name, again[i].name)) k++;
            CHECK(texts_equal(&files[k].text, &again[i].text), "%s after saving", again[i].name);
        }
        tokenizer_files_free(again, m);
        tokenizer_free(&u);
    }
    tokenizer_files_free(files, n);
}

// ------------------------------------------------------------------------------------------------
// Settings

// Append text[0..n) with the vocabulary and merges of `tiny` in place of "@VOCAB@" and "@MERGES@".
static void json_fill(Text *out, const Tokenizer *tiny, const char *text, size_t n) {
    const Text *merges = tokenizer_file(tiny, "merges.txt"), *vocab;
    vocab = tokenizer_file(tiny, "vocab.json");
    for (size_t i = 0; i < n; i++) {
        if (n - i >= 9 && !memcmp(text + i, "\"@VOCAB@\"", 9)) {
            text_append(out, vocab->data, vocab->size);
            i += 8;
        } else if (n - i >= 10 && !memcmp(text + i, "\"@MERGES@\"", 10)) {
            const char *line, *comma = "[";
            size_t at = 0, length;
            for (long number = 1; line_next(merges, &at, &line, &length); number++) {
                if (line_is_version(line, length, number)) continue;
                text_append(out, comma, 1);
                text_json(out, line, length);
                comma = ",";
            }
            text_append(out, "]", 1);
            i += 9;
        } else text_append(out, text + i, 1);
    }
}

// What is in `dir` must be loaded with the roles and template of the golden lines and saved as it is.
static void check_settings(const Tokenizer *t, const char *name, const char *roles,
                           const char *around, const char *dir) {
    Text got = {0};
    text_print(&got, "roles %d %d %d %d %d", t->vocab_size, t->bos_id, t->eos_id, t->pad_id,
               t->unk_id);
    // where transformers has no EOS ours is <|endoftext|>, and says so
    char *without =
        text_format("roles %d %d -1 %d %d", t->vocab_size, t->bos_id, t->pad_id, t->unk_id);
    CHECK(!strcmp(got.data, roles) || (!t->eos_named && !strcmp(without, roles)),
          "%s: %s, expected %s", name, got.data, roles);
    got.size = 0;
    text_print(&got, "around ");
    for (size_t i = 0; i < t->before.n; i++)
        text_print(&got, "%s%d", i ? " " : "", t->before.data[i]);
    text_print(&got, "\t");
    for (size_t i = 0; i < t->after.n; i++)
        text_print(&got, "%s%d", i ? " " : "", t->after.data[i]);
    CHECK(!strcmp(got.data, around), "%s: %s, expected %s", name, got.data, around);
    TokenizerFile *files;
    int n = tokenizer_files(t, 1024, &files), same = 0;
    for (int i = 0; i < n; i++) {
        char *path = path_join(dir, files[i].name);
        Text file = {0};
        if (path_is_file(path)) {
            file.data = file_read(path, &file.size);
            same += texts_equal(&file, &files[i].text);
        }
        text_free(&file);
        free(path);
    }
    CHECK(same == t->n_files, "%s: %d of %d files are saved as they were", name, same, t->n_files);
    tokenizer_files_free(files, n);
    text_free(&got);
    free(without);
}

// A token added for padding: what is saved then has it, and all else as before.
static void check_padded(Tokenizer *t, const char *name, const char *dir) {
    const int size = t->vocab_size, bos = t->bos_id, eos = t->eos_id, unk = t->unk_id;
    t->pad_id = tokenizer_add_special(t, "[NEW]");
    CHECK(t->pad_id == size, "%s: [NEW] is %d", name, t->pad_id);
    TokenizerFile *files;
    const int n = tokenizer_files(t, 1024, &files);
    for (int i = 0; i < n; i++)
        file_write(dir, files[i].name, files[i].text.data, files[i].text.size);
    tokenizer_files_free(files, n);
    Tokenizer u;
    tokenizer_load(&u, dir);
    CHECK(u.vocab_size == size + 1 && u.pad_id == size && u.bos_id == bos && u.eos_id == eos &&
              u.unk_id == unk && u.before.n == t->before.n && u.after.n == t->after.n,
          "%s with [NEW]: %d tokens, bos %d, eos %d, pad %d, unk %d", name, u.vocab_size, u.bos_id,
          u.eos_id, u.pad_id, u.unk_id);
    const char *text = "The <x> foo É <s> 12 </s> [NEW] \xEF\xAC\x81";
    TokenList a = encode(t, text, strlen(text), true), b = encode(&u, text, strlen(text), true);
    CHECK(tokens_equal(&a, &b), "%s with [NEW]: ids after saving", name);
    tokens_free(&a), tokens_free(&b);
    tokenizer_free(&u);
}

// Directories with all sorts of settings, against AutoTokenizer.
static void test_settings(const Tokenizer *tiny, const char *dir) {
    int n_pool, n_texts = 0, text = 0, saved = dup(STDERR_FILENO); // what is not used is said
    if (!freopen("/dev/null", "w", stderr)) die(EXIT_IO, "cannot open /dev/null");
    Text *pool = pool_load(&n_pool), file = {0}, texts[64];
    file.data = file_read("test/golden/tokenizer_settings.txt", &file.size);
    size_t at = 0, n;
    const char *line;
    char *name = NULL, *roles = NULL;
    Tokenizer t = {0};
    bool whole = false;
    for (int number = 1; line_next(&file, &at, &line, &n); number++) {
        const char *tab = memchr(line, '\t', n);
        char *copy = text_format("%.*s", (int)n, line);
        if (number > 2 && !strncmp(line, "text ", 5)) {
            texts[n_texts++] = text_unescape(line + 5, n - 5);
        } else if (!strncmp(line, "case ", 5)) {
            dir_clear(dir);
            free(name);
            name = text_copy(copy + 5);
            whole = false;
        } else if (!strncmp(line, "file ", 5)) {
            char *path = text_format("%.*s", (int)(tab - line) - 5, line + 5);
            Text json = text_unescape(tab + 1, (size_t)(line + n - tab - 1)), full = {0};
            json_fill(&full, tiny, json.data, json.size);
            file_write(dir, path, full.data, full.size);
            whole |= !strcmp(path, "tokenizer.json");
            text_free(&json), text_free(&full);
            free(path);
        } else if (!strncmp(line, "roles ", 6)) {
            for (int i = 0; i < tiny->n_files && !whole; i++)
                file_write(dir, tiny->files[i].name, tiny->files[i].text.data,
                           tiny->files[i].text.size);
            tokenizer_load(&t, dir);
            free(roles);
            roles = text_copy(copy);
        } else if (!strncmp(line, "around ", 7)) {
            check_settings(&t, name, roles, copy, dir);
            text = 0;
        } else if (!strncmp(line, "ids", 3)) {
            TokenList want = tokens_parse(copy + 3);
            TokenList got = encode(&t, texts[text].data, texts[text].size, true);
            CHECK(tokens_equal(&got, &want), "%s: ids of \"%s\"", name, texts[text].data);
            tokens_free(&want), tokens_free(&got);
            text++;
        } else if (!strncmp(line, "hash random ", 12)) {
            Hash h = hash_begin();
            size_t count;
            uint64_t value;
            for (unsigned i = 0; i < 200; i++) {
                Text random = random_text(pool, n_pool, i);
                TokenList ids = encode(&t, random.data, random.size, true);
                hash_ids(&h, ids.data, ids.n);
                text_free(&random), tokens_free(&ids);
            }
            CHECK(sscanf(line, "hash random %zu %" SCNx64, &count, &value) == 2 &&
                      h.value == value && h.count == count,
                  "%s: random texts", name);
            check_padded(&t, name, dir);
            tokenizer_free(&t);
        }
        free(copy);
    }
    CHECK(n_texts == 22 && name, "%d texts", n_texts);
    fflush(stderr), dup2(saved, STDERR_FILENO), close(saved);
    for (int i = 0; i < n_texts; i++) text_free(&texts[i]);
    for (int i = 0; i < n_pool; i++) text_free(&pool[i]);
    free(pool), free(name), free(roles);
    text_free(&file);
}

// CRLF in merges.txt, and files that are something else.
static void test_line_ends(const Tokenizer *good, const char *dir) {
    const Text *merges = tokenizer_file(good, "merges.txt"), *vocab;
    vocab = tokenizer_file(good, "vocab.json");
    Text crlf = {0};
    for (size_t i = 0; i < merges->size; i++)
        text_append(&crlf, merges->data[i] == '\n' ? "\r\n" : merges->data + i,
                    merges->data[i] == '\n' ? 2 : 1);
    for (int last = 0; last < 2; last++) { // with a line end at the end, and without
        dir_clear(dir);
        file_write(dir, "vocab.json", vocab->data, vocab->size);
        file_write(dir, "merges.txt", crlf.data, crlf.size - (last ? 2 : 0));
        Tokenizer t;
        tokenizer_load(&t, dir);
        CHECK(t.merge_slots == good->merge_slots &&
                  !memcmp(t.merges, good->merges, t.merge_slots * sizeof *t.merges),
              "merges with CRLF");
        test_save(&t, dir);
        tokenizer_free(&t);
    }
    text_free(&crlf);
}

// Parts of tokenizer.json that are refused, each by its name.
static void test_refused(const Tokenizer *tiny, const char *dir) {
    const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"\"normalizer\":null", "\"normalizer\":{\"type\":\"Nmt\"}", "normalizer Nmt is not supp"},
        {"\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\",\"x\":1}",
         "NFC: key \"x\" is not"},
        {"\"normalizer\":null",
         "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"\"}",
         "Replace: only a pattern that is a \"String\""},
        {"\"normalizer\":null",
         "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"BertNormalizer\"}]}",
         "normalizer BertNormalizer is not supported"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true}", "null",
         "pre_tokenizer has no ByteLevel"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true}",
         "{\"type\":\"Metaspace\"}", "pre_tokenizer Metaspace is not supported"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true}",
         "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[0-9]\"},\"behavior\":\"Isolated\"}",
         "pre_tokenizer Split by \"[0-9]\" (Isolated) is not supported"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true}",
         "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]"
         "}",
         "pre_tokenizer Digits after ByteLevel"},
        {"\"post_processor\":{\"type\":\"ByteLevel\"", "\"post_processor\":{\"type\":\"X\"",
         "post_processor X is not supported"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":false}",
         "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}}],"
         "\"special_tokens\":{}}",
         "post_processor: \"<s>\" is not among its special_tokens"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":false}",
         "{\"type\":\"TemplateProcessing\",\"single\":[]}", "has 0 sequences, expected one"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":false}",
         "{\"type\":\"BertProcessing\",\"cls\":[\"x\",700],\"sep\":[\"x\",1]}",
         "an id is not one of the vocabulary"},
        {"\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"WordPiece\"",
         "decoder WordPiece is not supported"},
        {"\"dropout\":null", "\"dropout\":0.1", "model: dropout 0.1 is not supported"},
        {"\"end_of_word_suffix\":\"\"", "\"end_of_word_suffix\":\"</w>\"",
         "model: end_of_word_suffix \"</w>\" is not supported"},
        {"\"fuse_unk\":false", "\"fuse_unk\":0", "\"fuse_unk\" is neither true nor false"},
        {"\"fuse_unk\":false", "\"fuse\":false", "model: key \"fuse\" is not known"},
        {"\"truncation\":null", "\"trunc\":null", "key \"trunc\" is not known"},
        {"\"content\":\"<|endoftext|>\"", "\"content\":\"\"", "an added token is empty"},
        {"\"id\":0", "\"id\":3", "has id 3, expected 0, which transformers gives it"},
    };
    Text json = {0};
    tokenizer_json(&json, tiny);
    dir_clear(dir);
    const char *config = "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"eos_token\": "
                         "\"<|endoftext|>\"}";
    file_write(dir, "tokenizer_config.json", config, strlen(config));
    Tokenizer t;
    for (int i = 0; i < COUNT(cases); i++) {
        const char *found = strstr(json.data, cases[i].from);
        CHECK(found, "tokenizer.json has no %s", cases[i].from);
        if (!found) continue;
        const size_t before = (size_t)(found - json.data), skip = strlen(cases[i].from);
        Text text = {0};
        text_append(&text, json.data, before);
        text_append(&text, cases[i].to, strlen(cases[i].to));
        text_append(&text, found + skip, json.size - before - skip);
        file_write(dir, "tokenizer.json", text.data, text.size);
        CHECK_DIES(EXIT_BAD_INPUT, cases[i].message, tokenizer_load(&t, dir));
        text_free(&text);
    }
    text_free(&json);
    dir_clear(dir);
}

// Long runs without a break must not take quadratic time (it would be minutes).
static void test_long_word(const Tokenizer *t) {
    const char *units[] = {"a", " ", "\n", "=-", "the", "\xE6\x97\xA5", "<|endoftext|"};
    for (int k = 0; k < COUNT(units); k++) {
        Text text = {0}, back = {0};
        while (text.size < 1000000) text_append(&text, units[k], strlen(units[k]));
        double begin = seconds_now();
        TokenList ids = encode(t, text.data, text.size, true);
        double seconds = seconds_now() - begin;
        CHECK(seconds < 20, "1 MB of \"%s\" took %.1f s", units[k], seconds);
        tokenizer_decode(t, &back, ids.data, ids.n, false);
        CHECK(back.size == text.size && !memcmp(back.data, text.data, text.size), "1 MB of \"%s\"",
              units[k]);
        text_free(&text), text_free(&back), tokens_free(&ids);
    }
}

// Tokens as text for people and programs: broken characters, NULs and no tokens at all.
static void test_texts(const Tokenizer *t) {
    const int ids[] = {t->byte_id['a'], t->byte_id[0xE2], t->byte_id[0x82],
                       t->byte_id[0],   t->byte_id['"'],  t->eos_id};
    Text text = {0};
    text_add_bytes(&text, t, ids, 0);
    CHECK(text.data && !text.size && !*text.data, "no tokens: an empty text");
    text_add_bytes(&text, t, ids, 6);
    CHECK(text.size == 5 && !memcmp(text.data, "a\xE2\x82\0\"", 6), "bytes, without EOS");
    text.size = 0;
    text_add_tokens(&text, t, ids, 3);
    CHECK(!strcmp(text.data, "a\uFFFD"), "half a character becomes U+FFFD: %s", text.data);
    text.size = 0;
    text_add_json(&text, t, ids, 6);
    CHECK(!strcmp(text.data, "\"a\uFFFD\uFFFD\\\"\""), "and so does NUL in JSON: %s", text.data);
    text.size = 0;
    text_add_json(&text, t, ids, 0);
    CHECK(!strcmp(text.data, "\"\""), "no tokens in JSON: %s", text.data);
    text.size = 0;
    text_add_row(&text, t, ids, 2, 3);
    CHECK(!strcmp(text.data, "a\uFFFD |\uFFFD"), "prompt and completion: %s", text.data);
    text.size = 0;
    text_add_row(&text, t, ids, 0, 0);
    CHECK(!strcmp(text.data, " |"), "an empty row: \"%s\"", text.data);
    text_free(&text);
}

// Each fault has a sentence of its own. `good` is a loaded tokenizer whose files are spoilt here.
static void test_bad_files(const Tokenizer *good, const char *dir) {
    const Text *vocab_file = tokenizer_file(good, "vocab.json");
    const Text *merges_file = tokenizer_file(good, "merges.txt");
    const char *vocab = vocab_file->data, *merges = merges_file->data;
    size_t vocab_n = vocab_file->size, merges_n = merges_file->size;
    Tokenizer t;
    CHECK_DIES(EXIT_BAD_INPUT, "no such directory", tokenizer_load(&t, "test/nowhere"));
    CHECK_DIES(EXIT_BAD_INPUT, "is a file, expected a", tokenizer_load(&t, "test/test.h"));
    dir_clear(dir);
    CHECK_DIES(EXIT_BAD_INPUT, "vocab.json: no such file", tokenizer_load(&t, dir));
    file_write(dir, "vocab.json", vocab, vocab_n);
    CHECK_DIES(EXIT_BAD_INPUT, "merges.txt: no such file", tokenizer_load(&t, dir));
    const struct {
        const char *text, *message; // merges.txt
    } bad_merges[] = {
        {"#version: 0.2\nh e\nq\n", "merges.txt:3: expected two tokens separated by one space"},
        {"#version: 0.2\nh e l\n", "merges.txt:2: expected two tokens separated by one space"},
        {"h  e\n", "merges.txt:1: expected two tokens separated by one space"},
        {"h e\n\ni n\n", "merges.txt:2: expected two tokens separated by one space"},
        {"h e\n#version: 0.2\n", "merges.txt:2: merge \"#version: 0.2\": \"#version:\" is not in"},
        {"h\xFF e\n", "merges.txt:1: not a line of UTF-8 text"},
        {"q zz\n", "merges.txt:1: merge \"q zz\": \"zz\" is not in the vocabulary"},
        {"q z\n", "merges.txt:1: merge \"q z\" gives \"qz\", not in the vocabulary"},
        {"h e\ni n\nh e\n", "merges.txt:3: merge \"h e\" appears twice"},
    };
    for (int i = 0; i < COUNT(bad_merges); i++) {
        file_write(dir, "merges.txt", bad_merges[i].text, strlen(bad_merges[i].text));
        CHECK_DIES(EXIT_BAD_INPUT, bad_merges[i].message, tokenizer_load(&t, dir));
    }
    file_write(dir, "merges.txt", "", 0);
    CHECK_DIES(0, "tokens and no merges: every text becomes single bytes", tokenizer_load(&t, dir));
    file_write(dir, "merges.txt", merges, merges_n);
    const struct {
        const char *from, *to, *message; // vocab.json with `from` replaced by `to`
    } bad_vocab[] = {
        {"\"!\":1", "\"!\":2", "vocab.json: id 2 used by \"!\" and \"\"\""},
        {"\"!\":1", "\"!\":60000", "vocab.json: id 60000 of \"!\" is outside vocab_size 700"},
        {"\"!\":1", "\"!\":-1", "vocab.json: id -1 of \"!\" is outside"},
        {"\"!\":1", "\"!\":1.5", "vocab.json: the id of \"!\" is not an integer"},
        {"\"!\":1", "\"!\":\"1\"", "vocab.json: the id of \"!\" is not an integer"},
        {"\"\xC4\xA0\":", "\"\xE2\x96\x81\":", "lacks byte token \"\xC4\xA0\" (byte 0x20): not a"},
        {"\"!\":1", "\"a\":1", "duplicate key \"a\""},
        {"{", "[", "vocab.json:1:"},
    };
    for (int i = 0; i < COUNT(bad_vocab); i++) {
        const char *at = strstr(vocab, bad_vocab[i].from);
        size_t before = at ? (size_t)(at - vocab) : 0, skip = strlen(bad_vocab[i].from);
        Text text = {0};
        CHECK(at, "vocab.json has no %s", bad_vocab[i].from);
        text_append(&text, vocab, before);
        text_append(&text, bad_vocab[i].to, strlen(bad_vocab[i].to));
        text_append(&text, vocab + before + skip, vocab_n - before - skip);
        file_write(dir, "vocab.json", text.data, text.size);
        CHECK_DIES(EXIT_BAD_INPUT, bad_vocab[i].message, tokenizer_load(&t, dir));
        text_free(&text);
    }
    file_write(dir, "vocab.json", vocab, vocab_n);
    const struct {
        const char *name, *text, *message; // a third file
    } bad_added[] = {
        {"added_tokens.json", "{\"[PAD]\": 5}", "added token \"[PAD]\" has id 5, expected 700"},
        {"added_tokens.json", "{\"a\": 700}", "added token \"a\" has id 700, expected 65"},
        {"added_tokens.json", "{\"[PAD]\": 701}", "\"[PAD]\" has id 701, expected 700"},
        {"added_tokens.json", "{\"[A]\": 700, \"[B]\": 700}", "id 700 used by \"[A]\" and \"[B]\""},
        {"added_tokens.json", "{\"\": 700}", "an added token is empty"},
        {"added_tokens.json", "{\"[PAD]\": 700.5}", "added token \"[PAD]\" lacks a name or an id"},
        {"added_tokens.json", "[7]", "added_tokens.json: expected a JSON object"},
        {"tokenizer_config.json", "{\"pad_token\": 7}", "pad_token is neither a token nor null"},
        {"tokenizer_config.json", "{\"auto_map\": {}}", "auto_map is not supported"},
        {"tokenizer_config.json", "{\"tokenizer_class\": \"T5Tokenizer\"}",
         "tokenizer_class T5Tokenizer is not supported, expected GPT2Tokenizer"},
        {"tokenizer_config.json", "{\"tokenizer_class\": \"PreTrainedTokenizerFast\"}",
         "tokenizer_class PreTrainedTokenizerFast needs a tokenizer.json, there is none"},
        {"config.json", "{\"tokenizer_class\": \"T5Tokenizer\"}",
         "config.json: tokenizer_class T5Tokenizer is not supported"},
        {"tokenizer_config.json",
         "{\"added_tokens_decoder\": {\"700\": {\"content\": \"<mask>\", \"left\": true}}}",
         "added token: key \"left\" is not known"},
        {"tokenizer_config.json",
         "{\"added_tokens_decoder\": {\"700\": {\"content\": \"<mask>\", \"lstrip\": 1}}}",
         "<mask>: \"lstrip\" is neither true nor false"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"y\"}}}",
         "added token \"y\" lacks a name or an id"},
    };
    for (int i = 0; i < COUNT(bad_added); i++) {
        file_write(dir, bad_added[i].name, bad_added[i].text, strlen(bad_added[i].text));
        CHECK_DIES(EXIT_BAD_INPUT, bad_added[i].message, tokenizer_load(&t, dir));
        char *path = path_join(dir, bad_added[i].name);
        unlink(path);
        free(path);
    }
    dir_clear(dir);
    file_write(dir, "tokenizer.json", "{\"model\": {\"type\": \"Unigram\"}}", 30);
    CHECK_DIES(EXIT_BAD_INPUT, "tokenizer.json: expected a BPE model", tokenizer_load(&t, dir));
    const char *no_bytes = "{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": []}}";
    file_write(dir, "tokenizer.json", no_bytes, strlen(no_bytes));
    CHECK_DIES(EXIT_BAD_INPUT, "tokenizer.json lacks byte token", tokenizer_load(&t, dir));
    CHECK_DIES(EXIT_BAD_INPUT, "has 700 tokens, the model's vocab_size is 699",
               tokenizer_check(good, 699, "x"));
}

// The same added tokens from any of the places where they may stand.
static void test_added_tokens(const Tokenizer *good, const char *dir) {
    const struct {
        const char *name, *text;
    } files[] = {
        {"added_tokens.json", "{\"[PAD]\": 700}"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"700\": {\"content\": \"[PAD]\", "
                                  "\"special\": true}}, \"pad_token\": {\"content\": \"[PAD]\"}}"},
        {"special_tokens_map.json", "{\"pad_token\": \"[PAD]\", \"eos_token\": \"<|endoftext|>\"}"},
    };
    for (int i = 0; i < COUNT(files); i++) {
        dir_clear(dir);
        for (int k = 0; k < good->n_files; k++)
            file_write(dir, good->files[k].name, good->files[k].text.data,
                       good->files[k].text.size);
        file_write(dir, files[i].name, files[i].text, strlen(files[i].text));
        Tokenizer t;
        tokenizer_load(&t, dir);
        CHECK(t.vocab_size == 701 && t.n_added == 2 && t.pad_id == (i ? 700 : -1), "%s: %d %d",
              files[i].name, t.vocab_size, t.pad_id);
        TokenList ids = encode(&t, "[PAD]<|endoftext|>", 18, true);
        CHECK(ids.n == 2 && ids.data[0] == 700 && ids.data[1] == t.eos_id, "%s: ids",
              files[i].name);
        tokens_free(&ids);
        tokenizer_free(&t);
    }
}

// A padding token for a model that has none, or pads with EOS: it survives saving, and texts have the
// ids that they had.
static void test_pad(const char *dir) {
    for (int json_alone = 0; json_alone < 2; json_alone++) {
        Tokenizer t;
        tokenizer_load(&t, json_alone ? "test/golden/tiny_vocab_json" : "test/golden/tiny_vocab");
        const char *text = "Once [PA <|endoftext|>";
        TokenList before = encode(&t, text, strlen(text), true);
        CHECK(tokenizer_add_special(&t, "[PAD]") == 700, "the id of [PAD]");
        CHECK(tokenizer_add_special(&t, "[PAD]") == 700, "the id of [PAD], asked again");
        CHECK(tokenizer_add_special(&t, END_OF_TEXT) == t.eos_id, "a token that is there");
        CHECK(t.vocab_size == 701 && t.n_added == 2, "%d tokens, %d added", t.vocab_size,
              t.n_added);
        t.pad_id = 700;
        TokenList after = encode(&t, text, strlen(text), true);
        CHECK(before.n == after.n && !memcmp(before.data, after.data, after.n * sizeof(int)),
              "the ids of a text without [PAD]");
        TokenList pads = encode(&t, "[PAD]x[PAD]", 11, true);
        CHECK(pads.n == 3 && pads.data[0] == 700 && pads.data[2] == 700, "[PAD] in a text");
        test_save(&t, dir);
        tokens_free(&before), tokens_free(&after), tokens_free(&pads);
        tokenizer_free(&t);
    }
    Tokenizer t; // a word of the vocabulary that becomes special keeps its id
    tokenizer_load(&t, "test/golden/tiny_vocab");
    size_t n;
    const char *piece = tokenizer_piece(&t, 650, &n);
    char *name = text_format("%.*s", (int)n, piece);
    CHECK(tokenizer_add_special(&t, name) == 650 && t.vocab_size == 700, "\"%s\" made special",
          name);
    free(name);
    tokenizer_free(&t);
}

// The same for models: which token pads, what the new row of wte is, what the score begins with.
static void test_scored(const char *dir) {
    const struct {
        int model_pad, tokenizer_pad, spare; // spare: rows of wte behind the vocabulary
        bool score;
        int pad, vocab; // to get
    } cases[] = {
        {-1, -1, 0, false, 700, 701},  {0, -1, 0, false, 700, 701}, {0, 0, 0, false, 700, 701},
        {-1, -1, 60, false, 700, 760}, {5, -1, 0, false, 5, 700},   {-1, 6, 0, false, 6, 700},
        {5, 6, 0, true, 5, 700},       {0, -1, 0, true, 700, 701},  {700, -1, 1, true, 700, 701},
    };
    char *path = path_join(dir, "model");
    for (int i = 0; i < COUNT(cases); i++) {
        GPT2Config c = {.vocab_size = 700 + cases[i].spare,
                        .n_positions = 8,
                        .n_embd = 16,
                        .n_layer = 1,
                        .n_head = 2,
                        .n_inner = 64,
                        .layer_norm_epsilon = 1e-5f,
                        .initializer_range = 0.02f,
                        .bos_token_id = 0,
                        .eos_token_id = 0,
                        .pad_token_id = cases[i].model_pad,
                        .score_head = cases[i].score};
        GPT2 stored, model, again, zero;
        gpt2_create(&stored, c);
        gpt2_init_random(&stored, 1);
        disk_remove(path);
        model_save(&stored, NULL, NULL, path);
        Tokenizer t;
        tokenizer_load(&t, "test/golden/tiny_vocab");
        t.pad_id = cases[i].tokenizer_pad;
        int saved = dup(STDERR_FILENO); // there is a warning where a reward model pads with EOS
        if (!freopen("/dev/null", "w", stderr)) die(EXIT_IO, "cannot open /dev/null");
        model_load_scored(&model, &t, path, "random", 3);
        fflush(stderr), dup2(saved, STDERR_FILENO), close(saved);
        CHECK(model.config.pad_token_id == cases[i].pad && t.pad_id == cases[i].pad &&
                  model.config.vocab_size == cases[i].vocab && t.vocab_size <= cases[i].vocab,
              "case %d: pad %d and %d, vocabulary %d and %d", i, model.config.pad_token_id,
              t.pad_id, model.config.vocab_size, t.vocab_size);
        const size_t V = (size_t)c.vocab_size, n = (size_t)gpt2_count_params(&stored);
        CHECK(!memcmp(model.w.wte, stored.w.wte, V * 16 * sizeof(float)) &&
                  !memcmp(model.w.h[0].fc_w, stored.w.h[0].fc_w, 16 * 64 * sizeof(float)) &&
                  !memcmp(model.w.wpe, stored.w.wpe, 8 * 16 * sizeof(float)),
              "case %d: the weights that were there", i);
        for (int k = 0; k < 16 && cases[i].vocab > c.vocab_size; k++) {
            double mean = 0;
            for (size_t v = 0; v < V; v++) mean += stored.w.wte[v * 16 + k] / (double)V;
            CHECK_NEAR(model.w.wte[V * 16 + k], mean, 1e-6, 1e-9, "case %d: the new row", i);
        }
        double squares = 0;
        for (int k = 0; k < 16; k++) squares += model.w.score[k] * model.w.score[k] / 16;
        if (cases[i].score)
            CHECK(!memcmp(model.w.score, stored.w.score, 16 * sizeof(float)), "case %d: score", i);
        else CHECK(squares > 0.2 / 17 && squares < 3.0 / 17, "case %d: score^2 %g", i, squares);
        // without a tokenizer nothing is added but the score
        model_load_scored(&zero, NULL, path, "zero", 3);
        CHECK(gpt2_count_params(&zero) == n + (cases[i].score ? 0 : 16) &&
                  (cases[i].score || zero.w.score[7] == 0),
              "case %d: without a tokenizer", i);
        // saved and loaded it is the same, and is not changed again
        disk_remove(path);
        model_save(&model, &t, NULL, path);
        tokenizer_free(&t);
        tokenizer_load(&t, path);
        model_load_scored(&again, &t, path, "random", 4);
        CHECK(again.n_floats == model.n_floats && t.pad_id == cases[i].pad &&
                  again.config.pad_token_id == cases[i].pad &&
                  !memcmp(again.params, model.params, model.n_floats * sizeof(float)),
              "case %d: saved and loaded", i);
        gpt2_free(&stored), gpt2_free(&model), gpt2_free(&again), gpt2_free(&zero);
        tokenizer_free(&t);
    }
    disk_remove(path);
    free(path);
}

int main(void) {
    char dir[] = "/tmp/test_tokenizer.XXXXXX";
    if (!mkdtemp(dir)) die(EXIT_IO, "cannot create %s", dir);
    test_unicode();
    Tokenizer t;
    tokenizer_load(&t, "test/golden/tiny_vocab");
    CHECK(t.vocab_size == 700 && t.eos_id == 0 && t.pad_id == -1, "%d tokens, eos %d, pad %d",
          t.vocab_size, t.eos_id, t.pad_id);
    test_golden(&t, "test/golden/tokenizer_tiny.txt");
    test_save(&t, dir);
    test_long_word(&t);
    test_texts(&t);
    size_t n;
    tokenizer_piece(&t, 700, &n);
    CHECK(n == 0, "an id beyond the vocabulary has %zu bytes", n);
    tokenizer_check(&t, 700, "test/golden/tiny_vocab");
    test_bad_files(&t, dir);
    test_added_tokens(&t, dir);
    test_settings(&t, dir);
    test_line_ends(&t, dir);
    test_refused(&t, dir);
    test_pad(dir);
    test_scored(dir);
    tokenizer_free(&t);
    tokenizer_load(&t, "test/golden/tiny_vocab_json"); // tokenizer.json alone, with [PAD]
    CHECK(t.vocab_size == 701 && t.eos_id == 0 && t.pad_id == 700, "%d tokens, eos %d, pad %d",
          t.vocab_size, t.eos_id, t.pad_id);
    test_golden(&t, "test/golden/tokenizer_added.txt");
    test_save(&t, dir);
    tokenizer_free(&t);
    char *gpt2 = test_data("gpt2_tokenizer");
    if (gpt2) {
        tokenizer_load(&t, gpt2);
        CHECK(t.vocab_size == 50257 && t.eos_id == 50256, "GPT-2: %d tokens", t.vocab_size);
        test_golden(&t, "test/golden/tokenizer_gpt2.txt");
        test_save(&t, dir);
        test_long_word(&t);
        tokenizer_free(&t);
    } else test_skip("GPT-2's vocabulary ($ALIGN_TEST_DATA/gpt2_tokenizer)");
    free(gpt2);
    dir_clear(dir);
    rmdir(dir);
    return test_end("tokenizer");
}
