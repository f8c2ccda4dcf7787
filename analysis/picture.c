/* picture.c - pictures to tokens, tokens to queries, keys and values. */
#include "picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the built-in picture ----------------------------------------------- */

enum { OCTAVES = 5, LEAVES = 9 };

typedef struct leaf {
    double y, x, radius, turn, aspect, slope;
    double colour[3];
} leaf;

typedef struct scene {
    uint64_t seed;
    leaf leaves[LEAVES];
} scene;

static const double sky[2][3] = { { .20, .34, .58 }, { .90, .88, .80 } };
static const double leaf_colours[][3] = {
    { .16, .36, .18 }, { .72, .22, .14 }, { .86, .62, .18 },
    { .42, .52, .20 }, { .30, .18, .32 }, { .78, .44, .24 },
};

/* Value at a lattice point of an octave, in [-1, 1). */
static double lattice(uint64_t seed, int octave, long y, long x)
{
    uint64_t s = seed * 0x9e3779b97f4a7c15u + (uint64_t)octave;
    s = att_random(&s) ^ (uint64_t)y * 0xd1342543de82ef95u;
    s = att_random(&s) ^ (uint64_t)x * 0xbf58476d1ce4e5b9u;
    return 2 * att_uniform(&s) - 1;
}

static double smooth(double t)
{
    return t * t * (3 - 2 * t);
}

/* Value noise, amplitude proportional to the wavelength, in about [0, 1]. */
static double clouds(uint64_t seed, double y, double x)
{
    double sum = 0, total = 0;
    for (int o = 0; o < OCTAVES; o++) {
        const double frequency = ldexp(1.6, o), amplitude = ldexp(1, -o);
        const double fy = y * frequency, fx = x * frequency;
        const long iy = (long)floor(fy), ix = (long)floor(fx);
        const double ty = smooth(fy - (double)iy), tx = smooth(fx - (double)ix);
        const double top = lattice(seed, o, iy, ix) * (1 - tx) +
                           lattice(seed, o, iy, ix + 1) * tx;
        const double low = lattice(seed, o, iy + 1, ix) * (1 - tx) +
                           lattice(seed, o, iy + 1, ix + 1) * tx;
        sum += amplitude * (top * (1 - ty) + low * ty);
        total += amplitude;
    }
    return fmin(fmax(0.5 + 0.8 * sum / total, 0), 1);
}

static void scene_make(uint64_t seed, double height, double width, scene *s)
{
    const int colours = sizeof leaf_colours / sizeof *leaf_colours;
    uint64_t state = seed;
    s->seed = att_random(&state);
    for (int i = 0; i < LEAVES; i++) {
        leaf *l = &s->leaves[i];
        l->radius = 0.08 + 0.16 * att_uniform(&state);
        l->y = height * att_uniform(&state);
        l->x = width * att_uniform(&state);
        l->turn = 6.283185307179586 * att_uniform(&state);
        l->aspect = 1.3 + att_uniform(&state);
        l->slope = 0.5 * att_uniform(&state);
        memcpy(l->colour, leaf_colours[i % colours], sizeof l->colour);
    }
}

/* Unit of y and x: the shorter side. */
static void scene_colour(const scene *s, double y, double x, double out[3])
{
    for (int i = 0; i < LEAVES; i++) {
        const leaf *l = &s->leaves[i];
        const double dy = y - l->y, dx = x - l->x;
        const double u = dx * cos(l->turn) + dy * sin(l->turn);
        const double w = dy * cos(l->turn) - dx * sin(l->turn);
        const double a = u / (l->radius * l->aspect);
        const double b = w * l->aspect / l->radius;
        if (a * a + b * b > 1) continue;
        /* lit along its length, darker at the midrib */
        const double light = 1 + l->slope * a - 0.35 * exp(-200 * b * b);
        for (int c = 0; c < 3; c++)
            out[c] = fmin(fmax(l->colour[c] * light, 0), 1);
        return;
    }
    const double t = clouds(s->seed, y, x);
    for (int c = 0; c < 3; c++)
        out[c] = sky[0][c] + t * (sky[1][c] - sky[0][c]);
}

static int picture_make(int width, int height, int channels, picture *out,
                        error *e)
{
    *out = (picture){ .width = width, .height = height, .channels = channels,
                      .depth = 8 };
    const size_t pixels = (size_t)width * (size_t)height;
    if (width < 1 || height < 1 || width > PNG_SIDE || height > PNG_SIDE ||
        pixels > PNG_PIXELS)
        return error_set(e, "a picture of %d x %d pixels is too large", width,
                         height);
    out->sample = malloc(pixels * (size_t)channels * sizeof *out->sample);
    return out->sample ? 0
                       : error_set(e, "not enough memory for %d x %d pixels",
                                   width, height);
}

int picture_scene(int width, int height, uint64_t seed, picture *out, error *e)
{
    enum { SUB = 2 }; /* samples per pixel and axis: smooth edges */
    const double unit = width < height ? width : height;
    scene s;
    if (picture_make(width, height, 3, out, e) < 0) return -1;
    scene_make(seed, height / unit, width / unit, &s);

    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            float *pixel = out->sample + ((size_t)y * (size_t)width +
                                          (size_t)x) * 3;
            double sum[3] = { 0 }, one[3];
            for (int k = 0; k < SUB * SUB; k++) {
                scene_colour(&s, (y + (k / SUB + 0.5) / SUB) / unit,
                             (x + (k % SUB + 0.5) / SUB) / unit, one);
                for (int c = 0; c < 3; c++) sum[c] += one[c];
            }
            for (int c = 0; c < 3; c++)
                pixel[c] = (float)(sum[c] / (SUB * SUB));
        }
    return 0;
}

/* ---- reading ------------------------------------------------------------ */

/* Lays 2 or 4 channels on white, in place. */
static void flatten(picture *p)
{
    const size_t n = (size_t)p->width * (size_t)p->height;
    const size_t from = (size_t)p->channels, colours = from - 1;
    for (size_t i = 0; i < n; i++) {
        const double alpha = p->sample[i * from + colours];
        for (size_t c = 0; c < colours; c++)
            p->sample[i * colours + c] =
                (float)(1 + alpha * (p->sample[i * from + c] - 1));
    }
    p->channels = (int)colours;
}

int picture_read(const char *path, picture *out, error *e)
{
    if (png_read_picture(path, out, e) < 0) return -1;
    if (out->channels % 2 == 0) flatten(out);
    return 0;
}

double picture_grey(const float *pixel, int channels)
{
    return channels < 3
               ? pixel[0]
               : 0.2126 * pixel[0] + 0.7152 * pixel[1] + 0.0722 * pixel[2];
}

/* ---- resizing ----------------------------------------------------------- */

/* Mean over [y0, y1) x [x0, x1), whose borders may lie inside pixels. */
static double area(const picture *p, double y0, double y1, double x0, double x1,
                   int colour)
{
    double sum = 0, weight = 0;
    for (int y = (int)y0; y < y1 && y < p->height; y++) {
        const double high = fmin(y1, y + 1) - fmax(y0, y);
        for (int x = (int)x0; x < x1 && x < p->width; x++) {
            const double w = high * (fmin(x1, x + 1) - fmax(x0, x));
            sum += w * p->sample[((size_t)y * (size_t)p->width + (size_t)x) *
                                     (size_t)p->channels + (size_t)colour];
            weight += w;
        }
    }
    return sum / weight;
}

int picture_resize(const picture *from, const picture_part *part, int to_width,
                   int to_height, picture *out, error *e)
{
    const int colours = from->channels;
    const double high = (double)part->height / to_height;
    const double wide = (double)part->width / to_width;
    if (picture_make(to_width, to_height, colours, out, e) < 0) return -1;

    #pragma omp parallel for schedule(static)
    for (int y = 0; y < to_height; y++)
        for (int x = 0; x < to_width; x++)
            for (int c = 0; c < colours; c++) {
                const double top = part->y + y * high;
                const double left = part->x + x * wide;
                out->sample[((size_t)y * (size_t)to_width + (size_t)x) *
                                (size_t)colours +
                            (size_t)c] =
                    (float)area(from, top, top + high, left, left + wide, c);
            }
    return 0;
}

/* ---- tokens ------------------------------------------------------------- */

picture_grid picture_grid_of(const att_problem *p)
{
    const int *side = p->grid.v, n = p->grid.n;
    return (picture_grid){ .frames = n == 3 ? side[0] : 1,
                           .rows = n == 1 ? 1 : side[n - 2],
                           .columns = side[n - 1] };
}

/* The largest centred part with the grid's aspect; all of it for strips. */
static picture_part centre(const picture *p, const picture_grid *grid)
{
    picture_part part = { 0, 0, p->width, p->height };
    if (grid->rows == 1) return part;
    const double cell = fmin((double)p->width / grid->columns,
                             (double)p->height / grid->rows);
    part.width = (int)(cell * grid->columns);
    part.height = (int)(cell * grid->rows);
    part.x = (p->width - part.width) / 2;
    part.y = (p->height - part.height) / 2;
    return part;
}

/* Mean 0 and standard deviation 1 of a colour; a flat one becomes 0. */
static void standardise(const picture *p, int colour, double *mean,
                        double *scale)
{
    const size_t n = (size_t)p->width * (size_t)p->height;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += p->sample[i * (size_t)p->channels + (size_t)colour];
    *mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) {
        const double x =
            p->sample[i * (size_t)p->channels + (size_t)colour] - *mean;
        squares += x * x;
    }
    const double deviation = sqrt(squares / (double)n);
    *scale = deviation > 1e-6 ? 1 / deviation : 0;
}

/* Patch at cell (row, column) of a frame. */
static void cut(const tokens *t, const picture_grid *grid, int frame, int row,
                int column, const double mean[3], const double scale[3],
                double *out)
{
    const picture *p = &t->shown;
    const int first = (column + frame) % grid->columns * t->patch;
    double squares = 0;
    for (int y = 0; y < t->patch; y++)
        for (int x = 0; x < t->patch; x++)
            for (int c = 0; c < p->channels; c++) {
                const size_t at =
                    ((size_t)(row * t->patch + y) * (size_t)p->width +
                     (size_t)(first + x)) *
                        (size_t)p->channels +
                    (size_t)c;
                const double v = (p->sample[at] - mean[c]) * scale[c];
                *out++ = v;
                squares += v * v;
            }
    out -= t->features;
    const double norm = sqrt(squares / (double)t->features + 0.1);
    for (size_t f = 0; f < t->features; f++) out[f] /= norm;
}

static int check_size(const picture *from, const picture_grid *grid, error *e)
{
    if (from->width >= grid->columns && from->height >= grid->rows) return 0;
    return error_set(e, "the picture has %d x %d pixels, too few for %d x %d "
                        "patches: use a larger picture or a smaller --grid",
                     from->width, from->height, grid->columns, grid->rows);
}

int tokens_make(const picture *from, const picture_grid *grid, int patch,
                tokens *out, error *e)
{
    const picture_part part = centre(from, grid);
    double mean[3] = { 0 }, scale[3] = { 0 };
    *out = (tokens){ .patch = patch };
    if (check_size(from, grid, e) < 0) return -1;
    if (patch < 1 || grid->columns > PNG_SIDE / patch ||
        grid->rows > PNG_SIDE / patch)
        return error_set(e, "%d x %d patches of %d pixels are more than a "
                            "picture may have: use a smaller --patch",
                         grid->columns, grid->rows, patch);
    if (picture_resize(from, &part, grid->columns * patch, grid->rows * patch,
                       &out->shown, e) < 0)
        return -1;
    const int colours = out->shown.channels;
    out->count = (size_t)grid->frames * (size_t)grid->rows *
                 (size_t)grid->columns;
    out->features = (size_t)patch * (size_t)patch * (size_t)colours;
    out->value = malloc(out->count * out->features * sizeof *out->value);
    if (!out->value) {
        tokens_free(out);
        return error_set(e, "not enough memory for %zu patches", out->count);
    }
    for (int c = 0; c < colours; c++)
        standardise(&out->shown, c, &mean[c], &scale[c]);
    double *value = out->value;
    for (int f = 0; f < grid->frames; f++)
        for (int y = 0; y < grid->rows; y++)
            for (int x = 0; x < grid->columns; x++, value += out->features)
                cut(out, grid, f, y, x, mean, scale, value);
    return 0;
}

void tokens_free(tokens *t)
{
    free(t->value);
    picture_free(&t->shown);
    *t = (tokens){ 0 };
}

/* ---- projections -------------------------------------------------------- */

/* Row `channel` of the projection of one head of a slot. */
static void projection(uint64_t seed, enum att_slot slot, int head, int channel,
                       size_t features, double *w)
{
    uint64_t state = seed;
    state = att_random(&state) ^ (uint64_t)slot << 48;
    state = att_random(&state) ^ (uint64_t)head << 24 ^ (uint64_t)channel;
    (void)att_random(&state);
    for (size_t f = 0; f < features; f++)
        w[f] = att_normal(&state) / sqrt((double)features);
}

static void project_slot(const tokens *t, uint64_t seed, enum att_slot slot,
                         bool like_q, check_values *v, double *w, double *wq)
{
    att_shape shape;
    att_shape_of(v->mechanism, &v->problem, slot, &shape);
    const size_t n = (size_t)shape.tokens, wide = (size_t)shape.channels;
    const double c = TOKENS_CORRELATION, rest = sqrt(1 - c * c);
    for (int h = 0; h < shape.heads; h++)
        for (size_t ch = 0; ch < wide; ch++) {
            projection(seed, slot, h, (int)ch, t->features, w);
            if (like_q) {
                projection(seed, ATT_Q, h, (int)ch, t->features, wq);
                for (size_t f = 0; f < t->features; f++)
                    w[f] = c * wq[f] + rest * w[f];
            }
            #pragma omp parallel for schedule(static)
            for (size_t j = 0; j < n; j++) {
                const double *x = t->value + j * t->count / n * t->features;
                double sum = 0;
                for (size_t f = 0; f < t->features; f++) sum += w[f] * x[f];
                v->in[slot][((size_t)h * n + j) * wide + ch] = sum;
            }
        }
}

void tokens_project(const tokens *t, uint64_t seed, check_values *v)
{
    double *w = malloc(2 * t->features * sizeof *w);
    if (!w) abort();
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
        if (v->in[s])
            project_slot(t, seed, s, s == ATT_K && v->in[ATT_Q], v, w,
                         w + t->features);
    free(w);
}

const char *tokens_how(void)
{
    return "one square patch per grid cell (sequences: one strip per token; "
           "volumes: frame t is the picture moved left by t cells); each "
           "colour has mean 0 and standard deviation 1 over the picture, each "
           "patch vector x is divided by sqrt(mean x^2 + 0.1); q = W_q x, k = W_k x, "
           "v = W_v x with seeded Gaussian entries of variance 1 / features, "
           "another matrix for each head, W_k = 0.9 W_q + sqrt(0.19) times an "
           "independent one; no positions are added";
}
