/* train.c - attnbench train: a small transformer with any mechanism. */
#define _GNU_SOURCE /* asprintf */
#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness/axes.h"
#include "../harness/commands.h"
#include "../harness/file.h"
#include "../harness/progress.h"
#include "../harness/spelling.h"
#include "../harness/stop.h"
#include "trainer.h"
#include "trainrecord.h"

/* ---- options ------------------------------------------------------------------- */

enum { KEY_AXIS = 0x1000, KEY_WORD = 0x2000, KEY_NUMBER = 0x3000,
       KEY_REAL = 0x4000 };

typedef struct request {
    train_options options;
    axes axes;
    const char *mechanism, *data, *test, *task, *norm, *out;
    int checkpoint, items, frames;
    bool given_patch, given_context, given_masked;
    int argc;
    char **argv;
    error failure;
} request;

/* The options, by where their values go. */
#define WORDS(X)                                                               \
    X(mechanism, "NAME", "attention (default softmax)")                        \
    X(data, "SET", "stripes, leaves, clouds, documents, an IDX file, a "       \
                   "CIFAR-10 .bin, a folder of PNG, or a file of bytes")       \
    X(test, "SET", "held-out set (default: generated data from another "       \
                   "stream; of a file the training data themselves)")          \
    X(task, "TASK", "classify, masked or next (default: what the data are "    \
                    "for)")                                                    \
    X(norm, "NAME", "normalisation: layernorm (default), repbn, prepbn ...")   \
    X(out, "FILE", "the model file (default results/models/DATA-NAME.safetensors)")
#define NUMBERS(X)                                                             \
    X(steps, options.steps, 0, "training steps; 0: the untrained control")         \
    X(batch, options.batch, 1, "samples a step")                               \
    X(warmup, options.warmup, 0, "steps of linear warm-up")                    \
    X(threads, options.threads, 1, "threads")                                  \
    X(dim, options.model.dim, 4, "channels of the model")                      \
    X(depth, options.model.depth, 1, "blocks")                                 \
    X(mlp, options.model.mlp, 1, "hidden channels of the MLP")                 \
    X(patch, options.model.patch, 1, "pixels of a patch's side")               \
    X(context, frames, 2, "bytes a model of bytes sees")                       \
    X(checkpoint, checkpoint, 0, "steps between checkpoints; 0: none")         \
    X(items, items, 1, "held-out samples of the score")
#define REALS(X)                                                               \
    X(rate, options.rate, "learning rate")                                     \
    X(decay, options.decay, "weight decay")                                    \
    X(masked, options.masked, "share of masked tokens")

enum {
#define KEY(name, ...) WORD_##name,
    WORDS(KEY)
#undef KEY
#define KEY(name, ...) NUMBER_##name,
    NUMBERS(KEY)
#undef KEY
#define KEY(name, ...) REAL_##name,
    REALS(KEY)
#undef KEY
};

static const struct argp_option own_options[] = {
#define OPTION(name, arg, doc) { #name, KEY_WORD + WORD_##name, arg, 0, doc, 1 },
    WORDS(OPTION)
#undef OPTION
#define OPTION(name, field, least, doc)                                        \
    { #name, KEY_NUMBER + NUMBER_##name, "N", 0, doc, 2 },
    NUMBERS(OPTION)
#undef OPTION
#define OPTION(name, field, doc)                                               \
    { #name, KEY_REAL + REAL_##name, "X", 0, doc, 2 },
    REALS(OPTION)
#undef OPTION
};
enum { OWN = sizeof own_options / sizeof *own_options };

/* Fields that the data or the model decide. */
static bool is_model_axis(int number)
{
    return number < ATT_FIELD_COUNT && number != ATT_FIELD_grid &&
           number != ATT_FIELD_tokens_k && number != ATT_FIELD_value_dim &&
           number != ATT_FIELD_batch && number != ATT_FIELD_dtype &&
           number != ATT_FIELD_causal && number != ATT_FIELD_mode;
}

static struct argp_option *all_options(void)
{
    struct argp_option *all = calloc(OWN + AXES + 1, sizeof *all);
    if (!all) abort();
    memcpy(all, own_options, sizeof own_options);
    for (int i = 0, n = OWN; i < AXES; i++)
        if (is_model_axis(i))
            all[n++] = (struct argp_option){ .name = axes_name(i),
                                             .key = KEY_AXIS + i,
                                             .arg = "VALUE",
                                             .doc = axes_help(i),
                                             .group = 3 };
    return all;
}

static int read_number(const char *option, const char *text, int least,
                       int *out, error *e)
{
    char *end;
    errno = 0;
    const long v = strtol(text, &end, 10);
    if (end == text || *end || errno || v < least || v > 1 << 28)
        return error_set(e, "--%s: '%s' is not an integer from %d on", option,
                         text, least);
    *out = (int)v;
    return 0;
}

static int read_real(const char *option, const char *text, double *out,
                     error *e)
{
    char *end;
    const double v = strtod(text, &end);
    if (end == text || *end || !(v >= 0) || v > 1e6)
        return error_set(e, "--%s: '%s' is not a number from 0 on", option,
                         text);
    *out = v;
    return 0;
}

static int set_option(request *r, int key, const char *text, error *e)
{
    r->given_patch |= key == KEY_NUMBER + NUMBER_patch;
    r->given_context |= key == KEY_NUMBER + NUMBER_context;
    r->given_masked |= key == KEY_REAL + REAL_masked;
    switch (key) {
#define CASE(name, ...)                                                        \
    case KEY_WORD + WORD_##name: r->name = text; return 0;
        WORDS(CASE)
#undef CASE
#define CASE(name, field, least, doc)                                          \
    case KEY_NUMBER + NUMBER_##name:                                           \
        return read_number(#name, text, least, &r->field, e);
        NUMBERS(CASE)
#undef CASE
#define CASE(name, field, doc)                                                 \
    case KEY_REAL + REAL_##name: return read_real(#name, text, &r->field, e);
        REALS(CASE)
#undef CASE
    }
    const int number = key - KEY_AXIS;
    if (axes_set(&r->axes, number, text, NULL, e) < 0) return -1;
    return r->axes.of[number].count == 1
               ? 0
               : error_set(e, "--%s: one value, please: a model has one",
                           axes_name(number));
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    request *r = state->input;
    if (key == ARGP_KEY_ARG)
        argp_failure(state, EXIT_USAGE, 0, "unexpected '%s'", text);
    if (key < KEY_AXIS || key > KEY_REAL + 0xfff) return ARGP_ERR_UNKNOWN;
    if (set_option(r, key, text, &r->failure))
        argp_failure(state, EXIT_USAGE, 0, "%s", r->failure.text);
    return 0;
}

/* ---- the command ------------------------------------------------------------------ */

/* Whether an axis says something of the model: of its attention, or of what all
 * models have. */
static bool changes(const request *r, int f)
{
    const att_mechanism *m = att_find_mechanism(r->mechanism);
    return f == ATT_FIELD_seed || f == ATT_FIELD_heads ||
           f == ATT_FIELD_head_dim || f == ATT_FIELD_gelu ||
           f == ATT_FIELD_ln_eps || !m || att_uses(m, (enum att_field)f);
}

/* An option that changes nothing is a mistake. */
static int check_options(const request *r, error *e)
{
    const enum train_task task = r->options.task;
    for (int f = 0; f < ATT_FIELD_COUNT; f++)
        if (r->axes.of[f].count && !changes(r, f))
            return error_set(e, "--%s does not change %s: see `attnbench explain "
                                "%s`",
                             axes_name(f), r->mechanism, r->mechanism);
    const char *of = r->given_masked && task != TRAIN_MASKED    ? "masked"
                     : r->given_context && task != TRAIN_NEXT   ? "context"
                     : r->given_patch && task == TRAIN_NEXT     ? "patch"
                                                                : NULL;
    return of ? error_set(e, "--%s means nothing to the task '%s'", of,
                          train_task_name[task])
              : 0;
}

/* What a set of pictures left out. */
static void tell_left_out(const data *d)
{
    char text[512];
    if (data_note(d, text, sizeof text)) fprintf(stderr, "! %s\n", text);
}

/* Axes and words into the model. */
static int complete(request *r, error *e)
{
    axes_point point;
    vit_config *c = &r->options.model;
    axes_pick(&r->axes, 0, &point);
    c->options = point.problem;
    if (r->axes.of[ATT_FIELD_ln_eps].count) c->ln_eps = point.problem.ln_eps;
    if (r->axes.of[ATT_FIELD_gelu].count) c->tanh_gelu = point.problem.gelu;
    if (r->axes.of[ATT_FIELD_heads].count) c->heads = point.problem.heads;
    c->head_dim = r->axes.of[ATT_FIELD_head_dim].count
                      ? point.problem.head_dim
                      : c->dim / c->heads;
    if (r->axes.of[ATT_FIELD_seed].count)
        r->options.seed = (uint64_t)point.problem.seed;
    else r->options.seed = 0;
    if (c->head_dim < 1)
        return error_set(e, "--dim %d does not split into %d heads", c->dim,
                         c->heads);
    snprintf(c->attention, sizeof c->attention, "%s", r->mechanism);
    snprintf(c->norm, sizeof c->norm, "%s", r->norm);
    c->frames = r->frames;
    r->options.data = r->data;
    r->options.test = r->test;

    data d;
    if (data_open(&d, r->data, NULL, e)) return -1;
    r->options.task = train_task_of(&d);
    data_close(&d);
    for (int i = 0; r->task && i < 3; i++)
        if (!strcmp(r->task, train_task_name[i])) {
            r->options.task = (enum train_task)i;
            return 0;
        }
    return r->task ? error_set(e, "--task: '%s' is none of classify, masked, "
                                  "next", r->task)
                   : 0;
}

/* A checkpoint that cannot be written does not stop a training that goes well:
 * it is told once, tried again, and counted in *lost. */
static void save(const trainer *t, const char *checkpoint, progress *bar,
                 int *lost)
{
    error e;
    if (trainer_save(t, checkpoint, &e) == 0) return;
    progress_clear(bar);
    if ((*lost)++ == 0)
        fprintf(stderr, "train: step %d: no checkpoint: %s; training goes on\n",
                t->step, e.text);
}

static int run(trainer *t, const request *r, const char *checkpoint, int *lost,
               error *e)
{
    progress bar;
    char text[80];
    progress_begin(&bar, t->options.steps);
    while (t->step < t->options.steps && !stop_signal) {
        if (trainer_step(t, e)) return -1;
        snprintf(text, sizeof text, "step %d  loss %.4f", t->step, t->loss);
        progress_show(&bar, t->step, text);
        if (t->step * 10LL / t->options.steps !=
            (t->step - 1) * 10LL / t->options.steps)
            progress_stage(&bar, stdout, t->step, text);
        if (r->checkpoint && t->step % r->checkpoint == 0 &&
            t->step < t->options.steps)
            save(t, checkpoint, &bar, lost);
    }
    progress_clear(&bar);
    return 0;
}

static void print_score(const trainer *t, const train_score *s)
{
    printf("%d %s: loss %.5f", s->items,
           trainer_held_out(t) ? "held-out samples"
                               : "samples of the training data (no --test)",
           s->loss);
    if (t->options.task == TRAIN_CLASSIFY)
        printf(", top-1 %.4f (standard error %.4f)\n", s->accuracy,
               sqrt(s->accuracy * (1 - s->accuracy) / s->items));
    if (t->options.task == TRAIN_MASKED)
        printf(" (predicting the mean: %.5f)\n", s->variance);
    if (t->options.task != TRAIN_NEXT) return;
    printf(", %.4f bits per byte", s->bits);
    if (s->ideal == 0) {
        putchar('\n');
        return;
    }
    printf(" (ideal %.4f)\n%-16s %9s %9s %9s\n", s->ideal, "class of byte",
           "share", "bits", "ideal");
    size_t all = 0;
    for (int i = 0; i < BYTE_CLASSES; i++) all += s->class_count[i];
    for (int i = 0; i < BYTE_CLASSES; i++)
        printf("%-16s %8.1f%% %9.3f %9.3f\n", generate_class_name[i],
               100.0 * (double)s->class_count[i] / (double)all,
               s->class_bits[i], s->class_ideal[i]);
}

static void print_speed(const trainer *t, const train_speed *s)
{
    if (t->timed == 0) return;
    printf("%.4f s a step (median of %d): %.0f images/s, %.1f useful GFLOP/s, "
           "%.0f %% of sgemm's %.1f on %d threads\n", s->step, t->timed,
           s->images, 1e-9 * s->flops, 100 * s->flops / s->sgemm,
           1e-9 * s->sgemm, t->options.threads);
}

/* The folder that a file will be written to; better now than after hours. */
static int make_folder_of(const char *path, error *e)
{
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return 0;
    char *folder = strndup(path, (size_t)(slash - path));
    const int rc = folder ? folder_make(folder, e)
                          : error_set(e, "not enough memory");
    free(folder);
    return rc;
}

/* Interrupted: what is done so far into a checkpoint. */
static int leave(const trainer *t, const char *checkpoint, error *e)
{
    if (trainer_save(t, checkpoint, e)) return EXIT_MISSING;
    fprintf(stderr, "interrupted at step %d; the same command goes on from %s\n",
            t->step, checkpoint);
    return EXIT_INTERRUPTED;
}

/* Done: the score and the model file; then the checkpoint may go. */
static int finish(trainer *t, const request *r, const char *checkpoint,
                  error *e)
{
    train_score score;
    train_speed speed;
    if (trainer_evaluate(t, r->items, &score, e)) return EXIT_MISSING;
    if (trainer_write(t, r->out, e)) {
        const error why = *e;
        if (access(checkpoint, F_OK) == 0)
            error_set(e, "%s; the same command goes on from %s", why.text,
                      checkpoint);
        return EXIT_MISSING;
    }
    trainer_speed(t, &speed);
    if (train_record(r->out, t, &score, &speed, r->argc, r->argv, e))
        return EXIT_MISSING;
    unlink(checkpoint);
    print_score(t, &score);
    print_speed(t, &speed);
    printf("%s: %zu parameters, %d steps of %d\n", r->out, t->network.elements,
           r->options.steps, r->options.batch);
    return EXIT_OK;
}

static int train(request *r, error *e)
{
    trainer t;
    char *checkpoint;
    if (complete(r, e) || check_options(r, e)) return EXIT_USAGE;
    if (make_folder_of(r->out, e) || file_check(r->out, e)) return EXIT_MISSING;
    if (trainer_open(&t, &r->options, e)) return EXIT_USAGE;
    tell_left_out(&t.train);
    if (r->test) tell_left_out(&t.test);
    if (asprintf(&checkpoint, "%s.checkpoint", r->out) < 0) abort();
    int code = EXIT_OK, lost = 0;
    if (access(checkpoint, F_OK) == 0) {
        if (trainer_resume(&t, checkpoint, e)) code = EXIT_USAGE;
        else fprintf(stderr, "going on from step %d of %s\n", t.step, checkpoint);
    }
    if (code == EXIT_OK && run(&t, r, checkpoint, &lost, e)) code = EXIT_GATE;
    if (code == EXIT_OK)
        code = stop_signal ? leave(&t, checkpoint, e)
                           : finish(&t, r, checkpoint, e);
    if (code == EXIT_OK && lost) {
        error_set(e, "%s is complete, but %d checkpoints could not be written",
                  r->out, lost);
        code = EXIT_SOME_FAILED;
    }
    free(checkpoint);
    trainer_close(&t);
    return code;
}

int command_train(int argc, char **argv)
{
    request r = { .options = train_default, .mechanism = "softmax",
                  .data = "stripes", .norm = "layernorm", .checkpoint = 100,
                  .items = 2000, .frames = 192, .argc = argc, .argv = argv };
    r.options.model = vit_default;
    struct argp_option *options = all_options();
    const struct argp argp = {
        options, parse, NULL,
        "Trains a small transformer: patches or bytes, pre-norm blocks, AdamW "
        "with warm-up and a cosine.\v"
        "The last group are the mechanism's own options. A killed training "
        "goes on from OUT.checkpoint when the same command is given again.\n\n"
        "  attnbench train --mechanism na2d --window 5 --bias 1 --data leaves\n"
        "  attnbench train --mechanism linear --feature-map relu --data "
        "stripes --batch 64\n"
        "  attnbench train --data documents --steps 1600 --batch 16 --rate 3e-3",
        NULL, NULL, NULL
    };
    error e = { "" };
    if (spelling_check(options, argc, argv, &e) < 0) {
        fprintf(stderr, "%s: %s\n", argv[0], e.text);
        free(options);
        return EXIT_USAGE;
    }
    argp_parse(&argp, argc, argv, 0, NULL, &r);
    free(options);

    char *out, name[NAME_MAX + 1];
    if (asprintf(&out, "results/models/%s-%s.safetensors",
                 data_label(r.data, name), r.mechanism) < 0)
        abort();
    if (!r.out) r.out = out;
    stop_catch();
    const int code = train(&r, &e);
    axes_free(&r.axes);
    free(out);
    if (code != EXIT_OK && *e.text) fprintf(stderr, "%s: %s\n", argv[0], e.text);
    return code;
}
