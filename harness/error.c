/* error.c - one-line messages and nearest spellings. */
#include "error.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_LENGTH = 63 };

int error_set(error *e, const char *format, ...)
{
    char text[sizeof e->text]; /* the arguments may lie in e */
    va_list arguments;

    if (!e) return -1;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *c = text; *c; c++)
        if (iscntrl((unsigned char)*c)) *c = ' ';
    memcpy(e->text, text, sizeof text);
    return -1;
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* Edit distance in which a swap of neighbours is one edit (Damerau, restricted
 * form); case does not count. */
static int distance(const char *a, const char *b)
{
    int row[3][NAME_MAX_LENGTH + 1];
    const int n = (int)strlen(a), m = (int)strlen(b);

    for (int j = 0; j <= m; j++) row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 3], *above = row[(i + 2) % 3];
        const int *second = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            const int x = tolower((unsigned char)a[i - 1]);
            const int y = tolower((unsigned char)b[j - 1]);
            now[j] = smaller(above[j - 1] + (x != y),
                             1 + smaller(above[j], now[j - 1]));
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                y == tolower((unsigned char)a[i - 2]))
                now[j] = smaller(now[j], second[j - 2] + 1);
        }
    }
    return row[n % 3][m];
}

const char *error_nearest(const char *typed, const char *const *names, int n)
{
    const size_t length = strlen(typed);
    const char *best = NULL;
    int least = 2 + (int)length / 3; /* more edits than that: another word */

    if (length == 0 || length > NAME_MAX_LENGTH) return NULL;
    for (int i = 0; i < n; i++) {
        if (strlen(names[i]) > NAME_MAX_LENGTH) continue;
        const int d = distance(typed, names[i]);
        if (d >= least) continue;
        least = d;
        best = names[i];
    }
    for (int i = 0; !best && length >= 3 && i < n; i++)
        if (!strncmp(typed, names[i], length)) best = names[i];
    return best;
}
