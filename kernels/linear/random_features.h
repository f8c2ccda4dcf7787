/* random_features.h - what performer, favor_pm and their kernels agree on: how
 * many features, the constants, the projection Omega [rows][d] turned.
 */
#ifndef LINEAR_RANDOM_FEATURES_H
#define LINEAR_RANDOM_FEATURES_H

#include "../plan.h"

#include <math.h>

/* Added to every feature of performer, and to z in its causal form. */
#define PERFORMER_FLOOR_SOFTMAX 1e-4
#define PERFORMER_FLOOR_RELU    1e-3
#define PERFORMER_EPS_CAUSAL    1e-6
#define FAVOR_PM_EPS            1e-6

enum { RANDOM_PROJ }; /* their only parameter                               */

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

/* Omega' d^(-1/4) as [d][rows], the right factor of u = x Omega'. */
static inline void random_turn(const att_problem *p, size_t rows,
                               const float *omega, float *turned)
{
    const size_t d = (size_t)p->head_dim;
    const double scale = pow((double)d, -0.25);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < d; c++)
            turned[c * rows + r] = (float)(scale * omega[r * d + c]);
}

/* Rows whose projection could not be held as an int. */
static inline const char *random_features_reject(const att_problem *p)
{
    return random_features(p) > 1 << 24 ? "more than 2^24 random features"
                                        : NULL;
}

#endif
