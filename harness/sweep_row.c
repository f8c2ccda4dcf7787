/* sweep_row.c - processes -> one case row. */
#include "sweep_row.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"
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

/* ---- times --------------------------------------------------------------- */

typedef struct pooled {
    double *ns;   /* clean samples, process after process; all if too few   */
    int *count;   /* of each process                                        */
    int processes, n, touched;
    bool all;     /* touched ones had to be taken too                       */
} pooled;

static void pool(const json *samples, bool all, pooled *out)
{
    const int processes = json_size(samples);
    out->ns = sure(malloc(((size_t)processes * MEASURE_SAMPLES + 1) *
                          sizeof *out->ns));
    out->count = sure(calloc((size_t)processes + 1, sizeof *out->count));
    out->processes = processes;
    out->n = out->touched = 0;
    out->all = all;
    int p = 0;
    for (const json *s = json_first(samples); s; s = json_next(s), p++) {
        int index = 0;
        for (const json *x = json_first(json_get(s, "ns"));
             x && index < MEASURE_SAMPLES; x = json_next(x), index++) {
            const bool touched = json_holds(json_get(s, "touched"), index);
            out->touched += touched;
            if (touched && !all) continue;
            out->ns[out->n++] = json_number(x, NAN);
            out->count[p]++;
        }
    }
}

static void pool_free(pooled *p)
{
    free(p->ns);
    free(p->count);
}

/* Why the measurement as a whole ended: when each process was content but they
 * disagree, more samples would not have helped. */
static const char *stop_of(const json *samples, double width, double ci)
{
    const char *stop = "noise";
    if (width <= ci) return "ci";
    for (const json *s = json_first(samples); s; s = json_next(s)) {
        const char *one = json_text(json_get(s, "stop"));
        if (one && !strcmp(one, "time")) stop = "time";
    }
    return stop;
}

static const char *doubt(const pooled *p)
{
    if (p->all)
        return "unreliable: fewer than 3 samples were free of steal and "
               "involuntary switches, so all are used";
    if (p->n < STATS_LEAST)
        return "fewer than 6 samples: no 95 % interval of the median";
    return NULL;
}

/* Clean samples; all of them if fewer than 3 are. */
static void pool_best(const json *samples, pooled *out)
{
    enum { CLEAN = 3 };
    pool(samples, false, out);
    if (out->n >= CLEAN) return;
    pool_free(out);
    pool(samples, true, out);
}

void sweep_samples(const json *samples, ratio_samples *out)
{
    pooled p;
    int from = 0;
    pool_best(samples, &p);
    out->processes = out->count = 0;
    for (int k = 0; k < p.processes; from += p.count[k++]) {
        if (p.count[k] == 0 || out->count + p.count[k] > RATIO_SAMPLES)
            continue;
        memcpy(out->ns + out->count, p.ns + from,
               (size_t)p.count[k] * sizeof *p.ns);
        out->count += p.count[k];
        out->per_process[out->processes++] = p.count[k];
    }
    pool_free(&p);
}

static json *times(const sweep_case *c, const json *samples, double *median)
{
    pooled p;
    stats_summary s;
    json *j = json_object();

    pool_best(samples, &p);
    stats_processes(p.ns, p.count, p.processes, 1, &s);
    json_put_number(j, "median", *median = s.median);
    json_put_number(j, "lo", s.lo);
    json_put_number(j, "hi", s.hi);
    json_put_number(j, "min", s.min);
    json_put_number(j, "mad", s.mad);
    json_put_number(j, "n", p.n);
    json_put_number(j, "touched", p.touched);
    json_put_number(j, "processes", p.processes);
    json_put_text(j, "stop",
                  stop_of(samples, stats_half_width(&s), c->settings.ci));
    json_put_bool(j, "unreliable", p.all);
    json_put_text(j, "reason", doubt(&p));
    json_put(j, "samples", json_copy(samples));
    pool_free(&p);
    return j;
}

static json *noise(const json *samples)
{
    json *j = json_object();
    double steal = 0, switches = 0, clock = NAN;
    for (const json *s = json_first(samples); s; s = json_next(s)) {
        steal += json_number(json_get(s, "steal_ticks"), 0);
        switches += json_number(json_get(s, "involuntary_switches"), 0);
        clock = fmin(clock, json_number(json_get(s, "clock_ratio"), NAN));
    }
    json_put_number(j, "steal_ticks", steal);
    json_put_number(j, "involuntary_switches", switches);
    json_put_number(j, "clock_ratio", clock);
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
        return j;
    }
    json_put_null(j, "bound");
    json_put_null(j, "peak_gflops");
    json_put_null(j, "attainable_gflops");
    json_put_null(j, "fraction");
    json_put_text(j, "reason", "the env row has no ceilings for this level and "
                               "number of threads");
    return j;
}

void sweep_row_head(json *row, const char *kind, const sweep_case *c,
                    const sweep_env *env)
{
    char binary[SWEEP_ID], when[24];
    sweep_env_binary(env, &c->entry, binary);
    sweep_time(when);
    json_put_text(row, "kind", kind);
    json_put_number(row, "schema", JOURNAL_SCHEMA);
    json_put_text(row, "case", c->name);
    json_put_text(row, "env", env->id);
    json_put_text(row, "binary", binary);
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
                const sweep_outcome *o)
{
    const bool ok = !strcmp(o->status, "ok");
    json *row = json_object();
    double median;

    sweep_row_head(row, "case", c, env);
    json_put_text(row, "status", o->status);
    json_put_text(row, "reason", *o->reason ? o->reason : NULL);
    json_put(row, "time_ns", ok ? times(c, o->samples, &median) : NULL);
    copy_member(row, o->first, "flop");
    if (json_get(o->first, "executed")) copy_member(row, o->first, "executed");
    copy_member(row, o->first, "pairs");
    copy_member(row, o->first, "bytes");
    copy_member(row, o->first, "binding");
    copy_member(row, o->first, "counters");
    copy_member(row, o->first, "check");
    json_put(row, "roofline", ok ? place(c, env, o->first, median) : NULL);
    json_put(row, "noise", ok ? noise(o->samples) : NULL);
    return row;
}

/* ---- finding it again ---------------------------------------------------- */

static bool has_text(const json *row, const char *key, const char *text)
{
    const char *other = json_text(json_get(row, key));
    return other && !strcmp(other, text);
}

const json *sweep_row_find(const journal *j, const sweep_env *env,
                           const sweep_case *c)
{
    char binary[SWEEP_ID] = "";
    for (int i = j->count - 1; i >= 0; i--) {
        const json *row = j->rows[i];
        if (!has_text(row, "kind", "case") || !has_text(row, "case", c->name))
            continue;
        if (!*binary) sweep_env_binary(env, &c->entry, binary);
        const json *where = journal_env(j, row);
        if (has_text(row, "binary", binary) &&
            has_text(where, "machine_id", env->machine))
            return row;
    }
    return NULL;
}
