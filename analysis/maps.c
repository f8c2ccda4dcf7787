/* maps.c - attnbench maps: effective attention matrices of mechanisms. */
#include <argp.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/axes.h"
#include "../harness/commands.h"
#include "../harness/file.h"
#include "../harness/names.h"
#include "../harness/progress.h"
#include "../harness/spelling.h"
#include "../plots/gnuplot.h"
#include "gallery.h"
#include "mapset.h"
#include "modelmaps.h"

/* ---- options ------------------------------------------------------------ */

enum {
    OPTION_AXIS = 0x1000, /* + number of the axis                           */
    OPTION_IMAGE = 0x2000,
    OPTION_PATCH,
    OPTION_OUT,
    OPTION_SCALE,
    OPTION_HEAD,
    OPTION_CHANNEL,
    OPTION_QUERY,
    OPTION_PROBE,
    OPTION_DIVISOR,
    OPTION_FORMAT,
    OPTION_STD,
    OPTION_GIVEN,
    OPTION_CLIP,
    OPTION_INPUT,
    OPTION_COUNT,
    OPTION_LAYERS,
    OPTION_AS,
    OPTION_NORMALIZE,
    OPTION_POOL,
    OPTION_ASSUME,
    OPTION_END,
};

enum { MOST_LAYERS = 1024, MOST_SAID = 64 };

typedef struct request {
    axes axes;
    mapset_options options;
    modelmaps_options model;
    bool layer[MOST_LAYERS];
    model_option said[MOST_SAID];
    char **names; /* mechanisms or patterns of them                         */
    int count;
    const char *out;
    bool figures; /* wanted; missing gnuplot is an error then                */
} request;

/* Axes that a map has: not those of measuring, storage and batches; --scale is
 * that of the colours. */
static bool is_map_axis(int number)
{
    return number != ATT_FIELD_scale && number != ATT_FIELD_batch &&
           number != ATT_FIELD_dtype && number != AXIS_THREADS &&
           number != AXIS_LEVEL && number != AXIS_PASS &&
           number != AXIS_INPUTS && number != AXIS_CACHE;
}

static const struct argp_option own_options[] = {
    { "image", OPTION_IMAGE, "FILE.png", 0,
      "the picture (default: one made from --seed)", 1 },
    { "patch", OPTION_PATCH, "PIXELS", 0, "side of a patch (default 16)", 1 },
    { "out", OPTION_OUT, "DIR", 0, "folder (default results/maps/MECHANISM)",
      1 },
    { "scale", OPTION_SCALE, "VIEW", 0,
      "colours show the weights (linear, default), their log10 (log), or their "
      "log2 relative to uniform attention (uniform)",
      1 },
    { "clip", OPTION_CLIP, "PERCENTILE", 0,
      "the colour scale ends at this percentile of the non-zero weights "
      "(default 99.5 in the linear scale, 100 in the others: nothing is "
      "clipped); files say what is beyond",
      1 },
    { "head", OPTION_HEAD, "H", 0, "only this head", 1 },
    { "channel", OPTION_CHANNEL, "C", 0,
      "of maps that differ from channel to channel: this one (default 0), or "
      "'mean' over all",
      1 },
    { "query", OPTION_QUERY, "I", 0,
      "token whose attention is drawn over the picture (default: the middle)",
      1 },
    { "parameter-std", OPTION_STD, "S", 0,
      "add N(0, S) to learned parameters, which start near zero", 1 },
    { "parameter", OPTION_GIVEN, "NAME=FILE", 0,
      "a parameter from a .npy, or a mask from a PNG whose light pixels are 1 "
      "(masked: mask); several times for several",
      1 },
    { "relative", OPTION_DIVISOR, "MEAN", 0,
      "relative map: mean over the pairs at an offset that exist (valid, "
      "default) or over all queries (all)",
      1 },
    { "probe", OPTION_PROBE, NULL, 0,
      "check the matrix column by column against unit vectors too", 1 },
    { "format", OPTION_FORMAT, "LIST", 0,
      "annotated figures: svg,png,pdf (default svg,png) or none", 1 },
    { NULL, 0, NULL, 0, "Of a model:", 3 },
    { "input", OPTION_INPUT, "INPUT", 0,
      "what it sees: a PNG, FILE.safetensors[:TENSOR], or a data set as "
      "`attnbench train` takes it",
      3 },
    { "count", OPTION_COUNT, "N", 0, "at most so many inputs", 3 },
    { "layers", OPTION_LAYERS, "LIST", 0, "only these, as in 0,3,11", 3 },
    { "as", OPTION_AS, "MECHANISM", 0,
      "the same q, k, v under this mechanism; its axes as below", 3 },
    { NULL, 0, NULL, 0,
      "What a model's file does not say (also --heads, --head-dim, --grid "
      "ROWSxCOLUMNS of patches, --gelu, --ln-eps):",
      4 },
    { "normalize", OPTION_NORMALIZE, "HOW", 0,
      "of its pictures: imagenet, clip, none, 0.5 (mean and deviation), "
      "MEAN,STD or three means and three deviations",
      4 },
    { "pool", OPTION_POOL, "HOW", 0, "token, mean or none", 4 },
    { "assume", OPTION_ASSUME, "KEY=VALUE", 0,
      "any key of its metadata, as in norm=post; several times for several", 4 },
    { NULL, 0, NULL, 0, "Axes of the problem:", 5 },
};
enum { OWN_OPTIONS = sizeof own_options / sizeof *own_options };

/* The table of argp: ours, then one option for each axis. */
static struct argp_option *make_options(void)
{
    struct argp_option *all = calloc(OWN_OPTIONS + AXES + 1, sizeof *all);
    if (!all) abort();
    memcpy(all, own_options, sizeof own_options);
    for (int i = 0, n = OWN_OPTIONS; i < AXES; i++)
        if (is_map_axis(i))
            all[n++] = (struct argp_option){ .name = axes_name(i),
                                             .key = OPTION_AXIS + i,
                                             .arg = "VALUE",
                                             .doc = axes_help(i),
                                             .group = 5 };
    return all;
}

static int whole_number(const char *option, const char *text, int least,
                        int *out, error *e)
{
    char *end;
    errno = 0;
    const long n = strtol(text, &end, 10);
    if (end == text || *end || errno || n < least || n > 1 << 30)
        return error_set(e, "--%s: '%s' is not an integer from %d on", option,
                         text, least);
    *out = (int)n;
    return 0;
}

/* Index of a word in a list; the error offers the nearest and all of them. */
static int word(const char *option, const char *text, const char *const *words,
                int count, int *out, error *e)
{
    char all[128] = "";
    const char *near = error_nearest(text, words, count);
    for (int i = 0; i < count; i++) {
        if (!strcmp(words[i], text)) {
            *out = i;
            return 0;
        }
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s",
                 i ? ", " : "", words[i]);
    }
    return error_set(e, "--%s: unknown '%s'%s%s%s use %s", option, text,
                     near ? "; did you mean '" : ":", near ? near : "",
                     near ? "'?" : "", all);
}

static int set_axis(request *r, int number, const char *text, error *e)
{
    if (axes_set(&r->axes, number, text, NULL, e) < 0) return -1;
    if (r->axes.of[number].count != 1)
        return error_set(e, "--%s: '%s' is more than one value; a map is of "
                            "one problem",
                         axes_name(number), text);
    if (number == ATT_FIELD_seed) {
        const long seed = strtol(r->axes.of[number].value[0], NULL, 10);
        if (seed < 0) return error_set(e, "--seed must not be negative");
        r->options.seed = (uint64_t)seed;
    }
    return 0;
}

static int set_formats(request *r, const char *text, error *e)
{
    const int bits = strcmp(text, "none") ? gnuplot_formats(text, e) : 0;
    if (bits < 0) return -1;
    r->options.formats = (unsigned)bits;
    r->figures = bits != 0;
    return 0;
}

static int real_number(const char *option, const char *text, double most,
                       double *out, error *e)
{
    char *end;
    *out = strtod(text, &end);
    if (end != text && !*end && *out >= 0 && *out <= most) return 0;
    return error_set(e, "--%s: '%s' is not a number from 0 to %g", option, text,
                     most);
}

static int set_layers(request *r, const char *text, error *e)
{
    for (const char *at = text;; at++) {
        char *end;
        errno = 0;
        const long l = strtol(at, &end, 10);
        if (end == at || errno || l < 0 || l >= MOST_LAYERS ||
            (*end && *end != ','))
            return error_set(e, "--layers: '%s' is not a list of layers, as in "
                                "0,3,11",
                             text);
        r->layer[l] = true;
        at = end;
        if (!*at) break;
    }
    r->model.layer = r->layer;
    r->model.layers = MOST_LAYERS;
    return 0;
}

static int say(request *r, const char *option, const char *key,
               const char *value, error *e)
{
    if (r->model.said_count == MOST_SAID)
        return error_set(e, "--%s: more than %d are said of the model", option,
                         MOST_SAID);
    r->said[r->model.said_count++] = (model_option){ key, value, option };
    r->model.said = r->said;
    return 0;
}

/* KEY=VALUE; the key is kept without its end. */
static int assume(request *r, const char *text, error *e)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1])
        return error_set(e, "--assume: '%s' is not KEY=VALUE, as in heads=4",
                         text);
    char *key = strndup(text, (size_t)(equals - text));
    if (!key) abort();
    return say(r, "assume", key, equals + 1, e);
}

static int set_option(request *r, int key, const char *text, error *e)
{
    static const char *const views[] = HEATMAP_VIEWS;
    static const char *const divisors[] = { "valid", "all" };
    mapset_options *o = &r->options;
    int choice, rc = 0;
    switch (key) {
    case OPTION_IMAGE: o->image = text; break;
    case OPTION_OUT: r->out = text; break;
    case OPTION_PROBE: o->probe = true; break;
    case OPTION_PATCH: return whole_number("patch", text, 1, &o->patch, e);
    case OPTION_HEAD: return whole_number("head", text, 0, &o->head, e);
    case OPTION_QUERY: return whole_number("query", text, 0, &o->query, e);
    case OPTION_CHANNEL:
        if (strcmp(text, "mean"))
            return whole_number("channel", text, 0, &o->channel, e);
        o->channel = MATRIX_MEAN;
        break;
    case OPTION_SCALE:
        rc = word("scale", text, views, 3, &choice, e);
        if (rc == 0) o->view = (enum heatmap_view)choice;
        break;
    case OPTION_DIVISOR:
        rc = word("relative", text, divisors, 2, &choice, e);
        if (rc == 0) o->divisor = (enum metrics_divisor)choice;
        break;
    case OPTION_FORMAT: return set_formats(r, text, e);
    case OPTION_INPUT: r->model.input = text; break;
    case OPTION_COUNT:
        return whole_number("count", text, 1, &r->model.count, e);
    case OPTION_LAYERS: return set_layers(r, text, e);
    case OPTION_AS:
        r->model.as = names_mechanism(text, e);
        return r->model.as ? 0 : -1;
    case OPTION_STD:
        return real_number("parameter-std", text, 1e6, &o->parameter_std, e);
    case OPTION_GIVEN:
        if (o->given_count == MAPSET_GIVEN)
            return error_set(e, "--parameter: more than %d", MAPSET_GIVEN);
        o->given[o->given_count++] = text;
        break;
    case OPTION_NORMALIZE: return say(r, "normalize", "normalize", text, e);
    case OPTION_POOL: return say(r, "pool", "pool", text, e);
    case OPTION_ASSUME: return assume(r, text, e);
    case OPTION_CLIP: return real_number("clip", text, 100, &o->clip, e);
    default: return set_axis(r, key - OPTION_AXIS, text, e);
    }
    return rc;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    request *r = state->input;
    error e;
    if (key == ARGP_KEY_ARGS) {
        r->names = state->argv + state->next;
        r->count = state->argc - state->next;
    } else if (key >= OPTION_AXIS && key < OPTION_END) {
        if (set_option(r, key, text, &e) < 0)
            argp_failure(state, EXIT_USAGE, 0, "%s", e.text);
    } else if (key == ARGP_KEY_NO_ARGS) {
        argp_failure(state, EXIT_USAGE, 0,
                     "which mechanism? `attnbench list mechanisms` names them; "
                     "'*' is all");
    } else {
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- problems ----------------------------------------------------------- */

/* Sizes at which a map shows something, for axes that were not given. */
static const struct {
    int field;
    const char *value;
} usual[] = {
    { ATT_FIELD_heads, "2" }, { ATT_FIELD_window, "7" },
    { ATT_FIELD_block, "7" }, { ATT_FIELD_conv, "5" },
    { ATT_FIELD_radius, "3" }, { ATT_FIELD_grid, "14x14" },
};
enum { USUAL = sizeof usual / sizeof *usual, USUAL_TOKENS = 196 };

/* The usual window, or the largest odd one that the map holds. */
static void fit_window(const request *r, att_problem *p)
{
    if (r->axes.of[ATT_FIELD_window].count || p->window.n == 0) return;
    for (int a = 0; a < p->grid.n; a++)
        if (p->window.v[0] > p->grid.v[a])
            p->window.v[0] = (p->grid.v[a] + 1) / 2 * 2 - 1;
}

/* The usual block, or the largest below it that divides the map. */
static void fit_block(const request *r, const att_mechanism *m, att_problem *p)
{
    if (r->axes.of[ATT_FIELD_block].count || !att_uses(m, ATT_FIELD_block))
        return;
    for (;; p->block--) {
        bool divides = true;
        for (int a = 0; a < p->grid.n; a++)
            divides &= p->grid.v[a] % p->block == 0;
        if (divides || p->block == 1) return;
    }
}

/* Whether m is defined on grids of n axes. */
static bool takes_axes(const att_mechanism *m, int n)
{
    const unsigned any = ATT_IS_1D | ATT_IS_2D | ATT_IS_3D;
    return !(m->traits & any) ||
           (n >= 1 && n <= 3 && m->traits & (ATT_IS_1D << (n - 1)));
}

/* NULL, or why the mechanism has no such problem.  Where many mechanisms are
 * asked for, those on other grids get as many tokens. */
static const char *fit(const request *r, const att_mechanism *m, bool many,
                       att_problem *out)
{
    axes_point point;
    const bool given = r->axes.of[ATT_FIELD_grid].count > 0 ||
                       r->axes.of[AXIS_SEQ].count > 0;
    axes_pick(&r->axes, 0, &point);
    for (int i = 0; i < USUAL; i++)
        if (r->axes.of[usual[i].field].count == 0) {
            att_set(&point.problem, (enum att_field)usual[i].field,
                    usual[i].value);
            point.usual |= (uint64_t)1 << usual[i].field;
        }
    if (!takes_axes(m, point.problem.grid.n) && point.seq == 0) {
        if (!given) point.seq = USUAL_TOKENS;
        else if (many) point.seq = (int)att_tokens(&point.problem);
    }
    const char *why = axes_fit(m, &point, out);
    fit_window(r, out);
    fit_block(r, m, out);
    return why ? why : att_reject(m, out);
}

/* An axis that was given but does not change this mechanism is a mistake when
 * one mechanism is asked for. */
static int check_axes(const request *r, const att_mechanism *m, error *e)
{
    for (int f = 0; f < ATT_FIELD_COUNT; f++)
        if (r->axes.of[f].count && f != ATT_FIELD_seed && !att_uses(m, f))
            return error_set(e, "--%s does not change %s: see `attnbench "
                                "explain %s`",
                             axes_name(f), m->name, m->name);
    return 0;
}

/* ---- mechanisms --------------------------------------------------------- */

static int complain(const char *command, const error *e, int code)
{
    fprintf(stderr, "%s: %s\n", command, e->text);
    return code;
}

static int check_agreement(const mapset *s, error *e)
{
    if (mapset_agrees(s)) return 0;
    return error_set(e, "%s: the matrix does not give its own output: "
                        "differences %.2g (A v), %.2g (columns), %.2g (parts)",
                     s->values.mechanism->name, s->agreement.forward,
                     s->agreement.probe, s->agreement.parts);
}

/* Makes, prints and writes the maps of m.  An exit code; what is told of them
 * goes to the gallery, unless that is NULL. */
static int map_one(const request *r, const att_mechanism *m, const char *dir,
                   gallery *g, error *e)
{
    att_problem p;
    mapset s;
    const char *why = fit(r, m, g != NULL, &p);
    int rc = why ? error_set(e, "%s: %s", m->name, why)
                 : mapset_make(&s, m, &p, &r->options, e);
    if (rc < 0) {
        if (!g) return EXIT_USAGE;
        gallery_add_missing(g, m, e->text);
        return EXIT_OK;
    }
    printf("%s  %s\n", m->name, s.problem);
    mapset_print(&s, stdout);
    int code = EXIT_OK;
    if (folder_make(dir, e) < 0 || mapset_write(&s, dir, e) < 0)
        code = EXIT_MISSING;
    else if (check_agreement(&s, e) < 0) code = EXIT_GATE;
    if (g) gallery_add(g, &s);
    mapset_free(&s);
    return code;
}

/* Whether m is one of the names or fits one of the patterns. */
static bool wanted(const request *r, const att_mechanism *m)
{
    for (int i = 0; i < r->count; i++)
        if (fnmatch(r->names[i], m->name, 0) == 0) return true;
    return false;
}

/* With several mechanisms each axis is for those that have it; one that changes
 * none of them is a mistake. */
static int check_axes_of_some(const request *r, error *e)
{
    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        bool used = !r->axes.of[f].count || f == ATT_FIELD_seed;
        for (size_t k = 0; k < n && !used; k++)
            used = wanted(r, all[k]) && att_uses(all[k], (enum att_field)f);
        if (!used)
            return error_set(e, "--%s changes none of these mechanisms",
                             axes_name(f));
    }
    return 0;
}

static int check_names(const request *r, error *e)
{
    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    for (int i = 0; i < r->count; i++) {
        bool found = false;
        for (size_t k = 0; k < n; k++)
            found |= fnmatch(r->names[i], all[k]->name, 0) == 0;
        if (!found && !names_mechanism(r->names[i], e)) return -1;
    }
    return 0;
}

/* Every mechanism that is wanted in a folder of its own, and an index. */
static int map_many(const request *r, const char *dir, error *e)
{
    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    progress bar;
    gallery g = { 0 };
    int code = EXIT_OK;
    if (folder_make(dir, e) < 0) return EXIT_MISSING;
    progress_begin(&bar, (double)n);
    for (size_t i = 0; i < n && code == EXIT_OK; i++) {
        progress_show(&bar, (double)i, all[i]->name);
        if (!wanted(r, all[i])) continue;
        char *sub = path_join(dir, all[i]->name);
        progress_clear(&bar);
        code = map_one(r, all[i], sub, &g, e);
        free(sub);
    }
    progress_clear(&bar);
    if (code == EXIT_OK && gallery_write(&g, dir, &r->options, e) < 0)
        code = EXIT_MISSING;
    gallery_free(&g);
    return code;
}

/* ---- models ------------------------------------------------------------- */

static bool names_model(const char *name)
{
    return strstr(name, ".safetensors") || strchr(name, '/');
}

/* Axes that say something of the model itself; others go to the mechanism of
 * --as. */
static bool is_of_model(int f)
{
    return f == ATT_FIELD_heads || f == ATT_FIELD_head_dim ||
           f == ATT_FIELD_grid || f == ATT_FIELD_gelu || f == ATT_FIELD_ln_eps;
}

static int check_model_axes(request *r, error *e)
{
    axes_point point;
    for (int f = 0; f < AXES; f++) {
        if (!r->axes.of[f].count || f == ATT_FIELD_seed) continue;
        if (is_of_model(f)) {
            if (say(r, axes_name(f), att_fields[f].name,
                    r->axes.of[f].value[0], e) < 0)
                return -1;
        } else if (!r->model.as || f == AXIS_SEQ || !att_uses(r->model.as, f)) {
            return error_set(e, "--%s: %s%s", axes_name(f),
                             r->model.as ? "does not change the map of "
                                         : "the model's file says this",
                             r->model.as ? r->model.as->name : "");
        }
    }
    axes_pick(&r->axes, 0, &point);
    r->model.as_problem = point.problem;
    return 0;
}

/* Options that only maps of a mechanism have. */
static int check_model_options(const request *r, error *e)
{
    const mapset_options *o = &r->options;
    const char *of = o->patch               ? "patch"
                     : o->parameter_std > 0 ? "parameter-std"
                     : o->given_count       ? "parameter"
                     : o->probe             ? "probe"
                                            : NULL;
    if (of)
        return error_set(e, "--%s is of mechanisms; '%s' is a model", of,
                         r->names[0]);
    return o->image && r->model.input
               ? error_set(e, "--image and --input: a model sees one of them")
               : 0;
}

static int map_model(request *r, error *e)
{
    char folder[192];
    modelmaps s;
    const char *slash = strrchr(r->names[0], '/');
    const char *base = slash ? slash + 1 : r->names[0];
    snprintf(folder, sizeof folder, "results/maps/%.*s",
             (int)strcspn(base, "."), base);
    const char *dir = r->out ? r->out : folder;
    if (check_model_options(r, e) < 0 || check_model_axes(r, e) < 0)
        return EXIT_USAGE;
    if (!r->model.input) r->model.input = r->options.image;
    if (modelmaps_make(&s, r->names[0], &r->options, &r->model, e) < 0)
        return EXIT_USAGE;
    modelmaps_print_assumed(&s, stderr);
    modelmaps_print(&s, stdout);
    const int rc = folder_make(dir, e) < 0 ? -1 : modelmaps_write(&s, dir, e);
    modelmaps_free(&s);
    return rc < 0 ? EXIT_USAGE : EXIT_OK;
}

/* ---- command ------------------------------------------------------------ */

/* Options that only models have. */
static int check_mechanism_options(const request *r, error *e)
{
    const char *of = r->model.input   ? "input"
                     : r->model.count ? "count"
                     : r->model.layer ? "layers"
                     : r->model.as    ? "as"
                     : r->model.said  ? r->said[0].option
                                      : NULL;
    return of ? error_set(e, "--%s is of models; '%s' is a mechanism", of,
                          r->names[0])
              : 0;
}

static int map_named(request *r, error *e)
{
    if (names_model(r->names[0])) {
        if (r->count == 1) return map_model(r, e);
        error_set(e, "one model at a time, please: '%s' is one too many",
                  r->names[1]);
        return EXIT_USAGE;
    }
    if (check_mechanism_options(r, e) < 0) return EXIT_USAGE;

    const bool single = r->count == 1 && !strpbrk(r->names[0], "*?[");
    if (!single) {
        if (check_names(r, e) < 0 || check_axes_of_some(r, e) < 0)
            return EXIT_USAGE;
        return map_many(r, r->out ? r->out : "results/maps", e);
    }
    const att_mechanism *m = names_mechanism(r->names[0], e);
    if (!m || check_axes(r, m, e) < 0) return EXIT_USAGE;
    char *usual_dir = path_join("results/maps", m->name);
    const char *dir = r->out ? r->out : usual_dir;
    const int code =
        folder_make(dir, e) < 0 ? EXIT_MISSING : map_one(r, m, dir, NULL, e);
    free(usual_dir);
    return code;
}

/* Annotated figures are drawn where gnuplot is; where it is not, only an
 * explicit --format insists. */
static int check_gnuplot(request *r, const char *command, error *e)
{
    if (!r->options.formats || gnuplot_find(e) == 0) return 0;
    if (r->figures) return -1;
    fprintf(stderr, "%s: %s; annotated figures are left out\n", command,
            e->text);
    r->options.formats = 0;
    return 0;
}

static const char doc[] =
    "Effective attention matrices of a mechanism on the patches of a picture, "
    "or of a trained model on its inputs: "
    "exact pictures of them (PNG, a cell is a square of pixels), the numbers "
    "(.npy, metrics.json), an annotated figure, and the attention of one query "
    "over the picture.  A table goes to standard output.\v"
    "Several names, or patterns such as 'na*', make a gallery: a folder for "
    "each mechanism and an index; '*' is every mechanism.\n\n"
    "Queries and keys are seeded random projections of the patches; "
    "metrics.json says how.  Examples:\n"
    "  attnbench maps focused_linear --grid 14x14 --heads 2 --out maps\n"
    "  attnbench maps '*' --image photo.png --out gallery\n"
    "  attnbench maps model.safetensors --image photo.png --layers 0,3";

int command_maps(int argc, char **argv)
{
    struct argp_option *options = make_options();
    const struct argp argp = {
        options, parse, "MECHANISM...\nMODEL.safetensors", doc, NULL, NULL, NULL
    };
    request r = { .options = { .seed = 1, .head = -1, .query = -1, .clip = -1,
                               .formats = GNUPLOT_SVG | GNUPLOT_PNG } };
    int code = EXIT_USAGE;
    error e;

    argp_err_exit_status = EXIT_USAGE;
    if (spelling_check(options, argc, argv, &e) == 0) {
        argp_parse(&argp, argc, argv, 0, NULL, &r);
        code = check_gnuplot(&r, argv[0], &e) < 0 ? EXIT_MISSING
                                                  : map_named(&r, &e);
    }
    free(options);
    for (int i = 0; i < r.model.said_count; i++)
        if (!strcmp(r.said[i].option, "assume")) free((char *)r.said[i].key);
    axes_free(&r.axes);
    return code == EXIT_OK ? code : complain(argv[0], &e, code);
}
