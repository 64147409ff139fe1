// bf16.h: matrix products of bfloat16 numbers (panels.h), summed in float.
//
// Everything in memory stays float; a product rounds its two factors on the way into its packed
// blocks and sums in float. So weights, activations, gradients and AdamW's moments keep their
// precision, and a factor is off by at most 2^-9 of itself (Kalamkar et al. 2019). PyTorch's
// autocast rounds the factors of linear layers likewise, and their results too.
//
// Three roads lead there, and the first that the CPU has is taken:
//
//   AMX          Intel since Sapphire Rapids: 16 times the arithmetic of float in a cycle (amx.h)
//   AVX512-BF16  AMD since Zen 4: 1.7 to 2 times as fast as float. Intel's instruction does no more
//                in a cycle than a float one: where Intel has it without AMX, only sampling, which
//                memory sets the pace of, is in bfloat16, and all other products stay in float.
//   rounded      any other CPU: rounded copies of the factors go to OpenBLAS. The same numbers but
//                for the order of sums. Rounding makes products about a tenth slower than float.
//
// From top to bottom: which road; a tile of AVX512-BF16, and its product; rounded copies; the one
// product that all use.
#ifndef BF16_H
#define BF16_H

#include "panels.h"
#include "amx.h"
#include "blas.h"
#include <omp.h>

// ------------------------------------------------------------------------------------------------
// The road

typedef enum { BF16_UNKNOWN, BF16_AMX, BF16_AVX512, BF16_ROUNDED, BF16_FLOAT } Bf16Road;

// The process's, found by bf16_begin; tests set it themselves.
static Bf16Road bf16_road;

#ifdef __AVX512BF16__
enum { AVX512_COMPILED = true };
#else
enum { AVX512_COMPILED = false };
#endif

// Find the road, before there are threads that multiply.
static void bf16_begin(void) {
    bf16_road = BF16_ROUNDED;
#ifdef __x86_64__
    if (AVX512_COMPILED) bf16_road = __builtin_cpu_is("amd") ? BF16_AVX512 : BF16_FLOAT;
#endif
    if (AMX_COMPILED && amx_permitted()) bf16_road = BF16_AMX;
}

// Does the CPU multiply bfloat16 faster than float?
static bool bf16_in_hardware(void) {
    if (bf16_road == BF16_UNKNOWN) bf16_begin();
    return bf16_road == BF16_AMX || bf16_road == BF16_AVX512;
}

// The road in words, for the line that a program prints when it begins.
static const char *bf16_road_name(void) {
    if (bf16_in_hardware()) return bf16_road == BF16_AMX ? "AMX" : "AVX512-BF16";
    if (bf16_road == BF16_FLOAT) return "in sampling; for the rest this CPU's float is as fast";
    return "rounded to bfloat16, multiplied in float";
}

// ------------------------------------------------------------------------------------------------
// AVX512-BF16: packing, and a tile

#ifdef __AVX512BF16__
typedef float Vec16 __attribute__((vector_size(64), aligned(4), may_alias));

// A block is BLOCK_ROWS rows (of the left factor) or BLOCK_COLS columns (of the right one) wide and
// runs along K. The sums of a tile of BLOCK_ROWS x BLOCK_COLS are 24 registers of AVX-512. BLOCK_K is
// long, so that GPT-2 small's sums are written once (on a Zen 4 a step takes up to 4 % less than with
// 768): a block of columns is then 288 KB, for the second-level cache, all rows 6 MB, for the third.
enum { BLOCK_ROWS = 8, BLOCK_COLS = 48, BLOCK_K = 3072, BLOCK_M = 1024 };

// Pair p of a line of x along K: element k of line i is x[i ld + k] or, if `across`, x[k ld + i].
// 0 stands in for what is beyond K.
ALWAYS_INLINE uint32_t bf16_pair_at(const float *x, int ld, bool across, int i, int p, int K) {
    const size_t at = across ? (size_t)(2 * p) * ld + i : (size_t)i * ld + 2 * p;
    const uint32_t even = bf16_round(x[at]);
    return 2 * p + 1 < K ? even | bf16_round(x[at + (across ? (size_t)ld : 1)]) << 16 : even;
}

// Rows for the left side. to (BLOCK_ROWS, pairs) if they run along K, (pairs, BLOCK_ROWS) if
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

// sum += the products of 16 pairs with one.
ALWAYS_INLINE void bf16_multiply(Vec16 *sum, const uint32_t *one, const Pair16 *b) {
    *sum =
        (Vec16)_mm512_dpbf16_ps((__m512)*sum, (__m512bh)*b, (__m512bh)_mm512_set1_epi32((int)*one));
}

// out (rows, cols; ld) = start (rows, cols; start_ld; NULL: 0) + alpha a b; b (pairs, BLOCK_COLS), a
// (BLOCK_ROWS, pairs) or, if a_across, (pairs, BLOCK_ROWS). What of the tile is beyond rows and cols,
// which may be larger than it, is not written.
NEVER_INLINE void bf16_tile(float *out, int ld, const uint32_t *a, bool a_across, const uint32_t *b,
                            int pairs, float alpha, const float *start, int start_ld, int rows,
                            int cols) {
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
                Vec16 all = alpha * sum[i][j];
                if (start) all += *(const Vec16 *)(start + (size_t)i * start_ld + 16 * j);
                *to = all;
            }
        return;
    }
    float edge[BLOCK_ROWS][BLOCK_COLS];
#pragma GCC unroll 8
    for (int i = 0; i < BLOCK_ROWS; i++) memcpy(edge[i], sum[i], sizeof edge[i]);
    for (int i = 0; i < BLOCK_ROWS && i < rows; i++)
        for (int j = 0; j < BLOCK_COLS && j < cols; j++) {
            const float from = start ? start[(size_t)i * start_ld + j] : 0.0f;
            out[(size_t)i * ld + j] = from + alpha * edge[i][j];
        }
}

// As bf16_product.
static void avx512_product(float *out, int ld, const float *a, int lda, bool a_transposed,
                           const float *b, int ldb, bool b_transposed, int M, int N, int K,
                           float alpha, const float *start, int start_ld) {
    const int most_k = K < BLOCK_K ? K : BLOCK_K;
    const int fit = BLOCK_M * BLOCK_K / most_k; // a short K leaves room for more rows
    const int most_m = M < fit ? M : fit / BLOCK_ROWS * BLOCK_ROWS;
    const size_t most_pairs = (size_t)(most_k + 1) / 2;
    const size_t a_size = (size_t)(most_m + BLOCK_ROWS) * most_pairs;
    const size_t b_size = BLOCK_COLS * most_pairs, threads = (size_t)omp_get_max_threads();
    uint32_t *memory = packing_room(4 * (a_size + threads * b_size));
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
                    for (int m = m0; m < m_end; m += BLOCK_ROWS) {
                        float *to = out + (size_t)m * ld + n;
                        const float *begin = start ? start + (size_t)m * start_ld + n : NULL;
                        bf16_tile(to, ld, a_block + (size_t)(m - m0) * (size_t)pairs, a_transposed,
                                  b_block, pairs, alpha, k0 ? to : begin, k0 ? ld : start_ld,
                                  m_end - m, N - n);
                    }
                }
            }
        }
    }
}
#else
#define avx512_product(...) ((void)0) // not in this build, and never called
#endif

// ------------------------------------------------------------------------------------------------
// Rounded copies for OpenBLAS

// copy (rows, cols) <- x rounded, without gaps between rows.
NEVER_INLINE void bf16_round_copy(float *restrict copy, const float *restrict x, int ld, int rows,
                                  int cols) {
#pragma omp parallel for schedule(static)
    for (int i = 0; i < rows; i++) {
        const float *restrict from = x + (size_t)i * ld;
        float *restrict to = copy + (size_t)i * cols;
        for (int k = 0; k < cols; k++) {
            const uint32_t bits = bf16_round(from[k]) << 16;
            memcpy(to + k, &bits, 4);
        }
    }
}

// As bf16_product. A dimension that is longer than PIECE is cut, so that the copies stay small:
// only the head's has one, the vocabulary.
static void rounded_product(float *out, int ld, const float *a, int lda, bool a_transposed,
                            const float *b, int ldb, bool b_transposed, int M, int N, int K,
                            float alpha, bool add) {
    enum { PIECE = 3072 };
    const size_t most_m = M < PIECE ? M : PIECE, most_n = N < PIECE ? N : PIECE;
    const size_t most_k = K < PIECE ? K : PIECE;
    float *x = packing_room((most_m + most_n) * most_k * sizeof(float)), *y = x + most_m * most_k;
    for (int k = 0; k < K; k += PIECE)
        for (int m = 0; m < M; m += PIECE) {
            const int k_n = K - k < PIECE ? K - k : PIECE, m_n = M - m < PIECE ? M - m : PIECE;
            if (a_transposed) bf16_round_copy(x, a + (size_t)k * lda + m, lda, k_n, m_n);
            else bf16_round_copy(x, a + (size_t)m * lda + k, lda, m_n, k_n);
            for (int n = 0; n < N; n += PIECE) {
                const int n_n = N - n < PIECE ? N - n : PIECE;
                if (b_transposed) bf16_round_copy(y, b + (size_t)n * ldb + k, ldb, n_n, k_n);
                else bf16_round_copy(y, b + (size_t)k * ldb + n, ldb, k_n, n_n);
                float_product(out + (size_t)m * ld + n, ld, x, a_transposed ? m_n : k_n,
                              a_transposed, y, b_transposed ? k_n : n_n, b_transposed, m_n, n_n,
                              k_n, alpha, add || k > 0);
            }
        }
}

// ------------------------------------------------------------------------------------------------
// The product

// out (M, N; rows ld apart) <- start, where that is neither NULL nor out itself: for products that
// cannot begin with start but only add to out.
static void lay_down(float *out, int ld, const float *start, int start_ld, int M, int N) {
    if (!start || start == out) return;
#pragma omp parallel for schedule(static)
    for (int m = 0; m < M; m++)
        memcpy(out + (size_t)m * ld, start + (size_t)m * start_ld, (size_t)N * sizeof(float));
}

// out (M, N; rows ld apart) = start + alpha A B. A (M, K) is at a[m lda + k] or, if a_transposed,
// at a[k lda + m]; B (K, N) is at b[k ldb + n] or, if b_transposed, at b[n ldb + k]. start (M, N;
// rows start_ld apart) is NULL for 0, or out itself to add to what is there, or with start_ld 0 one
// row that all rows begin with, a bias. M, N, K > 0. The order in which an entry is summed depends
// on K only: not on threads, nor on other rows (in hardware; OpenBLAS promises nothing). Blocked
// for the caches as in Goto and van de Geijn 2008. Dies when memory runs out.
static void bf16_product(float *out, int ld, const float *a, int lda, bool a_transposed,
                         const float *b, int ldb, bool b_transposed, int M, int N, int K,
                         float alpha, const float *start, int start_ld) {
    if (bf16_road == BF16_UNKNOWN) bf16_begin();
    if (bf16_road == BF16_AMX) {
        amx_product(out, ld, a, lda, a_transposed, b, ldb, b_transposed, M, N, K, alpha, start,
                    start_ld);
        return;
    }
    if (bf16_road == BF16_AVX512) {
        avx512_product(out, ld, a, lda, a_transposed, b, ldb, b_transposed, M, N, K, alpha, start,
                       start_ld);
        return;
    }
    lay_down(out, ld, start, start_ld, M, N);
    if (bf16_road == BF16_FLOAT)
        float_product(out, ld, a, lda, a_transposed, b, ldb, b_transposed, M, N, K, alpha,
                      start != NULL);
    else
        rounded_product(out, ld, a, lda, a_transposed, b, ldb, b_transposed, M, N, K, alpha,
                        start != NULL);
}

#endif
