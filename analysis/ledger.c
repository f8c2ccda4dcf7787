/* ledger.c - reads a ledger, and what its rules make of the quantities. */
#include "ledger_take.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/embed.h"

EMBED(claims_json, "results/claims.json");

const char *const ledger_verdicts[] = { "reproduced", "differs",
                                        "not reproduced", "not measured" };

/* ---- reading -------------------------------------------------------------- */

static bool is_name(const char *text)
{
    return *text && text[strspn(text, "abcdefghijklmnopqrstuvwxyz"
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
    if (!r->name) return -1;
    if (strpbrk(r->name, "/ ") || ledger_find_run(l, r->name) != r)
        return error_set(e, "%s: run \"%s\": the name has '/' or a blank, or "
                            "is used twice", l->path, r->name);
    r->brief = json_text(json_get(from, "brief"));
    r->seconds = json_number(json_get(from, "seconds"), 5);
    r->needs = json_text(json_get(from, "needs"));
    r->ships = json_text(json_get(from, "ships"));
    return read_words(l, r, json_get(from, "command"), e);
}

static int read_quantity(const ledger *l, const ledger_claim *c,
                         ledger_quantity *q, const json *from, error *e)
{
    q->name = need(l, from, "name", c->id, e);
    if (!q->name) return -1;
    if (!is_name(q->name) || ledger_find(c, q->name) != q)
        return error_set(e, "%s: %s: quantity \"%s\": a name is small "
                            "letters, digits and _, and is used once", l->path, c->id,
                         q->name);
    q->text = need(l, from, "text", q->name, e);
    q->unit = json_text(json_get(from, "unit"));
    q->how = json_text(json_get(from, "how"));
    q->source = from;
    return q->text ? 0 : -1;
}

static int read_rule(const ledger *l, const ledger_claim *c, ledger_rule *r,
                     const json *from, error *e)
{
    r->condition = need(l, from, "if", c->id, e);
    r->text = json_text(json_get(from, "text"));
    r->otherwise = r->condition ? need(l, from, "else", c->id, e) : NULL;
    r->key = json_true(json_get(from, "key"));
    r->at_least = (int)json_number(json_get(from, "at_least"), 0);
    return r->otherwise ? 0 : -1;
}

static void *room(int count, size_t each)
{
    void *p = calloc((size_t)count + 1, each);
    if (!p) abort();
    return p;
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
    c->caution = json_text(json_get(from, "caution"));
    c->figure = json_get(from, "figure");
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

/* ---- rules: NAME OP NUMBER, NAME OP NAME, NAME OP NUMBER * NAME --------------- */

/* One side: a number, or factor times a quantity (or an end of its interval). */
typedef struct side {
    double factor;
    const ledger_quantity *q; /* NULL: the factor alone                      */
    char end;                 /* 'v'alue, 'l'o, 'h'i                         */
} side;

static bool read_side(const ledger_claim *c, const char *text, side *out)
{
    char name[64], *rest;
    *out = (side){ .factor = strtod(text, &rest), .end = 'v' };
    if (rest == text) out->factor = 1;
    rest += strspn(rest, " *");
    if (!*rest) return rest != text;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(rest, " "), rest);
    char *dot = strchr(name, '.');
    if (dot) {
        if (strcmp(dot, ".lo") && strcmp(dot, ".hi")) return false;
        out->end = dot[1];
        *dot = 0;
    }
    out->q = ledger_find(c, name);
    return out->q != NULL;
}

static double at(const side *s, int i)
{
    if (!s->q) return s->factor;
    const int k = s->q->count == 1 ? 0 : i;
    const double x = s->end == 'l'   ? s->q->lo[k]
                     : s->end == 'h' ? s->q->hi[k]
                                     : s->q->value[k];
    return s->factor * x;
}

static bool compare(double a, const char *op, double b)
{
    if (!strcmp(op, "<=")) return a <= b;
    if (!strcmp(op, ">=")) return a >= b;
    if (!strcmp(op, "<")) return a < b;
    if (!strcmp(op, ">")) return a > b;
    return !strcmp(op, "==") && a == b;
}

static void decide_rule(const ledger_claim *c, ledger_rule *r)
{
    char left[128], op[8], right[128];
    side a, b;
    r->known = r->holds = false;
    if (sscanf(r->condition, "%127s %7s %127[^\n]", left, op, right) != 3 ||
        !read_side(c, left, &a) || !read_side(c, right, &b))
        return;
    const int n = a.q ? a.q->count : 1, m = b.q ? b.q->count : 1;
    const int count = n > m ? n : m;
    if (!n || !m || (n != count && n != 1) || (m != count && m != 1)) return;
    int held = 0;
    for (int i = 0; i < count; i++) held += compare(at(&a, i), op, at(&b, i));
    r->known = true;
    r->holds = held >= (r->at_least ? r->at_least : count);
}

static void decide(ledger_claim *c)
{
    c->verdict = LEDGER_REPRODUCED;
    for (int i = 0; i < c->rules; i++) {
        ledger_rule *r = &c->rule[i];
        enum ledger_verdict v = LEDGER_REPRODUCED;
        decide_rule(c, r);
        if (!r->known) v = LEDGER_NOT_MEASURED;
        else if (!r->holds) v = r->key ? LEDGER_NOT_REPRODUCED : LEDGER_DIFFERS;
        if (v > c->verdict) c->verdict = v;
    }
}

void ledger_measure(ledger *l, ledger_claim *c, const char *dir)
{
    for (int i = 0; i < c->quantities; i++)
        ledger_take(l, c, &c->quantity[i], dir);
    decide(c);
}
