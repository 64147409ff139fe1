// flags.h: a program's options as a table with one line each, written out in the program, since an
// algorithm's defaults are part of it. The variable's initial value is the default.
//
//     struct { double beta; int max_steps; } args = {0.1, -1};
//     Flag flags[] = {FLAG(args, beta, 0, 10, "strength of the pull to the reference"), ...};
//     flags_parse(argc, argv, flags, COUNT(flags), "what the program does", preset);
#ifndef FLAGS_H
#define FLAGS_H

#include "common.h"
#include "json.h"

typedef enum {
    FLAG_SECTION,
    FLAG_KEPT_SECTION,
    FLAG_REMOVED,
    FLAG_INT,
    FLAG_LONG,
    FLAG_DOUBLE,
    FLAG_BOOL,
    FLAG_STRING
} FlagType;

typedef struct {
    const char *name; // without dashes, words joined by _; NULL: `help` is a heading
    FlagType type;
    void *value;         // int, int64_t, double, bool, or char pointer (NULL: not set)
    double low, high;    // numbers: the range, both ends included
    const char *choices; // strings: "a|b|c", or NULL for any
    const char *help;
    bool given; // set by flags_parse: on the command line or in --config
} Flag;

#define FLAG_TYPE(x)                                                                               \
    _Generic((x), int: FLAG_INT, int64_t: FLAG_LONG, double: FLAG_DOUBLE, bool: FLAG_BOOL,          \
             const char *: FLAG_STRING)
#define FLAG_HEADING(text)                                                                         \
    { NULL, FLAG_SECTION, NULL, 0, 0, NULL, text, false }
// The flags under this heading decide what is learnt: a run that goes on must have the same.
#define FLAG_HEADING_KEPT(text)                                                                    \
    { NULL, FLAG_KEPT_SECTION, NULL, 0, 0, NULL, text, false }
// A flag that the program had once: whoever gives it is told where it went. A run.json of that time
// can still be read.
#define FLAG_GONE(name, where)                                                                     \
    { name, FLAG_REMOVED, NULL, 0, 0, NULL, where, false }
#define FLAG(args, field, low, high, help)                                                         \
    { #field, FLAG_TYPE((args).field), &(args).field, low, high, NULL, help, false }
#define FLAG_CHOICE(args, field, choices, help)                                                    \
    { #field, FLAG_TYPE((args).field), &(args).field, 0, 0, choices, help, false }
#define FLAG_TEXT(args, field, help) FLAG_CHOICE(args, field, NULL, help)
#define FLAG_SWITCH(args, field, help) FLAG_CHOICE(args, field, NULL, help)

static Flag *flag_find(Flag *flags, int n, const char *name) {
    for (int i = 0; i < n; i++) {
        if (!flags[i].name) continue;
        size_t k = 0;
        while (name[k] && (name[k] == '-' ? '_' : name[k]) == flags[i].name[k]) k++;
        if (!name[k] && !flags[i].name[k]) return &flags[i];
    }
    return NULL;
}

// True if the user gave this flag (not merely its default).
static bool flag_given(Flag *flags, int n, const char *name) {
    const Flag *flag = flag_find(flags, n, name);
    return flag && flag->given;
}

// The place, from 0, of a value among choices "a|b|c"; -1 if it is none of them.
static int choice_index(const char *value, const char *choices) {
    const size_t n = strlen(value);
    int index = 0;
    for (const char *c = choices; c; index++) {
        if (!strncmp(c, value, n) && (c[n] == '|' || !c[n])) return index;
        c = strchr(c, '|');
        if (c) c++;
    }
    return -1;
}

// Store `text` in the flag's variable; an empty string unsets one of type string. Dies with
// EXIT_USAGE if the text does not fit. `from` says where it is: "" or "FILE: ".
static void flag_set(Flag *flag, const char *text, const char *from) {
    char *end = NULL;
    double number = 0;
    errno = 0;
    if (flag->type == FLAG_REMOVED) die(EXIT_USAGE, "%s--%s: %s", from, flag->name, flag->help);
    if (flag->type == FLAG_STRING) {
        if (flag->choices) { // look for |text| in |choices|
            char *all = text_format("|%s|", flag->choices), *one = text_format("|%s|", text);
            bool known = strstr(all, one) && !strchr(text, '|');
            free(all), free(one);
            if (!known)
                die(EXIT_USAGE, "%s--%s %s: expected one of %s", from, flag->name, text,
                    flag->choices);
        }
        if (flag->given) free(*(char **)flag->value); // given twice: the last one counts
        *(const char **)flag->value = *text ? text_copy(text) : NULL;
    } else if (flag->type == FLAG_BOOL) {
        bool yes = !strcmp(text, "true") || !strcmp(text, "1");
        if (!yes && strcmp(text, "false") && strcmp(text, "0"))
            die(EXIT_USAGE, "%s--%s %s: expected true or false", from, flag->name, text);
        *(bool *)flag->value = yes;
    } else {
        long long whole = 0;
        if (flag->type == FLAG_DOUBLE) number = strtod(text, &end);
        else number = (double)(whole = strtoll(text, &end, 10));
        bool decimal = !text[strspn(text, "+-.0123456789eE")]; // no nan, inf, hex or blank
        if (!decimal || end == text || *end)
            die(EXIT_USAGE, "%s--%s %s: not a%s number", from, flag->name, text,
                flag->type == FLAG_DOUBLE ? "" : " whole");
        if (errno == ERANGE && flag->type != FLAG_DOUBLE) number = INFINITY;
        if (!(number >= flag->low && number <= flag->high))
            die(EXIT_USAGE, "%s--%s %s: out of range (from %.15g to %.15g)", from, flag->name, text,
                flag->low, flag->high);
        if (flag->type == FLAG_DOUBLE) *(double *)flag->value = number;
        else if (flag->type == FLAG_LONG) *(int64_t *)flag->value = whole;
        else *(int *)flag->value = (int)whole;
    }
    flag->given = true;
}

// Append the flag's value as text: `json` quotes strings and writes null for one not set.
static void flag_print(Text *out, const Flag *flag, bool json) {
    switch (flag->type) {
    case FLAG_INT:
        text_print(out, "%d", *(const int *)flag->value);
        break;
    case FLAG_LONG:
        text_print(out, "%" PRId64, *(const int64_t *)flag->value);
        break;
    case FLAG_BOOL:
        text_print(out, "%s", *(const bool *)flag->value ? "true" : "false");
        break;
    case FLAG_DOUBLE: { // the shortest form that reads back as the same double
        double x = *(const double *)flag->value;
        char s[40];
        for (int digits = 6; digits <= 17; digits++) {
            snprintf(s, sizeof s, "%.*g", digits, x);
            if (strtod(s, NULL) == x) break;
        }
        text_print(out, "%s", s);
        break;
    }
    case FLAG_STRING: {
        const char *s = *(const char *const *)flag->value;
        if (!json) text_print(out, "%s", s ? s : "none");
        else if (!s) text_print(out, "null");
        else text_json(out, s, strlen(s));
        break;
    }
    case FLAG_SECTION:
    case FLAG_KEPT_SECTION:
    case FLAG_REMOVED:
        break;
    }
}

static void flags_help(const char *program, const char *about, const Flag *flags, int n) {
    printf("%s: %s\n\nusage: %s [--flag value]...   (- and _ are the same in a name)\n", program,
           about, program);
    for (int i = 0; i < n; i++) {
        if (!flags[i].name) {
            printf("\n%s\n", flags[i].help);
            continue;
        }
        if (flags[i].type == FLAG_REMOVED) continue;
        Text t = {0};
        text_print(&t, "  --%s ", flags[i].name);
        if (flags[i].choices) text_print(&t, "%s ", flags[i].choices);
        text_print(&t, "[");
        flag_print(&t, &flags[i], false);
        text_print(&t, "]");
        printf("%-42s %s\n", t.data, flags[i].help);
        text_free(&t);
    }
    printf("\n  --config FILE.json                       read flags from a file, as run.json has "
           "them\n"
           "  --help                                   this text\n");
}

// Take flags from a JSON object {"name": value, ...}, as flags_json writes it; null is skipped, and
// so is what the command line gave before.
static void flags_read(const char *path, Flag *flags, int n) {
    cJSON *root = json_read(path), *item;
    char *from = text_format("%s: ", path);
    if (!cJSON_IsObject(root)) die(EXIT_BAD_INPUT, "%s: expected a JSON object of flags", path);
    cJSON_ArrayForEach(item, root) {
        Flag *flag = flag_find(flags, n, item->string);
        if (!flag) die(EXIT_USAGE, "%s: unknown flag \"%s\"; see --help", path, item->string);
        if (cJSON_IsNull(item) || flag->given) continue;
        if (flag->type == FLAG_REMOVED && cJSON_IsFalse(item)) continue; // it was not set
        if (cJSON_IsString(item)) flag_set(flag, item->valuestring, from);
        else if (cJSON_IsBool(item)) flag_set(flag, cJSON_IsTrue(item) ? "true" : "false", from);
        else if (cJSON_IsNumber(item)) {
            int64_t whole;
            char *text = json_integer(item, &whole) ? text_format("%" PRId64, whole)
                                                    : text_format("%.17g", item->valuedouble);
            flag_set(flag, text, from);
            free(text);
        } else die(EXIT_USAGE, "%s\"%s\" is not a plain value", from, item->string);
    }
    free(from);
    cJSON_Delete(root);
}

// The file of --config on the command line, or NULL.
static const char *flags_config(int argc, char **argv) {
    const char *config = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--config") && i + 1 < argc) config = argv[++i];
        else if (!strncmp(argv[i], "--config=", 9)) config = argv[i] + 9;
    }
    return config;
}

// Fill the table's variables from the command line, which goes before what --config reads. Without
// arguments the flags of `preset` (a string with blanks between words, or NULL) are taken and
// printed as a complete command line. --help prints the table and exits with 0; a mistake dies with
// EXIT_USAGE.
static void flags_parse(int argc, char **argv, Flag *flags, int n, const char *about,
                        const char *preset) {
    const char *program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    const char **words = mem_alloc((size_t)argc + (preset ? strlen(preset) : 0), sizeof *words);
    const char *config = NULL;
    char *copy = text_copy(preset ? preset : "");
    int count = 0;
    if (argc == 1 && preset) {
        printf("no arguments: running the default\n  ./%s %s\n\n", program, preset);
        for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) words[count++] = word;
    } else
        for (int i = 1; i < argc; i++) words[count++] = argv[i];
    for (int i = 0; i < count; i++) {
        const char *word = words[i];
        if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
            flags_help(program, about, flags, n);
            free(copy), free(words);
            exit(0);
        }
        if (strncmp(word, "--", 2)) die(EXIT_USAGE, "unexpected argument %s; see --help", word);
        char *name = text_copy(word + 2), *equals = strchr(name, '=');
        if (equals) *equals = 0;
        Flag *flag = flag_find(flags, n, name);
        if (!flag && strcmp(name, "config")) die(EXIT_USAGE, "unknown flag --%s; see --help", name);
        if (flag && flag->type == FLAG_REMOVED) flag_set(flag, "", "");
        const char *value = equals ? word + 2 + (equals - name) + 1 : NULL;
        if (!value && flag && flag->type == FLAG_BOOL) { // --name alone means true
            bool next = i + 1 < count && strncmp(words[i + 1], "--", 2);
            value = next ? words[++i] : "true";
        } else if (!value) {
            if (i + 1 >= count) die(EXIT_USAGE, "--%s needs a value", name);
            value = words[++i];
        }
        if (flag) flag_set(flag, value, "");
        else config = value;
        free(name);
    }
    if (config) flags_read(config, flags, n);
    free(copy), free(words);
}

// Free the strings that flags_parse made.
static void flags_free(Flag *flags, int n) {
    for (int i = 0; i < n; i++)
        if (flags[i].type == FLAG_STRING && flags[i].given) free(*(char **)flags[i].value);
}

// True if flag i is under a heading whose flags a resumed run must repeat.
static bool flag_kept(const Flag *flags, int i) {
    while (i > 0 && flags[i].name) i--;
    return flags[i].type == FLAG_KEPT_SECTION;
}

// All flags as a JSON object, one a line: what --config reads. kept_only: those that flag_kept names.
static void flags_json(Text *out, const Flag *flags, int n, bool kept_only) {
    text_print(out, "{");
    const char *comma = "\n";
    for (int i = 0; i < n; i++) {
        if (!flags[i].name || flags[i].type == FLAG_REMOVED) continue;
        if (kept_only && !flag_kept(flags, i)) continue;
        text_print(out, "%s  \"%s\": ", comma, flags[i].name);
        flag_print(out, &flags[i], true);
        comma = ",\n";
    }
    text_print(out, "\n}\n");
}

#endif
