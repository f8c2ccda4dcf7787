/* counters.h - event counts of a call: hardware counters, software-defined
 * events, kernel software events; and the reason where there is none.
 */
#ifndef COUNTERS_H
#define COUNTERS_H

#include "../kernels/plan.h"
#include "json.h"

/* The call to be counted.  run(arg) executes it once with `threads` threads of
 * the calling thread's OpenMP pool. */
typedef struct counters_job {
    void (*run)(void *arg);
    void *arg;
    void (*before)(void *arg); /* before each call, uncounted; NULL: nothing  */
    void *before_arg;
    int threads;
    const att_cost *cost; /* of one call; published as sde:::attnbench::...  */
    size_t workspace;     /* bytes, published likewise                       */
    bool multiplex;       /* hardware events take turns: estimates           */
} counters_job;

/* Runs the job once per group of events and returns the `counters` object of a
 * case row: {name: {value, source, scope, passes, event}} with {min, max,
 * imbalance} if there are several threads, or {value: null, reason}.  With
 * `multiplex` the hardware events of PAPI share one group, during which the job
 * is repeated; their values are means of a call and say `estimate`; not with
 * `before`.
 * Never fails; what cannot be counted says why. */
json *counters_measure(const counters_job *job);

/* For `list counters` and `doctor`: array of {name, event, source, available,
 * reason, remedy}. */
json *counters_describe(void);

#endif
