/* clean.h - which samples of a measurement count: the one rule.
 *
 * A sample is clean if it lost no time to another guest (steal), process
 * (involuntary switches) or quota, and if the core ran at CLEAN_SPEED of its
 * calibrated speed beside it, where that is known.  The clean samples of all
 * processes together count, if there are CLEAN_LEAST of them.  If there are
 * fewer, those that lost no time do, at whatever speed: the core is slow.  If
 * these are too few as well, every sample counts, and the measurement is
 * unreliable.  A process may be left with none.
 */
#ifndef CLEAN_H
#define CLEAN_H

#include <stdbool.h>

#include "samples.h"

/* Fewer clean samples than this: a median is not to be relied on. */
enum { CLEAN_LEAST = 3 };

/* Speed beside a sample, over the probe's calibrated speed: looks of an undisturbed
 * core lie within 5 % of the best, a busy neighbour costs a probe 13 % or more
 * (tests/probes.c). */
#define CLEAN_SPEED 0.9

typedef struct clean_samples {
    double *ns;      /* those that count, process after process              */
    double *probe;   /* speed beside each of them; NaN: unknown              */
    int *count;      /* of each process                                      */
    int *pass;       /* of each process: its round over the suite            */
    int processes, n;
    int touched;     /* samples that are not clean                           */
    int slow;        /* of these, those that lost no time: a slow core alone */
    bool slowed;     /* those beside a slow core count too                   */
    bool all;        /* every sample counts: unreliable                      */
} clean_samples;

bool clean_is(const timed_sample *s);

void clean_take(const measurement *m, clean_samples *out);
/* Those with a probe beside them that are clean or, if fewer than STATS_LEAST are
 * (`slowed`), that lost no time; `ns` is what they would have taken at the
 * calibrated speed: ns * probe.  Kernels do not suffer from a neighbour exactly as
 * the probe does, so that the smaller the correction the better.  `all`: they are
 * fewer than CLEAN_LEAST. */
void clean_take_paired(const measurement *m, clean_samples *out);
void clean_free(clean_samples *c);

/* The same of a row's `time_ns.samples`. */
void clean_read(const json *samples, clean_samples *out);

/* Median of those of one process; NaN if it has none. */
double clean_median(const clean_samples *c, int process);

#endif
