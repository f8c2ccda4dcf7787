/* progress.c - the bar, and when to use colours. */
#include "progress.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { PROGRESS_LINES = 10 }; /* seconds between plain lines, at least        */

/* ---- bar ----------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool dumb(void)
{
    const char *term = getenv("TERM");
    return term && !strcmp(term, "dumb");
}

static int columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

/* 1:02 or 1:02:03. */
static void clock_text(double seconds, char *out, size_t size)
{
    const long s = (long)(seconds + 0.5);
    if (s < 3600) snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
    else
        snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
}

void progress_begin(progress *p, double total)
{
    *p = (progress){
        .total = total,
        .start = now(),
        .visible = isatty(STDERR_FILENO) && !dumb(),
        .drawn = -1,
        .told = now(),
    };
}

/* "24/40  1:12  left ~0:46  text" */
static void tell(const progress *p, double t, const char *text, char *out,
                 size_t size)
{
    char elapsed[32], left[32] = "?";
    const double part = p->total > 0 ? p->done / p->total : 0;
    clock_text(t - p->start, elapsed, sizeof elapsed);
    if (part >= 1) strcpy(left, "0:00");
    else if (part > 0)
        clock_text((t - p->start) * (1 / part - 1), left, sizeof left);
    snprintf(out, size, "%.0f/%.0f  %s  left ~%s  %s", p->done, p->total, elapsed,
             left, text);
}

void progress_show(progress *p, double done, const char *text)
{
    enum { BAR = 20 };
    char bar[BAR + 1], told[448], line[512];
    const double t = now();

    p->done = done;
    if (!p->visible || (p->drawn >= 0 && t - p->drawn < 0.1)) return;
    p->drawn = t;
    double part = p->total > 0 ? done / p->total : 0;
    if (part > 1) part = 1;
    memset(bar, '-', BAR);
    memset(bar, '#', (size_t)(part * BAR));
    bar[BAR] = 0;
    tell(p, t, text, told, sizeof told);
    snprintf(line, sizeof line, "[%s] %s", bar, told);
    fprintf(stderr, "\r%.*s\033[K", columns() - 1, line);
    fflush(stderr);
}

void progress_stage(progress *p, FILE *f, double done, const char *text)
{
    char told[448];
    const double t = now();
    p->done = done;
    if (p->visible || t - p->told < PROGRESS_LINES) return;
    p->told = t;
    tell(p, t, text, told, sizeof told);
    fprintf(f, "%s\n", told);
    fflush(f);
}

void progress_clear(progress *p)
{
    if (!p->visible || p->drawn < 0) return;
    p->drawn = -1;
    fputs("\r\033[K", stderr);
    fflush(stderr);
}

/* ---- colour -------------------------------------------------------------- */

static enum { AUTO, ALWAYS, NEVER } color = AUTO;

bool color_set(const char *when)
{
    if (!strcmp(when, "auto")) color = AUTO;
    else if (!strcmp(when, "always")) color = ALWAYS;
    else if (!strcmp(when, "never")) color = NEVER;
    else return false;
    return true;
}

bool color_on(FILE *stream)
{
    const char *no = getenv("NO_COLOR");
    if (color != AUTO) return color == ALWAYS;
    return isatty(fileno(stream)) && !dumb() && !(no && *no);
}
