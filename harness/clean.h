/* clean.h - which samples of a measurement count.
 *
 * A sample is clean if it lost no time to another guest (steal) or process
 * (involuntary switches).  The clean samples of all processes together count, if
 * there are CLEAN_LEAST of them; if there are fewer, every sample counts, and
 * the measurement is unreliable.  A process may be left with none.
 */
#ifndef CLEAN_H
#define CLEAN_H

#include <stdbool.h>

#include "json.h"

/* Fewer clean samples than this: a median is not to be relied on. */
enum { CLEAN_LEAST = 3 };

typedef struct clean_samples {
    double *ns;      /* those that count, process after process              */
    int *count;      /* of each process                                      */
    int processes, n;
    int touched;     /* samples that are not clean                           */
    bool all;        /* fewer than CLEAN_LEAST are: the touched ones count too */
} clean_samples;

/* From a row's `time_ns.samples`, a list with {ns: [...], touched: [indices]}
 * for each process (measure.h).  What is not a positive number is no sample. */
void clean_take(const json *samples, clean_samples *out);
void clean_free(clean_samples *c);

/* Median of those of one process; NaN if it has none. */
double clean_median(const clean_samples *c, int process);

#endif
