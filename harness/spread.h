/* spread.h - the interval of a case's time from few processes, with what the
 * other cases of its run tell about how processes differ.
 *
 * A case is measured in processes, and these in passes over the whole suite,
 * minutes apart.  The logarithm of a process's median is one value; the mean of
 * a pass's values is a unit (of a run in one pass, each process is).  Units of a
 * case differ by a variance of its own, and by what moves all cases of a run
 * alike from pass to pass.  With 2 or 3 units a case's own variance is hardly
 * known, so it is moderated: the variances of all cases of a run tell from what
 * distribution they are, a scaled inverse chi-square with `freedom` degrees, and
 * the interval is Student's t with the sum of both [G. K. Smyth, Statistical
 * Applications in Genetics and Molecular Biology 3(1), 2004, section 6.2].
 */
#ifndef SPREAD_H
#define SPREAD_H

#include <stdbool.h>

enum {
    SPREAD_UNITS = 100, /* most units of a case                             */
    SPREAD_CASES = 8    /* fewer cases than this tell nothing of each other  */
};

/* The units of one case, ln ns each. */
typedef struct spread {
    double unit[SPREAD_UNITS];
    int units;
} spread;

/* ln[i] of processes in the order of measurement, pass[i] ascending (NULL: one
 * pass).  What is not finite, a process without a sample that counts, is left
 * out.  More than SPREAD_UNITS: the first. */
void spread_of(const double *ln, const int *pass, int n, spread *out);

/* Mean of the units: ln of the geometric mean of times; NaN without one. */
double spread_centre(const spread *s);

/* What the cases of a run have in common. */
typedef struct spread_prior {
    double variance, freedom; /* of a unit of ln time; freedom 0: not known,
                                 INFINITY: the same for all cases           */
    double widening; /* units are farther apart than that explains: a factor
                        of intervals of up to three units, at least 1, which
                        nears 1 as units become many                        */
    double shared, shared_freedom; /* variance of what moves all cases alike
                                 from unit to unit; 0: none is seen         */
    double move[SPREAD_UNITS]; /* of each unit: that movement               */
    int moves;
} spread_prior;

/* Of the cases of a run so far; those of one unit say nothing.  With fewer than
 * SPREAD_CASES of two units or more nothing is known. */
void spread_pool(const spread *const *of, int n, spread_prior *out);

typedef struct spread_interval {
    double centre;         /* ln                                            */
    double lo, hi;         /* ln; NaN with one unit                         */
    double own, freedom;   /* variance of the centre, without what all cases
                              share, widened                                 */
    double shared, shared_freedom; /* variance of the centre by that        */
    double variance;       /* of the case's units alone                     */
} spread_interval;

/* Covers with probability 1 - alpha: Student's t, of as many degrees of freedom as
 * the sum of both variances has [F. E. Satterthwaite, Biometrics Bulletin 2(6),
 * 1946].  prior NULL: nothing is known. */
void spread_estimate(const spread *s, const spread_prior *prior, double alpha,
                     spread_interval *out);
double spread_half_width(const spread_interval *x, double alpha);

/* An interval whose ends are farther apart than this factor tells nothing. */
#define SPREAD_WIDEST 1.5

/* The ends in ns.  None lies below `least`, what the case cannot have been faster
 * than (nor above the centre for that).  Returns how far apart they are, hi / lo;
 * if that is more than SPREAD_WIDEST both are NaN.  NaN with one unit. */
double spread_ends(const spread_interval *x, double least, double *lo,
                   double *hi);

#endif
