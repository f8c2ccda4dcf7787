/* file.h - whole files in, whole files out.
 *
 * A file appears under its final name complete or not at all: it is written
 * beside it under a temporary name, synced, closed and renamed.
 */
#ifndef FILE_H
#define FILE_H

#include <stddef.h>
#include <stdio.h>

#include "error.h"

/* Reads a whole file; *data ends with an extra 0 byte, caller frees.  Files
 * larger than `limit` bytes are refused.  "-" is not special. */
int file_read(const char *path, size_t limit, char **data, size_t *size,
              error *e);

typedef struct file_writer {
    FILE *stream; /* write here                                             */
    char *path;   /* of the file itself, where a symbolic link led to it    */
    char *temporary; /* NULL: beside it nothing can be made                 */
} file_writer;

/* 0, or -1 and nothing to clean up.  A symbolic link stays, and what it names is
 * written, even if it is not there yet; a file that is there keeps its mode.
 * Where its folder takes no new file, but it can itself be written, the new
 * contents are copied into it at the end.  "-" is refused: it would be the
 * standard output, which only the caller can write to. */
int file_begin(file_writer *w, const char *path, error *e);
/* Flushes, syncs, renames.  On failure the temporary file is gone and the old
 * file, if any, is untouched. */
int file_commit(file_writer *w, error *e);
void file_abandon(file_writer *w);

/* Whether the file could be written: for what takes long before it is. */
int file_check(const char *path, error *e);

/* begin, write, commit. */
int file_write(const char *path, const void *data, size_t size, error *e);

/* Makes a folder and its parents; fine if it is there.  Symbolic links are
 * followed.  "-" is refused. */
int folder_make(const char *path, error *e);

/* "dir/name", allocated; aborts when memory is out. */
char *path_join(const char *dir, const char *name);

#endif
