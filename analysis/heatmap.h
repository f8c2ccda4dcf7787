/* heatmap.h - matrices as pictures: one cell per square of pixels, exact
 * colours by libpng, with what they mean in text chunks.
 */
#ifndef HEATMAP_H
#define HEATMAP_H

#include <stdbool.h>
#include <stddef.h>

#include "../harness/error.h"
#include "../plots/png.h"

/* What a colour stands for. */
enum heatmap_view {
    HEATMAP_LINEAR,  /* A                                                    */
    HEATMAP_LOG,     /* log10 |A|                                            */
    HEATMAP_UNIFORM  /* log2(|A| columns): 0 is uniform attention            */
};
#define HEATMAP_VIEWS { "linear", "log", "uniform" }

/* The colour scale that all pictures of a figure share.  Views of one sign run
 * over viridis, linear views of signed matrices and the uniform view over a
 * diverging table whose middle is 0. */
typedef struct heatmap_scale {
    enum heatmap_view view;
    bool diverging;
    double lo, hi;      /* of the value shown                                */
    size_t columns;
    double clip;        /* percentile of the non-zero |A| at which hi lies    */
    double largest;     /* |A|                                               */
    double cells;       /* cells seen; of them                               */
    double above;       /*   beyond hi, and                                  */
    double below;       /*   below lo: drawn as the end of the scale          */
} heatmap_scale;

/* The scale of `count` matrices of n entries each.  hi is at that percentile of
 * the non-zero |A|; 100: at the largest.  Below, log ends at 1 / columns^2 and
 * uniform as far below 0 as it reaches above. */
void heatmap_scale_of(enum heatmap_view view, double clip,
                      const double *const *a, int count, size_t n,
                      size_t columns, heatmap_scale *out);
/* The value that is coloured, not cut to the scale. */
double heatmap_value(const heatmap_scale *s, double a);
/* "A_ij", "log10 |A_ij|", "log2(|A_ij| M)"; and with it the range, the cells
 * that are drawn as its ends, and the largest |A|. */
const char *heatmap_label(const heatmap_scale *s);
void heatmap_describe(const heatmap_scale *s, char *out, size_t size);
/* Table of 256 colours, and the entry of a matrix entry. */
void heatmap_palette(const heatmap_scale *s, uint8_t out[256][3]);
uint8_t heatmap_index(const heatmap_scale *s, double a);

/* Cells beyond this many per side are pooled: each pixel shows the entry with
 * the largest |A| of a square of cells. */
enum { HEATMAP_CELLS = 4096, HEATMAP_PIXELS = 256 };
/* Side of that square: 1 for nothing pooled. */
size_t heatmap_pool(size_t rows, size_t columns);

/* Writes the matrix; cells get whole pixels, so many that each side has at
 * least HEATMAP_PIXELS. */
int heatmap_write(const char *path, const double *a, size_t rows,
                  size_t columns, const heatmap_scale *s, const png_note *notes,
                  int note_count, error *e);

/* Attention of one query over the picture it sees: left the picture, right the
 * picture in grey under the weights (magma from 0 to the row's largest |A|),
 * with the query's cell framed in both (query < 0: it has none).  row: rows x
 * columns weights. */
int heatmap_overlay(const char *path, const picture *p, const double *row,
                    int rows, int columns, int query, const png_note *notes,
                    int note_count, error *e);

#endif
