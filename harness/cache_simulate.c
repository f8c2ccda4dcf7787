/* cache_simulate.c - valgrind outside, the kernel inside. */
#define _GNU_SOURCE /* dladdr, memfd_create */
#include "cache_simulate.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <omp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file.h"
#include "isolate.h"

enum { TEXT_LIMIT = 16 << 20, PATH_LIMIT = 4096 };

char *cache_valgrind(error *e)
{
    const char *path = getenv("PATH");
    for (const char *at = path ? path : ""; *at;) {
        char folder[PATH_LIMIT];
        const size_t n = strcspn(at, ":");
        if (n > 0 && n < sizeof folder) {
            snprintf(folder, sizeof folder, "%.*s", (int)n, at);
            char *file = path_join(folder, "valgrind");
            char *whole = access(file, X_OK) == 0 ? realpath(file, NULL)
                                                  : NULL;
            free(file);
            if (whole) return whole;
        }
        at += n + (at[n] == ':');
    }
    error_set(e, "valgrind is not installed, so no cache can be simulated: as "
                 "root, apt-get install valgrind");
    return NULL;
}

/* ---- the case, from outside to inside ------------------------------------ */

static json *write_case(const cache_job *job)
{
    const sweep_case *c = job->what;
    const cache_geometry *g = &job->geometry;
    json *j = json_object(), *fields = json_object();
    char text[ATT_TEXT];
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        att_get(&c->problem, (enum att_field)f, text);
        if (!att_is_default(&c->problem, (enum att_field)f))
            json_put_text(fields, att_fields[f].name, text);
    }
    json_put_text(j, "kernel", c->entry.kernel->name);
    json_put_text(j, "level", att_level_name(c->entry.level));
    json_put_bool(j, "backward", c->pass == ATT_BACKWARD);
    json_put_bool(j, "sharp", c->inputs == INPUTS_SHARP);
    json_put(j, "fields", fields);
    json_put_number(j, "line", (double)(g->ll.line < g->d1.line ? g->ll.line
                                                               : g->d1.line));
    json_put_number(j, "flush", (double)(g->ll.bytes + g->d1.bytes));
    return j;
}

static int read_case(const json *j, sweep_case *c, error *e)
{
    const char *kernel = json_text(json_get(j, "kernel"));
    const char *level = json_text(json_get(j, "level"));
    const att_entry *entry =
        kernel && level ? att_find(kernel,
                                   (enum att_level)att_level_parse(level))
                        : NULL;
    if (!entry) return error_set(e, "no such kernel");
    *c = (sweep_case){ .entry = *entry,
                       .problem = att_problem_default,
                       .threads = 1,
                       .pass = json_true(json_get(j, "backward"))
                                   ? ATT_BACKWARD : ATT_FORWARD,
                       .inputs = json_true(json_get(j, "sharp"))
                                     ? INPUTS_SHARP : INPUTS_NORMAL };
    const json *fields = json_get(j, "fields");
    for (const json *x = json_first(fields); x; x = json_next(x)) {
        const int f = att_field_find(json_key(x));
        const char *text = json_text(x);
        if (f < 0 || !text || !att_set(&c->problem, (enum att_field)f, text))
            return error_set(e, "no field '%s'", json_key(x));
    }
    return 0;
}

/* ---- inside -------------------------------------------------------------- */

/* Reads every line of it: the caches evict what was used longest ago, so
 * nothing else is left in them. */
static int empty_caches(size_t bytes, size_t line)
{
    char *buffer = malloc(bytes);
    if (!buffer) return -1;
    for (size_t i = 0; i < bytes; i += line)
        *(volatile char *)(buffer + i);
    free(buffer);
    return 0;
}

/* The counts of each of these two are a part of their own; their names are what
 * valgrind looks for.  The texts keep them apart, and make the call no jump. */
#define PASS(name)                                                             \
    __attribute__((noinline)) void name(void (*run)(void *), void *call);      \
    __attribute__((noinline)) void name(void (*run)(void *), void *call)       \
    {                                                                          \
        run(call);                                                             \
        __asm__ volatile("# " #name ::: "memory");                             \
    }
PASS(attnbench_cold_pass)
PASS(attnbench_warm_pass)
#undef PASS

static int fail(const char *why)
{
    fprintf(stderr, "%s\n", why);
    return EXIT_SOME_FAILED;
}

int cache_inside(void)
{
    char *text;
    size_t size;
    sweep_case c;
    sweep_call call = { 0 };
    error e;
    if (file_read("/dev/stdin", TEXT_LIMIT, &text, &size, &e) < 0)
        return fail(e.text);
    json *j = json_parse(text, size, "standard input", &e);
    if (!j || read_case(j, &c, &e) < 0) return fail(e.text);
    const double flush = json_number(json_get(j, "flush"), 0);
    const double line = json_number(json_get(j, "line"), 0);
    omp_set_dynamic(0);
    omp_set_num_threads(1);
    const char *why = sweep_call_make(&call, &c);
    if (why) return fail(why);
    if (c.pass == ATT_BACKWARD) sweep_call_forward(&call); /* fills `save` */
    if (!(flush > 0 && flush < 0x1p36 && line >= 1) ||
        empty_caches((size_t)flush, (size_t)line) < 0)
        return fail("no memory to empty the caches with");
    void (*run)(void *) = c.pass == ATT_FORWARD ? sweep_call_forward
                                                : sweep_call_backward;
    attnbench_cold_pass(run, &call);
    attnbench_warm_pass(run, &call);
    return EXIT_OK;
}

/* ---- outside ------------------------------------------------------------- */

enum { WORDS = 32, WORD = 2 * PATH_LIMIT };

typedef struct command_line {
    char *word[WORDS + 1];
    int count;
} command_line;

__attribute__((format(printf, 2, 3)))
static void add(command_line *line, const char *format, ...)
{
    va_list arguments;
    char text[WORD];
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (line->count == WORDS) abort();
    line->word[line->count] = strdup(text);
    if (!line->word[line->count++]) abort();
}

static void add_cache(command_line *line, const char *name,
                      const cache_level *c)
{
    char text[CACHE_TEXT];
    cache_level_text(c, text);
    add(line, "--%s=%s", name, text);
}

/* The shared object that a kernel or mechanism is from, unless it is ours. */
static void add_plugin(command_line *line, const void *what)
{
    Dl_info other, self;
    if (!dladdr(what, &other) ||
        !dladdr((const void *)&att_problem_default, &self) ||
        other.dli_fbase == self.dli_fbase || !other.dli_fname)
        return;
    char *path = realpath(other.dli_fname, NULL);
    add(line, "--plugin=%s", path ? path : other.dli_fname);
    free(path);
}

static command_line line_of(const cache_job *job)
{
    command_line line = { .count = 0 };
    char *self = realpath("/proc/self/exe", NULL);
    add(&line, "%s", job->valgrind);
    add(&line, "--tool=callgrind");
    add(&line, "--quiet");
    add(&line, "--vgdb=no");
    add(&line, "--cache-sim=yes");
    add_cache(&line, "I1", &job->geometry.i1);
    add_cache(&line, "D1", &job->geometry.d1);
    add_cache(&line, "LL", &job->geometry.ll);
    add(&line, "--callgrind-out-file=%s/out", job->folder);
    /* Parts: what comes before, the cold pass, the warm one, the end. */
    add(&line, "--dump-before=attnbench_cold_pass");
    add(&line, "--dump-after=attnbench_cold_pass");
    add(&line, "--dump-after=attnbench_warm_pass");
    add(&line, "%s", self ? self : "/proc/self/exe");
    free(self);
    add_plugin(&line, job->what->entry.mechanism);
    if (line.count < WORDS - 3) add_plugin(&line, job->what->entry.kernel);
    /* the same plugin twice would be an error */
    if (!strcmp(line.word[line.count - 1], line.word[line.count - 2]))
        free(line.word[--line.count]);
    add(&line, "cache");
    add(&line, "--inside");
    return line;
}

/* Nothing of the caller's, whose length would move the stack; no code that the
 * simulator emulates lane by lane (FMA, wider vectors) in the libraries. */
static char *environment[] = {
    "PATH=/usr/bin:/bin",
    "LC_ALL=C",
    "LD_BIND_NOW=1",
    "OMP_NUM_THREADS=1",
    "OPENBLAS_NUM_THREADS=1",
    "OPENBLAS_CORETYPE=Nehalem",
    "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA,-AVX2_Usable,"
    "-FMA_Usable",
    NULL, /* LD_LIBRARY_PATH, if there is one */
    NULL,
};

static void keep_library_path(void)
{
    static char text[PATH_LIMIT];
    const char *path = getenv("LD_LIBRARY_PATH");
    if (!path) return;
    snprintf(text, sizeof text, "LD_LIBRARY_PATH=%s", path);
    environment[sizeof environment / sizeof *environment - 2] = text;
}

/* A file in memory that holds the case, read from its start. */
static int open_case(const cache_job *job)
{
    json *j = write_case(job);
    char *text = json_print(j, false);
    const size_t n = strlen(text);
    const int fd = memfd_create("case", MFD_CLOEXEC);
    const bool written = fd >= 0 && write(fd, text, n) == (ssize_t)n &&
                         lseek(fd, 0, SEEK_SET) == 0;
    free(text);
    json_free(j);
    if (written) return fd;
    perror("memfd_create");
    _exit(EXIT_MISSING);
}

/* Ends the process, with its reason as the last words, if valgrind fails. */
static void run_valgrind(const cache_job *job)
{
    const command_line line = line_of(job);
    const int input = open_case(job);
    int status = 0;
    keep_library_path();
    const pid_t child = fork();
    if (child == 0) {
        dup2(input, 0);
        close(3); /* where isolate_run() waits for the answer */
        /* valgrind is started by a shell, which tells the folder in PWD */
        if (chdir("/") < 0) _exit(EXIT_MISSING);
        execve(line.word[0], line.word, environment);
        fprintf(stderr, "%s: %s\n", line.word[0], strerror(errno));
        _exit(EXIT_MISSING);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (child > 0 && WIFSIGNALED(status)) raise(WTERMSIG(status));
    if (child < 0 || status != 0) _exit(EXIT_SOME_FAILED);
    close(input);
}

/* ---- what it wrote ------------------------------------------------------- */

/* "totals: 12 3 4": in the order of our table; zeros at the end are left out. */
static json *read_totals(const char *text)
{
    json *j = json_object();
    char *end;
#define READ(event)                                                            \
    json_put_number(j, #event, (double)strtoull(text, &end, 10));              \
    text = end;
    CACHE_EVENTS(READ)
#undef READ
    return j;
}

/* The value of the line "KEY: value", without its newline; "" if none. */
static void line_of_key(const char *text, const char *key, char *out,
                        size_t size)
{
    const size_t n = strlen(key);
    *out = 0;
    for (const char *at = text; at && *at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, key, n)) continue;
        at += n;
        snprintf(out, size, "%.*s", (int)strcspn(at, "\n"), at);
        return;
    }
}

static json *read_pass(const cache_job *job, const char *name, json *out)
{
#define EVENT(event) " " #event
    static const char events[] = CACHE_EVENTS(EVENT);
#undef EVENT
    char line[512];
    char *path = path_join(job->folder, name), *text;
    size_t size;
    error e;
    if (file_read(path, TEXT_LIMIT, &text, &size, &e) < 0) {
        fprintf(stderr, "%s\n", e.text);
        _exit(EXIT_SOME_FAILED);
    }
    unlink(path);
    free(path);
    line_of_key(text, "events:", line, sizeof line);
    if (strcmp(line, events)) {
        fprintf(stderr, "callgrind's events are '%s', not '%s'\n", line,
                events);
        _exit(EXIT_SOME_FAILED);
    }
    line_of_key(text, "creator: ", line, sizeof line);
    json_put_text(out, "creator", line);
    line_of_key(text, "totals:", line, sizeof line);
    free(text);
    return read_totals(line);
}

json *cache_simulate(void *arg)
{
    const cache_job *job = arg;
    json *out = json_object();
    isolate_stage("simulating its caches");
    run_valgrind(job);
    isolate_stage("reading what callgrind wrote");
    json_put(out, "cold", read_pass(job, "out.2", out));
    json_put(out, "warm", read_pass(job, "out.3", out));
    return out;
}
