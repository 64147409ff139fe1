// sample.h: text from a model. From top to bottom:
//
//   products   matrix products for few rows, where OpenBLAS is at its worst; in bfloat16
//   choosing   temperature, top-k, top-p: the next token from a row of logits
//   attention  one token against the keys and values of all tokens before it
//   passes     some tokens of some rows through all layers
//   sampler    many rows at once, each until its end
//
// Every token's keys and values are kept (the KV cache), so a row's next token costs one pass of
// one token. In float the weights are used where they are: nothing is packed or copied. With --bf16
// the sampler multiplies with a copy of its own, rounded to bfloat16 and packed (half the bytes to
// read a token), which it makes anew when the weights have changed. So a training program may
// change them between any two calls. The cache stays float. Prompts and single tokens take the
// same way through the code; a prompt just brings many tokens at once.
//
// Which numbers a row sees does not depend on the number of threads, and on its neighbours only in
// the last bits (the number of rows decides how a product is made, and so in which order it is
// summed).
//
// R rows, M tokens of one pass, T tokens of a row so far; C, L, NH, HS, I, V as in model.h.
#ifndef SAMPLE_H
#define SAMPLE_H

#include "../../model.h"

// ------------------------------------------------------------------------------------------------
// Products of few rows: out (M, N) = x (M, K) W (K, N), M small. All weights come through once per
// pass, so for one row the memory sets the pace and from about eight rows on the multipliers.
// Vector types as in bf16.h, but as wide as the CPU has them: GCC makes poor code of wider ones. All
// functions here are called by every thread of a parallel region, and deal the columns, or parts of K,
// out among them.

#if defined(__AVX512F__)
enum { LANES = 16, TILE_ROWS = 8 };
#elif defined(__AVX__)
enum { LANES = 8, TILE_ROWS = 4 };
#elif defined(__aarch64__)
enum { LANES = 4, TILE_ROWS = 8 };
#else
enum { LANES = 4, TILE_ROWS = 4 };
#endif
// A tile of the output is summed up in registers: TILE_ROWS x TILE_COLS, three vectors wide, 24
// (or 12) registers.
//
// With AVX-512, all tiles of a block of W, BLOCK_K x BLOCK_COLS, are made before the next block is
// looked at, which is on its way from memory meanwhile. The width matters: a CPU fetches cache lines
// in pairs and ahead within a page, so that pieces of a row as short as a tile (192 bytes) cost a
// third more to read. Within the block TILE_AHEAD rows are fetched into the first-level cache.
//
// Elsewhere W is read in strips (strips_linear). On a Zen 3 they take half the time of blocks. On a
// Zen 4 blocks are faster from 8 rows on; on Intel with AVX-512 strips were never measured: try
// -DIN_STRIPS=true.
//
// For few rows memory alone sets the pace. AMD's CPUs with AVX-512 read fastest what is read strictly
// from front to back, without any fetching ahead by the program (front_to_back): in float one row of the
// layers and up to HEAD_FEW of the head, in bfloat16 up to FEW_ROWS.
enum { TILE_COLS = 3 * LANES, BLOCK_COLS_OF_W = 384, BLOCK_K_OF_W = 64, TILE_AHEAD = 8 };
enum { K_PARTS = 16, LINE_FLOATS = 16, TILE_LINES = (TILE_COLS + LINE_FLOATS - 1) / LINE_FLOATS };
#ifndef IN_STRIPS
#define IN_STRIPS (LANES < 16)
#endif
enum { FEW_ROWS = 4 };
static bool front_to_back; // set by front_to_back_begin; tests set it themselves
typedef float Vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef float Vec8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float FloatWord __attribute__((may_alias));

// A walk over the cache lines of a block of W: the next one to fetch, how many are left of `width`
// in this row of the block, and the floats from its end to the next row.
typedef struct {
    const float *line;
    int left, width, jump;
} Fetch;

// out (rows, vecs * LANES) += x (rows, K) W (K, ..). In a block `lines` lines of *fetch are fetched for
// each row of W, and the tile's own lines TILE_AHEAD rows before they are needed; in a strip fetch is
// NULL. rows, vecs and, in a strip, K are constants after inlining: all sums live in registers.
ALWAYS_INLINE void tile_product(float *out, int ld_out, const float *x, int ld_x, const float *w,
                                int N, int K, Fetch *fetch, int lines, const int rows,
                                const int vecs) {
    Vec sum[TILE_ROWS][3];
    Fetch f = fetch ? *fetch : (Fetch){0};
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int j = 0; j < vecs; j++) sum[i][j] = *(Vec *)(out + (size_t)i * ld_out + j * LANES);
    for (int k = 0; k < K; k++, w += N) {
        if (lines > 0) __builtin_prefetch(f.line, 0, 2); // into the second level
        if (lines > 1) __builtin_prefetch(f.line + LINE_FLOATS, 0, 2);
        if (lines > 2) __builtin_prefetch(f.line + 2 * LINE_FLOATS, 0, 2);
        f.line += lines * LINE_FLOATS;
        f.left -= lines;
        if (f.left <= 0) {
            f.line += f.jump;
            f.left = f.width;
        }
        for (int j = 0; fetch && j < vecs * LANES; j += LINE_FLOATS)
            __builtin_prefetch(w + (size_t)TILE_AHEAD * N + j, 0, 3);
        Vec row[3];
#pragma GCC unroll 3
        for (int j = 0; j < vecs; j++) row[j] = *(const Vec *)(w + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            float factor = x[(size_t)i * ld_x + k];
#pragma GCC unroll 3
            for (int j = 0; j < vecs; j++) sum[i][j] += factor * row[j];
            KEEP_LOADS_HERE();
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int j = 0; j < vecs; j++) *(Vec *)(out + (size_t)i * ld_out + j * LANES) = sum[i][j];
    if (fetch) *fetch = f;
}

// The same for any number of rows up to TILE_ROWS and of columns up to TILE_COLS.
ALWAYS_INLINE void tile_product_any(float *out, int ld_out, const float *x, int ld_x,
                                    const float *w, int N, int K, Fetch *fetch, int lines, int rows,
                                    int cols) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        if (n > TILE_ROWS) break;                                                                  \
        if (cols == TILE_COLS) {                                                                   \
            tile_product(out, ld_out, x, ld_x, w, N, K, fetch, lines, n, 3);                       \
            return;                                                                                \
        }                                                                                          \
        for (; j + LANES <= cols; j += LANES)                                                      \
            tile_product(out + j, ld_out, x, ld_x, w + j, N, K, fetch, 0, n, 1);                   \
        break;
    int j = 0;
    switch (rows) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef CASE
    for (; j < cols; j++)
        for (int i = 0; i < rows; i++) {
            float s = out[(size_t)i * ld_out + j];
            for (int k = 0; k < K; k++) s += x[(size_t)i * ld_x + k] * w[(size_t)k * N + j];
            out[(size_t)i * ld_out + j] = s;
        }
}

// y (N) += x (rows) W (rows, N). Where it is not 0, `ahead` rows further W is fetched. rows and ahead are
// constants after inlining.
ALWAYS_INLINE void rows_add(float *y, const float *x, const float *w, int N, const int ahead,
                            const int rows) {
    int j = 0;
    for (; j + 32 <= N; j += 32) {
        Vec sum[32 / LANES];
#pragma GCC unroll 8
        for (int i = 0; i < 32 / LANES; i++) sum[i] = ((const Vec *)(y + j))[i];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const float *row = w + (size_t)r * N + j;
            if (ahead) __builtin_prefetch(row + (size_t)ahead * N, 0, 2);
            if (ahead) __builtin_prefetch(row + (size_t)ahead * N + LINE_FLOATS, 0, 2);
#pragma GCC unroll 8
            for (int i = 0; i < 32 / LANES; i++) sum[i] += x[r] * ((const Vec *)row)[i];
        }
        memcpy(y + j, sum, sizeof sum);
    }
    for (; j < N; j++)
        for (int r = 0; r < rows; r++) y[j] += x[r] * w[(size_t)r * N + j];
}

// One row: partial (K_PARTS, N) <- x W in K_PARTS pieces of K. Each piece of W is read from front
// to back, the only order that one thread alone reads at full speed; their number is fixed, so
// that the sum does not depend on the number of threads. ROWS_AT_ONCE rows of W are added to a sum
// while it is in registers: one at a time, loading and storing sums takes longer than the memory, but
// where the order of reading matters more.
static void row_product(float *partial, const float *x, const float *w, int K, int N) {
    enum { ROWS_AT_ONCE = 4 };
#pragma omp for schedule(static)
    for (int part = 0; part < K_PARTS; part++) {
        float *y = partial + (size_t)part * N;
        memset(y, 0, (size_t)N * sizeof(float));
        const int end = K * (part + 1) / K_PARTS;
        int k = K * part / K_PARTS;
        for (; front_to_back && k < end; k++) rows_add(y, x + k, w + (size_t)k * N, N, 0, 1);
        for (; k + ROWS_AT_ONCE <= end; k += ROWS_AT_ONCE)
            rows_add(y, x + k, w + (size_t)k * N, N, ROWS_AT_ONCE, ROWS_AT_ONCE);
        for (; k < end; k++) rows_add(y, x + k, w + (size_t)k * N, N, ROWS_AT_ONCE, 1);
    }
}

// Find out how this CPU wants to read. Measured on a Zen 4 whose memory gave 61 GB/s, GPT-2 small, one row,
// ms a token: 11.4 -> 9.6 in float, 9.4 -> 4.8 in bfloat16.
static void front_to_back_begin(void) {
#ifdef __AVX512F__
    front_to_back = __builtin_cpu_is("amd");
#endif
}

typedef enum { THEN_NOTHING, THEN_GELU, ADD_TO_OUT } LinearEnd;

// By strips: STRIP_ROWS whole rows of W, which are one after the other in memory, meet all rows of x,
// tile by tile from left to right. So memory is read in the order in which a CPU fetches ahead by
// itself. A strip is low because rows of W may be a multiple of 4 KB apart (3072 floats are): then one
// column of the strip, of the next and of the sums compete for the same 8 lines of the first-level
// cache. K is cut into STRIP_PARTS parts with sums of their own, whose number is fixed, as that of
// K_PARTS is. Sums of a part stay in the second-level cache, STRIP_SUMS floats: if M is large, only so
// many columns at a time.
enum { STRIP_ROWS = 4, STRIP_PARTS = 4, STRIP_SUMS = 32768 };

// sums (tiles, M, TILE_COLS) += x (M, height) W (height, tiles * TILE_COLS), fetching the next strip.
ALWAYS_INLINE void strip_add(float *sums, const float *x, int ld_x, const float *w, int N,
                             int tiles, int M, const int height) {
    const int groups = (M + TILE_ROWS - 1) / TILE_ROWS; // of equal size: 9 rows as 3, 3 and 3
    for (int t = 0; t < tiles; t++, w += TILE_COLS) {
        for (int k = 0; k < height; k++)
            for (int j = 0; j < TILE_LINES; j++)
                __builtin_prefetch(w + (size_t)(height + k) * N + j * LINE_FLOATS, 0, 2);
        for (int g = 0; g < groups; g++) {
            const int m = M * g / groups, rows = M * (g + 1) / groups - m;
            const float *x_g = x + (size_t)m * ld_x;
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        if (n <= TILE_ROWS) tile_product(sums, TILE_COLS, x_g, ld_x, w, N, height, NULL, 0, n, 3); \
        break;
            switch (rows) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef CASE
            sums += rows * TILE_COLS;
        }
    }
}

// The same for any height and number of columns: a last tile that is not whole is filled up with 0.
NEVER_INLINE void strip_add_any(float *sums, const float *x, int ld_x, const float *w, int N,
                                int cols, int M, int height) {
    const int tiles = cols / TILE_COLS, rest = cols % TILE_COLS;
    if (height == STRIP_ROWS) strip_add(sums, x, ld_x, w, N, tiles, M, STRIP_ROWS);
    else
        for (int k = 0; k < height; k++)
            strip_add(sums, x + k, ld_x, w + (size_t)k * N, N, tiles, M, 1);
    for (int k = 0; rest && k < height; k++) {
        float last[TILE_COLS] = {0};
        memcpy(last, w + (size_t)k * N + tiles * TILE_COLS, (size_t)rest * sizeof(float));
        strip_add(sums + (size_t)tiles * M * TILE_COLS, x + k, ld_x, last, 0, 1, M, 1);
    }
}

// Floats of scratch that a product of M rows with N columns needs.
static size_t partial_size(int M, int N) {
    return (size_t)round_up(N, TILE_COLS) * (size_t)(IN_STRIPS ? STRIP_PARTS * M : K_PARTS);
}

// partial (STRIP_PARTS, tiles, M, TILE_COLS) <- x W in STRIP_PARTS pieces of K.
static void strips_product(float *partial, const float *x, int ld_x, const float *w, int M, int K,
                           int N) {
    const int tiles = (N + TILE_COLS - 1) / TILE_COLS, tile = M * TILE_COLS;
    const int most = STRIP_SUMS / tile > 0 ? STRIP_SUMS / tile : 1; // tiles at a time
    const int blocks = (tiles + most - 1) / most;
#pragma omp for schedule(static)
    for (int task = 0; task < STRIP_PARTS * blocks; task++) {
        const int part = task / blocks, block = task % blocks;
        const int first = tiles * block / blocks, end = tiles * (block + 1) / blocks;
        const int col = first * TILE_COLS, cols = end < tiles ? (end - first) * TILE_COLS : N - col;
        const int k_end = K * (part + 1) / STRIP_PARTS;
        float *sums = partial + ((size_t)part * tiles + first) * tile;
        memset(sums, 0, (size_t)(end - first) * tile * sizeof(float));
        for (int k = K * part / STRIP_PARTS; k < k_end; k += STRIP_ROWS)
            strip_add_any(sums, x + k, ld_x, w + (size_t)k * N + col, N, cols, M,
                          k_end - k < STRIP_ROWS ? k_end - k : STRIP_ROWS);
    }
}

// out (M, N; rows ld_out apart) = the sum of the parts in partial + bias (N), and the end.
static void strips_finish(float *out, int ld_out, const float *partial, const float *bias, int M,
                          int N, LinearEnd end) {
    const int tiles = (N + TILE_COLS - 1) / TILE_COLS;
    const size_t part = (size_t)tiles * M * TILE_COLS;
#pragma omp for schedule(static)
    for (int t = 0; t < tiles; t++) {
        const int j = t * TILE_COLS, cols = N - j < TILE_COLS ? N - j : TILE_COLS;
        for (int m = 0; m < M; m++) {
            const float *p = partial + ((size_t)t * M + m) * TILE_COLS;
            float *o = out + (size_t)m * ld_out + j;
            for (int c = 0; c < cols; c++) {
                float s = bias[j + c] + (end == ADD_TO_OUT ? o[c] : 0.0f);
                for (int i = 0; i < STRIP_PARTS; i++) s += p[(size_t)i * part + c];
                o[c] = s;
            }
            if (end == THEN_GELU)
#pragma omp simd
                for (int c = 0; c < cols; c++) o[c] *= gelu_sigmoid(o[c]);
        }
    }
}

// out (M, N) = x (M, K) W (K, N) + bias (N), then GELU; or the sum is added to what is in out.
// partial (partial_size) is scratch. Rows of x and out are ld_x and ld_out floats apart.
static void strips_linear(float *out, int ld_out, const float *x, int ld_x, const float *w,
                          const float *bias, float *partial, int M, int K, int N, LinearEnd end) {
    strips_product(partial, x, ld_x, w, M, K, N);
    strips_finish(out, ld_out, partial, bias, M, N, end);
}

// The same by blocks; partial is (K_PARTS, N).
NEVER_INLINE void blocks_linear(float *out, int ld_out, const float *x, int ld_x, const float *w,
                                const float *bias, float *partial, int M, int K, int N,
                                LinearEnd end) {
    if (M == 1) {
        row_product(partial, x, w, K, N);
#pragma omp for simd schedule(static)
        for (int j = 0; j < N; j++) {
            float s = bias[j] + (end == ADD_TO_OUT ? out[j] : 0.0f);
            for (int part = 0; part < K_PARTS; part++) s += partial[(size_t)part * N + j];
            out[j] = s;
        }
        if (end != THEN_GELU) return;
#pragma omp for simd schedule(static)
        for (int j = 0; j < N; j++) out[j] *= gelu_sigmoid(out[j]);
        return;
    }
    // every thread has its own columns, so nobody waits; rows in equal groups: 9 as 5 and 4
    const int strips = (N + TILE_COLS - 1) / TILE_COLS, threads = omp_get_num_threads();
    const int begin = (int)((int64_t)strips * omp_get_thread_num() / threads) * TILE_COLS;
    const int strip_end = (int)((int64_t)strips * (omp_get_thread_num() + 1) / threads) * TILE_COLS;
    const int end_j = strip_end < N ? strip_end : N;
    const int groups = (M + TILE_ROWS - 1) / TILE_ROWS;
    for (int j0 = begin; j0 < end_j; j0 += BLOCK_COLS_OF_W) {
        const int width = end_j - j0 < BLOCK_COLS_OF_W ? end_j - j0 : BLOCK_COLS_OF_W;
        for (int m = 0; m < M; m++) {
            float *o = out + (size_t)m * ld_out + j0;
            for (int c = 0; c < width; c++) o[c] = bias[j0 + c] + (end == ADD_TO_OUT ? o[c] : 0.0f);
        }
        for (int k = 0; k < K; k += BLOCK_K_OF_W) {
            const int k_n = K - k < BLOCK_K_OF_W ? K - k : BLOCK_K_OF_W;
            // The next block: further down the same columns, then at the top of the next ones. All
            // groups fetch a share of it, so that reading and multiplying overlap.
            const bool last_k = k + k_n == K;
            const float *next = last_k ? w + j0 + BLOCK_COLS_OF_W : w + (size_t)(k + k_n) * N + j0;
            const int row_lines = (width + LINE_FLOATS - 1) / LINE_FLOATS;
            Fetch fetch = {next, row_lines, row_lines, N - row_lines * LINE_FLOATS};
            int to_fetch = last_k && j0 + width == end_j ? 0 : row_lines * k_n;
            const int lines = (TILE_LINES + groups - 1) / groups;
            for (int j = j0; j < j0 + width; j += TILE_COLS)
                for (int g = 0; g < groups; g++) {
                    const int m = M * g / groups, rows = M * (g + 1) / groups - m;
                    tile_product_any(out + (size_t)m * ld_out + j, ld_out, x + (size_t)m * ld_x + k,
                                     ld_x, w + (size_t)k * N + j, N, k_n, &fetch,
                                     to_fetch > 0 ? lines : 0, rows,
                                     N - j < TILE_COLS ? N - j : TILE_COLS);
                    to_fetch -= lines * k_n;
                }
        }
        for (int m = 0; m < M && end == THEN_GELU; m++) {
            float *o = out + (size_t)m * ld_out + j0;
#pragma omp simd
            for (int c = 0; c < width; c++) o[c] *= gelu_sigmoid(o[c]);
        }
    }
#pragma omp barrier
}

// The same in the way that is faster here.
static void skinny_linear(float *out, int ld_out, const float *x, int ld_x, const float *w,
                          const float *bias, float *partial, int M, int K, int N, LinearEnd end) {
    if (IN_STRIPS) strips_linear(out, ld_out, x, ld_x, w, bias, partial, M, K, N, end);
    else blocks_linear(out, ld_out, x, ld_x, w, bias, partial, M, K, N, end);
}

static inline float sum_of(const float *x, int n) {
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (int i = 0; i < n; i++) s += x[i];
    return s;
}

// ------------------------------------------------------------------------------------------------
// The head's product: logits (M, V) = h (M, C) wte^T. Rows of wte run along C, so here the M tokens
// are the lanes: with h turned to (C, lanes), HEAD_ROWS vocabulary rows at a time are multiplied
// number by number, and no vector has to be added up across.

#if defined(__AVX512F__) || defined(__aarch64__)
enum { HEAD_ROWS = 12 };
#else
enum { HEAD_ROWS = 6 };
#endif

// logits (lanes, ld)^T for HEAD_ROWS rows of wte; h (C, lanes).
#define DEFINE_HEAD_TILE(NAME, TYPE, VECS)                                                         \
    NEVER_INLINE void NAME(float *logits, int ld, const float *h, const float *wte, int C,         \
                           int M) {                                                                \
        enum { WIDTH = sizeof(TYPE) / 4, ALL = WIDTH * (VECS) };                                   \
        TYPE sum[HEAD_ROWS][VECS];                                                                 \
        _Pragma("GCC unroll 12") for (int v = 0; v < HEAD_ROWS; v++)                               \
            _Pragma("GCC unroll 4") for (int j = 0; j < VECS; j++) sum[v][j] = (TYPE){0};          \
        /* every third row: an x86 address can add C or 2C */                                      \
        const float *r0 = wte, *r3 = r0 + (size_t)3 * C, *r6 = r3, *r9 = r3;                       \
        if (HEAD_ROWS > 6) r6 = r3 + (size_t)3 * C, r9 = r6 + (size_t)3 * C;                       \
        /* the next HEAD_ROWS rows are one stretch of memory: fetch it evenly */                   \
        const float *ahead = wte + (size_t)HEAD_ROWS * C;                                          \
        for (int c = 0; c < C; c++, r0++, r3++, r6++, r9++, ahead += HEAD_ROWS) {                  \
            __builtin_prefetch(ahead, 0, 2);                                                       \
            TYPE x[VECS];                                                                          \
            _Pragma("GCC unroll 4") for (int j = 0; j < VECS; j++) x[j] =                          \
                *(const TYPE *)(h + (size_t)c * ALL + j * WIDTH);                                  \
            _Pragma("GCC unroll 12") for (int v = 0; v < HEAD_ROWS; v++) {                         \
                const float *row = v < 3 ? r0 : v < 6 ? r3 : v < 9 ? r6 : r9;                      \
                float w = row[(size_t)(v % 3) * C];                                                \
                _Pragma("GCC unroll 4") for (int j = 0; j < VECS; j++) sum[v][j] += w * x[j];      \
                KEEP_LOADS_HERE();                                                                 \
            }                                                                                      \
        }                                                                                          \
        _Pragma("GCC unroll 12") for (int v = 0; v < HEAD_ROWS; v++) {                             \
            float all[ALL];                                                                        \
            _Pragma("GCC unroll 4") for (int j = 0; j < VECS; j++) {                               \
                TYPE *to = (TYPE *)(all + j * WIDTH);                                              \
                *to = sum[v][j]; /* with memcpy GCC keeps all sums in memory, not in registers */  \
            }                                                                                      \
            for (int m = 0; m < M; m++) logits[(size_t)m * ld + v] = all[m];                       \
        }                                                                                          \
    }
#if defined(__AVX__)
DEFINE_HEAD_TILE(head_tile_8, Vec8, 1)
#else
DEFINE_HEAD_TILE(head_tile_8, Vec, 8 / LANES)
#endif
DEFINE_HEAD_TILE(head_tile_16, Vec, 16 / LANES)
DEFINE_HEAD_TILE(head_tile_32, Vec, 32 / LANES)
#undef DEFINE_HEAD_TILE
enum { HEAD_FEW = 4, HEAD_LANES = LANES == 16 ? 32 : 16 };

// Few rows are faster the other way round, with C along the lanes, which reads wte as it is:
// logits (rows, ld) of two tokens for h (rows, ld_h). rows is a constant after inlining.
ALWAYS_INLINE void head_pair(float *logits, int ld, const float *h, int ld_h, const float *wte,
                             int C, const int rows) {
    Vec sum[2][HEAD_FEW] = {{{0}}};
    int c = 0;
    for (; c + LANES <= C; c += LANES) {
        const float *w = wte + c;
        __builtin_prefetch(w + (size_t)2 * C, 0, 2);
        __builtin_prefetch(w + (size_t)3 * C, 0, 2);
        const Vec w0 = *(const Vec *)w, w1 = *(const Vec *)(w + C);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            const Vec x = *(const Vec *)(h + (size_t)i * ld_h + c);
            sum[0][i] += w0 * x;
            sum[1][i] += w1 * x;
        }
    }
    for (int v = 0; v < 2; v++)
        for (int i = 0; i < rows; i++)
            logits[(size_t)i * ld + v] = sum_of((const float *)&sum[v][i], LANES);
    for (; c < C; c++)
        for (int i = 0; i < rows; i++) {
            logits[(size_t)i * ld] += wte[c] * h[(size_t)i * ld_h + c];
            logits[(size_t)i * ld + 1] += wte[C + c] * h[(size_t)i * ld_h + c];
        }
}

// The same with wte read strictly from front to back. Two sums for each row of h: one would wait for its
// own additions.
ALWAYS_INLINE void head_in_order(float *logits, int ld, const float *h, int ld_h, const float *wte,
                                 int C, const int rows) {
    for (int v = 0; v < 2; v++, wte += C) {
        Vec even[HEAD_FEW] = {{0}}, odd[HEAD_FEW] = {{0}};
        int c = 0;
        for (; c + 2 * LANES <= C; c += 2 * LANES) {
            const Vec w0 = *(const Vec *)(wte + c), w1 = *(const Vec *)(wte + c + LANES);
#pragma GCC unroll 4
            for (int i = 0; i < rows; i++) {
                const float *x = h + (size_t)i * ld_h + c;
                even[i] += w0 * *(const Vec *)x;
                odd[i] += w1 * *(const Vec *)(x + LANES);
            }
        }
        for (int i = 0; i < rows; i++) {
            const Vec both = even[i] + odd[i];
            float sum = sum_of((const float *)&both, LANES);
            for (int k = c; k < C; k++) sum += wte[k] * h[(size_t)i * ld_h + k];
            logits[(size_t)i * ld + v] = sum;
        }
    }
}

NEVER_INLINE void head_pair_any(float *logits, int ld, const float *h, int ld_h, const float *wte,
                                int C, int rows) {
    switch (rows) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        if (front_to_back) head_in_order(logits, ld, h, ld_h, wte, C, n);                          \
        else head_pair(logits, ld, h, ld_h, wte, C, n);                                            \
        break;
        CASE(1) CASE(2) CASE(3) CASE(4)
#undef CASE
    }
}

// logits (M, ld) = h (M, ld_h) wte (V, C) transposed. `turned` (C, HEAD_LANES) is scratch.
NEVER_INLINE void skinny_head(float *logits, int ld, const float *h, int ld_h, const float *wte,
                              float *turned, int M, int C, int V) {
    for (int m0 = 0; m0 < M; m0 += HEAD_LANES) {
        const int n = M - m0 < HEAD_LANES ? M - m0 : HEAD_LANES;
        const int lanes = n <= HEAD_FEW ? 0 : n <= 8 ? 8 : n <= 16 ? 16 : 32;
        const int at_once = lanes ? HEAD_ROWS : 2, groups = V / at_once;
        float *out = logits + (size_t)m0 * ld;
        const float *x = h + (size_t)m0 * ld_h;
#pragma omp for schedule(static)
        for (int c = 0; c < C; c++)
            for (int m = 0; m < lanes; m++)
                turned[(size_t)c * lanes + m] = m < n ? x[(size_t)m * ld_h + c] : 0.0f;
#pragma omp for schedule(static) nowait
        for (int g = 0; g < groups; g++) {
            float *o = out + (size_t)g * at_once;
            const float *w = wte + (size_t)g * at_once * C;
            if (lanes == 0) head_pair_any(o, ld, x, ld_h, w, C, n);
            else if (lanes == 8) head_tile_8(o, ld, turned, w, C, n);
            else if (lanes == 16) head_tile_16(o, ld, turned, w, C, n);
            else head_tile_32(o, ld, turned, w, C, n);
        }
#pragma omp for schedule(static)
        for (int v = groups * at_once; v < V; v++)
            for (int m = 0; m < n; m++)
                out[(size_t)m * ld + v] = dot(wte + (size_t)v * C, x + (size_t)m * ld_h, C);
    }
}

// ------------------------------------------------------------------------------------------------
// The same products in bfloat16: out (M, N) = x (M, K) W (K, N) with both factors rounded, as in
// training (bf16.h). W is packed into panels of 32 columns (panels.h), which every thread reads
// from front to back, half the bytes of float. What multiplies them:
//
//   AMX           8 rows and more, where the CPU has it
//   AVX512-BF16   an instruction that multiplies and adds pairs
//   float         elsewhere: a pair's two numbers become floats in registers, even << 16 and
//                 odd & 0xFFFF0000, and are multiplied as floats
//
// The rows come in the order in which the panels are multiplied with them:
//
//   ROWS_PANELS   panels (M / 32, K / 32, 2, 16, 16) of pairs, for AMX
//   ROWS_PAIRS    (K / 2, M) pairs: those that meet one pair of a column are side by side
//   ROWS_FLOATS   (K, M) rounded floats
//
// K is padded to a multiple of 32 with zeros.

typedef enum { ROWS_PANELS, ROWS_PAIRS, ROWS_FLOATS } RowsForm;

// A tile of sums is PANEL_ROWS rows by the columns of one panel; with AVX-512 one row takes two
// panels at a time, since with a single one it would wait for its own additions. Elsewhere a panel's
// two tiles of 16 columns come one after the other, step by step: there are half as many registers.
#if defined(__AVX512F__)
enum { PANEL_ROWS = 12, TILES_AT_ONCE = 2 };
#elif defined(__AVX__) || defined(__aarch64__)
enum { PANEL_ROWS = 6, TILES_AT_ONCE = 1 };
#else
enum { PANEL_ROWS = 2, TILES_AT_ONCE = 1 };
#endif
enum { PANEL_VECS = PANEL_LINES / LANES, PANEL_AHEAD = 4 * STEP_WORDS, AMX_ROWS = 8 };
typedef uint32_t Words __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

static RowsForm rows_form(int M) {
    if (bf16_road == BF16_AMX && M >= AMX_ROWS) return ROWS_PANELS;
    return AVX512_COMPILED && bf16_road != BF16_ROUNDED ? ROWS_PAIRS : ROWS_FLOATS;
}

// Words that round_rows writes at most.
static size_t rounded_words(int M, int K) {
    return (size_t)round_up(M, PANEL_LINES) * (size_t)round_up(K, STEP_K);
}

// to <- x (M, K; rows ld apart), rounded, in the form for M rows. Called by all threads together.
NEVER_INLINE void round_rows(uint32_t *to, const float *x, int ld, int M, int K) {
    const RowsForm form = rows_form(M);
#pragma omp for schedule(static)
    for (int s = 0; s < panel_steps(K); s++) {
        const int k_n = K - s * STEP_K < STEP_K ? K - s * STEP_K : STEP_K;
        for (int m = 0; m < M; m++) {
            float line[STEP_K] = {0};
            Pair16 pairs;
            memcpy(line, x + (size_t)m * ld + s * STEP_K, (size_t)k_n * sizeof(float));
            bf16_pairs(&pairs, line);
            if (form == ROWS_PANELS) {
                memcpy(to + (size_t)(m / PANEL_LINES) * panel_words(K) + (size_t)s * STEP_WORDS +
                           m % PANEL_LINES * 16,
                       &pairs, sizeof pairs);
                continue;
            }
            uint32_t word[16];
            memcpy(word, &pairs, sizeof word);
            if (form == ROWS_PAIRS)
                for (int p = 0; p < 16; p++) to[(size_t)(16 * s + p) * M + m] = word[p];
            else
                for (int p = 0; p < 16; p++) {
                    uint32_t *even = to + (size_t)(STEP_K * s + 2 * p) * M + m;
                    even[0] = word[p] << 16;
                    even[M] = word[p] & 0xFFFF0000u;
                }
        }
    }
}

// sum += x times the pairs of LANES columns, x one pair.
ALWAYS_INLINE void pairs_multiply(Vec *sum, uint32_t x, Words pairs) {
#ifdef __AVX512BF16__
    *sum =
        (Vec)_mm512_dpbf16_ps((__m512)*sum, (__m512bh)_mm512_set1_epi32((int)x), (__m512bh)pairs);
#else
    (void)sum, (void)x, (void)pairs; // never called
#endif
}

// sums (rows; ld apart) += x times `steps` steps of `tiles` tiles of 16 columns: half a panel (1), a
// panel (2) or two (4), `other` words apart. x as round_rows made it, at the first of these rows of M.
// rows, tiles, in_pairs and fetch (what comes PANEL_AHEAD words later) are constants after inlining, so
// that all sums live in registers. A row's numbers are the same in every tile.
ALWAYS_INLINE void panel_tile(float *sums, int ld, const uint32_t *x, int M, const uint32_t *w,
                              size_t other, int steps, const int rows, const int tiles,
                              const bool in_pairs, const bool fetch) {
    Vec sum[PANEL_ROWS][2 * PANEL_VECS];
    const int vecs = tiles * PANEL_VECS / 2;
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 16
        for (int v = 0; v < vecs; v++) sum[i][v] = *(Vec *)(sums + i * ld + v * LANES);
    for (int s = 0; s < steps; s++, w += STEP_WORDS)
        for (int p = 0; p < 16; p++) {
            const uint32_t *pair[2] = {w + 16 * p, w + 16 * p + other};
#pragma GCC unroll 2
            for (int i = 0; fetch && i < tiles; i++)
                __builtin_prefetch(pair[i / 2] + PANEL_AHEAD + i % 2 * TILE_WORDS, 0, 2);
#define PAIRS_OF(v) /* of LANES columns */                                                         \
    *(const Words *)(pair[(v) / PANEL_VECS] + (v) % PANEL_VECS * LANES / 16 * TILE_WORDS +         \
                     (v)*LANES % 16)
            if (in_pairs) {
                Words b[2 * PANEL_VECS];
#pragma GCC unroll 16
                for (int v = 0; v < vecs; v++) b[v] = PAIRS_OF(v);
#pragma GCC unroll 12
                for (int i = 0; i < rows; i++) {
#pragma GCC unroll 16
                    for (int v = 0; v < vecs; v++) pairs_multiply(&sum[i][v], x[i], b[v]);
                    KEEP_LOADS_HERE();
                }
                x += M;
                continue;
            }
#pragma GCC unroll 2
            for (int odd = 0; odd < 2; odd++, x += M) {
                Vec b[2 * PANEL_VECS];
#pragma GCC unroll 16
                for (int v = 0; v < vecs; v++)
                    b[v] = odd ? (Vec)(PAIRS_OF(v) & 0xFFFF0000u) : (Vec)(PAIRS_OF(v) << 16);
#pragma GCC unroll 12
                for (int i = 0; i < rows; i++) {
                    const float factor = ((const FloatWord *)x)[i];
#pragma GCC unroll 16
                    for (int v = 0; v < vecs; v++) sum[i][v] += factor * b[v];
                    KEEP_LOADS_HERE();
                }
            }
#undef PAIRS_OF
        }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 16
        for (int v = 0; v < vecs; v++) *(Vec *)(sums + i * ld + v * LANES) = sum[i][v];
}

// sums (rows, panels * 32) += x times `steps` steps of a panel, for any number of rows up to PANEL_ROWS;
// or of two panels, if there is one row. Without AVX-512, and for few rows where W must be read from
// front to back, each step is made in two halves.
// clang-format off
#define DEFINE_PANEL_TILE_ANY(NAME, IN_PAIRS)                                                      \
    NEVER_INLINE void NAME(float *sums, const uint32_t *x, int M, const uint32_t *w, size_t other, \
                           int steps, int rows, int panels) {                                      \
        if (panels == 2) {                                                                         \
            panel_tile(sums, 2 * PANEL_LINES, x, M, w, other, steps, 1, 4, IN_PAIRS, true);        \
            return;                                                                                \
        }                                                                                          \
        if (IN_PAIRS && front_to_back && rows <= FEW_ROWS) {                                       \
            for (int s = 0; s < steps; s++, x += STEP_K / 2 * M, w += STEP_WORDS)                  \
                for (int tile = 0; tile < 2; tile++)                                               \
                    switch (rows) { HALF(1) HALF(2) HALF(3) HALF(4) }                              \
            return;                                                                                \
        }                                                                                          \
        const int at_once = TILES_AT_ONCE == 2 ? steps : 1;                                        \
        for (int s = 0; s < steps; s += at_once, x += STEP_K * M, w += STEP_WORDS)                 \
            for (int tile = 0; tile < 2; tile += TILES_AT_ONCE)                                    \
                switch (rows) {                                                                    \
                    CASE(1, IN_PAIRS) CASE(2, IN_PAIRS) CASE(3, IN_PAIRS) CASE(4, IN_PAIRS)        \
                    CASE(5, IN_PAIRS) CASE(6, IN_PAIRS) CASE(7, IN_PAIRS) CASE(8, IN_PAIRS)        \
                    CASE(9, IN_PAIRS) CASE(10, IN_PAIRS) CASE(11, IN_PAIRS) CASE(12, IN_PAIRS)     \
                }                                                                                  \
    }
#define CASE(n, IN_PAIRS)                                                                          \
    case n:                                                                                        \
        if (n <= PANEL_ROWS)                                                                       \
            panel_tile(sums + tile * 16, PANEL_LINES, x, M, w + tile * TILE_WORDS, other, at_once, \
                       n, TILES_AT_ONCE, IN_PAIRS, true);                                          \
        break;
#define HALF(n)                                                                                    \
    case n:                                                                                        \
        panel_tile(sums + tile * 16, PANEL_LINES, x, M, w + tile * TILE_WORDS, other, 1, n, 1,     \
                   true, false);                                                                   \
        break;
// clang-format on
DEFINE_PANEL_TILE_ANY(panel_tile_pairs, true)
DEFINE_PANEL_TILE_ANY(panel_tile_floats, false)
#undef HALF
#undef CASE
#undef DEFINE_PANEL_TILE_ANY

// out (M, cols; rows ld_out apart) = sums (M, width) + bias, then GELU; or added to out. bias may be
// NULL. sums is overwritten.
static void packed_finish(float *out, int ld_out, float *sums, int width, const float *bias, int M,
                          int cols, LinearEnd end) {
    for (int m = 0; m < M; m++, sums += width, out += ld_out) {
        if (bias)
            for (int c = 0; c < cols; c++) sums[c] += bias[c];
        if (end == ADD_TO_OUT)
            for (int c = 0; c < cols; c++) sums[c] += out[c];
        if (end == THEN_GELU)
#pragma omp simd
            for (int c = 0; c < cols; c++) sums[c] *= gelu_sigmoid(sums[c]);
        memcpy(out, sums, (size_t)cols * sizeof(float));
    }
}

// As skinny_linear, but x is what round_rows made of it and w are the panels of W. bias may be NULL.
NEVER_INLINE void packed_linear(float *out, int ld_out, const uint32_t *x, const uint32_t *w,
                                const float *bias, int M, int K, int N, LinearEnd end) {
    // so many rows at a time; if they are several tiles, so many steps of K at a time, whose part of x
    // and of a panel fit the first-level cache
    enum { ROWS = 32, STEPS = 4 };
    const RowsForm form = rows_form(M);
    const size_t x_step = form == ROWS_PAIRS ? STEP_K / 2 * (size_t)M : STEP_K * (size_t)M;
    const size_t other = panel_words(K);
    const int all = (N + PANEL_LINES - 1) / PANEL_LINES, threads = omp_get_num_threads();
    const int first = (int)((int64_t)all * omp_get_thread_num() / threads);
    const int last = (int)((int64_t)all * (omp_get_thread_num() + 1) / threads);
    if (form == ROWS_PANELS) amx_begin();
    for (int panel = first, n_panels; panel < last; panel += n_panels) {
        const uint32_t *b = w + (size_t)panel * other;
        const int n = panel * PANEL_LINES;
        n_panels = M == 1 && panel + 1 < last && TILES_AT_ONCE == 2 && !front_to_back ? 2 : 1;
        const int width = n_panels * PANEL_LINES, cols = N - n < width ? N - n : width;
        for (int m = 0; m < M; m += ROWS) {
            const int rows = M - m < ROWS ? M - m : ROWS;
            float sums[ROWS * PANEL_LINES] __attribute__((aligned(64)));
            if (form == ROWS_PANELS)
                amx_multiply(sums, PANEL_LINES, NULL, 0, x + (size_t)(m / PANEL_LINES) * other, b,
                             0, rows, PANEL_LINES, K, 1.0f, m == 0);
            else {
                memset(sums, 0, (size_t)(rows * width) * sizeof(float));
                const int groups = (rows + PANEL_ROWS - 1) / PANEL_ROWS; // equal: 13 as 7 and 6
                const int most = groups == 1 ? panel_steps(K) : STEPS;
                for (int s = 0; s < panel_steps(K); s += most) {
                    const int steps = panel_steps(K) - s < most ? panel_steps(K) - s : most;
                    const uint32_t *b_s = b + (size_t)s * STEP_WORDS;
                    for (int g = 0; g < groups; g++) {
                        const int i = rows * g / groups, i_n = rows * (g + 1) / groups - i;
                        const uint32_t *x_s = x + (size_t)s * x_step + m + i;
                        if (form == ROWS_PAIRS)
                            panel_tile_pairs(sums + i * width, x_s, M, b_s, other, steps, i_n,
                                             n_panels);
                        else
                            panel_tile_floats(sums + i * width, x_s, M, b_s, other, steps, i_n,
                                              n_panels);
                    }
                }
            }
            packed_finish(out + (size_t)m * ld_out + n, ld_out, sums, width, bias ? bias + n : NULL,
                          rows, cols, end);
        }
    }
    if (form == ROWS_PANELS) amx_end();
#pragma omp barrier
}

// ------------------------------------------------------------------------------------------------
// Choosing a token. In the order of transformers' generate(): temperature, top-k, top-p.

typedef struct {
    double temperature; // divides the logits; 0: always the most probable token
    int top_k;          // keep the k most probable tokens; 0: all
    double top_p;       // then the fewest most probable whose share reaches p; 1: all
    uint64_t seed;
    int max_new_tokens;  // at most so many for each row
    int eos_id;          // this token ends a row; -1: none does
    const int *stop_ids; // (n_stops) so do these
    int n_stops;
    int vocab_size; // draw only ids below this, as many as the tokenizer has; 0: any
} SampleOptions;

typedef struct {
    float p; // probability up to a common factor
    int id;
} Candidate;

// Order of two candidates: by probability, equal ones by id, the higher id first (so torch.sort
// leaves them, which top-p goes by).
static bool candidate_before(Candidate a, Candidate b) {
    return a.p > b.p || (a.p == b.p && a.id > b.id);
}

// Bring the best of c (n) to its front: the first k (k > 0), or as few as possible so that their
// sum reaches `mass` (k = 0). Returns how many. This is quickselect: a pivot parts the candidates,
// and only the part that has the border is looked at again.
static int candidates_cut(Candidate *c, int n, int k, double mass) {
    const double goal = k ? k : fmax(mass, DBL_MIN); // at least one is kept
    double before = 0;                               // number or sum of c[0..low)
    int low = 0, high = n;                           // the border is in [low, high]
    while (low < high) {
        Candidate pivot = c[low + (high - low) / 2];
        c[low + (high - low) / 2] = c[high - 1];
        int m = low;
        double left = 0; // number or sum of those before the pivot: c[low..m)
        for (int i = low; i < high - 1; i++)
            if (candidate_before(c[i], pivot)) {
                Candidate t = c[i];
                c[i] = c[m];
                c[m++] = t;
                left += k ? 1 : t.p;
            }
        c[high - 1] = c[m];
        c[m] = pivot;
        double own = k ? 1 : pivot.p;
        if (before + left >= goal) high = m;
        else if (before + left + own >= goal) return m + 1;
        else before += left + own, low = m + 1;
    }
    return low;
}

// The last of c (n > 0) in the order of candidates.
static Candidate candidates_last(const Candidate *c, int n) {
    Candidate last = c[0];
    for (int i = 1; i < n; i++)
        if (candidate_before(last, c[i])) last = c[i];
    return last;
}

enum { SAMPLE_BLOCK = 64 };

static int block_end(int begin, int n) {
    return begin + SAMPLE_BLOCK < n ? begin + SAMPLE_BLOCK : n;
}

// The k-th largest of x (n), 0 < k <= n. c (n) is scratch. The k-th largest maximum of blocks is a
// lower bound, which leaves few candidates.
static float kth_largest(const float *x, int n, int k, Candidate *c) {
    int blocks = 0, count = 0;
    float bound = -INFINITY;
    for (int i = 0; i < n; i = block_end(i, n), blocks++)
        c[blocks] = (Candidate){max_of(x + i, block_end(i, n) - i), blocks};
    if (k <= blocks) bound = candidates_last(c, candidates_cut(c, blocks, k, 0)).p;
    for (int i = 0; i < n; i++)
        if (x[i] >= bound) c[count++] = (Candidate){x[i], i};
    return count ? candidates_last(c, candidates_cut(c, count, k, 0)).p : bound;
}

static double sum_in_blocks(const float *x, int n) {
    double sum = 0;
    for (int i = 0; i < n; i = block_end(i, n)) sum += sum_of(x + i, block_end(i, n) - i);
    return sum;
}

// The next token from its logits (V), or -1 if they are not finite. p (V) and c (V) are scratch.
//   p_i = exp((logit_i - max) / temperature), 0 for what top-k and top-p leave out
// Top-k keeps every token that is as probable as the k-th. Top-p keeps a token if those before it
// have less than top_p together, so the most probable always stays. Both are what transformers'
// warpers do. The draw walks up the p_i in the order of ids.
static int sample_token(const float *logits, int V, const SampleOptions *o, Rng *rng, float *p,
                        Candidate *c) {
    const float max = max_of(logits, V);
    if (!isfinite(max)) return -1;
    if (o->temperature == 0) {
        int best = 0;
        while (logits[best] != max) best++;
        return best;
    }
    const float scale = (float)(1.0 / o->temperature);
    const float least =
        o->top_k > 0 && o->top_k < V ? kth_largest(logits, V, o->top_k, c) : -FLT_MAX;
#pragma omp simd
    for (int i = 0; i < V; i++) // NaN stays NaN
        p[i] = exp_poly((logits[i] - max) * scale) * (float)!(logits[i] < least);
    double total = sum_in_blocks(p, V);
    if (!isfinite(total)) return -1;
    if (o->top_p < 1) {
        // All tokens below this bound together have less than 1 - top_p: none of them is kept.
        const float bound = (float)((1 - o->top_p) * total / V * 0.999);
        int n = 0;
        for (int i = 0; i < V; i++)
            if (p[i] > bound) c[n++] = (Candidate){p[i], i};
        Candidate last = candidates_last(c, candidates_cut(c, n, 0, o->top_p * total));
        for (int i = 0; i < V; i++)
            if (p[i] < last.p || (p[i] == last.p && i < last.id)) p[i] = 0;
        total = sum_in_blocks(p, V);
    }
    double u = rng_uniform(rng) * total;
    int token = 0;
    for (int i = 0, end; i < V; i = end) {
        end = block_end(i, V);
        float block = sum_of(p + i, end - i);
        if (u >= block && end < V) {
            u -= block;
            continue;
        }
        for (int k = i; k < end; k++) {
            if (p[k] > 0) token = k; // if rounding leaves u above all, the last one is drawn
            if (u < p[k]) return k;
            u -= p[k];
        }
        if (block > 0) return token;
    }
    return token;
}

// ------------------------------------------------------------------------------------------------
// Attention with the cache. For each layer and head of a row:
//   keys    (room / KEY_BLOCK, HS, KEY_BLOCK)   16 keys side by side: a query meets them as lanes
//   values  (room, HS)
// room is the row's final length, rounded up to KEY_BLOCK.

enum { KEY_BLOCK = 16, CACHE_AHEAD = 2 * KEY_BLOCK };

// Put the key and the value (HS) of position t into the cache of one head.
static void cache_put(float *keys, float *values, const float *key, const float *value, int t,
                      int HS) {
    float *column = keys + (size_t)(t / KEY_BLOCK) * HS * KEY_BLOCK + t % KEY_BLOCK;
    for (int i = 0; i < HS; i++) column[(size_t)i * KEY_BLOCK] = key[i];
    memcpy(values + (size_t)t * HS, value, (size_t)HS * sizeof(float));
}

// out (vecs * LANES) = sum over t < T of p[t] times the first numbers of row t of values (T, HS).
// vecs is a constant after inlining.
ALWAYS_INLINE void values_sum(float *out, const float *p, const float *values, int T, int HS,
                              const float *next, const int vecs) {
    Vec sum[64 / LANES] = {{0}};
    for (int t = 0; t < T; t++) {
        const int later = t + CACHE_AHEAD;
        const float *ahead = (later < T ? values : next - (size_t)T * HS) + (size_t)later * HS;
        for (int j = 0; j < vecs * LANES; j += LINE_FLOATS) __builtin_prefetch(ahead + j, 0, 2);
#pragma GCC unroll 16
        for (int j = 0; j < vecs; j++)
            sum[j] += p[t] * *(const Vec *)(values + (size_t)t * HS + j * LANES);
    }
#pragma GCC unroll 16
    for (int j = 0; j < vecs; j++) *(Vec *)(out + j * LANES) = sum[j];
}

// out (HS) = softmax(q K^T / sqrt(HS)) V over positions [0, T). scores (T rounded up to KEY_BLOCK)
// is scratch. Keys, values and then `next`, the keys that are read after this call (any address will
// do), are fetched CACHE_AHEAD positions ahead: else the memory rests at every change between them.
NEVER_INLINE void cache_attend(float *out, float *scores, const float *q, const float *keys,
                               const float *values, const float *next, int T, int HS) {
    const float scale = 1.0f / sqrtf((float)HS);
    for (int t = 0; t < T; t += KEY_BLOCK) {
        const float *block = keys + (size_t)t * HS;
        const int later = t + CACHE_AHEAD;
        const float *ahead = later < T ? keys + (size_t)later * HS
                                       : values + (size_t)(later - round_up(T, KEY_BLOCK)) * HS;
        Vec s[KEY_BLOCK / LANES] = {{0}};
        for (int i = 0; i < HS; i++) {
            __builtin_prefetch(ahead + i * LINE_FLOATS, 0, 2);
#pragma GCC unroll 4
            for (int j = 0; j < KEY_BLOCK / LANES; j++)
                s[j] += q[i] * *(const Vec *)(block + (size_t)i * KEY_BLOCK + j * LANES);
        }
        for (int j = 0; j < KEY_BLOCK / LANES; j++) *(Vec *)(scores + t + j * LANES) = s[j] * scale;
    }
    const float max = max_of(scores, T);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int t = 0; t < T; t++) sum += scores[t] = exp_poly(scores[t] - max);
    int i = 0;
    for (; i + 64 <= HS; i += 64)
        values_sum(out + i, scores, values + i, T, HS, next + i, 64 / LANES);
    for (; i + 16 <= HS; i += 16)
        values_sum(out + i, scores, values + i, T, HS, next + i, 16 / LANES);
    for (; i < HS; i++) {
        out[i] = 0;
        for (int t = 0; t < T; t++) out[i] += scores[t] * values[(size_t)t * HS + i];
    }
    for (i = 0; i < HS; i++) out[i] *= 1.0f / sum;
}

// ------------------------------------------------------------------------------------------------
// Sampler

typedef enum { FINISH_NONE, FINISH_EOS, FINISH_LENGTH, FINISH_CONTEXT } Finish;

// Why a row ended, as a word: eos (the model ended it), length (max_new_tokens), context (the
// model has no more positions).
static const char *finish_name(Finish f) {
    const char *names[] = {"none", "eos", "length", "context"};
    return names[f];
}

typedef struct {
    int *tokens;         // (limit) prompt, then what was sampled; EOS too, if that was the end
    int n, n_prompt;     // tokens so far, and how many of them came from the caller
    int n_cached;        // tokens whose keys and values are in the cache
    int limit;           // most tokens that the row may have
    Finish finish;       // FINISH_NONE: still growing
    Rng rng;             // the row's own random numbers
    float *cache;        // (L, NH, 2, room, HS)
    const float *logits; // (V) that the last token was drawn from; NULL once they are overwritten
} SampleRow;

// Some new tokens of one row: `count` of them from position `position` on. One pass takes several
// such runs, PASS_TOKENS tokens at most.
typedef struct {
    SampleRow *row;
    int position, count, first; // first: index of its first token in the pass
} RowSpan;

enum { PASS_TOKENS = 128 };

typedef struct {
    const GPT2 *model;
    SampleOptions options;
    int R, max_R;
    SampleRow *rows; // (R)
    int *tokens;     // all rows' tokens
    size_t max_tokens;
    float *cache; // all rows' caches
    size_t max_cache;
    // One pass: M tokens, n_runs runs, n_heads of which end in a row of logits.
    int M, n_runs, n_heads;
    RowSpan runs[PASS_TOKENS];
    int heads[PASS_TOKENS]; // their runs
    float *memory;          // all of the below, one block, made for `shape`
    GPT2Config shape;
    int threads;
    int ld_c, ld_qkv, ld_i, ld_v; // distance of rows: 16 floats more than a multiple of 16, since
                                  // rows a power of two apart would share few places in the cache
    float *x;                     // (M, ld_c) residual stream
    float *norm;                  // (M, ld_c)
    float *qkv;                   // (M, ld_qkv)
    float *att;                   // (M, ld_c)
    float *fc;                    // (M, ld_i)
    float *partial;               // (partial_size of the widest product)
    float *turned;                // (C, HEAD_LANES)
    float *logits;                // (M, ld_v)
    uint32_t *rounded;            // (M, the longest row) rows for packed_linear
    float *scratch;      // (threads, max(2 ld_v + V, positions)) scores, or p and candidates
    size_t scratch_size; // of one thread
    int picked[PASS_TOKENS];
    // With --bf16: the panels of all matrices that rows are multiplied with.
    bool bf16;
    uint64_t packed_stamp; // of the weights that were packed
    size_t packed_words;
    uint32_t *packed;
} Sampler;

// Where a matrix is in `packed`: wte first, as (C, V), then four matrices a layer.
typedef enum {
    PACKED_ATTN,
    PACKED_ATTN_PROJ,
    PACKED_FC,
    PACKED_FC_PROJ,
    PACKED_LAYER
} PackedMatrix;

// Words of `packed` before this matrix of layer l; l = n_layer: of all.
static size_t packed_offset(const GPT2Config *c, int l, PackedMatrix matrix) {
    const size_t sizes[PACKED_LAYER] = {
        panels_words(3 * c->n_embd, c->n_embd), panels_words(c->n_embd, c->n_embd),
        panels_words(c->n_inner, c->n_embd), panels_words(c->n_embd, c->n_inner)};
    size_t layer = 0, offset = panels_words(c->vocab_size, c->n_embd);
    for (int i = 0; i < PACKED_LAYER; i++) {
        layer += sizes[i];
        if (i < (int)matrix) offset += sizes[i];
    }
    return offset + (size_t)l * layer;
}

// Round and pack the model's weights, if s has not packed just these. Takes as long as four tokens.
static void sampler_pack(Sampler *s, const GPT2 *model) {
    const GPT2Config *c = &model->config;
    const int C = c->n_embd, I_ = c->n_inner;
    if (s->packed && s->packed_stamp == model->weights_stamp) return;
    const size_t words = packed_offset(c, c->n_layer, PACKED_ATTN);
    if (words != s->packed_words) {
        free(s->packed);
        s->packed = (uint32_t *)(void *)mem_floats(s->packed_words = words);
    }
    panels_pack(s->packed, model->w.wte, C, true, RIGHT_FACTOR, c->vocab_size, C);
    for (int l = 0; l < c->n_layer; l++) {
        const LayerWeights *h = &model->w.h[l];
        const struct {
            const float *w;
            int K, N;
        } matrices[PACKED_LAYER] = {[PACKED_ATTN] = {h->attn_w, C, 3 * C},
                                    [PACKED_ATTN_PROJ] = {h->attn_proj_w, C, C},
                                    [PACKED_FC] = {h->fc_w, C, I_},
                                    [PACKED_FC_PROJ] = {h->fc_proj_w, I_, C}};
        for (int i = 0; i < PACKED_LAYER; i++)
            panels_pack(s->packed + packed_offset(c, l, (PackedMatrix)i), matrices[i].w,
                        matrices[i].N, false, RIGHT_FACTOR, matrices[i].N, matrices[i].K);
    }
    s->packed_stamp = model->weights_stamp;
}

// Place the scratch memory for this model, if it is not there yet.
static void sampler_reserve(Sampler *s, const GPT2 *model) {
    const GPT2Config *c = &model->config;
    const int C = c->n_embd, I_ = c->n_inner, V = c->vocab_size, threads = omp_get_max_threads();
    if (s->memory && s->shape.n_embd == C && s->shape.n_inner == I_ && s->shape.vocab_size == V &&
        s->shape.n_positions == c->n_positions && s->threads == threads)
        return;
    s->shape = *c, s->threads = threads;
    s->ld_c = round_up(C, 16) + 16, s->ld_qkv = round_up(3 * C, 16) + 16;
    s->ld_i = round_up(I_, 16) + 16, s->ld_v = round_up(V, 16) + 16;
    size_t positions = (size_t)round_up(c->n_positions, KEY_BLOCK), widest = (size_t)s->ld_qkv;
    if ((size_t)s->ld_i > widest) widest = (size_t)s->ld_i;
    s->scratch_size = 3 * (size_t)s->ld_v > positions ? 3 * (size_t)s->ld_v : positions;
    const struct {
        float **field;
        size_t size;
    } parts[] = {
        {&s->x, PASS_TOKENS * (size_t)s->ld_c},
        {&s->norm, PASS_TOKENS * (size_t)s->ld_c},
        {&s->qkv, PASS_TOKENS * (size_t)s->ld_qkv},
        {&s->att, PASS_TOKENS * (size_t)s->ld_c},
        {&s->fc, PASS_TOKENS * (size_t)s->ld_i},
        {&s->partial, partial_size(PASS_TOKENS, (int)widest)},
        {&s->turned, HEAD_LANES * (size_t)s->ld_c},
        {&s->logits, PASS_TOKENS * (size_t)s->ld_v},
        {&s->scratch, (size_t)threads * s->scratch_size},
        {(float **)(void *)&s->rounded, rounded_words(PASS_TOKENS, C > I_ ? C : I_)},
    };
    size_t total = 0;
    for (int i = 0; i < COUNT(parts); i++) total += (parts[i].size + 15) / 16 * 16;
    free(s->memory);
    float *p = s->memory = mem_floats(total);
    for (int i = 0; i < COUNT(parts); p += (parts[i].size + 15) / 16 * 16, i++) *parts[i].field = p;
}

static void sampler_free(Sampler *s) {
    free(s->rows), free(s->tokens), free(s->cache), free(s->memory), free(s->packed);
    *s = (Sampler){0};
}

// out (C) = LayerNorm of x (C), as layernorm_forward computes it.
static void norm_row(float *out, const float *x, const float *w, const float *b, int C, float eps) {
    float m = sum_of(x, C) / (float)C, v = 0;
#pragma omp simd reduction(+ : v)
    for (int i = 0; i < C; i++) v += (x[i] - m) * (x[i] - m);
    const float rstd = 1.0f / sqrtf(v / (float)C + eps);
    for (int i = 0; i < C; i++) out[i] = (x[i] - m) * rstd * w[i] + b[i];
}

// out (M, N) = x (M, K) W + bias, as skinny_linear, in bfloat16 if the sampler works in that. Rows of
// x and out are ld_x and ld_out floats apart. w and `matrix` are the same of layer l.
static void sampler_linear(Sampler *s, float *out, int ld_out, const float *x, int ld_x,
                           const float *w, PackedMatrix matrix, int l, const float *bias, int K,
                           int N, LinearEnd end) {
    if (!s->bf16) {
        skinny_linear(out, ld_out, x, ld_x, w, bias, s->partial, s->M, K, N, end);
        return;
    }
    round_rows(s->rounded, x, ld_x, s->M, K);
    packed_linear(out, ld_out, s->rounded, s->packed + packed_offset(&s->model->config, l, matrix),
                  bias, s->M, K, N, end);
}

// Run the pass's tokens through the model: keys and values go into the cache, logits are made for
// the runs in s->heads, and a token is drawn from each into s->picked. Called by all threads of a
// parallel region together; each `omp for` ends with them waiting for each other.
static void sampler_pass(Sampler *s) {
    const GPT2Config *c = &s->model->config;
    const int M = s->M, C = c->n_embd, I_ = c->n_inner, NH = c->n_head, HS = C / NH;
    const int known = s->options.vocab_size,
              V = known > 0 && known < c->vocab_size ? known : c->vocab_size;
    const float eps = c->layer_norm_epsilon;
    const Weights *w = &s->model->w;
    const int ld = s->ld_c;
    float *scratch = s->scratch + (size_t)omp_get_thread_num() * s->scratch_size;
#pragma omp for schedule(static)
    for (int i = 0; i < s->n_runs; i++)
        for (int k = 0; k < s->runs[i].count; k++) {
            const RowSpan *run = &s->runs[i];
            const float *e = w->wte + (size_t)run->row->tokens[run->position + k] * C;
            const float *p = w->wpe + (size_t)(run->position + k) * C;
            float *x = s->x + (size_t)(run->first + k) * ld;
            for (int j = 0; j < C; j++) x[j] = e[j] + p[j];
        }
    for (int l = 0; l < c->n_layer; l++) {
        const LayerWeights *h = &w->h[l];
#pragma omp for schedule(static)
        for (int m = 0; m < M; m++)
            norm_row(s->norm + (size_t)m * ld, s->x + (size_t)m * ld, h->ln_1_w, h->ln_1_b, C, eps);
        sampler_linear(s, s->qkv, s->ld_qkv, s->norm, ld, h->attn_w, PACKED_ATTN, l, h->attn_b, C,
                       3 * C, THEN_NOTHING);
        // Rows may be of very different lengths: each thread takes some heads of every row.
        const int share = (NH + omp_get_num_threads() - 1) / omp_get_num_threads();
#pragma omp for schedule(static, share)
        for (int task = 0; task < s->n_runs * NH; task++) {
            const RowSpan *run = &s->runs[task / NH];
            const int head = task % NH, room = round_up(run->row->limit, KEY_BLOCK);
            float *keys = run->row->cache + ((size_t)l * NH + head) * 2 * room * HS;
            float *values = keys + (size_t)room * HS;
            for (int k = 0; k < run->count; k++) {
                const float *q = s->qkv + (size_t)(run->first + k) * s->ld_qkv + head * HS;
                int t = run->position + k;
                cache_put(keys, values, q + C, q + 2 * C, t, HS);
                // most often this thread's next head is the one whose keys come after these values
                cache_attend(s->att + (size_t)(run->first + k) * ld + head * HS, scratch, q, keys,
                             values, values + (size_t)room * HS, t + 1, HS);
            }
        }
        sampler_linear(s, s->x, ld, s->att, ld, h->attn_proj_w, PACKED_ATTN_PROJ, l, h->attn_proj_b,
                       C, C, ADD_TO_OUT);
#pragma omp for schedule(static)
        for (int m = 0; m < M; m++)
            norm_row(s->norm + (size_t)m * ld, s->x + (size_t)m * ld, h->ln_2_w, h->ln_2_b, C, eps);
        sampler_linear(s, s->fc, s->ld_i, s->norm, ld, h->fc_w, PACKED_FC, l, h->fc_b, C, I_,
                       THEN_GELU);
        sampler_linear(s, s->x, ld, s->fc, s->ld_i, h->fc_proj_w, PACKED_FC_PROJ, l, h->fc_proj_b,
                       I_, C, ADD_TO_OUT);
    }
#pragma omp for schedule(static)
    for (int i = 0; i < s->n_heads; i++) {
        const RowSpan *run = &s->runs[s->heads[i]];
        norm_row(s->norm + (size_t)i * ld, s->x + (size_t)(run->first + run->count - 1) * ld,
                 w->ln_f_w, w->ln_f_b, C, eps);
    }
    if (s->bf16 && s->n_heads) {
        round_rows(s->rounded, s->norm, ld, s->n_heads, C);
        packed_linear(s->logits, s->ld_v, s->rounded, s->packed, NULL, s->n_heads, C, V,
                      THEN_NOTHING);
    } else skinny_head(s->logits, s->ld_v, s->norm, ld, w->wte, s->turned, s->n_heads, C, V);
#pragma omp for schedule(static, 1)
    for (int i = 0; i < s->n_heads; i++) {
        SampleRow *row = s->runs[s->heads[i]].row;
        row->logits = s->logits + (size_t)i * s->ld_v;
        s->picked[i] = sample_token(row->logits, V, &s->options, &row->rng, scratch,
                                    (Candidate *)(void *)(scratch + s->ld_v));
    }
}

// Append a drawn token to its row and see whether the row ends with it.
static void row_append(SampleRow *row, int token, const SampleOptions *o) {
    row->tokens[row->n++] = token;
    bool ends = token == o->eos_id;
    for (int i = 0; i < o->n_stops; i++) ends |= token == o->stop_ids[i];
    if (ends) row->finish = FINISH_EOS;
    else if (row->n == row->n_prompt + o->max_new_tokens) row->finish = FINISH_LENGTH;
    else if (row->n == row->limit) row->finish = FINISH_CONTEXT;
}

// Tokens of a prompt that are kept where max_new_tokens are to be sampled after it: what these leave of the
// context, but half of it at least.
static size_t prompt_room(int context, int max_new_tokens) {
    const int most = max_new_tokens < context / 2 ? max_new_tokens : context / 2;
    return (size_t)(context - most);
}

// Lay out the rows for these prompts (a batch's masks are ignored). Nothing is computed yet: the
// first sampler_step runs the prompts. Row r of the batch draws from random stream first_row + r of
// the seed, so a row's text does not change with the batch it is put into. A zeroed Sampler is
// ready for use, and its memory is kept from call to call. The model's weights may change between
// calls, but not between this call and the last step.
// Dies if a prompt has no tokens, more than the model has positions, or a token that it does not
// know.
static void sampler_begin(Sampler *s, const GPT2 *model, const SampleOptions *o,
                          const Batch *prompts, uint64_t first_row) {
    const GPT2Config *c = &model->config;
    const int P = c->n_positions;
    size_t n_tokens = 0, n_cache = 0;
    sampler_reserve(s, model);
    s->model = model, s->options = *o, s->R = prompts->R, s->n_heads = 0;
    s->bf16 = use_bf16;
    front_to_back_begin();
    if (s->bf16) {
        if (bf16_road == BF16_UNKNOWN) bf16_begin();
        sampler_pack(s, model);
    }
    if (s->R > s->max_R) {
        s->max_R = s->R;
        s->rows = mem_resize(s->rows, (size_t)s->max_R, sizeof *s->rows);
    }
    for (int r = 0; r < s->R; r++) {
        const int *tokens = prompts->tokens + prompts->row_start[r];
        const int n = prompts->row_start[r + 1] - prompts->row_start[r];
        if (n == 0) die(EXIT_BAD_INPUT, "prompt %d has no tokens", r + 1);
        if (n > P)
            die(EXIT_BAD_INPUT, "prompt %d has %d tokens, the model has %d positions", r + 1, n, P);
        for (int t = 0; t < n; t++)
            if (tokens[t] < 0 || tokens[t] >= c->vocab_size)
                die(EXIT_BAD_INPUT, "token id %d is outside the model's vocabulary of %d",
                    tokens[t], c->vocab_size);
        SampleRow *row = &s->rows[r];
        *row = (SampleRow){.n = n, .n_prompt = n};
        row->limit = o->max_new_tokens < P - n ? n + o->max_new_tokens : P;
        row->finish = o->max_new_tokens == 0 ? FINISH_LENGTH
                      : n == P               ? FINISH_CONTEXT
                                             : FINISH_NONE;
        row->rng = rng_make(o->seed, RNG_SAMPLE + ((first_row + (uint64_t)r) << 8));
        n_tokens += (size_t)row->limit;
        n_cache +=
            (size_t)round_up(row->limit, KEY_BLOCK) * 2 * (size_t)c->n_embd * (size_t)c->n_layer;
    }
    if (n_tokens > s->max_tokens) {
        s->max_tokens = n_tokens;
        s->tokens = mem_resize(s->tokens, n_tokens, sizeof(int));
    }
    if (n_cache > s->max_cache) {
        free(s->cache);
        s->cache = mem_floats(s->max_cache = n_cache);
    }
    n_tokens = n_cache = 0;
    for (int r = 0; r < s->R; r++) {
        SampleRow *row = &s->rows[r];
        row->tokens = s->tokens + n_tokens;
        row->cache = s->cache + n_cache;
        memcpy(row->tokens, prompts->tokens + prompts->row_start[r], (size_t)row->n * sizeof(int));
        n_tokens += (size_t)row->limit;
        n_cache +=
            (size_t)round_up(row->limit, KEY_BLOCK) * 2 * (size_t)c->n_embd * (size_t)c->n_layer;
    }
}

// Every row that has not ended grows by one token; the first step runs the prompts too. Returns
// how many rows have still not ended. Dies (EXIT_DIVERGED) if logits are not finite.
static int sampler_step(Sampler *s) {
    int r = 0, live = 0; // row r comes next
    while (r < s->R) {
        for (int i = 0; i < s->n_heads; i++) s->runs[s->heads[i]].row->logits = NULL;
        s->M = s->n_runs = s->n_heads = 0;
        for (; r < s->R && s->M < PASS_TOKENS; r++) {
            SampleRow *row = &s->rows[r];
            if (row->finish) continue;
            int pending = row->n - row->n_cached, room = PASS_TOKENS - s->M;
            int done = pending < room ? pending : room;
            if (done == pending) s->heads[s->n_heads++] = s->n_runs;
            s->runs[s->n_runs++] = (RowSpan){row, row->n_cached, done, s->M};
            row->n_cached += done;
            s->M += done;
            if (done < pending) break; // the rest in the next pass
        }
        if (s->M == 0) break;
#pragma omp parallel
        sampler_pass(s);
        for (int i = 0; i < s->n_heads; i++) {
            SampleRow *row = s->runs[s->heads[i]].row;
            if (s->picked[i] < 0)
                die(EXIT_DIVERGED, "the model's logits are not finite at position %d", row->n);
            row_append(row, s->picked[i], &s->options);
            live += !row->finish;
        }
    }
    return live;
}

// Sample a completion for each prompt. `out` is cleared and gets one row for each: prompt,
// completion and, if that was the end, EOS, with the mask set on what was sampled; so it is ready
// for gpt2_forward and the head. finish (R) says why each ended; it may be NULL.
static void sample_batch(Sampler *s, const GPT2 *model, const SampleOptions *o,
                         const Batch *prompts, uint64_t first_row, Batch *out, Finish *finish) {
    sampler_begin(s, model, o, prompts, first_row);
    while (sampler_step(s) > 0) continue;
    batch_clear(out);
    for (int r = 0; r < s->R; r++) {
        const SampleRow *row = &s->rows[r];
        batch_add_row(out, row->tokens, NULL, row->n);
        memset(out->mask + out->row_start[r], 0, (size_t)row->n_prompt);
        if (finish) finish[r] = row->finish;
    }
}

#endif
