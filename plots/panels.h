/* panels.h - from the cases of a slice to the lines and panels of a chart. */
#ifndef PANELS_H
#define PANELS_H

#include "chart.h"
#include "columns.h"
#include "slice.h"

typedef struct sample {
    chart_point point;
    double order; /* points are joined by it                                 */
    const result *from;
} sample;

/* The cases of one label. */
typedef struct line {
    const char *label;  /* of the slice                                      */
    const result *from; /* any of its cases                                  */
    sample *at;
    int count;
    int measured; /* cases at different places, with a point or without      */
    int zeros;    /* cases whose value is 0: not on a logarithmic axis       */
} line;

typedef struct lines {
    line *item;
    int count;
    int duplicates; /* cases left out for another at the same place          */
    int lonely;     /* lines left out                                        */
} lines;

/* What a figure takes from a case; not positive and finite: no point. */
typedef chart_point point_of(const slice *s, const result *r, const void *what);

/* One line per label, softmax's first, families and mechanisms together; points
 * in the order of axis `along`. */
void lines_make(lines *all, const slice *s, const column *along,
                point_of *point, const void *what);
void lines_free(lines *all);
/* Leaves out lines that were measured at one place only. */
void lines_drop_lonely(lines *all);
/* Whether any line has two points. */
bool lines_drawable(const lines *all);

typedef struct panels {
    chart_panel *item;
    int count;
} panels;

/* Panels for `metrics` sets of the same lines: one per set while lines are few,
 * else one per family and set, with the fastest softmax in grey in each.  The
 * labels stay those of the lines. */
void panels_make(panels *out, const lines *all, int metrics,
                 const char *const *titles);
void panels_free(panels *p);

#endif
