/* att.h - the whole contract between a mechanism, its kernels and callers.
 *
 * A mechanism (att_mechanism) is the mathematics: which problems it is defined
 * for, its parameters, its cost, its reference in double precision, the rows of
 * its effective matrix.  A kernel (att_kernel) is one way to compute a
 * mechanism in float.  Both are entries of const tables; a file under kernels/
 * may hold mechanisms, kernels or both, and nothing else has to be edited:
 *
 *     ATT_MECHANISMS = { { .name = "softmax", ... }, { 0 } };
 *     ATT_KERNELS    = { { .name = "softmax.naive", ... }, { 0 } };
 *
 * A kernel owns no memory, keeps no state, prints nothing, and cannot fail once
 * reject() has returned NULL.  While it runs, floats below 2^-126 count as 0, and
 * products of inputs that the mechanism sums have to be within their range.
 *
 * Layouts are row-major [batch][heads][tokens][channels]; tokens are the raster
 * scan of the grid (last axis fastest).  Exceptions are stated by shape().
 */
#ifndef ATT_H
#define ATT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Raised when a struct of this file changes; plugins carry it. */
enum { ATT_ABI = 3 };

enum {
    ATT_AXES = 4,    /* longest per-axis (or per-branch) list             */
    ATT_PARAMS = 24, /* most parameters of one mechanism                  */
    ATT_EXTRAS = 6,  /* most outputs beside o                             */
    ATT_ALIGN = 64   /* alignment in bytes of every block a kernel is given */
};

enum att_dtype { ATT_F32, ATT_F16, ATT_BF16 };
enum att_pass { ATT_FORWARD, ATT_BACKWARD };

/* ---- problem: everything that changes the mathematics of one call ---------- */

/* A short list of integers, one per grid axis.  Read it with att_at(). */
typedef struct att_list {
    int n;
    int v[ATT_AXES];
} att_list;

/* Entry of axis a; a list that is too short repeats its last entry, an empty
 * one means `absent`. */
static inline int att_at(const att_list *list, int a, int absent)
{
    return list->n <= 0 ? absent : list->v[a < list->n ? a : list->n - 1];
}

/* The axes of a problem:
 *     X(kind, field, short name, other name in case files, default, help)
 * kind: INT int, REAL double, LIST att_list (the default is one entry; 0 is an
 * empty list), or ENUM int: the help starts with the spellings, "a|b|c: ...".
 * Parsing, printing, journal keys, the command line and `uses` masks all expand
 * from this table; a new axis is one new line. */
#define ATT_PROBLEM_FIELDS(X)                                                  \
    X(LIST, grid, "g", "", 64, "tokens: N, HxW or DxHxW")                      \
    X(INT, tokens_k, "m", "", 0, "keys, if other than the queries")            \
    X(INT, head_dim, "d", "dim", 32, "query and key channels per head")        \
    X(INT, value_dim, "dv", "out_dim", 0, "value channels, if other than d")   \
    X(LIST, window, "w", "kernel", 0, "window side, per grid axis")            \
    X(LIST, dilation, "dil", "", 1, "gap between neighbours, per axis")        \
    X(LIST, stride, "st", "", 1, "query group per window, or filter stride")   \
    X(LIST, causal, "c", "", 0, "1: token i sees no later one, per axis")      \
    X(LIST, shift, "sh", "", 0, "cyclic shift of the windows (Swin), per axis")  \
    X(INT, block, "blk", "", 8, "side of a query or key block")                \
    X(INT, halo, "halo", "", 3, "halo around a block (HaloNet)")               \
    X(ENUM, padding, "pad", "", 0,                                             \
      "zero|mask|timm|torchvision: keys beyond the border; the others: Swin's") \
    X(INT, bias, "bias", "rel", 0, "1: with the learned position term")        \
    X(INT, scale_pos, "sp", "", 0, "1: the position term is scaled too")       \
    X(REAL, scale, "s", "", 0, "of the logits; 0: the mechanism's own")        \
    X(ENUM, feature_map, "map", "", 0, "elu1|relu|exp: linear attention")      \
    X(ENUM, kernel_fn, "fn", "", 0, "softmax|relu: random features")           \
    X(INT, features, "f", "", 0, "random features; 0: d ln d")                 \
    X(REAL, power, "p", "focusing_factor", 3, "focusing power or factor")      \
    X(LIST, conv, "k", "kernel", 0, "side of a depthwise convolution")         \
    X(INT, sr_ratio, "sr", "", 1, "spatial reduction of keys and values")      \
    X(ENUM, order, "ord", "", 0, "auto|kv_first|qk_first: of two products")    \
    X(INT, factor, "fac", "factor_dim", 0, "rank of a factorised bias")        \
    X(ENUM, similarity, "sim", "", 1,                                          \
      "dot|scaled_dot|cosine|neg_euclid|neg_sqeuclid|pearson|dtw|softdtw|"     \
      "mlp_sigmoid: of a query and a key")                                     \
    X(ENUM, normalisation, "norm", "", 0,                                      \
      "softmax|sigmoid|l1|max|expmax|minmax|none: of a row of scores")         \
    X(ENUM, mask, "mask", "", 0,                                               \
      "none|band|band2d|global|local_global|prior: visible pairs")             \
    X(INT, radius, "r", "", 0, "of a band or sliding window")                  \
    X(INT, globals, "glob", "", 0, "leading tokens that see and are seen")     \
    X(REAL, tau, "tau", "", 1, "factor on the similarity")                     \
    X(REAL, offset, "off", "sigmoid_bias", 0,                                  \
      "added to scores inside a sigmoid (-ln M)")                              \
    X(REAL, gamma, "gam", "", 1, "smoothing of soft-DTW")                      \
    X(INT, band, "band", "", 0, "Sakoe-Chiba band of DTW; 0: none")            \
    X(ENUM, cost, "cost", "", 0, "square|abs: of two samples in DTW")          \
    X(INT, hidden, "hid", "", 0, "hidden width of an MLP; 0: d")               \
    X(INT, memory, "mem", "", 64, "rows of an external memory")                \
    X(ENUM, subset, "sub", "", 0, "even|odd|stride|random|list: kept tokens")  \
    X(ENUM, merge, "mrg", "", 0, "concat|add|weighted: of branches")           \
    X(ENUM, side, "side", "", 0, "k|q: which side is convolved")               \
    X(ENUM, upsample, "up", "mode", 0, "linear|nearest: back to N rows")       \
    X(ENUM, mode, "mode", "", 0, "train|eval: of a normalisation")             \
    X(ENUM, fold, "fold", "order", 0,                                          \
      "norm_then_linear|linear_then_norm: which neighbour absorbs the norm")   \
    X(INT, iter, "it", "", 0, "PRepBN steps still to go")                      \
    X(INT, total_step, "tot", "", 10, "PRepBN schedule length")                \
    X(INT, warm, "warm", "", 0, "PRepBN warm-up steps still to go")            \
    X(REAL, r0, "r0", "", 1, "PRepBN first weight of LayerNorm")               \
    X(REAL, eps, "eps", "", 1e-5, "of a normalisation")                        \
    X(REAL, ln_eps, "lne", "", 1e-5, "of PRepBN's LayerNorm")                  \
    X(ENUM, gelu, "gelu", "", 0, "erf|tanh: form of the GELU")                 \
    X(INT, heads, "h", "", 1, "attention heads")                               \
    X(INT, batch, "b", "", 1, "independent maps")                              \
    X(ENUM, dtype, "dt", "", 0, "f32|f16|bf16: storage of q, k, v, o")         \
    X(INT, seed, "seed", "", 1, "of random masks, features and parameters")

enum att_field {
#define ATT_FIELD(kind, field, s, o, d, h) ATT_FIELD_##field,
    ATT_PROBLEM_FIELDS(ATT_FIELD)
#undef ATT_FIELD
    ATT_FIELD_COUNT
};

/* Bit of one field in att_mechanism.uses. */
#define ATT_USE(field) ((uint64_t)1 << ATT_FIELD_##field)

typedef struct att_problem {
#define ATT_MEMBER_INT  int
#define ATT_MEMBER_REAL double
#define ATT_MEMBER_LIST att_list
#define ATT_MEMBER_ENUM int
#define ATT_MEMBER(kind, field, s, o, d, h) ATT_MEMBER_##kind field;
    ATT_PROBLEM_FIELDS(ATT_MEMBER)
#undef ATT_MEMBER
#undef ATT_MEMBER_INT
#undef ATT_MEMBER_REAL
#undef ATT_MEMBER_LIST
#undef ATT_MEMBER_ENUM
} att_problem;

/* Values of the ENUM fields, in the order of their spellings. */
enum { ATT_PAD_ZERO, ATT_PAD_MASK, ATT_PAD_TIMM, ATT_PAD_TORCHVISION };
enum { ATT_MAP_ELU1, ATT_MAP_RELU, ATT_MAP_EXP };
enum { ATT_FN_SOFTMAX, ATT_FN_RELU };
enum { ATT_ORDER_AUTO, ATT_ORDER_KV, ATT_ORDER_QK };
enum { ATT_DOT, ATT_SCALED_DOT, ATT_COSINE, ATT_NEG_EUCLID, ATT_NEG_SQEUCLID,
       ATT_PEARSON, ATT_DTW, ATT_SOFTDTW, ATT_MLP_SIGMOID };
enum { ATT_NORM_SOFTMAX, ATT_NORM_SIGMOID, ATT_NORM_L1, ATT_NORM_MAX,
       ATT_NORM_EXPMAX, ATT_NORM_MINMAX, ATT_NORM_NONE };
enum { ATT_MASK_NONE, ATT_MASK_BAND, ATT_MASK_BAND2D, ATT_MASK_GLOBAL,
       ATT_MASK_LOCAL_GLOBAL, ATT_MASK_PRIOR };
enum { ATT_COST_SQUARE, ATT_COST_ABS };
enum { ATT_SUBSET_EVEN, ATT_SUBSET_ODD, ATT_SUBSET_STRIDE, ATT_SUBSET_RANDOM,
       ATT_SUBSET_LIST };
enum { ATT_MERGE_CONCAT, ATT_MERGE_ADD, ATT_MERGE_WEIGHTED };
enum { ATT_SIDE_K, ATT_SIDE_Q };
enum { ATT_UP_LINEAR, ATT_UP_NEAREST };
enum { ATT_MODE_TRAIN, ATT_MODE_EVAL };
enum { ATT_NORM_THEN_LINEAR, ATT_LINEAR_THEN_NORM };

/* Number of grid tokens N; at least 1 once the plan has accepted p. */
static inline size_t att_tokens(const att_problem *p)
{
    size_t n = 1;
    for (int a = 0; a < p->grid.n; a++) n *= (size_t)p->grid.v[a];
    return n;
}

/* Number of keys M. */
static inline size_t att_keys(const att_problem *p)
{
    return p->tokens_k ? (size_t)p->tokens_k : att_tokens(p);
}

/* Value channels per head. */
static inline size_t att_value_dim(const att_problem *p)
{
    return (size_t)(p->value_dim ? p->value_dim : p->head_dim);
}

/* Rows and columns of the map seen as 2-D: a sequence is 1 x N, a volume
 * D x H x W is (D H) x W. */
static inline int att_width(const att_problem *p)
{
    return p->grid.v[p->grid.n - 1];
}

static inline int att_height(const att_problem *p)
{
    return (int)(att_tokens(p) / (size_t)att_width(p));
}

/* ---- named tensors: parameters and extra outputs ---------------------------- */

enum att_init {
    ATT_INIT_ZERO,
    ATT_INIT_ONE,
    ATT_INIT_NORMAL, /* mean 0, standard deviation `std`, seeded            */
    ATT_INIT_FILL    /* by the mechanism's fill()                           */
};

typedef struct att_tensor {
    const char *name;  /* as in case files and model files: "rpb"           */
    int dims;          /* number of entries of dim                          */
    int dim[5];        /* row-major shape                                   */
    enum att_init init;
    double std;
    bool fixed;        /* given, not learned: it has no gradient            */
    bool optional;     /* a case file may lack it: then it is zero          */
    bool logit;        /* added to logits: -inf hides a pair                */
} att_tensor;

static inline size_t att_elements(const att_tensor *t)
{
    size_t n = 1;
    for (int a = 0; a < t->dims; a++) n *= (size_t)t->dim[a];
    return n;
}

/* Shape of one input or output of one batch entry: [heads][tokens][channels].
 * tokens = 0: the mechanism has no such input. */
typedef struct att_shape {
    int heads, tokens, channels;
} att_shape;

enum att_slot { ATT_Q, ATT_K, ATT_V, ATT_O, ATT_SLOTS };

static inline size_t att_shape_elements(const att_shape *s)
{
    return (size_t)s->heads * (size_t)s->tokens * (size_t)s->channels;
}

/* ---- cost -------------------------------------------------------------------- */

/* Operations that the definition needs, and the traffic that must cross the
 * interface, for the whole batch.  Total FLOPs count mul_add as 2 and each of
 * the others as 1; exp also stands for log, tanh, sqrt, pow and cos. */
typedef struct att_cost {
    double mul_add, add, mul, div, exp;
    double read, write; /* bytes                                            */
    double pairs;       /* visible (query, key) pairs of all heads          */
} att_cost;

static inline double att_flops(const att_cost *c)
{
    return 2 * c->mul_add + c->add + c->mul + c->div + c->exp;
}

/* ---- the reference, in double precision -------------------------------------- */

/* One batch entry (p->batch is 1).  Arrays are laid out as in att_call.  dq,
 * dk, dv and dparam[] arrive zeroed and are accumulated into.  Any of dq, dk,
 * dv, dparam[i], extra[i] may be NULL.  A reference may call ref_new(). */
typedef struct att_ref {
    const att_problem *p;
    const double *q, *k, *v;
    const double *param[ATT_PARAMS];
    double *o;
    double *extra[ATT_EXTRAS];
    const double *dout;
    double *dq, *dk, *dv;
    double *dparam[ATT_PARAMS];
    att_cost *tally; /* if not NULL: operations are counted as they are done */
} att_ref;

/* Which part of an effective matrix. */
enum att_part {
    ATT_PART_ATTENTION,   /* the attention weights                           */
    ATT_PART_CONVOLUTION, /* a depthwise convolution branch                  */
    ATT_PART_TOTAL        /* their sum                                       */
};

/* Promises that tests check and analysis relies on. */
enum att_traits {
    ATT_LINEAR_IN_V = 1 << 0,   /* o = gain * (A v) + offset: A exists        */
    ATT_ROWS_SUM_1 = 1 << 1,    /* up to an eps in a denominator              */
    ATT_NONNEGATIVE = 1 << 2,   /* attention part of A                        */
    ATT_PER_CHANNEL = 1 << 3,   /* the attention part differs per channel     */
    ATT_CONVOLUTION = 1 << 4,   /* there is a convolution part, per channel   */
    ATT_GATED = 1 << 5,         /* gain is not 1: see affine()                */
    ATT_ON_K = 1 << 6,          /* A multiplies k, not v                      */
    ATT_CAN_CAUSAL = 1 << 7,
    ATT_IS_1D = 1 << 8,         /* defined on grids of this many axes only;   */
    ATT_IS_2D = 1 << 9,         /*   none of the three: on any grid           */
    ATT_IS_3D = 1 << 10,
    ATT_ONE_WIDTH = 1 << 11,    /* sees heads x head_dim as one width, h = 1  */
    ATT_NOT_ATTENTION = 1 << 12 /* a normalisation or convolution baseline    */
};

typedef struct att_mechanism {
    const char *name;    /* "softmax": the `op` of case files               */
    const char *family;  /* figures share a hue per family                  */
    const char *brief;   /* one line                                        */
    const char *formula; /* lines of text for `explain`                     */
    const char *map;     /* what its map shows, and what is shown if it has
                            no N x N form                                   */
    const char *paper_cost; /* cost as the paper prints it, with its conventions;
                            may be NULL                                     */
    const char *cite;    /* BibTeX key in results/references.bib            */
    unsigned traits;     /* enum att_traits                                 */
    uint64_t uses;       /* fields that change it, beside grid, head_dim,
                            heads, batch, dtype: ATT_USE(window) | ...      */

    /* Names of q, k, v in case files, where they differ; NULL: "q" "k" "v". */
    const char *inputs[3];

    /* NULL if p is defined, otherwise why not and what would be, as a sentence
     * fragment.  The caller has checked that sizes are positive, grid axes fit
     * the traits, and lists are not longer than the grid (conv excepted). */
    const char *(*reject)(const att_problem *p);

    /* NULL: q [h][N][d], k [h][M][d], v [h][M][dv], o [h][N][dv]. */
    void (*shape)(const att_problem *p, enum att_slot slot, att_shape *out);

    /* Writes at most ATT_PARAMS descriptions, returns their number.  A
     * parameter that this problem does not have keeps its place with dims = 1,
     * dim = {0}.  NULL: none. */
    int (*parameters)(const att_problem *p, att_tensor *out);
    void (*fill)(const att_problem *p, int index, float *data);

    /* Outputs beside o (lse, running statistics ...), same rules. */
    int (*extras)(const att_problem *p, att_tensor *out);

    void (*cost)(const att_problem *p, enum att_pass pass, att_cost *out);

    void (*forward)(const att_ref *r);
    void (*backward)(const att_ref *r);

    /* Rows [i0, i1) of the effective matrix of head h as seen by value channel
     * ch (ignored where A is the same for all), one after the other, M (or
     * columns()) entries each.  NULL: no such matrix. */
    void (*rows)(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *a);
    size_t (*columns)(const att_problem *p); /* NULL: M                     */

    /* o[h][i][ch] = gain * (A v)[i][ch] + offset.  NULL: 1 and 0. */
    void (*affine)(const att_ref *r, int h, int ch, size_t i, double *gain,
                   double *offset);
} att_mechanism;

/* ---- the kernel ---------------------------------------------------------------- */

/* Bytes that the caller provides, each block aligned to ATT_ALIGN. */
typedef struct att_sizes {
    size_t state;         /* made by prepare(): index tables, packed weights  */
    size_t save;          /* written by forward() for backward()              */
    size_t work;          /* scratch of forward(), all threads                */
    size_t work_backward; /* scratch of backward(), all threads               */
} att_sizes;

/* One call.  q, k, v, o hold p->dtype elements, everything else is float. */
typedef struct att_call {
    const att_problem *p;
    int threads;
    const void *q, *k, *v;
    void *o;
    const float *param[ATT_PARAMS];
    float *extra[ATT_EXTRAS]; /* NULL: not wanted                           */
    void *state;  /* written by prepare(), read by the others               */
    void *save;   /* NULL when no backward() will follow                    */
    void *work;   /* contents undefined at entry                            */
} att_call;

/* Gradients, always float.  backward() writes (not adds to) every one that is
 * not NULL; parameters' gradients are summed over the batch. */
typedef struct att_grad {
    const float *dout;
    float *dq, *dk, *dv;
    float *dparam[ATT_PARAMS];
} att_grad;

typedef struct att_kernel {
    const char *name;      /* "softmax.flash": unique, stable, in results    */
    const char *mechanism; /* "softmax"                                      */
    const char *brief;     /* one line                                       */
    bool plain;            /* the plain form that fast kernels are shown
                              beside; the default suite takes one per
                              mechanism                                      */
    bool blas;             /* its products are the BLAS's, which takes the code
                              of the processor, whatever the level           */

    /* NULL if supported, else why not.  May be NULL: everything (in f32) is. */
    const char *(*reject)(const att_problem *p, enum att_pass pass);
    void (*sizes)(const att_problem *p, int threads, att_sizes *out);

    void (*prepare)(const att_call *c); /* NULL: no state                    */
    void (*forward)(const att_call *c);
    /* c is the call that forward() got, with o and save as it left them, and
     * work of work_backward bytes.  NULL: no backward. */
    void (*backward)(const att_call *c, const att_grad *g);

    /* Operations really executed, where they differ from the mechanism's. */
    void (*executed)(const att_problem *p, enum att_pass pass, att_cost *out);
} att_kernel;

/* ---- registration ---------------------------------------------------------------- */

/* The build compiles every file of kernels/ with a name of its own in ATT_UNIT
 * (per level where the file has kernels) and lists the tables. */
#define ATT_PASTE_(a, b) a##b
#define ATT_PASTE(a, b)  ATT_PASTE_(a, b)
#ifndef ATT_UNIT /* a plugin, or an editor */
#define ATT_UNIT plugin
#ifndef ATT_CALLER
__attribute__((weak)) extern const int att_plugin_abi;
__attribute__((weak)) const int att_plugin_abi = ATT_ABI;
#endif
#endif
#define ATT_MECHANISM_TABLE ATT_PASTE(att_mechanisms_, ATT_UNIT)
#define ATT_KERNEL_TABLE    ATT_PASTE(att_kernels_, ATT_UNIT)
#ifndef ATT_CALLER
extern const att_mechanism ATT_MECHANISM_TABLE[];
extern const att_kernel ATT_KERNEL_TABLE[];
#endif
#define ATT_MECHANISMS const att_mechanism ATT_MECHANISM_TABLE[]
#define ATT_KERNELS    const att_kernel ATT_KERNEL_TABLE[]

#endif
