/* planar_window.h - attention in sliding windows over planar rows (planar.h): what
 * neighborhood attention and stand-alone self-attention have in common.
 *
 * A dilated map falls into interleaved sub-grids, which are dense maps of their
 * own.  Sub-grids of one size, of all heads and batch entries, are laid side by
 * side until their rows fill a panel, so that few lanes are left over: two maps
 * of 56 columns are 7 vectors of 16.  A task is one slice of the outermost axis, a
 * strip of rows and a panel of columns.  It walks down its strip, ROWS query rows
 * at a time, and keeps the planar K and V rows that their windows cover in a
 * ring: each row is turned once per strip, and the working set stays in the
 * second cache.  Per block of ROWS x VL queries:
 *
 *     S[row][slot][lane] = q.k    softmax over slots    O[row][channel][lane]
 *
 * Forward saves lse (base 2).  Backward makes S again and stores P and dS of one
 * sub-grid, [row][slot][column]; a second walk, over rows of keys, gathers dK
 * and dV over the inverse windows with the same code: the weights of a key are
 * read from P and dS with one vector load where windows are regular, and by
 * index at the borders.  No two threads write the same value, and sums do not
 * depend on the number of threads.
 */
#ifndef ATT_PLANAR_WINDOW_H
#define ATT_PLANAR_WINDOW_H

#include "../att.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "planar.h"

/* Windows along one axis of a sub-grid of n positions.  Slot s of query x is key
 * start[x] + s - pad; slots low[x] <= s < high[x] are visible (others lie beyond
 * the border, or are hidden).  start never decreases, nor do start + low and
 * start + high.  Key y is seen by queries back[y] ... back[y] + backs[y] - 1. */
typedef struct planar_axis {
    int n, slots, pad;
    const int32_t *start, *low, *high, *back, *backs;
} planar_axis;

enum { PLANAR_TABLES = 5 };
enum { PANEL = 128 }; /* most columns of a panel                              */

typedef struct planar planar;
typedef struct planar_task planar_task;
typedef struct planar_bundle planar_bundle;

/* VL neighbouring columns of a panel. */
typedef struct planar_lanes {
    int first, count;
    size_t base;     /* of lane 0's first slot in a planar row of keys       */
    enum mode mode;
    vi index;
    bool ragged;     /* not every slot is visible to every lane              */
    vi low, high;
    bool together;   /* tokens of the lanes follow each other                */
    int item[VL], x[VL];
    size_t token[VL]; /* at row 0 of slice 0                                 */
} planar_lanes;

struct planar {
    const att_call *call;
    const att_grad *grad;
    size_t maps, n, d, dpad; /* dpad: d rounded up to CHANNELS               */
    float scale;
    int length[3], dilation[3];
    planar_axis axis[3][2];  /* of the longer and of the shorter sub-grids    */
    int ring;                /* most planar rows of a block's windows         */
    int overhang;            /* how far slots reach beyond VL lanes           */
    int panel;               /* most columns of a task                        */
    size_t pitch, q_pitch;   /* of planar rows of keys and of queries         */
    size_t slots;            /* of a window, all axes                         */

    /* Bias of the logits; any may be NULL.  `open` prepares t->bias for a task,
     * `rows` for a block of query rows; `add` makes logits in base 2 of row i's
     * products s[slot][VL]. */
    size_t bias_floats;
    void (*bias_open)(const planar *p, planar_task *t);
    void (*bias_rows)(const planar *p, planar_task *t);
    void (*bias_add)(const planar *p, const planar_task *t,
                     const planar_lanes *x, int i, float *s);

    /* Backward alone (planar_back.h). */
    int ring_back;           /* most planar rows of a block's inverse windows */
    size_t pitch_back;       /* of planar rows of queries, in the second walk */
    size_t slots_back[3];    /* most queries that see a key, per outer axis;
                                distances from a key to them along the last  */
    size_t width;            /* columns of a bundle                           */
    /* Gets dS of row i, ds[slot][VL]; may keep `bias_keep` floats for each row
     * of a bundle, and add to dq[channel][VL] (NULL: not wanted), which is
     * multiplied by the scale later.  NULL: nothing to do. */
    size_t bias_keep;
    void (*bias_back)(const planar *p, const planar_bundle *b,
                      const planar_task *t, const planar_lanes *x, int i,
                      const float *ds, float *dq);
    /* Adds the part's share of a bundle's bias gradient to sum[bias_sums]. */
    size_t bias_sums;
    void (*bias_part)(const planar *p, const planar_bundle *b, int part,
                      float *sum);
};

struct planar_task {
    const planar_axis *axis[3];
    size_t step[3];          /* tokens from one position to the next          */
    int items;               /* sub-grids side by side                        */
    size_t map[PANEL];       /* of each item                                  */
    size_t token[PANEL];     /* its first token, over all maps                */
    int z, y0, y1, x0, x1;   /* slice, strip, panel (columns of all items)    */
    int y, rows;             /* block of query rows                           */
    int key0;                /* padded column of planar index 0               */
    int loaded;              /* rows before this one are in the ring          */
    int blocks;              /* vectors of the panel                          */
    planar_lanes lanes[PANEL / VL];
    float *k, *v;            /* [outer slot][ring][dpad][pitch]               */
    float *q;                /* [ROWS][d][q_pitch]                            */
    float *s, *o;            /* [ROWS][slots][VL], [ROWS][dpad][VL]           */
    float *bias;
    combine_row *list;
};

static inline size_t planar_up(size_t n, size_t step)
{
    return (n + step - 1) / step * step;
}

static inline int planar_least(int a, int b)
{
    return a < b ? a : b;
}

static inline int planar_most(int a, int b)
{
    return a > b ? a : b;
}

/* ---- sizes ---------------------------------------------------------------------------- */

/* Columns of a panel: as many as keep the ring within half of a second cache of
 * 1 MiB, at least two vectors, and not more than all items have. */
static inline int planar_panel(const planar *p)
{
    const size_t row = 2 * (size_t)p->axis[0][0].slots * (size_t)p->ring *
                       p->dpad * sizeof(float);
    const size_t items = p->maps * (size_t)p->dilation[0] *
                         (size_t)p->dilation[1] * (size_t)p->dilation[2];
    const size_t all =
        planar_up(items * (size_t)(p->axis[2][0].n + 2 * p->axis[2][0].pad), VL);
    size_t panel = PANEL;
    while (panel > 2 * VL && (panel + (size_t)p->overhang) * row > 512 << 10)
        panel -= VL;
    return (int)(panel < all ? panel : all);
}

/* Most queries that see one of m consecutive keys, for windows of n positions
 * that are moved inward at both borders; keys near both of them are a matter of
 * short axes. */
static inline int planar_reach(int n, int slots, int stride, int m)
{
    const int borders = n >= 2 * slots + m + 2 * stride ? 1 : 2;
    return planar_least(n, slots + borders * (slots / 2) + 2 * (stride - 1) +
                               m - 1);
}

/* Completes p once its axes are known; stride is that of the windows per axis
 * (1 but for na). */
static inline void planar_complete(planar *p, const int stride[3])
{
    const planar_axis *y = &p->axis[1][0], *x = &p->axis[2][0];
    p->dpad = planar_up(p->d, CHANNELS);
    p->ring = planar_least(y->slots + ROWS - 1 + stride[1] - 1,
                           y->n + 2 * y->pad);
    p->overhang = x->slots + stride[2] - 2;
    p->panel = planar_panel(p);
    /* a load of the last slot may run over by two vectors */
    p->pitch = planar_up((size_t)(p->panel + p->overhang + 2 * VL), VL);
    p->q_pitch = (size_t)p->panel + VL;
    if (p->pitch % 64 == 0) p->pitch += VL; /* channels share no cache set */
    if (p->q_pitch % 64 == 0) p->q_pitch += VL;
    p->slots = (size_t)p->axis[0][0].slots * (size_t)y->slots *
               (size_t)x->slots;

    p->ring_back = planar_reach(y->n, y->slots, stride[1], ROWS);
    /* a query and a key that see each other are less than a window apart */
    p->pitch_back =
        planar_up((size_t)(p->panel + 2 * (x->slots - 1) + 2 * VL), VL);
    if (p->pitch_back % 64 == 0) p->pitch_back += VL;
    p->width = planar_up((size_t)planar_most(p->panel, x->n), VL);
    for (int a = 0; a < 2; a++)
        p->slots_back[a] = (size_t)planar_reach(p->axis[a][0].n,
                                                p->axis[a][0].slots, stride[a],
                                                1);
    p->slots_back[2] = 2 * (size_t)x->slots - 1;
}

static inline size_t planar_ring_floats(const planar *p)
{
    return (size_t)p->axis[0][0].slots * (size_t)p->ring * p->dpad * p->pitch;
}

static inline size_t planar_list_floats(const planar *p)
{
    return planar_up((size_t)p->axis[0][0].slots * (size_t)p->ring *
                         sizeof(combine_row) / sizeof(float),
                     16);
}

static inline size_t planar_forward_floats(const planar *p)
{
    return planar_up(2 * planar_ring_floats(p) + ROWS * p->d * p->q_pitch +
                         ROWS * p->slots * VL + ROWS * p->dpad * VL +
                         planar_up(p->bias_floats, 16) + planar_list_floats(p),
                     16);
}

static inline void planar_scratch(const planar *p, planar_task *t, float *work)
{
    t->k = work;
    t->v = t->k + planar_ring_floats(p);
    t->q = t->v + planar_ring_floats(p);
    t->s = t->q + ROWS * p->d * p->q_pitch;
    t->o = t->s + ROWS * p->slots * VL;
    t->bias = t->o + ROWS * p->dpad * VL;
    t->list = (combine_row *)(t->bias + planar_up(p->bias_floats, 16));
}

/* ---- items ------------------------------------------------------------------------------ */

/* Sub-grids come in up to eight classes, by the longer or shorter length that
 * they have along each axis. */
enum { CLASSES = 8 };

/* Groups of coordinates of a class along an axis: the first one, their number. */
static inline int planar_groups(const planar *p, int class, int a, int *first)
{
    const int longer = p->length[a] % p->dilation[a];
    const bool shorter = class >> a & 1;
    *first = shorter ? longer : 0;
    return shorter ? p->dilation[a] - longer : longer;
}

static inline size_t planar_items(const planar *p, int class)
{
    size_t n = p->maps;
    int first;
    for (int a = 0; a < 3; a++) n *= (size_t)planar_groups(p, class, a, &first);
    return n;
}

static inline const planar_axis *planar_axis_of(const planar *p, int class,
                                                int a)
{
    return &p->axis[a][class >> a & 1];
}

/* Columns that an item takes in a planar row of keys. */
static inline int planar_span(const planar_axis *x)
{
    return x->n + 2 * x->pad;
}

/* Items that fit side by side into a panel.  VL lanes that cross from one item to
 * the next must still find their keys in two vectors. */
static inline int planar_fit(const planar *p, int class)
{
    const planar_axis *x = planar_axis_of(p, class, 2);
    const int fit = p->panel / planar_span(x);
    const int crossings = (VL - 1 + x->n - 1) / x->n;
    return p->overhang > VL || crossings * 2 * x->pad > VL
               ? 1 : planar_most(1, fit);
}

/* Items [from, from + fit) of a class into t. */
static inline void planar_take(const planar *p, int class, size_t from,
                               planar_task *t)
{
    const size_t all = planar_items(p, class);
    size_t inner = 1;
    for (int a = 2; a >= 0; a--) {
        t->axis[a] = planar_axis_of(p, class, a);
        t->step[a] = (size_t)p->dilation[a] * inner;
        inner *= (size_t)p->length[a];
    }
    const size_t fit = (size_t)planar_fit(p, class);
    t->items = (int)(all - from < fit ? all - from : fit);
    for (int i = 0; i < t->items; i++) {
        size_t at = from + (size_t)i;
        size_t token = 0, unit = 1;
        for (int a = 2; a >= 0; a--) {
            int first;
            const size_t n = (size_t)planar_groups(p, class, a, &first);
            token += ((size_t)first + at % n) * unit;
            at /= n;
            unit *= (size_t)p->length[a];
        }
        t->map[i] = at;
        t->token[i] = at * p->n + token;
    }
}

/* ---- lanes -------------------------------------------------------------------------------- */

/* How lanes whose slots start at position[l] read a planar row. */
static inline void planar_aim(planar_lanes *l, const int32_t *position, int key0)
{
    int widest = 0;
    l->base = (size_t)(position[0] - key0);
    l->mode = STRAIGHT;
    for (int i = 0; i < VL; i++) {
        /* lanes beyond the last column load whatever is there */
        l->index[i] = i < l->count ? position[i] - position[0] : 0;
        widest = planar_most(widest, l->index[i]);
        if (i < l->count && l->index[i] != i) l->mode = PERMUTED;
    }
    if (widest >= VL) l->mode = PERMUTED2;
}

/* Tokens of the lanes from column `first` of a panel that ends at x1. */
static inline void planar_place_lanes(const planar_task *t, int first, int x1,
                                      planar_lanes *l)
{
    const int n = t->axis[2]->n;
    l->first = first;
    l->count = planar_least(VL, x1 - first);
    l->together = l->count == VL;
    for (int i = 0; i < VL; i++) {
        const int column = planar_least(first + i, x1 - 1);
        l->item[i] = column / n;
        l->x[i] = column % n;
        l->token[i] = t->token[l->item[i]] + (size_t)l->x[i] * t->step[2];
        if (l->token[i] != l->token[0] + (size_t)i * t->step[2])
            l->together = false;
    }
}

static inline void planar_open_panel(planar_task *t)
{
    const planar_axis *x = t->axis[2];
    const int span = planar_span(x);
    t->key0 = t->x0 / x->n * span + x->start[t->x0 % x->n];
    t->blocks = 0;
    for (int first = t->x0; first < t->x1; first += VL) {
        planar_lanes *l = &t->lanes[t->blocks++];
        int32_t position[VL];
        planar_place_lanes(t, first, t->x1, l);
        l->ragged = false;
        for (int i = 0; i < VL; i++) {
            const int at = l->x[i];
            position[i] = l->item[i] * span + x->start[at];
            l->low[i] = x->low[at];
            l->high[i] = x->high[at];
            l->ragged |= x->low[at] > 0 || x->high[at] < x->slots;
        }
        planar_aim(l, position, t->key0);
    }
}

static inline size_t planar_offset(const planar_task *t, int z, int y)
{
    return (size_t)z * t->step[0] + (size_t)y * t->step[1];
}

/* ---- planar rows ------------------------------------------------------------------------------- */

/* q, k, v, o as they are stored; gradients are floats. */
typedef struct planar_tensor {
    const void *at;
    int dtype;
} planar_tensor;

static inline planar_tensor planar_stored(const planar *p, const void *at)
{
    return (planar_tensor){ at, p->call->p->dtype };
}

static inline planar_tensor planar_floats(const float *at)
{
    return (planar_tensor){ at, ATT_F32 };
}

/* Positions [from, to) of an axis, `pad` of which precede the first token, of the
 * row that starts at `token`; columns from dst on, zeros where there is no token.
 * Up to VL - 1 columns behind them are written as well. */
static inline void planar_load(const planar *p, planar_tensor src,
                               size_t token, size_t step, int n, int pad, int from, int to,
                               float *dst, size_t pitch)
{
    const int a = planar_most(from - pad, 0), b = planar_least(to - pad, n);
    const size_t before = (size_t)planar_least(a + pad, to) - (size_t)from;
    const size_t count = b > a ? (size_t)(b - a) : 0;
    const size_t after = (size_t)(to - from) - before - count;
    const size_t first = token + (size_t)a * step;
    if (count)
        planar_turn_stored(src.dtype, src.at, first * p->d, step * p->d, count,
                           (p->maps * p->n - first - 1) / step + 1, p->d,
                           dst + before, pitch);
    for (size_t c = 0; before && c < p->d; c++)
        memset(dst + c * pitch, 0, before * sizeof *dst);
    for (size_t c = 0; after && c < p->d; c++)
        memset(dst + c * pitch + before + count, 0, after * sizeof *dst);
}

/* Row y of slice z, columns [from, to) of all items with `pad` columns on either
 * side of each. */
static inline void planar_load_row(const planar *p, const planar_task *t,
                                   planar_tensor src, int z, int y, int pad,
                                   int from, int to, float *dst, size_t pitch)
{
    const planar_axis *x = t->axis[2];
    const int span = x->n + 2 * pad;
    const size_t offset = planar_offset(t, z, y);
    for (int i = from / span; i * span < to; i++) {
        const int a = planar_most(from - i * span, 0);
        const int b = planar_least(to - i * span, span);
        planar_load(p, src, t->token[i] + offset, t->step[2], x->n, pad, a, b,
                    dst + (i * span + a - from), pitch);
    }
}

/* Keys of the panel. */
static inline void planar_load_key_row(const planar *p, const planar_task *t,
                                       planar_tensor src, int z, int y,
                                       float *dst)
{
    const planar_axis *x = t->axis[2];
    const int last = t->x1 - 1;
    const int to = last / x->n * planar_span(x) + x->start[last % x->n] +
                   x->slots;
    planar_load_row(p, t, src, z, y, x->pad, t->key0, to, dst, p->pitch);
}

/* Channels from d to dpad of every row stay zero. */
static inline void planar_clear_tail(const planar *p, float *ring)
{
    const size_t rows = (size_t)p->axis[0][0].slots * (size_t)p->ring;
    for (size_t r = 0; p->dpad > p->d && r < rows; r++)
        memset(ring + (r * p->dpad + p->d) * p->pitch, 0,
               (p->dpad - p->d) * p->pitch * sizeof *ring);
}

static inline float *planar_ring_row(const planar *p, float *ring, int slot,
                                     int row)
{
    const size_t at = (size_t)slot * (size_t)p->ring + (size_t)(row % p->ring);
    return ring + at * p->dpad * p->pitch;
}

/* Rows of keys [from, to) (padded) of slot s of the outermost axis. */
static inline void planar_load_keys(const planar *p, const planar_task *t, int s,
                                    int from, int to)
{
    const planar_axis *z = t->axis[0], *y = t->axis[1];
    const int slice = z->start[t->z] + s - z->pad;
    for (int row = from; row < to; row++) {
        float *k = planar_ring_row(p, t->k, s, row);
        float *v = planar_ring_row(p, t->v, s, row);
        const int at = row - y->pad;
        if (at < 0 || at >= y->n) {
            memset(k, 0, p->d * p->pitch * sizeof *k);
            memset(v, 0, p->d * p->pitch * sizeof *v);
            continue;
        }
        planar_load_key_row(p, t, planar_stored(p, p->call->k), slice, at, k);
        planar_load_key_row(p, t, planar_stored(p, p->call->v), slice, at, v);
    }
}

/* First key row that query row y sees, and the one behind the last. */
static inline int planar_row_from(const planar_axis *y, int row)
{
    return y->start[row] + y->low[row];
}

static inline int planar_row_to(const planar_axis *y, int row)
{
    return y->start[row] + y->high[row];
}

/* Moves the task to the block of rows at y: what its windows need is loaded. */
static inline void planar_open_block(const planar *p, planar_task *t, int y)
{
    const planar_axis *rows = t->axis[1], *z = t->axis[0];
    t->y = y;
    t->rows = planar_least(ROWS, t->y1 - y);
    const int from = planar_most(t->loaded, planar_row_from(rows, y));
    const int to = planar_row_to(rows, y + t->rows - 1);
    for (int s = z->low[t->z]; s < z->high[t->z]; s++)
        planar_load_keys(p, t, s, from, to);
    t->loaded = to;
}

/* Query rows of the block from one tensor. */
static inline void planar_load_queries(const planar *p, const planar_task *t,
                                       planar_tensor from, float *to)
{
    for (int i = 0; i < t->rows; i++)
        planar_load_row(p, t, from, t->z, t->y + i, 0, t->x0, t->x1,
                        to + (size_t)i * p->d * p->q_pitch, p->q_pitch);
}

/* ---- one block of ROWS x VL queries ---------------------------------------------------------------- */

/* Slots in use of query row y of slice z, and the place of the first of those at
 * outer slot s and key row `row`. */
static inline size_t planar_used(const planar_task *t, int z, int y)
{
    const planar_axis *slices = t->axis[0], *rows = t->axis[1];
    return (size_t)(slices->high[z] - slices->low[z]) *
           (size_t)(rows->high[y] - rows->low[y]) * (size_t)t->axis[2]->slots;
}

static inline size_t planar_place(const planar_task *t, int z, int y, int s,
                                  int row)
{
    const planar_axis *slices = t->axis[0], *rows = t->axis[1];
    const size_t count = (size_t)(rows->high[y] - rows->low[y]);
    return ((size_t)(s - slices->low[z]) * count +
            (size_t)(row - planar_row_from(rows, y))) *
           (size_t)t->axis[2]->slots;
}

/* Query rows of the block that see a key row, as r->from and r->to, and where
 * their scores with it go. */
static inline void planar_seen(const planar *p, const planar_task *t, int slot,
                               int row, float *s, combine_row *r)
{
    const planar_axis *rows = t->axis[1];
    r->from = ROWS;
    r->to = 0;
    for (int i = 0; i < t->rows; i++) {
        if (row < planar_row_from(rows, t->y + i) ||
            row >= planar_row_to(rows, t->y + i))
            continue;
        r->from = planar_least(r->from, i);
        r->to = i + 1;
        r->w[i] = s + ((size_t)i * p->slots +
                       planar_place(t, t->z, t->y + i, slot, row)) *
                          VL;
    }
}

/* Products of the block's queries with their keys, from one ring into s, and the
 * list of rows for combine over another ring; returns the length of the list. */
static inline size_t planar_score(const planar *p, const planar_task *t,
                                  const planar_lanes *x, const float *q,
                                  float *ring, float *other, float *s)
{
    const planar_axis *z = t->axis[0], *rows = t->axis[1];
    const int from = planar_row_from(rows, t->y);
    const int to = planar_row_to(rows, t->y + t->rows - 1);
    score_block b = { .q_row = p->d * p->q_pitch,
                      .q_pitch = p->q_pitch,
                      .k_pitch = p->pitch,
                      .d = p->d,
                      .index = x->index };
    size_t n = 0;
    for (int slot = z->low[t->z]; slot < z->high[t->z]; slot++)
        for (int row = from; row < to; row++) {
            combine_row *r = &t->list[n];
            planar_seen(p, t, slot, row, s, r);
            if (r->from >= r->to) continue; /* a gap between windows */
            for (int i = r->from; i < r->to; i++)
                b.s[i - r->from] = s + (r->w[i] - s);
            b.q = q + (size_t)r->from * b.q_row + (x->first - t->x0);
            b.k = planar_ring_row(p, ring, slot, row) + x->base;
            r->x = planar_ring_row(p, other, slot, row) + x->base;
            score(x->mode, r->to - r->from, &b, (size_t)t->axis[2]->slots);
            n++;
        }
    return n;
}

/* Lanes that do not see a slot get -infinity. */
static inline void planar_hide(const planar_task *t, const planar_lanes *x,
                               size_t used, float *s)
{
    const int slots = t->axis[2]->slots;
    for (size_t at = 0; at < used; at += (size_t)slots)
        for (int j = 0; j < slots; j++) {
            float *here = s + (at + (size_t)j) * VL;
            const vi seen = (x->low <= j) & (x->high > j);
            v_store(here, v_select(seen, v_load(here), v_set1(-INFINITY)));
        }
}

/* Makes row i of products ready for the softmax, but for a factor that it
 * returns: usually none of them is touched. */
static inline float planar_logits(const planar *p, const planar_task *t,
                                  const planar_lanes *x, int i, size_t used,
                                  float *s)
{
    const float scale = 1.44269504f * p->scale;
    if (p->bias_add) p->bias_add(p, t, x, i, s);
    else if (scale > 0 && !x->ragged) return scale;
    else
        for (size_t at = 0; at < used * VL; at += VL)
            v_store(s + at, v_load(s + at) * scale);
    if (x->ragged) planar_hide(t, x, used, s);
    return 1;
}

/* The largest magnitude of y over the lanes that are queries: the others hold
 * what was in the scratch, which must not decide how these are rounded. */
SIMD_INLINE float planar_hmax(const planar_lanes *x, vf y)
{
    return v_hmax(v_first(v_abs(y), (size_t)x->count));
}

/* s * scale - most is one rounding: where it is felt, s is scaled beforehand.
 * Returns the scale that is left. */
SIMD_INLINE float planar_scaled(const planar_lanes *x, size_t used, float scale,
                                vf most, float *s)
{
    if (scale == 1 || planar_hmax(x, most) < 0x1p16f) return scale;
    for (size_t at = 0; at < used * VL; at += VL)
        v_store(s + at, v_load(s + at) * scale);
    return 1;
}

/* s -> 2^(scale (s - max)); returns the sum, *top = scale * max.  Four chains
 * each, since one would wait for itself. */
static inline vf planar_soften(const planar_lanes *x, size_t used, float scale,
                               float *s, vf *top)
{
    vf max[4], sum[4];
    UNROLL for (int i = 0; i < 4; i++) {
        max[i] = v_set1(V_LOWEST);
        sum[i] = v_zero();
    }
    size_t at = 0;
    for (; at + 4 <= used; at += 4)
        UNROLL for (size_t i = 0; i < 4; i++)
            max[i] = v_max(max[i], v_load(s + (at + i) * VL));
    for (; at < used; at++) max[0] = v_max(max[0], v_load(s + at * VL));
    const vf most = v_max(v_max(max[0], max[1]), v_max(max[2], max[3])) * scale;
    scale = planar_scaled(x, used, scale, most, s);
    for (at = 0; at + 4 <= used; at += 4)
        UNROLL for (size_t i = 0; i < 4; i++) {
            const vf e = v_exp2(v_load(s + (at + i) * VL) * scale - most);
            sum[i] += e;
            v_store(s + (at + i) * VL, e);
        }
    for (; at < used; at++) {
        const vf e = v_exp2(v_load(s + at * VL) * scale - most);
        sum[0] += e;
        v_store(s + at * VL, e);
    }
    *top = most;
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* One row of sums o[channel][VL] to the lanes' tokens. */
static inline void planar_put(const planar *p, const planar_task *t,
                              const planar_lanes *x, int row, const float *o,
                              int dtype, void *to)
{
    const size_t offset = planar_offset(t, t->z, row);
    int l = 0;
    if (x->together) {
        planar_back_stored(o, p->d, 0, VL, dtype, to,
                           (x->token[0] + offset) * p->d, t->step[2] * p->d);
        return;
    }
    while (l < x->count) { /* runs of lanes of one item */
        int end = l + 1;
        while (end < x->count && x->item[end] == x->item[l]) end++;
        planar_back_stored(o, p->d, (size_t)l, (size_t)end, dtype, to,
                           (x->token[l] + offset) * p->d, t->step[2] * p->d);
        l = end;
    }
}

static inline void planar_scale_row(float *o, size_t channels, vf factor)
{
    for (size_t c = 0; c < channels; c++)
        v_store(o + c * VL, v_load(o + c * VL) * factor);
}

static inline void planar_forward_block(const planar *p, const planar_task *t,
                                        const planar_lanes *x)
{
    float *save = p->call->save;
    const size_t n = planar_score(p, t, x, t->q, t->k, t->v, t->s);
    vf inverse[ROWS];
    for (int i = 0; i < t->rows; i++) {
        float *s = t->s + (size_t)i * p->slots * VL;
        const size_t used = planar_used(t, t->z, t->y + i);
        const float scale = planar_logits(p, t, x, i, used, s);
        vf top;
        const vf sum = planar_soften(x, used, scale, s, &top);
        inverse[i] = v_select(sum > 0.0f, 1.0f / sum, v_zero());
        for (int l = 0; save && l < x->count; l++)
            save[x->token[l] + planar_offset(t, t->z, t->y + i)] =
                sum[l] > 0 ? top[l] + log2f(sum[l]) : 0;
    }
    combine_rows(x->mode, t->list, n, p->pitch, x->index,
                 (size_t)t->axis[2]->slots, p->dpad, t->rows, t->o);
    for (int i = 0; i < t->rows; i++) {
        float *o = t->o + (size_t)i * p->dpad * VL;
        planar_scale_row(o, p->dpad, inverse[i]);
        planar_put(p, t, x, t->y + i, o, p->call->p->dtype, p->call->o);
    }
}

static inline void planar_forward_task(const planar *p, planar_task *t)
{
    planar_open_panel(t);
    planar_clear_tail(p, t->v);
    if (p->bias_open) p->bias_open(p, t);
    t->loaded = 0;
    for (int y = t->y0; y < t->y1; y += ROWS) {
        planar_open_block(p, t, y);
        planar_load_queries(p, t, planar_stored(p, p->call->q), t->q);
        if (p->bias_rows) p->bias_rows(p, t);
        for (int b = 0; b < t->blocks; b++)
            planar_forward_block(p, t, &t->lanes[b]);
    }
}

/* ---- tasks -------------------------------------------------------------------------------------------- */

/* How one class is cut. */
typedef struct planar_cuts {
    size_t bundles, slices, panels, strips; /* bundles: of items side by side */
    int rows;                               /* of a strip                     */
} planar_cuts;

/* Strips are whole unless the threads need more tasks. */
static inline planar_cuts planar_cut(const planar *p, int class)
{
    const size_t fit = (size_t)planar_fit(p, class);
    const planar_axis *y = planar_axis_of(p, class, 1);
    const planar_axis *x = planar_axis_of(p, class, 2);
    const size_t panel = (size_t)p->panel;
    planar_cuts c = {
        .bundles = (planar_items(p, class) + fit - 1) / fit,
        .slices = (size_t)planar_axis_of(p, class, 0)->n,
        .panels = fit > 1 ? 1 : ((size_t)x->n + panel - 1) / panel,
        .rows = (int)planar_up((size_t)y->n, ROWS),
    };
    const size_t others = c.bundles * c.slices * c.panels;
    for (;; c.rows = (int)planar_up((size_t)c.rows / 2, ROWS)) {
        c.strips = (size_t)((y->n + c.rows - 1) / c.rows);
        if (p->call->threads == 1 || c.rows <= 2 * ROWS ||
            others * c.strips >= 4 * (size_t)p->call->threads)
            return c;
    }
}

static inline size_t planar_tasks(const planar_cuts *c)
{
    return c->bundles * c->slices * c->panels * c->strips;
}

static inline void planar_task_at(const planar *p, int class,
                                  const planar_cuts *c, size_t at,
                                  planar_task *t)
{
    const int strip = (int)(at % c->strips);
    const int panel = (int)(at / c->strips % c->panels);
    const size_t rest = at / c->strips / c->panels;
    t->z = (int)(rest % c->slices);
    planar_take(p, class, rest / c->slices * (size_t)planar_fit(p, class), t);
    t->y0 = strip * c->rows;
    t->y1 = planar_least(t->axis[1]->n, t->y0 + c->rows);
    t->x0 = panel * p->panel;
    t->x1 = planar_least(t->axis[2]->n * t->items, t->x0 + p->panel);
}

static inline void planar_forward(const planar *p)
{
    for (int class = 0; class < CLASSES; class++) {
        if (planar_items(p, class) == 0) continue;
        const planar_cuts cuts = planar_cut(p, class);
        #pragma omp parallel for schedule(dynamic) num_threads(p->call->threads)
        for (size_t at = 0; at < planar_tasks(&cuts); at++) {
            planar_task t;
            planar_task_at(p, class, &cuts, at, &t);
            planar_scratch(p, &t,
                           (float *)p->call->work +
                               (size_t)omp_get_thread_num() *
                                   planar_forward_floats(p));
            planar_forward_task(p, &t);
        }
    }
}

#endif
