/* words.h - the traits of a mechanism in words. */
#ifndef WORDS_H
#define WORDS_H

#include "../kernels/plan.h"

/* X(trait, name in JSON, sentence) */
#define WORDS_LIST(X)                                                          \
    X(LINEAR_IN_V, "linear_in_v",                                              \
      "linear in v: it has an effective matrix")                               \
    X(ROWS_SUM_1, "rows_sum_1", "every row of the matrix sums to 1")           \
    X(NONNEGATIVE, "nonnegative", "attention weights are never negative")      \
    X(PER_CHANNEL, "per_channel", "every channel has a matrix of its own")     \
    X(CONVOLUTION, "convolution",                                              \
      "a depthwise convolution is added, per channel")                         \
    X(GATED, "gated", "the output is gated by the query token")                \
    X(ON_K, "on_k", "the matrix multiplies k, not v")                          \
    X(CAN_CAUSAL, "can_causal", "has a causal form")                           \
    X(IS_1D, "grid_1d", "on sequences")                                        \
    X(IS_2D, "grid_2d", "on 2-D maps")                                         \
    X(IS_3D, "grid_3d", "on volumes")                                          \
    X(ONE_WIDTH, "one_width", "sees all heads as one width")                   \
    X(NOT_ATTENTION, "not_attention",                                          \
      "no attention: a baseline to compare with")

enum {
#define WORDS_INDEX(trait, name, text) WORDS_##trait,
    WORDS_LIST(WORDS_INDEX)
#undef WORDS_INDEX
    WORDS_TRAITS
};

static const struct {
    unsigned bit;
    const char *name, *text;
} words_traits[WORDS_TRAITS] = {
#define WORDS_ENTRY(trait, name, text) { ATT_##trait, name, text },
    WORDS_LIST(WORDS_ENTRY)
#undef WORDS_ENTRY
};

#endif
