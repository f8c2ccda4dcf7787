/* roofline.h - the machine's ceilings, measured by ourselves, and where a case
 * stands below them.
 */
#ifndef ROOFLINE_H
#define ROOFLINE_H

#include "../kernels/plan.h"
#include "json.h"

/* Measures, for every level that the CPU runs and for each thread count: the
 * FMA peak (flop/s), read, copy and triad bandwidth of L1, L2, L3 and memory
 * (bytes/s), exponentials per second.  About `seconds` in all.  The `roofline`
 * object of an env row. */
json *roofline_measure(const int *threads, int count, double seconds);

/* Above this part of the roofline a row says more than the machine can do; the
 * rest is the noise of ceilings. */
#define ROOFLINE_MOST 1.02

typedef struct roofline_point {
    const char *bound;   /* "compute", "L1", "L2", "L3" or "memory"          */
    double peak;         /* FMA peak of that level and threads, flop/s       */
    double attainable;   /* flop/s                                           */
    double fraction;     /* achieved / attainable                            */
} roofline_point;

/* Rate of a probe (probe.h) on an undisturbed core, for each thread; NaN:
 * unknown. */
double roofline_probe(const json *roofline, enum att_level level, int threads,
                      const char *kind);

/* Smallest level ("L1", "L2", "L3", "memory") that holds so many bytes, private
 * caches of all threads together; NULL if `roofline` knows no caches. */
const char *roofline_held(const json *roofline, int threads, double bytes);

/* Compute roof: 2 * mul_add over the FMA peak.  Memory roof: compulsory bytes
 * over the copy bandwidth of the smallest cache level that holds `working_set`.
 * The larger time is the bound; fraction = that time / seconds.  False if the
 * ceilings are not in `roofline`. */
bool roofline_place(const json *roofline, enum att_level level, int threads,
                    const att_cost *cost, double working_set, double seconds,
                    roofline_point *out);

#endif
