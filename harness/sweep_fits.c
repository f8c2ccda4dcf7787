/* sweep_fits.c - how time grows with the sequence length, where one kernel
 * overtakes another, where a level does not pay and what the data cost. */
#include "sweep_row.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "roofline.h"
#include "stats.h"

/* ---- series ------------------------------------------------------------------ */

/* "softmax.flash/d=64,...": the case name without its tokens. */
static void series_of(const struct row *row, char *out, size_t size)
{
    const char *name = row->case_, *slash = strchr(name, '/');
    const char *rest = slash ? strchr(slash, ',') : NULL;
    if (!rest) snprintf(out, size, "%s", name);
    else
        snprintf(out, size, "%.*s/%s", (int)(slash - name), name, rest + 1);
}

typedef struct point {
    char series[ATT_NAME];
    const struct row *row;
    const char *held; /* smallest level that holds data and workspace        */
    double tokens, ns, lo, hi, workspace;
} point;

static int by_series(const void *a, const void *b)
{
    const point *x = a, *y = b;
    const int c = strcmp(x->series, y->series);
    return c ? c : (x->tokens > y->tokens) - (x->tokens < y->tokens);
}

static double at_least_0(double bytes)
{
    return bytes > 0 ? bytes : 0;
}

static point point_of(const struct row *row, const json *roofline)
{
    const double data = row->bytes.inputs + at_least_0(row->bytes.parameters) +
                        at_least_0(row->bytes.workspace);
    point p = { .row = row,
                .tokens = json_number(json_get(row->problem, "tokens"), NAN),
                .ns = row->time_ns.median,
                .lo = row->time_ns.lo,
                .hi = row->time_ns.hi,
                .workspace = row->bytes.workspace,
                .held = roofline_held(roofline, (int)row->threads, data) };
    series_of(row, p.series, sizeof p.series);
    return p;
}

/* Points series by series, ascending tokens; *out is the caller's. */
static int sort_points(const struct row *const *rows, int count,
                       const json *roofline, point **out)
{
    point *p = malloc(((size_t)count + 1) * sizeof *p);
    int n = 0;
    if (!p) abort();
    for (int i = 0; i < count; i++) {
        p[n] = point_of(rows[i], roofline);
        if (p[n].ns > 0 && p[n].tokens > 0) n++;
    }
    qsort(p, (size_t)n, sizeof *p, by_series);
    *out = p;
    return n;
}

static int series_end(const point *p, int from, int n)
{
    int to = from + 1;
    while (to < n && !strcmp(p[from].series, p[to].series)) to++;
    return to;
}

/* ---- fits ------------------------------------------------------------------- */

/* The problem without what differs inside a series. */
static json *shared_problem(const struct row *row)
{
    json *j = json_object();
    for (const json *x = json_first(row->problem); x; x = json_next(x))
        if (strcmp(json_key(x), "grid") && strcmp(json_key(x), "tokens"))
            json_put(j, json_key(x), json_copy(x));
    return j;
}

static json *fit_json(const point *p, int n, const char *regime,
                      const stats_fit *fit)
{
    json *j = json_object();
    json_put_text(j, "series", p->series);
    json_put_text(j, "regime", regime);
    json_put_text(j, "mechanism", p->row->mechanism);
    json_put_text(j, "kernel", p->row->kernel);
    json_put_text(j, "level", p->row->level);
    json_put_number(j, "threads", p->row->threads);
    json_put_text(j, "pass", p->row->pass);
    json_put(j, "problem", shared_problem(p->row));
    char why[120];
    const double no = fit->determined ? 0 : NAN;
    json_put_number(j, "exponent", fit->exponent + no);
    json_put_number(j, "lo", fit->lo + no);
    json_put_number(j, "hi", fit->hi + no);
    snprintf(why, sizeof why, "not determined: the 95 %% interval would be %.2f to "
             "%.2f", fit->lo, fit->hi);
    if (!fit->determined) json_put_text(j, "reason", why);
    json_put_number(j, "points", n);
    json_put_number(j, "tokens_min", p[0].tokens);
    json_put_number(j, "tokens_max", p[n - 1].tokens);
    json_put_number(j, "ns_at_1", fit->factor);
    json_put_number(j, "rms_ln", fit->residual);
    return j;
}

/* Standard error of ln time as its 95 % interval has it; a time without one has
 * the largest of its series or, if it is unreliable, at least that of the widest
 * interval that is told. */
static double error_of(const point *p)
{
    return fmax(log(p->hi / p->ns), log(p->ns / p->lo)) / 1.959964;
}

static void errors_of(const point *p, int n, double *sigma)
{
    double most = 0;
    for (int i = 0; i < n; i++)
        if (error_of(&p[i]) > most) most = error_of(&p[i]);
    for (int i = 0; i < n; i++) {
        const bool vague = p[i].row->time_ns.unreliable == ROW_YES;
        sigma[i] = error_of(&p[i]);
        if (isnan(sigma[i])) sigma[i] = most;
        if (vague) sigma[i] = fmax(sigma[i], log(SPREAD_WIDEST) / 2 / 1.959964);
    }
}

/* Nothing if there are fewer than three lengths. */
static void fit_points(const point *p, int n, const char *regime, json *fits)
{
    double *column = malloc(((size_t)n + 1) * 4 * sizeof *column);
    double *tokens = column, *ns = column + n, *bytes = column + 2 * n;
    double *sigma = column + 3 * n;
    stats_fit fit, memory;
    bool works = true; /* with memory of its own                            */
    if (!column) abort();
    for (int i = 0; i < n; i++) {
        tokens[i] = p[i].tokens;
        ns[i] = p[i].ns;
        bytes[i] = p[i].workspace;
        works &= bytes[i] > 0;
    }
    errors_of(p, n, sigma);
    if (stats_power_law(tokens, ns, sigma, n, &fit)) {
        json *j = fit_json(p, n, regime, &fit);
        if (works && stats_power_law(tokens, bytes, NULL, n, &memory))
            json_put_number(j, "workspace_exponent", memory.exponent);
        json_push(fits, j);
    }
    free(column);
}

json *sweep_fits(const struct row *const *rows, int count,
                 const json *roofline)
{
    json *fits = json_array();
    point *p;
    const int n = sort_points(rows, count, roofline, &p);
    for (int from = 0, to; from < n; from = to) {
        to = series_end(p, from, n);
        fit_points(&p[from], to - from, "all", fits);
        for (int a = from, b; a < to && p[a].held; a = b) {
            for (b = a + 1; b < to && !strcmp(p[b].held, p[a].held); b++) {}
            if (b - a < to - from) fit_points(&p[a], b - a, p[a].held, fits);
        }
    }
    free(p);
    return fits;
}

/* ---- crossings -------------------------------------------------------------- */

static bool same_text(const char *a, const char *b)
{
    return a && row_has(b, a);
}

static const char *inputs_of(const struct row *row)
{
    return row->inputs ? row->inputs : "normal";
}

/* The same question asked of two mechanisms: what the problems have in common. */
static bool comparable(const struct row *a, const struct row *b)
{
    static const char *const problem[] = { "head_dim", "heads", "batch" };
    if (!same_text(a->level, b->level) || !same_text(a->pass, b->pass) ||
        !same_text(inputs_of(a), inputs_of(b)) || a->threads != b->threads)
        return false;
    for (size_t i = 0; i < sizeof problem / sizeof *problem; i++)
        if (!(json_number(json_get(a->problem, problem[i]), NAN) ==
              json_number(json_get(b->problem, problem[i]), NAN)))
            return false;
    return same_text(json_text(json_get(a->problem, "dtype")),
                     json_text(json_get(b->problem, "dtype")));
}

/* What others are to overtake. */
static const char baseline[] = "softmax";

static bool is_baseline(const point *p)
{
    return row_has(p->row->mechanism, baseline) &&
           !json_size(json_get(p->row->problem, "causal"));
}

/* First point of the softmax series that gets farthest, and is the fastest
 * there; -1: none. */
static int baseline_of(const point *p, int n, const struct row *row)
{
    int best = -1, best_end = 0;
    for (int from = 0, to; from < n; from = to) {
        to = series_end(p, from, n);
        if (!is_baseline(&p[from]) || !comparable(p[from].row, row)) continue;
        const point *last = &p[to - 1], *old = best < 0 ? NULL : &p[best_end - 1];
        if (old && (last->tokens < old->tokens ||
                    (last->tokens == old->tokens && last->ns >= old->ns)))
            continue;
        best = from;
        best_end = to;
    }
    return best;
}

/* Norms and convolutions are no rivals of attention. */
static bool is_rival(const point *p)
{
    const char *name = p->row->mechanism;
    const att_mechanism *m = name ? att_find_mechanism(name) : NULL;
    return m && strcmp(name, baseline) && !(m->traits & ATT_NOT_ATTENTION);
}

static json *crossing_json(const point *a, int n, const point *b, int m)
{
    stats_pair *pair = malloc(((size_t)n + 1) * sizeof *pair);
    stats_crossing x;
    int count = 0;
    if (!pair) abort();
    for (int i = 0, k = 0; i < n; i++) {
        while (k < m && b[k].tokens < a[i].tokens) k++;
        if (k == m || b[k].tokens != a[i].tokens) continue;
        pair[count++] = (stats_pair){ a[i].tokens, a[i].ns / b[k].ns,
                                      a[i].lo / b[k].hi, a[i].hi / b[k].lo };
    }
    const bool some = stats_cross(pair, count, &x);
    free(pair);
    if (!some) return NULL;
    json *j = json_object();
    json_put_text(j, "series", a->series);
    json_put_text(j, "kernel", a->row->kernel);
    json_put_text(j, "baseline", b->series);
    json_put_text(j, "faster", stats_crossing_name[x.faster]);
    json_put_number(j, "tokens", x.n);
    json_put_number(j, "lo", x.lo);
    json_put_number(j, "hi", x.hi);
    return j;
}

json *sweep_crossings(const struct row *const *rows, int count)
{
    json *crossings = json_array();
    point *p;
    const int n = sort_points(rows, count, NULL, &p);
    for (int from = 0, to; from < n; from = to) {
        to = series_end(p, from, n);
        const int b = baseline_of(p, n, p[from].row);
        if (b < 0 || !is_rival(&p[from])) continue;
        json *j = crossing_json(&p[from], to - from, &p[b],
                                series_end(p, b, n) - b);
        if (j) json_push(crossings, j);
    }
    free(p);
    return crossings;
}

/* ---- for people -------------------------------------------------------------- */

static int widest(const json *list)
{
    int width = 6;
    for (const json *x = json_first(list); x; x = json_next(x)) {
        const int n = (int)strlen(json_text(json_get(x, "series")));
        if (n > width) width = n;
    }
    return width;
}

void sweep_fits_print(FILE *f, const json *fits)
{
    const int width = widest(fits);
    if (json_size(fits))
        fprintf(f, "\ntime = c N^b, workspace = c N^w, least squares of "
                   "logarithms; all lengths, and\nthose whose data and "
                   "workspace one level of memory holds:\n%-*s %-6s %8s  "
                   "%-16s  %6s  %s\n",
                width, "series", "held", "b", "95 % interval", "w", "N");
    for (const json *x = json_first(fits); x; x = json_next(x)) {
        const double w = json_number(json_get(x, "workspace_exponent"), NAN);
        char memory[16] = "-", interval[40] = "not determined", b[16] = "-";
        if (isfinite(w)) snprintf(memory, sizeof memory, "%.2f",
                                  fabs(w) < 0.005 ? 0 : w);
        const double exponent = json_number(json_get(x, "exponent"), NAN);
        if (isfinite(exponent)) {
            snprintf(b, sizeof b, "%.3f", exponent);
            snprintf(interval, sizeof interval, "[%.3f, %.3f]",
                     json_number(json_get(x, "lo"), NAN),
                     json_number(json_get(x, "hi"), NAN));
        }
        fprintf(f, "%-*s %-6s %8s  %-16s  %6s  %.0f..%.0f (%.0f lengths)\n",
                width, json_text(json_get(x, "series")),
                json_text(json_get(x, "regime")),
                b, interval, memory,
                json_number(json_get(x, "tokens_min"), NAN),
                json_number(json_get(x, "tokens_max"), NAN),
                json_number(json_get(x, "points"), NAN));
    }
}

static bool says(const json *crossing, enum stats_faster what)
{
    return !strcmp(json_text(json_get(crossing, "faster")),
                   stats_crossing_name[what]);
}

/* Kernels of which one thing is to be said, in a paragraph. */
static void print_names(FILE *f, const json *crossings, enum stats_faster what,
                        const char *head)
{
    int column = 0;
    const char *last = "";
    for (const json *x = json_first(crossings); x; x = json_next(x)) {
        const char *kernel = json_text(json_get(x, "kernel"));
        if (!says(x, what) || !kernel || !strcmp(kernel, last)) continue;
        if (column == 0) column = fprintf(f, "%s", head);
        if (column + (int)strlen(kernel) > 88) column = fprintf(f, "\n   ") - 1;
        column += fprintf(f, " %s", kernel);
        last = kernel;
    }
    if (column) fputc('\n', f);
}

void sweep_crossings_print(FILE *f, const json *crossings)
{
    const int width = widest(crossings);
    const json *first = json_first(crossings);
    if (!first) return;
    fprintf(f, "\nagainst %s:\n", json_text(json_get(first, "baseline")));
    for (const json *x = first; x; x = json_next(x)) {
        char end[2][16];
        if (!says(x, STATS_ABOVE) && !says(x, STATS_BELOW)) continue;
        for (int k = 0; k < 2; k++) {
            const double v = json_number(json_get(x, k ? "hi" : "lo"), NAN);
            snprintf(end[k], sizeof end[k], isfinite(v) ? "%.0f" : "?", v);
        }
        fprintf(f, "%-*s faster %s N = %.0f [%s, %s]\n", width,
                json_text(json_get(x, "series")),
                says(x, STATS_ABOVE) ? "from" : "up to",
                json_number(json_get(x, "tokens"), NAN), end[0], end[1]);
    }
    print_names(f, crossings, STATS_ALL, "faster at every length:");
    print_names(f, crossings, STATS_NONE, "slower at every length:");
    print_names(f, crossings, STATS_UNCLEAR, "not to be told:");
}

/* ---- levels and inputs -------------------------------------------------------- */

/* A case by its name without one part; `order`: what that part says. */
typedef struct variant {
    char text[ATT_NAME];
    int order;
    double lo, hi, ns;
} variant;

/* Takes ",part" out of the name; false if it is not there. */
static bool take_out(char *name, const char *part)
{
    char *at = strstr(name, part);
    if (!at) return false;
    const char *rest = at + strlen(part);
    if (*rest != ',') return false;
    memmove(at, rest, strlen(rest) + 1);
    return true;
}

static int by_text_then_order(const void *a, const void *b)
{
    const variant *x = a, *y = b;
    const int c = strcmp(x->text, y->text);
    return c ? c : x->order - y->order;
}

/* Timed cases without their level (and its number) or, if not by_level, without
 * "in=sharp" (0 normal, 1 sharp), sorted; allocated. */
static variant *sort_variants(const struct row *const *rows, int count,
                              bool by_level, int *n)
{
    variant *x = malloc(((size_t)count + 1) * sizeof *x);
    if (!x) abort();
    *n = 0;
    for (int i = 0; i < count; i++) {
        const char *level = rows[i]->level;
        char part[16];
        variant one = { .lo = rows[i]->time_ns.lo,
                        .hi = rows[i]->time_ns.hi,
                        .ns = rows[i]->time_ns.median };
        if (!level || !(one.ns > 0)) continue;
        snprintf(one.text, sizeof one.text, "%s", rows[i]->case_);
        snprintf(part, sizeof part, ",%s", level);
        if (by_level && !take_out(one.text, part)) continue;
        one.order = by_level ? att_level_parse(level)
                             : take_out(one.text, ",in=sharp");
        x[(*n)++] = one;
    }
    qsort(x, (size_t)*n, sizeof *x, by_text_then_order);
    return x;
}

void sweep_levels_print(FILE *f, const struct row *const *rows, int count)
{
    int n, best = 0;
    const char *gap = "\n";
    variant *x = sort_variants(rows, count, true, &n);
    for (int i = 1; i < n; i++) {
        if (strcmp(x[i].text, x[best].text)) best = i;
        if (x[i].lo > x[best].hi) {
            fprintf(f, "%sslower at %s than at %s, by a factor of %.2f: %s\n",
                    gap, att_level_name((enum att_level)x[i].order),
                    att_level_name((enum att_level)x[best].order),
                    x[i].ns / x[best].ns, x[i].text);
            gap = "";
        }
        if (x[i].ns < x[best].ns) best = i;
    }
    free(x);
}

static int ascending_number(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void sweep_inputs_print(FILE *f, const struct row *const *rows, int count)
{
    int n, pairs = 0, worst = 0;
    variant *x = sort_variants(rows, count, false, &n);
    double *share = malloc(((size_t)n + 1) * sizeof *share), most = 0;
    if (!share) abort();
    for (int i = 1; i < n; i++) {
        if (strcmp(x[i].text, x[i - 1].text)) continue;
        share[pairs] = x[i].ns / x[i - 1].ns;
        if (share[pairs] > most) most = share[pairs], worst = i;
        pairs++;
    }
    qsort(share, (size_t)pairs, sizeof *share, ascending_number);
    if (pairs)
        fprintf(f, "\ntime with sharp inputs over that with normal ones: %d "
                   "cases, median %.2f, most %.2f (%s)\n",
                pairs, share[pairs / 2], most, x[worst].text);
    free(share);
    free(x);
}
