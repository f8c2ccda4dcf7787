/* ceilings.c - ceilings from run to run. */
#include "ceilings.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"

enum { FILE_LIMIT = 1 << 20 };

/* The folder, or NULL if the user has none; allocated. */
static char *folder(void)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && *cache == '/') return path_join(cache, "attnbench");
    return home && *home == '/' ? path_join(home, ".cache/attnbench") : NULL;
}

static char *file_of(const char *dir, const char *machine)
{
    char name[64];
    snprintf(name, sizeof name, "ceilings-%.32s.json", machine);
    return path_join(dir, name);
}

json *ceilings_read(const char *machine)
{
    char *dir = folder(), *path = dir ? file_of(dir, machine) : NULL, *text;
    size_t size;
    json *row = NULL;
    if (path && file_read(path, FILE_LIMIT, &text, &size, NULL) == 0) {
        row = json_parse(text, size, path, NULL);
        free(text);
    }
    free(path);
    free(dir);
    return row;
}

/* As sweep warns of other tasks; and few slots were disturbed. */
bool ceilings_quiet(const json *row)
{
    const json *topology = json_get(row, "topology");
    const double threads = json_number(json_get(topology, "usable_threads"), 1);
    const double load = json_number(json_at(json_get(row, "load"), 0), 1e9);
    const json *roofline = json_get(row, "roofline");
    return load <= 0.5 * threads &&
           json_number(json_get(roofline, "clean"), 0) >= 0.9 &&
           json_size(json_get(roofline, "ceilings")) > 0;
}

void ceilings_keep(const char *machine, const json *row)
{
    char *dir = folder();
    if (!dir) return;
    char *path = file_of(dir, machine), *text = json_print(row, false);
    if (folder_make(dir, NULL) == 0) file_write(path, text, strlen(text), NULL);
    free(text);
    free(path);
    free(dir);
}

/* ---- the best of several runs -------------------------------------------- */

/* Numbers: the larger; objects: member by member. */
static json *higher(const json *a, const json *b)
{
    if (!json_is_object(a)) {
        const double x = json_number(a, NAN), y = json_number(b, NAN);
        return json_copy(y > x || isnan(x) ? b ? b : a : a);
    }
    json *j = json_object();
    for (const json *x = json_first(a); x; x = json_next(x))
        json_put(j, json_key(x), higher(x, json_get(b, json_key(x))));
    return j;
}

static bool same_ceiling(const json *a, const json *b)
{
    const char *x = json_text(json_get(a, "level"));
    const char *y = json_text(json_get(b, "level"));
    return x && y && !strcmp(x, y) &&
           json_number(json_get(a, "threads"), -1) ==
               json_number(json_get(b, "threads"), -2);
}

static const json *find(const json *list, const json *like)
{
    for (const json *x = json_first(list); x; x = json_next(x))
        if (same_ceiling(x, like)) return x;
    return NULL;
}

void ceilings_raise(json *roofline, const json *other)
{
    const json *mine = json_get(roofline, "ceilings");
    const json *theirs = json_get(other, "ceilings");
    if (!json_is_array(mine)) return;
    json *list = json_array();
    for (const json *x = json_first(mine); x; x = json_next(x))
        json_push(list, higher(x, find(theirs, x)));
    for (const json *x = json_first(theirs); x; x = json_next(x))
        if (!find(mine, x)) json_push(list, json_copy(x));
    json_put(roofline, "ceilings", list);
    json_put_number(roofline, "runs",
                    json_number(json_get(roofline, "runs"), 1) +
                        json_number(json_get(other, "runs"), 1));
}
