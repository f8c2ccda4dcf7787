/* metrics.h - what is reported about an effective matrix A [rows][columns].
 *
 * Statistics of rows (entropy, mass, distance) are taken of the distribution
 * p_ij = |A_ij| / sum_j |A_ij|; where A is signed or its rows do not sum to one
 * this differs from A, and `renormalised` says so.  Rows that are all zero are
 * counted and left out of the means.  Ranks and the relative map see A as it
 * is.
 */
#ifndef METRICS_H
#define METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "../harness/error.h"
#include "../harness/json.h"

/* Distances and masses know tokens with a place alone. */
#define METRICS_PLACED                                                         \
    ", mean over rows; rows and columns of tokens in front of the grid (class " \
    "token, registers) are left out and p_ij is |A_ij| divided by its row's "  \
    "sum over the grid, rows without weight there are left out"

/* Every scalar: name (key of metrics.json) and how it is obtained. */
#define METRICS(X)                                                             \
    X(entropy, "H_i = -sum_j p_ij ln p_ij in nats, mean over rows")            \
    X(entropy_norm, "entropy / ln(columns)")                                   \
    X(support, "exp(H_i), effective number of keys, mean over rows")           \
    X(maxw, "largest p_ij of a row, mean over rows")                           \
    X(top5, "sum of the ceil(columns / 20) largest p_ij, mean over rows")      \
    X(top10, "sum of the 10 largest p_ij, mean over rows")                     \
    X(dist, "sum_j p_ij |x_i - x_j|, Euclidean, in cells" METRICS_PLACED)      \
    X(dist_uniform, "dist of uniform attention over the grid")                 \
    X(mass_r1, "sum of p_ij within Chebyshev radius 1" METRICS_PLACED)         \
    X(u_r1, "mass_r1 of uniform attention over the grid")                      \
    X(mass_r2, "the same within radius 2")                                     \
    X(u_r2, "mass_r2 of uniform attention over the grid")                      \
    X(mass_r3, "the same within radius 3")                                     \
    X(u_r3, "mass_r3 of uniform attention over the grid")                      \
    X(mass_r5, "the same within radius 5")                                     \
    X(u_r5, "mass_r5 of uniform attention over the grid")                      \
    X(zero_rows, "rows without any weight, left out of the means over rows")   \
    X(zero_matrices, "1 if the matrix is all zero")                            \
    X(row_sum_min, "smallest sum_j A_ij, over all columns and all rows")       \
    X(row_sum_max, "largest sum_j A_ij, likewise")                             \
    X(rank_1e3, "singular values above 1e-3 of the largest")                   \
    X(rank_f32, "singular values above max(rows, columns) 2^-23 of the "       \
                "largest")                                                     \
    X(rank_f64, "singular values above max(rows, columns) 2^-52 of the "       \
                "largest")                                                     \
    X(erank, "effective rank exp(H(sigma / sum sigma))")                       \
    X(stable_rank, "sum sigma^2 / sigma_max^2")

/* Where tokens lie: a grid, after `first` tokens that have no place (class
 * tokens).  axes = 0: rows and columns are not the same grid; distances, masses
 * and the relative map do not exist. */
typedef struct metrics_grid {
    int axes;
    int side[3];
    size_t first;
} metrics_grid;

/* Histogram of |A_ij| relative to uniform attention, in bins of a quarter of a
 * decade of |A_ij| columns from 1e-6 to 1e4; the first counts everything below
 * (zeros apart), the last everything above. */
enum { METRICS_BINS = 42, METRICS_QUARTILES = 5 };

typedef struct metrics {
    size_t rows, columns;
#define METRICS_MEMBER(name, how) double name;
    METRICS(METRICS_MEMBER) /* NAN: does not exist here                     */
#undef METRICS_MEMBER
    bool negative;      /* A has entries below zero                         */
    bool renormalised;  /* p differs from A by more than rounding or an eps  */
    double entropy_quartile[METRICS_QUARTILES]; /* of H_i / ln(columns): least,
                           lower, median, upper, greatest                   */
    double zeros;       /* entries that are exactly zero                    */
    double bin[METRICS_BINS];
    size_t sigmas;      /* singular values known: min(rows, columns), fewer
                           where they are estimated                         */
    double *sigma;      /* largest first                                    */
    bool estimated;     /* from a random subspace: see metrics_compute       */
    metrics_grid grid;
    double *relative;   /* averaged relative map, [2 side - 1] per axis, index
                           key - query + side - 1; NULL without a grid      */
    double *relative_rows; /* the same of rows divided by their sum over the
                           grid, where tokens stand before it; else NULL     */
} metrics;

enum metrics_divisor {
    METRICS_VALID, /* mean over the pairs that exist at that offset          */
    METRICS_ALL    /* sum over queries divided by all queries                */
};

/* Largest side for which all singular values are computed; above it the leading
 * METRICS_LEADING are estimated: ranks below that are found, others, and the
 * effective rank, are NAN unless the rest of the spectrum is negligible. */
enum { METRICS_SVD_SIDE = 4096, METRICS_LEADING = 128 };

/* 0; -1 with e (memory, a value that is not finite).  spectrum = false leaves
 * ranks NAN. */
int metrics_compute(const double *a, size_t rows, size_t columns,
                    const metrics_grid *grid, enum metrics_divisor divisor,
                    bool spectrum, metrics *out, error *e);
void metrics_free(metrics *m);

/* Mean of `count` results of the same shape, of the inputs of a model: of
 * every scalar over those where it exists, of histogram, relative map and
 * spectrum. */
void metrics_mean(const metrics *one, int count, metrics *out);

/* A line of an aligned table, and its head; `wide` is the width of the name. */
void metrics_print_head(FILE *out, int wide);
void metrics_print(FILE *out, int wide, const char *name, const metrics *m);

/* Keys as above, null where NAN. */
json *metrics_json(const metrics *m);
/* {"entropy": "how", ...}: how each number is obtained, with that divisor. */
json *metrics_how(enum metrics_divisor divisor);

#endif
