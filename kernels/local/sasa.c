/* sasa - stand-alone self-attention: a k x k window centred at the query.
 *
 *     o_ij = sum over (a, b) in the window of
 *            softmax_ab(q_ij.k_ab + q_ij.r_{a-i, b-j}) v_ab
 *                                            [ramachandran2019, eq. 2 and 3]
 *
 * r joins a row embedding (first half of the channels) and a column embedding
 * (second half); there is no 1/sqrt(d), so the scale is 1 unless given, and it
 * multiplies the relative term as well:
 *
 *     S = scale (q.k + q[:d/2].rel_h[a - i] + q[d/2:].rel_w[b - j])
 *
 * padding = zero: positions beyond the border have k = v = 0 but take part in
 * the softmax; padding = mask: they are left out.
 */
#include "../reference.h"

#include <stdlib.h>

enum { REL_H, REL_W };
enum { WINDOW = 7 };

static int side(const att_problem *p, int a)
{
    return att_at(&p->window, a, WINDOW);
}

static double scale_of(const att_problem *p)
{
    return p->scale != 0 ? p->scale : 1;
}

static const char *reject(const att_problem *p)
{
    if (p->padding > ATT_PAD_MASK)
        return "padding is zero or mask (timm and torchvision are swin's)";
    for (int a = 0; a < 2; a++) {
        if (side(p, a) < 1) return "window must be at least 1 on every axis";
        if (side(p, a) % 2 == 0)
            return "window must be odd: it is centred at the query";
    }
    if ((long long)side(p, 0) * side(p, 1) > 1 << 20)
        return "window has more than 2^20 positions";
    if (p->bias && p->head_dim % 2)
        return "the relative embedding halves the channels: use an even "
               "head_dim or bias=0";
    return NULL;
}

static int parameters(const att_problem *p, att_tensor *out)
{
    static const char *const names[] = { "rel_h", "rel_w" };
    for (int a = 0; a < 2; a++) {
        out[a] = (att_tensor){ .name = names[a], .dims = 1 };
        if (p->bias)
            out[a] = (att_tensor){
                .name = names[a],
                .dims = 3,
                .dim = { p->heads, side(p, a), p->head_dim / 2 },
                .init = ATT_INIT_NORMAL,
                .std = 0.02,
            };
    }
    return 2;
}

/* Window positions that lie on the map, summed over the queries of an axis. */
static double inside(int length, int window)
{
    double sum = 0;
    for (int i = 0; i < length; i++)
        for (int t = i - window / 2; t <= i + window / 2; t++)
            sum += t >= 0 && t < length;
    return sum;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double maps = (double)p->batch * p->heads;
    const double n = (double)att_tokens(p);
    const double pairs =
        maps * (p->padding == ATT_PAD_ZERO
                    ? n * side(p, 0) * side(p, 1)
                    : inside(p->grid.v[0], side(p, 0)) *
                          inside(p->grid.v[1], side(p, 1)));
    ref_attend_cost(p, pairs, p->bias, pass, out);
    if (!p->bias) return;
    /* q.rel_h and q.rel_w once per query, their sum once per pair; backward
     * makes them again, and dq and drel from row and column sums of dS */
    const double rel = maps * n * (side(p, 0) + side(p, 1)) * p->head_dim / 2;
    const double bytes = 4.0 * p->heads * (side(p, 0) + side(p, 1)) *
                         p->head_dim / 2;
    out->mul_add += pass == ATT_FORWARD ? rel : 3 * rel;
    out->add += pass == ATT_FORWARD ? pairs : 3 * pairs;
    out->read += bytes;
    if (pass == ATT_BACKWARD) out->write += bytes;
}

/* Row a of the relative embedding of head h along an axis. */
static size_t rel_at(const att_problem *p, int axis, int h, int a)
{
    return ((size_t)h * (size_t)side(p, axis) + (size_t)a) *
           (size_t)(p->head_dim / 2);
}

static size_t pairs(const att_ref *r, int h, size_t i, ref_pair *out)
{
    const att_problem *p = r->p;
    const int height = p->grid.v[0], width = p->grid.v[1];
    const int y = (int)(i / (size_t)width), x = (int)(i % (size_t)width);
    const int kh = side(p, 0), kw = side(p, 1);
    const size_t half = (size_t)p->head_dim / 2;
    double *qh = ref_new((size_t)kh), *qw = ref_new((size_t)kw);
    size_t n = 0;

    if (p->bias) {
        const double *q =
            r->q + ((size_t)h * att_tokens(p) + i) * (size_t)p->head_dim;
        for (int a = 0; a < kh; a++)
            qh[a] = ref_dot(q, r->param[REL_H] + rel_at(p, 0, h, a), half);
        for (int b = 0; b < kw; b++)
            qw[b] = ref_dot(q + half, r->param[REL_W] + rel_at(p, 1, h, b),
                            half);
        REF_COUNT(r, mul_add, (size_t)(kh + kw) * half);
    }
    for (int a = 0; a < kh; a++)
        for (int b = 0; b < kw; b++) {
            const int u = y + a - kh / 2, v = x + b - kw / 2;
            const bool on = u >= 0 && u < height && v >= 0 && v < width;
            if (!on && p->padding == ATT_PAD_MASK) continue;
            out[n++] = (ref_pair){ .key = on ? (ptrdiff_t)u * width + v : -1,
                                   .bias = scale_of(p) * (qh[a] + qw[b]),
                                   .tag = a * kw + b };
            REF_COUNT(r, add, p->bias);
        }
    free(qh);
    free(qw);
    return n;
}

static void dbias(const att_ref *r, int h, size_t i, const ref_pair *pair,
                  double ds)
{
    const att_problem *p = r->p;
    const size_t half = (size_t)p->head_dim / 2;
    const size_t at = ((size_t)h * att_tokens(p) + i) * (size_t)p->head_dim;
    const int index[2] = { pair->tag / side(p, 1), pair->tag % side(p, 1) };
    for (int axis = 0; axis < 2; axis++) {
        const size_t rel = rel_at(p, axis, h, index[axis]);
        for (size_t c = 0; c < half; c++) {
            const size_t channel = at + (size_t)axis * half + c;
            const double g = scale_of(p) * ds;
            if (r->dq) r->dq[channel] += g * r->param[axis][rel + c];
            if (r->dparam[axis]) r->dparam[axis][rel + c] += g * r->q[channel];
        }
    }
}

static ref_visible visible(const att_ref *r)
{
    return (ref_visible){
        .scale = scale_of(r->p),
        .most = (size_t)side(r->p, 0) * (size_t)side(r->p, 1),
        .pairs = pairs,
        .dbias = r->p->bias ? dbias : NULL,
    };
}

static void forward(const att_ref *r)
{
    const ref_visible v = visible(r);
    ref_attend(r, &v);
}

static void backward(const att_ref *r)
{
    const ref_visible v = visible(r);
    ref_attend_backward(r, &v);
}

static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *a)
{
    (void)ch, (void)part;
    const ref_visible v = visible(r);
    ref_attend_rows(r, &v, h, i0, i1, a);
}

ATT_MECHANISMS = {
    {
        .name = "sasa",
        .family = "local",
        .brief = "stand-alone self-attention: a window centred at the query",
        .formula = "S = scale (q.k + q[:d/2].rel_h[dy] + q[d/2:].rel_w[dx])\n"
                   "o = sum over the window of softmax(S) v,  scale = 1 unless "
                   "given, odd window (7 unless given)\n"
                   "padding zero: positions beyond the border take part with "
                   "k = v = 0; mask: they are left out",
        .map = "the softmax weights; zero outside the windows; with padding "
               "zero the weight that falls on padding is missing from the row, "
               "so border rows sum to less than 1",
        .paper_cost = "the weights take h w k^2 numbers; 2 h w C k^2 "
                      "multiply-adds for the two products, as for a "
                      "neighborhood of the same size; ours: 2 FLOPs a "
                      "multiply-add, exact pairs (padding counts in mode zero), "
                      "the relative term as h w C (k_h + k_w) / 2 multiply-adds",
        .cite = "ramachandran2019",
        .traits = ATT_LINEAR_IN_V | ATT_NONNEGATIVE | ATT_IS_2D,
        .uses = ATT_USE(window) | ATT_USE(padding) | ATT_USE(bias) |
                ATT_USE(scale),
        .reject = reject,
        .parameters = parameters,
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
    },
    { 0 },
};
