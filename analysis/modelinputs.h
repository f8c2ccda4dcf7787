/* modelinputs.h - what a model is run on: pictures, tensors, data sets, text.
 */
#ifndef MODELINPUTS_H
#define MODELINPUTS_H

#include "../harness/error.h"
#include "model.h"
#include "picture.h"

typedef struct model_inputs {
    char *name;          /* as given, or "built-in"                          */
    int count;
    size_t each;         /* numbers of one input: [tokens][channels]         */
    double *value;       /* [count][each]                                    */
    int *label;          /* NULL: not known                                  */
    char note[512];      /* what of a data set was left out, or ""           */
    picture shown;       /* the first input as a picture, its values spread
                            over black to white; no samples where it is none */
} model_inputs;

/* Reads at most `count` inputs (0: as many as there are, of data sets 16).
 *   NAME.png             the middle in the model's aspect, resized, normalised as the model says
 *   NAME.safetensors[:TENSOR]   [n][height][width] or [n][channels][..][..] for
 *                        pictures (U8: divided by 255 and normalised; floats:
 *                        as they are), [n][frames][features] for sequences;
 *                        without TENSOR the one that fits; `labels` too
 *   a data set           as attnbench train takes it (data.h); also text for
 *                        models of bytes
 *   NULL                 the built-in picture made from the seed
 * 0; -1 with e and nothing to free. */
int model_inputs_read(model_inputs *in, const model *m, const char *name,
                      int count, uint64_t seed, error *e);
void model_inputs_free(model_inputs *in);

#endif
