/* wide.h - factorised exponentials in double, for ranges that no float holds.
 *
 * What fast.h says, with doubles for X, exp(b - max), their products and p: a
 * double holds e^-700, so that there is one top for all tokens, causal or not.
 * Twice the time of floats, since
 * a vector holds half as many; a denominator below AFT_WIDE_TINY (logits of
 * hundreds) is left to the exact evaluation.
 *
 * Rows are halves [X v | X] or [p | p m], each padded to whole vectors, `half`
 * doubles long; the padding is 0.
 */
#ifndef AFT_WIDE_H
#define AFT_WIDE_H

#include "fast.h"

enum { VD = VL / 2 };
typedef double vd __attribute__((vector_size(VL * 4)));
typedef uint64_t vl __attribute__((vector_size(VL * 4)));
typedef float vh __attribute__((vector_size(VL * 2)));
typedef double vd_unaligned
    __attribute__((vector_size(VL * 4), aligned(4), may_alias));

#define AFT_WIDE_TINY 0x1p-860

/* Ranges of logits up to here are safe in float: den >= e^-50 > AFT_TINY. */
#define AFT_RANGE 50.0f

SIMD_INLINE vd wide_load(const double *p)
{
    return *(const vd_unaligned *)p;
}

SIMD_INLINE void wide_store(double *p, vd x)
{
    *(vd_unaligned *)p = x;
}

SIMD_INLINE size_t wide_lanes(size_t n, size_t i)
{
    return n - i < VD ? n - i : VD;
}

/* The first n of VD floats, then 0. */
SIMD_INLINE vd wide_of(const float *p, size_t n)
{
    vh low;
    if (n >= VD) memcpy(&low, p, sizeof low);
    else {
        const vf x = v_load_n(p, n);
        memcpy(&low, &x, sizeof low);
    }
    return __builtin_convertvector(low, vd);
}

SIMD_INLINE void wide_narrow(float *p, vd x, size_t n)
{
    const vh low = __builtin_convertvector(x, vh);
    vf y = v_zero();
    memcpy(n >= VD ? (void *)p : &y, &low, sizeof low);
    if (n < VD) v_store_n(p, y, n);
}

/* All ones in the first n lanes. */
SIMD_INLINE vl wide_first(size_t n)
{
    vl lane;
    UNROLL for (int i = 0; i < VD; i++) lane[i] = (uint64_t)i;
    return (vl)(lane < (uint64_t)n);
}

/* The first n lanes, then 0; what follows is there to be read. */
SIMD_INLINE vd wide_load_n(const double *p, size_t n)
{
    return (vd)((vl)wide_load(p) & wide_first(n));
}

SIMD_INLINE void wide_store_n(double *p, vd x, size_t n)
{
    if (n >= VD) wide_store(p, x);
    else memcpy(p, &x, n * sizeof *p);
}

SIMD_INLINE bool wide_any(vl mask)
{
    uint64_t any = 0;
    UNROLL for (int i = 0; i < VD; i++) any |= mask[i];
    return any != 0;
}

SIMD_INLINE double wide_sum(vd x)
{
    double sum = 0;
    UNROLL for (int i = 0; i < VD; i++) sum += x[i];
    return sum;
}

/* e^x for x < 700, relative error below 1e-8; 0 below -700. */
SIMD_INLINE vd wide_exp(vd x)
{
    const double magic = 0x1.8p52; /* its last bit is 1 */
    const vd t = x * 0x1.71547652b82fep0 + magic, n = t - magic;
    const vd r = x - n * 0x1.62e42fefa39efp-1;
    vd y = r * (1.0 / 5040) + 1.0 / 720;
    y = y * r + 1.0 / 120;
    y = y * r + 1.0 / 24;
    y = y * r + 1.0 / 6;
    y = y * r + 0.5;
    y = y * r + 1.0;
    y = y * r + 1.0;
    return (vd)(((vl)y + ((vl)t << 52)) & (vl)(x > -700.0));
}

/* 2^n of whole numbers from -1022 to 1023. */
SIMD_INLINE vd wide_power(vd n)
{
    return (vd)((vl)(n + (0x1.8p52 + 1023)) << 52);
}

/* ---- products ---------------------------------------------------------------------------- */

typedef struct wide_factors {
    size_t depth, rows, step; /* a[r][i] lies at r rows + i step            */
    const double *a, *b;
    size_t ldb;
    double *c;
    size_t ldc;
    bool add;
} wide_factors;

SIMD_INLINE void wide_tile(const int rows, const int vectors,
                           const wide_factors *x, size_t r, size_t f)
{
    vd sum[rows][vectors];
    const double *a = x->a + r * x->rows, *b = x->b + f;
    double *c = x->c + r * x->ldc + f;
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int v = 0; v < vectors; v++) sum[i][v] = (vd){ 0 };
    for (size_t k = 0; k < x->depth; k++, a += x->step, b += x->ldb)
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[i][v] += a[(size_t)i * x->rows] * wide_load(b + v * VD);
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int v = 0; v < vectors; v++) {
            double *to = c + (size_t)i * x->ldc + v * VD;
            wide_store(to, x->add ? wide_load(to) + sum[i][v] : sum[i][v]);
        }
}

#define WIDE_KERNEL(rows)                                                        \
    static __attribute__((noinline, unused)) void wide_rows_##rows(            \
        const wide_factors *x, size_t r, size_t columns)                       \
    {                                                                          \
        size_t f = 0;                                                          \
        for (; f + 3 * VD <= columns; f += 3 * VD)                             \
            wide_tile(rows, 3, x, r, f);                                       \
        for (; f + 2 * VD <= columns; f += 2 * VD)                             \
            wide_tile(rows, 2, x, r, f);                                       \
        for (; f < columns; f += VD) wide_tile(rows, 1, x, r, f);              \
    }
WIDE_KERNEL(8)
WIDE_KERNEL(4)
WIDE_KERNEL(1)
#undef WIDE_KERNEL

/* c (+)= a b for `columns` columns, which are rounded up to whole vectors. */
static inline __attribute__((unused)) void
wide_product(size_t rows, size_t columns, wide_factors x)
{
    size_t r = 0;
    for (; VL == 16 && r + 8 <= rows; r += 8) wide_rows_8(&x, r, columns);
    for (; r + 4 <= rows; r += 4) wide_rows_4(&x, r, columns);
    for (; r < rows; r++) wide_rows_1(&x, r, columns);
}

/* ---- keys ------------------------------------------------------------------------------------- */

typedef struct aft_wide {
    size_t n, width, half, ld;
    const float *top; /* [width]                                            */
    double *x;        /* [n][ld]: X v, X                                    */
    double *a;        /* [n][ld], backward: p, p m                          */
} aft_wide;

/* x and a take twice the floats of those of k; a may be NULL.  The tops of k are
 * made. */
static inline __attribute__((unused)) aft_wide
aft_wide_of(const aft_keys *k, float *x, float *a)
{
    return (aft_wide){ .n = k->n,
                       .width = k->width,
                       .half = (k->width + VD - 1) / VD * VD,
                       .ld = k->ld,
                       .top = k->top + (k->panels - 1) * k->width,
                       .x = (double *)x,
                       .a = (double *)a };
}

static inline __attribute__((unused)) void
aft_wide_keys(const att_call *c, size_t b, const aft_wide *w)
{
    const size_t n = w->n, width = w->width;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t j = 0; j < n; j++)
        for (size_t f = 0; f < width; f += VD) {
            const size_t lanes = wide_lanes(width, f);
            const size_t at = (b * n + j) * width + f;
            const vd k = wide_of((const float *)c->k + at, lanes);
            vd e = wide_exp(k - wide_of(w->top + f, lanes));
            if (lanes < VD) /* e^0 beyond */
                for (size_t i = lanes; i < VD; i++) e[i] = 0;
            double *x = w->x + j * w->ld + f;
            wide_store(x, e * wide_of((const float *)c->v + at, lanes));
            wide_store(x + w->half, e);
        }
}

/* out[i] = exp(w[i] - max) for `columns` keys, of which the first `visible` are
 * seen; up to a whole vector. */
static inline __attribute__((unused)) void
aft_wide_weights(const float *w, size_t columns, size_t visible, float max,
                 double *out)
{
    for (size_t i = 0; i < columns; i += VD) {
        const size_t lanes = wide_lanes(columns, i);
        const size_t seen = visible < i ? 0 : visible - i;
        const size_t n = seen < lanes ? seen : lanes;
        wide_store(out + i, wide_exp(wide_of(w + i, n) - (double)max));
        for (size_t l = n; l < VD; l++) out[i + l] = 0;
    }
}

/* What aft_finish() does, from sums = [num | den] in double. */
static inline __attribute__((unused)) bool
aft_wide_finish(const att_call *c, enum aft_kind kind, size_t batch, size_t t,
                const aft_wide *w, const double *sums, float *b)
{
    const size_t n = w->n, width = w->width, row = batch * n + t;
    const aft_saved s = aft_saved_of(c);
    bool exact = false;
    for (size_t f = 0; f < width; f += VL) {
        const size_t lanes = aft_lanes(width, f), at = row * width + f;
        const double *num = sums + f, *den = sums + w->half + f;
        float mean[VL] = { 0 }, mantissa[VL] = { 0 }, power[VL] = { 0 };
        int lost = 0;
        #pragma omp simd reduction(| : lost)
        for (size_t i = 0; i < lanes; i++) {
            union { double d; uint64_t u; } x = { .d = den[i] };
            lost |= !(x.d >= AFT_WIDE_TINY);
            mean[i] = (float)(num[i] / x.d);
            power[i] = (float)((int)(x.u >> 52) - 1022);
            x.u = (x.u & 0xfffffffffffff) | (uint64_t)1022 << 52;
            mantissa[i] = -(float)x.d;
        }
        if (lost) {
            const size_t from = batch * n * width + f;
            if (!exact) aft_bias_row(c, kind, t, b);
            v_store(mean, aft_exact((const float *)c->k + from,
                                    (const float *)c->v + from, width, lanes,
                                    b, aft_seen(c->p, t)).mean);
            memset(mantissa, 0, sizeof mantissa);
            exact = true;
        }
        const vf q = aft_load((const float *)c->q + at, lanes);
        aft_store((float *)c->o + at, v_load(mean) * v_sigmoid(q), lanes);
        if (!s.mean) continue;
        aft_store(s.mean + at, v_load(mean), lanes);
        aft_store(s.den + at, v_load(mantissa), lanes);
        aft_store(s.power + at, v_load(power), lanes);
    }
    return exact;
}

/* ---- backward --------------------------------------------------------------------------------- */

/* Rows [p | p m] of batch entry b, and dq.  Denominators of floats are relative
 * to the tops of their panels. */
static inline __attribute__((unused)) void
aft_wide_gates(const att_call *c, const att_grad *g, size_t b,
               const aft_keys *k, const aft_wide *w)
{
    const size_t n = w->n, width = w->width;
    const aft_saved s = aft_saved_of(c);
    #pragma omp parallel for num_threads(c->threads)
    for (size_t t = 0; t < n; t++)
        for (size_t f = 0; f < width; f += VL) {
            const size_t lanes = aft_lanes(width, f);
            const size_t at = (b * n + t) * width + f;
            const vf y = v_sigmoid(aft_load((const float *)c->q + at, lanes));
            const vf dout = aft_load(g->dout + at, lanes);
            const vf m = aft_load(s.mean + at, lanes);
            float gated[VL], mean[VL], den[VL], power[VL];
            if (g->dq)
                aft_store(g->dq + at, dout * m * y * (1.0f - y), lanes);
            v_store(gated, s.max[t] < AFT_HIDDEN ? v_zero() : dout * y);
            v_store(mean, m);
            v_store(den, aft_load(s.den + at, lanes));
            v_store(power, aft_load(s.power + at, lanes));
            for (size_t i = 0; i < lanes; i += VD) {
                const vd d = wide_of(den + i, VD);
                vd size = -d * wide_power(wide_of(power + i, VD));
                if (wide_any((vl)(d > 0.0))) {
                    const size_t left = wide_lanes(width, f + i);
                    const vd top = wide_of(aft_top(k, t) + f + i, left) -
                                   wide_of(w->top + f + i, left);
                    const vl own = (vl)(d > 0.0);
                    size = (vd)(((vl)(d * wide_exp(top)) & own) |
                                ((vl)size & ~own));
                }
                const vd p = (vd)((vl)(wide_of(gated + i, VD) / size) &
                                  (vl)(size > 0.0));
                double *to = w->a + t * w->ld + f + i;
                wide_store(to, p);
                wide_store(to + w->half, p * wide_of(mean + i, VD));
            }
        }
}

/* dk and dv of token j from a = [sum_t E_tj p | sum_t E_tj p mean]. */
static inline __attribute__((unused)) void
aft_wide_key_gradients(const att_grad *g, size_t b, const aft_wide *w, size_t j,
                       const double *a)
{
    const double *x = w->x + j * w->ld;
    for (size_t f = 0; f < w->width; f += VD) {
        const size_t lanes = wide_lanes(w->width, f);
        const size_t at = (b * w->n + j) * w->width + f;
        const vd p = wide_load(a + f), e = wide_load(x + w->half + f);
        const vd dk = wide_load(x + f) * p - e * wide_load(a + w->half + f);
        if (g->dv) wide_narrow(g->dv + at, e * p, lanes);
        if (g->dk) wide_narrow(g->dk + at, dk, lanes);
    }
}

#endif
