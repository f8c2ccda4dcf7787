/* random_fused.h - what performer.fused and favor_pm.fused share: the
 * projection of a chunk, |x|^2, and the gradient of both. */
#ifndef LINEAR_RANDOM_FUSED_H
#define LINEAR_RANDOM_FUSED_H

#include "fused.h"
#include "random_features.h"

/* q or k at the chunk. */
FUSED const float *random_tokens(const fused_chunk *k)
{
    const float *x = k->side == ATT_Q ? k->u->c->q : k->u->c->k;
    return x + fused_place(k, (size_t)k->u->c->p->head_dim);
}

/* u = d^(-1/4) Omega x of the chunk into the first `rows` columns of phi. */
FUSED void random_project_chunk(const fused_chunk *k, size_t rows)
{
    const size_t d = (size_t)k->u->c->p->head_dim;
    fused_gemm(k->rows, rows, d, random_tokens(k), d, 1, k->u->c->state, rows,
               k->phi, k->u->lf, false);
}

/* |x|^2 / (2 sqrt d). */
FUSED float random_half_square(const float *x, size_t d)
{
    vf sum = v_zero();
    for (size_t c = 0; c < d; c += VL) {
        const vf y = v_load_n(x + c, d - c < VL ? d - c : VL);
        sum = v_fma(y, y, sum);
    }
    return v_sum(sum) / (2 * sqrtf((float)d));
}

/* dx = d^(-1/4) du Omega - x sum / sqrt d: du in the first `rows` columns of
 * dphi, sum of each row the gradient of -|x|^2 / (2 sqrt d). */
FUSED void random_unproject_chunk(const fused_chunk *k, size_t rows,
                                  const float *sum)
{
    const fused *u = k->u;
    const size_t d = (size_t)u->c->p->head_dim;
    const float scale = powf((float)d, -0.25f), *x = random_tokens(k);
    float *dx = k->side == ATT_Q ? u->g->dq : u->g->dk;
    dx += fused_place(k, d);
    fused_gemm(k->rows, d, rows, k->dphi, u->lf, 1, u->c->param[RANDOM_PROJ], d,
               dx, d, false);
    for (size_t r = 0; r < k->rows; r++, x += d, dx += d)
        for (size_t c = 0; c < d; c++)
            dx[c] = scale * (dx[c] - scale * sum[r] * x[c]);
}

#endif
