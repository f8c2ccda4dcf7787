/* text.c - see text.h. */
#include "text.h"

#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "progress.h"

const char *text_on(FILE *f, enum text_color color)
{
    static const char *const codes[] = { "", "\033[1m", "\033[32m", "\033[31m",
                                         "\033[33m" };
    return color_on(f) ? codes[color] : "";
}

const char *text_off(FILE *f, enum text_color color)
{
    return color != TEXT_PLAIN && color_on(f) ? "\033[0m" : "";
}

static int width_of(FILE *f)
{
    struct winsize size;
    if (isatty(fileno(f)) && ioctl(fileno(f), TIOCGWINSZ, &size) == 0 &&
        size.ws_col >= 40)
        return size.ws_col < 120 ? size.ws_col : 120;
    return isatty(fileno(f)) ? 80 : 0;
}

void text_wrap(FILE *f, int at, int indent, const char *text)
{
    const int width = width_of(f);
    while (text && *text) {
        const size_t blank = strspn(text, " ");
        const size_t word = strcspn(text + blank, " ");
        const size_t size = blank + word;
        if (width && at > indent && at + (int)size > width) {
            fprintf(f, "\n%*s", indent, "");
            at = indent;
            text += blank;
            fwrite(text, 1, word, f);
            at += (int)word;
            text += word;
        } else {
            fwrite(text, 1, size, f);
            at += (int)size;
            text += size;
        }
    }
    fputc('\n', f);
}

enum { IN_TURN = 4, ROOM = 48 };

static char *next_room(void)
{
    static char rooms[IN_TURN][ROOM];
    static int turn;
    return rooms[turn = (turn + 1) % IN_TURN];
}

const char *text_count(double n)
{
    char digits[ROOM];
    char *out = next_room();
    size_t at = 0;
    if (!(fabs(n) < 1e15)) {
        snprintf(out, ROOM, "%.4g", n);
        return out;
    }
    const size_t length = (size_t)snprintf(digits, sizeof digits, "%.0f", n);
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-')
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
    return out;
}

const char *text_bytes(double n)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    char *out = next_room();
    int unit = 0;
    while (n >= 1024 && unit < 4) {
        n /= 1024;
        unit++;
    }
    snprintf(out, ROOM, unit && n < 100 ? "%.1f %s" : "%.0f %s", n,
             units[unit]);
    return out;
}
