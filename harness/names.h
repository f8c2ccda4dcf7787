/* names.h - names of mechanisms and kernels, for messages and completion. */
#ifndef NAMES_H
#define NAMES_H

#include "../kernels/plan.h"
#include "error.h"

/* Sorted, each once; *out is allocated, the names are the registry's. */
int names_mechanisms(const char ***out);
int names_kernels(const char ***out);

/* The mechanism of that name, or that a kernel of that name computes.  NULL: e
 * offers the nearest. */
const att_mechanism *names_mechanism(const char *typed, error *e);

#endif
