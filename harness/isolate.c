/* isolate.c - fork, watch, collect. */
#define _GNU_SOURCE /* pipe2, close_range */
#include "isolate.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "process.h"

enum {
    STAGE_SIZE = 64,
    WORDS_SIZE = 4096,       /* kept of what a child prints                  */
    ANSWER_LIMIT = 64 << 20, /* a child that writes more is broken           */
    TICK_MS = 100
};

/* Shared with the child. */
static char *stage;

void isolate_stage(const char *text)
{
    if (stage) snprintf(stage, STAGE_SIZE, "%s", text);
}

/* ---- child --------------------------------------------------------------- */

/* close_range() of kernels before 5.9 is not there. */
static void close_from(int first)
{
    if (close_range((unsigned)first, ~0U, 0) == 0) return;
    for (int fd = first; fd < (int)sysconf(_SC_OPEN_MAX); fd++) close(fd);
}

/* Output to descriptor 1, answer to 3, nothing else open: a kernel that writes
 * to stray descriptors, or outlives us, must not hold the journal.  main() has
 * seen to it that 0 to 2 are taken, so both pipes are above; no step needs a
 * descriptor more than there are. */
static void keep_only(int words, int answer)
{
    close(0);
    if (open("/dev/null", O_RDONLY) != 0 || words < 3 || answer < 3 ||
        dup2(words, 1) < 0 || dup2(words, 2) < 0 ||
        (answer != 3 && dup2(answer, 3) < 0))
        _exit(1);
    close_from(4);
}

static void die_with(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
}

/* The kernel's memory killer shall take this process, not its neighbours. */
static void offer_to_memory_killer(void)
{
    const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, "1000", 4) < 0) errno = 0; /* a wish, not a need */
    close(fd);
}

/* Handlers are the parent's; what it was told to ignore stays ignored. */
static void drop_handlers(void)
{
    static const int ours[] = { SIGINT, SIGTERM, SIGHUP, SIGXCPU, SIGTSTP };
    struct sigaction now;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (sigaction(ours[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
            signal(ours[i], SIG_DFL);
}

static void become_child(pid_t parent, int words, int answer)
{
    const struct rlimit no_core = { 0, 0 };
    sigset_t none;
    drop_handlers();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* ^C in the terminal is for the parent */
    die_with(parent);
    setrlimit(RLIMIT_CORE, &no_core);
    offer_to_memory_killer();
    keep_only(words, answer);
}

_Noreturn static void answer_and_exit(json *(*function)(void *), void *arg)
{
    json *value = function(arg);
    process_plain_numbers(); /* a kernel may have chosen a locale */
    char *text = json_print(value, false);
    size_t left = strlen(text);
    isolate_stage("handing over the result");
    for (const char *at = text; left > 0;) {
        const ssize_t n = write(3, at, left);
        if (n <= 0) _exit(1);
        at += n;
        left -= (size_t)n;
    }
    _exit(0);
}

/* ---- parent -------------------------------------------------------------- */

typedef struct watch {
    pid_t child;
    int words, answer; /* reading ends; -1: closed                          */
    char said[WORDS_SIZE];
    size_t said_size;
    char *text;
    size_t text_size;
    const char *killed; /* status, if it was us                             */
    int status;
    double start, seen; /* when it began; when we last looked               */
    bool stopped;       /* by SIGSTOP and the like                          */
} watch;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t resident(pid_t child)
{
    char path[64];
    unsigned long all, pages = 0;
    snprintf(path, sizeof path, "/proc/%ld/statm", (long)child);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    if (fscanf(f, "%lu %lu", &all, &pages) != 2) pages = 0;
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void kill_child(watch *w, const char *why)
{
    if (w->killed) return;
    w->killed = why;
    if (kill(-w->child, SIGKILL) < 0) kill(w->child, SIGKILL);
}

/* Keeps the beginning and drops the rest, so that the child never blocks. */
static void hear(watch *w)
{
    char block[1024];
    const ssize_t n = read(w->words, block, sizeof block);
    if (n == 0) {
        close(w->words);
        w->words = -1;
    }
    if (n <= 0) return;
    size_t keep = WORDS_SIZE - 1 - w->said_size;
    if (keep > (size_t)n) keep = (size_t)n;
    memcpy(w->said + w->said_size, block, keep);
    w->said_size += keep;
}

static void take_answer(watch *w)
{
    enum { BLOCK = 1 << 16 };
    char *more = realloc(w->text, w->text_size + BLOCK);
    if (!more) abort();
    w->text = more;
    const ssize_t n = read(w->answer, more + w->text_size, BLOCK);
    if (n > 0) w->text_size += (size_t)n;
    if (n == 0 || w->text_size > ANSWER_LIMIT) {
        close(w->answer);
        w->answer = -1;
    }
}

/* One round of waiting; false when there was nothing to read in time. */
static bool listen_once(watch *w, int timeout_ms)
{
    struct pollfd fds[] = { { w->words, POLLIN, 0 }, { w->answer, POLLIN, 0 } };
    if (poll(fds, 2, timeout_ms) <= 0) return false;
    if (fds[0].revents) hear(w);
    if (fds[1].revents) take_answer(w);
    return true;
}

static void enforce(watch *w, const isolate_limits *limits)
{
    if (limits->stop && *limits->stop) kill_child(w, "interrupted");
    if (w->seen - w->start > limits->seconds) kill_child(w, "timeout");
    if (limits->memory && resident(w->child) > limits->memory)
        kill_child(w, "oom");
}

static bool has_ended(watch *w)
{
    int status;
    for (;;) {
        const pid_t child = waitpid(w->child, &status,
                                    WNOHANG | WUNTRACED | WCONTINUED);
        if (child == 0) return false;
        if (child > 0 && (WIFSTOPPED(status) || WIFCONTINUED(status))) {
            w->stopped = WIFSTOPPED(status);
            continue;
        }
        w->status = status;
        return true;
    }
}

/* Time passes for the child only while it can run: not while it is stopped, nor
 * while we are, which shows as a round that takes far longer than a tick. */
static void pass_time(watch *w)
{
    const double t = now();
    if (w->stopped || t - w->seen > 10 * TICK_MS / 1e3) w->start += t - w->seen;
    w->seen = t;
}

/* Until the child has ended and its pipes are empty. */
static void attend(watch *w, const isolate_limits *limits)
{
    double ticked = w->seen;
    while (!has_ended(w)) {
        if (w->words < 0 && w->answer < 0) usleep(100);
        else listen_once(w, TICK_MS);
        pass_time(w);
        if (w->seen - ticked < TICK_MS / 1e3) continue;
        ticked = w->seen;
        enforce(w, limits);
        if (limits->tick && !w->killed) limits->tick(limits->arg);
    }
    kill(-w->child, SIGKILL); /* what it may have started */
    while ((w->words >= 0 || w->answer >= 0) && listen_once(w, 0)) continue;
    if (w->words >= 0) close(w->words);
    if (w->answer >= 0) close(w->answer);
}

/* ---- Ctrl-Z --------------------------------------------------------------- */

static volatile sig_atomic_t watched; /* the child's process group          */

/* The terminal stops our process group, which the child is not in.  To the child
 * it is the same signal: it may be watching one of its own. */
static void on_terminal_stop(int number)
{
    const int saved = errno;
    kill(-watched, number);
    raise(SIGSTOP); /* here we stand until SIGCONT comes */
    kill(-watched, SIGCONT);
    errno = saved;
}

/* Stops with the child, unless we were told to ignore such wishes; before: what
 * is to be put back. */
static void share_stops(pid_t child, struct sigaction *before)
{
    const struct sigaction action = { .sa_handler = on_terminal_stop,
                                      .sa_flags = SA_RESTART };
    watched = child;
    if (sigaction(SIGTSTP, NULL, before) == 0 && before->sa_handler == SIG_DFL)
        sigaction(SIGTSTP, &action, NULL);
}

/* ---- reasons ------------------------------------------------------------- */

/* The line with "ERROR:" (sanitizers), else the last one. */
static void last_words(watch *w, char *out, size_t size)
{
    char *save = NULL, *best = NULL;
    w->said[w->said_size] = 0;
    for (char *line = strtok_r(w->said, "\r\n", &save); line;
         line = strtok_r(NULL, "\r\n", &save)) {
        best = line;
        if (strstr(line, "ERROR:") || strstr(line, "runtime error:")) break;
    }
    snprintf(out, size, "%s%.150s", best ? ": " : "", best ? best : "");
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < ' ' || (unsigned char)*c > '~') *c = '?';
}

static void tell_death(watch *w, const isolate_limits *limits,
                       isolate_result *out)
{
    char words[160], during[STAGE_SIZE + 16] = "";
    last_words(w, words, sizeof words);
    stage[STAGE_SIZE - 1] = 0;
    if (*stage) snprintf(during, sizeof during, " while %s", stage);

    if (w->killed) {
        snprintf(out->status, sizeof out->status, "%s", w->killed);
        if (!strcmp(w->killed, "timeout"))
            snprintf(out->reason, sizeof out->reason,
                     "not finished after %g s%s", limits->seconds, during);
        else if (!strcmp(w->killed, "oom"))
            snprintf(out->reason, sizeof out->reason,
                     "used more than %zu MiB%s", limits->memory >> 20, during);
        else
            snprintf(out->reason, sizeof out->reason, "stopped by a signal");
    } else if (WIFSIGNALED(w->status)) {
        const int signal = WTERMSIG(w->status);
        const bool oom = signal == SIGKILL;
        if (oom) snprintf(out->status, sizeof out->status, "oom");
        else snprintf(out->status, sizeof out->status, "signal:%d", signal);
        snprintf(out->reason, sizeof out->reason, "%s%s%s",
                 oom ? "killed from outside, most likely for want of memory,"
                     : strsignal(signal),
                 during, words);
    } else {
        snprintf(out->status, sizeof out->status, "interrupted");
        snprintf(out->reason, sizeof out->reason,
                 "the process ended by itself with exit code %d%s%s",
                 WEXITSTATUS(w->status), during, words);
    }
}

static void conclude(watch *w, const isolate_limits *limits,
                     isolate_result *out)
{
    const bool done = !w->killed && WIFEXITED(w->status) &&
                      WEXITSTATUS(w->status) == 0;
    if (done && w->text)
        out->value = json_parse(w->text, w->text_size, "child", NULL);
    if (out->value) snprintf(out->status, sizeof out->status, "ok");
    else tell_death(w, limits, out);
}

/* ---- run ----------------------------------------------------------------- */

static int make_stage(void)
{
    if (!stage) {
        void *page = mmap(NULL, STAGE_SIZE, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) return -1;
        stage = page;
    }
    *stage = 0;
    return 0;
}

int isolate_run(json *(*function)(void *), void *arg,
                const isolate_limits *limits, isolate_result *out, error *e)
{
    int words[2] = { -1, -1 }, answer[2] = { -1, -1 };
    const pid_t parent = getpid();
    const double start = now();
    pid_t child = -1;

    *out = (isolate_result){ 0 };
    if (make_stage() == 0 && pipe2(words, O_CLOEXEC) == 0 &&
        pipe2(answer, O_CLOEXEC) == 0)
        child = fork();
    if (child == 0) {
        become_child(parent, words[1], answer[1]);
        answer_and_exit(function, arg);
    }
    const int why = errno;
    close(words[1]);
    close(answer[1]);
    if (child < 0) {
        close(words[0]);
        close(answer[0]);
        return error_set(e, "cannot start a process: %s", strerror(why));
    }
    setpgid(child, child); /* whoever comes first, parent or child */
    watch w = { .child = child, .words = words[0], .answer = answer[0],
                .start = start, .seen = start };
    struct sigaction before;
    share_stops(child, &before);
    attend(&w, limits);
    sigaction(SIGTSTP, &before, NULL);
    conclude(&w, limits, out);
    free(w.text);
    out->seconds = w.seen - w.start;
    return 0;
}
