/* sasa.tiled - stand-alone self-attention on planar rows (planar_window.h).
 *
 * Windows are centred, so that a padded planar row gives every key vector by one
 * straight load.  padding = zero: the zeros beyond the border are keys like any
 * other; padding = mask: rows beyond it are not visited, columns are hidden.
 *
 * The relative term is two small products per query row, q.rel_h and q.rel_w,
 * which are added per slot.  Backward keeps the sums of dS over rows and columns
 * of the window; dq gets them times the embeddings, and the embeddings get them
 * times q at the end.
 *
 * Bound by the FMA pipes as na2d.tiled is, and by zeros at the border.
 */
#include "clip.h"
#include "planar_back.h"

#include "../tile.h"

enum { REL_H, REL_W };

static const float log2e = 1.44269504f;

/* ---- relative term ------------------------------------------------------------- */

/* Numbers of a query: one for each row and for each column of the window. */
static size_t relatives(const planar *p)
{
    return (size_t)p->axis[1][0].slots + (size_t)p->axis[2][0].slots;
}

/* Embedding of an axis (0: rows, 1: columns) for the head of an item. */
static const float *embedding(const planar *p, const planar_task *t, int item,
                              int axis)
{
    const size_t head = t->map[item] % (size_t)p->call->p->heads;
    return p->call->param[axis] +
           head * (size_t)p->axis[1 + axis][0].slots * (p->d / 2);
}

/* t->bias: [row][relatives][q_pitch], the products of the block's queries. */
static void bias_rows(const planar *p, planar_task *t)
{
    const size_t half = p->d / 2, n = (size_t)t->axis[2]->n;
    for (int i = 0; i < t->rows; i++) {
        const float *q = t->q + (size_t)i * p->d * p->q_pitch;
        float *to = t->bias + (size_t)i * relatives(p) * p->q_pitch;
        for (int axis = 0; axis < 2; axis++) {
            const size_t slots = (size_t)t->axis[1 + axis]->slots;
            for (int item = 0; item < t->items; item++) {
                /* a panel is one item or a part of one, or several */
                const size_t at = t->items > 1 ? (size_t)item * n : 0;
                const size_t columns =
                    t->items > 1 ? n : (size_t)(t->x1 - t->x0);
                tile_gemm(slots, columns, half, embedding(p, t, item, axis),
                          half, 1,
                          q + (size_t)axis * half * p->q_pitch + at, p->q_pitch,
                          to + at, p->q_pitch, false);
            }
            to += slots * p->q_pitch;
        }
    }
}

/* s = log2(e) scale (s + q.rel_h + q.rel_w). */
static void bias_add(const planar *p, const planar_task *t,
                     const planar_lanes *x, int i, float *s)
{
    const planar_axis *rows = t->axis[1];
    const int slots = t->axis[2]->slots;
    const vf scale = v_set1(log2e * p->scale);
    const float *h = t->bias + (size_t)i * relatives(p) * p->q_pitch +
                     (x->first - t->x0);
    const float *w = h + (size_t)rows->slots * p->q_pitch;
    for (int a = rows->low[t->y + i]; a < rows->high[t->y + i]; a++) {
        const vf of_row = v_load(h + (size_t)a * p->q_pitch);
        for (int b = 0; b < slots; b++, s += VL)
            v_store(s, scale * (v_load(s) +
                                (of_row + v_load(w + (size_t)b * p->q_pitch))));
    }
}

/* ---- gradient of the relative term ------------------------------------------------ */

/* dq += rel' sums for the lanes of one item. */
static void add_to_dq(const planar *p, const planar_task *t, int item,
                      const planar_lanes *x, const float *sums, float *dq)
{
    const size_t half = p->d / 2;
    float own[VL], product[VL];
    for (int l = 0; l < VL; l++) own[l] = x->item[l] == item;
    for (int axis = 0; axis < 2; axis++) {
        const size_t slots = (size_t)t->axis[1 + axis]->slots;
        const float *rel = embedding(p, t, item, axis);
        for (size_t c = 0; c < half; c++) {
            vf sum = v_zero();
            for (size_t a = 0; a < slots; a++)
                sum = v_fma(v_set1(rel[a * half + c]), v_load(sums + a * p->width),
                            sum);
            float *at = dq + ((size_t)axis * half + c) * VL;
            v_store(product, sum * v_load(own));
            v_store(at, v_load(at) + v_load(product));
        }
        sums += slots * p->width;
    }
}

/* Keeps the sums of dS over rows and columns of the window, [relatives][width]. */
static void bias_back(const planar *p, const planar_bundle *b,
                      const planar_task *t, const planar_lanes *x, int i,
                      const float *ds, float *dq)
{
    const planar_axis *rows = t->axis[1];
    const int slots = t->axis[2]->slots;
    float *keep = planar_kept(p, b, t->z, t->y + i) + x->first;
    float *h = keep, *w = keep + (size_t)rows->slots * p->width;
    for (size_t a = 0; a < relatives(p); a++)
        v_store(keep + a * p->width, v_zero());
    for (int a = rows->low[t->y + i]; a < rows->high[t->y + i]; a++) {
        vf sum = v_zero();
        for (int c = 0; c < slots; c++, ds += VL) {
            float *column = w + (size_t)c * p->width;
            sum += v_load(ds);
            v_store(column, v_load(column) + v_load(ds));
        }
        v_store(h + (size_t)a * p->width, sum);
    }
    if (!dq) return;
    for (int l = 0; l < x->count; l++)
        if (l == 0 || x->item[l] != x->item[l - 1])
            add_to_dq(p, t, x->item[l], x, keep, dq);
}

/* drel_h, drel_w += sums q of the rows of one part. */
static void bias_part(const planar *p, const planar_bundle *b, int part,
                      float *sum)
{
    const planar_task *t = &b->shape;
    const size_t half = p->d / 2, n = (size_t)t->axis[2]->n;
    const size_t heads = (size_t)p->call->p->heads;
    const int rows = t->axis[1]->n;
    for (int y = rows * part / PLANAR_PARTS; y < rows * (part + 1) / PLANAR_PARTS;
         y++)
        for (int item = 0; item < t->items; item++) {
            const float *kept = planar_kept(p, b, 0, y) + (size_t)item * n;
            const float *q =
                (const float *)p->call->q +
                (t->token[item] + planar_offset(t, 0, y)) * p->d;
            float *to = sum;
            for (int axis = 0; axis < 2; axis++) {
                const size_t slots = (size_t)t->axis[1 + axis]->slots;
                tile_gemm(slots, half, n, kept, p->width, 1,
                          q + (size_t)axis * half, p->d,
                          to + t->map[item] % heads * slots * half, half, true);
                kept += slots * p->width;
                to += heads * slots * half;
            }
        }
}

/* ---- tables ------------------------------------------------------------------------ */

enum { TABLES = PLANAR_TABLES };

static void prepare_axis(int n, int side, bool zero, int32_t *table)
{
    int32_t *start = table, *low = table + n, *high = table + 2 * n;
    int32_t *back = table + 3 * n, *backs = table + 4 * n;
    const int pad = side / 2;
    for (int x = 0; x < n; x++) {
        start[x] = x;
        low[x] = zero ? 0 : planar_most(pad - x, 0);
        high[x] = zero ? side : planar_least(side, n + pad - x);
        back[x] = planar_most(x - pad, 0);
        backs[x] = planar_least(x + pad + 1, n) - back[x];
    }
}

static void prepare(const att_call *c)
{
    const clip m = clip_sasa(c);
    int32_t *table = c->state;
    for (int a = 0; a < 2; a++) {
        prepare_axis(m.axis[a].length, m.side[a], m.zero, table);
        table += TABLES * m.axis[a].length;
    }
}

/* The one slice that a 2-D map is. */
static const int32_t slice[TABLES] = { 0, 0, 1, 0, 1 };

static planar_axis axis_of(int n, int side, const int32_t *table)
{
    planar_axis x = { .n = n, .slots = side, .pad = side / 2 };
    if (!table) return x;
    x.start = table;
    x.low = table + n;
    x.high = table + 2 * n;
    x.back = table + 3 * n;
    x.backs = table + 4 * n;
    return x;
}

static planar planar_of(const att_call *c, const att_grad *g)
{
    const clip m = clip_sasa(c);
    const int32_t *table = c->state;
    const int stride[3] = { 1, 1, 1 };
    planar p = { .call = c,
                 .grad = g,
                 .maps = (size_t)c->p->batch * (size_t)c->p->heads,
                 .n = m.n,
                 .d = m.d,
                 .scale = m.scale,
                 .length = { 1, m.axis[0].length, m.axis[1].length },
                 .dilation = { 1, 1, 1 } };
    p.axis[0][0] = p.axis[0][1] = axis_of(1, 1, slice);
    for (int a = 0; a < 2; a++) {
        const int n = m.axis[a].length;
        p.axis[1 + a][0] = p.axis[1 + a][1] = axis_of(n, m.side[a], table);
        if (table) table += TABLES * n;
    }
    planar_complete(&p, stride);
    if (!m.biased) return p;
    p.bias_floats = ROWS * relatives(&p) * p.q_pitch;
    p.bias_rows = bias_rows;
    p.bias_add = bias_add;
    p.bias_keep = relatives(&p) * p.width;
    p.bias_sums = (size_t)c->p->heads * relatives(&p) * (p.d / 2);
    if (g) {
        p.bias_back = bias_back;
        p.bias_part = bias_part;
    }
    return p;
}

/* ---- kernel -------------------------------------------------------------------------- */

static const char *reject(const att_problem *p, enum att_pass pass)
{
    if (p->dtype != ATT_F32) return "float32 storage only";
    if (pass == ATT_BACKWARD && ((double)p->grid.v[1] + PANEL) *
                                        att_at(&p->window, 1, 7) > 1e9)
        return "window x length of the last axis exceeds 10^9";
    return NULL;
}

static void sizes(const att_problem *q, int threads, att_sizes *out)
{
    const att_call c = { .p = q, .threads = threads };
    const planar p = planar_of(&c, NULL);
    *out = (att_sizes){
        .state = TABLES *
                 ((size_t)q->grid.v[0] + (size_t)q->grid.v[1]) * sizeof(int32_t),
        .save = p.maps * p.n * sizeof(float),
        .work = (size_t)threads * planar_forward_floats(&p) * sizeof(float),
        .work_backward = planar_backward_bytes(&p),
    };
}

static void forward(const att_call *c)
{
    const planar p = planar_of(c, NULL);
    planar_forward(&p);
}

static void backward(const att_call *c, const att_grad *g)
{
    const planar p = planar_of(c, g);
    const float *sums = planar_backward(&p);
    if (!p.bias_part) return;
    const size_t rows = (size_t)c->p->heads * (size_t)p.axis[1][0].slots *
                        (p.d / 2);
    for (size_t i = 0; i < p.bias_sums; i++) {
        float *to = i < rows ? g->dparam[REL_H] : g->dparam[REL_W];
        if (to)
            to[i < rows ? i : i - rows] =
                p.scale * planar_bias_sum(&p, sums, i);
    }
}

ATT_KERNELS = {
    {
        .name = "sasa.tiled",
        .mechanism = "sasa",
        .brief = "planar rows, lanes are neighbouring columns",
        .reject = reject,
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
