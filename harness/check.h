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
    double nmse;     /* sum (x - ref)^2 / sum ref^2, worst tensor; an rms of
                        ref below 1e-3 counts as 1e-3                        */
    double max_abs;  /* max |x - ref| / (1 + |ref|), worst tensor            */
    char worst[32];  /* that tensor: "out", "dq", "drpb" ...                 */
    bool pass;       /* every value within the tolerance, none NaN           */
} check_result;

/* Tolerance on |x - ref| / (1 + |ref|) used by sweep and by verify without
 * files, by storage type and pass. */
double check_tolerance(const att_problem *p, enum att_pass pass);

/* Runs forward (and backward) of a kernel on seeded inputs, with learned
 * parameters drawn at random so that none is trivially zero, and compares every
 * output and gradient.  0; -1 with e if it could not run (a refusal is told by
 * att_plan_create's reason); 1 with e if the reference itself is at fault. */
int check_kernel(const att_entry *entry, const att_problem *p, int threads,
                 enum att_pass pass, uint64_t seed, enum inputs_family family,
                 check_result *out, error *e);

/* ---- the steps of check_kernel, for case files and tests -------------------- */

/* One result: o, an extra output or a gradient. */
typedef struct check_output {
    char name[32];   /* as in case files: "out", "lse", "dq", "drpb"         */
    size_t elements; /* whole batch                                          */
    double *value;
    bool gradient;
    double shaky;    /* see check_conditioning(); 0 until then               */
    bool varies;     /* calls of check_run() on memory that held something else
                        gave other bits                                      */
} check_output;

enum { CHECK_OUTPUTS = 1 + ATT_EXTRAS + 3 + ATT_PARAMS };

/* All that goes into a mechanism and comes out of it, in double. */
typedef struct check_values {
    const att_mechanism *mechanism;
    att_problem problem;
    bool grad;
    bool conditioned;              /* check_conditioning() was called        */
    bool constant;                 /* equal inputs are meant to be equal     */
    bool huge;                     /* a result beside 0 may be all rounding  */
    size_t elements[ATT_SLOTS];    /* whole batch                            */
    double *in[3];                 /* NULL where the mechanism has none      */
    double *dout;                  /* NULL unless grad                       */
    int parameters, extras;
    att_tensor parameter[ATT_PARAMS];
    att_tensor extra[ATT_EXTRAS];
    double *param[ATT_PARAMS];     /* NULL where it has no elements          */
    int outputs;                   /* o, extras, then gradients              */
    check_output output[CHECK_OUTPUTS];
    double *o, *extra_value[ATT_EXTRAS], *din[3], *dparam[ATT_PARAMS];
} check_values;

/* Everything zero; outputs NaN.  The problem must not be refused by att_reject.
 * Abandon with check_values_free(), also after a failure. */
int check_values_make(check_values *v, const att_mechanism *m,
                      const att_problem *p, bool grad, error *e);
void check_values_free(check_values *v);

/* Seeded inputs and parameters, rounded to the storage that a kernel sees. */
int check_values_fill(check_values *v, uint64_t seed,
                      enum inputs_family family, error *e);

/* Outputs of the mechanism's reference from the inputs in v.  tally: see
 * att_ref; may be NULL. */
void check_reference(check_values *v, att_cost tally[2]);

/* 0 if every result of the reference in v is a number, -1 with a line that names the
 * mechanism if not: such a reference judges no kernel.  Outputs beside o may be
 * infinite (the logarithm of an empty sum), but not NaN. */
int check_reference_sane(const check_values *v, error *e);

/* Whether cost() of the forward pass says what its reference did, operation by
 * operation; `tally` is that of check_reference().  If not, why gets one line.  A
 * reference that counts nothing, or no pairs, cannot tell: true. */
bool check_cost(const att_mechanism *m, const att_problem *p,
                const att_cost *tally, char *why, size_t size);

/* x (1 +- 2^-23 at random); half a unit in the last place is 2^-24 of the
 * larger half of the floats and 2^-25 of the others, and 2^-150 below the
 * normal ones.  constant: equal values of a tensor move alike, so that what is
 * constant stays so, and a kernel has no rounding to blame there. */
void check_jitter(double *to, const double *from, size_t n, bool constant,
                  uint64_t seed);

/* Half a unit in the last place of a storage's 1: its relative rounding. */
double check_unit(int dtype);

/* Estimates into output[].shaky how far each result moves (on the scale of
 * check_difference) when every input moves by half a float's precision at
 * random, and what sums that cancel inside make of a float's rounding: what an
 * exact kernel with float inside cannot be blamed for.  Costs three more runs of
 * the reference. */
int check_conditioning(check_values *v, error *e);

/* Where the buffers of a call come from; aligned to ATT_ALIGN.  Tests give
 * pages with guards. */
typedef struct check_memory {
    void *(*take)(size_t bytes);
    void (*release)(void *block);
    /* The block must not be written from here on (inputs, parameters, state
     * after prepare(), o and save in backward()).  NULL: trusted. */
    void (*seal)(void *block);
    int again; /* forward() and backward() are called so many times more      */
} check_memory;

extern const check_memory check_heap;

/* Outputs of a kernel from the inputs in v.  Outputs and scratch are poisoned
 * before each call, with NaN before the last one, else with zeros or large numbers:
 * see check_output.varies.  NULL, or why the kernel refuses. */
const char *check_run(const att_entry *entry, int threads,
                      const check_memory *memory, check_values *v);

/* Processor time in seconds of the fastest of a few calls of each pass that v
 * has, on memory of the heap.  NULL, or why the kernel refuses. */
const char *check_time(const att_entry *entry, int threads, const check_values *v,
                       double seconds[2]);

/* max |x - ref| / (1 + |ref|); equal infinities differ by 0, other infinities
 * and what is not a number by infinity. */
double check_difference(const double *x, const double *ref, size_t n);

/* All outputs of `got` with those of `want`, which may have gradients that got
 * lacks.  An output passes if its difference is at most its tolerance, or eight
 * times how shaky it is (2 % at most). */
void check_compare(const check_values *got, const check_values *want,
                   double tolerance, double tolerance_grad, check_result *out);

/* check_compare() by the tolerances of `want`s problem, more patiently if the
 * first look is bad: by the conditioning of `want` (which it keeps), and where
 * inputs are denormal also with zeros in their place, which a processor may
 * take for them.  0; -1 with e (memory). */
int check_judge(const check_values *got, check_values *want, check_result *out,
                error *e);

#endif
