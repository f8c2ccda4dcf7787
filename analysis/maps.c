/* maps.c - attnbench maps: effective attention matrices of mechanisms. */
#include <argp.h>
#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/axes.h"
#include "../harness/commands.h"
#include "../harness/file.h"
#include "../plots/gnuplot.h"
#include "mapset.h"

/* ---- options ----------------------------------------------------------------------- */

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
    OPTION_CLIP,
};

typedef struct request {
    axes axes;
    mapset_options options;
    char **names; /* mechanisms or patterns of them                         */
    int count;
    const char *out;
    bool figures; /* wanted; missing gnuplot is an error then                */
} request;

/* Axes that a map has: not those of measuring, storage and batches. */
static bool is_map_axis(int number)
{
    return number != ATT_FIELD_batch && number != ATT_FIELD_dtype &&
           number != AXIS_THREADS && number != AXIS_LEVEL &&
           number != AXIS_PASS;
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
    { "relative", OPTION_DIVISOR, "MEAN", 0,
      "relative map: mean over the pairs at an offset that exist (valid, "
      "default) or over all queries (all)",
      1 },
    { "probe", OPTION_PROBE, NULL, 0,
      "check the matrix column by column against unit vectors too", 1 },
    { "format", OPTION_FORMAT, "LIST", 0,
      "annotated figures: svg,png,pdf (default svg,png) or none", 1 },
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
                                             .group = 2 };
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
    return error_set(e, "--%s: unknown '%s'%s%s%s: use %s", option, text,
                     near ? "; did you mean '" : "", near ? near : "",
                     near ? "'?" : "", all);
}

static int set_axis(request *r, int number, const char *text, error *e)
{
    if (axes_set(&r->axes, number, text, NULL, e) < 0) return -1;
    if (r->axes.of[number].count != 1)
        return error_set(e, "--%s: '%s' is more than one value; a map is of "
                            "one problem",
                         axes_name(number), text);
    if (number == ATT_FIELD_seed)
        r->options.seed = strtoull(r->axes.of[number].value[0], NULL, 10);
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
    case OPTION_STD:
        return real_number("parameter-std", text, 1e6, &o->parameter_std, e);
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
    } else if (key >= OPTION_AXIS && key <= OPTION_CLIP) {
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

/* ---- problems ---------------------------------------------------------------------- */

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

/* NULL, or why the mechanism has no such problem. */
static const char *fit(const request *r, const att_mechanism *m,
                       att_problem *out)
{
    axes_point point;
    const bool given = r->axes.of[ATT_FIELD_grid].count > 0 ||
                       r->axes.of[AXIS_SEQ].count > 0;
    axes_pick(&r->axes, 0, &point);
    for (int i = 0; i < USUAL; i++)
        if (r->axes.of[usual[i].field].count == 0)
            att_set(&point.problem, (enum att_field)usual[i].field,
                    usual[i].value);
    const unsigned any = ATT_IS_1D | ATT_IS_2D | ATT_IS_3D;
    if (!given && (m->traits & any) && !(m->traits & ATT_IS_2D))
        point.seq = USUAL_TOKENS;
    const char *why = axes_fit(m, &point, out);
    fit_window(r, out);
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

/* ---- one mechanism ------------------------------------------------------------------- */

static int complain(const char *command, const error *e, int code)
{
    fprintf(stderr, "%s: %s\n", command, e->text);
    return code;
}

static int map_one(const char *command, const request *r,
                   const att_mechanism *m, const char *dir)
{
    att_problem p;
    mapset s;
    error e;
    const char *why = fit(r, m, &p);
    if (why) {
        error_set(&e, "%s: %s", m->name, why);
        return complain(command, &e, EXIT_USAGE);
    }
    if (mapset_make(&s, m, &p, &r->options, &e) < 0)
        return complain(command, &e, EXIT_USAGE);

    int code = EXIT_OK;
    printf("%s  %s\n", m->name, s.problem);
    mapset_print(&s, stdout);
    if (mapset_write(&s, dir, &e) < 0)
        code = complain(command, &e, EXIT_USAGE);
    else if (!mapset_agrees(&s)) {
        error_set(&e, "%s: the matrix does not give its own output: differences "
                      "%.2g (A v), %.2g (columns), %.2g (parts)",
                  m->name, s.agreement.forward, s.agreement.probe,
                  s.agreement.parts);
        code = complain(command, &e, EXIT_GATE);
    }
    mapset_free(&s);
    return code;
}

/* ---- command ------------------------------------------------------------------------- */

static const att_mechanism *find(const char *name, error *e)
{
    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    const att_mechanism *m = att_find_mechanism(name);
    if (m) return m;
    const char **names = malloc((n + 1) * sizeof *names);
    if (!names) abort();
    for (size_t i = 0; i < n; i++) names[i] = all[i]->name;
    const char *near = error_nearest(name, names, (int)n);
    free(names);
    error_set(e, "unknown mechanism '%s'%s%s%s", name,
              near ? "; did you mean '" : ": see `attnbench list mechanisms`",
              near ? near : "", near ? "'?" : "");
    return NULL;
}

static const char doc[] =
    "Effective attention matrices of a mechanism on the patches of a picture: "
    "exact pictures of them (PNG, a cell is a square of pixels), the numbers "
    "(.npy, metrics.json), an annotated figure, and the attention of one query "
    "over the picture.  A table goes to standard output.\v"
    "Queries and keys are seeded random projections of the patches; "
    "metrics.json says how.  Example:\n"
    "  attnbench maps focused_linear --grid 14x14 --heads 2 --out maps";

int command_maps(int argc, char **argv)
{
    struct argp_option *options = make_options();
    const struct argp argp = { options, parse, "MECHANISM", doc,
                               NULL,    NULL,  NULL };
    request r = { .options = { .seed = 1, .head = -1, .query = -1,
                               .clip = -1,
                               .formats = GNUPLOT_SVG | GNUPLOT_PNG } };
    error e;

    argp_err_exit_status = EXIT_USAGE;
    argp_parse(&argp, argc, argv, 0, NULL, &r);
    free(options);
    if (r.options.formats && gnuplot_find(&e) < 0) {
        if (r.figures) return complain(argv[0], &e, EXIT_MISSING);
        fprintf(stderr, "%s: %s; annotated figures are left out\n", argv[0],
                e.text);
        r.options.formats = 0;
    }
    const att_mechanism *m = find(r.names[0], &e);
    if (!m || check_axes(&r, m, &e) < 0)
        return complain(argv[0], &e, EXIT_USAGE);
    char *dir = r.out ? path_join("", r.out) : path_join("results/maps", m->name);
    const int code = map_one(argv[0], &r, m, dir);
    free(dir);
    axes_free(&r.axes);
    return code;
}
