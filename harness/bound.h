/* bound.h - how far from the reference each value of a kernel may be.
 *
 *     |x - ref| <= tolerance (|ref| + scale) + residue
 *                  + 32 moved + 4 rounded + flushed + least
 *
 * tolerance: check_tolerance() of storage and pass.
 * scale: what the values of that tensor usually are on inputs of the same size,
 *     at most 1: the largest |ref| of a twin, the same problem on normal inputs
 *     whose root mean squares are those of these inputs or 1, whichever is
 *     less.  Results that vanish because terms cancel (gradients of a saturated
 *     softmax) are measured against it; results that are small because the
 *     inputs are, are not excused by it.
 * residue: of gradients, of terms that cancel: 16 units of 2^-24 of the twin's
 *     largest gradient times what the other inputs are larger than the twin's.
 *     Where they cancel (below a sixteenth of their size in the twin: a softmax
 *     over one key, or saturated) 64 units of the largest out and dout times the
 *     largest q and k (or parameter, in which they may be projected; 1 if they
 *     are less) but for that whose gradient it is.
 * moved: the largest change of the value when every input moves at random by
 *     half a float's precision; a sum of 130 terms rounds as often.
 * rounded: the change of the value when the reference itself rounds up or down
 *     in all its operations, times what the kernel's precision is coarser than
 *     double's: where sums cancel inside, whatever the inputs.  Gradients
 *     start from the stored o: there the precision is that of its storage.
 *     Measured at the inputs and at inputs that have all digits of a double,
 *     equal ones equal: products and sums of floats are often exact in double,
 *     so that at the inputs themselves nothing would be rounded, where in float
 *     everything is (gradients that cancel after a division by max - min of
 *     scores; the table of a warping distance).
 * flushed: the change when inputs below the normal floats are zero, for which a
 *     processor may take them.
 * least: what the storage cannot hold, and 2^-110 times the largest input:
 *     kernels may flush what is below the normal range to zero, and end sigmoids
 *     at e^-80.
 *
 * moved, rounded and flushed cost nine runs of the reference and are found only
 * when the bound without them does not hold.  Infinities have to be equal, but
 * for values that the storage holds as infinity.  A value whose bound is over
 * 2 % of |ref| + scale is not determined by its inputs: it is counted as open.
 */
#ifndef BOUND_H
#define BOUND_H

#include "check.h"

typedef struct bounds {
    const check_values *want; /* reference results                           */
    double *of[CHECK_OUTPUTS]; /* of each value of each output                */
    double scale[CHECK_OUTPUTS];
    double least;
    bool refined;
} bounds;

/* `want` has its inputs and the reference's results and must outlive b.  -1: no
 * memory. */
int bounds_make(bounds *b, const check_values *want, error *e);
/* Adds what needs more runs of the reference. */
int bounds_refine(bounds *b, error *e);
void bounds_free(bounds *b);

typedef struct bound_verdict {
    bool pass;
    double ratio;    /* of error to bound, the worst; infinity: not finite   */
    char tensor[32]; /* there                                                */
    size_t at;       /* its index, over the whole batch                      */
    double x, ref, bound;
    size_t values, open;
} bound_verdict;

/* Size of the terms that may cancel in result i of v: the largest out and dout times
 * the largest of each of q and k (or parameter; 1 if they are less) but for that
 * whose gradient it is; 0 for what is no gradient. */
double bound_terms(const check_values *v, int i);

/* All outputs that got has; those of want may be more (gradients). */
void bounds_judge(const bounds *b, const check_values *got, bound_verdict *out);

/* Largest number that the storage of an output holds, by its name. */
double bound_largest(const att_problem *p, const char *output);

/* |x - ref| / bound: 0 if they are equal, infinity if one of them is not a
 * number or they are different infinities. */
double bound_ratio(double x, double ref, double bound, double largest);

#endif
