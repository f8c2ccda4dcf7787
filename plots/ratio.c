/* ratio.c - samples of a row for a comparison. */
#include "ratio.h"

void ratio_read(ratio_samples *s, const result *r)
{
    ratio_samples_of(&r->row->time_ns.samples, s);
}
