/* focused_linear.h - what the mechanism and its kernels agree on. */
#ifndef LINEAR_FOCUSED_LINEAR_H
#define LINEAR_FOCUSED_LINEAR_H

#include "../att.h"

#include <math.h>
#include <string.h>

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

/* ---- what keeps kernels within the range of floats ------------------------
 *
 * y is homogeneous and A a ratio, so that powers of two are free of rounding:
 *     x' = 2^-e x       the least softplus(theta) is about 1
 *     y(q)' = c y(q)    the largest of a row is about 1
 *     y(k)' = 2^-10 y(k)
 *     eps' = 2^(-2e - 10) c eps, so that D' is D times the same
 * A softplus that underflows and q, k, v of 1e18 together do no harm then. */

#define FOCUSED_KEYS 0x1p-10f

/* Of a double's range: theta below -690 counts as that. */
static inline double focused_softplus(double theta)
{
    return fmax(fmax(theta, 0) + log1p(exp(-fabs(theta))), 0x1p-1000);
}

/* softplus'(theta) / softplus(theta). */
static inline double focused_slope(double theta)
{
    return theta < -40 ? 1 : 1 / ((1 + exp(-theta)) * focused_softplus(theta));
}

/* e for n scales; theta may be NULL. */
static inline int focused_exponent(const float *theta, size_t n)
{
    double least = INFINITY;
    int e;
    for (size_t i = 0; i < n; i++)
        least = fmin(least, focused_softplus(theta ? (double)theta[i] : 0));
    frexp(1 / least, &e);
    return e;
}

/* eps' of m keys, but for c. */
static inline float focused_eps(size_t m, int e)
{
    return (float)ldexp(FOCUSED_EPS * (double)m, -2 * e - 10);
}

/* eps' of a row; where it underflows, D must not be 0. */
static inline float focused_row_eps(float eps, float c)
{
    return fmaxf(eps * c, 0x1p-100f);
}

/* c: 2^-n for max in [2^n, 2^(n+1)). */
static inline float focused_level(float max)
{
    uint32_t bits;
    float c;
    memcpy(&bits, &max, sizeof bits);
    bits = 254 - (bits >> 23 < 253 ? bits >> 23 : 253);
    bits <<= 23;
    memcpy(&c, &bits, sizeof c);
    return c;
}

#endif
