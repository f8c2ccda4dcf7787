/* conv_products.h - sums over windows of planes and of products of planes: a body for
 * floats and for doubles, included once for each (conv_planes.c).
 *
 *     REAL, VEC     a number, and LANES of them
 *     NAME(f)       the function's name
 *     LOAD, LOAD_N, STORE, SUM
 */
/* sum over taps of weight[tap] in[y + ty][x + tx] of `units` (at most UNITS)
 * vectors, `step` floats apart in `in` and `out_step` in out: the same place in
 * several planes, or several rows, or several vectors of one row. */
SIMD_INLINE void NAME(convolve_units)(const int units, const layout *x,
                                const REAL *weight, bool turned,
                                const REAL *in, size_t step, REAL *out,
                                size_t out_step)
{
    VEC sum[UNITS];
    const size_t taps = x->w.taps;
    UNROLL for (int i = 0; i < units; i++) sum[i] = (VEC){ 0 };
    for (size_t ty = 0, tap = 0; ty < (size_t)x->w.rows; ty++)
        for (size_t tx = 0; tx < (size_t)x->w.columns; tx++, tap++) {
            const REAL *from = in + ty * x->pitch + tx;
            const REAL e = weight[turned ? taps - 1 - tap : tap];
            UNROLL for (int i = 0; i < units; i++)
                sum[i] = e * LOAD(from + (size_t)i * step) + sum[i];
        }
    UNROLL for (int i = 0; i < units; i++)
        STORE(out + (size_t)i * out_step, sum[i]);
}

/* `n` units, as many as possible at a time: independent sums hide the latency. */
static void NAME(convolve_all)(const layout *x, const REAL *weight, bool turned,
                         size_t n, const REAL *in, size_t step, REAL *out,
                         size_t out_step)
{
    while (n > 0) {
        const size_t units = n >= UNITS ? UNITS : n >= 4 ? 4 : n >= 2 ? 2 : 1;
        switch (units) {
        case UNITS:
            NAME(convolve_units)(UNITS, x, weight, turned, in, step, out, out_step);
            break;
        case 4:
            NAME(convolve_units)(4, x, weight, turned, in, step, out, out_step);
            break;
        case 2:
            NAME(convolve_units)(2, x, weight, turned, in, step, out, out_step);
            break;
        default:
            NAME(convolve_units)(1, x, weight, turned, in, step, out, out_step);
        }
        n -= units;
        in += units * step;
        out += units * out_step;
    }
}

static void NAME(convolve)(const layout *x, const piece *p, const REAL *weight,
                     bool turned, size_t planes, const REAL *in, REAL *out)
{
    const size_t rows = p->y1 - p->y0;
    const size_t vectors = (p->x1 - p->x0 + LANES - 1) / LANES;
    const size_t whole = planes / UNITS * UNITS;
    for (size_t y = 0; whole && y < rows; y++)
        for (size_t c = 0; c < vectors * LANES; c += LANES)
            NAME(convolve_all)(x, weight, turned, whole, in + y * x->pitch + c,
                         x->plane, out + y * x->own_pitch + c, x->own_plane);
    for (size_t i = whole; i < planes; i++) {
        const REAL *from = in + i * x->plane;
        REAL *to = out + i * x->own_plane;
        for (size_t c = 0; rows > 1 && c < vectors * LANES; c += LANES)
            NAME(convolve_all)(x, weight, turned, rows, from + c, x->pitch, to + c,
                         x->own_pitch);
        if (rows == 1)
            NAME(convolve_all)(x, weight, turned, vectors, from, LANES, to, LANES);
    }
}

/* sum over the piece's tokens of a[y][x] b[y + ty][x + tx], for eight (or one)
 * taps of a row of the window. */
SIMD_INLINE void NAME(correlate)(const int taps, const layout *x, const piece *p,
                           const REAL *a, const REAL *b, REAL *out)
{
    const size_t columns = p->x1 - p->x0;
    VEC sum[UNITS];
    UNROLL for (int i = 0; i < taps; i++) sum[i] = (VEC){ 0 };
    for (size_t y = 0; y < p->y1 - p->y0; y++)
        for (size_t c = 0; c < columns; c += LANES) {
            const size_t lanes = columns - c < LANES ? columns - c : LANES;
            const VEC s = LOAD_N(a + y * x->pitch + c, lanes);
            UNROLL for (int i = 0; i < taps; i++)
                sum[i] = s * LOAD(b + y * x->pitch + c + i) + sum[i];
        }
    UNROLL for (int i = 0; i < taps; i++) out[i] += SUM(sum[i]);
}

/* Adds sign * sum_t a_t b_{t + o} to dw, planes of sources a and of keys b; a's
 * own tokens start at the reach of the turned window. */
static void NAME(correlate_plane)(const layout *x, const piece *p, REAL sign,
                            const REAL *a, const REAL *b, REAL *dw)
{
    const REAL *from = a +
                        (size_t)(x->w.rows - 1 - x->w.up) * x->pitch +
                        turned_left(x);
    for (size_t ty = 0; ty < (size_t)x->w.rows; ty++)
        for (size_t tx = 0; tx < (size_t)x->w.columns;) {
            const size_t left = (size_t)x->w.columns - tx;
            const REAL *to = b + ty * x->pitch + tx;
            REAL sum[UNITS] = { 0 };
            const size_t taps = left >= UNITS ? UNITS : 1;
            if (taps == UNITS) NAME(correlate)(UNITS, x, p, from, to, sum);
            else NAME(correlate)(1, x, p, from, to, sum);
            for (size_t i = 0; i < taps; i++)
                dw[ty * (size_t)x->w.columns + tx + i] += sign * sum[i];
            tx += taps;
        }
}

#undef REAL
#undef VEC
#undef LANES
#undef NAME
#undef LOAD
#undef LOAD_N
#undef STORE
#undef SUM
