/* accuracy_figure.h - error against time. */
#ifndef ACCURACY_FIGURE_H
#define ACCURACY_FIGURE_H

#include "figures.h"

/* "accuracy"? */
bool accuracy_figure_is(const char *name);

/* A mark for each kernel and level: rms error in ulp over the time, relative to that
 * of the mechanism's plain kernel at the same level if the slice has any.  As
 * figures_draw(). */
int accuracy_figure_draw(const figure_request *q, const results *r,
                         const columns *c, error *e);

#endif
