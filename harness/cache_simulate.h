/* cache_simulate.h - one case under valgrind's cache simulator, callgrind.
 *
 * The program runs itself under valgrind, as `attnbench cache --inside`, which
 * reads the case from standard input, makes it ready, empties the simulated
 * caches by reading a buffer larger than they are, calls the kernel (the cold
 * pass) and calls it again (the warm one).  The counts of these two calls are
 * parts of their own in what callgrind writes.  Command line and environment are the same for every case, so
 * that stacks and heaps lie where they lay before and counts repeat exactly.
 */
#ifndef CACHE_SIMULATE_H
#define CACHE_SIMULATE_H

#include "cache_geometry.h"
#include "sweep_case.h"

/* Callgrind's events: instructions; data reads and writes; misses of I1, of D1 by
 * reads and writes, of LL by instructions, reads and writes. */
#define CACHE_EVENTS(X) X(Ir) X(Dr) X(Dw) X(I1mr) X(D1mr) X(D1mw) X(ILmr)      \
    X(DLmr) X(DLmw)

typedef struct cache_job {
    const sweep_case *what;
    const char *valgrind;    /* absolute path                                */
    const char *folder;      /* for its files: absolute, exists              */
    cache_geometry geometry; /* l2 is not looked at                          */
} cache_job;

/* For isolate_run(): arg is a cache_job.  Returns {creator, cold, warm}: the
 * simulator's name and version, and one object of counts by these names for each
 * pass. */
json *cache_simulate(void *arg);

/* `attnbench cache --inside`; returns an exit code. */
int cache_inside(void);

/* Path of valgrind, allocated; NULL with the remedy in e. */
char *cache_valgrind(error *e);

#endif
