/* pernode - one weight per node instead of one per pair: every row of the
 * effective matrix is the same, so its rank is 1.
 *
 *     pernode_logits    a = softmax(logits),             o_i = sum_j a_j v_j
 *     pernode_softmax   a = softmax_j(w . k_j + b),      o_i = sum_j a_j v_j
 *     separable         a = softmax(score),  o_i = relu(v_i) * sum_j a_j k_j
 *                                                      [mehta2022separable]
 *     pernode_pool      a_j = exp(l_j) / (sum_l exp(l_l) + 1e-8),
 *                       l_j = w2 . tanh(W1 x_j + b1) + b2,  o = sum_j a_j x_j
 *                                                      [wu2021fastformer]
 *
 * per head in the first two, whose parameters are logits [h][N] and w [h][d],
 * b [h]; the others see one width.  score [N][1] comes from outside (a C -> 1
 * projection of the tokens).  pernode_pool yields one row.
 */
#include "../reference.h"

#include <math.h>
#include <stdlib.h>

#define POOL_EPS 1e-8

/* ---- one row of weights --------------------------------------------------------------- */

/* a = exp(l) / (sum exp(l) + eps), in place; shifted by the maximum so that no
 * exponential overflows.  Logits of -inf alone: zeros; those of +inf share it. */
static void softmax(const att_ref *r, double *a, size_t n, double eps)
{
    double max = -INFINITY, sum = 0;
    for (size_t j = 0; j < n; j++) max = fmax(max, a[j]);
    for (size_t j = 0; j < n; j++)
        sum += a[j] = isinf(max) ? max > 0 && a[j] == max : exp(a[j] - max);
    if (eps > 0 && max > -INFINITY) sum += eps * exp(-max);
    for (size_t j = 0; j < n; j++) a[j] /= sum > 0 ? sum : 1;
    REF_COUNT(r, add, 3 * n);
    REF_COUNT(r, exp, n);
    REF_COUNT(r, div, n);
}

/* Gradient of the logits in place of that of the weights; holds with eps too. */
static void softmax_backward(const double *a, double *da, size_t n)
{
    const double along = ref_dot(a, da, n);
    for (size_t j = 0; j < n; j++) da[j] = a[j] * (da[j] - along);
}

/* c = sum_j a_j x_j of n rows of d. */
static void context(const att_ref *r, const double *a, const double *x,
                    size_t n, size_t d, double *c)
{
    for (size_t f = 0; f < d; f++) c[f] = 0;
    for (size_t j = 0; j < n; j++)
        for (size_t f = 0; f < d; f++) c[f] += a[j] * x[j * d + f];
    REF_COUNT(r, mul_add, n * d);
}

/* Adds a_j dc to dx (if wanted) and makes da_j = dc . x_j. */
static void context_backward(const double *a, const double *x, size_t n,
                             size_t d, const double *dc, double *dx, double *da)
{
    for (size_t j = 0; j < n; j++) {
        da[j] = ref_dot(dc, x + j * d, d);
        for (size_t f = 0; dx && f < d; f++) dx[j * d + f] += a[j] * dc[f];
    }
}

/* dc = sum of the rows of g. */
static void sum_rows(const double *g, size_t n, size_t d, double *dc)
{
    for (size_t f = 0; f < d; f++) dc[f] = 0;
    for (size_t j = 0; j < n; j++)
        for (size_t f = 0; f < d; f++) dc[f] += g[j * d + f];
}

static void repeat(const double *a, size_t n, size_t i0, size_t i1, double *out)
{
    for (size_t i = i0; i < i1; i++)
        for (size_t j = 0; j < n; j++) out[(i - i0) * n + j] = a[j];
}

/* ---- pernode_logits, pernode_softmax ------------------------------------------------------ */

enum { LOGITS };
enum { W, B };

static void shape_logits(const att_problem *p, enum att_slot slot,
                         att_shape *out)
{
    (void)p;
    if (slot == ATT_Q || slot == ATT_K) out->tokens = 0;
}

static void shape_softmax(const att_problem *p, enum att_slot slot,
                          att_shape *out)
{
    (void)p;
    if (slot == ATT_Q) out->tokens = 0;
}

static int parameters_logits(const att_problem *p, att_tensor *out)
{
    out[LOGITS] = (att_tensor){ .name = "logits",
                                .dims = 2,
                                .dim = { p->heads, (int)att_tokens(p) },
                                .init = ATT_INIT_NORMAL,
                                .std = 0.02,
                                .logit = true };
    return 1;
}

static int parameters_softmax(const att_problem *p, att_tensor *out)
{
    out[W] = (att_tensor){ .name = "w",
                           .dims = 2,
                           .dim = { p->heads, p->head_dim },
                           .init = ATT_INIT_NORMAL,
                           .std = 1 / sqrt(p->head_dim) };
    out[B] = (att_tensor){ .name = "b", .dims = 1, .dim = { p->heads } };
    return 2;
}

/* Backward: the sum of g, dv, da, dl (and dk, dw). */
static void cost_common(const att_problem *p, enum att_pass pass, bool keys,
                        att_cost *out)
{
    const double maps = (double)p->batch * p->heads, d = p->head_dim;
    const double n = (double)att_tokens(p), all = maps * n;
    const double parameters = 4.0 * p->heads * (keys ? d + 1 : n);
    const bool back = pass == ATT_BACKWARD;
    *out = (att_cost){
        .mul_add = all * (d * (1 + keys) + back * (d + 1 + keys * d)),
        .add = all * (3 + keys + back * (d + 1)),
        .mul = back * all * (1 + d + keys * d),
        .div = all,
        .exp = all,
        .read = 4 * all * d * (1 + keys + back) + parameters,
        .write = 4 * all * d * (1 + (back && keys)) + back * parameters,
        .pairs = maps * n * n,
    };
}

static void cost_logits(const att_problem *p, enum att_pass pass, att_cost *out)
{
    cost_common(p, pass, false, out);
}

static void cost_softmax(const att_problem *p, enum att_pass pass,
                         att_cost *out)
{
    cost_common(p, pass, true, out);
}

static void weights_logits(const att_ref *r, int h, double *a)
{
    const size_t n = att_tokens(r->p);
    for (size_t j = 0; j < n; j++) a[j] = r->param[LOGITS][(size_t)h * n + j];
    softmax(r, a, n, 0);
}

static void weights_softmax(const att_ref *r, int h, double *a)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const double *w = r->param[W] + (size_t)h * d;
    for (size_t j = 0; j < n; j++)
        a[j] = ref_dot(w, r->k + ((size_t)h * n + j) * d, d) + r->param[B][h];
    REF_COUNT(r, mul_add, n * d);
    REF_COUNT(r, add, n);
    softmax(r, a, n, 0);
}

typedef void weights_fn(const att_ref *r, int h, double *a);

static void forward_common(const att_ref *r, weights_fn *weights)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    double *a = ref_new(n), *c = ref_new(d);
    for (int h = 0; h < r->p->heads; h++) {
        const size_t at = (size_t)h * n * d;
        weights(r, h, a);
        context(r, a, r->v + at, n, d, c);
        repeat(c, d, 0, n, r->o + at);
        REF_COUNT(r, pairs, n * n);
    }
    free(c);
    free(a);
}

/* da of head h gets the gradient of the logits. */
static void backward_common(const att_ref *r, weights_fn *weights, int h,
                            double *a, double *da)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const size_t at = (size_t)h * n * d;
    double *dc = ref_new(d);
    weights(r, h, a);
    sum_rows(r->dout + at, n, d, dc);
    context_backward(a, r->v + at, n, d, dc, r->dv ? r->dv + at : NULL, da);
    softmax_backward(a, da, n);
    free(dc);
}

static void rows_common(const att_ref *r, weights_fn *weights, int h, size_t i0,
                        size_t i1, double *out)
{
    double *a = ref_new(att_tokens(r->p));
    weights(r, h, a);
    repeat(a, att_tokens(r->p), i0, i1, out);
    free(a);
}

static void forward_logits(const att_ref *r)
{
    forward_common(r, weights_logits);
}

static void forward_softmax(const att_ref *r)
{
    forward_common(r, weights_softmax);
}

static void backward_logits(const att_ref *r)
{
    const size_t n = att_tokens(r->p);
    double *a = ref_new(n), *dl = ref_new(n);
    for (int h = 0; h < r->p->heads; h++) {
        backward_common(r, weights_logits, h, a, dl);
        for (size_t j = 0; r->dparam[LOGITS] && j < n; j++)
            r->dparam[LOGITS][(size_t)h * n + j] += dl[j];
    }
    free(dl);
    free(a);
}

static void backward_softmax(const att_ref *r)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    double *a = ref_new(n), *dl = ref_new(n);
    for (int h = 0; h < r->p->heads; h++) {
        backward_common(r, weights_softmax, h, a, dl);
        for (size_t j = 0; j < n; j++) {
            const size_t at = ((size_t)h * n + j) * d;
            if (r->dparam[B]) r->dparam[B][h] += dl[j];
            for (size_t f = 0; f < d; f++) {
                const size_t w = (size_t)h * d + f;
                if (r->dparam[W]) r->dparam[W][w] += dl[j] * r->k[at + f];
                if (r->dk) r->dk[at + f] += dl[j] * r->param[W][w];
            }
        }
    }
    free(dl);
    free(a);
}

static void rows_logits(const att_ref *r, int h, int ch, enum att_part part,
                        size_t i0, size_t i1, double *a)
{
    (void)ch, (void)part;
    rows_common(r, weights_logits, h, i0, i1, a);
}

static void rows_softmax(const att_ref *r, int h, int ch, enum att_part part,
                         size_t i0, size_t i1, double *a)
{
    (void)ch, (void)part;
    rows_common(r, weights_softmax, h, i0, i1, a);
}

/* ---- separable --------------------------------------------------------------------------------- */

static void shape_separable(const att_problem *p, enum att_slot slot,
                            att_shape *out)
{
    (void)p;
    if (slot == ATT_Q) out->channels = 1;
}

static void cost_separable(const att_problem *p, enum att_pass pass,
                           att_cost *out)
{
    const double n = (double)att_tokens(p), d = p->head_dim;
    const double rows = p->batch * n, map = 4 * rows * d, score = 4 * rows;
    const bool back = pass == ATT_BACKWARD;
    *out = (att_cost){
        /* backward: dc = sum g relu(v), da = dc . k, dk = a dc, dv = g c */
        .mul_add = rows * (d + back * (2 * d + 1)),
        .add = rows * (3 + d + back), /* relu compares */
        .mul = rows * (back ? 2 * d + 1 : d),
        .div = rows,
        .exp = rows,
        .read = map * (2 + back) + score,
        .write = map * (1 + back) + back * score,
        .pairs = rows * n,
    };
}

static void weights_separable(const att_ref *r, double *a)
{
    const size_t n = att_tokens(r->p);
    for (size_t j = 0; j < n; j++) a[j] = r->q[j];
    softmax(r, a, n, 0);
}

static void forward_separable(const att_ref *r)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    double *a = ref_new(n), *c = ref_new(d);
    weights_separable(r, a);
    context(r, a, r->k, n, d, c);
    for (size_t i = 0; i < n * d; i++) r->o[i] = fmax(r->v[i], 0) * c[i % d];
    REF_COUNT(r, add, n * d);
    REF_COUNT(r, mul, n * d);
    REF_COUNT(r, pairs, n * n);
    free(c);
    free(a);
}

static void backward_separable(const att_ref *r)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    double *a = ref_new(n), *da = ref_new(n), *c = ref_new(d), *dc = ref_new(d);
    weights_separable(r, a);
    context(r, a, r->k, n, d, c);
    for (size_t i = 0; i < n * d; i++) {
        dc[i % d] += r->dout[i] * fmax(r->v[i], 0);
        if (r->dv && r->v[i] > 0) r->dv[i] += r->dout[i] * c[i % d];
    }
    context_backward(a, r->k, n, d, dc, r->dk, da);
    softmax_backward(a, da, n);
    for (size_t j = 0; r->dq && j < n; j++) r->dq[j] += da[j];
    free(dc);
    free(c);
    free(da);
    free(a);
}

static void rows_separable(const att_ref *r, int h, int ch, enum att_part part,
                           size_t i0, size_t i1, double *out)
{
    (void)h, (void)ch, (void)part;
    double *a = ref_new(att_tokens(r->p));
    weights_separable(r, a);
    repeat(a, att_tokens(r->p), i0, i1, out);
    free(a);
}

static void affine_separable(const att_ref *r, int h, int ch, size_t i,
                             double *gain, double *offset)
{
    (void)h;
    *gain = fmax(r->v[i * (size_t)r->p->head_dim + (size_t)ch], 0);
    *offset = 0;
}

/* ---- pernode_pool ------------------------------------------------------------------------------- */

enum { POOL_W1, POOL_B1, POOL_W2, POOL_B2 };

static void shape_pool(const att_problem *p, enum att_slot slot, att_shape *out)
{
    (void)p;
    if (slot == ATT_K || slot == ATT_V) out->tokens = 0;
    if (slot == ATT_O) out->tokens = 1;
}

static int parameters_pool(const att_problem *p, att_tensor *out)
{
    const int d = p->head_dim;
    const double std = 1 / sqrt(d);
    out[POOL_W1] = (att_tensor){ .name = "W1", .dims = 2, .dim = { d, d },
                                 .init = ATT_INIT_NORMAL, .std = std };
    out[POOL_B1] = (att_tensor){ .name = "b1", .dims = 1, .dim = { d } };
    out[POOL_W2] = (att_tensor){ .name = "w2", .dims = 1, .dim = { d },
                                 .init = ATT_INIT_NORMAL, .std = std };
    out[POOL_B2] = (att_tensor){ .name = "b2", .dims = 1, .dim = { 1 } };
    return 4;
}

static void cost_pool(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double n = (double)att_tokens(p), d = p->head_dim;
    const double rows = p->batch * n, parameters = 4 * (d * d + 2 * d + 1);
    const bool back = pass == ATT_BACKWARD;
    *out = (att_cost){
        /* backward: da = g . x, dx = a g + W1' dh, dW1 = dh x', dw2 */
        .mul_add = rows * (d * d + 2 * d + back * (2 * d * d + 3 * d + 1)),
        .add = rows * (d + 1 + 3 + back * (d + 2)),
        .mul = back * rows * (2 * d + 1),
        .div = rows,
        .exp = rows * (d + 1),
        .read = 4 * rows * d + parameters + back * 4 * p->batch * d,
        .write = back ? 4 * rows * d + parameters : 4 * p->batch * d,
        .pairs = rows,
    };
}

/* Activations y [n][d] and weights a [n]. */
static void weights_pool(const att_ref *r, double *y, double *a)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    for (size_t j = 0; j < n; j++) {
        for (size_t u = 0; u < d; u++)
            y[j * d + u] = tanh(ref_dot(r->param[POOL_W1] + u * d,
                                        r->q + j * d, d) +
                                r->param[POOL_B1][u]);
        a[j] = ref_dot(r->param[POOL_W2], y + j * d, d) + r->param[POOL_B2][0];
    }
    REF_COUNT(r, mul_add, n * (d * d + d));
    REF_COUNT(r, add, n * (d + 1));
    REF_COUNT(r, exp, n * d);
    softmax(r, a, n, POOL_EPS);
}

static void forward_pool(const att_ref *r)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    double *y = ref_new(n * d), *a = ref_new(n);
    weights_pool(r, y, a);
    context(r, a, r->q, n, d, r->o);
    REF_COUNT(r, pairs, n);
    free(a);
    free(y);
}

static void backward_pool(const att_ref *r)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    double *y = ref_new(n * d), *a = ref_new(n), *dl = ref_new(n);
    double *const *g = r->dparam;
    weights_pool(r, y, a);
    context_backward(a, r->q, n, d, r->dout, r->dq, dl);
    softmax_backward(a, dl, n);
    for (size_t j = 0; j < n; j++) {
        if (g[POOL_B2]) g[POOL_B2][0] += dl[j];
        for (size_t u = 0; u < d; u++) {
            const double act = y[j * d + u];
            const double dh = dl[j] * r->param[POOL_W2][u] * (1 - act * act);
            if (g[POOL_W2]) g[POOL_W2][u] += dl[j] * act;
            if (g[POOL_B1]) g[POOL_B1][u] += dh;
            for (size_t c = 0; c < d; c++) {
                const double w = r->param[POOL_W1][u * d + c];
                if (g[POOL_W1]) g[POOL_W1][u * d + c] += dh * r->q[j * d + c];
                if (r->dq) r->dq[j * d + c] += dh * w;
            }
        }
    }
    free(dl);
    free(a);
    free(y);
}

static void rows_pool(const att_ref *r, int h, int ch, enum att_part part,
                      size_t i0, size_t i1, double *out)
{
    const size_t n = att_tokens(r->p);
    (void)h, (void)ch, (void)part;
    double *y = ref_new(n * (size_t)r->p->head_dim), *a = ref_new(n);
    weights_pool(r, y, a);
    repeat(a, n, i0, i1, out);
    free(a);
    free(y);
}

/* ---- table ----------------------------------------------------------------------------------------- */

ATT_MECHANISMS = {
    {
        .name = "pernode_logits",
        .family = "menu",
        .brief = "one learned weight per node, the same for all queries",
        .formula = "a = softmax(logits), o_i = sum_j a_j v_j",
        .map = "every row is softmax(logits): rank 1, rows sum to 1",
        .cite = "bahdanau2015",
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE,
        .shape = shape_logits,
        .parameters = parameters_logits,
        .cost = cost_logits,
        .forward = forward_logits,
        .backward = backward_logits,
        .rows = rows_logits,
    },
    {
        .name = "pernode_softmax",
        .family = "menu",
        .brief = "one weight per node from its key, the same for all queries",
        .formula = "a = softmax_j(w . k_j + b), o_i = sum_j a_j v_j",
        .map = "every row is softmax_j(w . k_j + b): rank 1, rows sum to 1",
        .cite = "bahdanau2015",
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE,
        .shape = shape_softmax,
        .parameters = parameters_softmax,
        .cost = cost_softmax,
        .forward = forward_softmax,
        .backward = backward_softmax,
        .rows = rows_softmax,
    },
    {
        .name = "separable",
        .family = "menu",
        .brief = "separable self-attention: one score per token, gated values",
        .formula = "a = softmax(score), o_i = relu(v_i) * sum_j a_j k_j",
        .map = "every row is softmax(score); it multiplies K, not V, and "
               "relu(v_i) gates the result; rank 1",
        .paper_cost = "O(k) for k tokens (MobileViTv2); ours: the context, the "
                      "gate and the softmax over tokens, no projections",
        .cite = "mehta2022separable",
        .inputs = { "score", NULL, NULL },
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE |
                  ATT_GATED | ATT_ON_K | ATT_ONE_WIDTH,
        .shape = shape_separable,
        .cost = cost_separable,
        .forward = forward_separable,
        .backward = backward_separable,
        .rows = rows_separable,
        .affine = affine_separable,
    },
    {
        .name = "pernode_pool",
        .family = "menu",
        .brief = "attention pooling: all tokens into one vector",
        .formula = "l_j = w2 . tanh(W1 x_j + b1) + b2, a_j = exp(l_j) / "
                   "(sum exp(l) + 1e-8), o = sum_j a_j x_j",
        .map = "no N x N form: one row, the weight of every token in the "
               "pooled vector (it multiplies x, on which it depends)",
        .cite = "wu2021fastformer",
        .inputs = { "x", NULL, NULL },
        .traits = ATT_ROWS_SUM_1 | ATT_NONNEGATIVE | ATT_ONE_WIDTH,
        .shape = shape_pool,
        .parameters = parameters_pool,
        .cost = cost_pool,
        .forward = forward_pool,
        .backward = backward_pool,
        .rows = rows_pool,
    },
    { 0 },
};
