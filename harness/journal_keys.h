/* journal_keys.h - what rows of the journal look like, made from their list of keys
 * (row_keys.inc): as a JSON Schema, as the tables of results/README.md, and a check
 * of rows against it. */
#ifndef JOURNAL_KEYS_H
#define JOURNAL_KEYS_H

#include "json.h"

/* JSON Schema, draft 2020-12, of one row; the caller frees. */
json *journal_schema(void);

/* Whether a row is as the schema says; if not, why (size bytes) gets the first
 * difference: "time_ns.n: a text, and it should be integer or null".  Knows those
 * keywords that journal_schema() uses. */
bool journal_row_fits(const json *schema, const json *row, char *why,
                      size_t size);

/* The page with each of its tables made anew: what stands between the lines
 * "<!-- keys PAGE: ..." and "<!-- end keys".  The caller frees; NULL if a table of
 * the list has no such line, or there is one of no table. */
char *journal_document(const char *page, error *e);

#endif
