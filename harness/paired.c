/* paired.c - see paired.h. */
#include "paired.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *kind_of(const measurement *m)
{
    const char *kind = m->processes ? m->process[0].probe_kind : "";
    for (int p = 1; p < m->processes; p++)
        if (strcmp(m->process[p].probe_kind, kind)) return NULL;
    return *kind ? kind : NULL;
}

static double median_speed(const measurement *m)
{
    stats_summary all;
    int n = 0, room = 1;
    for (int p = 0; p < m->processes; p++) room += m->process[p].count;
    double *x = malloc((size_t)room * sizeof *x);
    if (!x) abort();
    for (int p = 0; p < m->processes; p++)
        for (int i = 0; i < m->process[p].count; i++) {
            const timed_sample *s = &m->process[p].of[i];
            if (!s->touched && s->probe > 0) x[n++] = s->probe;
        }
    stats_summarise(x, n, &all);
    free(x);
    return all.median;
}

/* As times are: processes are what differs. */
static void pool(const clean_samples *c, const spread_prior *prior,
                 stats_summary *out)
{
    double *ln = malloc(((size_t)c->processes + 1) * sizeof *ln);
    spread units;
    spread_interval x;
    if (!ln) abort();
    for (int p = 0; p < c->processes; p++) ln[p] = log(clean_median(c, p));
    spread_of(ln, c->pass, c->processes, &units);
    spread_estimate(&units, prior, 0.05, &x);
    stats_summarise(c->ns, c->n, out);
    out->median = exp(x.centre);
    spread_ends(&x, 0, &out->lo, &out->hi);
    free(ln);
}

bool paired_take(const measurement *m, const spread_prior *prior, paired *out)
{
    clean_samples c;
    clean_take_paired(m, &c);
    pool(&c, prior, &out->ns);
    out->kind = kind_of(m);
    out->speed = median_speed(m);
    const bool known = out->kind && !c.all;
    clean_free(&c);
    return known;
}
