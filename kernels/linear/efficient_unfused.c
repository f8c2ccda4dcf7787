/* efficient.unfused - one pass over memory for each operation: the softmax of q
 * over features, of k over tokens, S, rho(Q) S.
 *
 * Bound by memory, by scalar exponentials and by loads.  Both softmaxes are
 * kept for backward.
 */
#include "unfused.h"

typedef struct tensors {
    unfused u;
    float *level, *sum; /* over tokens [maps][d]: maximum, of exp           */
    float *mean;        /* sum over tokens of K dK [maps][d]                */
} tensors;

static tensors lay_out(const att_problem *p, int threads, arena *forward,
                       arena *backward)
{
    tensors t = { .u = {
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = att_keys(p), .f = (size_t)p->head_dim, .e = att_value_dim(p),
        .d = { .divided = true },
    } };
    unfused_lay_out(&t.u, forward, backward);
    t.level = arena_take(forward, t.u.maps * t.u.f);
    t.sum = arena_take(forward, t.u.maps * t.u.f);
    t.mean = arena_take(backward, t.u.maps * t.u.f);
    return t;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    arena forward = { 0 }, backward = { 0 };
    lay_out(p, threads, &forward, &backward);
    unfused_sizes(&forward, &backward, out);
}

static void map_queries(const unfused *u, const float *q)
{
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < u->maps * u->n; row++) {
        const float *x = q + row * u->f;
        float *y = u->q + row * u->f, max = -INFINITY, sum = 0;
        for (size_t c = 0; c < u->f; c++) max = fmaxf(max, x[c]);
        for (size_t c = 0; c < u->f; c++) sum += y[c] = expf(x[c] - max);
        for (size_t c = 0; c < u->f; c++) y[c] /= sum;
    }
}

static void map_keys(const tensors *t, const float *k)
{
    const unfused *u = &t->u;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t map = 0; map < u->maps; map++) {
        float *level = t->level + map * u->f;
        const float *x = k + map * u->m * u->f;
        memcpy(level, x, u->f * sizeof *level);
        for (size_t i = u->f; i < u->m * u->f; i++)
            level[i % u->f] = fmaxf(level[i % u->f], x[i]);
    }
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < u->maps * u->m; row++)
        for (size_t c = 0; c < u->f; c++)
            u->k[row * u->f + c] =
                expf(k[row * u->f + c] - t->level[row / u->m * u->f + c]);
    sum_rows(u->threads, u->maps, u->m, u->f, 0, NULL, u->k, t->sum);
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < u->maps * u->m; row++)
        for (size_t c = 0; c < u->f; c++)
            u->k[row * u->f + c] /= t->sum[row / u->m * u->f + c];
}

static void forward(const att_call *c)
{
    arena kept = { .base = c->save ? c->save : c->work }, unused = { 0 };
    const tensors t = lay_out(c->p, c->threads, &kept, &unused);
    map_queries(&t.u, c->q);
    map_keys(&t, c->k);
    unfused_forward(&t.u, c->v, c->o);
}

/* dx = y (dy - sum y dy), the sum over the features of a query. */
static void unmap_queries(const unfused *u, float *dq)
{
    if (!dq) return;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < u->maps * u->n; row++) {
        const float *y = u->q + row * u->f, *dy = u->dq + row * u->f;
        const float mean = row_dot(y, dy, u->f);
        for (size_t c = 0; c < u->f; c++)
            dq[row * u->f + c] = y[c] * (dy[c] - mean);
    }
}

/* The same over the tokens of a feature. */
static void unmap_keys(const tensors *t, float *dk)
{
    const unfused *u = &t->u;
    if (!dk) return;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t i = 0; i < u->maps * u->m * u->f; i++)
        dk[i] = u->k[i] * u->dk[i];
    sum_rows(u->threads, u->maps, u->m, u->f, 0, NULL, dk, t->mean);
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < u->maps * u->m; row++)
        for (size_t c = 0; c < u->f; c++)
            dk[row * u->f + c] -= u->k[row * u->f + c] *
                                  t->mean[row / u->m * u->f + c];
}

static void backward(const att_call *c, const att_grad *g)
{
    arena kept = { .base = c->save }, own = { .base = c->work };
    const tensors t = lay_out(c->p, c->threads, &kept, &own);
    unfused_backward(&t.u, c->v, g->dout, g->dv);
    unmap_queries(&t.u, g->dq);
    unmap_keys(&t, g->dk);
}

ATT_KERNELS = {
    {
        .name = "efficient.unfused",
        .mechanism = "efficient",
        .brief = "a pass over memory for each operation",
        .plain = true,
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
