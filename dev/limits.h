// limits.h: what this machine can do at most, to be measured in the same run as the thing that is
// compared with it: both limits move by tens of per cent within the hour on a shared machine.
//
//   fma_peak    multiplications and additions a second, all threads, nothing but registers
//   dram_read   bytes read a second, all threads, from more memory than any cache holds
//
// Take the best of several calls, spread over the run.
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

// Floating-point operations a second (a fused multiply-add counts as two), over some 10 ms.
// CHAINS sums that do not depend on each other keep all multipliers busy.
static double fma_peak(void) {
    const long rounds = 1000000;
    float sink = 0;
    double began = seconds_now();
#pragma omp parallel reduction(+ : sink)
    {
        Wide sum[CHAINS], a, b;
        for (int i = 0; i < WIDE; i++) a[i] = 0.999999f, b[i] = 1e-6f * (float)i;
        for (int c = 0; c < CHAINS; c++) sum[c] = b * (float)c;
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

#endif
