/* sweep_table.c - results for people as they come in. */
#include "sweep_row.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clean.h"
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

void sweep_table_line(FILE *f, int width, const struct row *row)
{
    char ms[CELL], gflops[CELL], work[CELL], half[CELL] = "-", roof[CELL] = "-";
    const double median = row->time_ns.median;
    const double range = row->time_ns.hi - row->time_ns.lo;
    const bool unreliable = row->time_ns.unreliable == ROW_YES;
    const char *stop = row->time_ns.stop;

    cell(median * 1e-6, ms);
    cell(row->flop.total / median, gflops);
    cell(row->bytes.workspace / 0x1p20, work);
    if (isfinite(range))
        snprintf(half, sizeof half, "%.1f %%", 50 * range / median);
    const double fraction = isfinite(row->paired.fraction)
                                ? row->paired.fraction
                                : row->roofline.fraction;
    if (isfinite(fraction))
        snprintf(roof, sizeof roof, "%.1f", 100 * fraction);
    const enum text_color color =
        color_of(row->status, unreliable || row->reason);
    fprintf(f, "%-*s %12s %8s %10s %6s %12s  %s%s%s", width, row->case_, ms,
            half, gflops, roof, work, text_on(f, color), row->status,
            text_off(f, color));
    if (row->reason) fprintf(f, ": %s", row->reason);
    else if (row->time_ns.reason) fprintf(f, " (%s)", row->time_ns.reason);
    else if (row->paired.speed < CLEAN_SPEED)
        fprintf(f, " (core at %.0f %% of its speed)", 100 * row->paired.speed);
    else if (stop && strcmp(stop, "ci")) fprintf(f, " (%s)", stop);
    fputc('\n', f);
}
