/* accuracy.c - units in the last place on known differences, and kernels whose
 * errors are planted, or which change with repeat, threads and level. */
#include "test.h"

#include "../harness/accuracy.h"
#include "../harness/ulp.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* ---- units --------------------------------------------------------------- */

static void units(void **state)
{
    (void)state;
    static const struct { int dtype; double scale, unit; } known[] = {
        { ATT_F32, 1, 0x1p-23 },          { ATT_F32, 1.999, 0x1p-23 },
        { ATT_F32, 2, 0x1p-22 },          { ATT_F32, 0.75, 0x1p-24 },
        { ATT_F32, 1e30, 0x1p76 },        { ATT_F32, 0x1p-102, 0x1p-125 },
        { ATT_F32, 0x1p-103, 0x1p-126 },  { ATT_F32, 0x1p-104, 0x1p-126 },
        { ATT_F32, 1e-40, 0x1p-126 },     { ATT_F32, 0, 0x1p-126 },
        { ATT_F16, 1, 0x1p-10 },          { ATT_F16, 1000, 0.5 },
        { ATT_F16, 0x1p-14, 0x1p-24 },    { ATT_F16, 1e-9, 0x1p-24 },
        { ATT_BF16, 1, 0x1p-7 },          { ATT_BF16, 3, 0x1p-6 },
        { ATT_BF16, 0, 0x1p-126 },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const double unit = ulp_unit(known[i].dtype, known[i].scale);
        if (unit != known[i].unit)
            fail_msg("ulp of storage %d at %g is %a, not %a", known[i].dtype,
                     known[i].scale, unit, known[i].unit);
    }
    /* neighbours of 1.5 and of 48 are one unit apart */
    assert_true(nextafterf(1.5f, 2) - 1.5 == ulp_unit(ATT_F32, 1.5));
    assert_true(nextafterf(48, 64) - 48.0 == ulp_unit(ATT_F32, 48));
}

static void differences(void **state)
{
    (void)state;
    const double u = 0x1p-23, ref[4] = { 1, -0.5, 0.25, 0 };
    const double x[4] = { 1, -0.5 + 3 * u, 0.25, -4 * u };
    ulp_error e = ulp_compare(ref, ref, 4, u);
    assert_true(e.max == 0 && e.rms == 0);
    e = ulp_compare(x, ref, 4, u);
    assert_true(e.max == 4 && e.at == 3);
    assert_true(e.rms == 2.5); /* sqrt((9 + 16) / 4) */
    e = ulp_compare((double[]){ nextafterf(1, 2) }, ref, 1, u);
    assert_true(e.max == 1 && e.rms == 1);
    e = ulp_compare(NULL, NULL, 0, u);
    assert_true(e.max == 0 && e.rms == 0);
    assert_true(ulp_scale(ref, 4) == 1);
    assert_true(ulp_scale((double[]){ -INFINITY, 2, NAN }, 3) == 2);
    assert_true(ulp_scale(NULL, 0) == 0);
}

static void not_finite(void **state)
{
    (void)state;
    static const double all[] = { 0, 1, INFINITY, -INFINITY, NAN };
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 5; k++) {
            const ulp_error e = ulp_compare(&all[i], &all[k], 1, 1);
            const double want = i == k && i < 4 ? 0 : i < 2 && k < 2 ? 1 : INFINITY;
            assert_true(e.max == want && e.rms == want);
        }
}

static void bits(void **state)
{
    (void)state;
    assert_true(ulp_same_bits((double[]){ 1, NAN }, (double[]){ 1, NAN }, 2));
    assert_false(ulp_same_bits((double[]){ 0.0 }, (double[]){ -0.0 }, 1));
    assert_false(ulp_same_bits((double[]){ 1 }, (double[]){ 1 + 0x1p-23 }, 1));
    assert_true(ulp_same_bits(NULL, NULL, 0));
}

/* ---- a mechanism without rounding: o = v --------------------------------- */

enum { TOKENS = 16, DIM = 4, VALUES = TOKENS * DIM };

static void shape(const att_problem *p, enum att_slot slot, att_shape *out)
{
    const bool absent = slot == ATT_Q || slot == ATT_K;
    *out = absent ? (att_shape){ 0 }
                  : (att_shape){ p->heads, (int)att_tokens(p), p->head_dim };
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    (void)pass;
    *out = (att_cost){ .add = (double)att_tokens(p) };
}

static void copy_reference(const att_ref *r)
{
    for (int i = 0; i < VALUES; i++) r->o[i] = r->v[i];
}

static void copy_gradient(const att_ref *r)
{
    for (int i = 0; r->dv && i < VALUES; i++) r->dv[i] += r->dout[i];
}

static const att_mechanism copy = {
    .name = "copy", .family = "test", .brief = "o = v", .formula = "o = v",
    .map = "the identity", .shape = shape, .cost = cost,
    .forward = copy_reference, .backward = copy_gradient,
};

static void no_sizes(const att_problem *p, int threads, att_sizes *out)
{
    (void)p, (void)threads;
    *out = (att_sizes){ 0 };
}

/* Copies, and takes so many units from the magnitude of the largest value. */
static void copy_less(const float *from, float *to, double units_less)
{
    int largest = 0;
    memcpy(to, from, VALUES * sizeof *to);
    for (int i = 1; i < VALUES; i++)
        if (fabsf(from[i]) > fabsf(from[largest])) largest = i;
    const double unit = ulp_unit(ATT_F32, fabsf(from[largest]));
    to[largest] -= (float)copysign(units_less * unit, from[largest]);
}

static void right(const att_call *c) { copy_less(c->v, c->o, 0); }
static void off_by_3(const att_call *c) { copy_less(c->v, c->o, 3); }

static void right_back(const att_call *c, const att_grad *g)
{
    (void)c;
    copy_less(g->dout, g->dv, 0);
}

static void off_by_7_back(const att_call *c, const att_grad *g)
{
    (void)c;
    copy_less(g->dout, g->dv, 7);
}

static void by_threads(const att_call *c)
{
    copy_less(c->v, c->o, c->threads == 2 ? 5 : 0);
}

static int calls; /* of by_turn(): not what the contract allows              */
static void by_turn(const att_call *c) { copy_less(c->v, c->o, calls++ % 2); }
static void by_turn_back(const att_call *c, const att_grad *g)
{
    copy_less(g->dout, g->dv, c->threads > 2 && calls++ % 2 ? 2 : 0);
}

/* Lets what it did not write decide, as a spare lane may: NaN passes for nothing. */
static void scratch_size(const att_problem *p, int threads, att_sizes *out)
{
    (void)p, (void)threads;
    *out = (att_sizes){ .work = sizeof(float), .work_backward = sizeof(float) };
}

static void by_scratch(const att_call *c)
{
    copy_less(c->v, c->o, *(const float *)c->work > 1e3f);
}

static void by_scratch_back(const att_call *c, const att_grad *g)
{
    copy_less(g->dout, g->dv, *(const float *)c->work > 1e3f);
}

static void undefined(const att_call *c)
{
    right(c);
    ((float *)c->o)[5] = NAN;
}

static void dies(const att_call *c)
{
    (void)c;
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

static const char *refuse(const att_problem *p, enum att_pass pass)
{
    (void)p, (void)pass;
    return "not today";
}

static const att_kernel kernel_scratch = {
    .name = "copy.scratch", .mechanism = "copy", .brief = "test",
    .sizes = scratch_size, .forward = by_scratch, .backward = right_back,
};
static const att_kernel kernel_scratch_back = {
    .name = "copy.scratch_back", .mechanism = "copy", .brief = "test",
    .sizes = scratch_size, .forward = right, .backward = by_scratch_back,
};
#define KERNEL(text, ...) \
    { .name = text, .mechanism = "copy", .brief = "test", .sizes = no_sizes, __VA_ARGS__ }
static const att_kernel kernel_right = KERNEL("copy.right", .forward = right, .backward = right_back);
static const att_kernel kernel_off = KERNEL("copy.off", .forward = off_by_3, .backward = off_by_7_back);
static const att_kernel kernel_threads = KERNEL("copy.threads", .forward = by_threads, .backward = right_back);
static const att_kernel kernel_turn = KERNEL("copy.turn", .forward = by_turn, .backward = right_back);
static const att_kernel kernel_back = KERNEL("copy.back", .forward = right, .backward = by_turn_back);
static const att_kernel kernel_forward = KERNEL("copy.forward", .forward = right);
static const att_kernel kernel_undefined = KERNEL("copy.undefined", .forward = undefined);
static const att_kernel kernel_dies = KERNEL("copy.dies", .forward = dies);
static const att_kernel kernel_refuses = KERNEL("copy.refuses", .forward = right, .reject = refuse);
/* the same kernel at another level */
static const att_kernel kernel_higher = KERNEL("copy.right", .forward = off_by_3, .backward = right_back);

static accuracy_input input(void)
{
    accuracy_input in = { .name = "normal", .ordinary = true };
    in.values.mechanism = &copy;
    in.values.problem = att_problem_default;
    att_set(&in.values.problem, ATT_FIELD_grid, "16");
    in.values.problem.head_dim = DIM;
    in.values.grad = true;
    in.values.seed = 1;
    return in;
}

static accuracy_result measured(const att_kernel *kernel)
{
    const att_entry entry = { .kernel = kernel, .mechanism = &copy, .level = ATT_V2 };
    const att_entry *list[] = { &entry };
    const bool wanted[] = { true };
    const accuracy_input in = input();
    accuracy_result r = { .status = "" };
    int current;
    error e;
    calls = 0;
    if (accuracy_measure(&in, list, 1, wanted, 1, &r, &current, &e))
        fail_msg("%s", e.text);
    return r;
}

static void same(const accuracy_result *r, enum att_pass pass, enum accuracy_way way,
                 double ulp)
{
    const accuracy_same *s = &r->same[pass][way];
    assert_true(s->tried);
    assert_int_equal(s->same, ulp == 0);
    assert_true(s->ulp == ulp);
}

/* ---- errors -------------------------------------------------------------- */

static void planted(void **state)
{
    (void)state;
    accuracy_result r = measured(&kernel_right);
    assert_string_equal(r.status, "ok");
    assert_int_equal(r.tensors, 2);
    assert_true(accuracy_worst(&r, ATT_FORWARD)->max == 0);
    assert_true(accuracy_worst(&r, ATT_BACKWARD)->rms == 0);

    r = measured(&kernel_off);
    const accuracy_tensor *o = accuracy_worst(&r, ATT_FORWARD);
    const accuracy_tensor *dv = accuracy_worst(&r, ATT_BACKWARD);
    assert_string_equal(o->name, "out");
    assert_string_equal(dv->name, "dv");
    assert_true(o->unit == ulp_unit(ATT_F32, o->scale));
    assert_true(o->max == 3 && o->rms == 3 / sqrt(VALUES));
    assert_true(dv->max == 7 && dv->rms == 7 / sqrt(VALUES));
    same(&r, ATT_FORWARD, ACCURACY_REPEAT, 0);
    same(&r, ATT_BACKWARD, ACCURACY_THREADS, 0);
}

static void broken(void **state)
{
    (void)state;
    accuracy_result r = measured(&kernel_undefined);
    assert_true(isinf(accuracy_worst(&r, ATT_FORWARD)->max));
    r = measured(&kernel_refuses);
    assert_string_equal(r.status, "unsupported");
    assert_string_equal(r.reason, "not today");
    assert_null(accuracy_worst(&r, ATT_FORWARD));
    r = measured(&kernel_forward);
    assert_string_equal(r.status, "ok");
    assert_false(r.backward);
    assert_null(accuracy_worst(&r, ATT_BACKWARD));
    assert_false(r.same[ATT_BACKWARD][ACCURACY_REPEAT].tried);
}

/* ---- determinism --------------------------------------------------------- */

static void threads(void **state)
{
    (void)state;
    const accuracy_result r = measured(&kernel_threads);
    assert_true(accuracy_worst(&r, ATT_FORWARD)->max == 0); /* of one thread */
    same(&r, ATT_FORWARD, ACCURACY_THREADS, 5);
    same(&r, ATT_FORWARD, ACCURACY_REPEAT, 0);
    same(&r, ATT_BACKWARD, ACCURACY_THREADS, 0);
    assert_false(r.same[ATT_FORWARD][ACCURACY_LEVELS].tried);
}

static void repeats(void **state)
{
    (void)state;
    accuracy_result r = measured(&kernel_turn);
    same(&r, ATT_FORWARD, ACCURACY_REPEAT, 1);
    same(&r, ATT_BACKWARD, ACCURACY_REPEAT, 0);
    r = measured(&kernel_back); /* with three threads alone */
    same(&r, ATT_BACKWARD, ACCURACY_REPEAT, 2);
    same(&r, ATT_FORWARD, ACCURACY_REPEAT, 0);
}

/* Repeated on memory that holds something else. */
static void leftovers(void **state)
{
    static const struct { const att_kernel *kernel; const char *varies; } each[] = {
        { &kernel_right, NULL },
        { &kernel_scratch, "out" },
        { &kernel_scratch_back, "dv" },
    };
    const drawn d = input().values;
    check_memory again = check_heap;
    (void)state;
    again.again = 2;
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        const att_entry entry = { .kernel = each[i].kernel, .mechanism = &copy,
                                  .level = ATT_V2 };
        check_values v;
        error e;
        assert_int_equal(check_values_make(&v, &copy, &d.problem, true, &e), 0);
        assert_int_equal(draw_fill(&d, &v, &e), 0);
        assert_null(check_run(&entry, 1, &again, &v));
        for (int k = 0; k < v.outputs; k++)
            assert_int_equal(v.output[k].varies,
                             each[i].varies &&
                                 !strcmp(v.output[k].name, each[i].varies));
        check_values_free(&v);
    }
}

static void levels(void **state)
{
    (void)state;
    const att_entry entry[] = {
        { .kernel = &kernel_off, .mechanism = &copy, .level = ATT_V2 },
        { .kernel = &kernel_right, .mechanism = &copy, .level = ATT_V2 },
        { .kernel = &kernel_higher, .mechanism = &copy, .level = ATT_V3 },
    };
    const att_entry *list[] = { &entry[0], &entry[1], &entry[2] };
    const bool wanted[] = { true, true, true };
    const accuracy_input in = input();
    accuracy_result r[3] = { { .status = "" } };
    int current;
    error e;
    assert_int_equal(accuracy_measure(&in, list, 3, wanted, 1, r, &current, &e), 0);
    assert_false(r[0].same[ATT_FORWARD][ACCURACY_LEVELS].tried);
    for (int i = 1; i < 3; i++) {
        same(&r[i], ATT_FORWARD, ACCURACY_LEVELS, 3);
        same(&r[i], ATT_BACKWARD, ACCURACY_LEVELS, 0);
    }
}

/* ---- children ------------------------------------------------------------ */

/* Who dies does not keep the others from their turn. */
static void deaths(void **state)
{
    (void)state;
    const att_entry entry[] = {
        { .kernel = &kernel_dies, .mechanism = &copy, .level = ATT_V2 },
        { .kernel = &kernel_off, .mechanism = &copy, .level = ATT_V2 },
    };
    const att_entry *list[] = { &entry[0], &entry[1] };
    const accuracy_input in = input();
    accuracy_result r[2];
    error e;
    assert_int_equal(accuracy_try(&in, list, 2, 1, 60, r, &e), 0);
    assert_string_equal(r[0].status, "signal:11");
    assert_non_null(strstr(r[0].reason, "running copy.dies v2"));
    assert_string_equal(r[1].status, "ok");
    assert_true(accuracy_worst(&r[1], ATT_FORWARD)->max == 3);
}

/* ---- inputs -------------------------------------------------------------- */

static const accuracy_input *find(const accuracy_inputs *list, const char *name)
{
    for (int i = 0; i < list->count; i++)
        if (!strcmp(list->item[i].name, name)) return &list->item[i];
    return NULL;
}

/* Every mechanism has ordinary inputs, the first; rows of 1e4 keys where they cost
 * little, and a reason where not. */
static void inputs_of_all(void **state)
{
    (void)state;
    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    int run = 0;
    for (size_t i = 0; i < n; i++) {
        accuracy_inputs list;
        error e;
        assert_int_equal(accuracy_inputs_make(&list, all[i], ATT_F32, false, &e), 0);
        assert_true(list.count >= 7 && list.item[0].ordinary);
        for (int k = 0; k < list.count; k++)
            assert_null(att_reject(all[i], &list.item[k].values.problem));
        const accuracy_input *rows = find(&list, "long rows");
        assert_non_null(rows);
        const bool large = att_keys(&rows->values.problem) >= 10000;
        if (!large) fail_msg("%s: %zu keys", all[i]->name,
                             att_keys(&rows->values.problem));
        run += !rows->left_out;
        accuracy_inputs_free(&list);
    }
    assert_true(run >= 20);
    accuracy_inputs halves;
    error e;
    assert_int_equal(accuracy_inputs_make(&halves, all[0], ATT_F16, false, &e), 0);
    assert_null(find(&halves, "denormal"));
    for (int k = 0; k < halves.count; k++)
        assert_int_equal(halves.item[k].values.problem.dtype, ATT_F16);
    accuracy_inputs_free(&halves);
}

/* Plain kernels that go over long rows in pieces: neither their rounding nor their
 * bits follow the number of threads. */
static void long_rows(void **state)
{
    static const char *const kernels[] = {
        "pernode_logits.direct", "pernode_softmax.direct", "pernode_pool.direct",
        "separable.direct"
    };
    (void)state;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        accuracy_inputs list;
        accuracy_result r;
        const bool wanted[1] = { true };
        volatile int current;
        error e;
        const att_entry *entry = att_find(kernels[i], att_level_best());
        assert_non_null(entry);
        assert_int_equal(accuracy_inputs_make(&list, entry->mechanism, ATT_F32,
                                              false, &e), 0);
        const accuracy_input *in = find(&list, "long rows");
        assert_non_null(in);
        assert_int_equal(accuracy_measure(in, &entry, 1, wanted, 1, &r, &current,
                                          &e), 0);
        assert_string_equal(r.status, "ok");
        for (int pass = 0; pass < 2; pass++) {
            if (!r.same[pass][ACCURACY_THREADS].same)
                fail_msg("%s: %g ulp with other threads", kernels[i],
                         r.same[pass][ACCURACY_THREADS].ulp);
            const accuracy_tensor *t = accuracy_worst(&r, pass);
            if (!(t->max < 8))
                fail_msg("%s: %g ulp in %s", kernels[i], t->max, t->name);
        }
        accuracy_inputs_free(&list);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units),
        cmocka_unit_test(differences),
        cmocka_unit_test(not_finite),
        cmocka_unit_test(bits),
        cmocka_unit_test(deaths), /* before anything uses threads */
        cmocka_unit_test(planted),
        cmocka_unit_test(broken),
        cmocka_unit_test(threads),
        cmocka_unit_test(repeats),
        cmocka_unit_test(leftovers),
        cmocka_unit_test(levels),
        cmocka_unit_test(inputs_of_all),
        cmocka_unit_test(long_rows),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests_name("accuracy", tests, NULL, NULL);
}
