/* shapes.h - problems on which a mechanism's kernels and reference are checked.
 *
 * Made from the mechanism's traits and the fields that it uses alone, so that a
 * new mechanism or field needs no edit: grids and head dims on both sides of the
 * edges of vectors and tiles, primes, non-square maps, windows as large as the
 * map, every value of every option, and seeded mixtures of all of them.
 */
#ifndef SHAPES_H
#define SHAPES_H

#include "../kernels/plan.h"
#include "error.h"
#include "inputs.h"

enum shapes_amount {
    SHAPES_TINY, /* a few elements: for differences of references           */
    SHAPES_FEW,  /* every edge once                                         */
    SHAPES_MANY  /* more mixtures                                           */
};

typedef struct shape {
    att_problem problem; /* accepted by att_reject(), canonical             */
    enum inputs_family family;
    int threads;
    uint64_t seed;
} shape;

typedef struct shapes {
    shape *item;
    int count;
} shapes;

/* 0 or -1 (memory). */
int shapes_make(shapes *s, const att_mechanism *m, enum shapes_amount amount,
                error *e);
void shapes_free(shapes *s);

/* The problem on that grid ("256", "16x16") with the value of every field that is
 * tried first.  False: the mechanism is not defined there. */
bool shapes_usual(const att_mechanism *m, const char *grid, int head_dim,
                  att_problem *p);

#endif
