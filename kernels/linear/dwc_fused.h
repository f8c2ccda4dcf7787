/* dwc_fused.h - the depthwise convolution branch in registers, for runs of tokens;
 * dwc.h has the definition.
 *
 * Lanes are channels.  STRIP neighbouring outputs are summed at once, so that a
 * filter entry is loaded once for all of them and every FMA has its own sum: one
 * load each, which keeps pace with the FMA units.  Where a filter crosses the left
 * or right border the sums are in memory (the first cache), tap by tap.  Filters
 * are turned to [k][k][d].
 */
#ifndef LINEAR_DWC_FUSED_H
#define LINEAR_DWC_FUSED_H

#include "dwc.h"
#include "fused.h"

#include <stdlib.h>

#define DWC static inline __attribute__((unused))

enum { DWC_STRIP = 8, DWC_TAPS_MOST = 5 };

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

/* Filter entries [d] of tap (a, b). */
DWC const float *dwc_tap(const dwc_branch *w, int a, int b)
{
    const int t = a * w->wide + b, last = w->high * w->wide - 1;
    return w->filters + (size_t)(w->flipped ? last - t : t) * w->d;
}

SIMD_INLINE vf dwc_load(const float *x, const bool masked, size_t lanes)
{
    return masked ? v_load_n(x, lanes) : v_load(x);
}

/* `strip` outputs from (y, x) on, one vector of channels from c on, whose filters
 * stay within the row; o holds what they are added to. */
SIMD_INLINE void dwc_strip(const dwc_branch *w, const int strip,
                           const bool masked, size_t lanes, const float *in,
                           int y, int x, size_t c, float *o)
{
    const int above = dwc_above(w), left = dwc_left(w);
    const size_t d = w->d;
    vf sum[DWC_STRIP];
    UNROLL for (int i = 0; i < strip; i++)
        sum[i] = dwc_load(o + (size_t)i * d + c, masked, lanes);
    for (int a = 0; a < w->high; a++) {
        const int row = y + a - above;
        if (row < 0 || row >= w->height) continue;
        const float *p =
            in + ((size_t)row * (size_t)w->width + (size_t)(x - left)) * d + c;
        const float *tap = dwc_tap(w, a, 0) + c;
        const ptrdiff_t step = w->flipped ? -(ptrdiff_t)d : (ptrdiff_t)d;
        for (int b = 0; b < w->wide; b++, p += d, tap += step) {
            const vf f = dwc_load(tap, masked, lanes);
            UNROLL for (int i = 0; i < strip; i++)
                sum[i] = v_fma(f, dwc_load(p + (size_t)i * d, masked, lanes),
                               sum[i]);
        }
    }
    UNROLL for (int i = 0; i < strip; i++) {
        if (masked) v_store_n(o + (size_t)i * d + c, sum[i], lanes);
        else v_store(o + (size_t)i * d + c, sum[i]);
    }
}

/* All channels of a strip. */
#define DWC_STRIP_FUNCTION(name, strip)                                        \
    static __attribute__((noinline, unused)) void name(                        \
        const dwc_branch *w, const float *in, int y, int x, float *o)          \
    {                                                                          \
        const size_t whole = w->d / VL * VL, last = w->d - whole;              \
        for (size_t c = 0; c < whole; c += VL)                                 \
            dwc_strip(w, strip, false, VL, in, y, x, c, o);                    \
        if (last) dwc_strip(w, strip, true, last, in, y, x, whole, o);         \
    }
DWC_STRIP_FUNCTION(dwc_strip_8, 8)
DWC_STRIP_FUNCTION(dwc_strip_4, 4)
DWC_STRIP_FUNCTION(dwc_strip_2, 2)
DWC_STRIP_FUNCTION(dwc_strip_1, 1)
#undef DWC_STRIP_FUNCTION

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

/* Outputs [x0, x1) of row y whose filters cross a border. */
DWC void dwc_border(const dwc_branch *w, const float *in, int y, int x0, int x1,
                    float *o)
{
    const int above = dwc_above(w), left = dwc_left(w);
    for (int x = x0; x < x1; x++, o += w->d)
        for (int a = 0; a < w->high; a++) {
            const int row = y + a - above;
            if (row < 0 || row >= w->height) continue;
            for (int b = 0; b < w->wide; b++) {
                const int column = x + b - left;
                if (column < 0 || column >= w->width) continue;
                const size_t j = (size_t)row * (size_t)w->width + (size_t)column;
                dwc_multiply_add(dwc_tap(w, a, b), in + j * w->d, w->d, o);
            }
        }
}

/* o += M in for outputs [x0, x1) of row y; o at the first of them. */
DWC void dwc_row(const dwc_branch *w, const float *in, int y, int x0, int x1,
                 float *o)
{
    const int left = dwc_left(w), border = w->width - (w->wide - 1 - left);
    int inner0 = x0 > left ? x0 : left;
    int inner1 = x1 < border ? x1 : border;
    if (inner0 >= inner1) inner0 = inner1 = x1;
    dwc_border(w, in, y, x0, inner0, o);
    o += (size_t)(inner0 - x0) * w->d;
    int x = inner0;
    for (; x + 8 <= inner1; x += 8, o += 8 * w->d) dwc_strip_8(w, in, y, x, o);
    if (inner1 - x >= 4) dwc_strip_4(w, in, y, x, o), x += 4, o += 4 * w->d;
    if (inner1 - x >= 2) dwc_strip_2(w, in, y, x, o), x += 2, o += 2 * w->d;
    if (inner1 - x >= 1) dwc_strip_1(w, in, y, x, o), x += 1, o += w->d;
    dwc_border(w, in, y, inner1, x1, o);
}

/* Rows of tokens [at, at + rows): o = start + M in; start [d] may be NULL. */
DWC void dwc_tokens(const dwc_branch *w, const float *in, size_t at, size_t rows,
                    const float *start, float *o)
{
    const size_t width = (size_t)w->width;
    for (size_t r = 0; r < rows; r++) {
        if (start) memcpy(o + r * w->d, start, w->d * sizeof *o);
        else memset(o + r * w->d, 0, w->d * sizeof *o);
    }
    for (size_t i = at; i < at + rows;) {
        const size_t x = i % width;
        const size_t run =
            width - x < at + rows - i ? width - x : at + rows - i;
        dwc_row(w, in, (int)(i / width), (int)x, (int)(x + run),
                o + (i - at) * w->d);
        i += run;
    }
}

/* ---- gradient of the filters -------------------------------------------------------- */

/* sum[a][b] += sum over outputs [x0, x1) of row y of g and the input that tap
 * (a0 + a, b0 + b) meets, one vector of channels; all taps within the map. */
SIMD_INLINE void dwc_filter_tile(const dwc_branch *w, const int high,
                                 const int wide, const bool masked, size_t lanes,
                                 const float *in, const float *g, int y, int x0,
                                 int x1, int a0, int b0, size_t c, float *sums)
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

/* Taps of one or two rows a of the filter, outputs [x0, x1) of row y, whose taps
 * are all within the map. */
DWC void dwc_filter_rows(const dwc_branch *w, const float *in, const float *g,
                         int y, int x0, int x1, int a, bool two, float *sums)
{
    int b = 0;
    for (; b + 5 <= w->wide; b += 5)
        (two ? dwc_filter_2_5 : dwc_filter_1_5)(w, in, g, y, x0, x1, a, b, sums);
    for (; b + 3 <= w->wide; b += 3)
        (two ? dwc_filter_2_3 : dwc_filter_1_3)(w, in, g, y, x0, x1, a, b, sums);
    for (; b < w->wide; b++)
        (two ? dwc_filter_2_1 : dwc_filter_1_1)(w, in, g, y, x0, x1, a, b, sums);
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

/* ---- v on N tokens, where there are fewer keys ---------------------------------------- */

/* out [n][d] from v [m][d]. */
DWC void dwc_resize_map(const dwc_branch *w, const float *v, float *out)
{
    for (size_t i = 0; i < w->n; i++) {
        const dwc_source s = dwc_resize(i, w->n, w->m);
        for (size_t c = 0; c < w->d; c++)
            out[i * w->d + c] = (float)(1 - s.w) * v[s.a * w->d + c] +
                                (float)s.w * v[s.b * w->d + c];
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

/* ---- the branch in a fused kernel ------------------------------------------------------- */

/* What sla and focused_linear give as struct fused's own data, at its start. */
typedef struct dwc_call {
    dwc_branch w;
    const float *bias;
    float *resized;  /* v on N tokens [maps][n][d]; NULL where M = N        */
    float *sums;     /* of dW and db [threads][pitch]                       */
    size_t pitch;
} dwc_call;

enum { DWC_RUN = 256 }; /* columns of a map that are one task                */

DWC size_t dwc_sums(const att_problem *p)
{
    return fused_pitch(dwc_filter_floats(p) + (size_t)p->head_dim + 16);
}

/* Work that the branch needs. */
DWC void dwc_reserve(const att_problem *p, fused *u)
{
    const size_t resized = u->n == u->m ? 0 : u->maps * u->n * u->e;
    u->extra_floats[0] = resized;
    u->extra_floats[1] = resized + (size_t)u->threads * dwc_sums(p);
}

DWC const float *dwc_input(const fused *u, const dwc_call *b, size_t map)
{
    return b->resized ? b->resized + map * u->n * u->e : fused_v(u, map, 0);
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

/* After fused_attach(); resizes v if it has to be. */
DWC dwc_call dwc_begin(fused *u, const float *bias)
{
    const att_problem *p = u->c->p;
    const bool resized = u->n != u->m;
    const size_t floats = resized ? u->maps * u->n * u->e : 0;
    const dwc_call b = {
        .w = dwc_describe(p, u->c->state), .bias = bias,
        .resized = resized ? u->extra : NULL, .sums = u->extra + floats,
        .pitch = dwc_sums(p),
    };
    u->branch = dwc_branch_forward;
    u->branch_back = resized ? NULL : dwc_branch_back;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t map = 0; map < (resized ? u->maps : 0); map++)
        dwc_resize_map(&b.w, fused_v(u, map, 0),
                       b.resized + map * u->n * u->e);
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
    if (!b->resized || !u->g->dv) return;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t map = 0; map < u->maps; map++) {
        float *g = b->resized + map * u->n * u->e;
        dwc_tokens(&back, u->g->dout + map * u->n * u->e, 0, u->n, NULL, g);
        dwc_resize_back(&back, g, u->g->dv + map * u->m * u->e);
    }
}

#endif
