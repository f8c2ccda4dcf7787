/* windows.h - the shifted windows of Swin as kernels see them: tables per axis,
 * made once by prepare().
 */
#ifndef ATT_WINDOWS_H
#define ATT_WINDOWS_H

#include "../att.h"

#include <math.h>

/* Rolled coordinates run over the padded axis; windows are w of them in a row. */
typedef struct windows_axis {
    int length, padded;
    const int32_t *token;  /* [padded] of a rolled coordinate; -1: padding    */
    const int32_t *region; /* [padded]                                        */
    const int32_t *rolled; /* [length] of a token                             */
} windows_axis;

typedef struct windows {
    windows_axis axis[2];
    int side, shift;       /* after clamping                                  */
    size_t n, d, slots, table;
    float scale;
} windows;

static inline int windows_least(int a, int b)
{
    return a < b ? a : b;
}

/* Tables of one call; c->state may be NULL when only sizes are wanted. */
static inline windows windows_of(const att_call *c)
{
    const att_problem *p = c->p;
    const int least = windows_least(p->grid.v[0], p->grid.v[1]);
    const int asked = att_at(&p->window, 0, 7);
    const int32_t *table = c->state;
    windows x = { .side = windows_least(asked, least),
                  .shift = least <= asked ? 0 : p->shift,
                  .n = att_tokens(p),
                  .d = (size_t)p->head_dim,
                  .scale = p->scale != 0 ? (float)p->scale
                                         : 1 / sqrtf((float)p->head_dim) };
    x.slots = (size_t)x.side * (size_t)x.side;
    x.table = (size_t)(2 * x.side - 1) * (size_t)(2 * x.side - 1);
    for (int a = 0; a < 2; a++) {
        windows_axis *axis = &x.axis[a];
        axis->length = p->grid.v[a];
        axis->padded = (axis->length + x.side - 1) / x.side * x.side;
        if (!table) continue;
        axis->token = table;
        axis->region = axis->token + axis->padded;
        axis->rolled = axis->region + axis->padded;
        table = axis->rolled + axis->length;
    }
    return x;
}

static inline size_t windows_state_bytes(const windows *x)
{
    size_t n = 0;
    for (int a = 0; a < 2; a++)
        n += (size_t)(2 * x->axis[a].padded + x->axis[a].length);
    return n * sizeof(int32_t);
}

static inline void windows_prepare(const att_call *c)
{
    const windows x = windows_of(c);
    int32_t *table = c->state;
    for (int a = 0; a < 2; a++) {
        const int length = x.axis[a].length, padded = x.axis[a].padded;
        for (int z = 0; z < padded; z++) {
            const int token = (z + x.shift) % padded;
            table[z] = token < length ? token : -1;
            table[padded + z] = x.shift == 0              ? 0
                                : z < padded - x.side     ? 0
                                : z < padded - x.shift    ? 1
                                                          : 2;
            if (token < length) table[2 * padded + token] = z;
        }
        table += 2 * padded + length;
    }
}

#endif
