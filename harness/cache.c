/* cache.c - `attnbench cache`: misses of the cases of a sweep in simulated
 * caches, where no hardware counter is to be had. */
#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache_geometry.h"
#include "cache_simulate.h"
#include "commands.h"
#include "file.h"
#include "isolate.h"
#include "machine.h"
#include "progress.h"
#include "stop.h"
#include "sweep_options.h"
#include "sweep_row.h"
#include "text.h"

/* ---- options ------------------------------------------------------------- */

enum { KEY_I1 = 256, KEY_D1, KEY_L2, KEY_LL };

static const struct argp_option own_options[] = {
    { NULL, 0, NULL, 0, "What to simulate:", 2 },
    { "I1", KEY_I1, "BYTES,WAYS,LINE", 0,
      "first level, instructions (this machine's)", 2 },
    { "D1", KEY_D1, "BYTES,WAYS,LINE", 0, "first level, data (this machine's)",
      2 },
    { "L2", KEY_L2, "BYTES,WAYS,LINE", 0, "second level (this machine's)", 2 },
    { "LL", KEY_LL, "BYTES,WAYS,LINE", 0, "last level (this machine's)", 2 },
    { 0 },
};

static const char doc[] =
    "Counts misses of the cases that 'attnbench sweep' with the same options "
    "would time, by running each of them under valgrind's cache simulator, "
    "callgrind: two levels with true LRU, no prefetching, one thread.  A "
    "second run with the second level as the last one gives its misses, too.  "
    "Each row of the journal has the misses of a warm call and of a cold one, "
    "whose data no cache holds.  Kernels are those of level v2 unless another "
    "is asked for: the simulator knows no AVX-512, and it counts loads of AVX2 "
    "with FMA once for each lane.\v"
    "Examples:\n"
    "  attnbench cache --kernel 'softmax.*,na2d.*' --seq 256..4096*2 --out "
    "results/cache\n"
    "  attnbench plot results/cache scaling-misses\n"
    "  attnbench cache --kernel softmax.naive --D1 32768,8,64 --LL "
    "8388608,16,64\n"
    "\n"
    "A case takes about 200 times as long as by itself.  Exit codes: 0 done; 2 "
    "usage; 3 valgrind, or something else that is needed, is missing; 4 some "
    "cases failed; 130 interrupted.";

static int set_own(void *arg, int key, const char *text, error *e)
{
    cache_geometry *g = arg;
    switch (key) {
#define CASE(member, name, KEY)                                                \
    case KEY: return cache_level_parse(&g->member, name, text, e);
    CASE(i1, "I1", KEY_I1)
    CASE(d1, "D1", KEY_D1)
    CASE(l2, "L2", KEY_L2)
    CASE(ll, "LL", KEY_LL)
#undef CASE
    default: return -1;
    }
}

/* ---- state --------------------------------------------------------------- */

typedef struct run {
    sweep_options o;
    sweep_suite suite;
    sweep_cases cases;
    cache_geometry geometry;
    char *valgrind, *folder; /* folder: of callgrind's files                 */
    error no_valgrind;       /* why valgrind is NULL                         */
    journal_writer writer;
    journal before;
    sweep_env env;
    progress bar;
    const char *doing;
    int left, done, kept, failed;
    int width;
} run;

static void tick(void *arg)
{
    run *r = arg;
    progress_show(&r->bar, r->done, r->doing);
}

/* ---- rows ---------------------------------------------------------------- */

/* Case, caches, code and machine: what makes two rows the same experiment. */
static void identify(const run *r, const sweep_case *c, char *out, size_t size)
{
    char code[SWEEP_ID], text[CACHE_TEXT];
    size_t n = (size_t)snprintf(out, size, "%s", c->name);
#define ADD(member, name)                                                      \
    if (r->geometry.member.bytes && n < size) {                                \
        cache_level_text(&r->geometry.member, text);                           \
        n += (size_t)snprintf(out + n, size - n, " " name "=%s", text);        \
    }
    CACHE_LEVELS(ADD)
#undef ADD
    sweep_env_code(&c->entry, code);
    if (n < size) snprintf(out + n, size - n, " %s", code);
}

/* Rows that were simulated stay; what failed is tried again with --retry, what
 * lacked valgrind always. */
static bool is_kept(const run *r, const sweep_case *c)
{
    char id[2 * ATT_NAME];
    identify(r, c, id, sizeof id);
    for (int i = r->before.count - 1; i >= 0; i--) {
        const struct row *row = &r->before.row[i];
        const char *status = row->status;
        if (!row_has(row->kind, "cache") || !row_has(row->id, id) || !status)
            continue;
        if (row_has(status, "missing")) return false;
        return !r->o.retry || row_has(status, "ok") ||
               row_has(status, "unsupported");
    }
    return false;
}

/* One entry of `counters`; `more` is added to the value. */
static void put_count(json *counters, const char *name, const json *counts,
                      const char *event, const char *more, const char *source,
                      const char *reason)
{
    json *j = json_object();
    char text[32];
    const double value = json_number(json_get(counts, event), NAN) +
                         (more ? json_number(json_get(counts, more), NAN) : 0);

    if (!reason && isnan(value)) reason = "not simulated";
    if (reason) json_put_null(j, "value");
    else json_put_number(j, "value", value);
    if (reason) json_put_text(j, "reason", reason);
    snprintf(text, sizeof text, "%s%s%s", event, more ? "+" : "",
             more ? more : "");
    json_put_text(j, "source", source);
    json_put_text(j, "event", text);
    json_put_text(j, "scope", "process");
    json_put_number(j, "passes", 1);
    json_put(counters, name, j);
}

/* Counts of a pass: `whole` from the run with the true last level, `second` from
 * the one where it was the second. */
static json *counters_of(const run *r, const sweep_case *c, const json *whole,
                         const json *second, const char *source,
                         const char *reason)
{
    json *j = json_object();
    const char *lanes =
        reason ? reason
        : c->entry.level > ATT_V2
            ? "the simulator counts loads of FMA once for each lane" : NULL;
    put_count(j, "instructions", whole, "Ir", NULL, source, reason);
    put_count(j, "reads", whole, "Dr", NULL, source, lanes);
    put_count(j, "writes", whole, "Dw", NULL, source, lanes);
    put_count(j, "l1i_miss", whole, "I1mr", NULL, source, reason);
    put_count(j, "l1d_miss", whole, "D1mr", "D1mw", source,
              reason);
    put_count(j, "l1d_read_miss", whole, "D1mr", NULL, source, reason);
    put_count(j, "l1d_write_miss", whole, "D1mw", NULL, source,
              reason);
    if (!r->geometry.l2.bytes) second = whole; /* the last level is the second */
    put_count(j, "l2_miss", second, "DLmr", "DLmw", source, reason);
    put_count(j, "l2_read_miss", second, "DLmr", NULL, source, reason);
    put_count(j, "l2_write_miss", second, "DLmw", NULL, source, reason);
    put_count(j, "llc_miss", whole, "DLmr", "DLmw", source,
              reason);
    put_count(j, "llc_read_miss", whole, "DLmr", NULL, source, reason);
    put_count(j, "llc_write_miss", whole, "DLmw", NULL, source,
              reason);
    return j;
}

static void source_of(const json *whole, char *out, size_t size)
{
    const char *creator = json_text(json_get(whole, "creator"));
    snprintf(out, size, "simulated: %s", creator ? creator : "callgrind");
    char *dash = strchr(out, '-');
    if (dash) *dash = ' ';
}

typedef struct outcome {
    const char *status, *reason;
    const json *described, *whole, *second;
} outcome;

static json *make_row(const run *r, const sweep_case *c, const outcome *o)
{
    const char *reason = strcmp(o->status, "ok") ? o->reason : NULL;
    char id[2 * ATT_NAME], source[96];
    json *caches = cache_geometry_json(&r->geometry);
    sweep_said said;
    struct row row;
    identify(r, c, id, sizeof id);
    source_of(o->whole, source, sizeof source);
    json *warm = counters_of(r, c, json_get(o->whole, "warm"),
                             json_get(o->second, "warm"), source, reason);
    json *flushed = counters_of(r, c, json_get(o->whole, "cold"),
                             json_get(o->second, "cold"), source, reason);
    sweep_row_head(&row, &said, "cache", c, &r->env);
    row_take(&row, o->described);
    row.id = id;
    row.status = o->status;
    row.reason = reason;
    row.caches = caches;
    row.counters = warm;
    row.counters_cold = flushed;
    json *j = row_write(&row);
    json_free(caches);
    json_free(warm);
    json_free(flushed);
    sweep_said_free(&said);
    return j;
}

/* ---- table --------------------------------------------------------------- */

static void print_header(const run *r)
{
    char text[CACHE_TEXT];
    if (r->kept)
        printf("# %d of %d cases are in %s already\n", r->kept, r->cases.count,
               r->writer.path);
    if (!r->left) return;
    for (int i = 0; i < r->cases.notes; i++) {
        const char *note = r->cases.note[i];
        const int n = (int)strlen(note);
        printf("# %.*s\n", n && note[n - 1] == ',' ? n - 1 : n, note);
    }
    printf("# simulated caches (bytes, ways, line):");
#define SHOW(member, name)                                                     \
    if (r->geometry.member.bytes) {                                            \
        cache_level_text(&r->geometry.member, text);                           \
        printf(" %s %s;", name, text);                                         \
    }
    CACHE_LEVELS(SHOW)
#undef SHOW
    printf(" LRU, no prefetch\n# misses of one call: warm, and of a cold one, "
           "whose data no cache holds\n");
    printf("%s%-*s %13s %13s %13s %13s %13s  %s%s\n",
           text_on(stdout, TEXT_BOLD), r->width, "case", "D1", "L2", "LL",
           "D1 cold", "LL cold", "status", text_off(stdout, TEXT_BOLD));
    fflush(stdout);
}

static void print_count(const json *row, const char *pass, const char *name)
{
    const json *counters = json_get(row, pass);
    const double value =
        json_number(json_get(json_get(counters, name), "value"), NAN);
    if (isnan(value)) printf(" %13s", "-");
    else printf(" %13.0f", value);
}

static void print_line(const run *r, const json *row)
{
    const char *status = json_text(json_get(row, "status"));
    const char *reason = json_text(json_get(row, "reason"));
    const bool ok = !strcmp(status, "ok");
    const enum text_color color = ok ? TEXT_GOOD
                                  : !strcmp(status, "unsupported") ? TEXT_PLAIN
                                                                   : TEXT_BAD;
    printf("%-*s", r->width, json_text(json_get(row, "case")));
    print_count(row, "counters", "l1d_miss");
    print_count(row, "counters", "l2_miss");
    print_count(row, "counters", "llc_miss");
    print_count(row, "counters_cold", "l1d_miss");
    print_count(row, "counters_cold", "llc_miss");
    printf("  %s%s%s%s%s\n", text_on(stdout, color), status,
           text_off(stdout, color), reason ? ": " : "", reason ? reason : "");
    fflush(stdout);
}

/* ---- one case ------------------------------------------------------------ */

/* Runs callgrind with that last level; takes status and reason over. */
static int simulate(run *r, const sweep_case *c, const cache_level *last,
                    isolate_result *result)
{
    enum { SIMULATOR_MEMORY = 1 << 30 }; /* valgrind's own, beside the data  */
    cache_job job = { .what = c,
                      .valgrind = r->valgrind,
                      .folder = r->folder,
                      .geometry = r->geometry };
    const isolate_limits limits = {
        .seconds = c->settings.timeout,
        .memory = (size_t)(r->o.settings.max_memory > 0
                               ? r->o.settings.max_memory
                               : (double)machine_memory_free() * 0.8) +
                  SIMULATOR_MEMORY,
        .tick = tick,
        .arg = r,
        .stop = &stop_signal,
    };
    job.geometry.ll = *last;
    if (isolate_run(cache_simulate, &job, &limits, result, &r->o.error) < 0)
        return sweep_fail(&r->o, EXIT_MISSING);
    return stop_signal ? sweep_fail(&r->o, EXIT_INTERRUPTED) : 0;
}

static const char *unfit(const sweep_case *c)
{
    if (c->threads != 1)
        return "callgrind runs threads one after the other through one cache: "
               "use --threads 1";
    if (c->entry.level > ATT_V3)
        return "callgrind knows no AVX-512: use --level v2";
    return NULL;
}

static int describe(run *r, const sweep_case *c, isolate_result *out)
{
    const isolate_limits limits = { .seconds = 60, .stop = &stop_signal };
    sweep_job job = { .what = c,
                      .max_memory = r->o.settings.max_memory > 0
                                        ? (size_t)r->o.settings.max_memory
                                        : machine_memory_free() / 5 * 4,
                      .describe_only = true };
    if (isolate_run(sweep_case_run, &job, &limits, out, &r->o.error) < 0)
        return sweep_fail(&r->o, EXIT_MISSING);
    return stop_signal ? sweep_fail(&r->o, EXIT_INTERRUPTED) : 0;
}

static void set_outcome(outcome *o, const char *status, const char *reason)
{
    o->status = status;
    o->reason = reason;
}

/* Status of the case before anything is simulated; "ok" to go on. */
static void judge(const run *r, const sweep_case *c,
                  const isolate_result *described, outcome *o)
{
    const char *status = json_text(json_get(described->value, "status"));
    const char *why = unfit(c);
    set_outcome(o, described->status, described->reason);
    if (status)
        set_outcome(o, status,
                    json_text(json_get(described->value, "reason")));
    if (why && !strcmp(o->status, "ok")) set_outcome(o, "unsupported", why);
    if (!r->valgrind && !strcmp(o->status, "ok"))
        set_outcome(o, "missing", r->no_valgrind.text);
    o->described = described->value;
}

static int simulate_case(run *r, const sweep_case *c, outcome *o,
                         isolate_result whole[2])
{
    if (simulate(r, c, &r->geometry.ll, &whole[0]) < 0) return -1;
    set_outcome(o, whole[0].status, whole[0].reason);
    o->whole = whole[0].value;
    if (strcmp(o->status, "ok") || !r->geometry.l2.bytes) return 0;
    if (simulate(r, c, &r->geometry.l2, &whole[1]) < 0) return -1;
    set_outcome(o, whole[1].status, whole[1].reason);
    o->second = whole[1].value;
    return 0;
}

static int run_case(run *r, const sweep_case *c)
{
    isolate_result described = { 0 };
    isolate_result whole[2] = { [0] = { .value = NULL } };
    outcome o = { 0 };
    int rc = -1;
    r->doing = c->name;
    tick(r);
    if (describe(r, c, &described) < 0) goto out;
    judge(r, c, &described, &o);
    if (!strcmp(o.status, "ok") && simulate_case(r, c, &o, whole) < 0) goto out;
    json *row = make_row(r, c, &o);
    rc = journal_append(&r->writer, row, &r->o.error);
    if (rc < 0) sweep_fail(&r->o, EXIT_MISSING);
    progress_clear(&r->bar);
    if (rc == 0) print_line(r, row);
    r->failed += strcmp(o.status, "ok") && strcmp(o.status, "unsupported") &&
                 strcmp(o.status, "memory");
    r->done++;
    json_free(row);
out:
    json_free(described.value);
    json_free(whole[0].value);
    json_free(whole[1].value);
    return rc;
}

/* ---- all of them --------------------------------------------------------- */

static int append_env(run *r)
{
    if (sweep_env_complete(&r->env, &r->before, NULL, 0, 0, NULL, &stop_signal,
                           &r->o.error) < 0)
        return sweep_fail(&r->o, stop_signal ? EXIT_INTERRUPTED : EXIT_MISSING);
    if (journal_append(&r->writer, r->env.row, &r->o.error) == 0) return 0;
    return sweep_fail(&r->o, EXIT_MISSING);
}

static int run_cases(run *r)
{
    for (int i = 0; i < r->cases.count; i++) {
        if (is_kept(r, &r->cases.of[i])) r->kept++;
        else r->left++;
    }
    progress_begin(&r->bar, r->left);
    if (r->left && append_env(r) < 0) return -1;
    print_header(r);
    for (int i = 0; i < r->cases.count; i++)
        if (!is_kept(r, &r->cases.of[i]) &&
            run_case(r, &r->cases.of[i]) < 0)
            return -1;
    printf("journal: %s\n", r->writer.path);
    return 0;
}

/* In TMPDIR or /tmp, or else beside the results. */
static int make_folder(run *r)
{
    const char *parent = getenv("TMPDIR");
    const char *const places[] = { parent && *parent ? parent : "/tmp",
                                   r->o.out };
    for (int i = 0; i < 2; i++) {
        char *whole = realpath(places[i], NULL);
        r->folder = path_join(whole ? whole : places[i], "attnbench-cache-XXXXXX");
        free(whole);
        if (mkdtemp(r->folder)) return 0;
        free(r->folder);
    }
    r->folder = NULL;
    error_set(&r->o.error, "%s: cannot make a temporary folder there, nor in %s: %s",
              places[0], places[1], strerror(errno));
    return sweep_fail(&r->o, EXIT_MISSING);
}

/* callgrind's last part, and what a killed run left. */
static void remove_folder(run *r)
{
    static const char *const names[] = { "out", "out.1", "out.2", "out.3" };
    if (!r->folder) return;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_join(r->folder, names[i]);
        unlink(path);
        free(path);
    }
    rmdir(r->folder);
    free(r->folder);
}

static int run_locked(run *r)
{
    if (sweep_env_identify(&r->env, &stop_signal, &r->o.error) < 0 ||
        cache_geometry_fill(&r->geometry, json_get(r->env.row, "caches"),
                            &r->o.error) < 0)
        return sweep_fail(&r->o, stop_signal ? EXIT_INTERRUPTED : EXIT_MISSING);
    r->valgrind = cache_valgrind(&r->no_valgrind);
    r->width = sweep_table_width(r->cases.of, r->cases.count);
    if (make_folder(r) < 0) return -1;
    const int rc = run_cases(r);
    progress_clear(&r->bar);
    if (rc < 0) return -1;
    if (!r->valgrind && r->left) {
        r->o.error = r->no_valgrind;
        return sweep_fail(&r->o, EXIT_MISSING);
    }
    return r->failed ? sweep_fail(&r->o, EXIT_SOME_FAILED) : 0;
}

static void run_all(run *r)
{
    if (journal_open(&r->writer, r->o.out, &r->before, &r->o.error) < 0) {
        sweep_fail(&r->o, EXIT_MISSING);
        return;
    }
    stop_catch();
    run_locked(r);
    remove_folder(r);
    sweep_env_free(&r->env);
    journal_free(&r->before);
    journal_close(&r->writer);
    free(r->valgrind);
}

/* Unless asked for: the level that the simulator can run well, one thread, and
 * time for it. */
static void set_defaults(sweep_options *o)
{
    const char *level = "best";
    for (int l = ATT_V4; l >= ATT_V2; l--)
        if (!att_level_reject((enum att_level)l))
            level = att_level_name((enum att_level)l);
    if (!o->axes.of[AXIS_LEVEL].count)
        axes_set(&o->axes, AXIS_LEVEL, level, NULL, &o->error);
    axes_set(&o->axes, AXIS_CACHE, "warm", NULL, &o->error); /* has both */
    if (!o->axes.of[AXIS_THREADS].count)
        axes_set(&o->axes, AXIS_THREADS, "1", NULL, &o->error);
    if (isnan(o->settings.timeout)) o->settings.timeout = 600;
}

int command_cache(int argc, char **argv)
{
    run r = { 0 };
    const sweep_command as = { doc, own_options, set_own, &r.geometry };
    if (argc == 2 && !strcmp(argv[1], "--inside")) return cache_inside();
    sweep_options_read_as(&r.o, &as, argc, argv);
    if (r.o.status == 0) {
        set_defaults(&r.o);
        sweep_options_cases(&r.o, &r.suite, &r.cases);
    }
    if (r.o.status == 0) run_all(&r);
    if (*r.o.error.text && r.o.status != EXIT_INTERRUPTED)
        fprintf(stderr, "%s: %s\n", r.o.name, r.o.error.text);
    if (r.o.status == EXIT_INTERRUPTED)
        fprintf(stderr, "%s: interrupted; the same command goes on\n",
                r.o.name);
    sweep_cases_free(&r.cases);
    sweep_suite_free(&r.suite);
    sweep_options_free(&r.o);
    return r.o.status;
}
