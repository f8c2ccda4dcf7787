/* ledger_rule.c - rules on intervals. */
#include "ledger_rule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ----------------------------------------------------------------- */

/* One side: a number, or factor times a quantity. */
typedef struct side {
    double factor;
    const ledger_quantity *q; /* NULL: the factor alone                      */
    char end;                 /* of its interval as written: 'l'o, 'h'i, 0   */
} side;

static bool read_side(const ledger_claim *c, const char *text, side *out)
{
    char name[LEDGER_NAME], *rest = (char *)text;
    const bool number = *text && strchr("+-.0123456789", *text);
    *out = (side){ .factor = 1 };
    if (number) {
        out->factor = strtod(text, &rest);
        if (rest == text || !isfinite(out->factor)) return false;
    }
    rest += strspn(rest, " *");
    if (!*rest) return number;
    const size_t n = strcspn(rest, " .");
    if (n >= sizeof name) return false;
    memcpy(name, rest, n);
    name[n] = 0;
    rest += n;
    if (!strncmp(rest, ".lo", 3) || !strncmp(rest, ".hi", 3)) {
        out->end = rest[1];
        rest += 3;
    }
    if (rest[strspn(rest, " ")]) return false;
    out->q = ledger_find(c, name);
    return out->q != NULL;
}

/* LEFT OP RIGHT; false: it is not that, or names what the claim does not have. */
static bool read_condition(const ledger_claim *c, const char *text, side *left,
                           char op[4], side *right)
{
    char a[LEDGER_NAME + 32];
    const size_t n = strcspn(text, "<>="), m = strspn(text + n, "<>=");
    size_t end = n;
    while (end && text[end - 1] == ' ') end--;
    if (m < 1 || m > 2 || end >= sizeof a) return false;
    memcpy(a, text, end);
    a[end] = 0;
    snprintf(op, 4, "%.*s", (int)m, text + n);
    if (strcmp(op, "<") && strcmp(op, "<=") && strcmp(op, ">") &&
        strcmp(op, ">=") && strcmp(op, "=="))
        return false;
    const char *b = text + n + m;
    return read_side(c, a, left) && read_side(c, b + strspn(b, " "), right);
}

int ledger_rule_check(const ledger_claim *c, const ledger_rule *r,
                      const char *where, error *e)
{
    side a, b;
    char op[4];
    if (!read_condition(c, r->condition, &a, op, &b))
        return error_set(e, "%s: rule \"%s\" is not QUANTITY <|<=|>|>=|== "
                            "[NUMBER *] QUANTITY or NUMBER, of quantities of the "
                            "claim", where, r->condition);
    /* ends that say what is the rule anyway may be written */
    const char far = *op == '<' ? 'h' : *op == '>' ? 'l' : 0;
    const char near = *op == '<' ? 'l' : *op == '>' ? 'h' : 0;
    if ((!a.end || a.end == far) && (!b.end || b.end == near)) return 0;
    return error_set(e, "%s: rule \"%s\" would hold because an interval is wide: "
                        "leave .lo and .hi out, a rule holds if it does for whole "
                        "intervals", where, r->condition);
}

/* ---- numbers ------------------------------------------------------------------ */

static void one(double x, char *out, size_t size)
{
    if (isnan(x)) snprintf(out, size, "-");
    else if (x != 0 && (fabs(x) < 1e-3 || fabs(x) >= 1e5))
        snprintf(out, size, "%.2e", x);
    else if (x == round(x)) snprintf(out, size, "%.0f", x);
    else snprintf(out, size, fabs(x) >= 100 ? "%.0f" : "%.3g", x);
}

void ledger_number_text(const ledger_number *x, char *out, int size)
{
    char value[24], lo[24], hi[24];
    one(x->value, value, sizeof value);
    one(x->lo, lo, sizeof lo);
    one(x->hi, hi, sizeof hi);
    if (isnan(x->lo) || isnan(x->hi)) snprintf(out, (size_t)size, "%s", value);
    else snprintf(out, (size_t)size, "%s (%s to %s)", value, lo, hi);
}

/* What a side may be at place i of a list. */
static ledger_number span(const side *s, int i)
{
    if (!s->q) return (ledger_number){ s->factor, s->factor, s->factor };
    ledger_number x = s->q->of[s->q->count == 1 ? 0 : i];
    if (!isnan(x.value) && (isnan(x.lo) || isnan(x.hi))) {
        x.lo = s->q->exact ? x.value : -INFINITY;
        x.hi = s->q->exact ? x.value : INFINITY;
    }
    if (s->factor == 0) return (ledger_number){ 0, 0, 0 };
    const double lo = s->factor * x.lo, hi = s->factor * x.hi;
    return (ledger_number){ s->factor * x.value, fmin(lo, hi), fmax(lo, hi) };
}

/* ---- rules --------------------------------------------------------------------- */

static enum ledger_outcome compare(const ledger_number *a, const char *op,
                                   const ledger_number *b)
{
    if (isnan(a->lo) || isnan(b->lo)) return LEDGER_UNKNOWN;
    if (*op == '>') {
        const ledger_number *swap = a;
        a = b;
        b = swap;
    }
    const bool or_equal = op[1] == '=';
    if (*op == '=') {
        if (a->hi < b->lo || b->hi < a->lo) return LEDGER_FAILS;
        return a->lo == a->hi && b->lo == b->hi ? LEDGER_HOLDS : LEDGER_OPEN;
    }
    if (a->hi < b->lo || (or_equal && a->hi == b->lo)) return LEDGER_HOLDS;
    if (a->lo > b->hi || (!or_equal && a->lo == b->hi)) return LEDGER_FAILS;
    return LEDGER_OPEN;
}

/* How far from failing, in no unit: for choosing the place to tell about. */
static double margin(const ledger_number *a, const char *op,
                     const ledger_number *b)
{
    if (*op == '<') return b->lo - a->hi;
    if (*op == '>') return a->lo - b->hi;
    return -fmax(a->hi, b->hi) + fmin(a->lo, b->lo);
}

static void tell(ledger_rule *r, const side *left, const side *right,
                 const char *op, int place, int count)
{
    char a[80], b[80], where[32] = "";
    ledger_number x = span(left, place), y = span(right, place);
    const bool open = isinf(x.hi - x.lo) || isinf(y.hi - y.lo);
    if (!left->q || x.lo == x.hi || isinf(x.hi - x.lo)) x.lo = NAN;
    if (!right->q || y.lo == y.hi || isinf(y.hi - y.lo)) y.lo = NAN;
    ledger_number_text(&x, a, sizeof a);
    ledger_number_text(&y, b, sizeof b);
    if (count > 1) snprintf(where, sizeof where, ", the worst of %d", count);
    snprintf(r->effect, sizeof r->effect, "%.60s %s %.60s%s%s", a, op, b,
             open ? ", without an interval" : "", where);
}

static void decide_rule(const ledger_claim *c, ledger_rule *r)
{
    char op[4];
    side a, b;
    int holds = 0, fails = 0, worst = 0;
    double least = INFINITY;
    r->outcome = LEDGER_UNKNOWN;
    *r->effect = 0;
    if (!read_condition(c, r->condition, &a, op, &b)) return;
    const int n = a.q ? a.q->count : 1, m = b.q ? b.q->count : 1;
    const int count = n > m ? n : m;
    if (!n || !m || (n != count && n != 1) || (m != count && m != 1) ||
        r->at_least > count)
        return;
    for (int i = 0; i < count; i++) {
        const ledger_number x = span(&a, i), y = span(&b, i);
        const enum ledger_outcome one = compare(&x, op, &y);
        if (one == LEDGER_UNKNOWN) return;
        holds += one == LEDGER_HOLDS;
        fails += one == LEDGER_FAILS;
        if (margin(&x, op, &y) < least) {
            least = margin(&x, op, &y);
            worst = i;
        }
    }
    const int enough = r->at_least ? r->at_least : count;
    r->outcome = holds >= enough           ? LEDGER_HOLDS
                 : count - fails < enough ? LEDGER_FAILS
                                           : LEDGER_OPEN;
    tell(r, &a, &b, op, worst, count);
}

/* ---- verdict ------------------------------------------------------------------- */

/* The first rule of that kind; NULL: none. */
static const ledger_rule *first(const ledger_claim *c, bool key,
                                enum ledger_outcome outcome)
{
    for (int i = 0; i < c->rules; i++)
        if (c->rule[i].key == key && c->rule[i].outcome == outcome)
            return &c->rule[i];
    return NULL;
}

void ledger_decide(ledger_claim *c)
{
    for (int i = 0; i < c->rules; i++) decide_rule(c, &c->rule[i]);
    c->measured = true;
    c->verdict = first(c, true, LEDGER_UNKNOWN) || first(c, false, LEDGER_UNKNOWN)
                     ? LEDGER_NOT_MEASURED
                 : first(c, true, LEDGER_FAILS)  ? LEDGER_NOT_REPRODUCED
                 : first(c, true, LEDGER_OPEN)   ? LEDGER_UNCLEAR
                 : first(c, false, LEDGER_FAILS) ? LEDGER_DIFFERS
                 : first(c, false, LEDGER_OPEN)  ? LEDGER_UNCLEAR
                                                 : LEDGER_REPRODUCED;
}

const ledger_rule *ledger_deciding(const ledger_claim *c)
{
    const ledger_rule *key;
    switch (c->verdict) {
    case LEDGER_NOT_REPRODUCED: return first(c, true, LEDGER_FAILS);
    case LEDGER_DIFFERS: return first(c, false, LEDGER_FAILS);
    case LEDGER_UNCLEAR:
        key = first(c, true, LEDGER_OPEN);
        return key ? key : first(c, false, LEDGER_OPEN);
    case LEDGER_REPRODUCED:
        key = first(c, true, LEDGER_HOLDS);
        return key ? key : first(c, false, LEDGER_HOLDS);
    default: return NULL;
    }
}
