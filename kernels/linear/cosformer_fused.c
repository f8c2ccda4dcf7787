/* cosformer.fused - relu, its products with sin and cos, sums and normaliser
 * chunk by chunk (fused.h), with 2 d features.
 *
 * Bound by the FMA units: 8 d dv FLOPs a token, since the re-weighting doubles
 * the features.
 */
#include "cosine.h"
#include "fused.h"

/* phi = [relu(x) sin t, relu(x) cos t]. */
static void map(const fused_chunk *k)
{
    const size_t d = k->u->f / 2, whole = d / VL * VL, last = d - whole;
    const float *table = k->u->c->state;
    const float *x = k->side == ATT_Q ? k->u->c->q : k->u->c->k;
    float *phi = k->phi;
    x += fused_place(k, d);
    for (size_t r = 0; r < k->rows; r++, x += d, phi += k->u->lf) {
        const vf sine = v_set1(table[2 * (k->at + r)]);
        const vf cosine = v_set1(table[2 * (k->at + r) + 1]);
        for (size_t c = 0; c < whole; c += VL) {
            const vf y = v_max(v_load(x + c), v_zero());
            v_store(phi + c, y * sine);
            v_store(phi + d + c, y * cosine);
        }
        if (!last) continue;
        const vf y = v_max(v_load_n(x + whole, last), v_zero());
        v_store_n(phi + whole, y * sine, last);
        v_store_n(phi + d + whole, y * cosine, last);
    }
}

SIMD_INLINE vf slope(vf x, vf along_sine, vf along_cosine, vf sine, vf cosine)
{
    return v_select(x > 0, along_sine * sine + along_cosine * cosine, v_zero());
}

static void unmap(const fused_chunk *k)
{
    const size_t d = k->u->f / 2, whole = d / VL * VL, last = d - whole;
    const float *table = k->u->c->state, *y = k->dphi;
    const float *x = k->side == ATT_Q ? k->u->c->q : k->u->c->k;
    float *dx = k->side == ATT_Q ? k->u->g->dq : k->u->g->dk;
    if (!dx) return;
    x += fused_place(k, d);
    dx += fused_place(k, d);
    for (size_t r = 0; r < k->rows; r++, x += d, dx += d, y += k->u->lf) {
        const vf sine = v_set1(table[2 * (k->at + r)]);
        const vf cosine = v_set1(table[2 * (k->at + r) + 1]);
        for (size_t c = 0; c < whole; c += VL)
            v_store(dx + c, slope(v_load(x + c), v_load(y + c),
                                  v_load(y + d + c), sine, cosine));
        if (last)
            v_store_n(dx + whole,
                      slope(v_load_n(x + whole, last),
                            v_load_n(y + whole, last),
                            v_load_n(y + d + whole, last), sine, cosine),
                      last);
    }
}

static fused describe(const att_problem *p, int threads)
{
    return (fused){
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = att_keys(p), .f = 2 * (size_t)p->head_dim, .e = att_value_dim(p),
        .causal = is_causal(p), .d = { .least = COSFORMER_LEAST }, .map = map,
        .unmap = unmap,
    };
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    fused u = describe(p, threads);
    fused_sizes(&u, out);
    out->state = 2 * cosine_tokens(p) * sizeof(float);
}

static void prepare(const att_call *c)
{
    cosine_fill(c->p, c->state);
}

static void forward(const att_call *c)
{
    fused u = describe(c->p, c->threads);
    fused_attach(&u, c, NULL);
    fused_forward(&u);
}

static void backward(const att_call *c, const att_grad *g)
{
    fused u = describe(c->p, c->threads);
    fused_attach(&u, c, g);
    fused_backward(&u);
}

static void executed(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const fused u = describe(p, 1);
    fused_executed(&u, pass, out);
}

ATT_KERNELS = {
    {
        .name = "cosformer.fused",
        .mechanism = "cosformer",
        .brief = "chunks in registers: map, sums and products in one sweep",
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
        .executed = executed,
    },
    { 0 },
};
