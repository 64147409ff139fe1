// jsonl.h: reading files line by line, most of all one JSON object a line (JSONL). From top to
// bottom:
//
//   text       a file of plain text, piece by piece
//   lines      the next line of one file after another
//   records    the next JSON object: a line's, or the next one of a file that is a JSON array
//   columns    typed access to the members of one record
//
// All mistakes in here stop the program and name file and line. What is called a file may be
// compressed, and lines and records are read from all files that a list or pattern of names stands
// for (input.h).
#ifndef JSONL_H
#define JSONL_H

#include "common.h"
#include "impostor.h" // defines: impostor_check, lookalike_check
#include "input.h"    // defines: Input, FileList
#include "json.h"

// ------------------------------------------------------------------------------------------------
// Text

// True if s[0..n) is nothing but white space.
static bool text_is_blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r\n", s[i]) || !s[i]) return false;
    return true;
}

// A text file that is read piece by piece, without a BOM at its beginning.
typedef struct {
    Input in;
    Text text;     // what was read and is not done with
    size_t good;   // bytes of it that are known to be UTF-8 without a NUL
    bool end;      // the file has no more
    long line;     // where these bytes end, from 1
    size_t column; // bytes of that line so far
} TextReader;

// The place in the file moves on over text[0..n).
static void text_reader_count(TextReader *r, const char *text, size_t n) {
    const char *at = text, *end = text + n;
    for (const char *newline; (newline = memchr(at, '\n', (size_t)(end - at))); at = newline + 1) {
        r->line++;
        r->column = 0;
    }
    r->column += (size_t)(end - at);
}

// Read on until at least `want` bytes are in r->text, or all there are. Only text[0..good) may be used:
// a character may be cut at the end. Dies (EXIT_BAD_INPUT) with line and column if it is not UTF-8 or
// holds a NUL byte.
static void text_reader_more(TextReader *r, size_t want) {
    while (!r->end && r->text.size < want) {
        text_append(&r->text, r->in.block + r->in.at, r->in.n - r->in.at);
        r->end = !input_fill(&r->in);
    }
    const char *more = r->text.data + r->good;
    const size_t n = r->text.size - r->good, valid = utf8_check(more, n);
    const char *nul = memchr(more, 0, valid);
    const size_t good = nul ? (size_t)(nul - more) : valid;
    text_reader_count(r, more, good);
    r->good += good;
    if (!nul && (good == n || (!r->end && n - good < 4))) return;
    die(EXIT_BAD_INPUT, "%s:%ld:%zu: %s 0x%02X", r->in.path, r->line, r->column + 1,
        nul ? "NUL byte" : "invalid UTF-8 byte", (unsigned char)more[good]);
}

// Open a text file; dies if that is not possible, or if it is of another kind. `path` must live as long.
static void text_reader_open(TextReader *r, const char *path) {
    *r = (TextReader){.line = 1};
    input_open(&r->in, path);
    impostor_check(path, r->in.block, r->in.n, WANT_TEXT);
    if (r->in.n >= 3 && !memcmp(r->in.block, "\xEF\xBB\xBF", 3)) r->in.at = 3;
    text_append(&r->text, "", 0);
}

// The first n bytes are done with.
static void text_reader_done(TextReader *r, size_t n) {
    r->text.size -= n;
    r->good -= n;
    memmove(r->text.data, r->text.data + n, r->text.size);
}

static void text_reader_close(TextReader *r) {
    input_close(&r->in);
    text_free(&r->text);
}

// ------------------------------------------------------------------------------------------------
// Lines

enum { LINE_MAX_BYTES = 64 << 20 };

// Files that are read line by line or record by record, one after the other.
typedef struct {
    const char *path; // the file that is read, for messages
    long number;      // of the line in `line` in that file, from 1; of a record, of its first line
    Text line;        // the line, or the record's text, as in the file
    bool mended;      // json_flaw may find what the record's strings should not have
    // what the functions below need
    const char *names; // as they were given
    FileList files;    // empty: one file, which was open already
    int next;          // the file to come
    Input input;
    long lines;     // that have begun in this file
    bool array;     // the file is a JSON array of records
    bool comma;     // then: the next byte must be a comma or the end, since a record was before
    size_t columns; // and: bytes of this line so far; those before the record in its first line
    size_t column;
} LineReader;

// Go to the next file; false after the last.
static bool lines_next_file(LineReader *r) {
    if (r->next == r->files.n) return false;
    if (r->next) input_close(&r->input);
    r->path = r->files.names[r->next++];
    r->lines = r->number = 0;
    r->array = r->comma = false;
    input_open(&r->input, r->path);
    return true;
}

// Begin to read the file `names`, or all files that it stands for (see file_list); dies if that is
// not possible.
static void lines_open(LineReader *r, const char *names) {
    *r = (LineReader){.names = names, .files = file_list(names)};
    lines_next_file(r);
}

// Begin to read a file that is open already.
static void lines_open_fd(LineReader *r, int fd, const char *name) {
    *r = (LineReader){.path = name, .names = name};
    input_begin(&r->input, fd, name);
}

// Before the first line of a file: see that it is what is wanted, and pass over a BOM.
static void lines_begin_file(LineReader *r, Wanted want) {
    Input *in = &r->input;
    if (in->at == in->n) input_fill(in);
    impostor_check(r->path, in->block, in->n, want);
    if (in->n >= 3 && !memcmp(in->block, "\xEF\xBB\xBF", 3)) in->at = 3;
}

// Append to the line, or die if it becomes too long.
static void line_append(LineReader *r, const char *bytes, size_t n) {
    if (r->line.size + n > LINE_MAX_BYTES)
        die(EXIT_BAD_INPUT, "%s:%ld: line longer than %d bytes", r->path, r->lines, LINE_MAX_BYTES);
    text_append(&r->line, bytes, n);
}

// Read the next line of this file that is not blank into r->line, without its newline; false at the
// end of the file. Only \n ends a line: U+2028 and the like are data inside strings.
static bool line_read(LineReader *r) {
    Input *in = &r->input;
    while (in->at < in->n || input_fill(in)) {
        const char *end;
        r->line.size = 0;
        r->number = ++r->lines;
        do {
            const char *begin = in->block + in->at;
            end = memchr(begin, '\n', in->n - in->at);
            const size_t n = end ? (size_t)(end - begin) : in->n - in->at;
            line_append(r, begin, n);
            in->at += end ? n + 1 : n;
        } while (!end && input_fill(in));
        if (!text_is_blank(r->line.data, r->line.size)) return true;
    }
    return false;
}

// Read the next line of all files that is not blank into r->line; false at the end of the last one.
static bool lines_next(LineReader *r) {
    do {
        if (r->lines == 0) lines_begin_file(r, WANT_TEXT);
        if (line_read(r)) return true;
    } while (lines_next_file(r));
    return false;
}

// Close the file.
static void lines_close(LineReader *r) {
    input_close(&r->input);
    text_free(&r->line);
    file_list_free(&r->files);
}

// ------------------------------------------------------------------------------------------------
// Records

// The next byte of an array, or EOF.
static int array_byte(LineReader *r) {
    const int c = input_byte(&r->input);
    r->columns++;
    if (c == '\n') r->lines++, r->columns = 0;
    return c;
}

// The next one that is no white space.
static int array_token(LineReader *r) {
    int c = array_byte(r);
    while (c == ' ' || c == '\t' || c == '\r' || c == '\n') c = array_byte(r);
    return c;
}

// Die at the byte that was read last.
__attribute__((noreturn)) static void array_die(const LineReader *r, const char *what) {
    die(EXIT_BAD_INPUT, "%s:%ld:%zu: %s", r->path, r->lines, r->columns, what);
}

// True if the file begins as an array does; that is passed over. (White space of more than a block
// before it is not.)
static bool array_begin(LineReader *r) {
    const Input *in = &r->input;
    size_t at = in->at;
    while (at < in->n && text_is_blank(in->block + at, 1)) at++;
    if (at == in->n || in->block[at] != '[') return false;
    r->lines = 1;
    r->columns = in->at;
    array_token(r);
    return true;
}

// Read the next object of an array into r->line; false at its end, which must be the file's.
static bool array_next(LineReader *r) {
    int c = array_token(r);
    if (c == ',' && r->comma) {
        c = array_token(r);
        if (c == ']') array_die(r, "JSON error: no object after the comma");
    } else if (c == ']') {
        if (array_token(r) != EOF) array_die(r, "JSON error: text after the end of the array");
        return false;
    } else if (r->comma && c != EOF) array_die(r, "JSON error: expected , or ] after an object");
    if (c != '{' && c != EOF) array_die(r, "expected a JSON object");
    r->comma = true;
    r->number = r->lines;
    r->column = r->columns - 1;
    r->line.size = 0;
    int depth = 0;
    bool in_string = false, escaped = false;
    for (;; c = array_byte(r)) {
        const char byte = (char)c;
        if (c == EOF) array_die(r, "JSON error: the array has no end");
        line_append(r, &byte, 1);
        if (in_string) {
            if (!escaped && c == '"') in_string = false;
            escaped = !escaped && c == '\\';
        } else if (c == '"') in_string = true;
        else if (c == '{' || c == '[') depth++;
        else if ((c == '}' || c == ']') && --depth == 0) return true;
    }
}

// The next record: a JSON object. NULL at the end of the last file; cJSON_Delete() it.
static cJSON *record_next(LineReader *r) {
    bool found;
    do {
        if (r->lines == 0) {
            lines_begin_file(r, WANT_JSONL);
            r->array = array_begin(r);
        }
        found = r->array ? array_next(r) : line_read(r);
    } while (!found && lines_next_file(r));
    if (!found) return NULL;
    const char *s = r->line.data;
    const size_t n = r->line.size, blank = strspn(s, " \t");
    if (s[blank] == '{' && !r->array && text_is_blank(s + blank + 1, n - blank - 1))
        die(EXIT_BAD_INPUT,
            "%s:%ld: looks like pretty-printed JSON, one object per line or an array of objects "
            "expected",
            r->path, r->number);
    lookalike_check(r->path, r->number, s, n, WANT_JSONL);
    const JsonPlace place = {r->path, r->number, r->array ? r->column : 0};
    cJSON *record = json_parse_record(s, n, place, &r->mended);
    if (!cJSON_IsObject(record))
        die(EXIT_BAD_INPUT, "%s:%ld: expected a JSON object", r->path, r->number);
    return record;
}

// The end of the JSON string that begins at s.
static const char *record_string_end(const char *s) {
    for (s++; *s != '"'; s++) s += *s == '\\';
    return s + 1;
}

// Append the members of the record that was read last, each as it is in the file (numbers keep
// their digits) and with ", " after it, but without those that `without` (n) names. Line breaks
// between values become blanks.
static void record_copy(Text *out, const LineReader *r, const char *const *without, int n) {
    const char *s = strchr(r->line.data, '{') + 1;
    for (;;) {
        while (strchr(" \t\r\n,", *s)) s++;
        if (*s != '"') return;
        const char *key = s, *key_end = record_string_end(s), *value, *end = key_end;
        for (value = key_end; strchr(" \t\r\n:", *value); value++) continue;
        int depth = 0;
        for (s = value; depth || !strchr(",}", *s); end = s) {
            depth += (*s == '{' || *s == '[') - (*s == '}' || *s == ']');
            s = *s == '"' ? record_string_end(s) : s + 1;
        }
        bool skip = false;
        for (int i = 0; i < n; i++)
            skip |= strlen(without[i]) == (size_t)(key_end - key - 2) &&
                    !memcmp(key + 1, without[i], strlen(without[i]));
        if (skip) continue;
        while (strchr(" \t\r\n", end[-1])) end--;
        text_append(out, key, (size_t)(key_end - key));
        text_append(out, ": ", 2);
        for (; value < end; value++) text_append(out, strchr("\r\n", *value) ? " " : value, 1);
        text_append(out, ", ", 2);
    }
}

// ------------------------------------------------------------------------------------------------
// Columns. One that is null counts as not there: tools that join tables write it so.

// What a JSON value is, for "... is a number, expected ...".
static const char *json_type_name(const cJSON *item) {
    if (cJSON_IsString(item)) return "a string";
    if (cJSON_IsNumber(item)) return "a number";
    if (cJSON_IsArray(item)) return "an array";
    if (cJSON_IsObject(item)) return "an object";
    return cJSON_IsNull(item) ? "null" : "true or false";
}

// The value of column `key`; NULL if it is not there or null.
static cJSON *record_get(const cJSON *record, const char *key) {
    cJSON *item = json_get(record, key);
    return cJSON_IsNull(item) ? NULL : item;
}

// Die because a column is missing; `what` names it, the record's keys are listed.
__attribute__((noreturn)) static void record_missing(const LineReader *r, const cJSON *record,
                                                     const char *what) {
    Text keys = {0};
    const cJSON *item;
    cJSON_ArrayForEach(item, record) text_print(&keys, "%s%s%s", keys.size ? ", " : "",
                                                item->string, cJSON_IsNull(item) ? " (null)" : "");
    die(EXIT_BAD_INPUT, "%s:%ld: missing %s (keys: %s)", r->path, r->number, what,
        keys.size ? keys.data : "none");
}

// The value of column `key`; dies if it is not there.
static const cJSON *record_item(const LineReader *r, const cJSON *record, const char *key) {
    const cJSON *item = record_get(record, key);
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
