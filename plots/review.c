/* review.c - attnbench check DIR: what a reviewer would object to. */
#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/commands.h"
#include "objections.h"
#include "options.h"
#include "sheet.h"

static const char doc[] =
    "Lists what a reviewer of a run would object to: one line for each case, "
    "series or environment, with the number that is objected to and the "
    "remedy.\v"
    "Ends with 0 if there is nothing, and with 1 if there is something of at "
    "least that severity (--least), as a gate.\n\n"
    "  attnbench check results/run\n"
    "  attnbench check results/run --count\n"
    "  attnbench check results/run --least error && publish\n"
    "  attnbench check --list";

enum { KEY_LEAST = 256, KEY_COUNT, KEY_PROCESSES, KEY_LIST, KEY_NOT };

static const struct argp_option options[] = {
    { "format", 'f', "NAME", 0, "text (default), md, csv, tex or json", 0 },
    { "least", KEY_LEAST, "SEVERITY", 0,
      "note (default), warning or error: leave out what is less", 0 },
    { "count", KEY_COUNT, NULL, 0, "only how many of each kind", 0 },
    { "processes", KEY_PROCESSES, "N", 0,
      "fewer processes or passes are few (default 3)", 0 },
    { "kernel", 'k', "NAMES", 0, "only these; patterns like 'na2d.*'", 0 },
    { "not", KEY_NOT, "NAMES", 0, "without these", 0 },
    { "env", 'E', "ID", 0,
      "cases of this environment, or 'all' (default: the newest)", 0 },
    { "list", KEY_LIST, NULL, 0, "what is looked for, and nothing else", 0 },
    { 0 },
};

static const char *const severities[] = { "note", "warning", "error" };

typedef struct arguments {
    const char *dir, *format;
    selection selection;
    int least, processes;
    bool count, list;
} arguments;

static int severity_of(const char *text, struct argp_state *state)
{
    for (int i = 0; i < 3; i++)
        if (!strcmp(text, severities[i])) return i;
    argp_failure(state, EXIT_USAGE, 0,
                 "--least: '%s' is none of note, warning, error", text);
    return 0;
}

static int processes_of(const char *text, struct argp_state *state)
{
    char *end;
    const long n = strtol(text, &end, 10);
    if (end == text || *end || n < 1 || n > 1000)
        argp_failure(state, EXIT_USAGE, 0,
                     "--processes: '%s' is no number from 1 to 1000", text);
    return (int)n;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case 'f': a->format = text; break;
    case 'k': a->selection.only = text; break;
    case 'E': a->selection.env = text; break;
    case KEY_NOT: a->selection.not = text; break;
    case KEY_LEAST: a->least = severity_of(text, state); break;
    case KEY_COUNT: a->count = true; break;
    case KEY_LIST: a->list = true; break;
    case KEY_PROCESSES: a->processes = processes_of(text, state); break;
    case ARGP_KEY_ARG:
        if (a->dir) argp_failure(state, EXIT_USAGE, 0, "one run at a time");
        a->dir = text;
        break;
    case ARGP_KEY_END:
        if (!a->dir && !a->list)
            argp_failure(state, EXIT_USAGE, 0, "which run? name its folder");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- sheets -------------------------------------------------------------- */

static void put_number(cell *c, const objection *rule, double number)
{
    char text[48] = "";
    if (isfinite(number) && *rule->format)
        snprintf(text, sizeof text, rule->format, number * rule->scale);
    cell_number(c, number, text);
}

static void put_rule(sheet *s, const objection *rule)
{
    sheet_row(s);
    cell_word(sheet_last(s, 0), rule->id);
    cell_word(sheet_last(s, 1), severities[rule->severity]);
}

static void list_lines(sheet *s, const objection_found *found, int count, int least)
{
    sheet_column(s, "objection", "objection", false);
    sheet_column(s, "severity", "severity", false);
    sheet_column(s, "case", "case", false);
    sheet_column(s, "number", "number", true);
    sheet_column(s, "detail", "detail", false);
    sheet_column(s, "remedy", "remedy", false);
    for (int i = 0; i < count; i++) {
        const objection_found *x = &found[i];
        if ((int)x->rule->severity < least) continue;
        put_rule(s, x->rule);
        cell_word(sheet_last(s, 2), x->name);
        put_number(sheet_last(s, 3), x->rule, x->number);
        cell_word(sheet_last(s, 4), x->detail);
        cell_word(sheet_last(s, 5), x->remedy ? x->remedy : "");
    }
}

/* How many of each kind; with found = NULL, all kinds that there are. */
static int list_kinds(sheet *s, const objection_found *found, int count, int least)
{
    int all = 0;
    char text[16];
    sheet_column(s, "objection", "objection", false);
    sheet_column(s, "severity", "severity", false);
    if (found) sheet_column(s, "count", "count", true);
    sheet_column(s, "what it says", "text", false);
    sheet_column(s, "remedy", "remedy", false);
    for (int i = 0; i < objections_count; i++) {
        const objection *rule = &objections[i];
        int n = 0, k = 2;
        for (int x = 0; x < count; x++) n += found[x].rule == rule;
        if ((int)rule->severity < least || (found && !n)) continue;
        put_rule(s, rule);
        snprintf(text, sizeof text, "%d", n);
        if (found) cell_number(sheet_last(s, k++), n, text);
        cell_word(sheet_last(s, k++), rule->text);
        cell_word(sheet_last(s, k), rule->remedy ? rule->remedy : "");
        all += n;
    }
    return all;
}

/* ---- command ------------------------------------------------------------- */

static void print_json(const sheet *lines, const sheet *kinds, const results *r)
{
    json *j = json_object();
    json_put_text(j, "data_sha256", r->hash);
    json_put(j, "kinds", sheet_rows(kinds));
    json_put(j, "objections", sheet_rows(lines));
    char *text = json_print(j, true);
    puts(text);
    free(text);
    json_free(j);
}

/* CSV is one table. */
static void print(const arguments *a, const sheet *lines, const sheet *kinds,
                  const results *r, enum sheet_format format)
{
    if (format == SHEET_JSON) {
        print_json(lines, kinds, r);
        return;
    }
    if (!a->count) sheet_write(stdout, lines, format);
    if (a->count || format != SHEET_CSV) {
        if (!a->count) fputc('\n', stdout);
        sheet_write(stdout, kinds, format);
    }
}

static int review(const arguments *a, const results *r, enum sheet_format format)
{
    objection_found *found = NULL;
    sheet lines = { 0 }, kinds = { 0 };
    char footnote[120];
    const int count = objections_find(r, a->processes, &found);
    objection_found none = { 0 };
    list_lines(&lines, found, count, a->least);
    const int all = list_kinds(&kinds, found ? found : &none, count, a->least);
    snprintf(footnote, sizeof footnote, "%d objection%s to %d case%s.", all,
             all == 1 ? "" : "s", r->count, r->count == 1 ? "" : "s");
    if (all) {
        sheet_text(&kinds.footnote, footnote);
        print(a, &lines, &kinds, r, format);
    } else if (format == SHEET_CSV || format == SHEET_JSON)
        print(a, &lines, &kinds, r, format);
    else puts(footnote);
    sheet_free(&lines);
    sheet_free(&kinds);
    free(found);
    return all ? EXIT_GATE : EXIT_OK;
}

static int list_rules(const arguments *a, enum sheet_format format)
{
    sheet kinds = { 0 };
    list_kinds(&kinds, NULL, 0, a->least);
    sheet_write(stdout, &kinds, format);
    if (format == SHEET_JSON) fputc('\n', stdout);
    sheet_free(&kinds);
    return EXIT_OK;
}

int command_check(int argc, char **argv)
{
    const struct argp argp = { options, parse, "DIR", doc, NULL, NULL, NULL };
    arguments a = { .format = "text", .processes = OBJECTION_PROCESSES };
    results r;
    error e;

    argp_err_exit_status = EXIT_USAGE;
    if (spelling_check(options, argc, argv, &e) < 0)
        return options_fail(argv[0], &e, EXIT_USAGE);
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    const int format = sheet_format_find(a.format, &e);
    if (format < 0) return options_fail(argv[0], &e, EXIT_USAGE);
    if (a.list) return list_rules(&a, (enum sheet_format)format);
    if (options_read(&r, a.dir, &a.selection, &e) < 0)
        return options_fail(argv[0], &e, EXIT_USAGE);
    const int code = review(&a, &r, (enum sheet_format)format);
    results_free(&r);
    return code;
}
