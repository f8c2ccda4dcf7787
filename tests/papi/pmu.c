/* pmu.c - a stand-in for libpapi that plays a processor with counters.
 *
 * It has the functions that harness/counters_papi.c uses, and counts no
 * hardware: an event counts so much for each unit of work that the test program
 * announces with pmu_work(), or that `idle` gives to whoever counts.  What it
 * plays is written in the environment variable PMU, in words:
 *
 *     counters=N    counters of a core (2)
 *     idle=N        units of work per start: N times 1 + number of the thread
 *     EVENT=V       EVENT counts V per unit, with marks behind V:
 *                       /N  takes N counters, as derived presets do
 *                       ~N  disappears once it was added N times
 *                       ^   overflows while it counts
 *                       _N  wraps around the first N times: 2^32 too little
 *     rapl:::EVENT=V, powercap:::EVENT=V   likewise, of that component
 *     rapl=RC, powercap=RC   that component is disabled: RC -15 (PAPI_EPERM) for
 *                   want of permission; otherwise there is no such hardware
 *     EVENT!EVENT   never together
 *     CALL=RC       library, thread_init, register, create, multiplex, add,
 *                   start, read or stop returns RC
 *     CALL@T=RC     likewise on thread T alone
 *
 * Thread 0 is the initial one, the others are numbered as they register.
 * Multiplexed events count 1 % too much, a little less at the end, as estimates
 * may.
 */
#include "pmu.h"

#include <papi.h>
#include <pthread.h>
#include <sde_lib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NAME = 160, EVENTS = 128, SETS = 256, SET = 32, RULES = 16 };
enum component { NO_COMPONENT = -1, CORE, SOFTWARE, RAPL, POWERCAP, COMPONENTS };
static const char *const component_names[COMPONENTS] = { "perf_event", "sde",
                                                         "rapl", "powercap" };

typedef struct event {
    char name[NAME];
    enum component component;
    long long per_unit;
    int counters;
    int adds; /* that will still work; -1: all                        */
    bool overflows;
    int wraps;
    long long *tally; /* of a software-defined event                         */
    bool delta;
} event;

typedef struct set {
    bool exists, running, multiplexed;
    enum component component;
    int owner; /* thread                                                     */
    int n;
    event *event[SET];
    long long before[SET]; /* tallies at the start                           */
    long long work;        /* likewise                                       */
} set;

typedef struct rule {
    char name[NAME], other[NAME]; /* two events, or a call                   */
    int thread;                   /* -1: any                                 */
    int rc;
} rule;

static event events[EVENTS];
static set sets[SETS];
static rule rules[RULES];
static int event_count, rule_count, counters = 2, threads, misuses;
static long long idle;
static bool initialised, multiplex_ready;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local long long work;
static _Thread_local int number = -1;

/* ---- the script ---------------------------------------------------------- */

static void *give_up(const char *why, const char *word)
{
    fprintf(stderr, "pmu: %s '%s'\n", why, word);
    abort();
}

static event *find(const char *name)
{
    for (int i = 0; i < event_count; i++)
        if (!strcmp(events[i].name, name)) return &events[i];
    return NULL;
}

static event *event_new(const char *name, enum component component)
{
    if (event_count == EVENTS) return give_up("too many events with", name);
    event *e = &events[event_count++];
    *e = (event){ .component = component, .counters = 1, .adds = -1 };
    snprintf(e->name, sizeof e->name, "%s", name);
    return e;
}

static rule *rule_new(const char *name)
{
    if (rule_count == RULES) return give_up("too many rules with", name);
    rule *r = &rules[rule_count++];
    *r = (rule){ .thread = -1 };
    snprintf(r->name, sizeof r->name, "%s", name);
    return r;
}

static void read_event(const char *name, char *text)
{
    const enum component component = !strncmp(name, "rapl:::", 7) ? RAPL
                                     : !strncmp(name, "powercap:::", 11)
                                         ? POWERCAP : CORE;
    event *e = event_new(name, component);
    e->per_unit = strtoll(text, &text, 10);
    for (; *text; text++) {
        if (*text == '^')
            e->overflows = true;
        else if (*text == '_')
            e->wraps = (int)strtol(text + 1, NULL, 10);
        else if (*text == '/')
            e->counters = (int)strtol(text + 1, NULL, 10);
        else if (*text == '~')
            e->adds = (int)strtol(text + 1, NULL, 10);
    }
}

static void read_word(char *word)
{
    char *value = strchr(word, '='), *other = strchr(word, '!');
    if (other && !value) {
        *other = 0;
        snprintf(rule_new(word)->other, NAME, "%s", other + 1);
        return;
    }
    if (!value) give_up("cannot read", word);
    *value++ = 0;
    if (!strcmp(word, "counters"))
        counters = atoi(value);
    else if (!strcmp(word, "idle"))
        idle = atoll(value);
    else if ((*word >= 'A' && *word <= 'Z') || strstr(word, ":::"))
        read_event(word, value);
    else {
        char *at = strchr(word, '@');
        if (at) *at = 0;
        rule *r = rule_new(word);
        if (at) r->thread = atoi(at + 1);
        r->rc = atoi(value);
    }
}

static void read_script(void)
{
    const char *script = getenv("PMU");
    char *copy = strdup(script ? script : ""), *rest = NULL;
    if (!copy) abort();
    for (char *w = strtok_r(copy, " ", &rest); w;
         w = strtok_r(NULL, " ", &rest))
        read_word(w);
    free(copy);
}

/* ---- rules --------------------------------------------------------------- */

static int thread(void)
{
    if (number >= 0) return number;
    if (getpid() == (pid_t)syscall(SYS_gettid)) return number = 0;
    pthread_mutex_lock(&lock);
    number = ++threads;
    pthread_mutex_unlock(&lock);
    return number;
}

/* What the script wants this call to return. */
static int scripted(const char *call)
{
    for (int i = 0; i < rule_count; i++)
        if (!*rules[i].other && !strcmp(rules[i].name, call) &&
            (rules[i].thread < 0 || rules[i].thread == thread()))
            return rules[i].rc;
    return PAPI_OK;
}

static bool exclude(const event *a, const event *b)
{
    for (int i = 0; i < rule_count; i++) {
        const rule *r = &rules[i];
        if (!*r->other) continue;
        if (!strcmp(r->name, a->name) && !strcmp(r->other, b->name))
            return true;
        if (!strcmp(r->name, b->name) && !strcmp(r->other, a->name))
            return true;
    }
    return false;
}

/* A call that the library would answer with an error, and no caller of ours
 * should make. */
static int misuse(int rc, const char *what)
{
    const char *path = getenv("PMU_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    pthread_mutex_lock(&lock);
    misuses++;
    pthread_mutex_unlock(&lock);
    if (!log) return rc;
    fprintf(log, "%s (thread %d)\n", what, thread());
    fclose(log);
    return rc;
}

void pmu_work(long long units)
{
    work += units;
}

int pmu_open_sets(void)
{
    int n = 0;
    for (int i = 0; i < SETS; i++) n += sets[i].exists;
    return n;
}

int pmu_misuses(void)
{
    return misuses;
}

/* ---- the library --------------------------------------------------------- */

int PAPI_library_init(int version)
{
    (void)version;
    if (initialised) return misuse(PAPI_EINVAL, "PAPI_library_init twice");
    read_script();
    initialised = true;
    const int rc = scripted("library");
    return rc == PAPI_OK ? (int)PAPI_VER_CURRENT : rc;
}

int PAPI_thread_init(unsigned long (*id)(void))
{
    (void)id;
    return scripted("thread_init");
}

int PAPI_register_thread(void)
{
    return scripted("register");
}

int PAPI_multiplex_init(void)
{
    const int rc = scripted("multiplex");
    if (rc == PAPI_OK) multiplex_ready = true;
    return rc;
}

char *PAPI_strerror(int code)
{
    switch (code) {
    case PAPI_EINVAL:
        return (char *)"Invalid argument";
    case PAPI_ENOMEM:
        return (char *)"Insufficient memory";
    case PAPI_ECMP:
        return (char *)"Not supported by component";
    case PAPI_ESYS:
        return (char *)"A System/C library call failed";
    case PAPI_ENOEVNT:
        return (char *)"Event does not exist";
    case PAPI_ECNFLCT:
        return (char *)"Event exists, but cannot be counted due to hardware "
                       "resource limits";
    case PAPI_ENOTRUN:
        return (char *)"EventSet is currently not running";
    case PAPI_EISRUN:
        return (char *)"EventSet is currently counting";
    case PAPI_ENOEVST:
        return (char *)"No such EventSet available";
    default:
        return NULL; /* as the library answers what it does not know     */
    }
}

int PAPI_get_component_index(const char *name)
{
    for (int i = 0; i < COMPONENTS; i++)
        if (!strcmp(name, component_names[i])) return i;
    return PAPI_ENOCMP;
}

const PAPI_component_info_t *PAPI_get_component_info(int index)
{
    static PAPI_component_info_t info;
    if (index < 0 || index >= COMPONENTS) return NULL;
    const int rc = scripted(component_names[index]);
    memset(&info, 0, sizeof info);
    info.disabled = rc;
    snprintf(info.disabled_reason, sizeof info.disabled_reason, "%s",
             rc == PAPI_EPERM ? "Can't open fd for cpu0: Permission denied"
             : rc             ? "No such hardware" : "");
    return &info;
}

/* ---- event sets ---------------------------------------------------------- */

/* The set, if the calling thread may use it. */
static set *own(int id)
{
    if (id < 0 || id >= SETS || !sets[id].exists) return NULL;
    return sets[id].owner == thread() ? &sets[id] : NULL;
}

int PAPI_create_eventset(int *id)
{
    const int rc = scripted("create");
    if (rc != PAPI_OK) return rc;
    if (!initialised || *id != PAPI_NULL)
        return misuse(PAPI_EINVAL, "PAPI_create_eventset");
    const int owner = thread();
    int i = 0;
    pthread_mutex_lock(&lock);
    while (i < SETS && sets[i].exists) i++;
    if (i < SETS)
        sets[i] =
            (set){ .exists = true, .component = NO_COMPONENT, .owner = owner };
    pthread_mutex_unlock(&lock);
    if (i == SETS) return PAPI_ENOMEM;
    *id = i;
    return PAPI_OK;
}

int PAPI_assign_eventset_component(int id, int component)
{
    set *s = own(id);
    if (!s || s->component != NO_COMPONENT || component != CORE)
        return misuse(PAPI_EINVAL, "PAPI_assign_eventset_component");
    s->component = CORE;
    return PAPI_OK;
}

int PAPI_set_multiplex(int id)
{
    set *s = own(id);
    if (!s || !multiplex_ready || s->component == NO_COMPONENT)
        return misuse(PAPI_ENOCMP, "PAPI_set_multiplex");
    s->multiplexed = true;
    return PAPI_OK;
}

/* Whether the event finds a counter beside those of the set. */
static bool has_room(const set *s, const event *e)
{
    int taken = e->counters;
    for (int i = 0; i < s->n; i++) {
        if (exclude(s->event[i], e)) return false;
        taken += s->event[i]->counters;
    }
    return e->component != CORE || taken <= counters;
}

int PAPI_add_named_event(int id, const char *name)
{
    set *s = own(id);
    const int rc = scripted("add");
    if (rc != PAPI_OK) return rc;
    if (!s || s->running || s->n == SET)
        return misuse(PAPI_EINVAL, "PAPI_add_named_event");
    event *e = find(name);
    if (!e || e->adds == 0 || scripted(component_names[e->component]))
        return PAPI_ENOEVNT;
    if (s->component != NO_COMPONENT && s->component != e->component)
        return misuse(PAPI_EINVAL, "PAPI_add_named_event: two components");
    if (!s->multiplexed && !has_room(s, e)) return PAPI_ECNFLCT;
    pthread_mutex_lock(&lock);
    if (e->adds > 0) e->adds--;
    pthread_mutex_unlock(&lock);
    s->component = e->component;
    s->event[s->n++] = e;
    return PAPI_OK;
}

/* A thread's counters belong to one set at a time. */
static bool core_is_busy(const set *s)
{
    for (int i = 0; i < SETS; i++)
        if (sets[i].exists && sets[i].running && sets[i].owner == s->owner &&
            sets[i].component == s->component)
            return true;
    return false;
}

int PAPI_start(int id)
{
    set *s = own(id);
    const int rc = scripted("start");
    if (rc != PAPI_OK) return rc;
    if (!s || s->n == 0) return misuse(PAPI_EINVAL, "PAPI_start");
    if (core_is_busy(s)) return misuse(PAPI_EISRUN, "PAPI_start");
    s->work = work;
    for (int i = 0; i < s->n; i++)
        if (s->event[i]->delta) s->before[i] = *s->event[i]->tally;
    s->running = true;
    return PAPI_OK;
}

static void count(const set *s, long long *value, bool at_the_end)
{
    const long long units = work - s->work + idle * (1 + s->owner);
    for (int i = 0; i < s->n; i++) {
        const event *e = s->event[i];
        if (e->tally)
            value[i] = *e->tally - s->before[i];
        else
            value[i] = e->per_unit * units;
        if (s->multiplexed) value[i] += value[i] / (at_the_end ? 101 : 100);
        if (e->wraps > 0 && units > 0) value[i] -= 1LL << 32;
        if (e->overflows && units > 0)
            value[i] = at_the_end ? 5 : (1LL << 48) - 3;
    }
}

int PAPI_read(int id, long long *value)
{
    const set *s = own(id);
    const int rc = scripted("read");
    if (rc != PAPI_OK) return rc;
    if (!s || !s->running) return misuse(PAPI_ENOTRUN, "PAPI_read");
    count(s, value, false);
    return PAPI_OK;
}

int PAPI_stop(int id, long long *value)
{
    set *s = own(id);
    if (!s || !s->running) return misuse(PAPI_ENOTRUN, "PAPI_stop");
    s->running = false; /* a set whose stop fails does not count either */
    const int rc = scripted("stop");
    if (rc == PAPI_OK) count(s, value, true);
    for (int i = 0; i < s->n; i++)
        if (s->event[i]->wraps > 0 && work != s->work) s->event[i]->wraps--;
    return rc;
}

int PAPI_cleanup_eventset(int id)
{
    set *s = own(id);
    if (!s) return misuse(PAPI_ENOEVST, "PAPI_cleanup_eventset");
    if (s->running) return misuse(PAPI_EISRUN, "PAPI_cleanup_eventset");
    s->n = 0;
    return PAPI_OK;
}

int PAPI_destroy_eventset(int *id)
{
    set *s = own(*id);
    if (!s || s->n) return misuse(PAPI_ENOEVST, "PAPI_destroy_eventset");
    s->exists = false;
    *id = PAPI_NULL;
    return PAPI_OK;
}

/* ---- software-defined events --------------------------------------------- */

papi_handle_t papi_sde_init(const char *library)
{
    static char name[NAME];
    snprintf(name, sizeof name, "%s", library);
    return name;
}

int papi_sde_register_counter(papi_handle_t library, const char *name, int mode,
                              int type, void *counter)
{
    char full[NAME];
    if (type != PAPI_SDE_long_long)
        return misuse(PAPI_EINVAL, "papi_sde_register_counter");
    snprintf(full, sizeof full, "sde:::%s::%s", (const char *)library, name);
    event *e = event_new(full, SOFTWARE);
    e->tally = counter;
    e->delta = mode != PAPI_SDE_INSTANT;
    return PAPI_OK;
}
