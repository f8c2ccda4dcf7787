/* caption.h - what is said of a figure outside of it, and of what it leaves
 * out. */
#ifndef CAPTION_H
#define CAPTION_H

#include "panels.h"
#include "results.h"
#include "slice.h"

/* Sentences on what the figure does not show or shows with reserve: failed
 * cases, values of 0 (of what `zero` names; may be NULL), few samples, other
 * machines.  "" if there is nothing to say. */
void caption_note(const results *r, const slice *s, const lines *all,
                  const char *zero, char *out, size_t size);

/* Lines for the top of the .gp and .tsv files. */
void caption_comment(const results *r, const slice *s, const char *file,
                     char *out, size_t size);

/* DIR/FILE.md: the picture, what it shows, what was held fixed, how it was
 * timed if it shows times, the note, where it was measured. */
int caption_write(const char *dir, const char *file, const results *r,
                  const slice *s, const char *subject, bool times,
                  const char *note, error *e);

/* DIR/index.md from all captions there: those whose names begin like `first`
 * ones in that order, then the others. */
int caption_index(const char *dir, const char *const *first, int count,
                  error *e);

#endif
