/* rows.c - rows of the journal as a type: what is read is written again, values of
 * another type are refused, and what is said about rows is said of all of them. */
#include "test.h"

#include "../harness/journal.h"
#include "../harness/row.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A case that has every kind of member. */
static const char whole[] =
    "{\"kind\":\"case\",\"schema\":1,\"when\":\"2026-11-20T12:00:00Z\","
    "\"case\":\"m.k/n=64\",\"env\":\"e\",\"code\":\"c\",\"mechanism\":\"m\","
    "\"family\":null,\"kernel\":\"m.k\",\"plain\":true,\"level\":\"v3\","
    "\"threads\":2,\"pass\":\"forward\",\"problem\":{\"grid\":[64]},"
    "\"status\":\"ok\",\"reason\":null,\"time_ns\":{\"median\":2.5,\"lo\":null,"
    "\"n\":7,\"unreliable\":false,\"samples\":[{\"ns\":[1,2]}]},"
    "\"flop\":null,\"executed\":{\"mul_add\":3},\"roofline\":{\"fraction\":0.5},"
    "\"of_the_future\":{\"a\":1}}";

static json *parse(const char *text)
{
    json *j = json_parse(text, strlen(text), "test", NULL);
    assert_non_null(j);
    return j;
}

static void members_are_read(void **state)
{
    (void)state;
    struct row r;
    error e;
    json *j = parse(whole);
    assert_int_equal(row_read(&r, j, "f", 3, &e), 0);
    assert_string_equal(r.case_, "m.k/n=64");
    assert_true(r.threads == 2 && r.time_ns.median == 2.5 && r.time_ns.n == 7);
    assert_true(r.executed.mul_add == 3 && r.roofline.fraction == 0.5);
    assert_int_equal(r.plain, ROW_YES);
    assert_int_equal(r.time_ns.unreliable, ROW_NO);
    assert_int_equal(json_size(json_get(r.problem, "grid")), 1);
    /* what is null, and what is not there at all, is not known: never 0 */
    assert_true(isnan(r.time_ns.lo) && isnan(r.time_ns.hi));
    assert_true(isnan(r.flop.total) && isnan(r.paired.fraction));
    assert_null(r.family);
    assert_null(r.counters);
    assert_int_equal(r.roofline.implausible, ROW_UNKNOWN);
    assert_int_equal(r.time_ns.samples.processes, 1);
    assert_true(r.time_ns.samples.process[0].of[1].ns == 2);
    row_free(&r);
    json_free(j);
}

/* Samples are written with seven digits. */
static bool same_sample(const json *a, const json *b)
{
    const double x = json_number(a, NAN), y = json_number(b, NAN);
    return fabs(x - y) <= (x < 1e5 ? 0.00501 : 0.501);
}

/* Whether all that `a` has is in b, too; where a has null b may have none. */
static bool within(const json *a, const json *b)
{
    if (json_is_null(a)) return !b || json_is_null(b);
    if (json_is_array(a)) {
        if (!json_is_array(b) || json_size(a) != json_size(b)) return false;
        for (const json *x = json_first(a), *y = json_first(b); x;
             x = json_next(x), y = json_next(y))
            if (json_is_number(x) ? !same_sample(x, y) : !within(x, y))
                return false;
        return true;
    }
    if (!json_is_object(a)) {
        char *x = json_print(a, false), *y = b ? json_print(b, false) : NULL;
        const bool same = y && !strcmp(x, y);
        free(x);
        free(y);
        return same;
    }
    for (const json *x = json_first(a); x; x = json_next(x))
        if (!within(x, json_get(b, json_key(x)))) {
            print_error("%s\n", json_key(x));
            return false;
        }
    return true;
}

/* Everything that the list names comes back as it was. */
static void expect_round_trip(json *j, const char *path, int line)
{
    struct row r;
    error e;
    if (row_read(&r, j, path, line, &e) < 0) fail_msg("%s", e.text);
    json *written = row_write(&r);
    row_free(&r);
    json_put_number(j, "schema", JOURNAL_SCHEMA);
    json_put_null(j, "of_the_future");
    json_put_null(j, "binary"); /* of earlier versions */
    assert_true(within(j, written));
    json_free(written);
}

static void rows_come_back(void **state)
{
    (void)state;
    json *j = parse(whole);
    expect_round_trip(j, "test", 1);
    json_free(j);
}

static void reference_rows_come_back(void **state)
{
    (void)state;
    static const char *const folders[] = { "results/reference",
                                           "results/reference/speed",
                                           "results/reference/peers" };
    error e;
    int cases = 0;
    for (size_t f = 0; f < sizeof folders / sizeof *folders; f++) {
        journal all;
        if (journal_read(&all, folders[f], &e) < 0) fail_msg("%s", e.text);
        for (int i = 0; i < all.count; i++) {
            if (!row_has(json_text(json_get(all.rows[i], "kind")), "case"))
                continue;
            expect_round_trip(all.rows[i], all.path, all.line[i]);
            cases++;
        }
        journal_free(&all);
    }
    assert_true(cases > 100);
}

/* Reads the whole row with one text in it replaced by another. */
static void expect_refused(const char *old, const char *new, const char *said)
{
    char text[sizeof whole + 64];
    struct row r;
    error e;
    const char *at = strstr(whole, old);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - whole), whole, new,
             at + strlen(old));
    json *j = parse(text);
    assert_int_equal(row_read(&r, j, "dir/journal.jsonl", 12, &e), -1);
    if (strncmp(e.text, "dir/journal.jsonl:12: ", 22) || !strstr(e.text, said))
        fail_msg("%s", e.text);
    json_free(j);
}

static void other_types_are_refused(void **state)
{
    (void)state;
    expect_refused("\"median\":2.5", "\"median\":\"2.5\"",
                   "\"time_ns.median\" is a text and should be a number");
    expect_refused("\"n\":7", "\"n\":7.5",
                   "\"time_ns.n\" is a number that is not whole");
    expect_refused("\"median\":2.5", "\"median\":1e999", "not finite");
    expect_refused("\"plain\":true", "\"plain\":1",
                   "\"plain\" is a number and should be true or false");
    expect_refused("\"problem\":{\"grid\":[64]}", "\"problem\":[64]",
                   "\"problem\" is a list and should be an object");
    expect_refused("\"executed\":{\"mul_add\":3}", "\"executed\":3",
                   "\"executed\" is a number and should be an object");
    expect_refused("[{\"ns\":[1,2]}]", "{}", "should be a list: correct");
}

static void rows_are_whole(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        { "{\"kind\":\"case\",\"schema\":1}", "case" },
        { "{\"kind\":\"aa\",\"case\":\"c\",\"schema\":1}", NULL },
        { "{\"kind\":\"env\",\"kernel\":7}", "schema" },
        { whole, NULL },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct row r;
        const char *key = NULL;
        json *j = parse(rows[i][0]);
        assert_int_equal(row_read(&r, j, "f", 1, NULL), 0);
        assert_int_equal(row_is_whole(&r, &key), rows[i][1] == NULL);
        if (rows[i][1]) assert_string_equal(key, rows[i][1]);
        row_free(&r);
        json_free(j);
    }
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_read),
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(reference_rows_come_back),
        cmocka_unit_test(other_types_are_refused),
        cmocka_unit_test(rows_are_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
