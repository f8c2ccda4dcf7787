/* sweep_table.c - results for people as they come in. */
#include "sweep_row.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "stats.h"
#include "text.h"

/* ---- numbers ------------------------------------------------------------- */

enum { CELL = 24 };

/* Four significant digits without an exponent; "-" for what is missing. */
static void cell(double value, char out[CELL])
{
    if (!isfinite(value)) {
        snprintf(out, CELL, "-");
        return;
    }
    int decimals = value > 0 ? 3 - (int)floor(log10(value)) : 0;
    if (decimals < 0) decimals = 0;
    if (decimals > 7) decimals = 7;
    snprintf(out, CELL, "%.*f", decimals, value);
}

static double member(const json *row, const char *object, const char *key)
{
    return json_number(json_get(json_get(row, object), key), NAN);
}

/* ---- table --------------------------------------------------------------- */

int sweep_table_width(const sweep_case *cases, int count)
{
    int width = 4;
    for (int i = 0; i < count; i++) {
        const int n = (int)strlen(cases[i].name);
        if (n > width) width = n;
    }
    return width;
}

void sweep_table_header(FILE *f, int width)
{
    fprintf(f, "%s%-*s %12s %8s %10s %6s %12s  %s%s\n", text_on(f, TEXT_BOLD),
            width, "case", "median ms", "+-", "GFLOP/s", "% roof", "work MiB",
            "status", text_off(f, TEXT_BOLD));
}

static enum text_color color_of(const char *status, bool doubtful)
{
    if (!strcmp(status, "ok")) return doubtful ? TEXT_WARN : TEXT_GOOD;
    if (!strcmp(status, "unsupported") || !strcmp(status, "memory"))
        return TEXT_PLAIN;
    return TEXT_BAD;
}

void sweep_table_line(FILE *f, int width, const json *row)
{
    char ms[CELL], gflops[CELL], work[CELL], half[CELL] = "-", roof[CELL] = "-";
    const double median = member(row, "time_ns", "median");
    const double lo = member(row, "time_ns", "lo");
    const double hi = member(row, "time_ns", "hi");
    const double fraction = member(row, "roofline", "fraction");
    const char *status = json_text(json_get(row, "status"));
    const char *reason = json_text(json_get(row, "reason"));
    const char *stop = json_text(json_get(json_get(row, "time_ns"), "stop"));
    const char *doubt = json_text(json_get(json_get(row, "time_ns"), "reason"));
    const bool unreliable =
        json_true(json_get(json_get(row, "time_ns"), "unreliable"));

    cell(median * 1e-6, ms);
    cell(member(row, "flop", "total") / median, gflops);
    cell(member(row, "bytes", "workspace") / 0x1p20, work);
    if (isfinite(hi - lo))
        snprintf(half, sizeof half, "%.1f %%", 50 * (hi - lo) / median);
    if (isfinite(fraction))
        snprintf(roof, sizeof roof, "%.1f", 100 * fraction);
    const enum text_color color = color_of(status, unreliable || reason);
    fprintf(f, "%-*s %12s %8s %10s %6s %12s  %s%s%s", width,
            json_text(json_get(row, "case")), ms, half, gflops, roof, work,
            text_on(f, color), status, text_off(f, color));
    if (reason) fprintf(f, ": %s", reason);
    else if (doubt) fprintf(f, " (%s)", doubt);
    else if (stop && strcmp(stop, "ci")) fprintf(f, " (%s)", stop);
    fputc('\n', f);
}
