#include "inputs.h"

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

const char *inputs_family_name(enum inputs_family family)
{
    static const char *const names[] = {
        [INPUTS_NORMAL] = "normal",     [INPUTS_LARGE] = "large",
        [INPUTS_EQUAL] = "equal",       [INPUTS_ONEHOT] = "onehot",
        [INPUTS_NEGATIVE] = "negative", [INPUTS_SHARP] = "sharp",
    };
    return names[family];
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

/* What the normals of a slot are multiplied by. */
static float factor_of(const inputs *in, enum att_slot s,
                       enum inputs_family family)
{
    const float large = family == INPUTS_LARGE   ? LARGE
                        : family == INPUTS_SHARP ? SHARP
                                                 : 1;
    return s == large_slot(in) ? large : 1;
}

static void fill(enum inputs_family family, float factor, size_t channels,
                 uint64_t *seed, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const size_t row = i / channels, c = i % channels;
        const float z = (float)att_normal(seed);
        switch (family) {
        case INPUTS_NORMAL:
            out[i] = copysignf(fmaxf(fabsf(z), LEAST), z);
            break;
        case INPUTS_LARGE:
        case INPUTS_SHARP: out[i] = factor * z; break;
        case INPUTS_EQUAL: out[i] = 0.5f; break;
        case INPUTS_ONEHOT: out[i] = c == row * 7 % channels ? 4 : 0; break;
        case INPUTS_NEGATIVE: out[i] = -fabsf(z) - 0.01f; break;
        }
    }
}

/* One row at a time, so that no second copy of the tensor is needed. */
static int fill_slot(inputs *in, const att_mechanism *m, const att_problem *p,
                     enum att_slot s, uint64_t seed, enum inputs_family family)
{
    att_shape shape;
    att_shape_of(m, p, s, &shape);
    const size_t n = in->elements[s], block = 4096;
    const size_t channels = (size_t)shape.channels;
    const size_t step = (block + channels - 1) / channels * channels;
    float *row = malloc(step * sizeof *row);
    if (!row) return -1;
    for (size_t at = 0; at < n; at += step) {
        const size_t count = n - at < step ? n - at : step;
        fill(family, factor_of(in, s, family), channels, &seed, row, count);
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
    /* A stream of its own for each tensor: one size does not move another. */
    for (enum att_slot s = ATT_Q; made && s < ATT_O; s++)
        if (in->elements[s])
            made &= !fill_slot(in, m, p, s, seed * 8 + s, family);
    seed = seed * 8 + ATT_O;
    for (size_t i = 0; made && grad && i < in->elements[ATT_O]; i++)
        in->dout[i] = (float)att_normal(&seed);
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
