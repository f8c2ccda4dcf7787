/* fuzz.c - files for readers that take paths. */
#include "fuzz.h"

#include <argp.h>
#include <dirent.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[256];
static pid_t owner;

static void remove_folder(void)
{
    DIR *d = getpid() == owner ? opendir(folder) : NULL;
    if (!d) return;
    for (struct dirent *x = readdir(d); x; x = readdir(d)) {
        char path[sizeof folder + sizeof x->d_name + 1];
        snprintf(path, sizeof path, "%s/%s", folder, x->d_name);
        if (unlink(path) < 0) rmdir(path);
    }
    closedir(d);
    rmdir(folder);
}

/* In memory where the machine has such a place: it is written thousands of
 * times a second. */
const char *fuzz_folder(void)
{
    if (*folder && owner == getpid()) return folder;
    const bool shm = access("/dev/shm", W_OK) == 0;
    const char *other = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/attnbench-fuzz-XXXXXX",
             shm ? "/dev/shm" : other && *other ? other : "/tmp");
    if (!mkdtemp(folder)) fuzz_fail("cannot make a folder");
    owner = getpid();
    atexit(remove_folder);
    return folder;
}

const char *fuzz_file(const char *name, const uint8_t *data, size_t size)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        fuzz_fail("cannot write a file");
    return path;
}

/* ---- argp's ways out ------------------------------------------------------
 */

jmp_buf fuzz_way_out;

void __wrap_argp_failure(const struct argp_state *state, int status, int code,
                         const char *format, ...);
void __wrap_argp_error(const struct argp_state *state, const char *format, ...);

/* The text is made all the same: it is where a bad format would show. */
static void leave(const char *format, va_list arguments)
{
    char text[4096];
    vsnprintf(text, sizeof text, format, arguments);
    longjmp(fuzz_way_out, 1);
}

void __wrap_argp_failure(const struct argp_state *state, int status, int code,
                         const char *format, ...)
{
    va_list arguments;
    (void)state, (void)status, (void)code;
    va_start(arguments, format);
    leave(format, arguments);
    va_end(arguments);
}

void __wrap_argp_error(const struct argp_state *state, const char *format, ...)
{
    va_list arguments;
    (void)state;
    va_start(arguments, format);
    leave(format, arguments);
    va_end(arguments);
}

void fuzz_fail(const char *what)
{
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}
