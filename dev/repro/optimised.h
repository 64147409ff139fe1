// optimised.h: what optimising a score has brought, for the programs beside it: best of n from scored
// samples, and the curves of a PPO run from its log.
#ifndef OPTIMISED_H
#define OPTIMISED_H

#include "../../lib/base/common.h"
#include "../../lib/base/jsonl.h"

// ------------------------------------------------------------------------------------------------
// Best of n

// A sample: what is chosen by, and what counts.
typedef struct {
    float proxy, reward;
} Draw;

static int draw_compare(const void *a, const void *b) {
    const float x = ((const Draw *)a)->proxy, y = ((const Draw *)b)->proxy;
    return x < y ? 1 : x > y ? -1 : 0;
}

// Sort N samples of a prompt by proxy, the best first: best_of_n wants them so.
static void draws_sort(Draw *draws, int N) { qsort(draws, (size_t)N, sizeof *draws, draw_compare); }

// The expected reward and proxy of the one that has the highest proxy among n of these N samples, without
// bias: the mean over all subsets of n (Nakano et al. 2021, appendix I). The k-th best of all, from 0, is
// the best of n with probability C(N - 1 - k, n - 1) / C(N, n).
static void best_of_n(double *reward, double *proxy, const Draw *sorted, int N, int n) {
    double chance = (double)n / N;
    *reward = *proxy = 0;
    for (int k = 0; k + n <= N; k++) {
        *reward += chance * sorted[k].reward;
        *proxy += chance * sorted[k].proxy;
        chance *= (double)(N - k - n) / (N - 1 - k);
    }
}

// Its KL to the policy that drew the samples, in nats a sample: log n - (n - 1)/n.
static double best_of_kl(int n) { return log(n) - (n - 1.0) / n; }

// ------------------------------------------------------------------------------------------------
// PPO

// The curves of a run that had a gold score (train_ppo --gold, --gold_model), a value an update.
typedef struct {
    int n;
    double *proxy, *gold, *kl;
} PpoLog;

// Read DIR/metrics.jsonl. Dies if the row of an update lacks a value. Release with ppo_log_free.
static void ppo_log_read(PpoLog *log, const char *dir) {
    static const char *const keys[] = {"objective/scores", "objective/gold", "objective/kl"};
    char *path = path_join(dir, "metrics.jsonl");
    LineReader reader;
    *log = (PpoLog){0};
    double **const columns[] = {&log->proxy, &log->gold, &log->kl};
    lines_open(&reader, path);
    for (cJSON *record; (record = record_next(&reader));) {
        if (json_get(record, keys[0])) {
            for (int k = 0; k < COUNT(keys); k++) {
                const cJSON *item = json_get(record, keys[k]);
                if (!cJSON_IsNumber(item))
                    die(EXIT_BAD_INPUT,
                        "%s:%ld: no number \"%s\"; was train_ppo run with --gold or --gold_model?",
                        path, reader.number, keys[k]);
                *columns[k] = mem_resize(*columns[k], (size_t)log->n + 1, sizeof(double));
                (*columns[k])[log->n] = item->valuedouble;
            }
            log->n++;
        }
        cJSON_Delete(record);
    }
    lines_close(&reader);
    free(path);
}

static void ppo_log_free(PpoLog *log) {
    free(log->proxy);
    free(log->gold);
    free(log->kl);
}

#endif
