/* safetensors.c - tensors by name in one file.
 *
 *     8 bytes   length of the header, little-endian
 *     header    JSON: {"name": {"dtype", "shape", "data_offsets"}, ...,
 *               "__metadata__": {"key": "text", ...}}, padded with spaces
 *     data      the tensors without gaps or overlaps, little-endian
 *                                   [huggingface/safetensors, "Format"]
 */
#include "array.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/plan.h"
#include "file.h"
#include "json.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "files are little-endian and are copied as they are");

/* A large header costs about 40 times its size while it is parsed; 4 MiB hold
 * more than 25 000 tensors. */
#define HEADER_LIMIT ((uint64_t)4 << 20)
#define FILE_LIMIT   ((size_t)1 << (sizeof(size_t) > 4 ? 33 : 31))
#define EXACT_LIMIT  0x1p53 /* integers up to here are exact in JSON numbers */

static const struct type {
    const char *name;
    size_t bytes;
} types[] = {
    [ARRAY_F32] = { "F32", 4 },   [ARRAY_F64] = { "F64", 8 },
    [ARRAY_F16] = { "F16", 2 },   [ARRAY_BF16] = { "BF16", 2 },
    [ARRAY_U8] = { "U8", 1 },     [ARRAY_I8] = { "I8", 1 },
    [ARRAY_BOOL] = { "BOOL", 1 }, [ARRAY_U16] = { "U16", 2 },
    [ARRAY_I16] = { "I16", 2 },   [ARRAY_U32] = { "U32", 4 },
    [ARRAY_I32] = { "I32", 4 },   [ARRAY_U64] = { "U64", 8 },
    [ARRAY_I64] = { "I64", 8 },
};
enum { TYPES = sizeof types / sizeof *types };

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- reading: the header ------------------------------------------------ */

/* Well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates). */
static bool is_utf8(const unsigned char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        const unsigned c = s[i];
        const size_t more = c < 0x80                ? 0
                            : c >= 0xc2 && c < 0xe0 ? 1
                            : c >= 0xe0 && c < 0xf0 ? 2
                            : c >= 0xf0 && c < 0xf5 ? 3
                                                    : n;
        if (more > n - i - 1) return false;
        for (size_t k = 1; k <= more; k++)
            if ((s[i + k] & 0xc0) != 0x80) return false;
        if (c == 0xe0 && s[i + 1] < 0xa0) return false;
        if (c == 0xed && s[i + 1] > 0x9f) return false;
        if (c == 0xf0 && s[i + 1] < 0x90) return false;
        if (c == 0xf4 && s[i + 1] > 0x8f) return false;
        i += more + 1;
    }
    return true;
}

static json *read_header(const char *path, const char *bytes, size_t size,
                         size_t *length, error *e)
{
    uint64_t n;
    if (size < sizeof n) {
        error_set(e, "%s: %zu bytes are too few for a safetensors file", path,
                  size);
        return NULL;
    }
    memcpy(&n, bytes, sizeof n);
    if (n > size - sizeof n) {
        error_set(e, "%s: header of %llu bytes in a file of %zu: truncated, or "
                     "not a safetensors file",
                  path, (unsigned long long)n, size);
        return NULL;
    }
    if (n > HEADER_LIMIT) {
        error_set(e, "%s: header of %llu bytes; at most %llu are read", path,
                  (unsigned long long)n, (unsigned long long)HEADER_LIMIT);
        return NULL;
    }
    if (!is_utf8((const unsigned char *)bytes + sizeof n, n)) {
        error_set(e, "%s: the header is not valid UTF-8", path);
        return NULL;
    }
    *length = (size_t)n;
    json *header = json_parse(bytes + sizeof n, (size_t)n, path, e);
    if (header && !json_is_object(header)) {
        error_set(e, "%s: the header is not a JSON object", path);
        json_free(header);
        header = NULL;
    }
    return header;
}

static bool is_count(const json *j, double *out)
{
    *out = json_number(j, -1);
    return *out >= 0 && *out <= EXACT_LIMIT && *out == (double)(uint64_t)*out;
}

static int read_type(const char *path, const json *tensor, array *out, error *e)
{
    const char *name = json_text(json_get(tensor, "dtype"));
    if (!name)
        return error_set(e, "%s: tensor '%s' has no dtype", path, out->name);
    for (int t = 0; t < TYPES; t++)
        if (!strcmp(name, types[t].name)) {
            out->type = (enum array_type)t;
            return 0;
        }
    return error_set(e, "%s: tensor '%s' has dtype %s, which is not read: "
                        "store it as F32",
                     path, out->name, name);
}

static int read_shape(const char *path, const json *tensor, array *out,
                      error *e)
{
    const json *shape = json_get(tensor, "shape");
    if (!json_is_array(shape))
        return error_set(e, "%s: tensor '%s' has no shape", path, out->name);
    if (json_size(shape) > ARRAY_DIMS)
        return error_set(e, "%s: tensor '%s' has %d axes; at most %d are read",
                         path, out->name, json_size(shape), ARRAY_DIMS);
    out->elements = 1;
    for (const json *x = json_first(shape); x; x = json_next(x)) {
        double n;
        if (!is_count(x, &n))
            return error_set(e, "%s: shape of tensor '%s': entry %d is not a "
                                "count",
                             path, out->name, out->dims);
        out->dim[out->dims++] = (size_t)n;
        if (__builtin_mul_overflow(out->elements, (size_t)n, &out->elements))
            return error_set(e, "%s: shape of tensor '%s' overflows", path,
                             out->name);
    }
    return 0;
}

/* room: bytes of data in the file. */
static int read_place(const char *path, const json *tensor, const char *data,
                      size_t room, array *out, error *e)
{
    const json *offsets = json_get(tensor, "data_offsets");
    double begin, end;
    size_t bytes;
    if (json_size(offsets) != 2 || !is_count(json_at(offsets, 0), &begin) ||
        !is_count(json_at(offsets, 1), &end) || begin > end)
        return error_set(e, "%s: tensor '%s' needs data_offsets [begin, end]",
                         path, out->name);
    if (end > (double)room)
        return error_set(e, "%s: tensor '%s' ends at byte %.0f of %zu bytes of "
                            "data: the file is truncated",
                         path, out->name, end, room);
    if (__builtin_mul_overflow(out->elements, types[out->type].bytes, &bytes) ||
        bytes != (size_t)end - (size_t)begin)
        return error_set(e, "%s: tensor '%s' has %.0f bytes, its shape needs "
                            "%zu elements of %zu",
                         path, out->name, end - begin, out->elements,
                         types[out->type].bytes);
    out->data = data + (size_t)begin;
    return 0;
}

static int read_metadata(archive *a, const json *metadata, error *e)
{
    if (!json_is_object(metadata))
        return error_set(e, "%s: __metadata__ is not an object", a->path);
    a->metadata = sure(calloc((size_t)json_size(metadata) + 1,
                              sizeof *a->metadata));
    for (const json *x = json_first(metadata); x; x = json_next(x)) {
        if (!json_text(x))
            return error_set(e, "%s: metadata '%s' is not a text", a->path,
                             json_key(x));
        a->metadata[a->metadata_count].key = sure(strdup(json_key(x)));
        a->metadata[a->metadata_count++].value = sure(strdup(json_text(x)));
    }
    return 0;
}

static int read_tensors(archive *a, const json *header, const char *data,
                        size_t room, error *e)
{
    a->items = sure(calloc((size_t)json_size(header) + 1, sizeof *a->items));
    for (const json *x = json_first(header); x; x = json_next(x)) {
        if (!strcmp(json_key(x), "__metadata__")) {
            if (a->metadata)
                return error_set(e, "%s: two __metadata__ objects", a->path);
            if (json_is_null(x)) continue; /* as without it */
            if (read_metadata(a, x, e) < 0) return -1;
            continue;
        }
        array *out = &a->items[a->count++];
        out->name = sure(strdup(json_key(x)));
        if (!json_is_object(x))
            return error_set(e, "%s: tensor '%s' is not described by an object",
                             a->path, out->name);
        if (read_type(a->path, x, out, e) < 0 ||
            read_shape(a->path, x, out, e) < 0 ||
            read_place(a->path, x, data, room, out, e) < 0)
            return -1;
    }
    return 0;
}

/* ---- reading: checks over all tensors ----------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const array *const *)a)->name,
                  (*(const array *const *)b)->name);
}

static size_t bytes_of(const array *a)
{
    return a->elements * types[a->type].bytes;
}

static int by_place(const void *a, const void *b)
{
    const array *x = *(const array *const *)a, *y = *(const array *const *)b;
    const char *p = x->data, *q = y->data;
    if (p != q) return p < q ? -1 : 1;
    return (bytes_of(x) > 0) - (bytes_of(y) > 0); /* empty ones first */
}

/* The format demands that tensors tile the data: anything else is a damaged
 * file, or one that hides something. */
static int check_tiling(const archive *a, const array **order,
                        const char *data, size_t room, error *e)
{
    const char *at = data;
    qsort(order, (size_t)a->count, sizeof *order, by_place);
    for (int i = 0; i < a->count; i++) {
        const char *begin = order[i]->data;
        if (begin < at)
            return error_set(e, "%s: tensor '%s' overlaps tensor '%s'", a->path,
                             order[i]->name, order[i - 1]->name);
        if (begin > at)
            return error_set(e, "%s: %td bytes before tensor '%s' belong to no "
                                "tensor",
                             a->path, begin - at, order[i]->name);
        at = begin + bytes_of(order[i]);
    }
    if (at != data + room)
        return error_set(e, "%s: the last %td bytes belong to no tensor",
                         a->path, data + room - at);
    return 0;
}

static int check_names(const archive *a, const array **order, error *e)
{
    qsort(order, (size_t)a->count, sizeof *order, by_name);
    for (int i = 1; i < a->count; i++)
        if (!strcmp(order[i - 1]->name, order[i]->name))
            return error_set(e, "%s: two tensors are named '%s'", a->path,
                             order[i]->name);
    return 0;
}

static int check_all(const archive *a, const char *data, size_t room, error *e)
{
    const array **order = sure(malloc(((size_t)a->count + 1) * sizeof *order));
    for (int i = 0; i < a->count; i++) order[i] = &a->items[i];
    int rc = check_names(a, order, e);
    if (rc == 0) rc = check_tiling(a, order, data, room, e);
    free(order);
    return rc;
}

int archive_read(archive *a, const char *path, error *e)
{
    size_t size, length = 0;
    *a = (archive){ 0 };
    if (file_read(path, FILE_LIMIT, &a->bytes, &size, e) < 0) return -1;
    a->path = sure(strdup(path));

    json *header = read_header(path, a->bytes, size, &length, e);
    const size_t start = sizeof(uint64_t) + length;
    int rc = header ? 0 : -1;
    if (rc == 0)
        rc = read_tensors(a, header, a->bytes + start, size - start, e);
    if (rc == 0) rc = check_all(a, a->bytes + start, size - start, e);
    json_free(header);
    if (rc < 0) archive_free(a);
    return rc;
}

void archive_free(archive *a)
{
    for (int i = 0; i < a->count; i++) free(a->items[i].name);
    for (int i = 0; i < a->metadata_count; i++) {
        free(a->metadata[i].key);
        free(a->metadata[i].value);
    }
    free(a->items);
    free(a->metadata);
    free(a->path);
    free(a->bytes);
    *a = (archive){ 0 };
}

const array *archive_find(const archive *a, const char *name)
{
    for (int i = 0; i < a->count; i++)
        if (!strcmp(a->items[i].name, name)) return &a->items[i];
    return NULL;
}

const char *archive_metadata(const archive *a, const char *key)
{
    for (int i = 0; i < a->metadata_count; i++)
        if (!strcmp(a->metadata[i].key, key)) return a->metadata[i].value;
    return NULL;
}

/* ---- elements ----------------------------------------------------------- */

/* Tensors need not be aligned in the file. */
#define CONVERT(type)                                                          \
    for (size_t i = 0; i < a->elements; i++) {                                 \
        type x;                                                                \
        memcpy(&x, (const char *)a->data + i * sizeof x, sizeof x);            \
        out[i] = (double)x;                                                    \
    }                                                                          \
    break

static void half_to_double(const array *a, int dtype, double *out)
{
    for (size_t i = 0; i < a->elements; i++) {
        uint16_t half;
        float x;
        memcpy(&half, (const char *)a->data + i * sizeof half, sizeof half);
        att_fetch(dtype, &x, &half, 1);
        out[i] = x;
    }
}

void array_to_double(const array *a, double *out)
{
    switch (a->type) {
    case ARRAY_F32: CONVERT(float);
    case ARRAY_F64: CONVERT(double);
    case ARRAY_F16: half_to_double(a, ATT_F16, out); break;
    case ARRAY_BF16: half_to_double(a, ATT_BF16, out); break;
    case ARRAY_U8: CONVERT(uint8_t);
    case ARRAY_I8: CONVERT(int8_t);
    case ARRAY_BOOL: CONVERT(uint8_t);
    case ARRAY_U16: CONVERT(uint16_t);
    case ARRAY_I16: CONVERT(int16_t);
    case ARRAY_U32: CONVERT(uint32_t);
    case ARRAY_I32: CONVERT(int32_t);
    case ARRAY_U64: CONVERT(uint64_t);
    case ARRAY_I64: CONVERT(int64_t);
    }
}
#undef CONVERT

void array_to_float(const array *a, float *out)
{
    enum { PART = 1024 };
    double part[PART];
    if (a->type == ARRAY_F32) {
        memcpy(out, a->data, a->elements * sizeof *out);
        return;
    }
    for (size_t i = 0; i < a->elements; i += PART) {
        array piece = *a;
        piece.data = (const char *)a->data + i * types[a->type].bytes;
        piece.elements = a->elements - i < PART ? a->elements - i : PART;
        array_to_double(&piece, part);
        for (size_t k = 0; k < piece.elements; k++) out[i + k] = (float)part[k];
    }
}

/* ---- writing ------------------------------------------------------------ */

static size_t item_elements(const archive_item *item)
{
    size_t n = 1;
    for (int a = 0; a < item->dims; a++) n *= item->dim[a];
    return n;
}

/* Describes item in header and moves *offset past it. */
static int describe(const char *path, const archive_item *item, json *header,
                    size_t *offset, error *e)
{
    json *tensor = json_object(), *shape = json_array(), *place = json_array();
    for (int a = 0; a < item->dims; a++)
        json_push_number(shape, (double)item->dim[a]);
    json_push_number(place, (double)*offset);
    *offset += item_elements(item) * types[item->type].bytes;
    json_push_number(place, (double)*offset);

    json_put_text(tensor, "dtype", types[item->type].name);
    json_put(tensor, "shape", shape);
    json_put(tensor, "data_offsets", place);
    if (json_get(header, item->name)) {
        json_free(tensor);
        return error_set(e, "%s: two tensors named '%s'", path, item->name);
    }
    json_put(header, item->name, tensor);
    return 0;
}

static void write_item(FILE *f, const archive_item *item)
{
    enum { PART = 1024 };
    const size_t n = item_elements(item);
    uint16_t half[PART];
    if (item->type == ARRAY_F32 || item->type == ARRAY_F64) {
        fwrite(item->data, types[item->type].bytes, n, f);
        return;
    }
    for (size_t i = 0; i < n; i += PART) {
        const size_t count = n - i < PART ? n - i : PART;
        att_store(item->type == ARRAY_F16 ? ATT_F16 : ATT_BF16, half,
                  (const float *)item->data + i, count);
        fwrite(half, sizeof *half, count, f);
    }
}

static int write_all(const char *path, const archive_item *items, int count,
                     const json *header, error *e)
{
    file_writer w;
    if (file_begin(&w, path, e) < 0) return -1;
    char *text = json_print(header, false);
    /* Spaces keep the data aligned to 8 bytes. */
    const uint64_t length = (strlen(text) + 7) / 8 * 8;
    fwrite(&length, sizeof length, 1, w.stream);
    fprintf(w.stream, "%-*s", (int)length, text);
    free(text);
    for (int i = 0; i < count; i++) write_item(w.stream, &items[i]);
    return file_commit(&w, e);
}

int archive_write(const char *path, const archive_item *items, int count,
                  const char *const *metadata, error *e)
{
    json *header = json_object(), *about = json_object();
    size_t offset = 0;
    int rc = 0;
    for (int i = 0; metadata && metadata[i]; i += 2)
        json_put_text(about, metadata[i], metadata[i + 1]);
    json_put(header, "__metadata__", about);
    for (int i = 0; i < count && rc == 0; i++)
        rc = items[i].type > ARRAY_BF16
                 ? error_set(e, "%s: tensor '%s': integers are not written",
                             path, items[i].name)
                 : describe(path, &items[i], header, &offset, e);
    if (rc == 0) rc = write_all(path, items, count, header, e);
    json_free(header);
    return rc;
}
