// test_bf16.c once more, on AMX in plain C, so that amx.h and attention's products are tested on every
// CPU, and more strictly than AMX itself would; and on AVX512-BF16 where AVX-512 can stand in for it.
#include "amx_emulated.h"
#include "avx512_emulated.h"
#include "test_bf16.c"
