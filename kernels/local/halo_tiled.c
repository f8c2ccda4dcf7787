/* halo.tiled - each block of queries and its window as one dense block (dense.h).
 *
 * The relative term is one product of the queries with each embedding, of which
 * every query picks the M rows that belong to its place in the block.  In mode
 * mask, positions beyond the border are not among the keys; in mode zero they are
 * rows of zeros.  Bound by the FMA pipes.
 *
 * A task is a row of blocks of one map.  Backward adds to dk and dv of its
 * windows, which overlap those of the next rows: rows that are far enough apart
 * go together, one set after the other, so that every sum has one order.
 */
#include "clip.h"
#include "dense.h"

enum { REL_H, REL_W };

typedef struct halo {
    clip m;
    const att_call *call;
    const att_grad *grad;
    size_t maps, rows, columns;        /* rows and columns of blocks         */
    size_t block, own, keys;           /* keys and queries along the side of
                                          a block; keys of a map             */
    size_t side, queries;              /* of a window, in a block             */
    size_t used;                       /* rows of an embedding that are read  */
} halo;

static halo halo_of(const att_call *c, const att_grad *g)
{
    halo x = { .m = clip_halo(c),
               .call = c,
               .grad = g,
               .maps = (size_t)c->p->batch * (size_t)c->p->heads,
               .block = (size_t)c->p->block };
    const size_t stride = (size_t)att_at(&c->p->stride, 0, 1);
    x.own = x.block / stride;
    x.keys = x.m.n * stride * stride;
    x.rows = (size_t)c->p->grid.v[0] / x.own;
    x.columns = (size_t)c->p->grid.v[1] / x.own;
    x.side = (size_t)x.m.side[0];
    x.queries = x.own * x.own;
    x.used = x.side + x.own - 1;
    return x;
}

/* The rows of an embedding that are read begin at window position 0 of the last
 * query of a block: distance 0 below. */
static size_t first_row(const halo *x)
{
    return x->side - x->own;
}

/* Distance of window position 0 along an axis from query i of a block. */
static size_t distance(const halo *x, size_t i, int a)
{
    return x->own - 1 - (a ? i % x->own : i / x->own);
}

/* ---- one block -------------------------------------------------------------------- */

typedef struct place {
    const halo *x;
    int32_t *query, *key, *position; /* position: of each key in the window   */
    size_t keys;
    float *all;  /* [used][lanes]: products, or sums of dS, by distance       */
    float *own;  /* [2][side][lanes]: by window row, by window column         */
    float *drel; /* of the task, [2][used][d]; lacks a factor log2(e)         */
} place;

static void open_block(const halo *x, size_t row, size_t column, place *b)
{
    const int height = (int)(x->rows * x->block);
    const int width = (int)(x->columns * x->block);
    const int y0 = (int)(row * x->block), x0 = (int)(column * x->block);
    const int ring = x->call->p->halo;
    for (size_t i = 0; i < x->queries; i++)
        b->query[i] = (int32_t)((row * x->own + i / x->own) * x->columns *
                                    x->own +
                                column * x->own + i % x->own);
    b->keys = 0;
    for (int u = 0; u < (int)x->side; u++)
        for (int v = 0; v < (int)x->side; v++) {
            const int y = y0 - ring + u, z = x0 - ring + v;
            const bool on = y >= 0 && y < height && z >= 0 && z < width;
            if (!on && !x->m.zero) continue;
            b->key[b->keys] = on ? y * width + z : -1;
            b->position[b->keys++] = u * (int)x->side + v;
        }
}

/* q.rel_h by window row and q.rel_w by window column, for a group of queries. */
static void relative(const dense *d, size_t first, size_t lanes)
{
    const place *b = d->geometry;
    const halo *x = b->x;
    const float unit = x->m.scale_rel / x->m.scale; /* d->turned is scaled */
    for (int a = 0; a < 2; a++) {
        float *own = b->own + (size_t)a * x->side * lanes;
        tile_gemm(x->used, lanes, d->d,
                  x->call->param[a] + first_row(x) * d->d, d->d, 1, d->turned,
                  lanes, b->all, lanes, false);
        for (size_t l = 0; l < lanes; l++) {
            const size_t i = first + l < x->queries ? first + l : 0;
            const float *from = b->all + distance(x, i, a) * lanes + l;
            for (size_t u = 0; u < x->side; u++)
                own[u * lanes + l] = unit * from[u * lanes];
        }
    }
}

static void add_bias(const dense *d, size_t first, size_t lanes, float *s)
{
    const place *b = d->geometry;
    const size_t side = b->x->side;
    relative(d, first, lanes);
    for (size_t j = 0; j < b->keys; j++) {
        const size_t t = (size_t)b->position[j];
        const float *h = b->own + t / side * lanes;
        const float *w = b->own + (side + t % side) * lanes;
        float *at = s + j * lanes;
        if (lanes == 1) at[0] += h[0] + w[0];
        else
            for (size_t l = 0; l < lanes; l += VL)
                v_store(at + l,
                        v_load(at + l) + (v_load(h + l) + v_load(w + l)));
    }
}

/* Sums of dS over the rows and columns of the window, turned into sums by
 * distance, are the weights of the embeddings in dq and of q in drel. */
static void back_bias(const dense *d, size_t first, size_t lanes,
                      const float *ds, float *dq)
{
    const place *b = d->geometry;
    const halo *x = b->x;
    const float unit = x->m.scale_rel / x->m.scale;
    memset(b->own, 0, 2 * x->side * lanes * sizeof(float));
    for (size_t j = 0; j < b->keys; j++) {
        const size_t t = (size_t)b->position[j];
        float *h = b->own + t / x->side * lanes;
        float *w = b->own + (x->side + t % x->side) * lanes;
        for (size_t l = 0; l < lanes; l += VL) {
            const vf g = v_load(ds + j * lanes + l);
            v_store(h + l, v_load(h + l) + g);
            v_store(w + l, v_load(w + l) + g);
        }
    }
    for (int a = 0; a < 2; a++) {
        const float *own = b->own + (size_t)a * x->side * lanes;
        memset(b->all, 0, x->used * lanes * sizeof(float));
        for (size_t l = 0; l < lanes && first + l < x->queries; l++) {
            float *to = b->all + distance(x, first + l, a) * lanes + l;
            for (size_t u = 0; u < x->side; u++)
                to[u * lanes] = unit * own[u * lanes + l];
        }
        tile_gemm(lanes, d->d, x->used, b->all, 1, lanes,
                  x->call->param[a] + first_row(x) * d->d, d->d, dq, d->d,
                  true);
        tile_gemm(x->used, d->d, lanes, b->all, lanes, 1, d->rows, d->d,
                  b->drel + (size_t)a * x->used * d->d, d->d, true);
    }
}

/* ---- sizes ------------------------------------------------------------------------- */

static size_t thread_floats(const halo *x, bool back)
{
    const size_t keys = x->side * x->side;
    return direct_up(x->queries) + 2 * direct_up(keys) +
           direct_up(x->used * DENSE_LANES) +
           direct_up(2 * x->side * DENSE_LANES) +
           dense_floats(keys, x->m.d, back);
}

static size_t drel_floats(const halo *x)
{
    return x->m.biased ? direct_up(2 * x->used * x->m.d) : 0;
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const att_call c = { .p = p };
    const halo x = halo_of(&c, NULL);
    const size_t n = (size_t)threads;
    *out = (att_sizes){
        .save = x.maps * x.m.n * sizeof(float),
        .work = n * thread_floats(&x, false) * sizeof(float),
        .work_backward = (n * thread_floats(&x, true) +
                          x.maps * x.rows * drel_floats(&x)) *
                         sizeof(float),
    };
}

/* ---- calls -------------------------------------------------------------------------- */

/* Row of blocks `row` of one map, forward or backward. */
static void run_row(const halo *x, size_t map, size_t row, float *work,
                    float *drel)
{
    const att_call *c = x->call;
    const att_grad *g = x->grad;
    const size_t base = map * x->m.n * x->m.d, keys = x->side * x->side;
    const size_t base_k = map * x->keys * x->m.d;
    place b = { .x = x, .query = (int32_t *)work, .drel = drel };
    b.key = b.query + direct_up(x->queries);
    b.position = b.key + direct_up(keys);
    b.all = (float *)(b.position + direct_up(keys));
    b.own = b.all + direct_up(x->used * DENSE_LANES);
    work = b.own + direct_up(2 * x->side * DENSE_LANES);
    dense d = { .d = x->m.d,
                .queries = x->queries,
                .scale = log2e * x->m.scale,
                .query = b.query,
                .key = b.key,
                .dtype = c->p->dtype,
                .q = dense_at(c->p->dtype, c->q, base),
                .k = dense_at(c->p->dtype, c->k, base_k),
                .v = dense_at(c->p->dtype, c->v, base_k),
                .o = dense_at(c->p->dtype, c->o, base),
                .lse = c->save ? (float *)c->save + map * x->m.n : NULL,
                .bias = x->m.biased ? add_bias : NULL,
                .geometry = &b };
    if (g) {
        d.g = g->dout + base;
        d.dq = g->dq ? g->dq + base : NULL;
        d.dk = g->dk ? g->dk + base_k : NULL;
        d.dv = g->dv ? g->dv + base_k : NULL;
        d.bias_back = x->m.biased ? back_bias : NULL;
        memset(drel, 0, drel_floats(x) * sizeof *drel);
    }
    for (size_t column = 0; column < x->columns; column++) {
        open_block(x, row, column, &b);
        d.keys = b.keys;
        if (g) dense_backward(&d, work);
        else dense_forward(&d, work);
    }
}

static void forward(const att_call *c)
{
    const halo x = halo_of(c, NULL);
    #pragma omp parallel for schedule(dynamic) num_threads(c->threads)
    for (size_t at = 0; at < x.maps * x.rows; at++)
        run_row(&x, at / x.rows, at % x.rows,
                (float *)c->work +
                    (size_t)omp_get_thread_num() * thread_floats(&x, false),
                NULL);
}

/* One row of an embedding's gradient: the sum over all tasks, 0 if never read. */
static void fold(const halo *x, const float *drel, int a, size_t row,
                 float *out)
{
    const size_t d = x->m.d;
    memset(out, 0, d * sizeof *out);
    if (row < first_row(x) || row - first_row(x) >= x->used) return;
    const float *from =
        drel + ((size_t)a * x->used + row - first_row(x)) * d;
    for (size_t at = 0; at < x->maps * x->rows; at++)
        axpy(out, 1 / log2e, from + at * drel_floats(x), d);
}

static void backward(const att_call *c, const att_grad *g)
{
    const halo x = halo_of(c, g);
    float *const drel =
        (float *)c->work + (size_t)c->threads * thread_floats(&x, true);
    const size_t bytes = x.maps * x.keys * x.m.d * sizeof(float);
    const size_t sets = (x.side + x.block - 1) / x.block;
    if (g->dk) memset(g->dk, 0, bytes);
    if (g->dv) memset(g->dv, 0, bytes);
    #pragma omp parallel num_threads(c->threads)
    {
        float *work = (float *)c->work +
                      (size_t)omp_get_thread_num() * thread_floats(&x, true);
        for (size_t set = 0; set < sets && set < x.rows; set++) {
            const size_t rows = (x.rows - set + sets - 1) / sets;
            #pragma omp for schedule(dynamic)
            for (size_t at = 0; at < x.maps * rows; at++) {
                const size_t map = at / rows, row = set + at % rows * sets;
                run_row(&x, map, row, work,
                        drel + (map * x.rows + row) * drel_floats(&x));
            }
        }
        for (int a = 0; a < 2; a++)
            if (x.m.biased && g->dparam[a]) {
                #pragma omp for
                for (size_t row = 0; row < x.m.rows[a]; row++)
                    fold(&x, drel, a, row, g->dparam[a] + row * x.m.d);
            }
    }
}

ATT_KERNELS = {
    {
        .name = "halo.tiled",
        .mechanism = "halo",
        .brief = "each block and its window as a dense block",
        .reject = dense_reject,
        .sizes = sizes,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
