/* merge.c - attnbench merge OUT DIR...: joins the journals of several runs. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness/commands.h"
#include "../harness/file.h"
#include "../harness/journal.h"
#include "options.h"

static const char doc[] =
    "Joins the journals of several runs (shards, machines) into OUT.\v"
    "Rows that are the same are kept once.  Within one journal the last row of "
    "a case counts; an interrupted case gives way to a finished one.  Two "
    "different results of one case in one environment are a conflict: they are "
    "named and nothing is written, unless --prefer says which journal wins.  "
    "Rows that end a run (totals, fits) are left out, since they are of the "
    "parts; 'attnbench sweep' on OUT makes them anew; so are rows of single "
    "processes whose case is finished.\n\n"
    "Exit code 1, with the others merged, if a journal cannot be read, or a part "
    "of a sweep (--shard) is missing or did not come to its end.";

static const struct argp_option options[] = {
    { "prefer", 'p', "WHICH", 0, "first or last journal in a conflict", 0 },
    { 0 },
};

enum { NOBODY, FIRST, LAST };

typedef struct arguments {
    const char *out;
    char **dir;
    int count;
    int prefer;
} arguments;

static error_t parse(int key, char *text, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case 'p':
        if (strcmp(text, "first") && strcmp(text, "last"))
            argp_failure(state, EXIT_USAGE, 0,
                         "--prefer=%s: use first or last", text);
        a->prefer = !strcmp(text, "first") ? FIRST : LAST;
        break;
    case ARGP_KEY_ARG:
        if (!a->out) {
            a->out = text;
            break;
        }
        a->dir = realloc(a->dir, (size_t)(a->count + 1) * sizeof *a->dir);
        if (!a->dir) abort();
        a->dir[a->count++] = text;
        break;
    case ARGP_KEY_END:
        if (!a->count)
            argp_failure(state, EXIT_USAGE, 0,
                         "which runs? OUT, then their folders");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- rows ---------------------------------------------------------------- */

typedef struct entry {
    const json *json;
    const struct row *row;
    const char *kind;
    const char *name; /* of a case; id of an env row                         */
    const char *env;  /* of a case; ""                                       */
    int journal;
    int place; /* in the order of all rows                                   */
} entry;

typedef struct merged {
    journal *journal;
    entry *row;
    int count;
    int ends, same, conflicts, again;
    char first_conflict[512];
    int failed; /* journals that cannot be read, parts that are missing     */
} merged;

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

/* Whether a row of that case comes behind row i: what its single processes have
 * brought is in it. */
static bool is_finished(const journal *j, int i)
{
    for (int k = i + 1; k < j->count; k++)
        if (row_has(j->row[k].kind, "case") &&
            row_has(j->row[k].case_, j->row[i].case_))
            return true;
    return false;
}

static void collect(merged *m, const arguments *a)
{
    int total = 0;
    for (int d = 0; d < a->count; d++) total += m->journal[d].count;
    m->row = malloc((size_t)(total + 1) * sizeof *m->row);
    if (!m->row) abort();
    for (int d = 0; d < a->count; d++)
        for (int i = 0; i < m->journal[d].count; i++) {
            const struct row *row = &m->journal[d].row[i];
            const bool is_case = row_has(row->kind, "case");
            if (row_has(row->kind, "pass") && is_finished(&m->journal[d], i))
                continue;
            if (row_has(row->kind, "end")) {
                m->ends++;
                continue;
            }
            m->row[m->count] = (entry){
                .json = m->journal[d].rows[i],
                .row = row,
                .kind = row->kind,
                .name = or_empty(is_case ? row->case_ : row->id),
                .env = or_empty(is_case ? row->env : NULL),
                .journal = d,
                .place = m->count,
            };
            m->count++;
        }
}

static bool same_row(const entry *a, const entry *b)
{
    char *x = json_print(a->json, false), *y = json_print(b->json, false);
    const bool same = !strcmp(x, y);
    free(x);
    free(y);
    return same;
}

static bool interrupted(const entry *r)
{
    return row_has(r->row->status, "interrupted");
}

/* By what a row is about, then by place. */
static int by_subject(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    int c = strcmp(x->kind, y->kind);
    if (!c) c = strcmp(x->env, y->env);
    if (!c) c = strcmp(x->name, y->name);
    return c ? c : x->place - y->place;
}

static bool same_subject(const entry *a, const entry *b)
{
    return !strcmp(a->kind, b->kind) && !strcmp(a->env, b->env) &&
           !strcmp(a->name, b->name);
}

static int by_name(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    const int c = strcmp(x->name, y->name);
    return c ? c : x->place - y->place;
}

/* Cases that several journals have measured by the same code: tables take the
 * last. */
static void count_again(merged *m)
{
    for (int i = 1; i < m->count; i++) {
        const entry *x = &m->row[i - 1], *y = &m->row[i];
        m->again += !strcmp(x->kind, "case") && !strcmp(y->kind, "case") &&
                    !strcmp(x->name, y->name) && x->journal != y->journal &&
                    !strcmp(or_empty(x->row->code), or_empty(y->row->code));
    }
}

static int by_place(const void *a, const void *b)
{
    return ((const entry *)a)->place - ((const entry *)b)->place;
}

/* ---- which of two rows stays --------------------------------------------- */

static void note_conflict(merged *m, const entry *a, const entry *b)
{
    if (m->conflicts++) return;
    snprintf(m->first_conflict, sizeof m->first_conflict, "%s %s: %s and %s",
             a->kind, a->name, m->journal[a->journal].path,
             m->journal[b->journal].path);
}

/* a comes before b; returns the one to keep, at the place of the first. */
static entry settle(merged *m, const entry *a, const entry *b, int prefer)
{
    entry kept = *b;
    if (same_row(a, b)) {
        m->same++;
        return *a;
    }
    if (interrupted(b) && !interrupted(a)) return *a;
    if (a->journal != b->journal && !interrupted(a)) {
        if (prefer == NOBODY) note_conflict(m, a, b);
        if (prefer == FIRST) return *a;
    }
    /* an env row must stay before its cases */
    kept.place = a->place;
    return kept;
}

static void settle_all(merged *m, int prefer)
{
    int kept = 0;
    qsort(m->row, (size_t)m->count, sizeof *m->row, by_subject);
    for (int i = 0; i < m->count; i++)
        if (kept && same_subject(&m->row[kept - 1], &m->row[i]))
            m->row[kept - 1] = settle(m, &m->row[kept - 1], &m->row[i], prefer);
        else m->row[kept++] = m->row[i];
    m->count = kept;
    qsort(m->row, (size_t)m->count, sizeof *m->row, by_name);
    count_again(m);
    qsort(m->row, (size_t)m->count, sizeof *m->row, by_place);
}

/* ---- parts of a sweep ---------------------------------------------------- */

/* What the rows of all journals tell of one part. */
enum { UNKNOWN, BEGUN, ENDED };

/* More parts than this are a mistake. */
enum { MOST_PARTS = 1 << 20 };

static int part_number(const json *x)
{
    const double n = json_number(x, 0);
    return n >= 1 && n < MOST_PARTS ? (int)n : 0;
}

/* 0: the row tells of no part. */
static int shard_of(const json *j, int *shards)
{
    const json *run = json_get(j, "run");
    *shards = part_number(json_get(run, "shards"));
    return part_number(json_get(run, "shard"));
}

/* Whether the journal has rows of several parts of that many: it was merged, and
 * lacks the rows that end them. */
static bool was_merged(const journal *j, int shards)
{
    int first = 0, of;
    for (int i = 0; i < j->envs; i++) {
        const int shard = shard_of(j->env[i], &of);
        if (of != shards) continue;
        if (first && shard && shard != first) return true;
        if (shard) first = shard;
    }
    return false;
}

/* Takes what a journal tells of the parts of a sweep in `shards` parts. */
static void note_parts(const journal *j, int shards, char *state)
{
    const bool whole = was_merged(j, shards);
    for (int i = 0; i < j->count; i++) {
        int of;
        const int shard = shard_of(j->rows[i], &of);
        const char *kind = j->row[i].kind;
        if (of != shards || shard < 1 || shard > shards) continue;
        if (whole || !strcmp(kind, "end")) state[shard] = ENDED;
        else if (!strcmp(kind, "env")) state[shard] = BEGUN;
    }
}

static void say_parts(merged *m, const char *name, const arguments *a,
                      int shards)
{
    enum { MOST_TOLD = 16 };
    char *state = calloc((size_t)shards + 1, 1);
    char *all = calloc((size_t)shards + 1, 1);
    if (!state || !all) abort();
    for (int d = 0; d < a->count; d++) {
        memset(state, UNKNOWN, (size_t)shards + 1);
        note_parts(&m->journal[d], shards, state);
        for (int p = 1; p <= shards; p++)
            if (state[p] > all[p]) all[p] = state[p];
    }
    for (int p = 1, told = 0; p <= shards; p++) {
        if (all[p] == ENDED) continue;
        m->failed++;
        if (told++ == MOST_TOLD)
            fprintf(stderr, "%s: and others of the %d\n", name, shards);
        if (told > MOST_TOLD) continue;
        fprintf(stderr, "%s: part %d of %d %s\n", name, p, shards,
                all[p] == BEGUN ? "did not come to its end" : "is missing");
    }
    free(state);
    free(all);
}

/* Each number of parts that a sweep was dealt into. */
static void check_parts(merged *m, const char *name, const arguments *a)
{
    int last = 1;
    for (;;) {
        int next = MOST_PARTS;
        for (int d = 0; d < a->count; d++)
            for (int i = 0; i < m->journal[d].count; i++) {
                int of;
                shard_of(m->journal[d].rows[i], &of);
                if (of > last && of < next) next = of;
            }
        if (next == MOST_PARTS) return;
        say_parts(m, name, a, next);
        last = next;
    }
}

/* ---- writing ------------------------------------------------------------- */

static bool is_input(const arguments *a)
{
    for (int d = 0; d < a->count; d++)
        if (!strcmp(a->dir[d], a->out)) return true;
    return false;
}

static int write_rows(const merged *m, const char *path, error *e)
{
    file_writer w;
    if (file_begin(&w, path, e) < 0) return -1;
    for (int i = 0; i < m->count; i++) {
        char *text = json_print(m->row[i].json, false);
        fprintf(w.stream, "%s\n", text);
        free(text);
    }
    return file_commit(&w, e);
}

/* The journal of OUT is locked meanwhile, so that no sweep adds to the file
 * that the new one replaces.  Returns an exit code. */
static int write_journal(const merged *m, const arguments *a, error *e)
{
    char *path = path_join(a->out, "journal.jsonl");
    const bool there = access(path, F_OK) == 0;
    journal_writer lock;
    int code = EXIT_MISSING;
    if (there && !is_input(a)) {
        error_set(e, "%s is there already: choose another folder, or name it "
                     "among the runs, too", path);
        code = EXIT_USAGE;
    } else if ((there ? journal_open(&lock, a->out, NULL, e)
                      : folder_make(a->out, e)) == 0) {
        if (write_rows(m, path, e) == 0) code = EXIT_OK;
        if (there) journal_close(&lock);
    }
    free(path);
    return code;
}

static int merge(const arguments *a, const char *name, merged *m, error *e)
{
    int cases = 0;
    for (int d = 0; d < a->count; d++)
        if (m->journal[d].torn)
            fprintf(stderr, "%s: %s: the last line is not finished and left "
                            "out\n", name, m->journal[d].path);
    collect(m, a);
    settle_all(m, a->prefer);
    for (int i = 0; i < m->count; i++) cases += !strcmp(m->row[i].kind, "case");
    if (m->conflicts) {
        fprintf(stderr, "%s: %d conflict%s, the first: %s; --prefer first|last "
                        "decides; nothing written\n", name, m->conflicts,
                m->conflicts == 1 ? "" : "s", m->first_conflict);
        return EXIT_GATE;
    }
    const int code = write_journal(m, a, e);
    if (code != EXIT_OK) return options_fail(name, e, code);
    fprintf(stderr, "%s: %d cases in %s; %d rows were there twice, %d closing "
                    "rows left out\n", name, cases, a->out, m->same, m->ends);
    if (m->again)
        fprintf(stderr, "%s: %d case%s measured in several of these runs: tables "
                        "take the last row\n", name, m->again,
                m->again == 1 ? " was" : "s were");
    check_parts(m, name, a);
    return m->failed ? EXIT_GATE : EXIT_OK;
}

/* Reads the journals; those that cannot be read are told and left out.  False if
 * none is left. */
static bool read_all(merged *m, arguments *a, const char *name)
{
    int read = 0;
    error e;
    for (int d = 0; d < a->count; d++) {
        if (journal_read(&m->journal[read], a->dir[d], &e) == 0)
            a->dir[read++] = a->dir[d];
        else {
            options_fail(name, &e, 0);
            m->failed++;
        }
    }
    a->count = read;
    return read > 0;
}

int command_merge(int argc, char **argv)
{
    const struct argp argp = { options, parse, "OUT DIR...", doc, NULL, NULL,
                               NULL };
    arguments a = { 0 };
    merged m = { 0 };
    int code = EXIT_USAGE;
    error e;

    argp_err_exit_status = EXIT_USAGE;
    if (spelling_check(options, argc, argv, &e) < 0)
        return options_fail(argv[0], &e, EXIT_USAGE);
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    m.journal = calloc((size_t)a.count, sizeof *m.journal);
    if (!m.journal) abort();
    if (read_all(&m, &a, argv[0])) code = merge(&a, argv[0], &m, &e);
    for (int d = 0; d < a.count; d++) journal_free(&m.journal[d]);
    free(m.journal);
    free(m.row);
    free(a.dir);
    return code;
}
