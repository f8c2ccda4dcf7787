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
    INPUTS_SHARP     /* logits as spread as those of trained models: normals,
                        those of k (of q, of v where there is no k) times 16, so
                        that q.k / sqrt(d), and a k that is a logit itself, have
                        a standard deviation of 16                           */
};

/* "normal", "large" ...; static storage. */
const char *inputs_family_name(enum inputs_family family);

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
/* Bytes that inputs_make will allocate. */
size_t inputs_bytes(const att_mechanism *m, const att_problem *p, bool grad);
/* Points a plan's call at them. */
void inputs_attach(const inputs *in, att_plan *plan);

#endif
