/* png.h - PNG pictures in and out: the one place that meets libpng.
 *
 * Reading never trusts the file: sizes are checked before anything is
 * allocated, and a broken file is one line that names it.  Writing is atomic
 * (harness/file.h), streams row by row, and gives the same bytes every time.
 */
#ifndef PLOTS_PNG_H
#define PLOTS_PNG_H

#include <stddef.h>
#include <stdint.h>

#include "../harness/error.h"

/* Largest picture that is read: side, and pixels in all. */
enum { PNG_SIDE = 32768, PNG_PIXELS = 1 << 26 };

/* ---- reading ------------------------------------------------------------- */

typedef struct picture {
    int width, height;
    int channels;  /* 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA                  */
    int depth;     /* bits a sample had in the file: 1, 2, 4, 8 or 16        */
    float *sample; /* [height][width][channels], 0 to 1, row 0 on top; as
                      stored: no gamma undone, alpha not multiplied in       */
} picture;

/* Reads grey, RGB and palette pictures of every depth, with or without alpha
 * or a transparent colour, interlaced or not.  Palettes become RGB(A).  0, or
 * -1 with e; the caller frees. */
int png_read_picture(const char *path, picture *out, error *e);
void picture_free(picture *p);

/* ---- writing ------------------------------------------------------------- */

/* A text chunk: what the picture shows, its scale, where it is from.  The key
 * has 1 to 79 characters, the value is UTF-8. */
typedef struct png_note {
    const char *key, *value;
} png_note;

/* Writes row y (0 on top) to out: width bytes of an indexed picture, 3 * width
 * of an RGB one.  0, or -1 with e: then no file is made. */
typedef int png_row(void *context, int y, uint8_t *out, error *e);

typedef struct png_target {
    int width, height;
    const uint8_t *pixels; /* all rows, one after the other; or NULL, then    */
    png_row *row;          /*   each row is asked for once, from the top, so
                                that no whole picture need ever exist         */
    void *context;         /* of row()                                       */
    double dpi;            /* for print; 0: not said                         */
    const png_note *notes;
    int note_count;
} png_target;

/* 8-bit palette picture: every pixel is an index into 256 RGB colours. */
int png_write_indexed(const char *path, const png_target *image,
                      const uint8_t palette[256][3], error *e);
/* 8-bit RGB picture. */
int png_write_rgb(const char *path, const png_target *image, error *e);

#endif
