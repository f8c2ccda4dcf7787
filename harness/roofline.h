/* roofline.h - the machine's ceilings, measured by ourselves, and where a case
 * stands below them.
 */
#ifndef ROOFLINE_H
#define ROOFLINE_H

#include "../kernels/plan.h"
#include "json.h"

/* Measures, for every level that the CPU runs and for each thread count: the
 * FMA peak (flop/s), multiplications, additions, both in turns, divisions and
 * exponentials per second, read, copy, triad and write bandwidth of L1, L2, L3
 * and memory (bytes/s).  About `seconds` in all, up to five
 * times that while a neighbour is seen.  The `roofline` object of an env row. */
json *roofline_measure(const int *threads, int count, double seconds);

/* A rate that was measured: what (kind), by code of a level, with threads, on data
 * that lie at a place (0 is the nearest). */
typedef struct roofline_rate {
    int kind, level, threads, place;
    double rate; /* 1/s, all threads                                         */
} roofline_rate;

/* The largest rate that x can have by all that was measured: what lower levels,
 * farther data, fewer threads or the share of more threads reached, x reaches,
 * too.  A slow moment of the machine then spoils no ceiling alone. */
double roofline_rate_at_least(const roofline_rate *all, int count,
                              const roofline_rate *x);

/* Above this part of the roofline a row says more than the machine can do; the
 * rest is the noise of ceilings. */
#define ROOFLINE_MOST 1.02

typedef struct roofline_case {
    enum att_level level;    /* of the kernel                                */
    enum att_level products; /* of its multiply-adds: a BLAS has its own     */
    int threads;
    att_cost cost;           /* of one call                                  */
    double working_set;      /* bytes that one call after the other touches  */
    double seconds;          /* of a call                                    */
} roofline_case;

typedef struct roofline_point {
    const char *bound;   /* "fma", "add", "vector", "exp", "div"; "L1", "L2",
                            "L3" or "memory"                                 */
    double peak;         /* FMA peak that the products run at, flop/s        */
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

/* The least time that the machine needs for a case is the largest of
 *     fma     (mul_add + mul + those inside exp) over the multipliers' rate
 *     add     additions and comparisons over theirs
 *     vector  all of these over the rate of any mixture
 *     exp     exponentials (roots and logarithms count as such) over theirs
 *     div     divisions over theirs
 *     place   for each of L1, L2, L3 and memory: compulsory bytes less what may
 *             stay in nearer caches, over the bandwidth there: the best mixture
 *             of reading, copying, triad and writing for its reads and writes
 * (the roofline of Williams et al. 2009, with a ceiling for each unit);
 * fraction = that time / seconds.  Rates that `roofline` lacks bound nothing.
 * False if it lacks the FMA peak of a level. */
bool roofline_place(const json *roofline, const roofline_case *x,
                    roofline_point *out);

#endif
