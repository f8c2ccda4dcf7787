/* bind.h - threads of the OpenMP team on processors of their own. */
#ifndef BIND_H
#define BIND_H

#include <stdbool.h>

#include "json.h"
#include "sweep_case.h"

/* NULL, or why a team of that size cannot run as asked here: fewer threads than
 * asked for, too small a stack; static storage.  Makes the team, and undoes what
 * OMP_PROC_BIND and its kind have done to it: every thread may run anywhere. */
const char *bind_refusal(int threads);

/* Whether that many threads can have processors of their own. */
bool bind_has_room(int threads);

/* Binds each thread of the caller's team of that size.  Threads that are made
 * later inherit the place of their maker: call the kernel once before, so that
 * a BLAS has made its own.  {policy, processors, reason}. */
json *bind_team(enum sweep_bind policy, int threads);

/* Adds `held`: whether every thread is still where it was put; false if that
 * was asked for and is not so. */
bool bind_verify(json *binding, int threads);

/* "close", "spread", "none": the enum, or -1. */
int bind_parse(const char *text);
const char *bind_word(enum sweep_bind policy);

#endif
