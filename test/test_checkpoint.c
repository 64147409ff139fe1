// test_checkpoint.c: everything that lies on disk. Files: what the reader of safetensors and
// config.json accepts and refuses, byte-exact writing. Runs: each call of a save failing, ending
// the process or being killed, after which the newest good checkpoint must load and no temporary
// name may stay.
#define CHECKPOINT_FAULTS
#include "test.h"
#include "../lib/files/checkpoint.h"
#ifdef __linux__
#include <sys/mount.h>
#endif

// ------------------------------------------------------------------------------------------------
// Faults: call number `at` fails with `error`, or ends the process.

static struct {
    long count, at;
    int error;
    bool leave, no_swap;
} faults;

static int disk_fault(const char *call) {
    if (faults.no_swap && !strcmp(call, "swap")) return ENOSYS;
    if (++faults.count != faults.at) return 0;
    if (faults.leave) _exit(99);
    return faults.error;
}

// ------------------------------------------------------------------------------------------------
// Small things

static char *root; // where the test writes, removed at the end

static char *in_root(const char *name) { return path_join(root, name); }

static void write_file(const char *path, const void *bytes, size_t n) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, n, file) != n || fclose(file)) die(EXIT_IO, "%s: write", path);
}

static bool exists(const char *dir, const char *name) {
    char *path = path_join(dir, name);
    bool yes = !access(path, F_OK);
    free(path);
    return yes;
}

// True if two files hold the same bytes.
static bool same_file(const char *dir_a, const char *dir_b, const char *name) {
    char *a = path_join(dir_a, name), *b = path_join(dir_b, name);
    size_t n, m;
    char *x = file_read(a, &n), *y = file_read(b, &m);
    bool same = n == m && !memcmp(x, y, n);
    free(a), free(b), free(x), free(y);
    return same;
}

// A model whose every number is a function of `seed`; with moments if it is to train.
static void make_model(GPT2 *m, int seed, bool score, bool train) {
    GPT2Config c = {.vocab_size = 11,
                    .n_positions = 6,
                    .n_embd = 4,
                    .n_layer = 2,
                    .n_head = 2,
                    .n_inner = 12,
                    .layer_norm_epsilon = 1e-5f,
                    .initializer_range = 0.02f,
                    .bos_token_id = 10,
                    .eos_token_id = 10,
                    .pad_token_id = score ? 3 : -1,
                    .score_head = score};
    gpt2_create(m, c);
    if (train) gpt2_train_begin(m, false);
    m->adam_step = seed;
    for (int i = 0; i < m->n_tensors; i++)
        for (size_t k = 0; k < m->tensors[i].size; k++) {
            size_t at = m->tensors[i].offset + k;
            m->params[at] = (float)sin(seed * 1e3 + (double)at);
            if (train) m->adam_m[at] = m->params[at] * 0.3f, m->adam_v[at] = (float)seed + 1e-7f;
        }
}

// By what is written for them, since a struct has bytes between its fields.
static bool same_config(const GPT2Config *a, const GPT2Config *b) {
    Text x = {0}, y = {0};
    config_write(&x, a, NULL);
    config_write(&y, b, NULL);
    bool same = !strcmp(x.data, y.data);
    text_free(&x), text_free(&y);
    return same;
}

// True if the model (and its moments, if it has any) is make_model's for this seed.
static bool is_model(const GPT2 *m, int seed) {
    GPT2 want;
    make_model(&want, seed, m->config.score_head, m->adam_m != NULL);
    size_t bytes = want.n_floats * sizeof(float);
    bool same = m->n_floats == want.n_floats && !memcmp(m->params, want.params, bytes);
    if (m->adam_m)
        same = same && m->adam_step == seed && !memcmp(m->adam_m, want.adam_m, bytes) &&
               !memcmp(m->adam_v, want.adam_v, bytes);
    gpt2_free(&want);
    return same;
}

// ------------------------------------------------------------------------------------------------
// safetensors: bytes

// A file of header and data at root/name; the header's length is put before it.
static char *safe_file(const char *name, const char *header, const void *data, size_t n) {
    char *path = in_root(name);
    Text t = {0};
    uint64_t length = strlen(header);
    text_append(&t, &length, 8);
    text_append(&t, header, (size_t)length);
    text_append(&t, data, n);
    write_file(path, t.data, t.size);
    text_free(&t);
    return path;
}

static void open_and_close(const char *path) {
    SafeFile f;
    safetensors_open(&f, path);
    safetensors_close(&f);
}

#define I32(shape, offsets)                                                                        \
    "{\"test\":{\"dtype\":\"I32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define F32(shape, offsets) "{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_safetensors_accepts(void) {
    static const struct {
        const char *header;
        size_t data;
        int n;
    } good[] = {
        {"{}", 0, 0},
        {"\t\n{}\r \t\n", 0, 0}, // blanks on both sides
        {I32("[2,2]", "[0,16]"), 16, 1},
        {I32("[]", "[0,4]"), 4, 1},                                                // a scalar
        {I32("[2,0]", "[0, 0]"), 0, 1},                                            // empty
        {"{\"b\":" F32("[2]", "[4,12]") ",\"a\":" F32("[1]", "[0,4]") "}", 12, 2}, // any order
        {"{\"b\":" F32("[1]", "[0,4]") ",\"a\":" F32("[0]", "[0,0]") "}", 4, 2},
        {"{\"x\":{\"data_offsets\":[0,2],\"dtype\":\"F4\",\"shape\":[4]}}", 2, 1}, // 4-bit type
        {"{\"__metadata__\":{\"a\":\"-1.5e3\"},\"-1.0\":" F32("[1]", "[0,4]") "}", 4, 1},
        {"{\"\\\"-1.0\":" F32("[1,1,1,1,1,1]", "[0,4]") "}", 4, 1},
    };
    char zeros[64] = {0};
    for (int i = 0; i < COUNT(good); i++) {
        char *path = safe_file("good", good[i].header, zeros, good[i].data);
        SafeFile f;
        safetensors_open(&f, path);
        CHECK(f.n == good[i].n, "%s: %d tensors", good[i].header, f.n);
        safetensors_close(&f);
        free(path);
    }
}

static void test_safetensors_refuses(void) {
    // Whole files: the length is part of what is wrong.
    static const struct {
        const char *bytes;
        size_t n;
        const char *message;
    } files[] = {
        {"", 0, "0 bytes, too short for a safetensors file"},
        {"abc", 3, "3 bytes, too short"},
        {"<\0\0\0\0\0\0\0", 8, "header length 60 runs past end of file (8 bytes)"},
        {"<\0\0\0\0\377\377\377{\"test\":1}", 18, "exceeds the limit 100000000"},
        {"\0\0\0\0\0\0\0\200", 8, "header length 9223372036854775808 exceeds the limit 100000000"},
        {"\001\341\365\005\0\0\0\0", 8, "header length 100000001 exceeds"},
        {"\350\003\0\0\0\0\0\0{}", 10, "header length 1000 runs past end of file (10 bytes)"},
        {"\0\0\0\0\0\0\0\0", 8, "header:1:1: JSON error: empty"},
        {"\001\0\0\0\0\0\0\0\377", 9, "header:1:1: invalid UTF-8"},
        {"\001\0\0\0\0\0\0\0{", 9, "header:1:1: JSON error"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, "is a Git LFS pointer"},
        {"PK\003\004abcdefgh", 12, "is a zip file"},
        {"\200\002}q\001(X\006\0\0", 10, "is a Python pickle"},
        {"GGUF\003\0\0\0\001\0", 10, "is a GGUF model"},
        {"\037\213\010\0\001\002\003\004\005", 9, "is gzip-compressed"},
        {"<!DOCTYPE html><html>", 21, "is an HTML page"},
    };
    for (int i = 0; i < COUNT(files); i++) {
        char *path = in_root("bad");
        write_file(path, files[i].bytes, files[i].n);
        CHECK_DIES(EXIT_BAD_INPUT, files[i].message, open_and_close(path));
        free(path);
    }
    // Headers, and how much data follows.
    static const struct {
        const char *header;
        size_t data;
        const char *message;
    } headers[] = {
        {I32("[2,2]", "[0,16]"), 50, "34 unexplained bytes after the last tensor"},
        {I32("[2,2]", "[0,16]"), 14, "data ends at 14, header describes 16: file truncated"},
        {I32("[2,2]", "[0, 4]"), 16, "\"test\": 4 bytes stored, shape [2,2] x I32 needs 16"},
        {I32("[2,18446744073709551614]", "[0,16]"), 16, "overflows"},
        {I32("[2,9223372036854775807]", "[0,16]"), 16, "overflows"},
        {I32("[4294967296,4294967296]", "[0,0]"), 0, "[4294967296,4294967296] overflows"},
        {I32("[281474976710655,281474976710655]", "[0,0]"), 0, "overflows"},
        {I32("[-1]", "[0,4]"), 4, "header: -1 at byte"},
        {I32("[1.0]", "[0,4]"), 4, "header: 1.0 at byte"},
        {I32("[1]", "[0,4e0]"), 4, "header: 4e0 at byte"},
        {I32("[1]", "[-0,4]"), 4, "header: -0 at byte"},
        {I32("[1]", "[4,0]"), 4, "end before begin"},
        {I32("[1]", "[0,4,8]"), 4, "data_offsets are not two integers"},
        {I32("[1]", "[0]"), 4, "data_offsets are not two integers"},
        {I32("[1]", "[0,281474976710656]"), 4, "data_offsets are not two integers below 2^48"},
        {I32("[1]", "[0,\"4\"]"), 4, "data_offsets are not two integers"},
        {I32("[\"1\"]", "[0,4]"), 4, "shape is not all integers"},
        {I32("7", "[0,4]"), 4, "expected dtype, shape and data_offsets"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "expected dtype, shape and data_offsets"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"y\":0}}", 4, "no more"},
        {"{\"x\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
         "duplicate key \"dtype\""},
        {"{\"x\":{\"dtype\":\"F7\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
         "unknown dtype \"F7\""},
        {"{\"x\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, "shape [3] x F4"},
        {"{\"x\":7}", 0, "tensor \"x\": expected dtype"},
        {"[]", 0, "header is not a JSON object"},
        {"{} {}", 0, "text after the end"},
        {"{\"__metadata__\":{\"x\":1}}", 0, "__metadata__ value \"x\" is not a string"},
        {"{\"__metadata__\":[]}", 0, "__metadata__ is no object"},
        {"{\"a\":" F32("[1]", "[0,4]") ",\"a\":" F32("[1]", "[4,8]") "}", 8, "duplicate key \"a\""},
        {"{\"a\":" F32("[4]", "[0,16]") ",\"b\":" F32("[4]", "[0,16]") "}", 16,
         "\"b\" starts at 0, expected 16 (overlap)"},
        {"{\"a\":" F32("[4]", "[0,16]") ",\"b\":" F32("[1]", "[24,28]") "}", 28,
         "\"b\" starts at 24, expected 16, gap of 8"},
        {"{\"a\":" F32("[4]", "[8,24]") "}", 24, "\"a\" starts at 8, expected 0, gap of 8"},
    };
    char zeros[64] = {0};
    for (int i = 0; i < COUNT(headers); i++) {
        char *path = safe_file("bad", headers[i].header, zeros, headers[i].data);
        CHECK_DIES(EXIT_BAD_INPUT, headers[i].message, open_and_close(path));
        free(path);
    }
    // Many tensors on the same bytes, and no tensor at all for a directory or a missing file.
    Text many = {0};
    for (int i = 0; i < 20000; i++)
        text_print(&many, "%s\"w%d\":" F32("[2,2]", "[0,16]"), i ? "," : "{", i);
    text_print(&many, "}");
    char *path = safe_file("bad", many.data, zeros, 16);
    CHECK_DIES(EXIT_BAD_INPUT, "(overlap)", open_and_close(path));
    CHECK_DIES(EXIT_BAD_INPUT, "is not a regular file", open_and_close(root));
    CHECK_DIES(EXIT_BAD_INPUT, "/none: no such file", open_and_close(in_root("none")));
    text_free(&many), free(path);
}

// The reference's own vector (safetensors/src/tensor.rs): one tensor attn.0 of shape [1,2,3].
static void test_safetensors_writes(void) {
    SafeEntry e = {.name = "attn.0", .rank = 3, .dims = {1, 2, 3}};
    Text t = {0};
    safetensors_header(&t, &e, 1, NULL);
    const char want[] = "@\0\0\0\0\0\0\0{\"attn.0\":{\"dtype\":\"F32\",\"shape\":[1,2,3],"
                        "\"data_offsets\":[0,24]}}      ";
    CHECK(t.size == 72 && !memcmp(t.data, want, 72), "header of %zu bytes: %s", t.size, t.data + 8);
    text_free(&t);
    safetensors_header(&t, &e, 0, "pt");
    CHECK(t.size == 8 + 32 && !strncmp(t.data + 8, "{\"__metadata__\":{\"format\":\"pt\"}}", 32),
          "metadata: %s", t.data + 8);
    text_free(&t);
}

// All 65536 halves against their definition, and BF16 against the upper half of a float. The data
// starts at an odd byte.
static void test_safetensors_types(void) {
    uint16_t *all = mem_alloc(65536, 2);
    float *got = mem_floats(65536);
    for (int i = 0; i < 65536; i++) all[i] = (uint16_t)i;
    int bad = 0;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        char *header = text_format("{\"x\":{\"dtype\":\"%s\",\"shape\":[256,256],"
                                   "\"data_offsets\":[0,131072]}}%s",
                                   bf16 ? "BF16" : "F16", bf16 ? " " : "");
        char *path = safe_file("types", header, all, 131072);
        SafeFile f;
        safetensors_open(&f, path);
        CHECK(f.data % 2 == 1, "data at %d", (int)f.data);
        safetensors_read(&f, &f.tensors[0], 0, 100, got); // in two parts
        safetensors_read(&f, &f.tensors[0], 100, 65436, got + 100);
        for (int i = 0; i < 65536; i++) {
            int exponent = i >> 10 & 31, mantissa = i & 1023;
            double want = exponent == 31 ? (mantissa ? NAN : INFINITY)
                          : exponent     ? ldexp(1024 + mantissa, exponent - 25)
                                         : ldexp(mantissa, -24);
            uint32_t bits = (uint32_t)i << 16;
            float upper;
            memcpy(&upper, &bits, 4);
            if (bf16) want = upper;
            else if (i & 32768) want = -want;
            bool same = isnan(want) ? isnan(got[i]) : (double)got[i] == want;
            bad += !same || (!isnan(want) && !signbit(want) != !signbit(got[i]));
        }
        safetensors_close(&f);
        free(path), free(header);
    }
    CHECK(bad == 0, "%d of 131072 16-bit values are wrong", bad);
    free(all), free(got);
}

static void test_hash(void) {
    unsigned char bytes[300];
    for (int i = 0; i < 300; i++) bytes[i] = (unsigned char)(i * 7);
    DiskHash whole = disk_hash_begin();
    disk_hash_add(&whole, bytes, 300);
    uint64_t want = disk_hash_end(&whole);
    int bad = 0;
    for (size_t a = 0; a <= 300; a++) { // in two parts, at every border
        DiskHash h = disk_hash_begin();
        disk_hash_add(&h, bytes, a);
        disk_hash_add(&h, bytes + a, 300 - a);
        bad += disk_hash_end(&h) != want;
    }
    CHECK(bad == 0, "the hash depends on how the bytes come (%d)", bad);
    for (int bit = 0; bit < 2400; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        DiskHash h = disk_hash_begin();
        disk_hash_add(&h, bytes, 300);
        bad += disk_hash_end(&h) == want;
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    CHECK(bad == 0, "%d flipped bits go unnoticed", bad);
}

// ------------------------------------------------------------------------------------------------
// Directories of models

static void test_golden(const char *name) {
    char *from = path_join("test/golden", name), *to = in_root(name);
    char *config = path_join(from, "config.json");
    if (!path_is_file(config)) {
        test_skip("run me from the project's directory: no test/golden");
        return;
    }
    GPT2 a, b;
    model_read(&a, from);
    CHECK(a.config.score_head == !strcmp(name, "tiny_score"), "%s: score head", name);
    cJSON *pattern = config_pattern(config);
    model_save(&a, NULL, pattern, to);
    CHECK(same_file(from, to, "model.safetensors"), "%s: not byte for byte", name);
    model_read(&b, to);
    CHECK(same_config(&a.config, &b.config), "%s: config", name);
    CHECK(!memcmp(a.params, b.params, a.n_floats * sizeof(float)), "%s: weights", name);
    // Every key and number of the config is as transformers wrote it; one line is new.
    char *saved = path_join(to, "config.json"), *old = file_read(config, NULL);
    char *new = file_read(saved, NULL), *line = strstr(new, "  \"torch_dtype\": \"float32\",\n");
    CHECK(line != NULL, "%s: no torch_dtype", name);
    if (line) memmove(line, strchr(line, '\n') + 1, strlen(strchr(line, '\n')));
    CHECK(!strcmp(old, new), "%s: config.json became %s", name, new);
    gpt2_free(&a), gpt2_free(&b);
    cJSON_Delete(pattern);
    free(from), free(to), free(config), free(saved), free(old), free(new);
}

// The tokenizer's four files lie beside the weights, and the two that came from disk are unchanged.
static void test_tokenizer_files(void) {
    char *from = text_copy("test/golden/tiny_vocab"), *to = in_root("with_tokenizer");
    if (!path_is_dir(from)) {
        test_skip("run me from the project's directory: no test/golden");
        return;
    }
    Tokenizer t, again;
    GPT2 m;
    tokenizer_load(&t, from);
    make_model(&m, 1, false, false);
    model_save(&m, &t, NULL, to);
    CHECK(same_file(from, to, "vocab.json") && same_file(from, to, "merges.txt"),
          "tokenizer files");
    CHECK(exists(to, "tokenizer.json") && exists(to, "tokenizer_config.json"), "made files");
    tokenizer_load(&again, to);
    CHECK(again.vocab_size == t.vocab_size && again.eos_id == t.eos_id, "tokenizer read back");
    CHECK_DIES(EXIT_BAD_INPUT, "exists already", model_save(&m, NULL, NULL, to));
    tokenizer_free(&t), tokenizer_free(&again);
    gpt2_free(&m);
    free(from), free(to);
}

// How the weights of make_model(1) are to be stored; a name takes part in one kind of change.
typedef struct {
    const char *prefix, *dtype;                               // NULL: "", "F32"
    const char *skip, *turn, *nan, *inf, *wide, *type, *bare; // names
    const char *head;                                         // "same", "other", "long"
    const char *extra;                                        // name of one more tensor
    bool masks;
    int begin, end; // only these tensors, for shards; end 0: all
} Form;

static void add_tensor(Text *json, Text *data, const char *name, const char *dtype,
                       const char *shape, const void *bytes, size_t n) {
    text_print(json, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
               json->size ? "," : "{", name, dtype, shape, data->size, data->size + n);
    text_append(data, bytes, n);
}

static void save_form(const char *dir, const char *file, Form form) {
    GPT2 m;
    Text json = {0}, data = {0};
    make_model(&m, 1, false, false);
    const char *dtype = form.dtype ? form.dtype : "F32";
    int end = form.end ? form.end : m.n_tensors;
    for (int i = form.begin; i < end; i++) {
        const Tensor *t = &m.tensors[i];
        Text bytes = {0};
        if (form.skip && !strcmp(t->name, form.skip)) continue;
        bool turn = form.turn && !strcmp(t->name, form.turn);
        bool bare = form.bare && !strcmp(t->name, form.bare);
        float *p = m.params + t->offset;
        if (form.nan && !strcmp(t->name, form.nan)) p[3] = p[5] = NAN;
        if (form.inf && !strcmp(t->name, form.inf)) p[0] = -INFINITY;
        for (size_t k = 0; k < t->size; k++) {
            uint32_t bits;
            memcpy(&bits, &p[k], 4);
            if (!strcmp(dtype, "F32")) text_append(&bytes, &bits, 4);
            else text_append(&bytes, (char *)&bits + 2, 2); // BF16, truncated
        }
        bool type = form.type && !strcmp(t->name, form.type);
        int rows = t->rows + (form.wide && !strcmp(t->name, form.wide));
        for (int k = 0; rows > t->rows && k < (t->cols ? t->cols : 1); k++)
            text_append(&bytes, "\0\0\0", 4);
        char *name = text_format("%s%s", form.prefix && !bare ? form.prefix : "", t->name);
        char *shape = !t->cols ? text_format("[%d]", rows)
                      : turn   ? text_format("[%d,%d]", t->cols, rows)
                               : text_format("[%d,%d]", rows, t->cols);
        add_tensor(&json, &data, name, type ? "I32" : dtype, shape, bytes.data, bytes.size);
        free(name), free(shape);
        text_free(&bytes);
    }
    if (form.masks) {
        char mask[36] = {0}, *a = text_format("%sh.0.attn.bias", form.prefix ? form.prefix : "");
        add_tensor(&json, &data, a, "BOOL", "[1,1,6,6]", mask, 36);
        add_tensor(&json, &data,
                   form.prefix ? "transformer.h.0.attn.masked_bias" : "h.0.attn.masked_bias", "F32",
                   "[]", mask, 4);
        free(a);
    }
    if (form.head) {
        size_t n = m.tensors[0].size + (strcmp(form.head, "long") ? 0 : 4);
        float *head = mem_floats(n);
        memcpy(head, m.params + m.tensors[0].offset, m.tensors[0].size * 4);
        if (!strcmp(form.head, "other")) head[17] += 1e-3f;
        add_tensor(&json, &data, "lm_head.weight", "F32",
                   n == m.tensors[0].size ? "[11,4]" : "[12,4]", head, n * 4);
        free(head);
    }
    if (form.extra) add_tensor(&json, &data, form.extra, "F32", "[1]", "\0\0\0", 4);
    text_print(&json, "}");
    char *path = path_join(dir, file);
    free(safe_file("weights", json.data, data.data, data.size));
    char *made = in_root("weights");
    if (rename(made, path)) die(EXIT_IO, "rename");
    text_free(&json), text_free(&data);
    free(path), free(made);
    gpt2_free(&m);
}

#define CONFIG                                                                                     \
    "{\"vocab_size\":11,\"n_positions\":6,\"n_embd\":4,\"n_layer\":2,\"n_head\":2,\"n_inner\":12," \
    "\"bos_token_id\":10,\"eos_token_id\":10}"

// A fresh directory root/name with CONFIG in it.
static char *model_dir(const char *name) {
    char *dir = in_root(name), *config = path_join(dir, "config.json");
    disk_remove(dir);
    if (mkdir(dir, 0777)) die(EXIT_IO, "mkdir %s", dir);
    write_file(config, CONFIG, strlen(CONFIG));
    free(config);
    return dir;
}

static void load_and_free(const char *dir) {
    GPT2 m;
    model_read(&m, dir);
    gpt2_free(&m);
}

static void test_forms(void) {
    char *dir = model_dir("forms");
    const Form good[] = {
        {0},
        {.masks = true},
        {.prefix = "transformer."},
        {.head = "same"},
        {.prefix = "transformer.", .masks = true, .head = "same"},
    };
    for (int i = 0; i < COUNT(good); i++) {
        GPT2 m;
        save_form(dir, "model.safetensors", good[i]);
        model_load(&m, dir);
        CHECK(is_model(&m, 1), "form %d: wrong weights", i);
        gpt2_free(&m);
    }
    GPT2 m;
    save_form(dir, "model.safetensors", (Form){.dtype = "BF16"});
    model_load(&m, dir);
    CHECK_NEAR(m.params[1], sin(1e3 + 1), 1e-2, 0, "BF16");
    gpt2_free(&m);

    const struct {
        Form form;
        const char *message;
        int code;
    } odd[] = {
        {{.extra = "foo.weight"},
         "1 tensors are not part of GPT-2 and are ignored: \"foo.weight\"",
         0},
        {{.extra = "v_head.summary.weight"}, "ignored: \"v_head.summary.weight\"", 0},
        {{.skip = "h.1.mlp.c_fc.weight"},
         "missing tensor \"h.1.mlp.c_fc.weight\" (27 of 28 found)",
         3},
        {{.turn = "h.0.mlp.c_fc.weight"},
         "\"h.0.mlp.c_fc.weight\" is [12,4], config needs [4,12] (looks transposed",
         3},
        {{.wide = "wte.weight"}, "vocab_size 11 but wte.weight has 12 rows", 3},
        {{.wide = "ln_f.bias"}, "\"ln_f.bias\" is [5], config needs [4]", 3},
        {{.type = "wpe.weight"}, "\"wpe.weight\" has dtype I32; F32, F16 or BF16 needed", 3},
        {{.nan = "h.1.attn.c_attn.weight"},
         "\"h.1.attn.c_attn.weight\" has NaN at element 3 (2 non-finite values)",
         3},
        {{.inf = "wpe.weight"}, "has Inf at element 0 (1 non-finite values)", 3},
        {{.head = "other"}, "lm_head.weight differs from wte.weight", 3},
        {{.head = "long"}, "lm_head.weight differs from wte.weight", 3},
        {{.prefix = "transformer.", .bare = "wte.weight"}, "names with and without", 3},
        {{.extra = "transformer.wte.weight"}, "names with and without", 3},
        {{.prefix = "module."}, "\"module.wte.weight\": not a plain GPT-2 checkpoint", 3},
        {{.extra = "h.0.attn.c_attn.lora_A.weight"}, "merge the adapter first", 3},
        {{.extra = "h.0.mlp.c_fc.qweight"}, "not a plain GPT-2 checkpoint", 3},
        {{.type = "wte.weight", .begin = 0}, "has dtype I32", 3},
    };
    for (int i = 0; i < COUNT(odd); i++) {
        save_form(dir, "model.safetensors", odd[i].form);
        CHECK_DIES(odd[i].code, odd[i].message, load_and_free(dir));
    }

    // What is no model directory.
    char *config = path_join(dir, "config.json"), *weights = path_join(dir, "model.safetensors");
    char *pickle = path_join(dir, "pytorch_model.bin"), *none = in_root("none");
    CHECK_DIES(EXIT_BAD_INPUT, "/none: no such directory", load_and_free(none));
    CHECK_DIES(EXIT_BAD_INPUT, "is a file, expected a checkpoint directory", load_and_free(config));
    unlink(weights);
    CHECK_DIES(EXIT_BAD_INPUT, "no model.safetensors", load_and_free(dir));
    write_file(pickle, "x", 1);
    CHECK_DIES(EXIT_BAD_INPUT, "found pytorch_model.bin (pickle is not read)", load_and_free(dir));
    unlink(config);
    CHECK_DIES(EXIT_BAD_INPUT, "no config.json", load_and_free(dir));
    free(config), free(weights), free(pickle), free(none), free(dir);
}

static void test_shards(void) {
    char *dir = model_dir("shards"), *index = path_join(dir, "model.safetensors.index.json");
    const char *names[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
    GPT2 m;
    make_model(&m, 1, false, false);
    int half = 10, total = 0;
    save_form(dir, names[0], (Form){.begin = 0, .end = half, .prefix = "transformer."});
    save_form(dir, names[1], (Form){.begin = half, .prefix = "transformer."});
    Text map = {0};
    for (int i = 0; i < m.n_tensors; i++) {
        text_print(&map, "%s\"transformer.%s\":\"%s\"", i ? "," : "", m.tensors[i].name,
                   names[i >= half]);
        total += 4 * (int)m.tensors[i].size;
    }
    gpt2_free(&m);
    char *good =
        text_format("{\"metadata\":{\"total_size\":%d},\"weight_map\":{%s}}", total, map.data);
    write_file(index, good, strlen(good));
    model_load(&m, dir);
    CHECK(is_model(&m, 1), "two shards: wrong weights");
    gpt2_free(&m);

    const struct {
        const char *format, *message;
        int code;
    } odd[] = {
        {"{\"metadata\":{\"total_size\":5},\"weight_map\":{%s}}", "total_size is 5", 0},
        {"{\"weight_map\":{%s,\"x\":\"../x.safetensors\"}}",
         "index value \"../x.safetensors\" is not a plain file name", 3},
        {"{\"weight_map\":{%s,\"x\":\"/etc/passwd\"}}", "is not a plain file name", 3},
        {"{\"weight_map\":{%s,\"x\":\"..\"}}", "is not a plain file name", 3},
        {"{\"weight_map\":{%s,\"x\":3}}", "is not a plain file name", 3},
        {"{\"weight_map\":{%s,\"x\":\"model-00003.safetensors\"}}",
         "index names \"model-00003.safetensors\", not found", 3},
        {"{\"weight_map\":{%s,\"x\":\"model-00001-of-00002.safetensors\"}}",
         "tensor \"x\" is not in \"model-00001-of-00002.safetensors\"", 3},
        {"{\"map\":{%s}}", "no \"weight_map\"", 3},
    };
    for (int i = 0; i < COUNT(odd); i++) {
        Text text = {0};
        const char *hole = strstr(odd[i].format, "%s");
        text_append(&text, odd[i].format, (size_t)(hole - odd[i].format));
        text_append(&text, map.data, map.size);
        text_print(&text, "%s", hole + 2);
        write_file(index, text.data, text.size);
        CHECK_DIES(odd[i].code, odd[i].message, load_and_free(dir));
        text_free(&text);
    }
    write_file(index, good, strlen(good));
    save_form(dir, names[1], (Form){.begin = half - 1, .prefix = "transformer."}); // one in both
    CHECK_DIES(EXIT_BAD_INPUT, "00001-of-00002.safetensors, too", load_and_free(dir));
    save_form(dir, "model.safetensors", (Form){0}); // the single file is preferred
    model_load(&m, dir);
    CHECK(is_model(&m, 1), "single file beside an index");
    gpt2_free(&m);
    text_free(&map);
    free(good), free(index), free(dir);
}

static void test_config(void) {
    char *path = in_root("config.json");
    static const struct {
        const char *json, *message;
        int code;
    } odd[] = {
        {"{", "config.json:1:1: JSON error", 3},
        {"[]", "expected a JSON object", 3},
        {"{\"model_type\":\"llama\"}", "model_type \"llama\", only \"gpt2\" is supported", 3},
        {"{\"n_head\":\"12\"}", "n_head: \"12\" is a string, expected an integer", 3},
        {"{\"n_head\":true}", "n_head: true is a boolean, expected an integer", 3},
        {"{\"n_head\":null}", "n_head: null, expected an integer", 3},
        {"{\"n_head\":1.5}", "n_head: 1.5, expected an integer", 3},
        {"{\"n_head\":7}", "n_embd 768 not divisible by n_head 7", 3},
        {"{\"n_layer\":0}", "n_layer 0 is out of range (from 1 to 1000)", 3},
        {"{\"n_embd\":-768}", "n_embd -768 is out of range", 3},
        {"{\"vocab_size\":1e300}", "vocab_size: 1e+300, expected an integer", 3},
        {"{\"n_ctx\":512}", "n_ctx 512 differs from n_positions 1024", 3},
        {"{\"activation_function\":\"gelu\"}",
         "activation_function \"gelu\" is not supported (gelu_new only)", 3},
        {"{\"scale_attn_by_inverse_layer_idx\":true}",
         "scale_attn_by_inverse_layer_idx true is not", 3},
        {"{\"add_cross_attention\":true}", "add_cross_attention true is not supported", 3},
        {"{\"scale_attn_weights\":false}", "scale_attn_weights false is not supported", 3},
        {"{\"tie_word_embeddings\":false}", "tie_word_embeddings false is not supported", 3},
        {"{\"tie_word_embeddings\":0}", "tie_word_embeddings: 0, expected true or false", 3},
        {"{\"quantization_config\":{}}", "quantized weights", 3},
        {"{\"layer_norm_epsilon\":0}", "layer_norm_epsilon 0 is out of range", 3},
        {"{\"layer_norm_epsilon\":\"x\"}",
         "layer_norm_epsilon: \"x\" is a string, expected a number", 3},
        {"{\"pad_token_id\":50257}", "pad_token_id 50257 >= vocab_size 50257", 3},
        {"{\"eos_token_id\":-3}", "eos_token_id: -3, expected a token id", 3},
        {"{\"eos_token_id\":[\"1\"]}", "eos_token_id: \"1\" is a string, expected an integer", 3},
        {"{\"bos_token_id\":[1]}", "bos_token_id: [1], expected an integer or null", 3},
        {"{\"vocab_size\":100,\"eos_token_id\":50256}", "transformers' default and outside", 0},
        {"{\"n_embd\":64,\"hidden_size\":32}", "n_embd and hidden_size differ", 3},
        {"{\"architectures\":[\"GPT2ForSequenceClassification\"],\"pad_token_id\":0}", "2 labels",
         3},
        {"{\"architectures\":[\"GPT2ForSequenceClassification\"],\"num_labels\":1}",
         "reward model needs pad_token_id", 3},
        {"{\"n_layer\":2,\"n_layer\":3}", "duplicate key \"n_layer\"", 3},
    };
    for (int i = 0; i < COUNT(odd); i++) {
        write_file(path, odd[i].json, strlen(odd[i].json));
        CHECK_DIES(odd[i].code, odd[i].message, config_read(path));
    }
    const char *empty = "{}";
    write_file(path, empty, strlen(empty));
    GPT2Config c = config_read(path);
    CHECK(c.vocab_size == 50257 && c.n_positions == 1024 && c.n_embd == 768 && c.n_layer == 12 &&
              c.n_head == 12 && c.n_inner == 3072 && c.layer_norm_epsilon == 1e-5f &&
              c.initializer_range == 0.02f && c.bos_token_id == 50256 && c.eos_token_id == 50256 &&
              c.pad_token_id == -1 && !c.score_head,
          "defaults");
    const char *given =
        "{\"hidden_size\":32,\"num_hidden_layers\":3,\"num_attention_heads\":4,"
        "\"max_position_embeddings\":64,\"n_ctx\":64,\"vocab_size\":100,"
        "\"resid_pdrop\":0.0,\"x\":{\"b\":[1,2.50,-0,\"3\"],\"a\":1E2},\"n_inner\":7,"
        "\"pad_token_id\":0,\"architectures\":[\"GPT2ForSequenceClassification\"],"
        "\"id2label\":{\"0\":\"good\"},\"layer_norm_epsilon\":0.001}";
    write_file(path, given, strlen(given));
    c = config_read(path);
    CHECK(c.n_embd == 32 && c.n_layer == 3 && c.n_head == 4 && c.n_positions == 64 &&
              c.n_inner == 7 && c.eos_token_id == -1 && c.pad_token_id == 0 && c.score_head,
          "aliases");
    cJSON *pattern = config_pattern(path);
    Text out = {0};
    config_write(&out, &c, pattern);
    CHECK(strstr(out.data, "  \"resid_pdrop\": 0.0,\n") && strstr(out.data, "\"a\": 1E2,") &&
              strstr(out.data, "      2.50,\n      -0,\n      \"3\"\n") &&
              strstr(out.data, "\"layer_norm_epsilon\": 0.001,") &&
              strstr(out.data, "\"eos_token_id\": null,") && strstr(out.data, "\"n_ctx\": 64,") &&
              strstr(out.data, "\"n_inner\": 7,") && strstr(out.data, "\"hidden_size\": 32,") &&
              !strstr(out.data, "n_embd"),
          "kept: %s", out.data);
    write_file(path, out.data, out.size);
    GPT2Config again = config_read(path);
    CHECK(same_config(&c, &again), "config.json read back differs");
    cJSON_Delete(pattern);
    text_free(&out);
    config_write(&out, &c, NULL);
    CHECK(!strstr(out.data, "pdrop"), "dropout was not asked for: %s", out.data);
    text_free(&out);
    free(path);
}

// ------------------------------------------------------------------------------------------------
// Runs. A "program" that trains nothing: its model, moments and values are functions of the step.

typedef struct {
    int64_t step;
    uint64_t word;
    double loss, seed;
} Values;

static Values make_values(int64_t step) {
    return (Values){step, UINT64_MAX - (uint64_t)step, step / 3.0, 1.5};
}

#define FIELDS(v)                                                                                  \
    {                                                                                              \
        STATE_I64("step", &(v).step), STATE_U64("word", &(v).word), STATE_F64("loss", &(v).loss),  \
            MATCH_F64("seed", &(v).seed, "--seed")                                                 \
    }

// Save checkpoint-<step>; as in real life the log has grown before.
static void save_step(Output *out, int step) {
    GPT2 m;
    make_model(&m, step, false, true);
    Values v = make_values(step);
    StateField fields[] = FIELDS(v);
    FILE *log = fopen(out->metrics_path, "ab");
    for (int i = 0; log && i < 10; i++) fputc('0' + step % 10, log);
    if (log) fclose(log);
    checkpoint_save(out, &m, NULL, step, fields, COUNT(fields));
    gpt2_free(&m);
}

// Resume out->resume_dir and check every part of it; returns its step, or -1 after a complaint.
static int resume_step(Output *out) {
    GPT2 m;
    Values v = {.seed = 1.5};
    StateField fields[] = FIELDS(v);
    model_load(&m, out->resume_dir);
    gpt2_train_begin(&m, false);
    checkpoint_resume(out, &m, fields, COUNT(fields));
    Values want = make_values(v.step);
    bool good = is_model(&m, (int)v.step) && v.word == want.word && v.loss == want.loss;
    gpt2_free(&m);
    return good ? (int)v.step : -1;
}

// An output directory with the given checkpoints, made anew. Limit 0 keeps all.
static char *run_dir(const char *name, int first, int last, int limit) {
    char *dir = in_root(name);
    Output out;
    disk_remove(dir);
    output_open(&out, dir, NULL, false, false);
    output_start(&out, "{}\n", NULL);
    out.save_total_limit = limit;
    for (int step = first; step <= last; step++) save_step(&out, step);
    output_close(&out);
    return dir;
}

// Number of names in `dir` that begin with a dot (temporary ones).
static int count_hidden(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] == '.' && strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    if (d) closedir(d);
    return n;
}

// Start in `dir` from the newest checkpoint as a fresh process would; its step, or what went wrong
// as a negative number.
static int restart(const char *dir) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        Output out;
        faults.at = 0;
        if (!freopen("/dev/null", "w", stderr)) _exit(101);
        output_open(&out, dir, "latest", false, false);
        int step = resume_step(&out);
        output_start(&out, "{}\n", NULL);
        if (count_hidden(dir)) _exit(102);
        _exit(step < 0 ? 103 : step);
    }
    int status = test_wait(child);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 104;
    return code > 99 ? -code : code;
}

static void open_output(const char *dir, const char *resume, bool overwrite) {
    Output out;
    output_open(&out, dir, resume, overwrite, false);
    output_close(&out);
}

static void resume_with(const char *dir, double seed, int threads) {
    Output out;
    GPT2 m;
    Values v = {.seed = seed};
    StateField fields[] = FIELDS(v);
    omp_set_num_threads(threads);
    output_open(&out, dir, "latest", false, false);
    model_load(&m, out.resume_dir);
    gpt2_train_begin(&m, false);
    checkpoint_resume(&out, &m, fields, COUNT(fields));
}

// Change one byte of a file.
static void damage(const char *dir, const char *name, long at) {
    char *path = path_join(dir, name);
    FILE *file = fopen(path, "r+b");
    if (!file || fseek(file, at, SEEK_SET)) die(EXIT_IO, "%s: damage", path);
    int c = fgetc(file);
    fseek(file, at, SEEK_SET);
    fputc(c ^ 1, file);
    fclose(file);
    free(path);
}

static void test_state_values(void) {
    const uint64_t bits[] = {0, 0x8000000000000000u, 0x7FF0000000000000u, 0xFFF0000000000000u,
                             1, 0x3FD5555555555555u, 0x7FEFFFFFFFFFFFFFu, 0x0010000000000001u};
    int bad = 0;
    for (int i = 0; i < 10000; i++) {
        Rng r = rng_make(5, (uint64_t)i);
        uint64_t word = i < COUNT(bits) ? bits[i] : rng_next(&r);
        int64_t whole = i == 0 ? INT64_MIN : (int64_t)word, back_whole;
        uint64_t back_word;
        double x, back;
        memcpy(&x, &word, 8);
        char s[40];
        StateField f = STATE_F64("x", &x), g = STATE_F64("x", &back);
        bad +=
            !state_scan(&g, state_print(s, &f)) || (isnan(x) ? !isnan(back) : memcmp(&x, &back, 8));
        StateField h = STATE_U64("x", &word), k = STATE_U64("x", &back_word);
        bad += !state_scan(&k, state_print(s, &h)) || word != back_word;
        StateField m = STATE_I64("x", &whole), n = STATE_I64("x", &back_whole);
        bad += !state_scan(&n, state_print(s, &m)) || whole != back_whole;
    }
    CHECK(bad == 0, "%d values do not come back from their letters", bad);
    int64_t v;
    StateField f = STATE_I64("x", &v);
    CHECK(!state_scan(&f, "") && !state_scan(&f, "1x") && !state_scan(&f, "99999999999999999999"),
          "bad letters are taken");
}

static void test_checkpoints(void) {
    char *dir = run_dir("run", 8, 12, 3);
    CHECK(!exists(dir, "checkpoint-9") && exists(dir, "checkpoint-10") &&
              exists(dir, "checkpoint-12"),
          "save_total_limit 3");
    CHECK(restart(dir) == 12, "the newest: %d", restart(dir));

    // The log is to be cut where the checkpoint saw its end; five saves wrote ten bytes each.
    Output out;
    char *ten = path_join(dir, "checkpoint-10");
    output_open(&out, dir, ten, false, false);
    int resumed = resume_step(&out);
    output_start(&out, "{}\n", NULL);
    CHECK(resumed == 10 && out.metrics_bytes == 30, "resume a named directory: %d bytes",
          (int)out.metrics_bytes);
    save_step(&out, 12); // a name that exists is replaced
    CHECK(count_hidden(dir) == 0, "replaced checkpoint left something");
    output_close(&out);
    faults.no_swap = true; // also where the system cannot exchange two names
    output_open(&out, dir, ten, false, false);
    output_start(&out, "{}\n", NULL);
    save_step(&out, 12);
    output_close(&out);
    faults.no_swap = false;
    CHECK(count_hidden(dir) == 0 && restart(dir) == 12, "replaced without exchange");

    // What must not be resumed, and what is said.
    CHECK_DIES(EXIT_BAD_INPUT, "cannot resume: seed was 1.5, is now 2; see --seed",
               resume_with(dir, 2, omp_get_max_threads()));
    CHECK_DIES(0, "it will not continue bit for bit",
               resume_with(dir, 1.5, omp_get_max_threads() + 1));
    damage(dir, "checkpoint-12/model.safetensors", 2000);
    CHECK_DIES(0, "checkpoint-12 skipped: model.safetensors checksum differs",
               open_output(dir, "latest", false));
    CHECK(restart(dir) == 11, "a damaged checkpoint is skipped");
    damage(dir, "checkpoint-11/trainer/manifest.json", 0);
    CHECK_DIES(0, "checkpoint-11 skipped: trainer/manifest.json is damaged",
               open_output(dir, "latest", false));
    char *state = path_join(dir, "checkpoint-10/trainer/state.json");
    if (truncate(state, 10)) die(EXIT_IO, "truncate");
    CHECK_DIES(EXIT_BAD_INPUT, "trainer/state.json has 10 bytes, expected",
               open_output(dir, ten, false));
    CHECK_DIES(EXIT_BAD_INPUT, "no usable checkpoint (3 found)", open_output(dir, "latest", false));
    unlink(state);
    CHECK_DIES(EXIT_BAD_INPUT, "state.json: No such file", open_output(dir, ten, false));
    char *config = path_join(dir, "checkpoint-12");
    damage(dir, "checkpoint-12/model.safetensors", 2000); // repaired
    CHECK(restart(dir) == 12, "repaired");
    disk_remove(strcat(strcpy(state, config), "/trainer"));
    CHECK_DIES(EXIT_BAD_INPUT, "cannot resume: no trainer/manifest.json",
               open_output(dir, config, false));
    CHECK_DIES(EXIT_BAD_INPUT, "no such directory", open_output(dir, "nowhere", false));
    free(config), free(state), free(ten), free(dir);
}

// A critic is saved with the model: one of its own, or a scalar head on the model, which is then
// saved as the language model that it is, without the head.
static void test_critic(void) {
    char *dir = in_root("critic");
    Values v = make_values(7);
    StateField fields[] = FIELDS(v);
    for (int shared = 0; shared < 2; shared++) {
        GPT2 m, critic, trunk;
        Output out;
        disk_remove(dir);
        make_model(&m, 7, shared, true), make_model(&critic, 7, true, true);
        for (size_t i = 0; i < critic.n_floats; i++) critic.params[i] += 1, critic.adam_v[i] *= 2;
        output_open(&out, dir, NULL, false, false);
        output_start(&out, "{}\n", NULL);
        out.critic = shared ? &m : &critic;
        checkpoint_save(&out, &m, NULL, 7, fields, COUNT(fields));
        output_close(&out);

        // what a loader of models finds
        output_open(&out, dir, "latest", false, false);
        model_load(&trunk, out.resume_dir);
        bool same = !trunk.config.score_head && trunk.n_tensors == m.n_tensors - shared;
        for (int i = 0, k = 0; same && i < trunk.n_tensors; i++, k++) {
            const Tensor *a = &trunk.tensors[i];
            k += !tensor_in(&m.tensors[k], TENSORS_TRUNK);
            const float *b = m.params + m.tensors[k].offset;
            same = !strcmp(a->name, m.tensors[k].name) &&
                   !memcmp(trunk.params + a->offset, b, a->size * sizeof(float));
        }
        CHECK(same, "shared %d: the checkpoint is not the language model", shared);

        // what resuming brings back; of a shared critic the trunk is the loader's business
        GPT2 n, other;
        make_model(&n, 8, shared, true), make_model(&other, 8, true, true);
        n.adam_step = other.adam_step = 0;
        out.critic = shared ? &n : &other;
        checkpoint_resume(&out, &n, fields, COUNT(fields));
        const size_t bytes = n.n_floats * sizeof(float);
        CHECK(n.adam_step == 7 && !memcmp(n.adam_m, m.adam_m, bytes), "shared %d: moments", shared);
        if (shared) {
            CHECK(!memcmp(n.w.score, m.w.score, (size_t)n.config.n_embd * sizeof(float)),
                  "shared: the head");
            CHECK(n.w.wte[0] != m.w.wte[0], "shared: the trunk was read as well");
        } else {
            same = other.adam_step == 7;
            for (int i = 0; i < other.n_tensors; i++) { // not what lies between the tensors
                const size_t at = other.tensors[i].offset, size = other.tensors[i].size * 4;
                same = same && !memcmp(other.params + at, critic.params + at, size) &&
                       !memcmp(other.adam_m + at, critic.adam_m + at, size) &&
                       !memcmp(other.adam_v + at, critic.adam_v + at, size);
            }
            CHECK(same, "a critic of its own");
        }
        output_start(&out, "{}\n", NULL);
        output_finish(&out, &n, NULL);
        char *final = path_join(dir, "final");
        gpt2_free(&trunk);
        model_load(&trunk, final);
        CHECK(!trunk.config.score_head, "shared %d: final has a head", shared);
        free(final);
        gpt2_free(&m), gpt2_free(&critic), gpt2_free(&trunk), gpt2_free(&n), gpt2_free(&other);
    }
    free(dir);
}

static void test_output(void) {
    char *dir = run_dir("run", 1, 1, 0), *file = path_join(dir, "run.json");
    char *keep = path_join(dir, "notes.txt"), *one = path_join(dir, "checkpoint-1"), *up;
    write_file(keep, "mine", 4);
    CHECK_DIES(EXIT_USAGE, "--overwrite_output_dir", open_output(dir, NULL, false));
    CHECK_DIES(EXIT_USAGE, "already has", open_output(dir, "", false));
    CHECK_DIES(EXIT_USAGE, "would delete", open_output(dir, "latest", true));
    CHECK_DIES(EXIT_IO, "run.json: is a file, expected a directory",
               open_output(file, NULL, false));
    // Opening alone changes nothing; starting removes what a run made and nothing else.
    open_output(dir, NULL, true);
    CHECK(exists(dir, "checkpoint-1") && exists(dir, "metrics.jsonl"), "opening has deleted");
    Output out;
    output_open(&out, dir, NULL, true, false);
    output_start(&out, "{\"a\": 1}\n", NULL);
    CHECK(!exists(dir, "checkpoint-1") && !exists(dir, "metrics.jsonl") && exists(dir, "notes.txt"),
          "overwriting");
    // A second run is kept out as long as this one lives.
    CHECK_DIES(EXIT_IO, "another run is writing here", open_output(dir, NULL, true));
    output_close(&out);
    open_output(dir, NULL, true);
    // A checkpoint elsewhere does not excuse results here.
    char *other = run_dir("other", 1, 1, 0), *from = path_join(other, "checkpoint-1");
    CHECK_DIES(EXIT_USAGE, "already has", open_output(dir, from, false));
    output_open(&out, up = in_root("deep/er/new/"), from, false, false);
    int resumed = resume_step(&out);
    output_start(&out, "{}", NULL);
    CHECK(resumed == 1 && out.metrics_bytes == 0, "resume into another directory");
    output_close(&out);
    char *log = path_join(up, "metrics.jsonl"); // its log goes with the rest when overwritten
    write_file(log, "0123456789012345", 16);
    output_open(&out, up, from, true, false);
    resumed = resume_step(&out);
    output_start(&out, "{}", NULL);
    CHECK(resumed == 1 && out.metrics_bytes == 0 && !exists(up, "metrics.jsonl"),
          "overwrite another directory, resuming from elsewhere");
    output_close(&out);
    free(log);
    // Stale names of dead runs go, other hidden files stay.
    const char *stale[] = {".tmp-checkpoint-5-99", ".trash-checkpoint-4-1", ".tmp-run.json-1"};
    for (int i = 0; i < 3; i++) {
        char *name = text_format("other/%s", stale[i]);
        free(run_dir(name, 1, 1, 0));
        free(name);
    }
    free(run_dir("other/.hidden", 1, 1, 0));
    CHECK(restart(other) == -102 && count_hidden(other) == 1, "stale names: %d",
          count_hidden(other));
    free(up), free(from), free(other), free(file), free(keep), free(one), free(dir);

    // No right to write: as another user, since root may do anything.
    char *shut = in_root("shut");
    if (mkdir(shut, 0555)) die(EXIT_IO, "mkdir");
    if (geteuid() == 0 && !chmod(root, 0755)) {
        CHECK_DIES(EXIT_IO, "cannot write in", if (setuid(65534)) _exit(1);
                   open_output(shut, NULL, false));
        CHECK_DIES(EXIT_IO, "shut/new: cannot write in", if (setuid(65534)) _exit(1);
                   open_output(in_root("shut/new"), NULL, false));
    } else if (geteuid()) CHECK_DIES(EXIT_IO, "cannot write in", open_output(shut, NULL, false));
    rmdir(shut);
    free(shut);
}

// The default run of a program: what was there before stays until the new one is complete.
static void replace_run(const char *dir, int seed) {
    Output out;
    GPT2 m;
    make_model(&m, seed, false, true);
    output_open(&out, dir, NULL, false, true);
    output_start(&out, "{}", NULL);
    output_finish(&out, &m, NULL);
    gpt2_free(&m);
}

// Which run's model lies in OUT/final, or -1.
static int final_seed(const char *dir) {
    GPT2 m;
    char *path = path_join(dir, "final");
    if (!path_is_dir(path)) return free(path), -1;
    model_load(&m, path);
    int seed = is_model(&m, 1) ? 1 : is_model(&m, 2) ? 2 : -1;
    gpt2_free(&m);
    free(path);
    return seed;
}

static void test_replace(void) {
    char *dir = in_root("out/sft"), *parent = in_root("out"), *extra = path_join(dir, "old");
    replace_run(dir, 1);
    CHECK(final_seed(dir) == 1 && count_hidden(parent) == 0, "first default run");
    write_file(extra, "x", 1);
    Output out;
    output_open(&out, dir, NULL, false, true);
    output_start(&out, "{}", NULL);
    CHECK(exists(dir, "old") && strcmp(out.dir, dir), "the old run is still there");
    CHECK_DIES(EXIT_IO, "another run is writing here", replace_run(dir, 2));
    output_close(&out); // as if it had died
    replace_run(dir, 2);
    CHECK(final_seed(dir) == 2 && !exists(dir, "old") && count_hidden(parent) == 0, "replaced");
    char *json = path_join(dir, "run.json");
    unlink(json);
    CHECK_DIES(EXIT_USAGE, "not made by a run", replace_run(dir, 1));
    free(json);
    free(dir), free(parent), free(extra);
}

// A whole run of two updates: checkpoint-1, metrics.jsonl, final/ of this seed.
static void overwrite_run(const char *dir, int seed) {
    Output out;
    GPT2 m;
    if (!freopen("/dev/null", "w", stdout)) _exit(101);
    output_open(&out, dir, NULL, true, false);
    output_start(&out, seed == 1 ? "{\"seed\": 1}\n" : "{\"seed\": 2}\n", NULL);
    save_step(&out, seed);
    make_model(&m, seed, false, true);
    output_finish(&out, &m, NULL);
    gpt2_free(&m);
}

// The same in a process that may end before its end; true if it came there.
static bool overwrite_forked(const char *dir, int seed) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        overwrite_run(dir, seed);
        _exit(0);
    }
    return test_wait(child) == 0;
}

// True if all that overwrite_run(.., 1) leaves is in dir, with its content.
static bool is_first_run(const char *dir) {
    if (final_seed(dir) != 1 || !exists(dir, "checkpoint-1") || !exists(dir, "run.json"))
        return false;
    char *one = path_join(dir, "checkpoint-1"), *json = path_join(dir, "run.json");
    char *reason = checkpoint_verify(one), *text = file_read(json, NULL);
    const bool whole = !reason && exists(dir, "metrics.jsonl") && strstr(text, "1");
    free(one), free(json), free(reason), free(text);
    return whole;
}

// --overwrite_output_dir: what was there is in previous_run, whole, until the new run has ended well.
static void test_overwrite(void) {
    char *dir = in_root("overwritten"), *previous = path_join(dir, "previous_run");
    char *again = path_join(previous, "previous_run"), *mine = path_join(dir, "notes.txt");
    Output out;
    CHECK(overwrite_forked(dir, 1) && is_first_run(dir), "a run");
    write_file(mine, "mine", 4);
    output_open(&out, dir, NULL, true, false);
    CHECK(is_first_run(dir), "opening changes nothing");
    output_start(&out, "{}\n", NULL);
    CHECK(is_first_run(previous) && !exists(dir, "final") && !exists(dir, "checkpoint-1"),
          "it has stepped aside");
    output_close(&out); // as if it had died
    CHECK_DIES(EXIT_BAD_INPUT, "what was there before is in", open_output(dir, "latest", false));
    CHECK_DIES(EXIT_USAGE, "already has", open_output(dir, NULL, false));
    output_open(&out, dir, NULL, true, false); // the one that died steps aside, too
    output_start(&out, "{}\n", NULL);
    CHECK(is_first_run(again) && exists(previous, "run.json"), "both are there");
    save_step(&out, 2);
    output_close(&out);
    CHECK(restart(dir) == 2 && is_first_run(again), "going on");
    CHECK(overwrite_forked(dir, 2) && final_seed(dir) == 2 && !exists(dir, "previous_run") &&
              exists(dir, "notes.txt"),
          "at the end what was overwritten goes, and nothing else");

    // Killed between stepping aside and its first file: nothing had begun, so all goes back.
    disk_remove(dir);
    CHECK(overwrite_forked(dir, 1), "a run");
    output_open(&out, dir, NULL, true, false);
    output_step_aside(&out);
    output_close(&out);
    CHECK_DIES(EXIT_BAD_INPUT, "no usable checkpoint", open_output(dir, "latest", false));
    CHECK(is_first_run(previous), "that run is not gone on with");
    CHECK_DIES(EXIT_USAGE, "already has", open_output(dir, NULL, false));
    CHECK(is_first_run(dir) && !exists(dir, "previous_run"), "it is back");

    // A directory of the user's by this name.
    if (mkdir(previous, 0777)) die(EXIT_IO, "mkdir");
    char *theirs = path_join(previous, "letters.txt");
    write_file(theirs, "mine", 4);
    CHECK_DIES(EXIT_USAGE, "has letters.txt: not made by a run", open_output(dir, NULL, true));
    CHECK(is_first_run(dir) && exists(previous, "letters.txt"), "nothing was moved");
    free(dir), free(previous), free(again), free(mine), free(theirs);
}

// ------------------------------------------------------------------------------------------------
// What flags name

static const char *guarded_name; // the value of the flag --model in guarded()

// True if --model guarded_name, or --config, would be refused where `dir` is overwritten.
static bool guarded(const char *dir, const char *value, const char *config) {
    guarded_name = value;
    Flag flags[] = {FLAG_HEADING("model"),
                    {.name = "model", .type = FLAG_STRING, .value = &guarded_name}};
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        Output out;
        if (!freopen("/dev/null", "w", stderr)) _exit(101);
        output_open(&out, dir, NULL, true, false);
        out.flags = flags, out.n_flags = COUNT(flags);
        output_guard(&out, config);
        _exit(0);
    }
    const int status = test_wait(child);
    CHECK(status == 0 || (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_USAGE), "%s: status %d",
          value ? value : "none", status);
    return status != 0;
}

static void test_guard(void) {
    char *dir = in_root("guard/run"), *links = in_root("guard/links"),
         *data = in_root("guard/data");
    CHECK(overwrite_forked(dir, 1), "a run");
    if (mkdir(links, 0777) || mkdir(data, 0777)) die(EXIT_IO, "mkdir");
    char *file = path_join(data, "a.jsonl"), *inner = path_join(dir, "iteration-0");
    write_file(file, "{}\n", 3);
    if (mkdir(inner, 0777)) die(EXIT_IO, "mkdir");
    char *rows = path_join(inner, "b.jsonl"), *notes = path_join(dir, "c.jsonl");
    write_file(rows, "{}\n", 3);
    write_file(notes, "{}\n", 3);
    // links: to the model, to a file of it, to a link; a hard link; a link in the run that leads out
    char *weights = path_join(dir, "final/model.safetensors"), *way[6];
    static const char *const names[] = {"model", "weights", "again", "hard", "out", "root"};
    for (int i = 0; i < COUNT(way); i++) way[i] = path_join(links, names[i]);
    char *model = path_join(dir, "final"), *leads = path_join(dir, "final/leads_out");
    if (symlink("../run/final", way[0]) || symlink(weights, way[1]) || symlink("model", way[2]) ||
        link(weights, way[3]) || symlink(data, leads) || symlink(leads, way[4]) ||
        symlink("..", way[5]))
        die(EXIT_IO, "link: %s", strerror(errno));
    const struct {
        const char *path; // relative to root/guard
        bool refused;
    } cases[] = {
        {"run/final", true},
        {"run/final/", true},
        {"run/final/model.safetensors", true},
        {"run/./checkpoint-1", true},
        {"data/../run/final", true},
        {"links/../run/final/../final", true},
        {"run/final/../../data/a.jsonl", true}, // the way would be gone
        {"run/metrics.jsonl", true},
        {"run/iteration-0/b.jsonl", true},
        {"run/iteration-0/*.jsonl", true},
        {"run/*/?.jsonl", true},
        {"links/model", true},
        {"links/model/config.json", true},
        {"links/weights", true},
        {"links/again", true},
        {"links/hard", true},
        {"links/out/a.jsonl", true},
        {"links/root/run/final", true},
        {"run/final/leads_out/a.jsonl", true},
        {"run/c.jsonl", false}, // no file of a run's, so it stays
        {"run", false},
        {".", false},
        {"data", false},
        {"data/*.jsonl", false},
        {"links/root/data/a.jsonl", false},
        {"run/fin", false}, // not there
        {"run/final2/x", false},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        char *path = text_format("%s/guard/%s", root, cases[i].path);
        CHECK(guarded(dir, path, NULL) == cases[i].refused, "--model %s", cases[i].path);
        CHECK(guarded(dir, NULL, path) == cases[i].refused, "--config %s", cases[i].path);
        char *list = text_format("%s,%s", file, path);
        CHECK(guarded(dir, list, NULL) == cases[i].refused, "--model FILE,%s", cases[i].path);
        char *command = text_format("python3 -u '%s' --fast=1", path);
        CHECK(guarded(dir, command, NULL) == cases[i].refused, "python3 %s", cases[i].path);
        free(path), free(list), free(command);
    }
    // relative paths, from inside too
    char *here = getcwd(NULL, 0);
    if (chdir(model)) die(EXIT_IO, "chdir");
    CHECK(guarded(dir, "config.json", NULL) && guarded(dir, ".", NULL), "from inside");
    if (chdir(data)) die(EXIT_IO, "chdir");
    CHECK(!guarded(dir, "a.jsonl", NULL) && guarded(dir, "../run/final", NULL), "from beside");
#ifdef __linux__
    if (!mkdir("bound", 0777) && !mount(dir, "bound", NULL, MS_BIND, NULL)) {
        CHECK(guarded(dir, "bound/final/config.json", NULL), "a bind mount of the run");
        CHECK(!guarded(dir, "bound/c.jsonl", NULL), "what stays there");
        umount("bound");
        CHECK(!mount(inner, "bound", NULL, MS_BIND, NULL), "mount");
        CHECK(guarded(dir, "bound/b.jsonl", NULL), "a bind mount of a part of it");
        umount("bound");
    } else test_skip("no right to mount");
#endif
    if (chdir(here)) die(EXIT_IO, "chdir");

    // A run that goes on replaces final/ and later checkpoints only.
    Output out = {0};
    Flag flags[] = {FLAG_HEADING("model"),
                    {.name = "model", .type = FLAG_STRING, .value = &guarded_name}};
    char *first = path_join(dir, "checkpoint-1");
    const struct {
        const char *path;
        int limit;
        bool refused;
    } going_on[] = {{"final", 0, true}, {"checkpoint-1", 0, false}, {"checkpoint-1", 1, false}};
    for (int i = 0; i < COUNT(going_on); i++) {
        guarded_name = path_join(dir, going_on[i].path);
        output_open(&out, dir, first, false, false);
        out.flags = flags, out.n_flags = COUNT(flags), out.save_total_limit = going_on[i].limit;
        if (going_on[i].refused)
            CHECK_DIES(EXIT_USAGE, "this run would replace", output_guard(&out, NULL));
        else output_guard(&out, NULL);
        output_close(&out);
        free((char *)guarded_name);
    }
    CHECK(is_first_run(dir), "all of it changes nothing");
    for (int i = 0; i < COUNT(way); i++) free(way[i]);
    free(dir), free(links), free(data), free(file), free(inner), free(rows), free(notes);
    free(weights), free(model), free(leads), free(here), free(first);
}

// ------------------------------------------------------------------------------------------------
// Faults at every call

// Every call; with sanitizers, which make a fork slow, every third.
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
enum { FAULT_STEP = 3 };
#else
enum { FAULT_STEP = 1 };
#endif

// The work whose calls fail: resume checkpoint-1, save checkpoint-2 in its place, finish.
static void fault_work(const char *dir) {
    Output out;
    GPT2 m;
    output_open(&out, dir, "latest", false, false);
    if (resume_step(&out) != 1) _exit(105);
    output_start(&out, "{}\n", NULL);
    out.save_total_limit = 1;
    save_step(&out, 2);
    make_model(&m, 2, false, true);
    output_finish(&out, &m, NULL);
    gpt2_free(&m);
}

// Fork `work` with call `at` failing; its exit code. *done: it made fewer calls than that.
static int fault_run(void (*work)(const char *), const char *dir, int at, int error, bool leave,
                     bool *done) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(101);
        faults.count = 0, faults.at = at, faults.error = error, faults.leave = leave;
        work(dir);
        _exit(faults.count < at ? 100 : 0);
    }
    int status = test_wait(child);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 104;
    *done = code == 100;
    return *done ? 0 : code;
}

static void replace_work(const char *dir) { replace_run(dir, 2); }
static void overwrite_work(const char *dir) { overwrite_run(dir, 2); }

static void test_faults(void) {
    static const struct {
        const char *name;
        int error;
        bool leave;
    } kinds[] = {
        {"EIO", EIO, false},          {"ENOSPC", ENOSPC, false}, {"EINTR", EINTR, false},
        {"short", DISK_SHORT, false}, {"exit", 0, true},
    };
    int calls = 0, survived = 0;
    for (int k = 0; k < COUNT(kinds); k++) {
        bool done = false;
        for (int at = 1; !done; at += FAULT_STEP, calls++) {
            char *dir = run_dir("faulty", 1, 1, 0);
            int code = fault_run(fault_work, dir, at, kinds[k].error, kinds[k].leave, &done);
            // A failing call is an error of I/O, or is dealt with; nothing else may happen.
            bool told = code == 0 || code == (kinds[k].leave ? 99 : EXIT_IO);
            // A read that fails while the checkpoints are looked over can only mean: skipped.
            told = told || (code == EXIT_BAD_INPUT && !kinds[k].leave);
            if (kinds[k].error == DISK_SHORT) told = code == 0;
            CHECK(told, "%s at call %d: exit %d", kinds[k].name, at, code);
            int step = restart(dir);
            CHECK(step == 2 || (step == 1 && code != 0), "%s at call %d (exit %d): resumed %d",
                  kinds[k].name, at, code, step);
            survived += step == 1;
            free(dir);
        }
    }
    printf("saving: %d faults, the older checkpoint was needed %d times\n", calls, survived);
    CHECK(survived > 50, "hardly any fault hit the save");

    calls = survived = 0;
    char *parent = in_root("out"), *dir = path_join(parent, "sft");
    for (int k = 0; k < 2 * COUNT(kinds); k++) {
        bool done = false;
        for (int at = 1; !done; at += FAULT_STEP, calls++) {
            disk_remove(parent);
            replace_run(dir, 1);
            faults.no_swap = k >= COUNT(kinds);
            int kind = k % COUNT(kinds);
            int code =
                fault_run(replace_work, dir, at, kinds[kind].error, kinds[kind].leave, &done);
            faults.no_swap = false;
            CHECK(code == 0 || code == 99 || code == EXIT_IO, "%s: exit %d", kinds[kind].name,
                  code);
            Output out; // the next start tidies up; the result is the old or the new one
            output_open(&out, dir, NULL, false, true);
            int seed = final_seed(dir);
            CHECK(seed == 2 || (seed == 1 && code != 0), "%s at call %d (exit %d): final is %d",
                  kinds[kind].name, at, code, seed);
            CHECK(count_hidden(parent) == 0 && count_hidden(dir) == 0, "%s at call %d: left over",
                  kinds[kind].name, at);
            survived += seed == 1;
            output_close(&out);
        }
    }
    printf("replacing: %d faults, the older result was kept %d times\n", calls, survived);

    // Overwriting: the older run is whole, in its place or aside, or the new one is.
    calls = survived = 0;
    char *previous = path_join(dir, "previous_run"), *first = in_root("first");
    CHECK(overwrite_forked(first, 1), "a run");
    for (int k = 0; k < COUNT(kinds); k += 4) { // EIO and the end of the process
        bool done = false;
        for (int at = 1; !done; at += FAULT_STEP, calls++) {
            disk_remove(parent);
            char *copy = text_format("mkdir -p %s && cp -r %s %s", parent, first, dir);
            if (system(copy)) die(EXIT_IO, "cannot copy");
            free(copy);
            int code = fault_run(overwrite_work, dir, at, kinds[k].error, kinds[k].leave, &done);
            CHECK(code == 0 || code == 99 || code == EXIT_IO, "%s: exit %d", kinds[k].name, code);
            Output out; // the next start tidies up
            output_open(&out, dir, NULL, true, false);
            const bool old = is_first_run(dir) || is_first_run(previous);
            CHECK(old || final_seed(dir) == 2, "%s at call %d (exit %d): neither run is whole",
                  kinds[k].name, at, code);
            CHECK(code != 0 || final_seed(dir) == 2, "%s at call %d: no new run", kinds[k].name,
                  at);
            CHECK(count_hidden(dir) == 0, "%s at call %d: left over", kinds[k].name, at);
            survived += old;
            output_close(&out);
        }
    }
    printf("overwriting: %d faults, the older run was kept %d times\n", calls, survived);
    free(parent), free(dir), free(previous), free(first);
}

// A process that saves in a loop is killed at a random moment, 50 times in one directory.
static void test_kills(void) {
    char *dir = run_dir("killed", 1, 1, 0);
    int at = 1, saves = 0, in_save = 0, bad = 0;
    Rng r = rng_make((uint64_t)getpid(), 1); // other moments in every run
    for (int i = 0; i < 50 && !bad; i++) {
        int ready[2];
        if (pipe(ready)) die(EXIT_IO, "pipe");
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            Output out;
            output_open(&out, dir, "latest", false, false);
            int step = resume_step(&out);
            output_start(&out, "{}\n", NULL);
            if (step < 0 || write(ready[1], "!", 1) != 1) _exit(1);
            out.save_total_limit = 2;
            for (;;) save_step(&out, ++step);
        }
        char byte;
        close(ready[1]);
        bad += read(ready[0], &byte, 1) != 1;
        close(ready[0]);
        struct timespec pause = {0, (long)rng_below(&r, 40000000)};
        nanosleep(&pause, NULL);
        kill(child, SIGKILL);
        test_wait(child);
        in_save += count_hidden(dir) > 0;
        // restart() gives steps up to 99 only; look at the directory for larger ones.
        Output out;
        output_open(&out, dir, "latest", false, false);
        int step = resume_step(&out);
        output_start(&out, "{}\n", NULL);
        bad += step < at || count_hidden(dir) > 0;
        saves += step - at;
        at = step;
        output_close(&out);
    }
    CHECK(bad == 0, "after a kill the newest checkpoint is step %d", at);
    printf("killed 50 times among %d saves, %d times in the middle of one\n", saves, in_save);
    free(dir);
}

// Mount a file system of 200 kB; nonzero where that is not possible or not allowed.
static int mount_small(const char *path) {
#ifdef __linux__
    return mount("none", path, "tmpfs", 0, "size=200k");
#else
    return (void)path, -1;
#endif
}

static void unmount_small(const char *path) {
#ifdef __linux__
    if (umount(path)) warn("%s: still mounted", path);
#else
    (void)path;
#endif
}

// A disk that is full: a file size limit, and a small file system where we may mount one.
static void test_full_disk(void) {
    char *dir = run_dir("full", 1, 1, 0);
    fflush(NULL);
    CHECK_DIES(EXIT_IO,
               "cannot write trainer/optimizer.safetensors: File too large; checkpoint-1 is kept, "
               "temporary files removed",
               struct rlimit limit = {6000, 6000};
               setrlimit(RLIMIT_FSIZE, &limit); Output out;
               output_open(&out, dir, "latest", false, false); output_start(&out, "{}\n", NULL);
               save_step(&out, 2));
    CHECK(count_hidden(dir) == 0 && restart(dir) == 1, "after a file size limit");
    free(dir);

    char *mount_point = in_root("tmpfs"), *in = path_join(mount_point, "run");
    if (mkdir(mount_point, 0777) || mount_small(mount_point)) {
        test_skip("no right to mount a small file system");
        free(mount_point), free(in);
        return;
    }
    free(run_dir("tmpfs/run", 1, 1, 0));
    // Enough for the estimate, not for the blocks: ENOSPC comes from write.
    char *ballast = path_join(mount_point, "ballast");
    struct statvfs fs;
    statvfs(mount_point, &fs);
    char *zeros = mem_alloc(1 << 20, 1);
    CHECK_DIES(EXIT_IO, "saving checkpoint-2 needs",
               write_file(ballast, zeros, (size_t)(fs.f_bavail * fs.f_bsize) - 8192);
               Output out; output_open(&out, in, "latest", false, false);
               output_start(&out, "{}\n", NULL); save_step(&out, 2));
    unlink(ballast);
    CHECK_DIES(EXIT_IO, "No space left on device; checkpoint-1 is kept",
               write_file(ballast, zeros, (size_t)(fs.f_bavail * fs.f_bsize) - 28672);
               Output out; output_open(&out, in, "latest", false, false);
               output_start(&out, "{}\n", NULL); save_step(&out, 2));
    CHECK(count_hidden(in) == 0 && restart(in) == 1, "after a full disk");
    unmount_small(mount_point);
    free(zeros), free(ballast), free(mount_point), free(in);
}

int main(void) {
    // Memory, where there is some: these tests sync thousands of files.
    const char *base = !access("/dev/shm", W_OK) ? "/dev/shm" : "/tmp";
    root = text_format("%s/align-test-XXXXXX", base);
    if (!mkdtemp(root)) die(EXIT_IO, "%s: %s", root, strerror(errno));
    test_safetensors_accepts();
    test_safetensors_refuses();
    test_safetensors_writes();
    test_safetensors_types();
    test_hash();
    test_golden("tiny_gpt2");
    test_golden("tiny_score");
    test_tokenizer_files();
    test_forms();
    test_shards();
    test_config();
    test_state_values();
    test_checkpoints();
    test_critic();
    test_output();
    test_replace();
    test_overwrite();
    test_guard();
    test_faults();
    test_kills();
    test_full_disk();
    disk_remove(root);
    free(root);
    return test_end("test_checkpoint");
}
