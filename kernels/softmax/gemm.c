/* softmax.gemm - what a framework does without a fused kernel: S = Q K' by BLAS,
 * softmax of the rows in place, O = P V by BLAS.
 *
 * Scratch: one N x M matrix (all of them when backward follows), so it is bound
 * by the traffic of that matrix, and by BLAS: a packaged OpenBLAS may not know
 * the CPU and run AVX2 code on an AVX-512 machine (`attnbench doctor` tells).
 */
#include "../att.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "../simd.h"

typedef struct shape {
    size_t maps, heads, n, m, d, dv;
    bool causal;
    float scale;
} shape;

static shape shape_of(const att_problem *p)
{
    return (shape){
        (size_t)p->batch * (size_t)p->heads,
        (size_t)p->heads,
        att_tokens(p),
        att_keys(p),
        (size_t)p->head_dim,
        att_value_dim(p),
        att_at(&p->causal, 0, 0),
        p->scale != 0 ? (float)p->scale : 1 / sqrtf((float)p->head_dim),
    };
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    (void)threads;
    const shape s = shape_of(p);
    const size_t one = s.n * s.m * sizeof(float);
    *out = (att_sizes){ .work = one, .save = s.maps * one,
                        .work_backward = one };
}

/* C[m][n] = alpha op(A) op(B) + beta C, row-major and dense. */
static void gemm(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha,
                 const float *a, const float *b, float beta, float *c)
{
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans,
                tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha,
                a, (int)(ta ? m : k), b, (int)(tb ? k : n), beta, c, (int)n);
}

/* Softmax of the first `end` of m entries, zeros behind; returns lse. */
static float softmax_row(float *a, size_t end, size_t m)
{
    vf maxima = v_set1(V_LOWEST), sums = v_zero();
    size_t j = 0;
    for (; j + VL <= end; j += VL) maxima = v_max(maxima, v_load(a + j));
    float max = v_hmax(maxima), sum = 0;
    for (; j < end; j++) max = a[j] > max ? a[j] : max;
    for (j = 0; j + VL <= end; j += VL) {
        const vf e = v_exp(v_load(a + j) - max);
        v_store(a + j, e);
        sums += e;
    }
    for (; j < end; j++) sum += a[j] = expf(a[j] - max);
    sum += v_sum(sums);
    const bool none = max <= 0.5f * V_LOWEST;
    const float inverse = none ? 0 : 1 / sum;
    for (j = 0; j < end; j++) a[j] *= inverse;
    memset(a + end, 0, (m - end) * sizeof *a);
    return none ? -INFINITY : max + logf(sum);
}

/* Weights of one map. */
static void weights(const att_call *c, const shape *s, size_t map, float *a)
{
    const float *bias = c->param[0];
    if (bias) {
        bias += map % s->heads * s->n * s->m;
        memcpy(a, bias, s->n * s->m * sizeof *a);
    }
    gemm(false, true, s->n, s->m, s->d, s->scale,
         (const float *)c->q + map * s->n * s->d,
         (const float *)c->k + map * s->m * s->d, bias ? 1 : 0, a);
    #pragma omp parallel for num_threads(c->threads)
    for (size_t i = 0; i < s->n; i++) {
        const size_t end = s->causal ? i + s->m - s->n + 1 : s->m;
        const float lse = softmax_row(a + i * s->m, end, s->m);
        if (c->extra[0]) c->extra[0][map * s->n + i] = lse;
    }
}

static void forward(const att_call *c)
{
    const shape s = shape_of(c->p);
    openblas_set_num_threads(c->threads);
    for (size_t map = 0; map < s.maps; map++) {
        float *a = c->save ? (float *)c->save + map * s.n * s.m : c->work;
        weights(c, &s, map, a);
        gemm(false, false, s.n, s.dv, s.m, 1, a,
             (const float *)c->v + map * s.m * s.dv, 0,
             (float *)c->o + map * s.n * s.dv);
    }
}

/* dA = dO V' becomes dS = A (dA - rowsum(dO O)) in place. */
static void backward_softmax(const att_call *c, const shape *s, size_t map,
                             const float *dout, const float *a, float *ds)
{
    #pragma omp parallel for num_threads(c->threads)
    for (size_t i = 0; i < s->n; i++) {
        const size_t row = map * s->n + i;
        const float *o = (const float *)c->o + row * s->dv;
        float mean = 0;
        for (size_t e = 0; e < s->dv; e++) mean += dout[row * s->dv + e] * o[e];
        for (size_t j = 0; j < s->m; j++)
            ds[i * s->m + j] = a[i * s->m + j] * (ds[i * s->m + j] - mean);
    }
}

static void backward(const att_call *c, const att_grad *g)
{
    const shape s = shape_of(c->p);
    const size_t matrix = s.n * s.m;
    float *ds = c->work, *dbias = g->dparam[0];
    openblas_set_num_threads(c->threads);
    if (dbias) memset(dbias, 0, s.heads * matrix * sizeof *dbias);

    for (size_t map = 0; map < s.maps; map++) {
        const float *a = (const float *)c->save + map * matrix;
        const float *q = (const float *)c->q + map * s.n * s.d;
        const float *k = (const float *)c->k + map * s.m * s.d;
        const float *dout = g->dout + map * s.n * s.dv;
        gemm(false, true, s.n, s.m, s.dv, 1, dout,
             (const float *)c->v + map * s.m * s.dv, 0, ds);
        backward_softmax(c, &s, map, g->dout, a, ds);
        if (dbias)
            for (size_t i = 0; i < matrix; i++)
                dbias[map % s.heads * matrix + i] += ds[i];
        if (g->dv)
            gemm(true, false, s.m, s.dv, s.n, 1, a, dout, 0,
                 g->dv + map * s.m * s.dv);
        if (g->dq)
            gemm(false, false, s.n, s.d, s.m, s.scale, ds, k, 0,
                 g->dq + map * s.n * s.d);
        if (g->dk)
            gemm(true, false, s.m, s.d, s.n, s.scale, ds, q, 0,
                 g->dk + map * s.m * s.d);
    }
}

ATT_KERNELS = {
    {
        .name = "softmax.gemm",
        .mechanism = "softmax",
        .brief = "BLAS for both products, whole matrix in memory",
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
