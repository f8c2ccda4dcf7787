/* samples.c - samples from and to the journal. */
#include "samples.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- from JSON ----------------------------------------------------------- */

static double number_of(const json *j, const char *key)
{
    return json_number(json_get(j, key), NAN);
}

static int whole(const json *j, const char *key, int absent)
{
    const double x = number_of(j, key);
    return x >= 0 && x < 1e9 ? (int)x : absent;
}

static void text_of(const json *j, const char *key, char *out, size_t size)
{
    const char *text = json_text(json_get(j, key));
    snprintf(out, size, "%s", text ? text : "");
}

static void read_samples(const json *j, sample_process *out)
{
    const json *ns = json_get(j, "ns");
    const json *probe = json_first(json_get(j, "probe"));
    const int room = json_size(ns);
    out->of = sure(calloc((size_t)room + 1, sizeof *out->of));
    for (const json *x = json_first(ns); x; x = json_next(x)) {
        out->of[out->count++] = (timed_sample){
            .ns = json_number(x, NAN),
            .probe = json_number(probe, NAN),
        };
        if (probe) probe = json_next(probe);
    }
    for (const json *x = json_first(json_get(j, "touched")); x;
         x = json_next(x)) {
        const double i = json_number(x, -1);
        if (i >= 0 && i < out->count) out->of[(int)i].touched = true;
    }
}

static void read_process(const json *j, int place, sample_process *out)
{
    *out = (sample_process){
        .pass = whole(j, "pass", place),
        .calls = whole(j, "calls", 0),
        .kernel_s = number_of(j, "kernel_s"),
        .steal_ticks = number_of(j, "steal_ticks"),
        .involuntary_switches = number_of(j, "involuntary_switches"),
        .throttled_s = number_of(j, "throttled_s"),
        .waited_s = number_of(j, "waited_s"),
        .clock_ratio = number_of(j, "clock_ratio"),
    };
    text_of(j, "stop", out->stop, sizeof out->stop);
    text_of(j, "probe_kind", out->probe_kind, sizeof out->probe_kind);
    read_samples(j, out);
}

void measurement_read(const json *samples, measurement *out)
{
    const int room = json_size(samples);
    *out = (measurement){
        .process = sure(calloc((size_t)room + 1, sizeof *out->process)),
    };
    for (const json *j = json_first(samples); j; j = json_next(j)) {
        read_process(j, out->processes, &out->process[out->processes]);
        out->processes++;
    }
}

void measurement_free(measurement *m)
{
    for (int p = 0; p < m->processes; p++) free(m->process[p].of);
    free(m->process);
    *m = (measurement){ 0 };
}

/* ---- to JSON ------------------------------------------------------------- */

/* Seven digits of a time, four of a speed: they are enough, and the journal
 * stays readable. */
static double rounded(double ns)
{
    return ns < 1e5 ? round(ns * 100) / 100 : round(ns);
}

json *sample_process_write(const sample_process *p)
{
    json *j = json_object(), *ns = json_array(), *probe = json_array();
    json *touched = json_array();
    for (int i = 0; i < p->count; i++) {
        json_push_number(ns, rounded(p->of[i].ns));
        json_push_number(probe, round(p->of[i].probe * 1e4) / 1e4);
        if (p->of[i].touched) json_push_number(touched, i);
    }
    json_put_number(j, "pass", p->pass);
    json_put_number(j, "calls", p->calls);
    json_put(j, "ns", ns);
    json_put(j, "probe", probe);
    json_put(j, "touched", touched);
    json_put_text(j, "probe_kind", *p->probe_kind ? p->probe_kind : NULL);
    json_put_text(j, "stop", *p->stop ? p->stop : NULL);
    json_put_number(j, "kernel_s", p->kernel_s);
    json_put_number(j, "steal_ticks", p->steal_ticks);
    json_put_number(j, "involuntary_switches", p->involuntary_switches);
    json_put_number(j, "throttled_s", p->throttled_s);
    json_put_number(j, "waited_s", p->waited_s);
    json_put_number(j, "clock_ratio", p->clock_ratio);
    return j;
}

json *measurement_write(const measurement *m)
{
    json *list = json_array();
    for (int p = 0; p < m->processes; p++)
        json_push(list, sample_process_write(&m->process[p]));
    return list;
}
