// A stand-in for the header <vecLib/cblas_new.h> of macOS: the one function that we call, without
// its code. Where there is no Mac, this at least compiles the lines that are only for one
// (test/test_accelerate.sh).
#ifndef CBLAS_NEW_H
#define CBLAS_NEW_H

#ifndef ACCELERATE_NEW_LAPACK
#error "vecLib's header without this macro is another one"
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
