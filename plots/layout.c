/* layout.c - where labels and guides of a chart go. */
#include "layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* Advance widths of DejaVu Sans, rounded up in classes; other sans-serif fonts
 * are narrower. */
static double advance(char c)
{
    if (strchr("ijlI.,:;|'!()[]/- ", c)) return 0.39;
    if (strchr("ftr", c)) return 0.42;
    if (strchr("csz_", c)) return 0.56;
    if (strchr("mMW%@", c)) return 1.0;
    if (strchr("w=<>+~#", c)) return 0.84;
    return c >= 'A' && c <= 'Z' ? 0.76 : 0.64;
}

double layout_text_width(const char *text, double font_size)
{
    double width = 0;
    for (; *text; text++)
        if (((unsigned char)*text & 0xc0) != 0x80) /* not a tail of UTF-8    */
            width += advance(*text);
    return width * font_size;
}

/* ---- spreading ----------------------------------------------------------- */

typedef struct order {
    double wanted;
    int index;
} order;

static int ascending(const void *a, const void *b)
{
    const order *x = a, *y = b;
    if (x->wanted != y->wanted) return x->wanted < y->wanted ? -1 : 1;
    return x->index - y->index;
}

typedef struct block {
    double mean;
    int count;
} block;

/* With t_i = wanted_i - i gap the condition is that placed_i - i gap does not
 * decrease: isotonic regression, by pooling adjacent violators. */
void layout_spread(const double *wanted, double *placed, int n, double gap,
                   double lo, double hi)
{
    order *sorted = sure(malloc((size_t)(n + 1) * sizeof *sorted));
    block *pool = sure(malloc((size_t)(n + 1) * sizeof *pool));
    int blocks = 0, i = 0;

    for (int k = 0; k < n; k++) sorted[k] = (order){ wanted[k], k };
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    for (int k = 0; k < n; k++) {
        pool[blocks++] = (block){ sorted[k].wanted - k * gap, 1 };
        while (blocks > 1 && pool[blocks - 2].mean > pool[blocks - 1].mean) {
            block *a = &pool[blocks - 2], *b = &pool[blocks - 1];
            a->mean = (a->mean * a->count + b->mean * b->count) /
                      (a->count + b->count);
            a->count += b->count;
            blocks--;
        }
    }
    for (int b = 0; b < blocks; b++)
        for (int k = 0; k < pool[b].count; k++, i++) {
            const double base = fmin(fmax(pool[b].mean, lo),
                                     hi - (n - 1) * gap);
            placed[sorted[i].index] = base + i * gap;
        }
    free(sorted);
    free(pool);
}

/* ---- free space ---------------------------------------------------------- */

static void ink_point(layout_ink *ink, double x, double y)
{
    if (ink->count == ink->room) {
        ink->room = ink->room ? 2 * ink->room : 1024;
        ink->at = sure(realloc(ink->at, (size_t)ink->room * sizeof *ink->at));
    }
    ink->at[ink->count][0] = x;
    ink->at[ink->count++][1] = y;
}

void layout_ink_line(layout_ink *ink, double x0, double y0, double x1,
                     double y1)
{
    const int steps = 1 + (int)fmin(hypot(x1 - x0, y1 - y0), 2000);
    for (int i = 0; i <= steps; i++) {
        const double t = (double)i / steps;
        ink_point(ink, x0 + t * (x1 - x0), y0 + t * (y1 - y0));
    }
}

void layout_ink_box(layout_ink *ink, const layout_box *b)
{
    for (double y = b->y0; y < b->y1; y += 2)
        layout_ink_line(ink, b->x0, y, b->x1, y);
    layout_ink_line(ink, b->x0, b->y1, b->x1, b->y1);
}

void layout_ink_free(layout_ink *ink)
{
    free(ink->at);
    *ink = (layout_ink){ 0 };
}

double layout_clearance(const layout_ink *ink, const layout_box *b)
{
    double least = INFINITY;
    for (int i = 0; i < ink->count; i++) {
        const double x = ink->at[i][0], y = ink->at[i][1];
        const double dx = fmax(fmax(b->x0 - x, x - b->x1), 0);
        const double dy = fmax(fmax(b->y0 - y, y - b->y1), 0);
        least = fmin(least, dx * dx + dy * dy);
    }
    return sqrt(least);
}

double layout_best_place(const layout_ink *ink, const layout_box *area,
                         double width, double height, double *x, double *y)
{
    enum { STEPS = 24 };
    const double free_x = area->x1 - area->x0 - width;
    const double free_y = area->y1 - area->y0 - height;
    double best = -1;
    if (free_x < 0 || free_y < 0) return -1;
    for (int i = 0; i < STEPS * STEPS; i++) {
        const double at_x = area->x0 + free_x * (i % STEPS) / (STEPS - 1);
        const double at_y = area->y1 - height -
                            free_y * (i / STEPS) / (STEPS - 1);
        const layout_box b = { at_x, at_y, at_x + width, at_y + height };
        const double to_border =
            fmin(fmin(at_x - area->x0, area->x1 - b.x1),
                 fmin(at_y - area->y0, area->y1 - b.y1)) + 6;
        const double clearance = fmin(layout_clearance(ink, &b), to_border);
        if (clearance <= best) continue;
        best = clearance;
        *x = at_x;
        *y = at_y;
    }
    return best;
}
