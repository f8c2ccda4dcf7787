/* cswin.direct - one query at a time (see direct.h), then LePE in a pass of its
 * own.
 *
 * A token sees its stripe and is seen by it.  Backward needs the outputs without
 * LePE: it is made again and taken off.  Bound by loads and horizontal sums.
 */
#include "cswin.h"
#include "direct.h"

/* Stripe of token i, and the place of i in it. */
static size_t around(const cswin *x, size_t map, size_t i, int32_t *token,
                     stripe *s)
{
    const size_t head = map % (size_t)x->call->p->heads;
    const size_t width = (size_t)x->axis[1];
    const size_t z = cswin_axis(x, head) ? i % width : i / width;
    cswin_stripe(x, head, z / (size_t)x->window, token, s);
    return (i / width - (size_t)token[0] / width) * (size_t)s->width +
           i % width - (size_t)token[0] % width;
}

static void list(const direct *x, size_t map, size_t i, direct_row *row)
{
    stripe s = { 0 };
    around(x->geometry, map, i, row->key, &s);
    row->keys = stripe_slots(&s);
}

static void inverse(const direct *x, size_t map, size_t j, direct_row *row)
{
    stripe s = { 0 };
    const size_t slot = around(x->geometry, map, j, row->key, &s);
    row->keys = stripe_slots(&s);
    for (size_t t = 0; t < row->keys; t++) row->tag[t] = (int32_t)slot;
}

static direct direct_of(const cswin *x, const att_call *c)
{
    return (direct){ .call = c,
                     .grad = x->grad,
                     .geometry = x,
                     .maps = x->maps,
                     .n = x->n,
                     .m = x->n,
                     .d = x->d,
                     .scale = x->scale,
                     .most = x->slots,
                     .most_back = x->slots,
                     .pairs = x->n * x->slots,
                     .list = list,
                     .inverse = inverse };
}

/* Backward: sums of all stripes, tokens of a stripe for each thread, and o. */
static size_t sums_floats(const cswin *x)
{
    return x->maps * x->tasks * lepe_sum_floats(x);
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const att_call c = { .p = p };
    const cswin x = cswin_of(&c, NULL);
    const direct y = direct_of(&x, &c);
    const size_t tokens = (size_t)threads * direct_up(x.slots);
    *out = (att_sizes){ .state = cswin_state_bytes(&x) };
    direct_sizes(&y, threads, out);
    out->work += tokens * sizeof(float);
    out->work_backward += (tokens + sums_floats(&x)) * sizeof(float);
}

/* out += LePE + bias everywhere. */
static void add_lepe(const cswin *x, float *tokens, float *out)
{
    const size_t heads = (size_t)x->call->p->heads;
    #pragma omp parallel for num_threads(x->call->threads)
    for (size_t at = 0; at < x->maps * x->tasks; at++) {
        const size_t base = at / x->tasks * x->n * x->d;
        int32_t *own = (int32_t *)tokens +
                       (size_t)omp_get_thread_num() * direct_up(x->slots);
        stripe s;
        if (!cswin_stripe(x, at / x->tasks % heads, at % x->tasks, own, &s))
            continue;
        for (size_t i = 0; i < stripe_slots(&s); i++)
            lepe_add(&s, (const float *)x->call->v + base, own, i,
                     out + base + (size_t)own[i] * x->d);
    }
}

static void forward(const att_call *c)
{
    const cswin x = cswin_of(c, NULL);
    const direct y = direct_of(&x, c);
    att_sizes own;
    direct_sizes(&y, c->threads, &own);
    direct_forward(&y);
    add_lepe(&x, (float *)c->work + own.work / sizeof(float), c->o);
}

/* dv += that of LePE, and the gradients of the filters. */
static void lepe_backward(const cswin *x, float *tokens, float *sums)
{
    const att_call *c = x->call;
    const size_t heads = (size_t)c->p->heads;
    #pragma omp parallel num_threads(c->threads)
    {
        int32_t *own = (int32_t *)tokens +
                       (size_t)omp_get_thread_num() * direct_up(x->slots);
        #pragma omp for
        for (size_t at = 0; at < x->maps * x->tasks; at++) {
            const size_t base = at / x->tasks * x->n * x->d;
            float *sum = sums + at * lepe_sum_floats(x);
            stripe s;
            memset(sum, 0, lepe_sum_floats(x) * sizeof *sum);
            if (!cswin_stripe(x, at / x->tasks % heads, at % x->tasks, own, &s))
                continue;
            for (size_t i = 0; i < stripe_slots(&s); i++)
                lepe_back(&s, (const float *)c->v + base,
                          x->grad->dout + base, own, i,
                          x->grad->dv ? x->grad->dv + base : NULL, sum);
        }
        #pragma omp for
        for (size_t h = 0; h < heads; h++) lepe_fold(x, sums, h);
    }
}

static void backward(const att_call *c, const att_grad *g)
{
    const cswin x = cswin_of(c, g);
    const direct y = direct_of(&x, c);
    att_sizes own;
    direct_sizes(&y, c->threads, &own);
    float *tokens = (float *)c->work + own.work_backward / sizeof(float);
    direct_backward(&y);
    lepe_backward(&x, tokens, tokens + (size_t)c->threads * direct_up(x.slots));
}

ATT_KERNELS = {
    {
        .name = "cswin.direct",
        .mechanism = "cswin",
        .brief = "one query at a time, row dot products; LePE apart",
        .plain = true,
        .sizes = sizes,
        .prepare = cswin_prepare,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
