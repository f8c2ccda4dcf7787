#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "trial.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guard.h"
#include "stop.h"

/* What a child does, and in shared memory what it finds. */
typedef struct job {
    const drawn *d;
    const bool *wanted;
    int entries;
    int entry;          /* that is on trial; `entries`: the reference        */
    bool failed;        /* for reasons outside of kernels: e                 */
    error e;
    const char *path, *source;
    const trial_verdict *why;
    bool only;
    const case_file *file;
    const att_entry *kernel;
    int threads;
    trial_file of_file;
    trial_verdict verdict[];
} job;

static const att_entry *entry_at(int i)
{
    const att_entry *all;
    att_entries(&all);
    return &all[i];
}

static int count_entries(void)
{
    const att_entry *all;
    return (int)att_entries(&all);
}

static size_t job_bytes(void)
{
    return sizeof(job) + ((size_t)count_entries() + 1) * sizeof(trial_verdict);
}

static job *job_make(const drawn *d, error *e)
{
    job *j = mmap(NULL, job_bytes(), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (j == MAP_FAILED) {
        error_set(e, "no memory for a trial: %s", strerror(errno));
        return NULL;
    }
    j->d = d;
    j->entry = j->entries = count_entries();
    return j;
}

static void job_free(job *j)
{
    munmap(j, job_bytes());
}

/* The child's answer; without one it could not do its work. */
static json *done(job *j, int rc)
{
    j->failed = rc != 0;
    return json_object();
}

static int run_job(job *j, json *(*function)(void *), double seconds,
                   isolate_result *out, error *e)
{
    const isolate_limits limits = { .seconds = seconds, .stop = &stop_signal };
    if (isolate_run(function, j, &limits, out, e)) return -1;
    json_free(out->value);
    if (!out->value || !j->failed) return 0;
    *e = j->e;
    return -1;
}

/* ---- one problem -------------------------------------------------------- */

static int reference_of(const drawn *d, check_values *want, error *e)
{
    isolate_stage("filling the inputs");
    if (check_values_make(want, d->mechanism, &d->problem, d->grad, e) ||
        draw_fill(d, want, e))
        return -1;
    isolate_stage("running the reference");
    check_reference(want, NULL);
    return 0;
}

/* No result of a reference may be undefined. */
static void judge_reference(const check_values *want, trial_verdict *t)
{
    t->outcome = TRIAL_PASSED;
    for (int i = 0; i < want->outputs; i++) {
        const check_output *o = &want->output[i];
        for (size_t k = 0; k < o->elements; k++) {
            if (!isnan(o->value[k])) continue;
            t->outcome = TRIAL_WRONG;
            t->judged = (bound_verdict){ .ratio = INFINITY, .at = k,
                                         .x = NAN, .ref = NAN };
            memcpy(t->judged.tensor, o->name, sizeof o->name);
            return;
        }
    }
}

static int try_entry(const drawn *d, const att_entry *entry, bounds *b,
                     trial_verdict *t, error *e)
{
    const char *why = "";
    check_values got = { 0 };
    int rc = 0;
    for (int grad = d->grad; why && !rc && grad >= 0; grad--) {
        check_values_free(&got);
        rc = check_values_make(&got, d->mechanism, &d->problem, grad, e) ||
             draw_fill(d, &got, e);
        if (rc) break;
        t->forward_only = d->grad && !grad;
        why = check_run(entry, d->threads, &guard_memory, &got);
    }
    if (!rc && !why) {
        bounds_judge(b, &got, &t->judged);
        if (!t->judged.pass && !b->refined) {
            rc = bounds_refine(b, e);
            bounds_judge(b, &got, &t->judged);
        }
    }
    t->outcome = why              ? TRIAL_REFUSED
                 : t->judged.pass ? TRIAL_PASSED
                                  : TRIAL_WRONG;
    snprintf(t->reason, sizeof t->reason, "%s", why ? why : "");
    check_values_free(&got);
    return rc;
}

static json *examine(void *arg)
{
    job *j = arg;
    check_values want = { 0 };
    bounds b = { 0 };
    int rc = reference_of(j->d, &want, &j->e);
    if (!rc) judge_reference(&want, &j->verdict[j->entries]);
    if (!rc && j->verdict[j->entries].outcome == TRIAL_PASSED) {
        rc = bounds_make(&b, &want, &j->e);
        for (int i = 0; !rc && i < j->entries; i++) {
            if (!j->wanted[i] || j->verdict[i].outcome != TRIAL_NONE) continue;
            char stage[64];
            snprintf(stage, sizeof stage, "running %s %s",
                     entry_at(i)->kernel->name,
                     att_level_name(entry_at(i)->level));
            isolate_stage(stage);
            j->entry = i;
            rc = try_entry(j->d, entry_at(i), &b, &j->verdict[i], &j->e);
        }
    }
    bounds_free(&b);
    check_values_free(&want);
    return done(j, rc);
}

int trial_run(const drawn *d, const bool *wanted, double seconds,
              trial_verdict *verdict, error *e)
{
    job *j = job_make(d, e);
    int rc = j ? 0 : -1;
    if (!j) return -1;
    j->wanted = wanted;
    for (bool again = true; !rc && again;) {
        isolate_result end;
        again = false;
        j->entry = j->entries;
        rc = run_job(j, examine, seconds, &end, e);
        if (rc || !strcmp(end.status, "ok")) break;
        trial_verdict *t = &j->verdict[j->entry];
        t->outcome = TRIAL_DIED;
        snprintf(t->status, sizeof t->status, "%s", end.status);
        snprintf(t->reason, sizeof t->reason, "%s", end.reason);
        again = j->entry < j->entries && !stop_signal;
    }
    memcpy(verdict, j->verdict, ((size_t)j->entries + 1) * sizeof *verdict);
    job_free(j);
    return rc;
}

/* ---- time --------------------------------------------------------------- */

/* Seconds by pass on inputs of that family throughout; false: refused. */
static int time_family(const drawn *d, const att_entry *entry,
                       enum inputs_family family, double seconds[2],
                       const char **why, error *e)
{
    drawn x = *d;
    check_values v = { 0 };
    for (int i = 0; i < DRAW_TENSORS; i++) x.kind[i] = family;
    *why = "";
    int rc = 0;
    for (int grad = d->grad; *why && !rc && grad >= 0; grad--) {
        check_values_free(&v);
        rc = check_values_make(&v, d->mechanism, &d->problem, grad, e) ||
             draw_fill(&x, &v, e);
        if (!rc) *why = check_time(entry, 1, &v, seconds);
    }
    check_values_free(&v);
    return rc ? -1 : 0;
}

/* Keeps the pass with the larger ratio of the slowest family to the fastest. */
static void judge_times(double times[][2], const bool *timed, trial_verdict *t)
{
    double worst = 0;
    t->outcome = TRIAL_PASSED;
    for (int pass = ATT_FORWARD; pass <= ATT_BACKWARD; pass++) {
        int slow = -1, fast = -1;
        for (int f = 0; f < INPUTS_FAMILIES; f++) {
            if (!timed[f]) continue;
            if (slow < 0 || times[f][pass] > times[slow][pass]) slow = f;
            if (fast < 0 || times[f][pass] < times[fast][pass]) fast = f;
        }
        if (slow < 0 || times[slow][pass] < TRIAL_LEAST) continue;
        const double ratio = times[slow][pass] / times[fast][pass];
        if (ratio <= worst) continue;
        worst = ratio;
        t->outcome = ratio > TRIAL_SLOWER ? TRIAL_SLOW : TRIAL_PASSED;
        t->judged.ratio = ratio;
        t->slow = (enum inputs_family)slow;
        t->fast = (enum inputs_family)fast;
        t->seconds[0] = times[slow][pass];
        t->seconds[1] = times[fast][pass];
        t->pass = (enum att_pass)pass;
    }
}

static json *race(void *arg)
{
    job *j = arg;
    trial_verdict *t = &j->verdict[0];
    double times[INPUTS_FAMILIES][2];
    bool timed[INPUTS_FAMILIES] = { false };
    const char *why = NULL;
    int rc = 0;
    for (int round = 0; !rc && !why && round < 2; round++)
        for (int i = 0; !rc && !why && i < INPUTS_FAMILIES; i++) {
            const enum inputs_family f = (enum inputs_family)i;
            double now[2];
            if (f == INPUTS_HUGE) continue; /* products of them are infinite */
            if (j->only && f != t->slow && f != t->fast) continue;
            if (!inputs_family_fits(j->d->mechanism, &j->d->problem, f))
                continue;
            rc = time_family(j->d, j->kernel, f, now, &why, &j->e);
            for (int pass = 0; pass < 2; pass++)
                times[f][pass] = timed[f] ? fmin(times[f][pass], now[pass])
                                          : now[pass];
            timed[f] = true;
        }
    if (!rc && !why) judge_times(times, timed, t);
    if (why) t->outcome = TRIAL_REFUSED;
    return done(j, rc);
}

int trial_time(const drawn *d, int entry, bool only, double seconds,
               trial_verdict *verdict, error *e)
{
    isolate_result end;
    job *j = job_make(d, e);
    if (!j) return -1;
    j->kernel = entry_at(entry);
    j->only = only;
    if (only) j->verdict[0] = *verdict;
    int rc = run_job(j, race, seconds, &end, e);
    *verdict = j->verdict[0];
    /* Who dies here dies under trial_run() as well, which tells it. */
    if (!rc && strcmp(end.status, "ok")) verdict->outcome = TRIAL_NONE;
    job_free(j);
    return rc;
}

/* ---- case files --------------------------------------------------------- */

static json *write_case(void *arg)
{
    job *j = arg;
    check_values want = { 0 };
    bounds b = { 0 };
    const bool slow = j->why->outcome == TRIAL_SLOW;
    int rc = reference_of(j->d, &want, &j->e);
    if (!rc) rc = bounds_make(&b, &want, &j->e);
    if (!rc) rc = bounds_refine(&b, &j->e);
    if (!rc)
        rc = case_file_write(j->path, &b, j->source,
                             slow ? inputs_family_name(j->why->fast) : NULL,
                             &j->e);
    bounds_free(&b);
    check_values_free(&want);
    return done(j, rc);
}

int trial_write(const drawn *d, const char *path, const char *source,
                const trial_verdict *why, double seconds, error *e)
{
    isolate_result end;
    job *j = job_make(d, e);
    if (!j) return -1;
    j->path = path;
    j->source = source;
    j->why = why;
    int rc = run_job(j, write_case, seconds, &end, e);
    if (!rc && strcmp(end.status, "ok"))
        rc = error_set(e, "%s is not written: %s", path, end.reason);
    job_free(j);
    return rc;
}

/* The kernel's time on the file's inputs over that on the family it names: the
 * pass that is worse. */
static int compare_times(job *j, const check_values *v, error *e)
{
    const drawn d = { .mechanism = j->file->mechanism,
                      .problem = j->file->problem,
                      .grad = v->grad,
                      .seed = 1 };
    double here[2], there[2], again[2];
    const char *why = NULL;
    int rc = 0;
    for (int round = 0; !rc && round < 2; round++) {
        check_time(j->kernel, 1, v, round ? again : here);
        for (int pass = 0; round && pass < 2; pass++)
            here[pass] = fmin(here[pass], again[pass]);
        if (!round)
            rc = time_family(&d, j->kernel,
                             (enum inputs_family)j->file->time_against, there,
                             &why, e);
    }
    for (int pass = 0; !rc && pass < 1 + v->grad; pass++)
        j->of_file.slower = fmax(j->of_file.slower, here[pass] / there[pass]);
    return rc;
}

static int judge_case(job *j, check_values *v)
{
    const case_file *c = j->file;
    trial_file *t = &j->of_file;
    const bool grad = c->grad && (j->kernel ? j->kernel->kernel->backward != NULL
                                            : c->mechanism->backward != NULL);
    const char *why = NULL;
    t->forward_only = c->grad && !grad;
    if (check_values_make(v, c->mechanism, &c->problem, grad, &j->e) ||
        case_file_fill(c, v, &j->e))
        return -1;
    if (j->kernel) why = check_run(j->kernel, j->threads, &guard_memory, v);
    else check_reference(v, NULL);
    snprintf(t->refused, sizeof t->refused, "%s", why ? why : "");
    if (why) return 0;
    if (case_file_compare(c, v, !j->kernel, &t->result, &j->e)) return -1;
    return j->kernel && c->time_against >= 0 ? compare_times(j, v, &j->e) : 0;
}

static json *open_case(void *arg)
{
    job *j = arg;
    check_values v = { 0 };
    const int rc = judge_case(j, &v);
    check_values_free(&v);
    snprintf(j->of_file.failed, sizeof j->of_file.failed, "%s",
             rc ? j->e.text : "");
    return done(j, 0);
}

int trial_case(const case_file *c, const att_entry *entry, int threads,
               double seconds, trial_file *out, error *e)
{
    isolate_result end;
    job *j = job_make(NULL, e);
    if (!j) return -1;
    j->file = c;
    j->kernel = entry;
    j->threads = threads;
    const int rc = run_job(j, open_case, seconds, &end, e);
    *out = j->of_file;
    snprintf(out->status, sizeof out->status, "%s", end.status);
    snprintf(out->reason, sizeof out->reason, "%s", end.reason);
    job_free(j);
    return rc;
}

bool trial_case_passes(const trial_file *t)
{
    return !strcmp(t->status, "ok") && !*t->failed && t->result.pass &&
           t->slower <= TRIAL_SLOWER;
}
