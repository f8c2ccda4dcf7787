/* sweep_case.c - what the child process of one case does: plan, check, warm up,
 * sample, count. */
#include "sweep_case.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "check.h"
#include "cold.h"
#include "counters.h"
#include "energy.h"
#include "isolate.h"
#include "measure.h"
#include "roofline.h"

/* ---- what is known before it runs ---------------------------------------- */

void sweep_case_name(const sweep_case *c, const att_problem *p, char *out)
{
    const bool other = c->inputs != INPUTS_NORMAL;
    char rest[ATT_NAME];
    att_case_name(&c->entry, p, c->threads, c->pass, out);
    char *threads = strstr(out, ",t=");
    snprintf(rest, sizeof rest, "%s", threads);
    snprintf(threads, (size_t)(out + ATT_NAME - threads), "%s%s%s%s",
             other ? ",in=" : "", other ? inputs_family_name(c->inputs) : "",
             c->cold ? ",cache=cold" : "", rest);
}

json *sweep_case_flop(const att_cost *c)
{
    json *j = json_object();
    json_put_number(j, "mul_add", c->mul_add);
    json_put_number(j, "add", c->add);
    json_put_number(j, "mul", c->mul);
    json_put_number(j, "div", c->div);
    json_put_number(j, "exp", c->exp);
    json_put_number(j, "total", att_flops(c));
    return j;
}

static bool same_operations(const att_cost *a, const att_cost *b)
{
    return a->mul_add == b->mul_add && a->add == b->add && a->mul == b->mul &&
           a->div == b->div && a->exp == b->exp;
}

/* Gradients of learned parameters, where backward() is to write them. */
static size_t gradient_bytes(const att_plan *plan)
{
    size_t n = 0;
    for (int i = 0; i < plan->parameters; i++)
        if (!plan->parameter[i].fixed)
            n += att_elements(&plan->parameter[i]) * sizeof(float) + ATT_ALIGN;
    return n;
}

static void describe(json *out, const att_plan *plan, enum att_pass pass,
                     size_t given, size_t memory)
{
    const att_cost *cost = &plan->cost[pass], *done = &plan->executed[pass];
    json *bytes = json_object();
    json_put(out, "flop", sweep_case_flop(cost));
    if (!same_operations(cost, done))
        json_put(out, "executed", sweep_case_flop(done));
    json_put_number(out, "pairs", cost->pairs);
    json_put_number(bytes, "compulsory", cost->read + cost->write);
    json_put_number(bytes, "read", cost->read);
    json_put_number(bytes, "written", cost->write);
    json_put_number(bytes, "workspace",
                    (double)(pass == ATT_FORWARD ? plan->sizes.work
                                                 : plan->sizes.work_backward));
    json_put_number(bytes, "state", (double)plan->sizes.state);
    json_put_number(bytes, "saved", (double)plan->sizes.save);
    json_put_number(bytes, "parameters", (double)plan->parameter_bytes);
    json_put_number(bytes, "inputs", (double)given);
    json_put_number(bytes, "predicted", (double)memory);
    json_put_null(bytes, "peak_rss");
    json_put_null(bytes, "baseline_rss");
    json_put(out, "bytes", bytes);
}

static json *verdict(json *out, const char *status, const char *reason)
{
    json_put_text(out, "status", status);
    json_put_text(out, "reason", reason);
    return out;
}

/* ---- check --------------------------------------------------------------- */

/* Whether the reference takes at most `most` operations.  Some references are
 * quadratic where the definition is linear. */
static bool affordable(const att_entry *e, const att_problem *p,
                       enum att_pass pass, double most)
{
    att_plan plan;
    const double width = (double)p->head_dim + (double)att_value_dim(p);
    if (att_plan_create(&plan, e, p, 1, pass == ATT_BACKWARD, true))
        return false;
    double ops = att_flops(&plan.cost[ATT_FORWARD]);
    if (pass == ATT_BACKWARD) ops += att_flops(&plan.cost[ATT_BACKWARD]);
    return ops <= most && (double)att_tokens(p) * (double)att_keys(p) * width *
                                  p->heads * p->batch <= 8 * most;
}

/* Halves the longest grid axis; false when nothing is left to halve. */
static bool halve(att_problem *p)
{
    int longest = 0;
    for (int a = 1; a < p->grid.n; a++)
        if (p->grid.v[a] > p->grid.v[longest]) longest = a;
    if (p->grid.v[longest] == 1) return false;
    p->grid.v[longest] /= 2;
    p->tokens_k = p->tokens_k / 2;
    return true;
}

/* The problem itself, or the largest smaller one that can be checked. */
static bool find_checkable(const sweep_case *c, att_problem *p)
{
    *p = c->problem;
    if (affordable(&c->entry, p, c->pass, c->settings.check)) return true;
    p->batch = 1;
    do {
        if (affordable(&c->entry, p, c->pass, c->settings.check)) return true;
    } while (halve(p));
    return false;
}

static json *no_check(const char *reason)
{
    json *j = json_object();
    json_put_null(j, "nmse");
    json_put_null(j, "max_abs");
    json_put_text(j, "against", NULL);
    json_put_text(j, "reason", reason);
    return j;
}

static json *check_of(const sweep_case *c, const att_problem *p, bool reduced,
                      const char *name)
{
    check_result r;
    error e;
    char against[ATT_NAME + 32];
    json *j = json_object();
    isolate_stage("checking it against the reference");
    const int rc = check_kernel(&c->entry, p, c->threads, c->pass,
                                (uint64_t)p->seed, c->inputs, &r, &e);
    if (rc) {
        json_free(j);
        j = no_check(e.text);
        if (rc > 0) json_put_bool(j, "pass", false);
        return j;
    }
    snprintf(against, sizeof against, "reference%s%s",
             reduced ? ", on " : "", reduced ? strchr(name, '/') + 1 : "");
    json_put_number(j, "nmse", r.nmse);
    json_put_number(j, "max_abs", r.max_abs);
    if (!isfinite(r.max_abs))
        json_put_text(j, "reason", "infinite or NaN, unlike the reference");
    json_put_text(j, "tensor", r.worst);
    json_put_number(j, "tolerance", check_tolerance(p, c->pass));
    json_put_bool(j, "pass", r.pass);
    json_put_text(j, "against", against);
    return j;
}

static void say_wrong(const json *check, char *out, size_t size)
{
    const char *tensor = json_text(json_get(check, "tensor"));
    const char *against = json_text(json_get(check, "against"));
    const double off = json_number(json_get(check, "max_abs"), INFINITY);
    if (isfinite(off))
        snprintf(out, size, "%s is off by %.3g, tolerance %.3g, against the "
                            "%.90s", tensor, off,
                 json_number(json_get(check, "tolerance"), 0), against);
    else
        snprintf(out, size, "%s is infinite or NaN, against the %.90s", tensor,
                 against);
}

/* False if the results are wrong; the verdict is then in out. */
static bool check(const sweep_job *job, json *out)
{
    const sweep_case *c = job->what;
    char name[ATT_NAME], why[160];
    att_problem p;
    json *j;

    if (c->settings.check <= 0) j = no_check("switched off (--check 0)");
    else if (!find_checkable(c, &p))
        j = no_check("no form of this problem is small enough (--check)");
    else {
        const bool reduced = memcmp(&p, &c->problem, sizeof p) != 0;
        sweep_case warm = *c; /* results are the same whatever is cached */
        warm.cold = false;
        sweep_case_name(&warm, &p, name);
        const json *known = json_get(job->checks, name);
        j = known ? json_copy(known) : check_of(c, &p, reduced, name);
        json_put_text(out, "checked", name);
    }
    json_put(out, "check", j);
    const bool pass = json_true(json_get(j, "pass"));
    if (pass || !json_get(j, "pass")) return true;
    if (json_is_null(json_get(j, "nmse")))
        snprintf(why, sizeof why, "%s", json_text(json_get(j, "reason")));
    else say_wrong(j, why, sizeof why);
    verdict(out, "wrong", why);
    return false;
}

/* ---- measurement --------------------------------------------------------- */

void sweep_call_forward(void *call)
{
    att_plan_forward(&((sweep_call *)call)->plan);
}

void sweep_call_backward(void *call)
{
    sweep_call *r = call;
    att_plan_backward(&r->plan, &r->grad);
}

static void put_bytes(json *out, const char *key, double value)
{
    json *bytes = (json *)json_get(out, "bytes");
    if (value > 0) json_put_number(bytes, key, value);
}

/* A call, and then nothing useful for a part of the time that it took, by the
 * clock.  Waiting for less than WAIT cannot be timed: what is owed is paid when it
 * is more. */
typedef struct slowed {
    void (*run)(void *arg);
    void *arg;
    double part, owed;
} slowed;

static void slowed_call(void *arg)
{
    const double WAIT = 1e-6;
    slowed *s = arg;
    const double start = measure_now();
    s->run(s->arg);
    const double end = measure_now();
    s->owed += s->part * (end - start);
    if (s->owed < WAIT) return;
    double now = end;
    while (now - end < s->owed) now = measure_now();
    s->owed -= now - end;
}

/* Where backward() shall write the gradients. */
static bool attach_gradients(sweep_call *r)
{
    const size_t bytes = gradient_bytes(&r->plan);
    r->grad = (att_grad){ r->in.dout, r->in.grad[0], r->in.grad[1],
                          r->in.grad[2], { NULL } };
    if (bytes == 0) return true;
    r->gradients =
        aligned_alloc(ATT_ALIGN, (bytes / ATT_ALIGN + 1) * ATT_ALIGN);
    char *at = (char *)r->gradients;
    for (int i = 0; at && i < r->plan.parameters; i++) {
        const size_t n = att_elements(&r->plan.parameter[i]) * sizeof(float);
        if (n == 0 || r->plan.parameter[i].fixed) continue;
        r->grad.dparam[i] = (float *)at;
        at += (n + ATT_ALIGN - 1) / ATT_ALIGN * ATT_ALIGN;
    }
    return r->gradients != NULL;
}

const char *sweep_call_make(sweep_call *r, const sweep_case *c)
{
    const bool grad = c->pass == ATT_BACKWARD;
    error e;
    isolate_stage("preparing the kernel and its inputs");
    const char *why = att_plan_create(&r->plan, &c->entry, &c->problem,
                                      c->threads, grad, false);
    if (why) return why;
    if (inputs_make(&r->in, c->entry.mechanism, &c->problem,
                    (uint64_t)c->problem.seed, c->inputs, grad, &e) < 0)
        return "out of memory";
    inputs_attach(&r->in, &r->plan);
    if (grad && !attach_gradients(r)) return "out of memory";
    return NULL;
}

void sweep_call_arrays(const sweep_call *r, cold *c)
{
    const size_t value = att_dtype_bytes(r->plan.problem.dtype);
    cold_add(c, r->plan.block, r->plan.block_bytes);
    for (enum att_slot s = ATT_Q; s <= ATT_O; s++) {
        const size_t n = r->in.elements[s];
        cold_add(c, r->in.value[s], n * value);
        if (s != ATT_O) cold_add(c, r->in.grad[s], n * sizeof(float));
        else cold_add(c, r->in.dout, n * sizeof(float));
    }
    cold_add(c, r->gradients, r->gradients ? gradient_bytes(&r->plan) : 0);
}

static void evict(void *c)
{
    cold_evict(c);
}

/* flushed: what is to be cold, or NULL. */
static json *count_events(sweep_call *r, const sweep_job *sweep,
                          void (*run)(void *), cold *flushed)
{
    const sweep_case *c = sweep->what;
    const att_sizes *sizes = &r->plan.sizes;
    const counters_job counting = {
        .run = run,
        .arg = r,
        .before = flushed ? evict : NULL,
        .before_arg = flushed,
        .threads = c->threads,
        .cost = &r->plan.cost[c->pass],
        .workspace = c->pass == ATT_FORWARD ? sizes->work
                                            : sizes->work_backward,
        .multiplex = c->settings.multiplex && !flushed,
    };
    isolate_stage("counting events");
    return counters_measure(&counting);
}

/* Makes calls of r cold from here on; false if they are too short to be timed
 * one by one: reason. */
static bool make_cold(const sweep_call *r, const measure_job *job, cold *c,
                      char *reason, size_t size)
{
    double least = INFINITY;
    sweep_call_arrays(r, c);
    for (int i = 0; i < 3; i++) least = fmin(least, job->call(c));
    if (least >= COLD_LEAST) return true;
    snprintf(reason, size, "a cold call of %.2g us is too short to be timed by "
             "itself: at least %g us (--cache warm, or a larger problem)",
             1e6 * least, 1e6 * COLD_LEAST);
    return false;
}

/* What bounds the case tells which loop sees the same neighbours.  Its data are
 * no part of the case's memory. */
static void put_probe(const sweep_job *job, const json *bytes,
                      const att_cost *cost, measure_job *timing)
{
    const sweep_case *c = job->what;
    const roofline_case limits = {
        .level = c->entry.level,
        .products = c->entry.level,
        .threads = c->threads,
        .cost = *cost,
        .working_set = c->cold ? INFINITY
                               : json_number(json_get(bytes, "inputs"), 0) +
                                     json_number(json_get(bytes, "parameters"), 0),
        .seconds = 1,
    };
    roofline_point at;
    timing->pass = job->round;
    if (!roofline_place(job->roofline, &limits, &at)) return;
    timing->probe = probe_make(probe_for(at.bound), c->entry.level, c->threads);
    if (timing->probe)
        timing->probe_rate = roofline_probe(job->roofline, c->entry.level,
                                            c->threads,
                                            probe_name(timing->probe));
}

static json *measure(const sweep_job *job, const att_cost *cost, json *out)
{
    const sweep_case *c = job->what;
    sweep_call r = { 0 };
    measure_memory memory;
    void (*run)(void *) = c->pass == ATT_FORWARD ? sweep_call_forward
                                                 : sweep_call_backward;
    cold flushed = { .run = run, .arg = &r, .threads = c->threads };
    char reason[160];
    measure_job timing = {
        .run = run,
        .arg = c->cold ? (void *)&flushed : &r,
        .call = c->cold ? cold_call : NULL,
        .ci = c->settings.ci,
        .seconds = c->settings.seconds,
        .clock = job->clock,
    };
    put_probe(job, json_get(out, "bytes"), cost, &timing);
    if (c->cold) cold_begin(&flushed); /* its memory is the harness's */
    measure_memory_begin(&memory);
    put_bytes(out, "baseline_rss", memory.resident);
    const char *why = sweep_call_make(&r, c);
    if (why) return verdict(out, "oom", why);

    slowed slow = { run, &r, job->inject, 0 };
    if (job->inject > 0 && c->cold) {
        flushed.run = slowed_call;
        flushed.arg = &slow;
    } else if (job->inject > 0) {
        timing.run = slowed_call;
        timing.arg = &slow;
    }
    isolate_stage("warming up and sampling");
    if (c->pass == ATT_BACKWARD) sweep_call_forward(&r); /* fills `save` */
    if (c->threads > 1) run(&r); /* a BLAS makes its threads */
    json *binding = bind_team(c->settings.bind, c->threads);
    if (c->cold && !make_cold(&r, &timing, &flushed, reason, sizeof reason))
        return verdict(out, "unsupported", reason);
    json_put(out, "samples", measure_samples(&timing));
    const bool held = bind_verify(binding, c->threads);
    json_put(out, "binding", binding);
    if (!held)
        return verdict(out, "threads", "a thread was not on its processor when "
                                       "its last sample was taken");
    put_bytes(out, "peak_rss", measure_memory_peak(&memory));
    if (job->first)
        json_put(out, "counters",
                 count_events(&r, job, run, c->cold ? &flushed : NULL));
    if (job->first) isolate_stage("reading meters of energy");
    if (job->first)
        json_put(out, "energy",
                 c->cold ? energy_none("the flush between cold calls would be "
                                       "counted") : energy_measure(run, &r));
    return verdict(out, "ok", bind_has_room(c->threads)
                                  ? NULL
                                  : "more threads than processors");
    /* nothing freed: the process ends here */
}

/* ---- all of it ----------------------------------------------------------- */

json *sweep_case_run(void *arg)
{
    const sweep_job *job = arg;
    const sweep_case *c = job->what;
    const bool grad = c->pass == ATT_BACKWARD;
    json *out = json_object();
    att_plan plan;
    char why[160];

    omp_set_dynamic(0);
    omp_set_num_threads(c->threads);
    isolate_stage("planning");
    const char *refused = att_plan_create(&plan, &c->entry, &c->problem,
                                          c->threads, grad, true);
    if (!refused && c->cold) refused = cold_refusal();
    if (refused) return verdict(out, "unsupported", refused);

    const size_t given = inputs_bytes(c->entry.mechanism, &c->problem, grad);
    const size_t memory = plan.block_bytes + given +
                          (grad ? gradient_bytes(&plan) : 0);
    describe(out, &plan, c->pass, given, memory);
    if (memory > job->max_memory) {
        snprintf(why, sizeof why,
                 "needs %zu MiB, the limit is %zu MiB (--max-memory)",
                 memory >> 20, job->max_memory >> 20);
        return verdict(out, "memory", why);
    }
    if (job->describe_only) return verdict(out, "ok", NULL);
    if (c->settings.bind != SWEEP_FREE && !bind_has_room(c->threads))
        return verdict(out, "threads",
                       "more threads than processors (--bind none lets them "
                       "share)");
    isolate_stage("starting its threads");
    refused = bind_refusal(c->threads);
    if (refused) return verdict(out, "threads", refused);
    if (job->first && !check(job, out)) return out;
    return measure(job, &plan.cost[c->pass], out);
}
