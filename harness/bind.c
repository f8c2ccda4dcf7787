/* bind.c - which thread runs where.
 *
 * OMP_PROC_BIND is read before main() and would bind the parent as well, which
 * shall see the whole machine: so each thread of the team is moved by itself,
 * and what such variables did is undone before.
 * libgomp keeps the threads of a team as long as its size stays the same, and
 * kernels ask for one size only.
 */
#define _GNU_SOURCE
#include "bind.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "process.h"

static const char *const words[] = { "close", "spread", "none" };

int bind_parse(const char *text)
{
    for (int i = 0; i < 3; i++)
        if (!strcmp(text, words[i])) return i;
    return -1;
}

/* Bytes of the calling thread's stack. */
static size_t stack_size(void)
{
    pthread_attr_t attr;
    void *at;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attr) != 0) return SIZE_MAX;
    if (pthread_attr_getstack(&attr, &at, &size) != 0) size = SIZE_MAX;
    pthread_attr_destroy(&attr);
    return size;
}

const char *bind_refusal(int threads)
{
    static char why[128];
    enum { LEAST_STACK = 256 << 10 };
    int count = 0;
    size_t stack = SIZE_MAX;
    process_unbind(); /* before the team is made, which inherits it */
#pragma omp parallel num_threads(threads) reduction(+ : count)                 \
    reduction(min : stack)
    {
        process_unbind();
        count += 1;
        stack = stack_size();
    }
    if (count != threads)
        snprintf(why, sizeof why,
                 "runs with %d of %d threads: unset OMP_THREAD_LIMIT and "
                 "OMP_MAX_ACTIVE_LEVELS", count, threads);
    else if (stack < LEAST_STACK)
        snprintf(why, sizeof why,
                 "its threads have a stack of %zu KiB: unset OMP_STACKSIZE",
                 stack >> 10);
    else return NULL;
    return why;
}

bool bind_has_room(int threads)
{
    int *place = malloc((size_t)threads * sizeof *place);
    if (!place) abort();
    const bool room = machine_places(threads, false, place) == 0;
    free(place);
    return room;
}

const char *bind_word(enum sweep_bind policy)
{
    return words[policy];
}

static bool move_to(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0;
}

static bool is_on(int processor)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 &&
           CPU_COUNT(&set) == 1 && CPU_ISSET(processor, &set);
}

static json *unbound(json *j, const char *reason)
{
    json_put_text(j, "policy", words[SWEEP_FREE]);
    json_put_null(j, "processors");
    json_put_text(j, "reason", reason);
    return j;
}

json *bind_team(enum sweep_bind policy, int threads)
{
    json *j = json_object(), *list;
    char governor[128];
    int *place = malloc((size_t)threads * sizeof *place), moved = 0;
    if (!place) abort();
    if (policy == SWEEP_FREE)
        unbound(j, bind_has_room(threads)
                       ? "--bind none"
                       : "--bind none; more threads than processors");
    else if (machine_places(threads, policy == SWEEP_SPREAD, place) < 0)
        unbound(j, "more threads than processors");
    else {
#pragma omp parallel num_threads(threads) reduction(+ : moved)
        moved += move_to(place[omp_get_thread_num()]);
        list = json_array();
        for (int i = 0; i < threads; i++) json_push_number(list, place[i]);
        if (machine_governor(place, threads, governor, sizeof governor))
            json_put_text(j, "governor", governor);
        json_put_text(j, "policy", words[policy]);
        json_put(j, "processors", list);
        json_put_text(j, "reason", moved == threads
                                       ? NULL
                                       : "the system did not move all threads");
    }
    free(place);
    return j;
}

bool bind_verify(json *binding, int threads)
{
    const json *list = json_get(binding, "processors");
    int held = 0;
    if (json_size(list) != threads) {
        json_put_null(binding, "held");
        return true;
    }
#pragma omp parallel num_threads(threads) reduction(+ : held)
    held += is_on((int)json_number(json_at(list, omp_get_thread_num()), -1));
    json_put_bool(binding, "held", held == threads);
    return held == threads;
}
