/* probe.h - how fast a core is now: a short loop beside every sample.
 *
 * A neighbour on the same hardware (another guest on the sibling thread, a
 * program that fills the shared cache) slows a kernel down without a trace in
 * steal time or task switches.  A loop that wants what the kernel wants is slowed
 * down with it.  Which loop tells most was measured (tests/probes.c,
 * results/README.md): for kernels bound by the core the geometric mean of
 * exponentials from the first cache and of loads from the second; for the others a
 * sum over a piece of the cache, or of memory, that bounds them.  A matrix tile or
 * multiply-adds in registers fill a unit so well that a neighbour costs them far
 * more than it costs most kernels.
 *
 * A loop that is changed gets another name, since rates of a name are compared.
 */
#ifndef PROBE_H
#define PROBE_H

#include <stdbool.h>

#include "../kernels/plan.h"
#include "json.h"

enum probe_kind {
    PROBE_TILE, /* peak.h's tile, about 24 KiB; beside no sample             */
    PROBE_EXP,  /* exponentials in the first cache; likewise                 */
    PROBE_CORE, /* root of the product of that and the next                  */
    PROBE_L2,   /* sums of a part of a cache of that level                   */
    PROBE_L3,
    PROBE_MEMORY,
    PROBE_KINDS
};

typedef struct core_probe core_probe;

/* A probe for a team of that size, its data touched by the threads that will
 * read them; NULL if this machine has no such cache, or no memory for it. */
core_probe *probe_make(enum probe_kind kind, enum att_level level, int threads);
void probe_free(core_probe *p);

/* What the slowest thread of the caller's team does a second just now: flop,
 * exponentials or bytes.  About 50 us, of PROBE_CORE 70. */
double probe_rate(core_probe *p);

/* The rate of an undisturbed core, as far as a few hundredths of a second tell:
 * what one look in ten exceeds. */
double probe_best(core_probe *p);

/* "tile", "exp", "core", "L2", "L3", "memory". */
const char *probe_word(enum probe_kind kind);
const char *probe_name(const core_probe *p); /* of its kind                  */

/* The probe that tells of a case which such a limit bounds (roofline_point). */
enum probe_kind probe_for(const char *bound);

/* The rates of an undisturbed core: all probes of every level that the CPU runs
 * and each of these numbers of threads are looked at in rounds, between which
 * others may measure, and what one look in ten exceeds counts. */
typedef struct probe_bench probe_bench;
probe_bench *probe_bench_make(const int *threads, int count);
void probe_bench_round(probe_bench *b);
/* Whether threads on so many cores are each about as fast as one alone, in what
 * cores do not share; else somebody else has them just now. */
bool probe_bench_scales(const probe_bench *b, int cores);
/* {"tile": rate, ...} of a level and number of threads; see probe_rate(). */
json *probe_bench_rates(const probe_bench *b, enum att_level level,
                        int threads);
void probe_bench_free(probe_bench *b);

#endif
