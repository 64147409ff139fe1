// bench.c: how fast a training step is, against what this machine can do at most and against other
// programs. `make bench` and dev/bench.sh run it; docs/speed.md says how it measures and why.
//
// cc -O3 -march=native -fno-math-errno -fopenmp dev/bench.c -o bench -lopenblas -lcjson -lm
//
//     ./bench gemm                      products at the shapes of GPT-2 small, a Markdown table
//     ./bench train B T [tiny] [bf16]   training steps of B rows of T tokens
//     ./bench serve B T [tiny] [bf16]   the same, one step for each line on standard input
//     ./bench duel B T [tiny] ROUNDS SECONDS NAME=COMMAND...
//                                       contestants step by step in turn, a Markdown table
//     ./bench tokenize DIR FILE         encoding a text file with the vocabulary in DIR, one thread
//     ./bench machine                   the OpenBLAS and the compiler that this program has
//
// The floor of a step is 6 P flop a token (P weights: 2 P forward, 4 P backward) plus causal
// attention (6 C T L flop a token: half of the T x T square, forward and backward) at the FMA peak,
// plus AdamW's traffic (p, g, m, v read; p, m, v written) at the speed of reading memory. Both
// limits are measured between the steps, and the best figure counts (limits.h); both are of float,
// so that bfloat16, which some CPUs multiply faster, can be beyond 100 %. Weights and tokens are
// random; the time of a step depends on neither.
#ifndef PROFILE
#define PROFILE // model.h times its parts
#endif
#include "../lib/base/common.h"
#include "../lib/base/tokenizer.h"
#include "../model.h"
#include "limits.h"
#include <fcntl.h>
#include <sys/wait.h>

// ------------------------------------------------------------------------------------------------
// One training step

// What of a step is timed: the parts of model.h, what comes after them, and all that is left.
enum { PART_CLIP = PARTS, PART_ADAMW, PART_REST, ALL_PARTS };

static const char *part_name(int part) {
    static const char *const names[ALL_PARTS] = {[PART_LINEAR] = "linear fwd",
                                                 [PART_LINEAR_BACK] = "linear bwd",
                                                 [PART_HEAD] = "head",
                                                 [PART_ATT] = "attention fwd",
                                                 [PART_ATT_BACK] = "attention bwd",
                                                 [PART_NORM] = "LayerNorm",
                                                 [PART_GELU] = "GELU",
                                                 [PART_EMBED] = "embedding",
                                                 [PART_CLIP] = "clip",
                                                 [PART_ADAMW] = "AdamW",
                                                 [PART_REST] = "rest"};
    return names[part] ? names[part] : "other";
}

// GPT-2 small, or with `tiny` the model of the default run (data/sft).
static GPT2Config bench_config(bool tiny) {
    const GPT2Config small = {.vocab_size = 50257,
                              .n_positions = 1024,
                              .n_embd = 768,
                              .n_layer = 12,
                              .n_head = 12,
                              .n_inner = 3072,
                              .layer_norm_epsilon = 1e-5f,
                              .initializer_range = 0.02f};
    const GPT2Config least = {.vocab_size = 1558,
                              .n_positions = 64,
                              .n_embd = 128,
                              .n_layer = 3,
                              .n_head = 4,
                              .n_inner = 512,
                              .layer_norm_epsilon = 1e-5f,
                              .initializer_range = 0.02f};
    return tiny ? least : small;
}

typedef struct {
    GPT2 model;
    Batch batch;         // B rows of T tokens
    float *logp, *dlogp; // (N)
} Trainer;

// A model with random weights and its batch of random tokens.
static void trainer_begin(Trainer *t, int B, int T, bool tiny) {
    Rng rng = rng_make(1, RNG_DATA);
    *t = (Trainer){0};
    gpt2_create(&t->model, bench_config(tiny));
    gpt2_init_random(&t->model, 1);
    gpt2_train_begin(&t->model, false);
    int *row = mem_alloc((size_t)T, sizeof *row);
    for (int r = 0; r < B; r++) {
        for (int i = 0; i < T; i++)
            row[i] = (int)rng_below(&rng, (uint64_t)t->model.config.vocab_size);
        batch_add_row(&t->batch, row, NULL, T);
    }
    free(row);
    t->logp = mem_floats((size_t)t->batch.N);
    t->dlogp = mem_floats((size_t)t->batch.N);
    const float share = -1.0f / (float)batch_count_mask(&t->batch);
    for (int i = 0; i < t->batch.N; i++) t->dlogp[i] = t->batch.mask[i] ? share : 0.0f;
}

// One step; parts (ALL_PARTS) get their seconds. Returns the seconds of the whole step.
static double trainer_step(Trainer *t, double *parts) {
    const AdamW adamw = {0.9, 0.999, 1e-8, 0.01, true, false};
    memset(profile_seconds, 0, sizeof profile_seconds);
    const double began = seconds_now();
    gpt2_forward(&t->model, &t->batch);
    lm_head_forward_backward(&t->model, t->logp, t->dlogp);
    gpt2_backward(&t->model);
    const double clip = seconds_now();
    const double scale = clip_scale(grad_norm(&t->model), 1.0);
    const double update = seconds_now();
    adamw_step(&t->model, &adamw, 1e-4, scale);
    const double end = seconds_now();
    parts[PART_CLIP] = update - clip;
    parts[PART_ADAMW] = end - update;
    parts[PART_REST] = clip - began;
    for (int p = 0; p < PARTS; p++) {
        parts[p] = profile_seconds[p];
        parts[PART_REST] -= profile_seconds[p];
    }
    return end - began;
}

static void trainer_end(Trainer *t) {
    gpt2_free(&t->model);
    batch_free(&t->batch);
    free(t->logp);
    free(t->dlogp);
}

// The floor of a step of B rows of T tokens, in flop and in bytes of AdamW's traffic.
static void step_floor(double *flops, double *bytes, const GPT2 *model, int B, int T) {
    const double P = (double)gpt2_count_params(model);
    const double C = model->config.n_embd, L = model->config.n_layer;
    *flops = (6 * P + 6 * C * T * L) * B * T;
    *bytes = 28 * P;
}

// ------------------------------------------------------------------------------------------------
// Times of many steps

enum { MOST_STEPS = 4096, MOST_PARTS = 32 };

typedef struct {
    int steps, n_parts;
    double all[MOST_STEPS];           // of each step
    double part_of_best[MOST_PARTS];  // parts of the best step
    double part_least[MOST_PARTS];    // the least of each part over all steps
    double best, middle, parts_least; // after times_end: best, median, sum of part_least
} Times;

static void times_add(Times *t, double seconds, const double *parts) {
    if (t->steps == MOST_STEPS) return;
    if (!t->steps || seconds < t->best) {
        t->best = seconds;
        memcpy(t->part_of_best, parts, (size_t)t->n_parts * sizeof *parts);
    }
    for (int p = 0; p < t->n_parts; p++)
        if (!t->steps || parts[p] < t->part_least[p]) t->part_least[p] = parts[p];
    t->all[t->steps++] = seconds;
}

static void times_end(Times *t) {
    double sorted[MOST_STEPS];
    memcpy(sorted, t->all, (size_t)t->steps * sizeof *sorted);
    sort_doubles(sorted, t->steps);
    t->middle = median(sorted, t->steps);
    for (int p = 0; p < t->n_parts; p++) t->parts_least += t->part_least[p];
}

static void bench_train(int B, int T, bool tiny) {
    Trainer trainer;
    Limits limits;
    Times *times = mem_alloc(1, sizeof *times);
    double parts[ALL_PARTS], flops, bytes;
    trainer_begin(&trainer, B, T, tiny);
    step_floor(&flops, &bytes, &trainer.model, B, T);
    times->n_parts = ALL_PARTS;
    const int steps = tiny ? 40 : T * B > 1024 ? 4 : 6, apart = tiny ? 4 : 1;
    trainer_step(&trainer, parts); // the first step also pays for fresh memory
    limits_begin(&limits, trainer.model.params, trainer.model.n_floats);
    for (int s = 0; s < steps; s++) {
        if (s % apart == 0) limits_probe(&limits);
        times_add(times, trainer_step(&trainer, parts), parts);
    }
    limits_probe(&limits);
    times_end(times);
    const double N = trainer.batch.N, compute = flops / limits.best_fma;
    const double floor = compute + bytes / limits.best_bytes;
    printf("train B%d T%d%s%s: %.1f ms, median %.1f, sum of the parts' minima %.1f; %.0f tokens/s, "
           "%.0f GFLOP/s = %.0f%% of FMA peak; floor %.1f ms (%.1f compute + %.1f AdamW): %.1f%% "
           "of the floor; peak memory %.0f MB\n",
           B, T, tiny ? " tiny" : "", use_bf16 ? " bf16" : "", 1e3 * times->best,
           1e3 * times->middle, 1e3 * times->parts_least, N / times->best,
           1e-9 * flops / times->best, 100 * compute / times->best, 1e3 * floor, 1e3 * compute,
           1e3 * (floor - compute), 100 * floor / times->best, memory_peak_mb());
    printf("  ms (best step / minimum):");
    for (int p = 0; p < ALL_PARTS; p++)
        printf(" %s %.1f / %.1f,", part_name(p), 1e3 * times->part_of_best[p],
               1e3 * times->part_least[p]);
    printf(" all steps");
    for (int s = 0; s < steps; s++) printf(" %.0f", 1e3 * times->all[s]);
    printf("\n");
    limits_end(&limits, 0);
    trainer_end(&trainer);
    free(times);
}

// ------------------------------------------------------------------------------------------------
// A contestant and its driver. The contestant prints a line `ready NAME,NAME,..` (of its parts)
// when it has set up all that a step needs; then it makes one step for each line that it reads and
// answers with the milliseconds of the step and of each part, in that order: `1071.25 201.5 ..`. It
// ends when its standard input does. What it prints before `ready` is shown.

static void bench_serve(int B, int T, bool tiny) {
    Trainer trainer;
    double parts[ALL_PARTS];
    char *line = NULL;
    size_t room = 0;
    trainer_begin(&trainer, B, T, tiny);
    printf("ready ");
    for (int p = 0; p < ALL_PARTS; p++) printf("%s%s", p ? "," : "", part_name(p));
    printf("\n");
    while (getline(&line, &room, stdin) > 0) {
        printf("%.4f", 1e3 * trainer_step(&trainer, parts));
        for (int p = 0; p < ALL_PARTS; p++) printf(" %.4f", 1e3 * parts[p]);
        printf("\n");
    }
    free(line);
    trainer_end(&trainer);
}

typedef struct {
    const char *name, *command;
    pid_t pid;
    FILE *to, *from; // its standard input and output
    Times times;
    double cpu_before, cpu_idle; // seconds worked: before the turn; while others had theirs
    double peak_mb;
} Contestant;

enum { MOST_CONTESTANTS = 16, PAUSE_MS = 10 };

// A line of the contestant's, without its end. Dies if there is none.
static char *contestant_line(Contestant *c) {
    char *line = NULL;
    size_t room = 0;
    if (getline(&line, &room, c->from) <= 0)
        die(EXIT_BAD_INPUT, "%s ended too early: %s", c->name, c->command);
    line[strcspn(line, "\n")] = '\0';
    return line;
}

// Start the command, with the contestants that began before it closed to it.
static void contestant_begin(Contestant *c) {
    int in[2], out[2];
    if (pipe(in) || pipe(out)) die(EXIT_IO, "no pipe: %s", strerror(errno));
    const int ours[] = {in[0], in[1], out[0], out[1]};
    for (int i = 0; i < COUNT(ours); i++) fcntl(ours[i], F_SETFD, FD_CLOEXEC);
    char *command = text_format("exec %s", c->command);
    c->pid = fork();
    if (c->pid < 0) die(EXIT_IO, "no process: %s", strerror(errno));
    if (c->pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    free(command);
    close(in[0]);
    close(out[1]);
    c->to = fdopen(in[1], "w");
    c->from = fdopen(out[0], "r");
}

// Wait until it is ready; its parts are counted.
static void contestant_ready(Contestant *c) {
    for (;;) {
        char *line = contestant_line(c);
        const bool ready = !strncmp(line, "ready ", 6);
        if (!ready) fprintf(stderr, "%s: %s\n", c->name, line);
        c->times.n_parts = 1;
        for (const char *s = line; *s; s++) c->times.n_parts += *s == ',';
        free(line);
        if (ready) break;
    }
    if (c->times.n_parts > MOST_PARTS) die(EXIT_BAD_INPUT, "%s: too many parts", c->name);
}

// One step. Returns its seconds; parts (n_parts) get theirs.
static double contestant_step(Contestant *c, double *parts) {
    fprintf(c->to, "step\n");
    fflush(c->to);
    char *line = contestant_line(c), *at = line;
    const double seconds = 1e-3 * strtod(at, &at);
    for (int p = 0; p < c->times.n_parts; p++) parts[p] = 1e-3 * strtod(at, &at);
    if (!(seconds > 0)) die(EXIT_BAD_INPUT, "%s answered: %s", c->name, line);
    free(line);
    return seconds;
}

// Seconds that the contestant has worked so far, its threads added up; 0 where nobody tells.
static double contestant_seconds(const Contestant *c) {
#ifdef __linux__
    clockid_t clock;
    struct timespec t;
    if (!clock_getcpuclockid(c->pid, &clock) && !clock_gettime(clock, &t))
        return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#endif
    return 0;
}

static void contestant_end(Contestant *c) {
    struct rusage usage;
    fclose(c->to);
    wait4(c->pid, NULL, 0, &usage);
    fclose(c->from);
#ifdef __APPLE__
    c->peak_mb = (double)usage.ru_maxrss * 1e-6;
#else
    c->peak_mb = (double)usage.ru_maxrss * 1.024e-3;
#endif
}

// What changes a library's choices is taken away from all contestants alike; a command can set it
// (`env NAME=VALUE program`), and then the table's maker knows.
static void environment_clean(void) {
    const char *const tuned[] = {"OPENBLAS_",      "GOTO_",          "MKL_",  "DNNL_",
                                 "ONEDNN_",        "KMP_",           "GOMP_", "MALLOC_",
                                 "GLIBC_TUNABLES", "OMP_WAIT_POLICY"};
    extern char **environ;
    for (int i = 0; environ[i];) {
        char name[128];
        bool drop = false;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(environ[i], "="), environ[i]);
        for (int k = 0; k < COUNT(tuned); k++)
            drop = drop || !strncmp(name, tuned[k], strlen(tuned[k]));
        if (!drop || unsetenv(name)) i++; // unsetenv moves the others up
    }
}

// The table: a line for each contestant. Times are in ms; the last columns say how many times as
// long as the first two contestants each took, by the best step and by the median.
static void duel_print(const Contestant *contestants, int n, const Limits *limits,
                       const GPT2 *model, int B, int T) {
    double flops, bytes;
    step_floor(&flops, &bytes, model, B, T);
    const double compute = flops / limits->best_fma, traffic = bytes / limits->best_bytes;
    const int others = n < 2 ? n : 2;
    printf("Floor %.1f ms: %.1f of products, %.1f of AdamW's traffic.\n\n",
           1e3 * (compute + traffic), 1e3 * compute, 1e3 * traffic);
    printf("| B%d T%d | best ms | median | parts' minima | tokens/s | of FMA peak | of the floor | "
           "peak memory |",
           B, T);
    for (int k = 0; k < others; k++) printf(" time / %s: best, median |", contestants[k].name);
    printf("\n|---|---:|---:|---:|---:|---:|---:|---:|");
    for (int k = 0; k < others; k++) printf("---:|");
    printf("\n");
    for (int i = 0; i < n; i++) {
        const Contestant *c = &contestants[i];
        const Times *t = &c->times;
        printf("| %s | %.1f | %.1f | %.1f | %.0f | %.0f %% | %.0f %% | %.*f %s |", c->name,
               1e3 * t->best, 1e3 * t->middle, 1e3 * t->parts_least, B * T / t->best,
               100 * compute / t->best, 100 * (compute + traffic) / t->best,
               c->peak_mb < 1000 ? 0 : 2, c->peak_mb < 1000 ? c->peak_mb : 1e-3 * c->peak_mb,
               c->peak_mb < 1000 ? "MB" : "GB");
        for (int k = 0; k < others; k++)
            if (k == i) printf(" |");
            else
                printf(" %.2f, %.2f |", t->best / contestants[k].times.best,
                       t->middle / contestants[k].times.middle);
        printf("\n");
    }
    printf("\n");
}

// Contestants (n arguments NAME=COMMAND) step in turn: one round to warm up, then as many as fit
// into `seconds`, at least 3 and at most `rounds`. A round is a probe of the machine's limits and a
// turn of each contestant: one step, or ten of the tiny model. Before each turn is a pause in which
// the threads of the last one stop waiting for work.
static void bench_duel(int B, int T, bool tiny, int rounds, double seconds, char **arguments,
                       int n) {
    Contestant *contestants = mem_alloc(MOST_CONTESTANTS, sizeof *contestants);
    const int turn = tiny ? 10 : 1;
    double parts[MOST_PARTS], worked = 0, idle = 0;
    if (n > MOST_CONTESTANTS) die(EXIT_USAGE, "too many contestants");
    environment_clean();
    signal(SIGPIPE, SIG_IGN); // a contestant that died is found when no answer comes
    // Processes begin while this one is small: a child's peak of memory counts from its fork.
    for (int i = 0; i < n; i++) {
        char *equals = strchr(arguments[i], '=');
        if (!equals) die(EXIT_USAGE, "%s: NAME=COMMAND expected", arguments[i]);
        *equals = '\0';
        contestants[i].name = arguments[i];
        contestants[i].command = equals + 1;
        contestant_begin(&contestants[i]);
    }
    GPT2 model; // its size gives the floor, its weights are what dram_read reads
    Limits limits;
    gpt2_create(&model, bench_config(tiny));
    gpt2_init_random(&model, 1);
    for (int i = 0; i < n; i++) contestant_ready(&contestants[i]);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < turn; k++) contestant_step(&contestants[i], parts);
    for (int i = 0; i < n; i++) worked -= contestant_seconds(&contestants[i]);
    limits_begin(&limits, model.params, model.n_floats);
    int done = 0;
    while (done < rounds && (done < 3 || seconds_now() - limits.began < seconds)) {
        limits_probe(&limits);
        for (int i = 0; i < n; i++) {
            usleep(PAUSE_MS * 1000);
            for (int k = 0; k < n; k++)
                contestants[k].cpu_before = contestant_seconds(&contestants[k]);
            for (int k = 0; k < turn; k++) {
                const double step = contestant_step(&contestants[i], parts);
                times_add(&contestants[i].times, step, parts);
            }
            for (int k = 0; k < n; k++)
                if (k != i)
                    contestants[k].cpu_idle +=
                        contestant_seconds(&contestants[k]) - contestants[k].cpu_before;
        }
        done++;
        fprintf(stderr, "B%d T%d, round %d, %.0f s\n", B, T, done, seconds_now() - limits.began);
    }
    limits_probe(&limits);
    const double took = seconds_now() - limits.began;
    for (int i = 0; i < n; i++) worked += contestant_seconds(&contestants[i]);
    printf("%d rounds of %d steps in turn, %.0f s; ", done, turn, took);
    limits_end(&limits, worked);
    for (int i = 0; i < n; i++) {
        Contestant *c = &contestants[i];
        times_end(&c->times);
        contestant_end(c);
        idle += c->cpu_idle;
        if (c->cpu_idle > 0.02 * took)
            printf("warning: %s worked for %.1f s while it was not its turn\n", c->name,
                   c->cpu_idle);
    }
    fprintf(stderr, "contestants worked %.2f s of %.0f while it was not their turn\n", idle, took);
    duel_print(contestants, n, &limits, &model, B, T);
    gpt2_free(&model);
    free(contestants);
}

// ------------------------------------------------------------------------------------------------
// Products, tokenising, the machine

// Products in float and in bfloat16 in turn, 8 of each; the best counts.
static void bench_gemm(void) {
    const int shapes[][3] = {{256, 768, 768},   {256, 3072, 768},  {256, 768, 3072},
                             {256, 50257, 768}, {1024, 2304, 768}, {1024, 3072, 768},
                             {1024, 768, 3072}, {2048, 128, 128},  {2048, 512, 128}};
    double best[COUNT(shapes)][2];
    Limits limits;
    const size_t largest = (size_t)50257 * 2048;
    float *probe = mem_floats(largest);
    random_floats(probe, largest, 1);
    limits_begin(&limits, probe, largest);
    for (int i = 0; i < COUNT(shapes); i++) {
        const int M = shapes[i][0], N = shapes[i][1], K = shapes[i][2];
        float *a = mem_floats((size_t)M * K), *b = mem_floats((size_t)K * N);
        float *c = mem_floats((size_t)M * N);
        random_floats(a, (size_t)M * K, 2);
        random_floats(b, (size_t)K * N, 3);
        best[i][0] = best[i][1] = INFINITY;
        for (int k = 0; k < 8; k++) {
            if (k % 4 == 0) limits_probe(&limits);
            for (int bf16 = 0; bf16 < 2; bf16++) {
                use_bf16 = bf16;
                const double began = seconds_now();
                matmul_forward(c, a, b, NULL, NULL, M, K, N);
                best[i][bf16] = fmin(best[i][bf16], seconds_now() - began);
            }
        }
        free(a);
        free(b);
        free(c);
    }
    limits_probe(&limits);
    limits_end(&limits, 0);
    printf("\n| (M, K) x (K, N) | float GFLOP/s | of FMA peak | bf16 GFLOP/s | of FMA peak |\n"
           "|---|---:|---:|---:|---:|\n");
    for (int i = 0; i < COUNT(shapes); i++) {
        const int M = shapes[i][0], N = shapes[i][1], K = shapes[i][2];
        printf("| (%d, %d) x (%d, %d) |", M, K, K, N);
        for (int bf16 = 0; bf16 < 2; bf16++) {
            const double rate = 2.0 * M * N * K / best[i][bf16];
            printf(" %.0f | %.0f %% |", 1e-9 * rate, 100 * rate / limits.best_fma);
        }
        printf("\n");
    }
    free(probe);
}

static void bench_tokenize(const char *dir, const char *path) {
    Tokenizer tokenizer;
    TokenList ids = {0};
    size_t n;
    double began = seconds_now();
    tokenizer_load(&tokenizer, dir);
    double loaded = seconds_now();
    char *text = file_read(path, &n);
    for (int pass = 1; pass <= 3; pass++) { // the first pass finds the caches cold
        double start = seconds_now();
        ids.n = 0;
        tokenizer_encode(&tokenizer, &ids, text, n, true);
        printf("tokenize %s, pass %d: %.1f MB/s, %zu tokens (loading took %.3f s)\n", path, pass,
               1e-6 * (double)n / (seconds_now() - start), ids.n, loaded - began);
    }
    free(text), tokens_free(&ids), tokenizer_free(&tokenizer);
}

int main(int argc, char **argv) {
    const char *const usage = "usage: bench gemm | train B T [tiny] [bf16] | serve B T [tiny] "
                              "[bf16] | duel B T [tiny] ROUNDS SECONDS NAME=COMMAND.. | tokenize "
                              "DIR FILE | machine";
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *what = argc > 1 ? argv[1] : "";
    const bool sized = argc > 3 && atoi(argv[2]) > 0 && atoi(argv[3]) > 0;
    const int B = sized ? atoi(argv[2]) : 0, T = sized ? atoi(argv[3]) : 0;
    const bool tiny = argc > 4 && !strcmp(argv[4], "tiny");
    const int next = tiny ? 5 : 4; // the first argument after the size
    if (sized && T > bench_config(tiny).n_positions)
        die(EXIT_USAGE, "T is at most %d", bench_config(tiny).n_positions);
    if (sized && !strcmp(what, "duel") && argc > next + 2) { // it multiplies nothing itself
        bench_duel(B, T, tiny, atoi(argv[next]), atof(argv[next + 1]), argv + next + 2,
                   argc - next - 2);
        return 0;
    }
    const bool bf16 = argc == next + 1 && !strcmp(argv[next], "bf16");
    const bool known = argc == next || bf16;
    if (sized && known && !strcmp(what, "train")) {
        products_begin(bf16);
        bench_train(B, T, tiny);
    } else if (sized && known && !strcmp(what, "serve")) {
        products_begin(bf16);
        bench_serve(B, T, tiny);
    } else if (argc == 2 && !strcmp(what, "gemm")) {
        products_begin(false);
        bench_gemm();
    } else if (argc == 4 && !strcmp(what, "tokenize")) bench_tokenize(argv[2], argv[3]);
    else if (argc == 2 && !strcmp(what, "machine")) {
        products_begin(false);
#ifndef ALIGN_ACCELERATE
        printf("%s\n", openblas_get_config());
#endif
        printf("compiler %s\n", __VERSION__);
    } else die(EXIT_USAGE, "%s", usage);
    return 0;
}
