/* findings_figure.c - the quantities of a claim as points with intervals.
 *
 *     "figure": { "x": title, "y": title, "log": true, "zero": true,
 *                 "labels": [text of each place] or "xs": [numbers],
 *                 "series": [ { "label": text, "of": quantity }, ... ] }
 *
 * With numbers (or neither: 0, 1, ...) points are joined; places with labels are
 * not.  A series of one value over several places is a line for comparison.
 */
#define _GNU_SOURCE /* asprintf */
#include "findings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/file.h"
#include "../plots/gnuplot.h"
#include "../plots/palette.h"

enum { SERIES = LEDGER_SERIES, WIDTH = 400, HEIGHT = 210 };

typedef struct figure {
    const ledger_claim *claim;
    const json *spec, *labels, *xs;
    const ledger_quantity *of[SERIES];
    const char *label[SERIES];
    int series, places;
} figure;

static bool figure_read(const ledger_claim *c, figure *f)
{
    const json *s = c->figure;
    *f = (figure){ .claim = c, .spec = s, .labels = json_get(s, "labels"),
                   .xs = json_get(s, "xs") };
    if (!s) return false;
    const json *x = json_first(json_get(s, "series"));
    for (; x && f->series < SERIES; x = json_next(x)) {
        const char *of = json_text(json_get(x, "of"));
        const ledger_quantity *q = of ? ledger_find(c, of) : NULL;
        if (!q || !q->count) continue;
        f->label[f->series] = json_text(json_get(x, "label"));
        f->of[f->series++] = q;
        if (q->count > f->places) f->places = q->count;
    }
    return f->places > 0;
}

bool findings_has_figure(const ledger_claim *c)
{
    figure f;
    return figure_read(c, &f);
}

static double place_of(const figure *f, int i)
{
    return f->xs ? json_number(json_at(f->xs, i), i) : i;
}

/* Places with names: series stand beside each other. */
static double shift(const figure *f, int series)
{
    if (!f->labels || f->series < 2) return 0;
    return 0.5 * (series - 0.5 * (f->series - 1)) / f->series;
}

/* DIR/ID.tsv: a block for each series. */
static int write_points(const figure *f, const char *dir, error *e)
{
    file_writer w;
    char *name, *path;
    if (asprintf(&name, "%s.tsv", f->claim->id) < 0) abort();
    path = path_join(dir, name);
    const int began = file_begin(&w, path, e);
    free(name);
    free(path);
    if (began < 0) return -1;
    fputs("# x\tvalue\tlo\thi\n", w.stream);
    for (int s = 0; s < f->series; s++) {
        const ledger_quantity *q = f->of[s];
        const bool flat = q->count == 1 && f->places > 1;
        fprintf(w.stream, "%s# %s\n", s ? "\n\n" : "",
                f->label[s] ? f->label[s] : q->name);
        for (int i = 0; i < (flat ? f->places : q->count); i++) {
            const int k = flat ? 0 : i;
            const ledger_number *n = &q->of[k];
            const bool known = isfinite(n->lo) && isfinite(n->hi);
            fprintf(w.stream, "%.9g\t%.9g\t%.9g\t%.9g\n",
                    place_of(f, i) + (flat ? 0 : shift(f, s)), n->value,
                    known ? n->lo : n->value, known ? n->hi : n->value);
        }
    }
    return file_commit(&w, e);
}

static void write_axes(const figure *f, FILE *g)
{
    const char *x = json_text(json_get(f->spec, "x"));
    const char *y = json_text(json_get(f->spec, "y"));
    fputs("set border 3 linewidth 0.5\nset tics out nomirror scale 0.5\n"
          "set key outside right top reverse Left samplen 1.5 spacing 1.2 "
          "noenhanced\nset grid ytics linecolor rgb '#dddddd' linewidth 0.5\n"
          "set bars 0\n", g);
    fputs("set ylabel ", g);
    gnuplot_quote(g, y ? y : "");
    fputs(" noenhanced\nset xlabel ", g);
    gnuplot_quote(g, x ? x : "");
    fputs(" noenhanced\n", g);
    if (json_true(json_get(f->spec, "log"))) fputs("set logscale y\n", g);
    else if (json_true(json_get(f->spec, "zero"))) fputs("set yrange [0:*]\n", g);
    const double first = place_of(f, 0), last = place_of(f, f->places - 1);
    const double room = f->places > 1 ? 0.06 * (last - first) : 0.5;
    fprintf(g, "set xrange [%g:%g]\nset xtics (", first - (f->labels ? 0.5 : room),
            last + (f->labels ? 0.5 : room));
    for (int i = 0; i < f->places; i++) {
        if (i) fputs(", ", g);
        if (f->labels) {
            const char *text = json_text(json_at(f->labels, i));
            gnuplot_quote(g, text ? text : "");
            fprintf(g, " %d", i);
        } else fprintf(g, "%g", place_of(f, i));
    }
    fputs(")\n", g);
    if (f->labels && f->places > 4)
        fputs("set xtics rotate by -30 noenhanced font ',7'\n", g);
    else fputs("set xtics noenhanced\n", g);
}

static void write_series(const figure *f, FILE *g)
{
    static const int marker[] = { 7, 5, 9, 13, 6, 4, 8 };
    for (int s = 0; s < f->series; s++) {
        const bool flat = f->of[s]->count == 1 && f->places > 1;
        const uint32_t colour =
            flat ? SERIES_GREY : series_colors[s % SERIES_COLORS];
        fprintf(g, "%s '%s.tsv' index %d ", s ? ", \\\n    " : "plot",
                f->claim->id, s);
        if (flat)
            fprintf(g, "using 1:2 with lines dashtype 2 linecolor rgb "
                       "'#%06x' title ", colour);
        else
            fprintf(g, "using 1:2:3:4 with %s linecolor rgb '#%06x' "
                       "linewidth 1 pointtype %d pointsize 0.6*symbol title ",
                    f->labels ? "yerrorbars" : "yerrorlines", colour,
                    marker[s % 7]);
        gnuplot_quote(g, f->label[s] ? f->label[s] : "");
    }
    fputc('\n', g);
}

static int draw(const figure *f, const char *dir, error *e)
{
    gnuplot g;
    if (write_points(f, dir, e) < 0 ||
        gnuplot_begin(&g, dir, f->claim->id, WIDTH, HEIGHT, e) < 0)
        return -1;
    write_axes(f, g.script);
    write_series(f, g.script);
    return gnuplot_end(&g, f->claim->title, GNUPLOT_SVG | GNUPLOT_PNG, e);
}

int findings_figures(const ledger *l, const findings_about *a, error *e)
{
    char *dir = path_join(a->dir, "figures");
    int rc = folder_make(dir, e);
    for (int i = 0; i < l->claims && rc == 0; i++) {
        figure f;
        if (l->claim[i].wanted && figure_read(&l->claim[i], &f))
            rc = draw(&f, dir, e);
    }
    free(dir);
    return rc;
}
