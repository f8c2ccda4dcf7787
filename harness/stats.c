/* stats.c - order statistics, quantiles, least squares. */
#include "stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one set of values --------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double *sorted_copy(const double *x, int n)
{
    double *s = malloc((size_t)(n ? n : 1) * sizeof *s);
    if (!s) abort();
    memcpy(s, x, (size_t)n * sizeof *s);
    qsort(s, (size_t)n, sizeof *s, ascending);
    return s;
}

static double middle(const double *sorted, int n)
{
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

/* Largest k for which the k-th smallest and k-th largest of n values enclose
 * the median with at least 95 %: the number of values below the median is
 * binomial (n, 1/2), so the tail below k must not exceed 2.5 %. */
static int interval_rank(int n)
{
    if (n > 500) return (int)((n - 1.96 * sqrt(n)) / 2);
    double p = pow(0.5, n), tail = 0;
    int k = 0;
    while (tail + p <= 0.025) {
        tail += p;
        p *= (double)(n - k) / (k + 1);
        k++;
    }
    return k;
}

void stats_summarise(const double *x, int n, stats_summary *out)
{
    *out = (stats_summary){ n, NAN, NAN, NAN, NAN, NAN };
    if (n == 0) return;
    double *s = sorted_copy(x, n);
    out->median = middle(s, n);
    out->min = s[0];
    if (n >= STATS_LEAST) {
        const int k = interval_rank(n);
        out->lo = s[k - 1];
        out->hi = s[n - k];
    }
    for (int i = 0; i < n; i++) s[i] = fabs(s[i] - out->median);
    qsort(s, (size_t)n, sizeof *s, ascending);
    out->mad = middle(s, n);
    free(s);
}

double stats_half_width(const stats_summary *s)
{
    const double w = (s->hi - s->lo) / 2 / s->median;
    return isnan(w) ? INFINITY : w;
}

/* ---- shares -------------------------------------------------------------- */

/* The probabilities p with |p - hits/n| <= z sqrt(p (1 - p) / n) [Wilson 1927]:
 * unlike the textbook interval it holds near 0 and 1. */
void stats_share(int hits, int n, double *lo, double *hi)
{
    const double z2 = 1.959964 * 1.959964, share = (double)hits / n;
    *lo = 0;
    *hi = 1;
    if (n <= 0) return;
    const double middle_of = (share + z2 / (2 * n)) / (1 + z2 / n);
    const double half = sqrt(z2 * (share * (1 - share) / n +
                                   z2 / (4.0 * n * n))) / (1 + z2 / n);
    *lo = fmax(0, middle_of - half);
    *hi = fmin(1, middle_of + half);
}

/* ---- fit ----------------------------------------------------------------- */

/* Continued fraction of the incomplete beta function [Abramowitz and Stegun
 * 26.5.8], by the method of Lentz. */
static double beta_fraction(double a, double b, double x)
{
    double c = 1, d = 1 / (1 - (a + b) * x / (a + 1)), f = d;
    for (int m = 1; m <= 500; m++) {
        const double even =
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        const double odd = -(a + m) * (a + b + m) * x /
                           ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 / (1 + even * d);
        c = 1 + even / c;
        f *= c * d;
        d = 1 / (1 + odd * d);
        c = 1 + odd / c;
        f *= c * d;
        if (fabs(c * d - 1) < 1e-14) break;
    }
    return f;
}

static double beta_share(double a, double b, double x)
{
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    const double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) +
                             a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2)
               ? front * beta_fraction(a, b, x) / a
               : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

/* P(T > t) is half the incomplete beta function of v / (v + t^2) [Abramowitz and
 * Stegun 26.7.1]; the rest is bisection. */
double stats_student_upper(double tail, double freedom)
{
    double lo = 0, hi = 1;
    if (!(freedom > 0) || !(tail > 0)) return INFINITY;
    const double v = fmin(freedom, 1e6); /* the normal one from there on    */
#define ABOVE(t) (0.5 * beta_share(v / 2, 0.5, v / (v + (t) * (t))))
    while (hi < 1e12 && ABOVE(hi) > tail) hi *= 2;
    for (int i = 0; i < 80; i++) {
        const double t = (lo + hi) / 2;
        if (ABOVE(t) > tail) lo = t;
        else hi = t;
    }
#undef ABOVE
    return (lo + hi) / 2;
}

double stats_student(double freedom)
{
    return stats_student_upper(0.025, freedom);
}

/* Weighted least squares of y over x; the slope is sum of part[i] y[i]. */
typedef struct line {
    double x, y, slope; /* through (x, y)                                    */
    double chi2;        /* weighted squares of the residuals                 */
    double squares;     /* unweighted                                        */
} line;

static line through(const double *x, const double *y, const double *error,
                    int n, double scatter2, double *part)
{
    line l = { 0 };
    double weights = 0, xx = 0;
    for (int i = 0; i < n; i++) {
        part[i] = 1 / (error[i] * error[i] + scatter2);
        weights += part[i];
        l.x += part[i] * x[i];
        l.y += part[i] * y[i];
    }
    l.x /= weights;
    l.y /= weights;
    for (int i = 0; i < n; i++) xx += part[i] * (x[i] - l.x) * (x[i] - l.x);
    for (int i = 0; i < n; i++) {
        part[i] *= (x[i] - l.x) / xx;
        l.slope += part[i] * (y[i] - l.y);
    }
    for (int i = 0; i < n; i++) {
        const double d = y[i] - l.y - l.slope * (x[i] - l.x);
        l.chi2 += d * d / (error[i] * error[i] + scatter2);
        l.squares += d * d;
    }
    return l;
}

/* The scatter round the line beyond the errors of the points, at which the
 * weighted squares are what they should be [R. C. Paule and J. Mandel, J. Res.
 * NBS 87, 1982, 377]; 0 if the errors explain all. */
static double scatter_of(const double *x, const double *y, const double *error,
                         int n, double *part)
{
    double lo = 1e-12, hi = 1e4;
    if (through(x, y, error, n, lo, part).chi2 <= n - 2) return lo;
    for (int i = 0; i < 120; i++) {
        const double s = sqrt(lo * hi);
        if (through(x, y, error, n, s, part).chi2 > n - 2) lo = s;
        else hi = s;
    }
    return hi;
}

bool stats_power_law(const double *n, const double *t, const double *error,
                     int points, stats_fit *out)
{
    bool usable = points >= 3, differ = false;
    double *x = malloc(((size_t)points + 1) * 4 * sizeof *x);
    if (!x) abort();
    double *y = x + points, *e = y + points, *part = e + points;
    for (int i = 0; i < points; i++) {
        usable = usable && n[i] > 0 && t[i] > 0;
        x[i] = log(n[i]);
        y[i] = log(t[i]);
        e[i] = error && error[i] > 0 ? error[i] : 0;
        differ = differ || fabs(x[i] - x[0]) > 1e-6;
    }
    if (usable && differ) {
        const double scatter2 = scatter_of(x, y, e, points, part);
        const line l = through(x, y, e, points, scatter2, part);
        double known = 0, found = 0; /* variance of the slope by its cause   */
        for (int i = 0; i < points; i++) {
            known += part[i] * part[i] * e[i] * e[i];
            found += part[i] * part[i] * scatter2;
        }
        const double freedom = (points - 2) * pow((known + found) / found, 2);
        const double half = stats_student(freedom) * sqrt(known + found);
        *out = (stats_fit){
            .points = points,
            .exponent = l.slope,
            .lo = l.slope - half,
            .hi = l.slope + half,
            .factor = exp(l.y - l.slope * l.x),
            .residual = sqrt(l.squares / points),
            .determined = 2 * half <= STATS_EXPONENT_WIDEST,
        };
    }
    free(x);
    return usable && differ;
}

const char *const stats_crossing_name[] = { "above", "below", "all", "none",
                                            "unclear" };

enum end { RATIO, LO, HI };

static double log_of(const stats_pair *p, enum end end)
{
    return log(end == RATIO ? p->ratio : end == LO ? p->lo : p->hi);
}

/* Where that line changes its sign; NAN: nowhere, or more than once. */
static double root(const stats_pair *p, int count, enum end end)
{
    double at = NAN;
    int found = 0;
    for (int i = 1; i < count; i++) {
        const double a = log_of(&p[i - 1], end), b = log_of(&p[i], end);
        if ((a < 0) == (b < 0)) continue;
        at = p[i - 1].n * pow(p[i].n / p[i - 1].n, a / (a - b));
        found++;
    }
    return found == 1 ? at : NAN;
}

bool stats_cross(const stats_pair *pair, int count, stats_crossing *out)
{
    bool below = true, above = true;
    if (count < 2) return false;
    for (int i = 0; i < count; i++) {
        below = below && pair[i].hi < 1;
        above = above && pair[i].lo > 1;
    }
    const double n = root(pair, count, RATIO);
    const double a = root(pair, count, LO), b = root(pair, count, HI);
    const bool falls = log_of(&pair[0], RATIO) > 0;
    const bool vague = (isnan(a) && isnan(b)) ||
                       fmax(a / b, b / a) > STATS_CROSSING_WIDEST;
    *out = (stats_crossing){
        .faster = below ? STATS_ALL : above ? STATS_NONE
                  : isnan(n) || vague ? STATS_UNCLEAR
                  : falls ? STATS_ABOVE : STATS_BELOW,
        .n = vague ? NAN : n,
        .lo = vague ? NAN : falls ? a : b,
        .hi = vague ? NAN : falls ? b : a,
    };
    return true;
}
