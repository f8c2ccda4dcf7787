/* spelling.h - mistakes in options, before argp sees them. */
#ifndef SPELLING_H
#define SPELLING_H

#include <argp.h>

#include "error.h"

/* 0 if every option in argv is one of `all` (or the beginning of exactly one),
 * or --help, --usage, --version, and has a value where it needs one; else -1,
 * and e names the nearest.  argp alone would not offer it, and would say more
 * than one line. */
int spelling_check(const struct argp_option *all, int argc, char **argv,
                   error *e);

#endif
