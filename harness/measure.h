/* measure.h - samples of the time of one call, until they suffice.
 *
 * A sample is the time of `calls` calls in a row, at least 2 ms, divided by
 * them.  Uses OpenMP if the call does: child processes only.
 */
#ifndef MEASURE_H
#define MEASURE_H

#include <stdbool.h>

#include "json.h"
#include "probe.h"
#include "sampler.h"

typedef struct measure_job {
    void (*run)(void *arg);
    void *arg;
    double ci, seconds; /* sampler_goal                                      */
    double clock;       /* measure_clock() of a quiet machine                */
    int pass;           /* round over the suite                              */
    core_probe *probe;  /* beside every sample; NULL: none                   */
    double probe_rate;  /* its calibrated rate                               */
} measure_job;

/* The machine as a source of samples of that job, which must outlive it. */
sampler_source measure_source(const measure_job *job);

/* Samples of this process (samples.h) as JSON, for a parent to read. */
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
