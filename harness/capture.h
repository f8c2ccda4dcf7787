/* capture.h - what another program prints. */
#ifndef CAPTURE_H
#define CAPTURE_H

#include <stddef.h>

/* Runs argv[0] (searched in PATH) with /dev/null as input and stderr, and keeps
 * the first size - 1 bytes of its stdout in out, ended by 0.  Returns its exit
 * status, or -1 if it could not be run or was killed. */
int capture(const char *const *argv, char *out, size_t size);

#endif
