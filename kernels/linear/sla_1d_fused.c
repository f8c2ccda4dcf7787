/* sla_1d.fused - relu, sums, normaliser, products and the convolution along
 * time chunk by chunk (fused.h, dwc_fused.h).
 *
 * The attention output y of a chunk, with the tokens that its convolution
 * reaches beyond, stays in the first cache: k - 1 of CHUNK rows are made twice,
 * and y is never a tensor, not even for backward, which makes it again.  Bound
 * by the FMA units: 4 d^2 + 2 k d FLOPs a token.
 */
#include "dwc_fused.h"
#include "sla_1d.h"

typedef struct tensors {
    fused u;
    dwc_branch w; /* of one row, `width` set where it is used               */
    size_t outputs;
    float factor;
} tensors;

static void map(const fused_chunk *k)
{
    fused_map(k, fused_relu);
}

static void unmap(const fused_chunk *k)
{
    fused_unmap(k, fused_relu_slope);
}

/* Gradient of y, F T' g: made without gaps, then moved to rows of `pitch`. */
static void upstream(const fused *u, size_t map, size_t at, size_t rows,
                     float *g, size_t pitch)
{
    const tensors *t = u->own;
    const size_t d = u->e;
    dwc_branch back = t->w;
    back.flipped = true;
    back.width = (int)t->outputs;
    dwc_row(&back, u->g->dout + map * t->outputs * d, NULL, 0, (int)at,
            (int)(at + rows), g);
    for (size_t r = rows; r-- > 0;) {
        memmove(g + r * pitch, g + r * d, d * sizeof *g);
        for (size_t c = 0; c < pitch; c++)
            g[r * pitch + c] = c < d ? t->factor * g[r * pitch + c] : 0;
    }
}

static tensors describe(const att_problem *p, int threads, const float *filters)
{
    const size_t n = att_tokens(p), d = (size_t)p->head_dim;
    const size_t k = (size_t)sla_1d_taps(p);
    tensors t = {
        .u = { .threads = threads, .maps = maps_of(p), .n = n, .m = n, .f = d,
               .e = d, .chunk = FUSED_CHUNK + (k > FUSED_CHUNK / 4 ? k : 0),
               .d = { .eps = SLA_1D_EPS }, .map = map, .unmap = unmap,
               .upstream = upstream },
        .w = { .height = 1, .high = 1, .wide = (int)k, .d = d,
               .filters = filters },
        .outputs = sla_1d_outputs(p), .factor = (float)p->power,
    };
    t.u.hook_floats = t.u.chunk * d;
    t.u.extra_floats[1] = (size_t)threads * fused_pitch((k + 1) * d + 16);
    return t;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    tensors t = describe(p, threads, NULL);
    fused_sizes(&t.u, out);
    out->state = (size_t)t.w.wide * t.w.d * sizeof(float);
}

/* Filters [d][k] -> [k][d]. */
static void prepare(const att_call *c)
{
    const size_t d = (size_t)c->p->head_dim, k = (size_t)sla_1d_taps(c->p);
    float *turned = c->state;
    for (size_t l = 0; l < d; l++)
        for (size_t t = 0; t < k; t++)
            turned[t * d + l] = c->param[SLA_1D_W][l * k + t];
}

/* Outputs of one task, whose convolution reaches k - 1 tokens further. */
static size_t step_of(const tensors *t)
{
    return t->u.chunk - (size_t)t->w.wide + 1;
}

static size_t tasks_of(const tensors *t)
{
    return (t->outputs + step_of(t) - 1) / step_of(t);
}

/* y of the tokens [*first, *first + rows) that outputs from `at` on reach, in
 * the hook's scratch; returns rows. */
static size_t attend_rows(const tensors *t, const fused_own *o, size_t map,
                          size_t at, size_t *first)
{
    const size_t left = (size_t)t->w.wide / 2;
    fused alone = t->u;
    alone.inverse = NULL; /* rows that two tasks make are written by one     */
    *first = at > left ? at - left : 0;
    if (*first >= t->u.n) *first = t->u.n - 1;
    const fused_chunk k = fused_take(&alone, o, ATT_Q, map, *first, o->phi);
    fused_rows(&alone, o, map, *first, k.rows, k.phi, o->hook, false);
    return k.rows;
}

/* o = F (T y + b) of one task. */
static void output_task(const tensors *t, const fused_own *o, size_t map,
                        size_t at)
{
    const fused *u = &t->u;
    const size_t d = u->e, end = at + step_of(t) < t->outputs ? at + step_of(t)
                                                              : t->outputs;
    const float *bias = u->c->param[SLA_1D_B];
    float *out = (float *)u->c->o + (map * t->outputs + at) * d;
    size_t first;
    dwc_branch w = t->w;
    w.width = (int)attend_rows(t, o, map, at, &first);
    for (size_t i = at; u->inverse && i < end && i < u->n; i++)
        u->inverse[map * u->n + i] = o->inverse[i - first];
    dwc_row(&w, o->hook, bias, 0, (int)(at - first), (int)(end - first), out);
    for (size_t i = 0; i < (end - at) * d; i++) out[i] *= t->factor;
}

static void forward(const att_call *c)
{
    tensors t = describe(c->p, c->threads, c->state);
    fused_attach(&t.u, c, NULL);
    t.u.own = &t;
    const size_t tasks = tasks_of(&t);
    #pragma omp parallel num_threads(c->threads)
    {
        const fused_own o = fused_begin(&t.u);
        fused_all_keys(&t.u, &o);
        #pragma omp for schedule(static)
        for (size_t task = 0; task < t.u.maps * tasks; task++)
            output_task(&t, &o, task / tasks, task % tasks * step_of(&t));
    }
}

/* Sums of dW [k][d], then of db [d], over the outputs of one task. */
static void gradient_task(const tensors *t, const fused_own *o, size_t map,
                          size_t at, float *sums)
{
    const fused *u = &t->u;
    const size_t d = u->e, end = at + step_of(t) < t->outputs ? at + step_of(t)
                                                              : t->outputs;
    const float *g = u->g->dout + map * t->outputs * d;
    float *db = sums + (size_t)t->w.wide * d;
    size_t first;
    dwc_branch w = t->w;
    w.width = (int)attend_rows(t, o, map, at, &first);
    dwc_filter_gradient(&w, o->hook, g + first * d, 0, (int)(at - first),
                        (int)(end - first), sums);
    for (size_t c = 0; c < d; c++) {
        float sum = 0;
        for (size_t i = at; i < end; i++) sum += g[i * d + c];
        db[c] += sum;
    }
}

/* dW [d][k] and db [d]; each may be NULL. */
static void gradients(const tensors *t, float *dw, float *db)
{
    const size_t d = t->u.e, k = (size_t)t->w.wide, tasks = tasks_of(t);
    const size_t threads = (size_t)t->u.threads;
    const size_t pitch = t->u.extra_floats[1] / threads;
    float *sums = t->u.extra;
    if (!dw && !db) return;
    memset(sums, 0, threads * pitch * sizeof *sums);
    #pragma omp parallel num_threads(t->u.threads)
    {
        const fused_own o = fused_begin(&t->u);
        #pragma omp for schedule(static)
        for (size_t task = 0; task < t->u.maps * tasks; task++)
            gradient_task(t, &o, task / tasks, task % tasks * step_of(t),
                          sums + (size_t)omp_get_thread_num() * pitch);
    }
    for (size_t i = 1; i < threads; i++)
        for (size_t c = 0; c < (k + 1) * d; c++) sums[c] += sums[i * pitch + c];
    for (size_t c = 0; c < d; c++) {
        for (size_t a = 0; dw && a < k; a++)
            dw[c * k + a] = t->factor * sums[a * d + c];
        if (db) db[c] = t->factor * sums[k * d + c];
    }
}

static void backward(const att_call *c, const att_grad *g)
{
    tensors t = describe(c->p, c->threads, c->state);
    fused_attach(&t.u, c, g);
    t.u.own = &t;
    fused_backward(&t.u);
    gradients(&t, g->dparam[SLA_1D_W], g->dparam[SLA_1D_B]);
}

static void executed(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const tensors t = describe(p, 1, NULL);
    const double maps = (double)t.u.maps, d = (double)t.u.e;
    const double twice = (double)((tasks_of(&t) - 1) * (size_t)(t.w.wide - 1));
    fused_executed(&t.u, pass, out);
    /* rows of y that two tasks make; in backward all of them, once more */
    out->mul_add += maps * d * d *
                    (pass == ATT_FORWARD ? twice
                                         : (double)t.u.n + twice);
}

ATT_KERNELS = {
    {
        .name = "sla_1d.fused",
        .mechanism = "sla_1d",
        .brief = "chunks in registers, convolution in the same sweep",
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
        .executed = executed,
    },
    { 0 },
};
