/* measure.c - warm up, calibrate, sample until it suffices. */
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
#include "stats.h"

/* 29 ns for reading the clock and 20 ns steps are 10^-5 of this. */
#define SAMPLE_SECONDS 2e-3
/* A narrow interval after 20 ms says nothing about the noise that comes and
 * goes in a tenth of a second. */
#define LEAST_SECONDS 0.1
enum {
    LEAST_SAMPLES = 3,
    WARM_CALLS = 5,
    PATIENCE = 10 /* times the time allowed, for the least number of samples */
};

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

/* ---- one sample ---------------------------------------------------------- */

typedef struct sampler {
    const measure_job *job;
    double start, sampling; /* when it began, when sampling began            */
    int calls;
    int count, clean;
    double ns[MEASURE_SAMPLES];
    bool touched[MEASURE_SAMPLES];
    double kept[MEASURE_SAMPLES]; /* the clean ones                         */
    double steal, switches, throttled; /* in all                            */
    double kernel;                /* seconds inside the kernel, all calls   */
    double took;                  /* the last calls, with what is not timed */
    double width_before;          /* half width at the last doubling        */
    int stuck;                    /* doublings that did not narrow it       */
} sampler;

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

/* Time in which the process was stopped (Ctrl-Z) is not the kernel's: then the
 * calls are timed again. */
static double timed(sampler *s, int calls)
{
    for (;;) {
        const int before = measure_stops();
        const double start = measure_now();
        double own = 0;
        for (int i = 0; i < calls; i++)
            if (s->job->call) own += s->job->call(s->job->arg);
            else s->job->run(s->job->arg);
        s->took = measure_now() - start;
        const double seconds = s->job->call ? own : s->took;
        if (measure_stops() == before) {
            s->kernel += seconds;
            return seconds;
        }
        s->start += s->took;
        s->sampling += s->took;
    }
}

/* Seconds so far in which threads stood still for want of quota. */
static double throttled(void)
{
    return cgroup_has_quota() ? cgroup_throttled("") : 0;
}

/* What costs less than about 1 % of a sample does not spoil it: a tick of steal
 * is 10 ms, a switch to another process about 3 ms. */
static bool spoilt(double seconds, double steal, double switches, double stood)
{
    return steal > floor(seconds / 1.0) || switches > floor(seconds / 0.3) ||
           stood > 0.01 * seconds;
}

static void sample(sampler *s)
{
    const double steal = (double)machine_steal();
    const double switches = involuntary_switches();
    const double stood = throttled();
    const double seconds = timed(s, s->calls);
    const double stands = throttled() - stood;
    const double switched = involuntary_switches() - switches;
    const double stolen = (double)machine_steal() - steal;
    const int i = s->count++;

    s->ns[i] = 1e9 * seconds / s->calls;
    s->touched[i] = spoilt(s->took, stolen, switched, stands);
    s->throttled += stands;
    s->steal += stolen;
    s->switches += switched;
    if (!s->touched[i]) s->kept[s->clean++] = s->ns[i];
}

/* ---- before -------------------------------------------------------------- */

/* Until two calls in a row agree within 5 %: caches, pages, clock and thread
 * pool have settled.  A first call that takes longer than all sampling should
 * is a sample already: what is cold at its start does not matter to it. */
static void warm_up(sampler *s)
{
    s->calls = 1;
    sample(s);
    double last = 1e-9 * s->ns[0];
    if (last > s->job->seconds) return;
    s->count = s->clean = 0;
    s->steal = s->switches = s->throttled = 0;
    for (int i = 1; i < WARM_CALLS; i++) {
        if (measure_now() - s->start > s->job->seconds / 4) break;
        const double t = timed(s, 1);
        const bool settled = fabs(t - last) < 0.05 * last;
        last = t;
        if (settled) break;
    }
}

static void calibrate(sampler *s)
{
    double seconds = s->took;
    s->calls = 1;
    while (seconds < SAMPLE_SECONDS && s->calls < 1 << 24) {
        const double more = 1.1 * SAMPLE_SECONDS / fmax(seconds, 1e-9);
        s->calls = (int)fmax(s->calls + 1.0,
                             ceil(s->calls * fmin(more, 100)));
        timed(s, s->calls);
        seconds = s->took;
    }
}

/* ---- enough? ------------------------------------------------------------- */

/* Noise that is independent from sample to sample shrinks by 0.71 when their
 * number doubles.  If it did not even shrink to 0.9 twice in a row, more
 * samples of this process are of no use. */
static bool stopped_shrinking(sampler *s, double width)
{
    if (s->clean < 16 || (s->clean & (s->clean - 1)) ||
        s->touched[s->count - 1])
        return false;
    if (s->width_before > 0 && width > 0.9 * s->width_before) s->stuck++;
    else s->stuck = 0;
    s->width_before = width;
    return s->stuck >= 2;
}

static const char *enough(sampler *s)
{
    const double seconds = s->job->seconds, now = measure_now();
    stats_summary state;
    if (s->count < LEAST_SAMPLES)
        return now - s->start > PATIENCE * seconds ? "time" : NULL;
    stats_summarise(s->kept, s->clean, &state);
    const double width = stats_half_width(&state);
    if (width <= s->job->ci &&
        now - s->sampling >= fmin(LEAST_SECONDS, seconds / 2))
        return "ci";
    if (stopped_shrinking(s, width)) return "noise";
    if (s->count == MEASURE_SAMPLES)
        return width <= s->job->ci ? "ci" : "noise";
    if (now - s->start > seconds) return "time";
    return NULL;
}

/* ---- result -------------------------------------------------------------- */

/* 7 digits are enough, and the journal stays readable. */
static double rounded(double ns)
{
    return ns < 1e5 ? round(ns * 100) / 100 : round(ns);
}

static json *describe(const sampler *s, const char *stop, double clock)
{
    json *j = json_object(), *ns = json_array(), *touched = json_array();
    for (int i = 0; i < s->count; i++) {
        json_push_number(ns, rounded(s->ns[i]));
        if (s->touched[i]) json_push_number(touched, i);
    }
    json_put_number(j, "calls", s->calls);
    json_put(j, "ns", ns);
    json_put(j, "touched", touched);
    json_put_text(j, "stop", stop);
    json_put_number(j, "kernel_s", s->kernel);
    json_put_number(j, "steal_ticks", s->steal);
    json_put_number(j, "involuntary_switches", s->switches);
    json_put_number(j, "throttled_s", s->throttled);
    json_put_number(j, "clock_ratio", clock / s->job->clock);
    return j;
}

json *measure_samples(const measure_job *job)
{
    sampler s = { .job = job, .start = measure_now() };
    const char *stop;
    warm_up(&s);
    calibrate(&s);
    const double before = measure_clock();
    s.sampling = measure_now();
    while (!(stop = enough(&s))) sample(&s);
    return describe(&s, stop, (before + measure_clock()) / 2);
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
