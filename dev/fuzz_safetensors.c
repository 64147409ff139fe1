// fuzz_safetensors.c: throws bytes at the safetensors reader until something gives. Any file is
// either refused with a message or read to the last tensor; never a crash, never a bad access.
//
//   clang -g -O1 -fsanitize=fuzzer,address,undefined dev/fuzz_safetensors.c -o fuzz -lcjson -lm
//   ./fuzz -max_total_time=300 -max_len=4096 -detect_leaks=0 CORPUS_DIR
//
// An input is a header's length (two bytes, the lower first), the header and the data. If the
// length is even, the file claims no more than there is; if it is odd, just that. A seed:
//
//   printf 'D\0{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}    1234' > CORPUS_DIR/a
//
// The reader ends the process when it refuses a file; here _exit() jumps back instead, and what had
// been allocated is freed from a list.
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static jmp_buf refused;
static void **blocks; // everything allocated since the input began
static size_t n_blocks;

__attribute__((noreturn)) static void fuzz_exit(int code) { longjmp(refused, code ? code : 1); }

static void *fuzz_keep(void *p) {
    if (p) {
        blocks = (realloc)(blocks, (n_blocks + 1) * sizeof *blocks);
        blocks[n_blocks++] = p;
    }
    return p;
}

static void fuzz_free(void *p) {
    for (size_t i = n_blocks; p && i-- > 0;)
        if (blocks[i] == p) {
            blocks[i] = blocks[--n_blocks];
            break;
        }
    (free)(p);
}

static void *fuzz_malloc(size_t n) { return fuzz_keep((malloc)(n)); }
static void *fuzz_calloc(size_t n, size_t size) { return fuzz_keep((calloc)(n, size)); }
static void *fuzz_realloc(void *p, size_t n) {
    for (size_t i = n_blocks; p && i-- > 0;)
        if (blocks[i] == p) {
            blocks[i] = blocks[--n_blocks];
            break;
        }
    return fuzz_keep((realloc)(p, n));
}

#define _exit(code) fuzz_exit(code)
#define malloc(n) fuzz_malloc(n)
#define calloc(n, size) fuzz_calloc(n, size)
#define realloc(p, n) fuzz_realloc(p, n)
#define free(p) fuzz_free(p)
#include "../lib/files/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    if (fd < 0) {
        cJSON_Hooks hooks = {fuzz_malloc, fuzz_free};
        cJSON_InitHooks(&hooks);
        if (!freopen("/dev/null", "w", stdout)) abort();
        fd = memfd_create("fuzz", 0);
        if (fd < 0) abort();
    }
    if (size < 2) return 0;
    char path[32];
    uint64_t claimed = data[0] | (uint64_t)data[1] << 8, length = claimed & ~(uint64_t)1;
    data += 2, size -= 2;
    length = claimed % 2 || length < size ? claimed : size;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (ftruncate(fd, 0) || pwrite(fd, &length, 8, 0) != 8 ||
        pwrite(fd, data, size, 8) != (ssize_t)size)
        abort();

    static SafeFile f;
    static float floats[1 << 16];
    f = (SafeFile){.fd = -1};
    FILE *errors = stderr;
    stderr = stdout; // messages to /dev/null, the fuzzer's own stay visible
    if (!setjmp(refused)) {
        safetensors_open(&f, path);
        for (int i = 0; i < f.n; i++) {
            size_t n = (size_t)f.tensors[i].count;
            if (n <= sizeof floats / sizeof floats[0])
                safetensors_read(&f, &f.tensors[i], 0, n, floats);
        }
    }
    stderr = errors;
    if (f.fd >= 0) close(f.fd);
    while (n_blocks) (free)(blocks[--n_blocks]);
    return 0;
}
