/* measure.h - samples of the time of one call, until they suffice.
 *
 * A sample is the time of `calls` calls in a row, at least 2 ms, divided by
 * them.  Uses OpenMP if the call does: child processes only.
 */
#ifndef MEASURE_H
#define MEASURE_H

#include <stdbool.h>

#include "json.h"

enum { MEASURE_SAMPLES = 400 }; /* most samples of one process              */

typedef struct measure_job {
    void (*run)(void *arg);
    void *arg;
    double (*call)(void *arg); /* NULL, or one call that times itself: seconds,
                       without what it does before (cold.h).  Then a sample is
                       as many of them as take 2 ms with that, one by one    */
    double ci;      /* enough when half the 95 % interval over the median is
                       below this                                            */
    double seconds; /* most time for warming up and sampling; but three
                       samples, unless they take ten times as long           */
    double clock;   /* measure_clock() of a quiet machine, for clock_ratio   */
} measure_job;

/* Samples as JSON, for a parent to read:
 *     calls, ns [per call], touched [indices], stop "ci" | "time" | "noise",
 *     kernel_s [seconds inside the kernel, warming up included], steal_ticks,
 *     involuntary_switches, throttled_s [for want of quota], clock_ratio
 * touched: the sample lost time to another guest (steal) or process, or to the
 * quota of a control group. */
json *measure_samples(const measure_job *job);

/* What was resident at a moment, in bytes. */
typedef struct measure_memory {
    double resident;  /* all of it                                          */
    double inherited; /* without files: code and the like                   */
} measure_memory;

/* From here on memory is the caller's own: what is there already was the
 * harness's, and grows with a suite. */
void measure_memory_begin(measure_memory *m);
/* The most that has been resident since, without what was there and without
 * files, of which there is as much as has been looked at, by whomever; bytes, 0
 * if /proc does not tell. */
double measure_memory_peak(const measure_memory *m);

/* Multiplications a second of a chain in which each waits for the one before:
 * proportional to the core's clock.  Takes about 0.2 ms. */
double measure_clock(void);

/* How often the process has been stopped (Ctrl-Z) and continued since the first
 * call of this: a time between two calls that differ is to be taken again. */
int measure_stops(void);

/* Monotonic, in seconds. */
double measure_now(void);

#endif
