/* unfused.h - attention between feature vectors in passes over whole tensors,
 * one for each operation, as a framework runs it.
 *
 * Every intermediate result is a tensor in memory: features, S, z, 1/D, their
 * gradients.  Loops are left to the compiler; a product keeps four rows of its
 * right factor at hand.  Full passes share rows of all maps among the threads;
 * the causal recurrence shares maps.
 */
#ifndef LINEAR_UNFUSED_H
#define LINEAR_UNFUSED_H

#include "layout.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#define PASS static inline __attribute__((unused))

/* ---- products ------------------------------------------------------------ */

/* y += sum of four rows of x, ldx apart, times a[0], a[step], ... */
PASS void add_rows(float *restrict y, const float *restrict x, size_t ldx,
                   const float *a, size_t step, size_t n)
{
    const float a0 = a[0], a1 = a[step], a2 = a[2 * step], a3 = a[3 * step];
    const float *x1 = x + ldx, *x2 = x1 + ldx, *x3 = x2 + ldx;
    #pragma omp simd
    for (size_t c = 0; c < n; c++)
        y[c] += (a0 * x[c] + a1 * x1[c]) + (a2 * x2[c] + a3 * x3[c]);
}

PASS void add_row(float *restrict y, const float *restrict x, float a, size_t n)
{
    #pragma omp simd
    for (size_t c = 0; c < n; c++) y[c] += a * x[c];
}

PASS float row_dot(const float *a, const float *b, size_t n)
{
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (size_t c = 0; c < n; c++) sum += a[c] * b[c];
    return sum;
}

/* Rows of C [..][columns]: c_i = sum_t A(i, t) b_t, A(i, t) = a[i ai + t at].
 *  */
PASS void product_rows(size_t rows, size_t inner, size_t columns,
                       const float *a, size_t ai, size_t at, const float *b,
                       float *c)
{
    enum { BLOCK = 64 }; /* rows of b that stay in the first cache           */
    memset(c, 0, rows * columns * sizeof *c);
    for (size_t t0 = 0; t0 < inner; t0 += BLOCK) {
        const size_t end = t0 + BLOCK < inner ? t0 + BLOCK : inner;
        for (size_t i = 0; i < rows; i++) {
            size_t t = t0;
            for (; t + 4 <= end; t += 4)
                add_rows(c + i * columns, b + t * columns, columns,
                         a + i * ai + t * at, at, columns);
            for (; t < end; t++)
                add_row(c + i * columns, b + t * columns, a[i * ai + t * at],
                        columns);
        }
    }
}

/* C = A B for every map; strides between maps are those of dense tensors. */
PASS void product(int threads, size_t maps, size_t rows, size_t inner,
                  size_t columns, const float *a, bool transposed,
                  const float *b, float *c)
{
    enum { ROWS = 16 };
    const size_t blocks = (rows + ROWS - 1) / ROWS;
    const size_t ai = transposed ? 1 : inner, at = transposed ? rows : 1;
    #pragma omp parallel for num_threads(threads)
    for (size_t task = 0; task < maps * blocks; task++) {
        const size_t map = task / blocks, i = task % blocks * ROWS;
        const size_t count = rows - i < ROWS ? rows - i : ROWS;
        product_rows(count, inner, columns, a + map * rows * inner + i * ai, ai,
                     at, b + map * inner * columns,
                     c + (map * rows + i) * columns);
    }
}

/* out[map][c][r] = in[map][r][c]. */
PASS void transpose(int threads, size_t maps, size_t rows, size_t columns,
                    const float *in, float *out)
{
    #pragma omp parallel for num_threads(threads)
    for (size_t task = 0; task < maps * columns; task++) {
        const float *x = in + task / columns * rows * columns + task % columns;
        for (size_t r = 0; r < rows; r++) out[task * rows + r] = x[r * columns];
    }
}

/* y_i = row i of x times a[i]. */
PASS void scale_rows(int threads, size_t rows, size_t columns, const float *a,
                     const float *x, float *y)
{
    #pragma omp parallel for num_threads(threads)
    for (size_t i = 0; i < rows; i++)
        for (size_t c = 0; c < columns; c++)
            y[i * columns + c] = a[i] * x[i * columns + c];
}

PASS void add_to(int threads, size_t n, const float *x, float *y)
{
    #pragma omp parallel for num_threads(threads)
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

/* out[map][c] = start + sum over rows of a(row) x[map][row][c]; a NULL: 1.  In
 * runs of 64 rows, so that long sums keep their small terms. */
PASS void sum_rows(int threads, size_t maps, size_t rows, size_t columns,
                   float start, const float *a, const float *x, float *out)
{
    enum { RUN = 64, WIDTH = 16 };
    const size_t blocks = (columns + WIDTH - 1) / WIDTH;
    #pragma omp parallel for num_threads(threads)
    for (size_t task = 0; task < maps * blocks; task++) {
        const size_t map = task / blocks, c0 = task % blocks * WIDTH;
        const size_t width = columns - c0 < WIDTH ? columns - c0 : WIDTH;
        float *to = out + map * columns + c0;
        for (size_t c = 0; c < width; c++) to[c] = start;
        for (size_t r0 = 0; r0 < rows; r0 += RUN) {
            float part[WIDTH] = { 0 };
            for (size_t r = r0; r < rows && r < r0 + RUN; r++)
                add_row(part, x + (map * rows + r) * columns + c0,
                        a ? a[map * rows + r] : 1, width);
            for (size_t c = 0; c < width; c++) to[c] += part[c];
        }
    }
}

/* ---- attention between features ------------------------------------------ */

/* All maps of a problem.  The mechanism fills q and k, and eps_row if exponents
 * were shifted (else NULL). */
typedef struct unfused {
    int threads;
    size_t maps, n, m, f, e;
    bool causal, scores_first;
    normaliser d;
    float *q, *k;       /* features [maps][n][f], [maps][m][f]              */
    float *eps_row;     /* [maps][n]                                        */
    float *s, *z;       /* [maps][f][e], [maps][f]; causal: the last sums   */
    float *scores;      /* [maps][n][m], where they come first              */
    float *inverse;     /* 1 / D [maps][n]                                  */
    float *dq, *dk;     /* gradients of the features                        */
    float *gh;          /* g / D [maps][n][e]                               */
    float *t;           /* (g.o) / D [maps][n]                              */
    float *ds, *dz;     /* as s and z                                       */
    float *turned;      /* a transposed state, or scores' gradient          */
} unfused;

/* What forward makes, then what backward adds. */
PASS void unfused_lay_out(unfused *u, arena *forward, arena *backward)
{
    const size_t state = u->f * u->e;
    const size_t scores = u->scores_first ? u->n * u->m : 0;
    u->q = arena_take(forward, u->maps * u->n * u->f);
    u->k = arena_take(forward, u->maps * u->m * u->f);
    u->s = arena_take(forward, u->scores_first ? 0 : u->maps * state);
    u->z = arena_take(forward, u->scores_first ? 0 : u->maps * u->f);
    u->scores = arena_take(forward, u->maps * scores);
    u->inverse = arena_take(forward, u->d.divided ? 0 : u->maps * u->n);
    u->dq = arena_take(backward, u->maps * u->n * u->f);
    u->dk = arena_take(backward, u->maps * u->m * u->f);
    u->gh = arena_take(backward, u->maps * u->n * u->e);
    u->t = arena_take(backward, u->maps * u->n);
    u->ds = arena_take(backward, u->scores_first ? 0 : u->maps * state);
    u->dz = arena_take(backward, u->scores_first ? 0 : u->maps * u->f);
    u->turned = arena_take(
        backward, u->maps * (u->scores_first
                                 ? (scores > u->m * u->e ? scores : u->m * u->e)
                                 : state));
}

/* What forward makes is kept for backward. */
PASS void unfused_sizes(const arena *forward, const arena *backward,
                        att_sizes *out)
{
    out->work = out->save = forward->used * sizeof(float);
    out->work_backward = backward->used * sizeof(float);
}

/* Adds what both passes write and neither keeps. */
PASS void unfused_scratch(const arena *scratch, att_sizes *out)
{
    out->work += scratch->used * sizeof(float);
    out->work_backward += scratch->used * sizeof(float);
}

PASS float unfused_eps(const unfused *u, size_t row)
{
    return u->eps_row ? u->eps_row[row] : u->d.eps;
}

/* 1 / D from the row sums or from Q_i.z. */
PASS void unfused_normalise(const unfused *u)
{
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < u->maps * u->n; row++) {
        float sum = 0;
        if (u->scores_first)
            for (size_t j = 0; j < u->m; j++) sum += u->scores[row * u->m + j];
        else
            sum = row_dot(u->q + row * u->f, u->z + row / u->n * u->f, u->f);
        u->inverse[row] = normaliser_inverse(&u->d, sum, unfused_eps(u, row));
    }
}

/* One map of the recurrence S_i = S_{i-1} + K_i v_i'. */
PASS void unfused_causal_map(const unfused *u, size_t map, const float *v,
                             float *o)
{
    const size_t f = u->f, e = u->e;
    float *s = u->s + map * f * e, *z = u->z + map * f;
    memset(s, 0, f * e * sizeof *s);
    for (size_t c = 0; c < f; c++) z[c] = u->d.every;
    for (size_t row = map * u->n; row < (map + 1) * u->n; row++) {
        const float *q = u->q + row * f, *k = u->k + row * f;
        for (size_t c = 0; c < f; c++) {
            z[c] += k[c];
            add_row(s + c * e, v + row * e, k[c], e);
        }
        const float h = normaliser_inverse(&u->d, row_dot(q, z, f),
                                           unfused_eps(u, row));
        u->inverse[row] = h;
        product_rows(1, f, e, q, 0, 1, s, o + row * e);
        for (size_t l = 0; l < e; l++) o[row * e + l] *= h;
    }
}

/* o [maps][n][e] from features and v. */
PASS void unfused_forward(const unfused *u, const float *v, float *o)
{
    if (u->causal) {
        #pragma omp parallel for num_threads(u->threads)
        for (size_t map = 0; map < u->maps; map++)
            unfused_causal_map(u, map, v, o);
        return;
    }
    if (u->scores_first) {
        #pragma omp parallel for num_threads(u->threads)
        for (size_t row = 0; row < u->maps * u->n; row++)
            for (size_t j = 0; j < u->m; j++)
                u->scores[row * u->m + j] =
                    row_dot(u->q + row * u->f,
                            u->k + (row / u->n * u->m + j) * u->f, u->f);
        unfused_normalise(u);
        product(u->threads, u->maps, u->n, u->m, u->e, u->scores, false, v, o);
    } else {
        if (!u->d.divided) {
            sum_rows(u->threads, u->maps, u->m, u->f, u->d.every, NULL, u->k,
                     u->z);
            unfused_normalise(u);
        }
        product(u->threads, u->maps, u->f, u->m, u->e, u->k, true, v, u->s);
        product(u->threads, u->maps, u->n, u->f, u->e, u->q, false, u->s, o);
    }
    if (!u->d.divided)
        scale_rows(u->threads, u->maps * u->n, u->e, u->inverse, o, o);
}

/* ---- backward ------------------------------------------------------------ */

/* gh = g / D. */
PASS void unfused_divide(const unfused *u, const float *g)
{
    if (u->d.divided)
        memcpy(u->gh, g, u->maps * u->n * u->e * sizeof *g);
    else
        scale_rows(u->threads, u->maps * u->n, u->e, u->inverse, g, u->gh);
}

/* t_i = (g_i.o_i) / D_i = Q_i.(S gh_i) / D_i, 0 where D_i is clamped. */
PASS float unfused_mean(const unfused *u, size_t row, const float *q,
                        const float *sg, size_t n)
{
    if (!normaliser_open(&u->d, u->inverse[row])) return 0;
    return u->inverse[row] * row_dot(q, sg, n);
}

/* dQ = S gh - t (z + every), dS = Q' gh, dz = - Q' t. */
PASS void unfused_backward_queries(const unfused *u)
{
    transpose(u->threads, u->maps, u->f, u->e, u->s, u->turned);
    product(u->threads, u->maps, u->n, u->e, u->f, u->gh, false, u->turned,
            u->dq);
    if (!u->d.divided) {
        #pragma omp parallel for num_threads(u->threads)
        for (size_t row = 0; row < u->maps * u->n; row++) {
            float *dq = u->dq + row * u->f;
            const float t =
                unfused_mean(u, row, u->q + row * u->f, dq, u->f);
            add_row(dq, u->z + row / u->n * u->f, -t, u->f);
            u->t[row] = -t;
        }
        sum_rows(u->threads, u->maps, u->n, u->f, 0, u->t, u->q, u->dz);
    }
    product(u->threads, u->maps, u->f, u->n, u->e, u->q, true, u->gh, u->ds);
}

/* dK_j = dS v_j + dz, dv = K dS. */
PASS void unfused_backward_keys(const unfused *u, const float *v, float *dv)
{
    transpose(u->threads, u->maps, u->f, u->e, u->ds, u->turned);
    product(u->threads, u->maps, u->m, u->e, u->f, v, false, u->turned, u->dk);
    if (!u->d.divided) {
        #pragma omp parallel for num_threads(u->threads)
        for (size_t row = 0; row < u->maps * u->m; row++)
            add_row(u->dk + row * u->f, u->dz + row / u->m * u->f, 1, u->f);
    }
    if (dv)
        product(u->threads, u->maps, u->m, u->f, u->e, u->k, false, u->ds, dv);
}

/* dS_ij = gh_i.v_j - t_i in `turned`; then three products. */
PASS void unfused_backward_scores(const unfused *u, const float *v, float *dv)
{
    float *ds = u->turned;
    #pragma omp parallel for num_threads(u->threads)
    for (size_t row = 0; row < u->maps * u->n; row++) {
        for (size_t j = 0; j < u->m; j++)
            ds[row * u->m + j] = row_dot(u->gh + row * u->e,
                                         v + (row / u->n * u->m + j) * u->e,
                                         u->e);
        const float t = unfused_mean(u, row, u->scores + row * u->m,
                                     ds + row * u->m, u->m);
        for (size_t j = 0; j < u->m; j++) ds[row * u->m + j] -= t;
    }
    product(u->threads, u->maps, u->n, u->m, u->f, ds, false, u->k, u->dq);
    product(u->threads, u->maps, u->m, u->n, u->f, ds, true, u->q, u->dk);
    if (dv)
        product(u->threads, u->maps, u->m, u->n, u->e, u->scores, true, u->gh,
                dv);
}

/* One map: dQ_i = S_i gh_i - t_i z_i along the sequence, then dS and dz summed
 * from its end, dK_j = dS v_j + dz, dv_j = dS' K_j. */
PASS void unfused_backward_causal_map(const unfused *u, size_t map,
                                      const float *v, float *dv)
{
    const size_t f = u->f, e = u->e;
    float *s = u->ds + map * f * e, *z = u->dz + map * f;
    memset(s, 0, f * e * sizeof *s);
    for (size_t c = 0; c < f; c++) z[c] = u->d.every;
    for (size_t row = map * u->n; row < (map + 1) * u->n; row++) {
        const float *k = u->k + row * f, *gh = u->gh + row * e;
        float *dq = u->dq + row * f;
        for (size_t c = 0; c < f; c++) {
            z[c] += k[c];
            add_row(s + c * e, v + row * e, k[c], e);
            dq[c] = row_dot(s + c * e, gh, e);
        }
        u->t[row] = unfused_mean(u, row, u->q + row * f, dq, f);
        add_row(dq, z, -u->t[row], f);
    }
    memset(s, 0, f * e * sizeof *s);
    memset(z, 0, f * sizeof *z);
    for (size_t row = (map + 1) * u->n; row-- > map * u->n;) {
        const float *q = u->q + row * f, *gh = u->gh + row * e;
        for (size_t c = 0; c < f; c++) {
            z[c] -= u->t[row] * q[c];
            add_row(s + c * e, gh, q[c], e);
            u->dk[row * f + c] = row_dot(s + c * e, v + row * e, e) + z[c];
        }
        if (dv) product_rows(1, f, e, u->k + row * f, 0, 1, s, dv + row * e);
    }
}

/* Gradients of the features into dq and dk, of v into dv (may be NULL). */
PASS void unfused_backward(const unfused *u, const float *v, const float *g,
                           float *dv)
{
    unfused_divide(u, g);
    if (u->causal) {
        #pragma omp parallel for num_threads(u->threads)
        for (size_t map = 0; map < u->maps; map++)
            unfused_backward_causal_map(u, map, v, dv);
    } else if (u->scores_first) unfused_backward_scores(u, v, dv);
    else {
        unfused_backward_queries(u);
        unfused_backward_keys(u, v, dv);
    }
}

#endif
