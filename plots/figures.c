/* figures.c - from cases to charts. */
#include "figures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "caption.h"
#include "chart.h"
#include "modelfigures.h"
#include "panels.h"

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- names --------------------------------------------------------------- */

typedef struct abscissa {
    const char *name, *axis, *title, *guide;
    enum chart_ticks ticks;
} abscissa;

static const abscissa abscissas[] = {
    { "scaling", "tokens", "sequence length N (tokens)", "N", CHART_OCTAVES },
    { "headdim", "head_dim", "channels per head d", "d", CHART_VALUES },
    { "window", "window", "side of the window w (tokens)", "w", CHART_VALUES },
};
enum { ABSCISSAS = sizeof abscissas / sizeof *abscissas };

const char *const figures_usual[] = {
    "scaling-time",  "scaling-gflops", "scaling-memory",
    "headdim-time",  "headdim-gflops", "headdim-memory",
    "window-time",   "window-gflops",  "window-memory",
    "scaling-misses", "headdim-misses", "window-misses",
    "roofline",      "models-accuracy", "models-levels",
};
const int figures_usual_count =
    sizeof figures_usual / sizeof *figures_usual;

/* Splits "scaling-time" into its abscissa and the rest; NULL if the first part
 * is none. */
static const abscissa *split(const char *name, const char **metric)
{
    for (int i = 0; i < ABSCISSAS; i++) {
        const size_t n = strlen(abscissas[i].name);
        if (strncmp(name, abscissas[i].name, n) || name[n] != '-') continue;
        *metric = name + n + 1;
        return &abscissas[i];
    }
    return NULL;
}

const char *figures_check(const char *name, const columns *c, error *e)
{
    const char *metric;
    if (!strcmp(name, "roofline") || model_figure_is(name)) return name;
    if (split(name, &metric)) {
        if (!strcmp(metric, "memory") || !strcmp(metric, "misses"))
            return name;
        const column *y = columns_find(c, metric, NULL);
        if (y && y->kind == COLUMN_VALUE) return name;
    }
    const char *near =
        error_nearest(name, figures_usual, figures_usual_count);
    if (near)
        error_set(e, "unknown figure '%s'; did you mean '%s'?", name, near);
    else
        error_set(e, "unknown figure '%s': use roofline, models-accuracy, "
                     "models-levels, or scaling-, headdim- "
                     "or window- with time, gflops, memory, misses or a column of "
                     "'attnbench table'", name);
    return NULL;
}

const char *figures_axis(const char *name)
{
    const char *metric;
    const abscissa *a = split(name, &metric);
    return a ? a->axis : "tokens";
}

/* ---- ceilings ------------------------------------------------------------ */

static const fixed_axis *fixed_at(const slice *s, const char *axis)
{
    for (int i = 0; i < s->fixed_count; i++)
        if (!strcmp(s->fixed[i].axis->name, axis)) return &s->fixed[i];
    return NULL;
}

/* The ceilings of the slice's level and threads, if it has one of each. */
static const json *ceilings_of(const results *r, const slice *s)
{
    const fixed_axis *level = fixed_at(s, "level");
    const fixed_axis *threads = fixed_at(s, "threads");
    if (!level || !threads) return NULL;
    for (int k = r->count - 1; k >= 0; k--) {
        const json *list = results_ceilings(r->item[k].env, "ceilings");
        for (const json *x = json_first(list); x; x = json_next(x)) {
            const char *name = json_text(json_get(x, "level"));
            if (name && !strcmp(name, level->value) &&
                json_number(json_get(x, "threads"), 0) ==
                    strtod(threads->value, NULL))
                return x;
        }
        if (list) return NULL;
    }
    return NULL;
}

static int peak_limit(const json *ceilings, chart_limit *out)
{
    const double peak = json_number(json_get(ceilings, "fma_flop_per_s"), NAN);
    char text[32];
    if (!(peak > 0)) return 0;
    quantity_text(QUANTITY_FLOP_PER_S, peak, text, sizeof text);
    *out = (chart_limit){ 0, peak / 1e9, 0, peak / 1e9, "", "FMA peak" };
    snprintf(out->label, sizeof out->label, "measured FMA peak %s", text);
    return 1;
}

/* ---- cache marks --------------------------------------------------------- */

enum { MARKS = 4 };

static int ascending_pair(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (x[0] > y[0]) - (x[0] < y[0]);
}

/* The x at which q, k, v and o together have `bytes`, between two cases on a
 * straight line in the log-log plane; 0 if outside. */
static double x_of_bytes(double (*pair)[2], int n, double bytes)
{
    for (int i = 1; i < n; i++) {
        const double *a = pair[i - 1], *b = pair[i];
        if (a[0] >= b[0] || bytes < a[1] || bytes > b[1]) continue;
        const double t = log(bytes / a[1]) / log(b[1] / a[1]);
        return a[0] * pow(b[0] / a[0], t);
    }
    return 0;
}

static int cache_marks(const results *r, const slice *s, const column *x,
                       chart_mark *out)
{
    const json *caches = NULL;
    double (*pair)[2] = sure(malloc((size_t)(s->count + 1) * sizeof *pair));
    int n = 0, marks = 0;
    for (int i = 0; i < s->count; i++) {
        pair[n][0] = slice_number(s, x, s->item[i]);
        pair[n][1] = s->item[i]->row->bytes.inputs;
        n += pair[n][0] > 0 && pair[n][1] > 0;
    }
    qsort(pair, (size_t)n, sizeof *pair, ascending_pair);
    for (int i = r->count - 1; i >= 0 && !caches; i--)
        caches = results_ceilings(r->item[i].env, "cache_bytes");
    for (const json *c = json_first(caches); c && marks < MARKS;
         c = json_next(c)) {
        const double at = x_of_bytes(pair, n, json_number(c, 0));
        if (at <= 0) continue;
        out[marks].x = at;
        snprintf(out[marks++].label, sizeof out->label, "q, k, v, o fill %s",
                 json_key(c));
    }
    free(pair);
    return marks;
}

/* ---- AXIS-METRIC --------------------------------------------------------- */

typedef struct ordinate {
    const column *x, *y;
} ordinate;

/* Rates in GFLOP/s, everything else in SI base units. */
static double y_scale(const column *y)
{
    return y->quantity == QUANTITY_FLOP_PER_S ? 1e-9 : y->si;
}

static chart_point metric_point(const slice *s, const result *r,
                                const void *what)
{
    const ordinate *o = what;
    double value[3];
    column_numbers(o->y, r, value);
    const double k = y_scale(o->y);
    return (chart_point){ slice_number(s, o->x, r), value[0] * k, value[1] * k,
                          value[2] * k,
                          column_has_interval(o->y) && r->unreliable };
}

/* "softmax.flash/d=64,...": the case name without its tokens, as the fits of a
 * journal name a series. */
static void series_name(const result *r, char *out, size_t size)
{
    const char *slash = strchr(r->name, '/');
    const char *rest = slash ? strchr(slash, ',') : NULL;
    if (!rest) snprintf(out, size, "%s", r->name);
    else
        snprintf(out, size, "%.*s/%s", (int)(slash - r->name), r->name,
                 rest + 1);
}

/* Exponents fitted at the end of the sweep, for the labels. */
static void set_exponents(const results *r, const lines *all, chart_panel *p)
{
    const json *fits = NULL;
    char series[512];
    for (int i = r->journal.count - 1; i >= 0 && !fits; i--)
        fits = json_get(r->journal.rows[i], "fits");
    for (const json *f = json_first(fits); f; f = json_next(f)) {
        const char *name = json_text(json_get(f, "series"));
        for (int i = 0; name && i < all->count; i++) {
            series_name(all->item[i].from, series, sizeof series);
            const char *regime = json_text(json_get(f, "regime"));
            if (!strcmp(series, name) && (!regime || !strcmp(regime, "all")))
                p->line[i].exponent =
                    json_number(json_get(f, "exponent"), NAN);
        }
    }
}

static void y_title(const column *y, char *out, size_t size)
{
    const char *interval = column_has_interval(y) ? ", median and 95 % interval"
                                                  : "";
    if (y->quantity == QUANTITY_FLOP_PER_S)
        snprintf(out, size, "%s (GFLOP/s%s)", y->title, interval);
    else if (*interval)
        snprintf(out, size, "%s (%s)", y->title, interval + 2);
    else snprintf(out, size, "%s", y->title);
}

/* Metrics of a figure: one column, or the two of a pair; 0 if no case has
 * them. */
static int metrics_of(const columns *c, const char *metric,
                      const column *out[2])
{
    static const char *const pairs[][3] = {
        { "memory", "workspace", "peak_rss" },
        { "misses", "counter.l1d_miss", "counter.l2_miss" },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (strcmp(metric, pairs[i][0])) continue;
        out[0] = columns_find(c, pairs[i][1], NULL);
        out[1] = columns_find(c, pairs[i][2], NULL);
        return out[0] && out[1] ? 2 : 0;
    }
    out[0] = columns_find(c, metric, NULL);
    return out[0] ? 1 : 0;
}

bool figures_of_events(const char *name)
{
    const char *metric;
    if (!split(name, &metric)) return false;
    return !strcmp(metric, "misses") || !strncmp(metric, "counter.", 8) ||
           !strncmp(metric, "cold.", 5);
}

/* Says by what simulator, and in which caches, misses were counted. */
static void note_simulated(const slice *s, char *note, size_t size)
{
    const json *caches = NULL;
    const char *source = NULL;
    for (int i = 0; i < s->count && !caches; i++) {
        const json *misses = json_get(s->item[i]->row->counters, "l1d_miss");
        caches = s->item[i]->row->caches;
        source = json_text(json_get(misses, "source"));
    }
    if (!caches) return;
    size_t n = strlen(note);
    n += (size_t)snprintf(note + n, size - n, "%sA warm call, %s (LRU, no "
                                              "prefetch):", n ? " " : "",
                          source ? source : "simulated");
    for (const json *c = json_first(caches); c && n < size; c = json_next(c))
        n += (size_t)snprintf(note + n, size - n, " %s %.0f KiB %.0f-way%s",
                              json_key(c),
                              json_number(json_get(c, "bytes"), NAN) / 1024,
                              json_number(json_get(c, "ways"), NAN),
                              json_next(c) ? "," : ".");
}

static void note_crossings(const panels *p, char *note, size_t size)
{
    const char *name = NULL;
    const size_t n = strlen(note);
    for (int i = 0; i < p->count && !name; i++)
        name = chart_crossed(&p->item[i]);
    if (name)
        snprintf(note + n, size - n, "%sDiamonds: where a line crosses that of "
                                     "%s.", n ? " " : "", name);
}

static bool drawable_metrics(const lines *all, int metrics)
{
    for (int m = 0; m < metrics; m++)
        if (lines_drawable(&all[m])) return true;
    return false;
}

static int draw_metrics(const figure_request *q, const results *r,
                        const slice *s, const abscissa *a, const column *x,
                        const column *const *y, int metrics, error *e)
{
    const char *titles[2] = { metrics > 1 ? y[0]->title : "",
                              metrics > 1 ? y[1]->title : "" };
    char title[160], note[2048] = "", comment[1600], subject[256];
    chart_limit limit[1];
    chart_mark mark[MARKS];
    lines all[2] = { { 0 } };
    panels p = { 0 };
    int rc = 0;

    for (int m = 0; m < metrics; m++) {
        lines_make(&all[m], s, x, metric_point, &(ordinate){ x, y[m] });
        lines_drop_lonely(&all[m]);
    }
    if (!drawable_metrics(all, metrics)) {
        error_set(e, "%s: no kernel has two points over %s", q->file, x->name);
        goto out;
    }
    panels_make(&p, all, metrics, titles);
    if (metrics == 1 && p.count == 1 && y[0]->quantity == QUANTITY_SECONDS &&
        !strcmp(x->name, "tokens"))
        set_exponents(r, &all[0], &p.item[0]);
    y_title(y[0], title, sizeof title);
    caption_note(r, s, &all[0], y[0]->title, note, sizeof note);
    if (figures_of_events(q->name)) note_simulated(s, note, sizeof note);
    caption_comment(r, s, q->file, comment, sizeof comment);
    snprintf(subject, sizeof subject, "%s%s%s against %s", y[0]->title,
             metrics > 1 ? " and " : "", metrics > 1 ? y[1]->title : "",
             a->title);
    const bool rate = y[0]->quantity == QUANTITY_FLOP_PER_S;
    const bool crossings = a->guide && y[0]->quantity == QUANTITY_SECONDS;
    if (crossings) note_crossings(&p, note, sizeof note);
    const chart figure = {
        .name = q->file,
        .x_title = a->title,
        .y_title = metrics > 1 ? "" : title,
        .x_ticks = a->ticks,
        .quantity = rate ? QUANTITY_NUMBER : y[0]->quantity,
        .guide = y[0]->quantity == QUANTITY_SECONDS ||
                         y[0]->quantity == QUANTITY_EVENTS ||
                         y[0]->quantity == QUANTITY_BYTES
                     ? a->guide : NULL,
        .crossings = crossings,
        .panel = p.item,
        .panels = p.count,
        .limit = limit,
        .limits = rate ? peak_limit(ceilings_of(r, s), limit) : 0,
        .mark = mark,
        .marks = q->caches ? cache_marks(r, s, x, mark) : 0,
        .note = note,
        .comment = comment,
        .width = q->width,
        .columns = p.count > 1 && q->width > 400 ? 2 : 1,
    };
    rc = chart_draw(&figure, q->dir, q->formats, e) < 0 ||
                 caption_write(q->dir, q->file, r, s, subject,
                               column_has_interval(y[0]), note, e) < 0
             ? -1 : 1;
out:
    panels_free(&p);
    for (int m = 0; m < metrics; m++) lines_free(&all[m]);
    return rc;
}

/* ---- roofline ------------------------------------------------------------ */

/* Multiply-adds count 2; other operations are not what the peak is of. */
static chart_point roofline_point(const slice *s, const result *r,
                                  const void *what)
{
    const double flop = 2 * r->row->flop.mul_add;
    const double ns = r->row->time_ns.median;
    (void)s;
    (void)what;
    return (chart_point){ flop / r->row->bytes.compulsory,
                          flop / ns, flop / r->row->time_ns.hi,
                          flop / r->row->time_ns.lo,
                          r->unreliable };
}

static double least_intensity(const lines *all)
{
    double least = INFINITY;
    for (int i = 0; i < all->count; i++)
        for (int k = 0; k < all->item[i].count; k++)
            least = fmin(least, all->item[i].at[k].point.x);
    return least;
}

enum { ROOFS = 8 };

/* The peak, and one slope per place that data can come from; all begin left of
 * the points and of the first ridge. */
static int roofs(const json *ceilings, double least, chart_limit *out)
{
    int n = peak_limit(ceilings, out);
    if (!n) return 0;
    const double peak = out[0].y0;
    const json *places = json_get(ceilings, "bandwidth_bytes_per_s");
    double from = least;
    for (const json *x = json_first(places); x; x = json_next(x))
        from = fmin(from, peak * 1e9 / json_number(json_get(x, "copy"), NAN));
    from /= 4; /* room for labels along the slopes */
    for (const json *x = json_first(places); x && n < ROOFS; x = json_next(x)) {
        const double rate = json_number(json_get(x, "copy"), NAN) / 1e9;
        char text[48];
        if (!(rate > 0)) continue;
        quantity_text(QUANTITY_BYTES_PER_S, rate * 1e9, text, sizeof text);
        out[n] = (chart_limit){ from, from * rate, peak / rate, peak, "", "" };
        snprintf(out[n].label, sizeof out->label, "%s %s", json_key(x), text);
        snprintf(out[n++].brief, sizeof out->brief, "%s", json_key(x));
    }
    return n;
}

static int draw_roofline(const figure_request *q, const results *r,
                         const slice *s, const column *tokens, error *e)
{
    static const char *const titles[1] = { "" };
    char note[2048] = "", comment[1600];
    chart_limit limit[ROOFS];
    lines all;
    panels p = { 0 };
    int rc = 0;

    lines_make(&all, s, tokens, roofline_point, NULL);
    const double least = least_intensity(&all);
    const json *ceilings = ceilings_of(r, s);
    if (!isfinite(least)) {
        error_set(e, "roofline: no case has multiply-adds and bytes");
        goto out;
    }
    if (!ceilings) {
        error_set(e, "roofline: the journal has no ceilings for the level and "
                     "threads of its cases");
        goto out;
    }
    panels_make(&p, &all, 1, titles);
    caption_note(r, s, &all, NULL, note, sizeof note);
    caption_comment(r, s, q->file, comment, sizeof comment);
    const chart figure = {
        .name = q->file,
        .x_title = "arithmetic intensity (flop/byte)",
        .y_title = "multiply-add rate (GFLOP/s)",
        .x_ticks = CHART_OCTAVES,
        .quantity = QUANTITY_NUMBER,
        .key = true,
        .panel = p.item,
        .panels = p.count,
        .limit = limit,
        .limits = roofs(ceilings, least, limit),
        .note = note,
        .comment = comment,
        .width = q->width,
        .columns = p.count > 1 && q->width > 400 ? 2 : 1,
    };
    rc = chart_draw(&figure, q->dir, q->formats, e) < 0 ||
                 caption_write(q->dir, q->file, r, s,
                               "Roofline: points of a kernel are joined in the "
                               "order of sequence length", true, note, e) < 0
             ? -1 : 1;
out:
    panels_free(&p);
    lines_free(&all);
    return rc;
}

/* ---- one figure ---------------------------------------------------------- */

static bool any_has(const results *r, const char *axis)
{
    for (int i = 0; i < r->count; i++)
        if (!isnan(result_axis_number(&r->item[i], axis))) return true;
    return false;
}

int figures_draw(const figure_request *q, const results *r, const columns *c,
                 error *e)
{
    const char *metric = NULL;
    const abscissa *a = split(q->name, &metric);
    const column *x = columns_find(c, a ? a->axis : "tokens", NULL);
    const column *y[2];
    slice s;
    int rc;
    if (!x) {
        error_set(e, "%s: no case has a %s", q->name, a->axis);
        return 0;
    }
    const bool models = model_figure_is(q->name);
    if (!models && !any_has(r, x->name)) {
        error_set(e, "%s: no case has a %s", q->name, x->name);
        return 0;
    }
    if (slice_make(&s, r, c, &x, !models, q->asked, q->asked_count, e) < 0)
        return -1;
    if (models) rc = model_figure_draw(q, r, &s, e);
    else if (!a) rc = draw_roofline(q, r, &s, x, e);
    else {
        const int metrics = metrics_of(c, metric, y);
        rc = 0;
        if (metrics) rc = draw_metrics(q, r, &s, a, x, y, metrics, e);
        else
            error_set(e, "%s: no case has counts of events; 'attnbench cache' "
                         "adds some", q->name);
    }
    slice_free(&s);
    return rc;
}

int figures_index(const char *dir, error *e)
{
    return caption_index(dir, figures_usual, figures_usual_count, e);
}
