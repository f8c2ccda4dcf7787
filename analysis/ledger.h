/* ledger.h - claims of papers held against measurements.
 *
 * A ledger (results/claims.json) is data: runs, which are command lines of this
 * program; quantities, which are numbers found in what the runs left behind; and
 * for each claim the rules by which the quantities decide.  results/README.md
 * documents the keys.
 */
#ifndef LEDGER_H
#define LEDGER_H

#include <stdbool.h>

#include "../harness/error.h"
#include "../harness/json.h"

enum { LEDGER_WORDS = 64, LEDGER_NAME = 64, LEDGER_SERIES = 12 };

/* A command line of this program; its --out is chosen by who runs it.  A word
 * @NAME stands for what the run NAME wrote. */
typedef struct ledger_run {
    const char *name, *brief;
    const char *word[LEDGER_WORDS]; /* NULL-terminated                       */
    int words;
    double seconds;                 /* that it takes, for the progress bar   */
    const char *ships;              /* of a training: the model file that it
                                       writes; not run if its record is there */
    bool wanted;                    /* by a claim that was asked for         */
    bool tried;                     /* done, or there is a reason            */
    bool done;
    char reason[512];               /* why not                               */
    json *file;                     /* what was read of it                   */
    const char *file_name;
} ledger_run;

/* lo, hi: 95 % interval; NAN: none. */
typedef struct ledger_number {
    double value, lo, hi;
} ledger_number;

/* A number, or one for each layer, window or whatever its claim lists. */
typedef struct ledger_quantity {
    const char *name, *text, *unit, *how;
    const json *source;
    bool exact;                 /* computed, not sampled: needs no interval  */
    int count;                  /* 0: not known                              */
    ledger_number *of;          /* [count]                                   */
    double least, most;         /* that it can be: intervals end there       */
    int runs;                   /* seeds that it is the mean of; 0, 1: none  */
    double *seed;               /* [runs][count]: of each, if runs > 1       */
    char note[160];             /* what was left out, or ""                  */
    char reason[512];           /* why it is not known                       */
} ledger_quantity;

enum ledger_outcome {
    LEDGER_HOLDS,   /* for all that the intervals allow                      */
    LEDGER_FAILS,   /* for nothing that they allow                           */
    LEDGER_OPEN,    /* for some of it: unclear                               */
    LEDGER_UNKNOWN  /* a quantity is missing                                 */
};

typedef struct ledger_rule {
    const char *condition, *text, *otherwise;
    bool key;                   /* the claim stands or falls with it         */
    int at_least;               /* of the values of a list; 0: all           */
    enum ledger_outcome outcome;
    char effect[200];           /* its two sides in numbers; of lists those
                                   nearest to failing                        */
} ledger_rule;

enum ledger_verdict {
    LEDGER_REPRODUCED,     /* every rule holds                               */
    LEDGER_DIFFERS,        /* every key rule holds, another fails            */
    LEDGER_UNCLEAR,        /* a key rule is unclear and none fails, or every
                              key rule holds, another is unclear, none fails */
    LEDGER_NOT_REPRODUCED, /* a key rule fails                               */
    LEDGER_NOT_MEASURED    /* a quantity is missing                          */
};
extern const char *const ledger_verdicts[];

typedef struct ledger_claim {
    const char *id, *title, *paper, *section, *says, *experiment, *caution;
    ledger_quantity *quantity;
    int quantities;
    ledger_rule *rule;
    int rules;
    const json *figure; /* or NULL                                           */
    const json *pictures; /* that runs of `maps` leave behind, or NULL       */
    bool wanted;
    bool measured;
    enum ledger_verdict verdict;
} ledger_claim;

typedef struct ledger {
    const char *path;
    json *source;
    ledger_run *run;
    int runs;
    ledger_claim *claim;
    int claims;
} ledger;

/* Reads and checks a ledger.  path NULL: the one that the program carries.  0;
 * -1 with e (file, claim, key) and nothing to free. */
int ledger_read(ledger *l, const char *path, error *e);
void ledger_free(ledger *l);

ledger_run *ledger_find_run(const ledger *l, const char *name);

/* Takes a claim's quantities from the files of its runs (folder DIR/NAME of
 * each), and decides. */
void ledger_measure(ledger *l, ledger_claim *c, const char *dir);

/* Quantity of a claim by name, or NULL. */
const ledger_quantity *ledger_find(const ledger_claim *c, const char *name);

/* Appends a number; memory is freed with the ledger. */
void ledger_add(ledger_quantity *q, ledger_number x);
/* No numbers any more. */
void ledger_clear(ledger_quantity *q);

/* "0.249 (0.21 to 0.28)"; three digits. */
void ledger_number_text(const ledger_number *x, char *out, int size);

#endif
