/* ratio.c - samples of a row for a comparison. */
#include "ratio.h"

void ratio_read(ratio_samples *s, const result *r)
{
    s->processes = result_samples(r, s->ns, s->per_process, RATIO_SAMPLES);
    s->count = 0;
    for (int p = 0; p < s->processes; p++) s->count += s->per_process[p];
}
