/* cold.c - flushes what a call will touch, and times the call. */
#include "cold.h"

#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"
#include "stats.h"

#if defined __SSE2__
#include <cpuid.h>
#include <immintrin.h>

static bool has_clflushopt(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_CLFLUSHOPT);
}

/* Of what one flush drops: bits 15..8, in units of 8 bytes. */
static size_t line_bytes(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(b >> 8 & 0xff)) return 64;
    return 8 * (size_t)(b >> 8 & 0xff);
}

/* Several at a time, where clflush waits for the one before. */
__attribute__((target("clflushopt")))
static void flush_soon(const char *from, const char *to, size_t line)
{
    for (const char *x = from; x < to; x += line)
        _mm_clflushopt((void *)(uintptr_t)x);
}

static void flush_in_turn(const char *from, const char *to, size_t line)
{
    for (const char *x = from; x < to; x += line) _mm_clflush(x);
}

static void flush(const char *from, const char *to, size_t line)
{
    if (has_clflushopt()) flush_soon(from, to, line);
    else flush_in_turn(from, to, line);
}

/* Waits for flushes and stores. */
static void settle(void)
{
    _mm_mfence();
}

const char *cold_refusal(void)
{
    return NULL;
}
#else
static size_t line_bytes(void)
{
    return 64;
}

static void flush(const char *from, const char *to, size_t line)
{
    (void)from, (void)to, (void)line;
}

static void settle(void)
{
    __sync_synchronize();
}

const char *cold_refusal(void)
{
    return "this processor has no instruction that flushes a line of its "
           "caches (--cache warm)";
}
#endif

void cold_add(cold *c, const void *at, size_t bytes)
{
    if (!at || !bytes) return;
    if (c->ranges == COLD_RANGES) abort();
    c->range[c->ranges].at = at;
    c->range[c->ranges++].bytes = bytes;
}

/* Other lines that are brought in and flushed between the flush and the call.
 * Without them a processor (Intel, family 6 model 207) that was asked for less
 * than 280 KiB of just these lines again got them from memory at half the speed:
 * copies of 100 KB at 9 GB/s, of 200 KB at 16; with them all at 16. */
static _Alignas(64) char others[512 << 10];

static void bring_in(const char *from, const char *to, size_t line)
{
    for (const char *x = from; x < to; x += line) (void)*(const volatile char *)x;
}

/* A thread's share of the lines of a range; how many. */
static size_t flush_share(const char *at, size_t bytes, size_t line, size_t i,
                          size_t n)
{
    const char *first = at - (uintptr_t)at % line;
    const size_t lines = ((size_t)(at + bytes - first) + line - 1) / line;
    const size_t from = lines * i / n, to = lines * (i + 1) / n;
    flush(first + from * line, first + to * line, line);
    return to - from;
}

size_t cold_evict(const cold *c)
{
    const size_t line = line_bytes();
    size_t lines = 0;
    #pragma omp parallel num_threads(c->threads) reduction(+ : lines)
    {
        const size_t i = (size_t)omp_get_thread_num();
        const size_t n = (size_t)omp_get_num_threads();
        for (int k = 0; k < c->ranges; k++)
            lines += flush_share(c->range[k].at, c->range[k].bytes, line, i, n);
        settle();
        if (i == 0) {
            bring_in(others, others + sizeof others, line);
            flush(others, others + sizeof others, line);
            settle();
        }
    }
    return lines;
}

/* Until the stores are done: whoever needs them next would wait. */
static double timed(const cold *c)
{
    const double start = measure_now();
    c->run(c->arg);
    settle();
    return measure_now() - start;
}

double cold_call(void *arg)
{
    cold *c = arg;
    c->flushed += (double)cold_evict(c);
    return timed(c) - c->clock;
}

static void nothing(void *arg)
{
    (void)arg;
}

void cold_begin(cold *c)
{
    enum { TIMES = 31 };
    const cold empty = { .run = nothing, .threads = c->threads };
    double seconds[TIMES];
    stats_summary s;
    memset(others, 1, sizeof others); /* pages of its own */
    for (int i = 0; i < TIMES; i++) {
        cold_evict(&empty);
        seconds[i] = timed(&empty);
    }
    stats_summarise(seconds, TIMES, &s);
    c->clock = s.median;
}
