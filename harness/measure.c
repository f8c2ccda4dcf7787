/* measure.c - the machine that is measured: calls, disturbances, speed, memory. */
#include "measure.h"

#include <malloc.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "cgroup.h"
#include "machine.h"
#include "sampler.h"

double measure_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Best of a few short chains: whatever interrupts one of them is not the
 * clock. */
double measure_clock(void)
{
    enum { CHAINS = 8, STEPS = 20000 };
    double best = 0;
    for (int c = 0; c < CHAINS; c++) {
        uint64_t x = 3;
        const double start = measure_now();
        for (int i = 0; i < STEPS; i++) {
            x *= 0x9e3779b97f4a7c15u;
            __asm__ volatile("" : "+r"(x)); /* no closed form, please */
        }
        best = fmax(best, STEPS / (measure_now() - start));
    }
    return best;
}

/* ---- the machine as a source of samples ---------------------------------- */

static double involuntary_switches(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)use.ru_nivcsw;
}

static volatile sig_atomic_t continued; /* how often we had been stopped    */

static void on_continue(int number)
{
    (void)number;
    continued++;
}

int measure_stops(void)
{
    static bool counting;
    const struct sigaction action = { .sa_handler = on_continue,
                                      .sa_flags = SA_RESTART };
    if (!counting) counting = sigaction(SIGCONT, &action, NULL) == 0;
    return continued;
}

/* Seconds so far in which threads stood still for want of quota. */
static double throttled(void)
{
    return cgroup_has_quota() ? cgroup_throttled("") : 0;
}

static double call(void *arg, int calls, double *took)
{
    const measure_job *job = arg;
    const double start = measure_now();
    for (int i = 0; i < calls; i++) job->run(job->arg);
    return *took = measure_now() - start;
}

static double speed(void *arg)
{
    const measure_job *job = arg;
    return job->probe ? probe_rate(job->probe) / job->probe_rate : NAN;
}

static sampler_losses losses(void *arg)
{
    (void)arg;
    return (sampler_losses){ .steal = (double)machine_steal(),
                             .switches = involuntary_switches(),
                             .throttled = throttled(),
                             .stops = measure_stops() };
}

static double now(void *arg)
{
    (void)arg;
    return measure_now();
}

static void wait_for(void *arg, double seconds)
{
    (void)arg;
    const struct timespec t = { 0, (long)(1e9 * seconds) };
    nanosleep(&t, NULL);
}

sampler_source measure_source(const measure_job *job)
{
    return (sampler_source){ call, speed, losses, (void *)job };
}

json *measure_samples(const measure_job *job)
{
    const sampler_source source = measure_source(job);
    const sampler_clock clock = { now, wait_for, NULL };
    const sampler_goal goal = { job->ci, job->seconds };
    sample_process out;
    sampler_run(&source, &clock, &goal, &out);
    out.clock_ratio = measure_clock() / job->clock;
    out.pass = job->pass;
    if (job->probe)
        snprintf(out.probe_kind, sizeof out.probe_kind, "%s",
                 probe_name(job->probe));
    json *j = sample_process_write(&out);
    free(out.of);
    return j;
}

/* ---- memory -------------------------------------------------------------- */

/* A value of /proc/self/status in bytes; 0: not there. */
static double status_bytes(const char *key)
{
    char line[128];
    double kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key))) kib = atof(line + strlen(key));
    if (f) fclose(f);
    return 1024 * kib;
}

/* The high-water mark is that of all that was before: writing 5 resets it. */
static void reset_peak(void)
{
    malloc_trim(0);
    FILE *f = fopen("/proc/self/clear_refs", "we");
    if (!f) return;
    fputs("5", f);
    fclose(f);
}

void measure_memory_begin(measure_memory *m)
{
    reset_peak();
    m->resident = status_bytes("VmRSS:");
    m->inherited = m->resident - status_bytes("RssFile:");
}

double measure_memory_peak(const measure_memory *m)
{
    return fmax(status_bytes("VmHWM:") - status_bytes("RssFile:") -
                m->inherited, 0);
}
