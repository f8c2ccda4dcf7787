/* check.h - a kernel's results against its mechanism's reference.
 *
 * The reference is evaluated in double on the exact float (or half) inputs and
 * parameters of the kernel.
 */
#ifndef CHECK_H
#define CHECK_H

#include "../kernels/plan.h"
#include "error.h"
#include "inputs.h"

typedef struct check_result {
    double nmse;     /* sum (x - ref)^2 / sum ref^2, worst tensor            */
    double max_abs;  /* max |x - ref| / (1 + |ref|), worst tensor            */
    char worst[32];  /* that tensor: "o", "dq", "drpb" ...                   */
    bool pass;       /* every value within the tolerance, none NaN           */
} check_result;

/* Tolerance on |x - ref| / (1 + |ref|) used by sweep and by verify without
 * files, by storage type and pass. */
double check_tolerance(const att_problem *p, enum att_pass pass);

/* Runs forward (and backward) of a kernel on seeded inputs, with learned
 * parameters drawn at random so that none is trivially zero, and compares every
 * output and gradient.  0; -1 with e if it could not run (a refusal is told by
 * att_plan_create's reason). */
int check_kernel(const att_entry *entry, const att_problem *p, int threads,
                 enum att_pass pass, uint64_t seed, enum inputs_family family,
                 check_result *out, error *e);

#endif
