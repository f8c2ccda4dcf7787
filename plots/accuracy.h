/* accuracy.h - errors and determinism of a case's kernel: from the rows of kind
 * `accuracy` in the same journal that are of the same kernel, level, storage, pass,
 * code and machine.
 */
#ifndef ACCURACY_H
#define ACCURACY_H

#include "columns.h"
#include "results.h"

/* Sets `accuracy` of each case of r: from the last such row. */
void accuracy_join(results *r);
/* Whether any case has one. */
bool accuracy_any(const results *r);

/* Columns: errors in ulp, on normal inputs and the largest on others (value[0]);
 * "yes", "no" or "" of whether bits are the same. */
void accuracy_max_ulp(const result *r, double value[3]);
void accuracy_rms_ulp(const result *r, double value[3]);
void accuracy_stress_ulp(const result *r, double value[3]);
const char *accuracy_repeat(const result *r);
const char *accuracy_threads(const result *r);
const char *accuracy_levels(const result *r);

/* Whether a column is one of these. */
bool accuracy_is_column(const column *c);
/* For people: how many cases have no such row, and the remedy; "" if all have. */
void accuracy_note(const results *r, char *out, size_t size);

#endif
