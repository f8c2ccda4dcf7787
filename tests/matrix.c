/* matrix.c - the effective matrix of every mechanism is what forward() does:
 * A v is the output, rows() are the columns found by moving one value at a time,
 * the parts add up.  (analysis/matrix.h)  How far layers of them see is what can
 * be counted by hand.  (analysis/locality.h)
 */
#include "test.h"

#include <math.h>

#include "../analysis/locality.h"
#include "../analysis/matrix.h"

/* Double precision on 15 or 16 tokens; sums of some hundred terms. */
enum { SEED = 7 };
static const double tolerance = 1e-9;

static att_problem small(const att_mechanism *m)
{
    att_problem p = att_problem_default;
    p.head_dim = 4;
    p.heads = m->traits & ATT_ONE_WIDTH ? 1 : 2;
    p.window = (att_list){ 1, { 3 } };
    p.block = 2;
    p.conv = (att_list){ 1, { 3 } };
    p.radius = 1;
    p.grid = m->traits & ATT_IS_3D   ? (att_list){ 3, { 2, 2, 4 } }
             : m->traits & ATT_IS_2D ? (att_list){ 2, { 4, 4 } }
                                     : (att_list){ 1, { 15 } };
    if (m->traits & ATT_IS_3D) p.window = (att_list){ 1, { 2 } };
    att_canonical(m, &p);
    return p;
}

static void matrices_do_what_forward_does(void **state)
{
    const att_mechanism *const *m;
    const size_t n = att_mechanisms(&m);
    int checked = 0;
    (void)state;
    for (size_t i = 0; i < n; i++) {
        const att_problem p = small(m[i]);
        error e;
        if (!m[i]->rows) continue;
        const double worst = matrix_check(m[i], &p, SEED, &e);
        if (isnan(worst)) fail_msg("%s: %s", m[i]->name, e.text);
        if (worst > tolerance)
            fail_msg("%s: matrix and forward differ by %g", m[i]->name, worst);
        checked++;
    }
    assert_true(checked > 20);
}

/* A mechanism whose rows() are wrong in the way that `spoil` says. */
enum spoil { NOTHING, TOTAL, CONVOLUTION, NEGATIVE, SUM };
static enum spoil spoil;
static const att_mechanism *sound;

static void spoiled_rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                         size_t i1, double *a)
{
    sound->rows(r, h, ch, part, i0, i1, a);
    if (spoil == TOTAL && part == ATT_PART_TOTAL) a[0] += 1e-3;
    if (spoil == CONVOLUTION && part == ATT_PART_CONVOLUTION) a[0] += 1e-3;
    if (spoil == NEGATIVE && part == ATT_PART_ATTENTION) a[0] -= 2, a[1] += 2;
    if (spoil == SUM && part == ATT_PART_ATTENTION) a[0] += 1e-3;
}

static matrix_agreement agreement(const char *name, enum spoil how, double *all)
{
    sound = att_find_mechanism(name);
    att_mechanism m = *sound;
    matrix_agreement got;
    check_values v;
    error e;
    const att_problem p = small(sound);
    spoil = how;
    m.rows = spoiled_rows;
    if (matrix_open(&v, &m, &p, &e) < 0 ||
        check_values_fill(&v, SEED, INPUTS_NORMAL, &e) < 0 ||
        matrix_compare(&v, true, &got, &e) < 0)
        fail_msg("%s", e.text);
    check_values_free(&v);
    *all = matrix_check(&m, &p, SEED, &e);
    return got;
}

/* What is compared is compared: a matrix that differs from forward(), parts that do not
 * add up, a broken promise are each told by their own number. */
static void wrong_matrices_are_told(void **state)
{
    (void)state;
    double all;
    matrix_agreement a = agreement("softmax", NOTHING, &all);
    assert_true(a.linear && a.forward < tolerance && a.probe < tolerance && all < tolerance);
    assert_true(a.row_sum < tolerance && a.least == 0);
    a = agreement("softmax", TOTAL, &all);
    assert_true(a.forward > 1e-5 && a.probe > 4e-4 && a.row_sum < tolerance && all > 4e-4);
    a = agreement("softmax", NEGATIVE, &all);
    assert_true(a.least < -1 && a.row_sum < tolerance);
    a = agreement("softmax", SUM, &all);
    assert_true(fabs(a.row_sum - 1e-3) < tolerance && a.least == 0);
    a = agreement("focused_linear", NOTHING, &all);
    assert_true(a.parts < tolerance && all < tolerance);
    a = agreement("focused_linear", CONVOLUTION, &all);
    assert_true(a.parts > 5e-4 && a.forward < tolerance && all > 5e-4);
}

/* One map of a mechanism with a map for each channel is their mean. */
static void means_over_channels(void **state)
{
    (void)state;
    const att_mechanism *m = att_find_mechanism("aft_simple");
    const att_problem p = small(m);
    double one[225], sum[225] = { 0 }, mean[225];
    check_values v;
    error e;
    assert_true(matrix_per_channel(m, ATT_PART_ATTENTION));
    if (matrix_open(&v, m, &p, &e) < 0 ||
        check_values_fill(&v, SEED, INPUTS_NORMAL, &e) < 0 ||
        matrix_get(&v, 0, MATRIX_MEAN, ATT_PART_ATTENTION, mean, &e) < 0)
        fail_msg("%s", e.text);
    for (int c = 0; c < 4; c++) {
        if (matrix_get(&v, 0, c, ATT_PART_ATTENTION, one, &e) < 0) fail_msg("%s", e.text);
        for (int i = 0; i < 225; i++) sum[i] += one[i];
    }
    check_values_free(&v);
    for (int i = 0; i < 225; i++) assert_true(fabs(mean[i] - sum[i] / 4) < tolerance);
}

/* Tokens seen on a 6 x 6 map after 1, 2, 3 layers; 0: the list has ended.  Two
 * upright and lying stripes of 2 x 6 overlap in 4.  Windows of 3, shifted by one
 * in every second layer: on a line 1 token sees 3, 2 see 3, 3 see all 6 after the
 * second, 4.5 on average.  Blocks of 3 with a halo of 1 see 4 of a line; of
 * neighbourhoods of 3, four tokens of a line see 4 after the second and two 5. */
static void fields_are_those_of_models(void **state)
{
    static const struct {
        const char *mechanism;
        int window, block, halo, dilation;
        double equal[3], alternating[3];
        const char *other;
    } want[] = {
        { "cswin", 2, 0, 0, 1, { 20, 36, 36 }, { 0 }, "" },
        { "swin", 3, 0, 0, 1, { 9, 9, 0 }, { 9, 20.25, 36 }, "shift=1" },
        { "halo", 0, 3, 1, 1, { 16, 36, 36 }, { 0 }, "" },
        { "na2d", 3, 0, 0, 1, { 9, 26.0 * 26 / 36, 32.0 * 32 / 36 }, { 0 }, "" },
        { "na2d", 3, 0, 0, 2, { 9, 9, 0 }, { 0 }, "" },
        { "softmax", 0, 0, 0, 1, { 36, 36, 0 }, { 0 }, "" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const att_mechanism *m = att_find_mechanism(want[i].mechanism);
        att_problem p = att_problem_default;
        check_values v;
        locality_fields f;
        error e;
        p.head_dim = 4;
        p.heads = 2;
        p.grid = (att_list){ 2, { 6, 6 } };
        if (want[i].window) p.window = (att_list){ 1, { want[i].window } };
        if (want[i].block) p.block = want[i].block;
        if (want[i].halo) p.halo = want[i].halo;
        p.dilation = (att_list){ 1, { want[i].dilation } };
        att_canonical(m, &p);
        if (matrix_open(&v, m, &p, &e) < 0) fail_msg("%s", e.text);
        if (locality_fields_of(&v, &f, &e) < 0) fail_msg("%s", e.text);
        check_values_free(&v);
        const bool turns = *want[i].other;
        assert_int_equal(f.alternating.layers > 0, turns);
        if (turns) assert_string_equal(f.other, want[i].other);
        for (int l = 0; l < 3; l++) {
            const double is[2] = { f.equal.mean[l], f.alternating.mean[l] };
            const double be[2] = { want[i].equal[l], want[i].alternating[l] };
            for (int k = 0; k < 2; k++)
                if (be[k] > 0 && fabs(is[k] - be[k]) > 1e-9)
                    fail_msg("%s: %g tokens after %d layers, %g are right",
                             want[i].mechanism, is[k], l + 1, be[k]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrices_do_what_forward_does),
        cmocka_unit_test(wrong_matrices_are_told),
        cmocka_unit_test(means_over_channels),
        cmocka_unit_test(fields_are_those_of_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
