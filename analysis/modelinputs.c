/* modelinputs.c - what a model is run on. */
#include "modelinputs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../harness/array.h"
#include "data.h"

enum { USUAL_COUNT = 16, MOST_COUNT = 1 << 20 };

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), k = strlen(end);
    return n >= k && !strcasecmp(text + n - k, end);
}

static int make_room(model_inputs *in, const model *m, int count, error *e)
{
    const net_op *op = &m->network.ops[0];
    in->each = (size_t)op->tokens * (size_t)op->channels;
    in->count = count;
    in->value = calloc((size_t)count * in->each + 1, sizeof *in->value);
    return in->value ? 0
                     : error_set(e, "%s: not enough memory for %d inputs",
                                 in->name, count);
}

/* ---- pictures ----------------------------------------------------------- */

/* A model of grey pictures that is given colours sees their light. */
static double channel_of(const float *pixel, int colours, int channels, int c)
{
    if (colours == 1) return pixel[0];
    if (channels == 1) return picture_grey(pixel, colours);
    return pixel[c < 3 ? c : 2];
}

/* Pixels are normalised as the file says; if it says so in words that cannot be
 * computed, only numbers that are normalised already can be fed. */
static int can_normalise(const model_inputs *in, const model *m, error *e)
{
    const int channels = m->config.channels;
    if (m->unread_input)
        return error_set(e, "%s: metadata input='%s' cannot be computed from "
                            "%s; say --normalize, or feed a safetensors of "
                            "floats that are normalised",
                         m->path, m->unread_input, in->name);
    return channels == 1 || channels == 3
               ? 0
               : error_set(e, "%s: the model sees %d channels, %s has not as "
                              "many; feed a safetensors",
                           m->path, channels, in->name);
}

static int take_picture(model_inputs *in, const model *m, const picture *p,
                        error *e)
{
    const vit_config *c = &m->config;
    const int height = m->network.ops[0].height, width = c->image;
    picture square;
    picture_part part = { 0, 0, p->width, p->height };
    /* the largest part in the middle of the model's aspect */
    if ((double)p->width * height > (double)p->height * width)
        part.width = (int)((double)p->height * width / height + 0.5);
    else part.height = (int)((double)p->width * height / width + 0.5);
    part.x = (p->width - part.width) / 2;
    part.y = (p->height - part.height) / 2;
    if (part.width < width || part.height < height)
        return error_set(e, "%s: %d x %d pixels are too few for a model of "
                            "%d x %d",
                         in->name, p->width, p->height, width, height);
    if (can_normalise(in, m, e) < 0 || make_room(in, m, 1, e) < 0 ||
        picture_resize(p, &part, width, height, &square, e) < 0)
        return -1;
    for (size_t i = 0; i < in->each; i++) {
        const size_t at = i / (size_t)c->channels;
        const int channel = (int)(i % (size_t)c->channels);
        const int k = channel < 3 ? channel : 2;
        in->value[i] =
            (channel_of(square.sample + at * (size_t)square.channels,
                        square.channels, c->channels, channel) -
             c->mean[k]) /
            c->deviation[k];
    }
    picture_free(&square);
    return 0;
}

static int read_png(model_inputs *in, const model *m, const char *path,
                    error *e)
{
    picture p;
    if (picture_read(path, &p, e) < 0) return -1;
    const int rc = take_picture(in, m, &p, e);
    picture_free(&p);
    return rc;
}

static int make_scene(model_inputs *in, const model *m, uint64_t seed, error *e)
{
    picture p;
    if (m->config.arch != VIT_IMAGE)
        return error_set(e, "%s: is a model of %s: say what it shall see with "
                            "--input",
                         m->path,
                         m->config.arch == VIT_BYTES ? "text" : "sequences");
    if (picture_scene(m->config.image, m->network.ops[0].height, seed, &p, e) <
        0)
        return -1;
    const int rc = take_picture(in, m, &p, e);
    picture_free(&p);
    return rc;
}

/* ---- tensors ------------------------------------------------------------ */

/* Number of inputs of the model in a tensor, 0: it has another shape. */
static size_t inputs_in(const array *a, const model *m)
{
    const vit_config *c = &m->config;
    const size_t height = (size_t)m->network.ops[0].height;
    const size_t width = (size_t)c->image, channels = (size_t)c->channels;
    const size_t *d = a->dim;
    if (c->arch == VIT_SEQUENCE)
        return a->dims == 3 && d[1] == (size_t)c->frames &&
                       d[2] == (size_t)c->features
                   ? d[0]
                   : 0;
    if (c->arch != VIT_IMAGE) return 0;
    if (a->dims == 3 && channels == 1 && d[1] == height && d[2] == width)
        return d[0];
    return a->dims == 4 && d[1] == channels && d[2] == height && d[3] == width
               ? d[0]
               : 0;
}

/* "[n, 3, 32, 32]" */
static const char *wanted_shape(const model *m)
{
    static char text[80];
    const vit_config *c = &m->config;
    if (c->arch == VIT_IMAGE)
        snprintf(text, sizeof text, "[n, %d, %d, %d]", c->channels,
                 m->network.ops[0].height, c->image);
    else snprintf(text, sizeof text, "[n, %d, %d]", c->frames, c->features);
    return text;
}

static const array *choose_tensor(const archive *a, const model *m,
                                  const char *tensor, error *e)
{
    const array *found = tensor ? archive_find(a, tensor) : NULL;
    if (tensor && !found)
        error_set(e, "%s: has no tensor '%s'", a->path, tensor);
    else if (tensor && !inputs_in(found, m)) {
        error_set(e, "%s: tensor '%s' has not the shape of this model's inputs, "
                     "%s", a->path, tensor, wanted_shape(m));
        found = NULL;
    }
    for (int i = 0; !tensor && i < a->count; i++) {
        if (!inputs_in(&a->items[i], m)) continue;
        if (found) {
            error_set(e, "%s: tensors '%s' and '%s' both have the shape of this "
                         "model's inputs; name one, as in %s:%s",
                      a->path, found->name, a->items[i].name, a->path,
                      found->name);
            return NULL;
        }
        found = &a->items[i];
    }
    if (!tensor && !found)
        error_set(e, "%s: no tensor has the shape of this model's inputs, %s",
                  a->path, wanted_shape(m));
    return found;
}

/* [n][channels][pixels] to [n][pixels][channels], bytes normalised. */
static void take_pixels(model_inputs *in, const vit_config *c, const array *a,
                        const double *from)
{
    const size_t channels = (size_t)c->channels;
    const size_t pixels = in->each / channels;
    for (int n = 0; n < in->count; n++)
        for (size_t k = 0; k < channels; k++)
            for (size_t i = 0; i < pixels; i++) {
                double x = from[(size_t)n * in->each + k * pixels + i];
                const size_t at = k < 3 ? k : 2;
                if (a->type == ARRAY_U8)
                    x = (x / 255 - c->mean[at]) / c->deviation[at];
                in->value[(size_t)n * in->each + i * channels + k] = x;
            }
}

/* One whole number for each of the n inputs of the file, if it has labels. */
static int take_labels(model_inputs *in, const archive *a, size_t n, error *e)
{
    const array *labels = archive_find(a, "labels");
    if (!labels) return 0;
    if (labels->dims != 1 || labels->dim[0] != n)
        return error_set(e, "%s: 'labels' are not one for each of %zu inputs",
                         a->path, n);
    double *x = malloc((labels->elements + 1) * sizeof *x);
    in->label = malloc(((size_t)in->count + 1) * sizeof *in->label);
    if (!x || !in->label) abort();
    array_to_double(labels, x);
    int rc = 0;
    for (int i = 0; rc == 0 && i < in->count; i++) {
        if (!(fabs(x[i]) <= MOST_COUNT) || x[i] != floor(x[i]))
            rc = error_set(e, "%s: 'labels' %d is %g, not a whole number",
                           a->path, i, x[i]);
        else in->label[i] = (int)x[i];
    }
    free(x);
    return rc;
}

static int take_tensor(model_inputs *in, const model *m, const archive *a,
                       const array *t, int count, error *e)
{
    const size_t n = inputs_in(t, m);
    if (n > MOST_COUNT)
        return error_set(e, "%s: tensor '%s' holds %zu inputs; choose --count",
                         a->path, t->name, n);
    if (count == 0 || (size_t)count > n) count = (int)n;
    const bool pixels = m->config.arch == VIT_IMAGE && t->type > ARRAY_BF16;
    if (pixels && t->type != ARRAY_U8)
        return error_set(e, "%s: tensor '%s' holds integers: pixels are U8 from 0 "
                            "to 255, or floats that are normalised already",
                         a->path, t->name);
    if (pixels && can_normalise(in, m, e) < 0) return -1;
    if (make_room(in, m, count, e) < 0) return -1;
    double *all = malloc((t->elements + 1) * sizeof *all);
    if (!all) return error_set(e, "%s: not enough memory", a->path);
    array_to_double(t, all);
    if (m->config.arch == VIT_IMAGE) take_pixels(in, &m->config, t, all);
    else memcpy(in->value, all, (size_t)count * in->each * sizeof *all);
    free(all);
    if (take_labels(in, a, n, e)) return -1;
    for (size_t i = 0; i < (size_t)count * in->each; i++)
        if (!isfinite(in->value[i]))
            return error_set(e, "%s: tensor '%s', input %zu has values that "
                                "are not finite",
                             a->path, t->name, i / in->each);
    return 0;
}

static int read_safetensors(model_inputs *in, const model *m, const char *name,
                            int count, error *e)
{
    static const char mark[] = ".safetensors:";
    const char *tensor = strstr(name, mark);
    char *path = strdup(name);
    archive a;
    if (!path) abort();
    if (tensor) {
        tensor += sizeof mark - 1;
        path[tensor - 1 - name] = 0;
    }
    int rc = archive_read(&a, path, e);
    free(path);
    if (rc < 0) return -1;
    const array *t = choose_tensor(&a, m, tensor, e);
    rc = t ? take_tensor(in, m, &a, t, count, e) : -1;
    archive_free(&a);
    return rc;
}

/* ---- data sets ---------------------------------------------------------- */

static int take_bytes(model_inputs *in, const model *m, const data *d,
                      uint64_t seed, error *e)
{
    const size_t length = (size_t)m->config.frames;
    const size_t wide = (size_t)m->config.features;
    unsigned char *text = malloc(length + 1);
    if (!text) return error_set(e, "not enough memory for %zu bytes", length);
    for (int i = 0; i < in->count; i++) {
        data_bytes(d, seed, (uint64_t)i, length, text, NULL, NULL);
        for (size_t t = 0; t < length; t++)
            if (text[t] < wide)
                in->value[(size_t)i * in->each + t * wide + text[t]] = 1;
    }
    free(text);
    return 0;
}

static int take_items(model_inputs *in, const data *d, uint64_t seed, error *e)
{
    float *x = malloc((in->each + 1) * sizeof *x);
    in->label = malloc(((size_t)in->count + 1) * sizeof *in->label);
    if (!x || !in->label) {
        free(x);
        return error_set(e, "%s: not enough memory", in->name);
    }
    bool known = true;
    for (int i = 0; i < in->count; i++) {
        in->label[i] = data_picture(d, seed, (uint64_t)i, true, x);
        known &= in->label[i] >= 0;
        for (size_t k = 0; k < in->each; k++)
            in->value[(size_t)i * in->each + k] = x[k];
    }
    if (!known) {
        free(in->label);
        in->label = NULL;
    }
    free(x);
    return 0;
}

static int read_data(model_inputs *in, const model *m, const char *name,
                     int count, uint64_t seed, error *e)
{
    const vit_config *c = &m->config;
    data d, like = { 0 };
    memcpy(like.mean, c->mean, sizeof like.mean);
    memcpy(like.deviation, c->deviation, sizeof like.deviation);
    if (data_open(&d, name, &like, e) < 0) return -1;
    int rc = 0;
    if (d.text != (c->arch == VIT_BYTES))
        rc = error_set(e, "%s: is %s; the model wants %s", name,
                       d.text ? "text" : "pictures",
                       c->arch == VIT_BYTES   ? "text"
                       : c->arch == VIT_IMAGE ? "pictures"
                                              : "sequences of frames");
    else if (!d.text && (d.side != c->image || d.channels != c->channels ||
                         m->network.ops[0].height != c->image))
        rc = error_set(e, "%s: pictures of %d x %d x %d; the model wants "
                          "%d x %d x %d",
                       name, d.side, d.side, d.channels, c->image,
                       m->network.ops[0].height, c->channels);
    else if (d.text && d.count && d.count <= (size_t)c->frames)
        rc = error_set(e, "%s: has %zu bytes; the model sees %d at once", name,
                       d.count, c->frames);
    else if (!d.text) rc = can_normalise(in, m, e);
    if (d.kind == DATA_RECORDS && (size_t)(count ? count : USUAL_COUNT) > d.count)
        count = (int)d.count; /* none twice */
    data_note(&d, in->note, sizeof in->note);
    if (rc == 0) rc = make_room(in, m, count ? count : USUAL_COUNT, e);
    if (rc == 0)
        rc = d.text ? take_bytes(in, m, &d, seed, e)
                    : take_items(in, &d, seed, e);
    data_close(&d);
    return rc;
}

/* ---- all ---------------------------------------------------------------- */

/* The first input, its least value black and its greatest white. */
static void make_shown(model_inputs *in, const model *m)
{
    const vit_config *c = &m->config;
    double least = INFINITY, most = -INFINITY;
    const int colours = c->channels >= 3 ? 3 : 1;
    if (c->arch != VIT_IMAGE) return;
    for (size_t i = 0; i < in->each; i++) {
        least = fmin(least, in->value[i]);
        most = fmax(most, in->value[i]);
    }
    const double range = most > least ? most - least : 1;
    const size_t pixels = in->each / (size_t)c->channels;
    in->shown = (picture){ .width = c->image,
                           .height = m->network.ops[0].height,
                           .channels = colours, .depth = 8 };
    in->shown.sample =
        malloc(pixels * (size_t)colours * sizeof *in->shown.sample);
    if (!in->shown.sample) abort();
    for (size_t i = 0; i < pixels; i++)
        for (int k = 0; k < colours; k++)
            in->shown.sample[i * (size_t)colours + (size_t)k] =
                (float)((in->value[i * (size_t)c->channels + (size_t)k] -
                         least) /
                        range);
}

int model_inputs_read(model_inputs *in, const model *m, const char *name,
                      int count, uint64_t seed, error *e)
{
    *in = (model_inputs){ .name = strdup(name ? name : "built-in") };
    if (!in->name) abort();
    const char *safetensors = name ? strstr(name, ".safetensors") : NULL;
    const int rc = !name ? make_scene(in, m, seed, e)
                   : safetensors ? read_safetensors(in, m, name, count, e)
                   : ends_with(name, ".png")
                       ? (m->config.arch == VIT_IMAGE
                              ? read_png(in, m, name, e)
                              : error_set(e, "%s: the model does not see "
                                             "pictures",
                                          name))
                       : read_data(in, m, name, count, seed, e);
    if (rc < 0) {
        model_inputs_free(in);
        return -1;
    }
    make_shown(in, m);
    return 0;
}

void model_inputs_free(model_inputs *in)
{
    free(in->name);
    free(in->value);
    free(in->label);
    picture_free(&in->shown);
    *in = (model_inputs){ 0 };
}
