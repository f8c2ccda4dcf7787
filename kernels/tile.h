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

/* The two functions below are compiled once per vector length (tile.c); their
 * names carry it, so that levels do not mix. */
#define TILE_PASTE_(a, b) a##b
#define TILE_PASTE(a, b)  TILE_PASTE_(a, b)
#define tile_gemm      TILE_PASTE(att_tile_gemm_, VL)
#define tile_transpose TILE_PASTE(att_tile_transpose_, VL)

/* C[m][n] (+)= A B for any sizes; C is overwritten unless add.  Keep k below a
 * few hundred so that a panel of B (k x TILE_N) stays in the first cache. */
void tile_gemm(size_t m, size_t n, size_t k, const float *a, size_t am,
               size_t ak, const float *b, size_t ldb, float *c, size_t ldc,
               bool add);

/* dst[c][r] = scale * src[r][c] for r < rows, c < columns; dst rows are filled up
 * with zeros to `padded` (>= rows) entries.  Neither side is touched beyond. */
void tile_transpose(const float *src, size_t lds, size_t rows, size_t columns,
                    float *dst, size_t ldd, size_t padded, float scale);

#endif
