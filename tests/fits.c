/* fits.c - exponents and crossings of times that are exact power laws, from rows as a
 * journal has them.  (harness/sweep_row.h)
 */
#include "test.h"

#include "../harness/file.h"
#include "../harness/journal.h"
#include "../harness/sweep_row.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[200];

static void near(double x, double want)
{
    if (!(fabs(x - want) <= 1e-9 * (1 + fabs(want))))
        fail_msg("%.12g, expected %.12g", x, want);
}

/* ---- rows ------------------------------------------------------------------------ */

/* c N^b ns, intervals of 2 % either way; what is 0 is usual. */
typedef struct law {
    const char *mechanism, *kernel;
    double factor, exponent;
    int from, to; /* tokens, doubled from row to row                             */
    const char *level, *pass, *inputs, *causal;
    int threads, head_dim;
    double wide; /* interval: factor either way                                  */
    double workspace; /* bytes: this times N^2                                   */
} law;

static const char *usual(const char *text, const char *otherwise)
{
    return text ? text : otherwise;
}

static void put_rows(FILE *f, const law *x)
{
    const char *level = usual(x->level, "v3"), *pass = usual(x->pass, "forward");
    const int threads = x->threads ? x->threads : 1, d = x->head_dim ? x->head_dim : 8;
    const double wide = x->wide > 0 ? x->wide : 1.02;
    for (int n = x->from; n <= x->to; n *= 2) {
        const double ns = x->factor * pow(n, x->exponent);
        fprintf(f, "{\"kind\":\"case\",\"schema\":1,\"case\":\"%s/n=%d,d=%d,h=1,b=1,%s%s%st=%d,"
                   "%s,%s\",\"env\":\"e\",\"mechanism\":\"%s\",\"family\":\"f\",\"kernel\":"
                   "\"%s\",\"level\":\"%s\",\"threads\":%d,\"pass\":\"%s\",",
                x->kernel, n, d, x->inputs ? "in=" : "", usual(x->inputs, ""),
                x->inputs ? "," : "", threads, level, pass, x->mechanism, x->kernel, level,
                threads, pass);
        if (x->inputs) fprintf(f, "\"inputs\":\"%s\",", x->inputs);
        fprintf(f, "\"problem\":{\"grid\":[%d],\"head_dim\":%d,\"heads\":1,\"batch\":1,"
                   "\"dtype\":\"f32\",\"causal\":%s,\"tokens\":%d},\"status\":\"ok\","
                   "\"reason\":null,\"time_ns\":{\"median\":%.17g,\"lo\":%.17g,"
                   "\"hi\":%.17g,\"n\":25,\"unreliable\":false},\"bytes\":{\"inputs\":%d,"
                   "\"parameters\":0,\"workspace\":%.17g}}\n",
                n, d, usual(x->causal, "[]"), n, ns, ns / wide, ns * wide, 16 * n * d,
                x->workspace * n * n);
    }
}

static journal rows_of(const law *laws, int count, const struct row ***out)
{
    char path[300];
    journal j;
    error e;
    snprintf(path, sizeof path, "%s/journal.jsonl", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < count; i++) put_rows(f, &laws[i]);
    fclose(f);
    if (journal_read(&j, folder, &e) < 0) fail_msg("%s", e.text);
    *out = malloc(((size_t)j.count + 1) * sizeof **out);
    assert_non_null(*out);
    /* the last first: fits sort for themselves */
    for (int i = 0; i < j.count; i++) (*out)[i] = &j.row[j.count - 1 - i];
    return j;
}

static double number(const json *j, const char *key)
{
    return json_number(json_get(j, key), NAN);
}

/* ---- fits ------------------------------------------------------------------------ */

/* Caches of 24 and 200 kB, q, k, v, o of 128 N bytes: L1 holds 64 and 128 tokens, L2 up
 * to 1024, memory the rest; with a workspace of 4 N^2 L2 holds 64 and 128. */
static const char caches[] = "{\"cache_bytes\":{\"L1\":24000,\"L2\":200000}}";

static void exact_exponents(void **state)
{
    (void)state;
    static const law laws[] = {
        { "linear", "linear.fused", 3, 1.5, 64, 8192, .workspace = 0 },
        { "linear", "linear.held", 1, 1, 256, 1024, .workspace = 0 }, /* all in L2 */
        { "softmax", "softmax.flash", 2, 2, 64, 1024, .workspace = 4 },
        { "softmax", "softmax.naive", 2, 2, 64, 128, .workspace = 4 },
    };
    const struct row **row;
    error e;
    journal j = rows_of(laws, 4, &row);
    json *roofline = json_parse(caches, strlen(caches), "", &e);
    json *fits = sweep_fits(row, j.count, roofline);
    static const struct {
        const char *series, *regime;
        double exponent, factor, points, from, to, workspace;
    } want[] = {
        { "linear.fused/d=8,h=1,b=1,t=1,v3,forward", "all", 1.5, 3, 8, 64, 8192, NAN },
        { "linear.fused/d=8,h=1,b=1,t=1,v3,forward", "L2", 1.5, 3, 3, 256, 1024, NAN },
        { "linear.fused/d=8,h=1,b=1,t=1,v3,forward", "memory", 1.5, 3, 3, 2048, 8192, NAN },
        { "linear.held/d=8,h=1,b=1,t=1,v3,forward", "all", 1, 1, 3, 256, 1024, NAN },
        { "softmax.flash/d=8,h=1,b=1,t=1,v3,forward", "all", 2, 2, 5, 64, 1024, 2 },
        { "softmax.flash/d=8,h=1,b=1,t=1,v3,forward", "memory", 2, 2, 3, 256, 1024, 2 },
    };
    const json *x = json_first(fits);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++, x = json_next(x)) {
        assert_non_null(x);
        assert_string_equal(json_text(json_get(x, "series")), want[i].series);
        assert_string_equal(json_text(json_get(x, "regime")), want[i].regime);
        near(number(x, "exponent"), want[i].exponent);
        near(number(x, "ns_at_1"), want[i].factor);
        near(number(x, "points"), want[i].points);
        near(number(x, "tokens_min"), want[i].from);
        near(number(x, "tokens_max"), want[i].to);
        assert_true(number(x, "lo") <= want[i].exponent + 1e-9 &&
                    number(x, "hi") >= want[i].exponent - 1e-9);
        assert_true(fabs(number(x, "rms_ln")) < 1e-9);
        if (isnan(want[i].workspace)) assert_null(json_get(x, "workspace_exponent"));
        else near(number(x, "workspace_exponent"), want[i].workspace);
        assert_null(json_get(json_get(x, "problem"), "tokens"));
        near(number(json_get(x, "problem"), "head_dim"), 8);
    }
    assert_null(x); /* two lengths make no fit */
    json_free(fits);
    json_free(roofline);
    free(row);
    journal_free(&j);
}

/* Lengths beside the line widen the interval round the exponent. */
static void scatter_widens(void **state)
{
    (void)state;
    static const law laws[] = {
        { "linear", "linear.fused", 3, 1.5, 64, 64, .wide = 1.001 },
        { "linear", "linear.fused", 3.6, 1.5, 128, 128, .wide = 1.001 },
        { "linear", "linear.fused", 3, 1.5, 256, 256, .wide = 1.001 },
        { "linear", "linear.fused", 3.6, 1.5, 512, 512, .wide = 1.001 },
        { "linear", "linear.fused", 3, 1.5, 1024, 1024, .wide = 1.001 },
    };
    const struct row **row;
    journal j = rows_of(laws, 5, &row);
    json *fits = sweep_fits(row, j.count, NULL);
    const json *x = json_first(fits);
    near(number(x, "exponent"), 1.5);
    /* residuals of ln 1.2 (3 2 3 2 3 of 5 apart), 3 degrees of freedom: t = 3.182 */
    const double s = log(1.2), ss = s * s * (3 * .4 * .4 + 2 * .6 * .6);
    const double half = 3.182 * sqrt(ss / 3 / (10 * log(2) * log(2)));
    assert_true(fabs(number(x, "hi") - 1.5 - half) < 0.1 * half);
    assert_true(fabs(1.5 - number(x, "lo") - half) < 0.1 * half);
    assert_true(fabs(number(x, "rms_ln") - sqrt(ss / 5)) < 1e-9);
    json_free(fits);
    free(row);
    journal_free(&j);
}

/* ---- crossings ------------------------------------------------------------------- */

/* 192 N against N^2: at 192; ends where intervals of 2 % either way cease to overlap.
 * Against the softmax that gets farthest and is the fastest there. */
static void exact_crossings(void **state)
{
    (void)state;
    static const law laws[] = {
        { "softmax", "softmax.flash", 1, 2, 64, 512, .level = "v3" },
        { "softmax", "softmax.naive", 1.5, 2, 64, 512, .level = "v3" },
        { "softmax", "softmax.late", 1.0 / 400, 3, 64, 512, .level = "v3" }, /* faster to 400 */
        { "softmax", "softmax.gemm", 0.1, 2, 64, 256, .level = "v3" },           /* not as far    */
        { "softmax", "softmax.tiny", 0.1, 2, 64, 512, .causal = "[1]" },
        { "softmax", "softmax.flash", 0.1, 2, 64, 512, .level = "v4" },
        { "softmax", "softmax.flash", 0.1, 2, 64, 512, .threads = 2 },
        { "softmax", "softmax.flash", 0.1, 2, 64, 512, .head_dim = 16 },
        { "softmax", "softmax.flash", 0.1, 2, 64, 512, .inputs = "sharp" },
        { "softmax", "softmax.flash", 0.1, 2, 64, 512, .pass = "backward" },
        { "linear", "linear.fused", 192, 1, 64, 512, .level = "v3" },
        { "linear", "linear.unfused", 10, 1, 64, 512, .level = "v3" },
        { "performer", "performer.fused", 1.0 / 192, 3, 64, 512, .level = "v3" },
        { "efficient", "efficient.slow", 2, 2, 64, 512, .level = "v3" },
        { "linear", "linear.vague", 1, 2, 64, 512, .wide = 1.5 },
        { "layernorm", "layernorm.fused", 1, 1, 64, 512, .level = "v3" },        /* no rival      */
    };
    static const struct { const char *kernel, *faster; double n, lo, hi; } want[] = {
        { "efficient.slow", "none", NAN, NAN, NAN },
        { "linear.fused", "above", 192, 192 / 1.0404, 192 * 1.0404 },
        { "linear.unfused", "all", NAN, NAN, NAN },
        { "linear.vague", "unclear", NAN, NAN, NAN },
        { "performer.fused", "below", 192, 192 / 1.0404, 192 * 1.0404 },
    };
    const struct row **row;
    journal j = rows_of(laws, sizeof laws / sizeof *laws, &row);
    json *all = sweep_crossings(row, j.count);
    const json *x = json_first(all);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++, x = json_next(x)) {
        assert_non_null(x);
        assert_string_equal(json_text(json_get(x, "kernel")), want[i].kernel);
        assert_string_equal(json_text(json_get(x, "baseline")),
                            "softmax.flash/d=8,h=1,b=1,t=1,v3,forward");
        assert_string_equal(json_text(json_get(x, "faster")), want[i].faster);
        const double is[] = { number(x, "tokens"), number(x, "lo"), number(x, "hi") };
        const double be[] = { want[i].n, want[i].lo, want[i].hi };
        for (int k = 0; k < 3; k++)
            if (isnan(be[k])) assert_true(isnan(is[k]) || k > 0);
            else near(is[k], be[k]);
    }
    assert_null(x);
    json_free(all);
    free(row);
    journal_free(&j);
}

/* ---- levels and inputs ----------------------------------------------------------- */

static char *printed(void print(FILE *, const struct row *const *, int),
                     const struct row *const *row, int count)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    assert_non_null(f);
    print(f, row, count);
    fclose(f);
    return text;
}

static void slower_levels(void **state)
{
    (void)state;
    static const law laws[] = {
        { "softmax", "softmax.flash", 1, 2, 64, 64, .level = "v2" },
        { "softmax", "softmax.flash", 1.02, 2, 64, 64, .level = "v3" },
        { "softmax", "softmax.flash", 1.5, 2, 64, 64, .level = "v4" },
        { "linear", "linear.fused", 2, 1, 64, 64, .level = "v3" },
        { "linear", "linear.fused", 1, 1, 64, 64, .level = "v4" },
    };
    const struct row **row;
    journal j = rows_of(laws, 5, &row);
    char *text = printed(sweep_levels_print, row, j.count);
    assert_string_equal(text, "\nslower at v4 than at v2, by a factor of 1.50: "
                              "softmax.flash/n=64,d=8,h=1,b=1,t=1,forward\n");
    free(text);
    free(row);
    journal_free(&j);
}

static void sharp_inputs(void **state)
{
    (void)state;
    static const law laws[] = {
        { "softmax", "softmax.flash", 1, 2, 64, 256, .level = "v3" },
        { "softmax", "softmax.flash", 1.1, 2, 64, 64, .inputs = "sharp" },
        { "softmax", "softmax.flash", 1.25, 2, 128, 128, .inputs = "sharp" },
        { "softmax", "softmax.flash", 2, 2, 256, 256, .inputs = "sharp" },
    };
    const struct row **row;
    journal j = rows_of(laws, 4, &row);
    char *text = printed(sweep_inputs_print, row, j.count);
    assert_string_equal(text, "\ntime with sharp inputs over that with normal ones: 3 cases, "
                              "median 1.25, most 2.00 "
                              "(softmax.flash/n=256,d=8,h=1,b=1,t=1,v3,forward)\n");
    free(text);
    free(row);
    journal_free(&j);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_exponents),
        cmocka_unit_test(scatter_widens),
        cmocka_unit_test(exact_crossings),
        cmocka_unit_test(slower_levels),
        cmocka_unit_test(sharp_inputs),
    };
    if (!test_folder(folder, sizeof folder, "fits")) return 1;
    test_arguments(argc, argv);
    const int rc = cmocka_run_group_tests_name("fits", tests, NULL, NULL);
    test_folder_remove(folder);
    return rc;
}
