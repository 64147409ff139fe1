// amx.h: products of panels (panels.h) by Intel's AMX: Xeons since Sapphire Rapids.
//
// AMX has eight registers of 16 rows of 64 bytes, called tiles, and one instruction, TDPBF16PS,
// which adds the product of two tiles of bfloat16 pairs to a tile of 16 x 16 float sums: 16,384
// flops in 16 cycles, 16 times what float FMA does. Loads are the bottleneck, so a block of the
// output is 2 x 2 tiles, and every tile of a factor that is loaded is used twice:
//
//                    b: tile 6   tile 7       a step of K: 4 loads of 1 KB, then 4 products. (The
//                  +---------------------     loads come first because some machines load and
//     a: tile 4    |   tile 0   tile 1        multiply in turns only.)
//        tile 5    |   tile 2   tile 3
//
// A CPU without AMX runs all of this on test/amx_emulated.h.
#ifndef AMX_H
#define AMX_H

#include "panels.h"
#include <omp.h>

#if defined(__AMX_BF16__) || defined(AMX_EMULATED)
#ifndef AMX_EMULATED
#include <immintrin.h>
#include <sys/syscall.h>
#endif
enum { AMX_COMPILED = true };

// ------------------------------------------------------------------------------------------------
// The machine

// Ask Linux (since 5.16) for the use of tiles, for this process. False: the CPU or the kernel has
// none, or a container forbids the question.
static bool amx_permitted(void) {
#ifdef AMX_EMULATED
    return true;
#else
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#endif
}

// Every thread begins and ends its use of tiles: all eight of them 16 rows of 64 bytes.
static void amx_begin(void) {
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1,
                .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&config);
}

static void amx_end(void) { _tile_release(); }

// ------------------------------------------------------------------------------------------------
// A block

// out (32, 32; rows ld apart) = start (32, 32; rows start_ld apart) + the product of panels a and
// b. start is NULL for 0; it may be out itself, and start_ld 0 gives every row the same. Without
// `both` only the upper 16 rows. On the way to the cache meanwhile: `next`, the block of the output
// that comes next, or, if it is NULL, what follows b, which then comes from memory.
ALWAYS_INLINE void amx_block(float *out, size_t ld, const float *start, size_t start_ld,
                             const uint32_t *a, const uint32_t *b, int steps, const float *next,
                             const bool both) {
    const size_t line = ld * sizeof(float), start_line = start_ld * sizeof(float);
    KEEP_LOADS_HERE(); // GCC does not know that tiles read memory, nor below that they write it
    if (start) {
        _tile_loadd(0, start, start_line);
        _tile_loadd(1, start + 16, start_line);
        if (both) _tile_loadd(2, start + 16 * start_ld, start_line);
        if (both) _tile_loadd(3, start + 16 * start_ld + 16, start_line);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        if (both) _tile_zero(2);
        if (both) _tile_zero(3);
    }
    for (int s = 0; s < steps; s++) {
        if (next) {
#pragma GCC unroll 3
            for (int i = 3 * s; i < 3 * s + 3; i++) // the block has 64 cache lines
                if (i < 64) __builtin_prefetch(next + (size_t)(i / 2) * ld + (i % 2 ? 16 : 0), 1);
        } else {
#pragma GCC unroll 32
            for (int i = 0; i < 32; i++) __builtin_prefetch(b + 4 * STEP_WORDS + 16 * i);
        }
        _tile_loadd(6, b, 64);
        _tile_loadd(4, a, 64);
        _tile_loadd(7, b + TILE_WORDS, 64);
        if (both) _tile_loadd(5, a + TILE_WORDS, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (both) _tile_dpbf16ps(2, 5, 6);
        if (both) _tile_dpbf16ps(3, 5, 7);
        a += STEP_WORDS;
        b += STEP_WORDS;
    }
    _tile_stored(0, out, line);
    _tile_stored(1, out + 16, line);
    if (both) _tile_stored(2, out + 16 * ld, line);
    if (both) _tile_stored(3, out + 16 * ld + 16, line);
    KEEP_LOADS_HERE();
}

// The same for a block of which only some rows and columns exist, or whose product is multiplied by
// alpha before it is added to start. Nothing is read or written beyond them. A number has the same
// bits as in a whole block.
NEVER_INLINE void amx_block_edge(float *out, size_t ld, const float *start, size_t start_ld,
                                 const uint32_t *a, const uint32_t *b, int steps, int rows,
                                 int cols, float alpha, bool from_memory) {
    float sums[32 * 32] __attribute__((aligned(64)));
    const float *sums_start = NULL;
    if (start && alpha == 1) { // what is beyond the edge stays in this buffer, whatever it is
        memset(sums, 0, sizeof sums);
        for (int i = 0; i < rows; i++)
            memcpy(sums + 32 * i, start + (size_t)i * start_ld, (size_t)cols * sizeof(float));
        sums_start = sums;
    }
    const float *next = from_memory ? NULL : sums;
    if (rows > 16) amx_block(sums, 32, sums_start, 32, a, b, steps, next, true);
    else amx_block(sums, 32, sums_start, 32, a, b, steps, next, false);
    for (int i = 0; i < rows; i++) {
        float *to = out + (size_t)i * ld;
        const float *sum = sums + 32 * i;
        if (alpha == 1) memcpy(to, sum, (size_t)cols * sizeof(float));
        else if (!start)
            for (int j = 0; j < cols; j++) to[j] = alpha * sum[j];
        else
            for (int j = 0; j < cols; j++) to[j] = start[(size_t)i * start_ld + j] + alpha * sum[j];
    }
}

// out (M, N; rows ld apart) = start + alpha A B on the calling thread, between amx_begin and
// amx_end. A: panels of M rows over K. B: panels of N columns, b_panel words apart, of which the
// first K numbers count. So to multiply with some columns of a larger matrix, begin with a later
// panel, out and start moved by 32 columns a panel. start (M, N; rows start_ld apart): NULL for 0,
// out itself to add to it, or with start_ld 0 one row for all, a bias. from_memory: B is larger
// than the caches and is read once, for at most 32 rows.
static void amx_multiply(float *out, int ld, const float *start, int start_ld, const uint32_t *a,
                         const uint32_t *b, size_t b_panel, int M, int N, int K, float alpha,
                         bool from_memory) {
    const int steps = panel_steps(K);
    for (int m = 0; m < M; m += PANEL_LINES, a += panel_words(K))
        for (int n = 0; n < N; n += PANEL_LINES) {
            float *to = out + (size_t)m * ld + n;
            const float *from = start ? start + (size_t)m * start_ld + n : NULL;
            const uint32_t *b_n = b + (size_t)(n / PANEL_LINES) * b_panel;
            const int rows = M - m < PANEL_LINES ? M - m : PANEL_LINES;
            const int cols = N - n < PANEL_LINES ? N - n : PANEL_LINES;
            const float *next =
                n + PANEL_LINES < N ? to + PANEL_LINES : out + (size_t)(m + PANEL_LINES) * ld;
            if (rows == PANEL_LINES && cols == PANEL_LINES && alpha == 1 && !from_memory)
                amx_block(to, (size_t)ld, from, (size_t)start_ld, a, b_n, steps, next, true);
            else
                amx_block_edge(to, (size_t)ld, from, (size_t)start_ld, a, b_n, steps, rows, cols,
                               alpha, from_memory);
        }
}

// ------------------------------------------------------------------------------------------------
// The product

// As bf16_product. The order of the loops decides the speed. From outside to inside:
//
//   m0   rows of A, as many as make 8 MB packed: nearly always all of them
//   k0   AMX_K of K, in equal parts
//        all threads pack these rows of A together, into memory that they share (third-level cache)
//   n0   columns of B, at most AMX_N, each thread its own: packed into its second-level cache
//   m    32 rows of A
//   n    32 columns of B, innermost: so the output is written, and read again for the next k0,
//        2 KB along each of 32 rows, which the CPU fetches ahead of time by itself. With m
//        innermost each block touches 32 rows of the output that are far apart, and waiting for
//        them costs as much as multiplying.
static void amx_product(float *out, int ld, const float *a, int lda, bool a_transposed,
                        const float *b, int ldb, bool b_transposed, int M, int N, int K,
                        float alpha, const float *start, int start_ld) {
    enum { AMX_K = 768, AMX_N = 512, AMX_A_WORDS = 2 << 20 };
    const int k_parts = (K + AMX_K - 1) / AMX_K;
    const int most_k = STEP_K * ((panel_steps(K) + k_parts - 1) / k_parts);
    const int fit = PANEL_LINES * (int)(AMX_A_WORDS / panel_words(most_k));
    const int most_m = M < fit ? M : fit;
    const int threads = omp_get_max_threads();
    const int panels = (N + PANEL_LINES - 1) / PANEL_LINES;
    const int n_parts = threads * ((panels + threads * AMX_N / PANEL_LINES - 1) /
                                   (threads * AMX_N / PANEL_LINES)); // so many for each thread
    const size_t a_words = panels_words(most_m, most_k);
    const size_t b_words = panels_words(PANEL_LINES * ((panels + n_parts - 1) / n_parts), most_k);
    uint32_t *a_panels = packing_room(4 * (a_words + (size_t)threads * b_words));
    const bool a_along = !a_transposed, b_along = b_transposed;
    const int group = panel_group(a_along);
#pragma omp parallel
    {
        uint32_t *b_panels = a_panels + a_words + (size_t)omp_get_thread_num() * b_words;
        amx_begin();
        for (int m0 = 0; m0 < M; m0 += most_m) {
            const int m_n = M - m0 < most_m ? M - m0 : most_m;
            for (int k0 = 0; k0 < K; k0 += most_k) {
                const int k_n = K - k0 < most_k ? K - k0 : most_k;
                const float *from = k0 > 0 ? out : start;
                const int from_ld = k0 > 0 ? ld : start_ld;
#pragma omp for schedule(static)
                for (int m = 0; m < m_n; m += group)
                    panels_pack_group(
                        a_panels + (size_t)(m / PANEL_LINES) * panel_words(k_n),
                        a + (a_along ? (size_t)(m0 + m) * lda + k0 : (size_t)k0 * lda + m0 + m),
                        lda, a_along, LEFT_FACTOR, m_n - m < group ? m_n - m : group, k_n);
#pragma omp for schedule(static)
                for (int part = 0; part < n_parts; part++) {
                    const int n0 = PANEL_LINES * (int)((int64_t)panels * part / n_parts);
                    const int end = PANEL_LINES * (int)((int64_t)panels * (part + 1) / n_parts);
                    const int n_n = (end < N ? end : N) - n0;
                    if (n_n <= 0) continue;
                    panels_pack_group(b_panels,
                                      b + (b_along ? (size_t)n0 * ldb + k0 : (size_t)k0 * ldb + n0),
                                      ldb, b_along, RIGHT_FACTOR, n_n, k_n);
                    amx_multiply(out + (size_t)m0 * ld + n0, ld,
                                 from ? from + (size_t)m0 * from_ld + n0 : NULL, from_ld, a_panels,
                                 b_panels, panel_words(k_n), m_n, n_n, k_n, alpha, false);
                }
            }
        }
        amx_end();
    }
}

#else
// No AMX in this build: none of these is ever called. They save #ifs where AMX is asked for.
enum { AMX_COMPILED = false };
#define amx_permitted() false
#define amx_begin() ((void)0)
#define amx_end() ((void)0)
#define amx_multiply(...) ((void)0)
#define amx_product(...) ((void)0)
#endif

#endif
