#include "accuracy_figure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accuracy.h"
#include "caption.h"
#include "chart.h"
#include "panels.h"

bool accuracy_figure_is(const char *name)
{
    return !strcmp(name, "accuracy");
}

/* Levels in their order: lines join them. */
static void level_number(const result *r, double value[3])
{
    value[0] = *r->level == 'v' ? strtod(r->level + 1, NULL) : 1;
}

static const column along = { .name = "level", .kind = COLUMN_VALUE,
                              .derive = level_number };

static double time_of(const result *r)
{
    return 1e-9 * r->row->time_ns.median;
}

/* The fastest plain kernel of the mechanism at that level; NaN: none. */
static double plain_time(const slice *s, const result *r)
{
    double best = NAN;
    for (int i = 0; i < s->count; i++)
        if (s->item[i]->ok && s->item[i]->row->plain == ROW_YES &&
            !strcmp(s->item[i]->mechanism, r->mechanism) &&
            !strcmp(s->item[i]->level, r->level))
            best = fmin(best, time_of(s->item[i]));
    return best;
}

static bool any_plain(const slice *s)
{
    for (int i = 0; i < s->count; i++)
        if (!isnan(plain_time(s, s->item[i]))) return true;
    return false;
}

static chart_point point(const slice *s, const result *r, const void *what)
{
    const bool *relative = what;
    double y[3];
    accuracy_rms_ulp(r, y);
    return (chart_point){ time_of(r) / (*relative ? plain_time(s, r) : 1), y[0],
                          NAN, NAN, false };
}

/* Full marks are those of the highest level, which alone a plain kernel has: that of
 * each level stands at 1.  softmax is not repeated in grey. */
static void set_marks(panels *p, bool relative)
{
    for (int i = 0; i < p->count; i++)
        for (int k = 0; k < p->item[i].count; k++) {
            chart_line *l = &p->item[i].line[k];
            const int last = l->count - 1;
            if (l->style == CHART_GREY) l->count = 0;
            for (int n = 0; n < last; n++) l->point[n].hollow = true;
            bool still = relative && last > 0;
            for (int n = 0; n <= last; n++) still &= l->point[n].x == 1;
            if (!still) continue;
            l->point[0] = l->point[last];
            l->count = l->style == CHART_GREY ? 0 : 1;
        }
}

/* What the marks are, and which cases have none. */
static void add_note(const lines *all, const slice *s, bool relative, char *note,
                     size_t size)
{
    int shown = 0, measured = 0;
    bool levels = false;
    for (int i = 0; i < all->count; i++) {
        shown += all->item[i].count;
        levels |= all->item[i].count > 1;
    }
    for (int i = 0; i < s->count; i++) measured += s->item[i]->ok;
    size_t n = strlen(note);
    n += (size_t)snprintf(note + n, size - n, "%sulp: unit in the last place of the "
                          "largest value of a tensor; the tensor with the largest "
                          "rms error, on normal inputs.", n ? " " : "");
    if (levels && n < size)
        n += (size_t)snprintf(note + n, size - n, " Full: the highest level; hollow: "
                              "lower ones, joined in their order%s.",
                              relative ? "; plain kernels at the highest" : "");
    if (shown < measured && n < size)
        snprintf(note + n, size - n, " %d of %d cases without a mark: no error%s.",
                 measured - shown, measured,
                 relative ? " or no plain kernel" : "");
}

static int draw(const figure_request *q, const results *r, const slice *s, error *e)
{
    static const char *const titles[1] = { "" };
    const bool relative = any_plain(s);
    char note[2048] = "", comment[1600];
    chart_mark plain = { 1, "plain" };
    panels p = { 0 };
    lines all;
    int rc = 0, points = 0;
    lines_make(&all, s, &along, point, &relative);
    for (int i = 0; i < all.count; i++) points += all.item[i].count;
    if (points == 0)
        error_set(e, "%s: no case has an error in ulp: 'attnbench verify "
                     "--accuracy --out' with this folder adds them", q->name);
    else {
        panels_make(&p, &all, 1, titles);
        set_marks(&p, relative);
        caption_note(r, s, &all, "rms error", note, sizeof note);
        add_note(&all, s, relative, note, sizeof note);
        caption_comment(r, s, q->file, comment, sizeof comment);
        const chart figure = {
            .name = q->file,
            .x_title = relative ? "time over the plain kernel's"
                                : "time per call (s)",
            .y_title = "rms error (ulp)",
            .x_ticks = CHART_DECADES,
            .quantity = QUANTITY_NUMBER,
            .key = true,
            .panel = p.item,
            .panels = p.count,
            .mark = &plain,
            .marks = relative,
            .note = note,
            .comment = comment,
            .width = q->width,
            .columns = p.count > 1 && q->width > 400 ? 2 : 1,
        };
        rc = chart_draw(&figure, q->dir, q->formats, e) < 0 ||
                     caption_write(q->dir, q->file, r, s,
                                   "Error against time, by kernel and level", true,
                                   note, e) < 0
                 ? -1 : 1;
    }
    panels_free(&p);
    lines_free(&all);
    return rc;
}

int accuracy_figure_draw(const figure_request *q, const results *r,
                         const columns *c, error *e)
{
    const column *level = columns_find(c, "level", NULL);
    slice s;
    if (slice_make(&s, r, c, &level, 1, q->asked, q->asked_count, e) < 0) return -1;
    const int rc = draw(q, r, &s, e);
    slice_free(&s);
    return rc;
}
