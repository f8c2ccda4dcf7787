/* swin - window attention and shifted window attention.
 *
 *     S = scale q.k + B[dy, dx] (+ mask),   o = softmax(S) v in each window
 *                                                       [liu2021swin, eq. 4]
 *
 * As the authors' code does it: the map is padded at the right and bottom to a
 * multiple of the window (padding has k = v = 0, is never masked as such and
 * takes part in the softmax), rolled by -shift, and cut into windows.  With a
 * shift, pairs from different regions of the unrolled map get -100 added: not
 * -infinity, so logits that differ by more than that leak through.
 *
 * A map with a side not larger than the window is clamped, again as there: the
 * window becomes min(window, H, W) and the shift 0; rpb_table has the size of
 * the clamped window.  rpb_table [(2 w - 1)^2][heads] is indexed by
 * query minus key and is not scaled.
 */
#include "../reference.h"

#include <math.h>

enum { RPB };
enum { WINDOW = 7 };

static const double hidden = -100; /* added to pairs of different regions */

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* Window and shift after clamping. */
static int side(const att_problem *p)
{
    return smaller(att_at(&p->window, 0, WINDOW),
                   smaller(p->grid.v[0], p->grid.v[1]));
}

static int shift_of(const att_problem *p)
{
    const int asked = att_at(&p->window, 0, WINDOW);
    return smaller(p->grid.v[0], p->grid.v[1]) <= asked ? 0 : p->shift;
}

static const char *reject(const att_problem *p)
{
    if (p->window.n > 1) return "windows are square: give one number";
    if (att_at(&p->window, 0, WINDOW) < 1) return "window must be at least 1";
    if (p->shift && p->window.n == 0) return "a shift needs a window";
    if (p->shift >= att_at(&p->window, 0, WINDOW))
        return "shift must be smaller than the window";
    if (side(p) > 1024) return "window is larger than 1024";
    return NULL;
}

static int parameters(const att_problem *p, att_tensor *out)
{
    out[RPB] = (att_tensor){ .name = "rpb_table", .dims = 1 };
    if (p->bias)
        out[RPB] = (att_tensor){
            .name = "rpb_table",
            .dims = 2,
            .dim = { (2 * side(p) - 1) * (2 * side(p) - 1), p->heads },
            .init = ATT_INIT_NORMAL,
            .std = 0.02,
        };
    return 1;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double w = side(p);
    const double pairs =
        (double)p->batch * p->heads * (double)att_tokens(p) * w * w;
    ref_attend_cost(p, pairs, p->bias || shift_of(p), pass, out);
    if (p->bias && shift_of(p)) out->add += pairs; /* bias and mask */
    if (!p->bias) return;
    const double bytes = 4.0 * (2 * w - 1) * (2 * w - 1) * p->heads;
    out->read += bytes;
    if (pass == ATT_BACKWARD) out->write += bytes;
}

/* Length of an axis after padding. */
static int padded(int length, int w)
{
    return (length + w - 1) / w * w;
}

/* Region of a rolled coordinate: windows of region 1 and 2 hold tokens from both
 * ends of the axis. */
static int region(int z, int length, int w, int shift)
{
    return z < length - w ? 0 : z < length - shift ? 1 : 2;
}

static size_t pairs(const att_ref *r, int h, size_t i, ref_pair *out)
{
    const att_problem *p = r->p;
    const int height = p->grid.v[0], width = p->grid.v[1];
    const int w = side(p), shift = shift_of(p);
    const int hp = padded(height, w), wp = padded(width, w);
    /* rolled coordinates of the query, and where its window starts */
    const int y = ((int)(i / (size_t)width) - shift + hp) % hp;
    const int x = ((int)(i % (size_t)width) - shift + wp) % wp;
    const int y0 = y - y % w, x0 = x - x % w;
    size_t n = 0;

    for (int b = y0; b < y0 + w; b++)
        for (int c = x0; c < x0 + w; c++) {
            const int u = (b + shift) % hp, v = (c + shift) % wp;
            ref_pair *pair = &out[n++];
            pair->key = u < height && v < width ? (ptrdiff_t)u * width + v : -1;
            pair->tag = (y - b + w - 1) * (2 * w - 1) + (x - c + w - 1);
            pair->bias = 0;
            if (r->param[RPB])
                pair->bias =
                    r->param[RPB][(size_t)pair->tag * (size_t)p->heads +
                                  (size_t)h];
            if (shift && (region(y, hp, w, shift) != region(b, hp, w, shift) ||
                          region(x, wp, w, shift) != region(c, wp, w, shift)))
                pair->bias += hidden;
            REF_COUNT(r, add, p->bias && shift);
        }
    return n;
}

static void dbias(const att_ref *r, int h, size_t i, const ref_pair *pair,
                  double ds)
{
    (void)i;
    if (r->dparam[RPB])
        r->dparam[RPB][(size_t)pair->tag * (size_t)r->p->heads + (size_t)h] +=
            ds;
}

static ref_visible visible(const att_ref *r)
{
    const att_problem *p = r->p;
    return (ref_visible){
        .scale = p->scale != 0 ? p->scale : 1 / sqrt(p->head_dim),
        .most = (size_t)side(p) * (size_t)side(p),
        .pairs = pairs,
        .dbias = p->bias || shift_of(p) ? dbias : NULL,
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
        .name = "swin",
        .family = "local",
        .brief = "Swin: windows that do not overlap, optionally shifted",
        .formula = "S = scale q.k + B[query - key] (- 100 between regions that "
                   "a shift brought together)\n"
                   "o = softmax(S) v in each window,  scale = 1/sqrt(d),  "
                   "window 7 unless given\n"
                   "window = min(window, H, W), and no shift if the window "
                   "covers a side of the map;\n"
                   "padded at the right and bottom to a multiple of the window: "
                   "padding takes part with k = v = 0",
        .map = "the softmax weights; zero outside the windows; on a padded map "
               "the weight that falls on padding is missing from the row",
        .paper_cost = "4 h w C^2 + 2 M^2 h w C multiply-adds (Swin paper), with "
                      "all four projections, softmax not counted, h w after "
                      "padding; ours: the two products as 2 FLOPs a "
                      "multiply-add for the real queries, masked pairs count, "
                      "no projections",
        .cite = "liu2021swin",
        .traits = ATT_LINEAR_IN_V | ATT_NONNEGATIVE | ATT_IS_2D,
        .uses = ATT_USE(window) | ATT_USE(shift) | ATT_USE(bias) |
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
