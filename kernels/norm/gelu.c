/* gelu - the Gaussian error linear unit between the two layers of an MLP.
 *
 *     erf:  x Phi(x),  Phi(x) = (1 + erf(x / sqrt 2)) / 2        [hendrycks2016]
 *     tanh: x (1 + tanh(0.7978846 (x + 0.044715 x^3))) / 2
 *           (0.7978846 stands for sqrt(2/pi): the digits decide the eighth place
 *           of a trained model's logits)
 *
 * It is here because a transformer spends visible time in it.  The kernel takes
 * erf from Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7): one exponential
 * and one division an element, which bound it.
 */
#include "../reference.h"

#include <math.h>

#include "../simd.h"

enum { ERF, TANH };

#define SQRT_2_PI 0.7978846
#define CUBIC     0.044715

static void shape(const att_problem *p, enum att_slot slot, att_shape *out)
{
    *out = (att_shape){ .heads = 1, .tokens = (int)att_tokens(p),
                        .channels = p->head_dim };
    if (slot == ATT_K || slot == ATT_V) *out = (att_shape){ 0 };
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double n = (double)p->batch * (double)att_tokens(p) * p->head_dim;
    const bool back = pass == ATT_BACKWARD;
    *out = (att_cost){ .mul = n * (p->gelu == TANH ? 6 : 3) * (1 + back),
                       .add = n * (p->gelu == TANH ? 2 : 1) * (1 + back),
                       .exp = n * (1 + back),
                       .read = 4 * n * (1 + back),
                       .write = 4 * n };
}

/* Value and derivative. */
static double gelu(const att_problem *p, double x, double *slope)
{
    if (p->gelu == ERF) {
        const double phi = 0.5 * (1 + erf(x * M_SQRT1_2));
        *slope = phi + x * exp(-0.5 * x * x) * 0.3989422804014327;
        return x * phi;
    }
    const double t = tanh(SQRT_2_PI * (x + CUBIC * x * x * x));
    *slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * SQRT_2_PI *
                                 (1 + 3 * CUBIC * x * x);
    return 0.5 * x * (1 + t);
}

static void reference_forward(const att_ref *r)
{
    double slope;
    const size_t n = att_tokens(r->p) * (size_t)r->p->head_dim;
    for (size_t i = 0; i < n; i++) {
        r->o[i] = gelu(r->p, r->q[i], &slope);
        REF_COUNT(r, mul, r->p->gelu == TANH ? 6 : 3);
        REF_COUNT(r, add, r->p->gelu == TANH ? 2 : 1);
        REF_COUNT(r, exp, 1);
    }
}

static void reference_backward(const att_ref *r)
{
    const size_t n = att_tokens(r->p) * (size_t)r->p->head_dim;
    for (size_t i = 0; r->dq && i < n; i++) {
        double slope;
        gelu(r->p, r->q[i], &slope);
        r->dq[i] += slope * r->dout[i];
    }
}

ATT_MECHANISMS = {
    {
        .name = "gelu",
        .family = "norm",
        .brief = "Gaussian error linear unit of the MLP",
        .formula = "x (1 + erf(x / sqrt 2)) / 2, or its tanh form",
        .map = "none: it does not mix tokens",
        .cite = "hendrycks2016gelu",
        .traits = ATT_NOT_ATTENTION,
        .uses = ATT_USE(gelu),
        .inputs = { "x" },
        .shape = shape,
        .cost = cost,
        .forward = reference_forward,
        .backward = reference_backward,
    },
    { 0 },
};

/* ---- kernel ----------------------------------------------------------------------- */

/* Phi(x), and phi(x) sqrt(2 pi) = e^(-x^2/2) in *bell. */
SIMD_INLINE vf normal_cdf(vf x, vf *bell)
{
    const vf z = v_abs(x) * 0.70710678f;
    const vf t = 1.0f / (1.0f + 0.3275911f * z);
    vf poly = t * 1.061405429f - 1.453152027f;
    poly = poly * t + 1.421413741f;
    poly = poly * t - 0.284496736f;
    poly = poly * t + 0.254829592f;
    *bell = v_exp(-z * z);
    const vf tail = 0.5f * poly * t * *bell; /* Phi(-|x|) */
    return v_select(x < v_zero(), tail, 1.0f - tail);
}

/* Value and, where wanted, derivative. */
SIMD_INLINE vf gelu_vector(int form, vf x, vf *slope)
{
    if (form == ERF) {
        vf bell;
        const vf phi = normal_cdf(x, &bell);
        *slope = phi + x * bell * 0.39894228f;
        return x * phi;
    }
    /* (1 + tanh u) / 2 = sigmoid(2 u) */
    const vf u = 2 * (float)SQRT_2_PI * (x + (float)CUBIC * x * x * x);
    const vf s = v_sigmoid(u);
    *slope = s + x * s * (1.0f - s) * (2 * (float)SQRT_2_PI) *
                     (1.0f + 3 * (float)CUBIC * x * x);
    return x * s;
}

/* y = gelu(x), or y = gelu'(x) g. */
static void map(const att_call *c, const float *g, float *y)
{
    const float *x = c->q;
    const size_t n = (size_t)c->p->batch * att_tokens(c->p) *
                     (size_t)c->p->head_dim;
    const size_t blocks = (n + VL - 1) / VL;
    const int form = c->p->gelu;

    #pragma omp parallel for num_threads(c->threads)
    for (size_t b = 0; b < blocks; b++) {
        const size_t i = b * VL, left = n - i < VL ? n - i : VL;
        vf slope, value = gelu_vector(form, v_load_n(x + i, left), &slope);
        if (g) value = slope * v_load_n(g + i, left);
        v_store_n(y + i, value, left);
    }
}

static void forward(const att_call *c)
{
    map(c, NULL, c->o);
}

static void backward(const att_call *c, const att_grad *g)
{
    if (g->dq) map(c, g->dout, g->dq);
}

/* The same element by element.  erf() and tanh() of the library take as long as
 * their argument wants; these take one exponential of any. */

/* 1 / (1 + e^-u); 0 where that is next to nothing. */
static double plain_sigmoid(double u)
{
    const double s = 1 / (1 + exp(-fmax(fmin(u, 87), -87)));
    return u > -87 ? s : 0;
}

/* Phi(x), and e^(-x^2/2) in *bell.  erfc(z), z >= 0, is t e^(-z^2 + P(t)) with
 * t = 1 / (1 + z / 2), relative error below 1.2e-7 [Press et al., erfcc]. */
static double plain_cdf(double x, double *bell)
{
    static const double p[] = { -1.26551223, 1.00002368,  0.37409196,
                                0.09678418,  -0.18628806, 0.27886807,
                                -1.13520398, 1.48851587,  -0.82215223,
                                0.17087277 };
    const double z = fabs(x) * M_SQRT1_2, t = 1 / (1 + 0.5 * z);
    double sum = 0;
    for (int i = 9; i >= 0; i--) sum = sum * t + p[i];
    const double e = exp(-fmin(z * z, 87));
    *bell = z * z < 87 ? e : 0;
    const double tail = 0.5 * t * *bell * exp(sum);
    return x < 0 ? tail : 1 - tail;
}

static double plain_gelu(int form, double x, double *slope)
{
    if (form == ERF) {
        double bell;
        const double phi = plain_cdf(x, &bell);
        *slope = phi + x * bell * 0.3989422804014327;
        return x * phi;
    }
    const double s =
        plain_sigmoid(2 * SQRT_2_PI * (x + CUBIC * x * x * x));
    *slope = s + x * s * (1 - s) * 2 * SQRT_2_PI * (1 + 3 * CUBIC * x * x);
    return x * s;
}

static void map_direct(const att_call *c, const float *g, float *y)
{
    const float *x = c->q;
    const size_t n = (size_t)c->p->batch * att_tokens(c->p) *
                     (size_t)c->p->head_dim;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t i = 0; i < n; i++) {
        double slope;
        const double value = plain_gelu(c->p->gelu, x[i], &slope);
        y[i] = (float)(g ? slope * g[i] : value);
    }
}

static void forward_direct(const att_call *c)
{
    map_direct(c, NULL, c->o);
}

static void backward_direct(const att_call *c, const att_grad *g)
{
    if (g->dq) map_direct(c, g->dout, g->dq);
}

ATT_KERNELS = {
    {
        .name = "gelu.direct",
        .mechanism = "gelu",
        .brief = "exponentials of the C library, one element at a time",
        .plain = true,
        .forward = forward_direct,
        .backward = backward_direct,
    },
    {
        .name = "gelu.fused",
        .mechanism = "gelu",
        .brief = "one pass, vector erf or sigmoid",
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
