/* gnuplot.h - figures by gnuplot through a pipe: the one place that talks to
 * it.
 *
 * A figure is a folder, a name, a size and commands.  It is drawn as NAME.svg,
 * NAME.png (200 dpi) and NAME.pdf; the commands stay beside them as NAME.gp, so
 * that `gnuplot NAME.gp` in that folder draws the same again.  Files appear
 * whole or not at all.
 */
#ifndef GNUPLOT_H
#define GNUPLOT_H

#include <stdint.h>
#include <stdio.h>

#include "../harness/error.h"

enum {
    GNUPLOT_SVG = 1 << 0,
    GNUPLOT_PNG = 1 << 1,
    GNUPLOT_PDF = 1 << 2,
    GNUPLOT_ALL = GNUPLOT_SVG | GNUPLOT_PNG | GNUPLOT_PDF
};

/* Points in a millimetre; sizes of figures are in points (1/72 inch). */
#define GNUPLOT_MM (72 / 25.4)

/* Font size of a figure's text in points, unless a command says otherwise. */
#define GNUPLOT_FONT 8.0

typedef struct gnuplot {
    FILE *script; /* write the figure's commands here, no terminal, no output;
                     data files are named relative to the folder; point sizes
                     are multiples of the variable `symbol`                  */
    char *dir, *name;
    double width, height; /* points                                          */
    char *text;           /* what was written to script                      */
    size_t size;
} gnuplot;

/* "svg,png,pdf" as bits, or -1. */
int gnuplot_formats(const char *list, error *e);

/* 0, or -1 with e if there is no program gnuplot in the PATH. */
int gnuplot_find(error *e);

/* The folder exists.  0, or -1 and nothing to clean up. */
int gnuplot_begin(gnuplot *g, const char *dir, const char *name, double width,
                  double height, error *e);
/* Writes NAME.gp, whose top carries `comment` (lines of text), and draws the
 * formats unless they are 0.  Frees everything, also on failure. */
int gnuplot_end(gnuplot *g, const char *comment, unsigned formats, error *e);
void gnuplot_abandon(gnuplot *g);

/* Writes text as one quoted string, safe for any content. */
void gnuplot_quote(FILE *script, const char *text);
/* Makes a colour table that of the images that follow. */
void gnuplot_palette(FILE *script, const uint8_t table[256][3]);

#endif
