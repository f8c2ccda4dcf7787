/* counters_perf.c - events of the Linux kernel by perf_event_open: software
 * events, which need no PMU, and the generic hardware events, which work on
 * processors that PAPI does not know yet.
 */
#include "counters_sources.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "machine.h"

#define CACHE_MISS(cache)                                                      \
    (PERF_COUNT_HW_CACHE_##cache | PERF_COUNT_HW_CACHE_OP_READ << 8 |          \
     PERF_COUNT_HW_CACHE_RESULT_MISS << 16)

static const struct event {
    const char *name;
    uint32_t type;
    uint64_t config;
    bool in_kernel; /* happens there: invisible without the kernel's events  */
} events[] = {
    { "perf:cycles", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, false },
    { "perf:instructions", PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS,
      false },
    { "perf:cache-misses", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES,
      false },
    { "perf:stalled-cycles-backend", PERF_TYPE_HARDWARE,
      PERF_COUNT_HW_STALLED_CYCLES_BACKEND, false },
    { "perf:L1-dcache-load-misses", PERF_TYPE_HW_CACHE, CACHE_MISS(L1D),
      false },
    { "perf:dTLB-load-misses", PERF_TYPE_HW_CACHE, CACHE_MISS(DTLB), false },
    { "perf:page-faults", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS,
      false },
    { "perf:context-switches", PERF_TYPE_SOFTWARE,
      PERF_COUNT_SW_CONTEXT_SWITCHES, true },
    { "perf:cpu-migrations", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_MIGRATIONS,
      true },
    { "perf:task-clock", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, false },
};

static const struct event *find(const char *name)
{
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (!strcmp(name, events[i].name)) return &events[i];
    return NULL;
}

bool counter_perf_is_software(const char *event)
{
    const struct event *e = find(event);
    return e && e->type == PERF_TYPE_SOFTWARE;
}

/* ---- why not ------------------------------------------------------------- */

static int paranoid(void)
{
    int level = 2; /* the kernel's default */
    FILE *f = fopen("/proc/sys/kernel/perf_event_paranoid", "r");
    if (!f) return level;
    if (fscanf(f, "%d", &level) != 1) level = 2;
    fclose(f);
    return level;
}

/* Whether a filter of system calls watches this process, as in containers. */
static bool is_filtered(void)
{
    char line[128];
    int mode = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Seccomp: %d", &mode) == 1) break;
    if (f) fclose(f);
    return mode == 2;
}

static void say(char why[COUNTER_WHY], char remedy[COUNTER_WHY],
                const char *cause, const char *cure)
{
    snprintf(why, COUNTER_WHY, "%s", cause);
    snprintf(remedy, COUNTER_WHY, "%s", cure);
}

/* The kernel's own refusal is EACCES, and only above these levels; a filter
 * answers what its author liked, mostly EPERM or ENOSYS. */
static void explain_refusal(const struct event *e, int error_number,
                            char why[COUNTER_WHY], char remedy[COUNTER_WHY])
{
    const int level = paranoid();
    char text[COUNTER_WHY];
    if (error_number == EACCES && level > (e->in_kernel ? 1 : 2)) {
        snprintf(text, sizeof text, "kernel.perf_event_paranoid is %d", level);
        say(why, remedy, text,
            "as root, outside of any container: sysctl "
            "kernel.perf_event_paranoid=1");
        return;
    }
    snprintf(text, sizeof text, "a filter of system calls (seccomp) forbids "
                                "perf_event_open: %s",
             strerror(error_number));
    if (is_filtered())
        say(why, remedy, text,
            "leave the container, or start it with --security-opt "
            "seccomp=unconfined (docker, podman)");
    else if (error_number == ENOSYS)
        say(why, remedy, "this kernel has no perf_event_open",
            "boot a kernel with CONFIG_PERF_EVENTS");
    else {
        snprintf(text, sizeof text, "perf_event_open is forbidden here, but "
                 "not by perf_event_paranoid (%d): %s", level,
                 strerror(error_number));
        say(why, remedy, text,
            "look at security modules (SELinux, AppArmor) and the kernel's "
            "lockdown, or try as root");
    }
}

static void explain_no_pmu(char why[COUNTER_WHY], char remedy[COUNTER_WHY])
{
    char text[COUNTER_WHY];
    if (!machine_hypervisor()) {
        say(why, remedy, "the kernel has no PMU driver with this event for this "
                         "processor", "boot a newer kernel");
        return;
    }
    snprintf(text, sizeof text, "no PMU in this virtual machine (%s)",
             machine_hypervisor());
    say(why, remedy, text,
        "measure on bare metal, or have the host expose its PMU to the guest "
        "(QEMU: -cpu host,pmu=on)");
}

/* What a failed perf_event_open means. */
static void explain(const struct event *e, int error_number,
                    char why[COUNTER_WHY], char remedy[COUNTER_WHY])
{
    char text[COUNTER_WHY];
    switch (error_number) {
    case ENOENT:
    case EOPNOTSUPP:
    case ENODEV: explain_no_pmu(why, remedy); break;
    case EACCES:
    case EPERM:
    case ENOSYS: explain_refusal(e, error_number, why, remedy); break;
    case EMFILE:
        say(why, remedy, "no file descriptors are left", "ulimit -n 1024");
        break;
    default:
        snprintf(text, sizeof text, "perf_event_open: %s",
                 strerror(error_number));
        say(why, remedy, text, "see dmesg, and whether another profiler runs");
    }
}

/* ---- groups -------------------------------------------------------------- */

typedef struct group {
    int n;
    int fd[COUNTER_GROUP]; /* fd[0] leads                                   */
} group;

/* A descriptor, or -1 with errno.  The kernel's share is counted too where that
 * is allowed and the event is one of software; hardware counts the user's. */
static int event_open(const struct event *e, int leader)
{
    struct perf_event_attr attr = {
        .type = e->type,
        .size = sizeof attr,
        .config = e->config,
        .disabled = leader < 0,
        .exclude_kernel = e->type != PERF_TYPE_SOFTWARE,
        .exclude_hv = 1,
        .read_format = PERF_FORMAT_GROUP | PERF_FORMAT_TOTAL_TIME_ENABLED |
                       PERF_FORMAT_TOTAL_TIME_RUNNING,
    };
    int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, leader, 0);
    if (fd < 0 && (errno == EACCES || errno == EPERM) && !e->in_kernel) {
        attr.exclude_kernel = 1;
        fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, leader, 0);
    }
    return fd;
}

bool counter_perf_no_pmu(char why[COUNTER_WHY], char remedy[COUNTER_WHY])
{
    const int fd = event_open(&events[0], -1);
    if (fd >= 0) {
        close(fd);
        return false;
    }
    explain(&events[0], errno, why, remedy);
    return true;
}

static void group_close(void *p)
{
    group *g = p;
    if (!g) return;
    for (int i = g->n - 1; i >= 0; i--) close(g->fd[i]);
    free(g);
}

static void *group_open(const char *const *event, int n, bool multiplexed,
                        char why[COUNTER_WHY])
{
    (void)multiplexed; /* never asked to */
    group *g = calloc(1, sizeof *g);
    if (!g) {
        snprintf(why, COUNTER_WHY, "out of memory");
        return NULL;
    }
    for (; g->n < n; g->n++) {
        const struct event *e = find(event[g->n]);
        if (!e) snprintf(why, COUNTER_WHY, "%s: no such event", event[g->n]);
        else {
            char cause[COUNTER_WHY], remedy[COUNTER_WHY];
            g->fd[g->n] = event_open(e, g->n ? g->fd[0] : -1);
            if (g->fd[g->n] >= 0) continue;
            explain(e, errno, cause, remedy);
            snprintf(why, COUNTER_WHY, "%.120s (%.120s)", cause, remedy);
        }
        group_close(g);
        return NULL;
    }
    return g;
}

static int group_start(void *p, char why[COUNTER_WHY])
{
    const group *g = p;
    if (ioctl(g->fd[0], PERF_EVENT_IOC_RESET, PERF_IOC_FLAG_GROUP) == 0 &&
        ioctl(g->fd[0], PERF_EVENT_IOC_ENABLE, PERF_IOC_FLAG_GROUP) == 0)
        return 0;
    snprintf(why, COUNTER_WHY, "starting perf events: %s", strerror(errno));
    return -1;
}

static int group_stop(void *p, long long *value, char why[COUNTER_WHY])
{
    const group *g = p;
    struct {
        uint64_t n, enabled, running, value[COUNTER_GROUP];
    } data;

    ioctl(g->fd[0], PERF_EVENT_IOC_DISABLE, PERF_IOC_FLAG_GROUP);
    const ssize_t got = read(g->fd[0], &data, sizeof data);
    if (got < (ssize_t)((3 + (size_t)g->n) * sizeof(uint64_t))) {
        snprintf(why, COUNTER_WHY, "reading perf events: %s",
                 got < 0 ? strerror(errno) : "too few values");
        return -1;
    }
    if (data.running < data.enabled) {
        snprintf(why, COUNTER_WHY,
                 "the kernel had no counters free for part of the time");
        return -1;
    }
    for (int i = 0; i < g->n; i++) value[i] = (long long)data.value[i];
    return 0;
}

const counter_source counter_perf_hw = {
    .name = "perf-hw",
    .per_thread = true,
    .hardware = true,
    .open = group_open,
    .start = group_start,
    .stop = group_stop,
    .close = group_close,
};

const counter_source counter_perf_sw = {
    .name = "perf-sw",
    .per_thread = true,
    .open = group_open,
    .start = group_start,
    .stop = group_stop,
    .close = group_close,
};
