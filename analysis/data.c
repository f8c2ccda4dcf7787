#include "data.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "../harness/file.h"
#include "../kernels/plan.h"
#include "../plots/png.h"
#include "generate.h"

/* Largest file that is read into memory. */
#define MOST_BYTES ((size_t)4 << 30)

enum { STRIPES, LEAVES, CLOUDS, DOCUMENTS, GENERATORS };
static const char *const generators[GENERATORS] = { "stripes", "leaves",
                                                    "clouds", "documents" };

static void *allocate(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p) abort();
    return p;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* ---- records: IDX and CIFAR ------------------------------------------------------- */

/* A whole file, plain or gzip. */
static int inflate_file(const char *path, unsigned char **out, size_t *size,
                        error *e)
{
    gzFile f = gzopen(path, "rb");
    if (!f)
        return error_set(e, "%s: cannot open: %s", path, strerror(errno));
    size_t room = 1 << 20, n = 0;
    unsigned char *bytes = allocate(room, 1);
    for (;;) {
        const int got = gzread(f, bytes + n, (unsigned)(room - n));
        if (got < 0) {
            int code;
            error_set(e, "%s: byte %zu: broken gzip data: %s", path, n,
                      gzerror(f, &code));
            gzclose(f);
            free(bytes);
            return -1;
        }
        if (got == 0) break;
        n += (size_t)got;
        if (n == room) {
            if (room >= MOST_BYTES) break;
            bytes = realloc(bytes, room *= 2);
            if (!bytes) abort();
        }
    }
    gzclose(f);
    *out = bytes;
    *size = n;
    return 0;
}

static uint32_t big_endian(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

/* Mean and deviation per channel of pixel/255, or those of `like`; then the
 * pixels are normalised in place. */
static void normalise(data *d, const data *like)
{
    const size_t n = d->count * (size_t)(d->side * d->side);
    for (int c = 0; c < d->channels; c++) {
        double sum = 0, square = 0;
        for (size_t i = 0; i < n; i++) {
            const double x = d->pixels[i * (size_t)d->channels + (size_t)c];
            sum += x;
            square += x * x;
        }
        d->mean[c] = sum / (double)n;
        d->deviation[c] =
            sqrt(fmax(square / (double)n - d->mean[c] * d->mean[c], 1e-12));
        if (like) {
            d->mean[c] = like->mean[c];
            d->deviation[c] = like->deviation[c];
        }
        for (size_t i = 0; i < n; i++) {
            float *x = &d->pixels[i * (size_t)d->channels + (size_t)c];
            *x = (float)((*x - d->mean[c]) / d->deviation[c]);
        }
    }
}

/* Labels beside the pictures: images-idx3 -> labels-idx1. */
static int open_labels(data *d, const char *path, error *e)
{
    const char *at = strstr(path, "images-idx3");
    if (!at)
        return error_set(e, "%s: an IDX file of pictures needs 'images-idx3' in "
                            "its name, so that 'labels-idx1' can be found", path);
    const size_t length = strlen(path) + 1;
    char *labels = allocate(length, 1);
    memcpy(labels, path, length);
    memcpy(labels + (at - path), "labels-idx1", 11);
    unsigned char *bytes = NULL;
    size_t size = 0;
    int rc = inflate_file(labels, &bytes, &size, e);
    if (rc == 0 && (size < 8 || big_endian(bytes) != 0x801 ||
                    big_endian(bytes + 4) != d->count || size < 8 + d->count))
        rc = error_set(e, "%s: not the labels of %zu pictures (IDX1 header and "
                          "%zu bytes expected)", labels, d->count, d->count + 8);
    for (size_t i = 0; rc == 0 && i < d->count; i++) {
        if (bytes[8 + i] >= d->classes) d->classes = bytes[8 + i] + 1;
        d->labels[i] = bytes[8 + i];
    }
    free(bytes);
    free(labels);
    return rc;
}

static int open_idx(data *d, const char *path, const data *like, error *e)
{
    unsigned char *bytes;
    size_t size;
    if (inflate_file(path, &bytes, &size, e)) return -1;
    int rc = 0;
    const size_t head = 16;
    if (size < head || big_endian(bytes) != 0x803)
        rc = error_set(e, "%s: not an IDX file of pictures (magic number "
                          "0x00000803 expected)", path);
    else {
        const size_t n = big_endian(bytes + 4), h = big_endian(bytes + 8);
        const size_t w = big_endian(bytes + 12);
        if (h != w || h < 4 || h > 512 || n == 0 || n > (size - head) / (h * w))
            rc = error_set(e, "%s: header says %zu pictures of %zu x %zu; the "
                              "file has %zu bytes of them (square pictures of 4 "
                              "to 512 pixels expected)", path, n, h, w,
                           size - head);
        else {
            d->count = n;
            d->side = (int)h;
            d->channels = 1;
            d->pixels = allocate(n * h * w, sizeof *d->pixels);
            d->labels = allocate(n, 1);
            for (size_t i = 0; i < n * h * w; i++)
                d->pixels[i] = (float)(bytes[head + i] / 255.0);
            rc = open_labels(d, path, e);
        }
    }
    free(bytes);
    if (rc == 0) normalise(d, like);
    return rc;
}

/* A label, then 32 x 32 of red, green, blue. */
static int open_cifar(data *d, const char *path, const data *like, error *e)
{
    enum { AREA = 32 * 32, RECORD = 1 + 3 * AREA };
    unsigned char *bytes;
    size_t size;
    if (inflate_file(path, &bytes, &size, e)) return -1;
    if (size == 0 || size % RECORD) {
        free(bytes);
        return error_set(e, "%s: %zu bytes are not a whole number of CIFAR-10 "
                            "records of %d", path, size, RECORD);
    }
    d->count = size / RECORD;
    d->side = 32;
    d->channels = 3;
    d->pixels = allocate(d->count * 3 * AREA, sizeof *d->pixels);
    d->labels = allocate(d->count, 1);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < d->count; i++) {
        const unsigned char *record = bytes + i * RECORD;
        d->labels[i] = record[0];
        if (record[0] > 9)
            rc = error_set(e, "%s: record %zu has label %d; CIFAR-10 has 0 to 9",
                           path, i, record[0]);
        for (size_t p = 0; p < AREA; p++)
            for (size_t c = 0; c < 3; c++)
                d->pixels[(i * AREA + p) * 3 + c] =
                    (float)(record[1 + c * AREA + p] / 255.0);
    }
    d->classes = 10;
    free(bytes);
    if (rc == 0) normalise(d, like);
    return rc;
}

/* ---- folders of PNG ------------------------------------------------------------------ */

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int add_png(data *d, const char *path, int label, error *e)
{
    picture p;
    if (png_read_picture(path, &p, e)) return -1;
    if (p.width < d->side || p.height < d->side) {
        picture_free(&p);
        return error_set(e, "%s: %d x %d pixels; crops of %d x %d are taken from "
                            "it, so it must be larger", path, p.width, p.height,
                         d->side, d->side);
    }
    d->pictures = realloc(d->pictures, (d->count + 1) * sizeof *d->pictures);
    d->labels = realloc(d->labels, d->count + 1);
    if (!d->pictures || !d->labels) abort();
    const size_t n = (size_t)p.width * (size_t)p.height;
    float *grey = allocate(n, sizeof *grey);
    for (size_t i = 0; i < n; i++) {
        const float *s = p.sample + i * (size_t)p.channels;
        grey[i] = p.channels < 3 ? s[0]
                                 : 0.299f * s[0] + 0.587f * s[1] + 0.114f * s[2];
    }
    d->pictures[d->count].width = p.width;
    d->pictures[d->count].height = p.height;
    d->pictures[d->count].grey = grey;
    d->labels[d->count++] = (unsigned char)(label < 0 ? 0 : label);
    picture_free(&p);
    return 0;
}

/* All PNG files of a folder; subfolders (one level) are classes. */
static int open_folder(data *d, const char *path, int label, error *e)
{
    struct dirent **entry;
    const int n = scandir(path, &entry, visible, by_name);
    if (n < 0)
        return error_set(e, "%s: cannot read the folder: %s", path,
                         strerror(errno));
    int rc = 0;
    for (int i = 0; i < n; i++) {
        char *name = path_join(path, entry[i]->d_name);
        struct stat info;
        if (rc == 0 && stat(name, &info) == 0) {
            if (S_ISDIR(info.st_mode) && label < 0 && d->classes < 255)
                rc = open_folder(d, name, d->classes++, e);
            else if (ends_with(name, ".png")) rc = add_png(d, name, label, e);
        }
        free(name);
        free(entry[i]);
    }
    free(entry);
    if (rc == 0 && label < 0 && d->count == 0)
        rc = error_set(e, "%s: has no PNG files", path);
    return rc;
}

/* ---- opening ---------------------------------------------------------------------------- */

static int open_text(data *d, const char *path, error *e)
{
    char *bytes;
    if (file_read(path, MOST_BYTES, &bytes, &d->count, e)) return -1;
    d->bytes = (unsigned char *)bytes;
    if (d->count < 65536)
        return error_set(e, "%s: %zu bytes are too few to train on; give at "
                            "least 64 KiB", path, d->count);
    return 0;
}

static int open_path(data *d, const char *name, const data *like, error *e)
{
    struct stat info;
    if (stat(name, &info))
        return error_set(e, "no data set '%s': it is neither stripes, leaves, "
                            "clouds or documents nor a file (%s)", name,
                         strerror(errno));
    if (S_ISDIR(info.st_mode)) {
        d->kind = DATA_CROPS;
        d->side = GENERATE_PICTURE;
        d->channels = 1;
        return open_folder(d, name, -1, e);
    }
    d->kind = DATA_RECORDS;
    if (strstr(name, "idx3")) return open_idx(d, name, like, e);
    if (ends_with(name, ".bin")) return open_cifar(d, name, like, e);
    d->kind = DATA_TEXT;
    d->text = true;
    return open_text(d, name, e);
}

int data_open(data *d, const char *name, const data *like, error *e)
{
    *d = (data){ .deviation = { 1, 1, 1 }, .channels = 1 };
    d->name = strdup(name);
    if (!d->name) abort();
    for (int i = 0; i < GENERATORS; i++) {
        if (strcmp(name, generators[i])) continue;
        d->generator = i;
        d->text = i == DOCUMENTS;
        d->side = i == STRIPES ? GENERATE_STRIPES : GENERATE_PICTURE;
        d->classes = i == STRIPES ? GENERATE_CLASSES : 0;
        return 0;
    }
    if (open_path(d, name, like, e) == 0) return 0;
    data_close(d);
    return -1;
}

void data_close(data *d)
{
    for (size_t i = 0; d->pictures && i < d->count; i++)
        free(d->pictures[i].grey);
    free(d->pictures);
    free(d->name);
    free(d->pixels);
    free(d->labels);
    free(d->bytes);
    *d = (data){ 0 };
}

/* ---- items -------------------------------------------------------------------------------- */

/* A random crop with mean 0, divided by (deviation + 0.05). */
static void crop(const data *d, uint64_t *state, size_t index, float *out)
{
    const struct data_picture *p = &d->pictures[index];
    const int side = d->side;
    const int y0 = (int)(att_uniform(state) * (p->height - side + 1));
    const int x0 = (int)(att_uniform(state) * (p->width - side + 1));
    double mean = 0, square = 0;
    const double n = side * side;
    for (int i = 0; i < side * side; i++) {
        out[i] = p->grey[(y0 + i / side) * p->width + x0 + i % side];
        mean += out[i] / n;
    }
    for (int i = 0; i < side * side; i++)
        square += (out[i] - mean) * (out[i] - mean);
    for (int i = 0; i < side * side; i++)
        out[i] = (float)((out[i] - mean) / (sqrt(square / n) + 0.05));
}

int data_picture(const data *d, uint64_t seed, uint64_t item, bool in_order,
                 float *out)
{
    if (d->kind == DATA_PROCEDURAL) {
        if (d->generator == STRIPES) return generate_stripes(seed, item, out);
        if (d->generator == LEAVES) generate_leaves(seed, item, out);
        else generate_clouds(seed, item, out);
        return -1;
    }
    uint64_t state = generate_state(seed, item);
    const size_t index = in_order ? item % d->count
                                  : (size_t)(att_uniform(&state) *
                                             (double)d->count);
    if (d->kind == DATA_CROPS) crop(d, &state, index, out);
    else {
        const size_t n = (size_t)(d->side * d->side * d->channels);
        memcpy(out, d->pixels + index * n, n * sizeof *out);
    }
    return d->classes ? d->labels[index] : -1;
}

/* Documents follow each other: item i starts with document 64 i. */
static void documents(uint64_t seed, uint64_t item, size_t n,
                      unsigned char *out, float *bits, unsigned char *class_)
{
    unsigned char byte[GENERATE_DOCUMENT], kind[GENERATE_DOCUMENT];
    float cost[GENERATE_DOCUMENT];
    for (uint64_t i = 64 * item; n > 0; i++) {
        size_t got = generate_document(seed, i, byte, cost, kind);
        if (got > n) got = n;
        memcpy(out, byte, got);
        memcpy(bits, cost, got * sizeof *bits);
        memcpy(class_, kind, got);
        out += got, bits += got, class_ += got, n -= got;
    }
}

bool data_bytes(const data *d, uint64_t seed, uint64_t item, size_t length,
                unsigned char *out, float *bits, unsigned char *class_)
{
    if (d->kind == DATA_PROCEDURAL) {
        documents(seed, item, length + 1, out, bits, class_);
        return true;
    }
    uint64_t state = generate_state(seed, item);
    const double room = (double)(d->count - length);
    memcpy(out, d->bytes + (size_t)(att_uniform(&state) * room), length + 1);
    return false;
}
