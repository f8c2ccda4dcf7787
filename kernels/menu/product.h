/* product.h - the matrix product of the menu's kernels, plain or in register
 * tiles, and pieces of tokens as tasks.
 */
#ifndef MENU_PRODUCT_H
#define MENU_PRODUCT_H

#include "../att.h"
#include "../tile.h"

/* C[m][n] (+)= A B with A(i, k) = a[i am + k ak].  Tiled: long sums are cut into
 * pieces, so that a panel of B stays in the first cache and rounding errors do
 * not grow with the whole length; else row by row. */
SIMD_INLINE void product(const bool tiled, size_t m, size_t n, size_t k,
                         const float *a, size_t am, size_t ak, const float *b,
                         size_t ldb, float *c, size_t ldc, bool add)
{
    enum { DEPTH = 64 };
    if (tiled && k > 0) {
        for (size_t t = 0; t < k; t += DEPTH)
            tile_gemm(m, n, k - t < DEPTH ? k - t : DEPTH, a + t * ak, am, ak,
                      b + t * ldb, ldb, c, ldc, add || t > 0);
        return;
    }
    for (size_t i = 0; i < m; i++) {
        float *row = c + i * ldc;
        for (size_t j = 0; !add && j < n; j++) row[j] = 0;
        for (size_t t = 0; t < k; t++) {
            const float x = a[i * am + t * ak];
            #pragma omp simd
            for (size_t j = 0; j < n; j++) row[j] += x * b[t * ldb + j];
        }
    }
}

static inline __attribute__((unused)) size_t menu_round(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

/* Tokens [first, end) of a batch entry (or map). */
typedef struct menu_piece {
    size_t map, index, first, end;
} menu_piece;

/* How the n tokens of each of `maps` maps are cut. */
typedef struct menu_pieces {
    size_t n, maps, each, length, all;
} menu_pieces;

/* As many pieces of at least `least` tokens as keep the threads busy. */
static inline __attribute__((unused)) menu_pieces
menu_cut(size_t n, size_t maps, int threads, size_t least)
{
    menu_pieces x = { .n = n, .maps = maps };
    const size_t most = (n + least - 1) / least;
    x.each = threads == 1 ? 1 : (4 * (size_t)threads + maps - 1) / maps;
    if (x.each > most) x.each = most;
    x.length = (n + x.each - 1) / x.each;
    x.each = (n + x.length - 1) / x.length;
    x.all = x.each * maps;
    return x;
}

static inline __attribute__((unused)) menu_piece
menu_piece_of(const menu_pieces *x, size_t index)
{
    menu_piece p = { .map = index / x->each, .index = index };
    p.first = index % x->each * x->length;
    p.end = p.first + x->length < x->n ? p.first + x->length : x->n;
    return p;
}

#endif
