/* spelling.h - unknown options, before argp sees them. */
#ifndef SPELLING_H
#define SPELLING_H

#include <argp.h>

#include "error.h"

/* 0 if every long option in argv is one of `all` (or a beginning of one), or
 * --help, --usage, --version; else -1, and e names the nearest.  argp alone
 * would only say that it does not know the option. */
int spelling_check(const struct argp_option *all, int argc, char **argv,
                   error *e);

#endif
