// amx_emulated.h: the instructions of AMX in plain C, so that amx.h runs on every CPU. To be
// included before every other header of align.c. What a CPU would refuse with a fault, and what the
// manual leaves undefined, aborts here. Tiles are read and written as ordinary memory, so that
// AddressSanitizer sees all of it.
//
// Source: Intel's Software Developer's Manual, volume 2, TDPBF16PS: per output, the products of the
// even numbers of the pairs and those of the odd ones are summed apart, both from 0 and in the
// order of k; then the two sums are added, and that to the output. Every step rounds to the
// nearest, ties to even, and takes subnormal numbers for 0, whatever the process has set.
#ifndef AMX_EMULATED_H
#define AMX_EMULATED_H
#define AMX_EMULATED

#include "../lib/base/common.h"
#ifdef __x86_64__
#include <immintrin.h> // defines the true instructions, which the macros below replace
#endif

#define AMX_REQUIRE(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "AMX would fault: %s (%s)\n", #condition, __func__);                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} AmxConfig;

// What a thread has: palette 0 is "not configured". A tile that was neither loaded nor written
// since then holds zeros in hardware; to read it is a mistake all the same.
static _Thread_local AmxConfig amx_config;
static _Thread_local float amx_tile[8][16][16];
static _Thread_local bool amx_written[8];

static void amx_release(void) {
    amx_config = (AmxConfig){0};
    memset(amx_written, 0, sizeof amx_written);
}

static void amx_loadconfig(const void *from) {
    AmxConfig c;
    memcpy(&c, from, sizeof c);
    AMX_REQUIRE(sizeof c == 64 && c.palette == 1 && c.start_row == 0);
    for (int i = 0; i < 14; i++) AMX_REQUIRE(c.reserved[i] == 0);
    for (int i = 0; i < 16; i++) {
        AMX_REQUIRE(c.rows[i] <= (i < 8 ? 16 : 0) && c.row_bytes[i] <= (i < 8 ? 64 : 0));
        AMX_REQUIRE((c.rows[i] == 0) == (c.row_bytes[i] == 0) && c.row_bytes[i] % 4 == 0);
    }
    amx_release();
    amx_config = c;
}

static void amx_check_tile(int t) {
    AMX_REQUIRE(amx_config.palette == 1 && t >= 0 && t < 8 && amx_config.rows[t] > 0);
}

static void amx_zero(int t) {
    amx_check_tile(t);
    memset(amx_tile[t], 0, sizeof amx_tile[t]);
    amx_written[t] = true;
}

// stride: bytes from row to row, perhaps 0.
static void amx_load(int t, const void *from, size_t stride) {
    amx_zero(t);
    for (int i = 0; i < amx_config.rows[t]; i++)
        memcpy(amx_tile[t][i], (const char *)from + (size_t)i * stride, amx_config.row_bytes[t]);
}

static void amx_store(int t, void *to, size_t stride) {
    amx_check_tile(t);
    AMX_REQUIRE(amx_written[t]);
    for (int i = 0; i < amx_config.rows[t]; i++)
        memcpy((char *)to + (size_t)i * stride, amx_tile[t][i], amx_config.row_bytes[t]);
}

// Sixteen numbers at a time: the compiler makes vector code of these without optimisation too.
typedef float AmxRow __attribute__((vector_size(64)));
typedef int32_t AmxBits __attribute__((vector_size(64)));

// A subnormal x becomes 0.
static inline void amx_flush(AmxRow *x) {
    const AmxBits bits = (AmxBits)*x, normal = (bits & 0x7F800000) != 0;
    *x = (AmxRow)(bits & (normal | INT32_MIN));
}

// half (16) <- the even or odd numbers of 16 pairs.
static inline void amx_half(AmxRow *half, const float pairs[16], bool odd) {
    AmxBits bits;
    memcpy(&bits, pairs, sizeof bits);
    *half = (AmxRow)(odd ? bits & (int32_t)0xFFFF0000 : bits << 16);
    amx_flush(half);
}

static void amx_dpbf16ps(int c, int a, int b) {
    amx_check_tile(a);
    amx_check_tile(b);
    amx_check_tile(c);
    AMX_REQUIRE(a != b && b != c && a != c && amx_written[a] && amx_written[b] && amx_written[c]);
    AMX_REQUIRE(amx_config.rows[a] == amx_config.rows[c]);
    AMX_REQUIRE(amx_config.row_bytes[b] == amx_config.row_bytes[c]);
    AMX_REQUIRE(amx_config.row_bytes[a] == 4 * amx_config.rows[b]);
    AmxRow factor[16][2];
    for (int k = 0; k < amx_config.rows[b]; k++)
        for (int odd = 0; odd < 2; odd++) amx_half(&factor[k][odd], amx_tile[b][k], odd);
    for (int m = 0; m < amx_config.rows[c]; m++) {
        AmxRow x[2], sum[2] = {0}, all;
        for (int odd = 0; odd < 2; odd++) {
            amx_half(&x[odd], amx_tile[a][m], odd);
            for (int k = 0; k < amx_config.rows[b]; k++) {
                sum[odd] += x[odd][k] * factor[k][odd]; // products are exact, unless they are tiny
                amx_flush(&sum[odd]);
            }
        }
        sum[0] += sum[1];
        amx_flush(&sum[0]);
        memcpy(&all, amx_tile[c][m], sizeof all);
        amx_flush(&all);
        all += sum[0];
        amx_flush(&all);
        memcpy(amx_tile[c][m], &all, sizeof all);
    }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig amx_loadconfig
#define _tile_release amx_release
#define _tile_zero amx_zero
#define _tile_loadd amx_load
#define _tile_stored amx_store
#define _tile_dpbf16ps amx_dpbf16ps

#endif
