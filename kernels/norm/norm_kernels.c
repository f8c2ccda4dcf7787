/* layernorm, batchnorm, repbn, prepbn: .direct and .fused
 *
 *     y = lambda (xl gl + bl) + (1 - lambda) (xb gamma + beta + alpha x)
 *
 * with xl normalised over the channels of a token and xb over the tokens (or by
 * the running statistics); lambda is 1 for layernorm, 0 for batchnorm and repbn.
 * Backward, with column sums A = sum g, L = sum g xl, B = sum g xb and row means
 * m1 = mean g gl, m2 = mean g gl xl:
 *
 *     dx = lambda inv_t (g gl - m1 - xl m2)
 *        + (1 - lambda) (gamma inv_c (g - A / n - xb B / n) + alpha g)
 *
 * Direct: one plain loop per quantity, in double, columns by columns.  Fused:
 * lanes are channels; statistics of columns come from blocks of rows that stay
 * in the first cache (mean and squares about it, blocks joined by Chan's rule),
 * those of a row are taken just before its output; backward is two passes.
 *
 * A mean is kept as the first value of its row or column and the mean of what
 * the others differ from it: constants have no residual that a division by their
 * spread would blow up, and an offset costs no digits.  Spreads whose squares are
 * no floats are taken in double.
 */
#include "../att.h"
#include "../simd.h"

#include <math.h>

enum { GAMMA, BETA, ALPHA, MEAN, VAR, LN_GAMMA, LN_BETA };

enum kind { LAYERNORM, BATCHNORM, REPBN, PREPBN };

enum { BLOCK = 16, PIECE = 64, FEW = 8 };

static size_t rounded(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

/* ---- what is computed ------------------------------------------------------------------ */

typedef struct job {
    const att_call *c;
    const att_grad *g;
    enum kind kind;
    size_t n, width, padded, pieces, length;
    bool rows, columns; /* which of the two norms take part                 */
    bool train;
    double lambda;
    const float *gl, *bl; /* of the layernorm                               */
    float *row;    /* saved [n][2]: mean less the first value, 1 / deviation */
    float *column; /* saved [3][padded]: first value (or running mean), mean
                      less it, 1 / deviation                                */
    float *work;
    size_t means, sums, total; /* in work: row means, pieces' sums, joined  */
} job;

/* Sums of a piece: A, L, B, and X = sum g x; in forward count-free mean and squares. */
enum { SUMS = 4 };

static size_t saved_floats(const att_problem *p)
{
    return 2 * att_tokens(p) + 16 + 3 * rounded((size_t)p->head_dim);
}

static job job_of(const att_call *c, const att_grad *g, enum kind kind)
{
    const att_problem *p = c->p;
    job k = { .c = c, .g = g, .kind = kind, .work = c->work };
    k.n = att_tokens(p);
    k.width = (size_t)p->head_dim;
    k.padded = rounded(k.width);
    const size_t most = (k.n + PIECE - 1) / PIECE;
    k.pieces = c->threads == 1 ? 1 : 4 * (size_t)c->threads;
    if (k.pieces > most) k.pieces = most;
    k.length = (k.n + k.pieces - 1) / k.pieces;
    k.pieces = (k.n + k.length - 1) / k.length;

    const bool pre = kind == PREPBN;
    k.train = p->mode == ATT_MODE_TRAIN;
    k.lambda = kind == LAYERNORM ? 1 : 0;
    if (pre && k.train)
        k.lambda = p->warm > 0 ? 1 : p->r0 * p->iter / p->total_step;
    k.rows = kind == LAYERNORM || (pre && k.train);
    k.columns = kind != LAYERNORM && !(pre && k.train && p->warm > 0);
    k.gl = c->param[pre ? LN_GAMMA : GAMMA];
    k.bl = c->param[pre ? LN_BETA : BETA];

    k.means = 0;
    k.sums = rounded(2 * k.n);
    k.total = k.sums + k.pieces * SUMS * k.padded;
    float *kept =
        c->save ? c->save : (float *)c->work + k.total + SUMS * k.padded;
    k.column = kept;
    k.row = kept + 3 * k.padded;
    return k;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const size_t n = att_tokens(p), padded = rounded((size_t)p->head_dim);
    const size_t work = rounded(2 * n) +
                        (4 * (size_t)threads + 1) * SUMS * padded;
    *out = (att_sizes){
        .save = saved_floats(p) * sizeof(float),
        .work = (work + saved_floats(p)) * sizeof(float),
        .work_backward = work * sizeof(float),
    };
}

static const float *input(const job *k)
{
    return k->c->q;
}

static float alpha_of(const job *k)
{
    return k->kind == REPBN || k->kind == PREPBN ? k->c->param[ALPHA][0] : 0;
}

/* Statistics of a column, base + mean and var, become its saved three; extra
 * outputs follow. */
static void tell_column(const job *k, size_t i, float base, double mean,
                        double var)
{
    const double n = (double)k->n, whole = base + mean;
    k->column[i] = base;
    k->column[k->padded + i] = (float)mean;
    k->column[2 * k->padded + i] = (float)(1 / sqrt(var + k->c->p->eps));
    const double old_mean = k->c->param[MEAN][i], old = k->c->param[VAR][i];
    float *const *extra = (float *const *)k->c->extra;
    if (extra[0])
        extra[0][i] = (float)(k->train ? 0.9 * old_mean + 0.1 * whole : whole);
    if (extra[1])
        extra[1][i] =
            (float)(k->train ? 0.9 * old + 0.1 * var * n / (n - 1) : var);
}

/* Running statistics where the tokens' are not asked for; and the schedule. */
static void tell_rest(const job *k)
{
    const att_problem *p = k->c->p;
    for (size_t i = 0; k->kind != LAYERNORM && i < k->width; i++) {
        const float mean = k->c->param[MEAN][i], var = k->c->param[VAR][i];
        if (k->columns && !k->train) tell_column(k, i, mean, 0, var);
        if (k->columns) continue;
        if (k->c->extra[0]) k->c->extra[0][i] = mean;
        if (k->c->extra[1]) k->c->extra[1][i] = var;
    }
    if (k->kind != PREPBN) return;
    const bool warm = k->train && p->warm > 0;
    const int iter = p->iter - (k->train && !warm && p->iter > 0);
    if (k->c->extra[2]) k->c->extra[2][0] = (float)iter;
    if (k->c->extra[3]) k->c->extra[3][0] = (float)(p->warm - warm);
}

/* ---- direct: forward ------------------------------------------------------------------------ */

/* Mean, less the first value, and biased variance of n values, `step` apart. */
static void moments(const float *x, size_t n, size_t step, double *mean,
                    double *var)
{
    const double first = x[0];
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) sum += x[i * step] - first;
    sum /= (double)n;
    for (size_t i = 0; i < n; i++) {
        const double y = x[i * step] - first - sum;
        square += y * y;
    }
    *mean = sum;
    *var = square / (double)n;
}

static void tell_row(const job *k, size_t t, double mean, double var)
{
    const att_problem *p = k->c->p;
    const double eps = k->kind == PREPBN ? p->ln_eps : p->eps;
    k->row[2 * t] = (float)mean;
    k->row[2 * t + 1] = (float)(1 / sqrt(var + eps));
}

/* The normalised value i of token t from the saved statistics. */
static double in_row(const job *k, size_t t, size_t i)
{
    const float *x = input(k) + t * k->width;
    return ((double)x[i] - x[0] - k->row[2 * t]) * k->row[2 * t + 1];
}

static double in_column(const job *k, size_t t, size_t i)
{
    const float *column = k->column + i;
    return ((double)input(k)[t * k->width + i] - column[0] -
            column[k->padded]) *
           column[2 * k->padded];
}

/* y of one value. */
static double value(const job *k, size_t t, size_t i)
{
    const double x = input(k)[t * k->width + i];
    double y = 0;
    if (k->rows) y += k->lambda * (in_row(k, t, i) * k->gl[i] + k->bl[i]);
    if (k->columns)
        y += (1 - k->lambda) *
             (in_column(k, t, i) * k->c->param[GAMMA][i] +
              k->c->param[BETA][i] + alpha_of(k) * x);
    return y;
}

static void forward_direct(const att_call *c, enum kind kind)
{
    const job k = job_of(c, NULL, kind);
    tell_rest(&k);
    #pragma omp parallel num_threads(c->threads)
    {
        #pragma omp for
        for (size_t i = 0; i < (k.columns && k.train ? k.width : 0); i++) {
            double mean, var;
            moments(input(&k) + i, k.n, k.width, &mean, &var);
            tell_column(&k, i, input(&k)[i], mean, var);
        }
        #pragma omp for
        for (size_t t = 0; t < (k.rows ? k.n : 0); t++) {
            double mean, var;
            moments(input(&k) + t * k.width, k.width, 1, &mean, &var);
            tell_row(&k, t, mean, var);
        }
        #pragma omp for
        for (size_t t = 0; t < k.n; t++)
            for (size_t i = 0; i < k.width; i++)
                ((float *)c->o)[t * k.width + i] = (float)value(&k, t, i);
    }
}

/* ---- direct: backward -------------------------------------------------------------------------- */

/* Of two or three channels (or tokens) the terms of dx nearly cancel, and a
 * rounded mean or deviation would be felt: moments are taken again, in double. */

/* lambda times the layernorm's part of dx of one token. */
static void backward_row(const job *k, size_t t, float *dx)
{
    const float *x = input(k) + t * k->width, *g = k->g->dout + t * k->width;
    const double eps = k->kind == PREPBN ? k->c->p->ln_eps : k->c->p->eps;
    double mean, var, m1 = 0, m2 = 0;
    moments(x, k->width, 1, &mean, &var);
    const double inverse = 1 / sqrt(var + eps);
    for (size_t i = 0; i < k->width; i++) {
        m1 += (double)g[i] * k->gl[i];
        m2 += (double)g[i] * k->gl[i] * ((double)x[i] - x[0] - mean) * inverse;
    }
    m1 /= (double)k->width;
    m2 /= (double)k->width;
    for (size_t i = 0; i < k->width; i++)
        dx[i] = (float)(k->lambda * inverse *
                        ((double)g[i] * k->gl[i] - m1 -
                         ((double)x[i] - x[0] - mean) * inverse * m2));
}

/* A, L, B and X of column i into the joined sums, and its part of dx (NULL: not
 * wanted), added to that of the rows. */
static void backward_column(const job *k, size_t i, float *dx)
{
    const float *x = input(k) + i, *g = k->g->dout + i;
    const size_t w = k->width;
    double var = 0, a = 0, l = 0, b = 0, gx = 0;
    const double base = k->columns ? k->column[i] : 0;
    double mean = k->columns ? k->column[k->padded + i] : 0;
    double inverse = k->columns ? k->column[2 * k->padded + i] : 0;
    if (k->columns && k->train) {
        moments(x, k->n, w, &mean, &var);
        inverse = 1 / sqrt(var + k->c->p->eps);
    }
    for (size_t t = 0; t < k->n; t++) {
        a += g[t * w];
        b += g[t * w] * (x[t * w] - base - mean) * inverse;
        if (k->rows) l += g[t * w] * in_row(k, t, i);
        gx += (double)g[t * w] * x[t * w];
    }
    float *total = k->work + k->total;
    total[i] = (float)a;
    total[k->padded + i] = (float)l;
    total[2 * k->padded + i] = (float)b;
    total[3 * k->padded + i] = (float)gx;
    const double share = k->train ? 1 / (double)k->n : 0;
    for (size_t t = 0; dx && k->columns && t < k->n; t++) {
        const double xb = (x[t * w] - base - mean) * inverse;
        const double inner = g[t * w] - share * (a + xb * b);
        const double y = (1 - k->lambda) *
                         (k->c->param[GAMMA][i] * inverse * inner +
                          (double)alpha_of(k) * g[t * w]);
        float *to = dx + t * w + i;
        *to = (float)(y + (k->rows ? *to : 0));
    }
}

/* Gradients of the parameters from the joined sums. */
static void parameter_gradients(const job *k)
{
    const float *a = k->work + k->total, *l = a + k->padded, *b = l + k->padded;
    float *const *d = k->g->dparam;
    const bool pre = k->kind == PREPBN;
    float *dgl = d[pre ? LN_GAMMA : GAMMA], *dbl = d[pre ? LN_BETA : BETA];
    const float lambda = (float)k->lambda, rest = (float)(1 - k->lambda);
    double alpha = 0;
    for (size_t i = 0; i < k->width; i++) {
        if (k->kind == LAYERNORM || pre) {
            if (dgl) dgl[i] = k->rows ? lambda * l[i] : 0;
            if (dbl) dbl[i] = k->rows ? lambda * a[i] : 0;
        }
        if (k->kind == LAYERNORM) continue;
        if (d[GAMMA]) d[GAMMA][i] = k->columns ? rest * b[i] : 0;
        if (d[BETA]) d[BETA][i] = k->columns ? rest * a[i] : 0;
        if (k->columns) alpha += b[k->padded + i];
    }
    if ((k->kind == REPBN || pre) && d[ALPHA])
        d[ALPHA][0] = (float)((1 - k->lambda) * alpha);
}

static void backward_direct(const att_call *c, const att_grad *g,
                            enum kind kind)
{
    const job k = job_of(c, g, kind);
    #pragma omp parallel num_threads(c->threads)
    {
        #pragma omp for
        for (size_t t = 0; t < (k.rows && g->dq ? k.n : 0); t++)
            backward_row(&k, t, g->dq + t * k.width);
        #pragma omp for
        for (size_t i = 0; i < k.width; i++) backward_column(&k, i, g->dq);
    }
    parameter_gradients(&k);
}

/* ---- fused: rows --------------------------------------------------------------------------------- */

SIMD_INLINE size_t lanes_at(size_t width, size_t i)
{
    return width - i < VL ? width - i : VL;
}

SIMD_INLINE vf load(const float *p, size_t lanes)
{
    return lanes == VL ? v_load(p) : v_load_n(p, lanes);
}

SIMD_INLINE void store(float *p, vf x, size_t lanes)
{
    if (lanes == VL) v_store(p, x);
    else v_store_n(p, x, lanes);
}

/* Sum over a row of (x - base) - shift, or of its square: four sums hide the
 * latency. */
SIMD_INLINE float sum_of_row(const bool square, const float *x, size_t width,
                             float base, float shift)
{
    vf sum[4] = { v_zero(), v_zero(), v_zero(), v_zero() };
    size_t i = 0;
    for (; i + 4 * VL <= width; i += 4 * VL)
        UNROLL for (size_t j = 0; j < 4; j++) {
            const vf y = v_load(x + i + j * VL) - base - shift;
            sum[j] += square ? y * y : y;
        }
    for (; i < width; i += VL) {
        const size_t lanes = lanes_at(width, i);
        vf y = load(x + i, lanes) - base - shift;
        if (lanes < VL) y = v_first(y, lanes);
        sum[0] += square ? y * y : y;
    }
    return v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/* Whether a spread in float is to be trusted: squares of 1e-20 and 1e20 are no
 * floats. */
static bool trusted(double var)
{
    return var == 0 || (var > 1e-30 && var < 1e30);
}

static void row_moments(const job *k, size_t t)
{
    const float *x = input(k) + t * k->width, n = (float)k->width;
    const float shift = sum_of_row(false, x, k->width, x[0], 0) / n;
    double mean = shift;
    double var = sum_of_row(true, x, k->width, x[0], shift) / n;
    if (!trusted(var)) moments(x, k->width, 1, &mean, &var);
    tell_row(k, t, mean, var);
}

/* Of the batch norm, times its share: gain, beta, alpha of every column, where
 * backward joins its sums. */
static void make_affine(const job *k)
{
    float *gain = k->work + k->total, *beta = gain + k->padded;
    const float rest = (float)(1 - k->lambda);
    for (size_t i = 0; i < k->width; i++) {
        gain[i] = rest * k->c->param[GAMMA][i] * k->column[2 * k->padded + i];
        beta[i] = rest * k->c->param[BETA][i];
    }
}

/* x less the mean of its column, from column i on. */
SIMD_INLINE vf centred(const job *k, size_t i, vf x, size_t lanes)
{
    return x - load(k->column + i, lanes) -
           load(k->column + k->padded + i, lanes);
}

SIMD_INLINE void output_row(const bool rows, const bool columns, const job *k,
                            size_t t)
{
    const float *x = input(k) + t * k->width;
    float *o = (float *)k->c->o + t * k->width;
    const float *gain = k->work + k->total, *beta = gain + k->padded;
    const float lambda = (float)k->lambda;
    const float alpha = (float)(1 - k->lambda) * alpha_of(k);
    if (rows) row_moments(k, t);
    for (size_t i = 0; i < k->width; i += VL) {
        const size_t lanes = lanes_at(k->width, i);
        const vf at = load(x + i, lanes);
        vf y = v_zero();
        if (rows)
            y = lambda * ((at - x[0] - k->row[2 * t]) * k->row[2 * t + 1] *
                              load(k->gl + i, lanes) +
                          load(k->bl + i, lanes));
        if (columns)
            y += v_fma(centred(k, i, at, lanes), load(gain + i, lanes),
                       v_fma(v_set1(alpha), at, load(beta + i, lanes)));
        store(o + i, y, lanes);
    }
}

/* ---- fused: columns ------------------------------------------------------------------------------- */

/* Mean, less the first row of all, and squares about it of the rows of a piece,
 * all channels: blocks of rows, joined one after the other. */
static void piece_moments(const job *k, size_t piece)
{
    const size_t first = piece * k->length;
    const size_t end = first + k->length < k->n ? first + k->length : k->n;
    float *means = k->work + k->sums + piece * SUMS * k->padded;
    float *squares = means + k->padded;
    for (size_t t = first; t < end; t += BLOCK) {
        const size_t rows = end - t < BLOCK ? end - t : BLOCK;
        const float seen = (float)(t - first), all = seen + (float)rows;
        for (size_t i = 0; i < k->width; i += VL) {
            const size_t lanes = lanes_at(k->width, i);
            const float *x = input(k) + t * k->width + i;
            const vf base = load(input(k) + i, lanes);
            const vf first_row = load(x, lanes);
            vf sum = v_zero(), square = v_zero();
            for (size_t r = 1; r < rows; r++)
                sum += load(x + r * k->width, lanes) - first_row;
            const vf mean = first_row - base + sum * (1 / (float)rows);
            for (size_t r = 0; r < rows; r++) {
                const vf y = load(x + r * k->width, lanes) - base - mean;
                square = v_fma(y, y, square);
            }
            const vf old = t > first ? v_load(means + i) : mean;
            const vf gap = mean - old;
            if (t > first)
                square += v_load(squares + i) +
                          gap * gap * (seen * (float)rows / all);
            v_store(means + i, old + gap * ((float)rows / all));
            v_store(squares + i, square);
        }
    }
}

/* Statistics of column i of all pieces, in double. */
static void join_column(const job *k, size_t i)
{
    double mean = 0, square = 0, seen = 0;
    for (size_t piece = 0; piece < k->pieces; piece++) {
        const float *means = k->work + k->sums + piece * SUMS * k->padded;
        const size_t left = k->n - piece * k->length;
        const double rows = (double)(left < k->length ? left : k->length);
        const double gap = means[i] - mean, all = seen + rows;
        square += means[k->padded + i] + gap * gap * seen * rows / all;
        mean += gap * rows / all;
        seen = all;
    }
    double var = square / (double)k->n;
    if (!trusted(var)) moments(input(k) + i, k->n, k->width, &mean, &var);
    tell_column(k, i, input(k)[i], mean, var);
}

static void forward_fused(const att_call *c, enum kind kind)
{
    const job k = job_of(c, NULL, kind);
    const bool moments_needed = k.columns && k.train;
    tell_rest(&k);
    #pragma omp parallel num_threads(c->threads)
    {
        #pragma omp for
        for (size_t i = 0; i < (moments_needed ? k.pieces : 0); i++)
            piece_moments(&k, i);
        #pragma omp for
        for (size_t i = 0; i < (moments_needed ? k.width : 0); i++)
            join_column(&k, i);
        if (k.columns) {
            #pragma omp single
            make_affine(&k);
        }
        #pragma omp for
        for (size_t t = 0; t < k.n; t++) {
            if (k.rows && k.columns) output_row(true, true, &k, t);
            else if (k.rows) output_row(true, false, &k, t);
            else output_row(false, true, &k, t);
        }
    }
}

/* ---- fused: backward ---------------------------------------------------------------------------------- */

/* Row means of one row, and its terms of the piece's column sums. */
SIMD_INLINE void sum_row(const bool rows, const bool columns, const job *k,
                         size_t t, float *sums)
{
    const float *x = input(k) + t * k->width;
    const float *g = k->g->dout + t * k->width;
    const float mean = rows ? k->row[2 * t] : 0;
    const float inverse = rows ? k->row[2 * t + 1] : 0;
    vf m1 = v_zero(), m2 = v_zero();
    for (size_t i = 0; i < k->width; i += VL) {
        const size_t lanes = lanes_at(k->width, i);
        const vf at = load(x + i, lanes), dy = load(g + i, lanes);
        v_store(sums + i, v_load(sums + i) + dy);
        if (rows) {
            float *l = sums + k->padded + i;
            const vf xl = (at - x[0] - mean) * inverse;
            const vf gg = dy * load(k->gl + i, lanes);
            m1 += gg;
            m2 = v_fma(gg, xl, m2);
            v_store(l, v_fma(dy, xl, v_load(l)));
        }
        if (columns) {
            float *b = sums + 2 * k->padded + i;
            const vf xb = centred(k, i, at, lanes) *
                          load(k->column + 2 * k->padded + i, lanes);
            v_store(b, v_fma(dy, xb, v_load(b)));
            if (k->kind == BATCHNORM) continue;
            float *gx = sums + 3 * k->padded + i;
            v_store(gx, v_fma(dy, at, v_load(gx)));
        }
    }
    if (!rows) return;
    k->work[k->means + 2 * t] = v_sum(m1) / (float)k->width;
    k->work[k->means + 2 * t + 1] = v_sum(m2) / (float)k->width;
}

static void sum_piece(const job *k, size_t piece)
{
    const size_t first = piece * k->length;
    const size_t end = first + k->length < k->n ? first + k->length : k->n;
    float *sums = k->work + k->sums + piece * SUMS * k->padded;
    memset(sums, 0, SUMS * k->padded * sizeof *sums);
    for (size_t t = first; t < end; t++) {
        if (k->rows && k->columns) sum_row(true, true, k, t, sums);
        else if (k->rows) sum_row(true, false, k, t, sums);
        else sum_row(false, true, k, t, sums);
    }
}

static void join_sums(const job *k)
{
    float *total = k->work + k->total;
    for (size_t i = 0; i < SUMS * k->padded; i++) {
        double sum = 0;
        for (size_t piece = 0; piece < k->pieces; piece++)
            sum += k->work[k->sums + piece * SUMS * k->padded + i];
        total[i] = (float)sum;
    }
}

SIMD_INLINE void slope_row(const bool rows, const bool columns, const job *k,
                           size_t t)
{
    const float *x = input(k) + t * k->width;
    const float *g = k->g->dout + t * k->width;
    const float *total = k->work + k->total, *m = k->work + k->means + 2 * t;
    const float lambda = (float)k->lambda, rest = (float)(1 - k->lambda);
    const float share = k->train ? 1 / (float)k->n : 0;
    for (size_t i = 0; i < k->width; i += VL) {
        const size_t lanes = lanes_at(k->width, i);
        const vf at = load(x + i, lanes), dy = load(g + i, lanes);
        vf dx = v_zero();
        if (rows) {
            const vf xl = (at - x[0] - k->row[2 * t]) * k->row[2 * t + 1];
            dx = lambda * k->row[2 * t + 1] *
                 (dy * load(k->gl + i, lanes) - m[0] - xl * m[1]);
        }
        if (columns) {
            const vf inverse = load(k->column + 2 * k->padded + i, lanes);
            const vf xb = centred(k, i, at, lanes) * inverse;
            const vf inner = dy - share * (v_load(total + i) +
                                           xb * v_load(total + 2 * k->padded +
                                                       i));
            dx += rest * (load(k->c->param[GAMMA] + i, lanes) * inverse * inner +
                          alpha_of(k) * dy);
        }
        store(k->g->dq + t * k->width + i, dx, lanes);
    }
}

static void backward_fused(const att_call *c, const att_grad *g,
                           enum kind kind)
{
    const job k = job_of(c, g, kind);
    if (k.n <= FEW || k.width <= FEW) { /* terms nearly cancel: see there */
        backward_direct(c, g, kind);
        return;
    }
    #pragma omp parallel for num_threads(c->threads)
    for (size_t i = 0; i < k.pieces; i++) sum_piece(&k, i);
    join_sums(&k);
    parameter_gradients(&k);
    if (!g->dq) return;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t t = 0; t < k.n; t++) {
        if (k.rows && k.columns) slope_row(true, true, &k, t);
        else if (k.rows) slope_row(true, false, &k, t);
        else slope_row(false, true, &k, t);
    }
}

/* ---- table ------------------------------------------------------------------------------------------------ */

#define STAMP(name, kind, form)                                                \
    static void forward_##name##_##form(const att_call *c)                     \
    {                                                                          \
        forward_##form(c, kind);                                               \
    }                                                                          \
    static void backward_##name##_##form(const att_call *c, const att_grad *g) \
    {                                                                          \
        backward_##form(c, g, kind);                                           \
    }
#define STAMPS(name, kind) STAMP(name, kind, direct) STAMP(name, kind, fused)
STAMPS(layernorm, LAYERNORM)
STAMPS(batchnorm, BATCHNORM)
STAMPS(repbn, REPBN)
STAMPS(prepbn, PREPBN)
#undef STAMPS
#undef STAMP

#define ENTRY(name_, form_, plain_, brief_)                                    \
    {                                                                          \
        .name = #name_ "." #form_, .mechanism = #name_, .brief = brief_,       \
        .plain = plain_, .sizes = sizes, .forward = forward_##name_##_##form_, \
        .backward = backward_##name_##_##form_,                                \
    }
#define PAIR(name)                                                             \
    ENTRY(name, direct, true, "one plain loop per quantity"),                  \
        ENTRY(name, fused, false,                                              \
              "lanes are channels, statistics and output in one or two passes")

ATT_KERNELS = {
    PAIR(layernorm),
    PAIR(batchnorm),
    PAIR(repbn),
    PAIR(prepbn),
    { 0 },
};
