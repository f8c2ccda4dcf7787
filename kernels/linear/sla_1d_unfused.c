/* sla_1d.unfused - one pass over memory for each operation: relu, the passes of
 * linear attention, the convolution along time, the factor.
 *
 * Bound by memory and by loads.
 */
#include "sla_1d.h"
#include "unfused.h"

typedef struct tensors {
    unfused u;
    float *y;      /* attention output [maps][n][d]                         */
    float *dy;     /* its gradient                                          */
    size_t outputs, taps;
    float factor;
} tensors;

static tensors lay_out(const att_problem *p, int threads, arena *forward,
                       arena *backward)
{
    const size_t n = att_tokens(p), d = (size_t)p->head_dim;
    tensors t = {
        .u = { .threads = threads, .maps = maps_of(p), .n = n, .m = n, .f = d,
               .e = d, .d = { .eps = SLA_1D_EPS } },
        .outputs = sla_1d_outputs(p), .taps = (size_t)sla_1d_taps(p),
        .factor = (float)p->power,
    };
    unfused_lay_out(&t.u, forward, backward);
    t.y = arena_take(forward, t.u.maps * n * d);
    t.dy = arena_take(backward, t.u.maps * n * d);
    return t;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    arena forward = { 0 }, backward = { 0 };
    lay_out(p, threads, &forward, &backward);
    unfused_sizes(&forward, &backward, out);
    out->state = (size_t)sla_1d_taps(p) * (size_t)p->head_dim * sizeof(float);
}

/* Filters [d][k] -> [k][d]. */
static void prepare(const att_call *c)
{
    const size_t d = (size_t)c->p->head_dim, k = (size_t)sla_1d_taps(c->p);
    float *turned = c->state;
    for (size_t l = 0; l < d; l++)
        for (size_t t = 0; t < k; t++)
            turned[t * d + l] = c->param[SLA_1D_W][l * k + t];
}

static void relu(const tensors *t, const float *x, float *phi)
{
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t i = 0; i < t->u.maps * t->u.n * t->u.f; i++)
        phi[i] = fmaxf(x[i], 0);
}

/* Input token that tap a of output i reads, or -1. */
static ptrdiff_t tap(const tensors *t, size_t i, size_t a)
{
    const ptrdiff_t j = (ptrdiff_t)(i + a) - (ptrdiff_t)(t->taps / 2);
    return j >= 0 && j < (ptrdiff_t)t->u.n ? j : -1;
}

/* o = F (T y + b). */
static void convolve(const tensors *t, const float *filters, const float *bias,
                     float *o)
{
    const size_t d = t->u.e;
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t row = 0; row < t->u.maps * t->outputs; row++) {
        const size_t map = row / t->outputs, i = row % t->outputs;
        float *x = o + row * d;
        memcpy(x, bias, d * sizeof *x);
        for (size_t a = 0; a < t->taps; a++) {
            const ptrdiff_t j = tap(t, i, a);
            if (j < 0) continue;
            const float *y = t->y + (map * t->u.n + (size_t)j) * d;
            for (size_t c = 0; c < d; c++) x[c] += filters[a * d + c] * y[c];
        }
        for (size_t c = 0; c < d; c++) x[c] *= t->factor;
    }
}

static void forward(const att_call *c)
{
    arena kept = { .base = c->save ? c->save : c->work }, unused = { 0 };
    const tensors t = lay_out(c->p, c->threads, &kept, &unused);
    relu(&t, c->q, t.u.q);
    relu(&t, c->k, t.u.k);
    unfused_forward(&t.u, c->v, t.y);
    convolve(&t, c->state, c->param[SLA_1D_B], c->o);
}

/* dy = F T' g. */
static void convolve_back(const tensors *t, const float *filters,
                          const float *g)
{
    const size_t d = t->u.e;
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t row = 0; row < t->u.maps * t->u.n; row++) {
        const size_t map = row / t->u.n, j = row % t->u.n;
        float *x = t->dy + row * d;
        memset(x, 0, d * sizeof *x);
        for (size_t a = 0; a < t->taps; a++) {
            const ptrdiff_t i = (ptrdiff_t)(j + t->taps / 2) - (ptrdiff_t)a;
            if (i < 0 || i >= (ptrdiff_t)t->outputs) continue;
            const float *y = g + (map * t->outputs + (size_t)i) * d;
            for (size_t c = 0; c < d; c++) x[c] += filters[a * d + c] * y[c];
        }
        for (size_t c = 0; c < d; c++) x[c] *= t->factor;
    }
}

/* dW [d][k] = F sum_i g_i y_(i + a - floor(k/2)); a thread owns taps.  In runs
 * of 64 tokens, so that long sums keep their small terms. */
static void filter_gradient(const tensors *t, const float *g, float *dw)
{
    enum { RUN = 64 };
    const size_t d = t->u.e;
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t task = 0; task < t->taps * d; task++) {
        const size_t c = task / t->taps, a = task % t->taps;
        float sum = 0, part = 0;
        for (size_t row = 0; row < t->u.maps * t->outputs; row++) {
            const size_t map = row / t->outputs;
            const ptrdiff_t j = tap(t, row % t->outputs, a);
            if (j >= 0)
                part += g[row * d + c] *
                        t->y[(map * t->u.n + (size_t)j) * d + c];
            if (row % RUN < RUN - 1) continue;
            sum += part;
            part = 0;
        }
        dw[task] = t->factor * (sum + part);
    }
}

static void unmap(const tensors *t, const float *phi, const float *dphi,
                  float *dx)
{
    if (!dx) return;
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t i = 0; i < t->u.maps * t->u.n * t->u.f; i++)
        dx[i] = phi[i] > 0 ? dphi[i] : 0;
}

static void backward(const att_call *c, const att_grad *g)
{
    arena kept = { .base = c->save }, own = { .base = c->work };
    const tensors t = lay_out(c->p, c->threads, &kept, &own);
    const size_t d = t.u.e;
    convolve_back(&t, c->state, g->dout);
    unfused_backward(&t.u, c->v, t.dy, g->dv);
    unmap(&t, t.u.q, t.u.dq, g->dq);
    unmap(&t, t.u.k, t.u.dk, g->dk);
    if (g->dparam[SLA_1D_W])
        filter_gradient(&t, g->dout, g->dparam[SLA_1D_W]);
    float *db = g->dparam[SLA_1D_B];
    if (!db) return;
    sum_rows(c->threads, 1, t.u.maps * t.outputs, d, 0, NULL, g->dout, db);
    for (size_t l = 0; l < d; l++) db[l] *= t.factor;
}

ATT_KERNELS = {
    {
        .name = "sla_1d.unfused",
        .mechanism = "sla_1d",
        .brief = "a pass over memory for each operation",
        .plain = true,
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
