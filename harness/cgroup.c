/* cgroup.c - limits of control groups. */
#include "cgroup.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH = 4096 };

/* ---- where we are --------------------------------------------------------- */

/* Our group in the hierarchy that has a controller. */
typedef struct place {
    bool v2;
    char dir[PATH]; /* of our group, under root                             */
    size_t top;     /* length of the mount point, where parents end         */
} place;

/* Whether a list "a,b,c" has that word. */
static bool lists(const char *list, const char *word)
{
    const size_t n = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',')) {
        if (*at == ',') at++;
        if (!strncmp(at, word, n) && (!at[n] || at[n] == ',')) return true;
    }
    return false;
}

/* The path of our group in the hierarchy of a controller, or (NULL) of version 2:
 * a line "ID:CONTROLLER,...:PATH" or "0::PATH". */
static bool find_group(const char *root, const char *controller, char *out)
{
    char name[PATH], line[PATH];
    bool found = false;
    snprintf(name, sizeof name, "%s/proc/self/cgroup", root);
    FILE *f = fopen(name, "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path) continue;
        *list++ = *path++ = 0;
        path[strcspn(path, "\n")] = 0;
        found = controller ? lists(list, controller) : !*list;
        if (found) snprintf(out, PATH, "%s", path);
    }
    if (f) fclose(f);
    return found;
}

/* Where that hierarchy is mounted, and what of it: fields 4 and 5 of a line of
 * mountinfo; the type and the options of the file system come after " - ". */
static bool find_mount(const char *root, const char *controller, char *from,
                       char *to)
{
    char name[PATH], line[PATH], type[32], options[PATH];
    bool found = false;
    snprintf(name, sizeof name, "%s/proc/self/mountinfo", root);
    FILE *f = fopen(name, "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        const char *rest = strstr(line, " - ");
        found = rest &&
                sscanf(line, "%*s %*s %*s %4095s %4095s", from, to) == 2 &&
                sscanf(rest, " - %31s %*s %4095s", type, options) == 2 &&
                (controller ? !strcmp(type, "cgroup") && lists(options, controller)
                            : !strcmp(type, "cgroup2"));
    }
    if (f) fclose(f);
    return found;
}

/* Inside a container the group may lie outside of what is mounted: then the mount
 * point is all that can be seen of it. */
static bool find_place(const char *root, const char *controller, place *p)
{
    char group[PATH], from[PATH], to[PATH];
    if (!find_group(root, controller, group) ||
        !find_mount(root, controller, from, to))
        return false;
    const size_t n = strcmp(from, "/") ? strlen(from) : 0;
    const bool inside = !strncmp(group, from, n) && (!group[n] || group[n] == '/');
    const char *below = inside ? group + n : "";
    if (!strcmp(below, "/") || !strncmp(below, "/..", 3)) below = "";
    const int length = snprintf(p->dir, PATH, "%s%s%s", root, to, below);
    p->v2 = !controller;
    p->top = strlen(root) + strlen(to);
    return length < PATH;
}

/* To the parent; false at the top. */
static bool go_up(place *p)
{
    char *end = strrchr(p->dir + p->top, '/');
    if (!end) return false;
    *end = 0;
    return true;
}

/* ---- files ---------------------------------------------------------------- */

static FILE *open_in(const place *p, const char *file)
{
    char name[PATH + 64];
    snprintf(name, sizeof name, "%s/%s", p->dir, file);
    return fopen(name, "re");
}

/* Up to two numbers of a file; "max" and what is not there are INFINITY. */
static double read_two(const place *p, const char *file, double *second)
{
    char word[2][64] = { "", "" };
    double v[2] = { INFINITY, INFINITY };
    FILE *f = open_in(p, file);
    const int n = f ? fscanf(f, "%63s %63s", word[0], word[1]) : 0;
    if (f) fclose(f);
    for (int i = 0; i < n && i < 2; i++) {
        char *end;
        const double x = strtod(word[i], &end);
        if (end != word[i] && !*end) v[i] = x;
    }
    if (second) *second = v[1];
    return v[0];
}

/* Sum of the values of two keys in a file of lines "KEY VALUE". */
static double read_keys(const place *p, const char *file, const char *a,
                        const char *b)
{
    char key[64];
    double value, sum = 0;
    FILE *f = open_in(p, file);
    while (f && fscanf(f, "%63s %lf", key, &value) == 2)
        if (!strcmp(key, a) || !strcmp(key, b)) sum += value;
    if (f) fclose(f);
    return sum;
}

/* ---- limits --------------------------------------------------------------- */

/* Version 1 says "none" by the largest multiple of a page. */
static const double no_limit = 0x1p62;

static void limit_memory(const place *p, cgroup_limits *l)
{
    const double most = p->v2 ? fmin(read_two(p, "memory.max", NULL),
                                     read_two(p, "memory.high", NULL))
                              : read_two(p, "memory.limit_in_bytes", NULL);
    if (!(most < no_limit)) return;
    double used = read_two(p, p->v2 ? "memory.current" : "memory.usage_in_bytes",
                           NULL);
    if (!isfinite(used)) used = 0;
    used -= p->v2 ? read_keys(p, "memory.stat", "inactive_file", "active_file")
                  : read_keys(p, "memory.stat", "total_inactive_file",
                              "total_active_file");
    l->memory = fmin(l->memory, most);
    l->memory_free = fmin(l->memory_free, fmax(most - fmax(used, 0), 0));
}

/* INFINITY if this group has none. */
static double quota_of(const place *p)
{
    double period = 0;
    const double quota = p->v2 ? read_two(p, "cpu.max", &period)
                               : read_two(p, "cpu.cfs_quota_us", NULL);
    if (!p->v2) period = read_two(p, "cpu.cfs_period_us", NULL);
    return quota > 0 && isfinite(quota) && period > 0 ? quota / period : INFINITY;
}

cgroup_limits cgroup_read(const char *root)
{
    cgroup_limits l = { INFINITY, INFINITY, INFINITY };
    place p;
    /* of a machine with both versions, a controller is in one of them */
    if (find_place(root, "memory", &p))
        do limit_memory(&p, &l); while (go_up(&p));
    if (find_place(root, "cpu", &p))
        do l.processors = fmin(l.processors, quota_of(&p)); while (go_up(&p));
    if (find_place(root, NULL, &p))
        do {
            limit_memory(&p, &l);
            l.processors = fmin(l.processors, quota_of(&p));
        } while (go_up(&p));
    return l;
}

static double throttled_in(place *p)
{
    double seconds = 0;
    do if (isfinite(quota_of(p)))
        seconds += p->v2 ? 1e-6 * read_keys(p, "cpu.stat", "throttled_usec", "")
                         : 1e-9 * read_keys(p, "cpu.stat", "throttled_time", "");
    while (go_up(p));
    return seconds;
}

double cgroup_throttled(const char *root)
{
    double seconds = 0;
    place p;
    if (find_place(root, "cpu", &p)) seconds += throttled_in(&p);
    if (find_place(root, NULL, &p)) seconds += throttled_in(&p);
    return seconds;
}

bool cgroup_has_quota(void)
{
    static int known = -1;
    if (known < 0) known = isfinite(cgroup_read("").processors);
    return known;
}
