#include "random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "file.h"
#include "progress.h"
#include "shrink.h"
#include "stop.h"

/* Of one kernel, failures of one sort: so many are made small, the others told;
 * after so many the kernel is left alone, for others to have their turn. */
enum { SHRUNK = 2, ENOUGH = 5, SHRINK_TESTS = 1500 };
#define SHRINK_SECONDS 90.0

/* Of one mechanism, and in the end of all. */
typedef struct total {
    long problems, undrawn, refused, passed, failed;
    double values, open, worst; /* worst ratio of those that passed          */
} total;

/* Failures of one kernel of one sort. */
typedef struct sort {
    char kernel[80], what[32];
    int count;
} sort;

typedef struct state {
    const random_options *o;
    const att_entry *entry;
    int entries;
    const att_mechanism *const *mechanism;
    int mechanisms;
    bool *wanted, *verified; /* by entry                                     */
    int chosen;              /* entries, of which some may be left out later */
    trial_verdict *verdict;
    total *total;            /* by mechanism                                 */
    sort *sorts;
    int sort_count;
    long findings;
    double start;
    progress bar;
} state;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- telling ------------------------------------------------------------ */

/* The words of this program's command line before `verify`: plugins. */
static void print_program(void)
{
    char *text, *at;
    size_t size;
    printf("attnbench");
    if (file_read("/proc/self/cmdline", 1 << 20, &text, &size, NULL)) return;
    at = text + strlen(text) + 1;
    for (; at < text + size && strcmp(at, "verify"); at += strlen(at) + 1)
        printf(" %s", at);
    free(text);
}

/* What went wrong, in a line. */
static void print_verdict(const trial_verdict *t)
{
    const bound_verdict *b = &t->judged;
    if (t->outcome == TRIAL_DIED) printf("%s: %s", t->status, t->reason);
    else if (t->outcome == TRIAL_SLOW)
        printf("slow: %s takes %.3g us on %s inputs, %.1f times as long as on "
               "%s ones",
               t->pass == ATT_FORWARD ? "forward" : "backward",
               1e6 * t->seconds[0], inputs_family_name(t->slow), b->ratio,
               inputs_family_name(t->fast));
    else if (isnan(b->ref))
        printf("wrong: %s[%zu] of the reference is not a number", b->tensor,
               b->at);
    else
        printf("wrong: %s[%zu] is %.9g, not %.9g: off by %.2g, bound %.2g",
               b->tensor, b->at, b->x, b->ref, fabs(b->x - b->ref), b->bound);
    printf("\n");
}

static void print_problem(const state *s, const drawn *d, int entry)
{
    char name[ATT_NAME], kinds[400];
    const att_entry reference = { .kernel = &(att_kernel){ .name = "reference" },
                                  .mechanism = d->mechanism };
    att_case_name(entry < s->entries ? &s->entry[entry] : &reference,
                  &d->problem, d->threads,
                  d->grad ? ATT_BACKWARD : ATT_FORWARD, name);
    draw_kinds(d, kinds, sizeof kinds);
    printf("      %s: %s\n", name, kinds);
}

static const char *kernel_name(const state *s, int entry)
{
    return entry < s->entries ? s->entry[entry].kernel->name : "reference";
}

static void print_again(const state *s, const drawn *d, int entry,
                        const char *path)
{
    printf("      repeat: ");
    print_program();
    printf(" verify --kernel %s", kernel_name(s, entry));
    if (entry < s->entries)
        printf(" --level %s --threads %d", att_level_name(s->entry[entry].level),
               d->threads);
    printf(" %s\n", path);
}

static void print_seed(const state *s, const drawn *d, int entry)
{
    printf("      drawn by: ");
    print_program();
    printf(" verify --random 1 --seed %llu --mechanism %s",
           (unsigned long long)d->seed, d->mechanism->name);
    if (entry < s->entries) printf(" --kernel %s", kernel_name(s, entry));
    if (s->o->threads) printf(" --threads %d", s->o->threads);
    if (!s->o->time) printf(" --no-time");
    printf("\n");
}

/* ---- making it smaller -------------------------------------------------- */

typedef struct aim {
    state *s;
    int entry;             /* entries: the reference                         */
    const trial_verdict *as; /* fails like that                              */
    trial_verdict last;    /* of the last problem that failed                */
    double timeout;
} aim;

static bool same_failure(const trial_verdict *a, const trial_verdict *b)
{
    return a->outcome == b->outcome && !strcmp(a->status, b->status);
}

static bool fails(const drawn *d, void *arg)
{
    aim *a = arg;
    state *s = a->s;
    error e;
    trial_verdict found = *a->as;
    if (a->as->outcome == TRIAL_SLOW) {
        if (trial_time(d, a->entry, true, a->timeout, &found, &e)) return false;
    } else {
        trial_verdict *verdict = calloc((size_t)s->entries + 1, sizeof *verdict);
        bool *only = calloc((size_t)s->entries + 1, sizeof *only);
        only[a->entry] = true;
        const int rc = trial_run(d, only, a->timeout, verdict, &e);
        found = verdict[a->entry];
        free(verdict);
        free(only);
        if (rc) return false;
    }
    if (!same_failure(&found, a->as)) return false;
    a->last = found;
    return true;
}

/* Of what makes the problem what it is. */
static unsigned hash(const state *s, const drawn *d, int entry)
{
    unsigned h = 2166136261u;
    const struct { const void *at; size_t bytes; } part[] = {
        { &d->problem, sizeof d->problem },
        { d->kind, sizeof d->kind },
        { &d->seed, sizeof d->seed },
        { &d->grad, sizeof d->grad },
        { kernel_name(s, entry), strlen(kernel_name(s, entry)) },
    };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        for (size_t k = 0; k < part[i].bytes; k++)
            h = (h ^ ((const unsigned char *)part[i].at)[k]) * 16777619u;
    return h;
}

/* Whether the file fails again when it is read. */
static bool fails_again(const char *path, const att_entry *entry, int threads,
                        double timeout, error *e)
{
    case_file c;
    trial_file t;
    if (case_file_read(&c, path, e)) return false;
    const int rc = trial_case(&c, entry, threads, timeout, &t, e);
    case_file_free(&c);
    if (!rc && trial_case_passes(&t))
        error_set(e, "it does not fail when it is read again");
    return !rc && !trial_case_passes(&t);
}

static void write_case(const state *s, const drawn *d, int entry,
                       const trial_verdict *t)
{
    char name[160], source[400];
    error e;
    snprintf(name, sizeof name, "%s-%08x.safetensors", d->mechanism->name,
             hash(s, d, entry));
    snprintf(source, sizeof source,
             "attnbench verify --random, seed %llu, made smaller: %s %s, %d "
             "threads",
             (unsigned long long)d->seed, kernel_name(s, entry),
             entry < s->entries ? att_level_name(s->entry[entry].level) : "",
             d->threads);
    char *path = path_join(s->o->out, name);
    const att_entry *kernel = entry < s->entries ? &s->entry[entry] : NULL;
    if (folder_make(s->o->out, &e) ||
        trial_write(d, path, source, t, s->o->timeout, &e))
        printf("      no file: %s\n", e.text);
    else if (!fails_again(path, kernel, d->threads, s->o->timeout, &e))
        printf("      %s: %s\n", path, e.text);
    else print_again(s, d, entry, path);
    free(path);
}

static void make_smaller(state *s, const drawn *whole, int entry,
                         const trial_verdict *t)
{
    drawn d = *whole;
    const bool hangs = t->outcome == TRIAL_DIED && !strcmp(t->status, "timeout");
    aim a = { .s = s, .entry = entry, .as = t, .last = *t };
    a.timeout = hangs ? fmax(0.25, s->o->timeout / 20) : s->o->timeout;
    progress_show(&s->bar, s->bar.done, "making a failure smaller");
    shrink(&d, fails, &a, t->outcome != TRIAL_SLOW, SHRINK_TESTS,
           SHRINK_SECONDS);
    progress_clear(&s->bar);
    a.timeout = s->o->timeout;
    if (stop_signal || !fails(&d, &a)) { /* by chance: the whole one it is */
        d = *whole;
        a.last = *t;
    }
    printf("      ");
    print_verdict(&a.last);
    print_problem(s, &d, entry);
    if (t->outcome == TRIAL_SLOW)
        for (int i = 0; i < DRAW_TENSORS; i++) d.kind[i] = a.last.slow;
    write_case(s, &d, entry, &a.last);
}

/* ---- findings ----------------------------------------------------------- */

/* How often that kernel has failed like that, with this time. */
static int count_sort(state *s, const char *kernel, const trial_verdict *t)
{
    char what[32];
    snprintf(what, sizeof what, "%d %s", t->outcome, t->status);
    for (int i = 0; i < s->sort_count; i++)
        if (!strcmp(s->sorts[i].kernel, kernel) &&
            !strcmp(s->sorts[i].what, what))
            return ++s->sorts[i].count;
    sort *grown = realloc(s->sorts, ((size_t)s->sort_count + 1) * sizeof *grown);
    if (!grown) return SHRUNK + 1;
    s->sorts = grown;
    sort *new = &grown[s->sort_count++];
    *new = (sort){ .count = 1 };
    snprintf(new->kernel, sizeof new->kernel, "%s", kernel);
    snprintf(new->what, sizeof new->what, "%s", what);
    return 1;
}

/* Levels at which the same kernel fails like that are one finding. */
static void print_levels(const state *s, int entry)
{
    if (entry >= s->entries) return;
    printf(" %s", att_level_name(s->entry[entry].level));
    for (int i = entry + 1; i < s->entries; i++)
        if (!strcmp(s->entry[i].kernel->name, s->entry[entry].kernel->name) &&
            same_failure(&s->verdict[i], &s->verdict[entry]))
            printf(",%s", att_level_name(s->entry[i].level));
}

static void leave_out(state *s, const char *kernel)
{
    printf("      %s is left out from here on\n", kernel);
    for (int i = 0; i < s->entries; i++)
        if (!strcmp(s->entry[i].kernel->name, kernel)) s->wanted[i] = false;
}

static void find(state *s, const drawn *d, int entry, const trial_verdict *t)
{
    const int nth = count_sort(s, kernel_name(s, entry), t);
    s->findings++;
    progress_clear(&s->bar);
    printf("FAIL  %s", kernel_name(s, entry));
    print_levels(s, entry);
    printf(" on a problem of %s: ", d->mechanism->name);
    print_verdict(t);
    print_problem(s, d, entry);
    print_seed(s, d, entry);
    fflush(stdout);
    if (nth <= SHRUNK) make_smaller(s, d, entry, t);
    if (nth == ENOUGH) leave_out(s, kernel_name(s, entry));
    fflush(stdout);
}

static bool fails_here(const trial_verdict *t)
{
    return t->outcome == TRIAL_WRONG || t->outcome == TRIAL_DIED;
}

/* The same kernel has failed like that at a level before. */
static bool told(const state *s, int entry)
{
    for (int i = 0; i < entry && entry < s->entries; i++)
        if (!strcmp(s->entry[i].kernel->name, s->entry[entry].kernel->name) &&
            fails_here(&s->verdict[i]) &&
            same_failure(&s->verdict[i], &s->verdict[entry]))
            return true;
    return false;
}

static void count(state *s, total *x, int entry)
{
    const trial_verdict *t = &s->verdict[entry];
    if (t->outcome == TRIAL_NONE) return;
    if (t->outcome == TRIAL_REFUSED) {
        x->refused++;
        return;
    }
    s->verified[entry] = true;
    if (fails_here(t)) x->failed++;
    else x->passed++;
    if (t->outcome == TRIAL_PASSED) x->worst = fmax(x->worst, t->judged.ratio);
    x->values += (double)t->judged.values;
    x->open += (double)t->judged.open;
}

/* ---- one problem -------------------------------------------------------- */

static json *draw_only(void *arg)
{
    drawn d;
    draw(&d, *(uint64_t *)arg);
    return json_object();
}

/* What a mechanism says to a wild problem is tried where it does no harm. */
static bool draw_safely(state *s, drawn *d, uint64_t seed, total *x)
{
    const isolate_limits limits = { .seconds = s->o->timeout,
                                    .stop = &stop_signal };
    isolate_result end;
    if (isolate_run(draw_only, &seed, &limits, &end, NULL)) return false;
    json_free(end.value);
    if (!strcmp(end.status, "ok")) {
        const bool accepted = draw(d, seed);
        if (!accepted) x->undrawn++;
        return accepted;
    }
    if (stop_signal) return false;
    s->findings++;
    x->failed++;
    progress_clear(&s->bar);
    printf("FAIL  %s, asked whether it is defined for a problem: %s: %s\n",
           draw_mechanism(seed)->name, end.status, end.reason);
    printf("      drawn by: attnbench verify --random 1 --seed %llu\n",
           (unsigned long long)seed);
    return false;
}

static void try_kernels(state *s, const drawn *d, total *x)
{
    error e;
    bool *wanted = calloc((size_t)s->entries + 1, sizeof *wanted);
    if (!wanted) return;
    memset(s->verdict, 0, ((size_t)s->entries + 1) * sizeof *s->verdict);
    for (int i = 0; i < s->entries; i++)
        wanted[i] = s->wanted[i] && s->entry[i].mechanism == d->mechanism;
    const int rc = trial_run(d, wanted, s->o->timeout, s->verdict, &e);
    free(wanted);
    if (stop_signal) return;
    if (rc) {
        printf("SKIP  seed %llu: %s\n", (unsigned long long)d->seed, e.text);
        return;
    }
    const trial_verdict *reference = &s->verdict[s->entries];
    if (fails_here(reference)) {
        x->failed++;
        find(s, d, s->entries, reference);
    }
    for (int i = 0; i < s->entries; i++) count(s, x, i);
    for (int i = 0; i < s->entries && !stop_signal; i++)
        if (fails_here(&s->verdict[i]) && !told(s, i))
            find(s, d, i, &s->verdict[i]);
}

/* One kernel of each third problem; what seems slow is looked at twice more. */
static void try_time(state *s, const drawn *d, total *x)
{
    error e;
    uint64_t random = d->seed ^ 0x2545f4914f6cdd1du;
    int able = 0, which;
    if (att_uniform(&random) > 1.0 / 3) return;
    for (int i = 0; i < s->entries; i++)
        able += s->verdict[i].outcome == TRIAL_PASSED;
    if (!able) return;
    which = (int)(att_uniform(&random) * able);
    int entry = 0;
    for (;; entry++)
        if (s->verdict[entry].outcome == TRIAL_PASSED && which-- == 0) break;
    trial_verdict t = { 0 };
    if (trial_time(d, entry, false, s->o->timeout, &t, &e)) return;
    for (int again = 0; again < 2 && t.outcome == TRIAL_SLOW; again++)
        if (trial_time(d, entry, true, s->o->timeout, &t, &e)) return;
    if (t.outcome != TRIAL_SLOW || stop_signal) return;
    x->failed++;
    find(s, d, entry, &t);
}

static int mechanism_index(const state *s, const att_mechanism *m)
{
    for (int i = 0; i < s->mechanisms; i++)
        if (s->mechanism[i] == m) return i;
    return 0;
}

static bool any_kernel(const state *s, const att_mechanism *m)
{
    for (int i = 0; i < s->entries; i++)
        if (s->wanted[i] && s->entry[i].mechanism == m) return true;
    return false;
}

static void try_problem(state *s, uint64_t seed)
{
    drawn d;
    total *x = &s->total[mechanism_index(s, draw_mechanism(seed))];
    x->problems++;
    if (!draw_safely(s, &d, seed, x)) return;
    if (s->o->threads) d.threads = s->o->threads;
    try_kernels(s, &d, x);
    if (s->o->time && !stop_signal) try_time(s, &d, x);
}

/* ---- all of them -------------------------------------------------------- */

static bool finished(const state *s, long done)
{
    bool able = false;
    for (int i = 0; i < s->entries; i++) able |= s->wanted[i];
    return stop_signal || !able || (s->o->problems && done >= s->o->problems) ||
           (s->o->seconds > 0 && now() - s->start >= s->o->seconds);
}

static void show(state *s, long tried, const char *name)
{
    char text[160];
    snprintf(text, sizeof text, "%ld problems, %ld findings: %s", tried,
             s->findings, name);
    progress_show(&s->bar,
                  s->o->problems ? (double)tried : now() - s->start, text);
}

static void try_all(state *s)
{
    long tried = 0;
    for (uint64_t i = 0; !finished(s, tried); i++) {
        const uint64_t seed = draw_next(s->o->seed, i);
        const att_mechanism *m = draw_mechanism(seed);
        if (!any_kernel(s, m)) continue;
        show(s, tried++, m->name);
        try_problem(s, seed);
    }
    progress_clear(&s->bar);
}

static void print_total(const char *name, const total *x)
{
    printf("%-17s %8ld %8ld %8ld %8ld  %6.2f %%  %8.2g\n", name, x->problems,
           x->refused + x->undrawn, x->passed, x->failed,
           x->values > 0 ? 100 * x->open / x->values : 0, x->worst);
}

static total print_table(const state *s)
{
    total all = { 0 };
    printf("%-17s %8s %8s %8s %8s  %8s  %8s\n", "mechanism", "problems",
           "refused", "passed", "failed", "open", "worst");
    for (int i = 0; i < s->mechanisms; i++) {
        const total *x = &s->total[i];
        if (!x->problems) continue;
        print_total(s->mechanism[i]->name, x);
        all.problems += x->problems;
        all.undrawn += x->undrawn;
        all.refused += x->refused;
        all.passed += x->passed;
        all.failed += x->failed;
        all.values += x->values;
        all.open += x->open;
        all.worst = fmax(all.worst, x->worst);
    }
    print_total("all", &all);
    return all;
}

static int conclude(const state *s)
{
    const total all = print_table(s);
    int verified = 0;
    for (int i = 0; i < s->entries; i++) verified += s->verified[i];
    printf("seed %llu: %d of %d kernels at their levels verified; ",
           (unsigned long long)s->o->seed, verified, s->chosen);
    if (all.passed + all.failed == 0 && !s->findings)
        printf("nothing was verified\n");
    else if (s->findings) printf("%ld findings\n", s->findings);
    else printf("nothing found\n");
    fflush(stdout);
    if (stop_signal) return EXIT_INTERRUPTED;
    return s->findings || all.passed == 0 ? EXIT_GATE : EXIT_OK;
}

static int run(state *s)
{
    for (int i = 0; i < s->entries; i++) {
        s->wanted[i] = s->o->selected(&s->entry[i], s->o->arg);
        s->chosen += s->wanted[i];
    }
    if (!s->chosen) {
        fprintf(stderr, "attnbench verify: no kernel at any level of this "
                        "machine is chosen: nothing would be verified\n");
        return EXIT_GATE;
    }
    stop_catch();
    s->start = now();
    progress_begin(&s->bar, s->o->problems ? (double)s->o->problems
                                           : s->o->seconds);
    try_all(s);
    return conclude(s);
}

int random_verify(const random_options *o)
{
    state s = { .o = o };
    s.entries = (int)att_entries(&s.entry);
    s.mechanisms = (int)att_mechanisms(&s.mechanism);
    s.wanted = calloc((size_t)s.entries + 1, sizeof *s.wanted);
    s.verified = calloc((size_t)s.entries + 1, sizeof *s.verified);
    s.verdict = calloc((size_t)s.entries + 1, sizeof *s.verdict);
    s.total = calloc((size_t)s.mechanisms + 1, sizeof *s.total);
    int rc = EXIT_MISSING;
    if (s.wanted && s.verified && s.verdict && s.total) rc = run(&s);
    else fprintf(stderr, "attnbench verify: out of memory\n");
    free(s.wanted);
    free(s.verified);
    free(s.verdict);
    free(s.total);
    free(s.sorts);
    return rc;
}
