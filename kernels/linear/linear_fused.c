/* linear.fused - feature maps, S, z and the normaliser in one sweep over k and
 * v and one over q, by chunks in registers and the first cache (fused.h).
 *
 * Bound by the FMA units from d = 32 on: the map is a few operations a channel.
 * exp needs the largest key of every channel first, one more pass over k.
 */
#include "exponential.h"
#include "fused.h"
#include "levels.h"

typedef struct tensors {
    fused u;
    float *level;  /* exp: [maps][lf]; pads 0                               */
    float *spread; /* exp, causal: [maps], 1: token after token             */
} tensors;

/* ---- features ------------------------------------------------------------ */

SIMD_INLINE vf map_elu1(vf x)
{
    return v_max(x, v_zero()) + v_exp(v_min(x, v_zero()));
}

SIMD_INLINE vf slope_elu1(vf phi)
{
    return v_min(phi, v_set1(1));
}

SIMD_INLINE vf slope_exp(vf phi)
{
    return phi;
}

/* exp(k - level), or exp(q + level - shift) with the shift that makes the
 * largest 1. */
static void map_exponential(const fused_chunk *k)
{
    const fused *u = k->u;
    const tensors *t = u->own;
    const float *level = t->level + k->map * u->lf;
    const float *x = fused_input(k, 0, u->f);
    for (size_t r = 0; r < k->rows; r++, x += u->f) {
        float *phi = k->phi + r * u->lf;
        if (k->side == ATT_K) {
            levels_exp(x, level, -1, 0, u->f, phi);
            continue;
        }
        const float shift = levels_largest(x, level, u->f);
        levels_exp(x, level, 1, shift, u->f, phi);
        k->eps[r] = exponential_eps(shift);
    }
}

static void map(const fused_chunk *k)
{
    switch (k->u->c->p->feature_map) {
    case ATT_MAP_ELU1: fused_map(k, map_elu1); break;
    case ATT_MAP_RELU: fused_map(k, fused_relu); break;
    default: map_exponential(k); break;
    }
}

static void unmap(const fused_chunk *k)
{
    switch (k->u->c->p->feature_map) {
    case ATT_MAP_ELU1: fused_unmap(k, slope_elu1); break;
    case ATT_MAP_RELU: fused_unmap(k, fused_relu_slope); break;
    default: fused_unmap(k, slope_exp); break;
    }
}

/* ---- calls --------------------------------------------------------------- */

static tensors describe(const att_problem *p, int threads)
{
    const bool exponential = p->feature_map == ATT_MAP_EXP;
    const size_t levels = fused_pitch((size_t)p->head_dim) + is_causal(p);
    const size_t spread =
        exponential && is_causal(p) ? (size_t)threads : 0;
    return (tensors){ .u = {
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = att_keys(p), .f = (size_t)p->head_dim, .e = att_value_dim(p),
        .causal = is_causal(p), .dtype = p->dtype,
        .d = { .eps = EXPONENTIAL_EPS },
        .eps_rows = exponential, .map = map, .unmap = unmap,
        .kept_floats = exponential ? maps_of(p) * levels : 0,
        .extra_floats = { spread * exponential_floats(p, false),
                          spread * exponential_floats(p, true) },
    } };
}

static const char *reject(const att_problem *p, enum att_pass pass)
{
    (void)pass;
    if (p->dtype != ATT_F32 && p->feature_map == ATT_MAP_EXP)
        return "float32 storage only with feature_map=exp";
    return NULL;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    tensors t = describe(p, threads);
    fused_sizes(&t.u, out);
}

static tensors attach(const att_call *c, const att_grad *g)
{
    tensors t = describe(c->p, c->threads);
    fused_attach(&t.u, c, g);
    if (!t.u.eps_rows) return t;
    t.level = t.u.kept;
    if (t.u.causal) t.spread = t.level + t.u.maps * t.u.lf;
    return t;
}

static void make_levels(const tensors *t, const float *k)
{
    const fused *u = &t->u;
    levels_of_keys(u, k, t->level);
    for (size_t map = 0; t->spread && map < u->maps; map++)
        t->spread[map] = exponential_spread(
            k + map * u->m * u->f, t->level + map * u->lf, u->f);
}

static void forward(const att_call *c)
{
    tensors t = attach(c, NULL);
    t.u.own = &t;
    if (t.level) make_levels(&t, c->k);
    if (!t.spread || !exponential_all(t.spread, t.u.maps))
        fused_forward(&t.u);
    if (t.spread)
        exponential_spread_maps(c, NULL, t.spread, t.u.extra);
}

static void backward(const att_call *c, const att_grad *g)
{
    tensors t = attach(c, g);
    t.u.own = &t;
    if (!t.spread || !exponential_all(t.spread, t.u.maps))
        fused_backward(&t.u);
    if (t.spread)
        exponential_spread_maps(c, g, t.spread, t.u.extra);
}

static void executed(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const tensors t = describe(p, 1);
    fused_executed(&t.u, pass, out);
}

ATT_KERNELS = {
    {
        .name = "linear.fused",
        .mechanism = "linear",
        .brief = "chunks in registers: map, sums and products in one sweep",
        .reject = reject,
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
        .executed = executed,
    },
    { 0 },
};
