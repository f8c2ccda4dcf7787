/* verify.c - kernels and references against case files, or kernels against
 * their references on shapes of our own. */
#include "accuracy.h"
#include "casefile.h"
#include "check.h"
#include "commands.h"
#include "progress.h"
#include "random.h"
#include "shapes.h"
#include "spelling.h"

#include <argp.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct selection {
    const char *kernel;    /* patterns with commas; NULL: all, and references */
    const char *mechanism; /* likewise                                       */
    int level;             /* -1: every level of this machine                */
    int threads;           /* 0: 2 on case files, 1 to 3 in turn on shapes   */
    enum shapes_amount amount;
    double timeout;        /* seconds of one kernel on one problem; 0: usual */
} selection;

typedef struct tally {
    int passed, failed, skipped;
} tally;

/* ---- selection --------------------------------------------------------------- */

/* The next of several comma-separated patterns; false at the end. */
static bool next_pattern(const char **list, char *out, size_t size)
{
    if (!*list || !**list) return false;
    const size_t n = strcspn(*list, ",");
    snprintf(out, size, "%.*s", (int)n, *list);
    *list += n + ((*list)[n] == ',');
    return true;
}

static bool matches(const char *patterns, const char *name)
{
    char pattern[ATT_NAME];
    if (!patterns) return true;
    while (next_pattern(&patterns, pattern, sizeof pattern))
        if (!fnmatch(pattern, name, 0)) return true;
    return false;
}

static bool selected(const selection *s, const att_entry *e)
{
    return matches(s->kernel, e->kernel->name) &&
           matches(s->mechanism, e->mechanism->name) &&
           (s->level < 0 || (int)e->level == s->level);
}

static bool reference_selected(const selection *s)
{
    return !s->kernel || matches(s->kernel, "reference");
}

/* Every pattern must match one of the names; -1 names the nearest if not. */
static int check_patterns(const char *what, const char *patterns,
                          const char *const *names, int n, error *e)
{
    char pattern[ATT_NAME];
    while (next_pattern(&patterns, pattern, sizeof pattern)) {
        bool found = false;
        for (int i = 0; !found && i < n; i++)
            found = !fnmatch(pattern, names[i], 0);
        if (found) continue;
        const char *near = error_nearest(pattern, names, n);
        return error_set(e, "unknown %s '%s'%s%s%s; `attnbench list %ss` names "
                            "all",
                         what, pattern, near ? "; did you mean '" : "",
                         near ? near : "", near ? "'?" : "", what);
    }
    return 0;
}

static int check_selection(const selection *s, error *e)
{
    const att_entry *entry;
    const att_mechanism *const *mechanism;
    const size_t entries = att_entries(&entry);
    const size_t mechanisms = att_mechanisms(&mechanism);
    const size_t most = entries > mechanisms ? entries : mechanisms;
    const char **name = malloc((most + 1) * sizeof *name);
    if (!name) return error_set(e, "out of memory");

    for (size_t i = 0; i < entries; i++) name[i] = entry[i].kernel->name;
    name[entries] = "reference";
    int rc = check_patterns("kernel", s->kernel, name, (int)entries + 1, e);
    for (size_t i = 0; i < mechanisms; i++) name[i] = mechanism[i]->name;
    if (!rc)
        rc = check_patterns("mechanism", s->mechanism, name, (int)mechanisms,
                            e);
    free(name);
    return rc;
}

/* ---- case files ------------------------------------------------------------------ */

static void print_line(const char *file, const char *kernel, const char *level,
                       const char *rest)
{
    printf("%-40s %-24s %-4s %s\n", file, kernel, level, rest);
    fflush(stdout);
}

static void print_failure(tally *t, const char *file, const char *kernel,
                          const char *level, const char *reason)
{
    char text[1200];
    snprintf(text, sizeof text, "FAIL  %s", reason);
    print_line(file, kernel, level, text);
    t->failed++;
}

static void print_skip(tally *t, const char *file, const char *kernel,
                       const char *level, const char *reason)
{
    char text[1200];
    snprintf(text, sizeof text, "SKIP  %s", reason);
    print_line(file, kernel, level, text);
    t->skipped++;
}

static void print_result(tally *t, const char *file, const char *kernel,
                         const char *level, const case_result *r)
{
    char text[1200];
    snprintf(text, sizeof text, "%s  %.1e of %.1e in %s  [%s]",
             r->pass ? "PASS" : "FAIL", r->worst, r->tolerance, r->tensor,
             r->names);
    print_line(file, kernel, level, text);
    if (r->pass) t->passed++;
    else t->failed++;
}

/* The reference (entry NULL) or a kernel on one file, in a process of its own:
 * what crashes or hangs there is one line here. */
static void verify_one(const case_file *c, const att_entry *entry, int threads,
                       double timeout, tally *t)
{
    const char *kernel = entry ? entry->kernel->name : "reference";
    const char *level = entry ? att_level_name(entry->level) : "-";
    char text[400];
    trial_file r;
    error e;

    if (trial_case(c, entry, threads, timeout, &r, &e)) {
        print_failure(t, c->name, kernel, level, e.text);
        return;
    }
    if (strcmp(r.status, "ok")) {
        snprintf(text, sizeof text, "%s: %s", r.status, r.reason);
        print_failure(t, c->name, kernel, level, text);
    } else if (*r.failed) print_failure(t, c->name, kernel, level, r.failed);
    else if (*r.refused) print_skip(t, c->name, kernel, level, r.refused);
    else if (r.slower > TRIAL_SLOWER) {
        snprintf(text, sizeof text,
                 "slow: takes %.1f times as long as on %s inputs", r.slower,
                 inputs_family_name(c->time_against));
        print_failure(t, c->name, kernel, level, text);
    } else print_result(t, c->name, kernel, level, &r.result);
    if (!*r.refused && r.forward_only)
        print_skip(t, c->name, kernel, level, "has no backward");
}

static void verify_file(const char *path, const selection *s, tally *t)
{
    case_file c;
    error e;
    if (case_file_read(&c, path, &e)) {
        print_failure(t, c.name, "-", "-", e.text);
        return;
    }
    if (matches(s->mechanism, c.mechanism->name)) {
        const double timeout = s->timeout > 0 ? s->timeout : 600;
        if (reference_selected(s)) verify_one(&c, NULL, 1, timeout, t);
        const att_entry *entry;
        const size_t n = att_entries(&entry);
        for (size_t i = 0; i < n; i++)
            if (entry[i].mechanism == c.mechanism && selected(s, &entry[i]))
                verify_one(&c, &entry[i], s->threads ? s->threads : 2, timeout,
                           t);
    }
    case_file_free(&c);
}

/* ---- shapes ---------------------------------------------------------------------- */

/* What became of one kernel at one level. */
typedef struct record {
    const att_entry *entry;
    int passed, failed, refused, forward_only;
    char reason[128]; /* of the last refusal                                 */
    double worst;     /* nmse                                                */
} record;

static void print_wrong(const record *r, const shape *x, bool grad,
                        const check_result *result)
{
    char name[ATT_NAME], text[ATT_NAME + 200];
    att_case_name(r->entry, &x->problem, x->threads,
                  grad ? ATT_BACKWARD : ATT_FORWARD, name);
    snprintf(text, sizeof text,
             "FAIL  %.1e in %s: %s inputs, seed %llu", result->max_abs,
             result->worst, inputs_family_name(x->family),
             (unsigned long long)x->seed);
    printf("%s %s\n", name, text);
}

/* One kernel on the problem of `want`, whose reference results are there. */
static int check_entry(record *r, const shape *x, check_values *want, error *e)
{
    check_values got = { 0 };
    check_result result;
    const char *why = "has no backward";
    bool grad = want->grad;
    int rc = -1;

    for (int tries = 0; why && tries < 1 + want->grad; tries++) {
        grad = want->grad && tries == 0; /* at least the forward pass */
        check_values_free(&got);
        if (check_values_make(&got, want->mechanism, &x->problem, grad, e) ||
            check_values_fill(&got, x->seed, x->family, e))
            goto out;
        why = check_run(r->entry, x->threads, &check_heap, &got);
    }
    rc = 0;
    if (why) {
        r->refused++;
        snprintf(r->reason, sizeof r->reason, "%s", why);
        goto out;
    }
    rc = check_judge(&got, want, &result, e);
    if (rc) goto out;
    r->forward_only += want->grad && !grad;
    if (result.nmse > r->worst) r->worst = result.nmse;
    if (result.pass) r->passed++;
    else {
        r->failed++;
        print_wrong(r, x, grad, &result);
    }
out:
    check_values_free(&got);
    return rc;
}

/* Told once, of the first shape: every rate and roofline hangs on it. */
static void verify_cost(const att_entry *entry, const shape *x,
                        const att_cost *done, bool *told, tally *t)
{
    const att_mechanism *m = entry->mechanism;
    char why[160], name[ATT_NAME];
    if (*told || check_cost(m, &x->problem, done, why, sizeof why)) return;
    *told = true;
    att_case_name(entry, &x->problem, x->threads, ATT_FORWARD, name);
    printf("%-28s %-4s FAIL  %s in %s\n", m->name, "-", why, name);
    t->failed++;
}

/* 0, -1 with e, or 1 with e: the reference itself is at fault. */
static int check_shape(record *records, int count, const shape *x,
                       bool *cost_told, tally *t, error *e)
{
    const att_mechanism *m = records->entry->mechanism;
    att_cost done[2] = { { 0 } };
    check_values want = { 0 };
    const bool grad = m->backward && inputs_family_backward(x->family);
    int rc = check_values_make(&want, m, &x->problem, grad, e);
    if (!rc) rc = check_values_fill(&want, x->seed, x->family, e);
    if (!rc) check_reference(&want, done);
    if (!rc && check_reference_sane(&want, e)) rc = 1;
    if (!rc) verify_cost(records->entry, x, &done[ATT_FORWARD], cost_told, t);
    for (int i = 0; !rc && i < count; i++)
        rc = check_entry(&records[i], x, &want, e);
    check_values_free(&want);
    return rc;
}

static void print_bad_reference(const shape *x, tally *t, const error *e)
{
    printf("%-28s %-4s FAIL  %s (%s, seed %llu)\n", "reference", "-", e->text,
           inputs_family_name(x->family), (unsigned long long)x->seed);
    t->failed++;
}

/* A kernel that refuses everything is of no use to anybody: that fails. */
static void print_record(const record *r, tally *t)
{
    char text[400];
    const bool fails = r->failed || !r->passed;
    snprintf(text, sizeof text,
             "%s  %d passed, %d failed, %d refused%s%s%s, nmse %.1e",
             fails ? "FAIL" : "PASS", r->passed, r->failed, r->refused,
             r->refused ? " (" : "", r->refused ? r->reason : "",
             r->refused ? ")" : "", r->worst);
    printf("%-28s %-4s %s\n", r->entry->kernel->name,
           att_level_name(r->entry->level), text);
    if (r->forward_only)
        printf("%-28s %-4s SKIP  backward of %d shapes\n",
               r->entry->kernel->name, att_level_name(r->entry->level),
               r->forward_only);
    t->passed += r->passed;
    t->failed += r->failed + (!r->passed && !r->failed);
    t->skipped += r->refused + r->forward_only;
}

static int verify_mechanism(const att_mechanism *m, const selection *s,
                            progress *bar, tally *t, error *e)
{
    const att_entry *entry;
    const size_t n = att_entries(&entry);
    record *records = calloc(n + 1, sizeof *records);
    shapes list = { 0 };
    int count = 0, rc = -1;
    bool cost_told = false;

    if (!records) {
        error_set(e, "out of memory");
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        if (entry[i].mechanism == m && selected(s, &entry[i]))
            records[count++].entry = &entry[i];
    if (count && shapes_make(&list, m, s->amount, e)) goto out;
    for (int i = 0, bad = 0; i < list.count && !bad; i++) {
        if (s->threads) list.item[i].threads = s->threads;
        progress_show(bar, bar->done, m->name);
        bad = check_shape(records, count, &list.item[i], &cost_told, t, e);
        if (bad < 0) goto out;
        if (bad) print_bad_reference(&list.item[i], t, e);
        if (bad) count = 0;
    }
    progress_clear(bar);
    for (int i = 0; i < count; i++) print_record(&records[i], t);
    fflush(stdout);
    rc = 0;
out:
    shapes_free(&list);
    free(records);
    return rc;
}

static int verify_shapes(const selection *s, tally *t, error *e)
{
    const att_mechanism *const *mechanism;
    const size_t n = att_mechanisms(&mechanism);
    progress bar;
    int rc = 0;
    progress_begin(&bar, (double)n);
    for (size_t i = 0; !rc && i < n; i++) {
        bar.done = (double)i;
        rc = verify_mechanism(mechanism[i], s, &bar, t, e);
    }
    progress_clear(&bar);
    return rc;
}

/* ---- command --------------------------------------------------------------------- */

static const char doc[] =
    "Compares the reference and every kernel, at every level of this machine, "
    "with the expected results in case files (safetensors); a line for each, "
    "with the largest |x - expected| / (1 + |expected|), its tolerance and "
    "tensor, and the tensors compared (those in parentheses are in the file "
    "but not told by the mechanism).  Without files: every kernel against its "
    "reference on many shapes; with --random or --seconds on random problems, "
    "sensible or not, each with random kinds of values, in processes of their "
    "own, in memory between guard pages.  With --accuracy: how exact they are.\v"
    "--accuracy prints for every kernel, level, storage and pass the largest and "
    "the root-mean-square error against the double-precision reference, in units "
    "in the last place of a tensor's largest value: on normal inputs, and the "
    "worst of inputs that stress it (sharp and large logits, equal keys, one "
    "outlier, tiny and denormal values, rows of 10,000 keys); and whether a call "
    "gives the same bits again, with 1, 2 and 3 threads, and at other levels.  "
    "With --out the rows are kept in the journal of a run, whose tables and "
    "figures then show them; with --many every small shape is tried, and longer "
    "rows.\n\n"
    "  attnbench verify --accuracy --level best\n"
    "  attnbench verify --accuracy -k 'softmax.*' --out results/run\n"
    "  attnbench table results/run --columns kernel,time,rms_ulp,same_threads\n"
    "  attnbench plot results/run accuracy\n\n"
    "Random problems are a function of the seed; the first of a seed is the "
    "one that a failure names.  What fails (wrong, crashed, hung, three times "
    "as slow on one kind of inputs as on another) is made smaller until nothing "
    "can be left out and written as a case file.\n\n"
    "Exit code 1 if anything failed, or nothing random was verified.  `attnbench verify tests/golden/*` is "
    "what `make test` runs.";

enum { KEY_NO_TIME = 0x100, KEY_TIMEOUT, KEY_ACCURACY };

static const struct argp_option options[] = {
    { "kernel", 'k', "NAMES", 0,
      "only these, with commas; patterns like 'na2d.*'; 'reference' is one", 0 },
    { "mechanism", 'm', "NAMES", 0, "only these mechanisms", 0 },
    { "level", 'l', "LEVEL", 0, "only v2, v3, v4, base or best", 0 },
    { "threads", 't', "N", 0, "threads of the kernels (default 2; without files 1, 2, 3 in turn; with "
      "--accuracy 1)", 0 },
    { "many", 'M', NULL, 0, "without files: more shapes", 0 },
    { "accuracy", KEY_ACCURACY, NULL, 0,
      "how exact instead of whether: errors in units in the last place, and "
      "whether bits are the same again", 0 },
    { 0, 0, NULL, 0, "Random problems:", 1 },
    { "random", 'r', "N", 0, "so many problems", 1 },
    { "seconds", 's', "T", 0, "as many problems as fit in this time", 1 },
    { "seed", 'S', "N", 0, "other problems (default 1)", 1 },
    { "no-time", KEY_NO_TIME, NULL, 0,
      "do not check that time is independent of the values", 1 },
    { "timeout", KEY_TIMEOUT, "T", 0,
      "seconds for one problem (default 20), or for a kernel on a case file "
      "(600)", 1 },
    { "out", 'o', "DIR", 0,
      "folder for case files of what is found (default: this one); of "
      "--accuracy: the run whose journal gets its rows (default: none)", 1 },
    { 0 },
};

typedef struct arguments {
    selection selection;
    random_options random;
    bool is_random, is_accuracy;
    bool seeded; /* or another option that is of random problems alone        */
    const char *out;
    char **files;
    int count;
} arguments;

/* A number from least up, or the end of the program. */
static double number(struct argp_state *state, const char *option,
                     const char *text, double least)
{
    char *end;
    const double n = strtod(text, &end);
    if (end == text || *end || !(n >= least) || n > 1e9)
        argp_failure(state, EXIT_USAGE, 0, "--%s=%s: not a number from %g to 1e9",
                     option, text, least);
    return n;
}

static uint64_t seed_of(struct argp_state *state, const char *text)
{
    char *end;
    errno = 0;
    const unsigned long long n = strtoull(text, &end, 10);
    if (end == text || *end || errno || *text == '-')
        argp_failure(state, EXIT_USAGE, 0, "--seed=%s: not a number below 2^64",
                     text);
    return n;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    arguments *a = state->input;
    char *end;
    switch (key) {
    case 'k': a->selection.kernel = text; break;
    case 'm': a->selection.mechanism = text; break;
    case 'l':
        a->selection.level = att_level_parse(text);
        if (a->selection.level < 0)
            argp_failure(state, EXIT_USAGE, 0,
                         "unknown level '%s': one of base, v2, v3, v4, best",
                         text);
        else if (att_level_reject((enum att_level)a->selection.level))
            argp_failure(state, EXIT_MISSING, 0, "%s",
                         att_level_reject((enum att_level)a->selection.level));
        break;
    case 't': {
        const long n = strtol(text, &end, 10);
        if (end == text || *end || n < 1 || n > 4096)
            argp_failure(state, EXIT_USAGE, 0,
                         "--threads=%s: not a number from 1 to 4096", text);
        a->selection.threads = (int)n;
        break;
    }
    case 'M': a->selection.amount = SHAPES_MANY; break;
    case 'r':
        a->random.problems = (long)number(state, "random", text, 1);
        a->is_random = true;
        break;
    case 's':
        a->random.seconds = number(state, "seconds", text, 0.001);
        a->is_random = true;
        break;
    case 'S':
        a->random.seed = seed_of(state, text);
        a->seeded = true;
        break;
    case KEY_NO_TIME:
        a->random.time = false;
        a->seeded = true;
        break;
    case KEY_TIMEOUT:
        a->selection.timeout = number(state, "timeout", text, 0.001);
        break;
    case 'o': a->out = a->random.out = text; break;
    case KEY_ACCURACY: a->is_accuracy = true; break;
    case ARGP_KEY_ARGS:
        a->files = state->argv + state->next;
        a->count = state->argc - state->next;
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int check_random(const arguments *a, error *e)
{
    if (a->is_accuracy && (a->count || a->is_random || a->seeded))
        return error_set(e, "--accuracy has inputs of its own: leave %s out",
                         a->count ? a->files[0] : "options of random problems");
    if (a->is_random && a->count)
        return error_set(e, "--random and --seconds take no case files: leave "
                            "'%s' out", a->files[0]);
    if (a->is_random && a->selection.amount == SHAPES_MANY)
        return error_set(e, "--many is for verify without --random");
    if (!a->is_random && (a->seeded || (a->out && !a->is_accuracy)))
        return error_set(e, "--seed, --no-time and --out need --random N or "
                            "--seconds T%s", a->seeded ? "" : ", or --accuracy");
    return 0;
}

static bool random_selected(const att_entry *e, const void *arg)
{
    return selected(arg, e);
}

static int verify_random(arguments *a)
{
    a->random.threads = a->selection.threads;
    a->random.timeout = a->selection.timeout > 0 ? a->selection.timeout : 20;
    a->random.selected = random_selected;
    a->random.arg = &a->selection;
    return random_verify(&a->random);
}

/* One thread and a minute, unless asked for otherwise. */
static int verify_accuracy(const arguments *a, const char *name)
{
    const selection *s = &a->selection;
    const accuracy_options o = {
        .name = name,
        .selected = random_selected,
        .arg = s,
        .many = s->amount == SHAPES_MANY,
        .threads = s->threads ? s->threads : 1,
        .timeout = s->timeout > 0 ? s->timeout : s->amount == SHAPES_MANY ? 600 : 60,
        .out = a->out,
    };
    return accuracy_verify(&o);
}

int command_verify(int argc, char **argv)
{
    static const struct argp argp = { options, parse, "[CASEFILE...]", doc,
                                      NULL,    NULL,  NULL };
    arguments a = { .selection = { .level = -1, .amount = SHAPES_FEW },
                    .random = { .seed = 1, .time = true, .out = "." } };
    tally t = { 0 };
    error e;

    if (spelling_check(options, argc, argv, &e) < 0) {
        fprintf(stderr, "%s: %s\n", argv[0], e.text);
        return EXIT_USAGE;
    }
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (check_selection(&a.selection, &e) || check_random(&a, &e)) {
        fprintf(stderr, "%s: %s\n", argv[0], e.text);
        return EXIT_USAGE;
    }
    if (a.is_random) return verify_random(&a);
    if (a.is_accuracy) return verify_accuracy(&a, argv[0]);
    for (int i = 0; i < a.count; i++) verify_file(a.files[i], &a.selection, &t);
    if (a.count == 0 && verify_shapes(&a.selection, &t, &e)) {
        fprintf(stderr, "%s: %s\n", argv[0], e.text);
        return EXIT_SOME_FAILED;
    }
    printf("%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped);
    if (t.failed) return EXIT_GATE;
    if (t.passed && (a.selection.kernel || !att_level_none())) return EXIT_OK;
    fprintf(stderr, "%s: %s\n", argv[0],
            att_level_none() ? att_level_none()
                             : "nothing was verified: no kernel or file is left of "
                               "what was asked for");
    return EXIT_MISSING;
}
