/* machine.c - the machine, the build and the libraries behind the numbers; the
 * one place that meets hwloc.
 *
 * Versions of the other libraries are asked of the libraries that are really
 * loaded, by name, so that their headers stay in the one file that uses each;
 * what is compiled in and what is loaded can differ, and the latter is what was
 * measured.
 */
#define _GNU_SOURCE
#include "machine.h"

#include <dlfcn.h>
#include <hwloc.h>
#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifdef __x86_64__
#include <cpuid.h>
#endif
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

#include "../kernels/plan.h"
#include "capture.h"
#include "cgroup.h"
#include "commands.h"
#include "counters_sources.h"
#include "process.h"

#ifndef ATT_BUILD_FLAGS
#define ATT_BUILD_FLAGS NULL
#endif
#ifndef ATT_GIT_REVISION
#define ATT_GIT_REVISION NULL
#endif

#define CPU_DIR "/sys/devices/system/cpu/"

/* ---- small files --------------------------------------------------------- */

/* First line of a file without its newline; false if there is none. */
static bool read_line(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "r");
    const bool got = f && fgets(out, (int)size, f);
    if (f) fclose(f);
    if (got) out[strcspn(out, "\n")] = 0;
    return got && *out;
}

/* A number at the start of a file, or `absent`. */
static double read_number(const char *path, double absent)
{
    char line[128], *end;
    if (!read_line(path, line, sizeof line)) return absent;
    const double value = strtod(line, &end);
    return end == line ? absent : value;
}

/* Value after "key   :" of the first such line; false if none. */
static bool read_field(const char *path, const char *key, char *out,
                       size_t size)
{
    char line[1024];
    const size_t length = strlen(key);
    FILE *f = fopen(path, "r");
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f)) {
        const char *rest = line + length;
        if (strncmp(line, key, length)) continue;
        rest += strspn(rest, " \t");
        if (*rest != ':' && *rest != '=') continue;
        rest += 1 + strspn(rest + 1, " \t\"");
        snprintf(out, size, "%.*s", (int)strcspn(rest, "\"\n"), rest);
        found = true;
    }
    if (f) fclose(f);
    return found;
}

/* The choice in brackets of "always [madvise] never". */
static bool bracketed(char *line)
{
    char *open = strchr(line, '['), *close = strchr(line, ']');
    if (!open || !close || close < open) return false;
    *close = 0;
    memmove(line, open + 1, strlen(open + 1) + 1);
    return true;
}

/* ---- topology ------------------------------------------------------------ */

enum { CACHES = 8 };

typedef struct cache {
    int level;
    const char *type;
    size_t bytes;
    unsigned line, ways; /* ways: 0 unknown                                 */
    int threads, count;  /* that share one; how many there are              */
} cache;

typedef struct topology {
    int packages, nodes, cores, threads; /* of the machine                   */
    int our_cores, our_threads;          /* that we may run on               */
    cache caches[CACHES];
    int cache_count;
} topology;

static void add_cache(topology *t, hwloc_topology_t h, hwloc_obj_type_t type)
{
    hwloc_obj_t o = hwloc_get_obj_by_type(h, type, 0);
    if (!o || t->cache_count == CACHES) return;
    const hwloc_obj_cache_type_t kind = o->attr->cache.type;
    t->caches[t->cache_count++] = (cache){
        .level = (int)o->attr->cache.depth,
        .type = kind == HWLOC_OBJ_CACHE_DATA          ? "data"
                : kind == HWLOC_OBJ_CACHE_INSTRUCTION ? "instruction"
                                                      : "unified",
        .bytes = o->attr->cache.size,
        .line = o->attr->cache.linesize,
        .ways = o->attr->cache.associativity > 0
                    ? (unsigned)o->attr->cache.associativity
                    : 0,
        .threads = hwloc_bitmap_weight(o->cpuset),
        .count = hwloc_get_nbobjs_by_type(h, type),
    };
}

/* Cores that contain a thread that our affinity allows. */
static void count_ours(topology *t, hwloc_topology_t h)
{
    cpu_set_t set;
    hwloc_bitmap_t ours = hwloc_bitmap_alloc();
    if (process_affinity(&set) < 0)
        hwloc_bitmap_copy(ours, hwloc_topology_get_allowed_cpuset(h));
    else
        for (int i = 0; i < CPU_SETSIZE; i++)
            if (CPU_ISSET(i, &set)) hwloc_bitmap_set(ours, (unsigned)i);
    hwloc_bitmap_and(ours, ours, hwloc_topology_get_allowed_cpuset(h));
    t->our_threads = hwloc_bitmap_weight(ours);
    for (int i = 0; i < t->cores; i++) {
        hwloc_obj_t core =
            hwloc_get_obj_by_type(h, HWLOC_OBJ_CORE, (unsigned)i);
        t->our_cores += hwloc_bitmap_intersects(core->cpuset, ours) != 0;
    }
    hwloc_bitmap_free(ours);
}

static int at_least_1(int n)
{
    return n < 1 ? 1 : n;
}

static topology discover(void)
{
    static const hwloc_obj_type_t types[] = {
        HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L1ICACHE, HWLOC_OBJ_L2CACHE,
        HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L4CACHE,
    };
    topology t = { 0 };
    hwloc_topology_t h;
    if (hwloc_topology_init(&h) == 0) {
        hwloc_topology_set_icache_types_filter(h, HWLOC_TYPE_FILTER_KEEP_ALL);
        if (hwloc_topology_load(h) == 0) {
            t.packages = hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_PACKAGE);
            t.nodes = hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_NUMANODE);
            t.cores = hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_CORE);
            t.threads = hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_PU);
            for (size_t i = 0; i < sizeof types / sizeof *types; i++)
                add_cache(&t, h, types[i]);
            count_ours(&t, h);
        }
        hwloc_topology_destroy(h);
    }
    t.packages = at_least_1(t.packages);
    t.nodes = at_least_1(t.nodes);
    t.threads = at_least_1(t.threads);
    t.cores = at_least_1(t.cores);
    t.our_threads = at_least_1(t.our_threads);
    t.our_cores = at_least_1(t.our_cores);
    return t;
}

static const topology *machine_topology(void)
{
    static topology known;
    if (!known.threads) known = discover();
    return &known;
}

int machine_cores(void)
{
    return machine_topology()->our_cores;
}

size_t machine_cache(int level)
{
    const topology *t = machine_topology();
    for (int i = 0; i < t->cache_count; i++)
        if (t->caches[i].level == level &&
            strcmp(t->caches[i].type, "instruction"))
            return t->caches[i].bytes;
    return 0;
}

static json *describe_topology(const topology *t)
{
    json *j = json_object();
    json_put_number(j, "packages", t->packages);
    json_put_number(j, "numa_nodes", t->nodes);
    json_put_number(j, "cores", t->cores);
    json_put_number(j, "threads", t->threads);
    json_put_number(j, "usable_cores", t->our_cores);
    json_put_number(j, "usable_threads", t->our_threads);
    return j;
}

static json *describe_caches(const topology *t)
{
    json *list = json_array();
    for (int i = 0; i < t->cache_count; i++) {
        const cache *c = &t->caches[i];
        json *j = json_object();
        json_put_number(j, "level", c->level);
        json_put_text(j, "type", c->type);
        json_put_number(j, "bytes", (double)c->bytes);
        json_put_number(j, "line_bytes", c->line);
        if (c->ways) json_put_number(j, "ways", c->ways);
        else json_put_null(j, "ways");
        json_put_number(j, "shared_by_threads", c->threads);
        json_put_number(j, "count", c->count);
        json_push(list, j);
    }
    return list;
}

/* ---- processor ----------------------------------------------------------- */

const char *machine_hypervisor(void)
{
#ifdef __x86_64__
    static const struct {
        const char *signature, *name;
    } known[] = {
        { "KVMKVMKVM", "KVM" },          { "Microsoft Hv", "Hyper-V" },
        { "VMwareVMware", "VMware" },    { "XenVMMXenVMM", "Xen" },
        { "VBoxVBoxVBox", "VirtualBox" }, { "bhyve bhyve ", "bhyve" },
        { "TCGTCGTCGTCG", "QEMU without acceleration" },
    };
    static char text[13];
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 31)) return NULL;
    __cpuid(0x40000000, a, b, c, d);
    memcpy(text, (unsigned[]){ b, c, d }, 12);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(text, known[i].signature)) return known[i].name;
    return *text ? text : "unknown hypervisor";
#else
    static char text[64];
    return read_line("/sys/hypervisor/type", text, sizeof text) ? text : NULL;
#endif
}

static void put_field(json *j, const char *key, const char *field)
{
    char text[256];
    if (!read_field("/proc/cpuinfo", field, text, sizeof text))
        json_put_null(j, key);
    else if (text[strspn(text, "0123456789")])
        json_put_text(j, key, text);
    else json_put_number(j, key, strtod(text, NULL));
}

static json *describe_cpu(void)
{
    const bool x86 = !read_field("/proc/cpuinfo", "CPU part", (char[64]){ 0 },
                                 64);
    json *j = json_object(), *levels = json_array();
    put_field(j, "vendor", x86 ? "vendor_id" : "CPU implementer");
    put_field(j, "name", "model name");
    put_field(j, "family", x86 ? "cpu family" : "CPU architecture");
    put_field(j, "model", x86 ? "model" : "CPU part");
    put_field(j, "stepping", x86 ? "stepping" : "CPU revision");
    for (int l = 0; l <= (int)att_level_cpu(); l++)
        if ((l == ATT_BASE) == (att_level_cpu() == ATT_BASE))
            json_push_text(levels, att_level_name((enum att_level)l));
    json_put(j, "levels", levels);
    return j;
}

/* A kHz file of cpufreq in Hz, or null. */
static void put_hz(json *j, const char *key, const char *file)
{
    char path[128];
    snprintf(path, sizeof path, CPU_DIR "cpu0/cpufreq/%s", file);
    json_put_number(j, key, 1e3 * read_number(path, (double)NAN));
}

static void put_line(json *j, const char *key, const char *path)
{
    char text[256];
    json_put_text(j, key, read_line(path, text, sizeof text) ? text : NULL);
}

/* Adds a word to "a, b" unless it is there. */
static void add_word(char *list, size_t size, const char *word)
{
    const size_t n = strlen(list), length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ' ') && (!at[length] || at[length] == ','))
            return;
    if (n < size) snprintf(list + n, size - n, "%s%s", n ? ", " : "", word);
}

static void add_governor(int processor, char *list, size_t size)
{
    char path[128], line[64];
    snprintf(path, sizeof path, CPU_DIR "cpu%d/cpufreq/scaling_governor",
             processor);
    if (read_line(path, line, sizeof line)) add_word(list, size, line);
}

bool machine_governor(const int *processor, int n, char *out, size_t size)
{
    *out = 0;
    for (int i = 0; i < n; i++) add_governor(processor[i], out, size);
    return *out;
}

/* Those of all processors that the program may run on. */
static bool our_governors(char *out, size_t size)
{
    cpu_set_t set;
    *out = 0;
    if (process_affinity(&set) == 0)
        for (int i = 0; i < CPU_SETSIZE; i++)
            if (CPU_ISSET(i, &set)) add_governor(i, out, size);
    return *out;
}

static json *describe_frequency(void)
{
    char governors[128];
    json *j = json_object();
    json_put_text(j, "governor",
                  our_governors(governors, sizeof governors) ? governors : NULL);
    put_line(j, "driver", CPU_DIR "cpu0/cpufreq/scaling_driver");
    put_hz(j, "min_hz", "cpuinfo_min_freq");
    put_hz(j, "max_hz", "cpuinfo_max_freq");
    put_hz(j, "now_hz", "scaling_cur_freq");
    json_put_text(j, "reason",
                  access(CPU_DIR "cpu0/cpufreq", F_OK) == 0 ? NULL
                  : machine_hypervisor()
                      ? "the host keeps the clock to itself"
                      : "the kernel offers no cpufreq for this processor");
    return j;
}

/* 1 on, 0 off, -1 unknown. */
static int turbo(void)
{
    const double off = read_number(CPU_DIR "intel_pstate/no_turbo", -1);
    if (off >= 0) return off == 0;
    return (int)read_number(CPU_DIR "cpufreq/boost", -1);
}

static void put_switch(json *j, const char *key, int state)
{
    if (state < 0) json_put_null(j, key);
    else json_put_bool(j, key, state > 0);
}

/* ---- memory and load ----------------------------------------------------- */

static double meminfo(const char *key)
{
    char text[64];
    if (!read_field("/proc/meminfo", key, text, sizeof text)) return NAN;
    return 1024 * strtod(text, NULL);
}

/* What `ulimit -v` leaves, or infinity. */
static double address_space_free(void)
{
    struct rlimit limit;
    char text[64];
    if (getrlimit(RLIMIT_AS, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
        !read_field("/proc/self/status", "VmSize", text, sizeof text))
        return INFINITY;
    return fmax((double)limit.rlim_cur - 1024 * strtod(text, NULL), 0);
}

size_t machine_memory_free(void)
{
    double bytes = meminfo("MemAvailable");
    if (!(bytes >= 0)) bytes = meminfo("MemFree");
    bytes = fmin(bytes, cgroup_read("").memory_free);
    bytes = fmin(bytes, address_space_free());
    return bytes > 0 ? (size_t)bytes : 0;
}

/* cpu user nice system idle iowait irq softirq steal ... */
unsigned long long machine_steal(void)
{
    unsigned long long steal = 0;
    FILE *f = fopen("/proc/stat", "r");
    if (!f) return 0;
    if (fscanf(f, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &steal) != 1)
        steal = 0;
    fclose(f);
    return steal;
}

/* Averages over 1, 5 and 15 minutes, and tasks running now beside us. */
static int read_load(double load[3])
{
    int running = 1;
    FILE *f = fopen("/proc/loadavg", "r");
    load[0] = load[1] = load[2] = NAN;
    if (!f) return 0;
    if (fscanf(f, "%lf %lf %lf %d", &load[0], &load[1], &load[2], &running) < 4)
        running = 1;
    fclose(f);
    return running > 1 ? running - 1 : 0;
}

double machine_load(void)
{
    double load[3];
    read_load(load);
    return load[0];
}

static json *describe_load(void)
{
    double load[3];
    json *list = json_array();
    read_load(load);
    for (int i = 0; i < 3; i++) json_push_number(list, load[i]);
    return list;
}

/* ---- software ------------------------------------------------------------ */

static const char *compiler(void)
{
#ifdef __clang__
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
}

static const char *libc_version(void)
{
#ifdef __GLIBC__
    static char text[32];
    snprintf(text, sizeof text, "glibc %s", gnu_get_libc_version());
    return text;
#else
    return NULL;
#endif
}

/* The text that a loaded library's function without arguments returns, or
 * NULL. */
static const char *ask(const char *function)
{
    const char *(*f)(void);
    *(void **)&f = dlsym(RTLD_DEFAULT, function);
    return f ? f() : NULL;
}

/* png_get_libpng_ver() takes a pointer that it ignores. */
static const char *png_version(void)
{
    const char *(*f)(const void *);
    *(void **)&f = dlsym(RTLD_DEFAULT, "png_get_libpng_ver");
    return f ? f(NULL) : NULL;
}

/* "OpenBLAS 0.3.21 NO_LAPACKE ..." -> "0.3.21". */
static const char *blas_version(void)
{
    static char text[32];
    const char *config = ask("openblas_get_config");
    if (!config || sscanf(config, "OpenBLAS %31s", text) != 1) return config;
    return text;
}

/* libgomp has no version function; its file name ends in one. */
static const char *openmp_library(void)
{
    static char text[256];
    Dl_info info;
    char *real = NULL;
    void *f = dlsym(RTLD_DEFAULT, "omp_get_max_threads");
    if (f && dladdr(f, &info)) real = realpath(info.dli_fname, NULL);
    if (!real) return NULL;
    const char *name = strrchr(real, '/');
    snprintf(text, sizeof text, "%s", name ? name + 1 : real);
    free(real);
    return text;
}

/* "gnuplot 5.4 patchlevel 4" -> "5.4 patchlevel 4". */
static const char *gnuplot_version(void)
{
    static char text[64];
    const char *const argv[] = { "gnuplot", "--version", NULL };
    if (capture(argv, text, sizeof text) != 0) return NULL;
    text[strcspn(text, "\n")] = 0;
    return strncmp(text, "gnuplot ", 8) ? text : text + 8;
}

static const char *hwloc_version(void)
{
    static char text[32];
    const unsigned v = hwloc_get_api_version();
    snprintf(text, sizeof text, "%u.%u.%u", v >> 16, v >> 8 & 255, v & 255);
    return text;
}

static json *describe_libraries(void)
{
    json *j = json_object();
    json_put_text(j, "libpng", png_version());
    json_put_text(j, "zlib", ask("zlibVersion"));
    json_put_text(j, "cjson", ask("cJSON_Version"));
    json_put_text(j, "papi", counter_papi_version());
    json_put_text(j, "hwloc", hwloc_version());
    json_put_text(j, "openblas", blas_version());
    json_put_text(j, "openmp", openmp_library());
    json_put_text(j, "gnuplot", gnuplot_version());
    return j;
}

/* ---- binding ------------------------------------------------------------- */

/* "0-3,8" */
static void affinity_text(char *out, size_t size)
{
    cpu_set_t set;
    size_t at = 0;
    *out = 0;
    if (process_affinity(&set) != 0) return;
    for (int i = 0; i < CPU_SETSIZE && at < size; i++) {
        if (!CPU_ISSET(i, &set)) continue;
        int last = i;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &set)) last++;
        at += (size_t)snprintf(out + at, size - at,
                               last > i ? "%s%d-%d" : "%s%d", at ? "," : "", i,
                               last);
        i = last;
    }
}

/* Allowed processors of every core in turn: the first of each core, then the
 * second of each, ...; returns how many, `cores` of them on different cores. */
static int list_places(hwloc_topology_t h, int *place, int most, int *cores)
{
    const int all = hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_CORE);
    cpu_set_t ours;
    int n = 0;
    *cores = 0;
    if (process_affinity(&ours) != 0) return 0;
    for (int turn = 0, before = -1; n > before; turn++) {
        before = n;
        for (int i = 0; i < all && n < most; i++) {
            hwloc_obj_t core =
                hwloc_get_obj_by_type(h, HWLOC_OBJ_CORE, (unsigned)i);
            int k = turn, p = -1;
            do p = hwloc_bitmap_next(core->cpuset, p);
            while (p >= 0 && (!CPU_ISSET(p, &ours) || k-- > 0));
            if (p >= 0) place[n++] = p;
        }
        if (turn == 0) *cores = n;
    }
    return n;
}

int machine_places(int n, bool spread, int *processor)
{
    static int place[CPU_SETSIZE], all = -1, cores;
    hwloc_topology_t h;
    int first = 0;
    if (all < 0 && hwloc_topology_init(&h) == 0) {
        all = hwloc_topology_load(h) == 0
                  ? list_places(h, place, CPU_SETSIZE, &cores) : 0;
        hwloc_topology_destroy(h);
    }
    if (n < 1 || n > all) return -1;
    const int count = n <= cores ? cores : all;
    for (int i = 0; i < count; i++)
        if (place[i] == sched_getcpu()) first = i;
    for (int i = 0; i < n; i++)
        processor[i] = place[(first + (spread ? i * count / n : i)) % count];
    return 0;
}

/* Variables that steer threads, the code that a BLAS chooses, and memory; the
 * first that fits counts.  `ours`: sweep itself says what they say, so they have
 * no effect there. */
static const struct variable {
    const char *prefix;
    bool ours;
} variables[] = {
    { "OMP_PROC_BIND", true },     { "OMP_PLACES", true },
    { "OMP_NUM_THREADS", true },   { "OMP_DYNAMIC", true },
    { "GOMP_CPU_AFFINITY", true }, { "KMP_AFFINITY", true },
    { "OPENBLAS_NUM_THREADS", true }, { "GOTO_NUM_THREADS", true },
    { "OMP_", false },     { "GOMP_", false },   { "KMP_", false },
    { "LIBOMP_", false },  { "OPENBLAS_", false }, { "GOTO_", false },
    { "BLIS_", false },    { "MKL_", false },    { "MALLOC_", false },
    { "GLIBC_TUNABLES", false }, { "LD_PRELOAD", false }, { "LD_AUDIT", false },
    { "LD_BIND_NOW", false },
};

static const struct variable *variable_of(const char *setting)
{
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        if (!strncmp(setting, variables[i].prefix, strlen(variables[i].prefix)))
            return &variables[i];
    return NULL;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Those settings "NAME=VALUE" of the environment that are among them, sorted;
 * caller frees the array. */
static int list_variables(char ***out)
{
    int n = 0, all = 0;
    while (environ[all]) all++;
    char **list = calloc((size_t)all + 1, sizeof *list);
    if (!list) abort();
    for (int i = 0; i < all; i++)
        if (variable_of(environ[i]) && strchr(environ[i], '='))
            list[n++] = environ[i];
    qsort(list, (size_t)n, sizeof *list, by_text);
    *out = list;
    return n;
}

/* Libraries by their names alone: folders name users. */
static void put_variable(json *j, const char *setting)
{
    char name[64], value[256];
    const char *equals = strchr(setting, '='), *slash = strrchr(equals, '/');
    snprintf(name, sizeof name, "%.*s", (int)(equals - setting), setting);
    snprintf(value, sizeof value, "%s",
             slash && !strncmp(name, "LD_", 3) ? slash + 1 : equals + 1);
    json_put_text(j, name, value);
}

static void put_variables(json *j, bool ours)
{
    char **list;
    const int n = list_variables(&list);
    for (int i = 0; i < n; i++)
        if (variable_of(list[i])->ours == ours) put_variable(j, list[i]);
    free(list);
}

/* What acts on measurements. */
static json *describe_binding(void)
{
    char affinity[256];
    json *j = json_object();
    affinity_text(affinity, sizeof affinity);
    json_put_text(j, "affinity", *affinity ? affinity : NULL);
    put_variables(j, false);
    return j;
}

static json *describe_overridden(void)
{
    json *j = json_object();
    put_variables(j, true);
    return j;
}

static json *describe_limits(void)
{
    const cgroup_limits l = cgroup_read("");
    json *j = json_object();
    json_put_number(j, "memory_bytes", l.memory); /* null if infinite */
    json_put_number(j, "processors", l.processors);
    return j;
}

/* ---- warnings ------------------------------------------------------------ */

static void warn(json *list, const char *text, const char *remedy)
{
    json *j = json_object();
    json_put_text(j, "text", text);
    json_put_text(j, "remedy", remedy);
    json_push(list, j);
}

static void warn_build(json *list)
{
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    warn(list, "this build is instrumented: its times mean nothing",
         "measure with the release build (make)");
#elif !defined __OPTIMIZE__
    warn(list, "this build is not optimised: its times mean nothing",
         "measure with the release build (make)");
#else
    (void)list;
#endif
}

static void warn_clock(json *list)
{
    char text[256], line[128];
    if (our_governors(line, sizeof line) && strcmp(line, "performance")) {
        snprintf(text, sizeof text,
                 "the frequency governor is '%s': the clock follows the load",
                 line);
        warn(list, text, "as root: cpupower frequency-set -g performance");
    }
    if (turbo() > 0)
        warn(list, "turbo is on: the clock depends on temperature and on how "
                   "many cores work",
             access(CPU_DIR "intel_pstate/no_turbo", F_OK) == 0
                 ? "as root: echo 1 > " CPU_DIR "intel_pstate/no_turbo"
                 : "as root: echo 0 > " CPU_DIR "cpufreq/boost");
}

static void warn_system(json *list)
{
    char text[256], line[128];
    double load[3];
    const int others = read_load(load);
    const topology *t = machine_topology();

    if (others > 0 && load[0] > 0.5 * t->our_threads) {
        snprintf(text, sizeof text,
                 "%d other task%s running now, load %.2f on %d threads", others,
                 others > 1 ? "s are" : " is", load[0], t->our_threads);
        warn(list, text, "wait until the machine is idle");
    }
    if (read_number(CPU_DIR "smt/active", 0) > 0)
        warn(list, "SMT is on: two threads may share one core",
             "run at most one thread per core, each on its own (sweep --bind "
             "close does)");
    if (read_line("/sys/kernel/mm/transparent_hugepage/enabled", line,
                  sizeof line) &&
        bracketed(line) && !strcmp(line, "never"))
        warn(list, "transparent huge pages are off: large tensors cost more "
                   "TLB misses",
             "as root: echo madvise > "
             "/sys/kernel/mm/transparent_hugepage/enabled");
}

/* Names of the variables that are set, as "A, B". */
static bool name_variables(bool ours, char *out, size_t size)
{
    char **list;
    size_t at = 0;
    const int n = list_variables(&list);
    *out = 0;
    for (int i = 0; i < n && at < size; i++)
        if (variable_of(list[i])->ours == ours)
            at += (size_t)snprintf(out + at, size - at, "%s%.*s", at ? ", " : "",
                                   (int)strcspn(list[i], "="), list[i]);
    free(list);
    return at > 0;
}

static void warn_environment(json *list)
{
    char names[160], text[256];
    if (name_variables(true, names, sizeof names)) {
        snprintf(text, sizeof text, "sweep does not follow %s", names);
        warn(list, text, "say --threads and --bind instead");
    }
    if (name_variables(false, names, sizeof names)) {
        snprintf(text, sizeof text, "what is measured depends on %s in the "
                                    "environment", names);
        warn(list, text, "unset what you did not set on purpose");
    }
}

static void warn_quota(json *list)
{
    char text[256];
    const cgroup_limits l = cgroup_read("");
    if (!(l.processors < INFINITY)) return;
    snprintf(text, sizeof text,
             "a control group grants %.3g of %d processors: threads stand still "
             "when that is used up, and such samples are left out",
             l.processors, machine_topology()->our_threads);
    warn(list, text, "lift the quota (docker: --cpus; cpu.max of the group), or "
                     "keep --threads below it");
}

/* Those with 256-bit vectors but without FMA or AVX2 count as v3: a ceiling should
 * rather be too high. */
int machine_blas_level(const char *core)
{
    static const struct {
        const char *core;
        enum att_level level;
    } known[] = {
        { "SkylakeX", ATT_V4 },    { "Cooperlake", ATT_V4 },
        { "SapphireRapids", ATT_V4 }, { "Zen4", ATT_V4 },
        { "Zen5", ATT_V4 },        { "Haswell", ATT_V3 },
        { "Zen", ATT_V3 },         { "Excavator", ATT_V3 },
        { "Steamroller", ATT_V3 }, { "Piledriver", ATT_V3 },
        { "Bulldozer", ATT_V3 },   { "Sandybridge", ATT_V3 },
        { "Nehalem", ATT_V2 },     { "Penryn", ATT_V2 },
        { "Dunnington", ATT_V2 },  { "Core2", ATT_V2 },
        { "Atom", ATT_V2 },        { "Barcelona", ATT_V2 },
        { "Bobcat", ATT_V2 },      { "Nano", ATT_V2 },
        { "Prescott", ATT_V2 },
    };
    for (size_t i = 0; core && i < sizeof known / sizeof *known; i++)
        if (!strcasecmp(core, known[i].core)) return (int)known[i].level;
    return -1;
}

/* OpenBLAS falls back to older code on processors that came after it, or does
 * what the environment says. */
static void warn_blas(json *list)
{
    char text[256];
    const char *core = ask("openblas_get_corename");
    if (!core || att_level_cpu() != ATT_V4 || machine_blas_level(core) == ATT_V4)
        return;
    const char *forced = getenv("OPENBLAS_CORETYPE");
    snprintf(text, sizeof text,
             "OpenBLAS %s uses its %s code, without AVX-512, on a processor "
             "that has it: BLAS kernels reach half of their speed at most",
             blas_version() ? blas_version() : "", core);
    warn(list, text,
         forced ? "unset OPENBLAS_CORETYPE, or set it to SkylakeX"
                : "set OPENBLAS_CORETYPE=SkylakeX");
}

json *machine_warnings(void)
{
    char why[COUNTER_WHY], remedy[COUNTER_WHY], text[COUNTER_WHY + 64];
    json *list = json_array();
    warn_build(list);
    if (counter_perf_no_pmu(why, remedy)) {
        snprintf(text, sizeof text, "no hardware counters: %s", why);
        warn(list, text, remedy);
    }
    warn_clock(list);
    warn_system(list);
    warn_quota(list);
    warn_environment(list);
    warn_blas(list);
    return list;
}

void machine_tell(const json *warnings)
{
    for (const json *w = json_first(warnings); w; w = json_next(w)) {
        const char *text = json_text(json_get(w, "text"));
        const char *remedy = json_text(json_get(w, "remedy"));
        if (text)
            fprintf(stderr, "! %s%s%s\n", text, remedy ? ": " : "",
                    remedy ? remedy : "");
    }
}

/* ---- all ----------------------------------------------------------------- */

json *machine_describe(void)
{
    const topology *t = machine_topology();
    struct utsname os;
    char text[256];
    json *j = json_object();

    json_put_text(j, "attnbench", ATTNBENCH_VERSION);
    json_put_text(j, "git_revision", ATT_GIT_REVISION);
    json_put_text(j, "compiler", compiler());
    json_put_text(j, "flags", ATT_BUILD_FLAGS);
    json_put(j, "cpu", describe_cpu());
    json_put(j, "topology", describe_topology(t));
    json_put(j, "caches", describe_caches(t));
    json_put_number(j, "memory_bytes", meminfo("MemTotal"));
    json_put_number(j, "memory_free_bytes", (double)machine_memory_free());
    json_put(j, "limits", describe_limits());
    json_put(j, "frequency", describe_frequency());
    put_switch(j, "turbo", turbo());
    put_switch(j, "smt", (int)read_number(CPU_DIR "smt/active", -1));
    const bool thp =
        read_line("/sys/kernel/mm/transparent_hugepage/enabled", text,
                  sizeof text) &&
        bracketed(text);
    json_put_text(j, "thp", thp ? text : NULL);
    if (uname(&os) == 0) {
        snprintf(text, sizeof text, "%.60s %.120s", os.sysname, os.release);
        json_put_text(j, "kernel", text);
        json_put_text(j, "architecture", os.machine);
    }
    const bool named = read_field("/etc/os-release", "PRETTY_NAME", text,
                                  sizeof text);
    json_put_text(j, "system", named ? text : NULL);
    json_put_text(j, "virtualisation", machine_hypervisor());
    json_put_text(j, "libc", libc_version());
    json_put(j, "libraries", describe_libraries());
    json_put_text(j, "blas_core", ask("openblas_get_corename"));
    json_put(j, "binding", describe_binding());
    json_put(j, "overridden", describe_overridden());
    json_put(j, "load", describe_load());
    json_put(j, "warnings", machine_warnings());
    return j;
}
