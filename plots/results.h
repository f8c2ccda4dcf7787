/* results.h - the cases of a journal, ready for figures and tables.
 *
 * Rows that the same code measured on the same machine belong together (an
 * environment; several env rows may describe one): those of a program, and those
 * of earlier ones whose kernel was the same.  By default the cases of the newest
 * one are used, and which others were left out is known.  All texts point into
 * the journal.
 */
#ifndef RESULTS_H
#define RESULTS_H

#include <stdbool.h>
#include <stddef.h>

#include "../harness/error.h"
#include "../harness/journal.h"
#include "../harness/json.h"

/* What a row of kind `accuracy` says; unknown without one. */
typedef struct accuracy_errors {
    bool known;
    double max_ulp, rms_ulp, stress_ulp; /* NaN: not measured                */
    row_flag repeat, threads, levels;    /* whether bits are the same        */
} accuracy_errors;

typedef struct result {
    const struct row *row;
    const json *env; /* its env row; NULL if the journal lacks it            */
    const char *env_id; /* of the first env row of that program and machine  */
    const char *name, *mechanism, *kernel, *family, *level, *pass;
    const char *status, *reason;
    int threads;
    accuracy_errors accuracy; /* of its kernel (accuracy.h)                  */
    bool ok;         /* status "ok", with a median if it was timed           */
    bool unreliable; /* too few clean samples, processes that differ too much
                        (both time_ns.unreliable), or faster than the roofline */
} result;

typedef struct results {
    journal journal;
    char hash[65];   /* SHA-256 of the journal                               */
    result *item;    /* one per case and environment: the last row counts    */
    int count;
    const char **env; /* ids of the environments of `item`, oldest first     */
    int env_count;
    result *other;   /* cases of other environments, left out                */
    int left_out;    /* how many                                             */
    int unfinished;  /* cases of which only some processes have been measured */
    int replaced;    /* rows that a later row of the same case replaced      */
} results;

/* What a row is about: a case that was timed, or one whose caches were
 * simulated. */
enum results_kind { RESULTS_TIMED, RESULTS_SIMULATED };

/* Reads DIR/journal.jsonl.  env: an id (or the start of one) for what its program
 * measured, "all", or NULL for the environment of the last case.  No case at all
 * is an error. */
int results_read(results *r, const char *dir, enum results_kind kind,
                 const char *env, error *e);
void results_free(results *r);

/* For people: "608 cases of other machines or of other code are left out (linear.*,
 * ...): --env all"; "" if none is. */
void results_say_left_out(const results *r, char *out, size_t size);

/* "warm" or "cold": what was in the caches when it was called; "" of simulated
 * ones, which are both.  Rows before there was a choice are warm. */
const char *result_cache(const result *r);
bool result_is_cold(const result *r);
/* Whether any case is cold. */
bool results_cold(const results *r);

/* Text of an axis of the problem: "56x56", "32", "relu"; "" if the case has no
 * such axis.  out holds RESULT_TEXT bytes. */
enum { RESULT_TEXT = 64 };
void result_axis(const result *r, const char *axis, char *out);
/* Number of an axis, NaN if it has none; lists of equal entries count as one,
 * "tokens" is the product of the grid. */
double result_axis_number(const result *r, const char *axis);

/* A member of an env row's ceilings ("roofline"); NULL if it has none. */
const json *results_ceilings(const json *env, const char *member);

/* Where the numbers are from, one line each for people: "Zen 5, 2 cores",
 * "gcc 12.2 -O3", "1a2b3c4"; "?" where the journal does not say. */
void results_machine(const json *env, char *out, size_t size);
void results_compiler(const json *env, char *out, size_t size);
void results_revision(const json *env, char *out, size_t size);

#endif
