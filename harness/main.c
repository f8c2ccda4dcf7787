/* main.c - attnbench [GLOBAL OPTION...] COMMAND [OPTION...] */
#define _DEFAULT_SOURCE /* on_exit */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../kernels/plan.h"
#include "commands.h"
#include "error.h"
#include "process.h"
#include "progress.h"
#include "text.h"

const char *argp_program_version = "attnbench " ATTNBENCH_VERSION;

static const struct command {
    const char *name, *brief;
    int (*run)(int argc, char **argv);
} commands[] = {
#define ENTRY(name, brief) { #name, brief, command_##name },
    COMMANDS(ENTRY)
#undef ENTRY
};
enum { COUNT = sizeof commands / sizeof *commands };

/* ---- help ---------------------------------------------------------------- */

/* Commands in the order in which one meets them; what is in no group comes
 * last. */
static const struct group {
    const char *title, *names[8];
} groups[] = {
    { "Look around", { "list", "explain", "doctor", "cite" } },
    { "Measure", { "verify", "sweep", "cache" } },
    { "See results", { "table", "plot", "compare", "merge", "journal" } },
    { "See attention", { "maps", "train", "models", "findings" } },
};
enum { GROUPS = sizeof groups / sizeof *groups };

static const struct command *find(const char *name)
{
    for (int i = 0; i < COUNT; i++)
        if (!strcmp(commands[i].name, name)) return &commands[i];
    return NULL;
}

static bool in_a_group(const char *name)
{
    for (int g = 0; g < GROUPS; g++)
        for (int i = 0; i < 8 && groups[g].names[i]; i++)
            if (!strcmp(groups[g].names[i], name)) return true;
    return false;
}

static void print_title(FILE *f, const char *title)
{
    fprintf(f, "\n%s%s%s\n", text_on(f, TEXT_BOLD), title,
            text_off(f, TEXT_BOLD));
}

static void print_command(FILE *f, const struct command *c)
{
    fprintf(f, "  %-12s%s\n", c->name, c->brief);
}

static void print_help(FILE *f)
{
    fputs("attnbench measures attention mechanisms on this CPU and shows what "
          "they attend to.\n\n"
          "usage: attnbench [--plugin FILE.so]... [--color WHEN] COMMAND "
          "[OPTION...]\n",
          f);
    for (int g = 0; g < GROUPS; g++) {
        print_title(f, groups[g].title);
        for (int i = 0; i < 8 && groups[g].names[i]; i++)
            if (find(groups[g].names[i]))
                print_command(f, find(groups[g].names[i]));
    }
    print_title(f, "Other");
    for (int i = 0; i < COUNT; i++)
        if (!in_a_group(commands[i].name)) print_command(f, &commands[i]);
    print_title(f, "Options before the command");
    fputs("  --plugin FILE.so  also use the mechanisms and kernels of a shared "
          "object\n"
          "  --color WHEN      auto, always or never\n"
          "  --version, --help; each command has its own --help\n",
          f);
    print_title(f, "Examples");
    fputs("  attnbench sweep --suite smoke --out results/smoke\n"
          "      measures every kernel once, in half a minute\n"
          "  attnbench plot results/smoke\n"
          "      draws what was measured\n"
          "\n"
          "A run is a folder.  Every case becomes one line of its "
          "journal.jsonl as soon as\n"
          "it is measured; tables and figures are made from that file and "
          "stand beside it.\n",
          f);
}

/* ---- options before the command ------------------------------------------ */

static int complain(int status, const error *e)
{
    fprintf(stderr, "attnbench: %s\n", e->text);
    return status;
}

static int unknown(const char *what, const char *typed,
                   const char *const *names, int n)
{
    error e;
    const char *near = error_nearest(typed, names, n);
    error_set(&e, "unknown %s '%s'%s%s%s; see attnbench --help", what, typed,
              near ? "; did you mean '" : "", near ? near : "",
              near ? "'?" : "");
    return complain(EXIT_USAGE, &e);
}

/* Value of "--name=value" or "--name value" at argv[*i], which it moves past,
 * "" if it is missing; NULL if argv[*i] is another option. */
static const char *value_of(const char *name, int argc, char **argv, int *i)
{
    const size_t length = strlen(name);
    if (strncmp(argv[*i], name, length)) return NULL;
    if (argv[*i][length] == '=') return argv[(*i)++] + length + 1;
    if (argv[*i][length]) return NULL;
    *i += 2;
    return *i <= argc ? argv[*i - 1] : "";
}

static int load_plugin(const char *path)
{
    error e;
    if (!*path) {
        error_set(&e, "--plugin needs a file: --plugin ./mine.so");
        return complain(EXIT_USAGE, &e);
    }
    const char *why = att_load_plugin(path);
    process_plain_numbers(); /* its constructors may have chosen a locale */
    if (!why) return EXIT_OK;
    error_set(&e, "%s", why);
    return complain(EXIT_MISSING, &e);
}

static int set_color(const char *when)
{
    error e;
    if (color_set(when)) return EXIT_OK;
    error_set(&e, "--color: '%s' is none of auto, always, never", when);
    return complain(EXIT_USAGE, &e);
}

/* Reads the options up to the command, whose index it leaves in *at.  False if
 * there is nothing to run; *status is then the exit code. */
static bool read_options(int argc, char **argv, int *at, int *status)
{
    static const char *const names[] = { "--plugin", "--color", "--version",
                                         "--help" };
    *status = EXIT_OK;
    *at = 1;
    while (*at < argc && argv[*at][0] == '-') {
        const char *option = argv[*at], *text;
        if ((text = value_of("--plugin", argc, argv, at)))
            *status = load_plugin(text);
        else if ((text = value_of("--color", argc, argv, at)))
            *status = set_color(text);
        else if (!strcmp(option, "--version")) {
            puts(argp_program_version);
            return false;
        } else if (!strcmp(option, "--help") || !strcmp(option, "-h")) {
            print_help(stdout);
            return false;
        } else
            *status = unknown("option", option, names, 4);
        if (*status != EXIT_OK) return false;
    }
    if (*at < argc) return true;
    print_help(stderr);
    *status = EXIT_USAGE;
    return false;
}

/* ---- main ---------------------------------------------------------------- */

static int run(const struct command *c, int argc, char **argv)
{
    char name[64];
    snprintf(name, sizeof name, "attnbench %s", c->name);
    argv[0] = name;
    argp_err_exit_status = EXIT_USAGE;
    return c->run(argc, argv);
}

static int run_typed(int argc, char **argv)
{
    const char *names[COUNT + 1];
    const struct command *c = find(argv[0]);
    if (c) return run(c, argc, argv);
    if (!strcmp(argv[0], "help")) {
        char *ask[] = { NULL, (char[]){ "--help" }, NULL };
        if (argc > 1 && (c = find(argv[1]))) return run(c, 2, ask);
        print_help(stdout);
        return EXIT_OK;
    }
    for (int i = 0; i < COUNT; i++) names[i] = commands[i].name;
    names[COUNT] = "help";
    return unknown("command", argv[0], names, COUNT + 1);
}

/* Results that did not reach their file are not results.  At exit, since argp
 * ends the program after --help. */
static void check_output(int status, void *unused)
{
    error e;
    (void)unused;
    if (!fflush(stdout) && !ferror(stdout)) return;
    error_set(&e, "cannot write to standard output: %s", strerror(errno));
    complain(0, &e);
    _exit(status == EXIT_OK ? EXIT_SOME_FAILED : status);
}

/* A file that is opened must not become what something else prints to: 0, 1 and
 * 2 are taken, if by nothing (results for a closed 1 are lost, and are told to
 * be: it cannot be written).  Pipes, the journal and what libraries read of the
 * machine need a few descriptors more; where there are too few of them, a file
 * that cannot be opened would pass for one that is not there. */
static bool take_streams(void)
{
    enum { LEAST = 32, ENOUGH = 256 };
    struct rlimit files;
    error e;
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == 2 ? O_WRONLY : O_RDONLY) != fd)
            return false; /* and nowhere to say so */
    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= LEAST)
        return true;
    files.rlim_cur = files.rlim_max < ENOUGH ? files.rlim_max : ENOUGH;
    if (files.rlim_cur >= LEAST && setrlimit(RLIMIT_NOFILE, &files) == 0)
        return true;
    error_set(&e, "at most %llu files may be open at a time, %d are needed: "
                  "raise the limit (ulimit -n)",
              (unsigned long long)files.rlim_max, LEAST);
    complain(0, &e);
    return false;
}

int main(int argc, char **argv)
{
    int at, status;
    process_begin();
    if (!take_streams()) return EXIT_MISSING;
    on_exit(check_output, NULL);
    if (read_options(argc, argv, &at, &status))
        status = run_typed(argc - at, argv + at);
    return status;
}
