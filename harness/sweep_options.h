/* sweep_options.h - the command line of `attnbench sweep`. */
#ifndef SWEEP_OPTIONS_H
#define SWEEP_OPTIONS_H

#include "axes.h"
#include "error.h"
#include "sweep_plan.h"

typedef struct sweep_options {
    const char *name; /* "attnbench sweep"                                  */
    const char *suite, *out;
    axes axes;
    sweep_patterns kernels, not;
    int plain;               /* enum sweep_plain, -1: not given              */
    sweep_settings settings; /* NaN, 0 processes: not given                  */
    int shard, shards;
    bool retry, dry_run, fresh, aa;
    int pairs;               /* of --aa, in all                              */
    double inject;           /* of --aa: slow-down of one side; 0: none      */
    int status;              /* exit code, once something has failed ...     */
    error error;             /* ... and why                                  */
} sweep_options;

/* Reads the command line; --help ends the program.  Returns the exit code, 0 if
 * all is well. */
int sweep_options_read(sweep_options *o, int argc, char **argv);

/* Another command over the cases of a sweep: it has the options that choose
 * cases, but not those of timing, and some of its own. */
typedef struct sweep_command {
    const char *doc;
    const struct argp_option *own; /* ends with { 0 }; keys below 1000       */
    int (*set)(void *arg, int key, const char *text, error *e); /* 0 or -1   */
    void *arg;
} sweep_command;
int sweep_options_read_as(sweep_options *o, const sweep_command *as, int argc,
                          char **argv);
void sweep_options_free(sweep_options *o);

/* Notes an exit code, the first one wins; returns -1. */
int sweep_fail(sweep_options *o, int status);

/* The suite that the options ask for, and its cases.  Returns 0 or -1. */
int sweep_options_cases(sweep_options *o, sweep_suite *suite,
                        sweep_cases *cases);

#endif
