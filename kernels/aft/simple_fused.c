/* aft_simple.fused - AFT-simple in two passes over memory, lanes are features.
 *
 *     y_t = sigmoid(q_t) c_t,  c_t = sum_j exp(k_j) v_j / sum_j exp(k_j)
 *
 * All tokens alike: blocks of 32 tokens, whose maximum is found first, so that
 * there is one exponential per key and one for each block (the second reading
 * of the block comes from the first cache).  Causal: token by token with the
 * running maximum M; one of exp(M_old - M) and exp(k - M) is 1, so that one
 * exponential serves for both.  A task is a segment of the tokens of one batch
 * entry; the sums of segments are joined by the same rule.  The output pass
 * reads Q once.
 *
 * Backward: as in aft_simple.direct; the causal one walks up.
 */
#include "../att.h"
#include "../simd.h"
#include "../store.h"

#include <float.h>
#include <math.h>

enum {
    GROUP = 4,   /* vectors of features in registers                         */
    BLOCK = 32,  /* tokens                                                   */
    SPAN = 256,  /* features walked down together: BLOCK rows of them fill
                    two thirds of a first cache, and rows are read in long
                    pieces                                                   */
    SEGMENT = 64 /* least tokens of a segment                                */
};

/* Sums relative to exp(max) of VL features; in backward U and W. */
typedef struct state {
    vf max, den, num;
} state;

typedef struct task {
    size_t n, width, vectors; /* of a row of features                        */
    size_t segments, length;
    bool causal;
} task;

static task task_of(const att_problem *p, int threads)
{
    task x = { .n = att_tokens(p), .width = (size_t)p->head_dim };
    const size_t batch = (size_t)p->batch, most = (x.n + SEGMENT - 1) / SEGMENT;
    x.vectors = (x.width + VL - 1) / VL;
    x.causal = att_at(&p->causal, 0, 0);
    x.segments = threads == 1 ? 1 : (4 * (size_t)threads + batch - 1) / batch;
    if (x.segments > most) x.segments = most;
    x.length = (x.n + x.segments - 1) / x.segments;
    x.segments = (x.n + x.length - 1) / x.length;
    return x;
}

/* Maximum, denominator and mean of the last token or, causal, of every one. */
static size_t saved_floats(const att_problem *p)
{
    const size_t width = (size_t)p->head_dim * (size_t)p->batch;
    return width * (att_at(&p->causal, 0, 0) ? att_tokens(p) : 1);
}

/* Work: states [batch][segments][vectors]. */
static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const task x = task_of(p, threads);
    const size_t states =
        (size_t)p->batch * x.segments * x.vectors * sizeof(state);
    *out = (att_sizes){ .save = 3 * saved_floats(p) * sizeof(float),
                        .work = states,
                        .work_backward = states };
}

typedef struct saved {
    float *max, *den, *mean; /* NULL if no backward will follow              */
} saved;

static saved saved_of(const att_call *c)
{
    const size_t n = saved_floats(c->p);
    float *s = c->save;
    return s ? (saved){ s, s + n, s + 2 * n } : (saved){ 0 };
}

/* ---- a vector of features ------------------------------------------------------------ */

SIMD_INLINE vf load(const float *p, size_t lanes)
{
    return lanes == VL ? v_load(p) : v_load_n(p, lanes);
}

SIMD_INLINE void store(float *p, vf x, size_t lanes)
{
    if (lanes == VL) v_store(p, x);
    else v_store_n(p, x, lanes);
}

/* Elements of a tensor of any dtype. */
SIMD_INLINE vf fetch(const int dtype, const void *tensor, size_t at,
                     size_t lanes)
{
    if (dtype == ATT_F32) return load((const float *)tensor + at, lanes);
    const uint16_t *p = (const uint16_t *)tensor + at;
    uint16_t some[VL] = { 0 };
    if (lanes < VL) p = memcpy(some, p, lanes * sizeof *p);
    return dtype == ATT_F16 ? v_from_f16(p) : v_from_bf16(p);
}

SIMD_INLINE void put(const int dtype, void *tensor, size_t at, vf x,
                     size_t lanes)
{
    if (dtype == ATT_F32) {
        store((float *)tensor + at, x, lanes);
        return;
    }
    uint16_t *const to = (uint16_t *)tensor + at;
    uint16_t some[VL], *p = lanes < VL ? some : to;
    if (dtype == ATT_F16) v_to_f16(p, x);
    else v_to_bf16(p, x);
    if (p == some) memcpy(to, some, lanes * sizeof *to);
}

#define LOG2E 1.44269504f

/* e^x, x <= 0 or minus infinity.  The product's rounding error grows with |x|
 * while the weight falls: x e^x is at most 1/e. */
SIMD_INLINE vf below_one(vf x)
{
    return v_exp2(v_max(x, v_set1(-100)) * LOG2E);
}

/* a / (1 + e^-q); where e^-q would be huge, the result is near 0 anyway. */
SIMD_INLINE vf gated(vf a, vf q)
{
    return a / (1.0f + v_exp2(v_max(q, v_set1(-80)) * -LOG2E));
}

/* FLT_MAX rather than infinity: differences with it are not NaN. */
SIMD_INLINE state empty(void)
{
    return (state){ .max = v_set1(-FLT_MAX) };
}

/* Both sums relative to the larger maximum. */
SIMD_INLINE state join(state a, state b)
{
    const vf max = v_max(a.max, b.max);
    const vf s = below_one(a.max - max), t = below_one(b.max - max);
    return (state){ max, a.den * s + b.den * t, a.num * s + b.num * t };
}

/* One more key. */
SIMD_INLINE void step(state *s, vf k, vf v)
{
    const vf gap = k - s->max, e = below_one(-v_abs(gap));
    const vi rises = gap > 0.0f;
    const vf old = v_select(rises, e, v_set1(1));
    const vf new = v_select(rises, v_set1(1), e);
    s->den = v_fma(s->den, old, new);
    s->num = v_fma(s->num, old, new * v);
    s->max = v_max(s->max, k);
}

/* ---- a task: some tokens of one batch entry --------------------------------------------- */

typedef struct place {
    size_t tokens;
    size_t at;    /* floats before its first token in q, k, v, o              */
    size_t kept;  /* the same in what is saved                                */
    bool last;    /* segment of its batch entry                               */
    state *s;     /* [vectors]                                                */
} place;

static place place_of(const att_call *c, const task *x, size_t index)
{
    const size_t b = index / x->segments, segment = index % x->segments;
    const size_t first = segment * x->length, left = x->n - first;
    place p = { .tokens = left < x->length ? left : x->length };
    p.at = (b * x->n + first) * x->width;
    p.kept = x->causal ? p.at : b * x->width;
    p.last = segment + 1 == x->segments;
    p.s = (state *)c->work + index * x->vectors;
    return p;
}

/* Calls STEP(vectors, lanes, first feature, first token, end token) for blocks
 * of tokens of all features, from the first block on (or from the last). */
#define WALK(x, p, up, STEP)                                                   \
    for (size_t f0 = 0; f0 < (x)->width; f0 += SPAN) {                         \
        const size_t f1 =                                                      \
            (x)->width - f0 < SPAN ? (x)->width : f0 + SPAN;                   \
        const size_t blocks = ((p)->tokens + BLOCK - 1) / BLOCK;               \
        for (size_t i = 0; i < blocks; i++) {                                  \
            const size_t t0 = ((up) ? blocks - 1 - i : i) * BLOCK;             \
            const size_t t1 =                                                  \
                (p)->tokens - t0 < BLOCK ? (p)->tokens : t0 + BLOCK;           \
            size_t f = f0;                                                     \
            for (; f + GROUP * VL <= f1; f += GROUP * VL)                      \
                STEP(GROUP, VL, f, t0, t1);                                    \
            for (; f + VL <= f1; f += VL) STEP(1, VL, f, t0, t1);              \
            if (f < f1) {                                                      \
                STEP(1, f1 - f, f, t0, t1);                                    \
            }                                                                  \
        }                                                                      \
    }

/* ---- forward ----------------------------------------------------------------------------------- */

/* Column f of tokens t0 to t1; dtype is a constant where it is float. */
SIMD_INLINE void reduce_block(const int V, const int dtype, size_t lanes,
                              const att_call *c, const task *x, const place *p,
                              size_t f, size_t t0, size_t t1)
{
    state *const s = p->s + f / VL;
    const size_t from = p->at + f, width = x->width;
    vf max[GROUP], den[GROUP], num[GROUP];
    UNROLL for (int i = 0; i < V; i++) max[i] = s[i].max;
    for (size_t t = t0; t < t1; t++)
        UNROLL for (int i = 0; i < V; i++)
            max[i] = v_max(max[i], fetch(dtype, c->k,
                                         from + t * width + (size_t)i * VL,
                                         lanes));
    UNROLL for (int i = 0; i < V; i++) {
        const vf scale = below_one(s[i].max - max[i]);
        den[i] = s[i].den * scale;
        num[i] = s[i].num * scale;
    }
    for (size_t t = t0; t < t1; t++)
        UNROLL for (int i = 0; i < V; i++) {
            const size_t at = from + t * width + (size_t)i * VL;
            const vf e = below_one(fetch(dtype, c->k, at, lanes) - max[i]);
            den[i] += e;
            num[i] = v_fma(e, fetch(dtype, c->v, at, lanes), num[i]);
        }
    UNROLL for (int i = 0; i < V; i++)
        s[i] = (state){ max[i], den[i], num[i] };
}

static void reduce(const att_call *c, const task *x, const place *p)
{
    const int dtype = c->p->dtype;
    for (size_t i = 0; i < x->vectors; i++) p->s[i] = empty();
#define STEP(V, lanes, f, t0, t1)                                              \
    if (dtype == ATT_F32)                                                      \
        reduce_block(V, ATT_F32, lanes, c, x, p, f, t0, t1);                   \
    else reduce_block(V, dtype, lanes, c, x, p, f, t0, t1)
    WALK(x, p, false, STEP)
#undef STEP
}

/* The states of the segments of a batch entry become those of everything before
 * them (causal), or of everything. */
static void join_segments(const task *x, state *s)
{
    for (size_t i = 0; i < x->vectors; i++) {
        state sum = empty();
        for (size_t k = 0; k < x->segments; k++) {
            state *const at = s + k * x->vectors + i;
            const state own = *at;
            if (x->causal) *at = sum;
            sum = join(sum, own);
        }
        for (size_t k = 0; !x->causal && k < x->segments; k++)
            s[k * x->vectors + i] = sum;
    }
}

/* Outputs from the context in s, the same for all tokens. */
SIMD_INLINE void gate_block(const int V, const int dtype, size_t lanes,
                            const att_call *c, const task *x, const place *p,
                            size_t f, size_t t0, size_t t1)
{
    vf mean[GROUP];
    const size_t from = p->at + f, width = x->width;
    UNROLL for (int i = 0; i < V; i++)
        mean[i] = p->s[f / VL + (size_t)i].num;
    for (size_t t = t0; t < t1; t++)
        UNROLL for (int i = 0; i < V; i++) {
            const size_t at = from + t * width + (size_t)i * VL;
            const vf q = fetch(dtype, c->q, at, lanes);
            put(dtype, c->o, at, gated(mean[i], q), lanes);
        }
}

/* num becomes the mean; saved by one segment. */
static void forward_all(const att_call *c, const task *x, const place *p)
{
    const int dtype = c->p->dtype;
    const saved kept = saved_of(c);
    for (size_t i = 0; i < x->vectors; i++) {
        const size_t left = x->width - i * VL, lanes = left < VL ? left : VL;
        p->s[i].num /= p->s[i].den;
        if (!p->last || !kept.max) continue;
        store(kept.max + p->kept + i * VL, p->s[i].max, lanes);
        store(kept.den + p->kept + i * VL, p->s[i].den, lanes);
        store(kept.mean + p->kept + i * VL, p->s[i].num, lanes);
    }
#define STEP(V, lanes, f, t0, t1)                                              \
    if (dtype == ATT_F32)                                                      \
        gate_block(V, ATT_F32, lanes, c, x, p, f, t0, t1);                     \
    else gate_block(V, dtype, lanes, c, x, p, f, t0, t1)
    WALK(x, p, false, STEP)
#undef STEP
}

SIMD_INLINE void scan_block(const int V, size_t lanes, size_t f, const task *x,
                            const att_call *c, const place *p,
                            const saved *kept, size_t t0, size_t t1)
{
    state s[GROUP], *const in = p->s + f / VL;
    UNROLL for (int i = 0; i < V; i++) s[i] = in[i];
    for (size_t t = t0; t < t1; t++)
        UNROLL for (int i = 0; i < V; i++) {
            const size_t at = p->at + t * x->width + f + (size_t)i * VL;
            step(&s[i], fetch(c->p->dtype, c->k, at, lanes),
                 fetch(c->p->dtype, c->v, at, lanes));
            const vf mean = s[i].num / s[i].den;
            const vf q = fetch(c->p->dtype, c->q, at, lanes);
            put(c->p->dtype, c->o, at, gated(mean, q), lanes);
            if (!kept->max) continue;
            store(kept->max + at, s[i].max, lanes);
            store(kept->den + at, s[i].den, lanes);
            store(kept->mean + at, mean, lanes);
        }
    UNROLL for (int i = 0; i < V; i++) in[i] = s[i];
}

static void forward_causal(const att_call *c, const task *x, const place *p)
{
    const saved kept = saved_of(c);
    for (size_t i = 0; x->segments == 1 && i < x->vectors; i++)
        p->s[i] = empty();
#define STEP(V, lanes, f, t0, t1)                                              \
    scan_block(V, lanes, f, x, c, p, &kept, t0, t1)
    WALK(x, p, false, STEP)
#undef STEP
}

static void forward(const att_call *c)
{
    const task x = task_of(c->p, c->threads);
    const size_t batch = (size_t)c->p->batch, tasks = batch * x.segments;
    const bool reduces = !x.causal || x.segments > 1;

    #pragma omp parallel num_threads(c->threads)
    {
        #pragma omp for
        for (size_t i = 0; i < (reduces ? tasks : 0); i++) {
            const place p = place_of(c, &x, i);
            reduce(c, &x, &p);
        }
        #pragma omp for
        for (size_t b = 0; b < (x.segments > 1 ? batch : 0); b++)
            join_segments(&x, (state *)c->work + b * x.segments * x.vectors);
        #pragma omp for
        for (size_t i = 0; i < tasks; i++) {
            const place p = place_of(c, &x, i);
            if (x.causal) forward_causal(c, &x, &p);
            else forward_all(c, &x, &p);
        }
    }
}

/* ---- backward -------------------------------------------------------------------------------------- */

/* Adds to den and num the terms G / D and G c / D of the tokens from t1 - 1 up to
 * t0; writes dq if wanted.  Causal: each token rescales the sums to its own
 * maximum, and if keys are wanted, dk and dv follow from them at once. */
SIMD_INLINE void sources_block(const int V, size_t lanes, size_t f,
                               const bool causal, const bool keys,
                               const att_call *c, const att_grad *g,
                               const place *p, const saved *kept, size_t width,
                               size_t t0, size_t t1)
{
    state s[GROUP], *const in = p->s + f / VL;
    float *const dq = keys || !causal ? g->dq : NULL;
    UNROLL for (int i = 0; i < V; i++) s[i] = in[i];
    for (size_t t = t1; t-- > t0;)
        UNROLL for (int i = 0; i < V; i++) {
            const size_t column = f + (size_t)i * VL;
            const size_t at = p->at + t * width + column;
            const size_t from = causal ? at : p->kept + column;
            const vf dout = load(g->dout + at, lanes);
            const vf q = fetch(c->p->dtype, c->q, at, lanes);
            const vf mean = load(kept->mean + from, lanes);
            const vf gate = gated(v_set1(1), q);
            const vf source = dout * gate / load(kept->den + from, lanes);
            if (causal) {
                const vf max = load(kept->max + from, lanes);
                const vf scale = below_one(max - s[i].max);
                s[i] = (state){ max, s[i].den * scale, s[i].num * scale };
            }
            s[i].den += source;
            s[i].num = v_fma(source, mean, s[i].num);
            if (dq) store(dq + at, dout * mean * gate * (1.0f - gate), lanes);
            if (!keys) continue;
            const vf k = fetch(c->p->dtype, c->k, at, lanes);
            const vf v = fetch(c->p->dtype, c->v, at, lanes);
            const vf e = below_one(k - s[i].max);
            if (g->dv) store(g->dv + at, e * s[i].den, lanes);
            if (g->dk)
                store(g->dk + at, e * (v * s[i].den - s[i].num), lanes);
        }
    UNROLL for (int i = 0; i < V; i++) in[i] = s[i];
}

/* No token yet: the first one brings its maximum. */
static void backward_empty(const task *x, state *s)
{
    for (size_t i = 0; i < x->vectors; i++)
        s[i] = (state){ .max = v_set1(FLT_MAX) };
}

static void backward_reduce(const att_call *c, const att_grad *g, const task *x,
                            const place *p)
{
    const saved kept = saved_of(c);
    backward_empty(x, p->s);
#define STEP(V, lanes, f, t0, t1)                                              \
    if (x->causal)                                                             \
        sources_block(V, lanes, f, true, false, c, g, p, &kept, x->width, t0,  \
                      t1);                                                     \
    else                                                                       \
        sources_block(V, lanes, f, false, false, c, g, p, &kept, x->width, t0, \
                      t1)
    WALK(x, p, true, STEP)
#undef STEP
}

/* Sums of the later segments (causal), or of all. */
static void backward_join(const task *x, state *s)
{
    for (size_t i = 0; i < x->vectors; i++) {
        state sum = { .max = v_set1(FLT_MAX) };
        for (size_t k = x->segments; k-- > 0;) {
            state *const at = s + k * x->vectors + i;
            const state own = *at;
            const vf scale =
                x->causal ? below_one(own.max - sum.max) : v_set1(1);
            if (x->causal) *at = sum;
            sum = (state){ own.max, sum.den * scale + own.den,
                           sum.num * scale + own.num };
        }
        for (size_t k = 0; !x->causal && k < x->segments; k++)
            s[k * x->vectors + i] = sum;
    }
}

SIMD_INLINE void keys_block(const int V, size_t lanes, size_t f,
                            const att_call *c, const att_grad *g,
                            const place *p, const saved *kept, size_t width,
                            size_t t0, size_t t1)
{
    vf max[GROUP], u[GROUP], w[GROUP];
    UNROLL for (int i = 0; i < V; i++) {
        const size_t column = f + (size_t)i * VL;
        max[i] = load(kept->max + p->kept + column, lanes);
        u[i] = p->s[column / VL].den;
        w[i] = p->s[column / VL].num;
    }
    for (size_t t = t0; t < t1; t++)
        UNROLL for (int i = 0; i < V; i++) {
            const size_t at = p->at + t * width + f + (size_t)i * VL;
            const vf k = fetch(c->p->dtype, c->k, at, lanes);
            const vf v = fetch(c->p->dtype, c->v, at, lanes);
            const vf e = below_one(k - max[i]);
            if (g->dv) store(g->dv + at, e * u[i], lanes);
            if (g->dk) store(g->dk + at, e * (v * u[i] - w[i]), lanes);
        }
}

static void backward_keys(const att_call *c, const att_grad *g, const task *x,
                          const place *p)
{
    const saved kept = saved_of(c);
    if (x->causal && x->segments == 1) backward_empty(x, p->s);
#define STEP(V, lanes, f, t0, t1)                                              \
    if (x->causal)                                                             \
        sources_block(V, lanes, f, true, true, c, g, p, &kept, x->width, t0,   \
                      t1);                                                     \
    else keys_block(V, lanes, f, c, g, p, &kept, x->width, t0, t1)
    WALK(x, p, true, STEP)
#undef STEP
}

static void backward(const att_call *c, const att_grad *g)
{
    const task x = task_of(c->p, c->threads);
    const size_t batch = (size_t)c->p->batch, tasks = batch * x.segments;
    const bool reduces = !x.causal || x.segments > 1;

    #pragma omp parallel num_threads(c->threads)
    {
        #pragma omp for
        for (size_t i = 0; i < (reduces ? tasks : 0); i++) {
            const place p = place_of(c, &x, i);
            backward_reduce(c, g, &x, &p);
        }
        #pragma omp for
        for (size_t b = 0; b < (x.segments > 1 ? batch : 0); b++)
            backward_join(&x, (state *)c->work + b * x.segments * x.vectors);
        #pragma omp for
        for (size_t i = 0; i < tasks; i++) {
            const place p = place_of(c, &x, i);
            backward_keys(c, g, &x, &p);
        }
    }
}

/* Halves are converted as they are loaded. */
static const char *reject(const att_problem *p, enum att_pass pass)
{
    (void)p;
    (void)pass;
    return NULL;
}

ATT_KERNELS = {
    {
        .name = "aft_simple.fused",
        .mechanism = "aft_simple",
        .brief = "two passes, lanes are features, one exponential per key",
        .reject = reject,
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
