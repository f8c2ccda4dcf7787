/* dwconv - depthwise convolution, the cost baseline of the local family.
 *
 *     o[n, c] = bias[c] + sum over u, v of weight[c, u, v] x[n + (u, v) - p, c]
 *                                                             [liu2022convnext]
 *
 * Cross-correlation (no kernel flip), zeros beyond the border, p = (k - 1) / 2,
 * k = 7 unless given.  x takes the place of v: o = T x + bias with one matrix T
 * per channel.  Channel c of head h has weight[h * head_dim + c].
 */
#include "../reference.h"

#include <string.h>

enum { WEIGHT, BIAS };
enum { WINDOW = 7 };

static int side(const att_problem *p, int a)
{
    return att_at(&p->window, a, WINDOW);
}

static const char *reject(const att_problem *p)
{
    for (int a = 0; a < 2; a++) {
        if (side(p, a) < 1) return "window must be at least 1 on every axis";
        if (side(p, a) % 2 == 0)
            return "window must be odd: it is centred at the output";
    }
    if ((long long)side(p, 0) * side(p, 1) > 1 << 20)
        return "window has more than 2^20 taps";
    if ((long long)p->heads * p->head_dim > 1 << 20)
        return "heads x head_dim is more than 2^20 channels";
    return NULL;
}

static void shape(const att_problem *p, enum att_slot slot, att_shape *out)
{
    (void)p;
    if (slot == ATT_Q || slot == ATT_K) *out = (att_shape){ 0, 0, 0 };
}

static int parameters(const att_problem *p, att_tensor *out)
{
    const int channels = p->heads * p->head_dim;
    out[WEIGHT] = (att_tensor){ .name = "weight",
                                .dims = 3,
                                .dim = { channels, side(p, 0), side(p, 1) },
                                .init = ATT_INIT_NORMAL,
                                .std = 0.02 };
    out[BIAS] = (att_tensor){ .name = "bias", .dims = 1, .dim = { channels } };
    return 2;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double channels = (double)p->heads * p->head_dim;
    const double values = channels * p->batch * (double)att_tokens(p);
    const double taps = channels * p->batch *
                        ref_taps(p->grid.v[0], side(p, 0)) *
                        ref_taps(p->grid.v[1], side(p, 1));
    const double learned =
        channels * ((double)side(p, 0) * side(p, 1) + 1);
    if (pass == ATT_FORWARD)
        *out = (att_cost){ .mul_add = taps,
                           .add = values,
                           .read = 4 * (values + learned),
                           .write = 4 * values };
    else
        *out = (att_cost){ .mul_add = 2 * taps,
                           .add = values,
                           .read = 4 * (2 * values + learned),
                           .write = 4 * (values + learned) };
}

/* Calls that one body serves: y += w x, or dx += w dy and dw += x dy. */
static void each_tap(const att_ref *r, bool back)
{
    const att_problem *p = r->p;
    const int height = p->grid.v[0], width = p->grid.v[1];
    const int kh = side(p, 0), kw = side(p, 1), d = p->head_dim;
    for (int h = 0; h < p->heads; h++)
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                for (int c = 0; c < d; c++) {
                    const size_t map = (size_t)h * att_tokens(p);
                    const size_t out =
                        (map + (size_t)(y * width + x)) * (size_t)d + (size_t)c;
                    const size_t channel = (size_t)(h * d + c);
                    if (!back) r->o[out] = r->param[BIAS][channel];
                    else if (r->dparam[BIAS])
                        r->dparam[BIAS][channel] += r->dout[out];
                    REF_COUNT(r, add, 1);
                    for (int u = 0; u < kh; u++)
                        for (int v = 0; v < kw; v++) {
                            const int i = y + u - kh / 2, j = x + v - kw / 2;
                            if (i < 0 || i >= height || j < 0 || j >= width)
                                continue;
                            const size_t in =
                                (map + (size_t)(i * width + j)) * (size_t)d +
                                (size_t)c;
                            const size_t w =
                                (channel * (size_t)kh + (size_t)u) *
                                    (size_t)kw +
                                (size_t)v;
                            REF_COUNT(r, mul_add, back ? 2 : 1);
                            if (!back) {
                                r->o[out] += r->param[WEIGHT][w] * r->v[in];
                                continue;
                            }
                            if (r->dv)
                                r->dv[in] += r->param[WEIGHT][w] * r->dout[out];
                            if (r->dparam[WEIGHT])
                                r->dparam[WEIGHT][w] += r->v[in] * r->dout[out];
                        }
                }
}

static void forward(const att_ref *r)
{
    each_tap(r, false);
}

static void backward(const att_ref *r)
{
    each_tap(r, true);
}

static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *a)
{
    const att_problem *p = r->p;
    const int height = p->grid.v[0], width = p->grid.v[1];
    const int kh = side(p, 0), kw = side(p, 1);
    const size_t n = att_tokens(p);
    const double *weight = r->param[WEIGHT] +
                           (size_t)(h * p->head_dim + ch) * (size_t)(kh * kw);
    memset(a, 0, (i1 - i0) * n * sizeof *a);
    if (part == ATT_PART_ATTENTION) return;
    for (size_t i = i0; i < i1; i++)
        for (int u = 0; u < kh; u++)
            for (int v = 0; v < kw; v++) {
                const int y = (int)(i / (size_t)width) + u - kh / 2;
                const int x = (int)(i % (size_t)width) + v - kw / 2;
                if (y < 0 || y >= height || x < 0 || x >= width) continue;
                a[(i - i0) * n + (size_t)(y * width + x)] = weight[u * kw + v];
            }
}

static void affine(const att_ref *r, int h, int ch, size_t i, double *gain,
                   double *offset)
{
    (void)i;
    *gain = 1;
    *offset = r->param[BIAS][h * r->p->head_dim + ch];
}

ATT_MECHANISMS = {
    {
        .name = "dwconv",
        .family = "local",
        .brief = "depthwise convolution, the cost baseline (ConvNeXt)",
        .formula = "o[n, c] = bias[c] + sum over the k x k taps of "
                   "weight[c, u, v] x[n + (u, v) - p, c]\n"
                   "cross-correlation, zeros beyond the border, "
                   "p = (k - 1) / 2, window k = 7 unless given",
        .map = "the convolution of one channel as a Toeplitz matrix; signed, "
               "different for every channel; there is no attention part",
        .paper_cost = "h w C k^2 multiply-adds and C k^2 parameters; ours: 2 "
                      "FLOPs a multiply-add, taps on the map only, plus the "
                      "bias.  (The convolution row of the NAT paper is a dense "
                      "one: h w C^2 k^2.)",
        .cite = "liu2022convnext",
        .traits = ATT_LINEAR_IN_V | ATT_CONVOLUTION | ATT_NOT_ATTENTION |
                  ATT_IS_2D,
        .uses = ATT_USE(window),
        .inputs = { NULL, NULL, "x" },
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
