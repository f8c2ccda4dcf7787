/* inputs.h - seeded q, k, v and upstream gradient of a problem, the same for
 * everybody: sweep, verify, tests, analysis.
 */
#ifndef INPUTS_H
#define INPUTS_H

#include "../kernels/plan.h"
#include "error.h"

/* What the values look like. */
enum inputs_family {
    INPUTS_NORMAL,  /* independent standard normals, 1/256 or more from 0   */
    INPUTS_LARGE,   /* logits that overflow an exp without a maximum        */
    INPUTS_EQUAL,   /* every entry the same                                 */
    INPUTS_ONEHOT,  /* one 4 in each row, zeros elsewhere                   */
    INPUTS_NEGATIVE, /* all entries negative (dead ReLU features)           */
    INPUTS_CHANNELS, /* constant channels: tokens differ in nothing; the
                        constants (0.1, 100.3 ...) are not exact in binary   */
    INPUTS_TOKENS,   /* constant tokens: the channels of one are the same    */
    INPUTS_ZERO,
    INPUTS_TINY,     /* normals times 1e-25: squares underflow               */
    INPUTS_DENORMAL, /* below the smallest normal float                      */
    INPUTS_HUGE,     /* the large side times 1e18: forward alone, since
                        gradients are differences of products that cancel   */
    INPUTS_OUTLIER,  /* normals, and one entry of 100, or 1e3 of what is
                        normalised alone                                    */
    INPUTS_MASKED,   /* normals; learned terms of logits hold -inf and
                        -FLT_MAX: entries, rows or all of them               */
    INPUTS_SHARP,    /* logits as spread as those of trained models: normals,
                        those of k (of q, of v where there is no k) times 16, so
                        that q.k / sqrt(d), and a k that is a logit itself, have
                        a standard deviation of 16                           */
    INPUTS_FAMILIES
};

/* "normal", "constant channels" ... */
const char *inputs_family_name(enum inputs_family family);
/* Whether the family differs from INPUTS_NORMAL for p: INPUTS_MASKED needs a
 * mechanism with a learned term in its logits. */
bool inputs_family_fits(const att_mechanism *m, const att_problem *p,
                        enum inputs_family family);
/* Whether gradients mean something. */
bool inputs_family_backward(enum inputs_family family);

typedef struct inputs {
    size_t elements[ATT_SLOTS]; /* q, k, v, o over the whole batch           */
    void *value[ATT_SLOTS];     /* p->dtype storage, aligned to ATT_ALIGN;
                                   o filled with NaN                         */
    float *dout;                /* NULL unless asked for                     */
    float *grad[3];             /* dq, dk, dv, NaN-filled; likewise          */
} inputs;

/* 0 or -1 (memory).  first-touched by the calling thread. */
int inputs_make(inputs *in, const att_mechanism *m, const att_problem *p,
                uint64_t seed, enum inputs_family family, bool grad, error *e);
void inputs_free(inputs *in);
/* Children that are forked from here on make the same inputs and parameters of that
 * problem without drawing them (att_normals_keep). */
void inputs_keep(const att_mechanism *m, const att_problem *p, uint64_t seed,
                 bool grad);
/* n values of an input with that many channels, as inputs_make() fills it, from
 * normal numbers z, NULL: from seed, which moves on.  large tells the side that
 * INPUTS_LARGE makes so, only that the mechanism has no other input. */
void inputs_fill(enum inputs_family family, int dtype, bool large, bool only,
                 size_t channels, const double *z, uint64_t *seed, float *out,
                 size_t n);
/* Parameter `index` of m, described by t: as att_parameter_fill() does, and
 * then moved away from zeros and ones, where a kernel that ignores it or its
 * neighbours could pass; given ones keep their meaning.  x has room for
 * att_elements(t). */
void inputs_parameter(const att_mechanism *m, const att_problem *p, int index,
                      const att_tensor *t, uint64_t seed,
                      enum inputs_family family, float *x);
/* Bytes that inputs_make will allocate. */
size_t inputs_bytes(const att_mechanism *m, const att_problem *p, bool grad);
/* Points a plan's call at them. */
void inputs_attach(const inputs *in, att_plan *plan);

#endif
