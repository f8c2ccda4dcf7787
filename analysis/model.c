#include "model.h"

#include <stdarg.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/array.h"

/* Bounds on what a file may ask for, far above any model this is meant for. */
enum { MOST_DEPTH = 1000, MOST_DIM = 1 << 16, MOST_IMAGE = 4096 };

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

/* Tokens that a tensor [.., tokens, dim] or [dim] holds. */
static int tokens_of(const archive *a, const char *name)
{
    const array *t = archive_find(a, name);
    return !t ? 0 : t->dims < 2 ? 1 : extent(a, name, -2);
}

static int config_from_shapes(const archive *a, vit_config *c, error *e)
{
    c->dim = extent(a, "patch_embed.proj.weight", 0);
    c->depth = depth_of(a);
    c->mlp = extent(a, "blocks.0.mlp.fc1.weight", 0);
    c->outputs = extent(a, "head.weight", 0);
    c->class_token = archive_find(a, "cls_token");
    c->registers = tokens_of(a, "reg_token");
    c->positions = archive_find(a, "pos_embed");
    c->mask_token = archive_find(a, "mask_token");
    c->qkv_bias = archive_find(a, "blocks.0.attn.qkv.bias");
    c->layer_scale = archive_find(a, "blocks.0.ls1.gamma");
    c->final_norm = archive_find(a, "norm.weight");
    c->pooled_norm = archive_find(a, "fc_norm.weight");
    const char *missing = !c->dim     ? "patch_embed.proj.weight"
                          : !c->depth ? "blocks.0.mlp.fc1.weight"
                                      : NULL;
    return missing ? error_set(e, "%s: has no tensor %s, which a transformer "
                                  "in timm's naming has", a->path, missing)
                   : 0;
}

/* Tensors beside the blocks that no such model has: they would change what
 * tokens there are. */
static int check_others(const archive *a, error *e)
{
    static const char *const parts[] = { "blocks.", "patch_embed.proj.",
                                         "cls_token", "reg_token", "pos_embed",
                                         "mask_token", "norm.", "fc_norm.",
                                         "head." };
    for (int i = 0; i < a->count; i++) {
        bool known = false;
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
            known |= !strncmp(a->items[i].name, parts[k], strlen(parts[k]));
        if (!known)
            return error_set(e, "%s: tensor %s is not part of such a model",
                             a->path, a->items[i].name);
    }
    return 0;
}

/* ---- what is said, and what is not --------------------------------------------------- */

static const char *const arch_names[] = { "vit", "sequence", "bytes" };
static const char *const pool_names[] = { "token", "mean", "none" };
static const char *const norm_names[] = { "pre", "post" };
static const char *const gelu_names[] = { "erf", "tanh" };

/* Where a key is said, it must be what the tensors make it. */
static int agrees(const model_keys *k, const char *key, int value, error *e)
{
    int n;
    const int said = model_key_integer(k, key, 0, 1 << 20, &n, e);
    if (said < 0) return -1;
    return said && n != value
               ? model_key_wrong(k, key, e, "contradicts the tensors, which "
                                            "make it %d", value)
               : 0;
}

static int check_sayings(const model_keys *k, const vit_config *c, error *e)
{
    double ratio;
    int n;
    if (agrees(k, "dim", c->dim, e) || agrees(k, "depth", c->depth, e) ||
        agrees(k, "mlp", c->mlp, e) ||
        (c->outputs && agrees(k, "outputs", c->outputs, e)) ||
        agrees(k, "registers", c->registers, e) ||
        agrees(k, "class_token", c->class_token, e) ||
        agrees(k, "qkv_bias", c->qkv_bias, e))
        return -1;
    const int said = model_key_numbers(k, "mlp_ratio", 1, &ratio, &n, e);
    if (said < 0) return -1;
    return said && fabs(ratio * c->dim - c->mlp) > 1
               ? model_key_wrong(k, "mlp_ratio", e, "contradicts the tensors, "
                                 "which make it %g", (double)c->mlp / c->dim)
               : 0;
}

/* Of pictures: channels and side of a patch, from the kernel of a convolution or
 * from the width of a linear layer. */
static int read_patch(const model_keys *k, vit_config *c, error *e)
{
    const array *w = archive_find(k->file, "patch_embed.proj.weight");
    const int all = extent(k->file, "patch_embed.proj.weight", 1);
    if (w->dims == 4) {
        c->channels = all;
        c->patch = extent(k->file, "patch_embed.proj.weight", 3);
        if (w->dim[2] != w->dim[3])
            return error_set(e, "%s: tensor patch_embed.proj.weight has patches "
                                "of %zu x %zu pixels; they must be square",
                             k->file->path, w->dim[2], w->dim[3]);
    } else {
        c->channels = 0;
        const int patch = model_key_integer(k, "patch", 1, MOST_IMAGE,
                                            &c->patch, e);
        if (patch < 0) return -1;
        if (model_key_integer(k, "channels", 1, 64, &c->channels, e) < 0)
            return -1;
        if (!patch && c->channels)
            c->patch = (int)(sqrt((double)all / c->channels) + 0.5);
        if (!patch && !c->channels)
            return error_set(e, "%s: tensor patch_embed.proj.weight is not "
                                "[dim, channels, p, p]: say the side of a patch, "
                                "as in --assume patch=8", k->file->path);
        if (!c->channels) c->channels = all / (c->patch * c->patch);
    }
    if (agrees(k, "patch", c->patch, e) || agrees(k, "channels", c->channels, e))
        return -1;
    return c->channels * c->patch * c->patch ==
                   (w->dims == 4 ? all * c->patch * c->patch : all)
               ? 0
               : error_set(e, "%s: patches of %d x %d pixels and %d channels "
                              "contradict patch_embed.proj.weight, whose rows "
                              "have %d values", k->file->path, c->patch,
                           c->patch, c->channels, all);
}

static int square_root(int n)
{
    const int side = (int)(sqrt(n > 0 ? n : 0) + 0.5);
    return side > 0 && side * side == n ? side : 0;
}

/* The pictures' size as it is said: rows and columns of patches, 0 if not. */
static int said_grid(const model_keys *k, const vit_config *c, int *rows,
                     int *columns, error *e)
{
    int grid[2] = { 0, 0 }, image[2], n;
    const int g = model_key_integers(k, "grid", 1, MOST_IMAGE / c->patch, 2,
                                     grid, &n, e);
    if (g < 0) return -1;
    if (g && n == 1)
        return model_key_wrong(k, "grid", e, "is not ROWSxCOLUMNS of patches");
    const int i = model_key_integers(k, "image", 1, MOST_IMAGE, 2, image, &n,
                                     e);
    if (i < 0) return -1;
    if (i && n == 1) image[1] = image[0];
    if (i && (image[0] % c->patch || image[1] % c->patch))
        return model_key_wrong(k, "image", e, "does not split into patches of "
                                              "%d pixels", c->patch);
    if (i && g && (image[0] / c->patch != grid[0] ||
                   image[1] / c->patch != grid[1]))
        return model_key_wrong(k, "grid", e, "contradicts image: %d x %d "
                               "patches", image[0] / c->patch,
                               image[1] / c->patch);
    *rows = i ? image[0] / c->patch : grid[0];
    *columns = i ? image[1] / c->patch : grid[1];
    return 0;
}

/* Whether pos_embed is of all tokens or of those behind the front alone. */
static int place_positions(const model_keys *k, vit_config *c, int cells,
                           error *e)
{
    const int positions = tokens_of(k->file, "pos_embed");
    const int front = vit_front(c);
    c->early_positions = front > 0 && positions == cells;
    if (!c->positions || positions == cells || positions == cells + front)
        return 0;
    return error_set(e, "%s: pos_embed has %d tokens, but there are %d of the "
                        "input and %d in front (class token, registers)",
                     k->file->path, positions, cells, front);
}

static int read_grid(model_keys *k, vit_config *c, error *e)
{
    const int positions = tokens_of(k->file, "pos_embed");
    const int front = vit_front(c);
    int rows = 0, columns = 0;
    if (said_grid(k, c, &rows, &columns, e)) return -1;
    if (!rows) {
        rows = columns = square_root(positions - front);
        if (!rows) rows = columns = square_root(positions);
        if (!rows)
            return error_set(e, "%s: pos_embed has %d tokens, %d of them in "
                                "front (class token, registers): not a square "
                                "number of patches; say --grid ROWSxCOLUMNS",
                             k->file->path, positions, front);
        model_assume(k, "grid", "that many tokens as a square", "%dx%d", rows,
                     columns);
    }
    c->height = rows * c->patch;
    c->image = columns * c->patch;
    return place_positions(k, c, rows * columns, e);
}

static int read_frames(model_keys *k, vit_config *c, error *e)
{
    c->features = extent(k->file, "patch_embed.proj.weight", 1);
    if (agrees(k, "features", c->features, e)) return -1;
    model_key_done(k, "features");
    const int said = model_key_integer(k, "frames", 1, 1 << 20, &c->frames, e);
    if (said < 0) return -1;
    if (!said) {
        c->frames = tokens_of(k->file, "pos_embed") - vit_front(c);
        if (c->frames < 1)
            return error_set(e, "%s: no pos_embed tells how long the input is: "
                                "say --assume frames=N", k->file->path);
        model_assume(k, "frames", "tokens of pos_embed", "%d", c->frames);
    }
    return place_positions(k, c, c->frames, e);
}

static int read_heads(model_keys *k, vit_config *c, error *e)
{
    const int heads = model_key_integer(k, "heads", 1, MOST_DIM, &c->heads, e);
    if (heads < 0) return -1;
    const int wide = model_key_integer(k, "head_dim", 1, MOST_DIM, &c->head_dim,
                                       e);
    if (wide < 0) return -1;
    if (!heads) {
        if (!wide) c->head_dim = 64;
        c->heads = c->dim / c->head_dim;
        if (c->heads < 1 || c->dim % c->head_dim)
            return error_set(e, "%s: %d channels do not split into heads of %d; "
                                "say --heads", k->file->path, c->dim,
                             c->head_dim);
        if (!wide) model_assume(k, "heads", "dim / 64", "%d", c->heads);
    } else if (!wide) {
        if (c->dim % c->heads)
            return model_key_wrong(k, "heads", e, "does not divide %d channels",
                                   c->dim);
        c->head_dim = c->dim / c->heads;
    } else if (c->heads * c->head_dim != c->dim &&
               extent(k->file, "blocks.0.attn.qkv.weight", 0) == 3 * c->dim) {
        return model_key_wrong(k, "head_dim", e, "times %d heads is not the %d "
                               "channels of the tensors", c->heads, c->dim);
    }
    return 0;
}

/* Mean or deviation of the channels; one number is that of all. */
static int read_channels(const model_keys *k, const char *key,
                         const vit_config *c, double out[3], error *e)
{
    int n;
    const int said = model_key_numbers(k, key, 3, out, &n, e);
    if (said != 1) return said;
    bool spare = n == 3; /* of older files: three, whatever the channels      */
    for (int i = c->channels; i < n; i++)
        spare &= out[i] == 0 || out[i] == 1 || out[i] == out[0];
    if (n != 1 && n != c->channels && !(spare && c->channels < 3))
        return model_key_wrong(k, key, e, "has %d values for %d channels", n,
                               c->channels);
    for (int i = 1; n == 1 && i < 3; i++) out[i] = out[0];
    return 1;
}

static int read_normalisation(model_keys *k, vit_config *c, error *e)
{
    static const double mean[3] = { 0.485, 0.456, 0.406 };
    static const double deviation[3] = { 0.229, 0.224, 0.225 };
    const int m = read_channels(k, "mean", c, c->mean, e);
    if (m < 0) return -1;
    const int d = read_channels(k, "std", c, c->deviation, e);
    if (d < 0) return -1;
    for (int i = 0; d && i < 3; i++)
        if (i < c->channels && !(c->deviation[i] > 0))
            return model_key_wrong(k, "std", e, "is not above 0");
    if (m != d)
        return model_key_wrong(k, m ? "mean" : "std", e, "is said without %s: "
                               "say both", m ? "std" : "mean");
    if (m || k->unread) return 0;
    if (c->channels != 3) {
        model_assume(k, "normalize", "pixels from 0 to 1 as they are", "none");
        return 0;
    }
    memcpy(c->mean, mean, sizeof mean);
    memcpy(c->deviation, deviation, sizeof deviation);
    model_assume(k, "normalize", "mean 0.485,0.456,0.406, std "
                                 "0.229,0.224,0.225", "imagenet");
    return 0;
}

static int read_input(model_keys *k, vit_config *c, error *e)
{
    int arch = VIT_IMAGE;
    const int said = model_key_word(k, "arch", arch_names, 3, &arch, e);
    if (said < 0) return -1;
    const array *w = archive_find(k->file, "patch_embed.proj.weight");
    if (!said && w->dims != 4)
        return error_set(e, "%s: without metadata, patch_embed.proj.weight "
                            "needs the shape [dim, channels, p, p]; what takes "
                            "others is said by --assume arch=sequence (or vit, "
                            "bytes)", k->file->path);
    c->arch = (enum vit_arch)arch;
    if (c->arch != VIT_IMAGE) return read_frames(k, c, e);
    return read_patch(k, c, e) || read_grid(k, c, e) ||
           read_normalisation(k, c, e);
}

static int read_pool(model_keys *k, vit_config *c, error *e)
{
    int pool;
    const int said = model_key_word(k, "pool", pool_names, 3, &pool, e);
    if (said < 0) return -1;
    if (said) c->pool = (enum vit_pool)pool;
    if (said && c->outputs && c->pool == VIT_POOL_TOKEN && !c->class_token)
        return model_key_wrong(k, "pool", e, "needs a class token, and there is "
                                             "no cls_token");
    if (said || !c->outputs) return 0;
    const bool token = c->class_token && !c->pooled_norm;
    c->pool = token ? VIT_POOL_TOKEN : VIT_POOL_MEAN;
    model_assume(k, "pool", token ? "there is a class token"
                            : c->pooled_norm ? "there is fc_norm"
                                             : "there is no class token",
                 "%s", pool_names[c->pool]);
    return 0;
}

static int read_blocks(model_keys *k, vit_config *c, error *e)
{
    int post = 0, tanh_form = 0, n;
    const int order = model_key_word(k, "norm", norm_names, 2, &post, e);
    if (order < 0) return -1;
    const int gelu = model_key_word(k, "gelu", gelu_names, 2, &tanh_form, e);
    if (gelu < 0) return -1;
    const int eps = model_key_numbers(k, "ln_eps", 1, &c->ln_eps, &n, e);
    if (eps < 0) return -1;
    if (eps && !(c->ln_eps > 0 && c->ln_eps < 1))
        return model_key_wrong(k, "ln_eps", e, "is not between 0 and 1");
    c->post_norm = post;
    c->tanh_gelu = tanh_form;
    if (!order) model_assume(k, "norm", "before each branch", "pre");
    if (!eps) {
        c->ln_eps = 1e-6;
        model_assume(k, "ln_eps", "timm's", "1e-6");
    }
    if (!gelu) model_assume(k, "gelu", "the exact form", "erf");
    return 0;
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

static int read_mechanisms(model_keys *k, vit_config *c, error *e)
{
    const char *attention = model_key(k, "attention");
    const char *kind = model_key(k, "norm_kind");
    if (attention)
        snprintf(c->attention, sizeof c->attention, "%s", attention);
    else model_assume(k, "attention", "as ViT's", "%s", c->attention);
    if (kind) snprintf(c->norm, sizeof c->norm, "%s", kind);
    const att_mechanism *m = att_find_mechanism(c->attention);
    if (!m)
        return model_key_wrong(k, "attention", e, "is not a mechanism (see "
                                                  "attnbench list mechanisms)");
    const att_mechanism *norm = att_find_mechanism(c->norm);
    if (!norm || strcmp(norm->family, "norm"))
        return model_key_wrong(k, "norm_kind", e, "is not a normalisation (see "
                                                  "attnbench list mechanisms)");
    c->options = att_problem_default;
    if (model_key_fields(k, m, &c->options, e)) return -1;
    if (!model_key(k, "bias") && !model_key(k, "rel"))
        c->options.bias = needs_bias(k->file, m, c);
    return 0;
}

static int read_config(model_keys *k, vit_config *c, error *e)
{
    const char *task = archive_metadata(k->file, "task");
    if (task) snprintf(c->task, sizeof c->task, "%s", task);
    return check_sayings(k, c, e) || read_input(k, c, e) ||
                   read_heads(k, c, e) || read_pool(k, c, e) ||
                   read_blocks(k, c, e) || read_mechanisms(k, c, e)
               ? -1
               : 0;
}

/* ---- weights ----------------------------------------------------------------------- */

/* Products of the first 1, 2 ... extents, ones left out. */
static int borders(int dims, const size_t *dim, size_t *out)
{
    size_t product = 1;
    int n = 0;
    for (int i = 0; i < dims; i++)
        if (dim[i] != 1) out[n++] = product *= dim[i];
    return n;
}

/* Whether one shape is the other with neighbouring extents multiplied: [3][h][d]
 * is [3 h][d] is [1][3 h d], but [d][3 h] is not: its elements lie otherwise. */
static bool same_layout(const array *from, const net_tensor *t)
{
    size_t dim[ARRAY_DIMS], border[2][ARRAY_DIMS];
    for (int i = 0; i < t->dims; i++) dim[i] = (size_t)t->dim[i];
    const int n = borders(from->dims, from->dim, border[0]);
    const int m = borders(t->dims, dim, border[1]);
    const int coarse = m < n, few = coarse ? m : n, many = coarse ? n : m;
    for (int i = 0, k = 0; i < few; i++, k++) {
        while (k < many && border[!coarse][k] != border[coarse][i]) k++;
        if (k == many) return false;
    }
    return true;
}

/* Every learned tensor is there; then memory for them can be no surprise. */
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
        if (!same_layout(from, t)) {
            char shape[96] = "";
            for (int d = 0; d < t->dims; d++)
                snprintf(shape + strlen(shape), sizeof shape - strlen(shape),
                         "%s%d", d ? ", " : "", t->dim[d]);
            return error_set(e, "%s: tensor %s must be [%s], every weight [out, "
                                "in]: is it transposed?", a->path, t->name,
                             shape);
        }
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

static int load(model *m, const archive *a, const model_keys *k, error *e)
{
    if (vit_build(&m->network, &m->config, e)) {
        error inner = *e;
        char *said = model_key_list(k);
        error_set(e, "%s: %s%s", a->path, inner.text, said);
        free(said);
        return -1;
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

/* Options that would change nothing. */
static int check_options(const model *m, const model_option *options, int count,
                         error *e)
{
    for (int i = 0; i < count; i++) {
        const bool normalises = !strcmp(options[i].key, "normalize");
        if (!strcmp(options[i].key, "pool") && !m->config.outputs)
            return error_set(e, "%s: --%s: there is no head.weight, and nothing "
                                "is pooled", m->path, options[i].option);
        if ((normalises || !strcmp(options[i].key, "grid")) &&
            m->config.arch != VIT_IMAGE)
            return error_set(e, "%s: --%s is of pictures, which this model does "
                                "not see", m->path, options[i].option);
    }
    return 0;
}

int model_read(model *m, const char *path, const model_option *options,
               int count, error *e)
{
    archive a;
    model_keys keys = { 0 };
    *m = (model){ .config = vit_default };
    if (archive_read(&a, path, e)) return -1;
    m->path = strdup(path);
    vit_config *c = &m->config;
    c->positions = c->class_token = false;
    int rc = config_from_shapes(&a, c, e);
    if (rc == 0) rc = check_others(&a, e);
    if (rc == 0) rc = model_keys_read(&keys, &a, options, count, e);
    if (rc == 0) rc = read_config(&keys, c, e);
    if (rc == 0) rc = check_options(m, options, count, e);
    if (rc == 0) rc = load(m, &a, &keys, e);
    m->assumed = keys.assumed;
    if (rc == 0 && !model_key(&keys, "mean")) {
        m->unread_input = keys.unread;
        keys.unread = NULL;
    }
    model_keys_free(&keys);
    archive_free(&a);
    if (rc) model_free(m);
    return rc;
}

void model_free(model *m)
{
    free(m->path);
    free(m->unread_input);
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

static void note_channels(notes *n, const char *key, const vit_config *c,
                          const double x[3])
{
    if (c->channels == 3)
        note(n, key, "%.12g,%.12g,%.12g", x[0], x[1], x[2]);
    else note(n, key, "%.12g", x[0]);
}

static void describe(const vit_config *c, notes *n)
{
    note(n, "arch", "%s", arch_names[c->arch]);
    note(n, "attention", "%s", c->attention);
    note(n, "heads", "%d", c->heads);
    note(n, "head_dim", "%d", c->head_dim);
    if (c->arch == VIT_IMAGE) {
        if (c->height && c->height != c->image)
            note(n, "image", "%dx%d", c->height, c->image);
        else note(n, "image", "%d", c->image);
        note(n, "patch", "%d", c->patch);
        note(n, "channels", "%d", c->channels);
        note_channels(n, "mean", c, c->mean);
        note_channels(n, "std", c, c->deviation);
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
        /* of sequences, features are those of the input */
        note(n, f == ATT_FIELD_features && c->arch != VIT_IMAGE
                    ? "random_features" : att_fields[f].name, "%s", value);
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
