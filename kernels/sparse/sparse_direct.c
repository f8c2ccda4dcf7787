/* sparse_*.direct, masked.direct - lists of visible keys, one query at a time
 * (see ../local/direct.h).
 *
 * prepare() writes the pattern as compressed rows and columns.  Work is
 * proportional to the visible pairs; bound by loads and horizontal sums, and by
 * the indices where rows are long.  A pattern that is given as a mask may hold
 * any pair, so that room is made for all of them.
 */
#include "../local/direct.h"
#include "pattern.h"

/* Row i: keys key[row[i]] .. key[row[i + 1] - 1]; column j: queries likewise, and
 * the place of j among the keys of each.  The state is: room, row, column, key,
 * query, place. */
typedef struct lists {
    size_t *row, *column;
    int32_t *key, *query, *place;
    size_t room; /* pairs that fit                                           */
} lists;

static size_t count_pairs(const pattern *x)
{
    size_t pairs = 0;
    for (size_t i = 0; i < x->n; i++) pairs += pattern_keys(x, i, i + 1);
    return pairs;
}

static size_t room_of(const pattern *x)
{
    return pattern_given(x->kind, x->p) ? x->n * x->m : count_pairs(x);
}

static lists lists_of(const pattern *x, void *state)
{
    lists l = { .row = (size_t *)state + 1, .room = *(size_t *)state };
    l.column = l.row + x->n + 1;
    l.key = (int32_t *)(l.column + x->m + 1);
    l.query = l.key + l.room;
    l.place = l.query + l.room;
    return l;
}

/* Queries are written column by column in rising order of i, with column[j + 1]
 * as the place of the next one, which leaves it at the column's end. */
static void fill(const pattern *x, const lists *l)
{
    size_t n = 0;
    memset(l->column, 0, (x->m + 1) * sizeof *l->column);
    for (size_t i = 0; i < x->n; i++) {
        l->row[i] = n;
        for (size_t j = pattern_next(x, i, 0); j < x->m;
             j = pattern_next(x, i, j + 1)) {
            l->key[n++] = (int32_t)j;
            l->column[j]++;
        }
    }
    l->row[x->n] = n;
    for (size_t j = 0, first = 0; j <= x->m; j++) {
        const size_t count = l->column[j];
        l->column[j] = first;
        first += count;
    }
    for (size_t i = 0; i < x->n; i++)
        for (size_t t = l->row[i]; t < l->row[i + 1]; t++) {
            const size_t at = l->column[l->key[t]]++;
            l->query[at] = (int32_t)i;
            l->place[at] = (int32_t)(t - l->row[i]);
        }
    for (size_t j = x->m; j-- > 0;) l->column[j + 1] = l->column[j];
    l->column[0] = 0;
}

static void list(const direct *x, size_t map, size_t i, direct_row *row)
{
    (void)map;
    const lists *l = x->geometry;
    row->keys = l->row[i + 1] - l->row[i];
    memcpy(row->key, l->key + l->row[i], row->keys * sizeof *row->key);
}

static void inverse(const direct *x, size_t map, size_t j, direct_row *row)
{
    (void)map;
    const lists *l = x->geometry;
    row->keys = l->column[j + 1] - l->column[j];
    memcpy(row->key, l->query + l->column[j], row->keys * sizeof *row->key);
    memcpy(row->tag, l->place + l->column[j], row->keys * sizeof *row->tag);
}

static direct direct_of(const att_call *c, const att_grad *g, const pattern *x,
                        const lists *l)
{
    const att_problem *p = c->p;
    return (direct){ .call = c,
                     .grad = g,
                     .geometry = l,
                     .maps = (size_t)p->batch * (size_t)p->heads,
                     .n = x->n,
                     .m = x->m,
                     .d = (size_t)p->head_dim,
                     .scale = p->scale != 0 ? (float)p->scale
                                            : 1 / sqrtf((float)p->head_dim),
                     .most = x->m,
                     .most_back = x->n,
                     .pairs = l->room,
                     .offset = l->row,
                     .list = list,
                     .inverse = inverse };
}

static void sizes(enum pattern_kind kind, const att_problem *p, int threads,
                  att_sizes *out)
{
    const att_call c = { .p = p };
    const pattern x = pattern_of(kind, &c);
    const lists l = { .room = room_of(&x) };
    const direct d = direct_of(&c, NULL, &x, &l);
    *out = (att_sizes){ .state = (x.n + x.m + 3) * sizeof(size_t) +
                                 3 * l.room * sizeof(int32_t) };
    direct_sizes(&d, threads, out);
}

static void prepare(enum pattern_kind kind, const att_call *c)
{
    const pattern x = pattern_of(kind, c);
    *(size_t *)c->state = room_of(&x);
    const lists l = lists_of(&x, c->state);
    fill(&x, &l);
}

static void forward(enum pattern_kind kind, const att_call *c)
{
    const pattern x = pattern_of(kind, c);
    const lists l = lists_of(&x, c->state);
    const direct d = direct_of(c, NULL, &x, &l);
    direct_forward(&d);
}

static void backward(enum pattern_kind kind, const att_call *c,
                     const att_grad *g)
{
    const pattern x = pattern_of(kind, c);
    const lists l = lists_of(&x, c->state);
    const direct d = direct_of(c, g, &x, &l);
    direct_backward(&d);
}

#define PATTERN(name, KIND)                                                    \
    static void name##_sizes(const att_problem *p, int threads,                \
                             att_sizes *out)                                   \
    {                                                                          \
        sizes(KIND, p, threads, out);                                          \
    }                                                                          \
    static void name##_prepare(const att_call *c)                              \
    {                                                                          \
        prepare(KIND, c);                                                      \
    }                                                                          \
    static void name##_forward(const att_call *c)                              \
    {                                                                          \
        forward(KIND, c);                                                      \
    }                                                                          \
    static void name##_backward(const att_call *c, const att_grad *g)          \
    {                                                                          \
        backward(KIND, c, g);                                                  \
    }
PATTERN(sparse_sliding, PATTERN_SLIDING)
PATTERN(sparse_strided, PATTERN_STRIDED)
PATTERN(sparse_fixed, PATTERN_FIXED)
PATTERN(sparse_bigbird, PATTERN_BIGBIRD)
PATTERN(masked, PATTERN_MASKED)

#define KERNEL(mech)                                                           \
    {                                                                          \
        .name = #mech ".direct",                                               \
        .mechanism = #mech,                                                    \
        .brief = "lists of visible keys, one query at a time",                 \
        .plain = true,                                                         \
        .sizes = mech##_sizes,                                                 \
        .prepare = mech##_prepare,                                             \
        .forward = mech##_forward,                                             \
        .backward = mech##_backward,                                           \
    }

ATT_KERNELS = {
    KERNEL(sparse_sliding), KERNEL(sparse_strided), KERNEL(sparse_fixed),
    KERNEL(sparse_bigbird), KERNEL(masked),         { 0 },
};
