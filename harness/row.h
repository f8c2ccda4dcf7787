/* row.h - a row of the journal as a type: what is known of one case.
 *
 * row_keys.inc lists every key; struct row has the members that it names, so that
 * row->time_ns.median is the key time_ns.median.  JSON is met where a journal is
 * read or written, and where a mechanism or the machine decides what the members
 * are (problem, settings, counters, binding).
 */
#ifndef ROW_H
#define ROW_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "json.h"
#include "samples.h"

/* What is written; versions from 1 on are read. */
enum { JOURNAL_SCHEMA = 2 };

/* Whether something is so; rows of earlier versions may not say. */
typedef enum row_flag { ROW_UNKNOWN = -1, ROW_NO, ROW_YES } row_flag;

/* How values of a key are kept; ROW_GROUP is the object that groups members.  A
 * number that is not known is NaN, also a whole one, a text NULL. */
enum row_type {
    ROW_TEXT,    /* const char *                                             */
    ROW_NUMBER,  /* double                                                   */
    ROW_INTEGER, /* double: whole                                            */
    ROW_COUNT,   /* double: a count, which a plugin may give as a mean       */
    ROW_FLAG,    /* row_flag                                                 */
    ROW_OBJECT,  /* const json *                                             */
    ROW_ARRAY,   /* const json *                                             */
    ROW_SAMPLES, /* measurement                                              */
    ROW_ANY,     /* of a key that is no member: varies                       */
    ROW_GROUP,
    ROW_PAGE     /* no key: a table of the page begins                       */
};

/* Whether a row has the key. */
enum row_need {
    ROW_REQUIRED, /* a row without it is refused                             */
    ROW_NULLABLE, /* always; null where it is not known                      */
    ROW_OPTIONAL, /* where it is known                                       */
    ROW_OLD       /* in rows of earlier versions only                        */
};

/* A row of any kind.  Those of cases ("case", "cache", "aa") are here whole; of
 * "env" and "end" what is in the tables `every` and `case`.  Texts and JSON belong
 * to whoever filled it in; of row_read() they point into the JSON it was read from,
 * and the samples are its own. */
struct row {
#define ROW_C_TEXT    const char *
#define ROW_C_NUMBER  double
#define ROW_C_INTEGER double
#define ROW_C_COUNT   double
#define ROW_C_FLAG    row_flag
#define ROW_C_OBJECT  const json *
#define ROW_C_ARRAY   const json *
#define ROW_C_SAMPLES measurement
#define OPEN(group, need)                                   struct {
#define CLOSE(group)                                        } group;
#define F(type, group, name, need, unit, column, meaning)   ROW_C_##type name;
#define NAMED(type, member, key, need, unit, column, meaning)                  \
    ROW_C_##type member;
#include "row_keys.inc"
#undef ROW_C_TEXT
#undef ROW_C_NUMBER
#undef ROW_C_INTEGER
#undef ROW_C_COUNT
#undef ROW_C_FLAG
#undef ROW_C_OBJECT
#undef ROW_C_ARRAY
#undef ROW_C_SAMPLES
};

/* Where nothing is known. */
struct row row_unknown(void);

/* Reads an object of a journal, of schema 1 or 2: line `line` of the file `path`.
 * Keys that are not in the list are passed over.  A value of another type is
 * refused: -1, and e says where, which key, what was found and what to do. */
int row_read(struct row *r, const json *j, const char *path, int line,
             error *e);
/* The same of the members of an object that is part of such a row; r->kind says of
 * what kind.  What is of another type stays unknown. */
void row_take(struct row *r, const json *members);
void row_free(struct row *r);
/* Whether it has all keys that are required of its kind; if not, *key is one that
 * it lacks. */
bool row_is_whole(const struct row *r, const char **key);

/* The object of a row of that kind (r->kind), of this program's schema; the caller
 * frees.  Texts and JSON of *r stay the caller's. */
json *row_write(const struct row *r);

/* Whether the row has that text there: row_has(r->status, "memory"). */
bool row_has(const char *text, const char *wanted);

/* ---- the list ------------------------------------------------------------ */

/* A key as a column of tables; what its unit and type say is not here. */
typedef struct row_column {
    const char *name;  /* NULL: it is none                                   */
    const char *key, *title;
    int better;
    bool standard;
} row_column;

typedef struct row_key {
    enum row_type type;
    enum row_need need;
    const char *path;    /* "time_ns.samples[].calls"; of a page its name    */
    const char *unit, *meaning; /* meaning "": that of the key before        */
    unsigned kinds;      /* of a page: of the rows that have its keys        */
    int offset;          /* in struct row; -1: not there                     */
    row_column column;
} row_key;

/* All of them, page by page, in the order in which rows are written. */
const row_key *row_keys(int *count);

/* The value of a key with an offset: NaN, NULL where it is not known or of another
 * type. */
double row_number_of(const struct row *r, const row_key *k);
const char *row_text_of(const struct row *r, const row_key *k);

/* Kinds of rows, and the bit of `kinds` of each; 0: no such kind. */
extern const char *const row_kinds[];
extern const int row_kinds_count;
unsigned row_kind_bit(const char *kind);

#endif
