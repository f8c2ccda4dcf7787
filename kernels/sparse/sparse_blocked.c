/* sparse_*.blocked, masked.blocked - a block of QUERIES queries against all keys
 * that any of them sees.
 *
 *     S = K Qt over the union of their keys, hidden pairs to -infinity,
 *     online softmax, Ot += V' P                       [child2019, section 5.5]
 *
 * prepare() walks along the rows of a block together and keeps the union, with a
 * bit per pair.  Lanes are queries; keys are read in place where they follow each
 * other and gathered otherwise, GROUP at a time.  The work is that of whole
 * columns of a block: patterns whose neighbouring rows differ (the diagonals of
 * sparse_strided) execute many times their visible pairs, which `executed`
 * reports.  Bound by the FMA pipes where the union is dense.
 *
 * Backward makes dq block by block, and adds to dk and dv: where there are many
 * maps a task is a map, else it is a part of one with a copy of dk and dv, of
 * which only the pieces that it meets are zeroed and summed.  The parts depend on
 * the problem alone, so that the sums are the same for any number of threads.
 */
#include "../att.h"

#include <omp.h>

#include "../tile.h"
#include "pattern.h"

enum {
    QUERIES = VL == 16 ? 2 * VL : 3 * VL, /* of a block: at most 32          */
    GROUP = 128,                          /* keys at a time                  */
    PARTS = 8,                            /* of a map, in backward           */
    PIECE = 64                            /* keys of a piece of dk and dv    */
};

static const float log2e = 1.44269504f;

static size_t up(size_t n, size_t step)
{
    return (n + step - 1) / step * step;
}

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- the keys of a block of queries ----------------------------------------------- */

/* The state: room, first, bits, key. */
typedef struct unions {
    size_t blocks, room;
    size_t *first;  /* [blocks + 1]                                           */
    uint32_t *bits; /* which queries of the block see the key                 */
    int32_t *key;   /* rising                                                 */
} unions;

/* Walks along the rows of a block. */
typedef struct walk {
    const pattern *x;
    size_t row, count;
    size_t next[QUERIES]; /* key of each query that is not done yet          */
} walk;

static walk walk_of(const pattern *x, size_t block)
{
    walk w = { .x = x, .row = block * QUERIES };
    w.count = min(QUERIES, x->n - w.row);
    for (size_t i = 0; i < w.count; i++)
        w.next[i] = pattern_next(x, w.row + i, 0);
    return w;
}

/* The next key that any of the queries sees; false at the end. */
static bool walk_on(walk *w, size_t *key, uint32_t *bits)
{
    size_t least = w->x->m;
    for (size_t i = 0; i < w->count; i++) least = min(least, w->next[i]);
    if (least == w->x->m) return false;
    *key = least;
    *bits = 0;
    for (size_t i = 0; i < w->count; i++) {
        if (w->next[i] != least) continue;
        *bits |= (uint32_t)1 << i;
        w->next[i] = pattern_next(w->x, w->row + i, least + 1);
    }
    return true;
}

static size_t blocks_of(const pattern *x)
{
    return (x->n + QUERIES - 1) / QUERIES;
}

static size_t count_keys(const pattern *x)
{
    size_t n = 0;
    for (size_t i = 0; i < x->n; i += QUERIES)
        n += pattern_keys(x, i, min(i + QUERIES, x->n));
    return n;
}

static size_t room_of(const pattern *x)
{
    return pattern_given(x->kind, x->p) ? blocks_of(x) * x->m : count_keys(x);
}

static size_t state_bytes(const pattern *x, size_t room)
{
    return (blocks_of(x) + 2) * sizeof(size_t) +
           room * (sizeof(uint32_t) + sizeof(int32_t));
}

static unions unions_of(const pattern *x, void *state)
{
    unions u = { .blocks = blocks_of(x),
                 .room = *(size_t *)state,
                 .first = (size_t *)state + 1 };
    u.bits = (uint32_t *)(u.first + u.blocks + 1);
    u.key = (int32_t *)(u.bits + u.room);
    return u;
}

static void fill(const pattern *x, const unions *u)
{
    size_t n = 0, key;
    for (size_t b = 0; b < u->blocks; b++) {
        walk w = walk_of(x, b);
        u->first[b] = n;
        while (walk_on(&w, &key, &u->bits[n])) u->key[n++] = (int32_t)key;
    }
    u->first[u->blocks] = n;
}

/* ---- one call -------------------------------------------------------------------------- */

typedef struct run {
    pattern x;
    unions u;
    const att_call *call;
    const att_grad *grad;
    size_t maps, d;
    float scale;
} run;

static run run_of(enum pattern_kind kind, const att_call *c, const att_grad *g)
{
    const att_problem *p = c->p;
    run r = { .x = pattern_of(kind, c),
              .call = c,
              .grad = g,
              .maps = (size_t)p->batch * (size_t)p->heads,
              .d = (size_t)p->head_dim,
              .scale = p->scale != 0 ? (float)p->scale
                                     : 1 / sqrtf((float)p->head_dim) };
    if (c->state) r.u = unions_of(&r.x, c->state);
    return r;
}

static size_t queries_of(const run *r, size_t block)
{
    return min(QUERIES, r->x.n - block * QUERIES);
}

/* Scratch of a thread, lanes are QUERIES. */
typedef struct scratch {
    float *qt, *ot;       /* [d][lanes]                                      */
    float *s;             /* [GROUP][lanes]                                   */
    float *max, *sum;     /* [lanes]                                          */
    float *k, *v;         /* [GROUP][d]: gathered                             */
    float *gt, *ds;       /* backward: dO as qt, dS as s                      */
    float *lse, *mean;    /* [lanes]                                          */
    float *dk, *dv;       /* [GROUP][d]                                       */
} scratch;

static size_t thread_floats(const run *r, bool back)
{
    const size_t rows = up(GROUP * r->d, 16);
    return up((2 * r->d + GROUP + 2) * QUERIES, 16) + 2 * rows +
           (back ? up((r->d + GROUP + 2) * QUERIES, 16) + 2 * rows : 0);
}

static scratch scratch_of(const run *r)
{
    const size_t rows = up(GROUP * r->d, 16);
    float *at = (float *)r->call->work +
                (size_t)omp_get_thread_num() *
                    thread_floats(r, r->grad != NULL);
    scratch w = { .k = at, .v = at + rows, .qt = at + 2 * rows };
    w.ot = w.qt + r->d * QUERIES;
    w.s = w.ot + r->d * QUERIES;
    w.max = w.s + GROUP * QUERIES;
    w.sum = w.max + QUERIES;
    if (!r->grad) return w;
    w.dk = at + 2 * rows + up((2 * r->d + GROUP + 2) * QUERIES, 16);
    w.dv = w.dk + rows;
    w.gt = w.dv + rows;
    w.ds = w.gt + r->d * QUERIES;
    w.lse = w.ds + GROUP * QUERIES;
    w.mean = w.lse + QUERIES;
    return w;
}

/* Rows of the keys [from, from + n) of the lists: in place if they follow each
 * other, else gathered into `to`. */
static const float *rows_of(const run *r, const float *x, size_t from, size_t n,
                            float *to)
{
    const int32_t *key = r->u.key + from;
    if ((size_t)(key[n - 1] - key[0]) == n - 1) return x + (size_t)key[0] * r->d;
    for (size_t i = 0; i < n; i++) {
        const float *row = x + (size_t)key[i] * r->d;
        size_t c = 0;
        for (; c + VL <= r->d; c += VL)
            v_store(to + i * r->d + c, v_load(row + c));
        if (c < r->d)
            v_store_n(to + i * r->d + c, v_load_n(row + c, r->d - c), r->d - c);
    }
    return to;
}

/* s[key][lane] of the keys from `from` on, whose rows are k; hidden pairs get
 * -infinity. */
static void score(const run *r, size_t from, size_t n, const float *k,
                  const float *qt, float *s)
{
    const uint32_t *bits = r->u.bits + from;
    vi lane;
    UNROLL for (int i = 0; i < VL; i++) lane[i] = 1 << i;
    tile_gemm(n, QUERIES, r->d, k, r->d, 1, qt, QUERIES, s, QUERIES, false);
    for (size_t j = 0; j < n; j++) {
        if (bits[j] == (uint32_t)(((uint64_t)1 << QUERIES) - 1)) continue;
        for (size_t l = 0; l < QUERIES; l += VL) {
            const vi seen = (lane & (int32_t)(bits[j] >> l)) != 0;
            float *at = s + j * QUERIES + l;
            v_store(at, v_select(seen, v_load(at), v_set1(-INFINITY)));
        }
    }
}

/* ---- forward ---------------------------------------------------------------------------- */

/* Online softmax over n rows of s: P overwrites s, the output so far is scaled
 * down to the new maximum. */
static void soften(const run *r, scratch w, size_t n)
{
    for (size_t l = 0; l < QUERIES; l += VL) {
        vf max[4], sum[4];
        const vf old = v_load(w.max + l);
        UNROLL for (int i = 0; i < 4; i++) max[i] = old, sum[i] = v_zero();
        for (size_t j = 0; j < n; j += 4)
            UNROLL for (size_t i = 0; i < 4; i++)
                if (j + i < n)
                    max[i] = v_max(max[i], v_load(w.s + (j + i) * QUERIES + l));
        const vf top = v_max(v_max(max[0], max[1]), v_max(max[2], max[3]));
        const vf shrink = v_exp2(old - top);
        for (size_t j = 0; j < n; j += 4)
            UNROLL for (size_t i = 0; i < 4; i++) {
                if (j + i >= n) break;
                float *at = w.s + (j + i) * QUERIES + l;
                const vf e = v_exp2(v_load(at) - top);
                sum[i] += e;
                v_store(at, e);
            }
        v_store(w.max + l, top);
        v_store(w.sum + l, v_load(w.sum + l) * shrink +
                               ((sum[0] + sum[1]) + (sum[2] + sum[3])));
        for (size_t c = 0; c < r->d; c++) {
            float *at = w.ot + c * QUERIES + l;
            v_store(at, v_load(at) * shrink);
        }
    }
}

/* o = ot / sum; a query that sees nothing has met only -infinity: a zero row. */
static void close_block(const run *r, scratch w, size_t token, size_t count)
{
    float *save = r->call->save;
    for (size_t l = 0; l < QUERIES; l += VL) {
        const vf sum = v_load(w.sum + l);
        const vf inverse = v_select(sum > 0.0f, 1.0f / sum, v_zero());
        for (size_t c = 0; c < r->d; c++) {
            float *at = w.ot + c * QUERIES + l;
            v_store(at, v_load(at) * inverse);
        }
    }
    tile_transpose(w.ot, QUERIES, r->d, count,
                   (float *)r->call->o + token * r->d, r->d, r->d, 1);
    for (size_t i = 0; save && i < count; i++)
        save[token + i] =
            w.sum[i] > 0 ? w.max[i] + log2f(w.sum[i]) : 0;
}

static void forward_block(const run *r, size_t map, size_t block)
{
    const att_call *c = r->call;
    const scratch w = scratch_of(r);
    const size_t d = r->d, count = queries_of(r, block);
    const size_t token = map * r->x.n + block * QUERIES;
    const size_t end = r->u.first[block + 1];
    const float *k = (const float *)c->k + map * r->x.m * d;
    const float *v = (const float *)c->v + map * r->x.m * d;

    tile_transpose((const float *)c->q + token * d, d, count, d, w.qt, QUERIES,
                   QUERIES, log2e * r->scale);
    memset(w.ot, 0, d * QUERIES * sizeof(float));
    for (size_t i = 0; i < QUERIES; i++) w.max[i] = V_LOWEST, w.sum[i] = 0;
    for (size_t i = r->u.first[block]; i < end; i += GROUP) {
        const size_t n = min(GROUP, end - i);
        score(r, i, n, rows_of(r, k, i, n, w.k), w.qt, w.s);
        soften(r, w, n);
        tile_gemm(d, QUERIES, n, rows_of(r, v, i, n, w.v), 1, d, w.s, QUERIES,
                  w.ot, QUERIES, true);
    }
    close_block(r, w, token, count);
}

static void forward(enum pattern_kind kind, const att_call *c)
{
    const run r = run_of(kind, c, NULL);
    #pragma omp parallel for schedule(dynamic) num_threads(c->threads)
    for (size_t at = 0; at < r.maps * r.u.blocks; at++)
        forward_block(&r, at / r.u.blocks, at % r.u.blocks);
}

/* ---- backward ------------------------------------------------------------------------------ */

static size_t parts_of(const run *r)
{
    return r->maps >= PARTS ? 1 : min(PARTS, blocks_of(&r->x));
}

/* dk and dv of a map, or copies of them for a part of it. */
typedef struct copy {
    float *dk, *dv;         /* [m][d]; NULL: not wanted                       */
    unsigned char *touched; /* [pieces]: that were met; NULL: all are zeroed  */
} copy;

static size_t pieces_of(const run *r)
{
    return (r->x.m + PIECE - 1) / PIECE;
}

static size_t copy_floats(const run *r)
{
    return 2 * up(r->x.m * r->d, 16) + up(pieces_of(r), 64) / sizeof(float);
}

static copy copy_of(const run *r, size_t part)
{
    const size_t size = up(r->x.m * r->d, 16);
    float *at = (float *)r->call->work +
                (size_t)r->call->threads * thread_floats(r, true) +
                part * copy_floats(r);
    return (copy){ .dk = r->grad->dk ? at : NULL,
                   .dv = r->grad->dv ? at + size : NULL,
                   .touched = (unsigned char *)(at + 2 * size) };
}

/* Zeroes the pieces of keys [from, from + n) of the lists that are met for the
 * first time. */
static void touch(const run *r, const copy *to, size_t from, size_t n)
{
    for (size_t i = from; to->touched && i < from + n; i++) {
        const size_t piece = (size_t)r->u.key[i] / PIECE;
        if (to->touched[piece]) continue;
        to->touched[piece] = 1;
        const size_t at = piece * PIECE * r->d;
        const size_t bytes =
            min(PIECE * r->d, r->x.m * r->d - at) * sizeof(float);
        if (to->dk) memset(to->dk + at, 0, bytes);
        if (to->dv) memset(to->dv + at, 0, bytes);
    }
}

static void open_back(const run *r, scratch w, size_t token, size_t count)
{
    const att_call *c = r->call;
    const size_t d = r->d;
    const float *g = r->grad->dout + token * d, *o = (float *)c->o + token * d;
    tile_transpose((const float *)c->q + token * d, d, count, d, w.qt, QUERIES,
                   QUERIES, log2e * r->scale);
    tile_transpose(g, d, count, d, w.gt, QUERIES, QUERIES, 1);
    for (size_t i = 0; i < QUERIES; i++) {
        float mean = 0;
        for (size_t k = 0; i < count && k < d; k++)
            mean += g[i * d + k] * o[i * d + k];
        w.mean[i] = mean;
        w.lse[i] = i < count ? ((const float *)c->save)[token + i] : 0;
    }
}

/* P = 2^(S - lse), dS = P (dP - rowsum(dO O)). */
static void soften_back(scratch w, size_t n)
{
    for (size_t l = 0; l < QUERIES; l += VL) {
        const vf lse = v_load(w.lse + l), mean = v_load(w.mean + l);
        for (size_t j = 0; j < n; j++) {
            float *at = w.s + j * QUERIES + l, *to = w.ds + j * QUERIES + l;
            const vf e = v_exp2(v_load(at) - lse);
            v_store(at, e);
            v_store(to, e * (v_load(to) - mean));
        }
    }
}

/* Adds scale * rows of n keys of the lists. */
static void add_rows(const run *r, const float *rows, size_t from, size_t n,
                     float scale, float *to)
{
    for (size_t i = 0; i < n; i++) {
        float *at = to + (size_t)r->u.key[from + i] * r->d;
        for (size_t c = 0; c < r->d; c += VL) {
            const size_t left = min(VL, r->d - c);
            const vf x = v_load_n(rows + i * r->d + c, left);
            v_store_n(at + c, v_load_n(at + c, left) + scale * x, left);
        }
    }
}

/* Writes dq of a block, adds to dk and dv. */
static void back_block(const run *r, size_t map, size_t block, const copy *to)
{
    const att_call *c = r->call;
    const scratch w = scratch_of(r);
    const size_t d = r->d, count = queries_of(r, block);
    const size_t token = map * r->x.n + block * QUERIES;
    const size_t first = r->u.first[block], end = r->u.first[block + 1];
    const float *g = r->grad->dout + token * d;
    float *dq = r->grad->dq ? r->grad->dq + token * d : NULL;

    open_back(r, w, token, count);
    if (dq && first == end) memset(dq, 0, count * d * sizeof *dq);
    for (size_t i = first; i < end; i += GROUP) {
        const size_t n = min(GROUP, end - i);
        const float *k =
            rows_of(r, (const float *)c->k + map * r->x.m * d, i, n, w.k);
        const float *v =
            rows_of(r, (const float *)c->v + map * r->x.m * d, i, n, w.v);
        score(r, i, n, k, w.qt, w.s);
        tile_gemm(n, QUERIES, d, v, d, 1, w.gt, QUERIES, w.ds, QUERIES, false);
        soften_back(w, n);
        if (dq)
            tile_gemm(count, d, n, w.ds, 1, QUERIES, k, d, dq, d, i > first);
        touch(r, to, i, n);
        if (to->dk) {
            tile_gemm(n, d, count, w.ds, QUERIES, 1,
                      (const float *)c->q + token * d, d, w.dk, d, false);
            add_rows(r, w.dk, i, n, r->scale, to->dk);
        }
        if (to->dv) {
            tile_gemm(n, d, count, w.s, QUERIES, 1, g, d, w.dv, d, false);
            add_rows(r, w.dv, i, n, 1, to->dv);
        }
    }
    for (size_t i = 0; dq && i < count * d; i++) dq[i] *= r->scale;
}

/* Sum of the parts' copies of one piece, in order. */
static void sum_piece(const run *r, size_t parts, size_t piece, bool values,
                      float *out)
{
    const size_t first = piece * PIECE * r->d;
    const size_t n = min(PIECE * r->d, r->x.m * r->d - first);
    memset(out + first, 0, n * sizeof *out);
    for (size_t part = 0; part < parts; part++) {
        const copy from = copy_of(r, part);
        if (!from.touched[piece]) continue;
        const float *x = (values ? from.dv : from.dk) + first;
        #pragma omp simd
        for (size_t i = 0; i < n; i++) out[first + i] += x[i];
    }
}

/* First block of a part: parts have about as many keys in their lists. */
static size_t part_block(const run *r, size_t part, size_t parts)
{
    const size_t all = r->u.first[r->u.blocks];
    size_t b = 0;
    while (b < r->u.blocks && r->u.first[b] * parts < all * part) b++;
    return part == parts ? r->u.blocks : b;
}

static void back_map(const run *r, size_t map, size_t parts)
{
    const att_grad *g = r->grad;
    const size_t size = r->x.m * r->d;
    #pragma omp for schedule(dynamic)
    for (size_t part = 0; part < parts; part++) {
        const copy to = copy_of(r, part);
        memset(to.touched, 0, pieces_of(r));
        for (size_t b = part_block(r, part, parts);
             b < part_block(r, part + 1, parts); b++)
            back_block(r, map, b, &to);
    }
    #pragma omp for
    for (size_t piece = 0; piece < pieces_of(r); piece++) {
        if (g->dk) sum_piece(r, parts, piece, false, g->dk + map * size);
        if (g->dv) sum_piece(r, parts, piece, true, g->dv + map * size);
    }
}

static void backward(enum pattern_kind kind, const att_call *c,
                     const att_grad *g)
{
    const run r = run_of(kind, c, g);
    const size_t parts = parts_of(&r), size = r.x.m * r.d;
    #pragma omp parallel num_threads(c->threads)
    if (parts > 1) {
        for (size_t map = 0; map < r.maps; map++) back_map(&r, map, parts);
    } else {
        #pragma omp for schedule(dynamic)
        for (size_t map = 0; map < r.maps; map++) {
            const copy to = { g->dk ? g->dk + map * size : NULL,
                              g->dv ? g->dv + map * size : NULL, NULL };
            if (to.dk) memset(to.dk, 0, size * sizeof(float));
            if (to.dv) memset(to.dv, 0, size * sizeof(float));
            for (size_t b = 0; b < r.u.blocks; b++)
                back_block(&r, map, b, &to);
        }
    }
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static void sizes(enum pattern_kind kind, const att_problem *p, int threads,
                  att_sizes *out)
{
    const att_call c = { .p = p };
    const run r = run_of(kind, &c, NULL);
    const size_t n = (size_t)threads;
    *out = (att_sizes){
        .state = state_bytes(&r.x, room_of(&r.x)),
        .save = r.maps * r.x.n * sizeof(float),
        .work = n * thread_floats(&r, false) * sizeof(float),
        .work_backward =
            (n * thread_floats(&r, true) +
             (parts_of(&r) > 1 ? parts_of(&r) * copy_floats(&r) : 0)) *
            sizeof(float),
    };
}

static void prepare(enum pattern_kind kind, const att_call *c)
{
    const pattern x = pattern_of(kind, c);
    *(size_t *)c->state = room_of(&x);
    const unions u = unions_of(&x, c->state);
    fill(&x, &u);
}

/* All queries of a block with all keys of its union. */
static void executed(enum pattern_kind kind, const att_problem *p,
                     enum att_pass pass, att_cost *out)
{
    const att_call c = { .p = p };
    const run r = run_of(kind, &c, NULL);
    const double pairs =
        (double)r.maps * (double)count_keys(&r.x) * QUERIES;
    const double products = pass == ATT_FORWARD ? 2 : 5;
    const double ratio = out->pairs > 0 ? pairs / out->pairs : 1;
    out->mul_add = pairs * products * (double)r.d;
    out->add *= ratio;
    out->mul *= ratio;
    out->exp *= ratio;
    out->pairs = pairs;
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
    }                                                                          \
    static void name##_executed(const att_problem *p, enum att_pass pass,      \
                                att_cost *out)                                 \
    {                                                                          \
        executed(KIND, p, pass, out);                                          \
    }
PATTERN(sparse_sliding, PATTERN_SLIDING)
PATTERN(sparse_strided, PATTERN_STRIDED)
PATTERN(sparse_fixed, PATTERN_FIXED)
PATTERN(sparse_bigbird, PATTERN_BIGBIRD)
PATTERN(masked, PATTERN_MASKED)

#define KERNEL(mech)                                                           \
    {                                                                          \
        .name = #mech ".blocked",                                              \
        .mechanism = #mech,                                                    \
        .brief = "dense tiles where there are visible pairs",                  \
        .sizes = mech##_sizes,                                                 \
        .prepare = mech##_prepare,                                             \
        .forward = mech##_forward,                                             \
        .backward = mech##_backward,                                           \
        .executed = mech##_executed,                                           \
    }

ATT_KERNELS = {
    KERNEL(sparse_sliding), KERNEL(sparse_strided), KERNEL(sparse_fixed),
    KERNEL(sparse_bigbird), KERNEL(masked),         { 0 },
};
