/* swin.tiled - each window as one dense block (dense.h).
 *
 * The bias of a window, [key][query], is the same for all windows of a head and
 * made once by prepare(); with a shift, windows of the last row and column of
 * windows also get the mask between regions.  Bound by the FMA pipes; the rest
 * is the softmax and the turning of Q and O.
 *
 * A task is a row of windows of one map: windows share no token, so that dk and
 * dv are written once.  Backward sums dS over the windows of a task before it is
 * folded into the table, task by task in order.
 */
#include "dense.h"
#include "windows.h"

enum { RPB, PAD_K, PAD_V };

typedef struct swin {
    windows m;
    const att_call *call;
    const att_grad *grad;
    size_t maps, rows, columns; /* of windows                                */
    size_t lanes;               /* slots rounded up to vectors               */
    const float *bias;          /* [head][key][lanes], in base 2, or NULL    */
} swin;

static const float hidden = -100; /* added to pairs of different regions */

static swin swin_of(const att_call *c, const att_grad *g)
{
    swin x = { .m = windows_of(c),
               .call = c,
               .grad = g,
               .maps = (size_t)c->p->batch * (size_t)c->p->heads };
    x.rows = (size_t)(x.m.axis[0].padded / x.m.axis[0].side);
    x.columns = (size_t)(x.m.axis[1].padded / x.m.axis[1].side);
    x.lanes = (x.m.slots + VL - 1) / VL * VL;
    if (c->p->bias && c->state)
        x.bias = (const float *)c->state +
                 direct_up(windows_state_bytes(&x.m) / sizeof(float));
    return x;
}

/* Entry of the table for key position j and query position i of a window. */
static size_t entry(const swin *x, size_t j, size_t i)
{
    const size_t high = (size_t)x->m.axis[0].side;
    const size_t wide = (size_t)x->m.axis[1].side;
    return (i / wide + high - 1 - j / wide) * (2 * wide - 1) + i % wide + wide -
           1 - j % wide;
}

/* ---- one window ---------------------------------------------------------------- */

typedef struct window {
    const swin *x;
    size_t head;
    int32_t *token, *region; /* of each position; token -1: padding          */
    bool mixed;              /* has more than one region                     */
    float *sum;              /* of dS over the windows of a task             */
} window;

static void open_window(const swin *x, size_t row, size_t column, window *w)
{
    const windows *m = &x->m;
    const windows_axis *y = &m->axis[0], *z = &m->axis[1];
    const size_t high = (size_t)y->side, wide = (size_t)z->side;
    w->mixed = false;
    for (size_t i = 0; i < x->lanes; i++) w->token[i] = -1, w->region[i] = 0;
    for (size_t i = 0; i < m->slots; i++) {
        const size_t b = row * high + i / wide, c = column * wide + i % wide;
        if (y->token[b] >= 0 && z->token[c] >= 0)
            w->token[i] = y->token[b] * z->length + z->token[c];
        w->region[i] = 3 * y->region[b] + z->region[c];
        w->mixed |= w->region[i] != w->region[0];
    }
}

/* Bias and mask of one key position for the lanes from a position on. */
SIMD_INLINE vf bias_of(const window *w, const float *bias, size_t key,
                       size_t lane)
{
    const vf sum = bias ? v_load(bias + key * w->x->lanes + lane) : v_zero();
    if (!w->mixed) return sum;
    const vi same = vi_load(w->region + lane) == w->region[key];
    return sum + v_select(same, v_zero(), v_set1(log2e * hidden));
}

static void add_bias(const dense *d, size_t first, size_t lanes, float *s)
{
    const window *w = d->geometry;
    const swin *x = w->x;
    const float *bias =
        x->bias ? x->bias + w->head * x->m.slots * x->lanes : NULL;
    for (size_t j = 0; j < d->keys; j++) {
        float *at = s + j * lanes;
        if (lanes == 1) at[0] += bias_of(w, bias, j, first)[0];
        else
            for (size_t l = 0; l < lanes; l += VL)
                v_store(at + l,
                        v_load(at + l) + bias_of(w, bias, j, first + l));
    }
}

static void sum_bias(const dense *d, size_t first, size_t lanes,
                     const float *ds, float *dq)
{
    (void)dq;
    const window *w = d->geometry;
    for (size_t j = 0; j < d->keys; j++)
        for (size_t l = 0; l < lanes; l += VL) {
            float *at = w->sum + j * w->x->lanes + first + l;
            v_store(at, v_load(at) + v_load(ds + j * lanes + l));
        }
}

/* ---- sizes ------------------------------------------------------------------------ */

/* Floats of a thread: tokens and regions (with a vector to spare), and a block. */
static size_t thread_floats(const swin *x, bool back)
{
    return 2 * direct_up(x->lanes + 2 * VL) +
           dense_floats(x->m.slots, x->m.d, back);
}

/* dS of a task, one for each. */
static size_t sum_floats(const swin *x)
{
    return x->call->p->bias ? direct_up(x->m.slots * x->lanes + DENSE_LANES)
                            : 0;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const att_call c = { .p = p };
    const swin x = swin_of(&c, NULL);
    const size_t table = p->bias ? (size_t)p->heads * x.m.slots * x.lanes : 0;
    const size_t n = (size_t)threads;
    *out = (att_sizes){
        .state = direct_up(windows_state_bytes(&x.m) / sizeof(float)) *
                     sizeof(float) +
                 (table + DENSE_LANES) * sizeof(float),
        .save = x.maps * x.m.n * sizeof(float),
        .work = n * thread_floats(&x, false) * sizeof(float),
        .work_backward = (n * thread_floats(&x, true) +
                          x.maps * x.rows * sum_floats(&x)) *
                         sizeof(float),
    };
}

static void prepare(const att_call *c)
{
    windows_prepare(c);
    const swin x = swin_of(c, NULL);
    const size_t heads = (size_t)c->p->heads;
    if (!x.bias) return;
    float *to = (float *)x.bias;
    memset(to, 0, (heads * x.m.slots * x.lanes + DENSE_LANES) * sizeof *to);
    for (size_t h = 0; h < heads; h++)
        for (size_t j = 0; j < x.m.slots; j++)
            for (size_t i = 0; i < x.m.slots; i++)
                to[(h * x.m.slots + j) * x.lanes + i] =
                    simd_base2(c->param[RPB][entry(&x, j, i) * heads + h]);
}

/* ---- calls -------------------------------------------------------------------------- */

/* Row of windows `at`, forward or backward. */
static void run_row(const swin *x, size_t at, float *work, float *sum)
{
    const att_call *c = x->call;
    const att_grad *g = x->grad;
    const size_t map = at / x->rows, row = at % x->rows;
    const size_t base = map * x->m.n * x->m.d;
    window w = { .x = x,
                 .head = map % (size_t)c->p->heads,
                 .token = (int32_t *)work,
                 .region = (int32_t *)work + direct_up(x->lanes + 2 * VL),
                 .sum = sum };
    work += 2 * direct_up(x->lanes + 2 * VL);
    dense d = { .d = x->m.d,
                .queries = x->m.slots,
                .keys = x->m.slots,
                .scale = log2e * x->m.scale,
                .query = w.token,
                .key = w.token,
                .pad_k = windows_pad(c, PAD_K, map),
                .pad_v = windows_pad(c, PAD_V, map),
                .dtype = c->p->dtype,
                .q = dense_at(c->p->dtype, c->q, base),
                .k = dense_at(c->p->dtype, c->k, base),
                .v = dense_at(c->p->dtype, c->v, base),
                .o = dense_at(c->p->dtype, c->o, base),
                .lse = c->save ? (float *)c->save + map * x->m.n : NULL,
                .geometry = &w };
    if (g) {
        d.g = g->dout + base;
        d.dq = g->dq ? g->dq + base : NULL;
        d.dk = g->dk ? g->dk + base : NULL;
        d.dv = g->dv ? g->dv + base : NULL;
        if (g->dparam[RPB]) {
            memset(sum, 0, sum_floats(x) * sizeof *sum);
            d.bias_back = sum_bias;
        }
    }
    for (size_t column = 0; column < x->columns; column++) {
        open_window(x, row, column, &w);
        d.bias = x->bias || w.mixed ? add_bias : NULL;
        if (g) dense_backward(&d, work);
        else dense_forward(&d, work);
    }
}

static void forward(const att_call *c)
{
    const swin x = swin_of(c, NULL);
    #pragma omp parallel for schedule(dynamic) num_threads(c->threads)
    for (size_t at = 0; at < x.maps * x.rows; at++)
        run_row(&x, at,
                (float *)c->work +
                    (size_t)omp_get_thread_num() * thread_floats(&x, false),
                NULL);
}

/* Sums of dS over all tasks of a head into its column of the table. */
static void fold(const swin *x, const float *sums, size_t head, float *table)
{
    const size_t heads = (size_t)x->call->p->heads;
    for (size_t t = 0; t < x->m.table; t++) table[t * heads + head] = 0;
    for (size_t map = head; map < x->maps; map += heads)
        for (size_t row = 0; row < x->rows; row++) {
            const float *sum = sums + (map * x->rows + row) * sum_floats(x);
            for (size_t j = 0; j < x->m.slots; j++)
                for (size_t i = 0; i < x->m.slots; i++)
                    table[entry(x, j, i) * heads + head] +=
                        sum[j * x->lanes + i];
        }
}

static void backward(const att_call *c, const att_grad *g)
{
    const swin x = swin_of(c, g);
    float *sums = (float *)c->work + (size_t)c->threads * thread_floats(&x, true);
    const size_t bytes = x.maps * x.m.n * x.m.d * sizeof(float);
    if (g->dk) memset(g->dk, 0, bytes);
    if (g->dv) memset(g->dv, 0, bytes);
    #pragma omp parallel num_threads(c->threads)
    {
        float *work = (float *)c->work +
                      (size_t)omp_get_thread_num() * thread_floats(&x, true);
        #pragma omp for schedule(dynamic)
        for (size_t at = 0; at < x.maps * x.rows; at++)
            run_row(&x, at, work, sums + at * sum_floats(&x));
        if (g->dparam[RPB]) {
            #pragma omp for
            for (size_t h = 0; h < (size_t)c->p->heads; h++)
                fold(&x, sums, h, g->dparam[RPB]);
        }
    }
}

ATT_KERNELS = {
    {
        .name = "swin.tiled",
        .mechanism = "swin",
        .brief = "each window as a dense block, lanes are queries",
        .reject = dense_reject,
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
