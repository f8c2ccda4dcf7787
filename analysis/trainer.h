/* trainer.h - training of small transformers: AdamW, warm-up and cosine, seeded.
 *
 * Three tasks: classify pictures (cross entropy), restore masked patches
 * (squared error on the masked tokens), predict the next byte (cross entropy).
 * The same options, seed and number of threads give the same bytes; every
 * sample depends only on the seed and its number.  A checkpoint holds weights,
 * moments and the step, so that a killed training goes on where it was.
 */
#ifndef TRAINER_H
#define TRAINER_H

#include "data.h"
#include "generate.h"
#include "model.h"
#include "vit.h"

enum train_task { TRAIN_CLASSIFY, TRAIN_MASKED, TRAIN_NEXT };

typedef struct train_options {
    vit_config model;    /* shapes of input and output are set from the data */
    const char *data;    /* data.h                                          */
    const char *test;    /* held-out set; NULL: the same, another stream     */
    enum train_task task;
    int steps, batch, warmup, threads;
    double rate, decay;  /* AdamW's learning rate and weight decay           */
    double masked;       /* share of tokens that are masked                  */
    uint64_t seed;
} train_options;

/* Task that a data set is for: next for bytes, masked without labels. */
enum train_task train_task_of(const data *d);
extern const char *const train_task_name[3];

/* 600 steps of 32, rate 2e-3, decay 0.05, 50 steps of warm-up, 40 % masked. */
extern const train_options train_default;

typedef struct trainer {
    train_options options;
    data train, test;
    network network;
    float *weights, *first, *second; /* first, second: moments of AdamW      */
    int step;            /* steps that are done                             */
    double loss;         /* of the last one                                 */
    struct train_batch *batch;
    int part, parts;     /* samples of a part of the batch; their number    */
    net_f32 **runs;      /* [run_count]: one for each thread                */
    int run_count, next_part;
    float *gradients;    /* [parts][network.elements]                       */
    double *losses;      /* [parts]                                         */
    double *seconds;     /* [steps]: of each step done since opening         */
    double *products;    /* [steps]: of sgemm, about one a second            */
    double since_product;
    int timed, product_count;
} trainer;

/* Opens the data, builds and starts the network.  0 or -1. */
int trainer_open(trainer *t, const train_options *o, error *e);
void trainer_close(trainer *t);

/* One step; its loss (nats, or squared error) is in t->loss.  -1 with e if the
 * loss is not finite: training has diverged. */
int trainer_step(trainer *t, error *e);

/* How fast the steps went: useful work is 3 times the multiply-adds of forward,
 * times 2; data, normalisations and AdamW are in the time, not in the work. */
typedef struct train_speed {
    double step;   /* seconds, the median                                   */
    double images; /* samples a second                                      */
    double flops;  /* useful, a second                                      */
    double sgemm;  /* flop a second of products of 1024 x 1024 matrices on
                      the same threads, taken between the steps: the median */
} train_speed;
void trainer_speed(const trainer *t, train_speed *out);

/* Whether the score is of data that training does not see. */
bool trainer_held_out(const trainer *t);

/* Atomic.  Resuming refuses a checkpoint of other options. */
int trainer_save(const trainer *t, const char *path, error *e);
int trainer_resume(trainer *t, const char *path, error *e);

typedef struct train_score {
    int items;
    double loss;      /* mean: nats, or squared error                       */
    double accuracy;  /* of TRAIN_CLASSIFY                                  */
    double variance;  /* of the targets of TRAIN_MASKED: error of the mean  */
    /* TRAIN_NEXT, bits per byte: by class and in all; ideal where known    */
    double bits, ideal;
    double class_bits[BYTE_CLASSES], class_ideal[BYTE_CLASSES];
    size_t class_count[BYTE_CLASSES];
} train_score;

/* On `items` held-out samples (no more than a set of records has), with
 * normalisations in their evaluation form. */
int trainer_evaluate(trainer *t, int items, train_score *out, error *e);
/* The same for any model of that task. */
int train_evaluate(const network *n, const vit_config *c, const float *weights,
                   const train_options *o, const data *test, int items,
                   train_score *out, error *e);

/* Writes the model file with notes on how it was trained. */
int trainer_write(const trainer *t, const char *path, error *e);

#endif
