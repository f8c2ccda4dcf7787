/* aft_full.gemm - AFT-full as matrix products in registers.
 *
 *     [num | den] = exp(w - max) [X v | X],  X = exp(k - top)    (fast.h)
 *
 * A thread takes ROWS tokens, finds the maxima of their rows of w, and makes
 * exp(w - max) one panel of DEPTH keys at a time, just before the product that
 * needs it: the T x T weights never exist.  With a factorised bias, the rows of
 * w are the product of wu and the transposed wv, made first.
 *
 * Backward: with p = G / den and A = [p | p m], a thread takes COLUMNS keys, and
 * for each panel of tokens
 *     [P | M] += E' A,      S = E * (A [X v | -X]'),
 * so that dv = X P, dk = X (v P - M) and dw = S.
 *
 * Tokens whose biases lie too far apart for floats are left to a second sweep,
 * in double (wide.h); backward is all in double if there are any.
 */
#include "wide.h"

#include <omp.h>

enum {
    ROWS = 64,    /* of w per task, a divisor of AFT_PANEL                  */
    DEPTH = 128,  /* keys per product, a divisor of AFT_PANEL               */
    COLUMNS = 48, /* keys per task in backward: one register tile at v4     */
    DEPTH_LD = DEPTH + 16,
    WIDE_ROWS = ROWS / 2, /* in double: what fits where those floats do   */
    WIDE_DEPTH = DEPTH / 2,
    WIDE_COLUMNS = COLUMNS / 2
};

/* Where things lie in work: floats from its start. */
typedef struct layout {
    size_t n, width, ld, factor;
    size_t keys, needs, tops, lows, wv, gates; /* shared by the threads */
    size_t own;                   /* first thread's                         */
    size_t e, s, sums, rows, row, transposed, dwu; /* from `own`            */
    size_t per_thread, total;
} layout;

static layout layout_of(const att_problem *p, int threads, enum att_pass pass)
{
    layout x = { .n = att_tokens(p), .width = (size_t)p->head_dim };
    x.ld = aft_stride(x.width);
    x.factor = (size_t)p->factor;
    const bool back = pass == ATT_BACKWARD;
    size_t at = 0;
    x.keys = at, at += 2 * x.n * x.ld; /* room for doubles */
    x.needs = at, at += aft_round((x.n + ROWS - 1) / ROWS);
    x.tops = at, at += aft_round(aft_panels(x.n) * x.width);
    x.lows = at, at += back ? 0 : aft_round(aft_panels(x.n) * x.width);
    x.wv = at, at += x.factor * aft_round(x.n);
    x.gates = at, at += back ? 2 * x.n * x.ld : 0;
    x.own = at, at = 0;
    x.e = at, at += back ? DEPTH * COLUMNS : ROWS * DEPTH_LD;
    x.s = at, at += back ? DEPTH * COLUMNS : 0;
    x.sums = at, at += (back ? COLUMNS : ROWS) * x.ld;
    x.rows = at;
    if (x.factor) at += back ? DEPTH * COLUMNS : ROWS * aft_round(x.n);
    x.row = at, at += (back ? 2 : 1) * aft_round(x.n);
    x.transposed = at, at += back ? 2 * aft_round(x.width) * COLUMNS : 0;
    x.dwu = at, at += back ? aft_round(x.n * x.factor) : 0;
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

static float *own(const att_call *c, const layout *x)
{
    return (float *)c->work + x->own +
           (size_t)omp_get_thread_num() * x->per_thread;
}

static aft_keys keys_of(const att_call *c, const layout *x)
{
    float *w = c->work;
    return (aft_keys){ .n = x->n,
                       .width = x->width,
                       .ld = x->ld,
                       .panels = aft_panels(x->n),
                       .causal = aft_causal(c->p),
                       .x = w + x->keys,
                       .top = w + x->tops };
}

/* ---- forward ------------------------------------------------------------------------- */

/* e[r][j] = exp(w[r][j] - max[r]) for `columns` keys from j0 on, 0 for those that
 * token t0 + r does not see. */
static void exponentials(const att_call *c, const float *w, size_t ldw,
                         size_t t0, size_t rows, size_t j0, size_t columns,
                         const float *max, float *e, size_t lde)
{
    for (size_t r = 0; r < rows; r++) {
        const size_t seen = aft_seen(c->p, t0 + r);
        const size_t end = seen < j0             ? 0
                           : seen < j0 + columns ? seen - j0
                                                 : columns;
        const vf m = v_set1(max[r]);
        for (size_t j = 0; j < columns; j += VL) {
            const size_t lanes = columns - j < VL ? columns - j : VL;
            const size_t visible = end < j ? 0 : end - j < lanes ? end - j : VL;
            vf x = v_zero();
            if (visible >= lanes)
                x = aft_exp(aft_load(w + r * ldw + j, lanes) - m);
            else if (visible > 0)
                x = v_first(aft_exp(aft_load(w + r * ldw + j, visible) - m),
                            visible);
            aft_store(e + r * lde + j, x, lanes);
        }
    }
}

/* The maxima of the rows; the sweeps that any of them needs.  key_range: how far
 * the keys of a feature lie apart. */
static int find_maxima(const att_call *c, const float *w, size_t ldw, size_t t0,
                       size_t rows, float key_range, float *max)
{
    const float keys_seen = aft_causal(c->p) ? key_range : 0;
    vf spread = v_zero(); /* of most blocks: small, in all rows */
    int needs = 0;
    for (size_t r = 0; r < rows; r++) {
        vf top, low;
        aft_row_lanes(w + r * ldw, aft_seen(c->p, t0 + r), &top, &low);
        max[r] = v_hmax(top);
        spread = v_max(spread, max[r] - low);
        if (max[r] < AFT_HIDDEN || max[r] >= AFT_NOTHING) needs = -1;
    }
    if (!needs && v_hmax(spread) + keys_seen <= AFT_RANGE) return 0;
    needs = 0;
    for (size_t r = 0; r < rows; r++) {
        const aft_range b = aft_row_range(w + r * ldw, aft_seen(c->p, t0 + r));
        /* the largest key has a weight of exp(min - max), if it is seen */
        const float keys = b.hidden ? key_range : keys_seen;
        max[r] = aft_row_max(b.max);
        if (max[r] < AFT_HIDDEN) needs |= AFT_IN_FLAT;
        else if (b.max - b.min + keys > AFT_RANGE) needs |= AFT_IN_WIDE;
    }
    return needs;
}

/* Sums of the rows from t0 on; w is their biases. */
static bool forward_sums(const att_call *c, const layout *x,
                         const aft_keys *keys, size_t batch, size_t t0,
                         size_t rows, const float *w, size_t ldw,
                         const float *max)
{
    const size_t end = aft_seen(c->p, t0 + rows - 1);
    float *mine = own(c, x), *sums = mine + x->sums, *e = mine + x->e;
    bool exact = false, part[ROWS];
    for (size_t r = 0; r < rows; r++) {
        /* rows that see nothing are done with by sweeps with usual keys */
        if (!keys->flat && max[r] == AFT_NOTHING) aft_empty(c, batch, t0 + r);
        part[r] = aft_takes_part(keys->flat, max[r]);
    }
    for (size_t j = 0; j < end; j += DEPTH) {
        const size_t depth = end - j < DEPTH ? end - j : DEPTH;
        exponentials(c, w + j, ldw, t0, rows, j, depth, max, e, DEPTH_LD);
        if (j > 0) aft_rescale(keys, j - 1, j, sums, rows);
        tile_gemm(rows, 2 * x->width, depth, e, DEPTH_LD, 1,
                  keys->x + j * x->ld, x->ld, sums, x->ld, j > 0);
    }
    for (size_t r = 0; r < rows; r++)
        if (part[r])
            exact |= aft_finish(c, AFT_FULL, batch, t0 + r, sums + r * x->ld,
                                NULL, 0, mine + x->row);
    return exact;
}

/* Of the tokens from t0 on; or tells in needs[] that they need more. */
static bool forward_rows(const att_call *c, const layout *x,
                         const aft_keys *keys, size_t batch, float key_range,
                         size_t t0)
{
    const size_t n = x->n, rows = n - t0 < ROWS ? n - t0 : ROWS;
    const size_t end = aft_seen(c->p, t0 + rows - 1);
    float *mine = own(c, x), *work = c->work, max[ROWS] = { 0 };
    size_t ldw;
    const float *w = aft_bias_view(c, work + x->wv, t0, rows, 0, end,
                                   mine + x->rows, aft_round(n), &ldw);
    const int needs = find_maxima(c, w, ldw, t0, rows, key_range, max);
    if (!keys->flat) {
        work[x->needs + t0 / ROWS] = (float)needs;
        if (c->save) memcpy(aft_saved_of(c).max + t0, max, rows * sizeof *max);
        if (needs & AFT_IN_WIDE) return false;
    } else if (!(needs & AFT_IN_FLAT)) return false;
    return forward_sums(c, x, keys, batch, t0, rows, w, ldw, max);
}

/* Keys seen of those from j on. */
static size_t visible(const att_call *c, size_t t, size_t j)
{
    const size_t seen = aft_seen(c->p, t);
    return seen < j ? 0 : seen - j;
}

static bool forward_wide(const att_call *c, const layout *x,
                         const aft_wide *keys, size_t batch, size_t t0)
{
    const size_t n = x->n, rows = n - t0 < WIDE_ROWS ? n - t0 : WIDE_ROWS;
    const size_t end = aft_seen(c->p, t0 + rows - 1);
    float *mine = own(c, x), max[WIDE_ROWS];
    double *sums = (double *)(mine + x->sums), *e = (double *)(mine + x->e);
    size_t ldw;
    const float *w = aft_bias_view(c, (float *)c->work + x->wv, t0, rows, 0,
                                   end, mine + x->rows, aft_round(n), &ldw);

    bool part[WIDE_ROWS];
    find_maxima(c, w, ldw, t0, rows, 0, max);
    for (size_t r = 0; r < rows; r++) {
        if (max[r] == AFT_NOTHING) aft_empty(c, batch, t0 + r);
        part[r] = aft_takes_part(false, max[r]);
    }
    for (size_t j = 0; j < end; j += DEPTH) {
        const size_t depth = end - j < DEPTH ? end - j : DEPTH;
        for (size_t r = 0; r < rows; r++)
            aft_wide_weights(w + r * ldw + j, depth, visible(c, t0 + r, j),
                             max[r], e + r * DEPTH_LD);
        wide_product(rows, 2 * keys->half,
                     (wide_factors){ depth, DEPTH_LD, 1, e,
                                     keys->x + j * x->ld, x->ld, sums, x->ld,
                                     j > 0 });
    }
    bool exact = false;
    for (size_t r = 0; r < rows; r++)
        if (part[r])
            exact |= aft_wide_finish(c, AFT_FULL, batch, t0 + r, keys,
                                     sums + r * x->ld, mine + x->row);
    return exact;
}

static bool any_block(const att_call *c, const layout *x, int sweep)
{
    return aft_any_needs((float *)c->work + x->needs, (x->n + ROWS - 1) / ROWS,
                         sweep);
}

static bool forward_blocks(const att_call *c, const layout *x,
                           const aft_keys *keys, size_t b, float range)
{
    int exact = 0;
    #pragma omp parallel for schedule(dynamic) reduction(| : exact)            \
        num_threads(c->threads)
    for (size_t t = 0; t < x->n; t += ROWS)
        exact |= forward_rows(c, x, keys, b, range, t);
    return exact;
}

static bool forward_wide_blocks(const att_call *c, const layout *x,
                                const aft_keys *keys, size_t b)
{
    const float *needs = (float *)c->work + x->needs;
    const aft_wide k = aft_wide_of(keys, keys->x, NULL);
    int exact = 0;
    aft_wide_keys(c, b, &k);
    #pragma omp parallel for schedule(dynamic) reduction(| : exact)            \
        num_threads(c->threads)
    for (size_t t = 0; t < x->n; t += WIDE_ROWS)
        if ((int)needs[t / ROWS] & AFT_IN_WIDE)
            exact |= forward_wide(c, x, &k, b, t);
    return exact;
}

static void forward(const att_call *c)
{
    const layout x = layout_of(c->p, c->threads, ATT_FORWARD);
    bool exact = false, any_wide = false, any_flat = false;

    aft_transpose_wv(c, (float *)c->work + x.wv);
    for (size_t b = 0; b < (size_t)c->p->batch; b++) {
        aft_keys keys = keys_of(c, &x);
        keys.low = (float *)c->work + x.lows;
        aft_keys_make(c, b, &keys);
        exact |= forward_blocks(c, &x, &keys, b, aft_key_range(&keys));
        if (any_block(c, &x, AFT_IN_WIDE)) {
            any_wide = true;
            exact |= forward_wide_blocks(c, &x, &keys, b);
        }
        if (any_block(c, &x, AFT_IN_FLAT)) {
            any_flat = true;
            aft_flatten(c, b, &keys);
            exact |= forward_blocks(c, &x, &keys, b, 0);
        }
    }
    if (!c->save) return;
    const aft_saved s = aft_saved_of(c);
    s.exact[0] = exact, s.exact[1] = any_wide, s.exact[2] = any_flat;
}

/* ---- backward --------------------------------------------------------------------------- */

/* Rows f < width of out: X v of `columns` keys from j; the next width rows: -X.
 * Scaled from the top of these keys to that of token t. */
static void transposed_keys(const aft_keys *k, size_t j, size_t columns,
                            size_t t, float *out)
{
    const float *a = aft_top(k, j), *b = aft_top(k, t);
    const float *x = k->x + j * k->ld;
    tile_transpose(x, k->ld, columns, k->width, out, COLUMNS, COLUMNS, 1);
    tile_transpose(x + k->width, k->ld, columns, k->width,
                   out + k->width * COLUMNS, COLUMNS, COLUMNS, -1);
    for (size_t f = 0; k->causal && a != b && f < k->width; f++) {
        const float s = a[f] == b[f] ? 1 : expf(a[f] - b[f]);
        for (size_t i = 0; i < COLUMNS; i++) {
            out[f * COLUMNS + i] *= s;
            out[(k->width + f) * COLUMNS + i] *= s;
        }
    }
}

/* s = e * (a [X v | -X]'), the products cut so that they stay in cache. */
static void bias_gradient(const layout *x, const float *a, size_t rows,
                          size_t columns, const float *transposed,
                          const float *e, float *s)
{
    for (size_t f = 0; f < 2 * x->width; f += DEPTH) {
        const size_t left = 2 * x->width - f;
        tile_gemm(rows, columns, left < DEPTH ? left : DEPTH, a + f, x->ld, 1,
                  transposed + f * COLUMNS, COLUMNS, s, COLUMNS, f > 0);
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < columns; j++)
            s[r * COLUMNS + j] *= e[r * COLUMNS + j];
}

/* Adds s, the gradient of w[t ..][j ..], to that of the parameters. */
static void add_bias_gradient(const att_call *c, const att_grad *g,
                              const layout *x, size_t b, size_t t, size_t rows,
                              size_t j, size_t columns, const float *s,
                              float *dwu)
{
    const size_t f = x->factor;
    if (g->dparam[AFT_W])
        for (size_t r = 0; r < rows; r++) {
            float *dw = g->dparam[AFT_W] + (t + r) * x->n + j;
            for (size_t i = 0; i < columns; i++)
                dw[i] = s[r * COLUMNS + i] + (b > 0 ? dw[i] : 0);
        }
    if (g->dparam[AFT_WV])
        tile_gemm(columns, f, rows, s, 1, COLUMNS, c->param[AFT_WU] + t * f, f,
                  g->dparam[AFT_WV] + j * f, f, true);
    if (g->dparam[AFT_WU])
        tile_gemm(rows, f, columns, s, COLUMNS, 1, c->param[AFT_WV] + j * f, f,
                  dwu + t * f, f, true);
}

/* Blocks of keys end with their panel, so that all have the same top. */
enum { BLOCKS = (AFT_PANEL + COLUMNS - 1) / COLUMNS };

static size_t block_start(size_t block)
{
    return block / BLOCKS * AFT_PANEL + block % BLOCKS * COLUMNS;
}

static size_t columns_at(size_t n, size_t j)
{
    const size_t panel = AFT_PANEL - j % AFT_PANEL;
    const size_t left = panel < n - j ? panel : n - j;
    return left < COLUMNS ? left : COLUMNS;
}

static void backward_columns(const att_call *c, const att_grad *g,
                             const layout *x, const aft_keys *keys, size_t b,
                             size_t j)
{
    const size_t n = x->n, columns = columns_at(n, j);
    const bool dw = g->dparam[AFT_W] || g->dparam[AFT_WU] || g->dparam[AFT_WV];
    float *mine = own(c, x), *sums = mine + x->sums, *e = mine + x->e;
    float *s = mine + x->s, *transposed = mine + x->transposed;
    const float *max = aft_saved_of(c).max;
    /* panels of tokens from the last to the first that sees key j: sums move
     * from later tops to earlier ones, which are smaller */
    const size_t first = aft_causal(c->p) ? j / DEPTH * DEPTH : 0;

    for (size_t t = (n - 1) / DEPTH * DEPTH + DEPTH; t > first;) {
        t -= DEPTH;
        const size_t rows = n - t < DEPTH ? n - t : DEPTH;
        const float *a = (float *)c->work + x->gates + t * x->ld;
        const bool last = t + rows == n;
        size_t ldw;
        const float *w =
            aft_bias_view(c, (float *)c->work + x->wv, t, rows, j, columns,
                          mine + x->rows, COLUMNS, &ldw);
        exponentials(c, w, ldw, t, rows, j, columns, max + t, e, COLUMNS);
        if (!last) aft_rescale(keys, t, t + DEPTH, sums, columns);
        tile_gemm(columns, 2 * x->width, rows, e, 1, COLUMNS, a, x->ld, sums,
                  x->ld, !last);
        if (!dw) continue;
        if (last || aft_top(keys, t) != aft_top(keys, t + DEPTH))
            transposed_keys(keys, j, columns, t, transposed);
        bias_gradient(x, a, rows, columns, transposed, e, s);
        add_bias_gradient(c, g, x, keys->flat ? 1 : b, t, rows, j, columns, s,
                          mine + x->dwu);
    }
    for (size_t r = 0; r < columns; r++)
        aft_key_gradients(c, g, b, keys, j + r, sums + r * x->ld);
}

/* dw of `rows` tokens from t, e * (a [X v | -X]'). */
static void wide_bias_gradient(const att_call *c, const att_grad *g,
                               const layout *x, const aft_wide *keys, size_t b,
                               size_t t, size_t rows, size_t j, size_t columns,
                               const double *transposed, const double *e)
{
    float *mine = own(c, x), *s = mine + x->s;
    double *product = (double *)s;
    wide_product(rows, WIDE_COLUMNS,
                 (wide_factors){ 2 * keys->half, x->ld, 1,
                                 keys->a + t * x->ld, transposed, WIDE_COLUMNS,
                                 product, WIDE_COLUMNS, false });
    /* row r of the floats lies in row r of the doubles */
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i += VD)
            wide_narrow(s + r * COLUMNS + i,
                        wide_load(product + r * WIDE_COLUMNS + i) *
                            wide_load(e + r * WIDE_COLUMNS + i),
                        wide_lanes(columns, i));
    add_bias_gradient(c, g, x, b, t, rows, j, columns, s, mine + x->dwu);
}

/* What backward_columns() does, from all tokens. */
static void wide_columns(const att_call *c, const att_grad *g, const layout *x,
                         const aft_wide *keys, size_t b, size_t j)
{
    const size_t n = x->n, columns = n - j < WIDE_COLUMNS ? n - j : WIDE_COLUMNS;
    const bool dw = g->dparam[AFT_W] || g->dparam[AFT_WU] || g->dparam[AFT_WV];
    float *mine = own(c, x);
    double *sums = (double *)(mine + x->sums), *e = (double *)(mine + x->e);
    double *transposed = (double *)(mine + x->transposed);
    const float *max = aft_saved_of(c).max;
    const size_t first = aft_causal(c->p) ? j / WIDE_DEPTH * WIDE_DEPTH : 0;

    memset(transposed, 0, 2 * keys->half * WIDE_COLUMNS * sizeof *transposed);
    for (size_t i = 0; dw && i < columns; i++)
        for (size_t f = 0; f < 2 * keys->half; f++)
            transposed[f * WIDE_COLUMNS + i] =
                (f < keys->half ? 1 : -1) * keys->x[(j + i) * x->ld + f];
    for (size_t t = first; t < n; t += WIDE_DEPTH) {
        const size_t rows = n - t < WIDE_DEPTH ? n - t : WIDE_DEPTH;
        size_t ldw;
        const float *w =
            aft_bias_view(c, (float *)c->work + x->wv, t, rows, j, columns,
                          mine + x->rows, COLUMNS, &ldw);
        for (size_t r = 0; r < rows; r++)
            aft_wide_weights(w + r * ldw, columns, visible(c, t + r, j),
                             max[t + r], e + r * WIDE_COLUMNS);
        wide_product(columns, 2 * keys->half,
                     (wide_factors){ rows, 1, WIDE_COLUMNS, e,
                                     keys->a + t * x->ld, x->ld, sums, x->ld,
                                     t > first });
        if (dw)
            wide_bias_gradient(c, g, x, keys, b, t, rows, j, columns,
                               transposed, e);
    }
    for (size_t r = 0; r < columns; r++)
        aft_wide_key_gradients(g, b, keys, j + r, sums + r * x->ld);
}

static void backward_wide(const att_call *c, const att_grad *g, const layout *x,
                          const aft_keys *keys, size_t b)
{
    const aft_wide k =
        aft_wide_of(keys, keys->x, (float *)c->work + x->gates);
    aft_tops_make(c, b, keys);
    aft_wide_keys(c, b, &k);
    aft_wide_gates(c, g, b, keys, &k);
    #pragma omp parallel for schedule(dynamic) num_threads(c->threads)
    for (size_t j = 0; j < x->n; j += WIDE_COLUMNS)
        wide_columns(c, g, x, &k, b, j);
}

static void zero(float *x, size_t n)
{
    if (x) memset(x, 0, n * sizeof *x);
}

/* Sums the threads' shares of dwu. */
static void merge_dwu(const att_call *c, const att_grad *g, const layout *x)
{
    const size_t n = x->n * x->factor;
    if (!g->dparam[AFT_WU]) return;
    zero(g->dparam[AFT_WU], n);
    for (size_t thread = 0; thread < (size_t)c->threads; thread++) {
        const float *share = (float *)c->work + x->own +
                             thread * x->per_thread + x->dwu;
        for (size_t i = 0; i < n; i++) g->dparam[AFT_WU][i] += share[i];
    }
}

static void backward_blocks(const att_call *c, const att_grad *g,
                            const layout *x, const aft_keys *keys, size_t b)
{
    aft_gates(c, g, b, keys, (float *)c->work + x->gates);
    #pragma omp parallel for schedule(dynamic) num_threads(c->threads)
    for (size_t block = 0; block < aft_panels(x->n) * BLOCKS; block++)
        if (block_start(block) < x->n)
            backward_columns(c, g, x, keys, b, block_start(block));
}

static void backward(const att_call *c, const att_grad *g)
{
    const layout x = layout_of(c->p, c->threads, ATT_BACKWARD);
    const aft_saved s = aft_saved_of(c);
    float *w = c->work;

    aft_transpose_wv(c, w + x.wv);
    zero(g->dparam[AFT_WV], x.n * x.factor);
    if (aft_causal(c->p)) zero(g->dparam[AFT_W], x.n * x.n);
    for (size_t thread = 0; thread < (size_t)c->threads; thread++)
        zero(w + x.own + thread * x.per_thread + x.dwu, x.n * x.factor);
    for (size_t b = 0; b < (size_t)c->p->batch; b++) {
        aft_keys keys = keys_of(c, &x);
        if (s.exact[1] > 0) backward_wide(c, g, &x, &keys, b);
        else {
            aft_keys_make(c, b, &keys);
            backward_blocks(c, g, &x, &keys, b);
        }
        if (s.exact[2] == 0) continue;
        aft_flatten(c, b, &keys);
        backward_blocks(c, g, &x, &keys, b);
    }
    merge_dwu(c, g, &x);
    if (s.exact[0] > 0)
        aft_exact_backward(c, g, AFT_FULL, w + x.own + x.row, w + x.keys);
}

ATT_KERNELS = {
    {
        .name = "aft_full.gemm",
        .mechanism = "aft_full",
        .brief = "factorised exponentials, two matrix products in registers",
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
