#include "shrink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stop.h"

typedef struct search {
    drawn *d; /* the smallest so far                                         */
    shrink_test *fails;
    void *arg;
    int tests; /* left                                                       */
    double end;
} search;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool same(const drawn *a, const drawn *b)
{
    return a->grad == b->grad && a->threads == b->threads &&
           !memcmp(a->kind, b->kind, sizeof a->kind) &&
           !memcmp(&a->problem, &b->problem, sizeof a->problem);
}

/* Takes the candidate if it is defined, another problem and still fails. */
static bool take(search *s, drawn x)
{
    if (s->tests <= 0 || now() > s->end || stop_signal) return false;
    if (att_reject(x.mechanism, &x.problem)) return false;
    att_canonical(x.mechanism, &x.problem);
    if (att_reject(x.mechanism, &x.problem) || same(&x, s->d)) return false;
    s->tests--;
    if (!s->fails(&x, s->arg)) return false;
    *s->d = x;
    return true;
}

static bool set(search *s, enum att_field f, const char *text)
{
    drawn x = *s->d;
    return att_set(&x.problem, f, text) && take(s, x);
}

/* ---- sizes -------------------------------------------------------------- */

/* Smaller numbers than n, the smallest first; their number. */
static int smaller(int n, int least, int out[12])
{
    const int some[] = { least,         least + 1,     n / 4,
                         n / 2,         n / 2 + 1,     n / 2 + n / 4,
                         n / 2 + n / 4 + 1, n - 3,     n - 2,
                         n - 1 };
    int count = 0;
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        if (some[i] >= least && some[i] < n &&
            (count == 0 || some[i] > out[count - 1]))
            out[count++] = some[i];
    return count;
}

static bool shrink_int(search *s, enum att_field f)
{
    char text[ATT_TEXT];
    int less[12];
    att_get(&s->d->problem, f, text);
    const int n = smaller(atoi(text), f == ATT_FIELD_seed, less);
    for (int i = 0; i < n; i++) {
        snprintf(text, sizeof text, "%d", less[i]);
        if (set(s, f, text)) return true;
    }
    return false;
}

/* Entries of a list in turn; then without its last. */
static bool shrink_list(search *s, enum att_field f, int least)
{
    char text[ATT_TEXT], now_is[ATT_TEXT];
    int v[ATT_AXES], n = 0, less[12];
    att_get(&s->d->problem, f, now_is);
    if (!strcmp(now_is, "none")) return false;
    for (char *at = now_is; n < ATT_AXES; at++) {
        v[n++] = (int)strtol(at, &at, 10);
        if (!*at) break;
    }
    for (int a = 0; a < n; a++) {
        const int was = v[a], count = smaller(was, least, less);
        for (int i = 0; i < count; i++) {
            size_t at = 0;
            v[a] = less[i];
            for (int b = 0; b < n; b++)
                at += (size_t)snprintf(text + at, sizeof text - at,
                                       b ? "x%d" : "%d", v[b]);
            if (set(s, f, text)) return true;
        }
        v[a] = was;
    }
    return false;
}

/* Every axis to its half, rounded up. */
static bool halve_grid(search *s)
{
    drawn x = *s->d;
    for (int a = 0; a < x.problem.grid.n; a++)
        x.problem.grid.v[a] = (x.problem.grid.v[a] + 1) / 2;
    return take(s, x);
}

static bool shrink_sizes(search *s)
{
    bool any = false;
    while (halve_grid(s)) any = true;
    while (shrink_list(s, ATT_FIELD_grid, 1)) any = true;
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        if (!att_uses(s->d->mechanism, f) || f == ATT_FIELD_grid ||
            att_is_default(&s->d->problem, f))
            if (f != ATT_FIELD_head_dim) continue;
        if (att_fields[f].kind == ATT_INT)
            while (shrink_int(s, f)) any = true;
        if (att_fields[f].kind == ATT_LIST)
            while (shrink_list(s, f, 0)) any = true;
    }
    return any;
}

/* ---- everything else ---------------------------------------------------- */

static bool shrink_call(search *s)
{
    bool any = false;
    drawn x = *s->d;
    x.grad = false;
    any |= take(s, x);
    for (int less[12], i = 0, n = smaller(s->d->threads, 1, less); i < n; i++) {
        x = *s->d;
        x.threads = less[i];
        if (!take(s, x)) continue;
        any = true;
        break;
    }
    any |= set(s, ATT_FIELD_dtype, "f32");
    any |= set(s, ATT_FIELD_batch, "1");
    any |= set(s, ATT_FIELD_heads, "1");
    return any;
}

static bool shrink_options(search *s)
{
    bool any = false;
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        char text[ATT_TEXT];
        if (f == ATT_FIELD_grid || f == ATT_FIELD_head_dim ||
            att_is_default(&s->d->problem, f))
            continue;
        att_get(&att_problem_default, f, text);
        any |= set(s, f, text);
    }
    return any;
}

static bool shrink_values(search *s)
{
    static const enum inputs_family simple[] = { INPUTS_ZERO, INPUTS_EQUAL,
                                                 INPUTS_NORMAL };
    enum { SIMPLE = sizeof simple / sizeof *simple };
    bool any = false;
    for (int i = 0; i < DRAW_TENSORS; i++)
        for (int k = 0; k < SIMPLE && s->d->kind[i] != simple[k]; k++) {
            drawn x = *s->d;
            x.kind[i] = simple[k];
            if (!take(s, x)) continue;
            any = true;
            break;
        }
    return any;
}

void shrink(drawn *d, shrink_test *fails, void *arg, bool values, int tests,
            double seconds)
{
    search s = { .d = d,
                 .fails = fails,
                 .arg = arg,
                 .tests = tests,
                 .end = now() + seconds };
    for (bool any = true; any;) {
        any = shrink_call(&s);
        any |= shrink_sizes(&s);
        any |= shrink_options(&s);
        if (values) any |= shrink_values(&s);
    }
}
