/* options.c - what the commands of plots/ share on the command line. */
#include "options.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
        for (i = 0; i < r->left_out; i++)
            if (fnmatch(one, r->other[i].kernel, 0) == 0)
                return error_set(e, "%s: cases of a kernel '%s' are there, but "
                                    "of another machine or of other code than "
                                    "the newest: --env all, or --env with their "
                                    "'env', shows them",
                                 r->journal.path, one);
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

static int keep_selected(result *item, int count, const selection *s)
{
    int kept = 0;
    for (int i = 0; i < count; i++)
        if ((!s->only || fits_any(s->only, item[i].kernel)) &&
            (!s->not || !fits_any(s->not, item[i].kernel)))
            item[kept++] = item[i];
    return kept;
}

int options_read(results *r, const char *dir, const selection *s, error *e)
{
    if (results_read(r, dir, s->kind, s->env, e) < 0) return -1;
    if ((s->only && check_patterns(r, s->only, e) < 0) ||
        (s->not && check_patterns(r, s->not, e) < 0)) {
        results_free(r);
        return -1;
    }
    r->left_out = keep_selected(r->other, r->left_out, s);
    r->count = keep_selected(r->item, r->count, s);
    if (r->count) return 0;
    error_set(e, "%s: --kernel and --not leave no case", r->journal.path);
    results_free(r);
    return -1;
}

int options_fail(const char *name, const error *e, int code)
{
    fprintf(stderr, "%s: %s\n", name, e->text);
    return code;
}
