// pretrained.h: a model as transformers' from_pretrained takes it, a directory. From top to bottom:
//
//   config     config.json: read strictly, written back with every key that training leaves alone
//   generation generation_config.json: kept, and the tokens at which transformers' generate() stops
//   loading    a directory with config.json and safetensors becomes a GPT2
//   scored     the same with a scalar head: a reward model, or what is to become one
//
// Saving such a directory safely is the business of checkpoint.h.
#ifndef PRETRAINED_H
#define PRETRAINED_H

#include "../../model.h"
#include "safetensors.h"
#include "../base/tokenizer.h"

// ------------------------------------------------------------------------------------------------
// config.json, as transformers' GPT2Config has it. Settings that would change the function that
// the model computes, and that this engine does not have, are refused instead of ignored.

// Die because of the value of a key.
__attribute__((noreturn)) static void config_die(const char *path, const char *key,
                                                 const cJSON *item, const char *expected) {
    char *value = cJSON_PrintUnformatted(item);
    const char *type = cJSON_IsString(item) ? " is a string"
                       : cJSON_IsBool(item) ? " is a boolean"
                                            : "";
    die(EXIT_BAD_INPUT, "%s: %s: %s%s, expected %s", path, key, value ? value : "?", type,
        expected);
}

// An integer in [low, high]; `alias` is the key's other name in transformers, or NULL. `missing` is
// transformers' default.
static int config_int(const char *path, const cJSON *json, const char *key, const char *alias,
                      int missing, int low, int high) {
    const cJSON *item = json_get(json, key), *other = alias ? json_get(json, alias) : NULL;
    if (item && other && !cJSON_Compare(item, other, true))
        die(EXIT_BAD_INPUT, "%s: %s and %s differ", path, key, alias);
    if (!item && other) item = other, key = alias;
    if (!item) return missing;
    int64_t value;
    if (!json_integer(item, &value)) config_die(path, key, item, "an integer");
    if (value < low || value > high)
        die(EXIT_BAD_INPUT, "%s: %s %" PRId64 " is out of range (from %d to %d)", path, key, value,
            low, high);
    return (int)value;
}

// A number in [low, high].
static float config_float(const char *path, const cJSON *json, const char *key, float missing,
                          double low, double high) {
    const cJSON *item = json_get(json, key);
    if (!item) return missing;
    if (!cJSON_IsNumber(item)) config_die(path, key, item, "a number");
    if (!(item->valuedouble >= low && item->valuedouble <= high))
        die(EXIT_BAD_INPUT, "%s: %s %g is out of range (from %g to %g)", path, key,
            item->valuedouble, low, high);
    return (float)item->valuedouble;
}

// A token id, or -1 for none; of a list, which eos_token_id may be, the first. Configs made in Python
// for a small vocabulary often carry the class's default, 50256, which cannot have been meant.
static int config_token(const char *path, const cJSON *json, const char *key, int missing,
                        int vocab_size) {
    const cJSON *item = json_get(json, key);
    int64_t id = missing;
    if (cJSON_IsArray(item) && item->child && !strcmp(key, "eos_token_id")) item = item->child;
    if (cJSON_IsNull(item)) return -1;
    if (item && !json_integer(item, &id)) config_die(path, key, item, "an integer or null");
    if (id == 50256 && id >= vocab_size) {
        if (item)
            warn("%s: %s 50256 is transformers' default and outside vocab_size %d: taken as none",
                 path, key, vocab_size);
        return -1;
    }
    if (id >= vocab_size)
        die(EXIT_BAD_INPUT, "%s: %s %" PRId64 " >= vocab_size %d", path, key, id, vocab_size);
    if (item && id < 0) config_die(path, key, item, "a token id or null");
    return (int)id;
}

// True if `architectures` names the reward model's class. It must then have one label, and a
// padding token, by which transformers finds the end of a text.
static bool config_has_score(const char *path, const cJSON *json, int pad) {
    const cJSON *item;
    bool score = false;
    cJSON_ArrayForEach(item, json_get(json, "architectures")) {
        if (!cJSON_IsString(item)) continue;
        score = score || !strcmp(item->valuestring, "GPT2ForSequenceClassification");
    }
    if (!score) return false;
    const cJSON *labels = json_get(json, "id2label");
    int n = labels ? cJSON_GetArraySize(labels)
                   : config_int(path, json, "num_labels", NULL, 2, 0, INT_MAX);
    if (n != 1)
        die(EXIT_BAD_INPUT,
            "%s: %d labels (id2label; transformers' default is 2), expected 1: "
            "a reward model has one score",
            path, n);
    if (pad < 0) die(EXIT_BAD_INPUT, "%s: reward model needs pad_token_id", path);
    return true;
}

// The config of a parsed config.json.
static GPT2Config config_parse(const char *path, const cJSON *json) {
    if (!cJSON_IsObject(json)) die(EXIT_BAD_INPUT, "%s: expected a JSON object", path);
    // Switches that we have in one position only, transformers' default: attention scores are
    // divided by sqrt(HS) and by nothing else, the output matrix is wte, there is no encoder.
    static const struct {
        const char *key;
        bool value;
    } fixed[] = {
        {"scale_attn_weights", true},
        {"tie_word_embeddings", true},
        {"scale_attn_by_inverse_layer_idx", false},
        {"add_cross_attention", false},
    };
    const cJSON *item = json_get(json, "model_type");
    if (item && (!cJSON_IsString(item) || strcmp(item->valuestring, "gpt2"))) {
        char *value = cJSON_PrintUnformatted(item);
        die(EXIT_BAD_INPUT, "%s: model_type %s, only \"gpt2\" is supported", path, value);
    }
    // GELU by tanh, which has three names. "gelu" is the one by erf, near enough to load and to be
    // wrong without notice.
    item = json_get(json, "activation_function");
    const char *activation = item ? cJSON_GetStringValue(item) : "gelu_new";
    if (!activation || (strcmp(activation, "gelu_new") && strcmp(activation, "gelu_pytorch_tanh") &&
                        strcmp(activation, "gelu_fast"))) {
        char *value = cJSON_PrintUnformatted(item);
        die(EXIT_BAD_INPUT, "%s: activation_function %s is not supported (gelu_new only)", path,
            value);
    }
    for (int i = 0; i < COUNT(fixed); i++) {
        item = json_get(json, fixed[i].key);
        if (item && !cJSON_IsBool(item)) config_die(path, fixed[i].key, item, "true or false");
        if (item && cJSON_IsTrue(item) != fixed[i].value)
            die(EXIT_BAD_INPUT, "%s: %s %s is not supported", path, fixed[i].key,
                fixed[i].value ? "false" : "true");
    }
    item = json_get(json, "quantization_config");
    if (item && !cJSON_IsNull(item))
        die(EXIT_BAD_INPUT, "%s: quantization_config: quantized weights are not supported", path);

    // The limits are far above any GPT-2 and keep sizes of tensors far from overflow.
    GPT2Config c = {0};
    c.vocab_size = config_int(path, json, "vocab_size", NULL, 50257, 1, 1 << 24);
    c.n_positions =
        config_int(path, json, "n_positions", "max_position_embeddings", 1024, 1, 1 << 20);
    c.n_embd = config_int(path, json, "n_embd", "hidden_size", 768, 1, 1 << 16);
    c.n_layer = config_int(path, json, "n_layer", "num_hidden_layers", 12, 1, 1000);
    c.n_head = config_int(path, json, "n_head", "num_attention_heads", 12, 1, 1 << 16);
    item = json_get(json, "n_inner");
    c.n_inner = cJSON_IsNull(item)
                    ? 4 * c.n_embd
                    : config_int(path, json, "n_inner", NULL, 4 * c.n_embd, 1, 1 << 20);
    if (c.n_embd % c.n_head)
        die(EXIT_BAD_INPUT, "%s: n_embd %d not divisible by n_head %d", path, c.n_embd, c.n_head);
    // A second name for the context length in old files, which must not contradict the first.
    int n_ctx = config_int(path, json, "n_ctx", NULL, c.n_positions, 1, 1 << 20);
    if (n_ctx != c.n_positions)
        die(EXIT_BAD_INPUT, "%s: n_ctx %d differs from n_positions %d", path, n_ctx, c.n_positions);
    c.layer_norm_epsilon = config_float(path, json, "layer_norm_epsilon", 1e-5f, 1e-12, 1);
    c.initializer_range = config_float(path, json, "initializer_range", 0.02f, 0, 10);
    c.bos_token_id = config_token(path, json, "bos_token_id", 50256, c.vocab_size);
    c.eos_token_id = config_token(path, json, "eos_token_id", 50256, c.vocab_size);
    c.pad_token_id = config_token(path, json, "pad_token_id", -1, c.vocab_size);
    c.score_head = config_has_score(path, json, c.pad_token_id);
    return c;
}

// Read a config.json, of a checkpoint or written by hand; every key has transformers' default.
static GPT2Config config_read(const char *path) {
    cJSON *json = json_read(path);
    GPT2Config config = config_parse(path, json);
    cJSON_Delete(json);
    return config;
}

// Replace the numbers below `item` by their letters in the text that it was parsed from, so that
// 0.0 is not written back as 0. `at` walks through the text, which has the same order as the tree.
static void config_keep_numbers(cJSON *item, const char *text, size_t *at) {
    for (cJSON *child = item->child, *next; child; child = next) {
        next = child->next;
        if (!cJSON_IsNumber(child)) {
            config_keep_numbers(child, text, at);
            continue;
        }
        bool in_string = false;
        for (; in_string || !strchr("-0123456789", text[*at]); (*at)++) {
            if (in_string && text[*at] == '\\') (*at)++;
            else if (text[*at] == '"') in_string = !in_string;
        }
        size_t length = strspn(text + *at, "+-.0123456789eE");
        char *letters = text_format("%.*s", (int)length, text + *at);
        *at += length;
        cJSON *raw = cJSON_CreateRaw(letters);
        // A raw item prints as it is. cJSON offers no way to make one with a key, so the key
        // changes hands.
        if (child->string) {
            raw->string = child->string;
            child->string = NULL;
        }
        cJSON_ReplaceItemViaPointer(item, child, raw);
        free(letters);
    }
}

// A config.json as a pattern for config_write: its unknown keys will be kept. NULL for no path.
static cJSON *config_pattern(const char *path) {
    if (!path) return NULL;
    size_t n, at = 0;
    char *text = file_read(path, &n);
    cJSON *json = json_parse(text, n, path, 1);
    config_keep_numbers(json, text, &at);
    free(text);
    return json;
}

// The generation_config.json beside a config.json, as such a pattern. NULL for no path, and where
// there is none.
static cJSON *generation_pattern(const char *config_path) {
    const char *slash = config_path ? strrchr(config_path, '/') : NULL;
    if (!slash || strcmp(slash, "/config.json")) return NULL;
    char *path =
        text_format("%.*s/generation_config.json", (int)(slash - config_path), config_path);
    cJSON *json = path_is_file(path) ? config_pattern(path) : NULL;
    if (json && !cJSON_IsObject(json)) die(EXIT_BAD_INPUT, "%s: expected a JSON object", path);
    free(path);
    return json;
}

// Append JSON in the layout of Python's json.dumps(indent=2, sort_keys=True), as transformers does.
static void config_print(Text *out, const cJSON *item, int depth) {
    bool object = cJSON_IsObject(item), array = cJSON_IsArray(item);
    if (cJSON_IsRaw(item)) text_print(out, "%s", item->valuestring);
    else if (cJSON_IsString(item)) text_json(out, item->valuestring, strlen(item->valuestring));
    else if (cJSON_IsBool(item)) text_print(out, "%s", cJSON_IsTrue(item) ? "true" : "false");
    else if (!object && !array) text_print(out, "null");
    else {
        const cJSON *child, **children = mem_alloc((size_t)cJSON_GetArraySize(item), sizeof item);
        size_t n = 0;
        cJSON_ArrayForEach(child, item) children[n++] = child;
        if (object) qsort(children, n, sizeof *children, json_compare_keys);
        text_print(out, "%s", object ? "{" : "[");
        for (size_t i = 0; i < n; i++) {
            text_print(out, "%s\n%*s", i ? "," : "", 2 * depth + 2, "");
            if (object) text_json(out, children[i]->string, strlen(children[i]->string));
            if (object) text_print(out, ": ");
            config_print(out, children[i], depth + 1);
        }
        if (n) text_print(out, "\n%*s", 2 * depth, "");
        text_print(out, "%s", object ? "}" : "]");
        free(children);
    }
}

// Set a key to a piece of JSON.
__attribute__((format(printf, 3, 4))) static void config_set(cJSON *json, const char *key,
                                                             const char *format, ...) {
    char letters[160];
    va_list args;
    va_start(args, format);
    vsnprintf(letters, sizeof letters, format, args);
    va_end(args);
    cJSON_DeleteItemFromObjectCaseSensitive(json, key);
    cJSON_AddItemToObject(json, key, cJSON_CreateRaw(letters));
}

// The number of an item, which in a pattern stands as the letters of its file; NAN if it is none.
static double config_number(const cJSON *item) {
    if (cJSON_IsNumber(item)) return item->valuedouble;
    return cJSON_IsRaw(item) ? strtod(item->valuestring, NULL) : NAN;
}

// Set a key to an integer, unless it or its other name (or NULL) has that value already.
static void config_set_int(cJSON *json, const char *key, const char *alias, int x) {
    const cJSON *item = json_get(json, key), *other = alias ? json_get(json, alias) : NULL;
    if ((item || other) && config_number(item ? item : other) == x) return;
    if (alias) cJSON_DeleteItemFromObjectCaseSensitive(json, alias);
    config_set(json, key, "%d", x);
}

// The same for a float: in the shortest decimal form that reads back the same, 0.02, not
// 0.0199999996.
static void config_set_float(cJSON *json, const char *key, float x) {
    char s[32];
    if ((float)config_number(json_get(json, key)) == x) return;
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, x);
        if (strtof(s, NULL) == x) break;
    }
    config_set(json, key, "%s%s", s, strpbrk(s, ".e") ? "" : ".0");
}

// The same for a token id, null for none. A list that begins with it stays, and where none is known
// an id that no token has.
static void config_set_token(cJSON *json, const char *key, int id, int vocab_size) {
    const cJSON *item = json_get(json, key);
    const double have = config_number(cJSON_IsArray(item) ? item->child : item);
    if (id >= 0 ? have == id : cJSON_IsNull(item) || have >= vocab_size) return;
    if (id < 0) config_set(json, key, "null");
    else config_set(json, key, "%d", id);
}

// True if the list `key` has this string.
static bool config_lists(const cJSON *json, const char *key, const char *string) {
    const cJSON *item;
    cJSON_ArrayForEach(item, json_get(json, key)) {
        if (cJSON_IsString(item) && !strcmp(item->valuestring, string)) return true;
    }
    return false;
}

// Append the text of config.json. `pattern` (or NULL) is the config that the model came from: all its
// keys stay as they are, but for the values that have changed since. Those are the vocabulary where it
// has grown, token ids that were settled, what tells a reward model from a language model, and the
// type of the numbers.
static void config_write(Text *out, const GPT2Config *c, const cJSON *pattern) {
    cJSON *json = pattern ? cJSON_Duplicate(pattern, true) : cJSON_CreateObject();
    const char *class = c->score_head ? "GPT2ForSequenceClassification" : "GPT2LMHeadModel";
    if (!config_lists(json, "architectures", class))
        config_set(json, "architectures", "[\n    \"%s\"\n  ]", class);
    if (!json_get(json, "model_type")) config_set(json, "model_type", "\"gpt2\"");
    if (!json_get(json, "activation_function"))
        config_set(json, "activation_function", "\"gelu_new\"");
    config_set_int(json, "vocab_size", NULL, c->vocab_size);
    config_set_int(json, "n_positions", "max_position_embeddings", c->n_positions);
    config_set_int(json, "n_embd", "hidden_size", c->n_embd);
    config_set_int(json, "n_layer", "num_hidden_layers", c->n_layer);
    config_set_int(json, "n_head", "num_attention_heads", c->n_head);
    if (c->n_inner != 4 * c->n_embd) config_set_int(json, "n_inner", NULL, c->n_inner);
    else if (!json_get(json, "n_inner")) config_set(json, "n_inner", "null");
    config_set_float(json, "layer_norm_epsilon", c->layer_norm_epsilon);
    config_set_float(json, "initializer_range", c->initializer_range);
    config_set_token(json, "bos_token_id", c->bos_token_id, c->vocab_size);
    config_set_token(json, "eos_token_id", c->eos_token_id, c->vocab_size);
    config_set_token(json, "pad_token_id", c->pad_token_id, c->vocab_size);
    // The number of labels is the size of this map; without it, it is 2.
    if (c->score_head && cJSON_GetArraySize(json_get(json, "id2label")) != 1) {
        config_set(json, "id2label", "{\n    \"0\": \"LABEL_0\"\n  }");
        config_set(json, "label2id", "{\n    \"LABEL_0\": 0\n  }");
        cJSON_DeleteItemFromObjectCaseSensitive(json, "num_labels");
    }
    config_set(json, "dtype", "\"float32\"");       // transformers from 4.56
    config_set(json, "torch_dtype", "\"float32\""); // and before
    config_print(out, json, 0);
    text_print(out, "\n");
    cJSON_Delete(json);
}

// ------------------------------------------------------------------------------------------------
// generation_config.json, where transformers' generate() takes its settings from, among them the
// tokens at which a text ends. Only without that file does it look into config.json.

// Append the text of generation_config.json. `pattern` (or NULL) is the file that the model came with:
// it stays as it is, but gets an EOS if it has none.
static void config_write_generation(Text *out, const GPT2Config *c, const cJSON *pattern) {
    cJSON *json = pattern ? cJSON_Duplicate(pattern, true) : cJSON_CreateObject();
    const cJSON *eos = json_get(json, "eos_token_id");
    if (!pattern) {
        config_set(json, "_from_model_config", "true");
        config_set_token(json, "bos_token_id", c->bos_token_id, c->vocab_size);
        if (c->pad_token_id >= 0)
            config_set_token(json, "pad_token_id", c->pad_token_id, c->vocab_size);
    }
    if (!eos || cJSON_IsNull(eos))
        config_set_token(json, "eos_token_id", c->eos_token_id, c->vocab_size);
    config_print(out, json, 0);
    text_print(out, "\n");
    cJSON_Delete(json);
}

// The tokens at which generate() ends a text of a model.
typedef struct {
    int n, ids[64];
    const char *file; // that says so
} Stops;

// Note the ids of eos_token_id, a number, a list or null, that are below vocab_size. Dies if it is
// anything else.
static void stops_take(Stops *s, const char *path, const cJSON *json, int vocab_size) {
    const cJSON *eos = json_get(json, "eos_token_id"), *item;
    const bool list = cJSON_IsArray(eos);
    for (item = list ? eos->child : eos; item; item = list ? item->next : NULL) {
        int64_t id = -1;
        if (cJSON_IsNull(item) && !list) continue;
        if (!json_integer(item, &id) || id < 0)
            config_die(path, "eos_token_id", eos, "a token id, a list of them, or null");
        if (id >= vocab_size) continue; // no token that the model has
        if (s->n == COUNT(s->ids)) config_die(path, "eos_token_id", eos, "at most 64 ids");
        s->ids[s->n++] = (int)id;
    }
}

// Where generate() would end texts of the model in `dir`. n is 0 if nowhere.
static Stops stops_read(const char *dir, int vocab_size) {
    Stops s = {.file = "generation_config.json"};
    char *path = path_join(dir, s.file);
    if (!path_is_file(path)) {
        free(path);
        s.file = "config.json";
        path = path_join(dir, s.file);
    }
    cJSON *json = json_read(path);
    if (!cJSON_IsObject(json)) die(EXIT_BAD_INPUT, "%s: expected a JSON object", path);
    if (json_get(json, "eos_token_id")) stops_take(&s, path, json, vocab_size);
    else if (!strcmp(s.file, "config.json") && 50256 < vocab_size) s.ids[s.n++] = 50256;
    cJSON_Delete(json);
    free(path);
    return s;
}

// True if generate() ends a text at this token.
static bool stops_at(const Stops *s, int id) {
    for (int i = 0; i < s->n; i++)
        if (s->ids[i] == id) return true;
    return false;
}

// What a run teaches as the end of a text, t->eos_id, must be where generate() will end one. Of the
// two directories that of the model tells where that is. If the tokenizer's files name no EOS, it is
// taken from there; if the model's name none, it becomes the tokenizer's. Dies if they contradict.
static void eos_settle(GPT2Config *c, Tokenizer *t, const char *dir, const char *tokenizer_dir) {
    const Stops stops = stops_read(dir, c->vocab_size);
    size_t size, learnt_size;
    if (stops_at(&stops, t->eos_id)) return;
    const char *learnt = tokenizer_piece(t, t->eos_id, &learnt_size);
    if (!stops.n) {
        warn("%s/%s: no token ends a text (eos_token_id); the saved model's is the tokenizer's, "
             "\"%.*s\" (%d)",
             dir, stops.file, (int)learnt_size, learnt, t->eos_id);
        c->eos_token_id = t->eos_id;
        return;
    }
    const int id = stops.ids[0];
    const char *name = tokenizer_piece(t, id, &size);
    if (!t->eos_named && size) {
        warn("%s: names no eos_token: texts end with \"%.*s\" (%d), as %s says", tokenizer_dir,
             (int)size, name, id, stops.file);
        t->eos_id = id;
        return;
    }
    die(EXIT_BAD_INPUT,
        "%s: the tokenizer's EOS is \"%.*s\" (%d), but generate() would stop at %d%s%.*s%s, by "
        "eos_token_id of %s/%s, and not at what is learnt: make the one the other",
        tokenizer_dir, (int)learnt_size, learnt, t->eos_id, id, size ? " (\"" : "", (int)size, name,
        size ? "\")" : "", dir, stops.file);
}

// ------------------------------------------------------------------------------------------------
// Loading. Names come with "transformer." in front (GPT2LMHeadModel) or without (GPT2Model, and the
// original gpt2).

// Causal masks, which old versions stored with the weights. The leading dot matters: the name
// h.0.attn.c_attn.bias ends in "attn.bias", too.
static bool weight_is_mask(const char *name) {
    return text_has_suffix(name, ".attn.bias") || text_has_suffix(name, ".attn.masked_bias");
}

// Names of adapters, wrappers and quantized weights: with these, what is left over would load but
// would not be the model that was saved.
static bool weight_is_foreign(const char *name) {
    static const char *parts[] = {"lora_",    "module.", "_orig_mod.",   "base_model.",
                                  ".qweight", ".qzeros", ".scales",      ".g_idx",
                                  ".SCB",     ".absmax", "weight_scale", "quant_"};
    for (int i = 0; i < COUNT(parts); i++)
        if (strstr(name, parts[i])) return true;
    return false;
}

// Die unless the stored shape is that of the model's tensor.
static void weight_check_shape(const GPT2Config *config, const Tensor *t, const SafeFile *f,
                               const SafeTensor *stored) {
    uint64_t want[4] = {(uint64_t)t->rows, (uint64_t)t->cols, 0, 0};
    int rank = t->cols ? 2 : 1;
    const uint64_t *have = stored->dims;
    if (stored->rank == rank && have[0] == want[0] && (rank == 1 || have[1] == want[1])) return;
    char a[96], b[96];
    if (!strcmp(t->name, "wte.weight") && stored->rank == 2 && have[1] == want[1])
        die(EXIT_BAD_INPUT, "%s: vocab_size %d but %s has %" PRIu64 " rows", f->path,
            config->vocab_size, strcmp(stored->name, "lm_head.weight") ? t->name : stored->name,
            have[0]);
    bool turned = stored->rank == 2 && rank == 2 && have[0] == want[1] && have[1] == want[0];
    die(EXIT_BAD_INPUT, "%s: \"%s\" is %s, config needs %s%s", f->path, stored->name,
        safe_shape(a, stored->rank, have), safe_shape(b, rank, want),
        turned ? " (looks transposed: nn.Linear layout?)" : "");
}

// Read a tensor to `to` (rows * cols floats) and look for values that are not finite: one of them
// would spoil the whole model at the first step. Read in pieces that are still in cache then.
static void weight_read(const SafeFile *f, const SafeTensor *stored, float *to) {
    const size_t piece = (size_t)1 << 17;
    size_t bad = 0, first = 0, count = (size_t)stored->count;
    for (size_t at = 0; at < count; at += piece) {
        size_t n = count - at < piece ? count - at : piece, here = 0;
        safetensors_read(f, stored, at, n, to + at);
        for (size_t i = 0; i < n; i++) here += !(fabsf(to[at + i]) <= FLT_MAX);
        if (here && !bad)
            for (first = at; fabsf(to[first]) <= FLT_MAX;) first++;
        bad += here;
    }
    if (bad)
        die(EXIT_BAD_INPUT, "%s: tensor \"%s\" has %s at element %zu (%zu non-finite values)",
            f->path, stored->name, isnan(to[first]) ? "NaN" : "Inf", first, bad);
}

// The output matrix of GPT-2 is wte. Old files store it twice, which is fine; a different one would
// be lost, as recent transformers lose it. (A file that has it once, but under the other name, as
// safetensors.torch.save_model may leave it, is seen to by weights_load.)
static void weight_check_head(const GPT2 *model, const SafeFile *f, const SafeTensor *head) {
    enum { PIECE = 1 << 14 };
    const Tensor *wte = NULL;
    for (int i = 0; i < model->n_tensors; i++)
        if (!strcmp(model->tensors[i].name, "wte.weight")) wte = &model->tensors[i];
    bool same = head->rank == 2 && head->count == wte->size;
    float *piece = mem_floats(PIECE);
    for (size_t at = 0; same && at < wte->size; at += PIECE) {
        size_t n = wte->size - at < PIECE ? wte->size - at : PIECE;
        safetensors_read(f, head, at, n, piece);
        for (size_t i = 0; i < n; i++)
            same = same && piece[i] == model->params[wte->offset + at + i];
    }
    free(piece);
    if (!same)
        die(EXIT_BAD_INPUT,
            "%s: lm_head.weight differs from wte.weight but tie_word_embeddings is true", f->path);
}

// Fill model->params from the files of `set`, each tensor exactly once.
static void weights_load(GPT2 *model, const SafeSet *set, const char *dir) {
    typedef struct {
        const SafeFile *file;
        const SafeTensor *tensor;
    } Found;
    // For each of the model's tensors, where it is stored.
    Found *found = mem_alloc((size_t)model->n_tensors, sizeof *found), head = {0};
    const char *with = NULL, *without = NULL; // a name of each form
    int n_found = 0, n_unused = 0;
    Text unused = {0};

    // Every tensor of every file is one of ours, a mask, the output matrix, or to be complained of.
    // Names and shapes come first, and numbers only when all are there.
    for (int i = 0; i < set->n; i++) {
        const SafeFile *f = &set->files[i];
        for (int k = 0; k < f->n; k++) {
            const SafeTensor *stored = &f->tensors[k];
            bool prefix = !strncmp(stored->name, "transformer.", 12);
            const char *name = stored->name + (prefix ? 12 : 0);
            int at = 0;
            while (at < model->n_tensors && strcmp(model->tensors[at].name, name)) at++;
            // Both forms in one file would mean two models, or half of each. (score.weight has no
            // prefix in either form.)
            bool ours = at < model->n_tensors, mask = weight_is_mask(name);
            if ((ours || mask) && strcmp(name, "score.weight"))
                *(prefix ? &with : &without) = stored->name;
            if (with && without)
                die(EXIT_BAD_INPUT, "%s: names with and without \"transformer.\": \"%s\", \"%s\"",
                    f->path, with, without);
            if (ours) {
                if (found[at].tensor)
                    die(EXIT_BAD_INPUT, "%s: tensor \"%s\" is in %s, too", f->path, stored->name,
                        found[at].file->path);
                weight_check_shape(&model->config, &model->tensors[at], f, stored);
                found[at] = (Found){f, stored};
                n_found++;
            } else if (!strcmp(stored->name, "lm_head.weight")) {
                if (head.tensor)
                    die(EXIT_BAD_INPUT, "%s: tensor \"%s\" is in %s, too", f->path, stored->name,
                        head.file->path);
                head = (Found){f, stored};
            } else if (weight_is_foreign(stored->name))
                die(EXIT_BAD_INPUT, "%s: \"%s\": not a plain GPT-2 checkpoint%s", f->path,
                    stored->name, strstr(stored->name, "lora_") ? "; merge the adapter first" : "");
            else if (!mask && n_unused++ < 3)
                text_print(&unused, "%s\"%s\"", unused.size ? ", " : "", stored->name);
        }
    }
    for (int i = 0; i < model->n_tensors && head.tensor; i++) {
        if (found[i].tensor || strcmp(model->tensors[i].name, "wte.weight")) continue;
        weight_check_shape(&model->config, &model->tensors[i], head.file, head.tensor);
        found[i] = head; // the shared matrix, stored under its other name alone
        head.tensor = NULL;
        n_found++;
    }
    for (int i = 0; i < model->n_tensors; i++)
        if (!found[i].tensor)
            die(EXIT_BAD_INPUT, "%s: missing tensor \"%s\" (%d of %d found)",
                set->n == 1 ? set->files[0].path : dir, model->tensors[i].name, n_found,
                model->n_tensors);
    if (n_unused)
        warn("%s: %d tensors are not part of GPT-2 and are ignored: %s%s", dir, n_unused,
             unused.data, n_unused > 3 ? ", .." : "");
    for (int i = 0; i < model->n_tensors; i++)
        weight_read(found[i].file, found[i].tensor, model->params + model->tensors[i].offset);
    weights_changed(model);
    if (head.tensor) weight_check_head(model, head.file, head.tensor);
    free(found);
    text_free(&unused);
}

// Make a model from a checkpoint directory, with a score if there is one; dies with the reason if
// that cannot be done in full.
static void model_read(GPT2 *model, const char *dir) {
    if (!path_is_dir(dir))
        die(EXIT_BAD_INPUT,
            access(dir, F_OK) ? "%s: no such directory"
                              : "%s: is a file, expected a checkpoint directory",
            dir);
    char *path = path_join(dir, "config.json");
    if (path_is_dir(path)) die(EXIT_BAD_INPUT, "%s: is a directory, expected a file", path);
    if (!path_is_file(path)) die(EXIT_BAD_INPUT, "%s: no config.json", dir);
    // The headers of the files are checked before memory for a model of that size is asked for.
    SafeSet set;
    GPT2Config config = config_read(path);
    safetensors_open_dir(&set, dir);
    gpt2_create(model, config);
    weights_load(model, &set, dir);
    safetensors_close_all(&set);
    free(path);
}

// Die if the directory holds a reward model where a language model is wanted: transformers would
// leave the score out, and what the rest writes is no language.
static void check_language_model(const char *dir) {
    char *path = path_join(dir, "config.json");
    if (path_is_file(path) && config_read(path).score_head)
        die(EXIT_BAD_INPUT, "%s: is a reward model, expected a language model", dir);
    free(path);
}

// Take the next of "NAME=DIR,DIR,..", a flag's value, from *list on, which becomes NULL after the last. Without a
// name it is the last part of the path, or the one before /final. *name, *dir: new strings. Dies (EXIT_USAGE) where
// one of them is empty.
static void named_dir_next(char **name, char **dir, const char **list, const char *flag) {
    const char *whole = *list, *comma = strchr(whole, ',');
    const int length = (int)(comma ? (size_t)(comma - whole) : strlen(whole));
    char *item = text_format("%.*s", length, whole), *equals = strchr(item, '=');
    if (equals && !path_is_dir(item)) {
        *name = text_format("%.*s", (int)(equals - item), item);
        *dir = text_copy(equals + 1);
    } else {
        *dir = text_copy(item);
        size_t end = strlen(item);
        while (end > 1 && item[end - 1] == '/') item[--end] = 0;
        if (end > 6 && !strcmp(item + end - 6, "/final")) item[end - 6] = 0;
        const char *slash = strrchr(item, '/');
        *name = text_copy(slash && slash[1] ? slash + 1 : item);
    }
    free(item);
    if (!**name || !**dir)
        die(EXIT_USAGE, "--%s %s: expected DIR or NAME=DIR, several with commas between", flag,
            whole);
    *list = comma ? comma + 1 : NULL;
}

// Load a language model. Dies if the directory holds none.
static void model_load(GPT2 *model, const char *dir) {
    check_language_model(dir);
    model_read(model, dir);
}

// Load a policy. Die unless it has the other models' vocabulary size and, where it has a tokenizer and
// they have one (not NULL), the same tokens: else the same prompts would be others to it.
static void policy_load(GPT2 *model, const char *dir, const Tokenizer *tokenizer, int vocab_size) {
    model_load(model, dir);
    if (model->config.vocab_size != vocab_size)
        die(EXIT_BAD_INPUT, "%s: its vocabulary has %d tokens, the other models' %d", dir,
            model->config.vocab_size, vocab_size);
    if (!tokenizer || !dir_has_tokenizer(dir)) return;
    Tokenizer own;
    tokenizer_load(&own, dir);
    if (own.eos_id != tokenizer->eos_id || own.vocab_size != tokenizer->vocab_size ||
        tokenizer_difference(&own, tokenizer) >= 0)
        die(EXIT_BAD_INPUT, "%s: its tokenizer is not the other models'", dir);
    tokenizer_free(&own);
}

// Load a reward model as it is. Dies if the directory holds none.
static void model_load_reward(GPT2 *model, const char *dir) {
    model_read(model, dir);
    if (!model->config.score_head)
        die(EXIT_BAD_INPUT, "%s: is a language model without a score, expected a reward model",
            dir);
}

// ------------------------------------------------------------------------------------------------
// Scored. transformers' GPT2ForSequenceClassification reads the score at the right-most token that
// is not padding. People often pad GPT-2 with EOS, for want of a padding token. Then EOS at the end
// of a text counts as padding, and the score is on the token before it. Ours is on EOS: so
// the padding token has to be another one.

// Make the padding token of model and tokenizer the same, and not EOS: the model's, the tokenizer's,
// or a new one, "[PAD]", for which the vocabulary may grow by one.
static void pad_settle(GPT2Config *c, Tokenizer *t) {
    int pad = c->pad_token_id;
    if (pad == t->eos_id || pad >= t->vocab_size) pad = -1;
    if (pad < 0 && t->pad_id != t->eos_id) pad = t->pad_id;
    if (pad < 0) pad = tokenizer_add_special(t, "[PAD]");
    c->pad_token_id = t->pad_id = pad;
    if (pad >= c->vocab_size) c->vocab_size = pad + 1;
}

// Fill a model from `stored`, which may lack rows of wte or the score. A new row of wte is never
// read by the model itself (padding comes after the score); it becomes the mean of the others.
// A new score is N(0, 1 / (C + 1)) as in Ziegler et al. 2019, or 0.
static void scored_fill(GPT2 *model, const GPT2 *stored, bool zero, uint64_t seed) {
    const int V = stored->config.vocab_size, C = stored->config.n_embd;
    for (int i = 0, k = 0; i < model->n_tensors; i++) {
        const Tensor *to = &model->tensors[i];
        for (k = 0; k < stored->n_tensors; k++)
            if (!strcmp(stored->tensors[k].name, to->name)) break;
        if (k == stored->n_tensors) continue;
        const Tensor *from = &stored->tensors[k];
        memcpy(model->params + to->offset, stored->params + from->offset,
               from->size * sizeof(float));
    }
    double *mean = mem_alloc((size_t)C, sizeof *mean);
    for (size_t k = 0; k < (size_t)V * (size_t)C; k++) mean[k % (size_t)C] += stored->w.wte[k] / V;
    for (int v = V; v < model->config.vocab_size; v++)
        for (int c = 0; c < C; c++) model->w.wte[(size_t)v * C + c] = (float)mean[c];
    free(mean);
    if (stored->config.score_head || zero) return;
    Rng rng = rng_make(seed, RNG_INIT + ((uint64_t)model->n_tensors << 8));
    for (int c = 0; c < C; c++) model->w.score[c] = (float)(rng_normal(&rng) / sqrt(C + 1.0));
}

// Load a reward model as it is, or a language model with a fresh score: score_init is "random" (by
// seed) or "zero". With the tokenizer of its texts, both get a padding token apart from EOS; NULL
// is for a model that is not going to be saved on its own.
static void model_load_scored(GPT2 *model, Tokenizer *tokenizer, const char *dir,
                              const char *score_init, uint64_t seed) {
    GPT2 stored;
    model_read(&stored, dir);
    GPT2Config config = stored.config;
    config.score_head = true;
    if (tokenizer) {
        tokenizer_check(tokenizer, config.vocab_size, dir);
        if (stored.config.score_head && config.pad_token_id == tokenizer->eos_id)
            warn("%s: pads with EOS, so its scores were read one token before EOS; now they are "
                 "read at EOS",
                 dir);
        pad_settle(&config, tokenizer);
    }
    if (stored.config.score_head && config.vocab_size == stored.config.vocab_size) {
        *model = stored;
        model->config = config;
        return;
    }
    gpt2_create(model, config);
    scored_fill(model, &stored, !strcmp(score_init, "zero"), seed);
    gpt2_free(&stored);
}

// Hash of weights and of what else makes a model's numbers, to tell one from another.
static uint64_t model_hash(const GPT2 *model) {
    const GPT2Config *c = &model->config;
    const int shape[] = {c->vocab_size, c->n_positions, c->n_embd,
                         c->n_layer,    c->n_head,      c->n_inner};
    DiskHash hash = disk_hash_begin();
    disk_hash_add(&hash, shape, sizeof shape);
    disk_hash_add(&hash, &c->layer_norm_epsilon, sizeof c->layer_norm_epsilon);
    disk_hash_add(&hash, model->params, model->n_floats * sizeof(float));
    return disk_hash_end(&hash);
}

#endif
