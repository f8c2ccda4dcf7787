/* ratio.h - the samples of a case for the comparison of harness/ratio.h. */
#ifndef PLOTS_RATIO_H
#define PLOTS_RATIO_H

#include "../harness/ratio.h"
#include "results.h"

/* Clean samples of a measured case, all of them if too few are clean. */
void ratio_read(ratio_samples *s, const result *r);

/* What the measured cases of a run have in common (spread.h). */
void ratio_pool(const results *r, spread_prior *out);

#endif
