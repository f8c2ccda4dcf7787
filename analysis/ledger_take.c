/* ledger_take.c - paths into JSON, means over seeds, ratios of quantities.
 *
 * A path is steps from the top of a file (of a journal: the list of its rows):
 * a member's name, an index, * for every element, [NAME=VALUE] for the elements
 * of a list that have that member, where NAME may be a path of names itself.
 *     layers.*.*.rank_f64
 *     [kernel=softmax.flash][problem.head_dim=64].time_ns.median
 */
#include "ledger_take.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/file.h"
#include "../harness/stats.h"
#include "trainrecord.h"

/* ---- files ------------------------------------------------------------------ */

/* A journal as a list of its rows. */
static json *read_rows(const char *path, error *e)
{
    char *text, *line;
    size_t size;
    if (file_read(path, (size_t)1 << 30, &text, &size, e) < 0) return NULL;
    json *rows = json_array();
    for (line = text; *line;) {
        const size_t n = strcspn(line, "\n");
        if (n) {
            json *row = json_parse(line, n, path, e);
            if (!row) {
                json_free(rows);
                free(text);
                return NULL;
            }
            json_push(rows, row);
        }
        line += n + (line[n] == '\n');
    }
    free(text);
    return rows;
}

static bool ends(const char *text, const char *with)
{
    const size_t n = strlen(text), m = strlen(with);
    return n >= m && !strcmp(text + n - m, with);
}

/* The file of a run, read once; NULL with e. */
static const json *file_of(ledger_run *r, const char *dir, const char *name,
                           error *e)
{
    if (!r->done) {
        error_set(e, "%s", *r->reason ? r->reason : "its run was not made");
        return NULL;
    }
    if (!name)
        name = !strcmp(r->word[0], "maps") ? "metrics.json" : "journal.jsonl";
    if (r->file && !strcmp(r->file_name, name)) return r->file;
    char *folder = path_join(dir, r->name);
    char *path = r->ships ? train_record_path(r->ships)
                          : path_join(folder, name);
    json_free(r->file);
    r->file = ends(path, ".jsonl") ? read_rows(path, e)
                                   : json_read_file(path, e);
    r->file_name = name;
    free(folder);
    free(path);
    return r->file;
}

/* ---- paths ------------------------------------------------------------------ */

/* Numbers that a path leads to, with the intervals beside them. */
typedef struct found {
    double value[4096], lo[4096], hi[4096];
    int count;
} found;

static const json *member(const json *from, const char *names)
{
    char name[64];
    while (from && *names) {
        const size_t n = strcspn(names, ".");
        snprintf(name, sizeof name, "%.*s", (int)n, names);
        const int index = atoi(name);
        from = json_is_array(from) ? json_at(from, index)
                                   : json_get(from, name);
        names += n + (names[n] == '.');
    }
    return from;
}

/* [NAME=VALUE] at the start of path: is this the element? */
static bool matches(const json *element, const char *path)
{
    char name[128], value[128], number[64];
    if (sscanf(path, "[%127[^]=]=%127[^]]]", name, value) != 2) return false;
    const json *x = member(element, name);
    if (json_text(x)) return !strcmp(json_text(x), value);
    snprintf(number, sizeof number, "%.12g", json_number(x, NAN));
    return !strcmp(number, value);
}

static void add(found *f, const json *parent, const json *x)
{
    if (!json_is_number(x) || f->count == 4096) return;
    f->value[f->count] = json_number(x, NAN);
    f->lo[f->count] = json_number(json_get(parent, "lo"), NAN);
    f->hi[f->count] = json_number(json_get(parent, "hi"), NAN);
    f->count++;
}

static void walk(const json *from, const char *path, found *out);

static void walk_all(const json *list, const char *rest, const char *filter,
                     found *out)
{
    for (const json *x = json_first(list); x; x = json_next(x)) {
        const char *then = rest;
        bool keep = true;
        for (const char *at = filter; at && *at == '['; at = then) {
            keep = keep && matches(x, at);
            then = at + strcspn(at, "]") + 1;
        }
        if (keep) walk(x, then + (*then == '.'), out);
    }
}

static void walk(const json *from, const char *path, found *out)
{
    char name[64];
    if (!from) return;
    if (*path == '[') {
        walk_all(from, path, path, out);
        return;
    }
    const size_t n = strcspn(path, ".[");
    snprintf(name, sizeof name, "%.*s", (int)n, path);
    const char *rest = path + n + (path[n] == '.');
    if (!strcmp(name, "*")) {
        walk_all(from, rest, NULL, out);
        return;
    }
    const json *x = member(from, name);
    if (*rest) walk(x, rest, out);
    else add(out, from, x);
}

/* ---- reductions -------------------------------------------------------------- */

/* One number of many, by name; NAN: no such name, or not exactly one. */
static double reduce(const char *how, const double *x, int n)
{
    stats_summary all;
    double sum = 0, most = -INFINITY;
    if (n == 0 || (!how && n > 1)) return NAN;
    if (!how) return x[0];
    stats_summarise(x, n, &all);
    for (int i = 0; i < n; i++) {
        sum += x[i];
        most = fmax(most, x[i]);
    }
    if (!strcmp(how, "mean")) return sum / n;
    if (!strcmp(how, "min")) return all.min;
    if (!strcmp(how, "max")) return most;
    return !strcmp(how, "median") ? all.median : NAN;
}

/* Median of the ratios of two lists, element by element: of samples that were
 * taken in turn. */
static int take_turns(const json *file, const json *paths, ledger_quantity *q,
                      error *e)
{
    const char *first = json_text(json_at(paths, 0));
    const char *second = json_text(json_at(paths, 1));
    found *a = calloc(2, sizeof *a), *b = a + 1;
    stats_summary ratio;
    if (!a) abort();
    if (first && second) {
        walk(file, first, a);
        walk(file, second, b);
    }
    const int n = a->count;
    const bool turns = n > 0 && n == b->count;
    for (int i = 0; i < n && turns; i++) a->value[i] /= b->value[i];
    if (turns) stats_summarise(a->value, n, &ratio);
    free(a);
    if (!turns)
        return error_set(e, "its two paths do not lead to equally many numbers");
    q->count = 1;
    q->value[0] = ratio.median;
    q->lo[0] = ratio.lo;
    q->hi[0] = ratio.hi;
    return 0;
}

/* ---- rounds of a sweep ------------------------------------------------------ */

/* The only row that [NAME=VALUE]... finds, or NULL. */
static const json *only_row(const json *rows, const char *filters)
{
    const json *only = NULL;
    for (const json *x = json_first(rows); x; x = json_next(x)) {
        bool keep = true;
        for (const char *at = filters; *at == '['; at += strcspn(at, "]") + 1)
            keep = keep && matches(x, at);
        if (keep && only) return NULL;
        if (keep) only = x;
    }
    return only;
}

/* Median of the undisturbed values of a process, of all if there are none. */
static double process_median(const json *process)
{
    const json *ns = json_get(process, "ns");
    const json *touched = json_get(process, "touched");
    const int all = json_size(ns), clean = all - json_size(touched);
    double *value = malloc(((size_t)all + 1) * sizeof *value);
    int n = 0, i = 0;
    if (!value) abort();
    for (const json *x = json_first(ns); x; x = json_next(x), i++)
        if (clean <= 0 || !json_holds(touched, i)) value[n++] = json_number(x, NAN);
    const double median = reduce("median", value, n);
    free(value);
    return median;
}

/* In a round of a sweep each case has a process of its own, one after the other:
 * a ratio is taken round by round, while the machine is the same.  Geometric
 * mean, Student's interval of the logarithms. */
static int take_rounds(const json *file, const json *filters,
                       ledger_quantity *q, error *e)
{
    double ratio[LEDGER_VALUES], mean = 0, squares = 0;
    const char *first = json_text(json_at(filters, 0));
    const char *second = json_text(json_at(filters, 1));
    const json *a = first ? only_row(file, first) : NULL;
    const json *b = second ? only_row(file, second) : NULL;
    if (!a || !b)
        return error_set(e, "'%s' does not choose one row",
                         a ? second : first ? first : "?");
    a = json_first(json_get(json_get(a, "time_ns"), "samples"));
    b = json_first(json_get(json_get(b, "time_ns"), "samples"));
    int n = 0;
    for (; a && b && n < LEDGER_VALUES; a = json_next(a), b = json_next(b))
        ratio[n++] = log(process_median(a) / process_median(b));
    if (n == 0) return error_set(e, "'%s' or '%s' has no samples", first, second);
    for (int i = 0; i < n; i++) mean += ratio[i] / n;
    for (int i = 0; i < n; i++) squares += pow(ratio[i] - mean, 2);
    const double half =
        n > 1 ? stats_student(n - 1) * sqrt(squares / (n - 1) / n) : NAN;
    q->count = 1;
    q->value[0] = exp(mean);
    q->lo[0] = exp(mean - half);
    q->hi[0] = exp(mean + half);
    return isnan(mean) ? error_set(e, "samples without times") : 0;
}

/* One path, or a list of them whose numbers are taken together. */
static void walk_paths(const json *from, const json *paths, found *out)
{
    const json *x = json_is_array(paths) ? json_first(paths) : paths;
    for (; x; x = json_is_array(paths) ? json_next(x) : NULL)
        if (json_text(x)) walk(from, json_text(x), out);
}

/* A list (`each`): what `path` finds in every element that `each` finds. */
static int take_run(const json *file, const json *source, ledger_quantity *q,
                    error *e)
{
    const char *how = json_text(json_get(source, "reduce"));
    const json *path = json_get(source, "path");
    const char *each = json_text(json_get(source, "each"));
    const double scale = json_number(json_get(source, "scale"), 1);
    const json *list = each ? member(file, each) : file;
    if (json_get(source, "turns"))
        return take_turns(file, json_get(source, "turns"), q, e);
    if (json_get(source, "rounds"))
        return take_rounds(file, json_get(source, "rounds"), q, e);
    if (!path) return error_set(e, "has no \"path\"");
    const json *x = each ? json_first(list) : list;
    q->count = 0;
    for (; x; x = each ? json_next(x) : NULL) {
        found f = { .count = 0 };
        walk_paths(x, path, &f);
        const int i = q->count++;
        if (q->count > LEDGER_VALUES) return error_set(e, "is too long a list");
        q->value[i] = scale * reduce(how, f.value, f.count);
        const bool one = !how && f.count == 1;
        q->lo[i] = one ? scale * f.lo[0] : NAN;
        q->hi[i] = one ? scale * f.hi[0] : NAN;
        if (isnan(q->value[i]))
            return error_set(e, "'%s' leads to %d numbers%s",
                             json_text(path) ? json_text(path) : "a list",
                             f.count,
                             how || f.count < 2 ? "" : ": say how to reduce");
    }
    return q->count ? 0 : error_set(e, "'%s' leads nowhere", each);
}

/* Mean over runs that differ in their seed, with Student's interval. */
static void average(const ledger_quantity *each, int runs, ledger_quantity *q)
{
    q->runs = runs;
    q->count = each[0].count;
    for (int i = 0; i < q->count; i++) {
        double sum = 0, squares = 0;
        for (int r = 0; r < runs; r++) sum += each[r].value[i];
        q->value[i] = sum / runs;
        for (int r = 0; r < runs; r++)
            squares += pow(each[r].value[i] - q->value[i], 2);
        const double half = stats_student(runs - 1) *
                            sqrt(squares / (runs - 1) / runs);
        q->lo[i] = runs > 1 ? q->value[i] - half : each[0].lo[i];
        q->hi[i] = runs > 1 ? q->value[i] + half : each[0].hi[i];
    }
}

static int take_runs(ledger *l, const json *source, const char *dir,
                     ledger_quantity *q, error *e)
{
    enum { SEEDS = 16 };
    const json *names = json_get(source, "run");
    ledger_quantity *each = calloc(SEEDS, sizeof *each);
    if (!each) abort();
    int runs = 0, rc = 0;
    const json *x = json_is_array(names) ? json_first(names) : names;
    for (; x && rc == 0; x = json_is_array(names) ? json_next(x) : NULL) {
        ledger_run *r =
            json_text(x) ? ledger_find_run(l, json_text(x)) : NULL;
        error why = { "" };
        const json *file = NULL;
        if (!r || runs == SEEDS)
            rc = error_set(&why, "there is no such run");
        else
            file = file_of(r, dir, json_text(json_get(source, "file")), &why);
        if (!file || take_run(file, source, &each[runs], &why) < 0)
            rc = error_set(e, "run %s: %s", json_text(x) ? json_text(x) : "?",
                           why.text);
        else if (each[runs++].count != each[0].count)
            rc = error_set(e, "runs give lists of different lengths");
    }
    if (rc == 0 && runs == 0) rc = error_set(e, "names no run");
    if (rc == 0) average(each, runs, q);
    free(each);
    return rc;
}

/* ---- quantities made of quantities ------------------------------------------- */

/* Of two independent intervals: the widest ratio or difference they allow. */
static int take_pair(const ledger_claim *c, const json *names, bool ratio,
                     ledger_quantity *q, error *e)
{
    const char *first = json_text(json_at(names, 0));
    const char *second = json_text(json_at(names, 1));
    const ledger_quantity *a = first ? ledger_find(c, first) : NULL;
    const ledger_quantity *b = second ? ledger_find(c, second) : NULL;
    if (!a || !b) return error_set(e, "names a quantity that is not there");
    if (!a->count || !b->count)
        return error_set(e, "%s", a->count ? b->reason : a->reason);
    if (a->count != b->count && a->count != 1 && b->count != 1)
        return error_set(e, "its two lists differ in length");
    q->count = a->count > b->count ? a->count : b->count;
    for (int i = 0; i < q->count; i++) {
        const int j = a->count == 1 ? 0 : i, k = b->count == 1 ? 0 : i;
        const double x = a->value[j], y = b->value[k];
        q->value[i] = ratio ? x / y : x - y;
        q->lo[i] = ratio ? a->lo[j] / b->hi[k] : a->lo[j] - b->hi[k];
        q->hi[i] = ratio ? a->hi[j] / b->lo[k] : a->hi[j] - b->lo[k];
    }
    return 0;
}

/* A list of scalars. */
static int take_list(const ledger_claim *c, const json *names,
                     ledger_quantity *q, error *e)
{
    for (const json *x = json_first(names); x; x = json_next(x)) {
        const ledger_quantity *a =
            json_text(x) ? ledger_find(c, json_text(x)) : NULL;
        if (!a || q->count == LEDGER_VALUES)
            return error_set(e, "names a quantity that is not there");
        if (a->count != 1) return error_set(e, "%s", a->reason);
        q->value[q->count] = a->value[0];
        q->lo[q->count] = a->lo[0];
        q->hi[q->count++] = a->hi[0];
    }
    return q->count ? 0 : error_set(e, "is an empty list");
}

void ledger_take(ledger *l, const ledger_claim *c, ledger_quantity *q,
                 const char *dir)
{
    const json *s = q->source, *number = json_get(s, "value");
    error e = { "" };
    int rc;
    q->count = 0;
    if (json_is_number(number)) {
        q->count = 1;
        q->value[0] = json_number(number, NAN);
        q->lo[0] = q->hi[0] = NAN;
        rc = 0;
    } else if (json_get(s, "ratio"))
        rc = take_pair(c, json_get(s, "ratio"), true, q, &e);
    else if (json_get(s, "difference"))
        rc = take_pair(c, json_get(s, "difference"), false, q, &e);
    else if (json_get(s, "list"))
        rc = take_list(c, json_get(s, "list"), q, &e);
    else rc = take_runs(l, s, dir, q, &e);
    if (rc == 0) return;
    q->count = 0;
    snprintf(q->reason, sizeof q->reason, "%.500s", e.text);
}
