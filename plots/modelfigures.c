#include "modelfigures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/file.h"
#include "caption.h"
#include "gnuplot.h"
#include "layout.h"
#include "palette.h"

enum { LEVELS = 16, NAME = 96 };

bool model_figure_is(const char *name)
{
    return !strcmp(name, "models-accuracy") || !strcmp(name, "models-levels");
}

/* ---- what is drawn
 * ----------------------------------------------------------- */

typedef struct bar {
    const result *r;
    double ms, lo, hi, top1;
} bar;

static int by_time(const void *a, const void *b)
{
    const bar *x = a, *y = b;
    return (x->ms > y->ms) - (x->ms < y->ms);
}

/* Measured models of the slice, fastest first; caller frees. */
static int bars_of(const slice *s, bool accuracy, bar **out)
{
    int n = 0;
    *out = calloc((size_t)s->count + 1, sizeof **out);
    if (!*out) abort();
    for (int i = 0; i < s->count; i++) {
        const result *r = s->item[i];
        const double top1 = r->row->model.top1;
        if (!r->ok || !r->row->model.title ||
            (accuracy && isnan(top1)))
            continue;
        (*out)[n++] = (bar){r, 1e-6 * r->row->time_ns.median,
                            1e-6 * r->row->time_ns.lo,
                            1e-6 * r->row->time_ns.hi, top1};
    }
    qsort(*out, (size_t)n, sizeof **out, by_time);
    return n;
}

static int levels_of(const bar *b)
{
    const int n = json_size(b->r->row->model.level_share);
    return n < LEVELS ? n : LEVELS;
}

static double level_ms(const bar *b, int level)
{
    const json *list = b->r->row->model.level_share;
    return b->ms * json_number(json_at(list, level), 0);
}

/* Columns: model, ms, its interval, top-1, ms of each level. */
static int write_data(const figure_request *q, const bar *list, int n,
                      int levels, error *e)
{
    char file[NAME];
    file_writer w;
    snprintf(file, sizeof file, "%s.tsv", q->file);
    char *path = path_join(q->dir, file);
    const int rc = file_begin(&w, path, e);
    free(path);
    if (rc < 0) return -1;
    fputs("# model\tms\tms_lo\tms_hi\ttop1", w.stream);
    for (int k = 0; k < levels; k++) fprintf(w.stream, "\tlevel%d_ms", k + 1);
    fputc('\n', w.stream);
    for (int i = 0; i < n; i++) {
        fprintf(w.stream, "%s\t%.6g\t%.6g\t%.6g\t%.4g", list[i].r->kernel,
                list[i].ms, list[i].lo, list[i].hi, list[i].top1);
        for (int k = 0; k < levels; k++)
            fprintf(w.stream, "\t%.6g", level_ms(&list[i], k));
        fputc('\n', w.stream);
    }
    return file_commit(&w, e);
}

/* ---- how
 * ------------------------------------------------------------------------- */

static void set_frame(FILE *f)
{
    fputs("set datafile separator '\\t'\n"
          "set border 3 linewidth 0.7 linecolor rgb '#444444'\n"
          "set tics nomirror out scale 0.5\n"
          "set key off\n",
          f);
}

static int by_accuracy(const void *a, const void *b)
{
    const bar *x = a, *y = b;
    return (x->top1 > y->top1) - (x->top1 < y->top1);
}

/* Names stand right of the frame, apart from each other, each joined to its
 * point: models of one size crowd. */
static void put_names(FILE *f, bar *list, int n, double height, double lo,
                      double hi)
{
    const double per_point = (hi - lo) / (0.8 * height);
    double *wanted = calloc(2 * (size_t)n, sizeof *wanted);
    if (!wanted) abort();
    qsort(list, (size_t)n, sizeof *list, by_accuracy);
    for (int i = 0; i < n; i++) wanted[i] = list[i].top1;
    double *at = wanted + n;
    layout_spread(wanted, at, n, 1.2 * GNUPLOT_FONT * per_point, lo, hi);
    for (int i = 0; i < n; i++) {
        fprintf(f,
                "set arrow from first %.6g,%.6g to graph 1.02,first %.6g "
                "nohead back linewidth 0.4 linecolor rgb '#%06x'\n"
                "set label ",
                list[i].ms, list[i].top1, at[i], (unsigned)SERIES_GREY);
        gnuplot_quote(f, list[i].r->kernel);
        fprintf(f, " at graph 1.03,first %.6g left noenhanced\n", at[i]);
    }
    free(wanted);
}

static void plot_accuracy(FILE *f, const figure_request *q, bar *list, int n,
                          double height)
{
    double lo = INFINITY, hi = 0, most = 0;
    for (int i = 0; i < n; i++) {
        lo = fmin(lo, floor(list[i].top1) - 1);
        hi = fmax(hi, ceil(list[i].top1) + 1);
        most = fmax(most, fmax(list[i].ms, list[i].hi));
    }
    set_frame(f);
    fprintf(f,
            "set rmargin at screen 0.74\nset yrange [%g:%g]\n"
            "set xrange [0:%g]\nset xlabel 'time of a pass (ms)'\n"
            "set ylabel 'published ImageNet-1K top-1 (%%)'\n",
            lo, hi, 1.02 * most);
    put_names(f, list, n, height, lo, hi);
    fprintf(f,
            "plot '%s.tsv' using 2:5:3:4 with xerrorbars pointtype 7 "
            "pointsize 0.5*symbol linecolor rgb '#%06x'\n",
            q->file, (unsigned)series_colors[0]);
}

static void plot_levels(FILE *f, const figure_request *q, int n, int levels)
{
    set_frame(f);
    fprintf(f,
            "set yrange [%d.5:-0.5]\nset xrange [0:*]\n"
            "set key top right reverse Left samplen 1\n"
            "set ytics noenhanced\n"
            "set xlabel 'time of a pass (ms)'\n"
            "set style fill solid noborder\nplot ",
            n - 1);
    for (int k = 0; k < levels; k++) {
        fprintf(f, "%s'%s.tsv' using (0):0:(0", k ? ", " : "", q->file);
        for (int i = 0; i < k; i++) fprintf(f, "+$%d", 6 + i);
        fputs("):(0", f);
        for (int i = 0; i <= k; i++) fprintf(f, "+$%d", 6 + i);
        fprintf(f,
                "):($0-0.35):($0+0.35):ytic(1) with boxxyerror linecolor "
                "rgb '#%06x' title 'level %d'",
                (unsigned)series_colors[k % SERIES_COLORS], k + 1);
    }
    fputs("\n", f);
}

static int draw(const figure_request *q, bar *list, int n, bool accuracy,
                const char *comment, error *e)
{
    gnuplot g;
    int levels = 0;
    for (int i = 0; i < n; i++)
        if (levels_of(&list[i]) > levels) levels = levels_of(&list[i]);
    const double height = accuracy ? 0.62 * q->width : 60 + 14.0 * n;
    if (write_data(q, list, n, levels, e) < 0 ||
        gnuplot_begin(&g, q->dir, q->file, q->width, height, e) < 0)
        return -1;
    if (accuracy)
        plot_accuracy(g.script, q, list, n, height);
    else
        plot_levels(g.script, q, n, levels);
    return gnuplot_end(&g, comment, q->formats, e);
}

int model_figure_draw(const figure_request *q, const results *r, const slice *s,
                      error *e)
{
    const bool accuracy = !strcmp(q->name, "models-accuracy");
    char comment[1600];
    bar *list;
    const int n = bars_of(s, accuracy, &list);
    int rc = 0;
    if (n < 2)
        error_set(e,
                  "%s: the run has fewer than two models%s; measure some "
                  "with 'attnbench models run NAME... --out DIR'",
                  q->name, accuracy ? " with a published accuracy" : "");
    else {
        caption_comment(r, s, q->file, comment, sizeof comment);
        rc = draw(q, list, n, accuracy, comment, e) < 0 ||
                     caption_write(q->dir, q->file, r, s,
                                   accuracy ? "Published accuracy over the "
                                              "measured time of a pass"
                                            : "Time of a pass by level",
                                   true, "", e) < 0
                 ? -1
                 : 1;
    }
    free(list);
    return rc;
}
