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

enum { LEDGER_VALUES = 64, LEDGER_WORDS = 64 };

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
    bool done;
    char reason[512];               /* why not                               */
    json *file;                     /* what was read of it                   */
    const char *file_name;
} ledger_run;

/* A number, or one for each layer, window or whatever its claim lists. */
typedef struct ledger_quantity {
    const char *name, *text, *unit, *how;
    const json *source;
    int count;                  /* 0: not known                              */
    double value[LEDGER_VALUES];
    double lo[LEDGER_VALUES], hi[LEDGER_VALUES]; /* 95 % interval; NAN: none */
    int runs;                   /* seeds that it is the mean of; 0, 1: none  */
    char reason[512];           /* why it is not known                       */
} ledger_quantity;

typedef struct ledger_rule {
    const char *condition, *text, *otherwise;
    bool key;                   /* the claim stands or falls with it         */
    int at_least;               /* of the values of a list; 0: all           */
    bool known, holds;
    bool unclear;               /* fails, but would hold at the other ends of
                                   the intervals that it names               */
} ledger_rule;

enum ledger_verdict {
    LEDGER_REPRODUCED,
    LEDGER_DIFFERS,      /* every key rule holds, another does not           */
    LEDGER_UNCLEAR,      /* none fails, but a key rule is unclear            */
    LEDGER_NOT_REPRODUCED,
    LEDGER_NOT_MEASURED  /* a quantity is missing                            */
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

#endif
