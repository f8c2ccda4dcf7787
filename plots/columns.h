/* columns.h - everything that can be said of a case, once: tables in every
 * format, pivots, figures and their axes take names, units and values from
 * here.
 */
#ifndef COLUMNS_H
#define COLUMNS_H

#include "../harness/error.h"
#include "quantity.h"
#include "results.h"

enum column_kind {
    COLUMN_TEXT, /* words                                                    */
    COLUMN_AXIS, /* what was varied: threads, tokens, fields of the problem  */
    COLUMN_VALUE /* what was measured or counted                             */
};

typedef struct column {
    const char *name;  /* on the command line: "time", "head_dim"            */
    const char *key;   /* in CSV and JSON, with the SI unit: "time_ns"       */
    const char *title; /* for people, without unit: "time per call"          */
    enum column_kind kind;
    enum quantity quantity;
    double si;         /* machine value to SI base unit: 1e-9 for ns         */
    int better;        /* -1: less is better, 1: more, 0: neither            */
    bool standard;     /* in a table that names no columns                   */
    const row_key *member; /* of the row; NULL: derived, an axis, an event   */
    void (*derive)(const result *r, double value[3]);
    const char *(*word)(const result *r); /* derived words                   */
} column;

/* All columns for these results: the fixed ones, one per axis of the problems,
 * one per counter. */
typedef struct columns {
    column *item;
    int count;
    char **owned; /* names made here                                         */
    int owned_count;
} columns;

void columns_make(columns *c, const results *r);
/* Those that other results have besides. */
void columns_more(columns *c, const results *r);
void columns_free(columns *c);

/* By name or key, or by the short names n, seq, d, w, h, b, t, g; dashes stand
 * for underscores.  NULL and the nearest spelling in e. */
const column *columns_find(const columns *c, const char *name, error *e);

/* value[0] in the machine unit, value[1..2] its 95 % interval; NaN where there
 * is none. */
void column_numbers(const column *c, const result *r, double value[3]);
/* Text of words and axes; "" if the case has none.  out: RESULT_TEXT bytes, or
 * more for words. */
void column_text(const column *c, const result *r, char *out, size_t size);
/* The same for people, where words are too long for a table. */
void column_mark(const column *c, const result *r, char *out, size_t size);
/* How many of these cases are measured with it? */
bool column_has_interval(const column *c);

#endif
