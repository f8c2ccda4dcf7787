/* pairwise.tiled - blocks of queries against all keys, lanes are keys.
 *
 *     S = sim(Q block, K'),  A = norm(S) row by row,  O = A V
 *
 * Keys are transposed once, so that a score of VL keys takes one broadcast
 * feature of the query at a time: products in register tiles (cosine and pearson
 * of vectors normalised beforehand), differences for the Euclidean ones (squared
 * norms would cancel), warping tables and the MLP with a vector in every cell.
 * The block's scores stay in the second cache; no N x M matrix is made.
 *
 * Backward makes S and A of the block again, dA = G V', dS from it, and adds
 * A' G and what dS sends to the keys to sums of its own task; tasks of the same
 * map are summed at the end, in a fixed order.
 */
#include "../tile.h"
#include "pairwise.h"

#include <omp.h>

enum {
    ROWS = 32,   /* most queries of a block                                 */
    DEPTH = 256, /* keys per product                                        */
    KEEP = 1 << 18, /* floats of a block's rows: 1 MiB                      */
    CHANNELS = 4,
    VECTORS = 2
};

static size_t rounded(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

/* ---- what is where ----------------------------------------------------------------------- */

typedef struct layout {
    size_t n, m, d, dv, hidden, wide; /* wide: features of a transposed key */
    size_t maps, chunks, length, rows, ldm;
    /* floats from the start of work, shared by the threads */
    size_t kt, kh, norm, vt, dk, dv_sum, mlp;
    size_t own;
    size_t s, a, da, q, dq, cells, edge, lane_sums; /* from `own`          */
    size_t per_thread, total;
} layout;

/* Values of the MLP's gradient that a task sums: dW1q, db1, dw2, db2. */
static size_t mlp_floats(const layout *x)
{
    return rounded(x->hidden * (x->d + 2) + 1);
}

static layout layout_of(const att_problem *p, int threads, enum att_pass pass)
{
    layout x = { .n = att_tokens(p), .m = att_keys(p) };
    const bool back = pass == ATT_BACKWARD;
    const bool unit = p->similarity == ATT_COSINE ||
                      p->similarity == ATT_PEARSON;
    const bool mlp = p->similarity == ATT_MLP_SIGMOID;
    const size_t blocks = (x.n + 7) / 8;
    size_t at = 0;
    x.d = (size_t)p->head_dim;
    x.dv = att_value_dim(p);
    x.hidden = pw_hidden(p);
    x.wide = mlp ? x.hidden : x.d;
    x.maps = pw_maps(p);
    x.ldm = rounded(x.m);
    x.chunks =
        threads == 1 ? 1 : (4 * (size_t)threads + x.maps - 1) / x.maps;
    if (x.chunks > blocks) x.chunks = blocks;
    x.length = (x.n + x.chunks - 1) / x.chunks;
    x.chunks = (x.n + x.length - 1) / x.length;
    x.rows = KEEP / (3 * x.ldm) / 8 * 8;
    if (x.rows > ROWS) x.rows = ROWS;
    if (x.rows < 8) x.rows = 8;

    const size_t tasks = x.maps * x.chunks, w = x.d + 1;
    x.kt = at, at += x.maps * x.wide * x.ldm;
    x.kh = at, at += unit ? rounded(x.maps * x.m * x.d) : 0;
    x.norm = at, at += unit ? rounded(x.maps * x.m) : 0;
    x.vt = at, at += back ? x.maps * x.dv * x.ldm : 0;
    x.dk = at, at += back ? tasks * x.wide * x.ldm : 0;
    x.dv_sum = at, at += back ? tasks * rounded(x.m * x.dv) : 0;
    x.mlp = at, at += back && mlp ? tasks * mlp_floats(&x) : 0;
    x.own = at, at = 0;
    x.s = at, at += x.rows * x.ldm;
    x.a = at, at += back ? x.rows * x.ldm : 0;
    x.da = at, at += back ? x.rows * x.ldm : 0;
    x.q = at, at += rounded(x.rows * x.wide);
    x.dq = at, at += back ? rounded(x.rows * x.wide) : 0;
    /* forward keeps two rows of a warping table */
    x.cells = at, at += pw_warps(p) ? (back ? w : 2) * w * VL : 0;
    x.edge = at, at += pw_warps(p) && back ? (w + 1) * (w + 1) * VL : 0;
    x.lane_sums = at, at += back ? 2 * x.wide * VL : 0;
    x.per_thread = rounded(at);
    x.total = x.own + (size_t)threads * x.per_thread;
    return x;
}

static const char *reject(const att_problem *p, enum att_pass pass)
{
    (void)pass;
    if (p->dtype != ATT_F32) return "float32 storage only";
    if (pw_warps(p) && p->head_dim > 512)
        return "keeps warping tables of vectors, head_dim is at most 512: use "
               "pairwise.direct";
    return NULL;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    *out = (att_sizes){
        .work = layout_of(p, threads, ATT_FORWARD).total * sizeof(float),
        .work_backward =
            layout_of(p, threads, ATT_BACKWARD).total * sizeof(float),
    };
}

typedef struct job {
    const att_call *c;
    const att_grad *g; /* backward                                          */
    layout x;
    float *work;
    float tau;
} job;

static job job_of(const att_call *c, const att_grad *g)
{
    job k = { .c = c, .g = g, .work = c->work, .tau = (float)c->p->tau };
    k.x = layout_of(c->p, c->threads, g ? ATT_BACKWARD : ATT_FORWARD);
    if (c->p->similarity == ATT_SCALED_DOT)
        k.tau /= sqrtf((float)c->p->head_dim);
    return k;
}

static float *own(const job *k)
{
    return k->work + k->x.own +
           (size_t)omp_get_thread_num() * k->x.per_thread;
}

/* Queries [i0, i1) of a map, at most x.rows. */
typedef struct block {
    size_t map, task, i0, i1;
    float *s, *a, *da, *q, *dq;
    vf *cells, *edge, *sums;
} block;

static block block_of(const job *k, size_t task, size_t i0)
{
    const layout *x = &k->x;
    const size_t end = (task % x->chunks + 1) * x->length;
    float *mine = own(k);
    block b = { .map = task / x->chunks, .task = task, .i0 = i0 };
    b.i1 = i0 + x->rows;
    if (b.i1 > end) b.i1 = end;
    if (b.i1 > x->n) b.i1 = x->n;
    b.s = mine + x->s;
    b.a = mine + x->a;
    b.da = mine + x->da;
    b.q = mine + x->q;
    b.dq = mine + x->dq;
    b.cells = (vf *)(mine + x->cells);
    b.edge = (vf *)(mine + x->edge);
    b.sums = (vf *)(mine + x->lane_sums);
    return b;
}

static const float *keys_transposed(const job *k, size_t map)
{
    return k->work + k->x.kt + map * k->x.wide * k->x.ldm;
}

/* ---- vectors beforehand --------------------------------------------------------------------- */

static float dot(const float *a, const float *b, size_t n)
{
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (size_t c = 0; c < n; c++) sum += a[c] * b[c];
    return sum;
}

/* out = x / |x|, centred first for pearson; 0 if x is too short.  Returns
 * 1 / |x|, or 0. */
static float make_unit(const att_problem *p, const float *x, float *out)
{
    const size_t d = (size_t)p->head_dim;
    float mean = 0;
    if (p->similarity == ATT_PEARSON) {
        for (size_t c = 0; c < d; c++) mean += x[c];
        mean /= (float)d;
    }
    for (size_t c = 0; c < d; c++) out[c] = x[c] - mean;
    const float norm = sqrtf(dot(out, out, d));
    const bool none = norm < PW_NORM_EPS ||
                      (p->similarity == ATT_PEARSON && d == 1);
    for (size_t c = 0; c < d; c++) out[c] = none ? 0 : out[c] / norm;
    return none ? 0 : 1 / norm;
}

/* Gradient of x, in place of that of its unit vector u. */
static void unit_backward(const att_problem *p, const float *u, float inverse,
                          float *g)
{
    const size_t d = (size_t)p->head_dim;
    const float along = dot(u, g, d);
    float mean = 0;
    for (size_t c = 0; c < d; c++) g[c] = inverse * (g[c] - along * u[c]);
    if (p->similarity != ATT_PEARSON) return;
    for (size_t c = 0; c < d; c++) mean += g[c] / (float)d;
    for (size_t c = 0; c < d; c++) g[c] -= mean;
}

static bool unit(const att_problem *p)
{
    return p->similarity == ATT_COSINE || p->similarity == ATT_PEARSON;
}

/* Transposed keys of a map (of unit vectors, or W1k k), backward also values. */
static void prepare_map(const job *k, size_t map)
{
    const layout *x = &k->x;
    const float *key = (const float *)k->c->k + map * x->m * x->d;
    float *kt = k->work + x->kt + map * x->wide * x->ldm;
    if (unit(k->c->p)) {
        float *kh = k->work + x->kh + map * x->m * x->d;
        for (size_t j = 0; j < x->m; j++)
            k->work[x->norm + map * x->m + j] =
                make_unit(k->c->p, key + j * x->d, kh + j * x->d);
        key = kh;
    }
    if (k->c->p->similarity == ATT_MLP_SIGMOID) {
        memset(kt, 0, x->wide * x->ldm * sizeof *kt);
        for (size_t u = 0; u < x->hidden; u++)
            for (size_t j = 0; j < x->m; j++)
                kt[u * x->ldm + j] = dot(k->c->param[PW_W1K] + u * x->d,
                                         key + j * x->d, x->d);
    } else tile_transpose(key, x->d, x->m, x->d, kt, x->ldm, x->ldm, 1);
    if (k->g)
        tile_transpose((const float *)k->c->v + map * x->m * x->dv, x->dv, x->m,
                       x->dv, k->work + x->vt + map * x->dv * x->ldm, x->ldm,
                       x->ldm, 1);
}

static void prepare_maps(const job *k)
{
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t map = 0; map < k->x.maps; map++) prepare_map(k, map);
}

/* b->q: queries times tau, unit vectors times tau, W1q q + b1, or queries. */
static void prepare_queries(const job *k, const block *b)
{
    const layout *x = &k->x;
    const att_problem *p = k->c->p;
    const size_t rows = b->i1 - b->i0;
    const float *q =
        (const float *)k->c->q + (b->map * x->n + b->i0) * x->d;
    const bool products = unit(p) || p->similarity == ATT_DOT ||
                          p->similarity == ATT_SCALED_DOT;
    if (p->similarity == ATT_MLP_SIGMOID) {
        for (size_t r = 0; r < rows; r++)
            for (size_t u = 0; u < x->hidden; u++)
                b->q[r * x->wide + u] =
                    dot(k->c->param[PW_W1Q] + u * x->d, q + r * x->d, x->d) +
                    k->c->param[PW_B1][u];
        return;
    }
    for (size_t r = 0; unit(p) && r < rows; r++)
        make_unit(p, q + r * x->d, b->q + r * x->d);
    for (size_t i = 0; i < rows * x->d; i++)
        b->q[i] = (unit(p) ? b->q[i] : q[i]) * (products ? k->tau : 1);
}

/* ---- Euclidean distances ------------------------------------------------------------------------ */

/* sums of (q_c - k_c)^2 for 4 queries and 2 vectors of keys. */
SIMD_INLINE void distances(const int rows, const int vectors, const float *q,
                           const float *kt, size_t d, size_t ldm, float *s)
{
    vf sum[CHANNELS][VECTORS];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = v_zero();
    for (size_t c = 0; c < d; c++)
        UNROLL for (int v = 0; v < vectors; v++) {
            const vf key = v_load(kt + c * ldm + (size_t)v * VL);
            UNROLL for (int r = 0; r < rows; r++) {
                const vf gap = v_set1(q[(size_t)r * d + c]) - key;
                sum[r][v] = v_fma(gap, gap, sum[r][v]);
            }
        }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < vectors; v++)
            v_store(s + (size_t)r * ldm + (size_t)v * VL, sum[r][v]);
}

static void euclid_scores(const job *k, const block *b)
{
    const layout *x = &k->x;
    const float *kt = keys_transposed(k, b->map);
    const size_t rows = b->i1 - b->i0;
    for (size_t r = 0; r < rows; r += rows - r >= CHANNELS ? CHANNELS : 1)
        for (size_t j = 0; j < x->ldm;) {
            const bool two = x->ldm - j >= VECTORS * VL;
            const float *q = b->q + r * x->d;
            float *s = b->s + r * x->ldm + j;
            if (rows - r >= CHANNELS && two)
                distances(CHANNELS, VECTORS, q, kt + j, x->d, x->ldm, s);
            else if (rows - r >= CHANNELS)
                distances(CHANNELS, 1, q, kt + j, x->d, x->ldm, s);
            else if (two) distances(1, VECTORS, q, kt + j, x->d, x->ldm, s);
            else distances(1, 1, q, kt + j, x->d, x->ldm, s);
            j += two ? VECTORS * VL : VL;
        }
    const bool root = k->c->p->similarity == ATT_NEG_EUCLID;
    for (size_t i = 0; i < rows * x->ldm; i += VL) {
        const vf y = v_load(b->s + i);
        v_store(b->s + i, (root ? v_sqrt(y + PW_ROOT_EPS) : y) * -k->tau);
    }
}

/* Score gradients become factors of q - k: -2 tau ds, or -tau ds / distance. */
static void euclid_factors(const job *k, const block *b)
{
    const bool root = k->c->p->similarity == ATT_NEG_EUCLID;
    const size_t n = (b->i1 - b->i0) * k->x.ldm;
    for (size_t i = 0; i < n; i += VL) {
        const vf ds = v_load(b->da + i) * k->tau;
        const vf s = v_load(b->s + i); /* -tau distance */
        const vf f = root ? v_select(s == 0.0f, v_zero(), ds * k->tau / s)
                          : ds * -2.0f;
        v_store(b->da + i, f);
    }
}

/* dq_c = sum_j f_j (q_c - k_jc) of one query. */
static void euclid_query(const job *k, const block *b, size_t r)
{
    const layout *x = &k->x;
    const float *kt = keys_transposed(k, b->map), *f = b->da + r * x->ldm;
    for (size_t c = 0; c < x->d; c++) {
        const float q = b->q[r * x->d + c];
        vf sum = v_zero();
        for (size_t j = 0; j < x->ldm; j += VL)
            sum = v_fma(v_load(f + j), q - v_load(kt + c * x->ldm + j), sum);
        b->dq[r * x->d + c] = v_sum(sum);
    }
}

/* dk_jc += sum_r f_rj (k_jc - q_rc), in the task's transposed sums. */
static void euclid_keys(const job *k, const block *b, float *dk)
{
    const layout *x = &k->x;
    const float *kt = keys_transposed(k, b->map);
    for (size_t c = 0; c < x->d; c++)
        for (size_t j = 0; j < x->ldm; j += VL) {
            const vf key = v_load(kt + c * x->ldm + j);
            vf sum = v_load(dk + c * x->ldm + j);
            for (size_t r = 0; r < b->i1 - b->i0; r++)
                sum = v_fma(v_load(b->da + r * x->ldm + j),
                            key - b->q[r * x->d + c], sum);
            v_store(dk + c * x->ldm + j, sum);
        }
}

static void euclid_gradient(const job *k, const block *b, float *dk)
{
    euclid_factors(k, b);
    for (size_t r = 0; r < b->i1 - b->i0; r++) euclid_query(k, b, r);
    euclid_keys(k, b, dk);
}

/* ---- warping --------------------------------------------------------------------------------------- */

/* ln x for normal x > 0: x = 2^e m, m in [0.7, 1.4], z = (m - 1) / (m + 1),
 * ln m = 2 (z + z^3/3 + z^5/5 + ...), |z| < 0.172: the next term is below 1e-9. */
SIMD_INLINE vf log_of(vf x)
{
    const vi bits = (vi)x;
    vi e = ((bits >> 23) & 0xff) - 127;
    vf m = (vf)((bits & 0x7fffff) | 0x3f800000);
    const vi large = m > 1.41421356f;
    m = v_select(large, m * 0.5f, m);
    e -= large; /* all ones is -1 */
    const vf z = (m - 1.0f) / (m + 1.0f), y = z * z;
    vf p = v_fma(y, v_set1(1.0f / 9), v_set1(1.0f / 7));
    p = v_fma(y, p, v_set1(1.0f / 5));
    p = v_fma(y, p, v_set1(1.0f / 3));
    p = v_fma(y, p, v_set1(1.0f));
    return __builtin_convertvector(e, vf) * 0.693147181f + 2.0f * z * p;
}

/* e^x for x <= 0, far below included. */
SIMD_INLINE vf decay(vf x)
{
    return v_exp(v_max(x, v_set1(-200)));
}

SIMD_INLINE vf soft_min(vf a, vf b, vf c, float gamma)
{
    const vf min = v_min(a, v_min(b, c));
    const float s = 1 / gamma;
    const vf sum = decay((min - a) * s) + decay((min - b) * s) +
                   decay((min - c) * s);
    return min - gamma * log_of(sum);
}

SIMD_INLINE vf sample_cost(bool absolute, vf gap)
{
    return absolute ? v_abs(gap) : gap * gap;
}

/* Cells of row a (from 1) within the band: columns [lo, hi]. */
static void band_of(const att_problem *p, size_t a, size_t *lo, size_t *hi)
{
    const size_t d = (size_t)p->head_dim, r = (size_t)p->band;
    *lo = r && a > r ? a - r : 1;
    *hi = r && a + r < d ? a + r : d;
}

/* Warping table of one query and VL keys, row a at cells + (a % kept) (d + 1);
 * returns its last cell.  Beside the band it is infinite; of the three cells
 * before one within it, one is finite. */
static vf warp(const att_problem *p, const float *q, const float *kt,
               size_t ldm, vf *cells, size_t kept)
{
    const size_t d = (size_t)p->head_dim, w = d + 1;
    const bool absolute = p->cost == ATT_COST_ABS;
    const bool hard = p->similarity == ATT_DTW;
    for (size_t b = 0; b < w; b++) cells[b] = v_set1(b ? INFINITY : 0);
    for (size_t a = 1; a <= d; a++) {
        const vf *above = cells + (a - 1) % kept * w;
        vf *row = cells + a % kept * w;
        size_t lo, hi;
        band_of(p, a, &lo, &hi);
        for (size_t b = 0; b < w; b++)
            if (b < lo || b > hi) row[b] = v_set1(INFINITY);
        for (size_t b = lo; b <= hi; b++) {
            const vf gap = q[a - 1] - v_load(kt + (b - 1) * ldm);
            const vf before =
                hard ? v_min(above[b - 1], v_min(above[b], row[b - 1]))
                     : soft_min(above[b - 1], above[b], row[b - 1],
                                (float)p->gamma);
            row[b] = before + sample_cost(absolute, gap);
        }
    }
    return cells[d % kept * w + d];
}

static void warp_scores(const job *k, const block *b)
{
    const layout *x = &k->x;
    const float *kt = keys_transposed(k, b->map);
    for (size_t r = 0; r < b->i1 - b->i0; r++)
        for (size_t j = 0; j < x->ldm; j += VL) {
            const vf y = warp(k->c->p, b->q + r * x->d, kt + j, x->ldm,
                              b->cells, 2);
            v_store(b->s + r * x->ldm + j, y * -k->tau);
        }
}

SIMD_INLINE vf slope_of(bool absolute, vf gap)
{
    if (!absolute) return 2.0f * gap;
    return v_select(gap > 0.0f, v_set1(1), v_zero()) -
           v_select(gap < 0.0f, v_set1(1), v_zero());
}

/* e[a][b] of dtw: 1 on the optimal path of each lane (ties: diagonal, then up),
 * else 0.  Rows and columns 1 .. d + 1 of e, which starts at zero. */
static void path_weights(const att_problem *p, const vf *cells, vf *e)
{
    const size_t d = (size_t)p->head_dim, w = d + 1, we = d + 2;
    e[d * we + d] = v_set1(1);
    for (size_t a = d; a > 0; a--)
        for (size_t b = d; b > 0; b--) {
            const vf on = e[a * we + b];
            const vf diagonal = cells[(a - 1) * w + b - 1];
            const vf up = cells[(a - 1) * w + b], left = cells[a * w + b - 1];
            const vi goes = (diagonal <= up) & (diagonal <= left);
            const vi rises = ~goes & (up <= left);
            e[(a - 1) * we + b - 1] += v_select(goes, on, v_zero());
            e[(a - 1) * we + b] += v_select(rises, on, v_zero());
            e[a * we + b - 1] += v_select(~goes & ~rises, on, v_zero());
        }
}

/* e[a][b] of softdtw: the derivative of the last cell with respect to the cost
 * of cell (a, b), from the weights of (a, b) in its successors' soft minima. */
static void soft_weights(const att_problem *p, const float *q, const float *kt,
                         size_t ldm, const vf *cells, vf *e)
{
    const size_t d = (size_t)p->head_dim, w = d + 1, we = d + 2;
    const bool absolute = p->cost == ATT_COST_ABS;
    const float s = 1 / (float)p->gamma;
    e[d * we + d] = v_set1(1);
    for (size_t a = d; a > 0; a--) {
        size_t lo, hi;
        band_of(p, a, &lo, &hi);
        for (size_t b = hi; b >= lo; b--) {
            const vf from = cells[a * w + b];
            vf sum = e[a * we + b];
            for (size_t t = 1; t < 4; t++) { /* down, right, both */
                const size_t y = a + (t & 1), z = b + (t >> 1);
                if (y > d || z > d) continue;
                const vf gap = q[y - 1] - v_load(kt + (z - 1) * ldm);
                const vf gain = cells[y * w + z] - from -
                                sample_cost(absolute, gap);
                sum = v_fma(e[y * we + z], decay(v_min(gain * s, v_zero())),
                            sum);
            }
            e[a * we + b] = sum;
        }
    }
}

/* One query and VL keys with ds: adds to the lanes' sums of dq and to dk. */
static void warp_pair(const job *k, const block *b, size_t r, size_t j, vf ds,
                      float *dk)
{
    const layout *x = &k->x;
    const att_problem *p = k->c->p;
    const float *kt = keys_transposed(k, b->map) + j, *q = b->q + r * x->d;
    const size_t d = x->d, we = d + 2;
    const bool absolute = p->cost == ATT_COST_ABS;
    warp(p, q, kt, x->ldm, b->cells, d + 1);
    memset(b->edge, 0, we * we * sizeof *b->edge);
    if (p->similarity == ATT_DTW) path_weights(p, b->cells, b->edge);
    else soft_weights(p, q, kt, x->ldm, b->cells, b->edge);
    for (size_t a = 1; a <= d; a++) {
        size_t lo, hi;
        band_of(p, a, &lo, &hi);
        for (size_t c = lo; c <= hi; c++) {
            const vf gap = q[a - 1] - v_load(kt + (c - 1) * x->ldm);
            const vf y = ds * b->edge[a * we + c] * slope_of(absolute, gap);
            float *to = dk + (c - 1) * x->ldm + j;
            b->sums[a - 1] -= y;
            v_store(to, v_load(to) + y);
        }
    }
}

static void warp_gradient(const job *k, const block *b, float *dk)
{
    const layout *x = &k->x;
    for (size_t r = 0; r < b->i1 - b->i0; r++) {
        for (size_t c = 0; c < x->d; c++) b->sums[c] = v_zero();
        for (size_t j = 0; j < x->ldm; j += VL)
            warp_pair(k, b, r, j, v_load(b->da + r * x->ldm + j) * k->tau, dk);
        for (size_t c = 0; c < x->d; c++)
            b->dq[r * x->d + c] = v_sum(b->sums[c]);
    }
}

/* ---- the MLP -------------------------------------------------------------------------------------------- */

SIMD_INLINE vf tanh_of(vf x)
{
    return 1.0f - 2.0f / (1.0f + v_exp(2.0f * v_min(v_max(x, v_set1(-15)),
                                                    v_set1(15))));
}

static void mlp_scores(const job *k, const block *b)
{
    const layout *x = &k->x;
    const float *kt = keys_transposed(k, b->map), *w2 = k->c->param[PW_W2];
    for (size_t r = 0; r < b->i1 - b->i0; r++)
        for (size_t j = 0; j < x->ldm; j += VL) {
            vf sum = v_set1(k->c->param[PW_B2][0]);
            for (size_t u = 0; u < x->hidden; u++) {
                const vf h = b->q[r * x->wide + u] + v_load(kt + u * x->ldm + j);
                sum = v_fma(v_set1(w2[u]), tanh_of(h), sum);
            }
            sum = v_min(v_max(sum, v_set1(-80)), v_set1(80));
            v_store(b->s + r * x->ldm + j, v_sigmoid(sum) * k->tau);
        }
}

/* Gradients of W1q q + b1 into b->dq, of W1k k into dk; of w2 and b2 into
 * lanes' sums behind those of dq. */
static void mlp_pairs(const job *k, const block *b, size_t r, float *dk,
                      vf *db2)
{
    const layout *x = &k->x;
    const float *kt = keys_transposed(k, b->map), *w2 = k->c->param[PW_W2];
    for (size_t u = 0; u < x->hidden; u++) b->sums[u] = v_zero();
    for (size_t j = 0; j < x->ldm; j += VL) {
        vf s = v_set1(k->c->param[PW_B2][0]);
        for (size_t u = 0; u < x->hidden; u++)
            s = v_fma(v_set1(w2[u]),
                      tanh_of(b->q[r * x->wide + u] +
                              v_load(kt + u * x->ldm + j)),
                      s);
        s = v_sigmoid(v_min(v_max(s, v_set1(-80)), v_set1(80)));
        const vf dz = v_load(b->da + r * x->ldm + j) * k->tau * s * (1.0f - s);
        *db2 += dz;
        for (size_t u = 0; u < x->hidden; u++) {
            float *to = dk + u * x->ldm + j;
            const vf y = tanh_of(b->q[r * x->wide + u] +
                                 v_load(kt + u * x->ldm + j));
            const vf dh = dz * w2[u] * (1.0f - y * y);
            b->sums[u] += dh;
            b->sums[x->wide + u] += dz * y;
            v_store(to, v_load(to) + dh);
        }
    }
    for (size_t u = 0; u < x->hidden; u++)
        b->dq[r * x->wide + u] = v_sum(b->sums[u]);
}

/* The block's share of dW1q [hidden][d], db1, dw2, db2 goes to the task's. */
static void mlp_gradient(const job *k, const block *b, float *dk)
{
    const layout *x = &k->x;
    const size_t rows = b->i1 - b->i0, h = x->hidden;
    const float *q =
        (const float *)k->c->q + (b->map * x->n + b->i0) * x->d;
    float *sum = k->work + x->mlp + b->task * mlp_floats(x);
    float *b1 = sum + h * x->d;
    vf db2 = v_zero();
    for (size_t u = 0; u < h; u++) b->sums[x->wide + u] = v_zero();
    for (size_t r = 0; r < rows; r++) mlp_pairs(k, b, r, dk, &db2);
    tile_gemm(h, x->d, rows, b->dq, 1, x->wide, q, x->d, sum, x->d, true);
    for (size_t u = 0; u < h; u++) {
        for (size_t r = 0; r < rows; r++) b1[u] += b->dq[r * x->wide + u];
        b1[h + u] += v_sum(b->sums[x->wide + u]);
    }
    b1[2 * h] += v_sum(db2);
    if (k->g->dq)
        tile_gemm(rows, x->d, h, b->dq, x->wide, 1, k->c->param[PW_W1Q], x->d,
                  k->g->dq + (b->map * x->n + b->i0) * x->d, x->d, false);
}

/* ---- products ----------------------------------------------------------------------------------------------- */

static void product_scores(const job *k, const block *b)
{
    const layout *x = &k->x;
    const float *kt = keys_transposed(k, b->map);
    for (size_t c = 0; c < x->d; c += DEPTH) {
        const size_t left = x->d - c;
        tile_gemm(b->i1 - b->i0, x->ldm, left < DEPTH ? left : DEPTH, b->q + c,
                  x->d, 1, kt + c * x->ldm, x->ldm, b->s, x->ldm, c > 0);
    }
}

/* out [rows][width] = a (rows of ldm) times values [m][width]. */
static void weigh(const layout *x, size_t rows, const float *a,
                  const float *values, size_t width, float *out)
{
    for (size_t j = 0; j < x->m; j += DEPTH) {
        const size_t left = x->m - j;
        tile_gemm(rows, width, left < DEPTH ? left : DEPTH, a + j, x->ldm, 1,
                  values + j * width, width, out, width, j > 0);
    }
}

/* dq of the block, and the task's dk [m][d] += dS' q (scaled). */
static void product_gradient(const job *k, const block *b, float *dk)
{
    const layout *x = &k->x;
    const att_problem *p = k->c->p;
    const size_t rows = b->i1 - b->i0;
    const float *key = (unit(p) ? k->work + x->kh : (const float *)k->c->k) +
                       b->map * x->m * x->d;
    tile_gemm(x->m, x->d, rows, b->da, 1, x->ldm, b->q, x->d, dk, x->d, true);
    weigh(x, rows, b->da, key, x->d, b->dq);
    for (size_t i = 0; i < rows * x->d; i++) b->dq[i] *= k->tau;
    for (size_t r = 0; unit(p) && r < rows; r++) {
        const float *q =
            (const float *)k->c->q + (b->map * x->n + b->i0 + r) * x->d;
        const float inverse = make_unit(p, q, b->q + r * x->d);
        unit_backward(p, b->q + r * x->d, inverse, b->dq + r * x->d);
    }
}

/* ---- blocks -------------------------------------------------------------------------------------------------- */

static void scores(const job *k, const block *b)
{
    prepare_queries(k, b);
    switch (k->c->p->similarity) {
    case ATT_NEG_EUCLID:
    case ATT_NEG_SQEUCLID: euclid_scores(k, b); return;
    case ATT_DTW:
    case ATT_SOFTDTW: warp_scores(k, b); return;
    case ATT_MLP_SIGMOID: mlp_scores(k, b); return;
    default: product_scores(k, b);
    }
}

static void forward_block(const job *k, const block *b)
{
    const layout *x = &k->x;
    const int how = k->c->p->normalisation;
    scores(k, b);
    for (size_t i = b->i0; i < b->i1; i++) {
        float *s = b->s + (i - b->i0) * x->ldm;
        const float *mask = pw_mask(k->c, i);
        const size_t end = pw_end(k->c->p, i);
        pw_row row = pw_look(k->c->p, s, end, mask);
        pw_weights(how, &row, s, end, x->m, mask, s);
    }
    weigh(x, b->i1 - b->i0, b->s,
          (const float *)k->c->v + b->map * x->m * x->dv, x->dv,
          (float *)k->c->o + (b->map * x->n + b->i0) * x->dv);
}

static void forward(const att_call *c)
{
    const job k = job_of(c, NULL);
    prepare_maps(&k);
    #pragma omp parallel for schedule(static, 1) num_threads(c->threads)
    for (size_t task = 0; task < k.x.maps * k.x.chunks; task++) {
        const size_t first = task % k.x.chunks * k.x.length;
        const size_t end = first + k.x.length < k.x.n ? first + k.x.length
                                                      : k.x.n;
        for (size_t i = first; i < end; i += k.x.rows) {
            const block b = block_of(&k, task, i);
            forward_block(&k, &b);
        }
    }
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

static void backward_block(const job *k, const block *b)
{
    const layout *x = &k->x;
    const int how = k->c->p->normalisation;
    const size_t rows = b->i1 - b->i0;
    const float *g = k->g->dout + (b->map * x->n + b->i0) * x->dv;
    float *dk = k->work + x->dk + b->task * x->wide * x->ldm;
    float *dv = k->work + x->dv_sum + b->task * rounded(x->m * x->dv);

    scores(k, b);
    for (size_t c = 0; c < x->dv; c += DEPTH) {
        const size_t left = x->dv - c;
        tile_gemm(rows, x->ldm, left < DEPTH ? left : DEPTH, g + c, x->dv, 1,
                  k->work + x->vt + (b->map * x->dv + c) * x->ldm, x->ldm,
                  b->da, x->ldm, c > 0);
    }
    for (size_t i = b->i0; i < b->i1; i++) {
        const size_t at = (i - b->i0) * x->ldm;
        const float *mask = pw_mask(k->c, i);
        const size_t end = pw_end(k->c->p, i);
        pw_row row = pw_look(k->c->p, b->s + at, end, mask);
        pw_weights(how, &row, b->s + at, end, x->m, mask, b->a + at);
        pw_weights_backward(how, &row, b->s + at, b->a + at, end, x->m, mask,
                            b->da + at);
        /* columns beyond the last key take part in sums over lanes */
        for (size_t j = x->m; j < x->ldm; j++) b->da[at + j] = 0;
    }
    tile_gemm(x->m, x->dv, rows, b->a, 1, x->ldm, g, x->dv, dv, x->dv, true);
    switch (k->c->p->similarity) {
    case ATT_NEG_EUCLID:
    case ATT_NEG_SQEUCLID: euclid_gradient(k, b, dk); break;
    case ATT_DTW:
    case ATT_SOFTDTW: warp_gradient(k, b, dk); break;
    case ATT_MLP_SIGMOID: mlp_gradient(k, b, dk); return; /* dq is there */
    default: product_gradient(k, b, dk);
    }
    if (k->g->dq)
        memcpy(k->g->dq + (b->map * x->n + b->i0) * x->d, b->dq,
               rows * x->d * sizeof(float));
}

/* Sums n floats over the tasks of a map into those of its first task. */
static float *merge_tasks(const job *k, size_t map, size_t base, size_t n)
{
    float *sum = k->work + base + map * k->x.chunks * n;
    for (size_t t = 1; t < k->x.chunks; t++)
        for (size_t i = 0; i < n; i++) sum[i] += sum[t * n + i];
    return sum;
}

static void merge_map(const job *k, size_t map)
{
    const layout *x = &k->x;
    const att_problem *p = k->c->p;
    const int similarity = p->similarity;
    float *dk = merge_tasks(k, map, x->dk, x->wide * x->ldm);
    float *dv = merge_tasks(k, map, x->dv_sum, rounded(x->m * x->dv));
    float *to = k->g->dk ? k->g->dk + map * x->m * x->d : NULL;
    if (k->g->dv)
        memcpy(k->g->dv + map * x->m * x->dv, dv,
               x->m * x->dv * sizeof *dv);
    if (similarity == ATT_MLP_SIGMOID)
        merge_tasks(k, map, x->mlp, mlp_floats(x));
    if (!to) return;
    if (similarity == ATT_MLP_SIGMOID)
        tile_gemm(x->m, x->d, x->hidden, dk, 1, x->ldm, k->c->param[PW_W1K],
                  x->d, to, x->d, false);
    else if (pw_warps(p) || similarity == ATT_NEG_EUCLID ||
             similarity == ATT_NEG_SQEUCLID)
        tile_transpose(dk, x->ldm, x->d, x->m, to, x->d, x->d, 1);
    else
        memcpy(to, dk, x->m * x->d * sizeof *to);
    for (size_t j = 0; unit(p) && j < x->m; j++)
        unit_backward(p, k->work + x->kh + (map * x->m + j) * x->d,
                      k->work[x->norm + map * x->m + j], to + j * x->d);
}

/* Gradients of the MLP's parameters from those of the maps. */
static void merge_mlp(const job *k)
{
    const layout *x = &k->x;
    const size_t h = x->hidden, d = x->d;
    float *const *g = k->g->dparam;
    const size_t own_size = mlp_floats(x) * x->chunks;
    const struct { float *out; size_t at, n; } part[] = {
        { g[PW_W1Q], 0, h * d },
        { g[PW_B1], h * d, h },
        { g[PW_W2], h * d + h, h },
        { g[PW_B2], h * d + 2 * h, 1 },
    };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        for (size_t t = 0; part[i].out && t < part[i].n; t++) {
            float sum = 0;
            for (size_t map = 0; map < x->maps; map++)
                sum += k->work[x->mlp + map * own_size + part[i].at + t];
            part[i].out[t] = sum;
        }
    for (size_t map = 0; g[PW_W1K] && map < x->maps; map++)
        tile_gemm(h, d, x->m,
                  k->work + x->dk + map * x->chunks * x->wide * x->ldm, x->ldm,
                  1, (const float *)k->c->k + map * x->m * d, d, g[PW_W1K], d,
                  map > 0);
}

static void backward(const att_call *c, const att_grad *g)
{
    const job k = job_of(c, g);
    const size_t tasks = k.x.maps * k.x.chunks;
    prepare_maps(&k);
    memset(k.work + k.x.dk, 0, (k.x.own - k.x.dk) * sizeof(float));
    #pragma omp parallel for schedule(static, 1) num_threads(c->threads)
    for (size_t task = 0; task < tasks; task++) {
        const size_t first = task % k.x.chunks * k.x.length;
        const size_t end = first + k.x.length < k.x.n ? first + k.x.length
                                                      : k.x.n;
        for (size_t i = first; i < end; i += k.x.rows) {
            const block b = block_of(&k, task, i);
            backward_block(&k, &b);
        }
    }
    #pragma omp parallel for num_threads(c->threads)
    for (size_t map = 0; map < k.x.maps; map++) merge_map(&k, map);
    if (c->p->similarity == ATT_MLP_SIGMOID) merge_mlp(&k);
}

ATT_KERNELS = {
    {
        .name = "pairwise.tiled",
        .mechanism = "pairwise",
        .brief = "blocks of queries against all keys, lanes are keys",
        .reject = reject,
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
