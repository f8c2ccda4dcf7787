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

#endif
