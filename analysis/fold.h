/* fold.h - norms that are affine maps of a channel in evaluation (batch norms,
 * RepBN) folded into the linear layer or convolution next to them
 * [guo2024slab].
 */
#ifndef FOLD_H
#define FOLD_H

#include "network.h"

/* Makes the folded network and its weights, both the caller's.  A norm y = a x
 * + b whose readers are linear layers (directly or through a pool) goes into
 * them: W diag(a), c + W b; else, if it alone reads a linear layer or
 * convolution, into that: diag(a) W, a c + b; else it stays, as do norms that
 * are not affine.  Returns the number of norms folded. */
int net_fold(const network *n, const float *weights, network *out,
             float **folded);

#endif
