/* error.h - why something failed, as one line for the user.
 *
 * Functions that can fail for reasons outside the program take an error* last,
 * return -1 or NULL, and write one line there: what, where (file, key, value),
 * and what to do.  Only the command layer prints it.
 */
#ifndef ERROR_H
#define ERROR_H

typedef struct error {
    char text[1024];
} error;

/* Writes the line; returns -1, so that `return error_set(e, ...)` works.
 * e may be NULL. */
__attribute__((format(printf, 2, 3)))
int error_set(error *e, const char *format, ...);

/* Nearest of n names to what was typed (edit distance), or NULL if none is
 * near: for "unknown X 'foo'; did you mean 'fob'?". */
const char *error_nearest(const char *typed, const char *const *names, int n);

/* Exit codes of the program. */
enum {
    EXIT_OK = 0,
    EXIT_GATE = 1,        /* wrong result, regression, claim not reproduced   */
    EXIT_USAGE = 2,
    EXIT_MISSING = 3,     /* something explicitly required is missing here    */
    EXIT_SOME_FAILED = 4, /* finished, but some cases failed                  */
    EXIT_INTERRUPTED = 130
};

#endif
