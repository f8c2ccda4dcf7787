#include "zooweights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/array.h"

/* The name that timm gives to a tensor. */
static void timm_name(const zoo_model *m, const char *name, char *out,
                      size_t size)
{
    const char *replacement = "";
    size_t longest = 0;
    const json *list = json_get(m->file, "timm");
    for (const json *j = json_first(list); j; j = json_next(j)) {
        const size_t length = strlen(json_key(j));
        if (json_text(j) && length > longest &&
            !strncmp(name, json_key(j), length)) {
            longest = length;
            replacement = json_text(j);
        }
    }
    snprintf(out, size, "%s%s", replacement, name + longest);
}

/* Is `from` the transpose of t, as timm stores tables of position biases? */
static bool is_turned(const array *from, const net_tensor *t)
{
    return from->dims == 2 && t->dims >= 2 &&
           from->dim[1] == (size_t)t->dim[0] &&
           from->dim[0] != (size_t)t->dim[0];
}

static int load(const zoo_model *m, const archive *a, const char *path,
                const net_tensor *t, float *out, error *e)
{
    char name[192];
    timm_name(m, t->name, name, sizeof name);
    const array *from = archive_find(a, name);
    if (!from)
        return error_set(e, "%s: has no tensor %s, which %s needs (%s)", path,
                         name, m->name, t->name);
    if (from->elements != t->elements)
        return error_set(e, "%s: tensor %s has %zu elements; %s has %zu", path,
                         name, from->elements, m->name, t->elements);
    float *x = malloc(t->elements * sizeof *x);
    if (!x) return error_set(e, "%s: out of memory for %s", path, name);
    array_to_float(from, x);
    const bool turned = is_turned(from, t);
    const size_t rows = (size_t)t->dim[0], columns = t->elements / rows;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < t->elements; i++) {
        out[i] = turned ? x[i % columns * rows + i / columns] : x[i];
        if (!isfinite(out[i]))
            rc = error_set(e, "%s: tensor %s, element %zu is not finite", path,
                           name, i);
    }
    free(x);
    return rc;
}

int zoo_weights(const zoo_model *m, const char *path, float *weights, error *e)
{
    const network *n = &m->network;
    archive a;
    int rc = 0;
    if (!json_is_object(json_get(m->file, "timm")))
        return error_set(e, "%s: has no member \"timm\" that says how a "
                            "checkpoint names its tensors", m->path);
    if (archive_read(&a, path, e)) return -1;
    for (int i = 0; rc == 0 && i < n->tensor_count; i++)
        rc = load(m, &a, path, &n->tensors[i],
                  weights + n->tensors[i].offset, e);
    archive_free(&a);
    return rc;
}
