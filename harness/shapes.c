#include "shapes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is offered ------------------------------------------------------------ */

enum { VALUES = 12 };

/* Values to try for a field, the usual one first; "grid": as large as the map.
 * Fields that are not here get all spellings, 0 1 2, or their default. */
static const struct {
    enum att_field field;
    const char *value[VALUES];
} offered[] = {
    { ATT_FIELD_tokens_k, { "0", "1", "13", "40", "67" } },
    { ATT_FIELD_value_dim, { "0", "1", "5", "16", "33" } },
    { ATT_FIELD_window,
      { "3", "7", "5", "1", "2", "4", "13", "3x5", "5x2", "grid", "3x3x5" } },
    { ATT_FIELD_dilation, { "1", "2", "3", "2x1", "1x2" } },
    { ATT_FIELD_stride, { "1", "2", "3", "2x1", "1x2x2", "7" } },
    { ATT_FIELD_causal, { "0", "1", "1x0", "0x1" } },
    { ATT_FIELD_shift, { "0", "1", "2", "3", "0x2", "1x0" } },
    { ATT_FIELD_block, { "4", "8", "1", "2", "3", "5" } },
    { ATT_FIELD_halo, { "1", "0", "2", "3" } },
    { ATT_FIELD_scale, { "0", "0.3" } },
    { ATT_FIELD_features, { "0", "1", "8", "17", "33" } },
    { ATT_FIELD_power, { "3", "1", "2", "4", "8", "2.5" } },
    { ATT_FIELD_conv, { "3", "5", "7", "1", "2", "4", "1x3x5" } },
    { ATT_FIELD_sr_ratio, { "1", "2", "4" } },
    { ATT_FIELD_factor, { "0", "1", "5", "16" } },
    { ATT_FIELD_radius, { "2", "0", "1", "5", "100" } },
    { ATT_FIELD_globals, { "0", "1", "3" } },
    { ATT_FIELD_tau, { "1", "0.5", "4" } },
    { ATT_FIELD_offset, { "0", "-2.5", "1" } },
    { ATT_FIELD_gamma, { "1", "0.2" } },
    { ATT_FIELD_band, { "0", "1", "3" } },
    { ATT_FIELD_hidden, { "0", "1", "5", "17" } },
    { ATT_FIELD_memory, { "17", "1", "3", "33", "64" } },
    { ATT_FIELD_iter, { "3", "0", "10" } },
    { ATT_FIELD_total_step, { "10" } },
    { ATT_FIELD_warm, { "0", "2" } },
    { ATT_FIELD_r0, { "1", "0.5" } },
    { ATT_FIELD_seed, { "1", "7" } },
    { ATT_FIELD_heads, { "2", "1", "3" } },
    { ATT_FIELD_batch, { "1", "2" } },
};

typedef struct lists {
    const char *const *grids[3]; /* by axes, NULL-terminated                 */
    const int *dims;             /* 0-terminated                             */
    int mixtures;
    double flops;                /* most of one problem                      */
} lists;

static const char *const line[] = { "16", "1",  "2",  "3",  "7",  "8",
                                    "9",  "15", "17", "31", "33", "47",
                                    "64", "65", "97", "130", NULL };
static const char *const plane[] = { "8x8",   "1x1",  "1x7",  "5x3",   "7x7",
                                     "14x14", "9x17", "4x33", "13x11", "16x8",
                                     "24x16", "2x64", NULL };
static const char *const volume[] = { "4x4x8", "1x1x1", "3x4x5", "2x7x3",
                                      "5x6x17", NULL };
static const int dims[] = { 16, 1,  2,  3,  4,  5,  7,  8,  9,  15, 17,  24,
                            31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 130, 0 };

static const char *const tiny_line[] = { "6", "1", "2", "5", "9", NULL };
static const char *const tiny_plane[] = { "4x4", "1x1", "3x3", "2x5", "8x4",
                                          NULL };
static const char *const tiny_volume[] = { "3x3x3", "1x2x3", NULL };
static const int tiny_dims[] = { 4, 1, 2, 3, 6, 0 };

static const lists amounts[] = {
    [SHAPES_TINY] = { { tiny_line, tiny_plane, tiny_volume }, tiny_dims, 12, 4e4 },
    [SHAPES_FEW] = { { line, plane, volume }, dims, 16, 3e6 },
    [SHAPES_MANY] = { { line, plane, volume }, dims, 120, 8e6 },
};

/* Texts to try for field f; their number. */
static int values_of(enum att_field f, char out[VALUES][ATT_TEXT])
{
    for (size_t i = 0; i < sizeof offered / sizeof *offered; i++) {
        if (offered[i].field != f) continue;
        int n = 0;
        for (; n < VALUES && offered[i].value[n]; n++)
            snprintf(out[n], ATT_TEXT, "%s", offered[i].value[n]);
        return n;
    }
    switch (att_fields[f].kind) {
    case ATT_ENUM: {
        const char *help = att_fields[f].help;
        for (int n = 0;; n++) {
            const int length = (int)strcspn(help, "|:");
            snprintf(out[n], ATT_TEXT, "%.*s", length, help);
            if (help[length] != '|' || n == VALUES - 1) return n + 1;
            help += length + 1;
        }
    }
    case ATT_INT:
        for (int n = 0; n < 3; n++) snprintf(out[n], ATT_TEXT, "%d", n);
        return 3;
    default:
        att_get(&att_problem_default, f, out[0]);
        return 1;
    }
}

/* ---- making ------------------------------------------------------------------------- */

typedef struct maker {
    const att_mechanism *m;
    const lists *l;
    shapes *s;
    uint64_t random;
    int serial; /* accepted problems: turns heads, batch, dims              */
    bool full;  /* out of memory                                             */
} maker;

static int below(maker *k, int n)
{
    return (int)(att_uniform(&k->random) * n);
}

/* Whether the mechanism sees the axes of a grid, or tokens in a row. */
static bool on_any_grid(const att_mechanism *m)
{
    return !(m->traits & (ATT_IS_1D | ATT_IS_2D | ATT_IS_3D));
}

static bool on_grid(const att_mechanism *m, int axes)
{
    return m->traits & (ATT_IS_1D << (axes - 1));
}

static void set(att_problem *p, enum att_field f, const char *text)
{
    if (!strcmp(text, "grid")) {
        if (f == ATT_FIELD_window) p->window = p->grid;
        return;
    }
    att_set(p, f, text);
}

/* Grid and head dim, with the usual value of everything else that is used. */
static att_problem usual(const maker *k, const char *grid, int dim)
{
    char value[VALUES][ATT_TEXT];
    att_problem p = att_problem_default;
    att_set(&p, ATT_FIELD_grid, grid);
    p.head_dim = dim;
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        if (f == ATT_FIELD_grid || f == ATT_FIELD_head_dim ||
            f == ATT_FIELD_dtype || !att_uses(k->m, f))
            continue;
        const int n = values_of(f, value);
        const bool turns = f == ATT_FIELD_heads || f == ATT_FIELD_batch;
        set(&p, f, value[turns ? k->serial % n : 0]);
    }
    if (k->m->traits & ATT_ONE_WIDTH) p.heads = 1;
    return p;
}

static bool known(const shapes *s, const att_problem *p)
{
    for (int i = 0; i < s->count; i++)
        if (!memcmp(&s->item[i].problem, p, sizeof *p)) return true;
    return false;
}

static void append(maker *k, const att_problem *p, enum inputs_family family)
{
    shapes *s = k->s;
    if ((s->count & (s->count - 1)) == 0) { /* full at powers of two */
        const size_t room = s->count ? 2 * (size_t)s->count : 1;
        shape *grown = realloc(s->item, room * sizeof *grown);
        if (!grown) {
            k->full = true;
            return;
        }
        s->item = grown;
    }
    s->item[s->count] = (shape){ .family = family,
                                 .threads = 1 + s->count % 3,
                                 .seed = 1 + (uint64_t)s->count };
    memcpy(&s->item[s->count].problem, p, sizeof *p);
    s->count++;
}

/* Fields may exclude each other, and some mechanisms have one batch or head: the
 * default of one other field than `keep`, or of all, may make p acceptable. */
static void repair(const att_mechanism *m, att_problem *p, int keep)
{
    att_problem all = *p;
    for (int f = 0; f < ATT_FIELD_COUNT && att_reject(m, p); f++) {
        att_problem one = *p;
        char value[ATT_TEXT];
        if (f == keep || f == ATT_FIELD_grid || f == ATT_FIELD_head_dim)
            continue;
        att_get(&att_problem_default, f, value);
        att_set(&one, f, value);
        att_set(&all, f, value);
        if (!att_reject(m, &one)) *p = one;
    }
    if (att_reject(m, p)) *p = all;
}

/* Adds p, whose field `keep` is what matters (-1: none), if it is defined, small
 * enough and new. */
static bool offer(maker *k, att_problem p, int keep)
{
    att_cost cost;
    repair(k->m, &p, keep);
    if (att_reject(k->m, &p)) return false;
    k->m->cost(&p, ATT_FORWARD, &cost);
    if (att_flops(&cost) > k->l->flops) return false;
    att_canonical(k->m, &p);
    if (known(k->s, &p)) return false;
    append(k, &p, INPUTS_NORMAL);
    k->serial++;
    return true;
}

static void add_grids(maker *k, int axes)
{
    const char *const *grid = k->l->grids[axes - 1];
    for (int i = 0; grid[i]; i++)
        offer(k, usual(k, grid[i], k->l->dims[i % 4]), -1);
}

/* Each head dim on the first two grids that take it. */
static void add_dims(maker *k, int axes)
{
    const char *const *grid = k->l->grids[axes - 1];
    for (const int *d = k->l->dims; *d; d++)
        for (int i = 0, taken = 0; grid[i] && taken < 1; i++)
            taken += offer(k, usual(k, grid[i], *d), -1);
}

/* Each value of each field that is used, on two grids that take it. */
static void add_fields(maker *k, int axes)
{
    const char *const *grid = k->l->grids[axes - 1];
    char value[VALUES][ATT_TEXT];
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        if (f == ATT_FIELD_grid || f == ATT_FIELD_head_dim ||
            f == ATT_FIELD_dtype || !att_uses(k->m, f))
            continue;
        const int n = values_of(f, value);
        for (int v = 0; v < n; v++)
            for (int i = 0, taken = 0; grid[i] && taken < 2; i++) {
                att_problem p = usual(k, grid[i], k->l->dims[(i + v) % 3]);
                set(&p, f, value[v]);
                taken += offer(k, p, f);
            }
    }
}

/* More maps than lanes, of few tokens. */
static void add_crowds(maker *k, int axes)
{
    const char *const *grid = k->l->grids[axes - 1];
    for (int i = 0; i < 4 && grid[i]; i++) {
        att_problem p = usual(k, grid[i], 2 + i);
        p.heads = 40;
        offer(k, p, ATT_FIELD_heads);
    }
}

static void add_mixture(maker *k, int axes)
{
    const char *const *grid = k->l->grids[axes - 1];
    char value[VALUES][ATT_TEXT];
    int grids = 0, sizes = 0;
    while (grid[grids]) grids++;
    while (k->l->dims[sizes]) sizes++;
    att_problem p =
        usual(k, grid[below(k, grids)], k->l->dims[below(k, sizes)]);
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        if (f == ATT_FIELD_grid || f == ATT_FIELD_head_dim ||
            f == ATT_FIELD_dtype || !att_uses(k->m, f) || below(k, 2))
            continue;
        set(&p, f, value[below(k, values_of(f, value))]);
    }
    if (k->m->traits & ATT_ONE_WIDTH) p.heads = 1;
    offer(k, p, -1);
}

/* Problem i again in a family of its turn that it has. */
static void add_family(maker *k, int i, int *turn)
{
    const att_problem p = k->s->item[i].problem;
    do *turn = *turn % (INPUTS_FAMILIES - 1) + 1;
    while (!inputs_family_fits(k->m, &p, *turn));
    append(k, &p, *turn);
}

/* Two of five problems again with unusual numbers, every sixth with halves;
 * mechanisms of few problems see each family all the same. */
static void add_families(maker *k)
{
    const int n = k->s->count, most = n * 2 / 5 + 1;
    const int count = most < INPUTS_FAMILIES ? INPUTS_FAMILIES : most;
    for (int i = 0, turn = 0; n && i < count; i++)
        add_family(k, (int)((long)i * n / count), &turn);
    for (int i = 0; i < n; i += 6) {
        att_problem p = k->s->item[i].problem;
        p.dtype = i / 6 % 2 ? ATT_BF16 : ATT_F16;
        append(k, &p, INPUTS_NORMAL);
    }
}

int shapes_make(shapes *s, const att_mechanism *m, enum shapes_amount amount,
                error *e)
{
    maker k = { .m = m, .l = &amounts[amount], .s = s };
    for (const char *c = m->name; *c; c++)
        k.random = k.random * 131 + (unsigned char)*c;
    *s = (shapes){ 0 };
    for (int axes = 1; axes <= 3; axes++) {
        const bool all = on_grid(m, axes) || (on_any_grid(m) && axes == 1);
        if (!all && !on_any_grid(m)) continue;
        add_grids(&k, axes);
        if (all) add_dims(&k, axes);
        if (all) add_fields(&k, axes);
        const int mixtures = k.l->mixtures / (all ? 1 : 4);
        for (int i = 0; i < mixtures; i++) add_mixture(&k, axes);
        if (all && !(m->traits & ATT_ONE_WIDTH)) add_crowds(&k, axes);
    }
    if (amount != SHAPES_TINY) add_families(&k);
    if (!k.full) return 0;
    shapes_free(s);
    return error_set(e, "out of memory for the list of shapes");
}

void shapes_free(shapes *s)
{
    free(s->item);
    *s = (shapes){ 0 };
}

bool shapes_usual(const att_mechanism *m, const char *grid, int head_dim,
                  att_problem *p)
{
    const maker k = { .m = m };
    *p = usual(&k, grid, head_dim);
    repair(m, p, -1);
    if (att_reject(m, p)) return false;
    att_canonical(m, p);
    return true;
}
