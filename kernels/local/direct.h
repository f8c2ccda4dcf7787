/* direct.h - softmax over listed pairs, one query at a time: the plain kernels of
 * the windowed and sparse families.
 *
 *     s_t = scale q.k_t + bias_t     p = softmax(s)     o = sum_t p_t v_t
 *
 * Each kernel only says which keys a query sees and where its bias comes from.
 * Vectors run along channels, so every score ends in a horizontal sum and every
 * key is loaded for one query alone: bound by loads and by that sum, at about a
 * fifth of the FMA peak for d = 32.
 *
 * Backward keeps P and dS of one map, [query][slot], in scratch.  Threads first
 * own queries (P, dS, dq), then keys (dk and dv are gathered over the queries
 * that see the key), so that nothing is written twice.  Gradients of bias tables
 * are summed in PARTS fixed parts: the result is the same for any number of
 * threads.
 */
#ifndef ATT_DIRECT_H
#define ATT_DIRECT_H

#include "../att.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "../simd.h"

enum { PARTS = 8 };

static const float log2e = 1.44269504f;

/* ---- vectors -------------------------------------------------------------------- */

SIMD_INLINE float dot(const float *a, const float *b, size_t n)
{
    vf sum = v_zero();
    size_t c = 0;
    for (; c + VL <= n; c += VL) sum = v_fma(v_load(a + c), v_load(b + c), sum);
    if (c < n)
        sum = v_fma(v_load_n(a + c, n - c), v_load_n(b + c, n - c), sum);
    return v_sum(sum);
}

SIMD_INLINE void axpy(float *y, float a, const float *x, size_t n)
{
    size_t c = 0;
    for (; c + VL <= n; c += VL)
        v_store(y + c, v_fma(v_set1(a), v_load(x + c), v_load(y + c)));
    if (c < n)
        v_store_n(y + c,
                  v_fma(v_set1(a), v_load_n(x + c, n - c),
                        v_load_n(y + c, n - c)),
                  n - c);
}

/* Products of y and a row of v vectors, by lanes. */
SIMD_INLINE vf dots_row(const int v, size_t last, const vf *y, const float *row)
{
    vf sum = v_zero();
    UNROLL for (int j = 0; j < v; j++)
        sum = v_fma(y[j],
                    j == v - 1 ? v_load_n(row + j * VL, last)
                               : v_load(row + j * VL),
                    sum);
    return sum;
}

/* s[t] (+)= a . x[index[t]] over v vectors of channels, the last cut to `last`
 * lanes: a stays in registers. */
SIMD_INLINE void dots_vectors(const int v, size_t last, const float *a,
                              const float *x, const int32_t *index, size_t n,
                              size_t d, float scale, bool add, float *s)
{
    vf y[4];
    UNROLL for (int j = 0; j < v; j++)
        y[j] = scale * (j == v - 1 ? v_load_n(a + j * VL, last)
                                   : v_load(a + j * VL));
    /* Four at a time, the last ones again where there are fewer: equal keys get
     * equal scores wherever they stand. */
    for (size_t t = 0; t < n; t += 4) {
        const size_t count = n - t < 4 ? n - t : 4;
        const bool straight = count == 4 && !add;
        vf sum[4];
        float four[4];
        UNROLL for (size_t i = 0; i < 4; i++)
            sum[i] = dots_row(v, last, y,
                              x + (size_t)index[i < count ? t + i : n - 1] * d);
        v_sum4(sum[0], sum[1], sum[2], sum[3], straight ? s + t : four);
        for (size_t i = 0; !straight && i < count; i++)
            s[t + i] = add ? s[t + i] + four[i] : four[i];
    }
}

/* s[t] = scale * a . x[index[t]], d channels. */
static inline void dots(const float *a, const float *x, const int32_t *index,
                        size_t n, size_t d, float scale, float *s)
{
    for (size_t c = 0; c < d; c += 4 * VL) {
        const size_t left = d - c < 4 * VL ? d - c : 4 * VL;
        const size_t last = (left - 1) % VL + 1;
        const bool add = c > 0;
        switch ((left - 1) / VL) {
        case 0:
            dots_vectors(1, last, a + c, x + c, index, n, d, scale, add, s);
            break;
        case 1:
            dots_vectors(2, last, a + c, x + c, index, n, d, scale, add, s);
            break;
        case 2:
            dots_vectors(3, last, a + c, x + c, index, n, d, scale, add, s);
            break;
        default:
            dots_vectors(4, last, a + c, x + c, index, n, d, scale, add, s);
            break;
        }
    }
}

/* o[0, v vectors) = scale * sum over t of w[t] x[index[t]], the last vector cut
 * to `last` lanes. */
SIMD_INLINE void combine_vectors(const int v, size_t last, const float *w,
                                 const float *x, const int32_t *index, size_t n,
                                 size_t d, float scale, float *o)
{
    vf sum[4];
    UNROLL for (int j = 0; j < v; j++) sum[j] = v_zero();
    for (size_t t = 0; t < n; t++) {
        const float *row = x + (size_t)index[t] * d;
        UNROLL for (int j = 0; j < v; j++) {
            const vf y = j == v - 1 ? v_load_n(row + j * VL, last)
                                    : v_load(row + j * VL);
            sum[j] = v_fma(v_set1(w[t]), y, sum[j]);
        }
    }
    UNROLL for (int j = 0; j < v; j++)
        if (j == v - 1) v_store_n(o + j * VL, scale * sum[j], last);
        else v_store(o + j * VL, scale * sum[j]);
}

/* o = scale * sum over t of w[t] x[index[t]], d channels. */
static inline void combine(const float *w, const float *x,
                           const int32_t *index, size_t n, size_t d,
                           float scale, float *o)
{
    for (size_t c = 0; c < d; c += 4 * VL) {
        const size_t left = d - c < 4 * VL ? d - c : 4 * VL;
        const size_t last = (left - 1) % VL + 1;
        switch ((left - 1) / VL) {
        case 0:
            combine_vectors(1, last, w, x + c, index, n, d, scale, o + c);
            break;
        case 1:
            combine_vectors(2, last, w, x + c, index, n, d, scale, o + c);
            break;
        case 2:
            combine_vectors(3, last, w, x + c, index, n, d, scale, o + c);
            break;
        default:
            combine_vectors(4, last, w, x + c, index, n, d, scale, o + c);
            break;
        }
    }
}

/* s -> 2^(s - max), and zeros up to a whole vector, which s has room for;
 * returns the sum, *max is V_LOWEST for n = 0. */
static inline float soften(float *s, size_t n, float *max)
{
    vf m = v_set1(V_LOWEST), sum = v_zero();
    size_t t = 0;
    for (; t + VL <= n; t += VL) m = v_max(m, v_load(s + t));
    float top = v_hmax(m);
    for (; t < n; t++) top = s[t] > top ? s[t] : top;
    for (t = 0; t + VL <= n; t += VL) {
        const vf e = v_exp2(v_load(s + t) - top);
        sum += e;
        v_store(s + t, e);
    }
    if (t < n) {
        const vf e = v_first(v_exp2(v_load_n(s + t, n - t) - top), n - t);
        sum += e;
        v_store(s + t, e);
    }
    *max = top;
    return v_sum(sum);
}

/* ---- the pairs of one query or key -------------------------------------------------- */

/* Pairs of a query: `keys` real ones, then `pads` padding positions with
 * k = v = 0.  bias is in units of the logits; tag says which entries of a table
 * it came from and is the kernel's own business. */
typedef struct direct_row {
    int32_t *key, *tag;
    float *bias;
    float *extra;   /* direct.extra floats of the kernel's own               */
    size_t keys, pads;
} direct_row;

typedef struct direct {
    const att_call *call;
    const att_grad *grad;     /* NULL in forward                             */
    const void *geometry;     /* the kernel's own                            */
    size_t maps, n, m, d;
    float scale;
    const float *pad_k, *pad_v; /* of padding, [heads][d]; NULL: 0           */
    bool biased;              /* list() fills bias and tag                   */
    size_t most, most_back;   /* pairs of one query, of one key              */
    size_t pairs;             /* of a map                                    */
    const size_t *offset;     /* first pair of each query; NULL: i * most    */
    size_t table;             /* floats of one map's bias gradient           */
    size_t extra;             /* floats of scratch for list() and relate()   */

    void (*list)(const struct direct *, size_t map, size_t i, direct_row *row);
    /* Queries that see key j: row->key, and in row->tag the place of j among
     * the pairs of each. */
    void (*inverse)(const struct direct *, size_t map, size_t j,
                    direct_row *row);
    /* Adds what dS of query i gives to the bias gradient `sum` and, if not NULL,
     * to dq[d].  NULL: no bias parameters. */
    void (*relate)(const struct direct *, size_t map, size_t i,
                   const direct_row *row, const float *ds, float *sum,
                   float *dq);
    /* Adds the bias gradient of one map to grad->dparam. */
    void (*fold)(const struct direct *, size_t map, const float *sum);
} direct;

static inline size_t direct_up(size_t n)
{
    return (n + 15) / 16 * 16;
}

/* Scratch of a thread: key, tag, bias, scores, extra. */
static inline size_t direct_each(const direct *x)
{
    return direct_up(x->most > x->most_back ? x->most : x->most_back);
}

static inline size_t direct_row_floats(const direct *x)
{
    return 4 * direct_each(x) + direct_up(x->extra);
}

static inline void direct_sizes(const direct *x, int threads, att_sizes *out)
{
    const size_t rows = (size_t)threads * direct_row_floats(x);
    out->save = 2 * x->maps * x->n * sizeof(float); /* maximum, log2 of the sum */
    out->work = rows * sizeof(float);
    out->work_backward =
        (rows + 2 * direct_up(x->pairs) + PARTS * direct_up(x->table)) *
        sizeof(float);
}

static inline direct_row direct_row_of(const direct *x, float **scores)
{
    const size_t each = direct_each(x);
    float *work = (float *)x->call->work +
                  (size_t)omp_get_thread_num() * direct_row_floats(x);
    *scores = work;
    return (direct_row){ .key = (int32_t *)(work + each),
                         .tag = (int32_t *)(work + 2 * each),
                         .bias = work + 3 * each,
                         .extra = work + 4 * each };
}

static inline const float *direct_pad(const direct *x, const float *pad,
                                      size_t map)
{
    return pad ? pad + map % (size_t)x->call->p->heads * x->d : NULL;
}

/* to += scale * (sum of the weights of padding) * pad, which may be NULL. */
static inline void direct_add_pads(const direct *x, const direct_row *row,
                                   const float *w, float scale,
                                   const float *pad, float *to)
{
    float sum = 0;
    for (size_t t = 0; t < row->pads; t++) sum += w[row->keys + t];
    if (pad && row->pads) axpy(to, scale * sum, pad, x->d);
}

/* Logits of query i, in base 2. */
static inline void direct_logits(const direct *x, size_t map, size_t i,
                                 const direct_row *row, float *s)
{
    const float *q = (const float *)x->call->q + (map * x->n + i) * x->d;
    const float *k = (const float *)x->call->k + map * x->m * x->d;
    dots(q, k, row->key, row->keys, x->d, log2e * x->scale, s);
    const float *pad = direct_pad(x, x->pad_k, map);
    const float of_pad = pad ? log2e * x->scale * dot(q, pad, x->d) : 0;
    for (size_t t = 0; t < row->pads; t++) s[row->keys + t] = of_pad;
    for (size_t t = 0; x->biased && t < row->keys + row->pads; t++)
        s[t] += simd_base2(row->bias[t]);
}

static inline void direct_forward(const direct *x)
{
    const att_call *c = x->call;
    #pragma omp parallel num_threads(c->threads)
    {
        float *s;
        direct_row row = direct_row_of(x, &s);
        #pragma omp for
        for (size_t at = 0; at < x->maps * x->n; at++) {
            const size_t map = at / x->n, i = at % x->n;
            row.pads = 0;
            x->list(x, map, i, &row);
            direct_logits(x, map, i, &row, s);
            float max;
            const float sum = soften(s, row.keys + row.pads, &max);
            combine(s, (const float *)c->v + map * x->m * x->d, row.key,
                    row.keys, x->d, sum > 0 ? 1 / sum : 0,
                    (float *)c->o + at * x->d);
            direct_add_pads(x, &row, s, sum > 0 ? 1 / sum : 0,
                            direct_pad(x, x->pad_v, map),
                            (float *)c->o + at * x->d);
            float *save = c->save;
            if (save) save[at] = max, save[x->maps * x->n + at] = log2f(sum);
        }
    }
}

/* P and dS of one map. */
typedef struct direct_pairs {
    float *p, *ds;
} direct_pairs;

static inline size_t direct_at(const direct *x, size_t i)
{
    return x->offset ? x->offset[i] : i * x->most;
}

/* P_t = 2^(s_t - max) / sum, dS = P (dP - sum P dP): the sum of what is at hand, not
 * g.o, whose digits a convolution added to o or its storage may have taken. */
static inline void direct_query(const direct *x, direct_pairs a, size_t map,
                                size_t i, direct_row *row)
{
    const att_call *c = x->call;
    const size_t at = map * x->n + i, d = x->d;
    const float *g = x->grad->dout + at * d;
    const float *k = (const float *)c->k + map * x->m * d;
    const float *v = (const float *)c->v + map * x->m * d;
    const float max = ((const float *)c->save)[at];
    const float sum = ((const float *)c->save)[x->maps * x->n + at];
    const bool none = isinf(sum); /* saw nothing: P = 0 */
    float *p = a.p + direct_at(x, i), *ds = a.ds + direct_at(x, i);

    row->pads = 0;
    x->list(x, map, i, row);
    const size_t n = row->keys + row->pads;
    direct_logits(x, map, i, row, p);
    dots(g, v, row->key, row->keys, d, 1, ds);
    const float *pad_v = direct_pad(x, x->pad_v, map);
    const float of_pad = pad_v ? dot(g, pad_v, d) : 0;
    for (size_t t = 0; t < row->pads; t++) ds[row->keys + t] = of_pad;
    vf means = v_zero();
    for (size_t t = 0; t < n; t += VL) {
        const size_t left = n - t < VL ? n - t : VL;
        const vf e = v_exp2(v_load_n(p + t, left) - max - (none ? 0 : sum));
        v_store_n(p + t, e, left);
        means = v_fma(v_first(e, left), v_load_n(ds + t, left), means);
    }
    const float mean = v_sum(means);
    for (size_t t = 0; t < n; t += VL) {
        const size_t left = n - t < VL ? n - t : VL;
        v_store_n(ds + t, v_load_n(p + t, left) * (v_load_n(ds + t, left) - mean),
                  left);
    }
    if (x->grad->dq)
        combine(ds, k, row->key, row->keys, d, x->scale,
                x->grad->dq + at * d);
    if (x->grad->dq)
        direct_add_pads(x, row, ds, x->scale, direct_pad(x, x->pad_k, map),
                        x->grad->dq + at * d);
}

static inline void direct_key(const direct *x, direct_pairs a, size_t map,
                              size_t j, direct_row *row, float *w)
{
    const att_call *c = x->call;
    const size_t d = x->d, at = map * x->m + j;
    x->inverse(x, map, j, row);
    if (x->grad->dv) {
        for (size_t t = 0; t < row->keys; t++)
            w[t] = a.p[direct_at(x, (size_t)row->key[t]) +
                       (size_t)row->tag[t]];
        combine(w, x->grad->dout + map * x->n * d, row->key, row->keys, d, 1,
                x->grad->dv + at * d);
    }
    if (x->grad->dk) {
        for (size_t t = 0; t < row->keys; t++)
            w[t] = a.ds[direct_at(x, (size_t)row->key[t]) +
                        (size_t)row->tag[t]];
        combine(w, (const float *)c->q + map * x->n * d, row->key, row->keys, d,
                x->scale, x->grad->dk + at * d);
    }
}

/* Bias gradient of queries of one part of a map. */
static inline void direct_part(const direct *x, direct_pairs a, size_t map,
                               size_t part, direct_row *row, float *sum)
{
    memset(sum, 0, x->table * sizeof *sum);
    for (size_t i = x->n * part / PARTS; i < x->n * (part + 1) / PARTS; i++) {
        row->pads = 0;
        x->list(x, map, i, row);
        x->relate(x, map, i, row, a.ds + direct_at(x, i), sum,
                  x->grad->dq ? x->grad->dq + (map * x->n + i) * x->d : NULL);
    }
}

/* The caller has zeroed the bias parameters' gradients. */
static inline void direct_backward(const direct *x)
{
    const att_call *c = x->call;
    float *const pairs =
        (float *)c->work + (size_t)c->threads * direct_row_floats(x);
    const direct_pairs a = { pairs, pairs + direct_up(x->pairs) };
    float *const parts = pairs + 2 * direct_up(x->pairs);
    const size_t table = direct_up(x->table);

    #pragma omp parallel num_threads(c->threads)
    {
        float *s;
        direct_row row = direct_row_of(x, &s);
        for (size_t map = 0; map < x->maps; map++) {
            #pragma omp for
            for (size_t i = 0; i < x->n; i++)
                direct_query(x, a, map, i, &row);
            if (x->relate) {
                #pragma omp for
                for (size_t part = 0; part < PARTS; part++)
                    direct_part(x, a, map, part, &row, parts + part * table);
                #pragma omp single
                {
                    for (size_t part = 1; part < PARTS; part++)
                        axpy(parts, 1, parts + part * table, x->table);
                    x->fold(x, map, parts);
                }
            }
            #pragma omp for
            for (size_t j = 0; j < x->m; j++)
                direct_key(x, a, map, j, &row, s);
        }
    }
}

#endif
