/* peak.c - see peak.h.
 *
 * Bytes are those that the loop names, as STREAM counts them: a store does not
 * count the line that the cache may have to read first.
 */
#include "peak.h"

#include "../kernels/simd.h"

/* Independent chains: more than latency x units (8 to 10 on current cores), and
 * as many as leave registers for the two factors. */
#if VL == 16 || !defined __x86_64__
#define CHAINS 24
#else
#define CHAINS 12
#endif

/* Keeps the compiler from merging, dropping or recognising what is around. */
#define KEEP() __asm__ volatile("" ::: "memory")

static double fma_peak(float *const array[PEAK_ARRAYS], size_t n,
                       size_t times)
{
    vf x[CHAINS];
    const vf a = v_load(array[0]) * 0.999f, b = v_load(array[0]) * 1e-3f;
    UNROLL for (int i = 0; i < CHAINS; i++) x[i] = v_set1((float)i);
    for (size_t round = 0; round < n * times; round++)
        UNROLL for (int i = 0; i < CHAINS; i++) x[i] = v_fma(x[i], a, b);
    vf sum = v_zero();
    UNROLL for (int i = 0; i < CHAINS; i++) sum += x[i];
    /* Stored where nobody looks, so that it must be computed. */
    v_store(array[1], sum);
    KEEP();
    return 2.0 * VL * CHAINS * (double)(n * times);
}

/* x[i] = OPERATION of x[i] and a = 1, in all chains; done counts operations. */
#define REGISTERS(name, rounds, OPERATION)                                     \
    static double name(float *const array[PEAK_ARRAYS], size_t n,              \
                       size_t times)                                           \
    {                                                                          \
        vf x[CHAINS];                                                          \
        const vf a = v_load(array[0]);                                         \
        UNROLL for (int i = 0; i < CHAINS; i++) x[i] = v_set1((float)(i + 1)); \
        for (size_t round = 0; round < (rounds); round++)                      \
            UNROLL for (int i = 0; i < CHAINS; i++) x[i] = OPERATION;          \
        vf sum = v_zero();                                                     \
        UNROLL for (int i = 0; i < CHAINS; i++) sum += x[i];                   \
        v_store(array[1], sum);                                                \
        KEEP();                                                                \
        return (double)VL * CHAINS * (double)(rounds);                         \
    }
REGISTERS(multiply, n * times, x[i] * a)
/* Both count as additions, and some processors have units for each. */
REGISTERS(add, n * times, i % 2 ? v_max(x[i], a) : x[i] + a)
REGISTERS(mixed, n * times, i % 2 ? x[i] * a : x[i] + a)
REGISTERS(division, n * times / 16, a / x[i]) /* slow: as long as the others */
#undef REGISTERS

static double exponential(float *const array[PEAK_ARRAYS], size_t n,
                          size_t times)
{
    for (size_t t = 0; t < times; t++) {
        for (size_t i = 0; i < n; i += 4 * VL)
            UNROLL for (size_t j = 0; j < 4 * VL; j += VL)
                v_store(array[1] + i + j, v_exp2(v_load(array[0] + i + j)));
        KEEP();
    }
    return (double)(n * times);
}

static double read_all(float *const array[PEAK_ARRAYS], size_t n,
                       size_t times)
{
    const float *a = array[0];
    vf sum[8];
    UNROLL for (size_t j = 0; j < 8; j++) sum[j] = v_zero();
    for (size_t t = 0; t < times; t++) {
        for (size_t i = 0; i < n; i += 8 * VL)
            UNROLL for (size_t j = 0; j < 8; j++)
                sum[j] += v_load(a + i + j * VL);
        KEEP();
    }
    vf total = sum[0]; /* whose address is taken, unlike that of sum */
    UNROLL for (size_t j = 1; j < 8; j++) total += sum[j];
    __asm__ volatile("" ::"m"(total) : "memory");
    return 4.0 * (double)(n * times);
}

/* The barrier stops the compiler from calling memcpy, which may write around
 * the caches. */
static double copy(float *const array[PEAK_ARRAYS], size_t n,
                   size_t times)
{
    float *a = array[0];
    const float *b = array[1];
    for (size_t t = 0; t < times; t++)
        for (size_t i = 0; i < n; i += 4 * VL) {
            UNROLL for (size_t j = 0; j < 4 * VL; j += VL)
                v_store(a + i + j, v_load(b + i + j));
            KEEP();
        }
    return 8.0 * (double)(n * times);
}

static double triad(float *const array[PEAK_ARRAYS], size_t n,
                    size_t times)
{
    float *a = array[0];
    const float *b = array[1], *c = array[2];
    const vf s = v_set1(3);
    for (size_t t = 0; t < times; t++)
        for (size_t i = 0; i < n; i += 4 * VL) {
            UNROLL for (size_t j = 0; j < 4 * VL; j += VL)
                v_store(a + i + j,
                        v_fma(s, v_load(c + i + j), v_load(b + i + j)));
            KEEP();
        }
    return 12.0 * (double)(n * times);
}

static double fill(float *const array[PEAK_ARRAYS], size_t n, size_t times)
{
    float *a = array[0];
    const vf s = v_load(a);
    for (size_t t = 0; t < times; t++)
        for (size_t i = 0; i < n; i += 4 * VL) {
            UNROLL for (size_t j = 0; j < 4 * VL; j += VL) v_store(a + i + j, s);
            KEEP();
        }
    return 4.0 * (double)(n * times);
}

/* As many rows as leave registers for the row of b and a factor. */
#if VL == 16 || !defined __x86_64__
#define ROWS 8
#elif VL == 8
#define ROWS 6
#else
#define ROWS 4
#endif

/* A register-blocked product: a is k x ROWS, b is k x 2 VL, in the first cache. */
static double tile(float *const array[PEAK_ARRAYS], size_t n, size_t times)
{
    const size_t k = n / (2 * VL);
    for (size_t t = 0; t < times; t++) {
        const float *a = array[0], *b = array[1];
        vf sum[ROWS][2];
        UNROLL for (int i = 0; i < ROWS; i++) sum[i][0] = sum[i][1] = v_zero();
        for (size_t p = 0; p < k; p++, a += ROWS, b += 2 * VL) {
            const vf x = v_load(b), y = v_load(b + VL);
            UNROLL for (int i = 0; i < ROWS; i++) {
                const vf f = v_set1(a[i]);
                sum[i][0] = v_fma(f, x, sum[i][0]);
                sum[i][1] = v_fma(f, y, sum[i][1]);
            }
        }
        UNROLL for (int i = 0; i < ROWS; i++) {
            v_store(array[2] + 2 * i * VL, sum[i][0]);
            v_store(array[2] + (2 * i + 1) * VL, sum[i][1]);
        }
        KEEP();
    }
    return 2.0 * ROWS * 2 * VL * (double)(k * times);
}

#define TABLE ATT_PASTE(peak_, ATT_UNIT)
extern const peak TABLE;
const peak TABLE = {
    .fma = fma_peak,
    .mul = multiply,
    .add = add,
    .mixed = mixed,
    .division = division,
    .exponential = exponential,
    .read = read_all,
    .copy = copy,
    .triad = triad,
    .write = fill,
#if defined __FMA__ || !defined __x86_64__
    .fma_operations = 1,
#else
    .fma_operations = 2,
#endif
    .exp_mul_adds = SIMD_EXP_MUL_ADDS,
    .tile = tile,
};
