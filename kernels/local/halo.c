/* halo - blocked local attention: the queries of a block share one window, the
 * block with a halo around it.
 *
 *     S = scale q.k + c (q.rel_h[u - y + M - 1] + q.rel_w[v - x + M - 1])
 *     o = sum over the M x M window of softmax(S) v,   M = block + 2 halo
 *                                                   [vaswani2021halonet]
 *
 * y, x: place of the query in its block; u, v: of the key in the window.  The
 * embeddings are shared by the heads; c = 1, or scale if scale_pos.  Positions
 * beyond the border: padding = zero, they take part with k = v = 0; mask, they
 * are left out.  The first 2 halo rows of the embeddings are never read.
 *
 * stride: one query for each stride x stride keys, as where a HaloNet halves its
 * map.  The grid is that of the queries; block and halo count keys.  y and x run
 * over the queries of a block without gaps, as timm does it; no paper says.
 */
#include "../reference.h"

#include <math.h>
#include <stdlib.h>

enum { REL_H, REL_W };

static int side(const att_problem *p)
{
    return p->block + 2 * p->halo;
}

static int stride_of(const att_problem *p)
{
    return att_at(&p->stride, 0, 1);
}

/* Queries along a side of a block. */
static int own(const att_problem *p)
{
    return p->block / stride_of(p);
}

static size_t keys(const att_problem *p)
{
    return att_tokens(p) * (size_t)stride_of(p) * (size_t)stride_of(p);
}

/* The same problem with tokens_k told, so that att_keys() is right. */
static att_problem told(const att_problem *p)
{
    att_problem out = *p;
    out.tokens_k = (int)keys(p);
    return out;
}

static double scale_of(const att_problem *p)
{
    return p->scale != 0 ? p->scale : 1 / sqrt(p->head_dim);
}

static double scale_rel(const att_problem *p)
{
    return p->scale_pos ? scale_of(p) : 1;
}

static const char *reject(const att_problem *p)
{
    if (p->padding > ATT_PAD_MASK)
        return "padding is zero or mask (timm and torchvision are swin's)";
    const int height = p->grid.v[0], width = p->grid.v[1], st = stride_of(p);
    if (p->block < 1) return "block must be at least 1";
    if (p->stride.n > 1) return "queries have one stride: give one number";
    if (st < 1 || p->block % st) return "stride must divide block";
    if (height > 32768 / st || width > 32768 / st)
        return "a map of keys has at most 32768 rows and columns";
    if (height % own(p) || width % own(p))
        return "block must divide both sides of the map of keys";
    if (p->halo > st * (height > width ? height : width))
        return "halo is larger than the map";
    if (p->block > 1024 || p->halo > 1024 || side(p) > 1024)
        return "block + 2 halo is larger than 1024";
    if (p->scale_pos > 1) return "scale_pos is 0 or 1";
    return NULL;
}

static void shape(const att_problem *p, enum att_slot slot, att_shape *out)
{
    if (slot == ATT_K || slot == ATT_V) out->tokens = (int)keys(p);
}

static int parameters(const att_problem *p, att_tensor *out)
{
    static const char *const names[] = { "rel_h", "rel_w" };
    for (int a = 0; a < 2; a++) {
        out[a] = (att_tensor){ .name = names[a], .dims = 1 };
        if (p->bias)
            out[a] = (att_tensor){
                .name = names[a],
                .dims = 2,
                .dim = { 2 * side(p) - 1, p->head_dim },
                .init = ATT_INIT_NORMAL,
                .std = 0.02,
            };
    }
    return 2;
}

/* Window positions that lie on the map, summed over the queries of an axis. */
static double inside(const att_problem *p, int length)
{
    double sum = 0;
    for (int i = 0; i < length; i++)
        for (int u = 0; u < side(p); u++) {
            const int key = i / own(p) * p->block - p->halo + u;
            sum += key >= 0 && key < length * stride_of(p);
        }
    return sum;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double maps = (double)p->batch * p->heads;
    const double n = (double)att_tokens(p), m = side(p);
    const double pairs =
        maps * (p->padding == ATT_PAD_ZERO
                    ? n * m * m
                    : inside(p, p->grid.v[0]) * inside(p, p->grid.v[1]));
    const att_problem whole = told(p);
    ref_attend_cost(&whole, pairs, p->bias, pass, out);
    if (!p->bias) return;
    /* q.rel_h and q.rel_w once per query and position, their sum once per pair;
     * backward makes them again, and dq and drel from sums of dS */
    const double rel = maps * n * 2 * m * p->head_dim;
    const double bytes = 4.0 * 2 * (2 * m - 1) * p->head_dim;
    out->mul_add += pass == ATT_FORWARD ? rel : 3 * rel;
    out->add += pass == ATT_FORWARD ? pairs : 3 * pairs;
    out->read += bytes;
    if (pass == ATT_BACKWARD) out->write += bytes;
}

static size_t pairs(const att_ref *r, int h, size_t i, ref_pair *out)
{
    const att_problem *p = r->p;
    const int st = stride_of(p), b = own(p), m = side(p);
    const int height = st * p->grid.v[0], width = st * p->grid.v[1];
    const int y = (int)(i / (size_t)p->grid.v[1]);
    const int x = (int)(i % (size_t)p->grid.v[1]);
    const int y0 = y / b * p->block - p->halo;
    const int x0 = x / b * p->block - p->halo;
    const size_t d = (size_t)p->head_dim;
    double *qh = ref_new((size_t)m), *qw = ref_new((size_t)m);
    size_t n = 0;

    if (p->bias) {
        const double *q = r->q + ((size_t)h * att_tokens(p) + i) * d;
        for (int u = 0; u < m; u++) {
            const size_t dy = (size_t)(u - y % b + m - 1);
            const size_t dx = (size_t)(u - x % b + m - 1);
            qh[u] = ref_dot(q, r->param[REL_H] + dy * d, d);
            qw[u] = ref_dot(q, r->param[REL_W] + dx * d, d);
        }
        REF_COUNT(r, mul_add, 2 * (size_t)m * d);
    }
    for (int u = 0; u < m; u++)
        for (int v = 0; v < m; v++) {
            const bool on = y0 + u >= 0 && y0 + u < height && x0 + v >= 0 &&
                            x0 + v < width;
            if (!on && p->padding == ATT_PAD_MASK) continue;
            out[n++] = (ref_pair){
                .key = on ? (ptrdiff_t)(y0 + u) * width + x0 + v : -1,
                .bias = scale_rel(p) * (qh[u] + qw[v]),
                .tag = u * m + v,
            };
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
    const int width = p->grid.v[1], m = side(p);
    const size_t d = (size_t)p->head_dim;
    const size_t at = ((size_t)h * att_tokens(p) + i) * d;
    const int place[2] = { (int)(i / (size_t)width) % own(p),
                           (int)(i % (size_t)width) % own(p) };
    const int key[2] = { pair->tag / m, pair->tag % m };
    for (int axis = 0; axis < 2; axis++) {
        const size_t rel = (size_t)(key[axis] - place[axis] + m - 1) * d;
        for (size_t c = 0; c < d; c++) {
            const double g = scale_rel(p) * ds;
            if (r->dq) r->dq[at + c] += g * r->param[axis][rel + c];
            if (r->dparam[axis]) r->dparam[axis][rel + c] += g * r->q[at + c];
        }
    }
}

static ref_visible visible(const att_ref *r)
{
    return (ref_visible){
        .scale = scale_of(r->p),
        .most = (size_t)side(r->p) * (size_t)side(r->p),
        .pairs = pairs,
        .dbias = r->p->bias ? dbias : NULL,
    };
}

static void forward(const att_ref *call)
{
    const att_problem p = told(call->p);
    att_ref r = *call;
    r.p = &p;
    const ref_visible v = visible(&r);
    ref_attend(&r, &v);
}

static void backward(const att_ref *call)
{
    const att_problem p = told(call->p);
    att_ref r = *call;
    r.p = &p;
    const ref_visible v = visible(&r);
    ref_attend_backward(&r, &v);
}

static void rows(const att_ref *call, int h, int ch, enum att_part part,
                 size_t i0, size_t i1, double *a)
{
    (void)ch, (void)part;
    const att_problem p = told(call->p);
    att_ref r = *call;
    r.p = &p;
    const ref_visible v = visible(&r);
    ref_attend_rows(&r, &v, h, i0, i1, a);
}

ATT_MECHANISMS = {
    {
        .name = "halo",
        .family = "local",
        .brief = "HaloNet: blocks of queries see their block and a halo",
        .formula = "S = scale q.k + c (q.rel_h[u - y + M - 1] + "
                   "q.rel_w[v - x + M - 1]),  c = 1 or scale (scale_pos)\n"
                   "o = sum over the M x M window of softmax(S) v,  "
                   "M = block + 2 halo,  scale = 1/sqrt(d)\n"
                   "block (8 unless given) must divide the map; padding zero: "
                   "positions beyond the border take part with k = v = 0; "
                   "mask: they are left out\n"
                   "stride s: one query for s x s keys; the grid is that of the "
                   "queries, block and halo count keys, y and x queries",
        .map = "the softmax weights; zero outside the windows; with padding "
               "zero the weight that falls on padding is missing from the row, "
               "so rows of border blocks sum to less than 1",
        .paper_cost = "(M / block)^2 numbers a pixel for the gathered keys and "
                      "values against k^2 of SASA; 2 h w C M^2 multiply-adds "
                      "for the two products; ours: 2 FLOPs a multiply-add, "
                      "exact pairs (padding counts in mode zero), the relative "
                      "term as 2 h w C M multiply-adds",
        .cite = "vaswani2021halonet",
        .traits = ATT_LINEAR_IN_V | ATT_NONNEGATIVE | ATT_IS_2D,
        .uses = ATT_USE(block) | ATT_USE(halo) | ATT_USE(stride) | ATT_USE(padding) |
                ATT_USE(bias) | ATT_USE(scale_pos) | ATT_USE(scale),
        .reject = reject,
        .shape = shape,
        .parameters = parameters,
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
        .columns = keys,
    },
    { 0 },
};
