// test_sample.c once more, on AMX and AVX512-BF16 in plain C: all roads of sampling in bfloat16 are
// tested on every CPU.
#include "amx_emulated.h"
#include "avx512_emulated.h"
#include "test_sample.c"
