/* faulty - kernels with the faults that `verify --random` has to find, each in
 * few problems: wrong at odd head dims beyond 16, dead at one number of tokens,
 * endless on four heads, one float beside the output, slow on denormals; and
 * one that refuses everything.
 *
 * The mechanism is o = 2 v.
 */
#include "att.h"

#include <signal.h>
#include <string.h>

/* ---- mechanism ---------------------------------------------------------- */

static void shape(const att_problem *p, enum att_slot slot, att_shape *out)
{
    if (slot == ATT_Q || slot == ATT_K) *out = (att_shape){ 0 };
    else *out = (att_shape){ p->heads, (int)att_tokens(p), p->head_dim };
}

static void cost(const att_problem *p, enum att_pass pass, att_cost *out)
{
    const double n = (double)p->batch * p->heads * (double)att_tokens(p) *
                     p->head_dim;
    (void)pass;
    *out = (att_cost){ .mul = n, .read = 4 * n, .write = 4 * n };
}

static size_t elements(const att_problem *p)
{
    return (size_t)p->batch * (size_t)p->heads * att_tokens(p) *
           (size_t)p->head_dim;
}

static void reference_forward(const att_ref *r)
{
    for (size_t i = 0; i < elements(r->p); i++) r->o[i] = 2 * r->v[i];
}

static void reference_backward(const att_ref *r)
{
    for (size_t i = 0; r->dv && i < elements(r->p); i++)
        r->dv[i] += 2 * r->dout[i];
}

ATT_MECHANISMS = {
    { .name = "twice", .family = "example", .brief = "two times v",
      .formula = "o = 2 v", .map = "none", .shape = shape, .cost = cost,
      .forward = reference_forward, .backward = reference_backward },
    { 0 },
};

/* ---- kernels ------------------------------------------------------------ */

static void right(const att_call *c)
{
    const float *v = c->v;
    float *o = c->o;
    for (size_t i = 0; i < elements(c->p); i++) o[i] = 2 * v[i];
}

static void right_backward(const att_call *c, const att_grad *g)
{
    for (size_t i = 0; g->dv && i < elements(c->p); i++)
        g->dv[i] = 2 * g->dout[i];
}

static void odd(const att_call *c)
{
    const int d = c->p->head_dim;
    right(c);
    if (d > 16 && d % 2) ((float *)c->o)[d - 1] += 1e-3f;
}

/* By signal, since a sanitizer would turn a wild pointer into its own report. */
static void crash(const att_call *c)
{
    right(c);
    if (att_tokens(c->p) != 8) return;
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

static void hang(const att_call *c)
{
    right(c);
    while (c->p->heads == 4) ((volatile float *)c->o)[0] = 0;
}

static void beside(const att_call *c)
{
    right(c);
    if (c->p->head_dim == 3) ((volatile float *)c->o)[elements(c->p)] = 0;
}

/* By its bits: the processor may take it for zero. */
static bool denormal(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits << 1 && !(bits & 0x7f800000);
}

/* What an assist of the processor costs, on any processor. */
static void slow(const att_call *c)
{
    const float *v = c->v;
    float *o = c->o;
    for (size_t i = 0; i < elements(c->p); i++) {
        o[i] = 2 * v[i];
        if (!denormal(v[i])) continue;
        for (volatile int wait = 0; wait < 200; wait++) continue;
    }
}

static const char *refuse(const att_problem *p, enum att_pass pass)
{
    (void)p, (void)pass;
    return "nothing is good enough";
}

#define KERNEL(what)                                                           \
    .name = "twice." #what, .mechanism = "twice", .brief = #what,              \
    .backward = right_backward
ATT_KERNELS = {
    { KERNEL(right), .forward = right },
    { KERNEL(odd), .forward = odd },
    { KERNEL(crash), .forward = crash },
    { KERNEL(hang), .forward = hang },
    { KERNEL(beside), .forward = beside },
    { KERNEL(slow), .forward = slow },
    { KERNEL(refuse), .forward = right, .reject = refuse },
    { 0 },
};
