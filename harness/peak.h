/* peak.h - loops that run at one limit of the machine, compiled per level. */
#ifndef PEAK_H
#define PEAK_H

#include <stddef.h>

#include "../kernels/plan.h"

/* Most arrays that a loop touches. */
enum { PEAK_ARRAYS = 3 };

/* Works on the first n floats of each of its arrays (n a multiple of 256;
 * aligned to 64 bytes; all entries 1), `times` times over, and returns how much
 * it did: flop, operations, exponentials or bytes. */
typedef double peak_loop(float *const array[PEAK_ARRAYS], size_t n,
                         size_t times);

typedef struct peak {
    peak_loop *fma;         /* n times in registers, 2 flop a multiply-add   */
    peak_loop *mul;         /* multiplications in registers                  */
    peak_loop *add;         /* additions and comparisons in turns            */
    peak_loop *mixed;       /* multiplications and additions in turns        */
    peak_loop *division;    /* in registers                                  */
    peak_loop *exponential; /* b = 2^a                                       */
    peak_loop *read;        /* sum of a                                      */
    peak_loop *copy;        /* a = b                                         */
    peak_loop *triad;       /* a = b + s c                                   */
    peak_loop *write;       /* a = s                                         */
    int fma_operations;     /* that a multiply-add is: 1, or 2 without FMA    */
    int exp_mul_adds;       /* multiply-adds in an exponential               */
    peak_loop *tile;        /* c = a b, a tile in registers, flop; n floats
                               of b                                          */
} peak;

/* The loops of a level; NULL if this build has not got it, or the CPU does not
 * run it. */
const peak *peak_of(enum att_level level);

#endif
