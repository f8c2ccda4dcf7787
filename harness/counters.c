/* counters.c - which events are counted, in which passes, added up how.
 *
 * A processor counts a few events at a time.  Kernels are deterministic, so the
 * call is repeated, once per group of events that fit together, rather than
 * switching events during one call and extrapolating.  Who asks for that gets
 * it, in a pass of its own, long enough for every event to have its turns.
 */
#include "counters.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "counters_sources.h"

enum role_index {
#define ROLE(name, meaning) ROLE_##name,
#define EVENT(role, where, event, note)
#include "counters.txt"
#undef ROLE
#undef EVENT
    ROLES
};

static const struct role {
    const char *name, *meaning;
} roles[ROLES] = {
#define ROLE(name, meaning) { #name, meaning },
#define EVENT(role, where, event, note)
#include "counters.txt"
#undef ROLE
#undef EVENT
};

typedef struct candidate {
    enum role_index role;
    const char *where, *event, *note;
} candidate;

static const candidate candidates[] = {
#define ROLE(name, meaning)
#define EVENT(role, where, event, note) { ROLE_##role, where, event, note },
#include "counters.txt"
#undef ROLE
#undef EVENT
};
enum { CANDIDATES = sizeof candidates / sizeof *candidates };

const counter_source *counter_source_of(const char *event)
{
    if (!strncmp(event, "sde:::", 6)) return &counter_papi_sde;
    if (strncmp(event, "perf:", 5)) return &counter_papi_hw;
    return counter_perf_is_software(event) ? &counter_perf_sw
                                           : &counter_perf_hw;
}

/* ---- choosing events ----------------------------------------------------- */

enum { TERMS = 4, EVENT_TEXT = 160 };

/* One event of a sum. */
typedef struct term {
    const counter_source *source;
    char event[EVENT_TEXT];
    double factor;
    int pass, calls;  /* value is of so many calls                           */
    bool estimate;    /* multiplexed                                         */
    int threads;      /* entries of value; 0: not counted, see why            */
    long long *value; /* by thread                                           */
    char why[COUNTER_WHY];
} term;

typedef struct counter {
    const candidate *chosen; /* NULL: nothing counts this role here          */
    int terms;
    term term[TERMS];
    char why[COUNTER_WHY], remedy[COUNTER_WHY];
} counter;

typedef struct counters {
    counter of[ROLES];
} counters;

/* "A + 4*B" into terms; the table is ours, so it fits. */
static int parse(const char *text, term *out)
{
    int n = 0;
    while (n < TERMS) {
        const size_t length = strcspn(text, "+");
        char piece[EVENT_TEXT];
        snprintf(piece, sizeof piece, "%.*s", (int)length, text);
        out[n] = (term){ .factor = 1 };
        char *name = piece, *star = strchr(piece, '*');
        if (star) {
            out[n].factor = strtod(piece, NULL);
            name = star + 1;
        }
        sscanf(name, "%159s", out[n].event); /* without blanks */
        out[n].source = counter_source_of(out[n].event);
        n++;
        if (!text[length]) break;
        text += length + 1;
    }
    return n;
}

/* Whether these events count together: opened, started and stopped once. */
static bool fits(const counter_source *s, const char *const *event, int n,
                 bool multiplexed, char why[COUNTER_WHY])
{
    long long value[COUNTER_GROUP];
    void *group = s->open(event, n, multiplexed, why);
    const bool good = group && s->start(group, why) == 0 &&
                      s->stop(group, value, why) == 0;
    s->close(group);
    return good;
}

/* Of a role that has no event, the first one's reason is kept. */
static void choose(counter *c, const candidate *from)
{
    char why[COUNTER_WHY];
    c->terms = parse(from->event, c->term);
    for (int t = 0; t < c->terms; t++) {
        const char *event = c->term[t].event;
        if (fits(c->term[t].source, &event, 1, false, why)) continue;
        if (!*c->why) memcpy(c->why, why, sizeof why);
        return;
    }
    c->chosen = from;
}

static const char other_papi[] =
    "install the libpapi that attnbench was built with, or build it again";

/* Says of the hardware roles that found no event what is missing: the PMU, a
 * PAPI that works, one that knows the processor, or just this event. */
static void explain_hardware(counters *all)
{
    char why[COUNTER_WHY], remedy[COUNTER_WHY];
    bool any = false, papi = false;
    for (int r = 0; r < ROLES; r++) {
        const counter *c = &all->of[r];
        if (!c->chosen) continue;
        any |= c->term[0].source->hardware;
        papi |= c->term[0].source == &counter_papi_hw;
    }
    const bool no_pmu = !any && counter_perf_no_pmu(why, remedy);
    const bool up = no_pmu || counter_papi_up(why);
    if (!up) snprintf(remedy, sizeof remedy, "%s", other_papi);
    for (int r = 0; r < ROLES; r++) {
        counter *c = &all->of[r];
        if (c->chosen || !c->term[0].source->hardware) continue;
        if (papi) {
            snprintf(why, sizeof why,
                     "%.180s; no other event for it is known here", c->why);
            snprintf(remedy, sizeof remedy, "add one to harness/counters.txt");
        } else if (!no_pmu && up) {
            snprintf(why, sizeof why,
                     "PAPI %s does not know this processor, and the kernel has "
                     "no event for it",
                     counter_papi_version());
            snprintf(remedy, sizeof remedy, "build with a newer PAPI");
        }
        memcpy(c->why, why, sizeof why);
        memcpy(c->remedy, remedy, sizeof remedy);
    }
}

/* Takes the first event of every role that this machine counts. */
static counters *choose_all(void)
{
    counters *all = calloc(1, sizeof *all);
    if (!all) abort();
    for (int i = 0; i < CANDIDATES; i++) {
        counter *c = &all->of[candidates[i].role];
        if (!c->chosen) choose(c, &candidates[i]);
    }
    explain_hardware(all);
    for (int r = 0; r < ROLES; r++) {
        counter *c = &all->of[r];
        if (c->chosen || c->term[0].source != &counter_papi_sde) continue;
        snprintf(c->remedy, sizeof c->remedy, "%s", other_papi);
    }
    return all;
}

/* ---- passes -------------------------------------------------------------- */

/* What one thread holds of a packet. */
typedef struct seat {
    void *group;
    bool started;
    long long value[COUNTER_GROUP];
    char why[COUNTER_WHY];
} seat;

/* Terms of one source that are counted in the same pass. */
typedef struct packet {
    const counter_source *source;
    int pass, n;
    bool multiplexed;
    term *term[COUNTER_GROUP];
    seat *seat; /* by thread                                               */
} packet;

enum { PACKETS = 2 * ROLES * TERMS }; /* each term may be tried twice        */

typedef struct schedule {
    int packets, passes, threads;
    packet packet[PACKETS];
    pid_t *tid; /* of the team that was started                             */
} schedule;

static packet *packet_new(schedule *s, const counter_source *source, int pass,
                          bool multiplexed)
{
    packet *p = &s->packet[s->packets++];
    *p = (packet){ .source = source,
                   .pass = pass,
                   .multiplexed = multiplexed };
    if (pass >= s->passes) s->passes = pass + 1;
    return p;
}

static bool fits_too(const packet *p, const term *t)
{
    const char *event[COUNTER_GROUP];
    char why[COUNTER_WHY];
    if (p->n == COUNTER_GROUP) return false;
    for (int i = 0; i < p->n; i++) event[i] = p->term[i]->event;
    event[p->n] = t->event;
    return p->n == 0 ||
           fits(p->source, event, p->n + 1, p->multiplexed, why);
}

/* Packs the terms of a source into as few passes as a first fit in order finds.
 * Sources that share the PMU must not share a pass; a multiplexed packet shares
 * its pass with no other, since it is of several calls. */
static void pack(schedule *s, counters *all, const counter_source *source,
                 bool multiplex)
{
    const bool multiplexed = multiplex && source->multiplexes;
    packet *open = NULL;
    int pass = multiplexed ? s->passes : 0;
    for (int i = 0; i < s->packets && !multiplexed; i++)
        if (source->hardware && s->packet[i].source->hardware)
            pass = s->packet[i].pass + 1;
    for (int r = 0; r < ROLES; r++) {
        counter *c = &all->of[r];
        for (int t = 0; c->chosen && t < c->terms; t++) {
            if (c->term[t].source != source) continue;
            if (!open || !fits_too(open, &c->term[t]))
                open = packet_new(s, source, open ? ++pass : pass,
                                  multiplexed);
            open->term[open->n++] = &c->term[t];
        }
    }
}

static bool takes_part(const packet *p, int pass, int thread)
{
    return p->pass == pass && (p->source->per_thread || thread == 0);
}

static void open_seats(schedule *s, int pass, int thread)
{
    s->tid[thread] = (pid_t)syscall(SYS_gettid);
    for (int i = 0; i < s->packets; i++) {
        packet *p = &s->packet[i];
        if (!takes_part(p, pass, thread)) continue;
        const char *event[COUNTER_GROUP];
        for (int t = 0; t < p->n; t++) event[t] = p->term[t]->event;
        seat *x = &p->seat[thread];
        x->group = p->source->open(event, p->n, p->multiplexed, x->why);
    }
}

/* The PMU is started last and stopped first, so that it counts nothing of the
 * other sources. */
static void start_seats(schedule *s, int pass, int thread)
{
    for (int i = 0; i < s->packets; i++) {
        packet *p = &s->packet[i];
        if (!takes_part(p, pass, thread)) continue;
        seat *x = &p->seat[thread];
        x->started = x->group && p->source->start(x->group, x->why) == 0;
    }
}

static void stop_seats(schedule *s, int pass, int thread)
{
    for (int i = s->packets - 1; i >= 0; i--) {
        packet *p = &s->packet[i];
        if (!takes_part(p, pass, thread)) continue;
        seat *x = &p->seat[thread];
        if (x->started && p->source->stop(x->group, x->value, x->why) < 0)
            x->started = false;
        p->source->close(x->group);
        if (s->tid[thread] == (pid_t)syscall(SYS_gettid)) continue;
        x->started = false;
        snprintf(x->why, sizeof x->why,
                 "the OpenMP team changed while it was counted");
    }
}

/* Moves the seats' values into the terms; false if a thread failed. */
static bool collect(const schedule *s, packet *p, int calls)
{
    const int threads = p->source->per_thread ? s->threads : 1;
    for (int i = 0; i < threads; i++) {
        if (p->seat[i].started) continue;
        for (int t = 0; t < p->n; t++)
            snprintf(p->term[t]->why, COUNTER_WHY, "thread %d: %.200s", i,
                     p->seat[i].why);
        return false;
    }
    for (int t = 0; t < p->n; t++) {
        p->term[t]->value = malloc((size_t)threads * sizeof(long long));
        if (!p->term[t]->value) abort();
        for (int i = 0; i < threads; i++)
            p->term[t]->value[i] = p->seat[i].value[t];
        p->term[t]->threads = threads;
        p->term[t]->pass = p->pass;
        p->term[t]->calls = calls;
        p->term[t]->estimate = p->multiplexed;
    }
    return true;
}

/* Linux gives the counters to other events once per tick, 1 to 10 ms. */
#define MULTIPLEX_SECONDS 0.25

/* One call of the job, or as many as multiplexed events need; how many. */
static int call_job(const counters_job *job, bool multiplexed)
{
    const double end = omp_get_wtime() + MULTIPLEX_SECONDS;
    int calls = 0;
    do {
        job->run(job->arg);
        calls++;
    } while (multiplexed && omp_get_wtime() < end);
    counter_papi_publish(job->cost, job->workspace);
    return calls;
}

/* The job with every packet of the pass counting. */
static void run_pass(schedule *s, int pass, const counters_job *job)
{
    bool multiplexed = false;
    for (int i = 0; i < s->packets; i++) {
        if (s->packet[i].pass != pass) continue;
        multiplexed |= s->packet[i].multiplexed;
        s->packet[i].seat = calloc((size_t)job->threads, sizeof(seat));
        if (!s->packet[i].seat) abort();
    }
    if (job->before) job->before(job->before_arg);
    #pragma omp parallel num_threads(job->threads)
    {
        #pragma omp single
        s->threads = omp_get_num_threads();
        open_seats(s, pass, omp_get_thread_num());
        #pragma omp barrier
        start_seats(s, pass, omp_get_thread_num());
    }
    const int calls = call_job(job, multiplexed);
    #pragma omp parallel num_threads(s->threads)
    stop_seats(s, pass, omp_get_thread_num());

    const int packets = s->packets;
    for (int i = 0; i < packets; i++) {
        packet *p = &s->packet[i];
        if (p->pass != pass) continue;
        /* Together they failed: each gets a pass of its own. */
        if (!collect(s, p, calls) && (p->n > 1 || p->multiplexed))
            for (int t = 0; t < p->n; t++) {
                packet *single = packet_new(s, p->source, s->passes, false);
                single->term[single->n++] = p->term[t];
            }
        free(p->seat);
        p->seat = NULL;
    }
}

/* ---- results ------------------------------------------------------------- */

/* Of one call. */
static double total_of(const counter *c, int thread)
{
    double sum = 0;
    for (int t = 0; t < c->terms; t++)
        sum += c->term[t].factor * (double)c->term[t].value[thread] /
               c->term[t].calls;
    return sum;
}

/* Calls that the terms were counted in. */
static int passes_of(const counter *c)
{
    int passes = 0;
    for (int t = 0; t < c->terms; t++) {
        bool seen = false;
        for (int u = 0; u < t; u++) seen |= c->term[u].pass == c->term[t].pass;
        if (!seen) passes += c->term[t].calls;
    }
    return passes;
}

static bool is_estimate(const counter *c)
{
    for (int t = 0; t < c->terms; t++)
        if (c->term[t].estimate) return true;
    return false;
}

static json *missing(const char *why)
{
    json *j = json_object();
    json_put_null(j, "value");
    json_put_text(j, "reason", why);
    return j;
}

static json *result(const counter *c)
{
    if (!c->chosen) return missing(c->why);
    for (int t = 0; t < c->terms; t++)
        if (!c->term[t].threads) return missing(c->term[t].why);

    const term *first = &c->term[0];
    double sum = 0, min = total_of(c, 0), max = min;
    for (int i = 0; i < first->threads; i++) {
        const double x = total_of(c, i);
        sum += x;
        if (x < min) min = x;
        if (x > max) max = x;
    }
    json *j = json_object();
    json_put_number(j, "value", sum);
    json_put_text(j, "source", first->source->name);
    json_put_text(j, "scope",
                  first->source->per_thread ? "thread-sum" : "process");
    json_put_number(j, "passes", passes_of(c));
    json_put_text(j, "event", c->chosen->event);
    if (is_estimate(c)) json_put_bool(j, "estimate", true);
    if (first->threads > 1) {
        json_put_number(j, "min", min);
        json_put_number(j, "max", max);
        json_put_number(j, "imbalance",
                        sum > 0 ? max * first->threads / sum : 1);
    }
    return j;
}

json *counters_measure(const counters_job *job)
{
    counters *all = choose_all();
    schedule *s = calloc(1, sizeof *s);
    json *j = json_object();
    if (!s) abort();
    s->tid = calloc((size_t)job->threads, sizeof *s->tid);
    if (!s->tid) abort();
    omp_set_dynamic(0);

    pack(s, all, &counter_papi_sde, false);
    pack(s, all, &counter_perf_sw, false);
    pack(s, all, &counter_papi_hw, job->multiplex);
    pack(s, all, &counter_perf_hw, false);
    for (int pass = 0; pass < s->passes; pass++) run_pass(s, pass, job);

    for (int r = 0; r < ROLES; r++) {
        counter *c = &all->of[r];
        json_put(j, roles[r].name, result(c));
        for (int t = 0; t < c->terms; t++) free(c->term[t].value);
    }
    free(s->tid);
    free(s);
    free(all);
    return j;
}

static void describe_events(json *j, int role)
{
    json *list = json_array();
    for (int i = 0; i < CANDIDATES; i++) {
        if ((int)candidates[i].role != role) continue;
        json *event = json_object();
        json_put_text(event, "event", candidates[i].event);
        json_put_text(event, "where", candidates[i].where);
        json_push(list, event);
    }
    json_put(j, "candidates", list);
}

json *counters_describe(void)
{
    counters *all = choose_all();
    json *list = json_array();
    for (int r = 0; r < ROLES; r++) {
        const counter *c = &all->of[r];
        const candidate *e = c->chosen;
        json *j = json_object();
        json_put_text(j, "name", roles[r].name);
        json_put_text(j, "meaning", roles[r].meaning);
        json_put_text(j, "event", e ? e->event : NULL);
        json_put_text(j, "source", e ? c->term[0].source->name : NULL);
        json_put_bool(j, "available", e != NULL);
        json_put_text(j, "note", e && *e->note ? e->note : NULL);
        json_put_text(j, "reason", e ? NULL : c->why);
        json_put_text(j, "remedy", e || !*c->remedy ? NULL : c->remedy);
        describe_events(j, r);
        json_push(list, j);
    }
    free(all);
    return list;
}
