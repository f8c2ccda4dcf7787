/* efficient.fused - both softmaxes, S and rho(Q) S chunk by chunk (fused.h).
 *
 * The softmax over tokens needs no pass of its own: S and z are summed from
 * exp(k - max), and row c of S is divided by z_c at the end; one pass over k
 * for the maxima comes first.  Bound by the FMA units, and at d = 32 as much by
 * the two exponentials a channel.
 */
#include "fused.h"
#include "levels.h"

/* level and 1 / z of each map, [maps][lf] each, are kept. */
static float *level_of(const fused *u, size_t map)
{
    return u->kept + map * u->lf;
}

static float *share_of(const fused *u, size_t map)
{
    return u->kept + (u->maps + map) * u->lf;
}

/* Softmax of one query over its d features. */
SIMD_INLINE void map_query(const float *x, const float *none, size_t d,
                           size_t lf, float *phi)
{
    levels_exp(x, none, 0, levels_largest(x, none, d), d, phi);
    vf sum = v_zero();
    for (size_t c = 0; c < lf; c += VL) sum += v_load(phi + c);
    const vf h = v_set1(1 / v_sum(sum));
    for (size_t c = 0; c < lf; c += VL) v_store(phi + c, v_load(phi + c) * h);
}

/* Queries: softmax.  Keys: exp(k - max), in backward divided by its sum. */
static void map(const fused_chunk *k)
{
    const fused *u = k->u;
    const size_t d = u->f;
    const float *x = k->side == ATT_Q ? u->c->q : u->c->k;
    float *none = k->scratch;
    x += fused_place(k, d);
    for (size_t c = 0; c < u->lf; c++) none[c] = 0;
    for (size_t r = 0; r < k->rows; r++, x += d) {
        float *phi = k->phi + r * u->lf;
        if (k->side == ATT_Q) {
            map_query(x, none, d, u->lf, phi);
            continue;
        }
        levels_exp(x, level_of(u, k->map), -1, 0, d, phi);
        for (size_t c = 0; u->g && c < u->lf; c += VL)
            v_store(phi + c,
                    v_load(phi + c) * v_load(share_of(u, k->map) + c));
    }
}

/* Row c of S over z_c. */
static void settle(const fused *u, size_t map)
{
    const fused_state x = fused_kept(u, map);
    float *share = share_of(u, map);
    for (size_t c = 0; c < u->lf; c++) share[c] = c < u->f ? 1 / x.z[c] : 0;
    for (size_t c = 0; c < u->f; c++)
        for (size_t l = 0; l < u->e; l++) x.s[c * u->le + l] *= share[c];
}

/* dz_c becomes sum_j K_jc dK_jc = S_c.dS_c, which the softmax over tokens takes
 * off. */
static void settle_back(const fused *u, size_t map)
{
    const fused_state x = fused_kept(u, map);
    const fused_state ds = fused_state_of(u, u->dstate, map * u->parts);
    for (size_t c = 0; c < u->lf; c++) {
        float sum = 0;
        for (size_t l = 0; c < u->f && l < u->e; l++)
            sum += x.s[c * u->le + l] * ds.s[c * u->le + l];
        ds.z[c] = sum;
    }
}

/* dx = phi (dphi - mean), the mean of a query's features or of a key's channel.
 *  */
static void unmap(const fused_chunk *k)
{
    const fused *u = k->u;
    const size_t d = u->f, whole = d / VL * VL, last = d - whole;
    const float *mean = k->scratch;
    float *dx = k->side == ATT_Q ? u->g->dq : u->g->dk;
    if (!dx) return;
    if (k->side == ATT_K)
        mean = fused_state_of(u, u->dstate, k->map * u->parts).z;
    dx += fused_place(k, d);
    for (size_t r = 0; r < k->rows; r++, dx += d) {
        const float *phi = k->phi + r * u->lf, *dphi = k->dphi + r * u->lf;
        if (k->side == ATT_Q) {
            float sum;
            fused_dots(phi, 0, 1, dphi, 0, u->lf, &sum);
            for (size_t c = 0; c < u->lf; c++) k->scratch[c] = sum;
        }
        for (size_t c = 0; c < whole; c += VL)
            v_store(dx + c, v_load(phi + c) *
                                (v_load(dphi + c) - v_load(mean + c)));
        if (last)
            v_store_n(dx + whole,
                      v_load(phi + whole) *
                          (v_load(dphi + whole) - v_load(mean + whole)),
                      last);
    }
}

static fused describe(const att_problem *p, int threads)
{
    const size_t lf = fused_pitch((size_t)p->head_dim);
    return (fused){
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = att_keys(p), .f = (size_t)p->head_dim, .e = att_value_dim(p),
        .d = { .divided = true }, .hook_floats = lf,
        .kept_floats = 2 * maps_of(p) * lf, .map = map, .unmap = unmap,
        .settle = settle, .settle_back = settle_back,
    };
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    fused u = describe(p, threads);
    fused_sizes(&u, out);
}

static void forward(const att_call *c)
{
    fused u = describe(c->p, c->threads);
    fused_attach(&u, c, NULL);
    levels_of_keys(&u, c->k, u.kept);
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
    if (pass == ATT_BACKWARD) return;
    out->div += (double)u.maps * ((double)u.f - (double)(u.m * u.f));
    out->mul += (double)(u.maps * u.f * u.e); /* S, not K, over its sums */
}

ATT_KERNELS = {
    {
        .name = "efficient.fused",
        .mechanism = "efficient",
        .brief = "chunks in registers: map, sums and products in one sweep",
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
        .executed = executed,
    },
    { 0 },
};
