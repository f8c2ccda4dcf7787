/* palette.h - colours of pictures and of lines. */
#ifndef PALETTE_H
#define PALETTE_H

#include <stdint.h>

/* Colour tables of 256 entries.  Viridis and magma for weights; grey for
 * pictures; diverging for signed values: entry 128 is the neutral zero, entries
 * 1 and 255 are equally far from it, entry 0 repeats entry 1. */
enum palette {
    PALETTE_VIRIDIS,
    PALETTE_MAGMA,
    PALETTE_GREY,
    PALETTE_DIVERGING
};

#define PALETTE_NAMES { "viridis", "magma", "grey", "diverging" }

void palette_fill(enum palette which, uint8_t out[256][3]);

/* Entry that shows a value on a scale; values beyond the ends get the end
 * (callers say how many), NaN gets entry 0. */
uint8_t palette_index(double value, double lo, double hi);
/* On the diverging table, scale [-max, max]. */
uint8_t palette_signed_index(double value, double max);

/* Colours of lines, as 0xRRGGBB: Okabe and Ito's set without yellow, which
 * print cannot show, told apart by people with any common colour vision. */
enum { SERIES_COLORS = 7, SERIES_GREY = 0x999999 };
extern const uint32_t series_colors[SERIES_COLORS];

#endif
