/* verify.c - kernels and references against case files, or kernels against
 * their references on shapes of our own. */
#include "casefile.h"
#include "check.h"
#include "commands.h"

#include <argp.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct selection {
    const char *kernel;    /* patterns with commas; NULL: all, and references */
    const char *mechanism; /* likewise                                       */
    int level;             /* -1: every level of this machine                */
    int threads;
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

/* The reference (entry NULL) or a kernel on one file. */
static void verify_one(const case_file *c, const att_entry *entry, int threads,
                       tally *t)
{
    const char *kernel = entry ? entry->kernel->name : "reference";
    const char *level = entry ? att_level_name(entry->level) : "-";
    check_values v = { 0 };
    case_result result;
    error e;
    const bool grad =
        c->grad && (entry ? entry->kernel->backward != NULL
                          : c->mechanism->backward != NULL);
    const char *why = NULL;

    if (check_values_make(&v, c->mechanism, &c->problem, grad, &e) ||
        case_file_fill(c, &v, &e)) {
        print_failure(t, c->name, kernel, level, e.text);
        check_values_free(&v);
        return;
    }
    if (entry) why = check_run(entry, threads, &check_heap, &v);
    else check_reference(&v, NULL);
    if (why) print_skip(t, c->name, kernel, level, why);
    else if (case_file_compare(c, &v, !entry, &result, &e))
        print_failure(t, c->name, kernel, level, e.text);
    else print_result(t, c->name, kernel, level, &result);
    if (!why && c->grad && !grad)
        print_skip(t, c->name, kernel, level, "has no backward");
    check_values_free(&v);
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
        if (reference_selected(s)) verify_one(&c, NULL, s->threads, t);
        const att_entry *entry;
        const size_t n = att_entries(&entry);
        for (size_t i = 0; i < n; i++)
            if (entry[i].mechanism == c.mechanism && selected(s, &entry[i]))
                verify_one(&c, &entry[i], s->threads, t);
    }
    case_file_free(&c);
}

/* ---- command --------------------------------------------------------------------- */

static const char doc[] =
    "Compares the reference and every kernel, at every level of this machine, "
    "with the expected results in case files (safetensors); a line for each, "
    "with the largest |x - expected| / (1 + |expected|), its tolerance and "
    "tensor, and the tensors compared (those in parentheses are in the file "
    "but not told by the mechanism).  Without files: every kernel against its "
    "reference on many shapes.\v"
    "Exit code 1 if anything failed.  `attnbench verify tests/golden/*` is "
    "what `make test` runs.";

static const struct argp_option options[] = {
    { "kernel", 'k', "NAMES", 0,
      "only these, with commas; patterns like 'na2d.*'; 'reference' is one", 0 },
    { "mechanism", 'm', "NAMES", 0, "only these mechanisms", 0 },
    { "level", 'l', "LEVEL", 0, "only v2, v3, v4, base or best", 0 },
    { "threads", 't', "N", 0, "threads of the kernels (default 2)", 0 },
    { 0 },
};

typedef struct arguments {
    selection selection;
    char **files;
    int count;
} arguments;

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
            argp_error(state, "unknown level '%s': one of base, v2, v3, v4, "
                              "best",
                       text);
        else if (a->selection.level > (int)att_level_best())
            argp_failure(state, EXIT_MISSING, 0, "this CPU cannot run %s",
                         text);
        break;
    case 't': {
        const long n = strtol(text, &end, 10);
        if (end == text || *end || n < 1 || n > 4096)
            argp_error(state, "--threads=%s: not a number from 1 to 4096", text);
        a->selection.threads = (int)n;
        break;
    }
    case ARGP_KEY_ARGS:
        a->files = state->argv + state->next;
        a->count = state->argc - state->next;
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int command_verify(int argc, char **argv)
{
    static const struct argp argp = { options, parse, "[CASEFILE...]", doc,
                                      NULL,    NULL,  NULL };
    arguments a = { .selection = { .level = -1, .threads = 2 } };
    tally t = { 0 };
    error e;

    argp_err_exit_status = EXIT_USAGE;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (check_selection(&a.selection, &e)) {
        fprintf(stderr, "%s: %s\n", argv[0], e.text);
        return EXIT_USAGE;
    }
    for (int i = 0; i < a.count; i++) verify_file(a.files[i], &a.selection, &t);
    printf("%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped);
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "%s: cannot write the results to standard output\n",
                argv[0]);
        return EXIT_USAGE;
    }
    return t.failed ? EXIT_GATE : EXIT_OK;
}
