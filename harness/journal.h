/* journal.h - DIR/journal.jsonl: one JSON object a line, append-only, synced
 * per row.  results/README.md documents every key.
 */
#ifndef JOURNAL_H
#define JOURNAL_H

#include "error.h"
#include "json.h"

enum { JOURNAL_SCHEMA = 1 };

/* All rows of a journal in memory. */
typedef struct journal {
    char *path;      /* DIR/journal.jsonl                                   */
    json **rows;     /* in file order                                       */
    int count;
    int torn;        /* 1: the last line was incomplete and left out        */
} journal;

/* Reads DIR/journal.jsonl.  Another schema, or a broken line that is not the
 * last one, is an error that names the line. */
int journal_read(journal *j, const char *dir, error *e);
void journal_free(journal *j);

/* The env row that a case row belongs to: its member "env" names the "id" of an
 * env row. NULL if none. */
const json *journal_env(const journal *j, const json *row);

/* Appending.  One writer per folder: the journal is locked. */
typedef struct journal_writer {
    int fd;
    char *path;
} journal_writer;

/* Opens (makes) the journal, locks it, cuts off a torn last line. */
int journal_open(journal_writer *w, const char *dir, error *e);
/* Writes the row and a newline in one write, then fdatasync.  On failure the
 * file is cut back to where it was. */
int journal_append(journal_writer *w, const json *row, error *e);
void journal_close(journal_writer *w);

#endif
