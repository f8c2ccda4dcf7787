/* training.c - what `attnbench train` rests on: gradients of whole models
 * against central differences, the procedural data against reference values,
 * training that can be killed and repeated, and data that are not what they say.
 */
#include "test.h"

#include "../analysis/data.h"
#include "../analysis/generate.h"
#include "../analysis/trainer.h"
#include "../harness/shapes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static bool quick;

/* ---- a small model with a loss, in double ---------------------------------------- */

enum { BATCH = 3, MOST_OUTPUTS = 8 };

typedef struct lab {
    enum train_task task;
    vit_config c;
    network n;
    net_f64 *run;
    int rows, outputs; /* of the last activation                            */
    double *w, *gradient, *input, *dlast, *target;
    float *w32;
    unsigned char *mask;
} lab;

static void lab_close(lab *l)
{
    net_f64_free(l->run);
    net_free(&l->n);
    free(l->w);
    free(l->w32);
    free(l->gradient);
    free(l->input);
    free(l->dlast);
    free(l->target);
    free(l->mask);
    *l = (lab){ 0 };
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* Nothing at its start value, where much would cancel or be 0; variances stay
 * positive.  Numbers that float holds, so that both precisions see the same. */
static void random_weights(lab *l, uint64_t seed)
{
    l->w = calloc(l->n.elements, sizeof *l->w);
    l->w32 = calloc(l->n.elements, sizeof *l->w32);
    l->gradient = calloc(l->n.elements, sizeof *l->gradient);
    net_init(&l->n, seed, l->w32);
    for (int i = 0; i < l->n.tensor_count; i++) {
        const net_tensor *t = &l->n.tensors[i];
        for (size_t k = t->offset; k < t->offset + t->elements; k++) {
            if (!t->fixed) l->w32[k] += (float)(0.3 * att_normal(&seed));
            else if (ends_with(t->name, "var"))
                l->w32[k] = 0.5f + (float)att_uniform(&seed);
            l->w[k] = l->w32[k];
        }
    }
}

static void random_batch(lab *l, uint64_t seed)
{
    const net_op *in = &l->n.ops[0], *out = &l->n.ops[l->n.count - 1];
    const size_t n = (size_t)(BATCH * in->tokens * in->channels);
    l->rows = BATCH * out->tokens;
    l->outputs = out->channels;
    const size_t m = (size_t)(l->rows * l->outputs);
    l->input = calloc(n, sizeof *l->input);
    l->dlast = calloc(m, sizeof *l->dlast);
    l->target = calloc(m, sizeof *l->target);
    l->mask = calloc((size_t)(BATCH * vit_tokens(&l->c)), 1);
    for (size_t i = 0; i < n; i++) l->input[i] = (float)att_normal(&seed);
    if (l->task == TRAIN_MASKED) {
        for (size_t i = 0; i < m; i++) l->target[i] = att_normal(&seed);
        for (int i = 0; i < l->rows; i++) l->mask[i] = att_uniform(&seed) < 0.4;
    } else /* one of the outputs is right */
        for (int i = 0; i < l->rows; i++)
            l->target[i * l->outputs +
                      (int)(att_uniform(&seed) * l->outputs)] = 1;
}

/* 0, or -1 with why this mechanism cannot be trained so. */
static int lab_open(lab *l, const att_mechanism *m, const att_problem *options,
                    const char *norm, enum train_task task, error *e)
{
    *l = (lab){ .task = task, .c = vit_default };
    vit_config *c = &l->c;
    c->options = *options;
    c->options.tokens_k = 0;
    c->heads = m->traits & ATT_ONE_WIDTH ? 1 : options->heads > 3 ? 2
                                                                 : options->heads;
    c->head_dim = options->head_dim;
    c->dim = 8;
    c->depth = 2;
    c->mlp = 6;
    c->image = 8;
    c->patch = 2;
    c->outputs = 5;
    snprintf(c->attention, sizeof c->attention, "%s", m->name);
    snprintf(c->norm, sizeof c->norm, "%s", norm);
    if (task == TRAIN_MASKED) {
        c->mask_token = true;
        c->pool = VIT_POOL_NONE;
        c->outputs = c->patch * c->patch;
    }
    if (task == TRAIN_NEXT) {
        c->arch = VIT_BYTES;
        c->frames = 12;
        c->features = c->outputs;
        c->pool = VIT_POOL_NONE;
        c->options.causal = (att_list){ 1, { 1 } };
        if (!(m->traits & ATT_CAN_CAUSAL))
            return error_set(e, "has no causal form");
    } else c->options.causal = (att_list){ 0 };
    if (vit_build(&l->n, c, e)) return -1;
    random_weights(l, 5);
    random_batch(l, 11);
    l->run = net_f64_new(&l->n, l->w, BATCH, 1, true, e);
    if (!l->run) {
        lab_close(l);
        return -1;
    }
    net_f64_schedule(l->run, 3, 10);
    return 0;
}

/* Cross entropy, or squared error of the masked tokens; with its gradient. */
static double loss_of(lab *l, const double *y)
{
    double loss = 0, masked = 0;
    for (int i = 0; i < l->rows; i++) masked += l->mask[i];
    for (int i = 0; i < l->rows; i++) {
        const double *x = y + i * l->outputs, *t = l->target + i * l->outputs;
        double *g = l->dlast + i * l->outputs, sum = 0;
        for (int k = 0; k < l->outputs; k++) sum += exp(x[k]);
        for (int k = 0; k < l->outputs; k++)
            if (l->task == TRAIN_MASKED) {
                const double d = l->mask[i] ? x[k] - t[k] : 0;
                loss += d * d / (masked * l->outputs);
                g[k] = 2 * d / (masked * l->outputs);
            } else {
                loss += t[k] * (log(sum) - x[k]) / l->rows;
                g[k] = (exp(x[k]) / sum - t[k]) / l->rows;
            }
    }
    return loss;
}

static double lab_loss(lab *l)
{
    return loss_of(l, net_f64_forward(l->run, l->input, l->mask));
}

/* ---- gradients ------------------------------------------------------------------- */

static double norm_of(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sqrt(sum);
}

/* Slope of the loss at w along u. */
static double slope(lab *l, const net_tensor *t, const double *u, double h)
{
    double *w = l->w + t->offset, value[2];
    double *kept = malloc(t->elements * sizeof *kept);
    memcpy(kept, w, t->elements * sizeof *kept);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < t->elements; i++)
            w[i] = kept[i] + (side ? h : -h) * u[i];
        value[side] = lab_loss(l);
    }
    memcpy(w, kept, t->elements * sizeof *w);
    free(kept);
    return (value[1] - value[0]) / (2 * h);
}

typedef struct tally {
    int compared, kinks;
    double worst; /* relative error                                         */
} tally;

/* Mechanisms whose definition takes some quantity for constant in its gradient:
 * that is not the slope of the loss.  NULL, or which. */
static const char *detached(const att_mechanism *m)
{
    return strcmp(m->name, "performer") ? NULL
                                        : "the maxima of the exponents";
}

/* Slopes of different steps that differ mean a kink between them (relu, a
 * maximum, a shortest path), where there is nothing to compare. */
static void check_slope(lab *l, const net_tensor *t, const double *u,
                        double expected, double scale, tally *c)
{
    const double tolerance = 1e-6, h = 1e-5, s = slope(l, t, u, h);
    const double off = fabs(s - expected) / scale;
    if (off > tolerance) {
        const double closer = slope(l, t, u, h / 8);
        const double still = fabs(closer - expected) / scale;
        if (still > tolerance && fabs(closer - s) / scale <= 0.1 * still)
            fail_msg("%s, %s, %s: gradient of %s is off by %.3g (%.9g, central "
                     "differences say %.9g)", l->c.attention, l->c.norm,
                     train_task_name[l->task], t->name, still, expected, closer);
        if (still > tolerance) {
            c->kinks++;
            return;
        }
    }
    c->compared++;
    if (off <= tolerance) c->worst = fmax(c->worst, off);
}

/* Every tensor along two random directions, which see all of its elements, and
 * some elements alone. */
static void check_gradients(lab *l, tally *c)
{
    uint64_t seed = 3;
    lab_loss(l);
    net_f64_backward(l->run, l->dlast, l->gradient);
    const double all = norm_of(l->gradient, l->n.elements);
    assert_true(all > 0 && isfinite(all));
    for (int i = 0; i < l->n.tensor_count; i++) {
        const net_tensor *t = &l->n.tensors[i];
        const double *g = l->gradient + t->offset;
        const double scale = fmax(norm_of(g, t->elements), 1e-2 * all);
        double *u = calloc(t->elements, sizeof *u);
        for (int k = 0; !t->fixed && k < (quick ? 2 : 6); k++) {
            const bool whole = k < 2;
            const size_t one = att_random(&seed) % t->elements;
            double expected = whole ? 0 : g[one];
            for (size_t j = 0; j < t->elements; j++) {
                u[j] = whole ? 1 - 2 * (double)(att_random(&seed) & 1) : j == one;
                if (whole) expected += u[j] * g[j];
            }
            check_slope(l, t, u, expected, whole ? scale * 3 : scale, c);
        }
        free(u);
    }
}

/* The float network on the same numbers: gradients of all tensors. */
static void check_float(lab *l)
{
    error e;
    const net_op *in = &l->n.ops[0];
    const size_t n = (size_t)(BATCH * in->tokens * in->channels);
    const size_t m = (size_t)(l->rows * l->outputs);
    float *input = malloc(n * sizeof *input), *dlast = malloc(m * sizeof *dlast);
    float *gradient = calloc(l->n.elements, sizeof *gradient);
    net_f32 *run = net_f32_new(&l->n, l->w32, BATCH, 2, true, &e);
    if (!run) fail_msg("%s: %s", l->c.attention, e.text);
    net_f32_schedule(run, 3, 10);
    for (size_t i = 0; i < n; i++) input[i] = (float)l->input[i];
    lab_loss(l);
    for (size_t i = 0; i < m; i++) dlast[i] = (float)l->dlast[i];
    net_f64_backward(l->run, l->dlast, l->gradient);
    net_f32_forward(run, input, l->mask);
    net_f32_backward(run, dlast, gradient);
    const double all = norm_of(l->gradient, l->n.elements);
    for (int i = 0; i < l->n.tensor_count; i++) {
        const net_tensor *t = &l->n.tensors[i];
        const double *g = l->gradient + t->offset;
        double off = 0;
        for (size_t k = 0; k < t->elements; k++)
            off += pow(gradient[t->offset + k] - g[k], 2);
        off = sqrt(off) / fmax(norm_of(g, t->elements), 1e-2 * all);
        if (!t->fixed && !(off < 5e-3))
            fail_msg("%s, %s, %s: gradient of %s in float is off by %.3g",
                     l->c.attention, l->c.norm, train_task_name[l->task], t->name,
                     off);
    }
    net_f32_free(run);
    free(input);
    free(dlast);
    free(gradient);
}

/* Problems that the mechanism is checked on elsewhere lend their options; the
 * first from number `from` on that makes a model. */
static int open_some(lab *l, const att_mechanism *m, const shapes *s, int from,
                     const char *norm, enum train_task task, error *e)
{
    for (int i = 0; i < s->count; i++) {
        const att_problem *p = &s->item[(from + i) % s->count].problem;
        if (lab_open(l, m, p, norm, task, e) == 0) return 0;
    }
    return -1;
}

/* What takes a mechanism out of a transformer's slot: volumes alone, or fewer
 * tokens than came in. */
static bool fits(const att_mechanism *m, const shapes *s)
{
    const att_problem *p = &s->item[0].problem;
    att_shape o;
    att_shape_of(m, p, ATT_O, &o);
    const unsigned grids = m->traits & (ATT_IS_1D | ATT_IS_2D | ATT_IS_3D);
    return grids != ATT_IS_3D && (size_t)o.tokens == att_tokens(p);
}

static bool takes_bytes(const att_mechanism *m)
{
    const bool sequences = m->traits & ATT_IS_1D ||
                           !(m->traits & (ATT_IS_2D | ATT_IS_3D));
    return sequences && m->traits & ATT_CAN_CAUSAL;
}

static void whole_model(void **state)
{
    static const char *const norms[] = { "layernorm", "repbn", "prepbn" };
    const att_mechanism *m = *state;
    shapes s;
    error e = { "" };
    tally c = { 0 };
    int tasks = 0;
    assert_int_equal(shapes_make(&s, m, SHAPES_TINY, &e), 0);
    for (int k = 0; k < 9; k++) {
        lab l;
        const enum train_task task = (enum train_task)(k / 3);
        if (open_some(&l, m, &s, 7 * k, norms[k % 3], task, &e)) {
            if (k % 3 == 0)
                printf("%s %s: not for task %s: %s\n",
                       fits(m, &s) ? "     " : "skip", m->name,
                       train_task_name[task], e.text);
            continue;
        }
        tasks |= 1 << task;
        if (!detached(m)) check_gradients(&l, &c);
        check_float(&l);
        lab_close(&l);
    }
    const bool here = fits(m, &s);
    shapes_free(&s);
    if (detached(m))
        printf("%-16s no slopes: its gradient takes %s for constant\n", m->name,
               detached(m));
    else
        printf("%-16s %d slopes, %d near a kink, largest error %.2g\n", m->name,
               c.compared, c.kinks, c.worst);
    if (!tasks && !here) skip();
    assert_true(tasks & 1 << TRAIN_CLASSIFY && tasks & 1 << TRAIN_MASKED);
    assert_int_equal(!!(tasks & 1 << TRAIN_NEXT), takes_bytes(m));
    if (c.kinks > c.compared / 5)
        fail_msg("%d of %d slopes near a kink", c.kinks, c.compared);
}

/* ---- the trainer's own step ------------------------------------------------------- */

static train_options small(const char *name)
{
    train_options o = train_default;
    o.model = vit_default;
    o.model.options = att_problem_default;
    o.model.dim = 16;
    o.model.depth = 2;
    o.model.heads = 2;
    o.model.head_dim = 8;
    o.model.mlp = 24;
    o.model.frames = 40;
    o.data = name;
    o.steps = 10;
    o.warmup = 2;
    o.batch = 6;
    o.threads = 2;
    o.seed = 4;
    data d;
    error e;
    if (data_open(&d, name, NULL, &e)) fail_msg("%s", e.text);
    o.task = train_task_of(&d);
    data_close(&d);
    return o;
}

static void open_or_fail(trainer *t, const train_options *o)
{
    error e;
    if (trainer_open(t, o, &e)) fail_msg("%s", e.text);
}

static void steps_or_fail(trainer *t, int until)
{
    error e;
    while (t->step < until)
        if (trainer_step(t, &e)) fail_msg("%s", e.text);
}

/* The batch that step 0 is defined to see: samples 0 .. of stream 1000 + seed. */
static void same_batch(lab *l, const train_options *o, const data *d)
{
    const size_t n = (size_t)(l->n.ops[0].tokens * l->n.ops[0].channels);
    const int tokens = vit_tokens(&l->c), per = l->rows / o->batch;
    const uint64_t stream = 1000 + o->seed;
    float *pixels = calloc(n, sizeof *pixels);
    for (int b = 0; b < o->batch; b++) {
        double *input = l->input + (size_t)b * n;
        double *target = l->target + b * per * l->outputs;
        if (o->task == TRAIN_NEXT) {
            unsigned char byte[64], class_[64];
            float bits[64];
            data_bytes(d, stream, (uint64_t)b, (size_t)tokens, byte, bits,
                       class_);
            for (int i = 0; i < tokens; i++) {
                input[i * 256 + byte[i]] = 1;
                target[i * 256 + byte[i + 1]] = 1;
            }
            continue;
        }
        const int label = data_picture(d, stream, (uint64_t)b, false, pixels);
        for (size_t i = 0; i < n; i++) input[i] = pixels[i];
        if (o->task == TRAIN_CLASSIFY) {
            target[label] = 1;
            continue;
        }
        uint64_t state = generate_state(stream ^ 0x6d61736bu, (uint64_t)b);
        const int side = d->side, patch = l->c.patch;
        for (int i = 0; i < tokens; i++) {
            l->mask[b * tokens + i] = att_uniform(&state) < o->masked;
            for (int k = 0; k < patch * patch; k++)
                target[i * patch * patch + k] =
                    pixels[(i / (side / patch) * patch + k / patch) * side +
                           i % (side / patch) * patch + k % patch];
        }
    }
    free(pixels);
}

/* Loss and gradient of a step, in parts and threads and float, against one
 * network in double with the loss of this file. */
static void a_step(const char *name, const char *norm)
{
    train_options o = small(name);
    error e;
    trainer t;
    snprintf(o.model.norm, sizeof o.model.norm, "%s", norm);
    open_or_fail(&t, &o);
    lab l = { .task = o.task, .c = t.options.model };
    const net_op *in = &t.network.ops[0];
    const net_op *out = &t.network.ops[t.network.count - 1];
    const size_t n = t.network.elements;
    assert_int_equal(vit_build(&l.n, &l.c, &e), 0);
    l.rows = o.batch * out->tokens;
    l.outputs = out->channels;
    l.input = calloc((size_t)(o.batch * in->tokens * in->channels),
                     sizeof *l.input);
    l.target = calloc((size_t)(l.rows * l.outputs), sizeof *l.target);
    l.dlast = calloc((size_t)(l.rows * l.outputs), sizeof *l.dlast);
    l.mask = calloc((size_t)(o.batch * vit_tokens(&l.c)), 1);
    l.w = calloc(n, sizeof *l.w);
    l.gradient = calloc(n, sizeof *l.gradient);
    for (size_t i = 0; i < n; i++) l.w[i] = t.weights[i];
    same_batch(&l, &o, &t.train);
    l.run = net_f64_new(&l.n, l.w, o.batch, 1, true, &e);
    assert_non_null(l.run);
    net_f64_schedule(l.run, 8, 8); /* four fifths of 10 steps */
    const double loss = lab_loss(&l);
    net_f64_backward(l.run, l.dlast, l.gradient);
    steps_or_fail(&t, 1);
    if (fabs(t.loss - loss) > 1e-5 * loss)
        fail_msg("%s: loss %.9g of the first step, %.9g in double", name, t.loss,
                 loss);
    double off = 0;
    for (size_t i = 0; i < n; i++) off += pow(t.gradients[i] - l.gradient[i], 2);
    off = sqrt(off) / norm_of(l.gradient, n);
    if (!(off < 1e-4)) fail_msg("%s: gradient off by %.3g", name, off);
    lab_close(&l);
    trainer_close(&t);
}

static void first_step(void **state)
{
    (void)state;
    a_step("stripes", "layernorm");
    a_step("leaves", "layernorm");
    a_step("documents", "layernorm");
    a_step("clouds", "repbn");
    a_step("stripes", "prepbn");
}

/* ---- again, and again after a kill -------------------------------------------------- */

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[4][128];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static size_t bytes_of(const char *path, unsigned char **out)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    *out = malloc(1 << 22);
    const size_t n = fread(*out, 1, 1 << 22, f);
    fclose(f);
    return n;
}

static void assert_same_file(const char *a, const char *b)
{
    unsigned char *x, *y;
    const size_t n = bytes_of(a, &x), m = bytes_of(b, &y);
    assert_int_equal(n, m);
    assert_true(n > 1000 && !memcmp(x, y, n));
    free(x);
    free(y);
}

/* Trains to the end and writes the model; broken off at step `at` (0: not). */
static void train_file(const train_options *o, int at, const char *path)
{
    trainer t;
    error e;
    open_or_fail(&t, o);
    if (at) {
        steps_or_fail(&t, at);
        assert_int_equal(trainer_save(&t, in_folder("checkpoint"), &e), 0);
        steps_or_fail(&t, at + 2); /* lost */
        trainer_close(&t);
        open_or_fail(&t, o);
        assert_int_equal(trainer_resume(&t, in_folder("checkpoint"), &e), 0);
        assert_int_equal(t.step, at);
    }
    steps_or_fail(&t, o->steps);
    assert_int_equal(trainer_write(&t, path, &e), 0);
    trainer_close(&t);
}

static void same_bytes(void **state)
{
    static const struct { const char *data, *norm; } all[] = {
        { "stripes", "layernorm" }, { "leaves", "prepbn" },
        { "documents", "layernorm" }, { "clouds", "repbn" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        train_options o = small(all[i].data);
        const char *once = in_folder("once"), *again = in_folder("again");
        snprintf(o.model.norm, sizeof o.model.norm, "%s", all[i].norm);
        train_file(&o, 0, once);
        train_file(&o, 0, again);
        assert_same_file(once, again);
        train_file(&o, 7, again);
        assert_same_file(once, again);
    }
}

/* Parts of a batch have gradients of their own, so that threads do not matter. */
static void threads_do_not_matter(void **state)
{
    (void)state;
    train_options o = small("stripes");
    const char *once = in_folder("once"), *again = in_folder("again");
    train_file(&o, 0, once);
    o.threads = 1;
    train_file(&o, 0, again);
    assert_same_file(once, again);
}

static void loss_falls(void **state)
{
    (void)state;
    train_options o = small("leaves");
    trainer t;
    train_speed speed;
    train_score before, after;
    error e;
    o.steps = quick ? 40 : 150;
    o.batch = 16;
    o.model.patch = 8;
    open_or_fail(&t, &o);
    assert_int_equal(trainer_evaluate(&t, 100, &before, &e), 0);
    steps_or_fail(&t, o.steps);
    assert_int_equal(trainer_evaluate(&t, 100, &after, &e), 0);
    if (after.loss > (quick ? 0.9 : 0.8) * before.loss)
        fail_msg("loss %.3f fell to %.3f alone", before.loss, after.loss);
    trainer_speed(&t, &speed);
    assert_true(speed.step > 0 && speed.flops > 0 && speed.sgemm > 0);
    trainer_close(&t);
}

/* ---- procedural data ----------------------------------------------------------------- */

static void near(const float *picture, const int *pixel, const double *value)
{
    for (int i = 0; i < 6; i++)
        if (fabs(picture[pixel[i]] - value[i]) > 1e-5)
            fail_msg("pixel %d is %.7f, not %.6f", pixel[i], picture[pixel[i]],
                     value[i]);
}

/* Computed by two independent programs. */
static void reference_values(void **state)
{
    static const int forty[] = { 0, 1, 2, 40, 800, 1599 };
    static const int small_[] = { 0, 1, 2, 28, 400, 783 };
    static const struct { uint64_t item; double u[3]; } uniform[] = {
        { 0, { .943564231, .045256998, .777436918 } },
        { 1, { .369849349, .156725837, .496383409 } },
    };
    static const double clouds[2][6] = {
        { .635791, .783560, .706136, .610991, -.964995, 2.102801 },
        { -1.914042, -1.807130, -1.675044, -1.922781, -1.213956, .438055 } };
    static const double leaves[2][6] = {
        { .051703, .037316, .022928, .015986, .613175, .109274 },
        { -.222372, -.276380, -.330389, -.232222, -1.234463, -.765199 } };
    static const double stripes[3][6] = {
        { .448508, .642941, .314192, .677991, .647483, .425009 },
        { .045420, -.560559, -.129427, -.748980, -.754702, .004511 },
        { .172399, .009689, -1.106346, -.193586, .279588, .522282 } };
    static const int label[3] = { 1, 0, 7 };
    float picture[1600];
    (void)state;
    assert_true(generate_state(1, 0) == 0x2f41a7a6084cd8d6u);
    assert_true(generate_state(1, 1) == 0xde758268d6cb2f69u);
    for (int i = 0; i < 2; i++) {
        uint64_t s = generate_state(1, uniform[i].item);
        for (int k = 0; k < 3; k++)
            assert_true(fabs(att_uniform(&s) - uniform[i].u[k]) < 1e-9);
        generate_clouds(1, (uint64_t)i, picture);
        near(picture, forty, clouds[i]);
        generate_leaves(1, (uint64_t)i, picture);
        near(picture, forty, leaves[i]);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(generate_stripes(1, (uint64_t)i, picture), label[i]);
        near(picture, small_, stripes[i]);
    }
}

static void reference_document(void **state)
{
    static const char start[] = "{PaMdBkGc}.jmjgd\n!<>([[]<>])()\n"
                                "=jabijafe|jabijafe";
    unsigned char byte[GENERATE_DOCUMENT], class_[GENERATE_DOCUMENT];
    float bits[GENERATE_DOCUMENT];
    (void)state;
    assert_true(generate_document(1, 0, byte, bits, class_) > sizeof start);
    assert_memory_equal(byte, start, sizeof start - 1);

    /* 239.6227 bits in 169 bytes on average; deviations 28 and 14 */
    const int documents = 4000;
    double sum = 0, length = 0;
    for (int i = 0; i < documents; i++) {
        const size_t n = generate_document(9, (uint64_t)i, byte, bits, class_);
        length += (double)n / documents;
        for (size_t k = 0; k < n; k++) sum += bits[k] / documents;
    }
    assert_true(fabs(sum - 239.6227) < 4 * 28 / sqrt(documents));
    assert_true(fabs(length - 169) < 4 * 14 / sqrt(documents));
}

/* ---- data that are not what they say --------------------------------------------------- */

static void write_bytes(const char *path, const unsigned char *x, size_t n,
                        bool zip)
{
    if (zip) {
        gzFile g = gzopen(path, "wb");
        assert_int_equal(gzwrite(g, x, (unsigned)n), (int)n);
        gzclose(g);
        return;
    }
    FILE *f = fopen(path, "wb");
    assert_int_equal(fwrite(x, 1, n, f), n);
    fclose(f);
}

enum { PICTURES = 20, SIDE = 8, IDX = 16 + PICTURES * SIDE * SIDE };

/* A small data set in IDX files, whose pictures and labels may be spoilt. */
static const char *idx_files(unsigned char *pictures, size_t n,
                             unsigned char *labels, size_t m, bool zip)
{
    const char *path = in_folder(zip ? "t-images-idx3-ubyte.gz"
                                     : "t-images-idx3-ubyte");
    write_bytes(path, pictures, n, zip);
    write_bytes(in_folder(zip ? "t-labels-idx1-ubyte.gz" : "t-labels-idx1-ubyte"),
                labels, m, zip);
    return path;
}

static void good_idx(unsigned char *pictures, unsigned char *labels)
{
    uint64_t s = 1;
    memcpy(pictures, "\0\0\10\3\0\0\0\24\0\0\0\10\0\0\0\10", 16);
    memcpy(labels, "\0\0\10\1\0\0\0\24", 8);
    for (int i = 16; i < IDX; i++)
        pictures[i] = (unsigned char)att_random(&s);
    for (int i = 0; i < PICTURES; i++) labels[8 + i] = (unsigned char)(i % 4);
}

/* Refused in one line that names the file and says `what`. */
static void refused(const char *path, const char *what)
{
    data d;
    error e = { "" };
    if (data_open(&d, path, NULL, &e) == 0) fail_msg("%s was taken", path);
    if (!strstr(e.text, what) || !strstr(e.text, folder) ||
        strchr(e.text, '\n'))
        fail_msg("'%s' does not say '%s'", e.text, what);
}

static void bad_idx(void **state)
{
    unsigned char pictures[IDX], labels[8 + PICTURES], *gz;
    data d;
    error e;
    (void)state;
    good_idx(pictures, labels);
    for (int zip = 0; zip < 2; zip++) {
        const char *path =
            idx_files(pictures, sizeof pictures, labels, sizeof labels, zip);
        assert_int_equal(data_open(&d, path, NULL, &e), 0);
        assert_int_equal(d.classes, 4);
        assert_int_equal(d.count, PICTURES);
        data_close(&d);
    }
    refused(idx_files(pictures, IDX - 1, labels, sizeof labels, false),
            "header says 20 pictures");
    refused(idx_files(pictures, 7, labels, sizeof labels, false), "not an IDX");
    refused(idx_files(pictures, IDX, labels, sizeof labels - 1, false),
            "not the labels of 20 pictures");
    memcpy(pictures + 4, "\377\377\377\377\377\377\377\377\377\377\377\377", 12);
    refused(idx_files(pictures, IDX, labels, sizeof labels, false),
            "header says 4294967295 pictures");

    good_idx(pictures, labels);
    const char *path =
        idx_files(pictures, sizeof pictures, labels, sizeof labels, true);
    const size_t n = bytes_of(path, &gz);
    write_bytes(path, gz, n / 2, false);
    refused(path, "header says 20 pictures");
    gz[n / 2] ^= 0x55;
    gz[n / 2 + 1] ^= 0x55;
    write_bytes(path, gz, n, false);
    refused(path, "gz");
    free(gz);
    unlink(in_folder("t-labels-idx1-ubyte"));
    good_idx(pictures, labels);
    write_bytes(in_folder("t-images-idx3-ubyte"), pictures, IDX, false);
    refused(in_folder("t-images-idx3-ubyte"), "t-labels-idx1-ubyte");
}

static void bad_files(void **state)
{
    enum { RECORD = 3073 };
    static unsigned char record[2 * RECORD];
    data d;
    error e;
    (void)state;
    const char *path = in_folder("batch.bin");
    write_bytes(path, record, sizeof record, false);
    assert_int_equal(data_open(&d, path, NULL, &e), 0);
    data_close(&d);
    write_bytes(path, record, sizeof record - 1, false);
    refused(path, "not a whole number");
    record[RECORD] = 10;
    write_bytes(path, record, sizeof record, false);
    refused(path, "record 1 has label 10");

    assert_int_equal(mkdir(in_folder("pictures"), 0777), 0);
    refused(in_folder("pictures"), "no PNG");
    write_bytes(in_folder("pictures/a.png"), record, 100, false);
    refused(in_folder("pictures"), "a.png");
    write_bytes(in_folder("text"), record, 1000, false);
    refused(in_folder("text"), "too few");
    refused(in_folder("absent"), "no data set");
}

/* Labels of a test set beyond those of the training set; contexts beyond the
 * file; mechanisms that see what they shall predict. */
static void bad_pairs(void **state)
{
    unsigned char pictures[IDX], labels[8 + PICTURES];
    static unsigned char text[70000];
    trainer t;
    error e;
    (void)state;
    good_idx(pictures, labels);
    const char *path =
        idx_files(pictures, sizeof pictures, labels, sizeof labels, false);
    train_options o = small(path);
    labels[10] = 200;
    o.test = idx_files(pictures, sizeof pictures, labels, sizeof labels, true);
    assert_int_equal(trainer_open(&t, &o, &e), -1);
    assert_non_null(strstr(e.text, "another kind"));

    write_bytes(in_folder("text"), text, sizeof text, false);
    o = small(in_folder("text"));
    o.model.frames = 70000;
    assert_int_equal(trainer_open(&t, &o, &e), -1);
    assert_non_null(strstr(e.text, "--context"));

    o = small("documents");
    snprintf(o.model.attention, sizeof o.model.attention, "external");
    assert_int_equal(trainer_open(&t, &o, &e), -1);
    assert_non_null(strstr(e.text, "causal"));
}

/* A checkpoint of other options, cut, or with impossible contents. */
static void bad_checkpoints(void **state)
{
    train_options o = small("stripes");
    trainer t;
    error e;
    unsigned char *x;
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/bad.checkpoint", folder);
    open_or_fail(&t, &o);
    steps_or_fail(&t, 3);
    assert_int_equal(trainer_save(&t, path, &e), 0);
    t.weights[5] = NAN;
    assert_int_equal(trainer_save(&t, in_folder("nan.checkpoint"), &e), 0);
    t.weights[5] = 0;
    t.step = 99;
    assert_int_equal(trainer_save(&t, in_folder("far.checkpoint"), &e), 0);
    trainer_close(&t);

    open_or_fail(&t, &o);
    assert_int_equal(trainer_resume(&t, in_folder("nan.checkpoint"), &e), -1);
    assert_non_null(strstr(e.text, "not finite"));
    assert_int_equal(trainer_resume(&t, in_folder("far.checkpoint"), &e), -1);
    assert_non_null(strstr(e.text, "step '99'"));
    const size_t n = bytes_of(path, &x);
    for (size_t cut = 0; cut < n; cut += n / 7) {
        write_bytes(path, x, cut, false);
        *e.text = 0;
        assert_int_equal(trainer_resume(&t, path, &e), -1);
        if (!strstr(e.text, "bad.checkpoint"))
            fail_msg("cut at %zu: '%s'", cut, e.text);
    }
    write_bytes(path, x, n, false);
    assert_int_equal(trainer_resume(&t, path, &e), 0);
    trainer_close(&t);

    o.model.options.scale = 0.5; /* the same sizes, another model */
    open_or_fail(&t, &o);
    assert_int_equal(trainer_resume(&t, path, &e), -1);
    assert_non_null(strstr(e.text, "another training"));
    trainer_close(&t);
    free(x);
}

/* A rate far too large ends in one line, not in a model of NaN. */
static void divergence(void **state)
{
    train_options o = small("leaves");
    trainer t;
    error e = { "" };
    (void)state;
    o.rate = 1e30;
    o.steps = 40;
    open_or_fail(&t, &o);
    int rc = 0;
    while (rc == 0 && t.step < o.steps) rc = trainer_step(&t, &e);
    assert_int_equal(rc, -1);
    assert_non_null(strstr(e.text, "--rate"));
    trainer_close(&t);
}

/* ---- main ------------------------------------------------------------------------------ */

static const struct CMUnitTest engine[] = {
    cmocka_unit_test(first_step),
    cmocka_unit_test(same_bytes),
    cmocka_unit_test(threads_do_not_matter),
    cmocka_unit_test(loss_falls),
    cmocka_unit_test(reference_values),
    cmocka_unit_test(reference_document),
    cmocka_unit_test(bad_idx),
    cmocka_unit_test(bad_files),
    cmocka_unit_test(bad_pairs),
    cmocka_unit_test(bad_checkpoints),
    cmocka_unit_test(divergence),
};

static void remove_folder(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    if (system(command)) perror(folder);
}

int main(int argc, char **argv)
{
    quick = test_arguments(argc, argv);
    const att_mechanism *const *list;
    const size_t n = att_mechanisms(&list);
    const size_t own = sizeof engine / sizeof *engine;
    struct CMUnitTest *tests = calloc(n + own, sizeof *tests);
    size_t count = 0;
    snprintf(folder, sizeof folder, "%s/attnbench-training-XXXXXX",
             strlen(test_tmp()) < 30 ? test_tmp() : "/tmp");
    if (!tests || !mkdtemp(folder)) return 1;
    for (size_t i = 0; i < own; i++)
        if (test_selected(engine[i].name)) tests[count++] = engine[i];
    for (size_t i = 0; i < n; i++) {
        if (!test_selected(list[i]->name) || list[i]->traits & ATT_NOT_ATTENTION)
            continue;
        if (!list[i]->backward) {
            printf("skip %s cannot be trained: no backward is defined\n",
                   list[i]->name);
            continue;
        }
        tests[count++] = (struct CMUnitTest){ .name = list[i]->name,
                                              .test_func = whole_model,
                                              .initial_state = (void *)list[i] };
    }
    const int failed = _cmocka_run_group_tests("training", tests, count, NULL,
                                               NULL);
    remove_folder();
    free(tests);
    return failed != 0;
}
