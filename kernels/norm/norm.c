/* norm - the normalisations of a transformer block, x [N][C] (heads are one
 * width, the rows of a batch would be tokens).
 *
 *     layernorm  gamma (x - mean) / sqrt(var + eps) + beta   over the channels of
 *                a token                                     [ba2016layernorm]
 *     batchnorm  the same over the tokens, per channel       [ioffe2015batchnorm]
 *     repbn      batchnorm + alpha x                         [guo2024slab, eq. 6]
 *     prepbn     lambda layernorm + (1 - lambda) repbn, lambda = r0 iter / total
 *                falling to 0 while training                 [guo2024slab, eq. 5]
 *     repbn_fold repbn in evaluation mode with the linear layer after or before
 *                it, y = W x + b; the two are one linear layer
 *
 * mode train: statistics of these tokens, biased variance; running_mean and
 * running_var move by momentum 0.1 towards them, with the unbiased variance.
 * mode eval: the running statistics.  prepbn in training counts: while warm > 0
 * it is layernorm alone (warm falls, running statistics stay), then lambda is
 * read before iter falls; in evaluation it is repbn whatever iter is.
 *
 * Evaluation and folding: sigma = sqrt(running_var + eps), and repbn is
 *     a x + s,   a = gamma / sigma + alpha,   s = beta - gamma mean / sigma
 *     then linear:   W' = W diag(a),   b' = b + W s
 *     linear before: W' = diag(a) W,   b' = a b + s
 */
#include "../reference.h"

#include <math.h>
#include <stdlib.h>

#define MOMENTUM 0.1

/* Parameters.  layernorm has the first two, batchnorm lacks alpha (it keeps its
 * place, empty). */
enum { GAMMA, BETA, ALPHA, MEAN, VAR, LN_GAMMA, LN_BETA, W = LN_GAMMA, B };

/* ---- problem ----------------------------------------------------------------------------- */

static const char *reject_batch(const att_problem *p)
{
    if (p->batch != 1)
        return "the rows of a batch are tokens here: use batch=1 and a longer "
               "grid";
    if (!(p->eps > 0) || !(p->ln_eps > 0))
        return "eps must be above 0: it keeps constant inputs finite";
    return NULL;
}

static const char *reject_bn(const att_problem *p)
{
    if (p->mode == ATT_MODE_TRAIN && att_tokens(p) < 2)
        return "training statistics need at least 2 tokens";
    return reject_batch(p);
}

static const char *reject_prepbn(const att_problem *p)
{
    if (p->total_step < 1) return "total_step must be at least 1";
    if (p->iter > p->total_step)
        return "iter, the steps still to go, must be at most total_step";
    return reject_bn(p);
}

static void shape(const att_problem *p, enum att_slot slot, att_shape *out)
{
    (void)p;
    if (slot == ATT_K || slot == ATT_V) out->tokens = 0;
}

/* Channels of the norm of repbn_fold: those of its input, or of the linear
 * layer's output. */
static int norm_width(const att_problem *p)
{
    return p->fold == ATT_NORM_THEN_LINEAR ? p->head_dim
                                           : (int)att_value_dim(p);
}

static void shape_fold(const att_problem *p, enum att_slot slot, att_shape *out)
{
    shape(p, slot, out);
    if (slot == ATT_O) out->channels = (int)att_value_dim(p);
}

static att_tensor vector(const char *name, int n, enum att_init init)
{
    return (att_tensor){ .name = name, .dims = 1, .dim = { n }, .init = init };
}

static int parameters_ln(const att_problem *p, att_tensor *out)
{
    out[GAMMA] = vector("gamma", p->head_dim, ATT_INIT_ONE);
    out[BETA] = vector("beta", p->head_dim, ATT_INIT_ZERO);
    return 2;
}

static int parameters_of(int width, bool alpha, att_tensor *out)
{
    out[GAMMA] = vector("gamma", width, ATT_INIT_ONE);
    out[BETA] = vector("beta", width, ATT_INIT_ZERO);
    out[ALPHA] = vector("alpha", alpha, ATT_INIT_ONE);
    out[MEAN] = vector("running_mean", width, ATT_INIT_FILL);
    out[VAR] = vector("running_var", width, ATT_INIT_FILL);
    out[MEAN].fixed = out[VAR].fixed = true;
    return 5;
}

static int parameters_bn(const att_problem *p, att_tensor *out)
{
    return parameters_of(p->head_dim, false, out);
}

static int parameters_repbn(const att_problem *p, att_tensor *out)
{
    return parameters_of(p->head_dim, true, out);
}

static int parameters_prepbn(const att_problem *p, att_tensor *out)
{
    parameters_of(p->head_dim, true, out);
    out[LN_GAMMA] = vector("ln_gamma", p->head_dim, ATT_INIT_ONE);
    out[LN_BETA] = vector("ln_beta", p->head_dim, ATT_INIT_ZERO);
    return 7;
}

static int parameters_fold(const att_problem *p, att_tensor *out)
{
    const int c = p->head_dim, o = (int)att_value_dim(p);
    parameters_of(norm_width(p), true, out);
    out[W] = (att_tensor){ .name = "W", .dims = 2, .dim = { o, c },
                           .init = ATT_INIT_NORMAL, .std = 1 / sqrt(c) };
    out[B] = vector("b", o, ATT_INIT_ZERO);
    return 7;
}

/* Running statistics as training leaves them: means near 0, variances between
 * 1/2 and 3/2, from the seed. */
static void fill_of(const att_problem *p, int width, int index, float *data)
{
    uint64_t state = (uint64_t)p->seed * 2 + (uint64_t)(index == VAR);
    for (size_t i = 0; i < (size_t)width; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const double u = (double)(state >> 11) * 0x1p-53;
        data[i] = (float)(index == VAR ? 0.5 + u : u - 0.5);
    }
}

static void fill(const att_problem *p, int index, float *data)
{
    fill_of(p, p->head_dim, index, data);
}

static void fill_fold(const att_problem *p, int index, float *data)
{
    fill_of(p, norm_width(p), index, data);
}

static int extras_bn(const att_problem *p, att_tensor *out)
{
    out[0] = vector("running_mean_after", p->head_dim, ATT_INIT_ZERO);
    out[1] = vector("running_var_after", p->head_dim, ATT_INIT_ZERO);
    return 2;
}

static int extras_prepbn(const att_problem *p, att_tensor *out)
{
    extras_bn(p, out);
    out[2] = vector("iter_after", 1, ATT_INIT_ZERO);
    out[3] = vector("warm_after", 1, ATT_INIT_ZERO);
    return 4;
}

static int extras_fold(const att_problem *p, att_tensor *out)
{
    out[0] = (att_tensor){ .name = "W_folded", .dims = 2,
                           .dim = { (int)att_value_dim(p), p->head_dim } };
    out[1] = vector("b_folded", (int)att_value_dim(p), ATT_INIT_ZERO);
    return 2;
}

/* ---- cost -------------------------------------------------------------------------------------- */

static void add_cost(att_cost *to, const att_cost *x)
{
    to->mul_add += x->mul_add;
    to->add += x->add;
    to->mul += x->mul;
    to->div += x->div;
    to->exp += x->exp;
}

/* `rows` groups of n values: mean, variance, scaling and shift. */
static att_cost whitening(double rows, double n, enum att_pass pass)
{
    if (pass == ATT_FORWARD)
        return (att_cost){ .mul_add = rows * 2 * n,
                           .add = rows * (2 * n + 1),
                           .mul = rows * n,
                           .div = rows * 3,
                           .exp = rows };
    /* normalised x; dgamma, dbeta; two means; the three terms of dx */
    return (att_cost){ .mul_add = rows * 4 * n,
                       .add = rows * 3 * n,
                       .mul = rows * 4 * n,
                       .div = rows * 2 };
}

static att_cost layernorm_cost(const att_problem *p, enum att_pass pass)
{
    return whitening((double)att_tokens(p), p->head_dim, pass);
}

/* batchnorm, repbn if alpha. */
static att_cost bn_cost(const att_problem *p, bool alpha, enum att_pass pass)
{
    const double n = (double)att_tokens(p), c = p->head_dim;
    if (p->mode == ATT_MODE_TRAIN) {
        att_cost x = whitening(c, n, pass);
        x.mul_add += alpha * n * c * (pass == ATT_FORWARD ? 1 : 2);
        if (pass == ATT_FORWARD) { /* running statistics */
            x.mul_add += 2 * c;
            x.mul += 3 * c;
        }
        return x;
    }
    if (pass == ATT_FORWARD)
        return (att_cost){ .mul_add = c * (n + 1), .add = c * (1 + alpha),
                           .div = c, .exp = c };
    return (att_cost){ .mul_add = c * n * (1 + alpha),
                       .add = c * (n * 2 + 1 + alpha),
                       .mul = c * n * 2,
                       .div = c,
                       .exp = c };
}

static void traffic(double in, double out, double parameters,
                    enum att_pass pass, att_cost *cost)
{
    const bool back = pass == ATT_BACKWARD;
    cost->read = 4 * (in + back * out + parameters);
    cost->write = 4 * (back ? in + parameters : out);
}

static void cost_ln(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double all = (double)att_tokens(p) * p->head_dim;
    *out = layernorm_cost(p, pass);
    traffic(all, all, 2.0 * p->head_dim, pass, out);
}

static void cost_bn(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double all = (double)att_tokens(p) * p->head_dim;
    *out = bn_cost(p, false, pass);
    traffic(all, all, 4.0 * p->head_dim, pass, out);
}

static void cost_repbn(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double all = (double)att_tokens(p) * p->head_dim;
    *out = bn_cost(p, true, pass);
    traffic(all, all, 4.0 * p->head_dim + 1, pass, out);
}

static bool warming(const att_problem *p)
{
    return p->mode == ATT_MODE_TRAIN && p->warm > 0;
}

static void cost_prepbn(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double all = (double)att_tokens(p) * p->head_dim;
    *out = (att_cost){ 0 };
    if (p->mode == ATT_MODE_TRAIN) {
        const att_cost ln = layernorm_cost(p, pass);
        add_cost(out, &ln);
    }
    if (!warming(p)) {
        const att_cost bn = bn_cost(p, true, pass);
        add_cost(out, &bn);
    }
    if (p->mode == ATT_MODE_TRAIN && !warming(p)) {
        out->mul += all * (pass == ATT_FORWARD ? 1 : 2);
        if (pass == ATT_FORWARD) out->mul_add += all;
        else out->add += all;
    }
    traffic(all, all, 6.0 * p->head_dim + 1, pass, out);
}

static void cost_fold(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double n = (double)att_tokens(p), c = p->head_dim;
    const double o = (double)att_value_dim(p), width = norm_width(p);
    const double products = n * c * o;
    const bool back = pass == ATT_BACKWARD;
    *out = (att_cost){
        .mul_add = products * (back ? 2 : 1) +
                   width * (n + 1) * (back ? 2 : 1),
        .add = width * 2 + back * (n * (width + o) + 2 * width),
        .mul = back * width * (n + 2),
        .div = width,
        .exp = width,
    };
    traffic(n * c, n * o, 4 * width + 1 + c * o + o, pass, out);
}

/* ---- whitening: groups of n values, `step` apart ------------------------------------------------- */

typedef struct group {
    double mean, var, inverse; /* inverse = 1 / sqrt(var + eps)             */
} group;

/* The mean as a difference from the first value: of equal ones it is exact. */
static group group_of(const double *x, size_t n, size_t step, double eps)
{
    group g = { 0 };
    for (size_t i = 0; i < n; i++) g.mean += x[i * step] - x[0];
    g.mean = x[0] + g.mean / (double)n;
    for (size_t i = 0; i < n; i++)
        g.var += (x[i * step] - g.mean) * (x[i * step] - g.mean);
    g.var /= (double)n;
    g.inverse = 1 / sqrt(g.var + eps);
    return g;
}

/* For gg = g gamma and the normalised values xh, adds `share` times
 *     dx = inverse (gg - mean(gg) - xh mean(gg xh)). */
static void group_backward(const double *x, const double *gg, size_t n,
                           size_t step, const group *s, double share,
                           double *dx)
{
    double mean = 0, along = 0;
    for (size_t i = 0; i < n; i++) {
        mean += gg[i] / (double)n;
        along += gg[i] * (x[i * step] - s->mean) * s->inverse / (double)n;
    }
    for (size_t i = 0; i < n; i++)
        dx[i * step] += share * s->inverse *
                        (gg[i] - mean -
                         (x[i * step] - s->mean) * s->inverse * along);
}

static void count_whitening(const att_ref *r, double rows, double n)
{
    REF_COUNT(r, mul_add, rows * 2 * n);
    REF_COUNT(r, add, rows * (2 * n + 1));
    REF_COUNT(r, mul, rows * n);
    REF_COUNT(r, div, rows * 3);
    REF_COUNT(r, exp, rows);
}

/* ---- layernorm ---------------------------------------------------------------------------------------- */

/* Writes share * layernorm(x) to o (adds it, if add). */
static void layernorm(const att_ref *r, int gamma, int beta, double eps,
                      double share, bool add)
{
    const size_t n = att_tokens(r->p), c = (size_t)r->p->head_dim;
    for (size_t t = 0; t < n; t++) {
        const group s = group_of(r->q + t * c, c, 1, eps);
        for (size_t i = 0; i < c; i++) {
            const double y = (r->q[t * c + i] - s.mean) * s.inverse *
                                 r->param[gamma][i] +
                             r->param[beta][i];
            r->o[t * c + i] = share * y + (add ? r->o[t * c + i] : 0);
        }
    }
    count_whitening(r, (double)n, (double)c);
}

static void layernorm_backward(const att_ref *r, int gamma, int beta,
                               double eps, double share)
{
    const size_t n = att_tokens(r->p), c = (size_t)r->p->head_dim;
    double *gg = ref_new(c);
    for (size_t t = 0; t < n; t++) {
        const double *x = r->q + t * c, *g = r->dout + t * c;
        const group s = group_of(x, c, 1, eps);
        for (size_t i = 0; i < c; i++) {
            gg[i] = g[i] * r->param[gamma][i];
            if (r->dparam[gamma])
                r->dparam[gamma][i] += share * g[i] * (x[i] - s.mean) * s.inverse;
            if (r->dparam[beta]) r->dparam[beta][i] += share * g[i];
        }
        if (r->dq) group_backward(x, gg, c, 1, &s, share, r->dq + t * c);
    }
    free(gg);
}

static void forward_ln(const att_ref *r)
{
    layernorm(r, GAMMA, BETA, r->p->eps, 1, false);
}

static void backward_ln(const att_ref *r)
{
    layernorm_backward(r, GAMMA, BETA, r->p->eps, 1);
}

/* ---- batchnorm, repbn ------------------------------------------------------------------------------------ */

/* What channel i is normalised with: its own statistics or the running ones. */
static group channel(const att_ref *r, size_t i)
{
    const size_t n = att_tokens(r->p), c = (size_t)r->p->head_dim;
    if (r->p->mode == ATT_MODE_TRAIN)
        return group_of(r->q + i, n, c, r->p->eps);
    return (group){ .mean = r->param[MEAN][i],
                    .var = r->param[VAR][i],
                    .inverse = 1 / sqrt(r->param[VAR][i] + r->p->eps) };
}

/* Running statistics of channel i after this call; moves: whether they do. */
static void tell_running(const att_ref *r, size_t i, const group *s, bool moves)
{
    const double n = (double)att_tokens(r->p);
    double mean = r->param[MEAN][i], var = r->param[VAR][i];
    if (moves) {
        mean = (1 - MOMENTUM) * mean + MOMENTUM * s->mean;
        var = (1 - MOMENTUM) * var + MOMENTUM * s->var * n / (n - 1);
    }
    if (r->extra[0]) r->extra[0][i] = mean;
    if (r->extra[1]) r->extra[1][i] = var;
}

static double alpha_of(const att_ref *r)
{
    return r->param[ALPHA] ? r->param[ALPHA][0] : 0;
}

/* o = share (batchnorm(x) + alpha x) (+ o, if add). */
static void repbn(const att_ref *r, double share, bool add)
{
    const size_t n = att_tokens(r->p), c = (size_t)r->p->head_dim;
    const bool train = r->p->mode == ATT_MODE_TRAIN;
    for (size_t i = 0; i < c; i++) {
        const group s = channel(r, i);
        for (size_t t = 0; t < n; t++) {
            const double x = r->q[t * c + i];
            const double y = (x - s.mean) * s.inverse * r->param[GAMMA][i] +
                             r->param[BETA][i] + alpha_of(r) * x;
            r->o[t * c + i] = share * y + (add ? r->o[t * c + i] : 0);
        }
        tell_running(r, i, &s, train);
    }
    const bool alpha = r->param[ALPHA];
    if (train) {
        count_whitening(r, (double)c, (double)n);
        REF_COUNT(r, mul_add, alpha * n * c + 2 * c);
        REF_COUNT(r, mul, 3 * c);
    } else { /* as one multiplication and addition per value */
        REF_COUNT(r, mul_add, c * (n + 1));
        REF_COUNT(r, add, c * (1 + (size_t)alpha));
        REF_COUNT(r, div, c);
        REF_COUNT(r, exp, c);
    }
}

static void repbn_backward(const att_ref *r, double share)
{
    const size_t n = att_tokens(r->p), c = (size_t)r->p->head_dim;
    double *gg = ref_new(n);
    for (size_t i = 0; i < c; i++) {
        const group s = channel(r, i);
        const double gamma = r->param[GAMMA][i];
        for (size_t t = 0; t < n; t++) {
            const double x = r->q[t * c + i], g = r->dout[t * c + i];
            gg[t] = g * gamma;
            if (r->dparam[GAMMA])
                r->dparam[GAMMA][i] += share * g * (x - s.mean) * s.inverse;
            if (r->dparam[BETA]) r->dparam[BETA][i] += share * g;
            if (r->dparam[ALPHA]) r->dparam[ALPHA][0] += share * g * x;
            if (!r->dq) continue;
            r->dq[t * c + i] += share * g * alpha_of(r);
            if (r->p->mode == ATT_MODE_EVAL)
                r->dq[t * c + i] += share * gg[t] * s.inverse;
        }
        if (r->dq && r->p->mode == ATT_MODE_TRAIN)
            group_backward(r->q + i, gg, n, c, &s, share, r->dq + i);
    }
    free(gg);
}

static void forward_bn(const att_ref *r)
{
    repbn(r, 1, false);
}

static void backward_bn(const att_ref *r)
{
    repbn_backward(r, 1);
}

/* ---- prepbn ------------------------------------------------------------------------------------------------ */

static double lambda_of(const att_problem *p)
{
    if (p->mode == ATT_MODE_EVAL) return 0;
    if (p->warm > 0) return 1;
    return p->r0 * p->iter / p->total_step;
}

static void tell_schedule(const att_ref *r)
{
    const bool train = r->p->mode == ATT_MODE_TRAIN, warm = warming(r->p);
    const int iter = r->p->iter - (train && !warm && r->p->iter > 0);
    if (r->extra[2]) r->extra[2][0] = iter;
    if (r->extra[3]) r->extra[3][0] = r->p->warm - warm;
}

static void forward_prepbn(const att_ref *r)
{
    const size_t all = att_tokens(r->p) * (size_t)r->p->head_dim;
    const bool train = r->p->mode == ATT_MODE_TRAIN, warm = warming(r->p);
    const double lambda = lambda_of(r->p);
    if (train) layernorm(r, LN_GAMMA, LN_BETA, r->p->ln_eps, lambda, false);
    if (!warm) repbn(r, 1 - lambda, train);
    for (size_t i = 0; warm && i < (size_t)r->p->head_dim; i++)
        tell_running(r, i, NULL, false);
    if (train && !warm) {
        REF_COUNT(r, mul, all);
        REF_COUNT(r, mul_add, all);
    }
    tell_schedule(r);
}

static void backward_prepbn(const att_ref *r)
{
    const double lambda = lambda_of(r->p);
    if (r->p->mode == ATT_MODE_TRAIN)
        layernorm_backward(r, LN_GAMMA, LN_BETA, r->p->ln_eps, lambda);
    if (!warming(r->p)) repbn_backward(r, 1 - lambda);
}

/* ---- repbn_fold ------------------------------------------------------------------------------------------------ */

/* repbn in evaluation as a x + s, per channel of the norm. */
static void affine_of(const att_ref *r, double *a, double *s)
{
    for (int i = 0; i < norm_width(r->p); i++) {
        const double scale =
            r->param[GAMMA][i] / sqrt(r->param[VAR][i] + r->p->eps);
        a[i] = scale + r->param[ALPHA][0];
        s[i] = r->param[BETA][i] - r->param[MEAN][i] * scale;
    }
    const size_t width = (size_t)norm_width(r->p);
    REF_COUNT(r, mul_add, width);
    REF_COUNT(r, add, 2 * width);
    REF_COUNT(r, div, width);
    REF_COUNT(r, exp, width);
}

static void tell_folded(const att_ref *r, const double *a, const double *s)
{
    const size_t c = (size_t)r->p->head_dim, o = att_value_dim(r->p);
    const bool first = r->p->fold == ATT_NORM_THEN_LINEAR;
    for (size_t j = 0; j < o; j++) {
        double b = first ? r->param[B][j] : a[j] * r->param[B][j] + s[j];
        for (size_t i = 0; i < c; i++) {
            const double w = r->param[W][j * c + i];
            if (first) b += w * s[i];
            if (r->extra[0]) r->extra[0][j * c + i] = w * (first ? a[i] : a[j]);
        }
        if (r->extra[1]) r->extra[1][j] = b;
    }
}

/* y = W x + b of n rows. */
static void linear(const att_ref *r, const double *x, double *y)
{
    const size_t n = att_tokens(r->p), c = (size_t)r->p->head_dim;
    const size_t o = att_value_dim(r->p);
    for (size_t t = 0; t < n; t++)
        for (size_t j = 0; j < o; j++)
            y[t * o + j] = r->param[B][j] +
                           ref_dot(r->param[W] + j * c, x + t * c, c);
    REF_COUNT(r, mul_add, n * c * o);
}

/* y = a x + s of rows of `width`. */
static void scale_rows(const att_ref *r, const double *a, const double *s,
                       const double *x, double *y)
{
    const size_t width = (size_t)norm_width(r->p);
    const size_t all = att_tokens(r->p) * width;
    for (size_t i = 0; i < all; i++) y[i] = a[i % width] * x[i] + s[i % width];
    REF_COUNT(r, mul_add, all);
}

static void forward_fold(const att_ref *r)
{
    const size_t width = (size_t)norm_width(r->p);
    double *a = ref_new(width), *s = ref_new(width);
    double *z = ref_new(att_tokens(r->p) * width);
    affine_of(r, a, s);
    if (r->p->fold == ATT_NORM_THEN_LINEAR) {
        scale_rows(r, a, s, r->q, z);
        linear(r, z, r->o);
    } else {
        linear(r, r->q, z);
        scale_rows(r, a, s, z, r->o);
    }
    tell_folded(r, a, s);
    free(z);
    free(s);
    free(a);
}

/* From g, the gradient of the norm's output, and its input x: gradients of its
 * parameters; that of x over `dx`. */
static void scale_rows_backward(const att_ref *r, const double *a,
                                const double *x, const double *g, double *dx)
{
    const size_t width = (size_t)norm_width(r->p);
    const size_t all = att_tokens(r->p) * width;
    for (size_t i = 0; i < all; i++) {
        const size_t c = i % width;
        const double inverse = 1 / sqrt(r->param[VAR][c] + r->p->eps);
        if (r->dparam[GAMMA])
            r->dparam[GAMMA][c] += g[i] * (x[i] - r->param[MEAN][c]) * inverse;
        if (r->dparam[BETA]) r->dparam[BETA][c] += g[i];
        if (r->dparam[ALPHA]) r->dparam[ALPHA][0] += g[i] * x[i];
        dx[i] = g[i] * a[c];
    }
}

static void linear_backward(const att_ref *r, const double *x, const double *g,
                            double *dx)
{
    const size_t n = att_tokens(r->p), c = (size_t)r->p->head_dim;
    const size_t o = att_value_dim(r->p);
    for (size_t t = 0; t < n; t++)
        for (size_t j = 0; j < o; j++) {
            if (r->dparam[B]) r->dparam[B][j] += g[t * o + j];
            for (size_t i = 0; i < c; i++) {
                if (r->dparam[W])
                    r->dparam[W][j * c + i] += g[t * o + j] * x[t * c + i];
                dx[t * c + i] += g[t * o + j] * r->param[W][j * c + i];
            }
        }
}

static void backward_fold(const att_ref *r)
{
    const size_t n = att_tokens(r->p), width = (size_t)norm_width(r->p);
    const size_t c = (size_t)r->p->head_dim;
    double *a = ref_new(width), *s = ref_new(width);
    double *z = ref_new(n * width), *dz = ref_new(n * width);
    double *dx = ref_new(n * c);
    affine_of(r, a, s);
    if (r->p->fold == ATT_NORM_THEN_LINEAR) {
        scale_rows(r, a, s, r->q, z);
        linear_backward(r, z, r->dout, dz);
        scale_rows_backward(r, a, r->q, dz, dx);
    } else {
        linear(r, r->q, z);
        scale_rows_backward(r, a, z, r->dout, dz);
        linear_backward(r, r->q, dz, dx);
    }
    for (size_t i = 0; r->dq && i < n * c; i++) r->dq[i] += dx[i];
    free(dx);
    free(dz);
    free(z);
    free(s);
    free(a);
}

/* ---- table ----------------------------------------------------------------------------------------------------- */

#define COMMON                                                                 \
    .family = "norm", .inputs = { "x", NULL, NULL },                           \
    .traits = ATT_NOT_ATTENTION | ATT_ONE_WIDTH

ATT_MECHANISMS = {
    {
        COMMON,
        .name = "layernorm",
        .brief = "normalisation over the channels of each token",
        .formula = "y = gamma (x - mean) / sqrt(var + eps) + beta, over the "
                   "channels of a token",
        .map = "none: tokens do not meet",
        .cite = "ba2016layernorm",
        .uses = ATT_USE(eps),
        .reject = reject_batch,
        .shape = shape,
        .parameters = parameters_ln,
        .cost = cost_ln,
        .forward = forward_ln,
        .backward = backward_ln,
    },
    {
        COMMON,
        .name = "batchnorm",
        .brief = "normalisation of each channel over the tokens",
        .formula = "y = gamma (x - mean) / sqrt(var + eps) + beta, over the "
                   "tokens (train) or with running statistics (eval)",
        .map = "none: in evaluation tokens do not meet",
        .cite = "ioffe2015batchnorm",
        .uses = ATT_USE(eps) | ATT_USE(mode) | ATT_USE(seed),
        .reject = reject_bn,
        .shape = shape,
        .parameters = parameters_bn,
        .fill = fill,
        .extras = extras_bn,
        .cost = cost_bn,
        .forward = forward_bn,
        .backward = backward_bn,
    },
    {
        COMMON,
        .name = "repbn",
        .brief = "re-parameterised batch normalisation: batchnorm + alpha x",
        .formula = "y = batchnorm(x) + alpha x; in evaluation one "
                   "multiplication and addition per value",
        .map = "none: in evaluation tokens do not meet",
        .cite = "guo2024slab",
        .uses = ATT_USE(eps) | ATT_USE(mode) | ATT_USE(seed),
        .reject = reject_bn,
        .shape = shape,
        .parameters = parameters_repbn,
        .fill = fill,
        .extras = extras_bn,
        .cost = cost_repbn,
        .forward = forward_bn,
        .backward = backward_bn,
    },
    {
        COMMON,
        .name = "prepbn",
        .brief = "layernorm fading into repbn while training",
        .formula = "y = lambda layernorm(x) + (1 - lambda) repbn(x), lambda = "
                   "r0 iter / total_step before iter falls by 1;\n"
                   "warm > 0: layernorm alone; eval: repbn alone",
        .map = "none: in evaluation tokens do not meet",
        .cite = "guo2024slab",
        .uses = ATT_USE(eps) | ATT_USE(ln_eps) | ATT_USE(mode) | ATT_USE(iter) |
                ATT_USE(total_step) | ATT_USE(warm) | ATT_USE(r0) |
                ATT_USE(seed),
        .reject = reject_prepbn,
        .shape = shape,
        .parameters = parameters_prepbn,
        .fill = fill,
        .extras = extras_prepbn,
        .cost = cost_prepbn,
        .forward = forward_prepbn,
        .backward = backward_prepbn,
    },
    {
        COMMON,
        .name = "repbn_fold",
        .brief = "repbn in evaluation and the linear layer it folds into",
        .formula = "a = gamma / sigma + alpha, s = beta - gamma mean / sigma, "
                   "sigma = sqrt(running_var + eps)\n"
                   "norm_then_linear: W' = W diag(a), b' = b + W s; "
                   "linear_then_norm: W' = diag(a) W, b' = a b + s",
        .map = "none: tokens do not meet",
        .cite = "guo2024slab",
        .uses = ATT_USE(eps) | ATT_USE(fold) | ATT_USE(value_dim) |
                ATT_USE(seed),
        .reject = reject_batch,
        .shape = shape_fold,
        .parameters = parameters_fold,
        .fill = fill_fold,
        .extras = extras_fold,
        .cost = cost_fold,
        .forward = forward_fold,
        .backward = backward_fold,
    },
    { 0 },
};
