/* simd_level.c - compiled once per level, like a kernel. */
#include "simd_level.h"

#include "../kernels/att.h"
#include "../kernels/store.h"
#include "../kernels/tile.h"

#define ONE(name, expression)                                                  \
    static void name(const float *x, float *out)                               \
    {                                                                          \
        const vf a = v_load(x);                                                \
        v_store(out, expression);                                              \
    }
ONE(exp2_, v_exp2(a))
ONE(exp_, v_exp(a))
ONE(sigmoid_, v_sigmoid(a))
ONE(sqrt_, v_sqrt(a))
ONE(abs_, v_abs(a))
#undef ONE

#define TWO(name, expression)                                                  \
    static void name(const float *x, const float *y, float *out)               \
    {                                                                          \
        const vf a = v_load(x), b = v_load(y);                                 \
        v_store(out, expression);                                              \
    }
TWO(max_, v_max(a, b))
TWO(min_, v_min(a, b))
TWO(select_, v_select(a < b, a, b))
#undef TWO

static void fma_(const float *x, const float *y, const float *z, float *out)
{
    v_store(out, v_fma(v_load(x), v_load(y), v_load(z)));
}

static void from_half_(const uint16_t *x, float *out)
{
    v_store(out, v_from_f16(x));
}

static void to_half_(const float *x, uint16_t *out)
{
    v_to_f16(out, v_load(x));
}

static float sum_(const float *x)
{
    return v_sum(v_load(x));
}

static float hmax_(const float *x)
{
    return v_hmax(v_load(x));
}

static void tail_(const float *x, float *out, size_t n, float *rest)
{
    const vf a = v_load_n(x, n);
    v_store(rest, a);
    v_store_n(out, a, n);
}

static void permute2_(const float *a, const float *b, const int *index,
                      float *out)
{
    v_store(out, v_permute2(v_load(a), v_load(b), vi_load(index)));
}

static void transpose_(const float *src, size_t lds, float *dst, size_t ldd,
                       float scale)
{
    v_transpose(src, lds, dst, ldd, scale);
}

extern const simd_level ATT_PASTE(simd_, ATT_UNIT);
const simd_level ATT_PASTE(simd_, ATT_UNIT) = {
    .lanes = VL,
    .tile_m = TILE_M,
    .tile_n = TILE_N,
    .exp2 = exp2_,
    .exp = exp_,
    .sigmoid = sigmoid_,
    .sqrt = sqrt_,
    .abs = abs_,
    .max = max_,
    .min = min_,
    .fma = fma_,
    .select = select_,
    .sum = sum_,
    .hmax = hmax_,
    .from_half = from_half_,
    .to_half = to_half_,
    .tail = tail_,
    .permute2 = permute2_,
    .transpose = transpose_,
    .turn = tile_transpose,
    .gemm = tile_gemm,
};
