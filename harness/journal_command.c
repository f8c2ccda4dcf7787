/* journal_command.c - `attnbench journal`: what rows look like, and whether those of
 * a run look so. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "file.h"
#include "journal.h"
#include "journal_keys.h"
#include "spelling.h"

enum { KEY_SCHEMA = 256, KEY_DOCUMENT, PAGE_LIMIT = 1 << 24 };

static const char doc[] =
    "Checks the rows of a run against the list of their keys: names, types, what "
    "must be there.\v"
    "Examples:\n"
    "  attnbench journal results/mine\n"
    "  attnbench journal --schema > journal.schema.json\n"
    "\n"
    "Exit codes: 0 all rows are as results/README.md says; 1 some are not; 2 "
    "usage, or no journal that can be read.";

static const struct argp_option options[] = {
    { "schema", KEY_SCHEMA, NULL, 0,
      "print the JSON Schema (draft 2020-12) of a row", 0 },
    { "document", KEY_DOCUMENT, "PAGE", 0,
      "print this page, its tables of keys made anew", 0 },
    { 0 },
};

typedef struct arguments {
    const char *dir, *page;
    bool schema;
} arguments;

static error_t parse(int key, char *text, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case KEY_SCHEMA: a->schema = true; break;
    case KEY_DOCUMENT: a->page = text; break;
    case ARGP_KEY_ARG:
        if (a->dir) argp_failure(state, EXIT_USAGE, 0, "one run, not more");
        a->dir = text;
        break;
    case ARGP_KEY_END:
        if (!a->dir && !a->page && !a->schema)
            argp_failure(state, EXIT_USAGE, 0,
                         "which run? its folder, or --schema");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int print_schema(void)
{
    json *schema = journal_schema();
    char *text = json_print(schema, true);
    printf("%s\n", text);
    free(text);
    json_free(schema);
    return EXIT_OK;
}

static int print_page(const char *path, error *e)
{
    char *page, *text;
    size_t size;
    if (file_read(path, PAGE_LIMIT, &page, &size, e) < 0) return EXIT_USAGE;
    text = journal_document(page, e);
    free(page);
    if (!text) return EXIT_USAGE;
    fputs(text, stdout);
    free(text);
    return EXIT_OK;
}

static int check(const char *dir, error *e)
{
    enum { MOST_TOLD = 16 };
    journal j;
    char why[512];
    int wrong = 0;
    if (journal_read(&j, dir, e) < 0) return EXIT_USAGE;
    json *schema = journal_schema();
    for (int i = 0; i < j.count; i++) {
        if (journal_row_fits(schema, j.rows[i], why, sizeof why)) continue;
        if (wrong++ < MOST_TOLD) printf("%s:%d: %s\n", j.path, j.line[i], why);
    }
    printf("%s: %d rows, %d of them not as results/README.md says\n", j.path,
           j.count, wrong);
    json_free(schema);
    journal_free(&j);
    return wrong ? EXIT_GATE : EXIT_OK;
}

int command_journal(int argc, char **argv)
{
    const struct argp argp = { options, parse, "[DIR]", doc, NULL, NULL, NULL };
    arguments a = { 0 };
    int code = EXIT_OK;
    error e = { "" };

    argp_err_exit_status = EXIT_USAGE;
    if (spelling_check(options, argc, argv, &e) < 0) code = EXIT_USAGE;
    else argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (code == EXIT_OK && a.schema) code = print_schema();
    if (code == EXIT_OK && a.page) code = print_page(a.page, &e);
    if (code == EXIT_OK && a.dir) code = check(a.dir, &e);
    if (*e.text) fprintf(stderr, "%s: %s\n", argv[0], e.text);
    return code;
}
