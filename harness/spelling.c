/* spelling.c - see spelling.h. */
#include "spelling.h"

#include <stdbool.h>
#include <string.h>

enum { OPTIONS = 160 };

static int names_of(const struct argp_option *all, const char **names)
{
    int n = 0;
    names[n++] = "help";
    names[n++] = "usage";
    names[n++] = "version";
    for (; (all->name || all->doc) && n < OPTIONS; all++)
        if (all->name) names[n++] = all->name;
    return n;
}

int spelling_check(const struct argp_option *all, int argc, char **argv,
                   error *e)
{
    const char *names[OPTIONS];
    const int n = names_of(all, names);
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        char typed[64];
        bool known = false;
        if (strncmp(argv[i], "--", 2)) continue;
        snprintf(typed, sizeof typed, "%.*s", (int)strcspn(argv[i] + 2, "="),
                 argv[i] + 2);
        for (int k = 0; k < n; k++)
            known |= !strncmp(names[k], typed, strlen(typed));
        if (known) continue;
        const char *near = error_nearest(typed, names, n);
        return error_set(e, "unknown option --%s%s%s%s; see --help", typed,
                         near ? "; did you mean --" : "", near ? near : "",
                         near ? "?" : "");
    }
    return 0;
}
