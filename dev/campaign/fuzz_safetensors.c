// fuzz_safetensors.c: throws bytes at the safetensors reader (fuzz.h). Any file is either refused with a
// message or read to the last tensor; never a crash, never a bad access.
//
// An input is a header's length (two bytes, the lower first), the header and the data. If the length is even,
// the file claims no more than there is; if it is odd, just that.
#include "fuzz.h" // defines: fuzz_file
#include "../../lib/files/safetensors.h"

static void fuzz_setup(void) {}

static void fuzz_input(const uint8_t *data, size_t size) {
    static unsigned char bytes[1 << 16];
    static float floats[1 << 16];
    if (size < 2 || size + 6 > sizeof bytes) return;
    uint64_t claimed = data[0] | (uint64_t)data[1] << 8, length = claimed & ~(uint64_t)1;
    data += 2, size -= 2;
    length = claimed % 2 || length < size ? claimed : size;
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, data, size);

    static SafeFile f; // too large for the stack
    f = (SafeFile){.fd = -1};
    safetensors_open(&f, fuzz_file(bytes, size + 8));
    for (int i = 0; i < f.n; i++) {
        const size_t n = (size_t)f.tensors[i].count;
        if (n <= sizeof floats / sizeof floats[0])
            safetensors_read(&f, &f.tensors[i], 0, n, floats);
    }
}
