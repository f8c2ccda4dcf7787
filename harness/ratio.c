/* ratio.c - the ratio of two medians. */
#include "ratio.h"

#include <math.h>
#include <stdlib.h>

#include "paired.h"
#include "stats.h"

void ratio_samples_take(const json *samples, ratio_samples *out)
{
    measurement m;
    measurement_read(samples, &m);
    ratio_samples_of(&m, out);
    measurement_free(&m);
}

/* Those of c, each times a factor. */
static void fill(const clean_samples *c, double factor, ratio_samples *out)
{
    const int step = c->n > 0 ? (c->n - 1) / RATIO_SAMPLES + 1 : 1;
    const double *from = c->ns;
    out->processes = out->count = 0;
    for (int p = 0; p < c->processes; from += c->count[p++]) {
        int taken = 0;
        for (int i = 0; i < c->count[p]; i += step) {
            if (out->count == RATIO_SAMPLES) break;
            out->ns[out->count++] = factor * from[i];
            taken++;
        }
        if (!taken) continue;
        out->pass[out->processes] = c->pass[p];
        out->per_process[out->processes++] = taken;
    }
}

void ratio_samples_of(const measurement *m, ratio_samples *out)
{
    clean_samples c;
    clean_take(m, &c);
    fill(&c, 1, out);
    clean_free(&c);
}

bool ratio_samples_paired(const measurement *m, double factor,
                          ratio_samples *out)
{
    paired known;
    clean_samples c;
    if (!(factor > 0) || !paired_take(m, NULL, &known)) return false;
    clean_take_paired(m, &c);
    fill(&c, factor, out);
    clean_free(&c);
    return true;
}

/* ---- intervals ----------------------------------------------------------- */

/* ln of the median of each process, in new memory. */
static double *medians_of(const ratio_samples *s)
{
    double *ln = malloc(((size_t)s->processes + 1) * sizeof *ln);
    const double *from = s->ns;
    stats_summary all;
    if (!ln) abort();
    for (int p = 0; p < s->processes; from += s->per_process[p++]) {
        stats_summarise(from, s->per_process[p], &all);
        ln[p] = log(all.median);
    }
    return ln;
}

void ratio_spread(const ratio_samples *s, spread *out)
{
    double *ln = medians_of(s);
    spread_of(ln, s->pass, s->processes, out);
    free(ln);
}

void ratio_rounds_spread(const ratio_samples *a, const ratio_samples *b,
                         spread *out)
{
    double *x = medians_of(a), *y = medians_of(b);
    int n = 0;
    for (int i = 0, k = 0; i < a->processes && k < b->processes;) {
        if (a->pass[i] == b->pass[k]) y[n++] = y[k++] - x[i++];
        else if (a->pass[i] < b->pass[k]) i++;
        else k++;
    }
    spread_of(y, NULL, n, out);
    free(x);
    free(y);
}

static int fewer(const ratio_samples *a, const ratio_samples *b)
{
    return a->processes < b->processes ? a->processes : b->processes;
}

/* Degrees of freedom that come from the other cases. */
static double freedom_of(const spread_prior *p)
{
    return p && isfinite(p->freedom) ? p->freedom : 0;
}

/* The variances of both sides, and the degrees of freedom of their sum.  The sides
 * are the same case: what other cases tell of its variance counts once. */
static spread_interval together(const spread_interval *a,
                                const spread_prior *prior_a,
                                const spread_interval *b,
                                const spread_prior *prior_b)
{
    const double twice = fmin(freedom_of(prior_a), freedom_of(prior_b));
    spread_interval x = { .own = a->own + b->own,
                          .shared = a->shared + b->shared };
    x.freedom = x.own * x.own / (a->own * a->own / a->freedom +
                                 b->own * b->own / b->freedom);
    x.freedom = fmax(x.freedom - twice, fmin(a->freedom, b->freedom));
    if (x.shared > 0)
        x.shared_freedom =
            x.shared * x.shared /
            ((a->shared > 0 ? a->shared * a->shared / a->shared_freedom : 0) +
             (b->shared > 0 ? b->shared * b->shared / b->shared_freedom : 0));
    return x;
}

static void set(ratio *out, double ln, double half)
{
    out->value = exp(ln);
    out->lo = exp(ln - half);
    out->hi = exp(ln + half);
}

void ratio_make(ratio *out, const ratio_samples *a, const spread_prior *prior_a,
                const ratio_samples *b, const spread_prior *prior_b,
                double alpha)
{
    spread side[2];
    spread_interval x, y;
    *out = (ratio){ NAN, NAN, NAN, NAN, NAN, 0, fewer(a, b) };
    ratio_spread(a, &side[0]);
    ratio_spread(b, &side[1]);
    spread_estimate(&side[0], prior_a, alpha, &x);
    spread_estimate(&side[1], prior_b, alpha, &y);
    set(out, y.centre - x.centre, NAN);
    if (side[0].units < 2 || side[1].units < 2) return;
    const spread_interval both = together(&x, prior_a, &y, prior_b);
    out->error = sqrt(both.own + both.shared);
    set(out, y.centre - x.centre, spread_half_width(&both, alpha));
}

void ratio_rounds(ratio *out, const ratio_samples *a, const ratio_samples *b,
                  const spread_prior *prior, double alpha)
{
    spread units;
    spread_interval x;
    ratio_rounds_spread(a, b, &units);
    spread_estimate(&units, prior, alpha, &x);
    *out = (ratio){ .error = sqrt(x.own + x.shared), .variance = x.variance,
                    .freedom = units.units - 1, .processes = fewer(a, b) };
    set(out, x.centre, x.hi - x.centre);
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

double ratio_more_processes(const ratio *r, double effect)
{
    const double limit = log(1 + effect), at = log(r->value);
    const double half = log(r->hi / r->lo) / 2;
    const double away = fmin(fabs(at - limit), fabs(at + limit));
    const double needed = r->processes * (half / away) * (half / away);
    return ceil(needed - r->processes);
}
