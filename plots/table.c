/* table.c - attnbench table DIR: results as Markdown, CSV, LaTeX, JSON. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/commands.h"
#include "../harness/file.h"
#include "accuracy.h"
#include "objections.h"
#include "options.h"
#include "tables.h"

static const char doc[] =
    "Prints the cases of a run, one row each with every axis in a column of "
    "its own; or with --rows and --cols a pivot of one value.\v"
    "Programs (csv, json) get exact numbers in SI units, named in the key; "
    "people (md, tex, text) get one unit per column, no more digits than the "
    "95 % interval supports, and no columns of axes that do not vary.  In a "
    "pivot, axes that are not keys are held "
    "at one value, which the caption names; the best kernel is bold where its "
    "interval is clear of the runner-up's.\n\n"
    "  attnbench table results/run --format csv --out run.csv\n"
    "  attnbench table results/run --rows kernel --cols n --metric time\n"
    "  attnbench table results/run --rows kernel,threads --cols d --metric "
    "gflops --where n=1024 --format tex\n"
    "  attnbench table results/run --columns help";

enum { KEY_ROWS = 256, KEY_COLS, KEY_NOT, KEY_FITS };

static const struct argp_option options[] = {
    { "format", 'f', "NAME", 0, "md (default), csv, tex, json or text", 0 },
    { "out", 'o', "FILE", 0, "write there instead of standard output (-)", 0 },
    { "columns", 'c', "NAMES", 0,
      "these columns; 'all'; 'help' lists them", 0 },
    { "rows", KEY_ROWS, "NAMES", 0, "pivot: keys of the rows", 0 },
    { "cols", KEY_COLS, "NAME", 0, "pivot: key of the columns", 0 },
    { "metric", 'm', "NAME", 0, "pivot: value of the cells (default time)", 0 },
    { "where", 'w', "AXIS=VALUE", 0, "only cases with these; with commas", 0 },
    { "kernel", 'k', "NAMES", 0, "only these; patterns like 'na2d.*'", 0 },
    { "not", KEY_NOT, "NAMES", 0, "without these", 0 },
    { "env", 'E', "ID", 0,
      "cases of this environment, or 'all' (default: the newest)", 0 },
    { "fits", KEY_FITS, NULL, 0, "only the table of scaling exponents", 0 },
    { 0 },
};

typedef struct arguments {
    const char *dir, *format, *out, *columns, *rows, *cols, *metric, *where;
    selection selection;
    bool fits;
} arguments;

static error_t parse(int key, char *text, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case 'f': a->format = text; break;
    case 'o': a->out = text; break;
    case 'c': a->columns = text; break;
    case 'm': a->metric = text; break;
    case 'w': a->where = text; break;
    case 'k': a->selection.only = text; break;
    case 'E': a->selection.env = text; break;
    case KEY_ROWS: a->rows = text; break;
    case KEY_COLS: a->cols = text; break;
    case KEY_NOT: a->selection.not = text; break;
    case KEY_FITS: a->fits = true; break;
    case ARGP_KEY_ARG:
        if (a->dir) argp_failure(state, EXIT_USAGE, 0, "one run at a time; see 'merge'");
        a->dir = text;
        break;
    case ARGP_KEY_END:
        if (!a->dir) argp_failure(state, EXIT_USAGE, 0, "which run? name its folder");
        if (!a->rows != !a->cols)
            argp_failure(state, EXIT_USAGE, 0, "a pivot needs both --rows and --cols");
        if (a->metric && !a->rows)
            argp_failure(state, EXIT_USAGE, 0, "--metric needs --rows and --cols");
        if (a->columns && a->rows)
            argp_failure(state, EXIT_USAGE, 0, "--columns is not for pivots: see --metric");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* What is printed: a table, and behind it that of the fits. */
typedef struct output {
    enum sheet_format format;
    sheet cases, fits, crossings;
    bool objections; /* a column of them is there                            */
    bool intervals; /* of the values in `cases`                              */
    bool accuracy;  /* errors of kernels are among them                      */
    char hidden[512];
} output;

/* ---- which columns ------------------------------------------------------- */

static int choose_columns(const columns *c, const char *list,
                          const column **chosen, int room, error *e)
{
    char name[RESULT_TEXT];
    int n = 0;
    for (int i = 0; (!list || !strcmp(list, "all")) && i < c->count; i++)
        if (list || c->item[i].standard) chosen[n++] = &c->item[i];
    if (!list || n) return n;
    while (options_next(&list, name, sizeof name)) {
        if (n == room) return error_set(e, "more than %d columns", room);
        chosen[n] = columns_find(c, name, e);
        if (!chosen[n++]) return -1;
    }
    return n ? n : error_set(e, "--columns names none");
}

static void list_columns(const columns *c)
{
    for (int i = 0; i < c->count; i++)
        printf("%-24s %-26s %s\n", c->item[i].name, c->item[i].key,
               c->item[i].title);
}

/* Keeps the cases that have all of these values. */
static int keep_where(results *r, const fixed_axis *asked, int count, error *e)
{
    int kept = 0;
    for (int i = 0; i < r->count; i++) {
        bool fits = true;
        for (int k = 0; k < count; k++) {
            char text[RESULT_TEXT];
            column_text(asked[k].axis, &r->item[i], text, sizeof text);
            fits &= !strcmp(text, asked[k].value);
        }
        if (fits) r->item[kept++] = r->item[i];
    }
    r->count = kept;
    return kept ? 0 : error_set(e, "%s: no case fits --where", r->journal.path);
}

/* Leaves out words and axes that have one value, or none; `same` gets those that all
 * cases have.  Returns how many columns are left. */
static int leave_still(const results *r, const column **chosen, int count,
                       char *same, size_t size)
{
    int kept = 0;
    *same = 0;
    for (int k = 0; k < count; k++) {
        char first[RESULT_TEXT] = "", text[RESULT_TEXT];
        bool everywhere = true, varies = chosen[k]->kind == COLUMN_VALUE ||
                                         !strcmp(chosen[k]->name, "kernel");
        for (int i = 0; i < r->count && !varies; i++) {
            column_text(chosen[k], &r->item[i], text, sizeof text);
            everywhere &= *text != 0;
            if (*text && !*first) snprintf(first, sizeof first, "%s", text);
            varies = *text && strcmp(text, first);
        }
        const size_t n = strlen(same);
        if (varies) chosen[kept++] = chosen[k];
        else if (everywhere && n < size)
            snprintf(same + n, size - n, "%s%s %s", n ? ", " : "",
                     chosen[k]->name, first);
    }
    return kept;
}

/* ---- making -------------------------------------------------------------- */

static int make_pivot(const arguments *a, const results *r, const columns *c,
                      const fixed_axis *asked, int asked_count, output *o,
                      error *e)
{
    pivot p = { .asked = asked, .asked_count = asked_count };
    const char *list = a->rows;
    char name[RESULT_TEXT];
    while (options_next(&list, name, sizeof name)) {
        if (p.rows == sizeof p.row / sizeof *p.row)
            return error_set(e, "too many keys in --rows");
        p.row[p.rows] = columns_find(c, name, e);
        if (!p.row[p.rows++]) return -1;
    }
    p.across = columns_find(c, a->cols, e);
    p.metric = p.across ? columns_find(c, a->metric ? a->metric : "time", e)
                        : NULL;
    if (!p.metric) return -1;
    for (int k = 0; k <= p.rows; k++) {
        const column *key = k < p.rows ? p.row[k] : p.across;
        if (key->kind == COLUMN_VALUE)
            return error_set(e, "'%s' was measured: it cannot be a key",
                             key->name);
        if (k < p.rows && key == p.across)
            return error_set(e, "'%s' cannot be a key of rows and columns",
                             key->name);
    }
    o->intervals = column_has_interval(p.metric);
    o->accuracy = accuracy_is_column(p.metric);
    return p.rows ? table_pivot(&o->cases, r, c, &p, o->hidden, e)
                  : error_set(e, "--rows names no column");
}

static int make_cases(const arguments *a, results *r, const columns *c,
                      const fixed_axis *asked, int asked_count, output *o,
                      error *e)
{
    const column **chosen = malloc((size_t)(c->count + 1) * sizeof *chosen);
    if (!chosen) abort();
    const bool people = o->format != SHEET_CSV && o->format != SHEET_JSON;
    int n = choose_columns(c, a->columns, chosen, c->count, e);
    int rc = n < 0 ? -1 : keep_where(r, asked, asked_count, e);
    o->intervals = true;
    if (rc == 0 && people && !a->columns && r->count > 1) {
        char same[512], caption[600];
        n = leave_still(r, chosen, n, same, sizeof same);
        snprintf(caption, sizeof caption, "All cases: %s.", same);
        if (*same) sheet_text(&o->cases.caption, caption);
    }
    for (int k = 0; k < n; k++)
        o->objections |= !strcmp(chosen[k]->name, "objections");
    for (int k = 0; k < n; k++) o->accuracy |= accuracy_is_column(chosen[k]);
    if (rc == 0) table_cases(&o->cases, r, c, chosen, n);
    free(chosen);
    return rc;
}

static void add_accuracy_note(const results *r, char *out, size_t size)
{
    const size_t n = strlen(out);
    char note[400];
    accuracy_note(r, note, sizeof note);
    if (*note && n < size) snprintf(out + n, size - n, " %s.", note);
}

static int make(const arguments *a, results *r, const columns *c, output *o,
                error *e)
{
    fixed_axis asked[SLICE_AXES];
    char footnote[1024], both[4096], why[3000];
    int count = 0;
    if (a->where && slice_ask(asked, &count, c, a->where, e) < 0) return -1;
    table_fits(&o->fits, r);
    table_crossings(&o->crossings, r);
    if (a->fits) {
        if (o->fits.rows) return 0;
        return error_set(e, "%s: no fits in it; a finished sweep over --seq "
                            "adds them", r->journal.path);
    }
    if ((a->rows ? make_pivot(a, r, c, asked, count, o, e)
                 : make_cases(a, r, c, asked, count, o, e)) < 0)
        return -1;
    table_footnote(r, o->intervals, footnote, sizeof footnote);
    if (o->accuracy) add_accuracy_note(r, footnote, sizeof footnote);
    objections_explain(r, why, sizeof why);
    snprintf(both, sizeof both, "%s%s%s%s", footnote,
             o->objections && *why ? " Objections: " : "",
             o->objections ? why : "", o->objections && *why ? "." : "");
    sheet_text(&o->cases.footnote, both);
    return 0;
}

/* ---- printing ------------------------------------------------------------ */

static void print_json(FILE *f, const results *r, const output *o)
{
    json *j = json_object();
    char text[400];
    const json *env = r->item[r->count - 1].env;
    json_put_text(j, "data_sha256", r->hash);
    results_machine(env, text, sizeof text);
    json_put_text(j, "machine", text);
    results_compiler(env, text, sizeof text);
    json_put_text(j, "compiler", text);
    results_revision(env, text, sizeof text);
    json_put_text(j, "revision", text);
    if (o->cases.columns) json_put(j, "cases", sheet_rows(&o->cases));
    json_put(j, "fits", sheet_rows(&o->fits));
    json_put(j, "crossings", sheet_rows(&o->crossings));
    char *whole = json_print(j, true);
    fprintf(f, "%s\n", whole);
    free(whole);
    json_free(j);
}

static void print_comment(FILE *f, const results *r, enum sheet_format format)
{
    if (format == SHEET_TEX)
        fprintf(f, "%% data: sha256 %s journal.jsonl\n", r->hash);
    if (format == SHEET_MD)
        fprintf(f, "<!-- data: sha256 %s journal.jsonl -->\n\n", r->hash);
}

/* CSV is one table: the fits are there on request only. */
static void print(FILE *f, const results *r, const output *o, bool pivoted)
{
    if (o->format == SHEET_JSON) {
        print_json(f, r, o);
        return;
    }
    print_comment(f, r, o->format);
    const sheet *more[] = { &o->fits, &o->crossings };
    sheet_write(f, o->cases.columns ? &o->cases : &o->fits, o->format);
    for (int i = o->cases.columns ? 0 : 1; i < 2; i++)
        if (more[i]->rows && !pivoted && o->format != SHEET_CSV) {
            fputc('\n', f);
            sheet_write(f, more[i], o->format);
        }
}

static int write_out(const arguments *a, const results *r, const output *o,
                     error *e)
{
    file_writer w;
    if (a->out && strcmp(a->out, "-")) {
        if (file_begin(&w, a->out, e) < 0) return -1;
        print(w.stream, r, o, a->rows != NULL);
        return file_commit(&w, e);
    }
    print(stdout, r, o, a->rows != NULL);
    return 0; /* main() sees to it that it arrives */
}

static void say_left_out(const char *name, const results *r, const output *o)
{
    char text[512];
    results_say_left_out(r, text, sizeof text);
    if (*text) fprintf(stderr, "%s: %s\n", name, text);
    accuracy_note(r, text, sizeof text);
    if (o->accuracy && *text) fprintf(stderr, "%s: %s\n", name, text);
    if (*o->hidden)
        fprintf(stderr, "%s: left out: %s; --where chooses\n", name, o->hidden);
    if (r->journal.torn)
        fprintf(stderr, "%s: %s: the last line is not finished and left out\n",
                name, r->journal.path);
}

static int run(const arguments *a, const char *name, results *r, error *e)
{
    output o = { 0 };
    columns c;
    int code = EXIT_OK;
    const int format = sheet_format_find(a->format, e);
    if (format < 0) return options_fail(name, e, EXIT_USAGE);
    o.format = (enum sheet_format)format;
    columns_make(&c, r);
    if (a->columns && !strcmp(a->columns, "help")) list_columns(&c);
    else if (make(a, r, &c, &o, e) < 0)
        code = options_fail(name, e, EXIT_USAGE);
    else if (write_out(a, r, &o, e) < 0)
        code = options_fail(name, e, EXIT_MISSING);
    else say_left_out(name, r, &o);
    sheet_free(&o.cases);
    sheet_free(&o.fits);
    sheet_free(&o.crossings);
    columns_free(&c);
    return code;
}

int command_table(int argc, char **argv)
{
    const struct argp argp = { options, parse, "DIR", doc, NULL, NULL, NULL };
    arguments a = { .format = "md" };
    results r;
    error e;

    argp_err_exit_status = EXIT_USAGE;
    if (spelling_check(options, argc, argv, &e) < 0)
        return options_fail(argv[0], &e, EXIT_USAGE);
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (options_read(&r, a.dir, &a.selection, &e) < 0)
        return options_fail(argv[0], &e, EXIT_USAGE);
    const int code = run(&a, argv[0], &r, &e);
    results_free(&r);
    return code;
}
