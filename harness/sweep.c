/* sweep.c - `attnbench sweep`: the loop over cases. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "isolate.h"
#include "machine.h"
#include "measure.h"
#include "question.h"
#include "stop.h"
#include "sweep_run.h"

/* ---- cases --------------------------------------------------------------- */

/* Rows of the same case, code and machine that answer the same question stay;
 * failed ones and those that did not fit too, unless they are to be tried
 * again. */
static void keep_finished(sweep_run *r)
{
    char why[160];
    sweep_index index = sweep_index_make(&r->before);
    for (int i = 0; i < r->cases.count; i++) {
        const sweep_case *c = &r->cases.of[i];
        const struct row *row =
            sweep_row_find(&index, &r->env, c, why, sizeof why);
        if (!row && *why && r->changed++ == 0)
            snprintf(r->change, sizeof r->change, "%s: %.120s", c->name, why);
        if (!row || !row->status ||
            (r->o->retry &&
             (sweep_is_failure(row) || row_has(row->status, "memory"))))
            r->left += c->settings.processes;
        else {
            r->row[i] = row;
            r->kept++;
            sweep_units(&row->time_ns.samples, &r->outcome[i].units);
        }
    }
    free(index.of);
}

/* What an interrupted run has measured of cases without a row is taken up: its
 * processes since the last row of that case. */
static void take_passes(sweep_run *r)
{
    for (int i = 0; i < r->cases.count; i++) {
        const sweep_case *c = &r->cases.of[i];
        sweep_outcome *o = &r->outcome[i];
        json *asked = NULL;
        char why[160];
        for (int k = 0; k < r->before.count && !r->row[i]; k++) {
            const struct row *row = &r->before.row[k];
            const bool is_pass = row_has(row->kind, "pass");
            if (!sweep_row_is_of(&r->before, row, &r->env, c)) continue;
            if (!asked) asked = question_settings(c, r->env.row);
            if (!question_answered(row, asked, why, sizeof why)) continue;
            if (!is_pass) sweep_outcome_free(o);
            else if (sweep_pass_take(row, o)) r->resumed++;
        }
        json_free(asked);
        const int taken = json_size(o->samples), most = c->settings.processes - 1;
        r->left -= taken < most ? taken : most; /* its row is left, at least */
        const char *checked = json_text(json_get(o->first, "checked"));
        if (checked)
            json_put(r->checks, checked, json_copy(json_get(o->first, "check")));
    }
}

static void tick(void *arg)
{
    sweep_run *r = arg;
    progress_show(&r->bar, r->done, r->doing);
}

static size_t memory_limit(const sweep_run *r)
{
    const double asked = r->o->settings.max_memory;
    return asked > 0 ? (size_t)asked : machine_memory_free() / 5 * 4;
}

/* A case that ended badly still has its operations and bytes in the row. */
static void describe_failed(sweep_job *job, isolate_result *failed)
{
    const isolate_limits limits = { .seconds = 5, .stop = &stop_signal };
    isolate_result described;
    job->describe_only = true;
    if (isolate_run(sweep_case_run, job, &limits, &described, NULL) < 0 ||
        !described.value)
        return;
    failed->value = described.value; /* its verdict is not the case's */
    json_put_null(failed->value, "status");
    json_put_null(failed->value, "reason");
}

int sweep_process(sweep_run *r, int i, const sweep_turn *turn, sweep_outcome *o)
{
    enum { PROGRAM_MEMORY = 512 << 20 }; /* beside the data: code, check    */
    const sweep_case *c = &r->cases.of[i];
    sweep_job job = {
        .what = c,
        .max_memory = memory_limit(r),
        .clock = r->clock,
        .roofline = json_get(r->env.row, "roofline"),
        .round = turn->pass,
        .first = turn->first,
        .inject = turn->inject,
        .checks = r->checks,
    };
    const isolate_limits limits = {
        .seconds = c->settings.timeout,
        .memory = job.max_memory + PROGRAM_MEMORY,
        .tick = tick,
        .arg = r,
        .stop = &stop_signal,
    };
    isolate_result result;
    r->doing = c->name;
    tick(r);
    inputs_keep(c->entry.mechanism, &c->problem, (uint64_t)c->problem.seed,
                c->pass == ATT_BACKWARD);
    if (isolate_run(sweep_case_run, &job, &limits, &result, &r->o->error) < 0)
        return sweep_fail(r->o, EXIT_MISSING);
    if (!result.value && turn->first) describe_failed(&job, &result);
    if (stop_signal) { /* what the process says now may be our own doing */
        json_free(result.value);
        return sweep_fail(r->o, EXIT_INTERRUPTED);
    }
    const char *checked = json_text(json_get(result.value, "checked"));
    if (checked)
        json_put(r->checks, checked,
                 json_copy(json_get(result.value, "check")));
    const json *samples = json_get(result.value, "samples");
    r->kernel += json_number(json_get(samples, "kernel_s"), 0);
    r->waited += json_number(json_get(samples, "waited_s"), 0);
    sweep_outcome_add(o, &result);
    r->done++;
    return 0;
}

/* What all cases measured so far have in common. */
static void pool(const sweep_run *r, spread_prior *out)
{
    const spread **of =
        malloc(((size_t)r->cases.count + 1) * sizeof *of);
    if (!of) abort();
    for (int i = 0; i < r->cases.count; i++) of[i] = &r->outcome[i].units;
    spread_pool(of, r->cases.count, out);
    free(of);
}

static int finish_case(sweep_run *r, int i)
{
    spread_prior prior;
    pool(r, &prior);
    json *row = sweep_row(&r->cases.of[i], &r->env, &r->outcome[i], &prior);
    const spread units = r->outcome[i].units;
    json_push(r->owned, row);
    sweep_outcome_free(&r->outcome[i]);
    r->outcome[i].units = units; /* for the cases to come */
    if (journal_append(&r->writer, row, &r->o->error) < 0)
        return sweep_fail(r->o, EXIT_MISSING);
    if (row_read(&r->own[i], row, r->writer.path, 0, &r->o->error) < 0)
        return sweep_fail(r->o, EXIT_MISSING);
    r->row[i] = &r->own[i];
    progress_clear(&r->bar);
    sweep_table_line(stdout, r->width, r->row[i]);
    fflush(stdout);
    return 0;
}

/* A process that others of its case will follow: what it brought is kept, in case
 * the run does not come that far. */
static int keep_process(sweep_run *r, int i)
{
    json *row = sweep_pass_row(&r->cases.of[i], &r->env, &r->outcome[i]);
    const int rc = journal_append(&r->writer, row, &r->o->error);
    json_free(row);
    return rc < 0 ? sweep_fail(r->o, EXIT_MISSING) : 0;
}

/* How many processes of a case there are before a pass: as many in each, one more
 * in the first ones. */
static int before_pass(const sweep_settings *s, int pass)
{
    const int passes = s->passes < s->processes ? s->passes : s->processes;
    const int more = s->processes % passes;
    if (pass >= passes) return s->processes;
    return pass * (s->processes / passes) + (pass < more ? pass : more);
}

/* Whether neighbours left so little of a case clean that other processes are worth
 * their time.  Who asks for one process gets one. */
static bool is_spoilt(const sweep_run *r, int i)
{
    enum { WANTED = 3 };
    const double CLEAN = 0.5;
    const sweep_settings *s = &r->cases.of[i].settings;
    const int units = s->passes > 1 && s->passes < s->processes ? s->passes
                                                                : s->processes;
    const sweep_outcome *o = &r->outcome[i];
    return units > 1 && (o->units.units < (units < WANTED ? units : WANTED) ||
                         o->clean < CLEAN);
}

/* Process number `number` of case i, unless it has it already. */
static int run_process(sweep_run *r, int i, int number, int pass)
{
    sweep_outcome *o = &r->outcome[i];
    const int left = r->cases.of[i].settings.processes - 1 - number;
    const sweep_turn turn = { .pass = pass, .first = number == 0 };
    if (r->row[i] || json_size(o->samples) > number) return 0;
    if (sweep_process(r, i, &turn, o)) return -1;
    const bool ok = !strcmp(o->status, "ok");
    if (!ok && left > 0) r->done += left;
    return !ok || (left <= 0 && !is_spoilt(r, i)) ? finish_case(r, i)
                                                 : keep_process(r, i);
}

/* The cases of one problem in one pass, round by round, one process of each case
 * in a round.  The order is rotated, so that no kernel is always first or hottest;
 * in the last round, where the rows appear, it is the natural one. */
static int run_group(sweep_run *r, int from, int to, int pass)
{
    int rounds = 0;
    for (int i = from; i < to; i++) {
        const sweep_settings *s = &r->cases.of[i].settings;
        const int n = before_pass(s, pass + 1) - before_pass(s, pass);
        if (n > rounds) rounds = n;
    }
    for (int round = 0; round < rounds; round++)
        for (int k = 0; k < to - from; k++) {
            const int turn = (r->passes - 1 - pass) * rounds + rounds - 1 - round;
            const int i = from + (k + turn) % (to - from);
            const sweep_settings *s = &r->cases.of[i].settings;
            const int number = before_pass(s, pass) + round;
            if (number < before_pass(s, pass + 1) &&
                run_process(r, i, number, pass))
                return -1;
        }
    return 0;
}

static int run_groups(sweep_run *r)
{
    const sweep_case *c = r->cases.of;
    for (int i = 0; i < r->cases.count; i++)
        if (c[i].settings.passes > r->passes) r->passes = c[i].settings.passes;
    for (int pass = 0; pass < r->passes; pass++)
        for (int from = 0, to; from < r->cases.count; from = to) {
            for (to = from + 1; to < r->cases.count; to++)
                if (c[to].group != c[from].group) break;
            if (run_group(r, from, to, pass)) return -1;
        }
    return 0;
}

/* Cases that neighbours spoilt have no row yet: they get other processes, in passes
 * of their own, for a part of the time that the run took so far.  Then their rows are
 * written, whatever they have. */
static int repeat_spoilt(sweep_run *r)
{
    enum { PASSES = 6 };
    const double MOST = 0.2;
    const double start = measure_now(), end = start + MOST * (start - r->start);
    for (int pass = 0; pass <= PASSES; pass++)
        for (int i = 0; i < r->cases.count; i++) {
            if (r->row[i]) continue;
            if (pass < PASSES && is_spoilt(r, i) && measure_now() < end) {
                r->bar.total++;
                r->again++;
                if (run_process(r, i, json_size(r->outcome[i].samples),
                                r->passes + pass))
                    return -1;
            } else if (finish_case(r, i)) return -1;
        }
    return 0;
}

static json *part_of(const sweep_run *r)
{
    json *j = json_object();
    json_put_text(j, "suite", r->suite.name);
    json_put_number(j, "suite_version", r->suite.version ? r->suite.version
                                                          : NAN);
    json_put_number(j, "shard", r->o->shard);
    json_put_number(j, "shards", r->o->shards);
    return j;
}

static bool ended(const journal *j)
{
    return j->count && row_has(j->row[j->count - 1].kind, "end");
}

static int finish(sweep_run *r)
{
    char when[24];
    json *row = json_object(), *counts = sweep_statuses(r);
    const json *roofline = json_get(r->env.row, "roofline");
    json *fits = sweep_fits(r->row, r->cases.count, roofline);
    json *crossings = sweep_crossings(r->row, r->cases.count);
    sweep_time(when);
    sweep_say_summary(r, counts, fits, crossings);
    if (r->left == 0 && ended(&r->before)) {
        json_free(row);
        json_free(counts);
        json_free(fits);
        json_free(crossings);
        return 0;
    }
    json_put_text(row, "kind", "end");
    json_put_number(row, "schema", JOURNAL_SCHEMA);
    json_put_text(row, "when", when);
    json_put_text(row, "env", r->cases.count ? r->row[0]->env
                                             : NULL); /* a part without a case */
    json_put(row, "run", part_of(r));
    json_put_number(row, "cases", r->cases.count);
    json_put_number(row, "kept", r->kept);
    json_put(row, "statuses", counts);
    json_put(row, "fits", fits);
    json_put(row, "crossings", crossings);
    const int rc = journal_append(&r->writer, row, &r->o->error);
    json_free(row);
    return rc < 0 ? sweep_fail(r->o, EXIT_MISSING) : 0;
}

/* ---- the command --------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Different thread counts of the cases, sorted; allocated. */
static int *thread_counts(const sweep_cases *c, int *count)
{
    int *threads = calloc((size_t)c->count + 1, sizeof *threads), n = 0;
    if (!threads) abort();
    for (int i = 0; i < c->count; i++) threads[i] = c->of[i].threads;
    qsort(threads, (size_t)c->count, sizeof *threads, ascending);
    for (int i = 0; i < c->count; i++)
        if (n == 0 || threads[n - 1] != threads[i]) threads[n++] = threads[i];
    *count = n;
    return threads;
}

/* Ceilings and the env row, where there is something to measure. */
static int prepare(sweep_run *r)
{
    enum { ROOFLINE_SECONDS = 3 };
    int count;
    int *threads = thread_counts(&r->cases, &count);
    const double start = measure_now();
    progress_show(&r->bar, 0, "measuring the ceilings of this machine");
    r->env.fresh = r->o->fresh;
    int rc = sweep_env_complete(&r->env, &r->before, threads, count,
                                ROOFLINE_SECONDS, part_of(r), &stop_signal,
                                &r->o->error);
    r->ceilings = measure_now() - start;
    free(threads);
    if (rc == 0)
        rc = journal_append(&r->writer, r->env.row, &r->o->error);
    if (rc < 0)
        return sweep_fail(r->o, stop_signal ? EXIT_INTERRUPTED : EXIT_MISSING);
    r->clock = measure_clock();
    machine_places(1, false, &count); /* found once, not in every child */
    progress_clear(&r->bar);
    progress_begin(&r->bar, r->left); /* cases alone tell what is left */
    return 0;
}

static int go(sweep_run *r)
{
    const size_t n = (size_t)r->cases.count + 1;
    r->start = measure_now();
    if (sweep_env_identify(&r->env, &stop_signal, &r->o->error) < 0)
        return sweep_fail(r->o, stop_signal ? EXIT_INTERRUPTED : EXIT_MISSING);
    r->row = calloc(n, sizeof *r->row);
    r->own = calloc(n, sizeof *r->own);
    r->outcome = calloc(n, sizeof *r->outcome);
    if (!r->row || !r->own || !r->outcome) abort();
    r->owned = json_array();
    r->checks = json_object();
    r->width = sweep_table_width(r->cases.of, r->cases.count);
    if (r->o->aa) r->left = sweep_aa_left(r);
    else {
        keep_finished(r);
        take_passes(r);
    }
    progress_begin(&r->bar, r->left);
    sweep_say_warnings(r);
    if (r->left && prepare(r) < 0) return -1;
    if (r->o->aa) return sweep_aa(r);
    sweep_say_legend(r);
    if (run_groups(r) < 0 || repeat_spoilt(r) < 0) return -1;
    return finish(r);
}

static void run_free(sweep_run *r)
{
    for (int i = 0; r->outcome && i < r->cases.count; i++)
        sweep_outcome_free(&r->outcome[i]);
    for (int i = 0; r->own && i < r->cases.count; i++) row_free(&r->own[i]);
    free(r->outcome);
    free(r->row);
    free(r->own);
    json_free(r->owned);
    json_free(r->checks);
    sweep_env_free(&r->env);
    journal_free(&r->before);
}

/* Only the journal that is locked may be read: nobody adds to it then. */
static int run(sweep_run *r)
{
    if (journal_open(&r->writer, r->o->out, &r->before, &r->o->error) < 0)
        return sweep_fail(r->o, EXIT_MISSING);
    stop_catch();
    go(r);
    progress_clear(&r->bar);
    if (r->o->status == EXIT_INTERRUPTED) sweep_say_resume(r);
    else if (r->o->status == 0 && !r->o->aa) r->o->status = sweep_exit_code(r);
    run_free(r);
    journal_close(&r->writer);
    return r->o->status;
}

int command_sweep(int argc, char **argv)
{
    sweep_options o;
    sweep_run r = { .o = &o };
    sweep_options_read(&o, argc, argv);
    if (o.status == 0) sweep_options_cases(&o, &r.suite, &r.cases);
    if (o.status == 0) {
        if (o.dry_run) sweep_dry_run(&r);
        else run(&r);
    }
    if (*o.error.text && o.status != EXIT_INTERRUPTED)
        fprintf(stderr, "%s: %s\n", o.name, o.error.text);
    sweep_cases_free(&r.cases);
    sweep_suite_free(&r.suite);
    sweep_options_free(&o);
    return o.status;
}
