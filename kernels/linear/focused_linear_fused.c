/* focused_linear.fused - focusing function, sums, normaliser and convolution
 * chunk by chunk (fused.h, dwc_fused.h); a chunk has the tokens of all heads,
 * because the norms are over all of them.
 *
 * x is divided by its largest entry of the token, so that no power or norm
 * leaves the range of float for any p (an all-negative row is 1e-6 everywhere;
 * its fourth power squared is 1e-48).  Bound by the FMA units, 4 d^2 + 2 k^2 d
 * FLOPs a token, and by the map: some 12 operations and three sums across lanes
 * a token.
 */
#include "dwc_fused.h"
#include "focused_linear.h"
#include "power.h"

/* dwc_call comes first: the hooks of the branch read it. */
typedef struct tensors {
    dwc_call dwc;
    const float *inverse; /* 2^-e / softplus(theta) [heads][lf], pads 0     */
    float eps;            /* of D', but for a row's c                       */
    power p, slope;       /* of x^p and of x^(p-1)                          */
} tensors;

/* What map() leaves to unmap() in the hook's scratch: of each row, and x / max
 * of each entry, [group][chunk][lf]. */
typedef struct focus {
    float *max, *a, *b; /* largest x, |x / max|, |(x / max)^p|              */
    float *c;           /* y' / y                                           */
    float *x;
} focus;

static focus focus_of(const fused_chunk *k)
{
    const size_t pitch = fused_pitch(k->u->chunk);
    float *s = k->scratch;
    return (focus){ s, s + pitch, s + 2 * pitch, s + 3 * pitch,
                    s + 4 * pitch };
}

/* Address of row r of head h of the chunk in q, k, P or their gradients. */
static size_t place(const fused_chunk *k, size_t h, size_t r)
{
    const size_t tokens = k->side == ATT_Q ? k->u->n : k->u->m;
    return ((k->map + h) * tokens + k->at + r) * k->u->f;
}

/* q, or k + P, of one vector. */
SIMD_INLINE vf input(const float *x, const float *pos, const bool masked,
                     size_t lanes)
{
    const vf y = masked ? v_load_n(x, lanes) : v_load(x);
    if (!pos) return y;
    return y + (masked ? v_load_n(pos, lanes) : v_load(pos));
}

/* Rows of the input of a head. */
typedef struct rows {
    const float *x, *pos;
} rows;

static rows rows_of(const fused_chunk *k, size_t h)
{
    const fused *u = k->u;
    const size_t at = place(k, h, 0), tokens = k->side == ATT_Q ? u->n : u->m;
    const float *pos = k->side == ATT_K ? u->c->param[FOCUSED_POS] : NULL;
    return (rows){
        fused_input(k, h, u->f),
        pos ? pos + at % (u->group * tokens * u->f) : NULL,
    };
}

/* x = (relu(in) + 1e-6) / s of one row into phi; returns the largest. */
SIMD_INLINE vf scale_row(const fused *u, const float *x, const float *pos,
                         const float *inverse, float *phi)
{
    const vf floor = v_set1((float)FOCUSED_FLOOR);
    const size_t whole = u->f / VL * VL;
    vf most = v_zero();
    for (size_t c = 0; c < u->lf; c += VL) {
        const vf in = input(x + c, pos ? pos + c : NULL, c == whole, u->f - c);
        const vf y = (v_max(in, v_zero()) + floor) * v_load(inverse + c);
        v_store(phi + c, y);
        most = v_max(most, y);
    }
    return most;
}

/* The same of the chunk, and the largest of each row over the heads. */
SIMD_INLINE void pass_scale_with(const fused_chunk *k, const focus *s,
                                 const bool positions)
{
    const fused *u = k->u;
    const tensors *t = u->own;
    for (size_t h = 0; h < u->group; h++) {
        const rows in = rows_of(k, h);
        float *phi = k->phi + h * u->chunk * u->lf;
        for (size_t r = 0; r < k->rows; r++) {
            const float max = v_hmax(scale_row(
                u, in.x + r * u->f, positions ? in.pos + r * u->f : NULL,
                t->inverse + h * u->lf, phi + r * u->lf));
            s->max[r] = h && s->max[r] > max ? s->max[r] : max;
        }
    }
}

static void pass_scale(const fused_chunk *k, const focus *s)
{
    if (k->side == ATT_K && k->u->c->param[FOCUSED_POS])
        pass_scale_with(k, s, true);
    else pass_scale_with(k, s, false);
}

/* x / max, its power into phi, and the squares of both norms. */
SIMD_INLINE void pass_power_with(const fused_chunk *k, const focus *s, power p)
{
    const fused *u = k->u;
    for (size_t h = 0; h < u->group; h++)
        for (size_t r = 0; r < k->rows; r++) {
            const size_t at = (h * u->chunk + r) * u->lf;
            const vf h_max = v_set1(s->max[r]);
            vf a = v_zero(), b = v_zero();
            for (size_t c = 0; c < u->lf; c += VL) {
                const vf x = v_load(k->phi + at + c) * h_max;
                const vf y = power_raise(x, p);
                a = v_fma(x, x, a);
                b = v_fma(y, y, b);
                v_store(k->phi + at + c, y);
                if (u->g) v_store(s->x + at + c, x);
            }
            s->a[r] = v_sum(a) + (h ? s->a[r] : 0);
            s->b[r] = v_sum(b) + (h ? s->b[r] : 0);
        }
}

/* The usual powers, for which the loop of power_raise() unrolls. */
static void pass_power(const fused_chunk *k, const focus *s, power p)
{
    if (p.rest != 0) pass_power_with(k, s, p);
    else if (p.whole == 1) pass_power_with(k, s, (power){ 1, 0 });
    else if (p.whole == 2) pass_power_with(k, s, (power){ 2, 0 });
    else if (p.whole == 3) pass_power_with(k, s, (power){ 3, 0 });
    else if (p.whole == 4) pass_power_with(k, s, (power){ 4, 0 });
    else pass_power_with(k, s, (power){ p.whole, 0 });
}

/* y' = c max |x| u / |u|. */
static void map(const fused_chunk *k)
{
    const fused *u = k->u;
    const tensors *t = u->own;
    const focus s = focus_of(k);
    float gain[FUSED_CHUNK];
    pass_scale(k, &s);
    for (size_t r = 0; r < k->rows; r++) {
        gain[r] = s.max[r];
        s.max[r] = 1 / s.max[r];
    }
    pass_power(k, &s, t->p);
    for (size_t r = 0; r < k->rows; r++) {
        s.a[r] = sqrtf(s.a[r]);
        s.b[r] = sqrtf(s.b[r]);
        s.max[r] = gain[r];
        s.c[r] = k->side == ATT_K ? FOCUSED_KEYS : focused_level(gain[r]);
        if (k->side == ATT_Q) k->eps[r] = focused_row_eps(t->eps, s.c[r]);
        gain[r] *= s.c[r] * (s.a[r] / s.b[r]);
    }
    for (size_t h = 0; h < u->group; h++)
        fused_scale(k->phi + h * u->chunk * u->lf, u->lf, k->rows, u->lf, gain);
}

/* ---- backward ------------------------------------------------------------ */

/* Of each row: 1 / gain, and the factors of
 *     dx = x one + two x^(p-1) (g - u three). */
typedef struct factors {
    float shrink[FUSED_CHUNK], one[FUSED_CHUNK], two[FUSED_CHUNK],
        three[FUSED_CHUNK];
} factors;

static void make_factors(const fused_chunk *k, const focus *s, double p,
                         factors *f)
{
    const fused *u = k->u;
    float gu[FUSED_CHUNK], part[FUSED_CHUNK];
    for (size_t h = 0; h < u->group; h++) {
        const size_t at = h * u->chunk * u->lf;
        fused_dots(k->phi + at, u->lf, k->rows, k->dphi + at, u->lf, u->lf,
                   part);
        for (size_t r = 0; r < k->rows; r++)
            gu[r] = part[r] + (h ? gu[r] : 0);
    }
    for (size_t r = 0; r < k->rows; r++) {
        const float a = s->a[r], b = s->b[r], c = s->c[r];
        f->shrink[r] = b / (c * s->max[r] * a);
        gu[r] *= f->shrink[r];
        f->one[r] = c * gu[r] / (a * b);
        f->two[r] = c * (float)p * a / b;
        f->three[r] = gu[r] / (b * b);
    }
}

/* Where a row of gradients goes; NULL: not wanted. */
typedef struct targets {
    float *dx, *dpos;
    bool add; /* to dpos, from the second batch entry on                     */
} targets;

SIMD_INLINE void put(const targets *to, size_t c, size_t f, vf x)
{
    const size_t lanes = f - c < VL ? f - c : VL;
    if (to->dx) v_store_n(to->dx + c, x, lanes);
    if (!to->dpos) return;
    v_store_n(to->dpos + c, to->add ? v_load_n(to->dpos + c, lanes) + x : x,
              lanes);
}

/* One row of one head; sums gathers dx x max, of which dtheta is made. */
SIMD_INLINE void unmap_row(const fused_chunk *k, const focus *s,
                           const factors *f, power slope, size_t h, size_t r,
                           const rows *in, const targets *to)
{
    const fused *u = k->u;
    const tensors *t = u->own;
    const size_t at = (h * u->chunk + r) * u->lf;
    const float *inverse = t->inverse + h * u->lf;
    float *sums = k->sums + h * u->lf;
    const vf shrink = v_set1(f->shrink[r]), one = v_set1(f->one[r]);
    const vf two = v_set1(f->two[r]), three = v_set1(f->three[r]);
    const vf max = v_set1(s->max[r]);
    const size_t whole = u->f / VL * VL;
    for (size_t c = 0; c < u->lf; c += VL) {
        const vf x = v_load(s->x + at + c);
        const vf g = v_load(k->dphi + at + c);
        const vf y = v_load(k->phi + at + c) * shrink;
        const vf dx = x * one + two * power_raise(x, slope) * (g - y * three);
        const vf before = input(in->x + c, in->pos ? in->pos + c : NULL,
                                c == whole, u->f - c);
        const vf open =
            v_select(before > 0, dx * v_load(inverse + c), v_zero());
        v_store(sums + c, v_fma(dx * x, max, v_load(sums + c)));
        put(to, c, u->f, open);
    }
}

SIMD_INLINE void unmap_with(const fused_chunk *k, const focus *s,
                            const factors *f, power slope)
{
    const fused *u = k->u;
    const size_t tokens = k->side == ATT_Q ? u->n : u->m;
    float *const all = k->side == ATT_Q ? u->g->dq : u->g->dk;
    float *const pos = k->side == ATT_K ? u->g->dparam[FOCUSED_POS] : NULL;
    for (size_t h = 0; h < u->group; h++) {
        rows in = rows_of(k, h);
        for (size_t r = 0; r < k->rows; r++) {
            const size_t at = place(k, h, r);
            const targets to = {
                .dx = all ? all + at : NULL,
                .dpos = pos ? pos + at % (u->group * tokens * u->f) : NULL,
                .add = k->map > 0,
            };
            unmap_row(k, s, f, slope, h, r, &in, &to);
            in.x += u->f;
            if (in.pos) in.pos += u->f;
        }
    }
}

static void unmap(const fused_chunk *k)
{
    const tensors *t = k->u->own;
    const focus s = focus_of(k);
    const power p = t->slope;
    factors f;
    make_factors(k, &s, k->u->c->p->power, &f);
    if (p.rest != 0) unmap_with(k, &s, &f, p);
    else if (p.whole == 1) unmap_with(k, &s, &f, (power){ 1, 0 });
    else if (p.whole == 2) unmap_with(k, &s, &f, (power){ 2, 0 });
    else if (p.whole == 3) unmap_with(k, &s, &f, (power){ 3, 0 });
    else unmap_with(k, &s, &f, (power){ p.whole, 0 });
}

/* ---- calls --------------------------------------------------------------- */

static fused describe(const att_problem *p, int threads)
{
    const size_t heads = (size_t)p->heads, f = (size_t)p->head_dim;
    fused u = {
        .dtype = p->dtype,
        .threads = threads, .maps = maps_of(p), .n = att_tokens(p),
        .m = dwc_keys(p), .f = f, .e = f, .group = heads, .chunk = FUSED_CHUNK,
        .sum_batch = true,
        .eps_rows = true, .map = map, .unmap = unmap, .sum_floats = heads * fused_pitch(f),
    };
    u.hook_floats = 4 * fused_pitch(u.chunk) + heads * u.chunk * fused_pitch(f);
    dwc_reserve(p, &u);
    return u;
}

/* Of the state: filters, then 2^-e / s, then eps'. */
static size_t scale_offset(const att_problem *p)
{
    return (dwc_filter_floats(p) + 15) / 16 * 16;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    fused u = describe(p, threads);
    fused_sizes(&u, out);
    out->state = (scale_offset(p) + u.group * u.lf + 1) * sizeof(float);
}

static void prepare(const att_call *c)
{
    const size_t f = (size_t)c->p->head_dim, lf = fused_pitch(f);
    const size_t heads = (size_t)c->p->heads;
    const float *theta = c->param[FOCUSED_SCALE];
    const int e = focused_exponent(theta, heads * f);
    float *inverse = (float *)c->state + scale_offset(c->p);
    dwc_turn(c->p, c->param[FOCUSED_W], c->state);
    for (size_t i = 0; i < heads * lf; i++) {
        const float x = theta && i % lf < f ? theta[i / lf * f + i % lf] : 0;
        inverse[i] =
            i % lf < f ? (float)ldexp(1 / focused_softplus((double)x), -e) : 0;
    }
    inverse[heads * lf] = focused_eps(dwc_keys(c->p), e);
}

static tensors begin(fused *u)
{
    const att_call *c = u->c;
    const float *inverse = (const float *)c->state + scale_offset(c->p);
    return (tensors){
        .dwc = dwc_begin(u, c->param[FOCUSED_B]),
        .inverse = inverse, .eps = inverse[u->group * u->lf],
        .p = power_of(c->p->power), .slope = power_of(c->p->power - 1),
    };
}

static void forward(const att_call *c)
{
    fused u = describe(c->p, c->threads);
    fused_attach(&u, c, NULL);
    const tensors t = begin(&u);
    u.own = &t;
    fused_forward(&u);
}

/* dtheta = - sigmoid(theta) / s sum dx x max. */
static void scale_gradient(const fused *u, const float *theta, float *dtheta)
{
    for (size_t h = 0; h < u->group; h++)
        for (size_t c = 0; c < u->f; c++) {
            const double x = theta ? (double)theta[h * u->f + c] : 0;
            dtheta[h * u->f + c] = (float)(-(double)u->sums[h * u->lf + c] *
                                           focused_slope(x));
        }
}

static void backward(const att_call *c, const att_grad *g)
{
    fused u = describe(c->p, c->threads);
    u.sum_batch = g->dparam[FOCUSED_POS] != NULL;
    fused_attach(&u, c, g);
    const tensors t = begin(&u);
    u.own = &t;
    fused_backward(&u);
    if (g->dparam[FOCUSED_SCALE])
        scale_gradient(&u, c->param[FOCUSED_SCALE], g->dparam[FOCUSED_SCALE]);
    dwc_gradients(&u, &t.dwc, g->dparam[FOCUSED_W], g->dparam[FOCUSED_B]);
    dwc_resized_back(&u, &t.dwc);
}

static void executed(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const fused u = describe(p, 1);
    fused_executed(&u, pass, out);
}

ATT_KERNELS = {
    {
        .name = "focused_linear.fused",
        .mechanism = "focused_linear",
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
