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
    const char *start = "", *end = "";
    const size_t all = strlen(name);
    size_t first = 0, last = 0; /* characters replaced                      */
    const json *list = json_get(m->file, "timm");
    for (const json *j = json_first(list); j; j = json_next(j)) {
        const char *key = json_key(j), *text = json_text(j);
        const size_t length = strlen(key);
        if (!text || length > all) continue;
        if (*key == '.' && !strcmp(name + all - length, key)) {
            last = length;
            end = text;
        } else if (length > first && !strncmp(name, key, length)) {
            first = length;
            start = text;
        }
    }
    if (first + last > all) last = 0, end = "";
    snprintf(out, size, "%s%.*s%s", start, (int)(all - first - last),
             name + first, end);
}

/* Extents of 1 aside: [1][197][192] is [197][192]. */
static bool same_shape(const array *from, const net_tensor *t)
{
    int i = 0, k = 0;
    for (;;) {
        while (i < from->dims && from->dim[i] == 1) i++;
        while (k < t->dims && t->dim[k] == 1) k++;
        if (i == from->dims || k == t->dims)
            return i == from->dims && k == t->dims;
        if (from->dim[i++] != (size_t)t->dim[k++]) return false;
    }
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
    if (!same_shape(from, t))
        return error_set(e,
                         "%s: tensor %s (%zu values) has another shape than "
                         "%s of %s (%zu values)",
                         path, name, from->elements, t->name, m->name,
                         t->elements);
    array_to_float(from, out);
    for (size_t i = 0; i < t->elements; i++)
        if (!isfinite(out[i]))
            return error_set(e, "%s: tensor %s, element %zu is not finite",
                             path, name, i);
    return 0;
}

/* What checkpoints hold beside weights: tables that follow from the shapes, and
 * counters of training. */
static bool is_buffer(const char *name)
{
    static const char *const ends[] = { "relative_position_index", "attn_mask",
                                        "num_batches_tracked" };
    const size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const size_t k = strlen(ends[i]);
        if (n >= k && !strcmp(name + n - k, ends[i])) return true;
    }
    return false;
}

/* A tensor that the model has not means that it is another model's. */
static int check_all_used(const zoo_model *m, const archive *a, error *e)
{
    const network *n = &m->network;
    bool *used = calloc((size_t)a->count + 1, sizeof *used);
    if (!used) return error_set(e, "%s: not enough memory", a->path);
    for (int i = 0; i < n->tensor_count; i++) {
        char name[192];
        timm_name(m, n->tensors[i].name, name, sizeof name);
        const array *from = archive_find(a, name);
        if (from) used[from - a->items] = true;
    }
    int rc = 0;
    for (int i = 0; rc == 0 && i < a->count; i++)
        if (!used[i] && !is_buffer(a->items[i].name))
            rc = error_set(e, "%s: tensor %s is not part of %s", a->path,
                           a->items[i].name, m->name);
    free(used);
    return rc;
}

int zoo_weights(const zoo_model *m, const char *path, float *weights, error *e)
{
    const network *n = &m->network;
    archive a;
    int rc = 0;
    if (!json_is_object(json_get(m->file, "timm")))
        return error_set(e,
                         "%s: has no member \"timm\" that says how a "
                         "checkpoint names its tensors",
                         m->path);
    if (archive_read(&a, path, e)) return -1;
    for (int i = 0; rc == 0 && i < n->tensor_count; i++)
        rc = load(m, &a, path, &n->tensors[i], weights + n->tensors[i].offset,
                  e);
    if (rc == 0) rc = check_all_used(m, &a, e);
    archive_free(&a);
    return rc;
}
