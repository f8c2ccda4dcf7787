/* sla_1d - the time-series variant of simplified linear attention.
 *
 *     y_i = sum_j A_ij v_j,  A_ij = relu(q_i).relu(k_j) / D_i
 *     D_i = relu(q_i).sum_j relu(k_j) + 1e-6                      [guo2024slab]
 *     o = F (Conv1d(y) + b)
 *
 * The depthwise convolution of k taps runs over the attention's output and
 * replaces it; the factor F multiplies the bias too.  Padding is floor(k/2) on
 * both sides, so an even k yields N + 1 tokens.  Unlike sla this does not
 * restore the rank: F T_c A has at most the rank of A.
 */
#include "attend.h"
#include "sla_1d.h"

static const char *reject(const att_problem *p)
{
    if (p->conv.n > 1)
        return "the convolution has one axis: give conv one value";
    if (sla_1d_taps(p) < 1 || sla_1d_taps(p) > SLA_1D_TAPS_MAX)
        return "conv must be from 1 to 255";
    if (!(p->power > 0)) return "power, the factor on the output, must be > 0";
    return NULL;
}

static void shape(const att_problem *p, enum att_slot slot, att_shape *out)
{
    if (slot == ATT_O) out->tokens = (int)sla_1d_outputs(p);
}

static int parameters(const att_problem *p, att_tensor *out)
{
    const int d = p->head_dim, k = sla_1d_taps(p);
    out[SLA_1D_W] = (att_tensor){ .name = "dwc_w",
                                  .dims = 2,
                                  .dim = { d, k },
                                  .init = ATT_INIT_NORMAL,
                                  .std = 1 / sqrt(3.0 * k) };
    out[SLA_1D_B] = (att_tensor){ .name = "dwc_b",
                                  .dims = 1,
                                  .dim = { d },
                                  .init = ATT_INIT_NORMAL,
                                  .std = 1 / sqrt(3.0 * k) };
    return 2;
}

/* Input token that tap a of output i reads, or -1. */
static ptrdiff_t tap(const att_problem *p, size_t i, int a)
{
    const ptrdiff_t j = (ptrdiff_t)i + a - sla_1d_taps(p) / 2;
    return j >= 0 && j < (ptrdiff_t)att_tokens(p) ? j : -1;
}

static double taps(const att_problem *p)
{
    double sum = 0;
    for (size_t i = 0; i < sla_1d_outputs(p); i++)
        for (int a = 0; a < sla_1d_taps(p); a++) sum += tap(p, i, a) >= 0;
    return sum;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double maps = (double)p->batch * p->heads, d = p->head_dim;
    const double outputs = maps * (double)sla_1d_outputs(p) * d;
    const double inputs = maps * (double)att_tokens(p) * d;
    const double bytes = 4 * (sla_1d_taps(p) + 1) * d;
    const att_cost map = { .add = d + pass * d };
    *out = (att_cost){ 0 };
    attend_cost(p, (size_t)p->head_dim, ATTEND_ADD, false, false, pass, out);
    attend_cost_tokens(p, &map, &map, out);
    out->mul_add += (1 + pass) * maps * taps(p) * d;
    out->add += outputs;
    out->mul += outputs;
    out->read += bytes + (pass ? 2 : 0) * 4 * (outputs - inputs);
    out->write += pass ? bytes : 4 * (outputs - inputs);
}

static attend head(const att_ref *r, int h, enum att_pass pass)
{
    const att_problem *p = r->p;
    const size_t n = att_tokens(p), d = (size_t)p->head_dim;
    const double *q = r->q + (size_t)h * n * d, *k = r->k + (size_t)h * n * d;
    const att_cost map = { .add = (double)d + pass * (double)d };
    attend a = {
        .tally = r->tally, .n = n, .m = n, .f = d, .e = d, .rule = ATTEND_ADD,
        .eps = SLA_1D_EPS, .q = ref_new(n * d), .k = ref_new(n * d),
        .v = r->v + (size_t)h * n * d,
    };
    for (size_t i = 0; i < n * d; i++) a.q[i] = fmax(q[i], 0);
    for (size_t i = 0; i < n * d; i++) a.k[i] = fmax(k[i], 0);
    attend_count_tokens(r, &map, &map);
    return a;
}

static void forward(const att_ref *r)
{
    const att_problem *p = r->p;
    const size_t n = att_tokens(p), d = (size_t)p->head_dim;
    const size_t outputs = sla_1d_outputs(p), k = (size_t)sla_1d_taps(p);
    double *y = ref_new(n * d);
    for (int h = 0; h < p->heads; h++) {
        attend a = head(r, h, ATT_FORWARD);
        attend_forward(&a, y);
        for (size_t i = 0; i < outputs; i++)
            for (size_t c = 0; c < d; c++) {
                double sum = r->param[SLA_1D_B][c];
                for (size_t t = 0; t < k; t++) {
                    const ptrdiff_t j = tap(p, i, (int)t);
                    if (j < 0) continue;
                    sum += r->param[SLA_1D_W][c * k + t] *
                           y[(size_t)j * d + c];
                    REF_COUNT(r, mul_add, 1);
                }
                r->o[((size_t)h * outputs + i) * d + c] = p->power * sum;
                REF_COUNT(r, add, 1);
                REF_COUNT(r, mul, 1);
            }
        attend_free(&a);
    }
    free(y);
}

/* G = F T' g into g_y [n][d]; dW and db of one head. */
static void backward_taps(const att_ref *r, const double *g, const double *y,
                          double *g_y)
{
    const att_problem *p = r->p;
    const size_t d = (size_t)p->head_dim, k = (size_t)sla_1d_taps(p);
    for (size_t i = 0; i < sla_1d_outputs(p); i++)
        for (size_t c = 0; c < d; c++) {
            const double fg = p->power * g[i * d + c];
            if (r->dparam[SLA_1D_B]) r->dparam[SLA_1D_B][c] += fg;
            REF_COUNT(r, mul, 1);
            REF_COUNT(r, add, 1);
            for (size_t t = 0; t < k; t++) {
                const ptrdiff_t j = tap(p, i, (int)t);
                if (j < 0) continue;
                const size_t at = (size_t)j * d + c;
                g_y[at] += r->param[SLA_1D_W][c * k + t] * fg;
                if (r->dparam[SLA_1D_W])
                    r->dparam[SLA_1D_W][c * k + t] += fg * y[at];
                REF_COUNT(r, mul_add, 2);
            }
        }
}

static void unmap(const double *phi, const double *dphi, size_t n, double *dx)
{
    for (size_t i = 0; dx && i < n; i++) dx[i] += phi[i] > 0 ? dphi[i] : 0;
}

static void backward(const att_ref *r)
{
    const att_problem *p = r->p;
    const size_t nd = att_tokens(p) * (size_t)p->head_dim;
    const size_t od = sla_1d_outputs(p) * (size_t)p->head_dim;
    for (size_t h = 0; h < (size_t)p->heads; h++) {
        attend a = head(r, (int)h, ATT_BACKWARD), quiet = a;
        double *y = ref_new(nd), *g = ref_new(nd);
        double *dq = ref_new(nd), *dk = ref_new(nd);
        quiet.tally = NULL; /* y is kept from forward */
        attend_forward(&quiet, y);
        backward_taps(r, r->dout + h * od, y, g);
        attend_backward(&a, g, dq, dk, r->dv ? r->dv + h * nd : NULL);
        unmap(a.q, dq, nd, r->dq ? r->dq + h * nd : NULL);
        unmap(a.k, dk, nd, r->dk ? r->dk + h * nd : NULL);
        free(y);
        free(g);
        free(dq);
        free(dk);
        attend_free(&a);
    }
}

/* One row of F T_c A. */
static void convolved_row(const att_ref *r, const attend *a, int ch, size_t i,
                          double *one, double *row)
{
    const size_t k = (size_t)sla_1d_taps(r->p);
    memset(row, 0, a->m * sizeof *row);
    for (size_t t = 0; t < k; t++) {
        const ptrdiff_t y = tap(r->p, i, (int)t);
        if (y < 0) continue;
        attend_row(a, (size_t)y, one);
        for (size_t j = 0; j < a->m; j++)
            row[j] += r->p->power * r->param[SLA_1D_W][(size_t)ch * k + t] *
                      one[j];
    }
}

/* The attention part is the inner A, and its row N of an even convolution is 0;
 * the convolution part is F T_c; the total is their product F T_c A. */
static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *out)
{
    const att_problem *p = r->p;
    const size_t n = att_tokens(p), k = (size_t)sla_1d_taps(p);
    att_ref quiet = *r;
    quiet.tally = NULL;
    attend a = head(&quiet, h, ATT_FORWARD);
    double *one = ref_new(n);
    memset(out, 0, (i1 - i0) * n * sizeof *out);
    for (size_t i = i0; i < i1; i++) {
        double *row = out + (i - i0) * n;
        if (part == ATT_PART_ATTENTION && i < n) attend_row(&a, i, row);
        if (part == ATT_PART_TOTAL) convolved_row(r, &a, ch, i, one, row);
        for (size_t t = 0; part == ATT_PART_CONVOLUTION && t < k; t++)
            if (tap(p, i, (int)t) >= 0)
                row[tap(p, i, (int)t)] =
                    p->power * r->param[SLA_1D_W][(size_t)ch * k + t];
    }
    free(one);
    attend_free(&a);
}

static void affine(const att_ref *r, int h, int ch, size_t i, double *gain,
                   double *offset)
{
    (void)h, (void)i;
    *gain = 1;
    *offset = r->p->power * r->param[SLA_1D_B][ch];
}

ATT_MECHANISMS = {
    {
        .name = "sla_1d",
        .family = "linear",
        .brief = "SLAB's attention, then a depthwise convolution in time",
        .formula = "y_i = relu(q_i)' S / D_i,  D_i = relu(q_i).z + 1e-6\n"
                   "o = F (Conv1d(y) + b): k taps a channel, shared by the "
                   "heads, padding floor(k/2) (even k: N + 1 outputs)",
        .map = "F T_c A, one for each channel: the convolution's banded matrix "
               "times the attention weights; rank at most d; the attention "
               "part alone is A",
        .paper_cost = NULL,
        .cite = "guo2024slab",
        .traits = ATT_LINEAR_IN_V | ATT_NONNEGATIVE | ATT_PER_CHANNEL |
                  ATT_IS_1D,
        .uses = ATT_USE(conv) | ATT_USE(power),
        .reject = reject,
        .shape = shape,
        .parameters = parameters,
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
        .affine = affine,
    },
    { 0 },
};
