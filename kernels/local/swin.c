/* swin - window attention and shifted window attention.
 *
 *     S = scale q.k + B[dy, dx] (+ mask),   o = softmax(S) v in each window
 *                                                       [liu2021swin, eq. 4]
 *
 * As the authors' code does it: the map is padded at the right and bottom to a
 * multiple of the window (padding has the k and v of pad_k and pad_v [heads][d],
 * in a network the biases of the projections, or 0; it is never masked as such
 * and takes part in the softmax), rolled by -shift, and cut into windows.  With a
 * shift, pairs from different regions of the unrolled map get -100 added: not
 * -infinity, so logits that differ by more than that leak through.
 *
 * Window and shift are per axis, as in timm: an axis that is not longer than the
 * window is one window of its own length, without a shift; rpb_table has the
 * size of that window.  (The authors' code for classification makes the window
 * square instead: window = min(H, W), which can be asked for.)  padding tells
 * whose order is meant where the window does not divide the map:
 *     zero         padded, then rolled: the authors' code for detection
 *     timm         rolled, then padded
 *     torchvision  as zero, but a window larger than the map stays as large: the
 *                  map is padded to it
 * rpb_table [(2 wh - 1) (2 ww - 1)][heads] is indexed by query minus key and is
 * not scaled.
 */
#include "../reference.h"

#include <stdlib.h>
#include <string.h>

#include <math.h>

enum { RPB, PAD_K, PAD_V };
enum { WINDOW = 7 };

static const double hidden = -100; /* added to pairs of different regions */

/* One axis after clamping. */
typedef struct axis {
    int length, window, shift, padded;
} axis;

static axis axis_of(const att_problem *p, int a)
{
    axis x = { .length = p->grid.v[a], .window = att_at(&p->window, a, WINDOW),
               .shift = att_at(&p->shift, a, 0) };
    if (x.length <= x.window) {
        x.shift = 0;
        if (p->padding != ATT_PAD_TORCHVISION) x.window = x.length;
    }
    x.padded = (x.length + x.window - 1) / x.window * x.window;
    return x;
}

static bool shifted(const att_problem *p)
{
    return axis_of(p, 0).shift || axis_of(p, 1).shift;
}

static bool is_padded(const att_problem *p)
{
    return axis_of(p, 0).padded > p->grid.v[0] ||
           axis_of(p, 1).padded > p->grid.v[1];
}

static int keys_of_window(const att_problem *p)
{
    return axis_of(p, 0).window * axis_of(p, 1).window;
}

static int table_rows(const att_problem *p)
{
    return (2 * axis_of(p, 0).window - 1) * (2 * axis_of(p, 1).window - 1);
}

static const char *reject(const att_problem *p)
{
    if (p->padding == ATT_PAD_MASK)
        return "padding takes part in the softmax in all published code: use "
               "padding=zero, timm or torchvision";
    if (p->shift.n > p->grid.n) return "shift has more axes than the grid";
    for (int a = 0; a < 2; a++) {
        const int window = att_at(&p->window, a, WINDOW);
        const int shift = att_at(&p->shift, a, 0);
        if (window < 1) return "window must be at least 1";
        if (shift && p->window.n == 0) return "a shift needs a window";
        if (shift >= window) return "shift must be smaller than the window";
        if (axis_of(p, a).window > 1024) return "window is larger than 1024";
    }
    return NULL;
}

static int parameters(const att_problem *p, att_tensor *out)
{
    out[RPB] = (att_tensor){ .name = "rpb_table", .dims = 1 };
    if (p->bias)
        out[RPB] = (att_tensor){
            .name = "rpb_table",
            .dims = 2,
            .dim = { table_rows(p), p->heads },
            .init = ATT_INIT_NORMAL,
            .std = 0.02,
            .logit = true,
        };
    for (int i = PAD_K; i <= PAD_V; i++)
        out[i] = (att_tensor){ .name = i == PAD_K ? "pad_k" : "pad_v",
                               .dims = 2,
                               .dim = { is_padded(p) ? p->heads : 0,
                                        p->head_dim },
                               .fixed = true,
                               .optional = true };
    return 3;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double pairs = (double)p->batch * p->heads * (double)att_tokens(p) *
                         keys_of_window(p);
    ref_attend_cost(p, pairs, p->bias || shifted(p), pass, out);
    if (p->bias && shifted(p)) out->add += pairs; /* bias and mask */
    if (!p->bias) return;
    const double bytes = 4.0 * table_rows(p) * p->heads;
    out->read += bytes;
    if (pass == ATT_BACKWARD) out->write += bytes;
}

/* Region of a rolled coordinate: windows of region 1 and 2 hold tokens from both
 * ends of the axis. */
static int region(const axis *x, int z)
{
    if (x->shift == 0 || z < x->padded - x->window) return 0;
    return z < x->padded - x->shift ? 1 : 2;
}

/* Rolled coordinate of a token, and the token of a coordinate (-1: padding). */
static int rolled(const att_problem *p, const axis *x, int token)
{
    const int all = p->padding == ATT_PAD_TIMM ? x->length : x->padded;
    return (token - x->shift + all) % all;
}

static int token_at(const att_problem *p, const axis *x, int z)
{
    const bool first = p->padding == ATT_PAD_TIMM;
    if (first && z >= x->length) return -1;
    const int token = (z + x->shift) % (first ? x->length : x->padded);
    return token < x->length ? token : -1;
}

static size_t pairs(const att_ref *r, int h, size_t i, ref_pair *out)
{
    const att_problem *p = r->p;
    const axis rows = axis_of(p, 0), columns = axis_of(p, 1);
    const int high = rows.window, wide = columns.window;
    const size_t width = (size_t)columns.length;
    const int y = rolled(p, &rows, (int)(i / width));
    const int x = rolled(p, &columns, (int)(i % width));
    const int y0 = y - y % high, x0 = x - x % wide; /* where its window starts */
    size_t n = 0;

    for (int b = y0; b < y0 + high; b++)
        for (int c = x0; c < x0 + wide; c++) {
            const int u = token_at(p, &rows, b), v = token_at(p, &columns, c);
            ref_pair *pair = &out[n++];
            pair->key = u < 0 || v < 0 ? (ptrdiff_t)att_tokens(p)
                                       : u * (ptrdiff_t)width + v;
            pair->tag = (y - b + high - 1) * (2 * wide - 1) + x - c + wide - 1;
            pair->bias = 0;
            if (r->param[RPB])
                pair->bias =
                    r->param[RPB][(size_t)pair->tag * (size_t)p->heads +
                                  (size_t)h];
            if (region(&rows, y) != region(&rows, b) ||
                region(&columns, x) != region(&columns, c))
                pair->bias += hidden;
            REF_COUNT(r, add, p->bias && (rows.shift || columns.shift));
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
        .most = (size_t)keys_of_window(p),
        .pairs = pairs,
        .dbias = p->bias || shifted(p) ? dbias : NULL,
    };
}

/* The same problem with one more key, that of all padding. */
typedef struct with_pad {
    att_problem p;
    att_ref r;
    double *k, *v, *dk, *dv;
} with_pad;

/* x [heads][n][d] and pad [heads][d] (NULL: 0) as [heads][n + 1][d]. */
static double *append(const att_problem *p, const double *x, const double *pad)
{
    const size_t d = (size_t)p->head_dim, n = att_tokens(p) * d;
    double *out = ref_new((size_t)p->heads * (n + d));
    for (size_t h = 0; x && h < (size_t)p->heads; h++) {
        memcpy(out + h * (n + d), x + h * n, n * sizeof *out);
        if (pad) memcpy(out + h * (n + d) + n, pad + h * d, d * sizeof *out);
    }
    return out;
}

static void open_pad(with_pad *w, const att_ref *r)
{
    w->p = *r->p;
    w->p.tokens_k = (int)att_tokens(r->p) + 1;
    w->k = append(r->p, r->k, r->param[PAD_K]);
    w->v = append(r->p, r->v, r->param[PAD_V]);
    w->dk = append(r->p, NULL, NULL);
    w->dv = append(r->p, NULL, NULL);
    w->r = *r;
    w->r.p = &w->p;
    w->r.k = w->k;
    w->r.v = w->v;
    w->r.dk = w->dk;
    w->r.dv = w->dv;
}

/* Adds the gradients of the real keys. */
static void close_pad(with_pad *w, const att_ref *r)
{
    const size_t d = (size_t)r->p->head_dim, n = att_tokens(r->p) * d;
    for (size_t h = 0; h < (size_t)r->p->heads; h++)
        for (size_t i = 0; i < n; i++) {
            if (r->dk) r->dk[h * n + i] += w->dk[h * (n + d) + i];
            if (r->dv) r->dv[h * n + i] += w->dv[h * (n + d) + i];
        }
    free(w->k);
    free(w->v);
    free(w->dk);
    free(w->dv);
}

static void forward(const att_ref *r)
{
    with_pad w;
    open_pad(&w, r);
    const ref_visible v = visible(&w.r);
    ref_attend(&w.r, &v);
    close_pad(&w, &(att_ref){ .p = r->p });
}

static void backward(const att_ref *r)
{
    with_pad w;
    open_pad(&w, r);
    const ref_visible v = visible(&w.r);
    ref_attend_backward(&w.r, &v);
    close_pad(&w, r);
}

static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *a)
{
    (void)ch, (void)part;
    const size_t n = att_tokens(r->p);
    with_pad w;
    open_pad(&w, r);
    const ref_visible v = visible(&w.r);
    double *all = ref_new((i1 - i0) * (n + 1));
    ref_attend_rows(&w.r, &v, h, i0, i1, all);
    for (size_t i = 0; i < i1 - i0; i++)
        memcpy(a + i * n, all + i * (n + 1), n * sizeof *a);
    free(all);
    close_pad(&w, &(att_ref){ .p = r->p });
}

/* What falls on padding adds that weight of pad_v. */
static void affine(const att_ref *r, int h, int ch, size_t i, double *gain,
                   double *offset)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    *gain = 1;
    *offset = 0;
    if (!r->param[PAD_V]) return;
    with_pad w;
    open_pad(&w, r);
    const ref_visible v = visible(&w.r);
    double *all = ref_new(n + 1);
    ref_attend_rows(&w.r, &v, h, i, i + 1, all);
    *offset = all[n] * r->param[PAD_V][(size_t)h * d + (size_t)ch];
    free(all);
    close_pad(&w, &(att_ref){ .p = r->p });
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
                   "per axis, as timm: the window is at most as long as the map, "
                   "without a shift where it covers the axis\n"
                   "padded at the right and bottom to a multiple of the window: "
                   "padding takes part with k = pad_k, v = pad_v (or 0);\n"
                   "padding=zero: padded, then rolled (the authors' code for "
                   "detection); timm: rolled, then padded;\n"
                   "torchvision: a window longer than the map is not shortened, "
                   "the map is padded to it",
        .map = "the softmax weights; zero outside the windows; on a padded map "
               "the weight that falls on padding is missing from the row "
               "(with pad_v it is the offset of the output)",
        .paper_cost = "4 h w C^2 + 2 M^2 h w C multiply-adds (Swin paper), with "
                      "all four projections, softmax not counted, h w after "
                      "padding; ours: the two products as 2 FLOPs a "
                      "multiply-add for the real queries, masked pairs count, "
                      "no projections",
        .cite = "liu2021swin",
        .traits = ATT_LINEAR_IN_V | ATT_NONNEGATIVE | ATT_IS_2D,
        .uses = ATT_USE(window) | ATT_USE(shift) | ATT_USE(padding) | ATT_USE(bias) |
                ATT_USE(scale),
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
