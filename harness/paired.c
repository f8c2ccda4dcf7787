/* paired.c - see paired.h. */
#include "paired.h"

#include <math.h>
#include <string.h>

static const char *kind_of(const measurement *m)
{
    const char *kind = m->processes ? m->process[0].probe_kind : "";
    for (int p = 1; p < m->processes; p++)
        if (strcmp(m->process[p].probe_kind, kind)) return NULL;
    return *kind ? kind : NULL;
}

bool paired_take(const measurement *m, paired *out)
{
    clean_samples c;
    stats_summary speed;
    clean_take_paired(m, &c);
    stats_summarise(c.probe, c.n, &speed);
    stats_processes(c.ns, c.count, c.processes, 1, &out->ns);
    out->kind = kind_of(m);
    out->speed = speed.median;
    const bool known = out->kind && !c.all;
    clean_free(&c);
    return known;
}
