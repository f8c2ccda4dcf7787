#include "ulp.h"

#include <math.h>
#include <string.h>

#include "../kernels/plan.h"

double ulp_unit(int dtype, double scale)
{
    static const struct { int digits, least; } storage[] = {
        [ATT_F32] = { 23, -126 },
        [ATT_F16] = { 10, -24 },
        [ATT_BF16] = { 7, -126 },
    };
    const int least = storage[dtype].least;
    const int last = scale > 0 ? ilogb(scale) - storage[dtype].digits : least;
    return ldexp(1, last > least ? last : least);
}

double ulp_scale(const double *x, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(x[i])) most = fmax(most, fabs(x[i]));
    return most;
}

static double distance(double x, double ref)
{
    if (x == ref) return 0;
    return isfinite(x) && isfinite(ref) ? fabs(x - ref) : INFINITY;
}

ulp_error ulp_compare(const double *x, const double *ref, size_t n, double unit)
{
    ulp_error e = { 0 };
    double squares = 0;
    for (size_t i = 0; i < n; i++) {
        const double off = distance(x[i], ref[i]) / unit;
        squares += off * off;
        if (off <= e.max) continue;
        e.max = off;
        e.at = i;
    }
    if (n) e.rms = sqrt(squares / (double)n);
    return e;
}

bool ulp_same_bits(const double *x, const double *y, size_t n)
{
    return n == 0 || memcmp(x, y, n * sizeof *x) == 0;
}
