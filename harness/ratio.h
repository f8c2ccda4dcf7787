/* ratio.h - is B faster than A?  The ratio of two medians, its interval, and a
 * verdict, from samples of several processes.
 */
#ifndef RATIO_H
#define RATIO_H

#include "json.h"
#include "samples.h"

/* Samples of one case: process after process. */
enum { RATIO_SAMPLES = 40000 }; /* 100 processes of MEASURE_SAMPLES          */
typedef struct ratio_samples {
    double ns[RATIO_SAMPLES];
    int per_process[RATIO_SAMPLES];
    int processes, count;
} ratio_samples;

/* Those that count (clean.h) of a row's `time_ns.samples`; of more than fit,
 * every second, third ... of each process.  A process without one is left out. */
void ratio_samples_take(const json *samples, ratio_samples *out);
void ratio_samples_of(const measurement *m, ratio_samples *out);

typedef struct ratio {
    double value;  /* median B / median A                                    */
    double lo, hi; /* interval at the level asked for; NaN: too few samples  */
    double error;  /* standard error of ln value                             */
    int samples;   /* of the smaller side                                    */
} ratio;

/* Fewest samples on each side for an interval. */
enum { RATIO_LEAST = 3 };

/* The interval covers with probability 1 - alpha.  Processes are resampled,
 * then samples inside each (the samples of one process are not independent).
 * The standard error of ln(ratio) over the resamples is widened by Student's t
 * and, as k processes underestimate their own spread, by sqrt(k / (k - 1)). */
void ratio_make(ratio *out, const ratio_samples *a, const ratio_samples *b,
                double alpha);

enum ratio_verdict {
    RATIO_FASTER, /* the whole interval is below 1 / (1 + effect)            */
    RATIO_SLOWER, /* above 1 + effect                                        */
    RATIO_SAME,   /* between the two                                         */
    RATIO_UNCLEAR /* it crosses one of them                                  */
};

/* "faster", "slower", "same", "unclear". */
const char *ratio_word(enum ratio_verdict verdict);

enum ratio_verdict ratio_judge(const ratio *r, double effect);

/* How many more samples on each side would decide an unclear one if the ratio
 * stays what it is: the width shrinks with the root of their number.  Infinity
 * if the ratio sits on a limit; NaN without an interval. */
double ratio_more_samples(const ratio *r, double effect);

#endif
