/* clip.h - windows that are clipped at the border, as the kernels of sasa and
 * halo see them: tables per axis, made once by prepare().
 */
#ifndef ATT_CLIP_H
#define ATT_CLIP_H

#include "../att.h"

#include <math.h>

/* Positions t of the window of query x are keys first[x] - skip[x] + t.  On the
 * map are `count` of them, from t = skip[x] on.  Key x is seen by queries
 * back[x] .. back[x] + backs[x] - 1.  Position t uses row rel[x] + t of the
 * embedding. */
typedef struct clip_axis {
    int length;
    const int32_t *first, *skip, *count, *back, *backs, *rel;
} clip_axis;

enum { CLIP_TABLES = 6 };

/* The relative term of a query is scale_rel * (q[from + c] . rel[row][c]),
 * c < width. */
typedef struct clip {
    clip_axis axis[2];
    int side[2];          /* of the window                                   */
    bool zero;            /* positions beyond the border take part           */
    bool biased;
    size_t n, d, slots;
    float scale, scale_rel;
    size_t rows[2];       /* of the embedding of an axis                     */
    size_t width, from[2];
    size_t per_head[2];   /* floats between the embeddings of two heads      */
} clip;

static inline size_t clip_state_bytes(const att_problem *p)
{
    const size_t n = (size_t)p->grid.v[0] + (size_t)p->grid.v[1];
    return n * CLIP_TABLES * sizeof(int32_t);
}

/* The parts that sasa and halo have in common. */
static inline clip clip_of(const att_call *c, int height, int width)
{
    const att_problem *p = c->p;
    const int32_t *table = c->state;
    clip x = { .side = { height, width },
               .zero = p->padding == ATT_PAD_ZERO,
               .biased = p->bias != 0,
               .n = att_tokens(p),
               .d = (size_t)p->head_dim,
               .slots = (size_t)height * (size_t)width };
    for (int a = 0; a < 2; a++) {
        clip_axis *axis = &x.axis[a];
        axis->length = p->grid.v[a];
        if (!table) continue; /* sizes only */
        axis->first = table;
        axis->skip = axis->first + axis->length;
        axis->count = axis->skip + axis->length;
        axis->back = axis->count + axis->length;
        axis->backs = axis->back + axis->length;
        axis->rel = axis->backs + axis->length;
        table = axis->rel + axis->length;
    }
    return x;
}

static inline clip clip_sasa(const att_call *c)
{
    const att_problem *p = c->p;
    clip x = clip_of(c, att_at(&p->window, 0, 7), att_at(&p->window, 1, 7));
    x.scale = x.scale_rel = p->scale != 0 ? (float)p->scale : 1;
    x.width = x.d / 2;
    x.from[1] = x.d / 2;
    for (int a = 0; a < 2; a++) {
        x.rows[a] = (size_t)x.side[a];
        x.per_head[a] = x.rows[a] * x.width;
    }
    return x;
}

static inline clip clip_halo(const att_call *c)
{
    const att_problem *p = c->p;
    const int side = p->block + 2 * p->halo;
    clip x = clip_of(c, side, side);
    x.scale = p->scale != 0 ? (float)p->scale : 1 / sqrtf((float)p->head_dim);
    x.scale_rel = p->scale_pos ? x.scale : 1;
    x.width = x.d;
    x.rows[0] = x.rows[1] = (size_t)(2 * side - 1);
    return x;
}

/* All queries of a block share the window of `side` positions around it; rel0 is
 * the embedding row of position 0 for the first of them. */
static inline void clip_prepare_axis(int length, int side, int block, int rel0,
                                     int32_t *t)
{
    int32_t *first = t, *skip = t + length, *count = t + 2 * length;
    int32_t *back = t + 3 * length, *backs = t + 4 * length;
    int32_t *rel = t + 5 * length;
    const int halo = (side - block) / 2;
    for (int x = 0; x < length; x++) {
        const int start = x - x % block - halo, end = start + side;
        first[x] = start > 0 ? start : 0;
        skip[x] = first[x] - start;
        count[x] = (end < length ? end : length) - first[x];
        rel[x] = rel0 - x % block;
        backs[x] = 0;
    }
    for (int x = 0; x < length; x++)
        for (int key = first[x]; key < first[x] + count[x]; key++)
            if (backs[key]++ == 0) back[key] = x;
}

static inline void clip_prepare(const att_call *c, const clip *x, int block,
                                bool halo)
{
    int32_t *table = c->state;
    for (int a = 0; a < 2; a++) {
        clip_prepare_axis(x->axis[a].length, x->side[a], block,
                          halo ? x->side[a] - 1 : 0, table);
        table += CLIP_TABLES * x->axis[a].length;
    }
}

static inline void clip_prepare_sasa(const att_call *c)
{
    const clip x = clip_sasa(c);
    clip_prepare(c, &x, 1, false);
}

static inline void clip_prepare_halo(const att_call *c)
{
    const clip x = clip_halo(c);
    clip_prepare(c, &x, c->p->block, true);
}

#endif
