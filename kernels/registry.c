/* registry.c - every mechanism and kernel of the build and of plugins. */
#define _GNU_SOURCE /* dladdr */
#include "plan.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* registry.inc and codes.inc are written by the Makefile:
 *     M(att_mechanisms_<unit>)   K(att_kernels_<unit>, <level>)
 *     CORE(<level>, <hash>)      CODE(<table of M or K>, <hash>) */
#define M(table) extern const att_mechanism table[];
#define K(table, level) extern const att_kernel table[];
#include "registry.inc"
#undef M
#undef K

static const att_mechanism *const mechanism_tables[] = {
#define M(table) table,
#define K(table, level)
#include "registry.inc"
#undef M
#undef K
};

static const struct {
    const att_kernel *table;
    enum att_level level;
} kernel_tables[] = {
#define M(table)
#define K(table, level) { table, level },
#include "registry.inc"
#undef M
#undef K
};

static const att_mechanism **mechanisms;
static att_entry *entries;
static size_t mechanism_count, entry_count;

/* ---- levels ---------------------------------------------------------------------- */

static const char *const level_names[ATT_LEVELS] = { "base", "v2", "v3", "v4" };

const char *att_level_name(enum att_level level)
{
    return level_names[level];
}

/* By feature, since compilers differ in which level names they know. */
enum att_level att_level_best(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("popcnt"))
        return ATT_BASE;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("bmi2"))
        return ATT_V2;
    if (!__builtin_cpu_supports("avx512f") ||
        !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512cd") ||
        !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl"))
        return ATT_V3;
    return ATT_V4;
#else
    return ATT_BASE;
#endif
}

int att_level_parse(const char *name)
{
    if (!strcmp(name, "best")) return (int)att_level_best();
    for (int i = 0; i < ATT_LEVELS; i++)
        if (!strcmp(name, level_names[i])) return i;
    return -1;
}

/* ---- what they are made of -------------------------------------------------------- */

#define FNV_START 0xcbf29ce484222325u

static uint64_t fnv(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *c = data;
    for (size_t i = 0; i < size; i++) hash = (hash ^ c[i]) * 0x100000001b3u;
    return hash;
}

static uint64_t core_code(enum att_level level)
{
#define CORE(l, hash) if (level == l) return hash;
#define CODE(table, hash)
#include "codes.inc"
#undef CORE
#undef CODE
    return 0;
}

/* Hash of the shared object that holds an address. */
static uint64_t plugin_code(const void *address)
{
    Dl_info info;
    char block[1 << 14];
    size_t n;
    uint64_t hash = FNV_START;
    FILE *f = dladdr(address, &info) ? fopen(info.dli_fname, "rbe") : NULL;
    while (f && (n = fread(block, 1, sizeof block, f)) > 0)
        hash = fnv(hash, block, n);
    if (f) fclose(f);
    return hash;
}

static uint64_t table_code(const void *table)
{
#define CORE(l, hash)
#define CODE(t, hash) if (table == (const void *)t) return hash;
#include "codes.inc"
#undef CORE
#undef CODE
    return plugin_code(table);
}

static uint64_t mechanism_code(const att_mechanism *m)
{
    for (size_t i = 0; i < sizeof mechanism_tables / sizeof(void *); i++)
        for (const att_mechanism *x = mechanism_tables[i]; x->name; x++)
            if (x == m) return table_code(mechanism_tables[i]);
    return plugin_code(m);
}

/* ---- tables -> sorted lists ---------------------------------------------------------- */

static int by_mechanism_name(const void *a, const void *b)
{
    const att_mechanism *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int by_entry_name(const void *a, const void *b)
{
    const att_entry *x = a, *y = b;
    const int c = strcmp(x->kernel->name, y->kernel->name);
    return c ? c : (int)x->level - (int)y->level;
}

/* Grows by one element; the program cannot go on without its registry. */
static void *grow(void *list, size_t count, size_t size)
{
    void *p = realloc(list, (count + 1) * size);
    if (!p) abort();
    return p;
}

static const char *add_mechanisms(const att_mechanism *table)
{
    for (; table->name; table++) {
        if (att_find_mechanism(table->name)) return table->name;
        mechanisms = grow(mechanisms, mechanism_count, sizeof *mechanisms);
        mechanisms[mechanism_count++] = table;
        qsort(mechanisms, mechanism_count, sizeof *mechanisms,
              by_mechanism_name);
    }
    return NULL;
}

static const char *add_kernels(const att_kernel *table, enum att_level level)
{
    uint64_t code[3] = { table_code(table), 0, core_code(level) };
    for (; table->name; table++) {
        const att_mechanism *m = att_find_mechanism(table->mechanism);
        if (!m || att_find(table->name, level)) return table->name;
        entries = grow(entries, entry_count, sizeof *entries);
        code[1] = mechanism_code(m);
        entries[entry_count++] = (att_entry){
            table, m, level, fnv(FNV_START, code, sizeof code)
        };
        qsort(entries, entry_count, sizeof *entries, by_entry_name);
    }
    return NULL;
}

/* The tables of the build are ours: a clash in them is a bug, found at the first
 * start of the program. */
static void fill_once(void)
{
    static bool filled;
    if (filled) return;
    filled = true;
    const char *bad = NULL;
    for (size_t i = 0; !bad && i < sizeof mechanism_tables / sizeof(void *); i++)
        bad = add_mechanisms(mechanism_tables[i]);
    const size_t n = sizeof kernel_tables / sizeof *kernel_tables;
    for (size_t i = 0; !bad && i < n; i++)
        if (kernel_tables[i].level <= att_level_best())
            bad = add_kernels(kernel_tables[i].table, kernel_tables[i].level);
    if (!bad) return;
    fprintf(stderr,
            "attnbench: '%s' is in the kernel tables twice, or its mechanism "
            "is in none\n",
            bad);
    abort();
}

size_t att_mechanisms(const att_mechanism *const **out)
{
    fill_once();
    *out = mechanisms;
    return mechanism_count;
}

size_t att_entries(const att_entry **out)
{
    fill_once();
    *out = entries;
    return entry_count;
}

const att_mechanism *att_find_mechanism(const char *name)
{
    fill_once();
    for (size_t i = 0; i < mechanism_count; i++)
        if (!strcmp(mechanisms[i]->name, name)) return mechanisms[i];
    return NULL;
}

const att_entry *att_find(const char *kernel, enum att_level level)
{
    fill_once();
    for (size_t i = 0; i < entry_count; i++)
        if (entries[i].level == level && !strcmp(entries[i].kernel->name, kernel))
            return &entries[i];
    return NULL;
}

/* ---- plugins ---------------------------------------------------------------------------- */

/* A plugin is one build, so its kernels stand for the best level. */
const char *att_load_plugin(const char *path)
{
    static char why[512];
    fill_once();
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        snprintf(why, sizeof why, "cannot load plugin: %s", dlerror());
        return why;
    }
    const int *abi = dlsym(handle, "att_plugin_abi");
    const att_mechanism *m = dlsym(handle, "att_mechanisms_plugin");
    const att_kernel *k = dlsym(handle, "att_kernels_plugin");
    const char *bad = NULL;
    why[0] = 0;
    if (!abi || *abi != ATT_ABI)
        snprintf(why, sizeof why,
                 "%s: not built with this version of att.h; rebuild it", path);
    else if (!m && !k)
        snprintf(why, sizeof why,
                 "%s: has neither ATT_MECHANISMS nor ATT_KERNELS", path);
    else if ((m && (bad = add_mechanisms(m))) ||
             (k && (bad = add_kernels(k, att_level_best()))))
        snprintf(why, sizeof why,
                 "%s: '%s' exists already, or its mechanism does not", path,
                 bad);
    if (!why[0]) return NULL; /* stays loaded for the life of the program */
    dlclose(handle);
    return why;
}
