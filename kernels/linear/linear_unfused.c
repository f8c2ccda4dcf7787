/* linear.unfused - one pass over memory for each operation, as a framework runs
 * it: phi(q), phi(k), z, S, D, phi(Q) S, division.
 *
 * Bound by memory and by loads: every product reads its left factor one float
 * at a time, every pass writes a tensor that the next one reads.  The features
 * are kept for backward.  It is what linear.fused is shown beside.  Causal: the
 * running sums of the definition, one token after the other.
 */
#include "exponential.h"
#include "unfused.h"

typedef struct tensors {
    unfused u;
    float *level;  /* exp: [maps][d]                                        */
    float *spread; /* exp, causal: [maps], 1: token after token             */
    float *scratch, *scratch_backward; /* for those maps: backward must not
                                          write to what forward has kept     */
} tensors;

static tensors lay_out(const att_problem *p, int threads, arena *forward,
                       arena *backward)
{
    const bool exponential = p->feature_map == ATT_MAP_EXP;
    tensors t = { .u = {
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = att_keys(p), .f = (size_t)p->head_dim, .e = att_value_dim(p),
        .causal = is_causal(p), .d = { .eps = EXPONENTIAL_EPS },
    } };
    unfused_lay_out(&t.u, forward, backward);
    if (!exponential) return t;
    t.u.eps_row = arena_take(forward, t.u.maps * t.u.n);
    t.level = arena_take(forward, t.u.maps * t.u.f);
    if (!t.u.causal) return t;
    t.spread = arena_take(forward, t.u.maps);
    t.scratch =
        arena_take(forward, (size_t)threads * exponential_floats(p, false));
    t.scratch_backward =
        arena_take(backward, (size_t)threads * exponential_floats(p, true));
    return t;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    arena forward = { 0 }, backward = { 0 };
    lay_out(p, threads, &forward, &backward);
    unfused_sizes(&forward, &backward, out);
}

/* ---- features ------------------------------------------------------------ */

static void map_elementwise(const tensors *t, int map, const float *x,
                            size_t count, float *phi)
{
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t i = 0; i < count; i++) {
        const float above = x[i] > 0 ? x[i] : 0, below = x[i] > 0 ? 0 : x[i];
        /* elu + 1: x + e^0 above 0, 0 + e^x below, the exponential of either */
        phi[i] = map == ATT_MAP_RELU ? above : above + expf(below);
    }
}

/* Levels of all maps, then keys and queries. */
static void map_exponential(const tensors *t, const float *q, const float *k)
{
    const unfused *u = &t->u;
    const size_t f = u->f;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t map = 0; map < u->maps; map++) {
        float *level = t->level + map * f;
        memcpy(level, k + map * u->m * f, f * sizeof *level);
        exponential_raise(k + map * u->m * f, u->m, f, level);
        if (t->spread)
            t->spread[map] = exponential_spread(k + map * u->m * f, level, f);
    }
    memcpy(u->k, k, u->maps * u->m * f * sizeof *k);
    memcpy(u->q, q, u->maps * u->n * f * sizeof *q);
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < u->maps * u->m; row++)
        exponential_key(u->k + row * f, t->level + row / u->m * f, f);
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < u->maps * u->n; row++)
        u->eps_row[row] = exponential_query(
            u->q + row * f, t->level + row / u->n * f, f);
}

static void forward(const att_call *c)
{
    arena kept = { .base = c->save ? c->save : c->work }, unused = { 0 };
    const tensors t = lay_out(c->p, c->threads, &kept, &unused);
    const unfused *u = &t.u;
    if (t.level) map_exponential(&t, c->q, c->k);
    else {
        map_elementwise(&t, c->p->feature_map, c->q, u->maps * u->n * u->f,
                        u->q);
        map_elementwise(&t, c->p->feature_map, c->k, u->maps * u->m * u->f,
                        u->k);
    }
    unfused_forward(u, c->v, c->o);
    if (t.spread)
        exponential_spread_maps(c, NULL, t.spread, t.scratch);
}

/* dx = dphi phi'(x); phi' of elu1 is min(phi, 1), of relu 1 where phi > 0. */
static void unmap(const tensors *t, int map, const float *phi,
                  const float *dphi, size_t count, float *dx)
{
    if (!dx) return;
    #pragma omp parallel for num_threads(t->u.threads)
    for (size_t i = 0; i < count; i++)
        dx[i] = dphi[i] * (map == ATT_MAP_RELU   ? (float)(phi[i] > 0)
                           : map == ATT_MAP_ELU1 ? fminf(phi[i], 1)
                                                 : phi[i]);
}

static void backward(const att_call *c, const att_grad *g)
{
    arena kept = { .base = c->save }, own = { .base = c->work };
    const tensors t = lay_out(c->p, c->threads, &kept, &own);
    const unfused *u = &t.u;
    unfused_backward(u, c->v, g->dout, g->dv);
    unmap(&t, c->p->feature_map, u->q, u->dq, u->maps * u->n * u->f, g->dq);
    unmap(&t, c->p->feature_map, u->k, u->dk, u->maps * u->m * u->f, g->dk);
    if (t.spread)
        exponential_spread_maps(c, g, t.spread, t.scratch_backward);
}

ATT_KERNELS = {
    {
        .name = "linear.unfused",
        .mechanism = "linear",
        .brief = "a pass over memory for each operation",
        .plain = true,
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
