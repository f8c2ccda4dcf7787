/* sweep_row.c - processes -> one case row. */
#include "sweep_row.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clean.h"
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

static double share_clean(const measurement *m)
{
    int clean = 0, all = 0;
    for (int p = 0; p < m->processes; p++)
        for (int i = 0; i < m->process[p].count; i++, all++)
            clean += clean_is(&m->process[p].of[i]);
    return all ? (double)clean / all : 0;
}

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
    o->clean = share_clean(&m);
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
    char id[ATT_NAME + 2 * SWEEP_ID];
    sweep_said said;
    struct row row;
    sweep_row_head(&row, &said, "pass", c, env);
    snprintf(id, sizeof id, "%s/%s#%d", env->id, c->name, number);
    row.id = id;
    row.status = o->status;
    row.process = number;
    row.samples = json_at(o->samples, number);
    json *first = number == 0 ? json_copy(o->first) : NULL;
    if (first) json_put_null(first, "samples"); /* they are above */
    row.first = first;
    json *j = row_write(&row);
    json_free(first);
    sweep_said_free(&said);
    return j;
}

bool sweep_pass_take(const struct row *row, sweep_outcome *o)
{
    isolate_result r = { .status = "ok" };
    if (row->process != json_size(o->samples) || !row->samples ||
        (!o->first && !json_get(row->first, "status")))
        return false;
    r.value = row->first ? json_copy(row->first) : json_object();
    json_put_text(r.value, "status", "ok");
    json_put(r.value, "samples", json_copy(row->samples));
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
    else if (p->slowed)
        snprintf(out, size, "the core ran at %.0f %% of its speed beside the "
                            "samples (a neighbour on the same hardware, or a "
                            "lower clock)", 100 * speed.median);
    else if (units < 2)
        snprintf(out, size, "one process: how processes differ is not known, so "
                            "there is no interval");
    else if (apart > SPREAD_WIDEST)
        snprintf(out, size, "unreliable: processes differ so much that the 95 %% "
                            "interval would span a factor of %.3g", apart);
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
static void times(struct row *row, const sweep_case *c, const sweep_outcome *o,
                  const spread_prior *prior, double least, sweep_said *said)
{
    const measurement *m = &row->time_ns.samples;
    clean_samples p;
    stats_summary s;
    spread_interval x;

    clean_take(m, &p);
    stats_summarise(p.ns, p.n, &s);
    spread_estimate(&o->units, prior, 0.05, &x);
    const double median = row->time_ns.median = exp(x.centre);
    row->time_ns.min = fastest(m);
    const double apart = spread_ends(&x, fmax(least, row->time_ns.min),
                                     &row->time_ns.lo, &row->time_ns.hi);
    const double width = (row->time_ns.hi - row->time_ns.lo) / 2 / median;
    doubt(&p, o->units.units, apart, said->doubt, sizeof said->doubt);
    row->time_ns.mad = s.mad;
    row->time_ns.n = p.n;
    row->time_ns.touched = p.touched;
    row->time_ns.processes = p.processes;
    row->time_ns.passes = passes_of(&p);
    row->time_ns.units = o->units.units;
    row->time_ns.pooled = said->pooled = pooled(&x, prior);
    row->time_ns.stop =
        stop_of(m, isnan(width) ? INFINITY : width, c->settings.ci);
    row->time_ns.unreliable = p.all || apart > SPREAD_WIDEST;
    row->time_ns.reason = *said->doubt ? said->doubt : NULL;
    clean_free(&p);
}

/* The fraction of the roofline on an undisturbed core. */
static void undisturbed(struct row *row, const sweep_case *c,
                        const sweep_env *env, const spread_prior *prior)
{
    paired p;
    const bool known = paired_take(&row->time_ns.samples, prior, &p);
    const double least =
        known ? row->roofline.fraction * row->time_ns.median : NAN;
    row->paired.kind = p.kind;
    row->paired.speed = p.speed;
    if (known)
        row->paired.rate_per_s = roofline_probe(json_get(env->row, "roofline"),
                                                c->entry.level, c->threads,
                                                p.kind);
    row->paired.fraction = least / p.ns.median;
    row->paired.lo = least / p.ns.hi;
    row->paired.hi = least / p.ns.lo;
    row->paired.n = p.ns.n;
}

static double sum_up(double sum, double x)
{
    return isnan(x) ? sum : sum + x;
}

static void noise(struct row *row)
{
    const measurement *m = &row->time_ns.samples;
    double steal = 0, switches = 0, throttled = 0, waited = 0, clock = NAN;
    for (int p = 0; p < m->processes; p++) {
        const sample_process *one = &m->process[p];
        steal = sum_up(steal, one->steal_ticks);
        switches = sum_up(switches, one->involuntary_switches);
        throttled = sum_up(throttled, one->throttled_s);
        waited = sum_up(waited, one->waited_s);
        clock = fmin(clock, one->clock_ratio);
    }
    row->noise.steal_ticks = steal;
    row->noise.involuntary_switches = switches;
    row->noise.throttled_s = throttled;
    row->noise.waited_s = waited;
    row->noise.clock_ratio = clock;
    row->noise.load = machine_load();
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

/* Of what a call must do, that which this kernel does: where its executed() has
 * fewer of some operations, it found a way around the others. */
static att_cost read_cost(const struct row *row)
{
    att_cost cost = { .read = row->bytes.read, .write = row->bytes.written };
#define LEAST(op) cost.op = fmin(row->flop.op, row->executed.op);
    LEAST(mul_add) LEAST(add) LEAST(mul) LEAST(div) LEAST(exp)
#undef LEAST
    return cost;
}

/* At which level the products of a case run.  A BLAS that is not known is taken
 * for one that does all that this processor can. */
static enum att_level products_of(const sweep_case *c, const sweep_env *env)
{
    if (!c->entry.kernel->blas) return c->entry.level;
    const char *core = json_text(json_get(env->row, "blas_core"));
    const int level = machine_blas_level(core);
    return level < 0 ? att_level_cpu() : (enum att_level)level;
}

/* Where the case stands, and why where that cannot be: what is faster than the
 * machine was not done, or not counted rightly, or the machine is faster than it
 * was when it was measured.  The definition's data live where all of them fit:
 * q, k, v, o, parameters; in memory if they are cold. */
static void place(struct row *row, const sweep_case *c, const sweep_env *env,
                  double median, sweep_said *said)
{
    const json *roofline = json_get(env->row, "roofline");
    const double clean = json_number(json_get(roofline, "clean"), 1);
    const double parameters = row->bytes.parameters;
    roofline_point at;
    const roofline_case x = {
        .level = c->entry.level,
        .products = products_of(c, env),
        .threads = c->threads,
        .cost = read_cost(row),
        .working_set = c->cold ? INFINITY
                               : row->bytes.inputs +
                                     (isnan(parameters) ? 0 : parameters),
        .seconds = median * 1e-9,
    };
    const bool blas = x.products != x.level;
    if (!roofline_place(roofline, &x, &at)) {
        snprintf(said->place, sizeof said->place,
                 "the env row has no ceilings for %s %s and %d thread%s",
                 blas ? "the BLAS's level" : "level",
                 att_level_name(x.products), c->threads,
                 c->threads == 1 ? "" : "s");
        row->roofline.reason = said->place;
        return;
    }
    row->roofline.bound = at.bound;
    row->roofline.peak_gflops = at.peak * 1e-9;
    row->roofline.attainable_gflops = at.attainable * 1e-9;
    row->roofline.fraction = at.fraction;
    row->roofline.implausible = at.fraction > ROOFLINE_MOST;
    if (blas) row->roofline.products_level = att_level_name(x.products);
    if (row->roofline.implausible != ROW_YES) return;
    snprintf(said->place, sizeof said->place,
             "%.0f %% of the roofline (%s), more than this machine can do: "
             "%scost() of %s counts what is not computed, or executed() of "
             "%s does not tell what is left out, or the ceilings are too low "
             "(--ceilings fresh)", 100 * at.fraction, at.bound,
             clean < 0.9 ? "the ceilings were measured on a busy machine, or "
                         : "", c->entry.mechanism->name,
             c->entry.kernel->name);
    row->roofline.reason = said->place;
}

void sweep_row_head(struct row *row, sweep_said *said, const char *kind,
                    const sweep_case *c, const sweep_env *env)
{
    *row = row_unknown();
    sweep_env_code(&c->entry, said->code);
    sweep_time(said->when);
    said->problem = problem_of(c);
    said->settings = question_settings(c, env->row);
    said->pooled = NULL;
    row->kind = kind;
    row->case_ = c->name;
    row->env = env->id;
    row->code = said->code;
    row->when = said->when;
    row->mechanism = c->entry.mechanism->name;
    row->family = c->entry.mechanism->family;
    row->kernel = c->entry.kernel->name;
    row->plain = c->entry.kernel->plain;
    row->level = att_level_name(c->entry.level);
    row->threads = c->threads;
    row->pass = c->pass == ATT_FORWARD ? "forward" : "backward";
    row->problem = said->problem;
    row->settings = said->settings;
    if (c->inputs != INPUTS_NORMAL) row->inputs = inputs_family_name(c->inputs);
}

void sweep_said_free(sweep_said *said)
{
    json_free(said->problem);
    json_free(said->settings);
    json_free(said->pooled);
}

json *sweep_row(const sweep_case *c, const sweep_env *env,
                const sweep_outcome *o, const spread_prior *prior)
{
    const char *reason = *o->reason ? o->reason : NULL;
    sweep_said said;
    struct row row;
    sweep_row_head(&row, &said, "case", c, env);
    row_take(&row, o->first);
    row.status = o->status;
    if (!strcmp(o->status, "ok")) {
        const double median = exp(spread_centre(&o->units));
        measurement_read(o->samples, &row.time_ns.samples);
        place(&row, c, env, median, &said);
        const double fraction = row.roofline.fraction;
        times(&row, c, o, prior, fraction <= 1 ? median * fraction : 0, &said);
        undisturbed(&row, c, env, prior);
        if (!reason && row.roofline.implausible == ROW_YES)
            reason = row.roofline.reason;
        noise(&row);
    }
    row.reason = reason;
    json *j = row_write(&row);
    row_free(&row);
    sweep_said_free(&said);
    return j;
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
