/* text.h - text for people: wrapped to the terminal, in columns, coloured. */
#ifndef TEXT_H
#define TEXT_H

#include <stdio.h>

enum text_color { TEXT_PLAIN, TEXT_BOLD, TEXT_GOOD, TEXT_BAD, TEXT_WARN };

/* The escape sequences of a colour and of its end, or "" where color_on() says
 * no. */
const char *text_on(FILE *f, enum text_color color);
const char *text_off(FILE *f, enum text_color color);

/* Prints text, wrapped at blanks, where the line stands at column `at` already
 * and further lines start at column `indent`; ends the line.  Lines are as wide
 * as the terminal; a file or pipe gets one line.  NULL is an empty text. */
void text_wrap(FILE *f, int at, int indent, const char *text);

/* "1,234,567"; static storage, four in turn. */
const char *text_count(double n);
/* "0 B", "12.0 KiB"; likewise. */
const char *text_bytes(double n);

#endif
