/* cite.c - BibTeX of attnbench and of the papers behind mechanisms. */
#include "cite.h"

#include <argp.h>
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "embed.h"
#include "error.h"
#include "names.h"
#include "spelling.h"

EMBED(embedded_references, "results/references.bib");
EMBED(embedded_citation, "CITATION.cff");

/* ---- BibTeX -------------------------------------------------------------- */

/* Length of "@type{ ... }" by counting braces; our file is balanced. */
static size_t entry_length(const char *entry)
{
    size_t i = 0;
    int depth = 0;
    for (; entry[i]; i++) {
        depth += (entry[i] == '{') - (entry[i] == '}');
        if (entry[i] == '}' && depth == 0) return i + 1;
    }
    return i;
}

/* The next entry at or after `at`, or NULL. */
static const char *next_entry(const char *at)
{
    while (*at && !(*at == '@' && at[-1] == '\n')) at++;
    return *at ? at : NULL;
}

static bool has_key(const char *entry, const char *key)
{
    const char *open = strchr(entry, '{');
    const size_t length = strlen(key);
    return open && !strncmp(open + 1, key, length) && open[1 + length] == ',';
}

const char *cite_entry(const char *key, size_t *length)
{
    const char *e = next_entry(embedded_references + 1);
    for (; e; e = next_entry(e + *length)) {
        *length = entry_length(e);
        if (has_key(e, key)) return e;
    }
    return NULL;
}

/* Start of the value after "field =", inside its brace, or NULL. */
static const char *value_of(const char *entry, size_t length, const char *field)
{
    const size_t n = strlen(field);
    for (const char *c = entry; c + n < entry + length; c++) {
        if (*c != '\n') continue;
        c += 1 + strspn(c + 1, " ");
        if (!strncmp(c, field, n) && strchr(" =", c[n]))
            return strchr(c, '=') + 1;
        c--;
    }
    return NULL;
}

void cite_field(const char *entry, size_t length, const char *field, char *out,
                size_t size)
{
    const char *c = value_of(entry, length, field);
    size_t at = 0;
    int depth = 0;
    if (c) c += strspn(c, " ");
    for (; c && c < entry + length && at + 1 < size; c++) {
        depth += (*c == '{') - (*c == '}');
        if (depth <= 0) break;
        if (strchr("{}$", *c)) continue;
        if (*c == '\\') { /* \'e -> e, \L -> L, \& -> & */
            if (ispunct((unsigned char)c[1]) && c[1] != '&') c++;
            continue;
        }
        const char x = isspace((unsigned char)*c) ? ' ' : *c;
        if (x == ' ' && (at == 0 || out[at - 1] == ' ')) continue;
        out[at++] = x;
    }
    out[at] = 0;
}

static void print_entry(const char *key)
{
    size_t length;
    const char *e = cite_entry(key, &length);
    if (e) printf("\n%.*s\n", (int)length, e);
}

/* ---- attnbench itself ---------------------------------------------------- */

/* Value of a top-level key of CITATION.cff, without quotes. */
static void citation_field(const char *key, char *out, size_t size)
{
    const size_t n = strlen(key);
    const char *line = embedded_citation;
    *out = 0;
    for (; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        if (strncmp(line, key, n) || line[n] != ':') continue;
        line += n + 1;
        line += strspn(line, " \"");
        snprintf(out, size, "%.*s", (int)strcspn(line, "\"\n"), line);
        return;
    }
}

static void print_tool(void)
{
    char title[160], date[16];
    citation_field("title", title, sizeof title);
    citation_field("date-released", date, sizeof date);
    printf("@software{attnbench,\n"
           "  author  = {{The attnbench authors}},\n"
           "  title   = {{%s}},\n"
           "  version = {%s},\n"
           "  date    = {%s},\n"
           "  year    = {%.4s}\n"
           "}\n",
           title, ATTNBENCH_VERSION, date, date);
}

/* ---- command ------------------------------------------------------------- */

typedef struct request {
    const char **key; /* each once                                          */
    int count;
    int status;
    error error;
} request;

static void add_key(request *r, const char *key)
{
    for (int i = 0; i < r->count; i++)
        if (!strcmp(r->key[i], key)) return;
    r->key = reallocarray(r->key, (size_t)r->count + 1, sizeof *r->key);
    if (!r->key) abort();
    r->key[r->count++] = key;
}

static void add_mechanism(request *r, const att_mechanism *m)
{
    size_t length;
    if (!m->cite || !*m->cite) {
        if (!r->status)
            error_set(&r->error, "mechanism '%s' names no paper", m->name);
        r->status = EXIT_MISSING;
    } else if (cite_entry(m->cite, &length)) add_key(r, m->cite);
    else if (!r->status) {
        error_set(&r->error,
                  "mechanism '%s' cites '%s', which results/references.bib "
                  "does not have: add the entry there and build again",
                  m->name, m->cite);
        r->status = EXIT_MISSING;
    }
}

/* A mechanism, a kernel, or a key of the bibliography. */
static void add_argument(request *r, const char *text)
{
    size_t length;
    const char *entry = cite_entry(text, &length);
    if (entry) {
        add_key(r, text);
        return;
    }
    const att_mechanism *m = names_mechanism(text, &r->error);
    if (m) add_mechanism(r, m);
    else r->status = EXIT_USAGE;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    request *r = state->input;
    if (key != ARGP_KEY_ARG) return ARGP_ERR_UNKNOWN;
    if (r->status != EXIT_USAGE) add_argument(r, text);
    return 0;
}

static void add_all(request *r)
{
    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    for (size_t i = 0; i < n; i++) add_mechanism(r, all[i]);
}

int command_cite(int argc, char **argv)
{
    static const struct argp_option none[] = { { 0 } };
    static const struct argp argp = {
        NULL, parse, "[MECHANISM|KERNEL|KEY...]",
        "Prints BibTeX entries of attnbench and of the papers behind "
        "mechanisms; without names, behind all of them."
        "\v"
        "Examples:\n"
        "  attnbench cite na2d softmax.flash > references.bib\n"
        "  attnbench cite williams2009roofline",
        NULL, NULL, NULL
    };
    request r = { 0 };
    if (spelling_check(none, argc, argv, &r.error) < 0) r.status = EXIT_USAGE;
    else argp_parse(&argp, argc, argv, 0, NULL, &r);
    if (!r.status && r.count == 0) add_all(&r);
    if (r.status != EXIT_USAGE) {
        print_tool();
        for (int i = 0; i < r.count; i++) print_entry(r.key[i]);
    }
    if (r.status) fprintf(stderr, "%s: %s\n", argv[0], r.error.text);
    free(r.key);
    return r.status;
}
