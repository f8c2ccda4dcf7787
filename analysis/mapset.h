/* mapset.h - all maps of one mechanism on one picture: matrices, metrics,
 * files.
 */
#ifndef MAPSET_H
#define MAPSET_H

#include <stdio.h>

#include "heatmap.h"
#include "locality.h"
#include "matrix.h"
#include "metrics.h"
#include "picture.h"

enum { MAPSET_GIVEN = 8 };

typedef struct mapset_options {
    const char *image;        /* PNG; NULL: the built-in picture             */
    int patch;                /* pixels of a patch's side; 0: 16, fewer for
                                 very large grids                            */
    uint64_t seed;            /* of the picture and the projections          */
    double parameter_std;     /* see matrix_disturb(); 0: default parameters  */
    const char *given[MAPSET_GIVEN]; /* parameters from files (given.h)       */
    int given_count;
    int head;                 /* -1: all                                     */
    int channel;              /* of maps that differ from channel to channel;
                                 MATRIX_MEAN: the mean over all              */
    int query;                /* token whose row is shown; -1: the middle one */
    bool probe;               /* check the matrices column by column too     */
    enum heatmap_view view;
    double clip;              /* percentile at which colours end; 100: none;
                                 -1: 99.5 in the linear view, else none      */
    enum metrics_divisor divisor;
    unsigned formats;         /* of gnuplot figures; 0: none                 */
} mapset_options;

typedef struct mapset_item {
    int head;
    enum att_part part;
    char stem[96];            /* of its files: "na2d-h0-conv"                */
    double *a;                /* [rows][columns]                             */
    metrics m;
} mapset_item;

typedef struct mapset {
    const mapset_options *options;
    check_values values;
    picture shown;            /* what the tokens see                         */
    int patch;                /* its pixels per grid cell                    */
    picture_grid cells;       /* the grid as a picture                       */
    int query;
    matrix_shape shape;
    matrix_agreement agreement;
    locality_shift shift;
    locality_fields fields;   /* of all heads, also where one is shown        */
    mapset_item *item;        /* head by head, in a head part by part        */
    int count;
    heatmap_scale weights;    /* of all attention parts                      */
    heatmap_scale filters;    /* of all convolutions and totals              */
    char problem[ATT_NAME];   /* "grid=14x14 head_dim=32 ..."                */
} mapset;

/* Forms every matrix of m on p, which att_reject() accepts, and measures it.
 * 0; -1 with e and nothing to free: there is no matrix, the picture cannot be
 * used, or memory would not suffice. */
int mapset_make(mapset *s, const att_mechanism *m, const att_problem *p,
                const mapset_options *options, error *e);
void mapset_free(mapset *s);

/* The first head's matrix with its convolution, where it has one. */
const mapset_item *mapset_whole(const mapset *s);

/* Whether matrices and forward agree to rounding (1e-9). */
bool mapset_agrees(const mapset *s);

/* Into the folder, which exists: STEM.png and STEM.npy of every map, its
 * averaged relative map as STEM-relative.npy, STEM-query.png over the picture,
 * the annotated figures, metrics.json. */
int mapset_write(const mapset *s, const char *dir, error *e);

/* The numbers as an aligned table. */
void mapset_print(const mapset *s, FILE *out);

/* The percentile that options.clip means. */
double mapset_clip(const mapset_options *o);

/* Name of a part in files and tables: "attention", "conv", "total". */
const char *mapset_part(enum att_part part);

#endif
