/* modelmaps.h - maps of a trained model: every attention of every layer, on
 * real inputs, in double; and what the model answers, in double and in float.
 */
#ifndef MODELMAPS_H
#define MODELMAPS_H

#include <stdio.h>

#include "mapset.h"
#include "modelinputs.h"

typedef struct modelmaps_options {
    const char *input;        /* see model_inputs_read(); NULL: built-in      */
    int count;                /* inputs at most; 0: see there                */
    const model_option *said; /* what the model's file does not say          */
    int said_count;
    const att_mechanism *as;  /* put the same q, k, v under this one; or NULL */
    att_problem as_problem;   /* its own fields; grid, heads and widths are
                                 taken from the model                        */
    const bool *layer;        /* [layers asked about]: which; NULL: all      */
    int layers;
} modelmaps_options;

typedef struct modelmaps_item {
    int layer, head;
    char stem[96];            /* of its files                                */
    double *a, *total;        /* of the first input; total: with the
                                 convolution, NULL if there is none           */
    metrics attention, whole; /* mean over inputs; whole: with total         */
    metrics convolution;      /* what total has beside a                     */
    double change;            /* with `as`: ||o' - o|| / ||o|| of the head's
                                 output, mean over inputs; NAN: not comparable */
    double rank[2][2];        /* least and greatest rank_f64 over inputs, of
                                 attention and whole                         */
} modelmaps_item;

typedef struct modelmaps {
    const mapset_options *options;   /* view, clip, head, channel, query ...  */
    const modelmaps_options *wishes;
    model model;
    model_inputs inputs;
    const att_mechanism *mechanism;  /* whose matrices these are             */
    att_problem problem;
    size_t outputs;                  /* numbers that the model answers       */
    double *logits;                  /* [inputs][outputs]                    */
    float *logits_f32;
    double f32_difference;           /* largest |logits_f32 - logits|; NAN:   */
    error f32_reason;                /*   there are none, and why            */
    matrix_shape shape;
    int depth, heads, parts;         /* layers of the model; maps of one; 1,
                                        or 2 with a total                    */
    modelmaps_item *item;            /* layer by layer                       */
    int count;
    heatmap_scale weights, filters;
    int query;
} modelmaps;

/* Reads the model and its inputs, runs it, forms and measures the matrices of
 * the layers and heads asked for.  0; -1 with e and nothing to free. */
int modelmaps_make(modelmaps *s, const char *path,
                   const mapset_options *options,
                   const modelmaps_options *wishes, error *e);
void modelmaps_free(modelmaps *s);

/* Into the folder, which exists: logits.json, metrics.json, the matrices of the
 * first input, contact sheets, entropy boxes, locality by layer. */
int modelmaps_write(const modelmaps *s, const char *dir, error *e);
void modelmaps_print(const modelmaps *s, FILE *out);
/* One line of what was assumed of the model; nothing if nothing was. */
void modelmaps_print_assumed(const modelmaps *s, FILE *out);

#endif
