/* windows.h - the shifted windows of Swin as kernels see them: tables per axis,
 * made once by prepare().
 */
#ifndef ATT_WINDOWS_H
#define ATT_WINDOWS_H

#include "../att.h"

#include <math.h>

/* Rolled coordinates run over the padded axis; windows are `side` of them in a
 * row. */
typedef struct windows_axis {
    int length, padded;
    int side, shift;       /* after clamping                                  */
    bool rolled_first;     /* padding lies behind the rolled tokens           */
    const int32_t *token;  /* [padded] of a rolled coordinate; -1: padding    */
    const int32_t *region; /* [padded]                                        */
    const int32_t *rolled; /* [length] of a token                             */
} windows_axis;

typedef struct windows {
    windows_axis axis[2];
    bool shifted;
    size_t n, d, slots, table;
    float scale;
} windows;

/* Window, shift and padded length of axis a. */
static inline windows_axis windows_axis_of(const att_problem *p, int a)
{
    const int asked = att_at(&p->window, a, 7), length = p->grid.v[a];
    const bool covers = length <= asked;
    const bool whole = p->padding == ATT_PAD_TORCHVISION;
    windows_axis x = { .length = length,
                       .side = covers && !whole ? length : asked,
                       .shift = covers ? 0 : att_at(&p->shift, a, 0),
                       .rolled_first = p->padding == ATT_PAD_TIMM };
    x.padded = (length + x.side - 1) / x.side * x.side;
    return x;
}

/* Tables of one call; c->state may be NULL when only sizes are wanted. */
static inline windows windows_of(const att_call *c)
{
    const att_problem *p = c->p;
    const int32_t *table = c->state;
    windows x = { .n = att_tokens(p),
                  .d = (size_t)p->head_dim,
                  .slots = 1,
                  .table = 1,
                  .scale = p->scale != 0 ? (float)p->scale
                                         : 1 / sqrtf((float)p->head_dim) };
    for (int a = 0; a < 2; a++) {
        windows_axis *axis = &x.axis[a];
        *axis = windows_axis_of(p, a);
        x.shifted |= axis->shift > 0;
        x.slots *= (size_t)axis->side;
        x.table *= (size_t)(2 * axis->side - 1);
        if (!table) continue;
        axis->token = table;
        axis->region = axis->token + axis->padded;
        axis->rolled = axis->region + axis->padded;
        table = axis->rolled + axis->length;
    }
    return x;
}

/* pad_k or pad_v of a map, or NULL where it has no padding. */
static inline const float *windows_pad(const att_call *c, int which, size_t map)
{
    const size_t head = map % (size_t)c->p->heads;
    const float *pad = c->param[which];
    return pad ? pad + head * (size_t)c->p->head_dim : NULL;
}

static inline size_t windows_state_bytes(const windows *x)
{
    size_t n = 0;
    for (int a = 0; a < 2; a++)
        n += (size_t)(2 * x->axis[a].padded + x->axis[a].length);
    return n * sizeof(int32_t);
}

/* Token at rolled coordinate z, or -1. */
static inline int windows_token(const windows_axis *x, int z)
{
    if (x->rolled_first) return z < x->length ? (z + x->shift) % x->length : -1;
    const int token = (z + x->shift) % x->padded;
    return token < x->length ? token : -1;
}

static inline void windows_prepare(const att_call *c)
{
    const windows x = windows_of(c);
    int32_t *table = c->state;
    for (int a = 0; a < 2; a++) {
        const windows_axis *axis = &x.axis[a];
        const int padded = axis->padded, shift = axis->shift;
        for (int z = 0; z < padded; z++) {
            const int token = windows_token(axis, z);
            table[z] = token;
            table[padded + z] = shift == 0                  ? 0
                                : z < padded - axis->side ? 0
                                : z < padded - shift        ? 1
                                                            : 2;
            if (token >= 0) table[2 * padded + token] = z;
        }
        table += 2 * padded + axis->length;
    }
}

#endif
