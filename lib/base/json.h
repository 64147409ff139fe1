// json.h: strict reading of JSON. cJSON forgives a good deal (duplicate keys, bad UTF-8, `012`, text
// after the value), and silent forgiveness of a data set is how runs go wrong. So one scan checks
// the text first, cJSON parses it, and a walk over the result looks for duplicate keys.
#ifndef JSON_H
#define JSON_H

#include "common.h"
#include <cjson/cJSON.h>

enum { JSON_MAX_DEPTH = 512 };

// cJSON gives up without a reason where it gets no memory, which would look like a fault of the text.
static void *json_alloc(size_t bytes) { return mem_resize(NULL, bytes, 1); }

__attribute__((constructor)) static void json_begin(void) {
    cJSON_InitHooks(&(cJSON_Hooks){json_alloc, free});
}

// Die with file:line:column of byte `at`. `line` is the number of the text's first line.
__attribute__((noreturn)) static void json_die(const char *text, size_t at, const char *file,
                                               long line, const char *what) {
    size_t line_begin = 0;
    for (size_t i = 0; i < at; i++)
        if (text[i] == '\n') line++, line_begin = i + 1;
    die(EXIT_BAD_INPUT, "%s:%ld:%zu: %s", file, line, at - line_begin + 1, what);
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

// What cJSON would let pass: bad UTF-8, raw control bytes, \u0000, loose numbers, deep nesting.
static void json_scan(const char *text, size_t n, const char *file, long line) {
    size_t bad = utf8_check(text, n);
    if (bad < n) {
        char what[64];
        snprintf(what, sizeof what, "invalid UTF-8 byte 0x%02X", (unsigned char)text[bad]);
        json_die(text, bad, file, line, what);
    }
    if (n >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3))
        json_die(text, 0, file, line, "begins with a byte order mark, expected plain UTF-8");
    bool in_string = false;
    int depth = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == 0) json_die(text, i, file, line, "contains a NUL byte");
        if (in_string) {
            if (c < 0x20) json_die(text, i, file, line, "raw control byte inside a JSON string");
            if (c == '\\') {
                if (n - i >= 6 && !memcmp(text + i, "\\u0000", 6))
                    json_die(text, i, file, line, "\\u0000 inside a JSON string");
                size_t k = i + 2; // cJSON takes wrong hex digits for 0000
                while (k < n && k < i + 6 && isxdigit((unsigned char)text[k])) k++;
                if (i + 1 < n && text[i + 1] == 'u' && k < i + 6)
                    json_die(text, i, file, line, "JSON error: not four hex digits behind \\u");
                i++;
            } else if (c == '"') in_string = false;
        } else if (c == '"') in_string = true;
        else if (c == '{' || c == '[') {
            if (++depth > JSON_MAX_DEPTH)
                json_die(text, i, file, line, "JSON is nested too deeply");
        } else if (c == '}' || c == ']') depth--;
        else if (c == '-' || (c >= '0' && c <= '9')) {
            size_t length = json_number_length(text + i, n - i);
            if (!length) json_die(text, i, file, line, "not a JSON number");
            if (length > 63) // cJSON reads no more
                json_die(text, i, file, line, "a number of more than 63 characters");
            i += length - 1;
        } else if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c >= 0x7F)
            json_die(text, i, file, line, "JSON error: unexpected byte outside a string");
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

// Parse one JSON value that fills text[0..n). `file` and `line` (of the text's first line, counted
// from 1) are for messages: any fault dies with EXIT_BAD_INPUT. Release with cJSON_Delete().
static cJSON *json_parse(const char *text, size_t n, const char *file, long line) {
    json_scan(text, n, file, line);
    const char *end = NULL;
    cJSON *root = cJSON_ParseWithLengthOpts(text, n, &end, false);
    size_t at = end ? (size_t)(end - text) : 0;
    if (!root) json_die(text, at < n ? at : n, file, line, n ? "JSON error" : "JSON error: empty");
    while (at < n && strchr(" \t\r\n", text[at])) at++;
    if (at < n) json_die(text, at, file, line, "JSON error: text after the end of the value");
    const cJSON *twice = json_find_duplicate(root);
    if (twice) {
        size_t strings = 0;
        json_strings_before(root, twice, &strings);
        for (at = 0; text[at] != '"' || strings--; at++) // find it in the text, string by string
            if (text[at] == '"')
                for (at++; text[at] != '"'; at++) at += text[at] == '\\';
        json_die(text, at, file, line, text_format("duplicate key \"%s\"", twice->string));
    }
    return root;
}

// Read and parse a whole JSON file.
static cJSON *json_read(const char *path) {
    size_t n;
    char *text = file_read(path, &n);
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
