// fuzz.h: what the libFuzzer targets share. A reader of ours ends the process when it refuses its input; here
// _exit() jumps back instead, and what had been allocated and opened since the input began is released from
// lists. So this header comes before all of ours. A target is
//
//     #include "fuzz.h"
//     #include "../../lib/.."
//     static void fuzz_setup(void) { .. }                             // once; nothing in it is released
//     static void fuzz_input(const uint8_t *data, size_t size) { .. } // may die; need not free anything
//
// and fuzz.sh builds it with clang -fsanitize=fuzzer,address,undefined. Messages go to /dev/null; libFuzzer's
// own stay visible. One thread: the lists know no lock.
#ifndef FUZZ_H
#define FUZZ_H

#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
// What our headers include is included here, where the names below still mean the system's functions.
#include <cjson/cJSON.h>
#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <omp.h>
#include <spawn.h>

static jmp_buf fuzz_refused;
static bool fuzz_running;  // what is allocated now belongs to an input
static void **fuzz_blocks; // everything allocated since the input began
static size_t fuzz_n_blocks, fuzz_max_blocks;
static FILE *fuzz_files[16]; // everything opened since then
static int fuzz_n_files;

__attribute__((noreturn)) static void fuzz_exit(int code) {
    longjmp(fuzz_refused, code ? code : 1);
}

static void *fuzz_keep(void *p) {
    if (!p || !fuzz_running) return p;
    if (fuzz_n_blocks == fuzz_max_blocks) {
        fuzz_max_blocks = 2 * fuzz_max_blocks + 64;
        fuzz_blocks = realloc(fuzz_blocks, fuzz_max_blocks * sizeof *fuzz_blocks);
    }
    fuzz_blocks[fuzz_n_blocks++] = p;
    return p;
}

// Take p from the list. What was allocated last is mostly freed first.
static void fuzz_forget(void *p) {
    for (size_t i = fuzz_n_blocks; p && i-- > 0;)
        if (fuzz_blocks[i] == p) {
            fuzz_blocks[i] = fuzz_blocks[--fuzz_n_blocks];
            return;
        }
}

static void *fuzz_malloc(size_t n) { return fuzz_keep(malloc(n)); }
static void *fuzz_calloc(size_t n, size_t size) { return fuzz_keep(calloc(n, size)); }
static void *fuzz_aligned_alloc(size_t align, size_t n) {
    return fuzz_keep(aligned_alloc(align, n));
}
static void *fuzz_realloc(void *p, size_t n) {
    fuzz_forget(p);
    return fuzz_keep(realloc(p, n));
}
static void fuzz_free(void *p) {
    fuzz_forget(p);
    free(p);
}

static FILE *fuzz_fopen(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    if (file && fuzz_running) fuzz_files[fuzz_n_files++] = file;
    return file;
}

static int fuzz_fclose(FILE *file) {
    for (int i = 0; i < fuzz_n_files; i++)
        if (fuzz_files[i] == file) fuzz_files[i] = fuzz_files[--fuzz_n_files];
    return fclose(file);
}

// Close what the input has opened beyond the descriptor `last`, and bury the programs that it started.
static void fuzz_close(int last) {
    while (fuzz_n_files) fclose(fuzz_files[--fuzz_n_files]);
    if (syscall(SYS_close_range, last + 1, ~0u, 0)) abort();
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
}

// Write n bytes as the file `path`, for a reader to read.
static void fuzz_write(const char *path, const void *bytes, size_t n) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || close(fd)) abort();
}

// A new directory in memory where there is one, for readers of directories. The process leaves it behind
// empty but for its small files, below a name that fuzz.sh removes.
static const char *fuzz_dir(void) {
    static char path[200];
    const char *out = getenv("FUZZ_DIR");
    snprintf(path, sizeof path, "%s/%d", out ? out : "/tmp", (int)getpid());
    if (mkdir(path, 0777)) abort();
    return path;
}

// A file in memory with n bytes; its path, the same each time.
static const char *fuzz_file(const void *bytes, size_t n) {
    static int fd = -1;
    static char path[32];
    if (fd < 0) fd = memfd_create("fuzz", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (fd < 0 || ftruncate(fd, 0) || pwrite(fd, bytes, n, 0) != (ssize_t)n) abort();
    return path;
}

// The next part of an input that has several, which NUL bytes divide: [*part, *part + return value).
static size_t fuzz_part(const uint8_t **part, const uint8_t **data, size_t *size) {
    const uint8_t *end = *size ? memchr(*data, 0, *size) : NULL;
    const size_t n = end ? (size_t)(end - *data) : *size;
    *part = *data;
    *data += n + (end != NULL);
    *size -= n + (end != NULL);
    return n;
}

static void fuzz_setup(void);
static void fuzz_input(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static FILE *nowhere;
    static int last; // descriptor that is not an input's
    FILE *errors = stderr;
    if (!nowhere) {
        nowhere = freopen("/dev/null", "w", stdout);
        if (!nowhere) abort();
        omp_set_num_threads(1);
        cJSON_InitHooks(&(cJSON_Hooks){fuzz_malloc, fuzz_free});
        if (setjmp(fuzz_refused)) abort(); // the setup must not die
        fuzz_setup();
        fuzz_file("", 0);
        last = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    stderr = nowhere;
    fuzz_running = true;
    if (!setjmp(fuzz_refused)) fuzz_input(data, size);
    fuzz_running = false;
    stderr = errors;
    fuzz_close(last);
    while (fuzz_n_blocks) free(fuzz_blocks[--fuzz_n_blocks]);
    return 0;
}

#define _exit(code) fuzz_exit(code)
#define malloc(n) fuzz_malloc(n)
#define calloc(n, size) fuzz_calloc(n, size)
#define aligned_alloc(align, n) fuzz_aligned_alloc(align, n)
#define realloc(p, n) fuzz_realloc(p, n)
#define free(p) fuzz_free(p)
#define fopen(path, mode) fuzz_fopen(path, mode)
#define fclose(file) fuzz_fclose(file)

#endif
