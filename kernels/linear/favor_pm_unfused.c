/* favor_pm.unfused - one pass over memory for each operation: the projection
 * x Omega', |x|^2, exp(u - c) and exp(-u - c), then the passes of linear
 * attention.
 *
 * Bound by memory, by scalar exponentials and by loads.  Exponents are taken
 * relative to the largest one of a channel's keys and of a query
 * (exponential.h), since exp(u - c) alone overflows a float for aligned x and
 * Omega.
 */
#include "exponential.h"
#include "random_features.h"
#include "unfused.h"

typedef struct tensors {
    unfused u;
    float *half;      /* |x|^2 / (2 sqrt d) of queries, then keys           */
    float *projected; /* u of queries, then keys [maps][tokens][rows]       */
    float *level;     /* [maps][f]                                          */
} tensors;

static tensors lay_out(const att_problem *p, int threads, arena *forward,
                       arena *scratch, arena *backward)
{
    tensors t = { .u = {
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = att_keys(p), .f = 2 * random_features_pm(p),
        .e = att_value_dim(p), .d = { .eps = (float)FAVOR_PM_EPS },
    } };
    unfused_lay_out(&t.u, forward, backward);
    const size_t most = t.u.n > t.u.m ? t.u.n : t.u.m;
    t.u.eps_row = arena_take(forward, t.u.maps * t.u.n);
    t.half = arena_take(scratch, t.u.maps * most);
    t.projected = arena_take(scratch, t.u.maps * most * (t.u.f / 2));
    t.level = arena_take(forward, t.u.maps * t.u.f);
    return t;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    arena forward = { 0 }, scratch = { 0 }, backward = { 0 };
    lay_out(p, threads, &forward, &scratch, &backward);
    unfused_sizes(&forward, &backward, out);
    unfused_scratch(&scratch, out);
    out->state = random_features_pm(p) * (size_t)p->head_dim * sizeof(float);
}

static void prepare(const att_call *c)
{
    random_turn(c->p, random_features_pm(c->p), c->param[RANDOM_PROJ],
                c->state);
}

/* Exponents u - half and -u - half of all tokens into x [maps][tokens][f].  The
 * ln(2m)/2 of the definition is left to eps. */
static void exponents(const att_call *c, const tensors *t, const float *in,
                      size_t tokens, float *x)
{
    const unfused *u = &t->u;
    const size_t d = (size_t)c->p->head_dim, f = u->f, half = f / 2;
    const size_t rows = u->maps * tokens;
    product(u->threads, 1, rows, d, half, in, false, c->state, t->projected);
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < rows; row++)
        t->half[row] = row_dot(in + row * d, in + row * d, d) /
                       (2 * sqrtf((float)d));
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < rows; row++)
        for (size_t l = 0; l < half; l++) {
            const float y = t->projected[row * half + l];
            x[row * f + l] = y - t->half[row];
            x[row * f + half + l] = -y - t->half[row];
        }
}

static void forward(const att_call *c)
{
    arena save = { .base = c->save }, work = { .base = c->work }, unused = { 0 };
    const tensors t = lay_out(c->p, c->threads,
                              c->save ? &save : &work, &work, &unused);
    const unfused *u = &t.u;
    exponents(c, &t, c->k, u->m, u->k);
    exponents(c, &t, c->q, u->n, u->q);
    #pragma omp parallel for num_threads(u->threads)
    for (size_t map = 0; map < u->maps; map++) {
        float *level = t.level + map * u->f;
        memcpy(level, u->k + map * u->m * u->f, u->f * sizeof *level);
        exponential_raise(u->k + map * u->m * u->f, u->m, u->f, level);
    }
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < u->maps * u->m; row++)
        exponential_key(u->k + row * u->f, t.level + row / u->m * u->f, u->f);
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < u->maps * u->n; row++)
        u->eps_row[row] = (float)u->f * exponential_query(
            u->q + row * u->f, t.level + row / u->n * u->f, u->f);
    unfused_forward(u, c->v, c->o);
}

/* du = dphi phi of both halves; dx = d^(-1/4) (du+ - du-) Omega - x sum / sqrt
 * d. */
static void unmap(const att_call *c, const tensors *t, const float *x,
                  size_t tokens, const float *phi, const float *dphi, float *dx)
{
    const unfused *u = &t->u;
    const size_t d = (size_t)c->p->head_dim, f = u->f, half = f / 2;
    const size_t rows = u->maps * tokens;
    const float scale = powf((float)d, -0.25f);
    if (!dx) return;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < rows; row++) {
        const float *y = phi + row * f, *dy = dphi + row * f;
        for (size_t l = 0; l < half; l++)
            t->projected[row * half + l] =
                y[l] * dy[l] - y[half + l] * dy[half + l];
        t->half[row] = row_dot(y, dy, f);
    }
    product(u->threads, 1, rows, half, d, t->projected, false,
            c->param[RANDOM_PROJ], dx);
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < rows; row++)
        for (size_t l = 0; l < d; l++)
            dx[row * d + l] = scale * (dx[row * d + l] - scale * t->half[row] *
                                                             x[row * d + l]);
}

static void backward(const att_call *c, const att_grad *g)
{
    arena kept = { .base = c->save }, own = { .base = c->work };
    const tensors t = lay_out(c->p, c->threads, &kept, &own, &own);
    unfused_backward(&t.u, c->v, g->dout, g->dv);
    unmap(c, &t, c->q, t.u.n, t.u.q, t.u.dq, g->dq);
    unmap(c, &t, c->k, t.u.m, t.u.k, t.u.dk, g->dk);
}

ATT_KERNELS = {
    {
        .name = "favor_pm.unfused",
        .mechanism = "favor_pm",
        .brief = "a pass over memory for each operation",
        .plain = true,
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
