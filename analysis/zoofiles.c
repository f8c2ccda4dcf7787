#include "zoofiles.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../harness/file.h"

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

static bool is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* Above the program: the source tree for build/release/attnbench, PREFIX for
 * PREFIX/bin/attnbench. */
static char *folder(error *e)
{
    static const char *const places[] = {"analysis/zoo", "share/attnbench/zoo"};
    char exe[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    for (char *slash = strrchr(exe, '/'); slash; slash = strrchr(exe, '/')) {
        *slash = 0;
        for (int i = 0; i < 2; i++) {
            char *path = path_join(*exe ? exe : "/", places[i]);
            if (is_folder(path)) return path;
            free(path);
        }
    }
    error_set(e, "no model files found near the program (analysis/zoo or "
                 "share/attnbench/zoo): give the file itself, as in "
                 "path/to/nat_tiny.json");
    return NULL;
}

static int is_model(const struct dirent *d)
{
    const size_t n = strlen(d->d_name);
    return n > 5 && d->d_name[0] != '.' && !strcmp(d->d_name + n - 5, ".json");
}

int zoo_names(char ***out, error *e)
{
    struct dirent **found;
    char *path = folder(e);
    if (!path) return -1;
    const int n = scandir(path, &found, is_model, alphasort);
    if (n < 0) error_set(e, "%s: cannot read this folder", path);
    free(path);
    if (n < 0) return -1;
    *out = sure(calloc((size_t)n + 1, sizeof **out));
    for (int i = 0; i < n; i++) {
        const size_t length = strlen(found[i]->d_name) - 5;
        (*out)[i] = sure(strndup(found[i]->d_name, length));
        free(found[i]);
    }
    free(found);
    return n;
}

void zoo_names_free(char **names, int count)
{
    for (int i = 0; i < count; i++) free(names[i]);
    free(names);
}

/* "NAT-Tiny" -> "nat_tiny". */
static void plain(const char *name, char out[NAME_MAX])
{
    size_t i = 0;
    for (; name[i] && i + 1 < NAME_MAX; i++)
        out[i] = isalnum((unsigned char)name[i])
                     ? (char)tolower((unsigned char)name[i])
                     : '_';
    out[i] = 0;
}

char *zoo_path(const char *name, error *e)
{
    char **names, wanted[NAME_MAX], file[NAME_MAX + 8];
    if (strchr(name, '/') || strstr(name, ".json")) return sure(strdup(name));
    const int n = zoo_names(&names, e);
    if (n < 0) return NULL;
    char *path = NULL;
    plain(name, wanted);
    for (int i = 0; i < n && !path; i++)
        if (!strcmp(names[i], wanted)) {
            char *where = folder(e);
            snprintf(file, sizeof file, "%s.json", wanted);
            path = where ? path_join(where, file) : NULL;
            free(where);
        }
    if (!path) {
        const char *near = error_nearest(wanted, (const char *const *)names, n);
        error_set(e, "unknown model '%s'%s%s%s; 'attnbench models' lists all",
                  name, near ? "; did you mean '" : "", near ? near : "",
                  near ? "'?" : "");
    }
    zoo_names_free(names, n);
    return path;
}
