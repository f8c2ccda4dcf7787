/* capture.c - what another program prints. */
#define _GNU_SOURCE
#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Reads to the end, so that the writer never blocks; keeps what fits. */
static void drain(int fd, char *out, size_t size)
{
    char rest[4096];
    size_t at = 0;
    for (;;) {
        const size_t room = size - 1 - at;
        const ssize_t n = room ? read(fd, out + at, room)
                               : read(fd, rest, sizeof rest);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        if (room) at += (size_t)n;
    }
    out[at] = 0;
}

int capture(const char *const *argv, char *out, size_t size)
{
    posix_spawn_file_actions_t actions;
    int ends[2], status;
    pid_t pid;

    out[0] = 0;
    if (pipe2(ends, O_CLOEXEC) < 0) return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    const int failed = posix_spawnp(&pid, argv[0], &actions, NULL,
                                    (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (!failed) drain(ends[0], out, size);
    close(ends[0]);
    if (failed) return -1;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
