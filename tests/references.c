/* references.c - every mechanism's reference against itself: gradients against
 * central differences, counts against counted operations, rows of the effective
 * matrix against the forward pass, promises of the traits, strange problems.
 */
#include "test.h"

#include "../harness/check.h"
#include "../harness/shapes.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool quick;

/* Problem of a failure, as on the command line. */
static const char *told(const att_mechanism *m, const att_problem *p)
{
    static char text[ATT_NAME];
    const att_kernel kernel = { .name = m->name };
    const att_entry entry = { .kernel = &kernel, .mechanism = m };
    att_case_name(&entry, p, 1, ATT_FORWARD, text);
    return text;
}

static void make(check_values *v, const att_mechanism *m, const shape *x,
                 bool grad)
{
    error e;
    if (check_values_make(v, m, &x->problem, grad, &e) ||
        check_values_fill(v, x->seed, x->family, &e))
        fail_msg("%s", e.text);
}

static shapes tiny(const att_mechanism *m)
{
    shapes s;
    error e;
    if (shapes_make(&s, m, SHAPES_TINY, &e)) fail_msg("%s", e.text);
    if (s.count == 0) fail_msg("%s is defined on none of our shapes", m->name);
    return s;
}

/* ---- gradients ------------------------------------------------------------------- */

/* sum(out * dout), o overwritten. */
static double loss(const check_values *v)
{
    att_ref r = { .p = &v->problem,
                  .q = v->in[ATT_Q],
                  .k = v->in[ATT_K],
                  .v = v->in[ATT_V],
                  .o = v->o };
    for (int i = 0; i < v->parameters; i++) r.param[i] = v->param[i];
    att_reference_forward(v->mechanism, &r);
    double sum = 0;
    for (size_t i = 0; i < v->elements[ATT_O]; i++) sum += v->o[i] * v->dout[i];
    return sum;
}

static double slope(const check_values *v, double *x, double h)
{
    const double x0 = *x;
    *x = x0 + h;
    const double up = loss(v);
    *x = x0 - h;
    const double down = loss(v);
    *x = x0;
    return (up - down) / (2 * h);
}

typedef struct compared {
    int elements, kinks;
} compared;

/* Mechanisms whose definition takes some quantity for constant in its gradient,
 * with how far the slope may then be from it. */
static const struct { const char *mechanism; double tolerance; const char *why; }
detached[] = {
    { "performer", 0.02, "the maxima of the exponents are detached; the 1e-4 "
                         "added to each feature keeps them from cancelling" },
};

static double tolerance_of(const att_mechanism *m)
{
    for (size_t i = 0; i < sizeof detached / sizeof *detached; i++)
        if (!strcmp(m->name, detached[i].mechanism))
            return detached[i].tolerance;
    return 1e-6;
}

/* Some elements of one tensor.  Where two steps disagree there is a kink (relu,
 * a maximum, a shortest path) between them, and nothing to compare. */
static void check_tensor(const check_values *v, const char *name, double *x,
                         const double *dx, size_t n, compared *c)
{
    enum { MOST = 20 };
    const double h = 1e-5, tolerance = tolerance_of(v->mechanism);
    double scale = 1;
    uint64_t seed = n;
    for (size_t i = 0; i < n; i++) scale = fmax(scale, fabs(dx[i]));
    for (size_t t = 0; t < n && t < MOST; t++) {
        const size_t i = n <= MOST ? t : att_random(&seed) % n;
        const double s = slope(v, &x[i], h);
        if (fabs(s - dx[i]) <= tolerance * scale) {
            c->elements++;
            continue;
        }
        const double closer = slope(v, &x[i], h / 8);
        if (fabs(closer - dx[i]) > 10 * tolerance * scale &&
            fabs(closer - s) <= 1e-3 * fabs(closer - dx[i]))
            fail_msg("%s: %s[%zu] is %.9g, central differences say %.9g",
                     told(v->mechanism, &v->problem), name, i, dx[i], closer);
        c->kinks++;
    }
}

static void gradients(void **state)
{
    const att_mechanism *m = *state;
    if (!m->backward) skip();
    shapes s = tiny(m);
    compared c = { 0 };
    for (int i = 0; i < s.count; i += quick ? 10 : 1) {
        check_values v;
        make(&v, m, &s.item[i], true);
        check_reference(&v, NULL);
        for (enum att_slot slot = ATT_Q; slot <= ATT_V; slot++)
            if (v.in[slot])
                check_tensor(&v, att_input_name(m, &v.problem, slot),
                             v.in[slot], v.din[slot], v.elements[slot], &c);
        for (int k = 0; k < v.parameters; k++)
            if (v.dparam[k])
                check_tensor(&v, v.parameter[k].name, v.param[k], v.dparam[k],
                             att_elements(&v.parameter[k]), &c);
        check_values_free(&v);
    }
    shapes_free(&s);
    if (c.kinks > c.elements / 5)
        fail_msg("%d of %d elements near a kink", c.kinks, c.elements);
}

/* Leaving out any result must not change the others. */
static void optional_results(void **state)
{
    const att_mechanism *m = *state;
    if (!m->backward) skip();
    shapes s = tiny(m);
    for (int i = 0; i < s.count; i += 5) {
        check_values all, some;
        make(&all, m, &s.item[i], true);
        check_reference(&all, NULL);
        for (int out = 1; out < all.outputs; out++) {
            make(&some, m, &s.item[i], true);
            double *left = some.output[out].value;
            for (int k = 0; k < ATT_EXTRAS; k++)
                if (some.extra_value[k] == left) some.extra_value[k] = NULL;
            for (int k = 0; k < 3; k++)
                if (some.din[k] == left) some.din[k] = NULL;
            for (int k = 0; k < ATT_PARAMS; k++)
                if (some.dparam[k] == left) some.dparam[k] = NULL;
            check_reference(&some, NULL);
            for (int k = 0; k < all.outputs; k++)
                if (k != out &&
                    check_difference(some.output[k].value, all.output[k].value,
                                     all.output[k].elements) > 1e-12)
                    fail_msg("%s: %s depends on whether %s is wanted",
                             told(m, &all.problem), all.output[k].name,
                             all.output[out].name);
            check_values_free(&some);
        }
        check_values_free(&all);
    }
    shapes_free(&s);
}

/* ---- counts ----------------------------------------------------------------------- */

static void counts(void **state)
{
    const att_mechanism *m = *state;
    shapes s = tiny(m);
    bool tallies = false;
    for (int i = 0; i < s.count; i++) {
        check_values v;
        att_cost model, tally[2] = { { 0 } };
        const att_cost *t = &tally[ATT_FORWARD];
        char why[160];
        make(&v, m, &s.item[i], false);
        check_reference(&v, tally);
        check_values_free(&v);
        tallies |= att_flops(t) > 0 || t->pairs > 0;
        if (!check_cost(m, &s.item[i].problem, t, why, sizeof why))
            fail_msg("%s: %s", told(m, &s.item[i].problem), why);
        m->cost(&s.item[i].problem, ATT_FORWARD, &model);
        if (att_flops(t) > 0 && t->pairs != model.pairs)
            fail_msg("%s: cost() says %.15g pairs, %.15g were counted",
                     told(m, &s.item[i].problem), model.pairs, t->pairs);
    }
    shapes_free(&s);
    if (!tallies) skip(); /* this reference does not count */
}

/* ---- effective matrices -------------------------------------------------------------- */


static att_ref reference_of(const check_values *v)
{
    att_ref r = { .p = &v->problem,
                  .q = v->in[ATT_Q],
                  .k = v->in[ATT_K],
                  .v = v->in[ATT_V] };
    for (int i = 0; i < v->parameters; i++) r.param[i] = v->param[i];
    return r;
}

/* The matrix of head h, channel ch, rows in two pieces. */
static double *matrix(const check_values *v, int h, int ch, enum att_part part,
                      size_t rows, size_t columns)
{
    const att_ref r = reference_of(v);
    double *a = malloc((rows * columns + 1) * sizeof *a);
    const size_t half = rows / 2;
    if (!a) abort();
    a[rows * columns] = 12345;
    v->mechanism->rows(&r, h, ch, part, 0, half, a);
    v->mechanism->rows(&r, h, ch, part, half, rows, a + half * columns);
    if (a[rows * columns] != 12345)
        fail_msg("%s: rows() writes too much",
                 told(v->mechanism, &v->problem));
    return a;
}

/* o = gain (A x) + offset, x the values or, for maps that act on k, the keys. */
static void check_product(const check_values *v, int h, int ch, const double *a,
                          size_t columns)
{
    const att_mechanism *m = v->mechanism;
    const enum att_slot slot = m->traits & ATT_ON_K ? ATT_K : ATT_V;
    att_shape in, out;
    att_shape_of(m, &v->problem, slot, &in);
    att_shape_of(m, &v->problem, ATT_O, &out);
    if ((size_t)in.tokens != columns)
        fail_msg("%s: %zu columns for %d tokens", told(m, &v->problem), columns,
                 in.tokens);
    const att_ref r = reference_of(v);
    const size_t hin = in.heads == out.heads ? (size_t)h : 0;
    for (size_t i = 0; i < (size_t)out.tokens; i++) {
        double sum = 0, gain = 1, offset = 0;
        for (size_t j = 0; j < columns; j++)
            sum += a[i * columns + j] *
                   v->in[slot][(hin * columns + j) * (size_t)in.channels +
                               (size_t)ch];
        if (m->affine) m->affine(&r, h, ch, i, &gain, &offset);
        const double want =
            v->o[((size_t)h * (size_t)out.tokens + i) * (size_t)out.channels +
                 (size_t)ch];
        if (fabs(gain * sum + offset - want) > 1e-9 * (1 + fabs(want)))
            fail_msg("%s: head %d channel %d row %zu: A v gives %.12g, forward "
                     "%.12g",
                     told(m, &v->problem), h, ch, i, gain * sum + offset, want);
    }
}

/* Forward with V = one unit at a time gives the columns of A, if A exists. */
static void check_probe(check_values *v, int h, int ch, const double *a,
                        size_t columns)
{
    const att_mechanism *m = v->mechanism;
    att_shape in, out;
    att_shape_of(m, &v->problem, ATT_V, &in);
    att_shape_of(m, &v->problem, ATT_O, &out);
    double *const values = v->in[ATT_V];
    double *saved = malloc(v->elements[ATT_V] * sizeof *saved);
    double *zero = malloc(v->elements[ATT_O] * sizeof *zero);
    if (!saved || !zero) abort();
    memcpy(saved, values, v->elements[ATT_V] * sizeof *saved);
    memset(values, 0, v->elements[ATT_V] * sizeof *saved);
    check_reference(v, NULL);
    memcpy(zero, v->o, v->elements[ATT_O] * sizeof *zero);
    const att_ref r = reference_of(v);
    for (size_t j = 0; j < columns; j++) {
        const size_t at = ((size_t)h * (size_t)in.tokens + j) *
                              (size_t)in.channels +
                          (size_t)ch;
        values[at] = 1;
        check_reference(v, NULL);
        values[at] = 0;
        for (size_t i = 0; i < (size_t)out.tokens; i++) {
            const size_t o = ((size_t)h * (size_t)out.tokens + i) *
                                 (size_t)out.channels +
                             (size_t)ch;
            double gain = 1, offset = 0;
            if (m->affine) m->affine(&r, h, ch, i, &gain, &offset);
            if (fabs(gain * a[i * columns + j] - (v->o[o] - zero[o])) > 1e-9)
                fail_msg("%s: head %d channel %d: A[%zu][%zu] is %.12g, probed "
                         "%.12g",
                         told(m, &v->problem), h, ch, i, j, a[i * columns + j],
                         (v->o[o] - zero[o]) / gain);
        }
    }
    memcpy(values, saved, v->elements[ATT_V] * sizeof *saved);
    free(saved);
    free(zero);
}

/* Weights of the attention part: sign, and sums that only an eps in a
 * denominator or a row that sees nothing keeps from 1. */
static void check_weights(const check_values *v, const double *a, size_t rows,
                          size_t columns, size_t *whole, size_t *all)
{
    const att_mechanism *m = v->mechanism;
    for (size_t i = 0; i < rows; i++) {
        double sum = 0;
        for (size_t j = 0; j < columns; j++) {
            const double x = a[i * columns + j];
            sum += x;
            if ((m->traits & ATT_NONNEGATIVE) && x < 0)
                fail_msg("%s: A[%zu][%zu] is %g", told(m, &v->problem), i, j, x);
        }
        ++*all;
        *whole += fabs(sum - 1) < 1e-3;
        if ((m->traits & ATT_ROWS_SUM_1) && sum > 1 + 1e-9)
            fail_msg("%s: row %zu sums to %.12g", told(m, &v->problem), i, sum);
    }
}

static void rows(void **state)
{
    const att_mechanism *m = *state;
    if (!m->rows) skip();
    shapes s = tiny(m);
    size_t whole = 0, all = 0;
    for (int t = 0; t < s.count; t += quick ? 9 : 1) {
        check_values v;
        att_shape out;
        s.item[t].problem.batch = 1;
        make(&v, m, &s.item[t], false);
        att_shape_of(m, &v.problem, ATT_O, &out);
        const size_t columns = att_columns(m, &v.problem);
        const size_t n = (size_t)out.tokens;
        check_reference(&v, NULL);
        for (int h = 0; h < out.heads; h++)
            for (int ch = 0; ch < out.channels; ch++) {
                double *a = matrix(&v, h, ch, ATT_PART_ATTENTION, n, columns);
                check_weights(&v, a, n, columns, &whole, &all);
                free(a);
                if (!(m->traits & (ATT_LINEAR_IN_V | ATT_ON_K))) continue;
                a = matrix(&v, h, ch, ATT_PART_TOTAL, n, columns);
                check_product(&v, h, ch, a, columns);
                if ((m->traits & ATT_LINEAR_IN_V) && !(m->traits & ATT_ON_K)) {
                    check_probe(&v, h, ch, a, columns);
                    check_reference(&v, NULL);
                }
                free(a);
            }
        check_values_free(&v);
    }
    shapes_free(&s);
    if ((m->traits & ATT_ROWS_SUM_1) && whole < all / 2)
        fail_msg("only %zu of %zu rows sum to 1", whole, all);
}

/* ---- causality ------------------------------------------------------------------------ */

/* Rows of a causal output do not change with later tokens.  A maximum over all
 * keys that cancels up to an eps may still be felt: 1e-3. */
static void causality(void **state)
{
    const att_mechanism *m = *state;
    if (!(m->traits & ATT_CAN_CAUSAL)) skip();
    shapes s = tiny(m);
    int checked = 0;
    for (int t = 0; t < s.count; t++) {
        const att_problem *p = &s.item[t].problem;
        bool causal = p->batch == 1 && att_keys(p) == att_tokens(p);
        for (int a = 0; a < p->grid.n; a++)
            causal &= att_at(&p->causal, a, 0) != 0;
        if (!causal || att_tokens(p) < 2) continue;
        check_values a, b;
        make(&a, m, &s.item[t], false);
        make(&b, m, &s.item[t], false);
        for (int slot = 0; slot < 3; slot++) {
            att_shape in;
            att_shape_of(m, p, slot, &in);
            const size_t c = (size_t)in.channels, n = (size_t)in.tokens;
            for (int h = 0; b.in[slot] && h < in.heads; h++)
                for (size_t k = 0; k < c; k++)
                    b.in[slot][((size_t)h * n + n - 1) * c + k] += 1;
        }
        check_reference(&a, NULL);
        check_reference(&b, NULL);
        att_shape out;
        att_shape_of(m, p, ATT_O, &out);
        const size_t row = (size_t)out.channels;
        for (int h = 0; h < out.heads; h++) {
            const size_t at = (size_t)h * (size_t)out.tokens * row;
            const double d = check_difference(
                a.o + at, b.o + at, ((size_t)out.tokens - 1) * row);
            if (d > 1e-3)
                fail_msg("%s: an earlier row changes by %g with the last token",
                         told(m, p), d);
        }
        checked++;
        check_values_free(&a);
        check_values_free(&b);
    }
    shapes_free(&s);
    if (!checked) fail_msg("says it can be causal, but no shape of ours is");
}

/* ---- strange problems ------------------------------------------------------------------- */

static int any_int(uint64_t *seed)
{
    static const int odd[] = { -1, 0, 1, 2, 3, 4, 5, 7, 8, 16, 100, 65536,
                               1 << 20, INT_MAX, INT_MIN };
    const size_t n = sizeof odd / sizeof *odd;
    /* mostly small, or nothing would ever be accepted */
    return att_uniform(seed) < 0.8 ? odd[1 + att_random(seed) % 6]
                                   : odd[att_random(seed) % n];
}

/* Axes of the map: mostly as many as the mechanism asks for. */
static int any_axes(const att_mechanism *m, uint64_t *seed)
{
    const int asked = m->traits & ATT_IS_3D ? 3 : m->traits & ATT_IS_2D ? 2 : 1;
    return att_uniform(seed) < 0.7 ? asked : 1 + (int)(att_random(seed) % 3);
}

static void strange_problem(const att_mechanism *m, att_problem *p,
                            uint64_t *seed)
{
    char text[ATT_TEXT];
    *p = att_problem_default;
    att_set(p, ATT_FIELD_grid, "4");
    p->head_dim = 2;
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        if (f != ATT_FIELD_grid && att_uniform(seed) < 0.7) continue;
        const int n = f == ATT_FIELD_grid ? any_axes(m, seed)
                                          : 1 + (int)(att_random(seed) % 3);
        if (att_fields[f].kind == ATT_LIST && n == 2)
            snprintf(text, sizeof text, "%dx%d", any_int(seed), any_int(seed));
        else if (att_fields[f].kind == ATT_LIST && n == 3)
            snprintf(text, sizeof text, "%dx%dx%d", any_int(seed),
                     any_int(seed), any_int(seed));
        else if (att_fields[f].kind == ATT_REAL)
            snprintf(text, sizeof text, "%g", any_int(seed) / 3.0);
        else snprintf(text, sizeof text, "%d", any_int(seed));
        att_set(p, f, text);
        if (att_fields[f].kind == ATT_ENUM) { /* the next spelling, perhaps */
            const char *help = att_fields[f].help;
            help += strcspn(help, "|:") + 1;
            snprintf(text, sizeof text, "%.*s", (int)strcspn(help, "|:"), help);
            att_set(p, f, text);
        }
    }
}

/* Numbers that a check would hold. */
static double memory_of(const att_mechanism *m, const att_problem *p)
{
    att_tensor t[ATT_PARAMS];
    double n = (double)inputs_bytes(m, p, true) / 4;
    for (int k = att_parameters(m, p, t); k-- > 0;) {
        double one = 1; /* may be more than a size_t */
        for (int a = 0; a < t[k].dims; a++) one *= t[k].dim[a];
        n += one;
    }
    return n;
}

/* Refused with a sentence, or finite in every number. */
static void strange(void **state)
{
    const att_mechanism *m = *state;
    uint64_t seed = 7;
    int run = 0;
    for (int i = 0; i < (quick ? 1000 : 20000); i++) {
        att_problem p;
        att_cost cost;
        strange_problem(m, &p, &seed);
        const char *why = att_reject(m, &p);
        if (why) {
            assert_true(strlen(why) > 10);
            continue;
        }
        const double memory = memory_of(m, &p);
        /* counting pairs one by one takes long */
        if (memory > 1e8 || att_tokens(&p) > 5000) continue;
        for (int pass = 0; pass <= (m->backward != NULL); pass++) {
            memset(&cost, 0xff, sizeof cost);
            m->cost(&p, pass, &cost);
            const double x[] = { cost.mul_add, cost.add, cost.mul, cost.div,
                                 cost.exp,     cost.read, cost.write,
                                 cost.pairs };
            for (size_t k = 0; k < sizeof x / sizeof *x; k++)
                if (!(x[k] >= 0 && x[k] < 1e30))
                    fail_msg("%s: number %zu of cost() is %g", told(m, &p), k,
                             x[k]);
        }
        if (att_flops(&cost) > 2e5 || memory > 1e6) continue;
        const shape x = { .problem = p, .seed = (uint64_t)i };
        check_values v;
        make(&v, m, &x, m->backward != NULL);
        check_reference(&v, NULL);
        for (int k = 0; k < v.outputs; k++)
            for (size_t j = 0; j < v.output[k].elements; j++)
                if (isnan(v.output[k].value[j]))
                    fail_msg("%s: %s[%zu] is not a number", told(m, &p),
                             v.output[k].name, j);
        check_values_free(&v);
        run++;
    }
    if (run < (quick ? 1 : 5)) fail_msg("only %d problems were accepted", run);
}

/* ---- descriptions --------------------------------------------------------------------- */

static void described(void **state)
{
    const att_mechanism *m = *state;
    assert_non_null(m->family);
    assert_non_null(m->brief);
    assert_non_null(m->formula);
    assert_non_null(m->cite);
    assert_non_null(m->cost);
    assert_non_null(m->forward);
    if (m->rows) assert_non_null(m->map);
    if (m->traits & (ATT_LINEAR_IN_V | ATT_ON_K)) assert_non_null(m->rows);
    if (m->traits & ATT_GATED) assert_non_null(m->affine);
    shapes s = tiny(m);
    for (int i = 0; i < s.count; i++) {
        att_tensor t[ATT_PARAMS];
        const int n = att_parameters(m, &s.item[i].problem, t);
        assert_true(n >= 0 && n <= ATT_PARAMS);
        for (int a = 0; a < n; a++) {
            if (!t[a].name || !*t[a].name)
                fail_msg("%s: parameter %d has no name",
                         told(m, &s.item[i].problem), a);
            if (t[a].init == ATT_INIT_FILL) assert_non_null(m->fill);
            for (int b = 0; b < a; b++)
                if (!strcmp(t[a].name, t[b].name))
                    fail_msg("%s: two parameters '%s'",
                             told(m, &s.item[i].problem), t[a].name);
        }
    }
    shapes_free(&s);
}

/* ---- main --------------------------------------------------------------------------- */

static const struct { const char *name; CMUnitTestFunction function; } each[] = {
    { "described", described },   { "gradients", gradients },
    { "optional results", optional_results },
    { "counts", counts },         { "rows", rows },
    { "causality", causality },   { "strange problems", strange },
};
enum { EACH = sizeof each / sizeof *each };

int main(int argc, char **argv)
{
    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    struct CMUnitTest *tests = calloc(n * EACH, sizeof *tests);
    char (*names)[80] = calloc(n * EACH, sizeof *names);
    if (!tests || !names) return 1;
    quick = test_arguments(argc, argv);
    for (size_t i = 0; i < n * EACH; i++) {
        const att_mechanism *m = all[i / EACH];
        snprintf(names[i], sizeof names[i], "%s: %s", m->name,
                 each[i % EACH].name);
        tests[i] = (struct CMUnitTest){ .name = names[i],
                                        .test_func = each[i % EACH].function,
                                        .initial_state = (void *)m };
    }
    const int failed =
        _cmocka_run_group_tests("references", tests, n * EACH, NULL, NULL);
    free(tests);
    free(names);
    return failed;
}
