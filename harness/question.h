/* question.h - the question that a row answers: everything that is chosen, by
 * options or by the machine's owner, and changes a measurement.
 *
 * What the case name says (kernel, problem, level, threads, pass), the machine
 * and the code of the kernel are compared beside it.  What is not chosen but met
 * (load, noise, temperature) is no part of the question: it is recorded.
 */
#ifndef QUESTION_H
#define QUESTION_H

#include "row.h"
#include "sweep_case.h"

/* The `settings` of a row; the caller frees.  env: the machine as it is now, an
 * env row or what becomes one. */
json *question_settings(const sweep_case *c, const json *env);

/* Whether the row answers what is asked, `asked` being question_settings(); if
 * not, why (size bytes) gets what differs: "processes 1, asked for 5". */
bool question_answered(const struct row *row, const json *asked, char *why,
                       size_t size);

/* Whether two descriptions of the machine are of the same settings of it, so that
 * its ceilings are the same. */
bool question_same_machine(const json *env, const json *other);

#endif
