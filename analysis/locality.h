/* locality.h - what moves with the input, and how far a token sees.
 */
#ifndef LOCALITY_H
#define LOCALITY_H

#include "matrix.h"

/* Shift equivariance: the input map moved by one cell along every axis
 * (cyclically) against the output moved likewise. */
typedef struct locality_shift {
    bool exists;     /* queries and keys lie on the same grid                */
    double all;      /* largest |difference| / largest |output|              */
    double interior; /* the same over cells that see neither a border nor the
                        seam, before and after; NAN: there are none          */
    int reach;       /* cells to the farthest key that the middle query sees,
                        in any head                                          */
} locality_shift;

/* Runs the reference on v's inputs and on the moved ones; v->o is written.
 * Parameters that belong to places do not move.  0, or -1 with e (memory). */
int locality_shifted(check_values *v, locality_shift *out, error *e);

/* Receptive field: tokens that a token depends on after 1, 2 ... layers, each
 * with the union of what all heads see and a residual path. */
enum { LOCALITY_LAYERS = 12, LOCALITY_SIDE = 4096 };

/* Weights below this are none: what a float cannot hold as a normal number, as
 * the masked pairs of shifted windows. */
#define LOCALITY_LEAST 0x1p-126

typedef struct locality_field {
    int layers;                     /* computed; the field stays as it is from
                                       the last one on, or 12                */
    double mean[LOCALITY_LAYERS];   /* tokens, mean over queries             */
    double middle[LOCALITY_LAYERS]; /* of the middle query                   */
} locality_field;

typedef struct locality_fields {
    locality_field equal;       /* all layers as v says                      */
    locality_field alternating; /* every second one as `other` says, as models
                                   of such mechanisms have them; layers = 0:
                                   not so for this mechanism                 */
    char other[ATT_TEXT + 8];   /* "shift=3"                                 */
} locality_fields;

/* Of v's matrices; layers = 0 where queries and keys are not the same tokens, or
 * more than LOCALITY_SIDE.  0, or -1 with e (memory). */
int locality_fields_of(const check_values *v, locality_fields *out, error *e);

#endif
