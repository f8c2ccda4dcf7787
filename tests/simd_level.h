/* simd_level.h - what simd.h and tile.h do at one level, callable from a program
 * that is compiled for none. */
#ifndef SIMD_LEVEL_H
#define SIMD_LEVEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct simd_level {
    int lanes;
    int tile_m, tile_n;
    /* One vector each; x, y, z and out have `lanes` floats. */
    void (*exp2)(const float *x, float *out);
    void (*exp)(const float *x, float *out);
    void (*sigmoid)(const float *x, float *out);
    void (*sqrt)(const float *x, float *out);
    void (*abs)(const float *x, float *out);
    void (*max)(const float *x, const float *y, float *out);
    void (*min)(const float *x, const float *y, float *out);
    void (*fma)(const float *x, const float *y, const float *z, float *out);
    void (*select)(const float *x, const float *y, float *out); /* x < y ? x : y */
    float (*sum)(const float *x);
    float (*hmax)(const float *x);
    /* `lanes` halves, as bits, to and from floats. */
    void (*from_half)(const uint16_t *x, float *out);
    void (*to_half)(const float *x, uint16_t *out);
    /* Loads n floats at x, stores n at out; lanes from n on go to `rest`. */
    void (*tail)(const float *x, float *out, size_t n, float *rest);
    void (*permute2)(const float *a, const float *b, const int *index,
                     float *out);
    void (*transpose)(const float *src, size_t lds, float *dst, size_t ldd,
                      float scale);
    void (*turn)(const float *src, size_t lds, size_t rows, size_t columns,
                 float *dst, size_t ldd, size_t padded, float scale);
    void (*gemm)(size_t m, size_t n, size_t k, const float *a, size_t am,
                 size_t ak, const float *b, size_t ldb, float *c, size_t ldc,
                 bool add);
} simd_level;

#endif
