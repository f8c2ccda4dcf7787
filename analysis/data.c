#define _GNU_SOURCE /* strcasestr */
#include "data.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../harness/file.h"
#include "../kernels/plan.h"
#include "bytes.h"
#include "generate.h"
#include "picture.h"

enum { STRIPES, LEAVES, CLOUDS, DOCUMENTS, GENERATORS };
static const char *const generators[GENERATORS] = { "stripes", "leaves",
                                                    "clouds", "documents" };

static void *allocate(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p) abort();
    return p;
}

/* Whatever the case: files come from systems that do not tell it. */
static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcasecmp(text + n - m, end);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Why bytes are not what their reader expects: "; it is ..." or "". */
static const char *instead(const bytes_file *b)
{
    static _Thread_local char text[160];
    const char *what = bytes_foreign(b->at, b->size);
    if (!what && b->cut) what = "gzip data that end too early";
    snprintf(text, sizeof text, "%s%s", what ? "; it is " : "",
             what ? what : "");
    return text;
}

/* ---- records: IDX and CIFAR ------------------------------------------------------- */

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

/* A name without what spellings differ in: case, '-', '.', '_', blanks. */
static void plain_name(const char *name, char *out)
{
    for (; *name; name++)
        if (!strchr("-._ ", *name)) *out++ = (char)tolower((unsigned char)*name);
    *out = 0;
}

/* train-images-idx3-ubyte: trainlabelsidx1ubyte.  False: no "images". */
static bool plain_labels(const char *pictures, char *out)
{
    plain_name(pictures, out);
    char *images = strstr(out, "images");
    if (!images) return false;
    memcpy(images, "labels", 6);
    char *idx = strstr(images, "idx3");
    if (idx) idx[3] = '1';
    return true;
}

/* The file in the pictures' folder that has the labels' name in some spelling;
 * the caller frees.  NULL with e. */
static char *find_labels(const char *path, error *e)
{
    const char *base = base_name(path);
    char *want = allocate(strlen(path) + 1, 1), *found = NULL;
    char *folder = strdup(path), plain[256];
    struct dirent **entry;
    if (!folder) abort();
    folder[base - path] = 0;
    if (!plain_labels(base, want)) {
        error_set(e, "%s: an IDX file of pictures needs 'images' in its name, "
                     "so that the file of its labels can be found: "
                     "train-images-idx3-ubyte has train-labels-idx1-ubyte", path);
        free(folder);
        free(want);
        return NULL;
    }
    const int n = scandir(*folder ? folder : ".", &entry, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        plain_name(entry[i]->d_name, plain);
        if (!found && !strcmp(plain, want))
            found = *folder ? path_join(folder, entry[i]->d_name)
                            : strdup(entry[i]->d_name);
        free(entry[i]);
    }
    if (n >= 0) free(entry);
    if (!found) {
        /* as the pictures are spelt */
        char *name = strdup(base);
        if (!name) abort();
        char *images = strcasestr(name, "images"), *idx = strcasestr(name, "idx3");
        if (images) memcpy(images, "labels", 6);
        if (idx) idx[3] = '1';
        error_set(e, "%s: has no file of labels beside it: %s%s is missing", path,
                  folder, name);
        free(name);
    }
    free(folder);
    free(want);
    return found;
}

/* Labels beside the pictures: images-idx3 -> labels-idx1. */
static int open_labels(data *d, const char *path, error *e)
{
    bytes_file b = { 0 };
    char *labels = find_labels(path, e);
    if (!labels) return -1;
    int rc = bytes_read(labels, &b, e);
    if (rc == 0 && (b.size < 8 || big_endian(b.at) != 0x801 ||
                    big_endian(b.at + 4) != d->count || b.size != 8 + d->count))
        rc = error_set(e, "%s: not the labels of %zu pictures (IDX1 header and "
                          "%zu bytes expected)%s", labels, d->count,
                       d->count + 8, instead(&b));
    for (size_t i = 0; rc == 0 && i < d->count; i++) {
        if (b.at[8 + i] >= d->classes) d->classes = b.at[8 + i] + 1;
        d->labels[i] = b.at[8 + i];
    }
    free(b.at);
    free(labels);
    return rc;
}

static bool is_idx(const bytes_file *b)
{
    return b->size >= 4 && big_endian(b->at) == 0x803;
}

static int open_idx(data *d, const char *path, const bytes_file *b,
                    const data *like, error *e)
{
    const size_t head = 16;
    if (b->size < head || !is_idx(b))
        return error_set(e, "%s: not an IDX file of pictures (magic number "
                            "0x00000803 expected: bytes in 3 dimensions)%s",
                         path, instead(b));
    const size_t n = big_endian(b->at + 4), h = big_endian(b->at + 8);
    const size_t w = big_endian(b->at + 12), left = b->size - head;
    if (h != w || h < 4 || h > 512 || n == 0 || n > left / (h * w) ||
        n * h * w != left)
        return error_set(e, "%s: header says %zu pictures of %zu x %zu; the "
                            "file has %zu bytes of them (square pictures of 4 "
                            "to 512 pixels expected)%s", path, n, h, w, left,
                         b->cut ? "; its gzip data end too early" : "");
    d->count = n;
    d->side = (int)h;
    d->channels = 1;
    d->pixels = allocate(left, sizeof *d->pixels);
    d->labels = allocate(n, sizeof *d->labels);
    for (size_t i = 0; i < left; i++)
        d->pixels[i] = (float)(b->at[head + i] / 255.0);
    if (open_labels(d, path, e)) return -1;
    normalise(d, like);
    return 0;
}

/* A label, then 32 x 32 of red, green, blue. */
static int open_cifar(data *d, const char *path, const bytes_file *b,
                      const data *like, error *e)
{
    enum { AREA = 32 * 32, RECORD = 1 + 3 * AREA };
    if (b->cut || b->size == 0 || b->size % RECORD)
        return error_set(e, "%s: %zu bytes are not a whole number of CIFAR-10 "
                            "records of %d%s%s", path, b->size, RECORD,
                         b->size && b->size % (RECORD + 1) == 0
                             ? "; it may be CIFAR-100, which is not read" : "",
                         instead(b));
    d->count = b->size / RECORD;
    d->side = 32;
    d->channels = 3;
    d->pixels = allocate(d->count * 3 * AREA, sizeof *d->pixels);
    d->labels = allocate(d->count, sizeof *d->labels);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < d->count; i++) {
        const unsigned char *record = b->at + i * RECORD;
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

/* A folder while it is read. */
typedef struct walk {
    data *d;
    const data *like; /* its classes are the classes; NULL: what is found       */
    error *e;
} walk;

static int add_png(data *d, const char *path, int label, error *e)
{
    picture p;
    if (picture_read(path, &p, e)) return -1;
    if (p.width < d->side || p.height < d->side) {
        error_set(e, "%s: %d x %d pixels; crops of %d x %d are taken from it, "
                     "so it must be larger", path, p.width, p.height, d->side,
                  d->side);
        picture_free(&p);
        return -1;
    }
    d->pictures = realloc(d->pictures, (d->count + 1) * sizeof *d->pictures);
    d->labels = realloc(d->labels, (d->count + 1) * sizeof *d->labels);
    if (!d->pictures || !d->labels) abort();
    const size_t n = (size_t)p.width * (size_t)p.height;
    float *grey = allocate(n, sizeof *grey);
    for (size_t i = 0; i < n; i++)
        grey[i] = (float)picture_grey(p.sample + i * (size_t)p.channels,
                                      p.channels);
    d->pictures[d->count].width = p.width;
    d->pictures[d->count].height = p.height;
    d->pictures[d->count].grey = grey;
    d->labels[d->count++] = label < 0 ? 0 : label;
    picture_free(&p);
    return 0;
}

static void skip(data *d, const char *path)
{
    if (d->skipped++ == 0 && !(d->skipped_first = strdup(path))) abort();
}

/* Number of a class by the name of its folder; -1 with e: the set that this one
 * is beside has none of that name. */
static int class_of(walk *w, const char *path)
{
    data *d = w->d;
    const char *name = base_name(path);
    if (w->like && w->like->class_names) {
        d->classes = w->like->classes;
        for (int i = 0; i < w->like->classes; i++)
            if (!strcmp(w->like->class_names[i], name)) return i;
        return error_set(w->e, "%s: '%s' is no class of the training data '%s'",
                         path, name, w->like->name);
    }
    d->class_names = realloc(d->class_names, ((size_t)d->classes + 1) *
                                                 sizeof *d->class_names);
    if (!d->class_names || !(d->class_names[d->classes] = strdup(name))) abort();
    return d->classes++;
}

static int open_folder(walk *w, const char *path, int label);

/* A subfolder of the first level: a class. */
static int open_class(walk *w, const char *path)
{
    const size_t before = w->d->count;
    const int label = class_of(w, path);
    if (label < 0 || open_folder(w, path, label)) return -1;
    if (w->d->count > before) return 0;
    return error_set(w->e, "%s: the folder of a class has no PNG files", path);
}

/* All PNG files of a folder; subfolders (one level) are classes. */
static int open_folder(walk *w, const char *path, int label)
{
    data *d = w->d;
    struct dirent **entry;
    const int n = scandir(path, &entry, visible, by_name);
    size_t loose = 0;
    if (n < 0)
        return error_set(w->e, "%s: cannot read the folder: %s", path,
                         strerror(errno));
    int rc = 0;
    for (int i = 0; i < n; i++) {
        char *name = path_join(path, entry[i]->d_name);
        struct stat info;
        if (rc == 0) {
            const bool there = stat(name, &info) == 0;
            if (there && S_ISDIR(info.st_mode) && label < 0)
                rc = open_class(w, name);
            else if (there && S_ISREG(info.st_mode) && ends_with(name, ".png")) {
                rc = add_png(d, name, label, w->e);
                loose += label < 0;
            } else skip(d, name);
        }
        free(name);
        free(entry[i]);
    }
    free(entry);
    if (rc < 0 || label >= 0) return rc;
    if (loose && d->count > loose)
        return error_set(w->e, "%s: has PNG files beside the folders of classes: "
                               "of which class are they?", path);
    if (d->count) return 0;
    return error_set(w->e, "%s: has no PNG files%s%s%s", path,
                     d->skipped ? "; it has others, such as " : "",
                     d->skipped ? d->skipped_first : "",
                     d->skipped ? ": convert them to PNG" : "");
}

char *data_label(const char *path, char *out)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') start--;
    snprintf(out, NAME_MAX + 1, "%.*s", (int)(end - start), path + start);
    return out;
}

bool data_note(const data *d, char *out, size_t size)
{
    if (d->shadows)
        snprintf(out, size, "%s: the generated set, not what has that name here: "
                            "that is ./%s", d->name, d->name);
    if (!d->skipped) return d->shadows;
    snprintf(out, size, "%s: %d entr%s no PNG picture and left out: %s%s", d->name,
             d->skipped, d->skipped == 1 ? "y is" : "ies are", d->skipped_first,
             d->skipped == 1 ? "" : " ...");
    return true;
}

/* ---- opening ---------------------------------------------------------------------------- */

static int open_text(data *d, const char *path, bytes_file *b, error *e)
{
    const char *what = bytes_foreign(b->at, b->size);
    if (what) return error_set(e, "%s: is %s", path, what);
    if (b->cut)
        return error_set(e, "%s: its gzip data end too early, after %zu bytes of "
                            "text: the file is incomplete", path, b->size);
    if (b->size < 65536)
        return error_set(e, "%s: %zu bytes are too few to train on; give at "
                            "least 64 KiB", path, b->size);
    d->bytes = b->at;
    d->count = b->size;
    b->at = NULL;
    return 0;
}

/* The name and the first bytes tell what a file is. */
static int open_file(data *d, const char *name, const data *like, error *e)
{
    const char *base = base_name(name);
    bytes_file b;
    if (bytes_read(name, &b, e)) return -1;
    int rc;
    d->kind = DATA_RECORDS;
    if (ends_with(base, ".bin") || ends_with(base, ".bin.gz"))
        rc = open_cifar(d, name, &b, like, e);
    else if (is_idx(&b) || strcasestr(base, "idx3"))
        rc = open_idx(d, name, &b, like, e);
    else {
        d->kind = DATA_TEXT;
        d->text = true;
        rc = open_text(d, name, &b, e);
    }
    free(b.at);
    return rc;
}

static int open_path(data *d, const char *name, const data *like, error *e)
{
    struct stat info;
    if (stat(name, &info))
        return error_set(e, "no data set '%s': it is neither stripes, leaves, "
                            "clouds or documents nor a file (%s)", name,
                         strerror(errno));
    if (!S_ISDIR(info.st_mode)) return open_file(d, name, like, e);
    walk w = { d, like, e };
    d->kind = DATA_CROPS;
    d->side = GENERATE_PICTURE;
    d->channels = 1;
    return open_folder(&w, name, -1);
}

int data_open(data *d, const char *name, const data *like, error *e)
{
    *d = (data){ .deviation = { 1, 1, 1 }, .channels = 1 };
    d->name = strdup(name);
    if (!d->name) abort();
    for (int i = 0; i < GENERATORS; i++) {
        if (strcmp(name, generators[i])) continue;
        d->generator = i;
        d->shadows = access(name, F_OK) == 0;
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
    for (int i = 0; d->class_names && i < d->classes; i++)
        free(d->class_names[i]);
    free(d->class_names);
    free(d->skipped_first);
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
