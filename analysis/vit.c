#include "vit.h"

#include <stdio.h>
#include <string.h>

const vit_config vit_default = {
    .arch = VIT_IMAGE,
    .image = 28,
    .patch = 4,
    .channels = 1,
    .dim = 64,
    .depth = 4,
    .heads = 4,
    .head_dim = 16,
    .mlp = 128,
    .outputs = 10,
    .pool = VIT_POOL_MEAN,
    .positions = true,
    .qkv_bias = true,
    .final_norm = true,
    .ln_eps = 1e-5,
    .norm = "layernorm",
    .attention = "softmax",
    .mean = { 0, 0, 0 },
    .deviation = { 1, 1, 1 },
    .task = "classify",
};

void vit_grid(const vit_config *c, int *rows, int *columns)
{
    const int patch = c->patch > 0 ? c->patch : 1;
    *rows = c->arch == VIT_IMAGE
                ? (c->height ? c->height : c->image) / patch
                : 1;
    *columns = c->arch == VIT_IMAGE ? c->image / patch : c->frames;
}

int vit_tokens(const vit_config *c)
{
    int rows, columns;
    vit_grid(c, &rows, &columns);
    return rows * columns;
}

int vit_front(const vit_config *c)
{
    return c->class_token + c->registers;
}

static int norm(network *n, const vit_config *c, int from, const char *name)
{
    att_problem options = att_problem_default;
    options.eps = options.ln_eps = c->ln_eps;
    return net_norm(n, from, c->norm, &options, name);
}

/* x -> projection of attention over x. */
static int attention(network *n, const vit_config *c, int x, const char *block,
                     error *e)
{
    char name[80];
    if (n->failed) return -1;
    const net_op *op = &n->ops[x];
    const char *why;
    const int width = net_attention_width(c->attention, &c->options, op->height,
                                          op->width, op->tokens, &why);
    if (width < 0)
        return error_set(e, "attention '%s' %s", c->attention, why);
    snprintf(name, sizeof name, "%s.attn.qkv", block);
    const int qkv = net_linear(n, x, width, c->qkv_bias, name);
    snprintf(name, sizeof name, "%s.attn", block);
    const int a = net_attention(n, qkv, -1, c->attention, &c->options, name);
    snprintf(name, sizeof name, "%s.attn.proj", block);
    return net_linear(n, a, c->dim, true, name);
}

static int mlp(network *n, const vit_config *c, int x, const char *block)
{
    char name[80];
    snprintf(name, sizeof name, "%s.mlp.fc1", block);
    x = net_gelu(n, net_linear(n, x, c->mlp, true, name), c->tanh_gelu);
    snprintf(name, sizeof name, "%s.mlp.fc2", block);
    return net_linear(n, x, c->dim, true, name);
}

/* Pre-norm: x + f(norm x).  Post-norm: norm(x + f x). */
static int block(network *n, const vit_config *c, int x, int layer, error *e)
{
    char prefix[32], norm1[48], norm2[48], scale1[48], scale2[48];
    snprintf(prefix, sizeof prefix, "blocks.%d", layer);
    snprintf(norm1, sizeof norm1, "%s.norm1", prefix);
    snprintf(norm2, sizeof norm2, "%s.norm2", prefix);
    snprintf(scale1, sizeof scale1, "%s.ls1.gamma", prefix);
    snprintf(scale2, sizeof scale2, "%s.ls2.gamma", prefix);

    int y = attention(n, c, c->post_norm ? x : norm(n, c, x, norm1), prefix, e);
    if (y < 0) return -1;
    x = net_add(n, x, y, c->layer_scale ? scale1 : NULL, 1);
    if (c->post_norm) x = norm(n, c, x, norm1);
    y = mlp(n, c, c->post_norm ? x : norm(n, c, x, norm2), prefix);
    x = net_add(n, x, y, c->layer_scale ? scale2 : NULL, 1);
    return c->post_norm ? norm(n, c, x, norm2) : x;
}

static int embed(network *n, const vit_config *c)
{
    if (c->arch != VIT_IMAGE) {
        net_begin(n, 1, c->frames, c->features);
        return net_linear(n, 0, c->dim, c->arch == VIT_SEQUENCE,
                          "patch_embed.proj");
    }
    net_begin(n, c->height ? c->height : c->image, c->image, c->channels);
    return net_linear(n, net_patch(n, 0, c->patch), c->dim, true,
                      "patch_embed.proj");
}

int vit_build(network *n, const vit_config *config, error *e)
{
    vit_config c = *config;
    c.options.heads = c.heads;
    c.options.head_dim = c.head_dim;
    c.options.value_dim = 0;
    int x = embed(n, &c);
    if (c.mask_token) x = net_mask(n, x, "mask_token");
    if (c.positions && c.early_positions) x = net_position(n, x, "pos_embed");
    if (c.registers) x = net_token(n, x, c.registers, "reg_token");
    if (c.class_token) x = net_token(n, x, 1, "cls_token");
    if (c.positions && !c.early_positions) x = net_position(n, x, "pos_embed");
    for (int i = 0; !n->failed && i < c.depth; i++)
        if ((x = block(n, &c, x, i, e)) < 0 && !n->failed) {
            net_free(n);
            return -1;
        }
    if (c.final_norm) x = norm(n, &c, x, "norm");
    if (c.outputs && c.pool != VIT_POOL_NONE)
        x = net_pool(n, x, c.pool == VIT_POOL_TOKEN);
    if (c.pooled_norm) x = norm(n, &c, x, "fc_norm");
    if (c.outputs) net_linear(n, x, c.outputs, true, "head");
    if (net_finish(n, e) == 0) return 0;
    net_free(n);
    return -1;
}

int vit_attention(const network *n, int layer)
{
    for (int i = 0; i < n->count; i++)
        if (n->ops[i].kind == NET_MECHANISM && !n->ops[i].normalises &&
            layer-- == 0)
            return i;
    return -1;
}
