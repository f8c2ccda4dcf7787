/* tables.h - the tables of a journal: a row per case, a pivot of one value, the
 * fits of the sweep.
 */
#ifndef TABLES_H
#define TABLES_H

#include "columns.h"
#include "results.h"
#include "sheet.h"
#include "slice.h"

/* One row per case, ordered by kernel and axes; one column for each of
 * `chosen`, in one unit per column for people. */
void table_cases(sheet *s, const results *r, const columns *c,
                 const column *const *chosen, int count);

/* What a pivot shows: `metric` over row keys and one column key; all other axes
 * are held still (slice.h). */
typedef struct pivot {
    const column *row[8];
    int rows;
    const column *across;
    const column *metric;
    const fixed_axis *asked;
    int asked_count;
} pivot;

/* Kernels are compared where they are a key: the best value of a row or column
 * is bold if its interval is clear of the runner-up's.  *hidden, of 512 bytes,
 * gets what the slice left out.  -1 if a cell would hold two cases; e names
 * them. */
int table_pivot(sheet *s, const results *r, const columns *c, const pivot *p,
                char *hidden, error *e);

/* time = c N^b for every series, as the sweep fitted it; no rows if the journal
 * has no fits. */
void table_fits(sheet *s, const results *r);

/* From what length on a series is faster than softmax. */
void table_crossings(sheet *s, const results *r);

/* Where and how: machine, compiler, revision, what a time is. */
void table_footnote(const results *r, bool intervals, char *out, size_t size);

#endif
