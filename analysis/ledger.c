/* ledger.c - reads a ledger, and what its rules make of the quantities. */
#include "ledger_rule.h"
#include "ledger_take.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/embed.h"

EMBED(claims_json, "results/claims.json");

const char *const ledger_verdicts[] = { "reproduced", "differs",
                                        "unclear", "not reproduced",
                                        "not measured" };

/* ---- reading -------------------------------------------------------------- */

static bool is_name(const char *text)
{
    return *text && strlen(text) < LEDGER_NAME && text[strspn(text, "abcdefghijklmnopqrstuvwxyz"
                                      "0123456789_")] == 0;
}

/* Text of a member that must be there; NULL with e. */
static const char *need(const ledger *l, const json *from, const char *key,
                        const char *where, error *e)
{
    const char *text = json_text(json_get(from, key));
    if (!text)
        error_set(e, "%s: %s: \"%s\" must be there, a text", l->path, where,
                  key);
    return text;
}

/* A key that is not read would be an option that is ignored. */
static int known_keys(const ledger *l, const json *from, const char *where,
                      const char *const *keys, error *e)
{
    int n = 0;
    while (keys[n]) n++;
    for (const json *x = json_first(from); x; x = json_next(x)) {
        const char *key = json_key(x);
        int k = 0;
        while (key && k < n && strcmp(key, keys[k])) k++;
        if (key && k < n) continue;
        if (!key)
            return error_set(e, "%s: %s: is not an object", l->path, where);
        const char *near = error_nearest(key, keys, n);
        return error_set(e, "%s: %s: unknown key \"%s\"%s%s%s", l->path, where,
                         key, near ? "; did you mean \"" : "", near ? near : "",
                         near ? "\"?" : "");
    }
    return 0;
}
#define KNOWN(l, from, where, e, ...)                                          \
    known_keys(l, from, where, (const char *const[]){ __VA_ARGS__, NULL }, e)

static int read_words(const ledger *l, ledger_run *r, const json *list,
                      error *e)
{
    for (const json *w = json_first(list); w; w = json_next(w)) {
        if (!json_text(w) || r->words + 1 == LEDGER_WORDS)
            return error_set(e, "%s: run \"%s\": \"command\" must be at most "
                                "%d words", l->path, r->name,
                             LEDGER_WORDS - 1);
        r->word[r->words++] = json_text(w);
    }
    if (r->words) return 0;
    return error_set(e, "%s: run \"%s\": \"command\" must be a list of words, "
                        "without the program's name", l->path, r->name);
}

static int read_run(const ledger *l, ledger_run *r, const json *from, error *e)
{
    r->name = need(l, from, "name", "a run", e);
    if (!r->name || KNOWN(l, from, r->name, e, "name", "brief", "command",
                          "seconds", "ships"))
        return -1;
    if (!*r->name || strpbrk(r->name, "/ ") || ledger_find_run(l, r->name) != r)
        return error_set(e, "%s: run \"%s\": the name has '/' or a blank, or "
                            "is used twice", l->path, r->name);
    r->brief = json_text(json_get(from, "brief"));
    r->seconds = json_number(json_get(from, "seconds"), 5);
    r->ships = json_text(json_get(from, "ships"));
    return read_words(l, r, json_get(from, "command"), e);
}

static bool is_reduction(const char *text)
{
    return !strcmp(text, "mean") || !strcmp(text, "min") || !strcmp(text, "max") ||
           !strcmp(text, "median");
}

static int read_quantity(const ledger *l, const ledger_claim *c,
                         ledger_quantity *q, const json *from, error *e)
{
    q->name = need(l, from, "name", c->id, e);
    if (!q->name ||
        KNOWN(l, from, q->name, e, "name", "text", "unit", "how", "run", "file",
              "path", "reduce", "each", "scale", "turns", "rounds", "ratio",
              "difference", "paired", "list", "value", "exact", "bounds"))
        return -1;
    if (!is_name(q->name) || ledger_find(c, q->name) != q)
        return error_set(e, "%s: %s: quantity \"%s\": a name is up to %d "
                            "small letters, digits and _, and is used once",
                         l->path, c->id, q->name, LEDGER_NAME - 1);
    const json *bounds = json_get(from, "bounds");
    const char *reduce = json_text(json_get(from, "reduce"));
    if (bounds && (!json_is_array(bounds) || json_size(bounds) != 2))
        return error_set(e, "%s: %s: quantity \"%s\": \"bounds\" are two numbers, "
                            "or null", l->path, c->id, q->name);
    if (json_get(from, "reduce") && !(reduce && is_reduction(reduce)))
        return error_set(e, "%s: %s: quantity \"%s\": \"reduce\" is mean, min, max "
                            "or median", l->path, c->id, q->name);
    q->text = need(l, from, "text", q->name, e);
    q->unit = json_text(json_get(from, "unit"));
    q->how = json_text(json_get(from, "how"));
    q->source = from;
    return q->text ? 0 : -1;
}

static int read_rule(const ledger *l, const ledger_claim *c, ledger_rule *r,
                     const json *from, error *e)
{
    const json *least = json_get(from, "at_least");
    if (KNOWN(l, from, c->id, e, "if", "text", "else", "key", "at_least"))
        return -1;
    r->condition = need(l, from, "if", c->id, e);
    r->text = json_text(json_get(from, "text"));
    r->otherwise = r->condition ? need(l, from, "else", c->id, e) : NULL;
    const json *key = json_get(from, "key");
    r->key = json_true(key);
    if (key && (json_text(key) || json_is_number(key) || json_is_null(key)))
        return error_set(e, "%s: %s: \"key\" is true or false", l->path, c->id);
    const double n = json_number(least, least ? NAN : 0);
    if (least && !(n >= 1 && n <= 1 << 20 && n == floor(n)))
        return error_set(e, "%s: %s: \"at_least\" must be an integer from 1 on",
                         l->path, c->id);
    r->at_least = (int)n;
    return r->otherwise ? 0 : -1;
}

static void *room(int count, size_t each)
{
    void *p = calloc((size_t)count + 1, each);
    if (!p) abort();
    return p;
}

static const ledger_claim *find_claim(const ledger *l, const char *id)
{
    for (int i = 0; i < l->claims; i++)
        if (!strcmp(l->claim[i].id, id)) return &l->claim[i];
    return NULL;
}

static int read_claim(const ledger *l, ledger_claim *c, const json *from,
                      error *e)
{
    const json *quantities = json_get(from, "quantities");
    const json *rules = json_get(from, "rules");
    if (!(c->id = need(l, from, "id", "a claim", e)) ||
        !(c->title = need(l, from, "title", c->id, e)) ||
        !(c->paper = need(l, from, "paper", c->id, e)) ||
        !(c->section = need(l, from, "section", c->id, e)) ||
        !(c->says = need(l, from, "says", c->id, e)) ||
        !(c->experiment = need(l, from, "experiment", c->id, e)))
        return -1;
    if (strpbrk(c->id, "/ ") || strlen(c->id) >= LEDGER_NAME ||
        find_claim(l, c->id) != c)
        return error_set(e, "%s: claim \"%s\": the id has '/' or a blank, is too "
                            "long, or is used twice", l->path, c->id);
    if (KNOWN(l, from, c->id, e, "id", "title", "paper", "section", "says",
              "experiment", "caution", "quantities", "rules", "figure",
              "pictures"))
        return -1;
    c->caution = json_text(json_get(from, "caution"));
    c->figure = json_get(from, "figure");
    c->pictures = json_get(from, "pictures");
    c->quantity = room(json_size(quantities), sizeof *c->quantity);
    c->rule = room(json_size(rules), sizeof *c->rule);
    for (const json *q = json_first(quantities); q; q = json_next(q))
        if (read_quantity(l, c, &c->quantity[c->quantities++], q, e) < 0)
            return -1;
    for (const json *r = json_first(rules); r; r = json_next(r))
        if (read_rule(l, c, &c->rule[c->rules++], r, e) < 0) return -1;
    if (c->rules) return 0;
    return error_set(e, "%s: %s: has no rules", l->path, c->id);
}

/* ---- whole ----------------------------------------------------------------- */

static bool names_run(const ledger *l, const json *x)
{
    return json_text(x) && ledger_find_run(l, json_text(x));
}

static int check_runs(const ledger *l, error *e)
{
    for (int i = 0; i < l->runs; i++)
        for (int w = 0; w < l->run[i].words; w++)
            if (l->run[i].word[w][0] == '@') {
                const ledger_run *of =
                    ledger_find_run(l, l->run[i].word[w] + 1);
                if (of && of < &l->run[i]) continue;
                return error_set(e, of ? "%s: run \"%s\": run %s must stand "
                                         "before it"
                                       : "%s: run \"%s\": there is no run %s",
                                 l->path, l->run[i].name, l->run[i].word[w]);
            }
    return 0;
}

static int check_quantity(const ledger *l, const ledger_claim *c,
                          const ledger_quantity *q, error *e)
{
    const json *names = json_get(q->source, "run");
    const json *x = json_is_array(names) ? json_first(names) : names;
    for (; x; x = json_is_array(names) ? json_next(x) : NULL)
        if (!names_run(l, x))
            return error_set(e, "%s: %s: quantity \"%s\": there is no run "
                                "\"%s\"", l->path, c->id, q->name,
                             json_text(x) ? json_text(x) : "?");
        else
            for (const json *y = json_first(names); json_is_array(names) && y != x;
                 y = json_next(y))
                if (!strcmp(json_text(y), json_text(x)))
                    return error_set(e, "%s: %s: quantity \"%s\": run \"%s\" is "
                                        "named twice", l->path, c->id, q->name,
                                     json_text(x));
    return 0;
}

/* A figure shows all its series, each a quantity. */
static int check_figure(const ledger *l, const ledger_claim *c, error *e)
{
    const json *series = json_get(c->figure, "series");
    if (!c->figure) return 0;
    if (KNOWN(l, c->figure, c->id, e, "x", "y", "log", "zero", "labels", "xs",
              "series"))
        return -1;
    if (json_size(series) < 1 || json_size(series) > LEDGER_SERIES)
        return error_set(e, "%s: %s: a figure has 1 to %d series", l->path, c->id,
                         LEDGER_SERIES);
    for (const json *x = json_first(series); x; x = json_next(x)) {
        const char *of = json_text(json_get(x, "of"));
        if (!of || !ledger_find(c, of))
            return error_set(e, "%s: %s: a figure's series is of \"%s\", no "
                                "quantity of the claim", l->path, c->id,
                             of ? of : "?");
    }
    return 0;
}

/* That every name leads somewhere, before hours of runs. */
static int check_claim(const ledger *l, const ledger_claim *c, error *e)
{
    char where[LEDGER_NAME + 512];
    snprintf(where, sizeof where, "%.500s: %s", l->path, c->id);
    for (int i = 0; i < c->quantities; i++)
        if (check_quantity(l, c, &c->quantity[i], e) < 0) return -1;
    for (int i = 0; i < c->rules; i++)
        if (ledger_rule_check(c, &c->rule[i], where, e) < 0) return -1;
    for (const json *x = json_first(c->pictures); x; x = json_next(x))
        if (!names_run(l, json_get(x, "run")) || !json_text(json_get(x, "file")) ||
            !json_text(json_get(x, "text")))
            return error_set(e, "%s: %s: a picture needs \"run\", \"file\" and "
                                "\"text\"", l->path, c->id);
    return check_figure(l, c, e);
}

static int read_all(ledger *l, error *e)
{
    const json *runs = json_get(l->source, "runs");
    const json *claims = json_get(l->source, "claims");
    l->run = room(json_size(runs), sizeof *l->run);
    l->claim = room(json_size(claims), sizeof *l->claim);
    for (const json *r = json_first(runs); r; r = json_next(r))
        if (read_run(l, &l->run[l->runs++], r, e) < 0) return -1;
    for (const json *c = json_first(claims); c; c = json_next(c))
        if (read_claim(l, &l->claim[l->claims++], c, e) < 0) return -1;
    if (check_runs(l, e) < 0) return -1;
    for (int i = 0; i < l->claims; i++)
        if (check_claim(l, &l->claim[i], e) < 0) return -1;
    if (l->claims) return 0;
    return error_set(e, "%s: has no claims", l->path);
}

int ledger_read(ledger *l, const char *path, error *e)
{
    *l = (ledger){ .path = path ? path : "results/claims.json" };
    l->source = path ? json_read_file(path, e)
                     : json_parse(claims_json, strlen(claims_json), l->path, e);
    if (!l->source) return -1;
    if (read_all(l, e) == 0) return 0;
    ledger_free(l);
    return -1;
}

void ledger_free(ledger *l)
{
    for (int i = 0; i < l->runs; i++) json_free(l->run[i].file);
    for (int i = 0; i < l->claims; i++) {
        for (int q = 0; q < l->claim[i].quantities; q++)
            ledger_clear(&l->claim[i].quantity[q]);
        free(l->claim[i].quantity);
        free(l->claim[i].rule);
    }
    free(l->run);
    free(l->claim);
    json_free(l->source);
    *l = (ledger){ 0 };
}

ledger_run *ledger_find_run(const ledger *l, const char *name)
{
    for (int i = 0; i < l->runs; i++)
        if (!strcmp(l->run[i].name, name)) return &l->run[i];
    return NULL;
}

const ledger_quantity *ledger_find(const ledger_claim *c, const char *name)
{
    for (int i = 0; i < c->quantities; i++)
        if (!strcmp(c->quantity[i].name, name)) return &c->quantity[i];
    return NULL;
}

void ledger_add(ledger_quantity *q, ledger_number x)
{
    q->of = realloc(q->of, ((size_t)q->count + 1) * sizeof *q->of);
    if (!q->of) abort();
    q->of[q->count++] = x;
}

void ledger_clear(ledger_quantity *q)
{
    free(q->of);
    free(q->seed);
    q->of = NULL;
    q->seed = NULL;
    q->count = q->runs = 0;
}

void ledger_measure(ledger *l, ledger_claim *c, const char *dir)
{
    for (int i = 0; i < c->quantities; i++)
        ledger_take(l, c, &c->quantity[i], dir);
    ledger_decide(c);
}
