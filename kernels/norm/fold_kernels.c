/* repbn_fold.direct, .unfolded, .folded - repbn in evaluation and its linear
 * layer: as two plain loops, as a pass and a product in register tiles, or as the
 * product alone with weights folded beforehand.
 *
 *     norm, linear:  y = W (a x + s) + b = (W diag a) x + (b + W s)
 *     linear, norm:  y = a (W x + b) + s = (diag a W) x + (a b + s)
 *
 * prepare() makes W' (or W) transposed, and b'.  Backward is the same for all
 * three, from the layers as they are: with u the norm's input and z the linear
 * layer's, sums over tokens da = sum g u, ds = sum g of the norm's output
 * gradient g, and dW = (gradient of its output)' z.
 */
#include "../att.h"
#include "../tile.h"

#include <math.h>

enum { GAMMA, BETA, ALPHA, MEAN, VAR, W, B };

enum form { DIRECT, UNFOLDED, FOLDED };

enum { ROWS = 64, DEPTH = 256, OUTPUTS = 16 };

typedef struct layout {
    size_t n, in, out, width; /* tokens, x's, y's and the norm's channels   */
    bool first;               /* the norm comes first                       */
    size_t a, s, gain;        /* in state: a = gain + alpha, s              */
    size_t folded, bias, state; /* W' [out][in] as `folded`                 */
    size_t transposed;
    size_t z, dz, sums, work; /* in work of backward                        */
} layout;

static size_t rounded(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

static layout layout_of(const att_problem *p)
{
    layout x = { .n = att_tokens(p), .in = (size_t)p->head_dim };
    size_t at = 0;
    x.out = att_value_dim(p);
    x.first = p->fold == ATT_NORM_THEN_LINEAR;
    x.width = x.first ? x.in : x.out;
    x.a = at, at += rounded(x.width);
    x.s = at, at += rounded(x.width);
    x.gain = at, at += rounded(x.width);
    x.bias = at, at += rounded(x.out);
    x.folded = at, at += rounded(x.out * x.in);
    x.transposed = at, at += rounded(x.out * x.in);
    x.state = at, at = 0;
    x.z = at, at += rounded(x.n * x.width);
    x.dz = at, at += rounded(x.n * x.width);
    x.sums = at, at += 3 * rounded(x.width);
    x.work = at;
    return x;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const layout x = layout_of(p);
    (void)threads;
    *out = (att_sizes){ .state = x.state * sizeof(float),
                        .work = rounded(x.n * x.width) * sizeof(float),
                        .work_backward = x.work * sizeof(float) };
}

/* ---- beforehand -------------------------------------------------------------------------- */

static void fold(const att_call *c, const layout *x)
{
    float *state = c->state, *folded = state + x->folded;
    for (size_t i = 0; i < x->width; i++) {
        const double gain = c->param[GAMMA][i] /
                            sqrt((double)c->param[VAR][i] + c->p->eps);
        state[x->a + i] = (float)(gain + c->param[ALPHA][0]);
        state[x->gain + i] = (float)gain;
        state[x->s + i] =
            (float)(c->param[BETA][i] - c->param[MEAN][i] * gain);
    }
    const float *a = state + x->a, *s = state + x->s;
    for (size_t j = 0; j < x->out; j++) {
        double bias = c->param[B][j];
        if (!x->first) bias = bias * a[j] + s[j];
        for (size_t i = 0; i < x->in; i++) {
            const float w = c->param[W][j * x->in + i];
            if (x->first) bias += (double)w * s[i];
            folded[j * x->in + i] = w * (x->first ? a[i] : a[j]);
        }
        state[x->bias + j] = (float)bias;
    }
}

static void prepare(const att_call *c, enum form form)
{
    const layout x = layout_of(c->p);
    float *state = c->state;
    fold(c, &x);
    tile_transpose(form == FOLDED ? state + x.folded : c->param[W], x.in, x.out,
                   x.in, state + x.transposed, x.out, x.out, 1);
}

/* The plan may have told nobody yet; kernels that do not fold tell, too. */
static void tell(const att_call *c, const layout *x)
{
    const float *state = c->state;
    if (c->extra[0])
        memcpy(c->extra[0], state + x->folded, x->out * x->in * sizeof *state);
    if (c->extra[1])
        memcpy(c->extra[1], state + x->bias, x->out * sizeof *state);
}

/* ---- forward --------------------------------------------------------------------------------- */

/* The norm of a row.  Not as a x + s: where the spread is small, the mean must be
 * taken away before anything is multiplied by the gain.  (A folded layer cannot
 * do that.) */
static void norm_row(const att_call *c, const layout *x, const float *in,
                     float *y)
{
    const float *gain = (const float *)c->state + x->gain;
    const float *mean = c->param[MEAN], *beta = c->param[BETA];
    const float alpha = c->param[ALPHA][0];
    #pragma omp simd
    for (size_t i = 0; i < x->width; i++)
        y[i] = gain[i] * (in[i] - mean[i]) + (alpha * in[i] + beta[i]);
}

/* Plain: y = W x + b of one row. */
static void linear_row(const att_call *c, const layout *x, const float *in,
                       float *y)
{
    for (size_t j = 0; j < x->out; j++) {
        const float *w = c->param[W] + j * x->in;
        float sum = 0;
        #pragma omp simd simdlen(8) reduction(+ : sum)
        for (size_t i = 0; i < x->in; i++) sum += w[i] * in[i];
        y[j] = sum + c->param[B][j];
    }
}

/* Tiles: the same of some rows, with the transposed weights of the state. */
static void linear_rows(const att_call *c, const layout *x, const float *bias,
                        const float *in, size_t rows, float *y)
{
    const float *wt = (const float *)c->state + x->transposed;
    for (size_t r = 0; r < rows; r++)
        memcpy(y + r * x->out, bias, x->out * sizeof *y);
    for (size_t k = 0; k < x->in; k += DEPTH) {
        const size_t left = x->in - k;
        tile_gemm(rows, x->out, left < DEPTH ? left : DEPTH, in + k, x->in, 1,
                  wt + k * x->out, x->out, y, x->out, true);
    }
}

static void forward_block(const att_call *c, const layout *x, enum form form,
                          size_t t, size_t rows)
{
    const float *state = c->state;
    const float *in = (const float *)c->q + t * x->in;
    float *z = (float *)c->work + t * x->width;
    float *o = (float *)c->o + t * x->out;
    if (form == FOLDED) {
        linear_rows(c, x, state + x->bias, in, rows, o);
        return;
    }
    for (size_t r = 0; x->first && r < rows; r++)
        norm_row(c, x, in + r * x->in, z + r * x->in);
    const float *from = x->first ? z : in;
    float *to = x->first ? o : z;
    for (size_t r = 0; form == DIRECT && r < rows; r++)
        linear_row(c, x, from + r * x->in, to + r * x->out);
    if (form == UNFOLDED) linear_rows(c, x, c->param[B], from, rows, to);
    for (size_t r = 0; !x->first && r < rows; r++)
        norm_row(c, x, z + r * x->out, o + r * x->out);
}

static void forward(const att_call *c, enum form form)
{
    const layout x = layout_of(c->p);
    tell(c, &x);
    #pragma omp parallel for num_threads(c->threads)
    for (size_t t = 0; t < x.n; t += ROWS)
        forward_block(c, &x, form, t, x.n - t < ROWS ? x.n - t : ROWS);
}

/* ---- backward ----------------------------------------------------------------------------------- */

/* z: the linear layer's input, or its output, whichever meets the norm. */
static void remake(const att_call *c, const layout *x, float *z)
{
    #pragma omp parallel for num_threads(c->threads)
    for (size_t t = 0; t < x->n; t++) {
        const float *in = (const float *)c->q + t * x->in;
        float *row = z + t * x->width;
        if (x->first) norm_row(c, x, in, row);
        else linear_row(c, x, in, row);
    }
}

/* Sums over tokens of g (u - mean), g and g u of the norm's output gradient g and
 * input u, per channel: far from the mean the third is not what the others give. */
static void norm_sums(const att_call *c, const layout *x, const float *g,
                      const float *u, float *sums)
{
    const size_t step = rounded(x->width);
    #pragma omp parallel for num_threads(c->threads)
    for (size_t i = 0; i < x->width; i++) {
        const double mean = c->param[MEAN][i];
        double along = 0, sum = 0, times = 0;
        for (size_t t = 0; t < x->n; t++) {
            const double gt = g[t * x->width + i], ut = u[t * x->width + i];
            along += gt * (ut - mean);
            sum += gt;
            times += gt * ut;
        }
        sums[i] = (float)along;
        sums[step + i] = (float)sum;
        sums[2 * step + i] = (float)times;
    }
}

static void norm_gradients(const att_call *c, const att_grad *g,
                           const layout *x, const float *sums)
{
    const size_t step = rounded(x->width);
    double alpha = 0;
    for (size_t i = 0; i < x->width; i++) {
        const double inverse =
            1 / sqrt((double)c->param[VAR][i] + c->p->eps);
        alpha += sums[2 * step + i];
        if (g->dparam[GAMMA]) g->dparam[GAMMA][i] = (float)(sums[i] * inverse);
        if (g->dparam[BETA]) g->dparam[BETA][i] = sums[step + i];
    }
    if (g->dparam[ALPHA]) g->dparam[ALPHA][0] = (float)alpha;
}

/* dW = g' in of the linear layer; db = sum g. */
static void linear_gradients(const att_call *c, const att_grad *g,
                             const layout *x, const float *dy, const float *in)
{
    float *dw = g->dparam[W], *db = g->dparam[B];
    #pragma omp parallel for num_threads(c->threads)
    for (size_t j = 0; j < x->out; j += OUTPUTS) {
        const size_t rows = x->out - j < OUTPUTS ? x->out - j : OUTPUTS;
        for (size_t t = 0; dw && t < x->n; t += DEPTH) {
            const size_t left = x->n - t;
            tile_gemm(rows, x->in, left < DEPTH ? left : DEPTH,
                      dy + t * x->out + j, 1, x->out, in + t * x->in, x->in,
                      dw + j * x->in, x->in, t > 0);
        }
        for (size_t r = j; db && r < j + rows; r++) {
            double sum = 0;
            for (size_t t = 0; t < x->n; t++) sum += dy[t * x->out + r];
            db[r] = (float)sum;
        }
    }
}

/* Input gradient of the linear layer: dy W. */
static void linear_inputs(const att_call *c, const layout *x, const float *dy,
                          float *dx)
{
    #pragma omp parallel for num_threads(c->threads)
    for (size_t t = 0; t < x->n; t += ROWS) {
        const size_t rows = x->n - t < ROWS ? x->n - t : ROWS;
        for (size_t k = 0; k < x->out; k += DEPTH) {
            const size_t left = x->out - k;
            tile_gemm(rows, x->in, left < DEPTH ? left : DEPTH,
                      dy + t * x->out + k, x->out, 1, c->param[W] + k * x->in,
                      x->in, dx + t * x->in, x->in, k > 0);
        }
    }
}

/* y = g a, rows of the norm's width. */
static void scale_gradient(const att_call *c, const layout *x, const float *g,
                           float *y)
{
    const float *a = (const float *)c->state + x->a;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t t = 0; t < x->n; t++)
        for (size_t i = 0; i < x->width; i++)
            y[t * x->width + i] = g[t * x->width + i] * a[i];
}

static void backward(const att_call *c, const att_grad *g)
{
    const layout x = layout_of(c->p);
    float *w = c->work, *z = w + x.z, *dz = w + x.dz, *sums = w + x.sums;
    remake(c, &x, z);
    if (x.first) {
        linear_gradients(c, g, &x, g->dout, z);
        linear_inputs(c, &x, g->dout, dz);
        norm_sums(c, &x, dz, c->q, sums);
        if (g->dq) scale_gradient(c, &x, dz, g->dq);
    } else {
        norm_sums(c, &x, g->dout, z, sums);
        scale_gradient(c, &x, g->dout, dz);
        linear_gradients(c, g, &x, dz, c->q);
        if (g->dq) linear_inputs(c, &x, dz, g->dq);
    }
    norm_gradients(c, g, &x, sums);
}

/* The product alone. */
static void executed_folded(const att_problem *p, enum att_pass pass,
                            att_cost *out)
{
    const double products =
        (double)att_tokens(p) * p->head_dim * (double)att_value_dim(p);
    if (pass == ATT_BACKWARD) return;
    *out = (att_cost){ .mul_add = products, .read = out->read,
                       .write = out->write };
}

#define STAMP(name, form)                                                      \
    static void prepare_##name(const att_call *c)                              \
    {                                                                          \
        prepare(c, form);                                                      \
    }                                                                          \
    static void forward_##name(const att_call *c)                              \
    {                                                                          \
        forward(c, form);                                                      \
    }
STAMP(direct, DIRECT)
STAMP(unfolded, UNFOLDED)
STAMP(folded, FOLDED)
#undef STAMP

ATT_KERNELS = {
    {
        .name = "repbn_fold.direct",
        .mechanism = "repbn_fold",
        .brief = "norm and linear layer as plain loops",
        .plain = true,
        .sizes = sizes,
        .prepare = prepare_direct,
        .forward = forward_direct,
        .backward = backward,
    },
    {
        .name = "repbn_fold.unfolded",
        .mechanism = "repbn_fold",
        .brief = "a pass for the norm, a product in register tiles",
        .sizes = sizes,
        .prepare = prepare_unfolded,
        .forward = forward_unfolded,
        .backward = backward,
    },
    {
        .name = "repbn_fold.folded",
        .mechanism = "repbn_fold",
        .brief = "one product in register tiles, weights folded beforehand",
        .sizes = sizes,
        .prepare = prepare_folded,
        .forward = forward_folded,
        .backward = backward,
        .executed = executed_folded,
    },
    { 0 },
};
