/* softmax.flash - tiled attention with an online softmax; no N x M matrix.
 *
 *     m' = max(m, max_J S)   a = 2^(m - m')   l = a l + sum_J 2^(S - m')
 *     o  = a o + 2^(S - m') V_J   ...   o / l       [milakov2018, dao2022]
 *
 * Lanes are queries.  A block of up to TILE_N queries is transposed once, with
 * log2(e) * scale folded in, so that S, P and the output block are
 * [key or channel][query]: maximum and sum over keys are vertical, K and V are
 * only broadcast in their own layout, never packed.  Up to SUB query blocks share
 * each block of KEYS keys while it is in the second cache.
 *
 * Bound by the FMA pipes at d >= 64; at d = 32 the softmax pass shows (one vector
 * of scores costs 2 d FMA against some 9 operations for 2^x).
 *
 * Forward saves m and log2 l, not their sum, whose rounding would be felt where
 * logits are large.  Backward recomputes P from them and does five products, all
 * on natural layouts but for Q and dO transposed per query block:
 *
 *     S = K Q'  P = 2^(S - m) / l  dP = V dO'  dS = P (dP - rowsum(dO O))
 *     dV += P dO    dK += dS Q    dQ += dS' K
 */
#include "../att.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "../store.h"
#include "../tile.h"

enum {
    KEYS = 128,      /* keys a block; flat from 64 on                        */
    SUB = 4,         /* query blocks that share a key block                  */
    KEYS_BACK = 64,  /* backward: P and dS of 64 x 96 fit the first cache    */
    QUERIES_BACK = 2 * TILE_N
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

static size_t maps_of(const att_problem *p)
{
    return (size_t)p->batch * (size_t)p->heads;
}

/* Sizes of one map, and what is constant over a call. */
typedef struct shape {
    size_t n, m, d, dv;
    bool causal;
    int dtype;
    float scale;
} shape;

/* Rows of one map in a tensor of any storage type. */
typedef struct rows {
    const void *tensor;
    size_t first, width; /* first row in the tensor, channels               */
} rows;

static const float *view(const shape *s, rows r, size_t from, size_t count,
                         float *scratch)
{
    return store_view(s->dtype, r.tensor, (r.first + from) * r.width,
                      count * r.width, scratch);
}

static shape shape_of(const att_problem *p)
{
    return (shape){
        att_tokens(p),           att_keys(p),
        (size_t)p->head_dim,     att_value_dim(p),
        att_at(&p->causal, 0, 0), p->dtype,
        p->scale != 0 ? (float)p->scale : 1 / sqrtf((float)p->head_dim),
    };
}

/* Keys that queries before `end` may see. */
static size_t seen(const shape *s, size_t end)
{
    return s->causal ? min(s->m, end + s->m - s->n) : s->m;
}

/* ---- forward ------------------------------------------------------------------- */

/* One block of queries, its running state and its place in scratch. */
typedef struct block {
    size_t first, count, lanes; /* lanes: count rounded up to vectors        */
    float *qt;                  /* [d][lanes]                                */
    float *ot;                  /* [dv][lanes]                               */
    float *max, *sum;           /* [lanes]                                   */
} block;

static size_t thread_floats(const shape *s)
{
    const size_t per_block = TILE_N * (s->d + s->dv + 2);
    const size_t converted = (KEYS + TILE_N) * (s->d + s->dv);
    return up(SUB * per_block + 2 * KEYS * TILE_N +
                  (s->dtype == ATT_F32 ? 0 : converted),
              16);
}

/* S[key][query] of a block of keys. */
static void scores(const block *b, const shape *s, const float *k, size_t keys,
                   float *S)
{
    tile_gemm(keys, b->lanes, s->d, k, s->d, 1, b->qt, b->lanes, S, b->lanes,
              false);
}

/* Adds log2(e) * bias[query][key], where bias is that of the block's queries. */
static void add_bias(const block *b, const shape *s, const float *bias,
                     size_t keys, float *S, float *scratch)
{
    tile_transpose(bias, s->m, b->count, keys, scratch, b->lanes, b->lanes, 1);
    for (size_t i = 0; i < keys * b->lanes; i += VL)
        v_store(S + i, v_load(S + i) + v_base2(v_load(scratch + i)));
}

/* Key j0 + t is hidden from queries before j0 + t - (m - n). */
static void mask_causal(const block *b, const shape *s, size_t j0, size_t keys,
                        float *S)
{
    for (size_t t = 0; t < keys; t++) {
        const size_t key = j0 + t + s->n;
        const size_t from = key > s->m ? key - s->m : 0; /* that sees it */
        for (size_t i = 0; b->first + i < from && i < b->lanes; i++)
            S[t * b->lanes + i] = -INFINITY;
    }
}

/* Online softmax of one block of keys: P overwrites S, the old output is scaled
 * down to the new maximum. */
SIMD_INLINE void soften(const block *b, const shape *s, const int v,
                        size_t keys, float *S)
{
    const size_t lanes = (size_t)v * VL;
    vf max[TILE_V], sum[TILE_V], shrink[TILE_V];
    UNROLL for (int j = 0; j < v; j++) max[j] = v_load(b->max + j * VL);
    for (size_t t = 0; t < keys; t++)
        UNROLL for (int j = 0; j < v; j++)
            max[j] = v_max(max[j], v_load(S + t * lanes + (size_t)j * VL));
    UNROLL for (int j = 0; j < v; j++) {
        shrink[j] = v_exp2(v_load(b->max + j * VL) - max[j]);
        sum[j] = v_load(b->sum + j * VL) * shrink[j];
        v_store(b->max + j * VL, max[j]);
    }
    for (size_t t = 0; t < keys; t++)
        UNROLL for (int j = 0; j < v; j++) {
            float *at = S + t * lanes + (size_t)j * VL;
            const vf e = v_exp2(v_load(at) - max[j]);
            sum[j] += e;
            v_store(at, e);
        }
    UNROLL for (int j = 0; j < v; j++) v_store(b->sum + j * VL, sum[j]);
    for (size_t c = 0; c < s->dv; c++)
        UNROLL for (int j = 0; j < v; j++) {
            float *at = b->ot + c * lanes + (size_t)j * VL;
            v_store(at, v_load(at) * shrink[j]);
        }
}

static void soften_block(const block *b, const shape *s, size_t keys, float *S)
{
    switch (b->lanes / VL) {
    case 1: soften(b, s, 1, keys, S); break;
    case 2: soften(b, s, 2, keys, S); break;
    default: soften(b, s, 3, keys, S); break;
    }
}

/* Keys [j0, j0 + keys), rows k and v, for one block of queries. */
static void visit(const block *b, const shape *s, const float *k,
                  const float *v, const float *bias, size_t j0, size_t keys,
                  float *S)
{
    keys = min(keys, seen(s, b->first + b->count) - j0);
    scores(b, s, k, keys, S);
    if (bias)
        add_bias(b, s, bias + b->first * s->m + j0, keys, S,
                 S + KEYS * TILE_N);
    if (s->causal && j0 + keys > seen(s, b->first + 1))
        mask_causal(b, s, j0, keys, S);
    soften_block(b, s, keys, S);
    tile_gemm(s->dv, b->lanes, keys, v, 1, s->dv, S, b->lanes, b->ot, b->lanes,
              true);
}

static void open_block(block *b, const shape *s, rows q, float *scratch)
{
    tile_transpose(view(s, q, b->first, b->count, scratch), s->d, b->count,
                   s->d, b->qt, b->lanes, b->lanes, log2e * s->scale);
    memset(b->ot, 0, s->dv * b->lanes * sizeof(float));
    for (size_t i = 0; i < b->lanes; i++) {
        b->max[i] = V_LOWEST;
        b->sum[i] = 0;
    }
}

/* What is kept of each row; NULL: not wanted. */
typedef struct saved {
    float *max, *log2_sum; /* in base 2                                      */
    float *lse;            /* the extra output                               */
    bool biased;           /* max is of v_base2()                            */
} saved;

/* o = ot / sum, transposed back; a query that saw only -inf gets zeros. */
static void close_block(const block *b, const shape *s, void *o, size_t row,
                        const saved *save, float *scratch)
{
    const size_t place = (row + b->first) * s->dv;
    float *out = s->dtype == ATT_F32 ? (float *)o + place : scratch;

    for (size_t i = 0; i < b->lanes; i += VL) {
        const vf sum = v_load(b->sum + i);
        const vf inverse = v_select(sum > 0.0f, 1.0f / sum, v_zero());
        for (size_t c = 0; c < s->dv; c++) {
            float *at = b->ot + c * b->lanes + i;
            v_store(at, v_load(at) * inverse);
        }
    }
    tile_transpose(b->ot, b->lanes, s->dv, b->count, out, s->dv, s->dv, 1);
    if (out == scratch) store_put(s->dtype, o, place, b->count * s->dv, out);
    for (size_t i = 0; save->max && i < b->count; i++) {
        save->max[b->first + i] = b->max[i];
        save->log2_sum[b->first + i] = log2f(b->sum[i]);
    }
    for (size_t i = 0; save->lse && i < b->count; i++)
        save->lse[b->first + i] =
            b->sum[i] > 0 ? (save->biased ? simd_base_e(b->max[i])
                                          : b->max[i] / log2e) +
                                logf(b->sum[i])
                          : -INFINITY;
}

/* What a task reads and writes: one map. */
typedef struct map {
    rows q, k, v, o;
    const float *g; /* dO                                                   */
    const float *bias;
    saved save;
    float *dq, *dk, *dv, *dbias;
} map;

static map map_of(const att_call *c, const shape *s, size_t i)
{
    const size_t head = i % (size_t)c->p->heads;
    return (map){
        .q = { c->q, i * s->n, s->d },
        .k = { c->k, i * s->m, s->d },
        .v = { c->v, i * s->m, s->dv },
        .o = { c->o, i * s->n, s->dv },
        .bias = c->param[0] ? c->param[0] + head * s->n * s->m : NULL,
        .save = {
            .max = c->save ? (float *)c->save + i * s->n : NULL,
            .log2_sum =
                c->save ? (float *)c->save + (maps_of(c->p) + i) * s->n : NULL,
            .lse = c->extra[0] ? c->extra[0] + i * s->n : NULL,
            .biased = c->param[0] != NULL,
        },
    };
}

/* Queries of vectors [from, to). */
static void forward_task(const shape *s, size_t from, size_t to, const map *t,
                         void *o, float *work)
{
    block blocks[SUB];
    float *S = work, *scratch = S + 2 * KEYS * TILE_N;
    if (s->dtype != ATT_F32) work = scratch + (KEYS + TILE_N) * (s->d + s->dv);
    else work = scratch;
    const size_t count = (to - from + TILE_V - 1) / TILE_V;
    size_t last = 0;

    for (size_t i = 0; i < count; i++) {
        block *b = &blocks[i];
        const size_t a = from + (to - from) * i / count;
        const size_t z = from + (to - from) * (i + 1) / count;
        *b = (block){ .first = a * VL, .lanes = (z - a) * VL, .qt = work };
        b->count = min(b->lanes, s->n - b->first);
        b->ot = b->qt + s->d * TILE_N;
        b->max = b->ot + s->dv * TILE_N;
        b->sum = b->max + TILE_N;
        work = b->sum + TILE_N;
        open_block(b, s, t->q, scratch);
        last = b->first + b->count;
    }
    for (size_t j = 0; j < seen(s, last); j += KEYS) {
        const size_t keys = min(KEYS, s->m - j);
        const float *k = view(s, t->k, j, keys, scratch);
        const float *v = view(s, t->v, j, keys, scratch + KEYS * s->d);
        for (size_t i = 0; i < count; i++)
            if (j < seen(s, blocks[i].first + blocks[i].count))
                visit(&blocks[i], s, k, v, t->bias, j, keys, S);
    }
    for (size_t i = 0; i < count; i++)
        close_block(&blocks[i], s, o, t->o.first, &t->save, scratch);
}

/* Tasks a map: small enough for SUB blocks, even, and at least four a thread. */
static size_t tasks_per_map(const shape *s, size_t maps, int threads)
{
    const size_t vectors = (s->n + VL - 1) / VL;
    size_t tasks = (vectors + SUB * TILE_V - 1) / (SUB * TILE_V);
    if (threads > 1)
        while (maps * tasks < 4 * (size_t)threads &&
               (tasks + 1) * TILE_V <= vectors)
            tasks++;
    return tasks;
}

static void forward(const att_call *c)
{
    const att_problem *p = c->p;
    const shape s = shape_of(p);
    const size_t maps = maps_of(p), vectors = (s.n + VL - 1) / VL;
    const size_t tasks = tasks_per_map(&s, maps, c->threads);

    #pragma omp parallel for schedule(dynamic) num_threads(c->threads)
    for (size_t task = 0; task < maps * tasks; task++) {
        /* the longest causal tasks first */
        const size_t i = task % maps, part = tasks - 1 - task / maps;
        const map t = map_of(c, &s, i);
        forward_task(&s, vectors * part / tasks, vectors * (part + 1) / tasks,
                     &t, c->o,
                     (float *)c->work +
                         (size_t)omp_get_thread_num() * thread_floats(&s));
    }
}

/* ---- backward ------------------------------------------------------------------- */

/* What a thread needs for one block of queries. */
typedef struct back {
    size_t first, count, lanes;
    float *qt, *gt;       /* Q (times log2(e) scale) and dO, [channel][lanes] */
    float *max, *sum;     /* saved of the rows; log2 of the sum, [lanes]      */
    float *mean;          /* rowsum(dO O), [lanes]                            */
    float *P, *dS;        /* [KEYS_BACK][lanes]                               */
    float *scratch;       /* [KEYS_BACK][lanes], for the bias                 */
    float *q, *o, *k, *v; /* room for converted rows                         */
} back;

static size_t back_floats(const shape *s)
{
    return QUERIES_BACK * (s->d + s->dv + 3 + 3 * KEYS_BACK) +
           (QUERIES_BACK + KEYS_BACK) * (s->d + s->dv);
}

static back back_new(const shape *s, float *work)
{
    back b = { .qt = work };
    b.gt = b.qt + QUERIES_BACK * s->d;
    b.max = b.gt + QUERIES_BACK * s->dv;
    b.sum = b.max + QUERIES_BACK;
    b.mean = b.sum + QUERIES_BACK;
    b.P = b.mean + QUERIES_BACK;
    b.dS = b.P + QUERIES_BACK * KEYS_BACK;
    b.scratch = b.dS + QUERIES_BACK * KEYS_BACK;
    b.q = b.scratch + QUERIES_BACK * KEYS_BACK;
    b.o = b.q + QUERIES_BACK * s->d;
    b.k = b.o + QUERIES_BACK * s->dv;
    b.v = b.k + KEYS_BACK * s->d;
    return b;
}

static void back_open(back *b, const shape *s, const map *t)
{
    const float *o = view(s, t->o, b->first, b->count, b->o);
    tile_transpose(view(s, t->q, b->first, b->count, b->q), s->d, b->count,
                   s->d, b->qt, b->lanes, b->lanes, log2e * s->scale);
    tile_transpose(t->g + b->first * s->dv, s->dv, b->count, s->dv, b->gt,
                   b->lanes, b->lanes, 1);
    for (size_t i = 0; i < b->lanes; i++) {
        const size_t row = b->first + i;
        float mean = 0;
        for (size_t c = 0; i < b->count && c < s->dv; c++)
            mean += t->g[row * s->dv + c] * o[i * s->dv + c];
        b->mean[i] = mean;
        /* a row that saw nothing: 2^(-inf - max) = 0; lanes without a row: 0 */
        const bool any = i < b->count && isfinite(t->save.log2_sum[row]);
        b->max[i] = any ? t->save.max[row] : -V_LOWEST;
        b->sum[i] = any ? t->save.log2_sum[row] : 0;
    }
}

/* P = 2^(S - max) / sum, dS = P (dP - mean); dP arrives in b->dS. */
static void back_soften(const back *b, size_t keys)
{
    for (size_t i = 0; i < b->lanes; i += VL) {
        const vf max = v_load(b->max + i), sum = v_load(b->sum + i);
        const vf mean = v_load(b->mean + i);
        for (size_t t = 0; t < keys; t++) {
            float *P = b->P + t * b->lanes + i, *dS = b->dS + t * b->lanes + i;
            const vf e = v_exp2(v_load(P) - max - sum);
            v_store(P, e);
            v_store(dS, e * (v_load(dS) - mean));
        }
    }
}

static void back_bias(const back *b, const shape *s, float *dbias, size_t j,
                      size_t keys)
{
    for (size_t i = 0; i < b->count; i++) {
        float *row = dbias + (b->first + i) * s->m + j;
        for (size_t t = 0; t < keys; t++) row[t] += b->dS[t * b->lanes + i];
    }
}

static void back_visit(const back *b, const shape *s, const map *t, size_t j,
                       size_t keys, bool first)
{
    const block as = { .first = b->first, .count = b->count,
                       .lanes = b->lanes, .qt = b->qt };
    const float *k = view(s, t->k, j, keys, b->k);
    const float *v = view(s, t->v, j, keys, b->v);
    const float *q = view(s, t->q, b->first, b->count, b->q);

    scores(&as, s, k, keys, b->P);
    if (t->bias)
        add_bias(&as, s, t->bias + b->first * s->m + j, keys, b->P, b->scratch);
    if (s->causal && j + keys > seen(s, b->first + 1))
        mask_causal(&as, s, j, keys, b->P);
    tile_gemm(keys, b->lanes, s->dv, v, s->dv, 1, b->gt, b->lanes, b->dS,
              b->lanes, false);
    back_soften(b, keys);
    if (t->dbias) back_bias(b, s, t->dbias, j, keys);
    if (t->dv)
        tile_gemm(keys, s->dv, b->count, b->P, b->lanes, 1,
                  t->g + b->first * s->dv, s->dv, t->dv + j * s->dv, s->dv,
                  true);
    if (t->dk)
        tile_gemm(keys, s->d, b->count, b->dS, b->lanes, 1, q, s->d,
                  t->dk + j * s->d, s->d, true);
    if (t->dq)
        tile_gemm(b->count, s->d, keys, b->dS, 1, b->lanes, k, s->d,
                  t->dq + b->first * s->d, s->d, !first);
}

/* Query blocks `part`, part + parts, ... of one map. */
static void back_map(const shape *s, const map *t, size_t part, size_t parts,
                     float *work)
{
    back b = back_new(s, work);
    for (size_t i = part * QUERIES_BACK; i < s->n; i += parts * QUERIES_BACK) {
        b.first = i;
        b.count = min(QUERIES_BACK, s->n - i);
        b.lanes = up(b.count, VL);
        back_open(&b, s, t);
        const size_t end = seen(s, i + b.count);
        for (size_t j = 0; j < end; j += KEYS_BACK)
            back_visit(&b, s, t, j, min(KEYS_BACK, end - j), j == 0);
        for (size_t c = 0; t->dq && c < b.count * s->d; c++)
            t->dq[i * s->d + c] *= s->scale;
    }
}

/* Parts that a map is split into, so that the threads share the work evenly. */
static size_t parts_of(const shape *s, size_t maps, int threads)
{
    const size_t n = (size_t)threads, blocks = up(s->n, QUERIES_BACK) /
                                               QUERIES_BACK;
    size_t parts = 1;
    while (maps * parts % n && maps * parts < 4 * n && parts < blocks &&
           parts < n)
        parts++;
    return parts;
}

static size_t partial_floats(const shape *s)
{
    return up(s->m * (s->d + s->dv), 16);
}

/* Storage of any type; everything that the mechanism is defined for. */
static const char *reject(const att_problem *p, enum att_pass pass)
{
    (void)p, (void)pass;
    return NULL;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const shape s = shape_of(p);
    const size_t maps = maps_of(p), parts = parts_of(&s, maps, threads);
    const size_t n = (size_t)threads;
    *out = (att_sizes){
        .save = 2 * maps * s.n * sizeof(float),
        .work = n * thread_floats(&s) * sizeof(float),
        .work_backward = (n * up(back_floats(&s), 16) +
                          maps * parts * partial_floats(&s)) *
                         sizeof(float),
    };
}

/* Sum of the parts' dK and dV into the gradients; K's still lacks its scale. */
static void reduce(const shape *s, const float *partial, size_t parts,
                   float *dk, float *dv)
{
    const size_t nk = s->m * s->d, nv = s->m * s->dv;
    for (size_t i = 0; i < nk + nv; i++) {
        float sum = 0;
        for (size_t t = 0; t < parts; t++)
            sum += partial[t * partial_floats(s) + i];
        if (i < nk && dk) dk[i] = sum * s->scale;
        if (i >= nk && dv) dv[i - nk] = sum;
    }
}

static void backward(const att_call *c, const att_grad *g)
{
    const att_problem *p = c->p;
    const shape s = shape_of(p);
    const size_t maps = maps_of(p), heads = (size_t)p->heads;
    const size_t parts = parts_of(&s, maps, c->threads);
    float *const dbias = g->dparam[0];
    /* Entries of a batch add to one dbias, so one task does them in turn. */
    const size_t turns = dbias ? (size_t)p->batch : 1;
    float *partial = (float *)c->work +
                     (size_t)c->threads * up(back_floats(&s), 16);
    memset(partial, 0, maps * parts * partial_floats(&s) * sizeof(float));
    if (dbias) memset(dbias, 0, heads * s.n * s.m * sizeof(float));

    #pragma omp parallel num_threads(c->threads)
    {
        float *work = (float *)c->work +
                      (size_t)omp_get_thread_num() * up(back_floats(&s), 16);
        #pragma omp for schedule(dynamic)
        for (size_t task = 0; task < maps / turns * parts; task++)
            for (size_t turn = 0; turn < turns; turn++) {
                const size_t part = task % parts;
                const size_t i = task / parts + turn * heads;
                float *mine = partial + (i * parts + part) * partial_floats(&s);
                map t = map_of(c, &s, i);
                t.g = g->dout + i * s.n * s.dv;
                if (g->dq) t.dq = g->dq + i * s.n * s.d;
                if (g->dk) t.dk = mine;
                if (g->dv) t.dv = mine + s.m * s.d;
                if (dbias) t.dbias = dbias + i % heads * s.n * s.m;
                back_map(&s, &t, part, parts, work);
            }
        #pragma omp for
        for (size_t i = 0; i < maps; i++)
            reduce(&s, partial + i * parts * partial_floats(&s), parts,
                   g->dk ? g->dk + i * s.m * s.d : NULL,
                   g->dv ? g->dv + i * s.m * s.dv : NULL);
    }
}

ATT_KERNELS = {
    {
        .name = "softmax.flash",
        .mechanism = "softmax",
        .brief = "tiles and online softmax, lanes are queries",
        .reject = reject,
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
