/* spread.c - moderated variances of the logarithms of times. */
#include "spread.h"

#include <math.h>
#include <stdlib.h>

#include "stats.h"

/* Times are kept with 7 digits; units cannot be known to agree by more. */
#define LEAST_VARIANCE 1e-8
/* All cases move alike if the means of their units differ by so many times what
 * chance would do: chi-square of one degree exceeds it once in 20 times. */
#define SEEN 4

static double least(double variance)
{
    return fmax(variance, LEAST_VARIANCE);
}

void spread_of(const double *ln, const int *pass, int n, spread *out)
{
    int in_unit = 0, last = 0;
    const bool passes = pass && n > 0 && pass[0] != pass[n - 1];
    out->units = 0;
    for (int i = 0; i < n; i++) {
        if (!isfinite(ln[i])) continue;
        if (!out->units || !passes || pass[i] != last) {
            if (out->units == SPREAD_UNITS) return;
            out->unit[out->units++] = 0;
            in_unit = 0;
        }
        double *unit = &out->unit[out->units - 1];
        *unit += (ln[i] - *unit) / ++in_unit;
        last = pass ? pass[i] : 0;
    }
}

static double mean_of(const double *x, int n)
{
    double mean = 0;
    for (int i = 0; i < n; i++) mean += x[i] / n;
    return mean;
}

static double variance_of(const double *x, int n)
{
    const double mean = mean_of(x, n);
    double squares = 0;
    for (int i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    return n > 1 ? squares / (n - 1) : NAN;
}

double spread_centre(const spread *s)
{
    return s->units ? mean_of(s->unit, s->units) : NAN;
}

/* ---- what all cases share --------------------------------------------------- */

/* Variance of a case's units beyond what moves all cases. */
static double own_variance(const spread *s, int units, const spread_prior *p)
{
    double rest[SPREAD_UNITS];
    for (int k = 0; k < units; k++)
        rest[k] = s->unit[k] - (k < p->moves ? p->move[k] : 0);
    return variance_of(rest, units);
}

static int with_units(const spread *const *of, int n, int units)
{
    int count = 0;
    for (int i = 0; i < n; i++) count += of[i]->units >= units;
    return count;
}

/* The mean over cases of how far a unit lies from the case's centre.  Of as many
 * units as enough cases have: while a last pass is under way, the first cases are
 * judged by the passes before. */
static void find_moves(const spread *const *of, int n, spread_prior *p)
{
    int units = 0, count = 0;
    while (units < SPREAD_UNITS && with_units(of, n, units + 1) >= SPREAD_CASES)
        units++;
    if (units < 2) return;
    for (int i = 0; i < n; i++) {
        if (of[i]->units < units) continue;
        const double centre = mean_of(of[i]->unit, units);
        count++;
        for (int k = 0; k < units; k++)
            p->move[k] += (of[i]->unit[k] - centre - p->move[k]) / count;
    }
    p->moves = units;
    double noise = 0; /* of the moves: they are means over cases             */
    for (int i = 0; i < n; i++)
        if (of[i]->units >= units)
            noise += own_variance(of[i], units, p) / count / count;
    if (variance_of(p->move, units) > SEEN * noise) {
        p->shared = variance_of(p->move, units) - noise;
        p->shared_freedom = units - 1;
    } else *p = (spread_prior){ 0 };
}

/* ---- from what distribution variances are ----------------------------------- */

/* Derivatives of ln gamma: recurrence up to 8, then the asymptotic series
 * [Abramowitz and Stegun 6.3.18, 6.4.12]. */
static double digamma(double x)
{
    double sum = 0;
    for (; x < 8; x++) sum -= 1 / x;
    const double y = 1 / (x * x);
    return sum + log(x) - 0.5 / x - y * (1 / 12. - y * (1 / 120. - y / 252));
}

static double trigamma(double x)
{
    double sum = 0;
    for (; x < 8; x++) sum += 1 / (x * x);
    const double y = 1 / (x * x);
    return sum + 1 / x + y / 2 +
           y / x * (1 / 6. - y * (1 / 30. - y / 42));
}

/* It falls from infinity to 0. */
static double trigamma_inverse(double y)
{
    double lo = 1e-6, hi = 1e6;
    for (int i = 0; i < 100; i++) {
        const double x = sqrt(lo * hi);
        if (trigamma(x) > y) lo = x;
        else hi = x;
    }
    return sqrt(lo * hi);
}

/* Mean and variance of the logarithms of variances, less what they would have if
 * all cases were alike [Smyth 2004, equations of section 6.2]. */
static void find_prior(const spread *const *of, int n, spread_prior *p)
{
    double mean = 0, squares = 0, expected = 0;
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (of[i]->units < 2) continue;
        const double half = (of[i]->units - 1) / 2.0;
        const double z = log(least(own_variance(of[i], of[i]->units, p)));
        const double e = z - digamma(half) + log(half), step = e - mean;
        mean += step / ++count;
        squares += step * (e - mean);
        expected += (trigamma(half) - expected) / count;
    }
    if (count < SPREAD_CASES) return;
    const double beyond = squares / (count - 1) - expected;
    if (beyond <= 0) {
        p->freedom = INFINITY;
        p->variance = exp(mean);
        return;
    }
    const double half = trigamma_inverse(beyond);
    p->freedom = 2 * half;
    p->variance = exp(mean + digamma(half) - log(half));
}

/* Variance of a unit of a case, moderated by the prior. */
static double moderated(double own, int freedom, const spread_prior *p)
{
    if (isinf(p->freedom)) return p->variance;
    return (p->freedom * p->variance + freedom * own) / (p->freedom + freedom);
}

static double freedom_of(int own, const spread_prior *p)
{
    return isinf(p->freedom) ? 1e6 : p->freedom + own;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* How far unit k lies from the others of its case, in what these tell of their
 * standard deviation. */
static double surprise(const spread *s, int k, const spread_prior *p)
{
    spread rest = { .units = 0 };
    const int d = s->units - 2;
    for (int j = 0; j < s->units; j++)
        if (j != k)
            rest.unit[rest.units++] =
                s->unit[j] - (j < p->moves ? p->move[j] : 0);
    const double here = s->unit[k] - (k < p->moves ? p->move[k] : 0);
    const double own = d > 0 ? variance_of(rest.unit, rest.units) : 0;
    const double all = moderated(least(own), d, p) * (1 + 1.0 / rest.units);
    return fabs(here - spread_centre(&rest)) / sqrt(all);
}

/* Student's t has 95 % of the units inside if they are as the prior says.  Where
 * they are not (two speeds, long tails), the factor that has them inside. */
static void find_widening(const spread *const *of, int n, spread_prior *p)
{
    double most[SPREAD_UNITS + 1] = { 0 }; /* Student's t, by units          */
    int count = 0;
    for (int i = 0; i < n; i++) count += of[i]->units > 1 ? of[i]->units : 0;
    double *x = malloc(((size_t)count + 1) * sizeof *x);
    if (!x) abort();
    count = 0;
    for (int i = 0; i < n; i++) {
        double *t = &most[of[i]->units];
        if (of[i]->units < 2) continue;
        if (*t == 0) *t = stats_student(freedom_of(of[i]->units - 1, p));
        for (int k = 0; k < of[i]->units; k++)
            x[count++] = surprise(of[i], k, p) / *t;
    }
    qsort(x, (size_t)count, sizeof *x, ascending);
    p->widening = fmax(1, x[(int)(0.95 * (count - 1))]);
    free(x);
}

void spread_pool(const spread *const *of, int n, spread_prior *out)
{
    *out = (spread_prior){ 0 };
    find_moves(of, n, out);
    find_prior(of, n, out);
    out->widening = 1;
    if (out->freedom > 0) find_widening(of, n, out);
}

/* ---- intervals ---------------------------------------------------------------- */

void spread_estimate(const spread *s, const spread_prior *prior, double alpha,
                     spread_interval *out)
{
    static const spread_prior nothing = { .widening = 1 };
    const spread_prior *p = prior ? prior : &nothing;
    const int d = s->units - 1;
    *out = (spread_interval){ spread_centre(s), NAN, NAN, NAN, 0, 0, 0, NAN };
    if (d < 1) return;
    out->variance = least(own_variance(s, s->units, p));
    /* what is odd about single units fades in the mean of many */
    const double widening = 1 + (p->widening - 1) * fmin(1, 2.0 / d);
    out->own = widening * widening * moderated(out->variance, d, p) / s->units;
    out->freedom = freedom_of(d, p);
    out->shared = p->shared / s->units;
    out->shared_freedom = p->shared_freedom;
    const double half = spread_half_width(out, alpha);
    out->lo = out->centre - half;
    out->hi = out->centre + half;
}

double spread_half_width(const spread_interval *x, double alpha)
{
    const double all = x->own + x->shared;
    double parts = x->own * x->own / x->freedom;
    if (x->shared > 0) parts += x->shared * x->shared / x->shared_freedom;
    return stats_student_upper(alpha / 2, all * all / parts) * sqrt(all);
}

double spread_ends(const spread_interval *x, double least, double *lo,
                   double *hi)
{
    const double centre = exp(x->centre);
    *lo = exp(x->lo);
    *hi = exp(x->hi);
    if (isnan(*lo)) return NAN;
    if (*lo < least) *lo = fmin(least, centre);
    const double apart = *hi / *lo;
    if (apart > SPREAD_WIDEST) *lo = *hi = NAN;
    return apart;
}
