/* network.c - building a network: shapes, tensors, starts, costs. */
#include "network.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *grown(void *list, int count, size_t size)
{
    /* doubled at each power of two */
    if (count & (count - 1)) return list;
    void *p = realloc(list, (size_t)(count ? 2 * count : 1) * size);
    if (!p) abort();
    return p;
}

__attribute__((format(printf, 2, 3)))
static int fail(network *n, const char *format, ...)
{
    if (n->failed) return -1;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(n->failure.text, sizeof n->failure.text, format, arguments);
    va_end(arguments);
    n->failed = true;
    return -1;
}

/* A new operation that so far looks like its input; NULL once the network has
 * failed. */
static net_op *add(network *n, enum net_kind kind, enum net_share share,
                   int from)
{
    if (n->failed) return NULL;
    if (from >= n->count || (from < 0 && kind != NET_INPUT)) {
        fail(n, "operation %d reads operation %d, which is not there", n->count,
             from);
        return NULL;
    }
    n->ops = grown(n->ops, n->count, sizeof *n->ops);
    net_op *op = &n->ops[n->count++];
    if (kind == NET_INPUT) *op = (net_op){ 0 };
    else *op = n->ops[from];
    op->kind = kind;
    op->share = share;
    op->level = n->level;
    op->input = from;
    op->other = op->weight = op->bias = -1;
    op->mechanism = NULL;
    op->kernel_name = NULL;
    op->parameters = 0;
    op->normalises = false;
    return op;
}

static int last(const network *n)
{
    return n->count - 1;
}

static int tensor(network *n, const char *prefix, const char *name, int dims,
                  const int *dim)
{
    n->tensors = grown(n->tensors, n->tensor_count, sizeof *n->tensors);
    net_tensor *t = &n->tensors[n->tensor_count];
    *t = (net_tensor){ .dims = dims, .offset = n->elements, .elements = 1 };
    const int length = snprintf(t->name, sizeof t->name, "%s%s%s", prefix,
                                *prefix && *name ? "." : "", name);
    if (length < 0 || (size_t)length >= sizeof t->name)
        return fail(n, "tensor name %s.%s is too long", prefix, name);
    for (int a = 0; a < dims; a++) {
        t->dim[a] = dim[a];
        t->elements *= (size_t)dim[a];
    }
    n->elements += t->elements;
    return n->tensor_count++;
}

/* Weight and bias as PyTorch starts them: uniform in +-1/sqrt(fan-in). */
static void weight_and_bias(network *n, int dims, const int *dim, bool bias,
                            const char *name)
{
    double fan_in = 1;
    for (int a = 1; a < dims; a++) fan_in *= dim[a];
    const int w = tensor(n, name, "weight", dims, dim);
    if (w >= 0) {
        n->tensors[w].decay = true;
        n->tensors[w].init = NET_INIT_FAN_IN;
        n->tensors[w].init_value = fan_in;
    }
    const int b = bias ? tensor(n, name, "bias", 1, dim) : -1;
    if (b >= 0) {
        n->tensors[b].init = NET_INIT_FAN_IN;
        n->tensors[b].init_value = fan_in;
    }
    n->ops[last(n)].weight = w;
    n->ops[last(n)].bias = b;
}

void net_begin(network *n, int height, int width, int channels)
{
    *n = (network){ 0 };
    net_op *op = add(n, NET_INPUT, NET_SHARE_OTHER, -1);
    op->height = height;
    op->width = width;
    op->tokens = height * width;
    op->channels = channels;
    if (height < 1 || width < 1 || channels < 1)
        fail(n, "input map %dx%dx%d is empty", height, width, channels);
}

int net_finish(network *n, error *e)
{
    return n->failed ? error_set(e, "%s", n->failure.text) : 0;
}

void net_free(network *n)
{
    free(n->ops);
    free(n->tensors);
    *n = (network){ 0 };
}

const net_tensor *net_find(const network *n, const char *name)
{
    for (int i = 0; i < n->tensor_count; i++)
        if (!strcmp(n->tensors[i].name, name)) return &n->tensors[i];
    return NULL;
}

/* ---- plain operations ------------------------------------------------------------ */

int net_linear(network *n, int from, int out, bool bias, const char *name)
{
    net_op *op = add(n, NET_LINEAR, NET_SHARE_LINEAR, from);
    if (!op) return -1;
    const int dim[2] = { out, op->channels };
    op->channels = out;
    weight_and_bias(n, 2, dim, bias, name);
    return last(n);
}

/* Maps that carry a class token have no rows and columns. */
static bool is_map(const net_op *op)
{
    return op->tokens == op->height * op->width;
}

/* A window that moves over the map: false if it does not fit. */
static bool slide(net_op *op, int kernel, int stride, int pad)
{
    if (!is_map(op) || kernel < 1 || stride < 1 || pad < 0 ||
        op->height + 2 * pad < kernel || op->width + 2 * pad < kernel)
        return false;
    op->kernel = kernel;
    op->stride = stride;
    op->pad = pad;
    op->height = (op->height + 2 * pad - kernel) / stride + 1;
    op->width = (op->width + 2 * pad - kernel) / stride + 1;
    op->tokens = op->height * op->width;
    return true;
}

int net_conv(network *n, int from, int out, int kernel, int stride, int pad,
             int groups, bool bias, const char *name)
{
    net_op *op = add(n, NET_CONV, NET_SHARE_CONV, from);
    if (!op) return -1;
    if (groups < 1 || op->channels % groups || out % groups ||
        !slide(op, kernel, stride, pad))
        return fail(n,
                    "%s: a %dx%d convolution in %d groups does not fit a "
                    "%dx%d map of %d channels",
                    name, kernel, kernel, groups, op->height, op->width,
                    op->channels);
    const int dim[4] = { out, op->channels / groups, kernel, kernel };
    op->groups = groups;
    op->channels = out;
    weight_and_bias(n, 4, dim, bias, name);
    return last(n);
}

int net_patch(network *n, int from, int side)
{
    net_op *op = add(n, NET_PATCH, NET_SHARE_OTHER, from);
    if (!op) return -1;
    if (side < 1 || !is_map(op) || op->height % side || op->width % side)
        return fail(n, "a %dx%d map does not split into patches of %d",
                    op->height, op->width, side);
    op->kernel = op->stride = side;
    op->height /= side;
    op->width /= side;
    op->tokens = op->height * op->width;
    op->channels *= side * side;
    return last(n);
}

int net_merge(network *n, int from)
{
    net_op *op = add(n, NET_MERGE, NET_SHARE_OTHER, from);
    if (!op) return -1;
    if (!is_map(op) || op->height % 2 || op->width % 2)
        return fail(n, "a %dx%d map cannot be merged in 2x2 groups",
                    op->height, op->width);
    op->height /= 2;
    op->width /= 2;
    op->tokens = op->height * op->width;
    op->channels *= 4;
    return last(n);
}

int net_slice(network *n, int from, int first, int channels)
{
    net_op *op = add(n, NET_SLICE, NET_SHARE_OTHER, from);
    if (!op) return -1;
    if (first < 0 || channels < 1 || first > op->channels - channels)
        return fail(n, "channels %d to %d are not there: operation %d has %d",
                    first, first + channels - 1, from, op->channels);
    op->first = first;
    op->channels = channels;
    return last(n);
}

/* A mechanism from tokens x channels to the same, without parameters. */
int net_gelu(network *n, int from, bool tanh_form)
{
    att_problem options = att_problem_default;
    options.gelu = tanh_form;
    const int i = net_norm(n, from, "gelu", &options, "gelu");
    if (i >= 0) n->ops[i].share = NET_SHARE_OTHER;
    return i;
}

int net_relu(network *n, int from)
{
    return add(n, NET_RELU, NET_SHARE_OTHER, from) ? last(n) : -1;
}

int net_maxpool(network *n, int from, int kernel, int stride, int pad)
{
    net_op *op = add(n, NET_MAXPOOL, NET_SHARE_OTHER, from);
    if (!op) return -1;
    if (2 * pad > kernel || !slide(op, kernel, stride, pad))
        return fail(n, "a pool of %dx%d does not fit a %dx%d map", kernel,
                    kernel, op->height, op->width);
    return last(n);
}

int net_add(network *n, int from, int other, const char *scale, double start)
{
    net_op *op = add(n, NET_ADD, NET_SHARE_OTHER, from);
    if (!op) return -1;
    if (other < 0 || other >= last(n) ||
        n->ops[other].tokens != op->tokens ||
        n->ops[other].channels != op->channels)
        return fail(n, "operations %d and %d cannot be added: their shapes "
                       "differ", from, other);
    op->other = other;
    if (scale) {
        const int w = tensor(n, scale, "", 1, &op->channels);
        if (w < 0) return -1;
        n->tensors[w].init = NET_INIT_NORMAL;
        n->tensors[w].init_value = 0;
        if (start == 1) n->tensors[w].init = NET_INIT_ONE;
        n->ops[last(n)].weight = w;
    }
    return last(n);
}

/* An operation with one tensor that starts as a normal of deviation 0.02. */
static int with_tensor(network *n, enum net_kind kind, int from, int dims,
                       const int *dim, const char *name)
{
    if (!add(n, kind, NET_SHARE_OTHER, from)) return -1;
    const int w = tensor(n, name, "", dims, dim);
    if (w < 0) return -1;
    n->tensors[w].init = NET_INIT_NORMAL;
    n->tensors[w].init_value = 0.02;
    n->ops[last(n)].weight = w;
    return last(n);
}

int net_token(network *n, int from, int count, const char *name)
{
    if (n->failed) return -1;
    const int dim[2] = { count, n->ops[from].channels };
    const int i = with_tensor(n, NET_TOKEN, from, count > 1 ? 2 : 1,
                              count > 1 ? dim : dim + 1, name);
    if (i >= 0) n->ops[i].tokens += count;
    return i;
}

int net_position(network *n, int from, const char *name)
{
    if (n->failed) return -1;
    const int dim[2] = { n->ops[from].tokens, n->ops[from].channels };
    return with_tensor(n, NET_POSITION, from, 2, dim, name);
}

int net_mask(network *n, int from, const char *name)
{
    if (n->failed) return -1;
    const int channels = n->ops[from].channels;
    return with_tensor(n, NET_MASK, from, 1, &channels, name);
}

int net_pool(network *n, int from, bool first)
{
    net_op *op = add(n, first ? NET_POOL_FIRST : NET_POOL_MEAN,
                     NET_SHARE_OTHER, from);
    if (!op) return -1;
    op->first = first ? 0 : op->tokens - op->height * op->width;
    op->height = op->width = op->tokens = 1;
    return last(n);
}

/* ---- mechanisms ---------------------------------------------------------------------- */

/* Parameters of the last operation's mechanism become tensors. */
static int add_parameters(network *n, const char *name, bool norm)
{
    att_tensor list[ATT_PARAMS];
    const net_op *op = &n->ops[last(n)];
    const int count = att_parameters(op->mechanism, &op->problem, list);
    n->ops[last(n)].parameters = count;
    for (int i = 0; i < count; i++) {
        const att_tensor *t = &list[i];
        const char *own = t->name;
        if (norm && !strcmp(own, "gamma")) own = "weight";
        if (norm && !strcmp(own, "beta")) own = "bias";
        int index = -1;
        if (att_elements(t) > 0) {
            index = tensor(n, name, own, t->dims, t->dim);
            if (index < 0) return -1;
            n->tensors[index].fixed = t->fixed;
            n->tensors[index].init = NET_INIT_MECHANISM;
            n->tensors[index].decay = !norm && !t->fixed && t->dims > 1;
        }
        n->ops[last(n)].parameter[i] = index;
    }
    return last(n);
}

int net_norm(network *n, int from, const char *mechanism,
             const att_problem *options, const char *name)
{
    net_op *op = add(n, NET_MECHANISM, NET_SHARE_NORM, from);
    if (!op) return -1;
    op->mechanism = att_find_mechanism(mechanism);
    if (!op->mechanism)
        return fail(n, "%s: there is no mechanism '%s'", name, mechanism);
    op->normalises = true;
    op->problem = *options;
    op->problem.batch = op->problem.heads = 1;
    op->problem.head_dim = op->channels;
    op->problem.grid = (att_list){ 1, { op->tokens } };
    const char *why = att_reject(op->mechanism, &op->problem);
    if (why) return fail(n, "%s: %s %s", name, mechanism, why);
    return add_parameters(n, name, true);
}

/* The problem that a mechanism sees in a map. */
static att_problem attention_problem(const att_mechanism *m,
                                     const att_problem *options, int height,
                                     int width, int tokens, int keys)
{
    att_problem p = *options;
    p.batch = 1;
    p.grid = (att_list){ 1, { tokens } };
    if (tokens == height * width && height > 1 &&
        (m->traits & ATT_IS_2D || !(m->traits & ATT_IS_1D)))
        p.grid = (att_list){ 2, { height, width } };
    p.tokens_k = keys == tokens ? 0 : keys;
    if (m->traits & ATT_ONE_WIDTH) {
        p.head_dim *= p.heads;
        p.heads = 1;
    }
    att_canonical(m, &p);
    return p;
}

static int slot_width(const att_mechanism *m, const att_problem *p,
                      enum att_slot slot)
{
    att_shape s;
    att_shape_of(m, p, slot, &s);
    return s.tokens ? s.heads * s.channels : 0;
}

int net_attention_width(const char *mechanism, const att_problem *options,
                        int height, int width, int tokens, const char **why)
{
    const att_mechanism *m = att_find_mechanism(mechanism);
    *why = m ? NULL : "is not a mechanism";
    if (!m) return -1;
    const att_problem p =
        attention_problem(m, options, height, width, tokens, tokens);
    *why = att_reject(m, &p);
    return *why ? -1
                : slot_width(m, &p, ATT_Q) + slot_width(m, &p, ATT_K) +
                      slot_width(m, &p, ATT_V);
}

int net_attention(network *n, int from, int keys, const char *mechanism,
                  const att_problem *options, const char *name)
{
    net_op *op = add(n, NET_MECHANISM, NET_SHARE_ATTENTION, from);
    if (!op) return -1;
    const att_mechanism *m = att_find_mechanism(mechanism);
    if (!m) return fail(n, "%s: there is no mechanism '%s'", name, mechanism);
    if (keys >= last(n))
        return fail(n, "%s: reads keys of operation %d, which is not there",
                    name, keys);
    const int tokens_k = keys >= 0 ? n->ops[keys].tokens : op->tokens;
    const att_problem p = attention_problem(m, options, op->height, op->width,
                                            op->tokens, tokens_k);
    const char *why = att_reject(m, &p);
    if (why) return fail(n, "%s: %s %s", name, mechanism, why);

    const int q = slot_width(m, &p, ATT_Q);
    const int kv = slot_width(m, &p, ATT_K) + slot_width(m, &p, ATT_V);
    if (op->channels != (keys >= 0 ? q : q + kv) ||
        (keys >= 0 && n->ops[keys].channels != kv))
        return fail(n, "%s: %s needs %d + %d channels of q and k, v; its input "
                       "has %d", name, mechanism, q, kv, op->channels);
    att_shape out;
    att_shape_of(m, &p, ATT_O, &out);
    if (out.tokens != op->tokens)
        return fail(n, "%s: %s changes the number of tokens from %d to %d",
                    name, mechanism, op->tokens, out.tokens);
    op->mechanism = m;
    op->problem = p;
    op->other = keys;
    op->channels = out.heads * out.channels;
    return add_parameters(n, name, false);
}

/* ---- costs and starts ------------------------------------------------------------------- */

/* Those that keep running statistics of tokens, which are parameters that are
 * given, not learned. */
bool net_joins_batch(const network *n)
{
    for (int i = 0; i < n->count; i++) {
        const net_op *op = &n->ops[i];
        for (int k = 0; op->normalises && k < op->parameters; k++)
            if (op->parameter[k] >= 0 && n->tensors[op->parameter[k]].fixed)
                return true;
    }
    return false;
}

double net_macs(const network *n, int i)
{
    const net_op *op = &n->ops[i];
    if (op->kind == NET_LINEAR || op->kind == NET_CONV)
        return (double)op->tokens *
               (double)n->tensors[op->weight].elements;
    if (op->kind != NET_MECHANISM || op->normalises) return 0;
    if (op->share == NET_SHARE_CONV) /* depthwise: every tap, as papers count */
        return (double)op->tokens *
               (double)n->tensors[op->parameter[0]].elements;
    att_cost cost;
    op->mechanism->cost(&op->problem, ATT_FORWARD, &cost);
    return cost.mul_add;
}

static void init_plain(const net_tensor *t, uint64_t seed, float *x)
{
    const double bound = t->init == NET_INIT_FAN_IN ? 1 / sqrt(t->init_value)
                                                    : t->init_value;
    for (size_t i = 0; i < t->elements; i++)
        x[i] = t->init == NET_INIT_FAN_IN
                   ? (float)(bound * (2 * att_uniform(&seed) - 1))
               : t->init == NET_INIT_NORMAL
                   ? (float)(bound * att_normal(&seed))
                   : t->init == NET_INIT_ONE;
}

void net_init(const network *n, uint64_t seed, float *weights)
{
    for (int i = 0; i < n->tensor_count; i++) {
        const net_tensor *t = &n->tensors[i];
        if (t->init != NET_INIT_MECHANISM)
            init_plain(t, seed * 0x9e3779b97f4a7c15u + (uint64_t)i,
                       weights + t->offset);
    }
    for (int i = 0; i < n->count; i++) {
        const net_op *op = &n->ops[i];
        att_problem p = op->problem;
        att_tensor list[ATT_PARAMS];
        if (op->kind != NET_MECHANISM) continue;
        p.seed = (int)((seed * 1000003u + (uint64_t)i) & 0x7fffffff);
        att_parameters(op->mechanism, &p, list);
        for (int k = 0; k < op->parameters; k++)
            if (op->parameter[k] >= 0)
                att_parameter_fill(
                    op->mechanism, &p, k, &list[k],
                    weights + n->tensors[op->parameter[k]].offset);
    }
}
