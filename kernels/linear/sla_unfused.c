/* sla.unfused - one pass over memory for each operation: relu, position, the
 * passes of linear attention in either order, the convolution, the sum.
 *
 * Bound by memory and by loads; each of the k^2 taps reads its filter and its
 * neighbour again.
 */
#include "dwc_passes.h"
#include "sla.h"

typedef struct tensors {
    unfused u;
    dwc_passes dwc;
} tensors;

static tensors lay_out(const att_problem *p, int threads, const float *filters,
                       arena *forward, arena *scratch, arena *backward)
{
    tensors t = { .u = {
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = dwc_keys(p), .f = (size_t)p->head_dim, .e = (size_t)p->head_dim,
        .scores_first = sla_scores_first(p), .d = { .eps = SLA_EPS },
    } };
    unfused_lay_out(&t.u, forward, backward);
    t.dwc = dwc_lay_out(p, threads, filters, scratch);
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
    dwc_turn(c->p, c->param[SLA_W], c->state);
}

/* phi = max(x + P, 0); P [heads][tokens][d] repeats over the batch. */
static void map_tokens(const unfused *u, const float *x, const float *pos,
                       size_t positions, size_t count, float *phi)
{
    #pragma omp parallel for num_threads(u->threads)
    for (size_t i = 0; i < count; i++)
        phi[i] = fmaxf(x[i] + (pos ? pos[i % positions] : 0), 0);
}

static void forward(const att_call *c)
{
    arena save = { .base = c->save }, work = { .base = c->work }, unused = { 0 };
    const tensors t = lay_out(c->p, c->threads, c->state,
                              c->save ? &save : &work, &work, &unused);
    const unfused *u = &t.u;
    const size_t keys = u->maps * u->m * u->f;
    map_tokens(u, c->q, NULL, 1, u->maps * u->n * u->f, u->q);
    map_tokens(u, c->k, c->param[SLA_POS], keys / (size_t)c->p->batch, keys,
               u->k);
    unfused_forward(u, c->v, c->o);
    dwc_pass_forward(&t.dwc, c->v, c->param[SLA_B], c->o);
}

/* dx = dphi where phi > 0; in place of dphi if dx is NULL. */
static void unmap(const unfused *u, const float *phi, float *dphi, size_t count,
                  float *dx)
{
    if (!dx) dx = dphi;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t i = 0; i < count; i++) dx[i] = phi[i] > 0 ? dphi[i] : 0;
}

static void backward(const att_call *c, const att_grad *g)
{
    arena kept = { .base = c->save }, own = { .base = c->work };
    const tensors t = lay_out(c->p, c->threads, c->state, &kept, &own, &own);
    const unfused *u = &t.u;
    unfused_backward(u, c->v, g->dout, g->dv);
    unmap(u, u->q, u->dq, u->maps * u->n * u->f, g->dq);
    unmap(u, u->k, u->dk, u->maps * u->m * u->f, g->dk);
    if (g->dparam[SLA_POS])
        dwc_pass_positions(&t.dwc, c->p->batch, g->dk ? g->dk : u->dk,
                           g->dparam[SLA_POS]);
    dwc_pass_backward(&t.dwc, c->v, g->dout, g->dv, g->dparam[SLA_W],
                      g->dparam[SLA_B]);
}

ATT_KERNELS = {
    {
        .name = "sla.unfused",
        .mechanism = "sla",
        .brief = "a pass over memory for each operation",
        .plain = true,
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
