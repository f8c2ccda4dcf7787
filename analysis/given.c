#include "given.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../harness/array.h"
#include "picture.h"

/* "196 x 196" */
static const char *shape_text(int dims, const size_t *dim, char *out, size_t size)
{
    size_t at = 0;
    *out = 0;
    for (int a = 0; a < dims && at < size; a++)
        at += (size_t)snprintf(out + at, size - at, "%s%zu", a ? " x " : "",
                               dim[a]);
    return out;
}

static int check_shape(const char *file, const att_tensor *t, int dims,
                       const size_t *dim, error *e)
{
    size_t want[5];
    char has[128], needs[128];
    bool same = dims == t->dims;
    for (int a = 0; a < t->dims; a++) {
        want[a] = (size_t)t->dim[a];
        same = same && dim[a] == want[a];
    }
    if (same) return 0;
    return error_set(e, "%s: %s, but parameter '%s' of this problem is %s", file,
                     shape_text(dims, dim, has, sizeof has), t->name,
                     shape_text(t->dims, want, needs, sizeof needs));
}

static int from_npy(const char *file, const att_tensor *t, double *to, error *e)
{
    size_t dim[ARRAY_DIMS];
    int dims;
    double *data;
    if (npy_read(file, &dims, dim, &data, e) < 0) return -1;
    int rc = check_shape(file, t, dims, dim, e);
    for (size_t i = 0; rc == 0 && i < att_elements(t); i++) {
        to[i] = data[i];
        if (!isfinite(to[i]))
            rc = error_set(e, "%s: entry %zu is not a finite number", file, i);
    }
    free(data);
    return rc;
}

static int from_png(const char *file, const att_tensor *t, double *to, error *e)
{
    picture p;
    if (picture_read(file, &p, e) < 0) return -1;
    const size_t dim[] = { (size_t)p.height, (size_t)p.width };
    const int rc = check_shape(file, t, 2, dim, e);
    const int colours = p.channels;
    for (size_t i = 0; rc == 0 && i < att_elements(t); i++) {
        double light = 0;
        for (int c = 0; c < colours; c++)
            light += (double)p.sample[i * (size_t)p.channels + (size_t)c];
        to[i] = light > 0.5 * colours;
    }
    picture_free(&p);
    return rc;
}

static int find(const check_values *v, const char *name, size_t length, error *e)
{
    char all[256] = "";
    for (int i = 0; i < v->parameters; i++) {
        const att_tensor *t = &v->parameter[i];
        if (strlen(t->name) == length && !strncmp(t->name, name, length))
            return i;
        const size_t at = strlen(all);
        snprintf(all + at, sizeof all - at, "%s%s", i ? ", " : "", t->name);
    }
    return error_set(e, "--parameter %.*s: %s has no such parameter%s%s",
                     (int)length, name, v->mechanism->name,
                     *all ? "; it has " : "", all);
}

int given_parameter(check_values *v, const char *text, error *e)
{
    const char *file = strchr(text, '=');
    if (!file || file == text || !file[1])
        return error_set(e, "--parameter %s: write NAME=FILE.npy or NAME=FILE.png",
                         text);
    const int i = find(v, text, (size_t)(file - text), e);
    if (i < 0) return -1;
    const att_tensor *t = &v->parameter[i];
    const size_t length = strlen(++file);
    if (!v->param[i])
        return error_set(e, "--parameter %s: this problem needs no '%s'; see "
                            "'attnbench explain %s'",
                         text, t->name, v->mechanism->name);
    if (length > 4 && !strcasecmp(file + length - 4, ".npy"))
        return from_npy(file, t, v->param[i], e);
    if (length > 4 && !strcasecmp(file + length - 4, ".png"))
        return from_png(file, t, v->param[i], e);
    return error_set(e, "%s: neither .npy nor .png", file);
}
