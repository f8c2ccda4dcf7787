/* test.c - arguments, running and counting of a test program. */
#define TEST_C
#include "test.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

size_t test_skips;

static const char *pattern;

/* Threads that spin at barriers starve each other on a busy machine; OpenMP reads
 * its environment only at the start. */
static void wait_passively(char **argv)
{
    if (getenv("OMP_WAIT_POLICY")) return;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    execv("/proc/self/exe", argv);
}

bool test_arguments(int argc, char **argv)
{
    bool quick = false;
    wait_passively(argv);
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "quick")) quick = true;
        else cmocka_set_test_filter(pattern = argv[i]);
    return quick;
}

bool test_selected(const char *name)
{
    return !pattern || !fnmatch(pattern, name, 0);
}

const char *test_tmp(void)
{
    const char *folder = getenv("TMPDIR");
    return folder && *folder && strlen(folder) < 150 ? folder : "/tmp";
}

/* ---- counts ---------------------------------------------------------------------- */

static size_t begun, ended;

/* Stands for a test as its state. */
typedef struct wrapped {
    const struct CMUnitTest *test;
    void *own; /* the test's own state */
} wrapped;

static int set_up(void **state)
{
    wrapped *w = *state;
    return w->test->setup_func ? w->test->setup_func(&w->own) : 0;
}

/* One that fails or is skipped does not come back. */
static void counted(void **state)
{
    wrapped *w = *state;
    begun++;
    w->test->test_func(&w->own);
    ended++;
}

static int tear_down(void **state)
{
    wrapped *w = *state;
    return w->test->teardown_func ? w->test->teardown_func(&w->own) : 0;
}

int test_run(const char *name, const struct CMUnitTest *tests, size_t count,
             CMFixtureFunction setup, CMFixtureFunction teardown)
{
    struct CMUnitTest *list = calloc(count + 1, sizeof *list);
    wrapped *all = calloc(count + 1, sizeof *all);
    if (!list || !all) return 1;
    for (size_t i = 0; i < count; i++) {
        all[i] = (wrapped){ &tests[i], tests[i].initial_state };
        list[i] = (struct CMUnitTest){ .name = tests[i].name, .test_func = counted,
                                       .setup_func = set_up,
                                       .teardown_func = tear_down,
                                       .initial_state = &all[i] };
    }
    const int status = _cmocka_run_group_tests(name, list, count, setup, teardown);
    size_t failed = begun - ended - test_skips;
    if (status && !failed) failed = 1; /* of the group: its setup or teardown */
    fflush(NULL);
    printf("%zu passed, %zu failed, %zu skipped\n", ended, failed, test_skips);
    free(all);
    free(list);
    return failed > 0;
}

/* ---- a folder of a test's own ---------------------------------------------------- */

bool test_folder(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s/attnbench-%s-XXXXXX", test_tmp(), name);
    return mkdtemp(out) != NULL;
}

void test_folder_remove(const char *folder)
{
    char command[256];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    if (system(command)) perror(folder);
}

/* ---- scripts of figures ---------------------------------------------------------- */

static FILE *script(const char *folder, const char *name, const char *mode)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s.gp", folder, name);
    FILE *f = fopen(path, mode);
    if (!f) fail_msg("%s: cannot be opened", path);
    return f;
}

/* The next line that is no comment; false at the end. */
static bool next_line(FILE *f, char *line, int size, int *number)
{
    *line = 0;
    while (fgets(line, size, f)) {
        ++*number;
        if (*line != '#') return true;
    }
    *line = 0;
    return false;
}

void test_drawn(const char *folder, const char *name)
{
    static char is[1 << 16], want[1 << 16];
    const bool update = getenv("UPDATE") != NULL;
    FILE *from = script(folder, name, "r");
    FILE *kept = script("tests/drawn", name, update ? "w" : "r");
    int line = 0, other = 0;
    for (;;) {
        const bool more = next_line(from, is, sizeof is, &line);
        if (update) {
            fputs(is, kept);
            if (more) continue;
            break;
        }
        if (next_line(kept, want, sizeof want, &other) == more && !strcmp(is, want)) {
            if (more) continue;
            break;
        }
        fclose(from);
        fclose(kept);
        fail_msg("%s.gp:%d draws '%.200s', tests/drawn/%s.gp:%d '%.200s'", name, line, is,
                 name, other, want);
    }
    fclose(from);
    fclose(kept);
}
