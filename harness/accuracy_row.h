/* accuracy_row.h - what was measured of a kernel, level, storage and pass, as a row
 * of the journal and as a line for people.
 */
#ifndef ACCURACY_ROW_H
#define ACCURACY_ROW_H

#include <stdio.h>

#include "accuracy.h"
#include "json.h"
#include "sweep_env.h"

/* What a row is about. */
typedef struct accuracy_subject {
    const att_entry *entry;
    int dtype;
    enum att_pass pass;
    int threads;
    bool many;
    const char *levels; /* of the kernel that were measured: "v2,v3"          */
} accuracy_subject;

/* Kernel, level, storage, pass, code, machine and how it is measured: what makes two
 * rows the same experiment.  out holds ACCURACY_ID bytes. */
enum { ACCURACY_ID = 2 * ATT_NAME };
void accuracy_row_id(const accuracy_subject *s, const sweep_env *env, char *out);

/* The row, from the results on all inputs; result[i] is of input i.  keys in
 * results/README.md. */
json *accuracy_row(const accuracy_subject *s, const sweep_env *env,
                   const accuracy_inputs *list,
                   const accuracy_result *const *result);

/* Table on a stream: a header, then a line for each row, and what its numbers are. */
void accuracy_row_header(FILE *f, int width);
void accuracy_row_line(FILE *f, int width, const json *row);
void accuracy_row_legend(FILE *f);

#endif
