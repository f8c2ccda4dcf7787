/* problem.c - the fields of a problem: text, defaults, checks, names. */
#include "plan.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Larger tensors are refused before anything multiplies them further. */
#define MAX_ELEMENTS ((size_t)1 << (sizeof(size_t) > 4 ? 36 : 28))

const att_field_info att_fields[ATT_FIELD_COUNT] = {
#define INFO(kind, field, s, o, d, h) { ATT_##kind, #field, s, o, h },
    ATT_PROBLEM_FIELDS(INFO)
#undef INFO
};

const att_problem att_problem_default = {
#define DEFAULT_INT(d)  d
#define DEFAULT_REAL(d) d
#define DEFAULT_ENUM(d) d
#define DEFAULT_LIST(d) { (d) != 0, { d } } /* 0: empty */
#define DEFAULT(kind, field, s, o, d, h) .field = DEFAULT_##kind(d),
    ATT_PROBLEM_FIELDS(DEFAULT)
#undef DEFAULT
};

static const size_t offset[ATT_FIELD_COUNT] = {
#define OFFSET(kind, field, s, o, d, h) offsetof(att_problem, field),
    ATT_PROBLEM_FIELDS(OFFSET)
#undef OFFSET
};

static void *member(att_problem *p, enum att_field f)
{
    return (char *)p + offset[f];
}

static const void *cmember(const att_problem *p, enum att_field f)
{
    return (const char *)p + offset[f];
}

/* ---- text ---------------------------------------------------------------------- */

/* Reads a decimal int at *text, or true or false as JSON and Python write them,
 * and moves past it. */
static bool read_int(const char **text, int *out)
{
    static const char *const words[] = { "false", "true" };
    for (int i = 0; i < 2; i++) {
        const size_t n = strlen(words[i]);
        if (strncasecmp(*text, words[i], n)) continue;
        *text += n;
        *out = i;
        return true;
    }
    char *end;
    errno = 0;
    const long v = strtol(*text, &end, 10);
    if (end == *text || errno || v > INT_MAX || v < INT_MIN) return false;
    *text = end;
    *out = (int)v;
    return true;
}

static bool read_list(const char *text, att_list *out)
{
    att_list list = { 0 };
    if (!strcmp(text, "none")) {
        *out = list;
        return true;
    }
    for (;;) {
        if (list.n == ATT_AXES || !read_int(&text, &list.v[list.n]))
            return false;
        list.n++;
        if (!*text) break;
        if (*text != 'x' && *text != ',') return false;
        text++;
    }
    *out = list;
    return true;
}

/* Index of a spelling in a help text "a|b|c: ...", or -1. */
static int spelling_index(const char *help, const char *text)
{
    const size_t length = strlen(text);
    int index = 0;
    for (const char *s = help;; index++) {
        const size_t n = strcspn(s, "|:");
        if (n == length && !memcmp(s, text, n)) return index;
        if (s[n] != '|') return -1;
        s += n + 1;
    }
}

/* What papers, frameworks and files write for a spelling of ours. */
static const struct {
    enum att_field field;
    const char *written, *ours;
} aliases[] = {
    { ATT_FIELD_cost, "squared", "square" },
    { ATT_FIELD_cost, "sq", "square" },
    { ATT_FIELD_cost, "l2", "square" },
    { ATT_FIELD_cost, "sqeuclidean", "square" },
    { ATT_FIELD_cost, "(a_b)^2", "square" },
    { ATT_FIELD_cost, "(a_b)**2", "square" },
    { ATT_FIELD_cost, "absolute", "abs" },
    { ATT_FIELD_cost, "l1", "abs" },
    { ATT_FIELD_cost, "abs(a_b)", "abs" },
    { ATT_FIELD_cost, "|a_b|", "abs" },
    { ATT_FIELD_feature_map, "elu", "elu1" },
    { ATT_FIELD_feature_map, "elu+1", "elu1" },
    { ATT_FIELD_feature_map, "elu_1", "elu1" },
    { ATT_FIELD_feature_map, "1+elu", "elu1" },
    { ATT_FIELD_similarity, "dot_product", "dot" },
    { ATT_FIELD_similarity, "scaled_dot_product", "scaled_dot" },
    { ATT_FIELD_similarity, "cos", "cosine" },
    { ATT_FIELD_similarity, "neg_euclidean", "neg_euclid" },
    { ATT_FIELD_similarity, "neg_sqeuclidean", "neg_sqeuclid" },
    { ATT_FIELD_similarity, "soft_dtw", "softdtw" },
    { ATT_FIELD_similarity, "mlp", "mlp_sigmoid" },
    { ATT_FIELD_normalisation, "exp_max", "expmax" },
    { ATT_FIELD_normalisation, "min_max", "minmax" },
    { ATT_FIELD_normalisation, "linf", "max" },
    { ATT_FIELD_padding, "zeros", "zero" },
    { ATT_FIELD_order, "kv", "kv_first" },
    { ATT_FIELD_order, "qk", "qk_first" },
    { ATT_FIELD_mask, "local+global", "local_global" },
    { ATT_FIELD_mask, "2d_band", "band2d" },
    { ATT_FIELD_merge, "sum", "add" },
    { ATT_FIELD_merge, "cat", "concat" },
    { ATT_FIELD_upsample, "bilinear", "linear" },
    { ATT_FIELD_mode, "training", "train" },
    { ATT_FIELD_mode, "evaluation", "eval" },
    { ATT_FIELD_gelu, "none", "erf" },
    { ATT_FIELD_dtype, "float32", "f32" },
    { ATT_FIELD_dtype, "fp32", "f32" },
    { ATT_FIELD_dtype, "float16", "f16" },
    { ATT_FIELD_dtype, "fp16", "f16" },
    { ATT_FIELD_dtype, "half", "f16" },
    { ATT_FIELD_dtype, "bfloat16", "bf16" },
};

/* Index of what is written in lower or upper case, with dashes or underscores,
 * as we or others spell it; -1. */
static int written_index(enum att_field f, const char *text)
{
    char plain[ATT_TEXT];
    size_t n = 0;
    for (; text[n] && n + 1 < sizeof plain; n++)
        plain[n] = text[n] == '-' ? '_' : (char)tolower((unsigned char)text[n]);
    plain[n] = 0;
    if (text[n]) return -1;
    const int index = spelling_index(att_fields[f].help, plain);
    for (size_t i = 0; index < 0 && i < sizeof aliases / sizeof *aliases; i++)
        if (aliases[i].field == f && !strcmp(plain, aliases[i].written))
            return spelling_index(att_fields[f].help, aliases[i].ours);
    return index;
}

static void spelling(const char *help, int index, char *out)
{
    while (index-- > 0) help += strcspn(help, "|:") + 1;
    snprintf(out, ATT_TEXT, "%.*s", (int)strcspn(help, "|:"), help);
}

bool att_set(att_problem *p, enum att_field f, const char *text)
{
    switch (att_fields[f].kind) {
    case ATT_INT: {
        int v;
        if (!read_int(&text, &v) || *text) return false;
        *(int *)member(p, f) = v;
        return true;
    }
    case ATT_REAL: {
        char *end;
        const double v = strtod(text, &end);
        if (end == text || *end || !isfinite(v)) return false;
        *(double *)member(p, f) = v;
        return true;
    }
    case ATT_LIST:
        return read_list(text, member(p, f));
    case ATT_ENUM: {
        const int v = written_index(f, text);
        if (v < 0) return false;
        *(int *)member(p, f) = v;
        return true;
    }
    }
    return false;
}

void att_get(const att_problem *p, enum att_field f, char *out)
{
    const void *m = cmember(p, f);
    switch (att_fields[f].kind) {
    case ATT_INT:
        snprintf(out, ATT_TEXT, "%d", *(const int *)m);
        break;
    case ATT_REAL: /* as short as reads back the same */
        for (int digits = 6; digits <= 17; digits++) {
            snprintf(out, ATT_TEXT, "%.*g", digits, *(const double *)m);
            if (strtod(out, NULL) == *(const double *)m) break;
        }
        break;
    case ATT_LIST: {
        const att_list *list = m;
        size_t at = 0;
        if (list->n == 0) snprintf(out, ATT_TEXT, "none");
        for (int a = 0; a < list->n; a++)
            at += (size_t)snprintf(out + at, ATT_TEXT - at, a ? "x%d" : "%d",
                                   list->v[a]);
        break;
    }
    case ATT_ENUM:
        spelling(att_fields[f].help, *(const int *)m, out);
        break;
    }
}

static bool same_list(const att_list *a, const att_list *b)
{
    return a->n == b->n && !memcmp(a->v, b->v, (size_t)a->n * sizeof *a->v);
}

bool att_is_default(const att_problem *p, enum att_field f)
{
    const void *a = cmember(p, f), *b = cmember(&att_problem_default, f);
    switch (att_fields[f].kind) {
    case ATT_REAL: return *(const double *)a == *(const double *)b;
    case ATT_LIST: return same_list(a, b);
    default: return *(const int *)a == *(const int *)b;
    }
}

int att_field_find(const char *name)
{
    for (int f = 0; f < ATT_FIELD_COUNT; f++)
        if (!strcmp(name, att_fields[f].name)) return f;
    for (int f = 0; f < ATT_FIELD_COUNT; f++)
        if (!strcmp(name, att_fields[f].short_name)) return f;
    return -1;
}

/* ---- what a mechanism sees of a problem ------------------------------------------ */

bool att_uses(const att_mechanism *m, enum att_field f)
{
    const uint64_t always = ATT_USE(grid) | ATT_USE(head_dim) |
                            ATT_USE(heads) | ATT_USE(batch) | ATT_USE(dtype);
    return ((m->uses | always) >> f) & 1;
}

/* {7, 7} and {7} mean the same, and so do {0} and {}: the shortest is kept. */
static void shorten(att_list *list)
{
    while (list->n > 1 && list->v[list->n - 1] == list->v[list->n - 2])
        list->n--;
    if (list->n == 1 && list->v[0] == 0) list->n = 0;
    for (int a = list->n; a < ATT_AXES; a++) list->v[a] = 0;
}

void att_canonical(const att_mechanism *m, att_problem *p)
{
    att_problem out;
    memset(&out, 0, sizeof out);
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        const att_problem *from = att_uses(m, f) ? p : &att_problem_default;
        const size_t size = att_fields[f].kind == ATT_LIST ? sizeof(att_list)
                            : att_fields[f].kind == ATT_REAL ? sizeof(double)
                                                             : sizeof(int);
        memcpy(member(&out, f), cmember(from, f), size);
    }
    shorten(&out.window);
    shorten(&out.dilation);
    shorten(&out.causal);
    shorten(&out.shift);
    if (!att_uses(m, ATT_FIELD_conv)) shorten(&out.stride); /* else branches */
    if (out.value_dim == out.head_dim) out.value_dim = 0;
    if (out.tokens_k > 0 && out.grid.n > 0 &&
        (size_t)out.tokens_k == att_tokens(&out))
        out.tokens_k = 0;
    *p = out;
}

void att_case_name(const att_entry *e, const att_problem *problem, int threads,
                   enum att_pass pass, char *out)
{
    att_problem p = *problem;
    char text[ATT_TEXT];
    size_t at = (size_t)snprintf(out, ATT_NAME, "%s/", e->kernel->name);

    att_canonical(e->mechanism, &p);
    for (int f = 0; f < ATT_FIELD_COUNT && at < ATT_NAME; f++) {
        const bool always = f == ATT_FIELD_grid || f == ATT_FIELD_head_dim ||
                            f == ATT_FIELD_heads || f == ATT_FIELD_batch;
        if (!att_uses(e->mechanism, f) || (!always && att_is_default(&p, f)))
            continue;
        att_get(&p, f, text);
        at += (size_t)snprintf(out + at, ATT_NAME - at, "%s=%s,",
                               f == ATT_FIELD_grid && p.grid.n == 1
                                   ? "n"
                                   : att_fields[f].short_name,
                               text);
    }
    if (at < ATT_NAME)
        snprintf(out + at, ATT_NAME - at, "t=%d,%s,%s", threads,
                 att_level_name(e->level),
                 pass == ATT_FORWARD ? "forward" : "backward");
}

/* ---- checks ----------------------------------------------------------------------- */

static const char *reject_sizes(const att_problem *p)
{
    if (p->grid.n < 1 || p->grid.n > 3) return "grid needs 1 to 3 axes";
    size_t n = 1;
    for (int a = 0; a < p->grid.n; a++) {
        if (p->grid.v[a] < 1) return "grid axes must be at least 1";
        if (__builtin_mul_overflow(n, (size_t)p->grid.v[a], &n) ||
            n > INT_MAX / 2)
            return "grid has too many tokens";
    }
    if (p->head_dim < 1) return "head_dim must be at least 1";
    if (p->heads < 1) return "heads must be at least 1";
    if (p->batch < 1) return "batch must be at least 1";

    const size_t tokens = att_keys(p) > n ? att_keys(p) : n;
    const size_t width = (size_t)p->head_dim > att_value_dim(p)
                             ? (size_t)p->head_dim
                             : att_value_dim(p);
    size_t all;
    if (__builtin_mul_overflow(tokens, width, &all) ||
        __builtin_mul_overflow(all, (size_t)p->heads, &all) ||
        __builtin_mul_overflow(all, (size_t)p->batch, &all) ||
        all > MAX_ELEMENTS)
        return "tensors would exceed 2^36 elements, or memory";
    return NULL;
}

/* No field of the problem has a meaning below zero, except real factors. */
static const char *reject_negative(const att_problem *p)
{
    static _Thread_local char why[ATT_TEXT];
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        bool negative = false;
        if (att_fields[f].kind == ATT_INT)
            negative = *(const int *)cmember(p, f) < 0;
        if (att_fields[f].kind == ATT_LIST) {
            const att_list *list = cmember(p, f);
            for (int a = 0; a < list->n; a++) negative |= list->v[a] < 0;
        }
        if (!negative) continue;
        snprintf(why, sizeof why, "%s must not be negative",
                 att_fields[f].name);
        return why;
    }
    return NULL;
}

static const char *reject_axes(const att_mechanism *m, const att_problem *p)
{
    const unsigned any = ATT_IS_1D | ATT_IS_2D | ATT_IS_3D;
    const unsigned this = ATT_IS_1D << (p->grid.n - 1);
    if ((m->traits & any) && !(m->traits & this))
        return m->traits & ATT_IS_1D   ? "needs a 1-D grid (N)"
               : m->traits & ATT_IS_2D ? "needs a 2-D grid (HxW)"
                                       : "needs a 3-D grid (DxHxW)";
    if (p->window.n > p->grid.n && att_uses(m, ATT_FIELD_window))
        return "window has more axes than the grid";
    if (p->dilation.n > p->grid.n && att_uses(m, ATT_FIELD_dilation))
        return "dilation has more axes than the grid";
    if (p->causal.n > p->grid.n && att_uses(m, ATT_FIELD_causal))
        return "causal has more axes than the grid";
    for (int a = 0; a < p->causal.n; a++)
        if (p->causal.v[a] && !(m->traits & ATT_CAN_CAUSAL))
            return "has no causal form";
    if (p->bias > 1 || p->scale_pos > 1) return "bias and scale_pos are 0 or 1";
    if ((m->traits & ATT_ONE_WIDTH) && p->heads != 1)
        return "sees all heads as one width: use heads=1 and a larger head_dim";
    if (p->tokens_k && !att_uses(m, ATT_FIELD_tokens_k))
        return "needs as many keys as queries";
    if (p->value_dim && p->value_dim != p->head_dim &&
        !att_uses(m, ATT_FIELD_value_dim))
        return "needs value_dim = head_dim";
    return NULL;
}

const char *att_reject(const att_mechanism *m, const att_problem *p)
{
    const char *why = reject_negative(p);
    if (!why) why = reject_sizes(p);
    if (!why) why = reject_axes(m, p);
    if (!why && m->reject) why = m->reject(p);
    return why;
}

/* ---- shapes and parameters ------------------------------------------------------------ */

void att_shape_of(const att_mechanism *m, const att_problem *p,
                  enum att_slot slot, att_shape *out)
{
    const bool keys = slot == ATT_K || slot == ATT_V;
    const bool values = slot == ATT_V || slot == ATT_O;
    *out = (att_shape){
        .heads = p->heads,
        .tokens = (int)(keys ? att_keys(p) : att_tokens(p)),
        .channels = values ? (int)att_value_dim(p) : p->head_dim,
    };
    if (m->shape) m->shape(p, slot, out);
}

const char *att_input_name(const att_mechanism *m, const att_problem *p,
                           enum att_slot slot)
{
    static const char *const usual[ATT_SLOTS] = { "q", "k", "v", "out" };
    att_shape shape;
    att_shape_of(m, p, slot, &shape);
    if (shape.tokens == 0) return NULL;
    return slot != ATT_O && m->inputs[slot] ? m->inputs[slot] : usual[slot];
}

int att_parameters(const att_mechanism *m, const att_problem *p,
                   att_tensor out[ATT_PARAMS])
{
    return m->parameters ? m->parameters(p, out) : 0;
}

int att_extras(const att_mechanism *m, const att_problem *p,
               att_tensor out[ATT_EXTRAS])
{
    return m->extras ? m->extras(p, out) : 0;
}

static uint64_t parameter_seed(const att_problem *p, int index)
{
    return (uint64_t)p->seed * 0x9e3779b97f4a7c15u + (uint64_t)index;
}

void att_parameters_keep(const att_mechanism *m, const att_problem *p)
{
    att_tensor t[ATT_PARAMS];
    const int n = att_parameters(m, p, t);
    for (int i = 0; i < n; i++)
        if (t[i].init == ATT_INIT_NORMAL)
            att_normals_keep(parameter_seed(p, i), att_elements(&t[i]));
}

void att_parameter_fill(const att_mechanism *m, const att_problem *p, int index,
                        const att_tensor *t, float *data)
{
    const size_t n = att_elements(t);
    uint64_t seed = parameter_seed(p, index);
    const double *z = att_normals_kept(seed, n);
    if (n == 0) return;
    switch (t->init) {
    case ATT_INIT_ZERO:
        memset(data, 0, n * sizeof *data);
        break;
    case ATT_INIT_ONE:
        for (size_t i = 0; i < n; i++) data[i] = 1;
        break;
    case ATT_INIT_NORMAL:
        for (size_t i = 0; i < n; i++)
            data[i] = (float)(t->std * (z ? z[i] : att_normal(&seed)));
        break;
    case ATT_INIT_FILL:
        m->fill(p, index, data);
        break;
    }
}

size_t att_columns(const att_mechanism *m, const att_problem *p)
{
    return m->columns ? m->columns(p) : att_keys(p);
}
