// panels.h: bfloat16 numbers, and matrices of them packed in the order in which a product reads
// them. From top to bottom: rounding; sixteen pairs; tiles and panels; memory to pack into.
//
// A bfloat16 is the upper half of a float: the same range, 8 bits of precision instead of 24. A
// product out (M, N) = A (M, K) B (K, N) sums over k, and the instructions multiply two neighbours
// along K at a time. Such a pair is 32 bits, the even k in the lower half. 16 x 16 pairs make a
// tile of 1 KB, the size of a register of Intel's AMX:
//
//     of the left factor A                     of the right factor B
//              pair 0       ..  pair 15                 column 0          ..  column 15
//     row 0    A[0][0,1]    ..  A[0][30,31]    pair 0   B[0,1][0]         ..  B[0,1][15]
//     ..                                       ..
//     row 15   A[15][0,1]   ..  A[15][30,31]   pair 15  B[30,31][0]       ..  B[30,31][15]
//
// A panel holds 32 lines (rows of A or columns of B) and runs along K in steps of 32. Panels are
// one after the other:
//
//     uint32_t panels[lines / 32][K / 32 steps][2 tiles of 16 lines][16][16]
//
// so that whoever multiplies a panel reads 2 KB a step, from front to back. What a panel has beyond
// the lines and the K of the matrix is 0. Nothing here needs a particular CPU: bf16.h and sample.h
// multiply panels with what instructions there are.
#ifndef PANELS_H
#define PANELS_H

#include "common.h"
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))
// Inner loops stay in functions that are not too large: else GCC or Clang runs out of registers.
#define NEVER_INLINE static __attribute__((noinline))
// The compiler may not move loads across this: without it GCC loads all factors first, has no
// registers left and keeps the sums in memory (1.4 times slower).
#define KEEP_LOADS_HERE() __asm__ volatile("" ::: "memory")

// ------------------------------------------------------------------------------------------------
// Rounding

// The nearest bfloat16, ties to even, in the lower 16 bits. NaN stays NaN. The test for NaN is one
// of integers: a comparison of floats keeps some compilers from making vector code of a loop.
ALWAYS_INLINE uint32_t bf16_round(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
    return (bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0u : rounded;
}

// ------------------------------------------------------------------------------------------------
// Sixteen pairs at a time, one register of AVX-512:
//   bf16_pairs       to (16) <- the pairs of x (32), neighbours in memory
//   bf16_pairs_of    to (16) <- x (16), the even ones, with y (16), the odd ones
//   bf16_transpose   x (16, 16) <- its transpose
// The instructions of AVX512-BF16 round as bf16_round does, but take numbers below 2^-126 for 0.
// Where the plain loops stand in for them, such a number is rounded: a product that sees it adds
// less than 2^-126 of the other factor, so that nobody will notice the difference.

#ifdef __AVX512F__
typedef uint32_t Pair16 __attribute__((vector_size(64), aligned(4), may_alias));
#else
typedef struct {
    uint32_t of[16];
} Pair16;
#endif

#ifdef __AVX512BF16__
ALWAYS_INLINE void bf16_pairs(Pair16 *to, const float *x) {
    *to = (Pair16)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
}

ALWAYS_INLINE void bf16_pairs_of(Pair16 *to, const float *x, const float *y) {
    // the instruction leaves x in the lower half and y in the upper: shuffle them like cards
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(y), _mm512_loadu_ps(x));
    static const uint32_t order[16] __attribute__((aligned(64))) = {
        0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005, 0x160006, 0x170007,
        0x180008, 0x190009, 0x1A000A, 0x1B000B, 0x1C000C, 0x1D000D, 0x1E000E, 0x1F000F};
    *to = (Pair16)_mm512_permutexvar_epi16(_mm512_load_si512(order), both);
}
#else
ALWAYS_INLINE void bf16_pairs(Pair16 *to, const float *x) {
    uint32_t pairs[16];
    for (int i = 0; i < 16; i++) pairs[i] = bf16_round(x[2 * i]) | bf16_round(x[2 * i + 1]) << 16;
    memcpy(to, pairs, sizeof pairs);
}

ALWAYS_INLINE void bf16_pairs_of(Pair16 *to, const float *x, const float *y) {
    uint32_t pairs[16];
    for (int i = 0; i < 16; i++) pairs[i] = bf16_round(x[i]) | bf16_round(y[i]) << 16;
    memcpy(to, pairs, sizeof pairs);
}
#endif

#ifdef __AVX512F__
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
#else
ALWAYS_INLINE void bf16_transpose(Pair16 x[16]) {
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < i; k++) {
            const uint32_t word = x[i].of[k];
            x[i].of[k] = x[k].of[i];
            x[k].of[i] = word;
        }
}
#endif

// ------------------------------------------------------------------------------------------------
// Tiles and panels

typedef enum { LEFT_FACTOR, RIGHT_FACTOR } Side;

// Words of 32 bits: a tile, and the two tiles of a step.
enum { TILE_WORDS = 256, STEP_WORDS = 2 * TILE_WORDS };
// What a panel has of lines, and a step of K.
enum { PANEL_LINES = 32, STEP_K = 32 };

// Steps of a panel that runs over K numbers.
static int panel_steps(int K) { return (K + STEP_K - 1) / STEP_K; }

// Words in one panel. Panel p of a matrix begins at panels + p * panel_words(K).
static size_t panel_words(int K) { return (size_t)panel_steps(K) * STEP_WORDS; }

// Words in all panels of a factor with so many lines: M for the left one, N for the right one.
static size_t panels_words(int lines, int K) {
    return (size_t)((lines + PANEL_LINES - 1) / PANEL_LINES) * panel_words(K);
}

// One tile of 16 lines and 32 k. Its matrix runs in memory `along` K (element k of line i is
// x[i ld + k]) or across it (x[k ld + i]).
NEVER_INLINE void tile_pack(uint32_t *to, const float *x, size_t ld, bool along, Side side) {
    Pair16 square[16];
    if (along) { // (16 lines, 16 pairs)
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            const float *line = x + (size_t)i * ld;
            __builtin_prefetch(line + 96); // three tiles ahead
            bf16_pairs(&square[i], line);
        }
    } else { // (16 pairs, 16 lines)
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            const float *even = x + (size_t)(2 * i) * ld;
            bf16_pairs_of(&square[i], even, even + ld);
        }
    }
    // the left factor's tile has lines from top to bottom, the right factor's from left to right
    if (along == (side == RIGHT_FACTOR)) bf16_transpose(square);
    memcpy(to, square, sizeof square);
}

// The same for a tile of which only some lines (at most 16, perhaps none) and k (at most 32) exist.
static void tile_pack_edge(uint32_t *to, const float *x, size_t ld, bool along, Side side,
                           int lines, int k_n) {
    float copy[16 * 32] = {0};
    const int rows = along ? lines : k_n, cols = along ? k_n : lines, width = along ? 32 : 16;
    for (int i = 0; i < rows && cols > 0; i++)
        memcpy(copy + i * width, x + (size_t)i * ld, (size_t)cols * sizeof(float));
    tile_pack(to, copy, (size_t)width, along, side);
}

// Lines in a group: the number that one call below had best be given. A matrix that runs along K is
// read in 16 streams, one a line; of one that runs across, 512 bytes of a row at a time. (32 lines
// across take twice the time: rows are far apart, and 128 bytes of each are too few for the
// memory.)
static int panel_group(bool along) { return along ? PANEL_LINES : 4 * PANEL_LINES; }

// panels (lines / 32, K / 32, 2, 16, 16) <- x, on the calling thread. Rows of x are ld floats
// apart.
static void panels_pack_group(uint32_t *panels, const float *x, int ld, bool along, Side side,
                              int lines, int K) {
    const int padded = (lines + PANEL_LINES - 1) / PANEL_LINES * PANEL_LINES;
    const int width = along ? 16 : panel_group(along);
    for (int first = 0; first < padded; first += width)
        for (int k = 0; k < K; k += STEP_K)
            for (int i = first; i < first + width && i < padded; i += 16) {
                uint32_t *to = panels + (size_t)(i / PANEL_LINES) * panel_words(K) +
                               (size_t)(k / STEP_K) * STEP_WORDS +
                               (i % PANEL_LINES ? TILE_WORDS : 0);
                const int k_n = K - k < STEP_K ? K - k : STEP_K;
                const int n = i >= lines ? 0 : lines - i < 16 ? lines - i : 16;
                if (n == 0) memset(to, 0, TILE_WORDS * sizeof *to);
                else {
                    const float *from =
                        x + (along ? (size_t)i * ld + (size_t)k : (size_t)k * ld + (size_t)i);
                    if (n == 16 && k_n == STEP_K) tile_pack(to, from, (size_t)ld, along, side);
                    else tile_pack_edge(to, from, (size_t)ld, along, side, n, k_n);
                }
            }
}

// The same on all threads: panels (panels_words(lines, K) words, aligned to 64 bytes) of a whole
// factor. `along`: the left factor as (M, K), the right one as (N, K), as wte is for the head.
// Across: the left one as (K, M), the right one as (K, N), as the weights of linear layers are. Not
// for use inside of a parallel region.
static void panels_pack(uint32_t *panels, const float *x, int ld, bool along, Side side, int lines,
                        int K) {
    const int group = panel_group(along);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < lines; i += group)
        panels_pack_group(panels + (size_t)(i / PANEL_LINES) * panel_words(K),
                          x + (along ? (size_t)i * ld : (size_t)i), ld, along, side,
                          lines - i < group ? lines - i : group, K);
}

// ------------------------------------------------------------------------------------------------
// Memory to pack into

// At least `bytes`, aligned to 64 bytes, with anything in them. Every thread has its own, which the
// next call gives out again: fresh memory would cost a page fault every 4 KB, in every product. 0
// gives it back. Dies when there is none.
static void *packing_room(size_t bytes) {
    static _Thread_local float *room;
    static _Thread_local size_t size;
    if (bytes > size || bytes == 0) {
        free(room);
        room = bytes ? mem_floats((bytes + 3) / 4) : NULL;
        size = bytes;
    }
    return room;
}

#endif
