/* ratio.h - the samples of a case for the comparison of harness/ratio.h. */
#ifndef PLOTS_RATIO_H
#define PLOTS_RATIO_H

#include "../harness/ratio.h"
#include "results.h"

/* Samples of two measured cases that may be compared.  True: what they would have
 * taken on an undisturbed core, where both sides had the same probe beside them on
 * the same machine; otherwise wall times of the samples that count (clean.h). */
bool ratio_read(ratio_samples side[2], const result *a, const result *b);

#endif
