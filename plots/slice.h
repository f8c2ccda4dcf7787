/* slice.h - which cases stand together in one figure or pivot table.
 *
 * A figure varies one axis and compares kernels; every other axis that can be
 * compared at all (head dim, window, threads, level, pass ...) must have one
 * value.  Where the caller does not ask for one, the value with most cases is
 * taken (forward before backward, normal inputs, the highest level), and the slice tells which
 * values it left out, so that nothing is mixed or hidden silently.
 *
 * Mechanisms without an axis (softmax has no window) belong to every value of
 * it.  A mechanism that sees all heads as one width stands at H heads with
 * 1/H of its channels; one whose map could not have exactly N tokens stands at
 * N if it is within 7 %.
 */
#ifndef SLICE_H
#define SLICE_H

#include "columns.h"
#include "results.h"

/* One axis held at one value. */
typedef struct fixed_axis {
    const column *axis;
    char value[RESULT_TEXT];
} fixed_axis;

enum { SLICE_AXES = 24 };

/* What the label of a cold case ends in (before its environment) where the cache
 * is varied; otherwise it is the same as that of the warm one. */
#define SLICE_COLD " cold"

typedef struct slice {
    const result **item; /* also those that failed                           */
    char **label;        /* of each: kernel and what tells its variants apart */
    int count;
    fixed_axis fixed[SLICE_AXES];
    int fixed_count;
    double heads;     /* the number of heads all are compared at; 0: varied  */
    char hidden[512]; /* "threads 2; head_dim 16, 64", or ""                  */
} slice;

/* The cases in which the axes `vary` have any value and all others one.
 * `asked` fixes axes; a value that no case has is an error that lists those
 * there are. */
int slice_make(slice *s, const results *r, const columns *c,
               const column *const *vary, int vary_count,
               const fixed_axis *asked, int asked_count, error *e);
void slice_free(slice *s);

/* Where a case stands on an axis, see above. */
double slice_number(const slice *s, const column *axis, const result *r);

/* "head_dim 32, window 7, threads 1, v4, forward". */
void slice_describe(const slice *s, char *out, size_t size);

/* Reads "AXIS=VALUE[,AXIS=VALUE ...]" and appends; asked holds SLICE_AXES. */
int slice_ask(fixed_axis *asked, int *count, const columns *c, const char *text,
              error *e);
/* Whether every asked value occurs in these results: 0, or -1 and e lists those
 * that do. */
int slice_check(const results *r, const fixed_axis *asked, int count, error *e);

typedef struct slice_value {
    char text[RESULT_TEXT];
    int cases; /* measured ones                                             */
} slice_value;

/* The values that an axis has in these results, in ascending order, allocated
 * (NULL if there are none).  Returns their number. */
int slice_values(const results *r, const column *axis, slice_value **value);

#endif
