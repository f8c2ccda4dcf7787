/* compare.c - attnbench compare DIR_A DIR_B: two runs, case by case. */
#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/commands.h"
#include "../harness/progress.h"
#include "options.h"
#include "quantity.h"
#include "ratio.h"
#include "sheet.h"

static const char doc[] =
    "Compares the times of the cases that two runs have in common: the ratio "
    "of medians B / A with an interval, and a verdict.  Where the same probe "
    "ran "
    "beside the samples of both on the same machine, what it tells of the speed "
    "of the core is taken out of the ratio.\v"
    "Intervals are Student's, of the logarithms of the processes' medians; how "
    "processes differ is moderated by all cases of a run; they cover all "
    "ratios together (Bonferroni).  faster, slower: the whole interval lies "
    "beyond the effect; same: within it; unclear: it crosses the limit, and "
    "the number of further processes that would decide is told, or a side has "
    "one process only.  broken: measured in A, failed in B.\n\n"
    "With --fail-on slower the exit code is 1 unless every case of A is shown "
    "not to be slower in B by more than the effect: a case that is slower, "
    "broken, missing in B, of one process only, without enough clean samples, "
    "or that may be slower for all that is known, fails it, and the reason is "
    "told.  On a noisy machine ask for less: a larger --min-effect.";

enum { KEY_NOT = 256, KEY_FAIL, KEY_EFFECT, KEY_COVER, KEY_ENV_A, KEY_ENV_B };

static const struct argp_option options[] = {
    { "min-effect", KEY_EFFECT, "X", 0,
      "differences below this do not count: 3% (default) or 0.03", 0 },
    { "fail-on", KEY_FAIL, "VERDICT", 0,
      "slower: exit code 1 if a case is slower or broken, or may be", 0 },
    { "env-a", KEY_ENV_A, "ID", 0,
      "of A: cases of this environment, or 'all' (default: the newest)", 0 },
    { "env-b", KEY_ENV_B, "ID", 0, "the same of B", 0 },
    { "cover", KEY_COVER, "X", 0,
      "probability that all intervals hold together (default 95%)", 0 },
    { "format", 'f', "NAME", 0, "text (default), md, csv, tex or json", 0 },
    { "kernel", 'k', "NAMES", 0, "only these; patterns like 'na2d.*'", 0 },
    { "not", KEY_NOT, "NAMES", 0, "without these", 0 },
    { 0 },
};

typedef struct arguments {
    const char *dir[2], *env[2], *format;
    selection selection;
    double effect, cover;
    bool fail_on_slower;
} arguments;

/* "3%" or "0.03", in (lo, hi); false if it is neither. */
static bool read_share(const char *text, double lo, double hi, double *out)
{
    char *end;
    *out = strtod(text, &end);
    if (end == text) return false;
    end += strspn(end, " ");
    if (*end == '%') {
        *out /= 100;
        end++;
    }
    return !*end && *out >= lo && *out < hi;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case 'f': a->format = text; break;
    case 'k': a->selection.only = text; break;
    case KEY_NOT: a->selection.not = text; break;
    case KEY_FAIL:
        if (strcmp(text, "slower"))
            argp_failure(state, EXIT_USAGE, 0,
                         "--fail-on=%s: only 'slower' is known", text);
        a->fail_on_slower = true;
        break;
    case KEY_ENV_A: a->env[0] = text; break;
    case KEY_ENV_B: a->env[1] = text; break;
    case KEY_EFFECT:
        if (!read_share(text, 0, 10, &a->effect))
            argp_failure(state, EXIT_USAGE, 0,
                         "--min-effect=%s: not a share such as 3%%", text);
        break;
    case KEY_COVER:
        if (!read_share(text, 0.5, 1, &a->cover))
            argp_failure(state, EXIT_USAGE, 0,
                         "--cover=%s: not a share from 50%% on", text);
        break;
    case ARGP_KEY_ARG:
        if (a->dir[1]) argp_failure(state, EXIT_USAGE, 0, "two runs, not more");
        a->dir[a->dir[0] != NULL] = text;
        break;
    case ARGP_KEY_END:
        if (!a->dir[1])
            argp_failure(state, EXIT_USAGE, 0,
                         "which two runs? name their folders");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- pairs --------------------------------------------------------------- */

enum { BROKEN = RATIO_UNCLEAR + 1, VERDICTS };
static const char *const verdicts[VERDICTS] = { "faster", "slower", "same",
                                                "unclear", "broken" };

typedef struct pair {
    const result *a, *b;
    ratio ratio;
    int verdict;
    double more; /* processes that would decide                             */
} pair;

#define LONG_NS 50e3
#define AGREE   0.03

typedef struct pairs {
    pair *item;
    int count;
    int only[2];          /* cases of one run only                           */
    int hidden[2];        /* of these, there in the other run's left-out rows */
    int missing;          /* measured in A, not in B                         */
    int tally[VERDICTS];
    int compared, paired; /* ratios; those on an undisturbed core            */
    int fractions, agree; /* of the roofline, there: within AGREE            */
    int doubtful;         /* too few clean samples, or no interval           */
    int single;           /* of one process only                             */
    int undecided;        /* unclear, and maybe slower                       */
    int elsewise;         /* measured under other settings in B ...          */
    char setting[32];     /* ... the first of which is this                  */
} pairs;

/* Settings that shift a time; others make its interval wider or narrower. */
static const char *other_setting(const pair *x)
{
    static const char *const keys[] = { "bind", "processors", "environment",
                                        "governor", "turbo", "smt", "thp" };
    const json *a = x->a->row->settings, *b = x->b->row->settings;
    for (size_t i = 0; a && b && i < sizeof keys / sizeof *keys; i++) {
        char *one = json_print(json_get(a, keys[i]), false);
        char *two = json_print(json_get(b, keys[i]), false);
        const bool same = !strcmp(one, two);
        free(one);
        free(two);
        if (!same) return keys[i];
    }
    return NULL;
}

/* Cases by name. */
typedef struct names {
    const result **of;
    int count;
} names;

static int by_name(const void *a, const void *b)
{
    const result *x = *(const result *const *)a;
    const result *y = *(const result *const *)b;
    const int c = strcmp(x->name, y->name);
    return c ? c : (x > y) - (x < y);
}

/* Each name once, with its last row. */
static names names_of(const result *item, int count)
{
    names n = { malloc((size_t)(count + 1) * sizeof *n.of), 0 };
    if (!n.of) abort();
    for (int i = 0; i < count; i++) n.of[i] = &item[i];
    qsort(n.of, (size_t)count, sizeof *n.of, by_name);
    for (int i = 0; i < count; i++)
        if (i + 1 == count || strcmp(n.of[i]->name, n.of[i + 1]->name))
            n.of[n.count++] = n.of[i];
    return n;
}

static int compare_name(const void *name, const void *item)
{
    return strcmp(name, (*(const result *const *)item)->name);
}

static const result *find(const names *n, const char *name)
{
    const result **found = bsearch(name, n->of, (size_t)n->count,
                                   sizeof *n->of, compare_name);
    return found ? *found : NULL;
}

/* Cases that A has measured and B has tried. */
static void match(pairs *p, const results *a, const results *b)
{
    const names in[2] = { names_of(a->item, a->count),
                          names_of(b->item, b->count) };
    const names left_out[2] = { names_of(a->other, a->left_out),
                                names_of(b->other, b->left_out) };
    p->item = malloc((size_t)(a->count + 1) * sizeof *p->item);
    if (!p->item) abort();
    for (int i = 0; i < in[0].count; i++) {
        const result *one = in[0].of[i], *other = find(&in[1], one->name);
        if (other && one->ok)
            p->item[p->count++] = (pair){ .a = one, .b = other };
        else if (!other) p->missing += one->ok;
    }
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < in[side].count; i++) {
            const char *name = in[side].of[i]->name;
            if (find(&in[!side], name)) continue;
            p->only[side]++;
            p->hidden[side] += find(&left_out[!side], name) != NULL;
        }
    for (int side = 0; side < 2; side++) {
        free(in[side].of);
        free(left_out[side].of);
    }
}

static void note_evidence(pairs *p, const pair *x, const ratio_samples *s,
                          double effect)
{
    const char *setting = other_setting(x);
    const bool doubtful =
        x->a->unreliable || x->b->unreliable || !s[0].count || !s[1].count;
    const bool single = s[0].processes < 2 || s[1].processes < 2;
    p->doubtful += doubtful;
    p->single += !doubtful && single;
    p->undecided += !doubtful && !single && x->verdict == RATIO_UNCLEAR &&
                    x->ratio.hi > 1 + effect;
    if (setting && p->elsewise++ == 0)
        snprintf(p->setting, sizeof p->setting, "%s", setting);
}

/* Two runs of the same code: how well the fractions of the roofline on an
 * undisturbed core agree, where a call is long enough to be a case of its own. */
static void note_agreement(pairs *p, const pair *x)
{
    const double a = x->a->row->paired.fraction, b = x->b->row->paired.fraction;
    if (!(a > 0 && b > 0 && x->a->row->time_ns.median > LONG_NS)) return;
    p->fractions++;
    p->agree += fabs(log(b / a)) <= log1p(AGREE);
}

/* What is common to the cases of each run: of wall times, and of what they would
 * have taken on an undisturbed core. */
typedef struct common {
    spread_prior prior[2]; /* by run                                         */
} common;

static void pool(const pairs *p, bool paired, common *out)
{
    ratio_samples *s = malloc(2 * sizeof *s);
    spread *units = malloc(((size_t)p->count + 1) * 2 * sizeof *units);
    const spread **of = malloc(((size_t)p->count + 1) * sizeof *of);
    if (!s || !units || !of) abort();
    int n = 0;
    for (int i = 0; i < p->count; i++) {
        const pair *x = &p->item[i];
        if (!x->b->ok || ratio_read(s, x->a, x->b) != paired) continue;
        ratio_spread(&s[0], &units[2 * n]);
        ratio_spread(&s[1], &units[2 * n + 1]);
        n++;
    }
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < n; i++) of[i] = &units[2 * i + side];
        spread_pool(of, n, &out->prior[side]);
    }
    free(of);
    free(units);
    free(s);
}

static void judge(pairs *p, const arguments *a)
{
    ratio_samples *s = malloc(2 * sizeof *s);
    common known[2]; /* of wall times; on an undisturbed core                */
    progress bar;
    if (!s) abort();
    for (int k = 0; k < 2; k++) pool(p, k, &known[k]);
    progress_begin(&bar, p->count);
    for (int i = 0; i < p->count; i++) {
        pair *x = &p->item[i];
        progress_show(&bar, i, x->a->name);
        x->verdict = BROKEN;
        x->more = NAN;
        x->ratio = (ratio){ NAN, NAN, NAN, NAN, NAN, 0, 0 };
        if (x->b->ok) {
            const bool paired = ratio_read(s, x->a, x->b);
            const common *c = &known[paired];
            p->paired += paired;
            p->compared++;
            note_agreement(p, x);
            ratio_make(&x->ratio, &s[0], &c->prior[0], &s[1], &c->prior[1],
                       (1 - a->cover) / p->count);
            x->verdict = (int)ratio_judge(&x->ratio, a->effect);
            note_evidence(p, x, s, a->effect);
        }
        if (x->verdict == RATIO_UNCLEAR)
            x->more = ratio_more_processes(&x->ratio, a->effect);
        p->tally[x->verdict]++;
    }
    progress_clear(&bar);
    free(s);
}

/* ---- table --------------------------------------------------------------- */

static void put_time(cell *c, const result *r)
{
    char text[64];
    const double ns = r->row->time_ns.median;
    if (r->ok) quantity_text(QUANTITY_SECONDS, ns * 1e-9, text, sizeof text);
    else snprintf(text, sizeof text, "%s", r->status);
    cell_number(c, r->ok ? ns : NAN, text);
}

static void put_change(cell *c, double value)
{
    char text[32] = "-";
    if (isfinite(value))
        snprintf(text, sizeof text, "%+.1f %%", 100 * (value - 1));
    cell_number(c, value, text);
}

/* "same (within 3 %)", "unclear: 14 more processes would decide". */
static void verdict_text(const pair *p, double effect, char *out, size_t size)
{
    enum { MANY = 10000 };
    const char *word = verdicts[p->verdict];
    if (p->verdict == BROKEN)
        snprintf(out, size, "%s: %s", word, p->b->reason);
    else if (p->verdict == RATIO_SAME)
        snprintf(out, size, "%s (within %g %%)", word, 100 * effect);
    else if (p->verdict != RATIO_UNCLEAR) snprintf(out, size, "%s", word);
    else if (isnan(p->ratio.lo))
        snprintf(out, size, p->ratio.processes < 2 ? "%s: one process only"
                                                   : "%s: too few samples", word);
    else if (p->more > MANY)
        snprintf(out, size, "%s: too close to the limit of %g %%", word,
                 100 * effect);
    else
        snprintf(out, size, "%s: %.0f more processes would decide", word,
                 fmax(p->more, 1));
}

/* Slower and broken cases first: they are what one looks for. */
static int by_ratio(const void *a, const void *b)
{
    static const int rank[VERDICTS] = { 3, 1, 4, 2, 0 };
    const pair *x = a, *y = b;
    if (x->verdict != y->verdict) return rank[x->verdict] - rank[y->verdict];
    if (x->ratio.value != y->ratio.value)
        return x->ratio.value > y->ratio.value ? -1 : 1;
    return strcmp(x->a->name, y->a->name);
}

/* What the changes are of; "" if of wall times alone. */
static void basis_of(const pairs *p, char *out, size_t size)
{
    char how_many[32] = "Changes";
    if (p->paired < p->compared)
        snprintf(how_many, sizeof how_many, "%d of the changes", p->paired);
    *out = 0;
    if (p->paired)
        snprintf(out, size, " %s are those on an undisturbed core: each sample "
                 "times the speed of the core beside it.", how_many);
}

static void make_sheet(sheet *s, const pairs *p, const arguments *a)
{
    char text[1024], basis[160];
    basis_of(p, basis, sizeof basis);
    sheet_column(s, "case", "case", false);
    sheet_column(s, "A", "a_time_ns", true);
    sheet_column(s, "B", "b_time_ns", true);
    sheet_column(s, "change", "ratio", true);
    sheet_column(s, "from", "ratio_lo", true);
    sheet_column(s, "to", "ratio_hi", true);
    sheet_column(s, "verdict", "verdict", false);
    for (int i = 0; i < p->count; i++) {
        const pair *x = &p->item[i];
        sheet_row(s);
        cell_word(sheet_last(s, 0), x->a->name);
        put_time(sheet_last(s, 1), x->a);
        put_time(sheet_last(s, 2), x->b);
        put_change(sheet_last(s, 3), x->ratio.value);
        put_change(sheet_last(s, 4), x->ratio.lo);
        put_change(sheet_last(s, 5), x->ratio.hi);
        verdict_text(x, a->effect, text, sizeof text);
        cell_word(sheet_last(s, 6), verdicts[x->verdict]);
        sheet_text(&sheet_last(s, 6)->text, text);
    }
    snprintf(text, sizeof text,
             "Medians of B (%s) against A (%s); intervals cover all %d changes "
             "together with %g %%.%s",
             a->dir[1], a->dir[0], p->count, 100 * a->cover, basis);
    sheet_text(&s->caption, text);
}

static void summary(const pairs *p, char *out, size_t size)
{
    int n = snprintf(out, size, "%d faster, %d slower, %d same, %d unclear",
                     p->tally[RATIO_FASTER], p->tally[RATIO_SLOWER],
                     p->tally[RATIO_SAME], p->tally[RATIO_UNCLEAR]);
    if (p->tally[BROKEN])
        n += snprintf(out + n, size - (size_t)n, ", %d broken",
                      p->tally[BROKEN]);
    for (int i = 0; i < 2; i++) {
        if (p->only[i])
            n += snprintf(out + n, size - (size_t)n, "%s%d case%s only in %c",
                          i && p->only[0] ? ", " : "; ", p->only[i],
                          p->only[i] == 1 ? "" : "s", 'A' + i);
        if (p->hidden[i])
            n += snprintf(out + n, size - (size_t)n,
                          " (%c has %d of them of other code or from another "
                          "machine: --env-%c all)",
                          'B' - i, p->hidden[i], 'b' - i);
    }
    if (p->fractions)
        snprintf(out + n, size - (size_t)n,
                 "; paired fractions of the roofline agree within %g %% in %d of "
                 "%d cases above 50 us", 100 * AGREE, p->agree, p->fractions);
}

/* ---- all ----------------------------------------------------------------- */

static void warn(const char *name, const results *a, const results *b,
                 const pairs *p)
{
    char x[160], y[160];
    results_machine(a->item[0].env, x, sizeof x);
    results_machine(b->item[0].env, y, sizeof y);
    if (strcmp(x, y))
        fprintf(stderr, "%s: different machines: A on %s, B on %s\n", name, x,
                y);
    if (p->single)
        fprintf(stderr, "%s: %d case%s samples of one process only: how "
                        "processes differ is not in their intervals\n", name,
                p->single, p->single == 1 ? " has" : "s have");
    if (p->elsewise)
        fprintf(stderr, "%s: %d case%s measured under other settings in B "
                        "than in A (%s)\n", name, p->elsewise,
                p->elsewise == 1 ? " was" : "s were", p->setting);
    for (int i = 0; i < 2; i++) {
        char text[512];
        results_say_left_out(i ? b : a, text, sizeof text);
        if (*text) fprintf(stderr, "%s: %c: %s\n", name, 'A' + i, text);
    }
}

/* The exit code of --fail-on slower, and why it is not 0. */
static int gate(const char *name, const pairs *p)
{
    const struct { int count; const char *what; } why[] = {
        { p->tally[RATIO_SLOWER], "slower" },
        { p->tally[BROKEN], "broken" },
        { p->missing, "missing in B" },
        { p->doubtful, "unreliable" },
        { p->single, "of one process only (sweep --processes 2)" },
        { p->undecided, "maybe slower (more processes would decide, or a larger "
                        "--min-effect)" },
    };
    const char *comma = " ";
    int code = EXIT_OK;
    for (size_t i = 0; i < sizeof why / sizeof *why; i++) {
        if (!why[i].count) continue;
        if (code == EXIT_OK) fprintf(stderr, "%s: --fail-on slower:", name);
        fprintf(stderr, "%s%d %s", comma, why[i].count, why[i].what);
        comma = ", ";
        code = EXIT_GATE;
    }
    if (code != EXIT_OK) fputc('\n', stderr);
    return code;
}

static void print(const sheet *s, enum sheet_format format, const char *line)
{
    const bool people = format != SHEET_CSV && format != SHEET_JSON;
    sheet_write(stdout, s, format);
    if (format == SHEET_TEXT || format == SHEET_MD) printf("%s\n", line);
    else if (!people) fprintf(stderr, "%s\n", line);
}

static int run(const arguments *a, const char *name, const results *x,
               const results *y, enum sheet_format format, error *e)
{
    pairs p = { 0 };
    sheet s = { 0 };
    char line[512];
    int code = EXIT_OK;
    match(&p, x, y);
    if (p.count == 0) {
        free(p.item);
        error_set(e, "%s and %s have no measured case in common", a->dir[0],
                  a->dir[1]);
        return options_fail(name, e,
                            a->fail_on_slower ? EXIT_GATE : EXIT_USAGE);
    }
    judge(&p, a);
    qsort(p.item, (size_t)p.count, sizeof *p.item, by_ratio);
    warn(name, x, y, &p);
    make_sheet(&s, &p, a);
    summary(&p, line, sizeof line);
    print(&s, format, line);
    if (a->fail_on_slower) code = gate(name, &p);
    sheet_free(&s);
    free(p.item);
    return code;
}

int command_compare(int argc, char **argv)
{
    const struct argp argp = { options, parse, "DIR_A DIR_B", doc, NULL, NULL,
                               NULL };
    arguments a = { .format = "text", .effect = 0.03, .cover = 0.95 };
    results r[2];
    error e;

    argp_err_exit_status = EXIT_USAGE;
    if (spelling_check(options, argc, argv, &e) < 0)
        return options_fail(argv[0], &e, EXIT_USAGE);
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    const int format = sheet_format_find(a.format, &e);
    a.selection.env = a.env[0];
    if (format < 0 || options_read(&r[0], a.dir[0], &a.selection, &e) < 0)
        return options_fail(argv[0], &e, EXIT_USAGE);
    a.selection.env = a.env[1];
    if (options_read(&r[1], a.dir[1], &a.selection, &e) < 0) {
        results_free(&r[0]);
        return options_fail(argv[0], &e, EXIT_USAGE);
    }
    const int code = run(&a, argv[0], &r[0], &r[1], (enum sheet_format)format,
                         &e);
    results_free(&r[0]);
    results_free(&r[1]);
    return code;
}
