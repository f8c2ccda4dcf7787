/* ulp.h - errors in units in the last place of a tensor's scale.
 *
 * The scale is the largest magnitude of the tensor, not of a row or a value: sums
 * round on the scale of their terms, so that a value, or a whole row, whose terms
 * cancel has no scale of its own, and its relative error says how much cancels and
 * nothing about the kernel (Higham, Accuracy and Stability of Numerical Algorithms,
 * 2nd ed., sections 1.4 and 3.1).
 */
#ifndef ULP_H
#define ULP_H

#include <stdbool.h>
#include <stddef.h>

/* Distance of neighbours in a storage (enum att_dtype) at numbers of this
 * magnitude: 2^-23 of the power of two at or below it in f32, 2^-10 in f16, 2^-7 in
 * bf16; at least what is the smallest number above 0: 2^-126 in f32 and bf16, as
 * kernels count what is below as 0 (att.h), 2^-24 in f16. */
double ulp_unit(int dtype, double scale);

/* Largest magnitude of the n values that are finite; 0 if none is. */
double ulp_scale(const double *x, size_t n);

typedef struct ulp_error {
    double max, rms; /* in units; infinity: a value is not finite where the
                        other one is, or not a number                        */
    size_t at;       /* index of the largest                                 */
} ulp_error;

/* Errors of n values of x in this unit; equal infinities differ by 0. */
ulp_error ulp_compare(const double *x, const double *ref, size_t n, double unit);

/* Whether n values are the same bit by bit: 0 and -0 differ. */
bool ulp_same_bits(const double *x, const double *y, size_t n);

#endif
