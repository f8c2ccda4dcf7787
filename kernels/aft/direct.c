/* aft_full.direct, aft_local.direct - AFT with the maximum of k + w taken for
 * every token and feature.
 *
 *     y_t = sigmoid(q_t) * sum_j softmax_j(k_jf + b_tj) v_jf
 *
 * T x T x D exponentials, whatever the window: always right, never fast.  Lanes
 * are features.  Backward needs, for each token and feature, the maximum, the
 * denominator and the mean; rows yield dq and dw, columns dk and dv, each with
 * its own T x T x D exponentials.
 */
#include "aft.h"

#include <omp.h>

typedef struct map {
    size_t n, width, one; /* tokens, features, n * width                    */
} map;

static map map_of(const att_problem *p)
{
    const size_t n = att_tokens(p), width = (size_t)p->head_dim;
    return (map){ .n = n, .width = width, .one = n * width };
}

/* Kept for backward: three arrays [batch][n][width]. */
typedef struct saved {
    float *max, *den, *mean;
} saved;

static saved saved_of(const att_call *c)
{
    const size_t all = (size_t)c->p->batch * map_of(c->p).one;
    float *s = c->save;
    return (saved){ s, s + all, s + 2 * all };
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const map m = map_of(p);
    const size_t row = (size_t)threads * (m.n + VL) * sizeof(float);
    *out = (att_sizes){
        .save = 3 * (size_t)p->batch * m.one * sizeof(float),
        .work = row,
        .work_backward = row,
    };
}

static float *scratch(const att_call *c)
{
    const size_t row = att_tokens(c->p) + VL;
    return (float *)c->work + (size_t)omp_get_thread_num() * row;
}

SIMD_INLINE void forward(const att_call *c, enum aft_kind kind)
{
    const map m = map_of(c->p);
    const saved s = c->save ? saved_of(c) : (saved){ 0 };

    #pragma omp parallel for num_threads(c->threads)
    for (size_t row = 0; row < (size_t)c->p->batch * m.n; row++) {
        const size_t t = row % m.n, from = row / m.n * m.one;
        const float *k = (const float *)c->k + from;
        const float *v = (const float *)c->v + from;
        float *b = scratch(c);
        for (size_t j = 0; j < aft_seen(c->p, t); j++)
            b[j] = aft_bias(c, kind, t, j);
        for (size_t f = 0; f < m.width; f += VL) {
            const size_t at = row * m.width + f;
            const size_t lanes = aft_lanes(m.width, f);
            const aft_row x = aft_exact(k + f, v + f, m.width, lanes, b,
                                        aft_seen(c->p, t));
            const vf q = aft_load((const float *)c->q + at, lanes);
            aft_store((float *)c->o + at, x.mean * v_sigmoid(q), lanes);
            if (!c->save) continue;
            aft_store(s.max + at, x.max, lanes);
            aft_store(s.den + at, x.den, lanes);
            aft_store(s.mean + at, x.mean, lanes);
        }
    }
}

/* A_tj and G_t A_tj (v_j - m_t) of some features. */
typedef struct pair {
    vf dv, de;
} pair;

SIMD_INLINE pair pair_at(const att_call *c, const saved *s, const float *dout,
                         size_t row, size_t key, float b, size_t f,
                         size_t lanes)
{
    const size_t width = (size_t)c->p->head_dim;
    const size_t at = row * width + f, from = key * width + f;
    const vf logit = aft_logit(aft_load((const float *)c->k + from, lanes), b);
    const vf a = v_exp(logit - aft_load(s->max + at, lanes)) /
                 aft_load(s->den + at, lanes);
    const vf q = aft_load((const float *)c->q + at, lanes);
    const vf v = aft_load((const float *)c->v + from, lanes);
    const vf dv = a * aft_load(dout + at, lanes) * v_sigmoid(q);
    const vf de = dv * (v - aft_load(s->mean + at, lanes));
    /* beyond the last feature the maximum and the denominator are 0 */
    return (pair){ .dv = v_first(dv, lanes), .de = v_first(de, lanes) };
}

/* Sum over the features of de of one pair, and, where dk or dv are wanted, their
 * terms of this pair added to row `key`. */
SIMD_INLINE float pair_all(const att_call *c, const att_grad *g, const saved *s,
                           size_t row, size_t key, float b, bool keys)
{
    const size_t width = (size_t)c->p->head_dim;
    vf sum = v_zero();
    for (size_t f = 0; f < width; f += VL) {
        const size_t lanes = aft_lanes(width, f), to = key * width + f;
        const pair x = pair_at(c, s, g->dout, row, key, b, f, lanes);
        sum += x.de;
        if (keys && g->dv)
            aft_store(g->dv + to, aft_load(g->dv + to, lanes) + x.dv, lanes);
        if (keys && g->dk)
            aft_store(g->dk + to, aft_load(g->dk + to, lanes) + x.de, lanes);
    }
    return v_sum(sum);
}

static void backward_q(const att_call *c, const att_grad *g, const saved *s,
                       size_t row)
{
    const size_t width = (size_t)c->p->head_dim;
    for (size_t f = 0; f < width; f += VL) {
        const size_t at = row * width + f, lanes = aft_lanes(width, f);
        const vf gate = v_sigmoid(aft_load((const float *)c->q + at, lanes));
        const vf dm = aft_load(g->dout + at, lanes) *
                      aft_load(s->mean + at, lanes);
        aft_store(g->dq + at, dm * gate * (1.0f - gate), lanes);
    }
}

static void add_scaled(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

/* Row t of dw, or of dwu. */
SIMD_INLINE void backward_row(const att_call *c, const att_grad *g,
                              const saved *s, enum aft_kind kind, size_t t)
{
    const map m = map_of(c->p);
    const size_t f = (size_t)c->p->factor;
    float *dw = g->dparam[AFT_W] ? g->dparam[AFT_W] + t * m.n : NULL;
    float *du = g->dparam[AFT_WU] ? g->dparam[AFT_WU] + t * f : NULL;
    if (dw) memset(dw, 0, m.n * sizeof *dw);
    if (du) memset(du, 0, f * sizeof *du);
    for (size_t b = 0; b < (size_t)c->p->batch; b++) {
        const size_t row = b * m.n + t;
        if (g->dq) backward_q(c, g, s, row);
        for (size_t j = 0; (dw || du) && j < aft_seen(c->p, t); j++) {
            if (!aft_kept(c->p, kind, t, j)) continue;
            const float de = pair_all(c, g, s, row, b * m.n + j,
                                      aft_bias(c, kind, t, j), false);
            if (dw) dw[j] += de;
            if (du) add_scaled(du, de, c->param[AFT_WV] + j * f, f);
        }
    }
}

/* Row j of dk, dv and dwv. */
SIMD_INLINE void backward_column(const att_call *c, const att_grad *g,
                                 const saved *s, enum aft_kind kind, size_t j)
{
    const map m = map_of(c->p);
    const size_t f = (size_t)c->p->factor;
    float *dwv = g->dparam[AFT_WV] ? g->dparam[AFT_WV] + j * f : NULL;
    if (dwv) memset(dwv, 0, f * sizeof *dwv);
    for (size_t b = 0; b < (size_t)c->p->batch; b++) {
        const size_t to = (b * m.n + j) * m.width;
        if (g->dk) memset(g->dk + to, 0, m.width * sizeof(float));
        if (g->dv) memset(g->dv + to, 0, m.width * sizeof(float));
        for (size_t t = aft_causal(c->p) ? j : 0; t < m.n; t++) {
            const float de = pair_all(c, g, s, b * m.n + t, b * m.n + j,
                                      aft_bias(c, kind, t, j), true);
            if (dwv && aft_kept(c->p, kind, t, j))
                add_scaled(dwv, de, c->param[AFT_WU] + t * f, f);
        }
    }
}

SIMD_INLINE void backward(const att_call *c, const att_grad *g,
                          enum aft_kind kind)
{
    const size_t n = att_tokens(c->p);
    const saved s = saved_of(c);

    #pragma omp parallel for num_threads(c->threads)
    for (size_t t = 0; t < n; t++) backward_row(c, g, &s, kind, t);
    if (!g->dk && !g->dv && !g->dparam[AFT_WV]) return;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t j = 0; j < n; j++) backward_column(c, g, &s, kind, j);
}

/* One exponential for each pair and feature in place of two products and a few
 * exponentials; backward does that twice. */
static void executed(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const map m = map_of(p);
    const double all = (double)p->batch * (double)m.one;
    const double n = (double)m.n;
    const double terms = all * (aft_causal(p) ? (n + 1) / 2 : n);
    const double f = p->factor * terms / (double)m.width;

    if (pass == ATT_FORWARD) {
        out->mul_add = terms + f;
        out->add = 5 * terms + all;
        out->mul = all;
        out->div = 2 * all;
        out->exp = terms + all;
        return;
    }
    out->mul_add = 4 * f;
    out->add = 2 * (5 * terms) + all;
    out->mul = 2 * (3 * terms) + 4 * all;
    out->div = 2 * (2 * terms) + all;
    out->exp = 2 * (2 * terms) + all;
}

#define STAMP(name, kind)                                                      \
    static void forward_##name(const att_call *c)                              \
    {                                                                          \
        forward(c, kind);                                                      \
    }                                                                          \
    static void backward_##name(const att_call *c, const att_grad *g)          \
    {                                                                          \
        backward(c, g, kind);                                                  \
    }
STAMP(full, AFT_FULL)
STAMP(local, AFT_LOCAL)
#undef STAMP

ATT_KERNELS = {
    {
        .name = "aft_full.direct",
        .mechanism = "aft_full",
        .brief = "an exponential for every pair and feature",
        .plain = true,
        .sizes = sizes,
        .forward = forward_full,
        .backward = backward_full,
        .executed = executed,
    },
    {
        .name = "aft_local.direct",
        .mechanism = "aft_local",
        .brief = "an exponential for every pair and feature",
        .plain = true,
        .sizes = sizes,
        .forward = forward_local,
        .backward = backward_local,
        .executed = executed,
    },
    { 0 },
};
