/* process.h - what this process inherited from its parent, kept before any
 * library can change it, and what it sets right for itself.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include <sched.h>

/* First of all: numbers are written and read with a point, a limit of file sizes
 * is an error of write() like a full disk, one of processor time ends the
 * program with a line, and the ends of children can be waited for.  Limits that
 * are too small to work under have ended it before main(), with a line. */
void process_begin(void);

/* Numbers have a decimal point, whatever locale somebody else's code has chosen:
 * after such code has run (a plugin was loaded, a kernel called). */
void process_plain_numbers(void);

/* Processors that the process was given.  An OpenMP library that is told to bind
 * threads (OMP_PROC_BIND, GOMP_CPU_AFFINITY) binds the initial thread before
 * main(), so asking the system later tells of one place only.  0, or -1. */
int process_affinity(cpu_set_t *set);

/* The calling thread may run on all of these again. */
void process_unbind(void);

#endif
