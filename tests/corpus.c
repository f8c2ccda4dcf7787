/* corpus.c - tests/fuzz/corpus/NAME/ played back through tests/fuzz/NAME.c:
 * what fuzzing started from, and every input that once made a reader crash,
 * hang or ask for absurd memory. */
#include "test.h"

#include "fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* For one input; a slow machine and sanitizers are allowed for. */
enum { SECONDS = 20, MOST = 1 << 20 };

static const struct target {
    const char *name;
    int (*run)(const uint8_t *data, size_t size);
} targets[] = {
#define ENTRY(name) { #name, fuzz_##name },
    FUZZ_TARGETS(ENTRY)
#undef ENTRY
};
enum { TARGETS = sizeof targets / sizeof *targets };

static void silence(void)
{
    const int null = open("/dev/null", O_WRONLY);
    if (null < 0 || dup2(null, STDOUT_FILENO) < 0) abort();
    close(null);
}

/* In a process of its own, whose leaks a sanitizer reports at its end. */
static void play(const struct target *t, const char *path)
{
    static uint8_t bytes[MOST];
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("cannot read %s", path);
    const size_t size = fread(bytes, 1, MOST, f);
    fclose(f);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* cmocka catches them */
        signal(SIGABRT, SIG_DFL);
        alarm(SECONDS);
        silence();
        uint8_t *exact = malloc(size + !size); /* its end is guarded */
        memcpy(exact, bytes, size);
        t->run(exact, size);
        free(exact);
        /* argp's way out leaks what a command had. */
        if (!strcmp(t->name, "options")) _exit(0);
        exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        fail_msg("%s: %s", path,
                 WTERMSIG(status) == SIGALRM ? "does not end" : "crashes");
    if (WEXITSTATUS(status))
        fail_msg("%s: ends with status %d", path, WEXITSTATUS(status));
}

static void played_back(void **state)
{
    const struct target *t = *state;
    char folder[128], path[512];
    int played = 0;
    snprintf(folder, sizeof folder, "tests/fuzz/corpus/%s", t->name);
    DIR *d = opendir(folder);
    if (!d) fail_msg("%s is not there", folder);
    for (struct dirent *x = readdir(d); x; x = readdir(d)) {
        if (*x->d_name == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, x->d_name);
        play(t, path);
        played++;
    }
    closedir(d);
    if (played == 0) fail_msg("%s is empty", folder);
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[TARGETS];
    for (int i = 0; i < TARGETS; i++)
        tests[i] = (struct CMUnitTest){.name = targets[i].name,
                                       .test_func = played_back,
                                       .initial_state = (void *)&targets[i]};
    test_arguments(argc, argv);
    return cmocka_run_group_tests_name("corpus", tests, NULL, NULL);
}
