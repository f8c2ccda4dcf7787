/* png.c - PNG pictures by libpng.
 *
 * libpng reports errors by longjmp.  Both directions keep their state in a
 * struct behind a pointer, so that no local variable is live across it.
 */
#include "png.h"

#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/file.h"

/* A file of PNG_PIXELS 16-bit RGBA samples that do not compress. */
#define FILE_LIMIT ((size_t)600 << 20)

/* ---- errors of libpng ---------------------------------------------------- */

/* What libpng's callbacks are given. */
typedef struct trouble {
    const char *path;
    error *e;
    bool told; /* e is already written                                      */
} trouble;

static void on_error(png_structp png, png_const_charp message)
{
    trouble *t = png_get_error_ptr(png);
    if (!t->told)
        error_set(t->e, "%s: not a whole PNG file: %s", t->path, message);
    png_longjmp(png, 1);
}

/* Warnings are about chunks that do not change the pixels. */
static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

/* ---- reading ------------------------------------------------------------- */

typedef struct reader {
    trouble trouble;
    png_structp png;
    png_infop info;
    const unsigned char *at; /* the file in memory                           */
    size_t left;
    unsigned char *bytes; /* rows as libpng gives them                       */
    png_bytep *rows;
} reader;

static void give_bytes(png_structp png, png_bytep out, size_t n)
{
    reader *r = png_get_io_ptr(png);
    if (n > r->left) png_error(png, "it ends too early");
    memcpy(out, r->at, n);
    r->at += n;
    r->left -= n;
}

static void check_size(reader *r)
{
    const png_uint_32 w = png_get_image_width(r->png, r->info);
    const png_uint_32 h = png_get_image_height(r->png, r->info);
    if (w <= PNG_SIDE && h <= PNG_SIDE && (size_t)w * h <= PNG_PIXELS) return;
    error_set(r->trouble.e,
              "%s: %lu x %lu pixels are more than this program reads (%d a "
              "side, %d in all): make it smaller first",
              r->trouble.path, (unsigned long)w, (unsigned long)h, PNG_SIDE,
              PNG_PIXELS);
    r->trouble.told = true;
    png_error(r->png, "too large");
}

/* Everything becomes 8 or 16 bits a sample, grey or RGB, alpha last. */
static void normalise(png_structp png, png_infop info)
{
    const int color = png_get_color_type(png, info);
    if (color == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (color == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png);
    if (png_get_valid(png, info, PNG_INFO_tRNS)) png_set_tRNS_to_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
}

/* Reads all pixels into r->bytes and describes them in *out. */
static int decode(reader *r, picture *out)
{
    if (setjmp(png_jmpbuf(r->png))) return -1;
    png_set_read_fn(r->png, r, give_bytes);
    png_set_user_limits(r->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_chunk_malloc_max(r->png, 1 << 23);
    png_read_info(r->png, r->info);
    check_size(r);
    out->depth = png_get_bit_depth(r->png, r->info);
    normalise(r->png, r->info);
    out->width = (int)png_get_image_width(r->png, r->info);
    out->height = (int)png_get_image_height(r->png, r->info);
    out->channels = png_get_channels(r->png, r->info);

    const size_t row = png_get_rowbytes(r->png, r->info);
    r->bytes = malloc(row * (size_t)out->height);
    r->rows = malloc((size_t)out->height * sizeof *r->rows);
    if (!r->bytes || !r->rows) png_error(r->png, "not enough memory for it");
    for (int y = 0; y < out->height; y++)
        r->rows[y] = r->bytes + row * (size_t)y;
    png_read_image(r->png, r->rows);
    png_read_end(r->png, NULL);
    return 0;
}

/* Bytes (16 bits: high byte first) to 0 ... 1. */
static int to_float(const reader *r, picture *out)
{
    const size_t n =
        (size_t)out->width * (size_t)out->height * (size_t)out->channels;
    const unsigned char *b = r->bytes;
    out->sample = malloc(n * sizeof *out->sample);
    if (!out->sample)
        return error_set(r->trouble.e, "%s: not enough memory for it",
                         r->trouble.path);
    for (size_t i = 0; i < n; i++)
        out->sample[i] = out->depth == 16
                             ? (float)(b[2 * i] << 8 | b[2 * i + 1]) / 65535
                             : (float)b[i] / 255;
    return 0;
}

int png_read_picture(const char *path, picture *out, error *e)
{
    char *file;
    size_t size;
    *out = (picture){ 0 };
    if (file_read(path, FILE_LIMIT, &file, &size, e) < 0) return -1;

    reader r = { .trouble = { path, e, false },
                 .at = (unsigned char *)file,
                 .left = size };
    int rc = -1;
    if (size < 8 || png_sig_cmp(r.at, 0, 8)) {
        error_set(e, "%s: not a PNG file", path);
        goto out;
    }
    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r.trouble, on_error,
                                   on_warning);
    r.info = r.png ? png_create_info_struct(r.png) : NULL;
    if (!r.info) error_set(e, "%s: not enough memory to read it", path);
    else if (decode(&r, out) == 0) rc = to_float(&r, out);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    free(r.bytes);
    free(r.rows);
out:
    free(file);
    if (rc < 0) *out = (picture){ 0 };
    return rc;
}

void picture_free(picture *p)
{
    free(p->sample);
    *p = (picture){ 0 };
}

/* ---- writing ------------------------------------------------------------- */

typedef struct writer {
    trouble trouble;
    const png_target *image;
    const uint8_t (*palette)[3]; /* NULL: RGB                                */
    file_writer file;
    png_structp png;
    png_infop info;
    uint8_t *row;
} writer;

static void take_bytes(png_structp png, png_bytep in, size_t n)
{
    writer *w = png_get_io_ptr(png);
    fwrite(in, 1, n, w->file.stream); /* file_commit sees a failure          */
}

static void flush(png_structp png)
{
    (void)png;
}

static bool ascii(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text >= 0x80) return false;
    return true;
}

/* tEXt where ASCII does, iTXt (UTF-8) elsewhere. */
static void write_notes(writer *w)
{
    for (int i = 0; i < w->image->note_count; i++) {
        const png_note *note = &w->image->notes[i];
        png_text text = {
            .compression = ascii(note->value) ? PNG_TEXT_COMPRESSION_NONE
                                              : PNG_ITXT_COMPRESSION_NONE,
            .key = (char *)note->key,
            .text = (char *)note->value,
            .text_length = strlen(note->value),
            .lang = "",
            .lang_key = (char *)note->key,
        };
        png_set_text(w->png, w->info, &text, 1);
    }
}

static void write_palette(writer *w)
{
    png_color color[256];
    for (int i = 0; i < 256; i++)
        color[i] = (png_color){ w->palette[i][0], w->palette[i][1],
                                w->palette[i][2] };
    png_set_PLTE(w->png, w->info, color, 256);
}

static void write_header(writer *w)
{
    const png_target *m = w->image;
    /* libpng's own ceiling of a million a side is not ours */
    png_set_user_limits(w->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_IHDR(w->png, w->info, (png_uint_32)m->width,
                 (png_uint_32)m->height, 8,
                 w->palette ? PNG_COLOR_TYPE_PALETTE : PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(w->png, 6);
    if (w->palette) {
        write_palette(w);
        png_set_filter(w->png, PNG_FILTER_TYPE_BASE, PNG_FILTER_NONE);
    }
    png_set_sRGB(w->png, w->info, PNG_sRGB_INTENT_PERCEPTUAL);
    if (m->dpi > 0) {
        const png_uint_32 per_metre = (png_uint_32)(m->dpi / 0.0254 + 0.5);
        png_set_pHYs(w->png, w->info, per_metre, per_metre,
                     PNG_RESOLUTION_METER);
    }
    write_notes(w);
    png_write_info(w->png, w->info);
}

/* One row from the caller's array or function. */
static const uint8_t *next_row(writer *w, int y, size_t row_bytes)
{
    const png_target *m = w->image;
    if (m->pixels) return m->pixels + (size_t)y * row_bytes;
    if (m->row(m->context, y, w->row, w->trouble.e) < 0) {
        w->trouble.told = true;
        png_error(w->png, "no row");
    }
    return w->row;
}

static int encode(writer *w)
{
    if (setjmp(png_jmpbuf(w->png))) return -1;
    const size_t row_bytes = (size_t)w->image->width * (w->palette ? 1 : 3);
    png_set_write_fn(w->png, w, take_bytes, flush);
    write_header(w);
    w->row = malloc(row_bytes);
    if (!w->row) png_error(w->png, "not enough memory for a row");
    for (int y = 0; y < w->image->height; y++)
        png_write_row(w->png, next_row(w, y, row_bytes));
    png_write_end(w->png, NULL);
    return 0;
}

static int write_picture(writer *w, const char *path, error *e)
{
    w->trouble = (trouble){ path, e, false };
    if (w->image->width < 1 || w->image->height < 1)
        return error_set(e, "%s: a picture of %d x %d pixels cannot be written",
                         path, w->image->width, w->image->height);
    if (file_begin(&w->file, path, e) < 0) return -1;
    w->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &w->trouble,
                                     on_error, on_warning);
    w->info = w->png ? png_create_info_struct(w->png) : NULL;
    int rc = -1;
    if (!w->info) error_set(e, "%s: not enough memory to write it", path);
    else rc = encode(w);
    png_destroy_write_struct(&w->png, &w->info);
    free(w->row);
    if (rc == 0) return file_commit(&w->file, e);
    file_abandon(&w->file);
    return -1;
}

int png_write_indexed(const char *path, const png_target *image,
                      const uint8_t palette[256][3], error *e)
{
    writer w = { .image = image, .palette = palette };
    return write_picture(&w, path, e);
}

int png_write_rgb(const char *path, const png_target *image, error *e)
{
    writer w = { .image = image };
    return write_picture(&w, path, e);
}
