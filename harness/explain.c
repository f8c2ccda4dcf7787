/* explain.c - one mechanism: what it computes, what it costs on a problem, what
 * its kernels need, who invented it, what its map means. */
#include <argp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/plan.h"
#include "axes.h"
#include "cite.h"
#include "commands.h"
#include "error.h"
#include "names.h"
#include "spelling.h"
#include "text.h"
#include "words.h"

/* Column at which values start. */
enum { INDENT = 14 };

static void title(const char *text)
{
    printf("\n%s%s%s\n", text_on(stdout, TEXT_BOLD), text,
           text_off(stdout, TEXT_BOLD));
}

static void line(const char *name, const char *text)
{
    printf("  %-*s", INDENT - 2, name);
    text_wrap(stdout, INDENT, INDENT, text);
}

/* Every line of a text that may have several. */
static void lines(const char *name, const char *text)
{
    while (text) {
        char one[512];
        snprintf(one, sizeof one, "%.*s", (int)strcspn(text, "\n"), text);
        line(name, one);
        name = "";
        text = strchr(text, '\n');
        if (text) text++;
    }
}

/* ---- what it is ---------------------------------------------------------- */

static void print_citation(const att_mechanism *m)
{
    char field[256], text[512];
    size_t length;
    const char *e = m->cite ? cite_entry(m->cite, &length) : NULL;
    if (!e) {
        line("paper", m->cite ? m->cite : "none named");
        return;
    }
    cite_field(e, length, "title", text, sizeof text);
    cite_field(e, length, "year", field, sizeof field);
    const size_t at = strlen(text);
    snprintf(text + at, sizeof text - at, " (%s) [%s]", field, m->cite);
    line("paper", text);
}

/* How queries and keys are aligned where their numbers differ: what a problem
 * with more keys is refused for decides. */
static const char *causal_alignment(const att_mechanism *m)
{
    static const char *const grid[] = { "8", "2x4", "2x2x2" };
    for (int i = 0; i < 3; i++) {
        att_problem p = att_problem_default;
        att_set(&p, ATT_FIELD_grid, grid[i]);
        att_set(&p, ATT_FIELD_causal, "1");
        p.tokens_k = 11;
        if (!att_reject(m, &p))
            return "query i of N sees key j of M if j <= i + (M - N): the last "
                   "query sees all keys (aligned at the bottom right, as with "
                   "a cache of earlier keys)";
    }
    return "query i sees no key after i; there must be as many keys as queries";
}

static void print_definition(const att_mechanism *m)
{
    printf("%s%s%s (%s): ", text_on(stdout, TEXT_BOLD), m->name,
           text_off(stdout, TEXT_BOLD), m->family);
    text_wrap(stdout, (int)(strlen(m->name) + strlen(m->family)) + 5, 2,
              m->brief);
    title("Definition");
    lines("formula", m->formula);
    for (int t = 0, said = 0; t < WORDS_TRAITS; t++)
        if (m->traits & words_traits[t].bit)
            line(said++ ? "" : "traits", words_traits[t].text);
    if (m->traits & ATT_CAN_CAUSAL) line("causal", causal_alignment(m));
    if (m->map) line("its map", m->map);
    print_citation(m);
}

/* ---- the sample problem -------------------------------------------------- */

static void print_axes(const att_mechanism *m, const att_problem *p)
{
    title("Problem (change it with options of these names)");
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        char value[ATT_TEXT], text[256];
        if (!att_uses(m, (enum att_field)f)) continue;
        att_get(p, (enum att_field)f, value);
        snprintf(text, sizeof text, "%-10s %s", value, att_fields[f].help);
        line(axes_name(f), text);
    }
}

static void print_shape(const char *name, const int *dim, int dims,
                        const char *note)
{
    char text[256];
    size_t at = 0, elements = 1;
    for (int i = 0; i < dims && at < sizeof text; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "[%d]", dim[i]);
        elements *= (size_t)dim[i];
    }
    if (at < sizeof text)
        snprintf(text + at, sizeof text - at, "%*s %12s values%s%s",
                 at < 18 ? (int)(18 - at) : 0, "",
                 text_count((double)elements), *note ? ", " : "", note);
    line(name, text);
}

static void print_tensors(const att_mechanism *m, const att_problem *p)
{
    static const char *const starts[] = {
        [ATT_INIT_ZERO] = "starts at 0",
        [ATT_INIT_ONE] = "starts at 1",
        [ATT_INIT_NORMAL] = "starts at random",
        [ATT_INIT_FILL] = "starts as its definition says",
    };
    att_tensor t[ATT_PARAMS];
    title("Tensors (of one batch entry)");
    for (int slot = 0; slot < ATT_SLOTS; slot++) {
        att_shape s;
        const char *name = att_input_name(m, p, (enum att_slot)slot);
        att_shape_of(m, p, (enum att_slot)slot, &s);
        if (name)
            print_shape(name, (int[]){ s.heads, s.tokens, s.channels }, 3,
                        slot == ATT_O ? "output" : "input");
    }
    int n = att_parameters(m, p, t);
    for (int i = 0; i < n; i++) {
        char note[64];
        snprintf(note, sizeof note, "%s, %s", t[i].fixed ? "given" : "learned",
                 starts[t[i].init]);
        if (att_elements(&t[i]))
            print_shape(t[i].name, t[i].dim, t[i].dims, note);
    }
    n = att_extras(m, p, t);
    for (int i = 0; i < n; i++)
        if (att_elements(&t[i]))
            print_shape(t[i].name, t[i].dim, t[i].dims, "second output");
}

/* ---- cost ---------------------------------------------------------------- */

static void count_line(const char *name, double forward, double backward,
                       bool both)
{
    printf("  %-24s%20s", name, text_count(forward));
    if (both) printf("%20s", text_count(backward));
    putchar('\n');
}

static double intensity(const att_cost *c)
{
    const double bytes = c->read + c->write;
    return bytes > 0 ? att_flops(c) / bytes : 0;
}

static void print_intensity(const att_cost *forward, const att_cost *backward,
                            bool both)
{
    printf("  %-24s%20.3g", "FLOPs per byte", intensity(forward));
    if (both) printf("%20.3g", intensity(backward));
    printf("\n\n");
}

static void print_cost(const att_mechanism *m, const att_problem *p)
{
    att_cost c[2] = { 0 };
    const bool both = m->backward != NULL;
    m->cost(p, ATT_FORWARD, &c[0]);
    if (both) m->cost(p, ATT_BACKWARD, &c[1]);

    title("Cost (of the definition, whole batch)");
    printf("  %-24s%20s%20s\n", "", "forward", both ? "backward" : "");
#define COUNT(name, field) count_line(name, c[0].field, c[1].field, both)
    COUNT("visible pairs", pairs);
    COUNT("multiply-adds", mul_add);
    COUNT("additions", add);
    COUNT("multiplications", mul);
    COUNT("divisions", div);
    COUNT("exponentials, roots", exp);
#undef COUNT
    count_line("FLOPs, all", att_flops(&c[0]), att_flops(&c[1]), both);
    count_line("bytes that must move", c[0].read + c[0].write,
               c[1].read + c[1].write, both);
    print_intensity(&c[0], &c[1], both);
    line("we count",
         "pairs exactly, borders and masks included; a multiply-add as 2 "
         "FLOPs, everything else as 1, exponentials (and logarithms, roots, "
         "tanh) and divisions apart; no projections of q, k, v; every tensor "
         "crosses to or from memory once");
    line("the paper", m->paper_cost ? m->paper_cost : "states no cost");
}

/* ---- kernels ------------------------------------------------------------- */

/* Levels of the kernel at all[i], as "v2 v3 v4"; returns the last, the best. */
static size_t last_level(const att_entry *all, size_t n, size_t i, char *out,
                         size_t size)
{
    size_t at = 0;
    for (;; i++) {
        at += (size_t)snprintf(out + at, size - at, "%s%s", at ? " " : "",
                               att_level_name(all[i].level));
        if (i + 1 == n || strcmp(all[i + 1].kernel->name, all[i].kernel->name))
            return i;
    }
}

static void print_kernel(const att_entry *entry, const char *levels,
                         const att_problem *p, int threads)
{
    const att_kernel *k = entry->kernel;
    const bool grad = k->backward != NULL;
    char text[512];
    att_plan plan;
    snprintf(text, sizeof text, "%s (%s%s; %s)", k->brief, levels,
             k->plain ? "; plain" : "", grad ? "forward, backward" : "forward");
    printf("  %s%s%s\n", text_on(stdout, TEXT_BOLD), k->name,
           text_off(stdout, TEXT_BOLD));
    line("", text);
    const char *why = att_plan_create(&plan, entry, p, threads, grad, true);
    if (why) {
        snprintf(text, sizeof text, "not for this problem: %s", why);
        line("", text);
        return;
    }
    snprintf(text, sizeof text, "workspace %s, prepared state %s",
             text_bytes((double)plan.sizes.work),
             text_bytes((double)plan.sizes.state));
    const size_t at = strlen(text);
    if (grad)
        snprintf(text + at, sizeof text - at,
                 "; for backward: saved %s, workspace %s",
                 text_bytes((double)plan.sizes.save),
                 text_bytes((double)plan.sizes.work_backward));
    line("", text);
}

static void print_kernels(const att_mechanism *m, const att_problem *p,
                          int threads)
{
    const att_entry *all;
    const size_t n = att_entries(&all);
    char text[64], levels[32];
    int count = 0;
    snprintf(text, sizeof text, "Kernels (bytes for %d thread%s)", threads,
             threads > 1 ? "s" : "");
    title(text);
    for (size_t i = 0; i < n; i++) {
        const size_t best = last_level(all, n, i, levels, sizeof levels);
        if (all[i].mechanism == m) {
            print_kernel(&all[best], levels, p, threads);
            count++;
        }
        i = best;
    }
    if (!count) line("", "none: the double-precision reference alone");
}

/* ---- command ------------------------------------------------------------- */

typedef struct request {
    const char *mechanism;
    axes axes;
    int status;
    error error;
} request;

enum { KEY_AXIS = 1000 };

/* The axes that one problem has. */
static bool offered(int a)
{
    return a < ATT_FIELD_COUNT || a == AXIS_SEQ || a == AXIS_THREADS;
}

static void set_axis(request *r, int number, const char *text)
{
    if (axes_set(&r->axes, number, text, NULL, &r->error) < 0)
        r->status = EXIT_USAGE;
    else if (r->axes.of[number].count > 1) {
        error_set(&r->error, "--%s: one value, please, not '%s'",
                  axes_name(number), text);
        r->status = EXIT_USAGE;
    }
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    request *r = state->input;
    if (key >= KEY_AXIS && key < KEY_AXIS + AXES) {
        if (!r->status) set_axis(r, key - KEY_AXIS, text);
    } else if (key == ARGP_KEY_ARG && !r->status) {
        if (r->mechanism) {
            error_set(&r->error, "one mechanism at a time: '%s' or '%s'",
                      r->mechanism, text);
            r->status = EXIT_USAGE;
        }
        r->mechanism = text;
    } else if (key != ARGP_KEY_ARG)
        return ARGP_ERR_UNKNOWN;
    return 0;
}

static const struct argp_option *all_options(void)
{
    static struct argp_option all[AXES + 1];
    int n = 0;
    for (int a = 0; a < AXES; a++)
        if (offered(a))
            all[n++] = (struct argp_option){ axes_name(a), KEY_AXIS + a,
                                             "VALUE",      0,
                                             axes_help(a), 0 };
    return all;
}

/* The problem that the options ask for, as m sees it. */
static int fit(request *r, const att_mechanism *m, axes_point *point,
               att_problem *p)
{
    axes *a = &r->axes;
    if (a->of[AXIS_SEQ].count && a->of[ATT_FIELD_grid].count) {
        error_set(&r->error, "--seq and --grid both set the tokens: keep one");
        return -1;
    }
    if (!a->of[AXIS_SEQ].count && !a->of[ATT_FIELD_grid].count)
        axes_set(a, AXIS_SEQ, "1024", NULL, NULL);
    if (!a->of[ATT_FIELD_window].count)
        axes_usual(a, ATT_FIELD_window, "7");
    axes_pick(a, 0, point);
    const char *why = axes_fit(m, point, p);
    if (!why) why = att_reject(m, p);
    if (!why) return 0;
    return error_set(&r->error, "%s is not defined for this problem: %s",
                     m->name, why);
}

static void explain(request *r)
{
    axes_point point;
    att_problem p;
    const att_mechanism *m = NULL;
    if (r->mechanism) m = names_mechanism(r->mechanism, &r->error);
    else
        error_set(&r->error, "which mechanism? as in `attnbench explain na2d`; "
                             "`attnbench list mechanisms` names all");
    if (m) print_definition(m);
    if (!m || fit(r, m, &point, &p) < 0) {
        r->status = EXIT_USAGE;
        return;
    }
    print_axes(m, &p);
    print_tensors(m, &p);
    print_cost(m, &p);
    print_kernels(m, &p, point.threads);
}

int command_explain(int argc, char **argv)
{
    const struct argp argp = {
        all_options(), parse, "MECHANISM",
        "Explains a mechanism: its formula, its cost on a sample problem "
        "beside what the paper says, its parameters, its kernels and the "
        "memory that each needs, the paper, and what its attention map shows."
        "\v"
        "Example:\n"
        "  attnbench explain na2d --grid 56x56 --window 7 --head-dim 32\n",
        NULL, NULL, NULL
    };
    request r = { 0 };
    if (spelling_check(all_options(), argc, argv, &r.error) < 0)
        r.status = EXIT_USAGE;
    else argp_parse(&argp, argc, argv, 0, NULL, &r);
    if (!r.status) explain(&r);
    if (r.status) fprintf(stderr, "%s: %s\n", argv[0], r.error.text);
    axes_free(&r.axes);
    return r.status;
}
