/* linalg.c - singular values by LAPACKE. */
#include "linalg.h"

#include <lapacke.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/plan.h"

enum { OVERSAMPLING = 8, POWER_ITERATIONS = 2 };

static int check(const double *a, size_t rows, size_t cols, error *e)
{
    if (rows > INT_MAX || cols > INT_MAX)
        return error_set(e, "a matrix of %zu x %zu is too large for LAPACK",
                         rows, cols);
    for (size_t i = 0; i < rows * cols; i++)
        if (!isfinite(a[i]))
            return error_set(e, "row %zu, column %zu of the matrix is not "
                                "finite",
                             i / cols, i % cols);
    return 0;
}

/* The same values belong to the transpose, which is what column-major LAPACK
 * sees.  a is overwritten. */
static int values_in_place(double *a, size_t rows, size_t cols, double *sigma,
                           error *e)
{
    const lapack_int m = (lapack_int)cols, n = (lapack_int)rows;
    double none;
    const lapack_int info = LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'N', m, n, a, m,
                                           sigma, &none, 1, &none, 1);
    if (info == LAPACK_WORK_MEMORY_ERROR)
        return error_set(e, "not enough memory for the singular values of a "
                            "%zu x %zu matrix",
                         rows, cols);
    if (info)
        return error_set(e, "the singular values of a %zu x %zu matrix did not "
                            "converge (dgesdd: %d)",
                         rows, cols, (int)info);
    return 0;
}

int linalg_singular_values(const double *a, size_t rows, size_t cols,
                           double *sigma, error *e)
{
    if (rows == 0 || cols == 0) return 0;
    if (check(a, rows, cols, e) < 0) return -1;
    double *copy = malloc(rows * cols * sizeof *copy);
    if (!copy)
        return error_set(e, "not enough memory for a %zu x %zu matrix", rows,
                         cols);
    memcpy(copy, a, rows * cols * sizeof *copy);
    const int rc = values_in_place(copy, rows, cols, sigma, e);
    free(copy);
    return rc;
}

/* ---- leading values from a random subspace ------------------------------ */

/* y = a x;  x [cols][l], y [rows][l]. */
static void multiply(const double *a, size_t rows, size_t cols, const double *x,
                     size_t l, double *y)
{
    #pragma omp parallel for schedule(static)
    for (size_t i = 0; i < rows; i++) {
        double *out = y + i * l;
        memset(out, 0, l * sizeof *out);
        for (size_t j = 0; j < cols; j++) {
            const double w = a[i * cols + j];
            for (size_t c = 0; c < l; c++) out[c] += w * x[j * l + c];
        }
    }
}

/* z = a' y;  y [rows][l], z [cols][l].  Threads own columns of a, so that the
 * order of the sums does not depend on their number. */
static void multiply_transposed(const double *a, size_t rows, size_t cols,
                                const double *y, size_t l, double *z)
{
    enum { BLOCK = 64 };
    #pragma omp parallel for schedule(static)
    for (size_t j0 = 0; j0 < cols; j0 += BLOCK) {
        const size_t j1 = j0 + BLOCK < cols ? j0 + BLOCK : cols;
        memset(z + j0 * l, 0, (j1 - j0) * l * sizeof *z);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = j0; j < j1; j++) {
                const double w = a[i * cols + j];
                for (size_t c = 0; c < l; c++) z[j * l + c] += w * y[i * l + c];
            }
    }
}

/* Orthonormal basis of the l columns of y [rows][l], in place. */
static lapack_int orthonormalise(double *y, size_t rows, size_t l, double *tau)
{
    const lapack_int m = (lapack_int)rows, n = (lapack_int)l;
    lapack_int info = LAPACKE_dgeqrf(LAPACK_ROW_MAJOR, m, n, y, n, tau);
    if (info == 0)
        info = LAPACKE_dorgqr(LAPACK_ROW_MAJOR, m, n, n, y, n, tau);
    return info;
}

int linalg_leading_values(const double *a, size_t rows, size_t cols,
                          size_t count, uint64_t seed, double *sigma, error *e)
{
    const size_t least = rows < cols ? rows : cols;
    const size_t more = count + OVERSAMPLING, l = more < least ? more : least;
    if (count == 0) return 0;
    if (check(a, rows, cols, e) < 0) return -1;

    double *x = malloc(cols * l * sizeof *x), *y = malloc(rows * l * sizeof *y);
    double *tau = malloc(l * sizeof *tau), *all = malloc(l * sizeof *all);
    int rc = x && y && tau && all
                 ? 0
                 : error_set(e, "not enough memory for %zu singular values of "
                                "a %zu x %zu matrix",
                             count, rows, cols);
    for (size_t i = 0; rc == 0 && i < cols * l; i++) x[i] = att_normal(&seed);
    for (int t = 0; rc == 0 && t <= POWER_ITERATIONS; t++) {
        multiply(a, rows, cols, x, l, y);
        if (orthonormalise(y, rows, l, tau))
            rc = error_set(e, "no basis of the leading singular vectors");
        else multiply_transposed(a, rows, cols, y, l, x); /* A' Q */
        if (rc == 0 && t < POWER_ITERATIONS && orthonormalise(x, cols, l, tau))
            rc = error_set(e, "no basis of the leading singular vectors");
    }
    if (rc == 0) rc = values_in_place(x, cols, l, all, e);
    if (rc == 0) memcpy(sigma, all, count * sizeof *sigma);
    free(x);
    free(y);
    free(tau);
    free(all);
    return rc;
}
