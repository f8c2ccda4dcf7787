#include "zoo.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DEPTH = 256, MOST_LEVELS = 16 };

static const char *const block_names[] = { "transformer", "convnext",
                                           "halonet" };
enum block { TRANSFORMER, CONVNEXT, HALONET, BLOCKS };

/* What is the same for all blocks of a model. */
typedef struct builder {
    network *n;
    const json *file;
    const char *path;
    const char *norm;
    att_problem norm_options;
    double layer_scale; /* 0: none                                           */
    int mlp_conv;       /* side of its depthwise convolution; 0: none         */
    enum block block;
    bool qkv_bias;
    error *e;
} builder;

static int wrong(const builder *b, const char *key, const char *what)
{
    return error_set(b->e, "%s: \"%s\" %s", b->path, key, what);
}

/* Members of an object that are none of "a b c" would be passed over. */
static int check_keys(const builder *b, const json *object, const char *known,
                      const char *of)
{
    for (const json *j = json_first(object); j; j = json_next(j)) {
        const char *key = json_key(j), *at = known;
        const size_t n = key ? strlen(key) : 0;
        if (!key) return error_set(b->e, "%s: %s is not an object", b->path, of);
        while (at && !(!strncmp(at, key, n) && (at[n] == ' ' || !at[n]))) {
            at = strchr(at, ' ');
            if (at) at++;
        }
        if (!at)
            return error_set(b->e, "%s: \"%s\" is no member of %s (%s)",
                             b->path, key, of, known);
    }
    return 0;
}

/* true or false, where the member is there. */
static int check_flag(const builder *b, const json *object, const char *key)
{
    const json *j = json_get(object, key);
    return !j || json_true(j) || json_is_false(j)
               ? 0
               : wrong(b, key, "is neither true nor false");
}

/* A number above 0 and below 1, where the member is there. */
static int check_eps(const builder *b, const json *object, const char *key)
{
    const json *j = json_get(object, key);
    const double x = json_number(j, NAN);
    return !j || (x > 0 && x < 1) ? 0
                                  : wrong(b, key, "is no number from 0 to 1");
}

/* An integer member from 1 to most; absent if it is not there (0: required). */
static int integer(const builder *b, const json *object, const char *key,
                   int absent, int most)
{
    const json *j = json_get(object, key);
    if (!j && absent) return absent;
    const double v = json_number(j, 0);
    if (v >= 1 && v <= most && v == floor(v)) return (int)v;
    wrong(b, key, j ? "is not an integer in range" : "is missing");
    return -1;
}

/* Booleans that are not there are as said. */
static bool flag(const json *object, const char *key, bool absent)
{
    const json *j = json_get(object, key);
    return j ? json_true(j) : absent;
}

static bool keeps_statistics(const char *norm)
{
    const att_mechanism *m = att_find_mechanism(norm);
    return m && att_uses(m, ATT_FIELD_mode);
}

static int norm(builder *b, int x, const char *name)
{
    return net_norm(b->n, x, b->norm, &b->norm_options, name);
}

/* With an eps of its own, if where[key] says one.  Norms that keep statistics
 * have one eps everywhere: the exceptions of papers' models are LayerNorms. */
static int norm_with(builder *b, int x, const json *where, const char *key,
                     const char *name)
{
    att_problem options = b->norm_options;
    options.ln_eps = json_number(json_get(where, key), options.ln_eps);
    if (!keeps_statistics(b->norm)) options.eps = options.ln_eps;
    return net_norm(b->n, x, b->norm, &options, name);
}

/* ---- tokenizers and downsamplers ------------------------------------------------ */

static int step(builder *b, const json *s, int x, int dim, const char *name)
{
    char prefix[64];
    if (check_keys(b, s, "conv stride pad out groups bias merge linear maxpool "
                         "relu norm eps", "a step") ||
        check_flag(b, s, "bias") || check_eps(b, s, "eps"))
        return -1;
    const int out = integer(b, s, "out", dim, 1 << 16);
    if (out < 0) return -1;
    if (json_true(json_get(s, "merge"))) return net_merge(b->n, x);
    if (json_true(json_get(s, "norm"))) {
        snprintf(prefix, sizeof prefix, "%s.norm", name);
        return norm_with(b, x, s, "eps", prefix);
    }
    const bool bias = flag(s, "bias", true);
    if (json_true(json_get(s, "linear"))) {
        snprintf(prefix, sizeof prefix, "%s.reduction", name);
        return net_linear(b->n, x, out, bias, prefix);
    }
    if (json_true(json_get(s, "relu"))) return net_relu(b->n, x);
    const bool pool = json_get(s, "maxpool");
    const int kernel = integer(b, s, pool ? "maxpool" : "conv", 0, 64);
    const int stride = integer(b, s, "stride", 1, 64);
    if (kernel < 0 || stride < 0) return -1;
    const int pad = json_get(s, "pad") ? integer(b, s, "pad", 0, 64) : 0;
    const int groups = integer(b, s, "groups", 1, 1 << 16);
    if (pad < 0 || groups < 0) return -1;
    if (pool) return net_maxpool(b->n, x, kernel, stride, pad);
    snprintf(prefix, sizeof prefix, "%s.conv", name);
    return net_conv(b->n, x, out, kernel, stride, pad, groups, bias, prefix);
}

static int steps(builder *b, const json *list, int x, int dim, const char *name)
{
    char prefix[48];
    int i = 0;
    for (const json *s = json_first(list); s && x >= 0; s = json_next(s), i++) {
        snprintf(prefix, sizeof prefix, "%s.%d", name, i);
        x = step(b, s, x, dim, prefix);
    }
    return x;
}

/* ---- blocks ------------------------------------------------------------------------ */

static int options_of(const builder *b, const json *list, const char *mechanism,
                      att_problem *p)
{
    for (const json *j = json_first(list); j; j = json_next(j)) {
        const char *key = json_key(j);
        char text[ATT_TEXT];
        if (!strcmp(key, "mechanism") || !strcmp(key, "sr") ||
            !strcmp(key, "heads") || !strcmp(key, "lepe"))
            continue;
        const int f = att_field_find(key);
        if (json_text(j)) snprintf(text, sizeof text, "%s", json_text(j));
        else snprintf(text, sizeof text, "%.17g", json_number(j, NAN));
        if (f < 0 || !att_set(p, (enum att_field)f, text))
            return error_set(b->e, "%s: attention \"%s\": \"%s\": %s is not an "
                                   "option of a problem", b->path, mechanism,
                             key, text);
    }
    return 0;
}

/* The mechanism that a block names, and its problem; NULL if that is wrong. */
static const char *problem_of(const builder *b, const json *kind, int dim,
                              int heads, att_problem *p)
{
    const char *mechanism = json_text(json_get(kind, "mechanism"));
    *p = att_problem_default;
    if (!mechanism) wrong(b, "attention", "needs a \"mechanism\"");
    if (!mechanism || options_of(b, kind, mechanism, p)) return NULL;
    p->heads = heads;
    p->head_dim = dim / heads;
    return mechanism;
}

/* k | v of a map reduced by sr: a convolution of sr x sr, a norm, a linear. */
static int reduced_keys(builder *b, int x, int sr, int width, int dim,
                        const char *block)
{
    char name[80];
    if (sr > 1) {
        snprintf(name, sizeof name, "%s.attn.sr", block);
        x = net_conv(b->n, x, dim, sr, sr, 0, 1, true, name);
        snprintf(name, sizeof name, "%s.attn.norm", block);
        x = norm_with(b, x, b->file, "sr_norm_eps", name);
    }
    snprintf(name, sizeof name, "%s.attn.kv", block);
    return net_linear(b->n, x, width, b->qkv_bias, name);
}

static int depthwise(builder *b, int x, int channels, int side,
                     const char *name)
{
    att_problem p = att_problem_default;
    p.window = (att_list){ 1, { side } };
    p.head_dim = channels;
    x = net_attention(b->n, x, -1, "dwconv", &p, name);
    if (x >= 0) b->n->ops[x].share = NET_SHARE_CONV;
    return x;
}

/* a + the depthwise convolution of v, the last of q | k | v: CSWin's position
 * encoding where the window is the map. */
static int add_lepe(builder *b, const json *kind, int a, int qkv, int dim,
                    const char *block)
{
    char name[80];
    const int side = integer(b, kind, "lepe", 1, 255);
    if (side < 0) return -1;
    snprintf(name, sizeof name, "%s.attn.get_v", block);
    const int v = net_slice(b->n, qkv, 2 * dim, dim);
    return net_add(b->n, a, depthwise(b, v, dim, side, name), NULL, 0);
}

static int attention(builder *b, const json *kind, int x, int dim, int heads,
                     const char *block)
{
    char name[80];
    const char *why;
    att_problem p;
    const char *mechanism = problem_of(b, kind, dim, heads, &p);
    if (!mechanism || b->n->failed) return -1;
    const net_op *op = &b->n->ops[x];
    const int width = net_attention_width(mechanism, &p, op->height, op->width,
                                          op->tokens, &why);
    if (width < 0)
        return error_set(b->e, "%s: attention \"%s\" %s", b->path, mechanism,
                         why);
    int a;
    const json *sr = json_get(kind, "sr");
    if (sr && json_get(kind, "lepe"))
        return wrong(b, "lepe", "needs q, k and v in one: not with \"sr\"");
    if (sr) {
        snprintf(name, sizeof name, "%s.attn.q", block);
        const int q = net_linear(b->n, x, dim, b->qkv_bias, name);
        const int ratio = integer(b, kind, "sr", 1, 1 << 10);
        if (ratio < 0) return -1;
        const int kv = reduced_keys(b, x, ratio, 2 * dim, dim, block);
        snprintf(name, sizeof name, "%s.attn", block);
        a = net_attention(b->n, q, kv, mechanism, &p, name);
    } else {
        snprintf(name, sizeof name, "%s.attn.qkv", block);
        const int qkv = net_linear(b->n, x, width, b->qkv_bias, name);
        snprintf(name, sizeof name, "%s.attn", block);
        a = net_attention(b->n, qkv, -1, mechanism, &p, name);
        if (json_get(kind, "lepe")) a = add_lepe(b, kind, a, qkv, dim, block);
    }
    snprintf(name, sizeof name, "%s.attn.proj", block);
    return net_linear(b->n, a, dim, true, name);
}

static int add(builder *b, int x, int y, const char *block, const char *scale)
{
    char name[80];
    snprintf(name, sizeof name, "%s.%s", block, scale);
    return net_add(b->n, x, y, b->layer_scale > 0 ? name : NULL,
                   b->layer_scale);
}

static int mlp(builder *b, int x, int dim, int hidden, const char *block)
{
    char name[80];
    snprintf(name, sizeof name, "%s.mlp.fc1", block);
    x = net_linear(b->n, x, hidden, true, name);
    snprintf(name, sizeof name, "%s.mlp.dwconv", block);
    if (b->mlp_conv) x = depthwise(b, x, hidden, b->mlp_conv, name);
    x = net_gelu(b->n, x, false);
    snprintf(name, sizeof name, "%s.mlp.fc2", block);
    return net_linear(b->n, x, dim, true, name);
}

/* x + s attn(norm x), then x + s mlp(norm x). */
static int transformer(builder *b, const json *kind, int x, int dim, int heads,
                       int hidden, const char *block)
{
    char name[80];
    snprintf(name, sizeof name, "%s.norm1", block);
    int y = attention(b, kind, norm(b, x, name), dim, heads, block);
    if (y < 0) return -1;
    x = add(b, x, y, block, "gamma1");
    snprintf(name, sizeof name, "%s.norm2", block);
    y = mlp(b, norm(b, x, name), dim, hidden, block);
    return add(b, x, y, block, "gamma2");
}

/* x + s fc2(gelu(fc1(norm(dwconv x)))) [liu2022convnext]. */
static int convnext(builder *b, int x, int dim, int hidden, const char *block)
{
    char name[80];
    snprintf(name, sizeof name, "%s.conv_dw", block);
    int y = depthwise(b, x, dim, 7, name);
    snprintf(name, sizeof name, "%s.norm", block);
    y = mlp(b, norm(b, y, name), dim, hidden, block);
    return add(b, x, y, block, "gamma");
}

/* relu(x + norm(expand(relu(norm(attn(relu(norm(reduce x)))))))): the bottleneck
 * of residual networks with attention in the convolution's place
 * [vaswani2021halonet].  stride: one query for stride x stride keys. */
static int halonet(builder *b, const json *kind, int x, int dim, int heads,
                   int stride, const char *block)
{
    char name[80];
    att_problem p;
    const char *mechanism = problem_of(b, kind, dim, heads, &p);
    if (!mechanism) return -1;
    p.stride = (att_list){ 1, { stride } };

    int shortcut = x;
    if (stride > 1 || b->n->ops[x].channels != dim) {
        snprintf(name, sizeof name, "%s.shortcut.conv", block);
        shortcut = net_conv(b->n, x, dim, 1, stride, 0, 1, false, name);
        snprintf(name, sizeof name, "%s.shortcut.bn", block);
        shortcut = norm(b, shortcut, name);
    }
    snprintf(name, sizeof name, "%s.conv1.conv", block);
    x = net_linear(b->n, x, dim, false, name);
    snprintf(name, sizeof name, "%s.conv1.bn", block);
    x = net_relu(b->n, norm(b, x, name));
    snprintf(name, sizeof name, "%s.attn.q", block);
    const int q = stride > 1
                      ? net_conv(b->n, x, dim, 1, stride, 0, 1, false, name)
                      : net_linear(b->n, x, dim, false, name);
    snprintf(name, sizeof name, "%s.attn.kv", block);
    const int kv = net_linear(b->n, x, 2 * dim, false, name);
    snprintf(name, sizeof name, "%s.attn", block);
    x = net_attention(b->n, q, kv, mechanism, &p, name);
    snprintf(name, sizeof name, "%s.post_attn", block);
    x = net_relu(b->n, norm(b, x, name));
    snprintf(name, sizeof name, "%s.conv3.conv", block);
    x = net_linear(b->n, x, dim, false, name);
    snprintf(name, sizeof name, "%s.conv3.bn", block);
    return net_relu(b->n, net_add(b->n, shortcut, norm(b, x, name), NULL, 0));
}

static int level(builder *b, const json *l, int number, int x)
{
    char name[64];
    const int depth = integer(b, l, "depth", 0, MOST_DEPTH);
    const int dim = integer(b, l, "dim", 0, 1 << 16);
    const int heads = integer(b, l, "heads", 1, 1 << 12);
    const int stride = integer(b, l, "stride", 1, 64);
    const json *mlp = json_get(l, "mlp");
    const double ratio = mlp ? json_number(mlp, 0) : 4;
    const json *kinds = json_get(l, "attention");
    if (depth < 0 || dim < 0 || heads < 0 || stride < 0 ||
        check_keys(b, l, "depth dim heads mlp stride attention class_token "
                         "positions", "a level") ||
        check_flag(b, l, "class_token") || check_flag(b, l, "positions"))
        return -1;
    if (dim % heads) return wrong(b, "heads", "does not divide \"dim\"");
    if (!(ratio > 0 && ratio <= 64)) return wrong(b, "mlp", "is not a ratio");
    if (b->block != CONVNEXT && json_size(kinds) < 1)
        return wrong(b, "attention", "is not a list of mechanisms");

    for (int i = 0; i < depth && x >= 0 && !b->n->failed; i++) {
        snprintf(name, sizeof name, "levels.%d.blocks.%d", number, i);
        const int hidden = (int)(ratio * dim + 0.5);
        if (b->block == CONVNEXT) {
            x = convnext(b, x, dim, hidden, name);
            continue;
        }
        const json *kind = json_at(kinds, i % json_size(kinds));
        const int own = integer(b, kind, "heads", heads, 1 << 12);
        x = b->block == HALONET
                ? halonet(b, kind, x, dim, own, i ? 1 : stride, name)
                : transformer(b, kind, x, dim, own, hidden, name);
    }
    return x;
}

/* What a model or one of its levels adds before its blocks. */
static int embeddings(builder *b, const json *where, int x, const char *prefix)
{
    char name[64];
    snprintf(name, sizeof name, "%scls_token", prefix);
    if (x >= 0 && flag(where, "class_token", false))
        x = net_token(b->n, x, 1, name);
    snprintf(name, sizeof name, "%spos_embed", prefix);
    if (x >= 0 && flag(where, "positions", false))
        x = net_position(b->n, x, name);
    return x;
}

/* ---- whole models ---------------------------------------------------------------------- */

static int head(builder *b, int x)
{
    const char *last = json_text(json_get(b->file, "final_norm"));
    const char *pool = json_text(json_get(b->file, "pool"));
    const int classes = integer(b, b->file, "classes", 1000, 1 << 20);
    if (classes < 0) return -1;
    if (!last || !strcmp(last, "tokens")) x = norm(b, x, "norm");
    else if (strcmp(last, "pooled") && strcmp(last, "none"))
        return wrong(b, "final_norm", "is none of tokens, pooled, none");
    if (pool && strcmp(pool, "token") && strcmp(pool, "mean"))
        return wrong(b, "pool", "is none of token, mean");
    x = net_pool(b->n, x, pool && !strcmp(pool, "token"));
    if (last && !strcmp(last, "pooled")) x = norm(b, x, "norm");
    return net_linear(b->n, x, classes, true, "head");
}

/* Members that say nothing to the builder are those of models count, of
 * checkpoints and of readers. */
static int check_model(const builder *b)
{
    static const char *const flags[] = { "qkv_bias", "class_token",
                                         "positions" };
    static const char *const eps[] = { "norm_eps", "ln_eps", "sr_norm_eps" };
    int rc = check_keys(b, b->file,
                        "name cite image classes tokenizer downsampler block "
                        "norm norm_eps ln_eps sr_norm_eps layer_scale qkv_bias "
                        "mlp_conv levels class_token positions final_norm pool "
                        "published expected assumption timm unused_parameters "
                        "note",
                        "a model");
    for (int i = 0; rc == 0 && i < 3; i++) rc = check_flag(b, b->file, flags[i]);
    for (int i = 0; rc == 0 && i < 3; i++) rc = check_eps(b, b->file, eps[i]);
    const json *scale = json_get(b->file, "layer_scale");
    if (rc == 0 && scale && !json_is_number(scale))
        rc = wrong(b, "layer_scale", "is no number");
    return rc;
}

static int build(builder *b, zoo_model *m, int image)
{
    const json *file = b->file, *levels = json_get(file, "levels");
    if (check_model(b)) return -1;
    if (!image) image = integer(b, file, "image", 224, 4096);
    if (image < 0) return -1;
    m->levels = json_size(levels);
    if (m->levels < 1 || m->levels > MOST_LEVELS)
        return wrong(b, "levels", "is not a list of 1 to 16 levels");
    net_begin(b->n, image, image, 3);
    int x = steps(b, json_get(file, "tokenizer"), 0,
                  integer(b, json_at(levels, 0), "dim", 0, 1 << 16),
                  "patch_embed");
    x = embeddings(b, file, x, "");
    for (int i = 0; i < m->levels && x >= 0 && !b->n->failed; i++) {
        char name[32];
        const json *l = json_at(levels, i);
        snprintf(name, sizeof name, "levels.%d.downsample", i - 1);
        b->n->level = i;
        if (i > 0)
            x = steps(b, json_get(file, "downsampler"), x,
                      integer(b, l, "dim", 0, 1 << 16), name);
        snprintf(name, sizeof name, "levels.%d.", i);
        x = embeddings(b, l, x, name);
        if (x >= 0) x = level(b, l, i, x);
    }
    if (x >= 0) x = head(b, x);
    if (b->n->failed)
        return error_set(b->e, "%s: %s", b->path, b->n->failure.text);
    return x < 0 ? -1 : 0;
}

int zoo_read(zoo_model *m, const char *path, int image, const char *norm_name,
             error *e)
{
    *m = (zoo_model){ 0 };
    m->file = json_read_file(path, e);
    if (!m->file) return -1;
    m->path = strdup(path);
    const char *name = json_text(json_get(m->file, "name"));
    snprintf(m->name, sizeof m->name, "%s", name ? name : path);

    builder b = { .n = &m->network, .file = m->file, .path = path, .e = e,
                  .norm_options = att_problem_default };
    const char *own = json_text(json_get(m->file, "norm"));
    const char *block = json_text(json_get(m->file, "block"));
    b.norm = norm_name ? norm_name : own ? own : "layernorm";
    const double eps = json_number(json_get(m->file, "norm_eps"), 1e-5);
    const double ln_eps = json_number(json_get(m->file, "ln_eps"), eps);
    /* of another norm than the file's: PyTorch's where statistics are kept */
    const bool replaced = norm_name && strcmp(norm_name, own ? own : "layernorm");
    b.norm_options.ln_eps = ln_eps;
    b.norm_options.eps = !replaced ? eps
                         : keeps_statistics(norm_name) ? 1e-5 : ln_eps;
    b.norm_options.mode = ATT_MODE_EVAL;
    b.layer_scale = json_number(json_get(m->file, "layer_scale"), 0);
    b.qkv_bias = flag(m->file, "qkv_bias", true);
    while (block && b.block < BLOCKS && strcmp(block, block_names[b.block]))
        b.block++;
    if (json_get(m->file, "mlp_conv"))
        b.mlp_conv = integer(&b, m->file, "mlp_conv", 0, 255);
    if (b.block == BLOCKS)
        wrong(&b, "block", "is none of transformer, convnext, halonet");
    else if (b.mlp_conv >= 0 && build(&b, m, image) == 0) return 0;
    zoo_free(m);
    return -1;
}

void zoo_free(zoo_model *m)
{
    net_free(&m->network);
    json_free(m->file);
    free(m->path);
    *m = (zoo_model){ 0 };
}

void zoo_counts(const network *n, zoo_count *out)
{
    *out = (zoo_count){ 0 };
    for (int i = 0; i < n->tensor_count; i++)
        if (!n->tensors[i].fixed)
            out->parameters += (double)n->tensors[i].elements;
    for (int i = 0; i < n->count; i++) {
        const net_op *op = &n->ops[i];
        const double macs = net_macs(n, i);
        const double elements = (double)op->tokens * op->channels;
        out->share[op->share] += macs;
        out->macs += macs;
        if (op->share == NET_SHARE_NORM) out->norm_elements += elements;
        out->activations += 4 * elements;
    }
    out->fvcore = out->macs + 5 * out->norm_elements;
}
