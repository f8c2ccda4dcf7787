/* fastformer.direct, fastformer.tiled - two poolings and one product.
 *
 *     Q = sum alpha_j q_j,  K = Q * sum beta_j k_j,  O = Q_in (W_r diag K)' + b + q
 *
 * p_j = Q * k_j is never stored: w_k . p_j = (w_k * Q) . k_j.  Each pooling is
 * logits, softmax per head, weighted sum; tokens are cut into pieces whose sums
 * are joined in order.  Backward: dU = G W_r, dq = g + dU * K, dK = sum dU * q,
 * dW_r = diag-scaled G' Q_in; then the poolings from the last to the first.
 * The two kernels differ in how the C x C products are done.
 */
#include "product.h"

#include <math.h>
#include <omp.h>

enum { WQA, BQA, WKA, BKA, WR, BR, MASK };

enum { ROWS = 32 }; /* tokens of dU at a time */

typedef struct layout {
    menu_pieces pieces;
    size_t n, c, d, heads, batch;
    size_t wide; /* floats of a piece's sums: [C], and h (C + 1) for scores */
    size_t wt, sums, scaled, dvectors, dl, product, own, per_thread, work;
    size_t vectors, save; /* of the saved arrays: weights come first        */
} layout;

static layout layout_of(const att_problem *p, int threads, enum att_pass pass)
{
    layout x = { .n = att_tokens(p), .d = (size_t)p->head_dim };
    const bool back = pass == ATT_BACKWARD;
    size_t at = 0;
    x.heads = (size_t)p->heads;
    x.c = x.heads * x.d;
    x.batch = (size_t)p->batch;
    x.pieces = menu_cut(x.n, x.batch, threads, 32);
    x.wide = menu_round(2 * x.c + x.heads * (x.c + 1));
    x.wt = at, at += menu_round(x.c * x.c);
    x.sums = at, at += x.pieces.all * x.wide;
    x.scaled = at, at += x.batch * menu_round(x.heads * x.c);
    x.dvectors = at, at += x.batch * menu_round(x.c);
    x.dl = at, at += menu_round(x.batch * x.heads * x.n);
    x.product = at, at += back ? menu_round(x.c * x.c) : 0;
    x.own = at;
    x.per_thread = back ? ROWS * x.c : 0;
    x.work = at + (size_t)threads * menu_round(x.per_thread);
    /* kept: alpha and beta [batch][h][n], then Q and K [batch][C] */
    x.vectors = 2 * x.batch * x.heads * x.n;
    x.save = x.vectors + 2 * x.batch * x.c;
    return x;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const layout x = layout_of(p, threads, ATT_FORWARD);
    *out = (att_sizes){
        .save = x.save * sizeof(float),
        .work = (x.work + x.save) * sizeof(float),
        .work_backward =
            layout_of(p, threads, ATT_BACKWARD).work * sizeof(float),
    };
}

/* One of the poolings: of q with w_q, or of Q * k with w_k. */
enum pooling { OF_Q, OF_K };

typedef struct job {
    const att_call *c;
    const att_grad *g;
    layout x;
    float *work;
    float *weights[2], *vector[2]; /* by pooling                            */
    float scale;                   /* 1 / sqrt d                            */
} job;

static job job_of(const att_call *c, const att_grad *g)
{
    job k = { .c = c, .g = g, .work = c->work };
    k.x = layout_of(c->p, c->threads, g ? ATT_BACKWARD : ATT_FORWARD);
    float *kept = c->save ? c->save : (float *)c->work + k.x.work;
    k.weights[OF_Q] = kept;
    k.weights[OF_K] = kept + k.x.vectors / 2;
    k.vector[OF_Q] = kept + k.x.vectors;
    k.vector[OF_K] = k.vector[OF_Q] + k.x.batch * k.x.c;
    k.scale = 1 / sqrtf((float)c->p->head_dim);
    return k;
}

static float dot(const float *a, const float *b, size_t n)
{
    vf sum = v_zero();
    size_t i = 0;
    for (; i + VL <= n; i += VL) sum = v_fma(v_load(a + i), v_load(b + i), sum);
    if (i < n) sum = v_fma(v_load_n(a + i, n - i), v_load_n(b + i, n - i), sum);
    return v_sum(sum);
}

static void axpy(float *y, float s, const float *x, size_t n)
{
    #pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] += s * x[i];
}

static void zero(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = 0;
}

static const float *tokens(const job *k, enum pooling which, size_t row)
{
    const void *x = which == OF_Q ? k->c->q : k->c->k;
    return (const float *)x + row * k->x.c;
}

/* ---- pooling ----------------------------------------------------------------------------- */

/* Score vectors [h][C] of the keys of a batch entry, times Q. */
static void scale_scores(const job *k, size_t b)
{
    const layout *x = &k->x;
    float *out = k->work + x->scaled + b * menu_round(x->heads * x->c);
    const float *q = k->vector[OF_Q] + b * x->c;
    for (size_t i = 0; i < x->heads * x->c; i++)
        out[i] = k->c->param[WKA][i] * q[i % x->c];
}

/* Logits of a piece; padding is far below unless everything is padding. */
static void make_logits(const job *k, enum pooling which, const menu_piece *p)
{
    const layout *x = &k->x;
    const float *w = which == OF_Q ? k->c->param[WQA]
                                   : k->work + x->scaled +
                                         p->map * menu_round(x->heads * x->c);
    const float *bias = k->c->param[which == OF_Q ? BQA : BKA];
    for (size_t j = p->first; j < p->end; j++) {
        const float *row = tokens(k, which, p->map * x->n + j);
        for (size_t h = 0; h < x->heads; h++)
            k->weights[which][(p->map * x->heads + h) * x->n + j] =
                (dot(w + h * x->c, row, x->c) + bias[h]) * k->scale;
    }
}

static bool all_padding(const job *k)
{
    const float *mask = k->c->param[MASK];
    for (size_t j = 0; mask && j < k->x.n; j++)
        if (mask[j] != 0) return false;
    return true;
}

/* Softmax over the tokens of one head.  A partial mask value m subtracts
 * 10000 (1 - m); with all tokens at 0 that cancels. */
static void softmax(const job *k, enum pooling which, size_t map, bool padded)
{
    const size_t n = k->x.n;
    const float *mask = padded ? k->c->param[MASK] : NULL;
    float *a = k->weights[which] + map * n, max = -INFINITY;
    vf sums = v_zero();
    for (size_t j = 0; j < n; j++) {
        if (mask) a[j] -= 10000 * (1 - mask[j]);
        max = a[j] > max ? a[j] : max;
    }
    for (size_t j = 0; j < n; j += VL) {
        const size_t lanes = n - j < VL ? n - j : VL;
        const vf e = v_exp(v_max(v_load_n(a + j, lanes) - max, v_set1(-200)));
        sums += v_first(e, lanes);
        v_store_n(a + j, e, lanes);
    }
    const float sum = v_sum(sums);
    for (size_t j = 0; j < n; j++) a[j] /= sum;
}

static void sum_piece(const job *k, enum pooling which, const menu_piece *p)
{
    const layout *x = &k->x;
    float *sum = k->work + x->sums + p->index * x->wide;
    zero(sum, x->c);
    for (size_t j = p->first; j < p->end; j++) {
        const float *row = tokens(k, which, p->map * x->n + j);
        for (size_t h = 0; h < x->heads; h++)
            axpy(sum + h * x->d,
                 k->weights[which][(p->map * x->heads + h) * x->n + j],
                 row + h * x->d, x->d);
    }
}

/* Sums n floats at `at` of the pieces' sums of a batch entry. */
static void merge(const job *k, size_t b, size_t at, size_t n, float *out)
{
    const layout *x = &k->x;
    zero(out, n);
    for (size_t i = 0; i < x->pieces.each; i++)
        axpy(out, 1,
             k->work + x->sums + (b * x->pieces.each + i) * x->wide + at, n);
}

static void make_vector(const job *k, enum pooling which, size_t b)
{
    float *out = k->vector[which] + b * k->x.c;
    const float *q = k->vector[OF_Q] + b * k->x.c;
    merge(k, b, 0, k->x.c, out);
    for (size_t i = 0; which == OF_K && i < k->x.c; i++) out[i] *= q[i];
}

static void pool(const job *k, enum pooling which, bool padded)
{
    const layout *x = &k->x;
    #pragma omp parallel num_threads(k->c->threads)
    {
        #pragma omp for
        for (size_t b = 0; b < (which == OF_K ? x->batch : 0); b++)
            scale_scores(k, b);
        #pragma omp for
        for (size_t i = 0; i < x->pieces.all; i++) {
            const menu_piece p = menu_piece_of(&x->pieces, i);
            make_logits(k, which, &p);
        }
        #pragma omp for
        for (size_t map = 0; map < x->batch * x->heads; map++)
            softmax(k, which, map, padded);
        #pragma omp for
        for (size_t i = 0; i < x->pieces.all; i++) {
            const menu_piece p = menu_piece_of(&x->pieces, i);
            sum_piece(k, which, &p);
        }
        #pragma omp for
        for (size_t b = 0; b < x->batch; b++) make_vector(k, which, b);
    }
}

/* ---- forward ---------------------------------------------------------------------------------- */

/* Pieces of one batch entry: wt [C][C] = (W_r diag K)', then the outputs. */
SIMD_INLINE void outputs(const bool tiled, const job *k, size_t b)
{
    const layout *x = &k->x;
    const float *vector = k->vector[OF_K] + b * x->c;
    float *wt = k->work + x->wt;
    #pragma omp parallel num_threads(k->c->threads)
    {
        #pragma omp for
        for (size_t c = 0; c < x->c; c++)
            for (size_t o = 0; o < x->c; o++)
                wt[c * x->c + o] = k->c->param[WR][o * x->c + c] * vector[c];
        #pragma omp for
        for (size_t i = 0; i < x->pieces.each; i++) {
            const menu_piece p = menu_piece_of(&x->pieces, i);
            const size_t row = b * x->n + p.first, rows = p.end - p.first;
            const float *q = (const float *)k->c->q + row * x->c;
            float *o = (float *)k->c->o + row * x->c;
            for (size_t t = 0; t < rows * x->c; t++)
                o[t] = q[t] + k->c->param[BR][t % x->c];
            product(tiled, rows, x->c, x->c, q, x->c, 1, wt, x->c, o, x->c,
                    true);
        }
    }
}

SIMD_INLINE void forward(const bool tiled, const att_call *c)
{
    const job k = job_of(c, NULL);
    const bool padded = !all_padding(&k);
    pool(&k, OF_Q, padded);
    pool(&k, OF_K, padded);
    for (size_t b = 0; b < k.x.batch; b++) outputs(tiled, &k, b);
}

/* ---- backward ----------------------------------------------------------------------------------- */

/* dq = g + dU * K, and the piece's sums of dU * q and of g. */
SIMD_INLINE void output_piece(const bool tiled, const job *k,
                              const menu_piece *p)
{
    const layout *x = &k->x;
    const float *vector = k->vector[OF_K] + p->map * x->c;
    float *sum = k->work + x->sums + p->index * x->wide;
    float *du = k->work + x->own +
                (size_t)omp_get_thread_num() * menu_round(x->per_thread);
    zero(sum, 2 * x->c);
    for (size_t j = p->first; j < p->end; j += ROWS) {
        const size_t rows = p->end - j < ROWS ? p->end - j : ROWS;
        const size_t at = (p->map * x->n + j) * x->c;
        const float *g = k->g->dout + at, *q = (const float *)k->c->q + at;
        product(tiled, rows, x->c, x->c, g, x->c, 1, k->c->param[WR], x->c, du,
                x->c, false);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < x->c; c++) {
                const size_t i = r * x->c + c;
                sum[c] += du[i] * q[i];
                sum[x->c + c] += g[i];
                if (k->g->dq) k->g->dq[at + i] = g[i] + du[i] * vector[c];
            }
    }
}

/* dW_r[o][c] = K_c sum_i g_io q_ic, summed over the batch. */
SIMD_INLINE void output_weights(const bool tiled, const job *k, float *dwr)
{
    const layout *x = &k->x;
    enum { BLOCK = 16 };
    for (size_t b = 0; b < x->batch; b++) {
        const float *vector = k->vector[OF_K] + b * x->c;
        const size_t at = b * x->n * x->c;
        #pragma omp parallel for num_threads(k->c->threads)
        for (size_t o = 0; o < x->c; o += BLOCK) {
            const size_t rows = x->c - o < BLOCK ? x->c - o : BLOCK;
            float *sum = k->work + x->product + o * x->c;
            product(tiled, rows, x->c, x->n, k->g->dout + at + o, 1, x->c,
                    (const float *)k->c->q + at, x->c, sum, x->c, false);
            for (size_t i = 0; i < rows * x->c; i++)
                dwr[o * x->c + i] = sum[i] * vector[i % x->c] +
                                    (b > 0 ? dwr[o * x->c + i] : 0);
        }
    }
}

/* Gradient of the weights: da_j = dv_h . x_j, x = Q * k for the keys. */
static void weight_gradients(const job *k, enum pooling which,
                             const menu_piece *p)
{
    const layout *x = &k->x;
    const float *dv = k->work + x->dvectors + p->map * menu_round(x->c);
    const float *q = k->vector[OF_Q] + p->map * x->c;
    for (size_t j = p->first; j < p->end; j++) {
        const float *row = tokens(k, which, p->map * x->n + j);
        for (size_t h = 0; h < x->heads; h++) {
            float sum = 0;
            for (size_t i = h * x->d; i < (h + 1) * x->d; i++)
                sum += dv[i] * (which == OF_K ? q[i] : 1) * row[i];
            k->work[x->dl + (p->map * x->heads + h) * x->n + j] = sum;
        }
    }
}

/* dl = a (da - mean) / sqrt d; in double, since one weight may be nearly 1. */
static void softmax_backward(const job *k, enum pooling which, size_t map)
{
    const size_t n = k->x.n;
    const float *a = k->weights[which] + map * n;
    float *da = k->work + k->x.dl + map * n;
    double along = 0, sum = 0;
    for (size_t j = 0; j < n; j++) {
        along += (double)a[j] * da[j];
        sum += a[j];
    }
    for (size_t j = 0; j < n; j++)
        da[j] = (float)(a[j] * (da[j] - along / sum) * k->scale);
}

/* dx_j = a_j dv + sum_h dl_jh w_h: into dq (added), or times Q into dk, and the
 * sums dx * k (the gradient of Q), dl_h row, dl_h of the piece. */
static void token_gradients(const job *k, enum pooling which,
                            const menu_piece *p)
{
    const layout *x = &k->x;
    const float *dv = k->work + x->dvectors + p->map * menu_round(x->c);
    const float *w = k->c->param[which == OF_Q ? WQA : WKA];
    const float *q = k->vector[OF_Q] + p->map * x->c;
    float *sum = k->work + x->sums + p->index * x->wide;
    float *scores = sum + 2 * x->c, *biases = scores + x->heads * x->c;
    zero(sum, x->c);
    zero(scores, x->heads * (x->c + 1));
    for (size_t j = p->first; j < p->end; j++) {
        const size_t row = p->map * x->n + j;
        const float *t = tokens(k, which, row);
        for (size_t h = 0; h < x->heads; h++) {
            const float dl = k->work[x->dl + (p->map * x->heads + h) * x->n + j];
            axpy(scores + h * x->c, dl, t, x->c);
            biases[h] += dl;
        }
        for (size_t c = 0; c < x->c; c++) {
            const size_t map = (p->map * x->heads + c / x->d) * x->n + j;
            float dx = k->weights[which][map] * dv[c];
            for (size_t h = 0; h < x->heads; h++)
                dx += k->work[x->dl + (p->map * x->heads + h) * x->n + j] *
                      w[h * x->c + c];
            if (which == OF_Q) {
                if (k->g->dq) k->g->dq[row * x->c + c] += dx;
                continue;
            }
            sum[c] += dx * t[c];
            if (k->g->dk) k->g->dk[row * x->c + c] = dx * q[c];
        }
    }
}

/* Adds a batch entry's gradient of the scores' parameters.  A bias is the same for
 * all tokens of a softmax, which it leaves as it is: its gradient is 0, and a sum
 * of rounded terms would not be. */
static void merge_scores(const job *k, enum pooling which, size_t b)
{
    const layout *x = &k->x;
    float *dw = k->g->dparam[which == OF_Q ? WQA : WKA];
    float *db = k->g->dparam[which == OF_Q ? BQA : BKA];
    const float *q = k->vector[OF_Q] + b * x->c;
    if (dw && b == 0) zero(dw, x->heads * x->c);
    if (db && b == 0) zero(db, x->heads);
    for (size_t i = 0; i < x->pieces.each; i++) {
        const float *sum = k->work + x->sums +
                           (b * x->pieces.each + i) * x->wide + 2 * x->c;
        for (size_t t = 0; dw && t < x->heads * x->c; t++)
            dw[t] += sum[t] * (which == OF_K ? q[t % x->c] : 1);
    }
}

/* From dvectors, the gradient of the pooled vector, to tokens and parameters;
 * for the keys dvectors becomes that of Q. */
static void pool_backward(const job *k, enum pooling which)
{
    const layout *x = &k->x;
    #pragma omp parallel num_threads(k->c->threads)
    {
        #pragma omp for
        for (size_t i = 0; i < x->pieces.all; i++) {
            const menu_piece p = menu_piece_of(&x->pieces, i);
            weight_gradients(k, which, &p);
        }
        #pragma omp for
        for (size_t map = 0; map < x->batch * x->heads; map++)
            softmax_backward(k, which, map);
        #pragma omp for
        for (size_t i = 0; i < x->pieces.all; i++) {
            const menu_piece p = menu_piece_of(&x->pieces, i);
            token_gradients(k, which, &p);
        }
    }
    for (size_t b = 0; b < x->batch; b++) {
        merge_scores(k, which, b);
        if (which == OF_K)
            merge(k, b, 0, x->c,
                  k->work + x->dvectors + b * menu_round(x->c));
    }
}

SIMD_INLINE void backward(const bool tiled, const att_call *c,
                          const att_grad *g)
{
    const job k = job_of(c, g);
    const layout *x = &k.x;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t i = 0; i < x->pieces.all; i++) {
        const menu_piece p = menu_piece_of(&x->pieces, i);
        output_piece(tiled, &k, &p);
    }
    if (g->dparam[BR]) zero(g->dparam[BR], x->c);
    for (size_t b = 0; b < x->batch; b++) {
        merge(&k, b, 0, x->c, k.work + x->dvectors + b * menu_round(x->c));
        for (size_t i = 0; g->dparam[BR] && i < x->pieces.each; i++)
            axpy(g->dparam[BR], 1,
                 k.work + x->sums + (b * x->pieces.each + i) * x->wide + x->c,
                 x->c);
    }
    if (g->dparam[WR]) output_weights(tiled, &k, g->dparam[WR]);
    pool_backward(&k, OF_K);
    pool_backward(&k, OF_Q);
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
        .name = "fastformer.direct",
        .mechanism = "fastformer",
        .brief = "two poolings, the output product row by row",
        .plain = true,
        .sizes = sizes,
        .forward = forward_direct,
        .backward = backward_direct,
    },
    {
        .name = "fastformer.tiled",
        .mechanism = "fastformer",
        .brief = "two poolings, the output product in register tiles",
        .sizes = sizes,
        .forward = forward_tiled,
        .backward = backward_tiled,
    },
    { 0 },
};
