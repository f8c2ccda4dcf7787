/* cswin.tiled - each stripe as one dense block (dense.h); LePE is added to the
 * outputs of a group of queries before they are stored, from the values that the
 * block gathered anyhow.
 *
 * Bound by the FMA pipes, as swin.tiled: of 2 H w + 9 multiply-adds a channel, 9
 * are LePE's.  A task is a stripe of one map; stripes share no token, so that dk
 * and dv are written once.  Gradients of the filters are summed stripe by stripe
 * and then over the stripes of a head, in order.
 */
#include "dense.h"

enum { WEIGHT, BIAS };

typedef struct cswin {
    const att_call *call;
    const att_grad *grad;
    size_t n, d, pitch;     /* pitch: d rounded up to vectors                */
    int axis[2];            /* height and width of the map                   */
    int window, side;       /* of a stripe; of the filters                   */
    size_t taps;
    size_t maps, tasks;     /* tasks of a map: most stripes of either kind   */
    size_t slots;           /* most tokens of a stripe                       */
    const float *filters;   /* [head][taps and the bias][pitch]              */
} cswin;

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static cswin cswin_of(const att_call *c, const att_grad *g)
{
    const att_problem *p = c->p;
    cswin x = { .call = c,
                .grad = g,
                .n = att_tokens(p),
                .d = (size_t)p->head_dim,
                .pitch = ((size_t)p->head_dim + VL - 1) / VL * VL,
                .axis = { p->grid.v[0], p->grid.v[1] },
                .window = att_at(&p->window, 0, 7),
                .side = att_at(&p->conv, 0, 3),
                .maps = (size_t)p->batch * (size_t)p->heads,
                .filters = c->state };
    x.taps = (size_t)x.side * (size_t)x.side;
    for (int a = 0; a < 2; a++) {
        const int length = x.axis[a];
        const int w = x.window < length ? x.window : length;
        x.tasks = larger(x.tasks, (size_t)((length + w - 1) / w));
        x.slots = larger(x.slots, (size_t)w * (x.n / (size_t)length));
    }
    return x;
}

/* ---- one stripe ---------------------------------------------------------------- */

typedef struct stripe {
    const cswin *x;
    int height, width;
    const float *filters; /* of the head                                     */
    int32_t *token;
} stripe;

/* Stripe number `at` of a head; false if there is none. */
static bool open_stripe(const cswin *x, size_t head, size_t at, int32_t *token,
                        stripe *s)
{
    const int across = 2 * (int)head < x->call->p->heads; /* axis that is cut */
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
    for (int i = 0; i < VL; i++) token[i] = -1;
    return true;
}

/* Taps [first, last) of a line of `side` that stay on a line of `length` when
 * centred at position z. */
typedef struct taps {
    int first, last;
} taps;

static taps taps_at(int z, int length, int side)
{
    const int half = side / 2, left = length - z + half;
    return (taps){ half > z ? half - z : 0, left < side ? left : side };
}

/* out += b + LePE at position (y, z): channels [c, c + lanes). */
SIMD_INLINE vf lepe(const stripe *s, const float *v, int y, int z, size_t c,
                    size_t lanes)
{
    const cswin *x = s->x;
    const int half = x->side / 2;
    const taps down = taps_at(y, s->height, x->side);
    const taps along = taps_at(z, s->width, x->side);
    vf sum = v_load(s->filters + x->taps * x->pitch + c);
    for (int a = down.first; a < down.last; a++)
        for (int b = along.first; b < along.last; b++) {
            const float *at = v + c +
                              (size_t)((y + a - half) * s->width + z + b -
                                       half) *
                                  x->d;
            const float *w =
                s->filters + (size_t)(a * x->side + b) * x->pitch + c;
            sum = v_fma(v_load(w), lanes == VL ? v_load(at)
                                               : v_load_n(at, lanes), sum);
        }
    return sum;
}

static void add_lepe(const dense *d, const float *v, size_t first, size_t n,
                     float *out, size_t pitch)
{
    const stripe *s = d->geometry;
    for (size_t i = first; i < first + n; i++, out += pitch) {
        const int y = (int)i / s->width, z = (int)i % s->width;
        size_t c = 0;
        for (; c + VL <= d->d; c += VL)
            v_store(out + c, v_load(out + c) + lepe(s, v, y, z, c, VL));
        if (c < d->d)
            v_store_n(out + c,
                      v_load_n(out + c, d->d - c) +
                          lepe(s, v, y, z, c, d->d - c),
                      d->d - c);
    }
}

/* What position i does to the gradients: of v at the taps, of the filters and of
 * the bias, sum[tap or bias][pitch]. */
static void lepe_back(const stripe *s, size_t i, const float *v, const float *g,
                      float *dv, float *sum)
{
    const cswin *x = s->x;
    const int y = (int)i / s->width, z = (int)i % s->width, half = x->side / 2;
    const taps down = taps_at(y, s->height, x->side);
    const taps along = taps_at(z, s->width, x->side);
    for (size_t c = 0; c < x->d; c += VL) {
        const size_t lanes = x->d - c < VL ? x->d - c : VL;
        const vf dout = v_load_n(g + i * x->d + c, lanes);
        float *bias = sum + x->taps * x->pitch + c;
        v_store(bias, v_load(bias) + dout);
        for (int a = down.first; a < down.last; a++)
            for (int b = along.first; b < along.last; b++) {
                const size_t tap = (size_t)(a * x->side + b) * x->pitch + c;
                const size_t j = (size_t)((y + a - half) * s->width + z + b -
                                          half);
                float *row = dv ? dv + (size_t)s->token[j] * x->d + c : NULL;
                v_store(sum + tap,
                        v_fma(dout, v_load_n(v + j * x->d + c, lanes),
                              v_load(sum + tap)));
                if (dv)
                    v_store_n(row, v_fma(dout, v_load(s->filters + tap),
                                         v_load_n(row, lanes)), lanes);
            }
    }
}

/* ---- sizes ------------------------------------------------------------------------ */

static size_t token_floats(const cswin *x)
{
    return direct_up(x->slots + VL);
}

/* Tokens, a block, and for backward the rows of dO and v. */
static size_t thread_floats(const cswin *x, bool back)
{
    return token_floats(x) + dense_floats(x->slots, x->d, back) +
           (back ? 2 * direct_up(x->slots * x->d) : 0);
}

/* Gradients of the filters and the bias from one stripe. */
static size_t sum_floats(const cswin *x)
{
    return direct_up((x->taps + 1) * x->pitch);
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const att_call c = { .p = p };
    const cswin x = cswin_of(&c, NULL);
    const size_t n = (size_t)threads;
    *out = (att_sizes){
        .state = (size_t)p->heads * (x.taps + 1) * x.pitch * sizeof(float),
        .save = x.maps * x.n * sizeof(float),
        .work = n * thread_floats(&x, false) * sizeof(float),
        .work_backward = (n * thread_floats(&x, true) +
                          x.maps * x.tasks * sum_floats(&x)) *
                         sizeof(float),
    };
}

static void prepare(const att_call *c)
{
    const cswin x = cswin_of(c, NULL);
    const size_t rows = x.taps + 1, channels = (size_t)c->p->heads * x.d;
    float *to = c->state;
    memset(to, 0, (size_t)c->p->heads * rows * x.pitch * sizeof *to);
    for (size_t at = 0; at < channels; at++) {
        float *column = to + at / x.d * rows * x.pitch + at % x.d;
        for (size_t t = 0; t < x.taps; t++)
            column[t * x.pitch] = c->param[WEIGHT][at * x.taps + t];
        column[x.taps * x.pitch] = c->param[BIAS][at];
    }
}

/* ---- calls -------------------------------------------------------------------------- */

static dense block_of(const cswin *x, size_t map, const stripe *s)
{
    const att_call *c = x->call;
    const att_grad *g = x->grad;
    const size_t base = map * x->n * x->d;
    const size_t slots = (size_t)s->height * (size_t)s->width;
    const float scale = c->p->scale != 0 ? (float)c->p->scale
                                         : 1 / sqrtf((float)x->d);
    return (dense){ .d = x->d,
                    .queries = slots,
                    .keys = slots,
                    .scale = log2e * scale,
                    .query = s->token,
                    .key = s->token,
                    .dtype = c->p->dtype,
                    .q = dense_at(c->p->dtype, c->q, base),
                    .k = dense_at(c->p->dtype, c->k, base),
                    .v = dense_at(c->p->dtype, c->v, base),
                    .o = dense_at(c->p->dtype, c->o, base),
                    .lse = c->save ? (float *)c->save + map * x->n : NULL,
                    .g = g ? g->dout + base : NULL,
                    .dq = g && g->dq ? g->dq + base : NULL,
                    .dk = g && g->dk ? g->dk + base : NULL,
                    .dv = g && g->dv ? g->dv + base : NULL,
                    .finish = add_lepe,
                    .geometry = s };
}

static void forward(const att_call *c)
{
    const cswin x = cswin_of(c, NULL);
    #pragma omp parallel for schedule(dynamic) num_threads(c->threads)
    for (size_t at = 0; at < x.maps * x.tasks; at++) {
        float *work = (float *)c->work +
                      (size_t)omp_get_thread_num() * thread_floats(&x, false);
        const size_t map = at / x.tasks;
        stripe s;
        if (!open_stripe(&x, map % (size_t)c->p->heads, at % x.tasks,
                         (int32_t *)work, &s))
            continue;
        dense d = block_of(&x, map, &s);
        dense_forward(&d, work + token_floats(&x));
    }
}

/* Stripe `at`; sum gets its gradients of the filters. */
static void run_back(const cswin *x, size_t at, float *work, float *sum)
{
    const att_call *c = x->call;
    const size_t map = at / x->tasks;
    stripe s;
    memset(sum, 0, sum_floats(x) * sizeof *sum);
    if (!open_stripe(x, map % (size_t)c->p->heads, at % x->tasks,
                     (int32_t *)work, &s))
        return;
    dense d = block_of(x, map, &s);
    float *v = work + token_floats(x) + dense_floats(x->slots, x->d, true);
    float *g = v + direct_up(x->slots * x->d);
    dense_backward(&d, work + token_floats(x));
    dense_gather(c->p->dtype, d.v, s.token, d.keys, x->d, 1, v);
    dense_gather(ATT_F32, d.g, s.token, d.keys, x->d, 1, g);
    for (size_t i = 0; i < d.keys; i++) lepe_back(&s, i, v, g, d.dv, sum);
}

/* Sums over the stripes of a head, and over the batch. */
static void fold(const cswin *x, const float *sums, size_t head)
{
    const size_t heads = (size_t)x->call->p->heads;
    float *dw = x->grad->dparam[WEIGHT], *db = x->grad->dparam[BIAS];
    for (size_t c = 0; c < x->d; c++)
        for (size_t t = 0; t <= x->taps; t++) {
            float total = 0;
            for (size_t map = head; map < x->maps; map += heads)
                for (size_t s = 0; s < x->tasks; s++)
                    total += sums[(map * x->tasks + s) * sum_floats(x) +
                                  t * x->pitch + c];
            const size_t channel = head * x->d + c;
            if (t == x->taps) {
                if (db) db[channel] = total;
            } else if (dw) dw[channel * x->taps + t] = total;
        }
}

static void backward(const att_call *c, const att_grad *g)
{
    const cswin x = cswin_of(c, g);
    float *sums = (float *)c->work + (size_t)c->threads * thread_floats(&x, true);
    const size_t bytes = x.maps * x.n * x.d * sizeof(float);
    if (g->dk) memset(g->dk, 0, bytes);
    if (g->dv) memset(g->dv, 0, bytes);
    #pragma omp parallel num_threads(c->threads)
    {
        float *work = (float *)c->work +
                      (size_t)omp_get_thread_num() * thread_floats(&x, true);
        #pragma omp for schedule(dynamic)
        for (size_t at = 0; at < x.maps * x.tasks; at++)
            run_back(&x, at, work, sums + at * sum_floats(&x));
        #pragma omp for
        for (size_t h = 0; h < (size_t)c->p->heads; h++) fold(&x, sums, h);
    }
}

ATT_KERNELS = {
    {
        .name = "cswin.tiled",
        .mechanism = "cswin",
        .brief = "each stripe as a dense block, lanes are queries",
        .reject = dense_reject,
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
