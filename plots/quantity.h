/* quantity.h - numbers for people: units, and no more digits than are known. */
#ifndef QUANTITY_H
#define QUANTITY_H

#include <stddef.h>

enum quantity {
    QUANTITY_NUMBER,  /* real, no unit                                       */
    QUANTITY_COUNT,   /* integer                                             */
    QUANTITY_EVENTS,  /* a count that is read with prefixes: 10 M            */
    QUANTITY_SECONDS,
    QUANTITY_BYTES,
    QUANTITY_FLOP_PER_S,
    QUANTITY_BYTES_PER_S,
    QUANTITIES
};

/* A unit to print values of a quantity in. */
typedef struct unit {
    const char *name; /* "ms"; "" if it has none                             */
    double size;      /* in SI base units: 1e-3                              */
} unit;

/* The largest unit in which `typical` is at least 1; the smallest if none. */
unit quantity_unit(enum quantity q, double typical);

/* Value in its own best unit with up to 3 digits: "1.23 ms", "64 kB". */
void quantity_text(enum quantity q, double value, char *out, size_t size);

enum { NUMBER_TEXT = 48 };

/* Number with its digits cut where the interval's half width has its first:
 * 1234.5 +- 20 is "1230".  Without an interval (half_width not positive):
 * integers whole, other values with 3 significant digits.  Not finite: "-".
 * out holds NUMBER_TEXT bytes. */
void number_text(double value, double half_width, char *out);

#endif
