/* chart.h - lines over logarithmic axes, in one panel or in small multiples, in
 * the project's style: direct labels instead of a legend, intervals as ribbons,
 * limits and guide slopes in grey, no title.
 */
#ifndef CHART_H
#define CHART_H

#include <stdbool.h>

#include "../harness/error.h"
#include "quantity.h"

typedef struct chart_point {
    double x, y;   /* positive                                               */
    double lo, hi; /* interval of y; NaN: none                               */
    bool hollow;   /* not to be relied on                                    */
} chart_point;

/* Style number of a line that is only there for comparison. */
enum { CHART_GREY = -1 };

typedef struct chart_line {
    const char *label;
    double exponent; /* of x, shown behind the label; NaN: none              */
    chart_point *point; /* ascending x                                       */
    int count;          /* 0: keeps its style number, is not drawn           */
    int style;          /* number in the panel, or CHART_GREY                */
    bool cold;          /* dashed, beside the warm line of the same style    */
    bool baseline;      /* the others' crossings with it are marked          */
} chart_line;

typedef struct chart_panel {
    const char *title; /* "" in a chart of one panel                         */
    int group;         /* panels of one group (0, 1) share the y range       */
    chart_line *line;
    int count;
} chart_panel;

/* A straight line in the log-log plane: a peak, a bandwidth. */
typedef struct chart_limit {
    double x0, y0, x1, y1; /* horizontal limits: x0 = 0                      */
    char label[64];
    char brief[32];        /* where that has no room                         */
} chart_limit;

/* A position on the x axis: where the data outgrow a cache. */
typedef struct chart_mark {
    double x;
    char label[32];
} chart_mark;

enum chart_ticks {
    CHART_OCTAVES, /* powers of two                                          */
    CHART_VALUES,  /* the values that occur                                  */
    CHART_DECADES
};

typedef struct chart {
    const char *name;      /* of the files, without ending                   */
    const char *x_title, *y_title; /* with units, where ticks do not say them */
    enum chart_ticks x_ticks;
    enum quantity quantity; /* of y                                          */
    const char *guide;      /* letter of the slopes 1 and 2 ("N"), or NULL   */
    bool crossings;         /* mark where lines cross the baseline of a panel */
    bool key;               /* a list of lines at the right instead of labels
                               at their ends                                 */
    chart_panel *panel;
    int panels;
    chart_limit *limit;
    int limits;
    chart_mark *mark;
    int marks;
    const char *note;    /* what is not shown and why; wrapped below         */
    const char *comment; /* top of the .gp and .tsv files                    */
    double width;        /* points                                           */
    int columns;         /* of panels                                        */
} chart;

/* Most lines of a panel: colour, dash and marker together tell as many apart,
 * and their labels fit. */
enum { CHART_LINES = 10 };

/* Label of a panel's baseline if another line crosses it, else NULL. */
const char *chart_crossed(const chart_panel *p);

/* Writes DIR/NAME.tsv, DIR/NAME.gp and draws (gnuplot.h); formats 0: only these
 * two. */
int chart_draw(const chart *c, const char *dir, unsigned formats, error *e);

#endif
