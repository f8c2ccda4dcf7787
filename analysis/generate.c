/* generate.c - recipes of the procedural data.  u stands for the next uniform
 * number in [0, 1); the order of draws is part of the recipe. */
#include "generate.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "../kernels/plan.h"

#define PI 3.14159265358979323846

uint64_t generate_state(uint64_t seed, uint64_t item)
{
    uint64_t state = seed;
    const uint64_t a = att_random(&state);
    state = a ^ (item * 0xD1342543DE82EF95u);
    att_random(&state);
    return state;
}

/* floor(n u) */
static int below(uint64_t *state, int n)
{
    return (int)floor(n * att_uniform(state));
}

/* Mean 0; divided by (deviation + 0.05), so that flat pictures stay faint. */
static void normalise(const double *in, size_t n, float *out)
{
    double mean = 0, square = 0;
    for (size_t i = 0; i < n; i++) mean += in[i] / (double)n;
    for (size_t i = 0; i < n; i++) square += (in[i] - mean) * (in[i] - mean);
    const double deviation = sqrt(square / (double)n);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)((in[i] - mean) / (deviation + 0.05));
}

/* ---- leaves ---------------------------------------------------------------------- */

enum { FINE = 2 * GENERATE_PICTURE }; /* sampled at twice the size, averaged */

typedef struct leaf {
    double r, y, x, gray, cosine, sine, slope, aspect;
} leaf;

/* Radius with density r^-3 on [16, 80]. */
static leaf leaf_draw(uint64_t *state)
{
    const double c0 = 1 / (16.0 * 16), c1 = 1 / (80.0 * 80);
    leaf l;
    l.r = 1 / sqrt(c0 + att_uniform(state) * (c1 - c0));
    l.y = -80 + 200 * att_uniform(state);
    l.x = -80 + 200 * att_uniform(state);
    l.gray = att_uniform(state);
    const double t = 2 * PI * att_uniform(state);
    l.cosine = cos(t);
    l.sine = sin(t);
    l.slope = att_uniform(state);
    l.aspect = exp(0.5 * (2 * att_uniform(state) - 1));
    return l;
}

/* Columns [*first, *end) that the leaf may cover in a row dy below its centre:
 * (u/a)^2 + (w a)^2 = r^2 is A x^2 + 2 B x y + C y^2 = r^2.  A column more on
 * both sides, so that rounding decides nothing here. */
static void leaf_span(const leaf *l, double dy, int *first, int *end)
{
    const double a2 = l->aspect * l->aspect, c = l->cosine, s = l->sine;
    const double A = c * c / a2 + s * s * a2, B = c * s * (1 / a2 - a2);
    const double C = s * s / a2 + c * c * a2;
    const double inside = B * dy * B * dy - A * (C * dy * dy - l->r * l->r);
    const double half = sqrt(inside > 0 ? inside : 0) / A;
    const double middle = l->x - B * dy / A;
    *first = (int)fmax(0, 2 * (middle - half) - 2);
    *end = (int)fmin(FINE, 2 * (middle + half) + 2);
}

/* Paints the points that are still bare; returns how many it covered. */
static int leaf_paint(const leaf *l, double *value, bool *covered)
{
    const double reach = l->r * fmax(l->aspect, 1 / l->aspect) + 1;
    int painted = 0;
    for (int y = 0; y < FINE; y++) {
        const double dy = (y + 0.5) / 2 - l->y;
        int x, end;
        if (fabs(dy) > reach) continue;
        for (leaf_span(l, dy, &x, &end); x < end; x++) {
            const int i = y * FINE + x;
            if (covered[i]) continue;
            const double dx = (x + 0.5) / 2 - l->x;
            const double u = dx * l->cosine + dy * l->sine;
            const double w = -dx * l->sine + dy * l->cosine;
            const double a = u / l->aspect, b = w * l->aspect;
            if (a * a + b * b > l->r * l->r) continue;
            value[i] = l->gray + l->slope * u / l->r;
            covered[i] = true;
            painted++;
        }
    }
    return painted;
}

void generate_leaves(uint64_t seed, uint64_t item, float *picture)
{
    enum { SIDE = GENERATE_PICTURE };
    uint64_t state = generate_state(seed, item);
    double fine[FINE * FINE] = { 0 }, coarse[SIDE * SIDE];
    bool covered[FINE * FINE] = { false };
    int bare = FINE * FINE;

    for (int i = 0; i < 20000 && bare > 0; i++) {
        const leaf l = leaf_draw(&state);
        bare -= leaf_paint(&l, fine, covered);
    }
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            const double *p = fine + 2 * y * FINE + 2 * x;
            coarse[y * SIDE + x] = (p[0] + p[1] + p[FINE] + p[FINE + 1]) / 4;
        }
    normalise(coarse, SIDE * SIDE, picture);
}

/* ---- clouds ----------------------------------------------------------------------- */

static double smooth(double t)
{
    return t * t * (3 - 2 * t);
}

/* Adds one octave: a lattice of pitch L, amplitude L. */
static void cloud_octave(uint64_t *state, int pitch, double *picture)
{
    enum { SIDE = GENERATE_PICTURE };
    double lattice[(SIDE / 2 + 3) * (SIDE / 2 + 3)];
    const int n = SIDE / pitch + 3;
    for (int i = 0; i < n * n; i++) lattice[i] = 2 * att_uniform(state) - 1;
    const double oy = att_uniform(state), ox = att_uniform(state);

    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            const double fy = (double)y / pitch + oy;
            const double fx = (double)x / pitch + ox;
            const int iy = (int)fy, ix = (int)fx;
            const double ty = smooth(fy - iy), tx = smooth(fx - ix);
            const double *p = lattice + iy * n + ix;
            picture[y * SIDE + x] +=
                pitch * ((1 - ty) * ((1 - tx) * p[0] + tx * p[1]) +
                         ty * ((1 - tx) * p[n] + tx * p[n + 1]));
        }
}

void generate_clouds(uint64_t seed, uint64_t item, float *picture)
{
    enum { SIDE = GENERATE_PICTURE };
    uint64_t state = generate_state(seed, item);
    double sum[SIDE * SIDE] = { 0 }, power = 0;
    for (int pitch = 32; pitch >= 2; pitch /= 2) {
        cloud_octave(&state, pitch, sum);
        power += pitch * pitch;
    }
    for (int i = 0; i < SIDE * SIDE; i++) sum[i] *= 0.3 / sqrt(power / 3);
    normalise(sum, SIDE * SIDE, picture);
}

/* ---- stripes ----------------------------------------------------------------------- */

/* Discs of radius 6, 5, 2 that do not touch (the 200th try stays). */
static void disc_places(uint64_t *state, const double *radius, double (*at)[2])
{
    for (int d = 0; d < 3; d++)
        for (int try = 0; try < 200; try++) {
            bool clear = true;
            for (int a = 0; a < 2; a++)
                at[d][a] = radius[d] + att_uniform(state) *
                                           (GENERATE_STRIPES - 2 * radius[d]);
            for (int e = 0; e < d; e++)
                clear &= hypot(at[d][0] - at[e][0], at[d][1] - at[e][1]) >=
                         radius[d] + radius[e] + 1;
            if (clear) break;
        }
}

/* First row or column that a disc may reach. */
static int first_cell(double centre, double radius)
{
    return (int)fmax(0, centre - radius - 1);
}

int generate_stripes(uint64_t seed, uint64_t item, float *picture)
{
    enum { SIDE = GENERATE_STRIPES };
    static const double radius[3] = { 6, 5, 2 };
    uint64_t state = generate_state(seed, item);
    double at[3][2];

    const int same = below(&state, 2);
    int direction[3];
    direction[0] = below(&state, 4);
    direction[1] = same ? direction[0]
                        : (direction[0] + 1 + below(&state, 3)) % 4;
    direction[2] = below(&state, 4);
    disc_places(&state, radius, at);
    double value[SIDE * SIDE];
    for (int i = 0; i < SIDE * SIDE; i++) value[i] = 0.6 * att_normal(&state);
    for (int d = 0; d < 3; d++) {
        const double phase = att_uniform(&state);
        const double amplitude = 0.6 + 0.4 * att_uniform(&state);
        const double angle = PI * direction[d] / 4;
        const double fx = cos(angle), fy = sin(angle);
        const int y0 = first_cell(at[d][0], radius[d]);
        const int x0 = first_cell(at[d][1], radius[d]);
        for (int y = y0; y < SIDE && y < y0 + 2 * radius[d] + 2; y++)
            for (int x = x0; x < SIDE && x < x0 + 2 * radius[d] + 2; x++)
                if (hypot(y + 0.5 - at[d][0], x + 0.5 - at[d][1]) <= radius[d])
                    value[y * SIDE + x] +=
                        amplitude *
                        sin(2 * PI * ((x * fx + y * fy) / 4 + phase));
    }
    for (int i = 0; i < SIDE * SIDE; i++) picture[i] = (float)value[i];
    return 2 * direction[0] + same;
}

/* ---- bytes ---------------------------------------------------------------------------- */

const char *const generate_class_name[BYTE_CLASSES] = {
    "fixed",   "line kind",     "free choice",    "Markov letter", "copy",
    "bracket", "closing type",  "recalled value", "word end",
};

typedef struct document {
    uint64_t state;
    unsigned char *byte, *class_;
    float *bits;
    size_t n;
    int key[4], value[4]; /* of the header                                  */
} document;

static void put(document *d, int byte, double bits, enum generate_class c)
{
    if (d->n >= GENERATE_DOCUMENT) return;
    d->byte[d->n] = (unsigned char)byte;
    d->bits[d->n] = (float)bits;
    d->class_[d->n++] = (unsigned char)c;
}

/* Successor 3a + m mod 16, m = 1, 5, 7, 11 with probability 1/2, 1/4, 1/8, 1/8. */
static int successor(document *d, int letter, double *bits)
{
    static const int step[4] = { 1, 5, 7, 11 };
    static const double cost[4] = { 1, 2, 3, 3 };
    const double u = att_uniform(&d->state);
    const int i = u < 0.5 ? 0 : u < 0.75 ? 1 : u < 0.875 ? 2 : 3;
    *bits = cost[i];
    return (3 * letter + step[i]) % 16;
}

/* "{" four different capitals, each with a letter "}" */
static void header(document *d)
{
    int list[16];
    for (int i = 0; i < 16; i++) list[i] = i;
    put(d, '{', 0, BYTE_FIXED);
    for (int i = 0; i < 4; i++) {
        const int j = i + below(&d->state, 16 - i), swap = list[i];
        list[i] = list[j];
        list[j] = swap;
        d->key[i] = list[i];
        d->value[i] = below(&d->state, 16);
        put(d, 'A' + d->key[i], log2(16 - i), BYTE_CHOICE);
        put(d, 'a' + d->value[i], 4, BYTE_CHOICE);
    }
    put(d, '}', 0, BYTE_FIXED);
}

/* Letters by the Markov rule; after each the word ends with probability 1/8. */
static void word(document *d)
{
    int letter = below(&d->state, 16);
    put(d, 'a' + letter, 4, BYTE_CHOICE);
    while (below(&d->state, 8) != 0) {
        double bits;
        letter = successor(d, letter, &bits);
        put(d, 'a' + letter, bits + log2(8.0 / 7), BYTE_MARKOV);
        if (d->n > GENERATE_DOCUMENT - 2) return;
    }
    put(d, '\n', 3, BYTE_END);
}

static void copy(document *d)
{
    int letter[8];
    letter[0] = below(&d->state, 16);
    put(d, 'a' + letter[0], 4, BYTE_CHOICE);
    for (int i = 1; i < 8; i++) {
        double bits;
        letter[i] = successor(d, letter[i - 1], &bits);
        put(d, 'a' + letter[i], bits, BYTE_MARKOV);
    }
    put(d, '|', 0, BYTE_FIXED);
    for (int i = 0; i < 8; i++) put(d, 'a' + letter[i], 0, BYTE_COPY);
    put(d, '\n', 0, BYTE_FIXED);
}

/* A uniformly random balanced string of 12: with h open and r left, opens with
 * probability (h + 2)(r - h) / (2 r (h + 1)). */
static void brackets(document *d)
{
    static const char open[] = "([<", close[] = ")]>";
    int stack[12], h = 0;
    for (int r = 12; r > 0; r--) {
        const double p = (h + 2.0) * (r - h) / (2.0 * r * (h + 1));
        if (att_uniform(&d->state) < p) {
            stack[h] = below(&d->state, 3);
            put(d, open[stack[h++]], -log2(p) + log2(3), BYTE_BRACKET);
        } else
            put(d, close[stack[--h]], -log2(1 - p), BYTE_CLOSING);
    }
    put(d, '\n', 0, BYTE_FIXED);
}

static void recall(document *d)
{
    for (int i = 0; i < 4; i++) {
        const int k = below(&d->state, 4);
        put(d, 'A' + d->key[k], 2, BYTE_CHOICE);
        put(d, 'a' + d->value[k], 0, BYTE_RECALL);
    }
    put(d, '\n', 0, BYTE_FIXED);
}

size_t generate_document(uint64_t seed, uint64_t item, unsigned char *byte,
                         float *bits, unsigned char *class_)
{
    static void (*const line[4])(document *) = { word, copy, brackets,
                                                 recall };
    document d = { .state = generate_state(seed, item), .byte = byte,
                   .class_ = class_, .bits = bits };
    header(&d);
    for (int i = 0; i < 12; i++) {
        const int kind = below(&d.state, 4);
        put(&d, ".=!?"[kind], 2, BYTE_KIND);
        line[kind](&d);
    }
    return d.n;
}
