/* na?d.unfold - neighborhood attention the framework way: every neighbourhood is
 * gathered into memory, then two batched products.
 *
 *     Ku[i][s] = k of slot s of query i     Vu likewise
 *     A_i = softmax(scale Ku[i] q_i + bias)     o_i = A_i Vu[i]
 *
 * Kept so that its memory (two copies of N x window x d, beside the weights) and
 * its time can be shown.  Backward makes the gradients of both copies and folds
 * them back over the inverse neighbourhoods.  Bound by memory: each key is
 * written and read once per query that sees it.
 */
#include "direct.h"
#include "na.h"

enum { RPB };

/* Over all maps; causal windows leave slots unused. */
typedef struct copies {
    float *k, *v;   /* [map][query][slot][d]                                 */
    float *weights; /* [map][query][slot]                                    */
    int32_t *list;  /* of a thread: two lists of indices                     */
    float *scores;  /* of a thread, as long as a list                        */
} copies;

typedef struct shape {
    const att_problem *p;
    na_map m;
    size_t maps, copy, weights, most; /* floats of each; length of a list    */
} shape;

static shape shape_of(const att_call *c)
{
    shape s = { .p = c->p,
                .m = na_map_of(c),
                .maps = (size_t)c->p->batch * (size_t)c->p->heads };
    s.weights = direct_up(s.maps * s.m.n * s.m.slots);
    s.copy = direct_up(s.maps * s.m.n * s.m.slots * s.m.d);
    s.most = na_most_queries(c->p, &s.m);
    if (s.most < s.m.slots) s.most = s.m.slots;
    s.most = direct_up(s.most);
    return s;
}

/* The copies lie in save if there will be a backward. */
static copies copies_of(const shape *s, const att_call *c, bool gradients)
{
    float *at = gradients || !c->save ? c->work : c->save;
    copies x = { .k = at, .v = at + s->copy, .weights = at + 2 * s->copy };
    float *lists = c->work;
    if (gradients || !c->save) lists += 2 * s->copy + s->weights;
    x.scores = lists + (size_t)omp_get_thread_num() * 3 * s->most;
    x.list = (int32_t *)(x.scores + s->most);
    return x;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const att_call c = { .p = p };
    const shape s = shape_of(&c);
    const size_t bytes = (2 * s.copy + s.weights) * sizeof(float);
    const size_t lists = (size_t)threads * 3 * s.most * sizeof(int32_t);
    *out = (att_sizes){ .state = na_state_bytes(p),
                        .save = bytes,
                        .work = bytes + lists,
                        .work_backward = bytes + lists };
}

static void gather(const shape *s, const float *from, const int32_t *key,
                   size_t keys, float *to)
{
    for (size_t t = 0; t < keys; t++)
        memcpy(to + t * s->m.d, from + (size_t)key[t] * s->m.d,
               s->m.d * sizeof *to);
}

static void gather_query(const shape *s, const att_call *c, size_t at,
                         copies x)
{
    const size_t map = at / s->m.n, first = at * s->m.slots * s->m.d;
    const size_t base = map * s->m.n * s->m.d;
    const size_t keys =
        na_keys(&s->m, at % s->m.n, x.list, x.list + s->most);
    gather(s, (const float *)c->k + base, x.list, keys, x.k + first);
    gather(s, (const float *)c->v + base, x.list, keys, x.v + first);
}

/* Weights and output of one query from its copies. */
static void attend_query(const shape *s, const att_call *c, size_t at, copies x)
{
    const size_t d = s->m.d, first = at * s->m.slots;
    const size_t map = at / s->m.n, head = map % (size_t)s->p->heads;
    const float *q = (const float *)c->q + at * d;
    const float *rpb = c->param[RPB];
    float *a = x.weights + first, *o = (float *)c->o + at * d, max;
    float *scores = x.scores;
    int32_t *entry = x.list + s->most;
    const size_t keys = na_keys(&s->m, at % s->m.n, x.list, entry);

    for (size_t t = 0; t < keys; t++) {
        scores[t] = log2e * s->m.scale * dot(q, x.k + (first + t) * d, d);
        if (rpb) scores[t] += simd_base2(rpb[head * s->m.table + (size_t)entry[t]]);
    }
    const float sum = soften(scores, keys, &max);
    memset(o, 0, d * sizeof *o);
    for (size_t t = 0; t < keys; t++) {
        a[t] = scores[t] * (sum > 0 ? 1 / sum : 0);
        axpy(o, a[t], x.v + (first + t) * d, d);
    }
}

static void forward(const att_call *c)
{
    const shape s = shape_of(c);
    #pragma omp parallel num_threads(c->threads)
    {
        const copies x = copies_of(&s, c, false);
        #pragma omp for
        for (size_t at = 0; at < s.maps * s.m.n; at++)
            gather_query(&s, c, at, x);
        #pragma omp for
        for (size_t at = 0; at < s.maps * s.m.n; at++)
            attend_query(&s, c, at, x);
    }
}

/* dq of one query, dS in dx.weights, gradients of its copies in dx.k and dx.v. */
static void query_gradient(const shape *s, const att_call *c,
                           const att_grad *g, size_t at, copies x, copies dx)
{
    const size_t d = s->m.d, first = at * s->m.slots;
    const float *q = (const float *)c->q + at * d, *dout = g->dout + at * d;
    const float mean = dot(dout, (const float *)c->o + at * d, d);
    const size_t keys =
        na_keys(&s->m, at % s->m.n, dx.list, dx.list + s->most);

    if (g->dq) memset(g->dq + at * d, 0, d * sizeof(float));
    for (size_t t = first; t < first + keys; t++) {
        const float a = x.weights[t];
        const float ds = a * (dot(dout, x.v + t * d, d) - mean);
        dx.weights[t] = ds;
        if (g->dq) axpy(g->dq + at * d, s->m.scale * ds, x.k + t * d, d);
        for (size_t i = 0; i < d; i++) {
            dx.k[t * d + i] = s->m.scale * ds * q[i];
            dx.v[t * d + i] = a * dout[i];
        }
    }
}

/* Sum over the queries that see key j of their copies of it. */
static void fold(const shape *s, const float *copy, size_t map,
                 const int32_t *query, const int32_t *slot, size_t queries,
                 float *out)
{
    memset(out, 0, s->m.d * sizeof *out);
    for (size_t t = 0; t < queries; t++) {
        const size_t at = map * s->m.n + (size_t)query[t];
        axpy(out, 1, copy + (at * s->m.slots + (size_t)slot[t]) * s->m.d,
             s->m.d);
    }
}

static void fold_key(const shape *s, const att_grad *g, size_t at, copies dx)
{
    const size_t map = at / s->m.n;
    int32_t *query = dx.list, *slot = dx.list + s->most;
    const size_t queries = na_queries(&s->m, at % s->m.n, query, slot);
    if (g->dk)
        fold(s, dx.k, map, query, slot, queries, g->dk + at * s->m.d);
    if (g->dv)
        fold(s, dx.v, map, query, slot, queries, g->dv + at * s->m.d);
}

/* drpb of one head, over the batch in order. */
static void bias_gradient(const shape *s, size_t head, copies dx, float *drpb)
{
    int32_t *entry = dx.list + s->most;
    memset(drpb, 0, s->m.table * sizeof *drpb);
    for (size_t map = head; map < s->maps; map += (size_t)s->p->heads)
        for (size_t i = 0; i < s->m.n; i++) {
            const size_t keys = na_keys(&s->m, i, dx.list, entry);
            const float *ds = dx.weights + (map * s->m.n + i) * s->m.slots;
            for (size_t t = 0; t < keys; t++) drpb[entry[t]] += ds[t];
        }
}

static void backward(const att_call *c, const att_grad *g)
{
    const shape s = shape_of(c);
    #pragma omp parallel num_threads(c->threads)
    {
        const copies x = copies_of(&s, c, false);
        const copies dx = copies_of(&s, c, true);
        #pragma omp for
        for (size_t at = 0; at < s.maps * s.m.n; at++)
            query_gradient(&s, c, g, at, x, dx);
        #pragma omp for
        for (size_t at = 0; at < s.maps * s.m.n; at++) fold_key(&s, g, at, dx);
        if (g->dparam[RPB]) {
            #pragma omp for
            for (size_t head = 0; head < (size_t)s.p->heads; head++)
                bias_gradient(&s, head, dx,
                              g->dparam[RPB] + head * s.m.table);
        }
    }
}

#define NA(n)                                                                  \
    {                                                                          \
        .name = "na" n ".unfold",                                              \
        .mechanism = "na" n,                                                   \
        .brief = "gathers every neighbourhood into memory",                    \
        .sizes = sizes,                                                        \
        .prepare = na_prepare,                                                 \
        .forward = forward,                                                    \
        .backward = backward,                                                  \
    }

ATT_KERNELS = { NA("1d"), NA("2d"), NA("3d"), { 0 } };
