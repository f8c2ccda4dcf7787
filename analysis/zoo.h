/* zoo.h - the papers' whole architectures as data: one JSON file a model in
 * analysis/zoo/, one builder that turns it into a network.
 *
 * {
 *   "name": "NAT-Mini", "cite": "hassani2023nat", "image": 224, "classes": 1000,
 *   "tokenizer": [{"conv": 3, "stride": 2, "pad": 1, "out": 32},
 *                 {"conv": 3, "stride": 2, "pad": 1, "out": 64}, {"norm": true}],
 *   "downsampler": [{"conv": 3, "stride": 2, "pad": 1, "bias": false},
 *                   {"norm": true}],
 *   "block": "transformer",                    or "convnext", "halonet"
 *   "norm": "layernorm", "norm_eps": 1e-5, "ln_eps": 1e-6, "sr_norm_eps": 1e-5,
 *   "layer_scale": 1e-5, "qkv_bias": true,
 *   "mlp_conv": 3,                             depthwise, before the GELU (PVTv2)
 *   "levels": [{"depth": 3, "dim": 64, "heads": 2, "mlp": 3,
 *               "attention": [{"mechanism": "na2d", "window": 7, "bias": 1}]}],
 *   "class_token": false, "positions": false,
 *   "final_norm": "tokens", "pool": "mean",   final_norm: tokens, pooled or none
 *   "published": {"parameters": "20M", "flops": "2.7G", "top1": 81.8,
 *                 "source": "..."},
 *   "expected": {"parameters": 19984174, "macs": 2694812672, ...}
 * }
 *
 * A step of the tokenizer or downsampler is a convolution, {"merge": true}
 * (2x2 tokens side by side), {"linear": true} (to the level's width),
 * {"maxpool": 3} with stride and pad, {"relu": true} or {"norm": true}, "eps" if
 * it has another than the blocks; "out" defaults to the level's width.  "norm_eps"
 * is that of the norm that the file names, "ln_eps" that of LayerNorm where the
 * file names another, "sr_norm_eps" that of reduced keys and values (default
 * norm_eps).  "stride" of a level is that of its first block
 * (halonet).  "attention" lists the mechanisms of a level's blocks, taken in
 * turn; members other than "mechanism", "heads", "sr" (keys and values from a
 * map reduced by sr, as in PVT) and "lepe" (side of a depthwise convolution of
 * v that is added, as in CSWin) are fields of the problem.  A level may have
 * "class_token" and "positions" of its own, before its blocks; "assumption"
 * says what a published count needs and no paper states, "timm" how a
 * checkpoint names tensors (zooweights.h), "unused_parameters" how many more
 * parameters official code declares.
 */
#ifndef ZOO_H
#define ZOO_H

#include "../harness/error.h"
#include "../harness/json.h"
#include "network.h"

typedef struct zoo_model {
    char name[64];
    char *path;
    json *file;      /* everything that the file says                        */
    network network;
    int levels;
} zoo_model;

/* Reads and builds a model.  image and norm, if not 0 and NULL, replace the
 * file's.  0, or -1: e names file, key and value. */
int zoo_read(zoo_model *m, const char *path, int image, const char *norm,
             error *e);
void zoo_free(zoo_model *m);

/* Multiply-adds for one picture, as the papers count them, and what the counting
 * tool fvcore adds for normalisations (5 a value). */
typedef struct zoo_count {
    double parameters;
    double macs, share[NET_SHARES]; /* conv, linear, attention: products     */
    double norm_elements;
    double fvcore;
    double activations;             /* bytes of a float forward at batch 1   */
} zoo_count;
void zoo_counts(const network *n, zoo_count *out);

#endif
