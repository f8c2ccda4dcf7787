#include "draw.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES = 40 };

/* ---- numbers ------------------------------------------------------------ */

static int below(uint64_t *s, int n)
{
    return (int)(att_uniform(s) * n);
}

/* 1 to most, small ones as often as large ones. */
static int number(uint64_t *s, int most)
{
    const int n = (int)exp(att_uniform(s) * log(most + 1.0));
    return n < 1 ? 1 : n > most ? most : n;
}

/* A size: beside the edges of vectors and tiles as often as anywhere. */
static int size(uint64_t *s, int most)
{
    if (below(s, 3)) return number(s, most);
    const int edge = (1 << below(s, 8)) + below(s, 3) - 1;
    return edge < 1 ? 1 : edge > most ? most : edge;
}

/* ---- fields ------------------------------------------------------------- */

/* Values of the fields whose sensible ones are few. */
static const struct {
    enum att_field field;
    const char *value[12];
} few[] = {
    { ATT_FIELD_scale, { "0", "0", "1", "0.3", "0.01", "4", "-0.5" } },
    { ATT_FIELD_power, { "1", "2", "3", "4", "8", "2.5", "0.5", "7" } },
    { ATT_FIELD_tau, { "1", "0.5", "4", "0.01" } },
    { ATT_FIELD_gamma, { "1", "0.2", "0.01", "5" } },
    { ATT_FIELD_iter, { "0", "1", "3", "9", "10" } },
    { ATT_FIELD_total_step, { "10", "1", "3" } },
    { ATT_FIELD_r0, { "1", "0.5", "0" } },
    { ATT_FIELD_eps, { "1e-5", "1e-12", "1e-3", "1" } },
    { ATT_FIELD_ln_eps, { "1e-5", "1e-12", "1e-3" } },
    { ATT_FIELD_bias, { "0", "1" } },
    { ATT_FIELD_scale_pos, { "0", "1" } },
    { ATT_FIELD_batch, { "1", "1", "2", "3" } },
    { ATT_FIELD_heads, { "1", "1", "2", "3", "4", "5", "40" } },
};

/* Most of a number, beside 0 and 1; 0: as many as the tokens and more. */
static const struct {
    enum att_field field;
    int most;
} numbers[] = {
    { ATT_FIELD_tokens_k, 200 }, { ATT_FIELD_value_dim, 130 },
    { ATT_FIELD_block, 24 },     { ATT_FIELD_halo, 9 },
    { ATT_FIELD_features, 100 }, { ATT_FIELD_sr_ratio, 5 },
    { ATT_FIELD_factor, 24 },    { ATT_FIELD_radius, 0 },
    { ATT_FIELD_globals, 0 },    { ATT_FIELD_band, 0 },
    { ATT_FIELD_hidden, 70 },    { ATT_FIELD_memory, 130 },
    { ATT_FIELD_warm, 4 },       { ATT_FIELD_seed, 1000 },
    { ATT_FIELD_shift, 9 },
};

static void draw_enum(att_problem *p, enum att_field f, uint64_t *s)
{
    char text[ATT_TEXT];
    const char *help = att_fields[f].help;
    int n = 1;
    for (const char *c = help; *c != ':'; c++) n += *c == '|';
    for (int i = below(s, n); i > 0; i--) help = strchr(help, '|') + 1;
    snprintf(text, sizeof text, "%.*s", (int)strcspn(help, "|:"), help);
    att_set(p, f, text);
}

/* One entry of a list along an axis of that length. */
static int entry(enum att_field f, int length, uint64_t *s)
{
    switch (f) {
    case ATT_FIELD_window:
        return below(s, 6) == 0 ? length + below(s, 3) - 1
               : below(s, 2)    ? 2 * below(s, 7) + 1
                                : number(s, 2 * length + 1);
    case ATT_FIELD_causal: return below(s, 2);
    case ATT_FIELD_conv: return number(s, 9);
    case ATT_FIELD_shift:
        return below(s, 3) ? below(s, 4) : below(s, length + 2);
    default: return below(s, 3) ? 1 + below(s, 3) : number(s, length);
    }
}

static void draw_list(att_problem *p, enum att_field f, uint64_t *s)
{
    char text[ATT_TEXT];
    size_t at = 0;
    const int axes = p->grid.n;
    const int n = f == ATT_FIELD_conv ? 1 + below(s, 3)
                  : below(s, 2)       ? axes
                                      : 1;
    for (int a = 0; a < n; a++)
        at += (size_t)snprintf(text + at, sizeof text - at, a ? "x%d" : "%d",
                               entry(f, p->grid.v[a < axes ? a : axes - 1], s));
    att_set(p, f, text);
}

static void draw_int(att_problem *p, enum att_field f, uint64_t *s)
{
    char text[ATT_TEXT];
    int most = 3;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].field == f) most = numbers[i].most;
    if (most == 0) most = (int)att_tokens(p) + 2;
    const int kind = below(s, 8);
    const int n = kind == 0 ? 0 : kind == 1 ? 1 : size(s, most);
    snprintf(text, sizeof text, "%d", n);
    att_set(p, f, text);
}

static void draw_field(att_problem *p, enum att_field f, uint64_t *s)
{
    for (size_t i = 0; i < sizeof few / sizeof *few; i++) {
        int n = 0;
        while (few[i].value[n]) n++;
        if (few[i].field != f) continue;
        att_set(p, f, few[i].value[below(s, n)]);
        return;
    }
    switch (att_fields[f].kind) {
    case ATT_INT: draw_int(p, f, s); break;
    case ATT_ENUM: draw_enum(p, f, s); break;
    case ATT_LIST: draw_list(p, f, s); break;
    case ATT_REAL: break; /* those are all named above */
    }
}

/* ---- problems ----------------------------------------------------------- */

static void draw_grid(const att_mechanism *m, att_problem *p, uint64_t *s)
{
    static const int most[] = { 260, 40, 14 };
    const unsigned any = ATT_IS_1D | ATT_IS_2D | ATT_IS_3D;
    int axes;
    do axes = 1 + below(s, 3);
    while ((m->traits & any) && !(m->traits & (ATT_IS_1D << (axes - 1))));
    if (!(m->traits & any) && below(s, 3)) axes = 1;
    p->grid.n = axes;
    for (int a = 0; a < axes; a++) p->grid.v[a] = size(s, most[axes - 1]);
}

static bool once(const att_mechanism *m, att_problem *p, uint64_t *s)
{
    att_cost cost;
    *p = att_problem_default;
    draw_grid(m, p, s);
    p->head_dim = size(s, 130);
    const double flops = below(s, 8) ? 2e6 : 2e7;
    const int keep = below(s, 4); /* so many of four fields stay */
    for (int f = 0; f < ATT_FIELD_COUNT; f++)
        if (f != ATT_FIELD_grid && f != ATT_FIELD_head_dim &&
            f != ATT_FIELD_dtype && att_uses(m, f) && below(s, 4) >= keep)
            draw_field(p, f, s);
    if (m->traits & ATT_ONE_WIDTH) p->heads = 1;
    const int dtype = below(s, 6);
    p->dtype = dtype == 0 ? ATT_F16 : dtype == 1 ? ATT_BF16 : ATT_F32;
    if (att_reject(m, p)) return false;
    m->cost(p, ATT_FORWARD, &cost);
    if (att_flops(&cost) > flops) return false;
    att_canonical(m, p);
    return att_reject(m, p) == NULL;
}

/* The limits that draw.h tells.  A mechanism with a scale of logits has products
 * of q and k in exponents alone. */
static void keep_in_range(drawn *d)
{
    const bool several = att_uses(d->mechanism, ATT_FIELD_scale);
    att_tensor t[ATT_PARAMS];
    const int n = att_parameters(d->mechanism, &d->problem, t);
    bool huge = false;
    for (int i = 0; i < DRAW_DOUT; i++) {
        if (d->kind[i] != INPUTS_HUGE) continue;
        if (huge && (!several || i != ATT_V)) d->kind[i] = INPUTS_NORMAL;
        huge = true;
    }
    for (int i = 0; i < n; i++) {
        enum inputs_family *kind = &d->kind[DRAW_PARAMETERS + i];
        const bool large = *kind == INPUTS_LARGE || *kind == INPUTS_SHARP;
        const bool shares_norm =
            d->problem.heads > 1 && !strcmp(t[i].name, "scale");
        if (!att_elements(&t[i])) continue;
        if (*kind == INPUTS_HUGE || (large && (huge || shares_norm)) ||
            (*kind == INPUTS_OUTLIER && (huge || shares_norm)))
            *kind = INPUTS_NORMAL;
        else if (large) d->grad = false;
    }
}

/* A third of the problems are normal throughout, in others half of the
 * tensors. */
static void draw_values(drawn *d, uint64_t *s)
{
    const bool plain = below(s, 3) == 0, together = below(s, 4) == 0;
    const enum inputs_family all = (enum inputs_family)below(s, INPUTS_FAMILIES);
    for (int i = 0; i < DRAW_TENSORS; i++) {
        const enum inputs_family one =
            (enum inputs_family)below(s, INPUTS_FAMILIES);
        const bool normal = plain || below(s, 2) == 0;
        d->kind[i] = together && !plain ? all : normal ? INPUTS_NORMAL : one;
    }
    keep_in_range(d);
    for (int i = 0; i < DRAW_TENSORS; i++)
        if (!inputs_family_backward(d->kind[i])) d->grad = false;
}

const att_mechanism *draw_mechanism(uint64_t seed)
{
    const att_mechanism *const *all;
    const int n = (int)att_mechanisms(&all);
    return all[below(&seed, n)];
}

uint64_t draw_next(uint64_t seed, uint64_t index)
{
    uint64_t state = seed ^ index * 0xd1342543de82ef95u;
    return index ? att_random(&state) >> 20 : seed;
}

bool draw(drawn *d, uint64_t seed)
{
    static const int threads[] = { 1, 1, 2, 2, 3, 4, 7, 16 };
    uint64_t s = seed ^ 0x5851f42d4c957f2du;
    const att_mechanism *m = draw_mechanism(seed);
    memset(d, 0, sizeof *d);
    d->mechanism = m;
    d->seed = seed;
    for (int i = 0; i < TRIES; i++) {
        if (!once(m, &d->problem, &s)) {
            d->why = att_reject(m, &d->problem);
            continue;
        }
        d->grad = m->backward && below(&s, 4);
        d->threads = threads[below(&s, 8)];
        draw_values(d, &s);
        d->why = NULL;
        return true;
    }
    if (!d->why) d->why = "larger than what is tried";
    return false;
}

/* ---- values ------------------------------------------------------------- */

static int fill_slot(const drawn *d, check_values *v, enum att_slot slot,
                     double *to)
{
    att_shape shape;
    const size_t n = v->elements[slot];
    const int which = slot == ATT_O ? DRAW_DOUT : (int)slot;
    /* the upstream gradient is always float */
    const int dtype = slot == ATT_O ? ATT_F32 : d->problem.dtype;
    uint64_t seed = d->seed * 8 + slot;
    const bool only = !v->in[ATT_Q] + !v->in[ATT_K] + !v->in[ATT_V] == 2;
    float *x = malloc((n + 1) * sizeof *x);
    if (!x) return -1;
    att_shape_of(d->mechanism, &d->problem, slot, &shape);
    inputs_fill(d->kind[which], dtype, true, only, (size_t)shape.channels, NULL,
                &seed, x, n);
    for (size_t i = 0; i < n; i++) {
        float rounded[2]; /* room for any storage */
        att_store(dtype, rounded, &x[i], 1);
        att_fetch(dtype, &x[i], rounded, 1);
        to[i] = x[i];
    }
    free(x);
    return 0;
}

/* Learned parameters alone have kinds; those that are given, or begin as
 * something special, keep their meaning. */
static bool has_kind(const att_tensor *t)
{
    return !t->fixed && t->init != ATT_INIT_FILL;
}

static int fill_parameter(const drawn *d, check_values *v, int i)
{
    const att_tensor *t = &v->parameter[i];
    const size_t n = att_elements(t);
    const enum inputs_family kind = d->kind[DRAW_PARAMETERS + i];
    uint64_t seed = d->seed * 64 + 32 + (uint64_t)i;
    float *x = malloc((n + 1) * sizeof *x);
    if (!x) return -1;
    if (!has_kind(t) || kind == INPUTS_NORMAL || kind == INPUTS_MASKED)
        inputs_parameter(d->mechanism, &d->problem, i, t, d->seed, kind, x);
    else
        inputs_fill(kind, ATT_F32, true, false, (size_t)t->dim[t->dims - 1],
                    NULL, &seed, x, n);
    for (size_t k = 0; k < n; k++) v->param[i][k] = x[k];
    free(x);
    return 0;
}

int draw_fill(const drawn *d, check_values *v, error *e)
{
    int rc = 0;
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
        if (v->in[s]) rc |= fill_slot(d, v, s, v->in[s]);
    if (v->grad) rc |= fill_slot(d, v, ATT_O, v->dout);
    for (int i = 0; i < v->parameters; i++)
        if (v->param[i]) rc |= fill_parameter(d, v, i);
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
        if (v->in[s])
            v->constant |= d->kind[s] == INPUTS_CHANNELS ||
                           d->kind[s] == INPUTS_TOKENS;
    return rc ? error_set(e, "out of memory for the values of %s",
                          d->mechanism->name)
              : 0;
}

/* Name of tensor i of the problem, or NULL if it has none. */
static const char *tensor_name(const drawn *d, int i, const att_tensor *t, int n)
{
    if (i < DRAW_DOUT) return att_input_name(d->mechanism, &d->problem, i);
    if (i == DRAW_DOUT) return d->grad ? "dout" : NULL;
    i -= DRAW_PARAMETERS;
    return i < n && att_elements(&t[i]) && has_kind(&t[i]) ? t[i].name : NULL;
}

void draw_kinds(const drawn *d, char *out, size_t size_of_out)
{
    att_tensor t[ATT_PARAMS];
    const int n = att_parameters(d->mechanism, &d->problem, t);
    size_t at = 0;
    *out = 0;
    for (int i = 0; i < DRAW_TENSORS && at < size_of_out; i++) {
        const char *name = tensor_name(d, i, t, n);
        if (!name || d->kind[i] == INPUTS_NORMAL) continue;
        at += (size_t)snprintf(out + at, size_of_out - at, "%s%s %s",
                               at ? ", " : "", name,
                               inputs_family_name(d->kind[i]));
    }
    if (at == 0) snprintf(out, size_of_out, "normal values");
}
