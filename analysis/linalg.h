/* linalg.h - singular values; the one place that meets LAPACKE. */
#ifndef LINALG_H
#define LINALG_H

#include <stddef.h>
#include <stdint.h>

#include "../harness/error.h"

/* All min(rows, cols) singular values of the row-major matrix a, largest first,
 * into sigma: divide and conquer on the bidiagonal form (dgesdd).  a is left as
 * it is; a copy is made.  0; or -1 when memory is out, a value is not finite or
 * LAPACK does not converge. */
int linalg_singular_values(const double *a, size_t rows, size_t cols,
                           double *sigma, error *e);

/* Estimates the `count` largest singular values (count <= min(rows, cols)) from
 * a random subspace of a few more dimensions and two power iterations
 * [halko2011, alg. 4.4 and 5.1]: the values are lower bounds, close where the
 * spectrum falls.  Needs no copy of a.  Same errors. */
int linalg_leading_values(const double *a, size_t rows, size_t cols,
                          size_t count, uint64_t seed, double *sigma,
                          error *e);

#endif
