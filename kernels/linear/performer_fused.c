/* performer.fused - projection, exponentials, sums and products chunk by chunk
 * (fused.h); the m features of a token never leave the caches.
 *
 * softmax features need the largest projection of all keys of a map, so the
 * keys are projected twice, a quarter more products at dv = d.  Bound by the
 * FMA units: 4 m d + 4 m dv FLOPs a token beside one exponential a feature.
 */
#include "random_fused.h"

static float largest(const float *x, size_t n)
{
    const size_t whole = n / VL * VL;
    vf most = v_set1(V_LOWEST);
    for (size_t c = 0; c < whole; c += VL) most = v_max(most, v_load(x + c));
    float max = v_hmax(most);
    for (size_t c = whole; c < n; c++) max = x[c] > max ? x[c] : max;
    return max;
}

/* m^(-1/2) (exp(u - minus) + 1e-4) of one row. */
SIMD_INLINE void features_softmax(float *phi, size_t f, float minus)
{
    const vf scale = v_set1(1 / sqrtf((float)f)), m = v_set1(minus);
    const vf floor = scale * (float)PERFORMER_FLOOR_SOFTMAX;
    const size_t whole = f / VL * VL;
    for (size_t c = 0; c < whole; c += VL)
        v_store(phi + c, v_fma(scale, v_exp(v_load(phi + c) - m), floor));
    if (whole == f) return;
    v_store_n(phi + whole, v_fma(scale, v_exp(v_load(phi + whole) - m), floor),
              f - whole);
}

SIMD_INLINE void features_relu(float *phi, size_t f)
{
    const vf floor = v_set1((float)PERFORMER_FLOOR_RELU);
    const size_t whole = f / VL * VL;
    for (size_t c = 0; c < whole; c += VL)
        v_store(phi + c, v_max(v_load(phi + c), v_zero()) + floor);
    if (whole < f)
        v_store_n(phi + whole, v_max(v_load(phi + whole), v_zero()) + floor,
                  f - whole);
}

static void map(const fused_chunk *k)
{
    const fused *u = k->u;
    const size_t d = (size_t)u->c->p->head_dim;
    const float *x = random_tokens(k);
    random_project_chunk(k, u->f);
    for (size_t r = 0; r < k->rows; r++, x += d) {
        float *phi = k->phi + r * u->lf;
        if (u->c->p->kernel_fn == ATT_FN_RELU) {
            features_relu(phi, u->f);
            continue;
        }
        const float max = k->side == ATT_Q ? largest(phi, u->f)
                                           : u->kept[k->map * u->parts];
        features_softmax(phi, u->f, random_half_square(x, d) + max);
    }
}

/* du = dphi times the exponential, in place; returns their sum over a row. */
SIMD_INLINE float slopes_softmax(const float *phi, size_t lf, float floor,
                                 float *du)
{
    vf sum = v_zero();
    for (size_t c = 0; c < lf; c += VL) {
        const vf y = v_load(du + c) * (v_load(phi + c) - v_set1(floor));
        v_store(du + c, y);
        sum += y;
    }
    return v_sum(sum);
}

SIMD_INLINE void slopes_relu(const float *phi, size_t lf, float *du)
{
    const vf floor = v_set1((float)PERFORMER_FLOOR_RELU);
    for (size_t c = 0; c < lf; c += VL)
        v_store(du + c,
                v_select(v_load(phi + c) > floor, v_load(du + c), v_zero()));
}

static void unmap(const fused_chunk *k)
{
    const fused *u = k->u;
    const float floor = (float)PERFORMER_FLOOR_SOFTMAX / sqrtf((float)u->f);
    float *sum = k->scratch;
    if (!(k->side == ATT_Q ? u->g->dq : u->g->dk)) return;
    for (size_t r = 0; r < k->rows; r++) {
        const float *phi = k->phi + r * u->lf;
        float *du = k->dphi + r * u->lf;
        sum[r] = 0;
        if (u->c->p->kernel_fn == ATT_FN_RELU) slopes_relu(phi, u->lf, du);
        else sum[r] = slopes_softmax(phi, u->lf, floor, du);
    }
    random_unproject_chunk(k, u->f, sum);
}

static fused describe(const att_problem *p, int threads)
{
    fused u = {
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = att_keys(p), .f = random_features(p), .e = att_value_dim(p),
        .causal = is_causal(p), .hook_floats = FUSED_CHUNK, .map = map,
        .unmap = unmap,
    };
    u.d.every = u.causal ? (float)PERFORMER_EPS_CAUSAL : 0;
    fused_describe(&u);
    u.kept_floats = u.maps * u.parts; /* the largest projection of parts     */
    return u;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    fused u = describe(p, threads);
    fused_sizes(&u, out);
    out->state = u.f * (size_t)p->head_dim * sizeof(float);
}

static void prepare(const att_call *c)
{
    random_turn(c->p, random_features(c->p), c->param[RANDOM_PROJ], c->state);
}

/* The largest projection of the keys of each part into `kept`, then of the map
 * into that of its first part. */
static void make_maxima(const fused *u)
{
    const size_t tasks = u->maps * u->parts;
    #pragma omp parallel num_threads(u->threads)
    {
        const fused_own o = fused_begin(u);
        #pragma omp for schedule(static)
        for (size_t task = 0; task < tasks; task++) {
            const size_t map = task / u->parts, part = task % u->parts;
            const size_t end = fused_part(u, u->m, part + 1);
            float max = -INFINITY;
            for (size_t at = fused_part(u, u->m, part); at < end;
                 at += u->chunk) {
                const size_t rows = end - at < u->chunk ? end - at : u->chunk;
                const fused_chunk k = { .u = u, .side = ATT_K, .map = map,
                                        .at = at, .rows = rows, .phi = o.phi };
                random_project_chunk(&k, u->f);
                for (size_t r = 0; r < rows; r++)
                    max = fmaxf(max, largest(o.phi + r * u->lf, u->f));
            }
            u->kept[task] = max;
        }
    }
    for (size_t map = 0; map < u->maps; map++)
        for (size_t part = 1; part < u->parts; part++)
            u->kept[map * u->parts] = fmaxf(u->kept[map * u->parts],
                                            u->kept[map * u->parts + part]);
}

static void forward(const att_call *c)
{
    fused u = describe(c->p, c->threads);
    fused_attach(&u, c, NULL);
    if (c->p->kernel_fn == ATT_FN_SOFTMAX) make_maxima(&u);
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
    const double keys = (double)(u.maps * u.m), f = (double)u.f;
    fused_executed(&u, pass, out);
    if (pass == ATT_FORWARD && p->kernel_fn == ATT_FN_SOFTMAX)
        out->mul_add += keys * f * p->head_dim; /* projected for the maximum */
}

ATT_KERNELS = {
    {
        .name = "performer.fused",
        .mechanism = "performer",
        .brief = "chunks in registers: projection, map and sums in one sweep",
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
        .executed = executed,
    },
    { 0 },
};
