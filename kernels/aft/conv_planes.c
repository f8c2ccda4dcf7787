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
 * so are tokens that see one key, whose gradients are 0 times 1 / std.  A map
 * with many of the former is done again in double (wide.h): nothing is a difference
 * there,
 *     den = e0 sum_{j outside} X_j + conv(X, exp(w - m)),
 * the sums over what is outside a window being those from both sides.
 *
 * Backward: with p = G / den, pm = sum_c p_c m_c and the window turned round,
 *     U_c = e0 sum_t p_tc + conv'(p_c, E),   W likewise from pm,
 *     dv = X U,  dk = X (sum_c v_c U_c - W),
 *     dw_o = exp(w_o - m) sum_t (sum_c p_tc X_j v_jc - pm_t X_j),  j = t + o.
 */
#include "../tile.h"
#include "conv.h"
#include "wide.h"

#include <omp.h>

enum {
    GROUP = 16, /* channels laid out together                               */
    UNITS = 8,  /* vectors summed at a time                                 */
    SHARE = 32, /* least part of its sum that a denominator may be          */
    PIECE = 256, /* longest piece of a causal sequence                      */
    WIDE_GROUP = UNITS /* channels in double                                */
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
    size_t wide; /* by map: whether it is done in double                    */
} layout;

/* Where things lie for a map in double, in the place of the above: floats from
 * `own`. */
typedef struct wide_layout {
    size_t flat, weight, dw, x, in, keys, out, den, along, row_sums, band, row;
    size_t total;
} wide_layout;

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

static void set_planes(layout *x)
{
    x->own_pitch = rounded(x->piece_columns);
    x->own_plane = x->piece_rows * x->own_pitch;
    x->pitch = rounded(x->own_pitch + (size_t)x->w.columns - 1);
    x->plane = (x->piece_rows + (size_t)x->w.rows - 1) * x->pitch;
}

/* With all of a map as one piece. */
static layout whole_of(layout x)
{
    x.pieces = 1;
    x.piece_rows = x.height;
    x.piece_columns = x.width;
    set_planes(&x);
    return x;
}

static wide_layout wide_layout_of(const layout *whole, bool back)
{
    const size_t plane = 2 * whole->plane, own = 2 * whole->own_plane;
    const size_t taps = 2 * rounded(whole->w.taps), group = WIDE_GROUP;
    wide_layout w = { 0 };
    size_t at = 0;
    w.row = at, at += rounded(whole->n);
    w.flat = at, at += group * whole->plane;
    w.weight = at, at += taps;
    w.dw = at, at += back ? taps : 0;
    w.x = at, at += plane;
    w.in = at, at += group * plane;
    w.keys = at, at += back ? group * plane : 0;
    w.out = at, at += group * own;
    w.den = at, at += back ? plane : own;
    w.along = at, at += back ? own : 0;
    w.row_sums = at;
    at += 2 * group * rounded(2 * whole->height + (size_t)whole->w.rows);
    w.band = at, at += 2 * whole->pitch;
    w.total = at;
    return w;
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
    set_planes(&x);

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
    x.wide = at, at += rounded(x.maps);
    x.own = at = rounded(at), at = 0;
    x.x = at, at += x.plane;
    x.in = at, at += GROUP * x.plane * (back ? 2 : 1);
    x.out = at, at += GROUP * x.own_plane;
    x.den = at, at += x.own_plane;
    x.inverse = at, at += x.own_plane;
    x.row = at, at += rounded(x.n);
    const layout whole = whole_of(x);
    const size_t wide = wide_layout_of(&whole, back).total;
    x.per_thread = at > wide ? at : wide;
    x.total = x.own + (size_t)threads * x.per_thread;
    return x;
}

/* Kept: whether any token or map was evaluated exactly, mean [maps][n][d],
 * den [maps][n] (0: exactly; WIDE: in double), and den in double. */
#define WIDE (-1.0f)

static size_t saved_floats(const att_problem *p)
{
    const size_t rows =
        (size_t)p->batch * (size_t)p->heads * att_tokens(p);
    return 16 + rounded(rows * ((size_t)p->head_dim + 1)) + 2 * rows;
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
    double *wide_den;
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
        k.wide_den =
            (double *)(k.mean + rounded(k.x.maps * k.x.n * (k.x.d + 1)));
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

/* How far the turned window reaches to the left. */
static size_t turned_left(const layout *x)
{
    return (size_t)(x->w.columns - 1 - x->w.left);
}

#define REAL float
#define VEC vf
#define LANES VL
#define NAME(f) f
#define LOAD v_load
#define LOAD_N v_load_n
#define STORE v_store
#define SUM v_sum
#include "conv_products.h"

#define REAL double
#define VEC vd
#define LANES VD
#define NAME(f) wide_##f
#define LOAD wide_load
#define LOAD_N wide_load_n
#define STORE wide_store
#define SUM wide_sum
#include "conv_products.h"

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

/* Keys of row y of the window of token t that are on the map (all of them are
 * seen): n from `key` on, with taps from `tap` on. */
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
    for (int y = 0; y < x->w.rows; y++) {
        const near_keys near = near_keys_of(x, t, y);
        #pragma omp simd
        for (size_t i = 0; i < near.n; i++)
            a[near.key + i] += effective[near.tap + i];
    }
    for (size_t j = end; j % VL != 0; j++) a[j] = -1e38f;
    for (size_t j = 0; j < end; j += VL) {
        const vf s = v_max(v_min(v_load(a + j), v_set1(1e38f)), v_set1(-1e38f));
        v_store(a + j, s);
        max = v_max(max, s);
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

/* sum_j a[j] v[j][..] of some channels; v has rows of d, `left` floats in all:
 * lanes beyond are anything. */
static vf average(const float *a, const float *v, size_t d, size_t left,
                  size_t end)
{
    vf sum[2] = { v_zero(), v_zero() };
    for (size_t j = 0; (j = next_weight(a, j, end)) < end;) {
        const size_t vector = j - j % VL + VL, stop = vector < end ? vector : end;
        for (; j < stop; j++) {
            const vf x = j * d + VL <= left ? v_load(v + j * d)
                                            : v_load_n(v + j * d, left - j * d);
            sum[j % 2] = v_fma(v_set1(a[j]), x, sum[j % 2]);
        }
    }
    return sum[0] + sum[1];
}

/* The mean of token t by its own maximum. */
static void exact_mean(const job *k, size_t map, size_t t, float *a)
{
    const layout *x = &k->x;
    const float *v = (const float *)k->c->v + map * x->n * x->d;
    float *mean = (float *)k->c->o + (map * x->n + t) * x->d;
    const float inverse = 1 / exact_weights(k, map, t, a);
    for (size_t c = 0; c < x->d; c += VL) {
        const size_t lanes = x->d - c < VL ? x->d - c : VL;
        v_store_n(mean + c,
                  average(a, v + c, x->d, x->n * x->d - c,
                          conv_seen(k->c->p, &x->w, t)) * inverse,
                  lanes);
    }
}

static size_t own_place(const layout *x, const piece *p, size_t t)
{
    return (t / x->width - p->y0) * x->own_pitch + t % x->width - p->x0;
}

/* Makes den 0 where it cannot be trusted, and `any` true; returns how many of these
 * tokens see more than one key.  base: sum over the keys that den is a difference of; causal:
 * over those before the piece, whose own are in x0. */
static size_t find_lost(const job *k, const piece *p, float base,
                        const float *x0, float *den, bool *any)
{
    const layout *x = &k->x;
    const float share = k->work[x->e0 + p->map % x->heads] / SHARE;
    size_t lost = 0;
    bool nan = false; /* which numbers in double would hide */
    for (size_t t = p->first; t < p->end; t++) {
        float *own_den = den + own_place(x, p, t);
        if (x->w.causal) base += x0[t - p->first + (size_t)x->w.left];
        const bool several = conv_seen(k->c->p, &x->w, t) > 1;
        if (several && *own_den >= fmaxf(TINY, share * base)) continue;
        lost += several;
        nan |= isnan(*own_den);
        *own_den = 0;
        *any = true;
    }
    return nan ? 0 : lost;
}

/* The means of tokens whose den is 0. */
static void store_exact(const job *k, const piece *p, const float *den, float *a)
{
    for (size_t t = p->first; t < p->end; t++)
        if (den[own_place(&k->x, p, t)] == 0) exact_mean(k, p->map, t, a);
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
            k->den[p->map * x->n + t] = den[own_place(x, p, t)];
    }
    for (size_t i = 0; i < n; i += VL) {
        const size_t lanes = n - i < VL ? n - i : VL;
        const vf y = v_load_n(o + i, lanes) * v_sigmoid(v_load_n(q + i, lanes));
        v_store_n(o + i, y, lanes);
    }
}

/* Whether a map is to be done in double, which pieces of it find. */
static bool is_wide(const job *k, size_t map)
{
    float wide;
    #pragma omp atomic read
    wide = k->work[k->x.wide + map];
    return wide > 0;
}

static void make_wide(const job *k, size_t map)
{
    #pragma omp atomic write
    k->work[k->x.wide + map] = 1;
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

    if (is_wide(k, p.map)) return true;
    lay_out_keys(k, &p, x0);
    convolve(x, &p, weight, false, 1, x0, den);
    add_base(x, &p, e0, base[d], x0, false, den);
    bool exact = false;
    const size_t lost = find_lost(k, &p, base[d], x0, den, &exact);
    if (lost > 2 * d || 8 * lost > p.end - p.first) {
        make_wide(k, p.map);
        return true;
    }
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
    if (exact) store_exact(k, &p, den, mine + x->row);
    gate_piece(k, &p, den);
    return exact;
}

/* ---- in double ---------------------------------------------------------------------------------------- */

/* A map as one piece, and where its numbers in double lie. */
typedef struct wide_map {
    job k;
    piece p;
    double e0;
    float *flat, *row; /* planes of floats; [n]                              */
    double *weight, *dw, *x, *in, *keys, *out, *den, *along, *row_sums, *band;
} wide_map;

/* Keys so far apart have an X that is not 0. */
#define WIDE_KEYS 600.0f

/* What exponents of w are raised by then, so that these may lie so much farther
 * apart: sums are below n e^600, and p exp(w - m), a weight by its X, is too. */
#define WIDE_RAISED 600.0f

/* e^-650: what is not 0 is above e^-700. */
#define WIDE_TINY 0x1p-938

static bool keys_are_near(const float *key, size_t n, float top)
{
    vf min = v_set1(top);
    for (size_t i = 0; i < n; i += VL) {
        const size_t lanes = n - i < VL ? n - i : VL;
        min = v_min(min, v_select(vi_first(lanes), v_load_n(key + i, lanes), min));
    }
    return top + v_hmax(-min) <= WIDE_KEYS;
}

/* Of a map at work, with exp(w - m), raised or not, and X. */
static wide_map wide_map_of(const job *base, size_t map)
{
    wide_map w = { .k = *base };
    layout *x = &w.k.x;
    *x = whole_of(*x);
    const wide_layout at = wide_layout_of(x, base->g);
    float *mine = own(base);
    w.p = piece_of(x, map);
    w.flat = mine + at.flat, w.row = mine + at.row;
    w.weight = (double *)(mine + at.weight), w.dw = (double *)(mine + at.dw);
    w.x = (double *)(mine + at.x), w.in = (double *)(mine + at.in);
    w.keys = (double *)(mine + at.keys), w.out = (double *)(mine + at.out);
    w.den = (double *)(mine + at.den), w.along = (double *)(mine + at.along);
    w.row_sums = (double *)(mine + at.row_sums);
    w.band = (double *)(mine + at.band);

    const float *effective =
        w.k.work + x->effective + map % x->heads * x->w.taps;
    const float *key = (const float *)w.k.c->k + map * x->n;
    const float top = w.k.work[x->top + (map + 1) * base->x.pieces - 1];
    float max = 0;
    for (size_t i = 0; i < x->w.taps; i++) max = fmaxf(max, effective[i]);
    if (keys_are_near(key, x->n, top)) max -= WIDE_RAISED;
    aft_wide_weights(effective, x->w.taps, x->w.taps, max, w.weight);
    w.e0 = exp(-(double)max);

    memset(w.x, 0, x->plane * sizeof *w.x);
    for (size_t r = 0; r < plane_rows(x, &w.p); r++) {
        const strip s = strip_of(x, &w.p, r, (size_t)x->w.left);
        double *to = w.x + r * x->pitch + s.lo;
        for (size_t i = 0; i < s.hi - s.lo; i += VD) {
            const size_t lanes = wide_lanes(s.hi - s.lo, i);
            wide_store_n(to + i,
                         wide_exp(wide_of(key + s.token + i, lanes) -
                                  (double)top),
                         lanes);
        }
    }
    return w;
}

/* to[c] = from[c] scale, planes of floats and of doubles. */
static void widen(const layout *x, size_t planes, const float *from,
                  const double *scale, double *to)
{
    for (size_t c = 0; c < planes; c++)
        for (size_t i = 0; i < x->plane; i += VD)
            wide_store(to + c * x->plane + i,
                       wide_of(from + c * x->plane + i, VD) *
                           wide_load(scale + i));
}

/* Columns of a padded row that may lie on the map. */
static size_t used_columns(const layout *x)
{
    return x->width + (size_t)x->w.columns - 1;
}

/* beside[y] = sums over the rows of a plane above and below the window of row y,
 * which has H of them; sums: scratch. */
static void sum_rows(const layout *x, const double *in, double *beside,
                     double *sums)
{
    const size_t rows = (size_t)x->w.rows;
    double above = 0, below = 0;
    for (size_t r = 0; r < x->height + rows - 1; r++) {
        vd all = { 0 };
        for (size_t i = 0; i < used_columns(x); i += VD)
            all += wide_load(in + r * x->pitch + i);
        sums[r] = wide_sum(all);
    }
    for (size_t y = 0; y < x->height; y++) {
        beside[y] = above;
        above += sums[y];
    }
    for (size_t y = x->height; y-- > 0;) {
        beside[y] += below;
        below += sums[y + rows - 1];
    }
}

/* Sums over the columns of rows y .. y + w.rows of a plane. */
static void sum_band(const layout *x, const double *in, double *band)
{
    for (size_t i = 0; i < used_columns(x); i += VD) {
        vd sum = wide_load(in + i);
        for (size_t r = 1; r < (size_t)x->w.rows; r++)
            sum += wide_load(in + r * x->pitch + i);
        wide_store(band + i, sum);
    }
}

/* Adds e0 times the sums of `in` over what is outside the window of each token,
 * from both sides; causal: what is seen of that, before it or, turned, after. */
static void add_outside(const wide_map *w, bool turned, size_t planes,
                        const double *in, double *out)
{
    const layout *x = &w->k.x;
    const size_t columns = (size_t)x->w.columns, pitch = x->pitch;
    const size_t stride = rounded(2 * x->height + (size_t)x->w.rows);
    const bool causal = x->w.causal;
    const size_t reach = causal ? columns - 1 : columns / 2;
    if (w->e0 == 0) return;
    if (reach + 1 >= x->width && (x->height == 1 || reach + 1 >= x->height))
        return;
    for (size_t c = 0; x->height > 1 && c < planes; c++)
        sum_rows(x, in + c * x->plane, w->row_sums + c * stride,
                 w->row_sums + c * stride + x->height);
    for (size_t y = 0; y < x->height; y++) {
        for (size_t c = 0; c < planes; c++) {
            double *to = out + c * x->own_plane + y * x->own_pitch;
            double left = x->height > 1 ? w->row_sums[c * stride + y] : 0;
            double right = 0;
            sum_band(x, in + c * x->plane + y * pitch, w->band);
            for (size_t i = 0; !(causal && turned) && i < x->width; i++) {
                to[i] += w->e0 * left;
                left += w->band[i];
            }
            for (size_t i = x->width; !(causal && !turned) && i-- > 0;) {
                to[i] += w->e0 * right;
                right += w->band[i + columns - 1];
            }
        }
    }
}

/* Planes of sums: over the window, and over what is outside of it. */
static void gather(const wide_map *w, bool turned, size_t planes,
                   const double *in, double *out)
{
    wide_convolve(&w->k.x, &w->p, w->weight, turned, planes, in, out);
    add_outside(w, turned, planes, in, out);
}

/* Planes of floats to rows of d of the piece, from channel c0 on. */
static void lay_back(const layout *x, const piece *p, size_t c0, size_t planes,
                     const float *from, float *to)
{
    for (size_t y = 0; y < p->y1 - p->y0; y++)
        tile_transpose(from + y * x->own_pitch, x->own_plane, planes,
                       p->x1 - p->x0,
                       to + ((p->map * x->n + p->y0 * x->width + p->x0 +
                              y * x->width) * x->d + c0),
                       x->d, planes, 1);
}

/* Whether what is outside of the windows counts beside what is in any of them,
 * whose sums are in w->den. */
static bool outside_counts(const wide_map *w)
{
    const layout *x = &w->k.x;
    double all = 0, least = INFINITY;
    for (size_t i = 0; i < x->plane; i++) all += w->x[i];
    for (size_t y = 0; y < x->height; y++)
        for (size_t i = 0; i < x->width; i++)
            least = fmin(least, w->den[y * x->own_pitch + i]);
    return w->e0 * all > 0x1p-60 * least;
}

/* Which tokens can be trusted, told in den. */
static void find_wide(const wide_map *w, float *den)
{
    const job *k = &w->k;
    for (size_t t = 0; t < k->x.n; t++) {
        const size_t i = own_place(&k->x, &w->p, t);
        const bool several = conv_seen(k->c->p, &k->x.w, t) > 1;
        den[i] = several && w->den[i] >= WIDE_TINY ? WIDE : 0;
        if (k->wide_den) k->wide_den[w->p.map * k->x.n + t] = w->den[i];
    }
}

static void forward_wide(const job *base, size_t map)
{
    wide_map w = wide_map_of(base, map);
    const job *k = &w.k;
    const layout *x = &k->x;
    float *den = (float *)w.out; /* when that is done with */
    wide_convolve(x, &w.p, w.weight, false, 1, w.x, w.den);
    if (!outside_counts(&w)) w.e0 = 0;
    add_outside(&w, false, 1, w.x, w.den);
    for (size_t c = 0; c < x->d; c += WIDE_GROUP) {
        const size_t planes = x->d - c < WIDE_GROUP ? x->d - c : WIDE_GROUP;
        lay_out(k, &w.p, (size_t)x->w.left,
                (const float *)k->c->v + map * x->n * x->d, x->d, c, planes,
                NULL, w.flat);
        widen(x, planes, w.flat, w.x, w.in);
        gather(&w, false, planes, w.in, w.out);
        for (size_t i = 0; i < planes * x->own_plane; i += VD)
            wide_narrow(w.flat + i,
                        wide_load(w.out + i) /
                            wide_load(w.den + i % x->own_plane),
                        VD);
        lay_back(x, &w.p, c, planes, w.flat, (float *)k->c->o);
    }
    find_wide(&w, den);
    store_exact(k, &w.p, den, w.row);
    gate_piece(k, &w.p, den);
}

static void forward_wide_maps(const job *k)
{
    #pragma omp parallel for schedule(dynamic) num_threads(k->c->threads)
    for (size_t map = 0; map < k->x.maps; map++)
        if (is_wide(k, map)) forward_wide(k, map);
}

static void forward(const att_call *c)
{
    const job k = job_of(c, NULL);
    int exact = 0;
    memset(k.work + k.x.wide, 0, k.x.maps * sizeof(float));
    make_windows(&k);
    conv_tell_window(c, k.x.heads * k.x.w.taps, k.work + k.x.effective);
    make_tops(&k);
    make_bases(&k);
    #pragma omp parallel for schedule(static, 1) reduction(| : exact)          \
        num_threads(c->threads)
    for (size_t i = 0; i < k.x.maps * k.x.pieces; i++)
        exact |= forward_piece(&k, i);
    if (exact) forward_wide_maps(&k);
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

/* Whether forward did a map in double. */
static bool was_wide(const job *k, size_t map)
{
    return k->work[k->x.wide + map] > 0;
}

static void find_wide_maps(const job *k)
{
    for (size_t map = 0; map < k->x.maps; map++) {
        float any = 0;
        for (size_t t = 0; t < k->x.n; t++)
            any = fmaxf(any, k->den[map * k->x.n + t] == WIDE);
        k->work[k->x.wide + map] = any;
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

    if (was_wide(k, p.map)) return;
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
        const vf q = aft_load((const float *)k->c->q + row * d + c, lanes);
        const vf dout = aft_load(k->g->dout + row * d + c, lanes);
        aft_store(p + c, dout * v_sigmoid(q) * inverse, lanes);
    }
    for (size_t j = 0; (j = next_weight(a, j, end)) < end; j++) {
        const size_t to = map * x->n + j;
        const float *v = (const float *)k->c->v + to * d;
        vf sum = v_zero();
        for (size_t c = 0; c < d; c += VL) {
            const size_t lanes = d - c < VL ? d - c : VL;
            const vf dv = aft_load(p + c, lanes) * a[j];
            float *out = k->g->dv ? k->g->dv + to * d + c : NULL;
            sum += dv * (aft_load(v + c, lanes) - aft_load(mean + c, lanes));
            if (out) aft_store(out, aft_load(out, lanes) + dv, lanes);
        }
        a[j] = v_sum(sum); /* the gradient in place of the weight */
        if (k->g->dk) k->g->dk[to] += a[j];
    }
    for (int y = 0; y < x->w.rows; y++) {
        const near_keys near = near_keys_of(x, t, y);
        #pragma omp simd
        for (size_t i = 0; i < near.n; i++) dw[near.tap + i] += a[near.key + i];
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

/* ---- backward in double ------------------------------------------------------------------------------- */

/* 1 / den of the tokens in double, in the place of the source planes' keys. */
static void lay_out_scales(const wide_map *w, double *plane)
{
    const job *k = &w->k;
    const layout *x = &k->x;
    memset(plane, 0, x->plane * sizeof *plane);
    for (size_t r = 0; r < plane_rows(x, &w->p); r++) {
        const strip s = strip_of(x, &w->p, r, turned_left(x));
        for (size_t i = s.lo; i < s.hi; i++) {
            const size_t row = w->p.map * x->n + s.token + i - s.lo;
            if (k->den[row] == WIDE) plane[r * x->pitch + i] = 1 / k->wide_den[row];
        }
    }
}

/* dv of the channels from U in w->out, whose products with v, laid out in w->flat,
 * are added to w->along. */
static void wide_values(const wide_map *w, size_t c0, size_t planes)
{
    const layout *x = &w->k.x;
    const size_t at = (size_t)x->w.up * x->pitch + (size_t)x->w.left;
    for (size_t y = 0; y < x->height; y++)
        for (size_t c = 0; c < planes; c++)
            for (size_t i = 0; i < x->own_pitch; i += VD) {
                const size_t own = y * x->own_pitch + i;
                const size_t padded = at + y * x->pitch + i;
                const vd u = wide_load(w->out + c * x->own_plane + own);
                const vd v = wide_of(w->flat + c * x->plane + padded, VD);
                const vd e = wide_load(w->x + padded);
                wide_store(w->along + own, wide_load(w->along + own) + u * v);
                /* a u of infinity has nothing to say to them */
                wide_store(w->out + c * x->own_plane + own,
                           (vd)((vl)(e * u) & (vl)(e > 0.0)));
            }
    if (!w->k.g->dv) return;
    for (size_t i = 0; i < planes * x->own_plane; i += VD)
        wide_narrow(w->flat + i, wide_load(w->out + i), VD);
    lay_back(x, &w->p, c0, planes, w->flat, w->k.g->dv);
}

static void wide_keys_gradient(const wide_map *w)
{
    const layout *x = &w->k.x;
    const double *e = w->x + (size_t)x->w.up * x->pitch + (size_t)x->w.left;
    for (size_t t = 0; w->k.g->dk && t < x->n; t++) {
        const double own = e[t / x->width * x->pitch + t % x->width];
        w->k.g->dk[w->p.map * x->n + t] =
            own > 0 ? (float)(own * w->along[own_place(x, &w->p, t)]) : 0;
    }
}

/* Of a map in double; adds to dw [taps] of its head. */
static void backward_wide(const job *base, size_t map, float *dw)
{
    wide_map w = wide_map_of(base, map);
    const job *k = &w.k;
    const layout *x = &k->x;
    const size_t first = map * x->n;
    double *scale = w.den; /* has room for that: a plane */
    memset(w.dw, 0, x->w.taps * sizeof *w.dw);
    lay_out_scales(&w, scale);
    for (size_t row = first; row < first + x->n; row++)
        if (k->den[row] == WIDE) k->work[x->pm + row] = make_gated(k, row);

    lay_out(k, &w.p, turned_left(x), k->work + x->pm + first, 1, 0, 1, NULL,
            w.flat);
    widen(x, 1, w.flat, scale, w.in);
    gather(&w, true, 1, w.in, w.along);
    for (size_t i = 0; i < x->own_plane; i++) w.along[i] = -w.along[i];
    wide_correlate_plane(x, &w.p, -1, w.in, w.x, w.dw);
    for (size_t c = 0; c < x->d; c += WIDE_GROUP) {
        const size_t planes = x->d - c < WIDE_GROUP ? x->d - c : WIDE_GROUP;
        lay_out(k, &w.p, turned_left(x), k->work + x->p + first * x->d, x->d, c,
                planes, NULL, w.flat);
        widen(x, planes, w.flat, scale, w.in);
        gather(&w, true, planes, w.in, w.out);
        lay_out(k, &w.p, (size_t)x->w.left,
                (const float *)k->c->v + first * x->d, x->d, c, planes, NULL,
                w.flat);
        widen(x, planes, w.flat, w.x, w.keys);
        for (size_t i = 0; i < planes; i++)
            wide_correlate_plane(x, &w.p, 1, w.in + i * x->plane,
                                 w.keys + i * x->plane, w.dw);
        wide_values(&w, c, planes);
    }
    wide_keys_gradient(&w);
    for (size_t i = 0; i < x->w.taps; i++) dw[i] += (float)(w.dw[i] * w.weight[i]);
}

/* A thread has the maps of a head, so that their dw is its own. */
static void backward_exact_rows(const job *k, float *dw)
{
    const layout *x = &k->x;
    #pragma omp parallel for schedule(dynamic) num_threads(k->c->threads)
    for (size_t h = 0; h < x->heads; h++)
        for (size_t map = h; map < x->maps; map += x->heads) {
            if (was_wide(k, map)) backward_wide(k, map, dw + h * x->w.taps);
            for (size_t row = map * x->n; row < (map + 1) * x->n; row++)
                if (k->den[row] == 0)
                    backward_exact(k, row, dw + h * x->w.taps);
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
    find_wide_maps(&k);
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
