/* array.h - arrays in files: safetensors (case files, model files) and .npy.
 *
 * Files are not trusted: header sizes, offsets, overlaps, shapes and types are
 * checked before anything is allocated.  Data are held as double or float.
 */
#ifndef ARRAY_H
#define ARRAY_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

/* The last ones are read only. */
enum array_type {
    ARRAY_F32, ARRAY_F64, ARRAY_F16, ARRAY_BF16,
    ARRAY_U8, ARRAY_I8, ARRAY_BOOL, ARRAY_U16, ARRAY_I16, ARRAY_U32, ARRAY_I32,
    ARRAY_U64, ARRAY_I64
};
enum { ARRAY_DIMS = 8 };

typedef struct array {
    char *name;
    enum array_type type; /* as stored in the file                          */
    int dims;
    size_t dim[ARRAY_DIMS];
    size_t elements;
    const void *data;     /* raw little-endian bytes inside the archive      */
} array;

/* A whole safetensors file in memory. */
typedef struct archive {
    char *path;
    array *items;
    int count;
    struct { char *key, *value; } *metadata; /* of __metadata__              */
    int metadata_count;
    char *bytes;
} archive;

/* 0; or -1 with e naming file and tensor, and nothing to free. */
int archive_read(archive *a, const char *path, error *e);
void archive_free(archive *a);
const array *archive_find(const archive *a, const char *name); /* or NULL    */
const char *archive_metadata(const archive *a, const char *key); /* or NULL  */

/* Copies all elements, converted (64-bit integers may be rounded). */
void array_to_double(const array *a, double *out);
void array_to_float(const array *a, float *out);

/* Writing: describe all tensors, then write them in order. */
typedef struct archive_item {
    const char *name;
    enum array_type type;  /* F32 or F64: as `data`; F16, BF16: converted    */
    int dims;
    size_t dim[ARRAY_DIMS];
    const void *data;      /* float for F32, F16, BF16; double for F64       */
} archive_item;

/* metadata: NULL-terminated list key, value, key, value ..., or NULL.  Atomic:
 * the file is complete or not there.  Names must differ. */
int archive_write(const char *path, const archive_item *items, int count,
                  const char *const *metadata, error *e);

/* .npy version 1.0, C order, little-endian float32 or float64.  Atomic. */
int npy_write(const char *path, enum array_type type, int dims,
              const size_t *dim, const void *data, error *e);
/* Reads '<f4', '<f8', '<f2', '|u1', '|b1', '<i4', '<i8' as double; caller frees
 * *data. */
int npy_read(const char *path, int *dims, size_t dim[ARRAY_DIMS],
             double **data, error *e);

#endif
