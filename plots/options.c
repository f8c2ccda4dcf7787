/* options.c - what the commands of plots/ share on the command line. */
#include "options.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES = 128 };

int options_check(const struct argp_option *options, int argc, char **argv,
                  error *e)
{
    const char *names[NAMES] = { "help", "usage", "version" };
    int n = 3;
    for (const struct argp_option *o = options; o->name && n < NAMES; o++)
        names[n++] = o->name;
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        char typed[64];
        bool known = false;
        if (strncmp(argv[i], "--", 2)) continue;
        snprintf(typed, sizeof typed, "%.*s", (int)strcspn(argv[i] + 2, "="),
                 argv[i] + 2);
        for (int k = 0; k < n; k++) /* argp takes an unfinished name, too   */
            known |= !strncmp(names[k], typed, strlen(typed));
        if (known) continue;
        const char *near = error_nearest(typed, names, n);
        return error_set(e, "unknown option --%s%s%s%s; see --help", typed,
                         near ? "; did you mean --" : "", near ? near : "",
                         near ? "?" : "");
    }
    return 0;
}

bool options_next(const char **list, char *out, size_t size)
{
    const size_t n = strcspn(*list, ",");
    if (!**list) return false;
    snprintf(out, size, "%.*s", (int)n, *list);
    *list += n + ((*list)[n] == ',');
    return true;
}

/* ---- kernels ------------------------------------------------------------- */

static bool fits_any(const char *patterns, const char *kernel)
{
    char one[128];
    while (options_next(&patterns, one, sizeof one))
        if (fnmatch(one, kernel, 0) == 0) return true;
    return false;
}

static int check_patterns(const results *r, const char *patterns, error *e)
{
    char one[128];
    while (options_next(&patterns, one, sizeof one)) {
        int i = 0;
        while (i < r->count && fnmatch(one, r->item[i].kernel, 0)) i++;
        if (i < r->count) continue;
        const char **names = malloc((size_t)(r->count + 1) * sizeof *names);
        if (!names) abort();
        for (i = 0; i < r->count; i++) names[i] = r->item[i].kernel;
        const char *near = error_nearest(one, names, r->count);
        free(names);
        return error_set(e, "%s: no case of a kernel '%s'%s%s%s",
                         r->journal.path, one,
                         near ? "; did you mean '" : "", near ? near : "",
                         near ? "'?" : "");
    }
    return 0;
}

int options_read(results *r, const char *dir, const selection *s, error *e)
{
    int kept = 0;
    if (results_read(r, dir, s->env, e) < 0) return -1;
    if ((s->only && check_patterns(r, s->only, e) < 0) ||
        (s->not && check_patterns(r, s->not, e) < 0)) {
        results_free(r);
        return -1;
    }
    for (int i = 0; i < r->count; i++)
        if ((!s->only || fits_any(s->only, r->item[i].kernel)) &&
            (!s->not || !fits_any(s->not, r->item[i].kernel)))
            r->item[kept++] = r->item[i];
    r->count = kept;
    if (kept) return 0;
    error_set(e, "%s: --kernel and --not leave no case", r->journal.path);
    results_free(r);
    return -1;
}

int options_fail(const char *name, const error *e, int code)
{
    fprintf(stderr, "%s: %s\n", name, e->text);
    return code;
}
