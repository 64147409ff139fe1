// test_directory.c: what goes into a run as a Hugging Face directory comes out of it; which token ends a
// text; a shared matrix under its other name; files that are something else than their names say.
#include "../lib/base/common.h"
#include "../lib/files/checkpoint.h"
#include "test.h"

static char root[] = "/tmp/test_directory_XXXXXX";

static char *in_root(const char *name) { return path_join(root, name); }

static void write_file(const char *dir, const char *name, const void *bytes, size_t n) {
    char *path = path_join(dir, name);
    disk_mkdir(dir);
    disk_file_save(path, bytes, n);
    free(path);
}

static void write_text(const char *dir, const char *name, const char *text) {
    write_file(dir, name, text, strlen(text));
}

static void remove_file(const char *dir, const char *name) {
    char *path = path_join(dir, name);
    disk_remove(path);
    free(path);
}

// ------------------------------------------------------------------------------------------------
// config.json and generation_config.json

static bool same_config(const GPT2Config *a, const GPT2Config *b) {
    return a->vocab_size == b->vocab_size && a->n_positions == b->n_positions &&
           a->n_embd == b->n_embd && a->n_layer == b->n_layer && a->n_head == b->n_head &&
           a->n_inner == b->n_inner && a->layer_norm_epsilon == b->layer_norm_epsilon &&
           a->initializer_range == b->initializer_range && a->bos_token_id == b->bos_token_id &&
           a->eos_token_id == b->eos_token_id && a->pad_token_id == b->pad_token_id &&
           a->score_head == b->score_head;
}

// A parsed config.json without the keys that say of what type the numbers are.
static cJSON *without_type(const char *text) {
    cJSON *json = json_parse(text, strlen(text), "written", 1);
    cJSON_DeleteItemFromObjectCaseSensitive(json, "dtype");
    cJSON_DeleteItemFromObjectCaseSensitive(json, "torch_dtype");
    return json;
}

// What config_write makes of a config.json; NULL in `generation`: there is no generation_config.json.
static void check_kept(const char *config, const char *generation) {
    char *dir = in_root("kept"), *path = path_join(dir, "config.json");
    write_text(dir, "config.json", config);
    if (generation) write_text(dir, "generation_config.json", generation);
    GPT2Config c = config_read(path);
    cJSON *pattern = config_pattern(path), *settings = generation_pattern(path);
    Text out = {0};
    config_write(&out, &c, pattern);
    cJSON *before = without_type(config), *after = without_type(out.data), *item;
    cJSON_ArrayForEach(item, before) {
        CHECK(cJSON_Compare(item, json_get(after, item->string), true), "%s became %s",
              item->string, out.data);
    }
    write_text(dir, "config.json", out.data);
    GPT2Config again = config_read(path);
    CHECK(same_config(&c, &again), "not the same config: %s", out.data);
    cJSON_Delete(before), cJSON_Delete(after);
    CHECK(!generation == !settings, "generation_config.json");
    if (generation) {
        out.size = 0;
        config_write_generation(&out, &c, settings);
        before = without_type(generation), after = without_type(out.data);
        const cJSON *eos = json_get(before, "eos_token_id");
        if (!eos || cJSON_IsNull(eos)) { // gets one if the model has one
            const cJSON *now = json_get(after, "eos_token_id");
            CHECK(c.eos_token_id < 0 ? !now || cJSON_IsNull(now) : now->valueint == c.eos_token_id,
                  "no EOS in %s", out.data);
            cJSON_DeleteItemFromObjectCaseSensitive(before, "eos_token_id");
            cJSON_DeleteItemFromObjectCaseSensitive(after, "eos_token_id");
        }
        CHECK(cJSON_Compare(before, after, true), "generation_config.json became %s", out.data);
        cJSON_Delete(before), cJSON_Delete(after);
        remove_file(dir, "generation_config.json");
    }
    cJSON_Delete(pattern), cJSON_Delete(settings);
    text_free(&out);
    free(dir), free(path);
}

static void test_kept(void) {
    check_kept("{}", NULL);
    check_kept(
        "{\"architectures\": [\"GPT2LMHeadModel\", \"Other\"], \"eos_token_id\": [7, 8], "
        "\"vocab_size\": 100, \"bos_token_id\": null, \"_name_or_path\": \"x\", \"n_ctx\": 64, "
        "\"n_positions\": 64, \"unknown\": {\"a\": [1, -0.0, 1E-7, null, true, \"\\u00e9\"]}}",
        "{\"eos_token_id\": [8, 7], \"temperature\": 0.35, \"do_sample\": true, \"top_k\": 7, "
        "\"repetition_penalty\": 1.10, \"suppress_tokens\": [], \"transformers_version\": "
        "\"4.1\"}");
    check_kept("{\"vocab_size\": 50300, \"summary_first_dropout\": 0.3, \"attn_pdrop\": 0, "
               "\"activation_function\": \"gelu_pytorch_tanh\", \"reorder_and_upcast_attn\": true, "
               "\"id2label\": {\"0\": \"A\", \"1\": \"B\"}, \"label2id\": {\"A\": 0, \"B\": 1}, "
               "\"task_specific_params\": {\"text-generation\": {\"do_sample\": true}}}",
               "{\"_from_model_config\": true}");
    check_kept("{\"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
               "\"max_position_embeddings\": 16, \"vocab_size\": 10, \"pad_token_id\": 3, "
               "\"architectures\": [\"GPT2ForSequenceClassification\"], \"num_labels\": 1, "
               "\"id2label\": {\"0\": \"good\"}, \"label2id\": {\"good\": 0}, \"problem_type\": "
               "\"regression\", \"n_inner\": 77, \"initializer_range\": 0.010}",
               "{\"eos_token_id\": null, \"max_new_tokens\": 3}");
    check_kept("{\"n_embd\": 16, \"hidden_size\": 16, \"n_head\": 2, \"vocab_size\": 5, "
               "\"eos_token_id\": 50256, \"bos_token_id\": 50256, \"layer_norm_epsilon\": 1e-06}",
               NULL);
    // What training changes is changed: a grown vocabulary, settled tokens, a head.
    char *dir = in_root("changed"), *path = path_join(dir, "config.json");
    write_text(
        dir, "config.json",
        "{\"vocab_size\": 10, \"eos_token_id\": [1, 2], \"pad_token_id\": 1, \"num_labels\": 3, "
        "\"architectures\": [\"GPT2LMHeadModel\"], \"dtype\": \"float16\"}");
    GPT2Config c = config_read(path);
    cJSON *pattern = config_pattern(path);
    c.vocab_size = 11, c.pad_token_id = 10, c.eos_token_id = 3, c.score_head = true;
    Text out = {0};
    config_write(&out, &c, pattern);
    write_text(dir, "config.json", out.data);
    GPT2Config again = config_read(path);
    CHECK(same_config(&c, &again) && !strstr(out.data, "num_labels") &&
              !strstr(out.data, "float16"),
          "changed: %s", out.data);
    cJSON_Delete(pattern);
    text_free(&out);
    free(dir), free(path);
}

// ------------------------------------------------------------------------------------------------
// The end of a text

static void test_eos(void) {
    static const struct {
        const char *config, *generation; // files; NULL: not there
        bool tokenizer;                  // a file of the tokenizer's names </s>
        const char *message;             // NULL: all is well
        int code, eos;                   // what is learnt; -1: the tokenizer's </s>
    } cases[] = {
        {"\"eos_token_id\": 700", NULL, true, NULL, 0, -1},
        {"\"eos_token_id\": [3, 700]", NULL, true, NULL, 0, -1},
        {"\"eos_token_id\": 3", "{\"eos_token_id\": [5, 700]}", true, NULL, 0, -1},
        {"\"eos_token_id\": 3", "{\"eos_token_id\": 700}", false, NULL, 0, -1},
        // generate() does not look into config.json where there is generation_config.json
        {"\"eos_token_id\": 700", "{\"eos_token_id\": 3}", true,
         "the tokenizer's EOS is \"</s>\" (700), but generate() would stop at 3 (\"", 3, 0},
        {"\"eos_token_id\": 3", NULL, true, "by eos_token_id of", 3, 0},
        {"\"eos_token_id\": [3, 4]", NULL, true, "/config.json, and not at what is learnt", 3, 0},
        {"\"eos_token_id\": 3", "{\"eos_token_id\": [4, 5]}", true, "generate() would stop at 4", 3,
         0},
        {"\"eos_token_id\": 704", NULL, true, "generate() would stop at 704, by", 3, 0},
        // nobody says where to stop: the saved model will
        {"\"eos_token_id\": null", NULL, true, "no token ends a text (eos_token_id)", 0, -1},
        {"\"bos_token_id\": 3", NULL, true, "no token ends a text (eos_token_id)", 0, -1},
        {"\"eos_token_id\": 700", "{\"temperature\": 0.5}", true,
         "generation_config.json: no token", 0, -1},
        // no name in the tokenizer's files: the model's
        {"\"eos_token_id\": 3", NULL, false, "names no eos_token: texts end with", 0, 3},
        {"\"eos_token_id\": 3", "{\"eos_token_id\": [4, 3]}", false, "(4), as generation_config", 0,
         4},
        {"\"eos_token_id\": 3", "{\"eos_token_id\": \"3\"}", true,
         "eos_token_id: \"3\" is a string", 3, 0},
    };
    if (!path_is_dir("test/golden/tiny_vocab")) {
        test_skip("run me from the project's directory: no test/golden");
        return;
    }
    char *dir = in_root("eos"), *path = path_join(dir, "config.json");
    for (int i = 0; i < COUNT(cases); i++) {
        Tokenizer t;
        tokenizer_load(&t, "test/golden/tiny_vocab");
        t.eos_id = tokenizer_add_special(&t, "</s>");
        CHECK(t.eos_id == 700, "id of </s>");
        char *config = text_format("{\"vocab_size\": 705, %s}", cases[i].config);
        write_text(dir, "config.json", config);
        free(config);
        if (cases[i].generation) write_text(dir, "generation_config.json", cases[i].generation);
        else remove_file(dir, "generation_config.json");
        t.eos_named = cases[i].tokenizer;
        GPT2Config c = config_read(path);
        const char *message = cases[i].message ? cases[i].message : "";
        if (cases[i].code || cases[i].message)
            CHECK_DIES(cases[i].code, message, eos_settle(&c, &t, dir, dir));
        if (!cases[i].code) {
            const int before = c.eos_token_id, want = cases[i].eos < 0 ? 700 : cases[i].eos;
            eos_settle(&c, &t, dir, dir);
            if (!cases[i].message)
                CHECK(c.eos_token_id == before, "case %d: the model's EOS became %d", i,
                      c.eos_token_id);
            CHECK(t.eos_id == want, "case %d: learnt is %d, want %d", i, t.eos_id, want);
        }
        tokenizer_free(&t);
    }
    free(dir), free(path);
}

// ------------------------------------------------------------------------------------------------
// lm_head.weight

// How a small model is stored: `from` and `to` are of its tensors, in the order of the file.
typedef struct {
    const char *prefix, *file;
    bool wte, head; // under which names the shared matrix is there
    int from, to;   // 0: all
    float add;      // to the first number of lm_head.weight
    int rows;       // of lm_head.weight less than of wte
} Form;

static void save_form(const char *dir, const GPT2 *m, Form f) {
    SafeEntry entries[64];
    const Tensor *wte = NULL;
    float *head = NULL;
    int n = 0;
    for (int i = 0; i < m->n_tensors; i++) {
        const Tensor *t = &m->tensors[i];
        const bool shared = !strcmp(t->name, "wte.weight");
        if (shared) wte = t;
        if (i < f.from || (f.to && i >= f.to) || (shared && !f.wte)) continue;
        SafeEntry *e = &entries[n++];
        snprintf(e->name, sizeof e->name, "%s%s", f.prefix, t->name);
        e->rank = t->cols ? 2 : 1;
        e->dims[0] = (uint64_t)t->rows, e->dims[1] = (uint64_t)t->cols;
        e->data = m->params + t->offset;
    }
    if (f.head) {
        head = mem_floats(wte->size);
        memcpy(head, m->params + wte->offset, wte->size * sizeof(float));
        head[0] += f.add;
        entries[n] = (SafeEntry){.name = "lm_head.weight",
                                 .rank = 2,
                                 .dims = {(uint64_t)(wte->rows - f.rows), (uint64_t)wte->cols},
                                 .data = head};
        n++;
    }
    Text bytes = {0};
    safetensors_header(&bytes, entries, n, "pt");
    for (int i = 0; i < n; i++)
        text_append(&bytes, entries[i].data, safe_entry_floats(&entries[i]) * sizeof(float));
    write_file(dir, f.file ? f.file : "model.safetensors", bytes.data, bytes.size);
    text_free(&bytes);
    free(head);
}

static void check_loads(const char *dir, const GPT2 *want, const char *what) {
    GPT2 got;
    model_read(&got, dir);
    for (int i = 0; i < got.n_tensors; i++) {
        const Tensor *t = &got.tensors[i];
        CHECK(!memcmp(got.params + t->offset, want->params + t->offset, t->size * sizeof(float)),
              "%s: %s differs", what, t->name);
    }
    gpt2_free(&got);
}

static void test_lm_head(void) {
    GPT2 m;
    GPT2Config c = {.vocab_size = 11,
                    .n_positions = 6,
                    .n_embd = 4,
                    .n_layer = 1,
                    .n_head = 2,
                    .n_inner = 16,
                    .layer_norm_epsilon = 1e-5f,
                    .initializer_range = 0.02f,
                    .bos_token_id = -1,
                    .eos_token_id = 1,
                    .pad_token_id = -1};
    gpt2_create(&m, c);
    for (size_t i = 0; i < m.n_floats; i++) m.params[i] = (float)i / 64;
    char *dir = in_root("head");
    Text config = {0};
    config_write(&config, &c, NULL);
    write_text(dir, "config.json", config.data);
    for (int i = 0; i < 2; i++) {
        const char *prefix = i ? "transformer." : "";
        save_form(dir, &m, (Form){prefix, .head = true});
        check_loads(dir, &m, "lm_head.weight alone");
        save_form(dir, &m, (Form){prefix, .wte = true, .head = true});
        check_loads(dir, &m, "both");
        save_form(dir, &m, (Form){prefix, .wte = true});
        check_loads(dir, &m, "wte.weight alone");
        save_form(dir, &m, (Form){prefix, .wte = true, .head = true, .add = 1});
        CHECK_DIES(3, "lm_head.weight differs from wte.weight", model_read(&m, dir));
        save_form(dir, &m, (Form){.prefix = prefix});
        CHECK_DIES(3, "missing tensor \"wte.weight\"", model_read(&m, dir));
        save_form(dir, &m, (Form){prefix, .head = true, .rows = 1});
        CHECK_DIES(3, "vocab_size 11 but lm_head.weight has 10 rows", model_read(&m, dir));
    }
    // In shards, with the matrix in either, in both, or in none.
    remove_file(dir, "model.safetensors");
    const int half = m.n_tensors / 2;
    for (int k = 0; k < 4; k++) {
        Text index = {0};
        text_print(&index, "{\"weight_map\":{");
        for (int i = 0; i < m.n_tensors; i++)
            if (strcmp(m.tensors[i].name, "wte.weight"))
                text_print(&index, "\"transformer.%s\":\"%s\",", m.tensors[i].name,
                           i < half ? "a.safetensors" : "b.safetensors");
        if (k < 3) text_print(&index, "\"lm_head.weight\":\"%c.safetensors\",", k == 1 ? 'b' : 'a');
        index.data[--index.size] = 0;
        text_print(&index, "}}");
        write_text(dir, "model.safetensors.index.json", index.data);
        text_free(&index);
        save_form(dir, &m,
                  (Form){"transformer.", "a.safetensors", .head = k == 0 || k == 2, .to = half});
        save_form(dir, &m,
                  (Form){"transformer.", "b.safetensors", .head = k == 1 || k == 2, .from = half});
        if (k < 2) check_loads(dir, &m, "shards");
        else if (k == 2) CHECK_DIES(3, "tensor \"lm_head.weight\" is in", model_read(&m, dir));
        else CHECK_DIES(3, "missing tensor \"wte.weight\"", model_read(&m, dir));
    }
    gpt2_free(&m);
    text_free(&config);
    free(dir);
}

// ------------------------------------------------------------------------------------------------
// Files that are something else

static void test_impostors(void) {
#define BYTES(s) s, sizeof(s) - 1
    static const struct {
        const char *bytes;
        size_t n;
        const char *message;
    } cases[] = {
        {BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 548105171\n"),
         "is a Git LFS pointer, the data was not downloaded: run git lfs pull"},
        {BYTES("<!DOCTYPE html>\n<html><body>Sign in</body></html>"),
         "is an HTML page, probably of a failed download or a login"},
        {BYTES("\n\n  <!doctype HTML><html lang=en>"), "is an HTML page"},
        {BYTES("\xEF\xBB\xBF<HTML><head><title>502</title></head></HTML>"), "is an HTML page"},
        {BYTES("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>"), "is XML"},
        {BYTES("\x80\002}q\000(X\013\000\000\000wte.weightq\001cto"), "is a Python pickle"},
        {BYTES("\x80\004\x95\x0b\000\000\000\000\000\000\000}\x94(\x8c\x01x"),
         "is a Python pickle"},
        {BYTES("PK\003\004\000\000\010\010\000\000\000\000\000\000\000\000\000\000"),
         "is a zip file (or .npz, .xlsx, PyTorch's .bin or .pt)"},
        {BYTES("GGUF\003\000\000\000\x23\001\000\000\000\000\000\000"), "is a GGUF model"},
        {BYTES("\x1f\x8b\010\000\000\000\000\000\000\003"), "is gzip-compressed"},
        {BYTES("\x28\xb5\x2f\xfd\004\x58\000\000\000\000"), "is zstd-compressed"},
        {BYTES("\x89HDF\r\n\x1a\n\000\000\000\000\000\010\010\000"), "is an HDF5 file"},
        {BYTES("\x93NUMPY\001\000v\000{'descr': '<f4'}"), "is a NumPy array"},
    };
    char *dir = in_root("impostor"), *path = path_join(dir, "config.json");
    const char *const others[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                  "tf_model.h5", "flax_model.msgpack", "adapter_model.safetensors"};
    GPT2 m;
    for (int i = 0; i < COUNT(cases); i++) {
        const size_t n = cases[i].n;
        const char *what = cases[i].message;
        write_text(dir, "config.json", "{}");
        write_file(dir, "model.safetensors", cases[i].bytes, n);
        CHECK_DIES(3, what, model_read(&m, dir));
        remove_file(dir, "model.safetensors");
        write_file(dir, "model.safetensors.index.json", cases[i].bytes, n);
        CHECK_DIES(3, what, model_read(&m, dir));
        remove_file(dir, "model.safetensors.index.json");
        write_file(dir, "generation_config.json", cases[i].bytes, n);
        CHECK_DIES(3, what, stops_read(dir, 10));
        CHECK_DIES(3, what, generation_pattern(path));
        remove_file(dir, "generation_config.json");
        write_file(dir, "config.json", cases[i].bytes, n);
        CHECK_DIES(3, what, model_read(&m, dir));
        CHECK_DIES(3, what, config_pattern(path));
    }
    write_text(dir, "config.json", "{}");
    write_file(dir, "model.safetensors", cases[5].bytes, cases[5].n);
    CHECK_DIES(3, "is a Python pickle, expected safetensors: re-save with", model_read(&m, dir));
    write_text(dir, "model.safetensors", "Entry not found, or no access to it");
    CHECK_DIES(3, "is a text that begins \"Entry not found", model_read(&m, dir));
    write_text(dir, "model.safetensors", "{\"error\":\"Invalid username or password.\"}");
    CHECK_DIES(3, "is a text that begins \"{\"error\":", model_read(&m, dir));
    remove_file(dir, "model.safetensors");
    CHECK_DIES(3, "no model.safetensors", model_read(&m, dir));
    for (int i = 0; i < COUNT(others); i++) {
        write_text(dir, others[i], "x");
        CHECK_DIES(3, others[i], model_read(&m, dir));
        remove_file(dir, others[i]);
    }
    char *inner = path_join(dir, "model.safetensors");
    disk_mkdir(inner);
    CHECK_DIES(3, "model.safetensors: is a directory, expected a file", model_read(&m, dir));
    remove_file(dir, "config.json");
    disk_mkdir(path);
    CHECK_DIES(3, "config.json: is a directory, expected a file", model_read(&m, dir));
    free(dir), free(path), free(inner);
}

int main(void) {
    if (!mkdtemp(root)) die(EXIT_IO, "mkdtemp: %s", strerror(errno));
    test_kept();
    test_eos();
    test_lm_head();
    test_impostors();
    disk_remove(root);
    return test_end("test_directory");
}
