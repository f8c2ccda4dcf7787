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

typedef bool rule(const timed_sample *s);

static bool is_sample(const timed_sample *s)
{
    return s->ns > 0 && isfinite(s->ns);
}

static bool lost_no_time(const timed_sample *s)
{
    return is_sample(s) && !s->touched;
}

bool clean_is(const timed_sample *s)
{
    return lost_no_time(s) && !(s->probe < CLEAN_SPEED);
}

static bool is_paired(const timed_sample *s)
{
    return lost_no_time(s) && s->probe > 0;
}

static bool is_clean_pair(const timed_sample *s)
{
    return clean_is(s) && s->probe > 0;
}

static void collect(const measurement *m, rule *counts, clean_samples *out)
{
    out->n = 0;
    for (int p = 0; p < m->processes; p++) {
        const sample_process *one = &m->process[p];
        out->count[p] = 0;
        for (int i = 0; i < one->count; i++) {
            if (!counts(&one->of[i])) continue;
            out->ns[out->n] = one->of[i].ns;
            out->probe[out->n++] = one->of[i].probe;
            out->count[p]++;
        }
    }
}

static void prepare(const measurement *m, clean_samples *out)
{
    const size_t processes = (size_t)m->processes + 1;
    size_t room = 1;
    *out = (clean_samples){ .processes = m->processes };
    out->count = sure(calloc(processes, sizeof *out->count));
    out->pass = sure(calloc(processes, sizeof *out->pass));
    for (int p = 0; p < m->processes; p++) {
        const sample_process *one = &m->process[p];
        room += (size_t)one->count;
        out->pass[p] = one->pass;
        for (int i = 0; i < one->count; i++) {
            if (!is_sample(&one->of[i]) || clean_is(&one->of[i])) continue;
            out->touched++;
            out->slow += lost_no_time(&one->of[i]);
        }
    }
    out->ns = sure(malloc(room * sizeof *out->ns));
    out->probe = sure(malloc(room * sizeof *out->probe));
}

void clean_take(const measurement *m, clean_samples *out)
{
    static rule *const rules[] = { clean_is, lost_no_time, is_sample };
    prepare(m, out);
    for (int r = 0; r < 3 && out->n < CLEAN_LEAST; r++) {
        collect(m, rules[r], out);
        out->slowed = r == 1;
        out->all = r == 2;
    }
}

void clean_take_paired(const measurement *m, clean_samples *out)
{
    prepare(m, out);
    collect(m, is_clean_pair, out);
    out->slowed = out->n < STATS_LEAST;
    if (out->slowed) collect(m, is_paired, out);
    for (int i = 0; i < out->n; i++) out->ns[i] *= out->probe[i];
    out->all = out->n < CLEAN_LEAST;
}

void clean_read(const json *samples, clean_samples *out)
{
    measurement m;
    measurement_read(samples, &m);
    clean_take(&m, out);
    measurement_free(&m);
}

void clean_free(clean_samples *c)
{
    free(c->ns);
    free(c->probe);
    free(c->count);
    free(c->pass);
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
