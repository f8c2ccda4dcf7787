/* trainrecord.c - the record of a training. */
#include "trainrecord.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/commands.h"
#include "../harness/json.h"
#include "generate.h"
#include "mapfile.h"

char *train_record_path(const char *file)
{
    static const char end[] = ".safetensors";
    size_t n = strlen(file);
    if (n > sizeof end - 1 && !strcmp(file + n - (sizeof end - 1), end))
        n -= sizeof end - 1;
    char *path = malloc(n + sizeof ".json");
    if (!path) abort();
    memcpy(path, file, n);
    strcpy(path + n, ".json");
    return path;
}

static json *classes_json(const train_score *s)
{
    json *list = json_array();
    size_t all = 0;
    for (int i = 0; i < BYTE_CLASSES; i++) all += s->class_count[i];
    for (int i = 0; i < BYTE_CLASSES && all; i++) {
        json *j = json_object();
        json_put_text(j, "class", generate_class_name[i]);
        json_put_number(j, "share", (double)s->class_count[i] / (double)all);
        json_put_number(j, "bits", s->class_bits[i]);
        json_put_number(j, "ideal", s->class_ideal[i]);
        json_push(list, j);
    }
    return list;
}

static json *score_json(const trainer *t, const train_score *s)
{
    json *j = json_object();
    json_put_number(j, "items", s->items);
    json_put_bool(j, "held_out", trainer_held_out(t));
    json_put_number(j, "loss", s->loss);
    switch (t->options.task) {
    case TRAIN_CLASSIFY:
        json_put_number(j, "accuracy", s->accuracy);
        json_put_number(j, "standard_error",
                        sqrt(s->accuracy * (1 - s->accuracy) / s->items));
        break;
    case TRAIN_MASKED:
        json_put_number(j, "variance", s->variance);
        break;
    case TRAIN_NEXT:
        json_put_number(j, "bits", s->bits);
        json_put_number(j, "ideal", s->ideal > 0 ? s->ideal : NAN);
        if (s->ideal > 0) json_put(j, "classes", classes_json(s));
        break;
    }
    return j;
}

/* Entries of a folder that were no pictures; NULL: none. */
static json *left_out(const data *d)
{
    if (!d->skipped) return NULL;
    json *j = json_object();
    json_put_number(j, "count", d->skipped);
    json_put_text(j, "first", d->skipped_first);
    return j;
}

static json *speed_json(const trainer *t, const train_speed *v)
{
    json *j = json_object();
    json_put_number(j, "threads", t->options.threads);
    json_put_number(j, "steps_timed", t->timed);
    json_put_number(j, "step_s", v->step);
    json_put_number(j, "samples_per_s", v->images);
    json_put_number(j, "useful_flop_per_s", v->flops);
    json_put_number(j, "sgemm_flop_per_s", v->sgemm);
    return j;
}

int train_record(const char *file, const trainer *t, const train_score *score,
                 const train_speed *speed, int argc, char **argv, error *e)
{
    json *j = json_object(), *command = json_array();
    const vit_config *c = &t->options.model;
    json_put_text(j, "kind", "training");
    json_put_number(j, "schema", 1);
    json_put_text(j, "attnbench", ATTNBENCH_VERSION);
    json_put_text(j, "git_revision", mapfile_revision());
    json_push_text(command, "train");
    for (int i = 1; i < argc; i++) json_push_text(command, argv[i]);
    json_put(j, "command", command);
    json_put_text(j, "mechanism", c->attention);
    json_put_text(j, "norm", c->norm);
    json_put_text(j, "task", train_task_name[t->options.task]);
    json_put_text(j, "data", t->options.data);
    if (t->train.skipped) json_put(j, "left_out", left_out(&t->train));
    if (t->options.test && t->test.skipped)
        json_put(j, "test_left_out", left_out(&t->test));
    json_put_number(j, "seed", (double)t->options.seed);
    json_put_number(j, "steps", t->options.steps);
    json_put_number(j, "batch", t->options.batch);
    json_put_number(j, "parameters", (double)t->network.elements);
    json_put(j, "score", score_json(t, score));
    json_put(j, "speed", t->timed ? speed_json(t, speed) : NULL);
    char *path = train_record_path(file);
    const int rc = json_write_file(path, j, e);
    free(path);
    json_free(j);
    return rc;
}
