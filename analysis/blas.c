#include "blas.h"

#include <cblas.h>

static _Thread_local int share = 1;

void blas_threads(int threads)
{
    share = threads;
    if (openblas_get_num_threads() != 1) openblas_set_num_threads(1);
}

/* Below this many multiply-adds a product is not worth a second thread. */
#define SMALL (64.0 * 64 * 64)

/* Rows [*first, *end) of part i of n; bounds at multiples of 16 keep whole
 * register tiles together. */
static void rows_of(size_t m, int i, int n, size_t *first, size_t *end)
{
    const size_t tiles = (m + 15) / 16;
    *first = tiles * (size_t)i / (size_t)n * 16;
    *end = tiles * (size_t)(i + 1) / (size_t)n * 16;
    if (*end > m) *end = m;
}

static int parts_of(size_t m, size_t n, size_t k)
{
    return (double)m * (double)n * (double)k < SMALL ? 1 : share;
}

#define GEMM(name, real, cblas_gemm)                                           \
    void name(bool ta, bool tb, size_t m, size_t n, size_t k, const real *a,   \
              size_t lda, const real *b, size_t ldb, real beta, real *c,       \
              size_t ldc)                                                      \
    {                                                                          \
        const int parts = parts_of(m, n, k);                                   \
        _Pragma("omp parallel for num_threads(parts) if(parts > 1)")           \
        for (int i = 0; i < parts; i++) {                                      \
            size_t first, end;                                                 \
            rows_of(m, i, parts, &first, &end);                                \
            if (first >= end) continue;                                        \
            cblas_gemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans,          \
                       tb ? CblasTrans : CblasNoTrans, (int)(end - first),     \
                       (int)n, (int)k, 1, a + (ta ? first : first * lda),      \
                       (int)lda, b, (int)ldb, beta, c + first * ldc,           \
                       (int)ldc);                                              \
        }                                                                      \
    }
GEMM(blas_gemm_f32, float, cblas_sgemm)
GEMM(blas_gemm_f64, double, cblas_dgemm)
