/* tables.c - the tables of a journal. */
#define _GNU_SOURCE /* qsort_r */
#include "tables.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/clean.h"
#include "objections.h"

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- cells --------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The unit in which most values of a column are easy to read. */
static unit unit_of(const column *c, const result *const *item, int count)
{
    double *size = sure(malloc((size_t)(count + 1) * sizeof *size)), value[3];
    int n = 0;
    for (int i = 0; i < count; i++) {
        column_numbers(c, item[i], value);
        if (isfinite(value[0]) && value[0] != 0)
            size[n++] = fabs(value[0]) * c->si;
    }
    qsort(size, (size_t)n, sizeof *size, ascending);
    const unit u = quantity_unit(c->quantity, n ? size[n / 2] : 0);
    free(size);
    return u;
}

static void title_of(const column *c, unit u, char *out, size_t size)
{
    if (*u.name) snprintf(out, size, "%s (%s)", c->name, u.name);
    else snprintf(out, size, "%s", c->name);
}

/* A dagger marks what is not to be relied on. */
static void put_value(cell *x, const column *c, const result *r, unit u)
{
    double value[3];
    char text[NUMBER_TEXT + 8];
    column_numbers(c, r, value);
    const double k = c->si / u.size;
    number_text(value[0] * k, (value[2] - value[1]) / 2 * k, text);
    if (isfinite(value[0]) && column_has_interval(c) && r->unreliable)
        strcat(text, "†");
    cell_number(x, value[0], text);
}

/* Numbers of axes as they are; a grid is a word even if it has one side. */
static void put_axis(cell *x, const column *c, const result *r)
{
    char text[RESULT_TEXT], *end;
    column_text(c, r, text, sizeof text);
    const double v = strtod(text, &end);
    if (!*text) cell_word(x, "");
    else if (*end || !strcmp(c->name, "grid")) cell_word(x, text);
    else cell_number(x, v, text);
}

static void put_cell(cell *x, const column *c, const result *r, unit u)
{
    char text[512];
    if (c->kind == COLUMN_VALUE) put_value(x, c, r, u);
    else if (c->kind == COLUMN_AXIS) put_axis(x, c, r);
    else {
        column_text(c, r, text, sizeof text);
        cell_word(x, text);
        column_mark(c, r, text, sizeof text);
        sheet_text(&x->text, text);
    }
}

/* ---- one row per case ---------------------------------------------------- */

/* Numbers by size, words by spelling, nothing first. */
static int compare_texts(const char *a, const char *b)
{
    char *end_a, *end_b;
    const double x = strtod(a, &end_a), y = strtod(b, &end_b);
    if (end_a != a && end_b != b && x != y) return x < y ? -1 : 1;
    return strcmp(a, b);
}

static int compare_cases(const void *a, const void *b, void *context)
{
    static const char *const first[] = { "kernel", "pass", "inputs", "cache", "level",
                                         "threads" };
    const result *x = *(const result *const *)a, *y = *(const result *const *)b;
    const columns *c = context;
    char tx[RESULT_TEXT], ty[RESULT_TEXT];
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        const column *key = columns_find(c, first[i], NULL);
        column_text(key, x, tx, sizeof tx);
        column_text(key, y, ty, sizeof ty);
        const int order = compare_texts(tx, ty);
        if (order) return order;
    }
    for (int i = 0; i < c->count; i++) {
        if (c->item[i].kind != COLUMN_AXIS) continue;
        column_text(&c->item[i], x, tx, sizeof tx);
        column_text(&c->item[i], y, ty, sizeof ty);
        const int order = compare_texts(tx, ty);
        if (order) return order;
    }
    return (x > y) - (x < y);
}

void table_cases(sheet *s, const results *r, const columns *c,
                 const column *const *chosen, int count)
{
    const result **item = sure(malloc((size_t)r->count * sizeof *item));
    unit *u = sure(malloc((size_t)(count + 1) * sizeof *u));
    char title[96];
    for (int i = 0; i < r->count; i++) item[i] = &r->item[i];
    qsort_r(item, (size_t)r->count, sizeof *item, compare_cases, (void *)c);
    for (int k = 0; k < count; k++) {
        u[k] = unit_of(chosen[k], item, r->count);
        title_of(chosen[k], u[k], title, sizeof title);
        sheet_column(s, title, chosen[k]->key, chosen[k]->kind != COLUMN_TEXT);
    }
    for (int i = 0; i < r->count; i++) {
        sheet_row(s);
        for (int k = 0; k < count; k++)
            put_cell(sheet_last(s, k), chosen[k], item[i], u[k]);
    }
    free(item);
    free(u);
}

/* ---- pivot --------------------------------------------------------------- */

/* Keys of one axis of a pivot and the cases behind them. */
typedef struct keys {
    char (*text)[256];
    const result **first; /* a case of each                                  */
    int count;
} keys;

static bool is_kernel(const column *c)
{
    return !strcmp(c->name, "kernel");
}

/* Text of one key; kernels by the slice's label, which tells variants apart. */
static void key_text(const slice *s, int i, const column *c, char *out,
                     size_t size)
{
    if (is_kernel(c)) snprintf(out, size, "%s", s->label[i]);
    else if (c->kind == COLUMN_AXIS && !strcmp(c->name, "head_dim"))
        snprintf(out, size, "%.10g", slice_number(s, c, s->item[i]));
    else column_text(c, s->item[i], out, size);
}

/* Several keys with a tab between them. */
static void row_text(const slice *s, int i, const pivot *p, char *out,
                     size_t size)
{
    *out = 0;
    for (int k = 0; k < p->rows; k++) {
        const size_t n = strlen(out);
        if (k && n + 1 < size) strcpy(out + n, "\t");
        key_text(s, i, p->row[k], out + strlen(out), size - strlen(out));
    }
}

static int key_index(keys *k, const char *text, const result *r)
{
    for (int i = 0; i < k->count; i++)
        if (!strcmp(k->text[i], text)) return i;
    const size_t n = (size_t)k->count + 1;
    k->text = sure(realloc(k->text, n * sizeof *k->text));
    k->first = sure(realloc(k->first, n * sizeof *k->first));
    snprintf(k->text[k->count], sizeof *k->text, "%s", text);
    k->first[k->count] = r;
    return k->count++;
}

static void keys_free(keys *k)
{
    free(k->text);
    free(k->first);
}

static int compare_keys(const void *a, const void *b, void *context)
{
    const keys *k = context;
    const int i = *(const int *)a, j = *(const int *)b;
    const int family = strcmp(k->first[i]->family, k->first[j]->family);
    const bool numbers = strspn(k->text[i], "0123456789.") > 0;
    if (family && !numbers) return family;
    return compare_texts(k->text[i], k->text[j]);
}

static int *ordered(const keys *k)
{
    int *order = sure(malloc((size_t)(k->count + 1) * sizeof *order));
    for (int i = 0; i < k->count; i++) order[i] = i;
    qsort_r(order, (size_t)k->count, sizeof *order, compare_keys, (void *)k);
    return order;
}

typedef struct grid {
    slice s;
    keys row, across;
    const result **at; /* [row][across]; NULL: no case                      */
} grid;

static int fill(grid *g, const pivot *p, error *e)
{
    const int n = g->s.count;
    int *place = sure(malloc((size_t)(2 * n + 1) * sizeof *place));
    char text[256];
    int rc = 0;
    for (int i = 0; i < n; i++) {
        row_text(&g->s, i, p, text, sizeof text);
        place[2 * i] = key_index(&g->row, text, g->s.item[i]);
        key_text(&g->s, i, p->across, text, sizeof text);
        place[2 * i + 1] = key_index(&g->across, text, g->s.item[i]);
    }
    g->at = sure(calloc((size_t)(g->row.count * g->across.count) + 1,
                        sizeof *g->at));
    for (int i = 0; i < n && rc == 0; i++) {
        const result **at =
            &g->at[place[2 * i] * g->across.count + place[2 * i + 1]];
        if (*at)
            rc = error_set(e, "two cases in one cell: %s and %s: hold the axis "
                              "that tells them apart with --where, or add it "
                              "to --rows", (*at)->name, g->s.item[i]->name);
        *at = g->s.item[i];
    }
    free(place);
    return rc;
}

/* ---- the best of a line of cells ----------------------------------------- */

/* Whether the value a of a case is clear of b's: exactly known, or intervals
 * that do not touch. */
static bool clear_of(const column *m, const double a[3], const double b[3])
{
    if (!column_has_interval(m)) return a[0] != b[0];
    return m->better < 0 ? a[2] < b[1] : a[1] > b[2];
}

/* Index of the case whose value is best and clear of the runner-up's, or -1. */
static int best_of(const column *m, const result *const *item, int stride,
                   int n)
{
    double best[3] = { NAN }, second[3] = { NAN }, value[3];
    int at = -1, others = 0;
    for (int i = 0; i < n; i++) {
        const result *r = item[i * stride];
        if (!r || !r->ok) continue;
        column_numbers(m, r, value);
        if (isnan(value[0])) continue;
        if (at < 0 || m->better * value[0] > m->better * best[0]) {
            if (at >= 0) memcpy(second, best, sizeof second);
            others += at >= 0;
            memcpy(best, value, sizeof best);
            at = i;
        } else if (!others++ || m->better * value[0] > m->better * second[0])
            memcpy(second, value, sizeof second);
    }
    return at >= 0 && others && clear_of(m, best, second) ? at : -1;
}

static bool key_is_kernel(const pivot *p)
{
    for (int k = 0; k < p->rows; k++)
        if (is_kernel(p->row[k])) return true;
    return false;
}

/* bold[row * columns + column] */
static void mark_best(const grid *g, const pivot *p, bool *bold)
{
    const int rows = g->row.count, across = g->across.count;
    if (p->metric->better == 0) return;
    if (key_is_kernel(p))
        for (int c = 0; c < across; c++) {
            const int i = best_of(p->metric, g->at + c, across, rows);
            if (i >= 0) bold[i * across + c] = true;
        }
    else if (is_kernel(p->across))
        for (int r = 0; r < rows; r++) {
            const int i = best_of(p->metric, g->at + r * across, 1, across);
            if (i >= 0) bold[r * across + i] = true;
        }
}

/* ---- pivot to sheet ------------------------------------------------------ */

static void put_head(sheet *s, const pivot *p, const grid *g, const int *order)
{
    char key[400];
    for (int k = 0; k < p->rows; k++)
        sheet_column(s, p->row[k]->name, p->row[k]->key,
                     p->row[k]->kind == COLUMN_AXIS);
    for (int c = 0; c < g->across.count; c++) {
        const char *text = g->across.text[order[c]];
        snprintf(key, sizeof key, "%s %s=%s", p->metric->key, p->across->name,
                 text);
        sheet_column(s, text, key, p->metric->kind != COLUMN_TEXT);
    }
    sheet_text(&s->group, p->across->title);
    s->group_from = p->rows;
}

/* A case that failed says how, for people; programs find nothing there. */
static void put_pivot_cell(cell *x, const pivot *p, const result *r, unit u)
{
    if (!r) sheet_text(&x->text, "-");
    else if (!r->ok && p->metric->kind == COLUMN_VALUE)
        sheet_text(&x->text, r->status);
    else put_cell(x, p->metric, r, u);
}

static void put_rows(sheet *s, const pivot *p, const grid *g, const int *row,
                     const int *across, unit u)
{
    bool *bold = sure(calloc((size_t)(g->row.count * g->across.count) + 1,
                             sizeof *bold));
    mark_best(g, p, bold);
    for (int r = 0; r < g->row.count; r++) {
        const char *text = g->row.text[row[r]];
        sheet_row(s);
        for (int k = 0; k < p->rows; k++) {
            char one[256];
            const size_t n = strcspn(text, "\t");
            snprintf(one, sizeof one, "%.*s", (int)n, text);
            cell_word(sheet_last(s, k), one);
            text += n + (text[n] != 0);
        }
        for (int c = 0; c < g->across.count; c++) {
            const int at = row[r] * g->across.count + across[c];
            cell *x = sheet_last(s, p->rows + c);
            put_pivot_cell(x, p, g->at[at], u);
            x->bold = bold[at];
        }
    }
    free(bold);
}

static void put_caption(sheet *s, const pivot *p, const grid *g, unit u)
{
    char fixed[512], text[800];
    slice_describe(&g->s, fixed, sizeof fixed);
    snprintf(text, sizeof text, "%s%s%s%s over %s. Fixed: %s.",
             p->metric->title, *u.name ? " (" : "", u.name,
             *u.name ? ")" : "", p->across->title, *fixed ? fixed : "nothing");
    sheet_text(&s->caption, text);
}

int table_pivot(sheet *s, const results *r, const columns *c, const pivot *p,
                char *hidden, error *e)
{
    const column *vary[9];
    int n = 0;
    grid g = { 0 };
    for (int k = 0; k < p->rows; k++) vary[n++] = p->row[k];
    vary[n++] = p->across;
    if (slice_make(&g.s, r, c, vary, n, p->asked, p->asked_count, e) < 0)
        return -1;
    int rc = g.s.count ? fill(&g, p, e)
                       : error_set(e, "no case has all of these keys");
    if (rc == 0) {
        const unit u = unit_of(p->metric, g.s.item, g.s.count);
        int *row = ordered(&g.row), *across = ordered(&g.across);
        put_head(s, p, &g, across);
        put_rows(s, p, &g, row, across, u);
        put_caption(s, p, &g, u);
        snprintf(hidden, 512, "%s", g.s.hidden);
        free(row);
        free(across);
    }
    slice_free(&g.s);
    keys_free(&g.row);
    keys_free(&g.across);
    free(g.at);
    return rc;
}

/* ---- fits ---------------------------------------------------------------- */

static bool has_kernel(const results *r, const char *kernel)
{
    for (int i = 0; kernel && i < r->count; i++)
        if (!strcmp(r->item[i].kernel, kernel)) return true;
    return false;
}

static void put_fit(sheet *s, const json *fit)
{
    static const char *const words[] = { "series", "kernel", "level", "pass",
                                         "regime" };
    static const char *const numbers[] = { "exponent", "lo", "hi", "points",
                                           "tokens_min", "tokens_max",
                                           "workspace_exponent" };
    const int word_count = sizeof words / sizeof *words;
    const double half = (json_number(json_get(fit, "hi"), NAN) -
                         json_number(json_get(fit, "lo"), NAN)) / 2;
    sheet_row(s);
    for (int k = 0; k < word_count; k++) {
        const char *text = json_text(json_get(fit, words[k]));
        cell_word(sheet_last(s, k), text ? text : "");
    }
    for (int k = 0; k < 7; k++) {
        const double v = json_number(json_get(fit, numbers[k]), NAN);
        char text[NUMBER_TEXT] = "-";
        if (k == 6 && isfinite(v))
            snprintf(text, sizeof text, "%.2f", fabs(v) < 0.005 ? 0 : v);
        if (k < 6) number_text(v, k < 3 ? fmin(half, 0.01) : 0, text);
        cell_number(sheet_last(s, word_count + k), v, text);
    }
}

void table_fits(sheet *s, const results *r)
{
    const json *fits = NULL;
    for (int i = r->journal.count - 1; i >= 0 && !fits; i--)
        fits = json_get(r->journal.rows[i], "fits");
    sheet_column(s, "series", "series", false);
    sheet_column(s, "kernel", "kernel", false);
    sheet_column(s, "level", "level", false);
    sheet_column(s, "pass", "pass", false);
    sheet_column(s, "held", "regime", false);
    sheet_column(s, "exponent b", "exponent", true);
    sheet_column(s, "lower end", "exponent_lo", true);
    sheet_column(s, "upper end", "exponent_hi", true);
    sheet_column(s, "lengths", "points", true);
    sheet_column(s, "from N", "tokens_min", true);
    sheet_column(s, "to N", "tokens_max", true);
    sheet_column(s, "workspace", "workspace_exponent", true);
    sheet_text(&s->caption, "Fits time = c N^b over the sequence length, least "
                            "squares of logarithms, with 95 % intervals of b; "
                            "held: all lengths, or those whose data and "
                            "workspace that level of memory holds; "
                            "workspace: the exponent of its bytes.");
    for (const json *f = json_first(fits); f; f = json_next(f))
        if (has_kernel(r, json_text(json_get(f, "kernel")))) put_fit(s, f);
}

/* ---- crossings ----------------------------------------------------------- */

static void put_crossing(sheet *s, const json *crossing)
{
    static const char *const words[] = { "series", "kernel", "baseline",
                                         "faster" };
    static const char *const numbers[] = { "tokens", "lo", "hi" };
    sheet_row(s);
    for (int k = 0; k < 4; k++) {
        const char *text = json_text(json_get(crossing, words[k]));
        cell_word(sheet_last(s, k), text ? text : "");
    }
    for (int k = 0; k < 3; k++) {
        const double v = json_number(json_get(crossing, numbers[k]), NAN);
        char text[NUMBER_TEXT] = "-";
        if (isfinite(v)) snprintf(text, sizeof text, "%.0f", v);
        cell_number(sheet_last(s, 4 + k), v, text);
    }
}

void table_crossings(sheet *s, const results *r)
{
    const json *crossings = NULL;
    for (int i = r->journal.count - 1; i >= 0 && !crossings; i--)
        crossings = json_get(r->journal.rows[i], "crossings");
    sheet_column(s, "series", "series", false);
    sheet_column(s, "kernel", "kernel", false);
    sheet_column(s, "against", "baseline", false);
    sheet_column(s, "faster", "faster", false);
    sheet_column(s, "N", "tokens", true);
    sheet_column(s, "lower end", "lo", true);
    sheet_column(s, "upper end", "hi", true);
    sheet_text(&s->caption, "Where each series crosses the fastest of softmax: "
                            "faster above N or below it, at all lengths or at "
                            "none; ends are where the 95 % intervals of both "
                            "times cease to hold the same value.");
    for (const json *x = json_first(crossings); x; x = json_next(x))
        if (has_kernel(r, json_text(json_get(x, "kernel")))) put_crossing(s, x);
}

/* ---- footnote ------------------------------------------------------------ */

void table_footnote(const results *r, bool intervals, char *out, size_t size)
{
    char machine[160], compiler[400], revision[96];
    const json *env = r->item[r->count - 1].env;
    bool unreliable = false;
    for (int i = 0; i < r->count; i++)
        unreliable |= r->item[i].ok && r->item[i].unreliable;
    results_machine(env, machine, sizeof machine);
    results_compiler(env, compiler, sizeof compiler);
    results_revision(env, revision, sizeof revision);
    int n = snprintf(out, size, "%s; %s; revision %s.", machine, compiler,
                     revision);
    if (r->env_count > 1 && (size_t)n < size)
        n += snprintf(out + n, size - (size_t)n, " Mixed: cases of %d machines "
                                                 "or programs.", r->env_count);
    if (intervals && (size_t)n < size)
        n += snprintf(out + n, size - (size_t)n,
                      " Times are medians of clean samples; digits end where "
                      "the 95 %% interval begins.");
    char mixture[300];
    objections_of_mixture(r, mixture, sizeof mixture);
    if (*mixture && (size_t)n < size)
        n += snprintf(out + n, size - (size_t)n, " Mind: %s.", mixture);
    if (intervals && unreliable && (size_t)n < size)
        snprintf(out + n, size - (size_t)n, " †: fewer than %d clean samples, or "
                 "above the roofline (column reason).", CLEAN_LEAST);
}
