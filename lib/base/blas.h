// blas.h: the one place that knows which library multiplies float matrices: its product, and three
// functions about the library itself.
//
//   OpenBLAS     wherever its header is the system's <cblas.h>; on macOS with -DALIGN_OPENBLAS
//   Accelerate   macOS's own, so nothing is to be installed: link with `-framework Accelerate`
//
// Both make the same products; they differ in the order of sums, so in the last bits.
#ifndef BLAS_H
#define BLAS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(__APPLE__) && !defined(ALIGN_OPENBLAS)
#define ALIGN_ACCELERATE
#endif
#ifdef ALIGN_ACCELERATE
// The interface since macOS 13.3; the old one warns at each call. Of Accelerate's headers this is
// the one with the products: <Accelerate/Accelerate.h> would bring all of its names, Point and more.
#define ACCELERATE_NEW_LAPACK
#include <vecLib/cblas_new.h>
#else
#include <cblas.h>
#endif
#undef I // both may bring in complex.h, which takes this letter

#ifdef ALIGN_ACCELERATE
static const char blas_name[] = "Apple's";

// Which implementation it is, to be printed after blas_name.
static const char *blas_kernel(void) { return "Accelerate"; }

// A product that is not called from a parallel region uses at most n threads. Accelerate reads
// this variable at its first product, so call it before. One that the user has set is kept.
static void blas_set_threads(int n) {
    char text[16];
    snprintf(text, sizeof text, "%d", n);
    setenv("VECLIB_MAXIMUM_THREADS", text, 0);
}

// Whether its threads are OpenMP's, which ours are. Accelerate has its own; as there is no other
// build of it to recommend, this says true.
static bool blas_is_openmp(void) { return true; }

#else
static const char blas_name[] = "OpenBLAS kernel";

// Which kernel OpenBLAS runs, to be printed after blas_name: "Haswell", "SkylakeX", "ARMV8", ...
static const char *blas_kernel(void) { return openblas_get_corename(); }

// A product that is not called from a parallel region uses n threads.
static void blas_set_threads(int n) { openblas_set_num_threads(n); }

// Whether its threads are OpenMP's, which ours are. Threads of its own and ours would get in each
// other's way.
static bool blas_is_openmp(void) { return openblas_get_parallel() == OPENBLAS_OPENMP; }
#endif

// out (M, N; rows ld apart) = alpha A B, or += it if `add`. A (M, K) is at a[m lda + k] or, if
// a_transposed, at a[k lda + m]; B (K, N) is at b[k ldb + n] or, if b_transposed, at b[n ldb + k].
static void float_product(float *out, int ld, const float *a, int lda, bool a_transposed,
                          const float *b, int ldb, bool b_transposed, int M, int N, int K,
                          float alpha, bool add) {
    cblas_sgemm(CblasRowMajor, a_transposed ? CblasTrans : CblasNoTrans,
                b_transposed ? CblasTrans : CblasNoTrans, M, N, K, alpha, a, lda, b, ldb,
                add ? 1.0f : 0.0f, out, ld);
}

#endif
