/* cosformer - relu features with a cosine re-weighting of distances.
 *
 *     s_ij = relu(q_i).relu(k_j) cos(pi/2 (i - j) / max(N, M))
 *     o_i = sum_j s_ij v_j / max(sum_j s_ij, 1e-6)   [qin2022cosformer]
 *
 * linear because cos(a - b) = cos a cos b + sin a sin b: phi(x_i) = [relu(x_i)
 * sin t_i, relu(x_i) cos t_i], t_i = (pi/2) i / max(N, M), i from 1.  All
 * factors are positive.  t depends on the length, so a causal cosFormer is not
 * prefix-consistent: a longer sequence changes its earlier rows.
 */
#include "attend.h"

#define LEAST 1e-6

static const char *reject(const att_problem *p)
{
    return attend_reject_causal(p);
}

/* Operations of the map of one token, and of its gradient; sin t_i and cos t_i
 * do not depend on the input and are not counted. */
static att_cost map_cost(const att_problem *p, enum att_pass pass)
{
    const double d = p->head_dim;
    att_cost c = { .add = d, .mul = 2 * d };
    if (pass == ATT_FORWARD) return c;
    c.add += d;
    c.mul += d;
    c.mul_add += d;
    return c;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const att_cost map = map_cost(p, pass);
    *out = (att_cost){ 0 };
    attend_cost(p, 2 * (size_t)p->head_dim, ATTEND_CLAMP, attend_is_causal(p),
                false, pass, out);
    attend_cost_tokens(p, &map, &map, out);
}

static double angle(const att_problem *p, size_t i)
{
    const size_t n = att_tokens(p), m = att_keys(p);
    return acos(-1) / 2 * (double)(i + 1) / (double)(n > m ? n : m);
}

static double *map_tokens(const att_problem *p, const double *x, size_t tokens)
{
    const size_t d = (size_t)p->head_dim;
    double *phi = ref_new(tokens * 2 * d);
    for (size_t i = 0; i < tokens; i++)
        for (size_t c = 0; c < d; c++) {
            phi[i * 2 * d + c] = fmax(x[i * d + c], 0) * sin(angle(p, i));
            phi[i * 2 * d + d + c] = fmax(x[i * d + c], 0) * cos(angle(p, i));
        }
    return phi;
}

static attend head(const att_ref *r, int h, enum att_pass pass)
{
    const att_problem *p = r->p;
    const size_t n = att_tokens(p), m = att_keys(p), d = (size_t)p->head_dim;
    const att_cost map = map_cost(p, pass);
    attend_count_tokens(r, &map, &map);
    return (attend){
        .tally = r->tally, .n = n, .m = m, .f = 2 * d,
        .e = att_value_dim(p), .causal = attend_is_causal(p),
        .rule = ATTEND_CLAMP, .eps = LEAST,
        .q = map_tokens(p, r->q + (size_t)h * n * d, n),
        .k = map_tokens(p, r->k + (size_t)h * m * d, m),
        .v = r->v + (size_t)h * m * att_value_dim(p),
    };
}

static void unmap(const att_ref *r, const attend *a, int h, enum att_slot side,
                  size_t tokens, const double *x, const double *phi,
                  const double *dphi, double *dx)
{
    const size_t d = a->f / 2;
    (void)h, (void)side, (void)phi;
    for (size_t i = 0; dx && i < tokens; i++)
        for (size_t c = 0; c < d; c++)
            if (x[i * d + c] > 0)
                dx[i * d + c] +=
                    dphi[i * 2 * d + c] * sin(angle(r->p, i)) +
                    dphi[i * 2 * d + d + c] * cos(angle(r->p, i));
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
        .name = "cosformer",
        .family = "linear",
        .brief = "relu features re-weighted by the cosine of the distance",
        .formula = "s_ij = relu(q_i).relu(k_j) cos(pi/2 (i - j) / max(N, M))\n"
                   "o_i = sum_j s_ij v_j / max(sum_j s_ij, 1e-6);  "
                   "causal: j <= i",
        .map = "A_ij = s_ij / D_i; rows sum to 1, or to less where D_i is "
               "clamped at 1e-6; rank at most 2 d unless causal",
        .paper_cost = "O(N d^2); ours: 2 (2d) dv FLOPs for each key and each "
                      "query, since the re-weighting doubles the features",
        .cite = "qin2022cosformer",
        .traits = ATT_LINEAR_IN_V | ATT_NONNEGATIVE | ATT_CAN_CAUSAL,
        .uses = ATT_USE(tokens_k) | ATT_USE(value_dim) | ATT_USE(causal),
        .reject = reject,
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
    },
    { 0 },
};
