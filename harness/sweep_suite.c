/* sweep_suite.c - suite files: where they are, what they may say. */
#include "sweep_plan.h"

#include <dirent.h>
#include <fnmatch.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "json.h"

const sweep_settings sweep_settings_default = {
    .ci = 0.02, .seconds = 0.2, .timeout = 120, .check = 1e8, .processes = 6,
    .passes = 3,
};

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- patterns ------------------------------------------------------------ */

int sweep_plain_parse(const char *text)
{
    static const char *const names[] = { "all", "one", "fallback", "none",
                                         "only" };
    for (int i = 0; i < 5; i++)
        if (!strcmp(text, names[i])) return i;
    return -1;
}

static bool matches_any(const char *pattern)
{
    const att_entry *entry;
    const size_t n = att_entries(&entry);
    for (size_t i = 0; i < n; i++)
        if (!fnmatch(pattern, entry[i].kernel->name, 0) ||
            !fnmatch(pattern, entry[i].mechanism->name, 0))
            return true;
    return false;
}

static int refuse_pattern(const char *pattern, error *e)
{
    const att_entry *entry;
    const size_t n = att_entries(&entry);
    const char **names = sure(malloc((2 * n + 1) * sizeof *names));
    for (size_t i = 0; i < n; i++) {
        names[i] = entry[i].kernel->name;
        names[n + i] = entry[i].mechanism->name;
    }
    const char *near = error_nearest(pattern, names, (int)(2 * n));
    free(names);
    return error_set(e, "no kernel matches '%s'%s%s%s; 'attnbench list "
                        "kernels' shows all",
                     pattern, near ? "; did you mean '" : "", near ? near : "",
                     near ? "'?" : "");
}

static int add_pattern(sweep_patterns *p, const char *text, size_t length,
                       error *e)
{
    char *pattern = sure(strndup(text, length));
    if (!matches_any(pattern)) {
        refuse_pattern(pattern, e);
        free(pattern);
        return -1;
    }
    p->of = sure(realloc(p->of, (size_t)(p->count + 1) * sizeof *p->of));
    p->of[p->count++] = pattern;
    return 0;
}

int sweep_patterns_add(sweep_patterns *p, const char *list, error *e)
{
    for (const char *item = list;; item++) {
        const size_t n = strcspn(item, ",");
        if (add_pattern(p, item, n, e) < 0) return -1;
        item += n;
        if (!*item) return 0;
    }
}

void sweep_patterns_free(sweep_patterns *p)
{
    for (int i = 0; i < p->count; i++) free(p->of[i]);
    free(p->of);
    *p = (sweep_patterns){ 0 };
}

/* ---- where --------------------------------------------------------------- */

static bool is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* Above the program: the source tree for build/release/attnbench, PREFIX for
 * PREFIX/bin/attnbench. */
char *sweep_suites_folder(error *e)
{
    static const char *const places[] = { "harness/suites",
                                          "share/attnbench/suites" };
    char exe[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    for (char *slash = strrchr(exe, '/'); slash; slash = strrchr(exe, '/')) {
        *slash = 0;
        for (int i = 0; i < 2; i++) {
            char *folder = path_join(*exe ? exe : "/", places[i]);
            if (is_folder(folder)) return folder;
            free(folder);
        }
    }
    if (is_folder(places[0])) return sure(strdup(places[0]));
    error_set(e, "no suites found near the program (harness/suites or "
                 "share/attnbench/suites): give the file itself, as in --suite "
                 "path/to/default.json");
    return NULL;
}

static int is_suite(const struct dirent *d)
{
    const size_t n = strlen(d->d_name);
    return n > 5 && d->d_name[0] != '.' && !strcmp(d->d_name + n - 5, ".json");
}

int sweep_suite_names(char ***out, error *e)
{
    struct dirent **found;
    char *folder = sweep_suites_folder(e);
    if (!folder) return -1;
    const int n = scandir(folder, &found, is_suite, alphasort);
    if (n < 0) error_set(e, "%s: cannot read this folder", folder);
    free(folder);
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

void sweep_suite_names_free(char **names, int count)
{
    for (int i = 0; i < count; i++) free(names[i]);
    free(names);
}

/* Path of a suite, allocated, or NULL. */
static char *suite_path(const char *name, error *e)
{
    char **names, file[NAME_MAX];
    if (strchr(name, '/') || strstr(name, ".json")) return sure(strdup(name));
    const int n = sweep_suite_names(&names, e);
    if (n < 0) return NULL;
    char *path = NULL;
    for (int i = 0; i < n; i++)
        if (!strcmp(names[i], name)) {
            char *folder = sweep_suites_folder(e);
            snprintf(file, sizeof file, "%s.json", name);
            path = folder ? path_join(folder, file) : NULL;
            free(folder);
        }
    if (!path) {
        const char *near =
            error_nearest(name, (const char *const *)names, n);
        error_set(e, "--suite: there is no suite '%s'%s%s%s; 'attnbench list "
                     "suites' shows all",
                  name, near ? "; did you mean '" : "", near ? near : "",
                  near ? "'?" : "");
    }
    sweep_suite_names_free(names, n);
    return path;
}

/* ---- what ---------------------------------------------------------------- */

/* Where in the file a value stands, for messages. */
typedef struct place {
    const char *path;
    char key[160];
    error *e;
} place;

__attribute__((format(printf, 2, 3)))
static int refuse(const place *at, const char *format, ...)
{
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return error_set(at->e, "%s: %s: %s", at->path, at->key, what);
}

static place inside(const place *outer, const char *key)
{
    place p = *outer;
    snprintf(p.key, sizeof p.key, "%.70s%s%.70s", outer->key,
             *outer->key ? "." : "",
             key);
    return p;
}

/* Every member must be one of the keys, once. */
static int check_keys(const json *object, const char *const *keys, int n,
                      const place *at)
{
    if (!json_is_object(object)) return refuse(at, "must be an object {...}");
    for (const json *x = json_first(object); x; x = json_next(x)) {
        const char *key = json_key(x);
        const place here = inside(at, key);
        bool known = false;
        for (int i = 0; i < n; i++) known |= !strcmp(keys[i], key);
        if (!known) {
            const char *near = error_nearest(key, keys, n);
            return refuse(&here, "unknown key%s%s%s",
                          near ? "; did you mean '" : "", near ? near : "",
                          near ? "'?" : "");
        }
        if (json_get(object, key) != x)
            return refuse(&here, "stands there twice");
    }
    return 0;
}

static int read_number(const json *object, const char *key, double least,
                       double most, const place *at, double *out)
{
    const json *x = json_get(object, key);
    const place here = inside(at, key);
    if (!x) return 0;
    const double v = json_number(x, NAN);
    if (!(v >= least && v <= most))
        return refuse(&here, "must be a number from %g to %g", least, most);
    *out = v;
    return 0;
}

static int read_settings(const json *object, const place *at,
                         sweep_settings *out)
{
    double processes = out->processes, passes = out->passes;
    if (read_number(object, "time", 0.001, 1e6, at, &out->seconds) < 0 ||
        read_number(object, "timeout", 0.1, 1e6, at, &out->timeout) < 0 ||
        read_number(object, "ci", 1e-6, 1, at, &out->ci) < 0 ||
        read_number(object, "check", 0, 1e15, at, &out->check) < 0 ||
        read_number(object, "processes", 1, 100, at, &processes) < 0 ||
        read_number(object, "passes", 1, 100, at, &passes) < 0)
        return -1;
    out->processes = (int)processes;
    out->passes = (int)passes;
    return 0;
}

static int read_patterns(const json *object, const char *key, const place *at,
                         sweep_patterns *out)
{
    const json *list = json_get(object, key);
    const place here = inside(at, key);
    error why;
    if (!list) return 0;
    if (!json_is_array(list))
        return refuse(&here, "must be a list of patterns, as in [\"*.flash\"]");
    for (const json *x = json_first(list); x; x = json_next(x)) {
        if (!json_text(x)) return refuse(&here, "patterns must be strings");
        if (sweep_patterns_add(out, json_text(x), &why) < 0)
            return refuse(&here, "%s", why.text);
    }
    return 0;
}

static int read_axis(const json *value, const place *at, axes *out)
{
    char text[ATT_TEXT];
    error why;
    const int number = axes_find(json_key(value));
    if (number < 0) {
        const char *names[AXES];
        for (int i = 0; i < AXES; i++) names[i] = axes_name(i);
        const char *near = error_nearest(json_key(value), names, AXES);
        return refuse(at, "unknown axis%s%s%s", near ? "; did you mean '" : "",
                      near ? near : "", near ? "'?" : "");
    }
    if (!json_text(value) && !json_is_number(value))
        return refuse(at, "must be a string (\"16,32\") or a number");
    snprintf(text, sizeof text, "%.12g", json_number(value, 0));
    if (axes_set(out, number, json_text(value) ? json_text(value) : text, NULL,
                 &why) < 0)
        return refuse(at, "%s", why.text);
    return 0;
}

static int read_axes(const json *block, const place *at, axes *out)
{
    const json *object = json_get(block, "axes");
    const place here = inside(at, "axes");
    if (!json_is_object(object))
        return refuse(&here,
                      "must be an object, as in {\"seq\": \"256,1024\"}");
    for (const json *x = json_first(object); x; x = json_next(x)) {
        const place axis_place = inside(&here, json_key(x));
        if (json_get(object, json_key(x)) != x)
            return refuse(&axis_place, "stands there twice");
        if (read_axis(x, &axis_place, out) < 0) return -1;
    }
    if (!out->of[AXIS_SEQ].count == !out->of[ATT_FIELD_grid].count)
        return refuse(&here, "needs either seq or grid");
    return 0;
}

static int read_block(const json *object, const place *at, sweep_block *out)
{
    static const char *const keys[] = { "brief",   "kernels", "not",
                                        "plain",   "axes",    "seconds",
                                        "time",    "timeout", "ci",
                                        "check",   "processes", "passes" };
    const place plain = inside(at, "plain");
    const json *text = json_get(object, "plain");
    if (check_keys(object, keys, sizeof keys / sizeof *keys, at) < 0 ||
        read_settings(object, at, &out->settings) < 0 ||
        read_number(object, "seconds", 0.1, 1e7, at, &out->seconds) < 0 ||
        read_patterns(object, "kernels", at, &out->kernels) < 0 ||
        read_patterns(object, "not", at, &out->not) < 0)
        return -1;
    if (json_get(object, "time") && json_get(object, "seconds"))
        return refuse(at, "has both time and seconds: keep one");
    if (text) {
        const int which = json_text(text) ? sweep_plain_parse(json_text(text))
                                          : -1;
        if (which < 0)
            return refuse(&plain, "must be \"all\", \"one\", \"fallback\", "
                                  "\"none\" or \"only\"");
        out->plain = (enum sweep_plain)which;
    }
    return read_axes(object, at, &out->axes);
}

static int read_blocks(const json *list, const place *at,
                       const sweep_settings *settings, sweep_suite *out)
{
    if (!json_is_array(list) || json_size(list) == 0)
        return refuse(at, "must be a list of at least one block [{...}]");
    out->block = sure(calloc((size_t)json_size(list), sizeof *out->block));
    for (const json *x = json_first(list); x; x = json_next(x)) {
        place here = *at;
        snprintf(here.key, sizeof here.key, "%.100s[%d]", at->key, out->count);
        sweep_block *block = &out->block[out->count++];
        block->settings = *settings;
        if (read_block(x, &here, block) < 0) return -1;
    }
    return 0;
}

static int read_suite(const json *j, const char *path, sweep_suite *out,
                      error *e)
{
    static const char *const keys[] = { "version", "brief", "blocks",
                                        "time",    "timeout", "ci",
                                        "check",   "processes", "passes" };
    const place top = { path, "", e };
    const place version = inside(&top, "version");
    const place blocks = inside(&top, "blocks");
    sweep_settings settings = sweep_settings_default;
    double v = 0;

    const place file = { path, "the file", e };
    if (!json_is_object(j)) return refuse(&file, "must be an object {...}");
    if (check_keys(j, keys, sizeof keys / sizeof *keys, &top) < 0) return -1;
    if (read_number(j, "version", 1, 1e6, &top, &v) < 0) return -1;
    if (v == 0 || v != floor(v))
        return refuse(&version,
                      "must be the suite's version, an integer from 1");
    out->version = (int)v;
    const char *brief = json_text(json_get(j, "brief"));
    out->brief = sure(strdup(brief ? brief : ""));
    if (read_settings(j, &top, &settings) < 0) return -1;
    return read_blocks(json_get(j, "blocks"), &blocks, &settings, out);
}

int sweep_suite_read(sweep_suite *s, const char *name, error *e)
{
    *s = (sweep_suite){ 0 };
    char *path = suite_path(name, e);
    if (!path) return -1;
    json *j = json_read_file(path, e);
    s->name = sure(strdup(name));
    const int rc = j ? read_suite(j, path, s, e) : -1;
    json_free(j);
    free(path);
    if (rc < 0) sweep_suite_free(s);
    return rc;
}

void sweep_suite_free(sweep_suite *s)
{
    for (int i = 0; i < s->count; i++) {
        sweep_patterns_free(&s->block[i].kernels);
        sweep_patterns_free(&s->block[i].not);
        axes_free(&s->block[i].axes);
    }
    free(s->block);
    free(s->name);
    free(s->brief);
    *s = (sweep_suite){ 0 };
}
