/* power.h - x^p for vectors of x in [0, 1]. */
#ifndef LINEAR_POWER_H
#define LINEAR_POWER_H

#include "../simd.h"

/* log2 of normal x > 0, absolute error below 1e-7 + 1e-7 |log2 x|: x = 2^n m
 * with m in [sqrt(1/2), sqrt(2)), log2 m = f P(f), f = m - 1, P of degree 8
 * fitted for the least relative error (Lawson's iteration), 2.6e-8 exactly. */
SIMD_INLINE vf power_log2(vf x)
{
    const vi bits = (vi)x - 0x3f3504f3; /* sqrt(1/2) */
    const vi n = bits >> 23;
    const vf f = (vf)((bits & 0x7fffff) + 0x3f3504f3) - 1.0f;
    vf p = v_set1(0x1.01b6c6p-3f);
    p = v_fma(p, f, v_set1(-0x1.a87d02p-3f));
    p = v_fma(p, f, v_set1(0x1.b9c91cp-3f));
    p = v_fma(p, f, v_set1(-0x1.e95be8p-3f));
    p = v_fma(p, f, v_set1(0x1.26d384p-2f));
    p = v_fma(p, f, v_set1(-0x1.715c4ep-2f));
    p = v_fma(p, f, v_set1(0x1.ec73d6p-2f));
    p = v_fma(p, f, v_set1(-0x1.71547p-1f));
    p = v_fma(p, f, v_set1(0x1.715476p+0f));
    return v_fma(p, f, __builtin_convertvector(n, vf));
}

/* An exponent: x^whole by multiplications, times 2^(rest log2 x). */
typedef struct power {
    int whole;  /* >= 0                                                     */
    float rest; /* 0 where the exponent is whole                            */
} power;

/* p in (-1, 1000]. */
static inline power power_of(double p)
{
    const int whole = p > 0 ? (int)p : 0;
    return (power){ whole, (float)(p - whole) };
}

/* x^p, 0 for x = 0 (and 1 for p = 0). */
SIMD_INLINE vf power_raise(vf x, power p)
{
    vf y = v_set1(1), square = x;
    for (int n = p.whole; n > 0; n >>= 1) {
        if (n & 1) y *= square;
        square *= square;
    }
    if (p.rest == 0) return y;
    const vf least = v_set1(0x1p-126f);
    return v_select(x > 0,
                    y * v_exp2(p.rest * power_log2(v_max(x, least))), v_zero());
}

#endif
