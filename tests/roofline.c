/* roofline.c - where a case stands below ceilings that are invented, exactly. */
#include "test.h"

#include "../harness/machine.h"
#include "../harness/roofline.h"

#include <math.h>
#include <string.h>

/* Caches of 32 KiB, 992 KiB and 15 MiB, so that two hold 1 MiB and three 16. */
#define CACHES "\"cache_bytes\":{\"L1\":32768,\"L2\":1015808,\"L3\":15728640}"
#define UNITS(level, threads, fma, vector)                                     \
    "{\"level\":\"" level "\",\"threads\":" threads ",\"fma_flop_per_s\":" fma \
    ",\"mul_per_s\":100e9,\"add_per_s\":50e9,\"vector_per_s\":" vector ","       \
    "\"div_per_s\":5e9,\"exp_per_s\":10e9,\"fma_operations\":1,"                \
    "\"exp_mul_adds\":6,"
#define BANDWIDTHS                                                             \
    "\"bandwidth_bytes_per_s\":{"                                              \
    "\"L1\":{\"read\":400e9,\"copy\":600e9,\"triad\":600e9,\"write\":200e9},"  \
    "\"L2\":{\"read\":200e9,\"copy\":200e9,\"triad\":200e9,\"write\":200e9},"  \
    "\"L3\":{\"read\":50e9,\"copy\":40e9,\"triad\":40e9,\"write\":20e9},"      \
    "\"memory\":{\"read\":10e9,\"copy\":8e9,\"triad\":9e9,\"write\":6e9}}}"

static const char text[] =
    "{" CACHES ",\"ceilings\":["
    UNITS("v3", "1", "200e9", "120e9") BANDWIDTHS ","
    UNITS("v3", "2", "400e9", "240e9") BANDWIDTHS ","
    UNITS("v4", "1", "400e9", "240e9") BANDWIDTHS ","
    /* without FMA */
    "{\"level\":\"v2\",\"threads\":1,\"fma_flop_per_s\":100e9,\"mul_per_s\":50e9,"
    "\"add_per_s\":50e9,\"vector_per_s\":80e9,\"div_per_s\":5e9,"
    "\"exp_per_s\":10e9,\"fma_operations\":2,\"exp_mul_adds\":6," BANDWIDTHS ","
    /* as journals of earlier versions have them */
    "{\"level\":\"base\",\"threads\":1,\"fma_flop_per_s\":200e9,"
    "\"exp_per_s\":10e9,\"bandwidth_bytes_per_s\":{\"L1\":{\"read\":400e9,"
    "\"copy\":600e9,\"triad\":600e9},\"memory\":{\"copy\":8e9}}}]}";

static json *roofline;

static int setup(void **state)
{
    (void)state;
    roofline = json_parse(text, strlen(text), "text", NULL);
    return roofline ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    json_free(roofline);
    return 0;
}

/* A case that takes 20 ms has to be at this fraction, and this is what bounds it. */
static roofline_point stands(roofline_case x, double fraction, const char *bound)
{
    roofline_point at;
    if (!x.threads) x.threads = 1;
    if (!x.working_set) x.working_set = 1024;
    x.seconds = 0.020;
    assert_true(roofline_place(roofline, &x, &at));
    assert_string_equal(at.bound, bound);
    if (fabs(at.fraction - fraction) > 1e-12)
        fail_msg("%s: %.15g, expected %.15g", bound, at.fraction, fraction);
    if (fabs(at.attainable * at.fraction * x.seconds - att_flops(&x.cost)) >
        1e-9 * att_flops(&x.cost))
        fail_msg("%s: %g flop/s attainable", bound, at.attainable);
    x.seconds *= 2; /* twice the time, half the fraction */
    assert_true(roofline_place(roofline, &x, &at));
    assert_true(fabs(at.fraction - fraction / 2) <= 1e-12);
    return at;
}

#define V3 .level = ATT_V3, .products = ATT_V3
#define COST(...) .cost = { __VA_ARGS__ }

static void units(void **state)
{
    (void)state;
    stands((roofline_case){ V3, COST(.mul_add = 1e9) }, 0.5, "fma");
    stands((roofline_case){ V3, COST(.mul_add = 0.5e9, .mul = 0.5e9) }, 0.5, "fma");
    stands((roofline_case){ V3, COST(.mul = 1e9) }, 0.5, "fma");
    stands((roofline_case){ V3, COST(.add = 0.8e9) }, 0.8, "add");
    stands((roofline_case){ V3, COST(.mul_add = 0.8e9, .add = 0.4e9) }, 0.5,
           "vector");
    stands((roofline_case){ V3, COST(.div = 0.05e9) }, 0.5, "div");
    stands((roofline_case){ V3, COST(.exp = 0.1e9) }, 0.5, "exp");
    /* units beside each other: the longest counts, not the sum */
    stands((roofline_case){ V3, COST(.mul_add = 0.9e9, .div = 0.05e9) }, 0.5, "div");
    stands((roofline_case){ V3, COST(.mul_add = 0.3e9, .exp = 0.1e9) }, 0.5, "exp");
    /* an exponential is made of six multiply-adds */
    stands((roofline_case){ V3, COST(.mul_add = 0.6e9, .exp = 0.1e9) }, 0.6, "fma");
}

/* No FMA: a multiply-add takes an addition, and two places among all operations. */
static void without_fma(void **state)
{
    (void)state;
    const roofline_case v2 = { .level = ATT_V2, .products = ATT_V2 };
    roofline_case x = v2;
    x.cost = (att_cost){ .mul_add = 0.4e9 };
    stands(x, 0.5, "vector");
    x.cost = (att_cost){ .mul_add = 0.2e9, .add = 0.3e9 };
    stands(x, 0.5, "add");
    x.cost = (att_cost){ .mul = 0.6e9 };
    stands(x, 0.6, "fma");
}

static void nearest_cache(void **state)
{
    (void)state;
    stands((roofline_case){ V3, COST(.read = 4e9) }, 0.5, "L1");
    stands((roofline_case){ V3, COST(.write = 3e9) }, 0.5, "L1"); /* as copy does */
    stands((roofline_case){ V3, COST(.read = 3e9, .write = 3e9) }, 0.5, "L1");
    stands((roofline_case){ V3, COST(.read = 4e9, .write = 2e9) }, 0.5, "L1");
    /* half like copy, half like triad */
    stands((roofline_case){ V3, COST(.read = 3.5e9, .write = 2.5e9) }, 0.5, "L1");
    stands((roofline_case){ V3, COST(.read = 4e9, .mul_add = 1.2e9) }, 0.6, "fma");
}

/* Of a working set, what nearer caches can hold does not come from here. */
static void farther(void **state)
{
    (void)state;
    const double mib = 1 << 20;
    stands((roofline_case){ V3, COST(.read = 1e9), .working_set = 4 * mib }, 0.75,
           "L3");
    stands((roofline_case){ V3, COST(.read = 0.2e9), .working_set = 64 * mib },
           0.75, "memory");
    stands((roofline_case){ V3, COST(.read = 0.08e9, .write = 0.08e9),
                            .working_set = 64 * mib }, 0.75, "memory");
    /* what is written like triad, which reads twice as much, and the rest read */
    stands((roofline_case){ V3, COST(.read = 0.12e9, .write = 0.04e9),
                            .working_set = 64 * mib }, 0.65, "memory");
    /* two private caches hold twice as much */
    stands((roofline_case){ V3, COST(.read = 1e9), .threads = 2,
                            .working_set = 4 * mib }, 0.5, "L3");
    assert_string_equal(roofline_held(roofline, 1, 32768), "L1");
    assert_string_equal(roofline_held(roofline, 1, 32769), "L2");
    assert_string_equal(roofline_held(roofline, 2, 32769), "L1");
    assert_string_equal(roofline_held(roofline, 1, 2 * mib), "L3");
    assert_string_equal(roofline_held(roofline, 2, 64 * mib), "memory");
}

/* The products of a BLAS are judged by the level of its code, the rest by the
 * kernel's. */
static void blas(void **state)
{
    (void)state;
    roofline_point at = stands((roofline_case){ .level = ATT_V3, .products = ATT_V4,
                                                COST(.mul_add = 2e9) }, 0.5, "fma");
    assert_true(at.peak == 400e9);
    at = stands((roofline_case){ V3, COST(.mul_add = 1e9) }, 0.5, "fma");
    assert_true(at.peak == 200e9);
    stands((roofline_case){ .level = ATT_V3, .products = ATT_V4,
                            COST(.mul_add = 0.5e9, .mul = 1e9) }, 0.625, "fma");
    stands((roofline_case){ .level = ATT_V3, .products = ATT_V4,
                            COST(.exp = 0.1e9) }, 0.5, "exp");
    assert_int_equal(machine_blas_level("Cooperlake"), ATT_V4);
    assert_int_equal(machine_blas_level("skylakex"), ATT_V4);
    assert_int_equal(machine_blas_level("Haswell"), ATT_V3);
    assert_int_equal(machine_blas_level("Zen"), ATT_V3);
    assert_int_equal(machine_blas_level("Nehalem"), ATT_V2);
    assert_int_equal(machine_blas_level("Zen99"), -1);
    assert_int_equal(machine_blas_level(NULL), -1);
}

/* Rates that a journal does not know bound nothing. */
static void unknown(void **state)
{
    (void)state;
    roofline_case x = { .level = ATT_BASE, .products = ATT_BASE, .threads = 1,
                        .working_set = 1024, .seconds = 1 };
    roofline_point at;
    x.cost = (att_cost){ .mul_add = 1e9, .add = 1e12, .div = 1e12 };
    stands(x, 0.5, "fma");
    x.cost = (att_cost){ .exp = 0.1e9 };
    stands(x, 0.5, "exp");
    x.cost = (att_cost){ .read = 4e9 };
    stands(x, 0.5, "L1");
    x.threads = 2;
    assert_false(roofline_place(roofline, &x, &at));
    x.threads = 1, x.products = ATT_V4;
    assert_true(roofline_place(roofline, &x, &at));
    x.threads = 2, x.level = ATT_V3;
    assert_false(roofline_place(roofline, &x, &at)); /* v4 is of one thread */
    assert_false(roofline_place(NULL, &x, &at));
}

/* A rate that came out too low is raised by the others, and by those alone that it
 * cannot be below. */
static void rates(void **state)
{
    (void)state;
    enum { V3_1, V3_2, V4_1, FAR, OTHER, COUNT };
    const roofline_rate all[COUNT] = {
        [V3_1] = { 1, ATT_V3, 1, 0, 30 },  [V3_2] = { 1, ATT_V3, 2, 0, 190 },
        [V4_1] = { 1, ATT_V4, 1, 0, 180 }, [FAR] = { 1, ATT_V3, 1, 3, 120 },
        [OTHER] = { 2, ATT_V3, 1, 0, 1000 },
    };
    assert_true(roofline_rate_at_least(all, COUNT, &all[V3_1]) == 120);
    assert_true(roofline_rate_at_least(all, 3, &all[V3_1]) == 95);
    assert_true(roofline_rate_at_least(all, COUNT, &all[V3_2]) == 190);
    assert_true(roofline_rate_at_least(all, COUNT, &all[V4_1]) == 180);
    assert_true(roofline_rate_at_least(all, COUNT, &all[FAR]) == 120);
    const roofline_rate slow = { 1, ATT_V4, 1, 0, 17 };
    assert_true(roofline_rate_at_least(all, 2, &slow) == 95);
    const roofline_rate two = { 1, ATT_V3, 2, 0, 5 };
    assert_true(roofline_rate_at_least(all, 1, &two) == 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units),         cmocka_unit_test(without_fma),
        cmocka_unit_test(nearest_cache), cmocka_unit_test(farther),
        cmocka_unit_test(blas),          cmocka_unit_test(unknown),
        cmocka_unit_test(rates),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
