/* sweep_options.c - what can be asked of `attnbench sweep`. */
#include "sweep_options.h"

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "spelling.h"

enum {
    KEY_AXIS = 1000, /* + number of the axis                                */
    KEY_SUITE = 2000,
    KEY_OUT,
    KEY_NOT,
    KEY_PLAIN,
    KEY_CI,
    KEY_TIME,
    KEY_TIMEOUT,
    KEY_PROCESSES,
    KEY_PASSES,
    KEY_CHECK,
    KEY_MEMORY,
    KEY_SHARD,
    KEY_RETRY,
    KEY_DRY,
    KEY_AA,
    KEY_PAIRS,
    KEY_INJECT,
    KEY_BIND,
    KEY_MULTIPLEX,
    KEY_CEILINGS
};

static const struct argp_option fixed_options[] = {
    { NULL, 0, NULL, 0, "What to measure:", 1 },
    { "suite", KEY_SUITE, "NAME|FILE", 0,
      "a prepared set of cases; axes given beside it replace the suite's, "
      "--kernel and --not select from it", 1 },
    { "out", KEY_OUT, "DIR", 0, "folder of the journal (results/run)", 1 },
    { "kernel", 'k', "PATTERN,...", 0,
      "names of kernels or mechanisms, with * and ? (all)", 1 },
    { "not", KEY_NOT, "PATTERN,...", 0, "but not these", 1 },
    { "plain", KEY_PLAIN, "WHICH", 0,
      "of a mechanism's plain kernels: all, one, fallback (one if it has no "
      "fast kernel), none, only (one, and no fast kernel) (all)", 1 },
    { "dry-run", KEY_DRY, NULL, 0,
      "list the cases with their memory and operations", 1 },
    { "retry", KEY_RETRY, NULL, 0,
      "measure again what failed before (what was measured under other settings "
      "always is)", 1 },
    { "shard", KEY_SHARD, "I/N", 0,
      "the I-th of N parts, for N machines; join them with merge", 1 },
    { NULL, 0, NULL, 0, "How to measure:", 2 },
    { "aa", KEY_AA, NULL, 0,
      "measure every kernel against itself, in pairs, and tell how often the "
      "rule of compare finds a difference (its false alarms); --seq 256 unless "
      "given", 2 },
    { "pairs", KEY_PAIRS, "N", 0,
      "with --aa: pairs in all, dealt to the cases in turn (200)", 2 },
    { "inject", KEY_INJECT, "P%", 0,
      "with --aa: in every second pair one side is slowed down by this part of "
      "each call; tells how many of those are found (power)", 2 },
    { "bind", KEY_BIND, "WHERE", 0,
      "threads on processors of their own: close (neighbours), spread (far "
      "apart), none (close)", 2 },
    { "ceilings", KEY_CEILINGS, "WHICH", 0,
      "of the roofline: kept (those of this machine and program, if they were "
      "measured within a day), fresh (kept)", 2 },
    { "multiplex", KEY_MULTIPLEX, NULL, 0,
      "hardware events take turns on the processor's counters while a case "
      "is repeated: fewer passes, estimates (one pass per group of events that "
      "fit together, exact)", 2 },
    { "ci", KEY_CI, "P%", 0,
      "enough when half the 95 % interval is below this part of the median "
      "(2%)", 2 },
    { "time", KEY_TIME, "S", 0,
      "most seconds of sampling for a case and process (0.2)", 2 },
    { "processes", KEY_PROCESSES, "P", 0,
      "measure every case in so many processes, in all passes together (6)", 2 },
    { "passes", KEY_PASSES, "N", 0,
      "go over all cases so many times, so that the processes of a case lie apart "
      "in time; not more than it has processes (3)", 2 },
    { "timeout", KEY_TIMEOUT, "S", 0,
      "kill the process of a case after this (120)", 2 },
    { "max-memory", KEY_MEMORY, "BYTES", 0,
      "with K, M or G; larger cases are not tried (80 % of what is free)", 2 },
    { "check", KEY_CHECK, "OPS", 0,
      "most operations of comparing a case with its reference; larger ones are "
      "checked on a smaller grid; 0: never (1e8)", 2 },
    { NULL, 0, NULL, 0,
      "Axes: values a,b,c or ranges lo..hi*k, lo..hi+k; combinations of all "
      "are measured, each once for mechanisms that lack an axis:", 3 },
};

static const char doc[] =
    "Measures kernels over axes, or a suite of cases: time with its 95 % "
    "interval, operations, memory, counters, place below the roofline.  Each "
    "case runs in a process of its own, so a crash, an endless loop or a wrong "
    "result is one row.  Results are appended to DIR/journal.jsonl as they "
    "come; the same command again measures what is missing."
    "\v"
    "Examples:\n"
    "  attnbench sweep --suite default --out results/run\n"
    "  attnbench sweep --kernel softmax.flash,na2d.* --seq 256..16384*4 "
    "--head-dim 32,64\n"
    "  attnbench sweep --kernel na2d --grid 14x14,28x28,56x56 --window "
    "3,7,13 --threads 1,2\n"
    "  attnbench sweep --kernel softmax --pass forward,backward --level all\n"
    "  attnbench sweep --suite default --kernel 'aft*' --dry-run\n"
    "\n"
    "Without axes: --seq 1024 --head-dim 32 --window 7 --threads 1 --level "
    "best --pass forward --cache warm.  Every mechanism gets the same tokens "
    "and the same width "
    "heads x head-dim.\n"
    "\n"
    "Exit codes: 0 done; 1 a kernel was wrong; 2 usage; 3 something needed is "
    "missing; 4 some cases failed; 130 interrupted.";

int sweep_fail(sweep_options *o, int status)
{
    if (o->status == 0) o->status = status;
    return -1;
}

static bool read_number(const char *text, const char **end, double *out)
{
    char *stop;
    *out = strtod(text, &stop);
    *end = stop;
    return stop != text && isfinite(*out);
}

static int set_number(sweep_options *o, const char *name, const char *text,
                      double least, double most, double *out)
{
    const char *end;
    if (read_number(text, &end, out) && !*end && *out >= least && *out <= most)
        return 0;
    error_set(&o->error, "--%s: '%s' is not a number from %g to %g", name, text,
              least, most);
    return sweep_fail(o, EXIT_USAGE);
}

/* "2%" or "0.02". */
static int set_share(sweep_options *o, const char *name, const char *text,
                     double *out)
{
    const char *end;
    double v;
    if (read_number(text, &end, &v)) {
        if (!strcmp(end, "%")) {
            v /= 100;
            end++;
        }
        if (!*end && v > 0 && v < 1) {
            *out = v;
            return 0;
        }
    }
    error_set(&o->error, "--%s: '%s' is not a part of the median: write 2%% or "
                         "0.02", name, text);
    return sweep_fail(o, EXIT_USAGE);
}

static int set_memory(sweep_options *o, const char *text)
{
    const char *end;
    static const char units[] = "KMGT";
    double v;
    if (read_number(text, &end, &v) && v > 0) {
        const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;
        if (unit) {
            v = ldexp(v, 10 * (int)(unit - units + 1));
            end++;
        }
        if (!*end && v < 0x1p62) {
            o->settings.max_memory = v;
            return 0;
        }
    }
    error_set(&o->error, "--max-memory: '%s' is not a size: write 500M or 4G",
              text);
    return sweep_fail(o, EXIT_USAGE);
}

static int set_shard(sweep_options *o, const char *text)
{
    char rest;
    if (sscanf(text, "%d/%d%c", &o->shard, &o->shards, &rest) == 2 &&
        o->shard >= 1 && o->shard <= o->shards)
        return 0;
    error_set(&o->error, "--shard: '%s' is not I/N with I from 1 to N", text);
    return sweep_fail(o, EXIT_USAGE);
}

static int set_plain(sweep_options *o, const char *text)
{
    o->plain = sweep_plain_parse(text);
    if (o->plain >= 0) return 0;
    error_set(&o->error, "--plain: '%s' is none of all, one, fallback, none, "
                         "only", text);
    return sweep_fail(o, EXIT_USAGE);
}

static int set_axis(sweep_options *o, int number, const char *text)
{
    bool missing = false;
    if (axes_set(&o->axes, number, text, &missing, &o->error) == 0) return 0;
    return sweep_fail(o, missing ? EXIT_MISSING : EXIT_USAGE);
}

static int set_count(sweep_options *o, const char *name, const char *text,
                     int *out)
{
    double n;
    if (set_number(o, name, text, 1, 100, &n) < 0) return -1;
    *out = (int)n;
    return 0;
}

static int set_pairs(sweep_options *o, const char *text)
{
    double n;
    if (set_number(o, "pairs", text, 1, 1e6, &n) < 0) return -1;
    o->pairs = (int)n;
    return 0;
}

static int set_bind(sweep_options *o, const char *text)
{
    const int policy = bind_parse(text);
    if (policy >= 0) {
        o->settings.bind = (enum sweep_bind)policy;
        return 0;
    }
    error_set(&o->error, "--bind: '%s' is none of close, spread, none", text);
    return sweep_fail(o, EXIT_USAGE);
}

static int set_ceilings(sweep_options *o, const char *text)
{
    o->fresh = !strcmp(text, "fresh");
    if (o->fresh || !strcmp(text, "kept")) return 0;
    error_set(&o->error, "--ceilings: '%s' is none of kept, fresh", text);
    return sweep_fail(o, EXIT_USAGE);
}

static int add_patterns(sweep_options *o, sweep_patterns *p, const char *text)
{
    if (sweep_patterns_add(p, text, &o->error) == 0) return 0;
    return sweep_fail(o, EXIT_USAGE);
}

static int set(sweep_options *o, int key, char *text)
{
    if (key >= KEY_AXIS && key < KEY_AXIS + AXES)
        return set_axis(o, key - KEY_AXIS, text);
    switch (key) {
    case KEY_SUITE: o->suite = text; return 0;
    case KEY_OUT: o->out = text; return 0;
    case 'k': return add_patterns(o, &o->kernels, text);
    case KEY_NOT: return add_patterns(o, &o->not, text);
    case KEY_PLAIN: return set_plain(o, text);
    case KEY_CI: return set_share(o, "ci", text, &o->settings.ci);
    case KEY_INJECT: return set_share(o, "inject", text, &o->inject);
    case KEY_TIME:
        return set_number(o, "time", text, 0.001, 1e6, &o->settings.seconds);
    case KEY_TIMEOUT:
        return set_number(o, "timeout", text, 0.1, 1e6, &o->settings.timeout);
    case KEY_PROCESSES:
        return set_count(o, "processes", text, &o->settings.processes);
    case KEY_PASSES:
        return set_count(o, "passes", text, &o->settings.passes);
    case KEY_CHECK:
        return set_number(o, "check", text, 0, 1e15, &o->settings.check);
    case KEY_MEMORY: return set_memory(o, text);
    case KEY_SHARD: return set_shard(o, text);
    case KEY_RETRY: o->retry = true; return 0;
    case KEY_DRY: o->dry_run = true; return 0;
    case KEY_AA: o->aa = true; return 0;
    case KEY_MULTIPLEX: o->settings.multiplex = true; return 0;
    case KEY_BIND: return set_bind(o, text);
    case KEY_CEILINGS: return set_ceilings(o, text);
    case KEY_PAIRS: return set_pairs(o, text);
    case ARGP_KEY_ARG:
        error_set(&o->error, "'%s' stands alone: options start with --, as in "
                             "--suite %s or --kernel %s", text, text, text);
        return sweep_fail(o, EXIT_USAGE);
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* What parse() works on; `as` is NULL for sweep itself. */
typedef struct reader {
    sweep_options *o;
    const sweep_command *as;
} reader;

static bool is_own(const sweep_command *as, int key)
{
    const struct argp_option *x = as ? as->own : NULL;
    for (; x && (x->name || x->doc); x++)
        if (x->name && x->key == key) return true;
    return false;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    const reader *r = state->input;
    if (is_own(r->as, key)) {
        if (r->as->set(r->as->arg, key, text, &r->o->error) == 0) return 0;
        sweep_fail(r->o, EXIT_USAGE);
        return EINVAL;
    }
    const int rc = set(r->o, key, text);
    return rc < 0 ? EINVAL : rc;
}

/* Options that only a command that takes times can have. */
static bool is_of_timing(int key)
{
    static const int keys[] = { KEY_CI, KEY_TIME,  KEY_PROCESSES, KEY_CHECK,
                                KEY_AA, KEY_PAIRS, KEY_BIND,      KEY_MULTIPLEX,
                                KEY_CEILINGS,      KEY_PASSES,    KEY_INJECT,
                                KEY_DRY };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i] == key) return true;
    return false;
}

/* The fixed options, the command's own and one for each axis; static storage. */
static const struct argp_option *all_options(const sweep_command *as)
{
    enum { FIXED = sizeof fixed_options / sizeof *fixed_options, OWN = 16 };
    static struct argp_option all[FIXED + OWN + AXES + 1];
    const struct argp_option *own = as ? as->own : NULL;
    int n = 0;
    for (int i = 0; i < FIXED; i++)
        if (!as || !is_of_timing(fixed_options[i].key))
            all[n++] = fixed_options[i];
    while (own && (own->name || own->doc) && n < FIXED + OWN) all[n++] = *own++;
    for (int a = 0; a < AXES; a++)
        if (!as || a != AXIS_CACHE) all[n++] = (struct argp_option){
            axes_name(a), KEY_AXIS + a, "VALUES", 0, axes_help(a), 3
        };
    all[n] = (struct argp_option){ 0 };
    return all;
}

static void check_together(sweep_options *o)
{
    if (!o->status && o->axes.of[AXIS_SEQ].count &&
        o->axes.of[ATT_FIELD_grid].count) {
        error_set(&o->error, "--seq and --grid both set the tokens: keep one");
        sweep_fail(o, EXIT_USAGE);
    }
    if (!o->status && o->pairs && !o->aa) {
        error_set(&o->error, "--pairs belongs to --aa: give both or neither");
        sweep_fail(o, EXIT_USAGE);
    }
    if (!o->status && o->inject > 0 && !o->aa) {
        error_set(&o->error, "--inject belongs to --aa: give both or neither");
        sweep_fail(o, EXIT_USAGE);
    }
}

int sweep_options_read_as(sweep_options *o, const sweep_command *as, int argc,
                          char **argv)
{
    const struct argp_option *options = all_options(as);
    const att_entry *any;
    const struct argp argp = { options, parse, "", as ? as->doc : doc,
                               NULL,    NULL,  NULL };
    *o = (sweep_options){
        .name = argv[0],
        .out = "results/run",
        .plain = -1,
        .settings = { .ci = NAN, .seconds = NAN, .timeout = NAN,
                      .check = NAN },
        .shard = 1,
        .shards = 1,
    };
    argp_err_exit_status = EXIT_USAGE;
    if (spelling_check(options, argc, argv, &o->error) < 0) {
        sweep_fail(o, EXIT_USAGE);
        return o->status;
    }
    argp_parse(&argp, argc, argv, 0, NULL, &(reader){ o, as });
    check_together(o);
    if (att_entries(&any) == 0) {
        error_set(&o->error, "%s", att_level_none());
        o->status = EXIT_MISSING;
    }
    if (!o->pairs) o->pairs = 200;
    return o->status;
}

int sweep_options_read(sweep_options *o, int argc, char **argv)
{
    return sweep_options_read_as(o, NULL, argc, argv);
}

/* ---- from options to cases ----------------------------------------------- */

static void override(sweep_settings *s, const sweep_settings *over)
{
    if (!isnan(over->ci)) s->ci = over->ci;
    if (!isnan(over->seconds)) s->seconds = over->seconds;
    if (!isnan(over->timeout)) s->timeout = over->timeout;
    if (!isnan(over->check)) s->check = over->check;
    if (over->processes) s->processes = over->processes;
    if (over->passes) s->passes = over->passes;
    s->bind = over->bind;
    s->multiplex = over->multiplex;
    s->max_memory = over->max_memory;
}

/* The one block of a sweep that is all on the command line. */
static void own_suite(sweep_suite *s, const char *seq)
{
    sweep_block *b = calloc(1, sizeof *b);
    if (!b) abort();
    b->settings = sweep_settings_default;
    axes_set(&b->axes, AXIS_SEQ, seq, NULL, NULL);
    axes_usual(&b->axes, ATT_FIELD_window, "7");
    *s = (sweep_suite){ .block = b, .count = 1 };
}

int sweep_options_cases(sweep_options *o, sweep_suite *suite,
                        sweep_cases *cases)
{
    if (!o->suite) own_suite(suite, o->aa ? "256" : "1024");
    else if (sweep_suite_read(suite, o->suite, &o->error) < 0)
        return sweep_fail(o, EXIT_USAGE);
    for (int b = 0; b < suite->count; b++) {
        sweep_block *block = &suite->block[b];
        override(&block->settings, &o->settings);
        if (!isnan(o->settings.seconds)) block->seconds = 0;
        if (o->plain >= 0) block->plain = (enum sweep_plain)o->plain;
    }
    if (sweep_cases_list(suite, &o->axes, &o->kernels, &o->not, cases,
                         &o->error) < 0)
        return sweep_fail(o, EXIT_USAGE);
    int kept = 0;
    for (int i = 0; i < cases->count; i++)
        if (cases->of[i].group % o->shards == o->shard - 1)
            cases->of[kept++] = cases->of[i];
    cases->count = kept;
    return 0;
}


void sweep_options_free(sweep_options *o)
{
    axes_free(&o->axes);
    sweep_patterns_free(&o->kernels);
    sweep_patterns_free(&o->not);
}
