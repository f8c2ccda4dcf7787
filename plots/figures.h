/* figures.h - the figures of a journal.
 *
 * A figure is AXIS-METRIC: what is varied, and what is shown over it:
 *     scaling  sequence length        time    median with its interval
 *     headdim  channels per head      gflops  rate, with the measured peak
 *     window   window side            memory  workspace and peak RSS
 * or any column with a value (columns.h); `roofline`; and `accuracy`, error against
 * time.
 */
#ifndef FIGURES_H
#define FIGURES_H

#include "columns.h"
#include "results.h"
#include "slice.h"

typedef struct figure_request {
    const char *name;         /* "scaling-time"                              */
    const char *file;         /* name of the files, without ending           */
    const char *dir;          /* exists                                      */
    unsigned formats;         /* gnuplot.h; 0: only commands and data        */
    double width;             /* points                                      */
    bool caches;              /* mark where q, k, v, o outgrow a cache       */
    const fixed_axis *asked;
    int asked_count;
} figure_request;

/* The figures that are drawn when none is named. */
extern const char *const figures_usual[];
extern const int figures_usual_count;

/* NULL and the nearest spelling in e, or the name. */
const char *figures_check(const char *name, const columns *c, error *e);

/* Name of the axis that a valid figure varies. */
const char *figures_axis(const char *name);

/* Whether it shows counts of events, which come from simulated cases where the
 * run has some. */
bool figures_of_events(const char *name);

/* Draws one figure and writes FILE.md, its caption.  1; 0 if no kernel has two
 * points, and e says what is missing; -1 on failure. */
int figures_draw(const figure_request *q, const results *r, const columns *c,
                 error *e);

/* Makes DIR/index.md from the captions of all figures in it. */
int figures_index(const char *dir, error *e);

#endif
