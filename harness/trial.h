/* trial.h - kernels on one problem in a process of their own, in memory between
 * guard pages: what dies, hangs or writes beside its place is a result like a
 * wrong value.
 *
 * The calling process must not have used OpenMP (isolate.h).
 */
#ifndef TRIAL_H
#define TRIAL_H

#include "bound.h"
#include "casefile.h"
#include "draw.h"
#include "isolate.h"

/* A kernel may take at most so many times as long on one kind of inputs as on
 * another of the same problem; calls shorter than this are noise. */
#define TRIAL_SLOWER 3.0
#define TRIAL_LEAST 30e-6

enum trial_outcome {
    TRIAL_NONE, /* not tried                                                 */
    TRIAL_REFUSED,
    TRIAL_PASSED,
    TRIAL_WRONG,
    TRIAL_DIED, /* by a signal, in time, by itself                           */
    TRIAL_SLOW
};

typedef struct trial_verdict {
    enum trial_outcome outcome;
    bool forward_only;
    char status[16];       /* TRIAL_DIED: of isolate.h                       */
    char reason[320];      /* of a refusal or death                          */
    bound_verdict judged;
    enum inputs_family slow, fast; /* TRIAL_SLOW                             */
    double seconds[2];             /* on them                                */
    enum att_pass pass;
} trial_verdict;

/* Tries the wanted entries (by their place in att_entries()) on d.  verdict has
 * a place for each and a last one for the reference: TRIAL_WRONG if it is not a
 * number, TRIAL_DIED.  A kernel that dies does not keep the others from their
 * turn.  seconds: for all of them together. */
int trial_run(const drawn *d, const bool *wanted, double seconds,
              trial_verdict *verdict, error *e);

/* Times an entry on d's problem with all families of inputs (one thread); with
 * `only`, on verdict->slow and fast alone. */
int trial_time(const drawn *d, int entry, bool only, double seconds,
               trial_verdict *verdict, error *e);

/* Writes the case file of d with what the reference makes of it.  source: for
 * its metadata. */
int trial_write(const drawn *d, const char *path, const char *source,
                const trial_verdict *why, double seconds, error *e);

typedef struct trial_file {
    char status[16];    /* "ok", or how the process ended                    */
    char reason[320];
    char refused[320];  /* why the kernel refuses; "" if it does not         */
    char failed[1024];  /* why the file could not be compared; "" if it was  */
    bool forward_only;  /* the file has a gradient, the kernel has none      */
    case_result result;
    double slower;      /* than on inputs of the family of the file; 0: not
                           asked                                             */
} trial_file;

/* A kernel, or with NULL the reference, on a case file. */
int trial_case(const case_file *c, const att_entry *entry, int threads,
               double seconds, trial_file *out, error *e);
bool trial_case_passes(const trial_file *t);

#endif
