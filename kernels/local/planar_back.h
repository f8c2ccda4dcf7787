/* planar_back.h - backward of planar_window.h.
 *
 * Items side by side form a bundle.  The walk over queries makes P and dS and
 * leaves them in memory, [slice][row][slot][column], with dQ on the way; then
 * the walk over keys gathers
 *
 *     dV_j = sum over the queries i that see j of P_ij dO_i     dK likewise
 *
 * as the forward pass gathers values, by the distance i - j: planar rows of dO
 * and Q in a ring, one straight load each.  The weights of VL keys and one
 * distance are VL neighbours of one slot where windows are regular (one load),
 * and come from different slots at a border (a gather by an index that is made
 * once per panel; 0 where the query does not see the key).
 *
 * Several bundles go between two barriers if one has too few tasks.
 */
#ifndef ATT_PLANAR_BACK_H
#define ATT_PLANAR_BACK_H

#include "planar_window.h"

enum { PLANAR_PARTS = 8 }; /* of the sums of bias gradients, for any threads  */

struct planar_bundle {
    planar_task shape; /* axes, steps, items                                  */
    float *p, *ds;     /* [slice][row][slots][width]                          */
    float *keep;       /* [slice][row][bias_keep]                             */
};

static inline float *planar_pairs(const planar *p, const planar_bundle *b,
                                  float *from, int z, int y)
{
    return from + ((size_t)z * (size_t)b->shape.axis[1]->n + (size_t)y) *
                      p->slots * p->width;
}

static inline float *planar_kept(const planar *p, const planar_bundle *b, int z,
                                 int y)
{
    return b->keep + ((size_t)z * (size_t)b->shape.axis[1]->n + (size_t)y) *
                         p->bias_keep;
}

static inline size_t planar_keep_floats(const planar *p)
{
    return planar_up((size_t)p->axis[0][0].n * (size_t)p->axis[1][0].n *
                         p->bias_keep,
                     16);
}

static inline size_t planar_pairs_floats(const planar *p)
{
    return (size_t)p->axis[0][0].n * (size_t)p->axis[1][0].n * p->slots *
           p->width;
}

/* ---- the walk over queries -------------------------------------------------------------- */

static inline size_t planar_queries_floats(const planar *p)
{
    return planar_forward_floats(p) +
           planar_up(ROWS * p->d * p->q_pitch + ROWS * p->slots * VL, 16);
}

/* P = 2^(S - lse), dS = P (dP - sum P dP) of one row, in place and into the
 * bundle.  The sum is divided by that of P, which differs from 1 by the rounding
 * of lse: else logits of some hundreds would leave dS with a sum other than 0. */
static inline void planar_soften_back(const planar_lanes *lanes, size_t used,
                                      float scale, vf lse, float *s, float *ds,
                                      size_t width, float *p_out, float *ds_out)
{
    vf mean[4], sum[4]; /* chains */
    scale = planar_scaled(lanes, used, scale, lse, s);
    UNROLL for (int i = 0; i < 4; i++) mean[i] = sum[i] = v_zero();
    for (size_t at = 0; at < used; at += 4)
        UNROLL for (size_t i = 0; i < 4; i++) {
            if (at + i >= used) break;
            const vf e = v_exp2(v_load(s + (at + i) * VL) * scale - lse);
            mean[i] = v_fma(e, v_load(ds + (at + i) * VL), mean[i]);
            sum[i] += e;
            v_store(s + (at + i) * VL, e);
            v_store(p_out + (at + i) * width, e);
        }
    const vf total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    const vf one = v_select(total > 0.0f, total, v_set1(1));
    const vf all = ((mean[0] + mean[1]) + (mean[2] + mean[3])) / one;
    if (planar_hmax(lanes, one - 1.0f) > 4e-6f) /* large or lowest logits */
        for (size_t at = 0; at < used; at++) {
            const vf x = v_load(s + at * VL) / one;
            v_store(s + at * VL, x);
            v_store(p_out + at * width, x);
        }
    for (size_t at = 0; at < used; at++) {
        const vf x = v_load(s + at * VL) * (v_load(ds + at * VL) - all);
        v_store(ds + at * VL, x);
        v_store(ds_out + at * width, x);
    }
}

static inline void planar_queries_block(const planar *p, const planar_bundle *b,
                                        const planar_task *t,
                                        const planar_lanes *x, const float *g,
                                        float *ds)
{
    const float *save = p->call->save;
    planar_score(p, t, x, t->q, t->k, t->v, t->s);
    const size_t n = planar_score(p, t, x, g, t->v, t->k, ds);
    for (int i = 0; i < t->rows; i++) {
        const size_t used = planar_used(t, t->z, t->y + i);
        const size_t offset = planar_offset(t, t->z, t->y + i);
        float *s = t->s + (size_t)i * p->slots * VL;
        const float scale = planar_logits(p, t, x, i, used, s);
        vf lse;
        for (int l = 0; l < VL; l++) lse[l] = save[x->token[l] + offset];
        planar_soften_back(
            x, used, scale, lse, s, ds + (size_t)i * p->slots * VL, p->width,
            planar_pairs(p, b, b->p, t->z, t->y + i) + x->first,
            planar_pairs(p, b, b->ds, t->z, t->y + i) + x->first);
    }
    if (p->grad->dq)
        combine_rows(x->mode, t->list, n, p->pitch, x->index,
                     (size_t)t->axis[2]->slots, p->dpad, t->rows, t->o);
    for (int i = 0; i < t->rows; i++) {
        float *o = t->o + (size_t)i * p->dpad * VL;
        if (p->bias_back)
            p->bias_back(p, b, t, x, i, ds + (size_t)i * p->slots * VL,
                         p->grad->dq ? o : NULL);
        if (!p->grad->dq) continue;
        planar_scale_row(o, p->dpad, v_set1(p->scale));
        planar_put(p, t, x, t->y + i, o, ATT_F32, p->grad->dq);
    }
}

static inline void planar_queries_task(const planar *p, const planar_bundle *b,
                                       planar_task *t, float *work)
{
    float *g = work + planar_forward_floats(p);
    float *ds = g + ROWS * p->d * p->q_pitch;
    planar_scratch(p, t, work);
    planar_open_panel(t);
    planar_clear_tail(p, t->k);
    if (p->bias_open) p->bias_open(p, t);
    t->loaded = 0;
    for (int y = t->y0; y < t->y1; y += ROWS) {
        planar_open_block(p, t, y);
        planar_load_queries(p, t, planar_stored(p, p->call->q), t->q);
        planar_load_queries(p, t, planar_floats(p->grad->dout), g);
        if (p->bias_rows) p->bias_rows(p, t);
        for (int l = 0; l < t->blocks; l++)
            planar_queries_block(p, b, t, &t->lanes[l], g, ds);
    }
}

/* ---- the walk over keys --------------------------------------------------------------------- */

/* VL keys of a panel.  For the distances first, first + 1, ... to a query: where
 * in a row of P (or dS) the weights are, relative to the slots of the key row. */
typedef struct planar_inverse {
    int first, slots;
    int32_t *at; /* [slots][VL]; -1: that lane has no such query              */
    bool *line;  /* [slots]: the lanes follow each other                      */
} planar_inverse;

typedef struct planar_keys {
    planar_task *t;
    planar_inverse inverse[PANEL / VL];
    float *q, *g;    /* [outer][ring_back][dpad][pitch_back]                  */
    float *wp, *ws;  /* [ROWS][slots_back][VL]                                */
    float *o;        /* [ROWS][dpad][VL]                                      */
    combine_row *list_p, *list_s;
    int32_t *at;
    bool *line;
} planar_keys;

static inline size_t planar_all_back(const planar *p)
{
    return p->slots_back[0] * p->slots_back[1] * p->slots_back[2];
}

static inline size_t planar_ring_back_floats(const planar *p)
{
    return p->slots_back[0] * (size_t)p->ring_back * p->dpad * p->pitch_back;
}

static inline size_t planar_list_back_floats(const planar *p)
{
    return planar_up(p->slots_back[0] * (size_t)p->ring_back *
                         sizeof(combine_row) / sizeof(float),
                     16);
}

static inline size_t planar_keys_floats(const planar *p)
{
    const size_t offsets = PANEL / VL * p->slots_back[2];
    return planar_up(2 * planar_ring_back_floats(p) +
                         2 * ROWS * planar_all_back(p) * VL +
                         ROWS * p->dpad * VL + 2 * planar_list_back_floats(p) +
                         offsets * VL + offsets,
                     16);
}

static inline void planar_keys_scratch(const planar *p, planar_keys *k,
                                       float *work)
{
    const size_t weights = ROWS * planar_all_back(p) * VL;
    k->q = work;
    k->g = k->q + planar_ring_back_floats(p);
    k->wp = k->g + planar_ring_back_floats(p);
    k->ws = k->wp + weights;
    k->o = k->ws + weights;
    k->list_p = (combine_row *)(k->o + ROWS * p->dpad * VL);
    k->list_s = (combine_row *)((float *)k->list_p +
                                planar_list_back_floats(p));
    k->at = (int32_t *)((float *)k->list_s + planar_list_back_floats(p));
    k->line = (bool *)(k->at + PANEL / VL * p->slots_back[2] * VL);
}

static inline void planar_inverse_of(const planar *p, const planar_keys *k,
                                     int block, planar_inverse *v)
{
    const planar_lanes *l = &k->t->lanes[block];
    const planar_axis *x = k->t->axis[2];
    int last = 1 - x->slots;
    v->at = k->at + (size_t)block * p->slots_back[2] * VL;
    v->line = k->line + (size_t)block * p->slots_back[2];
    v->first = x->slots - 1;
    for (int i = 0; i < l->count; i++) {
        const int key = l->x[i], away = x->back[key] - key;
        v->first = planar_least(v->first, away);
        last = planar_most(last, away + x->backs[key] - 1);
    }
    v->slots = last - v->first + 1;
    for (int j = 0; j < v->slots; j++) {
        int32_t *at = v->at + j * VL;
        v->line[j] = l->count == VL;
        for (int i = 0; i < VL; i++) {
            const int key = l->x[i], query = key + v->first + j;
            const int back = query - x->back[key];
            at[i] = -1;
            if (i < l->count && back >= 0 && back < x->backs[key])
                at[i] = (key + x->pad - x->start[query]) * (int)p->width +
                        l->item[i] * x->n + query;
            if (at[i] < 0 || at[i] != at[0] + i) v->line[j] = false;
        }
    }
}

/* Lanes are keys, planar rows are of queries and begin a window before them. */
static inline void planar_open_keys(const planar *p, planar_keys *k)
{
    planar_task *t = k->t;
    t->key0 = t->x0 - (t->axis[2]->slots - 1);
    t->blocks = 0;
    for (int first = t->x0; first < t->x1; first += VL) {
        planar_lanes *l = &t->lanes[t->blocks];
        planar_inverse *v = &k->inverse[t->blocks];
        planar_place_lanes(t, first, t->x1, l);
        planar_inverse_of(p, k, t->blocks++, v);
        l->base = (size_t)(first + v->first - t->key0);
    }
}

static inline float *planar_back_row(const planar *p, float *ring, int slot,
                                     int row)
{
    const size_t at = (size_t)slot * (size_t)p->ring_back +
                      (size_t)(row % p->ring_back);
    return ring + at * p->dpad * p->pitch_back;
}

/* Queries of a row up to a window beyond the panel, zeros beyond the items. */
static inline void planar_load_query_row(const planar *p, const planar_keys *k,
                                         planar_tensor src, int z, int y,
                                         float *dst)
{
    const planar_task *t = k->t;
    const planar_axis *x = t->axis[2];
    const int end = t->x1 + x->slots - 1;
    const int from = planar_most(t->key0, 0);
    const int to = planar_least(end, t->items * x->n);
    const size_t before = (size_t)(from - t->key0);
    const size_t after = (size_t)(end - to);
    planar_load_row(p, t, src, z, y, 0, from, to, dst + before, p->pitch_back);
    for (size_t c = 0; c < p->d; c++) {
        float *row = dst + c * p->pitch_back;
        memset(row, 0, before * sizeof *row);
        memset(row + (to - t->key0), 0, after * sizeof *row);
    }
}

/* Query rows [from, to) of the slices that see the task's slice of keys. */
static inline void planar_load_seeing(const planar *p, const planar_keys *k,
                                      int from, int to)
{
    const planar_task *t = k->t;
    const planar_axis *z = t->axis[0];
    for (int s = 0; s < z->backs[t->z]; s++)
        for (int row = from; row < to; row++) {
            const int slice = z->back[t->z] + s;
            planar_load_query_row(p, k, planar_stored(p, p->call->q), slice, row,
                                  planar_back_row(p, k->q, s, row));
            planar_load_query_row(p, k, planar_floats(p->grad->dout), slice, row,
                                  planar_back_row(p, k->g, s, row));
        }
}

/* w[slot][VL] from a row of P or dS; lanes without a query get 0. */
SIMD_INLINE void planar_weights(const planar_inverse *v, const float *from,
                                float *w)
{
    for (int j = 0; j < v->slots; j++, w += VL) {
        const int32_t *at = v->at + j * VL;
        if (v->line[j]) {
            v_store(w, v_load(from + at[0]));
            continue;
        }
#if defined SIMD_AVX512
        const __m512i index = _mm512_loadu_si512(at);
        const __mmask16 on =
            _mm512_cmpge_epi32_mask(index, _mm512_setzero_si512());
        _mm512_storeu_ps(w, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), on,
                                                     index, from, 4));
#else
        for (int i = 0; i < VL; i++) w[i] = at[i] < 0 ? 0 : from[at[i]];
#endif
    }
}

/* Key rows of the block that query row y sees, with their weights. */
static inline void planar_gather_row(const planar *p, const planar_bundle *b,
                                     const planar_keys *k, int block, int s,
                                     int y, combine_row *rp, combine_row *rs)
{
    const planar_task *t = k->t;
    const planar_axis *slices = t->axis[0], *rows = t->axis[1];
    const planar_inverse *v = &k->inverse[block];
    const int z = slices->back[t->z] + s;
    const int outer = t->z + slices->pad - slices->start[z];
    const float *from_p = planar_pairs(p, b, b->p, z, y);
    const float *from_s = planar_pairs(p, b, b->ds, z, y);

    rp->from = ROWS;
    rp->to = 0;
    for (int i = 0; i < t->rows; i++) {
        const int key = t->y + i, first = rows->back[key];
        if (y < first || y >= first + rows->backs[key]) continue;
        const size_t place =
            planar_place(t, z, y, outer, key + rows->pad) * p->width;
        const size_t at = ((size_t)i * planar_all_back(p) +
                           ((size_t)s * p->slots_back[1] +
                            (size_t)(y - first)) *
                               p->slots_back[2]) *
                          VL;
        rp->from = planar_least(rp->from, i);
        rp->to = i + 1;
        rp->w[i] = k->wp + at;
        rs->w[i] = k->ws + at;
        planar_weights(v, from_p + place, k->wp + at);
        planar_weights(v, from_s + place, k->ws + at);
    }
    rs->from = rp->from;
    rs->to = rp->to;
    rp->x = planar_back_row(p, k->g, s, y) + t->lanes[block].base;
    rs->x = planar_back_row(p, k->q, s, y) + t->lanes[block].base;
}

static inline void planar_keys_block(const planar *p, const planar_bundle *b,
                                     const planar_keys *k, int block)
{
    const planar_task *t = k->t;
    const planar_axis *slices = t->axis[0], *rows = t->axis[1];
    const planar_lanes *x = &t->lanes[block];
    const int last = t->y + t->rows - 1;
    const int from = rows->back[t->y], to = rows->back[last] + rows->backs[last];
    size_t n = 0;
    for (int s = 0; s < slices->backs[t->z]; s++)
        for (int y = from; y < to; y++) {
            planar_gather_row(p, b, k, block, s, y, &k->list_p[n],
                              &k->list_s[n]);
            n += k->list_p[n].from < k->list_p[n].to;
        }
    for (int which = 0; which < 2; which++) {
        float *out = which ? p->grad->dv : p->grad->dk;
        if (!out) continue;
        combine_straight(which ? k->list_p : k->list_s, n, p->pitch_back,
                         x->index, (size_t)k->inverse[block].slots, p->dpad,
                         t->rows, k->o);
        for (int i = 0; i < t->rows; i++) {
            float *o = k->o + (size_t)i * p->dpad * VL;
            if (!which) planar_scale_row(o, p->dpad, v_set1(p->scale));
            planar_put(p, t, x, t->y + i, o, ATT_F32, out);
        }
    }
}

/* Channels from d to dpad of the rings stay zero. */
static inline void planar_clear_back(const planar *p, float *ring)
{
    const size_t rows = p->slots_back[0] * (size_t)p->ring_back;
    for (size_t r = 0; p->dpad > p->d && r < rows; r++)
        memset(ring + (r * p->dpad + p->d) * p->pitch_back, 0,
               (p->dpad - p->d) * p->pitch_back * sizeof *ring);
}

static inline void planar_keys_task(const planar *p, const planar_bundle *b,
                                    planar_task *t, float *work)
{
    planar_keys k = { .t = t };
    const planar_axis *rows = t->axis[1];
    planar_keys_scratch(p, &k, work);
    planar_clear_back(p, k.q);
    planar_clear_back(p, k.g);
    planar_open_keys(p, &k);
    t->loaded = 0;
    for (t->y = t->y0; t->y < t->y1; t->y += ROWS) {
        t->rows = planar_least(ROWS, t->y1 - t->y);
        const int last = t->y + t->rows - 1;
        const int to = rows->back[last] + rows->backs[last];
        planar_load_seeing(p, &k, planar_most(t->loaded, rows->back[t->y]), to);
        t->loaded = to;
        for (int block = 0; block < t->blocks; block++)
            planar_keys_block(p, b, &k, block);
    }
}

/* ---- waves of bundles -------------------------------------------------------------------------- */

static inline size_t planar_back_floats(const planar *p)
{
    const size_t a = planar_queries_floats(p), b = planar_keys_floats(p);
    return a > b ? a : b;
}

/* Bundles between two barriers: enough tasks for the threads. */
static inline size_t planar_wave(const planar *p, int class)
{
    const planar_cuts c = planar_cut(p, class);
    const size_t each = planar_tasks(&c) / c.bundles;
    const size_t want = p->call->threads == 1
                            ? 1
                            : (4 * (size_t)p->call->threads + each - 1) / each;
    return want < c.bundles ? want : c.bundles;
}

static inline size_t planar_most_wave(const planar *p)
{
    size_t most = 1;
    for (int class = 0; class < CLASSES; class++)
        if (planar_items(p, class)) {
            const size_t n = planar_wave(p, class);
            most = n > most ? n : most;
        }
    return most;
}

static inline size_t planar_bundle_floats(const planar *p)
{
    return 2 * planar_pairs_floats(p) + planar_keep_floats(p);
}

static inline size_t planar_backward_bytes(const planar *p)
{
    return ((size_t)p->call->threads * planar_back_floats(p) +
            planar_most_wave(p) * planar_bundle_floats(p) +
            PLANAR_PARTS * planar_up(p->bias_sums, 16)) *
           sizeof(float);
}

static inline planar_bundle planar_bundle_at(const planar *p, int class,
                                             size_t at, size_t place)
{
    planar_bundle b;
    planar_take(p, class, at * (size_t)planar_fit(p, class), &b.shape);
    b.p = (float *)p->call->work +
          (size_t)p->call->threads * planar_back_floats(p) +
          place * planar_bundle_floats(p);
    b.ds = b.p + planar_pairs_floats(p);
    b.keep = b.ds + planar_pairs_floats(p);
    return b;
}

/* One walk over the bundles [first, first + wave). */
static inline void planar_walk(const planar *p, int class,
                               const planar_cuts *cuts, size_t first,
                               size_t wave,
                               void (*walk)(const planar *,
                                            const planar_bundle *,
                                            planar_task *, float *))
{
    const size_t each = planar_tasks(cuts) / cuts->bundles;
    float *work = (float *)p->call->work +
                  (size_t)omp_get_thread_num() * planar_back_floats(p);
    #pragma omp for schedule(dynamic)
    for (size_t at = 0; at < wave * each; at++) {
        planar_task t;
        const planar_bundle b =
            planar_bundle_at(p, class, first + at / each, at / each);
        planar_task_at(p, class, cuts, first * each + at, &t);
        walk(p, &b, &t, work);
    }
}

/* Entry i of the bias gradient, from the sums that planar_backward returned. */
static inline float planar_bias_sum(const planar *p, const float *sums, size_t i)
{
    float sum = 0;
    for (size_t part = 0; part < PLANAR_PARTS; part++)
        sum += sums[part * planar_up(p->bias_sums, 16) + i];
    return sum;
}

static inline float *planar_backward(const planar *p)
{
    float *sums = (float *)p->call->work +
                  (size_t)p->call->threads * planar_back_floats(p) +
                  planar_most_wave(p) * planar_bundle_floats(p);
    memset(sums, 0,
           PLANAR_PARTS * planar_up(p->bias_sums, 16) * sizeof *sums);
    #pragma omp parallel num_threads(p->call->threads)
    for (int class = 0; class < CLASSES; class++) {
        if (planar_items(p, class) == 0) continue;
        const planar_cuts cuts = planar_cut(p, class);
        const size_t wave = planar_wave(p, class);
        for (size_t first = 0; first < cuts.bundles; first += wave) {
            const size_t n = cuts.bundles - first < wave ? cuts.bundles - first
                                                         : wave;
            planar_walk(p, class, &cuts, first, n, planar_queries_task);
            if (p->bias_part) {
                #pragma omp for
                for (int part = 0; part < PLANAR_PARTS; part++)
                    for (size_t i = 0; i < n; i++) {
                        const planar_bundle b =
                            planar_bundle_at(p, class, first + i, i);
                        p->bias_part(p, &b, part,
                                     sums + (size_t)part *
                                                planar_up(p->bias_sums, 16));
                    }
            }
            if (p->grad->dk || p->grad->dv)
                planar_walk(p, class, &cuts, first, n, planar_keys_task);
        }
    }
    return sums;
}

#endif
