/* average - the mean of all values so far, as a mechanism and one kernel.
 *
 *     o_i = 1/(i+1) sum_{j<=i} v_j
 *
 * A complete example of a plugin.  In kernels/FAMILY/ the same file would be
 * part of the program, compiled once per level.  Outside:
 *
 *     cc -O2 -march=native -fopenmp -shared -fPIC -Ikernels example.c -o mine.so
 *     attnbench --plugin ./mine.so sweep --kernel average,softmax.flash
 */
#include "reference.h"

#include <string.h>

/* ---- mechanism: the mathematics, in double precision ---------------------- */

/* One head, N tokens, d channels; there are no queries and keys. */
static void shape(const att_problem *p, enum att_slot slot, att_shape *out)
{
    if (slot == ATT_Q || slot == ATT_K) *out = (att_shape){ 0 };
    else *out = (att_shape){ p->heads, (int)att_tokens(p), p->head_dim };
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double n = (double)att_tokens(p), maps = (double)p->batch * p->heads;
    (void)pass; /* backward is the same sum from the other end */
    *out = (att_cost){ .add = maps * n * p->head_dim,
                       .mul = maps * n * p->head_dim,
                       .div = maps * n,
                       .read = 4 * maps * n * p->head_dim,
                       .write = 4 * maps * n * p->head_dim,
                       .pairs = maps * n * (n + 1) / 2 };
}

static void reference_forward(const att_ref *r)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    for (size_t h = 0; h < (size_t)r->p->heads; h++)
        for (size_t c = 0; c < d; c++) {
            double sum = 0;
            for (size_t i = 0; i < n; i++) {
                sum += r->v[(h * n + i) * d + c];
                r->o[(h * n + i) * d + c] = sum * (1 / (double)(i + 1));
            }
        }
    REF_COUNT(r, add, (size_t)r->p->heads * n * d);
    REF_COUNT(r, mul, (size_t)r->p->heads * n * d);
    REF_COUNT(r, div, (size_t)r->p->heads * n);
    REF_COUNT(r, pairs, (size_t)r->p->heads * n * (n + 1) / 2);
}

/* dv_j = sum_{i>=j} do_i / (i+1) */
static void reference_backward(const att_ref *r)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    for (size_t h = 0; r->dv && h < (size_t)r->p->heads; h++)
        for (size_t j = 0; j < n; j++)
            for (size_t i = j; i < n; i++)
                for (size_t c = 0; c < d; c++)
                    r->dv[(h * n + j) * d + c] +=
                        r->dout[(h * n + i) * d + c] / (double)(i + 1);
}

/* Rows [i0, i1) of the matrix A with o = A v. */
static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *a)
{
    const size_t n = att_tokens(r->p);
    (void)h, (void)ch, (void)part;
    for (size_t i = i0; i < i1; i++, a += n)
        for (size_t j = 0; j < n; j++) a[j] = j <= i ? 1 / (double)(i + 1) : 0;
}

ATT_MECHANISMS = {
    {
        .name = "average",
        .family = "example",
        .brief = "the mean of all values so far",
        .formula = "o_i = 1/(i+1) sum_(j<=i) v_j",
        .map = "a lower triangle whose row i holds 1/(i+1)",
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE,
        .shape = shape,
        .cost = cost,
        .forward = reference_forward,
        .backward = reference_backward,
        .rows = rows,
    },
    { 0 },
};

/* ---- kernel: float, threads share the maps (batch x head) ----------------- */

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    (void)threads;
    const size_t maps = (size_t)p->batch * (size_t)p->heads;
    const size_t sums = maps * (size_t)p->head_dim * sizeof(float);
    *out = (att_sizes){ .work = sums, .work_backward = sums };
}

static void forward(const att_call *c)
{
    const size_t n = att_tokens(c->p), d = (size_t)c->p->head_dim;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t map = 0; map < (size_t)(c->p->batch * c->p->heads); map++) {
        const float *v = (const float *)c->v + map * n * d;
        float *o = (float *)c->o + map * n * d, *sum = (float *)c->work + map * d;
        memset(sum, 0, d * sizeof *sum);
        for (size_t i = 0; i < n; i++)
            for (size_t ch = 0; ch < d; ch++) {
                sum[ch] += v[i * d + ch];
                o[i * d + ch] = sum[ch] * (1 / (float)(i + 1));
            }
    }
}

static void backward(const att_call *c, const att_grad *g)
{
    const size_t n = att_tokens(c->p), d = (size_t)c->p->head_dim;
    if (!g->dv) return;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t map = 0; map < (size_t)(c->p->batch * c->p->heads); map++) {
        const float *dout = g->dout + map * n * d;
        float *dv = g->dv + map * n * d, *sum = (float *)c->work + map * d;
        memset(sum, 0, d * sizeof *sum);
        for (size_t i = n; i-- > 0;)
            for (size_t ch = 0; ch < d; ch++) {
                sum[ch] += dout[i * d + ch] * (1 / (float)(i + 1));
                dv[i * d + ch] = sum[ch];
            }
    }
}

ATT_KERNELS = {
    {
        .name = "average.running",
        .mechanism = "average",
        .brief = "running sum, one pass",
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
