/* ratio.h - is B faster than A?  The ratio of two medians, its interval, and a
 * verdict, from samples of several processes.
 */
#ifndef RATIO_H
#define RATIO_H

#include <stdbool.h>

#include "json.h"
#include "samples.h"
#include "spread.h"

/* Samples of one case: process after process. */
enum { RATIO_SAMPLES = 40000 }; /* 100 processes of MEASURE_SAMPLES          */
typedef struct ratio_samples {
    double ns[RATIO_SAMPLES];
    int per_process[RATIO_SAMPLES];
    int pass[RATIO_SAMPLES]; /* of each process, over the suite              */
    int processes, count;
} ratio_samples;

/* Those that count (clean.h) of a row's `time_ns.samples`; of more than fit,
 * every second, third ... of each process.  A process without one is left out. */
void ratio_samples_take(const json *samples, ratio_samples *out);
void ratio_samples_of(const measurement *m, ratio_samples *out);
/* What they would have taken on an undisturbed core (paired.h), times a factor:
 * the calibrated rates of the probe of both sides, over each other, take what the
 * calibrations differ by out of a ratio.  False if that is not known. */
bool ratio_samples_paired(const measurement *m, double factor,
                          ratio_samples *out);

/* The medians of processes as units of ln time (spread.h). */
void ratio_spread(const ratio_samples *s, spread *out);

typedef struct ratio {
    double value;  /* B / A, of geometric means of the processes' medians    */
    double lo, hi; /* interval at the level asked for; NaN: a side has one
                      process, or no sample                                  */
    double error;  /* standard error of ln value; NaN likewise               */
    double variance, freedom; /* of ratio_rounds(): between rounds           */
    int processes; /* of the smaller side                                    */
} ratio;

/* The interval covers with probability 1 - alpha.  What processes of a side differ
 * by is moderated by the other cases of its run (prior; NULL: not known); the
 * sides together by Student's t [B. L. Welch, Biometrika 34, 1947]. */
void ratio_make(ratio *out, const ratio_samples *a, const spread_prior *prior_a,
                const ratio_samples *b, const spread_prior *prior_b,
                double alpha);

/* Of two sides whose processes took turns, each pair of them a pass of its own: the
 * units are the ratios of processes of the same pass, so that what both met is in
 * neither.  A process whose partner has no sample that counts is left out. */
void ratio_rounds(ratio *out, const ratio_samples *a, const ratio_samples *b,
                  const spread_prior *prior, double alpha);
/* The units of that. */
void ratio_rounds_spread(const ratio_samples *a, const ratio_samples *b,
                         spread *out);

enum ratio_verdict {
    RATIO_FASTER, /* the whole interval is below 1 / (1 + effect)            */
    RATIO_SLOWER, /* above 1 + effect                                        */
    RATIO_SAME,   /* between the two                                         */
    RATIO_UNCLEAR /* it crosses one of them                                  */
};

/* "faster", "slower", "same", "unclear". */
const char *ratio_word(enum ratio_verdict verdict);

enum ratio_verdict ratio_judge(const ratio *r, double effect);

/* How many more processes of each side would decide an unclear one if the ratio
 * stays what it is: the width shrinks with the root of their number.  Infinity
 * if the ratio sits on a limit; NaN without an interval. */
double ratio_more_processes(const ratio *r, double effect);

#endif
