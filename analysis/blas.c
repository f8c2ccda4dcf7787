#include "blas.h"

#include <cblas.h>

void blas_gemm_f32(bool ta, bool tb, size_t m, size_t n, size_t k,
                   const float *a, size_t lda, const float *b, size_t ldb,
                   float beta, float *c, size_t ldc)
{
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans,
                tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, 1, a,
                (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

void blas_gemm_f64(bool ta, bool tb, size_t m, size_t n, size_t k,
                   const double *a, size_t lda, const double *b, size_t ldb,
                   double beta, double *c, size_t ldc)
{
    cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans,
                tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, 1, a,
                (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

void blas_threads(int threads)
{
    openblas_set_num_threads(threads);
}
