#include "inputs.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Standard deviation of the large side: for logits as for exp(k), entries of
 * 2.5 deviations pass ln(FLT_MAX) = 88.7, where float exponentials overflow. */
#define LARGE 40.0f

/* Standard deviation of the logits of sharp inputs. */
#define SHARP 16.0f

/* Where relu leaves one small entry of a row alone, gradients of a quotient are
 * differences of numbers of size 1 / x that cancel. */
#define LEAST 0x1p-8f

static size_t aligned(size_t bytes)
{
    return (bytes + ATT_ALIGN - 1) / ATT_ALIGN * ATT_ALIGN;
}

static size_t slot_elements(const att_mechanism *m, const att_problem *p,
                            enum att_slot slot)
{
    att_shape shape;
    att_shape_of(m, p, slot, &shape);
    return (size_t)p->batch * att_shape_elements(&shape);
}

/* Bytes of each kind of array that a slot gets. */
static size_t value_bytes(const att_problem *p, size_t elements)
{
    return aligned(elements * att_dtype_bytes(p->dtype));
}

static size_t float_bytes(size_t elements)
{
    return aligned(elements * sizeof(float));
}

size_t inputs_bytes(const att_mechanism *m, const att_problem *p, bool grad)
{
    size_t bytes = 0;
    for (enum att_slot s = ATT_Q; s <= ATT_O; s++) {
        const size_t n = slot_elements(m, p, s);
        bytes += value_bytes(p, n);
        if (grad) bytes += float_bytes(n); /* dq, dk, dv; dout for o */
    }
    return bytes;
}

/* ---- values ---------------------------------------------------------------- */

/* The side that is made large: the keys, or what stands in their place. */
static enum att_slot large_slot(const inputs *in)
{
    return in->elements[ATT_K] ? ATT_K : in->elements[ATT_Q] ? ATT_Q : ATT_V;
}

/* Whether there is one input. */
static bool alone(const inputs *in)
{
    return !in->elements[ATT_K] && !in->elements[ATT_V];
}

/* None is exact in binary, so that sums of them round.  Large ones for what is
 * normalised alone: products of them would only tell how ill conditioned the
 * gradients of large logits are. */
static float inexact(size_t i, bool only)
{
    static const float value[] = { 0.1f, 0.7f, -0.3f, 1.1f, 0.01f };
    static const float large[] = { 100.3f, 0.1f, 1000.7f, -33.3f, 1e-3f };
    return only ? large[i % 5] : value[i % 5];
}

/* A scale that the storage holds. */
static float at_most(int dtype, float scale)
{
    return dtype == ATT_F16 ? fminf(scale, 1e4f) : scale;
}

void inputs_fill(enum inputs_family family, int dtype, bool large, bool only,
                 size_t channels, const double *normal, uint64_t *seed,
                 float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const size_t row = i / channels, c = i % channels;
        const float drawn = (float)(normal ? normal[i] : att_normal(seed));
        const float z = copysignf(fmaxf(fabsf(drawn), LEAST), drawn);
        switch (family) {
        case INPUTS_LARGE: out[i] = large ? LARGE * z : z; break;
        case INPUTS_SHARP: out[i] = large ? SHARP * z : z; break;
        case INPUTS_EQUAL: out[i] = 0.5f; break;
        case INPUTS_ONEHOT: out[i] = c == row * 7 % channels ? 4 : 0; break;
        case INPUTS_NEGATIVE: out[i] = -fabsf(z) - 0.01f; break;
        case INPUTS_CHANNELS: out[i] = inexact(c, only); break;
        case INPUTS_TOKENS: out[i] = inexact(row, only); break;
        case INPUTS_ZERO: out[i] = 0; break;
        case INPUTS_TINY: out[i] = 1e-25f * z; break;
        case INPUTS_DENORMAL: out[i] = 1e-40f * z; break;
        case INPUTS_HUGE: out[i] = large ? at_most(dtype, 1e18f) * z : z; break;
        default: out[i] = z; break;
        }
    }
    if (family == INPUTS_OUTLIER && n && large) out[n / 2] = only ? 1e3f : 100;
}

/* ---- parameters ------------------------------------------------------------ */

/* Rows of hidden, of lowest, of mixed and of usual terms. */
static void mask_terms(const att_tensor *t, uint64_t seed, float *x)
{
    const size_t n = att_elements(t), width = (size_t)t->dim[t->dims - 1];
    const bool all = seed / 2 % 4 == 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t kind = all ? 1 + seed % 2 : (i / width + seed) % 6;
        const bool third = att_uniform(&seed) < 0.3;
        switch (kind) {
        case 0: x[i] = third ? -INFINITY : x[i]; break;
        case 1: x[i] = -INFINITY; break;
        case 2: x[i] = -FLT_MAX; break;
        case 3: x[i] = third ? -FLT_MAX : -INFINITY; break;
        case 4: x[i] = third ? -FLT_MAX : x[i]; break;
        default: break;
        }
    }
}

void inputs_parameter(const att_mechanism *m, const att_problem *p, int index,
                      const att_tensor *t, uint64_t seed,
                      enum inputs_family family, float *x)
{
    const size_t n = att_elements(t);
    att_parameter_fill(m, p, index, t, x);
    if (family == INPUTS_MASKED && t->logit && n) mask_terms(t, seed, x);
    seed = seed * 64 + 32 + (uint64_t)index;
    const bool kept = (t->fixed && !t->optional) || t->init == ATT_INIT_FILL;
    const float std = kept ? 0 : 0.3f;
    for (size_t i = 0; i < n; i++) x[i] += std * (float)att_normal(&seed);
}

/* ---- families -------------------------------------------------------------- */

const char *inputs_family_name(enum inputs_family family)
{
    static const char *const names[] = {
        [INPUTS_NORMAL] = "normal",
        [INPUTS_LARGE] = "large",
        [INPUTS_EQUAL] = "equal",
        [INPUTS_ONEHOT] = "onehot",
        [INPUTS_NEGATIVE] = "negative",
        [INPUTS_CHANNELS] = "constant channels",
        [INPUTS_TOKENS] = "constant tokens",
        [INPUTS_ZERO] = "zero",
        [INPUTS_TINY] = "tiny",
        [INPUTS_DENORMAL] = "denormal",
        [INPUTS_HUGE] = "huge",
        [INPUTS_OUTLIER] = "outlier",
        [INPUTS_MASKED] = "hidden pairs",
        [INPUTS_SHARP] = "sharp",
    };
    return names[family];
}

bool inputs_family_fits(const att_mechanism *m, const att_problem *p,
                        enum inputs_family family)
{
    att_tensor t[ATT_PARAMS];
    if (family != INPUTS_MASKED) return true;
    const int n = att_parameters(m, p, t);
    for (int i = 0; i < n; i++)
        if (t[i].logit && att_elements(&t[i])) return true;
    return false;
}

bool inputs_family_backward(enum inputs_family family)
{
    return family != INPUTS_HUGE;
}

/* A stream of its own for each tensor: one size does not move another. */
static uint64_t seed_of(uint64_t seed, enum att_slot s)
{
    return seed * 8 + s;
}

void inputs_keep(const att_mechanism *m, const att_problem *p, uint64_t seed,
                 bool grad)
{
    if (att_reject(m, p)) return; /* it has no shapes */
    for (enum att_slot s = ATT_Q; s <= ATT_O; s++)
        if (grad || s != ATT_O)
            att_normals_keep(seed_of(seed, s), slot_elements(m, p, s));
    att_parameters_keep(m, p);
}

/* One row at a time, so that no second copy of the tensor is needed. */
static int fill_slot(inputs *in, const att_mechanism *m, const att_problem *p,
                     enum att_slot s, uint64_t seed, enum inputs_family family)
{
    const double *z = att_normals_kept(seed, in->elements[s]);
    att_shape shape;
    att_shape_of(m, p, s, &shape);
    const size_t n = in->elements[s], block = 4096;
    const size_t channels = (size_t)shape.channels;
    const size_t step = (block + channels - 1) / channels * channels;
    float *row = malloc(step * sizeof *row);
    if (!row) return -1;
    for (size_t at = 0; at < n; at += step) {
        const size_t count = n - at < step ? n - at : step;
        inputs_fill(family, p->dtype, s == large_slot(in), alone(in), channels,
                    z ? z + at : NULL, &seed, row, count);
        att_store(p->dtype,
                  (char *)in->value[s] + at * att_dtype_bytes(p->dtype), row,
                  count);
    }
    free(row);
    return 0;
}

static void *take(size_t bytes)
{
    void *x = aligned_alloc(ATT_ALIGN, bytes ? bytes : ATT_ALIGN);
    if (x) memset(x, 0xff, bytes); /* NaN in every dtype */
    return x;
}

int inputs_make(inputs *in, const att_mechanism *m, const att_problem *p,
                uint64_t seed, enum inputs_family family, bool grad, error *e)
{
    bool made = true;
    memset(in, 0, sizeof *in);
    for (enum att_slot s = ATT_Q; s <= ATT_O; s++) {
        const size_t n = in->elements[s] = slot_elements(m, p, s);
        if (n == 0) continue;
        made &= (in->value[s] = take(value_bytes(p, n))) != NULL;
        if (grad && s != ATT_O)
            made &= (in->grad[s] = take(float_bytes(n))) != NULL;
        if (grad && s == ATT_O)
            made &= (in->dout = take(float_bytes(n))) != NULL;
    }
    for (enum att_slot s = ATT_Q; made && s < ATT_O; s++)
        if (in->elements[s])
            made &= !fill_slot(in, m, p, s, seed_of(seed, s), family);
    seed = seed_of(seed, ATT_O);
    const size_t n = in->elements[ATT_O];
    const double *z = att_normals_kept(seed, n);
    for (size_t i = 0; made && grad && i < n; i++)
        in->dout[i] = (float)(z ? z[i] : att_normal(&seed));
    if (made) return 0;
    inputs_free(in);
    return error_set(e, "out of memory for the inputs (%zu bytes): use a "
                        "smaller problem",
                     inputs_bytes(m, p, grad));
}

void inputs_free(inputs *in)
{
    for (enum att_slot s = ATT_Q; s <= ATT_O; s++) free(in->value[s]);
    for (int i = 0; i < 3; i++) free(in->grad[i]);
    free(in->dout);
    memset(in, 0, sizeof *in);
}

void inputs_attach(const inputs *in, att_plan *plan)
{
    plan->call.q = in->value[ATT_Q];
    plan->call.k = in->value[ATT_K];
    plan->call.v = in->value[ATT_V];
    plan->call.o = in->value[ATT_O];
}
