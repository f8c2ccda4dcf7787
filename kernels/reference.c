#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double *ref_new(size_t n)
{
    double *x = calloc(n ? n : 1, sizeof *x);
    if (!x) abort();
    return x;
}

double ref_dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t c = 0; c < n; c++) sum += a[c] * b[c];
    return sum;
}

double ref_taps(int n, int side)
{
    double taps = 0;
    for (int t = -(side / 2); t <= side / 2; t++)
        taps += n > abs(t) ? n - abs(t) : 0;
    return taps;
}

/* ---- softmax over visible pairs ------------------------------------------------- */

typedef struct row {
    size_t n;       /* pairs                                                */
    ref_pair *pair;
    double *weight; /* P_ij                                                 */
    double lse;
} row;

static row row_new(size_t most)
{
    row x = { .pair = malloc((most + 1) * sizeof *x.pair),
              .weight = ref_new(most) };
    if (!x.pair) abort();
    return x;
}

static void row_free(row *x)
{
    free(x->pair);
    free(x->weight);
}

/* Weights of query i. */
static void row_make(const att_ref *r, const ref_visible *visible, int h,
                     size_t i, row *x)
{
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    const size_t d = (size_t)r->p->head_dim;
    const double *q = r->q + ((size_t)h * n + i) * d;
    const double *k = r->k + (size_t)h * m * d;

    x->n = visible->pairs(r, h, i, x->pair);
    double max = -INFINITY, sum = 0;
    for (size_t t = 0; t < x->n; t++) {
        const ref_pair *pair = &x->pair[t];
        double s = pair->bias;
        if (pair->key >= 0)
            s += visible->scale * ref_dot(q, k + (size_t)pair->key * d, d);
        REF_COUNT(r, mul_add, d);
        REF_COUNT(r, mul, 1);
        REF_COUNT(r, add, visible->dbias != NULL);
        x->weight[t] = s;
        max = fmax(max, s);
    }
    for (size_t t = 0; t < x->n; t++) {
        const double s = x->weight[t];
        x->weight[t] = isinf(max) ? max > 0 && s == max : exp(s - max);
        sum += x->weight[t];
        REF_COUNT(r, add, 3); /* maximum, minus maximum, sum */
        REF_COUNT(r, exp, 1);
    }
    for (size_t t = 0; t < x->n; t++) x->weight[t] /= sum > 0 ? sum : 1;
    x->lse = sum > 0 ? max + log(sum) : -INFINITY;
    REF_COUNT(r, pairs, x->n);
}

void ref_attend(const att_ref *r, const ref_visible *visible)
{
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    const size_t dv = att_value_dim(r->p);
    row x = row_new(visible->most);

    for (int h = 0; h < r->p->heads; h++) {
        const double *v = r->v + (size_t)h * m * dv;
        for (size_t i = 0; i < n; i++) {
            double *o = r->o + ((size_t)h * n + i) * dv;
            row_make(r, visible, h, i, &x);
            memset(o, 0, dv * sizeof *o);
            for (size_t t = 0; t < x.n; t++) {
                REF_COUNT(r, mul_add, dv);
                if (x.pair[t].key < 0) continue;
                for (size_t c = 0; c < dv; c++)
                    o[c] += x.weight[t] * v[(size_t)x.pair[t].key * dv + c];
            }
            REF_COUNT(r, div, dv);
            if (visible->lse) visible->lse[(size_t)h * n + i] = x.lse;
        }
    }
    row_free(&x);
}

/* dS_ij = P_ij (g_i.v_j - g_i.o_i), then the sums of section 0. */
static void attend_backward_query(const att_ref *r, const ref_visible *visible,
                                  int h, size_t i, const row *x)
{
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    const size_t d = (size_t)r->p->head_dim, dv = att_value_dim(r->p);
    const size_t at = (size_t)h * n + i;
    const double *q = r->q + at * d, *g = r->dout + at * dv;
    double mean = 0; /* g_i . o_i */

    for (size_t t = 0; t < x->n; t++) {
        if (x->pair[t].key < 0) continue;
        const size_t j = (size_t)h * m + (size_t)x->pair[t].key;
        mean += x->weight[t] * ref_dot(g, r->v + j * dv, dv);
    }
    for (size_t t = 0; t < x->n; t++) {
        const size_t j = (size_t)h * m + (size_t)x->pair[t].key;
        const bool real = x->pair[t].key >= 0;
        const double dp = real ? ref_dot(g, r->v + j * dv, dv) : 0;
        const double ds = x->weight[t] * (dp - mean);
        if (visible->dbias) visible->dbias(r, h, i, &x->pair[t], ds);
        if (!real) continue;
        for (size_t c = 0; c < d; c++) {
            if (r->dq) r->dq[at * d + c] += visible->scale * ds * r->k[j * d + c];
            if (r->dk) r->dk[j * d + c] += visible->scale * ds * q[c];
        }
        for (size_t c = 0; r->dv && c < dv; c++)
            r->dv[j * dv + c] += x->weight[t] * g[c];
    }
}

void ref_attend_backward(const att_ref *r, const ref_visible *visible)
{
    row x = row_new(visible->most);
    for (int h = 0; h < r->p->heads; h++)
        for (size_t i = 0; i < att_tokens(r->p); i++) {
            row_make(r, visible, h, i, &x);
            attend_backward_query(r, visible, h, i, &x);
        }
    row_free(&x);
}

void ref_attend_rows(const att_ref *r, const ref_visible *visible, int h,
                     size_t i0, size_t i1, double *a)
{
    const size_t m = att_keys(r->p);
    row x = row_new(visible->most);
    memset(a, 0, (i1 - i0) * m * sizeof *a);
    for (size_t i = i0; i < i1; i++) {
        row_make(r, visible, h, i, &x);
        for (size_t t = 0; t < x.n; t++)
            if (x.pair[t].key >= 0)
                a[(i - i0) * m + (size_t)x.pair[t].key] += x.weight[t];
    }
    row_free(&x);
}

void ref_attend_cost(const att_problem *p, double pairs, bool biased,
                     enum att_pass pass, att_cost *out)
{
    const double maps = (double)p->batch * p->heads;
    const double n = (double)att_tokens(p), m = (double)att_keys(p);
    const double d = p->head_dim, dv = (double)att_value_dim(p);
    const double q = 4 * maps * n * d, k = 4 * maps * m * d;
    const double v = 4 * maps * m * dv, o = 4 * maps * n * dv;

    if (pass == ATT_FORWARD)
        *out = (att_cost){
            .mul_add = pairs * (d + dv),
            .add = pairs * (3 + biased),
            .mul = pairs,
            .div = maps * n * dv,
            .exp = pairs,
            .read = q + k + v,
            .write = o,
            .pairs = pairs,
        };
    else /* S = QK', dP = G V', dV = P' G, dQ = dS K, dK = dS' Q */
        *out = (att_cost){
            .mul_add = pairs * (3 * d + 2 * dv) + maps * n * dv,
            .add = pairs * (2 + 2 * biased),
            .mul = pairs * 2,
            .exp = pairs,
            .read = q + k + v + 2 * o,
            .write = q + k + v,
            .pairs = pairs,
        };
}
