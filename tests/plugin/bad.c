/* bad - kernels that crash, never end, eat all memory, are wrong, give up: what
 * a sweep has to survive.
 *
 * All claim to be softmax, so the harness compares them with its reference.
 */
#include "att.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void sizes(const att_problem *p, int threads, att_sizes *out)
{
    (void)p, (void)threads;
    *out = (att_sizes){ 0 };
}

static size_t bytes_of_o(const att_problem *p)
{
    return (size_t)p->batch * (size_t)p->heads * att_tokens(p) *
           att_value_dim(p) * sizeof(float);
}

/* By signal, since a sanitizer would turn a wild pointer into its own report. */
static void crash(const att_call *c)
{
    (void)c;
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

static void loop(const att_call *c)
{
    for (volatile int *p = (volatile int *)c->o;;) *p = 0;
}

static void eat(const att_call *c)
{
    (void)c;
    for (;;) {
        volatile char *block = malloc(1 << 22);
        for (int i = 0; block && i < 1 << 22; i += 4096) block[i] = 1;
        if (!block) pause(); /* the limit of memory, or else of time */
    }
}

static void wrong(const att_call *c)
{
    memset(c->o, 0, bytes_of_o(c->p));
}

static void quit(const att_call *c)
{
    (void)c;
    _exit(0);
}

ATT_KERNELS = {
    { .name = "softmax.crash", .mechanism = "softmax", .brief = "SIGSEGV",
      .sizes = sizes, .forward = crash },
    { .name = "softmax.loop", .mechanism = "softmax", .brief = "never ends",
      .sizes = sizes, .forward = loop },
    { .name = "softmax.eat", .mechanism = "softmax", .brief = "eats memory",
      .sizes = sizes, .forward = eat },
    { .name = "softmax.wrong", .mechanism = "softmax", .brief = "zeroes",
      .sizes = sizes, .forward = wrong },
    { .name = "softmax.quit", .mechanism = "softmax", .brief = "exits",
      .sizes = sizes, .forward = quit },
    { 0 },
};
