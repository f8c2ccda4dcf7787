/* conv_kv, conv_q, multiscale: .direct and .tiled - filters, then softmax
 * attention on the filtered tokens (attend.h), then back to N rows and merged.
 *
 * A branch filters K and V (side k) or Q (side q) of all maps, attends, and for
 * side q brings its M rows back to N; branches follow one another in the same
 * scratch.  Backward filters again and goes the same way back; the gradient of a
 * token is gathered from the filter positions that read it.  The output of each
 * branch is saved if the merge has weights.
 */
#include "attend.h"

#include <string.h>

/* Parameters of branch b start at FOUR * b; alpha follows the last. */
enum { WK, BK, WV, BV, FOUR, WQ = WK, BQ = BK, ALPHA = FOUR * ATT_AXES };

/* Which mechanism: conv_kv and conv_q are one branch that is merged into o as
 * it is. */
enum kind { CONV_KV, CONV_Q, MULTISCALE };

typedef struct layout {
    size_t n, d, maps, heads, one; /* one: elements of [maps][n][d]          */
    int branches, side, merge;
    size_t most; /* filtered tokens of the branch that has most             */
    size_t filtered[2], out, gradient[3], attend, total; /* floats          */
} layout;

static size_t filter_length(const att_problem *p, int b)
{
    return (size_t)att_at(&p->conv, b, 3); /* as conv_attention.c */
}

static size_t filter_stride(const att_problem *p, int b)
{
    return (size_t)att_at(&p->stride, b, 1);
}

static size_t shortened(const att_problem *p, int b)
{
    return (att_tokens(p) - filter_length(p, b)) / filter_stride(p, b) + 1;
}

static layout layout_of(const bool tiled, enum kind kind, const att_problem *p,
                        int threads, bool back)
{
    layout x = { .n = att_tokens(p), .d = (size_t)p->head_dim };
    size_t at = 0, attention = 0;
    x.heads = (size_t)p->heads;
    x.maps = (size_t)p->batch * x.heads;
    x.one = x.maps * x.n * x.d;
    x.branches = kind == MULTISCALE && p->conv.n ? p->conv.n : 1;
    x.side = kind == MULTISCALE ? p->side
             : kind == CONV_KV  ? ATT_SIDE_K
                                : ATT_SIDE_Q;
    x.merge = kind == MULTISCALE ? p->merge : ATT_MERGE_ADD;
    for (int b = 0; b < x.branches; b++) {
        const size_t m = shortened(p, b);
        const bool keys = x.side == ATT_SIDE_K;
        const size_t floats = attend_floats(
            tiled, x.maps, keys ? x.n : m, keys ? m : x.n, x.d, threads, back);
        if (m > x.most) x.most = m;
        if (floats > attention) attention = floats;
    }
    const size_t inner = menu_round(x.maps * x.most * x.d);
    x.filtered[0] = at, at += inner;
    x.filtered[1] = at, at += inner;
    x.out = at, at += menu_round(x.one);
    x.gradient[0] = at, at += back ? menu_round(x.one) : 0;
    x.gradient[1] = at, at += back ? menu_round(x.one) : 0;
    x.gradient[2] = at, at += back ? menu_round(x.one) : 0;
    x.attend = at;
    x.total = at + attention;
    return x;
}

static void sizes_of(const bool tiled, enum kind kind, const att_problem *p,
                     int threads, att_sizes *out)
{
    const layout x = layout_of(tiled, kind, p, threads, false);
    const bool weighted = x.merge == ATT_MERGE_WEIGHTED;
    *out = (att_sizes){
        .save = weighted ? (size_t)x.branches * x.one * sizeof(float) : 0,
        .work = x.total * sizeof(float),
        .work_backward =
            layout_of(tiled, kind, p, threads, true).total * sizeof(float),
    };
}

typedef struct job {
    const att_call *c;
    const att_grad *g;
    layout x;
    float *work;
} job;

/* ---- filters ------------------------------------------------------------------------------ */

/* y [maps][m][d] of x [maps][n][d] by parameters w and w + 1. */
static void filter(const job *k, int b, int w, const float *x, float *y)
{
    const size_t n = k->x.n, d = k->x.d, m = shortened(k->c->p, b);
    const size_t ks = filter_length(k->c->p, b), st = filter_stride(k->c->p, b);
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t row = 0; row < k->x.maps * m; row++) {
        const size_t map = row / m, h = map % k->x.heads;
        const float *from = x + (map * n + row % m * st) * d;
        const float *weight = k->c->param[w] + h * d * ks;
        for (size_t c = 0; c < d; c++) {
            /* in double: logits of large inputs magnify its rounding */
            double sum = k->c->param[w + 1][h * d + c];
            for (size_t t = 0; t < ks; t++)
                sum += (double)weight[c * ks + t] * from[t * d + c];
            y[row * d + c] = (float)sum;
        }
    }
}

/* dx of all tokens from dy; `add` to what is there. */
static void filter_inputs(const job *k, int b, int w, const float *dy,
                          float *dx, bool add)
{
    const size_t n = k->x.n, d = k->x.d, m = shortened(k->c->p, b);
    const size_t ks = filter_length(k->c->p, b), st = filter_stride(k->c->p, b);
    if (!dx) return;
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t row = 0; row < k->x.maps * n; row++) {
        const size_t map = row / n, at = row % n, h = map % k->x.heads;
        const float *weight = k->c->param[w] + h * d * ks;
        float *to = dx + row * d;
        for (size_t c = 0; !add && c < d; c++) to[c] = 0;
        /* positions i with i st + t = at */
        for (size_t t = at % st; t < ks && t <= at; t += st) {
            const size_t i = (at - t) / st;
            if (i >= m) continue;
            for (size_t c = 0; c < d; c++)
                to[c] += dy[(map * m + i) * d + c] * weight[c * ks + t];
        }
    }
}

/* Gradients of w and w + 1, summed over the batch: one head at a time. */
static void filter_parameters(const job *k, int b, int w, const float *x,
                              const float *dy)
{
    const size_t n = k->x.n, d = k->x.d, m = shortened(k->c->p, b);
    const size_t ks = filter_length(k->c->p, b), st = filter_stride(k->c->p, b);
    float *dw = k->g->dparam[w], *db = k->g->dparam[w + 1];
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t channel = 0; channel < k->x.heads * d; channel++) {
        const size_t h = channel / d, c = channel % d;
        double sum = 0;
        for (size_t t = 0; dw && t < ks; t++) dw[channel * ks + t] = 0;
        for (size_t map = h; map < k->x.maps; map += k->x.heads)
            for (size_t i = 0; i < m; i++) {
                const float y = dy[(map * m + i) * d + c];
                const float *from = x + (map * n + i * st) * d + c;
                sum += y;
                for (size_t t = 0; dw && t < ks; t++)
                    dw[channel * ks + t] += y * from[t * d];
            }
        if (db) db[channel] = (float)sum;
    }
}

/* ---- back to N rows -------------------------------------------------------------------------- */

/* Row i of N is (1 - t) row lo + t row hi of m. */
typedef struct blend {
    size_t lo, hi;
    float t;
} blend;

static blend blend_of(const att_problem *p, size_t i, size_t m)
{
    const size_t n = att_tokens(p);
    if (p->upsample == ATT_UP_NEAREST)
        return (blend){ .lo = i * m / n, .hi = i * m / n };
    const double x = fmax(((double)i + 0.5) * (double)m / (double)n - 0.5, 0);
    const size_t lo = (size_t)x < m - 1 ? (size_t)x : m - 1;
    const size_t hi = lo + 1 < m ? lo + 1 : lo;
    return (blend){ lo, hi, (float)(x - (double)lo) };
}

static void upsample(const job *k, size_t m, const float *y, float *o)
{
    const size_t n = k->x.n, d = k->x.d;
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t row = 0; row < k->x.maps * n; row++) {
        const blend x = blend_of(k->c->p, row % n, m);
        const float *lo = y + (row / n * m + x.lo) * d;
        const float *hi = y + (row / n * m + x.hi) * d;
        for (size_t c = 0; c < d; c++)
            o[row * d + c] = lo[c] + x.t * (hi[c] - lo[c]);
    }
}

static void upsample_backward(const job *k, size_t m, const float *g, float *dy)
{
    const size_t n = k->x.n, d = k->x.d;
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t map = 0; map < k->x.maps; map++) {
        memset(dy + map * m * d, 0, m * d * sizeof *dy);
        for (size_t i = 0; i < n; i++) {
            const blend x = blend_of(k->c->p, i, m);
            const float *from = g + (map * n + i) * d;
            attend_axpy(dy + (map * m + x.lo) * d, 1 - x.t, from, d);
            attend_axpy(dy + (map * m + x.hi) * d, x.t, from, d);
        }
    }
}

/* ---- branches ----------------------------------------------------------------------------------- */

/* Filters, and what is attended to. */
static attend branch_make(const job *k, int b)
{
    const layout *x = &k->x;
    const size_t m = shortened(k->c->p, b);
    float *one = k->work + x->filtered[0], *two = k->work + x->filtered[1];
    attend a = { .maps = x->maps, .d = x->d, .threads = k->c->threads,
                 .scale = 1 / sqrtf((float)x->d), .work = k->work + x->attend };
    if (x->side == ATT_SIDE_K) {
        filter(k, b, FOUR * b + WK, k->c->k, one);
        filter(k, b, FOUR * b + WV, k->c->v, two);
        a.n = x->n, a.m = m;
        a.q = k->c->q, a.k = one, a.v = two;
        return a;
    }
    filter(k, b, FOUR * b + WQ, k->c->q, one);
    a.n = m, a.m = x->n;
    a.q = one, a.k = k->c->k, a.v = k->c->v;
    return a;
}

static void branch_forward(const bool tiled, const job *k, int b, float *o)
{
    const attend a = branch_make(k, b);
    if (k->x.side == ATT_SIDE_K) {
        attend_forward(tiled, &a, o);
        return;
    }
    float *inner = k->work + k->x.filtered[1];
    attend_forward(tiled, &a, inner);
    upsample(k, a.n, inner, o);
}

/* Gradients of branch b from that of its output, g. */
static void branch_backward(const bool tiled, const job *k, int b,
                            const float *g)
{
    const layout *x = &k->x;
    const att_grad *d = k->g;
    const attend a = branch_make(k, b);
    const bool add = b > 0;
    float *dq = k->work + x->gradient[0], *dk = k->work + x->gradient[1];
    float *dv = k->work + x->gradient[2];
    if (x->side == ATT_SIDE_K) {
        attend_backward(tiled, &a, g, dq, dk, dv);
        filter_inputs(k, b, FOUR * b + WK, dk, d->dk, add);
        filter_inputs(k, b, FOUR * b + WV, dv, d->dv, add);
        filter_parameters(k, b, FOUR * b + WK, k->c->k, dk);
        filter_parameters(k, b, FOUR * b + WV, k->c->v, dv);
        for (size_t i = 0; d->dq && i < x->one; i++)
            d->dq[i] = dq[i] + (add ? d->dq[i] : 0);
        return;
    }
    float *inner = k->work + x->filtered[1];
    upsample_backward(k, a.n, g, inner);
    attend_backward(tiled, &a, inner, dq, dk, dv);
    filter_inputs(k, b, FOUR * b + WQ, dq, d->dq, add);
    filter_parameters(k, b, FOUR * b + WQ, k->c->q, dq);
    for (size_t i = 0; d->dk && i < x->one; i++)
        d->dk[i] = dk[i] + (add ? d->dk[i] : 0);
    for (size_t i = 0; d->dv && i < x->one; i++)
        d->dv[i] = dv[i] + (add ? d->dv[i] : 0);
}

/* ---- merge ------------------------------------------------------------------------------------------ */

/* softmax(alpha), or ones. */
static void shares(const job *k, float *share)
{
    const int nb = k->x.branches;
    for (int b = 0; b < nb; b++) share[b] = 1;
    if (k->x.merge != ATT_MERGE_WEIGHTED) return;
    const float *alpha = k->c->param[ALPHA];
    float max = alpha[0], sum = 0;
    for (int b = 1; b < nb; b++) max = fmaxf(max, alpha[b]);
    for (int b = 0; b < nb; b++) sum += share[b] = expf(alpha[b] - max);
    for (int b = 0; b < nb; b++) share[b] /= sum;
}

/* Row of o, d floats, that takes row `row` of branch b. */
static size_t merged(const layout *x, int b, size_t row)
{
    if (x->merge != ATT_MERGE_CONCAT) return row * x->d;
    return (row * (size_t)x->branches + (size_t)b) * x->d;
}

static void merge(const job *k, int b, float share, const float *from)
{
    const layout *x = &k->x;
    const bool add = b > 0 && x->merge != ATT_MERGE_CONCAT;
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t row = 0; row < x->maps * x->n; row++) {
        float *o = (float *)k->c->o + merged(x, b, row);
        for (size_t c = 0; c < x->d; c++)
            o[c] = share * from[row * x->d + c] + (add ? o[c] : 0);
    }
}

static void forward(const bool tiled, enum kind kind, const att_call *c)
{
    const job k = { .c = c, .work = c->work,
                    .x = layout_of(tiled, kind, c->p, c->threads, false) };
    float share[ATT_AXES];
    shares(&k, share);
    for (int b = 0; b < k.x.branches; b++) {
        const bool alone = kind != MULTISCALE;
        float *out = alone     ? c->o
                     : c->save ? (float *)c->save + (size_t)b * k.x.one
                               : k.work + k.x.out;
        branch_forward(tiled, &k, b, out);
        if (!alone) merge(&k, b, share[b], out);
    }
}

/* share times the gradient of branch b's output; along: <dout, o_b>. */
static void split(const job *k, int b, float share, float *g, double *along)
{
    const layout *x = &k->x;
    const float *o = k->c->save;
    *along = 0;
    for (size_t row = 0; row < x->maps * x->n; row++) {
        const float *from = k->g->dout + merged(x, b, row);
        for (size_t c = 0; c < x->d; c++) {
            const size_t at = row * x->d + c;
            g[at] = share * from[c];
            if (o) *along += (double)from[c] * o[(size_t)b * x->one + at];
        }
    }
}

static void backward(const bool tiled, enum kind kind, const att_call *c,
                     const att_grad *g)
{
    const job k = { .c = c, .g = g, .work = c->work,
                    .x = layout_of(tiled, kind, c->p, c->threads, true) };
    float share[ATT_AXES], *out = k.work + k.x.out;
    double along[ATT_AXES], mean = 0;
    shares(&k, share);
    for (int b = 0; b < k.x.branches; b++) {
        if (kind == MULTISCALE) split(&k, b, share[b], out, &along[b]);
        branch_backward(tiled, &k, b, kind == MULTISCALE ? out : g->dout);
    }
    if (k.x.merge != ATT_MERGE_WEIGHTED || !g->dparam[ALPHA]) return;
    for (int b = 0; b < k.x.branches; b++) mean += share[b] * along[b];
    for (int b = 0; b < k.x.branches; b++)
        g->dparam[ALPHA][b] = (float)(share[b] * (along[b] - mean));
}

/* ---- table -------------------------------------------------------------------------------------------- */

#define STAMP(name, tiled, kind)                                               \
    static void sizes_##name(const att_problem *p, int threads,                \
                             att_sizes *out)                                   \
    {                                                                          \
        sizes_of(tiled, kind, p, threads, out);                                \
    }                                                                          \
    static void forward_##name(const att_call *c)                              \
    {                                                                          \
        forward(tiled, kind, c);                                               \
    }                                                                          \
    static void backward_##name(const att_call *c, const att_grad *g)          \
    {                                                                          \
        backward(tiled, kind, c, g);                                           \
    }
STAMP(kv_direct, false, CONV_KV)
STAMP(kv_tiled, true, CONV_KV)
STAMP(q_direct, false, CONV_Q)
STAMP(q_tiled, true, CONV_Q)
STAMP(multi_direct, false, MULTISCALE)
STAMP(multi_tiled, true, MULTISCALE)
#undef STAMP

#define ENTRY(name_, which_, form_, plain_, brief_)                            \
    {                                                                          \
        .name = #name_ "." #form_, .mechanism = #name_, .brief = brief_,       \
        .plain = plain_, .sizes = sizes_##which_##_##form_,                    \
        .forward = forward_##which_##_##form_,                                 \
        .backward = backward_##which_##_##form_,                               \
    }
#define PAIR(name, which)                                                      \
    ENTRY(name, which, direct, true, "filters, then attention row by row"),    \
        ENTRY(name, which, tiled, false,                                       \
              "filters, then attention in register tiles")

ATT_KERNELS = {
    PAIR(conv_kv, kv),
    PAIR(conv_q, q),
    PAIR(multiscale, multi),
    { 0 },
};
