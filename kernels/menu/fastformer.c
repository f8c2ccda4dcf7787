/* fastformer - additive attention with global vectors.
 *
 *     alpha^h = softmax_j((w_q^h . q_j + b_q^h) / sqrt d),  Q = sum_j alpha_j q_j
 *     p_j = Q * k_j
 *     beta^h = softmax_j((w_k^h . p_j + b_k^h) / sqrt d),   K = sum_j beta_j p_j
 *     o_i = W_r (K * q_i) + b_r + q_i
 *                                                      [wu2021fastformer]
 *
 * q, k [N][C], C = heads * head_dim.  The score vectors w_q^h, w_k^h run over all
 * C channels; Q and K take the weights of head c / d in channel c.  The value is
 * the query.  mask = prior: a given mask [N], 1 keep, 0 padding, which adds
 * -10000 to both scores: padding has no weight, unless all tokens are padding.
 */
#include "../reference.h"

#include <math.h>
#include <stdlib.h>

enum { WQA, BQA, WKA, BKA, WR, BR, MASK };

static const char *reject(const att_problem *p)
{
    if (p->mask != ATT_MASK_NONE && p->mask != ATT_MASK_PRIOR)
        return "mask is none, or prior: one entry per token";
    if ((size_t)p->heads * (size_t)p->head_dim > 1 << 20)
        return "needs heads * head_dim of at most 2^20";
    return NULL;
}

static size_t width(const att_problem *p)
{
    return (size_t)p->heads * (size_t)p->head_dim;
}

static void shape(const att_problem *p, enum att_slot slot, att_shape *out)
{
    out->heads = 1;
    out->channels = (int)width(p);
    if (slot == ATT_V) out->tokens = 0;
}

static int parameters(const att_problem *p, att_tensor *out)
{
    static const char *const names[] = { "wqa", "bqa", "wka", "bka",
                                         "wr",  "br",  "mask" };
    const int h = p->heads, c = (int)width(p);
    for (int i = WQA; i <= MASK; i++)
        out[i] = (att_tensor){ .name = names[i], .dims = 1 };
    for (int i = WQA; i <= WR; i += 2) {
        out[i].dims = 2;
        out[i].dim[0] = i == WR ? c : h;
        out[i].dim[1] = c;
        out[i].init = ATT_INIT_NORMAL;
        out[i].std = 1 / sqrt(c);
    }
    out[BQA].dim[0] = out[BKA].dim[0] = h;
    out[BR].dim[0] = c;
    if (p->mask == ATT_MASK_PRIOR) {
        out[MASK].dim[0] = (int)att_tokens(p);
        out[MASK].init = ATT_INIT_FILL;
        out[MASK].fixed = true;
    }
    return 7;
}

/* A quarter of padding at the end. */
static void fill(const att_problem *p, int index, float *data)
{
    const size_t n = att_tokens(p);
    (void)index;
    for (size_t i = 0; i < n; i++) data[i] = i < n - n / 4;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double n = (double)p->batch * (double)att_tokens(p);
    const double h = p->heads, c = (double)width(p), map = 4 * n * c;
    const double parameters = 4 * (2 * h * (c + 1) + c * c + c);
    if (pass == ATT_FORWARD)
        *out = (att_cost){
            .mul_add = n * (2 * h * c + 2 * c + c * c),
            /* scores: bias, maximum, minus it, sum; output: bias, query */
            .add = n * (2 * h * 4 + 2 * c),
            .mul = n * (2 * h + 2 * c),
            .div = n * 2 * h,
            .exp = n * 2 * h,
            .read = 2 * map + parameters,
            .write = map,
            .pairs = n * h,
        };
    else
        *out = (att_cost){
            .mul_add = n * (3 * c * c + 6 * h * c + 8 * c + 2 * h),
            .add = n * (2 * h * 5 + 2 * c),
            .mul = n * (4 * h + 4 * c),
            .div = n * 2 * h,
            .exp = n * 2 * h,
            .read = 3 * map + parameters,
            .write = 2 * map + parameters,
            .pairs = n * h,
        };
}

/* ---- reference ------------------------------------------------------------------- */

/* One of the two poolings: weights a [h][N] and pooled vector [C] of x [N][C]. */
typedef struct pooling {
    double *a, *vector;
} pooling;

static pooling pooling_new(const att_problem *p)
{
    return (pooling){ ref_new((size_t)p->heads * att_tokens(p)),
                      ref_new(width(p)) };
}

static void pooling_free(pooling *x)
{
    free(x->a);
    free(x->vector);
}

static void weights(const att_ref *r, int w, int h, const double *x, double *a)
{
    const size_t n = att_tokens(r->p), c = width(r->p);
    const double *mask = r->param[MASK];
    double max = -INFINITY, sum = 0;
    for (size_t j = 0; j < n; j++) {
        a[j] = (ref_dot(r->param[w] + (size_t)h * c, x + j * c, c) +
                r->param[w + 1][h]) / sqrt(r->p->head_dim);
        if (mask) a[j] += (1 - mask[j]) * -10000;
        max = fmax(max, a[j]);
    }
    for (size_t j = 0; j < n; j++) sum += a[j] = exp(a[j] - max);
    for (size_t j = 0; j < n; j++) a[j] /= sum;
    REF_COUNT(r, mul_add, n * c);
    REF_COUNT(r, add, 4 * n);
    REF_COUNT(r, mul, n);
    REF_COUNT(r, exp, n);
    REF_COUNT(r, div, n);
}

static void pool(const att_ref *r, int w, const double *x, pooling *out)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const size_t c = width(r->p);
    for (int h = 0; h < r->p->heads; h++)
        weights(r, w, h, x, out->a + (size_t)h * n);
    for (size_t f = 0; f < c; f++) {
        out->vector[f] = 0;
        for (size_t j = 0; j < n; j++)
            out->vector[f] += out->a[f / d * n + j] * x[j * c + f];
    }
    REF_COUNT(r, mul_add, n * c);
}

/* Adds to dx and the score parameters what dv, the gradient of the pooled
 * vector, yields. */
static void pool_backward(const att_ref *r, int w, const double *x,
                          const pooling *y, const double *dv, double *dx)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const size_t c = width(r->p);
    double *dl = ref_new(n);
    for (size_t h = 0; h < (size_t)r->p->heads; h++) {
        const double *a = y->a + h * n;
        for (size_t j = 0; j < n; j++) {
            dl[j] = ref_dot(dv + h * d, x + j * c + h * d, d);
            for (size_t f = h * d; f < (h + 1) * d; f++)
                dx[j * c + f] += a[j] * dv[f];
        }
        const double along = ref_dot(a, dl, n);
        for (size_t j = 0; j < n; j++) {
            const double ds = a[j] * (dl[j] - along) / sqrt((double)d);
            if (r->dparam[w + 1]) r->dparam[w + 1][h] += ds;
            for (size_t f = 0; f < c; f++) {
                dx[j * c + f] += ds * r->param[w][h * c + f];
                if (r->dparam[w]) r->dparam[w][h * c + f] += ds * x[j * c + f];
            }
        }
    }
    free(dl);
}

/* p = Q * k. */
static double *products(const att_ref *r, const pooling *q)
{
    const size_t n = att_tokens(r->p), c = width(r->p);
    double *p = ref_new(n * c);
    for (size_t i = 0; i < n * c; i++) p[i] = q->vector[i % c] * r->k[i];
    REF_COUNT(r, mul, n * c);
    return p;
}

static void forward(const att_ref *r)
{
    const size_t n = att_tokens(r->p), c = width(r->p);
    pooling q = pooling_new(r->p), k = pooling_new(r->p);
    double *u = ref_new(c);
    pool(r, WQA, r->q, &q);
    double *p = products(r, &q);
    pool(r, WKA, p, &k);
    for (size_t i = 0; i < n; i++) {
        for (size_t f = 0; f < c; f++) u[f] = k.vector[f] * r->q[i * c + f];
        for (size_t f = 0; f < c; f++)
            r->o[i * c + f] = ref_dot(r->param[WR] + f * c, u, c) +
                              r->param[BR][f] + r->q[i * c + f];
    }
    REF_COUNT(r, mul, n * c);
    REF_COUNT(r, mul_add, n * c * c);
    REF_COUNT(r, add, 2 * n * c);
    REF_COUNT(r, pairs, n * (size_t)r->p->heads);
    free(p);
    free(u);
    pooling_free(&k);
    pooling_free(&q);
}

/* o_i = W_r (K * q_i) + b_r + q_i: dq and dK. */
static void output_backward(const att_ref *r, const pooling *k, double *dq,
                            double *dk)
{
    const size_t n = att_tokens(r->p), c = width(r->p);
    for (size_t i = 0; i < n; i++) {
        const double *g = r->dout + i * c, *q = r->q + i * c;
        for (size_t f = 0; f < c; f++) {
            double du = 0;
            for (size_t o = 0; o < c; o++) {
                du += g[o] * r->param[WR][o * c + f];
                if (r->dparam[WR])
                    r->dparam[WR][o * c + f] += g[o] * k->vector[f] * q[f];
            }
            if (r->dparam[BR]) r->dparam[BR][f] += g[f];
            dq[i * c + f] += g[f] + du * k->vector[f];
            dk[f] += du * q[f];
        }
    }
}

static void backward(const att_ref *r)
{
    const size_t n = att_tokens(r->p), c = width(r->p);
    pooling q = pooling_new(r->p), k = pooling_new(r->p);
    double *dq = ref_new(n * c), *dp = ref_new(n * c);
    double *dvq = ref_new(c), *dvk = ref_new(c);
    pool(r, WQA, r->q, &q);
    double *p = products(r, &q);
    pool(r, WKA, p, &k);

    output_backward(r, &k, dq, dvk);
    pool_backward(r, WKA, p, &k, dvk, dp);
    for (size_t i = 0; i < n * c; i++) {
        dvq[i % c] += dp[i] * r->k[i];
        if (r->dk) r->dk[i] += dp[i] * q.vector[i % c];
    }
    pool_backward(r, WQA, r->q, &q, dvq, dq);
    for (size_t i = 0; r->dq && i < n * c; i++) r->dq[i] += dq[i];
    free(p);
    free(dvk);
    free(dvq);
    free(dp);
    free(dq);
    pooling_free(&k);
    pooling_free(&q);
}

ATT_MECHANISMS = {
    {
        .name = "fastformer",
        .family = "menu",
        .brief = "additive attention with one global query and key vector",
        .formula = "alpha = softmax((w_q . q_j + b_q) / sqrt d), Q = sum "
                   "alpha_j q_j, p_j = Q * k_j,\n"
                   "beta = softmax((w_k . p_j + b_k) / sqrt d), K = sum beta_j "
                   "p_j, o_i = W_r (K * q_i) + b_r + q_i",
        .map = "none: there is no N x N form; a query meets the others only "
               "through K, the sum of p_j with weights beta (one row per "
               "head), so nothing is shown",
        .paper_cost = "O(N d); ours: 4 N C h for the scores, 6 N C for pooling "
                      "and products, 2 N C^2 for W_r",
        .cite = "wu2021fastformer",
        .uses = ATT_USE(mask),
        .reject = reject,
        .shape = shape,
        .parameters = parameters,
        .fill = fill,
        .cost = cost,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
