/* simd.h - the vector vocabulary: vf holds VL floats, VL follows the level that
 * a file is compiled for (16 at v4, 8 at v3, 4 below).
 *
 * GCC vector extensions do the arithmetic (a * b + c contracts to one FMA where
 * the level has it); intrinsics appear only where the extensions have no word:
 * maximum, rounding, masked tails, permutes, transposes.  The width must follow
 * the level: 64-byte vectors without AVX-512 are lowered to stack code, 25 to 60
 * times slower.
 */
#ifndef ATT_SIMD_H
#define ATT_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <immintrin.h>
#endif

#if defined __AVX512F__ && defined __AVX512VL__ && defined __AVX512DQ__
#define VL 16
#define SIMD_AVX512
#elif defined __AVX2__
#define VL 8
#define SIMD_AVX2
#else
#define VL 4
#ifdef __SSE4_1__
#define SIMD_SSE
#endif
#endif

#define SIMD_INLINE static inline __attribute__((always_inline, unused))

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef float vf_unaligned
    __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef int32_t vi_unaligned
    __attribute__((vector_size(VL * 4), aligned(4), may_alias));

/* The lowest float: where maxima begin, so that differences with them are not
 * NaN.  Logits of hidden pairs are -infinity, of which v_exp2 is 0: a row whose
 * sum is 0 saw nothing, and one of lowest logits is a row like others. */
#define V_LOWEST (-0x1.fffffep127f)

SIMD_INLINE vf v_load(const float *p)
{
    return *(const vf_unaligned *)p;
}

SIMD_INLINE void v_store(float *p, vf x)
{
    *(vf_unaligned *)p = x;
}

SIMD_INLINE vi vi_load(const int32_t *p)
{
    return *(const vi_unaligned *)p;
}

SIMD_INLINE vf v_set1(float x)
{
#if defined SIMD_AVX512
    return (vf)_mm512_set1_ps(x);
#elif defined SIMD_AVX2
    return (vf)_mm256_set1_ps(x);
#elif defined SIMD_SSE
    return (vf)_mm_set1_ps(x);
#else
    return (vf){ x, x, x, x };
#endif
}

SIMD_INLINE vf v_zero(void)
{
    return (vf){ 0 };
}

/* a * b + c. */
SIMD_INLINE vf v_fma(vf a, vf b, vf c)
{
    return a * b + c;
}

/* Lanes of a where mask is all ones, of b where it is 0 (masks are what vector
 * comparisons yield). */
SIMD_INLINE vf v_select(vi mask, vf a, vf b)
{
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
}

SIMD_INLINE vf v_max(vf a, vf b)
{
#if defined SIMD_AVX512
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined SIMD_AVX2
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined SIMD_SSE
    return (vf)_mm_max_ps((__m128)a, (__m128)b);
#else
    return v_select(a > b, a, b);
#endif
}

SIMD_INLINE vf v_min(vf a, vf b)
{
#if defined SIMD_AVX512
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined SIMD_AVX2
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined SIMD_SSE
    return (vf)_mm_min_ps((__m128)a, (__m128)b);
#else
    return v_select(a < b, a, b);
#endif
}

SIMD_INLINE vf v_abs(vf x)
{
    return (vf)((vi)x & 0x7fffffff);
}

SIMD_INLINE vf v_sqrt(vf x)
{
#if defined SIMD_AVX512
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined SIMD_AVX2
    return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined SIMD_SSE
    return (vf)_mm_sqrt_ps((__m128)x);
#else
    for (int i = 0; i < VL; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}

/* ---- across lanes ---------------------------------------------------------------- */

SIMD_INLINE float v_sum(vf x)
{
#if defined SIMD_AVX512
    return _mm512_reduce_add_ps((__m512)x);
#elif defined SIMD_AVX2
    __m128 y = _mm_add_ps(_mm256_castps256_ps128((__m256)x),
                          _mm256_extractf128_ps((__m256)x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
#else
    return (x[0] + x[2]) + (x[1] + x[3]);
#endif
}

SIMD_INLINE float v_hmax(vf x)
{
#if defined SIMD_AVX512
    return _mm512_reduce_max_ps((__m512)x);
#elif defined SIMD_AVX2
    __m128 y = _mm_max_ps(_mm256_castps256_ps128((__m256)x),
                          _mm256_extractf128_ps((__m256)x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_shuffle_ps(y, y, 1)));
#else
    float m = x[0];
    UNROLL for (int i = 1; i < VL; i++) m = x[i] > m ? x[i] : m;
    return m;
#endif
}

/* out[i] = sum of x[i], i < 4: half the shuffles of four v_sum(). */
SIMD_INLINE void v_sum4(vf a, vf b, vf c, vf d, float *out)
{
#if defined SIMD_AVX512
    const __m512 x = _mm512_add_ps(_mm512_unpacklo_ps((__m512)a, (__m512)b),
                                   _mm512_unpackhi_ps((__m512)a, (__m512)b));
    const __m512 y = _mm512_add_ps(_mm512_unpacklo_ps((__m512)c, (__m512)d),
                                   _mm512_unpackhi_ps((__m512)c, (__m512)d));
    const __m512 z = _mm512_add_ps(_mm512_shuffle_ps(x, y, 0x44),
                                   _mm512_shuffle_ps(x, y, 0xee));
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(z),
                                   _mm512_extractf32x8_ps(z, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(h),
                                  _mm256_extractf128_ps(h, 1)));
#elif defined SIMD_AVX2
    const __m256 z = _mm256_hadd_ps(_mm256_hadd_ps((__m256)a, (__m256)b),
                                    _mm256_hadd_ps((__m256)c, (__m256)d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(z),
                                  _mm256_extractf128_ps(z, 1)));
#else
    out[0] = v_sum(a);
    out[1] = v_sum(b);
    out[2] = v_sum(c);
    out[3] = v_sum(d);
#endif
}

/* ---- tails: the first n (0..VL) lanes; nothing beyond is touched ---------------------- */

/* A masked store does not forward to loads that follow it at once: where what
 * lies behind may be overwritten, v_store() is faster.  Writing x[i] for i >= n
 * sends x through memory: x & vi_first(n) does not. */

/* All ones in the first n lanes, 0 in the others. */
SIMD_INLINE vi vi_first(size_t n)
{
#if defined SIMD_AVX512
    return (vi)_mm512_maskz_set1_epi32((__mmask16)((1u << n) - 1), -1);
#elif defined SIMD_AVX2
    return (int32_t)n > (vi){ 0, 1, 2, 3, 4, 5, 6, 7 };
#else
    return (int32_t)n > (vi){ 0, 1, 2, 3 };
#endif
}

/* x in the first n lanes, 0 in the others. */
SIMD_INLINE vf v_first(vf x, size_t n)
{
    return (vf)((vi)x & vi_first(n));
}

/* Lanes from n on are 0. */
SIMD_INLINE vf v_load_n(const float *p, size_t n)
{
#if defined SIMD_AVX512
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif defined SIMD_AVX2
    return (vf)_mm256_maskload_ps(p, (__m256i)vi_first(n));
#else
    vf x = v_zero();
    memcpy(&x, p, n * sizeof *p);
    return x;
#endif
}

SIMD_INLINE void v_store_n(float *p, vf x, size_t n)
{
#if defined SIMD_AVX512
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
#elif defined SIMD_AVX2
    _mm256_maskstore_ps(p, (__m256i)vi_first(n), (__m256)x);
#else
    memcpy(p, &x, n * sizeof *p);
#endif
}

/* ---- exponentials ---------------------------------------------------------------------- */

SIMD_INLINE vf simd_round(vf x)
{
#if defined SIMD_AVX512
    return (vf)_mm512_roundscale_ps((__m512)x, 8);
#elif defined SIMD_AVX2
    return (vf)_mm256_round_ps((__m256)x, 8);
#elif defined SIMD_SSE
    return (vf)_mm_round_ps((__m128)x, 8);
#else
    const vf magic = v_set1(0x1.8p23f); /* |x| < 2^22 */
    return (x + magic) - magic;
#endif
}

/* Lanes of x that are not below `least` (NaN is not), as simd_exp2_parts() takes
 * them. */
#if defined SIMD_AVX512
typedef __mmask16 simd_mask;
#else
typedef vi simd_mask;
#endif

SIMD_INLINE simd_mask simd_not_below(vf x, float least)
{
#if defined SIMD_AVX512
    return _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(least), _CMP_NLT_UQ);
#else
    return ~(x < least);
#endif
}

/* Multiply-adds in v_exp2, of the polynomial: its bound counts them. */
enum { SIMD_EXP_MUL_ADDS = 6 };

/* 2^r 2^n for r in [-1/2, 1/2], n integer, where `normal` says so, else 0: a
 * polynomial of degree 5 with p(0) = 1 fitted for the least relative error on
 * that interval (Lawson's iteration), 9.1e-8 exactly, 1.6e-7 when evaluated in
 * float. */
SIMD_INLINE vf simd_exp2_parts(vf r, vf n, simd_mask normal)
{
    vf p = v_set1(0x1.5bba14p-10f);
    p = v_fma(p, r, v_set1(0x1.3cea88p-7f));
    p = v_fma(p, r, v_set1(0x1.c6b752p-5f));
    p = v_fma(p, r, v_set1(0x1.ebf9bcp-3f));
    p = v_fma(p, r, v_set1(0x1.62e42ap-1f));
    p = v_fma(p, r, v_set1(1.0f));
#if defined SIMD_AVX512
    return (vf)_mm512_maskz_scalef_ps(normal, (__m512)p, (__m512)n);
#else
    const vu power = (vu)__builtin_convertvector(n, vi) << 23;
    return (vf)(((vu)p + power) & (vu)normal);
#endif
}

/* 2^x, relative error below 3e-7; infinity from 128 on.  Below -126 it is 0 and
 * never denormal: a denormal costs each multiply-add that meets it more than a
 * hundred cycles on some processors. */
SIMD_INLINE vf v_exp2(vf x)
{
    const simd_mask normal = simd_not_below(x, -126);
#if !defined SIMD_AVX512 /* scalef saturates by itself */
    x = v_min(v_set1(128), x); /* a NaN stays one */
#endif
    const vf n = simd_round(x);
    return simd_exp2_parts(x - n, n, normal);
}

/* e^x, relative error below 4e-7; 0 where that would be below 2^-126, infinity
 * where it would be above the largest float.  The reduction subtracts n ln 2 in
 * two parts, the first exact in float. */
SIMD_INLINE vf v_exp(vf x)
{
    const simd_mask normal = simd_not_below(x, -87.3365f);
#if defined SIMD_AVX512 /* scalef rounds to infinity by itself */
    const vf y = v_min(v_set1(89), x);
#else
    const vf high = v_set1(88.72283f);
    const vf y = v_min(high, x);
#endif
    const vf n = simd_round(y * 1.44269504f);
    vf r = y - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    const vf e = simd_exp2_parts(r * 1.44269504f, n, normal);
#if defined SIMD_AVX512
    return e;
#else
    return v_select(x > high, v_set1(INFINITY), e);
#endif
}

/* log2(e) b of a term b of logits, for logits in base 2.  Beyond 2^100, where it
 * only has to keep the order of the terms, it grows as b alone, so that every
 * float has a place: finite ones stay so, infinity is the largest, -infinity
 * hides the pair. */
SIMD_INLINE vf v_base2(vf b)
{
    const vf near = v_min(v_max(b, v_set1(-0x1p100f)), v_set1(0x1p100f));
    return v_fma(v_set1(0.44269504f), near, v_min(b, v_set1(-V_LOWEST)));
}

static inline float simd_base2(float b)
{
    const float near = fminf(fmaxf(b, -0x1p100f), 0x1p100f);
    return 0.44269504f * near + fminf(b, -V_LOWEST);
}

/* The logit whose value in base 2 is x. */
static inline float simd_base_e(float x)
{
    const float far = 0x1.715476p100f; /* log2(e) 2^100 */
    return x > far    ? x - (far - 0x1p100f)
           : x < -far ? x + (far - 0x1p100f)
                      : x * 0.69314718f;
}

/* 1 / (1 + e^-x). */
SIMD_INLINE vf v_sigmoid(vf x)
{
    return 1.0f / (1.0f + v_exp(-x));
}

/* ---- permutes and transposes --------------------------------------------------------------- */

/* Lane i of the result is lane index[i] of a followed by b; index in [0, 2 VL). */
SIMD_INLINE vf v_permute2(vf a, vf b, vi index)
{
#if defined SIMD_AVX512
    return (vf)_mm512_permutex2var_ps((__m512)a, (__m512i)index, (__m512)b);
#elif defined SIMD_AVX2
    const __m256 x = _mm256_permutevar8x32_ps((__m256)a, (__m256i)index);
    const __m256 y = _mm256_permutevar8x32_ps((__m256)b, (__m256i)index);
    const __m256i second = _mm256_slli_epi32((__m256i)index, 28);
    return (vf)_mm256_blendv_ps(x, y, _mm256_castsi256_ps(second));
#else
    vf x;
    for (int i = 0; i < VL; i++)
        x[i] = index[i] < VL ? a[index[i]] : b[index[i] - VL];
    return x;
#endif
}

/* dst[c * ldd + r] = scale * src[r * lds + c] for r, c in [0, VL). */
SIMD_INLINE void v_transpose(const float *src, size_t lds, float *dst,
                             size_t ldd, float scale)
{
    const vf s = v_set1(scale);
#if defined SIMD_AVX512
    /* Register i of group g holds rows i, i+4, i+8, i+12 of four columns, so
     * that two rounds of in-lane shuffles finish the job. */
    UNROLL for (size_t g = 0; g < 16; g += 4) {
        __m512 r[4];
        UNROLL for (size_t i = 0; i < 4; i++) {
            const float *p = src + i * lds + g;
            __m512 x = _mm512_castps128_ps512(_mm_loadu_ps(p));
            x = _mm512_insertf32x4(x, _mm_loadu_ps(p + 4 * lds), 1);
            x = _mm512_insertf32x4(x, _mm_loadu_ps(p + 8 * lds), 2);
            r[i] = _mm512_insertf32x4(x, _mm_loadu_ps(p + 12 * lds), 3);
        }
        const __m512 a = _mm512_unpacklo_ps(r[0], r[1]);
        const __m512 b = _mm512_unpackhi_ps(r[0], r[1]);
        const __m512 c = _mm512_unpacklo_ps(r[2], r[3]);
        const __m512 d = _mm512_unpackhi_ps(r[2], r[3]);
        v_store(dst + (g + 0) * ldd, s * (vf)_mm512_shuffle_ps(a, c, 0x44));
        v_store(dst + (g + 1) * ldd, s * (vf)_mm512_shuffle_ps(a, c, 0xee));
        v_store(dst + (g + 2) * ldd, s * (vf)_mm512_shuffle_ps(b, d, 0x44));
        v_store(dst + (g + 3) * ldd, s * (vf)_mm512_shuffle_ps(b, d, 0xee));
    }
#elif defined SIMD_AVX2
    UNROLL for (size_t g = 0; g < 8; g += 4) {
        __m256 r[4];
        UNROLL for (size_t i = 0; i < 4; i++)
            r[i] = _mm256_insertf128_ps(
                _mm256_castps128_ps256(_mm_loadu_ps(src + i * lds + g)),
                _mm_loadu_ps(src + (i + 4) * lds + g), 1);
        const __m256 a = _mm256_unpacklo_ps(r[0], r[1]);
        const __m256 b = _mm256_unpackhi_ps(r[0], r[1]);
        const __m256 c = _mm256_unpacklo_ps(r[2], r[3]);
        const __m256 d = _mm256_unpackhi_ps(r[2], r[3]);
        v_store(dst + (g + 0) * ldd, s * (vf)_mm256_shuffle_ps(a, c, 0x44));
        v_store(dst + (g + 1) * ldd, s * (vf)_mm256_shuffle_ps(a, c, 0xee));
        v_store(dst + (g + 2) * ldd, s * (vf)_mm256_shuffle_ps(b, d, 0x44));
        v_store(dst + (g + 3) * ldd, s * (vf)_mm256_shuffle_ps(b, d, 0xee));
    }
#elif defined SIMD_SSE
    __m128 a = _mm_loadu_ps(src), b = _mm_loadu_ps(src + lds);
    __m128 c = _mm_loadu_ps(src + 2 * lds), d = _mm_loadu_ps(src + 3 * lds);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    v_store(dst, s * (vf)a);
    v_store(dst + ldd, s * (vf)b);
    v_store(dst + 2 * ldd, s * (vf)c);
    v_store(dst + 3 * ldd, s * (vf)d);
#else
    for (size_t c = 0; c < VL; c++) {
        vf x;
        for (size_t r = 0; r < VL; r++) x[r] = src[r * lds + c];
        v_store(dst + c * ldd, s * x);
    }
#endif
}

#endif
