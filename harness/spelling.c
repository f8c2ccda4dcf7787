/* spelling.c - see spelling.h. */
#include "spelling.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { OPTIONS = 160 };

/* What argp itself adds; the last is not in its help, but makes the beginning
 * of a name ambiguous. */
static const struct argp_option added[] = {
    { "help", '?', NULL, 0, NULL, 0 },
    { "usage", 0, NULL, 0, NULL, 0 },
    { "version", 'V', NULL, 0, NULL, 0 },
    { "program-name", 0, "NAME", 0, NULL, 0 },
};
enum { ADDED = sizeof added / sizeof *added };

static int list_of(const struct argp_option *all,
                   const struct argp_option **list)
{
    int n = 0;
    for (int i = 0; i < ADDED; i++) list[n++] = &added[i];
    for (; all && (all->name || all->doc || all->key) && n < OPTIONS; all++)
        if (all->name || all->key) list[n++] = all;
    return n;
}

static int refuse_unknown(const char *typed, const struct argp_option **list,
                          int count, error *e)
{
    const char *names[OPTIONS];
    int n = 0;
    for (int i = 0; i < count; i++)
        if (list[i]->name) names[n++] = list[i]->name;
    const char *near = error_nearest(typed, names, n);
    return error_set(e, "unknown option --%s%s%s%s; see --help", typed,
                     near ? "; did you mean --" : "", near ? near : "",
                     near ? "?" : "");
}

/* "--name", "--name=value" or a unique beginning of the name.  1: the next
 * argument is its value; -1: e is set. */
static int check_long(const char *option, bool last,
                      const struct argp_option **list, int n, error *e)
{
    const struct argp_option *found = NULL;
    const size_t length = strcspn(option, "=");
    char typed[64];
    bool exact = false;
    snprintf(typed, sizeof typed, "%.*s", (int)length, option);
    for (int i = 0; i < n && !exact; i++) {
        if (!list[i]->name || strncmp(list[i]->name, typed, strlen(typed)))
            continue;
        exact = !strcmp(list[i]->name, typed);
        if (found && !exact)
            return error_set(e, "--%s may stand for --%s or --%s: write more "
                                "of it", typed, found->name, list[i]->name);
        found = list[i];
    }
    if (!found) return refuse_unknown(typed, list, n, e);
    const bool takes = found->arg && !(found->flags & OPTION_ARG_OPTIONAL);
    if (!found->arg && option[length])
        return error_set(e, "--%s takes no value", found->name);
    if (takes && !option[length] && last)
        return error_set(e, "--%s needs a value: --%s=%s", found->name,
                         found->name, found->arg);
    return takes && !option[length];
}

/* "-x", "-xvalue" or several letters; the same results. */
static int check_short(const char *letters, bool last,
                       const struct argp_option **list, int n, error *e)
{
    for (; *letters; letters++) {
        const struct argp_option *found = NULL;
        for (int i = 0; i < n; i++)
            if (list[i]->key == (unsigned char)*letters) found = list[i];
        if (!found)
            return error_set(e, isprint((unsigned char)*letters)
                                    ? "unknown option -%c; see --help"
                                    : "unknown option; see --help",
                             *letters);
        if (!found->arg) continue;
        if (found->flags & OPTION_ARG_OPTIONAL || letters[1]) return 0;
        if (last)
            return error_set(e, "-%c needs a value: -%c %s", *letters,
                             *letters, found->arg);
        return 1;
    }
    return 0;
}

int spelling_check(const struct argp_option *all, int argc, char **argv,
                   error *e)
{
    const struct argp_option *list[OPTIONS];
    const int n = list_of(all, list);
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        const bool last = i + 1 == argc;
        int values = 0;
        if (!strncmp(argv[i], "--", 2))
            values = check_long(argv[i] + 2, last, list, n, e);
        else if (argv[i][0] == '-' && argv[i][1])
            values = check_short(argv[i] + 1, last, list, n, e);
        if (values < 0) return -1;
        i += values;
    }
    return 0;
}
