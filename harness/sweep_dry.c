/* sweep_dry.c - `attnbench sweep --dry-run`: the cases of a sweep, unmeasured.
 *
 * Most kernels tell their memory and operations at once, some have to count
 * pairs.  A child process asks them all, the smallest problems first, and leaves
 * the answers in shared memory; what it has not answered in time is not told.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "commands.h"
#include "isolate.h"
#include "machine.h"
#include "measure.h"
#include "sweep_run.h"

#define SECONDS 1.5 /* for all answers together                             */

typedef struct answer {
    double bytes, flop; /* NaN: not known                                   */
    char status[16];    /* "": not asked yet                                */
    char reason[160];
} answer;

typedef struct question {
    const sweep_run *run;
    const sweep_case **order; /* smallest problems first                    */
    answer *answer;           /* of each case, shared                       */
    volatile int *next;       /* in `order`; shared                         */
    size_t max_memory;
} question;

/* ---- answers ------------------------------------------------------------- */

static void take(const json *described, answer *a)
{
    const json *bytes = json_get(described, "bytes");
    const char *reason = json_text(json_get(described, "reason"));
    a->bytes = json_number(json_get(bytes, "predicted"), NAN);
    a->flop = json_number(json_get(json_get(described, "flop"), "total"), NAN);
    snprintf(a->reason, sizeof a->reason, "%s", reason ? reason : "");
    snprintf(a->status, sizeof a->status, "%s",
             json_text(json_get(described, "status")));
}

static json *ask_all(void *arg)
{
    const question *q = arg;
    for (; *q->next < q->run->cases.count; ++*q->next) {
        const sweep_case *c = q->order[*q->next];
        sweep_job job = { .what = c,
                          .max_memory = q->max_memory,
                          .describe_only = true };
        json *described = sweep_case_run(&job);
        take(described, &q->answer[c - q->run->cases.of]);
        json_free(described);
    }
    return json_object();
}

static double pairs_of(const sweep_case *c)
{
    return (double)att_tokens(&c->problem) * (double)att_keys(&c->problem);
}

static int by_pairs(const void *a, const void *b)
{
    const sweep_case *const *x = a, *const *y = b;
    const double p = pairs_of(*x), q = pairs_of(*y);
    return p != q ? (p > q) - (p < q) : (*x > *y) - (*x < *y);
}

/* A kernel that dies of the question is one line; the next child goes on behind
 * it. */
static int ask(const question *q, error *e)
{
    const double end = measure_now() + SECONDS;
    while (*q->next < q->run->cases.count && measure_now() < end) {
        const isolate_limits limits = { .seconds = end - measure_now() };
        isolate_result result;
        if (isolate_run(ask_all, (void *)q, &limits, &result, e) < 0) return -1;
        json_free(result.value);
        if (!strcmp(result.status, "timeout")) break;
        if (*q->next == q->run->cases.count) break;
        answer *a =
            &q->answer[q->order[(*q->next)++] - q->run->cases.of];
        snprintf(a->status, sizeof a->status, "%s", result.status);
        snprintf(a->reason, sizeof a->reason, "%.159s", result.reason);
    }
    return 0;
}

/* ---- how long it takes --------------------------------------------------- */

/* Seconds of a case, all processes: samples, a process's start, its check.  Calls
 * longer than the samples' time count three times, as measure.h has it.  Rates
 * are those of a present core, within a few times. */
static double seconds_of(const sweep_case *c, const answer *a)
{
    const double rate = c->entry.kernel->plain ? 2e9 : 2e10;
    const double checks = 2e8, start = 0.015;
    const sweep_settings *s = &c->settings;
    if (*a->status && strcmp(a->status, "ok")) return 0;
    const double call = isfinite(a->flop) ? a->flop / rate : 0;
    const double samples =
        fmax(s->seconds, fmin(4 * call, 10 * s->seconds + call));
    const double check = fmin(s->check, isfinite(a->flop) ? a->flop : s->check);
    return s->processes * fmin(samples + start, s->timeout) + check / checks;
}

static void print_duration(double seconds)
{
    const double minutes = ceil(seconds / 60);
    if (seconds < 90) printf("%.0f s", ceil(seconds));
    else if (minutes < 90) printf("%.0f min", minutes);
    else printf("%.0f h %02.0f min", floor(minutes / 60), fmod(minutes, 60));
}

/* ---- the list ------------------------------------------------------------ */

static void print_number(double value)
{
    char text[24] = "-";
    int decimals = value > 0 ? 3 - (int)floor(log10(value)) : 0;
    if (decimals < 0) decimals = 0;
    if (decimals > 7) decimals = 7;
    if (isfinite(value)) snprintf(text, sizeof text, "%.*f", decimals, value);
    printf(" %12s", text);
}

static void print_all(const sweep_run *r, const answer *list)
{
    const int width = sweep_table_width(r->cases.of, r->cases.count);
    double seconds = 0;
    int processes = 0, uncounted = 0;
    printf("%-*s %12s %12s  %s\n", width, "case", "memory MiB", "GFLOP",
           "status");
    for (int i = 0; i < r->cases.count; i++) {
        const sweep_case *c = &r->cases.of[i];
        const answer *a = &list[i];
        printf("%-*s", width, c->name);
        print_number(*a->status ? a->bytes / 0x1p20 : NAN);
        print_number(*a->status ? a->flop * 1e-9 : NAN);
        printf("  %s%s%s\n", *a->status ? a->status : "not counted",
               *a->reason ? ": " : "", a->reason);
        seconds += seconds_of(c, a);
        processes += c->settings.processes;
        uncounted += !*a->status;
    }
    printf("%d case%s", r->cases.count, r->cases.count == 1 ? "" : "s");
    if (r->cases.count) {
        printf(", %d process%s: about ", processes, processes == 1 ? "" : "es");
        print_duration(seconds);
        printf(", if all samples are needed; less where they soon agree");
    }
    putchar('\n');
    if (uncounted)
        printf("%d case%s not counted, since that takes longer than %g s: fewer "
               "cases (--kernel, --seq) are\n", uncounted,
               uncounted == 1 ? " was" : "s were", SECONDS);
}

int sweep_dry_run(sweep_run *r)
{
    const size_t n = (size_t)r->cases.count;
    const size_t bytes = n * sizeof(answer) + sizeof(answer);
    const double limit = r->o->settings.max_memory;
    const sweep_case **order = malloc((n + 1) * sizeof *order);
    answer *list = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!order || list == MAP_FAILED) abort();
    for (size_t i = 0; i < n; i++) order[i] = &r->cases.of[i];
    qsort(order, n, sizeof *order, by_pairs);
    const question q = {
        .run = r,
        .order = order,
        .answer = list,
        .next = (volatile int *)&list[n],
        .max_memory =
            limit > 0 ? (size_t)limit : machine_memory_free() / 5 * 4,
    };
    const int rc = ask(&q, &r->o->error);
    if (rc == 0) print_all(r, list);
    munmap(list, bytes);
    free(order);
    return rc < 0 ? sweep_fail(r->o, EXIT_MISSING) : 0;
}
