/* sweep_row.c - processes -> one case row. */
#include "sweep_row.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "paired.h"
#include "question.h"
#include "roofline.h"

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- outcome ------------------------------------------------------------- */

void sweep_outcome_add(sweep_outcome *o, isolate_result *r)
{
    const char *status = json_text(json_get(r->value, "status"));
    const char *reason = json_text(json_get(r->value, "reason"));
    const json *samples = json_get(r->value, "samples");

    snprintf(o->status, sizeof o->status, "%s", status ? status : r->status);
    snprintf(o->reason, sizeof o->reason, "%s", reason ? reason : r->reason);
    if (!o->samples) o->samples = json_array();
    if (samples) json_push(o->samples, json_copy(samples));
    measurement m;
    measurement_read(o->samples, &m);
    sweep_units(&m, &o->units);
    measurement_free(&m);
    if (!o->first) o->first = r->value;
    else json_free(r->value);
    r->value = NULL;
}

void sweep_outcome_free(sweep_outcome *o)
{
    json_free(o->first);
    json_free(o->samples);
    *o = (sweep_outcome){ 0 };
}

/* ---- one process of several ---------------------------------------------- */

json *sweep_pass_row(const sweep_case *c, const sweep_env *env,
                     const sweep_outcome *o)
{
    const int number = json_size(o->samples) - 1;
    char code[SWEEP_ID], when[24], id[ATT_NAME + 2 * SWEEP_ID];
    json *row = json_object();
    sweep_env_code(&c->entry, code);
    sweep_time(when);
    snprintf(id, sizeof id, "%s/%s#%d", env->id, c->name, number);
    json_put_text(row, "kind", "pass");
    json_put_number(row, "schema", JOURNAL_SCHEMA);
    json_put_text(row, "id", id);
    json_put_text(row, "case", c->name);
    json_put_text(row, "env", env->id);
    json_put_text(row, "code", code);
    json_put_text(row, "when", when);
    json_put_text(row, "status", o->status);
    json_put_text(row, "reason", *o->reason ? o->reason : NULL);
    json_put(row, "settings", question_settings(c, env->row));
    json_put_number(row, "process", number);
    json_put(row, "samples", json_copy(json_at(o->samples, number)));
    if (number > 0) return row;
    json *first = json_copy(o->first);
    json_put_null(first, "samples"); /* they are above */
    json_put(row, "first", first);
    return row;
}

bool sweep_pass_take(const json *row, sweep_outcome *o)
{
    const json *first = json_get(row, "first");
    const json *samples = json_get(row, "samples");
    isolate_result r = { .status = "ok" };
    if (json_number(json_get(row, "process"), -1) != json_size(o->samples) ||
        !samples || (!o->first && !json_get(first, "status")))
        return false;
    r.value = first ? json_copy(first) : json_object();
    json_put_text(r.value, "status", "ok");
    json_put(r.value, "samples", json_copy(samples));
    sweep_outcome_add(o, &r);
    return true;
}

/* ---- times --------------------------------------------------------------- */

void sweep_units(const measurement *m, spread *out)
{
    clean_samples c;
    clean_take(m, &c);
    double *ln = sure(malloc(((size_t)c.processes + 1) * sizeof *ln));
    for (int p = 0; p < c.processes; p++) ln[p] = log(clean_median(&c, p));
    spread_of(ln, c.pass, c.processes, out);
    free(ln);
    clean_free(&c);
}

/* Why the measurement as a whole ended: when each process was content but they
 * disagree, more samples would not have helped. */
static const char *stop_of(const measurement *m, double width, double ci)
{
    const char *stop = "noise";
    if (width <= ci) return "ci";
    for (int p = 0; p < m->processes; p++)
        if (!strcmp(m->process[p].stop, "time")) stop = "time";
    return stop;
}

/* The fastest sample ever taken, touched or not. */
static double fastest(const measurement *m)
{
    double least = INFINITY;
    for (int p = 0; p < m->processes; p++)
        for (int i = 0; i < m->process[p].count; i++)
            if (m->process[p].of[i].ns > 0)
                least = fmin(least, m->process[p].of[i].ns);
    return least;
}

static int passes_of(const clean_samples *c)
{
    int n = 0;
    for (int p = 0; p < c->processes; p++)
        n += p == 0 || c->pass[p] != c->pass[p - 1];
    return n;
}

/* apart: how far the interval's ends are from each other. */
static void doubt(const clean_samples *p, int units, double apart, char *out,
                  size_t size)
{
    stats_summary speed;
    stats_summarise(p->probe, p->n, &speed);
    *out = 0;
    if (p->all)
        snprintf(out, size, "unreliable: fewer than 3 samples were free of steal, "
                            "involuntary switches and throttling, so all are used");
    else if (apart > SPREAD_WIDEST)
        snprintf(out, size, "unreliable: processes differ so much that the 95 %% "
                            "interval would span a factor of %.3g", apart);
    else if (p->slowed)
        snprintf(out, size, "the core ran at %.0f %% of its speed beside the "
                 "samples (a neighbour on the same hardware, or a lower clock)",
                 100 * speed.median);
    else if (units < 2)
        snprintf(out, size, "one process: how processes differ is not known, so "
                            "there is no interval");
}

/* With these lo and hi can be computed again. */
static json *pooled(const spread_interval *x, const spread_prior *prior)
{
    json *j = json_object();
    json_put_number(j, "own", x->variance);
    json_put_number(j, "variance", prior->freedom > 0 ? prior->variance : NAN);
    json_put_number(j, "freedom", fmin(prior->freedom, 1e6));
    json_put_number(j, "widening", prior->widening);
    json_put_number(j, "shared", prior->shared);
    json_put_number(j, "shared_freedom", prior->shared_freedom);
    return j;
}

/* least: no interval reaches below, the time that the roofline allows. */
static json *times(const sweep_case *c, const sweep_outcome *o,
                   const measurement *m, const spread_prior *prior,
                   double least)
{
    clean_samples p;
    stats_summary s;
    spread_interval x;
    double lo, hi;
    char why[160];
    json *j = json_object();

    clean_take(m, &p);
    stats_summarise(p.ns, p.n, &s);
    spread_estimate(&o->units, prior, 0.05, &x);
    const double median = exp(x.centre);
    const double apart = spread_ends(&x, fmax(least, fastest(m)), &lo, &hi);
    doubt(&p, o->units.units, apart, why, sizeof why);
    json_put_number(j, "median", median);
    json_put_number(j, "lo", lo);
    json_put_number(j, "hi", hi);
    json_put_number(j, "min", s.min);
    json_put_number(j, "mad", s.mad);
    json_put_number(j, "n", p.n);
    json_put_number(j, "touched", p.touched);
    json_put_number(j, "processes", p.processes);
    json_put_number(j, "passes", passes_of(&p));
    json_put_number(j, "units", o->units.units);
    json_put(j, "pooled", pooled(&x, prior));
    const double width = (hi - lo) / 2 / median;
    json_put_text(j, "stop", stop_of(m, isnan(width) ? INFINITY : width,
                                     c->settings.ci));
    json_put_bool(j, "unreliable", p.all || apart > SPREAD_WIDEST);
    json_put_text(j, "reason", *why ? why : NULL);
    json_put(j, "samples", measurement_write(m));
    clean_free(&p);
    return j;
}

/* The fraction of the roofline on an undisturbed core; median and fraction as
 * measured. */
static json *undisturbed(const sweep_case *c, const sweep_env *env,
                         const measurement *m, double median, double fraction)
{
    json *j = json_object();
    paired p;
    const bool known = paired_take(m, &p);
    const double least = known ? fraction * median : NAN;
    json_put_text(j, "kind", p.kind);
    json_put_number(j, "speed", p.speed);
    json_put_number(j, "rate_per_s",
                    known ? roofline_probe(json_get(env->row, "roofline"),
                                           c->entry.level, c->threads, p.kind)
                          : NAN);
    json_put_number(j, "fraction", least / p.ns.median);
    json_put_number(j, "lo", least / p.ns.hi);
    json_put_number(j, "hi", least / p.ns.lo);
    json_put_number(j, "n", p.ns.n);
    return j;
}

static double sum_up(double sum, double x)
{
    return isnan(x) ? sum : sum + x;
}

static json *noise(const measurement *m)
{
    json *j = json_object();
    double steal = 0, switches = 0, throttled = 0, waited = 0, clock = NAN;
    for (int p = 0; p < m->processes; p++) {
        const sample_process *one = &m->process[p];
        steal = sum_up(steal, one->steal_ticks);
        switches = sum_up(switches, one->involuntary_switches);
        throttled = sum_up(throttled, one->throttled_s);
        waited = sum_up(waited, one->waited_s);
        clock = fmin(clock, one->clock_ratio);
    }
    json_put_number(j, "steal_ticks", steal);
    json_put_number(j, "involuntary_switches", switches);
    json_put_number(j, "throttled_s", throttled);
    json_put_number(j, "waited_s", waited);
    json_put_number(j, "clock_ratio", clock);
    json_put_number(j, "load", machine_load());
    return j;
}

/* ---- the row ------------------------------------------------------------- */

static json *list_of(const att_list *list)
{
    json *j = json_array();
    for (int i = 0; i < list->n; i++) json_push_number(j, list->v[i]);
    return j;
}

/* Fields that the mechanism has, and the number of tokens. */
static json *problem_of(const sweep_case *c)
{
    const att_problem *p = &c->problem;
    json *j = json_object();
    char text[ATT_TEXT];
#define PUT_INT(field)  json_put_number(j, #field, p->field)
#define PUT_REAL(field) json_put_number(j, #field, p->field)
#define PUT_LIST(field) json_put(j, #field, list_of(&p->field))
#define PUT_ENUM(field)                                                        \
    (att_get(p, ATT_FIELD_##field, text), json_put_text(j, #field, text))
#define PUT(kind, field, s, o, d, h)                                           \
    if (att_uses(c->entry.mechanism, ATT_FIELD_##field)) PUT_##kind(field);
    ATT_PROBLEM_FIELDS(PUT)
#undef PUT
#undef PUT_ENUM
#undef PUT_LIST
#undef PUT_REAL
#undef PUT_INT
    json_put_number(j, "tokens", (double)att_tokens(p));
    return j;
}

static void read_cost(const json *flop, const json *bytes, att_cost *out)
{
    *out = (att_cost){
        .mul_add = json_number(json_get(flop, "mul_add"), NAN),
        .add = json_number(json_get(flop, "add"), NAN),
        .mul = json_number(json_get(flop, "mul"), NAN),
        .div = json_number(json_get(flop, "div"), NAN),
        .exp = json_number(json_get(flop, "exp"), NAN),
        .read = json_number(json_get(bytes, "compulsory"), NAN),
    };
}

/* The definition's data live where all of them fit: q, k, v, o, parameters. */
static json *place(const sweep_case *c, const sweep_env *env, const json *first,
                   double median)
{
    const json *bytes = json_get(first, "bytes");
    roofline_point at;
    att_cost cost;
    json *j = json_object();
    const double data = json_number(json_get(bytes, "inputs"), NAN) +
                        json_number(json_get(bytes, "parameters"), 0);
    read_cost(json_get(first, "flop"), bytes, &cost);
    if (roofline_place(json_get(env->row, "roofline"), c->entry.level,
                       c->threads, &cost, data, median * 1e-9, &at)) {
        json_put_text(j, "bound", at.bound);
        json_put_number(j, "peak_gflops", at.peak * 1e-9);
        json_put_number(j, "attainable_gflops", at.attainable * 1e-9);
        json_put_number(j, "fraction", at.fraction);
        json_put_bool(j, "implausible", at.fraction > ROOFLINE_MOST);
        return j;
    }
    json_put_null(j, "bound");
    json_put_null(j, "peak_gflops");
    json_put_null(j, "attainable_gflops");
    json_put_null(j, "fraction");
    json_put_null(j, "implausible");
    json_put_text(j, "reason", "the env row has no ceilings for this level and "
                               "number of threads");
    return j;
}

/* What is faster than the machine was not done, or not counted rightly.  Fewer
 * operations than the definition's are no fault, if executed() says so. */
static void doubt_cost(const sweep_case *c, const json *first, const json *at,
                       char *reason, size_t size)
{
    const double fraction = json_number(json_get(at, "fraction"), 0);
    const double all = json_number(json_get(json_get(first, "flop"), "mul_add"), 0);
    const double done =
        json_number(json_get(json_get(first, "executed"), "mul_add"), all);
    if (*reason || !json_true(json_get(at, "implausible"))) return;
    if (fraction * done <= ROOFLINE_MOST * all)
        snprintf(reason, size, "%.0f %% of the roofline of the definition, of "
                 "whose multiply-adds executed() does %.3g %%", 100 * fraction,
                 100 * done / all);
    else
        snprintf(reason, size, "%.0f %% of the roofline, more than this machine "
                 "can do: cost() of %s counts what is not computed, or "
                 "executed() of %s does not tell what is left out, or the "
                 "ceilings are too low (--ceilings fresh)", 100 * fraction,
                 c->entry.mechanism->name, c->entry.kernel->name);
}

void sweep_row_head(json *row, const char *kind, const sweep_case *c,
                    const sweep_env *env)
{
    char code[SWEEP_ID], when[24];
    sweep_env_code(&c->entry, code);
    sweep_time(when);
    json_put_text(row, "kind", kind);
    json_put_number(row, "schema", JOURNAL_SCHEMA);
    json_put_text(row, "case", c->name);
    json_put_text(row, "env", env->id);
    json_put_text(row, "code", code);
    json_put_text(row, "when", when);
    json_put_text(row, "mechanism", c->entry.mechanism->name);
    json_put_text(row, "family", c->entry.mechanism->family);
    json_put_text(row, "kernel", c->entry.kernel->name);
    json_put_bool(row, "plain", c->entry.kernel->plain);
    json_put_text(row, "level", att_level_name(c->entry.level));
    json_put_number(row, "threads", c->threads);
    json_put_text(row, "pass",
                  c->pass == ATT_FORWARD ? "forward" : "backward");
    json_put(row, "problem", problem_of(c));
    if (c->inputs != INPUTS_NORMAL)
        json_put_text(row, "inputs", inputs_family_name(c->inputs));
}

static void copy_member(json *row, const json *from, const char *key)
{
    const json *member = json_get(from, key);
    json_put(row, key, member ? json_copy(member) : NULL);
}

json *sweep_row(const sweep_case *c, const sweep_env *env,
                const sweep_outcome *o, const spread_prior *prior)
{
    const bool ok = !strcmp(o->status, "ok");
    char reason[sizeof o->reason];
    json *row = json_object(), *time = NULL, *at = NULL, *pair = NULL;
    measurement m;

    measurement_read(o->samples, &m);
    snprintf(reason, sizeof reason, "%s", o->reason);
    if (ok) {
        const double median = exp(spread_centre(&o->units));
        at = place(c, env, o->first, median);
        const double fraction = json_number(json_get(at, "fraction"), NAN);
        time = times(c, o, &m, prior, fraction <= 1 ? median * fraction : 0);
        pair = undisturbed(c, env, &m, median, fraction);
        doubt_cost(c, o->first, at, reason, sizeof reason);
    }
    sweep_row_head(row, "case", c, env);
    json_put_text(row, "status", o->status);
    json_put_text(row, "reason", *reason ? reason : NULL);
    json_put(row, "settings", question_settings(c, env->row));
    json_put(row, "time_ns", time);
    copy_member(row, o->first, "flop");
    if (json_get(o->first, "executed")) copy_member(row, o->first, "executed");
    copy_member(row, o->first, "pairs");
    copy_member(row, o->first, "bytes");
    copy_member(row, o->first, "binding");
    copy_member(row, o->first, "counters");
    copy_member(row, o->first, "check");
    json_put(row, "roofline", at);
    json_put(row, "paired", pair);
    json_put(row, "noise", ok ? noise(&m) : NULL);
    measurement_free(&m);
    return row;
}

/* ---- finding it again ---------------------------------------------------- */

bool sweep_row_is_of(const journal *j, const struct row *row,
                     const sweep_env *env, const sweep_case *c)
{
    char code[SWEEP_ID];
    if (!row_has(row->case_, c->name)) return false;
    sweep_env_code(&c->entry, code);
    return row_has(row->code, code) &&
           row_has(json_text(json_get(journal_env(j, row), "machine_id")),
                   env->machine);
}

/* Rows of a journal stand side by side: those of a name in the order of lines. */
static int by_name(const void *a, const void *b)
{
    const struct row *x = *(const struct row *const *)a;
    const struct row *y = *(const struct row *const *)b;
    const int c = strcmp(x->case_, y->case_);
    return c ? c : (x > y) - (x < y);
}

sweep_index sweep_index_make(const journal *j)
{
    sweep_index x = { .journal = j };
    x.of = sure(malloc((size_t)(j->count + 1) * sizeof *x.of));
    for (int i = 0; i < j->count; i++)
        if (row_has(j->row[i].kind, "case") && j->row[i].case_)
            x.of[x.count++] = &j->row[i];
    qsort(x.of, (size_t)x.count, sizeof *x.of, by_name);
    return x;
}

/* Where rows with names behind this one begin. */
static int behind(const sweep_index *x, const char *name)
{
    int from = 0, to = x->count;
    while (from < to) {
        const int mid = (from + to) / 2;
        if (strcmp(x->of[mid]->case_, name) <= 0) from = mid + 1;
        else to = mid;
    }
    return from;
}

const struct row *sweep_row_find(const sweep_index *x, const sweep_env *env,
                                 const sweep_case *c, char *why, size_t size)
{
    const struct row *found = NULL;
    json *asked = NULL;
    char differs[160];
    *why = 0;
    for (int i = behind(x, c->name) - 1; i >= 0 && !found; i--) {
        const struct row *row = x->of[i];
        if (strcmp(row->case_, c->name)) break;
        if (!sweep_row_is_of(x->journal, row, env, c)) continue;
        if (!asked) asked = question_settings(c, env->row);
        if (question_answered(row, asked, differs, sizeof differs)) found = row;
        else if (!*why) snprintf(why, size, "%s", differs);
    }
    json_free(asked);
    return found;
}
