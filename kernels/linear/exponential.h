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
 * evaluated token after token with the level of each prefix, as the definition
 * runs: S = sum_j exp(k_j - b) v_j' and z are scaled down when b rises.  Backward
 * runs so twice: S once more from the first token on, for dq, and from the last
 * token on R = sum_i exp(q_i + b - a_i) g_i' / D_i, which is scaled down when b
 * falls, for dk and dv.
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

/* Whether a causal map has to go token after token. */
static inline bool exponential_spread(const float *first, const float *level,
                                      size_t f)
{
    for (size_t c = 0; c < f; c++)
        if (level[c] - first[c] > EXPONENTIAL_SPREAD) return true;
    return false;
}

/* Whether all maps have, so that nothing else need be done. */
static inline bool exponential_all(const float *spread, size_t maps)
{
    for (size_t map = 0; map < maps; map++)
        if (spread[map] == 0) return false;
    return true;
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

/* One causal map, token after token.  Rows of f or e floats in scratch are padded
 * to whole vectors of zeros. */
typedef struct exponential_map {
    size_t n, f, e, fp, ep;
    const float *q, *k, *v;
    float *level, *drop, *x, *y, *z; /* [fp]: b, exp(b before - b), features */
    float *state;                    /* forward [f][ep], backward [e][fp]    */
    float *levels, *queries;         /* backward [n][fp]: b, y / D           */
    float *along, *row;              /* backward [n]: g.o; [ep]              */
} exponential_map;

static inline size_t exponential_pitch(size_t n)
{
    return (n + 15) / 16 * 16;
}

/* Floats of scratch of a thread. */
static inline size_t exponential_floats(const att_problem *p, bool backward)
{
    const size_t fp = exponential_pitch((size_t)p->head_dim);
    const size_t ep = exponential_pitch(att_value_dim(p));
    const size_t n = att_tokens(p);
    return 5 * fp + fp * ep +
           (backward ? 2 * n * fp + exponential_pitch(n) + ep : 0);
}

static inline exponential_map exponential_at(const att_call *c, size_t map,
                                             bool backward, float *scratch)
{
    const size_t n = att_tokens(c->p), f = (size_t)c->p->head_dim;
    const size_t e = att_value_dim(c->p), fp = exponential_pitch(f);
    exponential_map m = { .n = n, .f = f, .e = e, .fp = fp,
                          .ep = exponential_pitch(e),
                          .q = (const float *)c->q + map * n * f,
                          .k = (const float *)c->k + map * n * f,
                          .v = (const float *)c->v + map * n * e };
    float **const part[] = { &m.level, &m.drop, &m.x, &m.y, &m.z };
    memset(scratch, 0, exponential_floats(c->p, backward) * sizeof *scratch);
    for (int i = 0; i < 5; i++, scratch += fp) *part[i] = scratch;
    m.state = scratch, scratch += fp * m.ep;
    m.levels = scratch, scratch += n * fp;
    m.queries = scratch, scratch += n * fp;
    m.along = scratch, scratch += exponential_pitch(n);
    m.row = scratch;
    for (size_t c0 = 0; c0 < f; c0++) m.level[c0] = V_LOWEST;
    return m;
}

SIMD_INLINE size_t exponential_lanes(size_t n, size_t c)
{
    return n - c < VL ? n - c : VL;
}

/* Takes key i in: level, drop, x, y and z are those of the rows up to i; returns
 * D, and its shift. */
static inline float exponential_step(const exponential_map *m, size_t i,
                                     float *shift)
{
    vf most = v_set1(V_LOWEST), sum = v_zero();
    for (size_t c = 0; c < m->f; c += VL) {
        const size_t lanes = exponential_lanes(m->f, c);
        const vf k = v_load_n(m->k + i * m->f + c, lanes);
        const vf old = v_load(m->level + c), level = v_max(old, k);
        const vf y = v_load_n(m->q + i * m->f + c, lanes) + level;
        v_store(m->level + c, v_first(level, lanes));
        v_store(m->drop + c, v_first(v_exp(old - level), lanes));
        v_store(m->x + c, v_first(v_exp(k - level), lanes));
        v_store(m->y + c, y);
        most = v_max(most, v_select(vi_first(lanes), y, most));
    }
    *shift = v_hmax(most);
    for (size_t c = 0; c < m->f; c += VL) {
        const vf y = v_first(v_exp(v_load(m->y + c) - *shift),
                             exponential_lanes(m->f, c));
        const vf z = v_fma(v_load(m->z + c), v_load(m->drop + c),
                           v_load(m->x + c));
        v_store(m->y + c, y);
        v_store(m->z + c, z);
        sum += y * z;
    }
    return v_sum(sum) + exponential_eps(*shift);
}

/* S takes key i in; `vectors` vectors of y S from column l on. */
SIMD_INLINE void exponential_read(const int vectors, const exponential_map *m,
                                  size_t i, size_t l, float h, float *o)
{
    vf v[4], sum[4];
    UNROLL for (int a = 0; a < vectors; a++) {
        const size_t at = l + (size_t)a * VL;
        v[a] = v_load_n(m->v + i * m->e + at, exponential_lanes(m->e, at));
        sum[a] = v_zero();
    }
    for (size_t c = 0; c < m->f; c++) {
        float *s = m->state + c * m->ep + l;
        const vf drop = v_set1(m->drop[c]), x = v_set1(m->x[c]);
        const vf y = v_set1(m->y[c]);
        UNROLL for (int a = 0; a < vectors; a++) {
            const vf now = v_fma(v_load(s + a * VL), drop, x * v[a]);
            v_store(s + a * VL, now);
            sum[a] = v_fma(y, now, sum[a]);
        }
    }
    UNROLL for (int a = 0; a < vectors; a++) {
        const size_t at = l + (size_t)a * VL;
        v_store_n(o + i * m->e + at, sum[a] * h, exponential_lanes(m->e, at));
    }
}

static inline void exponential_forward(const exponential_map *m, float *o)
{
    for (size_t i = 0; i < m->n; i++) {
        float shift;
        const float h = 1 / exponential_step(m, i, &shift);
        size_t l = 0;
        for (; l + 3 * VL < m->e; l += 4 * VL)
            exponential_read(4, m, i, l, h, o);
        for (; l + VL < m->e; l += 2 * VL) exponential_read(2, m, i, l, h, o);
        if (l < m->e) exponential_read(1, m, i, l, h, o);
    }
}

/* dq, and levels, queries and along for the keys. */
static inline void exponential_queries(const exponential_map *m, const float *o,
                                       const float *g, float *dq)
{
    for (size_t i = 0; i < m->n; i++) {
        float shift, mean = 0;
        const float h = 1 / exponential_step(m, i, &shift);
        const float *v = m->v + i * m->e, *gi = g + i * m->e;
        for (size_t l = 0; l < m->e; l++) mean += gi[l] * o[i * m->e + l];
        m->along[i] = mean;
        for (size_t c = 0; c < m->f; c += VL) {
            const vf drop = v_load(m->drop + c), x = v_load(m->x + c);
            const vf y = v_load(m->y + c) * h;
            vf sum[2] = { -mean * v_load(m->z + c), v_zero() };
            v_store(m->levels + i * m->fp + c, v_load(m->level + c));
            v_store(m->queries + i * m->fp + c, y);
            if (!dq) continue;
            for (size_t l = 0; l < m->e; l++) {
                float *s = m->state + l * m->fp + c;
                const vf now = v_fma(v_load(s), drop, x * v[l]);
                v_store(s, now);
                sum[l % 2] = v_fma(now, v_set1(gi[l]), sum[l % 2]);
            }
            v_store_n(dq + i * m->f + c, y * (sum[0] + sum[1]),
                      exponential_lanes(m->f, c));
        }
    }
}

/* dk and dv of key j; R and r, in state and z, take query j in. */
static inline void exponential_key_gradients(const exponential_map *m, size_t j,
                                             const float *g, float *dk,
                                             float *dv)
{
    const float *level = m->levels + j * m->fp;
    const float *v = m->v + j * m->e, *gj = g + j * m->e;
    for (size_t c = 0; c < m->f; c += VL) {
        const size_t lanes = exponential_lanes(m->f, c);
        const vf drop = j + 1 < m->n ? v_exp(v_load(level + c) -
                                             v_load(level + m->fp + c))
                                     : v_zero();
        const vf y = v_load(m->queries + j * m->fp + c);
        const vf k = v_load_n(m->k + j * m->f + c, lanes);
        const vf x = v_first(v_exp(k - v_load(level + c)), lanes);
        const vf z = v_fma(v_load(m->z + c), drop, y * m->along[j]);
        vf sum = v_zero();
        v_store(m->z + c, z);
        v_store(m->x + c, x);
        for (size_t l = 0; l < m->e; l++) {
            float *s = m->state + l * m->fp + c;
            const vf now = v_fma(v_load(s), drop, y * gj[l]);
            v_store(s, now);
            sum = v_fma(now, v_set1(v[l]), sum);
        }
        if (dk) v_store_n(dk + j * m->f + c, x * (sum - z), lanes);
    }
    for (size_t l = 0; dv && l < m->e; l += 4) {
        vf sum[4] = { v_zero(), v_zero(), v_zero(), v_zero() };
        for (size_t c = 0; c < m->fp; c += VL)
            UNROLL for (size_t a = 0; a < 4; a++)
                sum[a] = v_fma(v_load(m->x + c),
                               v_load(m->state + (l + a) * m->fp + c), sum[a]);
        v_sum4(sum[0], sum[1], sum[2], sum[3], m->row + l);
    }
    if (dv) memcpy(dv + j * m->e, m->row, m->e * sizeof *dv);
}

/* Gradients of q and k themselves; each may be NULL. */
static inline void exponential_backward(const exponential_map *m,
                                        const float *o, const float *g,
                                        float *dq, float *dk, float *dv)
{
    exponential_queries(m, o, g, dq);
    if (!dk && !dv) return;
    memset(m->state, 0, m->fp * m->ep * sizeof *m->state);
    memset(m->z, 0, m->fp * sizeof *m->z);
    for (size_t j = m->n; j-- > 0;)
        exponential_key_gradients(m, j, g, dk, dv);
}

/* The maps whose spread is not 0, forward or (g not NULL) backward.  scratch
 * has exponential_floats() for each thread. */
static inline void exponential_spread_maps(const att_call *c, const att_grad *g,
                                           const float *spread, float *scratch)
{
    const size_t n = att_tokens(c->p), f = (size_t)c->p->head_dim;
    const size_t e = att_value_dim(c->p), maps = maps_of(c->p);
    const size_t pitch = exponential_floats(c->p, g != NULL);
    #pragma omp parallel for num_threads(c->threads)
    for (size_t map = 0; map < maps; map++) {
        if (spread[map] == 0) continue;
        const size_t x = map * n * f, y = map * n * e;
        const exponential_map m =
            exponential_at(c, map, g != NULL,
                           scratch + (size_t)omp_get_thread_num() * pitch);
        if (!g) exponential_forward(&m, (float *)c->o + y);
        else
            exponential_backward(&m, (const float *)c->o + y, g->dout + y,
                                 g->dq ? g->dq + x : NULL,
                                 g->dk ? g->dk + x : NULL,
                                 g->dv ? g->dv + y : NULL);
    }
}

#endif
