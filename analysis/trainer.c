#include "trainer.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/array.h"
#include "../harness/measure.h"
#include "../harness/stats.h"
#include "blas.h"

#define VALIDATION_SEED 900001
#define TRAINING_SEED   1000 /* + the run's seed                             */

const char *const train_task_name[3] = { "classify", "masked", "next" };

const train_options train_default = {
    .steps = 600,
    .batch = 32,
    .warmup = 50,
    .threads = 1,
    .rate = 2e-3,
    .decay = 0.05,
    .masked = 0.4,
};

enum train_task train_task_of(const data *d)
{
    return d->text ? TRAIN_NEXT : d->classes ? TRAIN_CLASSIFY : TRAIN_MASKED;
}

static void *allocate(size_t n, size_t size)
{
    void *p = aligned_alloc(ATT_ALIGN,
                            (n * size + ATT_ALIGN) / ATT_ALIGN * ATT_ALIGN);
    if (!p) abort();
    memset(p, 0, n * size);
    return p;
}

/* ---- batches ----------------------------------------------------------------------- */

/* Inputs and targets of one batch. */
typedef struct train_batch {
    int size, tokens, outputs;
    size_t input_elements;   /* of one sample                                */
    float *input;
    int *label;              /* [size], or [size][tokens] for bytes          */
    float *target;           /* [size][tokens][outputs] of TRAIN_MASKED      */
    unsigned char *mask;     /* [size][tokens]                               */
    int masked;              /* tokens, at least 1                           */
    float *bits;             /* [size][tokens] of TRAIN_NEXT                 */
    unsigned char *class_;
    float *dlogits;          /* [size][tokens or 1][outputs]                 */
} train_batch;

static train_batch *batch_new(const network *n, const vit_config *c, int size)
{
    train_batch *b = allocate(1, sizeof *b);
    const net_op *in = &n->ops[0], *out = &n->ops[n->count - 1];
    b->size = size;
    b->tokens = vit_tokens(c);
    b->outputs = out->channels;
    b->input_elements = (size_t)in->tokens * (size_t)in->channels;
    const size_t tokens = (size_t)size * (size_t)b->tokens;
    b->input = allocate((size_t)size * b->input_elements, sizeof(float));
    b->label = allocate(tokens, sizeof(int));
    b->target = allocate(tokens * (size_t)b->outputs, sizeof(float));
    b->mask = allocate(tokens, 1);
    b->bits = allocate(tokens, sizeof(float));
    b->class_ = allocate(tokens, 1);
    b->dlogits = allocate(tokens * (size_t)b->outputs, sizeof(float));
    return b;
}

static void batch_free(train_batch *b)
{
    if (!b) return;
    free(b->input);
    free(b->label);
    free(b->target);
    free(b->mask);
    free(b->bits);
    free(b->class_);
    free(b->dlogits);
    free(b);
}

/* Pixels of patch t, as [channel][y][x]: what the head restores. */
static void patch_of(const vit_config *c, const float *picture, int t,
                     float *out)
{
    const int side = c->image / c->patch;
    const int y0 = t / side * c->patch, x0 = t % side * c->patch;
    for (int k = 0; k < c->channels; k++)
        for (int y = 0; y < c->patch; y++)
            for (int x = 0; x < c->patch; x++)
                *out++ = picture[((y0 + y) * c->image + x0 + x) * c->channels +
                                 k];
}

/* The masks have a stream of their own, so that all models see the same ones. */
static void fill_masked(train_batch *b, const vit_config *c, double share,
                        uint64_t seed, uint64_t item, int i)
{
    uint64_t state = generate_state(seed ^ 0x6d61736bu, item);
    for (int t = 0; t < b->tokens; t++) {
        const size_t at = (size_t)(i * b->tokens + t);
        b->mask[at] = att_uniform(&state) < share;
        patch_of(c, b->input + (size_t)i * b->input_elements, t,
                 b->target + at * (size_t)b->outputs);
    }
}

static void fill_bytes(train_batch *b, const data *d, uint64_t seed,
                       uint64_t item, int i)
{
    const size_t n = (size_t)b->tokens;
    unsigned char *byte = malloc(2 * (n + 1));
    float *bits = malloc((n + 1) * sizeof *bits);
    if (!byte || !bits) abort();
    unsigned char *class_ = byte + n + 1;
    memset(class_, 0, n + 1);
    memset(bits, 0, (n + 1) * sizeof *bits);
    data_bytes(d, seed, item, n, byte, bits, class_);
    float *input = b->input + (size_t)i * b->input_elements;
    memset(input, 0, b->input_elements * sizeof *input);
    for (size_t t = 0; t < n; t++) {
        const size_t at = (size_t)i * n + t;
        input[t * 256 + byte[t]] = 1;
        b->label[at] = byte[t + 1];
        b->bits[at] = bits[t + 1];
        b->class_[at] = class_[t + 1];
    }
    free(byte);
    free(bits);
}

static void count_masked(train_batch *b)
{
    b->masked = 0;
    for (int i = 0; i < b->size * b->tokens; i++) b->masked += b->mask[i];
    if (b->masked == 0) b->masked = 1;
}

/* Samples first .. first + size - 1 of a stream. */
static void batch_fill(train_batch *b, const vit_config *c,
                       const train_options *o, const data *d, uint64_t seed,
                       uint64_t first, bool in_order)
{
    #pragma omp parallel for num_threads(o->threads)
    for (int i = 0; i < b->size; i++) {
        const uint64_t item = first + (uint64_t)i;
        if (o->task == TRAIN_NEXT) {
            fill_bytes(b, d, seed, item, i);
            continue;
        }
        b->label[i] = data_picture(d, seed, item, in_order,
                                   b->input + (size_t)i * b->input_elements);
        if (o->task == TRAIN_MASKED)
            fill_masked(b, c, o->masked, seed, item, i);
    }
    count_masked(b);
}

/* ---- losses --------------------------------------------------------------------------- */

/* -ln softmax(x)[label]; g = softmax - onehot, times scale, if wanted. */
static double cross_entropy(const float *x, int n, int label, double scale,
                            float *g)
{
    double max = x[0], sum = 0;
    for (int i = 1; i < n; i++) max = fmax(max, x[i]);
    for (int i = 0; i < n; i++) sum += exp(x[i] - max);
    for (int i = 0; g && i < n; i++)
        g[i] = (float)(scale * (exp(x[i] - max) / sum - (i == label)));
    return max + log(sum) - x[label];
}

/* Mean over the masked tokens of the whole batch and their pixels. */
static double squared_error(train_batch *b, int first, int size, const float *y)
{
    const size_t width = (size_t)b->outputs, tokens = (size_t)b->tokens;
    const double n = (double)b->masked * b->outputs;
    const float scale = (float)(2 / n);
    double sum = 0;
    for (size_t t = 0; t < (size_t)size * tokens; t++) {
        const size_t at = (size_t)first * tokens + t;
        const float *target = b->target + at * width;
        float *g = b->dlogits + at * width;
        memset(g, 0, width * sizeof *g);
        if (!b->mask[at]) continue;
        for (size_t k = 0; k < width; k++) {
            const float d = y[t * width + k] - target[k];
            g[k] = scale * d;
            sum += (double)d * d;
        }
    }
    return sum / n;
}

/* What samples first .. first + size - 1 add to the mean loss of the batch, with
 * outputs y; the gradient of these outputs goes to their place in dlogits. */
static double part_loss(train_batch *b, enum train_task task, int first,
                        int size, const float *y)
{
    if (task == TRAIN_MASKED) return squared_error(b, first, size, y);
    const int per = task == TRAIN_NEXT ? b->tokens : 1;
    const size_t width = (size_t)b->outputs;
    double sum = 0;
    for (int i = 0; i < size * per; i++) {
        const int row = first * per + i;
        sum += cross_entropy(y + (size_t)i * width, b->outputs, b->label[row],
                             1.0 / (b->size * per),
                             b->dlogits + (size_t)row * width);
    }
    return sum / (b->size * per);
}

/* ---- opening ----------------------------------------------------------------------------- */

/* Positions that start as sine and cosine of row and column, times 0.5: dim/4
 * angular frequencies pi / (1.5 (side/1.5)^(i / (dim/4 - 1))). */
static void sine_positions(const vit_config *c, float *p)
{
    const int tokens = vit_tokens(c), f = c->dim / 4;
    const int side = c->image / c->patch;
    for (int t = 0; t < tokens; t++)
        for (int i = 0; i < f; i++) {
            const double w = 3.14159265358979323846 /
                             (1.5 * pow(side / 1.5, (double)i / (f - 1)));
            const double y = w * (t / side), x = w * (t % side);
            float *at = p + (t + c->class_token) * c->dim + i;
            at[0] = (float)(0.5 * sin(y));
            at[f] = (float)(0.5 * cos(y));
            at[2 * f] = (float)(0.5 * sin(x));
            at[3 * f] = (float)(0.5 * cos(x));
        }
}

static int shape_model(trainer *t, error *e)
{
    vit_config *c = &t->options.model;
    const data *d = &t->train;
    if (d->text) {
        c->arch = VIT_BYTES;
        if (c->frames < 1) c->frames = 192;
        c->features = c->outputs = 256;
        c->pool = VIT_POOL_NONE;
        c->options.causal = (att_list){ 1, { 1 } };
    } else {
        c->arch = VIT_IMAGE;
        c->image = d->side;
        c->channels = d->channels;
        memcpy(c->mean, d->mean, sizeof c->mean);
        memcpy(c->deviation, d->deviation, sizeof c->deviation);
        c->mask_token = t->options.task == TRAIN_MASKED;
        c->pool = c->mask_token ? VIT_POOL_NONE : VIT_POOL_MEAN;
        c->outputs = c->mask_token ? c->patch * c->patch * c->channels
                                   : d->classes;
    }
    snprintf(c->task, sizeof c->task, "%s", train_task_name[t->options.task]);
    return vit_build(&t->network, c, e);
}

static int check_task(const trainer *t, error *e)
{
    const data *d = &t->train;
    const enum train_task task = t->options.task;
    if ((task == TRAIN_NEXT) != d->text)
        return error_set(e, "data set '%s' is of %s: use --task %s", d->name,
                         d->text ? "bytes" : "pictures",
                         train_task_name[train_task_of(d)]);
    const char *name = t->options.model.attention;
    const att_mechanism *m = att_find_mechanism(name);
    if (task == TRAIN_NEXT && m && !(m->traits & ATT_CAN_CAUSAL))
        return error_set(e, "attention '%s' has no causal form: it would see the "
                            "byte that it shall predict", name);
    if (task == TRAIN_CLASSIFY && d->classes < 2)
        return error_set(e, "data set '%s' has %s: use --task masked", d->name,
                         d->classes ? "one class" : "no labels");
    if (task == TRAIN_CLASSIFY && !t->test.classes)
        return error_set(e, "test set '%s' has no labels", t->test.name);
    const size_t context = (size_t)t->options.model.frames;
    if (d->kind == DATA_TEXT && (d->count <= context + 1 ||
                                 t->test.count <= context + 1))
        return error_set(e, "--context %zu: '%s' has %zu bytes, '%s' %zu; both "
                            "need more than the context", context, d->name,
                         d->count, t->test.name, t->test.count);
    if (t->test.classes > d->classes || t->test.text != d->text ||
        t->test.side != d->side || t->test.channels != d->channels)
        return error_set(e, "test set '%s' is of another kind than '%s'",
                         t->test.name, d->name);
    return 0;
}

/* A batch is worked through in parts, by a network for each thread.  Which
 * thread takes which part changes nothing: every part has a gradient of its own,
 * and they are added in order.
 *
 * A part's activations shall stay in the caches between forward and backward:
 * about this many tokens. */
enum { PART_TOKENS = 400 };

/* Samples of a part: a divisor of the batch, so that all parts are equal; there
 * is work for a few threads. */
static int part_size(const network *n, const vit_config *c, int batch)
{
    if (net_joins_batch(n)) return batch;
    int size = PART_TOKENS / vit_tokens(c);
    if (size > batch / 4) size = batch / 4;
    while (size > 1 && batch % size) size--;
    return size < 1 ? 1 : size;
}

/* Where the samples of a batch see each other, one part has all threads. */
static int open_runs(trainer *t, error *e)
{
    const train_options *o = &t->options;
    t->part = part_size(&t->network, &o->model, o->batch);
    t->parts = o->batch / t->part;
    const int count = t->parts < o->threads ? t->parts : o->threads;
    const int threads = net_joins_batch(&t->network) ? o->threads : 1;
    t->gradients = allocate((size_t)t->parts * t->network.elements,
                            sizeof *t->gradients);
    t->losses = allocate((size_t)t->parts, sizeof *t->losses);
    t->runs = allocate((size_t)count, sizeof *t->runs);
    while (t->run_count < count) {
        net_f32 *run = net_f32_new(&t->network, t->weights, t->part, threads,
                                   true, e);
        if (!run) return -1;
        t->runs[t->run_count++] = run;
    }
    return 0;
}

int trainer_open(trainer *t, const train_options *o, error *e)
{
    *t = (trainer){ .options = *o };
    if (data_open(&t->train, o->data, NULL, e) ||
        data_open(&t->test, o->test ? o->test : o->data, &t->train, e) ||
        check_task(t, e) || shape_model(t, e)) {
        trainer_close(t);
        return -1;
    }
    const size_t n = t->network.elements;
    t->weights = allocate(n, sizeof *t->weights);
    t->first = allocate(n, sizeof *t->first);
    t->second = allocate(n, sizeof *t->second);
    net_init(&t->network, o->seed + 1, t->weights);
    const net_tensor *positions = net_find(&t->network, "pos_embed");
    const vit_config *c = &t->options.model;
    if (positions && c->arch == VIT_IMAGE && c->dim % 4 == 0 && c->dim >= 8)
        sine_positions(c, t->weights + positions->offset);
    t->batch = batch_new(&t->network, c, o->batch);
    t->seconds = allocate((size_t)o->steps, sizeof *t->seconds);
    t->products = allocate((size_t)o->steps, sizeof *t->products);
    if (open_runs(t, e) == 0) return 0;
    trainer_close(t);
    return -1;
}

void trainer_close(trainer *t)
{
    for (int i = 0; i < t->run_count; i++) net_f32_free(t->runs[i]);
    free(t->runs);
    free(t->gradients);
    free(t->losses);
    free(t->seconds);
    free(t->products);
    batch_free(t->batch);
    free(t->weights);
    free(t->first);
    free(t->second);
    net_free(&t->network);
    data_close(&t->train);
    data_close(&t->test);
    *t = (trainer){ 0 };
}

/* ---- steps ---------------------------------------------------------------------------------- */

/* Linear warm-up, then a cosine to 0. */
static double rate(const train_options *o, int step)
{
    if (step < o->warmup) return o->rate * (step + 1) / o->warmup;
    const double done = (double)(step - o->warmup) /
                        fmax(1, o->steps - o->warmup);
    return o->rate * 0.5 * (1 + cos(3.14159265358979323846 * done));
}

typedef struct adamw {
    float rate, keep;   /* keep: 1 - rate * decay, or 1                      */
    float c1, c2;       /* of bias: 1 / (1 - beta^step)                      */
} adamw;

/* AdamW [loshchilov2019]: decay is apart from the gradient. */
static void adamw_tensor(const adamw *a, size_t n, const float *gradient,
                         float *restrict first, float *restrict second,
                         float *restrict weights)
{
    const float b1 = 0.9f, b2 = 0.999f, eps = 1e-8f;
    for (size_t i = 0; i < n; i++) {
        const float g = gradient[i];
        const float m = b1 * first[i] + (1 - b1) * g;
        const float v = b2 * second[i] + (1 - b2) * g * g;
        first[i] = m;
        second[i] = v;
        weights[i] = a->keep * weights[i] -
                     a->rate * (a->c1 * m) / (sqrtf(a->c2 * v) + eps);
    }
}

static void add_to(float *restrict x, const float *restrict y, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] += y[i];
}

/* Joins the gradients of the parts and moves the weights. */
static void update(trainer *t)
{
    const double lr = rate(&t->options, t->step);
    const double c1 = 1 - pow(0.9, t->step + 1), c2 = 1 - pow(0.999, t->step + 1);
    #pragma omp parallel for num_threads(t->options.threads) schedule(dynamic)
    for (int i = 0; i < t->network.tensor_count; i++) {
        const net_tensor *x = &t->network.tensors[i];
        const size_t at = x->offset, n = x->elements;
        float *gradient = t->gradients + at;
        if (x->fixed) continue;
        for (size_t k = 1; k < (size_t)t->parts; k++)
            add_to(gradient, gradient + k * t->network.elements, n);
        const adamw a = {
            .rate = (float)lr,
            .keep = (float)(x->decay ? 1 - lr * t->options.decay : 1),
            .c1 = (float)(1 / c1),
            .c2 = (float)(1 / c2),
        };
        adamw_tensor(&a, n, gradient, t->first + at, t->second + at,
                     t->weights + at);
    }
}

/* Loss and gradient of one part of the batch. */
static void work(trainer *t, net_f32 *run, int part)
{
    const enum train_task task = t->options.task;
    train_batch *b = t->batch;
    const net_op *last = &t->network.ops[t->network.count - 1];
    const int first = part * t->part;
    const unsigned char *mask =
        task == TRAIN_MASKED ? b->mask + first * b->tokens : NULL;
    const float *y = net_f32_forward(
        run, b->input + (size_t)first * b->input_elements, mask);
    t->losses[part] = part_loss(b, task, first, t->part, y);
    net_f32_backward(
        run, b->dlogits + (size_t)(first * last->tokens) * (size_t)b->outputs,
        t->gradients + (size_t)part * t->network.elements);
}

static void work_all(trainer *t)
{
    #pragma omp parallel for num_threads(t->run_count) schedule(static, 1)
    for (int i = 0; i < t->run_count; i++) {
        int part;
        for (;;) {
            #pragma omp atomic capture
            part = t->next_part++;
            if (part >= t->parts) break;
            work(t, t->runs[i], part);
        }
    }
}

/* Steps until progressive normalisations have come to their folding form: four
 * fifths of all, so that the last fifth trains what will be used. */
static void schedule(trainer *t)
{
    const int total = (4 * t->options.steps + 4) / 5;
    const int left = t->step < total ? total - t->step : 0;
    for (int i = 0; i < t->run_count; i++)
        net_f32_schedule(t->runs[i], left, total);
}

enum { PRODUCT = 1024 };

/* What the machine can do just now: it may be slower than a moment ago.  The
 * first of two products only wakes the threads of BLAS, while those of the step
 * before still spin. */
static void time_product(trainer *t)
{
    const size_t n = PRODUCT;
    float *a = allocate(3 * n * n, sizeof *a);
    for (size_t i = 0; i < 2 * n * n; i++) a[i] = 1 / (float)(i + 1);
    blas_threads(t->options.threads);
    double start = 0;
    for (int i = 0; i < 2; i++) {
        start = measure_now();
        blas_gemm_f32(false, true, n, n, n, a, n, a + n * n, n, 0,
                      a + 2 * n * n, n);
    }
    t->products[t->product_count++] = measure_now() - start;
    t->since_product = 0;
    free(a);
}

int trainer_step(trainer *t, error *e)
{
    const train_options *o = &t->options;
    if (t->since_product >= 1 || t->product_count == 0) time_product(t);
    const double start = measure_now();
    batch_fill(t->batch, &o->model, o, &t->train, TRAINING_SEED + o->seed,
               (uint64_t)t->step * (uint64_t)o->batch, false);
    schedule(t);
    t->next_part = 0;
    work_all(t);
    t->loss = 0;
    for (int i = 0; i < t->parts; i++) t->loss += t->losses[i];
    if (!isfinite(t->loss))
        return error_set(e, "the loss is not finite at step %d: training has "
                            "diverged; lower --rate (it is %g)", t->step,
                         o->rate);
    net_f32_statistics(t->runs[0], t->weights);
    update(t);
    t->step++;
    t->since_product += t->seconds[t->timed++] = measure_now() - start;
    return 0;
}

bool trainer_held_out(const trainer *t)
{
    return t->options.test || t->train.kind == DATA_PROCEDURAL;
}

/* ---- speed ------------------------------------------------------------------------------------- */

static double median(const double *x, int n)
{
    stats_summary all = { .median = NAN };
    if (n > 0) stats_summarise(x, n, &all);
    return all.median;
}

void trainer_speed(const trainer *t, train_speed *out)
{
    double macs = 0;
    for (int i = 0; i < t->network.count; i++) macs += net_macs(&t->network, i);
    const double step = median(t->seconds, t->timed);
    *out = (train_speed){
        .step = step,
        .images = t->options.batch / step,
        .flops = t->options.batch / step * 3 * 2 * macs,
        .sgemm = 2.0 * PRODUCT * PRODUCT * PRODUCT /
                 median(t->products, t->product_count),
    };
}

/* ---- evaluation -------------------------------------------------------------------------------- */

static void score_batch(train_batch *b, enum train_task task, const float *y,
                        train_score *s)
{
    const size_t width = (size_t)b->outputs;
    if (task == TRAIN_MASKED) {
        const double n = (double)b->masked * b->outputs;
        double mean = 0, square = 0;
        s->loss += squared_error(b, 0, b->size, y) * b->size;
        for (size_t i = 0; i < (size_t)(b->size * b->tokens) * width; i++)
            if (b->mask[i / width]) {
                mean += b->target[i] / n;
                square += (double)b->target[i] * b->target[i] / n;
            }
        s->variance += (square - mean * mean) * b->size;
        return;
    }
    const int per = task == TRAIN_NEXT ? b->tokens : 1;
    for (int i = 0; i < b->size * per; i++) {
        const float *x = y + (size_t)i * width;
        const double loss = cross_entropy(x, b->outputs, b->label[i], 0, NULL);
        s->loss += loss / per;
        int best = 0;
        for (int k = 1; k < b->outputs; k++)
            if (x[k] > x[best]) best = k;
        s->accuracy += (double)(best == b->label[i]) / per;
        if (task != TRAIN_NEXT) continue;
        s->bits += loss / log(2) / per;
        s->ideal += b->bits[i] / per;
        s->class_bits[b->class_[i]] += loss / log(2);
        s->class_ideal[b->class_[i]] += b->bits[i];
        s->class_count[b->class_[i]]++;
    }
}

int train_evaluate(const network *n, const vit_config *c, const float *weights,
                   const train_options *o, const data *test, int items,
                   train_score *out, error *e)
{
    *out = (train_score){ 0 };
    /* no record counts twice */
    if (test->kind == DATA_RECORDS && (size_t)items > test->count)
        items = (int)test->count;
    int size = items < 50 ? items : 50; /* all batches are equal */
    while (items % size) size--;
    net_f32 *run = net_f32_new(n, weights, size, o->threads, false, e);
    if (!run) return -1;
    train_batch *b = batch_new(n, c, size);
    for (int at = 0; at + size <= items; at += size) {
        batch_fill(b, c, o, test, VALIDATION_SEED, (uint64_t)at, true);
        const float *y = net_f32_forward(
            run, b->input, o->task == TRAIN_MASKED ? b->mask : NULL);
        score_batch(b, o->task, y, out);
        out->items += size;
    }
    batch_free(b);
    net_f32_free(run);
    const double k = out->items;
    out->loss /= k;
    out->accuracy /= k;
    out->variance /= k;
    out->bits /= k;
    out->ideal /= k;
    for (int i = 0; i < BYTE_CLASSES; i++) {
        const double count = (double)(out->class_count[i] ? out->class_count[i]
                                                          : 1);
        out->class_bits[i] /= count;
        out->class_ideal[i] /= count;
    }
    return 0;
}

int trainer_evaluate(trainer *t, int items, train_score *out, error *e)
{
    return train_evaluate(&t->network, &t->options.model, t->weights,
                          &t->options, &t->test, items, out, e);
}

/* ---- files ----------------------------------------------------------------------------------------- */

/* What has to be the same for a checkpoint to be continued. */
static void fingerprint(const trainer *t, char *out, size_t size)
{
    const train_options *o = &t->options;
    const vit_config *c = &o->model;
    const att_mechanism *m = att_find_mechanism(c->attention);
    int n = snprintf(
        out, size,
        "%s %s %s %s dim %d depth %d heads %d x %d mlp %d patch %d tokens %d "
        "steps %d batch %d rate %.9g decay %.9g warmup %d masked %.9g seed %llu "
        "elements %zu data %zu",
        o->data, train_task_name[o->task], c->attention, c->norm, c->dim,
        c->depth, c->heads, c->head_dim, c->mlp, c->patch, vit_tokens(c),
        o->steps, o->batch, o->rate, o->decay, o->warmup, o->masked,
        (unsigned long long)o->seed, t->network.elements, t->train.count);
    for (int f = 0; m && f < ATT_FIELD_COUNT && n < (int)size; f++) {
        char text[ATT_TEXT];
        const enum att_field field = (enum att_field)f;
        if (!att_uses(m, field) || att_is_default(&c->options, field)) continue;
        att_get(&c->options, field, text);
        n += snprintf(out + n, size - (size_t)n, " %s %s", att_fields[f].name,
                      text);
    }
    if (c->ln_eps != vit_default.ln_eps && n < (int)size)
        n += snprintf(out + n, size - (size_t)n, " norms' eps %.9g", c->ln_eps);
    if (c->tanh_gelu && n < (int)size)
        snprintf(out + n, size - (size_t)n, " tanh");
}

/* A path, and what else there is to say. */
enum { FINGERPRINT = 8192 };

static const char *const checkpoint_tensors[] = { "weights", "first", "second" };

int trainer_save(const trainer *t, const char *path, error *e)
{
    char options[FINGERPRINT], step[16];
    fingerprint(t, options, sizeof options);
    snprintf(step, sizeof step, "%d", t->step);
    const float *block[3] = { t->weights, t->first, t->second };
    archive_item items[3];
    for (int i = 0; i < 3; i++)
        items[i] = (archive_item){ .name = checkpoint_tensors[i],
                                   .type = ARRAY_F32, .dims = 1,
                                   .dim = { t->network.elements },
                                   .data = block[i] };
    const char *const notes[] = { "options", options, "step", step, NULL };
    return archive_write(path, items, 3, notes, e);
}

static int take_finite(const array *x, const char *path, const char *name,
                       float *out, error *e)
{
    array_to_float(x, out);
    for (size_t i = 0; i < x->elements; i++)
        if (!isfinite(out[i]))
            return error_set(e, "%s: tensor %s, element %zu is not finite; "
                                "remove the file to start anew", path, name, i);
    return 0;
}

int trainer_resume(trainer *t, const char *path, error *e)
{
    archive a;
    char options[FINGERPRINT];
    float *block[3] = { t->weights, t->first, t->second };
    if (archive_read(&a, path, e)) return -1;
    fingerprint(t, options, sizeof options);
    const char *theirs = archive_metadata(&a, "options");
    const char *step = archive_metadata(&a, "step");
    char *end = NULL;
    const long done = step ? strtol(step, &end, 10) : -1;
    int rc = 0;
    if (!theirs || !step || strcmp(theirs, options))
        rc = error_set(e, "%s: is the checkpoint of another training (%s); "
                          "remove it to start anew", path,
                       theirs ? theirs : "no options in it");
    else if (done < 0 || *end || done > t->options.steps)
        rc = error_set(e, "%s: step '%s' is not one of 0 to %d; remove the file "
                          "to start anew", path, step, t->options.steps);
    for (int i = 0; rc == 0 && i < 3; i++) {
        const array *x = archive_find(&a, checkpoint_tensors[i]);
        if (!x || x->elements != t->network.elements)
            rc = error_set(e, "%s: tensor %s is missing or has not %zu "
                              "elements; remove the file to start anew", path,
                           checkpoint_tensors[i], t->network.elements);
        else rc = take_finite(x, path, checkpoint_tensors[i], block[i], e);
    }
    if (rc == 0) t->step = (int)done;
    archive_free(&a);
    return rc;
}

int trainer_write(const trainer *t, const char *path, error *e)
{
    const train_options *o = &t->options;
    char text[6][32];
    snprintf(text[0], sizeof text[0], "%d", o->steps);
    snprintf(text[1], sizeof text[1], "%d", o->batch);
    snprintf(text[2], sizeof text[2], "%g", o->rate);
    snprintf(text[3], sizeof text[3], "%g", o->decay);
    snprintf(text[4], sizeof text[4], "%llu", (unsigned long long)o->seed);
    char name[NAME_MAX + 1];
    const char *const notes[] = { "train_data", data_label(o->data, name),
                                  "train_steps", text[0], "train_batch",
                                  text[1], "train_rate", text[2], "train_decay",
                                  text[3], "train_seed", text[4], NULL };
    return model_write(path, &o->model, &t->network, t->weights, notes, e);
}
