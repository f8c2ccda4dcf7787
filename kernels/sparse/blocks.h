/* blocks.h - the random choices of sparse patterns: functions of seed and block
 * numbers alone, so that mechanism and kernels make the same ones without
 * storing them.
 */
#ifndef ATT_BLOCKS_H
#define ATT_BLOCKS_H

#include "../plan.h"

/* Side of a block, not larger than the sequences. */
static inline int blocks_side(const att_problem *p)
{
    const size_t n = att_tokens(p), m = att_keys(p), most = n > m ? n : m;
    return (size_t)p->block < most ? p->block : (int)most;
}

/* The random key block of a block of queries. */
static inline int blocks_random(const att_problem *p, int from, int blocks)
{
    uint64_t state = (uint64_t)p->seed << 32 | (uint32_t)from;
    att_random(&state); /* neighbouring states are far apart after one step */
    return (int)(att_uniform(&state) * blocks);
}

/* Whether a block of a random mask is visible: the diagonal is, others with
 * probability 1/4. */
static inline bool blocks_visible(const att_problem *p, int from, int to)
{
    uint64_t state = (uint64_t)p->seed * 0x9e3779b97f4a7c15u +
                     ((uint64_t)(uint32_t)from << 32 | (uint32_t)to);
    return from == to || att_random(&state) >> 62 == 0;
}

#endif
