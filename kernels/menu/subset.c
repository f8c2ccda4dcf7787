/* subset_kv - softmax attention to some of the tokens.
 *
 *     o_i = sum_s softmax_s(q_i . k_{j_s} / sqrt d) v_{j_s}
 *
 * The fixed parameter `index` [S] lists the tokens j_s, S = tokens_k, or by
 * default: even 0, 2, 4 ...; odd 1, 3 ...; stride 0, st, 2 st ... all that there
 * are; random: all in random order, of which tokens_k keeps the first; list:
 * given.  A token listed twice counts twice; an entry that is no token number,
 * such as -1, is left out, and if all are, the row is zero.
 */
#include "../reference.h"

#include <math.h>
#include <stdlib.h>

enum { INDEX };

/* First token and step of a regular subset. */
static size_t first(const att_problem *p)
{
    return p->subset == ATT_SUBSET_ODD;
}

static size_t step(const att_problem *p)
{
    if (p->subset == ATT_SUBSET_STRIDE) return (size_t)att_at(&p->stride, 0, 1);
    return p->subset == ATT_SUBSET_EVEN || p->subset == ATT_SUBSET_ODD ? 2 : 1;
}

/* Tokens in the subset; tokens_k may ask for fewer. */
static size_t available(const att_problem *p)
{
    const size_t n = att_tokens(p);
    return first(p) >= n ? 0 : (n - first(p) + step(p) - 1) / step(p);
}

static size_t kept(const att_problem *p)
{
    return p->tokens_k ? (size_t)p->tokens_k : available(p);
}

static const char *reject(const att_problem *p)
{
    if (p->subset == ATT_SUBSET_STRIDE && (p->stride.n > 1 || step(p) < 1))
        return "stride must be one number, at least 1";
    if (att_tokens(p) > 1 << 24)
        return "needs at most 2^24 tokens: their numbers are floats";
    if (kept(p) == 0)
        return "the subset is empty: a single token has no odd one";
    if (p->subset != ATT_SUBSET_LIST && kept(p) > available(p))
        return "tokens_k is larger than the subset";
    return NULL;
}

static void shape(const att_problem *p, enum att_slot slot, att_shape *out)
{
    if (slot == ATT_K || slot == ATT_V) out->tokens = (int)att_tokens(p);
}

static int parameters(const att_problem *p, att_tensor *out)
{
    out[INDEX] = (att_tensor){ .name = "index",
                               .dims = 1,
                               .dim = { (int)kept(p) },
                               .init = ATT_INIT_FILL,
                               .fixed = true };
    return 1;
}

/* splitmix64. */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Random: a partial Fisher-Yates shuffle of 0 .. N-1 from the seed. */
static void fill(const att_problem *p, int index, float *data)
{
    uint64_t state = (uint64_t)p->seed;
    const size_t n = att_tokens(p), s = kept(p);
    (void)index;
    if (p->subset != ATT_SUBSET_RANDOM) {
        for (size_t i = 0; i < s; i++)
            data[i] = (float)((first(p) + i * step(p)) % n);
        return;
    }
    double *order = ref_new(n);
    for (size_t i = 0; i < n; i++) order[i] = (double)i;
    for (size_t i = 0; i < s; i++) {
        const size_t j = i + next(&state) % (n - i);
        const double x = order[j];
        order[j] = order[i];
        order[i] = x;
        data[i] = (float)x;
    }
    free(order);
}

static size_t columns(const att_problem *p)
{
    return kept(p);
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    att_problem inner = *p;
    const double maps = (double)p->batch * p->heads;
    const double n = (double)att_tokens(p), s = (double)kept(p);
    inner.tokens_k = (int)kept(p);
    inner.value_dim = 0;
    ref_attend_cost(&inner, maps * n * s, false, pass, out);
    out->read += 4 * s;
    if (pass == ATT_BACKWARD) /* all rows of dk and dv are written */
        out->write += 8 * maps * (n - s) * p->head_dim;
}

/* ---- reference ---------------------------------------------------------------------- */

/* Token of entry s, or -1. */
static ptrdiff_t token(const att_ref *r, size_t s)
{
    const double x = r->param[INDEX][s];
    return x >= 0 && x < (double)att_tokens(r->p) ? (ptrdiff_t)x : -1;
}

/* Weights of query i: a [S]. */
static void weights(const att_ref *r, size_t h, size_t i, double *a)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const size_t count = kept(r->p);
    const double *q = r->q + (h * n + i) * d;
    double max = -INFINITY, sum = 0;
    for (size_t s = 0; s < count; s++) {
        const ptrdiff_t j = token(r, s);
        a[s] = -INFINITY;
        if (j >= 0)
            a[s] = ref_dot(q, r->k + (h * n + (size_t)j) * d, d) /
                   sqrt((double)d);
        max = fmax(max, a[s]);
    }
    for (size_t s = 0; s < count; s++)
        sum += a[s] = isinf(a[s]) ? 0 : exp(a[s] - max);
    for (size_t s = 0; sum > 0 && s < count; s++) a[s] /= sum;
    REF_COUNT(r, mul_add, count * d);
    REF_COUNT(r, mul, count);
    REF_COUNT(r, add, 3 * count);
    REF_COUNT(r, exp, count);
    REF_COUNT(r, pairs, count);
}

static void forward(const att_ref *r)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    double *a = ref_new(kept(r->p));
    for (size_t h = 0; h < (size_t)r->p->heads; h++)
        for (size_t i = 0; i < n; i++) {
            double *o = r->o + (h * n + i) * d;
            weights(r, h, i, a);
            for (size_t c = 0; c < d; c++) o[c] = 0;
            for (size_t s = 0; s < kept(r->p); s++) {
                const ptrdiff_t j = token(r, s);
                for (size_t c = 0; j >= 0 && c < d; c++)
                    o[c] += a[s] * r->v[(h * n + (size_t)j) * d + c];
            }
            REF_COUNT(r, mul_add, kept(r->p) * d);
            REF_COUNT(r, div, d);
        }
    free(a);
}

static void backward_query(const att_ref *r, size_t h, size_t i, double *a)
{
    const size_t n = att_tokens(r->p), d = (size_t)r->p->head_dim;
    const size_t at = (h * n + i) * d;
    const double *g = r->dout + at;
    double mean = 0;
    weights(r, h, i, a);
    for (size_t s = 0; s < kept(r->p); s++)
        if (token(r, s) >= 0)
            mean += a[s] *
                    ref_dot(g, r->v + (h * n + (size_t)token(r, s)) * d, d);
    for (size_t s = 0; s < kept(r->p); s++) {
        if (token(r, s) < 0) continue;
        const size_t j = (h * n + (size_t)token(r, s)) * d;
        const double ds =
            a[s] * (ref_dot(g, r->v + j, d) - mean) / sqrt((double)d);
        for (size_t c = 0; c < d; c++) {
            if (r->dq) r->dq[at + c] += ds * r->k[j + c];
            if (r->dk) r->dk[j + c] += ds * r->q[at + c];
            if (r->dv) r->dv[j + c] += a[s] * g[c];
        }
    }
}

static void backward(const att_ref *r)
{
    double *a = ref_new(kept(r->p));
    for (size_t h = 0; h < (size_t)r->p->heads; h++)
        for (size_t i = 0; i < att_tokens(r->p); i++)
            backward_query(r, h, i, a);
    free(a);
}

static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *a)
{
    (void)ch, (void)part;
    for (size_t i = i0; i < i1; i++)
        weights(r, (size_t)h, i, a + (i - i0) * kept(r->p));
}

ATT_MECHANISMS = {
    {
        .name = "subset_kv",
        .family = "menu",
        .brief = "softmax attention to a subset of the tokens",
        .formula = "o_i = sum_s softmax_s(q_i . k_js / sqrt d) v_js, "
                   "j = index\n"
                   "subset: even, odd, stride, random, list; tokens_k entries",
        .map = "no N x N form: N x S, the weights of the listed tokens, in "
               "that order; rows sum to 1",
        .cite = "vaswani2017",
        .traits = ATT_ROWS_SUM_1 | ATT_NONNEGATIVE,
        .uses = ATT_USE(tokens_k) | ATT_USE(subset) | ATT_USE(stride) |
                ATT_USE(seed),
        .reject = reject,
        .shape = shape,
        .parameters = parameters,
        .fill = fill,
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
        .columns = columns,
    },
    { 0 },
};
