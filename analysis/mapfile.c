/* mapfile.c - one matrix as files. */
#include "mapfile.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/array.h"
#include "../harness/commands.h"
#include "../harness/file.h"
#include "../harness/machine.h"

/* ---- notes -------------------------------------------------------------- */

const char *mapfile_revision(void)
{
    static char revision[128];
    if (!*revision) {
        json *machine = machine_describe();
        const char *text = json_text(json_get(machine, "git_revision"));
        snprintf(revision, sizeof revision, "%s", text ? text : "-");
        json_free(machine);
    }
    return strcmp(revision, "-") ? revision : NULL;
}

void mapfile_note(mapfile_notes *n, const char *key, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(n->text[n->count], MAPFILE_TEXT, format, arguments);
    va_end(arguments);
    n->note[n->count] = (png_note){ key, n->text[n->count] };
    n->count++;
}

void mapfile_begin(mapfile_notes *n)
{
    n->count = 0;
    mapfile_note(n, "Software", "attnbench %s", ATTNBENCH_VERSION);
    if (mapfile_revision())
        mapfile_note(n, "Revision", "%s", mapfile_revision());
}

/* ---- files -------------------------------------------------------------- */

char *mapfile_path(const char *dir, const char *stem, const char *end)
{
    char name[192];
    snprintf(name, sizeof name, "%s%s", stem, end);
    return path_join(dir, name);
}

/* "-log-max4.png". */
static void picture_end(const heatmap_scale *scale, size_t pool, char *out,
                        size_t size)
{
    static const char *const views[] = HEATMAP_VIEWS;
    int at = 0;
    if (scale->view != HEATMAP_LINEAR)
        at = snprintf(out, size, "-%s", views[scale->view]);
    if (pool > 1)
        at += snprintf(out + at, size - (size_t)at, "-max%zu", pool);
    snprintf(out + at, size - (size_t)at, ".png");
}

int mapfile_write(const char *dir, const char *stem, const double *a,
                  size_t rows, size_t columns, const heatmap_scale *scale,
                  mapfile_notes *notes, error *e)
{
    char text[MAPFILE_TEXT], end[48];
    const size_t dim[2] = { rows, columns }, pool = heatmap_pool(rows, columns);
    heatmap_describe(scale, text, sizeof text);
    mapfile_note(notes, "Scale", "%s", text);
    if (pool > 1)
        mapfile_note(notes, "Pooling",
                     "entry of largest magnitude of %zu x %zu cells", pool,
                     pool);
    picture_end(scale, pool, end, sizeof end);
    char *png = mapfile_path(dir, stem, end);
    char *npy = mapfile_path(dir, stem, ".npy");
    int rc = npy_write(npy, ARRAY_F64, 2, dim, a, e);
    if (rc == 0)
        rc = heatmap_write(png, a, rows, columns, scale, notes->note,
                           notes->count, e);
    free(png);
    free(npy);
    return rc;
}

int mapfile_relative(const char *dir, const char *stem, const metrics *m,
                     error *e)
{
    const metrics_grid *g = &m->grid;
    size_t dim[3] = { 0 };
    if (!m->relative) return 0;
    for (int a = 0; a < g->axes; a++) dim[a] = 2 * (size_t)g->side[a] - 1;
    char *path = mapfile_path(dir, stem, "-relative.npy");
    const int rc = npy_write(path, ARRAY_F64, g->axes, dim, m->relative, e);
    free(path);
    return rc;
}

int mapfile_picture(const char *dir, const char *name, const picture *p,
                    error *e)
{
    const size_t n = (size_t)p->width * (size_t)p->height;
    uint8_t *pixels = malloc(3 * n);
    if (!pixels) return error_set(e, "not enough memory for the picture");
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < 3; c++)
            pixels[3 * i + c] = (uint8_t)lround(
                255 * p->sample[p->channels == 3 ? 3 * i + c : i]);
    const png_target image = { .width = p->width, .height = p->height,
                               .pixels = pixels };
    char *path = path_join(dir, name);
    const int rc = png_write_rgb(path, &image, e);
    free(path);
    free(pixels);
    return rc;
}

/* ---- JSON --------------------------------------------------------------- */

json *mapfile_scale(const heatmap_scale *s)
{
    json *j = json_object();
    json_put_text(j, "of", heatmap_label(s));
    json_put_number(j, "lo", s->lo);
    json_put_number(j, "hi", s->hi);
    json_put_bool(j, "diverging", s->diverging);
    json_put_number(j, "cells", s->cells);
    json_put_number(j, "cells_below_lo", s->below);
    json_put_number(j, "cells_above_hi", s->above);
    json_put_number(j, "clip_percentile", s->clip);
    json_put_number(j, "largest", s->largest);
    return j;
}

static json *list_json(const att_list *list)
{
    json *j = json_array();
    for (int i = 0; i < list->n; i++) json_push_number(j, list->v[i]);
    return j;
}

json *mapfile_problem(const att_mechanism *m, const att_problem *p)
{
    json *j = json_object();
    char text[ATT_TEXT];
#define PUT_INT(field)  json_put_number(j, #field, p->field)
#define PUT_REAL(field) json_put_number(j, #field, p->field)
#define PUT_LIST(field) json_put(j, #field, list_json(&p->field))
#define PUT_ENUM(field)                                                        \
    (att_get(p, ATT_FIELD_##field, text), json_put_text(j, #field, text))
#define PUT(kind, field, s, o, d, h)                                           \
    if (att_uses(m, ATT_FIELD_##field)) PUT_##kind(field);
    ATT_PROBLEM_FIELDS(PUT)
#undef PUT
#undef PUT_ENUM
#undef PUT_LIST
#undef PUT_REAL
#undef PUT_INT
    return j;
}

void mapfile_problem_text(const att_mechanism *m, const att_problem *p,
                          char *out, size_t size)
{
    size_t at = 0;
    *out = 0;
    for (int f = 0; f < ATT_FIELD_COUNT && at < size; f++) {
        char text[ATT_TEXT];
        const bool always = f == ATT_FIELD_grid || f == ATT_FIELD_head_dim ||
                            f == ATT_FIELD_heads;
        if (!att_uses(m, f) ||
            (!always && att_is_default(p, f)))
            continue;
        att_get(p, f, text);
        at += (size_t)snprintf(out + at, size - at, "%s%s=%s", at ? " " : "",
                               att_fields[f].name, text);
    }
}
