// summary.h: what all judgements come to, as members of a JSON object: people and their agreement, the
// blind test, and how a log drifts over its days.
#ifndef SUMMARY_H
#define SUMMARY_H

#include "../base/stats.h" // defines: binomial_interval, mean_interval
#include "tasks.h"

// Append a number of JSON, null where there is none.
static void text_number(Text *out, const char *key, double x) {
    if (isfinite(x)) text_print(out, ", \"%s\": %.6g", key, x);
    else text_print(out, ", \"%s\": null", key);
}

// How many judgements each person has made and has still to make, and how far each two agree.
static void people_show(const Label *l, Text *out) {
    const Feedback *f = &l->feedback;
    text_print(out, "\"people\": [");
    for (int p = 0; p < f->n_people; p++) {
        int counts[MODES] = {0}, done;
        for (int i = 0; i < f->n; i++)
            if (f->list[i].who == p && !f->list[i].undone) counts[f->list[i].mode]++;
        text_print(out, "%s{\"who\": ", p ? ", " : "");
        text_string(out, f->people[p]);
        for (int m = 0; m < MODES; m++) {
            const int all = units_count(l, (Mode)m, p, &done);
            text_print(out, ", \"%s\": %d, \"%s_left\": %d", mode_names[m], counts[m],
                       mode_names[m], mode_open(l, (Mode)m) ? all - done : 0);
        }
        text_print(out, "}");
    }
    text_print(out, "], \"agreement\": [");
    int n = 0;
    for (int a = 0; a < f->n_people; a++)
        for (int b = a + 1; b < f->n_people; b++)
            for (int m = 0; m < MODES; m++) {
                const Agreement g = agreement_of(f, (Mode)m, a, b);
                if (!g.n || m == CORRECT) continue;
                text_print(out, "%s{\"mode\": \"%s\", \"a\": ", n++ ? ", " : "", mode_names[m]);
                text_string(out, f->people[a]);
                text_print(out, ", \"b\": ");
                text_string(out, f->people[b]);
                text_print(out, ", \"n\": %d", g.n);
                text_number(out, "share", g.share);
                text_number(out, "kappa", g.kappa);
                text_print(out, "}");
            }
    text_print(out, "]");
}

// The blind test: how often each model's completion was the best, of the votes for one, with the exact
// 95 % interval (Clopper and Pearson 1934), as if each vote were a trial of its own.
static void models_show(const Label *l, Text *out) {
    const Feedback *f = &l->feedback;
    int wins[MAX_SHOWN] = {0}, ties = 0, bad = 0, votes = 0;
    for (int i = 0; i < f->n; i++) {
        const Judgement *j = &f->list[i];
        if (j->undone || j->mode != COMPARE || j->item < 0) continue;
        ties += j->choice == TIE;
        bad += j->choice == BAD;
        if (j->choice >= 0) wins[j->choice]++, votes++;
    }
    text_print(out, ", \"ties\": %d, \"bad\": %d, \"votes\": %d, \"models\": [", ties, bad, votes);
    for (int m = 0; l->n_models > 1 && m < l->n_models; m++) {
        const Interval i = binomial_interval(wins[m], votes, 0.95);
        text_print(out, "%s{\"name\": ", m ? ", " : "");
        text_string(out, l->models[m].name);
        text_print(out, ", \"wins\": %d", wins[m]);
        text_number(out, "rate", (double)wins[m] / votes);
        text_number(out, "low", i.low);
        text_number(out, "high", i.high);
        text_print(out, "}");
    }
    text_print(out, "]");
    if (l->n_models == 2) text_number(out, "p", sign_test(wins[0], wins[1]));
}

// A completion of a log, by its day.
typedef struct {
    const char *day;
    double score, kl;
} Dated;

// By day.
static int dated_compare(const void *a, const void *b) {
    return strcmp(((const Dated *)a)->day, ((const Dated *)b)->day);
}

// How scores and KL to the reference drift over the days of a log: means of each day's rows, with Student's
// 95 % interval.
static void days_show(const Label *l, Text *out) {
    const size_t most = (size_t)l->n_items * MAX_SHOWN;
    Dated *rows = mem_alloc(most, sizeof *rows);
    double *score = mem_alloc(most * 2, sizeof *score), *kl = score + most;
    int n = 0;
    for (int i = 0; i < l->n_items; i++) {
        const Item *item = &l->items[i];
        for (int c = 0; c < item->n; c++)
            if (item->day[c] && item->scored)
                rows[n++] = (Dated){item->day[c],
                                    l->n_judges ? mean_of(item->score[c], l->n_judges).mean : NAN,
                                    l->has_ref ? item->kl[c] : NAN};
    }
    qsort(rows, (size_t)n, sizeof *rows, dated_compare);
    text_print(out, ", \"days\": [");
    for (int begin = 0, end; begin < n; begin = end) {
        for (end = begin; end < n && !strcmp(rows[end].day, rows[begin].day); end++) {
            score[end - begin] = rows[end].score;
            kl[end - begin] = rows[end].kl;
        }
        const Mean s = mean_of(score, end - begin), k = mean_of(kl, end - begin);
        text_print(out, "%s{\"day\": ", begin ? ", " : "");
        text_string(out, rows[begin].day);
        text_print(out, ", \"n\": %d", end - begin);
        text_number(out, "score", s.mean);
        text_number(out, "score_half", s.mean - mean_interval(s, 0.95).low);
        text_number(out, "kl", k.mean);
        text_number(out, "kl_half", k.mean - mean_interval(k, 0.95).low);
        text_print(out, "}");
    }
    text_print(out, "]");
    free(rows), free(score);
}

#endif
