// yaml.h: flat YAML, as configuration files of trainers have it: one `name: value` a line. Values are
// plain or quoted texts, and lists of them, `[a, b]` or a `- a` a line; a map is recognised, but its
// inside is not read. What else YAML has (anchors, tags, texts over several lines, several documents) is
// refused with file and line. What a plain text means (a number, a bool) is the reader's to say.
#ifndef YAML_H
#define YAML_H

#include "common.h" // defines: die, Text, file_read, utf8_check

typedef enum { YAML_NULL, YAML_TEXT, YAML_LIST, YAML_MAP } YamlKind;

typedef struct {
    char *key;
    YamlKind kind;
    char **values; // (n) the text, or those of the list; of a map: "{}" if it is empty, else "{..}"
    int n;
    long line; // of the key, from 1
} YamlItem;

typedef struct {
    YamlItem *items; // (n)
    int n;
} Yaml;

static void yaml_free(Yaml *y) {
    for (int i = 0; i < y->n; i++) {
        for (int k = 0; k < y->items[i].n; k++) free(y->items[i].values[k]);
        free(y->items[i].values);
        free(y->items[i].key);
    }
    free(y->items);
    *y = (Yaml){0};
}

// Add a text, which the item then owns.
static void yaml_add(YamlItem *item, char *value) {
    item->values = mem_resize(item->values, (size_t)item->n + 1, sizeof *item->values);
    item->values[item->n++] = value;
}

// Where the blanks at s end.
static const char *yaml_skip(const char *s) { return s + strspn(s, " \t"); }

// True where nothing more is to be read in a line: its end, or a comment.
static bool yaml_ends(const char *s) { return !*s || *s == '#'; }

// True if an element of a list begins at s: "- a", or "-" alone.
static bool yaml_is_element(const char *s) { return *s == '-' && (!s[1] || s[1] == ' '); }

// True if a part of a map begins at s: "name: ..", or "name:".
static bool yaml_has_key(const char *s) {
    const char *colon = strchr("'\"", *s) ? NULL : strchr(s, ':');
    return colon && (!colon[1] || colon[1] == ' ');
}

// A quoted text at s. Returns what comes after it; *value is a new string.
static const char *yaml_quoted(const char *s, char **value, const char *where) {
    static const char escapes[] = "\"\\/nt", meant[] = "\"\\/\n\t";
    const char quote = *s++;
    Text t = {0};
    text_append(&t, "", 0);
    while (*s != quote || (quote == '\'' && s[1] == quote)) {
        if (!*s) die(EXIT_BAD_INPUT, "%s: a quoted text does not end in its line", where);
        const char *escape = quote == '"' && *s == '\\' && s[1] ? strchr(escapes, s[1]) : NULL;
        if (quote == '"' && *s == '\\' && !escape)
            die(EXIT_BAD_INPUT, "%s: \\%c in a text is not read here", where, s[1]);
        text_append(&t, escape ? &meant[escape - escapes] : s, 1);
        s += escape || *s == quote ? 2 : 1; // '' is one '
    }
    *value = t.data;
    return s + 1;
}

// A text at s, plain or quoted, in a list or not. Returns what comes after it; *value is a new string,
// or NULL for YAML's null.
static const char *yaml_text(const char *s, bool in_list, char **value, const char *where) {
    if (*s == '\'' || *s == '"') return yaml_quoted(s, value, where);
    if (*s && (strchr("&*!|>%@`]},", *s) || yaml_is_element(s) || (*s == '?' && s[1] == ' ')))
        die(EXIT_BAD_INPUT, "%s: begins with %c, which is not read here; in quotes it is a text",
            where, *s);
    const char *end = s;
    while (*end && !(in_list && strchr(",[]{}", *end))) {
        if (*end == '#' && end > s && strchr(" \t", end[-1])) break;
        if (*end == ':' && (!end[1] || strchr(" \t", end[1])))
            die(EXIT_BAD_INPUT, "%s: a map in a map, or a text with a colon, which wants quotes",
                where);
        end++;
    }
    size_t n = (size_t)(end - s);
    while (n && strchr(" \t", s[n - 1])) n--;
    char *text = text_format("%.*s", (int)n, s);
    if (!n || !strcmp(text, "~") || !strcasecmp(text, "null")) {
        free(text);
        text = NULL;
    }
    *value = text;
    return end;
}

// The item is a map after all: what is known of it is whether it is empty.
static void yaml_map(YamlItem *item, bool empty) {
    for (int i = 0; i < item->n; i++) free(item->values[i]);
    item->n = 0;
    item->kind = YAML_MAP;
    yaml_add(item, text_copy(empty ? "{}" : "{..}"));
}

// The value of an item, at s and up to the end of the line.
static void yaml_value(YamlItem *item, const char *s, const char *where) {
    char *value = NULL;
    if (yaml_ends(s)) return;
    if (*s == '{') {
        const char *end = strchr(s, '}');
        yaml_map(item, *yaml_skip(s + 1) == '}');
        if (!end) die(EXIT_BAD_INPUT, "%s: a map that does not end in its line", where);
        s = end + 1;
    } else if (*s == '[') {
        item->kind = YAML_LIST;
        s = yaml_skip(s + 1);
        while (*s != ']') {
            s = yaml_skip(yaml_text(s, true, &value, where));
            yaml_add(item, value ? value : text_copy(""));
            if (*s == ',') s = yaml_skip(s + 1);
            else if (*s != ']')
                die(EXIT_BAD_INPUT, "%s: expected a list of texts that ends in its line", where);
        }
        s++;
    } else {
        s = yaml_text(s, false, &value, where);
        if (value) {
            item->kind = YAML_TEXT;
            yaml_add(item, value);
        }
    }
    if (!yaml_ends(yaml_skip(s)))
        die(EXIT_BAD_INPUT, "%s: \"%s\" after the end of a value", where, yaml_skip(s));
}

// A line below a key that has no value beside it: an element of its list, or a part of its map. What
// is `deeper` than the first such line belongs to an element that is a map or a list itself.
static void yaml_below(YamlItem *item, const char *s, bool deeper, const char *where) {
    const bool element = yaml_is_element(s);
    if (item->kind == YAML_MAP || deeper) {
        yaml_map(item, false);
        return;
    }
    const char *text = element ? yaml_skip(s + 1) : s;
    if (yaml_has_key(text) ||
        (element && (yaml_is_element(text) || (*text && strchr("[{", *text))))) {
        yaml_map(item, false);
        return;
    }
    if (!element) die(EXIT_BAD_INPUT, "%s: a text over several lines is not read here", where);
    char *value;
    const char *rest = yaml_skip(yaml_text(text, false, &value, where));
    yaml_add(item, value ? value : text_copy(""));
    item->kind = YAML_LIST;
    if (!yaml_ends(rest)) die(EXIT_BAD_INPUT, "%s: \"%s\" after the end of a value", where, rest);
}

// A new item: the line `key: value` at s. True if the value is not in this line.
static bool yaml_begin(Yaml *y, const char *s, long line, const char *where) {
    const size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    const char *colon = yaml_skip(s + n);
    if (!n || *colon != ':' || (colon[1] && !strchr(" \t", colon[1])))
        die(EXIT_BAD_INPUT, "%s: expected NAME: VALUE", where);
    const char *value = yaml_skip(colon + 1);
    YamlItem item = {.key = text_format("%.*s", (int)n, s), .line = line};
    for (int i = 0; i < y->n; i++)
        if (!strcmp(y->items[i].key, item.key))
            die(EXIT_BAD_INPUT, "%s: \"%s\" is in line %ld already", where, item.key,
                y->items[i].line);
    yaml_value(&item, value, where);
    y->items = mem_resize(y->items, (size_t)y->n + 1, sizeof *y->items);
    y->items[y->n++] = item;
    return yaml_ends(value);
}

// Read a file. Any fault dies with EXIT_BAD_INPUT. Release with yaml_free().
static Yaml yaml_read(const char *path) {
    Yaml y = {0};
    size_t size, below = SIZE_MAX; // how far the first line below the last key is indented
    char *text = file_read(path, &size), *next;
    bool open = false; // the last key's value is below it
    long number = 0;
    if (utf8_check(text, size) < size || strlen(text) < size)
        die(EXIT_BAD_INPUT, "%s: not a text in UTF-8", path);
    for (char *line = strncmp(text, "\xEF\xBB\xBF", 3) ? text : text + 3; line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        size_t n = strlen(line);
        while (n && strchr(" \t\r", line[n - 1])) line[--n] = 0;
        const char *s = line + strspn(line, " ");
        const size_t depth = (size_t)(s - line);
        const bool separator = !strncmp(line, "---", 3) && (!line[3] || line[3] == ' ');
        char *where = text_format("%s:%ld", path, ++number);
        if (*s == '\t') die(EXIT_BAD_INPUT, "%s: indented by a tab, expected blanks", where);
        if (separator && (y.n || !yaml_ends(yaml_skip(line + 3))))
            die(EXIT_BAD_INPUT, "%s: a second document is not read here", where);
        if (!separator && !yaml_ends(s)) {
            if (depth == 0 && !yaml_is_element(s)) {
                open = yaml_begin(&y, s, number, where);
                below = SIZE_MAX;
            } else {
                if (!open || (below != SIZE_MAX && depth < below))
                    die(EXIT_BAD_INPUT, "%s: expected NAME: VALUE, not indented", where);
                if (below == SIZE_MAX) below = depth;
                yaml_below(&y.items[y.n - 1], s, depth > below, where);
            }
        }
        free(where);
    }
    free(text);
    return y;
}

#endif
