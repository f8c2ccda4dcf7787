/* given.h - parameters of a mechanism from files: a mask that somebody drew, a
 * bias that somebody learned.
 */
#ifndef GIVEN_H
#define GIVEN_H

#include "../harness/check.h"

/* text is NAME=FILE: the values of parameter NAME of v from a .npy of its shape,
 * or, where it has two axes, from a PNG of as many rows and columns whose light
 * pixels are 1 and dark ones 0.  -1 with the file and what does not fit in e. */
int given_parameter(check_values *v, const char *text, error *e);

#endif
