/* softmax - scaled dot-product attention.
 *
 *     S = scale Q K' + bias,   o = softmax(S) V        [vaswani2017, eq. 1]
 *
 * scale is 1/sqrt(head_dim) unless given.  Causal is aligned at the bottom
 * right: query i sees key j if j <= i + (M - N).
 */
#include "../reference.h"

#include <math.h>

enum { BIAS };

/* Keys that query i sees are 0 .. seen(i)-1. */
static size_t seen(const att_problem *p, size_t i)
{
    const size_t n = att_tokens(p), m = att_keys(p);
    if (!att_at(&p->causal, 0, 0)) return m;
    return i + m < n ? 0 : i + m - n + 1;
}

static const char *reject(const att_problem *p)
{
    if (att_at(&p->causal, 0, 0) && att_keys(p) < att_tokens(p))
        return "causal with fewer keys than queries leaves rows that see "
               "nothing: use tokens_k >= tokens";
    return NULL;
}

static int parameters(const att_problem *p, att_tensor *out)
{
    out[BIAS] = (att_tensor){ .name = "bias", .dims = 1 };
    if (p->bias)
        out[BIAS] = (att_tensor){
            .name = "bias",
            .dims = 3,
            .dim = { p->heads, (int)att_tokens(p), (int)att_keys(p) },
            .init = ATT_INIT_NORMAL,
            .std = 0.02,
            .logit = true,
        };
    return 1;
}

static int extras(const att_problem *p, att_tensor *out)
{
    out[0] = (att_tensor){ .name = "lse",
                           .dims = 2,
                           .dim = { p->heads, (int)att_tokens(p) } };
    return 1;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double maps = (double)p->batch * p->heads;
    double pairs = 0;
    if (att_at(&p->causal, 0, 0))
        for (size_t i = 0; i < att_tokens(p); i++) pairs += (double)seen(p, i);
    else pairs = (double)att_tokens(p) * (double)att_keys(p);
    ref_attend_cost(p, maps * pairs, p->bias, pass, out);
    if (p->bias) { /* shared by the batch */
        const double bytes = 4.0 * p->heads * (double)att_tokens(p) *
                             (double)att_keys(p);
        out->read += bytes;
        if (pass == ATT_BACKWARD) out->write += bytes;
    }
}

static size_t pairs(const att_ref *r, int h, size_t i, ref_pair *out)
{
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    const size_t end = seen(r->p, i);
    for (size_t j = 0; j < end; j++) {
        const size_t at = ((size_t)h * n + i) * m + j;
        out[j] = (ref_pair){ .key = (ptrdiff_t)j,
                             .bias = r->param[BIAS] ? r->param[BIAS][at] : 0 };
    }
    return end;
}

static void dbias(const att_ref *r, int h, size_t i, const ref_pair *pair,
                  double ds)
{
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    if (r->dparam[BIAS])
        r->dparam[BIAS][((size_t)h * n + i) * m + (size_t)pair->key] += ds;
}

static ref_visible visible(const att_ref *r)
{
    const att_problem *p = r->p;
    return (ref_visible){
        .scale = p->scale != 0 ? p->scale : 1 / sqrt(p->head_dim),
        .most = att_keys(p),
        .pairs = pairs,
        .dbias = p->bias ? dbias : NULL,
        .lse = r->extra[0],
    };
}

static void forward(const att_ref *r)
{
    const ref_visible s = visible(r);
    ref_attend(r, &s);
}

static void backward(const att_ref *r)
{
    const ref_visible s = visible(r);
    ref_attend_backward(r, &s);
}

static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *a)
{
    (void)ch, (void)part;
    const ref_visible s = visible(r);
    ref_attend_rows(r, &s, h, i0, i1, a);
}

ATT_MECHANISMS = {
    {
        .name = "softmax",
        .family = "softmax",
        .brief = "scaled dot-product attention over all keys",
        .formula = "S = scale Q K' (+ bias),  o_i = sum_j softmax_j(S_ij) v_j,"
                   "  scale = 1/sqrt(d)",
        .map = "the softmax weights themselves; every row sums to 1",
        .paper_cost = "4 h w C^2 + 2 (h w)^2 C multiply-adds with all four "
                      "projections (Swin paper), softmax not counted; ours: "
                      "the two products as 2 FLOPs a multiply-add, no "
                      "projections, exp and the rest counted apart",
        .cite = "vaswani2017",
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE |
                  ATT_CAN_CAUSAL,
        .uses = ATT_USE(tokens_k) | ATT_USE(value_dim) | ATT_USE(causal) |
                ATT_USE(bias) | ATT_USE(scale),
        .reject = reject,
        .parameters = parameters,
        .extras = extras,
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
    },
    { 0 },
};
