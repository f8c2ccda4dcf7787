/* problem.c - problems as text, names of cases, registry, plans, storage types,
 * the random generator. */
#include "test.h"

#include "../harness/shapes.h"
#include "../kernels/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

/* ---- fields -------------------------------------------------------------------- */

static void names_are_unique(void **state)
{
    (void)state;
    for (int a = 0; a < ATT_FIELD_COUNT; a++) {
        if (att_field_find(att_fields[a].name) != a)
            fail_msg("field name %s", att_fields[a].name);
        for (int b = 0; b < a; b++)
            if (!strcmp(att_fields[a].short_name, att_fields[b].short_name))
                fail_msg("short name %s twice", att_fields[a].short_name);
    }
    assert_int_equal(att_field_find("no such field"), -1);
    assert_int_equal(att_field_find(""), -1);
}

/* Sets, prints, sets again: the same text and the same bytes. */
static void round_trip(int f, const char *text)
{
    att_problem a = att_problem_default, b = att_problem_default;
    char out[ATT_TEXT], again[ATT_TEXT];
    if (!att_set(&a, (enum att_field)f, text))
        fail_msg("%s=%s is refused", att_fields[f].name, text);
    att_get(&a, (enum att_field)f, out);
    assert_true(att_set(&b, (enum att_field)f, out));
    att_get(&b, (enum att_field)f, again);
    assert_string_equal(out, again);
    for (int g = 0; g < ATT_FIELD_COUNT; g++) {
        char x[ATT_TEXT], y[ATT_TEXT];
        att_get(&a, (enum att_field)g, x);
        att_get(&b, (enum att_field)g, y);
        assert_string_equal(x, y);
        if (g != f && !att_is_default(&a, (enum att_field)g))
            fail_msg("%s changes %s", att_fields[f].name, att_fields[g].name);
    }
}

static void texts_round_trip(void **state)
{
    (void)state;
    static const char *const ints[] = { "0", "1", "7", "2147483647", "-3" };
    static const char *const reals[] = { "0", "0.1", "1e-300", "-2.5",
                                         "0.3535533905932738", "1e30" };
    static const char *const list_texts[] = { "7", "7x5", "7,5", "1x2x3x4",
                                              "none", "0x1" };
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        const char *help = att_fields[f].help;
        switch (att_fields[f].kind) {
        case ATT_INT:
            for (size_t i = 0; i < 5; i++) round_trip(f, ints[i]);
            break;
        case ATT_REAL:
            for (size_t i = 0; i < 6; i++) round_trip(f, reals[i]);
            break;
        case ATT_LIST:
            for (size_t i = 0; i < 6; i++) round_trip(f, list_texts[i]);
            break;
        case ATT_ENUM:
            for (;; help++) {
                char one[ATT_TEXT];
                const int n = (int)strcspn(help, "|:");
                snprintf(one, sizeof one, "%.*s", n, help);
                round_trip(f, one);
                help += n;
                if (*help != '|') break;
            }
            break;
        }
    }
}

static void bad_texts_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "",     "x",     "7x",   "x7",
                                       "7x5y", "1e999", "nan",  "inf",
                                       "7 ",   "99999999999999999999",
                                       "1x2x3x4x5", "none7", "--1" };
    for (int f = 0; f < ATT_FIELD_COUNT; f++)
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            att_problem p = att_problem_default;
            if (att_fields[f].kind == ATT_REAL && i == 9) continue; /* 1e20 */
            if (att_set(&p, (enum att_field)f, bad[i]))
                fail_msg("%s takes '%s'", att_fields[f].name, bad[i]);
            assert_memory_equal(&p, &att_problem_default, sizeof p);
        }
}

/* What papers, frameworks and files write. */
static void other_spellings(void **state)
{
    (void)state;
    static const struct {
        enum att_field field;
        const char *written, *ours;
    } pairs[] = {
        { ATT_FIELD_cost, "squared", "square" },
        { ATT_FIELD_cost, "Absolute", "abs" },
        { ATT_FIELD_cost, "abs(a-b)", "abs" },
        { ATT_FIELD_cost, "(a-b)^2", "square" },
        { ATT_FIELD_feature_map, "elu+1", "elu1" },
        { ATT_FIELD_similarity, "Soft-DTW", "softdtw" },
        { ATT_FIELD_similarity, "scaled-dot", "scaled_dot" },
        { ATT_FIELD_mode, "training", "train" },
        { ATT_FIELD_order, "kv-first", "kv_first" },
        { ATT_FIELD_dtype, "bfloat16", "bf16" },
        { ATT_FIELD_causal, "True", "1" },
        { ATT_FIELD_causal, "false,true", "0x1" },
        { ATT_FIELD_bias, "true", "1" },
        { ATT_FIELD_shift, "0,3", "0x3" },
        { ATT_FIELD_window, "4,7", "4x7" },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        att_problem p = att_problem_default;
        char text[ATT_TEXT];
        if (!att_set(&p, pairs[i].field, pairs[i].written))
            fail_msg("%s=%s", att_fields[pairs[i].field].name,
                     pairs[i].written);
        att_get(&p, pairs[i].field, text);
        assert_string_equal(text, pairs[i].ours);
    }
}

/* ---- canonical problems and names -------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Different canonical problems have different names, equal ones the same. */
static void case_names(void **state)
{
    (void)state;
    const att_entry *entry;
    const size_t n = att_entries(&entry);
    const char *last = "";
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(entry[i].kernel->name, last)) continue;
        last = entry[i].kernel->name;
        shapes s;
        error e;
        assert_int_equal(shapes_make(&s, entry[i].mechanism, SHAPES_FEW, &e), 0);
        char (*names)[ATT_NAME] = calloc((size_t)s.count, sizeof *names);
        int count = 0;
        for (int k = 0; k < s.count; k++) {
            if (s.item[k].family != INPUTS_NORMAL) continue; /* seen before */
            att_case_name(&entry[i], &s.item[k].problem, 2, ATT_FORWARD,
                          names[count]);
            if (strlen(names[count]) >= ATT_NAME - 1 ||
                !strstr(names[count], ",forward"))
                fail_msg("name cut short: %s", names[count]);
            att_problem twice = s.item[k].problem;
            att_canonical(entry[i].mechanism, &twice);
            assert_memory_equal(&twice, &s.item[k].problem, sizeof twice);
            count++;
        }
        qsort(names, (size_t)count, sizeof *names, by_text);
        for (int k = 1; k < count; k++)
            if (!strcmp(names[k - 1], names[k]))
                fail_msg("two problems are both %s", names[k]);
        free(names);
        shapes_free(&s);
    }
}

static void names_are_stable(void **state)
{
    (void)state;
    const att_entry *e = att_find("softmax.naive", att_level_best());
    char name[ATT_NAME], want[ATT_NAME];
    att_problem p = att_problem_default;
    assert_non_null(e);
    att_set(&p, ATT_FIELD_grid, "56x56");
    att_set(&p, ATT_FIELD_causal, "0");
    att_set(&p, ATT_FIELD_window, "9"); /* not a field of softmax */
    att_set(&p, ATT_FIELD_value_dim, "32");
    att_case_name(e, &p, 2, ATT_BACKWARD, name);
    snprintf(want, sizeof want,
             "softmax.naive/g=56x56,d=32,h=1,b=1,t=2,%s,backward",
             att_level_name(e->level));
    assert_string_equal(name, want);
    att_set(&p, ATT_FIELD_grid, "512");
    att_set(&p, ATT_FIELD_causal, "1");
    att_case_name(e, &p, 1, ATT_FORWARD, name);
    snprintf(want, sizeof want,
             "softmax.naive/n=512,d=32,c=1,h=1,b=1,t=1,%s,forward",
             att_level_name(e->level));
    assert_string_equal(name, want);
}

static void lists_repeat(void **state)
{
    (void)state;
    const att_list none = { 0 }, one = { 1, { 7 } }, two = { 2, { 7, 5 } };
    assert_int_equal(att_at(&none, 2, 3), 3);
    assert_int_equal(att_at(&one, 2, 3), 7);
    assert_int_equal(att_at(&two, 0, 3), 7);
    assert_int_equal(att_at(&two, 2, 3), 5);
}

/* ---- levels and registry -------------------------------------------------------------- */

static void registry(void **state)
{
    (void)state;
    const att_mechanism *const *m;
    const att_entry *e;
    const size_t mechanisms = att_mechanisms(&m), entries = att_entries(&e);
    assert_true(mechanisms > 0 && entries > 0);
    for (size_t i = 1; i < mechanisms; i++)
        assert_true(strcmp(m[i - 1]->name, m[i]->name) < 0);
    for (size_t i = 0; i < entries; i++) {
        const char *name = e[i].kernel->name;
        assert_ptr_equal(att_find(name, e[i].level), &e[i]);
        assert_string_equal(e[i].kernel->mechanism, e[i].mechanism->name);
        assert_true(e[i].level <= att_level_best());
        assert_non_null(e[i].kernel->brief);
        assert_non_null(strchr(name, '.'));
        if (i) assert_true(strcmp(e[i - 1].kernel->name, name) <= 0);
    }
    assert_null(att_find("no.such", att_level_best()));
    assert_null(att_find_mechanism("no such"));
    for (int l = 0; l < ATT_LEVELS; l++)
        assert_int_equal(att_level_parse(att_level_name((enum att_level)l)), l);
    assert_int_equal(att_level_parse("best"), (int)att_level_best());
    assert_int_equal(att_level_parse("v9"), -1);
}

/* Every mechanism has one plain kernel to show fast ones beside, or the default
 * suite would have nothing to compare with. */
static void one_plain_kernel_each(void **state)
{
    (void)state;
    const att_mechanism *const *m;
    const att_entry *e;
    const size_t mechanisms = att_mechanisms(&m), entries = att_entries(&e);
    for (size_t i = 0; i < mechanisms; i++) {
        int plain = 0;
        for (size_t k = 0; k < entries; k++)
            plain += e[k].mechanism == m[i] && e[k].kernel->plain &&
                     e[k].level == att_level_best();
        if (plain != 1)
            fail_msg("%s has %d plain kernels", m[i]->name, plain);
    }
}

/* ---- plans ---------------------------------------------------------------------------- */

static bool aligned(const void *x)
{
    return (uintptr_t)x % ATT_ALIGN == 0;
}

static void plans(void **state)
{
    (void)state;
    const att_entry *entry;
    const size_t n = att_entries(&entry);
    for (size_t i = 0; i < n; i++) {
        shapes s;
        error e;
        assert_int_equal(shapes_make(&s, entry[i].mechanism, SHAPES_TINY, &e), 0);
        for (int k = 0; k < s.count; k += 5) {
            att_plan dry, real;
            const char *why = att_plan_create(&dry, &entry[i],
                                              &s.item[k].problem, 2, false, true);
            if (why) continue;
            assert_null(dry.block);
            why = att_plan_create(&real, &entry[i], &s.item[k].problem, 2, false,
                                  false);
            assert_null(why);
            assert_memory_equal(&dry.sizes, &real.sizes, sizeof dry.sizes);
            assert_int_equal(dry.block_bytes, real.block_bytes);
            assert_true(aligned(real.call.state) && aligned(real.call.work));
            assert_null(real.call.save);
            for (int t = 0; t < real.parameters; t++)
                assert_true(aligned(real.param[t]));
            att_plan_free(&real);
            att_plan_free(&real); /* twice is fine */
        }
        shapes_free(&s);
    }
}

static void plans_refuse(void **state)
{
    (void)state;
    const att_entry *e = att_find("softmax.naive", att_level_best());
    att_problem p = att_problem_default;
    att_plan plan;
    assert_non_null(att_plan_create(&plan, e, &p, 0, false, true));
    p.head_dim = 0;
    assert_non_null(att_plan_create(&plan, e, &p, 1, false, true));
    p.head_dim = 1 << 30;
    p.heads = 1 << 30;
    p.batch = 1 << 30;
    assert_non_null(att_plan_create(&plan, e, &p, 1, false, true));
    p = att_problem_default;
    att_set(&p, ATT_FIELD_grid, "2147483647x2147483647x2147483647");
    assert_non_null(att_reject(e->mechanism, &p));
    att_set(&p, ATT_FIELD_grid, "none");
    assert_non_null(att_reject(e->mechanism, &p));
    att_set(&p, ATT_FIELD_grid, "2x2x2x2");
    assert_non_null(att_reject(e->mechanism, &p));
}

/* ---- storage types ---------------------------------------------------------------------- */

static float fetch(int dtype, uint16_t bits)
{
    float x;
    att_fetch(dtype, &x, &bits, 1);
    return x;
}

static uint16_t store(int dtype, float x)
{
    uint16_t bits;
    att_store(dtype, &bits, &x, 1);
    return bits;
}

/* All 65536 values survive, and are what the definition of the format says. */
static void halves_exhaustively(void **state)
{
    const int dtype = *(int *)*state;
    const int fraction = dtype == ATT_F16 ? 10 : 7;
    const int bias = dtype == ATT_F16 ? 15 : 127;
    for (unsigned u = 0; u < 65536; u++) {
        const float x = fetch(dtype, (uint16_t)u);
        const int e = (int)(u >> fraction) & ((1 << (15 - fraction)) - 1);
        const int f = (int)u & ((1 << fraction) - 1);
        const double sign = u >> 15 ? -1 : 1;
        if (e == 2 * bias + 1 && f) {
            assert_true(isnan(x));
            assert_true(isnan(fetch(dtype, store(dtype, x))));
            continue;
        }
        const double want =
            e == 2 * bias + 1 ? sign * INFINITY
            : e ? sign * ldexp((1 << fraction) + f, e - bias - fraction)
                : sign * ldexp(f, 1 - bias - fraction);
        if (x != (float)want || store(dtype, x) != u)
            fail_msg("bits %04x: %g, stored again %04x", u, x, store(dtype, x));
    }
}

/* Random floats go to the nearer neighbour, ties to the even one. */
static void halves_round_to_even(void **state)
{
    const int dtype = *(int *)*state;
    uint64_t seed = 11;
    for (int i = 0; i < 400000; i++) {
        uint32_t bits = (uint32_t)att_random(&seed);
        if (i % 4 == 0) /* a tie, or next to one */
            bits = (bits & ~(dtype == ATT_F16 ? 0x1fffu : 0xffffu)) |
                   ((dtype == ATT_F16 ? 0x1000u : 0x8000u) + bits % 3 - 1);
        float x;
        memcpy(&x, &bits, sizeof x);
        if (isnan(x)) continue;
        const uint16_t h = store(dtype, x);
        const float y = fetch(dtype, h);
        if ((h & 0x8000) != (bits >> 31 << 15)) fail_msg("sign of %a lost", x);
        if (isinf(y)) { /* at least half a step above the largest */
            const double most = fetch(dtype, dtype == ATT_F16 ? 0x7bff : 0x7f7f);
            const double before =
                fetch(dtype, dtype == ATT_F16 ? 0x7bfe : 0x7f7e);
            assert_true(fabs(x) >= most + (most - before) / 2);
            continue;
        }
        const double off = fabs((double)x - y);
        for (int side = -1; side <= 1; side += 2) {
            const uint16_t next = (uint16_t)(h + side);
            if (((next ^ h) & 0x8000) || !isfinite(fetch(dtype, next))) continue;
            const double other = fabs((double)x - fetch(dtype, next));
            if (other < off || (other == off && (h & 1)))
                fail_msg("%a became %a, %a is as near", x, y,
                         fetch(dtype, next));
        }
    }
}

#ifdef __x86_64__
__attribute__((target("f16c"))) static uint16_t compiler_store(float x)
{
    return (uint16_t)_cvtss_sh(x, 0); /* 0: to nearest even */
}

__attribute__((target("f16c"))) static float compiler_fetch(uint16_t h)
{
    return _cvtsh_ss(h);
}

static void halves_as_the_cpu_does(void **state)
{
    (void)state;
    if (!__builtin_cpu_supports("avx2")) skip(); /* f16c came before */
    uint64_t seed = 5;
    for (unsigned u = 0; u < 65536; u++) {
        const float x = compiler_fetch((uint16_t)u);
        const float y = fetch(ATT_F16, (uint16_t)u);
        if (!isnan(x) || !isnan(y)) assert_true(x == y);
    }
    for (int i = 0; i < 400000; i++) {
        const uint32_t bits = (uint32_t)att_random(&seed);
        float x;
        memcpy(&x, &bits, sizeof x);
        if (i & 1) x = (float)(att_normal(&seed) * exp2(-20 + i % 36));
        if (!isnan(x) && compiler_store(x) != store(ATT_F16, x))
            fail_msg("%a: %04x, the CPU says %04x", x, store(ATT_F16, x),
                     compiler_store(x));
    }
}
#else
static void halves_as_the_cpu_does(void **state)
{
    (void)state;
    skip();
}
#endif

/* ---- random numbers ----------------------------------------------------------------------- */

static void random_numbers(void **state)
{
    (void)state;
    uint64_t a = 42, b = 42;
    double mean = 0, square = 0, fourth = 0;
    const int n = 200000;
    for (int i = 0; i < 100; i++) assert_true(att_random(&a) == att_random(&b));
    a = 0; /* splitmix64 from 0, as published */
    assert_true(att_random(&a) == 0xe220a8397b1dcdafu);
    assert_true(att_random(&a) == 0x6e789e6aa1b965f4u);
    for (int i = 0; i < n; i++) {
        const double u = att_uniform(&a), z = att_normal(&a);
        assert_true(u >= 0 && u < 1 && isfinite(z));
        mean += z / n;
        square += z * z / n;
        fourth += z * z * z * z / n;
    }
    assert_true(fabs(mean) < 0.01);
    assert_true(fabs(square - 1) < 0.02);
    assert_true(fabs(fourth - 3) < 0.15);
}

int main(int argc, char **argv)
{
    static int f16 = ATT_F16, bf16 = ATT_BF16;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_unique),
        cmocka_unit_test(texts_round_trip),
        cmocka_unit_test(bad_texts_are_refused),
        cmocka_unit_test(other_spellings),
        cmocka_unit_test(case_names),
        cmocka_unit_test(names_are_stable),
        cmocka_unit_test(lists_repeat),
        cmocka_unit_test(registry),
        cmocka_unit_test(one_plain_kernel_each),
        cmocka_unit_test(plans),
        cmocka_unit_test(plans_refuse),
        { "f16 exhaustively", halves_exhaustively, NULL, NULL, &f16 },
        { "bf16 exhaustively", halves_exhaustively, NULL, NULL, &bf16 },
        { "f16 rounds to even", halves_round_to_even, NULL, NULL, &f16 },
        { "bf16 rounds to even", halves_round_to_even, NULL, NULL, &bf16 },
        cmocka_unit_test(halves_as_the_cpu_does),
        cmocka_unit_test(random_numbers),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests_name("problem", tests, NULL, NULL);
}
