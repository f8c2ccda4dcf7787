/* zooweights.h - checkpoints in timm's names for the papers' models. */
#ifndef ZOOWEIGHTS_H
#define ZOOWEIGHTS_H

#include "zoo.h"

/* Fills weights (m->network.elements) from a safetensors file.  Member "timm"
 * of the model's file lists how names differ: {"ours": "timm's"} replaces the
 * beginning of a name, the longest that fits, and one that starts with a dot
 * the end.  0, or -1: e names file and tensor. */
int zoo_weights(const zoo_model *m, const char *path, float *weights, error *e);

#endif
