// meter.h: what a training program measures between two lines of its log. A metric is named once, in
// the program:
//
//     enum { LOSS, MARGINS, METRICS };
//     static const char *const metric_names[METRICS] = {"loss", "rewards/margins"};
//     Meter meter = {.n = METRICS, .names = metric_names};
//     meter_add(&meter, MARGINS, margin, 1);   // for each pair: the log shows the mean over pairs
//
// A checkpoint keeps the sums, so that a resumed run writes the same lines.
#ifndef METER_H
#define METER_H

#include "../base/common.h" // defines: MetricsLog, log_number

enum { METER_MOST = 40 };

typedef struct {
    int n;                    // metrics, at most METER_MOST
    const char *const *names; // (n) as TRL names them
    double sum[METER_MOST], weight[METER_MOST];
} Meter;

// Add to a metric: it is sum of value / sum of weight. So a mean over examples adds (x, 1) for each,
// a mean over tokens (sum of x over a row's tokens, their number); what an update gives in parts adds
// (part, 0) for each and (0, 1) once.
static void meter_add(Meter *m, int metric, double value, double weight) {
    m->sum[metric] += value;
    m->weight[metric] += weight;
}

// Make a metric this number, for one that follows from others.
static void meter_set(Meter *m, int metric, double value) {
    m->sum[metric] = value;
    m->weight[metric] = 1;
}

// The mean so far; NaN if nothing was added.
static double meter_mean(const Meter *m, int metric) { return m->sum[metric] / m->weight[metric]; }

// True if something was added.
static bool meter_has(const Meter *m, int metric) { return m->weight[metric] != 0; }

// Forget all sums.
static void meter_clear(Meter *m) {
    memset(m->sum, 0, sizeof m->sum);
    memset(m->weight, 0, sizeof m->weight);
}

// Add the means to the row of the log that is being built, each under `prefix` and its name. A
// metric to which nothing was added is left out.
static void meter_log(const Meter *m, MetricsLog *log, const char *prefix) {
    for (int i = 0; i < m->n; i++) {
        if (!meter_has(m, i)) continue;
        char *key = text_format("%s%s", prefix, m->names[i]);
        log_number(log, key, meter_mean(m, i));
        free(key);
    }
}

// Print the means of some metrics: "loss  0.6931  margins  0.0000  ". `shown` has their names with
// blanks between, of which the part after the last / is printed.
static void meter_print(const Meter *m, const char *prefix, const char *shown) {
    char *copy = text_copy(shown), *rest = NULL;
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        const char *slash = strrchr(word, '/');
        for (int i = 0; i < m->n; i++)
            if (!strcmp(m->names[i], word) && meter_has(m, i))
                printf("%s%s %7.4f  ", prefix, slash ? slash + 1 : word, meter_mean(m, i));
    }
    free(copy);
}

#endif
