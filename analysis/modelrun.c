#include "modelrun.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/bind.h"
#include "../harness/clean.h"
#include "../harness/isolate.h"
#include "../harness/measure.h"
#include "blas.h"
#include "fold.h"
#include "zooweights.h"
#include "zoofiles.h"

enum { MOST_MODELS = 16, LEAST_TURNS = 7, MOST_TURNS = 400, GEMM = 1024 };

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- what to run
 * --------------------------------------------------------------- */

int model_spec_read(model_spec *s, const char *text, error *e)
{
    char copy[96];
    *s = (model_spec){0};
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
        return error_set(e, "'%s' is too long for a model's name", text);
    snprintf(s->text, sizeof s->text, "%s", text);
    char *norm = strchr(copy, ':'), *form = NULL;
    if (norm) *norm++ = 0;
    if (norm && (form = strchr(norm, ':'))) *form++ = 0;
    snprintf(s->name, sizeof s->name, "%s", copy);
    snprintf(s->norm, sizeof s->norm, "%s", norm ? norm : "");
    s->folded = form && !strcmp(form, "folded");
    if (form && !s->folded)
        return error_set(e, "'%s': after the norm comes 'folded', not '%s'",
                         text, form);
    s->path = zoo_path(s->name, e);
    return s->path ? 0 : -1;
}

void model_spec_free(model_spec *s)
{
    free(s->path);
    s->path = NULL;
}

/* ---- one model in the child
 * ------------------------------------------------------ */

typedef struct runner {
    zoo_model model;
    network folded;
    const network *n; /* the one that runs                                  */
    float *weights, *input;
    net_f32 *run;
    double *seconds; /* of each operation, over all passes                 */
    int passes;
} runner;

static void fill_input(const network *n, uint64_t seed, float *x)
{
    const size_t elements =
        (size_t)n->ops[0].tokens * (size_t)n->ops[0].channels;
    for (size_t i = 0; i < elements; i++) x[i] = (float)att_normal(&seed);
}

static int fold(runner *r, const model_spec *s, error *e)
{
    float *folded;
    const int norms =
        net_fold(&r->model.network, r->weights, &r->folded, &folded);
    free(r->weights);
    r->weights = folded;
    r->n = &r->folded;
    return norms > 0 ? 0
                     : error_set(e,
                                 "%s: none of its norms is an affine map in "
                                 "evaluation, so none can be folded; name "
                                 "such a norm, as in %s:repbn:folded",
                                 s->text, s->name);
}

static int open_runner(runner *r, const model_spec *s, const run_options *o,
                       error *e)
{
    *r = (runner){0};
    if (zoo_read(&r->model, s->path, o->image, *s->norm ? s->norm : NULL, e))
        return -1;
    r->n = &r->model.network;
    r->weights = sure(malloc(r->n->elements * sizeof *r->weights));
    net_init(r->n, o->seed, r->weights);
    if (o->weights && zoo_weights(&r->model, o->weights, r->weights, e))
        return -1;
    if (s->folded && fold(r, s, e)) return -1;
    r->seconds = sure(calloc((size_t)r->n->count, sizeof *r->seconds));
    r->input = sure(malloc((size_t)r->n->ops[0].tokens *
                           (size_t)r->n->ops[0].channels * sizeof *r->input));
    fill_input(r->n, o->seed, r->input);
    r->run = net_f32_new(r->n, r->weights, 1, o->threads, false, e);
    return r->run ? 0 : -1;
}

static void close_runner(runner *r)
{
    net_f32_free(r->run);
    zoo_free(&r->model);
    net_free(&r->folded);
    free(r->weights);
    free(r->input);
    free(r->seconds);
}

static void pass(void *arg)
{
    runner *r = arg;
    net_f32_forward(r->run, r->input, NULL);
    const double *seconds = net_f32_seconds(r->run);
    for (int i = 0; i < r->n->count; i++) r->seconds[i] += seconds[i];
    r->passes++;
}

/* ---- what the child sends back
 * ------------------------------------------------------ */

static json *numbers(const double *x, int n)
{
    json *j = json_array();
    for (int i = 0; i < n; i++) json_push_number(j, x[i]);
    return j;
}

/* Shares of the time by kind and level, the rate of the linear layers. */
static void put_shares(json *j, const runner *r)
{
    double share[NET_SHARES] = {0}, level[16] = {0}, all = 0, macs = 0;
    zoo_count count;
    for (int i = 0; i < r->n->count; i++) {
        const net_op *op = &r->n->ops[i];
        share[op->share] += r->seconds[i];
        level[op->level] += r->seconds[i];
        all += r->seconds[i];
        if (op->kind == NET_LINEAR) macs += net_macs(r->n, i);
    }
    json_put_number(j, "linear_flops",
                    2 * macs * r->passes / share[NET_SHARE_LINEAR]);
    for (int i = 0; i < NET_SHARES; i++) share[i] /= all;
    for (int i = 0; i < r->model.levels; i++) level[i] /= all;
    json_put(j, "share", numbers(share, NET_SHARES));
    json_put(j, "level", numbers(level, r->model.levels));
    json_put_number(j, "held", (double)net_f32_bytes(r->run));
    zoo_counts(r->n, &count);
    json_put_number(j, "parameters", count.parameters);
    json_put_number(j, "macs", count.macs);
    json_put(j, "macs_share", numbers(count.share, NET_SHARES));
    json_put_number(j, "norm_elements", count.norm_elements);
    json_put_number(j, "fvcore", count.fvcore);
    json_put_number(j, "activations", count.activations);
    json_put_text(j, "title", r->model.name);
    json_put_number(
        j, "top1",
        json_number(json_get(json_get(r->model.file, "published"), "top1"),
                    NAN));
}

/* The rate that sgemm reaches here on a product that suits it. */
static double sgemm_rate(int threads)
{
    const size_t n = GEMM;
    float *a = sure(calloc(3 * n * n, sizeof *a));
    double best = INFINITY;
    blas_threads(threads);
    for (size_t i = 0; i < 2 * n * n; i++) a[i] = 1.0f / (float)(i + 1);
    for (int t = 0; t < 5; t++) {
        const double start = measure_now();
        blas_gemm_f32(false, true, n, n, n, a, n, a + n * n, n, 0,
                      a + 2 * n * n, n);
        best = fmin(best, measure_now() - start);
    }
    free(a);
    return 2 * (double)n * (double)n * (double)n / best;
}

typedef struct order {
    const model_spec *specs;
    int count;
    const run_options *o;
} order;

static json *failure(const error *e)
{
    json *j = json_object();
    json_put_text(j, "error", e->text);
    return j;
}

/* Before anything else uses OpenMP; NULL if the threads run as asked. */
static json *threads_refused(const order *job)
{
    error e;
    isolate_stage("starting its threads");
    const char *why = bind_refusal(job->o->threads);
    if (!why) return NULL;
    error_set(&e, "%s", why);
    return failure(&e);
}

/* Layers are bound by the core.  No ceilings are at hand: the rate is that of the
 * moment before. */
static void put_probe(measure_job *m, int threads)
{
    m->probe = probe_make(PROBE_CORE, att_level_cpu(), threads);
    if (m->probe) m->probe_rate = probe_best(m->probe);
}

static json *alone(void *arg)
{
    const order *job = arg;
    runner r;
    error e;
    measure_memory memory;
    measure_job m = {
        .run = pass, .arg = &r, .ci = 0.01, .seconds = job->o->seconds};
    json *refused = threads_refused(job);
    if (refused) return refused;
    put_probe(&m, job->o->threads);
    measure_memory_begin(&memory);
    isolate_stage("building the model");
    if (open_runner(&r, job->specs, job->o, &e)) {
        close_runner(&r);
        return failure(&e);
    }
    isolate_stage("warming up and sampling");
    m.clock = measure_clock();
    json *one = json_object(), *all = json_array();
    json_put(one, "samples", measure_samples(&m));
    json_put_number(one, "peak_rss", measure_memory_peak(&memory));
    put_shares(one, &r);
    json_put_number(one, "sgemm_flops", sgemm_rate(job->o->threads));
    close_runner(&r);
    json_push(all, one);
    return all;
}

/* Passes in turn, the first model of a turn moving on, so that none always runs
 * after the same other one. */
static void turns(runner *r, const order *job, sample_process *out)
{
    measure_job m[MOST_MODELS] = {{.run = pass}};
    sampler_source source[MOST_MODELS];
    int turn = 0;
    put_probe(&m[0], job->o->threads);
    for (int i = 0; i < job->count; i++) { /* warm-up: twice */
        m[i] = m[0];
        m[i].arg = &r[i];
        source[i] = measure_source(&m[i]);
        pass(&r[i]);
        pass(&r[i]);
        memset(r[i].seconds, 0, (size_t)r[i].n->count * sizeof(double));
        r[i].passes = 0;
        out[i] = (sample_process){.calls = 1,
                                  .stop = "time",
                                  .kernel_s = NAN,
                                  .steal_ticks = NAN,
                                  .involuntary_switches = NAN,
                                  .throttled_s = NAN,
                                  .waited_s = NAN,
                                  .clock_ratio = NAN};
        out[i].of = sure(calloc(MOST_TURNS, sizeof *out[i].of));
        if (m[0].probe)
            snprintf(out[i].probe_kind, sizeof out[i].probe_kind, "%s",
                     probe_name(m[0].probe));
    }
    double speed = source[0].probe(source[0].arg);
    const double start = measure_now();
    while (turn < LEAST_TURNS ||
           (turn < MOST_TURNS &&
            measure_now() - start < job->o->seconds * job->count)) {
        for (int k = 0; k < job->count; k++) {
            const int i = (turn + k) % job->count;
            out[i].of[turn] = sampler_one(&source[i], 1, &speed);
            out[i].count = turn + 1;
        }
        turn++;
    }
    probe_free(m[0].probe);
}

static json *in_turn(void *arg)
{
    const order *job = arg;
    runner *r = sure(calloc((size_t)job->count, sizeof *r));
    sample_process samples[MOST_MODELS] = {0};
    json *all = threads_refused(job);
    error e;

    isolate_stage("building the models");
    for (int i = 0; i < job->count && !all; i++)
        if (open_runner(&r[i], &job->specs[i], job->o, &e)) all = failure(&e);
    if (!all) {
        isolate_stage("sampling in turn");
        all = json_array();
        turns(r, job, samples);
        const double gemm = sgemm_rate(job->o->threads);
        for (int i = 0; i < job->count; i++) {
            json *one = json_object();
            json_put(one, "samples", sample_process_write(&samples[i]));
            json_put_null(one, "peak_rss");
            put_shares(one, &r[i]);
            json_put_number(one, "sgemm_flops", gemm);
            json_push(all, one);
            free(samples[i].of);
        }
    }
    for (int i = 0; i < job->count; i++) close_runner(&r[i]);
    free(r);
    return all;
}

/* ---- in the parent
 * ------------------------------------------------------------------- */

static measurement measured(const json *samples)
{
    measurement m;
    json *processes = json_array();
    json_push(processes, json_copy(samples));
    measurement_read(processes, &m);
    json_free(processes);
    return m;
}

/* Median of the samples that count, of one process. */
static void summarise(const json *samples, stats_summary *out)
{
    clean_samples c;
    measurement m = measured(samples);
    clean_take(&m, &c);
    stats_summarise(c.ns, c.n, out);
    clean_free(&c);
    measurement_free(&m);
}

static double real(const json *one, const char *key)
{
    return json_number(json_get(one, key), NAN);
}

static void take(const json *one, const model_spec *s, model_result *out)
{
    const char *title = json_text(json_get(one, "title"));
    *out = (model_result){
        /* published for the norm of the paper, not for another */
        .top1 = *s->norm ? NAN : real(one, "top1"),
        .linear_flops = real(one, "linear_flops"),
        .sgemm_flops = real(one, "sgemm_flops"),
        .peak_rss = real(one, "peak_rss"),
        .held = real(one, "held"),
        .count = {.parameters = real(one, "parameters"),
                  .macs = real(one, "macs"),
                  .norm_elements = real(one, "norm_elements"),
                  .fvcore = real(one, "fvcore"),
                  .activations = real(one, "activations")},
        .levels = json_size(json_get(one, "level")),
        .samples = json_copy(json_get(one, "samples")),
    };
    snprintf(out->name, sizeof out->name, "%s", s->text);
    snprintf(out->title, sizeof out->title, "%s", title ? title : s->name);
    for (int i = 0; i < NET_SHARES; i++) {
        out->share[i] = json_number(json_at(json_get(one, "share"), i), NAN);
        out->count.share[i] =
            json_number(json_at(json_get(one, "macs_share"), i), NAN);
    }
    for (int i = 0; i < out->levels; i++)
        out->level[i] = json_number(json_at(json_get(one, "level"), i), NAN);
    summarise(out->samples, &out->ns);
}

/* Runs `job` in a child; results of its models go to out. */
static int ask(json *(*function)(void *), const order *job, model_result *out,
               error *e)
{
    const isolate_limits limits = {.seconds =
                                       120 + 30 * job->o->seconds * job->count};
    isolate_result r;
    if (isolate_run(function, (void *)job, &limits, &r, e) < 0) return -1;
    const char *said = json_text(json_get(r.value, "error"));
    int rc = 0;
    if (said)
        rc = error_set(e, "%s", said);
    else if (!r.value || json_size(r.value) != job->count)
        rc = error_set(e, "%s: %s: %s", job->specs[0].text, r.status, r.reason);
    for (int i = 0; rc == 0 && i < job->count; i++)
        take(json_at(r.value, i), &job->specs[i], &out[i]);
    json_free(r.value);
    return rc;
}

/* Of one turn, on an undisturbed core where that is known of both. */
static double turn_ratio(const timed_sample *a, const timed_sample *b)
{
    const double speeds = a->probe / b->probe;
    return a->ns / b->ns * (speeds > 0 && isfinite(speeds) ? speeds : 1);
}

/* Over the turns in which neither lost time; over all if they are too few. */
static void ratio_of(const sample_process *a, const sample_process *b,
                     stats_summary *out)
{
    double x[MOST_TURNS];
    int n = 0;
    for (int all = 0; all < 2 && n < CLEAN_LEAST; all++) {
        n = 0;
        for (int k = 0; k < a->count && k < MOST_TURNS; k++)
            if (all || (!a->of[k].touched && !b->of[k].touched))
                x[n++] = turn_ratio(&a->of[k], &b->of[k]);
    }
    stats_summarise(x, n, out);
}

static void ratios(const model_result *list, int count, stats_summary *out)
{
    measurement first = measured(list[0].samples);
    for (int i = 0; i < count; i++) {
        measurement m = measured(list[i].samples);
        ratio_of(m.process, first.process, &out[i]);
        measurement_free(&m);
    }
    measurement_free(&first);
}

int model_run(const model_spec *specs, int count, const run_options *o,
              bool interleave, model_result *out, stats_summary *ratio,
              error *e)
{
    if (count > MOST_MODELS && interleave)
        return error_set(e, "--interleave: %d models are more than %d", count,
                         MOST_MODELS);
    memset(out, 0, (size_t)count * sizeof *out);
    if (interleave) {
        const order job = {specs, count, o};
        if (ask(in_turn, &job, out, e)) return -1;
        if (ratio) ratios(out, count, ratio);
        return 0;
    }
    for (int i = 0; i < count; i++) {
        const order job = {&specs[i], 1, o};
        if (ask(alone, &job, &out[i], e)) return -1;
    }
    return 0;
}

void model_results_free(model_result *list, int count)
{
    for (int i = 0; i < count; i++) json_free(list[i].samples);
}
