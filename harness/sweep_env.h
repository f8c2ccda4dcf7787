/* sweep_env.h - where and with what program the cases of a run are measured. */
#ifndef SWEEP_ENV_H
#define SWEEP_ENV_H

#include <signal.h>

#include "../kernels/plan.h"
#include "journal.h"
#include "json.h"

enum { SWEEP_ID = 17 }; /* 16 hexadecimal digits of a 64-bit hash           */

typedef struct sweep_env {
    char id[SWEEP_ID];      /* of the env row                               */
    char machine[SWEEP_ID]; /* what stays the same from run to run          */
    char binary[SWEEP_ID];  /* contents of the program's file               */
    json *row;              /* of this run: written anew by each            */
    bool fresh;             /* set before completing: known ceilings do not
                               count                                        */
} sweep_env;

/* Fills machine, binary and the machine's part of the row.  The machine is
 * described in a child process; setting *stop ends that. */
int sweep_env_identify(sweep_env *env, const volatile sig_atomic_t *stop,
                       error *e);
/* Then: completes the env row of this run.  Ceilings for these thread counts are
 * those of the journal's last env row of the same machine, program and settings
 * of the machine, if it has them for all and they are younger than an hour, or
 * those of the user's last run that measured them (ceilings.h), if younger than a
 * day; else they are measured, in a child process and about `seconds`.  No thread counts:
 * no ceilings.  run: what the run is part of (taken over), or NULL. */
int sweep_env_complete(sweep_env *env, const journal *j, const int *threads,
                       int count, double seconds, json *run,
                       const volatile sig_atomic_t *stop, error *e);
void sweep_env_free(sweep_env *env);

/* Identity of the code of a kernel: att_entry's, as text. */
void sweep_env_code(const att_entry *entry, char out[SWEEP_ID]);

/* Now, as in "2025-01-31T12:00:00Z". */
void sweep_time(char out[24]);

#endif
