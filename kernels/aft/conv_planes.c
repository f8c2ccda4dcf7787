/* aft_conv.conv - AFT-conv as a convolution of planes, lanes are positions.
 *
 *     num = e0 sum_j X_j v_j + conv(X v, E),   den = e0 sum_j X_j + conv(X, E)
 *     X = exp(k - top),  E_o = exp(w_o - m) - e0,  e0 = exp(-m),  m = max(0, w)
 *
 * A task is one head and a piece of its map: all of it, some rows, or some of a
 * sequence.  X and X v of the piece and of the window around it are laid out as
 * planes [channel][row][column] with zeros beyond the border, GROUP channels at
 * a time, so that they stay in the second cache; a tap is then one broadcast
 * weight times vectors read at an offset, eight at a time.
 *
 * top is the maximum of the head's keys or, causal, of those up to the end of the
 * piece, whose sums start from those of earlier pieces.  Where den is less than
 * 1/32 of the sum it is a difference of, or tiny, the token is evaluated exactly;
 * so are tokens that see one key, whose gradients are 0 times 1 / std.  Without
 * causality that takes the window and the sum over all keys, by the maximum of
 * both; only where these cancel, all keys one by one.
 *
 * Backward: with p = G / den, pm = sum_c p_c m_c and the window turned round,
 *     U_c = e0 sum_t p_tc + conv'(p_c, E),   W likewise from pm,
 *     dv = X U,  dk = X (sum_c v_c U_c - W),
 *     dw_o = exp(w_o - m) sum_t (sum_c p_tc X_j v_jc - pm_t X_j),  j = t + o.
 */
#include "../tile.h"
#include "conv.h"

#include <omp.h>

enum {
    GROUP = 16, /* channels laid out together                               */
    UNITS = 8,  /* vectors summed at a time                                 */
    SHARE = 32, /* least part of its sum that a denominator may be          */
    PIECE = 256 /* longest piece of a causal sequence                       */
};
#define TINY 0x1p-80f

static size_t rounded(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

/* ---- what is where ------------------------------------------------------------------- */

typedef struct layout {
    conv_window w;
    size_t n, d, width, height, maps, heads;
    size_t pieces, piece_rows, piece_columns; /* of one map                 */
    size_t pitch, plane; /* floats of a padded row and plane                */
    size_t own_pitch, own_plane; /* of the piece itself                     */
    /* floats from the start of work, shared by the threads */
    size_t effective, hat, weight, exact_weight, e0, top, base, p, pm, share;
    size_t own; /* first thread's */
    size_t x, in, out, den, inverse, row; /* from `own`                     */
    size_t per_thread, total;
} layout;

/* Pieces of a map: four tasks a thread, if there are fewer maps. */
static void cut(const att_problem *p, int threads, layout *x)
{
    const size_t want = (4 * (size_t)threads + x->maps - 1) / x->maps;
    size_t pieces = threads == 1 ? 1 : want;
    if (x->height > 1) {
        if (pieces > x->height) pieces = x->height;
        x->piece_rows = (x->height + pieces - 1) / pieces;
        x->piece_columns = x->width;
        x->pieces = (x->height + x->piece_rows - 1) / x->piece_rows;
        return;
    }
    const size_t least = (x->n + PIECE - 1) / PIECE;
    if (pieces > (x->n + 15) / 16) pieces = (x->n + 15) / 16;
    if (x->w.causal && pieces < least) pieces = least;
    x->piece_rows = 1;
    x->piece_columns = (x->n + pieces - 1) / pieces;
    x->pieces = (x->n + x->piece_columns - 1) / x->piece_columns;
    (void)p;
}

static layout layout_of(const att_problem *p, int threads, enum att_pass pass)
{
    layout x = { .w = conv_window_of(p), .n = att_tokens(p) };
    const bool back = pass == ATT_BACKWARD;
    size_t at = 0;
    x.d = (size_t)p->head_dim;
    x.width = (size_t)att_width(p);
    x.height = (size_t)att_height(p);
    x.heads = (size_t)p->heads;
    x.maps = (size_t)p->batch * x.heads;
    cut(p, threads, &x);
    x.own_pitch = rounded(x.piece_columns);
    x.own_plane = x.piece_rows * x.own_pitch;
    x.pitch = rounded(x.own_pitch + (size_t)x.w.columns - 1);
    x.plane = (x.piece_rows + (size_t)x.w.rows - 1) * x.pitch;

    const size_t window = x.heads * x.w.taps;
    x.effective = at, at += window;
    x.hat = at, at += back ? window : 0;
    x.weight = at, at += window;
    x.exact_weight = at, at += back ? window : 0;
    x.e0 = at, at += rounded(x.heads);
    x.top = at, at += rounded(x.maps * x.pieces);
    x.base = at, at += rounded(x.maps * x.pieces * (x.d + 1));
    x.p = at, at += back ? rounded(x.maps * x.n * x.d) : 0;
    x.pm = at, at += back ? rounded(x.maps * x.n) : 0;
    x.share = at, at += back ? (size_t)threads * window : 0;
    x.own = at = rounded(at), at = 0;
    x.x = at, at += x.plane;
    x.in = at, at += GROUP * x.plane * (back ? 2 : 1);
    x.out = at, at += GROUP * x.own_plane;
    x.den = at, at += x.own_plane;
    x.inverse = at, at += x.own_plane;
    x.row = at, at += 2 * rounded(x.n);
    x.per_thread = at;
    x.total = x.own + (size_t)threads * at;
    return x;
}

/* Kept: mean [maps][n][d], den [maps][n] (0 and -1: store_exact()), and whether any
 * was. */
static size_t saved_floats(const att_problem *p)
{
    const size_t rows =
        (size_t)p->batch * (size_t)p->heads * att_tokens(p);
    return 16 + rows * ((size_t)p->head_dim + 1);
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    *out = (att_sizes){
        .save = saved_floats(p) * sizeof(float),
        .work = layout_of(p, threads, ATT_FORWARD).total * sizeof(float),
        .work_backward =
            layout_of(p, threads, ATT_BACKWARD).total * sizeof(float),
    };
}

typedef struct job {
    const att_call *c;
    const att_grad *g;
    layout x;
    float *work;
    float *exact, *mean, *den; /* saved; NULL if not                         */
} job;

static job job_of(const att_call *c, const att_grad *g)
{
    job k = { .c = c, .g = g, .work = c->work };
    float *s = c->save;
    k.x = layout_of(c->p, c->threads, g ? ATT_BACKWARD : ATT_FORWARD);
    if (s) {
        k.exact = s;
        k.mean = s + 16;
        k.den = k.mean + k.x.maps * k.x.n * k.x.d;
    }
    return k;
}

static float *own(const job *k)
{
    return k->work + k->x.own +
           (size_t)omp_get_thread_num() * k->x.per_thread;
}

/* Piece i of a map: tokens of rows y0 .. y1 and columns x0 .. x1. */
typedef struct piece {
    size_t map, index; /* index: among the pieces of all maps               */
    size_t y0, y1, x0, x1, first, end; /* first, end: tokens                 */
} piece;

static piece piece_of(const layout *x, size_t index)
{
    const size_t i = index % x->pieces;
    piece p = { .map = index / x->pieces, .index = index };
    if (x->height > 1) {
        p.y0 = i * x->piece_rows;
        p.y1 = p.y0 + x->piece_rows;
        if (p.y1 > x->height) p.y1 = x->height;
        p.x1 = x->width;
    } else {
        p.y1 = 1;
        p.x0 = i * x->piece_columns;
        p.x1 = p.x0 + x->piece_columns;
        if (p.x1 > x->width) p.x1 = x->width;
    }
    p.first = p.y0 * x->width + p.x0;
    p.end = (p.y1 - 1) * x->width + p.x1;
    return p;
}

/* ---- preparation --------------------------------------------------------------------------- */

static vf clamped_exp(vf x)
{
    return v_exp(v_max(x, v_set1(-200)));
}

/* exp(k - top) of n keys. */
static void exponentials(const float *k, size_t n, float top, float *out)
{
    for (size_t i = 0; i < n; i += VL) {
        const size_t lanes = n - i < VL ? n - i : VL;
        v_store_n(out + i, clamped_exp(v_load_n(k + i, lanes) - top), lanes);
    }
}

/* E, e0 and, backward, exp(w - m) of every head. */
static void make_windows(const job *k)
{
    const layout *x = &k->x;
    for (size_t h = 0; h < x->heads; h++) {
        const size_t at = h * x->w.taps;
        float *effective = k->work + x->effective + at, max = 0;
        conv_effective(k->c, x->w.taps, h, effective,
                       k->g ? k->work + x->hat + at : NULL);
        for (size_t i = 0; i < x->w.taps; i++) max = fmaxf(max, effective[i]);
        const float e0 = k->work[x->e0 + h] = expf(-max);
        for (size_t i = 0; i < x->w.taps; i++) {
            k->work[x->weight + at + i] =
                max > 0 ? expf(effective[i] - max) - e0 : expm1f(effective[i]);
            if (k->g)
                k->work[x->exact_weight + at + i] = expf(effective[i] - max);
        }
    }
}

/* Largest key of each piece, then of all pieces so far, or of the map. */
static void make_tops(const job *k)
{
    const layout *x = &k->x;
    float *top = k->work + x->top;
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t map = 0; map < x->maps; map++) {
        const float *key = (const float *)k->c->k + map * x->n;
        float max = key[0];
        for (size_t i = 0; i < x->pieces; i++) {
            const piece p = piece_of(x, map * x->pieces + i);
            for (size_t j = p.first; j < p.end; j++)
                max = key[j] > max ? key[j] : max;
            top[p.index] = max;
        }
        for (size_t i = 0; !x->w.causal && i < x->pieces; i++)
            top[map * x->pieces + i] = max;
    }
}

/* Sums over the pieces of a map (of all; causal: of those before, or after). */
static void merge_bases(const job *k, size_t map, bool after)
{
    const layout *x = &k->x;
    const size_t n = x->d + 1, pieces = x->pieces;
    float *base = k->work + x->base + map * pieces * n;
    const float *top = k->work + x->top + map * pieces;
    for (size_t f = 0; f < n; f++) {
        float sum = 0;
        for (size_t step = 0; step < pieces; step++) {
            const size_t i = after ? pieces - 1 - step : step;
            const size_t last = after ? i + 1 : i - 1;
            if (step > 0 && x->w.causal)
                sum *= expf(-fabsf(top[last] - top[i]));
            const float mine = base[i * n + f];
            if (x->w.causal) base[i * n + f] = sum;
            sum += mine;
        }
        for (size_t i = 0; !x->w.causal && i < pieces; i++)
            base[i * n + f] = sum;
    }
}

/* base[piece] = sums of X v and X. */
static void make_bases(const job *k)
{
    const layout *x = &k->x;
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t i = 0; i < x->maps * x->pieces; i++) {
        const piece p = piece_of(x, i);
        const float *key = (const float *)k->c->k + p.map * x->n;
        const float *v = (const float *)k->c->v + p.map * x->n * x->d;
        float *base = k->work + x->base + i * (x->d + 1), *e = own(k) + x->row;
        memset(base, 0, (x->d + 1) * sizeof *base);
        exponentials(key + p.first, p.end - p.first, k->work[x->top + i], e);
        for (size_t j = p.first; j < p.end; j++) {
            const float a = e[j - p.first];
            #pragma omp simd
            for (size_t f = 0; f < x->d; f++) base[f] += a * v[j * x->d + f];
            base[x->d] += a;
        }
    }
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t map = 0; map < x->maps; map++) merge_bases(k, map, false);
}

/* ---- planes ----------------------------------------------------------------------------------- */

/* The part of row `r` of a padded plane that is on the map: columns [lo, hi) of
 * the plane are tokens from `token` on.  left: how far the window reaches. */
typedef struct strip {
    size_t lo, hi, token;
} strip;

static strip strip_of(const layout *x, const piece *p, size_t r, size_t left)
{
    strip s = { 0 };
    const size_t y = p->y0 + r; /* plus the window's reach upwards */
    const size_t up = (size_t)x->w.up, right = (size_t)x->w.columns - 1 - left;
    if (y < up || y - up >= x->height) return s;
    const size_t first = p->x0 > left ? p->x0 - left : 0;
    const size_t end = x->width - p->x1 > right ? p->x1 + right : x->width;
    s.lo = first + left - p->x0;
    s.hi = s.lo + end - first;
    s.token = (y - up) * x->width + first;
    return s;
}

static size_t plane_rows(const layout *x, const piece *p)
{
    return p->y1 - p->y0 + (size_t)x->w.rows - 1;
}

/* X of the piece and its surroundings into one plane. */
static void lay_out_keys(const job *k, const piece *p, float *plane)
{
    const layout *x = &k->x;
    const float *key = (const float *)k->c->k + p->map * x->n;
    memset(plane, 0, x->plane * sizeof *plane);
    for (size_t r = 0; r < plane_rows(x, p); r++) {
        const strip s = strip_of(x, p, r, (size_t)x->w.left);
        if (s.hi > s.lo)
            exponentials(key + s.token, s.hi - s.lo, k->work[x->top + p->index],
                         plane + r * x->pitch + s.lo);
    }
}

/* Channels [c0, c0 + channels) of v [n][d] of a map, times the plane `x0` (NULL:
 * times 1), into planes. */
static void lay_out(const job *k, const piece *p, size_t left, const float *v,
                    size_t d, size_t c0, size_t channels, const float *x0,
                    float *planes)
{
    const layout *x = &k->x;
    memset(planes, 0, channels * x->plane * sizeof *planes);
    for (size_t r = 0; r < plane_rows(x, p); r++) {
        const strip s = strip_of(x, p, r, left);
        if (s.hi == s.lo) continue;
        float *to = planes + r * x->pitch + s.lo;
        tile_transpose(v + s.token * d + c0, d, s.hi - s.lo, channels, to,
                       x->plane, s.hi - s.lo, 1);
        for (size_t c = 0; x0 && c < channels; c++) {
            const float *e = x0 + r * x->pitch + s.lo;
            float *row = to + c * x->plane;
            #pragma omp simd
            for (size_t i = 0; i < s.hi - s.lo; i++) row[i] *= e[i];
        }
    }
}

/* sum over taps of weight[tap] in[y + ty][x + tx] of `units` (at most UNITS)
 * vectors, `step` floats apart in `in` and `out_step` in out: the same place in
 * several planes, or several rows, or several vectors of one row. */
SIMD_INLINE void convolve_units(const int units, const layout *x,
                                const float *weight, bool turned,
                                const float *in, size_t step, float *out,
                                size_t out_step)
{
    vf sum[UNITS];
    const size_t taps = x->w.taps;
    UNROLL for (int i = 0; i < units; i++) sum[i] = v_zero();
    for (size_t ty = 0, tap = 0; ty < (size_t)x->w.rows; ty++)
        for (size_t tx = 0; tx < (size_t)x->w.columns; tx++, tap++) {
            const float *from = in + ty * x->pitch + tx;
            const vf e = v_set1(weight[turned ? taps - 1 - tap : tap]);
            UNROLL for (int i = 0; i < units; i++)
                sum[i] = v_fma(e, v_load(from + (size_t)i * step), sum[i]);
        }
    UNROLL for (int i = 0; i < units; i++)
        v_store(out + (size_t)i * out_step, sum[i]);
}

/* `n` units, as many as possible at a time: independent sums hide the latency. */
static void convolve_all(const layout *x, const float *weight, bool turned,
                         size_t n, const float *in, size_t step, float *out,
                         size_t out_step)
{
    while (n > 0) {
        const size_t units = n >= UNITS ? UNITS : n >= 4 ? 4 : n >= 2 ? 2 : 1;
        switch (units) {
        case UNITS:
            convolve_units(UNITS, x, weight, turned, in, step, out, out_step);
            break;
        case 4:
            convolve_units(4, x, weight, turned, in, step, out, out_step);
            break;
        case 2:
            convolve_units(2, x, weight, turned, in, step, out, out_step);
            break;
        default:
            convolve_units(1, x, weight, turned, in, step, out, out_step);
        }
        n -= units;
        in += units * step;
        out += units * out_step;
    }
}

static void convolve(const layout *x, const piece *p, const float *weight,
                     bool turned, size_t planes, const float *in, float *out)
{
    const size_t rows = p->y1 - p->y0;
    const size_t vectors = (p->x1 - p->x0 + VL - 1) / VL;
    const size_t whole = planes / UNITS * UNITS;
    for (size_t y = 0; whole && y < rows; y++)
        for (size_t c = 0; c < vectors * VL; c += VL)
            convolve_all(x, weight, turned, whole, in + y * x->pitch + c,
                         x->plane, out + y * x->own_pitch + c, x->own_plane);
    for (size_t i = whole; i < planes; i++) {
        const float *from = in + i * x->plane;
        float *to = out + i * x->own_plane;
        for (size_t c = 0; rows > 1 && c < vectors * VL; c += VL)
            convolve_all(x, weight, turned, rows, from + c, x->pitch, to + c,
                         x->own_pitch);
        if (rows == 1)
            convolve_all(x, weight, turned, vectors, from, VL, to, VL);
    }
}

/* ---- forward -------------------------------------------------------------------------------------- */

/* sums[y][x] of a causal piece start from all tokens up to their own: adds e0
 * (base + the sums of the piece's own row `in` up to each column). */
static void add_base(const layout *x, const piece *p, float e0, float base,
                     const float *in, bool after, float *sums)
{
    const size_t columns = p->x1 - p->x0;
    float sum = base;
    for (size_t i = 0; x->w.causal && i < columns; i++) {
        const size_t at = after ? columns - 1 - i : i;
        sum += in[at + (after ? 0 : (size_t)x->w.left)];
        sums[at] += e0 * sum;
    }
    for (size_t y = 0; !x->w.causal && y < p->y1 - p->y0; y++)
        for (size_t i = 0; i < columns; i++)
            sums[y * x->own_pitch + i] += e0 * base;
}

/* out = 1 / den, for the whole piece. */
static void invert(const layout *x, const float *den, float *out)
{
    for (size_t i = 0; i < x->own_plane; i += VL)
        v_store(out + i, 1.0f / v_load(den + i));
}

/* Means of some channels from the planes of numerators into o. */
static void store_means(const job *k, const piece *p, size_t c0,
                        size_t channels, float *num, const float *inverse)
{
    const layout *x = &k->x;
    float *o = (float *)k->c->o + (p->map * x->n + p->y0 * x->width + p->x0) * x->d;
    for (size_t c = 0; c < channels; c++)
        for (size_t i = 0; i < x->own_plane; i += VL) {
            float *at = num + c * x->own_plane + i;
            v_store(at, v_load(at) * v_load(inverse + i));
        }
    for (size_t y = 0; y < p->y1 - p->y0; y++)
        tile_transpose(num + y * x->own_pitch, x->own_plane, channels,
                       p->x1 - p->x0, o + y * x->width * x->d + c0, x->d,
                       channels, 1);
}

/* The key that the tap in row y and column i of the window joins to token t, or
 * -1; all of them are seen. */
static ptrdiff_t tap_key(const layout *x, size_t t, ptrdiff_t y, ptrdiff_t i)
{
    y += (ptrdiff_t)(t / x->width) - x->w.up;
    i += (ptrdiff_t)(t % x->width) - x->w.left;
    if (y < 0 || y >= (ptrdiff_t)x->height || i < 0 || i >= (ptrdiff_t)x->width)
        return -1;
    return y * (ptrdiff_t)x->width + i;
}

/* a[j] = logit of key j for token t, kept within +-1e38 so that differences are
 * finite; returns the largest.  a has room for whole vectors. */
static float exact_logits(const job *k, size_t map, size_t t, float *a)
{
    const layout *x = &k->x;
    const float *effective =
        k->work + x->effective + map % x->heads * x->w.taps;
    const size_t end = conv_seen(k->c->p, &x->w, t);
    vf max = v_set1(-1e38f);
    memcpy(a, (const float *)k->c->k + map * x->n, end * sizeof *a);
    for (ptrdiff_t y = 0; y < x->w.rows; y++)
        for (ptrdiff_t i = 0; i < x->w.columns; i++) {
            const ptrdiff_t j = tap_key(x, t, y, i);
            if (j >= 0) a[j] += effective[y * x->w.columns + i];
        }
    for (size_t j = 0; j < end; j += VL) {
        const size_t lanes = end - j < VL ? end - j : VL;
        const vf s = v_max(v_min(v_load_n(a + j, lanes), v_set1(1e38f)),
                           v_set1(-1e38f));
        v_store(a + j, s);
        max = v_max(max, v_select(vi_first(lanes), s, max));
    }
    return v_hmax(max);
}

/* a[j] = exp(logit - max) of the keys that token t sees, and 0 up to the end of
 * the last vector; returns the sum.  Most vectors hold nothing that counts: it
 * was their range that the sums over all keys could not hold. */
static float exact_weights(const job *k, size_t map, size_t t, float *a)
{
    const float max = exact_logits(k, map, t, a);
    const size_t end = conv_seen(k->c->p, &k->x.w, t);
    vf sum = v_zero();
    for (size_t j = 0; j < end; j += VL) {
        const vf s = v_load(a + j) - max;
        vf e = v_zero();
        if (v_hmax(s) > -88)
            e = v_first(v_exp(s), end - j < VL ? end - j : VL);
        v_store(a + j, e);
        sum += e;
    }
    return v_sum(sum);
}

/* The next key from j on whose weight is not 0, or end. */
static size_t next_weight(const float *a, size_t j, size_t end)
{
    while (j < end && a[j] == 0) {
        if (j % VL == 0 && v_hmax(v_load(a + j)) == 0) j += VL;
        else j++;
    }
    return j < end ? j : end;
}

/* Keys of row y of the window of token t that are on the map: n from `key` on,
 * with taps from `tap` on. */
typedef struct near_keys {
    size_t key, tap, n;
} near_keys;

static near_keys near_keys_of(const layout *x, size_t t, int y)
{
    const ptrdiff_t row = (ptrdiff_t)(t / x->width) - x->w.up + y;
    const ptrdiff_t first = (ptrdiff_t)(t % x->width) - x->w.left;
    const ptrdiff_t lo = first < 0 ? 0 : first, end = first + x->w.columns;
    const ptrdiff_t hi =
        end < (ptrdiff_t)x->width ? end : (ptrdiff_t)x->width;
    if (row < 0 || row >= (ptrdiff_t)x->height || hi <= lo)
        return (near_keys){ 0 };
    return (near_keys){ (size_t)(row * (ptrdiff_t)x->width + lo),
                        (size_t)(y * x->w.columns + lo - first),
                        (size_t)(hi - lo) };
}

/* Weights of token t of a map without causality: of the sums over all keys, whose
 * weights there are exp(k - top) and sum to `all`, returned; of the keys of its window, one after the other,
 * what they have more than there in a[], all in e[].  Less than 0 if less than
 * `least` is left of the former, or these are no numbers. */
static float near_weights(const job *k, size_t map, size_t t, float top,
                          float all, float least, float *a, float *e)
{
    const layout *x = &k->x;
    const float *key = (const float *)k->c->k + map * x->n;
    const float *bias = k->work + x->effective + map % x->heads * x->w.taps;
    vf max = v_set1(top), sum = v_zero();
    size_t count = 0;
    for (int y = 0; y < x->w.rows; y++) {
        const near_keys r = near_keys_of(x, t, y);
        for (size_t i = 0; i < r.n; i += VL) {
            const size_t lanes = r.n - i < VL ? r.n - i : VL;
            const vf s = v_load_n(key + r.key + i, lanes) +
                         v_load_n(bias + r.tap + i, lanes);
            max = v_max(max, v_select(vi_first(lanes), s, max));
        }
    }
    const float most = v_hmax(max), one = expf(top - most), base = all * one;
    for (int y = 0; y < x->w.rows; y++) {
        const near_keys r = near_keys_of(x, t, y);
        for (size_t i = 0; i < r.n; i += VL) {
            const size_t lanes = r.n - i < VL ? r.n - i : VL;
            const vf s = v_load_n(key + r.key + i, lanes);
            const vf w = v_exp(s + v_load_n(bias + r.tap + i, lanes) - most);
            const vf more = v_first(w - v_exp(s - most), lanes);
            v_store_n(e + count, w, lanes);
            v_store_n(a + count, more, lanes);
            sum += more;
            count += lanes;
        }
    }
    const float den = base + v_sum(sum);
    if (!(den >= least * base) || !(den < INFINITY)) return -1;
    const float inverse = 1 / den;
    for (size_t i = 0; i < count; i++) {
        a[i] *= inverse;
        e[i] *= inverse;
    }
    return one * inverse;
}

/* The mean of token t by its window and base [d + 1]; false if it does not do. */
static bool near_mean(const job *k, const piece *p, size_t t, const float *base,
                      float *a, float *mean)
{
    const layout *x = &k->x;
    const float *v = (const float *)k->c->v + p->map * x->n * x->d;
    const float share =
        near_weights(k, p->map, t, k->work[x->top + p->index], base[x->d],
                     1.0f / SHARE, a, a + rounded(x->n));
    if (!(share >= 0)) return false;
    for (size_t c = 0; c < x->d; c += VL) {
        const size_t lanes = x->d - c < VL ? x->d - c : VL;
        vf sum = share * v_load_n(base + c, lanes);
        size_t at = 0;
        for (int y = 0; y < x->w.rows; y++) {
            const near_keys r = near_keys_of(x, t, y);
            for (size_t i = 0; i < r.n; i++, at++)
                sum = v_fma(v_set1(a[at]),
                            v_load_n(v + (r.key + i) * x->d + c, lanes), sum);
        }
        v_store_n(mean + c, sum, lanes);
    }
    return true;
}

/* sum_j a[j] v[j][..] of some channels; v has rows of d. */
static vf average(const float *a, const float *v, size_t d, size_t lanes,
                  size_t end)
{
    vf sum[2] = { v_zero(), v_zero() };
    for (size_t j = 0; (j = next_weight(a, j, end)) < end;) {
        const size_t vector = j - j % VL + VL, stop = vector < end ? vector : end;
        for (; j < stop; j++)
            sum[j % 2] = v_fma(v_set1(a[j]), v_load_n(v + j * d, lanes),
                               sum[j % 2]);
    }
    return sum[0] + sum[1];
}

/* The mean of token t by its own maximum, where den cannot be trusted; den becomes
 * -1, or 0 if it took all keys.  base: sums over the keys that den is a difference
 * of; causal: over those before the piece, whose own are in x0. */
static bool store_exact(const job *k, const piece *p, const float *base,
                        const float *x0, float *den, float *mine)
{
    const layout *x = &k->x;
    const float *v = (const float *)k->c->v + p->map * x->n * x->d;
    const float share = k->work[x->e0 + p->map % x->heads] / SHARE;
    float *a = mine + x->row, sum = base[x->d];
    bool exact = false;
    for (size_t t = p->first; t < p->end; t++) {
        float *own_den = den + (t / x->width - p->y0) * x->own_pitch +
                         t % x->width - p->x0;
        float *mean = (float *)k->c->o + (p->map * x->n + t) * x->d;
        if (x->w.causal) sum += x0[t - p->first + (size_t)x->w.left];
        const size_t end = conv_seen(k->c->p, &x->w, t);
        if (end > 1 && *own_den >= fmaxf(TINY, share * sum)) continue;
        exact = true;
        *own_den = -1;
        if (!x->w.causal && end > 1 && near_mean(k, p, t, base, a, mean)) continue;
        const float inverse = 1 / exact_weights(k, p->map, t, a);
        for (size_t c = 0; c < x->d; c += VL) {
            const size_t lanes = x->d - c < VL ? x->d - c : VL;
            v_store_n(mean + c, average(a, v + c, x->d, lanes, end) * inverse,
                      lanes);
        }
        *own_den = 0;
    }
    return exact;
}

/* Saves means and denominators of the piece, then gates the outputs. */
static void gate_piece(const job *k, const piece *p, const float *den)
{
    const layout *x = &k->x;
    const size_t first = (p->map * x->n + p->first) * x->d;
    const size_t n = (p->end - p->first) * x->d;
    float *o = (float *)k->c->o + first;
    const float *q = (const float *)k->c->q + first;
    if (k->mean) {
        memcpy(k->mean + first, o, n * sizeof *o);
        for (size_t t = p->first; t < p->end; t++)
            k->den[p->map * x->n + t] =
                den[(t / x->width - p->y0) * x->own_pitch + t % x->width -
                    p->x0];
    }
    for (size_t i = 0; i < n; i += VL) {
        const size_t lanes = n - i < VL ? n - i : VL;
        const vf y = v_load_n(o + i, lanes) * v_sigmoid(v_load_n(q + i, lanes));
        v_store_n(o + i, y, lanes);
    }
}

static bool forward_piece(const job *k, size_t index)
{
    const layout *x = &k->x;
    const piece p = piece_of(x, index);
    const size_t h = p.map % x->heads, d = x->d;
    const float *weight = k->work + x->weight + h * x->w.taps;
    const float *base = k->work + x->base + index * (d + 1);
    const float *v = (const float *)k->c->v + p.map * x->n * d;
    const float e0 = k->work[x->e0 + h];
    float *mine = own(k), *den = mine + x->den, *x0 = mine + x->x;
    float *in = mine + x->in, *out = mine + x->out;

    lay_out_keys(k, &p, x0);
    convolve(x, &p, weight, false, 1, x0, den);
    add_base(x, &p, e0, base[d], x0, false, den);
    invert(x, den, mine + x->inverse);
    for (size_t c = 0; c < d; c += GROUP) {
        const size_t channels = d - c < GROUP ? d - c : GROUP;
        lay_out(k, &p, (size_t)x->w.left, v, d, c, channels, x0, in);
        convolve(x, &p, weight, false, channels, in, out);
        for (size_t i = 0; i < channels; i++)
            add_base(x, &p, e0, base[c + i], in + i * x->plane, false,
                     out + i * x->own_plane);
        store_means(k, &p, c, channels, out, mine + x->inverse);
    }
    const bool exact = store_exact(k, &p, base, x0, den, mine);
    gate_piece(k, &p, den);
    return exact;
}

static void forward(const att_call *c)
{
    const job k = job_of(c, NULL);
    int exact = 0;
    make_windows(&k);
    conv_tell_window(c, k.x.heads * k.x.w.taps, k.work + k.x.effective);
    make_tops(&k);
    make_bases(&k);
    #pragma omp parallel for schedule(static, 1) reduction(| : exact)          \
        num_threads(c->threads)
    for (size_t i = 0; i < k.x.maps * k.x.pieces; i++)
        exact |= forward_piece(&k, i);
    if (k.exact) k.exact[0] = (float)exact;
}

/* ---- backward ----------------------------------------------------------------------------------------- */

/* p and pm of all tokens, and dq. */
static void make_sources(const job *k)
{
    const layout *x = &k->x;
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t row = 0; row < x->maps * x->n; row++) {
        const float scale = k->den[row] > 0 ? 1 / k->den[row] : 0;
        float pm = 0;
        for (size_t c = 0; c < x->d; c += VL) {
            const size_t at = row * x->d + c;
            const size_t lanes = x->d - c < VL ? x->d - c : VL;
            const vf q = v_load_n((const float *)k->c->q + at, lanes);
            const vf gate = v_sigmoid(q), dout = v_load_n(k->g->dout + at, lanes);
            const vf mean = v_load_n(k->mean + at, lanes);
            const vf p = dout * gate * scale;
            v_store_n(k->work + x->p + at, p, lanes);
            pm += v_sum(p * mean);
            if (k->g->dq)
                v_store_n(k->g->dq + at, dout * mean * gate * (1.0f - gate),
                          lanes);
        }
        k->work[x->pm + row] = pm;
    }
}

/* base[piece] = sums of p and pm. */
static void make_source_bases(const job *k)
{
    const layout *x = &k->x;
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t i = 0; i < x->maps * x->pieces; i++) {
        const piece p = piece_of(x, i);
        float *base = k->work + x->base + i * (x->d + 1);
        memset(base, 0, (x->d + 1) * sizeof *base);
        for (size_t t = p.first; t < p.end; t++) {
            const size_t row = p.map * x->n + t;
            const float *from = k->work + x->p + row * x->d;
            #pragma omp simd
            for (size_t c = 0; c < x->d; c++) base[c] += from[c];
            base[x->d] += k->work[x->pm + row];
        }
    }
    #pragma omp parallel for num_threads(k->c->threads)
    for (size_t map = 0; map < x->maps; map++) merge_bases(k, map, true);
}

/* Tokens of a causal piece to the right of it belong to later pieces with a
 * larger top: scales their part of the planes to this one's. */
static void scale_to_top(const job *k, const piece *p, size_t planes,
                         float *in)
{
    const layout *x = &k->x;
    const float *top = k->work + x->top + p->map * x->pieces;
    const size_t own_piece = p->index % x->pieces;
    const strip s = strip_of(x, p, 0, 0);
    for (size_t i = p->x1 - p->x0; x->w.causal && i < s.hi; i++) {
        const size_t other = (p->x0 + i) / x->piece_columns;
        const float scale = expf(top[own_piece] - top[other]);
        for (size_t c = 0; c < planes; c++) in[c * x->plane + i] *= scale;
    }
}

/* How far the turned window reaches to the left. */
static size_t turned_left(const layout *x)
{
    return (size_t)(x->w.columns - 1 - x->w.left);
}

/* U or W of `channels` columns of from [n][d] into out. */
static void gather_sources(const job *k, const piece *p, const float *from,
                           size_t d, size_t c0, size_t channels,
                           const float *base, float *in, float *out)
{
    const layout *x = &k->x;
    const size_t h = p->map % x->heads;
    lay_out(k, p, turned_left(x), from, d, c0, channels, NULL, in);
    scale_to_top(k, p, channels, in);
    convolve(x, p, k->work + x->weight + h * x->w.taps, true, channels, in, out);
    for (size_t c = 0; c < channels; c++)
        add_base(x, p, k->work[x->e0 + h], base[c], in + c * x->plane, true,
                 out + c * x->own_plane);
}

/* dv of the channels, and sum_c v_c U_c added to `along`. */
static void value_gradients(const job *k, const piece *p, size_t c0,
                            size_t channels, const float *e, const float *u,
                            float *along)
{
    const layout *x = &k->x;
    for (size_t t = p->first; t < p->end; t++) {
        const size_t i =
            (t / x->width - p->y0) * x->own_pitch + t % x->width - p->x0;
        const size_t at = (p->map * x->n + t) * x->d + c0;
        const float *v = (const float *)k->c->v + at;
        const float weight = e[t - p->first];
        float sum = 0;
        for (size_t c = 0; c < channels; c++) {
            const float y = u[c * x->own_plane + i];
            sum += v[c] * y;
            if (k->g->dv) k->g->dv[at + c] = weight * y;
        }
        along[i] += sum;
    }
}

/* sum over the piece's tokens of a[y][x] b[y + ty][x + tx], for eight (or one)
 * taps of a row of the window. */
SIMD_INLINE void correlate(const int taps, const layout *x, const piece *p,
                           const float *a, const float *b, float *out)
{
    const size_t columns = p->x1 - p->x0;
    vf sum[UNITS];
    UNROLL for (int i = 0; i < taps; i++) sum[i] = v_zero();
    for (size_t y = 0; y < p->y1 - p->y0; y++)
        for (size_t c = 0; c < columns; c += VL) {
            const size_t lanes = columns - c < VL ? columns - c : VL;
            const vf s = v_load_n(a + y * x->pitch + c, lanes);
            UNROLL for (int i = 0; i < taps; i++)
                sum[i] = v_fma(s, v_load(b + y * x->pitch + c + i), sum[i]);
        }
    UNROLL for (int i = 0; i < taps; i++) out[i] += v_sum(sum[i]);
}

/* Adds sign * sum_t a_t b_{t + o} to dw, planes of sources a and of keys b; a's
 * own tokens start at the reach of the turned window. */
static void correlate_plane(const layout *x, const piece *p, float sign,
                            const float *a, const float *b, float *dw)
{
    const float *from = a +
                        (size_t)(x->w.rows - 1 - x->w.up) * x->pitch +
                        turned_left(x);
    for (size_t ty = 0; ty < (size_t)x->w.rows; ty++)
        for (size_t tx = 0; tx < (size_t)x->w.columns;) {
            const size_t left = (size_t)x->w.columns - tx;
            const float *to = b + ty * x->pitch + tx;
            float sum[UNITS] = { 0 };
            const size_t taps = left >= UNITS ? UNITS : 1;
            if (taps == UNITS) correlate(UNITS, x, p, from, to, sum);
            else correlate(1, x, p, from, to, sum);
            for (size_t i = 0; i < taps; i++)
                dw[ty * (size_t)x->w.columns + tx + i] += sign * sum[i];
            tx += taps;
        }
}

static void backward_piece(const job *k, size_t index)
{
    const layout *x = &k->x;
    const piece p = piece_of(x, index);
    const size_t h = p.map % x->heads, d = x->d, left = (size_t)x->w.left;
    const float *base = k->work + x->base + index * (d + 1);
    const float *key = (const float *)k->c->k + p.map * x->n;
    const float *v = (const float *)k->c->v + p.map * x->n * d;
    const float *source = k->work + x->p + p.map * x->n * d;
    float *mine = own(k), *x0 = mine + x->x, *in = mine + x->in;
    float *keys = in + GROUP * x->plane, *out = mine + x->out;
    float *along = mine + x->den, *e = mine + x->row;
    float *dw = k->work + x->share +
                ((size_t)omp_get_thread_num() * x->heads + h) * x->w.taps;

    exponentials(key + p.first, p.end - p.first, k->work[x->top + index], e);
    lay_out_keys(k, &p, x0);
    memset(along, 0, x->own_plane * sizeof *along);
    for (size_t c = 0; c < d; c += GROUP) {
        const size_t channels = d - c < GROUP ? d - c : GROUP;
        gather_sources(k, &p, source, d, c, channels, base + c, in, out);
        value_gradients(k, &p, c, channels, e, out, along);
        lay_out(k, &p, left, v, d, c, channels, x0, keys);
        for (size_t i = 0; i < channels; i++)
            correlate_plane(x, &p, 1, in + i * x->plane, keys + i * x->plane,
                            dw);
    }
    gather_sources(k, &p, k->work + x->pm + p.map * x->n, 1, 0, 1, base + d, in,
                   out);
    correlate_plane(x, &p, -1, in, x0, dw);
    for (size_t t = p.first; k->g->dk && t < p.end; t++) {
        const size_t i =
            (t / x->width - p.y0) * x->own_pitch + t % x->width - p.x0;
        k->g->dk[p.map * x->n + t] = e[t - p.first] * (along[i] - out[i]);
    }
}

/* Tokens that were evaluated exactly send their gradients here; dw [taps] of
 * their head is multiplied by exp(w - m) beforehand.  Their p, which is 0 and
 * not needed any more, makes room for G / sum. */
static void backward_exact(const job *k, size_t row, float *dw)
{
    const layout *x = &k->x;
    const size_t map = row / x->n, t = row % x->n, d = x->d;
    const size_t end = conv_seen(k->c->p, &x->w, t);
    const float *mean = k->mean + row * d;
    float *a = own(k) + x->row, *p = k->work + x->p + row * d;
    const float inverse = 1 / exact_weights(k, map, t, a);
    for (size_t c = 0; c < d; c += VL) {
        const size_t lanes = d - c < VL ? d - c : VL;
        const vf q = v_load_n((const float *)k->c->q + row * d + c, lanes);
        const vf dout = v_load_n(k->g->dout + row * d + c, lanes);
        v_store_n(p + c, dout * v_sigmoid(q) * inverse, lanes);
    }
    for (size_t j = 0; (j = next_weight(a, j, end)) < end; j++) {
        const size_t to = map * x->n + j;
        const float *v = (const float *)k->c->v + to * d;
        vf sum = v_zero();
        for (size_t c = 0; c < d; c += VL) {
            const size_t lanes = d - c < VL ? d - c : VL;
            const vf dv = v_load_n(p + c, lanes) * a[j];
            float *out = k->g->dv ? k->g->dv + to * d + c : NULL;
            sum += dv * (v_load_n(v + c, lanes) - v_load_n(mean + c, lanes));
            if (out) v_store_n(out, v_load_n(out, lanes) + dv, lanes);
        }
        a[j] = v_sum(sum); /* the gradient in place of the weight */
        if (k->g->dk) k->g->dk[to] += a[j];
    }
    for (ptrdiff_t y = 0; y < x->w.rows; y++)
        for (ptrdiff_t i = 0; i < x->w.columns; i++) {
            const ptrdiff_t j = tap_key(x, t, y, i);
            if (j >= 0) dw[y * x->w.columns + i] += a[j];
        }
}

/* G of a row, in place of its p; returns G.mean. */
static float make_gated(const job *k, size_t row)
{
    const size_t d = k->x.d;
    float *p = k->work + k->x.p + row * d;
    vf sum = v_zero();
    for (size_t c = 0; c < d; c += VL) {
        const size_t lanes = d - c < VL ? d - c : VL;
        const vf q = v_load_n((const float *)k->c->q + row * d + c, lanes);
        const vf y = v_load_n(k->g->dout + row * d + c, lanes) * v_sigmoid(q);
        sum += v_first(y * v_load_n(k->mean + row * d + c, lanes), lanes);
        v_store_n(p + c, y, lanes);
    }
    return v_sum(sum);
}

/* dv and dk of key `to` from a weight a of p, whose mean of v is `along` / |p|;
 * returns p.v - along. */
static float send(const job *k, const float *p, float along, float a, size_t to)
{
    const size_t d = k->x.d;
    const float *v = (const float *)k->c->v + to * d;
    float *dv = k->g->dv ? k->g->dv + to * d : NULL;
    vf sum = v_zero();
    for (size_t c = 0; c < d; c += VL) {
        const size_t lanes = d - c < VL ? d - c : VL;
        const vf y = v_load_n(p + c, lanes);
        sum += v_first(y * v_load_n(v + c, lanes), lanes);
        if (dv) v_store_n(dv + c, v_fma(v_set1(a), y, v_load_n(dv + c, lanes)), lanes);
    }
    const float de = v_sum(sum) - along;
    if (k->g->dk) k->g->dk[to] += a * de;
    return de;
}

/* Tokens of a map that took their window and the sum over all keys.  What the
 * latter has to send is gathered in the place of p of the first of them. */
static void backward_near(const job *k, size_t map, float *dw)
{
    const layout *x = &k->x;
    const float *key = (const float *)k->c->k + map * x->n;
    float *a = own(k) + x->row, *e = a + rounded(x->n), *gathered = NULL;
    float sum = 0, along = 0;
    const float top = k->work[x->top + map * x->pieces];
    exponentials(key, x->n, top, a);
    for (size_t j = 0; j < x->n; j++) sum += a[j];
    for (size_t t = 0; t < x->n; t++) {
        const size_t row = map * x->n + t;
        if (k->den[row] >= 0) continue;
        const float pm = make_gated(k, row);
        float *p = k->work + x->p + row * x->d;
        const float share = near_weights(k, map, t, top, sum, 0, a, e);
        size_t at = 0;
        for (int y = 0; y < x->w.rows; y++) {
            const near_keys r = near_keys_of(x, t, y);
            for (size_t i = 0; i < r.n; i++, at++)
                dw[r.tap + i] +=
                    e[at] * send(k, p, pm, a[at], map * x->n + r.key + i);
        }
        along += share * pm;
        for (size_t c = 0; c < x->d; c++)
            if (gathered) gathered[c] += share * p[c];
            else p[c] *= share;
        if (!gathered) gathered = p;
    }
    if (!gathered) return;
    exponentials(key, x->n, top, a);
    for (size_t j = 0; j < x->n; j++)
        send(k, gathered, along, a[j], map * x->n + j);
}

/* A thread has the maps of a head, so that their dw is its own. */
static void backward_exact_rows(const job *k, float *dw)
{
    const layout *x = &k->x;
    #pragma omp parallel for schedule(dynamic) num_threads(k->c->threads)
    for (size_t h = 0; h < x->heads; h++)
        for (size_t map = h; map < x->maps; map += x->heads) {
            for (size_t row = map * x->n; row < (map + 1) * x->n; row++)
                if (k->den[row] == 0)
                    backward_exact(k, row, dw + h * x->w.taps);
            if (!x->w.causal) backward_near(k, map, dw + h * x->w.taps);
        }
}

/* Shares of the threads times exp(w - m), the exact rows, then w, gamma, beta. */
static void finish_windows(const job *k)
{
    const layout *x = &k->x;
    const size_t all = x->heads * x->w.taps;
    float *dw = k->work + x->weight; /* E is not needed any more */
    for (size_t i = 0; i < all; i++) {
        float sum = 0;
        for (size_t t = 0; t < (size_t)k->c->threads; t++)
            sum += k->work[x->share + t * all + i];
        dw[i] = sum * k->work[x->exact_weight + i];
    }
    if (k->exact[0] > 0) backward_exact_rows(k, dw);
    /* one key has all the weight whatever its logit is, and what rounding leaves
     * of the difference is multiplied by gamma / (std w + 1e-5) */
    if (x->n == 1) {
        memset(dw, 0, all * sizeof *dw);
        if (k->g->dk) memset(k->g->dk, 0, x->maps * sizeof(float));
    }
    for (size_t h = 0; h < x->heads; h++) {
        const size_t at = h * x->w.taps;
        float *hat = k->work + x->hat + at;
        const float std = conv_effective(k->c, x->w.taps, h,
                                         k->work + x->effective + at, hat);
        conv_effective_backward(k->c, k->g, x->w.taps, h, dw + at, hat, std);
    }
}

static void backward(const att_call *c, const att_grad *g)
{
    const job k = job_of(c, g);
    make_windows(&k);
    make_tops(&k);
    make_sources(&k);
    make_source_bases(&k);
    memset(k.work + k.x.share, 0,
           (size_t)c->threads * k.x.heads * k.x.w.taps * sizeof(float));
    #pragma omp parallel for schedule(static, 1) num_threads(c->threads)
    for (size_t i = 0; i < k.x.maps * k.x.pieces; i++) backward_piece(&k, i);
    finish_windows(&k);
}

ATT_KERNELS = {
    {
        .name = "aft_conv.conv",
        .mechanism = "aft_conv",
        .brief = "convolution of planes, lanes are positions",
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
