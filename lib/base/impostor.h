// impostor.h: files that people have in the place of those that are expected, known by their first
// bytes, so that the message names what is there instead of the first byte that does not fit.
#ifndef IMPOSTOR_H
#define IMPOSTOR_H

#include "common.h"
#include <strings.h>

// What was expected.
typedef enum { WANT_TEXT, WANT_JSON, WANT_JSONL, WANT_WEIGHTS, WANT_MERGES } Wanted;

// For messages.
static const char *wanted_name(Wanted want) {
    static const char *const names[] = {"plain text", "JSON", "JSONL (a JSON object a line)",
                                        "safetensors", "merges, two tokens a line"};
    return names[want];
}

// A kind of file that is no text.
typedef struct {
    size_t at; // where its mark is
    const char *mark;
    size_t n;         // bytes of the mark
    const char *is;   // "a Parquet file"
    const char *data; // how to make JSONL of it, %s for its name; NULL: no short way
} BinaryKind;

// The longer marks come before those that they begin with.
static const BinaryKind binary_kinds[] = {
    {0, "PAR1", 4, "a Parquet file", "pandas.read_parquet('%s')"},
    {0, "ARROW1\0\0", 8, "an Arrow file (Feather)", "pandas.read_feather('%s')"},
    {0, "FEA1", 4, "a Feather file", "pandas.read_feather('%s')"},
    {0, "\xFF\xFF\xFF\xFF", 4, "an Arrow stream", "datasets.Dataset.from_file('%s').to_pandas()"},
    {0, "ORC", 3, "an ORC file", "pandas.read_orc('%s')"},
    {0, "Obj\1", 4, "an Avro file", NULL},
    {0, "PK\3\4", 4, "a zip file (or .npz, .xlsx, PyTorch's .bin or .pt)", NULL},
    {0, "\x80\2", 2, "a Python pickle", NULL},
    {0, "\x80\3", 2, "a Python pickle", NULL},
    {0, "\x80\4\x95", 3, "a Python pickle", NULL},
    {0, "\x80\5\x95", 3, "a Python pickle", NULL},
    {0, "\x1F\x8B", 2, "gzip-compressed", NULL},
    {0, "\x28\xB5\x2F\xFD", 4, "zstd-compressed", NULL},
    {0,
     "\xFD"
     "7zXZ\0",
     6, "xz-compressed", NULL},
    {4, "1AY&SY", 6, "bzip2-compressed", NULL},
    {0, "\4\"M\x18", 4, "lz4-compressed", NULL},
    {0, "7z\xBC\xAF\x27\x1C", 6, "a 7z archive", NULL},
    {0, "Rar!\x1A\7", 6, "a RAR archive", NULL},
    {257, "ustar", 5, "a tar archive", NULL},
    {0, "SQLite format 3\0", 16, "an SQLite database", NULL},
    {0, "GGUF", 4, "a GGUF model", NULL},
    {0, "\x89HDF\r\n", 6, "an HDF5 file", NULL},
    {0, "\x93NUMPY", 6, "a NumPy array", NULL},
    {0, "%PDF-", 5, "a PDF", NULL},
    {0, "\x89PNG", 4, "a picture", NULL},
    {0, "\xFF\xD8\xFF", 3, "a picture", NULL},
};

// True if head[0..n) has a byte that no text has.
static bool head_is_binary(const char *head, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)head[i];
        if (c == 0 || c >= 0xF8 || (c < 0x20 && !strchr("\t\n\v\f\r\033", c))) return true;
    }
    return false;
}

// The kind of file that begins with head[0..n), or NULL. A mark of letters alone may begin a text,
// too, so something must come after it that does not.
static const BinaryKind *binary_kind(const char *head, size_t n) {
    const bool binary = head_is_binary(head, n < 512 ? n : 512);
    for (int i = 0; i < COUNT(binary_kinds); i++) {
        const BinaryKind *k = &binary_kinds[i];
        if (n < k->at + k->n || memcmp(head + k->at, k->mark, k->n)) continue;
        if (binary || head_is_binary(k->mark, k->n)) return k;
    }
    return NULL;
}

// True if head[0..n) begins with `word`, small and capital letters alike.
static bool head_begins(const char *head, size_t n, const char *word) {
    const size_t length = strlen(word);
    return n >= length && !strncasecmp(head, word, length);
}

// What head[0..n) looks like in another encoding than UTF-8, or NULL.
static const char *head_encoding(const char *head, size_t n) {
    if (n >= 4 && !memcmp(head, "\xFF\xFE\0\0", 4)) return "UTF-32";
    if (n >= 4 && !memcmp(head, "\0\0\xFE\xFF", 4)) return "UTF-32";
    if (n >= 2 && (!memcmp(head, "\xFF\xFE", 2) || !memcmp(head, "\xFE\xFF", 2))) return "UTF-16";
    bool every_second = n >= 4; // without a mark: of two bytes one is 0, as in ASCII
    for (size_t i = 0; every_second && i < 8 && i < n; i++)
        every_second &= !head[i] == !head[i % 2] && !head[0] != !head[1];
    if (every_second) return "UTF-16";
    return NULL;
}

// Die with a sentence if the file that begins with head[0..n) (512 bytes are enough, the whole of it
// if it is shorter) is of a kind that is mistaken for the wanted one.
static void impostor_check(const char *path, const char *head, size_t n, Wanted want) {
    const char *expected = wanted_name(want), *encoding = head_encoding(head, n);
    if (encoding)
        die(EXIT_BAD_INPUT, "%s: is %s, expected UTF-8: iconv -f %s -t UTF-8 converts it", path,
            encoding, encoding);
    const BinaryKind *kind = binary_kind(head, n);
    if (kind && kind->data && want == WANT_JSONL) {
        char *read = text_format("%.*s%s%s", (int)(strchr(kind->data, '%') - kind->data),
                                 kind->data, path, strchr(kind->data, '%') + 2);
        die(EXIT_BAD_INPUT,
            "%s: is %s, expected %s: in Python, %s.to_json('data.jsonl', orient='records', "
            "lines=True) converts it",
            path, kind->is, expected, read);
    }
    if (kind) {
        const bool weights =
            want == WANT_WEIGHTS &&
            (strstr(kind->is, "PyTorch") || strstr(kind->is, "pickle") || strstr(kind->is, "HDF5"));
        const bool packed = strstr(kind->is, "compressed") || strstr(kind->is, "archive") ||
                            strstr(kind->is, "zip");
        die(EXIT_BAD_INPUT, "%s: is %s, expected %s%s", path, kind->is, expected,
            weights  ? ": re-save with safe_serialization"
            : packed ? ": unpack it first"
                     : "");
    }
    const bool header = n > 9 && !head[5] && !head[6] && !head[7] && head[8] == '{';
    if (header && want != WANT_WEIGHTS)
        die(EXIT_BAD_INPUT, "%s: is a safetensors file, expected %s", path, expected);
    if (head_begins(head, n, "version https://git-lfs"))
        die(EXIT_BAD_INPUT,
            "%s: is a Git LFS pointer, the data was not downloaded: run git lfs pull", path);
    if (want == WANT_TEXT) return; // all that follows is text
    size_t i = n >= 3 && !memcmp(head, "\xEF\xBB\xBF", 3) ? 3 : 0;
    while (i < n && head[i] && strchr(" \t\r\n", head[i])) i++;
    if (head_begins(head + i, n - i, "<!doctype html") || head_begins(head + i, n - i, "<html") ||
        head_begins(head + i, n - i, "<head"))
        die(EXIT_BAD_INPUT,
            "%s: is an HTML page, probably of a failed download or a login, expected %s", path,
            expected);
    if (i + 1 < n && head[i] == '<' &&
        (isalpha((unsigned char)head[i + 1]) || head[i + 1] == '?' || head[i + 1] == '!'))
        die(EXIT_BAD_INPUT, "%s: is XML, expected %s", path, expected);
}

// Length of the key of a YAML line "key:", "key: value" that is s[0..n), or 0.
static size_t yaml_key(const char *s, size_t n) {
    size_t i = 0;
    while (i < n && (isalnum((unsigned char)s[i]) || s[i] == '_' || s[i] == '-' || s[i] == '.'))
        i++;
    const bool colon = i > 0 && i < n && s[i] == ':';
    return colon && (i + 1 == n || strchr(" \r\n", s[i + 1])) ? i : 0;
}

// What text that begins with head[0..n) looks like, where a JSON object or array is expected; NULL if
// it may be one, or nothing known. At most the first line that is not blank is looked at.
static const char *lookalike(const char *head, size_t n) {
    size_t i = n >= 3 && !memcmp(head, "\xEF\xBB\xBF", 3) ? 3 : 0;
    while (i < n && head[i] && strchr(" \t\r\n", head[i])) i++;
    const char *s = head + i, *end = memchr(s, '\n', n - i);
    const size_t length = end ? (size_t)(end - s) : n - i;
    if (length == 0) return NULL;
    if (*s == '{' || *s == '[') {
        size_t k = 1;
        while (k < length && s[k] == ' ') k++;
        return k < length && s[k] == '\'' ? "Python (single quotes; json.dumps writes JSON)" : NULL;
    }
    const bool item = length > 2 && s[0] == '-' && s[1] == ' ';
    if (head_begins(s, length, "---") || head_begins(s, length, "%YAML") || item ||
        yaml_key(s, length) || (*s == '#' && length > 1))
        return "YAML";
    if (*s == '"') { // a JSON string, unless a separator comes after the closing quote
        const char *quote = memchr(s + 1, '"', length - 1);
        if (!quote || quote[-1] == '\\' || quote + 1 == s + length || !strchr(",;\t", quote[1]))
            return NULL;
    }
    if (memchr(s, '\t', length)) return "TSV (values with tabs between)";
    if (memchr(s, ',', length) || memchr(s, ';', length)) return "CSV";
    return NULL;
}

// Die if text[0..n), which begins in that line of the file, looks like something else than the wanted
// JSON or JSONL.
static void lookalike_check(const char *path, long line, const char *text, size_t n, Wanted want) {
    const char *looks = lookalike(text, n);
    if (!looks) return;
    const bool table = !strncmp(looks, "CSV", 3) || !strncmp(looks, "TSV", 3);
    const char *sep = *looks == 'T' ? ", sep='\\t'" : "";
    if (table && want == WANT_JSONL)
        die(EXIT_BAD_INPUT,
            "%s:%ld: looks like %s, expected %s: in Python, pandas.read_csv('%s'%s).to_json("
            "'data.jsonl', orient='records', lines=True) converts it",
            path, line, looks, wanted_name(want), path, sep);
    die(EXIT_BAD_INPUT, "%s:%ld: looks like %s, expected %s", path, line, looks, wanted_name(want));
}

#endif
