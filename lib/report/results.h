// results.h: what evaluate.c has measured of several policies on the same prompts. From top to
// bottom:
//
//   results    sums of what was observed, by policy, measure and prompt
//   statistics means, wins over the baseline, comparisons of two policies, each with its interval
//   table      for the terminal
//   JSON       the same and more, for programs; its keys are explained in evaluate.c
//
// Only numbers here: nothing knows a model.
#ifndef RESULTS_H
#define RESULTS_H

#include "../base/common.h"
#include "../base/stats.h"

// ------------------------------------------------------------------------------------------------
// Results

// clang-format off
typedef enum { REWARD, GOLD, KL, KL_SAMPLED, NLL, ACCURACY, LENGTH, REPEATED, ENDED,
               MEASURES } Measure;
static const char *const measure_names[MEASURES] =
    {"reward", "gold", "kl", "kl_sampled", "nll", "accuracy", "length", "repeated", "ended"};
// clang-format on
enum { SCORES = 2 }; // REWARD and GOLD are scores: by them a sample can win

// Wins of a policy's samples over the baseline's.
typedef struct {
    int wins, ties, losses;
    double rate, p; // p: sign test by prompts
    Interval interval;
    bool exact; // the interval is binomial
} Wins;

// A policy, or the best of several samples of one, or the answers in the data.
typedef struct {
    char *name, *dir;                         // dir NULL: the data
    int best_of;                              // samples from which the best is taken
    double *sum[MEASURES], *weight[MEASURES]; // (prompts) of observations, and their number
    float *score[SCORES];                     // (sampled, per_prompt) of each sample
    double *won[SCORES];                      // (sampled) wins over the baseline, a tie 1/2
    Wins wins[SCORES];
    Text shown; // samples for the terminal
} Entry;

enum { MAX_ENTRIES = 128 };

typedef struct {
    int n;
    Entry entries[MAX_ENTRIES];
    bool baseline;           // the first entry is the baseline
    int judge;               // the score that the table's wins are by, -1: none
    int prompts;             // different prompts in the data
    int sampled, per_prompt; // the first so many were completed, so many times each
    double level;            // of all intervals
} Results;

// Memory for what will be observed of all entries.
static void results_alloc(Results *r) {
    for (Entry *e = r->entries; e < r->entries + r->n; e++) {
        for (int m = 0; m < MEASURES; m++) {
            e->sum[m] = mem_alloc((size_t)r->prompts, sizeof(double));
            e->weight[m] = mem_alloc((size_t)r->prompts, sizeof(double));
        }
        for (int k = 0; k < SCORES; k++) {
            e->score[k] = mem_floats((size_t)r->sampled * (size_t)r->per_prompt);
            e->won[k] = mem_alloc((size_t)r->sampled, sizeof(double));
        }
    }
}

static void results_free(Results *r) {
    for (Entry *e = r->entries; e < r->entries + r->n; e++) {
        for (int m = 0; m < MEASURES; m++) free(e->sum[m]), free(e->weight[m]);
        for (int k = 0; k < SCORES; k++) free(e->score[k]), free(e->won[k]);
        free(e->name), free(e->dir), text_free(&e->shown);
    }
}

// Add observations on a prompt: `weight` of them, `sum` together.
static void entry_add(Entry *e, Measure m, int prompt, double sum, double weight) {
    e->sum[m][prompt] += sum;
    e->weight[m][prompt] += weight;
}

// ------------------------------------------------------------------------------------------------
// Statistics

static bool entry_has(const Results *r, const Entry *e, Measure m) {
    for (int p = 0; p < r->prompts; p++)
        if (e->weight[m][p] > 0) return true;
    return false;
}

// Mean of a measure, with prompts as clusters. ACCURACY and ENDED are rates.
static Mean entry_mean(const Results *r, const Entry *e, Measure m, Interval *interval) {
    const Mean mean = mean_clustered(e->sum[m], e->weight[m], r->prompts);
    bool exact;
    *interval = m == ACCURACY || m == ENDED
                    ? rate_interval(e->sum[m], e->weight[m], r->prompts, r->level, &exact)
                    : mean_interval(mean, r->level);
    return mean;
}

// The divergence of the best of n samples from the policy that drew them is at most
// log n - (n - 1)/n, and near it if no sample is likely to come twice (Stiennon et al. 2020, app.
// G.3; that it is a bound: Beirami et al. 2024).
static double entry_kl_bound(const Entry *e) {
    return log(e->best_of) - (e->best_of - 1.0) / e->best_of;
}

// Count the wins of an entry by score k over the first one.
static void entry_wins(const Results *r, Entry *e, int k) {
    const Entry *baseline = &r->entries[0];
    Wins *w = &e->wins[k];
    const size_t K = (size_t)r->per_prompt;
    double *weight = mem_alloc((size_t)r->sampled, sizeof *weight), better = 0, worse = 0;
    for (int p = 0; p < r->sampled; p++) {
        weight[p] = (double)K;
        for (size_t i = (size_t)p * K; i < ((size_t)p + 1) * K; i++) {
            const float a = e->score[k][i], b = baseline->score[k][i];
            w->wins += a > b, w->ties += a == b, w->losses += a < b;
            e->won[k][p] += a > b ? 1 : a == b ? 0.5 : 0;
        }
        better += 2 * e->won[k][p] > weight[p], worse += 2 * e->won[k][p] < weight[p];
    }
    w->rate = mean_clustered(e->won[k], weight, r->sampled).mean;
    w->interval = rate_interval(e->won[k], weight, r->sampled, r->level, &w->exact);
    w->p = sign_test(better, worse);
    free(weight);
}

// All observations are there: count wins.
static void results_finish(Results *r) {
    for (int i = 1; i < r->n && r->baseline; i++)
        for (int k = 0; k < SCORES; k++)
            if (entry_has(r, &r->entries[i], (Measure)k)) entry_wins(r, &r->entries[i], k);
}

// Compare the mean scores of two entries, prompt by prompt.
static Comparison entries_compare(const Results *r, const Entry *a, const Entry *b, int k) {
    double *means = mem_alloc(2 * (size_t)r->sampled, sizeof *means), *other = means + r->sampled;
    for (int p = 0; p < r->sampled; p++) {
        means[p] = a->sum[k][p] / a->weight[k][p];
        other[p] = b->sum[k][p] / b->weight[k][p];
    }
    const Comparison c = compare_pairs(means, other, r->sampled, r->level);
    free(means);
    return c;
}

// ------------------------------------------------------------------------------------------------
// Table

typedef enum { CELL_NAME, CELL_WINS, CELL_MEAN, CELL_PLAIN, CELL_RATE, CELL_PERPLEXITY } CellKind;
static const struct {
    const char *head;
    CellKind kind;
    Measure measure;
    int digits;
    const char *legend;
} columns[] = {
    {"policy", CELL_NAME, MEASURES, 0, NULL},
    {"reward", CELL_MEAN, REWARD, 2, "mean score by the reward model or program"},
    {"gold", CELL_MEAN, GOLD, 2, "mean gold score, the log-odds that a review is praise"},
    {"win rate", CELL_WINS, MEASURES, 3,
     "samples that beat the baseline's (a tie is half) by the score "},
    {"KL", CELL_MEAN, KL, 3, "nats a completion from the reference, summed over the vocabulary"},
    {"KL sampled", CELL_MEAN, KL_SAMPLED, 3, "the same from the log-ratios of what was sampled"},
    {"perplexity", CELL_PERPLEXITY, NLL, 2, "of the data's answers"},
    {"nats/token", CELL_MEAN, NLL, 3, "its logarithm"},
    {"accuracy", CELL_RATE, ACCURACY, 3,
     "pairs whose chosen answer gained more on the reference than the rejected one; a tie is half"},
    {"length", CELL_PLAIN, LENGTH, 1, "tokens of a sample, without EOS"},
    {"repeated", CELL_PLAIN, REPEATED, 3,
     "share of a sample's 4-grams of tokens that were in it before"},
    {"ended", CELL_PLAIN, ENDED, 3, "samples that end with EOS"},
};

// What an entry has in column c, NULL for nothing.
static char *cell_text(const Results *r, const Entry *e, int c) {
    const Measure m = columns[c].measure;
    const int digits = columns[c].digits;
    Mean mean = {0};
    Interval i;
    if (columns[c].kind == CELL_NAME) return text_copy(e->name);
    if (columns[c].kind == CELL_WINS) {
        if (!r->baseline || e == r->entries) return NULL;
        mean.mean = e->wins[r->judge].rate, i = e->wins[r->judge].interval;
    } else {
        if (!entry_has(r, e, m)) return NULL;
        mean = entry_mean(r, e, m, &i);
    }
    if (columns[c].kind == CELL_PERPLEXITY) return text_format("%.*f", digits, exp(mean.mean));
    if (columns[c].kind == CELL_PLAIN) return text_format("%.*f", digits, mean.mean);
    if (columns[c].kind == CELL_MEAN)
        return text_format("%.*f (%.*f)", digits, mean.mean, digits, mean.error);
    return text_format("%.*f [%.*f, %.*f]", digits, mean.mean, digits, i.low, digits, i.high);
}

// Print the entries, without the columns in which none has anything, and what the columns mean.
static void table_print(const Results *r) {
    Text lines[MAX_ENTRIES + 1] = {{0}}, legend = {0}; // lines[n]: the heads
    char *cells[MAX_ENTRIES];
    const int n = r->n;
    for (int c = 0; c < COUNT(columns); c++) {
        size_t width = strlen(columns[c].head);
        bool any = false;
        for (int i = 0; i < n; i++) {
            cells[i] = cell_text(r, &r->entries[i], c);
            any = any || cells[i];
            if (cells[i] && strlen(cells[i]) > width) width = strlen(cells[i]);
        }
        for (int i = 0; i <= n && any; i++) {
            const char *cell = i == n ? columns[c].head : cells[i] ? cells[i] : "-";
            text_print(&lines[i], c ? "  %*s" : "%-*s", (int)width, cell);
        }
        if (any && columns[c].legend)
            text_print(&legend, "  %-11s %s%s\n", columns[c].head, columns[c].legend,
                       columns[c].kind != CELL_WINS ? "" : measure_names[r->judge]);
        for (int i = 0; i < n; i++) free(cells[i]);
    }
    printf("\n%s\n", lines[n].data);
    for (int i = 0; i < n; i++) printf("%s\n", lines[i].data);
    printf("\n%s  (..) standard error, [..] %g%% interval\n", legend.data, 100 * r->level);
    for (int i = 0; i <= n; i++) text_free(&lines[i]);
    text_free(&legend);
}

// Print how the scores of all other entries compare with those of the first.
static void comparisons_print(const Results *r) {
    const Entry *first = &r->entries[0];
    printf("\n");
    for (const Entry *e = first + 1; e < first + r->n && r->judge >= 0; e++) {
        const Comparison c = entries_compare(r, e, first, r->judge);
        printf("%s - %s: %s %+.3f [%+.3f, %+.3f], higher on %d and lower on %d of %d prompts "
               "(sign test: p = %.2g)\n",
               e->name, first->name, measure_names[r->judge], c.difference.mean, c.interval.low,
               c.interval.high, c.better, c.worse, r->sampled, c.p);
    }
    for (const Entry *e = first + 1; e < first + r->n; e++)
        if (e->best_of > 1)
            printf("%s: at most %.3f nats from %s, log n - (n - 1)/n\n", e->name, entry_kl_bound(e),
                   e[-1].name);
}

// ------------------------------------------------------------------------------------------------
// JSON

// Append "key": value for each of the blank-separated keys; the values are doubles, and one that is
// not finite becomes null.
static void json_numbers(Text *out, const char *keys, ...) {
    va_list values;
    va_start(values, keys);
    for (const char *s = keys; *s;) {
        const int n = (int)strcspn(s, " ");
        const double x = va_arg(values, double);
        text_print(out, "%s\"%.*s\": ", s == keys ? "" : ", ", n, s);
        text_print(out, isfinite(x) ? "%.9g" : "null", x);
        s += n + (s[n] == ' ');
    }
    va_end(values);
}

// Append "key": "text" and `after`; null for NULL.
static void json_string(Text *out, const char *key, const char *text, const char *after) {
    text_print(out, "\"%s\": ", key);
    if (text) text_json(out, text, strlen(text));
    else text_print(out, "null");
    text_print(out, "%s", after);
}

static void json_comparison(Text *out, const Comparison *c) {
    text_print(out, "\"difference\": {");
    json_numbers(out, "mean error low high", c->difference.mean, c->difference.error,
                 c->interval.low, c->interval.high);
    text_print(out, "}, ");
    json_numbers(out, "better worse ties p", (double)c->better, (double)c->worse, (double)c->ties,
                 c->p);
}

static void json_entry(Text *out, const Results *r, const Entry *e) {
    Interval i;
    const bool is_baseline = r->baseline && e == r->entries;
    const double nll = entry_has(r, e, NLL) ? entry_mean(r, e, NLL, &i).mean : NAN;
    text_print(out, "    {");
    json_string(out, "name", e->name, ", ");
    json_string(out, "model", e->dir, ", ");
    text_print(out, "\"baseline\": %s, ", is_baseline ? "true" : "false");
    json_numbers(out, "best_of kl_bound perplexity", (double)e->best_of,
                 e->best_of > 1 ? entry_kl_bound(e) : NAN, exp(nll));
    for (Measure m = 0; m < MEASURES; m++) {
        text_print(out, ",\n     \"%s\": ", measure_names[m]);
        if (entry_has(r, e, m)) {
            const Mean mean = entry_mean(r, e, m, &i);
            text_print(out, "{");
            json_numbers(out, "mean error low high clusters", mean.mean, mean.error, i.low, i.high,
                         (double)mean.n);
            text_print(out, "}");
        } else text_print(out, "null");
    }
    text_print(out, ",\n     \"wins\": {");
    for (int k = 0; k < SCORES; k++) {
        const Wins *w = &e->wins[k];
        text_print(out, "%s\"%s\": ", k ? ", " : "", measure_names[k]);
        if (r->baseline && !is_baseline && entry_has(r, e, (Measure)k)) {
            text_print(out, "{\"exact\": %s, ", w->exact ? "true" : "false");
            json_numbers(out, "rate low high wins ties losses p", w->rate, w->interval.low,
                         w->interval.high, (double)w->wins, (double)w->ties, (double)w->losses,
                         w->p);
            text_print(out, "}");
        } else text_print(out, "null");
    }
    text_print(out, "}}");
}

// Entries a and b by score k, in general and by their wins over the baseline.
static void json_pair(Text *out, const Results *r, const Entry *a, const Entry *b, int k) {
    const Comparison c = entries_compare(r, a, b, k);
    text_print(out, "    {");
    json_string(out, "a", a->name, ", ");
    json_string(out, "b", b->name, ", ");
    json_string(out, "score", measure_names[k], ", ");
    json_comparison(out, &c);
    text_print(out, ", \"wins\": ");
    if (r->baseline && b != r->entries) {
        const Comparison wins = compare_pairs(a->won[k], b->won[k], r->sampled, r->level);
        text_print(out, "{");
        json_comparison(out, &wins);
        text_print(out, "}}");
    } else text_print(out, "null}");
}

// Append all results as one object; `flags` is that of the run's flags.
static void json_results(Text *out, const Results *r, const Text *flags) {
    const Entry *entries = r->entries;
    text_print(out, "{\n\"format\": 1,\n\"flags\": %.*s,\n", (int)flags->size - 1, flags->data);
    json_numbers(out, "prompts samples_per_prompt level", (double)r->sampled, (double)r->per_prompt,
                 r->level);
    text_print(out, ",\n");
    json_string(out, "judge", r->judge < 0 ? NULL : measure_names[r->judge], ",\n");
    text_print(out, "\"models\": [");
    for (int i = 0; i < r->n; i++) {
        text_print(out, i ? ",\n" : "\n");
        json_entry(out, r, &entries[i]);
    }
    text_print(out, "\n],\n\"comparisons\": [");
    const char *comma = "\n";
    for (int b = 0; b < r->n; b++)
        for (int a = b + 1; a < r->n; a++)
            for (int k = 0; k < SCORES; k++) {
                if (!entry_has(r, &entries[a], (Measure)k)) continue;
                text_print(out, "%s", comma);
                json_pair(out, r, &entries[a], &entries[b], k);
                comma = ",\n";
            }
    text_print(out, "\n]\n}\n");
}

#endif
