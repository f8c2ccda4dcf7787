/* sweep_env.c - the env row: machine, program, ceilings, and their identity. */
#define _GNU_SOURCE /* dladdr */
#include "sweep_env.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "file.h"
#include "isolate.h"
#include "machine.h"
#include "roofline.h"

enum { BINARY_LIMIT = 1 << 30 };

/* ---- identity ------------------------------------------------------------ */

#define FNV_START 0xcbf29ce484222325u

static uint64_t fnv(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *c = data;
    for (size_t i = 0; i < size; i++) hash = (hash ^ c[i]) * 0x100000001b3u;
    return hash;
}

static void hex(uint64_t hash, char out[SWEEP_ID])
{
    snprintf(out, SWEEP_ID, "%016llx", (unsigned long long)hash);
}

static int hash_file(const char *path, uint64_t *hash, error *e)
{
    char *data;
    size_t size;
    if (file_read(path, BINARY_LIMIT, &data, &size, e) < 0) return -1;
    *hash = fnv(*hash, data, size);
    free(data);
    return 0;
}

static uint64_t hash_json(uint64_t hash, const json *j)
{
    char *text = json_print(j, false);
    hash = fnv(hash, text, strlen(text));
    free(text);
    return hash;
}

/* Members of machine_describe() that do not change from one run to the next;
 * clock, load and free memory do. */
static void identify_machine(sweep_env *env)
{
    static const char *const lasting[] = {
        "cpu",      "levels", "caches",    "topology", "virtualisation",
        "compiler", "flags",  "libraries", "blas_core", "binding",
    };
    uint64_t hash = FNV_START;
    for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++) {
        const json *member = json_get(env->row, lasting[i]);
        if (member) hash = hash_json(hash, member);
    }
    const json *quota = json_get(json_get(env->row, "limits"), "processors");
    if (quota && !json_is_null(quota)) hash = hash_json(hash, quota);
    hex(hash, env->machine);
}

void sweep_env_binary(const sweep_env *env, const att_entry *entry,
                      char out[SWEEP_ID])
{
    Dl_info kernel, self;
    uint64_t hash = fnv(FNV_START, env->binary, SWEEP_ID - 1);
    memcpy(out, env->binary, SWEEP_ID);
    if (!dladdr(entry->kernel, &kernel) ||
        !dladdr((const void *)&att_problem_default, &self) ||
        kernel.dli_fbase == self.dli_fbase || !kernel.dli_fname)
        return;
    if (hash_file(kernel.dli_fname, &hash, NULL) == 0) hex(hash, out);
}

void sweep_time(char out[24])
{
    const time_t now = time(NULL);
    struct tm utc;
    strftime(out, 24, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
}

/* ---- making -------------------------------------------------------------- */

typedef struct order {
    const int *threads;
    int count;
    double seconds;
} order;

static json *describe(void *arg)
{
    (void)arg;
    isolate_stage("describing the machine");
    return machine_describe();
}

static json *measure(void *arg)
{
    const order *o = arg;
    isolate_stage("measuring the roofline");
    return roofline_measure(o->threads, o->count, o->seconds);
}

static bool has_threads(const json *row, const int *threads, int count)
{
    const json *list = json_get(row, "roofline_threads");
    for (int i = 0; i < count; i++) {
        bool found = false;
        for (const json *x = json_first(list); x; x = json_next(x))
            found |= json_number(x, 0) == threads[i];
        if (!found) return false;
    }
    return true;
}

static bool same_text(const json *row, const char *key, const char *text)
{
    const char *other = json_text(json_get(row, key));
    return other && !strcmp(other, text);
}

static bool find_known(sweep_env *env, const journal *j, const order *o)
{
    for (int i = j->count - 1; i >= 0; i--) {
        const json *row = j->rows[i];
        if (!same_text(row, "kind", "env") ||
            !same_text(row, "machine_id", env->machine) ||
            !same_text(row, "binary", env->binary) ||
            !json_text(json_get(row, "id")) ||
            !has_threads(row, o->threads, o->count))
            continue;
        json_free(env->row);
        env->row = json_copy(row);
        snprintf(env->id, sizeof env->id, "%s",
                 json_text(json_get(row, "id")));
        env->known = true;
        return true;
    }
    return false;
}

/* Runs `function` in a child; an object in any case: {reason} if it failed. */
static int ask(json *(*function)(void *), void *arg, double seconds,
               const volatile sig_atomic_t *stop, json **out, error *e)
{
    const isolate_limits limits = { .seconds = seconds, .stop = stop };
    isolate_result r;
    if (isolate_run(function, arg, &limits, &r, e) < 0) return -1;
    if (!strcmp(r.status, "interrupted") && stop && *stop) {
        json_free(r.value);
        return error_set(e, "interrupted");
    }
    *out = r.value ? r.value : json_object();
    if (!r.value) json_put_text(*out, "reason", r.reason);
    return 0;
}

static void complete(sweep_env *env, const order *o, json *roofline)
{
    char when[24];
    json *list = json_array();
    for (int i = 0; i < o->count; i++) json_push_number(list, o->threads[i]);
    sweep_time(when);
    json_put_text(env->row, "kind", "env");
    json_put_number(env->row, "schema", JOURNAL_SCHEMA);
    json_put_text(env->row, "when", when);
    json_put_text(env->row, "machine_id", env->machine);
    json_put_text(env->row, "binary", env->binary);
    json_put(env->row, "roofline_threads", list);
    json_put(env->row, "roofline", roofline);
    hex(hash_json(FNV_START, env->row), env->id);
    json_put_text(env->row, "id", env->id);
}

static json *no_ceilings(void)
{
    json *j = json_object();
    json_put_null(j, "ceilings");
    json_put_text(j, "reason", "nothing was timed");
    return j;
}

int sweep_env_identify(sweep_env *env, const volatile sig_atomic_t *stop,
                       error *e)
{
    uint64_t hash = FNV_START;
    *env = (sweep_env){ 0 };
    if (hash_file("/proc/self/exe", &hash, e) < 0) return -1;
    hex(hash, env->binary);
    if (ask(describe, NULL, 60, stop, &env->row, e) < 0) return -1;
    identify_machine(env);
    return 0;
}

int sweep_env_complete(sweep_env *env, const journal *j, const int *threads,
                       int count, double seconds,
                       const volatile sig_atomic_t *stop, error *e)
{
    order o = { threads, count, seconds };
    json *roofline;
    if (find_known(env, j, &o)) return 0;
    if (count == 0) {
        complete(env, &o, no_ceilings());
        return 0;
    }
    if (ask(measure, &o, 60 + 10 * seconds, stop, &roofline, e) < 0) return -1;
    complete(env, &o, roofline);
    return 0;
}

void sweep_env_free(sweep_env *env)
{
    json_free(env->row);
    *env = (sweep_env){ 0 };
}
