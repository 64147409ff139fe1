// bf16.h: matrix products of bfloat16 numbers, summed in float: about twice as fast as float ones on
// a CPU that multiplies them (AVX512-BF16: Intel since Cooper Lake, AMD since Zen 4).
//
// A bfloat16 is the upper half of a float: the same range, 8 bits of precision instead of 24.
// Everything in memory stays float; a product rounds its two factors on the way into its packed
// blocks and sums in float. So weights, activations, gradients and AdamW's moments keep their
// precision and each product has a relative error of about 2^-9 a factor, at random. That is what
// PyTorch's autocast does to linear layers (Micikevicius et al. 2018; Kalamkar et al. 2019).
//
// From top to bottom: vectors; rounding and packing; a tile; the product. Other CPUs run the same
// code with the same roundings, slower than OpenBLAS's float products.
#ifndef BF16_H
#define BF16_H

#include "common.h"
#include <omp.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
static const bool bf16_in_hardware = true;
#else
static const bool bf16_in_hardware = false;
#endif

// GCC's and Clang's vector types make one source for AVX-512, AVX, SSE and Arm.
typedef float Vec16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Pair16 __attribute__((vector_size(64), aligned(4), may_alias));

#define ALWAYS_INLINE static inline __attribute__((always_inline))
// Inner loops stay in functions that are not too large: else GCC or Clang runs out of registers.
#define NEVER_INLINE static __attribute__((noinline))
// The compiler may not move loads across this: without it GCC loads all factors first, has no
// registers left and keeps the sums in memory (1.4 times slower).
#define KEEP_LOADS_HERE() __asm__ volatile("" ::: "memory")

// ------------------------------------------------------------------------------------------------
// Rounding and packing. Two neighbours along K, which a product sums over, make a pair: the even one
// in the lower half of 32 bits.

// The nearest bfloat16, ties to even, in the lower 16 bits. NaN stays NaN.
ALWAYS_INLINE uint32_t bf16_round(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
    return x == x ? rounded : 0x7FC0u;
}

// A block is BLOCK_ROWS rows (of the left factor) or BLOCK_COLS columns (of the right one) wide and
// runs along K. The sums of a tile of BLOCK_ROWS x BLOCK_COLS are 24 registers of AVX-512.
enum { BLOCK_ROWS = 8, BLOCK_COLS = 48, BLOCK_K = 768, BLOCK_M = 1024 };

// to (pairs, width) <- lines of x along K, as many as fit of those that are left, then zeros. Element
// k of line i is x[i ld + k] or, if `across`, x[k ld + i].
ALWAYS_INLINE void bf16_pack(uint32_t *to, const float *x, int ld, bool across, const int width,
                             int left, int K) {
    const int whole = K / 2, lines = left < width ? left : width;
    if (lines < width || K % 2) memset(to, 0, (size_t)((K + 1) / 2) * width * sizeof *to);
    if (across) {
        for (int p = 0; p < whole; p++, to += width) {
            const float *even = x + (size_t)(2 * p) * ld, *odd = even + ld;
            for (int i = 0; i < lines; i++) to[i] = bf16_round(even[i]) | bf16_round(odd[i]) << 16;
        }
        for (int i = 0; K % 2 && i < lines; i++) to[i] = bf16_round(x[(size_t)(K - 1) * ld + i]);
        return;
    }
    enum { STRETCH = 16 }; // pairs of a line at a time: the rounding is vectorised, then turned
    for (int p0 = 0; p0 < whole; p0 += STRETCH) {
        const int n = whole - p0 < STRETCH ? whole - p0 : STRETCH;
        for (int i = 0; i < lines; i++) {
            const float *from = x + (size_t)i * ld + 2 * p0;
            uint32_t *out = to + (size_t)p0 * width + i, pairs[STRETCH];
            if (n == STRETCH)
                for (int p = 0; p < STRETCH; p++)
                    pairs[p] = bf16_round(from[2 * p]) | bf16_round(from[2 * p + 1]) << 16;
            else
                for (int p = 0; p < n; p++)
                    pairs[p] = bf16_round(from[2 * p]) | bf16_round(from[2 * p + 1]) << 16;
            for (int p = 0; p < n; p++) out[(size_t)p * width] = pairs[p];
        }
    }
    for (int i = 0; K % 2 && i < lines; i++)
        to[(size_t)whole * width + i] = bf16_round(x[(size_t)i * ld + K - 1]);
}

NEVER_INLINE void bf16_pack_rows(uint32_t *to, const float *x, int ld, bool across, int left,
                                 int K) {
    bf16_pack(to, x, ld, across, BLOCK_ROWS, left, K);
}

NEVER_INLINE void bf16_pack_cols(uint32_t *to, const float *x, int ld, bool across, int left,
                                 int K) {
    bf16_pack(to, x, ld, across, BLOCK_COLS, left, K);
}

// ------------------------------------------------------------------------------------------------
// A tile

// sum + the products of 16 pairs with one.
ALWAYS_INLINE Vec16 bf16_multiply(Vec16 sum, const uint32_t *one, Pair16 b) {
#ifdef __AVX512BF16__
    return (Vec16)_mm512_dpbf16_ps((__m512)sum, (__m512bh)b,
                                   (__m512bh)_mm512_set1_epi32((int)*one));
#else
    const uint32_t even_bits = *one << 16, odd_bits = *one & 0xFFFF0000u;
    float even, odd;
    memcpy(&even, &even_bits, 4), memcpy(&odd, &odd_bits, 4);
    return sum + odd * (Vec16)(b & 0xFFFF0000u) + even * (Vec16)(b << 16);
#endif
}

// out (rows, cols; ld) = alpha a b, or += it; a (pairs, BLOCK_ROWS), b (pairs, BLOCK_COLS). What of
// the tile is beyond rows and cols, which may be larger than it, is not written.
NEVER_INLINE void bf16_tile(float *out, int ld, const uint32_t *a, const uint32_t *b, int pairs,
                            float alpha, bool add, int rows, int cols) {
    Vec16 sum[BLOCK_ROWS][3] = {0};
    for (int i = 0; i < BLOCK_ROWS && i < rows; i++) // on its way while the sums are made
        for (int j = 0; j < BLOCK_COLS && j < cols; j += 16)
            __builtin_prefetch(out + (size_t)i * ld + j, 1);
    for (int p = 0; p < pairs; p++, a += BLOCK_ROWS, b += BLOCK_COLS) {
        const Pair16 b0 = *(const Pair16 *)b, b1 = *(const Pair16 *)(b + 16),
                     b2 = *(const Pair16 *)(b + 32);
#pragma GCC unroll 8
        for (int i = 0; i < BLOCK_ROWS; i++) {
            sum[i][0] = bf16_multiply(sum[i][0], a + i, b0);
            sum[i][1] = bf16_multiply(sum[i][1], a + i, b1);
            sum[i][2] = bf16_multiply(sum[i][2], a + i, b2);
            KEEP_LOADS_HERE();
        }
    }
    if (rows >= BLOCK_ROWS && cols >= BLOCK_COLS) {
#pragma GCC unroll 8
        for (int i = 0; i < BLOCK_ROWS; i++)
#pragma GCC unroll 3
            for (int j = 0; j < 3; j++) {
                Vec16 *to = (Vec16 *)(out + (size_t)i * ld + 16 * j);
                *to = add ? *to + alpha * sum[i][j] : alpha * sum[i][j];
            }
        return;
    }
    float edge[BLOCK_ROWS][BLOCK_COLS];
#pragma GCC unroll 8
    for (int i = 0; i < BLOCK_ROWS; i++) memcpy(edge[i], sum[i], sizeof edge[i]);
    for (int i = 0; i < BLOCK_ROWS && i < rows; i++)
        for (int j = 0; j < BLOCK_COLS && j < cols; j++) {
            float *to = out + (size_t)i * ld + j;
            *to = (add ? *to : 0.0f) + alpha * edge[i][j];
        }
}

// ------------------------------------------------------------------------------------------------
// The product

// out (M, N; rows ld apart) = alpha A B, or += it if `add`. A (M, K) is at a[m lda + k] or, if
// a_turned, at a[k lda + m]; B (K, N) is at b[k ldb + n] or, if b_turned, at b[n ldb + k]. The order
// in which an entry is summed depends on K only: not on threads, nor on other rows.
static void bf16_product(float *out, int ld, const float *a, int lda, bool a_turned, const float *b,
                         int ldb, bool b_turned, int M, int N, int K, float alpha, bool add) {
    const int most_k = K < BLOCK_K ? K : BLOCK_K, fit = BLOCK_M * BLOCK_K / most_k;
    const int most_m = M < fit ? M : fit / BLOCK_ROWS * BLOCK_ROWS;
    const size_t most_pairs = (size_t)(most_k + 1) / 2;
    const size_t a_size = (size_t)(most_m + BLOCK_ROWS) * most_pairs;
    const size_t b_size = BLOCK_COLS * most_pairs, threads = (size_t)omp_get_max_threads();
    uint32_t *memory = aligned_alloc(64, (a_size + threads * b_size + 16) / 16 * 64);
    if (!memory) die(EXIT_IO, "out of memory: packing a matrix of %d rows", M);
    uint32_t *b_blocks = memory, *a_block = memory + threads * b_size;
#pragma omp parallel
    {
        uint32_t *b_block = b_blocks + (size_t)omp_get_thread_num() * b_size;
        for (int k0 = 0; k0 < K; k0 += BLOCK_K) {
            const int k_n = K - k0 < BLOCK_K ? K - k0 : BLOCK_K, pairs = (k_n + 1) / 2;
            for (int m0 = 0; m0 < M; m0 += most_m) {
                const int m_end = M - m0 < most_m ? M : m0 + most_m;
                // all threads pack the rows, then each multiplies columns of its own with them
#pragma omp for schedule(static)
                for (int m = m0; m < m_end; m += BLOCK_ROWS)
                    bf16_pack_rows(a_block + (size_t)(m - m0) * (size_t)pairs,
                                   a + (a_turned ? (size_t)k0 * lda + m : (size_t)m * lda + k0),
                                   lda, a_turned, m_end - m, k_n);
#pragma omp for schedule(static)
                for (int n = 0; n < N; n += BLOCK_COLS) {
                    bf16_pack_cols(b_block,
                                   b + (b_turned ? (size_t)n * ldb + k0 : (size_t)k0 * ldb + n),
                                   ldb, !b_turned, N - n, k_n);
                    for (int m = m0; m < m_end; m += BLOCK_ROWS)
                        bf16_tile(out + (size_t)m * ld + n, ld,
                                  a_block + (size_t)(m - m0) * (size_t)pairs, b_block, pairs, alpha,
                                  add || k0 > 0, m_end - m, N - n);
                }
            }
        }
    }
    free(memory);
}

#endif
