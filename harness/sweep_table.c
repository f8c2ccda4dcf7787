/* sweep_table.c - results for people as they come in, fits at the end. */
#include "sweep_row.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "stats.h"
#include "text.h"

/* ---- numbers ------------------------------------------------------------- */

enum { CELL = 24 };

/* Four significant digits without an exponent; "-" for what is missing. */
static void cell(double value, char out[CELL])
{
    if (!isfinite(value)) {
        snprintf(out, CELL, "-");
        return;
    }
    int decimals = value > 0 ? 3 - (int)floor(log10(value)) : 0;
    if (decimals < 0) decimals = 0;
    if (decimals > 7) decimals = 7;
    snprintf(out, CELL, "%.*f", decimals, value);
}

static double member(const json *row, const char *object, const char *key)
{
    return json_number(json_get(json_get(row, object), key), NAN);
}

/* ---- table --------------------------------------------------------------- */

int sweep_table_width(const sweep_case *cases, int count)
{
    int width = 4;
    for (int i = 0; i < count; i++) {
        const int n = (int)strlen(cases[i].name);
        if (n > width) width = n;
    }
    return width;
}

void sweep_table_header(FILE *f, int width)
{
    fprintf(f, "%s%-*s %12s %8s %10s %6s %12s  %s%s\n", text_on(f, TEXT_BOLD),
            width, "case", "median ms", "+-", "GFLOP/s", "% roof", "work MiB",
            "status", text_off(f, TEXT_BOLD));
}

static enum text_color color_of(const char *status, bool unreliable)
{
    if (!strcmp(status, "ok")) return unreliable ? TEXT_WARN : TEXT_GOOD;
    if (!strcmp(status, "unsupported") || !strcmp(status, "memory"))
        return TEXT_PLAIN;
    return TEXT_BAD;
}

void sweep_table_line(FILE *f, int width, const json *row)
{
    char ms[CELL], gflops[CELL], work[CELL], half[CELL] = "-", roof[CELL] = "-";
    const double median = member(row, "time_ns", "median");
    const double lo = member(row, "time_ns", "lo");
    const double hi = member(row, "time_ns", "hi");
    const double fraction = member(row, "roofline", "fraction");
    const char *status = json_text(json_get(row, "status"));
    const char *reason = json_text(json_get(row, "reason"));
    const char *stop = json_text(json_get(json_get(row, "time_ns"), "stop"));
    const bool unreliable =
        json_true(json_get(json_get(row, "time_ns"), "unreliable"));

    cell(median * 1e-6, ms);
    cell(member(row, "flop", "total") / median, gflops);
    cell(member(row, "bytes", "workspace") / 0x1p20, work);
    if (isfinite(hi - lo))
        snprintf(half, sizeof half, "%.1f %%", 50 * (hi - lo) / median);
    if (isfinite(fraction))
        snprintf(roof, sizeof roof, "%.1f", 100 * fraction);
    const enum text_color color = color_of(status, unreliable);
    fprintf(f, "%-*s %12s %8s %10s %6s %12s  %s%s%s", width,
            json_text(json_get(row, "case")), ms, half, gflops, roof, work,
            text_on(f, color), status, text_off(f, color));
    if (reason) fprintf(f, ": %s", reason);
    else if (unreliable) fprintf(f, " (unreliable: too few clean samples)");
    else if (stop && strcmp(stop, "ci")) fprintf(f, " (%s)", stop);
    fputc('\n', f);
}

void sweep_list_header(FILE *f, int width)
{
    fprintf(f, "%-*s %12s %12s  %s\n", width, "case", "memory MiB", "GFLOP",
            "status");
}

void sweep_list_line(FILE *f, int width, const sweep_case *c,
                     const isolate_result *r)
{
    char memory[CELL], gflop[CELL];
    const char *status = json_text(json_get(r->value, "status"));
    const char *reason = json_text(json_get(r->value, "reason"));
    cell(member(r->value, "bytes", "predicted") / 0x1p20, memory);
    cell(member(r->value, "flop", "total") * 1e-9, gflop);
    if (!status) status = r->status;
    if (!reason) reason = r->reason;
    fprintf(f, "%-*s %12s %12s  %s%s%s\n", width, c->name, memory, gflop,
            status, *reason ? ": " : "", reason);
}

/* ---- fits ---------------------------------------------------------------- */

/* "softmax.flash/d=64,...": the case name without its tokens. */
static void series_of(const json *row, char *out, size_t size)
{
    const char *name = json_text(json_get(row, "case"));
    const char *slash = name ? strchr(name, '/') : NULL;
    const char *rest = slash ? strchr(slash, ',') : NULL;
    if (!rest) snprintf(out, size, "%s", name ? name : "");
    else
        snprintf(out, size, "%.*s/%s", (int)(slash - name), name, rest + 1);
}

typedef struct point {
    char series[ATT_NAME];
    const json *row;
    double tokens, ns, workspace;
} point;

static int by_series(const void *a, const void *b)
{
    const point *x = a, *y = b;
    const int c = strcmp(x->series, y->series);
    return c ? c : (x->tokens > y->tokens) - (x->tokens < y->tokens);
}

/* The problem without what differs inside a series. */
static json *shared_problem(const json *row)
{
    json *j = json_object();
    const json *problem = json_get(row, "problem");
    for (const json *x = json_first(problem); x; x = json_next(x))
        if (strcmp(json_key(x), "grid") && strcmp(json_key(x), "tokens"))
            json_put(j, json_key(x), json_copy(x));
    return j;
}

static json *fit_series(const point *p, int n)
{
    double *tokens = malloc((size_t)n * sizeof *tokens);
    double *ns = malloc((size_t)n * sizeof *ns);
    double *bytes = malloc((size_t)n * sizeof *bytes);
    stats_fit fit, memory;
    bool works = true; /* with memory of its own                            */
    json *j = NULL;
    if (!tokens || !ns || !bytes) abort();
    for (int i = 0; i < n; i++) {
        tokens[i] = p[i].tokens;
        ns[i] = p[i].ns;
        bytes[i] = p[i].workspace;
        works &= bytes[i] > 0;
    }
    if (stats_power_law(tokens, ns, n, &fit)) {
        static const char *const same[] = { "mechanism", "kernel", "level",
                                            "threads", "pass" };
        j = json_object();
        json_put_text(j, "series", p->series);
        for (size_t i = 0; i < sizeof same / sizeof *same; i++)
            json_put(j, same[i], json_copy(json_get(p->row, same[i])));
        json_put(j, "problem", shared_problem(p->row));
        json_put_number(j, "exponent", fit.exponent);
        json_put_number(j, "lo", fit.lo);
        json_put_number(j, "hi", fit.hi);
        json_put_number(j, "points", n);
        json_put_number(j, "tokens_min", tokens[0]);
        json_put_number(j, "tokens_max", tokens[n - 1]);
        json_put_number(j, "ns_at_1", fit.factor);
        json_put_number(j, "rms_ln", fit.residual);
        if (works && stats_power_law(tokens, bytes, n, &memory))
            json_put_number(j, "workspace_exponent", memory.exponent);
    }
    free(tokens);
    free(ns);
    free(bytes);
    return j;
}

json *sweep_fits(const json *const *rows, int count)
{
    json *fits = json_array();
    point *p = malloc(((size_t)count + 1) * sizeof *p);
    int n = 0;
    if (!p) abort();
    for (int i = 0; i < count; i++) {
        p[n] = (point){ .row = rows[i],
                        .tokens = member(rows[i], "problem", "tokens"),
                        .ns = member(rows[i], "time_ns", "median"),
                        .workspace = member(rows[i], "bytes", "workspace") };
        series_of(rows[i], p[n].series, sizeof p[n].series);
        if (p[n].ns > 0 && p[n].tokens > 0) n++;
    }
    qsort(p, (size_t)n, sizeof *p, by_series);
    for (int from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n; to++)
            if (strcmp(p[from].series, p[to].series)) break;
        json *fit = fit_series(&p[from], to - from);
        if (fit) json_push(fits, fit);
    }
    free(p);
    return fits;
}

void sweep_fits_print(FILE *f, const json *fits)
{
    int width = 6;
    for (const json *x = json_first(fits); x; x = json_next(x)) {
        const int n = (int)strlen(json_text(json_get(x, "series")));
        if (n > width) width = n;
    }
    if (json_size(fits))
        fprintf(f, "\ntime = c N^b, workspace = c N^w, least squares of "
                   "logarithms:\n%-*s %8s  %-16s  %6s  %s\n",
                width, "series", "b", "95 % interval", "w", "N");
    for (const json *x = json_first(fits); x; x = json_next(x)) {
        const double w = json_number(json_get(x, "workspace_exponent"), NAN);
        char memory[16] = "-", interval[40];
        if (isfinite(w)) snprintf(memory, sizeof memory, "%.2f",
                                  fabs(w) < 0.005 ? 0 : w);
        snprintf(interval, sizeof interval, "[%.3f, %.3f]",
                 json_number(json_get(x, "lo"), NAN),
                 json_number(json_get(x, "hi"), NAN));
        fprintf(f, "%-*s %8.3f  %-16s  %6s  %.0f..%.0f (%.0f lengths)\n", width,
                json_text(json_get(x, "series")),
                json_number(json_get(x, "exponent"), NAN), interval, memory,
                json_number(json_get(x, "tokens_min"), NAN),
                json_number(json_get(x, "tokens_max"), NAN),
                json_number(json_get(x, "points"), NAN));
    }
}
