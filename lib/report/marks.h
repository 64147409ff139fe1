// marks.h: benchmarks in a report, made of what findings.h has read of evaluate --benchmark:
//
//   numbers    rates as text
//   table      one row a benchmark and model
//   figure     accuracies with their intervals, and chance
//   details    by task; models compared on the same items
//
// A mark is what one model made of one benchmark. Functions ending in _html append to the page, those
// in _text to what goes to the terminal.
#ifndef MARKS_H
#define MARKS_H

#include "figures.h" // defines: text_width, name_colour

// ------------------------------------------------------------------------------------------------
// Numbers

// "51.2 % (49.0 to 53.4)" of an object {mean, low, high}; "" if it is none. Release with free().
static char *rate_text(const cJSON *rate) {
    const double mean = number_of(rate, "mean");
    if (!isfinite(mean)) return text_copy("");
    return text_format("%.1f %% (%.1f to %.1f)", 100 * mean, 100 * number_of(rate, "low"),
                       100 * number_of(rate, "high"));
}

// "50.0 %, above": the level of a guess, and on which side of it the interval of acc is.
static char *mark_chance(const Mark *m) {
    const cJSON *acc = json_get(m->model, "acc");
    const double chance = number_of(m->set, "chance");
    if (!isfinite(chance)) return text_copy("");
    return text_format("%.1f %%, %s", 100 * chance,
                       number_of(acc, "low") > chance    ? "above"
                       : number_of(acc, "high") < chance ? "below"
                                                         : "at it");
}

// "pass@1 20.0 %, pass@10 61.3 %"
static char *mark_pass(const Mark *m) {
    Text out = {0};
    const cJSON *pass;
    text_append(&out, "", 0);
    cJSON_ArrayForEach(pass, json_get(m->model, "pass"))
        text_print(&out, "%spass@%.0f %.1f %%", out.size ? ", " : "", number_of(pass, "k"),
                   100 * number_of(pass, "mean"));
    return out.data;
}

// True if mark i is the first one of its benchmark.
static bool mark_begins(const Report *r, int i) {
    return i == 0 ||
           strcmp(string_of(r->marks[i].set, "name"), string_of(r->marks[i - 1].set, "name"));
}

// ------------------------------------------------------------------------------------------------
// Table

// clang-format off
typedef enum { M_SET, M_MODEL, M_ITEMS, M_ACC, M_CHANCE, M_CHARS, M_TOKENS, M_PERPLEXITY, M_PASS,
               M_TASKS, M_GROUPS, MARK_COLUMNS } MarkColumn;
// clang-format on
static const struct {
    const char *head, *unit, *legend;
} mark_columns[MARK_COLUMNS] = {
    {"benchmark", "", ""},
    {"model", "", ""},
    {"items", "", ""},
    {"acc", "(interval)", "items that are right"},
    {"chance", "", "of a guess, and where the interval of acc is"},
    {"acc_norm", "(interval)", "right by log-likelihood a character"},
    {"acc_tokens", "(interval)", "right by log-likelihood a token"},
    {"perplexity", "", "of the last words, as wholes"},
    {"pass@k", "", "chance that one of k samples is right"},
    {"task mean", "(interval)", "mean acc of the tasks"},
    {"group mean", "(interval)", "mean acc of their groups"},
};

// What a mark has in a column, "" for nothing. Release with free().
static char *mark_cell(const Mark *m, MarkColumn c) {
    const double items = number_of(m->set, "items"), perplexity = number_of(m->model, "perplexity");
    switch (c) {
    case M_SET:
        return text_copy(string_of(m->set, "name"));
    case M_MODEL:
        return text_copy(string_of(m->model, "name"));
    case M_ITEMS:
        return isfinite(items) ? text_format("%.0f", items) : text_copy("");
    case M_ACC:
        return rate_text(json_get(m->model, "acc"));
    case M_CHANCE:
        return mark_chance(m);
    case M_CHARS:
        return rate_text(json_get(m->model, "acc_norm"));
    case M_TOKENS:
        return rate_text(json_get(m->model, "acc_tokens"));
    case M_PERPLEXITY:
        return isfinite(perplexity) ? text_format("%.4g", perplexity) : text_copy("");
    case M_PASS:
        return mark_pass(m);
    case M_TASKS:
        return rate_text(json_get(m->model, "task_mean"));
    case M_GROUPS:
        return rate_text(json_get(m->model, "group_mean"));
    case MARK_COLUMNS:
        break;
    }
    return text_copy("");
}

// Characters that a column takes, 0 if no mark has anything in it.
static int mark_width(const Report *r, MarkColumn c) {
    int width = 0;
    for (int i = 0; i < r->n_marks; i++) {
        char *text = mark_cell(&r->marks[i], c);
        if (text_width(text) > width) width = text_width(text);
        free(text);
    }
    const int head = text_width(mark_columns[c].head);
    return width && head > width ? head : width;
}

// The table for the terminal.
static void marks_text(Text *out, const Report *r) {
    text_put(out, "\n");
    for (int i = -1; i < r->n_marks; i++) {
        for (MarkColumn c = 0; c < MARK_COLUMNS; c++) {
            const int width = mark_width(r, c);
            if (!width) continue;
            char *text = i < 0 ? text_copy(mark_columns[c].head) : mark_cell(&r->marks[i], c);
            const int room = width - text_width(text);
            if (c <= M_MODEL) text_print(out, "  %s%*s", text, room, "");
            else text_print(out, "%*s%s", room + 2, "", text);
            free(text);
        }
        while (out->data[out->size - 1] == ' ') out->size--;
        text_put(out, "\n");
    }
}

// The table for the page, and what its columns mean.
static void marks_table_html(Text *out, const Report *r) {
    text_put(out, "<div class=\"wide\"><table><thead><tr>");
    for (MarkColumn c = 0; c < MARK_COLUMNS; c++) {
        if (!mark_width(r, c)) continue;
        text_print(out, "<th>%s", mark_columns[c].head);
        if (*mark_columns[c].unit) text_print(out, "<br/><small>%s</small>", mark_columns[c].unit);
        text_put(out, "</th>");
    }
    text_put(out, "</tr></thead><tbody>\n");
    for (int i = 0; i < r->n_marks; i++) {
        text_put(out, "<tr>");
        for (MarkColumn c = 0; c < MARK_COLUMNS; c++) {
            if (!mark_width(r, c)) continue;
            char *text = mark_cell(&r->marks[i], c);
            text_put(out, c ? "<td>" : "<th scope=\"row\">");
            if (c == M_MODEL) key_html(out, r, text);
            if (c || mark_begins(r, i)) text_html(out, text);
            text_put(out, c ? "</td>" : "</th>");
            free(text);
        }
        text_put(out, "</tr>\n");
    }
    text_put(out, "</tbody></table></div>\n<p class=\"note\">");
    for (MarkColumn c = 0; c < MARK_COLUMNS; c++)
        if (mark_width(r, c) && *mark_columns[c].legend)
            text_print(out, "<b>%s</b>: %s. ", mark_columns[c].head, mark_columns[c].legend);
    text_put(out, "</p>\n");
}

// ------------------------------------------------------------------------------------------------
// Figure

// A line for each mark, in blocks of a benchmark each, whose chance is a dashed line through it.
static void marks_figure_html(Text *out, const Report *r) {
    enum { LINE = 20, GAP = 16 };
    int sets = 0;
    for (int i = 0; i < r->n_marks; i++) sets += mark_begins(r, i);
    const int bottom = 6 + LINE * r->n_marks + GAP * sets;
    const Axis x = {.low = 0, .high = 100, .step = 25, .from = 170, .to = 650};
    char text[32];
    double y = 6;
    svg_begin(out, 680, bottom + 42, "share of right items of each model on each benchmark");
    for (double t = 0; t <= 100; t += 25) {
        text_print(out, "<path class=\"grid\" d=\"M%.1f 4V%d\"/>\n", axis_at(&x, t), bottom);
        snprintf(text, sizeof text, "%.0f %%", t);
        svg_text(out, axis_at(&x, t), bottom + 17, "middle", "tick", text);
    }
    for (int i = 0; i < r->n_marks; i++) {
        const Mark *m = &r->marks[i];
        const cJSON *acc = json_get(m->model, "acc");
        const int colour = name_colour(r, string_of(m->model, "name"));
        const double chance = axis_at(&x, 100 * number_of(m->set, "chance"));
        if (mark_begins(r, i)) {
            svg_text(out, 160, y + LINE / 2 + 5, "end", "label", string_of(m->set, "name"));
            y += 2;
        }
        if (isfinite(chance))
            text_print(out, "<path class=\"half\" d=\"M%.1f %.1fv%d\"/>\n", chance, y, LINE);
        svg_interval(out, &x, 100 * number_of(acc, "low"), 100 * number_of(acc, "high"),
                     y + LINE / 2.0, false, colour);
        svg_marker(out, axis_at(&x, 100 * number_of(acc, "mean")), y + LINE / 2.0, colour);
        y += LINE;
        if (i + 1 == r->n_marks || mark_begins(r, i + 1)) y += GAP - 2;
    }
    svg_text(out, (x.from + x.to) / 2, bottom + 35, "middle", "name", "items that are right");
    svg_end(out);
}

// ------------------------------------------------------------------------------------------------
// Details

// The task (or group, by the key) of this name that a model has done, or NULL.
static const cJSON *mark_task(const Mark *m, const char *key, const char *name) {
    const cJSON *task;
    cJSON_ArrayForEach(task, json_get(m->model, key)) {
        const char *own = string_of(task, "name");
        if (own && !strcmp(own, name)) return task;
    }
    return NULL;
}

// Groups and tasks of the benchmark of marks [begin, end), as the first model has them.
static void mark_tasks_html(Text *out, const Report *r, int begin, int end) {
    static const char *const keys[] = {"groups", "tasks"};
    const cJSON *row;
    const int n = cJSON_GetArraySize(json_get(r->marks[begin].model, "tasks"));
    if (!n) return;
    text_print(out, "<details><summary>%d tasks of ", n);
    text_html(out, string_of(r->marks[begin].set, "name"));
    text_put(out, "</summary>\n<div class=\"wide\"><table><thead><tr><th>task</th>");
    for (int i = begin; i < end; i++) {
        text_put(out, "<th>");
        key_html(out, r, string_of(r->marks[i].model, "name"));
        text_html(out, string_of(r->marks[i].model, "name"));
        text_put(out, "</th>");
    }
    text_put(out, "</tr></thead><tbody>\n");
    for (int k = 0; k < COUNT(keys); k++)
        cJSON_ArrayForEach(row, json_get(r->marks[begin].model, keys[k])) {
            const char *name = string_of(row, "name");
            if (!name) continue;
            text_put(out, k ? "<tr><th scope=\"row\">" : "<tr><th scope=\"row\"><b>all of </b>");
            text_html(out, name);
            text_put(out, "</th>");
            for (int i = begin; i < end; i++) {
                char *text = rate_text(mark_task(&r->marks[i], keys[k], name));
                text_print(out, "<td>%s</td>", text);
                free(text);
            }
            text_put(out, "</tr>\n");
        }
    text_put(out, "</tbody></table></div></details>\n");
}

// How the models of a benchmark compare on the same items.
static void mark_comparisons_html(Text *out, const cJSON *set) {
    const cJSON *c;
    cJSON_ArrayForEach(c, json_get(set, "comparisons")) {
        const char *a = string_of(c, "a"), *b = string_of(c, "b");
        const cJSON *d = json_get(c, "difference");
        if (!a || !b || !isfinite(number_of(d, "mean"))) continue;
        text_put(out, "<li>");
        text_html(out, string_of(set, "name"));
        text_put(out, ": ");
        text_html(out, a);
        text_put(out, " less ");
        text_html(out, b);
        text_print(out, ": %+.2f points", 100 * number_of(d, "mean"));
        if (isfinite(number_of(d, "low")))
            text_print(out, " (%+.2f to %+.2f)", 100 * number_of(d, "low"),
                       100 * number_of(d, "high"));
        text_print(out, ", better on %.0f items and worse on %.0f, p = %.2g</li>\n",
                   number_of(c, "better"), number_of(c, "worse"), number_of(c, "p"));
    }
}

// The whole section.
static void marks_html(Text *out, const Report *r) {
    text_put(out, "<section><h2>Benchmarks</h2>\n");
    text_print(out, "<p>Intervals are for %g %%.</p>\n",
               100 * number_of(r->benchmarks[0], "level"));
    marks_table_html(out, r);
    text_put(out, "<figure class=\"marks\">\n");
    marks_figure_html(out, r);
    text_put(out,
             "<figcaption>Share of right items; thin bars are intervals. The dashed line is what a "
             "guess gets: a model whose interval reaches it has not been shown to know "
             "anything.</figcaption></figure>\n");
    Text compared = {0};
    for (int i = 0; i < r->n_marks; i++)
        if (i == 0 || r->marks[i].set != r->marks[i - 1].set)
            mark_comparisons_html(&compared, r->marks[i].set);
    if (compared.size) {
        text_put(out, "<h3>On the same items</h3>\n<p class=\"note\">Difference of acc with its "
                      "interval, and the exact sign test (McNemar).</p>\n<ul>\n");
        text_append(out, compared.data, compared.size);
        text_put(out, "</ul>\n");
    }
    text_free(&compared);
    for (int begin = 0, end; begin < r->n_marks; begin = end) {
        for (end = begin + 1; end < r->n_marks && !mark_begins(r, end); end++) continue;
        mark_tasks_html(out, r, begin, end);
    }
    text_put(out, "</section>\n");
}

#endif
