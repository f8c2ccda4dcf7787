/* maps.c - metrics, scales, colours and figures of maps on matrices so small that every
 * value follows by hand.  (analysis/metrics.h, heatmap.h, mapfigure.h, picture.h)
 */
#include "test.h"

#include "../analysis/heatmap.h"
#include "../analysis/mapfigure.h"
#include "../analysis/matrix.h"
#include "../analysis/metrics.h"
#include "../analysis/picture.h"
#include "../harness/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[200];

static void near(double x, double want)
{
    if (!(fabs(x - want) <= 1e-12 * (1 + fabs(want))))
        fail_msg("%.15g, expected %.15g", x, want);
}

static void near_all(const double *x, const double *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs(x[i] - want[i]) <= 1e-12))
            fail_msg("entry %zu is %.15g, expected %.15g", i, x[i], want[i]);
}

static metrics measured(const double *a, size_t rows, size_t columns,
                        metrics_grid grid, enum metrics_divisor divisor)
{
    metrics m;
    error e;
    if (metrics_compute(a, rows, columns, &grid, divisor, true, &m, &e))
        fail_msg("%s", e.text);
    return m;
}

/* ---- metrics ------------------------------------------------------------------- */

static const metrics_grid line_of_4 = { .axes = 1, .side = { 4 } };
static const double four[16] = { .5,  .25, .125, .125, 0, 1, 0, 0,
                                 .25, .25, .25,  .25,  0, 0, 0, 0 };

/* Entropies 1.75, 0 and 2 bits; the last row has no weight and no part in means. */
static void entropy_and_support(void **state)
{
    (void)state;
    metrics m = measured(four, 4, 4, line_of_4, METRICS_VALID);
    near(m.entropy, 1.25 * log(2));
    near(m.entropy_norm, 0.625);
    near(m.support, (pow(2, 1.75) + 1 + 4) / 3);
    near(m.maxw, 1.75 / 3);
    near(m.zero_rows, 1);
    near(m.zero_matrices, 0);
    near(m.row_sum_min, 0);
    near(m.row_sum_max, 1);
    near(m.zeros, 7);
    assert_false(m.negative || m.renormalised);
    near_all(m.entropy_quartile, (double[]){ 0, .4375, .875, .9375, 1 }, 5);
    metrics_free(&m);
}

/* Weights 1 ... 40 of 820: the 2 (a twentieth, rounded up) and the 10 largest. */
static void largest_weights(void **state)
{
    (void)state;
    double a[41];
    for (int j = 0; j < 40; j++) a[j] = ((7 * j + 3) % 40 + 1) / 820.0;
    metrics m = measured(a, 1, 40, (metrics_grid){ 0 }, METRICS_VALID);
    near(m.top5, 79.0 / 820);
    near(m.top10, 355.0 / 820);
    near(m.maxw, 40.0 / 820);
    assert_true(isnan(m.dist) && isnan(m.mass_r1) && !m.relative);
    metrics_free(&m);
    a[40] = 0; /* one column more: 3 of 41 */
    m = measured(a, 1, 41, (metrics_grid){ 0 }, METRICS_VALID);
    near(m.top5, 117.0 / 820);
    metrics_free(&m);
}

/* Of a line of 4: query 0 is .875 cells away from its weight, query 1 none, query 2
 * (2 + 1 + 0 + 1) / 4.  Of 16 pairs 4 + 6 are within 1 cell, 4 + 6 + 4 within 2. */
static void distance_and_mass(void **state)
{
    (void)state;
    metrics m = measured(four, 4, 4, line_of_4, METRICS_VALID);
    near(m.dist, 1.875 / 3);
    near(m.dist_uniform, 20.0 / 16);
    near(m.mass_r1, (0.75 + 1 + 0.75) / 3);
    near(m.u_r1, 10.0 / 16);
    near(m.mass_r2, (0.875 + 1 + 1) / 3);
    near(m.u_r2, 14.0 / 16);
    near(m.mass_r3, 1);
    near(m.u_r3, 1);
    near_all(m.relative,
             (double[]){ 0, .125, .25 / 3, 1.75 / 4, .5 / 3, .0625, .125 }, 7);
    metrics_free(&m);
    m = measured(four, 4, 4, line_of_4, METRICS_ALL);
    near_all(m.relative,
             (double[]){ 0, .0625, .0625, .4375, .125, .03125, .03125 }, 7);
    assert_null(m.relative_rows);
    metrics_free(&m);
}

/* A class token before a grid of 2 x 3.  Token (0,0) looks at (1,2): sqrt 5 cells,
 * 2 by the larger of both; four look at themselves; the last one at the class token
 * alone, and has no place.  Everyone gives half to the class token. */
static void tokens_before_the_grid(void **state)
{
    (void)state;
    const metrics_grid grid = { .axes = 2, .side = { 2, 3 }, .first = 1 };
    double a[49] = { 0 };
    for (int i = 0; i < 7; i++) a[i * 7] = .5;
    for (int i = 1; i < 6; i++) a[i * 7 + (i == 1 ? 6 : i)] = .5;
    a[42] = 1;
    metrics m = measured(a, 7, 7, grid, METRICS_VALID);
    near(m.dist, sqrt(5) / 5);
    near(m.mass_r1, 0.8);
    near(m.mass_r2, 1);
    near(m.dist_uniform, (8 + 8 + 6 + 8 * sqrt(2) + 4 * sqrt(5)) / 36);
    near(m.u_r1, 28.0 / 36);
    near(m.entropy, 5 * log(2) / 7);
    /* offsets: 3 rows of 5; (+1, +2) has one pair, (0, 0) has six */
    double want[15] = { 0 };
    want[14] = .5;
    want[7] = 4 * .5 / 6;
    near_all(m.relative, want, 15);
    want[14] = 1;
    want[7] = 4.0 / 6;
    near_all(m.relative_rows, want, 15);
    metrics_free(&m);
}

/* Of |A| times the columns: 4, 2, 1 and .5 lie in the bins from 10^.5, 10^.25, 1 and
 * 10^-.5; the first bin takes what is below 10^-6, the last what is above 10^4. */
static void histogram_of_weights(void **state)
{
    (void)state;
    double want[METRICS_BINS] = { 0 };
    metrics m = measured(four, 4, 4, line_of_4, METRICS_VALID);
    want[23] = 2;
    want[25] = 5;
    want[26] = 1;
    want[27] = 1;
    near_all(m.bin, want, METRICS_BINS);
    metrics_free(&m);
    m = measured((double[]){ 1e-8, 1e-6, 9e3, 2e4 }, 4, 1, (metrics_grid){ 0 },
                 METRICS_VALID);
    memset(want, 0, sizeof want);
    want[0] = want[1] = want[40] = want[41] = 1;
    near_all(m.bin, want, METRICS_BINS);
    metrics_free(&m);
}

/* Signed rows count by magnitude; what does not sum to 1 is told. */
static void signs_and_sums(void **state)
{
    (void)state;
    const double both[4] = { .75, -.25, 1, 1 };
    metrics m = measured(both, 2, 2, (metrics_grid){ 0 }, METRICS_VALID);
    near(m.entropy, (-.75 * log(.75) - .25 * log(.25) + log(2)) / 2);
    near(m.maxw, (.75 + .5) / 2);
    near(m.row_sum_min, .5);
    near(m.row_sum_max, 2);
    assert_true(m.negative && m.renormalised);
    metrics_free(&m);
    m = measured((double[]){ .5, .50005 }, 1, 2, (metrics_grid){ 0 }, METRICS_VALID);
    assert_false(m.renormalised);
    metrics_free(&m);
    m = measured((double[]){ .5, .5005 }, 1, 2, (metrics_grid){ 0 }, METRICS_VALID);
    assert_true(m.renormalised && !m.negative);
    metrics_free(&m);
}

/* [3 0; 4 5] has the singular values 3 sqrt 5 and sqrt 5.  A diagonal of 8 has its
 * own: two above 1e-3 of the largest, four above 8 2^-23, six above 8 2^-52. */
static void ranks(void **state)
{
    (void)state;
    static const double d[8] = { 2, 4e-3, 1e-3, 4e-6, 1e-6, 2e-13, 0, 0 };
    double a[64] = { 0 };
    metrics m = measured((double[]){ 3, 0, 4, 5 }, 2, 2, (metrics_grid){ 0 },
                         METRICS_VALID);
    near(m.sigma[0], 3 * sqrt(5));
    near(m.sigma[1], sqrt(5));
    near(m.erank, 4 / pow(3, 0.75));
    near(m.stable_rank, 50.0 / 45);
    near(m.rank_f64, 2);
    metrics_free(&m);
    for (int i = 0; i < 8; i++) a[9 * i] = d[i];
    m = measured(a, 8, 8, (metrics_grid){ 0 }, METRICS_VALID);
    near(m.rank_1e3, 2);
    near(m.rank_f32, 4);
    near(m.rank_f64, 6);
    assert_false(m.estimated);
    metrics_free(&m);
}

/* Means over inputs leave out what does not exist in one of them. */
static void means_of_inputs(void **state)
{
    (void)state;
    metrics one[2] = { measured(four, 4, 4, line_of_4, METRICS_VALID),
                       measured((double[16]){ 0 }, 4, 4, line_of_4, METRICS_VALID) };
    metrics m;
    assert_true(isnan(one[1].entropy));
    metrics_mean(one, 2, &m);
    near(m.entropy, 1.25 * log(2));
    near(m.zero_rows, 2.5);
    near(m.zero_matrices, .5);
    near(m.zeros, 11.5);
    near(m.bin[25], 2.5);
    near(m.relative[3], 1.75 / 8);
    near(m.sigma[0], one[0].sigma[0] / 2);
    metrics_free(&m);
    metrics_free(&one[0]);
    metrics_free(&one[1]);
}

/* As metrics.json has it: maps nested by axis, null where nothing is known. */
static void metrics_as_json(void **state)
{
    (void)state;
    const metrics_grid grid = { .axes = 2, .side = { 2, 3 } };
    double a[36] = { 0 };
    for (int i = 0; i < 6; i++) a[7 * i] = 1;
    a[5] = 1; /* the first query looks at the last key, too */
    metrics m = measured(a, 6, 6, grid, METRICS_VALID);
    json *j = metrics_json(&m);
    char *text = json_print(json_get(j, "relmap"), false);
    assert_string_equal(text, "[[0,0,0,0,0],[0,0,1,0,0],[0,0,0,0,1]]");
    free(text);
    near(json_number(json_get(j, "rows"), 0), 6);
    near(json_number(json_get(j, "entropy"), 0), log(2) / 6);
    near(json_number(json_get(j, "dist"), 0), sqrt(5) / 2 / 6);
    near(json_number(json_at(json_get(j, "entropy_norm_quartiles"), 4), 0),
         log(2) / log(6));
    const json *h = json_get(j, "histogram");
    near(json_number(json_get(h, "zeros"), 0), 29);
    assert_int_equal(json_size(json_get(h, "counts")), METRICS_BINS - 2);
    near(json_number(json_at(json_get(h, "counts"), 27), 0), 7); /* 10^.75 ... 10 */
    assert_true(json_true(json_get(j, "renormalised")));
    assert_int_equal(json_size(json_get(j, "spectrum")), 6);
    assert_null(json_get(j, "relmap_rows"));
    json_free(j);
    metrics_free(&m);
    m = measured(a, 1, 36, (metrics_grid){ 0 }, METRICS_VALID);
    j = metrics_json(&m);
    assert_true(json_is_null(json_get(j, "relmap")) && json_is_null(json_get(j, "dist")));
    json_free(j);
    metrics_free(&m);
}

/* A line of the table, and its head over it. */
static void metrics_in_a_table(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    metrics m = measured(four, 4, 4, line_of_4, METRICS_VALID);
    metrics_print_head(f, 8);
    metrics_print(f, 8, "four", &m);
    fclose(f);
    assert_string_equal(text,
                        "map       rank64  rank32  rank-3   erank  stable  H/lnM support  "
                        "  max  top5%    dist (unif)  mass1 (unif)\n"
                        "four           3       3       3    2.51    1.34  0.625     2.8  "
                        "0.583  0.583   0.62 ( 1.25) 0.833 (0.625)\n");
    free(text);
    metrics_free(&m);
}

/* ---- scales -------------------------------------------------------------------- */

static heatmap_scale scale_of(enum heatmap_view view, double clip, const double *a,
                              size_t n, size_t columns)
{
    heatmap_scale s;
    heatmap_scale_of(view, clip, &a, 1, n, columns, &s);
    return s;
}

static void scales(void **state)
{
    (void)state;
    static const double plain[4] = { 0, .25, .5, 1 }, tiny[4] = { 0, .01, .5, 1 };
    static const double signs[4] = { 0, -.25, .5, .125 };
    heatmap_scale s = scale_of(HEATMAP_LINEAR, 100, plain, 4, 4);
    assert_true(s.lo == 0 && s.hi == 1 && !s.diverging && s.largest == 1);
    assert_true(s.above == 0 && s.below == 0 && s.cells == 4);
    s = scale_of(HEATMAP_LINEAR, 100, signs, 4, 4);
    assert_true(s.lo == -.5 && s.hi == .5 && s.diverging);
    s = scale_of(HEATMAP_LOG, 100, plain, 4, 4);
    near(s.lo, log10(.25));
    near(s.hi, 0);
    near(s.below, 1); /* the zero */
    s = scale_of(HEATMAP_LOG, 100, tiny, 4, 4);
    near(s.lo, -2 * log10(4)); /* 1 / columns^2 */
    near(s.below, 2);
    near(heatmap_value(&s, -.01), -2);
    s = scale_of(HEATMAP_UNIFORM, 100, plain, 4, 4);
    near(s.hi, 2);
    near(s.lo, -2);
    near(heatmap_value(&s, .125), -1);
    assert_true(s.diverging);
    s = scale_of(HEATMAP_LOG, 100, (double[4]){ 0 }, 4, 4);
    near(s.hi, 0);
    near(s.lo, -1);
}

/* The scale ends at a percentile of what is not zero: of 1 ... 5 the third is at 50 %. */
static void clipped_scales(void **state)
{
    (void)state;
    static const double a[7] = { 0, 5, -3, 1, 4, 2, 0 };
    heatmap_scale s = scale_of(HEATMAP_LINEAR, 50, a, 7, 7);
    assert_true(s.hi == 3 && s.lo == -3 && s.above == 2 && s.below == 0);
    assert_true(s.largest == 5 && s.clip == 50);
    s = scale_of(HEATMAP_LINEAR, 70, a, 7, 7);
    assert_true(s.hi == 4 && s.above == 1);
    char text[200];
    heatmap_describe(&s, text, sizeof text);
    assert_string_equal(text, "A_ij from -4 to 4; of 7 cells 1 are beyond the upper and "
                              "0 beyond the lower end; largest |A_ij| 5");
}

/* Entry 255 t of the table, rounded; of signed ones 128 + 127 t. */
static void entries_of_the_table(void **state)
{
    (void)state;
    static const double plain[3] = { 0, .5, 1 }, signs[3] = { -1, 0, 1 };
    static const double decades[3] = { .01, .1, 1 };
    heatmap_scale s = scale_of(HEATMAP_LINEAR, 100, plain, 3, 3);
    assert_int_equal(heatmap_index(&s, 0), 0);
    assert_int_equal(heatmap_index(&s, .5), 128);
    assert_int_equal(heatmap_index(&s, .25), 64);
    assert_int_equal(heatmap_index(&s, 1), 255);
    assert_int_equal(heatmap_index(&s, 7), 255);
    s = scale_of(HEATMAP_LINEAR, 100, signs, 3, 3);
    assert_int_equal(heatmap_index(&s, 0), 128);
    assert_int_equal(heatmap_index(&s, 1), 255);
    assert_int_equal(heatmap_index(&s, -1), 1);
    assert_int_equal(heatmap_index(&s, .5), 192);
    s = scale_of(HEATMAP_LOG, 100, decades, 3, 10);
    assert_int_equal(heatmap_index(&s, .01), 0);
    assert_int_equal(heatmap_index(&s, .1), 128);
    assert_int_equal(heatmap_index(&s, 1), 255);
    s = scale_of(HEATMAP_UNIFORM, 100, decades, 3, 4);
    assert_int_equal(heatmap_index(&s, .25), 128); /* uniform: in the middle */
    assert_int_equal(heatmap_index(&s, .5), 128 + 64);
    assert_int_equal(heatmap_index(&s, .125), 128 - 64);
    assert_int_equal(heatmap_index(&s, 0), 1);
}

/* ---- pixels -------------------------------------------------------------------- */

static const char *in_folder(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static unsigned pixel(const picture *p, int y, int x)
{
    const float *s = p->sample + ((size_t)y * (size_t)p->width + (size_t)x) * 3;
    return (unsigned)lroundf(255 * s[0]) << 16 | (unsigned)lroundf(255 * s[1]) << 8 |
           (unsigned)lroundf(255 * s[2]);
}

static picture drawn(const double *a, size_t rows, size_t columns,
                     const heatmap_scale *s)
{
    picture p;
    error e;
    const char *path = in_folder("map.png");
    if (heatmap_write(path, a, rows, columns, s, NULL, 0, &e)) fail_msg("%s", e.text);
    if (png_read_picture(path, &p, &e)) fail_msg("%s", e.text);
    assert_int_equal(p.channels, 3);
    return p;
}

/* Viridis runs from #440154 over #21918c in the middle to #fde725. */
static void pixels_of_cells(void **state)
{
    (void)state;
    static const double a[6] = { 0, 1, .5, .25, 1, 0 };
    const heatmap_scale s = scale_of(HEATMAP_LINEAR, 100, a, 6, 3);
    picture p = drawn(a, 2, 3, &s);
    assert_int_equal(p.width, 3 * 86); /* 256 or more, in whole cells */
    assert_int_equal(p.height, 256);
    static const unsigned want[6] = { 0x440154, 0xfde725, 0x21918c,
                                      0x3b528b, 0xfde725, 0x440154 };
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++) {
            assert_int_equal(pixel(&p, 128 * i, 86 * j), want[3 * i + j]);
            assert_int_equal(pixel(&p, 128 * i + 127, 86 * j + 85), want[3 * i + j]);
        }
    picture_free(&p);
}

/* Zero is nearly white; equal magnitudes are equally dark, red above, blue below. */
static void pixels_of_signs(void **state)
{
    (void)state;
    static const double a[3] = { -1, 0, 1 };
    const heatmap_scale s = scale_of(HEATMAP_LINEAR, 100, a, 3, 3);
    picture p = drawn(a, 1, 3, &s);
    const unsigned less = pixel(&p, 5, 5), none = pixel(&p, 5, 90);
    const unsigned more = pixel(&p, 5, 250);
    assert_true((none & 255) > 240 && (none >> 8 & 255) > 240 && none >> 16 > 240);
    assert_true((less & 255) > (less >> 16) + 60);
    assert_true((more >> 16) > (more & 255) + 60);
    picture_free(&p);
}

/* 4097 columns: each pixel is the entry of two with the larger magnitude. */
static void pooled_cells(void **state)
{
    (void)state;
    double *a = calloc(4097, sizeof *a);
    assert_int_equal(heatmap_pool(4096, 7), 1);
    assert_int_equal(heatmap_pool(7, 4097), 2);
    assert_int_equal(heatmap_pool(8193, 1), 3);
    a[0] = a[3] = a[4096] = 1;
    a[3] = -1;
    a[2] = .5;
    const heatmap_scale s = scale_of(HEATMAP_LINEAR, 100, a, 4097, 4097);
    picture p = drawn(a, 1, 4097, &s);
    assert_int_equal(p.width, 2049);
    assert_int_equal(pixel(&p, 0, 0), pixel(&p, 0, 2048));
    assert_true(pixel(&p, 0, 0) >> 16 > (pixel(&p, 0, 0) & 255));
    assert_true(pixel(&p, 0, 1) >> 16 < (pixel(&p, 0, 1) & 255));
    assert_int_equal(pixel(&p, 0, 2), pixel(&p, 0, 1000));
    picture_free(&p);
    free(a);
}

/* Two cells of 224 pixels: white, black and weights -.5 and 1, query 1. */
static void weights_over_a_picture(void **state)
{
    (void)state;
    picture p = { .width = 2, .height = 1, .channels = 1,
                  .sample = (float[]){ 1, 0 } }, q;
    error e;
    const char *path = in_folder("over.png");
    if (heatmap_overlay(path, &p, (double[]){ -.5, 1 }, 1, 2, 1, NULL, 0, &e) ||
        png_read_picture(path, &q, &e))
        fail_msg("%s", e.text);
    assert_int_equal(q.width, 2 * 448 + 8);
    assert_int_equal(q.height, 224);
    assert_int_equal(pixel(&q, 112, 112), 0xffffff);
    assert_int_equal(pixel(&q, 112, 400), 0x000000);
    assert_int_equal(pixel(&q, 112, 452), 0xffffff); /* between the two */
    /* .35 of the light and .65 of magma: #b73779 at 1/2, #fcfdbf at 1 */
    assert_int_equal(pixel(&q, 112, 456 + 112),
                     (unsigned)lround(.35 * 255 + .65 * 0xb7) << 16 |
                         (unsigned)lround(.35 * 255 + .65 * 0x37) << 8 |
                         (unsigned)lround(.35 * 255 + .65 * 0x79));
    assert_int_equal(pixel(&q, 112, 456 + 336),
                     (unsigned)lround(.65 * 0xfc) << 16 |
                         (unsigned)lround(.65 * 0xfd) << 8 |
                         (unsigned)lround(.65 * 0xbf));
    /* the frame: white on the cell's border, black beside it */
    assert_int_equal(pixel(&q, 112, 456 + 223), 0x000000);
    assert_int_equal(pixel(&q, 112, 456 + 224), 0xffffff);
    assert_int_equal(pixel(&q, 112, 223), 0x000000);
    assert_int_equal(pixel(&q, 112, 224), 0xffffff);
    assert_int_equal(pixel(&q, 112, 226), 0x000000); /* the picture again */
    assert_int_equal(pixel(&q, 0, 300), 0xffffff);
    picture_free(&q);
    /* three cells fill 448 pixels in whole ones */
    if (heatmap_overlay(path, &p, (double[]){ -.5, 1, 0 }, 1, 3, -1, NULL, 0, &e) ||
        png_read_picture(path, &q, &e))
        fail_msg("%s", e.text);
    assert_int_equal(q.width, 2 * 450 + 8);
    assert_int_equal(q.height, 150);
    picture_free(&q);
}

/* ---- figures ------------------------------------------------------------------- */

static char *text_of(const char *name)
{
    char *text;
    size_t size;
    error e;
    if (file_read(in_folder(name), 1 << 20, &text, &size, &e)) fail_msg("%s", e.text);
    return text;
}

static void expect_text(const char *name, const char *want)
{
    char *text = text_of(name);
    assert_string_equal(text, want);
    free(text);
}

static void expect_in(const char *name, const char *part)
{
    char *text = text_of(name);
    if (!strstr(text, part)) fail_msg("%s is without '%s'", name, part);
    free(text);
}

/* The script colours by the same value as the picture, and reads row 1 of the file
 * behind its header of 128 bytes; spectra are relative to the largest. */
static void figure_of_a_map(void **state)
{
    (void)state;
    static const char *const shown[3] = {
        "shown(x) = x\n", "shown(x) = atleast(log10(abs(x) + 1e-300))\n",
        "shown(x) = atleast(log(abs(x) * 4 + 1e-300) / log(2))\n"
    };
    static const char *const range[3] = { "set cbrange [0:1]", "[-0.903089987:0]",
                                          "set cbrange [-2:2]" };
    metrics m = measured(four, 4, 4, line_of_4, METRICS_VALID);
    for (int view = HEATMAP_LINEAR; view <= HEATMAP_UNIFORM; view++) {
        const heatmap_scale s = scale_of((enum heatmap_view)view, 100, four, 16, 4);
        const mapfigure_panel panel = { "a.npy", "softmax", &m };
        const mapfigure f = { .dir = folder, .name = "f", .comment = "c", .panel = &panel,
                              .panels = 1, .scale = &s, .query = 1, .rows = 1,
                              .columns = 4, .on_grid = true, .picture = "p.png",
                              .patch = 8 };
        error e;
        if (mapfigure_draw(&f, 0, &e)) fail_msg("%s", e.text);
        expect_in("f.gp", shown[view]);
        expect_in("f.gp", range[view]);
    }
    expect_in("f.gp", "plot 'a.npy' binary skip=128 format='%double' array=(4,4) "
                      "using (shown($1)) with image");
    expect_in("f.gp", "binary skip=160 record=(4) format='%double'");
    expect_in("f.gp", "rank 3, H/ln M 0.6");
    expect_in("f.gp", "0.001 with lines");
    expect_in("f.gp", "4.76837158e-07 with lines"); /* 4 2^-23 */
    expect_in("f.gp", "8.8817842e-16 with lines");  /* 4 2^-52 */
    char want[200];
    snprintf(want, sizeof want, "# k\tsoftmax\n1\t1\n2\t%.9g\n3\t%.9g\n",
             m.sigma[1] / m.sigma[0], m.sigma[2] / m.sigma[0]);
    char *spectra = text_of("f-spectra.tsv");
    assert_memory_equal(spectra, want, strlen(want));
    free(spectra);
    metrics_free(&m);
}

static void boxes_and_layers(void **state)
{
    (void)state;
    const mapfigure_box box[3] = { { "one", { .1, .2, .3, .4, .5 } },
                                   { "none", { NAN, NAN, NAN, NAN, NAN } },
                                   { "two", { 0, .25, .5, .75, 1 } } };
    const double value[6] = { 1, 3, NAN, 5, NAN, NAN };
    error e;
    if (mapfigure_boxes_draw(folder, "boxes", "c", "H", box, 3, 0, &e) ||
        mapfigure_layers_draw(folder, "layers", "c", "dist", value, 3, 2, 2.5, 0, &e))
        fail_msg("%s", e.text);
    expect_text("boxes.tsv", "# place\tleast\tlower\tmedian\tupper\tgreatest\tname\n"
                         "0\t0.1\t0.2\t0.3\t0.4\t0.5\tone\n"
                         "2\t0\t0.25\t0.5\t0.75\t1\ttwo\n");
    expect_in("boxes.gp", "using 1:3:2:6:5 with candlesticks");
    expect_in("boxes.gp", "'' using 1:4:4:4:4 with candlesticks");
    expect_text("layers.tsv", "# layer\tmean\theads\n0\t2\t1\t3\n1\t5\tnan\t5\n"
                         "2\tnan\tnan\tnan\n");
    expect_in("layers.gp", "using 1:2 with linespoints");
    expect_in("layers.gp", ", 2.5 with lines");
    expect_in("layers.gp", "'' using 1:4 with points");
}

/* What a person has looked at once: a figure on a grid, its contact sheet. */
static void figures_as_before(void **state)
{
    (void)state;
    const metrics_grid grid = { .axes = 2, .side = { 2, 2 } };
    metrics m = measured(four, 4, 4, grid, METRICS_VALID);
    const double *both[2] = { four, four };
    heatmap_scale s;
    error e;
    heatmap_scale_of(HEATMAP_UNIFORM, 60, both, 2, 16, 4, &s);
    const mapfigure_panel panel[2] = { { "a.npy", "softmax", &m }, { "b.npy", "it's", &m } };
    const mapfigure f = { .dir = folder, .name = "map", .comment = "c", .panel = panel,
                          .panels = 2, .scale = &s, .query = 2, .rows = 2, .columns = 2,
                          .on_grid = true, .picture = "p.png", .patch = 8 };
    mapfigure_tile tile[3] = { { "a.npy", "one", 4, 4, 0, 0 }, { "b.npy", "two", 1, 4, 9, 8 },
                               { "c.npy", "three", 4, 1, 0, 0 } };
    const mapfigure_sheet sheet = { .dir = folder, .name = "sheet", .comment = "c",
                                    .tile = tile, .tiles = 3, .across = 2, .scale = &s };
    if (mapfigure_draw(&f, 0, &e) || mapfigure_sheet_draw(&sheet, 0, &e))
        fail_msg("%s", e.text);
    test_drawn(folder, "map");
    test_drawn(folder, "sheet");
    test_drawn(folder, "boxes"); /* of boxes_and_layers */
    test_drawn(folder, "layers");
    metrics_free(&m);
}

/* ---- pictures ------------------------------------------------------------------ */

/* Pixels count by the area of theirs that is covered. */
static void areas(void **state)
{
    (void)state;
    picture p = { .width = 3, .height = 2, .channels = 1,
                  .sample = (float[]){ 0, .5f, 1, 1, .5f, .25f } }, q;
    error e;
    if (picture_resize(&p, &(picture_part){ 0, 0, 3, 2 }, 2, 1, &q, &e))
        fail_msg("%s", e.text);
    near(q.sample[0], (0 + .5 * .5 + 1 + .5 * .5) / 3);
    near(q.sample[1], (float)((.5 * .5 + 1 + .5 * .5 + .25) / 3));
    picture_free(&q);
    if (picture_resize(&p, &(picture_part){ 1, 1, 2, 1 }, 1, 1, &q, &e))
        fail_msg("%s", e.text);
    near(q.sample[0], .375);
    picture_free(&q);
    near(picture_grey((float[]){ 1, 0, 0 }, 3), 0.2126);
    near(picture_grey((float[]){ 0, 1, 0 }, 3), 0.7152);
    near(picture_grey((float[]){ 0, 0, 1 }, 3), 0.0722);
    near(picture_grey((float[]){ .5f }, 1), .5);
}

/* A checkerboard has mean 0 and deviation 1: values -1 and 1, divided by sqrt 1.1. */
static void patches(void **state)
{
    (void)state;
    float s[16];
    for (int i = 0; i < 16; i++) s[i] = (i + i / 4) % 2 ? .75f : .25f;
    picture p = { .width = 4, .height = 4, .channels = 1, .sample = s };
    tokens t;
    error e;
    if (tokens_make(&p, &(picture_grid){ 2, 2, 2 }, 2, &t, &e)) fail_msg("%s", e.text);
    assert_int_equal(t.count, 8);
    assert_int_equal(t.features, 4);
    const double one = 1 / sqrt(1.1);
    for (int k = 0; k < 8; k++)
        near_all(t.value + 4 * k, (double[]){ -one, one, one, -one }, 4);
    tokens_free(&t);
    /* one bright pixel at the upper left, of 16: mean 1/16, deviation sqrt(15)/16 */
    for (int i = 0; i < 16; i++) s[i] = i == 0;
    if (tokens_make(&p, &(picture_grid){ 2, 2, 2 }, 2, &t, &e)) fail_msg("%s", e.text);
    const double high = 15 / sqrt(15), low = -1 / sqrt(15);
    const double norm = sqrt((high * high + 3 * low * low) / 4 + .1);
    near_all(t.value, (double[]){ high / norm, low / norm, low / norm, low / norm }, 4);
    const double flat = low / sqrt(low * low + .1);
    near_all(t.value + 4, (double[]){ flat, flat, flat, flat }, 4);
    /* the second frame has moved left by a cell: the bright one is in column 1 */
    near(t.value[16], flat);
    near(t.value[20], high / norm);
    tokens_free(&t);
}

/* Keys are like queries, values like neither: over 512 channels of a token the
 * correlations are .9, 0 and 0, and the variance is the mean square of its patch. */
static void projections(void **state)
{
    (void)state;
    const att_mechanism *m = att_find_mechanism("softmax");
    att_problem p = att_problem_default;
    check_values v;
    picture scene;
    tokens t;
    error e;
    p.grid = (att_list){ 2, { 4, 4 } };
    p.heads = 8;
    p.head_dim = 64;
    if (picture_scene(32, 32, 1, &scene, &e) || matrix_open(&v, m, &p, &e) ||
        tokens_make(&scene, &(picture_grid){ 1, 4, 4 }, 8, &t, &e))
        fail_msg("%s", e.text);
    tokens_project(&t, 5, &v);
    for (int token = 0; token < 16; token += 5) {
        double sum[3][3] = { { 0 } }, size = 0;
        const double *const in[3] = { v.in[ATT_Q], v.in[ATT_K], v.in[ATT_V] };
        for (size_t f = 0; f < t.features; f++) {
            const double x = t.value[(size_t)token * t.features + f];
            size += x * x / (double)t.features;
        }
        for (int h = 0; h < 8; h++)
            for (int c = 0; c < 64; c++)
                for (int i = 0; i < 3; i++)
                    for (int k = 0; k < 3; k++)
                        sum[i][k] += in[i][(h * 16 + token) * 64 + c] *
                                     in[k][(h * 16 + token) * 64 + c] / 512;
        for (int i = 0; i < 3; i++)
            if (fabs(sum[i][i] / size - 1) > .25)
                fail_msg("variance %g of input %d, not %g", sum[i][i], i, size);
        assert_true(fabs(sum[0][1] / sqrt(sum[0][0] * sum[1][1]) - .9) < .03);
        assert_true(fabs(sum[0][2] / sqrt(sum[0][0] * sum[2][2])) < .15);
        assert_true(fabs(sum[1][2] / sqrt(sum[1][1] * sum[2][2])) < .15);
    }
    tokens_free(&t);
    picture_free(&scene);
    check_values_free(&v);
}

/* The built-in picture is the same everywhere. */
static void scene_as_before(void **state)
{
    (void)state;
    static const float want[6][3] = {
        { .2592f, .4434f, .3188f }, { .4943f, .5670f, .6725f }, { .5677f, .6237f, .6956f },
        { .4567f, .4329f, .1577f }, { .4671f, .5783f, .2224f }, { .4459f, .5297f, .6573f },
    };
    picture p;
    error e;
    if (picture_scene(30, 20, 7, &p, &e)) fail_msg("%s", e.text);
    assert_true(p.width == 30 && p.height == 20 && p.channels == 3);
    for (int i = 0; i < 6; i++)
        for (int c = 0; c < 3; c++) {
            const float x = p.sample[(i * 113 % 600) * 3 + c];
            if (fabsf(x - want[i][c]) > 2e-3f)
                fail_msg("pixel %d is %g, not %g", i * 113 % 600, x, want[i][c]);
        }
    picture_free(&p);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entropy_and_support),
        cmocka_unit_test(largest_weights),
        cmocka_unit_test(distance_and_mass),
        cmocka_unit_test(tokens_before_the_grid),
        cmocka_unit_test(histogram_of_weights),
        cmocka_unit_test(signs_and_sums),
        cmocka_unit_test(ranks),
        cmocka_unit_test(means_of_inputs),
        cmocka_unit_test(metrics_as_json),
        cmocka_unit_test(metrics_in_a_table),
        cmocka_unit_test(scales),
        cmocka_unit_test(clipped_scales),
        cmocka_unit_test(entries_of_the_table),
        cmocka_unit_test(pixels_of_cells),
        cmocka_unit_test(pixels_of_signs),
        cmocka_unit_test(pooled_cells),
        cmocka_unit_test(weights_over_a_picture),
        cmocka_unit_test(figure_of_a_map),
        cmocka_unit_test(boxes_and_layers),
        cmocka_unit_test(figures_as_before),
        cmocka_unit_test(areas),
        cmocka_unit_test(patches),
        cmocka_unit_test(projections),
        cmocka_unit_test(scene_as_before),
    };
    if (!test_folder(folder, sizeof folder, "maps")) return 1;
    test_arguments(argc, argv);
    const int rc = cmocka_run_group_tests_name("maps", tests, NULL, NULL);
    test_folder_remove(folder);
    return rc;
}
