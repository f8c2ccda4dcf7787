/* pairwise.h - rows of scores and their normalisation, for the kernels of
 * pairwise.
 */
#ifndef PAIRWISE_H
#define PAIRWISE_H

#include "../att.h"
#include "../simd.h"

#include <math.h>

enum { PW_MASK, PW_W1Q, PW_W1K, PW_B1, PW_W2, PW_B2 }; /* parameters */

#define PW_NORM_EPS 1e-8f  /* shorter vectors have cosine 0                  */
#define PW_ROOT_EPS 1e-12f /* inside the root of neg_euclid                  */
#define PW_CLAMP 1e-6f     /* least denominator of l1, max, minmax           */

static inline size_t pw_maps(const att_problem *p)
{
    return (size_t)p->batch * (size_t)p->heads;
}

static inline size_t pw_hidden(const att_problem *p)
{
    return (size_t)(p->hidden ? p->hidden : p->head_dim);
}

static inline bool pw_warps(const att_problem *p)
{
    return p->similarity == ATT_DTW || p->similarity == ATT_SOFTDTW;
}

/* Keys from here on are in the future of query i. */
static inline size_t pw_end(const att_problem *p, size_t i)
{
    const size_t n = att_tokens(p), m = att_keys(p);
    if (!att_at(&p->causal, 0, 0)) return m;
    return i + m < n ? 0 : i + m - n + 1;
}

/* Mask row of query i, or NULL. */
static inline const float *pw_mask(const att_call *c, size_t i)
{
    const float *mask = c->param[PW_MASK];
    return mask ? mask + i * att_keys(c->p) : NULL;
}

/* What normalises a row of scores: the weight of s is f(s - shift) * scale with
 * f = exp, sigmoid or the identity.  first: entry that the shift comes from
 * (softmax: none is singled out), second: that the scale comes from. */
typedef struct pw_row {
    float shift, scale;
    float below;  /* scale is 1 / below; divided by it, one's own share is 1 */
    size_t first, second;
    bool clamped; /* the scale does not depend on the scores                 */
} pw_row;

enum { PW_NOBODY = -1 };

/* e^x for a scalar that may be large: never needed beyond exp's range. */
static inline float pw_sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/* Visible entries of a row: below `end`, mask (NULL: all) not 0. */
static inline bool pw_sees(const float *mask, size_t j)
{
    return !mask || mask[j] != 0;
}

/* All ones in the lanes of entries j, j + 1 ... that are visible. */
SIMD_INLINE vi pw_visible(size_t j, size_t lanes, size_t end, const float *mask)
{
    const int32_t left = end > j ? (int32_t)(end - j < VL ? end - j : VL) : 0;
    vi lane;
    for (int i = 0; i < VL; i++) lane[i] = i;
    vi sees = lane < left;
    if (mask) sees &= v_load_n(mask + j, lanes) != 0.0f;
    return sees;
}

SIMD_INLINE size_t pw_lanes(size_t n, size_t j)
{
    return n - j < VL ? n - j : VL;
}

/* First visible entry equal to x; end if there is none (NaN among them). */
static inline size_t pw_find(const float *s, size_t end, const float *mask,
                             float x, bool magnitude)
{
    for (size_t j = 0; j < end; j++)
        if ((magnitude ? fabsf(s[j]) : s[j]) == x && pw_sees(mask, j)) return j;
    return (size_t)PW_NOBODY;
}

/* Looks at the scores s[0 .. end) of one row; first and second are PW_NOBODY
 * where no entry matters. */
static inline __attribute__((unused)) pw_row
pw_look(const att_problem *p, const float *s, size_t end, const float *mask)
{
    pw_row x = { .scale = 1, .below = 1, .first = (size_t)PW_NOBODY,
                 .second = (size_t)PW_NOBODY };
    vf most = v_set1(-INFINITY), least = v_set1(INFINITY), sum = v_zero();
    for (size_t j = 0; j < end; j += VL) {
        const size_t lanes = pw_lanes(end, j);
        const vi sees = pw_visible(j, lanes, end, mask);
        const vf y = v_load_n(s + j, lanes);
        most = v_max(most, v_select(sees, y, v_set1(-INFINITY)));
        least = v_min(least, v_select(sees, y, v_set1(INFINITY)));
        sum += v_select(sees, v_abs(y), v_zero());
    }
    const float max = v_hmax(most), min = -v_hmax(-least);
    const float magnitude = fmaxf(max, -min);
    if (max < min) return x; /* nothing is visible */
    float below = 1;
    switch (p->normalisation) {
    case ATT_NORM_SOFTMAX: x.shift = max; break;
    case ATT_NORM_SIGMOID: x.shift = -(float)p->offset; break;
    case ATT_NORM_EXPMAX:
        x.shift = max;
        x.first = pw_find(s, end, mask, max, false);
        break;
    case ATT_NORM_L1: below = v_sum(sum); break;
    case ATT_NORM_MAX:
        below = magnitude;
        x.second = pw_find(s, end, mask, magnitude, true);
        break;
    case ATT_NORM_MINMAX:
        below = max - min;
        x.shift = min;
        x.first = pw_find(s, end, mask, min, false);
        x.second = pw_find(s, end, mask, max, false);
        break;
    }
    x.clamped = below < PW_CLAMP;
    x.below = fmaxf(below, PW_CLAMP);
    x.scale = 1 / x.below;
    return x;
}

/* Weights of n >= end entries from their scores; entries that are not visible
 * get 0.  In place if a == s.  x->scale becomes that of softmax, too. */
static inline __attribute__((unused)) void
pw_weights(int how, pw_row *x, const float *s, size_t end, size_t n,
           const float *mask, float *a)
{
    vf sum = v_zero();
    for (size_t j = 0; j < n; j += VL) {
        const size_t lanes = pw_lanes(n, j);
        const vi sees = pw_visible(j, lanes, end, mask);
        vf y = v_load_n(s + j, lanes);
        switch (how) {
        case ATT_NORM_SOFTMAX:
        case ATT_NORM_EXPMAX: /* what is not visible may be above the maximum */
            y = v_exp(v_min(v_max(y - x->shift, v_set1(-200)), v_zero()));
            break;
        case ATT_NORM_SIGMOID:
            y = v_sigmoid(v_min(v_max(y - x->shift, v_set1(-80)), v_set1(80)));
            break;
        default: y = (y - x->shift) / x->below;
        }
        y = v_select(sees, y, v_zero());
        sum += y;
        v_store_n(a + j, y, lanes);
    }
    if (how != ATT_NORM_SOFTMAX) return;
    const float total = v_sum(sum);
    x->scale = total > 0 ? 1 / total : 0;
    for (size_t j = 0; j < n; j++) a[j] *= x->scale;
}

/* ds of n entries in place of da; a: weights, s: scores.  Entries that are not
 * visible get 0. */
static inline __attribute__((unused)) void
pw_weights_backward(int how, const pw_row *x, const float *s, const float *a,
                    size_t end, size_t n, const float *mask, float *da)
{
    vf sums = v_zero(), products = v_zero();
    for (size_t j = 0; j < n; j += VL) {
        const size_t lanes = pw_lanes(n, j);
        const vf y = v_select(pw_visible(j, lanes, end, mask),
                              v_load_n(da + j, lanes), v_zero());
        sums += y;
        products = v_fma(y, v_load_n(a + j, lanes), products);
        v_store_n(da + j, y, lanes);
    }
    const float sum = v_sum(sums), g = v_sum(products);
    if (how == ATT_NORM_EXPMAX) { /* g of the row is taken from one entry */
        for (size_t j = 0; j < n; j++) da[j] *= a[j];
        if (x->first < n) da[x->first] -= g;
        return;
    }
    if (how == ATT_NORM_MAX && x->second < n && !x->clamped)
        da[x->second] -= s[x->second] > 0 ? g : -g;
    if (how == ATT_NORM_MINMAX && x->first < n && x->second < n) {
        da[x->first] -= x->clamped ? sum : sum - g;
        if (!x->clamped) da[x->second] -= g;
    }
    for (size_t j = 0; j < n; j += VL) {
        const size_t lanes = pw_lanes(n, j);
        const vf b = v_load_n(a + j, lanes), t = v_load_n(s + j, lanes);
        vf y = v_load_n(da + j, lanes);
        switch (how) {
        case ATT_NORM_SOFTMAX: y = b * (y - g); break;
        case ATT_NORM_SIGMOID: y *= b * (1.0f - b); break;
        case ATT_NORM_L1: {
            const vf share = v_set1(x->clamped ? 0 : g);
            y -= v_select(t > 0.0f, share, v_zero());
            y += v_select(t < 0.0f, share, v_zero());
            y = v_select(pw_visible(j, lanes, end, mask), y * x->scale,
                         v_zero());
            break;
        }
        case ATT_NORM_MAX:
        case ATT_NORM_MINMAX: y *= x->scale; break;
        }
        v_store_n(da + j, y, lanes);
    }
}

#endif
