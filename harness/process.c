/* process.c - what was inherited, and what is set right. */
#define _GNU_SOURCE /* uselocale, sched_getaffinity */
#include "process.h"

#include <locale.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "error.h"

/* ---- before any library --------------------------------------------------- */

static cpu_set_t given;
static bool given_known;

typedef struct limit {
    int resource;
    rlim_t least;
    const char *what, *unit, *remedy;
    int shift; /* from the system's unit                                    */
} limit;

/* Libraries that start threads end by a signal, or never, in less. */
static const limit limits[] = {
    { RLIMIT_STACK, 1 << 20, "the stack", "KiB", "ulimit -s 8192", 10 },
    { RLIMIT_AS, 512 << 20, "the address space", "KiB", "ulimit -v unlimited",
      10 },
    { RLIMIT_DATA, 512 << 20, "the data segment", "KiB", "ulimit -d unlimited",
      10 },
    { RLIMIT_CPU, 2, "processor time", "s", "ulimit -t unlimited", 0 },
    { RLIMIT_NPROC, 2, "the number of a user's processes", "threads",
      "ulimit -u unlimited", 0 },
};

/* A BLAS has a thread for each processor; root is not limited. */
__attribute__((no_sanitize("address", "undefined", "thread")))
static rlim_t least_of(const limit *l)
{
    if (l->resource != RLIMIT_NPROC) return l->least;
    return geteuid() == 0 ? 0 : l->least + (rlim_t)CPU_COUNT(&given);
}

__attribute__((no_sanitize("address", "undefined", "thread")))
static const limit *too_small(rlim_t *is)
{
    struct rlimit r;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (getrlimit(limits[i].resource, &r) == 0 &&
            r.rlim_cur < least_of(&limits[i])) {
            *is = r.rlim_cur;
            return &limits[i];
        }
    return NULL;
}

/* Runs before the constructors of libraries: an OpenMP library has bound the
 * initial thread by the time that main() is called, and a BLAS has started its
 * threads, under limits that may be too small for them.  Nothing is initialised
 * yet but the C library. */
__attribute__((no_sanitize("address", "undefined", "thread")))
static void at_start(void)
{
    rlim_t is;
    given_known = syscall(SYS_sched_getaffinity, 0, sizeof given, &given) > 0;
    const limit *l = too_small(&is);
    if (!l) return;
    dprintf(STDERR_FILENO,
            "attnbench: %s is limited to %lu %s, at least %lu are needed: %s\n",
            l->what, (unsigned long)is >> l->shift, l->unit,
            (unsigned long)least_of(l) >> l->shift, l->remedy);
    _exit(EXIT_MISSING);
}

__attribute__((section(".preinit_array"), used))
static void (*const before_libraries)(void) = at_start;

int process_affinity(cpu_set_t *set)
{
    if (!given_known) return sched_getaffinity(0, sizeof *set, set);
    *set = given;
    return 0;
}

void process_unbind(void)
{
    cpu_set_t set;
    if (process_affinity(&set) == 0) sched_setaffinity(0, sizeof set, &set);
}

/* ---- at the start of main() ------------------------------------------------ */

void process_plain_numbers(void)
{
    static locale_t plain;
    if (!plain) plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    setlocale(LC_ALL, "C");          /* of threads that have none ...        */
    if (plain) uselocale(plain);     /* ... and ours, whoever calls that next */
}

/* The hard limit kills; a second before, there is time for a line. */
static void expect_processor_time(void (*handler)(int))
{
    struct sigaction now;
    struct rlimit r;
    if (sigaction(SIGXCPU, NULL, &now) < 0 || now.sa_handler != SIG_DFL) return;
    signal(SIGXCPU, handler);
    if (getrlimit(RLIMIT_CPU, &r) < 0 || r.rlim_cur != r.rlim_max ||
        r.rlim_max == RLIM_INFINITY)
        return;
    r.rlim_cur--;
    setrlimit(RLIMIT_CPU, &r);
}

static void on_processor_time(int number)
{
    static const char text[] = "attnbench: the limit of processor time is "
                               "reached: ulimit -t unlimited\n";
    (void)number;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(EXIT_MISSING);
    _exit(EXIT_MISSING);
}

void process_begin(void)
{
    process_plain_numbers();
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* if it is ignored, nothing is left to wait for */
    expect_processor_time(on_processor_time);
}
