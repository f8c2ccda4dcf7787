/* test.h - what the test programs share. */
#ifndef TEST_H
#define TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Arguments of a test program: `quick` (true: what is run under sanitizers), or
 * a pattern of the tests to run, such as 'softmax*'. */
bool test_arguments(int argc, char **argv);
bool test_selected(const char *name);

/* The folder for temporary files: TMPDIR, or /tmp. */
const char *test_tmp(void);

/* Runs a group of tests as cmocka does, and closes with the line "N passed, N failed,
 * N skipped" that tests/run adds up: our own counts, since what cmocka prints follows
 * its version.  Returns the status for main().  cmocka's own ways to run a group and
 * to skip a test lead here. */
int test_run(const char *name, const struct CMUnitTest *tests, size_t count,
             CMFixtureFunction setup, CMFixtureFunction teardown);
extern size_t test_skips;
#ifndef TEST_C
#define _cmocka_run_group_tests test_run
#undef skip
#define skip() (test_skips++, _skip(__FILE__, __LINE__))
#endif

/* Makes a folder of a test's own (in TMPDIR, or /tmp), and removes it with all that
 * is in it. */
bool test_folder(char *out, size_t size, const char *name);
void test_folder_remove(const char *folder);

/* Holds a figure's script FOLDER/NAME.gp against tests/drawn/NAME.gp, comments apart,
 * and fails at the first line that differs.  UPDATE=1 in the environment keeps the script
 * there instead: for figures that are meant to look different, and have been looked at. */
void test_drawn(const char *folder, const char *name);

#endif
