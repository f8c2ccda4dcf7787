/* levels.h - the largest key of each channel, which exponential features of the
 * fused kernels are taken relative to. */
#ifndef LINEAR_LEVELS_H
#define LINEAR_LEVELS_H

#include "fused.h"

/* level [maps][lf] of k [maps][m][f]; a thread owns channels. */
FUSED void levels_of_keys(const fused *u, const float *k, float *level)
{
    const size_t vectors = u->lf / VL;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t task = 0; task < u->maps * vectors; task++) {
        const size_t c = task % vectors * VL, map = task / vectors;
        const size_t lanes = u->f - c < VL ? u->f - c : VL;
        const float *x = k + map * u->m * u->f + c;
        vf most = v_load_n(x, lanes);
        for (size_t j = 1; j < u->m; j++)
            most = v_max(most, v_load_n(x + j * u->f, lanes));
        v_store(level + map * u->lf + c, most);
    }
}

/* Largest of x [n] + y [n]. */
SIMD_INLINE float levels_largest(const float *x, const float *y, size_t n)
{
    const size_t whole = n / VL * VL;
    vf most = v_set1(V_LOWEST);
    for (size_t c = 0; c < whole; c += VL)
        most = v_max(most, v_load(x + c) + v_load(y + c));
    float max = v_hmax(most);
    for (size_t c = whole; c < n; c++) max = fmaxf(max, x[c] + y[c]);
    return max;
}

/* y = exp(x + sign level - shift), the last vector masked. */
SIMD_INLINE void levels_exp(const float *x, const float *level, float sign,
                            float shift, size_t n, float *y)
{
    const size_t whole = n / VL * VL, last = n - whole;
    const vf minus = v_set1(shift), s = v_set1(sign);
    for (size_t c = 0; c < whole; c += VL)
        v_store(y + c,
                v_exp(v_fma(s, v_load(level + c), v_load(x + c)) - minus));
    if (last)
        v_store_n(y + whole,
                  v_exp(v_fma(s, v_load(level + whole),
                              v_load_n(x + whole, last)) - minus),
                  last);
}

#endif
