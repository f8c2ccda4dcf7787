/* vit.h - plain transformers: pictures cut into patches, sequences of frames,
 * bytes; one block shape, any mechanism in the attention slot.
 *
 * A vit_config is what a model file's metadata say (results/README.md, "model
 * files"); vit_build turns it into a network with timm's tensor names.
 */
#ifndef VIT_H
#define VIT_H

#include <stdbool.h>

#include "../harness/error.h"
#include "network.h"

enum vit_arch { VIT_IMAGE, VIT_SEQUENCE, VIT_BYTES };
enum vit_pool { VIT_POOL_TOKEN, VIT_POOL_MEAN, VIT_POOL_NONE };

typedef struct vit_config {
    enum vit_arch arch;
    int image, patch, channels;  /* VIT_IMAGE                                */
    int height;                  /* of a picture that is image wide; 0: square */
    int frames, features;        /* VIT_SEQUENCE: input rows and their width;
                                    VIT_BYTES: context and 256               */
    int dim, depth, heads, head_dim, mlp;
    int outputs;                 /* 0: no head, it ends with the last norm   */
    int registers;               /* tokens that stand after the class token  */
    enum vit_pool pool;
    bool class_token, positions, mask_token, qkv_bias, final_norm, post_norm;
    bool tanh_gelu;
    bool early_positions;        /* of patches alone, before class token and
                                    registers are put in front               */
    bool layer_scale;            /* a learned factor on each branch          */
    bool pooled_norm;            /* a norm after the pooling                 */
    double ln_eps;
    char norm[32];               /* mechanism: layernorm, repbn ...          */
    char attention[64];          /* mechanism                                */
    att_problem options;         /* its own fields; heads, grid set by build */
    double mean[3], deviation[3]; /* of the input's channels                 */
    char task[32];               /* classify, masked, next: what the head
                                    was trained for                          */
} vit_config;

/* A small pre-norm model with softmax attention: dim 64, 4 blocks, 4 heads. */
extern const vit_config vit_default;

/* Patches from top to bottom and from left to right; of others 1 and their
 * number. */
void vit_grid(const vit_config *c, int *rows, int *columns);
int vit_tokens(const vit_config *c); /* without those in front               */
int vit_front(const vit_config *c);  /* class token and registers            */

/* 0, or -1: the config contradicts itself. n is then empty. */
int vit_build(network *n, const vit_config *c, error *e);

/* Index of block `layer`'s attention in a network built from c. */
int vit_attention(const network *n, int layer);

#endif
