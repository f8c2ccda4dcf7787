/* favor_pm - positive random features in pairs, exp(u) and exp(-u).
 *
 *     u = d^(-1/4) Omega x,  c = |x|^2 / (2 sqrt d) + ln(2 m) / 2
 *     phi = [exp(u - c), exp(-u - c)]           [choromanski2021, lemma 1]
 *     o_i = phi(q_i)' S / (phi(q_i).z + 1e-6)
 *
 * Omega has m rows, phi has 2 m features; `features` counts the latter.
 */
#include "random_reference.h"

static const char *reject(const att_problem *p)
{
    if (p->features % 2)
        return "features come in pairs: an even number of them";
    return random_features_reject(p);
}

static int parameters(const att_problem *p, att_tensor *out)
{
    out[RANDOM_PROJ] = (att_tensor){
        .name = "proj",
        .dims = 2,
        .dim = { (int)random_features_pm(p), p->head_dim },
        .init = ATT_INIT_FILL,
        .fixed = true,
    };
    return 1;
}

static void fill(const att_problem *p, int index, float *data)
{
    (void)index;
    random_projection(p, random_features_pm(p), data);
}

/* Operations of the map of one token, and of its gradient. */
static att_cost map_cost(const att_problem *p, enum att_pass pass)
{
    const double d = p->head_dim, m = (double)random_features_pm(p);
    att_cost c = { .mul_add = m * d + d, /* u, |x|^2                        */
                   .add = 1 + 2 * m,
                   .mul = 1 + d,
                   .exp = 2 * m };
    if (pass == ATT_FORWARD) return c;
    c.mul_add += m * d + d;
    c.add += 3 * m; /* exp(u) minus exp(-u), the sum of all                 */
    c.mul += 2 * m + d + 1;
    return c;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const att_cost map = map_cost(p, pass);
    *out = (att_cost){ 0 };
    attend_cost(p, 2 * random_features_pm(p), ATTEND_ADD, false, false, pass,
                out);
    attend_cost_tokens(p, &map, &map, out);
    out->read += 4.0 * (double)random_features_pm(p) * p->head_dim;
}

/* Exponents of all tokens. */
static double *exponents(const att_ref *r, const double *x, size_t tokens)
{
    const size_t d = (size_t)r->p->head_dim, m = random_features_pm(r->p);
    double *u = ref_new(tokens * 2 * m);
    for (size_t i = 0; i < tokens; i++) {
        double *y = u + i * 2 * m, half;
        random_project(r->param[RANDOM_PROJ], m, d, x + i * d, y, &half);
        half += log(2 * (double)m) / 2;
        for (size_t c = 0; c < m; c++) y[m + c] = -y[c] - half;
        for (size_t c = 0; c < m; c++) y[c] -= half;
    }
    return u;
}

static attend head(const att_ref *r, int h, enum att_pass pass)
{
    const att_problem *p = r->p;
    const size_t n = att_tokens(p), m = att_keys(p), d = (size_t)p->head_dim;
    const att_cost map = map_cost(p, pass);
    attend a = {
        .tally = r->tally, .n = n, .m = m, .f = 2 * random_features_pm(p),
        .e = att_value_dim(p), .rule = ATTEND_ADD, .eps = FAVOR_PM_EPS,
        .q = exponents(r, r->q + (size_t)h * n * d, n),
        .k = exponents(r, r->k + (size_t)h * m * d, m),
        .v = r->v + (size_t)h * m * att_value_dim(p),
    };
    attend_count_tokens(r, &map, &map);
    attend_exponentials(&a);
    return a;
}

static void unmap(const att_ref *r, const attend *a, int h, enum att_slot side,
                  size_t tokens, const double *x, const double *phi,
                  const double *dphi, double *dx)
{
    const size_t d = (size_t)r->p->head_dim, m = a->f / 2;
    double *du = ref_new(m);
    (void)h, (void)side;
    for (size_t i = 0; dx && i < tokens; i++) {
        double sum = 0;
        for (size_t c = 0; c < m; c++) {
            const size_t at = i * a->f + c;
            const double plus = dphi[at] * phi[at];
            const double minus = dphi[at + m] * phi[at + m];
            du[c] = plus - minus;
            sum += plus + minus;
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
        .name = "favor_pm",
        .family = "linear",
        .brief = "positive random features exp(u), exp(-u)",
        .formula = "u = d^(-1/4) Omega x,  c = |x|^2 / (2 sqrt d) + ln(2m)/2\n"
                   "phi = [exp(u - c), exp(-u - c)],  "
                   "o_i = phi(q_i)' S / (phi(q_i).z + 1e-6)",
        .map = "A_ij = phi(q_i).phi(k_j) / D_i, an estimate of softmax(q.k / "
               "sqrt d); rows sum to 1 - 1e-6/D_i; rank at most the number of "
               "features",
        .paper_cost = "O(L r d) time for r features; ours: the projection "
                      "2 m d, the sums 2 (2m) dv FLOPs for each query and key",
        .cite = "choromanski2021",
        .traits = ATT_LINEAR_IN_V | ATT_NONNEGATIVE,
        .uses = ATT_USE(tokens_k) | ATT_USE(value_dim) | ATT_USE(features) |
                ATT_USE(seed),
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
