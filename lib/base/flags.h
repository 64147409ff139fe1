// flags.h: a program's options as a table with one line each, written out in the program, since an
// algorithm's defaults are part of it. The variable's initial value is the default.
//
//     struct { double beta; int max_steps; } args = {0.1, -1};
//     Flag flags[] = {FLAG(args, beta, 0, 10, "strength of the pull to the reference"), ...};
//     flags_parse(argc, argv, flags, COUNT(flags), "what the program does", preset);
//
// A table may also list names that other programs of the kind have (FLAG_ALIAS to FLAG_NOTE), so that
// their command lines and configuration files work here, or are refused with the reason.
//
// From top to bottom: the table; one flag; names (aliases, the nearest); help; files; command line; out.
#ifndef FLAGS_H
#define FLAGS_H

#include <assert.h>

#include "common.h" // defines: die, Text
#include "json.h"   // defines: json_read
#include "yaml.h"   // defines: yaml_read

typedef enum {
    FLAG_SECTION,
    FLAG_KEPT_SECTION,
    FLAG_REMOVED,
    FLAG_INT,
    FLAG_LONG,
    FLAG_DOUBLE,
    FLAG_BOOL,
    FLAG_STRING,
    FLAG_OTHER_NAME, // from here on: names of other programs
    FLAG_OF_NULL,
    FLAG_WITHOUT_EFFECT,
    FLAG_REFUSED,
    FLAG_REMARKED
} FlagType;

typedef struct {
    const char *name; // without dashes, words joined by _; NULL: `help` is a heading
    FlagType type;
    void *value;         // int, int64_t, double, bool, or char pointer (NULL: not set)
    double low, high;    // numbers: the range, both ends included
    const char *choices; // strings: "a|b|c", or NULL for any
    const char *help;
    bool given;     // set by flags_parse: on the command line or in --config
    const char *by; // the name under which it was given, in the table
} Flag;

#define FLAG_TYPE(x)                                                                               \
    _Generic((x), int: FLAG_INT, int64_t: FLAG_LONG, double: FLAG_DOUBLE, bool: FLAG_BOOL,          \
             const char *: FLAG_STRING)
#define FLAG_HEADING(text)                                                                         \
    { NULL, FLAG_SECTION, NULL, 0, 0, NULL, text, false, NULL }
// The flags under this heading decide what is learnt: a run that goes on must have the same.
#define FLAG_HEADING_KEPT(text)                                                                    \
    { NULL, FLAG_KEPT_SECTION, NULL, 0, 0, NULL, text, false, NULL }
// A flag that the program had once: whoever gives it is told where it went. A run.json of that time
// can still be read.
#define FLAG_GONE(name, where)                                                                     \
    { name, FLAG_REMOVED, NULL, 0, 0, NULL, where, false, NULL }
#define FLAG(args, field, low, high, help)                                                         \
    { #field, FLAG_TYPE((args).field), &(args).field, low, high, NULL, help, false, NULL }
#define FLAG_CHOICE(args, field, choices, help)                                                    \
    { #field, FLAG_TYPE((args).field), &(args).field, 0, 0, choices, help, false, NULL }
#define FLAG_TEXT(args, field, help) FLAG_CHOICE(args, field, NULL, help)
#define FLAG_SWITCH(args, field, help) FLAG_CHOICE(args, field, NULL, help)

// Another name of the flag `ours`; `values` "theirs=ours|.." where their words differ, or NULL.
#define FLAG_ALIAS(name, ours, values)                                                             \
    { name, FLAG_OTHER_NAME, NULL, 0, 0, values, ours, false, NULL }
// The same for values from 0 and below 1.
#define FLAG_SHARE(name, ours)                                                                     \
    { name, FLAG_OTHER_NAME, NULL, 0, 1, NULL, ours, false, NULL }
// What null in a configuration file means for the flag of this name; elsewhere null is "not given".
#define FLAG_NULL(name, value)                                                                     \
    { name, FLAG_OF_NULL, NULL, 0, 0, value, NULL, false, NULL }
// A name that has nothing to decide here, because of `why`.
#define FLAG_IDLE(name, why)                                                                       \
    { name, FLAG_WITHOUT_EFFECT, NULL, 0, 0, NULL, why, false, NULL }
// The same for `values` "a|b" (and for none, null, nothing); others are refused, because of `why`.
#define FLAG_ONLY(name, values, why)                                                               \
    { name, FLAG_REFUSED, NULL, 0, 0, values, why, false, NULL }
// The same, but others are accepted, and `what` comes of it is said.
#define FLAG_NOTE(name, values, what)                                                              \
    { name, FLAG_REMARKED, NULL, 0, 0, values, what, false, NULL }

// True if it has a variable: it is no heading, and no name that is only known.
static bool flag_has_value(const Flag *flag) {
    return flag->type >= FLAG_INT && flag->type <= FLAG_STRING;
}

// ------------------------------------------------------------------------------------------------
// One flag

// The flag of this name, or NULL.
static Flag *flag_find(Flag *flags, int n, const char *name) {
    for (int i = 0; i < n; i++) {
        if (!flags[i].name || flags[i].type == FLAG_OF_NULL) continue;
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

// 1 for yes, 0 for no, in the words that transformers and YAML take; -1 for anything else.
static int bool_parse(const char *text) {
    static const char *const words[2][6] = {{"false", "no", "f", "n", "0", "off"},
                                            {"true", "yes", "t", "y", "1", "on"}};
    for (int yes = 0; yes < 2; yes++)
        for (int i = 0; i < COUNT(words[0]); i++)
            if (!strcasecmp(text, words[yes][i])) return yes;
    return -1;
}

// Letters to put in, take out, replace or exchange with the next one to make one name of the other;
// - and _ are the same.
static int text_distance(const char *a, const char *b) {
    enum { MOST = 64 };
    const int n = (int)strlen(a), m = (int)strlen(b);
    int d[MOST + 1][MOST + 1];
    if (n > MOST || m > MOST) return INT_MAX;
#define LETTER(c) ((c) == '-' ? '_' : tolower((unsigned char)(c)))
    for (int i = 0; i <= n; i++) {
        for (int j = 0; j <= m; j++) {
            if (!i || !j) {
                d[i][j] = i + j;
                continue;
            }
            const char x = (char)LETTER(a[i - 1]), y = (char)LETTER(b[j - 1]);
            int best = d[i - 1][j - 1] + (x != y);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && x == LETTER(b[j - 2]) && y == LETTER(a[i - 2]) &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
#undef LETTER
    return d[n][m];
}

// How far two names may be apart so that one is probably the other, mistyped.
static int text_distance_most(const char *name) { return 1 + (int)strlen(name) / 5; }

// "; did you mean X?" as a new string, if a choice of "a|b|c" is near to `text`; else "".
static char *choice_near(const char *text, const char *choices) {
    int least = text_distance_most(text);
    char *near = text_copy(""), *copy = text_copy(choices);
    for (char *c = strtok(copy, "|"); c; c = strtok(NULL, "|")) {
        const int distance = text_distance(text, c);
        if (distance > least) continue;
        least = distance - 1;
        free(near);
        near = text_format("; did you mean %s?", c);
    }
    free(copy);
    return near;
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
                die(EXIT_USAGE, "%s--%s %s: expected one of %s%s", from, flag->name, text,
                    flag->choices, choice_near(text, flag->choices));
        }
        if (flag->given) free(*(char **)flag->value); // given twice: the last one counts
        *(const char **)flag->value = *text ? text_copy(text) : NULL;
    } else if (flag->type == FLAG_BOOL) {
        const int yes = bool_parse(text);
        if (yes < 0) die(EXIT_USAGE, "%s--%s %s: expected true or false", from, flag->name, text);
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
    default: // it has none
        break;
    }
}

// ------------------------------------------------------------------------------------------------
// Names

// The flag that a name of the table stands for: itself, or that of which it is another name.
static Flag *flag_meant(Flag *flags, int n, Flag *flag) {
    return flag->type == FLAG_OTHER_NAME ? flag_find(flags, n, flag->help) : flag;
}

// The flag whose name is nearest to one that is unknown, or else the first that contains it; NULL:
// none is near.
static const Flag *flag_nearest(const Flag *flags, int n, const char *name) {
    const Flag *near = NULL, *with = NULL;
    int least = text_distance_most(name);
    for (int i = 0; i < n; i++) {
        const Flag *flag = &flags[i];
        if (!flag->name || flag->type == FLAG_REMOVED || flag->type == FLAG_OF_NULL) continue;
        const int distance = text_distance(name, flag->name);
        if (distance <= least) {
            near = flag;
            least = distance - 1;
        }
        if (!with && flag_has_value(flag) && strlen(name) > 3 && strstr(flag->name, name))
            with = flag;
    }
    return near ? near : with;
}

// Die with EXIT_USAGE because of an unknown name; `quote` is what comes before it ("--", or a quotation
// mark, which then comes after it, too).
__attribute__((noreturn)) static void flag_unknown(const Flag *flags, int n, const char *name,
                                                   const char *quote, const char *from) {
    const char *after = *quote == '"' ? quote : "";
    const Flag *near = flag_nearest(flags, n, name);
    if (near)
        die(EXIT_USAGE, "%sunknown flag %s%s%s; did you mean %s%s%s?", from, quote, name, after,
            quote, near->name, after);
    die(EXIT_USAGE, "%sunknown flag %s%s%s; see --help", from, quote, name, after);
}

// True for a name whose value is a share (FLAG_SHARE).
static bool flag_is_share(const Flag *flag) {
    return flag->type == FLAG_OTHER_NAME && flag->high > flag->low;
}

// True if `text` is one of "a|b|c", as a word, a number or a bool, or says that there is nothing.
static bool value_among(const char *text, const char *choices) {
    if (!*text || !strcasecmp(text, "none") || !strcasecmp(text, "null")) return true;
    bool among = false;
    char *copy = text_copy(choices), *end, *end_c;
    for (char *c = strtok(copy, "|"); c && !among; c = strtok(NULL, "|")) {
        const double x = strtod(text, &end), y = strtod(c, &end_c);
        const bool numbers = end > text && !*end && end_c > c && !*end_c;
        const bool bools = !strcmp(c, "true") || !strcmp(c, "false");
        among = !strcasecmp(text, c) || (numbers && x == y) ||
                (bools && bool_parse(text) == bool_parse(c));
    }
    free(copy);
    return among;
}

// Take a value for a name of the table, whatever the name is. Dies with EXIT_USAGE if it does not fit,
// or if the flag was given under another name with another value, unless one is a share and one of them 0.
static void flag_take(Flag *flags, int n, Flag *flag, const char *text, const char *from) {
    Flag *meant = flag_meant(flags, n, flag);
    if (flag->type == FLAG_REFUSED && !value_among(text, flag->choices))
        die(EXIT_USAGE, "%s--%s %s: %s", from, flag->name, text, flag->help);
    if (flag->type == FLAG_REMARKED && !value_among(text, flag->choices))
        warn("%s--%s %s: %s", from, flag->name, text, flag->help);
    if (!flag_has_value(flag)) flag->given = true;
    if (flag->type >= FLAG_OF_NULL) return;
    char *value = text_copy(text);
    if (flag->type == FLAG_OTHER_NAME && flag->choices) { // their word for ours
        char *all = text_format("|%s|", flag->choices), *one = text_format("|%s=", text);
        const char *found = strstr(all, one);
        if (!found)
            die(EXIT_USAGE, "%s--%s %s: it is --%s here, and of the values there are only %s", from,
                flag->name, text, meant->name, flag->choices);
        free(value);
        found += strlen(one);
        value = text_format("%.*s", (int)strcspn(found, "|"), found);
        free(all), free(one);
    }
    if (flag_is_share(flag)) {
        char *end;
        const double x = strtod(text, &end);
        if (end == text || *end || !(x >= flag->low && x < flag->high))
            die(EXIT_USAGE, "%s--%s %s: expected a share, from %g and below %g", from, flag->name,
                text, flag->low, flag->high);
    }
    Text before = {0}, after = {0};
    flag_print(&before, meant, false);
    const char *by = meant->by;
    flag_set(meant, value, from);
    flag_print(&after, meant, false);
    const bool again = by && strcmp(by, flag->name) && strcmp(before.data, after.data);
    // Of a count and a share of all, the one that is 0 says nothing, as in transformers.
    const bool share = again && (flag_is_share(flag) || flag_is_share(flag_find(flags, n, by)));
    const bool nothing = share && !strcmp(after.data, "0");
    if (again && !nothing && !(share && !strcmp(before.data, "0")))
        die(EXIT_USAGE, "%s--%s %s: --%s has said %s; they are two names of one flag", from,
            flag->name, text, by, before.data);
    if (nothing) flag_set(meant, before.data, from);
    else meant->by = flag->name;
    text_free(&before), text_free(&after);
    free(value);
}

// Say on stderr which of the names that were given have no effect here.
static void flags_remark(const Flag *flags, int n) {
    Text names = {0};
    for (int i = 0; i < n; i++)
        if (flags[i].given && flags[i].type == FLAG_WITHOUT_EFFECT)
            text_print(&names, "%s--%s", names.size ? ", " : "", flags[i].name);
    if (names.size) fprintf(stderr, "note: without effect here: %s\n", names.data);
    text_free(&names);
}

// ------------------------------------------------------------------------------------------------
// Help

static void flags_help(const char *program, const char *about, const Flag *flags, int n) {
    bool others = false;
    printf("%s: %s\n\nusage: %s [--flag value]...   (- and _ are the same in a name)\n", program,
           about, program);
    for (int i = 0; i < n; i++) {
        if (!flags[i].name) {
            printf("\n%s\n", flags[i].help);
            continue;
        }
        if (!flag_has_value(&flags[i])) {
            others |= flags[i].type > FLAG_STRING;
            continue;
        }
        Text t = {0};
        text_print(&t, "  --%s ", flags[i].name);
        if (flags[i].choices) text_print(&t, "%s ", flags[i].choices);
        text_print(&t, "[");
        flag_print(&t, &flags[i], false);
        text_print(&t, "]");
        printf("%-42s %s\n", t.data, flags[i].help);
        text_free(&t);
    }
    printf("\n  --config FILE                            read flags from JSON, as run.json has "
           "them, or YAML\n"
           "  --help                                   this text\n");
    if (others) printf("\nTRL's names of flags are taken, too: see docs/flags.md\n");
}

// ------------------------------------------------------------------------------------------------
// Configuration files

// Take one setting of a file: n_values texts (0: null or an empty list), or a map, of which `values`
// has one that says whether it is empty. Nothing if `before` says that the flag was given already.
static void flags_setting(Flag *flags, int n, const bool *before, const char *key,
                          char *const *values, int n_values, bool map, const char *from) {
    Flag *flag = flag_find(flags, n, key);
    if (!flag) flag_unknown(flags, n, key, "\"", from);
    const Flag *meant = flag_meant(flags, n, flag);
    if (before[meant - flags]) return;
    if (flag->type == FLAG_REMOVED) {
        if (n_values == 0 || (n_values == 1 && !strcmp(values[0], "false"))) return; // not set
        flag_set(flag, "", from);
    }
    for (int i = 0; n_values == 0 && i < n; i++) // what null means
        if (flags[i].type == FLAG_OF_NULL && !strcmp(flags[i].name, key))
            flag_take(flags, n, flag, flags[i].choices, from);
    if (flag_has_value(meant) && map)
        die(EXIT_USAGE, "%s\"%s\" is not a plain value: found a map", from, key);
    if (flag_has_value(meant) && n_values > 1)
        die(EXIT_USAGE, "%s\"%s\" takes one value: found a list of %d", from, key, n_values);
    for (int i = 0; i < n_values; i++) flag_take(flags, n, flag, values[i], from);
}

// A plain JSON value as text.
static char *flags_json_text(const cJSON *item) {
    int64_t whole;
    if (cJSON_IsString(item)) return text_copy(item->valuestring);
    if (cJSON_IsBool(item)) return text_copy(cJSON_IsTrue(item) ? "true" : "false");
    if (json_integer(item, &whole)) return text_format("%" PRId64, whole);
    if (cJSON_IsNumber(item)) return text_format("%.17g", item->valuedouble);
    return text_copy(cJSON_GetArraySize(item) ? "{..}" : cJSON_IsNull(item) ? "" : "{}");
}

// Take flags from a file: a JSON object {"name": value, ...}, as flags_json writes it, or, if its name
// ends in .yaml or .yml, lines `name: value`. null is skipped, and so is what the command line gave.
static void flags_read(const char *path, Flag *flags, int n) {
    bool *before = mem_alloc((size_t)n, sizeof *before);
    for (int i = 0; i < n; i++) before[i] = flags[i].given;
    const char *dot = strrchr(path, '.');
    if (dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml"))) {
        Yaml yaml = yaml_read(path);
        for (int i = 0; i < yaml.n; i++) {
            const YamlItem *item = &yaml.items[i];
            char *from = text_format("%s:%ld: ", path, item->line);
            flags_setting(flags, n, before, item->key, item->values, item->n,
                          item->kind == YAML_MAP, from);
            free(from);
        }
        yaml_free(&yaml);
    } else {
        cJSON *root = json_read(path), *item, *element;
        char *from = text_format("%s: ", path);
        if (!cJSON_IsObject(root)) die(EXIT_BAD_INPUT, "%s: expected a JSON object of flags", path);
        cJSON_ArrayForEach(item, root) {
            YamlItem values = {0}; // as if it were YAML
            bool map = cJSON_IsObject(item);
            if (cJSON_IsArray(item)) {
                cJSON_ArrayForEach(element, item) {
                    yaml_add(&values, flags_json_text(element));
                    map |= cJSON_IsObject(element) || cJSON_IsArray(element);
                }
            } else if (!cJSON_IsNull(item)) yaml_add(&values, flags_json_text(item));
            flags_setting(flags, n, before, item->string, values.values, values.n, map, from);
            for (int i = 0; i < values.n; i++) free(values.values[i]);
            free(values.values);
        }
        free(from);
        cJSON_Delete(root);
    }
    free(before);
}

// ------------------------------------------------------------------------------------------------
// The command line

// Fill the table's variables from the command line, which goes before what --config reads. Without
// arguments the flags of `preset` (a string with blanks between words, or NULL) are taken and
// printed as a complete command line. --help prints the table and exits with 0; a mistake dies with
// EXIT_USAGE. Returns the file of --config, a part of argv, or NULL.
static const char *flags_parse(int argc, char **argv, Flag *flags, int n, const char *about,
                               const char *preset) {
    const char *program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    const char **words = mem_alloc((size_t)argc + (preset ? strlen(preset) : 0), sizeof *words);
    const char *config = NULL;
    char *copy = text_copy(preset ? preset : "");
    const Flag *last = NULL;
    int count = 0;
    if (argc == 1 && preset) {
        printf("no arguments: running the default\n  ./%s %s\n\n", program, preset);
        for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) words[count++] = word;
    } else
        for (int i = 1; i < argc; i++) words[count++] = argv[i];
    for (int i = 0; i < n; i++) assert(!flags[i].name || flag_meant(flags, n, &flags[i]));
    for (int i = 0; i < count; i++) {
        const char *word = words[i];
        if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
            flags_help(program, about, flags, n);
            free(copy), free(words);
            exit(stdout_end());
        }
        if (strncmp(word, "--", 2) && last)
            die(EXIT_USAGE, "unexpected argument %s; --%s takes one value", word, last->name);
        if (strncmp(word, "--", 2)) die(EXIT_USAGE, "unexpected argument %s; see --help", word);
        char *name = text_copy(word + 2), *equals = strchr(name, '=');
        if (equals) *equals = 0;
        Flag *flag = flag_find(flags, n, name);
        const char *value = equals ? word + 2 + (equals - name) + 1 : NULL;
        if (!flag && !value && (!strncmp(name, "no_", 3) || !strncmp(name, "no-", 3))) {
            flag = flag_find(flags, n, name + 3); // --no_name is --name false
            if (flag && flag_meant(flags, n, flag)->type < FLAG_WITHOUT_EFFECT &&
                flag_meant(flags, n, flag)->type != FLAG_BOOL)
                flag = NULL;
            value = "false";
        }
        if (!flag && strcmp(name, "config")) flag_unknown(flags, n, name, "--", "");
        const Flag *meant = flag ? flag_meant(flags, n, flag) : NULL;
        if (flag && flag->type == FLAG_REMOVED) flag_set(flag, "", "");
        const bool next = i + 1 < count && strncmp(words[i + 1], "--", 2);
        if (!value && meant && meant->type > FLAG_STRING) { // any number of values, or none: true
            if (!next) flag_take(flags, n, flag, "true", "");
            while (i + 1 < count && strncmp(words[i + 1], "--", 2))
                flag_take(flags, n, flag, words[++i], "");
        } else {
            if (!value && meant && meant->type == FLAG_BOOL) // --name alone means true
                value = next ? words[++i] : "true";
            if (!value && i + 1 >= count) die(EXIT_USAGE, "--%s needs a value", name);
            if (!value) value = words[++i];
            if (flag) flag_take(flags, n, flag, value, "");
            else config = value;
        }
        last = flag;
        free(name);
    }
    if (config) flags_read(config, flags, n);
    flags_remark(flags, n);
    free(copy), free(words);
    return config;
}

// ------------------------------------------------------------------------------------------------
// Out

// Free the strings that flags_parse made.
static void flags_free(Flag *flags, int n) {
    for (int i = 0; i < n; i++)
        if (flags[i].type == FLAG_STRING && flags[i].given) free(*(char **)flags[i].value);
}

// True if flag i is under a heading whose flags a resumed run must repeat.
static bool flag_kept(const Flag *flags, int i) {
    if (!flag_has_value(&flags[i])) return false;
    while (i > 0 && flags[i].name) i--;
    return flags[i].type == FLAG_KEPT_SECTION;
}

// All flags as a JSON object, one a line: what --config reads. kept_only: those that flag_kept names.
static void flags_json(Text *out, const Flag *flags, int n, bool kept_only) {
    text_print(out, "{");
    const char *comma = "\n";
    for (int i = 0; i < n; i++) {
        if (!flag_has_value(&flags[i])) continue;
        if (kept_only && !flag_kept(flags, i)) continue;
        text_print(out, "%s  \"%s\": ", comma, flags[i].name);
        flag_print(out, &flags[i], true);
        comma = ",\n";
    }
    text_print(out, "\n}\n");
}

#endif
