/* registry.c - every mechanism and kernel of the build and of plugins. */
#define _GNU_SOURCE /* dladdr1 */
#include "plan.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

#ifdef __x86_64__
/* What compilers do not tell of by name: bits of cpuid's ecx. */
static bool cpuid_ecx(unsigned leaf, unsigned bits)
{
    unsigned a, b, c, d;
    return __get_cpuid(leaf, &a, &b, &c, &d) && (c & bits) == bits;
}
#endif

/* By feature, since compilers differ in which level names they know. */
enum att_level att_level_cpu(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("ssse3") || !__builtin_cpu_supports("sse4.2") ||
        !__builtin_cpu_supports("popcnt"))
        return ATT_BASE;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2") ||
        !cpuid_ecx(1, bit_MOVBE | bit_F16C) || !cpuid_ecx(0x80000001, bit_LZCNT))
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

static bool built(int level)
{
    for (size_t i = 0; i < sizeof kernel_tables / sizeof *kernel_tables; i++)
        if ((int)kernel_tables[i].level == level) return true;
    return false;
}

enum att_level att_level_best(void)
{
    int level = (int)att_level_cpu();
    while (level > ATT_BASE && !built(level)) level--;
    return (enum att_level)level;
}

/* "v2 v3 v4" */
static void built_levels(char *out, size_t size)
{
    size_t at = 0;
    for (int l = 0; l < ATT_LEVELS; l++)
        if (built(l))
            at += (size_t)snprintf(out + at, size - at, "%s%s", at ? " " : "",
                                   level_names[l]);
}

const char *att_level_reject(enum att_level level)
{
    static const char *const needs[ATT_LEVELS] = {
        "", "SSE4.2 and POPCNT", "AVX2, FMA, BMI2 and F16C",
        "AVX-512 F, BW, CD, DQ and VL"
    };
    static char why[160];
    char levels[32] = "";
    built_levels(levels, sizeof levels);
    if (level > att_level_cpu())
        snprintf(why, sizeof why, "this processor cannot run %s, which needs %s",
                 level_names[level], needs[level]);
    else if (!built(level))
        snprintf(why, sizeof why,
                 "this program was built without %s (it has %s; LEVELS of make)",
                 level_names[level], *levels ? levels : "none");
    else return NULL;
    return why;
}

const char *att_level_none(void)
{
    static char why[320];
    int least = 0;
    while (least < ATT_LEVELS && !built(least)) least++;
    if (built(att_level_best())) return NULL;
    if (least == ATT_LEVELS) return "this program was built without kernels";
    snprintf(why, sizeof why,
             "no kernel of this program runs here: %s; build it with `make "
             "LEVELS=base`",
             att_level_reject((enum att_level)least));
    return why;
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

/* Names go into options, patterns, file names and journals as they are. */
static const char *reject_name(const char *name)
{
    if (!*name || name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST"
                                    "UVWXYZ0123456789_.-")])
        return "has a name of other than letters, digits, '_', '.' and '-'";
    return strcmp(name, "reference") ? NULL : "has a name that means the references";
}

static const char *reject_mechanism(const att_mechanism *m)
{
    if (reject_name(m->name)) return reject_name(m->name);
    if (att_find_mechanism(m->name)) return "exists already";
    if (!m->family || !m->brief || !m->formula || !m->map)
        return "lacks .family, .brief, .formula or .map";
    return m->cost && m->forward ? NULL : "lacks .cost or .forward, its reference";
}

static const char *reject_kernel(const att_kernel *k, enum att_level level)
{
    if (reject_name(k->name)) return reject_name(k->name);
    if (att_find(k->name, level)) return "exists already";
    if (!k->mechanism || !k->brief || !k->forward)
        return "lacks .mechanism, .brief or .forward";
    return att_find_mechanism(k->mechanism) ? NULL : "is of a mechanism that does not exist";
}

/* NULL, or what is wrong with the first row that was not added: its name is in
 * *name then. */
static const char *add_mechanisms(const att_mechanism *table, const char **name)
{
    for (; table->name; table++) {
        const char *why = reject_mechanism(table);
        *name = table->name;
        if (why) return why;
        mechanisms = grow(mechanisms, mechanism_count, sizeof *mechanisms);
        mechanisms[mechanism_count++] = table;
        qsort(mechanisms, mechanism_count, sizeof *mechanisms,
              by_mechanism_name);
    }
    return NULL;
}

static const char *add_kernels(const att_kernel *table, enum att_level level,
                               const char **name)
{
    uint64_t code[3] = { table_code(table), 0, core_code(level) };
    for (; table->name; table++) {
        const char *why = reject_kernel(table, level);
        *name = table->name;
        if (why) return why;
        entries = grow(entries, entry_count, sizeof *entries);
        code[1] = mechanism_code(att_find_mechanism(table->mechanism));
        entries[entry_count++] = (att_entry){
            table, att_find_mechanism(table->mechanism), level,
            fnv(FNV_START, code, sizeof code)
        };
        qsort(entries, entry_count, sizeof *entries, by_entry_name);
    }
    return NULL;
}

/* The tables of the build are ours: a mistake in them is found at the first start of
 * the program. */
static void fill_once(void)
{
    static bool filled;
    if (filled) return;
    filled = true;
    const char *bad = NULL, *name = NULL;
    for (size_t i = 0; !bad && i < sizeof mechanism_tables / sizeof(void *); i++)
        bad = add_mechanisms(mechanism_tables[i], &name);
    const size_t n = sizeof kernel_tables / sizeof *kernel_tables;
    for (size_t i = 0; !bad && i < n; i++)
        if (kernel_tables[i].level <= att_level_cpu())
            bad = add_kernels(kernel_tables[i].table, kernel_tables[i].level,
                              &name);
    if (!bad) return;
    fprintf(stderr, "attnbench: a table of kernels/: '%s' %s\n", name, bad);
    exit(3);
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

/* Why a table cannot be one of this att.h, by the size that its symbol tells, or
 * NULL.  Its last row is { 0 }. */
static const char *reject_table(const void *table, size_t row)
{
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    const char *last = NULL, zero[sizeof(att_mechanism) + sizeof(att_kernel)] = { 0 };
    if (!table || !dladdr1(table, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol)
        return NULL;
    if (symbol->st_size == 0 || symbol->st_size % row)
        return "was built with another att.h: rebuild it";
    last = (const char *)table + symbol->st_size - row;
    return memcmp(last, zero, row) ? "has a table that does not end with { 0 }" : NULL;
}

/* A name without a slash is one of this folder, if there is such a file; else the
 * loader looks for it. */
static void *open_plugin(const char *path)
{
    char here[4096];
    snprintf(here, sizeof here, "./%s", path);
    const bool bare = !strchr(path, '/') && access(here, F_OK) == 0;
    return dlopen(bare ? here : path, RTLD_NOW | RTLD_LOCAL);
}

/* A plugin is one build, so its kernels stand for the best level. */
const char *att_load_plugin(const char *path)
{
    static char why[512];
    fill_once();
    void *handle = open_plugin(path);
    if (!handle) {
        snprintf(why, sizeof why, "cannot load plugin: %s", dlerror());
        return why;
    }
    const int *abi = dlsym(handle, "att_plugin_abi");
    const att_mechanism *m = dlsym(handle, "att_mechanisms_plugin");
    const att_kernel *k = dlsym(handle, "att_kernels_plugin");
    const char *bad = NULL, *name = NULL;
    if (!abi && !m && !k)
        bad = "is no plugin: it has neither ATT_MECHANISMS nor ATT_KERNELS";
    else if (!abi || *abi != ATT_ABI)
        bad = "was built with another att.h: rebuild it";
    else if (!m && !k) bad = "has neither ATT_MECHANISMS nor ATT_KERNELS";
    else if (!(bad = reject_table(m, sizeof *m)))
        bad = reject_table(k, sizeof *k);
    if (!bad && m) bad = add_mechanisms(m, &name);
    if (!bad && k) bad = add_kernels(k, att_level_best(), &name);
    if (!bad) return NULL; /* stays loaded for the life of the program */
    if (name) snprintf(why, sizeof why, "%s: '%.100s' %s", path, name, bad);
    else snprintf(why, sizeof why, "%s: %s", path, bad);
    return why; /* and stays loaded: some of its rows may be in the lists */
}
