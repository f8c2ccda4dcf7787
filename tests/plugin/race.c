/* race - what ThreadSanitizer must report, and what it must not: a mechanism
 * o = v with a kernel whose threads write one number without order, and one
 * whose threads read at a barrier what the others wrote before it.
 */
#include "reference.h"

#include <omp.h>
#include <string.h>

static void shape(const att_problem *p, enum att_slot slot, att_shape *out)
{
    if (slot == ATT_Q || slot == ATT_K) *out = (att_shape){ 0 };
    else *out = (att_shape){ p->heads, (int)att_tokens(p), p->head_dim };
}

static size_t elements(const att_problem *p)
{
    return (size_t)p->heads * att_tokens(p) * (size_t)p->head_dim;
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double bytes = 4. * p->batch * (double)elements(p);
    (void)pass;
    *out = (att_cost){ .read = bytes, .write = bytes };
}

static void reference_forward(const att_ref *r)
{
    memcpy(r->o, r->v, elements(r->p) * sizeof *r->o);
}

static void rows(const att_ref *r, int h, int ch, enum att_part part, size_t i0,
                 size_t i1, double *a)
{
    const size_t n = att_tokens(r->p);
    (void)h, (void)ch, (void)part;
    for (size_t i = i0; i < i1; i++, a += n)
        for (size_t j = 0; j < n; j++) a[j] = i == j;
}

ATT_MECHANISMS = {
    {
        .name = "copy",
        .family = "race",
        .brief = "the values themselves",
        .formula = "o_i = v_i",
        .map = "the identity",
        .traits = ATT_LINEAR_IN_V | ATT_ROWS_SUM_1 | ATT_NONNEGATIVE,
        .shape = shape,
        .cost = cost,
        .forward = reference_forward,
        .rows = rows,
    },
    { 0 },
};

/* One number for each thread. */
static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    (void)p;
    *out = (att_sizes){ .work = (size_t)threads * sizeof(float) };
}

static void copy_part(const att_call *c, int part, int parts)
{
    const size_t n = (size_t)c->p->batch * elements(c->p);
    const size_t from = n * (size_t)part / (size_t)parts;
    const size_t to = n * (size_t)(part + 1) / (size_t)parts;
    memcpy((float *)c->o + from, (const float *)c->v + from,
           (to - from) * sizeof(float));
}

static void races(const att_call *c)
{
    float *last = c->work;
    #pragma omp parallel num_threads(c->threads)
    {
        copy_part(c, omp_get_thread_num(), omp_get_num_threads());
        *last = (float)omp_get_thread_num();
    }
}

static void waits(const att_call *c)
{
    float *mine = c->work;
    #pragma omp parallel num_threads(c->threads)
    {
        const int me = omp_get_thread_num(), team = omp_get_num_threads();
        float sum = 0;
        mine[me] = (float)me;
        #pragma omp barrier
        for (int i = 0; i < team; i++) sum += mine[i];
        /* All see the same sum, so that every part is copied once. */
        if (sum == (float)(team * (team - 1) / 2)) copy_part(c, me, team);
    }
}

ATT_KERNELS = {
    { .name = "copy.races", .mechanism = "copy", .brief = "threads race",
      .sizes = sizes, .forward = races },
    { .name = "copy.waits", .mechanism = "copy", .brief = "threads wait",
      .sizes = sizes, .forward = waits },
    { 0 },
};
