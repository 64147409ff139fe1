// normalizer.h: what a tokenizer does to a text before anything else, as the "normalizer" of a
// tokenizer.json says: lower case, Unicode's normal forms, stripping, replacing, prepending. The
// same as the `tokenizers` library does; the tables of unicode.h are its own answers. From top to bottom:
//
//   characters  classes of characters, the search in the tables
//   forms       NFC, NFD, NFKC, NFKD (Unicode Standard Annex 15)
//   steps       the Normalizer: read from JSON, applied to a text
#ifndef NORMALIZER_H
#define NORMALIZER_H

#include "common.h"
#include "json.h"
#include "unicode.h"

// ------------------------------------------------------------------------------------------------
// Characters

// The range that has `code`, or NULL. `ranges` (n) are in order.
static const UnicodeRange *range_find(const UnicodeRange *ranges, int n, uint32_t code) {
    int low = 0, high = n;
    while (low < high) { // find the first range that ends at or after `code`
        int middle = (low + high) / 2;
        if (ranges[middle].last < code) low = middle + 1;
        else high = middle;
    }
    return low < n && ranges[low].first <= code ? &ranges[low] : NULL;
}

// 'L', 'N', 'S' as in unicode.h, or 'O' for all other code points.
static char unicode_kind(uint32_t code) {
    if (code < 0x80) { // nearly all text
        if ((code | 0x20) - 'a' < 26) return 'L';
        if (code - '0' < 10) return 'N';
        return code == ' ' || code - '\t' < 5 ? 'S' : 'O';
    }
    const UnicodeRange *range = range_find(unicode_ranges, COUNT(unicode_ranges), code);
    return range ? range->kind : 'O';
}

// True for what the pre-tokenizer Digits takes for a digit: numbers of newer Unicode versions too.
static bool unicode_is_digit(uint32_t code) {
    return unicode_kind(code) == 'N' ||
           range_find(unicode_digits, COUNT(unicode_digits), code) != NULL;
}

// True for the characters of \w.
static bool unicode_is_word(uint32_t code) {
    return range_find(unicode_words, COUNT(unicode_words), code) != NULL;
}

// The canonical combining class: 0 for all but marks that are ordered by it.
static int unicode_mark_class(uint32_t code) {
    if (code < 0x300) return 0;
    const UnicodeRange *range = range_find(unicode_marks, COUNT(unicode_marks), code);
    return range ? (unsigned char)range->kind : 0;
}

// The code point at s[0..n), n > 0, and its length in *bytes. Texts have been checked to be UTF-8;
// a byte that is none would count as a character of its own, U+FFFF.
static uint32_t char_at(const char *s, size_t n, size_t *bytes) {
    uint32_t code = 0xFFFF;
    int length = utf8_decode(&code, s, n);
    *bytes = length ? (size_t)length : 1;
    return length ? code : 0xFFFF;
}

// The kind of the character at s[0..n), n > 0; *bytes is its length.
static char char_kind(const char *s, size_t n, size_t *bytes) {
    return unicode_kind(char_at(s, n, bytes));
}

// Where the character that ends before s[n], n > 0, begins.
static size_t char_before(const char *s, size_t n) {
    size_t at = n - 1;
    while (at > 0 && n - at < 4 && ((unsigned char)s[at] & 0xC0) == 0x80) at--;
    return at;
}

// Bytes of white space that s[0..n) begins with.
static size_t space_at_start(const char *s, size_t n) {
    size_t at = 0, bytes;
    while (at < n && char_kind(s + at, n - at, &bytes) == 'S') at += bytes;
    return at;
}

// Where the white space that s[0..n) ends with begins.
static size_t space_at_end(const char *s, size_t n) {
    while (n > 0) {
        size_t at = char_before(s, n), bytes;
        if (char_kind(s + at, n - at, &bytes) != 'S') break;
        n = at;
    }
    return n;
}

// Append one code point.
static void text_code(Text *out, uint32_t code) {
    char bytes[4];
    text_append(out, bytes, (size_t)utf8_encode(bytes, code));
}

// ------------------------------------------------------------------------------------------------
// Lower case and normal forms

// Append s[0..n) in lower case, each character by itself: no final sigma.
static void text_lower(Text *out, const char *s, size_t n) {
    for (size_t i = 0, bytes; i < n; i += bytes) {
        uint32_t code = char_at(s + i, n - i, &bytes);
        int low = 0, high = COUNT(unicode_lower);
        while (low < high) {
            int middle = (low + high) / 2;
            if (unicode_lower[middle].last < code) low = middle + 1;
            else high = middle;
        }
        const UnicodeLower *l = &unicode_lower[low];
        if (code == 0x130) text_append(out, "i\xCC\x87", 3); // the only one that becomes two
        else if (low < COUNT(unicode_lower) && l->first <= code &&
                 (code - l->first) % (uint32_t)l->step == 0)
            text_code(out, (uint32_t)((int64_t)code + l->difference));
        else text_append(out, s + i, bytes);
    }
}

// A text as code points.
typedef struct {
    uint32_t *data;
    size_t n, capacity;
} Codes;

static void codes_append(Codes *list, uint32_t code) {
    if (list->n == list->capacity) {
        list->capacity = 2 * list->capacity + 64;
        list->data = mem_resize(list->data, list->capacity, sizeof *list->data);
    }
    list->data[list->n++] = code;
}

// Hangul syllables are composed by arithmetic: leading consonant, vowel, trailing consonant.
enum { HANGUL = 0xAC00, LEAD = 0x1100, VOWEL = 0x1161, TRAIL = 0x11A7 };
enum { VOWELS = 21, TRAILS = 28, SYLLABLES = 19 * VOWELS * TRAILS };

// Append `code`, taken apart as far as it goes; `compatible` as for NFKC and NFKD.
static void codes_decompose(Codes *list, uint32_t code, bool compatible) {
    if (code - HANGUL < SYLLABLES) {
        const uint32_t s = code - HANGUL;
        codes_append(list, LEAD + s / (VOWELS * TRAILS));
        codes_append(list, VOWEL + s % (VOWELS * TRAILS) / TRAILS);
        if (s % TRAILS) codes_append(list, TRAIL + s % TRAILS);
        return;
    }
    int low = 0, high = COUNT(unicode_decompositions);
    while (low < high) {
        int middle = (low + high) / 2;
        if (unicode_decompositions[middle].code < code) low = middle + 1;
        else high = middle;
    }
    const UnicodeParts *parts = &unicode_decompositions[low];
    if (low == COUNT(unicode_decompositions) || parts->code != code ||
        (parts->compatible && !compatible)) {
        codes_append(list, code);
        return;
    }
    for (int i = 0; i < parts->count; i++)
        codes_decompose(list, unicode_parts[parts->start + i], compatible);
}

static int codes_compare(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// Put each run of marks into the order of their classes; marks of one class stay as they are.
static void codes_order(Codes *list) {
    uint64_t *keys = mem_alloc(list->n, sizeof *keys); // class, place, code point
    for (size_t i = 0, end; i < list->n; i = end + 1) {
        for (end = i; end < list->n; end++) {
            const uint64_t class = (uint64_t)unicode_mark_class(list->data[end]);
            if (!class) break;
            keys[end] = class << 56 | (uint64_t)end << 21 | list->data[end];
        }
        if (end - i < 2) continue;
        qsort(keys + i, end - i, sizeof *keys, codes_compare);
        for (size_t k = i; k < end; k++) list->data[k] = keys[k] & 0x1FFFFF;
    }
    free(keys);
}

// What `first` and `second` become together, or 0.
static uint32_t code_compose(uint32_t first, uint32_t second) {
    if (first - LEAD < 19 && second - VOWEL < VOWELS)
        return HANGUL + ((first - LEAD) * VOWELS + second - VOWEL) * TRAILS;
    if (first - HANGUL < SYLLABLES && (first - HANGUL) % TRAILS == 0 && second > TRAIL &&
        second < TRAIL + TRAILS)
        return first + second - TRAIL;
    int low = 0, high = COUNT(unicode_pairs);
    while (low < high) {
        int middle = (low + high) / 2;
        const UnicodePair *p = &unicode_pairs[middle];
        if (p->first < first || (p->first == first && p->second < second)) low = middle + 1;
        else high = middle;
    }
    const UnicodePair *p = &unicode_pairs[low];
    bool found = low < COUNT(unicode_pairs) && p->first == first && p->second == second;
    return found ? p->composed : 0;
}

// Compose in place: a character goes into the last starter (class 0) if nothing between blocks it.
static void codes_compose(Codes *list) {
    size_t n = 0, starter = SIZE_MAX;
    int last = 0; // class of the character before
    for (size_t i = 0; i < list->n; i++) {
        const uint32_t code = list->data[i];
        const int class = unicode_mark_class(code);
        uint32_t both = 0;
        if (starter != SIZE_MAX && (last < class || (last == 0 && n == starter + 1)))
            both = code_compose(list->data[starter], code);
        if (both) {
            list->data[starter] = both;
            continue;
        }
        if (class == 0) starter = n;
        last = class;
        list->data[n++] = code;
    }
    list->n = n;
}

// Append s[0..n) in a normal form: NFC composes, NFD does not, NFKC and NFKD are the compatible ones.
static void text_normal_form(Text *out, const char *s, size_t n, bool compatible, bool compose) {
    Codes codes = {0};
    size_t i = 0, bytes;
    while (i < n && !((unsigned char)s[i] & 0x80)) i++;
    if (i == n) { // plain ASCII is in all four forms
        text_append(out, s, n);
        return;
    }
    for (i = 0; i < n; i += bytes)
        codes_decompose(&codes, char_at(s + i, n - i, &bytes), compatible);
    codes_order(&codes);
    if (compose) codes_compose(&codes);
    for (i = 0; i < codes.n; i++) text_code(out, codes.data[i]);
    free(codes.data);
}

// ------------------------------------------------------------------------------------------------
// Steps

typedef enum {
    NORMAL_LOWERCASE,
    NORMAL_NFC,
    NORMAL_NFD,
    NORMAL_NFKC,
    NORMAL_NFKD,
    NORMAL_STRIP,
    NORMAL_REPLACE,
    NORMAL_PREPEND
} NormalKind;

typedef struct {
    NormalKind kind;
    bool left, right; // where NORMAL_STRIP takes off white space
    char *from,
        *to; // NORMAL_REPLACE puts `to` for each `from`, NORMAL_PREPEND `to` before the text
} NormalStep;

// Steps that are done one after the other. None: the text stays as it is.
typedef struct {
    NormalStep *steps; // (n)
    int n;
} Normalizer;

// The string of this key, which must be there. `path` is for messages.
static const char *json_string_of(const cJSON *object, const char *key, const char *what,
                                  const char *path) {
    const cJSON *item = json_get(object, key);
    if (!cJSON_IsString(item))
        die(EXIT_BAD_INPUT, "%s: %s: \"%s\" is not a string", path, what, key);
    return item->valuestring;
}

// The truth value of this key, `otherwise` where there is none.
static bool json_bool_of(const cJSON *object, const char *key, bool otherwise, const char *what,
                         const char *path) {
    const cJSON *item = json_get(object, key);
    if (item && !cJSON_IsBool(item))
        die(EXIT_BAD_INPUT, "%s: %s: \"%s\" is neither true nor false", path, what, key);
    return item ? cJSON_IsTrue(item) : otherwise;
}

// Die unless all keys of `object` are among `keys`, a list that ends with NULL.
static void json_keys_check(const cJSON *object, const char *const *keys, const char *what,
                            const char *path) {
    const cJSON *item;
    cJSON_ArrayForEach(item, object) {
        int i = 0;
        while (keys[i] && item->string && strcmp(keys[i], item->string)) i++;
        if (!item->string || !keys[i])
            die(EXIT_BAD_INPUT, "%s: %s: key \"%s\" is not known", path, what,
                item->string ? item->string : "");
    }
}

// Add the steps of "normalizer" in a tokenizer.json: an object with a "type", or null. Dies where a
// part is not known or not supported.
static void normalizer_load(Normalizer *normalizer, const cJSON *item, const char *path) {
    if (!item || cJSON_IsNull(item)) return;
    const char *type = json_string_of(item, "type", "normalizer", path);
    if (!strcmp(type, "Sequence")) {
        const cJSON *list = json_get(item, "normalizers"), *part;
        json_keys_check(item, (const char *[]){"type", "normalizers", NULL}, "normalizer", path);
        if (!cJSON_IsArray(list))
            die(EXIT_BAD_INPUT, "%s: normalizer: \"normalizers\" is not a list", path);
        cJSON_ArrayForEach(part, list) normalizer_load(normalizer, part, path);
        return;
    }
    const struct {
        const char *type;
        const char *keys[4];
    } known[] = {
        [NORMAL_LOWERCASE] = {"Lowercase", {"type"}},
        [NORMAL_NFC] = {"NFC", {"type"}},
        [NORMAL_NFD] = {"NFD", {"type"}},
        [NORMAL_NFKC] = {"NFKC", {"type"}},
        [NORMAL_NFKD] = {"NFKD", {"type"}},
        [NORMAL_STRIP] = {"Strip", {"type", "strip_left", "strip_right"}},
        [NORMAL_REPLACE] = {"Replace", {"type", "pattern", "content"}},
        [NORMAL_PREPEND] = {"Prepend", {"type", "prepend"}},
    };
    int kind = 0;
    while (kind < COUNT(known) && strcmp(known[kind].type, type)) kind++;
    if (kind == COUNT(known))
        die(EXIT_BAD_INPUT,
            "%s: normalizer %s is not supported (Lowercase, NFC, NFD, NFKC, NFKD, Strip, Replace, "
            "Prepend and sequences of them are)",
            path, type);
    json_keys_check(item, known[kind].keys, type, path);
    NormalStep step = {.kind = (NormalKind)kind};
    if (step.kind == NORMAL_STRIP) {
        step.left = json_bool_of(item, "strip_left", true, "normalizer Strip", path);
        step.right = json_bool_of(item, "strip_right", true, "normalizer Strip", path);
    } else if (step.kind == NORMAL_REPLACE) {
        const cJSON *from = json_get(json_get(item, "pattern"), "String");
        if (!cJSON_IsString(from) || !*from->valuestring)
            die(EXIT_BAD_INPUT,
                "%s: normalizer Replace: only a pattern that is a \"String\" is supported", path);
        step.from = text_copy(from->valuestring);
        step.to = text_copy(json_string_of(item, "content", "normalizer Replace", path));
    } else if (step.kind == NORMAL_PREPEND) {
        step.to = text_copy(json_string_of(item, "prepend", "normalizer Prepend", path));
    }
    normalizer->steps =
        mem_resize(normalizer->steps, (size_t)normalizer->n + 1, sizeof *normalizer->steps);
    normalizer->steps[normalizer->n++] = step;
}

// Append s[0..n) after one step.
static void normal_step(const NormalStep *step, Text *out, const char *s, size_t n) {
    size_t begin = 0;
    switch (step->kind) {
    case NORMAL_LOWERCASE:
        text_lower(out, s, n);
        break;
    case NORMAL_NFC:
        text_normal_form(out, s, n, false, true);
        break;
    case NORMAL_NFD:
        text_normal_form(out, s, n, false, false);
        break;
    case NORMAL_NFKC:
        text_normal_form(out, s, n, true, true);
        break;
    case NORMAL_NFKD:
        text_normal_form(out, s, n, true, false);
        break;
    case NORMAL_STRIP:
        if (step->right) n = space_at_end(s, n);
        if (step->left) begin = space_at_start(s, n);
        text_append(out, s + begin, n - begin);
        break;
    case NORMAL_REPLACE:
        while (begin < n) {
            const size_t from = strlen(step->from);
            if (from <= n - begin && !memcmp(s + begin, step->from, from)) {
                text_append(out, step->to, strlen(step->to));
                begin += from;
            } else text_append(out, s + begin++, 1);
        }
        break;
    case NORMAL_PREPEND:
        if (n) text_append(out, step->to, strlen(step->to));
        text_append(out, s, n);
        break;
    }
}

// Append s[0..n), which is UTF-8, after all steps.
static void normalizer_apply(const Normalizer *normalizer, Text *out, const char *s, size_t n) {
    Text now = {0};
    text_append(&now, s, n);
    for (int i = 0; i < normalizer->n; i++) {
        Text next = {0};
        text_append(&next, "", 0);
        normal_step(&normalizer->steps[i], &next, now.data, now.size);
        text_free(&now);
        now = next;
    }
    text_append(out, now.data, now.size);
    text_free(&now);
}

// Free the steps.
static void normalizer_free(Normalizer *normalizer) {
    for (int i = 0; i < normalizer->n; i++) {
        free(normalizer->steps[i].from);
        free(normalizer->steps[i].to);
    }
    free(normalizer->steps);
    *normalizer = (Normalizer){0};
}

#endif
