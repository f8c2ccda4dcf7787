/* model.h - model files: weights in safetensors under timm's names, with
 * metadata that say how to run them.
 *
 * Files of our own say everything in their metadata.  Of a ViT or DeiT
 * checkpoint the tensors' shapes say much; options or metadata say the rest, or
 * it is assumed, and model.assumed tells what.  Files are not
 * trusted: a missing tensor, a shape that contradicts the others or a value that
 * is not finite is one line that names it.
 */
#ifndef MODEL_H
#define MODEL_H

#include "../harness/error.h"
#include "modelkeys.h"
#include "network.h"
#include "vit.h"

typedef struct model {
    char *path;
    vit_config config;
    network network;
    model_assumptions assumed; /* what nothing says, e.g. heads = dim / 64   */
    char *unread_input;  /* an input's normalisation that is told in words
                            that cannot be computed; NULL: it is in config   */
    float *weights;      /* network.elements                                */
    double *exact;       /* the same as stored (F64 files keep their digits) */
} model;

/* options (count of them) say what the file does not; one that contradicts it is
 * an error.  0; -1 with e and nothing to free. */
int model_read(model *m, const char *path, const model_option *options,
               int count, error *e);
void model_free(model *m);

/* Writes a model file; `notes` is a NULL-terminated list of further metadata,
 * key, value, ... (how it was trained).  Atomic. */
int model_write(const char *path, const vit_config *config, const network *n,
                const float *weights, const char *const *notes, error *e);

#endif
