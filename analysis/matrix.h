/* matrix.h - effective matrices of any mechanism on given inputs.
 *
 * For a mechanism that is linear in v (or, where it says so, in k) the output
 * is
 *
 *     o[h][i][c] = gain[h][i][c] * sum_j A[h,c][i][j] v[h][j][c] + offset
 *
 * A is what a map shows and what rank and entropy are taken of.  It comes from
 * the mechanism's row function; the probe (the reference forward on unit
 * vectors) is the check, and the way where there is no row function.
 *
 * Inputs and parameters are check_values (harness/check.h) of batch 1.
 */
#ifndef MATRIX_H
#define MATRIX_H

#include <stdint.h>

#include "../harness/check.h"
#include "../harness/error.h"
#include "metrics.h"

/* Makes values of m on p (batch 1): inputs zero, parameters their seeded
 * default values.  0; -1 with e and nothing to free: the reason why m is not
 * defined for p, or memory. */
int matrix_open(check_values *v, const att_mechanism *m, const att_problem *p,
                error *e);

/* Adds N(0, std) to every learned parameter, as training would move it: no part
 * of the matrix is trivially zero then. */
void matrix_disturb(check_values *v, double std, uint64_t seed);

/* Whether m has a matrix at all, and this part of it: without a convolution
 * branch attention is all there is, a mere convolution has no attention, and a
 * total is there where both are. */
bool matrix_exists(const att_mechanism *m);
bool matrix_has(const att_mechanism *m, enum att_part part);
/* Whether that part differs from channel to channel. */
bool matrix_per_channel(const att_mechanism *m, enum att_part part);

/* Maps there are (heads, channels of a head), and their shape. */
typedef struct matrix_shape {
    int heads, channels;
    size_t rows, columns;
    metrics_grid grid; /* axes = 0: columns are not the tokens of the grid   */
} matrix_shape;

void matrix_shape_of(const att_mechanism *m, const att_problem *p,
                     matrix_shape *out);

enum { MATRIX_MEAN = -1 }; /* as a channel: the mean over all of them        */

/* Matrix of a head as seen by a channel, into a [rows][columns].  0, or -1
 * with e (memory). */
int matrix_get(const check_values *v, int head, int channel, enum att_part part,
               double *a, error *e);

/* How far the matrices of a mechanism are from what its reference does. */
typedef struct matrix_agreement {
    bool linear;    /* there is an A v to compare                            */
    double forward; /* max |gain (A v) + offset - o| / (1 + |o|)             */
    double probe;   /* max |A - probe| / (1 + |probe|); NAN: not done        */
    double parts;   /* max |attention + convolution - total|                 */
    double row_sum; /* max |sum_j A_ij - 1| where the mechanism promises 1,
                       rows that see nothing apart; else NAN                 */
    double least;   /* smallest entry of the attention part where the
                       mechanism promises none below 0; else NAN             */
} matrix_agreement;

/* Compares every head and channel on the inputs in v, whose v->o is written;
 * with_probe: also column by column.  0; -1 with e (memory). */
int matrix_compare(check_values *v, bool with_probe, matrix_agreement *out,
                   error *e);

/* For tests: m on p with seeded inputs and parameters; the largest of forward,
 * probe and parts.  0 for a mechanism that is not linear; NAN with e if p is
 * refused. */
double matrix_check(const att_mechanism *m, const att_problem *p, uint64_t seed,
                    error *e);

#endif
