/* shrink.h - the smallest problem that still fails. */
#ifndef SHRINK_H
#define SHRINK_H

#include "draw.h"

/* Whether d fails as the problem did that one began with. */
typedef bool shrink_test(const drawn *d, void *arg);

/* Makes d smaller as long as it fails: gradients off, float storage, one thread,
 * head and map; options to their defaults; sizes down; inputs zero, the same
 * everywhere or normal.  In the end no single such step is left that still
 * fails, unless `tests` calls of fails() or `seconds` were spent.  values:
 * whether kinds of inputs may change. */
void shrink(drawn *d, shrink_test *fails, void *arg, bool values, int tests,
            double seconds);

#endif
