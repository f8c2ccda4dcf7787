/* sweep_aa.c - `attnbench sweep --aa`: every kernel against itself.
 *
 * What compare calls a difference between two measurements of the same thing is
 * a false alarm.  Both sides of a pair are measured as a sweep measures a case,
 * process by process in turn (A B B A ...), and judged by the rule of compare.
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
    int pairs;
    int differ; /* intervals without 1                                      */
    int alarms; /* verdicts faster or slower                                */
    bool failed;
} tally;

static void count(tally *t, const struct row *row)
{
    t->pairs++;
    t->differ += row->differs == ROW_YES;
    t->alarms += row_has(row->verdict, "faster") ||
                 row_has(row->verdict, "slower");
}

/* Pairs of case i, if all are dealt to the cases in turn. */
static int share(const sweep_run *r, int i)
{
    return r->o->pairs / r->cases.count + (i < r->o->pairs % r->cases.count);
}

/* Pairs of that case that the same code has measured on the same machine under
 * the same settings. */
static void count_known(const sweep_run *r, const sweep_case *c, tally *t)
{
    json *asked = question_settings(c, r->env.row);
    char why[160];
    for (int k = 0; k < r->before.count; k++) {
        const struct row *row = &r->before.row[k];
        if (row_has(row->kind, "aa") && sweep_row_is_of(&r->before, row, &r->env, c) &&
            question_answered(row, asked, why, sizeof why))
            count(t, row);
    }
    json_free(asked);
}

int sweep_aa_left(const sweep_run *r)
{
    int left = 0;
    for (int i = 0; i < r->cases.count; i++) {
        tally t = { 0 };
        count_known(r, &r->cases.of[i], &t);
        if (t.pairs < share(r, i))
            left += 2 * r->cases.of[i].settings.processes *
                    (share(r, i) - t.pairs);
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

static json *row_of(const sweep_run *r, const sweep_case *c, int pair,
                    const ratio_samples *side)
{
    char code[SWEEP_ID], when[24], id[ATT_NAME + 2 * SWEEP_ID];
    ratio x;
    json *row = json_object(), *sides = json_array();
    ratio_make(&x, &side[0], &side[1], ALPHA);
    sweep_env_code(&c->entry, code);
    sweep_time(when);
    snprintf(id, sizeof id, "%s/%s#%d", r->env.id, c->name, pair);
    for (int s = 0; s < 2; s++) json_push(sides, side_of(&side[s]));
    json_put_text(row, "kind", "aa");
    json_put_number(row, "schema", JOURNAL_SCHEMA);
    json_put_text(row, "id", id);
    json_put_text(row, "case", c->name);
    json_put_text(row, "env", r->env.id);
    json_put_text(row, "code", code);
    json_put_text(row, "when", when);
    json_put(row, "settings", question_settings(c, r->env.row));
    json_put_number(row, "pair", pair);
    json_put(row, "sides", sides);
    json_put_number(row, "ratio", x.value);
    json_put_number(row, "ratio_lo", x.lo);
    json_put_number(row, "ratio_hi", x.hi);
    json_put_bool(row, "differs", ratio_judge(&x, 0) == RATIO_FASTER ||
                                      ratio_judge(&x, 0) == RATIO_SLOWER);
    json_put_text(row, "verdict", ratio_word(ratio_judge(&x, EFFECT)));
    json_put_number(row, "effect", EFFECT);
    return row;
}

/* Both sides, process by process; 1 if the case did not run. */
static int measure(sweep_run *r, int i, int pair, bool first,
                   ratio_samples *side)
{
    const int processes = r->cases.of[i].settings.processes;
    sweep_outcome o[2] = { 0 };
    int rc = 0;
    for (int k = 0; k < 2 * processes && rc == 0; k++) {
        const int s = (pair + k / 2 + k) % 2;
        if (sweep_process(r, i, first && k == 0, &o[s]) < 0) rc = -1;
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
                    tally *t)
{
    const int rc = measure(r, i, t->pairs, first, side);
    t->failed = rc > 0;
    if (rc) return rc < 0 ? -1 : 0;
    json *row = row_of(r, &r->cases.of[i], t->pairs, side);
    const int written = journal_append(&r->writer, row, &r->o->error);
    struct row typed;
    if (row_read(&typed, row, r->writer.path, 0, &r->o->error) == 0)
        count(t, &typed);
    json_free(row);
    return written < 0 ? sweep_fail(r->o, EXIT_MISSING) : 0;
}

/* ---- all pairs ----------------------------------------------------------- */

static void say_rate(const char *what, int hits, int pairs)
{
    double lo, hi;
    stats_share(hits, pairs, &lo, &hi);
    printf("%s: %d of %d, %.1f %% (95 %% interval %.1f to %.1f %%)\n", what,
           hits, pairs, 100.0 * hits / pairs, 100 * lo, 100 * hi);
}

static void say(const sweep_run *r, const tally *t)
{
    tally all = { 0 };
    printf("%-*s %6s %8s %7s\n", r->width, "case", "pairs", "differ", "alarms");
    for (int i = 0; i < r->cases.count; i++) {
        printf("%-*s %6d %8d %7d%s\n", r->width, r->cases.of[i].name,
               t[i].pairs, t[i].differ, t[i].alarms,
               t[i].failed ? "  failed" : "");
        all.pairs += t[i].pairs;
        all.differ += t[i].differ;
        all.alarms += t[i].alarms;
    }
    if (all.pairs) {
        printf("\nA/A: a kernel against itself, nominal %g %%\n", 100 * ALPHA);
        say_rate("intervals of the ratio without 1", all.differ, all.pairs);
        say_rate("verdicts faster or slower, by more than 3 %", all.alarms,
                 all.pairs);
    }
    printf("journal: %s\n", r->writer.path);
    fflush(stdout);
}

int sweep_aa(sweep_run *r)
{
    tally *t = calloc((size_t)r->cases.count + 1, sizeof *t);
    bool *known = calloc((size_t)r->cases.count + 1, sizeof *known);
    ratio_samples *side = malloc(2 * sizeof *side);
    bool more = true;
    int rc = 0;
    if (!t || !known || !side) abort();
    for (int i = 0; i < r->cases.count; i++)
        count_known(r, &r->cases.of[i], &t[i]);
    while (more && rc == 0) {
        more = false;
        for (int i = 0; i < r->cases.count && rc == 0; i++) {
            if (t[i].failed || t[i].pairs >= share(r, i)) continue;
            rc = add_pair(r, i, !known[i], side, &t[i]);
            more = known[i] = true;
        }
    }
    progress_clear(&r->bar);
    if (rc == 0) say(r, t);
    for (int i = 0; i < r->cases.count && rc == 0; i++)
        if (t[i].failed) sweep_fail(r->o, EXIT_SOME_FAILED);
    free(side);
    free(known);
    free(t);
    return rc;
}
