// tokenizer.h: the tokenizer of a Hugging Face directory, as AutoTokenizer of transformers 5 finds it,
// and the same files again for the directory that is saved. What is done with a text is in bpe.h.
//
//   files      all files of the tokenizer's, kept as they are
//   settings   tokenizer_config.json and special_tokens_map.json: each key is honoured, harmless or refused
//   parts      tokenizer.json: pre-tokenizer, template, decoder, model
//   tokens     added tokens and roles (EOS, BOS, padding, unknown), ranked as transformers ranks them
//   loading    all of it in order
//   saving     the files as they came; a set of them where there was only a vocabulary
//
// transformers has two ways. With tokenizer_class GPT2Tokenizer, or none, it takes vocabulary, merges,
// template and (without "added_tokens_decoder") added tokens from tokenizer.json and builds the rest
// anew, so that a normalizer or pre-tokenizer there has no effect: `rebuilt` below, which says so.
// With PreTrainedTokenizerFast or TokenizersBackend all of tokenizer.json counts. docs/tokenizer.md
// has the whole of it for users.
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include "bpe.h"
#include "common.h"
#include "json.h"
#include <dirent.h>

// ------------------------------------------------------------------------------------------------
// Files

#define TEMPLATE_DIR "additional_chat_templates"

// The text of the file of this name, or NULL.
static const Text *tokenizer_file(const Tokenizer *t, const char *name) {
    for (int i = 0; i < t->n_files; i++)
        if (!strcmp(t->files[i].name, name)) return &t->files[i].text;
    return NULL;
}

// Append a file to the list; takes the name over.
static Text *files_add(TokenizerFile **files, int *n, char *name) {
    *files = mem_resize(*files, (size_t)*n + 1, sizeof **files);
    (*files)[*n] = (TokenizerFile){.name = name};
    return &(*files)[(*n)++].text;
}

// For scandir: chat templates beside the main one.
static int is_template(const struct dirent *entry) {
    return text_has_suffix(entry->d_name, ".jinja");
}

// Read all files of the tokenizer's that are in `dir`.
static void files_load(Tokenizer *t, const char *dir) {
    const char *names[] = {"vocab.json",
                           "merges.txt",
                           "tokenizer.json",
                           "tokenizer_config.json",
                           "special_tokens_map.json",
                           "added_tokens.json",
                           "chat_template.jinja"};
    for (int i = 0; i < COUNT(names); i++) {
        char *path = path_join(dir, names[i]);
        if (path_is_file(path)) {
            Text *text = files_add(&t->files, &t->n_files, text_copy(names[i]));
            text->data = file_read(path, &text->size);
        }
        free(path);
    }
    char *templates = path_join(dir, TEMPLATE_DIR);
    struct dirent **list;
    int n = scandir(templates, &list, is_template, alphasort);
    for (int i = 0; i < n; i++) {
        char *path = path_join(templates, list[i]->d_name);
        if (path_is_file(path)) {
            char *name = text_format(TEMPLATE_DIR "/%s", list[i]->d_name);
            Text *text = files_add(&t->files, &t->n_files, name);
            text->data = file_read(path, &text->size);
        }
        free(path), free(list[i]);
    }
    if (n >= 0) free(list);
    free(templates);
}

// The JSON object in the file of this name; NULL without that file. Stores its path in *path.
static cJSON *file_json(const Tokenizer *t, const char *dir, const char *name, char **path) {
    const Text *text = tokenizer_file(t, name);
    *path = path_join(dir, name);
    if (!text) return NULL;
    cJSON *root = json_parse(text->data, text->size, *path, 1);
    if (!cJSON_IsObject(root)) die(EXIT_BAD_INPUT, "%s: expected a JSON object", *path);
    return root;
}

// True if the directory has the files of a tokenizer: a model of bare token ids has none.
static bool dir_has_tokenizer(const char *dir) {
    char *vocab = path_join(dir, "vocab.json"), *json = path_join(dir, "tokenizer.json");
    const bool has = path_is_file(vocab) || path_is_file(json);
    free(vocab), free(json);
    return has;
}

// ------------------------------------------------------------------------------------------------
// Settings

// The roles of transformers, in the order in which it adds their tokens.
enum { ROLE_BOS, ROLE_EOS, ROLE_UNK, ROLE_SEP, ROLE_PAD, ROLE_CLS, ROLE_MASK, ROLES };
static const char *const role_keys[ROLES] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                             "pad_token", "cls_token", "mask_token"};

// Where transformers keeps tokens with names of their own.
#define OWN_TOKENS "model_specific_special_tokens"

// True if `key` is one of role_keys.
static bool key_is_role(const char *key) {
    for (int r = 0; r < ROLES; r++)
        if (!strcmp(key, role_keys[r])) return true;
    return false;
}

// True if a setting is a token of this model's own ("image_token"), which is added as the roles are.
static bool is_own_token(const cJSON *item) {
    return text_has_suffix(item->string, "_token") && !key_is_role(item->string) &&
           (cJSON_IsString(item) || cJSON_IsObject(item));
}

// Die or warn where tokenizer_config.json has a key that is not honoured and not harmless.
static void settings_check(const cJSON *config, bool rebuilt, bool has_json, const char *path) {
    // What is done by other means, or does not change the ids of a text:
    static const char *const known[] = {
        "tokenizer_class",
        "added_tokens_decoder",
        "additional_special_tokens",
        "extra_special_tokens",
        OWN_TOKENS,
        "add_prefix_space",
        "add_bos_token",
        "add_eos_token",
        "split_special_tokens",
        "chat_template",
        "model_max_length",
        "max_len",
        "padding_side",
        "truncation_side",
        "errors",
        "clean_up_tokenization_spaces",
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
        "model_input_names",
        "name_or_path",
        "special_tokens_map_file",
        "vocab_file",
        "merges_file",
        "tokenizer_file",
        "processor_class",
        "use_fast",
        "trim_offsets",
        "legacy",
        "backend",
        "is_local",
        "local_files_only",
        "verbose",
        "files_loaded",
        "model_type",
        "device_map",
        "pad_token_type_id",
        "pad_to_multiple_of",
        "max_length",
        "stride",
        "truncation_strategy",
        "response_template",
        "response_schema",
        "chat_control_tokens",
        "transformers_version",
        "sp_model_kwargs",
        "use_default_system_prompt",
        "spaces_between_special_tokens",
        "_from_auto",
        "_commit_hash",
        "padding",
        "truncation",
        "return_tensors",
        "fix_mistral_regex",
        NULL};
    // What transformers would make another tokenizer from:
    static const char *const refused[] = {
        "auto_map",  "fast_tokenizer_files", "vocab",
        "merges",    "tokenizer_object",     "post_processor",
        "gguf_file", "tokenizer_padding",    "tokenizer_truncation",
        NULL};
    // What transformers 5 has no use for, though the name promises other ids:
    static const char *const idle[] = {"do_lower_case",
                                       "strip_accents",
                                       "do_basic_tokenize",
                                       "tokenize_chinese_chars",
                                       "remove_space",
                                       "keep_accents",
                                       "unicode_normalizer",
                                       "normalization",
                                       "dropout",
                                       NULL};
    const cJSON *item;
    cJSON_ArrayForEach(item, config) {
        const char *key = item->string;
        int k = 0, r = 0, i = 0;
        while (known[k] && strcmp(known[k], key)) k++;
        while (refused[r] && strcmp(refused[r], key)) r++;
        while (idle[i] && strcmp(idle[i], key)) i++;
        const bool off = cJSON_IsNull(item) || cJSON_IsFalse(item);
        const bool ends = !strcmp(key, "add_bos_token") || !strcmp(key, "add_eos_token");
        if (refused[r] && !off) die(EXIT_BAD_INPUT, "%s: %s is not supported", path, key);
        if (!strcmp(key, "init_inputs") && cJSON_GetArraySize(item))
            die(EXIT_BAD_INPUT, "%s: init_inputs is not supported", path);
        if ((idle[i] && !off) || (ends && has_json && !off) ||
            (!strcmp(key, "add_prefix_space") && !rebuilt && !off))
            warn("%s: %s has no effect, here as in transformers 5%s", path, key,
                 idle[i] ? "" : ": tokenizer.json decides");
        else if (!known[k] && !refused[r] && !idle[i] && strcmp(key, "init_inputs") &&
                 !key_is_role(key) && !is_own_token(item))
            warn("%s: \"%s\" is not known; it is kept as it is", path, key);
    }
}

// True if the tokenizer is one that transformers builds anew from vocabulary and merges. `class` is
// tokenizer_class in tokenizer_config.json or else config.json, or NULL. Dies if it is another kind.
static bool class_is_rebuilt(const char *class, const cJSON *json, const char *path) {
    static const char *const backends[] = {"TokenizersBackend",   "PreTrainedTokenizerFast",
                                           "PreTrainedTokenizer", "PythonBackend",
                                           "BloomTokenizer",      "BloomTokenizerFast"};
    if (!class || !strcmp(class, "GPT2Tokenizer") || !strcmp(class, "GPT2TokenizerFast"))
        return true;
    bool backend =
        !strncmp(class, "LlamaTokenizer", 14) && json; // byte-level: parts_load sees to it
    for (int i = 0; i < COUNT(backends); i++) backend |= !strcmp(class, backends[i]);
    if (!backend)
        die(EXIT_BAD_INPUT,
            "%s: tokenizer_class %s is not supported, expected GPT2Tokenizer or "
            "PreTrainedTokenizerFast",
            path, class);
    if (!json)
        die(EXIT_BAD_INPUT, "%s: tokenizer_class %s needs a tokenizer.json, there is none", path,
            class);
    return false;
}

// Move a token that has a name of its own out of `from`, which is the settings or a part of them, to
// where transformers keeps such tokens.
static void own_move(cJSON *settings, cJSON *from, cJSON *item) {
    cJSON *own = cJSON_GetObjectItemCaseSensitive(settings, OWN_TOKENS);
    if (!own) own = cJSON_AddObjectToObject(settings, OWN_TOKENS);
    char *key = text_copy(item->string);
    cJSON_DeleteItemFromObjectCaseSensitive(own, key);
    cJSON_AddItemToObject(own, key, cJSON_DetachItemViaPointer(from, item));
    free(key);
}

// "extra_special_tokens" may be an object: then these are tokens with names of their own.
static void extra_settle(cJSON *settings) {
    cJSON *extra = cJSON_GetObjectItemCaseSensitive(settings, "extra_special_tokens");
    if (!cJSON_IsObject(extra)) return;
    while (extra->child) own_move(settings, extra, extra->child);
    cJSON_DeleteItemFromObjectCaseSensitive(settings, "extra_special_tokens");
}

// A copy of an item of special_tokens_map.json, its objects marked as tokenizer_config.json marks
// tokens: with "__type", and special.
static cJSON *map_copy(const cJSON *item) {
    cJSON *copy = cJSON_Duplicate(item, true), *token;
    if (!copy) die(EXIT_IO, "out of memory");
    cJSON *first = cJSON_IsArray(copy) ? copy->child : copy;
    for (token = first; token; token = cJSON_IsArray(copy) ? token->next : NULL) {
        if (!json_get(token, "content")) continue;
        cJSON_DeleteItemFromObjectCaseSensitive(token, "special");
        cJSON_AddBoolToObject(token, "special", true);
        if (!json_get(token, "__type")) cJSON_AddStringToObject(token, "__type", "AddedToken");
    }
    return copy;
}

// tokenizer_config.json with what special_tokens_map.json has to say: transformers reads the latter
// only if the former has no "added_tokens_decoder", and then it wins. Release with cJSON_Delete().
static cJSON *settings_merge(const cJSON *config, const cJSON *map) {
    cJSON *out = config ? cJSON_Duplicate(config, true) : cJSON_CreateObject();
    if (!out) die(EXIT_IO, "out of memory");
    const char *old_name = "additional_special_tokens", *name = "extra_special_tokens";
    if (json_get(out, old_name) && !cJSON_GetArraySize(json_get(out, name))) {
        cJSON_DeleteItemFromObjectCaseSensitive(out, name);
        cJSON_AddItemToObject(out, name, cJSON_DetachItemFromObjectCaseSensitive(out, old_name));
    }
    extra_settle(out);
    const cJSON *item, *token;
    if (json_get(out, "added_tokens_decoder")) map = NULL;
    cJSON_ArrayForEach(item, map) {
        cJSON *extra = cJSON_GetObjectItemCaseSensitive(out, name);
        if (!strcmp(item->string, name) && cJSON_IsArray(item) && cJSON_IsArray(extra)) {
            cJSON_ArrayForEach(token, item) cJSON_AddItemToArray(extra, map_copy(token));
            continue;
        }
        cJSON_DeleteItemFromObjectCaseSensitive(out, item->string);
        cJSON_AddItemToObject(out, item->string, map_copy(item));
    }
    extra_settle(out);
    if (json_get(out, old_name) && !json_get(out, name))
        cJSON_AddItemToObject(out, name, cJSON_DetachItemFromObjectCaseSensitive(out, old_name));
    return out;
}

// ------------------------------------------------------------------------------------------------
// Parts of tokenizer.json

// GPT-2's pattern as a "Split" spells it, which is what ByteLevel cuts by itself.
#define GPT2_PATTERN                                                                               \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

// Note one more cut.
static void cut_add(Tokenizer *t, CutKind kind, const char *path) {
    if (t->n_cuts == COUNT(t->cuts)) die(EXIT_BAD_INPUT, "%s: too many pre-tokenizers", path);
    t->cuts[t->n_cuts++] = kind;
}

// Read "pre_tokenizer". *byte_level: a ByteLevel has come, which must be the last one.
static void pre_tokenizer_load(Tokenizer *t, const cJSON *item, bool *byte_level,
                               const char *path) {
    const char *what = "pre_tokenizer";
    const char *type = json_string_of(item, "type", what, path);
    if (!strcmp(type, "Sequence")) {
        const cJSON *list = json_get(item, "pretokenizers"), *part;
        json_keys_check(item, (const char *[]){"type", "pretokenizers", NULL}, what, path);
        cJSON_ArrayForEach(part, list) pre_tokenizer_load(t, part, byte_level, path);
        return;
    }
    if (*byte_level)
        die(EXIT_BAD_INPUT, "%s: pre_tokenizer %s after ByteLevel is not supported", path, type);
    if (!strcmp(type, "ByteLevel")) {
        json_keys_check(
            item, (const char *[]){"type", "add_prefix_space", "trim_offsets", "use_regex", NULL},
            "pre_tokenizer ByteLevel", path);
        t->prefix_space = json_bool_of(item, "add_prefix_space", true, what, path);
        t->whole = !json_bool_of(item, "use_regex", true, what, path);
        *byte_level = true;
    } else if (!strcmp(type, "Digits")) {
        json_keys_check(item, (const char *[]){"type", "individual_digits", NULL},
                        "pre_tokenizer Digits", path);
        const bool each = json_bool_of(item, "individual_digits", false, what, path);
        cut_add(t, each ? CUT_DIGITS : CUT_DIGIT_RUNS, path);
    } else if (!strcmp(type, "Split")) {
        const cJSON *regex = json_get(json_get(item, "pattern"), "Regex");
        const cJSON *string = json_get(json_get(item, "pattern"), "String");
        const char *pattern = cJSON_IsString(regex)    ? regex->valuestring
                              : cJSON_IsString(string) ? string->valuestring
                                                       : "";
        json_keys_check(item, (const char *[]){"type", "pattern", "behavior", "invert", NULL},
                        "pre_tokenizer Split", path);
        const char *behavior = json_string_of(item, "behavior", "pre_tokenizer Split", path);
        if (!cJSON_IsString(regex) || strcmp(pattern, GPT2_PATTERN) ||
            strcmp(behavior, "Isolated") || json_bool_of(item, "invert", false, what, path))
            die(EXIT_BAD_INPUT,
                "%s: pre_tokenizer Split by \"%s\" (%s) is not supported, only GPT-2's pattern is",
                path, pattern, behavior);
        cut_add(t, CUT_WORDS, path);
    } else {
        die(EXIT_BAD_INPUT,
            "%s: pre_tokenizer %s is not supported (ByteLevel, Digits, Split by GPT-2's pattern "
            "and sequences of them are)",
            path, type);
    }
}

// Append the id of a token of a template, as the file gives it.
static void template_id(const Tokenizer *t, TokenList *list, const cJSON *item, const char *path) {
    int64_t id;
    if (!json_integer(item, &id) || id < 0 || id >= t->vocab_size)
        die(EXIT_BAD_INPUT, "%s: post_processor: an id is not one of the vocabulary", path);
    tokens_append(list, (int)id);
}

// Read "post_processor": what is put before and after a text. Tokens have been added before.
static void post_processor_load(Tokenizer *t, const cJSON *item, const char *path) {
    const char *what = "post_processor";
    if (!item || cJSON_IsNull(item)) return;
    const char *type = json_string_of(item, "type", what, path);
    const cJSON *part;
    if (!strcmp(type, "Sequence")) {
        json_keys_check(item, (const char *[]){"type", "processors", NULL}, what, path);
        cJSON_ArrayForEach(part, json_get(item, "processors")) post_processor_load(t, part, path);
        return;
    }
    if (!strcmp(type, "ByteLevel")) return; // offsets, which nobody asks for here
    if (t->before.n || t->after.n)
        die(EXIT_BAD_INPUT, "%s: post_processor: two templates after each other are not supported",
            path);
    if (!strcmp(type, "RobertaProcessing") || !strcmp(type, "BertProcessing")) {
        template_id(t, &t->before, cJSON_GetArrayItem(json_get(item, "cls"), 1), path);
        template_id(t, &t->after, cJSON_GetArrayItem(json_get(item, "sep"), 1), path);
        return;
    }
    if (strcmp(type, "TemplateProcessing"))
        die(EXIT_BAD_INPUT,
            "%s: post_processor %s is not supported (ByteLevel, TemplateProcessing, "
            "RobertaProcessing, BertProcessing and sequences are)",
            path, type);
    json_keys_check(item, (const char *[]){"type", "single", "pair", "special_tokens", NULL},
                    "post_processor TemplateProcessing", path);
    int sequences = 0;
    cJSON_ArrayForEach(part, json_get(item, "single")) {
        const cJSON *special = json_get(part, "SpecialToken"), *id;
        if (!special) {
            sequences++;
            continue;
        }
        const char *name = json_string_of(special, "id", "post_processor", path);
        const cJSON *ids = json_get(json_get(json_get(item, "special_tokens"), name), "ids");
        if (!cJSON_IsArray(ids))
            die(EXIT_BAD_INPUT, "%s: post_processor: \"%s\" is not among its special_tokens", path,
                name);
        cJSON_ArrayForEach(id, ids) template_id(t, sequences ? &t->after : &t->before, id, path);
    }
    if (sequences != 1)
        die(EXIT_BAD_INPUT,
            "%s: post_processor: the template \"single\" has %d sequences, expected one", path,
            sequences);
}

// Read "decoder": there must be no other than ours.
static void decoder_check(const cJSON *item, const char *path) {
    if (!item || cJSON_IsNull(item)) return;
    const char *type = json_string_of(item, "type", "decoder", path);
    if (!strcmp(type, "Sequence")) {
        const cJSON *part;
        cJSON_ArrayForEach(part, json_get(item, "decoders")) decoder_check(part, path);
    } else if (strcmp(type, "ByteLevel"))
        die(EXIT_BAD_INPUT, "%s: decoder %s is not supported, expected ByteLevel", path, type);
}

// Read what "model" says beside vocabulary and merges.
static void model_options_load(Tokenizer *t, const cJSON *model, const char *path) {
    const cJSON *dropout = json_get(model, "dropout"), *unk = json_get(model, "unk_token");
    const char *affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    if (dropout && !cJSON_IsNull(dropout) && dropout->valuedouble != 0)
        die(EXIT_BAD_INPUT, "%s: model: dropout %g is not supported, expected null", path,
            dropout->valuedouble);
    for (int i = 0; i < COUNT(affixes); i++) {
        const cJSON *affix = json_get(model, affixes[i]);
        if (cJSON_IsString(affix) && *affix->valuestring)
            die(EXIT_BAD_INPUT, "%s: model: %s \"%s\" is not supported, expected none", path,
                affixes[i], affix->valuestring);
    }
    t->ignore_merges = json_bool_of(model, "ignore_merges", false, "model", path);
    t->fuse_unk = json_bool_of(model, "fuse_unk", false, "model", path);
    bool missing = false;
    for (int b = 0; b < 256; b++) missing |= t->byte_id[b] < 0;
    if (!missing)
        return; // every byte has a token: nothing is unknown, and there is nothing to fall back from
    if (json_bool_of(model, "byte_fallback", false, "model", path))
        die(EXIT_BAD_INPUT, "%s: model: byte_fallback is not supported", path);
    if (!cJSON_IsString(unk)) return;
    t->unk_piece = name_find(&t->names, unk->valuestring, strlen(unk->valuestring));
    if (t->unk_piece < 0)
        die(EXIT_BAD_INPUT, "%s: model: unk_token \"%s\" is not in the vocabulary", path,
            unk->valuestring);
}

// Which parts of tokenizer.json transformers does not use, because it builds the tokenizer anew.
static void unused_warn(const Tokenizer *t, const cJSON *json, const char *path) {
    const cJSON *pre = json_get(json, "pre_tokenizer"), *model = json_get(json, "model");
    const cJSON *type = json_get(pre, "type"), *normalizer = json_get(json, "normalizer");
    const bool prefix = json_bool_of(pre, "add_prefix_space", true, "pre_tokenizer", path);
    const bool regex = json_bool_of(pre, "use_regex", true, "pre_tokenizer", path);
    const char *unused[4];
    int n = 0;
    if (normalizer && !cJSON_IsNull(normalizer)) unused[n++] = "normalizer";
    if (!cJSON_IsString(type) || strcmp(type->valuestring, "ByteLevel") || !regex ||
        prefix != t->prefix_space)
        unused[n++] = "pre_tokenizer";
    if (cJSON_IsTrue(json_get(model, "ignore_merges"))) unused[n++] = "ignore_merges";
    if (json_get(model, "dropout") && json_get(model, "dropout")->valuedouble > 0)
        unused[n++] = "dropout";
    if (n)
        warn(
            "%s: %s%s%s%s%s not used, here as in transformers 5, which builds a GPT2Tokenizer anew "
            "(tokenizer_class PreTrainedTokenizerFast in tokenizer_config.json makes it count)",
            path, unused[0], n > 1 ? ", " : "", n > 1 ? unused[1] : "", n > 2 ? ", .." : "",
            n > 1 ? " are" : " is");
}

// ------------------------------------------------------------------------------------------------
// Vocabulary and merges

// The next line of `file` from *at on, without its newline (LF or CRLF); false at the end.
static bool line_next(const Text *file, size_t *at, const char **line, size_t *n) {
    if (*at >= file->size) return false;
    *line = file->data + *at;
    const char *end = memchr(*line, '\n', file->size - *at);
    *n = end ? (size_t)(end - *line) : file->size - *at;
    *at += *n + 1;
    if (*n && (*line)[*n - 1] == '\r') --*n;
    return true;
}

// Only the first line can be the version: merges such as "# #" begin with the same sign.
static bool line_is_version(const char *line, size_t n, long number) {
    return number == 1 && n >= 8 && !memcmp(line, "#version", 8);
}

// Fill the merges from merges.txt: one a line, the two parts separated by one space.
static void merges_load(Tokenizer *t, const Text *file, const char *path) {
    size_t at = 0, n, lines = 0;
    const char *line;
    impostor_check(path, file->data, file->size, WANT_MERGES);
    while (line_next(file, &at, &line, &n)) lines++;
    merges_begin(t, lines, path);
    at = 0;
    int rank = 0;
    for (long number = 1; line_next(file, &at, &line, &n); number++) {
        if (line_is_version(line, n, number)) continue;
        if (utf8_check(line, n) < n || memchr(line, 0, n))
            die(EXIT_BAD_INPUT, "%s:%ld: not a line of UTF-8 text", path, number);
        const char *space = memchr(line, ' ', n);
        size_t left_n = space ? (size_t)(space - line) : 0;
        size_t right_n = space ? n - left_n - 1 : 0;
        if (!left_n || !right_n || memchr(space + 1, ' ', right_n))
            die(EXIT_BAD_INPUT, "%s:%ld: expected two tokens separated by one space", path, number);
        char *where = text_format("%s:%ld", path, number);
        merge_add(t, rank++, line, left_n, space + 1, right_n, where);
        free(where);
    }
}

// Fill the merges from those of tokenizer.json: "a b" in older files, ["a", "b"] in newer ones.
static void merges_load_json(Tokenizer *t, const cJSON *merges, const char *path) {
    const cJSON *item;
    int rank = 0;
    merges_begin(t, (size_t)cJSON_GetArraySize(merges), path);
    cJSON_ArrayForEach(item, merges) {
        const cJSON *left = cJSON_IsArray(item) ? item->child : NULL;
        const cJSON *right = left ? left->next : NULL;
        const char *space = cJSON_IsString(item) ? strchr(item->valuestring, ' ') : NULL;
        if (space && !strchr(space + 1, ' '))
            merge_add(t, rank++, item->valuestring, (size_t)(space - item->valuestring), space + 1,
                      strlen(space + 1), path);
        else if (cJSON_IsString(left) && cJSON_IsString(right) && !right->next)
            merge_add(t, rank++, left->valuestring, strlen(left->valuestring), right->valuestring,
                      strlen(right->valuestring), path);
        else die(EXIT_BAD_INPUT, "%s: an entry of merges is not a pair of tokens", path);
    }
}

// Say so where the vocabulary has pieces of several bytes, but no merge makes any.
static void merges_warn(const Tokenizer *t, const char *dir) {
    for (size_t i = 0; i < t->merge_slots; i++)
        if (t->merges[i].result >= 0) return;
    if (!t->ignore_merges && t->n_pieces > 256 + t->n_added)
        warn("%s: the tokenizer has %d tokens and no merges: every text becomes single bytes", dir,
             t->n_pieces);
}

// Where vocab.json and merges.txt are beside a tokenizer.json, the latter counts, as in transformers:
// say so if they are not the same.
static void contradiction_warn(const Tokenizer *t, const char *dir, int n_merges,
                               const char *path) {
    const Text *merges = tokenizer_file(t, "merges.txt");
    char *vocab_path;
    cJSON *vocab = file_json(t, dir, "vocab.json", &vocab_path), *item;
    int same = 0, count = 0;
    cJSON_ArrayForEach(item, vocab) {
        const int id = name_find(&t->names, item->string, strlen(item->string));
        same += id >= 0 && id == item->valuedouble;
        count++;
    }
    if (vocab && (same != count || count != t->n_pieces))
        warn("%s and vocab.json disagree; tokenizer.json counts, here as in transformers 5", path);
    size_t at = 0, n;
    const char *line;
    same = count = 0;
    for (long number = 1; merges && line_next(merges, &at, &line, &n); number++) {
        const char *space = memchr(line, ' ', n);
        if (line_is_version(line, n, number) || !space) continue;
        const int left = name_find(&t->names, line, (size_t)(space - line));
        const int right = name_find(&t->names, space + 1, n - (size_t)(space + 1 - line));
        const Merge *merge = merge_slot(t, left, right);
        same += left >= 0 && right >= 0 && merge->result >= 0 && merge->rank == count;
        count++;
    }
    if (merges && (same != count || count != n_merges))
        warn("%s and merges.txt disagree; tokenizer.json counts, here as in transformers 5", path);
    cJSON_Delete(vocab);
    free(vocab_path);
}

// ------------------------------------------------------------------------------------------------
// Tokens

// A token as a file describes it, before it is added.
typedef struct {
    AddedToken token;     // its name belongs to the cJSON tree
    int64_t id;           // that it must get
    int order;            // place in the file
    bool says_normalized; // otherwise it is what `special` is not
    bool bare;            // a name and nothing else
} TokenEntry;

// Read name and flags of a token: a string, or an object with the name in "content". False if the
// item is neither.
static bool entry_read(TokenEntry *e, const cJSON *item, const char *path) {
    const cJSON *content = cJSON_IsObject(item) ? json_get(item, "content") : item;
    if (!cJSON_IsString(content)) return false;
    *e = (TokenEntry){.token.name = content->valuestring, .id = -1};
    if (!*e->token.name) die(EXIT_BAD_INPUT, "%s: an added token is empty", path);
    if (!cJSON_IsObject(item)) {
        e->bare = e->token.special = true;
        return true;
    }
    json_keys_check(item,
                    (const char *[]){"content", "id", "special", "normalized", "single_word",
                                     "lstrip", "rstrip", "__type", NULL},
                    "added token", path);
    e->token.special = json_bool_of(item, "special", false, e->token.name, path);
    e->token.single_word = json_bool_of(item, "single_word", false, e->token.name, path);
    e->token.lstrip = json_bool_of(item, "lstrip", false, e->token.name, path);
    e->token.rstrip = json_bool_of(item, "rstrip", false, e->token.name, path);
    e->token.normalized = json_bool_of(item, "normalized", false, e->token.name, path);
    e->says_normalized = json_get(item, "normalized") != NULL;
    return true;
}

// Add the token of an entry; dies if it gets another id than the file says.
static void token_entry_add(Tokenizer *t, TokenEntry *e, const char *path) {
    const AddedToken *other = NULL;
    if (!e->says_normalized) e->token.normalized = !e->token.special;
    for (int i = 0; i < t->n_added; i++)
        if (t->added[i].id == e->id) other = &t->added[i];
    if (other && strcmp(other->name, e->token.name))
        die(EXIT_BAD_INPUT, "%s: id %" PRId64 " used by \"%s\" and \"%s\"", path, e->id,
            other->name, e->token.name);
    const int id = tokenizer_add(t, &e->token);
    if (e->id >= 0 && e->id != id)
        die(EXIT_BAD_INPUT,
            "%s: added token \"%s\" has id %" PRId64 ", expected %d, which transformers gives it",
            path, e->token.name, e->id, id);
    const AddedToken *added = added_find(t, e->token.name);
    if (added->search[1] && !*added->pattern)
        die(EXIT_BAD_INPUT, "%s: nothing is left of added token \"%s\" when it is normalized", path,
            e->token.name);
    for (int i = 0; i < t->n_added; i++) // the library takes one of them by chance
        if (&t->added[i] != added && added->search[1] && t->added[i].search[1] &&
            !strcmp(t->added[i].pattern, added->pattern))
            die(EXIT_BAD_INPUT, "%s: added tokens \"%s\" and \"%s\" are the same when normalized",
                path, t->added[i].name, added->name);
}

// For qsort: by id, then as they came.
static int entry_compare(const void *a, const void *b) {
    const TokenEntry *x = a, *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->order - y->order;
}

// Append an entry with its id; one of the same id that came before gives way.
static void entry_append(TokenEntry **list, int *n, TokenEntry e) {
    int i = 0;
    while (i < *n && (*list)[i].id != e.id) i++;
    if (i < *n && strcmp((*list)[i].token.name, e.token.name))
        die(EXIT_BAD_INPUT, "id %" PRId64 " used by \"%s\" and \"%s\"", e.id, (*list)[i].token.name,
            e.token.name);
    if (i == *n) *list = mem_resize(*list, (size_t)++ * n, sizeof **list);
    e.order = i;
    (*list)[i] = e;
}

// Append the tokens of a list of objects with "content" and id, which is "id" or the object's key.
static void entries_load(TokenEntry **list, int *n, const cJSON *items, const char *path) {
    const cJSON *item;
    cJSON_ArrayForEach(item, items) {
        TokenEntry e;
        const cJSON *number = json_get(item, "id");
        char *end = "x";
        int64_t id = item->string ? strtoll(item->string, &end, 10) : 0;
        bool good = number ? json_integer(number, &id) : item->string && *item->string && !*end;
        const bool named = entry_read(&e, item, path) && cJSON_IsObject(item);
        if (!named || !good || id < 0)
            die(EXIT_BAD_INPUT, "%s: added token \"%s\" lacks a name or an id", path,
                named          ? e.token.name
                : item->string ? item->string
                               : "");
        e.id = id;
        entry_append(list, n, e);
    }
}

// The token of a role or list: true with its entry in *e, false for null.
static bool role_read(TokenEntry *e, const cJSON *item, const char *key, const char *path) {
    if (!item || cJSON_IsNull(item)) return false;
    if (!entry_read(e, item, path))
        die(EXIT_BAD_INPUT, "%s: %s is neither a token nor null", path, key);
    return true;
}

// Tokens that roles and lists ask for, each once: a name alone is not the same as one with flags.
typedef struct {
    TokenEntry *entries; // (n)
    int n;
    int known; // so many tokens had been added before: these stay as they are
} Asked;

// Add a special token that a role or list asks for.
static void asked_add(Tokenizer *t, Asked *asked, TokenEntry e, const char *path) {
    const AddedToken *added = added_find(t, e.token.name), *a = &e.token;
    if (added && added < t->added + asked->known) return;
    e.token.special = true;
    for (int i = 0; i < asked->n; i++) {
        const AddedToken *b = &asked->entries[i].token;
        if (!strcmp(a->name, b->name) && e.bare == asked->entries[i].bare &&
            a->normalized == b->normalized && a->single_word == b->single_word &&
            a->lstrip == b->lstrip && a->rstrip == b->rstrip)
            return;
    }
    asked->entries = mem_resize(asked->entries, (size_t)asked->n + 1, sizeof e);
    asked->entries[asked->n++] = e;
    token_entry_add(t, &e, path);
}

// Add all tokens in the order of transformers, and note the roles. `settings` are those of
// settings_merge, `list` is added_tokens.json or NULL.
static void tokens_load(Tokenizer *t, const cJSON *settings, const cJSON *json, const cJSON *list,
                        bool rebuilt, const char *json_path, const char *path,
                        const char *list_path) {
    const cJSON *decoder = json_get(settings, "added_tokens_decoder"), *item;
    const cJSON *extra = json_get(settings, "extra_special_tokens");
    const cJSON *padding = json_get(json, "padding");
    TokenEntry roles[ROLES] = {0}, *entries = NULL, e;
    bool has[ROLES];
    int n = 0;
    for (int r = 0; r < ROLES; r++) {
        item = json_get(settings, role_keys[r]);
        has[r] = role_read(&roles[r], item, role_keys[r], path);
        if (rebuilt && !item && r <= ROLE_UNK) {
            has[r] = true;
            roles[r] = (TokenEntry){
                .token = {.name = END_OF_TEXT, .special = true}, .id = -1, .bare = true};
        }
        if (!rebuilt && !item && r == ROLE_PAD && json_get(padding, "pad_token"))
            has[r] = role_read(&roles[r], json_get(padding, "pad_token"), "padding", json_path);
    }
    t->eos_named = has[ROLE_EOS] && json_get(settings, role_keys[ROLE_EOS]);
    if (!rebuilt) { // tokenizer.json as the tokenizers library reads it
        entries_load(&entries, &n, json_get(json, "added_tokens"), json_path);
        for (int i = 0; i < n; i++) token_entry_add(t, &entries[i], json_path);
    }
    n = 0;
    entries_load(&entries, &n, decoder, path);
    if (!decoder) { // older ways, the last of which wins
        cJSON_ArrayForEach(item, list) {
            int64_t id;
            if (!json_integer(item, &id) || id < 0)
                die(EXIT_BAD_INPUT, "%s: added token \"%s\" lacks a name or an id", list_path,
                    item->string ? item->string : "");
            if (!*item->string) die(EXIT_BAD_INPUT, "%s: an added token is empty", list_path);
            bool special = false;
            for (int r = 0; r < ROLES; r++)
                special |= has[r] && json_get(settings, role_keys[r]) &&
                           !strcmp(roles[r].token.name, item->string);
            const cJSON *one;
            cJSON_ArrayForEach(one, extra) special |=
                entry_read(&e, one, path) && !strcmp(e.token.name, item->string);
            e = (TokenEntry){.token = {.name = item->string, .special = special}, .id = id};
            entry_append(&entries, &n, e);
        }
        entries_load(&entries, &n, json_get(json, "added_tokens"), json_path);
    }
    if (n) qsort(entries, (size_t)n, sizeof *entries, entry_compare);
    for (int i = 0; i < n; i++) {
        for (int r = 0; r < ROLES; r++)
            entries[i].token.special |=
                has[r] && !strcmp(roles[r].token.name, entries[i].token.name);
        token_entry_add(t, &entries[i], decoder ? path : list ? list_path : json_path);
    }
    free(entries);
    Asked asked = {.known = t->n_added};
    for (int r = 0; r < ROLES; r++)
        if (has[r]) asked_add(t, &asked, roles[r], path);
    cJSON_ArrayForEach(item, settings) {
        if (is_own_token(item) && role_read(&e, item, item->string, path))
            asked_add(t, &asked, e, path);
    }
    cJSON_ArrayForEach(item, json_get(settings, OWN_TOKENS)) {
        if (role_read(&e, item, item->string, path)) asked_add(t, &asked, e, path);
    }
    cJSON_ArrayForEach(item, extra) {
        if (role_read(&e, item, "extra_special_tokens", path)) asked_add(t, &asked, e, path);
    }
    free(asked.entries);
    t->bos_id = has[ROLE_BOS] ? tokenizer_find(t, roles[ROLE_BOS].token.name) : -1;
    t->eos_id = has[ROLE_EOS] ? tokenizer_find(t, roles[ROLE_EOS].token.name) : -1;
    t->pad_id = has[ROLE_PAD] ? tokenizer_find(t, roles[ROLE_PAD].token.name) : -1;
    t->unk_id = has[ROLE_UNK] ? tokenizer_find(t, roles[ROLE_UNK].token.name) : -1;
    if (t->eos_id >= 0) return;
    t->eos_id = tokenizer_find(t, END_OF_TEXT);
    if (t->eos_id < 0)
        die(EXIT_BAD_INPUT, "%s: there is no eos_token, and no " END_OF_TEXT " to take for it",
            path);
    warn("%s: no eos_token is named; " END_OF_TEXT " is taken for it", path);
}

// ------------------------------------------------------------------------------------------------
// Loading

// Die unless every byte has a token, or the unknown one stands for those that have none.
static void bytes_check(const Tokenizer *t, const char *path) {
    for (int b = 0; b < 256 && t->unk_piece < 0; b++) {
        char name[4];
        const int n = utf8_encode(name, byte_glyph(b));
        if (t->byte_id[b] < 0)
            die(EXIT_BAD_INPUT,
                "%s lacks byte token \"%.*s\" (byte 0x%02X): not a byte-level GPT-2 vocabulary",
                path, n, name, b);
    }
}

// Vocabulary and merges from tokenizer.json, whose "vocab" is taken out of it.
static void vocabulary_from_json(Tokenizer *t, cJSON *json, bool rebuilt, const char *dir,
                                 const char *path) {
    static const char *const keys[] = {
        "version",       "truncation",     "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    static const char *const model_keys[] = {"type",
                                             "dropout",
                                             "unk_token",
                                             "continuing_subword_prefix",
                                             "end_of_word_suffix",
                                             "fuse_unk",
                                             "byte_fallback",
                                             "ignore_merges",
                                             "vocab",
                                             "merges",
                                             NULL};
    cJSON *model = cJSON_GetObjectItemCaseSensitive(json, "model");
    const cJSON *type = json_get(model, "type"), *merges = json_get(model, "merges");
    json_keys_check(json, keys, "tokenizer", path);
    if (!cJSON_IsObject(json_get(model, "vocab")) || !cJSON_IsArray(merges) ||
        (cJSON_IsString(type) && strcmp(type->valuestring, "BPE")))
        die(EXIT_BAD_INPUT, "%s: expected a BPE model with vocab and merges", path);
    json_keys_check(model, model_keys, "model", path);
    t->vocab = cJSON_DetachItemFromObjectCaseSensitive(model, "vocab");
    vocab_load(t, path);
    if (!rebuilt) model_options_load(t, model, path);
    bytes_check(t, path);
    merges_load_json(t, merges, path);
    contradiction_warn(t, dir, cJSON_GetArraySize(merges), path);
}

// Vocabulary and merges from vocab.json and merges.txt.
static void vocabulary_from_files(Tokenizer *t, const char *dir) {
    char *vocab_path = path_join(dir, "vocab.json"), *merges_path = path_join(dir, "merges.txt");
    size_t n;
    if (!tokenizer_file(t, "vocab.json")) free(file_read(vocab_path, &n)); // dies and says why
    if (!tokenizer_file(t, "merges.txt")) free(file_read(merges_path, &n));
    const Text *vocab = tokenizer_file(t, "vocab.json");
    t->vocab = json_parse(vocab->data, vocab->size, vocab_path, 1);
    vocab_load(t, vocab_path);
    bytes_check(t, vocab_path);
    merges_load(t, tokenizer_file(t, "merges.txt"), merges_path);
    free(vocab_path), free(merges_path);
}

// Load the tokenizer of the checkpoint directory `dir`; dies (EXIT_BAD_INPUT) with one sentence if
// something does not fit together or is not supported.
static void tokenizer_load(Tokenizer *t, const char *dir) {
    *t = (Tokenizer){.unk_piece = -1};
    if (!path_is_dir(dir))
        die(EXIT_BAD_INPUT, "%s: %s", dir,
            path_is_file(dir) ? "is a file, expected a checkpoint directory" : "no such directory");
    files_load(t, dir);
    char *json_path, *config_path, *map_path, *list_path;
    cJSON *json = file_json(t, dir, "tokenizer.json", &json_path), *model_config = NULL;
    cJSON *config = file_json(t, dir, "tokenizer_config.json", &config_path);
    cJSON *map = file_json(t, dir, "special_tokens_map.json", &map_path);
    cJSON *list = file_json(t, dir, "added_tokens.json", &list_path);

    char *class_path = text_copy(config_path);
    const cJSON *class = json_get(config, "tokenizer_class"); // or that of the model's config.json
    if (!cJSON_IsString(class)) {
        free(class_path);
        class_path = path_join(dir, "config.json");
        if (path_is_file(class_path)) model_config = json_read(class_path);
        class = json_get(model_config, "tokenizer_class");
    }
    const bool rebuilt =
        class_is_rebuilt(cJSON_IsString(class) ? class->valuestring : NULL, json, class_path);
    settings_check(config, rebuilt, json != NULL, config_path);
    cJSON *settings = settings_merge(config, map);
    t->split_special =
        json_bool_of(settings, "split_special_tokens", false, "split_special_tokens", config_path);

    if (json) vocabulary_from_json(t, json, rebuilt, dir, json_path);
    else vocabulary_from_files(t, dir);
    if (rebuilt) {
        t->prefix_space =
            json_bool_of(settings, "add_prefix_space", false, "add_prefix_space", config_path);
        if (json) unused_warn(t, json, json_path);
    } else {
        bool byte_level = false;
        const cJSON *pre = json_get(json, "pre_tokenizer");
        if (pre && !cJSON_IsNull(pre)) pre_tokenizer_load(t, pre, &byte_level, json_path);
        if (!byte_level)
            die(EXIT_BAD_INPUT, "%s: pre_tokenizer has no ByteLevel: not a byte-level tokenizer",
                json_path);
        normalizer_load(&t->normalizer, json_get(json, "normalizer"), json_path);
        decoder_check(json_get(json, "decoder"), json_path);
    }
    tokens_load(t, settings, json, list, rebuilt, json_path, config ? config_path : dir, list_path);
    post_processor_load(t, json_get(json, "post_processor"), json_path);
    if (!json) { // beside a tokenizer.json these have no effect
        const bool bos = cJSON_IsTrue(json_get(settings, "add_bos_token"));
        const bool eos = cJSON_IsTrue(json_get(settings, "add_eos_token"));
        if (bos && t->bos_id >= 0) tokens_append(&t->before, t->bos_id);
        if (eos) tokens_append(&t->after, t->eos_id);
    }
    merges_warn(t, dir);
    t->files_pad = t->pad_id;
    t->files_added = t->n_added;
    cJSON_Delete(json), cJSON_Delete(config), cJSON_Delete(map), cJSON_Delete(list);
    cJSON_Delete(settings), cJSON_Delete(model_config);
    free(json_path), free(config_path), free(map_path), free(list_path), free(class_path);
}

// ------------------------------------------------------------------------------------------------
// Saving. The files go out as they came in. Where a token was added or made the padding token, the
// entries for it are amended. A directory with nothing but vocab.json and merges.txt gets the other
// two files: for the published vocabulary tokenizer.json is byte for byte that of the hub.

// The name of a token as files spell it.
static const char *token_name(const Tokenizer *t, int id) {
    const cJSON *item;
    for (int i = 0; i < t->n_added; i++)
        if (t->added[i].id == id) return t->added[i].name;
    cJSON_ArrayForEach(item, t->vocab) if ((int)item->valuedouble == id) return item->string;
    return "";
}

// Append the object of vocab.json in the order of ids.
static void vocab_json(Text *out, const Tokenizer *t) {
    const cJSON *item, **by_id = mem_alloc((size_t)t->n_pieces, sizeof *by_id);
    cJSON_ArrayForEach(item, t->vocab) by_id[(int)item->valuedouble] = item;
    for (int id = 0; id < t->n_pieces; id++) {
        text_append(out, id ? "," : "{", 1);
        text_json(out, by_id[id]->string, strlen(by_id[id]->string));
        text_print(out, ":%d", id);
    }
    text_append(out, "}", 1);
    free(by_id);
}

// For qsort: by id.
static int added_compare(const void *a, const void *b) {
    return ((const AddedToken *)a)->id - ((const AddedToken *)b)->id;
}

// A copy of the added tokens by id. Release with free(); the names stay the tokenizer's.
static AddedToken *added_by_id(const Tokenizer *t) {
    AddedToken *added = mem_alloc((size_t)t->n_added, sizeof *added);
    if (t->n_added) memcpy(added, t->added, (size_t)t->n_added * sizeof *added);
    qsort(added, (size_t)t->n_added, sizeof *added, added_compare);
    return added;
}

// What the hub's tokenizer.json says of <|endoftext|>; where nothing is normalized it is all the same.
static const char *normalized_word(const AddedToken *a) {
    return a->normalized || !strcmp(a->name, END_OF_TEXT) ? "true" : "false";
}

// Append tokenizer.json for a directory with vocab.json and merges.txt.
static void tokenizer_json(Text *out, const Tokenizer *t) {
    AddedToken *added = added_by_id(t);
    text_print(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    for (int i = 0; i < t->n_added; i++) {
        const AddedToken *a = &added[i];
        text_print(out, "%s{\"id\":%d,\"special\":%s,\"content\":", i ? "," : "", a->id,
                   a->special ? "true" : "false");
        text_json(out, a->name, strlen(a->name));
        text_print(out,
                   ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":%s}",
                   normalized_word(a));
    }
    free(added);
    text_print(out, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                    "\"add_prefix_space\":false,\"trim_offsets\":true},\"post_processor\":{"
                    "\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":false},"
                    "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                    "\"trim_offsets\":true},\"model\":{\"dropout\":null,\"unk_token\":null,"
                    "\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\","
                    "\"fuse_unk\":false,\"vocab\":");
    vocab_json(out, t);
    text_print(out, ",\"merges\":[");
    const Text *merges = tokenizer_file(t, "merges.txt");
    const char *line, *comma = "";
    size_t at = 0, n;
    for (long number = 1; line_next(merges, &at, &line, &n); number++) {
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
    const char *name = token_name(t, id);
    text_print(out, "  \"%s\": ", role);
    text_json(out, name, strlen(name));
    text_print(out, ",\n");
}

// Append the added tokens for tokenizer_config.json, if any is not in vocab.json: transformers 5
// makes the tokenizer from that file and this list, and would number such tokens anew without it.
static void added_json(Text *out, const Tokenizer *t) {
    if (t->vocab_size == t->n_pieces) return;
    AddedToken *added = added_by_id(t);
    text_print(out, "  \"added_tokens_decoder\": {");
    for (int i = 0; i < t->n_added; i++) {
        const AddedToken *a = &added[i];
        text_print(out, "%s\n    \"%d\": {\"content\": ", i ? "," : "", a->id);
        text_json(out, a->name, strlen(a->name));
        text_print(out,
                   ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                   "\"normalized\": %s, \"special\": %s}",
                   normalized_word(a), a->special ? "true" : "false");
    }
    free(added);
    text_print(out, "\n  },\n");
}

// Append tokenizer_config.json for a directory with vocab.json and merges.txt.
static void config_json(Text *out, const Tokenizer *t, int model_max_length) {
    text_print(out, "{\n  \"add_prefix_space\": false,\n");
    added_json(out, t);
    role_json(out, t, "bos_token", t->eos_id);
    role_json(out, t, "eos_token", t->eos_id);
    role_json(out, t, "pad_token", t->pad_id);
    role_json(out, t, "unk_token", t->eos_id);
    text_print(out, "  \"model_max_length\": %d,\n  \"tokenizer_class\": \"GPT2Tokenizer\"\n}\n",
               model_max_length);
}

// An added token as an object, with its id if `with_id`.
static cJSON *added_object(const AddedToken *a, bool with_id) {
    cJSON *object = cJSON_CreateObject();
    if (with_id) cJSON_AddNumberToObject(object, "id", a->id);
    cJSON_AddStringToObject(object, "content", a->name);
    cJSON_AddBoolToObject(object, "single_word", a->single_word);
    cJSON_AddBoolToObject(object, "lstrip", a->lstrip);
    cJSON_AddBoolToObject(object, "rstrip", a->rstrip);
    cJSON_AddBoolToObject(object, "normalized", a->normalized);
    cJSON_AddBoolToObject(object, "special", a->special);
    return object;
}

// Set a string in an object, in its place or at the end.
static void json_set_string(cJSON *object, const char *key, const char *value) {
    cJSON *item = cJSON_CreateString(value);
    if (json_get(object, key)) cJSON_ReplaceItemInObjectCaseSensitive(object, key, item);
    else cJSON_AddItemToObject(object, key, item);
}

// Replace the text of a file by this JSON, on one line if it was so, and release the JSON.
static void file_print(Text *text, cJSON *root) {
    const bool lines = !text->data || memchr(text->data, '\n', text->size);
    char *printed = lines ? cJSON_Print(root) : cJSON_PrintUnformatted(root);
    if (!printed) die(EXIT_IO, "out of memory");
    text->size = 0;
    text_append(text, printed, strlen(printed));
    if (lines) text_append(text, "\n", 1);
    free(printed);
    cJSON_Delete(root);
}

// Amend the files: the tokens that were added since they were read, and the padding token.
static void files_amend(const Tokenizer *t, TokenizerFile **files, int *n) {
    const char *pad = token_name(t, t->pad_id);
    char *path;
    cJSON *json = file_json(t, "", "tokenizer.json", &path);
    free(path);
    cJSON *config = file_json(t, "", "tokenizer_config.json", &path);
    free(path);
    cJSON *map = file_json(t, "", "special_tokens_map.json", &path);
    free(path);
    cJSON *list = file_json(t, "", "added_tokens.json", &path);
    free(path);
    // All tokens with their ids in one place; what special_tokens_map.json said moves there, too,
    // since it is not read beside "added_tokens_decoder".
    cJSON *settings = settings_merge(config, map), *decoder = cJSON_CreateObject();
    for (cJSON *item = settings->child, *next; item; item = next) { // in one place, as transformers
        next = item->next;                                          // would keep only some of them
        if (is_own_token(item)) own_move(settings, settings, item);
    }
    AddedToken *added = added_by_id(t);
    cJSON *tokens = cJSON_GetObjectItemCaseSensitive(json, "added_tokens");
    if (json && !tokens) tokens = cJSON_AddArrayToObject(json, "added_tokens");
    for (int i = 0; i < t->n_added; i++) {
        const AddedToken *a = &added[i];
        char id[16];
        snprintf(id, sizeof id, "%d", a->id);
        cJSON_AddItemToObject(decoder, id, added_object(a, false));
        bool listed = false;
        const cJSON *token;
        cJSON_ArrayForEach(token, tokens) {
            const cJSON *content = json_get(token, "content");
            listed |= cJSON_IsString(content) && !strcmp(content->valuestring, a->name);
        }
        if (json && !listed) cJSON_AddItemToArray(tokens, added_object(a, true));
        if (list && !json_get(list, a->name) && a->id >= t->n_pieces)
            cJSON_AddNumberToObject(list, a->name, a->id);
    }
    free(added);
    cJSON_DeleteItemFromObjectCaseSensitive(settings, "added_tokens_decoder");
    cJSON_AddItemToObject(settings, "added_tokens_decoder", decoder);
    if (t->pad_id >= 0) json_set_string(settings, "pad_token", pad);
    if (t->pad_id >= 0 && map) json_set_string(map, "pad_token", pad);
    if (!config) files_add(files, n, text_copy("tokenizer_config.json"));
    for (int i = 0; i < *n; i++) {
        const char *name = (*files)[i].name;
        cJSON *root = !strcmp(name, "tokenizer.json")            ? json
                      : !strcmp(name, "tokenizer_config.json")   ? settings
                      : !strcmp(name, "special_tokens_map.json") ? map
                      : !strcmp(name, "added_tokens.json")       ? list
                                                                 : NULL;
        if (root) file_print(&(*files)[i].text, root);
    }
    cJSON_Delete(config);
}

// The files that a checkpoint directory needs for AutoTokenizer to find the same tokenizer again.
// Returns their number; release with tokenizer_files_free. `model_max_length` is for a directory
// that says nothing of it.
static int tokenizer_files(const Tokenizer *t, int model_max_length, TokenizerFile **files) {
    int n = 0;
    *files = NULL;
    for (int i = 0; i < t->n_files; i++) {
        Text *text = files_add(files, &n, text_copy(t->files[i].name));
        text_append(text, t->files[i].text.data, t->files[i].text.size);
    }
    if (n == 2 && tokenizer_file(t, "vocab.json") && tokenizer_file(t, "merges.txt")) {
        tokenizer_json(files_add(files, &n, text_copy("tokenizer.json")), t);
        config_json(files_add(files, &n, text_copy("tokenizer_config.json")), t, model_max_length);
    } else if (t->pad_id != t->files_pad || t->n_added != t->files_added) {
        files_amend(t, files, &n);
    }
    return n;
}

// Free what tokenizer_files gave.
static void tokenizer_files_free(TokenizerFile *files, int n) {
    for (int i = 0; i < n; i++) free(files[i].name), text_free(&files[i].text);
    free(files);
}

#endif
