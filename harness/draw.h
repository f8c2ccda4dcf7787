/* draw.h - random problems, each a function of its seed.
 *
 * Every field that the mechanism uses is drawn from all its values, sensible or
 * not; what the mechanism refuses is drawn again.  Every tensor gets a kind of
 * values of its own (inputs.h).  The mechanism is a function of the seed and of
 * the mechanisms that there are, plugins' included.
 *
 * Left out is what kernels in float cannot be asked for:
 * - several huge inputs (1e18): sums of products of q, k and v leave the range of
 *   floats.  Where products are exponents v may be the second; log-sum-exps of
 *   logits beyond 2^100 are not right, since kernels take those for masks;
 * - huge parameters, and large ones beside huge inputs, likewise;
 * - gradients beside large parameters: kernels that take a convolution off the
 *   stored output lose as many digits as it is larger than attention;
 * - a large `scale` of several heads under one norm: a power of the ratio of
 *   softplus of e^-30 leaves the range within a row.
 */
#ifndef DRAW_H
#define DRAW_H

#include "check.h"

/* q, k, v, the upstream gradient, then the parameters. */
enum {
    DRAW_DOUT = 3,
    DRAW_PARAMETERS,
    DRAW_TENSORS = DRAW_PARAMETERS + ATT_PARAMS
};

typedef struct drawn {
    const att_mechanism *mechanism;
    att_problem problem; /* canonical, accepted by att_reject()              */
    bool grad;
    int threads;
    uint64_t seed;       /* of the problem and of its values                 */
    enum inputs_family kind[DRAW_TENSORS];
    const char *why;     /* if it could not be drawn: the last refusal       */
} drawn;

const att_mechanism *draw_mechanism(uint64_t seed);

/* Problem `index` of those that a seed begins; the first is the seed itself. */
uint64_t draw_next(uint64_t seed, uint64_t index);

/* False if forty draws were refused. */
bool draw(drawn *d, uint64_t seed);

/* Values of v, which is made for d, as the kinds say. */
int draw_fill(const drawn *d, check_values *v, error *e);

/* Kinds of all tensors that the problem has, "normal; q huge, rpb masked";
 * out holds `size` bytes. */
void draw_kinds(const drawn *d, char *out, size_t size);

#endif
