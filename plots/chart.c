/* chart.c - lines over logarithmic axes.
 *
 * Every position is computed here, in points from the lower left corner, so
 * that labels can be kept apart from lines and from each other; gnuplot is told
 * margins and ranges and only draws.
 */
#include "chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/file.h"
#include "gnuplot.h"
#include "../harness/stats.h"
#include "layout.h"
#include "palette.h"

#define LABEL_FONT 7.0
#define NOTE_FONT  6.5
#define LABEL_GAP  8.4 /* baseline to baseline                               */
#define LEADER     9.0 /* from the frame to the labels                       */
#define TITLE      12.0
#define TICKS      15.0
#define X_TITLE    11.0
#define Y_TITLE    13.0
#define NOTE_GAP   8.5
#define EDGE       4.0

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

typedef struct scale {
    double lo, hi; /* log10 of the range                                    */
} scale;

typedef struct panel_place {
    layout_box frame; /* the axes                                           */
    const scale *y;
    bool lowest; /* of its column                                           */
} panel_place;

typedef struct drawing {
    const chart *c;
    gnuplot g;
    scale x, y[2];
    double label_width;
    int note_lines;
    char *note; /* wrapped, lines end in \n                                  */
} drawing;

/* ---- styles -------------------------------------------------------------- */

enum { MARKERS = 6, DASHES = 4 };
/* gnuplot's point types: circle, square, triangles, diamond, pentagon */
static const int filled[MARKERS] = { 7, 5, 9, 11, 13, 15 };
static const int hollow[MARKERS] = { 6, 4, 8, 10, 12, 14 };
static const char *const dashes[DASHES] = { "solid", "(14,4)", "(5,3)",
                                            "(14,3,3,3)" };

static uint32_t color_of(const chart_line *l)
{
    return l->style == CHART_GREY ? SERIES_GREY
                                  : series_colors[l->style % SERIES_COLORS];
}

static int marker_of(const chart_line *l, bool open)
{
    const int i = l->style == CHART_GREY ? 0 : l->style % MARKERS;
    return open ? hollow[i] : filled[i];
}

static const char *dash_of(const chart_line *l)
{
    if (l->cold) return "(2,2)";
    return dashes[l->style == CHART_GREY ? 0 : l->style % DASHES];
}

/* ---- ranges -------------------------------------------------------------- */

static void widen(scale *s, double v)
{
    if (!(v > 0) || !isfinite(v)) return;
    s->lo = fmin(s->lo, log10(v));
    s->hi = fmax(s->hi, log10(v));
}

static void find_ranges(drawing *d)
{
    const chart *c = d->c;
    d->x = d->y[0] = d->y[1] = (scale){ INFINITY, -INFINITY };
    for (int p = 0; p < c->panels; p++)
        for (int l = 0; l < c->panel[p].count; l++) {
            const chart_line *line = &c->panel[p].line[l];
            for (int i = 0; i < line->count; i++) {
                scale *y = &d->y[c->panel[p].group];
                widen(&d->x, line->point[i].x);
                widen(y, line->point[i].y);
                widen(y, line->point[i].lo);
                widen(y, line->point[i].hi);
            }
        }
    for (int i = 0; i < c->limits; i++) {
        widen(&d->y[0], 2 * c->limit[i].y1); /* its label is above it       */
        widen(&d->x, c->limit[i].x0); /* not of horizontal ones             */
    }
    const double margin = fmax(0.02 * (d->x.hi - d->x.lo), 0.01);
    d->x.lo -= margin;
    d->x.hi += margin;
    for (int k = 0; k < 2; k++) {
        const double range = d->y[k].hi - d->y[k].lo;
        /* at least half a decade, so that some tick has a number */
        const double pad = fmax(fmax(0.12, 0.05 * range), (0.5 - range) / 2);
        d->y[k].lo -= pad;
        d->y[k].hi += pad;
    }
}

static double place_on(const scale *s, double lo, double hi, double v)
{
    return lo + (log10(v) - s->lo) / (s->hi - s->lo) * (hi - lo);
}

static double at_x(const drawing *d, const panel_place *p, double v)
{
    return place_on(&d->x, p->frame.x0, p->frame.x1, v);
}

static double at_y(const panel_place *p, double v)
{
    return place_on(p->y, p->frame.y0, p->frame.y1, v);
}

/* ---- frames -------------------------------------------------------------- */

static double label_text_width(const chart_line *l)
{
    const double exponent = isnan(l->exponent) ? 0 : 3.4 * LABEL_FONT;
    return layout_text_width(l->label, LABEL_FONT) + exponent;
}

static int most_lines(const chart *c)
{
    int most = 0;
    for (int p = 0; p < c->panels; p++)
        if (c->panel[p].count > most) most = c->panel[p].count;
    return most;
}

static int row_count(const chart *c)
{
    return (c->panels + c->columns - 1) / c->columns;
}

static double frame_height(const drawing *d)
{
    const bool wide = d->c->width > 400;
    /* many rows still go on one page */
    const double usual = row_count(d->c) > 4 ? 84
                         : d->c->panels > 1  ? 118
                         : wide              ? 235 : 165;
    return fmax(usual, (most_lines(d->c) + 0.5) * LABEL_GAP);
}

static double title_height(const chart *c)
{
    return *c->panel[0].title ? TITLE : EDGE;
}

static double row_height(const drawing *d)
{
    return title_height(d->c) + frame_height(d) + TICKS;
}

/* Space below the last row for the axis title and the notes. */
static double foot(const drawing *d)
{
    return X_TITLE + d->note_lines * NOTE_GAP + EDGE;
}

static double chart_height(const drawing *d)
{
    return row_count(d->c) * row_height(d) + foot(d);
}

/* Space for tick labels: "100 µs". */
#define TICK_LABELS 35.0

static panel_place place_panel(const drawing *d, int p)
{
    const chart *c = d->c;
    const int column = p % c->columns, row = p / c->columns;
    const double left = *c->y_title ? Y_TITLE : 0;
    const double cell = (c->width - left) / c->columns;
    const double top =
        chart_height(d) - row * row_height(d) - title_height(c);
    const double x = left + column * cell;
    return (panel_place){
        .frame = { x + TICK_LABELS, top - frame_height(d),
                   x + cell - LEADER - d->label_width - EDGE, top },
        .y = &d->y[c->panel[p].group],
        .lowest = p + c->columns >= c->panels,
    };
}

/* ---- commands ------------------------------------------------------------ */

/* In enhanced text these would be markup. */
static void write_plain(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (strchr("_^{}@&~\\", *text)) fputc('\\', f);
        if (*text == '\'') fputc('\'', f);
        fputc((unsigned char)*text < ' ' ? ' ' : *text, f);
    }
}

/* A label at a place in points; `markup` follows the text as it is. */
static void put_marked_label(drawing *d, double x, double y, const char *text,
                             const char *markup, const char *how, double font,
                             uint32_t color)
{
    FILE *f = d->g.script;
    fputs("set label '", f);
    write_plain(f, text);
    fprintf(f, "%s' at screen %.5f,%.5f %s font ',%g' textcolor rgb '#%06x'\n",
            markup, x / d->g.width, y / d->g.height, how, font, color);
}

static void put_label(drawing *d, double x, double y, const char *text,
                      const char *how, double font, uint32_t color)
{
    put_marked_label(d, x, y, text, "", how, font, color);
}

static void put_line(drawing *d, double x0, double y0, double x1, double y1,
                     const char *how)
{
    fprintf(d->g.script,
            "set arrow from screen %.5f,%.5f to screen %.5f,%.5f nohead %s\n",
            x0 / d->g.width, y0 / d->g.height, x1 / d->g.width,
            y1 / d->g.height, how);
}

/* ---- ticks --------------------------------------------------------------- */

static void x_octaves(FILE *f, const scale *s, double width)
{
    const int lo = (int)ceil(s->lo / log10(2) - 1e-9);
    const int hi = (int)floor(s->hi / log10(2) + 1e-9);
    const double each = width / ((s->hi - s->lo) / log10(2));
    const int step = (int)ceil(16 / each);
    const char *comma = "";
    for (int k = lo; k <= hi; k++, comma = ",")
        if ((hi - k) % step == 0) fprintf(f, "%s'2^{%d}' 2**%d", comma, k, k);
        else fprintf(f, "%s'' 2**%d 1", comma, k);
}

static bool seen_before(const chart *c, int panel, int line, int point)
{
    const double x = c->panel[panel].line[line].point[point].x;
    for (int p = 0; p <= panel; p++)
        for (int l = 0; l < c->panel[p].count; l++)
            for (int i = 0; i < c->panel[p].line[l].count; i++) {
                if (p == panel && l == line && i == point) return false;
                if (c->panel[p].line[l].point[i].x == x) return true;
            }
    return false;
}

static void x_values(FILE *f, const chart *c)
{
    const char *comma = "";
    for (int p = 0; p < c->panels; p++)
        for (int l = 0; l < c->panel[p].count; l++)
            for (int i = 0; i < c->panel[p].line[l].count; i++) {
                const double x = c->panel[p].line[l].point[i].x;
                if (seen_before(c, p, l, i)) continue;
                fprintf(f, "%s'%g' %g", comma, x, x);
                comma = ",";
            }
}

/* Whether step m of a decade gets its number, by how many decades there are. */
static bool is_labelled(int m, double range)
{
    if (m == 1) return true;
    if (range >= 2.2) return false;
    if (m == 2 || m == 5) return true;
    return range < 0.9 && (m == 3 || m == 4 || m == 7);
}

static void decades(FILE *f, const scale *s, enum quantity q)
{
    const char *comma = "";
    for (int k = (int)floor(s->lo); k <= (int)ceil(s->hi); k++)
        for (int m = 1; m < 10; m++) {
            const double v = m * pow(10, k);
            char text[64] = "";
            if (log10(v) < s->lo - 1e-9 || log10(v) > s->hi + 1e-9) continue;
            if (is_labelled(m, s->hi - s->lo))
                quantity_text(q, v, text, sizeof text);
            fprintf(f, "%s'%s' %de%d%s", comma, text, m, k, *text ? "" : " 1");
            comma = ",";
        }
}

static void put_axes(drawing *d, const panel_place *p)
{
    const chart *c = d->c;
    FILE *f = d->g.script;
    const layout_box *b = &p->frame;
    fprintf(f, "set lmargin at screen %.5f\nset rmargin at screen %.5f\n"
               "set bmargin at screen %.5f\nset tmargin at screen %.5f\n",
            b->x0 / d->g.width, b->x1 / d->g.width, b->y0 / d->g.height,
            b->y1 / d->g.height);
    fprintf(f, "set xrange [%.8g:%.8g]\nset yrange [%.8g:%.8g]\nset xtics (",
            pow(10, d->x.lo), pow(10, d->x.hi), pow(10, p->y->lo),
            pow(10, p->y->hi));
    if (c->x_ticks == CHART_OCTAVES) x_octaves(f, &d->x, b->x1 - b->x0);
    else if (c->x_ticks == CHART_VALUES) x_values(f, c);
    else decades(f, &d->x, QUANTITY_NUMBER);
    fputs(")\nset ytics (", f);
    decades(f, p->y, c->quantity);
    fputs(")\n", f);
    if (p->lowest)
        put_label(d, (b->x0 + b->x1) / 2, b->y0 - TICKS - X_TITLE / 2,
                  c->x_title, "center", GNUPLOT_FONT, 0);
}

/* ---- lines --------------------------------------------------------------- */

static bool has_points(const chart_line *l, bool open)
{
    for (int i = 0; i < l->count; i++)
        if (l->point[i].hollow == open) return true;
    return false;
}

static bool has_interval(const chart_line *l)
{
    int n = 0;
    for (int i = 0; i < l->count; i++) n += isfinite(l->point[i].hi);
    return n > 1;
}

/* One element of a plot command, from block `block` of the .tsv file. */
static void put_element(drawing *d, int block, bool *first, const char *columns,
                        const char *how)
{
    FILE *f = d->g.script;
    fputs(*first ? "plot " : ", \\\n     ", f);
    if (*first) {
        gnuplot_quote(f, d->c->name);
        fputs(".'.tsv'", f);
    } else
        fputs("''", f);
    fprintf(f, " index %d using %s notitle %s", block, columns, how);
    *first = false;
}

static void put_ribbon(drawing *d, const chart_line *l, int block, bool *first)
{
    char how[128];
    if (!has_interval(l) || l->style == CHART_GREY) return;
    snprintf(how, sizeof how,
             "with filledcurves fillcolor rgb '#%06x' fillstyle transparent "
             "solid 0.15 noborder", color_of(l));
    put_element(d, block, first, "1:3:4", how);
}

static void put_curve(drawing *d, const chart_line *l, int block, bool *first)
{
    char how[128];
    const bool grey = l->style == CHART_GREY;
    if (l->count > 1) {
        snprintf(how, sizeof how,
                 "with lines linecolor rgb '#%06x' linewidth %g dashtype %s",
                 color_of(l), grey ? 0.8 : 1.1, dash_of(l));
        put_element(d, block, first, "1:2", how);
    }
    if (has_points(l, false)) {
        snprintf(how, sizeof how,
                 "with points pointtype %d pointsize %g*symbol linecolor rgb "
                 "'#%06x'", marker_of(l, false), grey ? 0.25 : 0.42,
                 color_of(l));
        put_element(d, block, first, "1:($5==0?$2:NaN)", how);
    }
    if (!has_points(l, true)) return;
    /* white below, so that the line does not show through */
    snprintf(how, sizeof how,
             "with points pointtype %d pointsize 0.5*symbol linecolor rgb "
             "'#ffffff'", marker_of(l, false));
    put_element(d, block, first, "1:($5==1?$2:NaN)", how);
    snprintf(how, sizeof how,
             "with points pointtype %d pointsize 0.5*symbol linewidth 0.8 "
             "linecolor rgb '#%06x'", marker_of(l, true), color_of(l));
    put_element(d, block, first, "1:($5==1?$2:NaN)", how);
}

/* Block of a line in the .tsv file; lines without points have none. */
static int block_of(const chart *c, const chart_line *line)
{
    int block = 0;
    for (int p = 0; p < c->panels; p++)
        for (int l = 0; l < c->panel[p].count; l++) {
            if (&c->panel[p].line[l] == line) return block;
            block += c->panel[p].line[l].count > 0;
        }
    return block;
}

/* Ribbons below lines, grey lines below coloured ones. */
static void put_lines(drawing *d, const chart_panel *p)
{
    bool first = true;
    for (int l = 0; l < p->count; l++)
        if (p->line[l].count)
            put_ribbon(d, &p->line[l], block_of(d->c, &p->line[l]), &first);
    for (int grey = 1; grey >= 0; grey--)
        for (int l = 0; l < p->count; l++)
            if (p->line[l].count &&
                (p->line[l].style == CHART_GREY) == (grey == 1))
                put_curve(d, &p->line[l], block_of(d->c, &p->line[l]), &first);
    /* a panel must plot something for its axes to appear */
    fputs(first ? "plot NaN notitle\n" : "\n", d->g.script);
}

static void ink_lines(const drawing *d, const panel_place *at,
                      const chart_panel *p, layout_ink *ink)
{
    for (int l = 0; l < p->count; l++)
        for (int i = 0; i < p->line[l].count; i++) {
            const chart_point *b = &p->line[l].point[i];
            const chart_point *a = i ? b - 1 : b;
            layout_ink_line(ink, at_x(d, at, a->x), at_y(at, a->y),
                            at_x(d, at, b->x), at_y(at, b->y));
        }
}

/* ---- limits, marks, guides ----------------------------------------------- */

#define LIMIT_STYLE "back linecolor rgb '#666666' linewidth 0.7 dashtype (7,4)"

/* Cuts a segment to a box; false if nothing is left (Liang and Barsky). */
static bool clip(const layout_box *b, double *x0, double *y0, double *x1,
                 double *y1)
{
    const double dx = *x1 - *x0, dy = *y1 - *y0;
    const double p[4] = { -dx, dx, -dy, dy };
    const double q[4] = { *x0 - b->x0, b->x1 - *x0, *y0 - b->y0, b->y1 - *y0 };
    double from = 0, to = 1;
    for (int k = 0; k < 4; k++) {
        if (p[k] == 0 && q[k] < 0) return false;
        if (p[k] < 0) from = fmax(from, q[k] / p[k]);
        if (p[k] > 0) to = fmin(to, q[k] / p[k]);
    }
    if (from >= to) return false;
    *x1 = *x0 + to * dx;
    *y1 = *y0 + to * dy;
    *x0 += from * dx;
    *y0 += from * dy;
    return true;
}

/* A horizontal limit's label: above it, where there is most room. */
static void label_flat_limit(drawing *d, const panel_place *at,
                             const chart_limit *l, double y, layout_ink *ink)
{
    const double width = at->frame.x1 - at->frame.x0 - 6;
    const bool fits = layout_text_width(l->label, NOTE_FONT) < width;
    const char *text = fits ? l->label : l->brief;
    const double w = layout_text_width(text, NOTE_FONT), room = width - w;
    layout_box best = { 0 };
    double clearance = -1;
    for (int k = 0; k < 5; k++) {
        const double x = at->frame.x0 + 3 + fmax(room, 0) * k / 4;
        const layout_box b = { x, y + 1.5, x + w, y + 2 + NOTE_FONT };
        const double c = fmin(layout_clearance(ink, &b), 10);
        if (c <= clearance) continue;
        clearance = c;
        best = b;
    }
    put_label(d, best.x0, (best.y0 + best.y1) / 2, text, "left", NOTE_FONT,
              0x555555);
    layout_ink_box(ink, &best);
}

/* A slope's label runs along it, where it is farthest from those before it. */
static void label_steep_limit(drawing *d, const chart_limit *l,
                              const double from[2], const double to[2],
                              layout_ink *labels)
{
    const char *text = d->c->panels > 1 ? l->brief : l->label;
    const double slope = atan2(to[1] - from[1], to[0] - from[0]);
    const double up = 5, w = layout_text_width(text, NOTE_FONT);
    const double room = hypot(to[0] - from[0], to[1] - from[1]) - w - 15;
    double best = -1, x = 0, y = 0;
    char how[64];
    for (double t = 9; t <= 9 + fmax(room, 0); t += 4) {
        const double a = from[0] + t * cos(slope) - up * sin(slope);
        const double b = from[1] + t * sin(slope) + up * cos(slope);
        const layout_box box = { a, b, a + w * cos(slope), b + w * sin(slope) };
        const double clearance = fmin(layout_clearance(labels, &box), 9);
        if (clearance <= best) continue;
        best = clearance;
        x = a;
        y = b;
    }
    snprintf(how, sizeof how, "left rotate by %.2f",
             slope * 180 / 3.14159265358979);
    put_label(d, x, y, text, how, NOTE_FONT, 0x555555);
    layout_ink_line(labels, x, y, x + w * cos(slope), y + w * sin(slope));
}

static void put_limit(drawing *d, const panel_place *at, const chart_limit *l,
                      layout_ink *ink, layout_ink *labels)
{
    const bool flat = l->x0 <= 0;
    double from[2] = { flat ? at->frame.x0 : at_x(d, at, l->x0),
                       at_y(at, l->y0) };
    double to[2] = { flat ? at->frame.x1 : at_x(d, at, l->x1),
                     at_y(at, l->y1) };
    if (!clip(&at->frame, &from[0], &from[1], &to[0], &to[1])) return;
    put_line(d, from[0], from[1], to[0], to[1], LIMIT_STYLE);
    layout_ink_line(ink, from[0], from[1], to[0], to[1]);
    if (flat) label_flat_limit(d, at, l, from[1], ink);
    else label_steep_limit(d, l, from, to, labels);
}

/* Flat ones last: their labels avoid the slopes. */
static void put_limits(drawing *d, const panel_place *at, layout_ink *ink)
{
    layout_ink labels = { 0 };
    for (int flat = 0; flat < 2; flat++)
        for (int i = 0; i < d->c->limits; i++)
            if ((d->c->limit[i].x0 <= 0) == (flat == 1))
                put_limit(d, at, &d->c->limit[i], ink, &labels);
    layout_ink_free(&labels);
}

static void put_marks(drawing *d, const panel_place *at, layout_ink *ink)
{
    for (int i = 0; i < d->c->marks; i++) {
        const chart_mark *m = &d->c->mark[i];
        const double x = at_x(d, at, m->x);
        if (x <= at->frame.x0 || x >= at->frame.x1) continue;
        put_line(d, x, at->frame.y0, x, at->frame.y1,
                 "back linecolor rgb '#999999' linewidth 0.6 dashtype (2,3)");
        put_label(d, x + 4, at->frame.y0 + 3, m->label, "left rotate",
                  NOTE_FONT, 0x777777);
        layout_ink_line(ink, x, at->frame.y0, x, at->frame.y1);
        layout_ink_box(ink, &(layout_box){
                                x, at->frame.y0, x + 8,
                                at->frame.y0 + 4 +
                                    layout_text_width(m->label, NOTE_FONT) });
    }
}

/* Slopes 1 and 2 from one corner over two octaves, where there is room. */
static void put_guides(drawing *d, const panel_place *at, layout_ink *ink)
{
    static const char *const power[] = { "", "²" };
    const layout_box *f = &at->frame;
    const double x_decade = (f->x1 - f->x0) / (d->x.hi - d->x.lo);
    const double y_decade = (f->y1 - f->y0) / (at->y->hi - at->y->lo);
    const double label = 13;
    double octaves = 2, x, y;
    if (!d->c->guide) return;
    while (octaves > 0.5 &&
           (2 * octaves * log10(2) * y_decade > 0.5 * (f->y1 - f->y0) ||
            octaves * log10(2) * x_decade > 0.7 * (f->x1 - f->x0)))
        octaves /= 2;
    const double w = octaves * log10(2) * x_decade;
    const double h = octaves * log10(2) * y_decade;
    const layout_box inside = { f->x0 + EDGE, f->y0 + EDGE, f->x1, f->y1 };
    if (h < NOTE_FONT + 1) return; /* the two labels would touch             */
    if (layout_best_place(ink, &inside, w + label, 2 * h + 6, &x, &y) < 3)
        return;
    for (int k = 1; k <= 2; k++) {
        char text[16];
        snprintf(text, sizeof text, "%s%s", d->c->guide, power[k - 1]);
        put_line(d, x, y + 3, x + w, y + 3 + k * h,
                 "back linecolor rgb '#888888' linewidth 0.7");
        put_label(d, x + w + 2, y + 3 + k * h, text, "left", NOTE_FONT,
                  0x666666);
    }
    layout_ink_box(ink, &(layout_box){ x, y, x + w + label, y + 2 * h + 6 });
}

/* ---- labels of lines ----------------------------------------------------- */

static void put_line_label(drawing *d, const chart_line *l, double x, double y)
{
    char markup[64] = "";
    if (!isnan(l->exponent) && d->c->guide)
        snprintf(markup, sizeof markup, "  %s^{%.2f}", d->c->guide,
                 l->exponent);
    put_marked_label(d, x, y, l->label, markup, "left", LABEL_FONT,
                     color_of(l));
}

/* Whether a label fits right of the last point, free of everything. */
static bool fits_inside(const panel_place *at, const layout_ink *ink,
                        const layout_box *b)
{
    return b->x1 < at->frame.x1 && b->y1 < at->frame.y1 &&
           b->y0 > at->frame.y0 && layout_clearance(ink, b) > 1.5;
}

/* Height of a label outside the frame: that of the last point; where a line
 * ends early, where it would get to, so that the leader crosses no other. */
static double wanted_height(const drawing *d, const panel_place *at,
                            const chart_line *l)
{
    const chart_point *b = &l->point[l->count - 1];
    const double x = at_x(d, at, b->x), y = at_y(at, b->y);
    if (l->count < 2) return y;
    const double dx = x - at_x(d, at, b[-1].x), dy = y - at_y(at, b[-1].y);
    const double rest = at->frame.x1 - x;
    if (!(dx > 0) || rest < 8) return y;
    return fmin(fmax(y + dy / dx * rest, at->frame.y0), at->frame.y1);
}

/* Labels at the ends of lines: inside where a line ends early and there is
 * room, else at the right, pushed apart, with a thin leader. */
static void put_line_labels(drawing *d, const panel_place *at,
                            const chart_panel *p, layout_ink *ink)
{
    const size_t room = (size_t)p->count + 1;
    const chart_line **outside = sure(malloc(room * sizeof *outside));
    double *end_x = sure(calloc(4 * room, sizeof *end_x));
    double *end_y = end_x + room, *wanted = end_y + room;
    double *placed = wanted + room;
    int n = 0;
    for (int i = 0; i < p->count; i++) {
        const chart_line *l = &p->line[i];
        if (!l->count) continue;
        const double x = at_x(d, at, l->point[l->count - 1].x);
        const double y = at_y(at, l->point[l->count - 1].y);
        const layout_box b = { x + 5, y - LABEL_GAP / 2,
                               x + 5 + label_text_width(l),
                               y + LABEL_GAP / 2 };
        if (fits_inside(at, ink, &b)) {
            put_line_label(d, l, b.x0, y);
            layout_ink_box(ink, &b);
            continue;
        }
        outside[n] = l;
        end_x[n] = x;
        end_y[n] = y;
        wanted[n++] = wanted_height(d, at, l);
    }
    layout_spread(wanted, placed, n, LABEL_GAP, at->frame.y0,
                  at->frame.y1 - 3);
    for (int i = 0; i < n; i++) {
        char how[96];
        const double x = at->frame.x1 + LEADER;
        snprintf(how, sizeof how,
                 "back linecolor rgb '#%06x' linewidth 0.5 dashtype (2,2)",
                 color_of(outside[i]));
        if (fabs(placed[i] - end_y[i]) > 1 || end_x[i] < at->frame.x1 - 8)
            put_line(d, end_x[i] + 3, end_y[i], x - 1, placed[i], how);
        put_line_label(d, outside[i], x, placed[i]);
    }
    free(outside);
    free(end_x);
}

/* A list of markers and names at the right, in the order of the last points. */
static void put_key(drawing *d, const panel_place *at, const chart_panel *p)
{
    const double x = at->frame.x1 + LEADER;
    double y = at->frame.y1 - LABEL_GAP / 2;
    for (int i = 0; i < p->count; i++) {
        const chart_line *l = &p->line[i];
        if (!l->count) continue;
        fprintf(d->g.script,
                "set label '' at screen %.5f,%.5f point pointtype %d pointsize "
                "0.5*symbol linecolor rgb '#%06x'\n",
                (x - 3) / d->g.width, y / d->g.height, marker_of(l, false),
                color_of(l));
        put_line_label(d, l, x + 3, y);
        y -= LABEL_GAP;
    }
}

/* ---- crossings ------------------------------------------------------------ */

static bool crossing_of(const chart_line *l, const chart_line *b,
                        stats_crossing *out)
{
    stats_pair *pair = sure(malloc((size_t)(l->count + 1) * sizeof *pair));
    int n = 0;
    for (int i = 0, k = 0; i < l->count; i++) {
        const chart_point *p = &l->point[i];
        while (k < b->count && b->point[k].x < p->x) k++;
        if (k == b->count || b->point[k].x != p->x) continue;
        pair[n++] = (stats_pair){ p->x, p->y / b->point[k].y,
                                  p->lo / b->point[k].hi,
                                  p->hi / b->point[k].lo };
    }
    const bool some = stats_cross(pair, n, out);
    free(pair);
    return some && isfinite(out->n);
}

/* A line's height at x, straight between its points; they go around x. */
static double height_at(const chart_line *l, double x)
{
    int i = 1;
    while (i + 1 < l->count && l->point[i].x < x) i++;
    const chart_point *a = &l->point[i - 1], *b = &l->point[i];
    return a->y * pow(b->y / a->y, log(x / a->x) / log(b->x / a->x));
}

static const chart_line *baseline_of(const chart_panel *p)
{
    for (int i = 0; i < p->count; i++)
        if (p->line[i].baseline) return &p->line[i];
    return NULL;
}

const char *chart_crossed(const chart_panel *p)
{
    const chart_line *b = baseline_of(p);
    stats_crossing c;
    for (int i = 0; b && i < p->count; i++)
        if (&p->line[i] != b && crossing_of(&p->line[i], b, &c))
            return b->label;
    return NULL;
}

/* A diamond where a line crosses the baseline. */
static void put_crossings(drawing *d, const panel_place *at,
                          const chart_panel *p)
{
    const chart_line *b = baseline_of(p);
    if (!b || !d->c->crossings) return;
    for (int i = 0; i < p->count; i++) {
        stats_crossing c;
        if (&p->line[i] == b || !crossing_of(&p->line[i], b, &c)) continue;
        fprintf(d->g.script,
                "set label '' at screen %.5f,%.5f front point pointtype 12 "
                "pointsize 0.7*symbol linecolor rgb '#000000'\n",
                at_x(d, at, c.n) / d->g.width,
                at_y(at, height_at(b, c.n)) / d->g.height);
    }
}

/* ---- the whole ----------------------------------------------------------- */

/* What belongs to no panel: the title of the y axes, the note. */
static void put_margins(drawing *d)
{
    double y = (d->note_lines - 0.5) * NOTE_GAP;
    const double room = chart_height(d) - foot(d);
    const bool fits = layout_text_width(d->c->y_title, GNUPLOT_FONT) < room;
    put_label(d, 7, foot(d) + (room + TICKS) / 2, d->c->y_title,
              "center rotate", fits ? GNUPLOT_FONT : NOTE_FONT, 0);
    for (const char *t = d->note; *t; t += strcspn(t, "\n") + 1) {
        char *line = sure(strndup(t, strcspn(t, "\n")));
        put_label(d, EDGE, y, line, "left", NOTE_FONT, 0x555555);
        free(line);
        y -= NOTE_GAP;
    }
}

static void put_panel(drawing *d, int number)
{
    const chart_panel *p = &d->c->panel[number];
    const panel_place at = place_panel(d, number);
    layout_ink ink = { 0 };
    fputs("unset label\nunset arrow\n", d->g.script);
    put_axes(d, &at);
    if (*p->title)
        put_label(d, at.frame.x0, at.frame.y1 + TITLE / 2, p->title, "left",
                  GNUPLOT_FONT, 0);
    ink_lines(d, &at, p, &ink);
    if (p->group == 0) put_limits(d, &at, &ink);
    put_marks(d, &at, &ink);
    if (d->c->key) put_key(d, &at, p);
    else put_line_labels(d, &at, p, &ink);
    put_guides(d, &at, &ink);
    put_crossings(d, &at, p);
    if (number == 0) put_margins(d);
    put_lines(d, p);
    layout_ink_free(&ink);
}

/* Breaks the note at spaces; every line ends in a newline. */
static void wrap_note(drawing *d)
{
    const char *text = d->c->note ? d->c->note : "";
    const double width = d->c->width - 2 * EDGE;
    char *out = d->note = sure(malloc(strlen(text) + 2)), *line = out;
    char *space = NULL;
    for (; *text; text++) {
        *out++ = *text == '\n' ? ' ' : *text;
        *out = 0;
        if (*text == ' ') space = out - 1;
        if (!space || layout_text_width(line, NOTE_FONT) <= width) continue;
        *space = '\n';
        line = space + 1;
        space = NULL;
        d->note_lines++;
    }
    if (out > line) {
        *out++ = '\n';
        d->note_lines++;
    }
    *out = 0;
}

static void put_all(drawing *d)
{
    fputs("set multiplot\n"
          "set border 3 linewidth 0.7 linecolor rgb '#444444'\n"
          "set tics out nomirror scale 0.5,0.25 font ',7'\n"
          "set grid ytics linetype 1 linecolor rgb '#dddddd' linewidth 0.5\n"
          "set logscale x 2\nset logscale y 10\nunset key\n", d->g.script);
    for (int p = 0; p < d->c->panels; p++) put_panel(d, p);
    fputs("unset multiplot\n", d->g.script);
}

static void comment_lines(FILE *f, const char *text)
{
    while (*text) {
        const size_t n = strcspn(text, "\n");
        fprintf(f, "# %.*s\n", (int)n, text);
        text += n + (text[n] == '\n');
    }
}

/* One block per line, separated by two empty lines: gnuplot's `index`. */
static int write_data(const chart *c, const char *dir, error *e)
{
    char name[256];
    file_writer w;
    snprintf(name, sizeof name, "%s.tsv", c->name);
    char *path = path_join(dir, name);
    const int rc = file_begin(&w, path, e);
    free(path);
    if (rc < 0) return -1;
    comment_lines(w.stream, c->comment);
    fputs("# x\ty\tlo\thi\tunreliable\n", w.stream);
    const char *gap = "";
    for (int p = 0; p < c->panels; p++)
        for (int l = 0; l < c->panel[p].count; l++) {
            const chart_line *line = &c->panel[p].line[l];
            if (!line->count) continue;
            fprintf(w.stream, "%s# %s%s%s\n", gap, c->panel[p].title,
                    *c->panel[p].title ? ": " : "", line->label);
            gap = "\n\n";
            for (int i = 0; i < line->count; i++) {
                const chart_point *q = &line->point[i];
                fprintf(w.stream, "%.10g\t%.10g\t", q->x, q->y);
                if (isnan(q->lo) || isnan(q->hi)) fputs("NaN\tNaN", w.stream);
                else fprintf(w.stream, "%.10g\t%.10g", q->lo, q->hi);
                fprintf(w.stream, "\t%d\n", q->hollow);
            }
        }
    return file_commit(&w, e);
}

int chart_draw(const chart *c, const char *dir, unsigned formats, error *e)
{
    drawing d = { .c = c };
    int rc = -1;
    if (write_data(c, dir, e) < 0) return -1;
    find_ranges(&d);
    wrap_note(&d);
    for (int p = 0; p < c->panels; p++)
        for (int l = 0; l < c->panel[p].count; l++)
            if (c->panel[p].line[l].count)
                d.label_width = fmax(d.label_width,
                                     label_text_width(&c->panel[p].line[l]));
    if (gnuplot_begin(&d.g, dir, c->name, c->width, chart_height(&d), e) == 0) {
        put_all(&d);
        rc = gnuplot_end(&d.g, c->comment, formats, e);
    }
    free(d.note);
    return rc;
}
