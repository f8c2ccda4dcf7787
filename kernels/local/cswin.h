/* cswin.h - the stripes of CSWin and the convolution inside each as kernels see
 * them; the filters are turned once by prepare().
 */
#ifndef ATT_CSWIN_H
#define ATT_CSWIN_H

#include "../att.h"

#include <math.h>
#include <string.h>

#include "../simd.h"

enum { CSWIN_WEIGHT, CSWIN_BIAS };

typedef struct cswin {
    const att_call *call;
    const att_grad *grad;   /* NULL in forward                               */
    size_t n, d, pitch;     /* pitch: d rounded up to vectors                */
    float scale;
    int axis[2];            /* height and width of the map                   */
    int window, side;       /* of a stripe; of the filters                   */
    size_t taps;
    size_t maps, tasks;     /* tasks of a map: most stripes of either kind   */
    size_t slots;           /* most tokens of a stripe                       */
    const float *filters;   /* [head][taps and the bias][pitch]              */
} cswin;

/* c->state may be NULL when only sizes are wanted. */
static inline cswin cswin_of(const att_call *c, const att_grad *g)
{
    const att_problem *p = c->p;
    const size_t d = (size_t)p->head_dim;
    cswin x = { .call = c,
                .grad = g,
                .n = att_tokens(p),
                .d = d,
                .pitch = (d + VL - 1) / VL * VL,
                .scale = p->scale != 0 ? (float)p->scale : 1 / sqrtf((float)d),
                .axis = { p->grid.v[0], p->grid.v[1] },
                .window = att_at(&p->window, 0, 7),
                .side = att_at(&p->conv, 0, 3),
                .maps = (size_t)p->batch * (size_t)p->heads,
                .filters = c->state };
    x.taps = (size_t)x.side * (size_t)x.side;
    for (int a = 0; a < 2; a++) {
        const size_t length = (size_t)x.axis[a], w = (size_t)x.window;
        const size_t stripes = (length + w - 1) / w;
        const size_t slots = (w < length ? w : length) * (x.n / length);
        if (stripes > x.tasks) x.tasks = stripes;
        if (slots > x.slots) x.slots = slots;
    }
    return x;
}

static inline size_t cswin_state_bytes(const cswin *x)
{
    return (size_t)x->call->p->heads * (x->taps + 1) * x->pitch * sizeof(float);
}

static inline void cswin_prepare(const att_call *c)
{
    const cswin x = cswin_of(c, NULL);
    const size_t rows = x.taps + 1, channels = (size_t)c->p->heads * x.d;
    float *to = c->state;
    memset(to, 0, cswin_state_bytes(&x));
    for (size_t at = 0; at < channels; at++) {
        float *column = to + at / x.d * rows * x.pitch + at % x.d;
        for (size_t t = 0; t < x.taps; t++)
            column[t * x.pitch] = c->param[CSWIN_WEIGHT][at * x.taps + t];
        column[x.taps * x.pitch] = c->param[CSWIN_BIAS][at];
    }
}

/* ---- one stripe ---------------------------------------------------------------- */

typedef struct stripe {
    const cswin *x;
    int height, width;
    const float *filters; /* of the head                                     */
    int32_t *token;       /* of each position, rows first                    */
} stripe;

/* The axis that a head's stripes cut: upright ones cut the columns. */
static inline int cswin_axis(const cswin *x, size_t head)
{
    return 2 * head < (size_t)x->call->p->heads;
}

/* Stripe number `at` of a head, with its tokens; false if there is none. */
static inline bool cswin_stripe(const cswin *x, size_t head, size_t at,
                                int32_t *token, stripe *s)
{
    const int across = cswin_axis(x, head);
    const long first = (long)at * x->window;
    int start[2] = { 0, 0 }, size[2] = { x->axis[0], x->axis[1] };
    if (first >= x->axis[across]) return false;
    const int left = x->axis[across] - (int)first;
    start[across] = (int)first;
    size[across] = left < x->window ? left : x->window;
    *s = (stripe){ .x = x,
                   .height = size[0],
                   .width = size[1],
                   .filters = x->filters + head * (x->taps + 1) * x->pitch,
                   .token = token };
    for (int y = 0; y < size[0]; y++)
        for (int z = 0; z < size[1]; z++)
            *token++ = (start[0] + y) * x->axis[1] + start[1] + z;
    return true;
}

static inline size_t stripe_slots(const stripe *s)
{
    return (size_t)s->height * (size_t)s->width;
}

/* ---- LePE ------------------------------------------------------------------------ */

/* Taps [first, last) of a line of `side` that stay on a line of `length` when
 * centred at z. */
typedef struct lepe_taps {
    int first, last;
} lepe_taps;

static inline lepe_taps lepe_taps_at(int z, int length, int side)
{
    const int half = side / 2, left = length - z + half;
    return (lepe_taps){ half > z ? half - z : 0, left < side ? left : side };
}

/* LePE and bias at a position, channels [c, c + lanes).  v[position][d], or by
 * token if `token` is not NULL. */
SIMD_INLINE vf lepe_vector(const stripe *s, const float *v,
                           const int32_t *token, size_t i, size_t c,
                           size_t lanes)
{
    const cswin *x = s->x;
    const int y = (int)i / s->width, z = (int)i % s->width, half = x->side / 2;
    const lepe_taps down = lepe_taps_at(y, s->height, x->side);
    const lepe_taps along = lepe_taps_at(z, s->width, x->side);
    vf sum = v_load(s->filters + x->taps * x->pitch + c);
    for (int a = down.first; a < down.last; a++)
        for (int b = along.first; b < along.last; b++) {
            const size_t j =
                (size_t)((y + a - half) * s->width + z + b - half);
            const float *at = v + (token ? (size_t)token[j] : j) * x->d + c;
            const float *w =
                s->filters + (size_t)(a * x->side + b) * x->pitch + c;
            sum = v_fma(v_load(w), lanes == VL ? v_load(at)
                                               : v_load_n(at, lanes), sum);
        }
    return sum;
}

/* out += LePE + bias at a position. */
SIMD_INLINE void lepe_add(const stripe *s, const float *v, const int32_t *token,
                          size_t i, float *out)
{
    const size_t d = s->x->d;
    size_t c = 0;
    for (; c + VL <= d; c += VL)
        v_store(out + c, v_load(out + c) + lepe_vector(s, v, token, i, c, VL));
    if (c < d)
        v_store_n(out + c,
                  v_load_n(out + c, d - c) +
                      lepe_vector(s, v, token, i, c, d - c),
                  d - c);
}

/* What a position does to the gradients: of v (by token, may be NULL) at the
 * taps, of the filters and the bias, sum[taps and the bias][pitch].  v and g by
 * position, or by token if `token` is not NULL. */
SIMD_INLINE void lepe_back(const stripe *s, const float *v, const float *g,
                           const int32_t *token, size_t i, float *dv,
                           float *sum)
{
    const cswin *x = s->x;
    const int y = (int)i / s->width, z = (int)i % s->width, half = x->side / 2;
    const lepe_taps down = lepe_taps_at(y, s->height, x->side);
    const lepe_taps along = lepe_taps_at(z, s->width, x->side);
    for (size_t c = 0; c < x->d; c += VL) {
        const size_t lanes = x->d - c < VL ? x->d - c : VL;
        const vf dout =
            v_load_n(g + (token ? (size_t)token[i] : i) * x->d + c, lanes);
        float *bias = sum + x->taps * x->pitch + c;
        v_store(bias, v_load(bias) + dout);
        for (int a = down.first; a < down.last; a++)
            for (int b = along.first; b < along.last; b++) {
                const size_t tap = (size_t)(a * x->side + b) * x->pitch + c;
                const size_t j =
                    (size_t)((y + a - half) * s->width + z + b - half);
                const size_t at = (token ? (size_t)token[j] : j) * x->d + c;
                v_store(sum + tap, v_fma(dout, v_load_n(v + at, lanes),
                                         v_load(sum + tap)));
                if (!dv) continue;
                float *row = dv + (size_t)s->token[j] * x->d + c;
                v_store_n(row, v_fma(dout, v_load(s->filters + tap),
                                     v_load_n(row, lanes)), lanes);
            }
    }
}

/* Floats of one stripe's gradients of filters and bias. */
static inline size_t lepe_sum_floats(const cswin *x)
{
    return ((x->taps + 1) * x->pitch + 15) / 16 * 16;
}

/* Sums over the stripes of a head and over the batch, sums[map][task]. */
static inline void lepe_fold(const cswin *x, const float *sums, size_t head)
{
    const size_t heads = (size_t)x->call->p->heads;
    float *dw = x->grad->dparam[CSWIN_WEIGHT];
    float *db = x->grad->dparam[CSWIN_BIAS];
    for (size_t c = 0; c < x->d; c++)
        for (size_t t = 0; t <= x->taps; t++) {
            const size_t channel = head * x->d + c;
            float total = 0;
            for (size_t map = head; map < x->maps; map += heads)
                for (size_t s = 0; s < x->tasks; s++)
                    total += sums[(map * x->tasks + s) * lepe_sum_floats(x) +
                                  t * x->pitch + c];
            if (t < x->taps && dw) dw[channel * x->taps + t] = total;
            if (t == x->taps && db) db[channel] = total;
        }
}

#endif
