#include "fold.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORWARD = 1, BACKWARD };

typedef struct fold {
    const network *n;
    const float *weights;
    int *way;        /* of each operation: 0, FORWARD or BACKWARD          */
    double **affine; /* of each folded norm: a, then b                     */
} fold;

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* a and b of a norm in evaluation: what it makes of rows of 0 and 1.  NULL if a
 * third row says that it is no such map. */
static double *affine_of(const fold *f, const net_op *op)
{
    enum { ROWS = 3 };
    const size_t c = (size_t)op->channels;
    double *param[ATT_PARAMS] = {0};
    double *x = sure(calloc(2 * ROWS * c, sizeof *x)), *y = x + ROWS * c;
    double *ab = sure(malloc(2 * c * sizeof *ab));
    att_problem p = op->problem;
    bool affine = true;

    p.grid = (att_list){1, {ROWS}};
    p.mode = ATT_MODE_EVAL;
    att_ref ref = {.p = &p, .q = x, .o = y};
    for (int i = 0; i < op->parameters; i++) {
        if (op->parameter[i] < 0) continue;
        const net_tensor *t = &f->n->tensors[op->parameter[i]];
        param[i] = sure(malloc(t->elements * sizeof *param[i]));
        for (size_t k = 0; k < t->elements; k++)
            param[i][k] = f->weights[t->offset + k];
        ref.param[i] = param[i];
    }
    for (size_t k = 0; k < c; k++) {
        x[c + k] = 1;
        x[2 * c + k] = (double)(k % 7) - 2.5;
    }
    att_reference_forward(op->mechanism, &ref);
    for (size_t k = 0; k < c; k++) {
        const double b = y[k], a = y[c + k] - b;
        const double want = a * x[2 * c + k] + b;
        affine &= fabs(y[2 * c + k] - want) <= 1e-9 * (1 + fabs(want));
        ab[k] = a;
        ab[c + k] = b;
    }
    for (int i = 0; i < op->parameters; i++) free(param[i]);
    free(x);
    if (affine) return ab;
    free(ab);
    return NULL;
}

/* Are all readers of operation i linear layers, or pools read by such? */
static bool only_linear(const network *n, int i)
{
    bool any = false;
    for (int k = i + 1; k < n->count; k++) {
        const net_op *op = &n->ops[k];
        if (op->input != i && op->other != i) continue;
        const bool pool =
            op->kind == NET_POOL_MEAN || op->kind == NET_POOL_FIRST;
        if (op->other == i ||
            !(op->kind == NET_LINEAR || (pool && only_linear(n, k))))
            return false;
        any = true;
    }
    return any;
}

static bool sole_reader(const network *n, int i, int reader)
{
    for (int k = i + 1; k < n->count; k++)
        if (k != reader && (n->ops[k].input == i || n->ops[k].other == i))
            return false;
    return true;
}

static int decide(fold *f)
{
    int folded = 0;
    for (int i = 1; i < f->n->count; i++) {
        const net_op *op = &f->n->ops[i];
        if (op->share != NET_SHARE_NORM) continue;
        const enum net_kind before = f->n->ops[op->input].kind;
        if (only_linear(f->n, i))
            f->way[i] = FORWARD;
        else if ((before == NET_LINEAR || before == NET_CONV) &&
                 sole_reader(f->n, op->input, i))
            f->way[i] = BACKWARD;
        if (f->way[i] && !(f->affine[i] = affine_of(f, op))) f->way[i] = 0;
        folded += f->way[i] != 0;
    }
    return folded;
}

/* The folded norm that a linear layer reads, directly or through a pool. */
static int norm_before(const fold *f, int i)
{
    int from = f->n->ops[i].input;
    while (f->n->ops[from].kind == NET_POOL_MEAN ||
           f->n->ops[from].kind == NET_POOL_FIRST)
        from = f->n->ops[from].input;
    return f->way[from] == FORWARD ? from : -1;
}

/* The folded norm that alone reads a linear layer or convolution. */
static int norm_after(const fold *f, int i)
{
    for (int k = i + 1; k < f->n->count; k++)
        if (f->n->ops[k].input == i && f->way[k] == BACKWARD) return k;
    return -1;
}

static int copy_tensor(network *out, const net_tensor *t)
{
    out->tensors[out->tensor_count] = *t;
    out->tensors[out->tensor_count].offset = out->elements;
    out->elements += t->elements;
    return out->tensor_count++;
}

static int new_bias(network *out, const net_tensor *weight, int channels)
{
    net_tensor t = {.dims = 1,
                    .dim = {channels},
                    .elements = (size_t)channels,
                    .init = NET_INIT_ZERO};
    const size_t stem = strlen(weight->name) - strlen("weight");
    snprintf(t.name, sizeof t.name, "%.*sbias", (int)stem, weight->name);
    return copy_tensor(out, &t);
}

/* The operations that stay, renumbered, with their tensors; new linear layers
 * and convolutions have a bias. */
static void rebuild(const fold *f, network *out, int *to)
{
    const network *n = f->n;
    for (int i = 0; i < n->count; i++) {
        const net_op *op = &n->ops[i];
        if (f->way[i]) {
            to[i] = to[op->input];
            continue;
        }
        to[i] = out->count++;
        net_op *new = &out->ops[to[i]];
        *new = *op;
        if (op->input >= 0) new->input = to[op->input];
        if (op->other >= 0) new->other = to[op->other];
        if (op->weight >= 0)
            new->weight = copy_tensor(out, &n->tensors[op->weight]);
        if (op->bias >= 0)
            new->bias = copy_tensor(out, &n->tensors[op->bias]);
        else if ((op->kind == NET_LINEAR && norm_before(f, i) >= 0) ||
                 norm_after(f, i) >= 0)
            new->bias = new_bias(out, &n->tensors[op->weight], op->channels);
        for (int k = 0; k < op->parameters; k++)
            if (op->parameter[k] >= 0)
                new->parameter[k] =
                    copy_tensor(out, &n->tensors[op->parameter[k]]);
    }
}

/* W diag(a), c + W b. */
static void into_next(const double *ab, size_t in, size_t rows, float *w,
                      float *bias)
{
    for (size_t o = 0; o < rows; o++) {
        double sum = bias[o];
        for (size_t k = 0; k < in; k++) {
            sum += w[o * in + k] * ab[in + k];
            w[o * in + k] = (float)(w[o * in + k] * ab[k]);
        }
        bias[o] = (float)sum;
    }
}

/* diag(a) W, a c + b. */
static void into_previous(const double *ab, size_t in, size_t rows, float *w,
                          float *bias)
{
    for (size_t o = 0; o < rows; o++) {
        for (size_t k = 0; k < in; k++)
            w[o * in + k] = (float)(w[o * in + k] * ab[o]);
        bias[o] = (float)(bias[o] * ab[o] + ab[rows + o]);
    }
}

static void copy(const fold *f, int from, const network *out, int to,
                 float *weights)
{
    if (from < 0) return;
    const net_tensor *t = &f->n->tensors[from];
    memcpy(weights + out->tensors[to].offset, f->weights + t->offset,
           t->elements * sizeof *weights);
}

static void move_weights(const fold *f, const network *out, const int *to,
                         float *weights)
{
    for (int i = 0; i < f->n->count; i++) {
        const net_op *op = &f->n->ops[i];
        if (f->way[i]) continue;
        const net_op *new = &out->ops[to[i]];
        copy(f, op->weight, out, new->weight, weights);
        copy(f, op->bias, out, new->bias, weights);
        for (int k = 0; k < op->parameters; k++)
            copy(f, op->parameter[k], out, new->parameter[k], weights);
        if (op->kind != NET_LINEAR && op->kind != NET_CONV) continue;
        const int before = op->kind == NET_LINEAR ? norm_before(f, i) : -1;
        const int after = norm_after(f, i);
        const size_t rows = (size_t)op->channels;
        const net_tensor *w = &out->tensors[new->weight];
        if (before >= 0)
            into_next(f->affine[before], w->elements / rows, rows,
                      weights + w->offset,
                      weights + out->tensors[new->bias].offset);
        if (after >= 0)
            into_previous(f->affine[after], w->elements / rows, rows,
                          weights + w->offset,
                          weights + out->tensors[new->bias].offset);
    }
}

int net_fold(const network *n, const float *weights, network *out,
             float **folded)
{
    const size_t count = (size_t)n->count;
    fold f = {.n = n,
              .weights = weights,
              .way = sure(calloc(count, sizeof *f.way)),
              .affine = sure(calloc(count, sizeof *f.affine))};
    int *to = sure(calloc(count, sizeof *to));
    const int norms = decide(&f);

    *out = (network){.ops = sure(calloc(count, sizeof *out->ops))};
    out->tensors =
        sure(calloc((size_t)n->tensor_count + count, sizeof *out->tensors));
    rebuild(&f, out, to);
    *folded = sure(calloc(out->elements + 1, sizeof **folded));
    move_weights(&f, out, to, *folded);
    for (size_t i = 0; i < count; i++) free(f.affine[i]);
    free(f.affine);
    free(f.way);
    free(to);
    return norms;
}
