/* mapfigure.c - annotated figures of effective matrices. */
#include "mapfigure.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/array.h"
#include "../harness/file.h"
#include "../plots/gnuplot.h"
#include "../plots/palette.h"

/* Measures in points. */
enum { PANEL = 128, LEFT = 52, RIGHT = 78, TOP = 20, BOTTOM = 36, ACROSS = 50,
       DOWN = 46 };

/* Length of the header that npy_write() gives a matrix. */
enum { NPY_HEADER = 128 };

static const char query_colour[] = "#d55e00";

/* Okabe and Ito's colours again, for spectra. */
static uint32_t line_colour(int panel)
{
    return series_colors[panel % SERIES_COLORS];
}

typedef struct page {
    FILE *script;
    double width, height; /* points                                          */
} page;

/* Left, right, top, bottom of a box given in points from the top left. */
static void place(const page *g, double x, double y, double width,
                  double height)
{
    fprintf(g->script,
            "set lmargin at screen %.5f\nset rmargin at screen %.5f\n"
            "set tmargin at screen %.5f\nset bmargin at screen %.5f\n",
            x / g->width, (x + width) / g->width, 1 - y / g->height,
            1 - (y + height) / g->height);
}

static void start(const page *g)
{
    fputs("set multiplot\nset border 15 linewidth 0.5\n"
          "set tics out nomirror scale 0.5 font ',6.5'\nunset key\n"
          "set xtics offset 0,0.4\nset ytics offset 0.6,0\n",
          g->script);
}

/* shown(x): the value that a matrix entry x is coloured by. */
static void define_shown(const page *g, const heatmap_scale *s, size_t columns)
{
    switch (s->view) {
    case HEATMAP_LINEAR: fputs("shown(x) = x\n", g->script); break;
    case HEATMAP_LOG:
        fputs("shown(x) = atleast(log10(abs(x) + 1e-300))\n", g->script);
        break;
    case HEATMAP_UNIFORM:
        fprintf(g->script,
                "shown(x) = atleast(log(abs(x) * %zu + 1e-300) / log(2))\n",
                columns);
        break;
    }
}

/* What is common to a colour scale: range, table, the value of an entry. */
static void colours(const page *g, const heatmap_scale *s)
{
    uint8_t table[256][3];
    heatmap_palette(s, table);
    gnuplot_palette(g->script, table);
    fprintf(g->script, "set cbrange [%.9g:%.9g]\nunset colorbox\n", s->lo,
            s->hi);
    fprintf(g->script, "atleast(x) = x < %.9g ? %.9g : x\n", s->lo, s->lo);
    define_shown(g, s, s->columns);
}

/* The bar at the right, in the box of the last panel. */
static void colour_bar(const page *g, const heatmap_scale *s, const char *of,
                       double y, double height)
{
    char label[160];
    if (!of) of = heatmap_label(s);
    if (s->above > 0)
        snprintf(label, sizeof label, "%s; up to %.2g, clipped", of,
                 heatmap_value(s, s->largest));
    else snprintf(label, sizeof label, "%s", of);
    fprintf(g->script,
            "set colorbox user origin screen %.5f,%.5f size screen %.5f,%.5f\n"
            "set cbtics out font ',6.5' format '%%.3g'\nset cblabel ",
            (g->width - RIGHT + 12) / g->width,
            1 - (y + height) / g->height, 8 / g->width, height / g->height);
    gnuplot_quote(g->script, label);
    fputs(" noenhanced font ',7' offset 0.3,0\n", g->script);
}

static void title(const page *g, const char *text)
{
    fputs("set title ", g->script);
    gnuplot_quote(g->script, text);
    fputs(" noenhanced font ',7' offset 0,-0.7\n", g->script);
}

static void axis(const page *g, char which, const char *label, double length,
                 double step)
{
    fprintf(g->script, "set %ctics 0,%g\n", which, step);
    if (which == 'y')
        fprintf(g->script, "set yrange [%g:-0.5]\n", length - 0.5);
    else fprintf(g->script, "set xrange [-0.5:%g]\n", length - 0.5);
    fprintf(g->script, "set %clabel ", which);
    gnuplot_quote(g->script, label);
    fprintf(g->script, " font ',7' offset %s\n",
            which == 'x' ? "0,0.9" : "2.4,0");
}

/* About four tics; whole rows of the grid where that is what is counted. */
static double tic_step(double length, int row)
{
    static const int nice[] = { 1, 2, 5 };
    if (length <= 4 * row || row < 2) {
        double step = 1;
        for (int i = 1; length / step > 5; i++)
            step = nice[i % 3] * pow(10, i / 3);
        return step;
    }
    return row * ceil(length / (4.0 * row));
}

/* Plots the doubles in a file as an image, row 0 first.  gnuplot's images need
 * two rows and two columns; a single one is drawn as boxes. */
static void plot_image(const page *g, const char *file, size_t skip,
                       size_t rows, size_t columns)
{
    fputs("plot ", g->script);
    gnuplot_quote(g->script, file);
    fprintf(g->script, " binary skip=%zu format='%%double' ", skip);
    if (rows > 1 && columns > 1)
        fprintf(g->script, "array=(%zu,%zu) using (shown($1)) with image\n",
                columns, rows);
    else
        fprintf(g->script,
                "record=(%zu) using (%s):(%s):(0.5):(0.5):(shown($1)) with "
                "boxxyerror fillstyle solid noborder linecolor palette\n",
                rows * columns, columns > 1 ? "$0" : "0",
                columns > 1 ? "0" : "$0");
}

/* Frame around a grid cell. */
static void frame_cell(const page *g, const mapfigure *f)
{
    const double x = f->query % f->columns, y = f->query / f->columns;
    fprintf(g->script,
            "set object 1 rectangle from first %g,%g to first %g,%g front "
            "fillstyle empty border rgb '%s' linewidth 1.2\n",
            x - 0.5, y + 0.5, x + 0.5, y - 0.5, query_colour);
}

static void end_panel(const page *g)
{
    fputs("unset object\nunset arrow\nunset title\nunset colorbox\n",
          g->script);
}

/* ---- panels ------------------------------------------------------------- */

static void matrix_panel(const page *g, const mapfigure *f,
                         const mapfigure_panel *panel)
{
    const metrics *m = panel->m;
    char label[64];
    title(g, panel->title);
    snprintf(label, sizeof label, "key j;  rank %.0f, H/ln M %.2f", m->rank_f64,
             m->entropy_norm);
    axis(g, 'x', label, (double)m->columns,
         tic_step((double)m->columns, f->on_grid ? f->columns : 1));
    axis(g, 'y', "query i", (double)m->rows,
         tic_step((double)m->rows, f->columns));
    fprintf(g->script,
            "set arrow 1 from graph 1.08, first %d to graph 1.005, first %d "
            "front size graph 0.03,25 filled linecolor rgb '%s'\n",
            f->query, f->query, query_colour);
    plot_image(g, panel->file, NPY_HEADER, m->rows, m->columns);
    end_panel(g);
}

/* Row of the query as a map of the grid, or along the keys. */
static void row_panel(const page *g, const mapfigure *f,
                      const mapfigure_panel *panel)
{
    const metrics *m = panel->m;
    const size_t skip =
        NPY_HEADER + (size_t)f->query * m->columns * sizeof(double);
    if (f->on_grid && f->rows > 1) {
        axis(g, 'x', "column", f->columns, tic_step(f->columns, 1));
        axis(g, 'y', "row", f->rows, tic_step(f->rows, 1));
        frame_cell(g, f);
        plot_image(g, panel->file, skip, (size_t)f->rows, (size_t)f->columns);
    } else {
        axis(g, 'x', "key j", (double)m->columns,
             tic_step((double)m->columns, 1));
        fprintf(g->script, "set yrange [%g:%g]\nset ytics autofreq\n"
                           "set ylabel ' '\nplot ",
                f->scale->lo, f->scale->hi);
        gnuplot_quote(g->script, panel->file);
        fprintf(g->script,
                " binary skip=%zu record=(%zu) format='%%double' "
                "using ($0):(shown($1)) with lines linewidth 0.8 linecolor rgb "
                "'#440154'\n",
                skip, m->columns);
    }
    end_panel(g);
}

static void picture_panel(const page *g, const mapfigure *f)
{
    char text[64];
    snprintf(text, sizeof text, "query %d", f->query);
    title(g, text);
    axis(g, 'x', f->rows > 1 ? "column" : "token", f->columns,
         tic_step(f->columns, 1));
    axis(g, 'y', f->rows > 1 ? "row" : " ", f->rows, tic_step(f->rows, 1));
    if (f->rows == 1) fputs("set format y ''\n", g->script);
    frame_cell(g, f);
    fputs("plot ", g->script);
    gnuplot_quote(g->script, f->picture);
    fprintf(g->script, " binary filetype=png origin=(%g,%g) dx=%g dy=%g flipy "
                       "with rgbimage\n",
            -0.5 + 0.5 / f->patch, -0.5 + 0.5 / f->patch, 1.0 / f->patch,
            1.0 / f->patch);
    fputs("set format y\n", g->script);
    end_panel(g);
}

/* sigma_k / sigma_1 of every panel, with the three tolerances. */
static void spectrum_panel(const page *g, const mapfigure *f, const char *data)
{
    const metrics *m = f->panel[0].m;
    const double side = (double)(m->rows > m->columns ? m->rows : m->columns);
    const double line[] = { 1e-3, side * FLT_EPSILON, side * DBL_EPSILON };
    double most = 1;
    for (int i = 0; i < f->panels; i++)
        most = fmax(most, (double)f->panel[i].m->sigmas);
    title(g, "singular values");
    fprintf(g->script,
            "set yrange [1e-17:3]\nset logscale y\nset format y '10^{%%T}'\n"
            "set ytics 1e-15,1000\nset xrange [0:%g]\nset xtics 0,%g\n"
            "set xlabel 'k' font ',7' offset 0,0.9\n"
            "set ylabel 'sigma_k / sigma_1' noenhanced font ',7' "
            "offset 1.9,0\nplot ",
            most + 1, tic_step(most, 1));
    for (int t = 0; t < 3; t++)
        fprintf(g->script, "%.9g with lines linewidth 0.5 linecolor rgb "
                           "'#999999' dashtype 2, ",
                line[t]);
    for (int i = 0; i < f->panels; i++) {
        if (i) fputs(", ", g->script);
        gnuplot_quote(g->script, data);
        fprintf(g->script,
                " using 1:%d with lines linewidth 1 linecolor rgb '#%06x'",
                i + 2, (unsigned)line_colour(i));
    }
    fputs("\nunset logscale y\nset format y\n", g->script);
    end_panel(g);
}

/* k, then sigma_k / sigma_1 of each panel; what is zero is left empty. */
static int write_spectra(const mapfigure *f, const char *name, error *e)
{
    file_writer w;
    char *path = path_join(f->dir, name);
    int rc = file_begin(&w, path, e);
    free(path);
    if (rc < 0) return -1;
    size_t most = 0;
    for (int i = 0; i < f->panels; i++)
        if (f->panel[i].m->sigmas > most) most = f->panel[i].m->sigmas;
    fprintf(w.stream, "# k");
    for (int i = 0; i < f->panels; i++)
        fprintf(w.stream, "\t%s", f->panel[i].title);
    fputc('\n', w.stream);
    for (size_t k = 0; k < most; k++) {
        fprintf(w.stream, "%zu", k + 1);
        for (int i = 0; i < f->panels; i++) {
            const metrics *m = f->panel[i].m;
            if (k < m->sigmas && m->sigma[k] > 0)
                fprintf(w.stream, "\t%.9g", m->sigma[k] / m->sigma[0]);
            else fputs("\tNaN", w.stream);
        }
        fputc('\n', w.stream);
    }
    return file_commit(&w, e);
}

/* ---- figures ------------------------------------------------------------ */

/* Height of a panel that shows the grid, at the width of a panel or less. */
static void grid_box(const mapfigure *f, double *width, double *height)
{
    *width = *height = PANEL;
    if (f->rows == 1) return;
    if (f->columns > f->rows) *height = PANEL * (double)f->rows / f->columns;
    else *width = PANEL * (double)f->columns / f->rows;
}

/* Of the lower row. */
static double row_height(const mapfigure *f)
{
    double width, height;
    grid_box(f, &width, &height);
    return f->on_grid && f->rows > 1 ? height : PANEL;
}

static void draw(const page *g, const mapfigure *f, const char *spectra)
{
    const double low = TOP + PANEL + DOWN;
    double width, height;
    grid_box(f, &width, &height);
    start(g);
    place(g, LEFT, TOP, PANEL, PANEL);
    spectrum_panel(g, f, spectra);
    place(g, LEFT, low, width, f->rows > 1 ? height : PANEL / 4.0);
    picture_panel(g, f);
    colours(g, f->scale);
    for (int i = 0; i < f->panels; i++) {
        const double x = LEFT + (i + 1) * (PANEL + ACROSS);
        place(g, x, TOP, PANEL, PANEL);
        if (i == f->panels - 1) colour_bar(g, f->scale, NULL, TOP, PANEL);
        matrix_panel(g, f, &f->panel[i]);
        place(g, x, low, f->on_grid ? width : PANEL, row_height(f));
        row_panel(g, f, &f->panel[i]);
    }
    fputs("unset multiplot\n", g->script);
}

int mapfigure_draw(const mapfigure *given, unsigned formats, error *e)
{
    mapfigure f = *given;
    gnuplot g;
    char spectra[ARRAY_DIMS * 32];
    if (f.panels > MAPFIGURE_PANELS) f.panels = MAPFIGURE_PANELS;
    snprintf(spectra, sizeof spectra, "%s-spectra.tsv", f.name);
    if (write_spectra(&f, spectra, e) < 0) return -1;
    const page p = {
        .width = LEFT + (f.panels + 1) * PANEL + f.panels * ACROSS + RIGHT,
        .height = TOP + PANEL + DOWN + row_height(&f) + BOTTOM,
    };
    if (gnuplot_begin(&g, f.dir, f.name, p.width, p.height, e) < 0) return -1;
    draw(&(page){ g.script, p.width, p.height }, &f, spectra);
    return gnuplot_end(&g, f.comment, formats, e);
}

/* ---- contact sheets ----------------------------------------------------- */

enum { TILE = 76, TILE_GAP = 8, TILE_TITLE = 14, SHEET_EDGE = 10 };

static void tile(const page *g, const mapfigure_sheet *s,
                 const mapfigure_tile *t)
{
    title(g, t->title);
    define_shown(g, s->scale, t->keys ? t->keys : t->columns);
    fprintf(g->script, "set xrange [-0.5:%g]\nset yrange [%g:-0.5]\n",
            (double)t->columns - 0.5, (double)t->rows - 0.5);
    plot_image(g, t->file, NPY_HEADER + t->skip * sizeof(double), t->rows,
               t->columns);
    end_panel(g);
}

static void sheet(const page *g, const mapfigure_sheet *s)
{
    start(g);
    fputs("unset xtics\nunset ytics\n", g->script);
    colours(g, s->scale);
    for (int i = 0; i < s->tiles; i++) {
        const double x = SHEET_EDGE + i % s->across * (TILE + TILE_GAP);
        const double y =
            TILE_TITLE + i / s->across * (TILE + TILE_TITLE + TILE_GAP);
        place(g, x, y, TILE, TILE);
        if (i == 0)
            colour_bar(g, s->scale, s->label, TILE_TITLE,
                       s->tiles > s->across ? 2 * TILE : TILE);
        tile(g, s, &s->tile[i]);
    }
    fputs("unset multiplot\n", g->script);
}

int mapfigure_sheet_draw(const mapfigure_sheet *s, unsigned formats, error *e)
{
    gnuplot g;
    const int lines = (s->tiles + s->across - 1) / s->across;
    const page p = {
        .width = SHEET_EDGE + s->across * (TILE + TILE_GAP) + RIGHT,
        .height = lines * (TILE + TILE_TITLE + TILE_GAP) + SHEET_EDGE,
    };
    if (gnuplot_begin(&g, s->dir, s->name, p.width, p.height, e) < 0) return -1;
    sheet(&(page){ g.script, p.width, p.height }, s);
    return gnuplot_end(&g, s->comment, formats, e);
}

/* ---- boxes -------------------------------------------------------------- */

enum { BOX = 22, BOX_HEIGHT = 170, BOX_NAMES = 90 };

/* Place, least, lower, median, upper, greatest, name. */
static int write_boxes(const char *dir, const char *name,
                       const mapfigure_box *box, int count, error *e)
{
    file_writer w;
    char *path = path_join(dir, name);
    const int rc = file_begin(&w, path, e);
    free(path);
    if (rc < 0) return -1;
    fputs("# place\tleast\tlower\tmedian\tupper\tgreatest\tname\n", w.stream);
    for (int i = 0; i < count; i++) {
        if (isnan(box[i].quartile[0])) continue;
        fprintf(w.stream, "%d", i);
        for (int q = 0; q < METRICS_QUARTILES; q++)
            fprintf(w.stream, "\t%.6g", box[i].quartile[q]);
        fprintf(w.stream, "\t%s\n", box[i].name);
    }
    return file_commit(&w, e);
}

static void boxes(const page *g, const char *data, const char *label,
                  const mapfigure_box *box, int count)
{
    place(g, LEFT, SHEET_EDGE, (double)count * BOX, BOX_HEIGHT);
    fputs("unset key\nset border 3 linewidth 0.5\n"
          "set tics out nomirror scale 0.5 font ',6.5'\n"
          "set grid ytics linecolor rgb '#dddddd' linewidth 0.5\n"
          "set yrange [0:1]\nset boxwidth 0.55\nset style fill solid 0.25\n"
          "set xtics rotate by 90 right (",
          g->script);
    for (int i = 0; i < count; i++) {
        if (i) fputs(", ", g->script);
        gnuplot_quote(g->script, box[i].name);
        fprintf(g->script, " %d", i);
    }
    fprintf(g->script, ") noenhanced\nset xrange [-0.7:%g]\nset ylabel ",
            count - 0.3);
    gnuplot_quote(g->script, label);
    fputs(" noenhanced font ',7' offset 1,0\nplot ", g->script);
    gnuplot_quote(g->script, data);
    fprintf(g->script,
            " using 1:3:2:6:5 with candlesticks whiskerbars 0.5 linewidth 0.8 "
            "linecolor rgb '#%06x', '' using 1:4:4:4:4 with candlesticks "
            "linewidth 1.6 linecolor rgb '#%06x'\n",
            (unsigned)line_colour(0), (unsigned)line_colour(0));
}

int mapfigure_boxes_draw(const char *dir, const char *name, const char *comment,
                         const char *label, const mapfigure_box *box, int count,
                         unsigned formats, error *e)
{
    gnuplot g;
    char data[128];
    snprintf(data, sizeof data, "%s.tsv", name);
    if (write_boxes(dir, data, box, count, e) < 0) return -1;
    const page p = { .width = LEFT + (double)count * BOX + SHEET_EDGE,
                     .height = SHEET_EDGE + BOX_HEIGHT + BOX_NAMES };
    if (gnuplot_begin(&g, dir, name, p.width, p.height, e) < 0) return -1;
    boxes(&(page){ g.script, p.width, p.height }, data, label, box, count);
    return gnuplot_end(&g, comment, formats, e);
}

/* ---- layers ------------------------------------------------------------- */

enum { LAYER_STEP = 28, LAYERS_HEIGHT = 140 };

/* Layer, mean, then every head; NaN where there is no value. */
static int write_layers(const char *dir, const char *name, const double *value,
                        int layers, int heads, error *e)
{
    file_writer w;
    char *path = path_join(dir, name);
    const int rc = file_begin(&w, path, e);
    free(path);
    if (rc < 0) return -1;
    fputs("# layer\tmean\theads\n", w.stream);
    for (int l = 0; l < layers; l++) {
        double sum = 0, known = 0;
        for (int h = 0; h < heads; h++) {
            const double x = value[l * heads + h];
            if (!isnan(x)) sum += x, known++;
        }
        fprintf(w.stream, "%d\t%.6g", l, known ? sum / known : NAN);
        for (int h = 0; h < heads; h++)
            fprintf(w.stream, "\t%.6g", value[l * heads + h]);
        fputc('\n', w.stream);
    }
    return file_commit(&w, e);
}

static void layers_script(const page *g, const char *data, const char *label,
                          int layers, int heads, double uniform)
{
    place(g, LEFT, SHEET_EDGE, (double)layers * LAYER_STEP, LAYERS_HEIGHT);
    fprintf(g->script,
            "unset key\nset border 3 linewidth 0.5\n"
            "set tics out nomirror scale 0.5 font ',6.5'\n"
            "set grid ytics linecolor rgb '#dddddd' linewidth 0.5\n"
            "set datafile missing 'nan'\n"
            "set yrange [0:*]\nset xrange [-0.5:%g]\nset xtics 0,1\n"
            "set xlabel 'layer' font ',7' offset 0,0.7\nset ylabel ",
            layers - 0.5);
    gnuplot_quote(g->script, label);
    fprintf(g->script,
            " noenhanced font ',7' offset 1,0\n"
            "set label 1 'uniform' at graph 1, first %.9g left "
            "offset 0.5,0 font ',6.5' textcolor rgb '#777777'\nplot ",
            uniform);
    gnuplot_quote(g->script, data);
    fprintf(g->script,
            " using 1:2 with linespoints pointtype 7 pointsize 0.5 "
            "linewidth 1.2 linecolor rgb '#%06x', %.9g with lines linewidth "
            "0.8 dashtype 2 linecolor rgb '#777777'",
            (unsigned)line_colour(0), uniform);
    for (int h = 0; h < heads; h++)
        fprintf(g->script, ", '' using 1:%d with points pointtype 6 pointsize "
                           "0.35 linewidth 0.7 linecolor rgb '#%06x'",
                h + 3, (unsigned)line_colour(1));
    fputc('\n', g->script);
}

int mapfigure_layers_draw(const char *dir, const char *name,
                          const char *comment, const char *label,
                          const double *value, int layers, int heads,
                          double uniform, unsigned formats, error *e)
{
    gnuplot g;
    char data[128];
    snprintf(data, sizeof data, "%s.tsv", name);
    if (write_layers(dir, data, value, layers, heads, e) < 0) return -1;
    const page p = { .width = LEFT + (double)layers * LAYER_STEP + RIGHT / 2.0,
                     .height = SHEET_EDGE + LAYERS_HEIGHT + BOTTOM };
    if (gnuplot_begin(&g, dir, name, p.width, p.height, e) < 0) return -1;
    layers_script(&(page){ g.script, p.width, p.height }, data, label, layers,
                  heads, uniform);
    return gnuplot_end(&g, comment, formats, e);
}
