/* probes.c SUITE [SECONDS [alone]] - which probe tells what of which kernel.
 *
 * Every case of the suite runs for that long with all probes before and after each
 * sample, while a neighbour on the next processor (unless "alone") multiplies
 * matrices, streams memory or rests, some seconds each.  Printed: the correlation of
 * the logarithms of the kernel's time and the probe's, sample by sample, and what
 * medians of 15 samples differ by: of the time, and of the time over each probe's.
 * Part of `make evidence`; results/README.md has the table.
 */
#define _GNU_SOURCE
#include "../harness/isolate.h"
#include "../harness/json.h"
#include "../harness/machine.h"
#include "../harness/measure.h"
#include "../harness/probe.h"
#include "../harness/sweep_plan.h"

#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 100000, GROUP = 15 };

typedef struct trial {
    const sweep_case *what;
    double seconds;
} trial;

/* ---- the neighbour ------------------------------------------------------- */

static void bind_to(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)processor, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* Phases of half a second to two and a half. */
static void neighbour(int processor)
{
    static const enum probe_kind kinds[] = { PROBE_TILE, PROBE_MEMORY };
    uint64_t seed = 7;
    core_probe *load[2];
    bind_to(processor);
    for (int i = 0; i < 2; i++)
        load[i] = probe_make(kinds[i], att_level_cpu(), 1);
    for (int phase = 0;; phase++) {
        const double end = measure_now() + 0.5 + 2 * att_uniform(&seed);
        const int what = phase % 3;
        while (measure_now() < end)
            if (what < 2 && load[what]) probe_rate(load[what]);
            else nanosleep(&(struct timespec){ 0, 10000000 }, NULL);
    }
}

/* ---- one case ------------------------------------------------------------ */

static long switches(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return use.ru_nivcsw;
}

static void look(core_probe *const *p, double *seconds)
{
    for (int k = 0; k < PROBE_KINDS; k++)
        seconds[k] = p[k] ? 1 / probe_rate(p[k]) : NAN;
}

/* Seconds of a call so often that it takes 2 ms, undisturbed ones. */
static double timed(sweep_call *r, int calls, bool *clean)
{
    const long before = switches();
    const unsigned long long steal = machine_steal();
    const double start = measure_now();
    for (int i = 0; i < calls; i++) sweep_call_forward(r);
    const double took = measure_now() - start;
    *clean = switches() == before && machine_steal() == steal;
    return took / calls;
}

static json *measure(void *arg)
{
    const trial *t = arg;
    json *j = json_object(), *rows = json_array();
    sweep_call r = { 0 };
    core_probe *p[PROBE_KINDS];
    double before[PROBE_KINDS], after[PROBE_KINDS];
    bool clean;
    for (int k = 0; k < PROBE_KINDS; k++)
        p[k] = probe_make((enum probe_kind)k, t->what->entry.level, 1);
    const char *why = sweep_call_make(&r, t->what);
    if (why) {
        json_put_text(j, "error", why);
        return j;
    }
    for (int i = 0; i < 5; i++) timed(&r, 1, &clean);
    const int calls = (int)ceil(2e-3 / timed(&r, 1, &clean));
    const double start = measure_now();
    look(p, before);
    for (int n = 0; n < MOST && measure_now() - start < t->seconds; n++) {
        const double seconds = timed(&r, calls, &clean);
        look(p, after);
        json *row = json_array();
        json_push_number(row, seconds);
        for (int k = 0; k < PROBE_KINDS; k++)
            json_push_number(row, (before[k] + after[k]) / 2);
        memcpy(before, after, sizeof before);
        if (clean) json_push(rows, row);
        else json_free(row);
    }
    json_put(j, "rows", rows);
    return j;
}

/* ---- what it tells ------------------------------------------------------- */

typedef struct moments {
    double n, x, y, xx, yy, xy;
} moments;

static void add(moments *m, double x, double y)
{
    m->n++;
    m->x += x, m->y += y;
    m->xx += x * x, m->yy += y * y, m->xy += x * y;
}

static double correlation(const moments *m)
{
    const double x = m->x / m->n, y = m->y / m->n;
    return (m->xy / m->n - x * y) /
           sqrt((m->xx / m->n - x * x) * (m->yy / m->n - y * y));
}

static int ascending(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Per cent: the coefficient of variation of the medians of GROUP samples each, in
 * the order of time: what repeated runs differ by. */
static double spread(const double *x, int n)
{
    double sum = 0, squares = 0, group[GROUP];
    const int groups = n / GROUP;
    for (int g = 0; g < groups; g++) {
        memcpy(group, x + g * GROUP, sizeof group);
        qsort(group, GROUP, sizeof *group, ascending);
        sum += group[GROUP / 2];
        squares += group[GROUP / 2] * group[GROUP / 2];
    }
    const double mean = sum / groups;
    return 100 * sqrt(fmax(0, squares / groups - mean * mean)) / mean;
}

static void tell(const char *name, const json *rows)
{
    static double t[MOST], quotient[MOST];
    double corr[PROBE_KINDS], over[PROBE_KINDS];
    int n = 0;
    for (const json *r = json_first(rows); r; r = json_next(r))
        t[n++] = json_number(json_at(r, 0), NAN);
    printf("%-50.50s %5d", name, n);
    if (n < 4 * GROUP) {
        printf("  too few undisturbed samples\n");
        return;
    }
    for (int k = 0; k < PROBE_KINDS; k++) {
        moments m = { 0 };
        int i = 0;
        for (const json *r = json_first(rows); r; r = json_next(r), i++) {
            const double x = json_number(json_at(r, k + 1), NAN);
            add(&m, log(x), log(t[i]));
            quotient[i] = t[i] / x;
        }
        corr[k] = correlation(&m);
        over[k] = spread(quotient, n);
    }
    for (int k = 0; k < PROBE_KINDS; k++) printf(" %6.2f", corr[k]);
    printf("  %6.1f", spread(t, n));
    for (int k = 0; k < PROBE_KINDS; k++) printf(" %6.1f", over[k]);
    printf("\n");
    fflush(stdout);
}

/* What a look costs a sample of 2.2 ms, at least. */
static void tell_cost(void)
{
    enum { TIMES = 300 };
    printf("%-50s %5s", "a look, us", "");
    for (int k = 0; k < PROBE_KINDS; k++) {
        core_probe *p = probe_make((enum probe_kind)k, att_level_cpu(), 1);
        double seconds[TIMES];
        for (int i = 0; p && i < TIMES; i++) {
            const double start = measure_now();
            probe_rate(p);
            seconds[i] = measure_now() - start;
        }
        qsort(seconds, TIMES, sizeof *seconds, ascending);
        printf(" %6.0f", p ? 1e6 * seconds[TIMES / 2] : NAN);
        probe_free(p);
    }
    printf("\n");
}

static void head(void)
{
    printf("%-50s %5s %-34s  %s\n%-50s %5s", "", "",
           " correlation with the kernel's time",
           " cv of the kernel's time, and over each probe, %", "case", "n");
    for (int k = 0; k < PROBE_KINDS; k++)
        printf(" %6.6s", probe_word((enum probe_kind)k));
    printf("  %6s", "time");
    for (int k = 0; k < PROBE_KINDS; k++)
        printf(" %6.6s", probe_word((enum probe_kind)k));
    printf("\n");
}

int main(int argc, char **argv)
{
    sweep_suite suite;
    sweep_cases cases;
    const sweep_patterns all = { 0 };
    const axes none = { 0 };
    error e;
    trial t = { .seconds = argc > 2 ? atof(argv[2]) : 60 };
    const isolate_limits limits = { .seconds = 60 + 2 * t.seconds };
    if (argc < 2 || sweep_suite_read(&suite, argv[1], &e) < 0 ||
        sweep_cases_list(&suite, &none, &all, &all, &cases, &e) < 0) {
        fprintf(stderr, "probes: %s\n", argc < 2 ? "which suite?" : e.text);
        return 2;
    }
    pid_t beside = argc > 3 ? 0 : fork();
    if (beside == 0 && argc <= 3) neighbour(1);
    bind_to(0);
    head();
    tell_cost();
    for (int i = 0; i < cases.count; i++) {
        isolate_result r;
        t.what = &cases.of[i];
        if (isolate_run(measure, &t, &limits, &r, &e) < 0 || !r.value) continue;
        tell(t.what->name, json_get(r.value, "rows"));
        json_free(r.value);
    }
    if (beside > 0) kill(beside, SIGKILL);
    return 0;
}
