/* ceilings.c - ceilings from run to run. */
#include "ceilings.h"

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
static bool was_quiet(const json *row)
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
    char *dir = was_quiet(row) ? folder() : NULL;
    if (!dir) return;
    char *path = file_of(dir, machine), *text = json_print(row, false);
    if (folder_make(dir, NULL) == 0) file_write(path, text, strlen(text), NULL);
    free(text);
    free(path);
    free(dir);
}
