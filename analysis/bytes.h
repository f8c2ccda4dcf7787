/* bytes.h - whole files of user data, plain or gzip, and what they are.
 *
 * Whatever reads bytes as text or as raw records takes anything for that: so a
 * file that is something else (packed, a picture, an archive, UTF-16 ...) is
 * recognised by its first bytes.
 */
#ifndef BYTES_H
#define BYTES_H

#include <stdbool.h>
#include <stddef.h>

#include "../harness/error.h"

typedef struct bytes_file {
    unsigned char *at; /* the caller frees                                   */
    size_t size;
    bool cut;          /* gzip data that end before they should              */
} bytes_file;

/* Reads a regular file; gzip is unpacked.  -1 with e and nothing to free: a
 * folder, device or pipe (data are read more than once), broken gzip data, more
 * than 4 GiB. */
int bytes_read(const char *path, bytes_file *out, error *e);

/* What it is that should not be read as text or records, and what to do: "a zip
 * archive: unpack it first"; NULL: nothing that is known. */
const char *bytes_foreign(const unsigned char *at, size_t size);

#endif
