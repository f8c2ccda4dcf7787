/* softmax.gemm - what a framework does without a fused kernel: S = Q K' by BLAS,
 * softmax of the rows in place, O = P V by BLAS.
 *
 * Scratch: one N x M matrix (all of them when backward follows), so it is bound
 * by the traffic of that matrix, and by BLAS: a packaged OpenBLAS may not know
 * the CPU and run AVX2 code on an AVX-512 machine (`attnbench doctor` tells).
 *
 * Threads share a map by rows, and by columns where sums go over rows; each
 * calls a BLAS of one thread.  A BLAS with threads of its own would compete with
 * those of OpenMP, which wait actively: two threads were slower than one.
 */
#include "../att.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
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

/* C[m][n] = alpha op(A) op(B) + beta C; rows of op(A) in memory are lda apart,
 * the other matrices are dense. */
static void gemm(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha,
                 const float *a, size_t lda, const float *b, float beta,
                 float *c)
{
    if (m == 0) return;
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans,
                tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha,
                a, (int)lda, b, (int)(tb ? k : n), beta, c, (int)n);
}

/* This thread's part of n. */
typedef struct range {
    size_t from, count;
} range;

static range part_of(size_t n)
{
    const size_t threads = (size_t)omp_get_num_threads();
    const size_t me = (size_t)omp_get_thread_num();
    const size_t from = n * me / threads;
    return (range){ from, n * (me + 1) / threads - from };
}

/* Softmax of the first `end` of m entries, zeros behind; returns lse.  A row of
 * -infinity saw nothing. */
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
    const float inverse = sum > 0 ? 1 / sum : 0;
    for (j = 0; j < end; j++) a[j] *= inverse;
    memset(a + end, 0, (m - end) * sizeof *a);
    return sum > 0 ? max + logf(sum) : -INFINITY;
}

/* Some rows of the weights of one map. */
static void weights(const att_call *c, const shape *s, size_t map, range r,
                    float *a)
{
    const float *bias = c->param[0];
    if (bias) bias += (map % s->heads * s->n + r.from) * s->m;
    for (size_t i = 0; bias && i < r.count * s->m; i++)
        a[i] = bias[i] < -V_LOWEST ? bias[i] : -V_LOWEST; /* not infinity */
    gemm(false, true, r.count, s->m, s->d, s->scale,
         (const float *)c->q + (map * s->n + r.from) * s->d, s->d,
         (const float *)c->k + map * s->m * s->d, bias ? 1 : 0, a);
    for (size_t i = 0; i < r.count; i++) {
        const size_t row = r.from + i;
        const size_t end = s->causal ? row + s->m - s->n + 1 : s->m;
        const float lse = softmax_row(a + i * s->m, end, s->m);
        if (c->extra[0]) c->extra[0][map * s->n + row] = lse;
    }
}

static void forward(const att_call *c)
{
    const shape s = shape_of(c->p);
    openblas_set_num_threads(1);
    #pragma omp parallel num_threads(c->threads)
    for (size_t map = 0; map < s.maps; map++) {
        const range r = part_of(s.n);
        float *a = c->save ? (float *)c->save + map * s.n * s.m : c->work;
        a += r.from * s.m;
        weights(c, &s, map, r, a);
        gemm(false, false, r.count, s.dv, s.m, 1, a, s.m,
             (const float *)c->v + map * s.m * s.dv, 0,
             (float *)c->o + (map * s.n + r.from) * s.dv);
    }
}

/* dA = dO V' becomes dS = A (dA - rowsum(dO O)) in place: some rows. */
static void backward_softmax(const att_call *c, const shape *s, size_t map,
                             range r, const float *dout, const float *a,
                             float *ds)
{
    for (size_t i = r.from; i < r.from + r.count; i++) {
        const size_t row = map * s->n + i;
        const float *o = (const float *)c->o + row * s->dv;
        float mean = 0;
        for (size_t e = 0; e < s->dv; e++) mean += dout[row * s->dv + e] * o[e];
        for (size_t j = 0; j < s->m; j++)
            ds[i * s->m + j] = a[i * s->m + j] * (ds[i * s->m + j] - mean);
    }
}

/* Rows of dS, of the gradient of the bias, and of dQ. */
static void backward_rows(const att_call *c, const att_grad *g, const shape *s,
                          size_t map, range r)
{
    const float *a = (const float *)c->save + map * s->n * s->m;
    float *ds = c->work, *mine = ds + r.from * s->m, *dbias = g->dparam[0];
    gemm(false, true, r.count, s->m, s->dv, 1,
         g->dout + (map * s->n + r.from) * s->dv, s->dv,
         (const float *)c->v + map * s->m * s->dv, 0, mine);
    backward_softmax(c, s, map, r, g->dout, a, ds);
    if (dbias) {
        dbias += (map % s->heads * s->n + r.from) * s->m;
        for (size_t i = 0; i < r.count * s->m; i++) dbias[i] += mine[i];
    }
    if (g->dq)
        gemm(false, false, r.count, s->d, s->m, s->scale, mine, s->m,
             (const float *)c->k + map * s->m * s->d, 0,
             g->dq + (map * s->n + r.from) * s->d);
}

/* Columns of the weights, which are rows of dV and dK. */
static void backward_columns(const att_call *c, const att_grad *g,
                             const shape *s, size_t map, range r)
{
    const float *a = (const float *)c->save + map * s->n * s->m + r.from;
    const float *ds = (const float *)c->work + r.from;
    const size_t at = map * s->m + r.from;
    if (g->dv)
        gemm(true, false, r.count, s->dv, s->n, 1, a, s->m,
             g->dout + map * s->n * s->dv, 0, g->dv + at * s->dv);
    if (g->dk)
        gemm(true, false, r.count, s->d, s->n, s->scale, ds, s->m,
             (const float *)c->q + map * s->n * s->d, 0, g->dk + at * s->d);
}

static void backward(const att_call *c, const att_grad *g)
{
    const shape s = shape_of(c->p);
    openblas_set_num_threads(1);
    if (g->dparam[0])
        memset(g->dparam[0], 0, s.heads * s.n * s.m * sizeof(float));
    #pragma omp parallel num_threads(c->threads)
    for (size_t map = 0; map < s.maps; map++) {
        backward_rows(c, g, &s, map, part_of(s.n));
        #pragma omp barrier
        backward_columns(c, g, &s, map, part_of(s.m));
        #pragma omp barrier
    }
}

ATT_KERNELS = {
    {
        .name = "softmax.gemm",
        .mechanism = "softmax",
        .brief = "BLAS for both products, whole matrix in memory",
        .blas = true,
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
