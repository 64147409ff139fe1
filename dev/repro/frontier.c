// frontier.c: reward against KL, method by method: reads what evaluate measured of many policies, draws
// the frontier of each method and says which lies above which, with intervals (Rafailov et al. 2023,
// figure 2 left). imdb_frontier.sh calls it. Build it:
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/repro/frontier.c -o frontier -lcjson -lm
//
//     ./frontier --points points.jsonl --figure frontier.svg --claims "dpo>ppo,dpo>ppo judge"
//
// A line of points.jsonl is a policy, or what can be had of one by drawing n samples and keeping the best:
//
//     {"method": "dpo", "seed": 1, "setting": "beta 0.1", "name": "NAME", "evaluation": "e.json",
//      "samples": "s.jsonl"}           evaluate's --output and --samples_file, where the policy is NAME
//     {"method": "best of n", "seed": 1, "name": "NAME", "samples": "s.jsonl", "proxy": "scores.txt"}
//                                       NAME's samples, N of each prompt; scores.txt has a number for each
//                                       line of s.jsonl by which the best is chosen ("": the reward itself)
//
// The first line must be the policy that all began with, at KL 0. All have the same prompts.
//
//   value at k    what a method gives for at most k nats a completion: those of its points count that no
//                 other point of the method and seed beats (no larger KL, no smaller mean reward, as the
//                 prompts with even numbers say); between two neighbours the value is interpolated
//                 linearly in KL, after the last it stays. All this for each prompt; what is
//                 reported are the prompts with odd numbers, so that no point is there by its luck
//   best of n     expected reward of the sample that the proxy likes best among n of N, without bias
//                 (all subsets of n are equally likely), for n = 2, 4, .. N/2; KL = log n - (n - 1)/n
//   a over b      the difference of values at k, prompt by prompt (means over seeds), with Student's 90 %
//                 interval over prompts. a is ahead at k if the interval lies above 0 and each of its
//                 seeds is ahead of b in the mean
//   dominates     ahead at 3 or more of the KLs 1, 2, 4, 8
//
// A claim "a>b" is REPRODUCED if a dominates b, CONTRADICTED if b dominates a, else NOT DISTINGUISHED. Exit
// code 0: all are reproduced; 1: not so.
#include "../../lib/base/common.h"
#include "../../lib/base/flags.h"
#include "../../lib/base/jsonl.h"
#include "../../lib/base/stats.h"
#include "optimised.h"
#include "picture.h"

enum { TARGETS = 4, MAX_METHODS = 16, MAX_SEEDS = 8, MAX_POINTS = 64, MAX_PROMPTS = 1 << 20 };
static const double targets[TARGETS] = {1, 2, 4, 8};
static const double level = 0.9;

typedef struct {
    double kl, selected, judged; // means over even and over odd prompts
    float *reward;               // (prompts)
    char *setting;
} Point;

typedef struct {
    int seed;
    Point points[MAX_POINTS]; // points[0]: where it began
    int n;
    double *value[TARGETS]; // (prompts)
} Curve;

typedef struct {
    char *name;
    Curve curves[MAX_SEEDS];
    int n;
} Method;

typedef struct {
    Method methods[MAX_METHODS];
    int n, prompts;
    Point start;
} Frontier;

// ------------------------------------------------------------------------------------------------
// Reading

// A number of an object, or die.
static double number_in(const cJSON *object, const char *key, const char *path) {
    const cJSON *item = json_get(object, key);
    if (!cJSON_IsNumber(item)) die(EXIT_BAD_INPUT, "%s: no number \"%s\"", path, key);
    return item->valuedouble;
}

// The mean KL of the policy `name` in evaluate's results.
static double evaluation_kl(const char *path, const char *name) {
    cJSON *json = json_read(path), *model;
    double kl = NAN;
    cJSON_ArrayForEach(model, json_get(json, "models")) {
        const cJSON *own = json_get(model, "name");
        if (cJSON_IsString(own) && !strcmp(own->valuestring, name))
            kl = number_in(json_get(model, "kl"), "mean", path);
    }
    if (isnan(kl)) die(EXIT_BAD_INPUT, "%s: no policy \"%s\" with a KL", path, name);
    cJSON_Delete(json);
    return kl;
}

// A policy's samples, in all n of each of the prompts, in whatever order its file has them.
typedef struct {
    int prompts, n;
    size_t *place; // (prompts * n) of the file's rows: prompt * n + which sample of it
} Samples;

// x (prompts * n) has a number for each of the file's rows; returns them as (prompts, n), and releases x.
static float *samples_order(const Samples *s, float *x) {
    const size_t all = (size_t)s->prompts * (size_t)s->n;
    float *ordered = mem_floats(all);
    for (size_t i = 0; i < all; i++) ordered[s->place[i]] = x[i];
    free(x);
    return ordered;
}

// Read the samples of policy `name`; returns their rewards, as (prompts, n).
static float *samples_read(Samples *s, const char *path, const char *name) {
    LineReader reader;
    float *reward = NULL;
    int *prompt = NULL, rows = 0;
    *s = (Samples){0};
    lines_open(&reader, path);
    for (cJSON *record; (record = record_next(&reader)); cJSON_Delete(record)) {
        const cJSON *own = json_get(record, "name");
        if (!cJSON_IsString(own) || strcmp(own->valuestring, name)) continue;
        const double number = number_in(record, "prompt_number", path);
        if (number < 0 || number >= MAX_PROMPTS)
            die(EXIT_BAD_INPUT, "%s: prompt_number %g, expected 0 to %d", path, number,
                MAX_PROMPTS - 1);
        reward = mem_resize(reward, (size_t)rows + 1, sizeof *reward);
        prompt = mem_resize(prompt, (size_t)rows + 1, sizeof *prompt);
        reward[rows] = (float)number_in(record, "reward", path);
        prompt[rows] = (int)number;
        if (prompt[rows] + 1 > s->prompts) s->prompts = prompt[rows] + 1;
        rows++;
    }
    lines_close(&reader);
    if (!rows) die(EXIT_BAD_INPUT, "%s: no samples of \"%s\"", path, name);
    s->n = rows / s->prompts;
    s->place = mem_alloc((size_t)rows, sizeof *s->place);
    int *seen = mem_alloc((size_t)s->prompts, sizeof *seen); // samples of each prompt
    for (int i = 0; i < rows; i++) {
        const int p = prompt[i];
        if (rows % s->prompts || seen[p] == s->n)
            die(EXIT_BAD_INPUT, "%s: %d samples of \"%s\" for %d prompts, not as many of each",
                path, rows, name, s->prompts);
        s->place[i] = (size_t)p * (size_t)s->n + (size_t)seen[p]++;
    }
    free(prompt), free(seen);
    return samples_order(s, reward);
}

// The numbers of a file, a line each, `n` of them.
static float *scores_read(const char *path, int n) {
    FILE *file = file_open(path);
    float *score = mem_alloc((size_t)n, sizeof *score);
    for (int i = 0; i < n; i++)
        if (fscanf(file, "%f", &score[i]) != 1)
            die(EXIT_BAD_INPUT, "%s: %d numbers, expected %d", path, i, n);
    fclose(file);
    return score;
}

// The curve of this method and seed; it is made when it is first named, with the start as a point.
static Curve *curve_of(Frontier *f, const char *method, int seed) {
    int m = 0, c = 0;
    while (m < f->n && strcmp(f->methods[m].name, method)) m++;
    if (m == MAX_METHODS) die(EXIT_BAD_INPUT, "more than %d methods", MAX_METHODS);
    if (m == f->n) f->methods[f->n++] = (Method){.name = text_copy(method)};
    Method *of = &f->methods[m];
    while (c < of->n && of->curves[c].seed != seed) c++;
    if (c == MAX_SEEDS) die(EXIT_BAD_INPUT, "%s: more than %d seeds", method, MAX_SEEDS);
    if (c == of->n) {
        of->curves[of->n++] = (Curve){.seed = seed, .n = 1};
        of->curves[c].points[0] = f->start;
    }
    return &of->curves[c];
}

// Add a point whose rewards are set.
static void point_add(const Frontier *f, Curve *c, Point p) {
    if (c->n == MAX_POINTS) die(EXIT_BAD_INPUT, "more than %d points of a curve", MAX_POINTS);
    for (int i = 0; i < f->prompts; i++) {
        if (i % 2) p.judged += p.reward[i] / (f->prompts / 2);
        else p.selected += p.reward[i] / ((f->prompts + 1) / 2);
    }
    c->points[c->n++] = p;
}

// The points of best of n: for each n, what the best by proxy of n of the N samples has on average.
static void best_of_add(const Frontier *f, Curve *c, const float *reward, const float *proxy,
                        int N) {
    Draw *draws = mem_alloc((size_t)N, sizeof *draws);
    for (int n = 2; n <= N / 2; n *= 2) {
        Point p = {.kl = best_of_kl(n),
                   .setting = text_format("n %d", n),
                   .reward = mem_floats((size_t)f->prompts)};
        for (int i = 0; i < f->prompts; i++) {
            for (int k = 0; k < N; k++) {
                const float score = proxy[(size_t)i * N + k]; // nan where a sample has no text
                draws[k] = (Draw){isnan(score) ? -INFINITY : score, reward[(size_t)i * N + k]};
            }
            double mean, mean_proxy;
            draws_sort(draws, N);
            best_of_n(&mean, &mean_proxy, draws, N, n);
            p.reward[i] = (float)mean;
        }
        point_add(f, c, p);
    }
    free(draws);
}

static const char *string_in(const LineReader *r, const cJSON *record, const char *key) {
    const cJSON *item = json_get(record, key);
    return cJSON_IsString(item) ? item->valuestring : record_string(r, record, key);
}

static void points_read(Frontier *f, const char *path) {
    LineReader reader;
    lines_open(&reader, path);
    for (cJSON *record; (record = record_next(&reader)); cJSON_Delete(record)) {
        const char *name = string_in(&reader, record, "name");
        const char *samples = string_in(&reader, record, "samples");
        const bool drawn = json_get(record, "proxy");
        Samples s;
        float *reward = samples_read(&s, samples, name);
        if (!f->prompts) f->prompts = s.prompts;
        if (s.prompts != f->prompts || (!drawn && s.n != 1))
            die(EXIT_BAD_INPUT, "%s: %d prompts with %d samples, expected %d with 1", samples,
                s.prompts, s.n, f->prompts);
        if (!f->start.reward) {
            Curve first = {0};
            point_add(f, &first, (Point){.reward = reward, .setting = text_copy("start")});
            f->start = first.points[0];
            free(s.place);
            continue;
        }
        Curve *curve =
            curve_of(f, string_in(&reader, record, "method"), (int)number_in(record, "seed", path));
        if (drawn) {
            const char *proxy = string_in(&reader, record, "proxy");
            float *score = *proxy ? samples_order(&s, scores_read(proxy, s.n * s.prompts)) : NULL;
            best_of_add(f, curve, reward, score ? score : reward, s.n);
            free(score);
            free(reward);
        } else {
            const char *evaluation = string_in(&reader, record, "evaluation");
            point_add(f, curve,
                      (Point){.reward = reward,
                              .kl = evaluation_kl(evaluation, name),
                              .setting = text_copy(string_in(&reader, record, "setting"))});
        }
        free(s.place);
    }
    lines_close(&reader);
    if (!f->n) die(EXIT_BAD_INPUT, "%s: no policies but the first", path);
}

// ------------------------------------------------------------------------------------------------
// Frontiers

static int point_compare(const void *a, const void *b) {
    const double x = ((const Point *)a)->kl, y = ((const Point *)b)->kl;
    return x < y ? -1 : x > y;
}

// Keep the points that no other beats, by KL; then the values at the targets.
static void curve_finish(const Frontier *f, Curve *c) {
    int kept = 1;
    qsort(c->points, (size_t)c->n, sizeof *c->points, point_compare);
    for (int i = 1; i < c->n; i++) {
        Point *p = &c->points[i];
        if (p->selected > c->points[kept - 1].selected) {
            c->points[kept++] = *p;
        } else if (p->reward != f->start.reward) { // the start is a point of every curve
            free(p->reward);
            free(p->setting);
        }
    }
    c->n = kept;
    for (int k = 0; k < TARGETS; k++) {
        int right = 0;
        while (right < c->n && c->points[right].kl < targets[k]) right++;
        const Point *b = &c->points[right < c->n ? right : c->n - 1];
        const Point *a = right > 0 && right < c->n ? b - 1 : b;
        const double span = b->kl - a->kl, at = span > 0 ? (targets[k] - a->kl) / span : 0;
        c->value[k] = mem_alloc((size_t)f->prompts, sizeof(double));
        for (int i = 0; i < f->prompts; i++)
            c->value[k][i] = a->reward[i] + at * (b->reward[i] - a->reward[i]);
    }
}

// Values of a method at target k, on the odd prompts (prompts / 2), means over its seeds.
static double *method_value(const Frontier *f, const Method *m, int k) {
    double *x = mem_alloc((size_t)f->prompts, sizeof *x);
    for (int i = 0; i < f->prompts / 2; i++) {
        x[i] = 0;
        for (int c = 0; c < m->n; c++) x[i] += m->curves[c].value[k][2 * i + 1] / m->n;
    }
    return x;
}

// 1: a is ahead of b at target k; -1: b of a; 0: neither. *c gets the comparison.
static int method_ahead(const Frontier *f, const Method *a, const Method *b, int k, Comparison *c) {
    double *x = method_value(f, a, k), *y = method_value(f, b, k);
    const int n = f->prompts / 2;
    *c = compare_pairs(x, y, n, level);
    const int sign = c->interval.low > 0 ? 1 : c->interval.high < 0 ? -1 : 0;
    bool agree = true;
    for (int s = 0; s < a->n; s++) { // each seed beside the other method's of the same place
        const Curve *other = &b->curves[s < b->n ? s : b->n - 1];
        double difference = 0;
        for (int i = 0; i < n; i++)
            difference += a->curves[s].value[k][2 * i + 1] - other->value[k][2 * i + 1];
        agree = agree && difference * sign > 0;
    }
    free(x), free(y);
    return agree ? sign : 0;
}

static double curve_most(const Method *m) {
    double most = 0;
    for (int c = 0; c < m->n; c++) most = fmax(most, m->curves[c].points[m->curves[c].n - 1].kl);
    return most;
}

// ------------------------------------------------------------------------------------------------
// What is shown

static void table_print(const Frontier *f) {
    printf("%-16s %5s %8s", "reward at KL", "seeds", "goes to");
    for (int k = 0; k < TARGETS; k++) printf("%24.0f", targets[k]);
    printf("\n%-16s %5s %8.2f   %+.3f\n", "start", "", 0.0, f->start.judged);
    for (int m = 0; m < f->n; m++) {
        const Method *method = &f->methods[m];
        printf("%-16s %5d %8.2f", method->name, method->n, curve_most(method));
        for (int k = 0; k < TARGETS; k++) {
            double *x = method_value(f, method, k);
            const Mean mean = mean_of(x, f->prompts / 2);
            const Interval i = mean_interval(mean, level);
            printf("  %+.3f (%+.3f, %+.3f)", mean.mean, i.low, i.high);
            free(x);
        }
        printf("\n");
    }
    printf("\npoints that no other of the method beats\n");
    for (int m = 0; m < f->n; m++)
        for (int c = 0; c < f->methods[m].n; c++) {
            const Curve *curve = &f->methods[m].curves[c];
            printf("  %-16s seed %d:", f->methods[m].name, curve->seed);
            for (int i = 1; i < curve->n; i++)
                printf("  %s: %.2f at %.2f", curve->points[i].setting, curve->points[i].judged,
                       curve->points[i].kl);
            printf("\n");
        }
}

// Judge a claim "a>b"; true if it is reproduced.
static bool claim_print(const Frontier *f, const char *claim) {
    const char *sign = strchr(claim, '>');
    int found[2] = {-1, -1};
    for (int m = 0; m < f->n; m++)
        for (int side = 0; sign && side < 2; side++) {
            const char *name = side ? sign + 1 : claim;
            const size_t n = side ? strlen(name) : (size_t)(sign - claim);
            if (strlen(f->methods[m].name) == n && !strncmp(f->methods[m].name, name, n))
                found[side] = m;
        }
    if (found[0] < 0 || found[1] < 0) die(EXIT_USAGE, "--claims %s: expected METHOD>METHOD", claim);
    const Method *a = &f->methods[found[0]], *b = &f->methods[found[1]];
    int ahead = 0, behind = 0;
    printf("%s less %s at KL", a->name, b->name);
    for (int k = 0; k < TARGETS; k++) {
        Comparison c;
        const int who = method_ahead(f, a, b, k, &c);
        ahead += who > 0;
        behind += who < 0;
        printf("  %.0f: %+.3f (%+.3f, %+.3f)%s", targets[k], c.difference.mean, c.interval.low,
               c.interval.high,
               who > 0   ? " ahead"
               : who < 0 ? " behind"
                         : "");
    }
    printf("\n  %s dominates %s: %s\n", a->name, b->name,
           ahead >= 3    ? "REPRODUCED"
           : behind >= 3 ? "CONTRADICTED"
                         : "NOT DISTINGUISHED");
    return ahead >= 3;
}

// The points of a curve up to this KL, and after them where its line leaves the picture, if it does; how many
// that is. *marks: how many of them are points.
static int curve_shown(const Curve *curve, double most, double *kl, double *reward, int *marks) {
    const Point *p = curve->points;
    int n = 0;
    for (; n < curve->n && p[n].kl <= most; n++) {
        kl[n] = p[n].kl;
        reward[n] = p[n].judged;
    }
    *marks = n;
    if (n == curve->n) return n;
    const double part = (most - p[n - 1].kl) / (p[n].kl - p[n - 1].kl);
    kl[n] = most;
    reward[n] = p[n - 1].judged + part * (p[n].judged - p[n - 1].judged);
    return n + 1;
}

// The figure: a line for each seed of a method, up to twice the highest KL that is judged; marks are policies.
static void figure_save(const Frontier *f, const char *path, const char *y_name) {
    const double most = 2 * targets[TARGETS - 1];
    double kl[MAX_POINTS], reward[MAX_POINTS];
    int marks;
    Text out = {0};
    Labels labels = {0};
    Axis x = axis_empty(), y = axis_empty();
    for (int m = 0; m < f->n; m++)
        for (int c = 0; c < f->methods[m].n; c++) {
            const int n = curve_shown(&f->methods[m].curves[c], most, kl, reward, &marks);
            for (int i = 0; i < n; i++) {
                axis_add(&x, kl[i]);
                axis_add(&y, reward[i]);
            }
        }
    axis_finish(&x, 8, false, 50, 690);
    axis_finish(&y, 8, false, 440, 30);
    picture_begin(&out, 800, 490,
                  "reward of each method against its KL divergence from the reference");
    svg_axes(&out, &x, &y, "KL to the reference, nats a completion", y_name);
    for (int m = 0; m < f->n; m++) {
        const Method *method = &f->methods[m];
        for (int c = 0; c < method->n; c++) {
            const int n = curve_shown(&method->curves[c], most, kl, reward, &marks);
            for (int i = 1; i < marks; i++)
                svg_marker(&out, axis_at(&x, kl[i]), axis_at(&y, reward[i]), m % PLOT_COLOURS);
            char class[16];
            snprintf(class, sizeof class, "c%d%s", m % PLOT_COLOURS,
                     m < PLOT_COLOURS ? "" : " dash");
            svg_line(&out, &x, &y, kl, reward, n, class);
            if (c == 0)
                labels_place(&out, &labels, method->name, axis_at(&x, kl[n - 1]),
                             axis_at(&y, reward[n - 1]), &x, &y);
        }
    }
    picture_save(&out, path);
}

int main(int argc, char **argv) {
    struct {
        const char *points, *figure, *claims, *reward;
    } args = {.reward = "reward"};
    Flag flags[] = {
        FLAG_TEXT(args, points, "JSONL: policies and where their evaluations are"),
        FLAG_TEXT(args, figure, "SVG to write"),
        FLAG_TEXT(args, reward, "what the reward is called in the figure"),
        FLAG_TEXT(args, claims, "METHOD>METHOD,..: what is to be judged"),
    };
    flags_parse(argc, argv, flags, COUNT(flags), "frontiers of reward and KL", NULL);
    if (!args.points) die(EXIT_USAGE, "--points is needed; see --help");
    static Frontier f;
    points_read(&f, args.points);
    for (int m = 0; m < f.n; m++)
        for (int c = 0; c < f.methods[m].n; c++) curve_finish(&f, &f.methods[m].curves[c]);
    table_print(&f);
    printf("\n");
    bool all = true;
    char *claims = text_copy(args.claims ? args.claims : "");
    for (char *claim = strtok(claims, ","); claim; claim = strtok(NULL, ","))
        all = claim_print(&f, claim) && all;
    free(claims);
    if (args.figure) figure_save(&f, args.figure, args.reward);
    flags_free(flags, COUNT(flags));
    const int code = stdout_end();
    return code ? code : !all;
}
