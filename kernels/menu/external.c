/* external - external attention: tokens attend to a learned memory.
 *
 *     F = X Mk',  A = softmax of F over the N tokens (columns),
 *     A_i := A_i / (1e-9 + sum_s A_is),   O = A Mv'
 *                                                      [guo2021external]
 *
 * x [N][d], mk [S][d], mv [d][S], S = memory; heads are one width.
 */
#include "../reference.h"

#include <math.h>
#include <stdlib.h>

enum { MK, MV };

#define ROW_EPS 1e-9

static const char *reject(const att_problem *p)
{
    if (p->memory < 1) return "memory must be at least 1";
    return NULL;
}

static void shape(const att_problem *p, enum att_slot slot, att_shape *out)
{
    (void)p;
    if (slot == ATT_K || slot == ATT_V) out->tokens = 0;
}

static int parameters(const att_problem *p, att_tensor *out)
{
    const int d = p->head_dim, s = p->memory;
    out[MK] = (att_tensor){ .name = "mk", .dims = 2, .dim = { s, d },
                            .init = ATT_INIT_NORMAL, .std = 1 / sqrt(d) };
    out[MV] = (att_tensor){ .name = "mv", .dims = 2, .dim = { d, s },
                            .init = ATT_INIT_NORMAL, .std = 1 / sqrt(s) };
    return 2;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double n = (double)p->batch * (double)att_tokens(p);
    const double d = p->head_dim, s = p->memory;
    const double x = 4 * n * d, memory = 8 * s * d;
    if (pass == ATT_FORWARD)
        *out = (att_cost){
            .mul_add = n * s * 2 * d,
            .add = n * (s * 4 + 1), /* maximum, minus it, two sums, eps */
            .div = n * s * 2,
            .exp = n * s,
            .read = x + memory,
            .write = x,
            .pairs = n * s,
        };
    else /* F again, dA = G Mv, dMv = G' A, dX = dF Mk, dMk = dF' X */
        *out = (att_cost){
            .mul_add = n * s * (5 * d + 2),
            .add = n * (s * 6 + 1),
            .mul = n * s * 2,
            .div = n * s * 3,
            .exp = n * s,
            .read = 2 * x + memory,
            .write = x + memory,
            .pairs = n * s,
        };
}

static size_t columns(const att_problem *p)
{
    return (size_t)p->memory;
}

/* Softmax over tokens into b [N][S], then rows normalised into a. */
static void weights(const att_ref *r, double *b, double *a)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const size_t s = (size_t)r->p->memory;
    for (size_t j = 0; j < s; j++) {
        double max = -INFINITY, sum = 0;
        for (size_t i = 0; i < n; i++) {
            b[i * s + j] = ref_dot(r->q + i * d, r->param[MK] + j * d, d);
            max = fmax(max, b[i * s + j]);
        }
        for (size_t i = 0; i < n; i++)
            sum += b[i * s + j] = exp(b[i * s + j] - max);
        for (size_t i = 0; i < n; i++) b[i * s + j] /= sum;
    }
    for (size_t i = 0; i < n; i++) {
        double sum = ROW_EPS;
        for (size_t j = 0; j < s; j++) sum += b[i * s + j];
        for (size_t j = 0; j < s; j++) a[i * s + j] = b[i * s + j] / sum;
    }
    REF_COUNT(r, mul_add, n * s * d);
    REF_COUNT(r, add, n * (4 * s + 1));
    REF_COUNT(r, exp, n * s);
    REF_COUNT(r, div, 2 * n * s);
    REF_COUNT(r, pairs, n * s);
}

static void forward(const att_ref *r)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const size_t s = (size_t)r->p->memory;
    double *b = ref_new(n * s), *a = ref_new(n * s);
    weights(r, b, a);
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < d; c++)
            r->o[i * d + c] = ref_dot(a + i * s, r->param[MV] + c * s, s);
    REF_COUNT(r, mul_add, n * s * d);
    free(a);
    free(b);
}

/* From da in place: through the division by the row sum (db = (da - a . da) /
 * sum, sum = b / a), then through the softmax over tokens. */
static void weights_backward(const double *b, const double *a, size_t n,
                             size_t s, double *da)
{
    for (size_t i = 0; i < n; i++) {
        double sum = ROW_EPS;
        for (size_t j = 0; j < s; j++) sum += b[i * s + j];
        const double along = ref_dot(a + i * s, da + i * s, s);
        for (size_t j = 0; j < s; j++)
            da[i * s + j] = (da[i * s + j] - along) / sum;
    }
    for (size_t j = 0; j < s; j++) {
        double along = 0;
        for (size_t i = 0; i < n; i++) along += b[i * s + j] * da[i * s + j];
        for (size_t i = 0; i < n; i++)
            da[i * s + j] = b[i * s + j] * (da[i * s + j] - along);
    }
}

static void backward(const att_ref *r)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const size_t s = (size_t)r->p->memory;
    double *b = ref_new(n * s), *a = ref_new(n * s), *da = ref_new(n * s);
    weights(r, b, a);
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < d; c++)
            for (size_t j = 0; j < s; j++) {
                const double g = r->dout[i * d + c];
                da[i * s + j] += g * r->param[MV][c * s + j];
                if (r->dparam[MV])
                    r->dparam[MV][c * s + j] += g * a[i * s + j];
            }
    weights_backward(b, a, n, s, da);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < s; j++)
            for (size_t c = 0; c < d; c++) {
                const double df = da[i * s + j];
                if (r->dq) r->dq[i * d + c] += df * r->param[MK][j * d + c];
                if (r->dparam[MK])
                    r->dparam[MK][j * d + c] += df * r->q[i * d + c];
            }
    free(da);
    free(a);
    free(b);
}

static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *out)
{
    const size_t n = att_tokens(r->p), s = (size_t)r->p->memory;
    (void)h, (void)ch, (void)part;
    double *b = ref_new(n * s), *a = ref_new(n * s);
    weights(r, b, a);
    for (size_t i = i0 * s; i < i1 * s; i++) out[i - i0 * s] = a[i];
    free(a);
    free(b);
}

ATT_MECHANISMS = {
    {
        .name = "external",
        .family = "menu",
        .brief = "external attention: tokens attend to a learned memory",
        .formula = "A = softmax over tokens of X Mk', rows divided by their "
                   "sum, O = A Mv'",
        .map = "no N x N form: N x S, the weight of each memory row for each "
               "token; rows sum to 1",
        .paper_cost = "O(d S N); ours: 4 N d S FLOPs for the two products and "
                      "8 N S for the double normalisation",
        .cite = "guo2021external",
        .inputs = { "x", NULL, NULL },
        .traits = ATT_ROWS_SUM_1 | ATT_NONNEGATIVE | ATT_ONE_WIDTH,
        .uses = ATT_USE(memory),
        .reject = reject,
        .shape = shape,
        .parameters = parameters,
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
        .columns = columns,
    },
    { 0 },
};
