// limits.h: what this machine can do at most, to be measured in the same run as the thing that is
// compared with it: both limits move by tens of per cent within the hour on a shared machine.
//
//   fma_peak    multiplications and additions a second, all threads, nothing but registers
//   dram_read   bytes read a second, all threads, from more memory than any cache holds
//   Limits      the best of many probes of both, spread over a run, and signs that other programs
//               disturbed it
//
// All data are random: a processor works faster, and takes less power, on zeros.
#ifndef LIMITS_H
#define LIMITS_H

#include "../model.h"

// The widest vector that the compiler's target has.
#if defined(__AVX512F__)
typedef float Wide __attribute__((vector_size(64)));
#elif defined(__AVX__)
typedef float Wide __attribute__((vector_size(32)));
#else
typedef float Wide __attribute__((vector_size(16)));
#endif
enum { WIDE = sizeof(Wide) / sizeof(float), CHAINS = 12 };

// x (n) <- random numbers between -1 and 1.
static void random_floats(float *x, size_t n, uint64_t seed) {
    Rng rng = rng_make(seed, RNG_DATA);
    for (size_t i = 0; i < n; i++) x[i] = (float)(2 * rng_uniform(&rng) - 1);
}

// Floating-point operations a second (a fused multiply-add counts as two), over some 10 ms.
// CHAINS sums that do not depend on each other keep all multipliers busy. The factors are so near
// 1 or -1 that a million rounds take the sums nowhere: they stay as different as they began.
static double fma_peak(void) {
    const long rounds = 1000000;
    float sink = 0;
    double began = seconds_now();
#pragma omp parallel reduction(+ : sink)
    {
        float start[(CHAINS + 2) * WIDE];
        Wide sum[CHAINS], a, b;
        random_floats(start, COUNT(start), 1 + (uint64_t)omp_get_thread_num());
        memcpy(sum, start, sizeof sum);
        memcpy(&b, start + CHAINS * WIDE, sizeof b);
        memcpy(&a, start + (CHAINS + 1) * WIDE, sizeof a);
        for (int i = 0; i < WIDE; i++) {
            a[i] = copysignf(0.999999f, a[i]);
            b[i] *= 1e-6f;
        }
        for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 12
            for (int c = 0; c < CHAINS; c++) sum[c] = sum[c] * a + b;
        }
        for (int c = 0; c < CHAINS; c++) sink += sum[c][0];
    }
    double seconds = seconds_now() - began;
    if (sink == 12345.0f) printf("\n"); // the compiler must not drop the loop
    return 2.0 * WIDE * CHAINS * (double)rounds * omp_get_max_threads() / seconds;
}

// Bytes a second of one pass over `memory` (n floats, n a multiple of 256). Each thread reads one
// piece from front to back, in 16 sums so that additions are not what is waited for.
static double dram_read(const float *memory, size_t n) {
    const int threads = omp_get_max_threads();
    const size_t block = 16 * WIDE, blocks = n / block;
    float sink = 0;
    double began = seconds_now();
#pragma omp parallel for schedule(static) reduction(+ : sink)
    for (int t = 0; t < threads; t++) {
        Wide sum[16] = {{0}};
        for (size_t i = blocks * (size_t)t / (size_t)threads;
             i < blocks * ((size_t)t + 1) / (size_t)threads; i++) {
#pragma GCC unroll 16
            for (int k = 0; k < 16; k++) sum[k] += *(const Wide *)(memory + i * block + k * WIDE);
        }
        for (int k = 0; k < 16; k++) sink += sum[k][0];
    }
    double seconds = seconds_now() - began;
    if (sink == 12345.0f) printf("\n");
    return (double)(blocks * block) * sizeof(float) / seconds;
}

// ------------------------------------------------------------------------------------------------
// Probes over a run

enum { MOST_PROBES = 1024 };

typedef struct {
    const float *memory; // what dram_read reads: floats, n a multiple of 256
    size_t n;
    int probes;
    double fma[MOST_PROBES], bytes[MOST_PROBES]; // what each probe found
    double best_fma, best_bytes;                 // the limits: flop and bytes a second
    double began, busy, stolen, own;             // clocks of the machine when the run began
} Limits;

// Seconds that the machine's processors have worked so far, all of them added up: on any program
// here (busy), and for the owner of the hardware instead of this virtual machine (stolen). Both
// stay 0 where /proc/stat does not tell.
static void machine_seconds(double *busy, double *stolen) {
    double t[8] = {0}; // user, nice, system, idle, waiting for disks, interrupts (2), stolen
    FILE *f = fopen("/proc/stat", "r");
    *busy = *stolen = 0;
    if (!f) return;
    if (fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", t, t + 1, t + 2, t + 3, t + 4, t + 5,
               t + 6, t + 7) == 8) {
        const double ticks = (double)sysconf(_SC_CLK_TCK);
        *busy = (t[0] + t[1] + t[2]) / ticks;
        *stolen = t[7] / ticks;
    }
    fclose(f);
}

// Seconds that this process has worked so far, its threads added up.
static double own_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// The run begins. memory: n floats, at least 256, larger than the caches if those of DRAM are meant.
static void limits_begin(Limits *l, const float *memory, size_t n) {
    *l = (Limits){.memory = memory, .n = n / 256 * 256};
    l->began = seconds_now();
    l->own = own_seconds();
    machine_seconds(&l->busy, &l->stolen);
}

// One probe of both limits, the best of three each: some 30 ms of FMA, three passes over the memory.
static void limits_probe(Limits *l) {
    double fma = 0, bytes = 0;
    for (int i = 0; i < 3; i++) {
        fma = fmax(fma, fma_peak());
        bytes = fmax(bytes, dram_read(l->memory, l->n));
    }
    l->best_fma = fmax(l->best_fma, fma);
    l->best_bytes = fmax(l->best_bytes, bytes);
    if (l->probes == MOST_PROBES) return; // a long run: these must do for the warning
    l->fma[l->probes] = fma;
    l->bytes[l->probes] = bytes;
    l->probes++;
}

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Sort x (n) upwards.
static void sort_doubles(double *x, int n) { qsort(x, (size_t)n, sizeof *x, compare_doubles); }

// The median of x (n), sorted, n > 0.
static double median(const double *x, int n) { return (x[n / 2] + x[(n - 1) / 2]) / 2; }

// How many of x (n) are more than 15 % below `best`.
static int count_low(const double *x, int n, double best) {
    int low = 0;
    for (int i = 0; i < n; i++) low += x[i] < 0.85 * best;
    return low;
}

// Print what the probes found, as one line, and a warning for each sign that the run was disturbed:
// more than a tenth of the probes far below the best; other programs that took more than 5 % of the
// processors; more than 2 % taken away from this virtual machine. `contestants` is how many seconds
// other programs worked in this time that belong to the run. Sorts the probes.
static void limits_end(Limits *l, double contestants) {
    double busy, stolen;
    machine_seconds(&busy, &stolen);
    const double all = (seconds_now() - l->began) * (double)sysconf(_SC_NPROCESSORS_ONLN);
    const double others = busy - l->busy - (own_seconds() - l->own) - contestants;
    const int n = l->probes;
    sort_doubles(l->fma, n);
    sort_doubles(l->bytes, n);
    const int low_fma = count_low(l->fma, n, l->best_fma);
    const int low_bytes = count_low(l->bytes, n, l->best_bytes);
    printf("limits, best of %d probes: FMA %.0f GFLOP/s (median %.0f, lowest %.0f), memory %.1f "
           "GB/s (median %.1f, lowest %.1f)\n",
           n, 1e-9 * l->best_fma, 1e-9 * median(l->fma, n), 1e-9 * l->fma[0], 1e-9 * l->best_bytes,
           1e-9 * median(l->bytes, n), 1e-9 * l->bytes[0]);
    if (10 * low_fma > n || 10 * low_bytes > n)
        printf("warning: the machine's speed changed during this run: %d (FMA) and %d (memory) of "
               "%d probes were more than 15%% below the best\n",
               low_fma, low_bytes, n);
    if (others > 0.05 * all)
        printf("warning: other programs worked during this run, %.0f%% of the processors' time\n",
               100 * others / all);
    if (stolen - l->stolen > 0.02 * all)
        printf("warning: %.0f%% of the processors' time was taken away from this virtual machine\n",
               100 * (stolen - l->stolen) / all);
}

#endif
