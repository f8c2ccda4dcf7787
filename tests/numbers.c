/* numbers.c - statistics, singular values and metrics on what is known in
 * closed form; inputs; and that the check of kernels can fail. */
#include "test.h"

#include "../analysis/linalg.h"
#include "../analysis/metrics.h"
#include "../harness/axes.h"
#include "../harness/check.h"
#include "../harness/shapes.h"
#include "../harness/stats.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void near(double x, double want, double tolerance)
{
    if (!(fabs(x - want) <= tolerance * (1 + fabs(want))))
        fail_msg("%.12g, expected %.12g", x, want);
}

/* ---- statistics --------------------------------------------------------------- */

static void medians(void **state)
{
    (void)state;
    stats_summary s;
    const double odd[] = { 5, 1, 4, 2, 3 };
    stats_summarise(odd, 5, &s);
    assert_true(s.median == 3 && s.min == 1 && s.mad == 1 && s.n == 5);
    assert_true(isnan(s.lo) && isnan(s.hi)); /* too few for an interval */
    const double even[] = { 4, 1, 3, 2 };
    stats_summarise(even, 4, &s);
    assert_true(s.median == 2.5);
    stats_summarise(odd, 0, &s);
    assert_true(isnan(s.median) && s.n == 0);

    double x[6] = { 6, 5, 4, 3, 2, 1 };
    stats_summarise(x, 6, &s); /* the only interval there is: all of it */
    assert_true(s.lo == 1 && s.hi == 6);
}

/* The interval of order statistics holds the true median in at least 95 % of
 * many samples from any distribution; here a skewed one with median ln 2. */
static void intervals_cover(void **state)
{
    (void)state;
    uint64_t seed = 3;
    int covered = 0;
    const int times = 4000;
    for (int t = 0; t < times; t++) {
        double x[31];
        stats_summary s;
        const int n = 7 + t % 25;
        for (int i = 0; i < n; i++) x[i] = -log(1 - att_uniform(&seed));
        stats_summarise(x, n, &s);
        covered += s.lo <= log(2) && log(2) <= s.hi;
    }
    if (covered < 0.945 * times || covered > 0.995 * times)
        fail_msg("%d of %d intervals hold the median", covered, times);
}

static void power_laws(void **state)
{
    (void)state;
    double n[8], t[8];
    stats_fit fit;
    for (int i = 0; i < 8; i++) {
        n[i] = 64 << i;
        t[i] = 3e-9 * pow(n[i], 1.75);
    }
    assert_true(stats_power_law(n, t, NULL, 8, &fit));
    near(fit.exponent, 1.75, 1e-9);
    near(fit.factor, 3e-9, 1e-9);
    assert_true(fit.lo <= 1.75 + 1e-9 && fit.hi >= 1.75 - 1e-9);
    assert_false(stats_power_law(n, t, NULL, 2, &fit));
    t[3] = 0;
    assert_false(stats_power_law(n, t, NULL, 8, &fit));
}

/* The textbook's table, and between its lines: one degree of freedom is Cauchy's
 * distribution, two have a closed form. */
static void students_t(void **state)
{
    (void)state;
    near(stats_student(1), tan(M_PI * 0.475), 1e-9);
    near(stats_student(2), 0.95 * sqrt(2 / (1 - 0.95 * 0.95)), 1e-9);
    near(stats_student(3), 3.182446, 1e-6);
    near(stats_student(10), 2.228139, 1e-6);
    near(stats_student(1e6), 1.959966, 1e-5);
    near(stats_student_upper(0.005, 4), 4.604095, 1e-6);
    near(stats_student_upper(1e-4, 1), tan(M_PI * 0.4999), 1e-6);
    assert_true(stats_student(2.5) < stats_student(2) &&
                stats_student(2.5) > stats_student(3));
    assert_true(isinf(stats_student(0)));
}

/* The slope of three points by hand: 1 + (y2 - y0) / 2 of ln 2; errors alone make
 * its standard error, or the scatter does with one degree of freedom. */
static void slopes_have_errors(void **state)
{
    (void)state;
    const double n[3] = { 1, 2, 4 }, x = log(2);
    double t[3] = { 1, 2, 4 }, sigma[3] = { 0.01, 0.01, 0.01 };
    stats_fit fit;
    assert_true(stats_power_law(n, t, sigma, 3, &fit));
    near(fit.exponent, 1, 1e-12);
    near(fit.hi - fit.lo, 2 * 1.959964 * 0.01 / (sqrt(2) * x), 1e-4);
    assert_true(fit.determined);
    t[1] = 2 * exp(0.3); /* off the line by .2, -.1, -.1 of its mean         */
    assert_true(stats_power_law(n, t, NULL, 3, &fit));
    near(fit.exponent, 1, 1e-12);
    near(fit.hi - fit.lo,
         2 * stats_student(1) * sqrt(0.06) / (sqrt(2) * x), 1e-6);
    assert_false(fit.determined);
    /* a point that is hardly known does not bend the line */
    sigma[1] = 10;
    assert_true(stats_power_law(n, t, sigma, 3, &fit));
    near(fit.exponent, 1, 1e-9);
    assert_true(fit.hi - fit.lo < 0.1);
    sigma[1] = 0.01;
    sigma[2] = 10;
    assert_true(stats_power_law(n, t, sigma, 3, &fit));
    near(fit.exponent, 1 + 0.3 / x, 1e-3);
}

/* Times a N and b N^2 cross at N = a / b; intervals of 10 % on both move the ends
 * by their ratio. */
static void crossings(void **state)
{
    stats_pair p[6];
    stats_crossing c;
    (void)state;
    for (int i = 0; i < 6; i++) {
        const double n = 16 << i, ratio = 100 / n;
        p[i] = (stats_pair){ n, ratio, ratio * 0.9 / 1.1, ratio * 1.1 / 0.9 };
    }
    assert_true(stats_cross(p, 6, &c));
    assert_int_equal(c.faster, STATS_ABOVE);
    near(c.n, 100, 1e-9);
    near(c.lo, 100 * 0.9 / 1.1, 1e-9);
    near(c.hi, 100 * 1.1 / 0.9, 1e-9);
    assert_true(stats_cross(p, 2, &c)); /* 16 and 32: slower at both        */
    assert_int_equal(c.faster, STATS_NONE);
    assert_true(isnan(c.n));
    assert_true(stats_cross(p + 4, 2, &c));
    assert_int_equal(c.faster, STATS_ALL);
    for (int i = 0; i < 6; i++)
        p[i] = (stats_pair){ p[i].n, 1 / p[i].ratio, 1 / p[i].hi, 1 / p[i].lo };
    assert_true(stats_cross(p, 6, &c));
    assert_int_equal(c.faster, STATS_BELOW);
    near(c.n, 100, 1e-9);
    assert_true(c.lo < 100 && c.hi > 100);
    p[5].ratio = 0.5; /* and once more */
    assert_true(stats_cross(p, 6, &c));
    assert_int_equal(c.faster, STATS_UNCLEAR);
    assert_true(isnan(c.n));
    assert_false(stats_cross(p, 1, &c));
    /* intervals that allow places from 20 to 500, and none at all */
    for (int i = 0; i < 6; i++) {
        const double m = 16 << i;
        p[i] = (stats_pair){ m, 100 / m, 20 / m, 500 / m };
    }
    assert_true(stats_cross(p, 6, &c));
    assert_int_equal(c.faster, STATS_UNCLEAR);
    for (int i = 0; i < 6; i++) p[i].lo = p[i].hi = NAN;
    assert_true(stats_cross(p, 6, &c));
    assert_int_equal(c.faster, STATS_UNCLEAR);
    assert_true(isnan(c.n));
}

/* ---- axes ------------------------------------------------------------------------ */

static void axes_expand(void **state)
{
    (void)state;
    static const struct { const char *axis, *text, *values; } good[] = {
        { "head_dim", "16", "16" },
        { "head-dim", "16,32,64", "16 32 64" },
        { "head-dim", "16..128*2", "16 32 64 128" },
        { "heads", "1..7+2", "1 3 5 7" },
        { "heads", "1..8+2", "1 3 5 7" },
        { "grid", "14x14,28x28", "14x14 28x28" },
        { "window", "3,7x5", "3 7x5" },
        { "pass", "forward,backward", "forward backward" },
    };
    static const struct { const char *axis, *text; } bad[] = {
        { "head-dim", "" },      { "head-dim", "16," },
        { "head-dim", "x" },     { "head-dim", "8..4*2" },
        { "head-dim", "1..8*1" }, { "head-dim", "1..8+0" },
        { "head-dim", "1..8" },  { "head-dim", "1..8*0" },
        { "grid", "14x" },       { "pass", "sideways" },
        { "level", "v9" },       { "threads", "0" },
        { "threads", "-1" },     { "head-dim", "1..99999999999*2" },
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        axes a = { 0 };
        error e;
        const int number = axes_find(good[i].axis);
        if (axes_set(&a, number, good[i].text, NULL, &e)) fail_msg("%s", e.text);
        char all[200] = "";
        for (int v = 0; v < a.of[number].count; v++)
            snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s",
                     v ? " " : "", a.of[number].value[v]);
        assert_string_equal(all, good[i].values);
        axes_free(&a);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        axes a = { 0 };
        error e = { "" };
        if (!axes_set(&a, axes_find(bad[i].axis), bad[i].text, NULL, &e))
            fail_msg("--%s %s is taken", bad[i].axis, bad[i].text);
        if (!strstr(e.text, bad[i].axis))
            fail_msg("'%s' does not name --%s", e.text, bad[i].axis);
        axes_free(&a);
    }
    assert_int_equal(axes_find("no-such-axis"), -1);
}

/* ---- linear algebra, metrics --------------------------------------------------------- */

/* U diag(s) V' with Householder reflections U = I - 2uu', V likewise. */
static double *with_spectrum(size_t rows, size_t columns, const double *s,
                             uint64_t seed)
{
    const size_t k = rows < columns ? rows : columns;
    double *u = malloc(rows * sizeof *u), *v = malloc(columns * sizeof *v);
    double *a = calloc(rows * columns, sizeof *a), uu = 0, vv = 0;
    for (size_t i = 0; i < rows; i++) u[i] = att_normal(&seed), uu += u[i] * u[i];
    for (size_t j = 0; j < columns; j++) v[j] = att_normal(&seed), vv += v[j] * v[j];
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            for (size_t t = 0; t < k; t++)
                a[i * columns + j] +=
                    ((i == t) - 2 * u[i] * u[t] / uu) * s[t] *
                    ((j == t) - 2 * v[j] * v[t] / vv);
    free(u);
    free(v);
    return a;
}

static void singular_values(void **state)
{
    (void)state;
    static const size_t shapes_of[][2] = { { 20, 20 }, { 7, 20 }, { 20, 7 } };
    error e;
    for (int k = 0; k < 3; k++) {
        const size_t r = shapes_of[k][0], c = shapes_of[k][1];
        double s[20], got[20];
        const size_t n = r < c ? r : c;
        for (size_t i = 0; i < n; i++) s[i] = i < 5 ? 10 - (double)i : 0;
        double *a = with_spectrum(r, c, s, 5);
        if (linalg_singular_values(a, r, c, got, &e)) fail_msg("%s", e.text);
        for (size_t i = 0; i < n; i++) near(got[i], s[i], 1e-12);
        if (linalg_leading_values(a, r, c, 3, 1, got, &e)) fail_msg("%s", e.text);
        for (size_t i = 0; i < 3; i++) near(got[i], s[i], 1e-6);
        a[0] = NAN;
        assert_int_equal(linalg_singular_values(a, r, c, got, &e), -1);
        free(a);
    }
}

static metrics metrics_of(const double *a, size_t n, size_t columns)
{
    const metrics_grid grid = { .axes = 2, .side = { 4, 4 } };
    metrics m;
    error e;
    if (metrics_compute(a, n, columns, n == 16 && columns == 16 ? &grid : NULL,
                        METRICS_VALID, true, &m, &e))
        fail_msg("%s", e.text);
    return m;
}

static void metrics_of_limits(void **state)
{
    (void)state;
    double uniform[256], identity[256] = { 0 }, signs[256];
    for (int i = 0; i < 256; i++) uniform[i] = 1.0 / 16;
    for (int i = 0; i < 16; i++) identity[i * 17] = 1;
    for (int i = 0; i < 256; i++) signs[i] = i % 2 ? -1.0 / 16 : 1.0 / 16;

    metrics m = metrics_of(uniform, 16, 16);
    near(m.entropy, log(16), 1e-12);
    near(m.entropy_norm, 1, 1e-12);
    near(m.support, 16, 1e-12);
    near(m.maxw, 1.0 / 16, 1e-12);
    near(m.rank_f64, 1, 0);
    near(m.erank, 1, 1e-6);
    near(m.stable_rank, 1, 1e-12);
    near(m.dist, m.dist_uniform, 1e-12);
    near(m.mass_r1, m.u_r1, 1e-12);
    near(m.mass_r1, 100.0 / 256, 1e-12); /* (3 4 - 2)^2 pairs of 16^2 */
    near(m.row_sum_min, 1, 1e-12);
    assert_false(m.negative);
    metrics_free(&m);

    m = metrics_of(identity, 16, 16);
    near(m.entropy, 0, 1e-12);
    near(m.support, 1, 1e-12);
    near(m.maxw, 1, 1e-12);
    near(m.rank_1e3, 16, 0);
    near(m.erank, 16, 1e-9);
    near(m.stable_rank, 16, 1e-9);
    near(m.dist, 0, 1e-12);
    near(m.mass_r1, 1, 1e-12);
    metrics_free(&m);

    m = metrics_of(signs, 16, 16);
    near(m.entropy, log(16), 1e-12);
    assert_true(m.negative && m.renormalised);
    metrics_free(&m);

    memset(identity, 0, sizeof identity);
    m = metrics_of(identity, 16, 16);
    near(m.zero_rows, 16, 0);
    near(m.zero_matrices, 1, 0);
    metrics_free(&m);
}

/* ---- inputs ------------------------------------------------------------------------------ */

/* Kept numbers, fewer, more or as many as are asked for, change no input. */
static void inputs_are_kept(void **state)
{
    (void)state;
    const att_mechanism *m = att_find_mechanism("softmax");
    const uint64_t seed = 12345;
    att_problem p = att_problem_default;
    error e;
    for (int batch = 1; batch <= 3; batch++) {
        inputs drawn, kept;
        p.batch = batch;
        assert_int_equal(inputs_make(&drawn, m, &p, seed, INPUTS_SHARP, true, &e), 0);
        p.batch = batch == 2 ? 1 : batch; /* kept for the smaller one          */
        inputs_keep(m, &p, seed, true);
        p.batch = batch;
        assert_int_equal(inputs_make(&kept, m, &p, seed, INPUTS_SHARP, true, &e), 0);
        assert_null(att_normals_kept(seed * 8 + ATT_Q, 3 * kept.elements[ATT_Q] + 1));
        for (int s = ATT_Q; s <= ATT_V; s++)
            assert_memory_equal(drawn.value[s], kept.value[s],
                                drawn.elements[s] * sizeof(float));
        assert_memory_equal(drawn.dout, kept.dout,
                            drawn.elements[ATT_O] * sizeof(float));
        inputs_free(&drawn);
        inputs_free(&kept);
    }
    assert_non_null(att_normals_kept(seed * 8 + ATT_Q, 3 * 64 * 32));
}

static void inputs_are_seeded(void **state)
{
    (void)state;
    const att_mechanism *m = att_find_mechanism("softmax");
    att_problem p = att_problem_default;
    inputs a, b, c;
    error e;
    p.batch = 2;
    assert_int_equal(inputs_make(&a, m, &p, 1, INPUTS_NORMAL, true, &e), 0);
    assert_int_equal(inputs_make(&b, m, &p, 1, INPUTS_NORMAL, true, &e), 0);
    assert_int_equal(inputs_make(&c, m, &p, 2, INPUTS_NORMAL, false, &e), 0);
    for (int s = ATT_Q; s <= ATT_V; s++) {
        const size_t n = a.elements[s];
        assert_int_equal(n, 2 * 64 * 32);
        assert_memory_equal(a.value[s], b.value[s], n * sizeof(float));
        assert_memory_not_equal(a.value[s], c.value[s], n * sizeof(float));
        assert_true((uintptr_t)a.value[s] % ATT_ALIGN == 0);
        double mean = 0, square = 0;
        for (size_t i = 0; i < n; i++) {
            const double x = ((float *)a.value[s])[i];
            mean += x / (double)n;
            square += x * x / (double)n;
        }
        assert_true(fabs(mean) < 0.1 && fabs(square - 1) < 0.1);
    }
    assert_memory_not_equal(a.value[ATT_Q], a.value[ATT_K], 100);
    assert_true(isnan(((float *)a.value[ATT_O])[5]));
    assert_true(isnan(a.grad[0][3]));
    assert_non_null(a.dout);
    assert_null(c.dout);
    inputs_free(&a);
    inputs_free(&b);
    inputs_free(&c);
}

static void input_families(void **state)
{
    (void)state;
    const att_mechanism *m = att_find_mechanism("softmax");
    const att_problem p = att_problem_default;
    for (int f = INPUTS_NORMAL; f < INPUTS_FAMILIES; f++) {
        inputs in;
        error e;
        float most = -INFINITY, least = INFINITY, nearest = INFINITY;
        int nonzero = 0, differ = 0;
        assert_int_equal(inputs_make(&in, m, &p, 1, (enum inputs_family)f, false,
                                     &e), 0);
        const float *k = in.value[ATT_K];
        for (size_t i = 0; i < in.elements[ATT_K]; i++) {
            most = fmaxf(most, k[i]);
            least = fminf(least, k[i]);
            nonzero += k[i] != 0;
            if (k[i] != 0) nearest = fminf(nearest, fabsf(k[i]));
            differ += k[i] != k[f == INPUTS_TOKENS ? i / 32 * 32 : i % 32];
        }
        if (f == INPUTS_LARGE) assert_true(most > 89); /* ln(FLT_MAX) */
        if (f == INPUTS_EQUAL) assert_true(most == least);
        if (f == INPUTS_ONEHOT) assert_int_equal(nonzero, 64);
        if (f == INPUTS_NEGATIVE) assert_true(most < 0);
        if (f == INPUTS_CHANNELS || f == INPUTS_TOKENS) {
            assert_int_equal(differ, 0);
            assert_true(most > least);
        }
        if (f == INPUTS_ZERO) assert_int_equal(nonzero, 0);
        if (f == INPUTS_TINY) assert_true(most > 0 && most * most == 0);
        if (f == INPUTS_DENORMAL) assert_true(nonzero && nearest < FLT_MIN);
        if (f == INPUTS_HUGE) assert_true(most > 1e17f && most < 1e20f);
        if (f == INPUTS_OUTLIER) assert_true(most == 100);
        assert_non_null(inputs_family_name((enum inputs_family)f));
        inputs_free(&in);
    }
}

/* Every learned term of logits holds what the family promises, other tensors
 * do not. */
static void masked_terms(void **state)
{
    (void)state;
    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    int terms = 0;
    for (size_t i = 0; i < n; i++) {
        att_problem p = att_problem_default;
        att_tensor t[ATT_PARAMS];
        att_set(&p, ATT_FIELD_grid, all[i]->traits & ATT_IS_2D ? "8x8" : "16");
        if (att_uses(all[i], ATT_FIELD_bias)) p.bias = 1;
        if (att_reject(all[i], &p)) continue;
        const int count = att_parameters(all[i], &p, t);
        for (int k = 0; k < count; k++) {
            const size_t size = att_elements(&t[k]);
            if (!size) continue;
            float *x = calloc(size, sizeof *x);
            bool hidden = false, lowest = false;
            for (uint64_t seed = 1; seed < 9; seed++) {
                inputs_parameter(all[i], &p, k, &t[k], seed, INPUTS_MASKED, x);
                for (size_t j = 0; j < size; j++) {
                    hidden |= x[j] == -INFINITY;
                    lowest |= x[j] == -FLT_MAX;
                }
            }
            assert_int_equal(hidden, t[k].logit);
            assert_int_equal(lowest, t[k].logit);
            terms += t[k].logit;
            free(x);
        }
    }
    assert_true(terms >= 6);
}

/* A radius and a window are two names of one thing: what was asked for wins. */
static void one_of_two_names(void **state)
{
    (void)state;
    const att_mechanism *m = att_find_mechanism("sparse_sliding");
    static const struct {
        const char *window, *radius;
        bool usual_window, usual_radius;
        int wants_window, wants_radius;
    } cases[] = {
        { "7", "4", true, false, 0, 4 },  { "7", NULL, true, false, 7, 0 },
        { "9", "3", false, true, 9, 0 },  { "7", "3", true, true, 7, 0 },
        { "9", "4", false, false, 9, 4 }, { NULL, "4", false, false, 0, 4 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        axes a = { 0 };
        axes_point point;
        att_problem p;
        error e;
        for (int r = 0; r < 2; r++) {
            const char *text = r ? cases[i].radius : cases[i].window;
            const bool usual = r ? cases[i].usual_radius : cases[i].usual_window;
            const int f = r ? ATT_FIELD_radius : ATT_FIELD_window;
            if (!text) continue;
            if (usual) axes_usual(&a, f, text);
            else assert_int_equal(axes_set(&a, f, text, NULL, &e), 0);
        }
        axes_pick(&a, 0, &point);
        assert_null(axes_fit(m, &point, &p));
        assert_null(att_reject(m, &p));
        assert_int_equal(att_at(&p.window, 0, 0), cases[i].wants_window);
        assert_int_equal(p.radius, cases[i].wants_radius);
        axes_free(&a);
    }
    axes suite = { 0 }, over = { 0 };
    axes_point point;
    att_problem p;
    error e;
    axes_set(&suite, ATT_FIELD_window, "7", NULL, &e);
    axes_set(&over, ATT_FIELD_radius, "4", NULL, &e);
    axes_overlay(&suite, &over);
    axes_pick(&suite, 0, &point);
    assert_null(axes_fit(m, &point, &p));
    assert_int_equal(p.window.n, 0);
    assert_null(axes_fit(att_find_mechanism("softmax"), &point, &p));
    axes_free(&suite);
    axes_free(&over);
}

/* ---- the check of kernels ------------------------------------------------------------------ */

static void differences(void **state)
{
    (void)state;
    const double a[] = { 1, 2, -INFINITY }, b[] = { 1, 2.3, -INFINITY };
    const double c[] = { 1, NAN, -INFINITY }, d[] = { 1, 2, 5 };
    near(check_difference(a, b, 3), 0.3 / 3.3, 1e-12);
    near(check_difference(a, a, 3), 0, 0);
    assert_true(isinf(check_difference(c, a, 3)));
    assert_true(isinf(check_difference(a, c, 3)));
    assert_true(isinf(check_difference(c, c, 3))); /* no NaN is right */
    assert_true(isinf(check_difference(a, d, 3)));
}

/* softmax.naive, spoiled in the way that `spoil` says. */
static int spoil;

static void spoiled_forward(const att_call *c)
{
    const att_entry *e = att_find("softmax.naive", att_level_best());
    const size_t n = (size_t)c->p->batch * (size_t)c->p->heads *
                     att_tokens(c->p) * att_value_dim(c->p);
    float *o = c->o;
    if (spoil == 1) return; /* writes nothing */
    e->kernel->forward(c);
    if (spoil == 2) o[n - 1] += 1e-3f;
    if (spoil == 3) o[0] = NAN;
    if (spoil == 4 && c->extra[0]) c->extra[0][0] += 1;
    if (spoil == 5) o[n / 2] = 0;
}

static void spoiled_backward(const att_call *c, const att_grad *g)
{
    const att_entry *e = att_find("softmax.naive", att_level_best());
    e->kernel->backward(c, g);
    if (spoil == 6) g->dk[7] *= 1.01f;
    if (spoil == 7) g->dv[0] = NAN;
    if (spoil == 8 && g->dparam[0]) g->dparam[0][3] += 0.01f;
}

static const char *reject_odd(const att_problem *p, enum att_pass pass)
{
    (void)pass;
    return p->head_dim % 2 ? "odd head dims" : NULL;
}

static void checks_can_fail(void **state)
{
    (void)state;
    const att_entry *right = att_find("softmax.naive", att_level_best());
    static const char *const blamed[] = { NULL, "out", "out", "out", "lse",
                                          "out", "dk", "dv", "dbias" };
    att_kernel kernel = *right->kernel;
    kernel.forward = spoiled_forward;
    kernel.backward = spoiled_backward;
    kernel.reject = reject_odd;
    const att_entry entry = { .kernel = &kernel, .mechanism = right->mechanism,
                              .level = right->level };
    att_problem p = att_problem_default;
    check_result result;
    error e;
    p.bias = 1;
    p.batch = 2;
    for (spoil = 0; spoil <= 8; spoil++) {
        if (check_kernel(&entry, &p, 2, ATT_BACKWARD, 1, INPUTS_NORMAL, &result,
                         &e))
            fail_msg("%s", e.text);
        if (result.pass != (spoil == 0))
            fail_msg("spoiled %d: pass = %d, %g in %s", spoil, result.pass,
                     result.max_abs, result.worst);
        if (blamed[spoil]) assert_string_equal(result.worst, blamed[spoil]);
    }
    p.head_dim = 33;
    assert_int_equal(check_kernel(&entry, &p, 2, ATT_FORWARD, 1, INPUTS_NORMAL,
                                  &result, &e), -1);
    assert_non_null(strstr(e.text, "odd head dims"));
    p.head_dim = 0;
    assert_int_equal(check_kernel(&entry, &p, 2, ATT_FORWARD, 1, INPUTS_NORMAL,
                                  &result, &e), -1);
}

static void shapes_straddle_edges(void **state)
{
    (void)state;
    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    for (size_t i = 0; i < n; i++) {
        shapes s;
        error e;
        bool one_token = false, many = false, wide = false;
        assert_int_equal(shapes_make(&s, all[i], SHAPES_FEW, &e), 0);
        if (s.count < 20)
            fail_msg("%s: only %d shapes", all[i]->name, s.count);
        for (int k = 0; k < s.count; k++) {
            const att_problem *p = &s.item[k].problem;
            assert_null(att_reject(all[i], p));
            one_token |= att_tokens(p) <= 9;
            many |= att_tokens(p) > 60;
            wide |= p->head_dim > 64;
        }
        if (!one_token || !many || !wide)
            fail_msg("%s: small %d large %d wide %d", all[i]->name, one_token,
                     many, wide);
        shapes_free(&s);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(medians),
        cmocka_unit_test(intervals_cover),
        cmocka_unit_test(power_laws),
        cmocka_unit_test(students_t),
        cmocka_unit_test(slopes_have_errors),
        cmocka_unit_test(crossings),
        cmocka_unit_test(axes_expand),
        cmocka_unit_test(singular_values),
        cmocka_unit_test(metrics_of_limits),
        cmocka_unit_test(inputs_are_seeded),
        cmocka_unit_test(inputs_are_kept),
        cmocka_unit_test(input_families),
        cmocka_unit_test(masked_terms),
        cmocka_unit_test(one_of_two_names),
        cmocka_unit_test(differences),
        cmocka_unit_test(checks_can_fail),
        cmocka_unit_test(shapes_straddle_edges),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests_name("numbers", tests, NULL, NULL);
}
