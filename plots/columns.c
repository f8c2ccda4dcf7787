/* columns.c - the registry of columns. */
#include "columns.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accuracy.h"

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- derived values ------------------------------------------------------ */

/* amount per second, with the interval of the time turned round. */
static void per_second(const result *r, double amount, double value[3])
{
    value[0] = amount / (1e-9 * result_number(r, "time_ns/median"));
    value[1] = amount / (1e-9 * result_number(r, "time_ns/hi"));
    value[2] = amount / (1e-9 * result_number(r, "time_ns/lo"));
}

static void rate(const result *r, double value[3])
{
    per_second(r, result_number(r, "flop/total"), value);
}

static void bandwidth(const result *r, double value[3])
{
    per_second(r, result_number(r, "bytes/compulsory"), value);
}

static void intensity(const result *r, double value[3])
{
    value[0] = result_number(r, "flop/total") /
               result_number(r, "bytes/compulsory");
}

/* GFLOP/s in the journal, as the FMA peak is spoken of. */
static void peak(const result *r, double value[3])
{
    value[0] = 1e9 * result_number(r, "roofline/peak_gflops");
}

static void attainable(const result *r, double value[3])
{
    value[0] = 1e9 * result_number(r, "roofline/attainable_gflops");
}

static void threads(const result *r, double value[3])
{
    value[0] = r->threads;
}

/* Share of cases below the one time: fraction of the roof, with the interval. */
static void fraction(const result *r, double value[3])
{
    const double median = result_number(r, "time_ns/median");
    value[0] = result_number(r, "roofline/fraction");
    value[1] = value[0] * median / result_number(r, "time_ns/hi");
    value[2] = value[0] * median / result_number(r, "time_ns/lo");
}

static void interval_of_time(const result *r, double value[3])
{
    value[0] = result_number(r, "time_ns/median");
    value[1] = result_number(r, "time_ns/lo");
    value[2] = result_number(r, "time_ns/hi");
}

/* ---- the fixed columns --------------------------------------------------- */

/* clang-format off */
#define WORD(name, title, standard, path) \
    { name, name, title, COLUMN_TEXT, QUANTITY_NUMBER, 1, 0, standard, path, NULL, NULL }
#define SAME(name, title, word) \
    { name, name, title, COLUMN_TEXT, QUANTITY_NUMBER, 1, 0, false, NULL, NULL, word }
#define VALUE(name, key, title, quantity, si, better, standard, path, derive) \
    { name, key, title, COLUMN_VALUE, QUANTITY_##quantity, si, better, standard, path, derive, NULL }

static const column before_axes[] = {
    WORD("case", "case", false, "case"),
    WORD("kernel", "kernel", true, "kernel"),
    WORD("mechanism", "mechanism", false, "mechanism"),
    WORD("family", "family", false, "family"),
    WORD("level", "level", true, "level"),
    { "threads", "threads", "threads", COLUMN_AXIS, QUANTITY_COUNT, 1, 0, true, NULL, threads, NULL },
    WORD("pass", "pass", true, "pass"),
    WORD("inputs", "inputs", false, "inputs"),
    { "tokens", "tokens", "sequence length N", COLUMN_AXIS, QUANTITY_COUNT, 1, 0, true, NULL, NULL, NULL },
};

static const column after_axes[] = {
    WORD("status", "status", true, "status"),
    WORD("reason", "reason", false, "reason"),
    VALUE("time", "time_ns", "time per call", SECONDS, 1e-9, -1, true, NULL, interval_of_time),
    VALUE("time_lo", "time_lo_ns", "time, lower end", SECONDS, 1e-9, 0, true, "time_ns/lo", NULL),
    VALUE("time_hi", "time_hi_ns", "time, upper end", SECONDS, 1e-9, 0, true, "time_ns/hi", NULL),
    VALUE("time_min", "time_min_ns", "shortest time", SECONDS, 1e-9, 0, false, "time_ns/min", NULL),
    VALUE("time_mad", "time_mad_ns", "median absolute deviation", SECONDS, 1e-9, 0, false, "time_ns/mad", NULL),
    VALUE("samples", "samples", "clean samples", COUNT, 1, 0, true, "time_ns/n", NULL),
    VALUE("processes", "processes", "processes", COUNT, 1, 0, false, "time_ns/processes", NULL),
    WORD("stop", "stop", true, "time_ns/stop"),
    VALUE("gflops", "flop_per_s", "rate", FLOP_PER_S, 1, 1, true, NULL, rate),
    VALUE("fraction", "fraction_of_roof", "fraction of the roof", NUMBER, 1, 1, true, NULL, fraction),
    WORD("bound", "bound", false, "roofline/bound"),
    VALUE("peak", "peak_flop_per_s", "FMA peak", FLOP_PER_S, 1, 0, false, NULL, peak),
    VALUE("attainable", "attainable_flop_per_s", "attainable rate", FLOP_PER_S, 1, 0, false, NULL, attainable),
    VALUE("bandwidth", "bytes_per_s", "compulsory traffic", BYTES_PER_S, 1, 1, false, NULL, bandwidth),
    VALUE("intensity", "flop_per_byte", "arithmetic intensity", NUMBER, 1, 0, false, NULL, intensity),
    VALUE("pairs", "pairs", "visible pairs", COUNT, 1, 0, false, "pairs", NULL),
    VALUE("flop", "flop", "operations", COUNT, 1, 0, false, "flop/total", NULL),
    VALUE("mul_add", "flop_mul_add", "multiply-adds", COUNT, 1, 0, false, "flop/mul_add", NULL),
    VALUE("add", "flop_add", "additions", COUNT, 1, 0, false, "flop/add", NULL),
    VALUE("mul", "flop_mul", "multiplications", COUNT, 1, 0, false, "flop/mul", NULL),
    VALUE("div", "flop_div", "divisions", COUNT, 1, 0, false, "flop/div", NULL),
    VALUE("exp", "flop_exp", "exponentials", COUNT, 1, 0, false, "flop/exp", NULL),
    VALUE("executed", "flop_executed", "operations executed, where other", COUNT, 1, 0, false, "executed/total", NULL),
    VALUE("compulsory", "compulsory_bytes", "compulsory traffic per call", BYTES, 1, 0, false, "bytes/compulsory", NULL),
    VALUE("workspace", "workspace_bytes", "workspace", BYTES, 1, -1, true, "bytes/workspace", NULL),
    VALUE("state", "state_bytes", "prepared state", BYTES, 1, 0, false, "bytes/state", NULL),
    VALUE("saved", "saved_bytes", "saved for backward", BYTES, 1, 0, false, "bytes/saved", NULL),
    VALUE("parameters", "parameter_bytes", "parameters", BYTES, 1, 0, false, "bytes/parameters", NULL),
    VALUE("peak_rss", "peak_rss_bytes", "peak resident memory", BYTES, 1, 0, true, "bytes/peak_rss", NULL),
    VALUE("nmse", "nmse", "normalised squared error", NUMBER, 1, 0, false, "check/nmse", NULL),
    VALUE("max_abs", "max_abs_error", "largest error", NUMBER, 1, 0, true, "check/max_abs", NULL),
    VALUE("max_ulp", "max_error_ulp", "largest error (ulp)", NUMBER, 1, -1, false, NULL, accuracy_max_ulp),
    VALUE("rms_ulp", "rms_error_ulp", "rms error (ulp)", NUMBER, 1, -1, false, NULL, accuracy_rms_ulp),
    VALUE("stress_ulp", "stress_error_ulp", "largest error on stress inputs (ulp)", NUMBER, 1, -1, false, NULL, accuracy_stress_ulp),
    SAME("same_repeat", "same bits again", accuracy_repeat),
    SAME("same_threads", "same bits with other threads", accuracy_threads),
    SAME("same_levels", "same bits at other levels", accuracy_levels),
    VALUE("steal", "steal_ticks", "steal", COUNT, 1, 0, false, "noise/steal_ticks", NULL),
    VALUE("switches", "involuntary_switches", "involuntary switches", COUNT, 1, 0, false, "noise/involuntary_switches", NULL),
    VALUE("clock_ratio", "clock_ratio", "clock against quiet", NUMBER, 1, 0, false, "noise/clock_ratio", NULL),
    WORD("env", "environment", false, "env"),
};
#undef WORD
#undef SAME
#undef VALUE
/* clang-format on */

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

/* Objects with counts of events, and what names of their columns begin with. */
static const struct {
    const char *part, *prefix;
} counts[] = { { "counters", "counter." }, { "counters_cold", "cold." } };
enum { COUNTS = sizeof counts / sizeof *counts };

/* Titles of those that the figures of misses show. */
static const char *counter_title(const char *key, const char *name)
{
    static const char *const titles[][2] = {
        { "l1d_miss", "L1 data misses per call" },
        { "l2_miss", "L2 misses per call" },
        { "llc_miss", "last-level misses per call" },
    };
    if (strncmp(name, counts[0].prefix, strlen(counts[0].prefix))) return name;
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        if (!strcmp(key, titles[i][0])) return titles[i][1];
    return name;
}

/* One column per member that `part` has in any case. */
static void add_members(columns *c, const results *r, const char *part,
                        const char *prefix, enum column_kind kind)
{
    char key[128];
    for (int i = 0; i < r->count; i++) {
        const json *object = json_get(r->item[i].row, part);
        if (!json_is_object(object)) continue;
        for (const json *x = json_first(object); x; x = json_next(x)) {
            snprintf(key, sizeof key, "%s%s", prefix, json_key(x));
            if (has_key(c, key)) continue;
            const char *name = own(c, json_key(x), prefix);
            const char *title = kind == COLUMN_VALUE
                                    ? counter_title(json_key(x), name) : name;
            add(c, &(column){ name, name, title, kind,
                              kind == COLUMN_VALUE ? QUANTITY_EVENTS
                                                   : QUANTITY_COUNT, 1,
                              kind == COLUMN_VALUE ? -1 : 0,
                              kind == COLUMN_AXIS,
                              kind == COLUMN_VALUE ? name : NULL, NULL, NULL });
        }
    }
}

static bool has_other_inputs(const results *r)
{
    for (int i = 0; i < r->count; i++)
        if (json_get(r->item[i].row, "inputs")) return true;
    return false;
}

void columns_make(columns *c, const results *r)
{
    *c = (columns){ 0 };
    for (size_t i = 0; i < sizeof before_axes / sizeof *before_axes; i++) {
        column one = before_axes[i];
        if (!strcmp(one.name, "inputs")) one.standard = has_other_inputs(r);
        add(c, &one);
    }
    add_members(c, r, "problem", "", COLUMN_AXIS);
    const bool accuracy = accuracy_any(r);
    for (size_t i = 0; i < sizeof after_axes / sizeof *after_axes; i++) {
        column one = after_axes[i];
        one.standard |= accuracy && accuracy_is_column(&one);
        add(c, &one);
    }
    columns_more(c, r);
}

void columns_more(columns *c, const results *r)
{
    add_members(c, r, "problem", "", COLUMN_AXIS);
    for (int k = 0; k < COUNTS; k++)
        add_members(c, r, counts[k].part, counts[k].prefix, COLUMN_VALUE);
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

/* A column of counts: its number among the objects, or -1. */
static int counts_of(const column *c)
{
    for (int k = 0; c->path && k < COUNTS; k++)
        if (!strncmp(c->path, counts[k].prefix, strlen(counts[k].prefix)))
            return k;
    return -1;
}

void column_numbers(const column *c, const result *r, double value[3])
{
    value[0] = value[1] = value[2] = NAN;
    if (c->kind == COLUMN_TEXT) return;
    const int k = c->kind == COLUMN_VALUE ? counts_of(c) : -1;
    if (c->derive) c->derive(r, value);
    else if (c->kind == COLUMN_AXIS)
        value[0] = result_axis_number(r, c->name);
    else if (k >= 0) {
        const json *all = json_get(r->row, counts[k].part);
        const char *name = c->path + strlen(counts[k].prefix);
        value[0] = json_number(json_get(json_get(all, name), "value"), NAN);
    } else
        value[0] = result_number(r, c->path);
}

void column_text(const column *c, const result *r, char *out, size_t size)
{
    *out = 0;
    if (c->kind == COLUMN_AXIS && !c->derive) {
        char text[RESULT_TEXT];
        result_axis(r, c->name, text);
        snprintf(out, size, "%s", text);
    } else if (c->kind == COLUMN_TEXT) {
        const char *text = c->word ? c->word(r)
                                   : json_text(result_member(r->row, c->path));
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
