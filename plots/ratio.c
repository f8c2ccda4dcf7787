/* ratio.c - samples of a row for a comparison. */
#include "ratio.h"

#include <stdlib.h>

void ratio_read(ratio_samples *s, const result *r)
{
    ratio_samples_of(&r->row->time_ns.samples, s);
}

void ratio_pool(const results *r, spread_prior *out)
{
    const size_t n = (size_t)r->count + 1;
    ratio_samples *s = malloc(sizeof *s);
    spread *units = malloc(n * sizeof *units);
    const spread **of = malloc(n * sizeof *of);
    int count = 0;
    if (!s || !units || !of) abort();
    for (int i = 0; i < r->count; i++) {
        if (!r->item[i].ok) continue;
        ratio_read(s, &r->item[i]);
        ratio_spread(s, &units[count]);
        of[count] = &units[count];
        count++;
    }
    spread_pool(of, count, out);
    free(of);
    free(units);
    free(s);
}
