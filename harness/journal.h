/* journal.h - DIR/journal.jsonl: one JSON object a line, append-only, synced
 * per row.  results/README.md documents every key.
 */
#ifndef JOURNAL_H
#define JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "json.h"
#include "row.h"

/* All rows of a journal in memory. */
typedef struct journal {
    char *path;      /* DIR/journal.jsonl                                   */
    json **rows;     /* in file order                                       */
    struct row *row; /* each of them as a type                              */
    int *line;       /* of each row, from 1                                 */
    int count;
    const json **env; /* the env rows among them                            */
    int envs;
    int torn;        /* 1: the last line is the beginning of a row that was
                        never finished; it is left out                      */
    size_t whole;    /* bytes before that beginning                         */
    bool open_end;   /* the last row is whole, but for its newline          */
} journal;

/* Reads DIR/journal.jsonl.  Empty lines, carriage returns at the end of lines
 * and a byte order mark are passed over.  Another schema, a line that is no row,
 * or a value of another type than its key has, is an error that names the line; but a last line without a newline that
 * is the beginning of a row is `torn`. */
int journal_read(journal *j, const char *dir, error *e);
void journal_free(journal *j);

/* The env row that a case row belongs to: its member "env" names the "id" of an
 * env row. NULL if none. */
const json *journal_env(const journal *j, const struct row *row);

/* Appending.  One writer per folder: the journal is locked. */
typedef struct journal_writer {
    int fd;
    char *path;
} journal_writer;

/* Opens (makes) the journal, locks it and reads it into *before (NULL: only sees
 * to it that it can be read).  Then cuts off the beginning of a row that an
 * earlier run did not finish, and nothing else: a file that is refused is left
 * as it is. */
int journal_open(journal_writer *w, const char *dir, journal *before, error *e);
/* Writes the row and a newline in one write, then fdatasync.  On failure the
 * file is cut back to where it was. */
int journal_append(journal_writer *w, const json *row, error *e);
void journal_close(journal_writer *w);

#endif
