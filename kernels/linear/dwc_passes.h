/* dwc_passes.h - the depthwise convolution branch in passes over whole tensors,
 * for the unfused kernels; dwc.h has the definition.
 *
 * Filters are turned to [k][k][d], so that loops run along channels.
 */
#ifndef LINEAR_DWC_PASSES_H
#define LINEAR_DWC_PASSES_H

#include "dwc.h"
#include "unfused.h"

#include <stdlib.h>

typedef struct dwc_passes {
    int threads, height, width, side;
    size_t maps, n, m, d;
    const float *filters; /* [k][k][d]                                      */
    float *resized;       /* v on N tokens [maps][n][d], where M != N       */
    float *branch;        /* result, or gradient of resized [maps][n][d]    */
} dwc_passes;

static inline size_t dwc_filter_floats(const att_problem *p)
{
    const size_t k = (size_t)dwc_side(p);
    return k * k * (size_t)p->head_dim;
}

/* [d][k][k] -> [k][k][d]. */
static inline void dwc_turn(const att_problem *p, const float *w, float *turned)
{
    const size_t d = (size_t)p->head_dim, taps = dwc_filter_floats(p) / d;
    for (size_t c = 0; c < d; c++)
        for (size_t t = 0; t < taps; t++) turned[t * d + c] = w[c * taps + t];
}

PASS dwc_passes dwc_lay_out(const att_problem *p, int threads,
                            const float *filters, arena *scratch)
{
    dwc_passes b = {
        .threads = threads, .height = att_height(p), .width = att_width(p),
        .side = dwc_side(p), .maps = maps_of(p), .n = att_tokens(p),
        .m = dwc_keys(p), .d = (size_t)p->head_dim, .filters = filters,
    };
    const size_t tokens = b.maps * b.n * b.d;
    b.resized = b.m == b.n ? NULL : arena_take(scratch, tokens);
    b.branch = arena_take(scratch, tokens);
    return b;
}

PASS void dwc_resize_all(const dwc_passes *b, const float *v)
{
    #pragma omp parallel for num_threads(b->threads)
    for (size_t row = 0; row < b->maps * b->n; row++) {
        const dwc_source s = dwc_resize(row % b->n, b->n, b->m);
        const float *x = v + row / b->n * b->m * b->d;
        for (size_t c = 0; c < b->d; c++)
            b->resized[row * b->d + c] = (float)(1 - s.w) * x[s.a * b->d + c] +
                                         (float)s.w * x[s.b * b->d + c];
    }
}

/* Token that tap (a, b) of token i reads; -1 beyond the border.  sign -1: the
 * token whose output reads i through that tap. */
PASS ptrdiff_t dwc_neighbour(const dwc_passes *b, size_t i, int tap, int sign)
{
    const int half = b->side / 2;
    const int y = (int)(i / (size_t)b->width) + sign * (tap / b->side - half);
    const int x = (int)(i % (size_t)b->width) + sign * (tap % b->side - half);
    if (y < 0 || y >= b->height || x < 0 || x >= b->width) return -1;
    return (ptrdiff_t)y * b->width + x;
}

/* branch = M x + start (sign 1), or M' x (sign -1). */
PASS void dwc_convolve(const dwc_passes *b, const float *x, const float *start,
                       int sign)
{
    #pragma omp parallel for num_threads(b->threads)
    for (size_t row = 0; row < b->maps * b->n; row++) {
        float *y = b->branch + row * b->d;
        for (size_t c = 0; c < b->d; c++) y[c] = start ? start[c] : 0;
        for (int t = 0; t < b->side * b->side; t++) {
            const ptrdiff_t j = dwc_neighbour(b, row % b->n, t, sign);
            if (j < 0) continue;
            const float *w = b->filters + (size_t)t * b->d;
            const float *z = x + (row / b->n * b->n + (size_t)j) * b->d;
            #pragma omp simd
            for (size_t c = 0; c < b->d; c++) y[c] += w[c] * z[c];
        }
    }
}

/* o += DWC(v) + bias. */
PASS void dwc_pass_forward(const dwc_passes *b, const float *v,
                           const float *bias, float *o)
{
    if (b->resized) dwc_resize_all(b, v);
    dwc_convolve(b, b->resized ? b->resized : v, bias, 1);
    add_to(b->threads, b->maps * b->n * b->d, b->branch, o);
}

/* dW [d][k][k]: a thread owns taps; one map row at a time, so that long sums
 * keep their small terms. */
PASS void dwc_pass_filters(const dwc_passes *b, const float *x, const float *g,
                           float *dw)
{
    const size_t taps = (size_t)b->side * (size_t)b->side, d = b->d;
    #pragma omp parallel for num_threads(b->threads)
    for (size_t t = 0; t < taps; t++) {
        for (size_t c = 0; c < d; c++) dw[c * taps + t] = 0;
        for (size_t row = 0; row < b->maps * b->n; row += (size_t)b->width)
            for (size_t c0 = 0; c0 < d; c0 += 64) {
                const size_t count = d - c0 < 64 ? d - c0 : 64;
                float sum[64] = { 0 };
                for (size_t i = row; i < row + (size_t)b->width; i++) {
                    const ptrdiff_t j =
                        dwc_neighbour(b, i % b->n, (int)t, 1);
                    if (j < 0) continue;
                    const float *y = g + i * d + c0;
                    const float *z =
                        x + (i / b->n * b->n + (size_t)j) * d + c0;
                    for (size_t c = 0; c < count; c++) sum[c] += y[c] * z[c];
                }
                for (size_t c = 0; c < count; c++)
                    dw[(c0 + c) * taps + t] += sum[c];
            }
    }
}

/* dv += M' g (resized back), dW, db; each may be NULL. */
PASS void dwc_pass_backward(const dwc_passes *b, const float *v, const float *g,
                            float *dv, float *dw, float *db)
{
    const size_t d = b->d;
    if (b->resized) dwc_resize_all(b, v);
    if (dw) dwc_pass_filters(b, b->resized ? b->resized : v, g, dw);
    if (db) sum_rows(b->threads, 1, b->maps * b->n, d, 0, NULL, g, db);
    if (!dv) return;
    dwc_convolve(b, g, NULL, -1);
    if (!b->resized) {
        add_to(b->threads, b->maps * b->n * d, b->branch, dv);
        return;
    }
    #pragma omp parallel for num_threads(b->threads)
    for (size_t map = 0; map < b->maps; map++)
        for (size_t i = 0; i < b->n; i++) {
            const dwc_source s = dwc_resize(i, b->n, b->m);
            const float *x = b->branch + (map * b->n + i) * d;
            add_row(dv + (map * b->m + s.a) * d, x, (float)(1 - s.w), d);
            add_row(dv + (map * b->m + s.b) * d, x, (float)s.w, d);
        }
}

/* dP [heads][m][d]: the sum over the batch of dk [batch][heads][m][d]. */
PASS void dwc_pass_positions(const dwc_passes *b, int batch, const float *dk,
                             float *dpos)
{
    const size_t one = b->maps / (size_t)batch * b->m * b->d;
    memcpy(dpos, dk, one * sizeof *dpos);
    for (int i = 1; i < batch; i++)
        add_to(b->threads, one, dk + (size_t)i * one, dpos);
}

#endif
