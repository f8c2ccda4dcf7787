/* ledger.c - reads a ledger, and what its rules make of the quantities. */
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
                                     : NAN;
    return s->factor * (isnan(x) ? s->q->value[k] : x);
}

static bool compare(double a, const char *op, double b)
{
    if (!strcmp(op, "<=")) return a <= b;
    if (!strcmp(op, ">=")) return a >= b;
    if (!strcmp(op, "<")) return a < b;
    if (!strcmp(op, ">")) return a > b;
    return !strcmp(op, "==") && a == b;
}

/* LEFT OP RIGHT; false: it is not that, or names what the claim does not have. */
static bool read_condition(const ledger_claim *c, const char *text, side *left,
                           char op[8], side *right)
{
    char a[128], b[128];
    return sscanf(text, "%127s %7s %127[^\n]", a, op, b) == 3 &&
           read_side(c, a, left) && read_side(c, b, right) &&
           (op[0] == '<' || op[0] == '>' || !strcmp(op, "==")) &&
           (!op[1] || !strcmp(op + 1, "="));
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
            if (l->run[i].word[w][0] == '@' &&
                !ledger_find_run(l, l->run[i].word[w] + 1))
                return error_set(e, "%s: run \"%s\": there is no run %s",
                                 l->path, l->run[i].name, l->run[i].word[w]);
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
    return 0;
}

/* That every name leads somewhere, before hours of runs. */
static int check_claim(const ledger *l, const ledger_claim *c, error *e)
{
    char op[8];
    side a, b;
    for (int i = 0; i < c->quantities; i++)
        if (check_quantity(l, c, &c->quantity[i], e) < 0) return -1;
    for (int i = 0; i < c->rules; i++)
        if (!read_condition(c, c->rule[i].condition, &a, op, &b))
            return error_set(e, "%s: %s: rule \"%s\" is not QUANTITY[.lo|.hi] "
                                "<|<=|>|>=|== [NUMBER *] QUANTITY or NUMBER",
                             l->path, c->id, c->rule[i].condition);
    for (const json *x = json_first(c->pictures); x; x = json_next(x))
        if (!names_run(l, json_get(x, "run")) || !json_text(json_get(x, "file")) ||
            !json_text(json_get(x, "text")))
            return error_set(e, "%s: %s: a picture needs \"run\", \"file\" and "
                                "\"text\"", l->path, c->id);
    return 0;
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

/* ---- verdicts --------------------------------------------------------------- */

static int held(const side *a, const char *op, const side *b, int count)
{
    int n = 0;
    for (int i = 0; i < count; i++) n += compare(at(a, i), op, at(b, i));
    return n;
}

/* The other end of the interval. */
static void turn(side *s)
{
    s->end = s->end == 'l' ? 'h' : s->end == 'h' ? 'l' : s->end;
}

static void decide_rule(const ledger_claim *c, ledger_rule *r)
{
    char op[8];
    side a, b;
    r->known = r->holds = false;
    if (!read_condition(c, r->condition, &a, op, &b)) return;
    const int n = a.q ? a.q->count : 1, m = b.q ? b.q->count : 1;
    const int count = n > m ? n : m;
    if (!n || !m || (n != count && n != 1) || (m != count && m != 1)) return;
    const int enough = r->at_least ? r->at_least : count;
    r->known = true;
    r->holds = held(&a, op, &b, count) >= enough;
    turn(&a);
    turn(&b);
    r->unclear = !r->holds && held(&a, op, &b, count) >= enough;
}

static void decide(ledger_claim *c)
{
    c->verdict = LEDGER_REPRODUCED;
    for (int i = 0; i < c->rules; i++) {
        ledger_rule *r = &c->rule[i];
        enum ledger_verdict v = LEDGER_REPRODUCED;
        decide_rule(c, r);
        if (!r->known) v = LEDGER_NOT_MEASURED;
        else if (r->unclear && r->key) v = LEDGER_UNCLEAR;
        else if (!r->holds && !r->unclear)
            v = r->key ? LEDGER_NOT_REPRODUCED : LEDGER_DIFFERS;
        if (v > c->verdict) c->verdict = v;
    }
}

void ledger_measure(ledger *l, ledger_claim *c, const char *dir)
{
    for (int i = 0; i < c->quantities; i++)
        ledger_take(l, c, &c->quantity[i], dir);
    decide(c);
}
