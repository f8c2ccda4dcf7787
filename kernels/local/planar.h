/* planar.h - windows over rows of a map, lanes are neighbouring columns.
 *
 * A row of tokens is turned into [channel][column].  VL neighbouring queries then
 * load the keys of one window slot with a single vector: straight from the row
 * where each window starts one column after its neighbour's, through a permute
 * where windows were moved at a border or are shared (stride).  No lane is
 * masked for that, none is wasted but those beyond the end of a row.
 *
 * ROWS query rows go together, so that a key vector is used up to ROWS times.
 * Measured at v4 (d = 32, 7 slots, data in the first cache): scores 84 to 90 %
 * of the FMA peak for 3 or 4 rows, 70 % for 2, 38 % for 1; combine 98, 85, 67
 * and 39 %; a permute in place of the straight load costs 2 to 4 points.
 */
#ifndef ATT_PLANAR_H
#define ATT_PLANAR_H

#include <stdbool.h>

#include "../simd.h"
#include "../store.h"

enum {
    ROWS = 4,
#if VL == 16
    SLOTS = 7, /* ROWS x SLOTS sums of scores in registers                    */
    CHANNELS = 4 /* ROWS x CHANNELS sums of combine                           */
#else
    SLOTS = 3,
    CHANNELS = 2
#endif
};

/* How the keys of one slot are found in a planar row. */
enum mode {
    STRAIGHT, /* lane l at l                                                 */
    PERMUTED, /* lane l at index[l] < VL                                     */
    PERMUTED2 /* lane l at index[l] < 2 VL                                   */
};

/* Keeps x in a register: gcc would otherwise repeat the load as an operand of
 * each multiply-add, which halves the rate of scores and combine. */
SIMD_INLINE vf keep(vf x)
{
#if defined __SSE2__
#if VL == 16
    __asm__("" : "+v"(x));
#else
    __asm__("" : "+x"(x));
#endif
#endif
    return x;
}

/* Lane i is lane index[i] of a; index in [0, VL). */
SIMD_INLINE vf permute(vf a, vi index)
{
#if defined SIMD_AVX512
    return (vf)_mm512_permutexvar_ps((__m512i)index, (__m512)a);
#elif defined SIMD_AVX2
    return (vf)_mm256_permutevar8x32_ps((__m256)a, (__m256i)index);
#elif defined SIMD_SSE
    const __m128i bytes = (__m128i)(index * 0x04040404 + 0x03020100);
    return (vf)_mm_shuffle_epi8((__m128i)a, bytes);
#else
    vf x;
    for (int i = 0; i < VL; i++) x[i] = a[index[i]];
    return x;
#endif
}

SIMD_INLINE vf slot_load(const enum mode mode, const float *at, vi index)
{
    const vf x = v_load(at);
    if (mode == STRAIGHT) return keep(x);
    if (mode == PERMUTED) return keep(permute(x, index));
    return keep(v_permute2(x, v_load(at + VL), index));
}

/* ---- scores ------------------------------------------------------------------------ */

/* Queries of some rows against the slots of one key row. */
typedef struct score_block {
    const float *q;       /* first row's channel 0, at the first lane         */
    size_t q_row, q_pitch;
    const float *k;       /* channel 0, at lane 0's first slot                */
    size_t k_pitch, d;
    vi index;
    float *s[ROWS];       /* of each row: [slot][VL]                          */
} score_block;

/* s[i][j] = sum over channels of q[i] k[slot j], j0 <= j < j0 + nj. */
SIMD_INLINE void score_micro(const enum mode mode, const int nr, const int nj,
                             const score_block *b, size_t j0)
{
    const float *q = b->q, *k = b->k + j0;
    const vi index = b->index;
    vf sum[ROWS][SLOTS];
    UNROLL for (int i = 0; i < nr; i++)
        UNROLL for (int j = 0; j < nj; j++) sum[i][j] = v_zero();
    for (size_t c = 0; c < b->d; c++, q += b->q_pitch, k += b->k_pitch) {
        vf x[ROWS];
        UNROLL for (int i = 0; i < nr; i++)
            x[i] = v_load(q + (size_t)i * b->q_row);
        UNROLL for (int j = 0; j < nj; j++) {
            const vf y = slot_load(mode, k + j, index);
            UNROLL for (int i = 0; i < nr; i++)
                sum[i][j] = v_fma(x[i], y, sum[i][j]);
        }
    }
    UNROLL for (int i = 0; i < nr; i++)
        UNROLL for (int j = 0; j < nj; j++)
            v_store(b->s[i] + (j0 + (size_t)j) * VL, sum[i][j]);
}

/* All slots, as many at a time as the registers hold. */
SIMD_INLINE void score_slots(const enum mode mode, const int nr,
                             const score_block *b, size_t slots)
{
    size_t j = 0;
#if VL == 16
    for (; j + 7 <= slots; j += 7) score_micro(mode, nr, 7, b, j);
    if (j + 5 <= slots) score_micro(mode, nr, 5, b, j), j += 5;
#endif
    for (; j + 3 <= slots; j += 3) score_micro(mode, nr, 3, b, j);
    for (; j < slots; j++) score_micro(mode, nr, 1, b, j);
}

#define SCORE_ROWS(name, mode)                                                 \
    static __attribute__((noinline, unused)) void name(                        \
        int nr, const score_block *b, size_t slots)                            \
    {                                                                          \
        switch (nr) {                                                          \
        case 1: score_slots(mode, 1, b, slots); break;                         \
        case 2: score_slots(mode, 2, b, slots); break;                         \
        case 3: score_slots(mode, 3, b, slots); break;                         \
        default: score_slots(mode, 4, b, slots); break;                        \
        }                                                                      \
    }
SCORE_ROWS(score_straight, STRAIGHT)
SCORE_ROWS(score_permuted, PERMUTED)
SCORE_ROWS(score_permuted2, PERMUTED2)

static inline void score(enum mode mode, int nr, const score_block *b,
                         size_t slots)
{
    switch (mode) {
    case STRAIGHT: score_straight(nr, b, slots); break;
    case PERMUTED: score_permuted(nr, b, slots); break;
    case PERMUTED2: score_permuted2(nr, b, slots); break;
    }
}

/* ---- combine ------------------------------------------------------------------------ */

/* One planar row x and its weights for rows [from, to) of a block of sums. */
typedef struct combine_row {
    const float *x; /* channel 0, at lane 0's first slot                     */
    int from, to;
    const float *w[ROWS]; /* [slot][VL]                                      */
} combine_row;

SIMD_INLINE void combine_slots(const enum mode mode, const int from,
                               const int to, const combine_row *r, size_t c,
                               size_t pitch, vi index, size_t slots,
                               vf sum[ROWS][CHANNELS])
{
    const float *x = r->x + c * pitch;
    for (size_t j = 0; j < slots; j++) {
        vf y[CHANNELS];
        UNROLL for (int e = 0; e < CHANNELS; e++)
            y[e] = slot_load(mode, x + (size_t)e * pitch + j, index);
        UNROLL for (int i = from; i < to; i++) {
            const vf w = v_load(r->w[i] + j * VL);
            UNROLL for (int e = 0; e < CHANNELS; e++)
                sum[i][e] = v_fma(w, y[e], sum[i][e]);
        }
    }
}

/* out[row][channel][VL] = sum over rows r and slots of w x, for `rows` rows and
 * `d` channels, d a multiple of CHANNELS. */
SIMD_INLINE void combine_all(const enum mode mode, const combine_row *list,
                             size_t n, size_t pitch, vi index, size_t slots,
                             size_t d, int rows, float *out)
{
    for (size_t c = 0; c < d; c += CHANNELS) {
        vf sum[ROWS][CHANNELS];
        UNROLL for (int i = 0; i < ROWS; i++)
            UNROLL for (int e = 0; e < CHANNELS; e++) sum[i][e] = v_zero();
        for (const combine_row *r = list; r < list + n; r++)
            switch (r->from * 8 + r->to) {
#define CASE(a, b)                                                             \
    case (a) * 8 + (b):                                                        \
        combine_slots(mode, a, b, r, c, pitch, index, slots, sum);             \
        break;
                CASE(0, 1)
                CASE(0, 2)
                CASE(0, 3)
                CASE(0, 4)
                CASE(1, 2)
                CASE(1, 3)
                CASE(1, 4)
                CASE(2, 3)
                CASE(2, 4)
                CASE(3, 4)
#undef CASE
            }
        UNROLL for (int i = 0; i < ROWS; i++)
            if (i < rows)
                UNROLL for (int e = 0; e < CHANNELS; e++)
                    v_store(out + ((size_t)i * d + c + (size_t)e) * VL,
                            sum[i][e]);
    }
}

#define COMBINE(name, mode)                                                    \
    static __attribute__((noinline, unused)) void name(                        \
        const combine_row *list, size_t n, size_t pitch, vi index,             \
        size_t slots, size_t d, int rows, float *out)                          \
    {                                                                          \
        combine_all(mode, list, n, pitch, index, slots, d, rows, out);         \
    }
COMBINE(combine_straight, STRAIGHT)
COMBINE(combine_permuted, PERMUTED)
COMBINE(combine_permuted2, PERMUTED2)

static inline void combine_rows(enum mode mode, const combine_row *list,
                                size_t n, size_t pitch, vi index, size_t slots,
                                size_t d, int rows, float *out)
{
    switch (mode) {
    case STRAIGHT:
        combine_straight(list, n, pitch, index, slots, d, rows, out);
        break;
    case PERMUTED:
        combine_permuted(list, n, pitch, index, slots, d, rows, out);
        break;
    case PERMUTED2:
        combine_permuted2(list, n, pitch, index, slots, d, rows, out);
        break;
    }
}

/* ---- tokens <-> planar rows ----------------------------------------------------------- */

/* dst[c * ldd + r] = src[r * lds + c] for r, c < VL. */
SIMD_INLINE void planar_square(const float *src, size_t lds, float *dst,
                               size_t ldd)
{
#if defined SIMD_AVX512
    /* Whole rows in, two rounds inside 128-bit lanes, two across them: a
     * quarter faster than v_transpose, which keeps to few registers. */
    __m512 r[16], t[16];
    UNROLL for (size_t i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(src + i * lds);
    UNROLL for (size_t i = 0; i < 16; i += 4) {
        const __m512 a = _mm512_unpacklo_ps(r[i], r[i + 1]);
        const __m512 b = _mm512_unpackhi_ps(r[i], r[i + 1]);
        const __m512 c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]);
        const __m512 d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm512_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    UNROLL for (size_t i = 0; i < 4; i++) {
        const __m512 a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
        const __m512 b = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
        const __m512 c = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
        const __m512 d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
        v_store(dst + i * ldd, (vf)_mm512_shuffle_f32x4(a, c, 0x88));
        v_store(dst + (i + 4) * ldd, (vf)_mm512_shuffle_f32x4(b, d, 0x88));
        v_store(dst + (i + 8) * ldd, (vf)_mm512_shuffle_f32x4(a, c, 0xdd));
        v_store(dst + (i + 12) * ldd, (vf)_mm512_shuffle_f32x4(b, d, 0xdd));
    }
#else
    v_transpose(src, lds, dst, ldd, 1);
#endif
}

/* The same for rows or columns fewer than VL, of which nothing beyond is read;
 * VL entries of each dst row are written. */
static inline void planar_corner(const float *src, size_t lds, size_t rows,
                                 size_t columns, float *dst, size_t ldd)
{
    float from[VL * VL], to[VL * VL];
    for (size_t r = 0; r < VL; r++)
        v_store(from + r * VL,
                r < rows ? v_load_n(src + r * lds, columns) : v_zero());
    planar_square(from, VL, to, VL);
    for (size_t c = 0; c < columns; c++)
        v_store(dst + c * ldd, v_load(to + c * VL));
}

/* dst[c * ldd + r] = src[r * lds + c] for r < rows, c < columns.  Of src,
 * `readable` >= rows rows may be read; of dst, rows are written up to a multiple
 * of VL. */
static inline void planar_turn(const float *src, size_t lds, size_t rows,
                               size_t readable, size_t columns, float *dst,
                               size_t ldd)
{
    for (size_t r = 0; r < rows; r += VL) {
        const size_t nr = readable - r < VL ? rows - r : VL;
        for (size_t c = 0; c < columns; c += VL) {
            /* a last part vector of columns goes with its predecessors */
            const size_t c0 = c + VL <= columns ? c
                              : columns < VL    ? 0
                                                : columns - VL;
            const size_t nc = columns < VL ? columns : VL;
            const float *from = src + r * lds + c0;
            float *to = dst + c0 * ldd + r;
            if (nr == VL && nc == VL) planar_square(from, lds, to, ldd);
            else planar_corner(from, lds, nr < VL ? nr : VL, nc, to, ldd);
        }
    }
}

/* As planar_turn, from elements of a tensor of any dtype from `at` on. */
static inline void planar_turn_stored(int dtype, const void *tensor, size_t at,
                                      size_t lds, size_t rows, size_t readable,
                                      size_t columns, float *dst, size_t ldd)
{
    if (dtype == ATT_F32) {
        planar_turn((const float *)tensor + at, lds, rows, readable, columns,
                    dst, ldd);
        return;
    }
    float square[VL * VL] = { 0 };
    for (size_t r = 0; r < rows; r += VL) {
        const size_t nr = readable - r < VL ? rows - r : VL;
        for (size_t c = 0; c < columns; c += VL) {
            const size_t nc = columns - c < VL ? columns - c : VL;
            for (size_t i = 0; i < nr; i++)
                store_fetch(dtype, tensor, at + (r + i) * lds + c, nc,
                            square + i * VL);
            float *to = dst + c * ldd + r;
            if (nc == VL) planar_square(square, VL, to, ldd);
            else planar_corner(square, VL, VL, nc, to, ldd);
        }
    }
}

/* Lanes [from, to) of o[channel][VL] to rows of d channels, dst the first. */
static inline void planar_back(const float *o, size_t d, size_t from, size_t to,
                               float *dst, size_t ldd)
{
    if (from == 0 && to == VL && d >= VL) {
        for (size_t c = 0; c < d; c += VL) {
            const size_t c0 = c + VL <= d ? c : d - VL;
            planar_square(o + c0 * VL, VL, dst + c0, ldd);
        }
        return;
    }
    float turned[VL * VL];
    for (size_t c = 0; c < d; c += VL) {
        const size_t n = d - c < VL ? d - c : VL;
        if (n == VL) planar_square(o + c * VL, VL, turned, VL);
        else planar_corner(o + c * VL, VL, n, VL, turned, VL);
        for (size_t l = from; l < to; l++)
            v_store_n(dst + (l - from) * ldd + c, v_load(turned + l * VL), n);
    }
}

/* As planar_back, to elements of a tensor of any dtype from `at` on. */
static inline void planar_back_stored(const float *o, size_t d, size_t from,
                                      size_t to, int dtype, void *tensor,
                                      size_t at, size_t ldd)
{
    if (dtype == ATT_F32) {
        planar_back(o, d, from, to, (float *)tensor + at, ldd);
        return;
    }
    float turned[VL * VL];
    for (size_t c = 0; c < d; c += VL) {
        const size_t n = d - c < VL ? d - c : VL;
        if (n == VL) planar_square(o + c * VL, VL, turned, VL);
        else planar_corner(o + c * VL, VL, n, VL, turned, VL);
        for (size_t l = from; l < to; l++)
            store_put(dtype, tensor, at + (l - from) * ldd + c, n,
                      turned + l * VL);
    }
}

#endif
