// A stand-in for macOS's <Accelerate/Accelerate.h>: the little that blas.h takes from it, declared as
// Apple's vecLib/cblas_new.h does (LP64), with no code behind. Where there is no Mac, this at least
// compiles the lines that are only for one (test/test_accelerate.sh).
#ifndef ACCELERATE_H
#define ACCELERATE_H

#ifndef ACCELERATE_NEW_LAPACK
#error "blas.h asks for the interface of macOS 13.3"
#endif

typedef int __LAPACK_int;

enum CBLAS_ORDER { CblasRowMajor = 101, CblasColMajor = 102 };
enum CBLAS_TRANSPOSE { CblasNoTrans = 111, CblasTrans = 112, CblasConjTrans = 113 };
typedef enum CBLAS_ORDER CBLAS_ORDER;
typedef enum CBLAS_TRANSPOSE CBLAS_TRANSPOSE;

void cblas_sgemm(const enum CBLAS_ORDER ORDER, const enum CBLAS_TRANSPOSE TRANSA,
                 const enum CBLAS_TRANSPOSE TRANSB, const __LAPACK_int M, const __LAPACK_int N,
                 const __LAPACK_int K, const float ALPHA, const float *A, const __LAPACK_int LDA,
                 const float *B, const __LAPACK_int LDB, const float BETA, float *C,
                 const __LAPACK_int LDC);

#endif
