/* samples.h - what was measured of one case: samples, process by process.
 *
 * JSON at the edge only: `time_ns.samples` of a row (results/README.md).
 */
#ifndef SAMPLES_H
#define SAMPLES_H

#include <stdbool.h>

#include "json.h"

typedef struct timed_sample {
    double ns;    /* per call; not a positive number: no sample              */
    double probe; /* speed of the core beside it, over the probe's calibrated
                     speed; NaN: unknown                                     */
    bool touched; /* it lost time to another guest (steal) or process
                     (involuntary switches), or to a used-up quota           */
} timed_sample;

/* One process that measured the case. */
typedef struct sample_process {
    int pass;  /* round over the suite, from 0; of old rows the number of the
                  process                                                    */
    int calls; /* in a sample                                                */
    int count;
    timed_sample *of;
    char stop[8];       /* why it ended: "ci", "time" or "noise"; "" unknown */
    char probe_kind[8]; /* "core", "L2", "L3", "memory"; "": none             */
    /* NaN: unknown */
    double kernel_s;    /* seconds inside the kernel, warming up included    */
    double steal_ticks, involuntary_switches;
    double throttled_s; /* seconds without quota                             */
    double waited_s;    /* seconds of waiting for a faster core              */
    double clock_ratio; /* clock over that of a quiet machine                */
} sample_process;

typedef struct measurement {
    sample_process *process;
    int processes;
} measurement;

/* From a list of processes, or absent (none).  Members that are missing are
 * unknown; rows from before probes have none.  Free it. */
void measurement_read(const json *samples, measurement *out);
/* The list that measurement_read() takes. */
json *measurement_write(const measurement *m);
void measurement_free(measurement *m);

/* One element of the list. */
json *sample_process_write(const sample_process *p);

#endif
