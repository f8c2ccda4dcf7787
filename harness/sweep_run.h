/* sweep_run.h - the state of a sweep that is under way, and what is said about
 * it. */
#ifndef SWEEP_RUN_H
#define SWEEP_RUN_H

#include "journal.h"
#include "progress.h"
#include "sweep_env.h"
#include "sweep_options.h"
#include "sweep_row.h"

typedef struct sweep_run {
    sweep_options *o;
    sweep_suite suite;
    sweep_cases cases;
    journal_writer writer;
    journal before;         /* as it was when we came                        */
    sweep_env env;
    double start, kernel;   /* when it began; seconds inside kernels         */
    double waited;          /* seconds for a neighbour to leave a core       */
    double ceilings;        /* seconds of measuring the machine itself       */
    double clock;           /* measure_clock() now                           */
    const struct row **row; /* of each case; NULL: not yet                   */
    sweep_outcome *outcome; /* of each case                                  */
    struct row *own;        /* of each case that this run measured ...       */
    json *owned;            /* ... from this list                            */
    json *checks;           /* {case name: check object}                     */
    progress bar;           /* counts processes                              */
    int kept;               /* cases that were there already                 */
    int changed;            /* cases that were, but under other settings     */
    char change[ATT_NAME + 160]; /* the first of them, and how they differ   */
    int resumed;            /* processes of others that were, too            */
    int left, done;         /* the processes of these that are to run        */
    int passes;             /* over all cases                                */
    int again;              /* more processes, of cases that neighbours spoilt */
    const char *doing;
    int width;              /* of the table's first column                   */
} sweep_run;

/* Whose turn it is. */
typedef struct sweep_turn {
    int pass;
    bool first;    /* of its case: it is checked, and its events counted    */
    double inject; /* part of each call by which it is slowed down; 0       */
} sweep_turn;

/* One process of case i; its result goes into the outcome. */
int sweep_process(sweep_run *r, int i, const sweep_turn *turn, sweep_outcome *o);

/* --aa: processes that are left to run; then all pairs, and what they tell. */
int sweep_aa_left(const sweep_run *r);
int sweep_aa(sweep_run *r);

/* --dry-run: the cases with their memory and operations, and how long they will
 * take.  0 or -1. */
int sweep_dry_run(sweep_run *r);

/* Whether a case row means that something went wrong. */
bool sweep_is_failure(const struct row *row);
int sweep_exit_code(const sweep_run *r);
/* {status: number of cases}. */
json *sweep_statuses(const sweep_run *r);

/* Warnings of the machine, rows of other builds (stderr). */
void sweep_say_warnings(const sweep_run *r);
/* How numbers were obtained, the header of the table. */
void sweep_say_legend(const sweep_run *r);
void sweep_say_summary(const sweep_run *r, const json *statuses,
                       const json *fits, const json *crossings);
/* The command that goes on where this run stopped (stderr). */
void sweep_say_resume(sweep_run *r);

#endif
