/* plan.c - a kernel bound to a problem and its memory; batches of references;
 * the random generator and storage types that everybody shares. */
#include "plan.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

/* ---- plan ------------------------------------------------------------------------ */

static size_t aligned(size_t bytes)
{
    return (bytes + ATT_ALIGN - 1) / ATT_ALIGN * ATT_ALIGN;
}

static const char *reject_kernel(const att_kernel *k, const att_problem *p,
                                 bool grad)
{
    if (!k->reject && p->dtype != ATT_F32) return "float32 storage only";
    if (grad && !k->backward) return "this kernel has no backward";
    const char *why = k->reject ? k->reject(p, ATT_FORWARD) : NULL;
    if (!why && grad && k->reject) why = k->reject(p, ATT_BACKWARD);
    return why;
}

/* Blocks of the plan, in this order: parameters, state, save, work, extras. */
static void lay_out(att_plan *plan, char *base)
{
    size_t at = 0;
    for (int i = 0; i < plan->parameters; i++) {
        const size_t n = att_elements(&plan->parameter[i]);
        plan->param[i] = n && base ? (float *)(base + at) : NULL;
        plan->call.param[i] = plan->param[i];
        at += aligned(n * sizeof(float));
    }
    plan->parameter_bytes = at;
    plan->call.state = base ? base + at : NULL;
    at += aligned(plan->sizes.state);
    plan->call.save = base && plan->sizes.save ? base + at : NULL;
    at += aligned(plan->sizes.save);
    plan->call.work = base ? base + at : NULL;
    at += aligned(plan->sizes.work > plan->sizes.work_backward
                      ? plan->sizes.work
                      : plan->sizes.work_backward);
    plan->block_bytes = at + ATT_ALIGN;
}

const char *att_plan_create(att_plan *plan, const att_entry *entry,
                            const att_problem *p, int threads, bool grad,
                            bool dry)
{
    const att_mechanism *m = entry->mechanism;
    const att_kernel *k = entry->kernel;

    memset(plan, 0, sizeof *plan);
    if (threads < 1) return "needs at least one thread";
    const char *why = att_reject(m, p);
    if (!why) why = reject_kernel(k, p, grad);
    if (why) return why;

    plan->entry = entry;
    plan->problem = *p;
    plan->call.p = &plan->problem;
    plan->call.threads = threads;
    plan->parameters = att_parameters(m, p, plan->parameter);
    plan->extras = att_extras(m, p, plan->extra);
    if (k->sizes) k->sizes(p, threads, &plan->sizes);
    if (!grad) plan->sizes.save = plan->sizes.work_backward = 0;
    for (int pass = ATT_FORWARD; pass <= (grad ? ATT_BACKWARD : ATT_FORWARD);
         pass++) {
        m->cost(p, pass, &plan->cost[pass]);
        plan->executed[pass] = plan->cost[pass];
        if (k->executed) k->executed(p, pass, &plan->executed[pass]);
    }
    lay_out(plan, NULL);
    if (dry) return NULL;

    plan->block = aligned_alloc(ATT_ALIGN, aligned(plan->block_bytes));
    if (!plan->block) return "out of memory";
    lay_out(plan, plan->block);
    for (int i = 0; i < plan->parameters; i++)
        att_parameter_fill(m, p, i, &plan->parameter[i], plan->param[i]);
    att_plan_prepare(plan);
    return NULL;
}

/* Floats below the normal range cost some processors a hundred cycles and more
 * wherever they are made or met, and 2^-126 is nothing beside the sums they go
 * into: kernels take and leave 0 in their place.  A product of two weights may
 * lie there even though no exponential does (simd.h). */
#if defined __SSE2__
typedef unsigned float_mode;
static float_mode mode_now(void) { return _mm_getcsr(); }
static void mode_set(float_mode m) { _mm_setcsr(m); }
enum { MODE_FLUSH = 0x8040 }; /* results to 0, operands are 0 */
#elif defined __aarch64__ && defined __GNUC__
typedef uint64_t float_mode;
static float_mode mode_now(void)
{
    float_mode m;
    __asm__ volatile("mrs %0, fpcr" : "=r"(m));
    return m;
}
static void mode_set(float_mode m) { __asm__ volatile("msr fpcr, %0" ::"r"(m)); }
enum { MODE_FLUSH = 1 << 24 };
#else
typedef unsigned float_mode;
static float_mode mode_now(void) { return 0; }
static void mode_set(float_mode m) { (void)m; }
enum { MODE_FLUSH = 0 };
#endif

/* Threads of the calling thread's team that are known to flush. */
static _Thread_local int flushing;

/* The calling thread and its team flush from here on; returns what the caller
 * had.  The team's own threads, which serve kernels, stay so: to set them anew
 * at each call would cost more than a small kernel. */
static float_mode flush_begin(int threads)
{
    const float_mode before = mode_now();
    mode_set(before | MODE_FLUSH);
    if (threads > 1 && threads > flushing) {
        #pragma omp parallel num_threads(threads)
        mode_set(mode_now() | MODE_FLUSH);
        flushing = threads;
    }
    return before;
}

void att_plan_prepare(att_plan *plan)
{
    flushing = 0; /* threads may have been made anew */
    const float_mode before = flush_begin(plan->call.threads);
    if (plan->entry->kernel->prepare) plan->entry->kernel->prepare(&plan->call);
    mode_set(before);
}

void att_plan_forward(const att_plan *plan)
{
    const float_mode before = flush_begin(plan->call.threads);
    plan->entry->kernel->forward(&plan->call);
    mode_set(before);
}

void att_plan_backward(const att_plan *plan, const att_grad *g)
{
    const float_mode before = flush_begin(plan->call.threads);
    plan->entry->kernel->backward(&plan->call, g);
    mode_set(before);
}

void att_plan_free(att_plan *plan)
{
    free(plan->block);
    plan->block = NULL;
}

/* ---- references --------------------------------------------------------------------- */

/* Moves every per-batch array of r to entry b. */
static void select_batch(const att_mechanism *m, const att_ref *all,
                         const att_problem *one, size_t b, att_ref *r)
{
    size_t size[ATT_SLOTS];
    for (enum att_slot s = ATT_Q; s <= ATT_O; s++) {
        att_shape shape;
        att_shape_of(m, one, s, &shape);
        size[s] = b * att_shape_elements(&shape);
    }
    att_tensor extra[ATT_EXTRAS];
    const int extras = att_extras(m, one, extra);

    *r = *all;
    r->p = one;
    if (r->q) r->q += size[ATT_Q];
    if (r->k) r->k += size[ATT_K];
    if (r->v) r->v += size[ATT_V];
    if (r->o) r->o += size[ATT_O];
    if (r->dout) r->dout += size[ATT_O];
    if (r->dq) r->dq += size[ATT_Q];
    if (r->dk) r->dk += size[ATT_K];
    if (r->dv) r->dv += size[ATT_V];
    for (int i = 0; i < extras; i++)
        if (r->extra[i]) r->extra[i] += b * att_elements(&extra[i]);
}

static void over_batch(const att_mechanism *m, const att_ref *all,
                       void (*function)(const att_ref *))
{
    att_problem one = *all->p;
    one.batch = 1;
    for (int b = 0; b < all->p->batch; b++) {
        att_ref r;
        select_batch(m, all, &one, (size_t)b, &r);
        function(&r);
    }
}

void att_reference_forward(const att_mechanism *m, const att_ref *r)
{
    over_batch(m, r, m->forward);
}

static void zero(double *x, size_t n)
{
    if (x) memset(x, 0, n * sizeof *x);
}

void att_reference_backward(const att_mechanism *m, const att_ref *r)
{
    double *const grad[3] = { r->dq, r->dk, r->dv };
    att_tensor parameter[ATT_PARAMS];
    const int parameters = att_parameters(m, r->p, parameter);

    for (enum att_slot s = ATT_Q; s <= ATT_V; s++) {
        att_shape shape;
        att_shape_of(m, r->p, s, &shape);
        zero(grad[s], (size_t)r->p->batch * att_shape_elements(&shape));
    }
    for (int i = 0; i < parameters; i++)
        zero(r->dparam[i], att_elements(&parameter[i]));
    over_batch(m, r, m->backward);
}

/* ---- numbers ------------------------------------------------------------------------- */

uint64_t att_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double att_uniform(uint64_t *state)
{
    return (double)(att_random(state) >> 11) * 0x1p-53;
}

double att_normal(uint64_t *state)
{
    const double u = 1 - att_uniform(state); /* in (0, 1] */
    const double v = att_uniform(state);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static struct {
    uint64_t seed, state; /* the state behind the last of them               */
    size_t n;
    double *x;
} kept[16];
static int kept_count;

static int kept_find(uint64_t seed)
{
    int i = 0;
    while (i < kept_count && kept[i].seed != seed) i++;
    return i;
}

void att_normals_keep(uint64_t seed, size_t n)
{
    const size_t most = 1 << 20;
    const int i = kept_find(seed);
    if (i == sizeof kept / sizeof *kept || n > most) return;
    if (i == kept_count) {
        kept[i].seed = kept[i].state = seed;
        kept_count++;
    }
    if (kept[i].n >= n) return;
    double *x = realloc(kept[i].x, n * sizeof *x);
    if (!x) return;
    kept[i].x = x;
    for (; kept[i].n < n; kept[i].n++) x[kept[i].n] = att_normal(&kept[i].state);
}

const double *att_normals_kept(uint64_t seed, size_t n)
{
    const int i = kept_find(seed);
    return i < kept_count && kept[i].n >= n ? kept[i].x : NULL;
}

size_t att_dtype_bytes(int dtype)
{
    return dtype == ATT_F32 ? 4 : 2;
}

static uint16_t to_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if (isnan(x)) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* IEEE half by integer arithmetic: exact on every compiler and level. */
static uint16_t to_f16(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    const uint32_t sign = u >> 16 & 0x8000;
    const uint32_t a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* rounds to inf */
    if (a < 0x38800000) { /* subnormal: units of 2^-24 */
        float y;
        memcpy(&y, &a, sizeof y);
        return (uint16_t)(sign | (uint32_t)lrintf(y * 0x1p24f));
    }
    const uint32_t rounded = a + 0xfff + (a >> 13 & 1);
    return (uint16_t)(sign | (rounded - 0x38000000) >> 13);
}

static float from_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t e = h >> 10 & 31, f = h & 0x3ff;
    if (e == 0) return (sign ? -1.0f : 1.0f) * (float)f * 0x1p-24f;
    const uint32_t u =
        sign | (e == 31 ? 0x7f800000u : (e + 112) << 23) | f << 13;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

void att_store(int dtype, void *out, const float *in, size_t n)
{
    uint16_t *half = out;
    if (dtype == ATT_F32) memcpy(out, in, n * sizeof *in);
    else
        for (size_t i = 0; i < n; i++)
            half[i] = dtype == ATT_F16 ? to_f16(in[i]) : to_bf16(in[i]);
}

void att_fetch(int dtype, float *out, const void *in, size_t n)
{
    const uint16_t *half = in;
    if (dtype == ATT_F32) memcpy(out, in, n * sizeof *out);
    else
        for (size_t i = 0; i < n; i++)
            out[i] = dtype == ATT_F16 ? from_f16(half[i]) : from_bf16(half[i]);
}
