// verdict.c: tables and verdicts for the scripts beside it. Build:
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/repro/verdict.c -o verdict -lcjson -lm
//
//     verdict [--needed 3] [--level 0.9] <lines
//
// A unit is what repeats a measurement: a seed, or a question that all policies were asked. Lines, in their
// order:
//
//     value UNIT POLICY MEASURE NUMBER
//         a policy's number in a unit
//     evaluation UNIT FILE.json
//         the same of all that `evaluate --output` measured, each policy under its name (the baseline without
//         its " (baseline)"): reward, gold, kl, kl_sampled, nll, accuracy, length, repeated, ended and wins,
//         the win rate over the baseline by the judge
//     table MEASURE..
//         print the policies that have these measures, in the order in which they came up: the mean over
//         units and its interval
//     claim NAME MEASURE A above|below NUMBER WORDS..
//     claim NAME MEASURE A - B above|below NUMBER WORDS..
//         is A's mean, or that of A less B, paired by unit, above or below the number? Claims of one name that
//         follow each other are the conditions of one claim, whose words are those of the first
//
// Intervals are Student's over units. A claim is REPRODUCED if the intervals of all its conditions lie on the
// claimed side, CONTRADICTED if one lies wholly on the other side, else NOT DISTINGUISHED. With fewer units
// than --needed there is no verdict. Claims are each judged at --level: nothing is corrected for their number.
//
// Exit code 0: all claims are REPRODUCED, or there were none, or too few units for a verdict; 1: not all.
#include "../../lib/base/common.h"
#include "../../lib/base/flags.h"
#include "../../lib/base/jsonl.h"
#include "../../lib/base/stats.h"

typedef struct {
    char *unit, *policy, *measure;
    double number;
} Value;

// Ordered so that of the verdicts on two conditions the larger one counts.
typedef enum { REPRODUCED, NOT_DISTINGUISHED, CONTRADICTED, NO_VERDICT } Verdict;

static struct {
    double level;
    int needed;
} args = {.level = 0.9, .needed = 3};

static Value *values;
static int n_values, max_values;
static char *claim;     // the name of the last claim, or NULL
static Verdict verdict; // on its conditions so far
static bool all_reproduced = true;

// ------------------------------------------------------------------------------------------------
// Values

static void value_add(const char *unit, const char *policy, const char *measure, double number) {
    if (n_values == max_values) {
        max_values = 2 * max_values + 64;
        values = mem_resize(values, (size_t)max_values, sizeof *values);
    }
    values[n_values++] = (Value){text_copy(unit), text_copy(policy), text_copy(measure), number};
}

static const Value *value_find(const char *unit, const char *policy, const char *measure) {
    for (const Value *v = values; v < values + n_values; v++)
        if (!strcmp(v->measure, measure) && !strcmp(v->policy, policy) && !strcmp(v->unit, unit))
            return v;
    return NULL;
}

// x <- what policy a has of a measure, unit by unit, and y <- what b has (NULL: 0). Returns the number of
// units. Dies if b lacks one of a's. Release both with free().
static int values_collect(double **x, double **y, const char *a, const char *b,
                          const char *measure) {
    int n = 0;
    *x = mem_alloc((size_t)n_values + 1, sizeof **x);
    *y = mem_alloc((size_t)n_values + 1, sizeof **y);
    for (const Value *v = values; v < values + n_values; v++) {
        if (strcmp(v->measure, measure) || strcmp(v->policy, a)) continue;
        const Value *other = b ? value_find(v->unit, b, measure) : NULL;
        if (b && !other)
            die(EXIT_BAD_INPUT, "policy %s has no %s of unit %s, which %s has", b, measure, v->unit,
                a);
        (*x)[n] = v->number;
        (*y)[n++] = other ? other->number : 0;
    }
    return n;
}

// Add what a file of evaluate --output says.
static void evaluation_read(const char *unit, const char *path) {
    cJSON *root = json_read(path);
    const cJSON *models = json_get(root, "models"), *judge = json_get(root, "judge"), *model;
    if (!cJSON_IsArray(models))
        die(EXIT_BAD_INPUT, "%s: no list \"models\"; is it of evaluate --output?", path);
    cJSON_ArrayForEach(model, models) {
        static const char *const means[] = {"reward", "gold",     "kl",       "kl_sampled", "nll",
                                            "length", "accuracy", "repeated", "ended"};
        const cJSON *item = json_get(model, "name");
        if (!cJSON_IsString(item)) die(EXIT_BAD_INPUT, "%s: a model without a name", path);
        char *name = text_copy(item->valuestring), *baseline = strstr(name, " (baseline)");
        if (baseline) *baseline = 0;
        for (int i = 0; i < COUNT(means); i++) {
            const cJSON *mean = json_get(json_get(model, means[i]), "mean");
            if (cJSON_IsNumber(mean)) value_add(unit, name, means[i], mean->valuedouble);
        }
        if (cJSON_IsString(judge)) {
            const cJSON *wins = json_get(json_get(model, "wins"), judge->valuestring);
            const cJSON *rate = json_get(wins, "rate");
            if (cJSON_IsNumber(rate)) value_add(unit, name, "wins", rate->valuedouble);
        }
        free(name);
    }
    cJSON_Delete(root);
}

// ------------------------------------------------------------------------------------------------
// Tables

// Print the means of the measures (n) of all policies that have them all.
static void table_print(char **measures, int n) {
    printf("%-16s", "");
    for (int m = 0; m < n; m++) printf("  %24s", measures[m]);
    printf("\n");
    for (int i = 0; i < n_values; i++) {
        const char *policy = values[i].policy;
        bool first = true, whole = true;
        for (int k = 0; k < i && first; k++) first = strcmp(values[k].policy, policy);
        if (!first) continue;
        Text line = {0};
        text_print(&line, "%-16s", policy);
        for (int m = 0; m < n; m++) {
            double *x, *y;
            const int units = values_collect(&x, &y, policy, NULL, measures[m]);
            const Mean mean = mean_of(x, units);
            const Interval interval = mean_interval(mean, args.level);
            char *cell =
                units > 1 ? text_format("%.4f [%.4f, %.4f]", mean.mean, interval.low, interval.high)
                          : text_format("%.4f", mean.mean);
            text_print(&line, "  %24s", cell);
            whole = whole && units > 0;
            free(cell), free(x), free(y);
        }
        if (whole) printf("%s\n", line.data);
        text_free(&line);
    }
    printf("(mean over units%s)\n\n",
           args.level == 0.9 ? " [90% interval]" : " [interval of the level given]");
}

// ------------------------------------------------------------------------------------------------
// Claims

// Say what came out of the last claim, if there is one.
static void claim_end(void) {
    static const char *const words[] = {"REPRODUCED", "NOT DISTINGUISHED", "CONTRADICTED"};
    if (!claim) return;
    if (verdict == NO_VERDICT)
        printf("    %s: no verdict of fewer than %d units\n\n", claim, args.needed);
    else printf("    %s: %s\n\n", claim, words[verdict]);
    all_reproduced = all_reproduced && (verdict == REPRODUCED || verdict == NO_VERDICT);
    free(claim);
    claim = NULL;
}

// Judge one condition: is the mean of `measure` of policy a (less that of b, if not NULL) above, or below,
// the bound? The words are printed if it is the first condition of a claim.
static void claim_judge(const char *name, const char *measure, const char *a, const char *b,
                        bool above, double bound, const char *words) {
    if (!claim || strcmp(claim, name)) {
        claim_end();
        claim = text_copy(name);
        verdict = REPRODUCED;
        printf("%s  %s\n", name, words);
    }
    double *x, *y;
    const int n = values_collect(&x, &y, a, b, measure);
    if (!n) die(EXIT_BAD_INPUT, "claim %s: policy %s has no %s", name, a, measure);
    const Comparison c = compare_pairs(x, y, n, args.level);
    const double low = c.interval.low, high = c.interval.high;
    Verdict v = NOT_DISTINGUISHED;
    if (above ? low > bound : high < bound) v = REPRODUCED;
    if (above ? high < bound : low > bound) v = CONTRADICTED;
    if (n < args.needed) v = NO_VERDICT;
    if (v > verdict) verdict = v;
    printf("    %s, %s%s%s: %+.4f", measure, a, b ? " - " : "", b ? b : "", c.difference.mean);
    if (n > 1) printf(" [%+.4f, %+.4f]", low, high);
    printf(", claimed %s %g (%d units)\n", above ? "above" : "below", bound, n);
    free(x), free(y);
}

// ------------------------------------------------------------------------------------------------
// Lines

// The next word of *s, which moves on; "" if there is none.
static char *word_next(char **s) {
    char *word = *s + strspn(*s, " \t\n");
    char *end = word + strcspn(word, " \t\n");
    *s = *end ? end + 1 : end;
    *end = 0;
    return word;
}

static double number_next(char **s, int line) {
    const char *word = word_next(s);
    char *end;
    const double x = strtod(word, &end);
    if (!*word || *end || !isfinite(x))
        die(EXIT_BAD_INPUT, "line %d: \"%s\" is not a number", line, word);
    return x;
}

static void line_obey(char *s, int line) {
    const char *what = word_next(&s);
    if (strcmp(what, "claim")) claim_end();
    if (!strcmp(what, "value")) {
        const char *unit = word_next(&s), *policy = word_next(&s), *measure = word_next(&s);
        value_add(unit, policy, measure, number_next(&s, line));
    } else if (!strcmp(what, "evaluation")) {
        const char *unit = word_next(&s);
        evaluation_read(unit, word_next(&s));
    } else if (!strcmp(what, "table")) {
        char *measures[16], *measure;
        int n = 0;
        while (*(measure = word_next(&s)) && n < COUNT(measures)) measures[n++] = measure;
        table_print(measures, n);
    } else if (!strcmp(what, "claim")) {
        const char *name = word_next(&s), *measure = word_next(&s), *a = word_next(&s), *b = NULL;
        const char *side = word_next(&s);
        if (!strcmp(side, "-")) {
            b = word_next(&s);
            side = word_next(&s);
        }
        if (strcmp(side, "above") && strcmp(side, "below"))
            die(EXIT_BAD_INPUT, "line %d: \"%s\": expected above or below", line, side);
        const double bound = number_next(&s, line);
        s[strcspn(s, "\n")] = 0;
        claim_judge(name, measure, a, b, !strcmp(side, "above"), bound, s);
    } else if (*what) die(EXIT_BAD_INPUT, "line %d: unknown word \"%s\"", line, what);
}

int main(int argc, char **argv) {
    Flag flags[] = {
        FLAG(args, level, 0.5, 0.9999, "of the intervals"),
        FLAG(args, needed, 2, 1000, "units that a verdict needs"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "tables and verdicts", NULL);
    char *s = NULL;
    size_t size = 0;
    for (int line = 1; getline(&s, &size, stdin) >= 0; line++) line_obey(s, line);
    claim_end();
    for (int i = 0; i < n_values; i++)
        free(values[i].unit), free(values[i].policy), free(values[i].measure);
    free(values), free(s), flags_free(flags, COUNT(flags));
    const int code = stdout_end();
    return code ? code : !all_reproduced;
}
