#define _GNU_SOURCE
#include "bound.h"

#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* More than this is no digit that anybody may rely on. */
#define OPEN 0.02

/* Of the largest input: the weight that kernels may take for 0, or 0 for it. */
#define LEAST 0x1p-110
/* Below this share of what its terms are in the twin a gradient cancels, and rounds as
 * they do. */
#define CANCELS 0x1p-4

/* ---- inputs of other runs ----------------------------------------------- */

static double rms(const double *x, size_t n)
{
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) continue;
        sum += x[i] * x[i];
        count++;
    }
    return count ? sqrt(sum / (double)count) : 0;
}

static double largest_of(const double *x, size_t n)
{
    double most = 0;
    for (size_t i = 0; x && i < n; i++)
        if (isfinite(x[i])) most = fmax(most, fabs(x[i]));
    return most;
}

static void normals(double *to, const double *from, size_t n, uint64_t *seed)
{
    const double size = fmin(1, rms(from, n));
    for (size_t i = 0; i < n; i++) to[i] = size * att_normal(seed);
}

/* A seed of its own for each tensor. */
static void jitter(double *to, const double *from, size_t n, uint64_t *seed)
{
    check_jitter(to, from, n, false, att_random(seed));
}

static void jitter_alike(double *to, const double *from, size_t n,
                         uint64_t *seed)
{
    check_jitter(to, from, n, true, att_random(seed));
}

/* What a processor may take for denormal floats. */
static void flush(double *to, const double *from, size_t n, uint64_t *seed)
{
    (void)seed;
    for (size_t i = 0; i < n; i++)
        to[i] = fabs(from[i]) < (double)FLT_MIN ? 0 : from[i];
}

static void same(double *to, const double *from, size_t n, uint64_t *seed)
{
    (void)seed;
    memcpy(to, from, n * sizeof *to);
}

/* Another run of the reference of v on inputs made from its own. */
static int run(check_values *other, const check_values *v,
               void (*change)(double *, const double *, size_t, uint64_t *),
               uint64_t seed, int rounding, error *e)
{
    if (check_values_make(other, v->mechanism, &v->problem, v->grad, e))
        return -1;
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
        if (v->in[s]) change(other->in[s], v->in[s], v->elements[s], &seed);
    for (int i = 0; i < v->parameters; i++)
        if (v->param[i])
            (v->parameter[i].fixed ? same : change)(
                other->param[i], v->param[i], att_elements(&v->parameter[i]),
                &seed);
    if (v->grad) change(other->dout, v->dout, v->elements[ATT_O], &seed);
    fesetround(rounding);
    check_reference(other, NULL);
    fesetround(FE_TONEAREST);
    return 0;
}

/* ---- bounds ------------------------------------------------------------- */

/* Input or parameter whose gradient output i is: its slot, or -1. */
static int slot_of(const check_values *v, int i)
{
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
        if (v->din[s] && v->output[i].value == v->din[s]) return (int)s;
    return -1;
}

static double largest_parameter(const check_values *v)
{
    double most = 0;
    for (int i = 0; i < v->parameters; i++)
        if (v->param[i])
            most = fmax(most, largest_of(v->param[i],
                                         att_elements(&v->parameter[i])));
    return most;
}

double bound_terms(const check_values *v, int i)
{
    const int slot = slot_of(v, i);
    if (!v->output[i].gradient) return 0;
    double size = largest_of(v->o, v->elements[ATT_O]) *
                  largest_of(v->dout, v->elements[ATT_O]);
    for (enum att_slot s = ATT_Q; s < ATT_V; s++)
        if (v->in[s] && (int)s != slot)
            size *= fmax(1, fmax(largest_of(v->in[s], v->elements[s]),
                                 largest_parameter(v)));
    return size;
}

static double largest_input(const check_values *v)
{
    double most = fmax(1, largest_parameter(v));
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
        most = fmax(most, largest_of(v->in[s], v->elements[s]));
    return v->grad ? fmax(most, largest_of(v->dout, v->elements[ATT_O])) : most;
}

/* Values in the storage of o: the first output alone. */
static bool stored(const bounds *b, int i)
{
    return i == 0 && b->want->problem.dtype != ATT_F32;
}

/* How much larger than those of the twin the factors of gradient i are. */
static double excess(const check_values *v, int i)
{
    const int slot = slot_of(v, i);
    if (!v->output[i].gradient) return 0;
    double times = fmax(1, rms(v->dout, v->elements[ATT_O]));
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
        if (v->in[s] && (int)s != slot)
            times *= fmax(1, rms(v->in[s], v->elements[s]));
    return times;
}

static void first_bound(bounds *b, int i, const check_values *twin)
{
    const int dtype = b->want->problem.dtype;
    const double left = (dtype == ATT_F32 ? 16 : 4) * check_unit(dtype);
    const double usual = bound_terms(twin, i), here = 4 * bound_terms(b->want, i);
    const double most = largest_of(twin->output[i].value,
                                   twin->output[i].elements) *
                        excess(b->want, i);
    double least = b->least;
    const check_output *o = &b->want->output[i];
    const double tolerance =
        check_tolerance(&b->want->problem, o->gradient);
    if (stored(b, i) && b->want->problem.dtype == ATT_F16)
        least += 0x1p-24; /* its denormals */
    for (size_t k = 0; k < o->elements; k++) {
        const double ref = fabs(o->value[k]);
        b->of[i][k] = tolerance * (ref + b->scale[i]) + least +
                      left * (ref <= CANCELS * usual ? fmax(here, most) : most);
    }
}

int bounds_make(bounds *b, const check_values *want, error *e)
{
    check_values twin = { 0 };
    *b = (bounds){ .want = want };
    int rc = run(&twin, want, normals, 1, FE_TONEAREST, e);
    b->least = LEAST * fmin(largest_input(want), 1e30);
    for (int i = 0; !rc && i < want->outputs; i++) {
        const size_t n = want->output[i].elements;
        b->of[i] = malloc((n + 1) * sizeof(double));
        if (!b->of[i]) rc = error_set(e, "out of memory for bounds");
        if (rc) break;
        b->scale[i] = fmin(1, largest_of(twin.output[i].value, n));
        first_bound(b, i, &twin);
    }
    check_values_free(&twin);
    if (rc) bounds_free(b);
    return rc;
}

/* How far the values of another run are off; infinity where they are not
 * finite and the others are. */
static double moved(double x, double ref)
{
    if (x == ref || !isfinite(ref)) return 0;
    return isfinite(x) ? fabs(x - ref) : INFINITY;
}

/* Adds to `most` what `other` has moved from the results of `from`. */
static void widen(const bounds *b, const check_values *from,
                  const check_values *other, double *most, double factor,
                  bool coarser)
{
    const int dtype = b->want->problem.dtype;
    for (int i = 0; i < b->want->outputs; i++) {
        const check_output *o = &b->want->output[i];
        const double times =
            factor * (coarser ? check_unit(o->gradient ? dtype : ATT_F32) * 0x1p53
                              : 1);
        for (size_t k = 0; k < o->elements; k++) {
            const double by = times * moved(other->output[i].value[k],
                                            from->output[i].value[k]);
            *most = fmax(*most, by);
            most++;
        }
    }
}

/* The most that runs on inputs moved at random change. */
static int move(const bounds *b, double *most, error *e)
{
    int rc = 0;
    for (uint64_t k = 0; !rc && k < 3; k++) {
        check_values other = { 0 };
        rc = run(&other, b->want, b->want->constant ? jitter_alike : jitter,
                 2 + k, FE_TONEAREST, e);
        if (!rc) widen(b, b->want, &other, most, 32, false);
        check_values_free(&other);
    }
    return rc;
}

/* The most that rounding up and down changes.  Sums and products of floats are
 * often exact in double, and equal ones round alike: of inputs with all digits
 * they are not. */
static int round_away(const bounds *b, double *most, error *e)
{
    static const int rounding[] = { FE_UPWARD, FE_DOWNWARD };
    check_values middle = { 0 };
    int rc = run(&middle, b->want, jitter_alike, 5, FE_TONEAREST, e);
    for (int k = 0; !rc && k < 2; k++) {
        check_values other = { 0 };
        rc = run(&other, b->want, jitter_alike, 5, rounding[k], e);
        if (!rc) widen(b, &middle, &other, most, 4, true);
        check_values_free(&other);
        if (!rc) rc = run(&other, b->want, same, 5, rounding[k], e);
        if (!rc) widen(b, b->want, &other, most, 4, true);
        check_values_free(&other);
    }
    check_values_free(&middle);
    return rc;
}

/* What flushing denormals changes. */
static int flush_inputs(const bounds *b, double *most, error *e)
{
    check_values other = { 0 };
    const int rc = run(&other, b->want, flush, 5, FE_TONEAREST, e);
    if (!rc) widen(b, b->want, &other, most, 1, false);
    check_values_free(&other);
    return rc;
}

int bounds_refine(bounds *b, error *e)
{
    int (*const parts[])(const bounds *, double *, error *) = {
        move, round_away, flush_inputs,
    };
    size_t n = 0;
    int rc = 0;
    if (b->refined) return 0;
    b->refined = true;
    for (int i = 0; i < b->want->outputs; i++) n += b->want->output[i].elements;
    double *most = malloc((n + 1) * sizeof *most);
    if (!most) return error_set(e, "out of memory for bounds");
    for (int part = 0; !rc && part < 3; part++) {
        const double *at = most;
        memset(most, 0, n * sizeof *most);
        rc = parts[part](b, most, e);
        for (int i = 0; i < b->want->outputs; i++)
            for (size_t k = 0; k < b->want->output[i].elements; k++)
                b->of[i][k] += *at++;
    }
    free(most);
    return rc;
}

void bounds_free(bounds *b)
{
    for (int i = 0; i < CHECK_OUTPUTS; i++) free(b->of[i]);
    *b = (bounds){ 0 };
}

/* ---- verdicts ----------------------------------------------------------- */

double bound_largest(const att_problem *p, const char *output)
{
    const bool half = p->dtype == ATT_F16 && !strcmp(output, "out");
    return half ? 65504 : (double)FLT_MAX;
}

double bound_ratio(double x, double ref, double bound, double largest)
{
    const double edge = 0.99 * largest;
    if (x == ref) return 0;
    if (isnan(x) || isnan(ref)) return INFINITY;
    if (fabs(ref) > edge && fabs(x) > edge && signbit(x) == signbit(ref))
        return 0;
    if (isinf(bound)) return 0; /* not determined at all */
    if (isinf(x) || isinf(ref)) return INFINITY;
    return fabs(x - ref) / bound;
}

void bounds_judge(const bounds *b, const check_values *got, bound_verdict *out)
{
    *out = (bound_verdict){ .ratio = -1 };
    for (int i = 0; i < b->want->outputs && i < got->outputs; i++) {
        const check_output *w = &b->want->output[i], *g = &got->output[i];
        const double largest = bound_largest(&b->want->problem, w->name);
        for (size_t k = 0; k < w->elements; k++) {
            const double bound = b->of[i][k], ref = w->value[k];
            const double ratio =
                bound_ratio(g->value[k], ref, bound, largest);
            out->values++;
            out->open += bound > OPEN * (fabs(ref) + b->scale[i]) + b->least &&
                         b->want->problem.dtype == ATT_F32;
            if (ratio <= out->ratio) continue;
            out->ratio = ratio;
            out->at = k;
            out->x = g->value[k];
            out->ref = ref;
            out->bound = bound;
            memcpy(out->tensor, w->name, sizeof out->tensor);
        }
    }
    out->pass = out->ratio <= 1;
}
