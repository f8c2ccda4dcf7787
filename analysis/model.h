/* model.h - model files: weights in safetensors under timm's names, with
 * metadata that say how to run them.
 *
 * Files of our own say everything in their metadata; a ViT or DeiT checkpoint
 * without metadata is understood from its tensors' shapes.  Files are not
 * trusted: a missing tensor, a shape that contradicts the others or a value that
 * is not finite is one line that names it.
 */
#ifndef MODEL_H
#define MODEL_H

#include "../harness/error.h"
#include "network.h"
#include "vit.h"

typedef struct model {
    char *path;
    vit_config config;
    network network;
    float *weights;      /* network.elements                                */
    double *exact;       /* the same as stored (F64 files keep their digits) */
} model;

/* heads: 0, or what a file without metadata cannot say. */
int model_read(model *m, const char *path, int heads, error *e);
void model_free(model *m);

/* Writes a model file; `notes` is a NULL-terminated list of further metadata,
 * key, value, ... (how it was trained).  Atomic. */
int model_write(const char *path, const vit_config *config, const network *n,
                const float *weights, const char *const *notes, error *e);

#endif
