/* cold.c - what a cold call flushes: all that the call reads and writes, before
 * each call, without changing a bit of it. */
#include "test.h"

#include "../harness/axes.h"
#include "../harness/cold.h"
#include "../harness/isolate.h"
#include "../harness/sweep_case.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* OpenMP belongs into children. */
static void in_child(json *(*function)(void *), void *arg)
{
    const isolate_limits limits = { .seconds = 120 };
    isolate_result r;
    error e;
    if (isolate_run(function, arg, &limits, &r, &e) < 0) fail_msg("%s", e.text);
    if (strcmp(r.status, "ok")) fail_msg("%s: %s", r.status, r.reason);
    const char *wrong = json_text(json_get(r.value, "wrong"));
    if (wrong) fail_msg("%s", wrong);
    json_free(r.value);
}

/* ---- which arrays ----------------------------------------------------------- */

static bool lies_in(const cold *c, const void *at, size_t bytes)
{
    const char *x = at;
    for (int i = 0; i < c->ranges; i++)
        if (x >= c->range[i].at &&
            x + bytes <= c->range[i].at + c->range[i].bytes)
            return true;
    return !at || !bytes;
}

static size_t input_bytes(const sweep_call *r, enum att_slot s, bool value)
{
    return r->in.elements[s] *
           (value ? att_dtype_bytes(r->plan.problem.dtype) : sizeof(float));
}

/* The first array that is not flushed, or NULL. */
static const char *missing(const sweep_call *r, const cold *c)
{
    const att_call *a = &r->plan.call;
    const att_grad *g = &r->grad;
    const att_sizes *n = &r->plan.sizes;
    if (!lies_in(c, a->q, input_bytes(r, ATT_Q, true))) return "q";
    if (!lies_in(c, a->k, input_bytes(r, ATT_K, true))) return "k";
    if (!lies_in(c, a->v, input_bytes(r, ATT_V, true))) return "v";
    if (!lies_in(c, a->o, input_bytes(r, ATT_O, true))) return "o";
    if (!lies_in(c, a->state, n->state)) return "state";
    if (!lies_in(c, a->save, n->save)) return "save";
    if (!lies_in(c, a->work, n->work)) return "work";
    if (!lies_in(c, a->work, n->work_backward)) return "work backward";
    if (!lies_in(c, g->dout, input_bytes(r, ATT_O, false))) return "dout";
    if (!lies_in(c, g->dq, input_bytes(r, ATT_Q, false))) return "dq";
    if (!lies_in(c, g->dk, input_bytes(r, ATT_K, false))) return "dk";
    if (!lies_in(c, g->dv, input_bytes(r, ATT_V, false))) return "dv";
    for (int i = 0; i < r->plan.parameters; i++) {
        const size_t b = att_elements(&r->plan.parameter[i]) * sizeof(float);
        if (!lies_in(c, a->param[i], b)) return "parameter";
        if (!lies_in(c, g->dparam[i], b)) return "gradient of a parameter";
    }
    return NULL;
}

/* A case of that entry on 64 tokens; false if it does not take it. */
static bool case_of(const att_entry *entry, enum att_pass pass, int threads,
                    sweep_case *c)
{
    axes a = { 0 };
    axes_point point;
    att_plan plan;
    axes_usual(&a, AXIS_SEQ, "64");
    axes_usual(&a, ATT_FIELD_window, "3");
    axes_pick(&a, 0, &point);
    *c = (sweep_case){ .entry = *entry, .threads = threads, .pass = pass,
                       .cold = true };
    const char *why = axes_fit(entry->mechanism, &point, &c->problem);
    axes_free(&a);
    return !why && !att_plan_create(&plan, entry, &c->problem, threads,
                                    pass == ATT_BACKWARD, true);
}

static json *every_kernel(void *arg)
{
    const att_entry *entry;
    const size_t n = att_entries(&entry);
    json *out = json_object();
    int tried[2] = { 0, 0 };
    (void)arg;
    for (size_t i = 0; i < n; i++)
        for (int pass = ATT_FORWARD; pass <= ATT_BACKWARD; pass++) {
            sweep_call r = { 0 };
            sweep_case c;
            cold flushed = { .threads = 1 };
            char why[200];
            if (entry[i].level != att_level_best() ||
                !case_of(&entry[i], (enum att_pass)pass, 1, &c))
                continue;
            const char *made = sweep_call_make(&r, &c);
            sweep_call_arrays(&r, &flushed);
            const char *lacks = made ? made : missing(&r, &flushed);
            snprintf(why, sizeof why, "%s: %s", entry[i].kernel->name,
                     lacks ? lacks : "");
            if (lacks) json_put_text(out, "wrong", why);
            tried[pass]++;
        }
    if (tried[0] < 40 || tried[1] < 20)
        json_put_text(out, "wrong", "too few kernels were tried");
    return out;
}

static void every_array_is_flushed(void **state)
{
    (void)state;
    in_child(every_kernel, NULL);
}

/* ---- flushing ------------------------------------------------------------------ */

/* Lines of 64 bytes that [from, to) touches. */
static size_t lines_of(const char *from, size_t bytes)
{
    const uintptr_t a = (uintptr_t)from / 64, b = ((uintptr_t)from + bytes - 1) / 64;
    return bytes ? (size_t)(b - a + 1) : 0;
}

static json *count_lines(void *arg)
{
    static const size_t starts[] = { 0, 1, 63, 64 };
    static const size_t sizes[] = { 1, 63, 64, 65, 1000, 4096 };
    json *out = json_object();
    char *block = aligned_alloc(64, 1 << 14);
    const int threads = *(int *)arg;
    for (int i = 0; i < 1 << 14; i++) block[i] = (char)(i * 7);
    for (int s = 0; s < 4; s++)
        for (int n = 0; n < 6; n++) {
            cold c = { .threads = threads };
            cold_add(&c, block + starts[s], sizes[n]);
            cold_add(&c, NULL, 100);
            cold_add(&c, block + 8192, 0);
            cold_add(&c, block + 8192, 4096);
            if (cold_evict(&c) != lines_of(block + starts[s], sizes[n]) + 64)
                json_put_text(out, "wrong", "not as many lines as there are");
        }
    for (int i = 0; i < 1 << 14; i++)
        if (block[i] != (char)(i * 7))
            json_put_text(out, "wrong", "a flush changed the data");
    free(block);
    return out;
}

static void each_line_once(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++) in_child(count_lines, &threads);
}

/* ---- calls ------------------------------------------------------------------------ */

typedef struct look {
    cold *c;
    int calls;
    double flushed[8]; /* lines, when it is made                             */
} look;

static void look_at(void *arg)
{
    look *l = arg;
    l->flushed[l->calls++] = l->c->flushed;
}

/* Flushed before every call, which is made once, and whose time has not that of
 * reading the clock in it. */
static json *watch_calls(void *arg)
{
    json *out = json_object();
    char *block = aligned_alloc(64, 6400);
    look l = { 0 };
    cold c = { .run = look_at, .arg = &l, .threads = *(int *)arg };
    memset(block, 1, 6400);
    l.c = &c;
    cold_begin(&c);
    cold_add(&c, block, 6400);
    if (!(c.clock > 0) || l.calls) json_put_text(out, "wrong", "the clock");
    c.clock = 1e6; /* of an hour that is slow to tell */
    for (int i = 0; i < 5; i++) {
        const double seconds = cold_call(&c);
        if (!(seconds < -9e5)) json_put_text(out, "wrong", "not subtracted");
        if (l.calls != i + 1 || l.flushed[i] != 100.0 * (i + 1) ||
            c.flushed != 100.0 * (i + 1))
            json_put_text(out, "wrong", "a call without its flush");
    }
    free(block);
    return out;
}

static void flushed_before_each_call(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++) in_child(watch_calls, &threads);
}

typedef struct asked {
    const char *kernel;
    enum att_pass pass;
    int threads;
} asked;

/* The bits of a warm call and those of a cold one. */
static json *compare_calls(void *arg)
{
    const asked *a = arg;
    json *out = json_object();
    sweep_call r = { 0 };
    sweep_case c;
    const att_entry *entry = att_find(a->kernel, att_level_best());
    void (*run)(void *) = a->pass == ATT_FORWARD ? sweep_call_forward
                                                 : sweep_call_backward;
    cold flushed = { .run = run, .arg = &r, .threads = a->threads };
    if (!entry || !case_of(entry, a->pass, a->threads, &c) ||
        sweep_call_make(&r, &c)) {
        json_put_text(out, "wrong", "it does not run");
        return out;
    }
    const bool backward = a->pass == ATT_BACKWARD;
    const enum att_slot slot = backward ? ATT_Q : ATT_O;
    void *result = backward ? (void *)r.in.grad[0] : r.in.value[ATT_O];
    const size_t bytes = input_bytes(&r, slot, !backward);
    void *warm = malloc(bytes);
    sweep_call_forward(&r);
    run(&r);
    memcpy(warm, result, bytes);
    memset(result, 0xff, bytes);
    sweep_call_arrays(&r, &flushed);
    cold_begin(&flushed);
    cold_call(&flushed);
    if (memcmp(warm, result, bytes)) json_put_text(out, "wrong", a->kernel);
    free(warm);
    return out;
}

static void same_results(void **state)
{
    static const char *const kernels[] = { "softmax.flash", "linear.fused",
                                           "aft_full.gemm" };
    (void)state;
    for (int k = 0; k < 3; k++)
        for (int pass = ATT_FORWARD; pass <= ATT_BACKWARD; pass++)
            for (int threads = 1; threads <= 2; threads++) {
                asked a = { kernels[k], (enum att_pass)pass, threads };
                in_child(compare_calls, &a);
            }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_array_is_flushed),
        cmocka_unit_test(each_line_once),
        cmocka_unit_test(flushed_before_each_call),
        cmocka_unit_test(same_results),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests_name("cold", tests, NULL, NULL);
}
