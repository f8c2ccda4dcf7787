/* heatmap.c - matrices and attention over pictures as PNG. */
#include "heatmap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../plots/palette.h"

/* ---- scale -------------------------------------------------------------- */

double heatmap_value(const heatmap_scale *s, double a)
{
    switch (s->view) {
    case HEATMAP_LINEAR: return a;
    case HEATMAP_LOG: return log10(fabs(a));
    case HEATMAP_UNIFORM: return log2(fabs(a) * (double)s->columns);
    }
    return NAN;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Percentile of the non-zero magnitudes; x has room for all and is scratch. */
static double percentile(double clip, const double *const *a, int count,
                         size_t n, double *x)
{
    size_t used = 0;
    for (int k = 0; k < count; k++)
        for (size_t i = 0; i < n; i++)
            if (a[k][i] != 0) x[used++] = fabs(a[k][i]);
    if (used == 0) return 0;
    qsort(x, used, sizeof *x, ascending);
    return x[(size_t)ceil(clip / 100 * (double)(used - 1))];
}

static void set_range(double least, double most, bool negative,
                      heatmap_scale *s)
{
    const double columns = (double)s->columns;
    switch (s->view) {
    case HEATMAP_LINEAR:
        s->hi = most;
        s->lo = negative ? -most : 0;
        s->diverging = negative;
        break;
    case HEATMAP_LOG:
        s->hi = log10(most);
        s->lo = fmax(log10(least), -2 * log10(columns));
        if (s->lo >= s->hi) s->lo = s->hi - 1;
        break;
    case HEATMAP_UNIFORM:
        s->hi = fmax(fabs(log2(most * columns)), 0.1);
        s->lo = -s->hi;
        s->diverging = true;
        break;
    }
}

void heatmap_scale_of(enum heatmap_view view, double clip,
                      const double *const *a, int count, size_t n,
                      size_t columns, heatmap_scale *out)
{
    double most = 0, least = INFINITY;
    bool negative = false;
    *out = (heatmap_scale){ .view = view, .columns = columns, .clip = clip,
                            .cells = (double)count * (double)n };
    for (int k = 0; k < count; k++)
        for (size_t i = 0; i < n; i++) {
            const double x = fabs(a[k][i]);
            negative |= a[k][i] < 0;
            most = fmax(most, x);
            if (x > 0) least = fmin(least, x);
        }
    out->largest = most;
    double *x = clip < 100 ? malloc((size_t)count * n * sizeof *x) : NULL;
    if (x) most = percentile(clip, a, count, n, x);
    else out->clip = 100;
    free(x);
    if (most == 0) least = most = 1; /* all zero: everything at the lower end */
    set_range(least, most, negative, out);
    for (int k = 0; k < count; k++)
        for (size_t i = 0; i < n; i++) {
            const double shown = heatmap_value(out, a[k][i]);
            out->below += shown < out->lo;
            out->above += shown > out->hi;
        }
}

const char *heatmap_label(const heatmap_scale *s)
{
    static const char *const labels[] = { "A_ij", "log10 |A_ij|",
                                          "log2(|A_ij| M)" };
    return labels[s->view];
}

void heatmap_describe(const heatmap_scale *s, char *out, size_t size)
{
    snprintf(out, size,
             "%s from %.6g to %.6g; of %.0f cells %.0f are beyond the upper "
             "and %.0f beyond the lower end; largest |A_ij| %.6g",
             heatmap_label(s), s->lo, s->hi, s->cells, s->above, s->below,
             s->largest);
}

void heatmap_palette(const heatmap_scale *s, uint8_t out[256][3])
{
    palette_fill(s->diverging ? PALETTE_DIVERGING : PALETTE_VIRIDIS, out);
}

uint8_t heatmap_index(const heatmap_scale *s, double a)
{
    const double x = heatmap_value(s, a);
    return s->diverging ? palette_signed_index(x, s->hi)
                        : palette_index(x, s->lo, s->hi);
}

/* ---- the matrix --------------------------------------------------------- */

size_t heatmap_pool(size_t rows, size_t columns)
{
    const size_t side = rows > columns ? rows : columns;
    return (side + HEATMAP_CELLS - 1) / HEATMAP_CELLS;
}

typedef struct canvas {
    const double *a;
    size_t rows, columns, pool; /* of the matrix                             */
    size_t tall, wide;          /* pixels of a cell                          */
    const heatmap_scale *scale;
} canvas;

/* The entry with the largest magnitude of a square of cells. */
static double pooled(const canvas *c, size_t row, size_t column)
{
    double best = 0;
    for (size_t i = row * c->pool; i < (row + 1) * c->pool; i++)
        for (size_t j = column * c->pool; j < (column + 1) * c->pool; j++) {
            if (i >= c->rows || j >= c->columns) continue;
            const double x = c->a[i * c->columns + j];
            if (fabs(x) > fabs(best)) best = x;
        }
    return best;
}

static size_t cells(size_t side, size_t pool)
{
    return (side + pool - 1) / pool;
}

static int matrix_row(void *context, int y, uint8_t *out, error *e)
{
    const canvas *c = context;
    (void)e;
    for (size_t j = 0; j < cells(c->columns, c->pool); j++) {
        const double x = pooled(c, (size_t)y / c->tall, j);
        memset(out + j * c->wide, heatmap_index(c->scale, x), c->wide);
    }
    return 0;
}

int heatmap_write(const char *path, const double *a, size_t rows,
                  size_t columns, const heatmap_scale *s, const png_note *notes,
                  int note_count, error *e)
{
    uint8_t table[256][3];
    canvas c = { .a = a, .rows = rows, .columns = columns, .scale = s,
                 .pool = heatmap_pool(rows, columns) };
    const size_t high = cells(rows, c.pool), across = cells(columns, c.pool);
    c.tall = (HEATMAP_PIXELS + high - 1) / high;
    c.wide = (HEATMAP_PIXELS + across - 1) / across;
    const png_target image = {
        .width = (int)(across * c.wide), .height = (int)(high * c.tall),
        .row = matrix_row, .context = &c, .dpi = 200,
        .notes = notes, .note_count = note_count,
    };
    heatmap_palette(s, table);
    return png_write_indexed(path, &image, table, e);
}

/* ---- over the picture --------------------------------------------------- */

enum { PANEL = 448, GAP = 8 };

typedef struct overlay {
    const picture *p;
    const double *row;
    double most;          /* largest |weight|                                */
    int rows, columns, query;
    int cell;             /* pixels of a cell's side                         */
    int width, height;    /* of one panel                                    */
    uint8_t table[256][3];
} overlay;

static void pixel_of(const overlay *o, int y, int x, double out[3])
{
    const picture *p = o->p;
    const int py = y * p->height / o->height, px = x * p->width / o->width;
    const float *s = p->sample + ((size_t)py * (size_t)p->width + (size_t)px) *
                                     (size_t)p->channels;
    for (int c = 0; c < 3; c++) out[c] = s[p->channels == 3 ? c : 0];
}

/* Luma of Rec. 709, compressed so that colours of weights stay readable. */
static void tint(const overlay *o, int y, int x, double out[3])
{
    const int cell = y / o->cell * o->columns + x / o->cell;
    const double weight = o->most > 0 ? fabs(o->row[cell]) / o->most : 0;
    const uint8_t *colour = o->table[palette_index(weight, 0, 1)];
    const double light = .2126 * out[0] + .7152 * out[1] + .0722 * out[2];
    for (int c = 0; c < 3; c++)
        out[c] = 0.35 * light + 0.65 * colour[c] / 255.0;
}

/* 0 outside, 1 the white and 2 the black line of the query's frame. */
static int frame(const overlay *o, int y, int x)
{
    if (o->query < 0) return 0;
    const int top = o->query / o->columns * o->cell;
    const int left = o->query % o->columns * o->cell;
    const int low = top + o->cell - 1, right = left + o->cell - 1;
    const int dy = top - y > y - low ? top - y : y - low;
    const int dx = left - x > x - right ? left - x : x - right;
    const int d = dy > dx ? dy : dx; /* 0 on the border, beyond it positive */
    return d == 0 || d == -1 ? 1 : d == 1 ? 2 : 0;
}

static int overlay_row(void *context, int y, uint8_t *out, error *e)
{
    const overlay *o = context;
    (void)e;
    memset(out, 255, 3 * (size_t)(2 * o->width + GAP));
    for (int side = 0; side < 2; side++)
        for (int x = 0; x < o->width; x++) {
            double colour[3];
            uint8_t *to = out + 3 * (side * (o->width + GAP) + x);
            pixel_of(o, y, x, colour);
            if (side) tint(o, y, x, colour);
            const int line = frame(o, y, x);
            for (int c = 0; c < 3; c++)
                to[c] = line ? (line == 1 ? 255 : 0)
                             : (uint8_t)lround(fmin(fmax(colour[c], 0), 1) *
                                               255);
        }
    return 0;
}

int heatmap_overlay(const char *path, const picture *p, const double *row,
                    int rows, int columns, int query, const png_note *notes,
                    int note_count, error *e)
{
    const int longer = rows > columns ? rows : columns;
    overlay o = { .p = p, .row = row, .rows = rows, .columns = columns,
                  .query = query, .cell = (PANEL + longer - 1) / longer };
    o.width = columns * o.cell;
    o.height = rows * o.cell;
    for (int i = 0; i < rows * columns; i++)
        o.most = fmax(o.most, fabs(row[i]));
    palette_fill(PALETTE_MAGMA, o.table);
    const png_target image = {
        .width = 2 * o.width + GAP, .height = o.height, .row = overlay_row,
        .context = &o, .dpi = 200, .notes = notes, .note_count = note_count,
    };
    return png_write_rgb(path, &image, e);
}
