/* cswin - cross-shaped windows: stripes of the map, upright for the first half of
 * the heads and lying for the second, and a convolution of v inside each stripe.
 *
 *     S = scale q.k,   o = softmax(S) v + LePE(v) + b in each stripe
 *                                             [dong2022cswin, section 3.2]
 *
 * A stripe is `window` columns (or rows) wide and as long as the map.  LePE, the
 * locally enhanced position encoding, is a depthwise cross-correlation of side
 * `conv` with zeros beyond the stripe; every channel of every head has a filter
 * of its own.  The authors' code needs a map that stripes divide; where they do
 * not, the last stripe is narrower here.  With an odd number of heads the one in
 * the middle is upright.  A stripe at least as wide as the map is the whole map:
 * the authors' last stage.
 */
#include "../reference.h"

#include <math.h>
#include <string.h>

enum { WEIGHT, BIAS };
enum { WINDOW = 7, SIDE = 3, SIDE_MAX = 255 };

static int conv_side(const att_problem *p)
{
    return att_at(&p->conv, 0, SIDE);
}

static bool upright(const att_problem *p, int h)
{
    return 2 * h < p->heads;
}

/* ---- the rectangle that a token shares with those it sees --------------------- */

typedef struct stripe {
    int y0, y1, x0, x1; /* ends not included                                 */
} stripe;

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

static stripe stripe_of(const att_problem *p, int h, size_t i)
{
    const int height = p->grid.v[0], width = p->grid.v[1];
    const int w = att_at(&p->window, 0, WINDOW);
    const int y = (int)(i / (size_t)width), x = (int)(i % (size_t)width);
    stripe s = { 0, height, 0, width };
    if (upright(p, h)) {
        s.x0 = x / w * w;
        s.x1 = smaller(width - s.x0, w) + s.x0;
    } else {
        s.y0 = y / w * w;
        s.y1 = smaller(height - s.y0, w) + s.y0;
    }
    return s;
}

/* ---- LePE ------------------------------------------------------------------------ */

/* Token that tap t of token i reads, or -1 beyond the stripe. */
static ptrdiff_t tapped(const att_problem *p, int h, size_t i, int t)
{
    const stripe s = stripe_of(p, h, i);
    const int width = p->grid.v[1], k = conv_side(p);
    const int y = (int)(i / (size_t)width) + t / k - k / 2;
    const int x = (int)(i % (size_t)width) + t % k - k / 2;
    return y < s.y0 || y >= s.y1 || x < s.x0 || x >= s.x1
               ? -1
               : (ptrdiff_t)y * width + x;
}

static void lepe_forward(const att_ref *r)
{
    const att_problem *p = r->p;
    const size_t n = att_tokens(p), d = (size_t)p->head_dim;
    const size_t taps = (size_t)conv_side(p) * (size_t)conv_side(p);
    for (size_t at = 0; at < (size_t)p->heads * n; at++) {
        const size_t h = at / n, i = at % n;
        const double *w = r->param[WEIGHT] + h * d * taps, *b = r->param[BIAS];
        double *o = r->o + at * d;
        for (size_t c = 0; c < d; c++) o[c] += b[h * d + c];
        REF_COUNT(r, add, 2 * d); /* the bias, and the sum of two terms */
        for (size_t t = 0; t < taps; t++) {
            const ptrdiff_t j = tapped(p, (int)h, i, (int)t);
            if (j < 0) continue;
            const double *v = r->v + (h * n + (size_t)j) * d;
            for (size_t c = 0; c < d; c++) o[c] += w[c * taps + t] * v[c];
            REF_COUNT(r, mul_add, d);
        }
    }
}

static void lepe_backward(const att_ref *r)
{
    const att_problem *p = r->p;
    const size_t n = att_tokens(p), d = (size_t)p->head_dim;
    const size_t taps = (size_t)conv_side(p) * (size_t)conv_side(p);
    for (size_t at = 0; at < (size_t)p->heads * n; at++) {
        const size_t h = at / n, i = at % n;
        const double *w = r->param[WEIGHT] + h * d * taps;
        const double *g = r->dout + at * d;
        double *dw = r->dparam[WEIGHT], *db = r->dparam[BIAS];
        for (size_t c = 0; db && c < d; c++) db[h * d + c] += g[c];
        REF_COUNT(r, add, d);
        for (size_t t = 0; t < taps; t++) {
            const ptrdiff_t j = tapped(p, (int)h, i, (int)t);
            if (j < 0) continue;
            const size_t row = (h * n + (size_t)j) * d;
            for (size_t c = 0; c < d; c++) {
                if (r->dv) r->dv[row + c] += w[c * taps + t] * g[c];
                if (dw) dw[(h * d + c) * taps + t] += g[c] * r->v[row + c];
            }
            REF_COUNT(r, mul_add, 2 * d);
        }
    }
}

/* ---- the mechanism ------------------------------------------------------------------ */

static const char *reject(const att_problem *p)
{
    if (p->window.n > 1) return "stripes have one width: give one number";
    if (att_at(&p->window, 0, WINDOW) < 1) return "window must be at least 1";
    if (p->conv.n > 1) return "LePE is square: give conv one value";
    if (conv_side(p) < 1 || conv_side(p) > SIDE_MAX || conv_side(p) % 2 == 0)
        return "conv must be odd, from 1 to 255";
    if ((long long)p->heads * p->head_dim > 1 << 20)
        return "heads x head_dim is more than 2^20 channels";
    return NULL;
}

static int parameters(const att_problem *p, att_tensor *out)
{
    const int k = conv_side(p), channels = p->heads * p->head_dim;
    const double std = 1 / (sqrt(3) * k); /* of PyTorch's uniform start */
    out[WEIGHT] = (att_tensor){ .name = "lepe_w",
                                .dims = 3,
                                .dim = { channels, k, k },
                                .init = ATT_INIT_NORMAL,
                                .std = std };
    out[BIAS] = (att_tensor){ .name = "lepe_b",
                              .dims = 1,
                              .dim = { channels },
                              .init = ATT_INIT_NORMAL,
                              .std = std };
    return 2;
}

/* Pairs and taps of one head whose stripes cut an axis of `across` tokens. */
static void stripes(const att_problem *p, int across, int along, double *pairs,
                    double *taps)
{
    const int w = att_at(&p->window, 0, WINDOW), k = conv_side(p);
    const int whole = across / w, rest = across % w;
    *pairs = (double)along * along *
             ((double)whole * w * w + (double)rest * rest);
    *taps = ref_taps(along, k) *
            (whole * ref_taps(w, k) + ref_taps(rest, k));
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double d = p->head_dim, k = conv_side(p);
    const double channels = p->heads * d, lying = p->heads / 2;
    const double values = p->batch * channels * (double)att_tokens(p);
    const double bytes = 4 * channels * (k * k + 1);
    double up[2], flat[2];
    stripes(p, p->grid.v[1], p->grid.v[0], &up[0], &up[1]);
    stripes(p, p->grid.v[0], p->grid.v[1], &flat[0], &flat[1]);
    const double pairs = (p->heads - lying) * up[0] + lying * flat[0];
    const double taps = (p->heads - lying) * up[1] + lying * flat[1];
    ref_attend_cost(p, p->batch * pairs, false, pass, out);
    out->mul_add += (1 + pass) * p->batch * taps * d;
    out->add += pass == ATT_FORWARD ? 2 * values : values;
    out->read += bytes;
    out->write += pass == ATT_FORWARD ? 0 : bytes;
}

static size_t pairs(const att_ref *r, int h, size_t i, ref_pair *out)
{
    const stripe s = stripe_of(r->p, h, i);
    size_t n = 0;
    for (int y = s.y0; y < s.y1; y++)
        for (int x = s.x0; x < s.x1; x++)
            out[n++] = (ref_pair){
                .key = (ptrdiff_t)y * r->p->grid.v[1] + x };
    return n;
}

static ref_visible visible(const att_ref *r)
{
    const att_problem *p = r->p;
    const int height = p->grid.v[0], width = p->grid.v[1];
    const size_t longest = (size_t)att_at(&p->window, 0, WINDOW) *
                           (size_t)(height > width ? height : width);
    return (ref_visible){
        .scale = p->scale != 0 ? p->scale : 1 / sqrt(p->head_dim),
        .most = longest < att_tokens(p) ? longest : att_tokens(p),
        .pairs = pairs,
    };
}

static void forward(const att_ref *r)
{
    const ref_visible v = visible(r);
    ref_attend(r, &v);
    lepe_forward(r);
}

static void backward(const att_ref *r)
{
    const ref_visible v = visible(r);
    ref_attend_backward(r, &v);
    lepe_backward(r);
}

static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *a)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const int taps = conv_side(r->p) * conv_side(r->p);
    const ref_visible v = visible(r);
    memset(a, 0, (i1 - i0) * n * sizeof *a);
    if (part != ATT_PART_CONVOLUTION) ref_attend_rows(r, &v, h, i0, i1, a);
    if (part == ATT_PART_ATTENTION) return;
    const double *w =
        r->param[WEIGHT] + ((size_t)h * d + (size_t)ch) * (size_t)taps;
    for (size_t i = i0; i < i1; i++)
        for (int t = 0; t < taps; t++) {
            const ptrdiff_t j = tapped(r->p, h, i, t);
            if (j >= 0) a[(i - i0) * n + (size_t)j] += w[t];
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
        .name = "cswin",
        .family = "local",
        .brief = "CSWin: upright and lying stripes, and a convolution of v",
        .formula = "o = softmax(scale q.k) v + LePE(v) + b in each stripe,  "
                   "scale = 1/sqrt(d)\n"
                   "stripes of `window` columns for the first half of the "
                   "heads, of `window` rows for the second\n"
                   "LePE: k x k depthwise cross-correlation, zeros beyond the "
                   "stripe, a filter for each channel of each head\n"
                   "stripes that do not divide the map leave a narrower one; "
                   "window 7, conv 3 unless given",
        .map = "the softmax weights, zero outside the stripe, plus the banded "
               "matrix of the convolution, one for each channel; the bias is "
               "in neither",
        .paper_cost = "H W C (4 C + sw H + sw W) multiply-adds (CSWin paper), "
                      "with all four projections, softmax and LePE not "
                      "counted; ours: the two products as 2 FLOPs a "
                      "multiply-add and the taps that stay in the stripe, no "
                      "projections",
        .cite = "dong2022cswin",
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE |
                  ATT_CONVOLUTION | ATT_IS_2D,
        .uses = ATT_USE(window) | ATT_USE(conv) | ATT_USE(scale),
        .reject = reject,
        .parameters = parameters,
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
        .affine = affine,
    },
    { 0 },
};
