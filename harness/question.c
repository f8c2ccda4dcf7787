/* question.c - the one list of what a row's question is. */
#include "question.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"

/* For which rows a setting matters. */
enum matters {
    ALWAYS,  /* what was measured, or failed in a way that it may change      */
    LARGER,  /* a case that met this limit, once the limit is larger          */
};

/* Where the value of a setting is from. */
enum from {
    CASE,        /* put by of_case() below                                    */
    MACHINE      /* a member of the env row, by path                          */
};

static const struct setting {
    const char *key; /* in `settings` */
    enum matters matters;
    const char *status; /* LARGER: of the rows that met the limit             */
    enum from from;
    const char *path[2];
} settings[] = {
    { "bind", ALWAYS, NULL, CASE, { NULL } },
    { "processes", ALWAYS, NULL, CASE, { NULL } },
    { "passes", ALWAYS, NULL, CASE, { NULL } },
    { "time", ALWAYS, NULL, CASE, { NULL } },
    { "ci", ALWAYS, NULL, CASE, { NULL } },
    { "check", ALWAYS, NULL, CASE, { NULL } },
    { "multiplex", ALWAYS, NULL, CASE, { NULL } },
    { "timeout", LARGER, "timeout", CASE, { NULL } },
    { "max_memory", LARGER, "oom", CASE, { NULL } },
    { "processors", ALWAYS, NULL, MACHINE, { "binding", "affinity" } },
    { "environment", ALWAYS, NULL, MACHINE, { "binding", NULL } },
    { "governor", ALWAYS, NULL, MACHINE, { "frequency", "governor" } },
    { "turbo", ALWAYS, NULL, MACHINE, { "turbo", NULL } },
    { "smt", ALWAYS, NULL, MACHINE, { "smt", NULL } },
    { "thp", ALWAYS, NULL, MACHINE, { "thp", NULL } },
    { "quota", ALWAYS, NULL, MACHINE, { "limits", "processors" } },
};
enum { SETTINGS = sizeof settings / sizeof *settings };

/* ---- making -------------------------------------------------------------- */

static void of_case(json *j, const sweep_case *c)
{
    const sweep_settings *s = &c->settings;
    json_put_text(j, "bind", bind_word(s->bind));
    json_put_number(j, "processes", s->processes);
    json_put_number(j, "passes",
                    s->passes < s->processes ? s->passes : s->processes);
    json_put_number(j, "time", s->seconds);
    json_put_bool(j, "time_shared", s->shared);
    json_put_number(j, "ci", s->ci);
    json_put_number(j, "check", s->check);
    json_put_bool(j, "multiplex", s->multiplex);
    json_put_number(j, "timeout", s->timeout);
    if (s->max_memory > 0) json_put_number(j, "max_memory", s->max_memory);
    else json_put_null(j, "max_memory");
}

/* Variables that are set; those that the program overrides are not here. */
static json *environment(const json *binding)
{
    json *j = json_object();
    for (const json *x = json_first(binding); x; x = json_next(x))
        if (strcmp(json_key(x), "affinity") && json_text(x))
            json_put_text(j, json_key(x), json_text(x));
    return j;
}

static void of_machine(json *j, const json *env)
{
    for (int i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        if (s->from != MACHINE) continue;
        const json *value = json_get(env, s->path[0]);
        if (!strcmp(s->key, "environment"))
            json_put(j, s->key, environment(value));
        else {
            if (s->path[1]) value = json_get(value, s->path[1]);
            json_put(j, s->key, value ? json_copy(value) : NULL);
        }
    }
}

json *question_settings(const sweep_case *c, const json *env)
{
    json *j = json_object();
    of_case(j, c);
    of_machine(j, env);
    return j;
}

/* ---- comparing ----------------------------------------------------------- */

static bool same(const json *a, const json *b)
{
    char *x = json_print(a, false), *y = json_print(b, false);
    const bool equal = !strcmp(x, y);
    free(x);
    free(y);
    return equal;
}

/* A share of a block's seconds is as long as the block has cases: that is not
 * chosen. */
static bool both_shared(const json *a, const json *b)
{
    return json_true(json_get(a, "time_shared")) &&
           json_true(json_get(b, "time_shared"));
}

static bool differs(const struct setting *s, const struct row *row, const json *had,
                    const json *asked)
{
    const json *a = json_get(had, s->key), *b = json_get(asked, s->key);
    if (s->matters == LARGER) /* none: what is free */
        return row_has(row->status, s->status) && json_is_number(b) &&
               json_number(b, 0) > json_number(a, 1e300);
    if (!strcmp(s->key, "time") && both_shared(had, asked)) return false;
    return !a || !b || !same(a, b);
}

static void tell(const struct setting *s, const json *had, const json *asked,
                 char *why, size_t size)
{
    const json *a = json_get(had, s->key), *b = json_get(asked, s->key);
    char *x = a ? json_print(a, false) : NULL, *y = json_print(b, false);
    snprintf(why, size, "%s %s, asked for %s", s->key, x ? x : "not recorded",
             y);
    free(x);
    free(y);
}

/* A case that this problem, or the memory, ruled out was not measured at all. */
static bool was_tried(const struct row *row)
{
    static const char *const others[] = { "unsupported", "memory", "timeout",
                                          "oom" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (row_has(row->status, others[i])) return false;
    return true;
}

static bool fits_now(const struct row *row, const json *asked, char *why, size_t size)
{
    const double limit = json_number(json_get(asked, "max_memory"), 0);
    if (!row_has(row->status, "memory") || !(limit >= row->bytes.predicted))
        return false;
    snprintf(why, size, "max_memory %.0f, which is enough for it", limit);
    return true;
}

bool question_answered(const struct row *row, const json *asked, char *why,
                       size_t size)
{
    const json *had = row->settings;
    const bool tried = was_tried(row);
    if (fits_now(row, asked, why, size)) return false;
    for (int i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        if ((s->matters == ALWAYS && !tried) || !differs(s, row, had, asked))
            continue;
        tell(s, had, asked, why, size);
        return false;
    }
    return true;
}

bool question_same_machine(const json *env, const json *other)
{
    json *a = json_object(), *b = json_object();
    of_machine(a, env);
    of_machine(b, other);
    const bool equal = same(a, b);
    json_free(a);
    json_free(b);
    return equal;
}
