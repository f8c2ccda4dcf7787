/* sparse - softmax attention over fixed patterns of pairs.
 *
 *     o_i = sum over visible j of softmax_j(scale q_i.k_j) v_j
 *
 * sparse_sliding   |i - j| <= r t and t divides i - j, r the radius, t the
 *                  dilation; the first `globals` tokens see all and are seen by
 *                  all                                         [beltagy2020]
 * sparse_strided   |i - j| < l, or l divides i - j                [child2019]
 * sparse_fixed     same block of l tokens, or j among the last c of any block
 *                                                                  [child2019]
 * sparse_bigbird   blocks: a band of w, the first g seen by and seeing all,
 *                  and one random block for each block of queries
 *                                                                [zaheer2020]
 * masked           any 0/1 mask
 *
 * Windows are clipped at the ends, not moved as in neighborhood attention.
 * causal = 1 drops j > i (the autoregressive form in which child2019 states its
 * two patterns).  With mask = prior the pattern is a parameter, mask [N][N], so
 * that a file can give any other; it starts as the pattern of the problem.
 * A query that sees nothing has a zero row.  Costs are those of the pattern of
 * the problem.
 */
#include "../reference.h"

#include <math.h>

#include "blocks.h"

enum { MASK };

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

static int tokens(const att_problem *p)
{
    return (int)att_tokens(p);
}

static bool causal(const att_problem *p)
{
    return att_at(&p->causal, 0, 0) != 0;
}

/* ---- patterns: whether query i sees key j, and how many keys it sees ------------ */

static int radius_of(const att_problem *p)
{
    return p->radius ? p->radius : (att_at(&p->window, 0, 7) - 1) / 2;
}

static bool sliding_sees(const att_problem *p, int i, int j)
{
    const int t = att_at(&p->dilation, 0, 1), away = i < j ? j - i : i - j;
    if (i < p->globals || j < p->globals) return true;
    return away % t == 0 && away / t <= radius_of(p);
}

static double sliding_count(const att_problem *p, int i)
{
    const int n = tokens(p), t = att_at(&p->dilation, 0, 1);
    if (i < p->globals) return n;
    double count = smaller(i / t, radius_of(p)) +
                   smaller((n - 1 - i) / t, radius_of(p)) + 1;
    for (int j = 0; j < smaller(p->globals, n); j++) {
        const int away = i - j;
        count += away % t != 0 || away / t > radius_of(p);
    }
    return count;
}

/* About sqrt(n), with which the paper's patterns have n sqrt(n) pairs. */
static int period_of(const att_problem *p)
{
    return smaller(att_at(&p->window, 0, (int)ceil(sqrt(tokens(p)))),
                   tokens(p));
}

static bool strided_sees(const att_problem *p, int i, int j)
{
    const int l = period_of(p), away = i < j ? j - i : i - j;
    if (causal(p) && j > i) return false;
    return away < l || away % l == 0;
}

/* Keys on one side of a query that has `room` tokens there. */
static double strided_side(int room, int l)
{
    return smaller(room, l - 1) + room / l;
}

static double strided_count(const att_problem *p, int i)
{
    const int l = period_of(p);
    const double before = strided_side(i, l) + 1;
    return causal(p) ? before : before + strided_side(tokens(p) - 1 - i, l);
}

/* Summary tokens at the end of each block. */
static int summary_of(const att_problem *p)
{
    return p->globals ? p->globals : 1;
}

static bool fixed_sees(const att_problem *p, int i, int j)
{
    const int l = period_of(p);
    if (causal(p) && j > i) return false;
    return j / l == i / l || j % l >= l - summary_of(p);
}

static double fixed_count(const att_problem *p, int i)
{
    const int l = period_of(p), n = tokens(p), c = smaller(summary_of(p), l);
    const int block = i / l, blocks = (n + l - 1) / l;
    if (causal(p)) return i % l + 1 + (double)block * c;
    /* the last block may lack summary tokens */
    const int last = n - (blocks - 1) * l;
    const int cut = last > l - c ? last - (l - c) : 0;
    const double all = (double)(blocks - 1) * c + cut;
    const bool in_last = block == blocks - 1;
    return (in_last ? last : l) + all - (in_last ? cut : c);
}

static int band_of(const att_problem *p)
{
    return att_at(&p->window, 0, 3);
}

static int global_blocks(const att_problem *p)
{
    return p->globals ? p->globals : 1;
}

/* Blocks of queries and of keys; chosen: the random block of `from`. */
static bool bigbird_block(const att_problem *p, int from, int to, int chosen)
{
    const int away = from < to ? to - from : from - to;
    return away <= band_of(p) / 2 || from < global_blocks(p) ||
           to < global_blocks(p) || to == chosen;
}

static int bigbird_random(const att_problem *p, int from)
{
    const int b = blocks_side(p);
    return blocks_random(p, from, (tokens(p) + b - 1) / b);
}

static bool bigbird_sees(const att_problem *p, int i, int j)
{
    const int from = i / blocks_side(p);
    return (!causal(p) || j <= i) &&
           bigbird_block(p, from, j / blocks_side(p), bigbird_random(p, from));
}

static double bigbird_count(const att_problem *p, int i)
{
    const int b = blocks_side(p), n = tokens(p), seen = causal(p) ? i + 1 : n;
    const int from = i / b, chosen = bigbird_random(p, from);
    const int g = global_blocks(p), reach = band_of(p) / 2;
    const int first = from - reach > g ? from - reach : g;
    if (from < g) return seen;
    double count = (double)g * b;
    for (int to = first; to <= from + reach && to * b < seen; to++)
        count += smaller((to + 1) * b, seen) - to * b;
    if (chosen >= g && (chosen < first || chosen > from + reach) &&
        chosen * b < seen)
        count += smaller((chosen + 1) * b, seen) - chosen * b;
    return count;
}

static bool masked_sees(const att_problem *p, int i, int j)
{
    return blocks_visible(p, i / blocks_side(p), j / blocks_side(p));
}

static double masked_count(const att_problem *p, int i)
{
    const int b = blocks_side(p), m = (int)att_keys(p);
    double count = 0;
    for (int to = 0; to * b < m; to++)
        if (blocks_visible(p, i / b, to))
            count += smaller((to + 1) * b, m) - to * b;
    return count;
}

/* ---- what they share ---------------------------------------------------------------- */

static const char *reject(const att_problem *p)
{
    if (p->mask != ATT_MASK_NONE && p->mask != ATT_MASK_PRIOR)
        return "mask is none (the pattern of the problem) or prior (a "
               "parameter)";
    if (att_at(&p->causal, 0, 0) > 1) return "causal is 0 or 1";
    if (p->window.n && p->window.v[0] < 1) return "window must be at least 1";
    if (p->mask == ATT_MASK_PRIOR && att_tokens(p) > 46340)
        return "a mask of more than 2^31 pairs: use mask=none";
    return NULL;
}

static const char *reject_sliding(const att_problem *p)
{
    const int window = att_at(&p->window, 0, 7), t = att_at(&p->dilation, 0, 1);
    if (t < 1) return "dilation must be at least 1";
    if (p->window.n && p->radius && window / 2 != p->radius)
        return "window and radius disagree: give one of them";
    /* the files' `kernel` is a radius, which their mask makes irrelevant */
    if (!p->radius && window % 2 == 0 && p->mask != ATT_MASK_PRIOR)
        return "window must be odd: it is centred at the query (or give "
               "radius)";
    return reject(p);
}

static const char *reject_fixed(const att_problem *p)
{
    const char *why = reject(p);
    if (!why && p->window.n && summary_of(p) > p->window.v[0])
        return "globals (summary tokens of a block) is larger than the block: "
               "use globals <= window";
    return why;
}

static const char *reject_bigbird(const att_problem *p)
{
    if (p->block < 1) return "block must be at least 1";
    if (band_of(p) % 2 == 0 && p->mask != ATT_MASK_PRIOR)
        return "window must be odd: a band of blocks around the query's own";
    return reject(p);
}

static const char *reject_masked(const att_problem *p)
{
    if (p->block < 1) return "block must be at least 1";
    if (att_tokens(p) * att_keys(p) > (size_t)1 << 31)
        return "the mask has more than 2^31 pairs";
    return NULL;
}

static int parameters_masked(const att_problem *p, att_tensor *out)
{
    out[MASK] = (att_tensor){ .name = "mask",
                              .dims = 2,
                              .dim = { tokens(p), (int)att_keys(p) },
                              .init = ATT_INIT_FILL,
                              .fixed = true };
    return 1;
}

static int parameters(const att_problem *p, att_tensor *out)
{
    parameters_masked(p, out);
    if (p->mask != ATT_MASK_PRIOR)
        out[MASK] = (att_tensor){ .name = "mask", .dims = 1 };
    return 1;
}

static size_t pairs_where(const att_ref *r, size_t i, ref_pair *out,
                          bool (*sees)(const att_problem *, int, int))
{
    const size_t m = att_keys(r->p);
    const double *mask = r->param[MASK];
    size_t n = 0;
    for (size_t j = 0; j < m; j++)
        if (mask ? mask[i * m + j] != 0 : sees(r->p, (int)i, (int)j))
            out[n++] = (ref_pair){ .key = (ptrdiff_t)j };
    return n;
}

static void fill_where(const att_problem *p, float *data,
                       bool (*sees)(const att_problem *, int, int))
{
    const size_t n = att_tokens(p), m = att_keys(p);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++)
            data[i * m + j] = sees(p, (int)i, (int)j);
}

/* Queries of a block see the same blocks of keys; if causal, each sees one key
 * more than the one before it. */
static double pairs_of_blocks(const att_problem *p,
                              double (*count)(const att_problem *, int))
{
    const int b = blocks_side(p), n = tokens(p);
    double pairs = 0;
    for (int i = 0; i < n; i += b) {
        const double rows = smaller(b, n - i);
        pairs += rows * count(p, i) +
                 (causal(p) ? rows * (rows - 1) / 2 : 0);
    }
    return pairs;
}

static void cost_where(const att_problem *p, enum att_pass pass, att_cost *out,
                       double (*count)(const att_problem *, int))
{
    double pairs = 0;
    if (count == bigbird_count || count == masked_count)
        pairs = pairs_of_blocks(p, count);
    else
        for (int i = 0; i < tokens(p); i++) pairs += count(p, i);
    ref_attend_cost(p, (double)p->batch * p->heads * pairs, false, pass, out);
    att_tensor mask[ATT_PARAMS];
    parameters(p, mask);
    out->read += 4.0 * (double)att_elements(&mask[MASK]);
}

static ref_visible visible(const att_ref *r,
                           size_t (*pairs)(const att_ref *, int, size_t,
                                           ref_pair *))
{
    return (ref_visible){
        .scale = r->p->scale != 0 ? r->p->scale : 1 / sqrt(r->p->head_dim),
        .most = att_keys(r->p),
        .pairs = pairs,
    };
}

/* The functions of one pattern. */
#define PATTERN(name)                                                          \
    static size_t name##_pairs(const att_ref *r, int h, size_t i,              \
                               ref_pair *out)                                  \
    {                                                                          \
        (void)h;                                                               \
        return pairs_where(r, i, out, name##_sees);                            \
    }                                                                          \
    static void name##_fill(const att_problem *p, int index, float *data)      \
    {                                                                          \
        (void)index;                                                           \
        fill_where(p, data, name##_sees);                                      \
    }                                                                          \
    static void name##_cost(const att_problem *p, enum att_pass pass,          \
                            att_cost *out)                                     \
    {                                                                          \
        cost_where(p, pass, out, name##_count);                                \
    }                                                                          \
    static void name##_forward(const att_ref *r)                               \
    {                                                                          \
        const ref_visible v = visible(r, name##_pairs);                        \
        ref_attend(r, &v);                                                     \
    }                                                                          \
    static void name##_backward(const att_ref *r)                              \
    {                                                                          \
        const ref_visible v = visible(r, name##_pairs);                        \
        ref_attend_backward(r, &v);                                            \
    }                                                                          \
    static void name##_rows(const att_ref *r, int h, int ch,                   \
                            enum att_part part, size_t i0, size_t i1,          \
                            double *a)                                         \
    {                                                                          \
        (void)ch, (void)part;                                                  \
        const ref_visible v = visible(r, name##_pairs);                        \
        ref_attend_rows(r, &v, h, i0, i1, a);                                  \
    }

PATTERN(sliding)
PATTERN(strided)
PATTERN(fixed)
PATTERN(bigbird)
PATTERN(masked)

#define SHARED(function)                                                       \
    .family = "sparse",                                                        \
    .map = "the softmax weights; zero at hidden pairs, a query that sees "     \
           "nothing has a zero row",                                           \
    .cost = function##_cost, .fill = function##_fill,                          \
    .forward = function##_forward, .backward = function##_backward,            \
    .rows = function##_rows

ATT_MECHANISMS = {
    {
        .name = "sparse_sliding",
        .brief = "sliding window with dilation and global tokens (Longformer)",
        .formula = "S = scale q.k,  visible: |i - j| <= r t and t | i - j, or "
                   "i or j among the first `globals` tokens\n"
                   "window 2 r + 1 (7 unless given, or give radius r), "
                   "dilation t;  scale = 1/sqrt(d)\n"
                   "clipped at the ends; global tokens share the projections",
        .paper_cost = "N w pairs for a window of w tokens, 'linear' (Longformer "
                      "paper); ours: exact pairs, N (2 r + 1) - r (r + 1) "
                      "without globals and dilation",
        .cite = "beltagy2020",
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE |
                  ATT_IS_1D,
        .uses = ATT_USE(window) | ATT_USE(radius) | ATT_USE(dilation) |
                ATT_USE(globals) | ATT_USE(mask) | ATT_USE(scale),
        .reject = reject_sliding,
        .parameters = parameters,
        SHARED(sliding),
    },
    {
        .name = "sparse_strided",
        .brief = "strided pattern of Sparse Transformers",
        .formula = "S = scale q.k,  visible: |i - j| < l or l | i - j,  "
                   "l = window (ceil(sqrt(N)) unless given)\n"
                   "causal = 1: and j <= i, the paper's form (its two subsets "
                   "merged into one head);  scale = 1/sqrt(d)",
        .paper_cost = "O(N sqrt(N)) pairs for l near sqrt(N) (Sparse "
                      "Transformer paper); ours: exact pairs, causal "
                      "min(i + 1, l) + floor(i / l) for query i",
        .cite = "child2019",
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE |
                  ATT_CAN_CAUSAL | ATT_IS_1D,
        .uses = ATT_USE(window) | ATT_USE(causal) | ATT_USE(mask) |
                ATT_USE(scale),
        .reject = reject,
        .parameters = parameters,
        SHARED(strided),
    },
    {
        .name = "sparse_fixed",
        .brief = "fixed pattern of Sparse Transformers",
        .formula = "S = scale q.k,  visible: same block of l tokens, or j "
                   "among the last c of any block\n"
                   "l = window (ceil(sqrt(N)) unless given), c = globals (1 "
                   "unless given)\n"
                   "causal = 1: and j <= i, the paper's form;  "
                   "scale = 1/sqrt(d)",
        .paper_cost = "O(N sqrt(N)) pairs for l near sqrt(N) (Sparse "
                      "Transformer paper); ours: exact pairs, causal "
                      "i mod l + 1 + c floor(i / l) for query i",
        .cite = "child2019",
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE |
                  ATT_CAN_CAUSAL | ATT_IS_1D,
        .uses = ATT_USE(window) | ATT_USE(globals) | ATT_USE(causal) |
                ATT_USE(mask) | ATT_USE(scale),
        .reject = reject_fixed,
        .parameters = parameters,
        SHARED(fixed),
    },
    {
        .name = "sparse_bigbird",
        .brief = "band, global and random blocks (BigBird)",
        .formula = "S = scale q.k,  visible: blocks of `block` tokens (8 "
                   "unless given) within a band of `window` blocks (3 unless\n"
                   "given, clipped at the ends), the first `globals` blocks (1 "
                   "unless given) as rows and columns, and one random\n"
                   "block for each block of queries, drawn from the seed;  "
                   "scale = 1/sqrt(d)",
        .paper_cost = "O(N (g + w + r) b) pairs for g global, w window and r "
                      "random blocks of b tokens (BigBird paper, whose band "
                      "wraps around); ours: exact pairs",
        .cite = "zaheer2020",
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE |
                  ATT_CAN_CAUSAL | ATT_IS_1D,
        .uses = ATT_USE(window) | ATT_USE(block) | ATT_USE(globals) |
                ATT_USE(causal) | ATT_USE(mask) | ATT_USE(scale) |
                ATT_USE(seed),
        .reject = reject_bigbird,
        .parameters = parameters,
        SHARED(bigbird),
    },
    {
        .name = "masked",
        .brief = "softmax attention under any 0/1 mask",
        .formula = "S = scale q.k,  visible where mask[i][j] is not 0;  "
                   "scale = 1/sqrt(d)\n"
                   "the mask starts as random blocks of `block` tokens, one in "
                   "four visible, and all on the diagonal",
        .cite = "vaswani2017",
        .traits = ATT_LINEAR_IN_V | ATT_NONNEGATIVE,
        .uses = ATT_USE(block) | ATT_USE(tokens_k) | ATT_USE(scale) |
                ATT_USE(seed),
        .reject = reject_masked,
        .parameters = parameters_masked,
        SHARED(masked),
    },
    { 0 },
};
