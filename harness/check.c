#include "check.h"

#include <float.h>
#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- tolerances ------------------------------------------------------------ */

/* float: sums of a few hundred terms with random rounding stay below 100 units
 * of 2^-24 on the scale of 1 + |ref|; gradients multiply three such sums.
 * Halves: their own rounding, 2^-11 and 2^-8, and a few of it in gradients,
 * which start from the rounded o. */
double check_tolerance(const att_problem *p, enum att_pass pass)
{
    static const double tolerance[][2] = {
        [ATT_F32] = { 2e-5, 2e-4 },
        [ATT_F16] = { 1e-3, 1e-2 },
        [ATT_BF16] = { 8e-3, 8e-2 },
    };
    return tolerance[p->dtype][pass];
}

/* ---- values ------------------------------------------------------------------ */

static double *numbers(size_t n)
{
    return calloc(n ? n : 1, sizeof(double));
}

static bool add_output(check_values *v, const char *prefix, const char *name,
                       size_t elements, double **where)
{
    check_output *out = &v->output[v->outputs++];
    snprintf(out->name, sizeof out->name, "%s%s", prefix, name);
    out->elements = elements;
    out->gradient = prefix[0] != 0;
    out->value = *where = numbers(elements);
    for (size_t i = 0; out->value && i < elements; i++) out->value[i] = NAN;
    return out->value != NULL;
}

static bool make_inputs(check_values *v)
{
    bool made = true;
    for (enum att_slot s = ATT_Q; s <= ATT_O; s++) {
        att_shape shape;
        att_shape_of(v->mechanism, &v->problem, s, &shape);
        const size_t n = v->elements[s] =
            (size_t)v->problem.batch * att_shape_elements(&shape);
        if (n && s != ATT_O) made &= (v->in[s] = numbers(n)) != NULL;
    }
    v->parameters = att_parameters(v->mechanism, &v->problem, v->parameter);
    for (int i = 0; i < v->parameters; i++) {
        const size_t n = att_elements(&v->parameter[i]);
        if (n) made &= (v->param[i] = numbers(n)) != NULL;
    }
    if (v->grad) made &= (v->dout = numbers(v->elements[ATT_O])) != NULL;
    return made;
}

static bool make_results(check_values *v)
{
    bool made = add_output(v, "", "out", v->elements[ATT_O], &v->o);
    v->extras = att_extras(v->mechanism, &v->problem, v->extra);
    for (int i = 0; i < v->extras; i++) {
        const size_t n = att_elements(&v->extra[i]);
        if (n)
            made &= add_output(v, "", v->extra[i].name,
                               (size_t)v->problem.batch * n,
                               &v->extra_value[i]);
    }
    return made;
}

static bool make_gradients(check_values *v)
{
    bool made = true;
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
        if (v->in[s])
            made &= add_output(v, "d",
                               att_input_name(v->mechanism, &v->problem, s),
                               v->elements[s], &v->din[s]);
    for (int i = 0; i < v->parameters; i++) {
        const att_tensor *t = &v->parameter[i];
        if (v->param[i] && !t->fixed)
            made &= add_output(v, "d", t->name, att_elements(t),
                               &v->dparam[i]);
    }
    return made;
}

int check_values_make(check_values *v, const att_mechanism *m,
                      const att_problem *p, bool grad, error *e)
{
    memset(v, 0, sizeof *v);
    v->mechanism = m;
    v->problem = *p;
    v->grad = grad;
    if (make_inputs(v) && make_results(v) && (!grad || make_gradients(v)))
        return 0;
    return error_set(e, "out of memory for a check of %s: use a smaller problem",
                     m->name);
}

void check_values_free(check_values *v)
{
    for (int i = 0; i < v->outputs; i++) free(v->output[i].value);
    for (int i = 0; i < v->parameters; i++) free(v->param[i]);
    for (int s = 0; s < 3; s++) free(v->in[s]);
    free(v->dout);
    memset(v, 0, sizeof *v);
}

static int fill_parameter(check_values *v, int index, uint64_t seed,
                          enum inputs_family family)
{
    const att_tensor *t = &v->parameter[index];
    const size_t n = att_elements(t);
    float *x = malloc(n * sizeof *x);
    if (!x) return -1;
    inputs_parameter(v->mechanism, &v->problem, index, t, seed, family, x);
    for (size_t i = 0; i < n; i++) v->param[index][i] = x[i];
    free(x);
    return 0;
}

int check_values_fill(check_values *v, uint64_t seed, enum inputs_family family,
                      error *e)
{
    inputs in;
    if (inputs_make(&in, v->mechanism, &v->problem, seed, family, v->grad, e))
        return -1;
    int rc = 0;
    v->huge = family == INPUTS_HUGE;
    v->constant = family == INPUTS_CHANNELS || family == INPUTS_TOKENS ||
                  family == INPUTS_ZERO;
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++) {
        const size_t bytes = att_dtype_bytes(v->problem.dtype);
        for (size_t i = 0; v->in[s] && i < v->elements[s]; i++) {
            float x;
            att_fetch(v->problem.dtype, &x, (char *)in.value[s] + i * bytes, 1);
            v->in[s][i] = x;
        }
    }
    for (size_t i = 0; v->grad && i < v->elements[ATT_O]; i++)
        v->dout[i] = in.dout[i];
    for (int i = 0; !rc && i < v->parameters; i++)
        if (v->param[i]) rc = fill_parameter(v, i, seed, family);
    inputs_free(&in);
    return rc ? error_set(e, "out of memory for the parameters of %s",
                          v->mechanism->name)
              : 0;
}

/* ---- reference ---------------------------------------------------------------- */

void check_reference(check_values *v, att_cost tally[2])
{
    att_ref r = { .p = &v->problem,
                  .q = v->in[ATT_Q],
                  .k = v->in[ATT_K],
                  .v = v->in[ATT_V],
                  .o = v->o,
                  .tally = tally ? &tally[ATT_FORWARD] : NULL };
    for (int i = 0; i < v->parameters; i++) r.param[i] = v->param[i];
    for (int i = 0; i < v->extras; i++) r.extra[i] = v->extra_value[i];
    att_reference_forward(v->mechanism, &r);
    if (!v->grad) return;

    r.tally = tally ? &tally[ATT_BACKWARD] : NULL;
    r.dout = v->dout;
    r.dq = v->din[ATT_Q];
    r.dk = v->din[ATT_K];
    r.dv = v->din[ATT_V];
    for (int i = 0; i < v->parameters; i++) r.dparam[i] = v->dparam[i];
    att_reference_backward(v->mechanism, &r);
}

int check_reference_sane(const check_values *v, error *e)
{
    for (int i = 0; i < v->outputs; i++) {
        const check_output *w = &v->output[i];
        const bool extra = i > 0 && !w->gradient;
        for (size_t j = 0; j < w->elements; j++)
            if (isnan(w->value[j]) || (!extra && isinf(w->value[j])))
                return error_set(e,
                                 "the reference of '%s' gives %s in %s on finite "
                                 "inputs: mend its %s()",
                                 v->mechanism->name,
                                 isnan(w->value[j]) ? "nan" : "inf", w->name,
                                 w->gradient ? "backward" : "forward");
    }
    return 0;
}

bool check_cost(const att_mechanism *m, const att_problem *p,
                const att_cost *tally, char *why, size_t size)
{
    att_cost model = { 0 };
    if (att_flops(tally) == 0 && tally->pairs == 0) return true;
    m->cost(p, ATT_FORWARD, &model);
    const struct { const char *name; double model, counted; } c[] = {
        { "mul_add", model.mul_add, tally->mul_add },
        { "add", model.add, tally->add },
        { "mul", model.mul, tally->mul },
        { "div", model.div, tally->div },
        { "exp", model.exp, tally->exp },
        { "pairs", model.pairs, tally->pairs },
    };
    for (size_t k = 0; k < sizeof c / sizeof *c; k++) {
        if (fabs(c[k].model - c[k].counted) <= 1e-9 * (1 + c[k].model) ||
            (c[k].counted == 0 && !strcmp(c[k].name, "pairs")))
            continue; /* pairs are no operations: not all count them */
        snprintf(why, size, "cost() says %.15g %s, the reference does %.15g",
                 c[k].model, c[k].name, c[k].counted);
        return false;
    }
    return true;
}

void check_jitter(double *to, const double *from, size_t n, bool constant,
                  uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = i;
        if (constant) memcpy(&bits, &from[i], sizeof bits);
        uint64_t own = (bits ^ seed * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
        const double unit = fmax(0x1p-23 * fabs(from[i]), 0x1p-149);
        const double step = unit * (2 * att_uniform(&own) - 1);
        to[i] = from[i] == 0 || isinf(from[i]) ? from[i] : from[i] + step;
    }
}

double check_unit(int dtype)
{
    return dtype == ATT_F16 ? 0x1p-11 : dtype == ATT_BF16 ? 0x1p-8 : 0x1p-24;
}

/* Inputs of v, as they are or moved. */
static void move_inputs(check_values *to, const check_values *v, bool jitter)
{
    const double *from[3 + ATT_PARAMS + 1];
    double *at[3 + ATT_PARAMS + 1];
    size_t n[3 + ATT_PARAMS + 1];
    int count = 0;
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++, count++)
        from[count] = v->in[s], at[count] = to->in[s], n[count] = v->elements[s];
    for (int i = 0; i < v->parameters; i++, count++)
        from[count] = v->param[i], at[count] = to->param[i],
        n[count] = att_elements(&v->parameter[i]);
    from[count] = v->dout, at[count] = to->dout, n[count] = v->elements[ATT_O];
    for (int i = 0; i <= count; i++) {
        const int parameter = i - 3;
        const bool fixed = parameter >= 0 && parameter < v->parameters &&
                           v->parameter[parameter].fixed;
        if (!from[i] || !at[i]) continue;
        if (jitter && !fixed)
            check_jitter(at[i], from[i], n[i], v->constant, (uint64_t)i);
        else memcpy(at[i], from[i], n[i] * sizeof *from[i]);
    }
}

/* Raises shaky by what moving inputs, or (another rounding) rounding up or down in
 * all operations of the reference, changes.  The latter is a double's: a float's
 * (gradients start from the stored o) is so many times as coarse.  A quarter: what
 * rounds at random adds up to less than what always rounds one way. */
static int change_of(check_values *v, int rounding, error *e)
{
    const bool jitter = rounding == FE_TONEAREST;
    check_values moved;
    const int rc =
        check_values_make(&moved, v->mechanism, &v->problem, v->grad, e);
    if (!rc) {
        move_inputs(&moved, v, jitter);
        fesetround(rounding);
        check_reference(&moved, NULL);
        fesetround(FE_TONEAREST);
    }
    for (int i = 0; !rc && i < v->outputs; i++) {
        check_output *w = &v->output[i];
        const double unit = check_unit(w->gradient ? v->problem.dtype : ATT_F32);
        const double weight = jitter ? 1 : unit / 0x1p-53 / 4;
        w->shaky = fmax(w->shaky, weight * check_difference(moved.output[i].value,
                                                            w->value, w->elements));
    }
    check_values_free(&moved);
    return rc;
}

int check_conditioning(check_values *v, error *e)
{
    for (int i = 0; i < v->outputs; i++) v->output[i].shaky = 0;
    const bool failed = change_of(v, FE_TONEAREST, e) ||
                        change_of(v, FE_UPWARD, e) || change_of(v, FE_DOWNWARD, e);
    v->conditioned = !failed;
    return failed ? -1 : 0;
}

/* ---- kernel ---------------------------------------------------------------------- */

static void *heap_take(size_t bytes)
{
    const size_t n = (bytes / ATT_ALIGN + 1) * ATT_ALIGN;
    void *x = aligned_alloc(ATT_ALIGN, n);
    if (!x) abort(); /* as references do: sizes were predicted by the caller */
    return x;
}

const check_memory check_heap = { .take = heap_take, .release = free };

/* Everything that one call points to. */
typedef struct buffers {
    const check_memory *memory;
    struct { void *at; size_t bytes; } block[16 + 2 * ATT_PARAMS + ATT_EXTRAS];
    int blocks;
} buffers;

/* NaN in every dtype, before calls that are repeated zeros, and large numbers. */
static void poison(void *x, size_t bytes, int calls_left)
{
    static const unsigned char fill[] = { 0xff, 0x4b, 0x00 };
    if (bytes) memset(x, fill[calls_left % 3], bytes);
}

static void *take(buffers *b, size_t bytes)
{
    void *x = b->memory->take(bytes);
    b->block[b->blocks].at = x;
    b->block[b->blocks++].bytes = bytes;
    poison(x, bytes, 0);
    return x;
}

static void seal(const buffers *b, const void *block)
{
    if (b->memory->seal && block) b->memory->seal((void *)block);
}

static const float *take_floats(buffers *b, const double *from, size_t n)
{
    float *x = take(b, n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)from[i];
    seal(b, x);
    return x;
}

static const void *take_stored(buffers *b, int dtype, const double *from,
                               size_t n)
{
    char *x = take(b, n * att_dtype_bytes(dtype));
    for (size_t i = 0; i < n; i++) {
        const float value = (float)from[i];
        att_store(dtype, x + i * att_dtype_bytes(dtype), &value, 1);
    }
    seal(b, x);
    return x;
}

/* A call's result; repeated: to holds that of the call before. */
static void give(check_values *v, double *to, int dtype, const void *from,
                 size_t n, bool repeated)
{
    bool same = true;
    for (size_t i = 0; to && i < n; i++) {
        float stored;
        att_fetch(dtype, &stored,
                  (const char *)from + i * att_dtype_bytes(dtype), 1);
        const double x = stored;
        same &= (isnan(x) && isnan(to[i])) || !memcmp(&x, &to[i], sizeof x);
        to[i] = x;
    }
    for (int i = 0; repeated && !same && i < v->outputs; i++)
        if (v->output[i].value == to) v->output[i].varies = true;
}

static size_t extra_elements(const check_values *v, int i)
{
    return v->extra_value[i] ? (size_t)v->problem.batch *
                                   att_elements(&v->extra[i])
                             : 0;
}

static void set_call(att_plan *plan, const check_values *v, buffers *b)
{
    const int dtype = v->problem.dtype;
    att_call *c = &plan->call;
    const void *in[3] = { NULL };
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
        if (v->in[s]) in[s] = take_stored(b, dtype, v->in[s], v->elements[s]);
    c->q = in[ATT_Q];
    c->k = in[ATT_K];
    c->v = in[ATT_V];
    c->o = take(b, v->elements[ATT_O] * att_dtype_bytes(dtype));
    for (int i = 0; i < v->parameters; i++)
        c->param[i] = v->param[i]
                          ? take_floats(b, v->param[i],
                                        att_elements(&v->parameter[i]))
                          : NULL;
    for (int i = 0; i < v->extras; i++)
        c->extra[i] = v->extra_value[i]
                          ? take(b, extra_elements(v, i) * sizeof(float))
                          : NULL;
    c->state = take(b, plan->sizes.state);
    c->save = plan->sizes.save ? take(b, plan->sizes.save) : NULL;
}

static void run_forward(att_plan *plan, check_values *v, buffers *b)
{
    att_call *c = &plan->call;
    att_plan_prepare(plan);
    seal(b, c->state);
    c->work = take(b, plan->sizes.work);
    const int again = b->memory->again, dtype = v->problem.dtype;
    for (int left = again; left >= 0; left--) {
        poison(c->o, v->elements[ATT_O] * att_dtype_bytes(dtype), left);
        for (int i = 0; i < v->extras; i++)
            poison(c->extra[i], extra_elements(v, i) * sizeof(float), left);
        poison(c->save, plan->sizes.save, left);
        poison(c->work, plan->sizes.work, left);
        att_plan_forward(plan);
        give(v, v->o, dtype, c->o, v->elements[ATT_O], left < again);
        for (int i = 0; i < v->extras; i++)
            give(v, v->extra_value[i], ATT_F32, c->extra[i],
                 extra_elements(v, i), left < again);
    }
}

/* The gradients' buffers; they begin at *first of b. */
static att_grad take_gradients(const check_values *v, buffers *b, int *first)
{
    att_grad g = { .dout = take_floats(b, v->dout, v->elements[ATT_O]) };
    float **const din[3] = { &g.dq, &g.dk, &g.dv };
    *first = b->blocks;
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
        if (v->din[s]) *din[s] = take(b, v->elements[s] * sizeof(float));
    for (int i = 0; i < v->parameters; i++)
        if (v->dparam[i])
            g.dparam[i] =
                take(b, att_elements(&v->parameter[i]) * sizeof(float));
    return g;
}

static void run_backward(att_plan *plan, check_values *v, buffers *b)
{
    int first; /* of what is written here */
    att_grad g = take_gradients(v, b, &first);
    const float *const din[3] = { g.dq, g.dk, g.dv };

    plan->call.work = take(b, plan->sizes.work_backward);
    seal(b, plan->call.o);
    seal(b, plan->call.save);
    const int again = b->memory->again;
    for (int left = again; left >= 0; left--) {
        for (int i = first; i < b->blocks; i++)
            poison(b->block[i].at, b->block[i].bytes, left);
        att_plan_backward(plan, &g);
        for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
            give(v, v->din[s], ATT_F32, din[s], v->elements[s], left < again);
        for (int i = 0; i < v->parameters; i++)
            if (v->dparam[i])
                give(v, v->dparam[i], ATT_F32, g.dparam[i],
                     att_elements(&v->parameter[i]), left < again);
    }
}

const char *check_run(const att_entry *entry, int threads,
                      const check_memory *memory, check_values *v)
{
    att_plan plan;
    const char *why =
        att_plan_create(&plan, entry, &v->problem, threads, v->grad, true);
    if (why) return why;

    buffers b = { .memory = memory };
    set_call(&plan, v, &b);
    run_forward(&plan, v, &b);
    if (v->grad) run_backward(&plan, v, &b);
    while (b.blocks > 0) memory->release(b.block[--b.blocks].at);
    return NULL;
}

/* Other processes cost no processor time of this one. */
static double processor_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Fastest of 5 to 40 calls, in 40 ms if that is enough. */
static double fastest(const att_plan *plan, const att_grad *g)
{
    const double start = processor_time();
    double best = INFINITY, before = start;
    for (int i = 0; i < 40 && (i < 5 || before - start < 0.04); i++) {
        if (g) att_plan_backward(plan, g);
        else att_plan_forward(plan);
        const double now = processor_time();
        best = fmin(best, now - before);
        before = now;
    }
    return best;
}

const char *check_time(const att_entry *entry, int threads, const check_values *v,
                       double seconds[2])
{
    att_plan plan;
    const char *why =
        att_plan_create(&plan, entry, &v->problem, threads, v->grad, true);
    if (why) return why;

    buffers b = { .memory = &check_heap };
    int first;
    set_call(&plan, v, &b);
    att_plan_prepare(&plan);
    plan.call.work = take(&b, plan.sizes.work);
    seconds[ATT_FORWARD] = fastest(&plan, NULL);
    seconds[ATT_BACKWARD] = 0;
    if (v->grad) {
        const att_grad g = take_gradients(v, &b, &first);
        plan.call.work = take(&b, plan.sizes.work_backward);
        seconds[ATT_BACKWARD] = fastest(&plan, &g);
    }
    while (b.blocks > 0) b.memory->release(b.block[--b.blocks].at);
    return NULL;
}

/* ---- comparison --------------------------------------------------------------------- */

/* No input is so ill conditioned that a result without two digits passes. */
#define MOST_SHAKY 0.02

static double difference(double x, double ref)
{
    if (x == ref) return 0;
    if (!isfinite(x) || !isfinite(ref)) return INFINITY;
    return fabs(x - ref) / (1 + fabs(ref));
}

double check_difference(const double *x, const double *ref, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, difference(x[i], ref[i]));
    return worst;
}

/* Infinities that agree are left out.  Results that vanish (the gradient of a
 * saturated softmax) are measured against an rms of 1e-3: else their rounding
 * would be divided by nothing. */
static double normalised_error(const double *x, const double *ref, size_t n)
{
    double off = 0, power = 0, least = 1e-6 * (double)n;
    for (size_t i = 0; i < n; i++) {
        if (x[i] == ref[i] && !isfinite(ref[i])) continue;
        off += (x[i] - ref[i]) * (x[i] - ref[i]);
        power += ref[i] * ref[i];
    }
    return off == 0 ? 0 : off / fmax(power, least);
}

void check_compare(const check_values *got, const check_values *want,
                   double tolerance, double tolerance_grad, check_result *out)
{
    double worst = -1;
    *out = (check_result){ .pass = true };
    for (int i = 0; i < want->outputs && i < got->outputs; i++) {
        const check_output *g = &got->output[i], *w = &want->output[i];
        const double tol = w->gradient ? tolerance_grad : tolerance;
        const double d = check_difference(g->value, w->value, w->elements);
        out->nmse = fmax(out->nmse,
                         normalised_error(g->value, w->value, w->elements));
        const double shaky = fmin(16 * w->shaky, want->huge ? 1 : MOST_SHAKY);
        if (!(d <= fmax(tol, shaky))) out->pass = false;
        if (d / tol <= worst) continue;
        worst = d / tol;
        out->max_abs = d;
        snprintf(out->worst, sizeof out->worst, "%s", w->name);
    }
}

/* Zeros for what is below the normal floats; whether there was any. */
static bool flush(double *x, size_t n)
{
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        if (x[i] == 0 || fabs(x[i]) >= FLT_MIN) continue;
        x[i] = 0;
        any = true;
    }
    return any;
}

/* The reference of `want` with zeros for denormal inputs, 0 and false if there
 * are none. */
static int make_flushed(const check_values *want, check_values *flushed,
                        bool *any, error *e)
{
    if (check_values_make(flushed, want->mechanism, &want->problem, want->grad,
                          e))
        return -1;
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++) {
        if (!want->in[s]) continue;
        memcpy(flushed->in[s], want->in[s], want->elements[s] * sizeof(double));
        *any |= flush(flushed->in[s], want->elements[s]);
    }
    for (int i = 0; i < want->parameters; i++) {
        const size_t n = att_elements(&want->parameter[i]);
        if (!want->param[i]) continue;
        memcpy(flushed->param[i], want->param[i], n * sizeof(double));
        *any |= flush(flushed->param[i], n);
    }
    if (want->grad)
        memcpy(flushed->dout, want->dout,
               want->elements[ATT_O] * sizeof(double));
    if (*any) check_reference(flushed, NULL);
    return *any ? check_conditioning(flushed, e) : 0;
}

int check_judge(const check_values *got, check_values *want, check_result *out,
                error *e)
{
    const double tol = check_tolerance(&want->problem, ATT_FORWARD);
    const double tol_grad = check_tolerance(&want->problem, ATT_BACKWARD);
    check_compare(got, want, tol, tol_grad, out);
    if (!out->pass && !want->conditioned && check_conditioning(want, e))
        return -1;
    if (!out->pass) check_compare(got, want, tol, tol_grad, out);
    if (out->pass) return 0;

    check_values flushed = { 0 };
    bool any = false;
    const int rc = make_flushed(want, &flushed, &any, e);
    if (!rc && any) check_compare(got, &flushed, tol, tol_grad, out);
    check_values_free(&flushed);
    return rc;
}

int check_kernel(const att_entry *entry, const att_problem *p, int threads,
                 enum att_pass pass, uint64_t seed, enum inputs_family family,
                 check_result *out, error *e)
{
    const att_mechanism *m = entry->mechanism;
    const bool grad = pass == ATT_BACKWARD;
    check_values want = { 0 }, got = { 0 };
    const char *why = att_reject(m, p);
    int rc = -1;

    if (why) return error_set(e, "%s: %s", entry->kernel->name, why);
    if (check_values_make(&want, m, p, grad, e) ||
        check_values_fill(&want, seed, family, e) ||
        check_values_make(&got, m, p, grad, e) ||
        check_values_fill(&got, seed, family, e))
        goto out;
    why = check_run(entry, threads, &check_heap, &got);
    if (why) {
        error_set(e, "%s: %s", entry->kernel->name, why);
        goto out;
    }
    check_reference(&want, NULL);
    if (check_reference_sane(&want, e)) rc = 1;
    else rc = check_judge(&got, &want, out, e);
out:
    check_values_free(&want);
    check_values_free(&got);
    return rc;
}
