/* na - neighborhood attention on 1-D, 2-D and 3-D maps.
 *
 *     A_i = softmax over j in V(i) of (scale q_i.k_j + rpb[j - i])
 *     o_i = sum_j A_ij v_j                               [hassani2023nat, eq. 3]
 *
 * V(i) is the product of one window per axis.  At a border the window is moved
 * inward, never clipped or padded, so that every query sees `window` keys per
 * axis.  Dilation [hassani2022dinat] splits an axis into interleaved groups;
 * stride [hassani2025gna] lets neighbouring queries share one window; a causal
 * axis ends at the query.  Even windows lean to smaller coordinates.
 *
 * rpb [heads][2 w - 1 per axis] is indexed by (key - query) / dilation + w - 1
 * and is not scaled.  A window of one token along an axis is allowed here (it
 * holds the query's own coordinate), unlike in the authors' library.
 */
#include "../reference.h"

#include <math.h>

enum { RPB };
enum { WINDOW = 7 }; /* of every axis, unless given */

typedef struct axis {
    int length, window, dilation, stride;
    bool causal;
} axis;

static axis axis_of(const att_problem *p, int a)
{
    return (axis){
        .length = p->grid.v[a],
        .window = att_at(&p->window, a, WINDOW),
        .dilation = att_at(&p->dilation, a, 1),
        .stride = att_at(&p->stride, a, 1),
        .causal = att_at(&p->causal, a, 0) != 0,
    };
}

/* Keys of coordinate x are first, first + dilation, ...: returns how many.
 * Section 2.1 of the library's definition: positions are counted inside the
 * group of coordinates that are equal modulo the dilation. */
static int window_of(axis a, int x, int *first)
{
    const int group = x % a.dilation, at = x / a.dilation;
    const int n = a.length / a.dilation + (group < a.length % a.dilation);
    const int left = a.window / 2;
    const int right = a.window / 2 - 1 + a.window % 2;
    int leader = at / a.stride * a.stride;
    int start, end;

    if (a.causal) {
        leader += a.stride - 1;
        if (leader > n - 1) leader = n - 1;
        start = leader - a.window + 1 > 0 ? leader - a.window + 1 : 0;
        end = at + 1;
    } else {
        leader += a.stride / 2;
        if (leader > n - 1) leader = n - 1;
        start = leader - left > 0 ? leader - left : 0;
        if (leader + right >= n) start += n - right - 1 - leader;
        end = start + a.window;
    }
    *first = start * a.dilation + group;
    return end - start;
}

static const char *reject(const att_problem *p)
{
    if (p->stride.n > p->grid.n) return "stride has more axes than the grid";
    bool causal = false;
    for (int a = 0; a < p->grid.n; a++) {
        const axis x = axis_of(p, a);
        if (x.window < 1) return "window must be at least 1 on every axis";
        if (x.dilation < 1) return "dilation must be at least 1 on every axis";
        if (x.stride < 1) return "stride must be at least 1 on every axis";
        if (x.stride > x.window)
            return "stride is larger than the window: use stride <= window";
        if ((long long)x.window * x.dilation > x.length)
            return "window x dilation is larger than the map (window is 7 "
                   "unless given): use a smaller window or dilation";
        if (att_at(&p->causal, a, 0) > 1) return "causal is 0 or 1 per axis";
        causal |= x.causal;
    }
    if (p->bias && causal)
        return "the position bias is not defined for causal windows: use "
               "bias=0";
    return NULL;
}

static int parameters(const att_problem *p, att_tensor *out)
{
    out[RPB] = (att_tensor){ .name = "rpb", .dims = 1 };
    if (p->bias) {
        out[RPB] = (att_tensor){ .name = "rpb",
                                 .dims = 1 + p->grid.n,
                                 .dim = { p->heads },
                                 .init = ATT_INIT_NORMAL,
                                 .std = 0.02,
                                 .logit = true };
        for (int a = 0; a < p->grid.n; a++)
            out[RPB].dim[1 + a] = 2 * axis_of(p, a).window - 1;
    }
    return 1;
}

/* The pairs of a map are the products of the pairs of its axes. */
static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    double pairs = (double)p->batch * p->heads;
    for (int a = 0; a < p->grid.n; a++) {
        const axis x = axis_of(p, a);
        double sum = 0;
        for (int i = 0, first; i < x.length; i++) sum += window_of(x, i, &first);
        pairs *= sum;
    }
    ref_attend_cost(p, pairs, p->bias, pass, out);

    att_tensor rpb[ATT_PARAMS];
    parameters(p, rpb);
    out->read += 4.0 * (double)att_elements(&rpb[RPB]);
    if (pass == ATT_BACKWARD)
        out->write += 4.0 * (double)att_elements(&rpb[RPB]);
}

/* Entry of one head's rpb for query i and key j, both flat. */
static int rpb_index(const att_problem *p, size_t i, size_t j)
{
    int index = 0, step = 1;
    for (int a = p->grid.n - 1; a >= 0; a--) {
        const axis x = axis_of(p, a);
        const int from = (int)(i % (size_t)x.length);
        const int to = (int)(j % (size_t)x.length);
        index += step * ((to - from) / x.dilation + x.window - 1);
        step *= 2 * x.window - 1;
        i /= (size_t)x.length, j /= (size_t)x.length;
    }
    return index;
}

static size_t rpb_size(const att_problem *p)
{
    size_t n = 1;
    for (int a = 0; a < p->grid.n; a++)
        n *= (size_t)(2 * axis_of(p, a).window - 1);
    return n;
}

/* Windows are crossed axis by axis: `keys` holds the flat indices over the axes
 * seen so far. */
static size_t pairs(const att_ref *r, int h, size_t i, ref_pair *out)
{
    const att_problem *p = r->p;
    size_t n = 1, inner = att_tokens(p), rest = i;
    out[0] = (ref_pair){ .key = 0 };
    for (int a = 0; a < p->grid.n; a++) {
        const axis x = axis_of(p, a);
        inner /= (size_t)x.length;
        int first;
        const int count = window_of(x, (int)(rest / inner), &first);
        rest %= inner;
        /* backwards, so that entries not yet expanded are not overwritten */
        for (size_t t = n; t-- > 0;)
            for (int s = count; s-- > 0;)
                out[t * (size_t)count + (size_t)s].key =
                    out[t].key * x.length + first + s * x.dilation;
        n *= (size_t)count;
    }
    for (size_t t = 0; t < n; t++) {
        out[t].tag = rpb_index(p, i, (size_t)out[t].key);
        out[t].bias = 0;
        if (r->param[RPB])
            out[t].bias = r->param[RPB][(size_t)h * rpb_size(p) +
                                        (size_t)out[t].tag];
    }
    return n;
}

static void dbias(const att_ref *r, int h, size_t i, const ref_pair *pair,
                  double ds)
{
    (void)i;
    if (r->dparam[RPB])
        r->dparam[RPB][(size_t)h * rpb_size(r->p) + (size_t)pair->tag] += ds;
}

static ref_visible visible(const att_ref *r)
{
    const att_problem *p = r->p;
    ref_visible v = {
        .scale = p->scale != 0 ? p->scale : 1 / sqrt(p->head_dim),
        .most = 1,
        .pairs = pairs,
        .dbias = p->bias ? dbias : NULL,
    };
    for (int a = 0; a < p->grid.n; a++) v.most *= (size_t)axis_of(p, a).window;
    return v;
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

/* The three differ in the number of axes alone. */
#define NA(axes, n, text)                                                      \
    {                                                                          \
        .name = "na" n,                                                        \
        .family = "local",                                                     \
        .brief = "neighborhood attention on " text,                            \
        .formula =                                                             \
            "S_ij = scale q_i.k_j (+ rpb[j - i]) for j in V(i),\n"             \
            "o_i = sum_j softmax_j(S_ij) v_j,  scale = 1/sqrt(d)\n"            \
            "V(i): per axis the `window` keys around i, moved inward at a\n"   \
            "border (window 7 unless given; even ones lean to smaller\n"       \
            "coordinates); dilation: every t-th key; stride: groups of\n"      \
            "queries share the window of their middle; causal: keys up to i",  \
        .map = "the softmax weights; zero outside the windows, every row "     \
               "sums to 1",                                                    \
        .paper_cost =                                                          \
            "3 h w C^2 + 2 h w C k^2 multiply-adds and 3 C^2 + h w k^2 "       \
            "numbers of memory (NAT paper): the output projection is left "    \
            "out, heads are not counted in the weights' memory; ours: the "    \
            "two products as 2 FLOPs a multiply-add, exact pairs, no "         \
            "projections",                                                     \
        .cite = "hassani2023nat",                                              \
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE |         \
                  ATT_CAN_CAUSAL | (axes),                                     \
        .uses = ATT_USE(window) | ATT_USE(dilation) | ATT_USE(stride) |        \
                ATT_USE(causal) | ATT_USE(bias) | ATT_USE(scale),              \
        .reject = reject,                                                      \
        .parameters = parameters,                                              \
        .cost = cost,                                                          \
        .forward = forward,                                                    \
        .backward = backward,                                                  \
        .rows = rows,                                                          \
    }

ATT_MECHANISMS = {
    NA(ATT_IS_1D, "1d", "a sequence"),
    NA(ATT_IS_2D, "2d", "an image"),
    NA(ATT_IS_3D, "3d", "a volume"),
    { 0 },
};
