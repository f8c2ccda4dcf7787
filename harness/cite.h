/* cite.h - entries of results/references.bib, which is part of the program. */
#ifndef CITE_H
#define CITE_H

#include <stddef.h>

/* The entry of a key, from '@' to its last brace; NULL if there is none. */
const char *cite_entry(const char *key, size_t *length);

/* Value of a field of an entry as one line without braces and TeX accents; ""
 * if it has none. */
void cite_field(const char *entry, size_t length, const char *field, char *out,
                size_t size);

#endif
