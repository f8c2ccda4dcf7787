/* sasa.direct, halo.direct - one query at a time (see direct.h).
 *
 * The two differ in their windows (clip.h) and in the layout of their relative
 * embeddings.  The relative term is separable: q.rel_h and q.rel_w are made once
 * per query and added per pair; backward turns dS into row and column sums
 * before it touches dq and the embeddings.  Bound by loads and horizontal sums.
 */
#include "clip.h"
#include "direct.h"

enum { REL_H, REL_W };

/* Scratch `extra` of a thread: one number per row and column of the window. */
static void relative(const direct *x, size_t map, size_t i, float *extra)
{
    const clip *m = x->geometry;
    const size_t head = map % (size_t)x->call->p->heads;
    const size_t width = (size_t)m->axis[1].length;
    const size_t at[2] = { i / width, i % width };
    const float *q = (const float *)x->call->q + (map * m->n + i) * m->d;
    for (int a = 0; a < 2; a++) {
        const float *rel = x->call->param[a] + head * m->per_head[a] +
                           (size_t)m->axis[a].rel[at[a]] * m->width;
        for (int t = 0; t < m->side[a]; t++)
            *extra++ = m->scale_rel * dot(q + m->from[a],
                                          rel + (size_t)t * m->width, m->width);
    }
}

static void list(const direct *x, size_t map, size_t i, direct_row *row)
{
    const clip *m = x->geometry;
    const clip_axis *y = &m->axis[0], *w = &m->axis[1];
    const int at[2] = { (int)(i / (size_t)w->length),
                        (int)(i % (size_t)w->length) };
    const int y0 = y->skip[at[0]], y1 = y0 + y->count[at[0]];
    const int x0 = w->skip[at[1]], x1 = x0 + w->count[at[1]];
    size_t n = 0;
    for (int a = y0; a < y1; a++) {
        const int line = y->first[at[0]] + a - y0;
        for (int b = x0; b < x1; b++, n++) {
            row->key[n] = line * w->length + w->first[at[1]] + b - x0;
            row->tag[n] = a * m->side[1] + b;
        }
    }
    row->keys = n;
    if (m->zero) {
        for (int a = 0; a < m->side[0]; a++)
            for (int b = 0; b < m->side[1]; b++)
                if (a < y0 || a >= y1 || b < x0 || b >= x1)
                    row->tag[n++] = a * m->side[1] + b;
        row->pads = n - row->keys;
    }
    if (!m->biased) return;
    relative(x, map, i, row->extra);
    const float *rel_w = row->extra + m->side[0];
    for (size_t t = 0; t < n; t++)
        row->bias[t] = row->extra[row->tag[t] / m->side[1]] +
                       rel_w[row->tag[t] % m->side[1]];
}

static void inverse(const direct *x, size_t map, size_t j, direct_row *row)
{
    (void)map;
    const clip *m = x->geometry;
    const clip_axis *y = &m->axis[0], *w = &m->axis[1];
    const int u = (int)(j / (size_t)w->length);
    const int v = (int)(j % (size_t)w->length);
    size_t n = 0;
    for (int a = y->back[u]; a < y->back[u] + y->backs[u]; a++)
        for (int b = w->back[v]; b < w->back[v] + w->backs[v]; b++, n++) {
            row->key[n] = a * w->length + b;
            row->tag[n] = (u - y->first[a]) * w->count[b] + v - w->first[b];
        }
    row->keys = n;
}

/* drel and the relative part of dq from sums of dS over rows and columns. */
static void relate(const direct *x, size_t map, size_t i, const direct_row *row,
                   const float *ds, float *sum, float *dq)
{
    const clip *m = x->geometry;
    const size_t head = map % (size_t)x->call->p->heads;
    const size_t width = (size_t)m->axis[1].length;
    const size_t at[2] = { i / width, i % width };
    const float *q = (const float *)x->call->q + (map * m->n + i) * m->d;
    float *sums[2] = { row->extra, row->extra + m->side[0] };

    memset(row->extra, 0, x->extra * sizeof *row->extra);
    for (size_t t = 0; t < row->keys + row->pads; t++) {
        sums[0][row->tag[t] / m->side[1]] += ds[t];
        sums[1][row->tag[t] % m->side[1]] += ds[t];
    }
    for (int a = 0; a < 2; a++) {
        const size_t first = (size_t)m->axis[a].rel[at[a]];
        const float *rel = x->call->param[a] + head * m->per_head[a];
        for (int t = 0; t < m->side[a]; t++) {
            const size_t entry = (first + (size_t)t) * m->width;
            const float g = m->scale_rel * sums[a][t];
            if (dq) axpy(dq + m->from[a], g, rel + entry, m->width);
            axpy(sum + entry, g, q + m->from[a], m->width);
        }
        sum += m->rows[a] * m->width;
    }
}

static void fold(const direct *x, size_t map, const float *sum)
{
    const clip *m = x->geometry;
    const size_t head = map % (size_t)x->call->p->heads;
    for (int a = 0; a < 2; a++) {
        const size_t n = m->rows[a] * m->width;
        if (x->grad->dparam[a])
            axpy(x->grad->dparam[a] + head * m->per_head[a], 1, sum, n);
        sum += n;
    }
}

static direct direct_of(const att_call *c, const att_grad *g, const clip *m)
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
                 .biased = m->biased,
                 .most = m->slots,
                 .most_back = 1,
                 .pairs = m->n * m->slots,
                 .list = list,
                 .inverse = inverse };
    for (int a = 0; a < 2; a++) { /* at most two blocks and two halos */
        const int most = 2 * m->side[a], length = m->axis[a].length;
        x.most_back *= (size_t)(most < length ? most : length);
    }
    if (!m->biased) return x;
    x.extra = (size_t)(m->side[0] + m->side[1]);
    x.table = (m->rows[0] + m->rows[1]) * m->width;
    if (g) {
        x.relate = relate;
        x.fold = fold;
    }
    return x;
}

static void sizes(const att_problem *p, int threads, const clip *m,
                  att_sizes *out)
{
    const att_call c = { .p = p };
    const direct x = direct_of(&c, NULL, m);
    *out = (att_sizes){ .state = clip_state_bytes(p) };
    direct_sizes(&x, threads, out);
}

static void backward(const att_call *c, const att_grad *g, const clip *m)
{
    const direct x = direct_of(c, g, m);
    const size_t heads = m->per_head[0] ? (size_t)c->p->heads : 1;
    for (int a = 0; a < 2; a++)
        if (g->dparam[a])
            memset(g->dparam[a], 0,
                   heads * m->rows[a] * m->width * sizeof(float));
    direct_backward(&x);
}

#define CLIP(mech)                                                             \
    static void mech##_sizes(const att_problem *p, int threads,                \
                             att_sizes *out)                                   \
    {                                                                          \
        const att_call c = { .p = p };                                         \
        const clip m = clip_##mech(&c);                                        \
        sizes(p, threads, &m, out);                                            \
    }                                                                          \
    static void mech##_forward(const att_call *c)                              \
    {                                                                          \
        const clip m = clip_##mech(c);                                         \
        const direct x = direct_of(c, NULL, &m);                               \
        direct_forward(&x);                                                    \
    }                                                                          \
    static void mech##_backward(const att_call *c, const att_grad *g)          \
    {                                                                          \
        const clip m = clip_##mech(c);                                         \
        backward(c, g, &m);                                                    \
    }
CLIP(sasa)
CLIP(halo)

static const char *reject(const att_problem *p, enum att_pass pass)
{
    (void)pass;
    if (p->dtype != ATT_F32) return "float32 storage only";
    return att_at(&p->stride, 0, 1) != 1 ? "one query for each key only" : NULL;
}

#define KERNEL(mech)                                                           \
    {                                                                          \
        .name = #mech ".direct",                                               \
        .mechanism = #mech,                                                    \
        .brief = "one query at a time, row dot products",                      \
        .plain = true,                                                         \
        .reject = reject,                                                      \
        .sizes = mech##_sizes,                                                 \
        .prepare = clip_prepare_##mech,                                        \
        .forward = mech##_forward,                                             \
        .backward = mech##_backward,                                           \
    }

ATT_KERNELS = { KERNEL(sasa), KERNEL(halo), { 0 } };
