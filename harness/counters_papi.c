/* counters_papi.c - the one place that meets PAPI: hardware events and
 * software-defined events, through one code path.
 *
 * PAPI counts the thread that starts a group, so every thread of a team opens
 * its own.  Software-defined events count the process: adding them up over
 * threads would count them twice.  They are plain variables that PAPI reads;
 * counting costs nothing while a kernel runs.
 *
 * Only these functions are used, so that a stand-in for the library can play a
 * PMU: PAPI_library_init, PAPI_thread_init, PAPI_register_thread,
 * PAPI_create_eventset, PAPI_add_named_event, PAPI_start, PAPI_read, PAPI_stop,
 * PAPI_cleanup_eventset, PAPI_destroy_eventset, PAPI_strerror; to multiplex
 * PAPI_multiplex_init, PAPI_assign_eventset_component, PAPI_set_multiplex; of
 * components PAPI_get_component_index, PAPI_get_component_info;
 * papi_sde_init, papi_sde_register_counter.  tests/papi/pmu.c is that stand-in.
 */
#include "counters_sources.h"

#include <math.h>
#include <papi.h>
#include <pthread.h>
#include <sde_lib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- software-defined events --------------------------------------------- */

/* X(name, mode, of att_cost c and size_t w) */
#define MODEL(X)                                                               \
    X(FLOP_MULADD, PAPI_SDE_DELTA, c->mul_add)                                 \
    X(FLOP_ADD, PAPI_SDE_DELTA, c->add)                                        \
    X(FLOP_MUL, PAPI_SDE_DELTA, c->mul)                                        \
    X(FLOP_DIV, PAPI_SDE_DELTA, c->div)                                        \
    X(FLOP_EXP, PAPI_SDE_DELTA, c->exp)                                        \
    X(FLOP_TOTAL, PAPI_SDE_DELTA, att_flops(c))                                \
    X(PAIRS, PAPI_SDE_DELTA, c->pairs)                                         \
    X(BYTES_READ, PAPI_SDE_DELTA, c->read)                                     \
    X(BYTES_WRITTEN, PAPI_SDE_DELTA, c->write)                                 \
    X(WORKSPACE, PAPI_SDE_INSTANT, (double)w)

enum {
#define INDEX(name, mode, value) name,
    MODEL(INDEX)
#undef INDEX
    MODELS
};

static const struct {
    const char *name;
    int mode;
} model[MODELS] = {
#define NAME(name, mode, value) { #name, mode },
    MODEL(NAME)
#undef NAME
};

static long long tally[MODELS]; /* PAPI reads these                          */

static int register_model(char why[COUNTER_WHY])
{
    void *library = papi_sde_init("attnbench");
    for (int i = 0; library && i < MODELS; i++) {
        const int rc = papi_sde_register_counter(
            library, model[i].name, PAPI_SDE_RO | model[i].mode,
            PAPI_SDE_long_long, &tally[i]);
        if (rc == PAPI_OK) continue;
        snprintf(why, COUNTER_WHY, "papi_sde_register_counter: error %d", rc);
        return -1;
    }
    if (library) return 0;
    snprintf(why, COUNTER_WHY, "papi_sde_init failed");
    return -1;
}

/* A call that has returned did fewer than 2^63 operations: at 10^13 a second
 * that many take ten days. */
void counter_papi_publish(const att_cost *c, size_t w)
{
    double value[MODELS] = {
#define VALUE(name, mode, value) value,
        MODEL(VALUE)
#undef VALUE
    };
    for (int i = 0; i < MODELS; i++)
        if (model[i].mode == PAPI_SDE_INSTANT) tally[i] = llround(value[i]);
        else tally[i] += llround(value[i]);
}

/* ---- the library --------------------------------------------------------- */

static unsigned long thread_id(void)
{
    return (unsigned long)pthread_self(); /* unlike OpenMP's, unique         */
}

static const char *error_text(int rc)
{
    const char *text = PAPI_strerror(rc);
    return text ? text : "unknown error";
}

/* Brings PAPI up at the first call, which the initial thread makes before
 * others follow. */
static int library_ready(char why[COUNTER_WHY])
{
    static enum { UNTRIED, UP, DOWN } state;
    static char reason[COUNTER_WHY];

    if (state == UNTRIED) {
        state = DOWN;
        const int rc = PAPI_library_init(PAPI_VER_CURRENT);
        if (rc != PAPI_VER_CURRENT)
            snprintf(reason, sizeof reason,
                     "PAPI_library_init: %s (built for PAPI %s)",
                     rc > 0 ? "another version" : error_text(rc),
                     counter_papi_version());
        else if (PAPI_thread_init(thread_id) != PAPI_OK)
            snprintf(reason, sizeof reason, "PAPI_thread_init failed");
        else if (register_model(reason) == 0)
            state = UP;
    }
    if (state == UP) return 0;
    memcpy(why, reason, COUNTER_WHY);
    return -1;
}

bool counter_papi_up(char why[COUNTER_WHY])
{
    return library_ready(why) == 0;
}

bool counter_papi_disabled(const char *component, char why[COUNTER_WHY])
{
    if (library_ready(why) < 0) return false;
    const int number = PAPI_get_component_index(component);
    const PAPI_component_info_t *info =
        number < 0 ? NULL : PAPI_get_component_info(number);
    if (!info || !info->disabled) return false;
    snprintf(why, COUNTER_WHY, "%.250s", info->disabled_reason);
    return true;
}

const char *counter_papi_version(void)
{
    static char text[48];
    snprintf(text, sizeof text, "%d.%d.%d.%d", PAPI_VERSION_MAJOR(PAPI_VERSION),
             PAPI_VERSION_MINOR(PAPI_VERSION),
             PAPI_VERSION_REVISION(PAPI_VERSION),
             PAPI_VERSION_INCREMENT(PAPI_VERSION));
    return text;
}

static int tell(int rc, const char *what, char why[COUNTER_WHY])
{
    snprintf(why, COUNTER_WHY, "%s: %s", what, error_text(rc));
    return -1;
}

/* ---- groups -------------------------------------------------------------- */

typedef struct group {
    int set, n;
    bool multiplexed;
    char event[COUNTER_GROUP][COUNTER_WHY / 2]; /* for messages              */
} group;

static void group_close(void *p)
{
    group *g = p;
    if (!g) return;
    if (g->set != PAPI_NULL) {
        PAPI_cleanup_eventset(g->set);
        PAPI_destroy_eventset(&g->set);
    }
    free(g);
}

static int register_once(char why[COUNTER_WHY])
{
    static _Thread_local bool done;
    if (done) return 0;
    const int rc = PAPI_register_thread();
    if (rc != PAPI_OK) return tell(rc, "PAPI_register_thread", why);
    done = true;
    return 0;
}

/* PAPI asks for the component first, since an empty set belongs to none;
 * component 0 is the processor. */
static int multiplex(int set, char why[COUNTER_WHY])
{
    static bool ready;
    int rc = PAPI_OK;
    #pragma omp critical(papi_multiplex)
    {
        if (!ready) rc = PAPI_multiplex_init();
        if (rc == PAPI_OK) ready = true;
    }
    if (rc != PAPI_OK) return tell(rc, "PAPI_multiplex_init", why);
    rc = PAPI_assign_eventset_component(set, 0);
    if (rc != PAPI_OK) return tell(rc, "PAPI_assign_eventset_component", why);
    rc = PAPI_set_multiplex(set);
    return rc == PAPI_OK ? 0 : tell(rc, "PAPI_set_multiplex", why);
}

static void *group_open(const char *const *event, int n, bool multiplexed,
                        char why[COUNTER_WHY])
{
    if (library_ready(why) < 0 || register_once(why) < 0) return NULL;
    group *g = calloc(1, sizeof *g);
    if (!g) {
        snprintf(why, COUNTER_WHY, "out of memory");
        return NULL;
    }
    g->set = PAPI_NULL;
    g->n = n;
    g->multiplexed = multiplexed;
    int rc = PAPI_create_eventset(&g->set);
    if (rc != PAPI_OK) tell(rc, "PAPI_create_eventset", why);
    else if (multiplexed) rc = multiplex(g->set, why);
    for (int i = 0; rc == PAPI_OK && i < n; i++) {
        snprintf(g->event[i], sizeof g->event[i], "%s", event[i]);
        rc = PAPI_add_named_event(g->set, event[i]);
        if (rc != PAPI_OK) tell(rc, event[i], why);
    }
    if (rc == PAPI_OK) return g;
    group_close(g);
    return NULL;
}

static int group_start(void *p, char why[COUNTER_WHY])
{
    const group *g = p;
    const int rc = PAPI_start(g->set);
    return rc == PAPI_OK ? 0 : tell(rc, "PAPI_start", why);
}

/* The value is that of PAPI_read; PAPI_stop must not find less, but for
 * estimates, which are scaled anew.  Derived presets of multiplexed groups have
 * been seen to fall below zero. */
static int group_stop(void *p, long long *value, char why[COUNTER_WHY])
{
    const group *g = p;
    long long end[COUNTER_GROUP] = { 0 };

    const int read = PAPI_read(g->set, value);
    const int stop = PAPI_stop(g->set, end);
    if (read != PAPI_OK) return tell(read, "PAPI_read", why);
    if (stop != PAPI_OK) return tell(stop, "PAPI_stop", why);
    for (int i = 0; i < g->n; i++)
        if (value[i] < 0 || (end[i] < value[i] && !g->multiplexed)) {
            snprintf(why, COUNTER_WHY,
                     "%s: counter overflowed or ran backwards "
                     "(%lld, then %lld)",
                     g->event[i], value[i], end[i]);
            return -1;
        }
    return 0;
}

const counter_source counter_papi_hw = {
    .name = "papi-hw",
    .per_thread = true,
    .hardware = true,
    .multiplexes = true,
    .open = group_open,
    .start = group_start,
    .stop = group_stop,
    .close = group_close,
};

const counter_source counter_papi_sde = {
    .name = "papi-sde",
    .open = group_open,
    .start = group_start,
    .stop = group_stop,
    .close = group_close,
};
