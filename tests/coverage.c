/* coverage.c - whether intervals cover and comparisons find what they say: on
 * invented times, of which the truth is known.
 *
 * A run has many cases, a case processes in passes, a process samples.  With
 * COVERAGE=full in the environment 10 000 cases for each number in the tables,
 * else fewer.
 */
#include "test.h"

#include "../harness/ratio.h"
#include "../harness/spread.h"
#include "../harness/stats.h"
#include "../kernels/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CASES = 50, SAMPLES = 15, MOST = 10, PASSES = 3 };

static bool full(void)
{
    const char *how = getenv("COVERAGE");
    return how && !strcmp(how, "full");
}

/* ---- worlds -------------------------------------------------------------------- */

/* How ln time comes about. */
enum world { NORMAL, SKEWED, TWO_SPEEDS, DRIFT, WORLDS };
static const char *const world_name[] = { "normal", "skewed", "two speeds",
                                          "drift" };

/* Of a case: how much its processes differ, itself unlike from case to case. */
static double noise_of_case(enum world w, uint64_t *seed)
{
    static const double typical[] = { 0.02, 0.03, 0.012, 0.012 };
    return typical[w] * exp(0.4 * att_normal(seed));
}

static double exponential(uint64_t *seed)
{
    return -log(1 - att_uniform(seed));
}

/* ln of the median of one process's samples, around 0.  move: of its pass. */
static double process(enum world w, double noise, double move, uint64_t *seed)
{
    double x[SAMPLES];
    stats_summary all;
    double shift = move;
    shift += w == SKEWED ? noise * exponential(seed)
                         : noise * att_normal(seed);
    bool slow = w == TWO_SPEEDS && att_uniform(seed) < 0.5;
    for (int i = 0; i < SAMPLES; i++) {
        /* a neighbour comes and goes, and costs 10 % */
        if (w == TWO_SPEEDS && att_uniform(seed) < 0.15) slow = !slow;
        x[i] = shift + (slow ? 0.1 : 0) +
               (w == SKEWED ? 0.02 * exponential(seed)
                            : 0.02 * att_normal(seed));
        x[i] = exp(x[i]);
    }
    stats_summarise(x, SAMPLES, &all);
    return log(all.median);
}

/* What a case's time is: the mean over all processes that there could be. */
static double truth_of(enum world w, double noise)
{
    static double known[WORLDS];
    static bool is_known[WORLDS];
    enum { MANY = 200000 };
    uint64_t seed = 5;
    if (w == SKEWED || w == TWO_SPEEDS) {
        for (int i = 0; i < MANY && !is_known[w]; i++)
            known[w] += process(w, 0, 0, &seed) / MANY;
        is_known[w] = true;
    }
    return known[w] + (w == SKEWED ? noise : 0);
}

typedef struct world_run {
    spread of[CASES];
    double truth[CASES];
} world_run;

/* A run of that many processes in passes; all cases move alike from pass to pass
 * in a world that drifts, and each a little more by itself. */
static void simulate(enum world w, int processes, world_run *r, uint64_t *seed)
{
    const int passes = processes < PASSES ? processes : PASSES;
    double move[PASSES], ln[MOST];
    int pass[MOST];
    for (int p = 0; p < passes; p++)
        move[p] = w == DRIFT ? 0.01 * att_normal(seed) : 0;
    for (int i = 0; i < CASES; i++) {
        const double noise = noise_of_case(w, seed);
        double own[PASSES];
        for (int p = 0; p < passes; p++)
            own[p] = w == DRIFT ? noise * att_normal(seed) : 0;
        for (int k = 0; k < processes; k++) {
            pass[k] = k * passes / processes;
            ln[k] = process(w, noise, move[pass[k]] + own[pass[k]], seed);
        }
        spread_of(ln, pass, processes, &r->of[i]);
        r->truth[i] = truth_of(w, noise);
    }
}

static void pool_of(const world_run *r, spread_prior *prior)
{
    const spread *all[CASES];
    for (int i = 0; i < CASES; i++) all[i] = &r->of[i];
    spread_pool(all, CASES, prior);
}

/* The units as samples of 1 ms, less what `centre` says. */
static void samples_of(const spread *s, double centre, ratio_samples *out)
{
    out->count = out->processes = 0;
    for (int k = 0; k < s->units; k++) {
        out->pass[k] = k;
        out->per_process[out->processes++] = 1;
        out->ns[out->count++] = 1e6 * exp(s->unit[k] - centre);
    }
}

/* ---- coverage --------------------------------------------------------------------- */

typedef struct covered {
    int n, hit, alone, wide; /* `alone`: without the other cases             */
    double width;            /* mean of ln hi/lo                            */
} covered;

static covered cover(enum world w, int processes, int runs)
{
    covered c = { 0 };
    uint64_t seed = 1000 * (uint64_t)processes + w;
    for (int run = 0; run < runs; run++) {
        static world_run r;
        spread_prior prior;
        simulate(w, processes, &r, &seed);
        pool_of(&r, &prior);
        for (int i = 0; i < CASES; i++) {
            spread_interval x, own;
            spread_estimate(&r.of[i], &prior, 0.05, &x);
            spread_estimate(&r.of[i], NULL, 0.05, &own);
            c.n++;
            c.hit += x.lo <= r.truth[i] && r.truth[i] <= x.hi;
            c.alone += own.lo <= r.truth[i] && r.truth[i] <= own.hi;
            c.wide += x.hi - x.lo > log(1.5);
            c.width += x.hi - x.lo;
        }
    }
    c.width /= c.n;
    return c;
}

static void intervals_cover(void **state)
{
    (void)state;
    static const int processes[] = { 2, 3, 5, 10 };
    const int runs = full() ? 10000 / CASES : 40;
    printf("    95 %% intervals, %d cases each, runs of %d cases\n", runs * CASES,
           CASES);
    printf("    %-11s %9s %9s %11s %9s %8s\n", "world", "processes", "cover %",
           "alone %", "width %", "> 1.5 %");
    for (int w = 0; w < WORLDS; w++)
        for (int k = 0; k < 4; k++) {
            const covered c = cover((enum world)w, processes[k], runs);
            const double share = 100.0 * c.hit / c.n;
            printf("    %-11s %9d %9.1f %11.1f %9.1f %8.1f\n", world_name[w],
                   processes[k], share, 100.0 * c.alone / c.n, 100 * c.width,
                   100.0 * c.wide / c.n);
            if (share < 93 || share > 98)
                fail_msg("%s, %d processes: %.1f %% of 95 %% intervals cover",
                         world_name[w], processes[k], share);
        }
}

/* ---- ratios ------------------------------------------------------------------------ */

/* Two runs of the same cases, the second slower by `effect`; part of the ratios
 * whose interval leaves 1 out on the right side. */
static double differing(enum world w, int processes, double effect, int runs,
                        double *wrong)
{
    uint64_t seed = 77 + 1000 * (uint64_t)processes + w;
    int n = 0, above = 0, below = 0;
    for (int run = 0; run < runs; run++) {
        static world_run a, b;
        static ratio_samples x, y;
        spread_prior prior[2];
        simulate(w, processes, &a, &seed);
        simulate(w, processes, &b, &seed);
        pool_of(&a, &prior[0]);
        pool_of(&b, &prior[1]);
        for (int i = 0; i < CASES; i++) {
            ratio r;
            samples_of(&a.of[i], a.truth[i], &x);
            samples_of(&b.of[i], b.truth[i] - log1p(effect), &y);
            ratio_make(&r, &x, &prior[0], &y, &prior[1], 0.05);
            n++;
            above += r.lo > 1;
            below += r.hi < 1;
        }
    }
    *wrong = 100.0 * below / n;
    return 100.0 * above / n;
}

static void ratios_tell(void **state)
{
    (void)state;
    static const int processes[] = { 2, 3, 5, 10 };
    const int runs = full() ? 10000 / CASES : 20;
    printf("    ratios of %d cases of two runs: intervals without 1\n",
           runs * CASES);
    printf("    %-11s %9s %14s %10s %10s\n", "world", "processes",
           "false alarms %", "3 % found", "10 % found");
    for (int w = 0; w < WORLDS; w++)
        for (int k = 0; k < 4; k++) {
            double wrong, no, found[3];
            found[0] = differing((enum world)w, processes[k], 0, runs, &no);
            found[1] = differing((enum world)w, processes[k], 0.03, runs, &wrong);
            found[2] = differing((enum world)w, processes[k], 0.10, runs, &wrong);
            printf("    %-11s %9d %14.1f %10.1f %10.1f\n", world_name[w],
                   processes[k], found[0] + no, found[1], found[2]);
            /* times at two speeds lie on a few values, and so do means of two */
            const bool few = w == TWO_SPEEDS && processes[k] == 2;
            if (found[0] + no > (few ? 9 : 7))
                fail_msg("%s, %d processes: %.1f %% false alarms", world_name[w],
                         processes[k], found[0] + no);
            if (processes[k] == 10 && w != TWO_SPEEDS && found[2] < 80)
                fail_msg("%s, 10 processes: a slow-down of 10 %% is found in "
                         "%.1f %%", world_name[w], found[2]);
        }
}

/* ---- the parts --------------------------------------------------------------------- */

static void near(double x, double want, double tolerance)
{
    if (!(fabs(x - want) <= tolerance))
        fail_msg("%.12g, expected %.12g", x, want);
}

/* Passes are units where there are several, processes where there is one. */
static void units_are_passes(void **state)
{
    (void)state;
    const double ln[6] = { 1, 3, NAN, 5, 6, 7 };
    const int pass[6] = { 0, 0, 1, 1, 2, 2 }, one[6] = { 0 }, gone[2] = { 0, 1 };
    spread s;
    spread_of(ln, pass, 6, &s);
    assert_int_equal(s.units, 3);
    near(s.unit[0], 2, 1e-12);
    near(s.unit[1], 5, 1e-12);
    near(s.unit[2], 6.5, 1e-12);
    near(spread_centre(&s), 4.5, 1e-12);
    spread_of(ln, one, 6, &s);
    assert_int_equal(s.units, 5);
    spread_of(ln, NULL, 6, &s);
    assert_int_equal(s.units, 5);
    spread_of((const double[]){ NAN, 4 }, gone, 2, &s);
    assert_int_equal(s.units, 1);
    spread_of(ln, pass, 0, &s);
    assert_int_equal(s.units, 0);
    assert_true(isnan(spread_centre(&s)));
}

/* Nothing known of other cases: Student's t by hand.  Known: Smyth's. */
static void intervals_by_hand(void **state)
{
    (void)state;
    const spread s = { .unit = { 1, 2, 3 }, .units = 3 };
    const spread_prior prior = { .variance = 4, .freedom = 6, .widening = 1.5 };
    const spread_prior alike = { .variance = 4, .freedom = INFINITY,
                                 .widening = 1 };
    const spread_prior moved = { .widening = 1, .shared = 3, .shared_freedom = 2,
                                 .move = { -1, 0, 0.5 }, .moves = 3 };
    spread_interval x;
    spread_estimate(&s, NULL, 0.05, &x);
    near(x.centre, 2, 1e-12);
    near(x.hi - x.centre, stats_student(2) / sqrt(3), 1e-12);
    near(x.centre - x.lo, stats_student(2) / sqrt(3), 1e-12);
    spread_estimate(&s, &prior, 0.05, &x);
    near(x.own, 2.25 * (6 * 4 + 2 * 1) / 8.0 / 3, 1e-12);
    near(x.hi - x.centre, stats_student(8) * sqrt(x.own), 1e-12);
    spread_estimate(&s, &alike, 0.05, &x);
    near(x.hi - x.centre, stats_student(1e6) * 2 / sqrt(3), 1e-9);
    spread_estimate(&s, &moved, 0.05, &x);
    near(x.variance, 1.0 / 12, 1e-12); /* of 2, 2, 2.5                       */
    near(x.shared, 1, 1e-12);
    const double all = 1 + 1.0 / 36; /* Satterthwaite's degrees of freedom   */
    near(x.hi - x.centre,
         stats_student(all * all / (1.0 / 2 + 1.0 / 36 / 36 / 2)) * sqrt(all), 1e-9);
    spread_estimate(&(spread){ .unit = { 5 }, .units = 1 }, &prior, 0.05, &x);
    assert_true(x.centre == 5 && isnan(x.lo) && isnan(x.hi));
}

/* Of one case in two runs: what its other cases tell of its variance, which is the
 * same in both, counts once. */
static void ratios_by_hand(void **state)
{
    (void)state;
    const spread_prior prior = { .variance = 4e-4, .freedom = 6, .widening = 1 };
    const spread_prior alike = { .variance = 4e-4, .freedom = INFINITY,
                                 .widening = 1 };
    const spread s = { .unit = { 0.1, 0.12, 0.14 }, .units = 3 };
    static ratio_samples a, b;
    ratio r;
    samples_of(&s, 0, &a);
    samples_of(&s, 0.05, &b);
    const double own = (6 * 4e-4 + 2 * 4e-4) / 8 / 3;
    ratio_make(&r, &a, &prior, &b, &prior, 0.05);
    near(r.value, exp(-0.05), 1e-9);
    near(log(r.hi / r.value), stats_student(8 + 8 - 6) * sqrt(2 * own), 1e-6);
    ratio_make(&r, &a, &alike, &b, &alike, 0.05);
    near(log(r.hi / r.value), stats_student(1e6) * sqrt(2 * 4e-4 / 3), 1e-6);
    ratio_make(&r, &a, NULL, &b, NULL, 0.05);
    near(log(r.hi / r.value), stats_student(4) * sqrt(2 * 4e-4 / 3), 1e-6);
}

/* No end below what is possible, no interval that spans more than SPREAD_WIDEST. */
static void ends_are_possible(void **state)
{
    (void)state;
    double lo, hi;
    spread_interval x = { .centre = log(100), .lo = log(90), .hi = log(111) };
    near(spread_ends(&x, 50, &lo, &hi), 111.0 / 90, 1e-9);
    near(lo, 90, 1e-9);
    near(hi, 111, 1e-9);
    spread_ends(&x, 97, &lo, &hi);
    near(lo, 97, 1e-9);
    spread_ends(&x, 120, &lo, &hi); /* not above the centre                  */
    near(lo, 100, 1e-9);
    x.lo = log(10);
    near(spread_ends(&x, 99, &lo, &hi), 111.0 / 99, 1e-9);
    near(lo, 99, 1e-9);
    near(spread_ends(&x, 20, &lo, &hi), 111.0 / 20, 1e-9);
    assert_true(isnan(lo) && isnan(hi));
    x.lo = x.hi = NAN;
    assert_true(isnan(spread_ends(&x, 20, &lo, &hi)) && isnan(lo));
}

/* The distribution that variances are from is found again; movements of all cases
 * are told from their noise; few cases tell nothing. */
static void priors_are_found(void **state)
{
    (void)state;
    enum { MANY = 3000 };
    static spread s[MANY];
    static const spread *of[MANY];
    const double move[3] = { -0.05, 0.01, 0.04 };
    uint64_t seed = 3;
    spread_prior p;
    for (int i = 0; i < MANY; i++) {
        double chi2 = 0; /* of 8 degrees                                     */
        for (int k = 0; k < 8; k++) chi2 += pow(att_normal(&seed), 2);
        const double sigma = sqrt(8 * 0.0004 / chi2);
        of[i] = &s[i];
        s[i].units = 3;
        for (int k = 0; k < 3; k++)
            s[i].unit[k] = 5 + sigma * att_normal(&seed);
    }
    spread_pool(of, MANY, &p);
    near(p.variance, 0.0004, 0.00004);
    near(p.freedom, 8, 2.5);
    near(p.widening, 1, 0.1);
    assert_true(p.shared == 0);
    for (int i = 0; i < MANY; i++)
        for (int k = 0; k < 3; k++) s[i].unit[k] += move[k];
    spread_pool(of, MANY, &p);
    near(p.shared, (0.05 * 0.05 + 0.01 * 0.01 + 0.04 * 0.04) / 2, 1e-4);
    near(p.move[0], -0.05, 0.002);
    near(p.move[2], 0.04, 0.002);
    near(p.shared_freedom, 2, 0);
    near(p.variance, 0.0004, 0.00004);
    spread_pool(of, SPREAD_CASES - 1, &p);
    assert_true(p.freedom == 0 && p.shared == 0 && p.widening == 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_are_passes),
        cmocka_unit_test(intervals_by_hand),
        cmocka_unit_test(ratios_by_hand),
        cmocka_unit_test(ends_are_possible),
        cmocka_unit_test(priors_are_found),
        cmocka_unit_test(intervals_cover),
        cmocka_unit_test(ratios_tell),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests_name("coverage", tests, NULL, NULL);
}
