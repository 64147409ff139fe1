// machine.h: make the best of the CPU that is there. From top to bottom:
//
//   memory       what OpenBLAS and threads need: one sentence if it is not there
//   subnormals   numbers too small for the CPU's fast road become 0
//   kernels      OpenBLAS has a set of kernels for each family of CPUs and chooses one when the
//                program starts; where it takes a new CPU for an old one, we choose again
#ifndef MACHINE_H
#define MACHINE_H

#include "common.h"
#include "blas.h"
#include <omp.h>
#include <pthread.h>
#include <strings.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#if defined(__SSE__)
#include <immintrin.h>
#endif

// ------------------------------------------------------------------------------------------------
// Memory. OpenBLAS maps a buffer (of 128 MB in Debian 12) for each thread when the program is loaded,
// and more at products. Where it does not get one it tries again, for ever (`ulimit -v`).

// So its mmap is this one: a program's own function goes before the C library's of that name, for the
// libraries too. It does what that does, but where a library's memory cannot be had it says so and ends
// the program. (malloc and threads do not come here. The sanitizers have an mmap of their own.)
#if defined(__linux__) && defined(SYS_mmap) && defined(__LP64__)
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) &&                             \
    !__has_feature(address_sanitizer) && !__has_feature(memory_sanitizer) &&                       \
    !__has_feature(thread_sanitizer)
void *mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset) {
    const long result = syscall(SYS_mmap, address, bytes, protection, flags, file, offset);
    if (result == -1 && errno == ENOMEM && flags & MAP_ANONYMOUS && bytes >= 1 << 20) {
        char what[80];
        snprintf(what, sizeof what, "%.1f MB for a buffer of OpenBLAS (fewer threads need fewer)",
                 (double)bytes * 1e-6);
        memory_die(what);
    }
    return (void *)result;
}
#endif
#endif

// A thread that ends when it gets the gate.
static void *thread_wait(void *gate) {
    pthread_mutex_lock(gate);
    pthread_mutex_unlock(gate);
    return NULL;
}

#ifdef __GLIBC__
// A library that gets no memory may end the program by itself: a sentence of its own, and exit code 1, which
// no program here has. Libgomp does so for a few hundred bytes.
static void library_exit(int code, void *unused) {
    (void)unused;
    if (code != EXIT_FAILURE) return;
    fputs("error: a library has ended the program, for want of memory most likely; see its own "
          "words above\n",
          stderr);
    _exit(EXIT_IO);
}

static void library_exit_begin(void) { on_exit(library_exit, NULL); }
#else
static void library_exit_begin(void) {} // its exit code stays
#endif

// Before the first parallel region: die if OpenMP's threads cannot be had (`ulimit -u`, `ulimit -v`, or
// what a container allows). OpenMP itself would end the program with a sentence that names none of
// these, and in GCC's with an exit code of 1.
static void threads_check(void) {
    const int n = omp_get_max_threads() - 1;
    pthread_t *threads = mem_alloc((size_t)n, sizeof *threads);
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&gate);
    for (int i = 0; i < n; i++) {
        const int error = pthread_create(&threads[i], NULL, thread_wait, &gate);
        if (error)
            die(EXIT_IO,
                "cannot start thread %d of %d: %s; look at ulimit -u and ulimit -v, or set "
                "OMP_NUM_THREADS to less",
                i + 2, n + 1, strerror(error));
    }
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
    free(threads);
}

// Where memory is limited, let OpenBLAS map now what it will need, by products on all threads and one on
// each at the same time (long ones, so that they meet): what cannot be had is said before a run begins.
static void products_reserve(void) {
    struct rlimit space, data;
    if (getrlimit(RLIMIT_AS, &space) || getrlimit(RLIMIT_DATA, &data)) return;
    if (space.rlim_cur == RLIM_INFINITY && data.rlim_cur == RLIM_INFINITY) return;
    enum { N = 768 };
    const size_t size = (size_t)N * N;
    const int threads = omp_get_max_threads();
    float *in = mem_floats(size), *out = mem_floats(size * (size_t)threads);
    float_product(out, N, in, N, false, in, N, false, N, N, N, 1, false);
#pragma omp parallel num_threads(threads)
    {
        float *own = out + size * (size_t)omp_get_thread_num();
        for (int i = 0; i < 3; i++) {
#pragma omp barrier
            float_product(own, N, in, N, false, in, N, false, N, N, N, 1, false);
        }
    }
    free(in), free(out);
}

// ------------------------------------------------------------------------------------------------
// Subnormals. Below 2^-126 (1.2e-38) a float has no leading 1, and Intel's CPUs then take a
// hundred times as long for a product. Attention weights, GELU and AdamW's moments come there when
// a model has learnt something very well.

// Let the calling thread take numbers below 2^-126 for 0, as factors and as results. Does nothing on
// a CPU that has no such switch.
static void flush_subnormals_here(void) {
#if defined(__SSE__)
    _mm_setcsr(_mm_getcsr() | 0x8040); // flush results (bit 15), take factors for 0 (bit 6)
#elif defined(__aarch64__)
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("msr fpcr, %0" : : "r"(control | (uint64_t)1 << 24)); // both
#endif
}

// The same for all threads. Those that start later inherit it from this one; those that are there
// already do so in LLVM's OpenMP, at each parallel region, but not in GCC's.
static void flush_subnormals(void) {
    flush_subnormals_here();
#pragma omp parallel
    flush_subnormals_here();
}

// ------------------------------------------------------------------------------------------------
// OpenBLAS's kernels. Debian 12 and Ubuntu 22.04 have OpenBLAS 0.3.21 and 0.3.20, which take
// Intel's Core of the 13th and 14th generation and Xeons since Emerald Rapids for a Prescott of
// 2004 (OpenBLAS issue 4268, mended in 0.3.25): products then take five times as long.

// What a kernel uses, and what a CPU has.
typedef enum { KERNEL_SSE, KERNEL_AVX, KERNEL_AVX2, KERNEL_AVX512 } KernelClass;

// The class of a kernel by OpenBLAS's name for it. A name that is not listed here is newer than this
// list, and so than any CPU that the list would have to serve: it counts as the best.
static KernelClass kernel_class(const char *name) {
    static const char *const sse[] = {
        "Unknown", "Katmai",       "Coppermine", "Northwood",  "Prescott", "Banias",
        "Atom",    "Core2",        "Penryn",     "Dunnington", "Nehalem",  "Athlon",
        "Opteron", "Opteron_SSE3", "Barcelona",  "Nano",       "Bobcat",   "Generic",
    };
    static const char *const avx[] = {"Sandybridge", "Bulldozer", "Piledriver", "Steamroller"};
    static const char *const avx2[] = {"Haswell", "Zen", "Excavator"};
    for (int i = 0; i < COUNT(sse); i++)
        if (!strcasecmp(name, sse[i])) return KERNEL_SSE;
    for (int i = 0; i < COUNT(avx); i++)
        if (!strcasecmp(name, avx[i])) return KERNEL_AVX;
    for (int i = 0; i < COUNT(avx2); i++)
        if (!strcasecmp(name, avx2[i])) return KERNEL_AVX2;
    return KERNEL_AVX512;
}

// The best class that this CPU (and its operating system) can run.
static KernelClass cpu_class(void) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return KERNEL_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return KERNEL_AVX2;
    if (__builtin_cpu_supports("avx")) return KERNEL_AVX;
#endif
    return KERNEL_SSE;
}

// OpenBLAS's own functions that choose a kernel. They are not in its header, and missing from a
// build for one kind of CPU and from other libraries; a weak symbol is then NULL.
#if defined(__ELF__) && defined(__x86_64__)
extern void gotoblas_dynamic_init(void) __attribute__((weak));
extern void gotoblas_dynamic_quit(void) __attribute__((weak));
#else
static void (*const gotoblas_dynamic_init)(void) = NULL;
static void (*const gotoblas_dynamic_quit)(void) = NULL;
#endif

// Before the first product: if OpenBLAS runs a kernel that is older than the CPU, let it choose
// again among those that fit. Who has set OPENBLAS_CORETYPE keeps that kernel, unless the tests'
// switch ALIGN_REPLACE_KERNEL is set as well. Where a kernel stays too old, one warning says so.
static void kernel_choose(void) {
    static const char *const best[] = {"Nehalem", "Sandybridge", "Haswell", "SkylakeX"};
    const KernelClass cpu = cpu_class();
    const char *wanted = getenv("OPENBLAS_CORETYPE");
    const bool wish = wanted && *wanted && !getenv("ALIGN_REPLACE_KERNEL");
    if (kernel_class(blas_kernel()) >= cpu) return;
    if (!wish && gotoblas_dynamic_init && gotoblas_dynamic_quit) {
        char *before = wanted ? text_copy(wanted) : NULL;
        setenv("OPENBLAS_CORETYPE", best[cpu], 1);
        gotoblas_dynamic_quit();
        gotoblas_dynamic_init();
        // a program that we start (a reward, gzip) is to find the environment as it was
        if (before) setenv("OPENBLAS_CORETYPE", before, 1);
        else unsetenv("OPENBLAS_CORETYPE");
        free(before);
    }
    if (kernel_class(blas_kernel()) >= cpu) return;
    if (wish)
        warn("OPENBLAS_CORETYPE is set to %s: products run OpenBLAS's %s kernel, which is older "
             "than this CPU and several times slower; unset it",
             wanted, blas_kernel());
    else
        warn("OpenBLAS runs its %s kernel, which is older than this CPU and several times slower; "
             "start the program with OPENBLAS_CORETYPE=%s in the environment",
             blas_kernel(), best[cpu]);
}

#endif
