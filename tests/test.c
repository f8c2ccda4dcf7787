/* test.c - arguments of test programs. */
#include "test.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
