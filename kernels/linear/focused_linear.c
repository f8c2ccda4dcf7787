/* focused_linear - linear attention with a focusing function (FLatten).
 *
 *     x = (relu(q) + 1e-6) / s,  y(q) = |x| x^p / |x^p|; the same of k + P
 *     D_i = y(q_i).mean_j y(k_j) + 1e-6
 *     o = A v + DWC(v) + b,  A_ij = y(q_i).y(k_j) / (M D_i)
 *                                              [han2023flatten, eqs. 5 to 12]
 *
 * s = softplus(theta), theta [heads][d] learned, shared by q and k; P is
 * learned, [heads][M][d].  The norms are over all heads of a token, before they
 * are split. eps follows the authors' code since May 2024 (the mean of y(k),
 * not the sum). y is homogeneous in x, so x is divided by its largest entry
 * before the power: else x^p of an all-negative row (1e-6)^p would vanish.
 */
#include "dwc_reference.h"
#include "attend.h"
#include "focused_linear.h"

static const char *reject(const att_problem *p)
{
    if (!(p->power > 0)) return "power must be > 0";
    if (p->power > FOCUSED_POWER_MAX)
        return "power above 1000 is a one-hot of the largest channel: use 1000";
    return dwc_reject(p);
}

static int parameters(const att_problem *p, att_tensor *out)
{
    out[FOCUSED_POS] = (att_tensor){
        .name = "pos",
        .dims = 3,
        .dim = { p->heads, (int)dwc_keys(p), p->head_dim },
        .init = ATT_INIT_ZERO,
        .optional = true,
    };
    out[FOCUSED_SCALE] = (att_tensor){
        .name = "scale",
        .dims = 2,
        .dim = { p->heads, p->head_dim },
        .init = ATT_INIT_ZERO,
        .optional = true,
    };
    dwc_parameters(p, &out[FOCUSED_W], &out[FOCUSED_B]);
    return 4;
}

/* ---- cost ---------------------------------------------------------------- */

/* Operations of a token's map over `c` channels, and of its gradient. */
static att_cost map_cost(const att_problem *p, double c, bool key,
                         enum att_pass pass)
{
    const int products = focused_multiplications(p->power);
    att_cost t = {
        .mul_add = 2 * c,                        /* the two norms           */
        .add = (2 + key) * c,                    /* relu, floor, position   */
        .mul = (1 + (products > 0 ? products : 0)) * c, /* power, times norm */
        .div = c + 1,                            /* by s; quotient of norms */
        .exp = (products < 0) * c + 2,           /* two roots               */
    };
    if (pass == ATT_FORWARD) return t;
    t.mul_add += 4 * c; /* g.u; g - u w; the sum of two terms; ds           */
    t.add += (1 + key) * c;
    t.mul += 2 * c + 2;
    t.div += 2 * c + 2;
    return t;
}

/* softplus of the scale, and its derivative. */
static att_cost scale_cost(double c, enum att_pass pass)
{
    att_cost s = { .add = c, .exp = 2 * c };
    if (pass == ATT_FORWARD) return s;
    return (att_cost){ .add = 2 * c, .exp = 3 * c, .mul = c, .div = 2 * c };
}

static void add_cost(const att_cost *x, double times, att_cost *out)
{
    out->mul_add += times * x->mul_add;
    out->add += times * x->add;
    out->mul += times * x->mul;
    out->div += times * x->div;
    out->exp += times * x->exp;
}

/* All maps and scales of one batch entry. */
static att_cost entry_cost(const att_problem *p, enum att_pass pass)
{
    const double c = (double)p->heads * p->head_dim;
    const att_cost query = map_cost(p, c, false, pass);
    const att_cost key = map_cost(p, c, true, pass);
    const att_cost scale = scale_cost(c, pass);
    att_cost out = { 0 };
    add_cost(&query, (double)att_tokens(p), &out);
    add_cost(&key, (double)att_keys(p), &out);
    add_cost(&scale, 1, &out);
    return out;
}

static void cost(const att_problem *problem, enum att_pass pass, att_cost *out)
{
    const att_problem told = dwc_problem(problem), *p = &told;
    const double c = (double)p->heads * p->head_dim;
    const double bytes = 4 * c * ((double)att_keys(p) + 1);
    const att_cost entry = entry_cost(p, pass);
    *out = (att_cost){ 0 };
    attend_cost(p, (size_t)p->head_dim, ATTEND_ADD, false, false, pass, out);
    add_cost(&entry, p->batch, out);
    out->read += bytes;
    out->write += pass == ATT_FORWARD ? 0 : bytes;
    dwc_cost(p, pass, out);
}

/* ---- the focusing function ----------------------------------------------- */

static double softplus(double theta)
{
    return fmax(theta, 0) + log1p(exp(-fabs(theta)));
}

static double scale_of(const att_ref *r, size_t channel)
{
    const double *theta = r->param[FOCUSED_SCALE];
    return softplus(theta ? theta[channel] : 0);
}

/* One token of all C = heads x d channels. */
typedef struct token {
    double *x, *u;    /* x / max, (x / max)^p                               */
    double max, a, b; /* largest x, |x / max|, |u|                          */
} token;

/* Address of channel c of token i in a tensor [heads][tokens][d]. */
static size_t place(const att_ref *r, size_t tokens, size_t i, size_t c)
{
    const size_t d = (size_t)r->p->head_dim;
    return (c / d * tokens + i) * d + c % d;
}

/* Value before relu: q, or k + P. */
static double input(const att_ref *r, enum att_slot side, size_t at)
{
    const double *pos = r->param[FOCUSED_POS];
    return side == ATT_Q ? r->q[at] : r->k[at] + (pos ? pos[at] : 0);
}

static void token_make(const att_ref *r, enum att_slot side, size_t tokens,
                       size_t i, token *t)
{
    const size_t c = (size_t)r->p->heads * (size_t)r->p->head_dim;
    t->max = 0;
    for (size_t l = 0; l < c; l++) {
        const double in = input(r, side, place(r, tokens, i, l));
        t->x[l] = (fmax(in, 0) + FOCUSED_FLOOR) / scale_of(r, l);
        t->max = fmax(t->max, t->x[l]);
    }
    for (size_t l = 0; l < c; l++) {
        t->x[l] /= t->max;
        t->u[l] = pow(t->x[l], r->p->power);
    }
    t->a = sqrt(ref_dot(t->x, t->x, c));
    t->b = sqrt(ref_dot(t->u, t->u, c));
}

/* y of all tokens, [heads][tokens][d]. */
static double *focus(const att_ref *r, enum att_slot side, size_t tokens)
{
    const size_t c = (size_t)r->p->heads * (size_t)r->p->head_dim;
    double *y = ref_new(tokens * c);
    token t = { .x = ref_new(c), .u = ref_new(c) };
    for (size_t i = 0; i < tokens; i++) {
        token_make(r, side, tokens, i, &t);
        for (size_t l = 0; l < c; l++)
            y[place(r, tokens, i, l)] = t.max * t.a / t.b * t.u[l];
    }
    free(t.x);
    free(t.u);
    return y;
}

/* From dy, [heads][tokens][d], with w = g.u / b^2:
 *     dx = x (g.u) / (a b) + (a p / b) x^(p-1) (g - u w)
 * added to dx (may be NULL), and to dP and dtheta. */
static void unfocus(const att_ref *r, enum att_slot side, size_t tokens,
                    const double *dy, double *dx)
{
    const size_t c = (size_t)r->p->heads * (size_t)r->p->head_dim;
    double *dpos = side == ATT_K ? r->dparam[FOCUSED_POS] : NULL;
    double *dtheta = r->dparam[FOCUSED_SCALE];
    const double *theta = r->param[FOCUSED_SCALE];
    token t = { .x = ref_new(c), .u = ref_new(c) };
    for (size_t i = 0; i < tokens; i++) {
        double gu = 0;
        token_make(r, side, tokens, i, &t);
        for (size_t l = 0; l < c; l++)
            gu += dy[place(r, tokens, i, l)] * t.u[l];
        for (size_t l = 0; l < c; l++) {
            const size_t at = place(r, tokens, i, l);
            const double one = t.x[l] * gu / (t.a * t.b) +
                               t.a * r->p->power / t.b * t.u[l] / t.x[l] *
                                   (dy[at] - t.u[l] * gu / (t.b * t.b));
            const double open =
                input(r, side, at) > 0 ? one / scale_of(r, l) : 0;
            if (dx) dx[at] += open;
            if (dpos) dpos[at] += open;
            if (dtheta) /* ds = - dx x / s, dtheta = ds sigmoid(theta) */
                dtheta[l] -= one * t.max * t.x[l] / scale_of(r, l) /
                             (1 + exp(theta ? -theta[l] : 0));
        }
    }
    free(t.x);
    free(t.u);
}

/* ---- attention ----------------------------------------------------------- */

/* One head of features y; q and k of the result are not its own. */
static attend head(const att_ref *r, const double *yq, const double *yk,
                   size_t h)
{
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    const size_t d = (size_t)r->p->head_dim;
    return (attend){
        .tally = r->tally, .n = n, .m = m, .f = d, .e = d, .rule = ATTEND_ADD,
        .eps = FOCUSED_EPS * (double)m, .q = (double *)yq + h * n * d,
        .k = (double *)yk + h * m * d, .v = r->v + h * m * d,
    };
}

static void count_entry(const att_ref *r, enum att_pass pass)
{
    const att_cost entry = entry_cost(r->p, pass);
    if (r->tally) add_cost(&entry, 1, r->tally);
}

static void forward(const att_ref *call)
{
    att_problem resolved;
    const att_ref told = dwc_call(call, &resolved), *r = &told;
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    double *q = focus(r, ATT_Q, n), *k = focus(r, ATT_K, att_keys(r->p));
    for (size_t h = 0; h < (size_t)r->p->heads; h++) {
        const attend a = head(r, q, k, h);
        attend_forward(&a, r->o + h * n * d);
    }
    count_entry(r, ATT_FORWARD);
    dwc_forward(r, FOCUSED_W, FOCUSED_B);
    free(q);
    free(k);
}

static void backward(const att_ref *call)
{
    att_problem resolved;
    const att_ref told = dwc_call(call, &resolved), *r = &told;
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    const size_t d = (size_t)r->p->head_dim, heads = (size_t)r->p->heads;
    double *q = focus(r, ATT_Q, n), *k = focus(r, ATT_K, m);
    double *dq = ref_new(heads * n * d), *dk = ref_new(heads * m * d);
    for (size_t h = 0; h < heads; h++) {
        const attend a = head(r, q, k, h);
        attend_backward(&a, r->dout + h * n * d, dq + h * n * d, dk + h * m * d,
                        r->dv ? r->dv + h * m * d : NULL);
    }
    count_entry(r, ATT_BACKWARD);
    unfocus(r, ATT_Q, n, dq, r->dq);
    unfocus(r, ATT_K, m, dk, r->dk);
    dwc_backward(r, FOCUSED_W, FOCUSED_B);
    free(q);
    free(k);
    free(dq);
    free(dk);
}

static void rows(const att_ref *call, int h, int ch, enum att_part part,
                 size_t i0, size_t i1, double *out)
{
    att_problem resolved;
    const att_ref told = dwc_call(call, &resolved), *r = &told;
    const size_t m = att_keys(r->p);
    memset(out, 0, (i1 - i0) * m * sizeof *out);
    if (part != ATT_PART_CONVOLUTION) {
        double *q = focus(r, ATT_Q, att_tokens(r->p)), *k = focus(r, ATT_K, m);
        attend a = head(r, q, k, (size_t)h);
        a.tally = NULL;
        for (size_t i = i0; i < i1; i++)
            attend_row(&a, i, out + (i - i0) * m);
        free(q);
        free(k);
    }
    if (part != ATT_PART_ATTENTION) dwc_rows(r, FOCUSED_W, ch, i0, i1, out);
}

static void affine(const att_ref *r, int h, int ch, size_t i, double *gain,
                   double *offset)
{
    (void)h, (void)i;
    *gain = 1;
    *offset = r->param[FOCUSED_B][ch];
}

ATT_MECHANISMS = {
    {
        .name = "focused_linear",
        .family = "linear",
        .brief = "focused linear attention (FLatten): x^p, DWC on v",
        .formula = "x = (relu(q) + 1e-6) / softplus(theta),  y(q) = |x| x^p / "
                   "|x^p| over all heads of a token; the same of k + P\n"
                   "D_i = y(q_i).mean_j y(k_j) + 1e-6,  "
                   "A_ij = y(q_i).y(k_j) / (M D_i)\n"
                   "o = A v + DWC(v) + b, DWC: k x k depthwise "
                   "cross-correlation, filters shared by the heads",
        .map = "A of a head (rank at most d; rows sum to 1 - 1e-6/D_i) plus "
               "the banded matrix of the convolution, one for each channel; "
               "the bias is in neither",
        .paper_cost = "2 h w C^2 / heads + k^2 h w C multiply-adds without "
                      "the projections (FLatten paper); ours: 4 d^2 FLOPs a "
                      "token and head, 2 k^2 d for the taps that meet the map, "
                      "norms and powers counted apart",
        .cite = "han2023flatten",
        .traits = ATT_LINEAR_IN_V | ATT_NONNEGATIVE | ATT_CONVOLUTION |
                  ATT_IS_1D | ATT_IS_2D,
        .uses = ATT_USE(tokens_k) | ATT_USE(power) | ATT_USE(conv) |
                ATT_USE(sr_ratio),
        .reject = reject,
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
