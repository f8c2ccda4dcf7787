/* focused_linear.unfused - one pass over memory for each operation: relu,
 * scale, norm, power, norm, the passes of linear attention, the convolution,
 * the sum.
 *
 * Bound by memory and by loads.  x is divided by its largest entry of a token,
 * so that no power or norm leaves the range of float (an all-negative row is
 * 1e-6 everywhere, its fourth power squared is 1e-48).
 */
#include "dwc_passes.h"
#include "focused_linear.h"

/* Norms of one token over all heads. */
enum { MAX, A, B, C, STATS }; /* largest x, |x / max|, |(x / max)^p|, y' / y */

typedef struct tensors {
    unfused u;
    dwc_passes dwc;
    size_t heads;
    float *scale;   /* 2^e softplus(theta) [heads][d]                       */
    float *xq, *xk; /* x / max                                              */
    float *nq, *nk; /* [batch][tokens][STATS]                               */
    float *means;   /* g.u of a token [batch][tokens]                       */
} tensors;

static tensors lay_out(const att_problem *p, int threads, const float *filters,
                       arena *forward, arena *scratch, arena *backward)
{
    tensors t = { .u = {
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = dwc_keys(p), .f = (size_t)p->head_dim, .e = (size_t)p->head_dim,
    }, .heads = (size_t)p->heads };
    unfused_lay_out(&t.u, forward, backward);
    t.u.eps_row = arena_take(forward, t.u.maps * t.u.n);
    t.dwc = dwc_lay_out(p, threads, filters, scratch);
    t.scale = arena_take(forward, t.heads * t.u.f);
    t.xq = arena_take(forward, t.u.maps * t.u.n * t.u.f);
    t.xk = arena_take(forward, t.u.maps * t.u.m * t.u.f);
    t.nq = arena_take(forward, (size_t)p->batch * t.u.n * STATS);
    t.nk = arena_take(forward, (size_t)p->batch * t.u.m * STATS);
    t.means = arena_take(backward, (size_t)p->batch *
                                       (t.u.n > t.u.m ? t.u.n : t.u.m));
    return t;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    arena forward = { 0 }, scratch = { 0 }, backward = { 0 };
    lay_out(p, threads, NULL, &forward, &scratch, &backward);
    unfused_sizes(&forward, &backward, out);
    unfused_scratch(&scratch, out);
    out->state = dwc_filter_floats(p) * sizeof(float);
}

static void prepare(const att_call *c)
{
    dwc_turn(c->p, c->param[FOCUSED_W], c->state);
}

/* ---- the focusing function ----------------------------------------------- */

/* The tokens of one side: addresses of its tensors. */
typedef struct side {
    size_t tokens;
    const float *in, *pos; /* q, or k and P                                 */
    float *x, *y, *norms, *dy;
} side;

static side query_side(const tensors *t, const att_call *c)
{
    return (side){ t->u.n, c->q, NULL, t->xq, t->u.q, t->nq, t->u.dq };
}

static side key_side(const tensors *t, const att_call *c)
{
    return (side){ t->u.m, c->k, c->param[FOCUSED_POS], t->xk, t->u.k, t->nk,
                   t->u.dk };
}

static void make_scale(const tensors *t, int e, const float *theta)
{
    for (size_t c = 0; c < t->heads * t->u.f; c++)
        t->scale[c] = (float)ldexp(
            focused_softplus(theta ? (double)theta[c] : 0), e);
}

static float power(float x, float p)
{
    const int products = focused_multiplications(p);
    if (products < 0) return powf(x, p);
    float y = x;
    for (int i = 0; i < products; i++) y *= x;
    return y;
}

/* First row of head h of a token. */
static size_t row_of(const tensors *t, const side *s, size_t token, size_t h)
{
    const size_t batch = token / s->tokens, i = token % s->tokens;
    return ((batch * t->heads + h) * s->tokens + i) * t->u.f;
}

/* x = (relu(in + P) + 1e-6) / s of all channels, and its largest of a token. */
static void pass_scale(const tensors *t, const side *s)
{
    const size_t f = t->u.f, positions = t->heads * s->tokens * f;
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t token = 0; token < t->u.maps / t->heads * s->tokens; token++) {
        float max = 0;
        for (size_t h = 0; h < t->heads; h++) {
            const size_t at = row_of(t, s, token, h);
            for (size_t c = 0; c < f; c++) {
                const float in = s->in[at + c] +
                                 (s->pos ? s->pos[(at + c) % positions] : 0);
                s->x[at + c] = (fmaxf(in, 0) + (float)FOCUSED_FLOOR) /
                               t->scale[h * f + c];
                max = fmaxf(max, s->x[at + c]);
            }
        }
        s->norms[token * STATS + MAX] = max;
    }
}

/* x / max, u = (x / max)^p, and their norms. */
static void pass_power(const tensors *t, const side *s, float p)
{
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t token = 0; token < t->u.maps / t->heads * s->tokens; token++) {
        float *norms = s->norms + token * STATS, a = 0, b = 0;
        for (size_t h = 0; h < t->heads; h++) {
            float *x = s->x + row_of(t, s, token, h);
            float *u = s->y + row_of(t, s, token, h);
            for (size_t c = 0; c < t->u.f; c++) {
                x[c] /= norms[MAX];
                u[c] = power(x[c], p);
                a += x[c] * x[c];
                b += u[c] * u[c];
            }
        }
        norms[A] = sqrtf(a);
        norms[B] = sqrtf(b);
    }
}

/* y' = c max |x| u / |u|, in place of u. */
static void pass_norm(const tensors *t, const side *s, bool key)
{
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t token = 0; token < t->u.maps / t->heads * s->tokens; token++) {
        float *norms = s->norms + token * STATS;
        norms[C] = key ? FOCUSED_KEYS : focused_level(norms[MAX]);
        for (size_t h = 0; h < t->heads; h++) {
            float *y = s->y + row_of(t, s, token, h);
            for (size_t c = 0; c < t->u.f; c++)
                y[c] *= norms[C] * norms[MAX] * norms[A] / norms[B];
        }
    }
}

static void focus(const tensors *t, const side *s, float p, bool key)
{
    pass_scale(t, s);
    pass_power(t, s, p);
    pass_norm(t, s, key);
}

/* eps' of all queries. */
static void make_eps(const tensors *t, const side *q, float eps)
{
    for (size_t row = 0; row < t->u.maps * q->tokens; row++) {
        const size_t batch = row / q->tokens / t->heads;
        const size_t token = batch * q->tokens + row % q->tokens;
        t->u.eps_row[row] =
            focused_row_eps(eps, q->norms[token * STATS + C]);
    }
}

static void forward(const att_call *c)
{
    arena save = { .base = c->save }, work = { .base = c->work }, unused = { 0 };
    const tensors t = lay_out(c->p, c->threads, c->state,
                              c->save ? &save : &work, &work, &unused);
    const side q = query_side(&t, c), k = key_side(&t, c);
    const float *theta = c->param[FOCUSED_SCALE];
    const int e = focused_exponent(theta, t.heads * t.u.f);
    make_scale(&t, e, theta);
    focus(&t, &q, (float)c->p->power, false);
    focus(&t, &k, (float)c->p->power, true);
    make_eps(&t, &q, focused_eps(t.u.m, e));
    unfused_forward(&t.u, c->v, c->o);
    dwc_pass_forward(&t.dwc, c->v, c->param[FOCUSED_B], c->o);
}

/* ---- backward ------------------------------------------------------------ */

/* g.u of all tokens, u = y |u| / (max |x|). */
static void pass_means(const tensors *t, const side *s)
{
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t token = 0; token < t->u.maps / t->heads * s->tokens; token++) {
        const float *norms = s->norms + token * STATS;
        float sum = 0;
        for (size_t h = 0; h < t->heads; h++)
            sum += row_dot(s->y + row_of(t, s, token, h),
                           s->dy + row_of(t, s, token, h), t->u.f);
        t->means[token] = sum * (norms[B] / (norms[C] * norms[MAX] * norms[A]));
    }
}

/* dx = x (g.u) / (a b) + (a p / b) x^(p-1) (g - u (g.u) / b^2), in place of g.
 *  */
static void pass_unfocus(const tensors *t, const side *s, float p)
{
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t token = 0; token < t->u.maps / t->heads * s->tokens; token++) {
        const float *norms = s->norms + token * STATS;
        const float a = norms[A], b = norms[B], gu = t->means[token];
        const float shrink = b / (norms[C] * norms[MAX] * a);
        for (size_t h = 0; h < t->heads; h++) {
            const size_t at = row_of(t, s, token, h);
            for (size_t c = 0; c < t->u.f; c++) {
                const float x = s->x[at + c];
                const float u = s->y[at + c] * shrink;
                const float slope = x > 0 ? u / x : p == 1;
                s->dy[at + c] = norms[C] *
                                (x * (gu / (a * b)) +
                                 a * p / b * slope *
                                     (s->dy[at + c] - u * (gu / (b * b))));
            }
        }
    }
}

/* dtheta [heads][d] -= sigmoid(theta) / s sum dx x max: a thread owns channels.
 *  */
static void pass_scale_gradient(const tensors *t, const side *s,
                                const float *theta, bool add, float *dtheta)
{
    const size_t f = t->u.f, tokens = t->u.maps / t->heads * s->tokens;
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t channel = 0; channel < t->heads * f; channel++) {
        double sum = 0;
        for (size_t token = 0; token < tokens; token++) {
            const size_t at = row_of(t, s, token, channel / f) + channel % f;
            sum += (double)(s->dy[at] * s->x[at] *
                            s->norms[token * STATS + MAX]);
        }
        const double x = theta ? (double)theta[channel] : 0;
        const float d = (float)(-sum * focused_slope(x));
        dtheta[channel] = d + (add ? dtheta[channel] : 0);
    }
}

/* Gradient of the input, dx / s where relu is open; in place of dx if NULL. */
static void pass_input(const tensors *t, const side *s, float *out)
{
    const size_t f = t->u.f, positions = t->heads * s->tokens * f;
    if (!out) out = s->dy;
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t row = 0; row < t->u.maps * s->tokens; row++)
        for (size_t c = 0; c < f; c++) {
            const size_t at = row * f + c;
            const float in =
                s->in[at] + (s->pos ? s->pos[at % positions] : 0);
            const size_t h = row / s->tokens % t->heads;
            out[at] = in > 0 ? s->dy[at] / t->scale[h * f + c] : 0;
        }
}

static void unfocus(const tensors *t, const side *s, const att_call *c,
                    bool add, float *dtheta, float *out)
{
    pass_means(t, s);
    pass_unfocus(t, s, (float)c->p->power);
    if (dtheta)
        pass_scale_gradient(t, s, c->param[FOCUSED_SCALE], add, dtheta);
    pass_input(t, s, out);
}

static void backward(const att_call *c, const att_grad *g)
{
    arena kept = { .base = c->save }, own = { .base = c->work };
    const tensors t = lay_out(c->p, c->threads, c->state, &kept, &own, &own);
    const side q = query_side(&t, c), k = key_side(&t, c);
    unfused_backward(&t.u, c->v, g->dout, g->dv);
    unfocus(&t, &q, c, false, g->dparam[FOCUSED_SCALE], g->dq);
    unfocus(&t, &k, c, true, g->dparam[FOCUSED_SCALE], g->dk);
    if (g->dparam[FOCUSED_POS])
        dwc_pass_positions(&t.dwc, c->p->batch, g->dk ? g->dk : t.u.dk,
                           g->dparam[FOCUSED_POS]);
    dwc_pass_backward(&t.dwc, c->v, g->dout, g->dv, g->dparam[FOCUSED_W],
                      g->dparam[FOCUSED_B]);
}

ATT_KERNELS = {
    {
        .name = "focused_linear.unfused",
        .mechanism = "focused_linear",
        .brief = "a pass over memory for each operation",
        .plain = true,
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
