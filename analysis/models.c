/* models.c - attnbench models: the papers' whole architectures. */
#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/clean.h"
#include "../harness/commands.h"
#include "../harness/file.h"
#include "../harness/journal.h"
#include "../harness/machine.h"
#include "../harness/spelling.h"
#include "../harness/sweep_env.h"
#include "../harness/text.h"
#include "modelcount.h"
#include "modelrun.h"
#include "zoofiles.h"

enum { MOST = 128 };

typedef struct request {
    const char *action;
    const char *names[MOST];
    int count;
    enum count_format format;
    run_options run;
    bool interleave;
    unsigned given; /* options, by their keys                               */
    const char *out;
} request;

static int complain(const char *command, const error *e, int code)
{
    fprintf(stderr, "%s: %s\n", command, e->text);
    return code;
}

/* ---- list and count
 * -------------------------------------------------------------- */

/* Names asked for, or all; *all is what to give back. */
static int names_of(const request *r, char ***all, error *e)
{
    if (!r->count) return zoo_names(all, e);
    *all = NULL;
    return r->count;
}

static int read_model(zoo_model *m, const char *name, error *e)
{
    char *path = zoo_path(name, e);
    const int rc = path ? zoo_read(m, path, 0, NULL, e) : -1;
    free(path);
    return rc;
}

static void list_line(const char *name, const zoo_model *m)
{
    const json *published = json_get(m->file, "published");
    const char *parameters = json_text(json_get(published, "parameters"));
    const char *flops = json_text(json_get(published, "flops"));
    const double top1 = json_number(json_get(published, "top1"), NAN);
    printf("%-18s %-34s %9s %8s", name, m->name, parameters ? parameters : "",
           flops ? flops : "");
    if (isnan(top1))
        printf("\n");
    else
        printf("  %.1f\n", top1);
}

static int list(const request *r, error *e)
{
    char **all;
    const int n = names_of(r, &all, e);
    int rc = n < 0 ? -1 : 0;
    for (int i = 0; rc == 0 && i < n; i++) {
        zoo_model m;
        const char *name = all ? all[i] : r->names[i];
        rc = read_model(&m, name, e);
        if (rc == 0 && i == 0)
            printf("%s%-18s %-34s %9s %8s  top-1%s\n",
                   text_on(stdout, TEXT_BOLD), "name", "model", "printed",
                   "FLOPs", text_off(stdout, TEXT_BOLD));
        if (rc == 0) list_line(name, &m);
        if (rc == 0) zoo_free(&m);
    }
    if (all && n >= 0) zoo_names_free(all, n);
    return rc ? EXIT_USAGE : EXIT_OK;
}

static int count_models(const request *r, error *e)
{
    char **all;
    const int n = names_of(r, &all, e);
    if (n < 0) return EXIT_USAGE;
    model_count *rows = calloc((size_t)n + 1, sizeof *rows);
    int code = EXIT_OK;
    if (!rows) abort();
    for (int i = 0; i < n && code != EXIT_USAGE; i++) {
        zoo_model m;
        if (read_model(&m, all ? all[i] : r->names[i], e))
            code = EXIT_USAGE;
        else {
            model_count_make(&m, &rows[i]);
            zoo_free(&m);
        }
        if (rows[i].wrong) code = code ? code : EXIT_GATE;
    }
    if (code != EXIT_USAGE) model_count_print(stdout, rows, n, r->format);
    if (code == EXIT_GATE)
        error_set(e, "an integer that a model's file expects is not met");
    if (all) zoo_names_free(all, n);
    free(rows);
    return code;
}

/* ---- run
 * ---------------------------------------------------------------------------
 */

static const char *const share_names[NET_SHARES] = {
    "conv", "linear", "attention", "norm", "other"};

/* "[1.000 2.000]", or why there is no interval. */
static const char *interval_text(const stats_summary *s, double scale, char *out,
                                 size_t size)
{
    if (isnan(s->lo))
        snprintf(out, size, "(none of %d passes)", s->n);
    else
        snprintf(out, size, "[%9.3f %9.3f]", s->lo * scale, s->hi * scale);
    return out;
}

/* Told once where a model has none. */
static const char no_interval[] =
    "an interval of the median needs 6 passes: more --seconds";

static void print_rate(double flops, double sgemm)
{
    if (isfinite(flops))
        printf("  %8.1f (%.0f %%) ", flops * 1e-9, 100 * flops / sgemm);
    else printf("  %8s %7s ", "-", "");
}

static void print_results(const model_result *list, int n,
                          const stats_summary *ratio)
{
    printf("%-30s %10s %21s %8s %8s", "model", "ms", "95 % interval", "img/s",
           "peak RSS");
    for (int i = 0; i < NET_SHARES; i++) printf(" %9s", share_names[i]);
    printf("  linear GFLOP/s (of sgemm)  time by level\n");
    for (int k = 0; k < n; k++) {
        const model_result *m = &list[k];
        char interval[48];
        printf("%-30s %10.3f %21s %8.2f %8s", m->name, m->ns.median * 1e-6,
               interval_text(&m->ns, 1e-6, interval, sizeof interval),
               1e9 / m->ns.median,
               isnan(m->peak_rss) ? "-" : text_bytes(m->peak_rss));
        for (int i = 0; i < NET_SHARES; i++)
            printf(" %8.1f%%", 100 * m->share[i]);
        print_rate(m->linear_flops, m->sgemm_flops);
        for (int i = 0; i < m->levels; i++)
            printf(" %4.1f%%", 100 * m->level[i]);
        printf("\n");
    }
    for (int k = 1; ratio && k < n; k++) {
        char interval[48];
        printf("time of %s / %s, pass by pass: %.3f %s\n", list[k].name,
               list[0].name, ratio[k].median,
               interval_text(&ratio[k], 1, interval, sizeof interval));
    }
    bool few = false;
    for (int k = 0; k < n; k++) few |= isnan(list[k].ns.lo);
    if (few) printf("%s\n", no_interval);
}

static void put_times(struct row *row, const model_result *m)
{
    const measurement *samples = &row->time_ns.samples;
    clean_samples c;
    clean_take(samples, &c);
    row->time_ns.median = m->ns.median;
    row->time_ns.lo = m->ns.lo;
    row->time_ns.hi = m->ns.hi;
    row->time_ns.min = m->ns.min;
    row->time_ns.mad = m->ns.mad;
    row->time_ns.n = m->ns.n;
    row->time_ns.touched = c.touched;
    row->time_ns.unreliable = c.all;
    row->time_ns.processes = 1;
    row->time_ns.stop = *samples->process->stop ? samples->process->stop : "time";
    clean_free(&c);
}

static void put_model(struct row *row, const model_result *m)
{
    json *share = json_object(), *level = json_array();
    for (int i = 0; i < NET_SHARES; i++)
        json_put_number(share, share_names[i], m->share[i]);
    for (int i = 0; i < m->levels; i++) json_push_number(level, m->level[i]);
    row->model.title = m->title;
    row->model.top1 = m->top1;
    row->model.parameters = m->count.parameters;
    row->model.macs = m->count.macs;
    row->model.time_share = share;
    row->model.level_share = level;
    row->model.linear_flop_per_s = m->linear_flops;
    row->model.sgemm_flop_per_s = m->sgemm_flops;
}

static json *row_of(const request *r, const sweep_env *env,
                    const model_result *m)
{
    char name[192], when[24];
    struct row row = row_unknown();
    json *problem = json_object(), *processes = json_array();
    json_put_number(problem, "batch", 1);
    json_push(processes, json_copy(m->samples));
    measurement_read(processes, &row.time_ns.samples);
    json_free(processes);
    sweep_time(when);
    row.level = att_level_name(att_level_best());
    snprintf(name, sizeof name, "%s/b=1,t=%d,%s,forward", m->name,
             r->run.threads, row.level);
    row.kind = "case";
    row.case_ = name;
    row.env = env->id;
    row.when = when;
    row.mechanism = m->title;
    row.family = "model";
    row.kernel = m->name;
    row.plain = ROW_NO;
    row.threads = r->run.threads;
    row.pass = "forward";
    row.problem = problem;
    row.status = "ok";
    row.reason = isnan(m->ns.lo) ? no_interval : NULL;
    put_times(&row, m);
    row.flop.mul_add = m->count.macs;
    row.flop.total = 2 * m->count.macs;
    row.bytes.workspace = m->held;
    row.bytes.parameters = 4 * m->count.parameters;
    row.bytes.peak_rss = m->peak_rss;
    put_model(&row, m);
    json *j = row_write(&row);
    json_free(problem);
    json_free((json *)row.model.time_share);
    json_free((json *)row.model.level_share);
    row_free(&row);
    return j;
}

/* Adds the rows, after the env row of this machine and program. */
static int write_rows(const request *r, const model_result *list, error *e)
{
    journal j;
    journal_writer w;
    sweep_env env;
    if (journal_open(&w, r->out, &j, e)) return -1;
    int rc = sweep_env_identify(&env, NULL, e);
    if (rc == 0)
        rc = sweep_env_complete(&env, &j, &r->run.threads, 1, 3, NULL, NULL, e);
    if (rc == 0) rc = journal_append(&w, env.row, e);
    for (int i = 0; rc == 0 && i < r->count; i++) {
        json *row = row_of(r, &env, &list[i]);
        rc = journal_append(&w, row, e);
        json_free(row);
    }
    sweep_env_free(&env);
    journal_free(&j);
    journal_close(&w);
    return rc;
}

/* Whether rows can be added there. */
static int check_journal(const char *dir, error *e)
{
    journal_writer w;
    if (journal_open(&w, dir, NULL, e) < 0) return -1;
    journal_close(&w);
    return 0;
}

static int run_models(const request *r, error *e)
{
    model_spec specs[MOST] = {0};
    model_result *results = calloc((size_t)r->count + 1, sizeof *results);
    stats_summary *ratio = calloc((size_t)r->count + 1, sizeof *ratio);
    int code = EXIT_OK;
    if (!results || !ratio) abort();
    if (!r->count) {
        error_set(e, "run what? as in: attnbench models run nat_tiny swin_t "
                     "--interleave");
        code = EXIT_USAGE;
    }
    for (int i = 0; i < r->count && code == EXIT_OK; i++)
        if (model_spec_read(&specs[i], r->names[i], e)) code = EXIT_USAGE;
    /* not after minutes of measuring */
    if (code == EXIT_OK && r->out && check_journal(r->out, e)) code = EXIT_MISSING;
    const bool together = r->interleave && r->count > 1;
    if (code == EXIT_OK) {
        json *warnings = machine_warnings();
        machine_tell(warnings);
        json_free(warnings);
    }
    if (code == EXIT_OK &&
        model_run(specs, r->count, &r->run, together, results, ratio, e))
        code = EXIT_USAGE;
    if (code == EXIT_OK)
        print_results(results, r->count, together ? ratio : NULL);
    if (code == EXIT_OK && r->out && write_rows(r, results, e))
        code = EXIT_SOME_FAILED;
    for (int i = 0; i < r->count; i++) model_spec_free(&specs[i]);
    model_results_free(results, r->count);
    free(results);
    free(ratio);
    return code;
}

/* ---- command
 * -------------------------------------------------------------------------- */

enum {
    KEY_FORMAT = 256,
    KEY_THREADS,
    KEY_IMAGE,
    KEY_SECONDS,
    KEY_SEED,
    KEY_WEIGHTS,
    KEY_INTERLEAVE,
    KEY_OUT
};

static const struct argp_option options[] = {
    {"format", KEY_FORMAT, "FORMAT", 0, "of count: aligned, md, csv or tex", 0},
    {"threads", KEY_THREADS, "N", 0, "of run (default 1)", 0},
    {"image", KEY_IMAGE, "SIDE", 0,
     "of run: pixels, if other than the "
     "model's",
     0},
    {"seconds", KEY_SECONDS, "S", 0,
     "of run: sampling of each model "
     "(default 5)",
     0},
    {"seed", KEY_SEED, "N", 0, "of run: of weights and picture (default 1)", 0},
    {"weights", KEY_WEIGHTS, "FILE", 0,
     "of run: a safetensors checkpoint in "
     "timm's names",
     0},
    {"interleave", KEY_INTERLEAVE, NULL, 0,
     "of run: all models in one "
     "process, a pass of each in turn, and the ratio of their times",
     0},
    {"out", KEY_OUT, "DIR", 0, "of run: add rows to DIR/journal.jsonl", 0},
    {0}};

static double positive(struct argp_state *state, const char *option,
                       const char *text, double most, bool whole)
{
    char *end;
    const double x = strtod(text, &end);
    if (end == text || *end || !(x > 0 && x <= most) ||
        (whole && x != floor(x)))
        argp_error(state, "--%s: '%s' is not %s above 0 and up to %g", option,
                   text, whole ? "an integer" : "a number", most);
    return x;
}

static enum count_format format_of(struct argp_state *state, const char *text)
{
    for (int i = 0; i < COUNT_FORMATS; i++)
        if (!strcmp(text, count_format_names[i])) return (enum count_format)i;
    argp_error(state, "--format: '%s' is none of aligned, md, csv, tex", text);
    return COUNT_ALIGNED;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    request *r = state->input;
    if (key >= KEY_FORMAT && key <= KEY_OUT) r->given |= 1u << (key - KEY_FORMAT);
    switch (key) {
    case KEY_FORMAT:
        r->format = format_of(state, arg);
        break;
    case KEY_THREADS:
        r->run.threads = (int)positive(state, "threads", arg, 1024, true);
        break;
    case KEY_IMAGE:
        r->run.image = (int)positive(state, "image", arg, 4096, true);
        break;
    case KEY_SECONDS:
        r->run.seconds = positive(state, "seconds", arg, 3600, false);
        break;
    case KEY_SEED:
        r->run.seed = (uint64_t)positive(state, "seed", arg, 1e9, true);
        break;
    case KEY_WEIGHTS:
        r->run.weights = arg;
        break;
    case KEY_INTERLEAVE:
        r->interleave = true;
        break;
    case KEY_OUT:
        r->out = arg;
        break;
    case ARGP_KEY_ARG:
        if (!r->action)
            r->action = arg;
        else if (r->count == MOST)
            argp_error(state, "more than 128 models");
        else
            r->names[r->count++] = arg;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const char doc[] =
    "The papers' whole models: what they are, how many parameters and "
    "multiply-adds they have beside what is printed of them, and how fast a "
    "forward pass is here.\v"
    "Counts are for one picture; 'FLOPs' of papers are multiply-adds.  A name "
    "to run may say another norm, and that it is folded into its neighbours: "
    "swin_t:repbn:folded.  Examples:\n"
    "  attnbench models count --format md\n"
    "  attnbench models run nat_tiny swin_t --interleave\n"
    "  attnbench models run swin_t swin_t:repbn:folded --interleave";

/* An option that the action does not look at is a mistake. */
static int check_options(const request *r, error *e)
{
    const char *action = r->action ? r->action : "list";
    const bool run = !strcmp(action, "run");
    const unsigned of_count = 1u << (KEY_FORMAT - KEY_FORMAT);
    const unsigned odd = run ? r->given & of_count
                         : !strcmp(action, "count") ? r->given & ~of_count
                                                    : r->given;
    for (int i = 0; options[i].name; i++)
        if (odd >> (options[i].key - KEY_FORMAT) & 1)
            return error_set(e, "--%s means nothing to 'models %s'",
                             options[i].name, action);
    if (r->interleave && r->count < 2)
        return error_set(e, "--interleave needs two models or more");
    return 0;
}

static int act(request *r, error *e)
{
    static const char *const actions[] = {"list", "count", "run"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(r->action ? r->action : "list", actions[i])) continue;
        if (check_options(r, e)) return EXIT_USAGE;
        return i == 0 ? list(r, e) : i == 1 ? count_models(r, e)
                                            : run_models(r, e);
    }
    const char *near = error_nearest(r->action, actions, 3);
    error_set(e, "'%s' is none of list, count, run%s%s%s", r->action,
              near ? "; did you mean '" : "", near ? near : "",
              near ? "'?" : "");
    return EXIT_USAGE;
}

int command_models(int argc, char **argv)
{
    static const struct argp argp = {
        options, parse, "[list]\ncount [NAME...]\nrun NAME...", doc, NULL,
        NULL,    NULL};
    request r = {.run = {.threads = 1, .seconds = 5, .seed = 1}};
    error e;
    argp_err_exit_status = EXIT_USAGE;
    if (spelling_check(options, argc, argv, &e))
        return complain(argv[0], &e, EXIT_USAGE);
    argp_parse(&argp, argc, argv, 0, NULL, &r);
    const int code = act(&r, &e);
    return code == EXIT_OK ? code : complain(argv[0], &e, code);
}
