/* fast.h - what the forms of AFT with factorised exponentials share.
 *
 *     exp(k_jf + b_tj) = exp(k_jf - top_f) exp(b_tj - max_t) * const_tf
 *
 * so that numerator and denominator of all tokens are two matrix products, of
 * exp(b - max) with X v and with X = exp(k - top).  Both are done as one, with
 * the rows [X v | X], 2 width long.
 *
 * top is the maximum of k over all tokens or, when causal, over the panels of
 * AFT_PANEL tokens up to and including that of j: a later, larger key must not
 * flush earlier rows.  Sums made with the top of one panel are scaled by
 * exp(difference of the tops) <= 1 when a later panel joins them.
 *
 * Where the denominator stays below AFT_TINY, terms may have been lost, and the
 * features are evaluated exactly (aft.h); their saved denominator is 0.
 */
#ifndef AFT_FAST_H
#define AFT_FAST_H

#include "../tile.h"
#include "aft.h"

enum { AFT_PANEL = 256 };

/* Terms below 2^-126 vanish; n 2^-126 / 2^-80 is nothing for any n. */
#define AFT_TINY 0x1p-80f

static inline size_t aft_round(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

/* Stride of rows of 2 width floats: not a multiple of 256 bytes, so that the
 * rows of a tile do not share cache sets. */
static inline size_t aft_stride(size_t width)
{
    const size_t ld = aft_round(2 * width);
    return ld % 64 ? ld : ld + 16;
}

typedef struct aft_keys {
    size_t n, width, ld, panels;
    bool causal;
    float *x;   /* [n][ld]: X v in the first `width` entries, then X          */
    float *top; /* [panels][width]                                            */
    float *low; /* [panels][width]: least key of each panel alone, or NULL    */
    bool flat;  /* x is [v | 1]: for rows whose biases hide all, of which those
                   of the largest share the weight, whatever k is            */
} aft_keys;

static inline size_t aft_panels(size_t n)
{
    return (n + AFT_PANEL - 1) / AFT_PANEL;
}

static inline float *aft_top(const aft_keys *k, size_t t)
{
    return k->top + t / AFT_PANEL * k->width;
}

static inline void aft_panel_top(const float *k, size_t width, size_t n,
                                 float *top, float *low)
{
    for (size_t f = 0; f < width; f += VL) {
        const size_t lanes = aft_lanes(width, f);
        vf max = aft_load(k + f, lanes), min = max;
        for (size_t j = 1; j < n; j++) {
            const vf x = aft_load(k + j * width + f, lanes);
            max = v_max(max, x);
            min = v_min(min, x);
        }
        aft_store(top + f, max, lanes);
        if (low) aft_store(low + f, min, lanes);
    }
}

/* Each panel's maximum becomes that of all panels so far; without causality,
 * that of all. */
static inline void aft_merge_tops(const aft_keys *k)
{
    for (size_t p = 1; p < k->panels; p++)
        for (size_t f = 0; f < k->width; f++) {
            float *top = k->top + p * k->width + f;
            *top = fmaxf(*top, top[-(ptrdiff_t)k->width]);
        }
    for (size_t p = 0; !k->causal && p + 1 < k->panels; p++)
        memcpy(k->top + p * k->width, k->top + (k->panels - 1) * k->width,
               k->width * sizeof(float));
}

/* Fills k->top, and k->low, from the keys of batch entry b. */
static inline __attribute__((unused)) void
aft_tops_make(const att_call *c, size_t b, const aft_keys *keys)
{
    const size_t n = keys->n, width = keys->width;
    const float *k = (const float *)c->k + b * n * width;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t p = 0; p < keys->panels; p++) {
        const size_t first = p * AFT_PANEL;
        const size_t left = n - first < AFT_PANEL ? n - first : AFT_PANEL;
        aft_panel_top(k + first * width, width, left, keys->top + p * width,
                      keys->low ? keys->low + p * width : NULL);
    }
    aft_merge_tops(keys);
}

/* How far the keys of a feature lie apart, in that where it is most. */
static inline __attribute__((unused)) float aft_key_range(const aft_keys *k)
{
    const float *top = aft_top(k, k->n - 1);
    vf range = v_zero();
    for (size_t p = 0; p < k->panels; p++)
        for (size_t f = 0; f < k->width; f += VL) {
            const size_t lanes = aft_lanes(k->width, f);
            range = v_max(range, aft_load(top + f, lanes) -
                                     aft_load(k->low + p * k->width + f, lanes));
        }
    return v_hmax(range);
}

/* Fills k->x and k->top from the keys and values of batch entry b. */
static inline __attribute__((unused)) void
aft_keys_make(const att_call *c, size_t b, const aft_keys *keys)
{
    const size_t n = keys->n, width = keys->width;
    const float *k = (const float *)c->k + b * n * width;
    const float *v = (const float *)c->v + b * n * width;
    aft_tops_make(c, b, keys);
    #pragma omp parallel for num_threads(c->threads)
    for (size_t j = 0; j < n; j++) {
        const float *top = aft_top(keys, j);
        float *x = keys->x + j * keys->ld;
        for (size_t f = 0; f < width; f += VL) {
            const size_t lanes = aft_lanes(width, f), at = j * width + f;
            const vf e = aft_exp(aft_load(k + at, lanes) -
                                 aft_load(top + f, lanes));
            aft_store(x + f, e * aft_load(v + at, lanes), lanes);
            aft_store(x + width + f, e, lanes);
        }
    }
}

/* Scales sums of 2 width features from the top of token `from` to that of `to`,
 * a later one. */
static inline __attribute__((unused)) void
aft_rescale(const aft_keys *k, size_t from, size_t to, float *c, size_t rows)
{
    const float *a = aft_top(k, from), *b = aft_top(k, to);
    if (a == b || !k->causal) return;
    for (size_t f = 0; f < k->width; f += VL) {
        const size_t lanes = aft_lanes(k->width, f);
        const vf s = aft_exp(aft_load(a + f, lanes) - aft_load(b + f, lanes));
        for (size_t r = 0; r < rows; r++) {
            float *x = c + r * k->ld + f;
            aft_store(x, s * aft_load(x, lanes), lanes);
            x += k->width;
            aft_store(x, s * aft_load(x, lanes), lanes);
        }
    }
}

/* ---- the bias as a matrix ------------------------------------------------------------- */

/* wv' [factor][aft_round(n)], if the bias is factorised. */
static inline __attribute__((unused)) void aft_transpose_wv(const att_call *c,
                                                            float *out)
{
    const size_t n = att_tokens(c->p), f = (size_t)c->p->factor;
    if (f) tile_transpose(c->param[AFT_WV], f, n, f, out, aft_round(n), n, 1);
}

/* w[t ..][j ..]: a view of w, or made in scratch (rows of lds floats) from wv'. */
static inline __attribute__((unused)) const float *
aft_bias_view(const att_call *c, const float *wv, size_t t, size_t rows,
              size_t j, size_t columns, float *scratch, size_t lds, size_t *ld)
{
    const size_t n = att_tokens(c->p), f = (size_t)c->p->factor;
    *ld = f ? lds : n;
    if (!f) return c->param[AFT_W] + t * n + j;
    tile_gemm(rows, columns, f, c->param[AFT_WU] + t * f, f, 1, wv + j,
              aft_round(n), scratch, lds, false);
    return scratch;
}

/* Biases so low hide the pair: nothing is left of k beside them. */
#define AFT_HIDDEN (-1e30f)

/* Biases of a row: the largest, the least that hides nothing, and whether any
 * hides its pair. */
typedef struct aft_range {
    float max, min;
    bool hidden;
} aft_range;

/* Lanes of the largest and of the least of a row. */
SIMD_INLINE void aft_row_lanes(const float *w, size_t n, vf *max, vf *min)
{
    size_t j = 0;
    *max = *min = v_set1(w[0]);
    for (; j + VL <= n; j += VL) {
        const vf x = v_load(w + j);
        *max = v_max(*max, x);
        *min = v_min(*min, x);
    }
    if (j < n) { /* one by one they would be branches that nobody can predict */
        const vf x = v_load_n(w + j, n - j);
        *max = v_max(*max, v_select(vi_first(n - j), x, *max));
        *min = v_min(*min, v_select(vi_first(n - j), x, *min));
    }
}

static inline __attribute__((unused)) aft_range aft_row_range(const float *w,
                                                              size_t n)
{
    vf max, min;
    aft_row_lanes(w, n, &max, &min);
    aft_range r = { v_hmax(max), -v_hmax(-min), false };
    r.hidden = r.min < AFT_HIDDEN;
    if (!r.hidden || r.max < AFT_HIDDEN) return r;
    min = v_set1(r.max);
    for (size_t j = 0; j < n; j += VL) {
        const size_t lanes = aft_lanes(n, j);
        const vf x = aft_load(w + j, lanes);
        min = v_min(min, v_select(vi_first(lanes) & (x >= AFT_HIDDEN), x, min));
    }
    r.min = -v_hmax(-min);
    return r;
}

/* Of rows that see nothing: beside it all biases have a weight of 0. */
#define AFT_NOTHING (-V_LOWEST)

/* The maximum of a row as the sweeps take it: AFT_NOTHING if it sees nothing,
 * infinity, which weighs nothing, if it is left to be exact. */
static inline float aft_row_max(float max)
{
    if (max == -INFINITY) return AFT_NOTHING;
    return max == AFT_NOTHING ? INFINITY : max;
}

/* The sweeps that rows need beside the usual one: in double, with flat keys. */
enum { AFT_IN_WIDE = 1, AFT_IN_FLAT = 2 };

static inline __attribute__((unused)) bool
aft_any_needs(const float *needs, size_t n, int sweep)
{
    for (size_t i = 0; i < n; i++)
        if ((int)needs[i] & sweep) return true;
    return false;
}

/* Whether a sweep, with flat keys or with others, finishes a row. */
static inline __attribute__((unused)) bool aft_takes_part(bool flat, float max)
{
    return max != AFT_NOTHING && (max < AFT_HIDDEN) == flat;
}

/* ---- what forward leaves for backward ----------------------------------------------- */

typedef struct aft_saved {
    float *exact;      /* [16]: 1 if any feature was evaluated exactly, 1 if
                          any in double, 1 if any from flat keys            */
    float *max;        /* [n]: of b_tj                                       */
    float *mean, *den; /* [batch][n][width]                                  */
    float *power;      /* likewise: where den < 0, it is -den 2^power (wide.h) */
} aft_saved;

static inline size_t aft_saved_floats(const att_problem *p)
{
    const size_t n = att_tokens(p);
    return 16 + aft_round(n) +
           3 * (size_t)p->batch * n * (size_t)p->head_dim;
}

static inline __attribute__((unused)) aft_saved aft_saved_of(const att_call *c)
{
    const size_t n = att_tokens(c->p);
    const size_t all = (size_t)c->p->batch * n * (size_t)c->p->head_dim;
    float *s = c->save;
    if (!s) return (aft_saved){ 0 };
    float *mean = s + 16 + aft_round(n);
    return (aft_saved){ .exact = s,
                        .max = s + 16,
                        .mean = mean,
                        .den = mean + all,
                        .power = mean + 2 * all };
}

SIMD_INLINE bool aft_any(vi mask)
{
    return v_hmax((vf)(mask & 0x3f800000)) > 0;
}

/* The keys of one grid row, that from token `row` on, whose bias for token t is
 * learned: [lo, hi). */
typedef struct aft_run {
    size_t lo, hi;
} aft_run;

static inline size_t aft_run_length(const att_problem *p, enum aft_kind kind)
{
    return kind == AFT_FULL ? att_tokens(p)
                            : (size_t)p->grid.v[p->grid.n - 1];
}

static inline aft_run aft_run_of(const att_problem *p, enum aft_kind kind,
                                 size_t t, size_t row)
{
    const size_t side = aft_run_length(p, kind), x = t % side;
    const size_t seen = aft_seen(p, t);
    aft_run r = { row, row + side };
    if (kind == AFT_LOCAL) {
        const size_t s = (size_t)att_at(&p->window, p->grid.n - 1, 0);
        if (!aft_kept(p, kind, t, row + x)) return (aft_run){ row, row };
        r.lo = row + (x + 1 > s ? x + 1 - s : 0);
        r.hi = row + (x + s < side ? x + s : side);
    }
    if (r.hi > seen) r.hi = seen;
    return r;
}

/* Makes the whole bias row of token t. */
static inline __attribute__((unused)) void
aft_bias_row(const att_call *c, enum aft_kind kind, size_t t, float *b)
{
    const size_t n = att_tokens(c->p), f = (size_t)c->p->factor;
    const size_t end = aft_seen(c->p, t), step = aft_run_length(c->p, kind);
    memset(b, 0, end * sizeof *b);
    for (size_t row = 0; row < end; row += step) {
        const aft_run r = aft_run_of(c->p, kind, t, row);
        for (size_t j = r.lo; j < r.hi; j++)
            b[j] = f ? aft_bias(c, AFT_FULL, t, j)
                     : c->param[AFT_W][t * n + j];
    }
}

/* Turns keys into flat ones. */
static inline __attribute__((unused)) void
aft_flatten(const att_call *c, size_t b, aft_keys *keys)
{
    const size_t n = keys->n, width = keys->width;
    keys->flat = true;
    memset(keys->top, 0, keys->panels * width * sizeof *keys->top);
    #pragma omp parallel for num_threads(c->threads)
    for (size_t j = 0; j < n; j++) {
        float *x = keys->x + j * keys->ld;
        memcpy(x, (const float *)c->v + (b * n + j) * width, width * sizeof *x);
        for (size_t f = 0; f < width; f++) x[width + f] = 1;
    }
}

/* Output of a token that sees nothing; its p is 0. */
static inline __attribute__((unused)) void aft_empty(const att_call *c,
                                                     size_t batch, size_t t)
{
    const size_t width = (size_t)c->p->head_dim;
    const size_t at = (batch * att_tokens(c->p) + t) * width;
    const aft_saved s = aft_saved_of(c);
    memset((float *)c->o + at, 0, width * sizeof(float));
    for (size_t f = 0; s.mean && f < width; f++) {
        s.mean[at + f] = 0;
        s.den[at + f] = INFINITY;
    }
}

/* Output of token t from sums = [num | den] in the scale of its top and of the
 * maximum of its bias.  Features with a denominator below `part` of base (NULL:
 * none), of which it was made by differences, are evaluated exactly too; true
 * if any was.  b: scratch of n floats. */
static inline __attribute__((unused)) bool
aft_finish(const att_call *c, enum aft_kind kind, size_t batch, size_t t,
           const float *sums, const float *base, float part, float *b)
{
    const size_t n = att_tokens(c->p), width = (size_t)c->p->head_dim;
    const size_t row = batch * n + t;
    const float *k = (const float *)c->k + batch * n * width;
    const float *v = (const float *)c->v + batch * n * width;
    const aft_saved s = aft_saved_of(c);
    bool exact = false;

    for (size_t f = 0; f < width; f += VL) {
        const size_t lanes = aft_lanes(width, f), at = row * width + f;
        vf den = aft_load(sums + width + f, lanes), least = v_set1(AFT_TINY);
        vf mean = aft_load(sums + f, lanes) / den;
        if (base) least = v_max(least, part * aft_load(base + f, lanes));
        /* one key alone: its mean is v itself, so that its logit gets 0 */
        if (n == 1 || aft_any(~(den >= least) & vi_first(lanes))) {
            if (!exact) aft_bias_row(c, kind, t, b);
            mean = aft_exact(k + f, v + f, width, lanes, b,
                             aft_seen(c->p, t)).mean;
            den = v_zero();
            exact = true;
        }
        const vf q = aft_load((const float *)c->q + at, lanes);
        aft_store((float *)c->o + at, mean * v_sigmoid(q), lanes);
        if (!s.mean) continue;
        aft_store(s.mean + at, mean, lanes);
        aft_store(s.den + at, den, lanes);
    }
    return exact;
}

/* ---- backward ------------------------------------------------------------------------ */

/* With G = g sigmoid(q) and p = G / den: rows [p | p mean] of batch entry b into
 * out [n][ld], and dq.  p is 0 of rows that are flat where the keys are not, or
 * the other way round. */
static inline __attribute__((unused)) void
aft_gates(const att_call *c, const att_grad *g, size_t b, const aft_keys *keys,
          float *out)
{
    const size_t ld = keys->ld;
    const size_t n = att_tokens(c->p), width = (size_t)c->p->head_dim;
    const aft_saved s = aft_saved_of(c);

    #pragma omp parallel for num_threads(c->threads)
    for (size_t t = 0; t < n; t++) {
        const float share = (s.max[t] < AFT_HIDDEN) == keys->flat;
        for (size_t f = 0; f < width; f += VL) {
            const size_t lanes = aft_lanes(width, f);
            const size_t at = (b * n + t) * width + f;
            const vf gate =
                v_sigmoid(aft_load((const float *)c->q + at, lanes));
            const vf dout = aft_load(g->dout + at, lanes);
            const vf mean = aft_load(s.mean + at, lanes);
            const vf den = aft_load(s.den + at, lanes);
            const vf p = v_select(den > 0.0f, share * dout * gate / den,
                                  v_zero());
            aft_store(out + t * ld + f, p, lanes);
            aft_store(out + t * ld + width + f, p * mean, lanes);
            if (g->dq)
                aft_store(g->dq + at, dout * mean * gate * (1.0f - gate),
                          lanes);
        }
    }
}

/* dk and dv of token j (added, of flat keys) from a = [sum_t E_tj p | sum_t E_tj p mean]. */
static inline __attribute__((unused)) void
aft_key_gradients(const att_call *c, const att_grad *g, size_t b,
                  const aft_keys *keys, size_t j, const float *a)
{
    const size_t width = keys->width;
    const float *x = keys->x + j * keys->ld + width;
    for (size_t f = 0; f < width; f += VL) {
        const size_t lanes = aft_lanes(width, f);
        const size_t at = (b * keys->n + j) * width + f;
        const vf e = aft_load(x + f, lanes), p = aft_load(a + f, lanes);
        const vf v = aft_load((const float *)c->v + at, lanes);
        const vf mean = aft_load(a + width + f, lanes);
        vf dv = e * p, dk = e * (v * p - mean);
        if (keys->flat && g->dv) dv += aft_load(g->dv + at, lanes);
        if (keys->flat && g->dk) dk += aft_load(g->dk + at, lanes);
        if (g->dv) aft_store(g->dv + at, dv, lanes);
        if (g->dk) aft_store(g->dk + at, dk, lanes);
    }
}

/* Adds db [j] to the gradient of the biases of token t. */
static inline void aft_add_bias_gradient(const att_call *c, const att_grad *g,
                                         enum aft_kind kind, size_t t,
                                         const float *db)
{
    const size_t n = att_tokens(c->p), f = (size_t)c->p->factor;
    const size_t end = aft_seen(c->p, t), step = aft_run_length(c->p, kind);
    float *dw = g->dparam[AFT_W], *du = g->dparam[AFT_WU];
    float *dv = g->dparam[AFT_WV];
    for (size_t row = 0; row < end; row += step) {
        const aft_run r = aft_run_of(c->p, kind, t, row);
        for (size_t j = r.lo; dw && j < r.hi; j++) dw[t * n + j] += db[j];
        for (size_t j = r.lo; du && j < r.hi; j++)
            for (size_t i = 0; i < f; i++)
                du[t * f + i] += db[j] * c->param[AFT_WV][j * f + i];
        for (size_t j = r.lo; dv && j < r.hi; j++)
            for (size_t i = 0; i < f; i++)
                dv[j * f + i] += db[j] * c->param[AFT_WU][t * f + i];
    }
}

/* Some features of one token and batch entry: where those of key 0 lie, the
 * exponentials of all keys, the mean, and p. */
typedef struct aft_chunk {
    size_t keys, width, lanes;
    float *e;
    vf mean, p;
} aft_chunk;

/* What keys [j, end) get, and what they send to the bias, added to db unless
 * that is NULL. */
SIMD_INLINE void aft_exact_keys(const att_call *c, const att_grad *g,
                                const aft_chunk *k, size_t j, size_t end,
                                float *db)
{
    for (; j < end; j++) {
        const size_t at = k->keys + j * k->width, lanes = k->lanes;
        const vf e = v_load(k->e + j * VL);
        if (!aft_any((e != 0.0f) & vi_first(lanes))) continue;
        const vf v = aft_load((const float *)c->v + at, lanes);
        const vf dv = k->p * e, de = dv * (v - k->mean);
        float *to = g->dv ? g->dv + at : NULL;
        if (to) aft_store(to, aft_load(to, lanes) + dv, lanes);
        to = g->dk ? g->dk + at : NULL;
        if (to) aft_store(to, aft_load(to, lanes) + de, lanes);
        if (db) db[j] += v_sum(de);
    }
}

/* The features f .. f + lanes - 1 of row (batch and token t) with bias b. */
static inline void aft_exact_chunk(const att_call *c, const att_grad *g,
                                   enum aft_kind kind, size_t row, size_t f,
                                   size_t lanes, const float *b, float *db,
                                   float *e)
{
    const size_t n = att_tokens(c->p), width = (size_t)c->p->head_dim;
    const size_t t = row % n, end = aft_seen(c->p, t), at = row * width + f;
    const size_t step = aft_run_length(c->p, kind);
    aft_chunk k = { .keys = (row - t) * width + f, .width = width,
                    .lanes = lanes, .e = e };
    const aft_row x = aft_exact_kept((const float *)c->k + k.keys,
                                     (const float *)c->v + k.keys, width,
                                     lanes, b, end, e);
    const vf gate = v_sigmoid(aft_load((const float *)c->q + at, lanes));
    k.mean = x.mean;
    k.p = v_first(aft_load(g->dout + at, lanes) * gate / x.den, lanes);

    for (size_t from = 0; from < end; from += step) {
        const aft_run r = aft_run_of(c->p, kind, t, from);
        const size_t last = from + step < end ? from + step : end;
        aft_exact_keys(c, g, &k, from, r.lo < last ? r.lo : last, NULL);
        aft_exact_keys(c, g, &k, r.lo, r.hi, db);
        aft_exact_keys(c, g, &k, r.hi > r.lo ? r.hi : r.lo, last, NULL);
    }
}

/* Adds what features with a saved denominator of 0, those evaluated exactly,
 * send to dk, dv and the bias: one thread, since it is rare and sums cross.
 * b: scratch of 2 aft_round(n) floats; e: of n VL, the place of the keys. */
static inline __attribute__((unused)) void
aft_exact_backward(const att_call *c, const att_grad *g, enum aft_kind kind,
                   float *b, float *e)
{
    const size_t n = att_tokens(c->p), width = (size_t)c->p->head_dim;
    const aft_saved s = aft_saved_of(c);
    const bool biased =
        g->dparam[AFT_W] || g->dparam[AFT_WU] || g->dparam[AFT_WV];
    float *db = biased ? b + aft_round(n) : NULL;

    for (size_t row = 0; row < (size_t)c->p->batch * n; row++) {
        bool known = false; /* the bias row is made on first need */
        for (size_t f = 0; f < width; f += VL) {
            const size_t lanes = aft_lanes(width, f);
            const vf den = aft_load(s.den + row * width + f, lanes);
            if (!aft_any((den == 0.0f) & vi_first(lanes))) continue;
            if (!known) aft_bias_row(c, kind, row % n, b);
            if (!known && db) memset(db, 0, n * sizeof *db);
            known = true;
            aft_exact_chunk(c, g, kind, row, f, lanes, b, db, e);
        }
        if (known && db) aft_add_bias_gradient(c, g, kind, row % n, db);
    }
}

#endif
