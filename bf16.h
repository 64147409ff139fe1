// bf16.h: matrix products of bfloat16 numbers, summed in float: at GPT-2 small's shapes 1.7 to 2
// times as fast as float ones (`make bench`), on a CPU that multiplies them (AVX512-BF16: Intel
// since Cooper Lake, AMD since Zen 4).
//
// A bfloat16 is the upper half of a float: the same range, 8 bits of precision instead of 24.
// Everything in memory stays float; a product rounds its two factors on the way into its packed
// blocks and sums in float. So weights, activations, gradients and AdamW's moments keep their
// precision, and a factor is off by at most 2^-9 of itself (Kalamkar et al. 2019). PyTorch's
// autocast rounds the factors of linear layers likewise, and their results too.
//
// From top to bottom: rounding and packing; a tile; the product. On other CPUs rounded copies of the
// factors go to OpenBLAS: the same numbers but for the order of sums, a little slower than float.
#ifndef BF16_H
#define BF16_H

#include "common.h"
#ifdef __AVX512BF16__
#include <immintrin.h>
#include <omp.h>
static const bool bf16_in_hardware = true;
#else
#include "blas.h"
static const bool bf16_in_hardware = false;
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))
// Inner loops stay in functions that are not too large: else GCC or Clang runs out of registers.
#define NEVER_INLINE static __attribute__((noinline))
// The compiler may not move loads across this: without it GCC loads all factors first, has no
// registers left and keeps the sums in memory (1.4 times slower).
#define KEEP_LOADS_HERE() __asm__ volatile("" ::: "memory")

// The nearest bfloat16, ties to even, in the lower 16 bits. NaN stays NaN.
ALWAYS_INLINE uint32_t bf16_round(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
    return x == x ? rounded : 0x7FC0u;
}

#ifdef __AVX512BF16__
typedef float Vec16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Pair16 __attribute__((vector_size(64), aligned(4), may_alias));

// ------------------------------------------------------------------------------------------------
// Rounding and packing. Two neighbours along K, which a product sums over, make a pair: the even
// one in the lower half of 32 bits.

// Sixteen pairs at a time:
//   bf16_pairs       to (16) <- the pairs of x (32), neighbours in memory
//   bf16_pairs_of    to (16) <- x (16), the even ones, with y (16), the odd ones
//   bf16_transpose   x (16, 16) <- its transpose
// The instructions round as bf16_round does, but for numbers below 2^-126, which they take for 0.
ALWAYS_INLINE void bf16_pairs(Pair16 *to, const float *x) {
    *to = (Pair16)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
}

ALWAYS_INLINE void bf16_pairs_of(Pair16 *to, const float *x, const float *y) {
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(y), _mm512_loadu_ps(x));
    const __m512i first = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(both));
    const __m512i second = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(both, 1));
    *to = (Pair16)_mm512_or_si512(first, _mm512_slli_epi32(second, 16));
}

ALWAYS_INLINE void bf16_transpose(Pair16 x[16]) {
    __m512i a[16], b[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) { // neighbours exchange words, then pairs of words, ..
        a[i] = _mm512_unpacklo_epi32((__m512i)x[i], (__m512i)x[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32((__m512i)x[i], (__m512i)x[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { // .. then quarters of the vectors
        const __m512i low = _mm512_shuffle_i32x4(b[i], b[i + 4], 0x88);
        const __m512i low_odd = _mm512_shuffle_i32x4(b[i], b[i + 4], 0xDD);
        const __m512i high = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0x88);
        const __m512i high_odd = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0xDD);
        x[i] = (Pair16)_mm512_shuffle_i32x4(low, high, 0x88);
        x[i + 8] = (Pair16)_mm512_shuffle_i32x4(low, high, 0xDD);
        x[i + 4] = (Pair16)_mm512_shuffle_i32x4(low_odd, high_odd, 0x88);
        x[i + 12] = (Pair16)_mm512_shuffle_i32x4(low_odd, high_odd, 0xDD);
    }
}

// A block is BLOCK_ROWS rows (of the left factor) or BLOCK_COLS columns (of the right one) wide and
// runs along K. The sums of a tile of BLOCK_ROWS x BLOCK_COLS are 24 registers of AVX-512.
enum { BLOCK_ROWS = 8, BLOCK_COLS = 48, BLOCK_K = 768, BLOCK_M = 1024 };

// Pair p of a line of x along K: element k of line i is x[i ld + k] or, if `across`, x[k ld + i].
// 0 stands in for what is beyond K.
ALWAYS_INLINE uint32_t bf16_pair_at(const float *x, int ld, bool across, int i, int p, int K) {
    const size_t at = across ? (size_t)(2 * p) * ld + i : (size_t)i * ld + 2 * p;
    const uint32_t even = bf16_round(x[at]);
    return 2 * p + 1 < K ? even | bf16_round(x[at + (across ? (size_t)ld : 1)]) << 16 : even;
}

// Rows for the left side. to (BLOCK_ROWS, pairs) if they lie along K, (pairs, BLOCK_ROWS) if
// across: a tile reads either. Rows beyond the `left` that there are become zeros.
NEVER_INLINE void bf16_pack_rows(uint32_t *to, const float *x, int ld, bool across, int left,
                                 int K) {
    const int pairs = (K + 1) / 2, lines = left < BLOCK_ROWS ? left : BLOCK_ROWS;
    if (lines < BLOCK_ROWS) memset(to, 0, (size_t)pairs * BLOCK_ROWS * sizeof *to);
    if (across) {
        int p = 0;
        for (; lines == BLOCK_ROWS && 2 * (p + 1) <= K; p++) {
            const float *even = x + (size_t)(2 * p) * ld, *odd = even + ld;
            for (int i = 0; i < BLOCK_ROWS; i++)
                to[p * BLOCK_ROWS + i] = bf16_round(even[i]) | bf16_round(odd[i]) << 16;
        }
        for (; p < pairs; p++)
            for (int i = 0; i < lines; i++)
                to[p * BLOCK_ROWS + i] = bf16_pair_at(x, ld, true, i, p, K);
        return;
    }
    for (int i = 0; i < lines; i++, to += pairs) {
        int p = 0;
        for (; 2 * (p + 16) <= K; p += 16)
            bf16_pairs((Pair16 *)(to + p), x + (size_t)i * ld + 2 * p);
        for (; p < pairs; p++) to[p] = bf16_pair_at(x, ld, false, i, p, K);
    }
}

// Columns for the right side: to (pairs, BLOCK_COLS). Columns beyond `left` become zeros.
NEVER_INLINE void bf16_pack_cols(uint32_t *to, const float *x, int ld, bool across, int left,
                                 int K) {
    const int pairs = (K + 1) / 2, lines = left < BLOCK_COLS ? left : BLOCK_COLS;
    int p = 0;
    if (lines < BLOCK_COLS) memset(to, 0, (size_t)pairs * BLOCK_COLS * sizeof *to);
    if (lines == BLOCK_COLS && across)
        for (; 2 * (p + 1) <= K; p++)
            for (int i = 0; i < BLOCK_COLS; i += 16) {
                const float *even = x + (size_t)(2 * p) * ld + i;
                bf16_pairs_of((Pair16 *)(to + p * BLOCK_COLS + i), even, even + ld);
            }
    else if (lines == BLOCK_COLS)
        for (; 2 * (p + 16) <= K; p += 16)
            for (int i = 0; i < BLOCK_COLS; i += 16) {
                Pair16 square[16];
#pragma GCC unroll 16
                for (int k = 0; k < 16; k++)
                    bf16_pairs(square + k, x + (size_t)(i + k) * ld + 2 * p);
                bf16_transpose(square);
#pragma GCC unroll 16
                for (int k = 0; k < 16; k++) *(Pair16 *)(to + (p + k) * BLOCK_COLS + i) = square[k];
            }
    for (; p < pairs; p++)
        for (int i = 0; i < lines; i++)
            to[p * BLOCK_COLS + i] = bf16_pair_at(x, ld, across, i, p, K);
}

// ------------------------------------------------------------------------------------------------
// A tile

// sum += the products of 16 pairs with one.
ALWAYS_INLINE void bf16_multiply(Vec16 *sum, const uint32_t *one, const Pair16 *b) {
    *sum =
        (Vec16)_mm512_dpbf16_ps((__m512)*sum, (__m512bh)*b, (__m512bh)_mm512_set1_epi32((int)*one));
}

// out (rows, cols; ld) = alpha a b, or += it; b (pairs, BLOCK_COLS), a (BLOCK_ROWS, pairs) or, if
// a_across, (pairs, BLOCK_ROWS). What of the tile is beyond rows and cols, which may be larger than
// it, is not written.
NEVER_INLINE void bf16_tile(float *out, int ld, const uint32_t *a, bool a_across, const uint32_t *b,
                            int pairs, float alpha, bool add, int rows, int cols) {
    const size_t line = a_across ? 1 : (size_t)pairs, step = a_across ? BLOCK_ROWS : 1;
    const uint32_t *a3 = a + 3 * line, *a6 = a3 + 3 * line; // an x86 address can add line or 2 line
    Vec16 sum[BLOCK_ROWS][3] = {0};
    for (int i = 0; i < BLOCK_ROWS && i < rows; i++) // on its way while the sums are made
        for (int j = 0; j < BLOCK_COLS && j < cols; j += 16)
            __builtin_prefetch(out + (size_t)i * ld + j, 1);
    for (int p = 0; p < pairs; p++, a += step, a3 += step, a6 += step, b += BLOCK_COLS) {
        const Pair16 b0 = *(const Pair16 *)b, b1 = *(const Pair16 *)(b + 16),
                     b2 = *(const Pair16 *)(b + 32);
#pragma GCC unroll 8
        for (int i = 0; i < BLOCK_ROWS; i++) {
            const uint32_t *one = (i < 3 ? a : i < 6 ? a3 : a6) + (size_t)(i % 3) * line;
            bf16_multiply(&sum[i][0], one, &b0);
            bf16_multiply(&sum[i][1], one, &b1);
            bf16_multiply(&sum[i][2], one, &b2);
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
// a_transposed, at a[k lda + m]; B (K, N) is at b[k ldb + n] or, if b_transposed, at b[n ldb + k].
// M, N, K > 0. The order in which an entry is summed depends on K only: not on threads, nor on
// other rows (in hardware; OpenBLAS promises nothing). Blocked for the caches as in Goto and van de
// Geijn 2008. Dies when memory runs out.
static void bf16_product(float *out, int ld, const float *a, int lda, bool a_transposed,
                         const float *b, int ldb, bool b_transposed, int M, int N, int K,
                         float alpha, bool add) {
    const int most_k = K < BLOCK_K ? K : BLOCK_K;
    const int fit = BLOCK_M * BLOCK_K / most_k; // a short K leaves room for more rows
    const int most_m = M < fit ? M : fit / BLOCK_ROWS * BLOCK_ROWS;
    const size_t most_pairs = (size_t)(most_k + 1) / 2;
    const size_t a_size = (size_t)(most_m + BLOCK_ROWS) * most_pairs;
    const size_t b_size = BLOCK_COLS * most_pairs, threads = (size_t)omp_get_max_threads();
    // not mem_floats: no use in clearing what is packed over
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
                                   a + (a_transposed ? (size_t)k0 * lda + m : (size_t)m * lda + k0),
                                   lda, a_transposed, m_end - m, k_n);
#pragma omp for schedule(static)
                for (int n = 0; n < N; n += BLOCK_COLS) {
                    bf16_pack_cols(b_block,
                                   b + (b_transposed ? (size_t)n * ldb + k0 : (size_t)k0 * ldb + n),
                                   ldb, !b_transposed, N - n, k_n);
                    for (int m = m0; m < m_end; m += BLOCK_ROWS)
                        bf16_tile(out + (size_t)m * ld + n, ld,
                                  a_block + (size_t)(m - m0) * (size_t)pairs, a_transposed, b_block,
                                  pairs, alpha, add || k0 > 0, m_end - m, N - n);
                }
            }
        }
    }
    free(memory);
}

#else
// ------------------------------------------------------------------------------------------------
// The same on other CPUs

// A copy of `lines` rows of n numbers, each rounded, without gaps.
static float *bf16_rounded(const float *x, int ld, int lines, int n) {
    float *copy = malloc((size_t)lines * (size_t)n * sizeof *copy);
    if (!copy) die(EXIT_IO, "out of memory: rounding a matrix of %d rows", lines);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < lines; i++)
        for (int k = 0; k < n; k++) {
            const uint32_t bits = bf16_round(x[(size_t)i * ld + k]) << 16;
            memcpy(copy + (size_t)i * n + k, &bits, 4);
        }
    return copy;
}

// As above.
static void bf16_product(float *out, int ld, const float *a, int lda, bool a_transposed,
                         const float *b, int ldb, bool b_transposed, int M, int N, int K,
                         float alpha, bool add) {
    const int a_line = a_transposed ? M : K, b_line = b_transposed ? K : N;
    float *x = bf16_rounded(a, lda, a_transposed ? K : M, a_line);
    float *y = bf16_rounded(b, ldb, b_transposed ? N : K, b_line);
    cblas_sgemm(CblasRowMajor, a_transposed ? CblasTrans : CblasNoTrans,
                b_transposed ? CblasTrans : CblasNoTrans, M, N, K, alpha, x, a_line, y, b_line,
                add ? 1.0f : 0.0f, out, ld);
    free(x), free(y);
}
#endif

#endif
