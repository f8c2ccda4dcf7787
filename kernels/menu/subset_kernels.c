/* subset_kv.direct, subset_kv.tiled - keys and values are gathered into
 * contiguous arrays, attended to (attend.h), and their gradients scattered back.
 */
#include "attend.h"

#include <string.h>

enum { INDEX };

typedef struct layout {
    size_t n, m, d, maps;
    size_t keep, k, v, dq, dk, dv, attend, total; /* floats                 */
} layout;

/* As the mechanism counts them: tokens_k, or all that the subset has. */
static size_t kept(const att_problem *p)
{
    const size_t n = att_tokens(p);
    if (p->tokens_k) return (size_t)p->tokens_k;
    switch (p->subset) {
    case ATT_SUBSET_EVEN: return (n + 1) / 2;
    case ATT_SUBSET_ODD: return n / 2;
    case ATT_SUBSET_STRIDE: {
        const size_t step = (size_t)att_at(&p->stride, 0, 1);
        return (n + step - 1) / step;
    }
    default: return n;
    }
}

static layout layout_of(const bool tiled, const att_problem *p, int threads,
                        bool back)
{
    layout x = { .n = att_tokens(p), .m = kept(p), .d = (size_t)p->head_dim };
    size_t at = 0;
    x.maps = (size_t)p->batch * (size_t)p->heads;
    const size_t keys = menu_round(x.maps * x.m * x.d);
    x.keep = at, at += menu_round(x.m);
    x.k = at, at += keys;
    x.v = at, at += keys;
    x.dq = at, at += back ? menu_round(x.maps * x.n * x.d) : 0;
    x.dk = at, at += back ? keys : 0;
    x.dv = at, at += back ? keys : 0;
    x.attend = at;
    x.total =
        at + attend_floats(tiled, x.maps, x.n, x.m, x.d, threads, back);
    return x;
}

static void sizes_of(const bool tiled, const att_problem *p, int threads,
                     att_sizes *out)
{
    *out = (att_sizes){
        .work = layout_of(tiled, p, threads, false).total * sizeof(float),
        .work_backward =
            layout_of(tiled, p, threads, true).total * sizeof(float),
    };
}

/* Token of entry s, or -1: the entry is left out. */
static ptrdiff_t token(const att_call *c, size_t s)
{
    const float x = c->param[INDEX][s];
    return x >= 0 && x < (float)att_tokens(c->p) ? (ptrdiff_t)x : -1;
}

static attend gather(const att_call *c, const layout *x)
{
    float *w = c->work;
    for (size_t s = 0; s < x->m; s++) w[x->keep + s] = token(c, s) >= 0;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t i = 0; i < x->maps * x->m; i++) {
        const ptrdiff_t j = token(c, i % x->m);
        const size_t from =
            (i / x->m * x->n + (j >= 0 ? (size_t)j : 0)) * x->d;
        memcpy(w + x->k + i * x->d, (const float *)c->k + from,
               x->d * sizeof *w);
        memcpy(w + x->v + i * x->d, (const float *)c->v + from,
               x->d * sizeof *w);
    }
    return (attend){ .maps = x->maps,
                     .n = x->n,
                     .m = x->m,
                     .d = x->d,
                     .q = c->q,
                     .k = w + x->k,
                     .v = w + x->v,
                     .keep = w + x->keep,
                     .scale = 1 / sqrtf((float)x->d),
                     .threads = c->threads,
                     .work = w + x->attend };
}

/* Rows of a map's gathered gradient are added to those of their tokens. */
static void scatter(const att_call *c, const layout *x, const float *from,
                    float *to)
{
    if (!to) return;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t map = 0; map < x->maps; map++) {
        memset(to + map * x->n * x->d, 0, x->n * x->d * sizeof *to);
        for (size_t s = 0; s < x->m; s++) {
            const ptrdiff_t j = token(c, s);
            if (j < 0) continue;
            attend_axpy(to + (map * x->n + (size_t)j) * x->d, 1,
                        from + (map * x->m + s) * x->d, x->d);
        }
    }
}

static void forward(const bool tiled, const att_call *c)
{
    const layout x = layout_of(tiled, c->p, c->threads, false);
    const attend a = gather(c, &x);
    attend_forward(tiled, &a, c->o);
}

static void backward(const bool tiled, const att_call *c, const att_grad *g)
{
    const layout x = layout_of(tiled, c->p, c->threads, true);
    const attend a = gather(c, &x);
    float *w = c->work;
    attend_backward(tiled, &a, g->dout, g->dq ? g->dq : w + x.dq, w + x.dk,
                    w + x.dv);
    scatter(c, &x, w + x.dk, g->dk);
    scatter(c, &x, w + x.dv, g->dv);
}

#define STAMP(name, tiled)                                                     \
    static void sizes_##name(const att_problem *p, int threads,                \
                             att_sizes *out)                                   \
    {                                                                          \
        sizes_of(tiled, p, threads, out);                                      \
    }                                                                          \
    static void forward_##name(const att_call *c)                              \
    {                                                                          \
        forward(tiled, c);                                                     \
    }                                                                          \
    static void backward_##name(const att_call *c, const att_grad *g)          \
    {                                                                          \
        backward(tiled, c, g);                                                 \
    }
STAMP(direct, false)
STAMP(tiled, true)
#undef STAMP

ATT_KERNELS = {
    {
        .name = "subset_kv.direct",
        .mechanism = "subset_kv",
        .brief = "gathered keys and values, row by row",
        .plain = true,
        .sizes = sizes_direct,
        .forward = forward_direct,
        .backward = backward_direct,
    },
    {
        .name = "subset_kv.tiled",
        .mechanism = "subset_kv",
        .brief = "gathered keys and values, register tiles",
        .sizes = sizes_tiled,
        .forward = forward_tiled,
        .backward = backward_tiled,
    },
    { 0 },
};
