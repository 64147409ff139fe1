// avx512_emulated.h: the two instructions of AVX512-BF16 that panels.h and bf16.h use, for a CPU
// that has AVX-512 without them. To be included before every other header of align.c. Numbers as in
// Intel's manual: they round to the nearest, ties to even, and take subnormal numbers for 0.
#ifndef AVX512_EMULATED_H
#define AVX512_EMULATED_H
#if defined(__AVX512F__) && defined(__AVX512BW__) && !defined(__AVX512BF16__)
#define __AVX512BF16__ 1

#include "../lib/base/common.h"
#include <immintrin.h>

typedef float Avx512Row __attribute__((vector_size(64)));
typedef uint32_t Avx512Bits __attribute__((vector_size(64)));

// x (16) becomes the nearest bfloat16, in the upper half. NaN stays NaN.
static inline void avx512_round(Avx512Bits *x) {
    const Avx512Bits size = *x & 0x7FFFFFFF;
    const Avx512Bits nan = (Avx512Bits)(size > 0x7F800000), tiny = (Avx512Bits)(size < 0x00800000);
    const Avx512Bits near = (*x + 0x7FFF + (*x >> 16 & 1)) & 0xFFFF0000;
    *x = (nan & 0x7FC00000) | (~nan & tiny & *x & 0x80000000) | (~nan & ~tiny & near);
}

static inline __m512bh avx512_cvtne2ps_pbh(__m512 high, __m512 low) {
    Avx512Bits halves[2] = {(Avx512Bits)low, (Avx512Bits)high};
    uint16_t to[32];
    for (int half = 0; half < 2; half++) {
        avx512_round(&halves[half]);
        for (int i = 0; i < 16; i++) to[16 * half + i] = (uint16_t)(halves[half][i] >> 16);
    }
    __m512bh result;
    memcpy(&result, to, sizeof result);
    return result;
}

static inline void avx512_flush(Avx512Row *x) {
    const Avx512Bits bits = (Avx512Bits)*x, normal = (Avx512Bits)((bits & 0x7F800000) != 0);
    *x = (Avx512Row)(bits & (normal | 0x80000000));
}

// sum + the products of the odd numbers, then of the even ones
static inline __m512 avx512_dpbf16_ps(__m512 sum, __m512bh a, __m512bh b) {
    Avx512Bits x, y;
    Avx512Row to = (Avx512Row)sum;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    to += (Avx512Row)(x & 0xFFFF0000) * (Avx512Row)(y & 0xFFFF0000);
    avx512_flush(&to);
    to += (Avx512Row)(x << 16) * (Avx512Row)(y << 16);
    avx512_flush(&to);
    return (__m512)to;
}

#define _mm512_cvtne2ps_pbh avx512_cvtne2ps_pbh
#define _mm512_dpbf16_ps avx512_dpbf16_ps

#endif
#endif
