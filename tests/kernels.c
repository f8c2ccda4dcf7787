/* kernels.c - every kernel at every level of this machine on every shape of its
 * mechanism, against the reference: in memory between guard pages, outputs and
 * scratch poisoned, inputs sealed, with one to three threads; called three times
 * on memory that holds something else each time, which must give the same bits.
 *
 * Each mechanism is checked in a child process, so that a crash is the failure
 * of one kernel, named with its case, and not the end of the program.
 */
#include "test.h"

#include "../harness/check.h"
#include "../harness/guard.h"
#include "../harness/shapes.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ENTRIES = 2048, SECONDS = 240 };

/* What the children write and the parent reads. */
typedef struct verdict {
    int checked, refused, failed;
    bool crashed;
    char first[500]; /* failure, or reason of the last refusal               */
} verdict;


/* What a child is doing, for the parent to blame if it dies. */
typedef struct doing {
    int entry;
    char name[ATT_NAME];
} doing;

static verdict *verdicts; /* of every entry */
static doing *now; /* per child, shared as well                             */
static bool quick;

/* Other thread counts may sum in another order. */
#define REPEAT_TOLERANCE 2e-5

/* ---- child ----------------------------------------------------------------------- */

static void note_failure(verdict *v, const char *name, const char *what,
                         double size, const char *tensor, const shape *x)
{
    if (v->failed++ == 0)
        snprintf(v->first, sizeof v->first,
                 "%s: %s %.2e in %s (%s inputs, seed %llu)", name, what, size,
                 tensor, inputs_family_name(x->family),
                 (unsigned long long)x->seed);
}

/* Gradients that each thread sums for itself over the blocks that it happens to
 * get: their rounding follows the schedule. */
static bool by_schedule(const char *kernel, const char *output, int threads)
{
    return threads > 1 &&
           ((!strcmp(kernel, "aft_full.gemm") && !strcmp(output, "dwu")) ||
            (!strcmp(kernel, "aft_local.band") && !strcmp(output, "dwv")));
}

static void note_varying(verdict *v, const char *kernel, const char *name,
                         const check_values *got, int threads, const shape *x)
{
    for (int i = 0; i < got->outputs; i++) {
        const check_output *o = &got->output[i];
        if (o->varies && !by_schedule(kernel, o->name, threads))
            note_failure(v, name, "bits follow what memory held, with threads:",
                         threads, o->name, x);
    }
}

static bool has_gradients(const att_mechanism *m, const shape *x)
{
    return m->backward && inputs_family_backward(x->family);
}

/* Results of the entry for x with that many threads; forward alone if backward
 * is refused.  NULL, or why it refuses. */
static const char *results(const att_entry *entry, const shape *x, int threads,
                           check_values *v)
{
    const att_mechanism *m = entry->mechanism;
    const char *why = NULL;
    for (int grad = has_gradients(m, x); grad >= 0; grad--) {
        error e;
        if (check_values_make(v, m, &x->problem, grad, &e) ||
            check_values_fill(v, x->seed, x->family, &e))
            abort();
        why = check_run(entry, threads, &guard_memory, v);
        if (!why) return NULL;
        check_values_free(v);
    }
    return why;
}

static void check_entry(int index, const att_entry *entry, const shape *x,
                        check_values *want, int slot)
{
    verdict *v = &verdicts[index];
    char *name = now[slot].name;
    check_values one, more;
    check_result result;
    error e;

    att_case_name(entry, &x->problem, x->threads, ATT_BACKWARD, name);
    now[slot].entry = index;
    const char *why = results(entry, x, 1, &one);
    if (why) {
        if (!v->failed) snprintf(v->first, sizeof v->first, "%s", why);
        v->refused++;
        return;
    }
    v->checked++;
    note_varying(v, entry->kernel->name, name, &one, 1, x);
    if (check_judge(&one, want, &result, &e)) abort();
    if (!result.pass)
        note_failure(v, name, "differs from the reference by", result.max_abs,
                     result.worst, x);
    for (int threads = 2; threads <= (quick ? 2 : 3); threads++) {
        why = results(entry, x, threads, &more);
        if (why) {
            note_failure(v, name, "refuses more threads", threads, why, x);
            continue;
        }
        note_varying(v, entry->kernel->name, name, &more, threads, x);
        const double scale = x->problem.dtype == ATT_F32 ? 1 : 100;
        for (int i = 0; i < one.outputs; i++)
            one.output[i].shaky = want->output[i].shaky;
        check_compare(&more, &one, scale * REPEAT_TOLERANCE,
                      10 * scale * REPEAT_TOLERANCE, &result);
        if (!result.pass)
            note_failure(v, name, "changes with the number of threads by",
                         result.max_abs, result.worst, x);
        check_values_free(&more);
    }
    check_values_free(&one);
}

/* All kernels of a mechanism on all its shapes. */
static void check_mechanism(const att_mechanism *m, int slot)
{
    const att_entry *entry;
    const int n = (int)att_entries(&entry);
    shapes list;
    error e;
    if (shapes_make(&list, m, SHAPES_FEW, &e)) abort();
    for (int s = 0; s < list.count; s += quick ? 4 : 1) {
        const shape *x = &list.item[s];
        check_values want;
        if (check_values_make(&want, m, &x->problem, has_gradients(m, x), &e) ||
            check_values_fill(&want, x->seed, x->family, &e))
            abort();
        now[slot].entry = -1;
        att_get(&x->problem, ATT_FIELD_grid, now[slot].name);
        check_reference(&want, NULL);
        for (int i = 0; i < n; i++)
            if (entry[i].mechanism == m && !verdicts[i].crashed)
                check_entry(i, &entry[i], x, &want, slot);
        check_values_free(&want);
    }
    shapes_free(&list);
}

/* ---- parent ---------------------------------------------------------------------- */

static pid_t start(const att_mechanism *m, int slot)
{
    fflush(NULL);
    const pid_t child = fork();
    if (child < 0) abort();
    if (child) return child;
    alarm(SECONDS);
    check_mechanism(m, slot);
    _exit(0);
}

static const char *test_name(const att_entry *e)
{
    static char name[80];
    snprintf(name, sizeof name, "%s %s", e->kernel->name,
             att_level_name(e->level));
    return name;
}

static bool has_kernels(const att_mechanism *m)
{
    const att_entry *entry;
    const size_t n = att_entries(&entry);
    for (size_t i = 0; i < n; i++)
        if (entry[i].mechanism == m && test_selected(test_name(&entry[i])))
            return true;
    return false;
}

/* The child in a slot died: its kernel is to blame, the others go on. */
static bool blame(const att_mechanism *m, int slot, int status)
{
    const int i = now[slot].entry;
    if (i < 0) {
        fprintf(stderr, "reference of %s died on grid %s\n", m->name,
                now[slot].name);
        return false;
    }
    verdict *v = &verdicts[i];
    v->crashed = true;
    v->failed++;
    const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    snprintf(v->first, sizeof v->first, "%s: %s (signal %d, status %d)",
             now[slot].name,
             signal == SIGALRM ? "does not end" : "crashed", signal,
             WIFEXITED(status) ? WEXITSTATUS(status) : 0);
    return true;
}

/* Two mechanisms at a time. */
static bool run_children(void)
{
    const att_mechanism *const *all, *busy[2] = { NULL };
    const size_t n = att_mechanisms(&all);
    pid_t pid[2] = { 0 };
    bool sane = true;
    size_t next = 0;

    for (;;) {
        for (int slot = 0; slot < 2; slot++) {
            while (!busy[slot] && next < n) {
                const att_mechanism *m = all[next++];
                if (!has_kernels(m)) continue;
                busy[slot] = m;
                pid[slot] = start(m, slot);
            }
        }
        if (!busy[0] && !busy[1]) return sane;
        int status;
        const pid_t done = wait(&status);
        const int slot = done == pid[0] && busy[0] ? 0 : 1;
        const att_mechanism *m = busy[slot];
        busy[slot] = NULL;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
        if (!blame(m, slot, status)) {
            sane = false;
            continue;
        }
        busy[slot] = m; /* again without the crashed kernel */
        pid[slot] = start(m, slot);
    }
}

/* ---- tests ------------------------------------------------------------------------ */

static void references_survive(void **state)
{
    assert_true(*(bool *)*state);
}

static void kernel_agrees(void **state)
{
    const verdict *v = *state;
    if (v->failed) fail_msg("%d of %d: %s", v->failed, v->checked, v->first);
    if (!v->checked)
        fail_msg("refuses every one of %d shapes: %s", v->refused, v->first);
}

/* A kernel that writes one element too many must be caught, or nothing here
 * means anything. */
static void guards_work(void **state)
{
    (void)state;
    for (int side = 0; side < 4; side++) {
        const pid_t child = fork();
        if (child == 0) {
            signal(SIGSEGV, SIG_DFL); /* cmocka catches them */
            signal(SIGABRT, SIG_DFL);
            fclose(stderr);
            char *x = guard_take(100);
            if (side == 0) x[127 + 1] = 0; /* the page behind */
            if (side == 1) x[100] = 0;     /* the filled bytes behind */
            if (side == 2) x[-1] = 0;      /* those before */
            if (side == 3) guard_seal(x);
            if (side == 3) x[0] = 0;
            guard_release(x);
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

int main(int argc, char **argv)
{
    const att_entry *entry;
    const int n = (int)att_entries(&entry);
    static struct CMUnitTest tests[ENTRIES + 2];
    static char names[ENTRIES][80];
    static bool sane;
    int count = 0;

    if (n > ENTRIES) return 1;
    quick = test_arguments(argc, argv);
    verdicts = mmap(NULL, ENTRIES * sizeof *verdicts, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    now = mmap(NULL, 2 * sizeof *now, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (verdicts == MAP_FAILED || now == MAP_FAILED) return 1;
    sane = run_children();

    tests[count++] = (struct CMUnitTest)cmocka_unit_test(guards_work);
    tests[count++] = (struct CMUnitTest){ .name = "references_survive",
                                          .test_func = references_survive,
                                          .initial_state = &sane };
    for (int i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "%s", test_name(&entry[i]));
        tests[count++] = (struct CMUnitTest){ .name = names[i],
                                              .test_func = kernel_agrees,
                                              .initial_state =
                                                  &verdicts[i] };
    }
    return _cmocka_run_group_tests("kernels", tests, (size_t)count, NULL, NULL);
}
