// benchmarks.h: what evaluate.c has measured on benchmarks (benchmark.h). From top to bottom:
//
//   statistics rates, means over tasks and groups, two scorers compared
//   table      for the terminal
//   JSON       the same and more, for programs
//
// --output writes one JSON object, in which a rate is {mean, low, high}, a mean {mean, error, low,
// high}, and null is what was not measured:
//
//     format, flags, level     1; the flags of this run; of all intervals
//     samples, temperature     of each item that has to be answered in writing
//     benchmarks[]
//         name, file, form, chance
//         items, records, skipped, twice
//                              scored; read; skipped; lines that are there more than once (they count)
//         models[]             in the order of the flags
//             name, model, judge
//             acc              {mean, low, high, right, n}: by sum of log-probs, of the reward, or of
//                              what was written
//             acc_norm, acc_tokens
//                              the same by log-probs a character and a token
//             nll, perplexity  of a last word's tokens together, nats; e to that
//             pass             [{k, mean, low, high}]
//             task_mean, group_mean
//                              mean acc of all tasks; of all groups (RewardBench: weighted)
//             groups           [{name, weight, mean, low, high}]
//             tasks            [{name, group, items, mean, low, high}]
//             cut, joined, tied, unfinished, seconds
//                              items that lost their beginning; whose tokens are not those of prompt
//                              and continuation alone; pairs with equal scores; samples that were cut
//         comparisons[]        each two models
//             a, b             names
//             difference       {mean, error, low, high} of a's acc less b's on the same items
//             better, worse, ties, p
//                              items on which a is ahead, b, neither; exact sign test (McNemar's)
#ifndef BENCHMARKS_H
#define BENCHMARKS_H

#include "../run/benchmark.h"
#include "results.h" // defines: json_numbers, json_string, json_comparison

// ------------------------------------------------------------------------------------------------
// Statistics

typedef struct {
    double value; // NAN: not measured
    double error; // of a mean; NAN for a rate
    Interval interval;
    double sum, n; // results, and how many
    int items;     // that they are of
} Score;

static const Score no_score = {NAN, NAN, {NAN, NAN}, 0, 0, 0};

// Measure m of scorer c on benchmark i; of the items of one task, or of all (task -1). What is right is
// a rate, exact if there is one result an item; else it is a mean.
static Score score_of(const Benchmarks *b, int i, int c, ItemMeasure m, int task) {
    const ItemSet *s = &b->sets[i];
    const Scores *scores = &b->scores[c][i];
    const bool rate = m != IS_NLL;
    const double times = scores->judge == BY_SAMPLES ? b->n_samples : 1;
    double *sum = mem_alloc(2 * (size_t)s->n, sizeof *sum), *weight = sum + s->n;
    Score score = {.error = NAN};
    for (int k = 0; k < s->n; k++) {
        const double value = scores->value[m][k];
        if (isnan(value) || (task >= 0 && s->items[k].task != task)) continue;
        weight[k] = times;
        sum[k] = value * times;
        score.sum += sum[k];
        score.n += times;
        score.items++;
    }
    if (score.n > 0) {
        bool exact;
        const Mean mean = mean_clustered(sum, weight, s->n);
        score.value = mean.mean;
        if (!rate) score.error = mean.error;
        score.interval = rate ? rate_interval(sum, weight, s->n, b->level, &exact)
                              : mean_interval(mean, b->level);
        // samples that agree on all items: as if there were one an item
        if (rate && !(mean.error > 0))
            score.interval = binomial_interval(mean.mean * mean.n, mean.n, b->level);
    } else score = no_score;
    free(sum);
    return score;
}

// A task's weight in its group: the number of its items, where no other is laid down.
static double task_weight(const Benchmarks *b, int i, int c, int task) {
    return b->sets[i].weight ? b->sets[i].weight[task] : score_of(b, i, c, IS_RIGHT, task).n;
}

// The mean of what is right, of the tasks that have such a number: of all tasks by one each; of one
// group's (group >= 0) by their weights; or, with group -2, the mean of all groups.
enum { ALL_TASKS = -1, ALL_GROUPS = -2 };
static Score score_mean(const Benchmarks *b, int i, int c, int group) {
    const ItemSet *s = &b->sets[i];
    const int T = s->tasks.n, G = s->groups.n;
    if (!T || (group != ALL_TASKS && !G)) return no_score;
    double *weight = mem_alloc(2 * (size_t)T, sizeof *weight), *value = weight + T, total = 0;
    double *of_group = mem_alloc((size_t)G + 1, sizeof *of_group);
    Interval *intervals = mem_alloc((size_t)T, sizeof *intervals);
    Score mean = {.error = NAN};
    for (int t = 0; t < T; t++) {
        const Score score = score_of(b, i, c, IS_RIGHT, t);
        if (!(score.n > 0) || (group >= 0 && s->group[t] != group)) continue;
        value[t] = score.value;
        intervals[t] = score.interval;
        weight[t] = group == ALL_TASKS ? 1 : task_weight(b, i, c, t);
        if (G) of_group[s->group[t]] += weight[t];
    }
    for (int t = 0; t < T && group == ALL_GROUPS; t++) { // a group's tasks share the group's weight
        const int g = s->group[t];
        if (weight[t] > 0) weight[t] *= (s->group_weight ? s->group_weight[g] : 1) / of_group[g];
    }
    for (int t = 0; t < T; t++) total += weight[t];
    for (int t = 0; t < T; t++) weight[t] /= total;
    for (int t = 0; t < T; t++) mean.value += weight[t] * value[t];
    mean.interval = sum_interval(weight, value, intervals, T);
    mean.n = total;
    free(weight), free(of_group), free(intervals);
    return total > 0 ? mean : no_score;
}

// The chance level of a benchmark: the mean over its items; NAN where there is nothing to choose from.
static double set_chance(const ItemSet *s) {
    double sum = 0, n = 0;
    for (int k = 0; k < s->n; k++) {
        if (s->items[k].out) continue;
        sum += item_chance(s, &s->items[k]);
        n++;
    }
    return sum / n;
}

// Items that count.
static int set_count(const ItemSet *s) {
    int n = 0;
    for (int k = 0; k < s->n; k++) n += !s->items[k].out;
    return n;
}

// True if scorers a and c have both done the benchmark: then *out compares them item by item.
static bool scorers_compare(Comparison *out, const Benchmarks *b, int i, int a, int c) {
    const ItemSet *s = &b->sets[i];
    if (!b->scores[a][i].judge || !b->scores[c][i].judge) return false;
    double *x = mem_alloc(2 * (size_t)s->n, sizeof *x), *y = x + s->n;
    int n = 0;
    for (int k = 0; k < s->n; k++) {
        if (s->items[k].out) continue;
        x[n] = b->scores[a][i].value[IS_RIGHT][k];
        y[n++] = b->scores[c][i].value[IS_RIGHT][k];
    }
    *out = compare_pairs(x, y, n, b->level);
    free(x);
    return true;
}

// ------------------------------------------------------------------------------------------------
// Table

// Cells of a table, "" for nothing.
typedef struct {
    int rows, cols;
    char **cell; // (rows, cols)
} Grid;

static Grid grid_make(int rows, int cols) {
    return (Grid){rows, cols, mem_alloc((size_t)rows * (size_t)cols, sizeof(char *))};
}

// Set a cell to a new text, which the grid frees.
static void grid_set(Grid *g, int row, int col, char *text) { g->cell[row * g->cols + col] = text; }

// Print the grid, whose first row are heads, without columns that have nothing else; the first `left`
// columns begin at the left. Free it.
static void grid_print(Grid *g, int left) {
    Text *lines = mem_alloc((size_t)g->rows, sizeof *lines);
    for (int c = 0; c < g->cols; c++) {
        int width = 0;
        bool any = false;
        for (int r = 0; r < g->rows; r++) {
            const char *cell = g->cell[r * g->cols + c];
            any |= r && cell;
            if (cell && utf8_length(cell) > width) width = utf8_length(cell);
        }
        for (int r = 0; r < g->rows && any; r++) {
            const char *cell = g->cell[r * g->cols + c] ? g->cell[r * g->cols + c] : r ? "-" : "";
            const int room = width - utf8_length(cell);
            text_print(&lines[r], "%s%*s%s%*s", c ? "  " : "", c < left ? 0 : room, "", cell,
                       c < left ? room : 0, "");
        }
    }
    for (int r = 0; r < g->rows; r++) {
        while (lines[r].size && lines[r].data[lines[r].size - 1] == ' ') lines[r].size--;
        printf("%.*s\n", (int)lines[r].size, lines[r].size ? lines[r].data : "");
        text_free(&lines[r]);
    }
    for (int k = 0; k < g->rows * g->cols; k++) free(g->cell[k]);
    free(g->cell), free(lines);
}

// "0.512 [0.490, 0.534]", or NULL.
static char *score_text(Score s) {
    if (isnan(s.value)) return NULL;
    return text_format("%.3f [%.3f, %.3f]", s.value, s.interval.low, s.interval.high);
}

// e to a mean and to the ends of its interval; one item has none.
static char *perplexity_text(Score nll) {
    if (isnan(nll.error)) return text_format("%.4g", exp(nll.value));
    return text_format("%.4g [%.4g, %.4g]", exp(nll.value), exp(nll.interval.low),
                       exp(nll.interval.high));
}

// The chance level, and on which side of it the interval is.
static char *chance_text(double chance, Score s) {
    if (isnan(chance)) return NULL;
    return text_format("%.3f, %s", chance,
                       s.interval.low > chance    ? "above"
                       : s.interval.high < chance ? "below"
                                                  : "at it");
}

// One row for each benchmark and scorer.
static void benchmarks_table(const Benchmarks *b) {
    enum { NAME, MODEL, ITEMS, RIGHT, CHANCE, CHARS, TOKENS, PERPLEXITY, TASKS, GROUPS, PASS };
    static const char *const heads[] = {"benchmark", "model",     "items",      "acc",
                                        "chance",    "acc_norm",  "acc_tokens", "perplexity",
                                        "task mean", "group mean"};
    Grid g = grid_make(1 + b->n_sets * b->n_scorers, PASS + MAX_PASS_K);
    for (int c = 0; c < PASS; c++) grid_set(&g, 0, c, text_copy(heads[c]));
    for (int k = 0; k < b->n_pass_k; k++)
        grid_set(&g, 0, PASS + k, text_format("pass@%d", b->pass_k[k]));
    g.rows = 1;
    for (int i = 0; i < b->n_sets; i++)
        for (int c = 0; c < b->n_scorers; c++) {
            if (!b->scores[c][i].judge) continue;
            const Score right = score_of(b, i, c, IS_RIGHT, -1);
            const Score nll = score_of(b, i, c, IS_NLL, -1);
            const int row = g.rows++;
            grid_set(&g, row, NAME, text_copy(b->sets[i].name));
            grid_set(&g, row, MODEL, text_copy(b->scorers[c].name));
            grid_set(&g, row, ITEMS, text_format("%d", set_count(&b->sets[i])));
            grid_set(&g, row, RIGHT, score_text(right));
            grid_set(&g, row, CHANCE, chance_text(set_chance(&b->sets[i]), right));
            grid_set(&g, row, CHARS, score_text(score_of(b, i, c, IS_RIGHT_CHARS, -1)));
            grid_set(&g, row, TOKENS, score_text(score_of(b, i, c, IS_RIGHT_TOKENS, -1)));
            if (!isnan(nll.value)) grid_set(&g, row, PERPLEXITY, perplexity_text(nll));
            grid_set(&g, row, TASKS, score_text(score_mean(b, i, c, ALL_TASKS)));
            grid_set(&g, row, GROUPS, score_text(score_mean(b, i, c, ALL_GROUPS)));
            for (int k = 0; k < b->n_pass_k; k++)
                grid_set(&g, row, PASS + k,
                         score_text(score_of(b, i, c, (ItemMeasure)(IS_PASS + k), -1)));
        }
    printf("\n");
    grid_print(&g, 2);
    printf(
        "\n  acc: share of items that are right; acc_norm and acc_tokens: by log-probs a character "
        "and a token;\n  [..] %g%% interval; chance: of a guess, and where the interval is\n",
        100 * b->level);
}

// Append a row to the grid of tasks: a group (group >= 0) or a task.
static void tasks_row(Grid *g, const Benchmarks *b, int i, int group, int task) {
    const ItemSet *s = &b->sets[i];
    int items = 0;
    for (int k = 0; k < s->n; k++) {
        const Item *item = &s->items[k];
        items += !item->out && (group < 0 ? item->task == task : s->group[item->task] == group);
    }
    const int row = g->rows++;
    const char *before = s->groups.n ? "  " : "";
    grid_set(g, row, 0,
             group >= 0 ? text_copy(s->groups.text[group])
                        : text_format("%s%s", before, s->tasks.text[task]));
    grid_set(g, row, 1, text_format("%d", items));
    for (int c = 0; c < b->n_scorers; c++)
        grid_set(g, row, 2 + c,
                 score_text(group >= 0 ? score_mean(b, i, c, group)
                                       : score_of(b, i, c, IS_RIGHT, task)));
}

// Tasks of a benchmark, each group before its own, with a column for each scorer.
static void tasks_table(const Benchmarks *b, int i) {
    const ItemSet *s = &b->sets[i];
    Grid g = grid_make(1 + s->groups.n + s->tasks.n, 2 + b->n_scorers);
    grid_set(&g, 0, 0, text_format("%s, by %s", s->name, s->task_key));
    grid_set(&g, 0, 1, text_copy("items"));
    for (int c = 0; c < b->n_scorers; c++) grid_set(&g, 0, 2 + c, text_copy(b->scorers[c].name));
    g.rows = 1;
    for (int t = 0; t < s->tasks.n && !s->groups.n; t++) tasks_row(&g, b, i, -1, t);
    for (int k = 0; k < s->groups.n; k++) {
        tasks_row(&g, b, i, k, -1);
        for (int t = 0; t < s->tasks.n; t++)
            if (s->group[t] == k) tasks_row(&g, b, i, -1, t);
    }
    printf("\n");
    grid_print(&g, 1);
}

// How all other scorers compare with the first one on each benchmark.
static void benchmarks_compare(const Benchmarks *b) {
    Comparison c;
    const char *before = "\n";
    for (int i = 0; i < b->n_sets; i++)
        for (int k = 1; k < b->n_scorers; k++) {
            if (!scorers_compare(&c, b, i, k, 0)) continue;
            printf("%s%s - %s on %s: acc %+.4f", before, b->scorers[k].name, b->scorers[0].name,
                   b->sets[i].name, c.difference.mean);
            if (c.difference.n > 1) printf(" [%+.4f, %+.4f]", c.interval.low, c.interval.high);
            printf(", better on %d and worse on %d of %d items (sign test: p = %.2g)\n", c.better,
                   c.worse, c.difference.n, c.p);
            before = "";
        }
}

// What there is to know of how the numbers came about.
static void benchmarks_notes(const Benchmarks *b) {
    for (int i = 0; i < b->n_sets; i++)
        for (int c = 0; c < b->n_scorers; c++) {
            const Scores *s = &b->scores[c][i];
            const struct {
                long count;
                const char *what;
            } notes[] = {
                {s->cut, "items longer than the context lost their beginning"},
                {s->tied, "pairs have equal scores: wrong"},
                {s->unfinished, "samples were cut at --max_new_tokens"},
            };
            for (int k = 0; k < COUNT(notes); k++)
                if (notes[k].count)
                    printf("%s on %s: %ld %s\n", b->scorers[c].name, b->sets[i].name,
                           notes[k].count, notes[k].what);
        }
}

// Print what was read of a benchmark's file.
static void set_print(const ItemSet *s) {
    Text line = {0};
    text_print(&line, "%s: %s, %d items", s->path, item_forms[s->form].name, set_count(s));
    if (s->task_key) text_print(&line, " of %d tasks (%s)", s->tasks.n, s->task_key);
    counts_report(&line, &s->counts);
    if (s->twice) text_print(&line, "; %ld lines are there twice, and count twice", s->twice);
    printf("%s\n", line.data);
    text_free(&line);
}

// Print all there is for the terminal.
static void benchmarks_print(const Benchmarks *b) {
    for (int i = 0; i < b->n_sets; i++) set_print(&b->sets[i]);
    benchmarks_table(b);
    for (int i = 0; i < b->n_sets; i++)
        if (b->sets[i].task_key) tasks_table(b, i);
    benchmarks_compare(b);
    benchmarks_notes(b);
}

// ------------------------------------------------------------------------------------------------
// JSON

// Append "key": {mean, low, high}, with the error of a mean, or null.
static void json_score(Text *out, const char *key, Score s, bool counts) {
    text_print(out, "\"%s\": ", key);
    if (isnan(s.value)) {
        text_print(out, "null");
        return;
    }
    text_print(out, "{");
    if (isnan(s.error))
        json_numbers(out, "mean low high", s.value, s.interval.low, s.interval.high);
    else
        json_numbers(out, "mean error low high", s.value, s.error, s.interval.low, s.interval.high);
    if (counts) {
        text_print(out, ", ");
        json_numbers(out, "right n", s.sum, s.n);
    }
    text_print(out, "}");
}

// The same numbers as members of the object that is open.
static void json_score_flat(Text *out, Score s) {
    json_numbers(out, "mean low high", s.value, s.interval.low, s.interval.high);
}

static void json_scorer(Text *out, const Benchmarks *b, int i, int c) {
    const ItemSet *s = &b->sets[i];
    const Scores *scores = &b->scores[c][i];
    const Score nll = score_of(b, i, c, IS_NLL, -1);
    text_print(out, "      {");
    json_string(out, "name", b->scorers[c].name, ", ");
    json_string(out, "model", b->scorers[c].dir, ", ");
    json_string(out, "judge", judge_names[scores->judge], ",\n       ");
    json_score(out, "acc", score_of(b, i, c, IS_RIGHT, -1), true);
    text_print(out, ",\n       ");
    json_score(out, "acc_norm", score_of(b, i, c, IS_RIGHT_CHARS, -1), true);
    text_print(out, ", ");
    json_score(out, "acc_tokens", score_of(b, i, c, IS_RIGHT_TOKENS, -1), true);
    text_print(out, ",\n       ");
    json_score(out, "nll", nll, false);
    text_print(out, ", ");
    json_numbers(out, "perplexity", exp(nll.value));
    text_print(out, ", \"pass\": [");
    for (int k = 0; k < b->n_pass_k && scores->judge == BY_SAMPLES; k++) {
        const Score pass = score_of(b, i, c, (ItemMeasure)(IS_PASS + k), -1);
        text_print(out, "%s{", k ? ", " : "");
        json_numbers(out, "k mean low high", (double)b->pass_k[k], pass.value, pass.interval.low,
                     pass.interval.high);
        text_print(out, "}");
    }
    text_print(out, "],\n       ");
    json_score(out, "task_mean", score_mean(b, i, c, ALL_TASKS), false);
    text_print(out, ", ");
    json_score(out, "group_mean", score_mean(b, i, c, ALL_GROUPS), false);
    text_print(out, ",\n       \"groups\": [");
    for (int g = 0; g < s->groups.n; g++) {
        text_print(out, "%s{", g ? ", " : "");
        json_string(out, "name", s->groups.text[g], ", ");
        json_numbers(out, "weight", s->group_weight ? s->group_weight[g] : 1.0);
        text_print(out, ", ");
        json_score_flat(out, score_mean(b, i, c, g));
        text_print(out, "}");
    }
    text_print(out, "],\n       \"tasks\": [");
    for (int t = 0; t < s->tasks.n; t++) {
        const Score score = score_of(b, i, c, IS_RIGHT, t);
        text_print(out, t ? ",\n         {" : "\n         {");
        json_string(out, "name", s->tasks.text[t], ", ");
        json_string(out, "group", s->groups.n ? s->groups.text[s->group[t]] : NULL, ", ");
        json_numbers(out, "items", (double)score.items);
        text_print(out, ", ");
        json_score_flat(out, score);
        text_print(out, "}");
    }
    text_print(out, "],\n       ");
    json_numbers(out, "cut joined tied unfinished seconds", (double)scores->cut,
                 (double)scores->joined, (double)scores->tied, (double)scores->unfinished,
                 scores->seconds);
    text_print(out, "}");
}

static void json_set(Text *out, const Benchmarks *b, int i) {
    const ItemSet *s = &b->sets[i];
    Comparison comparison;
    text_print(out, "    {");
    json_string(out, "name", s->name, ", ");
    json_string(out, "file", s->path, ", ");
    json_string(out, "form", item_forms[s->form].name, ", ");
    json_numbers(out, "chance items records skipped twice", set_chance(s), (double)set_count(s),
                 (double)s->counts.records, (double)s->counts.skipped, (double)s->twice);
    text_print(out, ",\n     \"models\": [");
    const char *comma = "\n";
    for (int c = 0; c < b->n_scorers; c++) {
        if (!b->scores[c][i].judge) continue;
        text_print(out, "%s", comma);
        json_scorer(out, b, i, c);
        comma = ",\n";
    }
    text_print(out, "],\n     \"comparisons\": [");
    comma = "\n";
    for (int c = 0; c < b->n_scorers; c++)
        for (int a = c + 1; a < b->n_scorers; a++) {
            if (!scorers_compare(&comparison, b, i, a, c)) continue;
            text_print(out, "%s      {", comma);
            json_string(out, "a", b->scorers[a].name, ", ");
            json_string(out, "b", b->scorers[c].name, ", ");
            json_comparison(out, &comparison);
            text_print(out, "}");
            comma = ",\n";
        }
    text_print(out, "]}");
}

// Append all results as one object; `flags` is that of the run's flags.
static void json_benchmarks(Text *out, const Benchmarks *b, const Text *flags) {
    text_print(out, "{\n\"format\": 1,\n\"flags\": %.*s,\n", (int)flags->size - 1, flags->data);
    json_numbers(out, "level samples temperature", b->level, (double)b->n_samples,
                 b->sampling.temperature);
    text_print(out, ",\n\"benchmarks\": [");
    for (int i = 0; i < b->n_sets; i++) {
        text_print(out, i ? ",\n" : "\n");
        json_set(out, b, i);
    }
    text_print(out, "\n]\n}\n");
}

#endif
