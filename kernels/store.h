/* store.h - q, k, v, o may be stored as f32, f16 or bf16; kernels compute in
 * float.  A kernel asks for a view of the rows it is about to use: for f32 that
 * is the tensor itself, else a converted copy in its scratch.
 */
#ifndef ATT_STORE_H
#define ATT_STORE_H

#include "att.h"
#include "simd.h"

typedef uint16_t vh __attribute__((vector_size(VL * 2)));

SIMD_INLINE vh vh_load(const uint16_t *p)
{
    vh x;
    memcpy(&x, p, sizeof x);
    return x;
}

SIMD_INLINE vf v_from_bf16(const uint16_t *p)
{
    return (vf)(__builtin_convertvector(vh_load(p), vu) << 16);
}

SIMD_INLINE vf v_from_f16(const uint16_t *p)
{
#if defined SIMD_AVX512
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined SIMD_AVX2
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#else
    /* The exponent is moved as an integer, of infinity and NaN twice.  Subnormals
     * get one, 2^-14, that is taken away again: no float is ever denormal. */
    const vu h = __builtin_convertvector(vh_load(p), vu);
    const vu e = h & 0x7c00, a = ((h & 0x7fff) << 13) + (112u << 23);
    const vu tiny = (vu)(e == 0), special = (vu)(e == 0x7c00);
    const vf small = (vf)(a + (1u << 23)) - v_set1(0x1p-14f);
    const vu u = (((vu)small & tiny) | (a & ~tiny)) + (special & 112u << 23);
    return (vf)(u | (h & 0x8000) << 16);
#endif
}

/* Round to nearest, ties to even; a NaN stays one. */
SIMD_INLINE void v_to_bf16(uint16_t *p, vf x)
{
    const vu u = (vu)x;
    const vu even = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    const vu nan = (vu)(x != x);
    const vh h = __builtin_convertvector((even & ~nan) | (0x7fc0 & nan), vh);
    memcpy(p, &h, sizeof h);
}

SIMD_INLINE void v_to_f16(uint16_t *p, vf x)
{
#if defined SIMD_AVX512
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)x, 0));
#elif defined SIMD_AVX2
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)x, 0));
#else
    /* Adding a number whose unit in the last place is that of the half rounds
     * there: 2^13 times the power of two below |x|, at least that of 2^-14. */
    const vf a = v_min(v_abs(x), v_set1(65520));
    const vf low = v_max((vf)((vu)a & 0x7f800000u), v_set1(0x1p-14f));
    const vf big = low * v_set1(0x1p13f);
    const vf r = (a + big) - big;
    const vu normal = ((vu)r - (112u << 23)) >> 13;
    const vu tiny = (vu)__builtin_convertvector(r * v_set1(0x1p24f), vi);
    const vu is_tiny = (vu)(r < v_set1(0x1p-14f)), nan = (vu)(x != x);
    vu u = (tiny & is_tiny) | (normal & ~is_tiny);
    u = (u & ~nan) | (0x7e00 & nan) | ((vu)x >> 16 & 0x8000);
    const vh h = __builtin_convertvector(u, vh);
    memcpy(p, &h, sizeof h);
#endif
}

/* n elements from element `at` of a tensor, as float. */
static inline __attribute__((unused)) void
store_fetch(int dtype, const void *tensor, size_t at, size_t n, float *out)
{
    if (dtype == ATT_F32) {
        memcpy(out, (const float *)tensor + at, n * sizeof *out);
        return;
    }
    const uint16_t *in = (const uint16_t *)tensor + at;
    size_t i = 0;
    if (dtype == ATT_F16)
        for (; i + VL <= n; i += VL) v_store(out + i, v_from_f16(in + i));
    else
        for (; i + VL <= n; i += VL) v_store(out + i, v_from_bf16(in + i));
    if (i == n) return;
    uint16_t rest[VL] = { 0 };
    memcpy(rest, in + i, (n - i) * sizeof *rest);
    v_store_n(out + i,
              dtype == ATT_F16 ? v_from_f16(rest) : v_from_bf16(rest), n - i);
}

/* n floats into a tensor from element `at` on. */
static inline __attribute__((unused)) void
store_put(int dtype, void *tensor, size_t at, size_t n, const float *in)
{
    if (dtype == ATT_F32) {
        memcpy((float *)tensor + at, in, n * sizeof *in);
        return;
    }
    uint16_t *out = (uint16_t *)tensor + at, rest[VL];
    size_t i = 0;
    if (dtype == ATT_F16)
        for (; i + VL <= n; i += VL) v_to_f16(out + i, v_load(in + i));
    else
        for (; i + VL <= n; i += VL) v_to_bf16(out + i, v_load(in + i));
    if (i == n) return;
    const vf x = v_load_n(in + i, n - i);
    if (dtype == ATT_F16) v_to_f16(rest, x);
    else v_to_bf16(rest, x);
    memcpy(out + i, rest, (n - i) * sizeof *rest);
}

/* The elements as float: in place for f32, else converted into scratch. */
SIMD_INLINE const float *store_view(int dtype, const void *tensor, size_t at,
                                    size_t n, float *scratch)
{
    if (dtype == ATT_F32) return (const float *)tensor + at;
    store_fetch(dtype, tensor, at, n, scratch);
    return scratch;
}

#endif
