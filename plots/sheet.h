/* sheet.h - a table and its forms: Markdown, CSV, LaTeX, JSON, plain text.
 *
 * Every form has the same columns.  Forms for people (Markdown, LaTeX, text)
 * print a cell's text under the column's title; forms for programs (CSV, JSON)
 * print its value, unrounded and in SI units, under the column's key.
 */
#ifndef SHEET_H
#define SHEET_H

#include <stdbool.h>
#include <stdio.h>

#include "../harness/error.h"
#include "../harness/json.h"

enum sheet_format { SHEET_MD, SHEET_CSV, SHEET_TEX, SHEET_JSON, SHEET_TEXT };

/* By name; -1 with the valid ones in e. */
int sheet_format_find(const char *name, error *e);

typedef struct cell {
    char *text;   /* for people                                              */
    char *word;   /* value if it is a word; NULL: it is the number           */
    double number; /* NaN: missing                                           */
    bool bold;
} cell;

typedef struct heading {
    char *title, *key;
    bool right; /* aligned at the right: numbers                             */
} heading;

typedef struct sheet {
    heading *column;
    int columns;
    cell *at; /* [rows][columns]                                             */
    int rows;
    char *group;     /* title over the columns from `group_from` on; or NULL */
    int group_from;
    char *caption;   /* a sentence above, for people; or NULL                */
    char *footnote;  /* sentences below, likewise                            */
} sheet;

/* Texts are copied.  NULL texts are "". */
void sheet_column(sheet *s, const char *title, const char *key, bool right);
/* A new row of empty cells; all columns exist. */
void sheet_row(sheet *s);
/* The cell of the last row. */
cell *sheet_last(sheet *s, int column);
void cell_word(cell *c, const char *word);
void cell_number(cell *c, double number, const char *text);
void sheet_text(char **member, const char *text);
void sheet_free(sheet *s);

/* Rows as an array of objects. */
json *sheet_rows(const sheet *s);

/* Writes one form; JSON is the array alone. */
void sheet_write(FILE *f, const sheet *s, enum sheet_format format);

#endif
