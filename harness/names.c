/* names.c - see names.h. */
#include "names.h"

#include <stdlib.h>
#include <string.h>

static const char **room(size_t n)
{
    const char **list = malloc((n + 1) * sizeof *list);
    if (!list) abort();
    return list;
}

int names_mechanisms(const char ***out)
{
    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    *out = room(n);
    for (size_t i = 0; i < n; i++) (*out)[i] = all[i]->name;
    return (int)n;
}

int names_kernels(const char ***out)
{
    const att_entry *all;
    const size_t n = att_entries(&all); /* sorted: levels lie together */
    int count = 0;
    *out = room(n);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(all[i].kernel->name, all[i - 1].kernel->name))
            (*out)[count++] = all[i].kernel->name;
    return count;
}

const att_mechanism *names_mechanism(const char *typed, error *e)
{
    const att_mechanism *m = att_find_mechanism(typed);
    const att_entry *all;
    const size_t n = att_entries(&all);
    const char **names;
    for (size_t i = 0; !m && i < n; i++)
        if (!strcmp(all[i].kernel->name, typed)) m = all[i].mechanism;
    if (m) return m;
    const int count = names_mechanisms(&names);
    const char *near = error_nearest(typed, names, count);
    error_set(e, "unknown mechanism '%s'%s%s%s; `attnbench list mechanisms` "
                 "names all",
              typed, near ? "; did you mean '" : "", near ? near : "",
              near ? "'?" : "");
    free(names);
    return NULL;
}
