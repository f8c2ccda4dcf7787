/* sla.fused - relu, position, sums, normaliser and convolution chunk by chunk:
 * the convolution of a chunk of tokens is left in o, to which the product of
 * queries and S is added while both are in the first cache (fused.h,
 * dwc_fused.h).
 *
 * Bound by the FMA units: 4 d^2 FLOPs a token for the products, 2 k^2 d for the
 * convolution at one load an FMA.  Where N <= d the scores come first.
 */
#include "dwc_fused.h"
#include "sla.h"

/* phi = max(x + P, 0). */
static void map(const fused_chunk *k)
{
    const fused *u = k->u;
    const size_t d = u->f, tokens = k->side == ATT_Q ? u->n : u->m;
    const size_t whole = d / VL * VL, last = d - whole;
    const size_t head = k->map % (size_t)u->c->p->heads;
    const float *x = fused_input(k, 0, d);
    const float *pos = k->side == ATT_K ? u->c->param[SLA_POS] : NULL;
    if (pos) pos += (head * tokens + k->at) * d;
    for (size_t r = 0; r < k->rows; r++, x += d, pos += pos ? d : 0) {
        float *phi = k->phi + r * u->lf;
        for (size_t c = 0; c < whole; c += VL) {
            const vf y = pos ? v_load(x + c) + v_load(pos + c) : v_load(x + c);
            v_store(phi + c, v_max(y, v_zero()));
        }
        if (!last) continue;
        vf y = v_load_n(x + whole, last);
        if (pos) y += v_load_n(pos + whole, last);
        v_store_n(phi + whole, v_max(y, v_zero()), last);
    }
}

/* y (+)= dphi where phi > 0. */
SIMD_INLINE void open_rows(const fused_chunk *k, bool add, float *y)
{
    const size_t d = k->u->f, whole = d / VL * VL, last = d - whole;
    for (size_t r = 0; r < k->rows; r++, y += d) {
        const float *phi = k->phi + r * k->u->lf;
        const float *dphi = k->dphi + r * k->u->lf;
        for (size_t c = 0; c < whole; c += VL) {
            const vf x = v_select(v_load(phi + c) > 0, v_load(dphi + c),
                                  v_zero());
            v_store(y + c, add ? v_load(y + c) + x : x);
        }
        if (!last) continue;
        const vf x = v_select(v_load(phi + whole) > 0, v_load(dphi + whole),
                              v_zero());
        v_store_n(y + whole, add ? v_load_n(y + whole, last) + x : x, last);
    }
}

/* dq, dk, and dP, which sums dk over the batch. */
static void unmap(const fused_chunk *k)
{
    const fused *u = k->u;
    const size_t tokens = k->side == ATT_Q ? u->n : u->m;
    const size_t heads = (size_t)u->c->p->heads;
    float *dx = k->side == ATT_Q ? u->g->dq : u->g->dk;
    float *dpos = k->side == ATT_K ? u->g->dparam[SLA_POS] : NULL;
    if (dx) open_rows(k, false, dx + fused_place(k, u->f));
    if (dpos)
        open_rows(k, k->map >= heads,
                  dpos + (k->map % heads * tokens + k->at) * u->f);
}

static fused describe(const att_problem *p, int threads)
{
    fused u = {
        .dtype = p->dtype,
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = dwc_keys(p), .f = (size_t)p->head_dim, .e = (size_t)p->head_dim,
        .scores_first = sla_scores_first(p), .sum_batch = true,
        .d = { .eps = SLA_EPS }, .map = map, .unmap = unmap,
    };
    dwc_reserve(p, &u);
    return u;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    fused u = describe(p, threads);
    fused_sizes(&u, out);
    out->state = dwc_filter_floats(p) * sizeof(float);
}

static void prepare(const att_call *c)
{
    dwc_turn(c->p, c->param[SLA_W], c->state);
}

static void forward(const att_call *c)
{
    fused u = describe(c->p, c->threads);
    fused_attach(&u, c, NULL);
    const dwc_call b = dwc_begin(&u, c->param[SLA_B]);
    u.own = &b;
    fused_forward(&u);
}

static void backward(const att_call *c, const att_grad *g)
{
    fused u = describe(c->p, c->threads);
    u.sum_batch = g->dparam[SLA_POS] != NULL;
    fused_attach(&u, c, g);
    const dwc_call b = dwc_begin(&u, c->param[SLA_B]);
    u.own = &b;
    fused_backward(&u);
    dwc_gradients(&u, &b, g->dparam[SLA_W], g->dparam[SLA_B]);
    dwc_resized_back(&u, &b);
}

static void executed(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const fused u = describe(p, 1);
    fused_executed(&u, pass, out);
}

ATT_KERNELS = {
    {
        .name = "sla.fused",
        .mechanism = "sla",
        .brief = "chunks in registers, convolution in the same sweep",
        .reject = dwc_any_dtype,
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
        .executed = executed,
    },
    { 0 },
};
