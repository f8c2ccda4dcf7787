/* cosine.h - the table of cosformer's kernels: sin t_i and cos t_i of every
 * token, t_i = (pi/2) i / max(N, M), i from 1. */
#ifndef LINEAR_COSINE_H
#define LINEAR_COSINE_H

#include "layout.h"

#include <math.h>

#define COSFORMER_LEAST 1e-6f

static inline size_t cosine_tokens(const att_problem *p)
{
    const size_t n = att_tokens(p), m = att_keys(p);
    return n > m ? n : m;
}

/* [tokens][2]: sin, cos; all are positive, as the normaliser needs. */
static inline void cosine_fill(const att_problem *p, float *table)
{
    const size_t tokens = cosine_tokens(p);
    for (size_t i = 0; i < tokens; i++) {
        const double t = acos(-1) / 2 * (double)(i + 1) / (double)tokens;
        table[2 * i] = (float)sin(t);
        table[2 * i + 1] = (float)cos(t);
    }
}

#endif
