/* measure.c - the measuring core on invented times: warming up, calls in a
 * sample, stopping, waiting for a core, which samples count, pairing, and the row
 * that comes of it; ceilings of several runs; and that probes run. */
#include "test.h"

#include "../harness/ceilings.h"
#include "../harness/clean.h"
#include "../harness/paired.h"
#include "../harness/probe.h"
#include "../harness/ratio.h"
#include "../harness/sampler.h"
#include "../harness/sweep_row.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void near(double x, double want)
{
    if (!(fabs(x - want) <= 1e-9 * (1 + fabs(want))))
        fail_msg("%.12g, expected %.12g", x, want);
}

/* ---- an invented machine -------------------------------------------------------- */

#define PROBE_SECONDS 40e-6

typedef struct world {
    double time;             /* now                                           */
    double call;             /* seconds of a call at full speed               */
    double (*speed)(double time);  /* of the core; NULL: 1                    */
    double (*factor)(int n); /* of the n-th batch of calls; NULL: 1           */
    bool blind;              /* the probe knows nothing                       */
    int batch, calls;        /* batches and calls so far                      */
    int stolen[4];           /* batches that lose 10 ms to another guest      */
    int stopped;             /* batch during which Ctrl-Z lasts 5 s           */
    sampler_losses losses;
} world;

static double speed_of(const world *w)
{
    return w->speed ? w->speed(w->time) : 1;
}

static double call(void *arg, int calls, double *took)
{
    world *w = arg;
    const int n = w->batch++;
    double seconds = calls * w->call / speed_of(w);
    if (w->factor) seconds *= w->factor(n);
    for (int i = 0; i < 4; i++)
        if (n > 0 && w->stolen[i] == n) {
            seconds += 0.01;
            w->losses.steal++;
        }
    if (n > 0 && w->stopped == n) {
        seconds += 5;
        w->losses.stops++;
    }
    w->calls += calls;
    w->time += seconds;
    return *took = seconds;
}

static double probe(void *arg)
{
    world *w = arg;
    w->time += PROBE_SECONDS;
    return w->blind ? NAN : speed_of(w);
}

static sampler_losses losses(void *arg)
{
    const world *w = arg;
    return w->losses;
}

static double now(void *arg)
{
    const world *w = arg;
    return w->time;
}

static void wait_for(void *arg, double seconds)
{
    world *w = arg;
    w->time += seconds;
}

static const sampler_goal usual = { 0.02, 0.5 };

static sample_process run(world *w, const sampler_goal *goal)
{
    const sampler_source source = { call, probe, losses, w };
    const sampler_clock clock = { now, wait_for, w };
    sample_process p;
    sampler_run(&source, &clock, goal, &p);
    snprintf(p.probe_kind, sizeof p.probe_kind, "core");
    return p;
}

static int touched(const sample_process *p)
{
    int n = 0;
    for (int i = 0; i < p->count; i++) n += p->of[i].touched;
    return n;
}

static measurement only(sample_process *p)
{
    return (measurement){ p, 1 };
}

/* ---- sampling ------------------------------------------------------------------- */

/* 1 ms a call: one to warm up, one that agrees, 3 in a sample, which lasts 2 ms
 * at least; narrow at once, but for a tenth of a second: 33 samples of 3.04 ms. */
static void constant(void **state)
{
    (void)state;
    world w = { .call = 1e-3 };
    sample_process p = run(&w, &usual);
    assert_int_equal(p.calls, 3);
    assert_int_equal(p.count, 33);
    assert_string_equal(p.stop, "ci");
    assert_int_equal(touched(&p), 0);
    assert_int_equal(w.calls, 1 + 1 + 3 + 33 * 3);
    near(p.kernel_s, 0.104);
    assert_true(p.waited_s == 0);
    for (int i = 0; i < p.count; i++) {
        near(p.of[i].ns, 1e6);
        assert_true(p.of[i].probe == 1);
    }
    free(p.of);
}

/* A short call: calls grow by a factor of 100 at most, until 2 ms are full. */
static void short_calls(void **state)
{
    (void)state;
    world w = { .call = 1e-7 };
    sample_process p = run(&w, &usual);
    assert_int_equal(p.calls, 22000);
    near(p.of[0].ns, 100);
    free(p.of);
}

static double by_turns(int n)
{
    return n % 2 ? 1.5 : 1;
}

/* Samples that never agree stop when twice as many are no better, twice. */
static void two_speeds(void **state)
{
    (void)state;
    world w = { .call = 3e-3, .factor = by_turns, .blind = true };
    sample_process p = run(&w, &usual);
    measurement m = only(&p);
    clean_samples c;
    assert_int_equal(p.calls, 1);
    assert_int_equal(p.count, 64);
    assert_string_equal(p.stop, "noise");
    clean_take(&m, &c);
    assert_int_equal(c.n, 64);
    near(clean_median(&c, 0), 3.75e6);
    assert_true(isnan(c.probe[0]));
    clean_free(&c);
    free(p.of);
}

static double drifting(int n)
{
    return 1 + 0.01 * n;
}

static void drift(void **state)
{
    (void)state;
    world w = { .call = 3e-3, .factor = drifting };
    sample_process p = run(&w, &usual);
    measurement m = only(&p);
    clean_samples c;
    assert_int_equal(p.count, 64);
    assert_string_equal(p.stop, "noise");
    clean_take(&m, &c);
    /* batches 2 to 6 warm up; those of samples begin at `first` */
    const int first = w.batch - 64;
    near(clean_median(&c, 0), 3e6 * (1 + 0.01 * (first + 31.5)));
    clean_free(&c);
    free(p.of);
}

static double spiking(int n)
{
    return n == 12 ? 50 : 1;
}

/* One sample that nothing explains counts, and the median does not mind. */
static void one_spike(void **state)
{
    (void)state;
    world w = { .call = 3e-3, .factor = spiking };
    sample_process p = run(&w, &usual);
    measurement m = only(&p);
    clean_samples c;
    assert_string_equal(p.stop, "ci");
    /* 3.04 ms each, and 147 ms more: the tenth of a second is over with it */
    assert_int_equal(p.count, 11);
    assert_int_equal(touched(&p), 0);
    clean_take(&m, &c);
    assert_int_equal(c.n, 11);
    near(clean_median(&c, 0), 3e6);
    clean_free(&c);
    free(p.of);
}

static void steal_in_the_middle(void **state)
{
    (void)state;
    world w = { .call = 3e-3, .stolen = { 10, 12 } };
    sample_process p = run(&w, &usual);
    measurement m = only(&p);
    clean_samples c;
    assert_int_equal(touched(&p), 2);
    assert_true(p.of[8].touched && p.of[10].touched); /* after two warm calls */
    near(p.of[8].ns, 13e6);
    near(p.steal_ticks, 2);
    assert_string_equal(p.stop, "ci");
    clean_take(&m, &c);
    assert_int_equal(c.n, p.count - 2);
    assert_int_equal(c.touched, 2);
    assert_false(c.all || c.slowed);
    for (int i = 0; i < c.n; i++) near(c.ns[i], 3e6);
    clean_free(&c);
    free(p.of);
}

/* A tick of 10 ms is less than 1 % of a sample of a second. */
static void steal_of_a_long_sample(void **state)
{
    (void)state;
    world w = { .call = 1.2, .stolen = { 3 } };
    const sampler_goal goal = { 0.02, 2 };
    sample_process p = run(&w, &goal);
    assert_int_equal(touched(&p), 0);
    near(p.steal_ticks, 1);
    free(p.of);
}

static void stopped(void **state)
{
    (void)state;
    world w = { .call = 3e-3, .stopped = 7 }, free_one = { .call = 3e-3 };
    sample_process p = run(&w, &usual), other = run(&free_one, &usual);
    assert_int_equal(p.count, other.count); /* the time does not count either */
    assert_string_equal(p.stop, "ci");
    for (int i = 0; i < p.count; i++) near(p.of[i].ns, 3e6);
    free(p.of);
    free(other.of);
}

/* ---- few samples ---------------------------------------------------------------- */

static void three_samples(void **state)
{
    (void)state;
    static const struct {
        double call;
        int count, calls;
    } cases[] = {
        { 0.4, 3, 4 }, /* one to warm up                                       */
        { 0.6, 3, 3 }, /* longer than all sampling: the first is a sample      */
        { 6.0, 1, 1 }, /* three would take more than ten times as long         */
        { 2.0, 3, 3 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world w = { .call = cases[i].call };
        sample_process p = run(&w, &usual);
        assert_int_equal(p.count, cases[i].count);
        assert_int_equal(w.calls, cases[i].calls);
        assert_string_equal(p.stop, "time");
        free(p.of);
    }
}

/* The time is over before the first: it is taken, or nothing is measured. */
static void one_sample_at_least(void **state)
{
    (void)state;
    const sampler_goal short_goal = { 0.02, 1e-4 };
    world w = { .call = 5e-5 };
    sample_process p = run(&w, &short_goal);
    assert_int_equal(p.count, 1);
    assert_string_equal(p.stop, "time");
    near(p.of[0].ns, 5e4);
    free(p.of);
}

/* A process of these samples. */
static sample_process process_of(int count, const double *ns, const double *speed,
                                 unsigned touched_bits)
{
    sample_process p = { .calls = 1, .count = count, .stop = "time",
                         .probe_kind = "core" };
    p.of = calloc((size_t)count + 1, sizeof *p.of);
    if (!p.of) abort();
    for (int i = 0; i < count; i++)
        p.of[i] = (timed_sample){ ns[i], speed ? speed[i] : NAN,
                                  touched_bits >> i & 1 };
    return p;
}

/* How many are clean decides: 3 are enough, 2 and 1 are not. */
static void three_clean_ones(void **state)
{
    (void)state;
    static const double ns[] = { 1, 2, 3, 10, 20 };
    static const double half[] = { 0.5, 0.5, 0.5, 0.5, 0.5 };
    static const double some[] = { 1, 1, 1, 0.89, 0.5 };
    static const double two[] = { 1, 0.9, 0.89, 0.5, 0.5 };
    static const struct {
        const double *speed;
        unsigned touched;
        int n, left_out;
        double median;
        bool slowed, all;
    } cases[] = {
        { NULL, 0x18, 3, 2, 2, false, false },
        { NULL, 0x1c, 5, 3, 3, false, true },
        { NULL, 0x1e, 5, 4, 3, false, true },
        { NULL, 0x00, 5, 0, 3, false, false },
        { some, 0x00, 3, 2, 2, false, false }, /* a slow core is like steal */
        { two, 0x00, 5, 3, 3, true, false },   /* 0.9 is not slow           */
        { half, 0x00, 5, 5, 3, true, false },
        { half, 0x03, 3, 5, 10, true, false }, /* rather slow than stolen   */
        { half, 0x07, 5, 5, 3, false, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sample_process p = process_of(5, ns, cases[i].speed, cases[i].touched);
        measurement m = only(&p);
        clean_samples c;
        clean_take(&m, &c);
        if (c.n != cases[i].n || c.touched != cases[i].left_out ||
            c.slowed != cases[i].slowed || c.all != cases[i].all)
            fail_msg("case %zu: %d count, %d do not, slowed %d, all %d", i, c.n,
                     c.touched, c.slowed, c.all);
        near(clean_median(&c, 0), cases[i].median);
        clean_free(&c);
        free(p.of);
    }
}

/* ---- a slow core ---------------------------------------------------------------- */

static double slow_at_first(double time)
{
    return time < 0.06 ? 0.5 : 1;
}

/* It waits, and all samples that it takes are clean. */
static void slow_for_a_while(void **state)
{
    (void)state;
    world w = { .call = 3e-3, .speed = slow_at_first };
    sample_process p = run(&w, &usual);
    assert_true(p.waited_s > 0.04 && p.waited_s < 0.06);
    assert_string_equal(p.stop, "ci");
    for (int i = 0; i < p.count; i++) {
        assert_true(clean_is(&p.of[i]));
        near(p.of[i].ns, 3e6);
    }
    assert_true(w.time < usual.seconds);
    free(p.of);
}

static double slow_later(double time)
{
    return time > 0.05 && time < 0.08 ? 0.5 : 1;
}

/* In the middle: the sample that saw both speeds is not clean. */
static void slow_in_the_middle(void **state)
{
    (void)state;
    world w = { .call = 3e-3, .speed = slow_later };
    sample_process p = run(&w, &usual);
    measurement m = only(&p);
    clean_samples c;
    clean_take(&m, &c);
    assert_int_equal(c.touched, 1);
    assert_int_equal(c.slow, 1);
    assert_true(p.waited_s > 0.02 && p.waited_s < 0.04);
    for (int i = 0; i < c.n; i++) near(c.ns[i], 3e6);
    clean_free(&c);
    free(p.of);
}

static double always_half(double time)
{
    (void)time;
    return 0.5;
}

/* A quarter of the time is waited, not more; then what it gets counts, and says
 * how slow the core was. */
static void slow_for_ever(void **state)
{
    (void)state;
    world w = { .call = 3e-3, .speed = always_half };
    sample_process p = run(&w, &usual);
    measurement m = only(&p);
    clean_samples c;
    paired pair;
    assert_true(p.waited_s >= 0.125 && p.waited_s < 0.135);
    assert_string_equal(p.stop, "ci");
    assert_int_equal(p.count, 6); /* as few as have an interval */
    assert_true(w.time < usual.seconds);
    clean_take(&m, &c);
    assert_true(c.slowed && !c.all);
    near(clean_median(&c, 0), 6e6);
    assert_true(paired_take(&m, NULL, &pair));
    near(pair.speed, 0.5);
    near(pair.ns.median, 3e6);
    clean_free(&c);
    free(p.of);
}

/* ---- the row -------------------------------------------------------------------- */

/* A case whose definition has 1000 multiply-adds, below a peak of 2 flop/ns: 1000
 * ns at least. */
static json *row_of(measurement *m, const char *probe)
{
    static const char env_text[] =
        "{\"roofline\":{\"cache_bytes\":{\"L1\":32768},\"ceilings\":[{"
        "\"level\":\"base\",\"threads\":1,\"fma_flop_per_s\":2e9,"
        "\"exp_per_s\":1e12,"
        "\"bandwidth_bytes_per_s\":{\"L1\":{\"read\":1e12,\"copy\":1e12}},"
        "\"probe\":{\"core\":1.6e9}}]}}";
    static const char first_text[] =
        "{\"flop\":{\"mul_add\":1000,\"add\":0,\"mul\":0,\"div\":0,\"exp\":0},"
        "\"bytes\":{\"inputs\":64,\"parameters\":0,\"compulsory\":64}}";
    error e;
    const att_entry *entry;
    sweep_env env = { 0 };
    sweep_outcome o = { .status = "ok" };
    spread_prior prior;
    sweep_case c = { .threads = 1, .settings = { .ci = 0.02, .processes = 2 } };
    att_entries(&entry);
    c.entry = entry[0];
    c.entry.level = ATT_BASE;
    env.row = json_parse(env_text, strlen(env_text), "env", &e);
    o.first = json_parse(first_text, strlen(first_text), "first", &e);
    assert_non_null(env.row);
    assert_non_null(o.first);
    for (int p = 0; p < m->processes; p++)
        snprintf(m->process[p].probe_kind, sizeof m->process[p].probe_kind, "%s",
                 probe);
    o.samples = measurement_write(m);
    sweep_units(m, &o.units);
    spread_pool(NULL, 0, &prior);
    json *row = sweep_row(&c, &env, &o, &prior);
    json_free(o.first);
    json_free(o.samples);
    json_free(env.row);
    return row;
}

static double number(const json *row, const char *group, const char *key)
{
    return json_number(json_get(json_get(row, group), key), NAN);
}

/* Two processes of ten samples around 2000 ns and so long at speed 1. */
static measurement two_processes(double first, double second, const double *speed)
{
    measurement m = { calloc(2, sizeof *m.process), 2 };
    if (!m.process) abort();
    for (int p = 0; p < 2; p++) {
        double ns[10], beside[10];
        for (int i = 0; i < 10; i++) {
            beside[i] = speed[p];
            ns[i] = (p ? second : first) * (1 + 0.001 * (i - 4.5)) / speed[p];
        }
        m.process[p] = process_of(10, ns, beside, 0);
        m.process[p].pass = p;
    }
    return m;
}

static void below_the_roofline(void **state)
{
    (void)state;
    static const double full[] = { 1, 1 };
    measurement m = two_processes(2000, 2000, full);
    json *row = row_of(&m, "core");
    near(number(row, "time_ns", "median"), 2000);
    near(number(row, "roofline", "fraction"), 0.5);
    near(number(row, "roofline", "attainable_gflops"), 2);
    near(number(row, "paired", "fraction"), 0.5);
    near(number(row, "paired", "speed"), 1);
    near(number(row, "paired", "rate_per_s"), 1.6e9);
    near(number(row, "paired", "n"), 20);
    assert_string_equal(json_text(json_get(json_get(row, "paired"), "kind")),
                        "core");
    assert_true(number(row, "paired", "lo") < 0.5);
    assert_true(number(row, "paired", "hi") > 0.5);
    json_free(row);
    measurement_free(&m);
}

/* A sample that lost time may be the fastest all the same: so fast the case can be. */
static void fastest_ever(void **state)
{
    (void)state;
    static const double full[] = { 1, 1 };
    measurement m = two_processes(2000, 2000, full);
    m.process[0].of[3].ns = 1500;
    m.process[0].of[3].touched = true;
    json *row = row_of(&m, "core");
    near(number(row, "time_ns", "min"), 1500);
    near(number(row, "time_ns", "n"), 19);
    assert_true(number(row, "time_ns", "lo") >= 1500);
    json_free(row);
    measurement_free(&m);
}

/* All of one process beside a core of half the speed: its samples do not count,
 * pairing gives what the undisturbed process gives. */
static void half_the_speed(void **state)
{
    (void)state;
    static const double one_slow[] = { 1, 0.5 }, both_slow[] = { 0.5, 0.5 };
    measurement m = two_processes(2000, 2000, one_slow);
    json *row = row_of(&m, "core");
    near(number(row, "time_ns", "median"), 2000);
    near(number(row, "time_ns", "n"), 10);
    near(number(row, "time_ns", "touched"), 10);
    near(number(row, "paired", "fraction"), 0.5);
    near(number(row, "paired", "speed"), 0.75);
    near(number(row, "paired", "n"), 10); /* the smaller the correction ... */
    json_free(row);
    measurement_free(&m);

    m = two_processes(2000, 2000, both_slow);
    row = row_of(&m, "core");
    near(number(row, "time_ns", "median"), 4000);
    near(number(row, "roofline", "fraction"), 0.25);
    near(number(row, "paired", "fraction"), 0.5);
    assert_true(json_is_false(json_get(json_get(row, "time_ns"), "unreliable")));
    const char *why = json_text(json_get(json_get(row, "time_ns"), "reason"));
    assert_true(why && strstr(why, "50 % of its speed"));
    json_free(row);
    measurement_free(&m);
}

/* The interval holds both. */
static void processes_disagree(void **state)
{
    (void)state;
    static const double full[] = { 1, 1 };
    measurement m = two_processes(2000, 2040, full);
    json *row = row_of(&m, "core");
    assert_true(number(row, "time_ns", "lo") < 2000);
    assert_true(number(row, "time_ns", "hi") > 2040);
    assert_true(number(row, "paired", "lo") < 1000.0 / 2040);
    assert_true(number(row, "paired", "hi") > 1000.0 / 2000);
    assert_string_equal(json_text(json_get(json_get(row, "time_ns"), "stop")),
                        "time");
    json_free(row);
    measurement_free(&m);
    /* so much that there is no interval, and why is told */
    m = two_processes(2000, 2400, full);
    row = row_of(&m, "core");
    assert_true(isnan(number(row, "time_ns", "lo")));
    assert_true(json_true(json_get(json_get(row, "time_ns"), "unreliable")));
    assert_non_null(strstr(json_text(json_get(json_get(row, "time_ns"), "reason")),
                           "processes differ so much"));
    json_free(row);
    measurement_free(&m);
}

/* A probe that is not known, or of two kinds: wall time alone. */
static void no_probe(void **state)
{
    (void)state;
    static const double nothing[] = { NAN, NAN };
    static const double full[] = { 1, 1 };
    measurement m = two_processes(2000, 2000, full);
    for (int p = 0; p < 2; p++)
        for (int i = 0; i < 10; i++) m.process[p].of[i].probe = nothing[p];
    json *row = row_of(&m, "core");
    near(number(row, "time_ns", "median"), 2000);
    near(number(row, "time_ns", "n"), 20);
    near(number(row, "roofline", "fraction"), 0.5);
    assert_true(isnan(number(row, "paired", "fraction")));
    assert_true(isnan(number(row, "paired", "speed")));
    near(number(row, "paired", "n"), 0);
    json_free(row);
    measurement_free(&m);

    paired pair;
    m = two_processes(2000, 2000, full);
    snprintf(m.process[1].probe_kind, sizeof m.process[1].probe_kind, "L2");
    assert_false(paired_take(&m, NULL, &pair));
    measurement_free(&m);
}

/* What disturbed the processes adds up; of their clocks the slowest counts. */
static void noise_of_all(void **state)
{
    (void)state;
    static const double full[] = { 1, 1 };
    measurement m = two_processes(2000, 2000, full);
    for (int p = 0; p < 2; p++) {
        m.process[p].steal_ticks = 1 + p;
        m.process[p].involuntary_switches = 10 + p;
        m.process[p].throttled_s = 0.25 * (1 + p);
        m.process[p].clock_ratio = p ? 0.8 : 0.9;
    }
    json *row = row_of(&m, "tile");
    near(number(row, "noise", "steal_ticks"), 3);
    near(number(row, "noise", "involuntary_switches"), 21);
    near(number(row, "noise", "throttled_s"), 0.75);
    near(number(row, "noise", "clock_ratio"), 0.8);
    json_free(row);
    measurement_free(&m);
}

/* A comparison where one side had a slow core: times as on an undisturbed one,
 * times what the calibrations differ by. */
static void compared_on_one_core(void **state)
{
    (void)state;
    static const double full[] = { 1, 1 }, half[] = { 0.5, 0.5 };
    static ratio_samples a, b;
    measurement m = two_processes(2000, 2000, full);
    measurement slow = two_processes(2000, 2000, half);
    for (int p = 0; p < 2; p++)
        snprintf(slow.process[p].probe_kind, sizeof slow.process[p].probe_kind,
                 "%s", m.process[p].probe_kind);
    assert_true(ratio_samples_paired(&m, 1, &a));
    assert_true(ratio_samples_paired(&slow, 1.25, &b));
    assert_int_equal(a.count, 20);
    assert_int_equal(b.processes, 2);
    for (int i = 0; i < 20; i++) near(b.ns[i] / a.ns[i], 1.25);
    ratio_samples_of(&slow, &b); /* the wall time is what it was */
    for (int i = 0; i < 20; i++) near(b.ns[i] / a.ns[i], 2);
    assert_false(ratio_samples_paired(&m, NAN, &a));
    snprintf(m.process[0].probe_kind, sizeof m.process[0].probe_kind, "L3");
    assert_false(ratio_samples_paired(&m, 1, &a));
    measurement_free(&m);
    measurement_free(&slow);
}

/* ---- ceilings of several runs ---------------------------------------------------- */

static json *parsed(const char *text)
{
    error e;
    json *j = json_parse(text, strlen(text), "text", &e);
    if (!j) fail_msg("%s", e.text);
    return j;
}

/* Rate by rate the higher one; what only one of them has stays. */
static void best_ceilings(void **state)
{
    (void)state;
    json *now_measured = parsed(
        "{\"seconds\":3,\"runs\":1,\"ceilings\":["
        "{\"level\":\"v3\",\"threads\":1,\"fma_flop_per_s\":10,"
        "\"bandwidth_bytes_per_s\":{\"L1\":{\"read\":5},\"L3\":null},"
        "\"probe\":{\"core\":7,\"L2\":null}}]}");
    json *before = parsed(
        "{\"seconds\":9,\"runs\":4,\"ceilings\":["
        "{\"level\":\"v3\",\"threads\":2,\"fma_flop_per_s\":99},"
        "{\"level\":\"v3\",\"threads\":1,\"fma_flop_per_s\":8,"
        "\"bandwidth_bytes_per_s\":{\"L1\":{\"read\":6},\"L3\":null},"
        "\"probe\":{\"core\":8,\"L2\":3}}]}");
    ceilings_raise(now_measured, before);
    char *text = json_print(now_measured, false);
    assert_string_equal(
        text,
        "{\"seconds\":3,\"runs\":5,\"ceilings\":["
        "{\"level\":\"v3\",\"threads\":1,\"fma_flop_per_s\":10,"
        "\"bandwidth_bytes_per_s\":{\"L1\":{\"read\":6},\"L3\":null},"
        "\"probe\":{\"core\":8,\"L2\":3}},"
        "{\"level\":\"v3\",\"threads\":2,\"fma_flop_per_s\":99}]}");
    free(text);
    json_free(now_measured);
    json_free(before);
}

/* ---- the loops themselves -------------------------------------------------------- */

/* Every probe of every level here runs and tells a rate, also of two threads that
 * share a processor; a level that is not here has none. */
static void probes_run(void **state)
{
    (void)state;
    static const int threads[] = { 1, 2 };
    for (int level = 0; level < ATT_LEVELS; level++)
        for (int kind = 0; kind < PROBE_KINDS; kind++) {
            core_probe *p = probe_make((enum probe_kind)kind,
                                       (enum att_level)level, 1 + kind % 2);
            if (!p) continue;
            const double rate = probe_rate(p);
            assert_true(isfinite(rate) && rate > 0);
            assert_string_equal(probe_name(p),
                                probe_word((enum probe_kind)kind));
            probe_free(p);
        }
    for (int level = (int)att_level_cpu() + 1; level < ATT_LEVELS; level++)
        assert_null(probe_make(PROBE_CORE, (enum att_level)level, 1));

    probe_bench *b = probe_bench_make(threads, 2);
    probe_bench_round(b);
    json *rates = probe_bench_rates(b, att_level_best(), 2);
    assert_true(json_number(json_get(rates, "core"), NAN) > 0);
    json_free(rates);
    probe_bench_free(b);
}

/* What bounds a case chooses its probe. */
static void probe_of_a_bound(void **state)
{
    (void)state;
    static const char *const bounds[][2] = {
        { "compute", "core" }, { "L1", "core" },     { "L2", "L2" },
        { "L3", "L3" },        { "memory", "memory" },
    };
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        assert_string_equal(probe_word(probe_for(bounds[i][0])), bounds[i][1]);
}

/* ---- the journal ---------------------------------------------------------------- */

static measurement read_text(const char *text)
{
    error e;
    measurement m;
    json *j = json_parse(text, strlen(text), "samples", &e);
    if (!j) fail_msg("%s", e.text);
    measurement_read(j, &m);
    json_free(j);
    return m;
}

static void as_written(void **state)
{
    (void)state;
    static const char text[] =
        "[{\"pass\":2,\"calls\":7,\"ns\":[1.5,2,3],\"probe\":[1,null,0.5],"
        "\"touched\":[1],\"probe_kind\":\"L2\",\"stop\":\"ci\",\"kernel_s\":0.25,"
        "\"steal_ticks\":1,\"involuntary_switches\":2,\"throttled_s\":0,"
        "\"waited_s\":0.125,\"clock_ratio\":0.5}]";
    measurement m = read_text(text);
    const sample_process *p = m.process;
    assert_int_equal(m.processes, 1);
    assert_int_equal(p->pass, 2);
    assert_int_equal(p->count, 3);
    assert_true(p->of[0].ns == 1.5 && p->of[0].probe == 1 && !p->of[0].touched);
    assert_true(isnan(p->of[1].probe) && p->of[1].touched);
    assert_true(p->of[2].probe == 0.5);
    json *j = measurement_write(&m);
    char *again = json_print(j, false);
    assert_string_equal(again, text);
    free(again);
    json_free(j);
    measurement_free(&m);
}

/* Rows of before passes and probes: their processes were rounds; joined with new
 * ones, each says what it knows. */
static void of_before_probes(void **state)
{
    (void)state;
    static const char text[] =
        "[{\"calls\":1,\"ns\":[4,5,6],\"touched\":[]},"
        "{\"calls\":1,\"ns\":[7,8,9],\"touched\":[7,-1,2]},"
        "{\"pass\":5,\"calls\":1,\"ns\":[5,5,5,5],\"probe\":[1,1,0.5],"
        "\"touched\":[],\"probe_kind\":\"core\"}]";
    measurement m = read_text(text);
    clean_samples c;
    assert_int_equal(m.process[0].pass, 0);
    assert_int_equal(m.process[1].pass, 1);
    assert_int_equal(m.process[2].pass, 5);
    assert_true(isnan(m.process[0].of[0].probe));
    assert_true(isnan(m.process[0].kernel_s));
    assert_string_equal(m.process[0].probe_kind, "");
    assert_true(m.process[1].of[2].touched);
    assert_false(m.process[1].of[0].touched);
    assert_true(isnan(m.process[2].of[3].probe)); /* a list that is too short */
    clean_take(&m, &c);
    assert_int_equal(c.n, 3 + 2 + 3);
    assert_int_equal(c.touched, 2);
    assert_int_equal(c.slow, 1);
    assert_int_equal(c.pass[2], 5);
    clean_free(&c);
    clean_take_paired(&m, &c); /* at whatever speed: 5, 5, 5 * 0.5 */
    assert_int_equal(c.n, 3);
    assert_true(c.ns[0] == 5 && c.ns[1] == 5 && c.ns[2] == 2.5);
    assert_int_equal(c.count[0], 0);
    clean_free(&c);
    measurement_free(&m);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constant),
        cmocka_unit_test(short_calls),
        cmocka_unit_test(two_speeds),
        cmocka_unit_test(drift),
        cmocka_unit_test(one_spike),
        cmocka_unit_test(steal_in_the_middle),
        cmocka_unit_test(steal_of_a_long_sample),
        cmocka_unit_test(stopped),
        cmocka_unit_test(three_samples),
        cmocka_unit_test(one_sample_at_least),
        cmocka_unit_test(three_clean_ones),
        cmocka_unit_test(slow_for_a_while),
        cmocka_unit_test(slow_in_the_middle),
        cmocka_unit_test(slow_for_ever),
        cmocka_unit_test(below_the_roofline),
        cmocka_unit_test(fastest_ever),
        cmocka_unit_test(half_the_speed),
        cmocka_unit_test(processes_disagree),
        cmocka_unit_test(no_probe),
        cmocka_unit_test(noise_of_all),
        cmocka_unit_test(compared_on_one_core),
        cmocka_unit_test(best_ceilings),
        cmocka_unit_test(probes_run),
        cmocka_unit_test(probe_of_a_bound),
        cmocka_unit_test(as_written),
        cmocka_unit_test(of_before_probes),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests_name("measure", tests, NULL, NULL);
}
