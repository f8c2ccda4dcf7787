/* tile.c - products and transposes of any size from register tiles; compiled
 * once per level. */
#include "tile.h"

/* All rows of one column block of v vectors. */
#define TILE_ROWS(name, v, masked)                                             \
    static __attribute__((noinline)) void name(                                \
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

/* Four vectors go as 2 + 2, since a single one has too few accumulators. */
void tile_gemm(size_t m, size_t n, size_t k, const float *a, size_t am,
               size_t ak, const float *b, size_t ldb, float *c, size_t ldc,
               bool add)
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

void tile_transpose(const float *src, size_t lds, size_t rows, size_t columns,
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
