/* pairwise - a menu: similarity x normalisation x mask.
 *
 *     s_ij = tau sim(q_i, k_j),   A_i = norm(s_ij over the visible j),
 *     o_i = sum_j A_ij v_j
 *
 * Similarities: dot; scaled_dot (1/sqrt d); cosine; pearson (cosine of vectors
 * minus their mean); neg_euclid, neg_sqeuclid; dtw [sakoe1978dtw] and softdtw
 * [cuturi2017softdtw], minus the warping distance of two series of length d;
 * mlp_sigmoid, sigmoid(w2 . tanh(W1q q + W1k k + b1) + b2) [bahdanau2015].
 * Normalisations: softmax; sigmoid(s + offset) [ramapuram2024sigmoid], whose
 * authors take -ln M; l1, s / sum |s|; max,
 * s / max |s|; expmax, exp(s - max s); minmax, (s - min) / (max - min); none.
 * The denominators of l1, max and minmax are at least 1e-6.
 *
 * A pair that the mask drops has weight exactly 0 and takes no part in sums or
 * extrema; a row without visible pairs is zero and has no gradient.
 */
#include "../reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MASK, W1Q, W1K, B1, W2, B2 };

#define NORM_EPS 1e-8   /* shorter vectors have cosine 0                    */
#define ROOT_EPS 1e-12  /* inside the root of neg_euclid                    */
#define CLAMP 1e-6      /* least denominator                                */

/* ---- visible pairs -------------------------------------------------------------------- */

static bool causal(const att_problem *p)
{
    return att_at(&p->causal, 0, 0);
}

/* Keys below this are not in the future of query i. */
static size_t causal_end(const att_problem *p, size_t i)
{
    const size_t n = att_tokens(p), m = att_keys(p);
    if (!causal(p)) return m;
    return i + m < n ? 0 : i + m - n + 1;
}

/* Largest distance of two tokens along an axis of the grid. */
static size_t distance(const att_problem *p, size_t i, size_t j)
{
    size_t most = 0;
    for (int a = p->grid.n - 1; a >= 0; a--) {
        const size_t side = (size_t)p->grid.v[a];
        const size_t x = i % side, y = j % side, gap = x > y ? x - y : y - x;
        if (gap > most) most = gap;
        i /= side;
        j /= side;
    }
    return most;
}

/* The default `prior`: every other key, from a random one of the first two. */
static size_t prior_phase(const att_problem *p, size_t i)
{
    uint64_t x = ((uint64_t)p->seed << 32 | (uint64_t)i) + 1;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x >> 63;
}

/* Whether the default mask of p keeps the pair. */
static bool default_keep(const att_problem *p, size_t i, size_t j)
{
    const size_t r = (size_t)p->radius, g = (size_t)p->globals;
    switch (p->mask) {
    case ATT_MASK_BAND: return i > j ? i - j <= r : j - i <= r;
    case ATT_MASK_BAND2D: return distance(p, i, j) <= r;
    case ATT_MASK_GLOBAL: return i < g || j < g;
    case ATT_MASK_LOCAL_GLOBAL: return i < g || j < g || distance(p, i, j) <= r;
    case ATT_MASK_PRIOR: return (j + prior_phase(p, i)) % 2 == 0;
    default: return true;
    }
}

/* Tokens within the radius of i on every axis. */
static double neighbours(const att_problem *p, size_t i)
{
    double count = 1;
    for (int a = p->grid.n - 1; a >= 0; a--) {
        const size_t side = (size_t)p->grid.v[a], x = i % side;
        const size_t r = (size_t)p->radius;
        const size_t lo = x > r ? x - r : 0;
        const size_t hi = r < side - 1 - x ? x + r : side - 1;
        count *= (double)(hi - lo + 1);
        i /= side;
    }
    return count;
}

/* Visible keys of query i under the default mask. */
static double visible(const att_problem *p, size_t i)
{
    const size_t m = att_keys(p), end = causal_end(p, i);
    const size_t r = (size_t)p->radius;
    const size_t g = (size_t)p->globals < m ? (size_t)p->globals : m;
    double count;
    switch (p->mask) {
    case ATT_MASK_BAND: {
        const size_t lo = i > r ? i - r : 0, hi = i + r + 1 < end ? i + r + 1 : end;
        return hi > lo ? (double)(hi - lo) : 0;
    }
    case ATT_MASK_BAND2D: return neighbours(p, i);
    case ATT_MASK_GLOBAL: return i < g ? (double)m : (double)g;
    case ATT_MASK_LOCAL_GLOBAL:
        if (i < g) return (double)m;
        count = neighbours(p, i) + (double)g;
        for (size_t j = 0; j < g; j++) count -= distance(p, i, j) <= r;
        return count;
    case ATT_MASK_PRIOR: return (double)((m + 1 - prior_phase(p, i)) / 2);
    default: return (double)end;
    }
}

static bool keep(const att_ref *r, size_t i, size_t j)
{
    const double *mask = r->param[MASK];
    return j < causal_end(r->p, i) &&
           (!mask || mask[i * att_keys(r->p) + j] != 0);
}

/* ---- problem ----------------------------------------------------------------------------- */

static size_t hidden(const att_problem *p)
{
    return (size_t)(p->hidden ? p->hidden : p->head_dim);
}

static bool warps(const att_problem *p)
{
    return p->similarity == ATT_DTW || p->similarity == ATT_SOFTDTW;
}

static const char *reject(const att_problem *p)
{
    if (p->mask == ATT_MASK_BAND2D || p->mask == ATT_MASK_LOCAL_GLOBAL)
        if (att_keys(p) != att_tokens(p))
            return "this mask needs as many keys as queries";
    if (causal(p) && p->mask != ATT_MASK_NONE && p->mask != ATT_MASK_BAND)
        return "causal goes with mask none or band";
    for (int a = 1; a < p->causal.n; a++)
        if (!p->causal.v[a] != !p->causal.v[0])
            return "causal follows the raster order of the tokens: use one "
                   "value, causal=1";
    if (p->offset != 0 && p->normalisation != ATT_NORM_SIGMOID)
        return "an offset goes with normalisation=sigmoid: it would cancel or "
               "change the scores of others";
    if (p->similarity == ATT_SOFTDTW && !(p->gamma > 0))
        return "soft-DTW needs gamma above 0";
    if (warps(p) && p->head_dim > 4096)
        return "warping tables need head_dim of at most 4096";
    return NULL;
}

static int parameters(const att_problem *p, att_tensor *out)
{
    static const char *const names[] = { "mask", "w1q", "w1k",
                                         "b1",   "w2",  "b2" };
    const int d = p->head_dim, h = (int)hidden(p);
    for (int i = MASK; i <= B2; i++)
        out[i] = (att_tensor){ .name = names[i], .dims = 1 };
    if (p->mask != ATT_MASK_NONE) {
        out[MASK].dims = 2;
        out[MASK].dim[0] = (int)att_tokens(p);
        out[MASK].dim[1] = (int)att_keys(p);
        out[MASK].init = ATT_INIT_FILL;
        out[MASK].fixed = true;
    }
    if (p->similarity != ATT_MLP_SIGMOID) return 6;
    for (int i = W1Q; i <= W1K; i++) {
        out[i].dims = 2;
        out[i].dim[0] = h;
        out[i].dim[1] = d;
        out[i].init = ATT_INIT_NORMAL;
        out[i].std = 1 / sqrt(d);
    }
    out[B1].dim[0] = out[W2].dim[0] = h;
    out[W2].init = ATT_INIT_NORMAL;
    out[W2].std = 1 / sqrt(h);
    out[B2].dim[0] = 1;
    return 6;
}

static void fill(const att_problem *p, int index, float *data)
{
    const size_t n = att_tokens(p), m = att_keys(p);
    (void)index;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++)
            data[i * m + j] = default_keep(p, i, j);
}

/* ---- cost ------------------------------------------------------------------------------------ */

/* Cells of a warping table within the band. */
static double cells(const att_problem *p)
{
    const double d = p->head_dim, r = fmin(p->band, d - 1);
    return p->band ? d * (2 * r + 1) - r * (r + 1) : d * d;
}

/* Operations of one score. */
static att_cost score_cost(const att_problem *p)
{
    const double d = p->head_dim, h = (double)hidden(p), c = cells(p);
    const double square = p->cost == ATT_COST_SQUARE;
    switch (p->similarity) {
    case ATT_COSINE:
    case ATT_PEARSON: return (att_cost){ .mul_add = d, .mul = 2, .div = 1 };
    case ATT_NEG_EUCLID:
        return (att_cost){ .mul_add = d, .add = d + 1, .mul = 1, .exp = 1 };
    case ATT_NEG_SQEUCLID:
        return (att_cost){ .mul_add = d, .add = d, .mul = 1 };
    case ATT_DTW: /* difference, two comparisons, sum */
        return (att_cost){ .add = 4 * c, .mul = c * square + 1 };
    case ATT_SOFTDTW: /* and three exp and a log of the sum */
        return (att_cost){ .add = 10 * c, .mul = c * (1 + square) + 1,
                           .div = 3 * c, .exp = 4 * c };
    case ATT_MLP_SIGMOID:
        return (att_cost){ .mul_add = h, .add = h + 2, .mul = 1, .div = 1,
                           .exp = h + 1 };
    default: return (att_cost){ .mul_add = d, .mul = 1 };
    }
}

/* Operations on one vector, done once: norms, means, the MLP's first layer. */
static att_cost vector_cost(const att_problem *p)
{
    const double d = p->head_dim, h = (double)hidden(p);
    switch (p->similarity) {
    case ATT_COSINE: return (att_cost){ .mul_add = d, .exp = 1 };
    case ATT_PEARSON:
        return (att_cost){ .mul_add = d, .add = 2 * d, .div = 1, .exp = 1 };
    case ATT_MLP_SIGMOID: return (att_cost){ .mul_add = d * h, .add = h / 2 };
    default: return (att_cost){ 0 };
    }
}

/* Operations of one weight, and of one row. */
static att_cost weight_cost(const att_problem *p)
{
    switch (p->normalisation) {
    case ATT_NORM_SOFTMAX: return (att_cost){ .add = 3, .exp = 1 };
    case ATT_NORM_SIGMOID:
        return (att_cost){ .add = 1 + (p->offset != 0), .div = 1, .exp = 1 };
    case ATT_NORM_EXPMAX: return (att_cost){ .add = 2, .exp = 1 };
    case ATT_NORM_MINMAX: return (att_cost){ .add = 3 };
    case ATT_NORM_NONE: return (att_cost){ 0 };
    default: return (att_cost){ .add = 1 };
    }
}

static att_cost row_cost(const att_problem *p)
{
    const bool divides = p->normalisation != ATT_NORM_SIGMOID &&
                         p->normalisation != ATT_NORM_EXPMAX &&
                         p->normalisation != ATT_NORM_NONE;
    return (att_cost){ .div = divides * (double)att_value_dim(p) };
}

/* Gradient of one score with respect to q and k, beyond the score itself. */
static att_cost score_gradient_cost(const att_problem *p)
{
    const double d = p->head_dim, h = (double)hidden(p), c = cells(p);
    switch (p->similarity) {
    case ATT_NEG_EUCLID:
    case ATT_NEG_SQEUCLID:
        return (att_cost){ .mul_add = 2 * d, .add = d, .mul = 1, .div = 1 };
    case ATT_DTW: /* a path has at most 2 d - 1 cells */
        return (att_cost){ .mul_add = 4 * d, .add = 6 * d };
    case ATT_SOFTDTW:
        return (att_cost){ .mul_add = 5 * c, .add = 7 * c, .div = 3 * c,
                           .exp = 3 * c };
    case ATT_MLP_SIGMOID:
        return (att_cost){ .mul_add = 3 * h, .add = 2 * h, .mul = 2 * h + 2 };
    default: return (att_cost){ .mul_add = 2 * d, .mul = 1 };
    }
}

static void add_cost(att_cost *to, const att_cost *x, double n)
{
    to->mul_add += n * x->mul_add;
    to->add += n * x->add;
    to->mul += n * x->mul;
    to->div += n * x->div;
    to->exp += n * x->exp;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double maps = (double)p->batch * p->heads;
    const double n = (double)att_tokens(p), m = (double)att_keys(p);
    const double d = p->head_dim, dv = (double)att_value_dim(p);
    double pairs = 0;
    for (size_t i = 0; i < att_tokens(p); i++) pairs += visible(p, i);

    const att_cost score = score_cost(p), weight = weight_cost(p);
    const att_cost vector = vector_cost(p), row = row_cost(p);
    *out = (att_cost){ .mul_add = maps * pairs * dv, .pairs = maps * pairs };
    add_cost(out, &score, maps * pairs);
    add_cost(out, &weight, maps * pairs);
    add_cost(out, &vector, maps * (n + m));
    add_cost(out, &row, maps * n);

    const double mask = p->mask == ATT_MASK_NONE ? 0 : 4 * n * m;
    out->read = 4 * maps * (n * d + m * d + m * dv) + mask;
    out->write = 4 * maps * n * dv;
    if (pass == ATT_FORWARD) return;
    /* dA = g v', dV = A' g, ds from dA, and what the similarity makes of ds */
    const att_cost gradient = score_gradient_cost(p);
    out->mul_add += maps * pairs * (dv + 1);
    out->add += maps * pairs;
    out->mul += maps * pairs;
    add_cost(out, &gradient, maps * pairs);
    add_cost(out, &vector, maps * (n + m));
    out->read += 4 * maps * n * dv;
    out->write = 4 * maps * (n * d + m * d + m * dv);
}

/* ---- similarities ------------------------------------------------------------------------------ */

/* Scratch of one pair. */
typedef struct scratch {
    double *x, *y;    /* [d] centred vectors, or [hidden] activations       */
    double *table;    /* [(d+2)^2] warping                                  */
    double *gradient; /* likewise                                           */
} scratch;

static scratch scratch_new(const att_problem *p)
{
    const size_t d = (size_t)p->head_dim;
    const size_t n = hidden(p) > d ? hidden(p) : d;
    const size_t table = warps(p) ? (d + 2) * (d + 2) : 0;
    return (scratch){ ref_new(n), ref_new(n), ref_new(table), ref_new(table) };
}

static void scratch_free(scratch *s)
{
    free(s->x);
    free(s->y);
    free(s->table);
    free(s->gradient);
}

static void centre(const double *x, size_t d, double *out)
{
    double mean = 0;
    for (size_t c = 0; c < d; c++) mean += x[c] / (double)d;
    for (size_t c = 0; c < d; c++) out[c] = x[c] - mean;
}

static double cosine(const double *x, const double *y, size_t d)
{
    const double a = sqrt(ref_dot(x, x, d)), b = sqrt(ref_dot(y, y, d));
    return a < NORM_EPS || b < NORM_EPS ? 0 : ref_dot(x, y, d) / (a * b);
}

/* Adds ds times the gradient of the cosine with respect to x. */
static void cosine_gradient(const double *x, const double *y, size_t d,
                            double ds, bool centred, double *dx)
{
    const double a = sqrt(ref_dot(x, x, d)), b = sqrt(ref_dot(y, y, d));
    double mean = 0;
    if (!dx || a < NORM_EPS || b < NORM_EPS) return;
    const double c = ref_dot(x, y, d) / (a * b);
    for (size_t i = 0; centred && i < d; i++)
        mean += (y[i] / b - c * x[i] / a) / (double)d;
    for (size_t i = 0; i < d; i++)
        dx[i] += ds / a * (y[i] / b - c * x[i] / a - mean);
}

static double square_distance(const double *q, const double *k, size_t d)
{
    double sum = 0;
    for (size_t c = 0; c < d; c++) sum += (q[c] - k[c]) * (q[c] - k[c]);
    return sum;
}

static bool in_band(const att_problem *p, size_t a, size_t b)
{
    return !p->band || (a > b ? a - b : b - a) <= (size_t)p->band;
}

static double sample_cost(const att_problem *p, double a, double b)
{
    return p->cost == ATT_COST_ABS ? fabs(a - b) : (a - b) * (a - b);
}

static double sample_slope(const att_problem *p, double a, double b)
{
    if (p->cost == ATT_COST_ABS) return (a > b) - (a < b);
    return 2 * (a - b);
}

static double soft_min(double a, double b, double c, double gamma)
{
    const double min = fmin(a, fmin(b, c));
    if (isinf(min)) return min;
    return min - gamma * log(exp((min - a) / gamma) + exp((min - b) / gamma) +
                             exp((min - c) / gamma));
}

/* Warping table R [d+2][d+2], row and column 0 are the border. */
static double warp(const att_problem *p, const double *q, const double *k,
                   double *table)
{
    const size_t d = (size_t)p->head_dim, w = d + 2;
    for (size_t i = 0; i < w * w; i++) table[i] = INFINITY;
    table[0] = 0;
    for (size_t a = 1; a <= d; a++)
        for (size_t b = 1; b <= d; b++) {
            if (!in_band(p, a, b)) continue;
            const double diagonal = table[(a - 1) * w + b - 1];
            const double up = table[(a - 1) * w + b];
            const double left = table[a * w + b - 1];
            table[a * w + b] =
                sample_cost(p, q[a - 1], k[b - 1]) +
                (p->similarity == ATT_DTW
                     ? fmin(diagonal, fmin(up, left))
                     : soft_min(diagonal, up, left, p->gamma));
        }
    return table[d * w + d];
}

/* Along the optimal path; ties: diagonal first, then up. */
static void dtw_gradient(const att_ref *r, const double *q, const double *k,
                         double ds, const double *table, double *dq, double *dk)
{
    const size_t d = (size_t)r->p->head_dim, w = d + 2;
    for (size_t a = d, b = d; a > 0 && b > 0;) {
        const double slope = ds * sample_slope(r->p, q[a - 1], k[b - 1]);
        if (dq) dq[a - 1] -= slope;
        if (dk) dk[b - 1] += slope;
        const double diagonal = table[(a - 1) * w + b - 1];
        const double up = table[(a - 1) * w + b];
        const double left = table[a * w + b - 1];
        if (diagonal <= up && diagonal <= left) a--, b--;
        else if (up <= left) a--;
        else b--;
    }
}

/* Share of cell (a, b) in the gradient of its successor: E times the weight of
 * (a, b) in the successor's soft minimum. */
static double successor(const att_problem *p, const double *q, const double *k,
                        const double *table, const double *e, size_t from,
                        size_t a, size_t b)
{
    const size_t d = (size_t)p->head_dim, w = d + 2, at = a * w + b;
    if (a > d || b > d || isinf(table[at])) return 0;
    return e[at] * exp((table[at] - table[from] -
                        sample_cost(p, q[a - 1], k[b - 1])) /
                       p->gamma);
}

static void softdtw_gradient(const att_ref *r, const double *q, const double *k,
                             double ds, const double *table, double *e,
                             double *dq, double *dk)
{
    const size_t d = (size_t)r->p->head_dim, w = d + 2;
    memset(e, 0, w * w * sizeof *e);
    e[d * w + d] = 1;
    for (size_t a = d; a > 0; a--)
        for (size_t b = d; b > 0; b--) {
            const size_t at = a * w + b;
            if (isinf(table[at])) continue;
            if (at != d * w + d)
                e[at] = successor(r->p, q, k, table, e, at, a + 1, b) +
                        successor(r->p, q, k, table, e, at, a, b + 1) +
                        successor(r->p, q, k, table, e, at, a + 1, b + 1);
            const double slope =
                ds * e[at] * sample_slope(r->p, q[a - 1], k[b - 1]);
            if (dq) dq[a - 1] -= slope;
            if (dk) dk[b - 1] += slope;
        }
}

static double sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

/* tanh(W1q q + W1k k + b1) into y; returns sigmoid(w2 . y + b2). */
static double mlp(const att_ref *r, const double *q, const double *k, double *y)
{
    const size_t d = (size_t)r->p->head_dim;
    double sum = r->param[B2][0];
    for (size_t u = 0; u < hidden(r->p); u++) {
        y[u] = tanh(ref_dot(r->param[W1Q] + u * d, q, d) +
                    ref_dot(r->param[W1K] + u * d, k, d) + r->param[B1][u]);
        sum += r->param[W2][u] * y[u];
    }
    return sigmoid(sum);
}

static void add(double *to, double x)
{
    if (to) *to += x;
}

static void mlp_gradient(const att_ref *r, const double *q, const double *k,
                         double ds, double *y, double *dq, double *dk)
{
    const size_t d = (size_t)r->p->head_dim;
    const double s = mlp(r, q, k, y), dz = ds * s * (1 - s);
    double *const *g = r->dparam;
    if (g[B2]) g[B2][0] += dz;
    for (size_t u = 0; u < hidden(r->p); u++) {
        const double dy = dz * r->param[W2][u] * (1 - y[u] * y[u]);
        if (g[W2]) g[W2][u] += dz * y[u];
        if (g[B1]) g[B1][u] += dy;
        for (size_t c = 0; c < d; c++) {
            const size_t at = u * d + c;
            add(dq ? dq + c : NULL, dy * r->param[W1Q][at]);
            add(dk ? dk + c : NULL, dy * r->param[W1K][at]);
            add(g[W1Q] ? g[W1Q] + at : NULL, dy * q[c]);
            add(g[W1K] ? g[W1K] + at : NULL, dy * k[c]);
        }
    }
}

/* s_ij. */
static double score(const att_ref *r, const scratch *s, const double *q,
                    const double *k)
{
    const att_problem *p = r->p;
    const size_t d = (size_t)p->head_dim;
    switch (p->similarity) {
    case ATT_SCALED_DOT: return p->tau * ref_dot(q, k, d) / sqrt((double)d);
    case ATT_COSINE: return p->tau * cosine(q, k, d);
    case ATT_PEARSON:
        centre(q, d, s->x);
        centre(k, d, s->y);
        return d == 1 ? 0 : p->tau * cosine(s->x, s->y, d);
    case ATT_NEG_EUCLID:
        return -p->tau * sqrt(square_distance(q, k, d) + ROOT_EPS);
    case ATT_NEG_SQEUCLID: return -p->tau * square_distance(q, k, d);
    case ATT_DTW:
    case ATT_SOFTDTW: return -p->tau * warp(p, q, k, s->table);
    case ATT_MLP_SIGMOID: return p->tau * mlp(r, q, k, s->y);
    default: return p->tau * ref_dot(q, k, d);
    }
}

/* Adds ds times the gradient of s_ij to dq, dk (NULL: not wanted) and the
 * parameters. */
static void score_gradient(const att_ref *r, const scratch *s, const double *q,
                           const double *k, double ds, double *dq, double *dk)
{
    const att_problem *p = r->p;
    const size_t d = (size_t)p->head_dim;
    double factor = ds * p->tau;
    switch (p->similarity) {
    case ATT_COSINE:
        cosine_gradient(q, k, d, factor, false, dq);
        cosine_gradient(k, q, d, factor, false, dk);
        return;
    case ATT_PEARSON:
        centre(q, d, s->x);
        centre(k, d, s->y);
        if (d == 1) return;
        cosine_gradient(s->x, s->y, d, factor, true, dq);
        cosine_gradient(s->y, s->x, d, factor, true, dk);
        return;
    case ATT_DTW:
        warp(p, q, k, s->table);
        dtw_gradient(r, q, k, factor, s->table, dq, dk);
        return;
    case ATT_SOFTDTW:
        warp(p, q, k, s->table);
        softdtw_gradient(r, q, k, factor, s->table, s->gradient, dq, dk);
        return;
    case ATT_MLP_SIGMOID: mlp_gradient(r, q, k, factor, s->y, dq, dk); return;
    case ATT_NEG_EUCLID:
    case ATT_NEG_SQEUCLID:
        factor *= p->similarity == ATT_NEG_EUCLID
                      ? -1 / sqrt(square_distance(q, k, d) + ROOT_EPS)
                      : -2;
        for (size_t c = 0; c < d; c++) {
            add(dq ? dq + c : NULL, factor * (q[c] - k[c]));
            add(dk ? dk + c : NULL, factor * (k[c] - q[c]));
        }
        return;
    case ATT_SCALED_DOT: factor /= sqrt((double)d); break;
    }
    for (size_t c = 0; c < d; c++) {
        add(dq ? dq + c : NULL, factor * k[c]);
        add(dk ? dk + c : NULL, factor * q[c]);
    }
}

/* ---- normalisations ---------------------------------------------------------------------------------- */

/* One row: its n visible keys, their scores, weights, and gradients. */
typedef struct row {
    size_t n;
    size_t *key;
    double *s, *a, *da, *ds;
} row;

static row row_new(size_t m)
{
    row x = { .key = malloc((m + 1) * sizeof *x.key),
              .s = ref_new(m),
              .a = ref_new(m),
              .da = ref_new(m),
              .ds = ref_new(m) };
    if (!x.key) abort();
    return x;
}

static void row_free(row *x)
{
    free(x->key);
    free(x->s);
    free(x->a);
    free(x->da);
    free(x->ds);
}

/* First entries with the largest value, the smallest, the largest magnitude. */
typedef struct extremes {
    size_t max, min, magnitude;
} extremes;

static extremes extremes_of(const row *x)
{
    extremes e = { 0 };
    for (size_t t = 1; t < x->n; t++) {
        if (x->s[t] > x->s[e.max]) e.max = t;
        if (x->s[t] < x->s[e.min]) e.min = t;
        if (fabs(x->s[t]) > fabs(x->s[e.magnitude])) e.magnitude = t;
    }
    return e;
}

static double sum_abs(const row *x)
{
    double sum = 0;
    for (size_t t = 0; t < x->n; t++) sum += fabs(x->s[t]);
    return sum;
}

static void normalise(int how, double offset, row *x)
{
    const extremes e = extremes_of(x);
    const double max = x->n ? x->s[e.max] : 0, min = x->n ? x->s[e.min] : 0;
    double below = 1;
    for (size_t t = 0; t < x->n; t++)
        switch (how) {
        case ATT_NORM_SIGMOID: x->a[t] = sigmoid(x->s[t] + offset); break;
        case ATT_NORM_SOFTMAX:
        case ATT_NORM_EXPMAX: x->a[t] = exp(x->s[t] - max); break;
        case ATT_NORM_MINMAX: x->a[t] = x->s[t] - min; break;
        default: x->a[t] = x->s[t];
        }
    switch (how) {
    case ATT_NORM_SOFTMAX:
        below = 0;
        for (size_t t = 0; t < x->n; t++) below += x->a[t];
        break;
    case ATT_NORM_L1: below = fmax(sum_abs(x), CLAMP); break;
    case ATT_NORM_MAX:
        below = fmax(x->n ? fabs(x->s[e.magnitude]) : 0, CLAMP);
        break;
    case ATT_NORM_MINMAX: below = fmax(max - min, CLAMP); break;
    }
    for (size_t t = 0; t < x->n; t++) x->a[t] /= below;
}

/* ds from da. */
static void normalise_backward(int how, row *x)
{
    const extremes e = extremes_of(x);
    double along = 0, sum = 0, below;
    if (x->n == 0) return;
    for (size_t t = 0; t < x->n; t++) {
        along += x->da[t] * x->a[t];
        sum += x->da[t];
    }
    switch (how) {
    case ATT_NORM_SOFTMAX:
        for (size_t t = 0; t < x->n; t++)
            x->ds[t] = x->a[t] * (x->da[t] - along);
        return;
    case ATT_NORM_SIGMOID:
        for (size_t t = 0; t < x->n; t++)
            x->ds[t] = x->da[t] * x->a[t] * (1 - x->a[t]);
        return;
    case ATT_NORM_EXPMAX:
        for (size_t t = 0; t < x->n; t++) x->ds[t] = x->da[t] * x->a[t];
        x->ds[e.max] -= along;
        return;
    case ATT_NORM_L1:
        below = sum_abs(x);
        for (size_t t = 0; t < x->n; t++) {
            const double sign = (x->s[t] > 0) - (x->s[t] < 0);
            x->ds[t] = below > CLAMP ? (x->da[t] - sign * along) / below
                                     : x->da[t] / CLAMP;
        }
        return;
    case ATT_NORM_MAX:
        below = fmax(fabs(x->s[e.magnitude]), CLAMP);
        for (size_t t = 0; t < x->n; t++) x->ds[t] = x->da[t] / below;
        if (below > CLAMP)
            x->ds[e.magnitude] -=
                (x->s[e.magnitude] > 0 ? along : -along) / below;
        return;
    case ATT_NORM_MINMAX:
        below = fmax(x->s[e.max] - x->s[e.min], CLAMP);
        for (size_t t = 0; t < x->n; t++) x->ds[t] = x->da[t] / below;
        x->ds[e.min] -= sum / below;
        if (below > CLAMP) {
            x->ds[e.min] += along / below;
            x->ds[e.max] -= along / below;
        }
        return;
    default: memcpy(x->ds, x->da, x->n * sizeof *x->ds);
    }
}

/* ---- reference --------------------------------------------------------------------------------------------- */

static void count(const att_ref *r, const att_cost *x, double n)
{
    if (r->tally) add_cost(r->tally, x, n);
}

static void row_make(const att_ref *r, const scratch *s, int h, size_t i, row *x)
{
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    const size_t d = (size_t)r->p->head_dim;
    const att_cost pair = score_cost(r->p), weight = weight_cost(r->p);
    const double *q = r->q + ((size_t)h * n + i) * d;
    x->n = 0;
    for (size_t j = 0; j < m; j++) {
        if (!keep(r, i, j)) continue;
        x->key[x->n] = j;
        x->s[x->n++] = score(r, s, q, r->k + ((size_t)h * m + j) * d);
        count(r, &pair, 1);
    }
    normalise(r->p->normalisation, r->p->offset, x);
    count(r, &weight, (double)x->n);
    REF_COUNT(r, pairs, x->n);
}

static void forward(const att_ref *r)
{
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    const size_t dv = att_value_dim(r->p);
    const att_cost vector = vector_cost(r->p), line = row_cost(r->p);
    scratch s = scratch_new(r->p);
    row x = row_new(m);
    for (int h = 0; h < r->p->heads; h++) {
        count(r, &vector, (double)(n + m));
        for (size_t i = 0; i < n; i++) {
            double *o = r->o + ((size_t)h * n + i) * dv;
            row_make(r, &s, h, i, &x);
            memset(o, 0, dv * sizeof *o);
            for (size_t t = 0; t < x.n; t++)
                for (size_t c = 0; c < dv; c++)
                    o[c] += x.a[t] * r->v[((size_t)h * m + x.key[t]) * dv + c];
            REF_COUNT(r, mul_add, x.n * dv);
            count(r, &line, 1);
        }
    }
    row_free(&x);
    scratch_free(&s);
}

static void backward_row(const att_ref *r, const scratch *s, int h, size_t i,
                         row *x)
{
    const size_t n = att_tokens(r->p), m = att_keys(r->p);
    const size_t d = (size_t)r->p->head_dim, dv = att_value_dim(r->p);
    const size_t at = (size_t)h * n + i;
    const double *g = r->dout + at * dv;

    row_make(r, s, h, i, x);
    for (size_t t = 0; t < x->n; t++) {
        const size_t j = (size_t)h * m + x->key[t];
        x->da[t] = ref_dot(g, r->v + j * dv, dv);
        for (size_t c = 0; r->dv && c < dv; c++)
            r->dv[j * dv + c] += x->a[t] * g[c];
    }
    normalise_backward(r->p->normalisation, x);
    for (size_t t = 0; t < x->n; t++) {
        const size_t j = (size_t)h * m + x->key[t];
        score_gradient(r, s, r->q + at * d, r->k + j * d, x->ds[t],
                       r->dq ? r->dq + at * d : NULL,
                       r->dk ? r->dk + j * d : NULL);
    }
}

static void backward(const att_ref *r)
{
    scratch s = scratch_new(r->p);
    row x = row_new(att_keys(r->p));
    for (int h = 0; h < r->p->heads; h++)
        for (size_t i = 0; i < att_tokens(r->p); i++)
            backward_row(r, &s, h, i, &x);
    row_free(&x);
    scratch_free(&s);
}

static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *a)
{
    (void)ch, (void)part;
    const size_t m = att_keys(r->p);
    scratch s = scratch_new(r->p);
    row x = row_new(m);
    memset(a, 0, (i1 - i0) * m * sizeof *a);
    for (size_t i = i0; i < i1; i++) {
        row_make(r, &s, h, i, &x);
        for (size_t t = 0; t < x.n; t++) a[(i - i0) * m + x.key[t]] = x.a[t];
    }
    row_free(&x);
    scratch_free(&s);
}

ATT_MECHANISMS = {
    {
        .name = "pairwise",
        .family = "menu",
        .brief = "any similarity x normalisation x mask of queries and keys",
        .formula =
            "s_ij = tau sim(q_i, k_j), A_i = norm of s_ij over visible j, "
            "o_i = sum_j A_ij v_j\n"
            "sim: dot, scaled_dot, cosine, neg_euclid, neg_sqeuclid, pearson, "
            "dtw, softdtw, mlp_sigmoid\n"
            "norm: softmax, sigmoid, l1, max (s / max |s|), expmax, minmax, "
            "none",
        .map = "the normalised weights, 0 where the mask drops a pair; rows "
               "sum to 1 with softmax only (and with l1 of scores >= 0), and "
               "are signed with l1, max and none; dtw and softdtw read the "
               "channels as a time series",
        .cite = "bahdanau2015",
        .traits = ATT_LINEAR_IN_V | ATT_CAN_CAUSAL,
        .uses = ATT_USE(tokens_k) | ATT_USE(value_dim) | ATT_USE(causal) |
                ATT_USE(similarity) | ATT_USE(normalisation) | ATT_USE(mask) |
                ATT_USE(radius) | ATT_USE(globals) | ATT_USE(tau) |
                ATT_USE(offset) | ATT_USE(gamma) | ATT_USE(band) | ATT_USE(cost) |
                ATT_USE(hidden) | ATT_USE(seed),
        .reject = reject,
        .parameters = parameters,
        .fill = fill,
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
    },
    { 0 },
};
