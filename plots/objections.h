/* objections.h - what a reviewer would object to in a run: a list of rules,
 * each a test on what its journal says.  What a journal does not say (of an
 * earlier version) is unknown and nothing to object to, unless the rule is
 * about that.
 */
#ifndef OBJECTIONS_H
#define OBJECTIONS_H

#include "results.h"

enum severity { SEVERITY_NOTE, SEVERITY_WARNING, SEVERITY_ERROR };

/* What a rule looks at, one after the other. */
enum objection_scope {
    OBJECTION_RUN,     /* all cases that a table would show                  */
    OBJECTION_ENV,     /* an env row                                         */
    OBJECTION_WARNING, /* a warning of an env row                            */
    OBJECTION_CASE,    /* a case                                             */
    OBJECTION_RATIO,   /* a row with a ratio                                 */
    OBJECTION_FIT      /* a fit of the end row                               */
};

enum { OBJECTION_DETAIL = 200 };

typedef struct objection_subject {
    const results *run;
    const json *row;     /* env row, warning or fit                          */
    const struct row *c; /* case or ratio                                    */
    const result *item;  /* of a case                                        */
    const json *env; /* of a case or a warning; may be NULL                 */
    int processes;   /* fewer of them, or of passes, are few                */
    double number;   /* what a test found; NaN: nothing to count            */
    char detail[OBJECTION_DETAIL]; /* besides, in words                      */
} objection_subject;

typedef struct objection {
    const char *id; /* "wide": in tables                                */
    enum severity severity;
    enum objection_scope scope;
    const char *text;   /* what is wrong, as a sentence                     */
    const char *format; /* of the number, times `scale`                     */
    double scale;
    const char *remedy;
    bool (*test)(objection_subject *s); /* whether it applies                */
} objection;

extern const objection objections[];
extern const int objections_count;

/* One that applies.  `name` is the case or series, or an env row's id; both
 * texts point into the journal or the rule, where detail is empty. */
typedef struct objection_found {
    const objection *rule;
    const char *name, *remedy;
    double number;
    char detail[OBJECTION_DETAIL];
} objection_found;

enum { OBJECTION_PROCESSES = 3 };

/* All of a run, rule by rule; *out is freed by the caller. */
int objections_find(const results *r, int processes, objection_found **out);

/* Ids of those that apply to one case, with blanks between; "" if none does. */
void objections_of_case(const result *r, char *out, size_t size);

/* The same, a letter each and nothing between: for columns that people read. */
void objections_mark(const result *r, char *out, size_t size);

/* "cases of several days stand in one table: 2" for people; "" if they belong
 * together. */
void objections_of_mixture(const results *r, char *out, size_t size);

/* "a wide: its interval ...; ..." of those that apply to a case of the run, with
 * their letters. */
void objections_explain(const results *r, char *out, size_t size);

#endif
