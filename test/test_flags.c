// Tests of flags.h and yaml.h: values, names of other programs, the nearest name, configuration files.
#include "test.h"
#include "../lib/base/flags.h"
#include "../lib/run/trl_flags.h"
#include <fcntl.h>

static char root[] = "/tmp/align_flags_XXXXXX"; // a directory for this run's files

static char *in_root(const char *name) { return path_join(root, name); }

static void write_file(const char *path, const char *bytes, size_t n) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, n, file) != n || fclose(file))
        die(EXIT_IO, "%s: cannot write", path);
}

// ------------------------------------------------------------------------------------------------
// Values

typedef struct {
    int count, last;
    int64_t seed;
    double rate, other;
    bool on, off;
    const char *name, *unset, *kind;
} Args;

static const Args defaults = {.count = 3,
                              .last = 9,
                              .seed = 42,
                              .rate = 0.1,
                              .other = 1,
                              .on = true,
                              .name = "out",
                              .kind = "linear"};

enum { N_FLAGS = 12 };

// Parse a command line, words with one blank between them; "~" stands for an empty word.
static void parse(Args *args, Flag flags[N_FLAGS], const char *line, const char *preset) {
    *args = defaults;
    Flag table[N_FLAGS] = {
        FLAG_HEADING_KEPT("numbers"),
        FLAG(*args, count, -5, 100, "an int"),
        FLAG(*args, last, INT_MIN, INT_MAX, "any int"),
        FLAG(*args, seed, 0, 9e15, "an int64_t"),
        FLAG(*args, rate, 0, 10, "a double"),
        FLAG(*args, other, -1e300, 1e300, "a big double"),
        FLAG_HEADING("others"),
        FLAG_SWITCH(*args, on, "a switch that is on"),
        FLAG_SWITCH(*args, off, "a switch that is off"),
        FLAG_TEXT(*args, name, "a string"),
        FLAG_TEXT(*args, unset, "a string without a default"),
        FLAG_CHOICE(*args, kind, "linear|cosine|constant_with_warmup", "one of several"),
    };
    memcpy(flags, table, sizeof table);
    char *copy = text_copy(line), *words[64] = {"/bin/program"}, empty[] = "";
    int n = 1;
    for (char *w = strtok(copy, " "); w; w = strtok(NULL, " ")) words[n++] = *w == '~' ? empty : w;
    flags_parse(n, words, flags, N_FLAGS, "a test", preset);
    free(copy);
}

// What --help or a preset prints: run the child with standard output going to standard error.
#define CHECK_PRINTS(code, part, line, preset)                                                     \
    CHECK_DIES(code, part, dup2(STDERR_FILENO, STDOUT_FILENO); parse(&a, flags, line, preset);     \
               fflush(NULL))

static void test_flags(void) {
    Args a;
    Flag flags[N_FLAGS];
    parse(&a, flags, "", NULL);
    CHECK(a.count == 3 && a.seed == 42 && a.rate == 0.1 && a.on && !a.off && !a.unset, "defaults");
    CHECK(!flag_given(flags, N_FLAGS, "count"), "a default is not given");

    parse(&a, flags,
          "--count -5 --last=-2147483648 --seed 9000000000000000 --rate 1e-4 "
          "--other=-1.5E+10 --on false --off --name a=b --unset=x --kind cosine",
          NULL);
    CHECK(a.count == -5 && a.last == INT_MIN && a.seed == 9000000000000000, "integers");
    CHECK(a.rate == 1e-4 && a.other == -1.5e10, "doubles");
    CHECK(!a.on && a.off, "switches");
    CHECK(!strcmp(a.name, "a=b") && !strcmp(a.unset, "x") && !strcmp(a.kind, "cosine"), "strings");
    CHECK(flag_given(flags, N_FLAGS, "count") && flag_given(flags, N_FLAGS, "off"), "given");
    flags_free(flags, N_FLAGS);

    parse(&a, flags, "--off --count +7 --on 0 --off=1 --count 8 --rate .5 --name -x", NULL);
    CHECK(a.count == 8 && a.off && !a.on && a.rate == 0.5, "the last of two wins");
    CHECK(!strcmp(a.name, "-x"), "a value may begin with one dash");
    flags_free(flags, N_FLAGS);
    parse(&a, flags, "--unset x --unset ~ --rate 1e-400", NULL);
    CHECK(!a.unset, "an empty string unsets");
    CHECK(a.rate == 0, "what is too small for a double is 0");

    // The words of transformers for yes and no.
    static const char *const yes[] = {"true", "True", "yes", "Y", "t", "1"};
    static const char *const no[] = {"false", "False", "NO", "n", "f", "0"};
    for (int i = 0; i < COUNT(yes); i++) {
        char *words = text_format("--off %s --on %s", yes[i], no[i]);
        parse(&a, flags, words, NULL);
        CHECK(a.off && !a.on, "%s", words);
        free(words);
    }
    parse(&a, flags, "--off --no_on --no-off --on --no_on", NULL);
    CHECK(!a.off && !a.on, "--no_x is --x false");

    Flag named[] = {FLAG(a, count, 0, 9, "x")};
    named[0].name = "per_device_size";
    CHECK(flag_find(named, 1, "per_device_size") && flag_find(named, 1, "per-device-size") &&
              flag_find(named, 1, "per-device_size"),
          "- and _ are the same");
    CHECK(!flag_find(named, 1, "per_device") && !flag_find(named, 1, "per_device_sizes") &&
              !flag_find(named, 1, "") && !flag_find(named, 1, "Per_device_size"),
          "no other name");

    static const char *const bad[][2] = {
        {"--nothing 1", "unknown flag --nothing; see --help"},
        {"--nothing=1", "unknown flag --nothing; see --help"},
        {"--coun 1", "unknown flag --coun; did you mean --count?"},
        {"-count 1", "unexpected argument -count; see --help"},
        {"word", "unexpected argument word"},
        {"--count 1 2", "unexpected argument 2; --count takes one value"},
        {"--on true x", "unexpected argument x; --on takes one value"},
        {"--", "unknown flag --"},
        {"--=3", "unknown flag --"},
        {"--count", "--count needs a value"},
        {"--config", "--config needs a value"},
        {"--count --off", "--count --off: not a whole number"},
        {"--count 1.5", "--count 1.5: not a whole number"},
        {"--count 1e1", "--count 1e1: not a whole number"},
        {"--count 5x", "--count 5x: not a whole number"},
        {"--count 0x5", "--count 0x5: not a whole number"},
        {"--count ~", "--count : not a whole number"},
        {"--count=", "--count : not a whole number"},
        {"--count -", "--count -: not a whole number"},
        {"--count 101", "--count 101: out of range (from -5 to 100)"},
        {"--count -6", "--count -6: out of range (from -5 to 100)"},
        {"--last 2147483648", "--last 2147483648: out of range (from -2147483648 to 2147483647)"},
        {"--last -2147483649", "out of range"},
        {"--last 9223372036854775808", "out of range"},
        {"--last 4294967296", "out of range"}, // 0 in 32 bits
        {"--last -99999999999999999999999", "out of range"},
        {"--seed -1", "--seed -1: out of range (from 0 to 9e+15)"},
        {"--seed 18446744073709551616", "out of range"},
        {"--rate 1e-4x", "--rate 1e-4x: not a number"},
        {"--rate 1e", "not a number"},
        {"--rate e5", "not a number"},
        {"--rate .", "not a number"},
        {"--rate 1,5", "not a number"},
        {"--rate 0x1p-3", "not a number"},
        {"--rate nan", "--rate nan: not a number"},
        {"--rate inf", "--rate inf: not a number"},
        {"--rate -infinity", "not a number"},
        {"--rate ~", "--rate : not a number"},
        {"--rate 1e400", "--rate 1e400: out of range (from 0 to 10)"},
        {"--rate -1e400", "out of range"},
        {"--rate -1e-9", "out of range"},
        {"--rate 10.000001", "out of range"},
        {"--on maybe", "--on maybe: expected true or false"},
        {"--on ~", "--on : expected true or false"},
        {"--on=", "expected true or false"},
        {"--on 2", "expected true or false"},
        {"--no_count", "unknown flag --no_count; see --help"},
        {"--no_on=1", "unknown flag --no_on"},
        {"--kind Linear", "--kind Linear: expected one of linear|cosine|constant_with_warmup"},
        {"--kind cosin", "did you mean cosine?"},
        {"--kind constant-with-warmpu", "did you mean constant_with_warmup?"},
        {"--kind linear|cosine", "expected one of"},
        {"--kind constant", "expected one of"},
        {"--kind ~", "expected one of"},
        {"--kind |", "expected one of"},
    };
    for (int i = 0; i < COUNT(bad); i++) {
        CHECK_DIES(EXIT_USAGE, bad[i][1], parse(&a, flags, bad[i][0], NULL));
    }
    // Blanks around a number, which a shell would hand over as they are.
    static const char *const blanks[] = {" 5", "5 ", "\t5", "\n5", "5\n", "5\r"};
    for (int i = 0; i < COUNT(blanks); i++) {
        Flag one = FLAG(a, count, 0, 9, "x"), two = FLAG(a, rate, 0, 9, "x");
        CHECK_DIES(EXIT_USAGE, "not a whole number", flag_set(&one, blanks[i], ""));
        CHECK_DIES(EXIT_USAGE, "not a number", flag_set(&two, blanks[i], ""));
    }

    CHECK_PRINTS(0, "usage: program [--flag value]", "--help", NULL);
    CHECK_PRINTS(0, "  --kind linear|cosine|constant_with_warmup [linear]", "--count 4 -h", NULL);
    CHECK_PRINTS(0, "  --rate [0.1]", "--help", "--rate 7");
    CHECK_PRINTS(0, "\nnumbers\n", "--help", NULL);

    // A preset counts only when there are no arguments at all.
    CHECK_PRINTS(0, "  ./program --count 50 --off\n", "", "--count 50 --off");
    parse(&a, flags, "--rate 1", "--count 50 --off");
    CHECK(a.count == 3 && !a.off && a.rate == 1, "arguments turn the preset off");
    fflush(stdout);
    int out = dup(STDOUT_FILENO), null = open("/dev/null", O_WRONLY);
    dup2(null, STDOUT_FILENO);
    parse(&a, flags, "", "--count 50 --off");
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out), close(null);
    CHECK(a.count == 50 && a.off && flag_given(flags, N_FLAGS, "count"), "a preset is taken");
    CHECK_DIES(EXIT_USAGE, "unknown flag --x", close(STDOUT_FILENO); parse(&a, flags, "", "--x 1"));

    // What a checkpoint keeps: the flags below the headings that say so, and no others.
    parse(&a, flags, "--count 4 --name x", NULL);
    Text numbers = {0}, now = {0}, back = {0};
    flags_json(&numbers, flags, N_FLAGS, true);
    CHECK(strstr(numbers.data, "\"count\": 4") && strstr(numbers.data, "\"rate\""), "kept: %s",
          numbers.data);
    CHECK(!strstr(numbers.data, "\"name\"") && !strstr(numbers.data, "\"off\""), "not kept");
    a.rate = nextafter(a.rate, 1);
    flags_json(&now, flags, N_FLAGS, true);
    CHECK(strcmp(now.data, numbers.data), "another last digit, another text");
    a.rate = nextafter(a.rate, 0);
    a.off = !a.off;
    flags_json(&back, flags, N_FLAGS, true);
    CHECK(!strcmp(back.data, numbers.data), "a switch of the other heading changes nothing");
    text_free(&numbers);
    text_free(&now);
    text_free(&back);
    CHECK(choice_index("b", "a|b|c") == 1 && choice_index("c", "a|b|c") == 2 &&
              choice_index("ab", "a|abc|ab") == 2 && choice_index("d", "a|b") == -1,
          "choices by number");
    flags_free(flags, N_FLAGS);

    // More words than any fixed list would hold.
    char *words[2001] = {"program"};
    for (int i = 1; i < 2001; i++) words[i] = i % 2 ? "--last" : "17";
    words[2000] = "18";
    flags_parse(2001, words, flags, N_FLAGS, "a test", NULL);
    CHECK(a.last == 18, "a thousand flags");
    words[2000] = "x";
    CHECK_DIES(EXIT_USAGE, "--last x: not a whole number",
               flags_parse(2001, words, flags, N_FLAGS, "a test", NULL));
}

// What flags_json writes, --config reads: all values come back, doubles to the bit.
static void test_config(void) {
    Args a, b;
    Flag flags[N_FLAGS], more[N_FLAGS];
    char *path = in_root("run.json");
    char *line = text_format("--config %s", path);
    static const double rates[] = {0,
                                   1e-4,
                                   0.1,
                                   0.3,
                                   1.0 / 3,
                                   5e-324,
                                   9.999999999999998,
                                   2e-5,
                                   0.1 + 0.2,
                                   10,
                                   1.7976931348623157e-308};
    parse(&a, flags,
          "--seed 9000000000000000 --count -4 --on false --off --kind cosine "
          "--name a\"b\\c\xC3\xA9",
          NULL);
    for (int i = 0; i < COUNT(rates); i++) {
        Text t = {0};
        a.rate = rates[i], a.other = i % 2 ? rates[i] * 1e290 : 1 - rates[i] / 7;
        flags_json(&t, flags, N_FLAGS, false);
        write_file(path, t.data, t.size);
        parse(&b, more, line, NULL);
        CHECK(b.rate == a.rate && b.other == a.other, "doubles of run.json %.17g %.17g in %s",
              a.rate, a.other, t.data);
        CHECK(b.seed == a.seed && b.count == a.count && b.on == a.on && b.off == a.off &&
                  !strcmp(b.name, a.name) && !strcmp(b.kind, a.kind) && !b.unset,
              "round trip");
        CHECK(flag_given(more, N_FLAGS, "name") && !flag_given(more, N_FLAGS, "unset"), "given");
        Text again = {0};
        flags_json(&again, more, N_FLAGS, false);
        CHECK(!strcmp(again.data, t.data), "written again, it is the same text");
        text_free(&t), text_free(&again);
        flags_free(more, N_FLAGS);
    }
    flags_free(flags, N_FLAGS);

    // The shortest text that reads back the same.
    static const struct {
        double x;
        const char *text;
    } shortest[] = {
        {0, "0"},
        {1, "1"},
        {0.1, "0.1"},
        {2e-5, "2e-05"},
        {1e22, "1e+22"},
        {-2.5, "-2.5"},
        {1.0 / 3, "0.3333333333333333"},
        {123456789, "123456789"},
        {0.1 + 0.2, "0.30000000000000004"},
    };
    for (int i = 0; i < COUNT(shortest); i++) {
        Args x = {.rate = shortest[i].x};
        Flag flag = FLAG(x, rate, 0, 1, "x");
        Text t = {0};
        flag_print(&t, &flag, true);
        CHECK(!strcmp(t.data, shortest[i].text), "%s printed as %s", shortest[i].text, t.data);
        text_free(&t);
    }

    // The command line goes before the file, wherever it stands.
    write_file(path, "{\"count\": 5, \"rate\": 1e0, \"last\": \"6\", \"on\": 0}", 47);
    static const char *const orders[] = {"--count 7 --config %s", "--config %s --count 7"};
    for (int i = 0; i < COUNT(orders); i++) {
        char *both = i ? text_format("--config=%s --count 7", path)
                       : text_format("--count 7 --config %s", path);
        parse(&b, more, both, NULL);
        CHECK(b.count == 7 && b.rate == 1 && b.last == 6 && !b.on, "%s", orders[i]);
        free(both);
    }

    static const struct {
        const char *json;
        int code;
        const char *message;
    } bad[] = {
        {"{\"nothing\": 1}", EXIT_USAGE, "run.json: unknown flag \"nothing\"; see --help"},
        {"{\"config\": \"x\"}", EXIT_USAGE, "unknown flag \"config\""},
        {"{\"count\": 101}", EXIT_USAGE, "run.json: --count 101: out of range (from -5 to 100)"},
        {"{\"count\": 1.5}", EXIT_USAGE, "run.json: --count 1.5: not a whole number"},
        {"{\"count\": true}", EXIT_USAGE, "run.json: --count true: not a whole number"},
        {"{\"rate\": 1e400}", EXIT_USAGE, "run.json: --rate inf: not a number"},
        {"{\"rate\": \"x\"}", EXIT_USAGE, "run.json: --rate x: not a number"},
        {"{\"on\": 2}", EXIT_USAGE, "run.json: --on 2: expected true or false"},
        {"{\"kind\": \"x\"}", EXIT_USAGE, "run.json: --kind x: expected one of"},
        {"{\"coutn\": 1}", EXIT_USAGE, "run.json: unknown flag \"coutn\"; did you mean \"count\"?"},
        {"{\"count\": [1, 2]}", EXIT_USAGE,
         "run.json: \"count\" takes one value: found a list of 2"},
        {"{\"count\": [[1]]}", EXIT_USAGE, "run.json: \"count\" is not a plain value"},
        {"{\"name\": {}}", EXIT_USAGE, "run.json: \"name\" is not a plain value"},
        {"[]", EXIT_BAD_INPUT, "run.json: expected a JSON object of flags"},
        {"{\"count\": 1, \"count\": 2}", EXIT_BAD_INPUT, "run.json:1:14: duplicate key \"count\""},
        {"{\"count\": }", EXIT_BAD_INPUT, "run.json:1:11: JSON error"},
        {"", EXIT_BAD_INPUT, "run.json: is empty, expected JSON"},
    };
    for (int i = 0; i < COUNT(bad); i++) {
        write_file(path, bad[i].json, strlen(bad[i].json));
        CHECK_DIES(bad[i].code, bad[i].message, parse(&b, more, line, NULL));
    }
    CHECK_DIES(EXIT_BAD_INPUT, "missing.json: no such file",
               parse(&b, more, "--config missing.json", NULL));
    free(path), free(line);
}

// ------------------------------------------------------------------------------------------------
// Names of other programs

typedef struct {
    const char *model, *order, *data;
    int steps;
    double warmup;
    bool fast;
} OtherArgs;

enum { N_OTHERS = 13 };

static void parse_others(OtherArgs *a, Flag flags[N_OTHERS], const char *line) {
    *a = (OtherArgs){.order = "random", .steps = 7};
    Flag table[N_OTHERS] = {
        FLAG_TEXT(*a, model, "x"),
        FLAG_TEXT(*a, data, "x"),
        FLAG_CHOICE(*a, order, "random|sequential", "x"),
        FLAG(*a, steps, 0, 1000, "x"),
        FLAG(*a, warmup, 0, 1000, "x"),
        FLAG_SWITCH(*a, fast, "x"),
        FLAG_ALIAS("model_path", "model", NULL),
        FLAG_ALIAS("shuffle", "order", "true=random|false=sequential"),
        FLAG_SHARE("warmup_share", "warmup"),
        FLAG_IDLE("workers", "there are none"),
        FLAG_ONLY("adapters", "false", "there are none here"),
        FLAG_NOTE("send_to", "none|nobody", "nothing is sent"),
        FLAG_NULL("steps", "1000"),
    };
    memcpy(flags, table, sizeof table);
    char *copy = text_copy(line), *words[64] = {"program"};
    int n = 1;
    for (char *w = strtok(copy, " "); w; w = strtok(NULL, " ")) words[n++] = w;
    flags_parse(n, words, flags, N_OTHERS, "a test", NULL);
    free(copy);
}

static void test_names(void) {
    OtherArgs a;
    Flag flags[N_OTHERS];
    parse_others(&a, flags, "--model_path x --shuffle false --warmup_share 0.25 --adapters False");
    CHECK(!strcmp(a.model, "x") && !strcmp(a.order, "sequential") && a.warmup == 0.25, "aliases");
    CHECK(flag_given(flags, N_OTHERS, "model") && flag_given(flags, N_OTHERS, "order"), "given");
    Text out = {0};
    flags_json(&out, flags, N_OTHERS, false);
    CHECK(!strstr(out.data, "model_path") && !strstr(out.data, "adapters") &&
              strstr(out.data, "\"model\": \"x\""),
          "run.json has our names alone: %s", out.data);
    text_free(&out);
    flags_free(flags, N_OTHERS);
    parse_others(&a, flags,
                 "--model x --model-path x --no_adapters --no-fast --fast --shuffle=true");
    CHECK(!strcmp(a.model, "x") && a.fast && !strcmp(a.order, "random"), "the same value twice");
    flags_free(flags, N_OTHERS);

    static const struct {
        int code;
        const char *line, *said;
    } cases[] = {
        {2, "--model x --model_path y", "--model_path y: --model has said x; they are two names"},
        {2, "--model_path x --model y", "--model y: --model_path has said x"},
        {2, "--shuffle maybe", "--shuffle maybe: it is --order here, and of the values there are"},
        {2, "--warmup_share 1", "--warmup_share 1: expected a share, from 0 and below 1"},
        {2, "--warmup_share -0.5", "expected a share"},
        {2, "--warmup_share x", "expected a share"},
        {2, "--adapters", "--adapters true: there are none here"},
        {2, "--adapters yes", "there are none here"},
        {2, "--adapters 2", "there are none here"},
        {2, "--adapters a b", "--adapters a: there are none here"},
        {0, "--send_to us them", "warning: --send_to us: nothing is sent"},
        {0, "--send_to none them", "warning: --send_to them: nothing is sent"},
        {0, "--send_to nobody --send_to None --workers 3",
         "note: without effect here: --workers\n"},
        {0, "--workers --fast", "note: without effect here: --workers\n"},
        {2, "--model_path", "--model_path needs a value"},
        {2, "--workerz 1", "unknown flag --workerz; did you mean --workers?"},
        {2, "--no_model", "unknown flag --no_model; see --help"},
        {2, "--no_steps", "unknown flag --no_steps"},
    };
    for (int i = 0; i < COUNT(cases); i++)
        CHECK_DIES(cases[i].code, cases[i].said, parse_others(&a, flags, cases[i].line));
}

static void test_nearest(void) {
    static const struct {
        const char *a, *b;
        int distance;
    } pairs[] = {{"", "", 0},       {"abc", "abc", 0}, {"abc", "ab", 1},        {"abc", "bc", 1},
                 {"abc", "axc", 1}, {"abc", "acb", 1}, {"abcd", "badc", 2},     {"", "abc", 3},
                 {"a-b", "A_b", 0}, {"abc", "xyz", 3}, {"kitten", "sitting", 3}};
    for (int i = 0; i < COUNT(pairs); i++)
        CHECK(text_distance(pairs[i].a, pairs[i].b) == pairs[i].distance &&
                  text_distance(pairs[i].b, pairs[i].a) == pairs[i].distance,
              "distance of %s and %s: %d", pairs[i].a, pairs[i].b,
              text_distance(pairs[i].a, pairs[i].b));
    char *longest = mem_alloc(200, 1);
    memset(longest, 'a', 199);
    CHECK(text_distance(longest, "a") == INT_MAX, "what is no name is far from all");
    free(longest);

    struct {
        double learning_rate;
        int num_train_epochs, per_device_train_batch_size, per_device_eval_batch_size, seed;
    } x;
    Flag flags[] = {FLAG_HEADING("x"),
                    FLAG(x, learning_rate, 0, 1, "x"),
                    FLAG(x, num_train_epochs, 0, 1, "x"),
                    FLAG(x, per_device_train_batch_size, 0, 1, "x"),
                    FLAG(x, per_device_eval_batch_size, 0, 1, "x"),
                    FLAG(x, seed, 0, 1, "x"),
                    FLAG_GONE("sead", "elsewhere")};
    static const char *const near[][2] = {
        {"learning_rat", "learning_rate"},
        {"learnign-rate", "learning_rate"},
        {"Learning_Rate", "learning_rate"},
        {"num_train_epoch", "num_train_epochs"},
        {"num_epochs", NULL}, // too far, and no part
        {"epochs", "num_train_epochs"},
        {"batch_size", "per_device_train_batch_size"},
        {"per_device_evl_batch_size", "per_device_eval_batch_size"},
        {"seeed", "seed"},
        {"sed", "seed"},
        {"x", NULL},
        {"", NULL},
    };
    for (int i = 0; i < COUNT(near); i++) {
        const Flag *found = flag_nearest(flags, COUNT(flags), near[i][0]);
        CHECK(near[i][1] ? found && !strcmp(found->name, near[i][1]) : !found, "near %s: %s",
              near[i][0], found ? found->name : "none");
    }
}

// ------------------------------------------------------------------------------------------------
// YAML

// What yaml.h makes of a text, as the golden file has it.
static cJSON *yaml_as_json(const char *path) {
    Yaml yaml = yaml_read(path);
    const char *item_none = "";
    cJSON *items = cJSON_CreateArray();
    for (int i = 0; i < yaml.n; i++) {
        const YamlItem *item = &yaml.items[i];
        cJSON *pair = cJSON_CreateArray(), *value;
        if (item->kind == YAML_NULL) value = cJSON_CreateNull();
        else if (item->kind == YAML_TEXT) value = cJSON_CreateString(item->values[0]);
        else if (item->kind == YAML_LIST)
            value = cJSON_CreateStringArray(
                item->n ? (const char *const *)item->values : &item_none, item->n);
        else {
            value = cJSON_CreateObject();
            cJSON_AddBoolToObject(value, "map", strcmp(item->values[0], "{}") != 0);
        }
        cJSON_AddItemToArray(pair, cJSON_CreateString(item->key));
        cJSON_AddItemToArray(pair, value);
        cJSON_AddItemToArray(items, pair);
    }
    yaml_free(&yaml);
    return items;
}

// Each document of the golden file is read as PyYAML reads it. What PyYAML refuses is refused, and so are
// some that it reads: `not_read`.
static void test_yaml(void) {
    static const char *const not_read[] = {"a: x\na: y\nb: z", " a: 1"};
    char *path = in_root("golden.yaml");
    size_t size;
    char *text = file_read("test/golden/yaml.txt", &size), *line = strchr(text, '\n') + 1, *end;
    int n = 0;
    for (; (end = strchr(line, '\n')); line = end + 1, n++) {
        cJSON *golden = json_parse(line, (size_t)(end - line), "yaml.txt", n + 2);
        const cJSON *want = json_get(golden, "items");
        const char *document = json_get(golden, "text")->valuestring;
        write_file(path, document, strlen(document));
        bool refused = cJSON_IsNull(want);
        for (int i = 0; i < COUNT(not_read); i++) refused |= !strcmp(document, not_read[i]);
        if (refused) CHECK_DIES(EXIT_BAD_INPUT, "golden.yaml:", yaml_read(path));
        else {
            cJSON *got = yaml_as_json(path);
            char *shown = cJSON_PrintUnformatted(got);
            CHECK(cJSON_Compare(got, want, true), "%.*s: read as %s", (int)(end - line), line,
                  shown);
            cJSON_free(shown);
            cJSON_Delete(got);
        }
        cJSON_Delete(golden);
    }
    CHECK(n > 80, "%d documents", n);
    free(text);

    static const char *const bad[][2] = {
        {"a: 1\nb", "golden.yaml:2: expected NAME: VALUE"},
        {"a: &x 1", "golden.yaml:1: begins with &, which is not read here"},
        {"a: *x", "begins with *"},
        {"a: !!int 1", "begins with !"},
        {"a: |\n  x", "golden.yaml:1: begins with |,"},
        {"a: >\n  x", "begins with >"},
        {"a: x\n  y", "golden.yaml:2: expected NAME: VALUE, not indented"},
        {"a:\n  x\n  y", "golden.yaml:2: a text over several lines is not read here"},
        {"a: 'x\n  y'", "golden.yaml:1: a quoted text does not end in its line"},
        {"a: [x,\n  y]", "golden.yaml:1: expected a list of texts that ends in its line"},
        {"a: [[x]]", "expected a list of texts"},
        {"a: {x:\n  y}", "a map that does not end in its line"},
        {"a: 1\n\n# b\na: 2", "golden.yaml:4: \"a\" is in line 1 already"},
        {"a: 1\n---\nb: 2", "golden.yaml:2: a second document"},
        {"a:\n\t- x", "golden.yaml:2: indented by a tab, expected blanks"},
        {"a:\n   - x\n - y", "golden.yaml:3: expected NAME: VALUE, not indented"},
        {"a: x: y", "golden.yaml:1: a map in a map, or a text with a colon, which wants quotes"},
        {"a: 'x' y", "golden.yaml:1: \"y\" after the end of a value"},
        {"? a\n: b", "expected NAME: VALUE"},
        {"- a\n- b", "golden.yaml:1: expected NAME: VALUE, not indented"},
        {"a: \xFF", "golden.yaml: not a text in UTF-8"},
    };
    for (int i = 0; i < COUNT(bad); i++) {
        write_file(path, bad[i][0], strlen(bad[i][0]));
        CHECK_DIES(EXIT_BAD_INPUT, bad[i][1], yaml_read(path));
    }
    write_file(path, "a: 1\0b: 2\n", 10);
    CHECK_DIES(EXIT_BAD_INPUT, "not a text in UTF-8", yaml_read(path));
    free(path);
}

// Flags from YAML, and from JSON with lists, as TRL reads them.
static void test_yaml_config(void) {
    OtherArgs a;
    Flag flags[N_OTHERS];
    char *path = in_root("a.yaml"), *line = text_format("--config %s --steps 3", path);
    static const char good[] =
        "# a run\nmodel_path: dir/x  # ours: model\nsteps: 9\nwarmup: 5.0e-01\n"
        "shuffle: 'false'\nfast: yes\nworkers:\n  deep:\n  - 1\n"
        "adapters: null\nsend_to: [none]\ndata: null\n";
    write_file(path, good, sizeof good - 1);
    parse_others(&a, flags, line);
    CHECK(!strcmp(a.model, "dir/x") && a.warmup == 0.5 && a.fast && !strcmp(a.order, "sequential"),
          "flags from YAML");
    CHECK(a.steps == 3 && !a.data, "the command line goes before it");
    flags_free(flags, N_OTHERS);
    write_file(path, "steps:\nmodel:\n- x\n", 18);
    parse_others(&a, flags, line);
    CHECK(a.steps == 3 && !strcmp(a.model, "x"), "a list of one; null does not unset");
    flags_free(flags, N_OTHERS);
    free(line);
    line = text_format("--config %s", path);
    parse_others(&a, flags, line);
    CHECK(a.steps == 1000, "what null means");
    flags_free(flags, N_OTHERS);

    static const char *const bad[][2] = {
        {"steps: 3\nmodle: x", "a.yaml:2: unknown flag \"modle\"; did you mean \"model\"?"},
        {"\nsteps: x", "a.yaml:2: --steps x: not a whole number"},
        {"order: randm",
         "a.yaml:1: --order randm: expected one of random|sequential; did you mean"},
        {"model: x\nmodel_path: y", "a.yaml:2: --model_path y: --model has said x"},
        {"model: [x, y]", "a.yaml:1: \"model\" takes one value: found a list of 2"},
        {"model:\n  a: b", "a.yaml:1: \"model\" is not a plain value: found a map"},
        {"adapters: true", "a.yaml:1: --adapters true: there are none here"},
        {"adapters:\n  r: 16", "a.yaml:1: --adapters {..}: there are none here"},
        {"send_to:\n- none\n- us", "warning: "},
    };
    for (int i = 0; i < COUNT(bad); i++) {
        write_file(path, bad[i][0], strlen(bad[i][0]));
        CHECK_DIES(strstr(bad[i][1], "warning") ? 0 : EXIT_USAGE, bad[i][1],
                   parse_others(&a, flags, line));
    }
    free(path), free(line);

    path = in_root("a.json"), line = text_format("--config %s", path);
    static const char json[] =
        "{\"model_path\": [\"x\"], \"workers\": {\"a\": 1}, \"adapters\": false, "
        "\"send_to\": [\"none\", \"nobody\"], \"steps\": null, \"fast\": \"yes\"}";
    write_file(path, json, sizeof json - 1);
    parse_others(&a, flags, line);
    CHECK(!strcmp(a.model, "x") && a.fast && a.steps == 1000, "flags from JSON");
    flags_free(flags, N_OTHERS);
    free(path), free(line);
}

// ------------------------------------------------------------------------------------------------
// The table of TRL's flags

// Flags that programs have and the table speaks of.
#define OWN(name)                                                                                  \
    { name, FLAG_STRING, &own_text, 0, 0, NULL, "x", false, NULL }
static const char *own_text;
#define OWN_FLAGS                                                                                  \
    OWN("model"), OWN("dataset"), OWN("warmup_steps"), OWN("gradient_checkpointing"),              \
        OWN("eval_strategy"), OWN("per_device_train_batch_size"),                                  \
        OWN("per_device_eval_batch_size"), OWN("max_length"), OWN("sft_weight")
#define OWN_FLAGS_PPO                                                                              \
    OWN("model"), OWN("dataset"), OWN("warmup_steps"), OWN("gradient_checkpointing"),              \
        OWN("per_device_train_batch_size"), OWN("reward_model")

// Every name is there once, every alias leads to a flag, and what is harmless at some values is so at
// these and refused, or said, at others.
static void check_table(Flag *flags, int n) {
    for (int i = 0; i < n; i++) {
        Flag *flag = &flags[i];
        CHECK(flag->type == FLAG_OF_NULL || flag_find(flags, n, flag->name) == flag, "%s twice",
              flag->name);
        CHECK(flag_meant(flags, n, flag), "%s leads to %s", flag->name, flag->help);
        CHECK(flag->type <= FLAG_OF_NULL || strlen(flag->help) > 2, "%s has no reason", flag->name);
        if (flag->type == FLAG_WITHOUT_EFFECT)
            CHECK_DIES(0, "", flag_take(flags, n, flag, "anything", "");
                       _exit(flag->given ? 0 : 1));
        if (flag->type != FLAG_REFUSED && flag->type != FLAG_REMARKED) continue;
        char *all = text_copy(flag->choices), *rest = all;
        for (char *c; (c = strsep(&rest, "|"));) {
            flag->given = false;
            flag_take(flags, n, flag, c, ""); // dies if it is not taken
            CHECK(flag->given, "--%s %s", flag->name, c);
        }
        free(all);
        char *said = text_format("--%s 7.5: %s", flag->name, flag->help);
        char *other = text_format("--%s %s: %s", flag->name,
                                  strcmp(flag->choices, "true") ? "true" : "false", flag->help);
        CHECK_DIES(flag->type == FLAG_REFUSED ? EXIT_USAGE : 0, said,
                   flag_take(flags, n, flag, "7.5", ""));
        CHECK_DIES(flag->type == FLAG_REFUSED ? EXIT_USAGE : 0, other,
                   flag_take(flags, n, flag, strcmp(flag->choices, "true") ? "true" : "false", ""));
        free(said), free(other);
    }
}

static void test_trl_table(void) {
    Flag sft[] = {OWN_FLAGS, TRL_FLAGS_SFT}, rm[] = {OWN_FLAGS, TRL_FLAGS_RM};
    Flag dpo[] = {OWN_FLAGS, TRL_FLAGS_DPO}, kto[] = {OWN_FLAGS, TRL_FLAGS_KTO};
    Flag orpo[] = {OWN_FLAGS, TRL_FLAGS_ORPO}, spin[] = {OWN_FLAGS, TRL_FLAGS_SPIN};
    Flag ppo[] = {OWN_FLAGS_PPO, TRL_FLAGS_PPO};
    check_table(sft, COUNT(sft));
    check_table(rm, COUNT(rm));
    check_table(dpo, COUNT(dpo));
    check_table(kto, COUNT(kto));
    check_table(orpo, COUNT(orpo));
    check_table(spin, COUNT(spin));
    check_table(ppo, COUNT(ppo));
}

int main(void) {
    if (!mkdtemp(root)) die(EXIT_IO, "cannot make %s", root);
    test_flags();
    test_config();
    test_names();
    test_nearest();
    test_yaml();
    test_yaml_config();
    test_trl_table();
    char *tidy = text_format("rm -rf '%s'", root);
    if (system(tidy)) fprintf(stderr, "cannot remove %s\n", root);
    free(tidy);
    return test_end("flags");
}
