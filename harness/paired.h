/* paired.h - what a case would take on an undisturbed core.
 *
 * Sample by sample: its time, times the speed of the core beside it over the
 * calibrated one.  A neighbour that halves the speed of both goes out of it.
 */
#ifndef PAIRED_H
#define PAIRED_H

#include "clean.h"
#include "spread.h"
#include "stats.h"

typedef struct paired {
    const char *kind; /* the probe; of the measurement                      */
    double speed;     /* median of the probe's speed beside all samples that
                         lost no time                                        */
    stats_summary ns; /* of a call on an undisturbed core, of n samples
                         (clean_take_paired)                                 */
} paired;

/* False if fewer than CLEAN_LEAST samples that lost no time have a probe beside
 * them, or processes had different probes: then nothing is known.  prior: as of
 * times (spread.h). */
bool paired_take(const measurement *m, const spread_prior *prior, paired *out);

#endif
