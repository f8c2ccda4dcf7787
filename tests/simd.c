/* simd.c - the vector vocabulary and the register tiles at every level that this
 * machine runs, in memory that ends at a page that faults. */
#include "test.h"

#include "../harness/guard.h"
#include "../kernels/plan.h"
#include "simd_level.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

enum { LANES = 16 };

/* Those that the build has. */
#define LEVEL(name)                                                            \
    extern const simd_level simd_tests_simd_level_##name __attribute__((weak));
LEVEL(base)
LEVEL(v2)
LEVEL(v3)
LEVEL(v4)
#undef LEVEL

static const simd_level *const levels[ATT_LEVELS] = {
    &simd_tests_simd_level_base,
    &simd_tests_simd_level_v2,
    &simd_tests_simd_level_v3,
    &simd_tests_simd_level_v4,
};

static const simd_level *level_of(void **state)
{
    return *state;
}

static void fill(float *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)att_normal(&seed);
}

/* ---- functions of one vector ----------------------------------------------------- */

/* Largest relative error of f against g on n points of [lo, hi]. */
static double worst_error(const simd_level *s,
                          void (*f)(const float *, float *), double (*g)(double),
                          double lo, double hi, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i += (size_t)s->lanes) {
        float x[LANES], y[LANES];
        for (int l = 0; l < s->lanes; l++)
            x[l] = (float)(lo + (hi - lo) * (double)(i + (size_t)l) / (double)n);
        f(x, y);
        for (int l = 0; l < s->lanes; l++)
            worst = fmax(worst, fabs(y[l] / g(x[l]) - 1));
    }
    return worst;
}

static float at(void (*f)(const float *, float *), float value)
{
    float x[LANES], y[LANES];
    for (int l = 0; l < LANES; l++) x[l] = value;
    f(x, y);
    return y[0];
}

static void exponentials(void **state)
{
    const simd_level *s = level_of(state);
    const size_t n = 1 << 20;
    const double two = worst_error(s, s->exp2, exp2, -126, 127.99, n);
    const double e = worst_error(s, s->exp, exp, -87.3, 88.7, n);
    if (!(two <= 3e-7)) fail_msg("exp2 is off by %.3g", two);
    if (!(e <= 4e-7)) fail_msg("exp is off by %.3g", e);
    if (!(worst_error(s, s->exp2, exp2, -1, 1, n) <= 3e-7))
        fail_msg("exp2 near 0");

    assert_true(at(s->exp2, 0) == 1);
    assert_true(at(s->exp2, -1e30f) == 0);
    assert_true(at(s->exp2, -126) == FLT_MIN);
    assert_true(at(s->exp2, -INFINITY) == 0);
    assert_true(isnan(at(s->exp2, NAN)));
    assert_true(isinf(at(s->exp2, 128)));
    assert_true(isinf(at(s->exp2, 1e30f)));
    assert_true(at(s->exp, 0) == 1);
    assert_true(at(s->exp, -105) == 0);
    assert_true(at(s->exp, -2000) == 0 && at(s->exp2, -3000) == 0);
    assert_true(at(s->exp, -1e30f) == 0);
    assert_true(at(s->exp, -INFINITY) == 0);
    assert_true(isnan(at(s->exp, NAN)));
    assert_true(isinf(at(s->exp, 89)));
    assert_true(isinf(at(s->exp, 1e30f)));
}

/* Around the end of the normal range a result is normal or 0, and 0 only where
 * 2^x is less than a part in 10^4 above that end. */
static void check_below(void (*f)(const float *, float *), float lowest,
                        float zero, float normal)
{
    for (float x = lowest; x < normal + 1; x = nextafterf(x, INFINITY) + 1e-5f) {
        const float y = at(f, x);
        if (y != 0 && y < FLT_MIN) fail_msg("denormal %g at %.9g", y, x);
        if (x < zero && y != 0) fail_msg("%g at %.9g", y, x);
        if (x >= normal && y == 0) fail_msg("0 at %.9g", x);
    }
}

static void nothing_is_denormal(void **state)
{
    const simd_level *s = level_of(state);
    check_below(s->exp2, -128, -126, -126);
    check_below(s->exp2, -150.1f, -149, -126);
    check_below(s->exp, -88.5f, -87.33655f, -87.336f);
    check_below(s->exp, -104.1f, -103, -87.336f);
}

/* Halves of every bit pattern; subnormal ones are normal floats, which they stay
 * on a processor that flushes denormals. */
static void halves(void **state)
{
    const simd_level *s = level_of(state);
#ifdef __SSE2__
    const unsigned mode = _mm_getcsr();
#endif
    for (unsigned first = 0; first < 0x10000; first += LANES) {
        uint16_t half[LANES], back[LANES];
        float x[LANES], want[LANES];
        for (unsigned l = 0; l < LANES; l++) half[l] = (uint16_t)(first + l);
        att_fetch(ATT_F16, want, half, LANES);
#ifdef __SSE2__
        _mm_setcsr(mode | 0x8040);
#endif
        for (int l = 0; l < LANES; l += s->lanes) s->from_half(half + l, x + l);
        for (int l = 0; l < LANES; l += s->lanes) s->to_half(x + l, back + l);
#ifdef __SSE2__
        _mm_setcsr(mode);
#endif
        for (int l = 0; l < LANES; l++) {
            if (isnan(want[l])) {
                assert_true(isnan(x[l]));
                continue;
            }
            if (x[l] != want[l] || signbit(x[l]) != signbit(want[l]))
                fail_msg("half %04x is %g, not %g", half[l], x[l], want[l]);
            assert_int_equal(back[l], half[l]);
        }
    }
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void sigmoids(void **state)
{
    const simd_level *s = level_of(state);
    const double worst = worst_error(s, s->sigmoid, sigmoid, -80, 80, 1 << 18);
    if (!(worst <= 6e-7)) fail_msg("sigmoid is off by %.3g", worst);
    assert_true(at(s->sigmoid, -1e4f) == 0);
    assert_true(at(s->sigmoid, 1e4f) == 1);
    assert_true(at(s->sigmoid, 0) == 0.5f);
}

static void elementwise(void **state)
{
    const simd_level *s = level_of(state);
    for (uint64_t seed = 1; seed < 50; seed++) {
        float x[LANES], y[LANES], z[LANES], out[LANES], sum = 0, most;
        double exact = 0;
        fill(x, LANES, seed);
        fill(y, LANES, seed + 1000);
        fill(z, LANES, seed + 2000);
        most = x[0];
        for (int l = 0; l < s->lanes; l++) {
            exact += x[l];
            most = fmaxf(most, x[l]);
        }
        sum = s->sum(x);
        assert_true(fabs(sum - exact) < 1e-5);
        assert_true(s->hmax(x) == most);
        s->max(x, y, out);
        for (int l = 0; l < s->lanes; l++) assert_true(out[l] == fmaxf(x[l], y[l]));
        s->min(x, y, out);
        for (int l = 0; l < s->lanes; l++) assert_true(out[l] == fminf(x[l], y[l]));
        s->select(x, y, out);
        for (int l = 0; l < s->lanes; l++) assert_true(out[l] == fminf(x[l], y[l]));
        s->abs(x, out);
        for (int l = 0; l < s->lanes; l++) assert_true(out[l] == fabsf(x[l]));
        s->sqrt(out, y);
        for (int l = 0; l < s->lanes; l++) assert_true(y[l] == sqrtf(out[l]));
        s->fma(x, out, z, y);
        for (int l = 0; l < s->lanes; l++)
            assert_true(fabs(y[l] - ((double)x[l] * out[l] + z[l])) < 1e-6);
    }
}

/* ---- tails, permutes ---------------------------------------------------------------- */

static void tails(void **state)
{
    const simd_level *s = level_of(state);
    for (size_t n = 0; n <= (size_t)s->lanes; n++) {
        float *x = guard_take_tight(n * sizeof *x);
        float *out = guard_take_tight(n * sizeof *out), rest[LANES];
        fill(x, n, n + 1);
        s->tail(x, out, n, rest);
        for (size_t i = 0; i < n; i++) assert_true(out[i] == x[i]);
        for (size_t i = 0; i < (size_t)s->lanes; i++)
            assert_true(rest[i] == (i < n ? x[i] : 0));
        guard_release(x);
        guard_release(out);
    }
}

static void permutes(void **state)
{
    const simd_level *s = level_of(state);
    uint64_t seed = 3;
    for (int t = 0; t < 200; t++) {
        float a[LANES], b[LANES], out[LANES];
        int index[LANES];
        fill(a, LANES, (uint64_t)t);
        fill(b, LANES, (uint64_t)t + 500);
        for (int l = 0; l < LANES; l++)
            index[l] = (int)(att_random(&seed) % (uint64_t)(2 * s->lanes));
        s->permute2(a, b, index, out);
        for (int l = 0; l < s->lanes; l++)
            assert_true(out[l] == (index[l] < s->lanes
                                       ? a[index[l]]
                                       : b[index[l] - s->lanes]));
    }
}

/* ---- tiles ---------------------------------------------------------------------------- */

static void transposes(void **state)
{
    const simd_level *s = level_of(state);
    const size_t sizes[] = { 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33 };
    const size_t count = sizeof sizes / sizeof *sizes;
    for (size_t a = 0; a < count; a++)
        for (size_t b = 0; b < count; b++) {
            const size_t rows = sizes[a], columns = sizes[b];
            const size_t lds = columns + a % 3, ldd = rows + b % 4;
            const size_t padded = rows + b % 4;
            const size_t in = (rows - 1) * lds + columns;
            const size_t out = (columns - 1) * ldd + padded;
            float *src = guard_take_tight(in * sizeof *src);
            float *dst = guard_take_tight(out * sizeof *dst);
            fill(src, in, a * count + b);
            for (size_t i = 0; i < out; i++) dst[i] = NAN;
            s->turn(src, lds, rows, columns, dst, ldd, padded, 0.5f);
            for (size_t c = 0; c < columns; c++)
                for (size_t r = 0; r < padded; r++)
                    assert_true(dst[c * ldd + r] ==
                                (r < rows ? 0.5f * src[r * lds + c] : 0));
            guard_release(src);
            guard_release(dst);
        }

    float src[LANES * 20], dst[LANES * 20];
    fill(src, LANES * 20, 5);
    s->transpose(src, 19, dst, 17, 2);
    for (int r = 0; r < s->lanes; r++)
        for (int c = 0; c < s->lanes; c++)
            assert_true(dst[c * 17 + r] == 2 * src[r * 19 + c]);
}

/* One product in tight memory, A by rows or by columns. */
static void check_gemm(const simd_level *s, size_t m, size_t n, size_t k,
                       bool columns, bool add)
{
    const size_t lda = (columns ? m : k) + 1, ldb = n + 2, ldc = n + 3;
    const size_t na = (columns ? k - 1 : m - 1) * lda + (columns ? m : k);
    const size_t nb = (k - 1) * ldb + n, nc = (m - 1) * ldc + n;
    float *a = guard_take_tight(na * sizeof *a);
    float *b = guard_take_tight(nb * sizeof *b);
    float *c = guard_take_tight(nc * sizeof *c);
    float *before = malloc(nc * sizeof *before);
    const size_t am = columns ? 1 : lda, ak = columns ? lda : 1;
    fill(a, na, m);
    fill(b, nb, n + 1);
    fill(c, nc, k + 2);
    memcpy(before, c, nc * sizeof *c);
    s->gemm(m, n, k, a, am, ak, b, ldb, c, ldc, add);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < ldc && i * ldc + j < nc; j++) {
            double want = add || j >= n ? before[i * ldc + j] : 0;
            for (size_t t = 0; j < n && t < k; t++)
                want += (double)a[i * am + t * ak] * b[t * ldb + j];
            if (fabs(c[i * ldc + j] - want) > 1e-4 * (1 + fabs(want)))
                fail_msg("%zux%zux%zu: C[%zu][%zu] is %g, not %g", m, n, k, i,
                         j, c[i * ldc + j], want);
        }
    guard_release(a);
    guard_release(b);
    guard_release(c);
    free(before);
}

static void products(void **state)
{
    const simd_level *s = level_of(state);
    const size_t m0 = (size_t)s->tile_m, vl = (size_t)s->lanes;
    const size_t ms[] = { 1, 2, 3, m0 - 1, m0, m0 + 1, 2 * m0 + 3 };
    const size_t ns[] = { 1,          vl - 1,     vl,         vl + 1,
                          2 * vl,     2 * vl + 1, 3 * vl - 1, 3 * vl,
                          3 * vl + 1, 4 * vl,     5 * vl + 2, 7 * vl };
    const size_t ks[] = { 1, 2, 7, 64 };
    for (size_t i = 0; i < sizeof ms / sizeof *ms; i++)
        for (size_t j = 0; j < sizeof ns / sizeof *ns; j++)
            for (size_t t = 0; t < sizeof ks / sizeof *ks; t++)
                for (int form = 0; form < 4; form++)
                    check_gemm(s, ms[i], ns[j], ks[t], form & 1, form & 2);
}

/* ---- main ----------------------------------------------------------------------------- */

static const struct { const char *name; CMUnitTestFunction function; } each[] = {
    { "exponentials", exponentials }, { "sigmoids", sigmoids },
    { "nothing is denormal", nothing_is_denormal }, { "halves", halves },
    { "elementwise", elementwise },   { "tails", tails },
    { "permutes", permutes },         { "transposes", transposes },
    { "products", products },
};
enum { EACH = sizeof each / sizeof *each };

int main(int argc, char **argv)
{
    static struct CMUnitTest tests[ATT_LEVELS * EACH];
    static char names[ATT_LEVELS * EACH][40];
    size_t n = 0;
    test_arguments(argc, argv);
    for (int l = 0; l <= (int)att_level_best(); l++) {
        if (!levels[l]) continue;
        for (int i = 0; i < EACH; i++, n++) {
            snprintf(names[n], sizeof names[n], "%s %s", each[i].name,
                     att_level_name((enum att_level)l));
            tests[n] = (struct CMUnitTest){ .name = names[n],
                                            .test_func = each[i].function,
                                            .initial_state =
                                                (void *)levels[l] };
        }
    }
    return _cmocka_run_group_tests("simd", tests, n, NULL, NULL);
}
