/* panels.c - cases to lines, lines to the panels of a chart. */
#include "panels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The mechanism that stands in grey beside every family. */
static const char baseline[] = "softmax";

/* One panel as long as its lines can be told apart easily. */
enum { SINGLE_PANEL = 9 };

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- lines --------------------------------------------------------------- */

static line *line_of(lines *all, const char *label, const result *from,
                     int room)
{
    for (int i = 0; i < all->count; i++)
        if (!strcmp(all->item[i].label, label)) return &all->item[i];
    all->item = sure(realloc(all->item,
                             (size_t)(all->count + 1) * sizeof *all->item));
    line *l = &all->item[all->count++];
    *l = (line){ .label = label, .from = from };
    l->at = sure(malloc((size_t)(room + 1) * sizeof *l->at));
    return l;
}

static int by_order(const void *a, const void *b)
{
    const sample *p = a, *q = b;
    if (p->order != q->order) return p->order < q->order ? -1 : 1;
    return (p->from > q->from) - (p->from < q->from);
}

static bool has_point(const sample *s)
{
    return s->point.x > 0 && s->point.y > 0 && isfinite(s->point.x) &&
           isfinite(s->point.y);
}

/* Of several cases at one place (grids of other shapes) the last one counts.
 * Those without a point go, too. */
static void tidy(lines *all, line *l)
{
    int n = 0;
    qsort(l->at, (size_t)l->count, sizeof *l->at, by_order);
    for (int i = 0; i < l->count; i++) {
        if (n && l->at[n - 1].order == l->at[i].order) n--;
        l->at[n++] = l->at[i];
    }
    all->duplicates += l->count - n;
    l->measured = n;
    l->count = 0;
    for (int i = 0; i < n; i++) {
        l->zeros += l->at[i].point.y == 0;
        if (has_point(&l->at[i])) l->at[l->count++] = l->at[i];
    }
}

/* By family, mechanism and label, the baseline's first. */
static int by_kernel(const void *a, const void *b)
{
    const line *x = a, *y = b;
    const bool bx = !strcmp(x->from->mechanism, baseline);
    const bool by = !strcmp(y->from->mechanism, baseline);
    if (bx != by) return bx ? -1 : 1;
    int c = strcmp(x->from->family, y->from->family);
    if (!c) c = strcmp(x->from->mechanism, y->from->mechanism);
    return c ? c : strcmp(x->label, y->label);
}

void lines_make(lines *all, const slice *s, const column *along,
                point_of *point, const void *what)
{
    *all = (lines){ 0 };
    for (int i = 0; i < s->count; i++) {
        const result *r = s->item[i];
        line *l = line_of(all, s->label[i], r, s->count);
        if (r->ok)
            l->at[l->count++] = (sample){ point(s, r, what),
                                          slice_number(s, along, r), r };
    }
    for (int i = 0; i < all->count; i++) tidy(all, &all->item[i]);
    if (all->count)
        qsort(all->item, (size_t)all->count, sizeof *all->item, by_kernel);
}

void lines_free(lines *all)
{
    for (int i = 0; i < all->count; i++) free(all->item[i].at);
    free(all->item);
    *all = (lines){ 0 };
}

void lines_drop_lonely(lines *all)
{
    int n = 0;
    for (int i = 0; i < all->count; i++)
        if (all->item[i].measured > 1) all->item[n++] = all->item[i];
        else {
            all->lonely += all->item[i].measured;
            free(all->item[i].at);
        }
    all->count = n;
}

bool lines_drawable(const lines *all)
{
    for (int i = 0; i < all->count; i++)
        if (all->item[i].count > 1) return true;
    return false;
}

/* ---- panels -------------------------------------------------------------- */

static chart_line to_chart_line(const line *l, int style)
{
    chart_line out = { .label = l->label, .exponent = NAN, .count = l->count,
                       .style = style };
    out.point = sure(malloc((size_t)(l->count + 1) * sizeof *out.point));
    for (int i = 0; i < l->count; i++) out.point[i] = l->at[i].point;
    return out;
}

/* The baseline's kernel that gets farthest, and is the fastest there. */
static const line *best_baseline(const lines *all)
{
    const line *best = NULL;
    double far = 0, time = INFINITY;
    for (int i = 0; i < all->count; i++) {
        const line *l = &all->item[i];
        if (strcmp(l->from->mechanism, baseline) || !l->count) continue;
        const sample *last = &l->at[l->count - 1];
        const double t = last->from->row->time_ns.median;
        if (last->point.x < far || (last->point.x == far && t >= time))
            continue;
        best = l;
        far = last->point.x;
        time = t;
    }
    return best;
}

static chart_panel *add_panel(panels *p, int room, int group)
{
    p->item = sure(realloc(p->item, (size_t)(p->count + 1) * sizeof *p->item));
    chart_panel *panel = &p->item[p->count++];
    *panel = (chart_panel){ .title = sure(strdup("")), .group = group };
    panel->line = sure(calloc((size_t)room + 2, sizeof *panel->line));
    return panel;
}

static void set_title(chart_panel *p, const char *a, const char *b, int part,
                      int parts)
{
    char text[128], of[32] = "";
    if (parts > 1) snprintf(of, sizeof of, " (%d of %d)", part, parts);
    snprintf(text, sizeof text, "%s%s%s%s", a, of, *a && *b ? ": " : "", b);
    free((char *)p->title);
    p->title = sure(strdup(text));
}

/* All lines in one panel. */
static void one_panel(panels *out, const lines *all, const char *title,
                      int group)
{
    const line *best = best_baseline(all);
    chart_panel *p = add_panel(out, all->count, group);
    for (int i = 0; i < all->count; i++) {
        p->line[p->count] = to_chart_line(&all->item[i], i);
        p->line[p->count++].baseline = &all->item[i] == best;
    }
    set_title(p, "", title, 1, 1);
}

/* Lines [from, to), with the baseline in grey unless they are its own. */
static void part_panel(panels *out, const lines *all, int from, int to,
                       int group)
{
    const line *grey = best_baseline(all);
    chart_panel *p = add_panel(out, to - from, group);
    for (int i = from; i < to; i++)
        p->line[p->count++] = to_chart_line(&all->item[i], i - from);
    if (!grey || !strcmp(all->item[from].from->mechanism, baseline)) return;
    p->line[p->count] = to_chart_line(grey, CHART_GREY);
    p->line[p->count++].baseline = true;
}

/* One panel per family, several where a family has too many lines; panel k of
 * every metric in a row. */
static void family_panels(panels *out, const lines *all, int metrics,
                          const char *const *titles)
{
    const int each = CHART_LINES - 1;
    const int n = all[0].count;
    for (int from = 0, to; from < n; from = to) {
        const char *family = all[0].item[from].from->family;
        for (to = from + 1; to < n; to++)
            if (strcmp(all[0].item[to].from->family, family)) break;
        const int parts = (to - from + each - 1) / each;
        for (int k = 0; k < parts; k++)
            for (int m = 0; m < metrics; m++) {
                const int a = from + (to - from) * k / parts;
                const int b = from + (to - from) * (k + 1) / parts;
                part_panel(out, &all[m], a, b, m);
                set_title(&out->item[out->count - 1], family, titles[m], k + 1,
                          parts);
            }
    }
}

static bool is_empty(const chart_panel *p)
{
    for (int i = 0; i < p->count; i++)
        if (p->line[i].count && p->line[i].style != CHART_GREY) return false;
    return true;
}

static void panel_free(chart_panel *p)
{
    for (int i = 0; i < p->count; i++) free(p->line[i].point);
    free(p->line);
    free((char *)p->title);
}

/* Panels in which every line lacks points say nothing; with two metrics a row
 * stays whole as long as one of them has some. */
static void drop_empty(panels *p, int metrics)
{
    int n = 0;
    for (int i = 0; i < p->count; i += metrics) {
        bool empty = true;
        for (int m = 0; m < metrics; m++) empty &= is_empty(&p->item[i + m]);
        for (int m = 0; m < metrics; m++)
            if (empty) panel_free(&p->item[i + m]);
            else p->item[n++] = p->item[i + m];
    }
    p->count = n;
}

void panels_make(panels *out, const lines *all, int metrics,
                 const char *const *titles)
{
    *out = (panels){ 0 };
    if (all[0].count > SINGLE_PANEL)
        family_panels(out, all, metrics, titles);
    else
        for (int m = 0; m < metrics; m++)
            one_panel(out, &all[m], titles[m], m);
    drop_empty(out, metrics);
}

void panels_free(panels *p)
{
    for (int i = 0; i < p->count; i++) panel_free(&p->item[i]);
    free(p->item);
    *p = (panels){ 0 };
}
