/* isolate.h - a function in a child process, so that whatever a kernel does is
 * one result and the program goes on.
 *
 * The parent must not have used OpenMP: its pool does not survive fork().
 */
#ifndef ISOLATE_H
#define ISOLATE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "json.h"

typedef struct isolate_limits {
    double seconds; /* wall clock, without the time in which the child or we
                       were stopped; then the child is killed: `timeout`     */
    size_t memory;  /* resident bytes; 0: no limit.  Beyond: `oom`           */
    void (*tick)(void *arg); /* called about ten times a second, or NULL    */
    void *arg;
    const volatile sig_atomic_t *stop; /* set: kill the child: `interrupted` */
} isolate_limits;

typedef struct isolate_result {
    char status[16];  /* "ok", "timeout", "oom", "signal:11", "interrupted"  */
    char reason[320]; /* one line, where and why; "" if ok                  */
    json *value;      /* what the function returned, if ok; caller frees    */
    double seconds;   /* wall clock, without the time in which it was stopped */
} isolate_result;

/* Runs function(arg) in a child and brings back the JSON it returns.  What the
 * child prints goes nowhere, but its last words are part of `reason`.  The
 * child keeps no file of the parent's open and dies with the parent; Ctrl-Z stops
 * both.  -1 if no child could be made. */
int isolate_run(json *(*function)(void *), void *arg,
                const isolate_limits *limits, isolate_result *out, error *e);

/* In the child: what is being done now, for `reason` ("warming up"). */
void isolate_stage(const char *stage);

#endif
