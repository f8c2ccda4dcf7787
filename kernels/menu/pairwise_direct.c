/* pairwise.direct - every score by itself, row by row.
 *
 *     s_ij = tau sim(q_i, k_j),  A_i = norm(s_i),  o_i = sum_j A_ij v_j
 *
 * Forward holds one row.  Backward makes the matrices A and dS of every map, by
 * rows, together with dq; dk and dv follow by columns.
 */
#include "pairwise.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Scratch of one thread. */
typedef struct scratch {
    float *s, *a;     /* [m] a row                                           */
    float *x, *y;     /* [d] centred vectors, or [hidden] activations        */
    float *table, *e; /* [(d + 2)^2] warping                                 */
    double *gradient; /* of the MLP: w1q, w1k, b1, w2, b2                    */
} scratch;

static size_t rounded(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

static size_t vector_floats(const att_problem *p)
{
    const size_t d = (size_t)p->head_dim, h = pw_hidden(p);
    return rounded(d > h ? d : h);
}

static size_t table_floats(const att_problem *p)
{
    const size_t d = (size_t)p->head_dim;
    return pw_warps(p) ? rounded((d + 2) * (d + 2)) : 0;
}

static size_t mlp_values(const att_problem *p)
{
    if (p->similarity != ATT_MLP_SIGMOID) return 0;
    return pw_hidden(p) * (2 * (size_t)p->head_dim + 2) + 1;
}

static size_t scratch_floats(const att_problem *p)
{
    return 2 * rounded(att_keys(p)) + 2 * vector_floats(p) +
           2 * table_floats(p) + rounded(2 * mlp_values(p));
}

static size_t matrix_floats(const att_problem *p)
{
    return pw_maps(p) * att_tokens(p) * att_keys(p);
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const size_t own = (size_t)threads * scratch_floats(p);
    *out = (att_sizes){
        .work = own * sizeof(float),
        .work_backward = (own + 2 * matrix_floats(p)) * sizeof(float),
    };
}

static scratch scratch_of(const att_call *c, int thread)
{
    const att_problem *p = c->p;
    float *at = (float *)c->work + (size_t)thread * scratch_floats(p);
    scratch x = { .s = at };
    x.a = at += rounded(att_keys(p));
    x.x = at += rounded(att_keys(p));
    x.y = at += vector_floats(p);
    x.table = at += vector_floats(p);
    x.e = at += table_floats(p);
    x.gradient = (double *)(at + table_floats(p));
    return x;
}

/* ---- similarities -------------------------------------------------------------------- */

static float dot(const float *a, const float *b, size_t n)
{
    float sum = 0;
    #pragma omp simd simdlen(8) reduction(+ : sum)
    for (size_t c = 0; c < n; c++) sum += a[c] * b[c];
    return sum;
}

static float square_distance(const float *a, const float *b, size_t n)
{
    float sum = 0;
    #pragma omp simd simdlen(8) reduction(+ : sum)
    for (size_t c = 0; c < n; c++) sum += (a[c] - b[c]) * (a[c] - b[c]);
    return sum;
}

static void centre(const float *x, size_t d, float *out)
{
    float mean = 0;
    for (size_t c = 0; c < d; c++) mean += x[c];
    mean /= (float)d;
    for (size_t c = 0; c < d; c++) out[c] = x[c] - mean;
}

static float cosine(const float *x, const float *y, size_t d)
{
    const float a = sqrtf(dot(x, x, d)), b = sqrtf(dot(y, y, d));
    return a < PW_NORM_EPS || b < PW_NORM_EPS ? 0 : dot(x, y, d) / (a * b);
}

/* dx += ds times the gradient of the cosine of x and y with respect to x. */
static void cosine_gradient(const float *x, const float *y, size_t d, float ds,
                            bool centred, float *dx)
{
    const float a = sqrtf(dot(x, x, d)), b = sqrtf(dot(y, y, d));
    float mean = 0;
    if (a < PW_NORM_EPS || b < PW_NORM_EPS) return;
    const float c = dot(x, y, d) / (a * b);
    for (size_t i = 0; centred && i < d; i++)
        mean += (y[i] / b - c * x[i] / a) / (float)d;
    for (size_t i = 0; i < d; i++)
        dx[i] += ds / a * (y[i] / b - c * x[i] / a - mean);
}

static bool in_band(const att_problem *p, size_t a, size_t b)
{
    return !p->band || (a > b ? a - b : b - a) <= (size_t)p->band;
}

static float sample_cost(const att_problem *p, float a, float b)
{
    return p->cost == ATT_COST_ABS ? fabsf(a - b) : (a - b) * (a - b);
}

static float sample_slope(const att_problem *p, float a, float b)
{
    if (p->cost == ATT_COST_ABS) return (float)((a > b) - (a < b));
    return 2 * (a - b);
}

static float least(float a, float b)
{
    return a < b ? a : b;
}

/* e^x for x <= 0; 0 below -80, where expf() takes longer. */
static float decay(float x)
{
    const float y = expf(x > -80 ? x : -80);
    return x > -80 ? y : 0;
}

static float soft_min(float a, float b, float c, float gamma)
{
    const float min = least(a, least(b, c));
    if (isinf(min)) return min;
    return min - gamma * logf(decay((min - a) / gamma) +
                              decay((min - b) / gamma) +
                              decay((min - c) / gamma));
}

static float warp(const att_problem *p, const float *q, const float *k,
                  float *table)
{
    const size_t d = (size_t)p->head_dim, w = d + 2;
    for (size_t i = 0; i < w * w; i++) table[i] = INFINITY;
    table[0] = 0;
    for (size_t a = 1; a <= d; a++)
        for (size_t b = 1; b <= d; b++) {
            if (!in_band(p, a, b)) continue;
            const float diagonal = table[(a - 1) * w + b - 1];
            const float up = table[(a - 1) * w + b];
            const float left = table[a * w + b - 1];
            table[a * w + b] =
                sample_cost(p, q[a - 1], k[b - 1]) +
                (p->similarity == ATT_DTW
                     ? least(diagonal, least(up, left))
                     : soft_min(diagonal, up, left, (float)p->gamma));
        }
    return table[d * w + d];
}

/* Ties: diagonal first, then up. */
static void dtw_gradient(const att_problem *p, const float *q, const float *k,
                         float ds, const float *table, float *dq, float *dk)
{
    const size_t d = (size_t)p->head_dim, w = d + 2;
    for (size_t a = d, b = d; a > 0 && b > 0;) {
        const float slope = ds * sample_slope(p, q[a - 1], k[b - 1]);
        if (dq) dq[a - 1] -= slope;
        if (dk) dk[b - 1] += slope;
        const float diagonal = table[(a - 1) * w + b - 1];
        const float up = table[(a - 1) * w + b];
        const float left = table[a * w + b - 1];
        const bool both = (diagonal <= up) & (diagonal <= left);
        const bool rises = up <= left;
        a -= both | rises;
        b -= both | !rises;
    }
}

/* Part of cell (a, b) of the successor's gradient that comes down to `from`. */
static float successor(const att_problem *p, const float *q, const float *k,
                       const float *table, const float *e, size_t from,
                       size_t a, size_t b)
{
    const size_t d = (size_t)p->head_dim, at = a * (d + 2) + b;
    if (a > d || b > d || isinf(table[at])) return 0;
    return e[at] * decay((table[at] - table[from] -
                          sample_cost(p, q[a - 1], k[b - 1])) /
                         (float)p->gamma);
}

static void softdtw_gradient(const att_problem *p, const float *q,
                             const float *k, float ds, const float *table,
                             float *e, float *dq, float *dk)
{
    const size_t d = (size_t)p->head_dim, w = d + 2;
    memset(e, 0, w * w * sizeof *e);
    e[d * w + d] = 1;
    for (size_t a = d; a > 0; a--)
        for (size_t b = d; b > 0; b--) {
            const size_t at = a * w + b;
            if (isinf(table[at])) continue;
            if (at != d * w + d)
                e[at] = successor(p, q, k, table, e, at, a + 1, b) +
                        successor(p, q, k, table, e, at, a, b + 1) +
                        successor(p, q, k, table, e, at, a + 1, b + 1);
            const float slope =
                ds * e[at] * sample_slope(p, q[a - 1], k[b - 1]);
            if (dq) dq[a - 1] -= slope;
            if (dk) dk[b - 1] += slope;
        }
}

/* tanhf() takes as long as its argument wants. */
static vf tanh_of(vf x)
{
    x = v_min(v_max(x, v_set1(-15)), v_set1(15));
    return 1.0f - 2.0f / (1.0f + v_exp(2.0f * x));
}

static float mlp(const att_call *c, const float *q, const float *k, float *y)
{
    const size_t d = (size_t)c->p->head_dim, h = pw_hidden(c->p);
    for (size_t u = 0; u < h; u++)
        y[u] = dot(c->param[PW_W1Q] + u * d, q, d) +
               dot(c->param[PW_W1K] + u * d, k, d) + c->param[PW_B1][u];
    for (size_t u = 0; u < h; u += VL) {
        const size_t lanes = pw_lanes(h, u);
        v_store_n(y + u, tanh_of(v_load_n(y + u, lanes)), lanes);
    }
    return pw_sigmoid(dot(c->param[PW_W2], y, h) + c->param[PW_B2][0]);
}

/* gradient: NULL, or where the parameters' is collected. */
static void mlp_gradient(const att_call *c, const float *q, const float *k,
                         float ds, float *y, double *gradient, float *dq,
                         float *dk)
{
    const size_t d = (size_t)c->p->head_dim, h = pw_hidden(c->p);
    const float s = mlp(c, q, k, y), dz = ds * s * (1 - s);
    double *b1 = gradient ? gradient + 2 * h * d : NULL;
    if (gradient) b1[2 * h] += dz;
    for (size_t u = 0; u < h; u++) {
        const float dy = dz * c->param[PW_W2][u] * (1 - y[u] * y[u]);
        if (gradient) b1[u] += dy;
        if (gradient) b1[h + u] += dz * y[u];
        for (size_t i = 0; i < d; i++) {
            if (dq) dq[i] += dy * c->param[PW_W1Q][u * d + i];
            if (dk) dk[i] += dy * c->param[PW_W1K][u * d + i];
            if (!gradient) continue;
            gradient[u * d + i] += dy * q[i];
            gradient[(h + u) * d + i] += dy * k[i];
        }
    }
}

static float score(const att_call *c, const scratch *x, const float *q,
                   const float *k)
{
    const att_problem *p = c->p;
    const size_t d = (size_t)p->head_dim;
    const float tau = (float)p->tau;
    switch (p->similarity) {
    case ATT_SCALED_DOT: return tau * dot(q, k, d) / sqrtf((float)d);
    case ATT_COSINE: return tau * cosine(q, k, d);
    case ATT_PEARSON:
        centre(q, d, x->x);
        centre(k, d, x->y);
        return d == 1 ? 0 : tau * cosine(x->x, x->y, d);
    case ATT_NEG_EUCLID:
        return -tau * sqrtf(square_distance(q, k, d) + PW_ROOT_EPS);
    case ATT_NEG_SQEUCLID: return -tau * square_distance(q, k, d);
    case ATT_DTW:
    case ATT_SOFTDTW: return -tau * warp(p, q, k, x->table);
    case ATT_MLP_SIGMOID: return tau * mlp(c, q, k, x->y);
    default: return tau * dot(q, k, d);
    }
}

/* Adds ds times the gradient of the score to dq or dk; the other is NULL. */
static void score_gradient(const att_call *c, const scratch *x, const float *q,
                           const float *k, float ds, float *dq, float *dk)
{
    const att_problem *p = c->p;
    const size_t d = (size_t)p->head_dim;
    float factor = ds * (float)p->tau;
    switch (p->similarity) {
    case ATT_PEARSON:
        centre(q, d, x->x);
        centre(k, d, x->y);
        q = x->x;
        k = x->y;
        if (d == 1) return;
        /* fall through */
    case ATT_COSINE: {
        const bool centred = p->similarity == ATT_PEARSON;
        if (dq) cosine_gradient(q, k, d, factor, centred, dq);
        if (dk) cosine_gradient(k, q, d, factor, centred, dk);
        return;
    }
    case ATT_DTW:
        warp(p, q, k, x->table);
        dtw_gradient(p, q, k, factor, x->table, dq, dk);
        return;
    case ATT_SOFTDTW:
        warp(p, q, k, x->table);
        softdtw_gradient(p, q, k, factor, x->table, x->e, dq, dk);
        return;
    case ATT_MLP_SIGMOID: /* its parameters with dq */
        mlp_gradient(c, q, k, factor, x->y, dq ? x->gradient : NULL, dq, dk);
        return;
    case ATT_NEG_EUCLID:
    case ATT_NEG_SQEUCLID:
        factor *= p->similarity == ATT_NEG_EUCLID
                      ? -1 / sqrtf(square_distance(q, k, d) + PW_ROOT_EPS)
                      : -2;
        for (size_t i = 0; i < d; i++) {
            if (dq) dq[i] += factor * (q[i] - k[i]);
            if (dk) dk[i] += factor * (k[i] - q[i]);
        }
        return;
    case ATT_SCALED_DOT: factor /= sqrtf((float)d); break;
    }
    for (size_t i = 0; i < d; i++) {
        if (dq) dq[i] += factor * k[i];
        if (dk) dk[i] += factor * q[i];
    }
}

/* ---- rows ------------------------------------------------------------------------------- */

/* Scores and weights of query i of a map into x->s and x->a. */
static pw_row row_make(const att_call *c, const scratch *x, size_t map,
                       size_t i)
{
    const att_problem *p = c->p;
    const size_t n = att_tokens(p), m = att_keys(p), d = (size_t)p->head_dim;
    const float *q = (const float *)c->q + (map * n + i) * d;
    const float *k = (const float *)c->k + map * m * d;
    const float *mask = pw_mask(c, i);
    const size_t end = pw_end(p, i);
    for (size_t j = 0; j < m; j++)
        x->s[j] = j < end && pw_sees(mask, j) ? score(c, x, q, k + j * d) : 0;
    pw_row row = pw_look(p, x->s, end, mask);
    pw_weights(p->normalisation, &row, x->s, end, m, mask, x->a);
    return row;
}

static void forward(const att_call *c)
{
    const att_problem *p = c->p;
    const size_t n = att_tokens(p), m = att_keys(p), dv = att_value_dim(p);

    #pragma omp parallel for num_threads(c->threads)
    for (size_t row = 0; row < pw_maps(p) * n; row++) {
        const scratch x = scratch_of(c, omp_get_thread_num());
        const float *v = (const float *)c->v + row / n * m * dv;
        float *o = (float *)c->o + row * dv;
        row_make(c, &x, row / n, row % n);
        memset(o, 0, dv * sizeof *o);
        for (size_t j = 0; j < m; j++) {
            if (x.a[j] == 0) continue;
            #pragma omp simd
            for (size_t i = 0; i < dv; i++) o[i] += x.a[j] * v[j * dv + i];
        }
    }
}

/* ---- backward ------------------------------------------------------------------------------ */

/* Row of A and of dS, and dq. */
static void backward_row(const att_call *c, const att_grad *g, size_t row,
                         const scratch *x, float *a, float *ds)
{
    const att_problem *p = c->p;
    const size_t n = att_tokens(p), m = att_keys(p);
    const size_t d = (size_t)p->head_dim, dv = att_value_dim(p);
    const size_t map = row / n, i = row % n;
    const float *q = (const float *)c->q + row * d;
    const float *k = (const float *)c->k + map * m * d;
    const float *v = (const float *)c->v + map * m * dv;
    float *dq = g->dq ? g->dq + row * d : NULL;

    const pw_row how = row_make(c, x, map, i);
    memcpy(a, x->a, m * sizeof *a);
    for (size_t j = 0; j < m; j++) ds[j] = dot(g->dout + row * dv, v + j * dv, dv);
    pw_weights_backward(p->normalisation, &how, x->s, a, pw_end(p, i), m,
                        pw_mask(c, i), ds);
    if (dq) memset(dq, 0, d * sizeof *dq);
    /* the MLP's parameters are collected on the way, dq wanted or not */
    float *to = dq ? dq : x->x;
    if (!dq && p->similarity != ATT_MLP_SIGMOID) return;
    /* what is seen, not what is not 0: of equal values nothing would be left */
    for (size_t j = 0; j < pw_end(p, i); j++)
        if (pw_sees(pw_mask(c, i), j))
            score_gradient(c, x, q, k + j * d, ds[j], to, NULL);
}

static void backward_column(const att_call *c, const att_grad *g, size_t key,
                            const scratch *x, const float *a, const float *ds)
{
    const att_problem *p = c->p;
    const size_t n = att_tokens(p), m = att_keys(p);
    const size_t d = (size_t)p->head_dim, dv = att_value_dim(p);
    const size_t map = key / m, j = key % m;
    const float *k = (const float *)c->k + key * d;
    float *dk = g->dk ? g->dk + key * d : NULL;
    float *to = g->dv ? g->dv + key * dv : NULL;
    if (dk) memset(dk, 0, d * sizeof *dk);
    if (to) memset(to, 0, dv * sizeof *to);
    for (size_t i = 0; i < n; i++) {
        const size_t row = map * n + i, at = row * m + j;
        const float *q = (const float *)c->q + row * d;
        if (dk && j < pw_end(p, i) && pw_sees(pw_mask(c, i), j))
            score_gradient(c, x, q, k, ds[at], NULL, dk);
        for (size_t f = 0; to && f < dv; f++)
            to[f] += a[at] * g->dout[row * dv + f];
    }
}

/* The threads' shares of the gradient of the MLP's parameters. */
static void merge_mlp(const att_call *c, const att_grad *g)
{
    const size_t d = (size_t)c->p->head_dim, h = pw_hidden(c->p);
    const struct { int parameter; size_t n; } part[] = {
        { PW_W1Q, h * d }, { PW_W1K, h * d }, { PW_B1, h }, { PW_W2, h },
        { PW_B2, 1 },
    };
    size_t at = 0;
    for (size_t i = 0; i < sizeof part / sizeof *part; at += part[i++].n) {
        float *out = g->dparam[part[i].parameter];
        for (size_t t = 0; out && t < part[i].n; t++) {
            double sum = 0;
            for (int thread = 0; thread < c->threads; thread++)
                sum += scratch_of(c, thread).gradient[at + t];
            out[t] = (float)sum;
        }
    }
}

static void backward(const att_call *c, const att_grad *g)
{
    const att_problem *p = c->p;
    const size_t n = att_tokens(p), m = att_keys(p);
    float *a = (float *)c->work + (size_t)c->threads * scratch_floats(p);
    float *ds = a + matrix_floats(p);

    for (int thread = 0; thread < c->threads; thread++)
        memset(scratch_of(c, thread).gradient, 0,
               mlp_values(p) * sizeof(double));
    #pragma omp parallel for schedule(static) num_threads(c->threads)
    for (size_t row = 0; row < pw_maps(p) * n; row++) {
        const scratch x = scratch_of(c, omp_get_thread_num());
        backward_row(c, g, row, &x, a + row * m, ds + row * m);
    }
    if (p->similarity == ATT_MLP_SIGMOID) merge_mlp(c, g);
    #pragma omp parallel for schedule(static) num_threads(c->threads)
    for (size_t key = 0; key < pw_maps(p) * m; key++) {
        const scratch x = scratch_of(c, omp_get_thread_num());
        backward_column(c, g, key, &x, a, ds);
    }
}

ATT_KERNELS = {
    {
        .name = "pairwise.direct",
        .mechanism = "pairwise",
        .brief = "every score by itself, row by row",
        .plain = true,
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
