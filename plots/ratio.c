/* ratio.c - samples of two rows for a comparison. */
#include "ratio.h"

#include <string.h>

static bool same_text(const char *a, const char *b)
{
    return a && b && !strcmp(a, b);
}

static bool same_probe(const result *a, const result *b)
{
    return same_text(a->row->paired.kind, b->row->paired.kind) &&
           a->row->paired.rate_per_s > 0 && b->row->paired.rate_per_s > 0 &&
           same_text(json_text(json_get(a->env, "machine_id")),
                     json_text(json_get(b->env, "machine_id")));
}

bool ratio_read(ratio_samples side[2], const result *a, const result *b)
{
    const measurement *x = &a->row->time_ns.samples;
    const measurement *y = &b->row->time_ns.samples;
    if (same_probe(a, b) && ratio_samples_paired(x, 1, &side[0]) &&
        ratio_samples_paired(y, b->row->paired.rate_per_s /
                                    a->row->paired.rate_per_s, &side[1]))
        return true;
    ratio_samples_of(x, &side[0]);
    ratio_samples_of(y, &side[1]);
    return false;
}
