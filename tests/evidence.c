/* evidence.c - intervals of shares, verdicts, and ratios on invented times. */
#include "test.h"

#include "../harness/ratio.h"
#include "../harness/stats.h"

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

static void verdict_words(void **state)
{
    (void)state;
    const ratio faster = { .value = 0.8, .lo = 0.75, .hi = 0.85 };
    const ratio same = { .value = 1.0, .lo = 0.99, .hi = 1.01 };
    const ratio unclear = { .value = 1.03, .lo = 1.0, .hi = 1.06 };
    assert_string_equal(ratio_word(ratio_judge(&faster, 0.03)), "faster");
    assert_string_equal(ratio_word(ratio_judge(&same, 0.03)), "same");
    assert_string_equal(ratio_word(ratio_judge(&unclear, 0.03)), "unclear");
}

/* Samples of processes whose medians are those. */
static void fill(ratio_samples *s, const double *median, int processes)
{
    s->count = s->processes = 0;
    for (int p = 0; p < processes; p++) {
        s->pass[p] = p;
        s->per_process[s->processes++] = 3;
        for (int i = -1; i < 2; i++) s->ns[s->count++] = median[p] + i;
    }
}

/* By hand: ln medians of A are 0 and .02 apart, of B 0 and .04, each with one
 * degree of freedom; Welch's are 1.47. */
static void ratios_by_hand(void **state)
{
    (void)state;
    static ratio_samples a, b;
    const double one[] = { 1000, 1000 * exp(0.02) };
    const double two[] = { 1100, 1100 * exp(0.04) };
    ratio r;
    fill(&a, one, 2);
    fill(&b, two, 2);
    ratio_make(&r, &a, NULL, &b, NULL, 0.05);
    const double x = 0.02 * 0.02 / 4, y = 0.04 * 0.04 / 4;
    const double freedom = (x + y) * (x + y) / (x * x + y * y);
    near(r.value, 1.1 * exp(0.01), 1e-9);
    near(r.error, sqrt(x + y), 1e-12);
    near(log(r.hi / r.value), stats_student(freedom) * r.error, 1e-9);
    near(log(r.value / r.lo), stats_student(freedom) * r.error, 1e-9);
    /* half of the error asked for the ratio on a limit that is half as far off */
    near(ratio_more_processes(&(ratio){ .value = 1.06, .lo = 1.0, .hi = 1.1236,
                                        .processes = 2 }, 0.03),
         ceil(2 * pow(log(1.06) / log(1.06 / 1.03), 2) - 2), 1e-9);
    /* what both sides met is not in the ratio of rounds */
    ratio_rounds(&r, &a, &b, NULL, 0.05);
    near(r.value, 1.1 * exp(0.01), 1e-9);
    near(r.error, 0.01, 1e-9);
    near(r.freedom, 1, 0);
    near(log(r.hi / r.value), stats_student(1) * 0.01, 1e-9);
    /* without its second process, A has the first and the third of B beside it */
    const double three[] = { 1000, 1000 }, four[] = { 1100, 9999, 1150 };
    fill(&a, three, 2);
    fill(&b, four, 3);
    a.pass[1] = 2;
    ratio_rounds(&r, &a, &b, NULL, 0.05);
    near(r.value, sqrt(1.1 * 1.15), 1e-9);
}

/* One process does not tell how processes differ, whatever its samples say. */
static void one_process_is_unclear(void **state)
{
    (void)state;
    static ratio_samples a, b;
    const double one[] = { 1000, 1000, 1000 }, two[] = { 2000, 2000, 2000 };
    ratio r;
    for (int n = 1; n <= 3; n++)
        for (int m = 1; m <= 3; m++) {
            const spread_prior prior = { .variance = 1e-6, .freedom = INFINITY,
                                         .widening = 1 };
            fill(&a, one, n);
            fill(&b, two, m);
            ratio_make(&r, &a, &prior, &b, &prior, 0.05);
            near(r.value, 2, 1e-12);
            assert_int_equal(ratio_judge(&r, 0.03),
                             n == 1 || m == 1 ? RATIO_UNCLEAR : RATIO_SLOWER);
            assert_int_equal(r.processes, n < m ? n : m);
        }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(intervals_of_shares),
        cmocka_unit_test(verdict_words),
        cmocka_unit_test(ratios_by_hand),
        cmocka_unit_test(one_process_is_unclear),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests_name("evidence", tests, NULL, NULL);
}
