/* na?d.tiled - neighborhood attention on planar rows (planar_window.h).
 *
 * Windows of neighbouring queries start one key apart, or at the same key near a
 * border, so that lanes = columns need one load, or a load and a permute, per
 * slot and no mask.  A 1-D map is one row: its key vectors serve one query row
 * only; a 3-D map repeats the 2-D form for every outer slot.
 *
 * Bound by the FMA pipes inside the two products (see planar.h for their rates),
 * by the lanes beyond the end of a row (56 of 64 columns), and by the turning of
 * tokens into planar rows (4 N d numbers).
 */
#include "na.h"
#include "planar_back.h"

enum { RPB };

static const float log2e = 1.44269504f;

/* Relative row of slot 0 of query i on an axis: rpb index of its first key. */
static int rel(const planar_axis *a, int i)
{
    return a->start[i] - i + a->slots - 1;
}

/* Tables of a panel, [outer slot][relative row][slot][VL] for each of its lanes,
 * so that the bias of a row of keys is contiguous. */
static size_t table_floats(const planar *p)
{
    const int rows = 2 * p->axis[1][0].slots - 1;
    return (size_t)(p->axis[0][0].slots * rows * p->axis[2][0].slots) * VL;
}

static void bias_open(const planar *p, planar_task *t)
{
    const planar_axis *z = t->axis[0], *x = t->axis[2];
    const int rows = 2 * t->axis[1]->slots - 1, columns = 2 * x->slots - 1;
    const int heads = p->call->p->heads;
    const size_t all = (size_t)(2 * z->slots - 1) * (size_t)(rows * columns);
    float *to = t->bias;
    for (int b = 0; b < t->blocks; b++)
        for (int s = 0; s < z->slots; s++)
            for (int row = 0; row < rows; row++)
                for (int j = 0; j < x->slots; j++)
                    for (int l = 0; l < VL; l++) {
                        const planar_lanes *at = &t->lanes[b];
                        const size_t head =
                            t->map[at->item[l]] % (size_t)heads;
                        const int entry =
                            ((rel(z, t->z) + s) * rows + row) * columns +
                            rel(x, at->x[l]) + j;
                        *to++ = simd_base2(
                            p->call->param[RPB][head * all + (size_t)entry]);
                    }
}

/* s = log2(e) (scale q.k + bias); windows are whole here, since causal ones have
 * no bias. */
static void bias_add(const planar *p, const planar_task *t,
                     const planar_lanes *x, int i, float *s)
{
    const planar_axis *z = t->axis[0], *rows = t->axis[1];
    const size_t line = (size_t)t->axis[2]->slots * VL;
    const float *table = t->bias + (size_t)(x - t->lanes) * table_floats(p);
    const vf scale = v_set1(log2e * p->scale);
    for (int slot = 0; slot < z->slots; slot++) {
        const int first = slot * (2 * rows->slots - 1) + rel(rows, t->y + i);
        const float *from = table + (size_t)first * line;
        for (size_t at = 0; at < (size_t)rows->slots * line; at += VL, s += VL)
            v_store(s, v_fma(v_load(s), scale, v_load(from + at)));
    }
}

/* drpb of the rows of one part, from dS of a bundle: columns of one item with the
 * same relative position are summed before they are added. */
static void bias_part(const planar *p, const planar_bundle *b, int part,
                      float *sum)
{
    const planar_task *t = &b->shape;
    const planar_axis *z = t->axis[0], *y = t->axis[1], *x = t->axis[2];
    const int rows = 2 * y->slots - 1, columns = 2 * x->slots - 1;
    const size_t all = (size_t)(2 * z->slots - 1) * (size_t)(rows * columns);
    const int first = z->n * y->n * part / PLANAR_PARTS;
    const int last = z->n * y->n * (part + 1) / PLANAR_PARTS;
    for (int at = first; at < last; at++) {
        const int slice = at / y->n, row = at % y->n;
        const float *ds = planar_pairs(p, b, b->ds, slice, row);
        for (size_t slot = 0; slot < p->slots; slot++, ds += p->width) {
            const int j = (int)(slot % (size_t)x->slots);
            const int line = (int)(slot / (size_t)x->slots);
            const int entry = ((rel(z, slice) + line / y->slots) * rows +
                               rel(y, row) + line % y->slots) *
                                  columns +
                              j;
            for (int i = 0; i < t->items; i++) {
                const float *from = ds + (size_t)i * (size_t)x->n;
                float *to = sum + t->map[i] % (size_t)p->call->p->heads * all +
                            entry;
                for (int c = 0, end; c < x->n; c = end) {
                    float run = 0;
                    for (end = c; end < x->n && rel(x, end) == rel(x, c); end++)
                        ;
                    #pragma omp simd reduction(+ : run)
                    for (int k = c; k < end; k++) run += from[k];
                    to[rel(x, c)] += run;
                }
            }
        }
    }
}

/* ---- tables ------------------------------------------------------------------- */

static int group_length(const att_problem *p, int a, int shorter)
{
    const int b = a - (3 - p->grid.n);
    if (b < 0) return 1;
    const int t = att_at(&p->dilation, b, 1);
    return (p->grid.v[b] + (shorter ? 0 : t - 1)) / t;
}

static void prepare_axis(const att_problem *p, int a, int n, int32_t *table)
{
    const int b = a - (3 - p->grid.n);
    const int window = b < 0 ? 1 : na_window(p, b);
    const int stride = b < 0 ? 1 : att_at(&p->stride, b, 1);
    const bool causal = b >= 0 && att_at(&p->causal, b, 0);
    int32_t *start = table, *low = table + n, *high = table + 2 * n;
    int32_t *back = table + 3 * n, *backs = table + 4 * n;
    for (int i = 0, last = 0; i < n; i++) {
        int from, to;
        na_group(n, window, stride, causal, i, &from, &to);
        start[i] = from;
        low[i] = 0;
        high[i] = to - from;
        for (; last < to; last++) back[last] = i; /* the first that sees it */
    }
    for (int j = 0, i = 0; j < n; j++) {
        while (i < n && start[i] <= j) i++;
        backs[j] = i - back[j];
    }
}

static size_t state_bytes(const att_problem *p)
{
    size_t n = 0;
    for (int a = 0; a < 3; a++)
        n += (size_t)(group_length(p, a, 0) + group_length(p, a, 1));
    return n * PLANAR_TABLES * sizeof(int32_t);
}

static void prepare(const att_call *c)
{
    int32_t *table = c->state;
    for (int a = 0; a < 3; a++)
        for (int shorter = 0; shorter < 2; shorter++) {
            const int n = group_length(c->p, a, shorter);
            prepare_axis(c->p, a, n, table);
            table += PLANAR_TABLES * n;
        }
}

static planar planar_of(const att_call *c, const att_grad *g)
{
    const att_problem *q = c->p;
    const int32_t *table = c->state;
    planar p = { .call = c,
                 .grad = g,
                 .maps = (size_t)q->batch * (size_t)q->heads,
                 .n = att_tokens(q),
                 .d = (size_t)q->head_dim,
                 .scale = q->scale != 0 ? (float)q->scale
                                        : 1 / sqrtf((float)q->head_dim) };
    int stride[3];
    for (int a = 0; a < 3; a++) {
        const int b = a - (3 - q->grid.n);
        p.length[a] = b < 0 ? 1 : q->grid.v[b];
        p.dilation[a] = b < 0 ? 1 : att_at(&q->dilation, b, 1);
        stride[a] = b < 0 ? 1 : att_at(&q->stride, b, 1);
        for (int shorter = 0; shorter < 2; shorter++) {
            planar_axis *x = &p.axis[a][shorter];
            x->n = group_length(q, a, shorter);
            x->slots = b < 0 ? 1 : na_window(q, b);
            if (!table) continue;
            x->start = table;
            x->low = x->start + x->n;
            x->high = x->low + x->n;
            x->back = x->high + x->n;
            x->backs = x->back + x->n;
            table = x->backs + x->n;
        }
    }
    planar_complete(&p, stride);
    if (q->bias) {
        p.bias_floats = table_floats(&p) * ((size_t)p.panel / VL);
        p.bias_open = bias_open;
        p.bias_add = bias_add;
        p.bias_sums = (size_t)q->heads;
        for (int a = 0; a < 3; a++)
            p.bias_sums *= (size_t)(2 * p.axis[a][0].slots - 1);
        if (g && g->dparam[RPB]) p.bias_part = bias_part;
    }
    return p;
}

/* ---- kernel ---------------------------------------------------------------------- */

static const char *reject(const att_problem *p, enum att_pass pass)
{
    const double last = p->grid.v[p->grid.n - 1];
    if (att_at(&p->stride, p->grid.n - 1, 1) > VL + 1)
        return "stride along the last axis is too large for the vectors of "
               "this level: use stride <= vector length + 1";
    if (pass == ATT_BACKWARD && (last + PANEL) * na_window(p, p->grid.n - 1) > 1e9)
        return "window x length of the last axis exceeds 10^9";
    return NULL;
}

static void sizes(const att_problem *q, int threads, att_sizes *out)
{
    const att_call c = { .p = q, .threads = threads };
    const planar p = planar_of(&c, NULL);
    *out = (att_sizes){ .state = state_bytes(q),
                        .save = p.maps * p.n * sizeof(float),
                        .work = (size_t)threads * planar_forward_floats(&p) *
                                sizeof(float),
                        .work_backward = planar_backward_bytes(&p) };
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
    for (size_t i = 0; p.bias_part && i < p.bias_sums; i++)
        g->dparam[RPB][i] = planar_bias_sum(&p, sums, i);
}

#define NA(n)                                                                  \
    {                                                                          \
        .name = "na" n ".tiled",                                               \
        .mechanism = "na" n,                                                   \
        .brief = "planar rows, lanes are neighbouring columns",                \
        .reject = reject,                                                      \
        .sizes = sizes,                                                        \
        .prepare = prepare,                                                    \
        .forward = forward,                                                    \
        .backward = backward,                                                  \
    }

ATT_KERNELS = { NA("1d"), NA("2d"), NA("3d"), { 0 } };
