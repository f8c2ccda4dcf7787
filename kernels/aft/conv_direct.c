/* aft_conv.direct - AFT-conv with all T x T weights of a head, row by row.
 *
 *     y_t = sigmoid(q_t) * sum_j softmax_j(k_j + w_eff[j - t]) v_j
 *
 * Backward keeps maximum, denominator and mean of each token and makes the
 * weights again: by rows for dq, by columns for dk and dv, by taps for dw.
 */
#include "conv.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Kept: mean [maps][n][d], then max and den [maps][n]. */
typedef struct saved {
    float *mean, *max, *den;
} saved;

static size_t maps(const att_problem *p)
{
    return (size_t)p->batch * (size_t)p->heads;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const size_t n = att_tokens(p), d = (size_t)p->head_dim;
    const size_t window = (size_t)p->heads * conv_window_of(p).taps;
    *out = (att_sizes){
        .save = maps(p) * n * (d + 2) * sizeof(float),
        .work = (window + (size_t)threads * n) * sizeof(float),
        .work_backward = 3 * window * sizeof(float),
    };
}

static saved saved_of(const att_call *c)
{
    const size_t rows = maps(c->p) * att_tokens(c->p);
    float *s = c->save;
    if (!s) return (saved){ 0 };
    const size_t all = rows * (size_t)c->p->head_dim;
    return (saved){ s, s + all, s + all + rows };
}

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/* mean += a_j v_j. */
static void average(const float *a, const float *v, size_t end, size_t d,
                    float sum, float *mean)
{
    memset(mean, 0, d * sizeof *mean);
    for (size_t j = 0; j < end; j++) {
        #pragma omp simd
        for (size_t c = 0; c < d; c++) mean[c] += a[j] * v[j * d + c];
    }
    for (size_t c = 0; c < d; c++) mean[c] /= sum;
}

static void forward(const att_call *c)
{
    const att_problem *p = c->p;
    const conv_window w = conv_window_of(p);
    const size_t n = att_tokens(p), d = (size_t)p->head_dim;
    const size_t heads = (size_t)p->heads;
    float *effective = c->work, *rows = effective + heads * w.taps;
    const saved s = saved_of(c);

    for (size_t h = 0; h < heads; h++)
        conv_effective(c, w.taps, h, effective + h * w.taps, NULL);
    conv_tell_window(c, heads * w.taps, effective);
    #pragma omp parallel for num_threads(c->threads)
    for (size_t row = 0; row < maps(p) * n; row++) {
        const size_t map = row / n, t = row % n;
        const float *k = (const float *)c->k + map * n;
        const float *v = (const float *)c->v + map * n * d;
        const float *q = (const float *)c->q + row * d;
        float *o = (float *)c->o + row * d, top;
        float *a = rows + (size_t)omp_get_thread_num() * n;
        const float sum = conv_weights(
            p, &w, k, effective + map % heads * w.taps, t, a, &top);
        average(a, v, conv_seen(p, &w, t), d, sum, o);
        if (c->save) {
            memcpy(s.mean + row * d, o, d * sizeof *o);
            s.max[row] = top;
            s.den[row] = sum;
        }
        for (size_t i = 0; i < d; i++) o[i] *= sigmoid(q[i]);
    }
}

/* ---- backward ----------------------------------------------------------------------- */

/* Weight of key j for token t of a map. */
static float weight(const att_call *c, const saved *s, const conv_window *w,
                    const float *effective, size_t map, size_t t, size_t j)
{
    const size_t n = att_tokens(c->p), row = map * n + t;
    const ptrdiff_t i = conv_tap(c->p, w, t, j);
    const float k = ((const float *)c->k)[map * n + j];
    const float logit = k + (i >= 0 ? effective[i] : 0);
    return expf(fminf(fmaxf(logit, -1e38f), 1e38f) - s->max[row]) / s->den[row];
}

/* a sum_c G_c (v_jc - m_c), and, if wanted, dv_j += a G. */
static float pair(const att_call *c, const att_grad *g, const saved *s,
                  size_t map, size_t t, size_t j, float a, float *dv)
{
    const size_t n = att_tokens(c->p), d = (size_t)c->p->head_dim;
    const size_t at = (map * n + t) * d;
    const float *v = (const float *)c->v + (map * n + j) * d;
    const float *q = (const float *)c->q + at;
    float de = 0;
    for (size_t i = 0; i < d; i++) {
        const float x = a * g->dout[at + i] * sigmoid(q[i]);
        de += x * (v[i] - s->mean[at + i]);
        if (dv) dv[i] += x;
    }
    return de;
}

static void backward_q(const att_call *c, const att_grad *g, const saved *s)
{
    const size_t all =
        maps(c->p) * att_tokens(c->p) * (size_t)c->p->head_dim;
    if (!g->dq) return;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t i = 0; i < all; i++) {
        const float gate = sigmoid(((const float *)c->q)[i]);
        g->dq[i] = g->dout[i] * s->mean[i] * gate * (1 - gate);
    }
}

static void backward_keys(const att_call *c, const att_grad *g, const saved *s,
                          const conv_window *w, const float *effective)
{
    const size_t n = att_tokens(c->p), d = (size_t)c->p->head_dim;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t key = 0; key < maps(c->p) * n; key++) {
        const size_t map = key / n, j = key % n;
        const float *e = effective + map % (size_t)c->p->heads * w->taps;
        float *dv = g->dv ? g->dv + key * d : NULL, dk = 0;
        if (dv) memset(dv, 0, d * sizeof *dv);
        for (size_t t = w->causal ? j : 0; t < n; t++)
            dk += pair(c, g, s, map, t, j, weight(c, s, w, e, map, t, j), dv);
        if (g->dk) g->dk[key] = dk;
    }
}

/* Sum of de over the batch and the pairs of one tap. */
static float backward_tap(const att_call *c, const att_grad *g, const saved *s,
                          const conv_window *w, const float *effective,
                          size_t h, size_t tap)
{
    const size_t n = att_tokens(c->p), heads = (size_t)c->p->heads;
    const ptrdiff_t width = att_width(c->p), height = att_height(c->p);
    const ptrdiff_t dy = (ptrdiff_t)tap / w->columns - w->up;
    const ptrdiff_t dx = (ptrdiff_t)tap % w->columns - w->left;
    double sum = 0;
    for (size_t map = h; map < maps(c->p); map += heads)
        for (size_t t = 0; t < n; t++) {
            const ptrdiff_t y = (ptrdiff_t)t / width + dy;
            const ptrdiff_t x = (ptrdiff_t)t % width + dx;
            if (y < 0 || y >= height || x < 0 || x >= width) continue;
            const size_t j = (size_t)(y * width + x);
            sum += pair(c, g, s, map, t, j,
                        weight(c, s, w, effective, map, t, j), NULL);
        }
    return (float)sum;
}

static void backward(const att_call *c, const att_grad *g)
{
    const conv_window w = conv_window_of(c->p);
    const size_t heads = (size_t)c->p->heads, all = heads * w.taps;
    const saved s = saved_of(c);
    float *effective = c->work, *hat = effective + all, *dw = hat + all;

    for (size_t h = 0; h < heads; h++)
        conv_effective(c, w.taps, h, effective + h * w.taps, hat + h * w.taps);
    backward_q(c, g, &s);
    if (g->dk || g->dv) backward_keys(c, g, &s, &w, effective);
    if (!g->dparam[CONV_W] && !g->dparam[CONV_GAMMA] && !g->dparam[CONV_BETA])
        return;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t i = 0; i < all; i++)
        dw[i] = backward_tap(c, g, &s, &w,
                             effective + i / w.taps * w.taps, i / w.taps,
                             i % w.taps);
    for (size_t h = 0; h < heads; h++) {
        const size_t at = h * w.taps;
        const float std =
            conv_effective(c, w.taps, h, effective + at, hat + at);
        conv_effective_backward(c, g, w.taps, h, dw + at, hat + at, std);
    }
}

/* Pairs of a token and a tap on an axis whose taps start `before` the token. */
static double axis_pairs(int length, int taps, int before)
{
    double pairs = 0;
    for (int i = 0; i < taps; i++) pairs += fmax(0, length - abs(i - before));
    return pairs;
}

/* All weights, not those of the window alone; backward makes them twice for the
 * pairs of the window. */
static void executed(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double n = (double)att_tokens(p), d = p->head_dim;
    const conv_window w = conv_window_of(p);
    const double pairs =
        (double)maps(p) * (w.causal ? n * (n + 1) / 2 : n * n);
    const double all = (double)maps(p) * n * d;
    if (pass == ATT_FORWARD) {
        out->mul_add = pairs * d;
        out->add = pairs * 4 + all;
        out->mul = all;
        out->div = 2 * all;
        out->exp = pairs + all;
        return;
    }
    const double taps = (double)maps(p) *
                        axis_pairs(att_height(p), w.rows, w.up) *
                        axis_pairs(att_width(p), w.columns, w.left);
    out->mul_add = (pairs + taps) * d;
    out->add = (pairs + taps) * (d + 2) + pairs * 2 * d;
    out->mul = (pairs + taps) * 2 * d + all * 3;
    out->div = (pairs + taps) * (1 + d) + all;
    out->exp = (pairs + taps) * (1 + d) + all;
}

ATT_KERNELS = {
    {
        .name = "aft_conv.direct",
        .mechanism = "aft_conv",
        .brief = "all weights of a head, row by row",
        .plain = true,
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
        .executed = executed,
    },
    { 0 },
};
