/* linear - attention with elementwise feature maps.
 *
 *     o_i = phi(q_i)' sum_j phi(k_j) v_j' / (phi(q_i).sum_j phi(k_j) + 1e-6)
 *                                              [katharopoulos2020, eqs. 5, 8]
 *
 * phi(x) is elu(x) + 1, relu(x) or exp(x); there is no 1/sqrt(d).  Causal: the
 * sums run over j <= i.
 */
#include "attend.h"

#define EPS 1e-6

static const char *reject(const att_problem *p)
{
    return attend_reject_causal(p);
}

/* Operations of phi and of its derivative, one channel: elu1 is exp(min(x, 0))
 * or x + 1, counted as both. */
static att_cost map_cost(const att_problem *p, enum att_pass pass)
{
    const double d = p->head_dim;
    switch (p->feature_map) {
    case ATT_MAP_ELU1:
        return (att_cost){ .add = d, .exp = d, .mul = pass * d };
    case ATT_MAP_RELU:
        return (att_cost){ .add = d + pass * d };
    default:
        return (att_cost){ .exp = d, .mul = pass * d };
    }
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const att_cost map = map_cost(p, pass);
    *out = (att_cost){ 0 };
    attend_cost(p, (size_t)p->head_dim, ATTEND_ADD, attend_is_causal(p), false,
                pass, out);
    attend_cost_tokens(p, &map, &map, out);
}

static double map_value(int map, double x)
{
    if (map == ATT_MAP_RELU) return fmax(x, 0);
    return x > 0 ? x + 1 : exp(x);
}

static attend head(const att_ref *r, int h, enum att_pass pass)
{
    const att_problem *p = r->p;
    const size_t n = att_tokens(p), m = att_keys(p), d = (size_t)p->head_dim;
    const double *x = r->q + (size_t)h * n * d, *y = r->k + (size_t)h * m * d;
    const att_cost map = map_cost(p, pass);
    attend a = {
        .tally = r->tally, .n = n, .m = m, .f = d, .e = att_value_dim(p),
        .causal = attend_is_causal(p), .rule = ATTEND_ADD, .eps = EPS,
        .v = r->v + (size_t)h * m * att_value_dim(p),
        .q = ref_new(n * d), .k = ref_new(m * d),
    };
    attend_count_tokens(r, &map, &map);
    if (p->feature_map == ATT_MAP_EXP) {
        memcpy(a.q, x, n * d * sizeof *a.q);
        memcpy(a.k, y, m * d * sizeof *a.k);
        attend_exponentials(&a);
        return a;
    }
    for (size_t i = 0; i < n * d; i++) a.q[i] = map_value(p->feature_map, x[i]);
    for (size_t i = 0; i < m * d; i++) a.k[i] = map_value(p->feature_map, y[i]);
    return a;
}

/* dx += dphi phi'(x); phi' of elu1 is min(phi, 1), of exp it is phi. */
static void unmap(const att_ref *r, const attend *a, int h, enum att_slot side,
                  size_t tokens, const double *x, const double *phi,
                  const double *dphi, double *dx)
{
    const int map = r->p->feature_map;
    (void)h, (void)side;
    for (size_t i = 0; dx && i < tokens * a->f; i++)
        dx[i] += dphi[i] * (map == ATT_MAP_RELU   ? x[i] > 0
                            : map == ATT_MAP_ELU1 ? fmin(phi[i], 1)
                                                  : phi[i]);
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
        .name = "linear",
        .family = "linear",
        .brief = "linear attention with an elementwise feature map",
        .formula = "o_i = phi(q_i)' S / (phi(q_i).z + 1e-6),  "
                   "S = sum_j phi(k_j) v_j',  z = sum_j phi(k_j)\n"
                   "phi(x) = elu(x) + 1 | relu(x) | exp(x), no 1/sqrt(d); "
                   "causal: j <= i",
        .map = "A_ij = phi(q_i).phi(k_j) / D_i; rows sum to 1 - 1e-6/D_i (to 0 "
               "where relu leaves no feature); rank at most d unless causal",
        .paper_cost = "O(N C M) time for C features and M value channels; "
                      "ours: 2 d dv FLOPs for each key and each query, the "
                      "normaliser and the map counted apart",
        .cite = "katharopoulos2020",
        .traits = ATT_LINEAR_IN_V | ATT_NONNEGATIVE | ATT_CAN_CAUSAL,
        .uses = ATT_USE(tokens_k) | ATT_USE(value_dim) | ATT_USE(causal) |
                ATT_USE(feature_map),
        .reject = reject,
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
    },
    { 0 },
};
