/* external.direct, external.tiled - external attention in three passes over the
 * tokens: scores F = X Mk' with the maxima of their columns, exponentials with
 * the sums of their columns, then rows and O = A Mv'.
 *
 * Backward, from the saved column softmax B: A and its rows' sums r again,
 *     dA = G Mv,  dMv' = A' G,  dB = (dA - a . dA) / r,  dF = B (dB - sum B dB),
 *     dX = dF Mk,  dMk = dF' X.
 * The two kernels differ in how products are done.
 */
#include "product.h"

#include <math.h>

enum { MK, MV };

typedef struct layout {
    menu_pieces pieces;
    size_t n, d, s, batch;
    size_t mkt, mvt, stats, columns, f, shares_v, shares_k, work; /* floats */
} layout;

static layout layout_of(const att_problem *p, int threads, enum att_pass pass)
{
    layout x = { .n = att_tokens(p), .d = (size_t)p->head_dim };
    const bool back = pass == ATT_BACKWARD;
    size_t at = 0;
    x.s = (size_t)p->memory;
    x.batch = (size_t)p->batch;
    x.pieces = menu_cut(x.n, x.batch, threads, 32);
    const size_t shares = back ? x.pieces.all * menu_round(x.s * x.d) : 0;
    x.mkt = at, at += menu_round(x.d * x.s);
    x.mvt = at, at += menu_round(x.d * x.s);
    x.stats = at, at += x.pieces.all * menu_round(x.s);
    x.columns = at, at += x.batch * menu_round(x.s);
    x.f = at, at += menu_round(x.batch * x.n * x.s);
    x.shares_v = at, at += shares;
    x.shares_k = at, at += shares;
    x.work = at;
    return x;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const layout x = layout_of(p, threads, ATT_FORWARD);
    *out = (att_sizes){
        .save = x.batch * x.n * x.s * sizeof(float),
        .work = x.work * sizeof(float),
        .work_backward =
            layout_of(p, threads, ATT_BACKWARD).work * sizeof(float),
    };
}

typedef struct job {
    const att_call *c;
    const att_grad *g;
    layout x;
    float *work;
} job;

static void prepare(const job *k)
{
    const layout *x = &k->x;
    tile_transpose(k->c->param[MK], x->d, x->s, x->d, k->work + x->mkt, x->s,
                   x->s, 1);
    tile_transpose(k->c->param[MV], x->s, x->d, x->s, k->work + x->mvt, x->d,
                   x->d, 1);
}

/* ---- statistics of columns ------------------------------------------------------------ */

static float *piece_stats(const job *k, size_t index)
{
    return k->work + k->x.stats + index * menu_round(k->x.s);
}

/* Statistics of a batch entry from those of its pieces: the maximum, or the
 * sum. */
static void merge_stats(const job *k, size_t batch, bool maximum)
{
    float *out = k->work + k->x.columns + batch * menu_round(k->x.s);
    for (size_t j = 0; j < k->x.s; j++) {
        float y = piece_stats(k, batch * k->x.pieces.each)[j];
        for (size_t i = 1; i < k->x.pieces.each; i++) {
            const float z = piece_stats(k, batch * k->x.pieces.each + i)[j];
            y = !maximum ? y + z : z > y ? z : y;
        }
        out[j] = y;
    }
}

/* ---- forward ------------------------------------------------------------------------------ */

SIMD_INLINE void make_scores(const bool tiled, const job *k, const menu_piece *p)
{
    const layout *x = &k->x;
    const size_t row = p->map * x->n + p->first, rows = p->end - p->first;
    float *f = k->work + x->f + row * x->s, *max = piece_stats(k, p->index);
    product(tiled, rows, x->s, x->d, (const float *)k->c->q + row * x->d, x->d,
            1, k->work + x->mkt, x->s, f, x->s, false);
    for (size_t j = 0; j < x->s; j += VL) {
        const size_t lanes = x->s - j < VL ? x->s - j : VL;
        vf m = v_load_n(f + j, lanes);
        for (size_t i = 1; i < rows; i++)
            m = v_max(m, v_load_n(f + i * x->s + j, lanes));
        v_store_n(max + j, m, lanes);
    }
}

static void make_exponentials(const job *k, const menu_piece *p)
{
    const layout *x = &k->x;
    const float *max = k->work + x->columns + p->map * menu_round(x->s);
    float *f = k->work + x->f + (p->map * x->n + p->first) * x->s;
    float *sum = piece_stats(k, p->index);
    for (size_t j = 0; j < x->s; j += VL) {
        const size_t lanes = x->s - j < VL ? x->s - j : VL;
        const vf m = v_load_n(max + j, lanes);
        vf total = v_zero();
        for (size_t i = 0; i < p->end - p->first; i++) {
            float *at = f + i * x->s + j;
            const vf e = v_exp(v_max(v_load_n(at, lanes) - m, v_set1(-200)));
            v_store_n(at, e, lanes);
            total += e;
        }
        v_store_n(sum + j, total, lanes);
    }
}

/* Rows of b [s] become those of a, divided by their sum, which is returned. */
static float normalise_row(const float *b, size_t s, float *a)
{
    float sum = 1e-9f;
    for (size_t j = 0; j < s; j++) sum += b[j];
    for (size_t j = 0; j < s; j++) a[j] = b[j] / sum;
    return sum;
}

SIMD_INLINE void make_rows(const bool tiled, const job *k, const menu_piece *p)
{
    const layout *x = &k->x;
    const size_t row = p->map * x->n + p->first, rows = p->end - p->first;
    const float *sum = k->work + x->columns + p->map * menu_round(x->s);
    float *f = k->work + x->f + row * x->s;
    for (size_t i = 0; i < rows; i++) {
        float *b = f + i * x->s;
        for (size_t j = 0; j < x->s; j++) b[j] /= sum[j];
        if (k->c->save)
            memcpy((float *)k->c->save + (row + i) * x->s, b, x->s * sizeof *b);
        normalise_row(b, x->s, b);
    }
    product(tiled, rows, x->d, x->s, f, x->s, 1, k->work + x->mvt, x->d,
            (float *)k->c->o + row * x->d, x->d, false);
}

SIMD_INLINE void forward(const bool tiled, const att_call *c)
{
    const job k = { .c = c, .work = c->work,
                    .x = layout_of(c->p, c->threads, ATT_FORWARD) };
    prepare(&k);
    #pragma omp parallel num_threads(c->threads)
    {
        #pragma omp for
        for (size_t i = 0; i < k.x.pieces.all; i++) {
            const menu_piece p = menu_piece_of(&k.x.pieces, i);
            make_scores(tiled, &k, &p);
        }
        #pragma omp for
        for (size_t b = 0; b < k.x.batch; b++) merge_stats(&k, b, true);
        #pragma omp for
        for (size_t i = 0; i < k.x.pieces.all; i++) {
            const menu_piece p = menu_piece_of(&k.x.pieces, i);
            make_exponentials(&k, &p);
        }
        #pragma omp for
        for (size_t b = 0; b < k.x.batch; b++) merge_stats(&k, b, false);
        #pragma omp for
        for (size_t i = 0; i < k.x.pieces.all; i++) {
            const menu_piece p = menu_piece_of(&k.x.pieces, i);
            make_rows(tiled, &k, &p);
        }
    }
}

/* ---- backward ---------------------------------------------------------------------------------- */

/* dB of a piece into f, column sums of B dB, the piece's share of dMv'. */
SIMD_INLINE void backward_rows(const bool tiled, const job *k,
                               const menu_piece *p)
{
    const layout *x = &k->x;
    const size_t row = p->map * x->n + p->first, rows = p->end - p->first;
    const float *g = k->g->dout + row * x->d;
    const float *saved = (const float *)k->c->save + row * x->s;
    float *da = k->work + x->f + row * x->s, *along = piece_stats(k, p->index);
    float *share = k->work + x->shares_v + p->index * menu_round(x->s * x->d);

    for (size_t j = 0; j < x->s; j++) along[j] = 0;
    /* A stands in for dA until its product with G is done */
    for (size_t i = 0; i < rows; i++)
        normalise_row(saved + i * x->s, x->s, da + i * x->s);
    product(tiled, x->s, x->d, rows, da, 1, x->s, g, x->d, share, x->d, false);
    product(tiled, rows, x->s, x->d, g, x->d, 1, k->c->param[MV], x->s, da,
            x->s, false);
    for (size_t i = 0; i < rows; i++) {
        const float *b = saved + i * x->s;
        double sum = 1e-9, mean = 0;
        for (size_t j = 0; j < x->s; j++) {
            sum += b[j];
            mean += (double)b[j] * da[i * x->s + j];
        }
        mean /= sum; /* a . dA */
        for (size_t j = 0; j < x->s; j++) {
            const float db = (float)((da[i * x->s + j] - mean) / sum);
            da[i * x->s + j] = db;
            along[j] += b[j] * db;
        }
    }
}

SIMD_INLINE void backward_columns(const bool tiled, const job *k,
                                  const menu_piece *p)
{
    const layout *x = &k->x;
    const size_t row = p->map * x->n + p->first, rows = p->end - p->first;
    const float *b = (const float *)k->c->save + row * x->s;
    const float *along = k->work + x->columns + p->map * menu_round(x->s);
    float *df = k->work + x->f + row * x->s;
    float *share = k->work + x->shares_k + p->index * menu_round(x->s * x->d);
    for (size_t i = 0; i < rows * x->s; i++)
        df[i] = b[i] * (df[i] - along[i % x->s]);
    if (k->g->dq)
        product(tiled, rows, x->d, x->s, df, x->s, 1, k->c->param[MK], x->d,
                k->g->dq + row * x->d, x->d, false);
    product(tiled, x->s, x->d, rows, df, 1, x->s,
            (const float *)k->c->q + row * x->d, x->d, share, x->d, false);
}

static void merge_shares(const job *k, size_t at)
{
    const size_t n = k->x.s * k->x.d;
    for (size_t i = 1; i < k->x.pieces.all; i++)
        for (size_t j = 0; j < n; j++)
            k->work[at + j] += k->work[at + i * menu_round(n) + j];
}

SIMD_INLINE void backward(const bool tiled, const att_call *c,
                          const att_grad *g)
{
    const job k = { .c = c, .g = g, .work = c->work,
                    .x = layout_of(c->p, c->threads, ATT_BACKWARD) };
    #pragma omp parallel num_threads(c->threads)
    {
        #pragma omp for
        for (size_t i = 0; i < k.x.pieces.all; i++) {
            const menu_piece p = menu_piece_of(&k.x.pieces, i);
            backward_rows(tiled, &k, &p);
        }
        #pragma omp for
        for (size_t b = 0; b < k.x.batch; b++) merge_stats(&k, b, false);
        #pragma omp for
        for (size_t i = 0; i < k.x.pieces.all; i++) {
            const menu_piece p = menu_piece_of(&k.x.pieces, i);
            backward_columns(tiled, &k, &p);
        }
    }
    merge_shares(&k, k.x.shares_v);
    merge_shares(&k, k.x.shares_k);
    if (g->dparam[MV])
        tile_transpose(k.work + k.x.shares_v, k.x.d, k.x.s, k.x.d,
                       g->dparam[MV], k.x.s, k.x.s, 1);
    if (g->dparam[MK])
        memcpy(g->dparam[MK], k.work + k.x.shares_k,
               k.x.s * k.x.d * sizeof(float));
}

#define STAMP(name, tiled)                                                     \
    static void forward_##name(const att_call *c)                              \
    {                                                                          \
        forward(tiled, c);                                                     \
    }                                                                          \
    static void backward_##name(const att_call *c, const att_grad *g)          \
    {                                                                          \
        backward(tiled, c, g);                                                 \
    }
STAMP(direct, false)
STAMP(tiled, true)
#undef STAMP

ATT_KERNELS = {
    {
        .name = "external.direct",
        .mechanism = "external",
        .brief = "three passes over the tokens, products row by row",
        .plain = true,
        .sizes = sizes,
        .forward = forward_direct,
        .backward = backward_direct,
    },
    {
        .name = "external.tiled",
        .mechanism = "external",
        .brief = "three passes over the tokens, products in register tiles",
        .sizes = sizes,
        .forward = forward_tiled,
        .backward = backward_tiled,
    },
    { 0 },
};
