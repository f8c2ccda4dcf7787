/* random.h - `verify --random`: kernels on random problems, and what fails made
 * as small as it can be. */
#ifndef RANDOM_H
#define RANDOM_H

#include "trial.h"

typedef struct random_options {
    long problems;      /* 0: as many as fit in `seconds`                    */
    double seconds;     /* 0: no limit                                       */
    uint64_t seed;
    int threads;        /* 0: drawn                                          */
    double timeout;     /* of one problem                                    */
    bool time;          /* whether time may depend on the values             */
    const char *out;    /* folder of the case files                          */
    /* Which kernels; mechanisms of which no kernel is chosen are left out. */
    bool (*selected)(const att_entry *entry, const void *arg);
    const void *arg;
} random_options;

/* Prints findings and a table.  An exit code: EXIT_OK, EXIT_GATE if anything
 * was found or nothing verified, EXIT_INTERRUPTED. */
int random_verify(const random_options *o);

#endif
