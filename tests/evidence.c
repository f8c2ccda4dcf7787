/* evidence.c - what the harness's verdicts are worth: intervals of shares, and
 * how often the rule of compare is wrong on simulated samples. */
#include "test.h"

#include "../harness/ratio.h"
#include "../harness/stats.h"
#include "../kernels/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void near(double x, double want, double tolerance)
{
    if (!(fabs(x - want) <= tolerance))
        fail_msg("%.12g, expected %.12g", x, want);
}

/* The ends solve (p - share)^2 = z^2 p (1 - p) / n. */
static void intervals_of_shares(void **state)
{
    (void)state;
    const double z2 = 1.959964 * 1.959964;
    static const int cases[][2] = { { 10, 200 }, { 1, 7 }, { 99, 200 } };
    double lo, hi;
    for (int i = 0; i < 3; i++) {
        const double n = cases[i][1], share = cases[i][0] / n;
        stats_share(cases[i][0], cases[i][1], &lo, &hi);
        near((lo - share) * (lo - share), z2 * lo * (1 - lo) / n, 1e-12);
        near((hi - share) * (hi - share), z2 * hi * (1 - hi) / n, 1e-12);
        assert_true(lo < share && share < hi);
    }
    stats_share(0, 200, &lo, &hi);
    near(lo, 0, 1e-15);
    near(hi, z2 / (200 + z2), 1e-12);
    stats_share(5, 5, &lo, &hi);
    near(hi, 1, 1e-15);
    stats_share(0, 0, &lo, &hi);
    assert_true(lo == 0 && hi == 1);
}

/* Two processes of 20 samples around `centre`, about 2 % of noise each and
 * `between` of it from process to process. */
static void simulate(ratio_samples *s, double centre, double between,
                     uint64_t *seed)
{
    s->processes = 2;
    s->count = 0;
    for (int p = 0; p < 2; p++) {
        const double shift = between * att_normal(seed);
        s->per_process[p] = 20;
        for (int i = 0; i < 20; i++)
            s->ns[s->count++] =
                centre * exp(shift + 0.02 * att_normal(seed));
    }
}

/* Part of the pairs whose interval leaves 1 out. */
static double differing(double effect, double between)
{
    enum { PAIRS = 400 };
    static ratio_samples side[2];
    uint64_t seed = 11;
    int differ = 0;
    for (int i = 0; i < PAIRS; i++) {
        ratio r;
        simulate(&side[0], 1000, between, &seed);
        simulate(&side[1], 1000 * (1 + effect), between, &seed);
        ratio_make(&r, &side[0], &side[1], 0.05);
        const enum ratio_verdict v = ratio_judge(&r, 0);
        differ += v == RATIO_FASTER || v == RATIO_SLOWER;
    }
    return (double)differ / PAIRS;
}

static void false_alarms(void **state)
{
    (void)state;
    const double none = differing(0, 0), real = differing(0.05, 0);
    printf("    equal: %.3f differ, %.3f where processes do by 2 %%; "
           "5 %% slower: %.3f\n", none, differing(0, 0.02), real);
    assert_true(none <= 0.075);
    assert_true(real >= 0.95);
}

static void verdict_words(void **state)
{
    (void)state;
    const ratio faster = { 0.8, 0.75, 0.85, 0.02, 20 };
    const ratio same = { 1.0, 0.99, 1.01, 0.005, 20 };
    const ratio unclear = { 1.03, 1.0, 1.06, 0.015, 20 };
    assert_string_equal(ratio_word(ratio_judge(&faster, 0.03)), "faster");
    assert_string_equal(ratio_word(ratio_judge(&same, 0.03)), "same");
    assert_string_equal(ratio_word(ratio_judge(&unclear, 0.03)), "unclear");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(intervals_of_shares),
        cmocka_unit_test(false_alarms),
        cmocka_unit_test(verdict_words),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests_name("evidence", tests, NULL, NULL);
}
