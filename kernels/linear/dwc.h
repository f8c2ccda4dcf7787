/* dwc.h - the depthwise convolution branch of sla and focused_linear, as its
 * mechanisms and kernels see it.
 *
 *     o_c += M_c v_c + b_c       one filter a channel, shared by the heads
 *
 * Cross-correlation of odd side k with zero padding floor(k/2) on the H x W map
 * of tokens.  Where sr_ratio makes fewer keys than queries (N / sr_ratio^2), v
 * is first resized to N tokens by linear interpolation along the token axis.
 */
#ifndef LINEAR_DWC_H
#define LINEAR_DWC_H

#include "../att.h"

enum { DWC_SIDE = 5, DWC_SIDE_MAX = 255, DWC_RATIO_MAX = 1 << 15 };

static inline int dwc_side(const att_problem *p)
{
    return att_at(&p->conv, 0, DWC_SIDE);
}

/* Keys: tokens_k, or as many as sr_ratio leaves. */
static inline size_t dwc_keys(const att_problem *p)
{
    const size_t r = (size_t)p->sr_ratio;
    return p->tokens_k ? (size_t)p->tokens_k : att_tokens(p) / (r * r);
}

/* The same problem with tokens_k told, so that att_keys() is right. */
static inline att_problem dwc_problem(const att_problem *p)
{
    att_problem out = *p;
    out.tokens_k = (int)dwc_keys(p);
    return out;
}

static inline void dwc_shape(const att_problem *p, enum att_slot slot,
                             att_shape *out)
{
    if (slot == ATT_K || slot == ATT_V) out->tokens = (int)dwc_keys(p);
}

/* The reason why the branch is not defined, or NULL. */
static inline const char *dwc_reject(const att_problem *p)
{
    for (int a = 1; a < p->conv.n; a++)
        if (p->conv.v[a] != p->conv.v[0])
            return "the depthwise convolution is square: give conv one value";
    if (dwc_side(p) < 1 || dwc_side(p) > DWC_SIDE_MAX)
        return "conv must be from 1 to 255";
    if (dwc_side(p) % 2 == 0)
        return "an even convolution would change the number of tokens: use an "
               "odd conv";
    if (p->sr_ratio < 1 || p->sr_ratio > DWC_RATIO_MAX)
        return "sr_ratio must be from 1 to 32768";
    if (dwc_keys(p) * (size_t)p->sr_ratio * (size_t)p->sr_ratio !=
        att_tokens(p))
        return "sr_ratio^2 times the keys must be the number of tokens";
    return NULL;
}

/* Token i of n is (1 - w) v[a] + w v[b] of m. */
typedef struct dwc_source {
    size_t a, b;
    double w;
} dwc_source;

static inline dwc_source dwc_resize(size_t i, size_t n, size_t m)
{
    double x = ((double)i + 0.5) * (double)m / (double)n - 0.5;
    if (x < 0) x = 0;
    const size_t a = (size_t)x;
    return (dwc_source){ a, a + 1 < m ? a + 1 : a, x - (double)a };
}

#endif
