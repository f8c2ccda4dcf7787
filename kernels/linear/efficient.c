/* efficient - attention through two separate softmaxes.
 *
 *     o_i = rho_q(q_i)' sum_j rho_k(K)_j v_j'           [shen2021efficient]
 *
 * rho_q is a softmax over the d features of a query, rho_k one over the M
 * tokens for each feature; no other denominator, no eps, no causal form.
 */
#include "attend.h"

/* Operations of one token: maximum, minus maximum, exp, sum, division. */
static att_cost map_cost(const att_problem *p, enum att_pass pass)
{
    const double d = p->head_dim;
    att_cost c = { .add = 3 * d, .exp = d, .div = d };
    if (pass == ATT_FORWARD) return c;
    c.mul_add += d; /* phi.dphi, over features or tokens                    */
    c.add += d;
    c.mul += d;
    return c;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const att_cost map = map_cost(p, pass);
    *out = (att_cost){ 0 };
    attend_cost(p, (size_t)p->head_dim, ATTEND_DIVIDED, false, false, pass,
                out);
    attend_cost_tokens(p, &map, &map, out);
}

/* Softmax of `count` entries that lie `step` apart, in place. */
static void softmax(double *x, size_t count, size_t step)
{
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < count; i++) max = fmax(max, x[i * step]);
    for (size_t i = 0; i < count; i++)
        sum += x[i * step] = exp(x[i * step] - max);
    for (size_t i = 0; i < count; i++) x[i * step] /= sum;
}

/* dx += its Jacobian times dy. */
static void softmax_backward(const double *y, const double *dy, size_t count,
                             size_t step, double *dx)
{
    double mean = 0;
    for (size_t i = 0; i < count; i++) mean += y[i * step] * dy[i * step];
    for (size_t i = 0; i < count; i++)
        dx[i * step] += y[i * step] * (dy[i * step] - mean);
}

static attend head(const att_ref *r, int h, enum att_pass pass)
{
    const att_problem *p = r->p;
    const size_t n = att_tokens(p), m = att_keys(p), d = (size_t)p->head_dim;
    const att_cost map = map_cost(p, pass);
    attend a = {
        .tally = r->tally, .n = n, .m = m, .f = d, .e = att_value_dim(p),
        .rule = ATTEND_DIVIDED, .q = ref_new(n * d), .k = ref_new(m * d),
        .v = r->v + (size_t)h * m * att_value_dim(p),
    };
    memcpy(a.q, r->q + (size_t)h * n * d, n * d * sizeof *a.q);
    memcpy(a.k, r->k + (size_t)h * m * d, m * d * sizeof *a.k);
    for (size_t i = 0; i < n; i++) softmax(a.q + i * d, d, 1);
    for (size_t c = 0; c < d; c++) softmax(a.k + c, m, d);
    attend_count_tokens(r, &map, &map);
    return a;
}

static void unmap(const att_ref *r, const attend *a, int h, enum att_slot side,
                  size_t tokens, const double *x, const double *phi,
                  const double *dphi, double *dx)
{
    const size_t d = a->f;
    (void)r, (void)h, (void)x;
    if (!dx) return;
    if (side == ATT_Q)
        for (size_t i = 0; i < tokens; i++)
            softmax_backward(phi + i * d, dphi + i * d, d, 1, dx + i * d);
    else
        for (size_t c = 0; c < d; c++)
            softmax_backward(phi + c, dphi + c, tokens, d, dx + c);
}

static void forward(const att_ref *r)
{
    attend_all_forward(r, head);
}

static void backward(const att_ref *r)
{
    attend_all_backward(r, head, unmap);
}

static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *out)
{
    (void)ch, (void)part;
    attend_all_rows(r, head, h, i0, i1, out);
}

ATT_MECHANISMS = {
    {
        .name = "efficient",
        .family = "linear",
        .brief = "softmax over features of q, over tokens of k",
        .formula = "o_i = rho_q(q_i)' sum_j rho_k(K)_j v_j'\n"
                   "rho_q: softmax over the d features of a query,  "
                   "rho_k: softmax over the M tokens of a feature",
        .map = "A_ij = rho_q(q_i).rho_k(K)_j; rows sum to 1; rank at most d",
        .paper_cost = "O((d_k + d_v) n + d_k d_v) memory, O(d_k d_v n) time; "
                      "ours: 2 d dv FLOPs for each key and each query, the two "
                      "softmaxes counted apart",
        .cite = "shen2021efficient",
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE,
        .uses = ATT_USE(tokens_k) | ATT_USE(value_dim),
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
    },
    { 0 },
};
