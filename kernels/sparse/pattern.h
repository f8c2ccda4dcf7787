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

static inline size_t pattern_blocks(const pattern *x, size_t i, size_t j)
{
    const size_t b = x->block, from = i / b, blocks = (x->m + b - 1) / b;
    const int chosen = x->kind == PATTERN_MASKED
                           ? 0 : blocks_random(x->p, (int)from, (int)blocks);
    for (size_t to = j / b; to < blocks; to++) {
        const size_t away = from < to ? to - from : from - to;
        const bool visible =
            x->kind == PATTERN_MASKED
                ? blocks_visible(x->p, (int)from, (int)to)
                : away <= x->reach || from < x->globals || to < x->globals ||
                      (int)to == chosen;
        if (visible) return to * b > j ? to * b : j;
    }
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

/* ---- how many keys queries see -------------------------------------------- */

/* Keys that at least one of the queries [from, to) sees, without walking along
 * them: one function for each pattern. */

enum { PATTERN_QUERIES = 64 }; /* most of them                              */

static inline size_t pattern_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t pattern_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Numbers below `end` whose rest by l is at least `rest`. */
static inline size_t pattern_rests(size_t end, size_t l, size_t rest)
{
    const size_t over = end % l;
    return end / l * (l - rest) + (over > rest ? over - rest : 0);
}

static inline size_t pattern_keys_sliding(const pattern *x, size_t from,
                                          size_t to)
{
    const size_t t = x->step, r = x->reach * t;
    const size_t g = pattern_min(x->globals, x->m);
    if (from < x->globals) return x->m;
    size_t n = g;
    for (size_t j = pattern_max(g, from > r ? from - r : 0);
         j < pattern_min(x->m, to + r); j++) {
        const size_t first = pattern_max(from, j > r ? j - r : 0);
        const size_t last = pattern_min(to, j + r + 1);
        n += first < last && (j + t - first % t) % t < last - first;
    }
    return n;
}

/* Keys of [first, end) that lie a multiple of l away from one of the queries:
 * (j - from) mod l < to - from. */
static inline size_t pattern_on_stride(size_t from, size_t to, size_t l,
                                       size_t first, size_t end)
{
    if (first >= end) return 0;
    if (to - from >= l) return end - first;
    const size_t shift = l - from % l, low = first + shift, high = end + shift;
    return (high - low) - (pattern_rests(high, l, to - from) -
                           pattern_rests(low, l, to - from));
}

static inline size_t pattern_keys_strided(const pattern *x, size_t from,
                                          size_t to)
{
    const size_t l = x->step, low = from + 1 > l ? from + 1 - l : 0;
    const size_t n = to - low + pattern_on_stride(from, to, l, 0, low);
    if (x->causal) return n;
    const size_t high = pattern_min(x->m, to - 1 + l);
    return n + high - to + pattern_on_stride(from, to, l, high, x->m);
}

static inline size_t pattern_keys_fixed(const pattern *x, size_t from,
                                        size_t to)
{
    const size_t l = x->step, rest = x->reach < l ? l - x->reach : 0;
    const size_t end = x->causal ? to : x->m, low = from / l * l;
    const size_t high = pattern_min(end, (to - 1) / l * l + l);
    return high - low + pattern_rests(low, l, rest) +
           pattern_rests(end, l, rest) - pattern_rests(high, l, rest);
}

/* Of the blocks from `low` on, those that were chosen at random. */
static inline size_t pattern_chosen(const pattern *x, size_t first, size_t last,
                                    size_t blocks, size_t low, size_t *chosen)
{
    size_t n = 0;
    for (size_t f = first; f <= last; f++) {
        const size_t k = (size_t)blocks_random(x->p, (int)f, (int)blocks);
        size_t i = 0;
        while (i < n && chosen[i] != k) i++;
        if (i == n && k >= low) chosen[n++] = k;
    }
    return n;
}

/* The first blocks, the band, and random ones outside both; if causal, all keys
 * from the first query's block on are in the band. */
static inline size_t pattern_keys_bigbird(const pattern *x, size_t from,
                                          size_t to)
{
    const size_t b = x->block, blocks = (x->m + b - 1) / b;
    const size_t first = from / b, last = (to - 1) / b;
    const size_t end = x->causal ? to : x->m;
    if (first < x->globals) return end;
    size_t chosen[PATTERN_QUERIES];
    const size_t low = pattern_max(x->globals,
                                   first > x->reach ? first - x->reach : 0);
    const size_t high = pattern_min(blocks, last + x->reach + 1);
    const size_t more =
        pattern_chosen(x, first, last, blocks, x->globals, chosen);
    size_t n = x->globals * b + pattern_min(end, high * b) - low * b;
    for (size_t i = 0; i < more; i++)
        if (chosen[i] < low || (chosen[i] >= high && !x->causal))
            n += pattern_min(x->m, (chosen[i] + 1) * b) - chosen[i] * b;
    return n;
}

static inline size_t pattern_keys_masked(const pattern *x, size_t from,
                                         size_t to)
{
    const size_t b = x->block;
    size_t n = 0;
    for (size_t k = 0; k * b < x->m; k++) {
        size_t f = from / b;
        while (f * b < to && !blocks_visible(x->p, (int)f, (int)k)) f++;
        if (f * b < to) n += pattern_min(x->m, (k + 1) * b) - k * b;
    }
    return n;
}

/* Of the pattern of the problem; from < to <= from + PATTERN_QUERIES. */
static inline size_t pattern_keys(const pattern *x, size_t from, size_t to)
{
    switch (x->kind) {
    case PATTERN_SLIDING: return pattern_keys_sliding(x, from, to);
    case PATTERN_STRIDED: return pattern_keys_strided(x, from, to);
    case PATTERN_FIXED: return pattern_keys_fixed(x, from, to);
    case PATTERN_BIGBIRD: return pattern_keys_bigbird(x, from, to);
    case PATTERN_MASKED: return pattern_keys_masked(x, from, to);
    }
    return 0;
}

/* Whether the pairs may be other than those of the problem: then kernels make
 * room for all of them. */
static inline bool pattern_given(enum pattern_kind kind, const att_problem *p)
{
    return kind == PATTERN_MASKED || p->mask == ATT_MASK_PRIOR;
}

#endif
