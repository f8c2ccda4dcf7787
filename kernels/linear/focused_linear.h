/* focused_linear.h - what the mechanism and its kernels agree on. */
#ifndef LINEAR_FOCUSED_LINEAR_H
#define LINEAR_FOCUSED_LINEAR_H

#include "../att.h"

#define FOCUSED_EPS   1e-6 /* of the mean of y(k)                          */
#define FOCUSED_FLOOR 1e-6 /* of relu(q), relu(k)                          */

enum { FOCUSED_POS, FOCUSED_SCALE, FOCUSED_W, FOCUSED_B };

enum { FOCUSED_POWER_MAX = 1000 };

/* Multiplications that make x^p, or -1 where it is a transcendental function.
 *  */
static inline int focused_multiplications(double p)
{
    return p >= 1 && p <= 8 && p == (int)p ? (int)p - 1 : -1;
}

#endif
