/* blas.h - matrix products of analysis/; the one place there that meets CBLAS.
 *
 * Products are cut into rows of C and given to OpenMP's threads, with BLAS on
 * one thread each: the network around them runs on the same threads, and a
 * second pool beside it (OpenBLAS's own) would take the cores from it while it
 * waits.
 */
#ifndef BLAS_H
#define BLAS_H

#include <stdbool.h>
#include <stddef.h>

/* C[m][n] = op(A) op(B) + beta C, row-major with leading dimensions; op
 * transposes where ta or tb is set. */
void blas_gemm_f32(bool ta, bool tb, size_t m, size_t n, size_t k,
                   const float *a, size_t lda, const float *b, size_t ldb,
                   float beta, float *c, size_t ldc);
void blas_gemm_f64(bool ta, bool tb, size_t m, size_t n, size_t k,
                   const double *a, size_t lda, const double *b, size_t ldb,
                   double beta, double *c, size_t ldc);

/* Threads of the products that the calling thread asks for next. */
void blas_threads(int threads);

#endif
