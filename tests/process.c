/* process.c - what a process is given by its system: limits of control groups, read
 * from made-up trees; processors; stops that do not count as time. */
#define _GNU_SOURCE
#include "test.h"

#include "../harness/cgroup.h"
#include "../harness/file.h"
#include "../harness/isolate.h"
#include "../harness/process.h"
#include "../harness/stop.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char root[64]; /* a folder that stands for / */

static void put(const char *path, const char *text)
{
    error e;
    char name[512];
    snprintf(name, sizeof name, "%s/%s", root, path);
    char *slash = strrchr(name, '/');
    *slash = 0;
    if (folder_make(name, &e) < 0) fail_msg("%s", e.text);
    *slash = '/';
    if (file_write(name, text, strlen(text), &e) < 0) fail_msg("%s", e.text);
}

static int new_root(void **state)
{
    const char *parent = getenv("TMPDIR");
    (void)state;
    snprintf(root, sizeof root, "%.30s/attnbench-root.XXXXXX",
             parent && strlen(parent) < 30 ? parent : "/tmp");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static void expect(double memory, double memory_free, double processors)
{
    const cgroup_limits l = cgroup_read(root);
    if (l.memory != memory || l.memory_free != memory_free ||
        fabs(l.processors - processors) > 1e-12)
        fail_msg("memory %g, free %g, processors %g; expected %g, %g, %g",
                 l.memory, l.memory_free, l.processors, memory, memory_free,
                 processors);
}

/* ---- control groups ------------------------------------------------------- */

#define MOUNT_V2 "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"

static void nothing_there(void **state)
{
    (void)state;
    expect(INFINITY, INFINITY, INFINITY);
    put("proc/self/cgroup", "0::/\n");
    expect(INFINITY, INFINITY, INFINITY);
    put("proc/self/mountinfo", MOUNT_V2);
    expect(INFINITY, INFINITY, INFINITY);
    put("proc/self/cgroup", "broken\n:\n::\n");
    expect(INFINITY, INFINITY, INFINITY);
    assert_true(cgroup_throttled(root) == 0);
}

/* The least of our group and its parents; what lies beside them is not ours. */
static void version_2(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/user/job/step\n");
    put("proc/self/mountinfo", "22 1 0:20 / / rw - ext4 /dev/sda rw\n" MOUNT_V2);
    put("sys/fs/cgroup/user/job/step/memory.max", "max\n");
    put("sys/fs/cgroup/user/job/step/cpu.max", "max 100000\n");
    expect(INFINITY, INFINITY, INFINITY);
    put("sys/fs/cgroup/user/job/memory.max", "1000000\n");
    put("sys/fs/cgroup/user/job/memory.current", "600000\n");
    put("sys/fs/cgroup/user/job/memory.stat",
        "anon 1\ninactive_file 100000\nactive_file 50000\nslab 7\n");
    put("sys/fs/cgroup/user/other/memory.max", "5\n");
    expect(1e6, 550000, INFINITY);
    put("sys/fs/cgroup/user/memory.high", "900000\n");
    put("sys/fs/cgroup/user/job/step/cpu.max", "150000 100000\n");
    put("sys/fs/cgroup/user/cpu.max", "10000 100000\n");
    expect(900000, 550000, 0.1);
}

static void throttled(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/a/b\n");
    put("proc/self/mountinfo", MOUNT_V2);
    put("sys/fs/cgroup/a/cpu.max", "50000 100000\n");
    put("sys/fs/cgroup/a/cpu.stat",
        "usage_usec 9\nnr_periods 4\nnr_throttled 2\nthrottled_usec 1500000\n");
    put("sys/fs/cgroup/a/b/cpu.stat", "throttled_usec 7000000\n"); /* no quota */
    assert_true(cgroup_throttled(root) == 1.5);
    put("sys/fs/cgroup/a/cpu.stat", "throttled_usec 1750000\n");
    assert_true(cgroup_throttled(root) == 1.75);
}

/* In a container that sees the whole path, but only its part of the tree. */
static void container(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/docker/0123/inner\n");
    put("proc/self/mountinfo", "30 23 0:26 /docker/0123 /sys/fs/cgroup ro - "
                               "cgroup2 cgroup rw\n");
    put("sys/fs/cgroup/memory.max", "4096\n");
    put("sys/fs/cgroup/inner/cpu.max", "200000 100000\n");
    expect(4096, 4096, 2);
    /* and one whose group lies outside of what it sees */
    put("proc/self/cgroup", "0::/../sibling\n");
    put("sys/fs/cgroup/cpu.max", "300000 100000\n");
    expect(4096, 4096, 3);
}

#define V1(name) "9 1 0:9 / /sys/fs/cgroup/" name " rw - cgroup cgroup rw," name "\n"

static void version_1(void **state)
{
    (void)state;
    put("proc/self/cgroup", "4:memory:/job\n3:cpuset:/x\n1:cpu,cpuacct:/job\n");
    put("proc/self/mountinfo", V1("cpuset") V1("memory") V1("cpu,cpuacct"));
    put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
    expect(INFINITY, INFINITY, INFINITY);
    put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "2000000\n");
    put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "500000\n");
    put("sys/fs/cgroup/memory/job/memory.stat",
        "inactive_file 1\ntotal_inactive_file 100000\ntotal_active_file 0\n");
    put("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "10000\n");
    put("sys/fs/cgroup/cpu,cpuacct/job/cpu.stat",
        "nr_periods 10\nnr_throttled 5\nthrottled_time 2500000000\n");
    expect(2e6, 1.6e6, 0.1);
    assert_true(cgroup_throttled(root) == 2.5);
}

/* Both at once: a hybrid hierarchy, whose unified part has no controllers. */
static void both_versions(void **state)
{
    (void)state;
    put("proc/self/cgroup", "1:memory:/\n0::/unit\n");
    put("proc/self/mountinfo",
        V1("memory") "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "1048576\n");
    expect(1048576, 1048576, INFINITY);
}

/* ---- folders -------------------------------------------------------------- */

static void expect_reason(const char *path, int number)
{
    char name[600];
    error e;
    snprintf(name, sizeof name, "%s/%s", root, path);
    assert_int_equal(folder_make(name, &e), -1);
    if (!strstr(e.text, strerror(number)))
        fail_msg("'%s' does not say '%s'", e.text, strerror(number));
}

static void folder_reasons(void **state)
{
    char long_name[301], name[128];
    (void)state;
    memset(long_name, 'x', 300);
    long_name[300] = 0;
    put("file", "");
    expect_reason("file/below", ENOTDIR);
    expect_reason("file", ENOTDIR);
    expect_reason(long_name, ENAMETOOLONG);
    if (geteuid() == 0) return; /* who may write everywhere */
    snprintf(name, sizeof name, "%s/closed", root);
    assert_int_equal(mkdir(name, 0555), 0);
    expect_reason("closed/below", EACCES);
}

/* ---- a child's time ------------------------------------------------------- */

static void nap(double seconds)
{
    struct timespec t = { (time_t)seconds, (long)(1e9 * fmod(seconds, 1)) };
    while (nanosleep(&t, &t) < 0 && errno == EINTR) continue;
}

/* Stops itself; a helper lets it go on after two seconds. */
static json *stops(void *arg)
{
    const pid_t self = getpid();
    (void)arg;
    if (fork() == 0) {
        nap(2);
        kill(self, SIGCONT);
        _exit(0);
    }
    raise(SIGSTOP);
    return json_object();
}

static json *naps(void *arg)
{
    nap(*(double *)arg);
    return json_object();
}

static void expect_status(json *(*function)(void *), void *arg, double seconds,
                          const char *status)
{
    const isolate_limits limits = { .seconds = seconds };
    isolate_result r;
    error e;
    if (isolate_run(function, arg, &limits, &r, &e) < 0) fail_msg("%s", e.text);
    if (strcmp(r.status, status))
        fail_msg("%s (%s), not %s", r.status, r.reason, status);
    json_free(r.value);
}

static void stopped_child(void **state)
{
    double longer = 2;
    (void)state;
    expect_status(stops, NULL, 1, "ok");
    expect_status(naps, &longer, 1, "timeout");
}

/* The one who watches is stopped, while its child is done. */
static void stopped_parent(void **state)
{
    int status = 0;
    (void)state;
    const pid_t watcher = fork();
    if (watcher == 0) {
        const isolate_limits limits = { .seconds = 1.5 };
        double shorter = 0.5;
        isolate_result r;
        if (isolate_run(naps, &shorter, &limits, &r, NULL) < 0) _exit(2);
        _exit(strcmp(r.status, "ok") ? 1 : 0);
    }
    nap(0.25);
    kill(watcher, SIGSTOP);
    nap(2);
    kill(watcher, SIGCONT);
    assert_true(waitpid(watcher, &status, 0) == watcher);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* What our parent had us ignore, children ignore, too; handlers are not theirs. */
static json *dispositions(void *arg)
{
    struct sigaction hup, term;
    json *out = json_object();
    (void)arg;
    sigaction(SIGHUP, NULL, &hup);
    sigaction(SIGTERM, NULL, &term);
    json_put_bool(out, "hup", hup.sa_handler == SIG_IGN);
    json_put_bool(out, "term", term.sa_handler == SIG_DFL);
    return out;
}

static void inherited_signals(void **state)
{
    const isolate_limits limits = { .seconds = 60 };
    struct sigaction now;
    isolate_result r;
    error e;
    (void)state;
    signal(SIGHUP, SIG_IGN);
    stop_catch();
    sigaction(SIGHUP, NULL, &now);
    assert_true(now.sa_handler == SIG_IGN);
    sigaction(SIGTERM, NULL, &now);
    assert_true(now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN);
    assert_int_equal(isolate_run(dispositions, NULL, &limits, &r, &e), 0);
    assert_true(json_true(json_get(r.value, "hup")));
    assert_true(json_true(json_get(r.value, "term")));
    json_free(r.value);
    signal(SIGHUP, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
}

/* ---- the start ------------------------------------------------------------ */

/* The mask is that of the start, whatever has happened to this thread since. */
static void first_affinity(void **state)
{
    cpu_set_t all, one, now;
    (void)state;
    assert_int_equal(process_affinity(&all), 0);
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(process_affinity(&now), 0);
    assert_true(CPU_EQUAL(&now, &all));
    process_unbind();
    assert_int_equal(sched_getaffinity(0, sizeof now, &now), 0);
    assert_true(CPU_EQUAL(&now, &all));
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
#define IN_ROOT(test) cmocka_unit_test_setup_teardown(test, new_root, remove_root)
    const struct CMUnitTest tests[] = {
        IN_ROOT(nothing_there),
        IN_ROOT(version_2),
        IN_ROOT(throttled),
        IN_ROOT(container),
        IN_ROOT(version_1),
        IN_ROOT(both_versions),
        IN_ROOT(folder_reasons),
        cmocka_unit_test(stopped_child),
        cmocka_unit_test(stopped_parent),
        cmocka_unit_test(inherited_signals),
        cmocka_unit_test(first_affinity),
    };
    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
