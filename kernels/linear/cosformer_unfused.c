/* cosformer.unfused - one pass over memory for each operation: relu, its
 * products with sin and cos, z, S, D, phi(Q) S, division.
 *
 * Bound by memory and by loads, as linear.unfused, with twice the features.
 * Causal: running sums, one token after the other.
 */
#include "cosine.h"
#include "unfused.h"

static unfused lay_out(const att_problem *p, int threads, arena *forward,
                       arena *backward)
{
    unfused u = {
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = att_keys(p), .f = 2 * (size_t)p->head_dim, .e = att_value_dim(p),
        .causal = is_causal(p), .d = { .least = COSFORMER_LEAST },
    };
    unfused_lay_out(&u, forward, backward);
    return u;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    arena forward = { 0 }, backward = { 0 };
    lay_out(p, threads, &forward, &backward);
    unfused_sizes(&forward, &backward, out);
    out->state = 2 * cosine_tokens(p) * sizeof(float);
}

static void prepare(const att_call *c)
{
    cosine_fill(c->p, c->state);
}

static void map_tokens(const unfused *u, const float *table, const float *x,
                       size_t tokens, float *phi)
{
    const size_t d = u->f / 2;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < u->maps * tokens; row++) {
        const float *t = table + 2 * (row % tokens);
        for (size_t c = 0; c < d; c++) {
            const float y = fmaxf(x[row * d + c], 0);
            phi[row * u->f + c] = y * t[0];
            phi[row * u->f + d + c] = y * t[1];
        }
    }
}

static void unmap(const unfused *u, const float *table, const float *x,
                  size_t tokens, const float *dphi, float *dx)
{
    const size_t d = u->f / 2;
    if (!dx) return;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < u->maps * tokens; row++) {
        const float *t = table + 2 * (row % tokens), *y = dphi + row * u->f;
        for (size_t c = 0; c < d; c++)
            dx[row * d + c] =
                x[row * d + c] > 0 ? y[c] * t[0] + y[d + c] * t[1] : 0;
    }
}

static void forward(const att_call *c)
{
    arena kept = { .base = c->save ? c->save : c->work }, unused = { 0 };
    const unfused u = lay_out(c->p, c->threads, &kept, &unused);
    map_tokens(&u, c->state, c->q, u.n, u.q);
    map_tokens(&u, c->state, c->k, u.m, u.k);
    unfused_forward(&u, c->v, c->o);
}

static void backward(const att_call *c, const att_grad *g)
{
    arena kept = { .base = c->save }, own = { .base = c->work };
    const unfused u = lay_out(c->p, c->threads, &kept, &own);
    unfused_backward(&u, c->v, g->dout, g->dv);
    unmap(&u, c->state, c->q, u.n, u.dq, g->dq);
    unmap(&u, c->state, c->k, u.m, u.dk, g->dk);
}

ATT_KERNELS = {
    {
        .name = "cosformer.unfused",
        .mechanism = "cosformer",
        .brief = "a pass over memory for each operation",
        .plain = true,
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
