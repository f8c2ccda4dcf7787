/* pernode_logits.direct, pernode_softmax.direct, separable.direct,
 * pernode_pool.direct - one row of weights per map, then one pass over what it
 * weighs; lanes are channels.
 *
 *     a = softmax(logits | w . k_j + b | score | pooling MLP),  c = sum_j a_j x_j
 *
 * The tokens of a map are cut into pieces, whose contexts are summed in order: so
 * threads have work when there are few maps, and rounding stays small where there
 * are many tokens, and the same for any threads.  Backward needs the weights
 * again (they are saved), sums g first, and finds every gradient in one more
 * pass over the pieces.
 */
#include "../att.h"
#include "../simd.h"

#include <math.h>

enum { LOGITS };
enum { W, B };
enum { POOL_W1, POOL_B1, POOL_W2, POOL_B2 };

enum { PIECE = 64, PIECES = 128 }; /* tokens of one, most of a map         */

/* Which of the four: what the weights come from. */
enum kind { FROM_LOGITS, FROM_KEYS, FROM_SCORE, FROM_POOL };

typedef struct layout {
    size_t n, d, maps, heads, pieces, length;
    size_t sums, total_sums, local, activations, work; /* floats            */
    size_t weights, context, save;
} layout;

static size_t rounded(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

static layout layout_of(const att_problem *p, enum kind kind)
{
    layout x = { .n = att_tokens(p), .d = (size_t)p->head_dim };
    size_t at = 0;
    x.heads = (size_t)p->heads;
    x.maps = (size_t)p->batch * x.heads;
    x.pieces = (x.n + PIECE - 1) / PIECE;
    if (x.pieces > PIECES) x.pieces = PIECES;
    x.length = (x.n + x.pieces - 1) / x.pieces;
    x.pieces = (x.n + x.length - 1) / x.length;
    /* per piece: a sum of d channels, and in backward one of d for w (or the
     * pooling MLP's gradient) */
    const size_t pool = kind == FROM_POOL ? x.d * x.d + 2 * x.d + 1 : x.d + 1;
    x.sums = at, at += x.maps * x.pieces * rounded(x.d);
    x.total_sums = at, at += x.maps * rounded(x.d);
    x.local = at, at += x.maps * x.pieces * rounded(pool);
    x.activations = at, at += rounded(x.maps * x.n);
    x.work = at;
    /* kept: weights, contexts, and the MLP's activations */
    x.weights = 0;
    x.context = rounded(x.maps * x.n);
    x.save = x.context + x.maps * rounded(x.d) +
             (kind == FROM_POOL ? x.maps * x.n * x.d : 0);
    return x;
}

/* Forward works in the saved arrays, or in as many floats of its own. */
static void sizes_of(const att_problem *p, enum kind kind, att_sizes *out)
{
    const layout x = layout_of(p, kind);
    *out = (att_sizes){
        .save = x.save * sizeof(float),
        .work = (x.work + x.save) * sizeof(float),
        .work_backward = x.work * sizeof(float),
    };
}

typedef struct job {
    const att_call *c;
    const att_grad *g;
    layout x;
    enum kind kind;
    const float *weighed; /* [maps][n][d]: v, k or x                        */
    float *a, *context, *y; /* weights, contexts, activations of the MLP    */
    float *work;
} job;

static job job_of(const att_call *c, const att_grad *g, enum kind kind)
{
    job k = { .c = c, .g = g, .kind = kind, .work = c->work };
    k.x = layout_of(c->p, kind);
    float *kept = c->save ? c->save : (float *)c->work + k.x.work;
    k.weighed = kind == FROM_SCORE ? c->k : kind == FROM_POOL ? c->q : c->v;
    k.a = kept + k.x.weights;
    k.context = kept + k.x.context;
    k.y = k.context + k.x.maps * rounded(k.x.d);
    return k;
}

/* ---- vectors --------------------------------------------------------------------------- */

static float dot(const float *a, const float *b, size_t n)
{
    vf sum = v_zero();
    size_t i = 0;
    for (; i + VL <= n; i += VL) sum = v_fma(v_load(a + i), v_load(b + i), sum);
    if (i < n) sum = v_fma(v_load_n(a + i, n - i), v_load_n(b + i, n - i), sum);
    return v_sum(sum);
}

/* y += s x. */
static void axpy(float *y, float s, const float *x, size_t n)
{
    #pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] += s * x[i];
}

/* y where relu is open for v, else 0: a select, as y is at hand either way. */
static float where_open(float v, float y)
{
    return v > 0 ? y : 0;
}

static void zero(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = 0;
}

/* Tokens [first, end) of a map. */
typedef struct piece {
    size_t map, index, first, end;
} piece;

static piece piece_of(const layout *x, size_t index)
{
    piece p = { .map = index / x->pieces, .index = index };
    p.first = index % x->pieces * x->length;
    p.end = p.first + x->length < x->n ? p.first + x->length : x->n;
    return p;
}

/* ---- weights ------------------------------------------------------------------------------- */

static vf tanh_of(vf x)
{
    x = v_min(v_max(x, v_set1(-15)), v_set1(15));
    return 1.0f - 2.0f / (1.0f + v_exp(2.0f * x));
}

/* Logit of token j of a map, and the MLP's activations. */
static float pool_logit(const job *k, size_t row)
{
    const layout *x = &k->x;
    const float *q = (const float *)k->c->q + row * x->d;
    float *y = k->y + row * x->d;
    for (size_t u = 0; u < x->d; u++)
        y[u] = dot(k->c->param[POOL_W1] + u * x->d, q, x->d) +
               k->c->param[POOL_B1][u];
    for (size_t u = 0; u < x->d; u += VL) {
        const size_t lanes = x->d - u < VL ? x->d - u : VL;
        v_store_n(y + u, tanh_of(v_load_n(y + u, lanes)), lanes);
    }
    return dot(k->c->param[POOL_W2], y, x->d) + k->c->param[POOL_B2][0];
}

static void make_logits(const job *k, const piece *p)
{
    const layout *x = &k->x;
    const size_t h = p->map % x->heads;
    for (size_t j = p->first; j < p->end; j++) {
        const size_t row = p->map * x->n + j;
        switch (k->kind) {
        case FROM_LOGITS: k->a[row] = k->c->param[LOGITS][h * x->n + j]; break;
        case FROM_KEYS:
            k->a[row] = dot(k->c->param[W] + h * x->d,
                            (const float *)k->c->k + row * x->d, x->d) +
                        k->c->param[B][h];
            break;
        case FROM_SCORE: k->a[row] = ((const float *)k->c->q)[row]; break;
        case FROM_POOL: k->a[row] = pool_logit(k, row); break;
        }
    }
}

/* x -> exp(x - max); returns their sum. */
static float exponentials(float *x, size_t n, float max)
{
    vf sums = v_zero();
    for (size_t j = 0; j < n; j += VL) {
        const size_t lanes = n - j < VL ? n - j : VL;
        const vf e = v_exp(v_max(v_load_n(x + j, lanes) - max, v_set1(-200)));
        sums += v_first(e, lanes);
        v_store_n(x + j, e, lanes);
    }
    return v_sum(sums);
}

/* exp(l) / (sum exp(l) + eps), in place; all zeros where every l is -infinity. */
static void softmax(float *a, size_t n, float eps)
{
    enum { BLOCK = 1024 };
    float max = V_LOWEST, sum = 0; /* of -infinity alone: zeros */
    for (size_t j = 0; j < n; j++) a[j] = a[j] < -V_LOWEST ? a[j] : -V_LOWEST;
    for (size_t j = 0; j < n; j++) max = a[j] > max ? a[j] : max;
    for (size_t j = 0; j < n; j += BLOCK)
        sum += exponentials(a + j, n - j < BLOCK ? n - j : BLOCK, max);
    if (eps > 0 && (max > V_LOWEST || sum > 0)) sum += eps * expf(-max);
    for (size_t j = 0; j < n; j++) a[j] /= sum > 0 ? sum : 1;
}

/* Share of a piece in the context. */
static void sum_piece(const job *k, const piece *p)
{
    const layout *x = &k->x;
    float *sum = k->work + x->sums + p->index * rounded(x->d);
    zero(sum, x->d);
    for (size_t j = p->first; j < p->end; j++) {
        const size_t row = p->map * x->n + j;
        axpy(sum, k->a[row], k->weighed + row * x->d, x->d);
    }
}

static void merge_sums(const layout *x, const float *sums, size_t map,
                       float *out)
{
    zero(out, x->d);
    for (size_t i = 0; i < x->pieces; i++)
        axpy(out, 1, sums + (map * x->pieces + i) * rounded(x->d), x->d);
}

static void make_context(const job *k, size_t map)
{
    merge_sums(&k->x, k->work + k->x.sums, map,
               k->context + map * rounded(k->x.d));
}

/* ---- forward ---------------------------------------------------------------------------------- */

static void write_rows(const job *k, const piece *p)
{
    const layout *x = &k->x;
    const float *context = k->context + p->map * rounded(x->d);
    if (k->kind == FROM_POOL) {
        if (p->first == 0)
            memcpy((float *)k->c->o + p->map * x->d, context,
                   x->d * sizeof *context);
        return;
    }
    for (size_t j = p->first; j < p->end; j++) {
        const size_t at = (p->map * x->n + j) * x->d;
        float *o = (float *)k->c->o + at;
        const float *v = (const float *)k->c->v + at;
        if (k->kind != FROM_SCORE) memcpy(o, context, x->d * sizeof *o);
        else
            for (size_t i = 0; i < x->d; i++)
                o[i] = where_open(v[i], v[i] * context[i]);
    }
}

static void forward(const att_call *c, enum kind kind)
{
    const job k = job_of(c, NULL, kind);
    const layout *x = &k.x;
    const size_t pieces = x->maps * x->pieces;
    #pragma omp parallel num_threads(c->threads)
    {
        #pragma omp for
        for (size_t i = 0; i < pieces; i++) {
            const piece p = piece_of(x, i);
            make_logits(&k, &p);
        }
        #pragma omp for
        for (size_t map = 0; map < x->maps; map++)
            softmax(k.a + map * x->n, x->n, kind == FROM_POOL ? 1e-8f : 0);
        #pragma omp for
        for (size_t i = 0; i < pieces; i++) {
            const piece p = piece_of(x, i);
            sum_piece(&k, &p);
        }
        #pragma omp for
        for (size_t map = 0; map < x->maps; map++) make_context(&k, map);
        #pragma omp for
        for (size_t i = 0; i < pieces; i++) {
            const piece p = piece_of(x, i);
            write_rows(&k, &p);
        }
    }
}

/* ---- backward ----------------------------------------------------------------------------------- */

/* Share of a piece in the gradient of the context; separable: also dv. */
static void sum_gradients(const job *k, const piece *p)
{
    const layout *x = &k->x;
    float *sum = k->work + x->sums + p->index * rounded(x->d);
    const float *context = k->context + p->map * rounded(x->d);
    float *dv = k->g->dv;
    zero(sum, x->d);
    if (k->kind == FROM_POOL) { /* one row of g per map */
        if (p->first == 0) axpy(sum, 1, k->g->dout + p->map * x->d, x->d);
        return;
    }
    for (size_t j = p->first; j < p->end; j++) {
        const size_t at = (p->map * x->n + j) * x->d;
        const float *g = k->g->dout + at;
        const float *v = (const float *)k->c->v + at;
        if (k->kind != FROM_SCORE) {
            axpy(sum, 1, g, x->d);
            continue;
        }
        for (size_t i = 0; i < x->d; i++) {
            sum[i] += where_open(v[i], g[i] * v[i]);
            if (dv) dv[at + i] = where_open(v[i], g[i] * context[i]);
        }
    }
}

/* da of a piece, and the weighed tensor's gradient a dc. */
static void weight_gradients(const job *k, const piece *p)
{
    const layout *x = &k->x;
    const float *dc = k->work + x->total_sums + p->map * rounded(x->d);
    float *da = k->work + x->activations;
    float *to = k->kind == FROM_SCORE  ? k->g->dk
                : k->kind == FROM_POOL ? k->g->dq
                                       : k->g->dv;
    for (size_t j = p->first; j < p->end; j++) {
        const size_t row = p->map * x->n + j;
        da[row] = dot(dc, k->weighed + row * x->d, x->d);
        for (size_t i = 0; to && i < x->d; i++)
            to[row * x->d + i] = k->a[row] * dc[i];
    }
}

/* dl = a (da - sum a da), in place of da.  One weight may be nearly 1, whose
 * difference is far below the rounding of da: the mean is taken in double, and
 * over weights that sum to 1 but for rounding (pooling's do not: its eps). */
static void softmax_backward(const job *k, size_t map)
{
    const float *a = k->a + map * k->x.n;
    float *da = k->work + k->x.activations + map * k->x.n;
    double along = 0, sum = 0;
    for (size_t j = 0; j < k->x.n; j++) {
        along += (double)a[j] * da[j];
        sum += a[j];
    }
    if (k->kind != FROM_POOL && sum > 0) along /= sum;
    for (size_t j = 0; j < k->x.n; j++)
        da[j] = (float)(a[j] * (da[j] - along));
}

/* The MLP: dx += W1' dh, and the piece's share of dW1, db1, dw2, db2. */
static void pool_row(const job *k, size_t row, float dl, float *share)
{
    const size_t d = k->x.d;
    const float *y = k->y + row * d;
    const float *q = (const float *)k->c->q + row * d;
    float *b1 = share + d * d;
    b1[2 * d] += dl;
    for (size_t u = 0; u < d; u++) {
        const float dh = dl * k->c->param[POOL_W2][u] * (1 - y[u] * y[u]);
        b1[u] += dh;
        b1[d + u] += dl * y[u];
        axpy(share + u * d, dh, q, d);
        if (k->g->dq)
            axpy(k->g->dq + row * d, dh, k->c->param[POOL_W1] + u * d, d);
    }
}

/* What the logits came from. */
static void source_gradients(const job *k, const piece *p)
{
    const layout *x = &k->x;
    const size_t h = p->map % x->heads;
    const size_t pool = rounded(x->d * x->d + 2 * x->d + 1);
    const size_t mine = k->kind == FROM_POOL ? pool : rounded(x->d + 1);
    const float *dl = k->work + x->activations + p->map * x->n;
    float *share = k->work + x->local + p->index * mine;
    zero(share, mine);
    for (size_t j = p->first; j < p->end; j++) {
        const size_t row = p->map * x->n + j;
        if (k->kind == FROM_SCORE && k->g->dq) k->g->dq[row] = dl[j];
        if (k->kind == FROM_POOL) pool_row(k, row, dl[j], share);
        if (k->kind != FROM_KEYS) continue;
        axpy(share, dl[j], (const float *)k->c->k + row * x->d, x->d);
        share[x->d] += dl[j];
        for (size_t i = 0; k->g->dk && i < x->d; i++)
            k->g->dk[row * x->d + i] = dl[j] * k->c->param[W][h * x->d + i];
    }
}

/* out[i] = sum over maps h, h + heads ... and their pieces of share[at + i]. */
static void merge_shares(const job *k, size_t h, size_t size, size_t at,
                         size_t n, float *out)
{
    if (!out) return;
    zero(out, n);
    for (size_t map = h; map < k->x.maps; map += k->x.heads)
        for (size_t i = 0; i < k->x.pieces; i++)
            axpy(out, 1,
                 k->work + k->x.local + (map * k->x.pieces + i) * size + at, n);
}

static void merge_parameters(const job *k)
{
    const size_t d = k->x.d, n = k->x.n;
    float *const *g = k->g->dparam;
    const size_t pool = rounded(d * d + 2 * d + 1), keys = rounded(d + 1);
    if (k->kind == FROM_LOGITS && g[LOGITS]) {
        zero(g[LOGITS], k->x.heads * n);
        for (size_t map = 0; map < k->x.maps; map++)
            axpy(g[LOGITS] + map % k->x.heads * n, 1,
                 k->work + k->x.activations + map * n, n);
    }
    for (size_t h = 0; k->kind == FROM_KEYS && h < k->x.heads; h++) {
        merge_shares(k, h, keys, 0, d, g[W] ? g[W] + h * d : NULL);
        merge_shares(k, h, keys, d, 1, g[B] ? g[B] + h : NULL);
    }
    if (k->kind != FROM_POOL) return;
    merge_shares(k, 0, pool, 0, d * d, g[POOL_W1]);
    merge_shares(k, 0, pool, d * d, d, g[POOL_B1]);
    merge_shares(k, 0, pool, d * d + d, d, g[POOL_W2]);
    merge_shares(k, 0, pool, d * d + 2 * d, 1, g[POOL_B2]);
}

static void backward(const att_call *c, const att_grad *g, enum kind kind)
{
    const job k = job_of(c, g, kind);
    const layout *x = &k.x;
    const size_t pieces = x->maps * x->pieces;
    #pragma omp parallel num_threads(c->threads)
    {
        #pragma omp for
        for (size_t i = 0; i < pieces; i++) {
            const piece p = piece_of(x, i);
            sum_gradients(&k, &p);
        }
        #pragma omp for
        for (size_t map = 0; map < x->maps; map++)
            merge_sums(x, k.work + x->sums, map,
                       k.work + x->total_sums + map * rounded(x->d));
        #pragma omp for
        for (size_t i = 0; i < pieces; i++) {
            const piece p = piece_of(x, i);
            weight_gradients(&k, &p);
        }
        #pragma omp for
        for (size_t map = 0; map < x->maps; map++) softmax_backward(&k, map);
        #pragma omp for
        for (size_t i = 0; i < pieces; i++) {
            const piece p = piece_of(x, i);
            source_gradients(&k, &p);
        }
    }
    merge_parameters(&k);
}

/* ---- table ------------------------------------------------------------------------------------------ */

#define STAMP(name, kind)                                                      \
    static void sizes_##name(const att_problem *p, int threads,                \
                             att_sizes *out)                                   \
    {                                                                          \
        (void)threads;                                                         \
        sizes_of(p, kind, out);                                                \
    }                                                                          \
    static void forward_##name(const att_call *c)                              \
    {                                                                          \
        forward(c, kind);                                                      \
    }                                                                          \
    static void backward_##name(const att_call *c, const att_grad *g)          \
    {                                                                          \
        backward(c, g, kind);                                                  \
    }
STAMP(pernode_logits, FROM_LOGITS)
STAMP(pernode_softmax, FROM_KEYS)
STAMP(separable, FROM_SCORE)
STAMP(pernode_pool, FROM_POOL)
#undef STAMP

#define ENTRY(name_)                                                           \
    {                                                                          \
        .name = #name_ ".direct", .mechanism = #name_,                         \
        .brief = "weights first, then one pass over what they weigh",          \
        .plain = true, .sizes = sizes_##name_, .forward = forward_##name_,     \
        .backward = backward_##name_,                                          \
    }

ATT_KERNELS = {
    ENTRY(pernode_logits),
    ENTRY(pernode_softmax),
    ENTRY(separable),
    ENTRY(pernode_pool),
    { 0 },
};
