/* sampler.c - warm up, calibrate, sample until it suffices. */
#include "sampler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "clean.h"
#include "stats.h"

/* 29 ns for reading the clock and 20 ns steps are 10^-5 of this. */
#define SAMPLE_SECONDS 2e-3
/* A narrow interval after 20 ms says nothing about the noise that comes and
 * goes in a tenth of a second. */
#define LEAST_SECONDS 0.1
/* A slow core is looked at again after so long, and waited for during this part
 * of the time allowed. */
#define PAUSE_SECONDS 5e-3
#define WAITING 0.25
enum {
    WARM_CALLS = 5,
    PATIENCE = 10 /* times the time allowed, for the least number of samples */
};

typedef struct sampler {
    const sampler_source *source;
    const sampler_clock *clock;
    const sampler_goal *goal;
    sample_process *out;
    double start, sampling; /* when it began, when sampling began            */
    double took;            /* the last calls, with what is not timed        */
    double probe;           /* speed at the end of the last sample           */
    int clean, quiets;
    double kept[SAMPLER_SAMPLES];  /* the clean ones                         */
    double quiet[SAMPLER_SAMPLES]; /* those that lost no time                */
    int doubled;            /* how many counted at the last doubling         */
    double width_before;    /* half width at the last doubling               */
    int stuck;              /* doublings that did not narrow it              */
} sampler;

static double now(const sampler *s)
{
    return s->clock->now(s->clock->arg);
}

static double probe(const sampler *s)
{
    return s->source->probe(s->source->arg);
}

/* ---- one sample ---------------------------------------------------------- */

typedef struct timing {
    double seconds; /* of the calls                                          */
    double took;    /* with what is done between them                        */
    double stopped; /* of calls that were timed again                        */
    sampler_losses lost;
} timing;

static sampler_losses since(const sampler_losses *before,
                            const sampler_losses *after)
{
    return (sampler_losses){
        .steal = after->steal - before->steal,
        .switches = after->switches - before->switches,
        .throttled = after->throttled - before->throttled,
        .stops = after->stops - before->stops,
    };
}

/* Time in which the process was stopped is not the kernel's: then the calls are
 * timed again. */
static timing time_calls(const sampler_source *source, int calls)
{
    timing t = { 0 };
    for (;;) {
        const sampler_losses before = source->losses(source->arg);
        t.seconds = source->call(source->arg, calls, &t.took);
        const sampler_losses after = source->losses(source->arg);
        t.lost = since(&before, &after);
        if (t.lost.stops == 0) return t;
        t.stopped += t.took;
    }
}

/* What costs less than about 1 % of a sample does not spoil it: a tick of steal
 * is 10 ms, a switch to another process about 3 ms. */
static bool spoilt(double seconds, const sampler_losses *lost)
{
    return lost->steal > floor(seconds / 1.0) ||
           lost->switches > floor(seconds / 0.3) ||
           lost->throttled > 0.01 * seconds;
}

/* Speed over both: the kernel's time is proportional to the mean of the times of
 * the probe. */
static double between(double before, double after)
{
    return 2 / (1 / before + 1 / after);
}

static timed_sample sample_of(const sampler_source *source, const timing *t,
                              int calls, double *speed)
{
    const double before = *speed;
    *speed = source->probe(source->arg);
    return (timed_sample){ .ns = 1e9 * t->seconds / calls,
                           .probe = between(before, *speed),
                           .touched = spoilt(t->took, &t->lost) };
}

timed_sample sampler_one(const sampler_source *source, int calls, double *speed)
{
    const timing t = time_calls(source, calls);
    return sample_of(source, &t, calls, speed);
}

/* What was stopped counts for no limit. */
static timing timed(sampler *s, int calls)
{
    const timing t = time_calls(s->source, calls);
    s->out->kernel_s += t.seconds;
    s->start += t.stopped;
    s->sampling += t.stopped;
    s->took = t.took;
    return t;
}

static void take_sample(sampler *s)
{
    sample_process *out = s->out;
    const timing t = timed(s, out->calls);
    timed_sample *x = &out->of[out->count++];
    *x = sample_of(s->source, &t, out->calls, &s->probe);
    out->steal_ticks += t.lost.steal;
    out->involuntary_switches += t.lost.switches;
    out->throttled_s += t.lost.throttled;
    if (clean_is(x)) s->kept[s->clean++] = x->ns;
    if (!x->touched) s->quiet[s->quiets++] = x->ns;
}

/* A neighbour may leave: samples beside it do not count, so the time is better
 * spent on waiting, but not all of it. */
static void wait_for_core(sampler *s)
{
    const double most = WAITING * s->goal->seconds;
    while (s->probe < CLEAN_SPEED && s->out->waited_s < most) {
        const double begin = now(s);
        s->clock->wait(s->clock->arg, PAUSE_SECONDS);
        s->probe = probe(s);
        s->out->waited_s += now(s) - begin;
    }
}

/* ---- before -------------------------------------------------------------- */

static void forget(sampler *s)
{
    sample_process *out = s->out;
    s->clean = s->quiets = out->count = 0;
    out->steal_ticks = out->involuntary_switches = out->throttled_s = 0;
}

/* Until two calls in a row agree within 5 %: caches, pages, clock and thread
 * pool have settled.  A first call that takes longer than all sampling should
 * is a sample already: what is cold at its start does not matter to it. */
static void warm_up(sampler *s)
{
    s->out->calls = 1;
    s->probe = probe(s);
    take_sample(s);
    double last = 1e-9 * s->out->of[0].ns;
    if (last > s->goal->seconds) return;
    forget(s);
    for (int i = 1; i < WARM_CALLS; i++) {
        if (now(s) - s->start > s->goal->seconds / 4) break;
        const double t = timed(s, 1).seconds;
        const bool settled = fabs(t - last) < 0.05 * last;
        last = t;
        if (settled) break;
    }
}

/* A sample is long enough with what is done between its calls. */
static void calibrate(sampler *s)
{
    int calls = 1;
    while (s->took < SAMPLE_SECONDS && calls < 1 << 24) {
        const double more = 1.1 * SAMPLE_SECONDS / fmax(s->took, 1e-9);
        calls = (int)fmax(calls + 1.0, ceil(calls * fmin(more, 100)));
        timed(s, calls);
    }
    s->out->calls = calls;
}

/* ---- enough? ------------------------------------------------------------- */

/* Clean samples; on a core that stayed slow for all the waiting, those that lost
 * no time: the same choice as clean_take() makes. */
static int counted(const sampler *s, const double **x)
{
    const bool slow = s->clean < CLEAN_LEAST &&
                      s->out->waited_s >= WAITING * s->goal->seconds;
    *x = slow ? s->quiet : s->kept;
    return slow ? s->quiets : s->clean;
}

/* Noise that is independent from sample to sample shrinks by 0.71 when their
 * number doubles.  If it did not even shrink to 0.9 twice in a row, more
 * samples of this process are of no use. */
static bool stopped_shrinking(sampler *s, int n, double width)
{
    if (n < 16 || (n & (n - 1)) || n == s->doubled) return false;
    s->doubled = n;
    if (s->width_before > 0 && width > 0.9 * s->width_before) s->stuck++;
    else s->stuck = 0;
    s->width_before = width;
    return s->stuck >= 2;
}

static const char *enough(sampler *s)
{
    const double seconds = s->goal->seconds, time = now(s);
    const double *x;
    stats_summary state;
    if (s->out->count < CLEAN_LEAST) /* one at least: else nothing was measured */
        return s->out->count && time - s->start > PATIENCE * seconds ? "time" : NULL;
    const int n = counted(s, &x);
    stats_summarise(x, n, &state);
    const double width = stats_half_width(&state);
    if (width <= s->goal->ci &&
        time - s->sampling >= fmin(LEAST_SECONDS, seconds / 2))
        return "ci";
    if (stopped_shrinking(s, n, width)) return "noise";
    if (s->out->count == SAMPLER_SAMPLES)
        return width <= s->goal->ci ? "ci" : "noise";
    return time - s->start > seconds ? "time" : NULL;
}

/* ---- all of it ----------------------------------------------------------- */

void sampler_run(const sampler_source *source, const sampler_clock *clock,
                 const sampler_goal *goal, sample_process *out)
{
    sampler *s = calloc(1, sizeof *s);
    const char *stop;
    *out = (sample_process){
        .of = calloc(SAMPLER_SAMPLES, sizeof *out->of),
        .clock_ratio = NAN,
    };
    if (!s || !out->of) abort();
    s->source = source, s->clock = clock, s->goal = goal, s->out = out;
    s->start = now(s);
    warm_up(s);
    calibrate(s);
    s->sampling = now(s);
    s->probe = probe(s);
    while (!(stop = enough(s))) {
        wait_for_core(s);
        take_sample(s);
    }
    snprintf(out->stop, sizeof out->stop, "%s", stop);
    free(s);
}
