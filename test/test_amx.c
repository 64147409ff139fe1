// test_bf16.c once more, on AMX instructions in plain C: amx.h and attention's products are tested on
// every CPU, and more strictly than AMX itself would.
#include "amx_emulated.h"
#include "test_bf16.c"
