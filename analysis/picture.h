/* picture.h - pictures to tokens, and tokens to queries, keys and values.
 *
 * A picture (plots/png.h) is cut into one square patch per grid cell; each
 * patch is a vector of pixels, normalised and projected by seeded Gaussian
 * matrices.
 */
#ifndef PICTURE_H
#define PICTURE_H

#include <stdint.h>

#include "../harness/check.h"
#include "../harness/error.h"
#include "../harness/json.h"
#include "../plots/png.h"

/* Reads a PNG file as all parts of this program see pictures: grey or RGB,
 * transparency laid on white.  0; -1 with e.  The caller frees. */
int picture_read(const char *path, picture *out, error *e);

/* Light of a pixel of 1 or 3 channels: Rec. 709 luma of the colours as stored. */
double picture_grey(const float *pixel, int channels);

/* A picture that is always there: shaded overlapping leaves before clouds, in
 * colour.  The same pixels for the same seed and size. */
int picture_scene(int width, int height, uint64_t seed, picture *out, error *e);

/* The centred part [y, y + height) x [x, x + width), then resized to
 * to_width x to_height: every pixel is the mean of the area that it covers.
 * The picture has 1 or 3 channels. */
typedef struct picture_part {
    int x, y, width, height;
} picture_part;
int picture_resize(const picture *from, const picture_part *part, int to_width,
                   int to_height, picture *out, error *e);

/* Cells of a problem's grid as a picture sees them: a sequence is 1 x N strips,
 * a volume D frames of H x W cells. */
typedef struct picture_grid {
    int frames, rows, columns;
} picture_grid;
picture_grid picture_grid_of(const att_problem *p);

/* Tokens in raster order, one vector each. */
typedef struct tokens {
    size_t count, features;
    int patch;      /* pixels of a patch's side                             */
    double *value;  /* [count][features]                                    */
    picture shown;  /* the part that was used, rows * patch high             */
} tokens;

/* Cuts the centred part with the grid's aspect (sequences: the whole picture)
 * into patches of patch x patch pixels.  Frame t of a volume sees the picture
 * moved left by t cells, cyclically.  Every colour gets mean 0 and standard
 * deviation 1 over the picture, every token is divided by sqrt(mean of its
 * squares + 0.1).  -1: the picture is too small for the grid, or memory. */
int tokens_make(const picture *from, const picture_grid *grid, int patch,
                tokens *out, error *e);
void tokens_free(tokens *t);

/* How like a query's projection a key's is. */
#define TOKENS_CORRELATION 0.9

/* Inputs of v from the tokens: row c of each projection is Gaussian with
 * variance 1 / features, another for every head; W_k = 0.9 W_q + sqrt(1 - 0.81)
 * times an independent one, so that like patches attend to each other; W_v is
 * independent.  Where an input has another number of tokens T than the grid,
 * its token j is made from grid token j N / T. */
void tokens_project(const tokens *t, uint64_t seed, check_values *v);

/* The text above, for metrics.json. */
const char *tokens_how(void);

#endif
