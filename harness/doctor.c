/* doctor.c - what can be measured here, what cannot, and what would help. */
#include <argp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../kernels/plan.h"
#include "cache_simulate.h"
#include "commands.h"
#include "counters.h"
#include "energy.h"
#include "error.h"
#include "json.h"
#include "machine.h"
#include "spelling.h"
#include "sweep_plan.h"
#include "text.h"

enum verdict { YES, NO, CARE };

enum { NAME = 20, INDENT = 2 + 6 + NAME };

static void say(enum verdict v, const char *name, const char *text,
                const char *remedy)
{
    static const enum text_color colors[] = { TEXT_GOOD, TEXT_BAD, TEXT_WARN };
    static const char *const words[] = { "ok", "no", "!" };
    printf("  %s%-6s%s%-*s", text_on(stdout, colors[v]), words[v],
           text_off(stdout, colors[v]), NAME, name);
    text_wrap(stdout, INDENT, INDENT, text);
    if (!remedy) return;
    printf("%*s-> ", INDENT, "");
    text_wrap(stdout, INDENT + 3, INDENT + 3, remedy);
}

static void title(const char *text)
{
    static bool later;
    printf("%s%s%s%s\n", later ? "\n" : "", text_on(stdout, TEXT_BOLD), text,
           text_off(stdout, TEXT_BOLD));
    later = true;
}

static const char *text_of(const json *j, const char *absent)
{
    return json_text(j) ? json_text(j) : absent;
}

/* ---- machine ------------------------------------------------------------- */

static void say_cpu(const json *machine)
{
    const json *cpu = json_get(machine, "cpu");
    const json *topology = json_get(machine, "topology");
    char text[256], levels[64] = "";
    snprintf(text, sizeof text,
             "%.120s, family %.0f model %.0f, %.0f of %.0f cores",
             text_of(json_get(cpu, "name"), "unknown"),
             json_number(json_get(cpu, "family"), 0),
             json_number(json_get(cpu, "model"), 0),
             json_number(json_get(topology, "usable_cores"), 0),
             json_number(json_get(topology, "cores"), 0));
    say(YES, "processor", text, NULL);
    if (att_level_none()) {
        say(NO, "kernel levels", att_level_none(), NULL);
        return;
    }
    for (int l = 0; l < ATT_LEVELS; l++)
        if (!att_level_reject((enum att_level)l)) {
            const size_t at = strlen(levels);
            snprintf(levels + at, sizeof levels - at, "%s%s", at ? " " : "",
                     att_level_name((enum att_level)l));
        }
    say(YES, "kernel levels", levels, NULL);
    for (int l = (int)att_level_best() + 1; l < ATT_LEVELS; l++) {
        snprintf(text, sizeof text, "level %s", att_level_name((enum att_level)l));
        say(NO, text, att_level_reject((enum att_level)l), NULL);
    }
}

static void say_caches(const json *machine)
{
    char text[256] = "";
    const json *c = json_first(json_get(machine, "caches"));
    for (; c; c = json_next(c)) {
        const size_t at = strlen(text);
        const char *type = text_of(json_get(c, "type"), "");
        if (!strcmp(type, "instruction")) continue;
        snprintf(text + at, sizeof text - at, "%sL%.0f %s", at ? ", " : "",
                 json_number(json_get(c, "level"), 0),
                 text_bytes(json_number(json_get(c, "bytes"), 0)));
    }
    if (*text) say(YES, "caches", text, NULL);
    else
        say(NO, "caches", "unknown: bandwidths are measured for memory alone",
            "make /sys/devices/system/cpu readable");
}

static void say_memory(const json *machine)
{
    char text[128];
    snprintf(text, sizeof text, "%s free of %s",
             text_bytes(json_number(json_get(machine, "memory_free_bytes"), 0)),
             text_bytes(json_number(json_get(machine, "memory_bytes"), 0)));
    say(YES, "memory", text, NULL);
}

/* Of control groups: a container's or a batch job's. */
static void say_limits(const json *machine)
{
    const json *l = json_get(machine, "limits");
    const double memory = json_number(json_get(l, "memory_bytes"), 0);
    const double processors = json_number(json_get(l, "processors"), 0);
    char text[128];
    if (memory > 0) {
        snprintf(text, sizeof text, "%s, by a control group",
                 text_bytes(memory));
        say(CARE, "memory limit", text, NULL);
    }
    if (processors > 0) {
        snprintf(text, sizeof text, "%.3g processors, by a control group",
                 processors);
        say(CARE, "processor quota", text, NULL);
    }
}

static void say_clock(const json *machine)
{
    const json *f = json_get(machine, "frequency");
    const char *governor = json_text(json_get(f, "governor"));
    char text[256];
    if (governor) {
        snprintf(text, sizeof text, "governor %s, %.2f to %.2f GHz", governor,
                 1e-9 * json_number(json_get(f, "min_hz"), 0),
                 1e-9 * json_number(json_get(f, "max_hz"), 0));
        say(YES, "core clock", text, NULL);
    } else {
        snprintf(text, sizeof text,
                 "not readable: %s; it is estimated from a chain of additions",
                 text_of(json_get(f, "reason"), "unknown"));
        say(NO, "core clock", text, NULL);
    }
}

static void say_warnings(const json *machine)
{
    const json *w = json_first(json_get(machine, "warnings"));
    for (int said = 0; w; w = json_next(w)) {
        const char *text = text_of(json_get(w, "text"), "");
        if (!strncmp(text, "no hardware counters", 20)) continue; /* told */
        if (!said++) title("Take care");
        say(CARE, "", text, json_text(json_get(w, "remedy")));
    }
}

/* ---- measurements -------------------------------------------------------- */

/* The smallest step that the clock is seen to make, in ns; clock_getres()
 * tells a nominal one. */
static long clock_step(void)
{
    long least = 1000000000;
    for (int i = 0; i < 1000; i++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        clock_gettime(CLOCK_MONOTONIC, &b);
        const long step = b.tv_nsec - a.tv_nsec;
        if (b.tv_sec == a.tv_sec && step > 0 && step < least) least = step;
    }
    return least;
}

static void say_time(void)
{
    char text[96];
    snprintf(text, sizeof text,
             "steps of %ld ns; short calls are repeated until a sample takes "
             "2 ms",
             clock_step());
    say(YES, "time", text, NULL);
    if (access("/proc/self/status", R_OK) == 0)
        say(YES, "peak memory", "high-water mark of the process of each case",
            NULL);
    else
        say(NO, "peak memory", "/proc is not mounted here", "mount /proc");
    if (access("/proc/stat", R_OK) == 0)
        say(YES, "noise", "time stolen by other guests, forced task switches",
            NULL);
    else say(NO, "noise", "/proc is not mounted here", "mount /proc");
}

static bool same(const json *a, const json *b, const char *key)
{
    return !strcmp(text_of(json_get(a, key), ""),
                   text_of(json_get(b, key), ""));
}

/* Counters with the same fate share an entry: the first one speaks for the
 * others, `names` collects them. */
static bool speaks(const json *list, const json *x, char *names, size_t size)
{
    const char *key = json_true(json_get(x, "available")) ? "source" : "reason";
    bool first = true, before = true;
    size_t at = 0;
    for (const json *y = json_first(list); y; y = json_next(y)) {
        if (y == x) before = false;
        if (json_true(json_get(x, "available")) !=
                json_true(json_get(y, "available")) ||
            !same(x, y, key))
            continue;
        first &= !before;
        if (at < size)
            at += (size_t)snprintf(names + at, size - at, "%s%s",
                                   at ? ", " : "",
                                   text_of(json_get(y, "name"), ""));
    }
    return first;
}

static void say_counters(const json *list)
{
    static const struct {
        const char *source, *name;
    } sources[] = {
        { "papi-hw", "hardware, by PAPI" },
        { "perf-hw", "hardware, by kernel" },
        { "perf-sw", "software events" },
        { "papi-sde", "PAPI-SDE" },
    };
    for (const json *x = json_first(list); x; x = json_next(x)) {
        char names[512], text[1024];
        if (!speaks(list, x, names, sizeof names)) continue;
        if (!json_true(json_get(x, "available"))) {
            snprintf(text, sizeof text, "%s: %s", names,
                     text_of(json_get(x, "reason"), "unknown"));
            say(NO, "counters", text, json_text(json_get(x, "remedy")));
            continue;
        }
        const char *source = text_of(json_get(x, "source"), ""), *name = source;
        for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
            if (!strcmp(source, sources[i].source)) name = sources[i].name;
        say(YES, name, names, NULL);
    }
}

static void say_energy(const json *energy)
{
    char text[256];
    if (!json_true(json_get(energy, "available"))) {
        say(NO, "energy", text_of(json_get(energy, "reason"), "unknown"),
            json_text(json_get(energy, "remedy")));
        return;
    }
    snprintf(text, sizeof text, "joules of a call: %s, by PAPI's %s",
             text_of(json_get(energy, "meters"), ""),
             text_of(json_get(energy, "source"), ""));
    say(YES, "energy", text, NULL);
}

/* ---- software ------------------------------------------------------------ */

static void say_library(const json *libraries, const char *key,
                        const char *name, const char *use, const char *remedy)
{
    char text[256];
    const char *version = json_text(json_get(libraries, key));
    if (version) snprintf(text, sizeof text, "%.100s: %s", version, use);
    else snprintf(text, sizeof text, "not found; without it no %s", use);
    say(version ? YES : NO, name, text, version ? NULL : remedy);
}

static void say_suites(void)
{
    char **names, text[256] = "";
    error e;
    const int n = sweep_suite_names(&names, &e);
    if (n < 0) {
        say(NO, "suites", e.text, NULL);
        return;
    }
    for (int i = 0; i < n; i++) {
        const size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, "%s%s", at ? ", " : "", names[i]);
    }
    sweep_suite_names_free(names, n);
    say(n ? YES : NO, "suites", n ? text : "the folder is empty", NULL);
}

static void say_valgrind(void)
{
    error e;
    char *path = cache_valgrind(&e);
    say(path ? YES : NO, "valgrind",
        path ? "simulated caches (attnbench cache)" : "not installed",
        path ? NULL : "as root: apt-get install valgrind");
    free(path);
}

static void say_software(const json *machine)
{
    const json *l = json_get(machine, "libraries");
    char use[128];
    say_library(l, "gnuplot", "gnuplot", "figures",
                "as root: apt-get install gnuplot-nox");
    say_library(l, "libpng", "libpng", "images of maps", NULL);
    snprintf(use, sizeof use, "kernels that call BLAS, with its %s code",
             text_of(json_get(machine, "blas_core"), "unknown"));
    say_library(l, "openblas", "OpenBLAS", use, NULL);
    say_library(l, "papi", "PAPI", "counters", NULL);
    say_valgrind();
    say_suites();
}

/* ---- command ------------------------------------------------------------- */

enum { KEY_JSON = 1000 };

static error_t parse(int key, char *text, struct argp_state *state)
{
    (void)text;
    if (key != KEY_JSON) return ARGP_ERR_UNKNOWN;
    *(bool *)state->input = true;
    return 0;
}

static void print_json(json *machine, json *counters, json *energy)
{
    json *j = json_object();
    json_put(j, "machine", machine);
    json_put(j, "counters", counters);
    json_put(j, "energy", energy);
    char *text = json_print(j, true);
    puts(text);
    free(text);
    json_free(j);
}

static void print_text(json *machine, json *counters, json *energy)
{
    title("Machine");
    say_cpu(machine);
    say_caches(machine);
    say_memory(machine);
    say_limits(machine);
    say_clock(machine);
    title("Measurements");
    say_time();
    say_counters(counters);
    say_energy(energy);
    title("Software");
    say_software(machine);
    say_warnings(machine);
    json_free(machine);
    json_free(counters);
    json_free(energy);
}

int command_doctor(int argc, char **argv)
{
    static const struct argp_option options[] = {
        { "json", KEY_JSON, NULL, 0, "as one JSON object, for programs", 0 },
        { 0 }
    };
    static const struct argp argp = {
        options, parse, "",
        "Tells what can be measured on this machine, what cannot and why, and "
        "what would help.",
        NULL, NULL, NULL
    };
    bool as_json = false;
    error e;
    if (spelling_check(options, argc, argv, &e) < 0) {
        fprintf(stderr, "%s: %s\n", argv[0], e.text);
        return EXIT_USAGE;
    }
    argp_parse(&argp, argc, argv, 0, NULL, &as_json);
    if (as_json) print_json(machine_describe(), counters_describe(), energy_describe());
    else print_text(machine_describe(), counters_describe(), energy_describe());
    return att_level_none() ? EXIT_MISSING : EXIT_OK;
}
