/* dwconv.direct - depthwise convolution, one output token at a time.
 *
 * Vectors run along channels; the weights are transposed once per call to
 * [tap][channel] so that they are loaded like tokens.  Two loads and one
 * multiply-add per tap: bound by loads.  Backward: dx is the same sum with the
 * taps flipped; dweight and dbias are summed per row of the map in order, by
 * tasks that own a tap.
 */
#include "direct.h"

enum { WEIGHT, BIAS };

typedef struct conv {
    int height, width, kh, kw;
    size_t n, d, heads, taps, maps;
} conv;

static conv conv_of(const att_problem *p)
{
    conv x = { .height = p->grid.v[0],
               .width = p->grid.v[1],
               .kh = att_at(&p->window, 0, 7),
               .kw = att_at(&p->window, 1, 7),
               .n = att_tokens(p),
               .d = (size_t)p->head_dim,
               .heads = (size_t)p->heads,
               .maps = (size_t)p->batch * (size_t)p->heads };
    x.taps = (size_t)x.kh * (size_t)x.kw;
    return x;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    (void)threads;
    const conv x = conv_of(p);
    const size_t weights = x.taps * x.heads * x.d * sizeof(float);
    *out = (att_sizes){ .work = weights, .work_backward = weights };
}

/* weight [head d + c][tap] -> [head][tap][c]; `flip` reverses the taps. */
static void turn_weights(const conv *x, const float *weight, bool flip,
                         float *out)
{
    for (size_t h = 0; h < x->heads; h++)
        for (size_t t = 0; t < x->taps; t++)
            for (size_t c = 0; c < x->d; c++)
                *out++ = weight[(h * x->d + c) * x->taps +
                                (flip ? x->taps - 1 - t : t)];
}

static int most(int a, int b)
{
    return a > b ? a : b;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* y[token] += sum over taps of w[tap] * x[token + tap], one token. */
static void token(const conv *s, const float *w, const float *x, int i, int j,
                  float *y)
{
    const int u0 = most(0, s->kh / 2 - i), v0 = most(0, s->kw / 2 - j);
    const int u1 = least(s->kh, s->height + s->kh / 2 - i);
    const int v1 = least(s->kw, s->width + s->kw / 2 - j);
    for (size_t c = 0; c < s->d; c += VL) {
        const size_t left = s->d - c < VL ? s->d - c : VL;
        vf sum = v_load_n(y + c, left);
        for (int u = u0; u < u1; u++)
            for (int v = v0; v < v1; v++) {
                const size_t in =
                    (size_t)((i + u - s->kh / 2) * s->width + j + v -
                             s->kw / 2);
                const size_t tap = (size_t)(u * s->kw + v);
                sum = v_fma(v_load_n(w + tap * s->d + c, left),
                            v_load_n(x + in * s->d + c, left), sum);
            }
        v_store_n(y + c, sum, left);
    }
}

/* y = bias + w * x over all maps; bias may be NULL. */
static void convolve(const conv *s, int threads, const float *w, const float *x,
                     const float *bias, float *y)
{
    #pragma omp parallel for num_threads(threads)
    for (size_t at = 0; at < s->maps * s->n; at++) {
        const size_t map = at / s->n, i = at % s->n, h = map % s->heads;
        float *out = y + at * s->d;
        if (bias) memcpy(out, bias + h * s->d, s->d * sizeof *out);
        else memset(out, 0, s->d * sizeof *out);
        token(s, w + h * s->taps * s->d, x + map * s->n * s->d,
              (int)(i / (size_t)s->width), (int)(i % (size_t)s->width), out);
    }
}

static void forward(const att_call *c)
{
    const conv x = conv_of(c->p);
    turn_weights(&x, c->param[WEIGHT], false, c->work);
    convolve(&x, c->threads, c->work, c->v, c->param[BIAS], c->o);
}

/* dweight of one tap of one head, [c]: sum over batch and tokens of x dy. */
static void tap_gradient(const att_call *c, const conv *s, const float *dout,
                         size_t h, size_t tap, float *sum)
{
    const int u = (int)tap / s->kw - s->kh / 2;
    const int v = (int)tap % s->kw - s->kw / 2;
    memset(sum, 0, s->d * sizeof *sum);
    for (size_t map = h; map < s->maps; map += s->heads) {
        const float *x = (const float *)c->v + map * s->n * s->d;
        const float *dy = dout + map * s->n * s->d;
        for (int i = most(0, -u); i < least(s->height, s->height - u); i++)
            for (int j = most(0, -v); j < least(s->width, s->width - v); j++) {
                const size_t to = (size_t)(i * s->width + j) * s->d;
                const size_t from =
                    (size_t)((i + u) * s->width + j + v) * s->d;
                #pragma omp simd
                for (size_t k = 0; k < s->d; k++)
                    sum[k] += x[from + k] * dy[to + k];
            }
    }
}

static void bias_gradient(const conv *s, const float *dout, size_t h,
                          float *sum)
{
    memset(sum, 0, s->d * sizeof *sum);
    for (size_t map = h; map < s->maps; map += s->heads)
        for (size_t i = 0; i < s->n; i++)
            axpy(sum, 1, dout + (map * s->n + i) * s->d, s->d);
}

static void backward(const att_call *c, const att_grad *g)
{
    const conv s = conv_of(c->p);
    float *w = c->work;
    if (g->dv) {
        turn_weights(&s, c->param[WEIGHT], true, w);
        convolve(&s, c->threads, w, g->dout, NULL, g->dv);
    }
    if (g->dparam[WEIGHT]) {
        #pragma omp parallel for num_threads(c->threads)
        for (size_t t = 0; t < s.heads * s.taps; t++)
            tap_gradient(c, &s, g->dout, t / s.taps, t % s.taps, w + t * s.d);
        for (size_t h = 0; h < s.heads; h++)
            for (size_t k = 0; k < s.d; k++)
                for (size_t t = 0; t < s.taps; t++)
                    g->dparam[WEIGHT][(h * s.d + k) * s.taps + t] =
                        w[(h * s.taps + t) * s.d + k];
    }
    for (size_t h = 0; g->dparam[BIAS] && h < s.heads; h++)
        bias_gradient(&s, g->dout, h, g->dparam[BIAS] + h * s.d);
}

ATT_KERNELS = {
    {
        .name = "dwconv.direct",
        .mechanism = "dwconv",
        .brief = "one token at a time, vectors along channels",
        .plain = true,
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
