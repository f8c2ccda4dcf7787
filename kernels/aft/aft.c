/* aft - attention without a dot product: AFT-full, AFT-local, AFT-simple.
 *
 *     y_t = sigmoid(q_t) * m_t,
 *     m_t = sum_j exp(k_j + b_tj) v_j / sum_j exp(k_j + b_tj)   per feature
 *                                                  [zhai2021aft, eq. 2 and 3]
 *
 * with j over all tokens, or j <= t in raster order when causal.  The position
 * bias b is w (full); w where |t - j| < window on every grid axis and 0, that is
 * weight exp(0), elsewhere (local); 0 everywhere (simple).  w is a T x T matrix
 * or, with factor = F, the product of wu [T][F] and wv [T][F].  There is no
 * scale and no eps.
 */
#include "../reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { W, WU, WV };

/* Whether b_tj is learned; where it is not, it is 0. */
typedef bool kept_fn(const att_problem *p, size_t t, size_t j);

static bool kept_full(const att_problem *p, size_t t, size_t j)
{
    (void)p, (void)t, (void)j;
    return true;
}

static bool kept_local(const att_problem *p, size_t t, size_t j)
{
    for (int a = p->grid.n - 1; a >= 0; a--) {
        const size_t side = (size_t)p->grid.v[a];
        const long gap = labs((long)(t % side) - (long)(j % side));
        if (gap >= att_at(&p->window, a, 0)) return false;
        t /= side;
        j /= side;
    }
    return true;
}

static bool kept_simple(const att_problem *p, size_t t, size_t j)
{
    (void)p, (void)t, (void)j;
    return false;
}

static bool causal(const att_problem *p)
{
    return att_at(&p->causal, 0, 0);
}

static size_t seen(const att_problem *p, size_t t)
{
    return causal(p) ? t + 1 : att_tokens(p);
}

static const char *reject(const att_problem *p)
{
    for (int a = 1; a < p->causal.n; a++)
        if (!p->causal.v[a] != !p->causal.v[0])
            return "causal follows the raster order of the tokens: use one "
                   "value, causal=1";
    return NULL;
}

static int parameters(const att_problem *p, att_tensor *out)
{
    const int t = (int)att_tokens(p), f = p->factor;
    for (int i = W; i <= WV; i++)
        out[i] = (att_tensor){ .dims = 1, .init = ATT_INIT_NORMAL,
                               .std = 0.01 };
    out[W].name = "w";
    out[WU].name = "wu";
    out[WV].name = "wv";
    out[W].dims = out[WU].dims = out[WV].dims = 1;
    if (f == 0) {
        out[W].dims = 2;
        out[W].logit = true;
        out[W].dim[0] = out[W].dim[1] = t;
        return 3;
    }
    for (int i = WU; i <= WV; i++) {
        out[i].dims = 2;
        out[i].dim[0] = t;
        out[i].dim[1] = f;
    }
    return 3;
}

/* ---- cost ------------------------------------------------------------------------- */

/* Pairs (t, j) with a learned bias: per axis of length L, L (2s-1) - s (s-1),
 * s = min(window, L).  The relation is symmetric, so that causal keeps the
 * diagonal and half of the rest. */
static double learned_pairs(const att_problem *p, kept_fn *kept)
{
    double pairs = 1, tokens = (double)att_tokens(p);
    if (kept == kept_simple) return 0;
    for (int a = 0; a < p->grid.n; a++) {
        const double side = p->grid.v[a];
        const double s = kept == kept_full
                             ? side
                             : fmin(att_at(&p->window, a, 0), side);
        pairs *= s > 0 ? side * (2 * s - 1) - s * (s - 1) : 0;
    }
    return causal(p) && pairs > 0 ? (pairs + tokens) / 2 : pairs;
}

/* The exponentials factorise, exp(k + w) = exp(k) exp(w), so T D + pairs of them
 * are needed (plus the gate's) and the sums over j are two matrix products.
 * Where pairs without a bias exist, they enter through the sums over all (or all
 * earlier) tokens of exp(k) v and exp(k), and the learned pairs with
 * exp(w) - 1. */
static void cost(const att_problem *p, kept_fn *kept, enum att_pass pass,
                 att_cost *out)
{
    const double b = p->batch, t = (double)att_tokens(p), d = p->head_dim;
    const double pairs = learned_pairs(p, kept), f = p->factor;
    const bool sums = kept != kept_full; /* of unbiased tokens */
    const double visible = causal(p) ? t * (t + 1) / 2 : t * t;
    const double weights = pairs > 0 ? 4 * (f ? 2 * t * f : pairs) : 0;
    const double map = 4 * b * t * d;

    if (pass == ATT_FORWARD)
        *out = (att_cost){
            .mul_add = b * pairs * (2 * d + f),
            /* maximum, minus it, -1; then k's; the sums; the gate's 1 + e */
            .add = b * (pairs * (2 + sums) + t * d * (2 + 4 * sums + 1)),
            .mul = b * 2 * t * d, /* exp(k) v; den (1 + e)                  */
            .div = b * t * d,
            .exp = b * (pairs + 2 * t * d),
            .read = 3 * map + weights,
            .write = map,
            .pairs = b * visible,
        };
    else /* E'p, E'(p m), p (X v)', (p m) X': four products */
        *out = (att_cost){
            .mul_add = b * pairs * (4 * d + 3 * f) + b * 2 * t * d,
            .add = b * (pairs * (3 + sums) + t * d * (3 + 4 * sums)),
            .mul = b * (pairs + 6 * t * d),
            .div = b * t * d,
            .exp = b * (pairs + 2 * t * d),
            .read = 4 * map + weights,
            .write = 3 * map + weights,
            .pairs = b * visible,
        };
}

/* ---- reference ----------------------------------------------------------------------- */

static double sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static double bias(const att_ref *r, kept_fn *kept, size_t t, size_t j)
{
    const size_t n = att_tokens(r->p), f = (size_t)r->p->factor;
    if (!kept(r->p, t, j)) return 0;
    REF_COUNT(r, mul_add, f);
    REF_COUNT(r, exp, 1);
    REF_COUNT(r, add, kept == kept_full ? 2 : 3);
    REF_COUNT(r, mul_add, 2 * r->p->head_dim);
    if (f) return ref_dot(r->param[WU] + t * f, r->param[WV] + j * f, f);
    return r->param[W][t * n + j];
}

/* b_tj of the tokens that t sees. */
static void bias_row(const att_ref *r, kept_fn *kept, size_t t, double *b)
{
    for (size_t j = 0; j < seen(r->p, t); j++) b[j] = bias(r, kept, t, j);
    REF_COUNT(r, pairs, seen(r->p, t));
}

/* softmax_j(k_jf + b_j), and 0 for tokens that t does not see or that a bias of
 * -inf hides; those of +inf share the row. */
static void weights(const att_ref *r, const double *b, size_t t, size_t f,
                    double *a)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const size_t end = seen(r->p, t);
    double max = -INFINITY, sum = 0;
    for (size_t j = 0; j < end; j++) max = fmax(max, r->k[j * d + f] + b[j]);
    for (size_t j = 0; j < end; j++) {
        const double s = r->k[j * d + f] + b[j];
        sum += a[j] = isinf(max) ? max > 0 && s == max : exp(s - max);
    }
    for (size_t j = 0; j < end; j++) a[j] /= sum > 0 ? sum : 1;
    for (size_t j = end; j < n; j++) a[j] = 0;
}

/* m_tf. */
static double mean(const att_ref *r, const double *a, size_t t, size_t f)
{
    const size_t d = (size_t)r->p->head_dim;
    double m = 0;
    for (size_t j = 0; j < seen(r->p, t); j++) m += a[j] * r->v[j * d + f];
    return m;
}

static void forward(const att_ref *r, kept_fn *kept)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    double *b = ref_new(n), *a = ref_new(n);
    for (size_t t = 0; t < n; t++) {
        bias_row(r, kept, t, b);
        for (size_t f = 0; f < d; f++) {
            weights(r, b, t, f, a);
            r->o[t * d + f] = sigmoid(r->q[t * d + f]) * mean(r, a, t, f);
            /* exp(k_tf), its product with v, its sums; gate and quotient */
            REF_COUNT(r, exp, 2);
            REF_COUNT(r, add, kept == kept_full ? 3 : 7);
            REF_COUNT(r, mul, 2);
            REF_COUNT(r, div, 1);
        }
    }
    free(a);
    free(b);
}

/* Adds to the gradient of b_tj. */
static void bias_gradient(const att_ref *r, kept_fn *kept, size_t t, size_t j,
                          double db)
{
    const size_t n = att_tokens(r->p), f = (size_t)r->p->factor;
    if (!kept(r->p, t, j)) return;
    if (r->dparam[W]) r->dparam[W][t * n + j] += db;
    for (size_t c = 0; c < f; c++) {
        if (r->dparam[WU])
            r->dparam[WU][t * f + c] += db * r->param[WV][j * f + c];
        if (r->dparam[WV])
            r->dparam[WV][j * f + c] += db * r->param[WU][t * f + c];
    }
}

/* With G = g sigmoid(q): dv_j = a_j G, d(k_j + b_tj) = a_j G (v_j - m_t). */
static void backward(const att_ref *r, kept_fn *kept)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    double *b = ref_new(n), *a = ref_new(n);
    for (size_t t = 0; t < n; t++) {
        bias_row(r, kept, t, b);
        for (size_t f = 0; f < d; f++) {
            weights(r, b, t, f, a);
            const double m = mean(r, a, t, f), g = r->dout[t * d + f];
            const double gate = sigmoid(r->q[t * d + f]);
            if (r->dq) r->dq[t * d + f] += g * m * gate * (1 - gate);
            for (size_t j = 0; j < seen(r->p, t); j++) {
                const double de = a[j] * g * gate * (r->v[j * d + f] - m);
                if (r->dv) r->dv[j * d + f] += a[j] * g * gate;
                if (r->dk) r->dk[j * d + f] += de;
                bias_gradient(r, kept, t, j, de);
            }
        }
    }
    free(a);
    free(b);
}

static void rows(const att_ref *r, kept_fn *kept, int ch, size_t i0, size_t i1,
                 double *a)
{
    const size_t n = att_tokens(r->p);
    double *b = ref_new(n);
    for (size_t t = i0; t < i1; t++) {
        bias_row(r, kept, t, b);
        weights(r, b, t, (size_t)ch, a + (t - i0) * n);
    }
    free(b);
}

static void affine(const att_ref *r, int h, int ch, size_t i, double *gain,
                   double *offset)
{
    (void)h;
    *gain = sigmoid(r->q[i * (size_t)r->p->head_dim + (size_t)ch]);
    *offset = 0;
}

/* ---- the three ------------------------------------------------------------------------- */

#define STAMP(kind)                                                            \
    static void cost_##kind(const att_problem *p, enum att_pass pass,          \
                            att_cost *out)                                     \
    {                                                                          \
        cost(p, kept_##kind, pass, out);                                       \
    }                                                                          \
    static void forward_##kind(const att_ref *r)                               \
    {                                                                          \
        forward(r, kept_##kind);                                               \
    }                                                                          \
    static void backward_##kind(const att_ref *r)                              \
    {                                                                          \
        backward(r, kept_##kind);                                              \
    }                                                                          \
    static void rows_##kind(const att_ref *r, int h, int ch,                   \
                            enum att_part part, size_t i0, size_t i1,          \
                            double *a)                                         \
    {                                                                          \
        (void)h, (void)part;                                                   \
        rows(r, kept_##kind, ch, i0, i1, a);                                   \
    }
STAMP(full)
STAMP(local)
STAMP(simple)
#undef STAMP

#define TRAITS                                                                 \
    (ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE | ATT_PER_CHANNEL |    \
     ATT_GATED | ATT_CAN_CAUSAL | ATT_ONE_WIDTH)
#define MAP                                                                    \
    "the weights softmax_j(k_jf + b_tj) of one feature f (one map per "        \
    "feature; every row sums to 1); the gate sigmoid(q_tf) is not in it and "  \
    "multiplies row t of the output"

ATT_MECHANISMS = {
    {
        .name = "aft_full",
        .family = "aft",
        .brief = "attention-free transformer, learned bias of every pair",
        .formula = "y_t = sigmoid(q_t) * sum_j exp(k_j + w_tj) v_j / "
                   "sum_j exp(k_j + w_tj)   per feature\n"
                   "w dense [T][T], or wu wv' with factor = F columns",
        .map = MAP,
        .paper_cost = "time O(T^2 d), space O(T d) (w itself not counted); "
                      "ours: 4 T^2 D FLOPs for the two products plus T^2 + "
                      "2 T D exponentials, + 2 T^2 F if w is factorised",
        .cite = "zhai2021aft",
        .traits = TRAITS,
        .uses = ATT_USE(causal) | ATT_USE(factor),
        .reject = reject,
        .parameters = parameters,
        .cost = cost_full,
        .forward = forward_full,
        .backward = backward_full,
        .rows = rows_full,
        .affine = affine,
    },
    {
        .name = "aft_local",
        .family = "aft",
        .brief = "AFT with a learned bias near the diagonal, 0 elsewhere",
        .formula = "aft_full with b_tj = w_tj if |t - j| < window on every "
                   "axis, else 0 (still attended)\n"
                   "window is one-sided: 0 is aft_simple, >= T is aft_full",
        .map = MAP,
        .paper_cost = "time O(T s d), space O(T d); ours: 4 D FLOPs for each "
                      "pair inside the window, T (2s-1) - s (s-1) of them on "
                      "a sequence, plus sums over all tokens",
        .cite = "zhai2021aft",
        .traits = TRAITS,
        .uses = ATT_USE(causal) | ATT_USE(factor) | ATT_USE(window),
        .reject = reject,
        .parameters = parameters,
        .cost = cost_local,
        .forward = forward_local,
        .backward = backward_local,
        .rows = rows_local,
        .affine = affine,
    },
    {
        .name = "aft_simple",
        .family = "aft",
        .brief = "AFT without position bias: one context for all tokens",
        .formula = "y_t = sigmoid(q_t) * sum_j exp(k_j) v_j / sum_j exp(k_j)"
                   "   per feature",
        .map = MAP "; all rows are equal (rank 1) unless causal",
        .paper_cost = "time and space O(T d); ours: two exponentials and "
                      "about 11 other FLOPs per token and feature",
        .cite = "zhai2021aft",
        .traits = TRAITS,
        .uses = ATT_USE(causal),
        .reject = reject,
        .cost = cost_simple,
        .forward = forward_simple,
        .backward = backward_simple,
        .rows = rows_simple,
        .affine = affine,
    },
    { 0 },
};
