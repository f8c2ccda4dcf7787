/* aft_conv - AFT with a relative position bias of a small window, shared by the
 * channels of a head.
 *
 *     y_t = sigmoid(q_t) * sum_j exp(k_j + b_tj) v_j / sum_j exp(k_j + b_tj)
 *     b_tj = w_eff[j - t] inside the centred window, 0 elsewhere
 *     w_eff = gamma (w - mean w) / (std w + 1e-5) + beta      per head
 *                                                  [zhai2021aft, section 3.3]
 *
 * q, v [h][T][d], but one key per head and token: k [h][T][1].  A map of one row
 * is a sequence with w [h][s]; other maps have w [h][s][s].  s is the full
 * width, and the window is centred; a causal sequence has the taps
 * j - t = -(s-1) .. 0 instead.  std is the sample standard deviation (divisor
 * n - 1); a single tap, or taps that are all equal, yield w_eff = beta.
 */
#include "../reference.h"

#include <math.h>
#include <stdlib.h>

enum { W, GAMMA, BETA };

#define STD_EPS 1e-5

static bool causal(const att_problem *p)
{
    return att_at(&p->causal, 0, 0) || att_at(&p->causal, 1, 0);
}

static bool is_sequence(const att_problem *p)
{
    return att_height(p) == 1;
}

static int side(const att_problem *p)
{
    return p->window.n ? p->window.v[0] : 0;
}

static size_t taps(const att_problem *p)
{
    const size_t s = (size_t)side(p);
    return is_sequence(p) ? s : s * s;
}

static const char *reject(const att_problem *p)
{
    if (side(p) < 1) return "needs a window (its full width), such as 11";
    if (p->window.n > 1 && p->window.v[1] != side(p))
        return "window must be square";
    if (side(p) % 2 == 0 && !causal(p))
        return "window must be odd: it is centred on the token";
    if (side(p) > 1 << 14) return "window must be at most 16384";
    if (causal(p) && !is_sequence(p))
        return "is causal on sequences only: use a grid of one row";
    return NULL;
}

static void shape(const att_problem *p, enum att_slot slot, att_shape *out)
{
    (void)p;
    if (slot == ATT_K) out->channels = 1;
}

static int parameters(const att_problem *p, att_tensor *out)
{
    const int s = side(p);
    /* its scale cancels; a small one lets training change it quickly */
    out[W] = (att_tensor){ .name = "w",
                           .dims = is_sequence(p) ? 2 : 3,
                           .dim = { p->heads, s, s },
                           .init = ATT_INIT_NORMAL,
                           .std = 0.02 };
    out[GAMMA] = (att_tensor){ .name = "gamma", .dims = 1,
                               .dim = { p->heads } };
    out[BETA] = (att_tensor){ .name = "beta", .dims = 1, .dim = { p->heads } };
    return 3;
}

static int extras(const att_problem *p, att_tensor *out)
{
    const int s = side(p);
    out[0] = (att_tensor){ .name = "w_effective",
                           .dims = is_sequence(p) ? 2 : 3,
                           .dim = { p->heads, s, s } };
    return 1;
}

/* Pairs (t, tap) on an axis of this length whose key is on the map. */
static double axis_pairs(const att_problem *p, int length)
{
    double pairs = 0;
    for (int t = 0; t < length; t++) {
        const int r = side(p) / 2;
        const int first = causal(p) ? t - side(p) + 1 : t - r;
        const int last = causal(p) ? t : t + r;
        pairs += fmin(last, length - 1) - fmax(first, 0) + 1;
    }
    return pairs;
}

/* Sums over all (or all earlier) tokens of exp(k) v and exp(k), plus those of
 * the window with weight exp(w) - 1. */
static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double t = (double)att_tokens(p), d = p->head_dim;
    const double maps = (double)p->batch * p->heads, n = (double)taps(p);
    const double pairs = axis_pairs(p, att_width(p)) *
                         (is_sequence(p) ? 1 : axis_pairs(p, att_height(p)));
    const double visible = causal(p) ? t * (t + 1) / 2 : t * t;
    const double map = 4 * maps * t * d, key = 4 * maps * t;
    const double weights = 4 * p->heads * (n + 2);

    if (pass == ATT_FORWARD)
        *out = (att_cost){
            /* window products; squares and scaling of the taps */
            .mul_add = maps * (pairs * (d + 1) + 2 * n),
            /* k's maximum, minus it, sums; adding the window's; gate; taps'
             * sum, minus their mean, -1 */
            .add = maps * (t * (4 + 3 * d) + 3 * n),
            .mul = maps * 2 * t * d,
            .div = maps * (t * d + n + 2),
            .exp = maps * (t + t * d + n + 1),
            .read = 2 * map + key + weights,
            .write = map,
            .pairs = maps * visible,
        };
    else
        *out = (att_cost){
            .mul_add = maps * (pairs * (2 * d + 2) + 3 * t * d + 5 * n),
            .add = maps * (t * (4 + 4 * d) + 6 * n),
            .mul = maps * (t * (1 + 6 * d) + 3 * n),
            .div = maps * (t * d + 2 * n + 4),
            .exp = maps * (t + t * d + n + 1),
            .read = 3 * map + key + weights,
            .write = 2 * map + key + weights,
            .pairs = maps * visible,
        };
}

/* ---- reference ------------------------------------------------------------------- */

static double sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

/* One head's taps: w_eff, (w - mean) / (std + eps), std. */
typedef struct window {
    double *effective, *hat, std;
} window;

static void window_make(const att_ref *r, int h, window *x)
{
    const size_t n = taps(r->p);
    const double *w = r->param[W] + (size_t)h * n;
    double mean = 0, square = 0;
    for (size_t i = 0; i < n; i++) mean += w[i] / (double)n;
    for (size_t i = 0; i < n; i++) square += (w[i] - mean) * (w[i] - mean);
    x->std = n > 1 ? sqrt(square / (double)(n - 1)) : 0;
    for (size_t i = 0; i < n; i++) {
        x->hat[i] = n > 1 ? (w[i] - mean) / (x->std + STD_EPS) : 0;
        x->effective[i] = r->param[GAMMA][h] * x->hat[i] + r->param[BETA][h];
    }
    REF_COUNT(r, add, 3 * n);
    REF_COUNT(r, mul_add, 2 * n);
    REF_COUNT(r, div, n + 2);
    REF_COUNT(r, exp, n + 1);
}

static window window_new(const att_problem *p)
{
    return (window){ .effective = ref_new(taps(p)), .hat = ref_new(taps(p)) };
}

static void window_free(window *x)
{
    free(x->effective);
    free(x->hat);
}

/* Index of the tap that joins t and j, or -1. */
static long tap(const att_problem *p, size_t t, size_t j)
{
    const long width = att_width(p), s = side(p);
    const long dy = (long)j / width - (long)t / width;
    const long dx = (long)j % width - (long)t % width;
    if (causal(p)) return dx > -s && dx <= 0 ? dx + s - 1 : -1;
    if (labs(dy) > s / 2 || labs(dx) > s / 2) return -1;
    return is_sequence(p) ? dx + s / 2 : (dy + s / 2) * s + dx + s / 2;
}

static size_t seen(const att_problem *p, size_t t)
{
    return causal(p) ? t + 1 : att_tokens(p);
}

/* softmax_j(k_j + b_tj), and 0 for tokens that t does not see. */
static void weights(const att_ref *r, const window *x, int h, size_t t,
                    double *a)
{
    const size_t n = att_tokens(r->p);
    const double *k = r->k + (size_t)h * n;
    double max = -INFINITY, sum = 0;
    for (size_t j = 0; j < n; j++) a[j] = 0;
    for (size_t j = 0; j < seen(r->p, t); j++) {
        const long i = tap(r->p, t, j);
        a[j] = k[j] + (i >= 0 ? x->effective[i] : 0);
        max = fmax(max, a[j]);
        if (i >= 0) REF_COUNT(r, mul_add, r->p->head_dim + 1);
    }
    for (size_t j = 0; j < seen(r->p, t); j++) sum += a[j] = exp(a[j] - max);
    for (size_t j = 0; j < seen(r->p, t); j++) a[j] /= sum;
    REF_COUNT(r, pairs, seen(r->p, t));
}

static double mean(const att_ref *r, const double *a, int h, size_t t, size_t c)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    double m = 0;
    for (size_t j = 0; j < seen(r->p, t); j++)
        m += a[j] * r->v[((size_t)h * n + j) * d + c];
    return m;
}

static void forward(const att_ref *r)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    window x = window_new(r->p);
    double *a = ref_new(n);
    for (int h = 0; h < r->p->heads; h++) {
        window_make(r, h, &x);
        for (size_t i = 0; r->extra[0] && i < taps(r->p); i++)
            r->extra[0][(size_t)h * taps(r->p) + i] = x.effective[i];
        for (size_t t = 0; t < n; t++) {
            const size_t at = ((size_t)h * n + t) * d;
            weights(r, &x, h, t, a);
            for (size_t c = 0; c < d; c++)
                r->o[at + c] = sigmoid(r->q[at + c]) * mean(r, a, h, t, c);
            REF_COUNT(r, add, 4 + 3 * d);
            REF_COUNT(r, mul, 2 * d);
            REF_COUNT(r, div, d);
            REF_COUNT(r, exp, 1 + d);
        }
    }
    free(a);
    window_free(&x);
}

/* From the gradient of w_eff to those of w, gamma and beta. */
static void window_backward(const att_ref *r, const window *x, int h,
                            const double *dw)
{
    const size_t n = taps(r->p);
    double sum = 0, along = 0;
    for (size_t i = 0; i < n; i++) {
        sum += dw[i];
        along += dw[i] * x->hat[i];
    }
    if (r->dparam[BETA]) r->dparam[BETA][h] += sum;
    if (r->dparam[GAMMA]) r->dparam[GAMMA][h] += along;
    if (!r->dparam[W] || n == 1) return;
    /* the standard deviation of equal taps has no derivative: it is taken as
     * constant there */
    const double std = x->std + STD_EPS;
    const double share =
        x->std > 0 ? along * std / ((double)(n - 1) * x->std) : 0;
    for (size_t i = 0; i < n; i++)
        r->dparam[W][(size_t)h * n + i] +=
            r->param[GAMMA][h] / std *
            (dw[i] - sum / (double)n - x->hat[i] * share);
}

static void backward(const att_ref *r)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    window x = window_new(r->p);
    double *a = ref_new(n), *dw = ref_new(taps(r->p));
    for (int h = 0; h < r->p->heads; h++) {
        window_make(r, h, &x);
        for (size_t i = 0; i < taps(r->p); i++) dw[i] = 0;
        for (size_t t = 0; t < n; t++) {
            weights(r, &x, h, t, a);
            for (size_t c = 0; c < d; c++) {
                const size_t at = ((size_t)h * n + t) * d + c;
                const double m = mean(r, a, h, t, c), g = r->dout[at];
                const double gate = sigmoid(r->q[at]);
                if (r->dq) r->dq[at] += g * m * gate * (1 - gate);
                for (size_t j = 0; j < seen(r->p, t); j++) {
                    const size_t key = (size_t)h * n + j;
                    const double dv = a[j] * g * gate;
                    const double de = dv * (r->v[key * d + c] - m);
                    const long i = tap(r->p, t, j);
                    if (r->dv) r->dv[key * d + c] += dv;
                    if (r->dk) r->dk[key] += de;
                    if (i >= 0) dw[i] += de;
                }
            }
        }
        window_backward(r, &x, h, dw);
    }
    free(dw);
    free(a);
    window_free(&x);
}

static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *a)
{
    (void)ch, (void)part;
    window x = window_new(r->p);
    window_make(r, h, &x);
    for (size_t t = i0; t < i1; t++)
        weights(r, &x, h, t, a + (t - i0) * att_tokens(r->p));
    window_free(&x);
}

static void affine(const att_ref *r, int h, int ch, size_t i, double *gain,
                   double *offset)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    *gain = sigmoid(r->q[((size_t)h * n + i) * d + (size_t)ch]);
    *offset = 0;
}

ATT_MECHANISMS = {
    {
        .name = "aft_conv",
        .family = "aft",
        .brief = "AFT with a convolutional position bias, one key per head",
        .formula = "y_t = sigmoid(q_t) * [conv(exp(k) v, exp(w) - 1) + sum_j "
                   "exp(k_j) v_j] / [conv(exp(k), exp(w) - 1) + sum_j "
                   "exp(k_j)]\n"
                   "w := gamma (w - mean w) / (std w + 1e-5) + beta per head; "
                   "window is the full width; k [h][T][1]",
        .map = "the weights softmax_j(k_j + w(j - t)) of a head, shared by its "
               "channels; every row sums to 1; the gate sigmoid(q) is not in "
               "it",
        .paper_cost = "time O(T s d), space O(T d); ours: 2 (d + 1) FLOPs for "
                      "each pair of a token and a tap on the map, with d "
                      "channels per head, plus sums over all tokens",
        .cite = "zhai2021aft",
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE |
                  ATT_GATED | ATT_CAN_CAUSAL | ATT_IS_1D | ATT_IS_2D,
        .uses = ATT_USE(window) | ATT_USE(causal),
        .reject = reject,
        .shape = shape,
        .parameters = parameters,
        .extras = extras,
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
        .affine = affine,
    },
    { 0 },
};
