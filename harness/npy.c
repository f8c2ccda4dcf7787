/* npy.c - one array in a file that numpy.load() reads.
 *
 *     "\x93NUMPY" major minor   then the length of the header: 2 bytes, or 4
 *                               from version 2 on
 *     header                    {'descr': '<f8', 'fortran_order': False,
 *                                'shape': (3, 4), }, spaces, newline
 *     data                      C order, little-endian       [numpy.lib.format]
 */
#include "array.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"

#define MAGIC      "\x93NUMPY"
#define FILE_LIMIT ((size_t)1 << (sizeof(size_t) > 4 ? 33 : 31))
enum { HEADER_LIMIT = 4096, ALIGNMENT = 64 };

/* ---- writing ------------------------------------------------------------ */

int npy_write(const char *path, enum array_type type, int dims,
              const size_t *dim, const void *data, error *e)
{
    char header[HEADER_LIMIT];
    size_t elements = 1;
    if (type != ARRAY_F32 && type != ARRAY_F64)
        return error_set(e, "%s: only float32 and float64 are written", path);
    int n = snprintf(header, sizeof header,
                     "{'descr': '<f%d', 'fortran_order': False, 'shape': (",
                     type == ARRAY_F32 ? 4 : 8);
    for (int a = 0; a < dims; a++) {
        elements *= dim[a];
        n += snprintf(header + n, sizeof header - (size_t)n,
                      a && a == dims - 1 ? "%zu" : "%zu, ", dim[a]);
    }
    n += snprintf(header + n, sizeof header - (size_t)n, "), }");

    /* the whole preamble is a multiple of 64 bytes, the newline its last */
    const size_t before = strlen(MAGIC) + 4;
    const size_t whole =
        (before + (size_t)n + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const uint16_t length = (uint16_t)(whole - before);
    file_writer w;
    if (file_begin(&w, path, e) < 0) return -1;
    fwrite(MAGIC "\x01\x00", 1, strlen(MAGIC) + 2, w.stream);
    fwrite(&length, sizeof length, 1, w.stream);
    fprintf(w.stream, "%-*s\n", length - 1, header);
    fwrite(data, type == ARRAY_F32 ? 4 : 8, elements, w.stream);
    return file_commit(&w, e);
}

/* ---- reading ------------------------------------------------------------ */

static const struct type {
    const char *descr;
    enum array_type type;
    size_t bytes;
} types[] = {
    { "<f4", ARRAY_F32, 4 }, { "<f8", ARRAY_F64, 8 }, { "<f2", ARRAY_F16, 2 },
    { "|u1", ARRAY_U8, 1 },  { "|b1", ARRAY_BOOL, 1 }, { "<i4", ARRAY_I32, 4 },
    { "<i8", ARRAY_I64, 8 },
};

/* Where the value of a key starts in the header, or NULL. */
static const char *value_of(const char *header, const char *key)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *at = strstr(header, quoted);
    return at ? at + strlen(quoted) + strspn(at + strlen(quoted), " ") : NULL;
}

static int read_shape(const char *path, const char *at, array *out, error *e)
{
    out->elements = 1;
    for (at++;; at += strspn(at, ", ")) {
        char *end;
        if (*at == ')') return 0;
        if (*at < '0' || *at > '9') break;
        if (out->dims == ARRAY_DIMS)
            return error_set(e, "%s: more than %d axes", path, ARRAY_DIMS);
        const unsigned long long n = strtoull(at, &end, 10);
        out->dim[out->dims++] = (size_t)n;
        if (n > SIZE_MAX / 2 ||
            __builtin_mul_overflow(out->elements, (size_t)n, &out->elements))
            return error_set(e, "%s: its shape overflows", path);
        at = end;
    }
    return error_set(e, "%s: its shape cannot be read", path);
}

/* header: 0-terminated text. */
static int read_header(const char *path, const char *header, array *out,
                       size_t *bytes, error *e)
{
    const char *descr = value_of(header, "descr");
    const char *order = value_of(header, "fortran_order");
    const char *shape = value_of(header, "shape");
    if (!descr || !order || !shape || *shape != '(')
        return error_set(e, "%s: descr, fortran_order or shape is missing in "
                            "its header",
                         path);
    if (strncmp(order, "False", 5))
        return error_set(e, "%s: is in Fortran order: save it with "
                            "numpy.ascontiguousarray()",
                         path);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        if (*descr == '\'' && !strncmp(descr + 1, types[t].descr, 3) &&
            descr[4] == '\'') {
            out->type = types[t].type;
            *bytes = types[t].bytes;
            return read_shape(path, shape, out, e);
        }
    return error_set(e, "%s: type %.12s is not read: save it as float32", path,
                     descr);
}

/* Finds header and data in the bytes of a file. */
static int parse(const char *path, const char *bytes, size_t size, array *out,
                 error *e)
{
    char header[HEADER_LIMIT + 1];
    const size_t magic = strlen(MAGIC);
    if (size < magic + 6 || memcmp(bytes, MAGIC, magic))
        return error_set(e, "%s: is not a .npy file", path);
    const unsigned major = (unsigned char)bytes[magic];
    if (major < 1 || major > 3)
        return error_set(e, "%s: .npy version %u is not read", path, major);
    const size_t wide = major == 1 ? 2 : 4, start = magic + 2 + wide;
    uint32_t length = 0;
    memcpy(&length, bytes + magic + 2, wide);
    if (length > HEADER_LIMIT || length > size - start)
        return error_set(e, "%s: header of %u bytes: truncated or damaged",
                         path, length);
    memcpy(header, bytes + start, length);
    header[length] = 0;

    size_t each = 0, all;
    if (read_header(path, header, out, &each, e) < 0) return -1;
    if (__builtin_mul_overflow(out->elements, each, &all) ||
        all != size - start - length)
        return error_set(e, "%s: %zu bytes of data, its shape needs %zu "
                            "elements of %zu",
                         path, size - start - length, out->elements, each);
    out->data = bytes + start + length;
    return 0;
}

int npy_read(const char *path, int *dims, size_t dim[ARRAY_DIMS], double **data,
             error *e)
{
    array a = { 0 };
    char *bytes;
    size_t size;
    if (file_read(path, FILE_LIMIT, &bytes, &size, e) < 0) return -1;
    int rc = parse(path, bytes, size, &a, e);
    if (rc == 0) {
        *data = malloc((a.elements + 1) * sizeof **data);
        if (!*data) rc = error_set(e, "%s: not enough memory", path);
    }
    if (rc == 0) {
        array_to_double(&a, *data);
        *dims = a.dims;
        memcpy(dim, a.dim, sizeof a.dim);
    }
    free(bytes);
    return rc;
}
