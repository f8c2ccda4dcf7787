/* aft_local.band - AFT-local as sums over all tokens plus a banded product.
 *
 *     num_t = e0_t sum_j X_j v_j + sum_{j in window} (exp(w_tj - m_t) - e0_t) X_j v_j
 *
 * and den_t likewise, with m_t = max(0, max of w in the window), e0_t = exp(-m_t)
 * the weight of a key without bias, and X = exp(k - top) (fast.h).  A window is
 * a set of runs, one for each grid row in it; for ROWS tokens of one grid row
 * the runs are those of all of them, with weights 0 where a token's own window
 * ends.  The differences may be negative: where a denominator is less than 1/32
 * of the sum it was taken from, the features are evaluated exactly.
 *
 * Causal: tasks of TASK tokens start from the sum over all earlier tasks, which
 * they carry on; inside a block of ROWS tokens every visible key has its weight.
 *
 * Backward: with p = G / den, the same geometry seen from the keys,
 *     [P | M]_j = sum_t e0_t [p | p m]_t + sum_{t in window} (...) [p | p m]_t,
 * dv = X P, dk = X (v P - M), and for the pairs in the window
 *     dw_tj = exp(w_tj - m_t) (p_t . X_j v_j - (p m)_t . X_j).
 *
 * Where a window holds all that a token sees, m is the largest of w and e0 is 0.
 * Tasks with biases too far apart for floats, or that may take most of the sum
 * away, are left to a second sweep, in double (wide.h), without differences: what
 * is outside the runs of a block is summed from the sums of tasks and of ROWS
 * tokens.  Backward is all in double if there are any.  Tokens whose biases hide all that they see have a sweep with
 * flat keys (fast.h).
 */
#include "wide.h"

#include <omp.h>

enum {
    TASK = 64,    /* tokens, a divisor of AFT_PANEL                         */
    ROWS = 8,     /* tokens per block                                       */
    DEPTH = 128,  /* keys per product, a divisor of AFT_PANEL               */
    DEPTH_LD = DEPTH + 16,
    DW_ROWS = 16, /* tokens per block of dw, one vector at v4               */
    SHARE = 32    /* least part of its sum that a denominator may be        */
};

/* Biases that take more than 1 - 1 / SHARE of a weight away, and ranges of keys
 * from which on few of them make the sum. */
#define TAKES (-3.4f)
#define UNEVEN 10.0f

/* ---- geometry ------------------------------------------------------------------------- */

/* The map as a volume; window 1 on axes that it does not have. */
typedef struct geometry {
    size_t side[3], window[3];
    bool causal, empty; /* empty: no pair has a bias                          */
    bool wide;          /* a window may hold all that its token sees          */
} geometry;

static geometry geometry_of(const att_problem *p)
{
    geometry g = { .side = { 1, 1, 1 }, .window = { 1, 1, 1 } };
    const int first = 3 - p->grid.n;
    g.causal = aft_causal(p);
    for (int a = 0; a < p->grid.n; a++) {
        g.side[first + a] = (size_t)p->grid.v[a];
        g.window[first + a] = (size_t)att_at(&p->window, a, 0);
        if (g.window[first + a] == 0) g.empty = true;
        if (g.window[first + a] > g.side[first + a])
            g.window[first + a] = g.side[first + a];
    }
    g.wide = !g.empty;
    for (int a = 0; a < 3; a++)
        g.wide &= 2 * g.window[a] > g.side[a] || (g.causal && a == 2);
    return g;
}

/* Indices within the window of a coordinate: [lo, hi). */
typedef struct range {
    size_t lo, hi;
} range;

static range around(const geometry *g, int axis, size_t at)
{
    const size_t s = g->window[axis], end = at + s;
    return (range){ at + 1 > s ? at + 1 - s : 0,
                    end < g->side[axis] ? end : g->side[axis] };
}

/* Tokens of one grid row from t0 to t1, and the rows of their window. */
typedef struct block {
    size_t t0, t1;
    range z, y, x;
    size_t runs;
} block;

static block block_of(const geometry *g, size_t t0, size_t limit, size_t most)
{
    const size_t x = t0 % g->side[2], y = t0 / g->side[2] % g->side[1];
    const size_t z = t0 / g->side[2] / g->side[1];
    size_t t1 = t0 - x + g->side[2];
    if (t1 > limit) t1 = limit;
    if (t1 > t0 + most) t1 = t0 + most;
    block b = { .t0 = t0, .t1 = t1 };
    b.z = around(g, 0, z);
    b.y = around(g, 1, y);
    b.x.lo = around(g, 2, x).lo;
    b.x.hi = around(g, 2, x + (t1 - t0 - 1)).hi;
    b.runs = (b.z.hi - b.z.lo) * (b.y.hi - b.y.lo);
    /* causal tokens of a block see each other, window or not */
    if (g->empty) b.runs = g->causal;
    return b;
}

/* Tokens of run i, in ascending order. */
static range run_of(const geometry *g, const block *b, size_t i)
{
    const size_t rows = b->y.hi - b->y.lo;
    if (g->empty) return (range){ b->t0, b->t1 };
    const size_t row =
        (b->z.lo + i / rows) * g->side[1] + b->y.lo + i % rows;
    return (range){ row * g->side[2] + b->x.lo, row * g->side[2] + b->x.hi };
}

/* ---- memory --------------------------------------------------------------------------------- */

typedef struct layout {
    size_t n, width, ld, factor, tasks;
    size_t keys, needs, max, e0, tops, lows, wv, base, parts, gates; /* shared */
    size_t own;
    size_t e, s, sums, base_now, bias, row, transposed, dwv; /* from `own`  */
    size_t per_thread, total;
} layout;

static layout layout_of(const att_problem *p, int threads, enum att_pass pass)
{
    layout x = { .n = att_tokens(p), .width = (size_t)p->head_dim };
    const bool back = pass == ATT_BACKWARD;
    size_t at = 0;
    x.ld = aft_stride(x.width);
    x.factor = (size_t)p->factor;
    x.tasks = (x.n + TASK - 1) / TASK;
    x.keys = at, at += 2 * x.n * x.ld; /* room for doubles */
    x.needs = at, at += aft_round(x.tasks);
    x.max = at, at += back ? 0 : aft_round(x.n);
    x.e0 = at, at += 2 * aft_round(x.n);
    x.tops = at, at += aft_round(aft_panels(x.n) * x.width);
    x.lows = at, at += back ? 0 : aft_round(aft_panels(x.n) * x.width);
    x.wv = at, at += x.factor * aft_round(x.n);
    x.base = at, at += 2 * x.tasks * x.ld;
    x.parts = at, at += 2 * ((x.n + ROWS - 1) / ROWS) * x.ld;
    x.gates = at, at += back ? 2 * x.n * x.ld : 0;
    x.own = at, at = 0;
    x.e = at, at += DW_ROWS * DEPTH_LD;
    x.s = at, at += back ? DW_ROWS * DEPTH : 0;
    x.sums = at, at += 2 * ROWS * x.ld;
    x.base_now = at, at += 2 * x.ld;
    x.bias = at, at += x.factor ? DW_ROWS * DEPTH_LD : 0;
    x.row = at, at += (back ? 2 : 1) * aft_round(x.n);
    x.transposed = at, at += back ? 2 * aft_round(x.width) * DW_ROWS : 0;
    x.dwv = at, at += back ? aft_round(x.n * x.factor) : 0;
    x.per_thread = at;
    x.total = x.own + (size_t)threads * at;
    return x;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    *out = (att_sizes){
        .save = aft_saved_floats(p) * sizeof(float),
        .work = layout_of(p, threads, ATT_FORWARD).total * sizeof(float),
        .work_backward =
            layout_of(p, threads, ATT_BACKWARD).total * sizeof(float),
    };
}

/* What every function below works on. */
typedef struct job {
    const att_call *c;
    const att_grad *g; /* backward                                          */
    layout x;
    geometry geo;
    aft_keys keys;
    size_t batch; /* entry at work                                          */
    const float *wv;
    float *base, *gates;
    float key_range; /* how far the keys of a feature lie apart             */
    float *max;      /* [n]: m_t                                            */
    const float *e0; /* [n]: exp(-m_t), in backward                         */
    double *outside; /* [n]: likewise, or 0 where the window holds all      */
} job;

static job job_of(const att_call *c, const att_grad *g)
{
    job k = { .c = c, .g = g, .geo = geometry_of(c->p) };
    float *w = c->work;
    k.x = layout_of(c->p, c->threads, g ? ATT_BACKWARD : ATT_FORWARD);
    k.keys = (aft_keys){ .n = k.x.n,
                         .width = k.x.width,
                         .ld = k.x.ld,
                         .panels = aft_panels(k.x.n),
                         .causal = aft_causal(c->p),
                         .x = w + k.x.keys,
                         .top = w + k.x.tops,
                         .low = g ? NULL : w + k.x.lows };
    k.wv = w + k.x.wv;
    k.base = w + k.x.base;
    k.gates = w + k.x.gates;
    k.max = c->save ? aft_saved_of(c).max : w + k.x.max;
    k.outside = (double *)(w + k.x.e0);
    return k;
}

static float *own(const job *k)
{
    return (float *)k->c->work + k->x.own +
           (size_t)omp_get_thread_num() * k->x.per_thread;
}

/* ---- weights ------------------------------------------------------------------------------------ */

/* e[i] = weight of key j + i for token t, less e0 where the base has it: keys
 * below `base_end`.  Weight: exp(w - m) in the window, else e0, 0 if not seen.
 * All keys are of one grid row of the window; w[i] is the bias of key j + i.
 * e is filled up to a whole vector, so that the product, which comes at once,
 * need not wait for a masked store. */
static void weights(const job *k, size_t t, size_t j, size_t columns,
                    const float *w, float max, float e0, size_t base_end,
                    float *e)
{
    const geometry *g = &k->geo;
    const size_t row = j - j % g->side[2];
    range x = around(g, 2, t % g->side[2]);
    if (g->empty) x = (range){ 0, 0 };
    const int32_t lo = (int32_t)(row + x.lo), hi = (int32_t)(row + x.hi);
    const int32_t seen = g->causal ? (int32_t)t : INT32_MAX;
    const int32_t base =
        base_end < INT32_MAX ? (int32_t)base_end : INT32_MAX;
    vi lane;
    for (int i = 0; i < VL; i++) lane[i] = (int32_t)j + i;

    for (size_t i = 0; i < columns; i += VL, lane += VL) {
        const size_t lanes = aft_lanes(columns, i);
        const vi kept = (lane >= lo) & (lane < hi);
        const vf bias = w ? aft_load(w + i, lanes) : v_zero();
        vf y = v_select(kept, aft_exp(bias - max), v_set1(e0));
        y = v_select(lane <= seen, y, v_zero());
        y -= v_select(lane < base, v_set1(e0), v_zero());
        v_store(e + i, y);
    }
}

/* Whether the window of token t holds all that it sees. */
static bool covers(const geometry *g, size_t t)
{
    for (int a = 2; a >= 0 && g->wide; a--) {
        const range r = around(g, a, t % g->side[a]);
        const bool line = g->causal && g->side[0] * g->side[1] == 1;
        if (r.lo > 0 || (r.hi < g->side[a] && !(line && a == 2))) return false;
        t /= g->side[a];
    }
    return g->wide;
}

/* Largest and least bias that token t has in its window, of those from `least`
 * on: lanes of max and min. */
static void window_range(const job *k, const block *b, size_t t, float least,
                         float *scratch, vf *max, vf *min)
{
    const geometry *g = &k->geo;
    const range x = around(g, 2, t % g->side[2]);
    for (size_t i = 0; !g->empty && i < b->runs; i++) {
        const size_t row = run_of(g, b, i).lo / g->side[2] * g->side[2];
        size_t hi = row + x.hi;
        if (g->causal && hi > t + 1) hi = t + 1;
        for (size_t j = row + x.lo; j < hi; j += DEPTH) {
            const size_t n = hi - j < DEPTH ? hi - j : DEPTH;
            size_t ld;
            const float *w = aft_bias_view(k->c, k->wv, t, 1, j, n, scratch,
                                           DEPTH_LD, &ld);
            for (size_t l = 0; l < n; l += VL) {
                const size_t lanes = aft_lanes(n, l);
                const vf y = aft_load(w + l, lanes);
                const vi own = vi_first(lanes) & (y >= least);
                *max = v_max(*max, v_select(own, y, *max));
                *min = v_min(*min, v_select(own, y, *min));
            }
        }
    }
}

/* The biases that token t sees, among them 0 unless all are learned. */
static aft_range seen_range(const job *k, const block *b, size_t t,
                            float *scratch)
{
    const float start = covers(&k->geo, t) ? INFINITY : 0;
    vf max = v_set1(-start), min = v_set1(start);
    window_range(k, b, t, -INFINITY, scratch, &max, &min);
    aft_range r = { .max = v_hmax(max), .min = -v_hmax(-min) };
    r.hidden = r.min < AFT_HIDDEN;
    if (r.hidden && r.max >= AFT_HIDDEN) {
        min = v_set1(start);
        window_range(k, b, t, AFT_HIDDEN, scratch, &max, &min);
        r.min = -v_hmax(-min);
    }
    return r;
}

/* outside[t] of some tokens, from their maxima. */
static void weigh_outside(const job *k, size_t t0, size_t t1)
{
    for (size_t t = t0; t < t1; t += VD) {
        const size_t lanes = wide_lanes(t1, t);
        const vd e0 = wide_exp(-wide_of(k->max + t, lanes));
        for (size_t l = 0; l < lanes; l++) k->outside[t + l] = e0[l];
    }
    for (size_t t = t0; k->geo.wide && t < t1; t++)
        if (covers(&k->geo, t)) k->outside[t] = 0;
}

/* Whether floats hold the sums of a token with such biases. */
static bool too_wide(const job *k, const aft_range *r)
{
    const float keys = k->geo.causal || r->hidden ? k->key_range : 0;
    if (r->max >= AFT_NOTHING) return false; /* nothing does */
    return r->max - r->min + keys > AFT_RANGE ||
           ((r->min < TAKES || r->hidden) && k->key_range > UNEVEN);
}

/* ---- sums over tasks ------------------------------------------------------------------------------ */

/* Adds rows from t0 to t1 (each times its scale, or 1) to out. */
static void add_rows(const float *x, size_t ld, size_t n, const float *scale,
                     size_t t0, size_t t1, float *out)
{
    for (size_t f = 0; f < n; f += VL) {
        const size_t lanes = aft_lanes(n, f);
        vf sum = aft_load(out + f, lanes);
        for (size_t t = t0; t < t1; t++)
            sum = v_fma(aft_load(x + t * ld + f, lanes),
                        v_set1(scale ? scale[t] : 1), sum);
        aft_store(out + f, sum, lanes);
    }
}

static size_t task_end(const job *k, size_t task)
{
    return task + 1 == k->x.tasks ? k->x.n : (task + 1) * TASK;
}

/* base[task] becomes the sum over the rows of x (times scale) of the tasks
 * before it (after it, if `after`), in the scale of its own top; without
 * causality, base[0] that of all. */
static void make_base(const job *k, const float *x, const float *scale,
                      bool after)
{
    const size_t ld = k->x.ld, n = 2 * k->x.width, tasks = k->x.tasks;
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t i = 0; i < tasks; i++) {
        memset(k->base + i * ld, 0, n * sizeof(float));
        add_rows(x, ld, n, scale, i * TASK, task_end(k, i), k->base + i * ld);
    }
    if (!k->geo.causal) {
        for (size_t i = 1; i < tasks; i++)
            add_rows(k->base, ld, n, NULL, i, i + 1, k->base);
        return;
    }
    float *sum = own(k) + k->x.base_now, *own_sum = own(k) + k->x.sums;
    memset(sum, 0, n * sizeof(float));
    for (size_t step = 0; step < tasks; step++) {
        const size_t i = after ? tasks - 1 - step : step;
        float *base = k->base + i * ld;
        memcpy(own_sum, base, n * sizeof(float));
        if (step > 0 && after) aft_rescale(&k->keys, i * TASK, (i + 1) * TASK, sum, 1);
        if (step > 0 && !after) aft_rescale(&k->keys, (i - 1) * TASK, i * TASK, sum, 1);
        memcpy(base, sum, n * sizeof(float));
        add_rows(own_sum, ld, n, NULL, 0, 1, sum);
    }
}

/* ---- forward ------------------------------------------------------------------------------------------ */

/* sums[r] of the block's tokens, from the runs alone. */
static void forward_runs(const job *k, const block *b, const float *max,
                         const float *e0, float *mine)
{
    float *e = mine + k->x.e, *sums = mine + k->x.sums;
    const size_t rows = b->t1 - b->t0, ld = k->x.ld;
    const size_t base_end = k->geo.causal ? b->t0 : SIZE_MAX;
    size_t last = SIZE_MAX; /* key whose top the sums are relative to */

    for (size_t i = 0; i < b->runs; i++) {
        range run = run_of(&k->geo, b, i);
        if (k->geo.causal && run.hi > b->t1) run.hi = b->t1;
        for (size_t j = run.lo; j < run.hi;) {
            const size_t stop = (j / DEPTH + 1) * DEPTH;
            const size_t depth = (stop < run.hi ? stop : run.hi) - j;
            size_t ldw = 0;
            const float *w =
                k->geo.empty ? NULL
                             : aft_bias_view(k->c, k->wv, b->t0, rows, j, depth,
                                             mine + k->x.bias, DEPTH_LD, &ldw);
            for (size_t r = 0; r < rows; r++)
                weights(k, b->t0 + r, j, depth, w ? w + r * ldw : NULL, max[r],
                        e0[r], base_end, e + r * DEPTH_LD);
            if (last != SIZE_MAX) aft_rescale(&k->keys, last, j, sums, rows);
            tile_gemm(rows, 2 * k->x.width, depth, e, DEPTH_LD, 1,
                      k->keys.x + j * ld, ld, sums, ld, last != SIZE_MAX);
            last = j;
            j += depth;
        }
    }
    if (last == SIZE_MAX) memset(sums, 0, rows * ld * sizeof *sums);
    else aft_rescale(&k->keys, last, b->t0, sums, rows);
}

/* Which rows of a block this sweep finishes; true if any.  Those that see nothing
 * are done with, unless the sweep is with flat keys. */
static bool takes_part(const job *k, const block *b, bool *part)
{
    bool any = false;
    for (size_t t = b->t0; t < b->t1; t++) {
        any |= part[t - b->t0] = aft_takes_part(k->keys.flat, k->max[t]);
        if (!k->keys.flat && k->max[t] == AFT_NOTHING)
            aft_empty(k->c, k->batch, t);
    }
    return any;
}

static bool forward_block(const job *k, const block *b, const float *base,
                          float *mine)
{
    const size_t rows = b->t1 - b->t0, ld = k->x.ld;
    const float *max = k->max + b->t0;
    float e0[ROWS], *sums = mine + k->x.sums;
    bool exact = false, part[ROWS];

    if (!takes_part(k, b, part)) return false;
    for (size_t r = 0; r < rows; r++)
        e0[r] = (float)k->outside[b->t0 + r];
    forward_runs(k, b, max, e0, mine);
    for (size_t r = 0; r < rows; r++) {
        if (!part[r]) continue;
        add_rows(base, 0, 2 * k->x.width, e0 + r, 0, 1, sums + r * ld);
        exact |= aft_finish(k->c, AFT_LOCAL, k->batch, b->t0 + r, sums + r * ld,
                            base + k->x.width, e0[r] / SHARE, mine + k->x.row);
    }
    return exact;
}

/* The maxima of the tokens of a task; the sweeps that any of them needs. */
static int find_maxima(const job *k, size_t task, float *scratch)
{
    const size_t t0 = task * TASK, end = task_end(k, task);
    int needs = 0;
    for (size_t t = t0; t < end;) {
        const block b = block_of(&k->geo, t, end, ROWS);
        for (; t < b.t1; t++) {
            const aft_range r = seen_range(k, &b, t, scratch);
            k->max[t] = aft_row_max(r.max);
            if (k->max[t] < AFT_HIDDEN) needs |= AFT_IN_FLAT;
            else if (too_wide(k, &r)) needs |= AFT_IN_WIDE;
        }
    }
    weigh_outside(k, t0, end);
    return needs;
}

static bool forward_task(const job *k, size_t task)
{
    float *mine = own(k), *base = mine + k->x.base_now;
    float *needs = (float *)k->c->work + k->x.needs + task;
    const size_t n = 2 * k->x.width;
    bool exact = false;
    if (!k->keys.flat) *needs = (float)find_maxima(k, task, mine + k->x.bias);
    if (k->keys.flat ? !((int)*needs & AFT_IN_FLAT)
                     : (int)*needs & AFT_IN_WIDE)
        return false;
    memcpy(base, k->base + (k->geo.causal ? task : 0) * k->x.ld,
           n * sizeof *base);
    for (size_t t = task * TASK; t < task_end(k, task);) {
        const block b = block_of(&k->geo, t, task_end(k, task), ROWS);
        exact |= forward_block(k, &b, base, mine);
        if (k->geo.causal)
            add_rows(k->keys.x, k->x.ld, n, NULL, b.t0, b.t1, base);
        t = b.t1;
    }
    return exact;
}

/* ---- in double ---------------------------------------------------------------------------------------- */

/* What weights() does without a base, with e0 for keys outside the window. */
static void wide_weights(const job *k, size_t t, size_t j, size_t columns,
                         const float *w, double e0, double *e)
{
    typedef int64_t vq __attribute__((vector_size(VL * 4)));
    const geometry *g = &k->geo;
    const size_t row = j - j % g->side[2];
    const range x =
        g->empty ? (range){ 0, 0 } : around(g, 2, t % g->side[2]);
    const int64_t lo = (int64_t)(row + x.lo), hi = (int64_t)(row + x.hi);
    const int64_t seen = g->causal ? (int64_t)t : INT64_MAX;
    const vd outside = (vd){ 0 } + e0;
    vq lane;
    for (int i = 0; i < VD; i++) lane[i] = (int64_t)j + i;

    for (size_t i = 0; i < columns; i += VD, lane += VD) {
        const vl kept = (vl)((lane >= lo) & (lane < hi));
        const vd y = w ? wide_exp(wide_of(w + i, wide_lanes(columns, i)) -
                                  (double)k->max[t])
                       : outside;
        const vd all = (vd)(((vl)y & kept) | ((vl)outside & ~kept));
        wide_store(e + i, (vd)((vl)all & (vl)(lane <= seen)));
    }
}

/* Adds row t of x, times its e0 in backward, to out. */
static void wide_row(const job *k, const aft_wide *w, const double *x, size_t t,
                     double *out)
{
    const double e0 = k->g ? k->outside[t] : 1;
    #pragma omp simd
    for (size_t f = 0; f < 2 * w->half; f++) out[f] += e0 * x[t * w->ld + f];
}

static void wide_sum_row(const aft_wide *w, const double *x, double *out)
{
    #pragma omp simd
    for (size_t f = 0; f < 2 * w->half; f++) out[f] += x[f];
}

static double *wide_part(const job *k, const aft_wide *w, size_t t)
{
    return (double *)((float *)k->c->work + k->x.parts) + t / ROWS * w->ld;
}

/* Sums over the rows of x: base[task], and of parts of ROWS tokens. */
static void wide_bases(const job *k, const aft_wide *w, const double *x)
{
    const size_t bytes = 2 * w->half * sizeof *x;
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t i = 0; i < k->x.tasks; i++) {
        double *base = (double *)k->base + i * w->ld;
        memset(base, 0, bytes);
        for (size_t t = i * TASK; t < task_end(k, i); t += ROWS) {
            double *part = wide_part(k, w, t);
            memset(part, 0, bytes);
            for (size_t j = t; j < t + ROWS && j < task_end(k, i); j++)
                wide_row(k, w, x, j, part);
            wide_sum_row(w, part, base);
        }
    }
}

/* Adds rows from t0 to t1, as many at once as there are sums of. */
static void wide_range(const job *k, const aft_wide *w, const double *x,
                       size_t t0, size_t t1, double *out)
{
    for (size_t t = t0; t < t1;) {
        const size_t end = task_end(k, t / TASK);
        const size_t part = t + ROWS < end ? t + ROWS : end;
        if (t % TASK == 0 && end <= t1) {
            wide_sum_row(w, (double *)k->base + t / TASK * w->ld, out);
            t = end;
        } else if (t % ROWS == 0 && part <= t1) {
            wide_sum_row(w, wide_part(k, w, t), out);
            t = part;
        } else wide_row(k, w, x, t++, out);
    }
}

/* out = sum over all rows (causal: those before the block or, backward, after it)
 * but those of the block's runs. */
static void wide_outside(const job *k, const aft_wide *w, const double *x,
                         const block *b, double *out)
{
    const bool back = k->g, causal = k->geo.causal;
    const size_t last = causal && !back ? b->t0 : k->x.n;
    size_t t = causal && back ? b->t1 : 0;
    memset(out, 0, 2 * w->half * sizeof *out);
    for (size_t i = 0; i < b->runs; i++) {
        const range run = run_of(&k->geo, b, i);
        wide_range(k, w, x, t, run.lo < last ? run.lo : last, out);
        if (t < run.hi) t = run.hi;
    }
    wide_range(k, w, x, t, last, out);
}

/* What forward_block() does. */
static bool wide_block(const job *k, const aft_wide *w, const block *b,
                       float *mine)
{
    const size_t rows = b->t1 - b->t0, ld = w->ld;
    double *base = (double *)(mine + k->x.base_now);
    double *e = (double *)(mine + k->x.e), *sums = (double *)(mine + k->x.sums);
    bool exact = false, part[ROWS];
    if (!takes_part(k, b, part)) return false;
    wide_outside(k, w, w->x, b, base);
    for (size_t r = 0; r < rows; r++) {
        const double e0 = k->outside[b->t0 + r];
        for (size_t f = 0; f < 2 * w->half; f++) sums[r * ld + f] = e0 * base[f];
    }
    for (size_t i = 0; i < b->runs; i++) {
        range run = run_of(&k->geo, b, i);
        if (k->geo.causal && run.hi > b->t1) run.hi = b->t1;
        for (size_t j = run.lo, depth; j < run.hi; j += depth) {
            depth = run.hi - j < DEPTH ? run.hi - j : DEPTH;
            size_t ldw = 0;
            const float *bias =
                k->geo.empty ? NULL
                             : aft_bias_view(k->c, k->wv, b->t0, rows, j, depth,
                                             mine + k->x.bias, DEPTH_LD, &ldw);
            for (size_t r = 0; r < rows; r++)
                wide_weights(k, b->t0 + r, j, depth,
                             bias ? bias + r * ldw : NULL,
                             k->outside[b->t0 + r], e + r * DEPTH_LD);
            wide_product(rows, 2 * w->half,
                         (wide_factors){ depth, DEPTH_LD, 1, e, w->x + j * ld,
                                         ld, sums, ld, true });
        }
    }
    for (size_t r = 0; r < rows; r++)
        if (part[r])
            exact |= aft_wide_finish(k->c, AFT_LOCAL, k->batch, b->t0 + r, w,
                                     sums + r * ld, mine + k->x.row);
    return exact;
}

static bool wide_task(const job *k, const aft_wide *w, size_t task)
{
    float *mine = own(k);
    bool exact = false;
    for (size_t t = task * TASK; t < task_end(k, task);) {
        const block b = block_of(&k->geo, t, task_end(k, task), ROWS);
        exact |= wide_block(k, w, &b, mine);
        t = b.t1;
    }
    return exact;
}

static bool any_task(const job *k, int sweep)
{
    return aft_any_needs((float *)k->c->work + k->x.needs, k->x.tasks, sweep);
}

static int forward_wide(const job *k)
{
    const float *needs = (float *)k->c->work + k->x.needs;
    const aft_wide w = aft_wide_of(&k->keys, k->keys.x, NULL);
    int exact = 0;
    aft_wide_keys(k->c, k->batch, &w);
    wide_bases(k, &w, w.x);
    #pragma omp parallel for schedule(dynamic) reduction(| : exact)            \
        num_threads(k->c->threads)
    for (size_t i = 0; i < k->x.tasks; i++)
        if ((int)needs[i] & AFT_IN_WIDE) exact |= wide_task(k, &w, i);
    return exact;
}

static int forward_tasks(const job *k)
{
    int exact = 0;
    make_base(k, k->keys.x, NULL, false);
    #pragma omp parallel for schedule(dynamic) reduction(| : exact)            \
        num_threads(k->c->threads)
    for (size_t i = 0; i < k->x.tasks; i++) exact |= forward_task(k, i);
    return exact;
}

static void forward(const att_call *c)
{
    job k = job_of(c, NULL);
    int exact = 0;
    bool any_wide = false, any_flat = false;
    aft_transpose_wv(c, (float *)c->work + k.x.wv);
    for (k.batch = 0; k.batch < (size_t)c->p->batch; k.batch++) {
        k.keys.flat = false;
        aft_keys_make(c, k.batch, &k.keys);
        k.key_range = aft_key_range(&k.keys);
        exact |= forward_tasks(&k);
        if (any_task(&k, AFT_IN_WIDE)) {
            any_wide = true;
            exact |= forward_wide(&k);
        }
        if (any_task(&k, AFT_IN_FLAT)) {
            any_flat = true;
            aft_flatten(c, k.batch, &k.keys);
            exact |= forward_tasks(&k);
        }
    }
    if (!c->save) return;
    const aft_saved s = aft_saved_of(c);
    s.exact[0] = (float)exact, s.exact[1] = any_wide, s.exact[2] = any_flat;
}

/* ---- backward: keys ------------------------------------------------------------------------------------- */

/* sums[r] of the block's keys, from the runs of tokens in their window, from the
 * last to the first. */
static void backward_runs(const job *k, const block *b, float *mine)
{
    float *e = mine + k->x.e, *sums = mine + k->x.sums;
    const size_t columns = b->t1 - b->t0, ld = k->x.ld;
    size_t last = SIZE_MAX;

    for (size_t i = b->runs; i-- > 0;) {
        range run = run_of(&k->geo, b, i);
        if (k->geo.causal && run.lo < b->t0) run.lo = b->t0;
        for (size_t end = run.hi; end > run.lo;) {
            const size_t start = (end - 1) / DEPTH * DEPTH;
            const size_t t = start > run.lo ? start : run.lo, depth = end - t;
            size_t ldw = 0;
            const float *w =
                k->geo.empty
                    ? NULL
                    : aft_bias_view(k->c, k->wv, t, depth, b->t0, columns,
                                    mine + k->x.bias, ROWS, &ldw);
            for (size_t r = 0; r < depth; r++) {
                const bool based = !k->geo.causal || t + r >= b->t1;
                weights(k, t + r, b->t0, columns, w ? w + r * ldw : NULL,
                        k->max[t + r], k->e0[t + r],
                        based ? SIZE_MAX : 0, e + r * ROWS);
            }
            if (last != SIZE_MAX) aft_rescale(&k->keys, t, last, sums, columns);
            tile_gemm(columns, 2 * k->x.width, depth, e, 1, ROWS,
                      k->gates + t * ld, ld, sums, ld, last != SIZE_MAX);
            last = t;
            end = t;
        }
    }
    if (last == SIZE_MAX) memset(sums, 0, columns * ld * sizeof *sums);
    else aft_rescale(&k->keys, b->t0, last, sums, columns);
}

static void backward_task(const job *k, size_t task)
{
    float *mine = own(k), *base = mine + k->x.base_now;
    float *sums = mine + k->x.sums;
    const size_t n = 2 * k->x.width, ld = k->x.ld;
    block blocks[TASK];
    size_t count = 0;

    memcpy(base, k->base + (k->geo.causal ? task : 0) * ld, n * sizeof *base);
    for (size_t t = task * TASK; t < task_end(k, task); t = blocks[count++].t1)
        blocks[count] = block_of(&k->geo, t, task_end(k, task), ROWS);
    while (count-- > 0) {
        const block *b = &blocks[count];
        backward_runs(k, b, mine);
        for (size_t j = b->t0; j < b->t1; j++) {
            float *sum = sums + (j - b->t0) * ld;
            add_rows(base, 0, n, NULL, 0, 1, sum);
            aft_key_gradients(k->c, k->g, k->batch, &k->keys, j, sum);
        }
        if (k->geo.causal)
            add_rows(k->gates, ld, n, k->e0, b->t0, b->t1, base);
    }
}

/* ---- backward: bias ----------------------------------------------------------------------------------------- */

/* Rows f < width of out: p of the block's tokens; the next width rows: -p m.
 * Scaled from the top of key j to theirs. */
static void transposed_gates(const job *k, const block *b, size_t j, float *out)
{
    const size_t rows = b->t1 - b->t0, width = k->x.width;
    const float *low = aft_top(&k->keys, j), *top = aft_top(&k->keys, b->t0);
    const float *a = k->gates + b->t0 * k->x.ld;
    tile_transpose(a, k->x.ld, rows, width, out, DW_ROWS, DW_ROWS, 1);
    tile_transpose(a + width, k->x.ld, rows, width, out + width * DW_ROWS,
                   DW_ROWS, DW_ROWS, -1);
    for (size_t f = 0; k->geo.causal && low != top && f < width; f++) {
        const float s = low[f] == top[f] ? 1 : expf(low[f] - top[f]);
        for (size_t i = 0; i < DW_ROWS; i++) {
            out[f * DW_ROWS + i] *= s;
            out[(width + f) * DW_ROWS + i] *= s;
        }
    }
}

/* dw of the block's tokens and `depth` keys from j: e [row][key] gets the
 * gradient in place of the weight. */
static void bias_gradient(const job *k, const block *b, size_t j, size_t depth,
                          float *e, float *mine)
{
    float *s = mine + k->x.s;
    for (size_t f = 0; f < 2 * k->x.width; f += DEPTH) {
        const size_t left = 2 * k->x.width - f;
        tile_gemm(depth, DW_ROWS, left < DEPTH ? left : DEPTH,
                  k->keys.x + j * k->x.ld + f, k->x.ld, 1,
                  mine + k->x.transposed + f * DW_ROWS, DW_ROWS, s, DW_ROWS,
                  f > 0);
    }
    for (size_t r = 0; r < b->t1 - b->t0; r++)
        for (size_t i = 0; i < depth; i++)
            e[r * DEPTH_LD + i] *= s[i * DW_ROWS + r];
}

static void add_bias_gradient(const job *k, const block *b, size_t j,
                              size_t depth, const float *e, float *dwv)
{
    const size_t f = k->x.factor, rows = b->t1 - b->t0;
    float *const *d = k->g->dparam;
    if (d[AFT_W])
        for (size_t r = 0; r < rows; r++) {
            float *dw = d[AFT_W] + (b->t0 + r) * k->x.n + j;
            for (size_t i = 0; i < depth; i++) dw[i] += e[r * DEPTH_LD + i];
        }
    if (d[AFT_WU])
        tile_gemm(rows, f, depth, e, DEPTH_LD, 1, k->c->param[AFT_WV] + j * f,
                  f, d[AFT_WU] + b->t0 * f, f, true);
    if (d[AFT_WV])
        tile_gemm(depth, f, rows, e, 1, DEPTH_LD,
                  k->c->param[AFT_WU] + b->t0 * f, f, dwv + j * f, f, true);
}

static void bias_block(const job *k, const block *b, float *mine)
{
    const size_t rows = b->t1 - b->t0;
    float *e = mine + k->x.e;
    const float *scaled = NULL; /* top for which the gates are transposed */
    for (size_t i = 0; i < b->runs; i++) {
        range run = run_of(&k->geo, b, i);
        if (k->geo.causal && run.hi > b->t1) run.hi = b->t1;
        for (size_t j = run.lo; j < run.hi;) {
            const size_t stop = (j / DEPTH + 1) * DEPTH;
            const size_t depth = (stop < run.hi ? stop : run.hi) - j;
            size_t ldw;
            const float *w = aft_bias_view(k->c, k->wv, b->t0, rows, j, depth,
                                           mine + k->x.bias, DEPTH_LD, &ldw);
            for (size_t r = 0; r < rows; r++)
                weights(k, b->t0 + r, j, depth, w + r * ldw, k->max[b->t0 + r],
                        0, 0, e + r * DEPTH_LD);
            if (scaled != aft_top(&k->keys, j)) {
                scaled = aft_top(&k->keys, j);
                transposed_gates(k, b, j, mine + k->x.transposed);
            }
            bias_gradient(k, b, j, depth, e, mine);
            add_bias_gradient(k, b, j, depth, e, mine + k->x.dwv);
            j += depth;
        }
    }
}

static void bias_task(const job *k, size_t task)
{
    float *mine = own(k);
    for (size_t t = task * TASK; t < task_end(k, task);) {
        const block b = block_of(&k->geo, t, task_end(k, task), DW_ROWS);
        bias_block(k, &b, mine);
        t = b.t1;
    }
}

/* ---- backward in double ------------------------------------------------------------------------------------------ */

/* What backward_runs() does: adds to sums. */
static void wide_runs(const job *k, const aft_wide *w, const block *b,
                      float *mine)
{
    double *e = (double *)(mine + k->x.e), *sums = (double *)(mine + k->x.sums);
    const size_t columns = b->t1 - b->t0, ld = w->ld;
    for (size_t i = 0; i < b->runs; i++) {
        range run = run_of(&k->geo, b, i);
        if (k->geo.causal && run.lo < b->t0) run.lo = b->t0;
        for (size_t t = run.lo, depth; t < run.hi; t += depth) {
            depth = run.hi - t < DEPTH ? run.hi - t : DEPTH;
            size_t ldw = 0;
            const float *bias =
                k->geo.empty
                    ? NULL
                    : aft_bias_view(k->c, k->wv, t, depth, b->t0, columns,
                                    mine + k->x.bias, ROWS, &ldw);
            for (size_t r = 0; r < depth; r++)
                wide_weights(k, t + r, b->t0, columns,
                             bias ? bias + r * ldw : NULL, k->outside[t + r],
                             e + r * ROWS);
            wide_product(columns, 2 * w->half,
                         (wide_factors){ depth, 1, ROWS, e, w->a + t * ld, ld,
                                         sums, ld, true });
        }
    }
}

static void wide_backward_task(const job *k, const aft_wide *w, size_t task)
{
    float *mine = own(k);
    const size_t n = 2 * w->half;
    double *base = (double *)(mine + k->x.base_now);
    double *sums = (double *)(mine + k->x.sums);
    for (size_t t = task * TASK; t < task_end(k, task);) {
        const block b = block_of(&k->geo, t, task_end(k, task), ROWS);
        wide_outside(k, w, w->a, &b, base);
        for (size_t r = 0; r < b.t1 - b.t0; r++)
            memcpy(sums + r * w->ld, base, n * sizeof *base);
        wide_runs(k, w, &b, mine);
        for (; t < b.t1; t++)
            aft_wide_key_gradients(k->g, k->batch, w, t,
                                   sums + (t - b.t0) * w->ld);
    }
}

/* What bias_block() does. */
static void wide_bias_block(const job *k, const aft_wide *w, const block *b,
                            float *mine)
{
    const size_t rows = b->t1 - b->t0, n = 2 * w->half;
    double *turned = (double *)(mine + k->x.transposed);
    double *e = (double *)(mine + k->x.e), *s = (double *)(mine + k->x.s);
    float *out = mine + k->x.e; /* rows of floats over those of doubles */
    memset(turned, 0, n * ROWS * sizeof *turned);
    for (size_t r = 0; r < rows; r++)
        for (size_t f = 0; f < n; f++)
            turned[f * ROWS + r] =
                (f < w->half ? 1 : -1) * w->a[(b->t0 + r) * w->ld + f];
    for (size_t i = 0; i < b->runs; i++) {
        range run = run_of(&k->geo, b, i);
        if (k->geo.causal && run.hi > b->t1) run.hi = b->t1;
        for (size_t j = run.lo, depth; j < run.hi; j += depth) {
            depth = run.hi - j < DEPTH ? run.hi - j : DEPTH;
            size_t ldw;
            const float *bias = aft_bias_view(k->c, k->wv, b->t0, rows, j, depth,
                                              mine + k->x.bias, DEPTH_LD, &ldw);
            wide_product(depth, ROWS,
                         (wide_factors){ n, w->ld, 1, w->x + j * w->ld, turned,
                                         ROWS, s, ROWS, false });
            for (size_t r = 0; r < rows; r++) {
                double *row = e + r * DEPTH_LD;
                wide_weights(k, b->t0 + r, j, depth, bias + r * ldw, 0, row);
                for (size_t l = 0; l < depth; l++) row[l] *= s[l * ROWS + r];
            }
            for (size_t r = 0; r < rows; r++)
                for (size_t l = 0; l < depth; l += VD)
                    wide_narrow(out + r * DEPTH_LD + l,
                                wide_load(e + r * DEPTH_LD + l),
                                wide_lanes(depth, l));
            add_bias_gradient(k, b, j, depth, out, mine + k->x.dwv);
        }
    }
}

static void backward_wide(const job *k, bool biased)
{
    const aft_wide w = aft_wide_of(&k->keys, k->keys.x, k->gates);
    aft_tops_make(k->c, k->batch, &k->keys);
    aft_wide_keys(k->c, k->batch, &w);
    aft_wide_gates(k->c, k->g, k->batch, &k->keys, &w);
    wide_bases(k, &w, w.a);
    #pragma omp parallel for schedule(dynamic) num_threads(k->c->threads)
    for (size_t i = 0; i < k->x.tasks; i++) wide_backward_task(k, &w, i);
    if (!biased) return;
    #pragma omp parallel for schedule(dynamic) num_threads(k->c->threads)
    for (size_t i = 0; i < k->x.tasks; i++)
        for (size_t t = i * TASK; t < task_end(k, i);) {
            const block b = block_of(&k->geo, t, task_end(k, i), ROWS);
            wide_bias_block(k, &w, &b, own(k));
            t = b.t1;
        }
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

static void zero(float *x, size_t n)
{
    if (x) memset(x, 0, n * sizeof *x);
}

/* Sums the threads' shares of dwv. */
static void merge_dwv(const job *k)
{
    const size_t n = k->x.n * k->x.factor;
    float *dwv = k->g->dparam[AFT_WV];
    for (size_t thread = 0; dwv && thread < (size_t)k->c->threads; thread++) {
        const float *share = (float *)k->c->work + k->x.own +
                             thread * k->x.per_thread + k->x.dwv;
        for (size_t i = 0; i < n; i++)
            dwv[i] = share[i] + (thread ? dwv[i] : 0);
    }
}

static void backward_tasks(const job *k, bool biased)
{
    aft_gates(k->c, k->g, k->batch, &k->keys, k->gates);
    make_base(k, k->gates, k->e0, true);
    #pragma omp parallel for schedule(dynamic) num_threads(k->c->threads)
    for (size_t i = 0; i < k->x.tasks; i++) backward_task(k, i);
    if (!biased) return;
    #pragma omp parallel for schedule(dynamic) num_threads(k->c->threads)
    for (size_t i = 0; i < k->x.tasks; i++) bias_task(k, i);
}

static void backward(const att_call *c, const att_grad *g)
{
    job k = job_of(c, g);
    float *w = c->work, *e0 = w + k.x.own + k.x.row;
    const size_t shares = k.x.n * k.x.factor;
    const bool biased =
        !k.geo.empty &&
        (g->dparam[AFT_W] || g->dparam[AFT_WU] || g->dparam[AFT_WV]);

    aft_transpose_wv(c, w + k.x.wv);
    zero(g->dparam[AFT_W], k.x.n * k.x.n);
    zero(g->dparam[AFT_WU], shares);
    for (size_t thread = 0; thread < (size_t)c->threads; thread++)
        zero(w + k.x.own + thread * k.x.per_thread + k.x.dwv, shares);
    weigh_outside(&k, 0, k.x.n);
    for (size_t t = 0; t < k.x.n; t++) e0[t] = (float)k.outside[t];
    k.e0 = e0;

    for (k.batch = 0; k.batch < (size_t)c->p->batch; k.batch++) {
        k.keys.flat = false;
        if (aft_saved_of(c).exact[1] > 0) backward_wide(&k, biased);
        else {
            aft_keys_make(c, k.batch, &k.keys);
            backward_tasks(&k, biased);
        }
        if (aft_saved_of(c).exact[2] == 0) continue;
        aft_flatten(c, k.batch, &k.keys);
        backward_tasks(&k, biased);
    }
    merge_dwv(&k);
    if (aft_saved_of(c).exact[0] > 0)
        aft_exact_backward(c, g, AFT_LOCAL, w + k.x.own + k.x.row,
                           w + k.x.keys);
}

ATT_KERNELS = {
    {
        .name = "aft_local.band",
        .mechanism = "aft_local",
        .brief = "sums over all tokens plus a banded product in registers",
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
