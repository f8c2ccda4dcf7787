#include "trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/array.h"

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

static int masked_tokens(const train_batch *b)
{
    int n = 0;
    for (int i = 0; i < b->size * b->tokens; i++) n += b->mask[i];
    return n ? n : 1;
}

/* Mean over masked tokens and their pixels. */
static double squared_error(train_batch *b, const float *y)
{
    const size_t width = (size_t)b->outputs;
    const double n = (double)masked_tokens(b) * b->outputs;
    double sum = 0;
    for (size_t at = 0; at < (size_t)(b->size * b->tokens); at++)
        for (size_t k = 0; k < width; k++) {
            const double d = b->mask[at]
                                 ? y[at * width + k] - b->target[at * width + k]
                                 : 0;
            b->dlogits[at * width + k] = (float)(2 * d / n);
            sum += d * d;
        }
    return sum / n;
}

/* Mean loss of the batch; the gradient of the outputs goes to dlogits. */
static double batch_loss(train_batch *b, enum train_task task, const float *y,
                         int threads)
{
    if (task == TRAIN_MASKED) return squared_error(b, y);
    const int rows = b->size * (task == TRAIN_NEXT ? b->tokens : 1);
    const size_t width = (size_t)b->outputs;
    double *loss = malloc((size_t)rows * sizeof *loss), sum = 0;
    if (!loss) abort();
    #pragma omp parallel for num_threads(threads)
    for (int i = 0; i < rows; i++)
        loss[i] = cross_entropy(y + (size_t)i * width, b->outputs, b->label[i],
                                1.0 / rows, b->dlogits + (size_t)i * width);
    for (int i = 0; i < rows; i++) sum += loss[i] / rows;
    free(loss);
    return sum;
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
    if (task == TRAIN_CLASSIFY && d->classes < 2)
        return error_set(e, "data set '%s' has no labels: use --task masked",
                         d->name);
    if (t->test.classes > d->classes || t->test.text != d->text ||
        t->test.side != d->side || t->test.channels != d->channels)
        return error_set(e, "test set '%s' is of another kind than '%s'",
                         t->test.name, d->name);
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
    t->gradient = allocate(n, sizeof *t->gradient);
    t->first = allocate(n, sizeof *t->first);
    t->second = allocate(n, sizeof *t->second);
    net_init(&t->network, o->seed + 1, t->weights);
    const net_tensor *positions = net_find(&t->network, "pos_embed");
    const vit_config *c = &t->options.model;
    if (positions && c->arch == VIT_IMAGE && c->dim % 4 == 0 && c->dim >= 8)
        sine_positions(c, t->weights + positions->offset);
    t->batch = batch_new(&t->network, c, o->batch);
    t->run = net_f32_new(&t->network, t->weights, o->batch, o->threads, true, e);
    if (t->run) return 0;
    trainer_close(t);
    return -1;
}

void trainer_close(trainer *t)
{
    net_f32_free(t->run);
    batch_free(t->batch);
    free(t->weights);
    free(t->gradient);
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

/* AdamW [loshchilov2019]: decay is apart from the gradient. */
static void adamw(trainer *t)
{
    const double b1 = 0.9, b2 = 0.999, eps = 1e-8;
    const double lr = rate(&t->options, t->step);
    const double c1 = 1 - pow(b1, t->step + 1), c2 = 1 - pow(b2, t->step + 1);
    for (int i = 0; i < t->network.tensor_count; i++) {
        const net_tensor *x = &t->network.tensors[i];
        if (x->fixed) continue;
        const double keep = x->decay ? 1 - lr * t->options.decay : 1;
        for (size_t k = x->offset; k < x->offset + x->elements; k++) {
            const double g = t->gradient[k];
            const double m = b1 * t->first[k] + (1 - b1) * g;
            const double v = b2 * t->second[k] + (1 - b2) * g * g;
            t->first[k] = (float)m;
            t->second[k] = (float)v;
            t->weights[k] = (float)(keep * t->weights[k] -
                                    lr * (m / c1) / (sqrt(v / c2) + eps));
        }
    }
}

int trainer_step(trainer *t, error *e)
{
    const train_options *o = &t->options;
    train_batch *b = t->batch;
    batch_fill(b, &o->model, o, &t->train, TRAINING_SEED + o->seed,
               (uint64_t)t->step * (uint64_t)o->batch, false);
    const float *y = net_f32_forward(
        t->run, b->input, o->task == TRAIN_MASKED ? b->mask : NULL);
    t->loss = batch_loss(b, o->task, y, o->threads);
    if (!isfinite(t->loss))
        return error_set(e, "the loss is not finite at step %d: training has "
                            "diverged; lower --rate", t->step);
    net_f32_backward(t->run, b->dlogits, t->gradient);
    net_f32_statistics(t->run, t->weights);
    adamw(t);
    t->step++;
    return 0;
}

/* ---- evaluation -------------------------------------------------------------------------------- */

static void score_batch(train_batch *b, enum train_task task, const float *y,
                        train_score *s)
{
    const size_t width = (size_t)b->outputs;
    if (task == TRAIN_MASKED) {
        const double n = (double)masked_tokens(b) * b->outputs;
        double mean = 0, square = 0;
        s->loss += squared_error(b, y) * b->size;
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
    const int size = items < o->batch ? items : o->batch;
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
    snprintf(out, size,
             "%s %s %s dim %d depth %d heads %d x %d mlp %d steps %d batch %d "
             "rate %g decay %g warmup %d seed %llu elements %zu",
             o->data, train_task_name[o->task], c->attention, c->dim, c->depth,
             c->heads, c->head_dim, c->mlp, o->steps, o->batch, o->rate,
             o->decay, o->warmup, (unsigned long long)o->seed,
             t->network.elements);
}

static const char *const checkpoint_tensors[] = { "weights", "first", "second" };

int trainer_save(const trainer *t, const char *path, error *e)
{
    char options[512], step[16];
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

int trainer_resume(trainer *t, const char *path, error *e)
{
    archive a;
    char options[512];
    float *block[3] = { t->weights, t->first, t->second };
    if (archive_read(&a, path, e)) return -1;
    fingerprint(t, options, sizeof options);
    const char *theirs = archive_metadata(&a, "options");
    const char *step = archive_metadata(&a, "step");
    int rc = 0;
    if (!theirs || !step || strcmp(theirs, options))
        rc = error_set(e, "%s: is the checkpoint of another training (%s); "
                          "remove it to start anew", path,
                       theirs ? theirs : "no options in it");
    for (int i = 0; rc == 0 && i < 3; i++) {
        const array *x = archive_find(&a, checkpoint_tensors[i]);
        if (!x || x->elements != t->network.elements)
            rc = error_set(e, "%s: tensor %s is missing or has the wrong size",
                           path, checkpoint_tensors[i]);
        else array_to_float(x, block[i]);
    }
    if (rc == 0) t->step = (int)strtol(step, NULL, 10);
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
    const char *name = strrchr(o->data, '/');
    const char *const notes[] = { "train_data", name ? name + 1 : o->data,
                                  "train_steps", text[0], "train_batch",
                                  text[1], "train_rate", text[2], "train_decay",
                                  text[3], "train_seed", text[4], NULL };
    return model_write(path, &o->model, &t->network, t->weights, notes, e);
}
