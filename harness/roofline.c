/* roofline.c - the ceilings of this machine, and a case below them.
 *
 * Every limit is measured in short slots; the slots of all limits alternate, so
 * that a slow moment of the machine does not fall on one of them, and the
 * median of the undisturbed ones counts.
 */
#define _GNU_SOURCE
#include "roofline.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "bind.h"
#include "isolate.h"
#include "machine.h"
#include "peak.h"
#include "probe.h"

enum place { L1, L2, L3, MEMORY, PLACES };
static const char *const place_names[PLACES] = { "L1", "L2", "L3", "memory" };

enum {
    ROUNDS = 75,    /* most; three at least,                                */
    ENOUGH = 8,     /* and so many if there is time                         */
    PATIENCE = 5,   /* times the seconds asked for, while a neighbour is seen */
    CHUNK = 1 << 16 /* floats that a loop is given at most                  */
};

/* Seconds of a slot: short enough to be left alone by the scheduler, long
 * enough for the clock. */
#define SLOT 1e-3

/* ---- probes: what is measured -------------------------------------------- */

enum kind { CLOCK, FMA, MUL, ADD, MIXED, DIV, EXP, READ, COPY, TRIAD, WRITE };

/* Arrays that a loop touches. */
static const int arrays_of[] = { 0, 2, 2, 2, 2, 2, 2, 1, 2, 3, 1 };

typedef struct probe {
    enum kind kind;
    enum att_level level;
    int threads;
    enum place place;  /* where the arrays lie                              */
    size_t length;     /* floats per array and thread                       */
    double calls;      /* per thread and slot                               */
    size_t at;         /* where the next slot goes on: memory must not be read
                          twice in a row                                    */
    double rate[ROUNDS];
    bool clean[ROUNDS]; /* no thread was interrupted                        */
    double ceiling;
} probe;

typedef struct bench {
    probe *probe;
    int count;
    int rounds;  /* done                                                    */
    probe_bench *beside; /* the loops beside samples                        */
    char *block; /* arrays of all threads                                   */
    size_t bytes;
} bench;

static size_t round_down(size_t n, size_t to)
{
    return n / to * to;
}

/* Bytes of all arrays of one thread: half of a private cache, so that they stay
 * there; of L3 several times what L2 holds and no more (a guest has less of a
 * large L3 than it is told, and small arrays are the faster ones); several times
 * L3 in memory.  0: this place cannot be told from another here. */
static size_t footprint(enum place place, int threads)
{
    const size_t l1 = machine_cache(1), l2 = machine_cache(2);
    const size_t l3 = machine_cache(3), last = l3 ? l3 : l2 ? l2 : l1;
    switch (place) {
    case L1: return l1 / 2;
    case L2: return l2 / 2;
    case L3:
        if (!l3) return 0;
        if (l3 / 2 / (size_t)threads > 4 * l2) return 4 * l2;
        return l3 / 2 / (size_t)threads > 2 * l2 ? l3 / 2 / (size_t)threads
                                                 : 2 * l2;
    default: {
        size_t bytes = last > (16u << 20) ? 4 * last : 64u << 20;
        const size_t most = machine_memory_free() / 4;
        if (bytes > most) bytes = most;
        return bytes < 2 * last ? 0 : bytes / (size_t)threads;
    }
    }
}

/* A quarter of a kilobyte between arrays, so that loads and stores of the same
 * index differ in their low twelve address bits. */
static size_t stride_of(size_t length)
{
    return length * sizeof(float) + 256;
}

static void add_probe(bench *b, enum kind kind, enum att_level level,
                      int threads, enum place place)
{
    const int arrays = arrays_of[kind];
    size_t length = 0;
    if (kind >= READ) {
        length = footprint(place, threads) / sizeof(float) / (size_t)arrays;
        length = round_down(length, length > CHUNK ? CHUNK : 256);
        if (length == 0) return;
    } else if (kind != CLOCK) length = 1024;
    const size_t bytes =
        (size_t)threads * (size_t)arrays * stride_of(length);
    if (bytes > b->bytes) b->bytes = bytes;
    b->probe = reallocarray(b->probe, (size_t)b->count + 1, sizeof *b->probe);
    if (!b->probe) abort();
    b->probe[b->count++] = (probe){ .kind = kind, .level = level,
                                    .threads = threads, .place = place,
                                    .length = length };
}

static void add_probes(bench *b, const int *threads, int count)
{
    add_probe(b, CLOCK, ATT_BASE, 1, L1);
    for (int l = 0; l < ATT_LEVELS; l++) {
        if (!peak_of((enum att_level)l)) continue;
        for (int t = 0; t < count; t++) {
            for (enum kind k = FMA; k <= EXP; k++)
                add_probe(b, k, (enum att_level)l, threads[t], L1);
            for (int place = 0; place < PLACES; place++)
                for (enum kind k = READ; k <= WRITE; k++)
                    add_probe(b, k, (enum att_level)l, threads[t],
                              (enum place)place);
        }
    }
}

/* ---- slots --------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Additions, each of which waits for the one before: one a cycle on every core
 * that we know, so additions per second are the core clock in Hz. */
static double clock_loop(float *const array[PEAK_ARRAYS], size_t n,
                         size_t times)
{
    (void)array, (void)n, (void)times;
    unsigned long x = 1, y = 3;
#define ADD x += y; __asm__ volatile("" : "+r"(x), "+r"(y));
#define ADD8 ADD ADD ADD ADD ADD ADD ADD ADD
    for (int i = 0; i < 256; i++) { ADD8 ADD8 ADD8 ADD8 }
#undef ADD8
#undef ADD
    return 256 * 32;
}

static peak_loop *loop_of(const probe *p)
{
    const peak *level = peak_of(p->level);
    switch (p->kind) {
    case CLOCK: return clock_loop;
    case FMA: return level->fma;
    case MUL: return level->mul;
    case ADD: return level->add;
    case MIXED: return level->mixed;
    case DIV: return level->division;
    case EXP: return level->exponential;
    case READ: return level->read;
    case COPY: return level->copy;
    case TRIAD: return level->triad;
    default: return level->write;
    }
}

/* Calls the loop on one part of the arrays after the other, round and round,
 * or often on the same where one part is all, so that the call itself is
 * hidden. */
static double work(const bench *b, const probe *p, int thread, double calls,
                   size_t *at)
{
    const size_t arrays = (size_t)arrays_of[p->kind];
    const size_t part = p->length < CHUNK ? p->length : CHUNK;
    const size_t times = part ? CHUNK / part : 1;
    const size_t stride = stride_of(p->length);
    char *base = b->block + (size_t)thread * arrays * stride;
    peak_loop *loop = loop_of(p);
    double done = 0;
    for (double i = 0; i < calls; i++) {
        float *array[PEAK_ARRAYS] = { 0 };
        for (size_t a = 0; a < arrays; a++)
            array[a] = (float *)(void *)(base + a * stride) + *at;
        done += loop(array, part, times);
        *at += part;
        if (*at + part > p->length) *at = 0;
    }
    return done;
}

/* How often the scheduler took this thread off its core. */
static long interruptions(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
}

/* Calls that bring the arrays back into the cache that they lost to the other
 * probes, and the vector units out of their sleep. */
static double warm_calls(const probe *p)
{
    return p->place == MEMORY ? 1 : (double)(p->length / CHUNK + 1);
}

/* One slot; returns its length in seconds, what was done a second, and whether
 * all threads kept their cores. */
static double slot(const bench *b, probe *p, double *rate, bool *clean)
{
    double begin = 0, end = 0, done = 0;
    size_t at = 0;
    long lost = 0;
    #pragma omp parallel num_threads(p->threads)                               \
        reduction(+ : done, lost) reduction(max : at)
    {
        const bool first = omp_get_thread_num() == 0;
        at = p->at; /* the same for all threads, before and after */
        work(b, p, omp_get_thread_num(), warm_calls(p), &at);
        #pragma omp barrier
        const long before = interruptions();
        if (first) begin = now();
        done += work(b, p, omp_get_thread_num(), p->calls, &at);
        #pragma omp barrier
        if (first) end = now();
        lost += interruptions() - before;
    }
    p->at = at;
    *rate = done / (end - begin);
    *clean = lost == 0;
    return end - begin;
}

/* Finds how many calls fill a slot; warms caches, pages and clock on the way.
 * Interrupted slots look long: they count only if nothing else is to be had,
 * and the fastest slot decides. */
static void calibrate(const bench *b, probe *p, double seconds)
{
    double rate, fastest = 0; /* calls a second                             */
    bool clean;
    p->calls = 1;
    for (int full = 0, dirty = 0; full < 2;) {
        const double took = slot(b, p, &rate, &clean);
        if (!clean && ++dirty < 4) continue;
        if (p->calls / took > fastest) fastest = p->calls / took;
        full += p->calls > 0.5 * fastest * seconds;
        p->calls = ceil(fmin(fastest * seconds, 8 * p->calls));
    }
}

/* A probe that differs in the number of threads alone has the same calls. */
static const probe *sibling(const bench *b, const probe *p)
{
    for (const probe *x = b->probe; x < p; x++)
        if (x->kind == p->kind && x->level == p->level && x->place == p->place)
            return x;
    return NULL;
}

static void calibrate_all(const bench *b)
{
    for (int i = 0; i < b->count; i++) {
        const probe *other = sibling(b, &b->probe[i]);
        if (other) b->probe[i].calls = other->calls;
        else calibrate(b, &b->probe[i], SLOT);
    }
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* What one in ten of the clean slots exceeds: neighbours on the same hardware
 * slow a slot down without interrupting it, a short boost makes one fast.  If
 * there are no clean slots, the fastest. */
static double ceiling_of(const bench *b, const probe *p)
{
    double clean[ROUNDS], fastest = 0;
    size_t n = 0;
    for (int i = 0; i < b->rounds; i++) {
        fastest = fmax(fastest, p->rate[i]);
        if (p->clean[i]) clean[n++] = p->rate[i];
    }
    if (n == 0) return fastest;
    qsort(clean, n, sizeof *clean, by_value);
    return clean[(9 * (n - 1) + 5) / 10];
}

/* Cores do not share their vector units: if several together get much less than one
 * alone times their number, somebody else has them just now. */
static bool scales(const bench *b)
{
    const int cores = machine_cores();
    for (int i = 0; i < b->count; i++) {
        const probe *p = &b->probe[i], *one = sibling(b, p);
        if (p->kind >= FMA && p->kind <= EXP && one && one->threads == 1 &&
            p->threads <= cores &&
            ceiling_of(b, p) < 0.9 * p->threads * ceiling_of(b, one))
            return false;
    }
    return probe_bench_scales(b->beside, cores);
}

double roofline_rate_at_least(const roofline_rate *all, int count,
                              const roofline_rate *x)
{
    double most = x->rate;
    for (int i = 0; i < count; i++) {
        const roofline_rate *y = &all[i];
        if (y->kind == x->kind && y->level <= x->level && y->place >= x->place)
            most = fmax(most, y->rate * fmin(1, (double)x->threads / y->threads));
    }
    return most;
}

static void settle(bench *b)
{
    roofline_rate *all = reallocarray(NULL, (size_t)b->count + 1, sizeof *all);
    if (!all) abort();
    for (int i = 0; i < b->count; i++) {
        const probe *p = &b->probe[i];
        all[i] = (roofline_rate){ (int)p->kind, (int)p->level, p->threads,
                                  (int)p->place, ceiling_of(b, p) };
    }
    for (int i = 0; i < b->count; i++)
        b->probe[i].ceiling = roofline_rate_at_least(all, b->count, &all[i]);
    free(all);
}

/* ---- the whole measurement, in a child ----------------------------------- */

static json *bandwidths(const bench *b, const probe *first)
{
    static const char *const names[] = { [READ] = "read", [COPY] = "copy",
                                         [TRIAD] = "triad",
                                         [WRITE] = "write" };
    json *j = json_object();
    for (int place = 0; place < PLACES; place++) {
        json *at = NULL;
        for (int i = 0; i < b->count; i++) {
            const probe *p = &b->probe[i];
            if (p->kind < READ || p->place != (enum place)place ||
                p->level != first->level || p->threads != first->threads)
                continue;
            if (!at) at = json_object();
            json_put_number(at, names[p->kind], p->ceiling);
        }
        json_put(j, place_names[place], at);
    }
    return j;
}

static const char *const rate_names[] = {
    [MUL] = "mul_per_s",        [ADD] = "add_per_s",
    [MIXED] = "vector_per_s",   [DIV] = "div_per_s",
    [EXP] = "exp_per_s",
};

static json *ceilings(const bench *b)
{
    json *list = json_array();
    for (int i = 0; i < b->count; i++) {
        const probe *p = &b->probe[i];
        if (p->kind != FMA) continue;
        json *j = json_object();
        json_put_text(j, "level", att_level_name(p->level));
        json_put_number(j, "threads", p->threads);
        json_put_number(j, "fma_flop_per_s", p->ceiling);
        for (enum kind k = MUL; k <= EXP; k++) /* added after FMA, in order */
            json_put_number(j, rate_names[k], p[k - FMA].ceiling);
        json_put_number(j, "fma_operations", peak_of(p->level)->fma_operations);
        json_put_number(j, "exp_mul_adds", peak_of(p->level)->exp_mul_adds);
        json_put(j, "bandwidth_bytes_per_s", bandwidths(b, p));
        json_put(j, "probe", probe_bench_rates(b->beside, p->level, p->threads));
        json_push(list, j);
    }
    return list;
}

static double clean_part(const bench *b)
{
    double clean = 0;
    for (int i = 0; i < b->count; i++)
        for (int round = 0; round < b->rounds; round++)
            clean += b->probe[i].clean[round];
    return clean / (b->count * b->rounds);
}

static json *describe(const bench *b, double seconds)
{
    json *j = json_object(), *caches = json_object();
    json_put_number(j, "seconds", seconds);
    json_put_number(j, "rounds", b->rounds);
    json_put_number(j, "clean", clean_part(b));
    json_put_number(j, "clock_hz", b->probe[0].ceiling);
    for (int place = L1; place < MEMORY; place++) {
        const size_t bytes = machine_cache(place + 1);
        if (bytes)
            json_put_number(caches, place_names[place], (double)bytes);
    }
    json_put(j, "cache_bytes", caches);
    json_put(j, "ceilings", ceilings(b));
    return j;
}

/* Touched by the threads that will use it, as far as one partition serves all
 * thread counts. */
static void make_block(bench *b, int threads)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    b->bytes = round_down(b->bytes, 4096) + 4096;
    b->block = mmap(NULL, b->bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (b->block == MAP_FAILED) abort();
    madvise(b->block, b->bytes, MADV_HUGEPAGE); /* a wish */
    float *x = (float *)(void *)b->block;
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < b->bytes / sizeof *x; i++) x[i] = 1;
}

typedef struct request {
    const int *threads;
    int count;
    double seconds;
} request;

static json *no_ceilings(const char *reason)
{
    json *j = json_object();
    json_put_null(j, "ceilings");
    json_put_text(j, "reason", reason);
    return j;
}

static json *measure(void *arg)
{
    const request *r = arg;
    const double start = now();
    bench b = { 0 };
    int most = 1;
    for (int i = 0; i < r->count; i++)
        if (r->threads[i] > most) most = r->threads[i];
    const char *refused = bind_refusal(most);
    if (refused) return no_ceilings(refused);
    add_probes(&b, r->threads, r->count);
    make_block(&b, most);
    b.beside = probe_bench_make(r->threads, r->count);

    calibrate_all(&b);
    for (;;) {
        const double took = now() - start;
        if (b.rounds == ROUNDS ||
            (b.rounds >= 3 && took >= r->seconds &&
             (took >= PATIENCE * r->seconds ||
              (b.rounds >= ENOUGH && scales(&b)))))
            break;
        for (int i = 0; i < b.count; i++)
            slot(&b, &b.probe[i], &b.probe[i].rate[b.rounds],
                 &b.probe[i].clean[b.rounds]);
        probe_bench_round(b.beside);
        b.rounds++;
    }

    settle(&b);
    json *j = describe(&b, now() - start);
    probe_bench_free(b.beside);
    munmap(b.block, b.bytes);
    free(b.probe);
    return j;
}

json *roofline_measure(const int *threads, int count, double seconds)
{
    request r = { threads, count, seconds };
    const isolate_limits limits = { .seconds = 60 + 10 * seconds };
    isolate_result result = { 0 };
    error e;
    if (isolate_run(measure, &r, &limits, &result, &e) == 0 && result.value)
        return result.value;
    return no_ceilings(*result.reason ? result.reason : e.text);
}

/* ---- placing a case ------------------------------------------------------ */

static const json *ceiling(const json *roofline, enum att_level level,
                           int threads)
{
    const json *x = json_first(json_get(roofline, "ceilings"));
    for (; x; x = json_next(x)) {
        const char *name = json_text(json_get(x, "level"));
        if (name && !strcmp(name, att_level_name(level)) &&
            json_number(json_get(x, "threads"), 0) == threads)
            return x;
    }
    return NULL;
}

double roofline_probe(const json *roofline, enum att_level level, int threads,
                      const char *kind)
{
    const json *rates = json_get(ceiling(roofline, level, threads), "probe");
    return json_number(json_get(rates, kind), NAN);
}

/* Private caches of all threads together may hold the working set: a ceiling
 * should rather be too high than too low. */
static double capacity(const json *roofline, int threads, enum place place)
{
    const json *caches = json_get(roofline, "cache_bytes");
    return json_number(json_get(caches, place_names[place]), 0) *
           (place == L3 ? 1 : threads);
}

const char *roofline_held(const json *roofline, int threads, double bytes)
{
    if (!json_get(roofline, "cache_bytes") || !(bytes > 0)) return NULL;
    int place = L1;
    while (place < MEMORY && bytes > capacity(roofline, threads, (enum place)place))
        place++;
    return place_names[place];
}

/* A loop's bytes a second, in its two directions. */
typedef struct traffic {
    double read, write;
} traffic;

/* Seconds for traffic x by turns of loops that were measured, n of them: the
 * least sum of times t[i] >= 0 with sum t[i] rate[i] >= x.  With two conditions,
 * one loop or two are enough. */
static double least_time(const traffic *rate, int n, traffic x)
{
    double least = INFINITY;
    for (int i = 0; i < n; i++) {
        const double reads = x.read > 0 ? x.read / rate[i].read : 0;
        const double writes = x.write > 0 ? x.write / rate[i].write : 0;
        least = fmin(least, fmax(reads, writes));
        for (int k = 0; k < i; k++) {
            const double det =
                rate[i].read * rate[k].write - rate[k].read * rate[i].write;
            const double ti =
                (x.read * rate[k].write - rate[k].read * x.write) / det;
            const double tk =
                (rate[i].read * x.write - x.read * rate[i].write) / det;
            if (ti >= 0 && tk >= 0) least = fmin(least, ti + tk);
        }
    }
    return least;
}

/* At one place; 0 if nothing was measured there. */
static double traffic_time(const json *ceiling, enum place place, traffic x)
{
    static const struct {
        const char *loop;
        double read, write; /* parts of its bytes                           */
    } loops[] = {
        { "read", 1, 0 },
        { "copy", 0.5, 0.5 },
        { "triad", 2. / 3, 1. / 3 },
        { "write", 0, 1 },
    };
    const json *rates = json_get(json_get(ceiling, "bandwidth_bytes_per_s"),
                                 place_names[place]);
    traffic rate[4];
    int n = 0;
    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
        const double all = json_number(json_get(rates, loops[i].loop), 0);
        if (all > 0)
            rate[n++] = (traffic){ all * loops[i].read, all * loops[i].write };
    }
    const double time = least_time(rate, n, x);
    return isfinite(time) ? time : 0;
}

/* Operations a second of one level; 0: unknown, as all but FMA and exp are in
 * journals of earlier versions. */
typedef struct rates {
    double multiply; /* multiply-adds, or multiplications                   */
    double add, vector, div, exp;
    double fma_operations, exp_mul_adds;
} rates;

static rates rates_of(const json *ceiling)
{
    const double fma = json_number(json_get(ceiling, "fma_flop_per_s"), 0) / 2;
    const double add = json_number(json_get(ceiling, "add_per_s"), 0);
    return (rates){
        .multiply = fmax(fma, json_number(json_get(ceiling, "mul_per_s"), 0)),
        .add = add,
        .vector = fmax(add, json_number(json_get(ceiling, "vector_per_s"), 0)),
        .div = json_number(json_get(ceiling, "div_per_s"), 0),
        .exp = json_number(json_get(ceiling, "exp_per_s"), 0),
        .fma_operations =
            json_number(json_get(ceiling, "fma_operations"), 1),
        .exp_mul_adds = json_number(json_get(ceiling, "exp_mul_adds"), 0),
    };
}

static double over(double work, double rate)
{
    return rate > 0 ? work / rate : 0;
}

enum bound { BOUND_FMA, BOUND_ADD, BOUND_VECTOR, BOUND_EXP, BOUND_DIV, UNITS };
static const char *const unit_names[UNITS] = { "fma", "add", "vector", "exp",
                                               "div" };

/* Seconds that each unit needs at least.  Multiply-adds and multiplications share
 * one, also those that exponentials are made of; additions may have another
 * beside it; all of them together are started at a limited rate.  `p` is what
 * the products run at: the level of a BLAS, or r. */
static void unit_times(const att_cost *c, const rates *r, const rates *p,
                       double time[UNITS])
{
    const double inner = c->exp * r->exp_mul_adds;
    time[BOUND_FMA] =
        over(c->mul_add, p->multiply) + over(c->mul + inner, r->multiply);
    time[BOUND_ADD] =
        over(c->add + (r->fma_operations - 1) * inner, r->add) +
        over((p->fma_operations - 1) * c->mul_add, p->add);
    time[BOUND_VECTOR] =
        over(c->add + c->mul + r->fma_operations * inner, r->vector) +
        over(p->fma_operations * c->mul_add, p->vector);
    time[BOUND_EXP] = over(c->exp, r->exp);
    time[BOUND_DIV] = over(c->div, r->div);
}

/* The part of a working set that cannot stay in nearer caches, however they choose
 * what to keep. */
static double beyond(const json *roofline, const roofline_case *x,
                     enum place place)
{
    double nearer = 0;
    for (int i = L1; i < (int)place; i++)
        nearer += capacity(roofline, x->threads, (enum place)i);
    if (place == L1) return 1;
    return x->working_set > nearer ? 1 - nearer / x->working_set : 0;
}

bool roofline_place(const json *roofline, const roofline_case *x,
                    roofline_point *out)
{
    const json *own = ceiling(roofline, x->level, x->threads);
    const json *products = ceiling(roofline, x->products, x->threads);
    const rates r = rates_of(own), p = rates_of(products);
    const att_cost *c = &x->cost;
    double time[UNITS + PLACES];
    if (!(r.multiply > 0) || !(p.multiply > 0) || !(x->seconds > 0)) return false;

    unit_times(c, &r, &p, time);
    for (int i = L1; i < PLACES; i++) {
        const double part = beyond(roofline, x, (enum place)i);
        const traffic t = { c->read * part, c->write * part };
        time[UNITS + i] = fmin(traffic_time(own, (enum place)i, t),
                               traffic_time(products, (enum place)i, t));
    }
    int most = 0;
    for (int i = 1; i < UNITS + PLACES; i++)
        if (time[i] > time[most]) most = i;
    *out = (roofline_point){
        .bound = most < UNITS ? unit_names[most] : place_names[most - UNITS],
        .peak = json_number(json_get(products, "fma_flop_per_s"), 0),
        .attainable = time[most] > 0 ? att_flops(c) / time[most] : 0,
        .fraction = time[most] / x->seconds,
    };
    return true;
}
