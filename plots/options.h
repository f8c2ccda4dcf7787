/* options.h - what the commands of plots/ share on the command line. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "../harness/error.h"
#include "../harness/spelling.h"
#include "results.h"

/* Which cases of a journal a command looks at. */
typedef struct selection {
    const char *env;          /* --env                                       */
    const char *only, *not;   /* --kernel, --not: patterns with commas       */
    enum results_kind kind;
} selection;

/* The next of a list with commas: copies it to out (size bytes) and moves *list
 * past it; false at the end. */
bool options_next(const char **list, char *out, size_t size);

/* results_read(), then only the kernels selected.  A pattern that fits no
 * kernel is an error with the nearest one. */
int options_read(results *r, const char *dir, const selection *s, error *e);

/* Prints "NAME: text" on stderr and returns the code. */
int options_fail(const char *name, const error *e, int code);

#endif
