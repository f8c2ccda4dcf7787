/* denormals.c - floats below the normal range: kernels neither leave them in
 * anything they write nor compute with them, whatever the problem, the level, the
 * storage and the thread; and the caller's floating-point mode is left alone.
 */
#include "test.h"

#include "../harness/check.h"
#include "../harness/shapes.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

enum { ENTRIES = 2048, BLOCKS = 512 };

/* ---- blocks that a call was given ------------------------------------------------ */

/* Every block is looked at when it is given back.  Small integers have the bits of
 * small denormals: only words from LEAST on count.  Scratch may hold larger ones,
 * addresses and tables of bytes: there one word in SCRATCH is allowed, since a kernel that
 * computes with denormals leaves thousands.  State is made before there are
 * inputs. */
enum { LEAST = 1 << 20, NORMAL = 1 << 23, SCRATCH = 1024 };

static struct { void *at; size_t bytes; bool stored; } block[BLOCKS];
static int blocks, stored; /* the next so many hold values of p->dtype       */
static att_sizes sizes;    /* of the call                                    */
static long found;

static void *take(size_t bytes)
{
    void *x = check_heap.take(bytes);
    assert_true(blocks < BLOCKS);
    block[blocks].at = x;
    block[blocks].bytes = bytes;
    block[blocks++].stored = stored-- > 0;
    return x;
}

/* The lower half of a pointer, whose upper half is a small number. */
static bool is_address(const uint32_t *word, size_t i, size_t count)
{
    return i % 2 == 0 && i + 1 < count && word[i + 1] && word[i + 1] < 0x10000;
}

static long count_denormals(const void *x, size_t bytes)
{
    const uint32_t *word = x;
    const size_t count = bytes / sizeof *word;
    long n = 0;
    for (size_t i = 0; i < count; i++) {
        const uint32_t size = word[i] & 0x7fffffff;
        n += size >= LEAST && size < NORMAL && !is_address(word, i, count);
    }
    return n;
}

static void release(void *x)
{
    int i = blocks - 1;
    while (block[i].at != x) i--;
    const size_t bytes = block[i].bytes;
    const bool scratch = bytes == sizes.work || bytes == sizes.work_backward;
    if (!block[i].stored && bytes != sizes.state) {
        const long n = count_denormals(x, bytes);
        if (!scratch || (size_t)n > bytes / sizeof(float) / SCRATCH) found += n;
    }
    block[i] = block[--blocks];
    check_heap.release(x);
}

static const check_memory counting = { .take = take, .release = release };

/* Denormals that a kernel leaves, -1 if it refuses.  Values of half precision
 * are told by what they mean: a subnormal half is a normal float. */
static long leaves(const att_entry *e, const att_problem *p, int threads,
                   enum inputs_family family)
{
    check_values v;
    error why;
    const char *refused = NULL;
    att_plan plan;
    found = 0;
    for (int grad = e->mechanism->backward != NULL; grad >= 0; grad--) {
        if (check_values_make(&v, e->mechanism, p, grad, &why) ||
            check_values_fill(&v, 1, family, &why))
            fail_msg("%s", why.text);
        stored = p->dtype == ATT_F32 ? 0 : 1;
        for (int s = 0; s < 3 && p->dtype != ATT_F32; s++)
            stored += v.in[s] != NULL;
        refused = att_plan_create(&plan, e, p, threads, grad, true);
        sizes = plan.sizes;
        if (!refused) refused = check_run(e, threads, &counting, &v);
        for (size_t i = 0; !refused && i < v.elements[ATT_O]; i++)
            found += v.o[i] != 0 && fabs(v.o[i]) < FLT_MIN;
        check_values_free(&v);
        if (!refused) return found;
    }
    return -1;
}

/* ---- every kernel ------------------------------------------------------------------ */

static bool quick;

static const enum inputs_family families[] = { INPUTS_SHARP, INPUTS_NORMAL,
                                               INPUTS_LARGE, INPUTS_NEGATIVE };

static void look(const att_entry *e, const att_problem *p, int threads, int *ran)
{
    for (int f = 0; f < 4; f++) {
        char name[ATT_NAME];
        const long n = leaves(e, p, threads, families[f]);
        att_case_name(e, p, threads, ATT_BACKWARD, name);
        if (n > 0)
            fail_msg("%s, %s inputs: %ld denormals", name,
                     inputs_family_name(families[f]), n);
        *ran += n == 0;
    }
}

/* Grids on which a softmax has enough pairs for all sizes of weights. */
static bool is_large_enough(const att_problem *p)
{
    return att_tokens(p) >= 30 && p->head_dim >= 7;
}

static void none_left(void **state)
{
    const att_entry *e = *state;
    shapes list;
    error why;
    int ran = 0, taken = 0;
    if (shapes_make(&list, e->mechanism, SHAPES_FEW, &why))
        fail_msg("%s", why.text);
    for (int i = 0; i < list.count; i++) {
        att_problem p = list.item[i].problem;
        if (!is_large_enough(&p) || taken++ % (quick ? 9 : 5)) continue;
        look(e, &p, 1 + i % 2, &ran);
        p.dtype = ATT_F16 + i % 2;
        if (taken % 2) look(e, &p, 1, &ran);
    }
    shapes_free(&list);
    if (!ran) fail_msg("refuses every one of %d shapes", taken);
}

/* ---- the mode ------------------------------------------------------------------------ */

static volatile float least = FLT_MIN, half = 0.5f;

/* Whether this thread makes a denormal, and reads one. */
static bool has_denormals(void)
{
    static const uint32_t bits = 1 << 22;
    volatile float x;
    memcpy((void *)&x, &bits, sizeof bits);
    const volatile float made = least * half, read = x * 4;
    return made != 0 || read != 0;
}

static int with_denormals; /* threads of a call                              */

static void mode_forward(const att_call *c)
{
    int n = 0;
    #pragma omp parallel num_threads(c->threads) reduction(+ : n)
    n += has_denormals();
    with_denormals += n;
}

static void mode_backward(const att_call *c, const att_grad *g)
{
    (void)g;
    mode_forward(c);
}

/* Threads that were there before the first plan, and those of a larger team;
 * the caller has its own mode before, between and after. */
static void mode_is_the_kernels(void **state)
{
    (void)state;
    const att_mechanism *m = att_find_mechanism("softmax");
    const att_kernel kernel = { .name = "test.mode",
                                .mechanism = "softmax",
                                .prepare = mode_forward,
                                .forward = mode_forward,
                                .backward = mode_backward };
    const att_entry entry = { .kernel = &kernel, .mechanism = m, .level = ATT_V2 };
    const att_problem p = att_problem_default;
    int before = 0;
    if (!has_denormals()) fail_msg("the test has no denormals to lose");
    for (int threads = 1; threads <= 5; threads += 2) {
        att_plan plan;
        const att_grad g = { 0 };
        #pragma omp parallel num_threads(3) reduction(+ : before)
        before += has_denormals();
        with_denormals = 0;
        assert_null(att_plan_create(&plan, &entry, &p, threads, true, false));
        assert_true(has_denormals());
        att_plan_forward(&plan);
        assert_true(has_denormals());
        att_plan_backward(&plan, &g);
        assert_true(has_denormals());
        att_plan_free(&plan);
        if (with_denormals)
            fail_msg("%d threads: %d looks at denormals", threads,
                     with_denormals);
    }
    assert_true(before >= 3);
}

/* A caller that flushes already still does afterwards. */
static void mode_of_the_caller_stays(void **state)
{
    (void)state;
#ifdef __SSE2__
    const att_entry *e = att_find("softmax.naive", att_level_best());
    const att_problem p = att_problem_default;
    const unsigned before = _mm_getcsr();
    const unsigned modes[] = { before, before | 0x8000, before | 0x6000 };
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        att_plan plan;
        _mm_setcsr(modes[i]);
        const char *why = att_plan_create(&plan, e, &p, 2, false, false);
        const unsigned after = _mm_getcsr();
        _mm_setcsr(before);
        assert_null(why);
        att_plan_free(&plan);
        assert_int_equal(after & 0xffc0, modes[i] & 0xffc0);
    }
#else
    skip();
#endif
}

int main(int argc, char **argv)
{
    const att_entry *entry;
    const int n = (int)att_entries(&entry);
    static struct CMUnitTest tests[ENTRIES + 2];
    static char names[ENTRIES][80];
    int count = 0;

    if (n > ENTRIES) return 1;
    quick = test_arguments(argc, argv);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(mode_is_the_kernels);
    tests[count++] =
        (struct CMUnitTest)cmocka_unit_test(mode_of_the_caller_stays);
    for (int i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "%s %s", entry[i].kernel->name,
                 att_level_name(entry[i].level));
        tests[count++] = (struct CMUnitTest){ .name = names[i],
                                              .test_func = none_left,
                                              .initial_state =
                                                  (void *)&entry[i] };
    }
    return _cmocka_run_group_tests("denormals", tests, (size_t)count, NULL,
                                   NULL);
}
