/* clean.c - the one rule by which samples count. */
#include "clean.h"

#include <math.h>
#include <stdlib.h>

#include "stats.h"

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

static int room_of(const json *samples)
{
    int n = 0;
    for (const json *s = json_first(samples); s; s = json_next(s))
        n += json_size(json_get(s, "ns"));
    return n;
}

static void collect(const json *samples, bool all, clean_samples *out)
{
    int p = 0;
    out->all = all;
    out->n = out->touched = 0;
    for (const json *s = json_first(samples); s; s = json_next(s), p++) {
        const json *touched = json_get(s, "touched");
        int index = 0;
        out->count[p] = 0;
        for (const json *x = json_first(json_get(s, "ns")); x;
             x = json_next(x), index++) {
            const double ns = json_number(x, NAN);
            if (!(ns > 0)) continue;
            const bool spoilt = json_holds(touched, index);
            out->touched += spoilt;
            if (spoilt && !all) continue;
            out->ns[out->n++] = ns;
            out->count[p]++;
        }
    }
}

void clean_take(const json *samples, clean_samples *out)
{
    const int processes = json_size(samples);
    *out = (clean_samples){
        .ns = sure(malloc(((size_t)room_of(samples) + 1) * sizeof *out->ns)),
        .count = sure(calloc((size_t)processes + 1, sizeof *out->count)),
        .processes = processes,
    };
    collect(samples, false, out);
    if (out->n < CLEAN_LEAST) collect(samples, true, out);
}

void clean_free(clean_samples *c)
{
    free(c->ns);
    free(c->count);
    *c = (clean_samples){ 0 };
}

double clean_median(const clean_samples *c, int process)
{
    stats_summary all;
    int from = 0;
    for (int p = 0; p < process; p++) from += c->count[p];
    stats_summarise(c->ns + from, c->count[process], &all);
    return all.median;
}
