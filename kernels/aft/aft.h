/* aft.h - what the AFT kernels share: which pairs carry a bias, and the exact
 * evaluation of a few features at a time, which the fast forms fall back to.
 *
 * The fast forms use exp(k + w) = exp(k - max k) exp(w - max w), which loses the
 * row when the two ranges together exceed what a float can hold.  They notice
 * (the denominator is tiny) and evaluate those features again with the maximum
 * of k + w, as aft_exact() does.
 */
#ifndef AFT_H
#define AFT_H

#include "../att.h"
#include "../simd.h"

#include <stdlib.h>

enum { AFT_W, AFT_WU, AFT_WV }; /* parameters */

enum aft_kind { AFT_FULL, AFT_LOCAL };

static inline bool aft_causal(const att_problem *p)
{
    return att_at(&p->causal, 0, 0);
}

/* Tokens that t sees are 0 .. aft_seen() - 1. */
static inline size_t aft_seen(const att_problem *p, size_t t)
{
    return aft_causal(p) ? t + 1 : att_tokens(p);
}

/* Whether the bias of a pair is learned (else it is 0). */
static inline bool aft_kept(const att_problem *p, enum aft_kind kind, size_t t,
                            size_t j)
{
    if (kind == AFT_FULL) return true;
    for (int a = p->grid.n - 1; a >= 0; a--) {
        const size_t side = (size_t)p->grid.v[a];
        const size_t x = t % side, y = j % side;
        if ((x > y ? x - y : y - x) >= (size_t)att_at(&p->window, a, 0))
            return false;
        t /= side;
        j /= side;
    }
    return true;
}

static inline __attribute__((unused)) float
aft_bias(const att_call *c, enum aft_kind kind, size_t t, size_t j)
{
    const size_t n = att_tokens(c->p), f = (size_t)c->p->factor;
    if (!aft_kept(c->p, kind, t, j)) return 0;
    if (!f) return c->param[AFT_W][t * n + j];
    float sum = 0;
    for (size_t i = 0; i < f; i++)
        sum += c->param[AFT_WU][t * f + i] * c->param[AFT_WV][j * f + i];
    return sum;
}

/* The first n lanes; n is VL but in the last chunk of a row. */
SIMD_INLINE vf aft_load(const float *p, size_t n)
{
    return n == VL ? v_load(p) : v_load_n(p, n);
}

SIMD_INLINE void aft_store(float *p, vf x, size_t n)
{
    if (n == VL) v_store(p, x);
    else v_store_n(p, x, n);
}

SIMD_INLINE size_t aft_lanes(size_t width, size_t f)
{
    return width - f < VL ? width - f : VL;
}

/* k + b; a bias of -infinity hides the token, one of infinity is the largest. */
SIMD_INLINE vf aft_logit(vf k, float b)
{
    return v_min(v_set1(-V_LOWEST), k + v_set1(b));
}

/* e^x for x <= 0, minus infinity included. */
SIMD_INLINE vf aft_exp(vf x)
{
    return v_exp(v_max(x, v_set1(-200)));
}

typedef struct aft_row {
    vf max, den, mean;
} aft_row;

/* Softmax mean over j < end of n features: k and v point at the first feature of
 * token 0, b[j] is the bias.  Keeps the exponentials, relative to the maximum,
 * as whole vectors in kept, unless that is NULL. */
SIMD_INLINE aft_row aft_exact_kept(const float *k, const float *v, size_t width,
                                   size_t n, const float *b, size_t end,
                                   float *kept)
{
    aft_row x = { .max = v_set1(V_LOWEST), .den = v_zero() };
    vf num = v_zero(), max[4]; /* maxima that do not wait for each other */
    size_t i = 0;
    UNROLL for (int u = 0; u < 4; u++) max[u] = x.max;
    for (; i + 4 <= end; i += 4)
        UNROLL for (size_t u = 0; u < 4; u++)
            max[u] = v_max(max[u], aft_logit(aft_load(k + (i + u) * width, n),
                                             b[i + u]));
    for (; i < end; i++)
        max[0] = v_max(max[0], aft_logit(aft_load(k + i * width, n), b[i]));
    x.max = v_max(v_max(max[0], max[1]), v_max(max[2], max[3]));
    for (size_t j = 0; j < end; j++) {
        const vf s = aft_logit(aft_load(k + j * width, n), b[j]);
        const vf e = v_exp(s - x.max);
        if (kept) v_store(kept + j * VL, e);
        x.den += e;
        num = v_fma(e, aft_load(v + j * width, n), num);
    }
    /* a token that sees nothing: 0, and 0 / 1 for its weights */
    x.den = v_select(x.den > 0.0f, x.den, v_set1(1));
    x.mean = num / x.den;
    return x;
}

SIMD_INLINE aft_row aft_exact(const float *k, const float *v, size_t width,
                              size_t n, const float *b, size_t end)
{
    return aft_exact_kept(k, v, width, n, b, end, NULL);
}

#endif
