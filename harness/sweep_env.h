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
    json *row;
    bool known; /* the row is in the journal already                        */
} sweep_env;

/* Fills machine, binary and the machine's part of the row.  The machine is
 * described in a child process; setting *stop ends that. */
int sweep_env_identify(sweep_env *env, const volatile sig_atomic_t *stop,
                       error *e);
/* Then: takes over the journal's env row of that machine and program if it has
 * ceilings for all these thread counts (`known`); else measures them, in a
 * child process and about `seconds`.  No thread counts: no ceilings. */
int sweep_env_complete(sweep_env *env, const journal *j, const int *threads,
                       int count, double seconds,
                       const volatile sig_atomic_t *stop, error *e);
void sweep_env_free(sweep_env *env);

/* Identity of the code of a kernel: the program's, together with the plugin's
 * if it comes from one. */
void sweep_env_binary(const sweep_env *env, const att_entry *entry,
                      char out[SWEEP_ID]);

/* Now, as in "2025-01-31T12:00:00Z". */
void sweep_time(char out[24]);

#endif
