/* attend.h - softmax attention of arrays that a kernel of the menu made (filtered
 * or gathered), plain or in register tiles.
 *
 *     o_i = sum_j softmax_j(scale q_i . k_j) v_j     for `maps` maps at once
 *
 * Plain: one row at a time; backward makes the matrices A and dS.  Tiled: blocks
 * of queries against all keys, transposed once; backward makes the block's
 * weights again and adds to sums of its task, joined per map in a fixed order.
 */
#ifndef MENU_ATTEND_H
#define MENU_ATTEND_H

#include "product.h"

#include <math.h>
#include <omp.h>

enum { ATTEND_ROWS = 32, ATTEND_DEPTH = 32 };

typedef struct attend {
    size_t maps, n, m, d;
    const float *q, *k, *v; /* [maps][n or m][d]                             */
    const float *keep;      /* [m]: 0 for keys that do not take part; NULL   */
    float scale;
    int threads;
    float *work;
} attend;

typedef struct attend_layout {
    menu_pieces tasks;
    size_t ldm;
    size_t kt, vt, a, ds, dk, dv; /* shared                                 */
    size_t own, s, p, per_thread, total;
} attend_layout;

static inline attend_layout attend_layout_of(const bool tiled, size_t maps,
                                             size_t n, size_t m, size_t d,
                                             int threads, bool back)
{
    attend_layout x = { .ldm = menu_round(m) };
    const size_t rows = tiled ? ATTEND_ROWS : 1;
    const size_t matrix = !tiled && back ? menu_round(maps * n * m) : 0;
    size_t at = 0;
    x.tasks = menu_cut(n, maps, threads, tiled ? 16 : 1);
    const size_t sums = tiled && back ? x.tasks.all * menu_round(m * d) : 0;
    x.kt = at, at += tiled ? maps * d * x.ldm : 0;
    x.vt = at, at += tiled && back ? maps * d * x.ldm : 0;
    x.a = at, at += matrix;
    x.ds = at, at += matrix;
    x.dk = at, at += sums;
    x.dv = at, at += sums;
    x.own = at, at = 0;
    x.s = at, at += rows * x.ldm;
    x.p = at, at += rows * x.ldm;
    x.per_thread = at;
    x.total = x.own + (size_t)threads * at;
    return x;
}

/* Floats of `work` that the functions below need. */
static inline __attribute__((unused)) size_t
attend_floats(const bool tiled, size_t maps, size_t n, size_t m, size_t d,
              int threads, bool back)
{
    return attend_layout_of(tiled, maps, n, m, d, threads, back).total;
}

static inline attend_layout attend_layout_for(const bool tiled,
                                              const attend *x, bool back)
{
    return attend_layout_of(tiled, x->maps, x->n, x->m, x->d, x->threads, back);
}

static inline float *attend_own(const attend *x, const attend_layout *l)
{
    return x->work + l->own + (size_t)omp_get_thread_num() * l->per_thread;
}

/* Eight lanes at every level: rows are short, and sums of sixteen lanes, or sixteen
 * that go through memory to the next key, take longer than they save. */
static inline float attend_dot(const float *a, const float *b, size_t n)
{
    float sum = 0;
    #pragma omp simd simdlen(8) reduction(+ : sum)
    for (size_t c = 0; c < n; c++) sum += a[c] * b[c];
    return sum;
}

static inline void attend_axpy(float *y, float a, const float *x, size_t n)
{
    #pragma omp simd simdlen(8)
    for (size_t c = 0; c < n; c++) y[c] += a * x[c];
}

/* Softmax of the m scores s times scale, in place; dropped keys get 0. */
static inline void attend_softmax(const attend *x, float *s)
{
    vf most = v_set1(-INFINITY), sum = v_zero();
    for (size_t j = 0; j < x->m; j += VL) {
        const size_t lanes = x->m - j < VL ? x->m - j : VL;
        vf y = v_load_n(s + j, lanes) * x->scale;
        vi kept = vi_first(lanes);
        if (x->keep) kept &= v_load_n(x->keep + j, lanes) != 0.0f;
        y = v_select(kept, y, v_set1(-INFINITY));
        most = v_max(most, y);
        v_store_n(s + j, y, lanes);
    }
    const float max = fmaxf(v_hmax(most), -1e38f);
    for (size_t j = 0; j < x->m; j += VL) {
        const size_t lanes = x->m - j < VL ? x->m - j : VL;
        const vf y = v_load_n(s + j, lanes) - max;
        const vf e = v_select(y < -1e37f, v_zero(), v_exp(y));
        sum += v_first(e, lanes);
        v_store_n(s + j, e, lanes);
    }
    const float total = v_sum(sum), inverse = total > 0 ? 1 / total : 0;
    for (size_t j = 0; j < x->m; j++) s[j] *= inverse;
}

/* ds in place of da, including the scale: a (da - mean), mean = sum a da.  One
 * weight may be nearly 1, and then its difference is far below the rounding of
 * da: all are taken relative to that entry first. */
static inline void attend_softmax_backward(const attend *x, const float *a,
                                           float *da)
{
    size_t top = 0;
    for (size_t j = 1; j < x->m; j++)
        if (a[j] > a[top]) top = j;
    const float shift = da[top];
    for (size_t j = 0; j < x->m; j++) da[j] -= shift;
    const float along = attend_dot(a, da, x->m);
    for (size_t j = 0; j < x->m; j++) da[j] = x->scale * a[j] * (da[j] - along);
}

/* ---- plain ---------------------------------------------------------------------------- */

static inline void attend_row(const attend *x, size_t row, float *a)
{
    const float *k = x->k + row / x->n * x->m * x->d;
    for (size_t j = 0; j < x->m; j++)
        a[j] = attend_dot(x->q + row * x->d, k + j * x->d, x->d);
    attend_softmax(x, a);
}

static inline void attend_plain(const attend *x, float *o)
{
    const attend_layout l = attend_layout_for(false, x, false);
    #pragma omp parallel for num_threads(x->threads)
    for (size_t row = 0; row < x->maps * x->n; row++) {
        const float *v = x->v + row / x->n * x->m * x->d;
        float *a = attend_own(x, &l), *to = o + row * x->d;
        attend_row(x, row, a);
        for (size_t c = 0; c < x->d; c++) to[c] = 0;
        for (size_t j = 0; j < x->m; j++)
            attend_axpy(to, a[j], v + j * x->d, x->d);
    }
}

static inline void attend_plain_backward(const attend *x, const float *g,
                                         float *dq, float *dk, float *dv)
{
    const attend_layout l = attend_layout_for(false, x, true);
    float *weights = x->work + l.a, *scores = x->work + l.ds;
    #pragma omp parallel for num_threads(x->threads)
    for (size_t row = 0; row < x->maps * x->n; row++) {
        const size_t keys = row / x->n * x->m * x->d;
        float *a = weights + row * x->m, *ds = scores + row * x->m;
        float *to = dq + row * x->d;
        attend_row(x, row, a);
        for (size_t j = 0; j < x->m; j++)
            ds[j] = attend_dot(g + row * x->d, x->v + keys + j * x->d, x->d);
        attend_softmax_backward(x, a, ds);
        for (size_t c = 0; c < x->d; c++) to[c] = 0;
        for (size_t j = 0; j < x->m; j++)
            attend_axpy(to, ds[j], x->k + keys + j * x->d, x->d);
    }
    #pragma omp parallel for num_threads(x->threads)
    for (size_t key = 0; key < x->maps * x->m; key++) {
        const size_t map = key / x->m, j = key % x->m;
        for (size_t c = 0; c < x->d; c++) dk[key * x->d + c] = 0;
        for (size_t c = 0; c < x->d; c++) dv[key * x->d + c] = 0;
        for (size_t i = 0; i < x->n; i++) {
            const size_t row = map * x->n + i, at = row * x->m + j;
            attend_axpy(dk + key * x->d, scores[at], x->q + row * x->d, x->d);
            attend_axpy(dv + key * x->d, weights[at], g + row * x->d, x->d);
        }
    }
}

/* ---- tiled ---------------------------------------------------------------------------------- */

static inline void attend_transpose(const attend *x, const attend_layout *l,
                                    bool back)
{
    #pragma omp parallel for num_threads(x->threads)
    for (size_t map = 0; map < x->maps; map++) {
        const size_t from = map * x->m * x->d, to = map * x->d * l->ldm;
        tile_transpose(x->k + from, x->d, x->m, x->d, x->work + l->kt + to,
                       l->ldm, l->ldm, 1);
        if (back)
            tile_transpose(x->v + from, x->d, x->m, x->d,
                           x->work + l->vt + to, l->ldm, l->ldm, 1);
    }
}

/* Weights of queries [i, i + rows) of a map into s. */
static inline void attend_block(const attend *x, const attend_layout *l,
                                size_t map, size_t i, size_t rows, float *s)
{
    /* short pieces: rounding of large scores is felt in the weights */
    for (size_t c = 0; c < x->d; c += ATTEND_DEPTH)
        tile_gemm(rows, x->m, x->d - c < ATTEND_DEPTH ? x->d - c : ATTEND_DEPTH,
                  x->q + (map * x->n + i) * x->d + c, x->d, 1,
                  x->work + l->kt + (map * x->d + c) * l->ldm, l->ldm, s,
                  l->ldm, c > 0);
    for (size_t r = 0; r < rows; r++) attend_softmax(x, s + r * l->ldm);
}

static inline void attend_tiled(const attend *x, float *o)
{
    const attend_layout l = attend_layout_for(true, x, false);
    attend_transpose(x, &l, false);
    #pragma omp parallel for num_threads(x->threads)
    for (size_t t = 0; t < l.tasks.all; t++) {
        const menu_piece p = menu_piece_of(&l.tasks, t);
        float *s = attend_own(x, &l) + l.s;
        for (size_t i = p.first; i < p.end; i += ATTEND_ROWS) {
            const size_t rows = p.end - i < ATTEND_ROWS ? p.end - i
                                                        : ATTEND_ROWS;
            attend_block(x, &l, p.map, i, rows, s);
            product(true, rows, x->d, x->m, s, l.ldm, 1,
                    x->v + p.map * x->m * x->d, x->d,
                    o + (p.map * x->n + i) * x->d, x->d, false);
        }
    }
}

static inline void attend_block_backward(const attend *x,
                                         const attend_layout *l,
                                         const menu_piece *p, size_t i,
                                         size_t rows, const float *g, float *dq)
{
    const size_t at = (p->map * x->n + i) * x->d;
    const size_t size = menu_round(x->m * x->d);
    float *mine = attend_own(x, l), *a = mine + l->s, *da = mine + l->p;
    float *dk = x->work + l->dk + p->index * size;
    float *dv = x->work + l->dv + p->index * size;
    attend_block(x, l, p->map, i, rows, a);
    product(true, rows, x->m, x->d, g + at, x->d, 1,
            x->work + l->vt + p->map * x->d * l->ldm, l->ldm, da, l->ldm,
            false);
    for (size_t r = 0; r < rows; r++)
        attend_softmax_backward(x, a + r * l->ldm, da + r * l->ldm);
    product(true, x->m, x->d, rows, a, 1, l->ldm, g + at, x->d, dv, x->d,
            i > p->first);
    product(true, x->m, x->d, rows, da, 1, l->ldm, x->q + at, x->d, dk, x->d,
            i > p->first);
    product(true, rows, x->d, x->m, da, l->ldm, 1, x->k + p->map * x->m * x->d,
            x->d, dq + at, x->d, false);
}

static inline void attend_tiled_backward(const attend *x, const float *g,
                                         float *dq, float *dk, float *dv)
{
    const attend_layout l = attend_layout_for(true, x, true);
    const size_t one = x->m * x->d, size = menu_round(one);
    attend_transpose(x, &l, true);
    #pragma omp parallel for num_threads(x->threads)
    for (size_t t = 0; t < l.tasks.all; t++) {
        const menu_piece p = menu_piece_of(&l.tasks, t);
        for (size_t i = p.first; i < p.end; i += ATTEND_ROWS) {
            const size_t rows = p.end - i < ATTEND_ROWS ? p.end - i
                                                        : ATTEND_ROWS;
            attend_block_backward(x, &l, &p, i, rows, g, dq);
        }
    }
    #pragma omp parallel for num_threads(x->threads)
    for (size_t map = 0; map < x->maps; map++)
        for (size_t t = 0; t < l.tasks.each; t++) {
            const size_t from = (map * l.tasks.each + t) * size;
            for (size_t i = 0; i < one; i++) {
                const float k = x->work[l.dk + from + i];
                const float v = x->work[l.dv + from + i];
                dk[map * one + i] = k + (t > 0 ? dk[map * one + i] : 0);
                dv[map * one + i] = v + (t > 0 ? dv[map * one + i] : 0);
            }
        }
}

/* ---- either ------------------------------------------------------------------------------------ */

static inline __attribute__((unused)) void
attend_forward(const bool tiled, const attend *x, float *o)
{
    if (tiled) attend_tiled(x, o);
    else attend_plain(x, o);
}

/* Writes all of dq, dk, dv. */
static inline __attribute__((unused)) void
attend_backward(const bool tiled, const attend *x, const float *g, float *dq,
                float *dk, float *dv)
{
    if (tiled) attend_tiled_backward(x, g, dq, dk, dv);
    else attend_plain_backward(x, g, dq, dk, dv);
}

#endif
