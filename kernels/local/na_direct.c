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
    const na_axis *z = &m->axis[0], *y = &m->axis[1], *w = &m->axis[2];
    int at[3];
    na_split(m, i, at);
    size_t n = 0;
    for (int a = 0; a < z->count[at[0]]; a++)
        for (int b = 0; b < y->count[at[1]]; b++) {
            const int depth = z->first[at[0]] + a * z->dilation;
            const int line = y->first[at[1]] + b * y->dilation;
            const int first = (depth * y->length + line) * w->length +
                              w->first[at[2]];
            const int entry = ((z->rel[at[0]] + a) * (2 * y->window - 1) +
                               y->rel[at[1]] + b) *
                                  (2 * w->window - 1) +
                              w->rel[at[2]];
            for (int c = 0; c < w->count[at[2]]; c++, n++) {
                row->key[n] = first + c * w->dilation;
                row->tag[n] = entry + c;
            }
        }
    row->keys = n;
    if (!x->biased) return;
    const float *rpb = x->call->param[RPB] +
                       map % (size_t)x->call->p->heads * m->table;
    for (size_t t = 0; t < n; t++) row->bias[t] = rpb[row->tag[t]];
}

static void inverse(const direct *x, size_t j, direct_row *row)
{
    const na_map *m = x->geometry;
    const na_axis *z = &m->axis[0], *y = &m->axis[1], *w = &m->axis[2];
    int key[3];
    na_split(m, j, key);
    size_t n = 0;
    for (int a = 0; a < z->backs[key[0]]; a++)
        for (int b = 0; b < y->backs[key[1]]; b++) {
            const int depth = z->back[key[0]] + a * z->dilation;
            const int line = y->back[key[1]] + b * y->dilation;
            const int sz = (key[0] - z->first[depth]) / z->dilation;
            const int sy = (key[1] - y->first[line]) / y->dilation;
            const int slot = sz * y->count[line] + sy;
            for (int c = 0; c < w->backs[key[2]]; c++, n++) {
                const int column = w->back[key[2]] + c * w->dilation;
                row->key[n] =
                    (depth * y->length + line) * w->length + column;
                row->tag[n] = slot * w->count[column] +
                              (key[2] - w->first[column]) / w->dilation;
            }
        }
    row->keys = n;
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
                 .most_back = 1,
                 .pairs = m->n * m->slots,
                 .table = p->bias ? m->table : 0,
                 .list = list,
                 .inverse = inverse };
    /* a border key is seen by the queries whose windows were moved, too; with a
     * stride by those of whole groups */
    for (int a = 0; a < 3; a++) {
        const na_axis *axis = &m->axis[a];
        const int b = a - (3 - p->grid.n);
        const int stride = b < 0 ? 1 : att_at(&p->stride, b, 1);
        const int most = 2 * axis->window + 2 * stride;
        x.most_back *=
            (size_t)(most < axis->length ? most : axis->length);
    }
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
