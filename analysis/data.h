/* data.h - what a model is trained on and tested with.
 *
 *     stripes, leaves, clouds, documents    procedural (generate.h), endless
 *     an IDX file, such as              pictures (MNIST, Fashion-MNIST); labels
 *     train-images-idx3-ubyte[.gz]      from the file beside it whose name has
 *                                       "labels" and "idx1" for "images" and
 *                                       "idx3"; '-', '.', '_' and case may differ
 *     FILE.bin[.gz]                     CIFAR-10 binary, 3073 bytes a record
 *     DIR                               PNG files: random grey crops; with
 *                                       subfolders: one class each
 *     FILE (anything else)              bytes, such as enwik8; gzip is unpacked
 *
 * Files are not trusted: sizes are checked against the headers, and what is
 * known to be something else than it is read as (bytes.h) is refused.
 */
#ifndef DATA_H
#define DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../harness/error.h"

enum data_kind { DATA_PROCEDURAL, DATA_RECORDS, DATA_CROPS, DATA_TEXT };

typedef struct data {
    enum data_kind kind;
    char *name;          /* as given                                        */
    int generator;       /* of DATA_PROCEDURAL                              */
    bool shadows;        /* a file or folder has the name of the generated set */
    bool text;           /* items are bytes, not pictures                   */
    int side, channels;  /* of pictures: side x side                        */
    int classes;         /* 0: no labels                                    */
    size_t count;        /* records, pictures or bytes in memory            */
    float *pixels;       /* [count][side][side][channels], normalised       */
    int *labels;
    char **class_names;  /* of a folder: those of its subfolders, or NULL    */
    unsigned char *bytes;
    int skipped;         /* entries of a folder that are no PNG pictures ... */
    char *skipped_first; /* ... and the first of them                        */
    struct data_picture { int width, height; float *grey; } *pictures;
    double mean[3], deviation[3]; /* that pixel/255 was normalised with      */
} data;

/* Opens by name; `like`, if not NULL, is the training set whose normalisation a
 * test set has to share, and whose classes, where they have names, are its
 * classes.  0 or -1. */
int data_open(data *d, const char *name, const data *like, error *e);
void data_close(data *d);

/* Last component of a path to data, without slashes at its end; room for
 * NAME_MAX + 1 bytes.  Returns out. */
char *data_label(const char *path, char *out);

/* One line on what was left out, or not taken, for people; false: nothing. */
bool data_note(const data *d, char *out, size_t size);

/* Picture `item` of stream `seed`: side x side x channels values.  Procedural
 * sets draw it new; files pick a record, or crop a picture, at random; with
 * in_order, record item % count.  Returns its label, or -1. */
int data_picture(const data *d, uint64_t seed, uint64_t item, bool in_order,
                 float *out);

/* `length` + 1 bytes of stream `seed` (the last one is only predicted), and,
 * where known, the ideal bits and class of each (else NULL pointers are left
 * alone and false is returned). */
bool data_bytes(const data *d, uint64_t seed, uint64_t item, size_t length,
                unsigned char *out, float *bits, unsigned char *class_);

#endif
