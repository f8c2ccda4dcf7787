/* tile.h - register-blocked micro-kernels and transposes of any size.
 *
 * One tile keeps TILE_M x TILE_V vectors of C in registers and does
 *
 *     for k: load TILE_V vectors of B's row k, broadcast TILE_M entries of A
 *
 * With 32 registers 8 x 3 reaches 97 to 100 % of the FMA peak for k >= 32 (at
 * least 16 independent accumulators, at most half a load per FMA); with 16
 * registers 4 x 3 does the same.  A is only ever broadcast, so it may be read
 * in any order (row- or column-major, or in place in user tensors); B and C are
 * row-major.  No size needs padding: a last partial vector of C is masked.
 */
#ifndef ATT_TILE_H
#define ATT_TILE_H

#include "simd.h"

#include <stdbool.h>

enum {
#if VL == 16
    TILE_M = 8,
#else
    TILE_M = 4,
#endif
    TILE_V = 3,
    TILE_N = TILE_V * VL /* columns of a full tile                           */
};

/* Makes the compiler forget how x was computed. */
#define TILE_FORGET(x) __asm__("" : "+r"(x))

/* C[i][j] (+)= sum_k A(i, k) B[k][j] for i < m, j < v vectors of which the last
 * has `last` lanes (VL: all).  A(i, k) = a[i * am + k * ak].  m and v must be
 * constants where this is inlined. */
SIMD_INLINE void tile_micro(const int m, const int v, const bool masked,
                            size_t last, size_t k, const float *a, size_t am,
                            size_t ak, const float *b, size_t ldb, float *c,
                            size_t ldc, bool add)
{
    vf sum[TILE_M][TILE_V];
    UNROLL for (int i = 0; i < m; i++)
        UNROLL for (int j = 0; j < v; j++) sum[i][j] = v_zero();
    for (size_t t = 0; t < k; t++, a += ak, b += ldb) {
        vf x[TILE_V];
        UNROLL for (int j = 0; j < v; j++)
            x[j] = masked && j == v - 1 ? v_load_n(b + j * VL, last)
                                        : v_load(b + j * VL);
        UNROLL for (int i = 0; i < m; i++) {
            const vf y = v_set1(a[(size_t)i * am]);
            UNROLL for (int j = 0; j < v; j++)
                sum[i][j] = v_fma(y, x[j], sum[i][j]);
        }
    }
    UNROLL for (int i = 0; i < m; i++) {
        UNROLL for (int j = 0; j < v; j++) {
            float *at = c + j * VL;
            if (masked && j == v - 1) {
                if (add) sum[i][j] += v_load_n(at, last);
                v_store_n(at, sum[i][j], last);
            } else {
                if (add) sum[i][j] += v_load(at);
                v_store(at, sum[i][j]);
            }
        }
        c += ldc;
        TILE_FORGET(c); /* else m row addresses are spilled around the loop */
    }
}

/* All rows of one column block of v vectors. */
#define TILE_ROWS(name, v, masked)                                             \
    static __attribute__((noinline, unused)) void name(                        \
        size_t m, size_t last, size_t k, const float *a, size_t am, size_t ak, \
        const float *b, size_t ldb, float *c, size_t ldc, bool add)            \
    {                                                                          \
        for (; m >= TILE_M; m -= TILE_M, a += TILE_M * am, c += TILE_M * ldc)  \
            tile_micro(TILE_M, v, masked, last, k, a, am, ak, b, ldb, c, ldc,  \
                       add);                                                   \
        switch (m) {                                                           \
            TILE_REST(v, masked)                                               \
        }                                                                      \
    }
#define TILE_CASE(m, v, masked)                                                \
    case m:                                                                    \
        tile_micro(m, v, masked, last, k, a, am, ak, b, ldb, c, ldc, add);     \
        break;
#if VL == 16
#define TILE_REST(v, masked)                                                   \
    TILE_CASE(7, v, masked)                                                    \
    TILE_CASE(6, v, masked)                                                    \
    TILE_CASE(5, v, masked)                                                    \
    TILE_CASE(4, v, masked)                                                    \
    TILE_CASE(3, v, masked)                                                    \
    TILE_CASE(2, v, masked)                                                    \
    TILE_CASE(1, v, masked)
#else
#define TILE_REST(v, masked)                                                   \
    TILE_CASE(3, v, masked)                                                    \
    TILE_CASE(2, v, masked)                                                    \
    TILE_CASE(1, v, masked)
#endif
TILE_ROWS(tile_rows_3, 3, false)
TILE_ROWS(tile_rows_2, 2, false)
TILE_ROWS(tile_rows_1, 1, false)
TILE_ROWS(tile_rows_3_masked, 3, true)
TILE_ROWS(tile_rows_2_masked, 2, true)
TILE_ROWS(tile_rows_1_masked, 1, true)

/* C[m][n] (+)= A B for any sizes; C is overwritten unless add.  Keep k below a
 * few hundred so that a panel of B (k x TILE_N) stays in the first cache.  Four
 * vectors go as 2 + 2, since a single one has too few accumulators. */
static inline __attribute__((unused)) void
tile_gemm(size_t m, size_t n, size_t k, const float *a, size_t am, size_t ak,
          const float *b, size_t ldb, float *c, size_t ldc, bool add)
{
    while (n > 0) {
        const size_t left = (n + VL - 1) / VL, last = n % VL;
        const size_t v = left == 4 ? 2 : left < 3 ? left : 3;
        const bool masked = v == left && last;
        switch (masked ? v + 3 : v) {
        case 1: tile_rows_1(m, VL, k, a, am, ak, b, ldb, c, ldc, add); break;
        case 2: tile_rows_2(m, VL, k, a, am, ak, b, ldb, c, ldc, add); break;
        case 3: tile_rows_3(m, VL, k, a, am, ak, b, ldb, c, ldc, add); break;
        case 4:
            tile_rows_1_masked(m, last, k, a, am, ak, b, ldb, c, ldc, add);
            break;
        case 5:
            tile_rows_2_masked(m, last, k, a, am, ak, b, ldb, c, ldc, add);
            break;
        case 6:
            tile_rows_3_masked(m, last, k, a, am, ak, b, ldb, c, ldc, add);
            break;
        }
        if (v == left) break;
        n -= v * VL, b += v * VL, c += v * VL;
    }
}

/* dst[c][r] = scale * src[r][c] for r < rows, c < columns; dst rows are filled up
 * with zeros to `padded` (>= rows) entries.  Neither side is touched beyond. */
static inline __attribute__((unused)) void
tile_transpose(const float *src, size_t lds, size_t rows, size_t columns,
               float *dst, size_t ldd, size_t padded, float scale)
{
    size_t r = 0;
    for (; r + VL <= rows; r += VL) {
        size_t c = 0;
        for (; c + VL <= columns; c += VL)
            v_transpose(src + r * lds + c, lds, dst + c * ldd + r, ldd, scale);
        for (; c < columns; c++)
            for (size_t i = r; i < r + VL; i++)
                dst[c * ldd + i] = scale * src[i * lds + c];
    }
    for (size_t c = 0; c < columns; c++) {
        for (size_t i = r; i < rows; i++)
            dst[c * ldd + i] = scale * src[i * lds + c];
        for (size_t i = rows; i < padded; i++) dst[c * ldd + i] = 0;
    }
}

#endif
