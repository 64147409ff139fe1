// jsonl.h: reading a file line by line, most of all one JSON object a line (JSONL). From top to
// bottom:
//
//   lines      the next line, and what is no text at all
//   records    the next line as JSON, and what is no JSONL
//   columns    typed access to the members of one record
//
// All mistakes in here stop the program and name file and line.
#ifndef JSONL_H
#define JSONL_H

#include "common.h"
#include "json.h"

// ------------------------------------------------------------------------------------------------
// Lines

enum { LINE_MAX_BYTES = 64 << 20 };

// A file that is read line by line.
typedef struct {
    FILE *file;
    const char *path;
    long number; // of the line in `line`, from 1
    Text line;
} LineReader;

// Die if the file that begins with head[0..n) is of a kind that people mistake for text.
static void impostor_check(const char *path, const char *head, size_t n) {
    const struct {
        const char *begin;
        size_t n;
        const char *what;
    } kinds[] = {
        {"\x1F\x8B", 2, "is gzip-compressed: unpack it first"},
        {"\xFF\xFE", 2, "is UTF-16, expected UTF-8"},
        {"\xFE\xFF", 2, "is UTF-16, expected UTF-8"},
        {"PAR1", 4, "is a Parquet file, expected JSONL: export it as JSON lines"},
        {"PK\x03\x04", 4, "is a zip file: unpack it first"},
        {"version https://git-lfs", 23,
         "is a Git LFS pointer, the data was not downloaded: run git lfs pull"},
    };
    for (int i = 0; i < COUNT(kinds); i++)
        if (n >= kinds[i].n && !memcmp(head, kinds[i].begin, kinds[i].n))
            die(EXIT_BAD_INPUT, "%s: %s", path, kinds[i].what);
}

// True if s[0..n) is nothing but white space.
static bool text_is_blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r\n", s[i]) || !s[i]) return false;
    return true;
}

// The whole of a text file without a BOM at its beginning, *size bytes. Dies with line and column
// if it is not UTF-8 or holds a NUL byte. Release with free().
static char *text_read(const char *path, size_t *size) {
    size_t n;
    char *text = file_read(path, &n);
    impostor_check(path, text, n);
    size_t bad = utf8_check(text, n);
    if (bad == n && memchr(text, 0, n)) bad = strlen(text);
    if (bad < n) {
        long line = 1;
        size_t line_begin = 0;
        for (size_t i = 0; i < bad; i++)
            if (text[i] == '\n') line++, line_begin = i + 1;
        die(EXIT_BAD_INPUT, "%s:%ld:%zu: %s 0x%02X", path, line, bad - line_begin + 1,
            text[bad] ? "invalid UTF-8 byte" : "NUL byte", (unsigned char)text[bad]);
    }
    if (n >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) memmove(text, text + 3, (n -= 3) + 1);
    *size = n;
    return text;
}

// Begin to read `path`; dies if that is not possible.
static void lines_open(LineReader *r, const char *path) {
    *r = (LineReader){file_open(path), path, 0, {0}};
}

// Read the next line that is not blank into r->line, without its newline; false at the end. Only
// \n ends a line: U+2028 and the like are data inside strings.
static bool lines_next(LineReader *r) {
    int c = 0;
    do {
        r->line.size = 0;
        while ((c = getc_unlocked(r->file)) != EOF && c != '\n') {
            char byte = (char)c;
            if (r->line.size == LINE_MAX_BYTES)
                die(EXIT_BAD_INPUT, "%s:%ld: line longer than %d bytes", r->path, r->number + 1,
                    LINE_MAX_BYTES);
            text_append(&r->line, &byte, 1);
        }
        if (ferror(r->file)) die(EXIT_IO, "%s: cannot read: %s", r->path, strerror(errno));
        text_append(&r->line, "", 0);
        if (++r->number == 1) {
            impostor_check(r->path, r->line.data, r->line.size);
            if (r->line.size >= 3 && !memcmp(r->line.data, "\xEF\xBB\xBF", 3)) { // a BOM
                memmove(r->line.data, r->line.data + 3, r->line.size - 3 + 1);
                r->line.size -= 3;
            }
        }
        if (!text_is_blank(r->line.data, r->line.size)) return true;
    } while (c != EOF);
    return false;
}

// Close the file.
static void lines_close(LineReader *r) {
    fclose(r->file);
    text_free(&r->line);
}

// The next record: a JSON object on a line of its own. NULL at the end; cJSON_Delete() it.
static cJSON *record_next(LineReader *r) {
    if (!lines_next(r)) return NULL;
    const char *s = r->line.data;
    while (strchr(" \t", *s) && *s) s++;
    if (*s == '[')
        die(EXIT_BAD_INPUT, "%s:%ld: looks like a JSON array, one object per line expected",
            r->path, r->number);
    if (*s == '{' && text_is_blank(s + 1, strlen(s + 1)))
        die(EXIT_BAD_INPUT, "%s:%ld: looks like pretty-printed JSON, one object per line expected",
            r->path, r->number);
    cJSON *record = json_parse(r->line.data, r->line.size, r->path, r->number);
    if (!cJSON_IsObject(record))
        die(EXIT_BAD_INPUT, "%s:%ld: expected a JSON object", r->path, r->number);
    return record;
}

// ------------------------------------------------------------------------------------------------
// Columns

// What a JSON value is, for "... is a number, expected ...".
static const char *json_type_name(const cJSON *item) {
    if (cJSON_IsString(item)) return "a string";
    if (cJSON_IsNumber(item)) return "a number";
    if (cJSON_IsArray(item)) return "an array";
    if (cJSON_IsObject(item)) return "an object";
    return cJSON_IsNull(item) ? "null" : "true or false";
}

// Die because a column is missing; `what` names it, the record's keys are listed.
__attribute__((noreturn)) static void record_missing(const LineReader *r, const cJSON *record,
                                                     const char *what) {
    Text keys = {0};
    const cJSON *item;
    cJSON_ArrayForEach(item, record) text_print(&keys, "%s%s", keys.size ? ", " : "", item->string);
    die(EXIT_BAD_INPUT, "%s:%ld: missing %s (keys: %s)", r->path, r->number, what,
        keys.size ? keys.data : "none");
}

// The value of column `key`; dies if it is not there.
static const cJSON *record_item(const LineReader *r, const cJSON *record, const char *key) {
    const cJSON *item = json_get(record, key);
    if (!item) {
        char *what = text_format("\"%s\"", key);
        record_missing(r, record, what);
    }
    return item;
}

// The string of column `key`; dies if it is not there or no string.
static const char *record_string(const LineReader *r, const cJSON *record, const char *key) {
    const cJSON *item = record_item(r, record, key);
    if (!cJSON_IsString(item))
        die(EXIT_BAD_INPUT, "%s:%ld: \"%s\" is %s, expected a string", r->path, r->number, key,
            json_type_name(item));
    return item->valuestring;
}

#endif
