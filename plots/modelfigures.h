/* modelfigures.h - figures of whole models: published accuracy over measured
 * time, and where the time goes level by level. */
#ifndef MODELFIGURES_H
#define MODELFIGURES_H

#include "figures.h"

/* "models-accuracy" or "models-levels"? */
bool model_figure_is(const char *name);

/* As figures_draw(). */
int model_figure_draw(const figure_request *q, const results *r, const slice *s,
                      error *e);

#endif
