/* cswin.tiled - each stripe as one dense block (dense.h); LePE is added to the
 * outputs of a group of queries before they are stored, from the values that the
 * block gathered anyhow.
 *
 * Bound by the FMA pipes, as swin.tiled: of 2 H w + 9 multiply-adds a channel, 9
 * are LePE's.  A task is a stripe of one map; stripes share no token, so that dk
 * and dv are written once.  Gradients of the filters are summed stripe by stripe
 * and then over the stripes of a head, in order.
 */
#include "cswin.h"
#include "dense.h"

static size_t token_floats(const cswin *x)
{
    return direct_up(x->slots + VL);
}

/* Tokens, a block, and for backward the rows of dO and v. */
static size_t thread_floats(const cswin *x, bool back)
{
    return token_floats(x) + dense_floats(x->slots, x->d, back) +
           (back ? 2 * direct_up(x->slots * x->d) : 0);
}

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    const att_call c = { .p = p };
    const cswin x = cswin_of(&c, NULL);
    const size_t n = (size_t)threads;
    *out = (att_sizes){
        .state = cswin_state_bytes(&x),
        .save = x.maps * x.n * sizeof(float),
        .work = n * thread_floats(&x, false) * sizeof(float),
        .work_backward = (n * thread_floats(&x, true) +
                          x.maps * x.tasks * lepe_sum_floats(&x)) *
                         sizeof(float),
    };
}

static void add_lepe(const dense *d, const float *v, size_t first, size_t n,
                     float *out, size_t pitch)
{
    const stripe *s = d->geometry;
    for (size_t i = first; i < first + n; i++, out += pitch)
        lepe_add(s, v, NULL, i, out);
}

static dense block_of(const cswin *x, size_t map, const stripe *s)
{
    const att_call *c = x->call;
    const att_grad *g = x->grad;
    const size_t base = map * x->n * x->d;
    return (dense){ .d = x->d,
                    .queries = stripe_slots(s),
                    .keys = stripe_slots(s),
                    .scale = log2e * x->scale,
                    .query = s->token,
                    .key = s->token,
                    .dtype = c->p->dtype,
                    .q = dense_at(c->p->dtype, c->q, base),
                    .k = dense_at(c->p->dtype, c->k, base),
                    .v = dense_at(c->p->dtype, c->v, base),
                    .o = dense_at(c->p->dtype, c->o, base),
                    .lse = c->save ? (float *)c->save + map * x->n : NULL,
                    .g = g ? g->dout + base : NULL,
                    .dq = g && g->dq ? g->dq + base : NULL,
                    .dk = g && g->dk ? g->dk + base : NULL,
                    .dv = g && g->dv ? g->dv + base : NULL,
                    .finish = add_lepe,
                    .geometry = s };
}

static bool open_task(const cswin *x, size_t at, float *work, stripe *s)
{
    int32_t *token = (int32_t *)work;
    if (!cswin_stripe(x, at / x->tasks % (size_t)x->call->p->heads,
                      at % x->tasks, token, s))
        return false;
    for (size_t i = stripe_slots(s); i < x->slots + VL; i++) token[i] = -1;
    return true;
}

static void forward(const att_call *c)
{
    const cswin x = cswin_of(c, NULL);
    #pragma omp parallel for schedule(dynamic) num_threads(c->threads)
    for (size_t at = 0; at < x.maps * x.tasks; at++) {
        float *work = (float *)c->work +
                      (size_t)omp_get_thread_num() * thread_floats(&x, false);
        stripe s;
        if (!open_task(&x, at, work, &s)) continue;
        dense d = block_of(&x, at / x.tasks, &s);
        dense_forward(&d, work + token_floats(&x));
    }
}

/* Stripe `at`; sum gets its gradients of the filters. */
static void run_back(const cswin *x, size_t at, float *work, float *sum)
{
    stripe s;
    memset(sum, 0, lepe_sum_floats(x) * sizeof *sum);
    if (!open_task(x, at, work, &s)) return;
    dense d = block_of(x, at / x->tasks, &s);
    float *v = work + token_floats(x) + dense_floats(x->slots, x->d, true);
    float *g = v + direct_up(x->slots * x->d);
    dense_backward(&d, work + token_floats(x));
    dense_gather(d.dtype, d.v, s.token, NULL, d.keys, x->d, 1, v);
    dense_gather(ATT_F32, d.g, s.token, NULL, d.keys, x->d, 1, g);
    for (size_t i = 0; i < d.keys; i++)
        lepe_back(&s, v, g, NULL, i, d.dv, sum);
}

static void backward(const att_call *c, const att_grad *g)
{
    const cswin x = cswin_of(c, g);
    float *sums = (float *)c->work + (size_t)c->threads * thread_floats(&x, true);
    const size_t bytes = x.maps * x.n * x.d * sizeof(float);
    if (g->dk) memset(g->dk, 0, bytes);
    if (g->dv) memset(g->dv, 0, bytes);
    #pragma omp parallel num_threads(c->threads)
    {
        float *work = (float *)c->work +
                      (size_t)omp_get_thread_num() * thread_floats(&x, true);
        #pragma omp for schedule(dynamic)
        for (size_t at = 0; at < x.maps * x.tasks; at++)
            run_back(&x, at, work, sums + at * lepe_sum_floats(&x));
        #pragma omp for
        for (size_t h = 0; h < (size_t)c->p->heads; h++)
            lepe_fold(&x, sums, h);
    }
}

ATT_KERNELS = {
    {
        .name = "cswin.tiled",
        .mechanism = "cswin",
        .brief = "each stripe as a dense block, lanes are queries",
        .reject = dense_reject,
        .sizes = sizes,
        .prepare = cswin_prepare,
        .forward = forward,
        .backward = backward,
    },
    { 0 },
};
