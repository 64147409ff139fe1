// overopt.c: reads the logs of PPO runs against reward models and says whether the policies were
// over-optimised: the reward model's score, the proxy, goes on rising while the gold score, which it
// stands for, has passed its peak and falls (Gao, Schulman and Hilton 2022).
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/repro/overopt.c -o overopt -lcjson -lm
//
//     ./overopt --few A,B,C --all D,E,F      directories of train_ppo --gold runs without a KL term,
//                                            against reward models of few and of all pairs, a pair
//                                            of runs for each seed
//
// dev/repro/overopt.sh makes the runs. Each update of a run scores fresh samples of the policy by
// both measures, so the log has both curves. They are cut into windows of 10 updates, whose means
// and standard errors come from the updates' means. The window where gold peaks is picked by the
// even updates and measured by the odd ones, so that it is not the highest by luck.
//
// Criteria, set before there was a trainer:
//     1. few pairs, each seed: in the last window gold is more than 3 standard errors below its
//        peak, and the proxy is not more than 3 below its own highest window
//     2. for each seed, the run against all pairs has its peak of gold later, or no fall at all
//
// A claim is REPRODUCED if it holds for at least 4 of 5 seeds (all, if there are fewer than 5),
// CONTRADICTED if it holds for none, else NOT DISTINGUISHED. Exit code 0: all REPRODUCED; else 1.
#include "../../lib/base/common.h"
#include "../../lib/base/flags.h"
#include "optimised.h"

enum { WINDOW = 10, MAX_RUNS = 16, PLOT_COLUMNS = 60, PLOT_LINES = 14 };

typedef struct {
    const char *dir;
    PpoLog log; // a value for each update
    double last_kl;
    int peak; // window
    bool falls, rises;
} Run;

typedef struct {
    double mean, error;
} Mean;

// Read one run's log. Dies if that has too few updates.
static void run_read(Run *run, const char *dir) {
    *run = (Run){.dir = dir};
    ppo_log_read(&run->log, dir);
    if (run->log.n < 2 * WINDOW)
        die(EXIT_BAD_INPUT, "%s: %d updates, expected at least %d", dir, run->log.n, 2 * WINDOW);
}

// Mean over updates first, first + step, .. of window w.
static Mean window_mean(const double *x, int w, int first, int step) {
    double mean = 0, squares = 0;
    const double n = (WINDOW - first + step - 1) / step;
    for (int i = first; i < WINDOW; i += step) mean += x[w * WINDOW + i] / n;
    for (int i = first; i < WINDOW; i += step)
        squares += (x[w * WINDOW + i] - mean) * (x[w * WINDOW + i] - mean);
    return (Mean){mean, sqrt(squares / (n - 1) / n)};
}

// Print a run's row of the table and judge it.
static void run_judge(Run *run) {
    const int last = run->log.n / WINDOW - 1;
    int top = 0;
    for (int w = 1; w <= last; w++) {
        if (window_mean(run->log.gold, w, 0, 2).mean >
            window_mean(run->log.gold, run->peak, 0, 2).mean)
            run->peak = w;
        if (window_mean(run->log.proxy, w, 0, 1).mean > window_mean(run->log.proxy, top, 0, 1).mean)
            top = w;
    }
    const Mean peak = window_mean(run->log.gold, run->peak, 1, 2);
    const Mean end = window_mean(run->log.gold, last, 1, 2);
    const Mean proxy_top = window_mean(run->log.proxy, top, 0, 1);
    const Mean proxy_end = window_mean(run->log.proxy, last, 0, 1);
    const double drop = peak.mean - end.mean, error = hypot(peak.error, end.error);
    run->falls = drop > 3 * error;
    run->rises = proxy_top.mean - proxy_end.mean <= 3 * hypot(proxy_top.error, proxy_end.error);
    run->last_kl = window_mean(run->log.kl, last, 0, 1).mean;
    printf("%-22s %6.2f %6.2f %6.2f  %6.2f %6.2f %6.2f  %5.2f %5.2f  %5d %5.1f %5.1f  %s\n",
           run->dir, window_mean(run->log.proxy, 0, 0, 1).mean,
           window_mean(run->log.proxy, run->peak, 0, 1).mean, proxy_end.mean,
           window_mean(run->log.gold, 0, 1, 2).mean, peak.mean, end.mean, drop, error,
           run->peak * WINDOW + WINDOW / 2, window_mean(run->log.kl, run->peak, 0, 1).mean,
           run->last_kl,
           run->falls && run->rises ? "over-optimised"
           : run->falls             ? "gold falls, proxy too"
                                    : "gold holds");
}

// Proxy (p) and gold (g) over the updates, mean of the runs, each on the scale of its own range.
static void show_plot(const Run *runs, int n, const char *title) {
    char plot[PLOT_LINES][PLOT_COLUMNS];
    int updates = runs[0].log.n;
    for (int i = 1; i < n; i++) updates = runs[i].log.n < updates ? runs[i].log.n : updates;
    const int windows = updates / WINDOW;
    memset(plot, ' ', sizeof plot);
    printf("\n%s, mean of %d runs\n", title, n);
    for (int which = 0; which < 2; which++) {
        double *y = mem_alloc((size_t)windows, sizeof *y), low = INFINITY, high = -INFINITY;
        for (int w = 0; w < windows; w++) {
            for (int i = 0; i < n; i++)
                y[w] += window_mean(which ? runs[i].log.gold : runs[i].log.proxy, w, 0, 1).mean / n;
            low = fmin(low, y[w]), high = fmax(high, y[w]);
        }
        for (int x = 0; x < PLOT_COLUMNS; x++) {
            const double at = (double)x / (PLOT_COLUMNS - 1) * (windows - 1);
            const int w = at < windows - 1 ? (int)at : windows - 2;
            const double value = y[w] + (at - w) * (y[w + 1] - y[w]);
            const long line = lround((value - low) / fmax(high - low, 1e-9) * (PLOT_LINES - 1));
            char *c = &plot[line][x];
            *c = *c == ' ' ? "pg"[which] : '*';
        }
        printf("  %c  %s, from %.2f to %.2f\n", "pg"[which], which ? "gold score" : "proxy", low,
               high);
        free(y);
    }
    for (int line = PLOT_LINES - 1; line >= 0; line--) {
        int used = PLOT_COLUMNS;
        while (used > 0 && plot[line][used - 1] == ' ') used--;
        printf("  |%.*s\n", used, plot[line]);
    }
    printf("  0%*d updates\n", PLOT_COLUMNS - 1, updates);
}

static bool show_claim(int holds, int of, const char *claim) {
    const int need = of >= 5 ? (4 * of + 4) / 5 : of;
    printf("  %-17s  %s: %d of %d seeds\n",
           holds >= need ? "REPRODUCED"
           : holds       ? "NOT DISTINGUISHED"
                         : "CONTRADICTED",
           claim, holds, of);
    return holds >= need;
}

// The runs of a list with commas between the directories; the names are in `copy`.
static int runs_read(Run *runs, char *copy) {
    int n = 0;
    for (char *dir = strtok(copy, ","); dir && n < MAX_RUNS; dir = strtok(NULL, ","))
        run_read(&runs[n++], dir);
    return n;
}

int main(int argc, char **argv) {
    struct {
        const char *few, *all;
    } args = {0};
    Flag flags[] = {
        FLAG_TEXT(args, few, "runs against reward models of few pairs, commas between them"),
        FLAG_TEXT(args, all, "runs against reward models of all pairs, in the same order of seeds"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "over-optimisation of a reward model", NULL);
    if (!args.few) die(EXIT_USAGE, "--few is needed; see --help");
    Run few[MAX_RUNS], all[MAX_RUNS];
    char *few_copy = text_copy(args.few), *all_copy = text_copy(args.all ? args.all : "");
    const int n = runs_read(few, few_copy), n_all = runs_read(all, all_copy);
    if (n_all && n_all != n)
        die(EXIT_USAGE, "--few has %d runs and --all %d, expected as many", n, n_all);

    printf("%-22s %20s  %20s  %11s  %17s\n", "", "proxy", "gold", "fall", "peak at        KL");
    printf("%-22s %6s %6s %6s  %6s %6s %6s  %5s %5s  %5s %5s %5s\n", "run", "first", "peak", "last",
           "first", "peak", "last", "", "s.e.", "upd.", "peak", "last");
    for (int i = 0; i < n; i++) run_judge(&few[i]);
    for (int i = 0; i < n_all; i++) run_judge(&all[i]);
    show_plot(few, n, "few pairs");
    if (n_all) show_plot(all, n_all, "all pairs");

    int over = 0, later = 0;
    for (int i = 0; i < n; i++) over += few[i].falls && few[i].rises;
    for (int i = 0; i < n_all; i++) later += all[i].peak > few[i].peak || !all[i].falls;
    printf("\nclaims\n");
    bool good = show_claim(over, n, "few pairs: gold falls from its peak, the proxy does not");
    if (n_all)
        good &= show_claim(later, n_all, "all pairs: the peak of gold comes later, or no fall");
    printf("verdict: %s\n", good ? "REPRODUCED" : "NOT REPRODUCED");
    for (int i = 0; i < n; i++) ppo_log_free(&few[i].log);
    for (int i = 0; i < n_all; i++) ppo_log_free(&all[i].log);
    free(few_copy), free(all_copy), flags_free(flags, COUNT(flags));
    return good ? 0 : 1;
}
