/* ratio.c - the ratio of two medians. */
#include "ratio.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "clean.h"

enum { RESAMPLES = 1000 };

void ratio_samples_take(const json *samples, ratio_samples *out)
{
    measurement m;
    measurement_read(samples, &m);
    ratio_samples_of(&m, out);
    measurement_free(&m);
}

void ratio_samples_of(const measurement *m, ratio_samples *out)
{
    clean_samples c;
    clean_take(m, &c);
    const int step = c.n > 0 ? (c.n - 1) / RATIO_SAMPLES + 1 : 1;
    const double *from = c.ns;
    out->processes = out->count = 0;
    for (int p = 0; p < c.processes; from += c.count[p++]) {
        int taken = 0;
        for (int i = 0; i < c.count[p]; i += step) {
            if (out->count == RATIO_SAMPLES) break;
            out->ns[out->count++] = from[i];
            taken++;
        }
        if (taken) out->per_process[out->processes++] = taken;
    }
    clean_free(&c);
}

/* ---- quantiles ----------------------------------------------------------- */

/* Upper tail point of the standard normal by bisection of erfc: exact to double
 * precision, and fast enough for one per comparison. */
static double normal_upper(double tail)
{
    double lo = 0, hi = 40;
    for (int i = 0; i < 80; i++) {
        const double z = (lo + hi) / 2;
        if (0.5 * erfc(z / sqrt(2)) > tail) lo = z;
        else hi = z;
    }
    return lo;
}

/* Student's t from the normal point, the first terms of the expansion in 1/v
 * [Abramowitz and Stegun 26.7.5]; from v = 4 on within 1 % at 99 %. */
static double student_upper(double tail, double v)
{
    const double z = normal_upper(tail), z2 = z * z;
    return z * (1 + (z2 + 1) / (4 * v) +
                (5 * z2 * z2 + 16 * z2 + 3) / (96 * v * v) +
                (3 * z2 * z2 * z2 + 19 * z2 * z2 + 17 * z2 - 15) /
                    (384 * v * v * v));
}

/* ---- bootstrap ----------------------------------------------------------- */

/* xorshift64*: the resamples need no better, and are the same every time. */
static int below(uint64_t *state, int n)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (int)((*state * 0x2545f4914f6cdd1du >> 33) % (uint64_t)n);
}

static void swap(double *a, double *b)
{
    const double t = *a;
    *a = *b;
    *b = t;
}

/* Puts the k-th smallest in its place, smaller ones before it (Hoare's
 * selection): a resample is looked at once, sorting it would be a waste. */
static double select_kth(double *x, int n, int k)
{
    int lo = 0, hi = n - 1;
    while (lo < hi) {
        const double pivot = x[(lo + hi) / 2];
        int i = lo, j = hi;
        while (i <= j) {
            while (x[i] < pivot) i++;
            while (x[j] > pivot) j--;
            if (i <= j) swap(&x[i++], &x[j--]);
        }
        if (k <= j) hi = j;
        else if (k >= i) lo = i;
        else break;
    }
    return x[k];
}

static double median(double *x, int n)
{
    const double upper = select_kth(x, n, n / 2);
    if (n % 2) return upper;
    double lower = x[0];
    for (int i = 1; i < n / 2; i++) lower = fmax(lower, x[i]);
    return (lower + upper) / 2;
}

static double median_of(const ratio_samples *s)
{
    double x[RATIO_SAMPLES];
    memcpy(x, s->ns, (size_t)s->count * sizeof *x);
    return median(x, s->count);
}

/* Median of as many processes drawn with replacement, each with as many samples
 * drawn from it. */
static double resampled_median(const ratio_samples *s, uint64_t *state)
{
    double x[RATIO_SAMPLES];
    int n = 0;
    for (int p = 0; p < s->processes; p++) {
        const int from = below(state, s->processes);
        const double *first = s->ns;
        for (int k = 0; k < from; k++) first += s->per_process[k];
        for (int i = 0; i < s->per_process[from] && n < RATIO_SAMPLES; i++)
            x[n++] = first[below(state, s->per_process[from])];
    }
    return median(x, n);
}

/* Variance of the logarithm of the median. */
static double log_variance(const ratio_samples *s, uint64_t *state)
{
    double sum = 0, squares = 0;
    const double k = s->processes;
    for (int r = 0; r < RESAMPLES; r++) {
        const double v = log(resampled_median(s, state));
        sum += v / RESAMPLES;
        squares += v * v / RESAMPLES;
    }
    return fmax(squares - sum * sum, 0) * (k > 1 ? k / (k - 1) : 1);
}

void ratio_make(ratio *out, const ratio_samples *a, const ratio_samples *b,
                double alpha)
{
    uint64_t state = 0x9e3779b97f4a7c15u;
    const int least = a->count < b->count ? a->count : b->count;
    *out = (ratio){ NAN, NAN, NAN, NAN, least };
    if (least == 0) return;
    out->value = median_of(b) / median_of(a);
    if (least < RATIO_LEAST) return;
    out->error = sqrt(log_variance(a, &state) + log_variance(b, &state));
    const double t = student_upper(alpha / 2, a->count + b->count - 2);
    out->lo = out->value * exp(-t * out->error);
    out->hi = out->value * exp(t * out->error);
}

/* ---- verdict ------------------------------------------------------------- */

enum ratio_verdict ratio_judge(const ratio *r, double effect)
{
    if (r->hi < 1 / (1 + effect)) return RATIO_FASTER;
    if (r->lo > 1 + effect) return RATIO_SLOWER;
    if (r->lo >= 1 / (1 + effect) && r->hi <= 1 + effect) return RATIO_SAME;
    return RATIO_UNCLEAR;
}

const char *ratio_word(enum ratio_verdict verdict)
{
    static const char *const words[] = { "faster", "slower", "same",
                                         "unclear" };
    return words[verdict];
}

double ratio_more_samples(const ratio *r, double effect)
{
    const double limit = log(1 + effect), at = log(r->value);
    const double half = log(r->hi / r->lo) / 2;
    const double away = fmin(fabs(at - limit), fabs(at + limit));
    const double needed = r->samples * (half / away) * (half / away);
    return ceil(needed - r->samples);
}
