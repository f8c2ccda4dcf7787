/* softmax.naive - the textbook: the whole N x M matrix is made, normalised row
 * by row, multiplied with V.
 *
 * Scratch: the matrix of every head that a thread works on, kept for backward.
 * It is the baseline for memory and traffic; its rows end in horizontal sums,
 * so wider vectors hardly help.
 */
#include "../att.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <string.h>

static size_t maps(const att_problem *p)
{
    return (size_t)p->batch * (size_t)p->heads;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    (void)threads;
    const size_t matrix =
        maps(p) * att_tokens(p) * att_keys(p) * sizeof(float);
    /* Forward leaves the weights in `save` when there will be a backward. */
    *out = (att_sizes){ .work = matrix, .save = matrix,
                        .work_backward = matrix };
}

static float scale_of(const att_problem *p)
{
    return p->scale != 0 ? (float)p->scale : 1 / sqrtf((float)p->head_dim);
}

static size_t seen(const att_problem *p, size_t i)
{
    const size_t n = att_tokens(p), m = att_keys(p);
    return att_at(&p->causal, 0, 0) ? i + m - n + 1 : m;
}

static float dot(const float *a, const float *b, size_t n)
{
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (size_t c = 0; c < n; c++) sum += a[c] * b[c];
    return sum;
}

static void axpy(float *y, float a, const float *x, size_t n)
{
    #pragma omp simd
    for (size_t c = 0; c < n; c++) y[c] += a * x[c];
}

/* Weights of one row into a[m]; bias may be NULL. */
static void weights(const att_problem *p, const float *q, const float *k,
                    const float *bias, size_t end, float *a)
{
    const size_t m = att_keys(p), d = (size_t)p->head_dim;
    float max = -INFINITY, sum = 0;
    for (size_t j = 0; j < end; j++) {
        a[j] = scale_of(p) * dot(q, k + j * d, d) +
               (bias ? fminf(bias[j], FLT_MAX) : 0);
        max = fmaxf(max, a[j]);
    }
    if (max == -INFINITY) max = 0; /* all masked by the bias: a zero row */
    for (size_t j = 0; j < end; j++) sum += a[j] = expf(a[j] - max);
    for (size_t j = 0; j < end; j++) a[j] /= sum > 0 ? sum : 1;
    for (size_t j = end; j < m; j++) a[j] = 0;
}

static void forward(const att_call *c)
{
    const att_problem *p = c->p;
    const size_t n = att_tokens(p), m = att_keys(p);
    const size_t d = (size_t)p->head_dim, dv = att_value_dim(p);
    float *matrix = c->save ? c->save : c->work;

    #pragma omp parallel for num_threads(c->threads)
    for (size_t row = 0; row < maps(p) * n; row++) {
        const size_t map = row / n, i = row % n;
        const float *v = (const float *)c->v + map * m * dv;
        const float *bias = c->param[0];
        if (bias) bias += ((map % (size_t)p->heads) * n + i) * m;
        float *a = matrix + row * m, *o = (float *)c->o + row * dv;

        weights(p, (const float *)c->q + row * d,
                (const float *)c->k + map * m * d, bias, seen(p, i), a);
        memset(o, 0, dv * sizeof *o);
        for (size_t j = 0; j < seen(p, i); j++) axpy(o, a[j], v + j * dv, dv);
    }
    if (!c->extra[0]) return;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t row = 0; row < maps(p) * n; row++) {
        const size_t map = row / n, i = row % n;
        const float *q = (const float *)c->q + row * d;
        const float *k = (const float *)c->k + map * m * d;
        const float *bias = c->param[0];
        if (bias) bias += ((map % (size_t)p->heads) * n + i) * m;
        /* the key with the largest weight: lse = s_j - ln a_j */
        size_t top = 0;
        for (size_t j = 1; j < seen(p, i); j++)
            if (matrix[row * m + j] > matrix[row * m + top]) top = j;
        const float a = matrix[row * m + top];
        c->extra[0][row] = a > 0 ? scale_of(p) * dot(q, k + top * d, d) +
                                       (bias ? bias[top] : 0) - logf(a)
                                 : -INFINITY; /* saw nothing */
    }
}

/* dS = A (dO V' - rowsum(dO O)), in place of dA.  Then dV = A' dO, dQ = dS K,
 * dK = dS' Q.  Threads own rows in the first loop and columns in the second. */
static void backward(const att_call *c, const att_grad *g)
{
    const att_problem *p = c->p;
    const size_t n = att_tokens(p), m = att_keys(p);
    const size_t d = (size_t)p->head_dim, dv = att_value_dim(p);
    const float *A = c->save, scale = scale_of(p);
    float *dS = c->work;

    #pragma omp parallel for num_threads(c->threads)
    for (size_t row = 0; row < maps(p) * n; row++) {
        const size_t map = row / n;
        const float *k = (const float *)c->k + map * m * d;
        const float *v = (const float *)c->v + map * m * dv;
        const float *dout = g->dout + row * dv, *a = A + row * m;
        const float mean = dot(dout, (const float *)c->o + row * dv, dv);
        float *ds = dS + row * m;
        if (g->dq) memset(g->dq + row * d, 0, d * sizeof(float));
        for (size_t j = 0; j < m; j++) {
            ds[j] = a[j] * (dot(dout, v + j * dv, dv) - mean);
            if (g->dq) axpy(g->dq + row * d, scale * ds[j], k + j * d, d);
        }
    }
    #pragma omp parallel for num_threads(c->threads)
    for (size_t column = 0; column < maps(p) * m; column++) {
        const size_t map = column / m, j = column % m;
        if (g->dk) memset(g->dk + column * d, 0, d * sizeof(float));
        if (g->dv) memset(g->dv + column * dv, 0, dv * sizeof(float));
        for (size_t i = 0; i < n; i++) {
            const size_t row = map * n + i;
            if (g->dk)
                axpy(g->dk + column * d, scale * dS[row * m + j],
                     (const float *)c->q + row * d, d);
            if (g->dv)
                axpy(g->dv + column * dv, A[row * m + j], g->dout + row * dv,
                     dv);
        }
    }
    if (!g->dparam[0]) return;
    const size_t one = (size_t)p->heads * n * m;
    memcpy(g->dparam[0], dS, one * sizeof(float));
    for (size_t b = 1; b < (size_t)p->batch; b++)
        axpy(g->dparam[0], 1, dS + b * one, one);
}

ATT_KERNELS = {
    {
        .name = "softmax.naive",
        .mechanism = "softmax",
        .brief = "whole matrix in memory, row dot products",
        .plain = true,
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
