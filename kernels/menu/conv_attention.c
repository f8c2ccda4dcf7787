/* conv_attention - attention on convolved keys and values, or queries.
 *
 * A filter is a depthwise cross-correlation along the raster order of the tokens
 * without padding: weights [h][d][length], bias [h][d], so that N tokens become
 * M = floor((N - length) / stride) + 1.
 *
 *     conv_kv     k, v := filters of k and of v;  o = softmax(q k'/sqrt d) v
 *     conv_q      q := filter of q;  o = softmax(q k'/sqrt d) v, M rows, which
 *                 are brought back to N: nearest (row floor(i M / N)) or linear
 *                 (at (i + 1/2) M / N - 1/2, clamped to the ends)
 *     multiscale  one to four such branches (side k or q), each with a filter of
 *                 its own length and stride, merged: side by side (channels
 *                 branch * d + c), added, or added with weights softmax(alpha)
 */
#include "../reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Parameters of branch b start at FOUR * b; alpha follows the last. */
enum { FILTER = 3 }; /* length of the one filter, unless given */
enum { WK, BK, WV, BV, FOUR, WQ = WK, BQ = BK, ALPHA = FOUR * ATT_AXES };

static int branches(const att_problem *p)
{
    return p->conv.n ? p->conv.n : 1;
}

static size_t length(const att_problem *p, int b)
{
    return (size_t)att_at(&p->conv, b, FILTER);
}

static size_t stride(const att_problem *p, int b)
{
    return (size_t)att_at(&p->stride, b, 1);
}

/* Tokens that the filter of branch b leaves. */
static size_t shortened(const att_problem *p, int b)
{
    return (att_tokens(p) - length(p, b)) / stride(p, b) + 1;
}

static const char *reject_filters(const att_problem *p)
{
    if (p->stride.n > branches(p))
        return "stride has more entries than conv has filters";
    for (int b = 0; b < branches(p); b++) {
        if (att_at(&p->conv, b, FILTER) < 1)
            return "filters must be at least 1 long";
        if (stride(p, b) < 1) return "stride must be at least 1";
        if (length(p, b) > att_tokens(p))
            return "a filter is longer than the sequence";
    }
    return NULL;
}

static const char *reject_one(const att_problem *p)
{
    if (branches(p) > 1) return "takes one filter; see multiscale for more";
    return reject_filters(p);
}

/* ---- parameters --------------------------------------------------------------------- */

static att_tensor weights_tensor(const att_problem *p, const char *name, int b)
{
    return (att_tensor){ .name = name,
                         .dims = 3,
                         .dim = { p->heads, p->head_dim, (int)length(p, b) },
                         .init = ATT_INIT_NORMAL,
                         .std = 1 / sqrt((double)length(p, b)) };
}

static att_tensor bias_tensor(const att_problem *p, const char *name)
{
    return (att_tensor){ .name = name, .dims = 2,
                         .dim = { p->heads, p->head_dim } };
}

static int parameters_kv(const att_problem *p, att_tensor *out)
{
    out[WK] = weights_tensor(p, "wk", 0);
    out[BK] = bias_tensor(p, "bk");
    out[WV] = weights_tensor(p, "wv", 0);
    out[BV] = bias_tensor(p, "bv");
    return 4;
}

static int parameters_q(const att_problem *p, att_tensor *out)
{
    out[WQ] = weights_tensor(p, "wq", 0);
    out[BQ] = bias_tensor(p, "bq");
    return 2;
}

static int parameters_multi(const att_problem *p, att_tensor *out)
{
    static const char *const names[2][ATT_AXES][FOUR] = {
        [ATT_SIDE_K] = { { "wk0", "bk0", "wv0", "bv0" },
                         { "wk1", "bk1", "wv1", "bv1" },
                         { "wk2", "bk2", "wv2", "bv2" },
                         { "wk3", "bk3", "wv3", "bv3" } },
        [ATT_SIDE_Q] = { { "wq0", "bq0", "wv0", "bv0" },
                         { "wq1", "bq1", "wv1", "bv1" },
                         { "wq2", "bq2", "wv2", "bv2" },
                         { "wq3", "bq3", "wv3", "bv3" } },
    };
    for (int i = 0; i < ALPHA; i++) {
        const char *name = names[p->side][i / FOUR][i % FOUR];
        const bool absent = i / FOUR >= branches(p) ||
                            (p->side == ATT_SIDE_Q && i % FOUR >= WV);
        if (absent) out[i] = (att_tensor){ .name = name, .dims = 1 };
        else if (i % FOUR == WK || i % FOUR == WV)
            out[i] = weights_tensor(p, name, i / FOUR);
        else out[i] = bias_tensor(p, name);
    }
    out[ALPHA] = (att_tensor){ .name = "alpha", .dims = 1 };
    if (p->merge == ATT_MERGE_WEIGHTED) out[ALPHA].dim[0] = branches(p);
    return ALPHA + 1;
}

static void shape_multi(const att_problem *p, enum att_slot slot, att_shape *out)
{
    if (slot == ATT_O && p->merge == ATT_MERGE_CONCAT)
        out->channels = branches(p) * p->head_dim;
}

/* ---- cost ------------------------------------------------------------------------------ */

/* One branch, without traffic. */
static void cost_branch(const att_problem *p, int side, int b,
                        enum att_pass pass, att_cost *out)
{
    const double maps = (double)p->batch * p->heads, d = p->head_dim;
    const double n = (double)att_tokens(p), m = (double)shortened(p, b);
    const double taps = maps * m * d * (double)length(p, b);
    const bool back = pass == ATT_BACKWARD;
    att_problem inner = *p;
    inner.tokens_k = 0;
    ref_attend_cost(&inner, maps * n * m, false, pass, out);
    /* a filter costs a product per tap, its gradients two more */
    out->mul_add += taps * (side == ATT_SIDE_K ? 2 : 1) * (back ? 3 : 1);
    if (side == ATT_SIDE_K) return;
    if (!back) out->div -= maps * (n - m) * d; /* M rows, not N, divide */
    if (p->upsample == ATT_UP_NEAREST) {
        if (back) out->add += maps * n * d;
        return;
    }
    out->mul += maps * n * d;
    out->mul_add += maps * n * d;
}

static void traffic(const att_problem *p, double parameters, double wide,
                    enum att_pass pass, att_cost *out)
{
    const double map =
        4.0 * p->batch * p->heads * (double)att_tokens(p) * p->head_dim;
    const bool back = pass == ATT_BACKWARD;
    out->read = 3 * map + back * wide * map + 4 * parameters;
    out->write = back ? 3 * map + 4 * parameters : wide * map;
}

/* Learned values of branch b. */
static double learned(const att_problem *p, int side, int b)
{
    return (side == ATT_SIDE_K ? 2.0 : 1.0) * p->heads * p->head_dim *
           ((double)length(p, b) + 1);
}

static void cost_kv(const att_problem *p, enum att_pass pass, att_cost *out)
{
    cost_branch(p, ATT_SIDE_K, 0, pass, out);
    traffic(p, learned(p, ATT_SIDE_K, 0), 1, pass, out);
}

static void cost_q(const att_problem *p, enum att_pass pass, att_cost *out)
{
    cost_branch(p, ATT_SIDE_Q, 0, pass, out);
    traffic(p, learned(p, ATT_SIDE_Q, 0), 1, pass, out);
}

static void cost_multi(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double maps = (double)p->batch * p->heads, nb = branches(p);
    const double all = maps * (double)att_tokens(p) * p->head_dim;
    const bool back = pass == ATT_BACKWARD;
    double values = 0;
    att_cost sum = { 0 };
    for (int b = 0; b < branches(p); b++) {
        att_cost one;
        cost_branch(p, p->side, b, pass, &one);
        sum.mul_add += one.mul_add;
        sum.add += one.add;
        sum.mul += one.mul;
        sum.div += one.div;
        sum.exp += one.exp;
        sum.pairs += one.pairs;
        values += learned(p, p->side, b);
    }
    if (p->merge == ATT_MERGE_ADD && !back) sum.add += nb * all;
    if (p->merge == ATT_MERGE_WEIGHTED) {
        sum.mul_add += nb * all;
        sum.mul += back * nb * all;
        sum.add += p->batch * 3 * nb;
        sum.exp += p->batch * nb;
        sum.div += p->batch * nb;
        values += nb;
    }
    *out = sum;
    traffic(p, values, p->merge == ATT_MERGE_CONCAT ? nb : 1, pass, out);
}

/* ---- filters ---------------------------------------------------------------------------- */

/* y [h][m][d] = w * x + b; parameters w and w + 1 of branch b. */
static double *filter(const att_ref *r, int b, int w, const double *x)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const size_t m = shortened(r->p, b), ks = length(r->p, b);
    double *y = ref_new((size_t)r->p->heads * m * d);
    for (size_t h = 0; h < (size_t)r->p->heads; h++)
        for (size_t i = 0; i < m; i++)
            for (size_t c = 0; c < d; c++) {
                double sum = r->param[w + 1][h * d + c];
                for (size_t t = 0; t < ks; t++)
                    sum += r->param[w][(h * d + c) * ks + t] *
                           x[(h * n + i * stride(r->p, b) + t) * d + c];
                y[(h * m + i) * d + c] = sum;
            }
    REF_COUNT(r, mul_add, (size_t)r->p->heads * m * d * ks);
    return y;
}

static void filter_backward(const att_ref *r, int b, int w, const double *x,
                            const double *dy, double *dx)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const size_t m = shortened(r->p, b), ks = length(r->p, b);
    for (size_t h = 0; h < (size_t)r->p->heads; h++)
        for (size_t i = 0; i < m; i++)
            for (size_t c = 0; c < d; c++) {
                const double g = dy[(h * m + i) * d + c];
                if (r->dparam[w + 1]) r->dparam[w + 1][h * d + c] += g;
                for (size_t t = 0; t < ks; t++) {
                    const size_t tap = (h * d + c) * ks + t;
                    const size_t at =
                        (h * n + i * stride(r->p, b) + t) * d + c;
                    if (r->dparam[w]) r->dparam[w][tap] += g * x[at];
                    if (dx) dx[at] += g * r->param[w][tap];
                }
            }
}

/* ---- back to N rows ------------------------------------------------------------------------ */

/* Row i of N is (1 - t) row lo + t row hi of M. */
typedef struct blend {
    size_t lo, hi;
    double t;
} blend;

static blend blend_of(const att_problem *p, size_t i, size_t m)
{
    const size_t n = att_tokens(p);
    if (p->upsample == ATT_UP_NEAREST)
        return (blend){ .lo = i * m / n, .hi = i * m / n };
    const double x =
        fmax(((double)i + 0.5) * (double)m / (double)n - 0.5, 0);
    const size_t lo = (size_t)x < m - 1 ? (size_t)x : m - 1;
    const size_t hi = lo + 1 < m ? lo + 1 : lo;
    return (blend){ lo, hi, x - (double)lo };
}

static void upsample(const att_ref *r, const double *y, size_t m, double *o)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    for (size_t h = 0; h < (size_t)r->p->heads; h++)
        for (size_t i = 0; i < n; i++) {
            const blend x = blend_of(r->p, i, m);
            for (size_t c = 0; c < d; c++)
                o[(h * n + i) * d + c] =
                    (1 - x.t) * y[(h * m + x.lo) * d + c] +
                    x.t * y[(h * m + x.hi) * d + c];
        }
    if (r->p->upsample == ATT_UP_NEAREST) return;
    REF_COUNT(r, mul, (size_t)r->p->heads * n * d);
    REF_COUNT(r, mul_add, (size_t)r->p->heads * n * d);
}

static void upsample_backward(const att_ref *r, const double *g, size_t m,
                              double *dy)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    for (size_t h = 0; h < (size_t)r->p->heads; h++)
        for (size_t i = 0; i < n; i++) {
            const blend x = blend_of(r->p, i, m);
            for (size_t c = 0; c < d; c++) {
                const double at = g[(h * n + i) * d + c];
                dy[(h * m + x.lo) * d + c] += (1 - x.t) * at;
                dy[(h * m + x.hi) * d + c] += x.t * at;
            }
        }
}

/* ---- a branch --------------------------------------------------------------------------------- */

static size_t all_pairs(const att_ref *r, int h, size_t i, ref_pair *out)
{
    (void)h, (void)i;
    for (size_t j = 0; j < att_keys(r->p); j++)
        out[j] = (ref_pair){ .key = (ptrdiff_t)j };
    return att_keys(r->p);
}

static ref_visible dense(const att_problem *p)
{
    return (ref_visible){ .scale = 1 / sqrt(p->head_dim),
                          .most = att_keys(p),
                          .pairs = all_pairs };
}

/* The attention inside branch b: its problem, and a reference of that problem on
 * filtered tensors, which branch_free() releases. */
typedef struct branch {
    att_problem p;
    att_ref r;
    double *filtered[2]; /* k and v, or q                                   */
} branch;

static void branch_make(const att_ref *r, int side, int b, branch *x)
{
    const size_t m = shortened(r->p, b);
    *x = (branch){ .p = *r->p, .r = *r };
    x->r.p = &x->p;
    x->r.extra[0] = NULL;
    if (side == ATT_SIDE_K) {
        x->p.tokens_k = (int)m;
        x->filtered[0] = filter(r, b, FOUR * b + WK, r->k);
        x->filtered[1] = filter(r, b, FOUR * b + WV, r->v);
        x->r.k = x->filtered[0];
        x->r.v = x->filtered[1];
        return;
    }
    x->p.tokens_k = (int)att_tokens(r->p);
    x->p.grid = (att_list){ .n = 1, .v = { (int)m } };
    x->filtered[0] = filter(r, b, FOUR * b + WQ, r->q);
    x->r.q = x->filtered[0];
}

static void branch_free(branch *x)
{
    free(x->filtered[0]);
    free(x->filtered[1]);
}

/* o [h][N][d] of branch b. */
static void branch_forward(const att_ref *r, int side, int b, double *o)
{
    branch x;
    branch_make(r, side, b, &x);
    const ref_visible s = dense(&x.p);
    const size_t m = shortened(r->p, b);
    if (side == ATT_SIDE_K) {
        x.r.o = o;
        ref_attend(&x.r, &s);
    } else {
        x.r.o = ref_new((size_t)r->p->heads * m * (size_t)r->p->head_dim);
        ref_attend(&x.r, &s);
        upsample(r, x.r.o, m, o);
        free(x.r.o);
    }
    branch_free(&x);
}

/* Adds the gradients of branch b, given that of its output, g [h][N][d]. */
static void branch_backward(const att_ref *r, int side, int b, const double *g)
{
    branch x;
    branch_make(r, side, b, &x);
    const ref_visible s = dense(&x.p);
    const size_t m = shortened(r->p, b);
    const size_t inner = (size_t)r->p->heads * m * (size_t)r->p->head_dim;
    double *one = ref_new(inner), *two = ref_new(inner);
    if (side == ATT_SIDE_K) {
        x.r.dout = g;
        x.r.dk = one;
        x.r.dv = two;
        ref_attend_backward(&x.r, &s);
        filter_backward(r, b, FOUR * b + WK, r->k, one, r->dk);
        filter_backward(r, b, FOUR * b + WV, r->v, two, r->dv);
    } else {
        upsample_backward(r, g, m, two);
        x.r.dout = two;
        x.r.dq = one;
        ref_attend_backward(&x.r, &s);
        filter_backward(r, b, FOUR * b + WQ, r->q, one, r->dq);
    }
    free(two);
    free(one);
    branch_free(&x);
}

/* Rows [i0, i1) of the attention of branch b: N x M (side k) or, brought back
 * to N rows, N x N (side q). */
static void branch_rows(const att_ref *r, int side, int b, int h, size_t i0,
                        size_t i1, double *a)
{
    branch x;
    branch_make(r, side, b, &x);
    const ref_visible s = dense(&x.p);
    const size_t m = shortened(r->p, b), n = att_tokens(r->p);
    if (side == ATT_SIDE_K) ref_attend_rows(&x.r, &s, h, i0, i1, a);
    else {
        double *inner = ref_new(m * n);
        ref_attend_rows(&x.r, &s, h, 0, m, inner);
        for (size_t i = i0; i < i1; i++) {
            const blend y = blend_of(r->p, i, m);
            for (size_t j = 0; j < n; j++)
                a[(i - i0) * n + j] = (1 - y.t) * inner[y.lo * n + j] +
                                      y.t * inner[y.hi * n + j];
        }
        free(inner);
    }
    branch_free(&x);
}

/* ---- conv_kv, conv_q ------------------------------------------------------------------------------ */

static size_t columns_kv(const att_problem *p)
{
    return shortened(p, 0);
}

#define STAMP(name, which)                                                     \
    static void forward_##name(const att_ref *r)                               \
    {                                                                          \
        branch_forward(r, which, 0, r->o);                                     \
    }                                                                          \
    static void backward_##name(const att_ref *r)                              \
    {                                                                          \
        branch_backward(r, which, 0, r->dout);                                 \
    }                                                                          \
    static void rows_##name(const att_ref *r, int h, int ch,                   \
                            enum att_part part, size_t i0, size_t i1,          \
                            double *a)                                         \
    {                                                                          \
        (void)ch, (void)part;                                                  \
        branch_rows(r, which, 0, h, i0, i1, a);                                \
    }
STAMP(kv, ATT_SIDE_K)
STAMP(q, ATT_SIDE_Q)
#undef STAMP

/* ---- multiscale ----------------------------------------------------------------------------------------- */

/* softmax(alpha), or ones. */
static void shares(const att_ref *r, double *share)
{
    const int nb = branches(r->p);
    double max = -INFINITY, sum = 0;
    for (int b = 0; b < nb; b++) share[b] = 1;
    if (r->p->merge != ATT_MERGE_WEIGHTED) return;
    for (int b = 0; b < nb; b++) max = fmax(max, r->param[ALPHA][b]);
    for (int b = 0; b < nb; b++) sum += exp(r->param[ALPHA][b] - max);
    for (int b = 0; b < nb; b++)
        share[b] = exp(r->param[ALPHA][b] - max) / sum;
    REF_COUNT(r, add, 3 * nb);
    REF_COUNT(r, exp, nb);
    REF_COUNT(r, div, nb);
}

/* Index in o of element i of a branch's [h][N][d] output. */
static size_t merged(const att_problem *p, int b, size_t i)
{
    const size_t d = (size_t)p->head_dim, wide = (size_t)branches(p) * d;
    if (p->merge != ATT_MERGE_CONCAT) return i;
    return i / d * wide + (size_t)b * d + i % d;
}

static size_t branch_size(const att_problem *p)
{
    return (size_t)p->heads * att_tokens(p) * (size_t)p->head_dim;
}

static void forward_multi(const att_ref *r)
{
    const size_t n = branch_size(r->p);
    const bool concat = r->p->merge == ATT_MERGE_CONCAT;
    double share[ATT_AXES], *o = ref_new(n);
    shares(r, share);
    if (!concat) memset(r->o, 0, n * sizeof *r->o);
    for (int b = 0; b < branches(r->p); b++) {
        branch_forward(r, r->p->side, b, o);
        for (size_t i = 0; i < n; i++) {
            double *at = r->o + merged(r->p, b, i);
            *at = concat ? o[i] : *at + share[b] * o[i];
        }
        if (r->p->merge == ATT_MERGE_ADD) REF_COUNT(r, add, n);
        if (r->p->merge == ATT_MERGE_WEIGHTED) REF_COUNT(r, mul_add, n);
    }
    free(o);
}

/* dalpha_b = a_b (G_b - sum a G), G_b = <g, o_b>. */
static void backward_multi(const att_ref *r)
{
    const size_t n = branch_size(r->p);
    const int nb = branches(r->p);
    double share[ATT_AXES], along[ATT_AXES] = { 0 }, mean = 0;
    double *o = ref_new(n), *g = ref_new(n);
    shares(r, share);
    for (int b = 0; b < nb; b++) {
        for (size_t i = 0; i < n; i++)
            g[i] = share[b] * r->dout[merged(r->p, b, i)];
        branch_backward(r, r->p->side, b, g);
        if (!r->dparam[ALPHA]) continue;
        branch_forward(r, r->p->side, b, o);
        along[b] = ref_dot(r->dout, o, n);
        mean += share[b] * along[b];
    }
    for (int b = 0; r->dparam[ALPHA] && b < nb; b++)
        r->dparam[ALPHA][b] += share[b] * (along[b] - mean);
    free(g);
    free(o);
}

/* Adds `share` times the rows of branch b as they act on channel c of v. */
static void add_branch_rows(const att_ref *r, int b, int h, size_t c,
                            double share, size_t i0, size_t i1, double *a)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const size_t m = shortened(r->p, b), ks = length(r->p, b);
    const bool keys = r->p->side == ATT_SIDE_K;
    const size_t across = keys ? m : n;
    double *inner = ref_new((i1 - i0) * across);
    branch_rows(r, r->p->side, b, h, i0, i1, inner);
    const double *w =
        keys ? r->param[FOUR * b + WV] + ((size_t)h * d + c) * ks : NULL;
    for (size_t i = 0; i < i1 - i0; i++)
        for (size_t j = 0; j < across; j++) {
            const double x = share * inner[i * across + j];
            if (!keys) a[i * n + j] += x;
            for (size_t t = 0; keys && t < ks; t++)
                a[i * n + j * stride(r->p, b) + t] += x * w[t];
        }
    free(inner);
}

static void rows_multi(const att_ref *r, int h, int ch, enum att_part part,
                       size_t i0, size_t i1, double *a)
{
    const size_t d = (size_t)r->p->head_dim;
    double share[ATT_AXES];
    (void)part;
    shares(r, share);
    memset(a, 0, (i1 - i0) * att_tokens(r->p) * sizeof *a);
    for (int b = 0; b < branches(r->p); b++)
        if (r->p->merge != ATT_MERGE_CONCAT || (size_t)ch / d == (size_t)b)
            add_branch_rows(r, b, h, (size_t)ch % d, share[b], i0, i1, a);
}

#define USES (ATT_USE(conv) | ATT_USE(stride))

ATT_MECHANISMS = {
    {
        .name = "conv_kv",
        .family = "menu",
        .brief = "softmax attention to convolved keys and values",
        .formula = "k, v := depthwise conv along the sequence (length conv, 3 "
                   "unless given; stride, no padding), o = softmax(q k' / sqrt d) v",
        .map = "no N x N form: N x M, the weights of the M filtered tokens; "
               "rows sum to 1",
        .cite = "vaswani2017",
        .traits = ATT_ROWS_SUM_1 | ATT_NONNEGATIVE,
        .uses = USES,
        .reject = reject_one,
        .parameters = parameters_kv,
        .cost = cost_kv,
        .forward = forward_kv,
        .backward = backward_kv,
        .rows = rows_kv,
        .columns = columns_kv,
    },
    {
        .name = "conv_q",
        .family = "menu",
        .brief = "softmax attention of convolved queries, upsampled",
        .formula = "q := depthwise conv along the sequence (length conv, 3 "
                   "unless given; stride, no padding), o = U softmax(q k' / sqrt d) v,\n"
                   "U brings the rows back to N: linear or nearest",
        .map = "U A, N x N: the weights of the M filtered queries, brought "
               "back to N rows; rank at most M; rows sum to 1",
        .cite = "vaswani2017",
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE,
        .uses = USES | ATT_USE(upsample),
        .reject = reject_one,
        .parameters = parameters_q,
        .cost = cost_q,
        .forward = forward_q,
        .backward = backward_q,
        .rows = rows_q,
    },
    {
        .name = "multiscale",
        .family = "menu",
        .brief = "parallel branches with convolved keys or queries, merged",
        .formula = "branch b: conv_kv (side k) or conv_q (side q) with filter "
                   "conv_b (one of 3 unless given), stride_b\n"
                   "merge: concat (channels branch d + c), add, or weighted "
                   "by softmax(alpha)",
        .map = "N x N per output channel, with the filter of v in it: the "
               "(weighted) sum of the branches' matrices, or with concat that "
               "of the branch the channel belongs to; biases of v are not in "
               "it",
        .cite = "vaswani2017",
        .traits = ATT_PER_CHANNEL,
        .uses = USES | ATT_USE(upsample) | ATT_USE(side) | ATT_USE(merge),
        .reject = reject_filters,
        .shape = shape_multi,
        .parameters = parameters_multi,
        .cost = cost_multi,
        .forward = forward_multi,
        .backward = backward_multi,
        .rows = rows_multi,
    },
    { 0 },
};
