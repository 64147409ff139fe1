// imdb_overopt.c: proxy and gold score against KL, of best of n and of PPO, under several reward models, and
// what that says about over-optimisation (Gao, Schulman and Hilton 2022; Coste et al. 2023). imdb_overopt.sh
// calls it. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/repro/imdb_overopt.c -o imdb_overopt -lcjson -lm
//
//     ./imdb_overopt --curves curves.jsonl --gold gold.txt --prompts 96 --figures DIR --claims "fall:a,peak:b>a"
//
// gold.txt has the gold score of each of the samples that best of n draws from, those of a prompt one after
// the other; a sample without a text has none, "nan", and is left out. They are samples of the policy that all
// begins with, so gold is shown in their standard deviations above their mean. A line of curves.jsonl is one
// curve of an arm:
//
//     {"arm": "A", "seed": 1, "scores": ["a.txt", "b.txt"], "ensemble": "min"}
//                 best of n = 1, 2, 4, .., 256 by the scores of a reward model, or by the mean or the least of
//                 several's (KL: log n - (n - 1)/n, expectations without bias, optimised.h)
//     {"arm": "B", "seed": 1, "log": "DIR"}
//                 a PPO run with --gold_model, in windows of 10 updates
//
// Of several lines of one arm and seed the mean counts, of what is read from each. A proxy is shown as the
// reward models give it: with mean 0 and variance 1 at the start, if they were trained with --normalize_rewards.
//
// What is read from a curve: its peak is the point where gold is highest, chosen by the even prompts (best of n)
// or even updates (PPO), while all values come from the odd ones, so that none is high by luck. Its end is its
// last point. Distance is d = sqrt(KL). Claims, each with Student's 90 % interval over seeds, paired by them:
//
//     fall:A      gold at the peak less that at the end is above 0, and so is the proxy at the end less that at
//                 the peak: over-optimisation
//     peak:A>B    gold at the peak of A less that of B is above 0;    end:A>B    the same at the end
//     later:A>B   the distance of A's peak less that of B's is above 0
//
// REPRODUCED: the interval (of `fall` both) lies above 0; CONTRADICTED: it (one of them) lies below; else NOT
// DISTINGUISHED. Exit code 0: all are REPRODUCED; 1: not all.
//
// Gao et al.'s forms are fitted by least squares to each curve: gold = d (alpha - beta d) for best of n, d (alpha -
// beta log d) for PPO, where d >= 0.5.
#include "../../lib/base/common.h"
#include "../../lib/base/flags.h"
#include "../../lib/base/jsonl.h"
#include "../../lib/base/stats.h"
#include "optimised.h"
#include "picture.h"

enum { MAX_ARMS = 16, MAX_CURVES = 64, MAX_POINTS = 64, LARGEST_N = 256, WINDOW = 10 };
static const double level = 0.9;

// Index 0: what the peak is chosen by. 1: what is reported.
typedef struct {
    double kl, gold[2], proxy[2];
} Point;

typedef struct {
    int seed, n, peak;
    Point points[MAX_POINTS];
} Curve;

typedef struct {
    char *name;
    bool ppo;
    int n;
    Curve curves[MAX_CURVES]; // of a seed one or several
} Arm;

typedef struct {
    int prompts, samples; // samples of each prompt
    double *gold;         // (prompts, samples), standardised
    double mean, deviation;
    int n;
    Arm arms[MAX_ARMS];
} Study;

// ------------------------------------------------------------------------------------------------
// Reading

// The numbers of a file, one a line; *n of them.
static double *numbers_read(const char *path, int *n) {
    FILE *file = file_open(path);
    double *x = NULL, next;
    int found;
    *n = 0;
    while ((found = fscanf(file, "%lf", &next)) == 1) {
        x = mem_resize(x, (size_t)*n + 1, sizeof *x);
        x[(*n)++] = next;
    }
    if (found != EOF) die(EXIT_BAD_INPUT, "%s:%d: expected a number", path, *n + 1);
    fclose(file);
    return x;
}

// Read the samples' gold scores and standardise them.
static void gold_read(Study *s, const char *path, int prompts) {
    int n;
    s->gold = numbers_read(path, &n);
    s->prompts = prompts;
    s->samples = n / prompts;
    if (n % prompts || prompts % 2 || s->samples < 1)
        die(EXIT_BAD_INPUT, "%s: %d scores for %d prompts, expected as many of each prompt", path,
            n, prompts);
    double *finite = mem_alloc((size_t)n, sizeof *finite);
    int found = 0;
    for (int i = 0; i < n; i++)
        if (isfinite(s->gold[i])) finite[found++] = s->gold[i];
    const Mean mean = mean_of(finite, found);
    s->mean = mean.mean;
    s->deviation = mean.error * sqrt(found);
    for (int i = 0; i < n; i++) s->gold[i] = (s->gold[i] - s->mean) / s->deviation;
    free(finite);
}

// Best of n by the scores of one or several reward models.
static void curve_best_of(const Study *s, Curve *c, const cJSON *record, const char *path) {
    const int all = s->prompts * s->samples;
    const cJSON *ensemble = json_get(record, "ensemble"), *name;
    const bool least = cJSON_IsString(ensemble) && !strcmp(ensemble->valuestring, "min");
    double *proxy = mem_alloc((size_t)all, sizeof *proxy);
    Draw *draws = mem_alloc((size_t)s->samples, sizeof *draws);
    const int members = cJSON_GetArraySize(json_get(record, "scores"));
    int k = 0;
    cJSON_ArrayForEach(name, json_get(record, "scores")) {
        int n;
        if (!cJSON_IsString(name)) die(EXIT_BAD_INPUT, "%s: \"scores\": expected names", path);
        double *x = numbers_read(name->valuestring, &n);
        if (n != all)
            die(EXIT_BAD_INPUT, "%s: %d scores, there are %d samples", name->valuestring, n, all);
        for (int i = 0; i < all; i++) {
            if (isfinite(s->gold[i]) && !isfinite(x[i]))
                die(EXIT_BAD_INPUT, "%s:%d: the score is %g", name->valuestring, i + 1, x[i]);
            if (least) proxy[i] = k ? fmin(proxy[i], x[i]) : x[i];
            else proxy[i] += x[i] / members;
        }
        free(x);
        k++;
    }
    for (int n = 1; n <= LARGEST_N && n <= s->samples / 2; n *= 2) {
        Point *point = &c->points[c->n++];
        *point = (Point){.kl = best_of_kl(n)};
        for (int p = 0; p < s->prompts; p++) {
            const double *gold = s->gold + (size_t)p * s->samples;
            const double *own = proxy + (size_t)p * s->samples;
            double gold_mean, proxy_mean;
            int N = 0;
            for (int i = 0; i < s->samples; i++)
                if (isfinite(gold[i])) draws[N++] = (Draw){(float)own[i], (float)gold[i]};
            if (N < n)
                die(EXIT_BAD_INPUT, "prompt %d: %d samples have a score, expected %d", p + 1, N, n);
            draws_sort(draws, N);
            best_of_n(&gold_mean, &proxy_mean, draws, N, n);
            point->gold[p % 2] += gold_mean / (s->prompts / 2);
            point->proxy[p % 2] += proxy_mean / (s->prompts / 2);
        }
    }
    free(proxy);
    free(draws);
}

// A PPO run.
static void curve_ppo(const Study *s, Curve *c, const char *dir) {
    PpoLog log;
    ppo_log_read(&log, dir);
    c->n = log.n / WINDOW;
    if (c->n < 2 || c->n > MAX_POINTS)
        die(EXIT_BAD_INPUT, "%s: %d updates, expected %d to %d", dir, log.n, 2 * WINDOW,
            MAX_POINTS * WINDOW);
    for (int u = 0; u < c->n * WINDOW; u++) {
        Point *point = &c->points[u / WINDOW];
        point->kl += log.kl[u] / WINDOW;
        point->gold[u % 2] += (log.gold[u] - s->mean) / s->deviation / (WINDOW / 2);
        point->proxy[u % 2] += log.proxy[u] / (WINDOW / 2);
    }
    ppo_log_free(&log);
}

// A new curve of this arm, which is made when it is first named.
static Curve *curve_add(Study *s, const char *name, bool ppo) {
    int a = 0;
    while (a < s->n && strcmp(s->arms[a].name, name)) a++;
    if (a == MAX_ARMS) die(EXIT_BAD_INPUT, "more than %d arms", MAX_ARMS);
    Arm *arm = &s->arms[a];
    if (a == s->n) {
        *arm = (Arm){.name = text_copy(name), .ppo = ppo};
        s->n++;
    }
    if (arm->n == MAX_CURVES) die(EXIT_BAD_INPUT, "%s: more than %d curves", name, MAX_CURVES);
    return &arm->curves[arm->n++];
}

static void curves_read(Study *s, const char *path) {
    LineReader reader;
    lines_open(&reader, path);
    for (cJSON *record; (record = record_next(&reader)); cJSON_Delete(record)) {
        const char *name = record_string(&reader, record, "arm");
        const cJSON *seed = json_get(record, "seed"), *log = json_get(record, "log");
        if (!cJSON_IsNumber(seed))
            die(EXIT_BAD_INPUT, "%s:%ld: no number \"seed\"", path, reader.number);
        Curve *curve = curve_add(s, name, cJSON_IsString(log));
        curve->seed = seed->valueint;
        if (cJSON_IsString(log)) curve_ppo(s, curve, log->valuestring);
        else curve_best_of(s, curve, record, path);
        for (int i = 1; i < curve->n; i++)
            if (curve->points[i].gold[0] > curve->points[curve->peak].gold[0]) curve->peak = i;
    }
    lines_close(&reader);
}

// ------------------------------------------------------------------------------------------------
// What is read from a curve

typedef enum {
    PEAK_GOLD,
    END_GOLD,
    PEAK_DISTANCE,
    END_DISTANCE,
    PEAK_PROXY,
    END_PROXY,
    ALPHA,
    BETA,
    VALUES
} Value;

static double distance(const Point *p) { return sqrt(fmax(0, p->kl)); }

// Least squares of gold = alpha f + beta g, f = d and g = -d^2 or -d log d.
static void curve_fit(const Curve *c, bool ppo, double *alpha, double *beta) {
    double ff = 0, fg = 0, gg = 0, fy = 0, gy = 0;
    for (int i = 0; i < c->n; i++) {
        const double d = distance(&c->points[i]);
        const double y = (c->points[i].gold[0] + c->points[i].gold[1]) / 2;
        if (d < 0.5) continue;
        const double f = d, g = ppo ? -d * log(d) : -d * d;
        ff += f * f;
        fg += f * g;
        gg += g * g;
        fy += f * y;
        gy += g * y;
    }
    const double determinant = ff * gg - fg * fg;
    *alpha = (gg * fy - fg * gy) / determinant;
    *beta = (ff * gy - fg * fy) / determinant;
}

static double curve_value(const Curve *c, bool ppo, Value what) {
    const Point *peak = &c->points[c->peak], *end = &c->points[c->n - 1];
    double alpha, beta;
    curve_fit(c, ppo, &alpha, &beta);
    const double values[VALUES] = {
        [PEAK_GOLD] = peak->gold[1],
        [END_GOLD] = end->gold[1],
        [PEAK_DISTANCE] = distance(peak),
        [END_DISTANCE] = distance(end),
        [PEAK_PROXY] = peak->proxy[1],
        [END_PROXY] = end->proxy[1],
        [ALPHA] = alpha,
        [BETA] = beta,
    };
    return values[what];
}

// The value of each seed into x, the mean over its curves, and the seeds in their order; returns how many.
static int arm_values(const Arm *arm, Value what, double *x, int *seeds) {
    int n = 0, curves[MAX_CURVES];
    for (int k = 0; k < arm->n; k++) {
        int i = 0;
        while (i < n && seeds[i] != arm->curves[k].seed) i++;
        if (i == n) {
            seeds[n] = arm->curves[k].seed;
            curves[n] = 0;
            x[n++] = 0;
        }
        x[i] += (curve_value(&arm->curves[k], arm->ppo, what) - x[i]) / ++curves[i];
    }
    return n;
}

// ------------------------------------------------------------------------------------------------
// What is shown

static void value_print(const Arm *arm, Value what) {
    double x[MAX_CURVES];
    int seeds[MAX_CURVES];
    const int n = arm_values(arm, what, x, seeds);
    const Mean mean = mean_of(x, n);
    const Interval i = mean_interval(mean, level);
    char *s = text_format("%.2f (%.2f to %.2f)", mean.mean, i.low, i.high);
    printf("  %-24s", s);
    free(s);
}

// A table of four values an arm, each with its interval over seeds.
static void table_print(const Study *s, const Value *values, const char *const *names) {
    printf("%-16s %6s", "arm", "curves");
    for (int v = 0; v < 4; v++) printf("  %-24s", names[v]);
    printf("\n");
    for (int a = 0; a < s->n; a++) {
        printf("%-16s %6d", s->arms[a].name, s->arms[a].n);
        for (int v = 0; v < 4; v++) value_print(&s->arms[a], values[v]);
        printf("\n");
    }
}

static void tables_print(const Study *s) {
    printf(
        "gold: standard deviations of the start's samples above their mean; d = sqrt(KL); mean and "
        "%.0f %% interval over seeds\n",
        100 * level);
    table_print(s, (Value[]){PEAK_GOLD, END_GOLD, PEAK_PROXY, END_PROXY},
                (const char *[]){"gold at its peak", "gold at the end", "proxy at that peak",
                                 "proxy at the end"});
    printf("\n");
    table_print(s, (Value[]){PEAK_DISTANCE, END_DISTANCE, ALPHA, BETA},
                (const char *[]){"d at gold's peak", "d at the end", "alpha", "beta"});
}

// The mean over curves of point i: all prompts or updates.
static Point arm_point(const Arm *arm, int i) {
    Point mean = {0};
    for (int k = 0; k < arm->n; k++) {
        const Point *p = &arm->curves[k].points[i];
        mean.kl += p->kl / arm->n;
        mean.gold[0] += (p->gold[0] + p->gold[1]) / 2 / arm->n;
        mean.proxy[0] += (p->proxy[0] + p->proxy[1]) / 2 / arm->n;
    }
    return mean;
}

// Points that every curve of the arm has.
static int arm_points(const Arm *arm) {
    int n = MAX_POINTS;
    for (int k = 0; k < arm->n; k++) n = arm->curves[k].n < n ? arm->curves[k].n : n;
    return n;
}

static void curves_print(const Study *s) {
    for (int a = 0; a < s->n; a++) {
        const Arm *arm = &s->arms[a];
        const int n = arm_points(arm);
        printf("%s\n  %-6s", arm->name, arm->ppo ? "update" : "n");
        for (int i = 0; i < n; i++) printf(" %6d", arm->ppo ? (i + 1) * WINDOW : 1 << i);
        printf("\n  %-6s", "KL");
        for (int i = 0; i < n; i++) printf(" %6.2f", arm_point(arm, i).kl);
        printf("\n  %-6s", "proxy");
        for (int i = 0; i < n; i++) printf(" %6.2f", arm_point(arm, i).proxy[0]);
        printf("\n  %-6s", "gold");
        for (int i = 0; i < n; i++) printf(" %6.2f", arm_point(arm, i).gold[0]);
        printf("\n");
    }
}

// One half of a figure: gold (or proxy) of the arms against d.
static void panel_draw(Text *out, const Study *s, bool ppo, bool gold, double left, double right) {
    Axis x = axis_empty(), y = axis_empty();
    Labels labels = {0};
    axis_add(&x, 0);
    axis_add(&y, 0);
    for (int a = 0; a < s->n; a++)
        for (int i = 0; s->arms[a].ppo == ppo && i < arm_points(&s->arms[a]); i++) {
            const Point p = arm_point(&s->arms[a], i);
            axis_add(&x, distance(&p));
            axis_add(&y, gold ? p.gold[0] : p.proxy[0]);
        }
    axis_finish(&x, 6, false, left, right);
    axis_finish(&y, 6, false, 430, 40);
    svg_axes(out, &x, &y, "square root of KL to the start", NULL);
    svg_text(out, left, 24, "start", "name", gold ? "gold score" : "proxy: what is optimised");
    for (int a = 0, colour = 0; a < s->n; a++) {
        const Arm *arm = &s->arms[a];
        const int n = arm_points(arm);
        if (arm->ppo != ppo) continue;
        double d[MAX_POINTS], value[MAX_POINTS];
        for (int i = 0; i < n; i++) {
            const Point p = arm_point(arm, i);
            d[i] = distance(&p);
            value[i] = gold ? p.gold[0] : p.proxy[0];
        }
        char class[16];
        snprintf(class, sizeof class, "c%d", colour % PLOT_COLOURS);
        svg_line(out, &x, &y, d, value, n, class);
        svg_marker(out, axis_at(&x, d[n - 1]), axis_at(&y, value[n - 1]), colour % PLOT_COLOURS);
        labels_place(out, &labels, arm->name, axis_at(&x, d[n - 1]), axis_at(&y, value[n - 1]), &x,
                     &y);
        colour++;
    }
}

static void figure_save(const Study *s, const char *dir, bool ppo) {
    Text out = {0};
    char *path = path_join(dir, ppo ? "ppo.svg" : "best_of_n.svg");
    picture_begin(&out, 1160, 490, ppo ? "PPO: gold and proxy against KL" : "best of n: the same");
    panel_draw(&out, s, ppo, true, 50, 560);
    panel_draw(&out, s, ppo, false, 630, 1140);
    picture_save(&out, path);
    free(path);
}

// ------------------------------------------------------------------------------------------------
// Claims

static const Arm *arm_find(const Study *s, const char *name, const char *claim) {
    for (int a = 0; a < s->n; a++)
        if (!strcmp(s->arms[a].name, name)) return &s->arms[a];
    die(EXIT_USAGE, "--claims %s: no arm \"%s\"", claim, name);
}

// The difference of value `x_of` of arm x and `y_of` of arm y, paired by seed.
static Comparison compare_arms(const Arm *x, Value x_of, const Arm *y, Value y_of) {
    double a[MAX_CURVES], b[MAX_CURVES];
    int x_seeds[MAX_CURVES], y_seeds[MAX_CURVES];
    const int n = arm_values(x, x_of, a, x_seeds), others = arm_values(y, y_of, b, y_seeds);
    if (n != others || memcmp(x_seeds, y_seeds, (size_t)n * sizeof *x_seeds))
        die(EXIT_BAD_INPUT, "%s and %s: expected the same seeds in the same order", x->name,
            y->name);
    return compare_pairs(a, b, n, level);
}

// 1: above 0, -1: below, 0: neither.
static int comparison_side(const Comparison *c) {
    return c->interval.low > 0 ? 1 : c->interval.high < 0 ? -1 : 0;
}

static void comparison_print(const Comparison *c) {
    printf("%+.3f (%+.3f to %+.3f)", c->difference.mean, c->interval.low, c->interval.high);
}

// Judge one claim and say so; true if it is reproduced.
static bool claim_judge(const Study *s, const char *claim, bool quick) {
    char *copy = text_copy(claim), *colon = strchr(copy, ':');
    char *names = colon ? colon + 1 : copy, *more = strchr(names, '>');
    if (colon) *colon = 0;
    if (more) *more = 0;
    const int kind = choice_index(copy, "fall|peak|end|later");
    if (!colon || kind < 0 || (kind > 0) != (more != NULL))
        die(EXIT_USAGE, "--claims %s: expected fall:A, peak:A>B, end:A>B or later:A>B", claim);
    const Arm *a = arm_find(s, names, claim), *b = more ? arm_find(s, more + 1, claim) : NULL;
    Comparison first, second = {0};
    int side;
    if (kind == 0) {
        first = compare_arms(a, PEAK_GOLD, a, END_GOLD);
        second = compare_arms(a, END_PROXY, a, PEAK_PROXY);
        const int gold = comparison_side(&first), proxy = comparison_side(&second);
        side = gold > 0 && proxy > 0 ? 1 : gold < 0 || proxy < 0 ? -1 : 0;
    } else {
        static const Value values[] = {[1] = PEAK_GOLD, [2] = END_GOLD, [3] = PEAK_DISTANCE};
        first = compare_arms(a, values[kind], b, values[kind]);
        side = comparison_side(&first);
    }
    printf("  %-18s %-36s ",
           quick      ? "(quick)"
           : side > 0 ? "REPRODUCED"
           : side < 0 ? "CONTRADICTED"
                      : "NOT DISTINGUISHED",
           claim);
    if (kind == 0) printf("gold falls by ");
    comparison_print(&first);
    if (kind == 0) printf(", while the proxy rises by ");
    if (kind == 0) comparison_print(&second);
    printf("\n");
    free(copy);
    return side > 0;
}

int main(int argc, char **argv) {
    struct {
        const char *curves, *gold, *figures, *claims;
        int prompts;
        bool quick;
    } args = {0};
    Flag flags[] = {
        FLAG_TEXT(args, curves, "JSONL: arms, seeds and where their numbers are"),
        FLAG_TEXT(args, gold, "gold scores of the samples that best of n draws from"),
        FLAG(args, prompts, 0, 1 << 20, "prompts that these samples complete"),
        FLAG_TEXT(args, figures, "directory for two figures"),
        FLAG_TEXT(args, claims, "fall:A, peak:A>B, end:A>B, later:A>B, with commas between them"),
        FLAG_SWITCH(args, quick, "give no verdict"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "over-optimisation of reward models", NULL);
    if (!args.curves || !args.gold || !args.prompts || !args.claims)
        die(EXIT_USAGE, "--curves, --gold, --prompts and --claims are needed; see --help");
    static Study study;
    gold_read(&study, args.gold, args.prompts);
    curves_read(&study, args.curves);
    curves_print(&study);
    printf("\n");
    tables_print(&study);
    printf("\nclaims\n");
    bool all = true;
    char *claims = text_copy(args.claims);
    for (char *claim = strtok(claims, ","); claim; claim = strtok(NULL, ","))
        all = claim_judge(&study, claim, args.quick) && all;
    for (int ppo = 0; args.figures && ppo < 2; ppo++) figure_save(&study, args.figures, ppo);
    for (int a = 0; a < study.n; a++) free(study.arms[a].name);
    free(study.gold);
    free(claims);
    flags_free(flags, COUNT(flags));
    const int code = stdout_end();
    return code ? code : !all && !args.quick;
}
