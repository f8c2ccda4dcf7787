/* na?d.direct - neighborhood attention, one query at a time (see direct.h).
 *
 * The list of a query's keys is the product of its windows per axis; the list of
 * a key's queries is the product of the inverse windows, which are wider than
 * the window near a border.  Bound by loads and horizontal sums.
 */
#include "direct.h"
#include "na.h"

enum { RPB };

static void list(const direct *x, size_t map, size_t i, direct_row *row)
{
    const na_map *m = x->geometry;
    row->keys = na_keys(m, i, row->key, row->tag);
    if (!x->biased) return;
    const float *rpb = x->call->param[RPB] +
                       map % (size_t)x->call->p->heads * m->table;
    for (size_t t = 0; t < row->keys; t++) row->bias[t] = rpb[row->tag[t]];
}

static void inverse(const direct *x, size_t map, size_t j, direct_row *row)
{
    (void)map;
    row->keys = na_queries(x->geometry, j, row->key, row->tag);
}

static void relate(const direct *x, size_t map, size_t i, const direct_row *row,
                   const float *ds, float *sum, float *dq)
{
    (void)x, (void)map, (void)i, (void)dq;
    for (size_t t = 0; t < row->keys; t++) sum[row->tag[t]] += ds[t];
}

static void fold(const direct *x, size_t map, const float *sum)
{
    const size_t head = map % (size_t)x->call->p->heads;
    axpy(x->grad->dparam[RPB] + head * x->table, 1, sum, x->table);
}

static direct direct_of(const att_call *c, const att_grad *g, const na_map *m)
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
                 .biased = p->bias != 0,
                 .most = m->slots,
                 .most_back = na_most_queries(p, m),
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
    const na_map m = na_map_of(&c);
    const direct x = direct_of(&c, NULL, &m);
    *out = (att_sizes){ .state = na_state_bytes(p) };
    direct_sizes(&x, threads, out);
}

static void forward(const att_call *c)
{
    const na_map m = na_map_of(c);
    const direct x = direct_of(c, NULL, &m);
    direct_forward(&x);
}

static void backward(const att_call *c, const att_grad *g)
{
    const na_map m = na_map_of(c);
    const direct x = direct_of(c, g, &m);
    if (x.relate)
        memset(g->dparam[RPB], 0,
               (size_t)c->p->heads * m.table * sizeof(float));
    direct_backward(&x);
}

#define NA(n)                                                                  \
    {                                                                          \
        .name = "na" n ".direct",                                              \
        .mechanism = "na" n,                                                   \
        .brief = "one query at a time, row dot products",                      \
        .plain = true,                                                         \
        .sizes = sizes,                                                        \
        .prepare = na_prepare,                                                 \
        .forward = forward,                                                    \
        .backward = backward,                                                  \
    }

ATT_KERNELS = { NA("1d"), NA("2d"), NA("3d"), { 0 } };
