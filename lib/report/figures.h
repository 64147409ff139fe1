// figures.h: the parts of a report, each made of what findings.h has read:
//
//   table      one row a policy
//   plane      score against KL, with the best that is possible
//   wins       win rates over the baseline
//   curves     learning curves of every run
//   texts      what the policies wrote, side by side
//
// Functions ending in _html append to the page, those in _text to what goes to the terminal.
#ifndef FIGURES_H
#define FIGURES_H

#include "findings.h"
#include "plot.h"

// ------------------------------------------------------------------------------------------------
// The table: one row a policy

typedef enum {
    C_NAME,
    C_SCORE,
    C_GAIN,
    C_WINS,
    C_KL,
    C_LENGTH,
    C_NLL,
    C_SECONDS,
    C_MEMORY,
    COLUMNS
} Column;
static const struct {
    const char *head, *unit, *legend;
} columns[COLUMNS] = {
    {"method", "", ""},
    {"score", "", "mean score of the texts"},
    {"gain", "(interval)", "mean difference of the scores to the baseline's on the same prompts"},
    {"win rate", "(interval)",
     "texts that score higher than the baseline's on the same prompt, a tie is half"},
    {"KL", "nats", "divergence of a completion from the reference, with standard error"},
    {"length", "tokens", "of a text"},
    {"NLL", "nats/token", "of the data's own answers: how near the model is to the data"},
    {"time", "s", "of training this method alone"},
    {"memory", "MB", "peak of that"},
};

// What a policy has in a column, "" for nothing. Release with free().
static char *cell_text(const Report *r, const cJSON *policy, Column c) {
    const char *name = string_of(policy, "name");
    const cJSON *gain = policy_gain(r, policy), *wins = policy_wins(r, policy);
    const cJSON *kl = json_get(policy, "kl"), *stage = stage_find(r, name);
    double x = NAN;
    switch (c) {
    case C_NAME:
        return text_copy(name);
    case C_SCORE:
        x = number_of(json_get(policy, r->judge ? r->judge : ""), "mean");
        return isfinite(x) ? text_format("%.2f", x) : text_copy("");
    case C_GAIN:
        if (!isfinite(number_of(gain, "mean"))) return text_copy("");
        return text_format("%+.2f (%+.2f to %+.2f)", number_of(gain, "mean"),
                           number_of(gain, "low"), number_of(gain, "high"));
    case C_WINS:
        if (!isfinite(number_of(wins, "rate"))) return text_copy("");
        return text_format("%.1f %% (%.1f to %.1f)", 100 * number_of(wins, "rate"),
                           100 * number_of(wins, "low"), 100 * number_of(wins, "high"));
    case C_KL:
        if (!isfinite(number_of(kl, "mean"))) return text_copy("");
        return text_format("%.2f ± %.2f", number_of(kl, "mean"), number_of(kl, "error"));
    case C_LENGTH:
        x = number_of(json_get(policy, "length"), "mean");
        break;
    case C_NLL:
        x = number_of(json_get(policy, "nll"), "mean");
        return isfinite(x) ? text_format("%.3f", x) : text_copy("");
    case C_SECONDS:
        x = number_of(stage, "seconds");
        return isfinite(x) ? text_format(x < 1000 ? "%.3g" : "%.0f", x) : text_copy("");
    case C_MEMORY:
        x = number_of(stage, "peak_memory_mb");
        return isfinite(x) ? text_format("%.0f", x) : text_copy("");
    case COLUMNS:
        break;
    }
    return isfinite(x) ? text_format("%.1f", x) : text_copy("");
}

// True if some policy has something in this column.
static bool column_shown(const Report *r, Column c) {
    bool shown = false;
    for (int i = 0; i < r->n_policies && !shown; i++) {
        char *text = cell_text(r, r->policy[i], c);
        shown = *text != 0;
        free(text);
    }
    return shown;
}

// The name of a column; that of the score depends on what wins.
static const char *column_head(const Report *r, Column c) {
    return c == C_SCORE && r->judge && !strcmp(r->judge, "gold") ? "gold score" : columns[c].head;
}

// Characters of UTF-8 text.
static int text_width(const char *s) {
    int n = 0;
    for (; *s; s++) n += (*s & 0xC0) != 0x80;
    return n;
}

// The table for the terminal.
static void table_text(Text *out, const Report *r) {
    for (int i = -1; i < r->n_policies; i++) {
        for (Column c = 0; c < COLUMNS; c++) {
            if (!column_shown(r, c)) continue;
            int width = text_width(column_head(r, c));
            for (int k = 0; k < r->n_policies; k++) {
                char *text = cell_text(r, r->policy[k], c);
                if (text_width(text) > width) width = text_width(text);
                free(text);
            }
            char *text = i < 0 ? text_copy(column_head(r, c)) : cell_text(r, r->policy[i], c);
            const int room = width - text_width(text);
            if (c) text_print(out, "%*s%s%s", room + 2, "", text, "");
            else text_print(out, "  %s%*s", text, room, "");
            free(text);
        }
        text_put(out, "\n");
    }
}

// The marker of a name, which stands before it.
static void key_html(Text *out, const Report *r, const char *name) {
    text_put(out, "<svg class=\"key\" viewBox=\"-7 -7 14 14\" aria-hidden=\"true\">");
    svg_marker(out, 0, 0, name_colour(r, name));
    text_put(out, "</svg>");
}

// The table for the page, and what its columns mean.
static void table_html(Text *out, const Report *r) {
    text_put(out, "<div class=\"wide\"><table><thead><tr>");
    for (Column c = 0; c < COLUMNS; c++) {
        if (!column_shown(r, c)) continue;
        text_print(out, "<th>%s", column_head(r, c));
        if (*columns[c].unit) text_print(out, "<br/><small>%s</small>", columns[c].unit);
        text_put(out, "</th>");
    }
    text_put(out, "</tr></thead><tbody>\n");
    for (int i = 0; i < r->n_policies; i++) {
        text_put(out, "<tr>");
        for (Column c = 0; c < COLUMNS; c++) {
            if (!column_shown(r, c)) continue;
            char *text = cell_text(r, r->policy[i], c);
            text_put(out, c ? "<td>" : "<th scope=\"row\">");
            if (!c) key_html(out, r, text);
            text_html(out, text);
            text_put(out, c ? "</td>" : "</th>");
            free(text);
        }
        text_put(out, "</tr>\n");
    }
    text_put(out, "</tbody></table></div>\n<p class=\"note\">");
    for (Column c = 1; c < COLUMNS; c++)
        if (column_shown(r, c))
            text_print(out, "<b>%s</b>: %s. ", column_head(r, c), columns[c].legend);
    text_put(out, "</p>\n");
}

// ------------------------------------------------------------------------------------------------
// Reward against KL

// The place of a policy in the plane, with its intervals.
typedef struct {
    double kl, kl_low, kl_high, score, low, high;
} Point;

// NAN where the evaluation has no such number.
static Point policy_point(const Report *r, const cJSON *policy) {
    const cJSON *kl = json_get(policy, "kl"), *score = json_get(policy, r->judge ? r->judge : "");
    return (Point){number_of(kl, "mean"),    number_of(kl, "low"),    number_of(kl, "high"),
                   number_of(score, "mean"), number_of(score, "low"), number_of(score, "high")};
}

// Number of policies that have a place in the plane.
static int plane_count(const Report *r) {
    int n = 0;
    for (int i = 0; i < r->n_policies; i++) {
        const Point p = policy_point(r, r->policy[i]);
        n += isfinite(p.kl) && isfinite(p.score);
    }
    return n;
}

// The frontier up to a KL of `most`: points, and the 90 % interval of each. Returns how many.
enum { FRONTIER_POINTS = 256 };
static int frontier_points(const Report *r, double most, double *kl, double *score, double *low,
                           double *high) {
    int n = 0;
    for (int i = 0; i < r->n_frontier && n < FRONTIER_POINTS; i++) {
        const Best *b = &r->frontier[i];
        if (n > 1 && b->kl > most) break;
        kl[n] = b->kl, score[n] = b->score;
        low[n] = b->score - 1.645 * b->error, high[n] = b->score + 1.645 * b->error;
        n++;
    }
    return n;
}

// Both axes of the plane, around all that is shown in it.
static int plane_axes(const Report *r, Axis *x, Axis *y, double *kl, double *score, double *low,
                      double *high) {
    *x = axis_empty(), *y = axis_empty();
    axis_add(x, 0);
    for (int i = 0; i < r->n_policies; i++) {
        const Point p = policy_point(r, r->policy[i]);
        axis_add(x, p.kl), axis_add(x, p.kl_high), axis_add(y, p.score);
        axis_add(y, p.low), axis_add(y, p.high);
    }
    const int n = frontier_points(r, x->high * 1.1, kl, score, low, high);
    for (int i = 0; i < n; i++) axis_add(x, kl[i]), axis_add(y, score[i]), axis_add(y, high[i]);
    return n;
}

// The plane as a figure. Labels are where there is room for them.
static void plane_html(Text *out, const Report *r) {
    double kl[FRONTIER_POINTS], score[FRONTIER_POINTS], low[FRONTIER_POINTS], high[FRONTIER_POINTS];
    Axis x, y;
    Labels labels = {0};
    const char *head = column_head(r, C_SCORE);
    const int n = plane_axes(r, &x, &y, kl, score, low, high);
    axis_finish(&x, 6, false, 44, 430), axis_finish(&y, 6, false, 316, 26);
    svg_begin(out, 440, 360,
              "mean score of each method against its KL divergence from the reference");
    svg_axes(out, &x, &y, "KL to the reference, nats a completion", head);
    if (n) {
        svg_band(out, &x, &y, kl, low, high, n, "frontier");
        svg_line(out, &x, &y, kl, score, n, "frontier");
        const Best *last = &r->frontier[r->n_frontier - 1];
        if (n == r->n_frontier && last->slope > 0) { // the tangent: a bound where nothing is known
            const double end = fmin(x.high, last->kl + (y.high - last->score) / last->slope);
            const double bound_x[2] = {last->kl, end};
            const double bound_y[2] = {last->score, last->score + last->slope * (end - last->kl)};
            svg_line(out, &x, &y, bound_x, bound_y, 2, "frontier dash");
        }
        for (int i = 0; i < n; i++) { // labels keep out of the line's way
            const double px = axis_at(&x, kl[i]), py = axis_at(&y, score[i]);
            labels_block(&labels, px - 3, py - 3, px + 3, py + 3);
        }
    }
    for (int i = 0; i < r->n_policies; i++) {
        const Point p = policy_point(r, r->policy[i]);
        if (!isfinite(p.kl) || !isfinite(p.score)) continue;
        const double px = axis_at(&x, p.kl), py = axis_at(&y, p.score);
        const int colour = name_colour(r, string_of(r->policy[i], "name"));
        svg_interval(out, &x, p.kl_low, p.kl_high, py, false, colour);
        svg_interval(out, &y, p.low, p.high, px, true, colour);
        svg_marker(out, px, py, colour);
        labels_block(&labels, px - 6, py - 6, px + 6, py + 6);
    }
    for (int i = 0; i < r->n_policies; i++) {
        const Point p = policy_point(r, r->policy[i]);
        if (!isfinite(p.kl) || !isfinite(p.score)) continue;
        labels_place(out, &labels, string_of(r->policy[i], "name"), axis_at(&x, p.kl),
                     axis_at(&y, p.score), &x, &y);
    }
    if (n)
        labels_place(out, &labels, "optimum", axis_at(&x, kl[n - 1]), axis_at(&y, score[n - 1]), &x,
                     &y);
    svg_end(out);
}

// The plane for the terminal: letters for policies, dots for the frontier.
static void plane_text(Text *out, const Report *r) {
    double kl[FRONTIER_POINTS], score[FRONTIER_POINTS], low[FRONTIER_POINTS], high[FRONTIER_POINTS];
    Axis x, y;
    Plane plane;
    const int n = plane_axes(r, &x, &y, kl, score, low, high);
    axis_finish(&x, 6, false, 0, PLANE_WIDTH - 1), axis_finish(&y, 5, false, 0, PLANE_HEIGHT - 1);
    plane_clear(&plane);
    text_put(out, "\n");
    for (int i = 0, shown = 0; i < r->n_policies; i++) {
        const Point p = policy_point(r, r->policy[i]);
        if (isfinite(p.kl) && isfinite(p.score))
            plane_set(&plane, &x, &y, p.kl, p.score, (char)('A' + shown++ % 26));
    }
    for (int i = 0; i + 1 < n; i++)
        for (int k = 0; k <= PLANE_WIDTH; k++) {
            const double t = (double)k / PLANE_WIDTH;
            plane_set(&plane, &x, &y, kl[i] + t * (kl[i + 1] - kl[i]),
                      score[i] + t * (score[i + 1] - score[i]), '.');
        }
    plane_print(out, &plane, &x, &y, "KL to the reference, nats a completion",
                column_head(r, C_SCORE));
    text_put(out, "         ");
    for (int i = 0, shown = 0; i < r->n_policies; i++) {
        const Point p = policy_point(r, r->policy[i]);
        if (isfinite(p.kl) && isfinite(p.score))
            text_print(out, "%c %s  ", 'A' + shown++ % 26, string_of(r->policy[i], "name"));
    }
    text_print(out, "%s\n", n ? ". the best possible" : "");
}

// ------------------------------------------------------------------------------------------------
// Win rates

// A bar for each policy that has a win rate.
static void wins_html(Text *out, const Report *r) {
    int n = 0, row = 0;
    for (int i = 0; i < r->n_policies; i++)
        n += isfinite(number_of(policy_wins(r, r->policy[i]), "rate"));
    const int bottom = 12 + 30 * n;
    const Axis x = {.low = 0, .high = 100, .step = 25, .from = 90, .to = 415};
    char text[32];
    svg_begin(out, 440, bottom + 42, "win rate of each method over the baseline");
    for (double t = 0; t <= 100; t += 25) {
        text_print(out, "<path class=\"%s\" d=\"M%.1f 4V%d\"/>\n", t == 50 ? "half" : "grid",
                   axis_at(&x, t), bottom);
        snprintf(text, sizeof text, "%.0f %%", t);
        svg_text(out, axis_at(&x, t), bottom + 17, "middle", "tick", text);
    }
    for (int i = 0; i < r->n_policies; i++) {
        const cJSON *wins = policy_wins(r, r->policy[i]);
        const double rate = 100 * number_of(wins, "rate"), y = 20 + 30 * row;
        const char *name = string_of(r->policy[i], "name");
        if (!isfinite(rate)) continue;
        svg_text(out, 82, y + 5, "end", "label", name);
        text_print(out, "<path class=\"fill c%d\" d=\"M%.1f %.1fH%.1fv18H%.1fz\"/>\n",
                   name_colour(r, name), x.from, y - 9, axis_at(&x, rate), x.from);
        const double low = axis_at(&x, 100 * number_of(wins, "low"));
        const double high = axis_at(&x, 100 * number_of(wins, "high"));
        if (isfinite(low) && isfinite(high))
            text_print(out,
                       "<path class=\"whisker\" d=\"M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8\"/>\n",
                       low, y, high, low, y - 4, high, y - 4);
        row++;
    }
    svg_text(out, (x.from + x.to) / 2, bottom + 35, "middle", "name",
             "texts that score higher than the baseline's");
    svg_end(out);
}

// ------------------------------------------------------------------------------------------------
// Learning curves

// Plots of a run's log; those whose keys are in it are shown. Up to three lines each.
static const struct {
    const char *title, *keys[3], *names[3], *meaning;
} panels[] = {
    {"loss",
     {"loss", "eval_loss"},
     {"training", "held out"},
     "the objective. Losses of different methods are different things and cannot be compared."},
    {"accuracy",
     {"accuracy", "eval_accuracy"},
     {"training", "held out"},
     "share of pairs in which the reward model scores the chosen answer higher."},
    {"margin of scores",
     {"margin", "eval_margin"},
     {"training", "held out"},
     "mean score of the chosen answers less that of the rejected."},
    {"implicit rewards",
     {"rewards/chosen", "rewards/rejected"},
     {"chosen", "rejected"},
     "beta times how much more probable than under the reference an answer has become (ORPO: beta "
     "times its log-probability). They should part; that both fall is common."},
    {"implicit rewards ",
     {"rewards/real", "rewards/generated"},
     {"of the data", "generated"},
     "lambda times how much more probable than under the last player a text has become."},
    {"margin of rewards",
     {"rewards/margins", "eval_rewards/margins"},
     {"training", "held out"},
     "the distance of the two."},
    {"pairs told apart",
     {"rewards/accuracies", "eval_rewards/accuracies"},
     {"training", "held out"},
     "share of pairs in which the better answer has the larger implicit reward."},
    {"score",
     {"objective/scores", "objective/gold"},
     {"what is optimised", "gold score"},
     "mean score of the completions that PPO sampled. A gold score that falls while the other "
     "rises "
     "is overoptimisation."},
    {"KL to the reference",
     {"objective/kl"},
     {"nats a completion"},
     "how far the policy is from its start."},
    {"value loss",
     {"loss/value_avg"},
     {"critic"},
     "squared error of the critic's forecasts, halved and clipped."},
    {"held-out NLL",
     {"player/nll"},
     {"nats a token"},
     "of the data's texts: how near a player is to them."},
    {"total variation of bigrams",
     {"player/bigram_tv", "data/bigram_tv"},
     {"player", "data against itself"},
     "distance of the word pairs in the player's texts from those in the data; that of two samples "
     "of "
     "the data is the floor."},
    {"total variation of scores",
     {"player/gold_tv", "data/gold_tv"},
     {"player", "data against itself"},
     "the same for the histograms of gold scores."},
};

// Append a panel, unless the run has nothing for it: no key with two values or more.
static bool panel_html(Text *out, const Run *run, int p, double *x, double *y) {
    static const char *const classes[] = {"c1", "c2", "c3"};
    Axis ax = axis_empty(), ay = axis_empty();
    bool any = false;
    for (int k = 0; k < 3 && panels[p].keys[k]; k++) {
        const int n = run_series(run, panels[p].keys[k], x, y);
        for (int i = 0; i < n; i++) axis_add(&ax, x[i]), axis_add(&ay, y[i]);
        any |= n > 1;
    }
    if (!any) return false;
    axis_finish(&ax, 4, false, 44, 272), axis_finish(&ay, 4, false, 162, 44);
    if (ax.low < 0) ax.low = -0.02 * ax.high; // steps begin at 0
    text_put(out, "<figure>");
    svg_begin(out, 280, 200, panels[p].title);
    svg_text(out, 4, 14, "start", "title", panels[p].title);
    svg_axes(out, &ax, &ay, "step", NULL);
    double legend = 4;
    for (int k = 0; k < 3 && panels[p].keys[k]; k++) {
        const int n = run_series(run, panels[p].keys[k], x, y);
        if (!n) continue;
        char dashed[16];
        snprintf(dashed, sizeof dashed, "%s%s", classes[k], k ? " dash" : "");
        if (n == 1) x[0] = 0, x[1] = ax.high, y[1] = y[0]; // a level
        svg_line(out, &ax, &ay, x, y, n == 1 ? 2 : n, dashed);
        for (int i = 0; i < n && n > 1 && n <= 12; i++)
            text_print(out, "<circle class=\"mark %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"/>\n",
                       classes[k], axis_at(&ax, x[i]), axis_at(&ay, y[i]));
        text_print(out, "<path class=\"line %s\" d=\"M%.1f 27h16\"/>\n", dashed, legend);
        svg_text(out, legend + 20, 31, "start", "tick", panels[p].names[k]);
        legend += 34 + 6.6 * (double)strlen(panels[p].names[k]);
    }
    svg_end(out);
    text_put(out, "</figure>\n");
    return true;
}

// The panels of all runs, and what they mean.
static void curves_html(Text *out, const Report *r) {
    bool used[COUNT(panels)] = {false};
    text_put(out, "<section><h2>Learning curves</h2>\n");
    for (int i = 0; i < r->n_runs; i++) {
        const Run *run = &r->runs[i];
        double *x = mem_alloc((size_t)run->n + 1, sizeof *x),
               *y = mem_alloc((size_t)run->n + 1, sizeof *y);
        text_put(out, "<h3>");
        text_html(out, run->name);
        text_put(out, "</h3><div class=\"panels\">\n");
        for (int p = 0; p < COUNT(panels); p++) used[p] |= panel_html(out, run, p, x, y);
        text_put(out, "</div>\n");
        free(x), free(y);
    }
    text_put(out, "<p class=\"note\">");
    for (int p = 0; p < COUNT(panels); p++)
        if (used[p]) text_print(out, "<b>%s</b>: %s ", panels[p].title, panels[p].meaning);
    text_put(out, "</p></section>\n");
}

// ------------------------------------------------------------------------------------------------
// Texts

// The texts of the first `count` prompts, side by side: one sample a policy.
static void samples_html(Text *out, const Report *r, int count) {
    text_put(out,
             "<section><h2>Texts</h2>\n<p>What each method wrote for the same prompts: the first "
             "sample of each, not chosen.</p>\n");
    for (int p = 0; p < count; p++) {
        bool begun = false;
        for (int i = 0; i < r->n_samples; i++) {
            const cJSON *s = r->samples[i];
            if (number_of(s, "prompt_number") != p || !(number_of(s, "sample") == 0)) continue;
            if (!begun) {
                text_put(out, "<h3 class=\"prompt\">");
                text_html(out, string_of(s, "prompt"));
                text_put(out, " …</h3><div class=\"texts\">\n");
            }
            begun = true;
            text_put(out, "<div>");
            key_html(out, r, string_of(s, "name"));
            text_put(out, "<b>");
            text_html(out, string_of(s, "name"));
            text_put(out, "</b>");
            const double score = number_of(s, r->judge ? r->judge : "gold");
            if (isfinite(score))
                text_print(out, " <small>%s %+.2f</small>", r->judge ? r->judge : "gold", score);
            text_put(out, "<p>");
            text_html(out, string_of(s, "completion"));
            const char *finish = string_of(s, "finish");
            if (finish && !strcmp(finish, "length")) text_put(out, " <small>(cut)</small>");
            text_put(out, "</p></div>\n");
        }
        if (begun) text_put(out, "</div>\n");
    }
    text_put(out, "</section>\n");
}

#endif
