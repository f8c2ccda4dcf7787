/* layout.h - what the kernels of this folder share: the memory that a problem
 * needs, carved in order, and the normaliser of a row.
 */
#ifndef LINEAR_LAYOUT_H
#define LINEAR_LAYOUT_H

#include "../att.h"

/* A block handed out piece by piece.  With base NULL nothing is handed out and
 * only `used` counts: the same function lays out and measures. */
typedef struct arena {
    float *base;
    size_t used; /* floats                                                  */
} arena;

/* n floats from a cache line of their own; NULL while measuring. */
static inline float *arena_take(arena *a, size_t n)
{
    const size_t line = ATT_ALIGN / sizeof(float), at = a->used;
    a->used += (n + line - 1) / line * line;
    return a->base ? a->base + at : NULL;
}

/* D_i = max(Q_i.(z + every) + eps, least); eps may be given for each row. */
typedef struct normaliser {
    float eps, every, least;
    bool divided; /* the features are normalised already: D_i = 1            */
} normaliser;

/* 1 / D_i from Q_i.(z + every) and eps. */
static inline float normaliser_inverse(const normaliser *d, float sum,
                                       float eps)
{
    const float x = sum + eps;
    return 1 / (x > d->least ? x : d->least);
}

/* Whether D_i of that inverse follows its sum (is not clamped). */
static inline bool normaliser_open(const normaliser *d, float inverse)
{
    return d->least == 0 || inverse < 1 / d->least;
}

static inline size_t maps_of(const att_problem *p)
{
    return (size_t)p->batch * (size_t)p->heads;
}

static inline bool is_causal(const att_problem *p)
{
    return att_at(&p->causal, 0, 0) != 0;
}

#endif
