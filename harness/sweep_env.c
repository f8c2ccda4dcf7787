/* sweep_env.c - the env row: machine, program, ceilings, and their identity. */
#define _GNU_SOURCE /* strptime, timegm */
#include "sweep_env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bind.h"
#include "ceilings.h"
#include "file.h"
#include "isolate.h"
#include "machine.h"
#include "question.h"
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

/* The machine is what a measurement depends on and nobody chooses from one run
 * to the next: processor, topology, caches, hypervisor, and the libraries that
 * kernels call.  What is chosen (variables, governor, processors allowed) is in
 * question.c; memory, the system and its kernel, tools and the program's other
 * libraries are recorded, but do not make another machine. */
static void identify_machine(sweep_env *env)
{
    static const char *const lasting[][2] = {
        { "cpu", NULL },                { "caches", NULL },
        { "topology", "packages" },     { "topology", "numa_nodes" },
        { "topology", "cores" },        { "topology", "threads" },
        { "virtualisation", NULL },     { "libc", NULL },
        { "libraries", "openblas" },    { "libraries", "openmp" },
    };
    uint64_t hash = FNV_START;
    for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++) {
        const json *member = json_get(env->row, lasting[i][0]);
        if (lasting[i][1]) member = json_get(member, lasting[i][1]);
        if (member) hash = hash_json(hash, member);
    }
    hex(hash, env->machine);
}

void sweep_env_code(const att_entry *entry, char out[SWEEP_ID])
{
    hex(entry->code, out);
}

/* {"softmax.flash/v4": code}: which rows of earlier builds are still those of
 * this one. */
static json *codes(void)
{
    const att_entry *entry;
    const size_t n = att_entries(&entry);
    char key[ATT_NAME], code[SWEEP_ID];
    json *j = json_object();
    for (size_t i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%s/%s", entry[i].kernel->name,
                 att_level_name(entry[i].level));
        sweep_env_code(&entry[i], code);
        json_put_text(j, key, code);
    }
    return j;
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

/* "2025-01-31T12:00:00Z" in seconds; 0: not such a text. */
static time_t read_time(const char *text)
{
    struct tm utc = { 0 };
    if (!text || !strptime(text, "%Y-%m-%dT%H:%M:%SZ", &utc)) return 0;
    return timegm(&utc);
}

/* Seconds since the ceilings of an env row were measured. */
static double age_of(const json *row)
{
    const char *when = json_text(json_get(json_get(row, "roofline"), "when"));
    return difftime(time(NULL), read_time(when));
}

/* Whether the ceilings of an env row are of this program and machine. */
static bool is_ours(const sweep_env *env, const json *row)
{
    return same_text(row, "machine_id", env->machine) &&
           same_text(row, "binary", env->binary) &&
           json_size(json_get(json_get(row, "roofline"), "ceilings")) > 0 &&
           question_same_machine(row, env->row);
}

/* Whether they hold for this run, too. */
static bool holds(const sweep_env *env, const json *row, const order *o,
                  double oldest)
{
    const double age = age_of(row);
    return is_ours(env, row) && has_threads(row, o->threads, o->count) &&
           age >= 0 && age < oldest;
}

/* Ceilings of this journal, or of the user's last run; NULL: neither holds. */
static json *find_ceilings(const sweep_env *env, const journal *j,
                           const order *o)
{
    enum { HOUR = 3600, DAY = 24 * HOUR };
    json *kept = NULL;
    const json *row = NULL;
    for (int i = j->envs - 1; i >= 0 && !row; i--)
        if (holds(env, j->env[i], o, HOUR)) row = j->env[i];
    if (!row) row = kept = ceilings_read(env->machine);
    const bool taken = row && holds(env, row, o, DAY) &&
                       (row != kept || ceilings_quiet(row));
    json *roofline = taken ? json_copy(json_get(row, "roofline")) : NULL;
    if (roofline) json_put_number(roofline, "age_s", age_of(row));
    json_free(kept);
    return roofline;
}

/* The best that runs of this program have seen, this one among them. */
static void take_best(const sweep_env *env, json *roofline)
{
    json *kept = ceilings_read(env->machine);
    json_put_number(roofline, "runs", 1);
    if (kept && is_ours(env, kept) && !env->fresh)
        ceilings_raise(roofline, json_get(kept, "roofline"));
    json_free(kept);
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

static void complete(sweep_env *env, const order *o, json *roofline, json *run)
{
    char when[24];
    json *row = json_object(), *list = json_array();
    for (int i = 0; i < o->count; i++) json_push_number(list, o->threads[i]);
    sweep_time(when);
    json_put_text(row, "kind", "env");
    json_put_number(row, "schema", JOURNAL_SCHEMA);
    json_put_text(row, "when", when);
    json_put_text(row, "machine_id", env->machine);
    json_put_text(row, "binary", env->binary);
    json_put(row, "codes", codes());
    if (run) json_put(row, "run", run);
    for (const json *x = json_first(env->row); x; x = json_next(x))
        json_put(row, json_key(x), json_copy(x));
    json_put(row, "roofline_threads", list);
    json_put(row, "roofline", roofline);
    hex(hash_json(FNV_START, row), env->id);
    json_put_text(row, "id", env->id);
    json_free(env->row);
    env->row = row;
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

/* Threads that share processors have no ceiling, and may be thousands: those that
 * do not.  Allocated. */
static int *with_room(const int *threads, int *count)
{
    int *kept = calloc((size_t)*count + 1, sizeof *kept), n = 0;
    if (!kept) abort();
    for (int i = 0; i < *count; i++)
        if (bind_has_room(threads[i])) kept[n++] = threads[i];
    *count = n;
    return kept;
}

static int complete_with(sweep_env *env, const journal *j, const order *o,
                         json *run, const volatile sig_atomic_t *stop, error *e)
{
    const int count = o->count;
    char when[24];
    json *roofline = count && !env->fresh ? find_ceilings(env, j, o) : NULL;
    const bool known = roofline != NULL;
    if (count == 0) roofline = no_ceilings();
    else if (!known &&
             ask(measure, (void *)o, 60 + 10 * o->seconds, stop, &roofline, e) < 0) {
        json_free(run);
        return -1;
    }
    sweep_time(when);
    if (!known && count) {
        json_put_text(roofline, "when", when);
        json_put_number(roofline, "age_s", 0);
        take_best(env, roofline);
    }
    complete(env, o, roofline, run);
    if (!known && count) ceilings_keep(env->machine, env->row);
    return 0;
}

int sweep_env_complete(sweep_env *env, const journal *j, const int *threads,
                       int count, double seconds, json *run,
                       const volatile sig_atomic_t *stop, error *e)
{
    int *kept = with_room(threads, &count);
    const order o = { kept, count, seconds };
    const int rc = complete_with(env, j, &o, run, stop, e);
    free(kept);
    return rc;
}

void sweep_env_free(sweep_env *env)
{
    json_free(env->row);
    *env = (sweep_env){ 0 };
}
