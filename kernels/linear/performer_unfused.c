/* performer.unfused - one pass over memory for each operation: the projection
 * x Omega', |x|^2, maxima, exponentials, then the passes of linear attention.
 *
 * Bound by memory, by scalar exponentials and by loads; the features are about
 * ln d times larger than q and k, and all of them are written and read again.
 */
#include "random_features.h"
#include "unfused.h"

typedef struct tensors {
    unfused u;
    float *half; /* s = |x|^2 / (2 sqrt d) of queries, then keys            */
    float *max;  /* of a query's features, then of a map's keys             */
} tensors;

static tensors lay_out(const att_problem *p, int threads, arena *forward,
                       arena *backward)
{
    tensors t = { .u = {
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = att_keys(p), .f = random_features(p), .e = att_value_dim(p),
        .causal = is_causal(p),
    } };
    t.u.d.every = t.u.causal ? (float)PERFORMER_EPS_CAUSAL : 0;
    unfused_lay_out(&t.u, forward, backward);
    const size_t most = t.u.n > t.u.m ? t.u.n : t.u.m;
    t.half = arena_take(forward, t.u.maps * most);
    t.max = arena_take(forward, t.u.maps * most);
    return t;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    arena forward = { 0 }, backward = { 0 };
    lay_out(p, threads, &forward, &backward);
    unfused_sizes(&forward, &backward, out);
    out->state = random_features(p) * (size_t)p->head_dim * sizeof(float);
}

static void prepare(const att_call *c)
{
    random_turn(c->p, random_features(c->p), c->param[RANDOM_PROJ], c->state);
}

static float largest(const float *x, size_t n)
{
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
}

/* phi holds u = x Omega' and becomes m^(-1/2) (exp(u - s - max) + 1e-4). */
static void map_softmax(const tensors *t, const float *x, size_t d,
                        size_t tokens, bool keys, float *phi)
{
    const unfused *u = &t->u;
    const size_t f = u->f, rows = u->maps * tokens, group = keys ? tokens : 1;
    const float scale = 1 / sqrtf((float)f);
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < rows; row++)
        t->half[row] = row_dot(x + row * d, x + row * d, d) /
                       (2 * sqrtf((float)d));
    #pragma omp parallel for num_threads(u->threads)
    for (size_t g = 0; g < rows / group; g++)
        t->max[g] = largest(phi + g * group * f, group * f);
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < rows; row++) {
        const float minus = t->half[row] + t->max[row / group];
        for (size_t c = 0; c < f; c++)
            phi[row * f + c] = scale * (expf(phi[row * f + c] - minus) +
                                        (float)PERFORMER_FLOOR_SOFTMAX);
    }
}

static void map_relu(const tensors *t, size_t tokens, float *phi)
{
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t i = 0; i < t->u.maps * tokens * t->u.f; i++)
        phi[i] = fmaxf(phi[i], 0) + (float)PERFORMER_FLOOR_RELU;
}

static void map_tokens(const att_call *c, const tensors *t, const float *x,
                       size_t tokens, bool keys, float *phi)
{
    const size_t d = (size_t)c->p->head_dim;
    product(t->u.threads, 1, t->u.maps * tokens, d, t->u.f, x, false, c->state,
            phi);
    if (c->p->kernel_fn == ATT_FN_RELU) map_relu(t, tokens, phi);
    else map_softmax(t, x, d, tokens, keys, phi);
}

static void forward(const att_call *c)
{
    arena kept = { .base = c->save ? c->save : c->work }, unused = { 0 };
    const tensors t = lay_out(c->p, c->threads, &kept, &unused);
    map_tokens(c, &t, c->q, t.u.n, false, t.u.q);
    map_tokens(c, &t, c->k, t.u.m, true, t.u.k);
    unfused_forward(&t.u, c->v, c->o);
}

/* du = dphi times what is left of phi without its floor, in place of dphi;
 * dx = d^(-1/4) du Omega - x sum(du) / sqrt d (the sum is of |x|^2 in s). */
static void unmap(const att_call *c, const tensors *t, const float *x,
                  size_t tokens, const float *phi, float *du, float *dx)
{
    const unfused *u = &t->u;
    const size_t f = u->f, d = (size_t)c->p->head_dim, rows = u->maps * tokens;
    const bool softmax = c->p->kernel_fn == ATT_FN_SOFTMAX;
    const float floor = softmax
                            ? (float)PERFORMER_FLOOR_SOFTMAX / sqrtf((float)f)
                            : (float)PERFORMER_FLOOR_RELU;
    const float scale = powf((float)d, -0.25f);
    if (!dx) return;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t i = 0; i < rows * f; i++)
        du[i] *= softmax ? phi[i] - floor : (float)(phi[i] > floor);
    product(u->threads, 1, rows, f, d, du, false, c->param[RANDOM_PROJ], dx);
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < rows; row++) {
        float sum = 0;
        for (size_t l = 0; softmax && l < f; l++) sum += du[row * f + l];
        for (size_t l = 0; l < d; l++)
            dx[row * d + l] =
                scale * (dx[row * d + l] - scale * sum * x[row * d + l]);
    }
}

static void backward(const att_call *c, const att_grad *g)
{
    arena kept = { .base = c->save }, own = { .base = c->work };
    const tensors t = lay_out(c->p, c->threads, &kept, &own);
    unfused_backward(&t.u, c->v, g->dout, g->dv);
    unmap(c, &t, c->q, t.u.n, t.u.q, t.u.dq, g->dq);
    unmap(c, &t, c->k, t.u.m, t.u.k, t.u.dk, g->dk);
}

ATT_KERNELS = {
    {
        .name = "performer.unfused",
        .mechanism = "performer",
        .brief = "a pass over memory for each operation",
        .plain = true,
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
