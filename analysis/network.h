/* network.h - a neural network as a list of operations on token maps: the one
 * engine for trained models, training, and the papers' whole architectures.
 *
 * An activation is [batch][tokens][channels]; tokens are the raster scan of a
 * height x width map (height 1 for sequences).  Each operation reads one earlier
 * activation (two for NET_ADD and attention with separate keys) and writes a new
 * one.  Learned tensors have timm's names and live in one block of numbers, in
 * the order of `tensors`.
 *
 * A network says nothing about precision: net_f32 runs it with kernels and BLAS
 * in float, net_f64 with the references in double (network_real.h, compiled for
 * each).  Building a network: add operations in order with the net_* functions,
 * which check shapes; the first contradiction is kept and reported by
 * net_finish().
 */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../harness/error.h"
#include "../kernels/plan.h"

enum net_kind {
    NET_INPUT,     /* the input map itself                                  */
    NET_LINEAR,    /* x W' + b                 weight [out][in]             */
    NET_CONV,      /* cross-correlation        weight [out][in/groups][k][k] */
    NET_PATCH,     /* p x p patches side by side: [channel][y][x]           */
    NET_MERGE,     /* 2 x 2 tokens side by side (Swin's order)              */
    NET_SLICE,     /* some of the channels                                  */
    NET_MECHANISM, /* attention, a normalisation, or GELU                   */
    NET_RELU,
    NET_MAXPOOL,   /* largest of a window, borders left out                 */
    NET_ADD,       /* x + scale * y, scale [channels] or absent             */
    NET_TOKEN,     /* learned tokens in front                               */
    NET_POSITION,  /* + a learned [tokens][channels]                        */
    NET_MASK,      /* + a learned [channels] at masked tokens               */
    NET_POOL_MEAN, /* mean over the tokens of the map                       */
    NET_POOL_FIRST /* first token                                           */
};

/* What a share of time or cost is booked under. */
enum net_share { NET_SHARE_CONV, NET_SHARE_LINEAR, NET_SHARE_ATTENTION,
                 NET_SHARE_NORM, NET_SHARE_OTHER, NET_SHARES };

typedef struct net_tensor {
    char name[96];
    int dims, dim[5];
    size_t offset, elements;
    bool fixed;   /* a mask, running statistics: not learned                */
    bool decay;   /* weight decay applies (matrices, not norms or biases)   */
    enum { NET_INIT_FAN_IN, NET_INIT_ZERO, NET_INIT_ONE, NET_INIT_NORMAL,
           NET_INIT_MECHANISM } init;
    double init_value; /* FAN_IN: fan-in of +-1/sqrt; NORMAL: deviation      */
} net_tensor;

typedef struct net_op {
    enum net_kind kind;
    enum net_share share;
    int level;               /* stage of a pyramid, for reports             */
    int input, other;        /* operations that are read; -1: none          */
    int height, width;       /* of the output map; class token: tokens counts
                                it, height x width does not                 */
    int tokens, channels;    /* of the output                               */
    int weight, bias;        /* tensors; -1: none                           */
    int kernel, stride, pad, groups; /* NET_CONV, NET_PATCH, NET_MAXPOOL     */
    int first;               /* channel, of NET_SLICE; token, of a mean      */
    const att_mechanism *mechanism;
    const char *kernel_name; /* of kernels/, or NULL: the first fast one     */
    att_problem problem;     /* for batch 1                                  */
    int parameter[ATT_PARAMS]; /* tensors; -1: absent                        */
    int parameters;
    bool normalises;         /* sees the tokens of the batch as its rows     */
} net_op;

typedef struct network {
    net_op *ops;
    int count;
    net_tensor *tensors;
    int tensor_count;
    size_t elements;   /* of all tensors                                    */
    int level;         /* given to new operations                           */
    error failure;     /* of the first net_* call that failed               */
    bool failed;
} network;

void net_begin(network *n, int height, int width, int channels);
/* 0, or -1 with the first failure. */
int net_finish(network *n, error *e);
void net_free(network *n);

/* Each returns the index of the new operation; `from` is that of its input.
 * name is the prefix of its tensors: "blocks.0.mlp.fc1" -> "....weight". */
int net_linear(network *n, int from, int out, bool bias, const char *name);
int net_conv(network *n, int from, int out, int kernel, int stride, int pad,
             int groups, bool bias, const char *name);
int net_patch(network *n, int from, int side);
int net_merge(network *n, int from);
/* Channels [first, first + channels). */
int net_slice(network *n, int from, int first, int channels);
int net_gelu(network *n, int from, bool tanh_form);
int net_relu(network *n, int from);
int net_maxpool(network *n, int from, int kernel, int stride, int pad);
/* scale: name of a [channels] tensor started at `start`, or NULL. */
int net_add(network *n, int from, int other, const char *scale, double start);
/* `count` tokens in front of the others: [channels], or [count][channels]. */
int net_token(network *n, int from, int count, const char *name);
int net_position(network *n, int from, const char *name);
int net_mask(network *n, int from, const char *name);
/* The first token, or the mean over those that are not in front of the map:
 * class tokens and registers are left out. */
int net_pool(network *n, int from, bool first);

/* A normalisation mechanism (layernorm, repbn ...) over the channels.  Its
 * parameters get the names that model files use for norms: weight and bias for
 * gamma and beta, others by their own names. */
int net_norm(network *n, int from, const char *mechanism,
             const att_problem *options, const char *name);

/* Attention.  The input's channels are q | k | v side by side, each head-major,
 * with the widths of the mechanism's shapes (net_attention_width); or, if
 * `keys` >= 0, the input is q and operation `keys` holds k | v.  options gives
 * heads, head_dim and the mechanism's own fields; the grid and tokens_k are set
 * here.  Parameters are named NAME.<parameter>. */
int net_attention(network *n, int from, int keys, const char *mechanism,
                  const att_problem *options, const char *name);
/* Channels that q, k and v need together for a map of that size; -1 if the
 * mechanism refuses (then *why says why). */
int net_attention_width(const char *mechanism, const att_problem *options,
                        int height, int width, int tokens, const char **why);

const net_tensor *net_find(const network *n, const char *name); /* or NULL  */

/* Whether, in training, the samples of a batch see each other (statistics of
 * tokens): then a batch cannot be worked through in parts. */
bool net_joins_batch(const network *n);

/* Multiply-adds of operation i for one input (attention: both products). */
double net_macs(const network *n, int i);

/* Seeded start of all tensors. */
void net_init(const network *n, uint64_t seed, float *weights);

/* ---- running ----------------------------------------------------------------------- */

/* A network bound to a batch: activations, plans, and for training everything
 * that the backward pass needs. */
#define NET_RUN(real, name)                                                    \
    typedef struct net_##name net_##name;                                      \
    /* weights: n->elements numbers, not copied, may change between runs. */   \
    net_##name *net_##name##_new(const network *n, const real *weights,        \
                                 int batch, int threads, bool training,        \
                                 error *e);                                    \
    void net_##name##_free(net_##name *r);                                     \
    /* input: [batch][tokens][channels]; mask: [batch][tokens] 0 or 1 for      \
     * NET_MASK, or NULL.  Returns the last activation. */                     \
    const real *net_##name##_forward(net_##name *r, const real *input,         \
                                     const unsigned char *mask);               \
    /* Activation of one operation after forward; attention inputs as q, k, v  \
     * [batch][heads][tokens][channels] by slot. */                            \
    const real *net_##name##_activation(const net_##name *r, int op);          \
    const real *net_##name##_slot(const net_##name *r, int op,                 \
                                  enum att_slot slot);                         \
    /* dlast: gradient of the last activation.  gradient: n->elements numbers, \
     * written.  Only after forward of a run made for training. */             \
    void net_##name##_backward(net_##name *r, const real *dlast,               \
                               real *gradient);                                \
    /* After forward of a run made for training: running statistics (tensors   \
     * that are not learned) move to their new values. */                      \
    void net_##name##_statistics(const net_##name *r, real *weights);          \
    /* Progressive normalisations: `left` of `total` steps are still to go     \
     * until only the folding form is left. */                                 \
    void net_##name##_schedule(net_##name *r, int left, int total);            \
    /* Seconds spent in each operation by the last forward. */                 \
    const double *net_##name##_seconds(const net_##name *r);                   \
    /* Bytes held for activations and plans. */                                \
    size_t net_##name##_bytes(const net_##name *r);
NET_RUN(float, f32)
NET_RUN(double, f64)

#endif
