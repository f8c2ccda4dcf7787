/* mapset.c - the maps of one mechanism on one picture. */
#include "mapset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/commands.h"
#include "../harness/file.h"
#include "../harness/machine.h"
#include "given.h"
#include "mapfigure.h"
#include "mapfile.h"

/* Agreement between a matrix and its forward, both in double. */
#define AGREEMENT 1e-9

/* Percentile at which the colours of weights end: a few peaks would make all
 * else dark. */
#define CLIP 99.5

enum { PATCH = 16 };

const char *mapset_part(enum att_part part)
{
    static const char *const names[] = { "attention", "conv", "total" };
    return names[part];
}

/* ---- inputs ------------------------------------------------------------- */

/* As many pixels as a cell may have for the picture to stay in its limits. */
static int choose_patch(const picture_grid *g, int wanted)
{
    const double cells = (double)g->rows * g->columns;
    int patch = wanted ? wanted : PATCH;
    while (!wanted && patch > 1 &&
           (g->columns > PNG_SIDE / patch || g->rows > PNG_SIDE / patch ||
            cells * patch * patch > PNG_PIXELS))
        patch /= 2;
    return patch;
}

/* The built-in picture has the grid's aspect; a sequence's strips are cut from
 * one twice as wide as high. */
static int open_picture(const mapset *s, picture *out, error *e)
{
    const mapset_options *o = s->options;
    if (o->image) return picture_read(o->image, out, e);
    const int width = s->cells.columns * s->patch;
    int height = s->cells.rows * s->patch;
    if (s->cells.rows == 1) {
        height = width / 2 < 512 ? width / 2 : 512;
        if (height < s->patch) height = s->patch;
    }
    return picture_scene(width, height, o->seed, out, e);
}

static int make_inputs(mapset *s, error *e)
{
    picture p;
    tokens t;
    s->cells = picture_grid_of(&s->values.problem);
    s->patch = choose_patch(&s->cells, s->options->patch);
    if (open_picture(s, &p, e) < 0) return -1;
    error why;
    const int rc = tokens_make(&p, &s->cells, s->patch, &t, &why);
    picture_free(&p);
    if (rc < 0)
        return s->options->image
                   ? error_set(e, "%s: %s", s->options->image, why.text)
                   : error_set(e, "%s", why.text);
    tokens_project(&t, s->options->seed, &s->values);
    if (s->options->parameter_std > 0)
        matrix_disturb(&s->values, s->options->parameter_std,
                       s->options->seed);
    s->shown = t.shown;
    t.shown = (picture){ 0 };
    tokens_free(&t);
    for (int i = 0; i < s->options->given_count; i++)
        if (given_parameter(&s->values, s->options->given[i], e) < 0)
            return -1;
    return 0;
}

/* ---- matrices ----------------------------------------------------------- */

static void name_item(const mapset *s, mapset_item *item)
{
    const att_mechanism *m = s->values.mechanism;
    char channel[32] = "";
    if (matrix_per_channel(m, item->part))
        snprintf(channel, sizeof channel,
                 s->options->channel == MATRIX_MEAN ? "-mean" : "-c%d",
                 s->options->channel);
    snprintf(item->stem, sizeof item->stem, "%s-h%d%s%s%s", m->name, item->head,
             item->part == ATT_PART_ATTENTION ? "" : "-",
             item->part == ATT_PART_ATTENTION ? "" : mapset_part(item->part),
             channel);
}

static int check_wishes(const mapset *s, const att_mechanism *m, error *e)
{
    const mapset_options *o = s->options;
    const char *name = m->name;
    if (o->head >= s->shape.heads)
        return error_set(e, "--head %d: %s has heads 0 to %d here", o->head,
                         name, s->shape.heads - 1);
    if (o->channel >= s->shape.channels)
        return error_set(e, "--channel %d: %s has channels 0 to %d here",
                         o->channel, name, s->shape.channels - 1);
    if (o->query >= 0 && (size_t)o->query >= s->shape.rows)
        return error_set(e, "--query %d: %s has queries 0 to %zu here",
                         o->query, name, s->shape.rows - 1);
    return 0;
}

static int count_items(const mapset *s, const att_mechanism *m)
{
    int parts = 0;
    for (int part = 0; part <= ATT_PART_TOTAL; part++)
        parts += matrix_has(m, (enum att_part)part);
    return (s->options->head < 0 ? s->shape.heads : 1) * parts;
}

/* All matrices, a copy for the singular values, and two more for sums. */
static int memory_suffices(const mapset *s, const att_mechanism *m, error *e)
{
    const int count = count_items(s, m);
    const double bytes = 8.0 * (count + 3.0) * (double)s->shape.rows *
                         (double)s->shape.columns;
    const double room = 0.8 * (double)machine_memory_free();
    if (bytes <= room) return 0;
    return error_set(e, "%s: %d maps of %zu x %zu need %.1f GB, %.1f GB are "
                        "free: use a smaller --grid or one --head",
                     m->name, count, s->shape.rows, s->shape.columns,
                     bytes / 1e9, room / 1e9);
}

static int make_item(mapset *s, int head, enum att_part part, error *e)
{
    mapset_item *item = &s->item[s->count++];
    const size_t n = s->shape.rows * s->shape.columns;
    item->head = head;
    item->part = part;
    name_item(s, item);
    item->a = malloc((n + 1) * sizeof *item->a);
    if (!item->a)
        return error_set(e, "not enough memory for a %zu x %zu map",
                         s->shape.rows, s->shape.columns);
    error why;
    int rc = matrix_get(&s->values, head, s->options->channel, part, item->a,
                        &why);
    if (rc == 0)
        rc = metrics_compute(item->a, s->shape.rows, s->shape.columns,
                             &s->shape.grid, s->options->divisor, true,
                             &item->m, &why);
    return rc < 0 ? error_set(e, "%s: %s", item->stem, why.text) : 0;
}

static int make_items(mapset *s, error *e)
{
    const att_mechanism *m = s->values.mechanism;
    const int first = s->options->head < 0 ? 0 : s->options->head;
    const int last = s->options->head < 0 ? s->shape.heads : first + 1;
    s->item = calloc((size_t)count_items(s, m), sizeof *s->item);
    if (!s->item) return error_set(e, "not enough memory for the maps");
    for (int h = first; h < last; h++)
        for (int part = 0; part <= ATT_PART_TOTAL; part++)
            if (matrix_has(m, (enum att_part)part) &&
                make_item(s, h, (enum att_part)part, e) < 0)
                return -1;
    return 0;
}

double mapset_clip(const mapset_options *o)
{
    if (o->clip >= 0) return o->clip;
    return o->view == HEATMAP_LINEAR ? CLIP : 100;
}

static void make_scale(const mapset *s, bool filters, heatmap_scale *out)
{
    const mapset_options *o = s->options;
    const double **a = malloc((size_t)s->count * sizeof *a);
    int n = 0;
    if (!a) abort();
    for (int i = 0; i < s->count; i++)
        if ((s->item[i].part != ATT_PART_ATTENTION) == filters)
            a[n++] = s->item[i].a;
    heatmap_scale_of(o->view, mapset_clip(o), a, n,
                     s->shape.rows * s->shape.columns, s->shape.columns, out);
    free(a);
}

const mapset_item *mapset_whole(const mapset *s)
{
    const mapset_item *whole = &s->item[0];
    for (int i = 1; i < s->count && s->item[i].head == whole->head; i++)
        if (s->item[i].part == ATT_PART_TOTAL) whole = &s->item[i];
    return whole;
}

int mapset_make(mapset *s, const att_mechanism *m, const att_problem *p,
                const mapset_options *options, error *e)
{
    *s = (mapset){ .options = options };
    if (!matrix_exists(m))
        return error_set(e, "%s has no effective matrix: %s", m->name, m->map);
    matrix_shape_of(m, p, &s->shape);
    if (check_wishes(s, m, e) < 0 || memory_suffices(s, m, e) < 0 ||
        matrix_open(&s->values, m, p, e) < 0)
        return -1;
    mapfile_problem_text(m, p, s->problem, sizeof s->problem);

    int rc = make_inputs(s, e);
    if (rc == 0)
        rc = matrix_compare(&s->values, options->probe, &s->agreement, e);
    if (rc == 0) rc = locality_shifted(&s->values, &s->shift, e);
    if (rc == 0) rc = make_items(s, e);
    if (rc == 0) rc = locality_fields_of(&s->values, &s->fields, e);
    if (rc < 0) {
        mapset_free(s);
        return -1;
    }
    make_scale(s, false, &s->weights);
    make_scale(s, true, &s->filters);
    s->query = options->query;
    if (s->query < 0) /* the middle of the middle row */
        s->query = att_height(&s->values.problem) / 2 *
                       att_width(&s->values.problem) +
                   att_width(&s->values.problem) / 2;
    if ((size_t)s->query >= s->shape.rows) s->query = 0;
    return 0;
}

void mapset_free(mapset *s)
{
    for (int i = 0; i < s->count; i++) {
        free(s->item[i].a);
        metrics_free(&s->item[i].m);
    }
    free(s->item);
    picture_free(&s->shown);
    check_values_free(&s->values);
    *s = (mapset){ 0 };
}

bool mapset_agrees(const mapset *s)
{
    const matrix_agreement *a = &s->agreement;
    return a->forward <= AGREEMENT && a->parts <= AGREEMENT &&
           (isnan(a->probe) || a->probe <= AGREEMENT);
}

/* ---- pictures ----------------------------------------------------------- */

static void channel_text(const mapset *s, enum att_part part, char *out,
                         size_t size)
{
    if (!matrix_per_channel(s->values.mechanism, part))
        snprintf(out, size, "all (the same)");
    else if (s->options->channel == MATRIX_MEAN)
        snprintf(out, size, "mean over channels 0 to %d",
                 s->shape.channels - 1);
    else snprintf(out, size, "%d", s->options->channel);
}

static const char *picture_name(const mapset *s)
{
    return s->options->image ? s->options->image : "built-in";
}

/* The first map of a head. */
static bool is_first(const mapset *s, int item)
{
    return item == 0 || s->item[item].head != s->item[item - 1].head;
}

static const heatmap_scale *scale_of(const mapset *s, const mapset_item *item)
{
    return item->part == ATT_PART_ATTENTION ? &s->weights : &s->filters;
}

static void make_notes(const mapset *s, const mapset_item *item,
                       mapfile_notes *n)
{
    char text[MAPFILE_TEXT];
    mapfile_begin(n);
    mapfile_note(n, "Mechanism", "%s", s->values.mechanism->name);
    mapfile_note(n, "Problem", "%s", s->problem);
    mapfile_note(n, "Map", "%s, head %d: row = query, column = key",
             mapset_part(item->part), item->head);
    channel_text(s, item->part, text, sizeof text);
    mapfile_note(n, "Channel", "%s", text);
    mapfile_note(n, "Seed", "%llu", (unsigned long long)s->options->seed);
    mapfile_note(n, "Picture", "%s", picture_name(s));
}

static int write_matrix(const mapset *s, const mapset_item *item,
                        const char *dir, error *e)
{
    mapfile_notes n;
    make_notes(s, item, &n);
    if (mapfile_relative(dir, item->stem, &item->m, e) < 0) return -1;
    return mapfile_write(dir, item->stem, item->a, s->shape.rows,
                         s->shape.columns, scale_of(s, item), &n, e);
}

/* Whether a row of a matrix is a map of the picture's cells. */
static bool over_picture(const mapset *s)
{
    return s->shape.grid.axes > 0 && s->cells.frames == 1 && s->cells.rows > 1;
}

static int write_overlay(const mapset *s, const mapset_item *item,
                         const char *dir, error *e)
{
    const double *row = item->a + (size_t)s->query * s->shape.columns;
    double most = 0;
    mapfile_notes n;
    for (size_t j = 0; j < s->shape.columns; j++)
        most = fmax(most, fabs(row[j]));
    make_notes(s, item, &n);
    mapfile_note(&n, "Query", "%d, row %d, column %d", s->query,
             s->query / s->cells.columns, s->query % s->cells.columns);
    mapfile_note(&n, "Scale", "|A_ij| of this query from 0 to %.6g", most);
    char *path = mapfile_path(dir, item->stem, "-query.png");
    const int rc =
        heatmap_overlay(path, &s->shown, row, s->cells.rows, s->cells.columns,
                        s->query, n.note, n.count, e);
    free(path);
    return rc;
}

/* ---- figures ------------------------------------------------------------ */

static void make_panel(const mapset *s, const mapset_item *item, char *file,
                       size_t size, mapfigure_panel *out)
{
    char channel[48] = "";
    snprintf(file, size, "%s.npy", item->stem);
    if (matrix_per_channel(s->values.mechanism, item->part))
        snprintf(channel, sizeof channel,
                 s->options->channel == MATRIX_MEAN ? ", channel mean"
                                                    : ", channel %d",
                 s->options->channel);
    out->file = file;
    out->m = &item->m;
    snprintf(out->title, sizeof out->title, "head %d%s%s%s", item->head,
             item->part == ATT_PART_ATTENTION ? "" : ", ",
             item->part == ATT_PART_ATTENTION ? "" : mapset_part(item->part),
             channel);
}

/* Attention of the first heads; or, with a convolution, the three parts of the
 * first one. */
static int draw_figure(const mapset *s, const char *dir, bool filters, error *e)
{
    mapfigure_panel panel[MAPFIGURE_PANELS];
    char file[MAPFIGURE_PANELS][128], picture_file[96], name[96], comment[512];
    int n = 0;
    for (int i = 0; i < s->count && n < MAPFIGURE_PANELS; i++) {
        if (filters ? s->item[i].head != s->item[0].head : !is_first(s, i))
            continue;
        make_panel(s, &s->item[i], file[n], sizeof file[n], &panel[n]);
        n++;
    }
    snprintf(name, sizeof name, "%s-%s", s->values.mechanism->name,
             filters ? "parts" : "maps");
    snprintf(picture_file, sizeof picture_file, "%s-picture.png",
             s->values.mechanism->name);
    snprintf(comment, sizeof comment,
             "attnbench %s: effective matrices of %s\n%s\npicture: %s, seed "
             "%llu",
             ATTNBENCH_VERSION, s->values.mechanism->name, s->problem,
             picture_name(s), (unsigned long long)s->options->seed);
    const mapfigure f = {
        .dir = dir, .name = name, .comment = comment,
        .panel = panel, .panels = n,
        .scale = scale_of(s, &s->item[filters ? 1 : 0]),
        .query = s->query,
        .rows = s->cells.frames * s->cells.rows, .columns = s->cells.columns,
        .on_grid = s->shape.grid.axes > 0,
        .picture = picture_file, .patch = s->patch,
    };
    return mapfigure_draw(&f, s->options->formats, e);
}

/* ---- metrics.json ------------------------------------------------------- */

static json *inputs_json(const mapset *s)
{
    json *j = json_object();
    json_put_text(j, "picture", picture_name(s));
    json_put_number(j, "patch", s->patch);
    json_put_number(j, "seed", (double)s->options->seed);
    json_put_text(j, "how", tokens_how());
    json_put_text(j, "parameters",
                  s->options->parameter_std > 0
                      ? "seeded default values plus N(0, parameter_std)"
                      : "seeded default values, untrained");
    json_put_number(j, "parameter_std", s->options->parameter_std);
    json *given = json_array();
    for (int i = 0; i < s->options->given_count; i++)
        json_push_text(given, s->options->given[i]);
    json_put(j, "given", given);
    return j;
}

static json *agreement_json(const mapset *s)
{
    const matrix_agreement *a = &s->agreement;
    json *j = json_object();
    json_put_number(j, "forward", a->linear ? a->forward : NAN);
    json_put_number(j, "probe", a->probe);
    json_put_number(j, "parts", a->parts);
    json_put_number(j, "row_sum", a->row_sum);
    json_put_number(j, "least", a->least);
    json_put_text(j, "how",
                  "forward: largest |gain (A v) + offset - o| / (1 + |o|) over "
                  "all heads and channels, o by the reference; probe: largest "
                  "difference to the columns that unit vectors give, null if "
                  "not asked for; parts: |attention + conv - total|; row_sum: "
                  "largest distance of a row's sum from 1 where the mechanism "
                  "promises 1; least: smallest weight where it promises none "
                  "below 0");
    return j;
}

static json *shift_json(const mapset *s)
{
    json *j = json_object();
    json_put_number(j, "all", s->shift.all);
    json_put_number(j, "interior", s->shift.interior);
    json_put_number(j, "reach", s->shift.exists ? s->shift.reach : NAN);
    json_put_text(j, "how",
                  "input moved by one cell along every axis, cyclically, "
                  "against the output moved likewise: largest |difference| / "
                  "largest |output|; interior: cells that see neither a border "
                  "nor the seam, null if there are none; reach: cells from the "
                  "middle query to its farthest key of any head with a weight "
                  "of at least 2^-126; parameters that belong to "
                  "places do not move");
    return j;
}

static json *layers_json(const double *x, int layers)
{
    json *j = json_array();
    for (int l = 0; l < layers; l++) json_push_number(j, x[l]);
    return j;
}

static json *field_json(const locality_fields *f)
{
    json *j = json_object(), *turns = NULL;
    json_put(j, "mean", layers_json(f->equal.mean, f->equal.layers));
    json_put(j, "middle", layers_json(f->equal.middle, f->equal.layers));
    if (f->alternating.layers) {
        const locality_field *a = &f->alternating;
        turns = json_object();
        json_put_text(turns, "every_second_layer", f->other);
        json_put(turns, "mean", layers_json(a->mean, a->layers));
        json_put(turns, "middle", layers_json(a->middle, a->layers));
    }
    json_put(j, "alternating", turns);
    json_put_text(j, "how",
                  "tokens that a token depends on after 1, 2, ... layers, each "
                  "with the union of all heads' entries of at least 2^-126 "
                  "(channel 0 where channels differ, with the convolution) and "
                  "a residual path; mean over tokens, and of the middle one; "
                  "all layers are equal; alternating: every second layer is as "
                  "every_second_layer says, null where models of this mechanism "
                  "have equal layers or vary what is no option here; the list "
                  "ends where it stays the same, or after 12, and is empty where "
                  "queries and keys are not the same tokens or more than 4096");
    return j;
}

/* The attention part of a head (or what it has instead); its convolution and
 * total are members `conv` and `eff` (effective). */
static json *head_json(const mapset *s, int first)
{
    const mapset_item *item = &s->item[first];
    char text[MAPFILE_TEXT];
    json *j = metrics_json(&item->m);
    json_put_number(j, "head", item->head);
    channel_text(s, item->part, text, sizeof text);
    json_put_text(j, "channel", text);
    json_put_text(j, "files", item->stem);
    for (int i = first + 1; i < s->count && !is_first(s, i); i++) {
        json *part = metrics_json(&s->item[i].m);
        channel_text(s, s->item[i].part, text, sizeof text);
        json_put_text(part, "channel", text);
        json_put_text(part, "files", s->item[i].stem);
        json_put(j, s->item[i].part == ATT_PART_TOTAL ? "eff" : "conv", part);
    }
    return j;
}

static json *mapset_json(const mapset *s)
{
    const att_mechanism *m = s->values.mechanism;
    json *j = json_object(), *layers = json_array(), *heads = json_array();
    json_put_text(j, "kind", "map");
    json_put_number(j, "schema", 1);
    json_put_text(j, "attnbench", ATTNBENCH_VERSION);
    json_put_text(j, "git_revision", mapfile_revision());
    json_put_text(j, "mechanism", m->name);
    json_put_text(j, "map", m->map);
    json_put(j, "problem", mapfile_problem(m, &s->values.problem));
    json_put(j, "inputs", inputs_json(s));
    json_put_text(j, "matrix_from", m->rows ? "row function" : "probe");
    json_put(j, "check", agreement_json(s));
    json_put(j, "scale", mapfile_scale(scale_of(s, &s->item[0])));
    if (matrix_has(m, ATT_PART_TOTAL))
        json_put(j, "scale_conv_total", mapfile_scale(&s->filters));
    json_put(j, "shift_equivariance", shift_json(s));
    json_put(j, "receptive_field", field_json(&s->fields));
    json_put_text(j, "relmap_divisor",
                  s->options->divisor == METRICS_VALID ? "valid" : "all");
    json_put_number(j, "query", s->query);
    for (int i = 0; i < s->count; i++)
        if (is_first(s, i)) json_push(heads, head_json(s, i));
    json_push(layers, heads);
    json_put(j, "layers", layers);
    json *how = metrics_how(s->options->divisor);
    if (matrix_has(m, ATT_PART_TOTAL)) {
        json_put_text(how, "conv", "the same numbers of the convolution beside "
                                   "the attention");
        json_put_text(how, "eff", "the same numbers of A plus the convolution");
    }
    json_put(j, "how", how);
    return j;
}

/* ---- all files ---------------------------------------------------------- */

static int write_figures(const mapset *s, const char *dir, error *e)
{
    char name[96];
    snprintf(name, sizeof name, "%s-picture.png", s->values.mechanism->name);
    if (mapfile_picture(dir, name, &s->shown, e) < 0) return -1;
    if (draw_figure(s, dir, false, e) < 0) return -1;
    if (!matrix_has(s->values.mechanism, ATT_PART_TOTAL)) return 0;
    return draw_figure(s, dir, true, e);
}

int mapset_write(const mapset *s, const char *dir, error *e)
{
    int rc = 0;
    for (int i = 0; i < s->count && rc == 0; i++) {
        rc = write_matrix(s, &s->item[i], dir, e);
        if (rc == 0 && over_picture(s))
            rc = write_overlay(s, &s->item[i], dir, e);
    }
    if (rc == 0 && s->options->formats) rc = write_figures(s, dir, e);
    if (rc < 0) return -1;
    char *path = path_join(dir, "metrics.json");
    json *j = mapset_json(s);
    rc = json_write_file(path, j, e);
    json_free(j);
    free(path);
    return rc;
}

/* ---- table -------------------------------------------------------------- */

void mapset_print(const mapset *s, FILE *out)
{
    int wide = 3;
    for (int i = 0; i < s->count; i++)
        if ((int)strlen(s->item[i].stem) > wide)
            wide = (int)strlen(s->item[i].stem);
    metrics_print_head(out, wide);
    for (int i = 0; i < s->count; i++)
        metrics_print(out, wide, s->item[i].stem, &s->item[i].m);
    int heads = 0;
    for (int i = 0; i < s->count; i++) heads += is_first(s, i);
    if (s->options->formats && heads > MAPFIGURE_PANELS)
        fprintf(out, "%s-maps shows the first %d of %d heads; every head has its "
                     ".png and .npy\n",
                s->values.mechanism->name, MAPFIGURE_PANELS, heads);
}
