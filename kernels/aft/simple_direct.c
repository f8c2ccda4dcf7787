/* aft_simple.direct - AFT-simple column by column, one pass per operation.
 *
 *     y_t = sigmoid(q_t) c_t,  c_t = sum_j exp(k_j) v_j / sum_j exp(k_j)
 *
 * per feature, j over all tokens or j <= t.  Backward, with G = g sigmoid(q),
 * running maxima M, denominators D relative to them and suffix sums
 * U_j = sum_{t >= j} G_t exp(M_j - M_t) / D_t, W_j the same with G_t c_t:
 *
 *     dv_j = exp(k_j - M_j) U_j,   dk_j = exp(k_j - M_j) (v_j U_j - W_j)
 *
 * (without causality, M, D and c are those of the last token for every t).
 */
#include "../att.h"

#include <math.h>

/* Arrays of one feature: entries `width` apart. */
typedef struct column {
    size_t n, width;
    bool causal;
    const float *q, *k, *v;
    float *max, *den, *mean; /* kept for backward                           */
} column;

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    (void)threads;
    const size_t all =
        (size_t)p->batch * att_tokens(p) * (size_t)p->head_dim;
    *out = (att_sizes){ .save = 3 * all * sizeof(float),
                        .work = 3 * all * sizeof(float) };
}

static column column_of(const att_call *c, size_t index)
{
    const size_t n = att_tokens(c->p), width = (size_t)c->p->head_dim;
    const size_t at = index / width * n * width + index % width;
    const size_t all = (size_t)c->p->batch * n * width;
    float *kept = c->save ? c->save : c->work;
    return (column){ .n = n,
                     .width = width,
                     .causal = att_at(&c->p->causal, 0, 0),
                     .q = (const float *)c->q + at,
                     .k = (const float *)c->k + at,
                     .v = (const float *)c->v + at,
                     .max = kept + at,
                     .den = kept + all + at,
                     .mean = kept + 2 * all + at };
}

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/* max, den and mean of prefixes. */
static void scan(const column *x)
{
    float max = x->k[0], den = 0, num = 0;
    for (size_t t = 0; t < x->n; t++) {
        const float k = x->k[t * x->width], v = x->v[t * x->width];
        const float top = fmaxf(max, k), s = expf(max - top), e = expf(k - top);
        den = den * s + e;
        num = num * s + e * v;
        max = top;
        x->max[t * x->width] = max;
        x->den[t * x->width] = den;
        x->mean[t * x->width] = num / den;
    }
}

/* The same of all tokens, for every token. */
static void total(const column *x)
{
    float max = x->k[0], den = 0, num = 0;
    for (size_t t = 0; t < x->n; t++) max = fmaxf(max, x->k[t * x->width]);
    for (size_t t = 0; t < x->n; t++) den += expf(x->k[t * x->width] - max);
    for (size_t t = 0; t < x->n; t++)
        num += expf(x->k[t * x->width] - max) * x->v[t * x->width];
    for (size_t t = 0; t < x->n; t++) {
        x->max[t * x->width] = max;
        x->den[t * x->width] = den;
        x->mean[t * x->width] = num / den;
    }
}

static void forward(const att_call *c)
{
    const size_t columns = (size_t)c->p->batch * (size_t)c->p->head_dim;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t i = 0; i < columns; i++) {
        const column x = column_of(c, i);
        float *o = (float *)c->o + (x.q - (const float *)c->q);
        if (x.causal) scan(&x);
        else total(&x);
        for (size_t t = 0; t < x.n; t++)
            o[t * x.width] =
                sigmoid(x.q[t * x.width]) * x.mean[t * x.width];
    }
}

/* From u = U_j and w = W_j of token at. */
static void key_gradients(const column *x, size_t at, float u, float w,
                          float *dk, float *dv)
{
    const float e = expf(x->k[at] - x->max[at]);
    if (dv) dv[at] = e * u;
    if (dk) dk[at] = e * (x->v[at] * u - w);
}

static void backward_column(const column *x, const float *dout, float *dq,
                            float *dk, float *dv)
{
    float u = 0, w = 0, max = x->max[(x->n - 1) * x->width];
    for (size_t t = x->n; t-- > 0;) {
        const size_t at = t * x->width;
        const float gate = sigmoid(x->q[at]), s = expf(x->max[at] - max);
        const float g = dout[at] * gate / x->den[at];
        if (dq) dq[at] = dout[at] * x->mean[at] * gate * (1 - gate);
        u = u * s + g;
        w = w * s + g * x->mean[at];
        max = x->max[at];
        if (x->causal) key_gradients(x, at, u, w, dk, dv);
    }
    for (size_t j = 0; !x->causal && j < x->n; j++)
        key_gradients(x, j * x->width, u, w, dk, dv);
}

static void backward(const att_call *c, const att_grad *g)
{
    const size_t columns = (size_t)c->p->batch * (size_t)c->p->head_dim;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t i = 0; i < columns; i++) {
        const column x = column_of(c, i);
        const size_t at = (size_t)(x.q - (const float *)c->q);
        backward_column(&x, g->dout + at, g->dq ? g->dq + at : NULL,
                        g->dk ? g->dk + at : NULL, g->dv ? g->dv + at : NULL);
    }
}

ATT_KERNELS = {
    {
        .name = "aft_simple.direct",
        .mechanism = "aft_simple",
        .brief = "column by column, one pass per operation",
        .plain = true,
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
