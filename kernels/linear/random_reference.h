/* random_reference.h - the random projection and its gradient, in double. */
#ifndef LINEAR_RANDOM_REFERENCE_H
#define LINEAR_RANDOM_REFERENCE_H

#include "attend.h"
#include "random_features.h"

/* A row of d numbers minus its parts along `others` orthonormal rows, twice
 * because once leaves rounding errors of the size of what was removed. */
static inline void random_orthogonalise(double *row, const double *others,
                                        size_t count, size_t d)
{
    for (int twice = 0; twice < 2; twice++)
        for (size_t o = 0; o < count; o++) {
            const double along = ref_dot(row, others + o * d, d);
            for (size_t c = 0; c < d; c++) row[c] -= along * others[o * d + c];
        }
    const double norm = sqrt(ref_dot(row, row, d));
    for (size_t c = 0; c < d; c++) row[c] /= norm;
}

/* Gaussian rows made orthonormal in blocks of d, then given the norms of fresh
 * Gaussian vectors of d entries [choromanski2021]. */
static inline void random_projection(const att_problem *p, size_t rows,
                                     float *out)
{
    const size_t d = (size_t)p->head_dim;
    uint64_t seed = (uint64_t)p->seed ^ 0x9d0f00d5eedu;
    double *block = ref_new((rows < d ? rows : d) * d);
    for (size_t r = 0; r < rows; r++) {
        double *row = block + r % d * d, norm = 0;
        for (size_t c = 0; c < d; c++) row[c] = att_normal(&seed);
        random_orthogonalise(row, block, r % d, d);
        for (size_t c = 0; c < d; c++) {
            const double x = att_normal(&seed);
            norm += x * x;
        }
        for (size_t c = 0; c < d; c++)
            out[r * d + c] = (float)(sqrt(norm) * row[c]);
    }
    free(block);
}

/* u = d^(-1/4) Omega x for each token, into u [tokens][stride]; *half = |x|^2 /
 * (2 sqrt d). */
static inline void random_project(const double *omega, size_t rows, size_t d,
                                  const double *x, double *u, double *half)
{
    const double scale = pow((double)d, -0.25);
    for (size_t r = 0; r < rows; r++)
        u[r] = scale * ref_dot(omega + r * d, x, d);
    *half = ref_dot(x, x, d) * scale * scale / 2;
}

/* dx += d^(-1/4) Omega' du - dhalf x / sqrt d, dhalf = sum of exponents'
 * gradients that lost |x|^2 / (2 sqrt d). */
static inline void random_unproject(const double *omega, size_t rows, size_t d,
                                    const double *x, const double *du,
                                    double dhalf, double *dx)
{
    const double scale = pow((double)d, -0.25);
    for (size_t c = 0; c < d; c++) {
        double sum = 0;
        for (size_t r = 0; r < rows; r++) sum += du[r] * omega[r * d + c];
        dx[c] += scale * sum - dhalf * scale * scale * x[c];
    }
}

#endif
