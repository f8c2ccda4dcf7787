/* ledger.c - which samples count, and what claims make of numbers: all on
 * invented ones; what is told while they are measured. */
#include "test.h"

#include "../analysis/ledger.h"
#include "../analysis/ledger_rule.h"
#include "../harness/clean.h"
#include "../harness/file.h"
#include "../harness/progress.h"
#include "../harness/ratio.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[2][256];
    static int turn;
    turn ^= 1;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static void put(const char *path, const char *text)
{
    error e;
    if (file_write(path, text, strlen(text), &e)) fail_msg("%s", e.text);
}

/* ---- which samples count ------------------------------------------------------- */

/* {ns, touched} of each process; what shall count, and of each process. */
static const struct sampled {
    const char *samples;
    int n, touched, count[3];
    bool all;
    double median[3]; /* of each process; 0: it has none                      */
} sampled[] = {
    { "[]", 0, 0, { 0 }, true, { 0 } },
    { "[{\"ns\":[4,5,6],\"touched\":[]}]", 3, 0, { 3 }, false, { 5 } },
    /* none, 1, 2 clean: all count; 3: they alone */
    { "[{\"ns\":[4,5,6],\"touched\":[0,1,2]}]", 3, 3, { 3 }, true, { 5 } },
    { "[{\"ns\":[4,5,6],\"touched\":[0,2]}]", 3, 2, { 3 }, true, { 5 } },
    { "[{\"ns\":[4,5,6,7],\"touched\":[0,2]}]", 4, 2, { 4 }, true, { 5.5 } },
    { "[{\"ns\":[9,5,6,7],\"touched\":[0]}]", 3, 1, { 3 }, false, { 6 } },
    /* one of several processes is touched all through: it is left with none */
    { "[{\"ns\":[4,5],\"touched\":[]},{\"ns\":[90,91],\"touched\":[0,1]},"
      "{\"ns\":[6,7],\"touched\":[1]}]",
      3, 3, { 2, 0, 1 }, false, { 4.5, 0, 6 } },
    /* 2 clean ones in 3 processes are too few */
    { "[{\"ns\":[4,5],\"touched\":[1]},{\"ns\":[9,8],\"touched\":[0,1]},"
      "{\"ns\":[6],\"touched\":[]}]",
      5, 3, { 2, 2, 1 }, true, { 4.5, 8.5, 6 } },
    /* what is no time is no sample; `touched` may be absent */
    { "[{\"ns\":[null,5,0,6,-1,7]}]", 3, 0, { 3 }, false, { 6 } },
};

static void which_samples_count(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sampled / sizeof *sampled; i++) {
        const struct sampled *s = &sampled[i];
        error e;
        clean_samples c;
        static ratio_samples side;
        json *j = json_parse(s->samples, strlen(s->samples), "samples", &e);
        clean_read(j, &c);
        ratio_samples_take(j, &side);
        if (c.n != s->n || c.touched != s->touched || c.all != s->all)
            fail_msg("%s: %d count, %d touched, all %d", s->samples, c.n,
                     c.touched, c.all);
        assert_int_equal(side.count, s->n);
        int from = 0, left = 0;
        for (int p = 0; p < c.processes; p++) {
            assert_int_equal(c.count[p], s->count[p]);
            if (s->count[p])
                assert_true(clean_median(&c, p) == s->median[p]);
            else assert_true(isnan(clean_median(&c, p)));
            for (int k = 0; k < c.count[p]; k++, from++)
                assert_true(side.ns[from] == c.ns[from]);
            left += c.count[p] > 0;
        }
        assert_int_equal(side.processes, left);
        clean_free(&c);
        json_free(j);
    }
}

/* More samples than fit: every process stays. */
static void many_samples(void **state)
{
    (void)state;
    static ratio_samples side;
    json *samples = json_array();
    for (int p = 0; p < 3; p++) {
        json *one = json_object(), *ns = json_array();
        for (int i = 0; i < 20000; i++) json_push_number(ns, p + 1);
        json_put(one, "ns", ns);
        json_put(one, "touched", json_array());
        json_push(samples, one);
    }
    ratio_samples_take(samples, &side);
    assert_int_equal(side.processes, 3);
    for (int p = 0; p < 3; p++) assert_int_equal(side.per_process[p], 10000);
    assert_true(side.ns[side.count - 1] == 3);
    json_free(samples);
}

/* ---- rules ---------------------------------------------------------------------- */

/* A ledger of one claim, whose quantities and rules are these. */
static void open_ledger(ledger *l, const char *quantities, const char *rules)
{
    char text[16384];
    error e;
    snprintf(text, sizeof text,
             "{\"version\":1,\"runs\":["
             "{\"name\":\"sweep\",\"command\":[\"sweep\"]},"
             "{\"name\":\"map\",\"command\":[\"maps\"]},"
             "{\"name\":\"other\",\"command\":[\"maps\"]},"
             "{\"name\":\"third\",\"command\":[\"maps\"]}],"
             "\"claims\":[{\"id\":\"c\",\"title\":\"t\",\"paper\":\"p\","
             "\"section\":\"s\",\"says\":\"s\",\"experiment\":\"e\","
             "\"quantities\":[%s],\"rules\":[%s]}]}",
             quantities, rules);
    put(in_folder("claims.json"), text);
    if (ledger_read(l, in_folder("claims.json"), &e)) fail_msg("%s", e.text);
    for (int i = 0; i < l->runs; i++) l->run[i].done = true;
}

#define RULE(condition, key)                                                   \
    "{\"if\":\"" condition "\",\"text\":\"t\",\"else\":\"e\",\"key\":" key "}"
#define TWO                                                                    \
    "{\"name\":\"a\",\"text\":\"t\",\"value\":1},"                             \
    "{\"name\":\"b\",\"text\":\"t\",\"value\":1}"

static void set(ledger_claim *c, int i, double value, double lo, double hi,
                bool exact)
{
    ledger_clear(&c->quantity[i]);
    ledger_add(&c->quantity[i], (ledger_number){ value, lo, hi });
    c->quantity[i].exact = exact;
}

#define H LEDGER_HOLDS
#define F LEDGER_FAILS
#define O LEDGER_OPEN
#define U LEDGER_UNKNOWN

/* What a < 2, a <= 2, a > 2, a >= 2, a == 2 and a < 2 * b (b from 1 to 1.5) make
 * of a. */
static const struct decided {
    double value, lo, hi;
    bool exact;
    enum ledger_outcome want[6];
} decided[] = {
    { 1, 0.5, 1.5, false, { H, H, F, F, F, H } },   /* below                  */
    { 1.5, 1, 2, false, { O, H, F, O, O, O } },     /* touching from below    */
    { 1.9, 1.5, 2.5, false, { O, O, O, O, O, O } }, /* the value is below ... */
    { 2.1, 1.5, 2.5, false, { O, O, O, O, O, O } }, /* ... or above           */
    { 2.5, 2, 2.5, false, { F, O, O, H, O, O } },   /* touching from above    */
    { 4, 3.5, 5, false, { F, F, H, H, F, F } },     /* above                  */
    { 1, NAN, NAN, false, { O, O, O, O, O, O } },   /* one sample             */
    { 4, NAN, NAN, false, { O, O, O, O, O, O } },
    { 4, 3, NAN, false, { O, O, O, O, O, O } },
    { 1, NAN, NAN, true, { H, H, F, F, F, H } },    /* computed               */
    { 2, NAN, NAN, true, { F, H, F, H, H, O } },
    { 4, NAN, NAN, true, { F, F, H, H, F, F } },
    { NAN, NAN, NAN, false, { U, U, U, U, U, U } },
    { NAN, NAN, NAN, true, { U, U, U, U, U, U } },
    { 1, 0.5, INFINITY, false, { O, O, O, O, O, O } },
};

static void rules_on_intervals(void **state)
{
    ledger l;
    (void)state;
    open_ledger(&l, TWO,
                RULE("a < 2", "true") "," RULE("a <= 2", "true") ","
                RULE("a > 2", "true") "," RULE("a >= 2", "true") ","
                RULE("a == 2", "true") "," RULE("a < 2 * b", "true"));
    ledger_claim *c = &l.claim[0];
    for (size_t i = 0; i < sizeof decided / sizeof *decided; i++) {
        const struct decided *d = &decided[i];
        set(c, 0, d->value, d->lo, d->hi, d->exact);
        set(c, 1, 1.2, 1, 1.5, false);
        ledger_decide(c);
        for (int r = 0; r < 6; r++)
            if (c->rule[r].outcome != d->want[r])
                fail_msg("%g (%g to %g): '%s' is %d, not %d", d->value, d->lo,
                         d->hi, c->rule[r].condition, c->rule[r].outcome,
                         d->want[r]);
    }
    ledger_free(&l);

    /* negative factors turn an interval around; a number may stand first */
    open_ledger(&l, TWO, RULE("-1 * a < 2", "true") "," RULE("3 > a", "true"));
    c = &l.claim[0];
    set(c, 0, 0, -1, 2.5, false);
    ledger_decide(c);
    assert_int_equal(c->rule[0].outcome, LEDGER_HOLDS);
    assert_int_equal(c->rule[1].outcome, LEDGER_HOLDS);
    set(c, 0, 0, -3, 1, false);
    ledger_decide(c);
    assert_int_equal(c->rule[0].outcome, LEDGER_OPEN);
    ledger_free(&l);
}

/* Numbers whose middle once decided. */
static void middles_do_not_decide(void **state)
{
    ledger l;
    (void)state;
    open_ledger(&l, TWO, RULE("a <= 1.1", "true") "," RULE("b >= 1.7", "true"));
    ledger_claim *c = &l.claim[0];
    set(c, 0, 1.11, 0.887, 1.34, false);
    set(c, 1, 2.61, 0.262, 6.73, false);
    ledger_decide(c);
    assert_int_equal(c->rule[0].outcome, LEDGER_OPEN);
    assert_int_equal(c->rule[1].outcome, LEDGER_OPEN);
    assert_int_equal(c->verdict, LEDGER_UNCLEAR);
    assert_non_null(strstr(c->rule[1].effect, "2.61 (0.262 to 6.73) >= 1.7"));
    assert_ptr_equal(ledger_deciding(c), &c->rule[0]);
    ledger_free(&l);
}

static void set_list(ledger_quantity *q, const double (*x)[3], int n)
{
    ledger_clear(q);
    q->exact = false;
    for (int i = 0; i < n; i++)
        ledger_add(q, (ledger_number){ x[i][1], x[i][0], x[i][2] });
}

static void lists(void **state)
{
    static const double x[4][3] = { { 0, 1, 2 }, { 1, 2, 4 }, { 5, 6, 7 },
                                    { 0, 1, 2 } };
    static const struct { const char *least; enum ledger_outcome want; } of[] = {
        { "1", H }, { "2", H }, { "3", O }, { "4", F }, { "5", U },
    };
    (void)state;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        ledger l;
        char rule[160];
        snprintf(rule, sizeof rule, "{\"if\":\"a < 3\",\"else\":\"e\",\"key\":true,"
                                    "\"at_least\":%s}", of[i].least);
        open_ledger(&l, TWO, rule);
        set_list(&l.claim[0].quantity[0], x, 4);
        ledger_decide(&l.claim[0]);
        assert_int_equal(l.claim[0].rule[0].outcome, of[i].want);
        ledger_free(&l);
    }
    ledger l; /* of all, the worst is told; lists of other lengths: not decided */
    open_ledger(&l, TWO, RULE("a < 3", "true") "," RULE("a < b", "false"));
    set_list(&l.claim[0].quantity[0], x, 4);
    set_list(&l.claim[0].quantity[1], x, 3);
    ledger_decide(&l.claim[0]);
    assert_int_equal(l.claim[0].rule[0].outcome, LEDGER_FAILS);
    assert_non_null(strstr(l.claim[0].rule[0].effect, "6 (5 to 7) < 3"));
    assert_int_equal(l.claim[0].rule[1].outcome, LEDGER_UNKNOWN);
    assert_int_equal(l.claim[0].verdict, LEDGER_NOT_MEASURED);
    ledger_free(&l);
}

/* Verdicts of a key rule and another one, by their outcomes. */
static void verdicts(void **state)
{
    static const double of[4][3] = { { 0, 0.5, 1 }, { 3, 4, 5 }, { 0, 2, 5 },
                                     { NAN, NAN, NAN } }; /* holds, fails, ... */
    static const enum ledger_verdict want[4][4] = {
        { LEDGER_REPRODUCED, LEDGER_DIFFERS, LEDGER_UNCLEAR,
          LEDGER_NOT_MEASURED },
        { LEDGER_NOT_REPRODUCED, LEDGER_NOT_REPRODUCED, LEDGER_NOT_REPRODUCED,
          LEDGER_NOT_MEASURED },
        { LEDGER_UNCLEAR, LEDGER_UNCLEAR, LEDGER_UNCLEAR, LEDGER_NOT_MEASURED },
        { LEDGER_NOT_MEASURED, LEDGER_NOT_MEASURED, LEDGER_NOT_MEASURED,
          LEDGER_NOT_MEASURED },
    };
    ledger l;
    (void)state;
    open_ledger(&l, TWO, RULE("a < 2", "true") "," RULE("b < 2", "false"));
    ledger_claim *c = &l.claim[0];
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 4; b++) {
            set(c, 0, of[a][1], of[a][0], of[a][2], false);
            set(c, 1, of[b][1], of[b][0], of[b][2], false);
            ledger_decide(c);
            assert_int_equal(c->rule[0].outcome, a);
            assert_int_equal(c->rule[1].outcome, b);
            assert_int_equal(c->verdict, want[a][b]);
        }
    ledger_free(&l);
}

/* ---- ledgers that are refused ----------------------------------------------------- */

static void refused(const char *quantities, const char *rules, const char *what)
{
    char text[16384];
    ledger l;
    error e = { "" };
    snprintf(text, sizeof text,
             "{\"runs\":[{\"name\":\"r\",\"command\":[\"maps\"]}],\"claims\":["
             "{\"id\":\"c\",\"title\":\"t\",\"paper\":\"p\",\"section\":\"s\","
             "\"says\":\"s\",\"experiment\":\"e\",\"quantities\":[%s],"
             "\"rules\":[%s]}]}", quantities, rules);
    put(in_folder("claims.json"), text);
    if (ledger_read(&l, in_folder("claims.json"), &e) == 0)
        fail_msg("%s %s was taken", quantities, rules);
    if (!strstr(e.text, what) || strchr(e.text, '\n'))
        fail_msg("'%s' does not say '%s'", e.text, what);
}

static void bad_ledgers(void **state)
{
    char many[256];
    (void)state;
    /* ends that would make wide intervals pass */
    refused(TWO, RULE("a.lo < 2", "true"), "because an interval is wide");
    refused(TWO, RULE("a <= 2 * b.hi", "true"), "because an interval is wide");
    refused(TWO, RULE("a.hi >= 2", "true"), "because an interval is wide");
    refused(TWO, RULE("a.lo == 2", "true"), "because an interval is wide");
    refused(TWO, RULE("nan < 2", "true"), "is not QUANTITY");
    refused(TWO, RULE("a < 2 b c", "true"), "is not QUANTITY");
    refused(TWO, RULE("a.low < 2", "true"), "is not QUANTITY");
    refused(TWO, RULE("a != 2", "true"), "is not QUANTITY");
    refused(TWO, RULE("a <=> 2", "true"), "is not QUANTITY");
    /* keys that would be ignored */
    refused(TWO, "{\"if\":\"a < 2\",\"else\":\"e\",\"at_last\":1}",
            "did you mean \"at_least\"");
    refused(TWO, "{\"if\":\"a < 2\",\"else\":\"e\",\"key\":\"true\"}", "\"key\"");
    refused(TWO, "{\"if\":\"a < 2\",\"else\":\"e\",\"at_least\":1.5}",
            "integer from 1");
    refused("{\"name\":\"a\",\"text\":\"t\",\"run\":\"r\",\"reduces\":\"mean\"}",
            RULE("a < 2", "true"), "did you mean \"reduce\"");
    refused("{\"name\":\"a\",\"text\":\"t\",\"run\":[\"r\",\"r\"],\"path\":\"x\"}",
            RULE("a < 2", "true"), "named twice");
    refused("{\"name\":\"a\",\"text\":\"t\",\"run\":\"r\",\"path\":\"x\","
            "\"reduce\":\"average\"}", RULE("a < 2", "true"), "mean, min, max");
    refused("{\"name\":\"a\",\"text\":\"t\",\"run\":\"r\",\"path\":\"x\","
            "\"bounds\":1}", RULE("a < 2", "true"), "two numbers");
    /* a name that would be cut to another's */
    memset(many, 'a', sizeof many);
    many[200] = 0;
    char quantities[1024];
    snprintf(quantities, sizeof quantities,
             "{\"name\":\"%.63s\",\"text\":\"t\",\"value\":1},"
             "{\"name\":\"%s\",\"text\":\"t\",\"value\":2}", many, many);
    refused(quantities, RULE("a < 2", "true"), "up to 63");
    char rule[512];
    snprintf(rule, sizeof rule, "{\"if\":\"%s < 2\",\"else\":\"e\"}", many);
    snprintf(quantities, sizeof quantities,
             "{\"name\":\"%.63s\",\"text\":\"t\",\"value\":1}", many);
    refused(quantities, rule, "is not QUANTITY");
}

/* ---- quantities from files ----------------------------------------------------------- */

#define Q(name, more) "{\"name\":\"" name "\",\"text\":\"t\"," more "}"

static void put_run(const char *run, const char *file, const char *text)
{
    error e;
    char dir[128], name[256];
    snprintf(dir, sizeof dir, "%s/%s", folder, run);
    folder_make(dir, &e);
    snprintf(name, sizeof name, "%s/%s", dir, file);
    put(name, text);
}

static const ledger_quantity *get(const ledger *l, const char *name)
{
    const ledger_quantity *q = ledger_find(&l->claim[0], name);
    assert_non_null(q);
    return q;
}

static void near(double x, double want)
{
    if (!(fabs(x - want) <= 1e-9 * fmax(1, fabs(want))))
        fail_msg("%.12g, expected %.12g", x, want);
}

/* Three runs of seeds and their intervals, which end where masses do. */
static void seeds_and_bounds(void **state)
{
    ledger l;
    (void)state;
    put_run("map", "metrics.json",
            "{\"layers\":[[{\"columns\":100,\"mass_r1\":0.9,\"rank_f64\":99,"
            "\"x\":2,\"maxw\":3}]]}");
    put_run("other", "metrics.json",
            "{\"layers\":[[{\"columns\":100,\"mass_r1\":0.8,\"rank_f64\":100,"
            "\"x\":-4,\"maxw\":1}]]}");
    put_run("third", "metrics.json",
            "{\"layers\":[[{\"columns\":100,\"mass_r1\":0.99,\"rank_f64\":100,"
            "\"x\":9,\"maxw\":1}]]}");
#define RUNS "\"run\":[\"map\",\"other\",\"third\"],\"path\":\"layers.0.0."
    open_ledger(&l,
                Q("mass", RUNS "mass_r1\"") "," Q("rank", RUNS "rank_f64\"") ","
                Q("x", RUNS "x\"") "," Q("weight", RUNS "maxw\"") ","
                Q("bound", RUNS "x\",\"bounds\":[-5,10]") ","
                Q("wrong", RUNS "x\",\"bounds\":[3,10]") ","
                Q("one", "\"run\":\"map\",\"path\":\"layers.0.0.mass_r1\"") ","
                Q("less", "\"difference\":[\"mass\",\"rank\"]") ","
                Q("half", "\"ratio\":[\"mass\",\"x\"]") ","
                Q("pair", "\"difference\":[\"mass\",\"rank\"],\"paired\":true") ","
                Q("pairs", "\"ratio\":[\"mass\",\"rank\"],\"paired\":true") ","
                Q("not", "\"ratio\":[\"mass\",\"one\"],\"paired\":true"),
                RULE("mass <= 1", "true") "," RULE("one < 0.95", "true"));
    ledger_measure(&l, &l.claim[0], folder);
    const double mean = (0.9 + 0.8 + 0.99) / 3;
    const ledger_number *m = get(&l, "mass")->of;
    near(m->value, mean);
    const double s2 = (pow(0.9 - mean, 2) + pow(0.8 - mean, 2) +
                       pow(0.99 - mean, 2)) / 2;
    assert_true(fabs(m->lo - (mean - 4.303 * sqrt(s2 / 3))) < 1e-3);
    assert_true(mean + 4.303 * sqrt(s2 / 3) > 1); /* so it must be kept in */
    near(m->hi, 1);
    near(get(&l, "rank")->of->hi, 100);
    assert_true(get(&l, "x")->of->hi > 10 && get(&l, "x")->of->lo < -5);
    assert_true(get(&l, "weight")->of->hi > 1); /* one is 3: no share of 1     */
    near(get(&l, "bound")->of->hi, 10);
    near(get(&l, "bound")->of->lo, -5);
    assert_int_equal(get(&l, "wrong")->count, 0);
    assert_non_null(strstr(get(&l, "wrong")->reason, "bounds"));
    assert_true(get(&l, "one")->exact && isnan(get(&l, "one")->of->lo));
    near(get(&l, "less")->of->hi, 1 - get(&l, "rank")->of->lo);
    /* x may be 0 */
    assert_true(isnan(get(&l, "half")->of->lo) && !get(&l, "half")->exact);
    /* 0.9 - 99, 0.8 - 100, 0.99 - 100 */
    near(get(&l, "pair")->of->value, mean - 299.0 / 3);
    assert_true(get(&l, "pair")->of->hi < -96.5);
    near(get(&l, "pairs")->of->value, cbrt(0.9 / 99 * 0.8 / 100 * 0.99 / 100));
    assert_int_equal(get(&l, "not")->count, 0);
    assert_int_equal(l.claim[0].verdict, LEDGER_REPRODUCED);
    ledger_free(&l);
}

/* All numbers of a long list; one that is missing is not left out. */
static void long_lists(void **state)
{
    enum { MANY = 5000 };
    ledger l;
    json *j = json_object(), *list = json_array(), *holes = json_array();
    error e;
    (void)state;
    for (int i = 0; i < MANY; i++) {
        json *one = json_object();
        json_put_number(one, "v", i);
        json_push(list, one);
        if (i % 1000) json_push(holes, json_copy(one));
        else json_push(holes, json_object());
    }
    json_put(j, "list", list);
    json_put(j, "holes", holes);
    json_put(j, "none", json_array());
    json *plain = json_array(), *twice = json_array();
    for (int i = 0; i < 7; i++) {
        json_push_number(plain, i + 1);
        json_push_number(twice, 2 * i + 2);
    }
    json_put(j, "plain", plain);
    json_put(j, "double", twice);
    put_run("map", "metrics.json", "{}");
    assert_int_equal(json_write_file(in_folder("map/metrics.json"), j, &e), 0);
    json_free(j);
#define OF_MAP(name, path) Q(name, "\"run\":\"map\",\"reduce\":\"mean\",\"path\":" path)
    open_ledger(&l,
                OF_MAP("whole", "\"list.*.v\"") "," OF_MAP("holes", "\"holes.*.v\"") ","
                OF_MAP("none", "[\"list.*.v\",\"none.*.v\"]") ","
                OF_MAP("name", "[\"list.*.v\",\"list.first.v\"]") ","
                Q("each", "\"run\":\"map\",\"each\":\"list\",\"path\":\"v\"") ","
                OF_MAP("plain", "\"plain.*\"") ","
                Q("turns", "\"run\":\"map\",\"turns\":[\"plain.*\",\"double.*\"]") ","
                Q("uneven", "\"run\":\"map\",\"turns\":[\"plain.*\",\"list.*.v\"]") ","
                Q("filter", "\"run\":\"map\",\"path\":\"list.[v=4999].v\""),
                RULE("turns < 0.6", "true") "," RULE("whole > 2499", "true"));
    ledger_measure(&l, &l.claim[0], folder);
    near(get(&l, "whole")->of->value, (MANY - 1) / 2.0);
    assert_int_equal(get(&l, "holes")->count, 0);
    assert_non_null(strstr(get(&l, "holes")->reason, "5 times to none"));
    assert_int_equal(get(&l, "none")->count, 0);
    assert_int_equal(get(&l, "name")->count, 0);
    assert_int_equal(get(&l, "each")->count, MANY);
    near(get(&l, "filter")->of->value, 4999);
    near(get(&l, "plain")->of->value, 4);
    near(get(&l, "turns")->of->value, 0.5);
    near(get(&l, "turns")->of->hi, 0.5);
    assert_int_equal(get(&l, "uneven")->count, 0);
    assert_int_equal(l.claim[0].verdict, LEDGER_REPRODUCED);
    ledger_free(&l);
}

#define ROW(kernel, status, time)                                              \
    "{\"kind\":\"case\",\"schema\":1,\"case\":\"" kernel "/n=64\",\"kernel\":\""  \
    kernel "\",\"env\":\"e\",\"status\":\"" status "\",\"time_ns\":" time "}\n"
#define TIMES(median, samples)                                                 \
    "{\"median\":" median ",\"lo\":1,\"hi\":9,\"min\":" median                   \
    ",\"samples\":[" samples "]}"
#define PROCESS(ns, touched) "{\"ns\":[" ns "],\"touched\":[" touched "]}"

static void rows_of_a_journal(void **state)
{
    ledger l;
    (void)state;
    put_run("sweep", "journal.jsonl",
            "{\"kind\":\"env\",\"schema\":1,\"id\":\"e\"}\n"
            ROW("old", "ok", TIMES("5", PROCESS("5,5,5", "")))
            ROW("fast", "ok", TIMES("2", PROCESS("2,2,2", "") ","
                                    PROCESS("4,4,4", "") "," PROCESS("1,1", "")))
            ROW("slow", "ok", TIMES("4", PROCESS("6,6,6", "") ","
                                    PROCESS("9,9,9", "0,1,2") ","
                                    PROCESS("9,3,3", "0")))
            ROW("short", "ok", TIMES("4", PROCESS("6,6,6", "")))
            ROW("failed", "memory", "null")
            ROW("old", "ok", TIMES("7", PROCESS("7,7,7", ""))));
    open_ledger(&l,
                Q("old", "\"run\":\"sweep\",\"path\":\"[kernel=old].time_ns.median\"") ","
                Q("min", "\"run\":\"sweep\",\"path\":\"[kernel=old].time_ns.min\"") ","
                Q("rounds", "\"run\":\"sweep\",\"rounds\":[\"[kernel=slow]\",\"[kernel=fast]\"]") ","
                Q("uneven", "\"run\":\"sweep\",\"rounds\":[\"[kernel=slow]\",\"[kernel=short]\"]") ","
                Q("single", "\"run\":\"sweep\",\"rounds\":[\"[kernel=short]\",\"[kernel=old]\"]") ","
                Q("all", "\"run\":\"sweep\",\"path\":\"[kind=case].time_ns.median\",\"reduce\":\"max\"") ","
                Q("said", "\"run\":\"sweep\",\"path\":\"[kernel=old].time_ns.min\",\"exact\":true"),
                RULE("rounds > 1", "true") "," RULE("single < 1", "false") ","
                RULE("min < 100", "false") "," RULE("said < 100", "false"));
    ledger_measure(&l, &l.claim[0], folder);
    near(get(&l, "old")->of->value, 7); /* the later row */
    near(get(&l, "old")->of->hi, 9);
    assert_true(isnan(get(&l, "min")->of->lo)); /* lo, hi are the median's */
    /* the second round has no clean sample: sqrt(6/2 * 3/1) */
    near(get(&l, "rounds")->of->value, 3);
    assert_non_null(strstr(get(&l, "rounds")->note, "1 of 3 rounds"));
    assert_int_equal(get(&l, "uneven")->count, 0);
    assert_non_null(strstr(get(&l, "uneven")->reason, "3 and 1 processes"));
    assert_true(isnan(get(&l, "single")->of->lo)); /* one round: no interval */
    assert_int_equal(get(&l, "all")->count, 0);    /* one case has no time   */
    static const enum ledger_outcome want[] = { H, O, O, H };
    for (int i = 0; i < 4; i++)
        assert_int_equal(l.claim[0].rule[i].outcome, want[i]);
    ledger_free(&l);
}

/* The ledger of the program: nothing in it is decided by a lack of numbers. */
static void own_ledger(void **state)
{
    ledger l;
    error e;
    (void)state;
    assert_int_equal(ledger_read(&l, NULL, &e), 0);
    for (int i = 0; i < l.claims; i++) {
        ledger_claim *c = &l.claim[i];
        ledger_decide(c);
        assert_int_equal(c->verdict, LEDGER_NOT_MEASURED);
        for (int q = 0; q < c->quantities; q++) {
            ledger_clear(&c->quantity[q]);
            for (int k = 0; k < 4; k++)
                ledger_add(&c->quantity[q], (ledger_number){ 1, NAN, NAN });
        }
        ledger_decide(c);
        for (int r = 0; r < c->rules; r++)
            assert_int_equal(c->rule[r].outcome, LEDGER_OPEN);
        assert_int_equal(c->verdict, LEDGER_UNCLEAR);
    }
    ledger_free(&l);
}

/* ---- progress ------------------------------------------------------------------------ */

/* What a stage prints where stderr is no terminal: a line with the time left, and
 * no other for a while. */
static void progress_without_terminal(void **state)
{
    char *text;
    size_t size;
    error e;
    progress bar;
    (void)state;
    const int before = dup(STDERR_FILENO);
    const int file = open(in_folder("stderr"), O_CREAT | O_RDWR, 0666);
    dup2(file, STDERR_FILENO);
    progress_begin(&bar, 40);
    progress_show(&bar, 10, "shown");
    progress_stage(&bar, stderr, 10, "early");
    bar.start -= 100;
    bar.told -= 100;
    progress_stage(&bar, stderr, 10, "stage");
    progress_stage(&bar, stderr, 11, "another");
    bar.told -= 100;
    progress_stage(&bar, stderr, 40, "end");
    progress_clear(&bar);
    dup2(before, STDERR_FILENO);
    close(before);
    close(file);
    assert_int_equal(file_read(in_folder("stderr"), 4096, &text, &size, &e), 0);
    assert_string_equal(text, "10/40  1:40  left ~5:00  stage\n"
                              "40/40  1:40  left ~0:00  end\n");
    free(text);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(which_samples_count),
        cmocka_unit_test(many_samples),
        cmocka_unit_test(rules_on_intervals),
        cmocka_unit_test(middles_do_not_decide),
        cmocka_unit_test(lists),
        cmocka_unit_test(verdicts),
        cmocka_unit_test(bad_ledgers),
        cmocka_unit_test(seeds_and_bounds),
        cmocka_unit_test(long_lists),
        cmocka_unit_test(rows_of_a_journal),
        cmocka_unit_test(own_ledger),
        cmocka_unit_test(progress_without_terminal),
    };
    test_arguments(argc, argv);
    if (!test_folder(folder, sizeof folder, "ledger")) return 1;
    const int failed =
        cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
    test_folder_remove(folder);
    return failed;
}
