/* counters_sources.h - for counters*.c: what a source of counts offers.
 *
 * A source opens a group of events on the calling thread, starts it, and on
 * stop() delivers one number per event.  counters.c chooses events, packs them
 * into groups and adds threads up; it does not know where numbers come from.
 */
#ifndef COUNTERS_SOURCES_H
#define COUNTERS_SOURCES_H

#include <stdbool.h>
#include <stddef.h>

#include "../kernels/plan.h"

/* Most events of one group; bytes of a reason. */
enum { COUNTER_GROUP = 16, COUNTER_WHY = 256 };

typedef struct counter_source {
    const char *name;  /* "papi-hw": `source` of a value                     */
    bool per_thread;   /* counts the calling thread; otherwise the process   */
    bool hardware;     /* takes counters of the PMU                          */
    bool multiplexes;  /* open() may be asked to                             */
    /* A group of n events of the calling thread, which alone may use it; or
     * NULL with a reason.  Multiplexed: the events take turns on the counters
     * while the group runs, and stop() delivers estimates. */
    void *(*open)(const char *const *event, int n, bool multiplexed,
                  char why[COUNTER_WHY]);
    /* 0, or -1 with a reason. */
    int (*start)(void *group, char why[COUNTER_WHY]);
    int (*stop)(void *group, long long *value, char why[COUNTER_WHY]);
    void (*close)(void *group); /* NULL is fine                              */
} counter_source;

extern const counter_source counter_papi_hw;
extern const counter_source counter_papi_sde;
extern const counter_source counter_perf_hw;
extern const counter_source counter_perf_sw;

/* The source that an event name of counters.txt belongs to. */
const counter_source *counter_source_of(const char *event);

/* The software events among the names of Linux ("page-faults"). */
bool counter_perf_is_software(const char *event);

/* Adds one call to the software-defined events sde:::attnbench::... */
void counter_papi_publish(const att_cost *cost, size_t workspace);

/* Whether the library came up; if not, why. */
bool counter_papi_up(char why[COUNTER_WHY]);

/* Whether PAPI has that component ("rapl") and could not start it; if so, why. */
bool counter_papi_disabled(const char *component, char why[COUNTER_WHY]);

/* "7.0.0.0", as compiled in. */
const char *counter_papi_version(void);

/* Why this machine counts no hardware events, from what its kernel answers when
 * asked for the simplest one, and the remedy.  False: it does count them. */
bool counter_perf_no_pmu(char why[COUNTER_WHY], char remedy[COUNTER_WHY]);

#endif
