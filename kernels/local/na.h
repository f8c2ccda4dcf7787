/* na.h - neighbourhoods as the kernels see them: tables per axis, made once by
 * prepare().  A 1-D or 2-D map has leading axes of one token.
 */
#ifndef ATT_NA_H
#define ATT_NA_H

#include "../att.h"

#include <math.h>

/* Query x of an axis sees keys first[x] + s * dilation, s < count[x]; key x is
 * seen by queries back[x] + s * dilation, s < backs[x].  rel[x] + s is the
 * index of slot s in a table of relative positions. */
typedef struct na_axis {
    int length, window, dilation;
    const int32_t *first, *count, *back, *backs, *rel;
} na_axis;

enum { NA_TABLES = 5 };

typedef struct na_map {
    na_axis axis[3];
    size_t n, d, slots, table; /* tokens, channels, product of windows, entries
                                  of one head's rpb                          */
    float scale;
} na_map;

static inline int na_window(const att_problem *p, int a)
{
    return att_at(&p->window, a, 7);
}

static inline size_t na_state_bytes(const att_problem *p)
{
    size_t n = 0;
    for (int a = 0; a < 3; a++)
        n += a < p->grid.n ? (size_t)p->grid.v[a] : 1;
    return n * NA_TABLES * sizeof(int32_t);
}

static inline na_map na_map_of(const att_call *c)
{
    const att_problem *p = c->p;
    const int missing = 3 - p->grid.n;
    const int32_t *table = c->state;
    na_map m = { .n = att_tokens(p),
                 .d = (size_t)p->head_dim,
                 .slots = 1,
                 .table = 1,
                 .scale = p->scale != 0 ? (float)p->scale
                                        : 1 / sqrtf((float)p->head_dim) };
    for (int a = 0; a < 3; a++) {
        const int b = a - missing;
        na_axis *x = &m.axis[a];
        *x = (na_axis){ 1, 1, 1, NULL, NULL, NULL, NULL, NULL };
        if (b >= 0) {
            x->length = p->grid.v[b];
            x->window = na_window(p, b);
            x->dilation = att_at(&p->dilation, b, 1);
        }
        m.slots *= (size_t)x->window;
        m.table *= (size_t)(2 * x->window - 1);
        if (!table) continue; /* sizes only */
        x->first = table;
        x->count = x->first + x->length;
        x->back = x->count + x->length;
        x->backs = x->back + x->length;
        x->rel = x->backs + x->length;
        table = x->rel + x->length;
    }
    return m;
}

/* The windows of the n positions of one group of coordinates (those that are
 * equal modulo the dilation): start[i] and end[i] never decrease with i. */
static inline void na_group(int n, int window, int stride, bool causal, int i,
                            int *start, int *end)
{
    const int base = i - i % stride;
    int low; /* start of the leader's window before it is moved inward */
    if (causal) {
        const int leader = base + stride - 1 < n ? base + stride - 1 : n - 1;
        low = leader - window + 1;
        *start = low > 0 ? low : 0;
        *end = i + 1;
        return;
    }
    const int leader = base + stride / 2 < n ? base + stride / 2 : n - 1;
    low = leader - window / 2;
    *start = low < 0 ? 0 : low > n - window ? n - window : low;
    *end = *start + window;
}

static inline void na_prepare_axis(int length, int window, int dilation,
                                   int stride, bool causal, int32_t *first)
{
    int32_t *count = first + length, *back = count + length;
    int32_t *backs = back + length, *rel = backs + length;
    for (int group = 0; group < dilation && group < length; group++) {
        const int n = (length - group - 1) / dilation + 1;
        for (int i = 0; i < n; i++) {
            const int x = group + i * dilation;
            int start, end;
            na_group(n, window, stride, causal, i, &start, &end);
            first[x] = group + start * dilation;
            count[x] = end - start;
            rel[x] = start - i + window - 1;
        }
        /* key j: from the first query whose window ends behind it to the last
         * one whose window starts at or before it */
        for (int j = 0, from = 0, to = 0; j < n; j++) {
            int start, end;
            for (;; from++) {
                na_group(n, window, stride, causal, from, &start, &end);
                if (end > j) break;
            }
            for (; to < n; to++) {
                na_group(n, window, stride, causal, to, &start, &end);
                if (start > j) break;
            }
            back[group + j * dilation] = group + from * dilation;
            backs[group + j * dilation] = to - from;
        }
    }
}

static inline void na_prepare(const att_call *c)
{
    const att_problem *p = c->p;
    int32_t *table = c->state;
    for (int a = 0; a < 3; a++) {
        const int b = a - (3 - p->grid.n);
        const int length = b < 0 ? 1 : p->grid.v[b];
        if (b < 0) na_prepare_axis(1, 1, 1, 1, false, table);
        else
            na_prepare_axis(length, na_window(p, b), att_at(&p->dilation, b, 1),
                            att_at(&p->stride, b, 1),
                            att_at(&p->causal, b, 0) != 0, table);
        table += NA_TABLES * length;
    }
}

/* Coordinates of a flat token. */
static inline void na_split(const na_map *m, size_t i, int at[3])
{
    const size_t w = (size_t)m->axis[2].length, h = (size_t)m->axis[1].length;
    at[2] = (int)(i % w);
    at[1] = (int)(i / w % h);
    at[0] = (int)(i / w / h);
}

/* Keys of query i in the order of their slots, and their entries of rpb; returns
 * how many. */
static inline size_t na_keys(const na_map *m, size_t i, int32_t *key,
                             int32_t *entry)
{
    const na_axis *z = &m->axis[0], *y = &m->axis[1], *x = &m->axis[2];
    int at[3];
    na_split(m, i, at);
    size_t n = 0;
    for (int a = 0; a < z->count[at[0]]; a++)
        for (int b = 0; b < y->count[at[1]]; b++) {
            const int depth = z->first[at[0]] + a * z->dilation;
            const int line = y->first[at[1]] + b * y->dilation;
            const int first =
                (depth * y->length + line) * x->length + x->first[at[2]];
            const int rel = ((z->rel[at[0]] + a) * (2 * y->window - 1) +
                             y->rel[at[1]] + b) *
                                (2 * x->window - 1) +
                            x->rel[at[2]];
            for (int c = 0; c < x->count[at[2]]; c++, n++) {
                key[n] = first + c * x->dilation;
                entry[n] = rel + c;
            }
        }
    return n;
}

/* Queries that see key j, and the slot of j in the window of each. */
static inline size_t na_queries(const na_map *m, size_t j, int32_t *query,
                                int32_t *slot)
{
    const na_axis *z = &m->axis[0], *y = &m->axis[1], *x = &m->axis[2];
    int key[3];
    na_split(m, j, key);
    size_t n = 0;
    for (int a = 0; a < z->backs[key[0]]; a++)
        for (int b = 0; b < y->backs[key[1]]; b++) {
            const int depth = z->back[key[0]] + a * z->dilation;
            const int line = y->back[key[1]] + b * y->dilation;
            const int sz = (key[0] - z->first[depth]) / z->dilation;
            const int sy = (key[1] - y->first[line]) / y->dilation;
            for (int c = 0; c < x->backs[key[2]]; c++, n++) {
                const int column = x->back[key[2]] + c * x->dilation;
                query[n] = (depth * y->length + line) * x->length + column;
                slot[n] = (sz * y->count[line] + sy) * x->count[column] +
                          (key[2] - x->first[column]) / x->dilation;
            }
        }
    return n;
}

/* At least as many as na_queries() finds for any key.  A key near a border is
 * also seen by queries whose windows were moved, with a stride by whole groups:
 * less than two windows and two strides of them per axis. */
static inline size_t na_most_queries(const att_problem *p, const na_map *m)
{
    size_t n = 1;
    for (int a = 0; a < 3; a++) {
        const int b = a - (3 - p->grid.n);
        const int stride = b < 0 ? 1 : att_at(&p->stride, b, 1);
        const size_t most =
            2 * ((size_t)m->axis[a].window + (size_t)stride);
        const size_t length = (size_t)m->axis[a].length;
        n *= most < length ? most : length;
    }
    return n;
}

#endif
