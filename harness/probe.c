/* probe.c - see probe.h. */
#define _GNU_SOURCE
#include "probe.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "machine.h"
#include "measure.h"
#include "peak.h"

/* Of the pieces of one look, the best counts: an interrupt falls on one of them,
 * a neighbour on all.  One more goes before: wide vector units that the kernel did
 * not fill take some 20 us to come to speed. */
#define PIECE_SECONDS 12e-6
enum { PIECES = 3, PIECES_OF_TWO = 2 };

struct core_probe {
    enum probe_kind kind;
    enum att_level level;
    peak_loop *loop;
    int threads, arrays;
    size_t length;  /* floats of an array and thread                         */
    size_t part;    /* floats that one call works on                         */
    int calls;      /* in a piece                                            */
    size_t at;      /* where the next call goes on, in all threads           */
    char *block;
    bool lent;            /* the block is another probe's                    */
    core_probe *second;   /* of PROBE_CORE                                   */
    size_t bytes, stride; /* bytes in all; from array to array               */
};

static const char *const words[PROBE_KINDS] = { "tile", "exp", "core",
                                                "L2", "L3", "memory" };

const char *probe_word(enum probe_kind kind)
{
    return words[kind];
}

const char *probe_name(const core_probe *p)
{
    return words[p->kind];
}

enum probe_kind probe_for(const char *bound)
{
    for (int kind = PROBE_L2; kind < PROBE_KINDS; kind++)
        if (!strcmp(bound, words[kind])) return (enum probe_kind)kind;
    return PROBE_CORE;
}

/* Bytes of one thread.  Of a private cache so little that the kernel's data in
 * it stay; of the shared one more than the private ones hold; of memory more than
 * any cache holds. */
static size_t footprint(enum probe_kind kind, int threads)
{
    enum { MOST = 256 << 20 };
    const size_t l1 = machine_cache(1), l2 = machine_cache(2);
    const size_t l3 = machine_cache(3), last = l3 ? l3 : l2;
    switch (kind) {
    case PROBE_TILE: return 16 << 10;
    case PROBE_EXP:
    case PROBE_CORE: return 4 << 10;
    case PROBE_L2: return l2 < 8 * l1 ? l2 / 2 : 4 * l1;
    case PROBE_L3: return l3 < 4 * l2 * (size_t)threads ? 0 : 4 * l2;
    default: return (2 * last < MOST ? 2 * last : MOST) / (size_t)threads;
    }
}

/* What one piece does, and its seconds; moves on. */
static double piece(const core_probe *p, int thread, size_t *at, double *seconds)
{
    char *base = p->block + (size_t)(thread * p->arrays) * p->stride;
    const double start = measure_now();
    double done = 0;
    for (int i = 0; i < p->calls; i++) {
        float *array[PEAK_ARRAYS] = { 0 };
        for (int a = 0; a < p->arrays; a++)
            array[a] = (float *)(void *)(base + (size_t)a * p->stride) + *at;
        done += p->loop(array, p->part, 1);
        *at += p->part;
        if (*at + p->part > p->length) *at = 0;
    }
    *seconds = measure_now() - start;
    return done;
}

/* Threads begin together: on two hardware threads of a core they are in each
 * other's way, as the kernel's are. */
static double rate_of(core_probe *p, int pieces)
{
    double slowest = INFINITY;
    #pragma omp parallel num_threads(p->threads) reduction(min : slowest)
    {
        const int thread = omp_get_thread_num();
        size_t at = p->at;
        double best = 0, seconds;
        #pragma omp barrier
        piece(p, thread, &at, &seconds); /* wakes wide units, fills caches */
        for (int i = 0; i < pieces; i++) {
            const double done = piece(p, thread, &at, &seconds);
            best = fmax(best, done / seconds);
        }
        slowest = best;
        if (thread == 0) p->at = at;
    }
    return slowest;
}

double probe_rate(core_probe *p)
{
    if (!p->second) return rate_of(p, PIECES);
    return sqrt(rate_of(p, PIECES_OF_TWO) * rate_of(p->second, PIECES_OF_TWO));
}

/* ---- making -------------------------------------------------------------- */

static void choose_loop(core_probe *p, enum probe_kind kind, const peak *level)
{
    const bool exp = kind == PROBE_EXP || kind == PROBE_CORE;
    p->loop = kind == PROBE_TILE ? level->tile
              : exp              ? level->exponential
                                 : level->read;
    p->arrays = kind == PROBE_TILE ? 3 : exp ? 2 : 1;
}

/* How many calls fill a piece: of the fastest that was seen. */
static void calibrate(core_probe *p)
{
    enum { TRIES = 20 };
    double fastest = INFINITY, seconds;
    size_t at = 0;
    p->calls = 1;
    for (int i = 0; i < TRIES; i++) {
        piece(p, 0, &at, &seconds);
        fastest = fmin(fastest, seconds);
    }
    p->calls = (int)fmax(1, round(PIECE_SECONDS / fmax(fastest, 1e-8)));
}

static bool make_block(core_probe *p, const core_probe *lender)
{
    enum { PAGE = 4096, HUGE_PAGE = 2 << 20 };
    p->bytes = (size_t)(p->threads * p->arrays) * p->stride + PAGE;
    p->lent = lender && lender->bytes >= p->bytes;
    if (p->lent) p->block = lender->block;
    if (p->lent) return true;
    p->block = mmap(NULL, p->bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->block == MAP_FAILED) return false;
    if (p->bytes >= HUGE_PAGE) madvise(p->block, p->bytes, MADV_HUGEPAGE);
    float *x = (float *)(void *)p->block;
    #pragma omp parallel for num_threads(p->threads) schedule(static)
    for (size_t i = 0; i < p->bytes / sizeof *x; i++) x[i] = 1;
    return true;
}

static core_probe *make(enum probe_kind kind, enum att_level level, int threads,
                        const core_probe *lender)
{
    enum { PART = 4096 };
    const peak *loops = peak_of(level);
    const size_t bytes = footprint(kind, threads);
    core_probe *p = loops && bytes ? calloc(1, sizeof *p) : NULL;
    if (!p) return NULL;
    choose_loop(p, kind, loops);
    p->kind = kind;
    p->level = level;
    p->threads = threads;
    p->length = bytes / sizeof(float);
    p->part = p->length < PART ? p->length : PART;
    p->stride = bytes + 256;
    if (!make_block(p, lender)) {
        free(p);
        return NULL;
    }
    calibrate(p);
    if (kind == PROBE_CORE) p->second = make(PROBE_L2, level, threads, NULL);
    return p;
}

core_probe *probe_make(enum probe_kind kind, enum att_level level, int threads)
{
    return make(kind, level, threads, NULL);
}

void probe_free(core_probe *p)
{
    if (!p) return;
    if (!p->lent) munmap(p->block, p->bytes);
    probe_free(p->second);
    free(p);
}

/* ---- calibration --------------------------------------------------------- */

/* Several looks in a row: wide vector units that were idle are slow at first, and
 * beside a sample the kernel has just used them. */
enum { AT_ONCE = 16, LOOKS = 75 * AT_ONCE };

typedef struct bench_item {
    core_probe *probe;
    double rate[LOOKS];
} bench_item;

struct probe_bench {
    bench_item *item;
    int count, looks;
};

/* Memory is large: the probe that came first lends its data to the later ones,
 * which look elsewhere in it than the one before has just done. */
static void add(probe_bench *b, enum probe_kind kind, enum att_level level,
                int threads)
{
    const core_probe *lender = NULL;
    for (int i = 0; i < b->count && !lender; i++)
        if (kind == PROBE_MEMORY && b->item[i].probe->kind == kind)
            lender = b->item[i].probe;
    core_probe *p = make(kind, level, threads, lender);
    if (!p) return;
    p->at = p->length / 7 * (size_t)(b->count % 7) / p->part * p->part;
    b->item[b->count++].probe = p;
}

probe_bench *probe_bench_make(const int *threads, int count)
{
    probe_bench *b = calloc(1, sizeof *b);
    if (!b) abort();
    b->item = calloc((size_t)count * ATT_LEVELS * PROBE_KINDS + 1,
                     sizeof *b->item);
    if (!b->item) abort();
    for (int t = count - 1; t >= 0; t--) /* ascending: the most threads first */
        for (int level = 0; level < ATT_LEVELS; level++)
            for (int kind = PROBE_CORE; kind < PROBE_KINDS; kind++)
                add(b, (enum probe_kind)kind, (enum att_level)level, threads[t]);
    return b;
}

void probe_bench_round(probe_bench *b)
{
    if (b->looks + AT_ONCE > LOOKS) return;
    for (int i = 0; i < b->count; i++)
        for (int k = 0; k < AT_ONCE; k++)
            b->item[i].rate[b->looks + k] = probe_rate(b->item[i].probe);
    b->looks += AT_ONCE;
}

static int ascending(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* A neighbour makes looks slow, nothing makes them fast but a boost of the clock
 * that does not last. */
static double best_of(const double *rate, int looks)
{
    double x[LOOKS];
    memcpy(x, rate, (size_t)looks * sizeof *x);
    qsort(x, (size_t)looks, sizeof *x, ascending);
    return looks ? x[(9 * (looks - 1) + 5) / 10] : NAN;
}

bool probe_bench_scales(const probe_bench *b, int cores)
{
    for (int i = 0; i < b->count; i++)
        for (int k = 0; k < b->count; k++) {
            const core_probe *p = b->item[i].probe, *one = b->item[k].probe;
            if (p->threads > 1 && p->threads <= cores && one->threads == 1 &&
                p->kind == PROBE_CORE && one->kind == p->kind &&
                one->level == p->level &&
                best_of(b->item[i].rate, b->looks) <
                    0.9 * best_of(b->item[k].rate, b->looks))
                return false;
        }
    return true;
}

double probe_best(core_probe *p)
{
    double rate[LOOKS];
    for (int i = 0; i < LOOKS; i++) rate[i] = probe_rate(p);
    return best_of(rate, LOOKS);
}

json *probe_bench_rates(const probe_bench *b, enum att_level level,
                        int threads)
{
    json *j = json_object();
    for (int i = 0; i < b->count; i++) {
        const core_probe *p = b->item[i].probe;
        if (p->level == level && p->threads == threads)
            json_put_number(j, words[p->kind], best_of(b->item[i].rate, b->looks));
    }
    return j;
}

void probe_bench_free(probe_bench *b)
{
    for (int i = b->count - 1; i >= 0; i--) probe_free(b->item[i].probe);
    free(b->item);
    free(b);
}
