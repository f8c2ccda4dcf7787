/* performer - positive random features, FAVOR+.
 *
 *     u = d^(-1/4) Omega x,  s = |x|^2 / (2 sqrt d)   [choromanski2021]
 *     softmax: phi = m^(-1/2) (exp(u - s - max) + 1e-4)
 *     relu:    phi = max(u, 0) + 1e-3
 *     o_i = phi(q_i)' S / (phi(q_i).z)
 *
 * max is over the features of a query, and over all keys and features of a head
 * (also the later ones, in the causal form); both are constants to the
 * gradient. Only the causal form has an eps: 1e-6 on every component of z.  An
 * estimate of softmax(q.k / sqrt d) whose error falls like m^(-1/2).
 */
#include "random_reference.h"

static const char *reject(const att_problem *p)
{
    const char *why = attend_reject_causal(p);
    return why ? why : random_features_reject(p);
}

static int parameters(const att_problem *p, att_tensor *out)
{
    out[RANDOM_PROJ] = (att_tensor){
        .name = "proj",
        .dims = 2,
        .dim = { (int)random_features(p), p->head_dim },
        .init = ATT_INIT_FILL,
        .fixed = true,
    };
    return 1;
}

static void fill(const att_problem *p, int index, float *data)
{
    (void)index;
    random_projection(p, random_features(p), data);
}

/* Operations of the map of one token, and of its gradient. */
static att_cost map_cost(const att_problem *p, enum att_pass pass)
{
    const double d = p->head_dim, m = (double)random_features(p);
    const bool softmax = p->kernel_fn == ATT_FN_SOFTMAX;
    att_cost c = { .mul_add = m * d, .mul = d };
    if (softmax) { /* |x|^2 / 2, s + max; max, minus, plus, times m^(-1/2) */
        c.mul_add += d;
        c.add += 1 + 3 * m;
        c.mul += 1 + m;
        c.exp += m;
    } else c.add += 2 * m;
    if (pass == ATT_FORWARD) return c;
    c.mul_add += m * d;
    c.mul += d;
    if (softmax) { /* times exp, the sum of du, minus its part of x */
        c.mul += m + 1;
        c.add += m;
        c.mul_add += d;
    } else c.add += m;
    return c;
}

static enum attend_rule rule(const att_problem *p)
{
    return attend_is_causal(p) ? ATTEND_ADD_Z : ATTEND_PLAIN;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const att_cost map = map_cost(p, pass);
    *out = (att_cost){ 0 };
    attend_cost(p, random_features(p), rule(p), attend_is_causal(p), false,
                pass, out);
    attend_cost_tokens(p, &map, &map, out);
    out->read += 4.0 * (double)random_features(p) * p->head_dim;
}

static double largest(const double *u, size_t n)
{
    double max = -INFINITY;
    for (size_t i = 0; i < n; i++) max = fmax(max, u[i]);
    return max;
}

/* u [tokens][m] becomes features; half [tokens] is s.  keys: one maximum. */
static void features(const att_problem *p, size_t tokens, bool keys, double *u,
                     const double *half)
{
    const size_t m = random_features(p);
    const double all = largest(u, tokens * m);
    for (size_t i = 0; i < tokens; i++) {
        double *x = u + i * m;
        const double max = keys ? all : largest(x, m);
        for (size_t r = 0; r < m; r++)
            x[r] = p->kernel_fn == ATT_FN_RELU
                       ? fmax(x[r], 0) + PERFORMER_FLOOR_RELU
                       : (exp(x[r] - half[i] - max) + PERFORMER_FLOOR_SOFTMAX) /
                             sqrt((double)m);
    }
}

static double *map_tokens(const att_ref *r, const double *x, size_t tokens,
                          bool keys)
{
    const size_t d = (size_t)r->p->head_dim, m = random_features(r->p);
    double *u = ref_new(tokens * m), *half = ref_new(tokens);
    for (size_t i = 0; i < tokens; i++)
        random_project(r->param[RANDOM_PROJ], m, d, x + i * d, u + i * m,
                       &half[i]);
    features(r->p, tokens, keys, u, half);
    free(half);
    return u;
}

static attend head(const att_ref *r, int h, enum att_pass pass)
{
    const att_problem *p = r->p;
    const size_t n = att_tokens(p), m = att_keys(p), d = (size_t)p->head_dim;
    const att_cost map = map_cost(p, pass);
    attend_count_tokens(r, &map, &map);
    return (attend){
        .tally = r->tally, .n = n, .m = m, .f = random_features(p),
        .e = att_value_dim(p), .causal = attend_is_causal(p), .rule = rule(p),
        .eps = PERFORMER_EPS_CAUSAL,
        .q = map_tokens(r, r->q + (size_t)h * n * d, n, false),
        .k = map_tokens(r, r->k + (size_t)h * m * d, m, true),
        .v = r->v + (size_t)h * m * att_value_dim(p),
    };
}

static void unmap(const att_ref *r, const attend *a, int h, enum att_slot side,
                  size_t tokens, const double *x, const double *phi,
                  const double *dphi, double *dx)
{
    const size_t d = (size_t)r->p->head_dim, m = a->f;
    const bool softmax = r->p->kernel_fn == ATT_FN_SOFTMAX;
    double *du = ref_new(m);
    (void)h, (void)side;
    for (size_t i = 0; dx && i < tokens; i++) {
        double sum = 0;
        for (size_t c = 0; c < m; c++) {
            const double y = phi[i * m + c];
            /* the exponential is phi without the 1e-4 */
            du[c] = dphi[i * m + c] *
                    (softmax ? y - PERFORMER_FLOOR_SOFTMAX / sqrt((double)m)
                             : y > PERFORMER_FLOOR_RELU);
            if (softmax) sum += du[c];
        }
        random_unproject(r->param[RANDOM_PROJ], m, d, x + i * d, du, sum,
                         dx + i * d);
    }
    free(du);
}

static void forward(const att_ref *r)
{
    attend_all_forward(r, head);
}

static void backward(const att_ref *r)
{
    attend_all_backward(r, head, unmap);
}

static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *out)
{
    (void)ch, (void)part;
    attend_all_rows(r, head, h, i0, i1, out);
}

ATT_MECHANISMS = {
    {
        .name = "performer",
        .family = "linear",
        .brief = "positive orthogonal random features (FAVOR+)",
        .formula = "u = d^(-1/4) Omega x,  s = |x|^2 / (2 sqrt d)\n"
                   "softmax: phi = m^(-1/2) (exp(u - s - max) + 1e-4);  "
                   "relu: phi = max(u, 0) + 1e-3\n"
                   "o_i = phi(q_i)' S / (phi(q_i).z),  causal: z + 1e-6",
        .map = "A_ij = phi(q_i).phi(k_j) / D_i, an estimate of softmax(q.k / "
               "sqrt d); rows sum to 1 (causal: 1 minus an eps); rank at most "
               "the number of features",
        .paper_cost = "O(L r d) time and O(L r + L d + r d) space for r "
                      "features; ours: the projection 2 m d, the sums 2 m dv "
                      "FLOPs for each query and each key",
        .cite = "choromanski2021",
        .traits = ATT_LINEAR_IN_V | ATT_NONNEGATIVE | ATT_CAN_CAUSAL,
        .uses = ATT_USE(tokens_k) | ATT_USE(value_dim) | ATT_USE(causal) |
                ATT_USE(kernel_fn) | ATT_USE(features) | ATT_USE(seed),
        .reject = reject,
        .parameters = parameters,
        .fill = fill,
        .cost = cost,
        .forward = forward,
        .backward = backward,
        .rows = rows,
    },
    { 0 },
};
