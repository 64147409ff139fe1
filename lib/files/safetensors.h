// safetensors.h: the file format of weights, a strict reader and the header of a writer. It knows
// nothing of models or runs.
//
// A safetensors file is 8 bytes with N (little-endian), N bytes of JSON that name each tensor's
// type, shape and place, and then the data, packed: https://github.com/huggingface/safetensors.
// Readers in C have a record of trusting that JSON. This one believes nothing that it has not
// checked: every byte of the file must belong to exactly one tensor, or the file is refused.
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include "../base/common.h"   // defines: die, Text
#include "../base/disk.h"     // defines: disk_open, disk_read
#include "../base/impostor.h" // defines: impostor_check
#include "../base/json.h"     // defines: json_get

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors data is little-endian, and so must this machine be"
#endif

// ------------------------------------------------------------------------------------------------
// Reading. The order of checks matters: no size is used before it has been bounded.

typedef struct {
    const char *name; // "F32"
    int bits;         // per element
} SafeType;

// Every type of the format: old GPT-2 files hold masks as U8 or BOOL, and a file may hold tensors
// that we skip. Only F32, F16 and BF16 can become weights.
static const SafeType safe_types[] = {
    {"F32", 32},        {"F16", 16},    {"BF16", 16},   {"BOOL", 8},    {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"I32", 32},    {"U32", 32},
    {"F64", 64},        {"I64", 64},    {"U64", 64},    {"C64", 64},    {"F4", 4},
    {"F6_E2M3", 6},     {"F6_E3M2", 6},
};

typedef struct {
    const char *name;           // the header's own copy
    const SafeType *type;       // into safe_types
    int rank;                   // 0 for a scalar
    uint64_t dims[4];           // the first four of the shape
    uint64_t count, begin, end; // elements; bytes, counted from the start of the data
} SafeTensor;

typedef struct {
    char *path;
    int fd;
    uint64_t data;       // where the data starts in the file
    cJSON *header;       // owns the names
    SafeTensor *tensors; // in the order of their data
    int n;
} SafeFile;

#define SAFE_MAX_HEADER 100000000u        // bytes, the reference's limit
#define SAFE_MAX_INTEGER 281474976710655u // 2^48 - 1, from the format's schema

// Close the file and forget its header; also after a failed open.
static void safetensors_close(SafeFile *f) {
    if (f->fd >= 0) close(f->fd);
    cJSON_Delete(f->header);
    free(f->tensors), free(f->path);
    *f = (SafeFile){.fd = -1};
}

// "[768,2304]" into s.
static const char *safe_shape(char s[96], int rank, const uint64_t dims[4]) {
    int at = snprintf(s, 96, "[");
    for (int i = 0; i < rank && i < 4; i++)
        at += snprintf(s + at, (size_t)(96 - at), "%s%" PRIu64, i ? "," : "", dims[i]);
    snprintf(s + at, (size_t)(96 - at), rank > 4 ? ",..]" : "]");
    return s;
}

// The length of the header makes no sense: die with what the file is, if that can be told by its first
// bytes (n). To be asked only then: a length of 640 looks like the start of a pickle.
static void safe_check_impostor(const char *path, const char *first, size_t n) {
    size_t text = 0, line = 0;
    impostor_check(path, first, n, WANT_WEIGHTS);
    while (text < n && (isprint((unsigned char)first[text]) || first[text] == '\n')) text++;
    if (text < n) return;
    while (line < n && first[line] != '\n') line++;
    die(EXIT_BAD_INPUT, "%s: is a text that begins \"%.*s\", expected safetensors", path, (int)line,
        first);
}

// cJSON has only doubles, so whether a number was written as a plain integer is seen in the text:
// no sign, fraction or exponent anywhere in a header. text[0..n) is valid JSON.
static void safe_check_integers(const char *path, const char *text, size_t n) {
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        if (in_string && text[i] == '\\') i++;
        else if (text[i] == '"') in_string = !in_string;
        else if (!in_string && (text[i] == '-' || (text[i] >= '0' && text[i] <= '9'))) {
            size_t length = strspn(text + i, "+-.0123456789eE");
            if (strspn(text + i, "0123456789") != length)
                die(EXIT_BAD_INPUT, "%s: header: %.*s at byte %zu is not a plain integer", path,
                    (int)(length < 40 ? length : 40), text + i, i);
            i += length - 1;
        }
    }
}

// An integer of the header. Bounding the double also bounds what rounding may have changed.
static bool safe_integer(const cJSON *item, uint64_t *value) {
    if (!cJSON_IsNumber(item) || !(item->valuedouble <= (double)SAFE_MAX_INTEGER)) return false;
    *value = (uint64_t)item->valuedouble;
    return true;
}

// One entry of the header: {"dtype": .., "shape": [..], "data_offsets": [begin, end]}, each key
// once (the JSON parser has refused repeats) and no other.
static SafeTensor safe_entry(const char *path, const cJSON *entry) {
    SafeTensor t = {.name = entry->string, .count = 1};
    const cJSON *type = json_get(entry, "dtype"), *shape = json_get(entry, "shape"), *dim;
    const cJSON *offsets = json_get(entry, "data_offsets");
    if (!cJSON_IsString(type) || !cJSON_IsArray(shape) || !cJSON_IsArray(offsets) ||
        cJSON_GetArraySize(entry) != 3)
        die(EXIT_BAD_INPUT, "%s: tensor \"%s\": expected dtype, shape and data_offsets, no more",
            path, t.name);
    for (int i = 0; i < COUNT(safe_types); i++)
        if (!strcmp(type->valuestring, safe_types[i].name)) t.type = &safe_types[i];
    if (!t.type)
        die(EXIT_BAD_INPUT, "%s: tensor \"%s\": unknown dtype \"%s\"", path, t.name,
            type->valuestring);

    // The number of bits, multiplied with a check at each step: a shape that wraps around to
    // "empty" has been the hole in more than one reader.
    char text[96];
    bool fits = true;
    cJSON_ArrayForEach(dim, shape) {
        uint64_t d = 0;
        if (!cJSON_IsNumber(dim))
            die(EXIT_BAD_INPUT, "%s: tensor \"%s\": shape is not all integers", path, t.name);
        fits = safe_integer(dim, &d) && !__builtin_mul_overflow(t.count, d, &t.count) && fits;
        if (t.rank < 4) t.dims[t.rank] = fits ? d : (uint64_t)fmin(dim->valuedouble, 1.8e19);
        t.rank++;
    }
    // Some types have 4 or 6 bits, so sizes are counted in bits and must come to whole bytes.
    uint64_t bits = 0;
    if (!fits || __builtin_mul_overflow(t.count, (uint64_t)t.type->bits, &bits))
        die(EXIT_BAD_INPUT, "%s: tensor \"%s\": shape %s overflows", path, t.name,
            safe_shape(text, t.rank, t.dims));

    if (cJSON_GetArraySize(offsets) != 2 || !safe_integer(offsets->child, &t.begin) ||
        !safe_integer(offsets->child->next, &t.end))
        die(EXIT_BAD_INPUT, "%s: tensor \"%s\": data_offsets are not two integers below 2^48", path,
            t.name);
    if (t.begin > t.end)
        die(EXIT_BAD_INPUT, "%s: tensor \"%s\": data_offsets end before begin", path, t.name);
    if (bits % 8 || t.end - t.begin != bits / 8)
        die(EXIT_BAD_INPUT,
            "%s: tensor \"%s\": %" PRIu64 " bytes stored, shape %s x %s needs %" PRIu64, path,
            t.name, t.end - t.begin, safe_shape(text, t.rank, t.dims), t.type->name,
            bits / 8 + (bits % 8 > 0));
    return t;
}

// By place in the data. Both ends count, so that an empty tensor comes before its neighbour.
static int safe_compare(const void *a, const void *b) {
    const SafeTensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

// Open a file and check all of its header; dies if anything is wrong. Close with
// safetensors_close().
static void safetensors_open(SafeFile *f, const char *path) {
    struct stat st;

    // A regular file, so that its size means something (a pipe would also wait for ever).
    *f = (SafeFile){.path = text_copy(path), .fd = disk_open(path, O_RDONLY)};
    if (f->fd < 0 && errno == ENOENT) die(EXIT_BAD_INPUT, "%s: no such file", path);
    if (f->fd < 0 || fstat(f->fd, &st)) die(EXIT_IO, "%s: cannot open: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) die(EXIT_BAD_INPUT, "%s: is not a regular file", path);

    // The header's length, against the limit and the file's size before memory is asked for.
    uint64_t size = (uint64_t)st.st_size, n;
    char first[64];
    ssize_t have = disk_read(f->fd, first, sizeof first, 0);
    if (have < 0) die(EXIT_IO, "%s: cannot read: %s", path, strerror(errno));
    if (size < 8 || have < 8)
        die(EXIT_BAD_INPUT, "%s: %" PRIu64 " bytes, too short for a safetensors file", path, size);
    memcpy(&n, first, 8);
    if (n > SAFE_MAX_HEADER || n > size - 8) safe_check_impostor(path, first, (size_t)have);
    if (n > SAFE_MAX_HEADER)
        die(EXIT_BAD_INPUT, "%s: header length %" PRIu64 " exceeds the limit %u", path, n,
            SAFE_MAX_HEADER);
    if (n > size - 8)
        die(EXIT_BAD_INPUT,
            "%s: header length %" PRIu64 " runs past end of file (%" PRIu64
            " bytes): truncated or not safetensors",
            path, n, size);

    // The header: valid UTF-8, one JSON object, no key twice; blanks around it are allowed.
    char *text = mem_alloc((size_t)n + 1, 1), *label = text_format("%s: header", path);
    have = disk_read(f->fd, text, (size_t)n, 8);
    if (have != (ssize_t)n) die(EXIT_IO, "%s: cannot read the header", path);
    f->header = json_parse(text, (size_t)n, label, 1);
    if (!cJSON_IsObject(f->header)) die(EXIT_BAD_INPUT, "%s: header is not a JSON object", path);
    safe_check_integers(path, text, (size_t)n);
    free(text), free(label);

    // Each entry by itself: type, shape, and that the bytes are as many as these two need.
    f->data = 8 + n;
    f->tensors = mem_alloc((size_t)cJSON_GetArraySize(f->header), sizeof *f->tensors);
    const cJSON *entry, *value;
    cJSON_ArrayForEach(entry, f->header) {
        if (strcmp(entry->string, "__metadata__")) {
            f->tensors[f->n++] = safe_entry(path, entry);
            continue;
        }
        if (!cJSON_IsObject(entry)) die(EXIT_BAD_INPUT, "%s: __metadata__ is no object", path);
        cJSON_ArrayForEach(value, entry) {
            if (!cJSON_IsString(value))
                die(EXIT_BAD_INPUT, "%s: __metadata__ value \"%s\" is not a string", path,
                    value->string);
        }
    }

    // Each tensor begins where the one before it ends, and the last ends with the file: no
    // overlap, no hole, nothing missing, nothing hidden.
    qsort(f->tensors, (size_t)f->n, sizeof *f->tensors, safe_compare);
    uint64_t end = 0, stored = size - f->data;
    for (int i = 0; i < f->n; i++) {
        const SafeTensor *t = &f->tensors[i];
        if (t->begin < end)
            die(EXIT_BAD_INPUT,
                "%s: tensor \"%s\" starts at %" PRIu64 ", expected %" PRIu64 " (overlap)", path,
                t->name, t->begin, end);
        if (t->begin > end)
            die(EXIT_BAD_INPUT,
                "%s: tensor \"%s\" starts at %" PRIu64 ", expected %" PRIu64 ", gap of %" PRIu64,
                path, t->name, t->begin, end, t->begin - end);
        end = t->end;
    }
    if (end > stored)
        die(EXIT_BAD_INPUT,
            "%s: data ends at %" PRIu64 ", header describes %" PRIu64 ": file truncated", path,
            stored, end);
    if (end < stored)
        die(EXIT_BAD_INPUT, "%s: %" PRIu64 " unexplained bytes after the last tensor", path,
            stored - end);
}

// The tensor of this name, or NULL.
static const SafeTensor *safetensors_find(const SafeFile *f, const char *name) {
    for (int i = 0; i < f->n; i++)
        if (!strcmp(f->tensors[i].name, name)) return &f->tensors[i];
    return NULL;
}

// IEEE half precision to single: 5 bits of exponent, 10 of mantissa, with subnormals, Inf and NaN.
static float safe_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h >> 15) << 31, exponent = h >> 10 & 31, mantissa = h & 1023, bits;
    if (exponent == 0) { // zero and subnormals: mantissa * 2^-24 is exact in single precision
        float x = (float)mantissa * 0x1p-24f;
        return sign ? -x : x;
    }
    bits = sign | (exponent == 31 ? 255 : exponent + 112) << 23 | mantissa << 13;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// Read elements [first, first + n) of a tensor, which must be inside it, as floats. F32 goes
// straight from the file to `out`, the 16-bit types through a small buffer.
static void safetensors_read(const SafeFile *f, const SafeTensor *t, uint64_t first, size_t n,
                             float *out) {
    bool f32 = t->type == &safe_types[0], f16 = t->type == &safe_types[1];
    if (!f32 && !f16 && t->type != &safe_types[2])
        die(EXIT_BAD_INPUT, "%s: tensor \"%s\" has dtype %s; F32, F16 or BF16 needed", f->path,
            t->name, t->type->name);
    size_t bytes = (size_t)t->type->bits / 8;
    uint16_t half[4096];
    while (n > 0) {
        size_t part = f32 || n < 4096 ? n : 4096;
        void *to = f32 ? (void *)out : (void *)half;
        ssize_t got = disk_read(f->fd, to, part * bytes, f->data + t->begin + first * bytes);
        if (got < 0) die(EXIT_IO, "%s: cannot read: %s", f->path, strerror(errno));
        if ((size_t)got != part * bytes)
            die(EXIT_IO, "%s: tensor \"%s\": the file shrank while it was read", f->path, t->name);
        for (size_t i = 0; !f32 && i < part; i++) {
            uint32_t bits = (uint32_t)half[i] << 16; // BF16 is the upper half of an F32
            if (f16) out[i] = safe_half(half[i]);
            else memcpy(&out[i], &bits, 4);
        }
        out += part, first += part, n -= part;
    }
}

// ------------------------------------------------------------------------------------------------
// Several files: `model.safetensors`, or the shards that an index names.

typedef struct {
    SafeFile *files;
    int n;
} SafeSet;

// Close all files of a set.
static void safetensors_close_all(SafeSet *set) {
    for (int i = 0; i < set->n; i++) safetensors_close(&set->files[i]);
    free(set->files);
    *set = (SafeSet){0};
}

// The shards of an index {"metadata": {..}, "weight_map": {tensor: file}}. Each tensor must be in
// the file named for it; the names must be bare, since an index may come from anywhere.
static void safe_open_index(SafeSet *set, const char *dir, const char *path) {
    cJSON *index = json_read(path), *item;
    const cJSON *map = json_get(index, "weight_map");
    if (!cJSON_IsObject(map)) die(EXIT_BAD_INPUT, "%s: no \"weight_map\"", path);
    cJSON_ArrayForEach(item, map) {
        const char *name = cJSON_IsString(item) ? item->valuestring : "";
        if (!*name || strchr(name, '/') || strchr(name, '\\') || name[0] == '.')
            die(EXIT_BAD_INPUT, "%s: index value \"%s\" is not a plain file name", path, name);
        char *file = path_join(dir, name);
        int at = 0;
        while (at < set->n && strcmp(set->files[at].path, file)) at++;
        if (at == set->n) { // named for the first time
            if (!path_is_file(file))
                die(EXIT_BAD_INPUT, "%s: index names \"%s\", not found", path, name);
            set->files = mem_resize(set->files, (size_t)set->n + 1, sizeof *set->files);
            safetensors_open(&set->files[set->n++], file);
        }
        if (!safetensors_find(&set->files[at], item->string))
            die(EXIT_BAD_INPUT, "%s: tensor \"%s\" is not in \"%s\" as the index says", path,
                item->string, name);
        free(file);
    }

    // What may be wrong without harm: a tensor that the index forgot, and the sum of the sizes.
    uint64_t total = 0;
    for (int i = 0; i < set->n; i++) {
        const SafeFile *f = &set->files[i];
        if (f->n) total += f->tensors[f->n - 1].end;
        for (int k = 0; k < f->n; k++)
            if (!json_get(map, f->tensors[k].name))
                warn("%s: tensor \"%s\" is not in the index", f->path, f->tensors[k].name);
    }
    int64_t said;
    if (json_integer(json_get(json_get(index, "metadata"), "total_size"), &said) &&
        (uint64_t)said != total)
        warn("%s: total_size is %" PRId64 ", the tensors have %" PRIu64 " bytes", path, said,
             total);
    cJSON_Delete(index);
}

// Open the weights of a checkpoint directory; dies if there are none. Like transformers, prefer
// the single file.
static void safetensors_open_dir(SafeSet *set, const char *dir) {
    // What is there instead, with what to do about it.
    static const char *const others[][2] = {
        {"pytorch_model.bin", "pickle is not read): re-save with safe_serialization"},
        {"pytorch_model.bin.index.json", "pickle is not read): re-save with safe_serialization"},
        {"tf_model.h5", "TensorFlow's): re-save with safe_serialization"},
        {"flax_model.msgpack", "Flax's): re-save with safe_serialization"},
        {"adapter_model.safetensors", "an adapter): merge it into its model first"},
    };
    *set = (SafeSet){0};
    char *single = path_join(dir, "model.safetensors");
    char *index = path_join(dir, "model.safetensors.index.json");
    if (path_is_dir(single)) die(EXIT_BAD_INPUT, "%s: is a directory, expected a file", single);
    if (path_is_file(single) || !path_is_file(index)) {
        for (int i = 0; i < COUNT(others) && !path_is_file(single); i++) {
            char *other = path_join(dir, others[i][0]);
            if (path_is_file(other))
                die(EXIT_BAD_INPUT, "%s: no model.safetensors; found %s (%s", dir, others[i][0],
                    others[i][1]);
            free(other);
        }
        if (!path_is_file(single)) die(EXIT_BAD_INPUT, "%s: no model.safetensors", dir);
        set->files = mem_alloc(1, sizeof *set->files);
        set->n = 1;
        safetensors_open(&set->files[0], single);
    } else safe_open_index(set, dir, index);
    free(single), free(index);
}

// ------------------------------------------------------------------------------------------------
// Writing: all F32. The reference writer sorts by name (among tensors of one type), puts
// __metadata__ first, leaves out blanks, and pads the header with them to a multiple of 8 bytes;
// what follows here is the same to the byte.

typedef struct {
    char name[80];
    int rank;
    uint64_t dims[4];
    const float *data; // the product of dims floats
} SafeEntry;

// Byte order: h.10 comes before h.2.
static int safe_compare_names(const void *a, const void *b) {
    return strcmp(((const SafeEntry *)a)->name, ((const SafeEntry *)b)->name);
}

// Number of elements.
static uint64_t safe_entry_floats(const SafeEntry *e) {
    uint64_t count = 1;
    for (int i = 0; i < e->rank; i++) count *= e->dims[i];
    return count;
}

// Sort the entries and append the file's beginning to `out`: everything before the data, which is
// to follow in the order that the entries have afterwards. `format` goes into __metadata__
// (transformers wants "pt" there), NULL leaves it out.
static void safetensors_header(Text *out, SafeEntry *entries, int n, const char *format) {
    qsort(entries, (size_t)n, sizeof *entries, safe_compare_names);
    Text json = {0};
    uint64_t begin = 0;
    text_print(&json, "{");
    if (format) text_print(&json, "\"__metadata__\":{\"format\":\"%s\"}%s", format, n ? "," : "");
    for (int i = 0; i < n; i++) {
        char shape[96];
        uint64_t end = begin + 4 * safe_entry_floats(&entries[i]);
        text_json(&json, entries[i].name, strlen(entries[i].name));
        text_print(
            &json, ":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}%s",
            safe_shape(shape, entries[i].rank, entries[i].dims), begin, end, i + 1 < n ? "," : "");
        begin = end;
    }
    text_print(&json, "}");
    while (json.size % 8) text_append(&json, " ", 1);
    uint64_t size = json.size;
    text_append(out, &size, 8);
    text_append(out, json.data, json.size);
    text_free(&json);
}

#endif
