/* dense.h - softmax attention of one block of queries over one list of keys: the
 * tiled kernels of swin, cswin and halo.
 *
 * Blocks are small (49 to 196 keys), so that S of a group of queries stays in the
 * first two caches and the softmax needs no running state:
 *
 *     S[key][query] = K Qt   P = softmax over keys   Ot[channel][query] = V' P
 *
 * Lanes are queries; K, V and Q of the block are gathered into rows first (a few
 * per cent of the time), positions without a token are rows of zeros.  One or
 * two queries that would need a vector of their own (49 = 3 x 16 + 1) are done by
 * rows instead, as in direct.h.
 *
 * Backward, per group:  dP = V Gt   dS = P (dP - sum P dP)
 *     dQ = dS' K   dK += dS Q   dV += P dO
 */
#ifndef ATT_DENSE_H
#define ATT_DENSE_H

#include "direct.h"
#include "planar.h"

#include "../tile.h"

enum {
    DENSE_LANES = 3 * VL, /* most queries of a group                         */
    DENSE_TAIL = VL == 16 ? 2 : 0
};

/* One block of one map. */
typedef struct dense {
    size_t d, queries, keys;
    float scale;             /* log2(e) times that of the logits              */
    const int32_t *query;    /* tokens; -1: a position without one            */
    const int32_t *key;
    const float *pad_k, *pad_v; /* of positions without a token; NULL: 0      */
    int dtype;               /* of q, k, v and o                              */
    const void *q, *k, *v;   /* of the map                                    */
    void *o;
    float *lse;              /* in base 2; may be NULL                        */
    const float *g;          /* backward alone                                */
    float *dq, *dk, *dv;     /* dk and dv are added to; any may be NULL       */

    /* Adds the bias (in base 2) of queries [first, first + lanes) to
     * s[key][lanes]; lanes is 1 or a multiple of VL.  NULL: none. */
    void (*bias)(const struct dense *x, size_t first, size_t lanes, float *s);
    /* Gets dS of a group, ds[key][lanes]; may add to dq[lane][d], which is
     * multiplied by the scale of the logits later.  NULL: no bias gradient. */
    void (*bias_back)(const struct dense *x, size_t first, size_t lanes,
                      const float *ds, float *dq);
    /* Adds to the outputs of queries [first, first + n), out[query][pitch],
     * before they are stored; v[key][d] are the gathered values.  NULL: nothing
     * to add. */
    void (*finish)(const struct dense *x, const float *v, size_t first,
                   size_t n, float *out, size_t pitch);
    const void *geometry;    /* the kernel's own                              */

    /* The group's queries times `scale`, for the two functions. */
    const float *rows;       /* [lanes][d]                                    */
    const float *turned;     /* [d][lanes]                                    */
} dense;

/* Scratch of a thread. */
typedef struct dense_scratch {
    float *k, *v;        /* [keys][d]                                        */
    float *q, *qt;       /* [lanes][d] scaled, [d][lanes]                    */
    float *s, *ot;       /* [keys][lanes], [d][lanes]                        */
    float *out;          /* [lanes][d rounded up to VL]                      */
    float *g, *gt, *ds;  /* backward: as q, qt, s                            */
    float *dk, *dv;      /* [keys][d]                                        */
} dense_scratch;

static inline size_t dense_floats(size_t keys, size_t d, bool back)
{
    const size_t rows = direct_up(keys * d), lanes = DENSE_LANES;
    const size_t scores = direct_up(lanes * keys), turned = direct_up(lanes * d);
    return 2 * rows + 3 * turned + scores + direct_up(lanes * (d + VL)) +
           (back ? 2 * turned + scores + 2 * rows : 0);
}

static inline dense_scratch dense_scratch_of(size_t keys, size_t d, float *at)
{
    const size_t rows = direct_up(keys * d), lanes = DENSE_LANES;
    const size_t scores = direct_up(lanes * keys), turned = direct_up(lanes * d);
    dense_scratch w = { .k = at, .v = at + rows };
    w.q = w.v + rows;
    w.qt = w.q + turned;
    w.ot = w.qt + turned;
    w.s = w.ot + turned;
    w.out = w.s + scores;
    w.g = w.out + direct_up(lanes * (d + VL));
    w.gt = w.g + turned;
    w.ds = w.gt + turned;
    w.dk = w.ds + scores;
    w.dv = w.dk + rows;
    return w;
}

/* Element `at` of a tensor. */
static inline void *dense_at(int dtype, const void *tensor, size_t at)
{
    return (char *)tensor + at * (dtype == ATT_F32 ? 4 : 2);
}

/* Halves are converted where rows are gathered and scattered. */
static inline const char *dense_reject(const att_problem *p, enum att_pass pass)
{
    (void)p;
    (void)pass;
    return NULL;
}

/* to[i] = scale * from[index[i]]; where the index is negative, pad or zeros. */
static inline void dense_gather(int dtype, const void *from,
                                const int32_t *index, const float *pad,
                                size_t n, size_t d, float scale, float *to)
{
    for (size_t i = 0; i < n; i++, to += d) {
        if (index[i] < 0) {
            if (pad) memcpy(to, pad, d * sizeof *to);
            else memset(to, 0, d * sizeof *to);
            continue;
        }
        const float *row =
            store_view(dtype, from, (size_t)index[i] * d, d, to);
        size_t c = 0;
        for (; c + VL <= d; c += VL) v_store(to + c, scale * v_load(row + c));
        if (c < d) v_store_n(to + c, scale * v_load_n(row + c, d - c), d - c);
    }
}

/* Rows i of `from` (pitch floats apart) to tokens index[i]; += if add. */
static inline void dense_scatter(const float *from, size_t pitch,
                                 const int32_t *index, size_t n, size_t d,
                                 float scale, bool add, float *to)
{
    for (size_t i = 0; i < n; i++, from += pitch) {
        if (index[i] < 0) continue;
        float *row = to + (size_t)index[i] * d;
        for (size_t c = 0; c < d; c += VL) {
            const size_t left = d - c < VL ? d - c : VL;
            vf x = scale * v_load_n(from + c, left);
            if (add) x += v_load_n(row + c, left);
            v_store_n(row + c, x, left);
        }
    }
}

/* As dense_scatter, to tensors of any dtype. */
static inline void dense_put(int dtype, const float *from, size_t pitch,
                             const int32_t *index, size_t n, size_t d, void *to)
{
    if (dtype == ATT_F32) {
        dense_scatter(from, pitch, index, n, d, 1, false, to);
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (index[i] >= 0)
            store_put(dtype, to, (size_t)index[i] * d, d, from + i * pitch);
}

/* Queries [first, first + lanes) as rows and transposed; those from
 * x->queries on are zeros. */
static inline void dense_queries(const dense *x, int dtype, const void *from,
                                 float scale, size_t first, size_t lanes,
                                 float *rows, float *turned)
{
    const size_t n =
        x->queries - first < lanes ? x->queries - first : lanes;
    dense_gather(dtype, from, x->query + first, NULL, n, x->d, scale, rows);
    memset(rows + n * x->d, 0, (lanes - n) * x->d * sizeof *rows);
    planar_turn(rows, x->d, lanes, lanes, x->d, turned, lanes);
}

/* s[key][lane] = rows . turned, in tiles of even height: 49 keys as 7 x 7. */
static inline void dense_score(const dense *x, size_t lanes, const float *rows,
                               const float *turned, float *s)
{
    const size_t tiles = (x->keys + TILE_M - 1) / TILE_M;
    const size_t height = (x->keys + tiles - 1) / tiles;
    for (size_t j = 0; j < x->keys; j += height) {
        const size_t n = x->keys - j < height ? x->keys - j : height;
        tile_gemm(n, lanes, x->d, rows + j * x->d, x->d, 1, turned, lanes,
                  s + j * lanes, lanes, false);
    }
}

/* One vector of lanes: s -> 2^(s - max) over all keys; returns the sum. */
SIMD_INLINE vf dense_soften(size_t keys, float *s, size_t ld, vf *top)
{
    vf max[4], sum[4];
    UNROLL for (int i = 0; i < 4; i++) {
        max[i] = v_set1(V_LOWEST);
        sum[i] = v_zero();
    }
    size_t j = 0;
    for (; j + 4 <= keys; j += 4)
        UNROLL for (size_t i = 0; i < 4; i++)
            max[i] = v_max(max[i], v_load(s + (j + i) * ld));
    for (; j < keys; j++) max[0] = v_max(max[0], v_load(s + j * ld));
    const vf most = v_max(v_max(max[0], max[1]), v_max(max[2], max[3]));
    for (j = 0; j + 4 <= keys; j += 4)
        UNROLL for (size_t i = 0; i < 4; i++) {
            const vf e = v_exp2(v_load(s + (j + i) * ld) - most);
            sum[i] += e;
            v_store(s + (j + i) * ld, e);
        }
    for (; j < keys; j++) {
        const vf e = v_exp2(v_load(s + j * ld) - most);
        sum[0] += e;
        v_store(s + j * ld, e);
    }
    *top = most;
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Of a row that saw nothing: any finite number. */
static inline float dense_lse(float max, float sum)
{
    return sum > 0 ? max + log2f(sum) : 0;
}

static inline void dense_forward_group(dense *x, dense_scratch w,
                                       size_t first, size_t lanes)
{
    const size_t pitch = (x->d + VL - 1) / VL * VL;
    const size_t n =
        x->queries - first < lanes ? x->queries - first : lanes;
    vf inverse[DENSE_LANES / VL];
    dense_queries(x, x->dtype, x->q, x->scale, first, lanes, w.q, w.qt);
    dense_score(x, lanes, w.k, w.qt, w.s);
    x->rows = w.q;
    x->turned = w.qt;
    if (x->bias) x->bias(x, first, lanes, w.s);
    for (size_t l = 0; l < lanes; l += VL) {
        vf top;
        const vf sum = dense_soften(x->keys, w.s + l, lanes, &top);
        inverse[l / VL] = v_select(sum > 0.0f, 1.0f / sum, v_zero());
        for (size_t i = l; x->lse && i < l + VL && i < n; i++)
            if (x->query[first + i] >= 0)
                x->lse[x->query[first + i]] = dense_lse(top[i - l], sum[i - l]);
    }
    tile_gemm(x->d, lanes, x->keys, w.v, 1, x->d, w.s, lanes, w.ot, lanes,
              false);
    for (size_t c = 0; c < x->d; c++)
        for (size_t l = 0; l < lanes; l += VL)
            v_store(w.ot + c * lanes + l,
                    v_load(w.ot + c * lanes + l) * inverse[l / VL]);
    planar_turn(w.ot, lanes, x->d, x->d, lanes, w.out, pitch);
    if (x->finish) x->finish(x, w.v, first, n, w.out, pitch);
    dense_put(x->dtype, w.out, pitch, x->query + first, n, x->d, x->o);
}

/* One query by rows; row t of the gathered keys has index t. */
static inline void dense_forward_row(dense *x, dense_scratch w, size_t i)
{
    const size_t d = x->d;
    float max;
    if (x->query[i] < 0) return;
    const size_t token = (size_t)x->query[i];
    dense_gather(x->dtype, x->q, x->query + i, NULL, 1, d, x->scale, w.q);
    for (size_t t = 0; t < x->keys; t++) w.s[t] = dot(w.q, w.k + t * d, d);
    x->rows = x->turned = w.q;
    if (x->bias) x->bias(x, i, 1, w.s);
    const float sum = soften(w.s, x->keys, &max);
    tile_gemm(1, d, x->keys, w.s, 1, 1, w.v, d, w.out, d, false);
    for (size_t c = 0; c < d; c++) w.out[c] *= sum > 0 ? 1 / sum : 0;
    if (x->finish) x->finish(x, w.v, i, 1, w.out, d);
    dense_put(x->dtype, w.out, d, x->query + i, 1, d, x->o);
    if (x->lse) x->lse[token] = dense_lse(max, sum);
}

/* Lanes of the next group of a block with `left` queries to do. */
static inline size_t dense_group(size_t left)
{
    const size_t vectors = (left + VL - 1) / VL;
    return VL * (vectors == 4 ? 2 : vectors < 3 ? vectors : 3);
}

static inline void dense_forward(dense *x, float *work)
{
    const dense_scratch w = dense_scratch_of(x->keys, x->d, work);
    size_t wide = x->queries;
    if (wide % VL && wide % VL <= DENSE_TAIL) wide -= wide % VL;
    dense_gather(x->dtype, x->k, x->key, x->pad_k, x->keys, x->d, 1, w.k);
    dense_gather(x->dtype, x->v, x->key, x->pad_v, x->keys, x->d, 1, w.v);
    for (size_t first = 0; first < wide;) {
        const size_t lanes = dense_group(wide - first);
        dense_forward_group(x, w, first, lanes);
        first += lanes;
    }
    for (size_t i = wide; i < x->queries; i++) dense_forward_row(x, w, i);
}

/* ---- backward --------------------------------------------------------------------- */

/* P /= sum where the sum of a lane is far from 1: lse of large logits is rounded,
 * and that of lowest ones holds no sum at all. */
SIMD_INLINE void dense_normalise(size_t keys, float *s, size_t ld, vf sum)
{
    if (v_hmax(v_abs(sum - 1.0f)) < 4e-6f) return;
    const vf inverse = v_select(sum > 0.0f, 1.0f / sum, v_zero());
    for (size_t j = 0; j < keys; j++)
        v_store(s + j * ld, v_load(s + j * ld) * inverse);
}

/* One vector of lanes: P = 2^(s - lse) and dS; the sum is divided by that of P,
 * which differs from 1 by the rounding of lse. */
SIMD_INLINE void dense_soften_back(size_t keys, float *s, float *ds, size_t ld,
                                   vf lse)
{
    vf mean[4], sum[4];
    UNROLL for (int i = 0; i < 4; i++) mean[i] = sum[i] = v_zero();
    for (size_t j = 0; j < keys; j += 4)
        UNROLL for (size_t i = 0; i < 4; i++) {
            if (j + i >= keys) break;
            const vf e = v_exp2(v_load(s + (j + i) * ld) - lse);
            mean[i] = v_fma(e, v_load(ds + (j + i) * ld), mean[i]);
            sum[i] += e;
            v_store(s + (j + i) * ld, e);
        }
    const vf total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    const vf all = ((mean[0] + mean[1]) + (mean[2] + mean[3])) /
                   v_max(total, v_set1(1e-30f)); /* a lane without a query */
    dense_normalise(keys, s, ld, total);
    for (size_t j = 0; j < keys; j++)
        v_store(ds + j * ld,
                v_load(s + j * ld) * (v_load(ds + j * ld) - all));
}

static inline void dense_backward_group(dense *x, dense_scratch w,
                                        size_t first, size_t lanes)
{
    const size_t d = x->d;
    const size_t n =
        x->queries - first < lanes ? x->queries - first : lanes;
    dense_queries(x, x->dtype, x->q, x->scale, first, lanes, w.q, w.qt);
    dense_queries(x, ATT_F32, x->g, 1, first, lanes, w.g, w.gt);
    dense_score(x, lanes, w.k, w.qt, w.s);
    dense_score(x, lanes, w.v, w.gt, w.ds);
    x->rows = w.q;
    x->turned = w.qt;
    if (x->bias) x->bias(x, first, lanes, w.s);
    for (size_t l = 0; l < lanes; l += VL) {
        vf lse; /* positions without a query have P = 0, whatever the bias */
        for (size_t i = 0; i < VL; i++) {
            const size_t at = first + l + i;
            lse[i] = at < x->queries && x->query[at] >= 0
                         ? x->lse[x->query[at]]
                         : -V_LOWEST;
        }
        dense_soften_back(x->keys, w.s + l, w.ds + l, lanes, lse);
    }
    if (x->dv)
        tile_gemm(x->keys, d, lanes, w.s, lanes, 1, w.g, d, w.dv, d, first > 0);
    if (x->dk)
        tile_gemm(x->keys, d, lanes, w.ds, lanes, 1, w.q, d, w.dk, d,
                  first > 0);
    if (!x->dq && !x->bias_back) return;
    tile_gemm(lanes, d, x->keys, w.ds, 1, lanes, w.k, d, w.out, d, false);
    if (x->bias_back)
        x->bias_back(x, first, lanes, w.ds, w.out);
    if (x->dq)
        dense_scatter(w.out, d, x->query + first, n, d, x->scale / log2e, false,
                      x->dq);
}

static inline void dense_backward(dense *x, float *work)
{
    const dense_scratch w = dense_scratch_of(x->keys, x->d, work);
    dense_gather(x->dtype, x->k, x->key, x->pad_k, x->keys, x->d, 1, w.k);
    dense_gather(x->dtype, x->v, x->key, x->pad_v, x->keys, x->d, 1, w.v);
    for (size_t first = 0; first < x->queries;) {
        const size_t lanes = dense_group(x->queries - first);
        dense_backward_group(x, w, first, lanes);
        first += lanes;
    }
    if (x->dk) /* w.q held log2(e) scale q */
        dense_scatter(w.dk, x->d, x->key, x->keys, x->d, 1 / log2e, true,
                      x->dk);
    if (x->dv)
        dense_scatter(w.dv, x->d, x->key, x->keys, x->d, 1, true, x->dv);
}

#endif
