/* energy.c - which meters there are, and what a call takes from them. */
#include "energy.h"

#include <stdio.h>
#include <string.h>

#include "counters_sources.h"
#include "machine.h"
#include "measure.h"

/* A meter moves every millisecond: half a percent of this. */
#define REGION_SECONDS 0.2

enum part { PACKAGE, CORES, DRAM, PARTS };
static const char *const part_names[PARTS] = { "package", "cores", "dram" };

/* A component of PAPI, its events for each processor, and joules per count.  The
 * zones of powercap are packages; which of their parts is what, their events do
 * not tell. */
static const struct component {
    const char *name, *event[PARTS];
    double joules;
} components[] = {
    { "rapl",
      { "rapl:::PACKAGE_ENERGY:PACKAGE%d", "rapl:::PP0_ENERGY:PACKAGE%d",
        "rapl:::DRAM_ENERGY:PACKAGE%d" },
      1e-9 },
    { "powercap", { "powercap:::ENERGY_UJ:ZONE%d", NULL, NULL }, 1e-6 },
};
enum { COMPONENTS = sizeof components / sizeof *components };

/* The events of a component that can be read here together. */
typedef struct meters {
    const struct component *of;
    int count;
    enum part part[COUNTER_GROUP];
    char event[COUNTER_GROUP][64];
    char why[COUNTER_WHY], remedy[COUNTER_WHY]; /* if there is none           */
} meters;

static void *open_meters(const meters *m, char why[COUNTER_WHY])
{
    const char *event[COUNTER_GROUP];
    for (int i = 0; i < m->count; i++) event[i] = m->event[i];
    return counter_papi_hw.open(event, m->count, false, why);
}

/* Adds the meter if it opens beside those before it. */
static bool add_meter(meters *m, enum part part, int package)
{
    char why[COUNTER_WHY];
    if (m->count == COUNTER_GROUP) return false;
    const int n = m->count++;
    m->part[n] = part;
    const char *name = m->of->event[part], *mark = strchr(name, '%');
    snprintf(m->event[n], sizeof *m->event, "%.*s%d", (int)(mark - name), name,
             package);
    void *group = open_meters(m, why);
    if (!group) m->count--;
    counter_papi_hw.close(group);
    return group != NULL;
}

static void explain(meters *m)
{
    char why[COUNTER_WHY];
    const char *guest = machine_hypervisor();
    bool refused = false;
    m->of = NULL;
    if (!counter_papi_up(m->why)) {
        snprintf(m->remedy, sizeof m->remedy, "install the libpapi that "
                 "attnbench was built with, or build it again");
        return;
    }
    snprintf(m->why, sizeof m->why, "no meter of energy");
    for (int i = 0; i < COMPONENTS && !refused; i++) {
        if (!counter_papi_disabled(components[i].name, why)) continue;
        refused = strstr(why, "ermission") != NULL;
        if (refused)
            snprintf(m->why, sizeof m->why, "PAPI's %s: %.200s",
                     components[i].name, why);
    }
    if (refused)
        snprintf(m->remedy, sizeof m->remedy, "as root: chmod a+r "
                 "/sys/class/powercap/*/energy_uj (or run attnbench as root)");
    else if (guest) {
        snprintf(m->why, sizeof m->why, "no meter of energy in this virtual "
                 "machine (%.60s)", guest);
        snprintf(m->remedy, sizeof m->remedy, "measure on the machine itself");
    } else
        snprintf(m->remedy, sizeof m->remedy, "a PAPI with its component rapl or "
                 "powercap, and as root: modprobe intel_rapl_msr");
}

static bool find_meters(meters *m)
{
    for (int i = 0; i < COMPONENTS; i++) {
        *m = (meters){ .of = &components[i] };
        for (int package = 0; add_meter(m, PACKAGE, package); package++)
            for (int part = CORES; part < PARTS; part++)
                if (m->of->event[part]) add_meter(m, (enum part)part, package);
        if (m->count) return true;
    }
    explain(m);
    return false;
}

/* One region; -1 if a meter failed, or wrapped around. */
static int read_region(const meters *m, void (*run)(void *), void *arg,
                       double joules[PARTS], double *seconds, int *calls,
                       char why[COUNTER_WHY])
{
    long long value[COUNTER_GROUP];
    void *group = open_meters(m, why);
    int rc = group ? counter_papi_hw.start(group, why) : -1;
    if (rc == 0) {
        const double start = measure_now();
        *calls = 0;
        do {
            run(arg);
            ++*calls;
            *seconds = measure_now() - start;
        } while (*seconds < REGION_SECONDS);
        rc = counter_papi_hw.stop(group, value, why);
    }
    counter_papi_hw.close(group);
    for (int p = 0; p < PARTS; p++) joules[p] = 0;
    for (int i = 0; rc == 0 && i < m->count; i++)
        joules[m->part[i]] += m->of->joules * (double)value[i];
    return rc;
}

static bool has_part(const meters *m, enum part part)
{
    for (int i = 0; i < m->count; i++)
        if (m->part[i] == part) return true;
    return false;
}

static json *describe(const meters *m, const double joules[PARTS],
                      double seconds, int calls)
{
    json *j = json_object();
    char key[16];
    for (int p = 0; p < PARTS; p++) {
        snprintf(key, sizeof key, "%s_j", part_names[p]);
        if (has_part(m, (enum part)p))
            json_put_number(j, key, joules[p] / calls);
        else json_put_null(j, key);
    }
    json_put_number(j, "watts", (joules[PACKAGE] + joules[DRAM]) / seconds);
    json_put_number(j, "seconds", seconds);
    json_put_number(j, "calls", calls);
    json_put_text(j, "source", m->of->name);
    json_put_text(j, "reason", NULL);
    return j;
}

json *energy_none(const char *reason)
{
    static const char *const keys[] = { "package_j", "cores_j", "dram_j",
                                        "watts", "seconds", "calls", "source" };
    json *j = json_object();
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        json_put_null(j, keys[i]);
    json_put_text(j, "reason", reason);
    return j;
}

/* A meter that wraps around does so once in minutes: not twice in a row. */
json *energy_measure(void (*run)(void *), void *arg)
{
    meters m;
    double joules[PARTS], seconds = 0;
    char why[COUNTER_WHY] = "";
    int calls = 0;
    if (!find_meters(&m)) return energy_none(m.why);
    for (int i = 0; i < 2; i++)
        if (read_region(&m, run, arg, joules, &seconds, &calls, why) == 0)
            return describe(&m, joules, seconds, calls);
    return energy_none(why);
}

json *energy_describe(void)
{
    meters m;
    char names[64] = "";
    json *j = json_object();
    const bool some = find_meters(&m);
    for (int p = 0; some && p < PARTS; p++) {
        const size_t at = strlen(names);
        if (has_part(&m, (enum part)p))
            snprintf(names + at, sizeof names - at, "%s%s", at ? ", " : "",
                     part_names[p]);
    }
    json_put_bool(j, "available", some);
    json_put_text(j, "source", some ? m.of->name : NULL);
    json_put_text(j, "meters", some ? names : NULL);
    json_put_text(j, "reason", some ? NULL : m.why);
    json_put_text(j, "remedy", some ? NULL : m.remedy);
    return j;
}
