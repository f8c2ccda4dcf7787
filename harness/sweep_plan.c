/* sweep_plan.c - from blocks of axes and patterns to a list of cases. */
#include "sweep_plan.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CASES = 200000 };

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- notes --------------------------------------------------------------- */

/* Each text once. */
__attribute__((format(printf, 2, 3)))
static void note(sweep_cases *c, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (int i = 0; i < c->notes; i++)
        if (!strcmp(c->note[i], text)) return;
    c->note = sure(realloc(c->note, (size_t)(c->notes + 1) * sizeof *c->note));
    c->note[c->notes++] = sure(strdup(text));
}

/* One note for all maps of as many axes: "2-D maps: 196 = 14x14, ...". */
static void note_grid(sweep_cases *c, int seq, const att_problem *p)
{
    char head[32], grid[ATT_TEXT], item[ATT_TEXT + 32];
    att_get(p, ATT_FIELD_grid, grid);
    snprintf(head, sizeof head, "%d-D maps:", p->grid.n);
    snprintf(item, sizeof item, " %d = %s,", seq, grid);
    int i = 0;
    while (i < c->notes && strncmp(c->note[i], head, strlen(head))) i++;
    if (i == c->notes) note(c, "%s", head);
    else if (strstr(c->note[i], item)) return;
    c->note[i] = sure(realloc(c->note[i],
                              strlen(c->note[i]) + strlen(item) + 1));
    strcat(c->note[i], item);
}

/* ---- kernels ------------------------------------------------------------- */

static bool matches(const sweep_patterns *p, const att_entry *e)
{
    for (int i = 0; i < p->count; i++)
        if (!fnmatch(p->of[i], e->kernel->name, 0) ||
            !fnmatch(p->of[i], e->mechanism->name, 0))
            return true;
    return false;
}

static bool selected(const sweep_patterns *yes, const sweep_patterns *no,
                     const att_entry *e)
{
    return (yes->count == 0 || matches(yes, e)) && !matches(no, e);
}

/* The kernels of a block at one level, in the registry's order. */
typedef struct kernel_list {
    const att_entry **of;
    int count;
} kernel_list;

static bool has_plain(const kernel_list *list, const att_mechanism *m)
{
    for (int i = 0; i < list->count; i++)
        if (list->of[i]->mechanism == m && list->of[i]->kernel->plain)
            return true;
    return false;
}

static bool has_fast(const att_mechanism *m, enum att_level level)
{
    const att_entry *entry;
    const size_t n = att_entries(&entry);
    for (size_t i = 0; i < n; i++)
        if (entry[i].mechanism == m && entry[i].level == level &&
            !entry[i].kernel->plain)
            return true;
    return false;
}

static bool wanted(const sweep_block *b, const kernel_list *list,
                   const att_entry *e)
{
    const bool plain = e->kernel->plain;
    const bool first = plain && !has_plain(list, e->mechanism);
    if (!selected(&b->kernels, &b->not, e)) return false;
    switch (b->plain) {
    case SWEEP_PLAIN_ONE: return !plain || first;
    case SWEEP_PLAIN_FALLBACK:
        return !plain || (first && !has_fast(e->mechanism, e->level));
    case SWEEP_PLAIN_NONE: return !plain;
    case SWEEP_PLAIN_ONLY: return first;
    case SWEEP_PLAIN_ALL: break;
    }
    return true;
}

static kernel_list list_kernels(const sweep_block *b, enum att_level level)
{
    const att_entry *entry;
    const size_t n = att_entries(&entry);
    kernel_list list = { sure(malloc((n + 1) * sizeof *list.of)), 0 };
    for (size_t i = 0; i < n; i++)
        if (entry[i].level == level && wanted(b, &list, &entry[i]))
            list.of[list.count++] = &entry[i];
    return list;
}

/* ---- cases --------------------------------------------------------------- */

static int add_case(sweep_cases *out, const sweep_block *b, int group,
                    const axes_point *point, const att_entry *entry, error *e)
{
    sweep_case c = {
        .entry = *entry,
        .threads = point->threads,
        .pass = point->pass,
        .inputs = point->inputs,
        .cold = point->cold,
        .settings = b->settings,
        .group = group,
    };
    const char *lacks = axes_fit(entry->mechanism, point, &c.problem);
    if (lacks) {
        note(out, "left out: %s %s", entry->mechanism->name, lacks);
        return 0;
    }
    if (point->seq && c.problem.grid.n > 1)
        note_grid(out, point->seq, &c.problem);
    if (out->count == MOST_CASES)
        return error_set(e, "more than %d cases: use fewer values, or several "
                            "sweeps",
                         MOST_CASES);
    sweep_case_name(&c, &c.problem, c.name);
    if ((out->count & (out->count - 1)) == 0) /* full at powers of two */
        out->of = sure(realloc(out->of, (size_t)(out->count ? 2 * out->count
                                                            : 1) *
                                            sizeof *out->of));
    out->of[out->count++] = c;
    return 0;
}

static int add_point(sweep_cases *out, const sweep_block *b, size_t index,
                     int group, const sweep_patterns *kernels,
                     const sweep_patterns *not, error *e)
{
    axes_point point;
    int rc = 0;
    axes_pick(&b->axes, index, &point);
    kernel_list list = list_kernels(b, point.level);
    for (int i = 0; rc == 0 && i < list.count; i++)
        if (selected(kernels, not, list.of[i]))
            rc = add_case(out, b, group, &point, list.of[i], e);
    free(list.of);
    return rc;
}

/* ---- each case once ------------------------------------------------------ */

static int by_name_then_place(const void *a, const void *b)
{
    const sweep_case *const *x = a, *const *y = b;
    const int c = strcmp((*x)->name, (*y)->name);
    return c ? c : (*x > *y) - (*x < *y);
}

/* The first of equal names stays, in its place. */
static void remove_repeats(sweep_cases *c)
{
    const size_t n = (size_t)c->count;
    sweep_case **order = sure(malloc((n + 1) * sizeof *order));
    bool *repeat = sure(calloc(n + 1, sizeof *repeat));
    for (size_t i = 0; i < n; i++) order[i] = &c->of[i];
    qsort(order, n, sizeof *order, by_name_then_place);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(order[i]->name, order[i - 1]->name))
            repeat[order[i] - c->of] = true;
    int kept = 0;
    for (size_t i = 0; i < n; i++)
        if (!repeat[i]) c->of[kept++] = c->of[i];
    c->count = kept;
    free(repeat);
    free(order);
}

/* ---- blocks -------------------------------------------------------------- */

/* Forking and inputs of one process, roughly. */
#define OVERHEAD_SECONDS 0.015

static void share_seconds(sweep_cases *c, const int *groups,
                          const sweep_suite *s)
{
    for (int b = 0; b < s->count; b++) {
        int runs = 0;
        if (s->block[b].seconds == 0) continue;
        for (int i = 0; i < c->count; i++)
            if (c->of[i].group >= groups[b] && c->of[i].group < groups[b + 1])
                runs += c->of[i].settings.processes;
        double each =
            s->block[b].seconds / (runs ? runs : 1) - OVERHEAD_SECONDS;
        if (each < 0.02) each = 0.02;
        if (each > 5) each = 5;
        for (int i = 0; i < c->count; i++)
            if (c->of[i].group >= groups[b] && c->of[i].group < groups[b + 1])
                c->of[i].settings.seconds = each,
                c->of[i].settings.shared = true;
    }
}

static int add_block(sweep_cases *out, const sweep_block *b, const axes *over,
                     int *group, const sweep_patterns *kernels,
                     const sweep_patterns *not, error *e)
{
    sweep_block block = *b;
    int rc = 0;
    block.axes = (axes){ 0 };
    axes_overlay(&block.axes, &b->axes);
    axes_overlay(&block.axes, over);
    const double n = axes_combinations(&block.axes);
    if (n > MOST_CASES)
        rc = error_set(e, "%.0f combinations of axes, at most %d are possible: "
                          "use fewer values, or several sweeps",
                       n, MOST_CASES);
    for (size_t i = 0; rc == 0 && i < (size_t)n; i++)
        rc = add_point(out, &block, i, (*group)++, kernels, not, e);
    axes_free(&block.axes);
    return rc;
}

int sweep_cases_list(const sweep_suite *s, const axes *over,
                     const sweep_patterns *kernels, const sweep_patterns *not,
                     sweep_cases *out, error *e)
{
    int group = 0, rc = 0;
    int *groups = sure(calloc((size_t)s->count + 1, sizeof *groups));
    *out = (sweep_cases){ 0 };
    for (int b = 0; rc == 0 && b < s->count; b++) {
        rc = add_block(out, &s->block[b], over, &group, kernels, not, e);
        groups[b + 1] = group;
    }
    if (rc == 0 && out->count == 0)
        rc = error_set(e, "no kernel is left: kernels and --not exclude each "
                          "other, or no chosen kernel exists at this level "
                          "(plugins exist at the best level alone)");
    if (rc == 0) {
        remove_repeats(out);
        share_seconds(out, groups, s);
    } else sweep_cases_free(out);
    free(groups);
    return rc;
}

void sweep_cases_free(sweep_cases *c)
{
    for (int i = 0; i < c->notes; i++) free(c->note[i]);
    free(c->note);
    free(c->of);
    *c = (sweep_cases){ 0 };
}
