/* dwc_fused.h - the depthwise convolution branch in registers, for runs of
 * tokens; dwc.h has the definition.
 *
 * Lanes are channels.  STRIP neighbouring outputs of a row are summed at once:
 * a tap is loaded once for all of them, an input once for all outputs and taps
 * that it meets, 17 loads for 40 FMAs at k = 5, so the FMA units are the bound.
 * Sides 3, 5 and 7 are unrolled; other sides, and outputs whose filter crosses
 * the left or right border, go one by one.  Filters are turned to [k][k][d].
 */
#ifndef LINEAR_DWC_FUSED_H
#define LINEAR_DWC_FUSED_H

#include "dwc.h"
#include "fused.h"

#include <stdlib.h>

#define DWC static inline __attribute__((unused))

enum { DWC_STRIP = 8, DWC_WIDE = 7, DWC_TAPS_MOST = 5 };

/* A depthwise cross-correlation M with zero padding: output (y, x) meets input
 * (y + a - floor(high / 2), x + b - floor(wide / 2)) through tap (a, b). */
typedef struct dwc_branch {
    int height, width;    /* of the map                                     */
    int high, wide;       /* of the filters                                 */
    size_t n, m, d;       /* tokens, keys, channels                         */
    const float *filters; /* [high][wide][d]                                */
    bool flipped;         /* M' instead of M                                */
} dwc_branch;

/* Taps above and left of the output's place. */
DWC int dwc_above(const dwc_branch *w)
{
    return w->flipped ? (w->high - 1) / 2 : w->high / 2;
}

DWC int dwc_left(const dwc_branch *w)
{
    return w->flipped ? (w->wide - 1) / 2 : w->wide / 2;
}

DWC dwc_branch dwc_describe(const att_problem *p, const float *filters)
{
    return (dwc_branch){
        .height = att_height(p), .width = att_width(p), .high = dwc_side(p),
        .wide = dwc_side(p), .n = att_tokens(p), .m = dwc_keys(p),
        .d = (size_t)p->head_dim, .filters = filters,
    };
}

DWC size_t dwc_filter_floats(const att_problem *p)
{
    const size_t k = (size_t)dwc_side(p);
    return k * k * (size_t)p->head_dim;
}

/* [d][k][k] -> [k][k][d]. */
DWC void dwc_turn(const att_problem *p, const float *w, float *turned)
{
    const size_t d = (size_t)p->head_dim, taps = dwc_filter_floats(p) / d;
    for (size_t c = 0; c < d; c++)
        for (size_t t = 0; t < taps; t++) turned[t * d + c] = w[c * taps + t];
}

SIMD_INLINE vf dwc_load(const float *x, const bool masked, size_t lanes)
{
    return masked ? v_load_n(x, lanes) : v_load(x);
}

SIMD_INLINE void dwc_store(float *x, vf y, const bool masked, size_t lanes)
{
    if (masked) v_store_n(x, y, lanes);
    else v_store(x, y);
}

/* What a run of outputs of one row reads: filter rows that are on the map, from
 * the first tap of the first of them on, and the token that it meets. */
typedef struct dwc_line {
    const float *in, *taps;
    const float *start;            /* [d] of every output; NULL: 0           */
    int rows;
    size_t pitch;                  /* floats between rows of the map         */
    ptrdiff_t tap_pitch, tap_step; /* between rows and taps of the filter    */
} dwc_line;

/* Outputs of row y, as if the first of them were at column `left`. */
DWC dwc_line dwc_line_of(const dwc_branch *w, const float *in,
                         const float *start, int y)
{
    const int above = dwc_above(w), first = above > y ? above - y : 0;
    const int below = w->height - y + above;
    const int last = w->high < below ? w->high : below;
    const ptrdiff_t d = (ptrdiff_t)w->d, way = w->flipped ? -1 : 1;
    const ptrdiff_t origin = w->flipped ? (ptrdiff_t)w->high * w->wide - 1 : 0;
    return (dwc_line){
        .in = in + (ptrdiff_t)(y + first - above) * w->width * d,
        .start = start,
        .taps = w->filters + (origin + way * first * w->wide) * d,
        .rows = last - first, .pitch = (size_t)w->width * w->d,
        .tap_pitch = way * w->wide * d, .tap_step = way * d,
    };
}

SIMD_INLINE vf dwc_start(const dwc_line *l, const bool masked, size_t lanes,
                         size_t c)
{
    return l->start ? dwc_load(l->start + c, masked, lanes) : v_zero();
}

/* `strip` neighbouring outputs o, [strip][d], from the line moved to their
 * first tap: one vector of channels.  Every input is loaded once for all
 * outputs that it meets, every tap once for all outputs. */
SIMD_INLINE void dwc_strip(const dwc_line *l, const int strip, const int wide,
                           const bool masked, size_t lanes, size_t d, size_t c,
                           float *o)
{
    const float *in = l->in + c, *taps = l->taps + c;
    vf sum[DWC_STRIP], tap[DWC_WIDE];
    const vf start = dwc_start(l, masked, lanes, c);
    UNROLL for (int i = 0; i < strip; i++) sum[i] = start;
    for (int a = 0; a < l->rows; a++, in += l->pitch, taps += l->tap_pitch) {
        UNROLL for (int b = 0; b < wide; b++)
            tap[b] = dwc_load(taps + b * l->tap_step, masked, lanes);
        UNROLL for (int j = 0; j < strip + wide - 1; j++) {
            const vf x = dwc_load(in + (size_t)j * d, masked, lanes);
            UNROLL for (int b = 0; b < wide; b++)
                if (j >= b && j - b < strip)
                    sum[j - b] = v_fma(tap[b], x, sum[j - b]);
        }
    }
    UNROLL for (int i = 0; i < strip; i++)
        dwc_store(o + (size_t)i * d + c, sum[i], masked, lanes);
}

/* One output and any number of taps. */
SIMD_INLINE void dwc_single(const dwc_line *l, int wide, const bool masked,
                            size_t lanes, size_t d, size_t c, float *o)
{
    const float *in = l->in + c, *taps = l->taps + c;
    vf sum = dwc_start(l, masked, lanes, c), other = v_zero();
    for (int a = 0; a < l->rows; a++, in += l->pitch, taps += l->tap_pitch)
        for (int b = 0; b < wide; b++) {
            const vf x = dwc_load(in + (size_t)b * d, masked, lanes);
            const vf y = dwc_load(taps + b * l->tap_step, masked, lanes);
            if (b % 2) other = v_fma(y, x, other);
            else sum = v_fma(y, x, sum);
        }
    dwc_store(o + c, sum + other, masked, lanes);
}

/* All channels of `count` outputs, `strip` at a time. */
#define DWC_OUTPUTS(name, call)                                                \
    static __attribute__((noinline, unused)) void name(                        \
        dwc_line l, int wide, size_t d, size_t count, size_t step, float *o)   \
    {                                                                          \
        const size_t whole = d / VL * VL, last = d - whole;                    \
        (void)wide;                                                            \
        for (size_t i = 0; i < count; i += step) {                             \
            for (size_t c = 0; c < whole; c += VL) call(false, VL, d, c, o);   \
            if (last) call(true, last, d, whole, o);                           \
            l.in += step * d;                                                  \
            o += step * d;                                                     \
        }                                                                      \
    }
#define DWC_8_3(...) dwc_strip(&l, 8, 3, __VA_ARGS__)
#define DWC_8_5(...) dwc_strip(&l, 8, 5, __VA_ARGS__)
#define DWC_8_7(...) dwc_strip(&l, 8, 7, __VA_ARGS__)
#define DWC_2_3(...) dwc_strip(&l, 2, 3, __VA_ARGS__)
#define DWC_2_5(...) dwc_strip(&l, 2, 5, __VA_ARGS__)
#define DWC_2_7(...) dwc_strip(&l, 2, 7, __VA_ARGS__)
#define DWC_1(...)   dwc_single(&l, wide, __VA_ARGS__)
DWC_OUTPUTS(dwc_8_3, DWC_8_3)
DWC_OUTPUTS(dwc_8_5, DWC_8_5)
DWC_OUTPUTS(dwc_8_7, DWC_8_7)
DWC_OUTPUTS(dwc_2_3, DWC_2_3)
DWC_OUTPUTS(dwc_2_5, DWC_2_5)
DWC_OUTPUTS(dwc_2_7, DWC_2_7)
DWC_OUTPUTS(dwc_1, DWC_1)
#undef DWC_8_3
#undef DWC_8_5
#undef DWC_8_7
#undef DWC_2_3
#undef DWC_2_5
#undef DWC_2_7
#undef DWC_1
#undef DWC_OUTPUTS

/* Outputs whose filters stay within the row. */
DWC void dwc_inner(dwc_line l, int wide, size_t d, size_t count, float *o)
{
    const bool known = wide == 3 || wide == 5 || wide == 7;
    const size_t eights = known ? count / 8 * 8 : 0;
    const size_t twos = known ? count / 2 * 2 : 0;
    (wide == 3   ? dwc_8_3
     : wide == 5 ? dwc_8_5
                 : dwc_8_7)(l, wide, d, eights, 8, o);
    l.in += eights * d;
    o += eights * d;
    (wide == 3   ? dwc_2_3
     : wide == 5 ? dwc_2_5
                 : dwc_2_7)(l, wide, d, twos - eights, 2, o);
    l.in += (twos - eights) * d;
    o += (twos - eights) * d;
    dwc_1(l, wide, d, count - twos, 1, o);
}

/* o = start + M in for outputs [x0, x1) of row y; o at the first of them. */
DWC void dwc_row(const dwc_branch *w, const float *in, const float *start,
                 int y, int x0, int x1, float *o)
{
    const int left = dwc_left(w), border = w->width - (w->wide - 1 - left);
    const dwc_line line = dwc_line_of(w, in, start, y);
    for (int x = x0; x < x1;) {
        dwc_line l = line;
        int b0 = x < left ? left - x : 0, b1 = w->wide, count = 1;
        if (x >= border) b1 = w->width - x + left;
        if (b1 > w->wide) b1 = w->wide;
        if (b0 == 0 && b1 == w->wide)
            count = (x1 < border ? x1 : border) - x;
        l.in += (ptrdiff_t)(x - left + b0) * (ptrdiff_t)w->d;
        l.taps += b0 * l.tap_step;
        if (b1 - b0 == w->wide) dwc_inner(l, w->wide, w->d, (size_t)count, o);
        else dwc_1(l, b1 - b0, w->d, 1, 1, o);
        x += count;
        o += (size_t)count * w->d;
    }
}

/* Rows of tokens [at, at + rows): o = start + M in; start [d] may be NULL. */
DWC void dwc_tokens(const dwc_branch *w, const float *in, size_t at,
                    size_t rows, const float *start, float *o)
{
    const size_t width = (size_t)w->width;
    for (size_t i = at; i < at + rows;) {
        const size_t x = i % width;
        const size_t run =
            width - x < at + rows - i ? width - x : at + rows - i;
        dwc_row(w, in, start, (int)(i / width), (int)x, (int)(x + run),
                o + (i - at) * w->d);
        i += run;
    }
}

/* y += a * x, elementwise. */
SIMD_INLINE void dwc_multiply_add(const float *a, const float *x, size_t n,
                                  float *y)
{
    const size_t whole = n / VL * VL, last = n - whole;
    for (size_t c = 0; c < whole; c += VL)
        v_store(y + c, v_fma(v_load(a + c), v_load(x + c), v_load(y + c)));
    if (last)
        v_store_n(y + whole,
                  v_fma(v_load_n(a + whole, last), v_load_n(x + whole, last),
                        v_load_n(y + whole, last)),
                  last);
}

/* ---- gradient of the filters --------------------------------------------- */

/* sum[a][b] += sum over outputs [x0, x1) of row y of g and the input that tap
 * (a0 + a, b0 + b) meets, one vector of channels; all taps within the map. */
SIMD_INLINE void dwc_filter_tile(const dwc_branch *w, const int high,
                                 const int wide, const bool masked,
                                 size_t lanes, const float *in, const float *g,
                                 int y, int x0, int x1, int a0, int b0,
                                 size_t c, float *sums)
{
    const size_t d = w->d, row = (size_t)w->width * d;
    vf sum[2][DWC_TAPS_MOST];
    UNROLL for (int a = 0; a < high; a++)
        UNROLL for (int b = 0; b < wide; b++) sum[a][b] = v_zero();
    const float *p = in + ((size_t)(y + a0 - w->high / 2) * (size_t)w->width +
                           (size_t)(x0 + b0 - w->wide / 2)) * d + c;
    const float *q = g + ((size_t)y * (size_t)w->width + (size_t)x0) * d + c;
    for (int x = x0; x < x1; x++, p += d, q += d) {
        const vf z = dwc_load(q, masked, lanes);
        UNROLL for (int a = 0; a < high; a++)
            UNROLL for (int b = 0; b < wide; b++)
                sum[a][b] = v_fma(z,
                                  dwc_load(p + (size_t)a * row + (size_t)b * d,
                                           masked, lanes),
                                  sum[a][b]);
    }
    UNROLL for (int a = 0; a < high; a++)
        UNROLL for (int b = 0; b < wide; b++) {
            float *to = sums + (size_t)((a0 + a) * w->wide + b0 + b) * d + c;
            const vf s = dwc_load(to, masked, lanes) + sum[a][b];
            if (masked) v_store_n(to, s, lanes);
            else v_store(to, s);
        }
}

#define DWC_FILTER_FUNCTION(name, high, wide)                                  \
    static __attribute__((noinline, unused)) void name(                        \
        const dwc_branch *w, const float *in, const float *g, int y, int x0,   \
        int x1, int a0, int b0, float *sums)                                   \
    {                                                                          \
        const size_t whole = w->d / VL * VL, last = w->d - whole;              \
        for (size_t c = 0; c < whole; c += VL)                                 \
            dwc_filter_tile(w, high, wide, false, VL, in, g, y, x0, x1, a0,    \
                            b0, c, sums);                                      \
        if (last)                                                              \
            dwc_filter_tile(w, high, wide, true, last, in, g, y, x0, x1, a0,   \
                            b0, whole, sums);                                  \
    }
DWC_FILTER_FUNCTION(dwc_filter_2_5, 2, 5)
DWC_FILTER_FUNCTION(dwc_filter_1_5, 1, 5)
DWC_FILTER_FUNCTION(dwc_filter_2_3, 2, 3)
DWC_FILTER_FUNCTION(dwc_filter_1_3, 1, 3)
DWC_FILTER_FUNCTION(dwc_filter_2_1, 2, 1)
DWC_FILTER_FUNCTION(dwc_filter_1_1, 1, 1)
#undef DWC_FILTER_FUNCTION

/* Taps of one or two rows a of the filter, outputs [x0, x1) of row y, whose
 * taps are all within the map. */
DWC void dwc_filter_rows(const dwc_branch *w, const float *in, const float *g,
                         int y, int x0, int x1, int a, bool two, float *sums)
{
    int b = 0;
    for (; b + 5 <= w->wide; b += 5)
        (two ? dwc_filter_2_5 : dwc_filter_1_5)(w, in, g, y, x0, x1, a, b,
                                                sums);
    for (; b + 3 <= w->wide; b += 3)
        (two ? dwc_filter_2_3 : dwc_filter_1_3)(w, in, g, y, x0, x1, a, b,
                                                sums);
    for (; b < w->wide; b++)
        (two ? dwc_filter_2_1 : dwc_filter_1_1)(w, in, g, y, x0, x1, a, b,
                                                sums);
}

/* The same where taps cross a border: column x alone. */
DWC void dwc_filter_border(const dwc_branch *w, const float *in, const float *g,
                           int y, int x, float *sums)
{
    const float *q = g + ((size_t)y * (size_t)w->width + (size_t)x) * w->d;
    for (int a = 0; a < w->high; a++)
        for (int b = 0; b < w->wide; b++) {
            const int row = y + a - w->high / 2, column = x + b - w->wide / 2;
            if (row < 0 || row >= w->height || column < 0 || column >= w->width)
                continue;
            const size_t j = (size_t)row * (size_t)w->width + (size_t)column;
            dwc_multiply_add(q, in + j * w->d, w->d,
                             sums + (size_t)(a * w->wide + b) * w->d);
        }
}

/* sums [high][wide][d] += contributions of outputs [begin, end) of row y. */
DWC void dwc_filter_gradient(const dwc_branch *w, const float *in,
                             const float *g, int y, int begin, int end,
                             float *sums)
{
    const int above = w->high / 2, left = w->wide / 2;
    const int below = w->height - y + above; /* filter rows on the map       */
    const int last = w->high < below ? w->high : below;
    const int border = w->width - (w->wide - 1 - left);
    int x0 = begin > left ? begin : left, a = above > y ? above - y : 0;
    int x1 = end < border ? end : border;
    if (x0 >= x1) x0 = x1 = end;
    for (int x = begin; x < x0; x++) dwc_filter_border(w, in, g, y, x, sums);
    for (int x = x1; x < end; x++) dwc_filter_border(w, in, g, y, x, sums);
    if (x0 == x1) return;
    for (; a + 2 <= last; a += 2)
        dwc_filter_rows(w, in, g, y, x0, x1, a, true, sums);
    if (a < last) dwc_filter_rows(w, in, g, y, x0, x1, a, false, sums);
}

/* ---- v on N tokens, where there are fewer keys --------------------------- */

/* out [n][d] from v [m][d] of a map, of any dtype. */
DWC void dwc_resize_map(const dwc_branch *w, int dtype, const void *v,
                        size_t map, float *out)
{
    enum { STEP = 64 };
    float x[STEP], y[STEP];
    const size_t first = map * w->m * w->d;
    for (size_t i = 0; i < w->n; i++) {
        const dwc_source s = dwc_resize(i, w->n, w->m);
        for (size_t c0 = 0; c0 < w->d; c0 += STEP) {
            const size_t count = w->d - c0 < STEP ? w->d - c0 : STEP;
            store_fetch(dtype, v, first + s.a * w->d + c0, count, x);
            store_fetch(dtype, v, first + s.b * w->d + c0, count, y);
            for (size_t c = 0; c < count; c++)
                out[i * w->d + c0 + c] =
                    (float)(1 - s.w) * x[c] + (float)s.w * y[c];
        }
    }
}

/* dv [m][d] += its transpose times g [n][d]. */
DWC void dwc_resize_back(const dwc_branch *w, const float *g, float *dv)
{
    for (size_t i = 0; i < w->n; i++) {
        const dwc_source s = dwc_resize(i, w->n, w->m);
        for (size_t c = 0; c < w->d; c++) {
            dv[s.a * w->d + c] += (float)(1 - s.w) * g[i * w->d + c];
            dv[s.b * w->d + c] += (float)s.w * g[i * w->d + c];
        }
    }
}

/* ---- the branch in a fused kernel ---------------------------------------- */

/* What sla and focused_linear give as struct fused's own data, at its start. */
typedef struct dwc_call {
    dwc_branch w;
    const float *bias;
    float *v;        /* on N tokens, as float [maps][n][d]; NULL: v itself  */
    float *sums;     /* of dW and db [threads][pitch]                       */
    size_t pitch;
} dwc_call;

enum { DWC_RUN = 256 }; /* columns of a map that are one task                */

DWC size_t dwc_sums(const att_problem *p)
{
    return fused_pitch(dwc_filter_floats(p) + (size_t)p->head_dim + 16);
}

/* Halves are converted once, since every tap reads them again. */
DWC bool dwc_copies(const fused *u)
{
    return u->n != u->m || u->dtype != ATT_F32;
}

DWC const char *dwc_any_dtype(const att_problem *p, enum att_pass pass)
{
    (void)p;
    (void)pass;
    return NULL;
}

/* Work that the branch needs. */
DWC void dwc_reserve(const att_problem *p, fused *u)
{
    const size_t copy = dwc_copies(u) ? u->maps * u->n * u->e : 0;
    u->extra_floats[0] = copy;
    u->extra_floats[1] = copy + (size_t)u->threads * dwc_sums(p);
}

DWC const float *dwc_input(const fused *u, const dwc_call *b, size_t map)
{
    return (b->v ? b->v : (const float *)u->c->v) + map * u->n * u->e;
}

/* Hooks. */
DWC void dwc_branch_forward(const fused *u, size_t map, size_t at, size_t rows,
                            float *o)
{
    const dwc_call *b = u->own;
    dwc_tokens(&b->w, dwc_input(u, b, map), at, rows, b->bias, o);
}

DWC void dwc_branch_back(const fused *u, size_t map, size_t at, size_t rows,
                         float *dv)
{
    const dwc_call *b = u->own;
    dwc_branch back = b->w;
    back.flipped = true;
    dwc_tokens(&back, u->g->dout + map * u->n * u->e, at, rows, NULL, dv);
}

/* After fused_attach(); resizes and converts v if it has to be. */
DWC dwc_call dwc_begin(fused *u, const float *bias)
{
    const att_problem *p = u->c->p;
    const bool copies = dwc_copies(u);
    const size_t floats = copies ? u->maps * u->n * u->e : 0;
    const dwc_call b = {
        .w = dwc_describe(p, u->c->state), .bias = bias,
        .v = copies ? u->extra : NULL, .sums = u->extra + floats,
        .pitch = dwc_sums(p),
    };
    u->branch = dwc_branch_forward;
    u->branch_back = u->n == u->m ? dwc_branch_back : NULL;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t map = 0; map < (copies ? u->maps : 0); map++)
        dwc_resize_map(&b.w, u->dtype, u->c->v, map, b.v + map * u->n * u->e);
    return b;
}

/* One run of columns of a row of a map: sums of dW, then of db. */
DWC void dwc_gradient_task(const fused *u, const dwc_call *b, size_t task,
                           float *sums)
{
    const size_t width = (size_t)b->w.width, d = u->e;
    const size_t runs = (width + DWC_RUN - 1) / DWC_RUN;
    const size_t row = task / runs, begin = task % runs * DWC_RUN;
    const size_t end = width - begin < DWC_RUN ? width : begin + DWC_RUN;
    const size_t map = row / (size_t)b->w.height, y = row % (size_t)b->w.height;
    const float *g = u->g->dout + map * u->n * d;
    float *db = sums + dwc_filter_floats(u->c->p);
    dwc_filter_gradient(&b->w, dwc_input(u, b, map), g, (int)y, (int)begin,
                        (int)end, sums);
    for (size_t c = 0; c < d; c += VL) {
        const size_t lanes = d - c < VL ? d - c : VL;
        vf sum = v_zero();
        for (size_t x = begin; x < end; x++)
            sum += v_load_n(g + (y * width + x) * d + c, lanes);
        v_store_n(db + c, v_load_n(db + c, lanes) + sum, lanes);
    }
}

/* dW [d][k][k] and db [d]; each may be NULL. */
DWC void dwc_gradients(const fused *u, const dwc_call *b, float *dw, float *db)
{
    const size_t runs = ((size_t)b->w.width + DWC_RUN - 1) / DWC_RUN;
    const size_t tasks = u->maps * (size_t)b->w.height * runs;
    const size_t filters = dwc_filter_floats(u->c->p), taps = filters / u->e;
    if (!dw && !db) return;
    memset(b->sums, 0, (size_t)u->threads * b->pitch * sizeof *b->sums);
    #pragma omp parallel for num_threads(u->threads) schedule(static)
    for (size_t task = 0; task < tasks; task++)
        dwc_gradient_task(u, b, task,
                          b->sums + (size_t)omp_get_thread_num() * b->pitch);
    for (int t = 1; t < u->threads; t++)
        for (size_t c = 0; c < filters + u->e; c++)
            b->sums[c] += b->sums[(size_t)t * b->pitch + c];
    for (size_t c = 0; c < u->e; c++) {
        for (size_t t = 0; dw && t < taps; t++)
            dw[c * taps + t] = b->sums[t * u->e + c];
        if (db) db[c] = b->sums[filters + c];
    }
}

/* dv += resized M' g, where M < N; v on N tokens is lost. */
DWC void dwc_resized_back(const fused *u, const dwc_call *b)
{
    dwc_branch back = b->w;
    back.flipped = true;
    if (u->n == u->m || !u->g->dv) return;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t map = 0; map < u->maps; map++) {
        float *g = b->v + map * u->n * u->e;
        dwc_tokens(&back, u->g->dout + map * u->n * u->e, 0, u->n, NULL, g);
        dwc_resize_back(&back, g, u->g->dv + map * u->m * u->e);
    }
}

#endif
