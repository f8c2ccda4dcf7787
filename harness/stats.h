/* stats.h - medians, their 95 % intervals, and fits of time over size. */
#ifndef STATS_H
#define STATS_H

#include <stdbool.h>
#include <stdint.h>

/* Fewest samples for which the median has a 95 % interval at all:
 * 1 - 2 / 2^6 = 96.9 %. */
enum { STATS_LEAST = 6 };

typedef struct stats_summary {
    int n;
    double median, min;
    double mad;    /* median absolute deviation, not scaled                 */
    double lo, hi; /* 95 % interval of the median; NaN below STATS_LEAST    */
} stats_summary;

/* Of n values in any order; all NaN if n is 0.  The interval is that of order
 * statistics (no assumption on the distribution). */
void stats_summarise(const double *x, int n, stats_summary *out);

/* Values of several processes one after the other, count[p] of each.  Median,
 * min and mad of all of them.  Values of one process are not independent, so
 * the interval is that of a hierarchical bootstrap (processes, then values
 * inside each), and at least that of Student's t where processes differ by more
 * than their values explain.  With one process: stats_summarise(). */
void stats_processes(const double *x, const int *count, int processes,
                     uint64_t seed, stats_summary *out);

/* Half the interval's width over the median; infinity if there is none. */
double stats_half_width(const stats_summary *s);

/* t = factor * n^exponent by least squares of ln t over ln n. */
typedef struct stats_fit {
    int points;
    double exponent, lo, hi; /* 95 % interval by Student's t                */
    double factor;
    double residual;         /* root mean square of ln t - fit              */
} stats_fit;

/* False if there are fewer than 3 points, fewer than 2 different n, or a value
 * that is not positive. */
bool stats_power_law(const double *n, const double *t, int points,
                     stats_fit *out);

/* Time of one kernel over that of another at n. */
typedef struct stats_pair {
    double n, ratio, lo, hi; /* lo, hi: the widest that both intervals allow */
} stats_pair;

enum stats_faster {
    STATS_ABOVE,  /* faster from n on                                        */
    STATS_BELOW,  /* faster up to n                                          */
    STATS_ALL, STATS_NONE, /* at every length, at none                       */
    STATS_UNCLEAR /* neither: the ratio changes sides more than once, or
                     intervals hold 1 at every length                        */
};
extern const char *const stats_crossing_name[];

typedef struct stats_crossing {
    enum stats_faster faster;
    double n, lo, hi; /* where the ratio is 1, its ends where lo or hi are;
                         NAN: not within these lengths                       */
} stats_crossing;

/* Straight lines between the logarithms of pairs of ascending n.  False if there
 * are fewer than 2. */
bool stats_cross(const stats_pair *pair, int count, stats_crossing *out);

/* 95 % interval of a probability of which `hits` of n trials tell (Wilson's
 * score interval); 0 and 1 if n is 0. */
void stats_share(int hits, int n, double *lo, double *hi);

/* 97.5 % quantile of Student's t. */
double stats_student(int degrees_of_freedom);

#endif
