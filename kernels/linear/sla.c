/* sla - simplified linear attention with a depthwise convolution of v.
 *
 *     o = A v + DWC(v),  A_ij = relu(q_i).relu(k_j + P_j) / D_i
 *     D_i = relu(q_i).sum_j relu(k_j + P_j) + 1e-6              [guo2024slab]
 *
 * P is learned, [heads][M][d].  No scale, no focusing power.  The order of the
 * two products follows the authors' code: K'V first if N M 2d > d^2 (N + M),
 * which for N = M is N > d.
 */
#include "dwc_reference.h"
#include "attend.h"
#include "sla.h"

static int parameters(const att_problem *p, att_tensor *out)
{
    out[SLA_POS] = (att_tensor){
        .name = "pos",
        .dims = 3,
        .dim = { p->heads, (int)dwc_keys(p), p->head_dim },
        .init = ATT_INIT_ZERO,
        .optional = true,
    };
    dwc_parameters(p, &out[SLA_W], &out[SLA_B]);
    return 3;
}

/* Operations of the map of one query, and of its gradient; a key also has P. */
static void map_cost(const att_problem *p, enum att_pass pass, att_cost *query,
                     att_cost *key)
{
    const double d = p->head_dim;
    *query = (att_cost){ .add = d + pass * d };
    *key = (att_cost){ .add = 2 * query->add };
}

static void cost(const att_problem *problem, enum att_pass pass, att_cost *out)
{
    const att_problem told = dwc_problem(problem), *p = &told;
    const double bytes =
        4.0 * p->heads * (double)att_keys(p) * (double)p->head_dim;
    att_cost query, key;
    map_cost(p, pass, &query, &key);
    *out = (att_cost){ 0 };
    attend_cost(p, (size_t)p->head_dim, ATTEND_ADD, false, sla_scores_first(p),
                pass, out);
    attend_cost_tokens(p, &query, &key, out);
    out->read += bytes;
    out->write += pass == ATT_FORWARD ? 0 : bytes;
    dwc_cost(p, pass, out);
}

static attend head(const att_ref *r, int h, enum att_pass pass)
{
    const att_problem *p = r->p;
    const size_t n = att_tokens(p), m = att_keys(p), d = (size_t)p->head_dim;
    const double *q = r->q + (size_t)h * n * d, *k = r->k + (size_t)h * m * d;
    const double *pos = r->param[SLA_POS];
    att_cost query, key;
    attend a = {
        .tally = r->tally, .n = n, .m = m, .f = d, .e = d,
        .scores_first = sla_scores_first(p), .rule = ATTEND_ADD, .eps = SLA_EPS,
        .q = ref_new(n * d), .k = ref_new(m * d),
        .v = r->v + (size_t)h * m * d,
    };
    for (size_t i = 0; i < n * d; i++) a.q[i] = fmax(q[i], 0);
    for (size_t i = 0; i < m * d; i++)
        a.k[i] = fmax(k[i] + (pos ? pos[(size_t)h * m * d + i] : 0), 0);
    map_cost(p, pass, &query, &key);
    attend_count_tokens(r, &query, &key);
    return a;
}

static void unmap(const att_ref *r, const attend *a, int h, enum att_slot side,
                  size_t tokens, const double *x, const double *phi,
                  const double *dphi, double *dx)
{
    double *dpos = side == ATT_K ? r->dparam[SLA_POS] : NULL;
    (void)x;
    for (size_t i = 0; i < tokens * a->f; i++) {
        const double open = phi[i] > 0 ? dphi[i] : 0;
        if (dx) dx[i] += open;
        if (dpos) dpos[(size_t)h * tokens * a->f + i] += open;
    }
}

static void forward(const att_ref *call)
{
    att_problem resolved;
    const att_ref told = dwc_call(call, &resolved), *r = &told;
    attend_all_forward(r, head);
    dwc_forward(r, SLA_W, SLA_B);
}

static void backward(const att_ref *call)
{
    att_problem resolved;
    const att_ref told = dwc_call(call, &resolved), *r = &told;
    attend_all_backward(r, head, unmap);
    dwc_backward(r, SLA_W, SLA_B);
}

static void rows(const att_ref *call, int h, int ch, enum att_part part,
                 size_t i0, size_t i1, double *out)
{
    att_problem resolved;
    const att_ref told = dwc_call(call, &resolved), *r = &told;
    memset(out, 0, (i1 - i0) * att_keys(r->p) * sizeof *out);
    if (part != ATT_PART_CONVOLUTION) attend_all_rows(r, head, h, i0, i1, out);
    if (part != ATT_PART_ATTENTION) dwc_rows(r, SLA_W, ch, i0, i1, out);
}

static void affine(const att_ref *r, int h, int ch, size_t i, double *gain,
                   double *offset)
{
    (void)h, (void)i;
    *gain = 1;
    *offset = r->param[SLA_B][ch];
}

ATT_MECHANISMS = {
    {
        .name = "sla",
        .family = "linear",
        .brief = "simplified linear attention (SLAB): relu, DWC on v",
        .formula = "o = A v + DWC(v) + b,  A_ij = relu(q_i).relu(k_j + P_j) / "
                   "D_i,  D_i = relu(q_i).sum_j relu(k_j + P_j) + 1e-6\n"
                   "DWC: k x k depthwise cross-correlation on the map of "
                   "tokens, filters shared by the heads; K'V first if N > d",
        .map = "A of a head (rank at most d; rows sum to 1 - 1e-6/D_i, to 0 "
               "where relu leaves no feature) plus the banded matrix of the "
               "convolution, one for each channel; the bias is in neither",
        .paper_cost = "O(N C^2) instead of O(N^2 C), convolution not stated; "
                      "ours: 4 d^2 FLOPs a token for the two products, "
                      "2 k^2 d for the taps that meet the map, rest apart",
        .cite = "guo2024slab",
        .traits = ATT_LINEAR_IN_V | ATT_NONNEGATIVE | ATT_CONVOLUTION |
                  ATT_IS_1D | ATT_IS_2D,
        .uses = ATT_USE(tokens_k) | ATT_USE(conv) | ATT_USE(sr_ratio) |
                ATT_USE(order),
        .reject = dwc_reject,
        .shape = dwc_shape,
        .parameters = parameters,
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
        .columns = dwc_keys,
        .affine = affine,
    },
    { 0 },
};
