/* quantity.c - numbers for people. */
#include "quantity.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Decimal prefixes, also for bytes: the axes of figures are decades. */
static const unit seconds[] = {
    { "ns", 1e-9 }, { "µs", 1e-6 }, { "ms", 1e-3 }, { "s", 1 }, { 0 },
};
static const unit bytes[] = {
    { "B", 1 }, { "kB", 1e3 }, { "MB", 1e6 }, { "GB", 1e9 }, { "TB", 1e12 },
    { 0 },
};
static const unit flops[] = {
    { "MFLOP/s", 1e6 }, { "GFLOP/s", 1e9 }, { "TFLOP/s", 1e12 }, { 0 },
};
static const unit bandwidths[] = {
    { "MB/s", 1e6 }, { "GB/s", 1e9 }, { "TB/s", 1e12 }, { 0 },
};
static const unit events[] = {
    { "", 1 }, { "k", 1e3 }, { "M", 1e6 }, { "G", 1e9 }, { "T", 1e12 }, { 0 },
};
static const unit plain[] = { { "", 1 }, { 0 } };

static const unit *const units[QUANTITIES] = {
    [QUANTITY_NUMBER] = plain,
    [QUANTITY_COUNT] = plain,
    [QUANTITY_EVENTS] = events,
    [QUANTITY_SECONDS] = seconds,
    [QUANTITY_BYTES] = bytes,
    [QUANTITY_FLOP_PER_S] = flops,
    [QUANTITY_BYTES_PER_S] = bandwidths,
};

unit quantity_unit(enum quantity q, double typical)
{
    const unit *u = units[q];
    /* what rounds to 1000 of one unit is 1 of the next */
    while (u[1].name && typical >= u[1].size * 0.9995) u++;
    return *u;
}

/* "1.50" is "1.5": without an interval, zeros at the end say nothing. */
static void trim(char *number)
{
    char *last = number + strlen(number) - 1;
    if (!strchr(number, '.') || strchr(number, 'e')) return;
    while (*last == '0') *last-- = 0;
    if (*last == '.') *last = 0;
}

void quantity_text(enum quantity q, double value, char *out, size_t size)
{
    char number[NUMBER_TEXT];
    const unit u = quantity_unit(q, fabs(value));
    number_text(value / u.size, 0, number);
    trim(number);
    snprintf(out, size, "%s%s%s", number, *u.name ? " " : "", u.name);
}

void number_text(double value, double half_width, char *out)
{
    const bool interval = half_width > 0 && isfinite(half_width);
    int decimals = 0;
    if (!isfinite(value)) {
        snprintf(out, NUMBER_TEXT, "-");
        return;
    }
    if (interval) decimals = (int)-floor(log10(half_width));
    else if (fabs(value - round(value)) > 1e-9 * fabs(value))
        decimals = 2 - (int)floor(log10(fabs(value)));
    if (decimals > (interval ? 12 : 5) || fabs(value) >= 1e15) {
        snprintf(out, NUMBER_TEXT, "%.2e", value);
        return;
    }
    if (decimals < 0) {
        const double step = pow(10, -decimals);
        value = round(value / step) * step;
    }
    snprintf(out, NUMBER_TEXT, "%.*f", decimals > 0 ? decimals : 0, value);
}
