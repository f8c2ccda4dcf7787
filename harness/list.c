/* list.c - what there is: mechanisms, kernels, suites, counters. */
#include <argp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "counters.h"
#include "error.h"
#include "json.h"
#include "names.h"
#include "spelling.h"
#include "sweep_plan.h"
#include "text.h"
#include "words.h"

/* ---- mechanisms ---------------------------------------------------------- */

/* Names of the kernels of m without the mechanism's: "naive gemm flash". */
static void kernels_of(const att_mechanism *m, char *out, size_t size)
{
    const char **names;
    const int n = names_kernels(&names);
    size_t at = 0;
    *out = 0;
    for (int i = 0; i < n; i++) {
        const size_t length = strlen(m->name);
        if (names_mechanism(names[i], NULL) != m || at >= size) continue;
        const bool own = !strncmp(names[i], m->name, length) &&
                         names[i][length] == '.';
        at += (size_t)snprintf(out + at, size - at, "%s%s", at ? " " : "",
                               own ? names[i] + length + 1 : names[i]);
    }
    free(names);
}

/* Longest of n names. */
static int widest(const char *const *names, int n)
{
    size_t width = 0;
    for (int i = 0; i < n; i++)
        if (strlen(names[i]) > width) width = strlen(names[i]);
    return (int)width;
}

static void print_mechanisms(void)
{
    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    const char **names;
    char kernels[512];
    const int count = names_mechanisms(&names);
    const int width = widest(names, count);
    free(names);
    for (size_t i = 0; i < n; i++) {
        const att_mechanism *m = all[i];
        printf("%s%-*s%s  %-8s  ", text_on(stdout, TEXT_BOLD), width, m->name,
               text_off(stdout, TEXT_BOLD), m->family);
        text_wrap(stdout, width + 12, width + 12, m->brief);
        kernels_of(m, kernels, sizeof kernels);
        printf("%*s  %-8s  ", width, "", "");
        text_wrap(stdout, width + 12, width + 12,
                  *kernels ? kernels : "no kernels: the reference alone");
    }
}

/* The table of README.md. */
static void markdown_mechanisms(void)
{
    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    char kernels[512];
    puts("| mechanism | family | what it is | kernels | cite |\n"
         "|---|---|---|---|---|");
    for (size_t i = 0; i < n; i++) {
        const att_mechanism *m = all[i];
        kernels_of(m, kernels, sizeof kernels);
        printf("| `%s` | %s | %s | %s | %s |\n", m->name, m->family, m->brief,
               *kernels ? kernels : "reference alone", m->cite ? m->cite : "");
    }
}

static json *json_mechanisms(void)
{
    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    json *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const att_mechanism *m = all[i];
        json *j = json_object(), *traits = json_array(), *uses = json_array();
        json_put_text(j, "name", m->name);
        json_put_text(j, "family", m->family);
        json_put_text(j, "brief", m->brief);
        json_put_text(j, "formula", m->formula);
        json_put_text(j, "map", m->map);
        json_put_text(j, "paper_cost", m->paper_cost);
        json_put_text(j, "cite", m->cite);
        json_put_bool(j, "backward", m->backward != NULL);
        for (int t = 0; t < WORDS_TRAITS; t++)
            if (m->traits & words_traits[t].bit)
                json_push_text(traits, words_traits[t].name);
        json_put(j, "traits", traits);
        for (int f = 0; f < ATT_FIELD_COUNT; f++)
            if (att_uses(m, (enum att_field)f))
                json_push_text(uses, att_fields[f].name);
        json_put(j, "axes", uses);
        json_push(list, j);
    }
    return list;
}

/* ---- kernels ------------------------------------------------------------- */

/* Levels of the kernel that starts at all[i]: "v2 v3 v4"; returns how many. */
static size_t levels_of(const att_entry *all, size_t n, size_t i, char *out,
                        size_t size)
{
    size_t at = 0, k = i;
    *out = 0;
    for (; k < n && !strcmp(all[k].kernel->name, all[i].kernel->name); k++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", at ? " " : "",
                               att_level_name(all[k].level));
    return k - i;
}

static void print_kernels(void)
{
    const att_entry *all;
    const size_t n = att_entries(&all);
    const char **names;
    char levels[32];
    const int count = names_kernels(&names);
    const int width = widest(names, count);
    free(names);
    for (size_t i = 0, step; i < n; i += step) {
        const att_kernel *k = all[i].kernel;
        step = levels_of(all, n, i, levels, sizeof levels);
        printf("%s%-*s%s  %-8s  %-16s  %-5s  ", text_on(stdout, TEXT_BOLD),
               width, k->name, text_off(stdout, TEXT_BOLD), levels,
               k->backward ? "forward backward" : "forward",
               k->plain ? "plain" : "fast");
        text_wrap(stdout, width + 37, width + 37, k->brief);
    }
}

static json *json_kernels(void)
{
    const att_entry *all;
    const size_t n = att_entries(&all);
    json *list = json_array();
    json *levels = NULL;
    for (size_t i = 0; i < n; i++) {
        const att_kernel *k = all[i].kernel;
        if (i == 0 || strcmp(k->name, all[i - 1].kernel->name)) {
            json *j = json_object();
            json_put_text(j, "name", k->name);
            json_put_text(j, "mechanism", k->mechanism);
            json_put_text(j, "brief", k->brief);
            json_put_bool(j, "plain", k->plain);
            json_put_bool(j, "backward", k->backward != NULL);
            json_put(j, "levels", levels = json_array());
            json_push(list, j);
        }
        json_push_text(levels, att_level_name(all[i].level));
    }
    return list;
}

/* ---- suites -------------------------------------------------------------- */

/* A suite that cannot be read is listed with the reason; NULL: no folder. */
static json *json_suites(error *e)
{
    char **names;
    const int n = sweep_suite_names(&names, e);
    if (n < 0) return NULL;
    json *list = json_array();
    for (int i = 0; i < n; i++) {
        sweep_suite s;
        error why;
        json *j = json_object();
        json_put_text(j, "name", names[i]);
        if (sweep_suite_read(&s, names[i], &why) == 0) {
            json_put_number(j, "version", s.version);
            json_put_text(j, "brief", s.brief);
            json_put_number(j, "blocks", s.count);
            sweep_suite_free(&s);
        } else
            json_put_text(j, "reason", why.text);
        json_push(list, j);
    }
    sweep_suite_names_free(names, n);
    return list;
}

static void print_suites(const json *list)
{
    for (const json *x = json_first(list); x; x = json_next(x)) {
        const char *reason = json_text(json_get(x, "reason"));
        const char *brief = json_text(json_get(x, "brief"));
        printf("%s%-10s%s  ", text_on(stdout, TEXT_BOLD),
               json_text(json_get(x, "name")), text_off(stdout, TEXT_BOLD));
        if (reason) printf("cannot be read: %s\n", reason);
        else {
            printf("version %-3.0f  ", json_number(json_get(x, "version"), 0));
            text_wrap(stdout, 25, 25, brief ? brief : "");
        }
    }
}

/* ---- counters ------------------------------------------------------------ */

static void print_counter(const json *x)
{
    const bool here = json_true(json_get(x, "available"));
    const enum text_color color = here ? TEXT_GOOD : TEXT_BAD;
    const char *note = json_text(json_get(x, "note"));
    char line[512];
    int at = printf("%-17s", json_text(json_get(x, "name")));
    printf("%s%-5s%s", text_on(stdout, color), here ? "yes" : "no",
           text_off(stdout, color));
    at += 5;
    if (here)
        at += printf("%-9s %-30s ", json_text(json_get(x, "source")),
                     json_text(json_get(x, "event")));
    snprintf(line, sizeof line, "%s%s%s%s", json_text(json_get(x, "meaning")),
             here && !note ? "" : here ? " (" : ": ",
             here ? note ? note : "" : json_text(json_get(x, "reason")),
             here && note ? ")" : "");
    text_wrap(stdout, at, 22, line);
}

static void print_counters(const json *list)
{
    for (const json *x = json_first(list); x; x = json_next(x))
        print_counter(x);
}

/* ---- command ------------------------------------------------------------- */

enum { KEY_JSON = 1000, KEY_MARKDOWN };

static const char *const kinds[] = { "mechanisms", "kernels", "suites",
                                     "counters" };
enum kind { MECHANISMS, KERNELS, SUITES, COUNTERS, KINDS };

typedef struct request {
    int kind; /* -1: all                                                    */
    bool as_json, as_markdown;
    int status;
    error error;
} request;

static error_t parse(int key, char *text, struct argp_state *state)
{
    request *r = state->input;
    if (key == KEY_JSON) r->as_json = true;
    else if (key == KEY_MARKDOWN) r->as_markdown = true;
    else if (key == ARGP_KEY_ARG) {
        for (int i = 0; i < KINDS; i++)
            if (!strcmp(text, kinds[i])) {
                r->kind = i;
                return 0;
            }
        const char *near = error_nearest(text, kinds, KINDS);
        error_set(&r->error,
                  "'%s' cannot be listed%s%s%s; mechanisms, kernels, suites "
                  "and counters can",
                  text, near ? "; did you mean '" : "", near ? near : "",
                  near ? "'?" : "");
        r->status = EXIT_USAGE;
    } else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

static json *collect(const request *r, int kind, error *e)
{
    if (r->kind >= 0 && r->kind != kind) return NULL;
    switch (kind) {
    case MECHANISMS: return json_mechanisms();
    case KERNELS: return json_kernels();
    case SUITES: return json_suites(e);
    default: return counters_describe();
    }
}

static void print_json(request *r)
{
    json *all = json_object();
    for (int kind = 0; kind < KINDS; kind++) {
        json *list = collect(r, kind, &r->error);
        if (list) json_put(all, kinds[kind], list);
        else if (r->kind == kind) r->status = EXIT_MISSING;
    }
    char *text = json_print(all, true);
    if (!r->status) puts(text);
    free(text);
    json_free(all);
}

static void print_text(request *r)
{
    for (int kind = 0; kind < KINDS; kind++) {
        if (r->kind >= 0 && r->kind != kind) continue;
        if (r->kind < 0)
            printf("%s%s%s%s\n", kind ? "\n" : "", text_on(stdout, TEXT_BOLD),
                   kinds[kind], text_off(stdout, TEXT_BOLD));
        if (kind == MECHANISMS) print_mechanisms();
        else if (kind == KERNELS) print_kernels();
        else {
            json *list = collect(r, kind, &r->error);
            if (!list && r->kind == kind) r->status = EXIT_MISSING;
            else if (!list) printf("%s\n", r->error.text);
            else if (kind == SUITES) print_suites(list);
            else print_counters(list);
            json_free(list);
        }
    }
}

int command_list(int argc, char **argv)
{
    static const struct argp_option options[] = {
        { "json", KEY_JSON, NULL, 0, "as one JSON object, for programs", 0 },
        { "markdown", KEY_MARKDOWN, NULL, 0,
          "the mechanisms as a Markdown table", 0 },
        { 0 }
    };
    static const struct argp argp = {
        options, parse, "[mechanisms|kernels|suites|counters]",
        "Lists what this program and this machine have: mechanisms (the "
        "mathematics), kernels (implementations, with the instruction-set "
        "levels that this processor runs), suites (prepared sweeps), counters "
        "(events that can be counted here).",
        NULL, NULL, NULL
    };
    request r = { .kind = -1 };
    if (spelling_check(options, argc, argv, &r.error) < 0)
        r.status = EXIT_USAGE;
    else argp_parse(&argp, argc, argv, 0, NULL, &r);
    if (!r.status && r.as_markdown) markdown_mechanisms();
    else if (!r.status && r.as_json) print_json(&r);
    else if (!r.status) print_text(&r);
    if (!r.status && (r.kind < 0 || r.kind == KERNELS) && att_level_none()) {
        error_set(&r.error, "%s", att_level_none());
        r.status = EXIT_MISSING;
    }
    if (r.status) fprintf(stderr, "%s: %s\n", argv[0], r.error.text);
    return r.status;
}
