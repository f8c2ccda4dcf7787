/* files.c - what is read and written: whole files, JSON, journals, safetensors,
 * .npy, PNG, error lines.  Every reader also gets each beginning of a good file
 * and thousands of damaged ones: it must refuse or read them, not crash. */
#include "test.h"

#include "../harness/array.h"
#include "../harness/casefile.h"
#include "../harness/file.h"
#include "../harness/journal.h"
#include "../kernels/plan.h"
#include "../plots/png.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[200];

static const char *in_folder(const char *name)
{
    static char path[4][256];
    static int turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%s/%s", folder, name);
    return out;
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/attnbench-files-XXXXXX", test_tmp());
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[300];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) ? -1 : 0;
}

/* ---- lines for the user -------------------------------------------------------- */

static void error_lines(void **state)
{
    (void)state;
    error e;
    assert_int_equal(error_set(&e, "a\nb\tc %d", 7), -1);
    assert_string_equal(e.text, "a b c 7");
    error_set(&e, "again: %s", e.text);
    assert_string_equal(e.text, "again: a b c 7");
    assert_int_equal(error_set(NULL, "nobody listens"), -1);
    char *many = malloc(5000);
    memset(many, 'x', 4999);
    many[4999] = 0;
    error_set(&e, "%s", many);
    assert_true(strlen(e.text) == sizeof e.text - 1);
    free(many);
}

static void nearest_names(void **state)
{
    (void)state;
    static const char *const names[] = { "softmax.flash", "softmax.naive",
                                         "na2d.tiled" };
    assert_string_equal(error_nearest("softmax.falsh", names, 3),
                        "softmax.flash");
    assert_string_equal(error_nearest("SOFTMAX.NAIVE", names, 3),
                        "softmax.naive");
    assert_string_equal(error_nearest("na2d", names, 3), "na2d.tiled");
    assert_null(error_nearest("zebra", names, 3));
    assert_null(error_nearest("", names, 3));
    assert_null(error_nearest("softmax.flash", names, 0));
}

/* ---- whole files ------------------------------------------------------------------ */

static char *content(const char *path, size_t *size)
{
    char *data;
    error e;
    if (file_read(path, 1 << 24, &data, size, &e)) fail_msg("%s", e.text);
    return data;
}

static void files_round_trip(void **state)
{
    (void)state;
    error e;
    size_t size;
    const char *path = in_folder("a");
    assert_int_equal(file_write(path, "one\0two", 7, &e), 0);
    char *data = content(path, &size);
    assert_int_equal(size, 7);
    assert_memory_equal(data, "one\0two", 8);
    free(data);
    assert_int_equal(file_write(path, "", 0, &e), 0);
    data = content(path, &size);
    assert_int_equal(size, 0);
    free(data);
    assert_int_equal(file_write(path, "12345", 5, &e), 0);
    assert_int_equal(file_read(path, 4, &data, &size, &e), -1);
    assert_non_null(strstr(e.text, path));
    assert_int_equal(file_read(path, 5, &data, &size, &e), 0);
    free(data);
    assert_int_equal(file_read(in_folder("none"), 5, &data, &size, &e), -1);
    assert_int_equal(file_read(folder, 5, &data, &size, &e), -1);
}

static int entries_of_folder(void)
{
    char command[300];
    snprintf(command, sizeof command, "test \"$(ls -A '%s' | wc -l)\" = 1",
             folder);
    return system(command);
}

static void unfinished_files_vanish(void **state)
{
    (void)state;
    error e;
    size_t size;
    file_writer w;
    remove_folder(NULL);
    assert_int_equal(mkdir(folder, 0777), 0);
    const char *path = in_folder("b");
    assert_int_equal(file_write(path, "old", 3, &e), 0);
    assert_int_equal(file_begin(&w, path, &e), 0);
    fputs("new", w.stream);
    file_abandon(&w);
    char *data = content(path, &size);
    assert_string_equal(data, "old");
    free(data);
    assert_int_equal(entries_of_folder(), 0); /* no temporary left */
    assert_int_equal(file_begin(&w, path, &e), 0);
    fputs("new", w.stream);
    assert_int_equal(file_commit(&w, &e), 0);
    data = content(path, &size);
    assert_string_equal(data, "new");
    free(data);
    assert_int_equal(entries_of_folder(), 0);

    assert_int_equal(file_write(in_folder("no/such/folder"), "x", 1, &e), -1);
    assert_int_equal(file_write(folder, "x", 1, &e), -1);
    assert_int_equal(file_write("/dev/full", "x", 1, &e), -1);
}

static void folders(void **state)
{
    (void)state;
    error e;
    assert_int_equal(folder_make(in_folder("x/y/z"), &e), 0);
    assert_int_equal(folder_make(in_folder("x/y/z"), &e), 0);
    assert_int_equal(folder_make(in_folder("x/y/z/"), &e), 0);
    assert_int_equal(file_write(in_folder("x/file"), "1", 1, &e), 0);
    assert_int_equal(folder_make(in_folder("x/file"), &e), -1);
    assert_int_equal(folder_make(in_folder("x/file/more"), &e), -1);
    char *joined = path_join("a", "b");
    assert_string_equal(joined, "a/b");
    free(joined);
}

/* ---- JSON ----------------------------------------------------------------------------- */

static void json_round_trip(void **state)
{
    (void)state;
    error e;
    static const char text[] =
        "{\"a\":1,\"b\":[true,false,null,\"x\\\"\\u00e9\\n\"],\"c\":{\"d\":-2.5e-7}}";
    json *j = json_parse(text, strlen(text), "here", &e);
    assert_non_null(j);
    char *one = json_print(j, false);
    json *k = json_parse(one, strlen(one), "again", &e);
    char *two = json_print(k, false);
    assert_string_equal(one, two);
    assert_null(strchr(one, '\n'));
    assert_int_equal(json_size(j), 3);
    assert_true(json_number(json_get(json_get(j, "c"), "d"), 0) == -2.5e-7);
    assert_true(json_true(json_at(json_get(j, "b"), 0)));
    assert_true(json_is_null(json_at(json_get(j, "b"), 2)));
    assert_null(json_get(json_get(j, "missing"), "more"));
    assert_true(json_number(NULL, 3) == 3);
    assert_null(json_text(json_get(j, "a")));
    free(one);
    free(two);
    json_free(j);
    json_free(k);
}

/* Doubles come back but for the last bits, what is not finite becomes null. */
static void json_numbers(void **state)
{
    (void)state;
    uint64_t seed = 1;
    error e;
    json *j = json_object();
    json_put_number(j, "nan", NAN);
    json_put_number(j, "inf", INFINITY);
    assert_true(json_is_null(json_get(j, "nan")));
    assert_true(json_is_null(json_get(j, "inf")));
    json_free(j);
    for (int i = 0; i < 2000; i++) {
        const double x = att_normal(&seed) * exp2(i % 200 - 100);
        j = json_array();
        json_push_number(j, x);
        char *text = json_print(j, false);
        json *k = json_parse(text, strlen(text), "", &e);
        if (fabs(json_number(json_at(k, 0), 0) - x) > 0x1p-51 * fabs(x))
            fail_msg("%.17g printed as %s", x, text);
        free(text);
        json_free(j);
        json_free(k);
    }
}

static void bad_json_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "",      "{",    "[1,]",  "{\"a\":}",
                                       "nul",   "1 2",  "{} x",  "\"\\q\"",
                                       "[1\n2", "'a'",  "{a:1}", "]" };
    error e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json *j = json_parse(bad[i], strlen(bad[i]), "NAME", &e);
        if (j) fail_msg("taken: %s", bad[i]);
        assert_non_null(strstr(e.text, "NAME"));
    }
    const char two_lines[] = "{\n\"a\": oops\n}";
    assert_null(json_parse(two_lines, strlen(two_lines), "NAME", &e));
    assert_non_null(strstr(e.text, "NAME:2:"));

    const size_t deep = 200000;
    char *nest = malloc(deep);
    memset(nest, '[', deep);
    assert_null(json_parse(nest, deep, "deep", &e));
    free(nest);
    assert_null(json_read_file(in_folder("no.json"), &e));
    assert_non_null(strstr(e.text, "no.json"));
}

/* ---- journal ---------------------------------------------------------------------------- */

static json *row_of(const char *kind, int number)
{
    json *row = json_object();
    json_put_text(row, "kind", kind);
    json_put_number(row, "schema", JOURNAL_SCHEMA);
    json_put_number(row, "number", number);
    json_put_text(row, "env", "e1");
    if (!strcmp(kind, "env")) json_put_text(row, "id", "e1");
    return row;
}

static void append(journal_writer *w, const char *kind, int number)
{
    error e;
    json *row = row_of(kind, number);
    if (journal_append(w, row, &e)) fail_msg("%s", e.text);
    json_free(row);
}

static void write_journal(const char *dir, int rows)
{
    journal_writer w;
    error e;
    if (journal_open(&w, dir, NULL, &e)) fail_msg("%s", e.text);
    append(&w, "env", 0);
    for (int i = 1; i < rows; i++) append(&w, "case", i);
    journal_close(&w);
}

static void add_text(const char *dir, const char *text)
{
    char *path = path_join(dir, "journal.jsonl");
    FILE *f = fopen(path, "ab");
    fputs(text, f);
    fclose(f);
    free(path);
}

static void journals_round_trip(void **state)
{
    (void)state;
    const char *dir = in_folder("j1");
    journal j;
    error e;
    write_journal(dir, 5);
    write_journal(dir, 2); /* goes on at the end */
    assert_int_equal(journal_read(&j, dir, &e), 0);
    assert_int_equal(j.count, 7);
    assert_int_equal(j.torn, 0);
    for (int i = 0; i < 5; i++)
        assert_true(json_number(json_get(j.rows[i], "number"), -1) == i);
    assert_ptr_equal(journal_env(&j, &j.row[3]), j.rows[0]);
    journal_free(&j);
}

static void add_bytes(const char *dir, const char *bytes, size_t size)
{
    char *path = path_join(dir, "journal.jsonl");
    FILE *f = fopen(path, "ab");
    fwrite(bytes, 1, size, f);
    fclose(f);
    free(path);
}

static void expect_rows(const char *dir, int count, int torn)
{
    journal j;
    error e;
    if (journal_read(&j, dir, &e)) fail_msg("%s: %s", dir, e.text);
    assert_int_equal(j.count, count);
    assert_int_equal(j.torn, torn);
    journal_free(&j);
}

/* Whatever a crash leaves of our last row, earlier rows are there and the next
 * run goes on behind them. */
static void torn_rows_are_cut(void **state)
{
    (void)state;
    static const struct { const char *text; size_t size; } torn[] = {
        { "{", 1 },
        { "{\"ki", 4 },
        { "{\"kind\":\"case\"", 14 },
        { "{\"kind\":\"case\",\"a\":[{},\"}]}\\\"", 29 },
        { "{\"attnbench\":\"1.0\",", 19 },
        { "{\"kind\":\"ca\0\0\0\0", 15 },
        { "\0\0\0\0", 4 },
    };
    for (size_t i = 0; i < sizeof torn / sizeof *torn; i++) {
        char name[16];
        snprintf(name, sizeof name, "torn%zu", i);
        const char *dir = in_folder(name);
        write_journal(dir, 3);
        add_bytes(dir, torn[i].text, torn[i].size);
        expect_rows(dir, 3, 1);
        write_journal(dir, 2);
        expect_rows(dir, 5, 0);
    }
    /* all of a row but its newline is a row */
    const char *dir = in_folder("whole but newline");
    write_journal(dir, 3);
    add_text(dir, "{\"kind\":\"case\",\"schema\":1}");
    expect_rows(dir, 4, 0);
    write_journal(dir, 2);
    expect_rows(dir, 6, 0);
}

/* What is not the beginning of a row of ours is refused and stays as it is. */
static void foreign_journals_stay(void **state)
{
    (void)state;
    static const char *const foreign[] = {
        "garbage\n", "{\"a\":\n", "garbage", "{\"a\": [1, 2",
        "[{\"kind\":\"case\",\"schema\":1}]", "[{\"kind\":\"case\"",
        "{\"kind\":\"case\",\"schema\":1}{\"kind\":\"case\",\"schema\":1}",
        "{\"kind\":\"case\",\"schema\":1}{\"kind\":\"ca",
        "{\n  \"kind\": \"case\",\n  \"schema\": 1\n}",
        "{\"kind\":\"case\",\"schema\":99}", "{\"kind\":\"case\"\n",
    };
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        for (int rows = 0; rows < 3; rows += 2) {
            char name[24];
            size_t before, after;
            journal_writer w;
            error e;
            snprintf(name, sizeof name, "foreign%zu-%d", i, rows);
            const char *dir = in_folder(name);
            char *path = path_join(dir, "journal.jsonl");
            if (rows) write_journal(dir, rows);
            else assert_int_equal(mkdir(dir, 0777), 0);
            add_text(dir, foreign[i]);
            char *old = content(path, &before);
            if (journal_open(&w, dir, NULL, &e) == 0)
                fail_msg("taken for a journal: %s", foreign[i]);
            assert_non_null(strstr(e.text, path));
            char *now = content(path, &after);
            assert_int_equal(after, before);
            assert_memory_equal(now, old, before);
            free(now);
            free(old);
            free(path);
        }
}

/* Empty lines, those of other systems, a mark of the encoding. */
static void journals_of_editors(void **state)
{
    (void)state;
    const char *dir = in_folder("edited");
    journal j;
    error e;
    assert_int_equal(mkdir(dir, 0777), 0);
    add_text(dir, "\xef\xbb\xbf\r\n{\"kind\":\"case\",\"schema\":1}\r\n\n \t\r\n"
                  "{\"kind\":\"env\",\"schema\":1,\"id\":\"e\"}\r\n\r\n");
    write_journal(dir, 2);
    if (journal_read(&j, dir, &e)) fail_msg("%s", e.text);
    assert_int_equal(j.count, 4);
    assert_int_equal(j.envs, 2);
    assert_int_equal(j.line[0], 2);
    assert_int_equal(j.line[1], 5);
    journal_free(&j);
    add_text(dir, "\n\noops\n");
    assert_int_equal(journal_read(&j, dir, &e), -1);
    assert_non_null(strstr(e.text, ":11:"));
}

/* A link stays one, and what it names is written, there or not. */
static void links_are_followed(void **state)
{
    (void)state;
    static const struct { const char *link, *to; } links[] = {
        { "link-near", "target" },
        { "link-up", "deep/../target" },
        { "link-deep", "deep/target" },
        { "link-twice", "link-deep" },
        { "deep/link-back", "../target" },
    };
    struct stat about;
    char path[300], to[300];
    size_t size;
    error e;
    assert_int_equal(folder_make(in_folder("links/deep"), &e), 0);
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        for (int again = 0; again < 2; again++) {
            snprintf(path, sizeof path, "%s/links/%s", folder, links[i].link);
            snprintf(to, sizeof to, "%s/links/%s", folder,
                     i == 2 || i == 3 ? "deep/target" : "target");
            if (!again) assert_int_equal(symlink(links[i].to, path), 0);
            if (!again && i != 3) unlink(to); /* a link to nothing */
            if (again) assert_int_equal(chmod(to, 0640), 0);
            if (file_write(path, "abc", 3, &e)) fail_msg("%s", e.text);
            assert_int_equal(lstat(path, &about), 0);
            assert_true(S_ISLNK(about.st_mode));
            char *data = content(to, &size);
            assert_string_equal(data, "abc");
            free(data);
            if (!again) continue;
            assert_int_equal(stat(to, &about), 0);
            assert_int_equal(about.st_mode & 0777, 0640);
        }
    /* a folder that takes no new file: here, since the name is taken */
    snprintf(path, sizeof path, "%s/links/target.%ld.tmp", folder,
             (long)getpid());
    assert_int_equal(mkdir(path, 0777), 0);
    if (file_write(in_folder("links/target"), "longer text", 11, &e) ||
        file_write(in_folder("links/target"), "short", 5, &e))
        fail_msg("%s", e.text);
    char *data = content(in_folder("links/target"), &size);
    assert_string_equal(data, "short");
    free(data);
    rmdir(path);

    if (file_write(in_folder("links/from"), "moved", 5, &e) ||
        file_move(in_folder("links/from"), in_folder("links/link-near"), &e))
        fail_msg("%s", e.text);
    data = content(in_folder("links/target"), &size);
    assert_string_equal(data, "moved");
    free(data);
    assert_int_equal(stat(in_folder("links/from"), &about), -1);
    assert_int_equal(file_move(in_folder("links/none"), path, &e), -1);

    assert_int_equal(symlink("round", in_folder("links/round")), 0);
    assert_int_equal(file_write(in_folder("links/round"), "x", 1, &e), -1);
    assert_int_equal(symlink("none/file", in_folder("links/lost")), 0);
    assert_int_equal(file_write(in_folder("links/lost"), "x", 1, &e), -1);
    assert_int_equal(symlink("made", in_folder("links/folder")), 0);
    assert_int_equal(folder_make(in_folder("links/folder/below"), &e), 0);
    assert_int_equal(stat(in_folder("links/made/below"), &about), 0);
    assert_int_equal(file_write("-", "x", 1, &e), -1);
    assert_int_equal(folder_make("-", &e), -1);
    assert_int_equal(file_write("/dev/stdout", "x", 1, &e), -1);
}

static void broken_journals_are_named(void **state)
{
    (void)state;
    static const struct { const char *name, *text, *place; } bad[] = {
        { "mid", "oops\n{\"kind\":\"case\",\"schema\":1}\n", ":3:" },
        { "schema", "{\"kind\":\"case\",\"schema\":99}\n", ":3:" },
        { "kind", "{\"schema\":1}\n", ":3:" },
        { "list", "[1]\n", ":3:" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *dir = in_folder(bad[i].name);
        journal j;
        error e;
        write_journal(dir, 2);
        add_text(dir, bad[i].text);
        assert_int_equal(journal_read(&j, dir, &e), -1);
        if (!strstr(e.text, bad[i].place))
            fail_msg("%s: no line number in '%s'", bad[i].name, e.text);
    }
    journal j;
    error e;
    assert_int_equal(journal_read(&j, in_folder("nothing here"), &e), -1);
}

static void journals_are_locked(void **state)
{
    (void)state;
    const char *dir = in_folder("lock");
    journal_writer a, b;
    error e;
    assert_int_equal(journal_open(&a, dir, NULL, &e), 0);
    assert_int_equal(journal_open(&b, dir, NULL, &e), -1);
    assert_non_null(strstr(e.text, dir));
    journal_close(&a);
    assert_int_equal(journal_open(&b, dir, NULL, &e), 0);
    journal_close(&b);
    assert_int_equal(journal_open(&b, "/proc/no", NULL, &e), -1);
}

/* ---- safetensors -------------------------------------------------------------------------- */

static const float some[6] = { 0, 1, -2.5f, 3.25f, 65504, 0.099976f };

static void write_archive(const char *path)
{
    static const double exact[2] = { 1e300, -1.0 / 3 };
    const archive_item items[] = {
        { "single", ARRAY_F32, 2, { 2, 3 }, some },
        { "double", ARRAY_F64, 1, { 2 }, exact },
        { "half", ARRAY_F16, 1, { 6 }, some },
        { "brain", ARRAY_BF16, 3, { 1, 2, 3 }, some },
        { "empty", ARRAY_F32, 2, { 0, 3 }, some },
        { "scalar", ARRAY_F32, 0, { 0 }, some + 1 },
    };
    const char *const metadata[] = { "op", "softmax", "odd \"key\"",
                                     "val\nue \xc3\xa9", NULL };
    error e;
    if (archive_write(path, items, 6, metadata, &e)) fail_msg("%s", e.text);
}

static void archives_round_trip(void **state)
{
    (void)state;
    archive a;
    error e;
    double x[6];
    float y[6];
    const char *path = in_folder("a.safetensors");
    write_archive(path);
    if (archive_read(&a, path, &e)) fail_msg("%s", e.text);
    assert_int_equal(a.count, 6);
    assert_string_equal(archive_metadata(&a, "op"), "softmax");
    assert_string_equal(archive_metadata(&a, "odd \"key\""), "val\nue \xc3\xa9");
    assert_null(archive_metadata(&a, "none"));
    assert_null(archive_find(&a, "none"));
    const array *t = archive_find(&a, "single");
    assert_int_equal(t->dims, 2);
    assert_int_equal(t->dim[1], 3);
    array_to_float(t, y);
    assert_memory_equal(y, some, sizeof some);
    array_to_double(archive_find(&a, "double"), x);
    assert_true(x[0] == 1e300 && x[1] == -1.0 / 3);
    array_to_double(archive_find(&a, "half"), x);
    for (int i = 0; i < 6; i++)
        assert_true(fabs(x[i] - some[i]) <= fabs(some[i]) * 0x1p-11);
    array_to_double(archive_find(&a, "brain"), x);
    for (int i = 0; i < 6; i++)
        assert_true(fabs(x[i] - some[i]) <= fabs(some[i]) * 0x1p-8);
    assert_int_equal(archive_find(&a, "empty")->elements, 0);
    assert_int_equal(archive_find(&a, "scalar")->elements, 1);
    archive_free(&a);
}

/* A header and that many bytes of data. */
static void write_raw(const char *path, const char *header, uint64_t claimed,
                      size_t bytes)
{
    FILE *f = fopen(path, "wb");
    fwrite(&claimed, 8, 1, f);
    fputs(header, f);
    for (size_t i = 0; i < bytes; i++) fputc(0, f);
    fclose(f);
}

static void hostile_headers(void **state)
{
    (void)state;
    static const struct { const char *header; size_t bytes; } bad[] = {
        { "", 0 },
        { "[]", 0 },
        { "{\"a\":1}", 0 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", 8 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,15]}}", 15 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4],"
          "\"data_offsets\":[0,0]}}", 0 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1e300],\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":\"Q7\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],"
          "\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
          "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}", 6 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
          "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8 },
        { "{\"__metadata__\":{\"op\":1}}", 0 },
        { "{\"__metadata__\":[]}", 0 },
    };
    const char *path = in_folder("bad.safetensors");
    archive a;
    error e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_raw(path, bad[i].header, strlen(bad[i].header), bad[i].bytes);
        if (archive_read(&a, path, &e) == 0)
            fail_msg("taken: %s with %zu bytes", bad[i].header, bad[i].bytes);
        assert_non_null(strstr(e.text, path));
    }
    const uint64_t claims[] = { 0, 1, 1000, 1ull << 31, 1ull << 40, UINT64_MAX,
                                UINT64_MAX - 7 };
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        write_raw(path, "{}", claims[i], 0);
        assert_int_equal(archive_read(&a, path, &e), -1);
    }
}

/* ---- damaged files of every kind ------------------------------------------------------- */

typedef void reader(const char *path);

static void read_archive(const char *path)
{
    archive a;
    error e;
    if (archive_read(&a, path, &e)) return;
    for (int i = 0; i < a.count; i++) {
        double *x = malloc((a.items[i].elements + 1) * sizeof *x);
        array_to_double(&a.items[i], x);
        free(x);
    }
    archive_free(&a);
}

static void read_case(const char *path)
{
    case_file c;
    check_values v;
    case_result r;
    error e;
    if (case_file_read(&c, path, &e)) return;
    const size_t least = inputs_bytes(c.mechanism, &c.problem, c.grad);
    if (least < 1 << 20) {
        if (!check_values_make(&v, c.mechanism, &c.problem, c.grad, &e) &&
            !case_file_fill(&c, &v, &e))
            case_file_compare(&c, &v, false, &r, &e);
        check_values_free(&v);
    }
    case_file_free(&c);
}

/* A case file of softmax on 4 tokens, 2 heads, but for one key or tensor. */
static void write_case(const char *path, const char *op, const char *key,
                       const char *value, const char *tensor, size_t heads,
                       size_t rows, size_t columns)
{
    static const float zeros[4096];
    const char *const names[] = { "q", "k", "v", "out" };
    const char *metadata[] = { "op", op, "grid", "4", "heads", "2",
                               "head_dim", "3", key, value, NULL };
    archive_item items[5];
    int count = 0;
    error e;
    for (int i = 0; i < 4; i++)
        if (!tensor || strcmp(names[i], tensor))
            items[count++] = (archive_item){ names[i], ARRAY_F32, 3,
                                             { 2, 4, 3 }, zeros };
    if (tensor)
        items[count++] = (archive_item){ tensor, ARRAY_F32, 3,
                                         { heads, rows, columns }, zeros };
    if (archive_write(path, items, count, metadata, &e)) fail_msg("%s", e.text);
}

/* One line with what is wrong; NULL: nothing is. */
static void expect_case(const char *path, const char *const words[3])
{
    case_file c;
    check_values v = { 0 };
    case_result r;
    error e = { 0 };
    bool refused = case_file_read(&c, path, &e) != 0;
    if (!refused) {
        if (check_values_make(&v, c.mechanism, &c.problem, false, &e) ||
            case_file_fill(&c, &v, &e))
            fail_msg("%s", e.text);
        check_reference(&v, NULL);
        refused = case_file_compare(&c, &v, true, &r, &e) != 0;
        check_values_free(&v);
        case_file_free(&c);
    }
    if (refused != (words[0] != NULL)) fail_msg("%s", refused ? e.text : path);
    for (int i = 0; i < 3 && words[i]; i++)
        if (!strstr(e.text, words[i])) fail_msg("%s in %s", words[i], e.text);
    if (refused && (!strstr(e.text, path) || strchr(e.text, '\n')))
        fail_msg("%s", e.text);
}

/* Whatever a case file holds is read or refused with file, key and value. */
static void case_files_are_read_or_refused(void **state)
{
    (void)state;
    const char *path = in_folder("case.safetensors");
    static const struct {
        const char *op, *key, *value, *tensor;
        size_t heads, rows, columns;
        const char *words[3];
    } cases[] = {
        { "softmax", "causal", "0", NULL, 0, 0, 0, { NULL } },
        { "softmax", "causal", "False", NULL, 0, 0, 0, { NULL } },
        { "softmax", "causal", "perhaps", NULL, 0, 0, 0, { "causal", "perhaps" } },
        { "softmax", "dropout", "0.1", NULL, 0, 0, 0, { "unknown", "dropout" } },
        { "softmax", "eps", "1e-6", NULL, 0, 0, 0, { "eps=1e-6", "leave it out" } },
        { "softmax", "eps", "0", NULL, 0, 0, 0, { NULL } },
        { "softmax", "causal", "0", "k", 1, 4, 3, { "'k' is [1, 4, 3]", "[2, 4, 3]", "grouped" } },
        { "softmax", "causal", "0", "k", 2, 3, 4, { "'k' is [2, 3, 4]" } },
        { "softmax", "causal", "0", "k", 2, 12, 1, { "'k' is [2, 12, 1]" } },
        { "softmax", "causal", "0", "out", 4, 2, 3, { "'out' is [4, 2, 3]" } },
        { "softmax", "causal", "0", "attn", 4, 4, 2, { "'attn' is [4, 4, 2]" } },
        { "softmax", "causal", "0", "attn", 2, 4, 4, { NULL } },
        { "softmax", "causal", "0", "sinks", 2, 1, 1, { "no tensor 'sinks'" } },
        { "linear", "eps", "1e-6", NULL, 0, 0, 0, { NULL } },
        { "linear", "eps", "1e-3", NULL, 0, 0, 0, { "eps=1e-3", "1e-06" } },
        { "linear", "feature_map", "elu+1", NULL, 0, 0, 0, { NULL } },
        { "linear", "feature_map", "swish", NULL, 0, 0, 0, { "feature_map=swish" } },
        { "pairwise", "cost", "squared", NULL, 0, 0, 0, { NULL } },
        { "pairwise", "cost", "cubed", NULL, 0, 0, 0, { "cost=cubed" } },
        { "pairwise", "mask", "band", NULL, 0, 0, 0, { "no tensor 'mask'" } },
        { "pairwise", "mask", "band1global0", NULL, 0, 0, 0, { "mask=band1global0" } },
        { "pairwise", "norm_eps", "1e-6", NULL, 0, 0, 0, { "norm_eps=1e-6" } },
        { "pairwise", "offset", "-1", NULL, 0, 0, 0, { "offset", "sigmoid" } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_case(path, cases[i].op, cases[i].key, cases[i].value,
                   cases[i].tensor, cases[i].heads, cases[i].rows,
                   cases[i].columns);
        expect_case(path, cases[i].words);
    }
}

static void read_npy(const char *path)
{
    int dims;
    size_t dim[ARRAY_DIMS];
    double *data;
    error e;
    if (npy_read(path, &dims, dim, &data, &e) == 0) free(data);
}

static void read_png(const char *path)
{
    picture p;
    error e;
    if (png_read_picture(path, &p, &e) == 0) picture_free(&p);
}

static void read_json(const char *path)
{
    error e;
    json_free(json_read_file(path, &e));
}

static void write_bytes(const char *path, const char *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    fwrite(data, 1, size, f);
    fclose(f);
}

/* Every beginning of the file, then random bytes changed in place, so many
 * times. */
static void damage(const char *good, reader *read, int times)
{
    size_t size;
    uint64_t seed = 99;
    char *data = content(good, &size);
    const char *path = in_folder("damaged");
    const size_t step = size / 400 + 1;
    for (size_t n = 0; n < size; n += step) {
        write_bytes(path, data, n);
        read(path);
    }
    for (int i = 0; i < times; i++) {
        char *copy = malloc(size);
        memcpy(copy, data, size);
        /* mostly in the header, where the sizes are */
        const size_t room = i % 3 && size > 600 ? 600 : size;
        for (int k = i % 4; k >= 0; k--)
            copy[att_random(&seed) % room] =
                (char)(i % 2 ? att_random(&seed) : '0' + att_random(&seed) % 75);
        write_bytes(path, copy, size);
        read(path);
        free(copy);
    }
    free(data);
}

static void damaged_archives(void **state)
{
    (void)state;
    const char *path = in_folder("good.safetensors");
    write_archive(path);
    damage(path, read_archive, 1500);
}

static void damaged_case_files(void **state)
{
    (void)state;
    damage("tests/golden/menu_scaled_dot_softmax_band2_h1_n10_d4.safetensors",
           read_case, 1500);
    damage("tests/golden/aft_conv_h2_3x5_d3_s5.safetensors", read_case, 1500);
}

static void damaged_npy(void **state)
{
    (void)state;
    const size_t dim[] = { 2, 3 };
    int dims;
    size_t got[ARRAY_DIMS];
    double *data;
    error e;
    const char *path = in_folder("good.npy");
    assert_int_equal(npy_write(path, ARRAY_F32, 2, dim, some, &e), 0);
    assert_int_equal(npy_read(path, &dims, got, &data, &e), 0);
    assert_int_equal(dims, 2);
    assert_int_equal(got[1], 3);
    for (int i = 0; i < 6; i++) assert_true(data[i] == some[i]);
    free(data);
    damage(path, read_npy, 1500);
}

static void damaged_png(void **state)
{
    (void)state;
    enum { W = 37, H = 11 };
    uint8_t pixels[W * H * 3];
    picture p;
    error e;
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 7);
    const png_note note = { "Title", "a test" };
    const png_target image = { .width = W, .height = H, .pixels = pixels,
                               .notes = &note, .note_count = 1 };
    const char *path = in_folder("good.png");
    assert_int_equal(png_write_rgb(path, &image, &e), 0);
    assert_int_equal(png_read_picture(path, &p, &e), 0);
    assert_int_equal(p.width, W);
    assert_int_equal(p.height, H);
    assert_int_equal(p.channels, 3);
    for (size_t i = 0; i < sizeof pixels; i++)
        assert_true(fabsf(p.sample[i] - pixels[i] / 255.0f) < 1e-6f);
    picture_free(&p);
    damage(path, read_png, 150); /* libpng clears 8 MB for a damaged text */
}

static void damaged_suites(void **state)
{
    (void)state;
    damage("harness/suites/smoke.json", read_json, 1500);
}

static void damaged_journals(void **state)
{
    (void)state;
    uint64_t seed = 4;
    size_t size;
    write_journal(in_folder("whole"), 6);
    char *data = content(in_folder("whole/journal.jsonl"), &size);
    assert_int_equal(mkdir(in_folder("broken"), 0777), 0);
    for (int i = 0; i < 600; i++) {
        char *copy = malloc(size);
        journal j;
        error e;
        memcpy(copy, data, size);
        copy[att_random(&seed) % size] = (char)att_random(&seed);
        write_bytes(in_folder("broken/journal.jsonl"), copy,
                    i % 2 ? size : att_random(&seed) % size);
        if (journal_read(&j, in_folder("broken"), &e) == 0) journal_free(&j);
        free(copy);
    }
    free(data);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_lines),
        cmocka_unit_test(nearest_names),
        cmocka_unit_test(files_round_trip),
        cmocka_unit_test(unfinished_files_vanish),
        cmocka_unit_test(folders),
        cmocka_unit_test(json_round_trip),
        cmocka_unit_test(json_numbers),
        cmocka_unit_test(bad_json_is_refused),
        cmocka_unit_test(journals_round_trip),
        cmocka_unit_test(links_are_followed),
        cmocka_unit_test(torn_rows_are_cut),
        cmocka_unit_test(foreign_journals_stay),
        cmocka_unit_test(journals_of_editors),
        cmocka_unit_test(broken_journals_are_named),
        cmocka_unit_test(journals_are_locked),
        cmocka_unit_test(archives_round_trip),
        cmocka_unit_test(hostile_headers),
        cmocka_unit_test(damaged_archives),
        cmocka_unit_test(damaged_case_files),
        cmocka_unit_test(case_files_are_read_or_refused),
        cmocka_unit_test(damaged_npy),
        cmocka_unit_test(damaged_png),
        cmocka_unit_test(damaged_suites),
        cmocka_unit_test(damaged_journals),
    };
    test_arguments(argc, argv);
    return cmocka_run_group_tests_name("files", tests, make_folder,
                                       remove_folder);
}
