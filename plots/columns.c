/* columns.c - the registry of columns. */
#include "columns.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accuracy.h"
#include "objections.h"

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- derived values ------------------------------------------------------ */

/* amount per second, with the interval of the time turned round. */
static void per_second(const result *r, double amount, double value[3])
{
    value[0] = amount / (1e-9 * r->row->time_ns.median);
    value[1] = amount / (1e-9 * r->row->time_ns.hi);
    value[2] = amount / (1e-9 * r->row->time_ns.lo);
}

static void rate(const result *r, double value[3])
{
    per_second(r, r->row->flop.total, value);
}

static void bandwidth(const result *r, double value[3])
{
    per_second(r, r->row->bytes.compulsory, value);
}

static void intensity(const result *r, double value[3])
{
    value[0] = r->row->flop.total /
               r->row->bytes.compulsory;
}

static void per_joule(const result *r, double value[3])
{
    value[0] = r->row->flop.total / r->row->energy.package_j;
}

/* GFLOP/s in the journal, as the FMA peak is spoken of. */
static void peak(const result *r, double value[3])
{
    value[0] = 1e9 * r->row->roofline.peak_gflops;
}

static void attainable(const result *r, double value[3])
{
    value[0] = 1e9 * r->row->roofline.attainable_gflops;
}

static void threads(const result *r, double value[3])
{
    value[0] = r->threads;
}

/* The fraction of the roof with its interval: on an undisturbed core, where that
 * is known; otherwise that of the wall time. */
static void fraction(const result *r, double value[3])
{
    const double median = r->row->time_ns.median;
    if (r->row->paired.fraction > 0) {
        value[0] = r->row->paired.fraction;
        value[1] = r->row->paired.lo;
        value[2] = r->row->paired.hi;
        return;
    }
    value[0] = r->row->roofline.fraction;
    value[1] = value[0] * median / r->row->time_ns.hi;
    value[2] = value[0] * median / r->row->time_ns.lo;
}

static void interval_of_time(const result *r, double value[3])
{
    value[0] = r->row->time_ns.median;
    value[1] = r->row->time_ns.lo;
    value[2] = r->row->time_ns.hi;
}

/* ---- the fixed columns --------------------------------------------------- */

/* clang-format off */
#define VALUE(name, key, title, quantity, si, better, standard, derive) \
    { name, key, title, COLUMN_VALUE, QUANTITY_##quantity, si, better, standard, NULL, derive, NULL }
#define AXIS(name, title, derive) \
    { name, name, title, COLUMN_AXIS, QUANTITY_COUNT, 1, 0, true, NULL, derive, NULL }
#define SAME(name, title, word) \
    { name, name, title, COLUMN_TEXT, QUANTITY_NUMBER, 1, 0, false, NULL, NULL, word }

static const column derived[] = {
    AXIS("threads", "threads", threads),
    { "cache", "cache", "cache", COLUMN_TEXT, QUANTITY_NUMBER, 1, 0, false, NULL, NULL, result_cache },
    AXIS("tokens", "sequence length N", NULL),
    VALUE("time", "time_ns", "time per call", SECONDS, 1e-9, -1, true, interval_of_time),
    VALUE("gflops", "flop_per_s", "rate", FLOP_PER_S, 1, 1, true, rate),
    VALUE("fraction", "fraction_of_roof", "fraction of the roof", NUMBER, 1, 1, true, fraction),
    VALUE("peak", "peak_flop_per_s", "FMA peak", FLOP_PER_S, 1, 0, false, peak),
    VALUE("attainable", "attainable_flop_per_s", "attainable rate", FLOP_PER_S, 1, 0, false, attainable),
    VALUE("bandwidth", "bytes_per_s", "compulsory traffic", BYTES_PER_S, 1, 1, false, bandwidth),
    VALUE("flop_per_joule", "flop_per_j", "operations per joule of the package", NUMBER, 1, 1, false, per_joule),
    VALUE("intensity", "flop_per_byte", "arithmetic intensity", NUMBER, 1, 0, false, intensity),
    { "objections", "objections", "objections to it", COLUMN_TEXT, QUANTITY_NUMBER, 1, 0, true, NULL, NULL, NULL },
    VALUE("max_ulp", "max_error_ulp", "largest error (ulp)", NUMBER, 1, -1, false, accuracy_max_ulp),
    VALUE("rms_ulp", "rms_error_ulp", "rms error (ulp)", NUMBER, 1, -1, false, accuracy_rms_ulp),
    VALUE("stress_ulp", "stress_error_ulp", "largest error on stress inputs (ulp)", NUMBER, 1, -1, false, accuracy_stress_ulp),
    SAME("same_repeat", "same bits again", accuracy_repeat),
    SAME("same_threads", "same bits with other threads", accuracy_threads),
    SAME("same_levels", "same bits at other levels", accuracy_levels),
};
#undef VALUE
#undef AXIS
#undef SAME

/* In which order they stand: those above, and the keys of a row that are columns
 * (row_keys.inc).  Keys that are not named here come behind them. */
static const char *const before_axes[] = {
    "case", "kernel", "mechanism", "family", "level", "threads", "pass", "inputs", "cache", "tokens",
};
static const char *const after_axes[] = {
    "status", "reason", "objections", "time", "time_lo", "time_hi", "time_min", "time_mad", "samples",
    "processes", "stop", "gflops", "fraction", "bound", "peak", "attainable", "bandwidth",
    "intensity", "pairs", "flop", "mul_add", "add", "mul", "div", "exp", "executed",
    "compulsory", "workspace", "state", "saved", "parameters", "peak_rss", "nmse", "max_abs",
    "max_ulp", "rms_ulp", "stress_ulp", "same_repeat", "same_threads", "same_levels",
    "steal", "switches", "clock_ratio", "energy", "energy_cores", "energy_dram", "watts",
    "flop_per_joule", "env",
};
/* clang-format on */

/* What a key of a row is as a column. */
static column of_key(const row_key *k)
{
    const row_column *c = &k->column;
    column out = { c->name, c->key, c->title, COLUMN_VALUE, QUANTITY_NUMBER, 1,
                   c->better, c->standard, k, NULL, NULL };
    if (k->type == ROW_TEXT) out.kind = COLUMN_TEXT;
    else if (k->type == ROW_COUNT || k->type == ROW_INTEGER)
        out.quantity = QUANTITY_COUNT;
    if (!strcmp(k->unit, "bytes")) out.quantity = QUANTITY_BYTES;
    if (!strcmp(k->unit, "ns") || !strcmp(k->unit, "s")) {
        out.quantity = QUANTITY_SECONDS;
        out.si = strcmp(k->unit, "ns") ? 1 : 1e-9;
    }
    return out;
}

/* ---- columns of one journal ---------------------------------------------- */

static void add(columns *c, const column *one)
{
    if (c->count % 32 == 0)
        c->item = sure(realloc(c->item,
                               (size_t)(c->count + 32) * sizeof *c->item));
    c->item[c->count++] = *one;
}

static const char *own(columns *c, const char *text, const char *prefix)
{
    char *copy = sure(malloc(strlen(prefix) + strlen(text) + 1));
    sprintf(copy, "%s%s", prefix, text);
    c->owned = sure(realloc(c->owned,
                            (size_t)(c->owned_count + 1) * sizeof *c->owned));
    return c->owned[c->owned_count++] = copy;
}

static bool has_key(const columns *c, const char *key)
{
    for (int i = 0; i < c->count; i++)
        if (!strcmp(c->item[i].key, key)) return true;
    return false;
}

static bool has_name(const columns *c, const char *name)
{
    for (int i = 0; i < c->count; i++)
        if (!strcmp(c->item[i].name, name)) return true;
    return false;
}

/* A fixed column, by its name. */
static void add_named(columns *c, const char *name)
{
    int n;
    const row_key *key = row_keys(&n);
    for (size_t i = 0; i < sizeof derived / sizeof *derived; i++)
        if (!strcmp(derived[i].name, name)) add(c, &derived[i]);
    for (int i = 0; i < n; i++) {
        if (!key[i].column.name || strcmp(key[i].column.name, name)) continue;
        const column one = of_key(&key[i]);
        add(c, &one);
    }
}

/* Objects with counts of events, and what names of their columns begin with. */
static const char *const prefixes[] = { "counter.", "cold." };
enum { COUNTS = sizeof prefixes / sizeof *prefixes };

static const json *counts_of(const result *r, int which)
{
    return which == 0 ? r->row->counters : r->row->counters_cold;
}

/* Titles of those that the figures of misses show. */
static const char *counter_title(const char *key, const char *name)
{
    static const char *const titles[][2] = {
        { "l1d_miss", "L1 data misses per call" },
        { "l2_miss", "L2 misses per call" },
        { "llc_miss", "last-level misses per call" },
    };
    if (strncmp(name, prefixes[0], strlen(prefixes[0]))) return name;
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        if (!strcmp(key, titles[i][0])) return titles[i][1];
    return name;
}

static void add_axes(columns *c, const results *r)
{
    for (int i = 0; i < r->count; i++)
        for (const json *x = json_first(r->item[i].row->problem); x;
             x = json_next(x)) {
            if (has_key(c, json_key(x))) continue;
            const char *name = own(c, json_key(x), "");
            add(c, &(column){ name, name, name, COLUMN_AXIS, QUANTITY_COUNT, 1,
                              0, true, NULL, NULL, NULL });
        }
}

/* One column per event that any case has counted. */
static void add_counts(columns *c, const results *r, int which)
{
    char key[128];
    for (int i = 0; i < r->count; i++)
        for (const json *x = json_first(counts_of(&r->item[i], which)); x;
             x = json_next(x)) {
            snprintf(key, sizeof key, "%s%s", prefixes[which], json_key(x));
            if (has_key(c, key)) continue;
            const char *name = own(c, json_key(x), prefixes[which]);
            add(c, &(column){ name, name, counter_title(json_key(x), name),
                              COLUMN_VALUE, QUANTITY_EVENTS, 1, -1, false, NULL,
                              NULL, NULL });
        }
}

static bool has_other_inputs(const results *r)
{
    for (int i = 0; i < r->count; i++)
        if (r->item[i].row->inputs) return true;
    return false;
}

void columns_make(columns *c, const results *r)
{
    int n;
    const row_key *key = row_keys(&n);
    *c = (columns){ 0 };
    for (size_t i = 0; i < sizeof before_axes / sizeof *before_axes; i++)
        add_named(c, before_axes[i]);
    for (int i = 0; i < c->count; i++) {
        column *one = &c->item[i];
        if (!strcmp(one->name, "inputs")) one->standard = has_other_inputs(r);
        if (!strcmp(one->name, "cache")) one->standard = results_cold(r);
    }
    add_axes(c, r);
    for (size_t i = 0; i < sizeof after_axes / sizeof *after_axes; i++)
        add_named(c, after_axes[i]);
    for (int i = 0; i < n; i++)
        if (key[i].column.name && !has_name(c, key[i].column.name))
            add_named(c, key[i].column.name);
    for (int i = 0; i < c->count; i++)
        c->item[i].standard |= accuracy_any(r) && accuracy_is_column(&c->item[i]);
    columns_more(c, r);
}

void columns_more(columns *c, const results *r)
{
    add_axes(c, r);
    for (int k = 0; k < COUNTS; k++) add_counts(c, r, k);
}

void columns_free(columns *c)
{
    for (int i = 0; i < c->owned_count; i++) free(c->owned[i]);
    free(c->owned);
    free(c->item);
    *c = (columns){ 0 };
}

/* ---- finding ------------------------------------------------------------- */

static const char *long_name(const char *name)
{
    static const char *const names[][2] = {
        { "n", "tokens" }, { "seq", "tokens" },  { "d", "head_dim" },
        { "w", "window" }, { "h", "heads" },     { "b", "batch" },
        { "t", "threads" }, { "g", "grid" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i][0])) return names[i][1];
    return name;
}

const column *columns_find(const columns *c, const char *name, error *e)
{
    char wanted[RESULT_TEXT];
    snprintf(wanted, sizeof wanted, "%s", long_name(name));
    for (char *p = wanted; *p; p++)
        if (*p == '-') *p = '_';
    for (int i = 0; i < c->count; i++)
        if (!strcmp(c->item[i].name, wanted) || !strcmp(c->item[i].key, wanted))
            return &c->item[i];

    const char **names = sure(malloc((size_t)c->count * sizeof *names));
    for (int i = 0; i < c->count; i++) names[i] = c->item[i].name;
    const char *near = error_nearest(wanted, names, c->count);
    free(names);
    if (near)
        error_set(e, "unknown column '%s'; did you mean '%s'?", name, near);
    else
        error_set(e, "unknown column '%s': 'attnbench table DIR --columns "
                     "help' lists them", name);
    return NULL;
}

/* ---- values -------------------------------------------------------------- */

/* Number of a column of counts among the objects of events, or -1. */
static int counts_in(const column *c)
{
    for (int k = 0; c->kind == COLUMN_VALUE && !c->member && k < COUNTS; k++)
        if (!strncmp(c->name, prefixes[k], strlen(prefixes[k]))) return k;
    return -1;
}

void column_numbers(const column *c, const result *r, double value[3])
{
    value[0] = value[1] = value[2] = NAN;
    const int k = counts_in(c);
    if (c->derive) c->derive(r, value);
    else if (c->member) value[0] = row_number_of(r->row, c->member);
    else if (c->kind == COLUMN_AXIS)
        value[0] = result_axis_number(r, c->name);
    else if (k >= 0) {
        const char *name = c->name + strlen(prefixes[k]);
        value[0] = json_number(json_get(json_get(counts_of(r, k), name),
                                        "value"), NAN);
    }
}

static bool is_objections(const column *c)
{
    return c->kind == COLUMN_TEXT && !c->member && !c->word;
}

void column_mark(const column *c, const result *r, char *out, size_t size)
{
    if (is_objections(c)) objections_mark(r, out, size);
    else column_text(c, r, out, size);
}

void column_text(const column *c, const result *r, char *out, size_t size)
{
    *out = 0;
    if (c->kind == COLUMN_AXIS && !c->derive) {
        char text[RESULT_TEXT];
        result_axis(r, c->name, text);
        snprintf(out, size, "%s", text);
    } else if (is_objections(c))
        objections_of_case(r, out, size);
    else if (c->kind == COLUMN_TEXT) {
        const char *text = c->word ? c->word(r) : row_text_of(r->row, c->member);
        if (!text) text = strcmp(c->name, "inputs") ? "" : "normal";
        snprintf(out, size, "%s", text);
    } else {
        double value[3];
        column_numbers(c, r, value);
        if (!isnan(value[0])) snprintf(out, size, "%.10g", value[0]);
    }
}

bool column_has_interval(const column *c)
{
    return c->derive == interval_of_time || c->derive == rate ||
           c->derive == fraction || c->derive == bandwidth;
}
