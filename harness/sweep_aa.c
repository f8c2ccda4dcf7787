/* sweep_aa.c - `attnbench sweep --aa`: every kernel against itself.
 *
 * What is called a difference between two measurements of the same thing is a
 * false alarm.  Both sides of a pair are measured as a sweep measures a case,
 * process by process in turn (A B B A ...), and judged round by round (ratio.h).
 * With --inject one side of every second pair is slowed down: how many of these
 * are found is the power.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "question.h"
#include "ratio.h"
#include "sweep_run.h"

#define EFFECT 0.03 /* below which compare finds no difference, by default  */
#define ALPHA 0.05

typedef struct tally {
    int pairs;    /* of the same thing                                       */
    int differ;   /* of these, intervals without 1                           */
    int alarms;   /* of these, verdicts faster or slower                     */
    int injected; /* pairs with a side that was slowed down                  */
    int found;    /* of these, intervals above 1                             */
    bool failed;
} tally;

static void count(tally *t, const struct row *row)
{
    if (row->injected > 0) {
        t->injected++;
        t->found += row->ratio_lo > 1;
        return;
    }
    t->pairs++;
    t->differ += row->differs == ROW_YES;
    t->alarms += row_has(row->verdict, "faster") ||
                 row_has(row->verdict, "slower");
}

static int all_of(const tally *t)
{
    return t->pairs + t->injected;
}

/* The rounds of all pairs so far: what their differences have in common. */
typedef struct rounds {
    spread *of;
    int count;
} rounds;

static void add_rounds(rounds *r, const spread *s)
{
    if (r->count % 64 == 0) {
        r->of = realloc(r->of, (size_t)(r->count + 64) * sizeof *r->of);
        if (!r->of) abort();
    }
    r->of[r->count++] = *s;
}

static void pool_rounds(const rounds *r, spread_prior *out)
{
    const spread **of = malloc(((size_t)r->count + 1) * sizeof *of);
    if (!of) abort();
    for (int i = 0; i < r->count; i++) of[i] = &r->of[i];
    spread_pool(of, r->count, out);
    free(of);
}

/* Pairs of case i, if all are dealt to the cases in turn. */
static int share(const sweep_run *r, int i)
{
    return r->o->pairs / r->cases.count + (i < r->o->pairs % r->cases.count);
}

/* Whether pair number `pair` has a side that is slowed down. */
static double inject_of(const sweep_run *r, int pair)
{
    return pair % 2 ? r->o->inject : 0;
}

static void rounds_of(const struct row *row, spread *out)
{
    double ln[SPREAD_UNITS];
    int n = 0;
    for (const json *x = json_first(row->rounds);
         x && n < SPREAD_UNITS; x = json_next(x))
        ln[n++] = log(json_number(x, NAN));
    spread_of(ln, NULL, n, out);
}

/* Pairs of that case that the same code has measured on the same machine under
 * the same settings.  all: NULL, or takes their rounds. */
static void count_known(const sweep_run *r, const sweep_case *c, tally *t,
                        rounds *all)
{
    json *asked = question_settings(c, r->env.row);
    char why[160];
    for (int k = 0; k < r->before.count; k++) {
        const struct row *row = &r->before.row[k];
        const double injected = isnan(row->injected) ? 0 : row->injected;
        if (row_has(row->kind, "aa") &&
            sweep_row_is_of(&r->before, row, &r->env, c) &&
            question_answered(row, asked, why, sizeof why) &&
            injected == inject_of(r, all_of(t))) {
            spread units;
            count(t, row);
            rounds_of(row, &units);
            if (all) add_rounds(all, &units);
        }
    }
    json_free(asked);
}

int sweep_aa_left(const sweep_run *r)
{
    int left = 0;
    for (int i = 0; i < r->cases.count; i++) {
        tally t = { 0 };
        count_known(r, &r->cases.of[i], &t, NULL);
        if (all_of(&t) < share(r, i))
            left += 2 * r->cases.of[i].settings.processes *
                    (share(r, i) - all_of(&t));
    }
    return left;
}

/* ---- one pair ------------------------------------------------------------ */

static json *side_of(const ratio_samples *s)
{
    stats_summary all;
    json *j = json_object();
    stats_summarise(s->ns, s->count, &all);
    json_put_number(j, "median_ns", all.median);
    json_put_number(j, "n", s->count);
    json_put_number(j, "processes", s->processes);
    return j;
}

static json *ratios_of(const spread *s)
{
    json *j = json_array();
    for (int k = 0; k < s->units; k++) json_push_number(j, exp(s->unit[k]));
    return j;
}

static json *row_of(const sweep_run *r, const sweep_case *c, int pair,
                    const ratio_samples *side, tally *t, rounds *all)
{
    char id[ATT_NAME + 2 * SWEEP_ID];
    ratio x;
    spread units;
    spread_prior prior;
    sweep_said said;
    struct row row;
    json *sides = json_array();
    ratio_rounds_spread(&side[0], &side[1], &units);
    add_rounds(all, &units);
    pool_rounds(all, &prior);
    ratio_rounds(&x, &side[0], &side[1], &prior, ALPHA);
    json *turns = ratios_of(&units);
    for (int s = 0; s < 2; s++) json_push(sides, side_of(&side[s]));
    snprintf(id, sizeof id, "%s/%s#%d", r->env.id, c->name, pair);
    sweep_row_head(&row, &said, "aa", c, &r->env);
    row.id = id;
    row.pair = pair;
    row.injected = inject_of(r, pair);
    row.sides = sides;
    row.rounds = turns;
    row.ratio = x.value;
    row.ratio_lo = x.lo;
    row.ratio_hi = x.hi;
    row.differs = ratio_judge(&x, 0) == RATIO_FASTER ||
                  ratio_judge(&x, 0) == RATIO_SLOWER;
    row.verdict = ratio_word(ratio_judge(&x, EFFECT));
    row.effect = EFFECT;
    count(t, &row);
    json *j = row_write(&row);
    json_free(sides);
    json_free(turns);
    sweep_said_free(&said);
    return j;
}

/* Both sides, process by process; 1 if the case did not run. */
static int measure(sweep_run *r, int i, int pair, bool first,
                   ratio_samples *side)
{
    const int processes = r->cases.of[i].settings.processes;
    sweep_outcome o[2] = { 0 };
    int rc = 0;
    for (int k = 0; k < 2 * processes && rc == 0; k++) {
        /* of pairs 0, 1 side A begins, of 2, 3 side B: with --inject of both kinds */
        const int s = (pair / 2 + k / 2 + k) % 2;
        const sweep_turn turn = { .pass = k / 2,
                                  .first = first && k == 0,
                                  .inject = s ? inject_of(r, pair) : 0 };
        if (sweep_process(r, i, &turn, &o[s]) < 0) rc = -1;
        else if (strcmp(o[s].status, "ok")) {
            progress_clear(&r->bar);
            fprintf(stderr, "%s: %s: %s: %s\n", r->o->name,
                    r->cases.of[i].name, o[s].status, o[s].reason);
            rc = 1;
        }
    }
    for (int s = 0; s < 2; s++) {
        if (rc == 0) ratio_samples_take(o[s].samples, &side[s]);
        sweep_outcome_free(&o[s]);
    }
    return rc;
}

static int add_pair(sweep_run *r, int i, bool first, ratio_samples *side,
                    tally *t, rounds *all)
{
    const int rc = measure(r, i, all_of(t), first, side);
    t->failed = rc > 0;
    if (rc) return rc < 0 ? -1 : 0;
    json *row = row_of(r, &r->cases.of[i], all_of(t), side, t, all);
    const int written = journal_append(&r->writer, row, &r->o->error);
    json_free(row);
    return written < 0 ? sweep_fail(r->o, EXIT_MISSING) : 0;
}

/* ---- all pairs ----------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void say_rate(const char *what, int hits, int pairs)
{
    double lo, hi;
    stats_share(hits, pairs, &lo, &hi);
    printf("%s: %d of %d, %.1f %% (95 %% interval %.1f to %.1f %%)\n", what,
           hits, pairs, 100.0 * hits / pairs, 100 * lo, 100 * hi);
}

/* Processes of a side with which a ratio that differs by `effect` is found in 80 %
 * of pairs like these; 0: not known.  Half of the pairs need fewer; share 0.8: as
 * many do. */
static double needed(const rounds *all, double share, double effect)
{
    const double both = 1.959964 + 0.841621; /* normal points of 2.5 and 80 % */
    double *v = malloc(((size_t)all->count + 1) * sizeof *v);
    spread_prior prior;
    int n = 0;
    if (!v) abort();
    pool_rounds(all, &prior);
    for (int i = 0; i < all->count; i++) {
        spread_interval x;
        spread_estimate(&all->of[i], &prior, ALPHA, &x);
        if (all->of[i].units > 1) v[n++] = x.own * all->of[i].units;
    }
    qsort(v, (size_t)n, sizeof *v, ascending);
    const double variance = n ? v[(int)(share * (n - 1))] : 0;
    free(v);
    return ceil(fmax(2, variance * pow(both / log1p(effect), 2)));
}

static void say_power(const sweep_run *r, const tally *sum, const rounds *all)
{
    const double effect = r->o->inject;
    printf("\none side slowed down by %g %%:\n", 100 * effect);
    say_rate("found (power)", sum->found, sum->injected);
    printf("80 %% power takes about %.0f processes a side for half of the cases, "
           "%.0f for 80 %% of them\n", needed(all, 0.5, effect),
           needed(all, 0.8, effect));
}

static void say(const sweep_run *r, const tally *t, const rounds *all)
{
    tally sum = { 0 };
    printf("%-*s %6s %8s %7s %9s %6s\n", r->width, "case", "pairs", "differ",
           "alarms", "injected", "found");
    for (int i = 0; i < r->cases.count; i++) {
        printf("%-*s %6d %8d %7d %9d %6d%s\n", r->width, r->cases.of[i].name,
               t[i].pairs, t[i].differ, t[i].alarms, t[i].injected, t[i].found,
               t[i].failed ? "  failed" : "");
        sum.pairs += t[i].pairs;
        sum.differ += t[i].differ;
        sum.alarms += t[i].alarms;
        sum.injected += t[i].injected;
        sum.found += t[i].found;
    }
    if (sum.pairs) {
        printf("\nA/A: a kernel against itself, nominal %g %%\n", 100 * ALPHA);
        say_rate("intervals of the ratio without 1", sum.differ, sum.pairs);
        say_rate("verdicts faster or slower, by more than 3 %", sum.alarms,
                 sum.pairs);
    }
    if (sum.injected) say_power(r, &sum, all);
    printf("journal: %s\n", r->writer.path);
    fflush(stdout);
}

int sweep_aa(sweep_run *r)
{
    tally *t = calloc((size_t)r->cases.count + 1, sizeof *t);
    bool *known = calloc((size_t)r->cases.count + 1, sizeof *known);
    ratio_samples *side = malloc(2 * sizeof *side);
    rounds all = { 0 };
    bool more = true;
    int rc = 0;
    if (!t || !known || !side) abort();
    for (int i = 0; i < r->cases.count; i++)
        count_known(r, &r->cases.of[i], &t[i], &all);
    while (more && rc == 0) {
        more = false;
        for (int i = 0; i < r->cases.count && rc == 0; i++) {
            if (t[i].failed || all_of(&t[i]) >= share(r, i)) continue;
            rc = add_pair(r, i, !known[i], side, &t[i], &all);
            more = known[i] = true;
        }
    }
    progress_clear(&r->bar);
    if (rc == 0) say(r, t, &all);
    for (int i = 0; i < r->cases.count && rc == 0; i++)
        if (t[i].failed) sweep_fail(r->o, EXIT_SOME_FAILED);
    free(all.of);
    free(side);
    free(known);
    free(t);
    return rc;
}
