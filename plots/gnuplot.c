/* gnuplot.c - figures by gnuplot through a pipe.
 *
 * gnuplot reading commands from a pipe goes on after an error, leaves empty
 * files behind, and ends with status 0 when a data block was never closed.  So
 * the outputs get temporary names, the last command prints a mark that must
 * arrive, and every file is looked at before it gets its name.
 */
#define _GNU_SOURCE /* pipe2, asprintf, memfd_create, strcasestr */
#include "gnuplot.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../harness/file.h"

/* A figure that needs longer than this hangs. */
enum { TIME_LIMIT_SECONDS = 300 };

static const char drawn_mark[] = "attnbench: drawn";

/* gnuplot's terminals disagree on what a point of text, a line's width and a
 * symbol's size are; these factors make them alike and true to print size.
 * `symbol` is for the pointsize of commands. */
static const struct format {
    const char *name;
    const char *terminal; /* printf format: width, height                    */
    double scale;         /* terminal units per point                        */
    double symbol;
    const char *begins, *ends;
} formats_known[] = {
    { "svg",
      "svg size %.0f,%.0f font 'sans-serif,8' fontscale 1.33333 "
      "linewidth 1.33333 background '#ffffff'",
      96 / 72.0, 1.5, "<?xml", "</svg>" },
    { "png",
      "pngcairo size %.0f,%.0f font 'sans-serif,8' fontscale 2.08333 "
      "linewidth 2.77778 pointscale 2.77778",
      200 / 72.0, 1, "\x89PNG", "IEND" },
    { "pdf",
      "pdfcairo size %.4fin,%.4fin font 'sans-serif,8' fontscale 0.75 "
      "linewidth 2", 1 / 72.0, 1, "%PDF", "%%EOF" },
};
enum { FORMATS = sizeof formats_known / sizeof *formats_known };

int gnuplot_formats(const char *list, error *e)
{
    int bits = 0;
    while (*list) {
        const size_t n = strcspn(list, ",");
        int i = 0;
        while (i < FORMATS && (strlen(formats_known[i].name) != n ||
                               memcmp(formats_known[i].name, list, n)))
            i++;
        if (i == FORMATS)
            return error_set(e, "unknown format '%.*s': use svg, png, pdf",
                             (int)n, list);
        bits |= 1 << i;
        list += n + (list[n] == ',');
    }
    if (!bits) return error_set(e, "no format given: use svg, png, pdf");
    return bits;
}

int gnuplot_find(error *e)
{
    const char *path = getenv("PATH");
    char file[4096];
    while (path && *path) {
        const size_t n = strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s/gnuplot", (int)n, path);
        if (n && access(file, X_OK) == 0) return 0;
        path += n + (path[n] == ':');
    }
    return error_set(e, "gnuplot is not installed: on Debian and Ubuntu, "
                        "'apt-get install gnuplot-nox'");
}

/* ---- commands ------------------------------------------------------------ */

int gnuplot_begin(gnuplot *g, const char *dir, const char *name, double width,
                  double height, error *e)
{
    *g = (gnuplot){ .width = width, .height = height };
    g->script = open_memstream(&g->text, &g->size);
    g->dir = strdup(dir);
    g->name = strdup(name);
    if (g->script && g->dir && g->name) return 0;
    gnuplot_abandon(g);
    return error_set(e, "not enough memory for a figure");
}

void gnuplot_abandon(gnuplot *g)
{
    if (g->script) fclose(g->script);
    free(g->text);
    free(g->dir);
    free(g->name);
    *g = (gnuplot){ 0 };
}

/* In single quotes nothing is special but the quote, which is doubled. */
void gnuplot_quote(FILE *script, const char *text)
{
    fputc('\'', script);
    for (; *text; text++) {
        if (*text == '\'') fputc('\'', script);
        fputc(iscntrl((unsigned char)*text) ? ' ' : *text, script);
    }
    fputc('\'', script);
}

void gnuplot_palette(FILE *script, const uint8_t table[256][3])
{
    fputs("set palette maxcolors 256 defined (", script);
    for (int i = 0; i < 256; i++)
        fprintf(script, "%s%d '#%02x%02x%02x'", i ? "," : "", i, table[i][0],
                table[i][1], table[i][2]);
    fputs(")\n", script);
}

static void write_comment(FILE *f, const char *text)
{
    while (*text) {
        const size_t n = strcspn(text, "\n");
        fprintf(f, "# %.*s\n", (int)n, text);
        text += n + (text[n] == '\n');
    }
}

/* The whole of NAME.gp: the body runs once per format, with the terminal and
 * the output set.  `suffix` is how temporary names come in. */
static void write_script(FILE *f, const gnuplot *g, const char *comment)
{
    write_comment(f, comment);
    fputs("reset\n"
          "set encoding utf8\n"
          "if (!exists(\"suffix\")) suffix = ''\n"
          "if (!exists(\"formats\")) formats = 'svg png pdf'\n"
          "do for [format in formats] {\n", f);
    for (int i = 0; i < FORMATS; i++) {
        const struct format *t = &formats_known[i];
        fprintf(f, "if (format eq '%s') { set terminal ", t->name);
        fprintf(f, t->terminal, g->width * t->scale, g->height * t->scale);
        fprintf(f, "; symbol = %g }\n", t->symbol);
    }
    fputs("set output ", f);
    gnuplot_quote(f, g->name);
    fputs(".'.'.format.suffix\n", f);
    fwrite(g->text, 1, g->size, f);
    fputs("unset output\n}\n", f);
}

/* ---- the process --------------------------------------------------------- */

static void child(const char *dir, int in, int messages)
{
    const int nowhere = open("/dev/null", O_WRONLY);
    /* Decimal points, and characters that gnuplot can convert; no terminal or
     * script of the user's. */
    setenv("LC_ALL", "C.UTF-8", 1);
    setenv("GNUTERM", "unknown", 1);
    unsetenv("GNUPLOT_LIB");
    alarm(TIME_LIMIT_SECONDS);
    if (dup2(in, 0) < 0 || dup2(nowhere, 1) < 0 || dup2(messages, 2) < 0 ||
        chdir(dir) < 0)
        _exit(126);
    execlp("gnuplot", "gnuplot", "-d", (char *)NULL);
    _exit(127);
}

/* Feeds commands; a gnuplot that died is told by its status, not here. */
static void feed(int fd, const char *text, size_t size)
{
    struct sigaction ignore = { .sa_handler = SIG_IGN }, before;
    sigaction(SIGPIPE, &ignore, &before);
    while (size > 0) {
        const ssize_t n = write(fd, text, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        text += n;
        size -= (size_t)n;
    }
    close(fd);
    sigaction(SIGPIPE, &before, NULL);
}

/* Runs gnuplot in dir on commands.  Its status as of waitpid, or -1; what it
 * printed on stderr goes to messages. */
static int run(const char *dir, const char *text, size_t size, FILE *messages)
{
    int ends[2], status;
    if (pipe2(ends, O_CLOEXEC) < 0) return -1;
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) child(dir, ends[0], fileno(messages));
    close(ends[0]);
    if (pid < 0) {
        close(ends[1]);
        return -1;
    }
    feed(ends[1], text, size);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return status;
}

/* How likely a line tells what was wrong: "line 7: undefined variable: x" does, a
 * warning does not, nor do a command that is repeated and the caret below it. */
static int telling(const char *text)
{
    if (!*text) return 0;
    if (strcasestr(text, "warning") || strcasestr(text, "iconv")) return 1;
    if (!strncmp(text, "gnuplot>", 8) || !text[strspn(text, " ^")]) return 2;
    return strstr(text, "line ") && strchr(text, ':') ? 4 : 3;
}

/* The first line of those that tell most. */
static void first_message(FILE *messages, char *out, size_t size, bool *mark)
{
    char line[512];
    int best = 0;
    *out = 0;
    *mark = false;
    rewind(messages);
    while (fgets(line, sizeof line, messages)) {
        char *text = line + strspn(line, " \t");
        text[strcspn(text, "\n")] = 0;
        if (!strcmp(text, drawn_mark)) {
            *mark = true;
            continue;
        }
        const int tells = telling(text);
        if (tells > best) snprintf(out, size, "%s", text);
        if (tells > best) best = tells;
    }
}

/* ---- outputs ------------------------------------------------------------- */

/* Whether a file begins and ends as its format does. */
static bool whole(const char *path, const struct format *t)
{
    enum { TAIL = 16 };
    char head[8] = "", tail[TAIL] = "";
    const size_t begins = strlen(t->begins);
    FILE *f = fopen(path, "rbe");
    if (!f) return false;
    const bool ok = fread(head, 1, begins, f) == begins &&
                    !memcmp(head, t->begins, begins) &&
                    fseek(f, -TAIL, SEEK_END) == 0 &&
                    fread(tail, 1, TAIL, f) == TAIL &&
                    memmem(tail, TAIL, t->ends, strlen(t->ends));
    fclose(f);
    return ok;
}

static char *output_path(const gnuplot *g, const char *format,
                         const char *suffix)
{
    char *name = NULL;
    if (asprintf(&name, "%s.%s%s", g->name, format, suffix) < 0) abort();
    char *path = path_join(g->dir, name);
    free(name);
    return path;
}

/* Gives every temporary file its name, or removes it. */
static int settle(const gnuplot *g, unsigned formats, const char *suffix,
                  bool keep, error *e)
{
    int rc = keep ? 0 : -1;
    for (int i = 0; i < FORMATS; i++) {
        if (!(formats >> i & 1)) continue;
        const struct format *t = &formats_known[i];
        char *from = output_path(g, t->name, suffix);
        char *to = output_path(g, t->name, "");
        if (rc == 0 && !whole(from, t))
            rc = error_set(e, "%s: gnuplot wrote no whole file; the disk may "
                              "be full", to);
        if (rc == 0 && rename(from, to) < 0)
            rc = error_set(e, "%s: cannot write: %s", to, strerror(errno));
        if (rc < 0) unlink(from);
        free(from);
        free(to);
    }
    return rc;
}

/* ---- drawing ------------------------------------------------------------- */

static void tell(const gnuplot *g, int status, const char *message, error *e)
{
    if (status == -1)
        error_set(e, "%s/%s: cannot run gnuplot: %s", g->dir, g->name,
                  strerror(errno));
    else if (WIFSIGNALED(status))
        error_set(e, "%s/%s.gp: gnuplot was ended by signal %d (%s)", g->dir,
                  g->name, WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == 127) gnuplot_find(e);
    else
        error_set(e, "%s/%s.gp: gnuplot failed: %s", g->dir, g->name,
                  *message ? message : "it did not reach the last command");
}

static int draw(const gnuplot *g, const char *script, size_t size,
                unsigned formats, error *e)
{
    char suffix[32], message[256], *text = NULL;
    size_t length;
    bool mark;
    const int memory = memfd_create("gnuplot", MFD_CLOEXEC);
    FILE *messages = memory < 0 ? NULL : fdopen(memory, "w+");
    FILE *f = open_memstream(&text, &length);
    int rc = -1;
    if (!messages || !f) {
        error_set(e, "%s/%s: no memory for gnuplot's messages: %s", g->dir,
                  g->name, strerror(errno));
        if (memory >= 0 && !messages) close(memory);
        goto out;
    }
    snprintf(suffix, sizeof suffix, ".%ld.tmp", (long)getpid());
    fprintf(f, "suffix = '%s'\nformats = '", suffix);
    for (int i = 0; i < FORMATS; i++)
        if (formats >> i & 1) fprintf(f, "%s ", formats_known[i].name);
    fputs("'\n", f);
    fwrite(script, 1, size, f);
    fprintf(f, "print \"%s\"\n", drawn_mark);
    fflush(f);

    const int status = run(g->dir, text, length, messages);
    first_message(messages, message, sizeof message, &mark);
    const bool ok = status == 0 && mark;
    if (!ok) tell(g, status, message, e);
    rc = settle(g, formats, suffix, ok, e);
out:
    if (messages) fclose(messages);
    if (f) fclose(f);
    free(text);
    return rc;
}

int gnuplot_end(gnuplot *g, const char *comment, unsigned formats, error *e)
{
    char *script = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&script, &size);
    char *path = output_path(g, "gp", "");
    int rc = -1;
    fflush(g->script);
    if (f) write_script(f, g, comment);
    if (!f || fclose(f) != 0) error_set(e, "not enough memory for a figure");
    else rc = file_write(path, script, size, e);
    if (rc == 0 && formats) rc = draw(g, script, size, formats, e);
    free(path);
    free(script);
    gnuplot_abandon(g);
    return rc;
}
