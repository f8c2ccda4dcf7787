/* attend.h - what the double-precision references of this folder share:
 * normalised attention between feature vectors.
 *
 *     s_ij = Q_i.K_j,   D_i = sum_j s_ij (+ eps),   o_i = sum_j s_ij v_j / D_i
 *
 * evaluated keys and values first, S = sum_j K_j v_j' and z = sum_j K_j, so
 * that o_i = S' Q_i / D_i; causal sums run along the sequence.  Every operation
 * is counted where it is done.
 */
#ifndef LINEAR_ATTEND_H
#define LINEAR_ATTEND_H

#include "../reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ATTEND static inline __attribute__((unused))

/* What becomes of D_i. */
enum attend_rule {
    ATTEND_PLAIN,  /* D_i                                                    */
    ATTEND_ADD,    /* D_i + eps                                              */
    ATTEND_ADD_Z,  /* eps is added to every component of z                   */
    ATTEND_CLAMP,  /* max(D_i, eps); no gradient through D_i where it clamps */
    ATTEND_DIVIDED /* the features are normalised already: D_i = 1           */
};

/* One head; features are row-major.  q, k, shift and level are released by
 * attend_free(). */
typedef struct attend {
    att_cost *tally;     /* or NULL                                          */
    size_t n, m, f, e;   /* queries, keys, features, value channels          */
    bool causal;         /* needs m = n                                      */
    bool scores_first;   /* o = (Q K') V: never with causal                  */
    enum attend_rule rule;
    double eps;
    const double *v;
    double *q, *k;
    /* Exponential features are held as Q_ic = exp(x_ic + level - shift_i) and
     * K_jc = exp(y_jc - level), which cancels in o: shift [n] scales eps, and
     * causal features have one level per token and channel, [n][f], that never
     * falls along the sequence.  NULL: 0. */
    double *shift, *level;
} attend;

ATTEND void attend_free(attend *a)
{
    free(a->q);
    free(a->k);
    free(a->shift);
    free(a->level);
}

/* The keys-and-values state. */
typedef struct attend_state {
    double *s, *z; /* [f][e], [f] */
} attend_state;

ATTEND attend_state attend_state_new(const attend *a)
{
    return (attend_state){ ref_new(a->f * a->e), ref_new(a->f) };
}

ATTEND void attend_state_free(attend_state *state)
{
    free(state->s);
    free(state->z);
}

/* exp(level of token `from` - level of token `to`), channel c. */
ATTEND double attend_fall(const attend *a, size_t from, size_t to, size_t c)
{
    return a->level ? exp(a->level[from * a->f + c] - a->level[to * a->f + c])
                    : 1;
}

/* Brings a state from the level of token `from` to that of `to`. */
ATTEND void attend_move(const attend *a, attend_state *state, size_t from,
                        size_t to)
{
    if (!a->level) return;
    for (size_t c = 0; c < a->f; c++) {
        const double x = attend_fall(a, from < to ? from : to,
                                     from < to ? to : from, c);
        state->z[c] *= x;
        for (size_t l = 0; l < a->e; l++) state->s[c * a->e + l] *= x;
    }
}

/* S += K_j v_j', z += K_j. */
ATTEND void attend_take(const attend *a, size_t j, attend_state *state)
{
    const double *k = a->k + j * a->f, *v = a->v + j * a->e;
    for (size_t c = 0; c < a->f; c++) {
        for (size_t l = 0; l < a->e; l++)
            state->s[c * a->e + l] += k[c] * v[l];
        if (a->rule != ATTEND_DIVIDED) state->z[c] += k[c];
    }
    REF_COUNT(a, mul_add, a->f * a->e);
    REF_COUNT(a, add, a->rule == ATTEND_DIVIDED ? 0 : a->f);
}

/* 1 / D_i of a sum of scores; 0 where nothing is seen at all.  *open: whether
 * D_i depends on the sum. */
ATTEND double attend_inverse(const attend *a, size_t i, double sum, bool *open)
{
    double eps = a->eps;
    if (a->shift) eps *= exp(-a->shift[i]);
    *open = true;
    switch (a->rule) {
    case ATTEND_PLAIN:
        break;
    case ATTEND_ADD:
        sum += eps;
        break;
    case ATTEND_ADD_Z:
        for (size_t c = 0; c < a->f; c++) sum += eps * a->q[i * a->f + c];
        break;
    case ATTEND_CLAMP:
        *open = sum > eps;
        sum = fmax(sum, eps);
        break;
    case ATTEND_DIVIDED:
        *open = false;
        return 1;
    }
    return sum > 0 ? 1 / sum : 0;
}

/* Additions or comparisons that make D_i of a sum. */
ATTEND double attend_rule_adds(enum attend_rule rule, size_t f)
{
    return rule == ATTEND_ADD || rule == ATTEND_CLAMP ? 1
           : rule == ATTEND_ADD_Z                     ? (double)f
                                                      : 0;
}

/* Counts of one attend_inverse() and of what it multiplies. */
ATTEND void attend_count_inverse(const attend *a)
{
    if (a->rule == ATTEND_DIVIDED) return;
    REF_COUNT(a, add, attend_rule_adds(a->rule, a->f));
    REF_COUNT(a, div, a->e);
}

/* o_i from the state. */
ATTEND double attend_read(const attend *a, size_t i, const attend_state *state,
                          double *o, bool *open)
{
    const double *q = a->q + i * a->f;
    const double h = attend_inverse(a, i, ref_dot(q, state->z, a->f), open);
    for (size_t l = 0; l < a->e; l++) {
        double sum = 0;
        for (size_t c = 0; c < a->f; c++) sum += q[c] * state->s[c * a->e + l];
        o[l] = sum * h;
    }
    REF_COUNT(a, mul_add, a->f * a->e);
    REF_COUNT(a, mul_add, a->rule == ATTEND_DIVIDED ? 0 : a->f);
    attend_count_inverse(a);
    return h;
}

/* s_ij; 0 for a key that query i does not see. */
ATTEND double attend_score(const attend *a, size_t i, size_t j)
{
    double sum = 0;
    if (a->causal && j > i) return 0;
    for (size_t c = 0; c < a->f; c++)
        sum += a->q[i * a->f + c] * a->k[j * a->f + c] *
               attend_fall(a, j, i, c);
    REF_COUNT(a, mul_add, a->f);
    return sum;
}

/* Row i of the effective matrix; returns 1 / D_i. */
ATTEND double attend_row(const attend *a, size_t i, double *row)
{
    double sum = 0;
    bool open;
    for (size_t j = 0; j < a->m; j++) {
        row[j] = attend_score(a, i, j);
        sum += row[j];
        REF_COUNT(a, add, 1);
    }
    const double h = attend_inverse(a, i, sum, &open);
    for (size_t j = 0; j < a->m; j++) row[j] *= h;
    return h;
}

ATTEND void attend_forward_scores(const attend *a, double *o)
{
    double *row = ref_new(a->m);
    for (size_t i = 0; i < a->n; i++) {
        attend_row(a, i, row);
        for (size_t l = 0; l < a->e; l++) o[i * a->e + l] = 0;
        for (size_t j = 0; j < a->m; j++)
            for (size_t l = 0; l < a->e; l++)
                o[i * a->e + l] += row[j] * a->v[j * a->e + l];
        REF_COUNT(a, mul_add, a->m * a->e);
        attend_count_inverse(a);
    }
    free(row);
}

/* o [n][e] is written. */
ATTEND void attend_forward(const attend *a, double *o)
{
    REF_COUNT(a, pairs, a->causal ? a->n * (a->n + 1) / 2 : a->n * a->m);
    if (a->scores_first) {
        attend_forward_scores(a, o);
        return;
    }
    attend_state state = attend_state_new(a);
    bool open;
    for (size_t j = 0; j < a->m && !a->causal; j++) attend_take(a, j, &state);
    for (size_t i = 0; i < a->n; i++) {
        if (a->causal) {
            if (i) attend_move(a, &state, i - 1, i);
            attend_take(a, i, &state);
        }
        attend_read(a, i, &state, o + i * a->e, &open);
    }
    attend_state_free(&state);
}

/* ds_ij = (g_i.v_j - g_i.o_i) / D_i pair by pair. */
ATTEND void attend_backward_scores(const attend *a, const double *g, double *dq,
                                   double *dk, double *dv)
{
    attend quiet = *a;
    quiet.tally = NULL;
    double *row = ref_new(a->m);
    for (size_t i = 0; i < a->n; i++) {
        const double h = attend_row(&quiet, i, row);
        const double *gi = g + i * a->e;
        double mean = 0;
        for (size_t j = 0; j < a->m; j++)
            mean += row[j] * ref_dot(gi, a->v + j * a->e, a->e);
        for (size_t j = 0; j < a->m; j++) {
            const double da = ref_dot(gi, a->v + j * a->e, a->e);
            const double ds = h * (da - mean);
            for (size_t c = 0; c < a->f; c++) {
                dq[i * a->f + c] += ds * a->k[j * a->f + c];
                dk[j * a->f + c] += ds * a->q[i * a->f + c];
            }
            for (size_t l = 0; dv && l < a->e; l++)
                dv[j * a->e + l] += row[j] * gi[l];
        }
        /* s_ij again, A_ij = h s_ij; g.v; the difference; three sums */
        REF_COUNT(a, mul_add, a->m * (3 * a->f + 2 * a->e) + a->e);
        REF_COUNT(a, add, a->m);
        REF_COUNT(a, mul, 2 * a->m);
        REF_COUNT(a, div, 1);
    }
    free(row);
}

/* The gradient of query i: h_i g_i into gh, h_i (g_i.o_i) into *t,
 * dQ_i = S gh - t z. */
ATTEND void attend_backward_query(const attend *a, size_t i,
                                  const attend_state *state, const double *g,
                                  double *gh, double *t, double *dq)
{
    attend quiet = *a;
    quiet.tally = NULL;
    const size_t f = a->f, e = a->e;
    bool open;
    /* o_i and D_i are known from forward */
    const double h = attend_read(&quiet, i, state, gh, &open);
    *t = open ? h * ref_dot(g + i * e, gh, e) : 0;
    for (size_t l = 0; l < e; l++) gh[l] = h * g[i * e + l];
    for (size_t c = 0; c < f; c++) {
        double z = state->z[c];
        if (a->rule == ATTEND_ADD_Z) z += a->eps;
        dq[i * f + c] += ref_dot(state->s + c * e, gh, e) - *t * z;
    }
    REF_COUNT(a, mul_add, f * e);
    if (a->rule == ATTEND_DIVIDED) return;
    REF_COUNT(a, div, 1);
    REF_COUNT(a, mul, e + 1);
    REF_COUNT(a, mul_add, e + f);
    REF_COUNT(a, add, a->rule == ATTEND_ADD_Z ? f : 0);
}

/* dS += Q_i gh', dz -= t Q_i. */
ATTEND void attend_backward_take(const attend *a, size_t i, const double *gh,
                                 double t, attend_state *ds)
{
    for (size_t c = 0; c < a->f; c++) {
        const double q = a->q[i * a->f + c];
        for (size_t l = 0; l < a->e; l++) ds->s[c * a->e + l] += q * gh[l];
        ds->z[c] -= t * q;
    }
    REF_COUNT(a, mul_add, a->f * a->e);
    REF_COUNT(a, mul_add, a->rule == ATTEND_DIVIDED ? 0 : a->f);
}

/* dK_j = dS v_j + dz, dv_j += dS' K_j. */
ATTEND void attend_backward_key(const attend *a, size_t j,
                                const attend_state *ds, double *dk, double *dv)
{
    for (size_t c = 0; c < a->f; c++)
        dk[j * a->f + c] +=
            ref_dot(ds->s + c * a->e, a->v + j * a->e, a->e) + ds->z[c];
    for (size_t c = 0; dv && c < a->f; c++)
        for (size_t l = 0; l < a->e; l++)
            dv[j * a->e + l] += a->k[j * a->f + c] * ds->s[c * a->e + l];
    REF_COUNT(a, mul_add, 2 * a->f * a->e);
    REF_COUNT(a, add, a->rule == ATTEND_DIVIDED ? 0 : a->f);
}

/* Gradients from g [n][e]: adds to dq [n][f], dk [m][f] (of the features) and
 * dv [m][e] (may be NULL).  S, z, D and o of a full form are taken as kept from
 * forward; causal prefix sums are made again. */
ATTEND void attend_backward(const attend *a, const double *g, double *dq,
                            double *dk, double *dv)
{
    REF_COUNT(a, pairs, a->causal ? a->n * (a->n + 1) / 2 : a->n * a->m);
    if (a->scores_first) {
        attend_backward_scores(a, g, dq, dk, dv);
        return;
    }
    attend kept = *a;
    if (!a->causal) kept.tally = NULL;
    attend_state state = attend_state_new(a), ds = attend_state_new(a);
    double *gh = ref_new(a->n * a->e), *t = ref_new(a->n);

    for (size_t j = 0; j < a->m && !a->causal; j++)
        attend_take(&kept, j, &state);
    for (size_t i = 0; i < a->n; i++) {
        if (a->causal) {
            if (i) attend_move(a, &state, i - 1, i);
            attend_take(&kept, i, &state);
        }
        attend_backward_query(a, i, &state, g, gh + i * a->e, &t[i], dq);
        if (!a->causal) attend_backward_take(a, i, gh + i * a->e, t[i], &ds);
    }
    for (size_t j = a->m; j-- > 0;) {
        if (a->causal) {
            if (j + 1 < a->m) attend_move(a, &ds, j + 1, j);
            attend_backward_take(a, j, gh + j * a->e, t[j], &ds);
        }
        attend_backward_key(a, j, &ds, dk, dv);
    }
    attend_state_free(&state);
    attend_state_free(&ds);
    free(gh);
    free(t);
}

/* ---- exponential features ------------------------------------------------ */

/* Exponents a->q and a->k become features, and a->shift and a->level are made:
 * the level of a channel is its largest key, so that D_i is at least 1 before
 * eps and nothing overflows. */
ATTEND void attend_exponentials(attend *a)
{
    const size_t n = a->n, m = a->m, f = a->f, step = a->causal ? f : 0;
    double *level = ref_new(a->causal ? n * f : f);
    a->shift = ref_new(n);
    for (size_t j = 0; j < m; j++)
        for (size_t c = 0; c < f; c++) {
            const double before = j ? level[(a->causal ? j - 1 : 0) * f + c]
                                    : -INFINITY;
            level[j * step + c] = fmax(before, a->k[j * f + c]);
        }
    for (size_t j = 0; j < m; j++)
        for (size_t c = 0; c < f; c++)
            a->k[j * f + c] = exp(a->k[j * f + c] - level[j * step + c]);
    for (size_t i = 0; i < n; i++) {
        double *q = a->q + i * f;
        a->shift[i] = -INFINITY;
        for (size_t c = 0; c < f; c++) {
            q[c] += level[i * step + c];
            a->shift[i] = fmax(a->shift[i], q[c]);
        }
        for (size_t c = 0; c < f; c++) q[c] = exp(q[c] - a->shift[i]);
    }
    if (a->causal) a->level = level;
    else free(level);
}

/* ---- all heads ----------------------------------------------------------- */

/* Features of head h, for a pass: what a mechanism has to say. */
typedef attend (*attend_head)(const att_ref *r, int h, enum att_pass pass);

ATTEND void attend_all_forward(const att_ref *r, attend_head head)
{
    for (int h = 0; h < r->p->heads; h++) {
        attend a = head(r, h, ATT_FORWARD);
        attend_forward(&a, r->o + (size_t)h * a.n * a.e);
        attend_free(&a);
    }
}

/* dphi [tokens][f] is turned into dx [tokens][d] of head h, which is added to
 * (NULL: not wanted); phi are the features, x the tokens. */
typedef void (*attend_unmap)(const att_ref *r, const attend *a, int h,
                             enum att_slot side, size_t tokens, const double *x,
                             const double *phi, const double *dphi, double *dx);

ATTEND void attend_all_backward(const att_ref *r, attend_head head,
                                attend_unmap unmap)
{
    const size_t d = (size_t)r->p->head_dim;
    for (int h = 0; h < r->p->heads; h++) {
        attend a = head(r, h, ATT_BACKWARD);
        const size_t at = (size_t)h, nd = a.n * d, md = a.m * d;
        double *dq = ref_new(a.n * a.f), *dk = ref_new(a.m * a.f);
        attend_backward(&a, r->dout + at * a.n * a.e, dq, dk,
                        r->dv ? r->dv + at * a.m * a.e : NULL);
        unmap(r, &a, h, ATT_Q, a.n, r->q + at * nd, a.q, dq,
              r->dq ? r->dq + at * nd : NULL);
        unmap(r, &a, h, ATT_K, a.m, r->k + at * md, a.k, dk,
              r->dk ? r->dk + at * md : NULL);
        free(dq);
        free(dk);
        attend_free(&a);
    }
}

ATTEND void attend_all_rows(const att_ref *r, attend_head head, int h,
                            size_t i0, size_t i1, double *out)
{
    att_ref quiet = *r;
    quiet.tally = NULL;
    attend a = head(&quiet, h, ATT_FORWARD);
    for (size_t i = i0; i < i1; i++) attend_row(&a, i, out + (i - i0) * a.m);
    attend_free(&a);
}

/* Counts for n query tokens and m key tokens of one head. */
ATTEND void attend_count_tokens(const att_ref *r, const att_cost *query,
                                const att_cost *key)
{
    const double n = (double)att_tokens(r->p), m = (double)att_keys(r->p);
    REF_COUNT(r, mul_add, n * query->mul_add + m * key->mul_add);
    REF_COUNT(r, add, n * query->add + m * key->add);
    REF_COUNT(r, mul, n * query->mul + m * key->mul);
    REF_COUNT(r, div, n * query->div + m * key->div);
    REF_COUNT(r, exp, n * query->exp + m * key->exp);
}

/* ---- cost ---------------------------------------------------------------- */

/* Adds the operations of the attention between features, for all heads and the
 * whole batch, and sets pairs and the traffic of q, k, v, o and gradients. */
ATTEND void attend_cost(const att_problem *p, size_t features,
                        enum attend_rule rule, bool causal, bool scores_first,
                        enum att_pass pass, att_cost *out)
{
    const double maps = (double)p->batch * p->heads, f = (double)features;
    const double n = (double)att_tokens(p), m = (double)att_keys(p);
    const double d = p->head_dim, e = (double)att_value_dim(p);
    const bool divided = rule == ATTEND_DIVIDED;
    const double plus = attend_rule_adds(rule, features);
    const double q = 4 * maps * n * d, k = 4 * maps * m * d;
    const double v = 4 * maps * m * e, o = 4 * maps * n * e;

    out->pairs = maps * (causal ? n * (n + 1) / 2 : n * m);
    out->read = pass == ATT_FORWARD ? q + k + v : q + k + v + 2 * o;
    out->write = pass == ATT_FORWARD ? o : q + k + v;
    if (pass == ATT_FORWARD) {
        out->mul_add += maps * (scores_first ? n * m * (f + e)
                                             : (n + m) * f * e +
                                                   (divided ? 0 : n * f));
        out->add += maps * ((scores_first ? n * m : divided ? 0 : m * f) +
                            n * plus);
        out->div += divided ? 0 : maps * n * e;
    } else if (scores_first) {
        out->mul_add += maps * n * (m * (3 * f + 2 * e) + e);
        out->add += maps * n * m;
        out->mul += 2 * maps * n * m;
        out->div += maps * n;
    } else {
        out->mul_add += maps * (2 * (n + m) * f * e + (causal ? n * f * e : 0));
        if (divided) return;
        out->mul_add += maps * n * (e + 2 * f);
        out->add += maps * (m * f + (causal ? n * f : 0) +
                            (rule == ATTEND_ADD_Z ? n * f : 0));
        out->mul += maps * n * (e + 1);
        out->div += maps * n;
    }
}

/* Counts on top of that for each query token and key token. */
ATTEND void attend_cost_tokens(const att_problem *p, const att_cost *query,
                               const att_cost *key, att_cost *out)
{
    const double maps = (double)p->batch * p->heads;
    const double n = maps * (double)att_tokens(p);
    const double m = maps * (double)att_keys(p);
    out->mul_add += n * query->mul_add + m * key->mul_add;
    out->add += n * query->add + m * key->add;
    out->mul += n * query->mul + m * key->mul;
    out->div += n * query->div + m * key->div;
    out->exp += n * query->exp + m * key->exp;
}

/* ---- shared checks ------------------------------------------------------- */

ATTEND bool attend_is_causal(const att_problem *p)
{
    return att_at(&p->causal, 0, 0) != 0;
}

/* The reason why a causal problem is not defined, or NULL. */
ATTEND const char *attend_reject_causal(const att_problem *p)
{
    for (int a = 1; a < p->grid.n; a++)
        if (att_at(&p->causal, a, 0) != att_at(&p->causal, 0, 0))
            return "causal follows the raster scan: give it for every axis or "
                   "for none";
    if (attend_is_causal(p) && att_keys(p) != att_tokens(p))
        return "causal needs as many keys as queries: leave tokens_k out";
    return NULL;
}

#endif
