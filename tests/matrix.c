/* matrix.c - the effective matrix of every mechanism is what forward() does:
 * A v is the output, rows() are the columns found by moving one value at a time,
 * the parts add up.  (analysis/matrix.h)
 */
#include "test.h"

#include <math.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrices_do_what_forward_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
