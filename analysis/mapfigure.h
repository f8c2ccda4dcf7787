/* mapfigure.h - annotated figures of effective matrices, drawn by gnuplot from
 * the .npy files that lie beside them.
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

#endif
