// json.h: strict reading of JSON. cJSON forgives a good deal (duplicate keys, bad UTF-8, `012`, text
// after the value), and silent forgiveness of a data set is how runs go wrong. So one scan checks
// the text first, cJSON parses it, and a walk over the result looks for duplicate keys.
//
// Records of data sets (json_parse_record) may have what other writers of JSON let pass and what is
// the fault of one record, not of the file: NaN and Infinity as Python writes them, and strings with
// \u0000, with half of a surrogate pair, or with bytes that are no UTF-8. In the parsed record NaN is
// null, and such a character is one of the marks that json_flaw finds.
#ifndef JSON_H
#define JSON_H

#include "common.h"
#include "impostor.h" // defines: impostor_check, lookalike_check
#include <cjson/cJSON.h>

enum { JSON_MAX_DEPTH = 512 };

// cJSON gives up without a reason where it gets no memory, which would look like a fault of the text.
static void *json_alloc(size_t bytes) { return mem_resize(NULL, bytes, 1); }

__attribute__((constructor)) static void json_begin(void) {
    cJSON_InitHooks(&(cJSON_Hooks){json_alloc, free});
}

// Where a text is from, for messages: a file, the number of the text's first line in it, and the bytes
// of that line that come before the text.
typedef struct {
    const char *file;
    long line;
    size_t column;
} JsonPlace;

// Die with file:line:column of byte `at`.
__attribute__((noreturn)) static void json_die(const char *text, size_t at, JsonPlace place,
                                               const char *what) {
    size_t line_begin = 0;
    for (size_t i = 0; i < at; i++)
        if (text[i] == '\n') place.line++, place.column = 0, line_begin = i + 1;
    die(EXIT_BAD_INPUT, "%s:%ld:%zu: %s", place.file, place.line,
        place.column + at - line_begin + 1, what);
}

// Length of the JSON number at s (n > 0 bytes left), or 0: no leading zeros, digits after a dot.
static size_t json_number_length(const char *s, size_t n) {
    size_t i = 0, digits;
#define DIGITS()                                                                                   \
    for (digits = 0; i < n && s[i] >= '0' && s[i] <= '9'; i++) digits++
    if (s[i] == '-') i++;
    size_t first = i;
    DIGITS();
    if (!digits || (digits > 1 && s[first] == '0')) return 0;
    if (i < n && s[i] == '.') {
        i++;
        DIGITS();
        if (!digits) return 0;
    }
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        i++;
        if (i < n && (s[i] == '+' || s[i] == '-')) i++;
        DIGITS();
        if (!digits) return 0;
    }
#undef DIGITS
    return i;
}

// What a character in a string of a record was that cJSON cannot hold. In its place is a code point
// that is for no text (U+FFFE, U+FFFF, U+1FFFE: noncharacters).
static const struct {
    const char *mark, *escape, *what; // in UTF-8; in JSON; for messages
} json_flaws[] = {
    {"\xEF\xBF\xBE", "\\ufffe", "\\u0000"},
    {"\xEF\xBF\xBF", "\\uffff", "half of a surrogate pair"},
    {"\xF0\x9F\xBF\xBE", NULL, "a byte that is not UTF-8"},
};
enum { FLAW_NUL, FLAW_SURROGATE, FLAW_UTF8 };

// What a text from a record that was mended has in it that no text may have, or NULL.
static const char *json_flaw(const char *text) {
    for (int i = 0; i < COUNT(json_flaws); i++)
        if (strstr(text, json_flaws[i].mark)) return json_flaws[i].what;
    return NULL;
}

// The 16 bits of the \uXXXX at s (n bytes left), or -1 if there is none.
static long json_hex(const char *s, size_t n) {
    char digits[5] = {0};
    if (n < 6 || s[0] != '\\' || s[1] != 'u') return -1;
    memcpy(digits, s + 2, 4);
    return strspn(digits, "0123456789abcdefABCDEF") == 4 ? strtol(digits, NULL, 16) : -1;
}

// Length of the escape at s (n > 0 bytes left; 12 for a surrogate pair). *flaw: what it stands for
// that cJSON cannot hold, or -1.
static size_t json_escape_length(const char *s, size_t n, int *flaw) {
    const long code = json_hex(s, n);
    const bool high = code >= 0xD800 && code < 0xDC00, low = code >= 0xDC00 && code < 0xE000;
    *flaw = code == 0 ? FLAW_NUL : -1;
    if (code < 0) return n < 2 ? n : 2;
    if (high && n >= 12) {
        const long next = json_hex(s + 6, n - 6);
        if (next >= 0xDC00 && next < 0xE000) return 12;
    }
    if (high || low) *flaw = FLAW_SURROGATE;
    return 6;
}

// Length of NaN, Infinity or -Infinity at s (n bytes left), or 0.
static size_t json_not_finite(const char *s, size_t n) {
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    for (int i = 0; i < COUNT(words); i++) {
        const size_t length = strlen(words[i]);
        if (n >= length && !memcmp(s, words[i], length)) return length;
    }
    return 0;
}

// What cJSON would let pass: bad UTF-8, raw control bytes, \u0000, loose numbers, deep nesting. With
// `lenient` what may be in a record passes, and the result is true if there is any of it: then cJSON
// needs the text of json_mend.
static bool json_scan(const char *text, size_t n, JsonPlace place, bool lenient) {
    size_t bad = utf8_check(text, n);
    bool mend = bad < n;
    if (bad < n && !lenient) {
        char what[64];
        snprintf(what, sizeof what, "invalid UTF-8 byte 0x%02X", (unsigned char)text[bad]);
        json_die(text, bad, place, what);
    }
    if (n >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3))
        json_die(text, 0, place, "begins with a byte order mark, expected plain UTF-8");
    bool in_string = false;
    int depth = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == 0) json_die(text, i, place, "contains a NUL byte");
        if (in_string) {
            if (c < 0x20) json_die(text, i, place, "raw control byte inside a JSON string");
            if (c == '\\') {
                int flaw;
                const size_t length = json_escape_length(text + i, n - i, &flaw);
                if (length == 2 && text[i + 1] == 'u') // cJSON takes wrong hex digits for 0000
                    json_die(text, i, place, "JSON error: not four hex digits behind \\u");
                if (flaw == FLAW_NUL && !lenient)
                    json_die(text, i, place, "\\u0000 inside a JSON string");
                if (flaw >= 0) mend = true; // else cJSON refuses the surrogate
                i += length - 1;
            } else if (c == '"') in_string = false;
        } else if (c == '"') in_string = true;
        else if (c == '{' || c == '[') {
            if (++depth > JSON_MAX_DEPTH) json_die(text, i, place, "JSON is nested too deeply");
        } else if (c == '}' || c == ']') depth--;
        else if (lenient && (c == 'N' || c == 'I' || c == '-') &&
                 json_not_finite(text + i, n - i)) {
            i += json_not_finite(text + i, n - i) - 1;
            mend = true;
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            size_t length = json_number_length(text + i, n - i);
            if (!length) json_die(text, i, place, "not a JSON number");
            if (length > 63) // cJSON reads no more
                json_die(text, i, place, "a number of more than 63 characters");
            i += length - 1;
        } else if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c >= 0x7F)
            json_die(text, i, place, "JSON error: unexpected byte outside a string");
    }
    return mend;
}

// out <- the text of a record that json_scan has found in need of it, so that cJSON can read it: NaN
// becomes null, Infinity 1e999, and what is in json_flaws its mark.
static void json_mend(Text *out, const char *text, size_t n) {
    bool in_string = false;
    out->size = 0;
    for (size_t i = 0, length; i < n; i += length) {
        const char *s = text + i;
        uint32_t code;
        int flaw = -1;
        length = (size_t)utf8_decode(&code, s, n - i);
        if (!length) {
            text_print(out, "%s", json_flaws[FLAW_UTF8].mark);
            length = 1;
        } else if (in_string && *s == '\\') {
            length = json_escape_length(s, n - i, &flaw);
            if (flaw >= 0) text_print(out, "%s", json_flaws[flaw].escape);
            else text_append(out, s, length);
        } else if (!in_string && json_not_finite(s, n - i)) {
            length = json_not_finite(s, n - i);
            text_print(out, "%s", *s == 'N' ? "null" : *s == 'I' ? "1e999" : "-1e999");
        } else {
            if (*s == '"') in_string = !in_string;
            text_append(out, s, length);
        }
    }
}

static int json_compare_keys(const void *a, const void *b) {
    return strcmp((*(cJSON *const *)a)->string, (*(cJSON *const *)b)->string);
}

// The last of two or more equal keys in an object at or below `item`, or NULL.
static const cJSON *json_find_duplicate(const cJSON *item) {
    int n = 0;
    const cJSON *child, *found = NULL;
    cJSON_ArrayForEach(child, item) {
        if ((found = json_find_duplicate(child))) return found;
        n++;
    }
    if (!cJSON_IsObject(item) || n < 2) return NULL;
    const cJSON **keys = mem_alloc((size_t)n, sizeof *keys);
    n = 0;
    cJSON_ArrayForEach(child, item) keys[n++] = child;
    qsort(keys, (size_t)n, sizeof *keys, json_compare_keys);
    for (int i = 1; i < n && !found; i++)
        if (!strcmp(keys[i - 1]->string, keys[i]->string)) found = keys[i];
    free(keys);
    cJSON_ArrayForEach(child, item) {
        if (found && !strcmp(child->string, found->string)) found = child;
    }
    return found;
}

// Count the strings (keys and values) that come before the key of `key` in the text of `item`.
// False if the key is not there: then all of them are counted.
static bool json_strings_before(const cJSON *item, const cJSON *key, size_t *count) {
    *count += cJSON_IsString(item);
    const cJSON *child;
    cJSON_ArrayForEach(child, item) {
        if (child == key) return true;
        *count += child->string != NULL;
        if (json_strings_before(child, key, count)) return true;
    }
    return false;
}

// Parse text that json_scan has passed.
static cJSON *json_parse_scanned(const char *text, size_t n, JsonPlace place) {
    const char *end = NULL;
    cJSON *root = cJSON_ParseWithLengthOpts(text, n, &end, false);
    size_t at = end ? (size_t)(end - text) : 0;
    if (!root) json_die(text, at < n ? at : n, place, n ? "JSON error" : "JSON error: empty");
    while (at < n && strchr(" \t\r\n", text[at])) at++;
    if (at < n) json_die(text, at, place, "JSON error: text after the end of the value");
    const cJSON *twice = json_find_duplicate(root);
    if (twice) {
        size_t strings = 0;
        json_strings_before(root, twice, &strings);
        for (at = 0; text[at] != '"' || strings--; at++) // find it in the text, string by string
            if (text[at] == '"')
                for (at++; text[at] != '"'; at++) at += text[at] == '\\';
        json_die(text, at, place, text_format("duplicate key \"%s\"", twice->string));
    }
    return root;
}

// Parse one JSON value that fills text[0..n). `file` and `line` (of the text's first line, counted
// from 1) are for messages: any fault dies with EXIT_BAD_INPUT. Release with cJSON_Delete().
static cJSON *json_parse(const char *text, size_t n, const char *file, long line) {
    const JsonPlace place = {file, line, 0};
    if (line == 1) {
        impostor_check(file, text, n, WANT_JSON);
        lookalike_check(file, line, text, n, WANT_JSON);
    }
    json_scan(text, n, place, false);
    return json_parse_scanned(text, n, place);
}

// The same for a record of a data set. *mended: its text had what json_flaw may find.
static cJSON *json_parse_record(const char *text, size_t n, JsonPlace place, bool *mended) {
    *mended = json_scan(text, n, place, true);
    if (!*mended) return json_parse_scanned(text, n, place);
    Text clean = {0};
    json_mend(&clean, text, n);
    cJSON *record = json_parse_scanned(clean.data, clean.size, place);
    text_free(&clean);
    return record;
}

// Read and parse a whole JSON file.
static cJSON *json_read(const char *path) {
    size_t n;
    char *text = file_read(path, &n);
    if (!n) die(EXIT_BAD_INPUT, "%s: is empty, expected JSON", path);
    cJSON *root = json_parse(text, n, path, 1);
    free(text);
    return root;
}

// The member of an object with exactly this key, or NULL.
static cJSON *json_get(const cJSON *object, const char *key) {
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

// True if `item` is a number without a fraction that a double holds exactly; stores it in *value.
static bool json_integer(const cJSON *item, int64_t *value) {
    if (!cJSON_IsNumber(item) || !(fabs(item->valuedouble) <= 9007199254740992.0)) return false;
    *value = (int64_t)item->valuedouble;
    return (double)*value == item->valuedouble;
}

#endif
