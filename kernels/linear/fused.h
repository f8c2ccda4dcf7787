/* fused.h - attention between feature vectors, chunk by chunk in registers and
 * the first caches: the engine of the fused kernels of this folder.
 *
 *     S = sum_j K_j v_j',  z = sum_j K_j        keys, CHUNK rows at a time
 *     o_i = S' (Q_i / D_i),  D_i = Q_i.z        queries, likewise
 *
 * A chunk of tokens is mapped to features in a scratch that stays in the first
 * cache, and is multiplied at once; features, D and products never exist as
 * tensors.  v, o and gradients are read and written in place.  Products are the
 * register tiles of tile.h, so d >= 32 is bound by the FMA units: 4 d dv FLOPs
 * a token against a few operations a channel for the map, and horizontal sums
 * for D_i, which weigh about 10 % at d = 32.
 *
 * Causal: within a chunk the scores are made (lower triangle, TRIANGLE rows at
 * a time), before it the running S is used.  Chunks are shorter then, because
 * the triangle costs CHUNK (f + e) a token beside 2 f e.
 *
 * Few maps and many threads: the tokens of a map are split in `parts` with a
 * state each, summed in a fixed order (causal: prefix sums), so that results
 * depend on the number of threads by rounding alone.
 *
 * What a mechanism adds are the hooks of struct fused.
 *
 * Halves are converted as chunks are read and written: fused_input(), fused_v(),
 * fused_out(), fused_put().
 */
#ifndef LINEAR_FUSED_H
#define LINEAR_FUSED_H

#include "../store.h"
#include "../tile.h"
#include "layout.h"

#include <omp.h>

#define FUSED static inline __attribute__((unused))

enum {
    FUSED_CHUNK = 64,        /* tokens                                       */
    FUSED_CHUNK_CAUSAL = 32,
    FUSED_TRIANGLE = 16      /* rows of a chunk's scores made together       */
};

typedef struct fused fused;
typedef struct fused_chunk fused_chunk;

/* All of one call.  Rows of features have lf floats, rows of S le. */
struct fused {
    const att_call *c;
    const att_grad *g; /* NULL in forward                                    */
    int threads;
    size_t maps, n, m, f, e, lf, le;
    size_t group;      /* maps that map() sees at once: all heads, or 1      */
    size_t chunk;      /* tokens                                             */
    size_t parts;      /* of a map's tokens, for the threads                 */
    bool causal, scores_first;
    bool eps_rows;     /* map() of queries gives each its eps                */
    bool sum_batch;    /* unmap() of keys adds up over the batch, so that its
                          entries are visited by one thread in turn          */
    int dtype;         /* of q, k, v, o; hooks that read them in place: f32  */
    normaliser d;
    const void *own;   /* the mechanism's                                    */
    size_t hook_floats, sum_floats; /* of fused_chunk.scratch, .sums         */
    size_t kept_floats;             /* of `kept`                             */
    size_t extra_floats[2];         /* of `extra`, by pass                   */

    /* Features of a chunk; their gradient, to the gradient of q or k. */
    void (*map)(const fused_chunk *k);
    void (*unmap)(const fused_chunk *k);
    /* After S and z, or dS and dz, of a map are complete.  NULL: nothing. */
    void (*settle)(const fused *u, size_t map);
    void (*settle_back)(const fused *u, size_t map);
    /* Writes rows of o, or of dv, that attention is added to.  NULL: zeros. */
    void (*branch)(const fused *u, size_t map, size_t at, size_t rows,
                   float *o);
    void (*branch_back)(const fused *u, size_t map, size_t at, size_t rows,
                        float *dv);
    /* Writes rows of the gradient of attention's output.  NULL: dout. */
    void (*upstream)(const fused *u, size_t map, size_t at, size_t rows,
                     float *g, size_t pitch);

    /* Kept for backward. */
    float *s, *z;      /* [maps][f][le], [maps][lf]; not causal, not scores  */
    float *inverse;    /* 1 / D [maps][n]; NULL if there is no backward      */
    float *kept;       /* the mechanism's                                    */
    float *extra;      /* work of the mechanism                              */
    /* Work. */
    float *state;      /* S and z of parts, or of threads (causal)           */
    float *dstate;     /* dS and dz likewise                                 */
    float *turned;     /* transposed S, then dS [maps][e][lf]                */
    float *t;          /* (g.o) / D [maps][n]                                */
    float *sums;       /* [threads][sum_floats]                              */
    float *scratch;    /* [threads][scratch_floats]                          */
    size_t state_floats, scratch_floats, sums_pitch;
};

/* Tokens [at, at + rows) of the queries or the keys of `group` maps. */
struct fused_chunk {
    const fused *u;
    enum att_slot side;  /* ATT_Q or ATT_K                                   */
    size_t map, at, rows;
    float *phi, *dphi;   /* [group][chunk][lf]; lanes from f on stay 0       */
    float *eps;          /* of each query                                    */
    float *input;        /* halves: a chunk of q or k as float               */
    float *scratch;      /* hook_floats, undefined at entry                  */
    float *sums;         /* of this thread over the call, from 0             */
};

/* ---- rows ---------------------------------------------------------------- */

FUSED size_t fused_pitch(size_t n)
{
    return (n + VL - 1) / VL * VL;
}

/* C (+)= A B as tile_gemm, but four vectors left over are taken two and two:
 * 3 + 1 would leave a tile of one vector with too few sums in flight. */
FUSED void fused_gemm(size_t m, size_t n, size_t k, const float *a, size_t am,
                      size_t ak, const float *b, size_t ldb, float *c,
                      size_t ldc, bool add)
{
    const size_t vectors = (n + VL - 1) / VL;
    if (vectors > 3 && vectors % 3 == 1) {
        const size_t wide = (vectors - 4) * VL, two = wide + 2 * VL;
        tile_gemm(m, wide, k, a, am, ak, b, ldb, c, ldc, add);
        tile_gemm(m, 2 * VL, k, a, am, ak, b + wide, ldb, c + wide, ldc, add);
        tile_gemm(m, n - two, k, a, am, ak, b + two, ldb, c + two, ldc, add);
    } else tile_gemm(m, n, k, a, am, ak, b, ldb, c, ldc, add);
}

/* out[r] = x_r.y_r over whole vectors; ldy 0: one y for all rows. */
FUSED void fused_dots(const float *x, size_t ldx, size_t rows, const float *y,
                      size_t ldy, size_t columns, float *out)
{
    size_t r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * ldx, y += 4 * ldy) {
        vf sum[4] = { v_zero(), v_zero(), v_zero(), v_zero() };
        for (size_t c = 0; c < columns; c += VL)
            UNROLL for (size_t i = 0; i < 4; i++)
                sum[i] = v_fma(v_load(x + i * ldx + c),
                               v_load(y + i * ldy + c), sum[i]);
        v_sum4(sum[0], sum[1], sum[2], sum[3], out + r);
    }
    for (; r < rows; r++, x += ldx, y += ldy) {
        vf sum = v_zero();
        for (size_t c = 0; c < columns; c += VL)
            sum = v_fma(v_load(x + c), v_load(y + c), sum);
        out[r] = v_sum(sum);
    }
}

/* out[r] += sum of x_r y_r over n entries, the last vector masked; y NULL: of
 * x_r alone. */
FUSED void fused_add_dots(const float *x, size_t ldx, size_t rows, size_t n,
                          const float *y, size_t ldy, float *out)
{
    const size_t whole = n / VL * VL, last = n - whole;
    for (size_t r = 0; r < rows; r++, x += ldx, y += y ? ldy : 0) {
        vf sum = v_zero();
        for (size_t c = 0; c < whole; c += VL)
            sum = y ? v_fma(v_load(x + c), v_load(y + c), sum)
                    : sum + v_load(x + c);
        if (last) {
            const vf z = v_load_n(x + whole, last);
            sum = y ? v_fma(z, v_load_n(y + whole, last), sum) : sum + z;
        }
        out[r] += v_sum(sum);
    }
}

/* x_r *= a[r]. */
FUSED void fused_scale(float *x, size_t ldx, size_t rows, size_t columns,
                       const float *a)
{
    for (size_t r = 0; r < rows; r++, x += ldx) {
        const vf h = v_set1(a[r]);
        for (size_t c = 0; c < columns; c += VL)
            v_store(x + c, v_load(x + c) * h);
    }
}

/* sum[c] += sum of a[r] x_r[c]; a NULL: 1. */
FUSED void fused_sum(const float *x, size_t ldx, size_t rows, size_t columns,
                     const float *a, float *sum)
{
    for (size_t c = 0; c < columns; c += VL) {
        vf s = v_zero(), s2 = v_zero();
        size_t r = 0;
        for (; r + 2 <= rows; r += 2) {
            const vf y = v_load(x + r * ldx + c);
            const vf z = v_load(x + (r + 1) * ldx + c);
            s = a ? v_fma(v_set1(a[r]), y, s) : s + y;
            s2 = a ? v_fma(v_set1(a[r + 1]), z, s2) : s2 + z;
        }
        if (r < rows) {
            const vf y = v_load(x + r * ldx + c);
            s = a ? v_fma(v_set1(a[r]), y, s) : s + y;
        }
        v_store(sum + c, v_load(sum + c) + (s + s2));
    }
}

/* x_r -= a[r] y. */
FUSED void fused_subtract(float *x, size_t ldx, size_t rows, size_t columns,
                          const float *a, const float *y)
{
    for (size_t r = 0; r < rows; r++, x += ldx) {
        const vf h = v_set1(-a[r]);
        for (size_t c = 0; c < columns; c += VL)
            v_store(x + c, v_fma(h, v_load(y + c), v_load(x + c)));
    }
}

/* Rows of n entries, last vector masked: y_r = a[r] x_r. */
FUSED void fused_scaled_copy(const float *x, size_t ldx, size_t rows, size_t n,
                             const float *a, float *y, size_t ldy)
{
    const size_t whole = n / VL * VL, last = n - whole;
    for (size_t r = 0; r < rows; r++, x += ldx, y += ldy) {
        const vf h = v_set1(a ? a[r] : 1);
        for (size_t c = 0; c < whole; c += VL)
            v_store(y + c, v_load(x + c) * h);
        if (last) v_store(y + whole, v_load_n(x + whole, last) * h);
    }
}

/* y_r += a[r] x_r for rows of n entries. */
FUSED void fused_add_scaled(const float *x, size_t ldx, size_t rows, size_t n,
                            const float *a, float *y, size_t ldy)
{
    const size_t whole = n / VL * VL, last = n - whole;
    for (size_t r = 0; r < rows; r++, x += ldx, y += ldy) {
        const vf h = v_set1(a[r]);
        for (size_t c = 0; c < whole; c += VL)
            v_store(y + c, v_fma(h, v_load(x + c), v_load(y + c)));
        if (!last) continue;
        const vf sum = v_fma(h, v_load_n(x + whole, last),
                             v_load_n(y + whole, last));
        v_store_n(y + whole, sum, last);
    }
}

/* ---- memory -------------------------------------------------------------- */

/* What one thread works with. */
typedef struct fused_own {
    float *phi, *dphi; /* [group][chunk][lf]                                 */
    float *eps, *inverse, *t;  /* [chunk]                                    */
    float *gh;         /* g / D [chunk][le]                                  */
    float *hook, *sums;
    float *input, *v, *out; /* halves: chunks as float                       */
    /* Where queries meet keys: */
    float *phi_k;      /* [chunk][lf]                                        */
    float *turned_k;   /* [f][pitch]                                         */
    float *turned_v;   /* [e][pitch]                                         */
    float *scores;     /* [chunk][pitch]                                     */
    float *slopes;     /* gradient of the scores                             */
    float *sum;        /* scores first: o before the branch [chunk][le]      */
    float *z;          /* scores first: sum of the keys [lf]                 */
    float *turned_s;   /* causal: transposed dS [e][lf]                      */
} fused_own;

FUSED fused_own fused_lay_own(const fused *u, bool backward, arena *a)
{
    const bool meet = u->causal || u->scores_first;
    const size_t pitch = fused_pitch(u->chunk);
    const size_t features = u->group * u->chunk * u->lf;
    fused_own o = { 0 };
    o.phi = arena_take(a, features);
    o.eps = arena_take(a, pitch);
    o.inverse = arena_take(a, pitch);
    o.hook = arena_take(a, u->hook_floats);
    if (u->dtype != ATT_F32) {
        o.input = arena_take(a, u->chunk * u->f);
        o.v = arena_take(a, u->chunk * u->e);
        o.out = arena_take(a, u->chunk * u->e);
    }
    if (meet) {
        o.phi_k = arena_take(a, u->chunk * u->lf);
        o.turned_k = arena_take(a, u->f * pitch);
        o.scores = arena_take(a, u->chunk * pitch);
        o.sum = arena_take(a, u->chunk * u->le);
        o.z = arena_take(a, u->lf);
    }
    if (!backward) return o;
    o.dphi = arena_take(a, features);
    o.t = arena_take(a, pitch);
    o.gh = arena_take(a, u->chunk * u->le);
    if (meet) {
        o.slopes = arena_take(a, u->chunk * pitch);
        o.turned_v = arena_take(a, u->e * pitch);
        o.turned_s = arena_take(a, u->causal ? u->e * u->lf : 0);
    }
    return o;
}

/* Pads of features are zero for ever: hooks and products do not write them. */
FUSED void fused_clear_pads(const fused *u, const fused_own *o)
{
    float *const all[] = { o->phi, o->dphi, o->phi_k };
    if (u->f == u->lf) return;
    for (int i = 0; i < 3; i++) {
        const size_t rows = u->chunk * (i < 2 ? u->group : 1);
        for (size_t r = 0; all[i] && r < rows; r++)
            memset(all[i] + r * u->lf + u->f, 0,
                   (u->lf - u->f) * sizeof(float));
    }
}

/* The scratch of the calling thread, ready. */
FUSED fused_own fused_begin(const fused *u)
{
    const size_t thread = (size_t)omp_get_thread_num();
    arena a = { .base = u->scratch + thread * u->scratch_floats };
    fused_own o = fused_lay_own(u, u->g != NULL, &a);
    o.sums = u->sums ? u->sums + thread * u->sums_pitch : NULL;
    fused_clear_pads(u, &o);
    return o;
}

typedef struct fused_state {
    float *s, *z; /* [f][le] (or [e][lf]), [lf]                              */
} fused_state;

FUSED fused_state fused_state_of(const fused *u, float *base, size_t index)
{
    float *s = base + index * u->state_floats;
    return (fused_state){ s, s + u->state_floats - u->lf };
}

FUSED void fused_state_clear(const fused *u, const fused_state *x)
{
    memset(x->s, 0, u->state_floats * sizeof(float));
}

/* Index of the state of a part: one for each, or, where a causal map is one
 * part, one for each thread. */
FUSED size_t fused_index(const fused *u, size_t map, size_t part)
{
    return u->causal && u->parts == 1 ? (size_t)omp_get_thread_num()
                                      : map * u->parts + part;
}

/* S and z of a full form, where they are kept. */
FUSED fused_state fused_kept(const fused *u, size_t map)
{
    return (fused_state){ u->s + map * u->f * u->le, u->z + map * u->lf };
}

/* What is kept for backward (from `work` if nothing is), and work. */
FUSED void fused_lay_out(fused *u, bool backward, bool keep, arena *kept,
                         arena *work)
{
    arena one = { 0 }, *from = keep ? kept : work;
    const bool full = !u->causal && !u->scores_first;
    const size_t s = u->f * u->le, st = u->e * u->lf;
    const size_t states = u->scores_first ? 0
                          : u->causal && u->parts == 1
                              ? (size_t)u->threads
                              : u->maps * u->parts;
    fused_lay_own(u, backward, &one);
    u->scratch_floats = one.used;
    u->state_floats = ((s > st ? s : st) + u->lf + 15) / 16 * 16;
    u->sums_pitch = (u->sum_floats + 15) / 16 * 16;
    u->s = full ? arena_take(from, u->maps * s) : NULL;
    u->z = full ? arena_take(from, u->maps * u->lf) : NULL;
    u->kept = arena_take(from, u->kept_floats);
    u->inverse = NULL;
    if (keep && !u->d.divided) u->inverse = arena_take(kept, u->maps * u->n);
    if (u->causal || (!backward && u->parts > 1))
        u->state = arena_take(work, states * u->state_floats);
    if (backward) {
        u->dstate = arena_take(work, states * u->state_floats);
        u->turned = full ? arena_take(work, u->maps * st) : NULL;
        u->t = full ? NULL : arena_take(work, u->maps * u->n);
        u->sums = arena_take(work, (size_t)u->threads * u->sums_pitch);
    }
    u->extra = arena_take(work, u->extra_floats[backward]);
    u->scratch = arena_take(work, (size_t)u->threads * u->scratch_floats);
}

/* Pitches and parts, from what the mechanism has set. */
FUSED void fused_describe(fused *u)
{
    const size_t threads = (size_t)u->threads;
    if (!u->group) u->group = 1;
    if (!u->chunk) u->chunk = u->causal ? FUSED_CHUNK_CAUSAL : FUSED_CHUNK;
    u->lf = fused_pitch(u->f);
    u->le = fused_pitch(u->e);
    const size_t units = u->maps / u->group;
    const size_t tokens = u->n < u->m ? u->n : u->m;
    const size_t chunks = (tokens + u->chunk - 1) / u->chunk;
    const bool even = units % threads == 0 || units >= 8 * threads;
    u->parts = even ? 1 : threads < chunks ? threads : chunks;
}

FUSED void fused_sizes(fused *u, att_sizes *out)
{
    arena none = { 0 }, work = { 0 }, kept = { 0 }, back = { 0 };
    fused_describe(u);
    fused_lay_out(u, false, false, &none, &work);
    fused_lay_out(u, true, true, &kept, &back);
    *out = (att_sizes){ .work = work.used * sizeof(float),
                        .save = kept.used * sizeof(float),
                        .work_backward = back.used * sizeof(float) };
}

/* Memory of a call; g is NULL in forward. */
FUSED void fused_attach(fused *u, const att_call *c, const att_grad *g)
{
    arena kept = { .base = c->save }, work = { .base = c->work };
    u->c = c;
    u->g = g;
    fused_describe(u);
    fused_lay_out(u, g != NULL, c->save != NULL, &kept, &work);
}

/* ---- chunks -------------------------------------------------------------- */

FUSED size_t fused_chunks(const fused *u, size_t tokens)
{
    return (tokens + u->chunk - 1) / u->chunk;
}

/* First token of a part of `tokens`, a multiple of the chunk. */
FUSED size_t fused_part(const fused *u, size_t tokens, size_t part)
{
    const size_t at = fused_chunks(u, tokens) * part / u->parts * u->chunk;
    return at < tokens ? at : tokens;
}

FUSED fused_chunk fused_take(const fused *u, const fused_own *o,
                             enum att_slot side, size_t map, size_t at,
                             float *phi)
{
    const size_t tokens = side == ATT_Q ? u->n : u->m;
    const size_t rows = tokens - at < u->chunk ? tokens - at : u->chunk;
    const fused_chunk k = { u, side, map, at, rows, phi, o->dphi, o->eps,
                            o->input, o->hook, o->sums };
    u->map(&k);
    return k;
}

/* A chunk of v. */
FUSED const float *fused_v(const fused *u, const fused_own *o, size_t map,
                           size_t at)
{
    const size_t rows = u->m - at < u->chunk ? u->m - at : u->chunk;
    return store_view(u->dtype, u->c->v, (map * u->m + at) * u->e, rows * u->e,
                      o->v);
}

/* Where rows of o are made, and what puts them in their place. */
FUSED float *fused_out(const fused *u, const fused_own *o, size_t map,
                       size_t at)
{
    return u->dtype == ATT_F32 ? (float *)u->c->o + (map * u->n + at) * u->e
                               : o->out;
}

FUSED void fused_put(const fused *u, size_t map, size_t at, size_t rows,
                     const float *out)
{
    if (u->dtype != ATT_F32)
        store_put(u->dtype, u->c->o, (map * u->n + at) * u->e, rows * u->e,
                  out);
}

/* 1 / D of rows from Q_i.z in o->inverse. */
FUSED void fused_invert(const fused *u, const fused_own *o, size_t map,
                        size_t at, size_t rows)
{
    for (size_t r = 0; r < rows; r++)
        o->inverse[r] = normaliser_inverse(&u->d, o->inverse[r],
                                           u->eps_rows ? o->eps[r] : u->d.eps);
    if (u->inverse)
        memcpy(u->inverse + map * u->n + at, o->inverse,
               rows * sizeof *o->inverse);
}

/* S += K' V, z += sum K of a chunk. */
FUSED void fused_accumulate(const fused *u, const fused_own *o,
                            const fused_state *x, const float *phi, size_t map,
                            size_t at, size_t rows)
{
    fused_sum(phi, u->lf, rows, u->lf, NULL, x->z);
    fused_gemm(u->f, u->e, rows, phi, 1, u->lf, fused_v(u, o, map, at), u->e,
               x->s, u->le, true);
}

/* First entry of the chunk in q or k, or in a gradient of that shape. */
FUSED size_t fused_place(const fused_chunk *k, size_t channels)
{
    const size_t tokens = k->side == ATT_Q ? k->u->n : k->u->m;
    return (k->map * tokens + k->at) * channels;
}

/* The chunk of q or k, of `channels`; t: of map k->map + t. */
FUSED const float *fused_input(const fused_chunk *k, size_t t, size_t channels)
{
    const size_t tokens = k->side == ATT_Q ? k->u->n : k->u->m;
    return store_view(k->u->dtype, k->side == ATT_Q ? k->u->c->q : k->u->c->k,
                      fused_place(k, channels) + t * tokens * channels,
                      k->rows * channels, k->input);
}

/* phi = one(x) for elementwise features. */
SIMD_INLINE void fused_map(const fused_chunk *k, vf (*const one)(vf))
{
    const size_t d = k->u->f, whole = d / VL * VL, last = d - whole;
    const float *x = fused_input(k, 0, d);
    float *phi = k->phi;
    for (size_t r = 0; r < k->rows; r++, x += d, phi += k->u->lf) {
        for (size_t c = 0; c < whole; c += VL)
            v_store(phi + c, one(v_load(x + c)));
        if (last)
            v_store_n(phi + whole, one(v_load_n(x + whole, last)), last);
    }
}

/* dx = dphi slope(phi), the derivative of an elementwise feature from itself.
 *  */
SIMD_INLINE void fused_unmap(const fused_chunk *k, vf (*const slope)(vf))
{
    const size_t d = k->u->f, whole = d / VL * VL, last = d - whole;
    const float *phi = k->phi, *dphi = k->dphi;
    float *dx = k->side == ATT_Q ? k->u->g->dq : k->u->g->dk;
    if (!dx) return;
    dx += fused_place(k, d);
    for (size_t r = 0; r < k->rows; r++, dx += d) {
        for (size_t c = 0; c < whole; c += VL)
            v_store(dx + c, v_load(dphi + c) * slope(v_load(phi + c)));
        if (last)
            v_store_n(dx + whole,
                      v_load(dphi + whole) * slope(v_load(phi + whole)), last);
        phi += k->u->lf;
        dphi += k->u->lf;
    }
}

SIMD_INLINE vf fused_relu(vf x)
{
    return v_max(x, v_zero());
}

SIMD_INLINE vf fused_relu_slope(vf phi)
{
    return v_select(phi > 0, v_set1(1), v_zero());
}

/* ---- forward, full ------------------------------------------------------- */

/* The keys of one part of a group of maps. */
FUSED void fused_keys(const fused *u, const fused_own *o, size_t unit,
                      size_t part)
{
    const size_t end = fused_part(u, u->m, part + 1), map = unit * u->group;
    fused_state x;
    for (size_t t = 0; t < u->group; t++) {
        x = u->parts == 1
                ? fused_kept(u, map + t)
                : fused_state_of(u, u->state, (map + t) * u->parts + part);
        memset(x.s, 0, u->f * u->le * sizeof *x.s);
        for (size_t c = 0; c < u->lf; c++) x.z[c] = 0;
    }
    for (size_t at = fused_part(u, u->m, part); at < end; at += u->chunk) {
        const fused_chunk k = fused_take(u, o, ATT_K, map, at, o->phi);
        for (size_t t = 0; t < u->group; t++) {
            x = u->parts == 1
                    ? fused_kept(u, map + t)
                    : fused_state_of(u, u->state, (map + t) * u->parts + part);
            fused_accumulate(u, o, &x, k.phi + t * u->chunk * u->lf, map + t,
                             at, k.rows);
        }
    }
}

/* to = sum over parts. */
FUSED void fused_reduce(const fused *u, float *states, size_t map,
                        const fused_state *to)
{
    const size_t s = u->f * u->le;
    for (size_t part = 0; part < u->parts; part++) {
        const fused_state x = fused_state_of(u, states, map * u->parts + part);
        if (x.s == to->s) continue; /* the first part is the sum */
        for (size_t c = 0; c < s; c++)
            to->s[c] = (part ? to->s[c] : 0) + x.s[c];
        for (size_t c = 0; c < u->lf; c++)
            to->z[c] = (part ? to->z[c] : 0) + x.z[c];
    }
}

/* Rows of attention: o (+)= Q S / D. */
FUSED void fused_rows(const fused *u, const fused_own *o, size_t map, size_t at,
                      size_t rows, float *phi, float *out, bool add)
{
    const fused_state x = fused_kept(u, map);
    if (!u->d.divided) {
        fused_dots(phi, u->lf, rows, x.z, 0, u->lf, o->inverse);
        fused_invert(u, o, map, at, rows);
        fused_scale(phi, u->lf, rows, u->lf, o->inverse);
    }
    fused_gemm(rows, u->e, u->f, phi, u->lf, 1, x.s, u->le, out, u->e, add);
}

FUSED void fused_queries(const fused *u, const fused_own *o, size_t unit,
                         size_t at)
{
    const size_t map = unit * u->group;
    const fused_chunk k = fused_take(u, o, ATT_Q, map, at, o->phi);
    for (size_t t = 0; t < u->group; t++) {
        float *out = fused_out(u, o, map + t, at);
        if (u->branch) u->branch(u, map + t, at, k.rows, out);
        fused_rows(u, o, map + t, at, k.rows, k.phi + t * u->chunk * u->lf, out,
                   u->branch != NULL);
        fused_put(u, map + t, at, k.rows, out);
    }
}

/* S and z of all maps; by all threads of a parallel region. */
FUSED void fused_all_keys(const fused *u, const fused_own *o)
{
    const size_t units = u->maps / u->group;
    #pragma omp for schedule(static)
    for (size_t task = 0; task < units * u->parts; task++)
        fused_keys(u, o, task / u->parts, task % u->parts);
    #pragma omp for schedule(static)
    for (size_t map = 0; map < u->maps; map++) {
        const fused_state kept = fused_kept(u, map);
        if (u->parts > 1) fused_reduce(u, u->state, map, &kept);
        for (size_t c = 0; c < u->f; c++) kept.z[c] += u->d.every;
        if (u->settle) u->settle(u, map);
    }
}

FUSED void fused_forward_full(const fused *u)
{
    const size_t units = u->maps / u->group, chunks = fused_chunks(u, u->n);
    #pragma omp parallel num_threads(u->threads)
    {
        const fused_own o = fused_begin(u);
        fused_all_keys(u, &o);
        #pragma omp for schedule(static)
        for (size_t task = 0; task < units * chunks; task++)
            fused_queries(u, &o, task / chunks, task % chunks * u->chunk);
    }
}

/* ---- forward, scores first ----------------------------------------------- */

/* scores [rows][keys] = Q K', after the keys were transposed. */
FUSED void fused_scores(const fused *u, const fused_own *o, const float *phi,
                        size_t rows, size_t keys)
{
    const size_t pitch = fused_pitch(u->chunk);
    fused_gemm(rows, keys, u->f, phi, u->lf, 1, o->turned_k, pitch, o->scores,
               pitch, false);
}

FUSED void fused_turn_keys(const fused *u, const fused_own *o, size_t keys)
{
    tile_transpose(o->phi_k, u->lf, keys, u->f, o->turned_k,
                   fused_pitch(u->chunk), keys, 1);
}

FUSED void fused_queries_scores(const fused *u, const fused_own *o, size_t map,
                                size_t at)
{
    const size_t pitch = fused_pitch(u->chunk);
    const fused_chunk k = fused_take(u, o, ATT_Q, map, at, o->phi);
    float *out = fused_out(u, o, map, at);
    for (size_t c = 0; c < u->lf; c++) o->z[c] = 0;
    for (size_t j = 0; j < u->m; j += u->chunk) {
        const fused_chunk y = fused_take(u, o, ATT_K, map, j, o->phi_k);
        fused_sum(y.phi, u->lf, y.rows, u->lf, NULL, o->z);
        fused_turn_keys(u, o, y.rows);
        fused_scores(u, o, k.phi, k.rows, y.rows);
        fused_gemm(k.rows, u->e, y.rows, o->scores, pitch, 1,
                   fused_v(u, o, map, j), u->e, o->sum, u->le, j > 0);
    }
    fused_dots(k.phi, u->lf, k.rows, o->z, 0, u->lf, o->inverse);
    fused_invert(u, o, map, at, k.rows);
    if (u->branch) u->branch(u, map, at, k.rows, out);
    else memset(out, 0, k.rows * u->e * sizeof *out);
    fused_add_scaled(o->sum, u->le, k.rows, u->e, o->inverse, out, u->e);
    fused_put(u, map, at, k.rows, out);
}

FUSED void fused_forward_scores(const fused *u)
{
    const size_t chunks = fused_chunks(u, u->n);
    #pragma omp parallel num_threads(u->threads)
    {
        const fused_own o = fused_begin(u);
        #pragma omp for schedule(static)
        for (size_t task = 0; task < u->maps * chunks; task++)
            fused_queries_scores(u, &o, task / chunks,
                                 task % chunks * u->chunk);
    }
}

/* ---- forward, causal ----------------------------------------------------- */

/* Where part > 0: the sums over the part's own tokens, for the parts behind it.
 *  */
FUSED void fused_causal_part_sum(const fused *u, const fused_own *o, size_t map,
                                 size_t part)
{
    const fused_state x = fused_state_of(u, u->state, map * u->parts + part);
    const size_t end = fused_part(u, u->m, part + 1);
    fused_state_clear(u, &x);
    if (part + 1 == u->parts) return; /* nothing is behind it */
    for (size_t at = fused_part(u, u->m, part); at < end; at += u->chunk) {
        const fused_chunk k = fused_take(u, o, ATT_K, map, at, o->phi);
        fused_accumulate(u, o, &x, k.phi, map, at, k.rows);
    }
}

/* Sums of parts become sums of all parts before (or, reversed, behind). */
FUSED void fused_prefix(const fused *u, float *states, size_t map, bool reverse)
{
    for (size_t c = 0; c < u->state_floats; c++) {
        float sum = 0;
        for (size_t i = 0; i < u->parts; i++) {
            const size_t part = reverse ? u->parts - 1 - i : i;
            float *x = states + (map * u->parts + part) * u->state_floats + c;
            const float own = *x;
            *x = sum;
            sum += own;
        }
    }
}

/* Zeros above the diagonal of rows [r0, r1) as far as column r1. */
FUSED void fused_mask(float *scores, size_t pitch, size_t r0, size_t r1)
{
    for (size_t r = r0; r < r1; r++)
        for (size_t c = r + 1; c < r1; c++) scores[r * pitch + c] = 0;
}

/* scores = Q K' of a chunk, lower triangle; columns beyond a block of rows are
 * not made. */
FUSED void fused_triangle(const fused *u, const float *rows, size_t ldr,
                          size_t inner, const float *turned, size_t count,
                          float *scores)
{
    const size_t pitch = fused_pitch(u->chunk);
    for (size_t r = 0; r < count; r += FUSED_TRIANGLE) {
        const size_t end = r + FUSED_TRIANGLE < count ? r + FUSED_TRIANGLE
                                                      : count;
        fused_gemm(end - r, end, inner, rows + r * ldr, ldr, 1, turned, pitch,
                   scores + r * pitch, pitch, false);
        fused_mask(scores, pitch, r, end);
    }
}

/* out += L B, or L' B: L a lower triangle of scores. */
FUSED void fused_triangle_times(const fused *u, const float *scores,
                                bool turned, size_t count, const float *b,
                                size_t ldb, size_t columns, float *out,
                                size_t ldo)
{
    const size_t pitch = fused_pitch(u->chunk);
    for (size_t r = 0; r < count; r += FUSED_TRIANGLE) {
        const size_t end = r + FUSED_TRIANGLE < count ? r + FUSED_TRIANGLE
                                                      : count;
        if (!turned)
            fused_gemm(end - r, columns, end, scores + r * pitch, pitch, 1, b,
                       ldb, out + r * ldo, ldo, true);
        else
            fused_gemm(end - r, columns, count - r,
                       scores + r * pitch + r, 1, pitch, b + r * ldb, ldb,
                       out + r * ldo, ldo, true);
    }
}

/* D_i = Q_i.z + sum_j s_ij of a chunk. */
FUSED void fused_causal_inverse(const fused *u, const fused_own *o,
                                const fused_chunk *k, const float *z)
{
    const size_t pitch = fused_pitch(u->chunk);
    fused_dots(k->phi, u->lf, k->rows, z, 0, u->lf, o->inverse);
    for (size_t r = 0; r < k->rows; r += FUSED_TRIANGLE) {
        const size_t end = r + FUSED_TRIANGLE < k->rows ? r + FUSED_TRIANGLE
                                                        : k->rows;
        fused_add_dots(o->scores + r * pitch, pitch, end - r, end, NULL, 0,
                       o->inverse + r);
    }
    fused_invert(u, o, k->map, k->at, k->rows);
}

FUSED void fused_causal_part(const fused *u, const fused_own *o, size_t map,
                             size_t part)
{
    const size_t end = fused_part(u, u->n, part + 1);
    const size_t pitch = fused_pitch(u->chunk);
    const fused_state x =
        fused_state_of(u, u->state, fused_index(u, map, part));
    if (u->parts == 1) fused_state_clear(u, &x);
    for (size_t c = 0; c < u->f; c++) x.z[c] += u->d.every;
    for (size_t at = fused_part(u, u->n, part); at < end; at += u->chunk) {
        const fused_chunk k = fused_take(u, o, ATT_Q, map, at, o->phi);
        float *out = fused_out(u, o, map, at);
        fused_take(u, o, ATT_K, map, at, o->phi_k);
        fused_turn_keys(u, o, k.rows);
        fused_triangle(u, k.phi, u->lf, u->f, o->turned_k, k.rows, o->scores);
        fused_causal_inverse(u, o, &k, x.z);
        fused_scale(k.phi, u->lf, k.rows, u->lf, o->inverse);
        fused_scale(o->scores, pitch, k.rows, pitch, o->inverse);
        fused_gemm(k.rows, u->e, u->f, k.phi, u->lf, 1, x.s, u->le, out, u->e,
                   false);
        fused_triangle_times(u, o->scores, false, k.rows,
                             fused_v(u, o, map, at), u->e, u->e, out, u->e);
        fused_put(u, map, at, k.rows, out);
        fused_accumulate(u, o, &x, o->phi_k, map, at, k.rows);
    }
}

FUSED void fused_forward_causal(const fused *u)
{
    const size_t tasks = u->maps * u->parts;
    #pragma omp parallel num_threads(u->threads)
    {
        const fused_own o = fused_begin(u);
        if (u->parts > 1) {
            #pragma omp for schedule(static)
            for (size_t task = 0; task < tasks; task++)
                fused_causal_part_sum(u, &o, task / u->parts, task % u->parts);
            #pragma omp for schedule(static)
            for (size_t map = 0; map < u->maps; map++)
                fused_prefix(u, u->state, map, false);
        }
        #pragma omp for schedule(static)
        for (size_t task = 0; task < tasks; task++)
            fused_causal_part(u, &o, task / u->parts, task % u->parts);
    }
}

FUSED void fused_forward(const fused *u)
{
    if (u->causal) fused_forward_causal(u);
    else if (u->scores_first) fused_forward_scores(u);
    else fused_forward_full(u);
}

/* ---- backward: what its forms share -------------------------------------- */

/* gh = g / D of rows of a map. */
FUSED void fused_gradient(const fused *u, const fused_own *o, size_t map,
                          size_t at, size_t rows)
{
    const float *h = u->inverse ? u->inverse + map * u->n + at : NULL;
    if (u->upstream) {
        u->upstream(u, map, at, rows, o->gh, u->le);
        if (h) fused_scale(o->gh, u->le, rows, u->le, h);
    } else
        fused_scaled_copy(u->g->dout + (map * u->n + at) * u->e, u->e, rows,
                          u->e, h, o->gh, u->le);
}

/* t of rows from sums that are Q_i.(S gh_i), or g_i.o_i. */
FUSED void fused_means(const fused *u, size_t map, size_t at, size_t rows,
                       float *t)
{
    for (size_t r = 0; r < rows; r++) {
        const float h = u->inverse[map * u->n + at + r];
        t[r] = normaliser_open(&u->d, h) ? h * t[r] : 0;
    }
}

/* Where dv of a chunk goes, with the branch's part in it; NULL: not wanted. */
FUSED float *fused_dv(const fused *u, size_t map, size_t at, size_t rows)
{
    if (!u->g->dv) return NULL;
    float *dv = u->g->dv + (map * u->m + at) * u->e;
    if (u->branch_back) u->branch_back(u, map, at, rows, dv);
    else memset(dv, 0, rows * u->e * sizeof *dv);
    return dv;
}

/* Sums of all threads into the first; afterwards, outside of parallel regions.
 *  */
FUSED void fused_collect(const fused *u)
{
    for (int i = 1; i < u->threads; i++)
        for (size_t c = 0; c < u->sum_floats; c++)
            u->sums[c] += u->sums[(size_t)i * u->sums_pitch + c];
}

FUSED void fused_clear_sums(const fused *u)
{
    memset(u->sums, 0, (size_t)u->threads * u->sums_pitch * sizeof(float));
}

/* Tasks over keys: chunks of heads, or of maps; see sum_batch. */
FUSED size_t fused_key_tasks(const fused *u)
{
    const size_t units = u->maps / u->group;
    const size_t rounds = u->sum_batch ? (size_t)u->c->p->batch : 1;
    return units / rounds * fused_chunks(u, u->m);
}

/* Calls visit for the chunk of keys of a task, in every batch entry where these
 * are one task. */
FUSED void fused_key_task(const fused *u, const fused_own *o, size_t task,
                          void (*visit)(const fused *, const fused_own *,
                                        size_t unit, size_t at))
{
    const size_t units = u->maps / u->group, chunks = fused_chunks(u, u->m);
    const size_t rounds = u->sum_batch ? (size_t)u->c->p->batch : 1;
    for (size_t b = 0; b < rounds; b++)
        visit(u, o, b * (units / rounds) + task / chunks,
              task % chunks * u->chunk);
}

/* ---- backward, full ------------------------------------------------------ */

/* dQ = S gh - t z, dS += Q' gh, dz -= Q' t of one map of a chunk. */
FUSED void fused_backward_rows(const fused *u, const fused_own *o, size_t map,
                               const fused_chunk *k, float *phi, float *dphi,
                               const fused_state *ds)
{
    fused_gradient(u, o, map, k->at, k->rows);
    fused_gemm(k->rows, u->f, u->e, o->gh, u->le, 1,
               u->turned + map * u->e * u->lf, u->lf, dphi, u->lf, false);
    if (!u->d.divided) {
        const fused_state x = fused_kept(u, map);
        fused_dots(phi, u->lf, k->rows, dphi, u->lf, u->lf, o->t);
        fused_means(u, map, k->at, k->rows, o->t);
        fused_subtract(dphi, u->lf, k->rows, u->lf, o->t, x.z);
        for (size_t r = 0; r < k->rows; r++) o->t[r] = -o->t[r];
        fused_sum(phi, u->lf, k->rows, u->lf, o->t, ds->z);
    }
    fused_gemm(u->f, u->e, k->rows, phi, 1, u->lf, o->gh, u->le, ds->s, u->le,
               true);
}

FUSED void fused_backward_queries(const fused *u, const fused_own *o,
                                  size_t unit, size_t part)
{
    const size_t end = fused_part(u, u->n, part + 1), map = unit * u->group;
    for (size_t t = 0; t < u->group; t++) {
        const fused_state ds =
            fused_state_of(u, u->dstate, (map + t) * u->parts + part);
        fused_state_clear(u, &ds);
    }
    for (size_t at = fused_part(u, u->n, part); at < end; at += u->chunk) {
        const fused_chunk k = fused_take(u, o, ATT_Q, map, at, o->phi);
        for (size_t t = 0; t < u->group; t++) {
            const fused_state ds =
                fused_state_of(u, u->dstate, (map + t) * u->parts + part);
            const size_t at_t = t * u->chunk * u->lf;
            fused_backward_rows(u, o, map + t, &k, k.phi + at_t, k.dphi + at_t,
                                &ds);
        }
        u->unmap(&k);
    }
}

/* dK = dS v + dz, dv = K dS of a chunk. */
FUSED void fused_backward_keys(const fused *u, const fused_own *o, size_t unit,
                               size_t at)
{
    const size_t map = unit * u->group;
    const fused_chunk k = fused_take(u, o, ATT_K, map, at, o->phi);
    for (size_t t = 0; t < u->group; t++) {
        const fused_state ds =
            fused_state_of(u, u->dstate, (map + t) * u->parts);
        float *phi = k.phi + t * u->chunk * u->lf;
        float *dphi = k.dphi + t * u->chunk * u->lf;
        fused_gemm(k.rows, u->f, u->e, fused_v(u, o, map + t, at), u->e, 1,
                   u->turned + (map + t) * u->e * u->lf, u->lf, dphi, u->lf,
                   false);
        for (size_t r = 0; !u->d.divided && r < k.rows; r++)
            for (size_t c = 0; c < u->lf; c += VL)
                v_store(dphi + r * u->lf + c,
                        v_load(dphi + r * u->lf + c) + v_load(ds.z + c));
        float *dv = fused_dv(u, map + t, at, k.rows);
        if (dv)
            fused_gemm(k.rows, u->e, u->f, phi, u->lf, 1, ds.s, u->le, dv, u->e,
                       true);
    }
    u->unmap(&k);
}

FUSED void fused_turn_state(const fused *u, const float *s, size_t map)
{
    tile_transpose(s, u->le, u->f, u->e, u->turned + map * u->e * u->lf, u->lf,
                   u->lf, 1);
}

FUSED void fused_backward_full(const fused *u)
{
    const size_t units = u->maps / u->group;
    #pragma omp parallel num_threads(u->threads)
    {
        const fused_own o = fused_begin(u);
        #pragma omp for schedule(static)
        for (size_t map = 0; map < u->maps; map++)
            fused_turn_state(u, fused_kept(u, map).s, map);
        #pragma omp for schedule(static)
        for (size_t task = 0; task < units * u->parts; task++)
            fused_backward_queries(u, &o, task / u->parts, task % u->parts);
        #pragma omp for schedule(static)
        for (size_t map = 0; map < u->maps; map++) {
            const fused_state ds =
                fused_state_of(u, u->dstate, map * u->parts);
            fused_reduce(u, u->dstate, map, &ds);
            fused_turn_state(u, ds.s, map);
            if (u->settle_back) u->settle_back(u, map);
        }
        #pragma omp for schedule(static)
        for (size_t task = 0; task < fused_key_tasks(u); task++)
            fused_key_task(u, &o, task, fused_backward_keys);
    }
}

/* ---- backward, scores first ---------------------------------------------- */

/* slopes = gh V' of rows and a chunk of keys. */
FUSED void fused_slopes(const fused *u, const fused_own *o, size_t map,
                        size_t key, size_t rows, size_t keys)
{
    const size_t pitch = fused_pitch(u->chunk);
    tile_transpose(fused_v(u, o, map, key), u->e, keys, u->e, o->turned_v, pitch,
                   keys, 1);
    fused_gemm(rows, keys, u->e, o->gh, u->le, 1, o->turned_v, pitch, o->slopes,
               pitch, false);
}

/* dQ_i = sum_j (gh_i.v_j) K_j - t_i z; t is left for the keys. */
FUSED void fused_backward_scores_queries(const fused *u, const fused_own *o,
                                         size_t map, size_t at)
{
    const size_t pitch = fused_pitch(u->chunk);
    const fused_chunk k = fused_take(u, o, ATT_Q, map, at, o->phi);
    float *t = u->t + map * u->n + at;
    for (size_t c = 0; c < u->lf; c++) o->z[c] = 0;
    fused_gradient(u, o, map, at, k.rows);
    for (size_t j = 0; j < u->m; j += u->chunk) {
        const fused_chunk y = fused_take(u, o, ATT_K, map, j, o->phi_k);
        fused_sum(y.phi, u->lf, y.rows, u->lf, NULL, o->z);
        fused_slopes(u, o, map, j, k.rows, y.rows);
        fused_gemm(k.rows, u->f, y.rows, o->slopes, pitch, 1, y.phi, u->lf,
                   k.dphi, u->lf, j > 0);
    }
    fused_dots(k.phi, u->lf, k.rows, k.dphi, u->lf, u->lf, t);
    fused_means(u, map, at, k.rows, t);
    fused_subtract(k.dphi, u->lf, k.rows, u->lf, t, o->z);
    u->unmap(&k);
}

/* dK_j = sum_i (gh_i.v_j - t_i) Q_i, dv_j = sum_i s_ij gh_i. */
FUSED void fused_backward_scores_keys(const fused *u, const fused_own *o,
                                      size_t map, size_t at)
{
    const size_t pitch = fused_pitch(u->chunk);
    const fused_chunk k = fused_take(u, o, ATT_K, map, at, o->phi_k);
    float *dv = fused_dv(u, map, at, k.rows);
    fused_turn_keys(u, o, k.rows);
    for (size_t i = 0; i < u->n; i += u->chunk) {
        const fused_chunk x = fused_take(u, o, ATT_Q, map, i, o->phi);
        const float *t = u->t + map * u->n + i;
        fused_gradient(u, o, map, i, x.rows);
        fused_scores(u, o, x.phi, x.rows, k.rows);
        fused_slopes(u, o, map, at, x.rows, k.rows);
        for (size_t r = 0; r < x.rows; r++)
            for (size_t c = 0; c < k.rows; c++)
                o->slopes[r * pitch + c] -= t[r];
        fused_gemm(k.rows, u->f, x.rows, o->slopes, 1, pitch, x.phi, u->lf,
                   k.dphi, u->lf, i > 0);
        if (dv)
            fused_gemm(k.rows, u->e, x.rows, o->scores, 1, pitch, o->gh, u->le,
                       dv, u->e, true);
    }
    u->unmap(&k);
}

FUSED void fused_backward_scores(const fused *u)
{
    const size_t chunks = fused_chunks(u, u->n);
    #pragma omp parallel num_threads(u->threads)
    {
        const fused_own o = fused_begin(u);
        #pragma omp for schedule(static)
        for (size_t task = 0; task < u->maps * chunks; task++)
            fused_backward_scores_queries(u, &o, task / chunks,
                                          task % chunks * u->chunk);
        #pragma omp for schedule(static)
        for (size_t task = 0; task < fused_key_tasks(u); task++)
            fused_key_task(u, &o, task, fused_backward_scores_keys);
    }
}

/* ---- backward, causal ---------------------------------------------------- */

/* S' of a chunk is added to x, [e][lf]: S' += V' K, z += sum K. */
FUSED void fused_accumulate_turned(const fused *u, const fused_own *o,
                                   const fused_state *x, const float *phi,
                                   size_t map, size_t at, size_t rows)
{
    fused_sum(phi, u->lf, rows, u->lf, NULL, x->z);
    fused_gemm(u->e, u->f, rows, fused_v(u, o, map, at), 1, u->e, phi, u->lf,
               x->s, u->lf, true);
}

/* dS += Q' gh, dz -= Q' t of a chunk; t negated in o->t. */
FUSED void fused_accumulate_back(const fused *u, const fused_own *o,
                                 const fused_state *ds, const float *phi,
                                 size_t rows)
{
    fused_sum(phi, u->lf, rows, u->lf, o->t, ds->z);
    fused_gemm(u->f, u->e, rows, phi, 1, u->lf, o->gh, u->le, ds->s, u->le,
               true);
}

/* gh, and -t = -gh.o in o->t. */
FUSED void fused_causal_gradient(const fused *u, const fused_own *o, size_t map,
                                 size_t at, size_t rows)
{
    const float *out = store_view(u->dtype, u->c->o, (map * u->n + at) * u->e,
                                  rows * u->e, o->out);
    const float *h = u->inverse + map * u->n + at;
    fused_gradient(u, o, map, at, rows);
    for (size_t r = 0; r < rows; r++) o->t[r] = 0;
    fused_add_dots(o->gh, u->le, rows, u->e, out, u->e, o->t);
    for (size_t r = 0; r < rows; r++)
        o->t[r] = normaliser_open(&u->d, h[r]) ? -o->t[r] : 0;
}

/* Sums over the tokens of a part: S', z for those behind, dS, dz for those
 * before. */
FUSED void fused_causal_part_sums(const fused *u, const fused_own *o,
                                  size_t map, size_t part)
{
    const size_t index = map * u->parts + part;
    const fused_state x = fused_state_of(u, u->state, index);
    const fused_state ds = fused_state_of(u, u->dstate, index);
    const size_t end = fused_part(u, u->n, part + 1);
    fused_state_clear(u, &x);
    fused_state_clear(u, &ds);
    for (size_t at = fused_part(u, u->n, part); at < end; at += u->chunk) {
        if (part + 1 < u->parts) {
            const fused_chunk k = fused_take(u, o, ATT_K, map, at, o->phi_k);
            fused_accumulate_turned(u, o, &x, k.phi, map, at, k.rows);
        }
        if (part > 0) {
            const fused_chunk k = fused_take(u, o, ATT_Q, map, at, o->phi);
            fused_causal_gradient(u, o, map, at, k.rows);
            fused_accumulate_back(u, o, &ds, k.phi, k.rows);
        }
    }
}

/* Lower triangle of slopes, gh V' - t, of a chunk. */
FUSED void fused_causal_slopes(const fused *u, const fused_own *o, size_t map,
                               size_t at, size_t rows)
{
    const size_t pitch = fused_pitch(u->chunk);
    tile_transpose(fused_v(u, o, map, at), u->e, rows, u->e, o->turned_v, pitch,
                   rows, 1);
    fused_triangle(u, o->gh, u->le, u->e, o->turned_v, rows, o->slopes);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c <= r; c++) o->slopes[r * pitch + c] += o->t[r];
}

/* dQ_i = S_i gh_i - t_i z_i along the sequence. */
FUSED void fused_causal_queries(const fused *u, const fused_own *o, size_t map,
                                size_t part)
{
    const fused_state x =
        fused_state_of(u, u->state, fused_index(u, map, part));
    const size_t end = fused_part(u, u->n, part + 1);
    if (u->parts == 1) fused_state_clear(u, &x);
    for (size_t c = 0; c < u->f; c++) x.z[c] += u->d.every;
    for (size_t at = fused_part(u, u->n, part); at < end; at += u->chunk) {
        const fused_chunk k = fused_take(u, o, ATT_Q, map, at, o->phi);
        fused_take(u, o, ATT_K, map, at, o->phi_k);
        fused_causal_gradient(u, o, map, at, k.rows);
        fused_causal_slopes(u, o, map, at, k.rows);
        fused_gemm(k.rows, u->f, u->e, o->gh, u->le, 1, x.s, u->lf, k.dphi,
                   u->lf, false);
        fused_triangle_times(u, o->slopes, false, k.rows, o->phi_k, u->lf, u->f,
                             k.dphi, u->lf);
        for (size_t r = 0; r < k.rows; r++) o->t[r] = -o->t[r];
        fused_subtract(k.dphi, u->lf, k.rows, u->lf, o->t, x.z);
        u->unmap(&k);
        fused_accumulate_turned(u, o, &x, o->phi_k, map, at, k.rows);
    }
}

/* dK_j = dS v_j + dz, dv_j = dS' K_j from the end of the sequence, where dS and
 * dz sum over the tokens behind a chunk and the triangle stands for its own. */
FUSED void fused_causal_keys(const fused *u, const fused_own *o, size_t map,
                             size_t part)
{
    const fused_state ds =
        fused_state_of(u, u->dstate, fused_index(u, map, part));
    const size_t begin = fused_part(u, u->n, part);
    size_t at = fused_part(u, u->n, part + 1);
    if (u->parts == 1) fused_state_clear(u, &ds);
    while (at > begin) {
        at = (at - 1) / u->chunk * u->chunk;
        fused_chunk k = fused_take(u, o, ATT_Q, map, at, o->phi);
        float *const phi_q = k.phi;
        k = fused_take(u, o, ATT_K, map, at, o->phi_k);
        fused_causal_gradient(u, o, map, at, k.rows);
        fused_causal_slopes(u, o, map, at, k.rows);
        tile_transpose(ds.s, u->le, u->f, u->e, o->turned_s, u->lf, u->lf, 1);
        for (size_t r = 0; r < k.rows; r++)
            memcpy(k.dphi + r * u->lf, ds.z, u->lf * sizeof *ds.z);
        fused_gemm(k.rows, u->f, u->e, fused_v(u, o, map, at), u->e, 1,
                   o->turned_s, u->lf, k.dphi, u->lf, true);
        fused_triangle_times(u, o->slopes, true, k.rows, phi_q, u->lf, u->f,
                             k.dphi, u->lf);
        float *dv = fused_dv(u, map, at, k.rows);
        if (dv) {
            fused_turn_keys(u, o, k.rows);
            fused_triangle(u, phi_q, u->lf, u->f, o->turned_k, k.rows,
                           o->scores);
            fused_gemm(k.rows, u->e, u->f, k.phi, u->lf, 1, ds.s, u->le, dv,
                       u->e, true);
            fused_triangle_times(u, o->scores, true, k.rows, o->gh, u->le, u->e,
                                 dv, u->e);
        }
        u->unmap(&k);
        fused_accumulate_back(u, o, &ds, phi_q, k.rows);
    }
}

FUSED void fused_backward_causal(const fused *u)
{
    const size_t tasks = u->maps * u->parts;
    #pragma omp parallel num_threads(u->threads)
    {
        const fused_own o = fused_begin(u);
        if (u->parts > 1) {
            #pragma omp for schedule(static)
            for (size_t task = 0; task < tasks; task++)
                fused_causal_part_sums(u, &o, task / u->parts, task % u->parts);
            #pragma omp for schedule(static)
            for (size_t map = 0; map < u->maps; map++) {
                fused_prefix(u, u->state, map, false);
                fused_prefix(u, u->dstate, map, true);
            }
        }
        #pragma omp for schedule(static)
        for (size_t task = 0; task < tasks; task++)
            fused_causal_queries(u, &o, task / u->parts, task % u->parts);
        #pragma omp for schedule(static)
        for (size_t task = 0; task < tasks; task++)
            fused_causal_keys(u, &o, task / u->parts, task % u->parts);
    }
}

FUSED void fused_backward(const fused *u)
{
    if (u->sums) fused_clear_sums(u);
    if (u->causal) fused_backward_causal(u);
    else if (u->scores_first) fused_backward_scores(u);
    else fused_backward_full(u);
    if (u->sums) fused_collect(u);
}

/* ---- operations really executed ------------------------------------------ */

/* Entries of the triangles of a map that are made (blocks of rows reach to
 * their own end). */
FUSED double fused_triangle_entries(size_t n)
{
    double entries = 0;
    for (size_t at = 0; at < n; at += FUSED_CHUNK_CAUSAL) {
        const size_t rows = n - at < FUSED_CHUNK_CAUSAL ? n - at
                                                        : FUSED_CHUNK_CAUSAL;
        for (size_t r = 0; r < rows; r += FUSED_TRIANGLE) {
            const size_t end = r + FUSED_TRIANGLE < rows ? r + FUSED_TRIANGLE
                                                         : rows;
            entries += (double)(end - r) * (double)end;
        }
    }
    return entries;
}

/* out holds the definition's operations; u the sizes.  1 / D is one division a
 * query, which scales the features; causal forms make triangles of scores
 * instead of nothing, scores-first backward makes g.v twice. */
FUSED void fused_executed(const fused *u, enum att_pass pass, att_cost *out)
{
    const double maps = (double)u->maps, n = (double)u->n, m = (double)u->m;
    const double f = (double)u->f, e = (double)u->e;
    const double triangle = u->causal ? fused_triangle_entries(u->n) : 0;
    if (pass == ATT_BACKWARD) {
        out->mul_add += maps * triangle * 3 * (f + e);
        if (u->scores_first) out->mul_add += maps * n * m * e;
        if (!u->d.divided) out->div -= maps * n;
        return;
    }
    out->mul_add += maps * triangle * (f + e);
    out->mul += maps * triangle;
    if (u->d.divided) return;
    out->mul += maps * n * (u->scores_first ? e : f);
    out->div -= maps * n * (e - 1);
}

#endif
