/* modelkeys.h - what is said of a model: metadata of its file, options of the
 * command, and what has to be assumed where neither says it.
 *
 * Values are read as Python, JSON and configuration files of papers write them:
 * True, [7, 7], (7,7), 7x7, "tanh", None; keys also by other people's names
 * (num_heads, patch_size ...).  Nothing is passed over in silence: a key that is
 * not known, a value that cannot be read and two that contradict each other are
 * errors that name file, key, value and remedy.
 */
#ifndef MODELKEYS_H
#define MODELKEYS_H

#include "../harness/array.h"
#include "../harness/error.h"
#include "../kernels/plan.h"

/* What an option of the command says: --heads 4 is { "heads", "4", "heads" }. */
typedef struct model_option {
    const char *key, *value;
    const char *option; /* its name, without dashes                          */
} model_option;

enum { MODEL_KEY = 32, MODEL_VALUE = 96, MODEL_ASSUMED = 16 };

typedef struct model_assumption {
    char key[MODEL_KEY], value[MODEL_VALUE], why[MODEL_VALUE];
} model_assumption;

/* All that had to be assumed, in the order of asking. */
typedef struct model_assumptions {
    model_assumption item[MODEL_ASSUMED];
    int count;
} model_assumptions;

typedef struct model_said {
    const char *key;     /* in our spelling                                  */
    char *value;         /* plain: "7,7", "1", "tanh"                        */
    const char *typed, *as; /* as written: "num_heads", "(7, 7)"             */
    bool option;         /* said by an option, not by the file               */
} model_said;

typedef struct model_keys {
    const archive *file;
    model_said *said;
    int count;
    model_assumptions assumed;
    char *unread;        /* an "input" that is no formula of ours; or NULL   */
} model_keys;

/* Collects metadata and options (count of them); both outlive it.  0, or -1:
 * a key is not known, or what is said contradicts itself. */
int model_keys_read(model_keys *k, const archive *file,
                    const model_option *options, int count, error *e);
void model_keys_free(model_keys *k);

/* What is said of a key, plain, or NULL. */
const char *model_key(const model_keys *k, const char *key);

/* The key is read and means nothing else: a mechanism's field of the same name
 * is not meant. */
void model_key_done(model_keys *k, const char *key);

/* " (causal='2', window='3')": what is said that is not the model's own; "" if
 * nothing.  Allocated. */
char *model_key_list(const model_keys *k);

/* "FILE: metadata num_heads='x' WHAT", or "FILE: --heads 'x' WHAT", of a key that
 * is said.  -1. */
__attribute__((format(printf, 4, 5)))
int model_key_wrong(const model_keys *k, const char *key, error *e,
                    const char *format, ...);

/* Each returns 1 if the key is said and *out is set, 0 if it is not said, -1 with
 * e if the value cannot be read. */
int model_key_word(const model_keys *k, const char *key,
                   const char *const *words, int count, int *out, error *e);
int model_key_integer(const model_keys *k, const char *key, int least, int most,
                      int *out, error *e);
/* Up to `room` integers or numbers; their count in *n. */
int model_key_integers(const model_keys *k, const char *key, int least,
                       int most, int room, int *out, int *n, error *e);
int model_key_numbers(const model_keys *k, const char *key, int room,
                      double *out, int *n, error *e);

/* Fields of the mechanism's problem.  0 or -1. */
int model_key_fields(model_keys *k, const att_mechanism *m, att_problem *p,
                     error *e);

/* Notes that key had to be assumed, and why. */
__attribute__((format(printf, 4, 5)))
void model_assume(model_keys *k, const char *key, const char *why,
                  const char *format, ...);

#endif
