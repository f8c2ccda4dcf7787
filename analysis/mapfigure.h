/* mapfigure.h - annotated figures of effective matrices, drawn by gnuplot from
 * the .npy files that lie beside or below them.
 */
#ifndef MAPFIGURE_H
#define MAPFIGURE_H

#include "../harness/error.h"
#include "heatmap.h"
#include "metrics.h"

/* One matrix and the file that holds it. */
typedef struct mapfigure_panel {
    const char *file;   /* .npy of doubles [rows][columns], in the folder    */
    char title[96];
    const metrics *m;
} mapfigure_panel;

typedef struct mapfigure {
    const char *dir, *name;      /* name without extension                   */
    const char *comment;         /* on top of the .gp file                   */
    const mapfigure_panel *panel;
    int panels;                  /* at most MAPFIGURE_PANELS are drawn       */
    const heatmap_scale *scale;  /* shared by all                            */
    int query;                   /* token whose row is drawn                 */
    int rows, columns;           /* of the token grid seen as 2-D            */
    bool on_grid;                /* keys are the tokens of that grid         */
    const char *picture;         /* PNG in the folder that the tokens see    */
    int patch;                   /* its pixels per grid cell                 */
} mapfigure;

enum { MAPFIGURE_PANELS = 4 };

/* Upper row: spectra with the three tolerances, then the matrices; lower row:
 * the picture with the query's cell, then its row of each matrix on the grid.
 * One colour bar for all. */
int mapfigure_draw(const mapfigure *f, unsigned formats, error *e);

/* ---- many small ones ---------------------------------------------------- */

typedef struct mapfigure_tile {
    char file[256];        /* .npy of doubles, relative to the folder        */
    char title[64];
    size_t rows, columns;
    size_t keys;           /* M of the uniform view; 0: columns              */
    size_t skip;           /* entries in front: a row of a larger matrix     */
} mapfigure_tile;

typedef struct mapfigure_sheet {
    const char *dir, *name, *comment;
    const mapfigure_tile *tile;
    int tiles, across;           /* tiles of one line                        */
    const heatmap_scale *scale;  /* shared by all                            */
    const char *label;           /* of the colour bar; NULL: of the scale    */
} mapfigure_sheet;

/* A contact sheet: every tile fills a square of the same size. */
int mapfigure_sheet_draw(const mapfigure_sheet *s, unsigned formats, error *e);

/* Least, lower quartile, median, upper quartile, greatest of something. */
typedef struct mapfigure_box {
    char name[48];
    double quartile[METRICS_QUARTILES];
} mapfigure_box;

/* One box for each, values from 0 to 1, names below; NAN boxes stay empty. */
int mapfigure_boxes_draw(const char *dir, const char *name, const char *comment,
                         const char *label, const mapfigure_box *box, int count,
                         unsigned formats, error *e);

/* One value for each head of each layer, their mean, and what uniform attention
 * gives.  value: [layers][heads], NAN where there is none. */
int mapfigure_layers_draw(const char *dir, const char *name,
                          const char *comment, const char *label,
                          const double *value, int layers, int heads,
                          double uniform, unsigned formats, error *e);

#endif
