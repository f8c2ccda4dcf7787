/* probes.c SUITE [SECONDS [alone]] - which probe tells what of which kernel.
 *
 * Every case of the suite runs for that long with all probes before and after each
 * sample, while a neighbour (unless "alone") multiplies matrices, streams memory
 * or rests, at most some seconds each.  Printed: the correlation of the logarithms
 * of the kernel's speed and the probe's, and the coefficient of variation of the
 * kernel's speed alone and over each probe.  Part of `make evidence`.
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

enum { MOST = 100000 };

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

static double variance(double n, double x, double xx)
{
    return xx / n - x / n * x / n;
}

static int ascending(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Largest half width of the middle 90 % over the median. */
static double spread(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, ascending);
    return (x[n * 95 / 100] - x[n * 5 / 100]) / 2 / x[n / 2];
}

static void tell(const char *name, const json *rows)
{
    static double t[MOST], quotient[MOST];
    int n = 0;
    for (const json *r = json_first(rows); r; r = json_next(r))
        t[n++] = json_number(json_at(r, 0), NAN);
    printf("%-52s %5d", name, n);
    if (n < 20) {
        printf("  too few undisturbed samples\n");
        return;
    }
    double corr[PROBE_KINDS], sd[PROBE_KINDS], alone = 0;
    for (int k = 0; k < PROBE_KINDS; k++) {
        moments m = { 0 };
        int i = 0;
        for (const json *r = json_first(rows); r; r = json_next(r), i++) {
            const double x = json_number(json_at(r, k + 1), NAN);
            add(&m, log(x), log(t[i]));
            quotient[i] = t[i] / x;
        }
        corr[k] = (m.xy / m.n - m.x / m.n * m.y / m.n) /
                  sqrt(variance(m.n, m.x, m.xx) * variance(m.n, m.y, m.yy));
        sd[k] = spread(quotient, n);
    }
    alone = spread(t, n);
    printf("  %5.1f ", 100 * alone);
    for (int k = 0; k < PROBE_KINDS; k++) printf(" %5.2f", corr[k]);
    printf(" ");
    for (int k = 0; k < PROBE_KINDS; k++) printf(" %5.1f", 100 * sd[k]);
    printf("\n");
    fflush(stdout);
}

static void head(void)
{
    printf("%-52s %5s  %5s ", "case", "n", "alone");
    for (int k = 0; k < PROBE_KINDS; k++)
        printf(" %5.5s", probe_word((enum probe_kind)k));
    printf(" ");
    for (int k = 0; k < PROBE_KINDS; k++)
        printf(" %5.5s", probe_word((enum probe_kind)k));
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
