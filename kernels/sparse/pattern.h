/* pattern.h - the visible pairs of sparse mechanisms as kernels enumerate them:
 * the keys of one query as runs, from the problem or from a mask.
 */
#ifndef ATT_PATTERN_H
#define ATT_PATTERN_H

#include "../att.h"

#include <math.h>
#include <string.h>

#include "blocks.h"

enum pattern_kind {
    PATTERN_SLIDING,
    PATTERN_STRIDED,
    PATTERN_FIXED,
    PATTERN_BIGBIRD,
    PATTERN_MASKED
};

typedef struct pattern {
    enum pattern_kind kind;
    const att_problem *p;
    const float *mask;   /* [n][m], or NULL: the pattern of the problem       */
    size_t n, m;
    size_t step, reach;  /* sliding: dilation, radius; else period, summary   */
    size_t globals, block;
    bool causal;
} pattern;

static inline pattern pattern_of(enum pattern_kind kind, const att_call *c)
{
    const att_problem *p = c->p;
    pattern x = { .kind = kind,
                  .p = p,
                  .mask = c->param[0],
                  .n = att_tokens(p),
                  .m = att_keys(p),
                  .globals = (size_t)p->globals,
                  .causal = att_at(&p->causal, 0, 0) != 0 };
    switch (kind) {
    case PATTERN_SLIDING:
        x.step = (size_t)att_at(&p->dilation, 0, 1);
        x.reach = p->radius ? (size_t)p->radius
                            : (size_t)(att_at(&p->window, 0, 7) - 1) / 2;
        break;
    case PATTERN_STRIDED:
    case PATTERN_FIXED:
        x.step = (size_t)att_at(&p->window, 0, (int)ceil(sqrt((double)x.n)));
        if (x.step > x.n) x.step = x.n;
        x.reach = p->globals ? (size_t)p->globals : 1;
        break;
    case PATTERN_BIGBIRD:
        x.reach = (size_t)att_at(&p->window, 0, 3) / 2;
        if (x.globals == 0) x.globals = 1;
        x.block = (size_t)blocks_side(p);
        break;
    case PATTERN_MASKED:
        x.block = (size_t)blocks_side(p);
        break;
    }
    return x;
}

/* The functions below return the first key >= j that query i sees in a pattern,
 * or a number >= m. */

static inline size_t pattern_sliding(const pattern *x, size_t i, size_t j)
{
    if (i < x->globals || j < x->globals) return j;
    size_t back = i / x->step, ahead = (x->m - 1 - i) / x->step;
    if (back > x->reach) back = x->reach;
    if (ahead > x->reach) ahead = x->reach;
    const size_t first = i - back * x->step, last = i + ahead * x->step;
    if (j <= first) return first;
    const size_t next = first + (j - first + x->step - 1) / x->step * x->step;
    return next <= last ? next : x->m;
}

static inline size_t pattern_strided(const pattern *x, size_t i, size_t j)
{
    const size_t l = x->step, first = i < l ? 0 : i - l + 1;
    if (j >= first && j < i + l) return j;
    const size_t next = j + (i % l + l - j % l) % l; /* same residue as i */
    return j < first && first < next ? first : next;
}

static inline size_t pattern_fixed(const pattern *x, size_t i, size_t j)
{
    const size_t l = x->step, own = i / l * l, end = j / l * l + l;
    const size_t summary = x->reach < l ? end - x->reach : end - l;
    if (j >= summary || (j >= own && j < own + l)) return j;
    return j < own && own < summary ? own : summary;
}

/* Blocks of queries and of keys; chosen: the random block of `from`. */
static inline bool pattern_block(const pattern *x, size_t from, size_t to,
                                 int chosen)
{
    const size_t away = from < to ? to - from : from - to;
    return x->kind == PATTERN_MASKED
               ? blocks_visible(x->p, (int)from, (int)to)
               : away <= x->reach || from < x->globals || to < x->globals ||
                     (int)to == chosen;
}

static inline size_t pattern_blocks(const pattern *x, size_t i, size_t j)
{
    const size_t b = x->block, from = i / b, blocks = (x->m + b - 1) / b;
    const int chosen = x->kind == PATTERN_MASKED
                           ? 0 : blocks_random(x->p, (int)from, (int)blocks);
    for (size_t to = j / b; to < blocks; to++)
        if (pattern_block(x, from, to, chosen))
            return to * b > j ? to * b : j;
    return x->m;
}

static inline size_t pattern_given_next(const pattern *x, size_t i, size_t j)
{
    const float *mask = x->mask + i * x->m;
    while (j < x->m && mask[j] == 0) j++;
    return j;
}

/* The first key >= j that query i sees, or m. */
static inline size_t pattern_next(const pattern *x, size_t i, size_t j)
{
    size_t next = x->m;
    if (j >= x->m) return x->m;
    if (x->mask) return pattern_given_next(x, i, j);
    switch (x->kind) {
    case PATTERN_SLIDING: next = pattern_sliding(x, i, j); break;
    case PATTERN_STRIDED: next = pattern_strided(x, i, j); break;
    case PATTERN_FIXED: next = pattern_fixed(x, i, j); break;
    case PATTERN_BIGBIRD:
    case PATTERN_MASKED: next = pattern_blocks(x, i, j); break;
    }
    return next < x->m && !(x->causal && next > i) ? next : x->m;
}

/* Whether the pairs may be other than those of the problem: then kernels make
 * room for all of them. */
static inline bool pattern_given(enum pattern_kind kind, const att_problem *p)
{
    return kind == PATTERN_MASKED || p->mask == ATT_MASK_PRIOR;
}

#endif
