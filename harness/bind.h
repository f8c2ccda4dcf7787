/* bind.h - threads of the OpenMP team on processors of their own. */
#ifndef BIND_H
#define BIND_H

#include "json.h"
#include "sweep_case.h"

/* Binds each thread of the caller's team of that size.  Threads that are made
 * later inherit the place of their maker: call the kernel once before, so that
 * a BLAS has made its own.  {policy, processors, reason}. */
json *bind_team(enum sweep_bind policy, int threads);

/* Adds `held`: whether every thread is still where it was put. */
void bind_verify(json *binding, int threads);

/* "close", "spread", "none": the enum, or -1. */
int bind_parse(const char *text);
const char *bind_word(enum sweep_bind policy);

#endif
