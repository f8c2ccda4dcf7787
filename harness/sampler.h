/* sampler.h - samples of the time of one call, until they suffice: the rules,
 * without a machine.
 *
 * Warm up, choose how many calls make a sample, sample until the interval is
 * narrow or time is over; where the core is slow, wait for it within that time.
 * What is timed, and the time itself, are arguments: measure.c has the real ones,
 * tests/measure.c invented ones.
 */
#ifndef SAMPLER_H
#define SAMPLER_H

#include "samples.h"

enum { SAMPLER_SAMPLES = 400 }; /* most samples of one process              */

/* What has disturbed the process so far. */
typedef struct sampler_losses {
    double steal;     /* ticks of 10 ms that another guest had               */
    double switches;  /* involuntary ones                                    */
    double throttled; /* seconds without quota                               */
    int stops;        /* how often it was stopped (Ctrl-Z)                   */
} sampler_losses;

typedef struct sampler_source {
    /* Seconds of so many calls; took: with what is done between them, untimed */
    double (*call)(void *arg, int calls, double *took);
    /* Speed of the core now, over its calibrated one; NaN: unknown. */
    double (*probe)(void *arg);
    sampler_losses (*losses)(void *arg);
    void *arg;
} sampler_source;

typedef struct sampler_clock {
    double (*now)(void *arg); /* seconds, monotonic                          */
    void (*wait)(void *arg, double seconds);
    void *arg;
} sampler_clock;

typedef struct sampler_goal {
    double ci;      /* enough when half the 95 % interval over the median is
                       below this                                            */
    double seconds; /* most time for warming up, waiting and sampling; but three
                       clean samples, unless they take ten times as long     */
} sampler_goal;

/* One sample.  speed: of the core just before, then just after. */
timed_sample sampler_one(const sampler_source *source, int calls, double *speed);

/* Fills out but for pass, probe_kind and clock_ratio.  out->of: caller frees. */
void sampler_run(const sampler_source *source, const sampler_clock *clock,
                 const sampler_goal *goal, sample_process *out);

#endif
