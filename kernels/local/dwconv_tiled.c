/* dwconv.tiled - depthwise convolution, WIDE neighbouring outputs at a time.
 *
 * Vectors run along channels.  Rows of the map are copied once per strip into a
 * ring of k rows, [row][vector of channels][column][VL], with zeros to the left
 * and right, so that all taps of all columns are alike and one vector of channels
 * of the ring fits the first cache.  The sums of WIDE columns stay in registers;
 * a multiply-add takes one load of x and a WIDE-th of a weight: bound by loads,
 * of which there are as many as multiply-adds per cycle.
 *
 * dx is the same with flipped taps.  dweight walks over the same ring of x with
 * the sums of up to TAPS taps in registers; the rows of a head are summed in
 * PARTS fixed parts, whatever the number of threads.
 */
#include "../att.h"

#include <omp.h>
#include <string.h>

#include "../simd.h"

enum { WEIGHT, BIAS };
enum {
    WIDE = VL == 16 ? 14 : 10,
    TAPS = 8,
    PARTS = 8
};

typedef struct conv {
    int height, width, kh, kw;
    size_t n, d, heads, taps, maps;
    size_t chunks;  /* vectors of channels                                    */
    size_t columns; /* of a padded row                                        */
    size_t weights; /* floats of one head, [chunk][tap][VL]                   */
} conv;

static conv conv_of(const att_problem *p)
{
    conv x = { .height = p->grid.v[0],
               .width = p->grid.v[1],
               .kh = att_at(&p->window, 0, 7),
               .kw = att_at(&p->window, 1, 7),
               .n = att_tokens(p),
               .d = (size_t)p->head_dim,
               .heads = (size_t)p->heads,
               .maps = (size_t)p->batch * (size_t)p->heads };
    x.taps = (size_t)x.kh * (size_t)x.kw;
    x.chunks = (x.d + VL - 1) / VL;
    x.columns = (size_t)(x.width + x.kw - 1);
    x.weights = x.chunks * x.taps * VL;
    return x;
}

static int most(int a, int b)
{
    return a > b ? a : b;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* ---- sizes --------------------------------------------------------------------- */

static size_t ring_floats(const conv *x)
{
    return (size_t)x->kh * x->chunks * x->columns * VL;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const conv x = conv_of(p);
    const size_t rings = (size_t)threads * ring_floats(&x);
    *out = (att_sizes){
        .state = 2 * x.heads * x.weights * sizeof(float),
        .work = rings * sizeof(float),
        .work_backward =
            (rings + PARTS * x.heads * x.weights) * sizeof(float),
    };
}

/* weight [head d + c][tap] -> [head][chunk][tap][VL], and with reversed taps. */
static void prepare(const att_call *c)
{
    const conv x = conv_of(c->p);
    float *to = c->state, *flipped = to + x.heads * x.weights;
    for (size_t h = 0; h < x.heads; h++)
        for (size_t k = 0; k < x.chunks; k++)
            for (size_t t = 0; t < x.taps; t++)
                for (size_t i = k * VL; i < (k + 1) * VL; i++) {
                    const float *w = c->param[WEIGHT] + (h * x.d + i) * x.taps;
                    *to++ = i < x.d ? w[t] : 0;
                    *flipped++ = i < x.d ? w[x.taps - 1 - t] : 0;
                }
}

/* ---- the ring ------------------------------------------------------------------------ */

typedef struct ring {
    const conv *s;
    const float *map; /* [token][d]                                           */
    float *rows;      /* [row mod kh][chunk][column][VL]                      */
    int loaded;       /* rows before this one are there                       */
} ring;

static float *ring_row(const ring *r, int row, size_t chunk)
{
    const conv *s = r->s;
    return r->rows + ((size_t)(row % s->kh) * s->chunks + chunk) * s->columns *
                         VL;
}

static void load_row(const ring *r, int row)
{
    const conv *s = r->s;
    const size_t pad = (size_t)s->kw / 2;
    for (size_t k = 0; k < s->chunks; k++) {
        const size_t lanes = s->d - k * VL < VL ? s->d - k * VL : VL;
        const float *from =
            r->map + (size_t)row * (size_t)s->width * s->d + k * VL;
        float *to = ring_row(r, row, k);
        memset(to, 0, pad * VL * sizeof *to);
        to += pad * VL;
        for (int j = 0; j < s->width; j++, to += VL, from += s->d)
            v_store(to, v_load_n(from, lanes));
        memset(to, 0, pad * VL * sizeof *to);
    }
}

/* What the taps of output row `row` read. */
static void move_ring(ring *r, int row)
{
    const conv *s = r->s;
    const int from = most(r->loaded, row - s->kh / 2);
    const int to = least(s->height, row + s->kh / 2 + 1);
    for (int i = most(from, 0); i < to; i++) load_row(r, i);
    r->loaded = to;
}

/* ---- sums over taps ------------------------------------------------------------------- */

/* Columns [j, j + n) of one output row and chunk. */
SIMD_INLINE void outputs(const ring *r, const int n, int row, size_t chunk,
                         size_t lanes, int j, const float *w, vf start, float *y)
{
    const conv *s = r->s;
    const int u0 = most(0, s->kh / 2 - row);
    const int u1 = least(s->kh, s->height + s->kh / 2 - row);
    vf sum[WIDE];
    UNROLL for (int i = 0; i < n; i++) sum[i] = start;
    w += (size_t)(u0 * s->kw) * VL;
    for (int u = u0; u < u1; u++) {
        const float *x =
            ring_row(r, row + u - s->kh / 2, chunk) + (size_t)j * VL;
        for (int v = 0; v < s->kw; v++, x += VL, w += VL) {
            const vf tap = v_load(w);
            UNROLL for (int i = 0; i < n; i++)
                sum[i] = v_fma(tap, v_load(x + (size_t)i * VL), sum[i]);
        }
    }
    UNROLL for (int i = 0; i < n; i++)
        v_store_n(y + (size_t)(j + i) * s->d, sum[i], lanes);
}

/* One output row; w of its head, bias [d] or NULL. */
static void convolve_row(const ring *r, int row, const float *w,
                         const float *bias, float *y)
{
    const conv *s = r->s;
    for (size_t k = 0; k < s->chunks; k++, w += s->taps * VL) {
        const size_t c = k * VL, lanes = s->d - c < VL ? s->d - c : VL;
        const vf start = bias ? v_load_n(bias + c, lanes) : v_zero();
        int j = 0;
        for (; j + WIDE <= s->width; j += WIDE)
            outputs(r, WIDE, row, k, lanes, j, w, start, y + c);
        for (; j + 4 <= s->width; j += 4)
            outputs(r, 4, row, k, lanes, j, w, start, y + c);
        for (; j < s->width; j++)
            outputs(r, 1, row, k, lanes, j, w, start, y + c);
    }
}

/* Rows of a strip: whole maps, unless the threads need more tasks. */
static int strip_rows(const conv *s, int threads)
{
    int rows = s->height;
    while (threads > 1 && rows > 4 &&
           s->maps * (size_t)((s->height + rows - 1) / rows) <
               4 * (size_t)threads)
        rows = (rows + 1) / 2;
    return rows;
}

static void convolve(const conv *s, const att_call *c, const float *w,
                     const float *x, const float *bias, float *y)
{
    const int rows = strip_rows(s, c->threads);
    const size_t strips = (size_t)((s->height + rows - 1) / rows);
    const size_t size = s->n * s->d;
    #pragma omp parallel for schedule(dynamic) num_threads(c->threads)
    for (size_t at = 0; at < s->maps * strips; at++) {
        const size_t map = at / strips, h = map % s->heads;
        const int first = (int)(at % strips) * rows;
        ring r = { .s = s,
                   .map = x + map * size,
                   .rows = (float *)c->work +
                           (size_t)omp_get_thread_num() * ring_floats(s) };
        for (int i = first; i < least(s->height, first + rows); i++) {
            move_ring(&r, i);
            convolve_row(&r, i, w + h * s->weights,
                         bias ? bias + h * s->d : NULL,
                         y + map * size + (size_t)(i * s->width) * s->d);
        }
    }
}

static void forward(const att_call *c)
{
    const conv s = conv_of(c->p);
    convolve(&s, c, c->state, c->v, c->param[BIAS], c->o);
}

/* ---- gradient of the weights ------------------------------------------------------------- */

/* sum[tap] += sum over columns of x dy, for n taps of one row of taps. */
SIMD_INLINE void tap_sums(const conv *s, const int n, const float *x,
                          const float *dy, size_t lanes, float *sum)
{
    vf sums[TAPS];
    UNROLL for (int i = 0; i < n; i++) sums[i] = v_zero();
    for (int j = 0; j < s->width; j++, x += VL, dy += s->d) {
        const vf g = v_load_n(dy, lanes);
        UNROLL for (int i = 0; i < n; i++)
            sums[i] = v_fma(g, v_load(x + (size_t)i * VL), sums[i]);
    }
    UNROLL for (int i = 0; i < n; i++)
        v_store(sum + i * VL, v_load(sum + i * VL) + sums[i]);
}

/* One row of dy, all taps, into sum[chunk][tap][VL]. */
static void tap_row(const ring *r, int row, const float *dy, float *sum)
{
    const conv *s = r->s;
    const int u0 = most(0, s->kh / 2 - row);
    const int u1 = least(s->kh, s->height + s->kh / 2 - row);
    for (size_t k = 0; k < s->chunks; k++)
        for (int u = u0; u < u1; u++) {
            const size_t c = k * VL, lanes = s->d - c < VL ? s->d - c : VL;
            const float *x = ring_row(r, row + u - s->kh / 2, k);
            float *to = sum + (k * s->taps + (size_t)(u * s->kw)) * VL;
            int v = 0;
            for (; v + TAPS <= s->kw; v += TAPS)
                tap_sums(s, TAPS, x + v * VL, dy + c, lanes, to + v * VL);
            if (s->kw - v == 7)
                tap_sums(s, 7, x + v * VL, dy + c, lanes, to + v * VL);
            else
                for (; v < s->kw; v++)
                    tap_sums(s, 1, x + v * VL, dy + c, lanes, to + v * VL);
        }
}

/* One part of the rows of a head, over the batch. */
static void tap_part(const conv *s, const att_call *c, const float *dout,
                     size_t h, int part, float *sum)
{
    const int first = s->height * part / PARTS;
    const int last = s->height * (part + 1) / PARTS;
    memset(sum, 0, s->weights * sizeof *sum);
    for (size_t map = h; map < s->maps; map += s->heads) {
        const float *dy = dout + map * s->n * s->d;
        ring r = { .s = s,
                   .map = (const float *)c->v + map * s->n * s->d,
                   .rows = (float *)c->work +
                           (size_t)omp_get_thread_num() * ring_floats(s) };
        for (int i = first; i < last; i++) {
            move_ring(&r, i);
            tap_row(&r, i, dy + (size_t)(i * s->width) * s->d, sum);
        }
    }
}

static void weight_gradient(const conv *s, const att_call *c, const float *dout,
                            float *dweight)
{
    float *sums = (float *)c->work + (size_t)c->threads * ring_floats(s);
    #pragma omp parallel num_threads(c->threads)
    {
        #pragma omp for schedule(dynamic)
        for (size_t at = 0; at < s->heads * PARTS; at++)
            tap_part(s, c, dout, at / PARTS, (int)(at % PARTS),
                     sums + at * s->weights);
        #pragma omp for
        for (size_t at = 0; at < s->heads * s->d; at++) {
            const size_t h = at / s->d, k = at % s->d / VL, l = at % s->d % VL;
            for (size_t t = 0; t < s->taps; t++) {
                float sum = 0;
                for (size_t part = 0; part < PARTS; part++)
                    sum += sums[(h * PARTS + part) * s->weights +
                                (k * s->taps + t) * VL + l];
                dweight[at * s->taps + t] = sum;
            }
        }
    }
}

static void bias_gradient(const conv *s, const float *dout, size_t h, float *sum)
{
    for (size_t k = 0; k < s->d; k += VL) {
        const size_t lanes = s->d - k < VL ? s->d - k : VL;
        vf total = v_zero();
        for (size_t map = h; map < s->maps; map += s->heads) {
            vf sums[4] = { v_zero(), v_zero(), v_zero(), v_zero() };
            for (size_t i = 0; i < s->n; i++)
                sums[i % 4] +=
                    v_load_n(dout + (map * s->n + i) * s->d + k, lanes);
            total += (sums[0] + sums[1]) + (sums[2] + sums[3]);
        }
        v_store_n(sum + k, total, lanes);
    }
}

static void backward(const att_call *c, const att_grad *g)
{
    const conv s = conv_of(c->p);
    if (g->dv)
        convolve(&s, c, (const float *)c->state + s.heads * s.weights, g->dout,
                 NULL, g->dv);
    if (g->dparam[WEIGHT]) weight_gradient(&s, c, g->dout, g->dparam[WEIGHT]);
    if (!g->dparam[BIAS]) return;
    #pragma omp parallel for num_threads(c->threads)
    for (size_t h = 0; h < s.heads; h++)
        bias_gradient(&s, g->dout, h, g->dparam[BIAS] + h * s.d);
}

ATT_KERNELS = {
    {
        .name = "dwconv.tiled",
        .mechanism = "dwconv",
        .brief = "neighbouring outputs in registers",
        .sizes = sizes,
        .prepare = prepare,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
