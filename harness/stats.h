/* stats.h - medians, their 95 % intervals, and fits of time over size. */
#ifndef STATS_H
#define STATS_H

#include <stdbool.h>

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

/* Half the interval's width over the median; infinity if there is none. */
double stats_half_width(const stats_summary *s);

/* An exponent whose interval is wider than this is not determined. */
#define STATS_EXPONENT_WIDEST 0.5

/* t = factor * n^exponent by weighted least squares of ln t over ln n. */
typedef struct stats_fit {
    int points;
    double exponent, lo, hi; /* 95 % interval                               */
    double factor;
    double residual;         /* root mean square of ln t - fit              */
    bool determined;         /* the interval is narrow enough to be told    */
} stats_fit;

/* error: standard errors of ln t (NULL: none).  The interval has them, and the
 * scatter of the points round the line beyond them, which is known with points - 2
 * degrees of freedom; together by Student's t [F. E. Satterthwaite, Biometrics
 * Bulletin 2, 1946].  False if there are fewer than 3 points, fewer than 2
 * different n, or a value that is not positive. */
bool stats_power_law(const double *n, const double *t, const double *error,
                     int points, stats_fit *out);

/* Time of one kernel over that of another at n. */
typedef struct stats_pair {
    double n, ratio, lo, hi; /* lo, hi: the widest that both intervals allow */
} stats_pair;

/* A crossing whose interval spans more than this factor is not determined. */
#define STATS_CROSSING_WIDEST 4

enum stats_faster {
    STATS_ABOVE,  /* faster from n on                                        */
    STATS_BELOW,  /* faster up to n                                          */
    STATS_ALL, STATS_NONE, /* at every length, at none                       */
    STATS_UNCLEAR /* neither: the ratio changes sides more than once,
                     intervals hold 1 at every length, or allow places that
                     are farther apart than STATS_CROSSING_WIDEST            */
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

/* Point above which Student's t lies with probability `tail` (below 1/2), and that
 * of 2.5 %.  freedom > 0, not only whole numbers; infinity if there is none. */
double stats_student_upper(double tail, double freedom);
double stats_student(double freedom);

#endif
