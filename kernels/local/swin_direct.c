/* swin.direct - one query at a time (see direct.h).
 *
 * Keys of a query are the tokens of its window in rolled order, padding last;
 * the queries of a key are the same tokens.  Bound by loads and horizontal sums.
 */
#include "direct.h"
#include "windows.h"

enum { RPB, PAD_K, PAD_V };

static const float hidden = -100; /* added to pairs of different regions */

typedef struct place {
    int y, x, y0, x0; /* rolled coordinates of a token and of its window */
} place;

static place place_of(const windows *m, size_t i)
{
    const size_t width = (size_t)m->axis[1].length;
    place at = { .y = m->axis[0].rolled[i / width],
                 .x = m->axis[1].rolled[i % width] };
    at.y0 = at.y - at.y % m->axis[0].side;
    at.x0 = at.x - at.x % m->axis[1].side;
    return at;
}

static void list(const direct *x, size_t map, size_t i, direct_row *row)
{
    const windows *m = x->geometry;
    const windows_axis *y = &m->axis[0], *w = &m->axis[1];
    const int high = y->side, wide = w->side, span = 2 * wide - 1;
    const place at = place_of(m, i);
    const size_t heads = (size_t)x->call->p->heads;
    const float *rpb = x->call->param[RPB];
    size_t n = 0;

    for (int pads = 0; pads < 2; pads++) {
        if (pads) row->keys = n;
        for (int b = at.y0; b < at.y0 + high; b++)
            for (int c = at.x0; c < at.x0 + wide; c++) {
                const int u = y->token[b], v = w->token[c];
                if ((u < 0 || v < 0) != pads) continue;
                const bool apart = y->region[b] != y->region[at.y] ||
                                   w->region[c] != w->region[at.x];
                row->key[n] = u * w->length + v;
                row->tag[n] = (at.y - b + high - 1) * span + at.x - c + wide - 1;
                row->bias[n] = apart ? hidden : 0;
                if (rpb)
                    row->bias[n] +=
                        rpb[(size_t)row->tag[n] * heads + map % heads];
                n++;
            }
    }
    row->pads = n - row->keys;
}

static void inverse(const direct *x, size_t map, size_t j, direct_row *row)
{
    (void)map;
    const windows *m = x->geometry;
    const windows_axis *y = &m->axis[0], *w = &m->axis[1];
    const place at = place_of(m, j);
    int32_t n = 0, slot = 0;
    for (int b = at.y0; b < at.y0 + y->side; b++)
        for (int c = at.x0; c < at.x0 + w->side; c++) {
            if (y->token[b] < 0 || w->token[c] < 0) continue;
            if (b == at.y && c == at.x) slot = n;
            row->key[n++] = y->token[b] * w->length + w->token[c];
        }
    for (int32_t t = 0; t < n; t++) row->tag[t] = slot;
    row->keys = (size_t)n;
}

static void relate(const direct *x, size_t map, size_t i, const direct_row *row,
                   const float *ds, float *sum, float *dq)
{
    (void)x, (void)map, (void)i, (void)dq;
    for (size_t t = 0; t < row->keys + row->pads; t++)
        sum[row->tag[t]] += ds[t];
}

static void fold(const direct *x, size_t map, const float *sum)
{
    const size_t heads = (size_t)x->call->p->heads;
    for (size_t t = 0; t < x->table; t++)
        x->grad->dparam[RPB][t * heads + map % heads] += sum[t];
}

static direct direct_of(const att_call *c, const att_grad *g, const windows *m)
{
    const att_problem *p = c->p;
    direct x = { .call = c,
                 .grad = g,
                 .geometry = m,
                 .maps = (size_t)p->batch * (size_t)p->heads,
                 .n = m->n,
                 .m = m->n,
                 .d = m->d,
                 .scale = m->scale,
                 .pad_k = c->param[PAD_K],
                 .pad_v = c->param[PAD_V],
                 .biased = p->bias || m->shifted,
                 .most = m->slots,
                 .most_back = m->slots,
                 .pairs = m->n * m->slots,
                 .table = p->bias ? m->table : 0,
                 .list = list,
                 .inverse = inverse };
    if (g && p->bias && g->dparam[RPB]) {
        x.relate = relate;
        x.fold = fold;
    }
    return x;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const att_call c = { .p = p };
    const windows m = windows_of(&c);
    const direct x = direct_of(&c, NULL, &m);
    *out = (att_sizes){ .state = windows_state_bytes(&m) };
    direct_sizes(&x, threads, out);
}

static void forward(const att_call *c)
{
    const windows m = windows_of(c);
    const direct x = direct_of(c, NULL, &m);
    direct_forward(&x);
}

static void backward(const att_call *c, const att_grad *g)
{
    const windows m = windows_of(c);
    const direct x = direct_of(c, g, &m);
    if (x.relate)
        memset(g->dparam[RPB], 0,
               (size_t)c->p->heads * m.table * sizeof(float));
    direct_backward(&x);
}

ATT_KERNELS = {
    {
        .name = "swin.direct",
        .mechanism = "swin",
        .brief = "one query at a time, row dot products",
        .plain = true,
        .sizes = sizes,
        .prepare = windows_prepare,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
