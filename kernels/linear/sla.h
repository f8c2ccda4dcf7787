/* sla.h - what the mechanism sla and its kernels agree on. */
#ifndef LINEAR_SLA_H
#define LINEAR_SLA_H

#include "dwc.h"

enum { SLA_POS, SLA_W, SLA_B };

#define SLA_EPS 1e-6

/* Whether Q K' is made first, by the authors' rule unless told. */
static inline bool sla_scores_first(const att_problem *p)
{
    const double n = (double)att_tokens(p), m = (double)dwc_keys(p);
    const double d = p->head_dim;
    if (p->order != ATT_ORDER_AUTO) return p->order == ATT_ORDER_QK;
    return n * m * 2 * d <= d * d * (n + m);
}

#endif
