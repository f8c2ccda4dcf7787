/* exponential.h - exponential features of linear attention without overflow.
 *
 *     phi(q_i).phi(k_j) = sum_c exp(q_ic + k_jc)
 *
 * With the level b_c = max_j k_jc of a channel and the shift a_i = max_c (q_ic
 * + b_c) of a query, exp(q_ic + b_c - a_i) and exp(k_jc - b_c) are at most 1,
 * D_i is at least 1, and o_i is unchanged if eps is multiplied by exp(-a_i).
 *
 * A causal row sees only the first keys, which may lie so far below the level
 * that their features vanish.  Where the first key is within SPREAD of the
 * level in every channel this cannot happen (every row sees it); else a map is
 * evaluated pair by pair with the level of each prefix: quadratic in N, but
 * right.
 */
#ifndef LINEAR_EXPONENTIAL_H
#define LINEAR_EXPONENTIAL_H

#include "../simd.h"
#include "layout.h"

#include <omp.h>

#define EXPONENTIAL_EPS 1e-6f

/* exp(-60) leaves 27 e-folds of precision above the least float. */
#define EXPONENTIAL_SPREAD 60.0f

/* level[c] = max(level[c], k_jc) over rows of k. */
static inline void exponential_raise(const float *k, size_t rows, size_t f,
                                     float *level)
{
    for (size_t j = 0; j < rows; j++)
        for (size_t c = 0; c < f; c++)
            level[c] = k[j * f + c] > level[c] ? k[j * f + c] : level[c];
}

/* Whether a causal map has to go pair by pair. */
static inline bool exponential_spread(const float *first, const float *level,
                                      size_t f)
{
    for (size_t c = 0; c < f; c++)
        if (level[c] - first[c] > EXPONENTIAL_SPREAD) return true;
    return false;
}

/* eps exp(-a); infinite where nothing reaches eps, so that o_i is 0. */
static inline float exponential_eps(float shift)
{
    return EXPONENTIAL_EPS * expf(-shift);
}

/* Exponents of a key, or of a query, become features in place; that of a query
 * returns its eps. */
static inline void exponential_key(float *x, const float *level, size_t f)
{
    for (size_t c = 0; c < f; c++) x[c] = expf(x[c] - level[c]);
}

static inline float exponential_query(float *x, const float *level, size_t f)
{
    float shift = -INFINITY;
    for (size_t c = 0; c < f; c++) shift = fmaxf(shift, x[c] + level[c]);
    for (size_t c = 0; c < f; c++) x[c] = expf(x[c] + level[c] - shift);
    return exponential_eps(shift);
}

/* One causal map, pair by pair; level is scratch of f floats. */
typedef struct exponential_map {
    size_t n, f, e;
    const float *q, *k, *v;
    float *level;
} exponential_map;

static inline float exponential_shift(const exponential_map *m, size_t i)
{
    float shift = -INFINITY;
    exponential_raise(m->k + i * m->f, 1, m->f, m->level);
    for (size_t c = 0; c < m->f; c++)
        shift = fmaxf(shift, m->q[i * m->f + c] + m->level[c]);
    return shift;
}

/* exp(q_ic + k_jc - shift) for channels from c on; lanes beyond are 0. */
static inline vf exponential_weights(const exponential_map *m, size_t i,
                                     size_t j, size_t c, float shift, size_t *n)
{
    *n = m->f - c < VL ? m->f - c : VL;
    const vf x = v_load_n(m->q + i * m->f + c, *n) +
                 v_load_n(m->k + j * m->f + c, *n) - v_set1(shift);
    return v_first(v_exp(x), *n);
}

/* 1 / D_i, and o_i if not NULL. */
static inline float exponential_row(const exponential_map *m, size_t i,
                                    float shift, float *o)
{
    float sum = 0;
    size_t n;
    for (size_t l = 0; o && l < m->e; l++) o[l] = 0;
    for (size_t j = 0; j <= i; j++) {
        vf s = v_zero();
        for (size_t c = 0; c < m->f; c += VL)
            s += exponential_weights(m, i, j, c, shift, &n);
        const float score = v_sum(s);
        sum += score;
        for (size_t l = 0; o && l < m->e; l++)
            o[l] += score * m->v[j * m->e + l];
    }
    const float h = 1 / (sum + exponential_eps(shift));
    for (size_t l = 0; o && l < m->e; l++) o[l] *= h;
    return h;
}

static inline void exponential_begin(const exponential_map *m)
{
    for (size_t c = 0; c < m->f; c++) m->level[c] = V_LOWEST;
}

static inline void exponential_forward(const exponential_map *m, float *o)
{
    exponential_begin(m);
    for (size_t i = 0; i < m->n; i++)
        exponential_row(m, i, exponential_shift(m, i), o + i * m->e);
}

/* Gradients of q and k themselves; each may be NULL.  ds_ij = (g_i.v_j -
 * g_i.o_i) / D_i reaches channel c of both with the weight of that channel. */
static inline void exponential_backward(const exponential_map *m,
                                        const float *o, const float *g,
                                        float *dq, float *dk, float *dv)
{
    const size_t f = m->f, e = m->e;
    if (dq) memset(dq, 0, m->n * f * sizeof *dq);
    if (dk) memset(dk, 0, m->n * f * sizeof *dk);
    if (dv) memset(dv, 0, m->n * e * sizeof *dv);
    exponential_begin(m);
    for (size_t i = 0; i < m->n; i++) {
        const float shift = exponential_shift(m, i);
        const float h = exponential_row(m, i, shift, NULL);
        float mean = 0;
        for (size_t l = 0; l < e; l++) mean += g[i * e + l] * o[i * e + l];
        for (size_t j = 0; j <= i; j++) {
            vf s = v_zero();
            float ds = -mean;
            for (size_t l = 0; l < e; l++) ds += g[i * e + l] * m->v[j * e + l];
            for (size_t c = 0, n; c < f; c += VL) {
                const vf w = exponential_weights(m, i, j, c, shift, &n);
                const vf dx = w * v_set1(h * ds);
                float *x = dq ? dq + i * f + c : NULL;
                float *y = dk ? dk + j * f + c : NULL;
                s += w;
                if (x) v_store_n(x, v_load_n(x, n) + dx, n);
                if (y) v_store_n(y, v_load_n(y, n) + dx, n);
            }
            const float a = h * v_sum(s);
            for (size_t l = 0; dv && l < e; l++)
                dv[j * e + l] += a * g[i * e + l];
        }
    }
}

/* The maps whose spread is not 0, forward or (g not NULL) backward.  scratch
 * has `pitch` >= f floats for each thread. */
static inline void exponential_spread_maps(const att_call *c, const att_grad *g,
                                           const float *spread, float *scratch,
                                           size_t pitch)
{
    const size_t n = att_tokens(c->p), f = (size_t)c->p->head_dim;
    const size_t e = att_value_dim(c->p), maps = maps_of(c->p);
    #pragma omp parallel for num_threads(c->threads)
    for (size_t map = 0; map < maps; map++) {
        if (spread[map] == 0) continue;
        const size_t x = map * n * f, y = map * n * e;
        const exponential_map m = {
            .n = n, .f = f, .e = e, .q = (const float *)c->q + x,
            .k = (const float *)c->k + x, .v = (const float *)c->v + y,
            .level = scratch + (size_t)omp_get_thread_num() * pitch,
        };
        if (!g) exponential_forward(&m, (float *)c->o + y);
        else
            exponential_backward(&m, (const float *)c->o + y, g->dout + y,
                                 g->dq ? g->dq + x : NULL,
                                 g->dk ? g->dk + x : NULL,
                                 g->dv ? g->dv + y : NULL);
    }
}

#endif
