/* layout.h - where labels and guides of a chart go, so that nothing overlaps.
 * All lengths in points, y upwards.
 */
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stdbool.h>

/* Width of a text in the figures' font, rather too large than too small. */
double layout_text_width(const char *text, double font_size);

/* Moves n positions apart so that neighbours are at least `gap` apart and all
 * lie in [lo, hi], with the least sum of squared moves.  Keeps their order; lo
 * gives way if the space is too short. */
void layout_spread(const double *wanted, double *placed, int n, double gap,
                   double lo, double hi);

typedef struct layout_box {
    double x0, y0, x1, y1;
} layout_box;

/* What is already drawn in a panel, as points about a point apart. */
typedef struct layout_ink {
    double (*at)[2];
    int count, room;
} layout_ink;

void layout_ink_line(layout_ink *ink, double x0, double y0, double x1,
                     double y1);
void layout_ink_box(layout_ink *ink, const layout_box *b);
void layout_ink_free(layout_ink *ink);

/* Distance from a box to the nearest ink; 0 inside. */
double layout_clearance(const layout_ink *ink, const layout_box *b);

/* Moves a box of this size to where it is farthest from ink and borders inside
 * `area`; its lower left corner goes to *x, *y.  Returns the clearance there,
 * negative if the box does not fit. */
double layout_best_place(const layout_ink *ink, const layout_box *area,
                         double width, double height, double *x, double *y);

#endif
