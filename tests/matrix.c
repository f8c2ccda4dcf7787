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
        cmocka_unit_test(fields_are_those_of_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
