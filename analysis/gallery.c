/* gallery.c - maps of many mechanisms side by side. */
#include "gallery.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/commands.h"
#include "../harness/file.h"
#include "mapfigure.h"

enum { ACROSS = 6 };

static gallery_item *add(gallery *g, const att_mechanism *m)
{
    gallery_item *item =
        realloc(g->item, (size_t)(g->count + 1) * sizeof *item);
    if (!item) abort();
    g->item = item;
    item += g->count++;
    *item = (gallery_item){ .mechanism = m };
    return item;
}

void gallery_add_missing(gallery *g, const att_mechanism *m, const char *why)
{
    gallery_item *item = add(g, m);
    snprintf(item->why, sizeof item->why, "%s", why);
}

void gallery_add(gallery *g, const mapset *s)
{
    gallery_item *item = add(g, s->values.mechanism);
    const mapset_item *first = &s->item[0], *whole = mapset_whole(s);
    item->agreement = s->agreement;
    item->shift = s->shift;
    item->fields = s->fields;
    item->pooled = heatmap_pool(s->shape.rows, s->shape.columns) > 1;
    snprintf(item->problem, sizeof item->problem, "%s", s->problem);
    snprintf(item->stem, sizeof item->stem, "%s", whole->stem);
    snprintf(item->figure, sizeof item->figure, "%s-%s", item->mechanism->name,
             whole == first ? "maps" : "parts");
    metrics_mean(&first->m, 1, &item->attention);
    metrics_mean(&whole->m, 1, &item->whole);
    for (size_t i = 0; i < s->shape.rows * s->shape.columns; i++)
        item->largest = fmax(item->largest, fabs(whole->a[i]));
}

void gallery_free(gallery *g)
{
    for (int i = 0; i < g->count; i++) {
        metrics_free(&g->item[i].attention);
        metrics_free(&g->item[i].whole);
    }
    free(g->item);
    *g = (gallery){ 0 };
}

/* ---- contact sheets ----------------------------------------------------- */

/* Tiles of every mechanism that has one; returns their number, and the scale of
 * the uniform view that holds all of them. */
static int make_tiles(const gallery *g, bool relative, mapfigure_tile *tile,
                      heatmap_scale *scale)
{
    int n = 0;
    double most = 0.1;
    for (int i = 0; i < g->count; i++) {
        const gallery_item *item = &g->item[i];
        const metrics *m = &item->whole;
        if (item->why[0] || (relative && (!m->relative || m->grid.axes != 2)))
            continue;
        mapfigure_tile *t = &tile[n++];
        *t = (mapfigure_tile){ .rows = m->rows, .columns = m->columns,
                               .keys = m->columns };
        if (relative) {
            t->rows = 2 * (size_t)m->grid.side[0] - 1;
            t->columns = 2 * (size_t)m->grid.side[1] - 1;
        }
        snprintf(t->title, sizeof t->title, "%s", item->mechanism->name);
        snprintf(t->file, sizeof t->file, "%s/%s%s.npy", item->mechanism->name,
                 item->stem, relative ? "-relative" : "");
        double largest = relative ? 0 : item->largest;
        for (size_t k = 0; relative && k < t->rows * t->columns; k++)
            largest = fmax(largest, fabs(m->relative[k]));
        most = fmax(most, fabs(log2(largest * (double)m->columns)));
    }
    *scale = (heatmap_scale){ .view = HEATMAP_UNIFORM, .diverging = true,
                              .lo = -most, .hi = most, .columns = 1 };
    return n;
}

static int draw_sheet(const gallery *g, const char *dir, bool relative,
                      unsigned formats, error *e)
{
    char comment[256];
    heatmap_scale scale;
    mapfigure_tile *tile = malloc((size_t)(g->count + 1) * sizeof *tile);
    if (!tile) abort();
    snprintf(comment, sizeof comment,
             "attnbench %s: %s of every mechanism, head 0, with its "
             "convolution, log2 relative to uniform attention",
             ATTNBENCH_VERSION,
             relative ? "averaged relative maps" : "effective matrices");
    const int n = make_tiles(g, relative, tile, &scale);
    const mapfigure_sheet s = {
        .dir = dir, .name = relative ? "relative" : "sheet",
        .comment = comment, .tile = tile, .tiles = n,
        .across = n < ACROSS ? n : ACROSS, .scale = &scale,
    };
    const int rc = n ? mapfigure_sheet_draw(&s, formats, e) : 0;
    free(tile);
    return rc;
}

static int draw_boxes(const gallery *g, const char *dir, unsigned formats,
                      error *e)
{
    char comment[128];
    int n = 0;
    mapfigure_box *box = malloc((size_t)(g->count + 1) * sizeof *box);
    if (!box) abort();
    for (int i = 0; i < g->count; i++) {
        if (g->item[i].why[0]) continue;
        snprintf(box[n].name, sizeof box[n].name, "%s",
                 g->item[i].mechanism->name);
        memcpy(box[n].quartile, g->item[i].attention.entropy_quartile,
               sizeof box[n].quartile);
        n++;
    }
    snprintf(comment, sizeof comment,
             "attnbench %s: row entropy of the attention part, head 0",
             ATTNBENCH_VERSION);
    const int rc = n ? mapfigure_boxes_draw(dir, "entropy", comment,
                                            "row entropy / ln M", box, n,
                                            formats, e)
                     : 0;
    free(box);
    return rc;
}

/* ---- index -------------------------------------------------------------- */

static void number(FILE *f, double x, int digits)
{
    if (isnan(x)) fputs(" - |", f);
    else fprintf(f, " %.*f |", digits, x);
}

static void write_row(FILE *f, const gallery_item *item)
{
    const char *name = item->mechanism->name;
    const metrics *a = &item->attention, *w = &item->whole;
    if (item->why[0]) return;
    fprintf(f, "| [%s](%s/%s.svg) | ", name, name, item->figure);
    if (!item->pooled)
        fprintf(f, "<img src=\"%s/%s.png\" width=\"98\" alt=\"%s\">", name,
                item->stem, name);
    fputs(" |", f);
    number(f, a->rank_f64, 0);
    number(f, a->rank_1e3, 0);
    number(f, a->erank, 1);
    number(f, w->rank_f64, 0);
    number(f, a->entropy_norm, 3);
    number(f, a->support, 1);
    number(f, a->maxw, 3);
    number(f, a->top5, 3);
    number(f, a->dist, 2);
    number(f, a->mass_r1, 3);
    fprintf(f, " %s%s |\n", item->problem, a->renormalised ? " *" : "");
}

/* Tokens seen after so many layers. */
static double field_after(const locality_field *f, int layers)
{
    if (f->layers == 0) return NAN;
    return f->mean[(layers < f->layers ? layers : f->layers) - 1];
}

static void write_fields(FILE *f, const locality_field *field)
{
    for (int layers = 1; layers <= 8; layers *= 2)
        number(f, field_after(field, layers), 1);
    fputc('\n', f);
}

static void error_number(FILE *f, double x)
{
    if (isnan(x)) fputs(" - |", f);
    else if (x < 1e-12) fputs(" exact |", f);
    else fprintf(f, " %.2g |", x);
}

static void write_locality(FILE *f, const gallery *g)
{
    fputs("\n## What moves with the picture, and how far a token sees\n\n"
          "The input moved by one cell along every axis against the output "
          "moved likewise: largest difference / largest output, over cells that "
          "see neither border nor seam (inside; a dash: there are none), and "
          "over all.  Receptive field: tokens that a token depends on after 1, "
          "2, 4, 8 layers with residual paths through any head, mean over "
          "tokens.  All layers are equal, but in rows that say what every second "
          "one is.\n\n"
          "| mechanism | reach | moved, inside | moved, all | field 1 | 2 | 4 "
          "| 8 |\n|---|---|---|---|---|---|---|---|\n", f);
    for (int i = 0; i < g->count; i++) {
        const gallery_item *item = &g->item[i];
        if (item->why[0]) continue;
        fprintf(f, "| %s |", item->mechanism->name);
        number(f, item->shift.exists ? item->shift.reach : NAN, 0);
        error_number(f, item->shift.interior);
        error_number(f, item->shift.all);
        write_fields(f, &item->fields.equal);
        if (item->fields.alternating.layers == 0) continue;
        fprintf(f, "| %s, every second layer %s | | | |", item->mechanism->name,
                item->fields.other);
        write_fields(f, &item->fields.alternating);
    }
}

static void write_missing(FILE *f, const gallery *g)
{
    bool any = false;
    for (int i = 0; i < g->count; i++) {
        if (!g->item[i].why[0]) continue;
        if (!any) fputs("\n## Without a map here\n\n", f);
        any = true;
        fprintf(f, "- %s\n", g->item[i].why);
    }
}

static void write_index(FILE *f, const gallery *g, const mapset_options *o)
{
    fprintf(f,
            "# Maps\n\nEffective matrices of head 0 on one picture (%s, seed "
            "%llu), made by attnbench %s.  Inputs are random projections of "
            "patches, parameters are %s: the maps show what the mechanisms do "
            "with the same input, not what they learn.  `metrics.json` in each "
            "folder says how every number is obtained.\n\n",
            o->image ? o->image : "built-in",
            (unsigned long long)o->seed, ATTNBENCH_VERSION,
            o->parameter_std > 0 ? "the untrained start plus noise"
                                 : "the untrained start");
    if (o->formats)
        fputs("![matrices](sheet.svg)\n\nMatrices, and below the averaged "
              "relative maps of those on 2-D grids (key minus query, the query "
              "in the middle): red is more than uniform attention gives, blue "
              "less.\n\n![relative maps](relative.svg)\n\n"
              "![row entropies](entropy.svg)\n\n", f);
    fputs("Rank (64): singular values above N 2^-52 of the largest; (1e-3): "
          "above 1e-3 of it; whole: with the convolution.  H: mean row entropy "
          "/ ln M.  Distances in cells, mass within Chebyshev radius 1.  An "
          "asterisk: rows are signed or do not sum to 1, entropy, masses and "
          "distances are of |A| divided by its row sums.\n\n"
          "| mechanism | map | rank (64) | rank (1e-3) | effective rank "
          "| whole | H | keys | max | top 5 % | distance | mass 1 | problem |\n"
          "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n", f);
    for (int i = 0; i < g->count; i++) write_row(f, &g->item[i]);
    write_locality(f, g);
    write_missing(f, g);
    fputs("\n## What the maps show\n\n", f);
    for (int i = 0; i < g->count; i++)
        if (!g->item[i].why[0])
            fprintf(f, "- **%s**: %s\n", g->item[i].mechanism->name,
                    g->item[i].mechanism->map);
}

int gallery_write(const gallery *g, const char *dir,
                  const mapset_options *options, error *e)
{
    file_writer w;
    int rc = 0;
    if (options->formats) {
        rc = draw_sheet(g, dir, false, options->formats, e);
        if (rc == 0) rc = draw_sheet(g, dir, true, options->formats, e);
        if (rc == 0) rc = draw_boxes(g, dir, options->formats, e);
    }
    if (rc < 0) return -1;
    char *path = path_join(dir, "index.md");
    rc = file_begin(&w, path, e);
    free(path);
    if (rc < 0) return -1;
    write_index(w.stream, g, options);
    return file_commit(&w, e);
}
