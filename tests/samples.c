/* samples.c - which samples count and what spoils one, case by case.  (harness/clean.h,
 * sampler.h; sampling as a whole is tried in measure.c)
 */
#include "test.h"

#include "../harness/clean.h"
#include "../harness/sampler.h"
#include "../harness/stats.h"

#include <math.h>
#include <stdlib.h>

static void near(double x, double want)
{
    if (!(fabs(x - want) <= 1e-9 * (1 + fabs(want))))
        fail_msg("%.12g, expected %.12g", x, want);
}

/* Speeds of 1 but for sample 1, which is touched, and 3, beside a slow core; 4 is none;
 * of 5 the speed is not known. */
static void rules(void **state)
{
    (void)state;
    timed_sample first[6] = { { 10, 1, false }, { 90, 1, true },    { 11, 1, false },
                              { 20, .5, false }, { NAN, 1, false }, { 12, NAN, false } };
    timed_sample second[2] = { { 30, 1, false }, { 32, 1, false } };
    sample_process process[2] = { { .count = 6, .of = first, .pass = 4 },
                                  { .count = 2, .of = second, .pass = 7 } };
    const measurement m = { process, 2 };
    clean_samples c;
    clean_take(&m, &c);
    assert_int_equal(c.n, 5);
    assert_true(c.count[0] == 3 && c.count[1] == 2 && c.processes == 2);
    assert_true(c.touched == 2 && c.slow == 1 && !c.all && !c.slowed);
    assert_true(c.ns[0] == 10 && c.ns[1] == 11 && c.ns[2] == 12 && c.ns[4] == 32);
    assert_true(c.pass[0] == 4 && c.pass[1] == 7);
    near(clean_median(&c, 0), 11);
    near(clean_median(&c, 1), 31);
    clean_free(&c);
    clean_take_paired(&m, &c);
    assert_int_equal(c.n, 5); /* of known speed; 20 at half of it is 10 */
    assert_true(c.count[0] == 3 && c.ns[2] == 10 && c.probe[2] == .5 && !c.all);
    clean_free(&c);
    for (int i = 2; i < 4; i++) first[i].touched = true;
    second[0].touched = true;
    first[5].touched = true; /* 10 and 32 are left: all count */
    clean_take(&m, &c);
    assert_true(c.n == 7 && c.all && c.touched == 5);
    clean_free(&c);
}

/* The limit of speed is CLEAN_SPEED itself. */
static void speeds(void **state)
{
    (void)state;
    assert_true(clean_is(&(timed_sample){ 10, CLEAN_SPEED, false }));
    assert_false(clean_is(&(timed_sample){ 10, CLEAN_SPEED - 1e-6, false }));
    assert_false(clean_is(&(timed_sample){ 10, 1, true }));
    assert_true(clean_is(&(timed_sample){ 10, NAN, false }));
    assert_false(clean_is(&(timed_sample){ 0, 1, false }));
    assert_false(clean_is(&(timed_sample){ INFINITY, 1, false }));
}

/* Outside the smallest and the largest of 8 the median lies with 2 / 2^8, outside the
 * second ones with 18 / 2^8; of 9 these have 20 / 2^9, which is less than 5 %. */
static void ranks_of_intervals(void **state)
{
    (void)state;
    const double x[12] = { 7, 2, 9, 4, 1, 8, 5, 3, 6, 12, 10, 11 };
    stats_summary s;
    stats_summarise((const double[]){ 7, 2, 4, 1, 8, 5, 3, 6 }, 8, &s);
    assert_true(s.lo == 1 && s.hi == 8 && s.median == 4.5 && s.mad == 2);
    near(stats_half_width(&s), 3.5 / 4.5);
    stats_summarise(x, 9, &s);
    assert_true(s.lo == 2 && s.hi == 8 && s.median == 5 && s.mad == 2);
    stats_summarise(x, 12, &s);
    assert_true(s.lo == 3 && s.hi == 10 && s.median == 6.5 && s.mad == 3);
    stats_summarise(x, 5, &s);
    assert_true(isnan(s.lo) && isinf(stats_half_width(&s)));
}

/* ---- what spoils a sample ------------------------------------------------------- */

/* Calls of that many seconds; during each so much is lost. */
typedef struct world {
    double call, time;
    sampler_losses each, so_far;
    double speed[2]; /* of the core, in turns                                    */
    int probes;
} world;

static double call(void *arg, int calls, double *took)
{
    world *w = arg;
    const double seconds = calls * w->call;
    w->time += *took = seconds;
    w->so_far.steal += w->each.steal;
    w->so_far.switches += w->each.switches;
    w->so_far.throttled += w->each.throttled;
    return seconds;
}

static double probe(void *arg)
{
    world *w = arg;
    return w->speed[w->probes++ % 2];
}

static sampler_losses losses(void *arg)
{
    return ((world *)arg)->so_far;
}

static double now(void *arg)
{
    return ((world *)arg)->time;
}

static void pass_time(void *arg, double seconds)
{
    ((world *)arg)->time += seconds;
}

static sample_process sampled(world *w)
{
    const sampler_source source = { call, probe, losses, w };
    const sampler_clock clock = { now, pass_time, w };
    const sampler_goal goal = { .ci = 0.02, .seconds = 3 };
    sample_process p;
    if (w->speed[0] == 0) w->speed[0] = w->speed[1] = 1;
    sampler_run(&source, &clock, &goal, &p);
    return p;
}

static bool spoils(double call_seconds, sampler_losses each)
{
    world w = { .call = call_seconds, .each = each };
    sample_process p = sampled(&w);
    assert_true(p.count >= 3);
    const bool touched = p.of[p.count - 1].touched;
    near(p.steal_ticks, p.count * each.steal);
    near(p.involuntary_switches, p.count * each.switches);
    near(p.throttled_s, p.count * each.throttled);
    free(p.of);
    return touched;
}

/* About 1 % of a sample: a tick of steal is 10 ms, another process has the core for
 * 3 ms. */
static void what_spoils(void **state)
{
    (void)state;
    assert_false(spoils(.005, (sampler_losses){ 0 }));
    assert_true(spoils(.005, (sampler_losses){ .steal = 1 }));
    assert_true(spoils(.9, (sampler_losses){ .steal = 1 }));
    assert_false(spoils(1.1, (sampler_losses){ .steal = 1 }));
    assert_true(spoils(1.1, (sampler_losses){ .steal = 2 }));
    assert_true(spoils(.005, (sampler_losses){ .switches = 1 }));
    assert_true(spoils(.25, (sampler_losses){ .switches = 1 }));
    assert_false(spoils(.35, (sampler_losses){ .switches = 1 }));
    assert_true(spoils(.35, (sampler_losses){ .switches = 2 }));
    assert_true(spoils(.1, (sampler_losses){ .throttled = .0011 }));
    assert_false(spoils(.1, (sampler_losses){ .throttled = .0009 }));
}

/* Half of the time at speed 1, half at .8: times 1 and 1.25 are 1.125 on average. */
static void speed_beside_a_sample(void **state)
{
    (void)state;
    world w = { .call = .005, .speed = { 1, .8 } };
    sample_process p = sampled(&w);
    for (int i = 0; i < p.count; i++) near(p.of[i].probe, 1 / 1.125);
    near(p.of[0].ns, 5e6);
    free(p.of);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules),
        cmocka_unit_test(speeds),
        cmocka_unit_test(ranks_of_intervals),
        cmocka_unit_test(what_spoils),
        cmocka_unit_test(speed_beside_a_sample),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests_name("samples", tests, NULL, NULL);
}
