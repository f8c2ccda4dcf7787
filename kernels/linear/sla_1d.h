/* sla_1d.h - what the mechanism sla_1d and its kernels agree on. */
#ifndef LINEAR_SLA_1D_H
#define LINEAR_SLA_1D_H

#include "../att.h"

#define SLA_1D_EPS 1e-6

enum { SLA_1D_W, SLA_1D_B };
enum { SLA_1D_TAPS = 5, SLA_1D_TAPS_MAX = 255 };

static inline int sla_1d_taps(const att_problem *p)
{
    return att_at(&p->conv, 0, SLA_1D_TAPS);
}

/* Output tokens: N, or N + 1 where the number of taps is even. */
static inline size_t sla_1d_outputs(const att_problem *p)
{
    return att_tokens(p) + (sla_1d_taps(p) % 2 == 0);
}

#endif
