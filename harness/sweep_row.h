/* sweep_row.h - what the processes of a case brought back, as a row of the
 * journal and as a line for people. */
#ifndef SWEEP_ROW_H
#define SWEEP_ROW_H

#include <stdio.h>

#include "isolate.h"
#include "journal.h"
#include "spread.h"
#include "stats.h"
#include "sweep_case.h"
#include "sweep_env.h"

/* The results of a case so far. */
typedef struct sweep_outcome {
    json *first;      /* what the first process found out beside times       */
    json *samples;    /* array: one object of measure_samples() per process  */
    char status[16];  /* "" until a process has ended                        */
    char reason[320];
    spread units;     /* of the samples so far                               */
    double clean;     /* part of the samples that are                        */
} sweep_outcome;

/* Takes the result of one process over (and its value). */
void sweep_outcome_add(sweep_outcome *o, isolate_result *r);
void sweep_outcome_free(sweep_outcome *o);

/* What members of a row that is being made point to. */
typedef struct sweep_said {
    char code[SWEEP_ID], when[24];
    char place[320], doubt[160];
    json *problem, *settings, *pooled;
} sweep_said;

/* What rows of that kind say of a case, of where it ran and what was asked; nothing
 * else is known of them yet.  Free `said` when the row has been written. */
void sweep_row_head(struct row *row, sweep_said *said, const char *kind,
                    const sweep_case *c, const sweep_env *env);
void sweep_said_free(sweep_said *said);

/* The units (spread.h) of a row's or an outcome's samples. */
void sweep_units(const measurement *m, spread *out);

/* The case row; keys in results/README.md.  prior: what the cases of this run have
 * in common. */
json *sweep_row(const sweep_case *c, const sweep_env *env,
                const sweep_outcome *o, const spread_prior *prior);

/* The row of the last process of an outcome that is not complete yet, and back:
 * false if it is not the process that the outcome lacks next. */
json *sweep_pass_row(const sweep_case *c, const sweep_env *env,
                     const sweep_outcome *o);
bool sweep_pass_take(const struct row *row, sweep_outcome *o);

/* Whether a row of the journal, of any kind, is of that case, measured by the same
 * code on the same machine. */
bool sweep_row_is_of(const journal *j, const struct row *row,
                     const sweep_env *env, const sweep_case *c);
/* The case rows of a journal by name; the caller frees `of`. */
typedef struct sweep_index {
    const journal *journal;
    const struct row **of;
    int count;
} sweep_index;
sweep_index sweep_index_make(const journal *j);

/* The last such row that answers the same question, or NULL.  why (size bytes)
 * gets how the last one that does not differs, or "". */
const struct row *sweep_row_find(const sweep_index *x, const sweep_env *env,
                                 const sweep_case *c, char *why, size_t size);

/* Table on a stream: a header, then lines; width is that of the case column. */
int sweep_table_width(const sweep_case *cases, int count);
void sweep_table_header(FILE *f, int width);
void sweep_table_line(FILE *f, int width, const struct row *row);

/* Fits of time over tokens for every series of the rows that differ in nothing
 * else: [{kernel, series, regime, ..., exponent, lo, hi, points, ...}], as in
 * the end row: of all lengths ("all"), and of those that one level of memory
 * holds.  roofline: of the env row, or NULL. */
json *sweep_fits(const struct row *const *rows, int count,
                 const json *roofline);
void sweep_fits_print(FILE *f, const json *fits);

/* From what length on each series is faster than the best of softmax on the same
 * problem: [{series, baseline, faster, tokens, lo, hi}], as in the end row. */
json *sweep_crossings(const struct row *const *rows, int count);
void sweep_crossings_print(FILE *f, const json *crossings);

/* One line for each case that is slower at a level than at one below it, beyond
 * both intervals: what no kernel should be. */
void sweep_levels_print(FILE *f, const struct row *const *rows, int count);

/* A line each: time on sharp inputs over that on normal ones, with cold caches over
 * that with warm ones, where both were measured; nothing if there is no such pair. */
void sweep_inputs_print(FILE *f, const struct row *const *rows, int count);

#endif
