/* counts.c - operations, pairs and bytes of problems so small that a hand counts them
 * from the definition.  (att_cost in kernels/att.h; that cost() is what references do
 * is held by references.c)
 */
#include "test.h"

#include "../harness/sweep_case.h"
#include "../kernels/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* "head_dim=2 grid=4" over the defaults. */
static att_problem problem_of(const att_mechanism *m, const char *text)
{
    att_problem p = att_problem_default;
    char name[40], value[40];
    int n;
    for (; sscanf(text, " %39[^= ]=%39s%n", name, value, &n) == 2; text += n) {
        const int field = att_field_find(name);
        if (field < 0 || !att_set(&p, (enum att_field)field, value))
            fail_msg("%s=%s is no field", name, value);
    }
    att_canonical(m, &p);
    const char *why = att_reject(m, &p);
    if (why) fail_msg("%s: %s", m->name, why);
    return p;
}

typedef struct counted {
    const char *mechanism, *problem;
    enum att_pass pass;
    att_cost want;
} counted;

/* Softmax over pairs of d channels in, e out, H maps of N queries and M keys.  Forward:
 * d + e multiply-adds; the scale; minus the maximum, which is a comparison, and the sum;
 * a division of each output.  f32: 4 bytes. */
static const counted cases[] = {
    /* H = 6 maps, N = 4, M = 5, d = 2, e = 3: 120 pairs */
    { "softmax", "grid=4 tokens_k=5 head_dim=2 value_dim=3 heads=3 batch=2", ATT_FORWARD,
      { .mul_add = 120 * 5, .add = 120 * 3, .mul = 120, .div = 6 * 4 * 3, .exp = 120,
        .read = 4 * 6 * (8 + 10 + 15), .write = 4 * 6 * 12, .pairs = 120 } },
    /* S again, dP, dV, dQ, dK and the row sums of dO o */
    { "softmax", "grid=4 tokens_k=5 head_dim=2 value_dim=3 heads=3 batch=2",
      ATT_BACKWARD,
      { .mul_add = 120 * (3 * 2 + 2 * 3) + 6 * 12, .add = 120 * 2, .mul = 120 * 2,
        .exp = 120, .read = 4 * 6 * (8 + 10 + 15 + 2 * 12),
        .write = 4 * 6 * (8 + 10 + 15), .pairs = 120 } },
    /* a bias of H N M, which the batch shares */
    { "softmax", "grid=4 head_dim=2 heads=3 batch=2 bias=1", ATT_FORWARD,
      { .mul_add = 96 * 4, .add = 96 * 4, .mul = 96, .div = 48, .exp = 96,
        .read = 4 * (6 * 24 + 3 * 16), .write = 4 * 48, .pairs = 96 } },
    { "softmax", "grid=4 head_dim=2 causal=1", ATT_FORWARD,
      { .mul_add = 10 * 4, .add = 30, .mul = 10, .div = 8, .exp = 10,
        .read = 4 * 24, .write = 4 * 8, .pairs = 10 } },
    /* windows of 3 x 3 stay whole at borders */
    { "na2d", "grid=4x5 head_dim=2 heads=1 window=3", ATT_FORWARD,
      { .mul_add = 180 * 4, .add = 180 * 3, .mul = 180, .div = 40, .exp = 180,
        .read = 4 * 3 * 40, .write = 4 * 40, .pairs = 180 } },
    /* 5 x 3, less one at either end */
    { "sparse_sliding", "grid=5 head_dim=2 heads=1 radius=1", ATT_FORWARD,
      { .mul_add = 13 * 4, .add = 39, .mul = 13, .div = 10, .exp = 13,
        .read = 4 * 30, .write = 4 * 10, .pairs = 13 } },
    /* S = K'V and o = Q'S with 3 x 3, z = sum of K', Q'z; elu + 1; eps */
    { "linear", "grid=4 head_dim=3 heads=1", ATT_FORWARD,
      { .mul_add = 4 * 9 + 4 * 9 + 4 * 3, .add = 4 * 3 + 4 + 8 * 3, .div = 4 * 3,
        .exp = 8 * 3, .read = 4 * 36, .write = 4 * 12, .pairs = 16 } },
    /* a token: mean and variance (3 + 3), minus the mean (3), eps, times gamma
     * plus beta (3), the inverse root, two means */
    { "layernorm", "grid=4 head_dim=3", ATT_FORWARD,
      { .mul_add = 4 * 6, .add = 4 * 7, .mul = 4 * 3, .div = 4 * 3, .exp = 4,
        .read = 4 * (12 + 6), .write = 4 * 12 } },
    /* 2 + 3 + 2 taps of an axis, 2 channels, 3 x 3 tokens */
    { "dwconv", "grid=3x3 head_dim=2 heads=1 window=3", ATT_FORWARD,
      { .mul_add = 49 * 2, .add = 18, .read = 4 * (18 + 2 * 10), .write = 4 * 18 } },
    /* an erf, 3 products and a sum of each of 12 values */
    { "gelu", "grid=4 head_dim=3", ATT_FORWARD,
      { .mul = 36, .add = 12, .exp = 12, .read = 48, .write = 48 } },
};

static void counts_by_hand(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const counted *c = &cases[i];
        const att_mechanism *m = att_find_mechanism(c->mechanism);
        const att_problem p = problem_of(m, c->problem);
        att_cost is = { 0 };
        m->cost(&p, c->pass, &is);
        const struct { const char *name; double is, want; } all[] = {
            { "multiply-adds", is.mul_add, c->want.mul_add },
            { "additions", is.add, c->want.add },
            { "multiplications", is.mul, c->want.mul },
            { "divisions", is.div, c->want.div },
            { "exponentials", is.exp, c->want.exp },
            { "bytes read", is.read, c->want.read },
            { "bytes written", is.write, c->want.write },
            { "pairs", is.pairs, c->want.pairs },
        };
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            if (all[k].is != all[k].want)
                fail_msg("%s %s: %g %s, %g are right", c->mechanism, c->problem,
                         all[k].is, all[k].name, all[k].want);
    }
}

/* A multiply-add is two operations, everything else one. */
static void totals(void **state)
{
    (void)state;
    const att_cost c = { .mul_add = 1000, .add = 200, .mul = 30, .div = 4, .exp = 0.5,
                         .read = 1e6, .write = 1e7 };
    static const char *const names[] = { "mul_add", "add", "mul", "div", "exp", "total" };
    static const double want[] = { 1000, 200, 30, 4, 0.5, 2234.5 };
    assert_true(att_flops(&c) == 2234.5);
    json *j = sweep_case_flop(&c);
    for (int i = 0; i < 6; i++)
        assert_true(json_number(json_get(j, names[i]), NAN) == want[i]);
    json_free(j);
}

/* What a plan allocates and tells: naive keeps a row of scores for each thread. */
static void bytes_of_a_plan(void **state)
{
    (void)state;
    const att_entry *e = att_find("softmax.naive", att_level_best());
    const att_problem p = problem_of(e->mechanism,
                                     "grid=4 head_dim=2 heads=3 batch=2 bias=1");
    att_plan plan;
    assert_null(att_plan_create(&plan, e, &p, 1, true, true));
    assert_true(plan.parameter_bytes >= 4 * 3 * 16 && plan.parameter_bytes < 4 * 3 * 16 + 64);
    assert_true(plan.cost[ATT_FORWARD].pairs == 96);
    assert_true(plan.cost[ATT_BACKWARD].mul == 192);
    att_plan_free(&plan);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_by_hand),
        cmocka_unit_test(totals),
        cmocka_unit_test(bytes_of_a_plan),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests_name("counts", tests, NULL, NULL);
}
