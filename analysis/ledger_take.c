/* ledger_take.c - paths into JSON, means over seeds, ratios of quantities.
 *
 * A path is steps from the top of a file (of a journal: the list of its rows):
 * a member's name, an index, * for every element, [NAME=VALUE] for the elements
 * of a list that have that member, where NAME may be a path of names itself.
 *     layers.*.*.rank_f64
 *     [kernel=softmax.flash][problem.head_dim=64].time_ns.median
 */
#define _GNU_SOURCE /* strndup */
#include "ledger_take.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/paired.h"
#include "../harness/file.h"
#include "../harness/journal.h"
#include "../harness/stats.h"
#include "trainrecord.h"

/* ---- files ------------------------------------------------------------------ */

/* Of the rows of a case the last one counts; so does the last end of a sweep. */
static bool replaces(const json *newer, const json *older)
{
    const char *kind = json_text(json_get(newer, "kind"));
    const char *was = json_text(json_get(older, "kind"));
    if (!kind || !was || strcmp(kind, was)) return false;
    if (!strcmp(kind, "end")) return true;
    const char *a = json_text(json_get(newer, "case"));
    const char *b = json_text(json_get(older, "case"));
    return a && b && !strcmp(kind, "case") && !strcmp(a, b);
}

/* A journal as a list of its rows. */
static json *read_rows(const char *dir, error *e)
{
    journal j;
    if (journal_read(&j, dir, e) < 0) return NULL;
    json *rows = json_array();
    for (int i = 0; i < j.count; i++) {
        int k = i + 1;
        while (k < j.count && !replaces(j.rows[k], j.rows[i])) k++;
        if (k == j.count) json_push(rows, json_copy(j.rows[i]));
    }
    journal_free(&j);
    return rows;
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
    r->file = !r->ships && !strcmp(name, "journal.jsonl")
                  ? read_rows(folder, e)
                  : json_read_file(path, e);
    r->file_name = name;
    free(folder);
    free(path);
    return r->file;
}

/* ---- paths ------------------------------------------------------------------ */

/* Numbers that a path leads to, with the intervals beside them. */
typedef struct found {
    ledger_number *of;
    int count;
    int missing;        /* elements that it chose and that have no number      */
    double least, most; /* that all of them can be                             */
} found;

/* Member or element by a name or index of n characters. */
static const json *step(const json *from, const char *name, size_t n)
{
    char *copy = strndup(name, n);
    if (!copy) abort();
    const bool index = n > 0 && n < 10 && strspn(copy, "0123456789") == n;
    const json *x = json_is_array(from)
                        ? (index ? json_at(from, atoi(copy)) : NULL)
                        : json_get(from, copy);
    free(copy);
    return x;
}

static const json *member(const json *from, const char *names, size_t length)
{
    const char *end = names + length;
    while (from && names < end) {
        const size_t n = strcspn(names, "."), left = (size_t)(end - names);
        from = step(from, names, n < left ? n : left);
        names += n + 1;
    }
    return from;
}

/* [NAME=VALUE] at the start of path: is this the element? */
static bool matches(const json *element, const char *path)
{
    char number[64];
    const char *name = path + 1, *value = strchr(name, '=');
    const char *end = value ? strchr(value, ']') : NULL;
    if (!end) return false;
    const json *x = member(element, name, (size_t)(value - name));
    const char *text = json_text(x);
    if (!text && !json_is_number(x)) return false;
    if (!text) {
        snprintf(number, sizeof number, "%.12g", json_number(x, NAN));
        text = number;
    }
    const size_t n = (size_t)(end - ++value);
    return strlen(text) == n && !strncmp(text, value, n);
}

/* Between what a member can be, by the beginning of its name.  COLUMNS: the
 * columns of the matrix that it is of. */
#define COLUMNS (-1.0)
static const struct limits {
    const char *name;
    double least, most;
} limits[] = {
    { "mass_", 0, 1 },
    { "u_r", 0, 1 },
    { "entropy_norm", 0, 1 },
    { "entropy", 0, INFINITY },
    { "maxw", 0, 1 },
    { "top", 0, 1 },
    { "accuracy", 0, 1 },
    { "share", 0, 1 },
    { "dist", 0, INFINITY },
    { "rank", 0, COLUMNS },
    { "erank", 0, COLUMNS },
    { "stable_rank", 0, COLUMNS },
    { "support", 0, COLUMNS },
    { "loss", 0, INFINITY },
    { "bits", 0, INFINITY },
    { "variance", 0, INFINITY },
    { "output_change", 0, INFINITY },
    { "median", 0, INFINITY },
};

/* A number beyond its limits means that the name is of another thing: none. */
static void limit(found *f, const json *parent, const char *name, double x)
{
    double least = -INFINITY, most = INFINITY;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        if (strncmp(name, limits[i].name, strlen(limits[i].name))) continue;
        least = limits[i].least;
        most = limits[i].most;
        if (most == COLUMNS)
            most = json_number(json_get(parent, "columns"), INFINITY);
        break;
    }
    f->least = fmin(f->least, x < least ? -INFINITY : least);
    f->most = fmax(f->most, x > most ? INFINITY : most);
}

/* A null that was measured, but says nothing: it may be anything. */
static bool is_undetermined(const json *parent, const json *x)
{
    static const char words[] = "not determined";
    const char *reason = json_text(json_get(parent, "reason"));
    return x && json_is_null(x) && reason &&
           !strncmp(reason, words, strlen(words));
}

/* lo and hi belong to the number that stands right before them. */
static void add(found *f, const json *parent, const json *x)
{
    const bool open = is_undetermined(parent, x);
    if (!json_is_number(x) && !open) {
        f->missing++;
        return;
    }
    const char *name = json_key(x) ? json_key(x) : "";
    const json *next = *name ? json_next(x) : NULL;
    const bool interval = next && json_key(next) && !strcmp(json_key(next), "lo");
    f->of = realloc(f->of, ((size_t)f->count + 1) * sizeof *f->of);
    if (!f->of) abort();
    f->of[f->count++] = (ledger_number){
        json_number(x, NAN),
        interval ? json_number(next, NAN) : NAN,
        interval ? json_number(json_get(parent, "hi"), NAN) : NAN,
    };
    if (open)
        f->of[f->count - 1] = (ledger_number){ NAN, -INFINITY, INFINITY };
    limit(f, parent, name, json_number(x, NAN));
}

static void walk(const json *from, const char *path, found *out);

static void walk_all(const json *list, const char *rest, const char *filter,
                     found *out)
{
    int kept = 0;
    for (const json *x = json_first(list); x; x = json_next(x)) {
        const char *then = rest;
        bool keep = true;
        for (const char *at = filter; at && *at == '['; at = then) {
            keep = keep && matches(x, at);
            then = at + strcspn(at, "]");
            then += *then == ']';
        }
        kept += keep;
        if (keep) walk(x, then + (*then == '.'), out);
    }
    out->missing += kept == 0;
}

static void walk(const json *from, const char *path, found *out)
{
    if (*path == '[') {
        walk_all(from, path, path, out);
        return;
    }
    const size_t n = strcspn(path, ".[");
    const char *rest = path + n + (path[n] == '.');
    if (n == 1 && *path == '*') {
        walk_all(from, rest, NULL, out);
        return;
    }
    const json *x = n ? step(from, path, n) : from; /* after a * at the end   */
    if (x && *rest) walk(x, rest, out);
    else add(out, from, x);
}

/* One path, or a list of them whose numbers are taken together; the caller frees
 * found.of. */
static found walk_paths(const json *from, const json *paths)
{
    found out = { .least = INFINITY, .most = -INFINITY };
    const json *x = json_is_array(paths) ? json_first(paths) : paths;
    for (; x; x = json_is_array(paths) ? json_next(x) : NULL)
        if (json_text(x)) walk(from, json_text(x), &out);
        else out.missing++;
    return out;
}

/* ---- reductions -------------------------------------------------------------- */

/* One number of many, by name; NAN: no such name, or not exactly one. */
static double reduce(const char *how, const ledger_number *of, int n)
{
    if (n == 0 || (!how && n > 1)) return NAN;
    if (!how) return of[0].value;
    stats_summary all;
    double sum = 0, most = -INFINITY;
    double *x = malloc((size_t)n * sizeof *x);
    if (!x) abort();
    for (int i = 0; i < n; i++) {
        x[i] = of[i].value;
        sum += x[i];
        most = fmax(most, x[i]);
    }
    stats_summarise(x, n, &all);
    free(x);
    if (!strcmp(how, "mean")) return sum / n;
    if (!strcmp(how, "min")) return all.min;
    if (!strcmp(how, "max")) return most;
    return !strcmp(how, "median") ? all.median : NAN;
}

/* Mean of x and Student's interval of it. */
static ledger_number mean_of(const double *x, int n)
{
    double mean = 0, squares = 0;
    for (int i = 0; i < n; i++) mean += x[i] / n;
    for (int i = 0; i < n; i++) squares += pow(x[i] - mean, 2);
    const double half =
        n > 1 ? stats_student(n - 1) * sqrt(squares / (n - 1) / n) : NAN;
    return (ledger_number){ mean, mean - half, mean + half };
}

/* The same of the logarithms. */
static ledger_number geometric_mean_of(double *x, int n)
{
    for (int i = 0; i < n; i++) x[i] = log(x[i]);
    const ledger_number m = mean_of(x, n);
    return (ledger_number){ exp(m.value), exp(m.lo), exp(m.hi) };
}

/* Median of the ratios of two lists, element by element: of samples that were
 * taken in turn. */
static int take_turns(const json *file, const json *paths, ledger_quantity *q,
                      error *e)
{
    if (!json_text(json_at(paths, 0)) || !json_text(json_at(paths, 1)))
        return error_set(e, "\"turns\" are two paths");
    found a = walk_paths(file, json_at(paths, 0));
    found b = walk_paths(file, json_at(paths, 1));
    const int n = a.count;
    const bool turns = n > 0 && n == b.count && !a.missing && !b.missing;
    double *ratio = malloc(((size_t)n + 1) * sizeof *ratio);
    stats_summary all;
    if (!ratio) abort();
    for (int i = 0; i < n && turns; i++)
        ratio[i] = a.of[i].value / b.of[i].value;
    if (turns) stats_summarise(ratio, n, &all);
    free(ratio);
    free(a.of);
    free(b.of);
    if (!turns)
        return error_set(e, "its two paths do not lead to equally many numbers");
    ledger_add(q, (ledger_number){ all.median, all.lo, all.hi });
    return 0;
}

/* ---- rounds of a sweep ------------------------------------------------------ */

/* The only row that [NAME=VALUE]... finds; NULL with e. */
static const json *only_row(const json *rows, const char *filters, error *e)
{
    const json *only = NULL;
    int n = 0;
    for (const json *x = json_first(rows); x; x = json_next(x)) {
        bool keep = *filters == '[';
        for (const char *at = filters; *at == '[';) {
            keep = keep && matches(x, at);
            at += strcspn(at, "]");
            at += *at == ']';
        }
        if (!keep) continue;
        only = x;
        n++;
    }
    if (n == 1) return only;
    error_set(e, "'%s' does not choose one row: %d are so", filters, n);
    return NULL;
}

/* Ratio of those rounds in which both sides have samples that count. */
static int ratio_of_rounds(const clean_samples *a, const clean_samples *b,
                           ledger_quantity *q, error *e)
{
    int n = 0, rounds = 0;
    double *ratio = malloc(((size_t)a->processes + 1) * sizeof *ratio);
    if (!ratio) abort();
    /* one that a neighbour spoilt may have passes that the other has not */
    for (int i = 0, k = 0; i < a->processes && k < b->processes;) {
        if (a->pass[i] < b->pass[k]) i++;
        else if (a->pass[i] > b->pass[k]) k++;
        else {
            if (a->count[i] && b->count[k])
                ratio[n++] = clean_median(a, i) / clean_median(b, k);
            rounds++, i++, k++;
        }
    }
    if (n < rounds)
        snprintf(q->note, sizeof q->note,
                 "%d of %d rounds left out: a side had no clean samples",
                 rounds - n, rounds);
    const bool turns = rounds > 1 || a->processes == b->processes;
    if (n && turns) ledger_add(q, geometric_mean_of(ratio, n));
    free(ratio);
    if (!turns)
        return error_set(e, "its rows have %d and %d processes: they took no "
                            "turns", a->processes, b->processes);
    return n ? 0 : error_set(e, "its rows have no round in common");
}

/* Both on an undisturbed core, where that is known of both. */
static int ratio_of_sides(const measurement *m, ledger_quantity *q, error *e)
{
    clean_samples side[2];
    paired known[2];
    const bool pairs = paired_take(&m[0], NULL, &known[0]) &&
                       paired_take(&m[1], NULL, &known[1]) &&
                       !strcmp(known[0].kind, known[1].kind);
    for (int s = 0; s < 2; s++)
        if (pairs) clean_take_paired(&m[s], &side[s]);
        else clean_take(&m[s], &side[s]);
    const int rc = ratio_of_rounds(&side[0], &side[1], q, e);
    for (int s = 0; s < 2; s++) clean_free(&side[s]);
    return rc;
}

/* In a round of a sweep each case has a process of its own, one after the other:
 * a ratio is taken round by round, while the machine is the same.  Geometric
 * mean, Student's interval of the logarithms. */
static int take_rounds(const json *file, const json *filters,
                       ledger_quantity *q, error *e)
{
    measurement m[2] = { 0 };
    int rc = 0;
    for (int s = 0; s < 2 && rc == 0; s++) {
        const char *filter = json_text(json_at(filters, s));
        const json *row = filter ? only_row(file, filter, e) : NULL;
        if (!filter) rc = error_set(e, "\"rounds\" are two [NAME=VALUE]...");
        else if (!row) rc = -1;
        else
            measurement_read(json_get(json_get(row, "time_ns"), "samples"),
                             &m[s]);
    }
    if (rc == 0) rc = ratio_of_sides(m, q, e);
    for (int s = 0; s < 2; s++) measurement_free(&m[s]);
    return rc;
}

/* ---- of one run ------------------------------------------------------------- */

/* One number of what was found. */
static int take_found(const found *f, const json *source, const char *path,
                      ledger_quantity *q, error *e)
{
    const char *how = json_text(json_get(source, "reduce"));
    const double scale = json_number(json_get(source, "scale"), 1);
    const bool one = !how && f->count == 1;
    if (f->missing)
        return error_set(e, "'%s' leads to %d numbers, and %d times to none",
                         path, f->count, f->missing);
    const double value = scale * reduce(how, f->of, f->count);
    if (isnan(value) && !(one && isinf(f->of[0].hi)))
        return error_set(e, "'%s' leads to %d numbers%s", path, f->count,
                         how || f->count < 2 ? "" : ": say how to reduce");
    const double lo = scale * (one ? f->of[0].lo : NAN);
    const double hi = scale * (one ? f->of[0].hi : NAN);
    ledger_add(q, (ledger_number){ value, scale < 0 ? hi : lo,
                                   scale < 0 ? lo : hi });
    q->least = fmin(q->least, fmin(scale * f->least, scale * f->most));
    q->most = fmax(q->most, fmax(scale * f->least, scale * f->most));
    return 0;
}

/* A list (`each`): what `path` finds in every element that `each` finds. */
static int take_run(const json *file, const json *source, ledger_quantity *q,
                    error *e)
{
    const json *path = json_get(source, "path");
    const char *each = json_text(json_get(source, "each"));
    const json *turns = json_get(source, "turns");
    if (turns || json_get(source, "rounds")) {
        q->least = 0;
        q->most = INFINITY;
        return turns ? take_turns(file, turns, q, e)
                     : take_rounds(file, json_get(source, "rounds"), q, e);
    }
    q->least = INFINITY;
    q->most = -INFINITY;
    if (!path) return error_set(e, "has no \"path\"");
    const json *list = each ? member(file, each, strlen(each)) : NULL;
    const json *x = each ? json_first(list) : file;
    for (; x; x = each ? json_next(x) : NULL) {
        found f = walk_paths(x, path);
        const int rc = take_found(
            &f, source, json_text(path) ? json_text(path) : "a list", q, e);
        free(f.of);
        if (rc < 0) return -1;
    }
    return q->count ? 0 : error_set(e, "'%s' leads nowhere", each);
}

/* ---- of runs ---------------------------------------------------------------- */

/* Mean over runs that differ in their seed, with Student's interval; of one run
 * its own. */
static void average(const ledger_quantity *each, int runs, ledger_quantity *q)
{
    const int count = each[0].count;
    double *x = malloc((size_t)runs * sizeof *x);
    q->seed = malloc((size_t)runs * (size_t)count * sizeof *q->seed);
    if (!x || !q->seed) abort();
    q->least = INFINITY;
    q->most = -INFINITY;
    for (int r = 0; r < runs; r++) {
        q->least = fmin(q->least, each[r].least);
        q->most = fmax(q->most, each[r].most);
        if (*each[r].note) memcpy(q->note, each[r].note, sizeof q->note);
        for (int i = 0; i < count; i++)
            q->seed[r * count + i] = each[r].of[i].value;
    }
    for (int i = 0; i < count; i++) {
        for (int r = 0; r < runs; r++) x[r] = each[r].of[i].value;
        ledger_add(q, runs > 1 ? mean_of(x, runs) : each[0].of[i]);
    }
    q->runs = runs;
    free(x);
}

/* Maps are computed in double from seeds: what a single run of `maps` says is
 * exact.  All else is sampled, unless the ledger says that it is not. */
static bool is_exact(const json *source, const ledger_run *r, int runs)
{
    const json *said = json_get(source, "exact");
    if (said) return json_true(said);
    return runs == 1 && !strcmp(r->word[0], "maps");
}

static int take_runs(ledger *l, const json *source, const char *dir,
                     ledger_quantity *q, error *e)
{
    const json *names = json_get(source, "run");
    const bool list = json_is_array(names);
    ledger_quantity *each = calloc(
        (size_t)(list ? json_size(names) : 1) + 1, sizeof *each);
    ledger_run *r = NULL;
    if (!each) abort();
    int runs = 0, rc = 0;
    const json *x = list ? json_first(names) : names;
    for (; x && rc == 0; x = list ? json_next(x) : NULL, runs++) {
        error why = { "" };
        const json *file = NULL;
        r = json_text(x) ? ledger_find_run(l, json_text(x)) : NULL;
        if (r)
            file = file_of(r, dir, json_text(json_get(source, "file")), &why);
        if (!file || take_run(file, source, &each[runs], &why) < 0)
            rc = error_set(e, "run %s: %s", json_text(x) ? json_text(x) : "?",
                           why.text);
        else if (each[runs].count != each[0].count)
            rc = error_set(e, "runs give lists of different lengths");
    }
    if (rc == 0 && runs == 0) rc = error_set(e, "names no run");
    if (rc == 0) {
        average(each, runs, q);
        q->exact = is_exact(source, r, runs);
    }
    for (int i = 0; i < runs; i++) ledger_clear(&each[i]);
    free(each);
    return rc;
}

/* ---- quantities made of quantities ------------------------------------------- */

/* A number with an interval in any case. */
static ledger_number span_of(const ledger_quantity *q, int i)
{
    ledger_number x = q->of[q->count == 1 ? 0 : i];
    if (!isnan(x.lo) && !isnan(x.hi)) return x;
    x.lo = q->exact ? x.value : q->least;
    x.hi = q->exact ? x.value : q->most;
    return x;
}

/* The widest ratio that two intervals allow: anything, if it can divide by 0. */
static ledger_number ratio_of(const ledger_number *a, const ledger_number *b)
{
    ledger_number r = { a->value / b->value, -INFINITY, INFINITY };
    if (a->lo >= 0 && b->lo >= 0) {
        r.lo = isinf(b->hi) ? 0 : a->lo / b->hi;
        r.hi = b->lo > 0 ? a->hi / b->lo : INFINITY;
    } else if (b->lo > 0 || b->hi < 0) {
        const double x[] = { a->lo / b->lo, a->lo / b->hi, a->hi / b->lo,
                             a->hi / b->hi };
        r.lo = fmin(fmin(x[0], x[1]), fmin(x[2], x[3]));
        r.hi = fmax(fmax(x[0], x[1]), fmax(x[2], x[3]));
    }
    return r;
}

/* Seed by seed: what the two have in common drops out. */
static int take_paired(const ledger_quantity *a, const ledger_quantity *b,
                       bool ratio, ledger_quantity *q, error *e)
{
    const int n = a->runs;
    if (n < 2 || b->runs != n || a->count != b->count)
        return error_set(e, "\"paired\" needs two quantities with as many runs "
                            "(%d and %d) and values (%d and %d)", a->runs,
                         b->runs, a->count, b->count);
    double *x = malloc((size_t)n * sizeof *x);
    if (!x) abort();
    int rc = 0;
    for (int i = 0; i < a->count; i++) {
        for (int r = 0; r < n; r++) {
            const double y = a->seed[r * a->count + i];
            const double z = b->seed[r * b->count + i];
            x[r] = ratio ? y / z : y - z;
            if (ratio && !(x[r] > 0 && isfinite(x[r])))
                rc = error_set(e, "a ratio of its pairs is %g", x[r]);
        }
        ledger_add(q, ratio ? geometric_mean_of(x, n) : mean_of(x, n));
    }
    free(x);
    q->runs = n;
    return rc;
}

/* Of two independent intervals: the widest ratio or difference they allow. */
static int take_pair(const ledger_claim *c, const json *source, bool ratio,
                     ledger_quantity *q, error *e)
{
    const json *names = json_get(source, ratio ? "ratio" : "difference");
    const char *first = json_text(json_at(names, 0));
    const char *second = json_text(json_at(names, 1));
    const ledger_quantity *a = first ? ledger_find(c, first) : NULL;
    const ledger_quantity *b = second ? ledger_find(c, second) : NULL;
    if (!a || !b || a >= q || b >= q)
        return error_set(e, "names a quantity that does not stand before it");
    if (!a->count || !b->count)
        return error_set(e, "%s", a->count ? b->reason : a->reason);
    if (a->count != b->count && a->count != 1 && b->count != 1)
        return error_set(e, "its two lists differ in length");
    q->least = ratio ? (a->least >= 0 && b->least >= 0 ? 0 : -INFINITY)
                     : a->least - b->most;
    q->most = ratio ? INFINITY : a->most - b->least;
    if (json_true(json_get(source, "paired")))
        return take_paired(a, b, ratio, q, e);
    q->exact = a->exact && b->exact;
    const int count = a->count > b->count ? a->count : b->count;
    for (int i = 0; i < count; i++) {
        const ledger_number x = span_of(a, i), y = span_of(b, i);
        ledger_number r = { x.value - y.value, x.lo - y.hi, x.hi - y.lo };
        if (ratio) r = ratio_of(&x, &y);
        if (!isfinite(r.value)) return error_set(e, "divides by 0");
        if (q->exact || (isinf(r.lo) && isinf(r.hi))) r.lo = r.hi = NAN;
        ledger_add(q, r);
    }
    return 0;
}

/* A list of scalars. */
static int take_list(const ledger_claim *c, const json *names,
                     ledger_quantity *q, error *e)
{
    q->exact = true;
    q->least = INFINITY;
    q->most = -INFINITY;
    for (const json *x = json_first(names); x; x = json_next(x)) {
        const ledger_quantity *a =
            json_text(x) ? ledger_find(c, json_text(x)) : NULL;
        if (!a || a >= q)
            return error_set(e, "names a quantity that does not stand before it");
        if (a->count != 1)
            return error_set(e, "%s", a->count ? "has a list in it" : a->reason);
        q->exact &= a->exact;
        q->least = fmin(q->least, a->least);
        q->most = fmax(q->most, a->most);
        ledger_add(q, a->of[0]);
    }
    /* beside sampled ones, exact ones have an interval of no width */
    int i = 0;
    for (const json *x = json_first(names); x; x = json_next(x), i++)
        if (!q->exact && ledger_find(c, json_text(x))->exact)
            q->of[i].lo = q->of[i].hi = q->of[i].value;
    return q->count ? 0 : error_set(e, "is an empty list");
}

/* ---- whole ------------------------------------------------------------------- */

/* Intervals end where the quantity does: as the ledger says, or as what it is. */
static int keep_bounds(const json *source, ledger_quantity *q, error *e)
{
    const json *bounds = json_get(source, "bounds");
    if (bounds) {
        q->least = json_number(json_at(bounds, 0), -INFINITY);
        q->most = json_number(json_at(bounds, 1), INFINITY);
    }
    for (int i = 0; i < q->count; i++) {
        ledger_number *x = &q->of[i];
        const double inside = fmin(fmax(x->value, q->least), q->most);
        if (fabs(x->value - inside) > 1e-9 * fmax(1, fabs(inside)))
            return error_set(e, "%g is outside of its bounds, %g to %g", x->value,
                             q->least, q->most);
        x->value = inside; /* a mean of ones may round to more */
        if (!isnan(x->lo)) x->lo = fmax(x->lo, q->least);
        if (!isnan(x->hi)) x->hi = fmin(x->hi, q->most);
    }
    return 0;
}

void ledger_take(ledger *l, const ledger_claim *c, ledger_quantity *q,
                 const char *dir)
{
    const json *s = q->source, *number = json_get(s, "value");
    error e = { "" };
    int rc = 0;
    ledger_clear(q);
    *q->note = *q->reason = 0;
    q->least = -INFINITY;
    q->most = INFINITY;
    q->exact = json_is_number(number);
    if (q->exact)
        ledger_add(q, (ledger_number){ json_number(number, NAN), NAN, NAN });
    else if (json_get(s, "ratio")) rc = take_pair(c, s, true, q, &e);
    else if (json_get(s, "difference")) rc = take_pair(c, s, false, q, &e);
    else if (json_get(s, "list")) rc = take_list(c, json_get(s, "list"), q, &e);
    else rc = take_runs(l, s, dir, q, &e);
    if (rc == 0) rc = keep_bounds(s, q, &e);
    if (rc == 0) return;
    ledger_clear(q);
    snprintf(q->reason, sizeof q->reason, "%.500s", e.text);
}
