/* objections.c - see objections.h. */
#include "objections.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As the roofline's own limit: above it is more than noise of ceilings. */
#define MOST 1.02

static double number_of(const objection_subject *s, const char *key)
{
    return json_number(json_get(s->row, key), NAN);
}

static const char *text_of(const objection_subject *s, const char *key)
{
    return json_text(json_get(s->row, key));
}

/* Notes the number and says whether it is objected to. */
static bool found(objection_subject *s, double number, bool applies)
{
    s->number = number;
    return applies;
}

static void explain(objection_subject *s, const char *text)
{
    snprintf(s->detail, sizeof s->detail, "%s", text ? text : "");
}

/* ---- cases: the roofline ------------------------------------------------- */

static bool above_roofline(objection_subject *s)
{
    const double fraction = s->c->roofline.fraction;
    return found(s, fraction,
                 fraction > MOST && !s->c->reason && !s->c->roofline.reason);
}

/* The end of an interval would be above the roofline, of which its median is
 * not. */
static bool end_above_roofline(objection_subject *s)
{
    const double fraction = s->c->roofline.fraction;
    const double end = fraction * s->c->time_ns.median / s->c->time_ns.lo;
    return found(s, end, fraction <= MOST && end > MOST);
}

static bool no_roofline(objection_subject *s)
{
    explain(s, s->c->roofline.reason);
    return s->item->ok && s->c->roofline.reason &&
           !isfinite(s->c->roofline.fraction);
}

/* Of what the case would reach on an undisturbed core, the core's speed is what
 * it did reach. */
static bool fractions_disagree(objection_subject *s)
{
    const double wall = s->c->roofline.fraction;
    const double paired = s->c->paired.fraction * s->c->paired.speed;
    return found(s, paired / wall, fabs(log(paired / wall)) > log(1.1));
}

/* ---- cases: times -------------------------------------------------------- */

static bool unreliable(objection_subject *s)
{
    explain(s, s->c->time_ns.reason);
    return found(s, s->c->time_ns.n, s->c->time_ns.unreliable == ROW_YES);
}

static bool no_interval(objection_subject *s)
{
    return s->item->ok && s->c->time_ns.unreliable != ROW_YES &&
           !(isfinite(s->c->time_ns.lo) && isfinite(s->c->time_ns.hi));
}

static bool wide(objection_subject *s)
{
    const double ratio = s->c->time_ns.hi / s->c->time_ns.lo;
    return found(s, ratio, ratio > 1.5);
}

static bool below_fastest(objection_subject *s)
{
    const double ratio = s->c->time_ns.lo / s->c->time_ns.min;
    return found(s, ratio, ratio < 1 - 1e-9);
}

static bool one_process(objection_subject *s)
{
    const double n = s->c->time_ns.processes;
    return found(s, n, n == 1);
}

static bool few_processes(objection_subject *s)
{
    const double n = s->c->time_ns.processes;
    return found(s, n, n > 1 && n < s->processes);
}

static bool few_passes(objection_subject *s)
{
    const double n = s->c->time_ns.passes;
    return found(s, n, n < s->processes);
}

/* ---- cases: conditions --------------------------------------------------- */

static bool many_touched(objection_subject *s)
{
    const double touched = s->c->time_ns.touched;
    const double part = touched / (touched + s->c->time_ns.n);
    return found(s, part, part > 0.25 && s->c->time_ns.unreliable != ROW_YES);
}

static bool throttled(objection_subject *s)
{
    const double seconds = s->c->noise.throttled_s;
    return found(s, seconds, seconds > 0);
}

static bool loaded(objection_subject *s)
{
    const double load = s->c->noise.load;
    const double threads = json_number(
        json_get(json_get(s->env, "topology"), "usable_threads"), NAN);
    return found(s, load, load > 1.5 * threads);
}

static bool slow_core(objection_subject *s)
{
    const double speed = s->c->paired.speed;
    return found(s, speed, speed < 0.9);
}

static bool slow_clock(objection_subject *s)
{
    const double ratio = s->c->noise.clock_ratio;
    return found(s, ratio, ratio < 0.95);
}

static bool not_bound(objection_subject *s)
{
    explain(s, json_text(json_get(s->c->binding, "reason")));
    return json_is_object(s->c->binding) &&
           (!json_is_array(json_get(s->c->binding, "processors")) ||
            json_is_false(json_get(s->c->binding, "held")));
}

static bool governor(objection_subject *s)
{
    const char *name = json_text(json_get(s->c->binding, "governor"));
    explain(s, name);
    return name && strcmp(name, "performance");
}

/* ---- cases: results ------------------------------------------------------ */

static bool has_status(const objection_subject *s, const char *status)
{
    return row_has(s->item->status, status);
}

static bool timed_out(objection_subject *s)
{
    explain(s, s->item->reason);
    return has_status(s, "timeout");
}

/* What cannot be measured is told as such; the rest went wrong. */
static bool failed(objection_subject *s)
{
    snprintf(s->detail, sizeof s->detail, "%.20s: %.170s", s->item->status,
             s->item->reason);
    return !has_status(s, "ok") && !has_status(s, "unsupported") &&
           !has_status(s, "memory") && !has_status(s, "timeout");
}

static bool unchecked(objection_subject *s)
{
    explain(s, s->c->check.reason);
    return s->item->ok && s->c->check.pass != ROW_YES;
}

static bool reduced_check(objection_subject *s)
{
    const char *against = s->c->check.against;
    explain(s, against);
    return against && strstr(against, ", on ");
}

/* ---- ratios and fits ----------------------------------------------------- */

static bool bare_ratio(objection_subject *s)
{
    const double ratio = s->c->ratio;
    return found(s, ratio,
                 isfinite(ratio) &&
                     !(isfinite(s->c->ratio_lo) && isfinite(s->c->ratio_hi)));
}

/* An interval as wide as from linear to quadratic says nothing. */
static bool no_exponent(objection_subject *s)
{
    const double width = number_of(s, "hi") - number_of(s, "lo");
    return found(s, width, !(width <= 1));
}

static bool few_points(objection_subject *s)
{
    const double n = number_of(s, "points");
    return !no_exponent(s) && found(s, n, n <= 3);
}

/* ---- env rows ------------------------------------------------------------ */

static bool dirty(objection_subject *s)
{
    const char *revision = text_of(s, "git_revision");
    const char *end = revision ? strstr(revision, "-dirty") : NULL;
    explain(s, revision);
    return end && !end[6];
}

static bool no_revision(objection_subject *s)
{
    const char *revision = text_of(s, "git_revision");
    return !revision || !*revision;
}

static bool has_flag(const char *flags, const char *flag)
{
    const size_t n = strlen(flag);
    for (const char *at = flags; (at = strstr(at, flag)); at += n)
        if ((at == flags || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
            return true;
    return false;
}

static bool debug_flags(objection_subject *s)
{
    const char *flags = text_of(s, "flags");
    explain(s, flags);
    if (!flags) return false;
    const bool optimised = has_flag(flags, "-O2") || has_flag(flags, "-O3") ||
                           has_flag(flags, "-Ofast");
    return !optimised || has_flag(flags, "-O0") || strstr(flags, "-fsanitize");
}

static bool load_at_start(objection_subject *s)
{
    const double load = json_number(json_at(json_get(s->row, "load"), 0), NAN);
    const double threads = json_number(
        json_get(json_get(s->row, "topology"), "usable_threads"), NAN);
    return found(s, load, load > 0.5 * threads);
}

/* Counters are missing, not wrong; the load is looked at by itself. */
static bool warned(objection_subject *s)
{
    const char *text = text_of(s, "text");
    explain(s, text);
    return text && strncmp(text, "no hardware counters", 20) &&
           !strstr(text, "running now, load");
}

/* ---- the run ------------------------------------------------------------- */

static const char *machine_of(const result *r)
{
    return json_text(json_get(r->env, "machine_id"));
}

static const char *program_of(const result *r)
{
    return json_text(json_get(r->env, "binary"));
}

static const char *run_of(const result *r)
{
    return r->row->env;
}

static const char *time_of(const result *r)
{
    return r->row->when;
}

/* How many different texts the cases of the run have, by their first `length`
 * characters. */
static int different(const results *r, const char *(*of)(const result *r),
                     size_t length)
{
    const char **seen = malloc(((size_t)r->count + 1) * sizeof *seen);
    int n = 0;
    if (!seen) abort();
    for (int i = 0; i < r->count; i++) {
        const char *text = of(&r->item[i]);
        int k = 0;
        while (text && k < n && strncmp(seen[k], text, length)) k++;
        if (text && k == n) seen[n++] = text;
    }
    free(seen);
    return n;
}

static bool machines(objection_subject *s)
{
    const int n = different(s->run, machine_of, SIZE_MAX);
    return found(s, n, n > 1);
}

static bool programs(objection_subject *s)
{
    const int n = different(s->run, program_of, SIZE_MAX);
    return found(s, n, n > 1 && different(s->run, machine_of, SIZE_MAX) == 1);
}

static bool runs(objection_subject *s)
{
    const int n = different(s->run, run_of, SIZE_MAX);
    return found(s, n, n > 1 && different(s->run, program_of, SIZE_MAX) == 1);
}

static bool days(objection_subject *s)
{
    const int n = different(s->run, time_of, strlen("2026-01-31"));
    return found(s, n, n > 1);
}

/* End rows, the last of each shard; they count their cases. */
static bool missing_cases(objection_subject *s)
{
    const journal *j = &s->run->journal;
    double cases = 0, shards = 0, done = 0;
    for (int i = j->count - 1; i >= 0; i--) {
        const json *row = j->rows[i];
        if (!row_has(j->row[i].kind, "end")) continue;
        const double all =
            json_number(json_get(json_get(row, "run"), "shards"), 1);
        if (done && all != shards) break;
        shards = all;
        cases += json_number(json_get(row, "cases"), 0);
        if (++done == shards) break;
    }
    const double here = s->run->count + s->run->left_out;
    if (!done)
        explain(s, "no end row");
    else if (done < shards)
        snprintf(s->detail, sizeof s->detail, "%.0f of %.0f shards", done,
                 shards);
    else
        snprintf(s->detail, sizeof s->detail, "%.0f of %.0f cases", here,
                 cases);
    return !done || done < shards || here < cases;
}

static bool torn(objection_subject *s)
{
    return s->run->journal.torn != 0;
}

/* ---- the rules ----------------------------------------------------------- */

/* clang-format off */
#define RULE(id, severity, scope, test, text, format, scale, remedy)           \
    { id, SEVERITY_##severity, OBJECTION_##scope, text, format, scale, remedy, test }

const objection objections[] = {
    RULE("machines", ERROR, RUN, machines, "cases of several machines stand in one table", "%.0f", 1, "--env chooses one"),
    RULE("programs", WARNING, RUN, programs, "cases of several programs stand in one table", "%.0f", 1, "measure all with one build"),
    RULE("runs", NOTE, RUN, runs, "cases of several runs stand in one table", "%.0f", 1, "measure all in one run"),
    RULE("days", NOTE, RUN, days, "cases of several days stand in one table", "%.0f", 1, "measure all in one run"),
    RULE("missing", ERROR, RUN, missing_cases, "cases of the run are missing", "", 1, "the same sweep again goes on"),
    RULE("torn", WARNING, RUN, torn, "the last line of the journal is not finished", "", 1, "the same sweep again goes on"),
    RULE("dirty", WARNING, ENV, dirty, "the program was built from files that no revision has", "", 1, "commit, build, measure"),
    RULE("no-revision", WARNING, ENV, no_revision, "the revision of the program is not known", "", 1, "build in a checkout of git"),
    RULE("debug-flags", ERROR, ENV, debug_flags, "kernels were not compiled for speed", "", 1, "make without FLAVOUR, or with -O2 or -O3 in CFLAGS"),
    RULE("load", WARNING, ENV, load_at_start, "other tasks were running at the start", "%.2f", 1, "wait until the machine is idle"),
    RULE("warned", WARNING, WARNING, warned, "the machine was not as it should be", "", 1, NULL),
    RULE("failed", ERROR, CASE, failed, "it failed", "", 1, "attnbench verify, and a report"),
    RULE("timeout", ERROR, CASE, timed_out, "it took too long", "", 1, "--timeout"),
    RULE("unchecked", WARNING, CASE, unchecked, "its result was not checked", "", 1, "--check with more operations"),
    RULE("reduced-check", NOTE, CASE, reduced_check, "its result was checked on a smaller problem", "", 1, "--check with more operations"),
    RULE("above-roofline", ERROR, CASE, above_roofline, "it is faster than the machine, without a reason", "%.0f %%", 100, "--ceilings fresh; verify checks cost()"),
    RULE("unreliable", ERROR, CASE, unreliable, "too few samples were undisturbed", "%.0f", 1, "a quieter machine, or a longer --time"),
    RULE("no-interval", ERROR, CASE, no_interval, "its time has no interval", "", 1, "a longer --time"),
    RULE("wide", WARNING, CASE, wide, "its interval is wider than a factor of 1.5", "%.2f", 1, "more --processes, a quieter machine"),
    RULE("below-fastest", ERROR, CASE, below_fastest, "its interval reaches below the fastest sample", "%.2f", 1, "more --processes"),
    RULE("end-above-roofline", ERROR, CASE, end_above_roofline, "its interval reaches above the roofline", "%.0f %%", 100, "more --processes"),
    RULE("one-process", WARNING, CASE, one_process, "one process alone measured it", "%.0f", 1, "--processes 3 or more"),
    RULE("few-processes", NOTE, CASE, few_processes, "few processes measured it", "%.0f", 1, "--processes 3 or more"),
    RULE("few-passes", NOTE, CASE, few_passes, "it was measured in few passes over the suite", "%.0f", 1, "--passes 3 or more"),
    RULE("disturbed", WARNING, CASE, many_touched, "many samples lost time to others", "%.0f %%", 100, "a quieter machine"),
    RULE("throttled", WARNING, CASE, throttled, "a processor quota was used up meanwhile", "%.2f s", 1, "lift the quota, or fewer --threads"),
    RULE("busy", WARNING, CASE, loaded, "other tasks were running", "%.2f", 1, "wait until the machine is idle"),
    RULE("slow-core", WARNING, CASE, slow_core, "its core was slower than it can be", "%.0f %%", 100, "the paired fraction; or a quieter machine"),
    RULE("slow-clock", WARNING, CASE, slow_clock, "the clock became slower during the run", "%.0f %%", 100, "a fixed clock (cpupower), cooling"),
    RULE("unbound", WARNING, CASE, not_bound, "its threads were not bound to processors", "", 1, "--bind close"),
    RULE("governor", WARNING, CASE, governor, "the clock of its processors follows the load", "", 1, "cpupower frequency-set -g performance"),
    RULE("disagree", WARNING, CASE, fractions_disagree, "paired and wall-clock fraction of the roofline disagree", "%.2f", 1, "measure it again"),
    RULE("no-roofline", NOTE, CASE, no_roofline, "it has no place below the roofline", "", 1, "a build with that level; --ceilings fresh"),
    RULE("bare-ratio", ERROR, RATIO, bare_ratio, "a ratio without its interval", "%.3f", 1, "more samples"),
    RULE("no-exponent", WARNING, FIT, no_exponent, "its exponent is not determined", "%.2f", 1, "more lengths, narrower times"),
    RULE("few-lengths", NOTE, FIT, few_points, "its exponent comes from three lengths or fewer", "%.0f", 1, "more lengths (--seq)"),
};
/* clang-format on */
const int objections_count = sizeof objections / sizeof *objections;

/* ---- looking at all ------------------------------------------------------ */

typedef struct finding {
    const objection *rule;
    objection_found **out;
    int count;
} finding;

static void look(finding *f, objection_subject *s, const char *name)
{
    s->number = NAN;
    *s->detail = 0;
    if (!f->rule->test(s)) return;
    *f->out = realloc(*f->out, ((size_t)f->count + 1) * sizeof **f->out);
    if (!*f->out) abort();
    objection_found *x = &(*f->out)[f->count++];
    *x = (objection_found){.rule = f->rule,
                           .name = name ? name : "",
                           .number = s->number,
                           .remedy = f->rule->remedy};
    if (!x->remedy) x->remedy = json_text(json_get(s->row, "remedy"));
    snprintf(x->detail, sizeof x->detail, "%s", s->detail);
}

static void look_at_rows(finding *f, objection_subject *s, const char *kind)
{
    const journal *j = &s->run->journal;
    for (int i = 0; i < j->count; i++) {
        s->c = &j->row[i];
        if (row_has(s->c->kind, kind)) look(f, s, s->c->case_);
    }
}

static void look_at_envs(finding *f, objection_subject *s)
{
    const journal *j = &s->run->journal;
    for (int i = 0; i < j->envs; i++) {
        const char *id = json_text(json_get(j->env[i], "id"));
        s->row = s->env = j->env[i];
        if (f->rule->scope == OBJECTION_ENV)
            look(f, s, id);
        else
            for (const json *w = json_first(json_get(j->env[i], "warnings")); w;
                 w = json_next(w))
                s->row = w, look(f, s, id);
    }
}

static void look_at_fits(finding *f, objection_subject *s)
{
    const journal *j = &s->run->journal;
    const json *fits = NULL;
    for (int i = j->count - 1; i >= 0 && !fits; i--)
        fits = json_get(j->rows[i], "fits");
    for (const json *x = json_first(fits); x; x = json_next(x))
        s->row = x, look(f, s, text_of(s, "series"));
}

static void look_at_case(finding *f, objection_subject *s, const result *item)
{
    s->item = item;
    s->c = item->row;
    s->env = item->env;
    look(f, s, item->name);
}

int objections_find(const results *r, int processes, objection_found **out)
{
    finding f = {.out = out};
    *out = NULL;
    for (int i = 0; i < objections_count; i++) {
        objection_subject s = {.run = r, .processes = processes};
        f.rule = &objections[i];
        switch (f.rule->scope) {
        case OBJECTION_RUN:
            look(&f, &s, "");
            break;
        case OBJECTION_ENV:
        case OBJECTION_WARNING:
            look_at_envs(&f, &s);
            break;
        case OBJECTION_RATIO:
            look_at_rows(&f, &s, "aa");
            break;
        case OBJECTION_FIT:
            look_at_fits(&f, &s);
            break;
        case OBJECTION_CASE:
            for (int k = 0; k < r->count; k++)
                look_at_case(&f, &s, &r->item[k]);
        }
    }
    return f.count;
}

/* Letters in the order of the rules about cases, whether they apply or not: the
 * same in every table.  No more than the alphabet has. */
static char letter_of(int rule)
{
    char letter = 'a';
    for (int i = 0; i < rule; i++)
        letter += objections[i].scope == OBJECTION_CASE;
    return letter;
}

static bool applies(int rule, const result *r)
{
    objection_subject s = {.c = r->row,
                           .item = r,
                           .env = r->env,
                           .processes = OBJECTION_PROCESSES};
    return objections[rule].scope == OBJECTION_CASE &&
           row_has(r->row->kind, "case") && objections[rule].test(&s);
}

void objections_of_case(const result *r, char *out, size_t size)
{
    size_t at = 0;
    *out = 0;
    for (int i = 0; i < objections_count && at < size; i++)
        if (applies(i, r))
            at += (size_t)snprintf(out + at, size - at, "%s%s", at ? " " : "",
                                   objections[i].id);
}

void objections_mark(const result *r, char *out, size_t size)
{
    size_t at = 0;
    *out = 0;
    for (int i = 0; i < objections_count && at < size; i++)
        if (applies(i, r))
            at += (size_t)snprintf(out + at, size - at, "%c", letter_of(i));
}

void objections_of_mixture(const results *r, char *out, size_t size)
{
    objection_subject s = {.run = r};
    size_t at = 0;
    *out = 0;
    for (int i = 0; i < objections_count && at < size; i++)
        if (objections[i].scope == OBJECTION_RUN && *objections[i].format &&
            objections[i].test(&s))
            at +=
                (size_t)snprintf(out + at, size - at, "%s%s: %.0f",
                                 at ? "; " : "", objections[i].text, s.number);
}

void objections_explain(const results *r, char *out, size_t size)
{
    size_t at = 0;
    *out = 0;
    for (int i = 0; i < objections_count && at < size; i++) {
        bool any = false;
        for (int k = 0; k < r->count && !any; k++)
            any = applies(i, &r->item[k]);
        if (any)
            at += (size_t)snprintf(out + at, size - at, "%s%c %s: %s",
                                   at ? "; " : "", letter_of(i),
                                   objections[i].id, objections[i].text);
    }
}
