/* random_features.h - what performer and favor_pm share: how many features, the
 * seeded projection Omega [rows][d], exponents u - |x|^2 / (2 sqrt d).
 */
#ifndef LINEAR_RANDOM_FEATURES_H
#define LINEAR_RANDOM_FEATURES_H

#include "../plan.h"

#include <math.h>

/* floor(d ln d), at least 1 [choromanski2021]. */
static inline size_t random_features(const att_problem *p)
{
    const double d = p->head_dim;
    if (p->features) return (size_t)p->features;
    return d < 3 ? 1 : (size_t)(d * log(d));
}

/* favor_pm counts exp(u) and exp(-u) as two features. */
static inline size_t random_features_pm(const att_problem *p)
{
    return p->features ? (size_t)p->features / 2 : random_features(p);
}

/* Rows whose projection could not be held as an int. */
static inline const char *random_features_reject(const att_problem *p)
{
    return random_features(p) > 1 << 24 ? "more than 2^24 random features"
                                        : NULL;
}

#endif
