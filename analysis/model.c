#include "model.h"

#include <stdarg.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/array.h"

/* Bounds on what a file may ask for, far above any model this is meant for. */
enum { MOST_DEPTH = 1000, MOST_DIM = 1 << 16, MOST_IMAGE = 4096 };

/* ---- metadata ------------------------------------------------------------------- */

static const char *const arch_names[] = { "vit", "sequence", "bytes" };
static const char *const pool_names[] = { "token", "mean", "none" };

static int word(const archive *a, const char *key, const char *const *words,
                int count, int absent, int *out, error *e)
{
    const char *text = archive_metadata(a, key);
    *out = absent;
    for (int i = 0; text && i < count; i++)
        if (!strcmp(text, words[i])) {
            *out = i;
            return 0;
        }
    return text ? error_set(e, "%s: metadata %s='%s' is not known", a->path,
                            key, text)
                : 0;
}

static int number(const archive *a, const char *key, int absent, int most,
                  int *out, error *e)
{
    const char *text = archive_metadata(a, key);
    char *end;
    *out = absent;
    if (!text) return 0;
    const long v = strtol(text, &end, 10);
    if (end == text || *end || v < 1 || v > most)
        return error_set(e, "%s: metadata %s='%s' is not an integer from 1 to %d",
                         a->path, key, text, most);
    *out = (int)v;
    return 0;
}

/* "(pixel/255-0.28604)/0.353024", or mean and std as lists of numbers. */
static void input_scale(const archive *a, vit_config *c)
{
    const char *input = archive_metadata(a, "input");
    if (input && sscanf(input, "(pixel/255-%lf)/%lf", &c->mean[0],
                        &c->deviation[0]) == 2)
        return;
    const char *mean = archive_metadata(a, "mean");
    const char *deviation = archive_metadata(a, "std");
    if (mean) sscanf(mean, "%lf,%lf,%lf", &c->mean[0], &c->mean[1], &c->mean[2]);
    if (deviation)
        sscanf(deviation, "%lf,%lf,%lf", &c->deviation[0], &c->deviation[1],
               &c->deviation[2]);
}

/* The field that a metadata key means to this mechanism, or -1. */
static int option_field(const att_mechanism *m, const char *key,
                        const char *value)
{
    if (!strcmp(key, "dwc")) key = "conv";
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        att_problem p = att_problem_default;
        const bool named = !strcmp(key, att_fields[f].name) ||
                           !strcmp(key, att_fields[f].other_name);
        if (named && att_uses(m, (enum att_field)f) &&
            att_set(&p, (enum att_field)f, value))
            return f;
    }
    return -1;
}

/* Whether the file has a parameter that the mechanism has only with bias=1. */
static bool needs_bias(const archive *a, const att_mechanism *m,
                       const vit_config *c)
{
    att_problem p = c->options;
    att_tensor with[ATT_PARAMS], without[ATT_PARAMS];
    if (!att_uses(m, ATT_FIELD_bias) || !m->parameters) return false;
    p.grid = (att_list){ 2, { 2, 2 } };
    p.bias = 0;
    att_parameters(m, &p, without);
    p.bias = 1;
    const int n = att_parameters(m, &p, with);
    for (int i = 0; i < n; i++) {
        char name[96];
        snprintf(name, sizeof name, "blocks.0.attn.%s", with[i].name);
        if (!att_elements(&without[i]) && archive_find(a, name)) return true;
    }
    return false;
}

static int options(const archive *a, vit_config *c, error *e)
{
    static const char *const ours[] = { "heads", "head_dim", "norm", "dim" };
    const att_mechanism *m = att_find_mechanism(c->attention);
    if (!m)
        return error_set(e, "%s: metadata attention='%s' is not a mechanism "
                            "(see attnbench list mechanisms)", a->path,
                         c->attention);
    c->options = att_problem_default;
    for (int i = 0; i < a->metadata_count; i++) {
        const char *key = a->metadata[i].key, *value = a->metadata[i].value;
        bool own = false;
        for (size_t k = 0; k < sizeof ours / sizeof *ours; k++)
            own |= !strcmp(key, ours[k]);
        const int f = own ? -1 : option_field(m, key, value);
        if (f >= 0) att_set(&c->options, (enum att_field)f, value);
    }
    c->options.bias = needs_bias(a, m, c);
    return 0;
}

static int config_from_metadata(const archive *a, vit_config *c, error *e)
{
    static const char *const norms[] = { "pre", "post" };
    static const char *const gelus[] = { "erf", "tanh" };
    int arch, pool, post, tanh_form;
    if (word(a, "arch", arch_names, 3, 0, &arch, e) ||
        word(a, "pool", pool_names, 3, VIT_POOL_MEAN, &pool, e) ||
        word(a, "norm", norms, 2, 0, &post, e) ||
        word(a, "gelu", gelus, 2, 0, &tanh_form, e) ||
        number(a, "heads", 1, MOST_DIM, &c->heads, e) ||
        number(a, "head_dim", 64, MOST_DIM, &c->head_dim, e) ||
        number(a, "image", 1, MOST_IMAGE, &c->image, e) ||
        number(a, "patch", 1, MOST_IMAGE, &c->patch, e) ||
        number(a, "channels", 1, 64, &c->channels, e) ||
        number(a, "frames", 1, 1 << 20, &c->frames, e) ||
        number(a, "features", 1, MOST_DIM, &c->features, e))
        return -1;
    c->arch = (enum vit_arch)arch;
    c->pool = (enum vit_pool)pool;
    c->post_norm = post;
    c->tanh_gelu = tanh_form;
    const char *attention = archive_metadata(a, "attention");
    snprintf(c->attention, sizeof c->attention, "%s",
             attention ? attention : "softmax");
    const char *kind = archive_metadata(a, "norm_kind");
    if (kind) snprintf(c->norm, sizeof c->norm, "%s", kind);
    const char *task = archive_metadata(a, "task");
    snprintf(c->task, sizeof c->task, "%s", task ? task : "classify");
    const char *eps = archive_metadata(a, "ln_eps");
    if (eps) c->ln_eps = strtod(eps, NULL);
    if (!(c->ln_eps > 0 && c->ln_eps < 1))
        return error_set(e, "%s: metadata ln_eps='%s' is not between 0 and 1",
                         a->path, eps);
    input_scale(a, c);
    return options(a, c, e);
}

/* ---- shapes ------------------------------------------------------------------------ */

/* Extent `axis` of a tensor, counted from the end if negative; 0 if there is no
 * such tensor or axis. */
static int extent(const archive *a, const char *name, int axis)
{
    const array *t = archive_find(a, name);
    if (!t) return 0;
    if (axis < 0) axis += t->dims;
    if (axis < 0 || axis >= t->dims || t->dim[axis] > MOST_DIM) return 0;
    return (int)t->dim[axis];
}

static int depth_of(const archive *a)
{
    char name[64];
    for (int i = 0; i < MOST_DEPTH; i++) {
        snprintf(name, sizeof name, "blocks.%d.mlp.fc1.weight", i);
        if (!archive_find(a, name)) return i;
    }
    return MOST_DEPTH;
}

static int config_from_shapes(const archive *a, vit_config *c, error *e)
{
    c->dim = extent(a, "patch_embed.proj.weight", 0);
    c->depth = depth_of(a);
    c->mlp = extent(a, "blocks.0.mlp.fc1.weight", 0);
    c->outputs = extent(a, "head.weight", 0);
    c->class_token = archive_find(a, "cls_token");
    c->positions = archive_find(a, "pos_embed");
    c->mask_token = archive_find(a, "mask_token");
    c->qkv_bias = archive_find(a, "blocks.0.attn.qkv.bias");
    c->final_norm = archive_find(a, "norm.weight");
    const char *missing = !c->dim       ? "patch_embed.proj.weight"
                          : !c->depth   ? "blocks.0.mlp.fc1.weight"
                          : !c->outputs ? "head.weight"
                                        : NULL;
    return missing ? error_set(e, "%s: has no tensor %s, which a transformer "
                                  "in timm's naming has", a->path, missing)
                   : 0;
}

/* A checkpoint of timm's: what its shapes say, and ImageNet's conventions. */
static int config_of_checkpoint(const archive *a, int heads, vit_config *c,
                                error *e)
{
    static const double mean[3] = { 0.485, 0.456, 0.406 };
    static const double deviation[3] = { 0.229, 0.224, 0.225 };
    const int tokens = extent(a, "pos_embed", -2) - c->class_token;
    const int side = (int)(sqrt(tokens > 0 ? tokens : 0) + 0.5);
    c->patch = extent(a, "patch_embed.proj.weight", 3);
    c->channels = extent(a, "patch_embed.proj.weight", 1);
    if (!c->patch || side * side != tokens || tokens == 0)
        return error_set(e, "%s: without metadata, patch_embed.proj.weight needs "
                            "the shape [dim, channels, p, p] and pos_embed a "
                            "square number of tokens", a->path);
    c->image = side * c->patch;
    c->heads = heads ? heads : c->dim / 64;
    if (c->heads < 1 || c->dim % c->heads)
        return error_set(e, "%s: %d channels do not split into %d heads; say "
                            "--heads", a->path, c->dim, c->heads);
    c->head_dim = c->dim / c->heads;
    c->pool = c->class_token ? VIT_POOL_TOKEN : VIT_POOL_MEAN;
    c->ln_eps = 1e-6;
    c->options = att_problem_default;
    memcpy(c->mean, mean, sizeof mean);
    memcpy(c->deviation, deviation, sizeof deviation);
    return 0;
}

/* ---- weights ----------------------------------------------------------------------- */

/* Every learned tensor is there; then memory for them can be no surprise.  Size-1
 * dimensions in front, or a split of one dimension, do not matter. */
static int check_sizes(const archive *a, const network *n, error *e)
{
    for (int i = 0; i < n->tensor_count; i++) {
        const net_tensor *t = &n->tensors[i];
        const array *from = archive_find(a, t->name);
        if (!from && t->fixed) continue; /* made from the seed */
        if (!from)
            return error_set(e, "%s: has no tensor %s", a->path, t->name);
        if (from->elements != t->elements)
            return error_set(e, "%s: tensor %s has %zu elements; the other "
                                "shapes make it %zu", a->path, t->name,
                             from->elements, t->elements);
    }
    return 0;
}

static int load_tensor(const archive *a, const net_tensor *t, model *m,
                       error *e)
{
    const array *from = archive_find(a, t->name);
    if (!from) return 0;
    double *exact = m->exact + t->offset;
    array_to_double(from, exact);
    for (size_t i = 0; i < t->elements; i++) {
        if (!isfinite(exact[i]))
            return error_set(e, "%s: tensor %s, element %zu is not finite",
                             a->path, t->name, i);
        m->weights[t->offset + i] = (float)exact[i];
    }
    return 0;
}

/* Tensors that no operation reads would be silently ignored; say so. */
static int check_all_used(const archive *a, const network *n, error *e)
{
    for (int i = 0; i < a->count; i++)
        if (!net_find(n, a->items[i].name))
            return error_set(e, "%s: tensor %s is not part of such a model",
                             a->path, a->items[i].name);
    return 0;
}

static int load(model *m, const archive *a, error *e)
{
    if (vit_build(&m->network, &m->config, e)) {
        error inner = *e;
        return error_set(e, "%s: %s", a->path, inner.text);
    }
    const network *n = &m->network;
    if (check_sizes(a, n, e)) return -1;
    m->weights = malloc(n->elements * sizeof *m->weights);
    m->exact = malloc(n->elements * sizeof *m->exact);
    if (!m->weights || !m->exact)
        return error_set(e, "%s: out of memory for %zu numbers", a->path,
                         n->elements);
    net_init(n, 1, m->weights);
    for (size_t i = 0; i < n->elements; i++) m->exact[i] = m->weights[i];
    for (int i = 0; i < n->tensor_count; i++)
        if (load_tensor(a, &n->tensors[i], m, e)) return -1;
    return check_all_used(a, n, e);
}

int model_read(model *m, const char *path, int heads, error *e)
{
    archive a;
    *m = (model){ .config = vit_default };
    if (archive_read(&a, path, e)) return -1;
    m->path = strdup(path);
    vit_config *c = &m->config;
    c->positions = c->class_token = false;
    int rc = config_from_shapes(&a, c, e);
    if (rc == 0)
        rc = archive_metadata(&a, "arch") || archive_metadata(&a, "attention")
                 ? config_from_metadata(&a, c, e)
                 : config_of_checkpoint(&a, heads, c, e);
    if (rc == 0) rc = load(m, &a, e);
    archive_free(&a);
    if (rc) model_free(m);
    return rc;
}

void model_free(model *m)
{
    free(m->path);
    net_free(&m->network);
    free(m->weights);
    free(m->exact);
    *m = (model){ 0 };
}

/* ---- writing -------------------------------------------------------------------------- */

typedef struct notes {
    const char *list[2 * (ATT_FIELD_COUNT + 40) + 1];
    char text[ATT_FIELD_COUNT + 40][ATT_TEXT];
    int count;
} notes;

__attribute__((format(printf, 3, 4)))
static void note(notes *n, const char *key, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(n->text[n->count], ATT_TEXT, format, arguments);
    va_end(arguments);
    n->list[2 * n->count] = key;
    n->list[2 * n->count + 1] = n->text[n->count];
    n->count++;
}

static void describe(const vit_config *c, notes *n)
{
    note(n, "arch", "%s", arch_names[c->arch]);
    note(n, "attention", "%s", c->attention);
    note(n, "heads", "%d", c->heads);
    note(n, "head_dim", "%d", c->head_dim);
    if (c->arch == VIT_IMAGE) {
        note(n, "image", "%d", c->image);
        note(n, "patch", "%d", c->patch);
        note(n, "channels", "%d", c->channels);
        note(n, "mean", "%.12g,%.12g,%.12g", c->mean[0], c->mean[1], c->mean[2]);
        note(n, "std", "%.12g,%.12g,%.12g", c->deviation[0], c->deviation[1],
             c->deviation[2]);
    } else {
        note(n, "frames", "%d", c->frames);
        note(n, "features", "%d", c->features);
    }
    note(n, "pool", "%s", pool_names[c->pool]);
    note(n, "norm", "%s", c->post_norm ? "post" : "pre");
    note(n, "norm_kind", "%s", c->norm);
    note(n, "ln_eps", "%g", c->ln_eps);
    note(n, "gelu", "%s", c->tanh_gelu ? "tanh" : "erf");
    note(n, "task", "%s", c->task);
    const att_mechanism *m = att_find_mechanism(c->attention);
    for (int f = 0; m && f < ATT_FIELD_COUNT; f++) {
        char value[ATT_TEXT];
        const bool shape = f == ATT_FIELD_grid || f == ATT_FIELD_heads ||
                           f == ATT_FIELD_head_dim || f == ATT_FIELD_batch ||
                           f == ATT_FIELD_dtype;
        if (shape || !att_uses(m, (enum att_field)f) ||
            att_is_default(&c->options, (enum att_field)f))
            continue;
        att_get(&c->options, (enum att_field)f, value);
        note(n, att_fields[f].name, "%s", value);
    }
}

int model_write(const char *path, const vit_config *config, const network *n,
                const float *weights, const char *const *more, error *e)
{
    notes all = { 0 };
    describe(config, &all);
    for (int i = 0; more && more[i] && all.count < ATT_FIELD_COUNT + 39; i += 2)
        note(&all, more[i], "%s", more[i + 1]);
    archive_item *items = calloc((size_t)n->tensor_count, sizeof *items);
    if (!items) return error_set(e, "%s: out of memory", path);
    for (int i = 0; i < n->tensor_count; i++) {
        const net_tensor *t = &n->tensors[i];
        items[i] = (archive_item){ .name = t->name, .type = ARRAY_F32,
                                   .dims = t->dims,
                                   .data = weights + t->offset };
        for (int a = 0; a < t->dims; a++) items[i].dim[a] = (size_t)t->dim[a];
    }
    const int rc = archive_write(path, items, n->tensor_count, all.list, e);
    free(items);
    return rc;
}
