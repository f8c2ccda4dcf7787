/* cold.h - calls that find their data in no cache.
 *
 * Before each call every line of every array that it reads or writes is flushed
 * (clflushopt, or clflush): written back and dropped from all caches of all
 * processors, whatever their size, so that it needs no memory and no knowledge
 * of caches.  Code, stack, translated addresses and the buffers within a BLAS
 * stay warm.  What a call writes is brought in by it, and written back after it.
 *
 * Each call is timed by itself, the flush is not.  What reading the clock takes
 * is measured and subtracted.  Uses OpenMP: child processes only.
 */
#ifndef COLD_H
#define COLD_H

#include <stddef.h>

enum { COLD_RANGES = 16 };

/* Seconds: below that, steps and cost of the clock (about 30 ns) are more than
 * 1 % of a call. */
#define COLD_LEAST 2e-6

typedef struct cold {
    void (*run)(void *arg); /* the call                                      */
    void *arg;
    int threads; /* that share the flush, and are awake after it: the call's */
    int ranges;
    struct {
        const char *at;
        size_t bytes;
    } range[COLD_RANGES];
    double clock; /* seconds that timing nothing takes                       */
    double flushed; /* lines so far, by cold_call()                          */
} cold;

/* NULL, or why lines cannot be flushed here (static). */
const char *cold_refusal(void);

/* c: run, arg and threads are set, no ranges yet.  Measures the clock. */
void cold_begin(cold *c);
/* bytes at `at` are part of what is to be cold; NULL or 0: nothing. */
void cold_add(cold *c, const void *at, size_t bytes);
/* Flushes all ranges; how many lines that were. */
size_t cold_evict(const cold *c);
/* Evicts, then calls: seconds of the call until all its stores are done.  The
 * argument is a cold. */
double cold_call(void *c);

#endif
