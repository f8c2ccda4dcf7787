/* plot.c - attnbench plot DIR [FIGURE...]: figures of a run. */
#include <argp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/commands.h"
#include "../harness/file.h"
#include "../harness/progress.h"
#include "figures.h"
#include "gnuplot.h"
#include "options.h"

static const char doc[] =
    "Draws figures of a run: AXIS-METRIC with AXIS scaling (sequence length), "
    "headdim or window, and METRIC time, gflops, memory or any column of "
    "'attnbench table'; roofline; and accuracy, error against time, once "
    "'attnbench verify --accuracy --out DIR' has measured errors.  Without FIGURE: "
    "all of the usual ones that the run has data for.\v"
    "A figure varies one axis; all others have one value, by default the one "
    "with most cases.  --where chooses another, --each draws one figure per "
    "value.  DIR/figures/index.md shows the figures with what was held fixed, "
    "where and how it was measured, and what is not shown.  Commands (.gp) and "
    "data (.tsv) stay beside each figure: 'gnuplot NAME.gp' draws it again.\n\n"
    "  attnbench plot results/run\n"
    "  attnbench plot results/run scaling-time --each head_dim,threads\n"
    "  attnbench plot results/run window-gflops --kernel 'na2d.*' --format pdf";

enum { KEY_WIDTH = 256, KEY_CACHES, KEY_NOT };

static const struct argp_option options[] = {
    { "out", 'o', "FOLDER", 0, "where to (default DIR/figures)", 0 },
    { "format", 'f', "LIST", 0, "svg, png, pdf (default all)", 0 },
    { "where", 'w', "AXIS=VALUE", 0,
      "hold an axis at a value; commas for more", 0 },
    { "each", 'e', "AXES", 0, "one figure per value of these axes", 0 },
    { "kernel", 'k', "NAMES", 0, "only these; patterns like 'na2d.*'", 0 },
    { "not", KEY_NOT, "NAMES", 0, "without these", 0 },
    { "env", 'E', "ID", 0,
      "cases of this environment, or 'all' (default: the newest)", 0 },
    { "width", KEY_WIDTH, "MM", 0,
      "60 to 300; 84 is a column (default 174)", 0 },
    { "caches", KEY_CACHES, NULL, 0, "mark where q, k, v, o fill a cache", 0 },
    { 0 },
};

enum { FIGURES = 64 };

typedef struct arguments {
    const char *dir, *out, *format, *where, *each;
    selection selection;
    const char *figure[FIGURES];
    int count;
    double width; /* mm */
    bool caches;
} arguments;

static error_t parse(int key, char *text, struct argp_state *state)
{
    arguments *a = state->input;
    char *end;
    switch (key) {
    case 'o': a->out = text; break;
    case 'f': a->format = text; break;
    case 'w': a->where = text; break;
    case 'e': a->each = text; break;
    case 'k': a->selection.only = text; break;
    case 'E': a->selection.env = text; break;
    case KEY_NOT: a->selection.not = text; break;
    case KEY_CACHES: a->caches = true; break;
    case KEY_WIDTH:
        a->width = strtod(text, &end);
        if (end == text || *end || !(a->width >= 60 && a->width <= 300))
            argp_failure(state, EXIT_USAGE, 0,
                         "--width=%s: not a number from 60 to 300", text);
        break;
    case ARGP_KEY_ARG:
        if (!a->dir) a->dir = text;
        else if (a->count < FIGURES) a->figure[a->count++] = text;
        else
            argp_failure(state, EXIT_USAGE, 0, "more than %d figures", FIGURES);
        break;
    case ARGP_KEY_END:
        if (!a->dir)
            argp_failure(state, EXIT_USAGE, 0, "which run? name its folder");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- one figure per value ------------------------------------------------ */

typedef struct run {
    const arguments *a;
    results results, simulated; /* of one of them may be none              */
    columns columns;
    char *out;
    fixed_axis asked[SLICE_AXES];
    int asked_count;
    const column *each[SLICE_AXES];
    int each_count;
    unsigned formats;
    progress bar;
    int drawn, failed;
    error nothing; /* why a figure had nothing to draw                      */
} run;

/* Appends "-d64"; characters that a file name should not have become '_'. */
static void add_suffix(char *file, size_t size, const fixed_axis *f)
{
    static const char usual[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._";
    const size_t n = strlen(file);
    if (f->axis->kind == COLUMN_TEXT)
        snprintf(file + n, size - n, "-%s", f->value);
    else
        snprintf(file + n, size - n, "-%s%s", f->axis->name, f->value);
    for (char *c = file + n + 1; c < file + size && *c; c++)
        if (!strchr(usual, *c)) *c = '_';
}

static void draw_one(run *r, const char *name, const fixed_axis *asked,
                     int asked_count, const char *file)
{
    error e;
    const figure_request q = {
        .name = name,
        .file = file,
        .dir = r->out,
        .formats = r->formats,
        .width = r->a->width * GNUPLOT_MM,
        .caches = r->a->caches,
        .asked = asked,
        .asked_count = asked_count,
    };
    const bool simulated = figures_of_events(name) && r->simulated.count;
    const results *from = simulated ? &r->simulated : &r->results;
    int rc = 0;
    progress_show(&r->bar, r->drawn, file);
    if (from->count) rc = figures_draw(&q, from, &r->columns, &e);
    else error_set(&e, "%s: the run has no case that was timed", name);
    if (rc > 0) {
        progress_clear(&r->bar);
        printf("%s/%s%s\n", r->out, file,
               r->formats & GNUPLOT_SVG   ? ".svg"
               : r->formats & GNUPLOT_PNG ? ".png"
               : r->formats               ? ".pdf" : ".gp");
        r->drawn++;
    } else if (rc == 0) r->nothing = e;
    else {
        progress_clear(&r->bar);
        options_fail("attnbench plot", &e, 0);
        r->failed++;
    }
}

static bool has_axis(const fixed_axis *asked, int n, const column *axis)
{
    for (int i = 0; i < n; i++)
        if (asked[i].axis == axis) return true;
    return false;
}

/* Figures for all values of each[k ...]. */
static void draw_each(run *r, const char *name, int k, fixed_axis *asked,
                      int asked_count, const char *file)
{
    slice_value *value = NULL;
    if (k == r->each_count || asked_count == SLICE_AXES) {
        draw_one(r, name, asked, asked_count, file);
        return;
    }
    const column *axis = r->each[k];
    const bool varied = !strcmp(axis->name, figures_axis(name));
    const results *from = r->results.count ? &r->results : &r->simulated;
    const int n = varied || has_axis(asked, asked_count, axis)
                      ? 0 : slice_values(from, axis, &value);
    if (n == 0) draw_each(r, name, k + 1, asked, asked_count, file);
    for (int i = 0; i < n; i++) {
        char more[256];
        fixed_axis *f = &asked[asked_count];
        f->axis = axis;
        memcpy(f->value, value[i].text, sizeof f->value);
        snprintf(more, sizeof more, "%s", file);
        /* forward is what a name without a pass means */
        if (strcmp(axis->name, "pass") || strcmp(value[i].text, "forward"))
            add_suffix(more, sizeof more, f);
        draw_each(r, name, k + 1, asked, asked_count + 1, more);
    }
    free(value);
}

/* ---- all ----------------------------------------------------------------- */

static int read_axes(run *r, error *e)
{
    const char *list = r->a->each ? r->a->each : "";
    char name[RESULT_TEXT];
    if (r->a->where && slice_ask(r->asked, &r->asked_count, &r->columns,
                                 r->a->where, e) < 0)
        return -1;
    /* once, not by every figure */
    if (slice_check(&r->results, r->asked, r->asked_count, e) < 0 &&
        slice_check(&r->simulated, r->asked, r->asked_count, NULL) < 0)
        return -1;
    const column *pass = columns_find(&r->columns, "pass", e);
    if (!has_axis(r->asked, r->asked_count, pass))
        r->each[r->each_count++] = pass;
    while (options_next(&list, name, sizeof name)) {
        const column *axis = columns_find(&r->columns, name, e);
        if (!axis) return -1;
        if (axis->kind == COLUMN_VALUE)
            return error_set(e, "--each %s: that was measured, not varied",
                             name);
        if (axis == pass) continue;
        if (r->each_count == SLICE_AXES)
            return error_set(e, "--each: more than %d axes", SLICE_AXES);
        r->each[r->each_count++] = axis;
    }
    for (int i = 0; i < r->a->count; i++)
        if (!figures_check(r->a->figure[i], &r->columns, e)) return -1;
    return 0;
}

static void draw_all(run *r)
{
    const char *const *figure = r->a->count ? r->a->figure : figures_usual;
    const int n = r->a->count ? r->a->count : figures_usual_count;
    progress_begin(&r->bar, n);
    for (int i = 0; i < n; i++) {
        fixed_axis asked[SLICE_AXES];
        char file[256];
        memcpy(asked, r->asked, sizeof asked);
        snprintf(file, sizeof file, "%s", figure[i]);
        for (int k = 0; k < r->asked_count; k++)
            if (strcmp(asked[k].value, "forward") &&
                strcmp(asked[k].axis->name, figures_axis(figure[i])))
                add_suffix(file, sizeof file, &asked[k]);
        r->bar.done = i;
        draw_each(r, figure[i], 0, asked, r->asked_count, file);
    }
    progress_clear(&r->bar);
}

/* Says what the figures do not show although the journal has it. */
static void say_left_out(const run *r)
{
    char text[512];
    results_say_left_out(&r->results, text, sizeof text);
    if (*text) fprintf(stderr, "attnbench plot: %s\n", text);
    if (r->results.env_count > 1)
        fprintf(stderr, "attnbench plot: cases of %d machines or programs are "
                        "mixed in these figures\n", r->results.env_count);
    if (r->results.journal.torn)
        fprintf(stderr, "attnbench plot: %s: the last line is not finished and "
                        "left out\n", r->results.journal.path);
}

static int draw_into(run *r, error *e)
{
    const char *name = "attnbench plot";
    const bool found = gnuplot_find(NULL) == 0;
    if (read_axes(r, e) < 0) return options_fail(name, e, EXIT_USAGE);
    if (folder_make(r->out, e) < 0) return options_fail(name, e, EXIT_MISSING);
    say_left_out(r);
    if (!found) r->formats = 0;
    draw_all(r);
    if (!r->drawn && !r->failed) {
        error_set(e, "nothing to draw: %s", r->nothing.text);
        return options_fail(name, e, EXIT_USAGE);
    }
    if (r->a->count && *r->nothing.text)
        fprintf(stderr, "%s: not drawn: %s\n", name, r->nothing.text);
    if (r->drawn && figures_index(r->out, e) < 0)
        return options_fail(name, e, EXIT_MISSING);
    if (!found) {
        gnuplot_find(e);
        fprintf(stderr, "%s: %s; commands and data of %d figures are in %s, to "
                        "be drawn elsewhere\n",
                name, e->text, r->drawn, r->out);
        return EXIT_MISSING;
    }
    return r->failed ? EXIT_SOME_FAILED : EXIT_OK;
}

/* Cases that were timed, and those whose caches were simulated: one kind is
 * enough. */
static int read_both(run *r, error *e)
{
    selection selected = r->a->selection;
    error none;
    const int timed = options_read(&r->results, r->a->dir, &selected, e);
    selected.kind = RESULTS_SIMULATED;
    return options_read(&r->simulated, r->a->dir, &selected, &none) < 0 ? timed
                                                                       : 0;
}

int command_plot(int argc, char **argv)
{
    const struct argp argp = { options, parse, "DIR [FIGURE...]", doc,
                               NULL,    NULL,  NULL };
    arguments a = { .format = "svg,png,pdf", .width = 174 };
    run r = { .a = &a };
    error e;

    argp_err_exit_status = EXIT_USAGE;
    if (spelling_check(options, argc, argv, &e) < 0)
        return options_fail(argv[0], &e, EXIT_USAGE);
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    const int formats = gnuplot_formats(a.format, &e);
    if (formats < 0 || read_both(&r, &e) < 0)
        return options_fail(argv[0], &e, EXIT_USAGE);
    r.formats = (unsigned)formats;
    r.out = a.out ? strdup(a.out) : path_join(a.dir, "figures");
    if (!r.out) abort();
    columns_make(&r.columns, &r.results);
    columns_more(&r.columns, &r.simulated);
    const int code = draw_into(&r, &e);
    columns_free(&r.columns);
    results_free(&r.results);
    results_free(&r.simulated);
    free(r.out);
    return code;
}
