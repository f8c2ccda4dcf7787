/* network_real.h - the body of network_f32.c and network_f64.c: the same
 * operations in float with kernels (NET_FLOAT defined) and in double with the
 * references.
 */
#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "blas.h"

#ifdef NET_FLOAT
typedef float real;
#define RUN     net_f32
#define NAME(x) net_f32_##x
#define gemm    blas_gemm_f32
#else
typedef double real;
#define RUN     net_f64
#define NAME(x) net_f64_##x
#define gemm    blas_gemm_f64
#endif

#define PARALLEL _Pragma("omp parallel for num_threads(r->threads)")

/* What one operation needs while it runs. */
typedef struct op_state {
    size_t elements;      /* of out, whole batch                            */
    size_t rows;          /* batch * tokens                                 */
    real *out, *dout;
    bool owns;            /* out: else it was another operation's before     */
    bool shares;          /* dout is that of the one operation that reads it */
    bool learned;         /* out depends on learned tensors                  */
    bool written;         /* dout: the first reader that is left writes it,
                             further ones add                                */
    att_problem problem;  /* of a mechanism, for this batch                 */
    att_shape shape[ATT_SLOTS];
    size_t slot_elements[ATT_SLOTS];
    real *slot[ATT_SLOTS], *dslot[ATT_SLOTS];
    real *extra[ATT_EXTRAS];
    att_tensor extra_tensor[ATT_EXTRAS];
    int extras;
    att_plan plan;
    real *columns;        /* im2col of a convolution                        */
} op_state;

struct RUN {
    const network *n;
    const real *weights;
    const unsigned char *mask;
    int batch, threads;
    bool training;
    op_state *ops;
    double *seconds;
    size_t bytes;
};

static real *numbers(RUN *r, size_t n)
{
    const size_t bytes = (n * sizeof(real) + ATT_ALIGN) / ATT_ALIGN * ATT_ALIGN;
    real *x = aligned_alloc(ATT_ALIGN, bytes);
    if (!x) abort();
    memset(x, 0, bytes);
    r->bytes += bytes;
    return x;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const real *weight(const RUN *r, int tensor)
{
    return tensor < 0 ? NULL : r->weights + r->n->tensors[tensor].offset;
}

/* ---- mechanisms ---------------------------------------------------------------- */

#ifdef NET_FLOAT
/* The named kernel, or the first fast one that takes the problem, or any. */
static const att_entry *choose(const net_op *op, const att_problem *p,
                               int threads, bool training, const char **why)
{
    const att_entry *list, *plain = NULL;
    const size_t n = att_entries(&list);
    *why = att_level_none() ? att_level_none() : "has no kernel for this machine";
    for (size_t i = 0; i < n; i++) {
        const att_entry *e = &list[i];
        att_plan dry;
        if (e->mechanism != op->mechanism || e->level != att_level_best())
            continue;
        if (op->kernel_name && strcmp(op->kernel_name, e->kernel->name))
            continue;
        const char *no = att_plan_create(&dry, e, p, threads, training, true);
        if (no) *why = no;
        else if (!e->kernel->plain || op->kernel_name) return e;
        else if (!plain) plain = e;
    }
    return plain;
}
#endif

static int open_mechanism(RUN *r, const net_op *op, op_state *s, error *e)
{
    att_problem *p = &s->problem;
    *p = op->problem;
    if (op->normalises) {
        p->grid = (att_list){ 1, { r->batch * op->tokens } };
        p->mode = r->training ? ATT_MODE_TRAIN : ATT_MODE_EVAL;
    } else p->batch = r->batch;
    for (enum att_slot slot = ATT_Q; slot <= ATT_O; slot++) {
        att_shape_of(op->mechanism, p, slot, &s->shape[slot]);
        s->slot_elements[slot] =
            att_shape_elements(&s->shape[slot]) * (size_t)p->batch;
        if (s->slot_elements[slot] == 0) continue;
        /* token-wise operations read and write activations in place */
        if (!op->normalises) s->slot[slot] = numbers(r, s->slot_elements[slot]);
        if (r->training && !(op->normalises && slot == ATT_O))
            s->dslot[slot] = numbers(r, s->slot_elements[slot]);
    }
    s->extras = att_extras(op->mechanism, p, s->extra_tensor);
    for (int i = 0; r->training && op->normalises && i < s->extras; i++)
        s->extra[i] = numbers(r, att_elements(&s->extra_tensor[i]));
#ifdef NET_FLOAT
    const char *why;
    const att_entry *entry = choose(op, p, r->threads, r->training, &why);
    if (!entry)
        return error_set(e, "%s: %s", op->mechanism->name, why);
    why = att_plan_create(&s->plan, entry, p, r->threads, r->training, false);
    if (why) return error_set(e, "%s: %s", entry->kernel->name, why);
    r->bytes += s->plan.block_bytes;
    for (int i = 0; i < op->parameters; i++)
        s->plan.call.param[i] = weight(r, op->parameter[i]);
    for (int i = 0; i < s->extras; i++) s->plan.call.extra[i] = s->extra[i];
    att_plan_prepare(&s->plan);
#else
    (void)e;
#endif
    return 0;
}

/* Where the three inputs stand in the rows that are read: q | k | v, or q alone
 * and k | v in the rows of `other`. */
static const op_state *source(const RUN *r, const net_op *op,
                              enum att_slot slot, size_t *column, size_t *width)
{
    const op_state *s = &r->ops[op - r->n->ops];
    const int from = op->other >= 0 && slot != ATT_Q ? op->other : op->input;
    *column = 0;
    *width = (size_t)r->n->ops[from].channels;
    for (int t = op->other >= 0 && slot != ATT_Q ? ATT_K : ATT_Q; t < (int)slot;
         t++)
        if (s->shape[t].tokens)
            *column += (size_t)s->shape[t].heads * (size_t)s->shape[t].channels;
    return &r->ops[from];
}

enum move { TO_HEADS, TO_ROWS, ADD_TO_ROWS };

/* The channels of a head are few: a call of memcpy for each would be felt. */
static inline void copy_few(real *y, const real *x, size_t n)
{
    enum { PIECE = 16 };
    size_t i = 0;
    for (; i + PIECE <= n; i += PIECE) memcpy(y + i, x + i, PIECE * sizeof *y);
    for (; i < n; i++) y[i] = x[i];
}

/* [batch][tokens][.. h d ..] <-> [batch][heads][tokens][channels]. */
static void move_heads(const RUN *r, const att_shape *s, size_t column,
                       size_t width, real *rows, real *slot, enum move move)
{
    const size_t heads = (size_t)s->heads, tokens = (size_t)s->tokens;
    const size_t channels = (size_t)s->channels;
    #pragma omp parallel for collapse(2) num_threads(r->threads)
    for (size_t b = 0; b < (size_t)r->batch; b++)
        for (size_t t = 0; t < tokens; t++) {
            real *x = rows + (b * tokens + t) * width + column;
            real *y = slot + (b * heads * tokens + t) * channels;
            for (size_t h = 0; h < heads; h++) {
                if (move == TO_HEADS) copy_few(y, x, channels);
                else if (move == TO_ROWS) copy_few(x, y, channels);
                else
                    for (size_t c = 0; c < channels; c++) x[c] += y[c];
                x += channels;
                y += tokens * channels;
            }
        }
}

#ifndef NET_FLOAT
static att_ref reference(const RUN *r, const net_op *op, const op_state *s)
{
    att_ref ref = { .p = &s->problem, .q = s->slot[ATT_Q], .k = s->slot[ATT_K],
                    .v = s->slot[ATT_V], .o = s->slot[ATT_O] };
    for (int i = 0; i < op->parameters; i++)
        ref.param[i] = weight(r, op->parameter[i]);
    for (int i = 0; i < s->extras; i++) ref.extra[i] = s->extra[i];
    return ref;
}
#endif

static void forward_mechanism(RUN *r, const net_op *op, op_state *s)
{
    for (enum att_slot slot = ATT_Q; slot <= ATT_V; slot++) {
        size_t column, width;
        const op_state *from = source(r, op, slot, &column, &width);
        if (!s->slot_elements[slot]) continue;
        if (op->normalises) s->slot[slot] = from->out;
        else
            move_heads(r, &s->shape[slot], column, width, from->out,
                       s->slot[slot], TO_HEADS);
    }
    if (op->normalises) s->slot[ATT_O] = s->out;
#ifdef NET_FLOAT
    att_call *c = &s->plan.call;
    c->q = s->slot[ATT_Q];
    c->k = s->slot[ATT_K];
    c->v = s->slot[ATT_V];
    c->o = s->slot[ATT_O];
    if (r->training) att_plan_prepare(&s->plan); /* weights have moved */
    att_plan_forward(&s->plan);
#else
    const att_ref ref = reference(r, op, s);
    att_reference_forward(op->mechanism, &ref);
#endif
    if (op->normalises) return;
    move_heads(r, &s->shape[ATT_O], 0, (size_t)op->channels, s->out,
               s->slot[ATT_O], TO_ROWS);
}

/* y is a part of the gradient of operation i's output. */
static void add_gradient(RUN *r, int i, const real *y)
{
    op_state *s = &r->ops[i];
    const size_t n = s->elements;
    real *x = s->dout;
    if (s->written) {
        PARALLEL
        for (size_t k = 0; k < n; k++) x[k] += y[k];
    } else {
        PARALLEL
        for (size_t row = 0; row < s->rows; row++) {
            const size_t width = n / s->rows;
            memcpy(x + row * width, y + row * width, width * sizeof *x);
        }
    }
    s->written = true;
}

/* Readers that reach only some of the elements start from zeros. */
static real *gradient_to_add(RUN *r, int i)
{
    op_state *s = &r->ops[i];
    if (!s->written) memset(s->dout, 0, s->elements * sizeof *s->dout);
    s->written = true;
    return s->dout;
}

/* Gradients of q, k and v into the rows they came from: together they cover
 * them. */
static void move_gradients(RUN *r, const net_op *op, const op_state *s,
                           real *const *dslot)
{
    bool written[2] = { r->ops[op->input].written,
                        op->other >= 0 && r->ops[op->other].written };
    for (enum att_slot slot = ATT_Q; slot <= ATT_V; slot++) {
        size_t column, width;
        const op_state *from = source(r, op, slot, &column, &width);
        if (!dslot[slot]) continue;
        move_heads(r, &s->shape[slot], column, width, from->dout, dslot[slot],
                   written[from != &r->ops[op->input]] ? ADD_TO_ROWS : TO_ROWS);
    }
    r->ops[op->input].written = true;
    if (op->other >= 0) r->ops[op->other].written = true;
}

static void backward_mechanism(RUN *r, const net_op *op, op_state *s,
                               real *gradient)
{
    real *dparam[ATT_PARAMS] = { 0 };
    const real *dout = s->dout;
    real *dslot[ATT_SLOTS] = { 0 };

    for (int i = 0; i < op->parameters; i++)
        if (op->parameter[i] >= 0 && !r->n->tensors[op->parameter[i]].fixed)
            dparam[i] = gradient + r->n->tensors[op->parameter[i]].offset;
    for (enum att_slot slot = ATT_Q; slot <= ATT_V; slot++)
        if (s->slot_elements[slot])
            dslot[slot] = s->dslot[slot];
    /* the only reader so far: no copy */
    const bool straight = op->normalises && !r->ops[op->input].written;
    if (straight) dslot[ATT_Q] = r->ops[op->input].dout;
    if (!op->normalises) {
        move_heads(r, &s->shape[ATT_O], 0, (size_t)op->channels, s->dout,
                   s->dslot[ATT_O], TO_HEADS);
        dout = s->dslot[ATT_O];
    }
#ifdef NET_FLOAT
    att_grad g = { .dout = dout, .dq = dslot[ATT_Q], .dk = dslot[ATT_K],
                   .dv = dslot[ATT_V] };
    memcpy(g.dparam, dparam, sizeof dparam);
    att_plan_backward(&s->plan, &g);
#else
    att_ref ref = reference(r, op, s);
    ref.dout = dout;
    ref.dq = dslot[ATT_Q];
    ref.dk = dslot[ATT_K];
    ref.dv = dslot[ATT_V];
    memcpy(ref.dparam, dparam, sizeof dparam);
    att_reference_backward(op->mechanism, &ref);
#endif
    if (straight) r->ops[op->input].written = true;
    else if (op->normalises) add_gradient(r, op->input, dslot[ATT_Q]);
    else move_gradients(r, op, s, dslot);
}

/* ---- plain operations ------------------------------------------------------------ */

/* Every row of y starts as the bias, or as zeros. */
static void fill_rows(const RUN *r, real *y, size_t rows, size_t width,
                      const real *bias)
{
    PARALLEL
    for (size_t i = 0; i < rows; i++)
        if (bias) memcpy(y + i * width, bias, width * sizeof *y);
        else memset(y + i * width, 0, width * sizeof *y);
}

/* sums[c] = sum of column c. */
static void sum_rows(const real *x, size_t rows, size_t width, real *sums)
{
    memset(sums, 0, width * sizeof *sums);
    size_t i = 0;
    for (; i + 4 <= rows; i += 4, x += 4 * width)
        for (size_t c = 0; c < width; c++)
            sums[c] += (x[c] + x[width + c]) +
                       (x[2 * width + c] + x[3 * width + c]);
    for (; i < rows; i++, x += width)
        for (size_t c = 0; c < width; c++) sums[c] += x[c];
}

static void forward_linear(RUN *r, const net_op *op, op_state *s)
{
    const op_state *x = &r->ops[op->input];
    const size_t in = x->elements / x->rows, out = (size_t)op->channels;
    fill_rows(r, s->out, s->rows, out, weight(r, op->bias));
    gemm(false, true, s->rows, out, in, x->out, in, weight(r, op->weight), in,
         1, s->out, out);
}

static void backward_linear(RUN *r, const net_op *op, op_state *s,
                            real *gradient)
{
    const op_state *x = &r->ops[op->input];
    const size_t in = x->elements / x->rows, out = (size_t)op->channels;
    gemm(true, false, out, in, s->rows, s->dout, out, x->out, in, 0,
         gradient + r->n->tensors[op->weight].offset, in);
    if (op->bias >= 0)
        sum_rows(s->dout, s->rows, out,
                 gradient + r->n->tensors[op->bias].offset);
    if (!x->learned) return;
    gemm(false, false, s->rows, in, out, s->dout, out, weight(r, op->weight),
         in, x->written, x->dout, in);
    r->ops[op->input].written = true;
}

#ifdef NET_FLOAT
/* Rows of [channel][ky][kx] of one group's windows; outside the map is 0. */
static void im2col(const RUN *r, const net_op *op, const op_state *x,
                   int group, real *columns)
{
    const net_op *from = &r->n->ops[op->input];
    const int per_group = from->channels / op->groups, k = op->kernel;
    const size_t row = (size_t)(per_group * k * k);
    PARALLEL
    for (size_t at = 0; at < (size_t)(r->batch * op->tokens); at++) {
        const int b = (int)at / op->tokens, t = (int)at % op->tokens;
        const int y0 = t / op->width * op->stride - op->pad;
        const int x0 = t % op->width * op->stride - op->pad;
        real *to = columns + at * row;
        for (int y = y0; y < y0 + k; y++)
            for (int z = x0; z < x0 + k; z++) {
                const int tap = (y - y0) * k + z - x0;
                const bool in = y >= 0 && y < from->height && z >= 0 &&
                                z < from->width;
                const real *pixel =
                    in ? x->out + ((size_t)(b * from->tokens) +
                                   (size_t)(y * from->width + z)) *
                                      (size_t)from->channels +
                             (size_t)(group * per_group)
                       : NULL;
                for (int c = 0; c < per_group; c++)
                    to[c * k * k + tap] = in ? pixel[c] : 0;
            }
    }
}

static void forward_conv(RUN *r, const net_op *op, op_state *s)
{
    const op_state *x = &r->ops[op->input];
    const size_t groups = (size_t)op->groups, out = (size_t)op->channels;
    const size_t part = out / groups;
    const size_t in = r->n->tensors[op->weight].elements / out;
    fill_rows(r, s->out, s->rows, out, weight(r, op->bias));
    for (size_t g = 0; g < groups; g++) {
        im2col(r, op, x, (int)g, s->columns);
        gemm(false, true, s->rows, part, in, s->columns, in,
             weight(r, op->weight) + g * part * in, in, 1, s->out + g * part,
             out);
    }
}

#else
/* Straight from the definition, so that it can judge the float path. */
static void forward_conv(RUN *r, const net_op *op, op_state *s)
{
    const net_op *from = &r->n->ops[op->input];
    const real *x = r->ops[op->input].out, *w = weight(r, op->weight);
    const real *bias = weight(r, op->bias);
    const int inputs = from->channels / op->groups, k = op->kernel;
    PARALLEL
    for (size_t i = 0; i < s->elements; i++) {
        const int o = (int)(i % (size_t)op->channels);
        const int at = (int)(i / (size_t)op->channels);
        const int b = at / op->tokens, t = at % op->tokens;
        const int first = o / (op->channels / op->groups) * inputs;
        real sum = bias ? bias[o] : 0;
        for (int ky = 0; ky < k; ky++)
            for (int kx = 0; kx < k; kx++) {
                const int y = t / op->width * op->stride - op->pad + ky;
                const int z = t % op->width * op->stride - op->pad + kx;
                if (y < 0 || y >= from->height || z < 0 || z >= from->width)
                    continue;
                for (int c = 0; c < inputs; c++)
                    sum += w[((o * inputs + c) * k + ky) * k + kx] *
                           x[((size_t)(b * from->tokens) +
                              (size_t)(y * from->width + z)) *
                                 (size_t)from->channels +
                             (size_t)(first + c)];
            }
        s->out[i] = sum;
    }
}
#endif

/* Index, in the input's map, of one element of a patch, a merged token or a
 * slice. */
static size_t gathered(const net_op *op, const net_op *from, int t, int c)
{
    if (op->kind == NET_SLICE)
        return (size_t)t * (size_t)from->channels + (size_t)(op->first + c);
    const int ty = t / op->width, tx = t % op->width;
    int y, x, channel;
    if (op->kind == NET_PATCH) {
        channel = c / (op->kernel * op->kernel);
        y = ty * op->kernel + c / op->kernel % op->kernel;
        x = tx * op->kernel + c % op->kernel;
    } else { /* quarters (0,0) (1,0) (0,1) (1,1) as [row, column] */
        const int quarter = c / from->channels;
        channel = c % from->channels;
        y = 2 * ty + quarter % 2;
        x = 2 * tx + quarter / 2;
    }
    return (size_t)((y * from->width + x) * from->channels + channel);
}

static void gather(RUN *r, const net_op *op, const op_state *s, bool back)
{
    const net_op *from = &r->n->ops[op->input];
    const op_state *x = &r->ops[op->input];
    const size_t width = (size_t)op->channels;
    const size_t map = (size_t)from->tokens * (size_t)from->channels;
    real *dx = back ? gradient_to_add(r, op->input) : NULL;
    PARALLEL
    for (size_t at = 0; at < s->rows; at++) {
        const size_t base = at / (size_t)op->tokens * map;
        const int t = (int)(at % (size_t)op->tokens);
        for (size_t c = 0; c < width; c++) {
            const size_t i = base + gathered(op, from, t, (int)c);
            if (back) dx[i] += s->dout[at * width + c];
            else s->out[at * width + c] = x->out[i];
        }
    }
}

static void forward_add(RUN *r, const net_op *op, op_state *s)
{
    const real *x = r->ops[op->input].out, *y = r->ops[op->other].out;
    const real *scale = weight(r, op->weight);
    const size_t width = (size_t)op->channels;
    PARALLEL
    for (size_t i = 0; i < s->rows; i++)
        for (size_t c = 0; c < width; c++)
            s->out[i * width + c] =
                x[i * width + c] + (scale ? scale[c] : 1) * y[i * width + c];
}

static void backward_add(RUN *r, const net_op *op, op_state *s, real *gradient)
{
    const op_state *y = &r->ops[op->other];
    const real *scale = weight(r, op->weight);
    const size_t width = (size_t)op->channels;
    add_gradient(r, op->input, s->dout);
    if (!scale) {
        if (!y->shares) add_gradient(r, op->other, s->dout);
        return;
    }
    real *dscale = gradient + r->n->tensors[op->weight].offset;
    real *dy = gradient_to_add(r, op->other);
    memset(dscale, 0, width * sizeof *dscale);
    for (size_t i = 0; i < s->rows; i++)
        for (size_t c = 0; c < width; c++) {
            const real g = s->dout[i * width + c];
            dy[i * width + c] += scale[c] * g;
            dscale[c] += y->out[i * width + c] * g;
        }
}

/* Class token, positions, mask token: small maps, plain loops. */
static void forward_token(RUN *r, const net_op *op, op_state *s)
{
    const op_state *x = &r->ops[op->input];
    const real *w = weight(r, op->weight);
    const size_t width = (size_t)op->channels, tokens = (size_t)op->tokens;
    const size_t own = tokens - (size_t)r->n->ops[op->input].tokens;
    for (size_t i = 0; i < s->rows; i++) {
        const size_t b = i / tokens, t = i % tokens;
        real *y = s->out + i * width;
        if (op->kind == NET_TOKEN) {
            const real *from = t < own ? w + t * width
                                       : x->out + (b * (tokens - own) + t -
                                                   own) * width;
            memcpy(y, from, width * sizeof *y);
            continue;
        }
        const bool masked = op->kind == NET_MASK && r->mask && r->mask[i];
        memcpy(y, masked ? w : x->out + i * width, width * sizeof *y);
        for (size_t c = 0; op->kind == NET_POSITION && c < width; c++)
            y[c] += w[t * width + c];
    }
}

static void backward_token(RUN *r, const net_op *op, op_state *s,
                           real *gradient)
{
    real *from = gradient_to_add(r, op->input);
    const net_tensor *tensor = &r->n->tensors[op->weight];
    real *dw = gradient + tensor->offset;
    const size_t width = (size_t)op->channels, tokens = (size_t)op->tokens;
    const size_t own = tokens - (size_t)r->n->ops[op->input].tokens;
    memset(dw, 0, tensor->elements * sizeof *dw);
    for (size_t i = 0; i < s->rows; i++) {
        const size_t b = i / tokens, t = i % tokens;
        const bool masked = op->kind == NET_MASK && r->mask && r->mask[i];
        const bool in_front = op->kind == NET_TOKEN && t < own;
        real *dx = from + (op->kind == NET_TOKEN
                               ? b * (tokens - own) + (in_front ? 0 : t - own)
                               : i) * width;
        real *mine = op->kind == NET_POSITION || in_front ? dw + t * width : dw;
        const bool to_own = op->kind == NET_POSITION || masked || in_front;
        const bool to_x = op->kind == NET_TOKEN ? !in_front : !masked;
        for (size_t c = 0; c < width; c++) {
            if (to_own) mine[c] += s->dout[i * width + c];
            if (to_x) dx[c] += s->dout[i * width + c];
        }
    }
}

static void pool(RUN *r, const net_op *op, op_state *s, bool back)
{
    const op_state *x = &r->ops[op->input];
    const size_t width = (size_t)op->channels;
    const size_t tokens = (size_t)r->n->ops[op->input].tokens;
    const size_t first = (size_t)op->first;
    const size_t used = op->kind == NET_POOL_FIRST ? 1 : tokens - first;
    const real share = (real)1 / (real)used;
    real *dx = back ? gradient_to_add(r, op->input) : NULL;
    if (!back) memset(s->out, 0, s->elements * sizeof *s->out);
    for (size_t b = 0; b < (size_t)r->batch; b++)
        for (size_t t = 0; t < used; t++)
            for (size_t c = 0; c < width; c++) {
                const size_t i = (b * tokens + first + t) * width + c;
                if (back) dx[i] += share * s->dout[b * width + c];
                else s->out[b * width + c] += share * x->out[i];
            }
}

static void relu(RUN *r, const net_op *op, op_state *s, bool back)
{
    const op_state *x = &r->ops[op->input];
    real *dx = back ? gradient_to_add(r, op->input) : NULL;
    for (size_t i = 0; i < s->elements; i++)
        if (back) dx[i] += x->out[i] > 0 ? s->dout[i] : 0;
        else s->out[i] = x->out[i] > 0 ? x->out[i] : 0;
}

static void maxpool(RUN *r, const net_op *op, op_state *s)
{
    const net_op *from = &r->n->ops[op->input];
    const real *x = r->ops[op->input].out;
    const size_t width = (size_t)op->channels;
    PARALLEL
    for (size_t at = 0; at < s->rows; at++) {
        const int b = (int)at / op->tokens, t = (int)at % op->tokens;
        const int y0 = t / op->width * op->stride - op->pad;
        const int x0 = t % op->width * op->stride - op->pad;
        real *out = s->out + at * width;
        for (size_t c = 0; c < width; c++) out[c] = -(real)INFINITY;
        for (int y = y0; y < y0 + op->kernel; y++)
            for (int z = x0; z < x0 + op->kernel; z++) {
                if (y < 0 || y >= from->height || z < 0 || z >= from->width)
                    continue;
                const real *pixel =
                    x + (size_t)(b * from->tokens + y * from->width + z) * width;
                for (size_t c = 0; c < width; c++)
                    out[c] = pixel[c] > out[c] ? pixel[c] : out[c];
            }
    }
}

/* ---- the run ------------------------------------------------------------------------ */

/* Without training an activation's memory is handed on after its last reader. */
typedef struct spare {
    real *memory;
    size_t elements;
    int free_after; /* operation that reads it last                         */
} spare;

static int last_reader(const network *n, int i)
{
    int reader = i;
    for (int k = i + 1; k < n->count; k++)
        if (n->ops[k].input == i || n->ops[k].other == i) reader = k;
    return reader;
}

static real *activation(RUN *r, spare *pool_, int *count, int i)
{
    const size_t n = r->ops[i].elements;
    const int until = i == r->n->count - 1 ? r->n->count : last_reader(r->n, i);
    for (int k = 0; !r->training && k < *count; k++)
        if (pool_[k].free_after < i && pool_[k].elements >= n) {
            pool_[k].free_after = until;
            return pool_[k].memory;
        }
    real *x = numbers(r, n);
    pool_[(*count)++] = (spare){ x, n, until };
    return x;
}

/* A sum without a scale hands its gradient on as it is: its second summand, if
 * nothing else reads it, needs no copy.  That sum, or -1. */
static int shared_with(const network *n, int i)
{
    int readers = 0, reader = -1;
    for (int k = i + 1; k < n->count; k++) {
        readers += (n->ops[k].input == i) + (n->ops[k].other == i);
        if (n->ops[k].other == i && n->ops[k].kind == NET_ADD &&
            n->ops[k].weight < 0)
            reader = k;
    }
    return readers == 1 ? reader : -1;
}

/* From the last operation on: a sum's gradient is there before its summands'. */
static void open_gradients(RUN *r)
{
    for (int i = r->n->count - 1; i >= 0; i--) {
        const int sum = shared_with(r->n, i);
        r->ops[i].shares = sum >= 0;
        r->ops[i].dout = sum >= 0 ? r->ops[sum].dout
                                  : numbers(r, r->ops[i].elements);
    }
}

static int open_op(RUN *r, int i, spare *pool_, int *spares, error *e)
{
    const net_op *op = &r->n->ops[i];
    op_state *s = &r->ops[i];
    s->learned = op->weight >= 0 || op->parameters > 0 ||
                 (op->input >= 0 && r->ops[op->input].learned) ||
                 (op->other >= 0 && r->ops[op->other].learned);
    s->rows = (size_t)r->batch * (size_t)op->tokens;
    s->elements = s->rows * (size_t)op->channels;
    s->out = activation(r, pool_, spares, i);
    if (r->training && (op->kind == NET_CONV || op->kind == NET_MAXPOOL))
        return error_set(e, "a network with convolutions cannot be trained "
                            "here: they have no backward");
    if (op->kind == NET_CONV) {
#ifdef NET_FLOAT
        s->columns = numbers(r, s->rows * r->n->tensors[op->weight].elements /
                                    (size_t)op->channels);
#endif
    }
    return op->kind == NET_MECHANISM ? open_mechanism(r, op, s, e) : 0;
}

RUN *NAME(new)(const network *n, const real *weights, int batch, int threads,
               bool training, error *e)
{
    RUN *r = calloc(1, sizeof *r);
    spare *pool_ = calloc((size_t)n->count, sizeof *pool_);
    if (!r || !pool_) abort();
    *r = (RUN){ .n = n, .weights = weights, .batch = batch,
                .threads = threads, .training = training };
    r->ops = calloc((size_t)n->count, sizeof *r->ops);
    r->seconds = calloc((size_t)n->count, sizeof *r->seconds);
    if (!r->ops || !r->seconds) abort();
    int spares = 0, rc = 0;
    for (int i = 0; rc == 0 && i < n->count; i++)
        rc = open_op(r, i, pool_, &spares, e);
    if (rc == 0 && training) open_gradients(r);
    /* memory that was handed on is freed by its first owner alone */
    for (int i = 0; i < n->count; i++) {
        bool first = false;
        for (int k = 0; k < spares; k++)
            if (pool_[k].memory == r->ops[i].out) {
                first = pool_[k].elements != 0;
                pool_[k].elements = 0;
            }
        r->ops[i].owns = first;
    }
    free(pool_);
    if (rc == 0) return r;
    NAME(free)(r);
    return NULL;
}

void NAME(free)(RUN *r)
{
    if (!r) return;
    for (int i = 0; r->ops && i < r->n->count; i++) {
        op_state *s = &r->ops[i];
        const bool rows = r->n->ops[i].normalises;
        if (s->owns) free(s->out);
        if (!s->shares) free(s->dout);
        free(s->columns);
        for (int k = 0; k < ATT_SLOTS; k++) {
            if (!rows) free(s->slot[k]);
            free(s->dslot[k]);
        }
        for (int k = 0; k < ATT_EXTRAS; k++) free(s->extra[k]);
        att_plan_free(&s->plan);
    }
    free(r->ops);
    free(r->seconds);
    free(r);
}

static void forward_op(RUN *r, const net_op *op, op_state *s)
{
    switch (op->kind) {
    case NET_INPUT: break;
    case NET_LINEAR: forward_linear(r, op, s); break;
    case NET_CONV: forward_conv(r, op, s); break;
    case NET_PATCH:
    case NET_MERGE:
    case NET_SLICE: gather(r, op, s, false); break;
    case NET_MECHANISM: forward_mechanism(r, op, s); break;
    case NET_RELU: relu(r, op, s, false); break;
    case NET_MAXPOOL: maxpool(r, op, s); break;
    case NET_ADD: forward_add(r, op, s); break;
    case NET_TOKEN:
    case NET_POSITION:
    case NET_MASK: forward_token(r, op, s); break;
    case NET_POOL_MEAN:
    case NET_POOL_FIRST: pool(r, op, s, false); break;
    }
}

const real *NAME(forward)(RUN *r, const real *input, const unsigned char *mask)
{
    blas_threads(r->threads);
    r->mask = mask;
    memcpy(r->ops[0].out, input, r->ops[0].elements * sizeof *input);
    for (int i = 1; i < r->n->count; i++) {
        const double start = now();
        forward_op(r, &r->n->ops[i], &r->ops[i]);
        r->seconds[i] = now() - start;
    }
    return r->ops[r->n->count - 1].out;
}

static void backward_op(RUN *r, const net_op *op, op_state *s, real *gradient)
{
    switch (op->kind) {
    case NET_INPUT:
    case NET_CONV:
    case NET_MAXPOOL: break;
    case NET_LINEAR: backward_linear(r, op, s, gradient); break;
    case NET_PATCH:
    case NET_MERGE:
    case NET_SLICE: gather(r, op, s, true); break;
    case NET_MECHANISM: backward_mechanism(r, op, s, gradient); break;
    case NET_RELU: relu(r, op, s, true); break;
    case NET_ADD: backward_add(r, op, s, gradient); break;
    case NET_TOKEN:
    case NET_POSITION:
    case NET_MASK: backward_token(r, op, s, gradient); break;
    case NET_POOL_MEAN:
    case NET_POOL_FIRST: pool(r, op, s, true); break;
    }
}

void NAME(backward)(RUN *r, const real *dlast, real *gradient)
{
    const int end = r->n->count - 1;
    blas_threads(r->threads);
    for (int i = 0; i < r->n->tensor_count; i++) {
        const net_tensor *t = &r->n->tensors[i];
        if (t->fixed) memset(gradient + t->offset, 0, t->elements * sizeof(real));
    }
    for (int i = 0; i < end; i++) r->ops[i].written = r->ops[i].shares;
    memcpy(r->ops[end].dout, dlast, r->ops[end].elements * sizeof *dlast);
    for (int i = end; i > 0; i--) {
        if (!r->ops[i].learned) continue;
        if (i < end) gradient_to_add(r, i); /* zeros where nothing reads it */
        backward_op(r, &r->n->ops[i], &r->ops[i], gradient);
    }
}

void NAME(schedule)(RUN *r, int left, int total)
{
    for (int i = 0; i < r->n->count; i++) {
        const net_op *op = &r->n->ops[i];
        if (!op->normalises || !att_uses(op->mechanism, ATT_FIELD_iter))
            continue;
        att_problem *both[2] = { &r->ops[i].problem, &r->ops[i].plan.problem };
        for (int k = 0; k < 2; k++) {
            both[k]->iter = left;
            both[k]->total_step = total;
        }
    }
}

/* An extra output X_after is the next value of parameter X. */
void NAME(statistics)(const RUN *r, real *weights)
{
    for (int i = 0; i < r->n->count; i++) {
        const net_op *op = &r->n->ops[i];
        const op_state *s = &r->ops[i];
        for (int k = 0; op->normalises && k < s->extras; k++) {
            const char *name = s->extra_tensor[k].name;
            const char *after = strstr(name, "_after");
            for (int p = 0; after && p < op->parameters; p++) {
                if (op->parameter[p] < 0) continue;
                const net_tensor *t = &r->n->tensors[op->parameter[p]];
                const char *own = strrchr(t->name, '.') + 1;
                const size_t length = (size_t)(after - name);
                if (strlen(own) == length && !memcmp(own, name, length))
                    memcpy(weights + t->offset, s->extra[k],
                           t->elements * sizeof *weights);
            }
        }
    }
}

const real *NAME(activation)(const RUN *r, int op)
{
    return r->ops[op].out;
}

const real *NAME(slot)(const RUN *r, int op, enum att_slot slot)
{
    return r->ops[op].slot[slot];
}

const double *NAME(seconds)(const RUN *r)
{
    return r->seconds;
}

size_t NAME(bytes)(const RUN *r)
{
    return r->bytes;
}
