/* conv.h - what the AFT-conv kernels share: the window and exact evaluation. */
#ifndef AFT_CONV_H
#define AFT_CONV_H

#include "../att.h"
#include "../simd.h"

#include <math.h>

enum { CONV_W, CONV_GAMMA, CONV_BETA }; /* parameters */

/* Where taps lie: key = token + (y - up, x - left), 0 <= y < rows, 0 <= x <
 * columns; tap index y * columns + x. */
typedef struct conv_window {
    int rows, columns, up, left;
    size_t taps;
    bool causal;
} conv_window;

static inline conv_window conv_window_of(const att_problem *p)
{
    const int s = att_at(&p->window, 0, 1);
    const bool sequence = att_height(p) == 1;
    conv_window w = { .rows = sequence ? 1 : s, .columns = s };
    w.causal = att_at(&p->causal, 0, 0) || att_at(&p->causal, 1, 0);
    w.up = sequence ? 0 : s / 2;
    w.left = w.causal ? s - 1 : s / 2;
    w.taps = (size_t)w.rows * (size_t)s;
    return w;
}

/* w_eff = gamma hat + beta, hat = (w - mean) / (std + 1e-5), of one head; returns
 * the sample standard deviation.  hat may be NULL. */
static inline __attribute__((unused)) float
conv_effective(const att_call *c, size_t taps, size_t h, float *effective,
               float *hat)
{
    const float *w = c->param[CONV_W] + h * taps;
    double mean = 0, square = 0;
    for (size_t i = 0; i < taps; i++) mean += w[i];
    mean /= (double)taps;
    for (size_t i = 0; i < taps; i++) square += (w[i] - mean) * (w[i] - mean);
    const double std = taps > 1 ? sqrt(square / (double)(taps - 1)) : 0;
    for (size_t i = 0; i < taps; i++) {
        const double x = taps > 1 ? (w[i] - mean) / (std + 1e-5) : 0;
        effective[i] = (float)(c->param[CONV_GAMMA][h] * x +
                               c->param[CONV_BETA][h]);
        if (hat) hat[i] = (float)x;
    }
    return (float)std;
}

/* Gradients of w, gamma and beta of one head from that of w_eff, dw.  The
 * deviation of equal taps is taken as constant. */
static inline __attribute__((unused)) void
conv_effective_backward(const att_call *c, const att_grad *g, size_t taps,
                        size_t h, const float *dw, const float *hat, float std)
{
    double sum = 0, along = 0;
    for (size_t i = 0; i < taps; i++) {
        sum += dw[i];
        along += (double)dw[i] * hat[i];
    }
    if (g->dparam[CONV_BETA]) g->dparam[CONV_BETA][h] = (float)sum;
    if (g->dparam[CONV_GAMMA]) g->dparam[CONV_GAMMA][h] = (float)along;
    if (!g->dparam[CONV_W]) return;
    const double scale = c->param[CONV_GAMMA][h] / (std + 1e-5);
    const double share =
        std > 0 ? along * (std + 1e-5) / ((double)(taps - 1) * std) : 0;
    for (size_t i = 0; i < taps; i++)
        g->dparam[CONV_W][h * taps + i] =
            taps > 1 ? (float)(scale * (dw[i] - sum / (double)taps -
                                        hat[i] * share))
                     : 0;
}

/* Copies w_eff to the extra output, for every batch entry. */
static inline __attribute__((unused)) void
conv_tell_window(const att_call *c, size_t all, const float *effective)
{
    for (size_t b = 0; c->extra[0] && b < (size_t)c->p->batch; b++)
        for (size_t i = 0; i < all; i++)
            c->extra[0][b * all + i] = effective[i];
}

/* Tokens that t sees are 0 .. conv_seen() - 1. */
static inline size_t conv_seen(const att_problem *p, const conv_window *w,
                               size_t t)
{
    return w->causal ? t + 1 : att_tokens(p);
}

/* Tap that joins t and j, or -1. */
static inline ptrdiff_t conv_tap(const att_problem *p, const conv_window *w,
                                 size_t t, size_t j)
{
    const ptrdiff_t width = att_width(p);
    const ptrdiff_t y = (ptrdiff_t)j / width - (ptrdiff_t)t / width + w->up;
    const ptrdiff_t x = (ptrdiff_t)j % width - (ptrdiff_t)t % width + w->left;
    if (y < 0 || y >= w->rows || x < 0 || x >= w->columns) return -1;
    return y * w->columns + x;
}

/* a[j] = exp(k_j + b_tj - max) of the tokens that t sees; returns the sum.
 * Logits are kept within +-1e38, so that their differences are finite. */
static inline __attribute__((unused)) float
conv_weights(const att_problem *p, const conv_window *w, const float *k,
             const float *effective, size_t t, float *a, float *top)
{
    const size_t end = conv_seen(p, w, t);
    float max = -1e38f, sum = 0;
    for (size_t j = 0; j < end; j++) {
        const ptrdiff_t i = conv_tap(p, w, t, j);
        const float s = k[j] + (i >= 0 ? effective[i] : 0);
        a[j] = fminf(fmaxf(s, -1e38f), 1e38f);
        max = fmaxf(max, a[j]);
    }
    for (size_t j = 0; j < end; j++) sum += a[j] = expf(a[j] - max);
    *top = max;
    return sum;
}

#endif
