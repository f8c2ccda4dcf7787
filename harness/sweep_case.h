/* sweep_case.h - one case of a sweep, measured inside a child process. */
#ifndef SWEEP_CASE_H
#define SWEEP_CASE_H

#include "../kernels/plan.h"
#include "cold.h"
#include "inputs.h"
#include "json.h"

/* Where threads run while they are timed. */
enum sweep_bind { SWEEP_CLOSE, SWEEP_SPREAD, SWEEP_FREE };

/* How to measure; from the command line or a suite's block.  question.c tells
 * which of these make another question of a case. */
typedef struct sweep_settings {
    double ci;       /* target: half the 95 % interval over the median      */
    double seconds;  /* of samples, per case and process                    */
    double timeout;  /* per process                                         */
    double check;    /* most operations of a reference check; 0: no checks  */
    int processes;   /* of a case, in all passes together                   */
    int passes;      /* rounds over all cases                               */
    bool shared;     /* seconds are a share of those of a block             */
    bool multiplex;  /* hardware counters take turns                        */
    enum sweep_bind bind;
    double max_memory; /* bytes; 0: 80 % of what is free                    */
} sweep_settings;

typedef struct sweep_case {
    char name[ATT_NAME];
    att_entry entry;
    att_problem problem;
    int threads;
    enum att_pass pass;
    enum inputs_family inputs; /* INPUTS_NORMAL or INPUTS_SHARP             */
    bool cold; /* each call finds its data in no cache (cold.h)              */
    sweep_settings settings;
    int group; /* cases of one group share the problem                      */
} sweep_case;

typedef struct sweep_job {
    const sweep_case *what;
    size_t max_memory;  /* bytes                                            */
    double clock;       /* measure_clock() at the start of the run          */
    const json *roofline; /* ceilings, for the probe beside samples         */
    int round;          /* over the suite                                   */
    bool describe_only; /* --dry-run: no allocation                         */
    bool first;         /* with check and counters                          */
    double inject;      /* part of each call by which it is slowed down      */
    const json *checks; /* results so far: {case name: check object}        */
} sweep_job;

/* For isolate_run(): arg is a sweep_job.  Returns
 *     status   "ok", "unsupported", "memory", "threads", "oom", "wrong"
 *     reason   why not ok
 *     flop, executed, pairs, bytes, check, counters  as in a case row
 *     checked  case name that `check` belongs to
 *     samples  of measure_samples()
 *     binding  {policy, processors[], held, reason}
 * as far as it came. */
json *sweep_case_run(void *arg);

/* Name of the case on problem p; other inputs than normal ones, and cold caches,
 * stand before the threads, as in
 * "softmax.flash/n=784,d=64,h=1,b=1,in=sharp,cache=cold,t=1,v4,forward".
 * out holds ATT_NAME. */
void sweep_case_name(const sweep_case *c, const att_problem *p, char *out);

/* A case made ready, and its call. */
typedef struct sweep_call {
    att_plan plan;
    att_grad grad;
    inputs in;
    float *gradients; /* of parameters                                       */
} sweep_call;

/* NULL, or why not; r points into itself.  The process ends with it: nothing is
 * freed. */
const char *sweep_call_make(sweep_call *r, const sweep_case *c);
/* One pass; the argument is a sweep_call.  Backward comes after a forward. */
void sweep_call_forward(void *call);
void sweep_call_backward(void *call);

/* Adds every array that a pass of r may read or write. */
void sweep_call_arrays(const sweep_call *r, cold *c);

/* {mul_add, add, mul, div, exp, total} */
json *sweep_case_flop(const att_cost *cost);

#endif
