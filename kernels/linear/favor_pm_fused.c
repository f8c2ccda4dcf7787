/* favor_pm.fused - projection, exp(u), exp(-u), sums and products chunk by
 * chunk (fused.h); the 2 m features of a token never leave the caches.
 *
 * Exponents are taken relative to the largest one of a channel's keys and of a
 * query (exponential.h), so the keys are projected twice.  Bound by the FMA
 * units: 4 m d + 8 m dv FLOPs a token beside 2 m exponentials.
 */
#include "exponential.h"
#include "levels.h"
#include "random_fused.h"

/* Row of exponents [u - half, -u - half] from u in its first half; the ln(2m)/2
 * of the definition is left to eps. */
SIMD_INLINE void spread_row(float *row, size_t m, float half)
{
    const vf h = v_set1(half);
    const size_t whole = m / VL * VL, last = m - whole;
    for (size_t c = 0; c < whole; c += VL) {
        const vf u = v_load(row + c);
        v_store(row + c, u - h);
        v_store(row + m + c, -u - h);
    }
    if (!last) return;
    const vf u = v_load_n(row + whole, last);
    v_store_n(row + whole, u - h, last);
    v_store_n(row + m + whole, -u - h, last);
}

/* Exponents of the chunk. */
static void exponents(const fused_chunk *k)
{
    const fused *u = k->u;
    const size_t d = (size_t)u->c->p->head_dim, m = u->f / 2;
    const float *x = random_tokens(k);
    random_project_chunk(k, m);
    for (size_t r = 0; r < k->rows; r++)
        spread_row(k->phi + r * u->lf, m, random_half_square(x + r * d, d));
}

static void map(const fused_chunk *k)
{
    const fused *u = k->u;
    const float *level = u->kept + k->map * u->parts * u->lf;
    exponents(k);
    for (size_t r = 0; r < k->rows; r++) {
        float *phi = k->phi + r * u->lf, shift = 0;
        if (k->side == ATT_Q) {
            shift = levels_largest(phi, level, u->f);
            k->eps[r] = (float)u->f * exponential_eps(shift);
        }
        levels_exp(phi, level, k->side == ATT_Q ? 1 : -1, shift, u->f, phi);
    }
}

/* du = dphi phi of one half minus the other, into the first; returns their sum
 * over a row. */
SIMD_INLINE float slopes(const float *phi, size_t m, float *du)
{
    const size_t whole = m / VL * VL, last = m - whole;
    vf sum = v_zero();
    for (size_t c = 0; c < whole; c += VL) {
        const vf plus = v_load(phi + c) * v_load(du + c);
        const vf minus = v_load(phi + m + c) * v_load(du + m + c);
        v_store(du + c, plus - minus);
        sum += plus + minus;
    }
    if (last) {
        const vf plus = v_load_n(phi + whole, last) *
                        v_load_n(du + whole, last);
        const vf minus = v_load_n(phi + m + whole, last) *
                         v_load_n(du + m + whole, last);
        v_store_n(du + whole, plus - minus, last);
        sum += plus + minus;
    }
    return v_sum(sum);
}

static void unmap(const fused_chunk *k)
{
    const fused *u = k->u;
    float *sum = k->scratch;
    if (!(k->side == ATT_Q ? u->g->dq : u->g->dk)) return;
    for (size_t r = 0; r < k->rows; r++)
        sum[r] = slopes(k->phi + r * u->lf, u->f / 2, k->dphi + r * u->lf);
    random_unproject_chunk(k, u->f / 2, sum);
}

static fused describe(const att_problem *p, int threads)
{
    fused u = {
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = att_keys(p), .f = 2 * random_features_pm(p),
        .e = att_value_dim(p), .d = { .eps = (float)FAVOR_PM_EPS },
        .eps_rows = true, .hook_floats = FUSED_CHUNK, .map = map,
        .unmap = unmap,
    };
    fused_describe(&u);
    u.kept_floats = u.maps * u.parts * u.lf; /* levels of parts              */
    return u;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    fused u = describe(p, threads);
    fused_sizes(&u, out);
    out->state = u.f / 2 * (size_t)p->head_dim * sizeof(float);
}

static void prepare(const att_call *c)
{
    random_turn(c->p, random_features_pm(c->p), c->param[RANDOM_PROJ],
                c->state);
}

/* Levels of one part of the keys of a map. */
static void part_levels(const fused *u, const fused_own *o, size_t map,
                        size_t part)
{
    const size_t end = fused_part(u, u->m, part + 1);
    float *level = u->kept + (map * u->parts + part) * u->lf;
    for (size_t c = 0; c < u->lf; c++) level[c] = c < u->f ? V_LOWEST : 0;
    for (size_t at = fused_part(u, u->m, part); at < end; at += u->chunk) {
        const size_t rows = end - at < u->chunk ? end - at : u->chunk;
        const fused_chunk k = { .u = u, .side = ATT_K, .map = map, .at = at,
                                .rows = rows, .phi = o->phi };
        exponents(&k);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < u->lf; c += VL)
                v_store(level + c, v_max(v_load(level + c),
                                         v_load(o->phi + r * u->lf + c)));
    }
}

/* Levels of maps, in those of their first parts. */
static void make_levels(const fused *u)
{
    const size_t tasks = u->maps * u->parts;
    #pragma omp parallel num_threads(u->threads)
    {
        const fused_own o = fused_begin(u);
        #pragma omp for schedule(static)
        for (size_t task = 0; task < tasks; task++)
            part_levels(u, &o, task / u->parts, task % u->parts);
    }
    for (size_t map = 0; map < u->maps; map++) {
        float *level = u->kept + map * u->parts * u->lf;
        for (size_t part = 1; part < u->parts; part++)
            for (size_t c = 0; c < u->f; c++)
                level[c] = fmaxf(level[c], level[part * u->lf + c]);
    }
}

static void forward(const att_call *c)
{
    fused u = describe(c->p, c->threads);
    fused_attach(&u, c, NULL);
    make_levels(&u);
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
    const double keys = (double)(u.maps * u.m), d = p->head_dim;
    fused_executed(&u, pass, out);
    if (pass == ATT_FORWARD) /* projected once more for the levels */
        out->mul_add += keys * (d + (double)u.f / 2 * d);
}

ATT_KERNELS = {
    {
        .name = "favor_pm.fused",
        .mechanism = "favor_pm",
        .brief = "chunks in registers: projection, map and sums in one sweep",
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
        .executed = executed,
    },
    { 0 },
};
