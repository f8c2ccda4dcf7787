/* accuracy.h - how far kernels are from the double-precision reference, on ordinary
 * inputs and on such as stress them, and whether they give the same bits again, with
 * other threads and at other levels.
 *
 * Errors are in units in the last place of each tensor's scale (ulp.h): the largest
 * value of the reference, or of the same problem on normal inputs of at most this
 * size where that is larger (bound.h: scale), as for the gradients of a saturated
 * softmax.  A gradient that vanishes since its terms cancel wholly (that of a term
 * which all keys share, before a softmax) has the scale of these terms.  Units are
 * those of the storage for what is stored in it and for gradients, which start from
 * it; of a float for other results.
 */
#ifndef ACCURACY_H
#define ACCURACY_H

#include "check.h"
#include "draw.h"

/* ---- inputs -------------------------------------------------------------- */

/* One problem and its values. */
typedef struct accuracy_input {
    const char *name; /* "normal", "equal keys" ... (static)                  */
    bool ordinary;    /* else it is there to stress                           */
    drawn values;     /* problem, kinds, seed                                 */
    const char *left_out; /* why it is not run (static), or NULL              */
} accuracy_input;

typedef struct accuracy_inputs {
    accuracy_input *item;
    int count;
} accuracy_inputs;

/* All of a mechanism in one storage.  many: also every small shape of shapes.h, and
 * long rows of what takes minutes.  0 or -1 (memory). */
int accuracy_inputs_make(accuracy_inputs *list, const att_mechanism *m, int dtype,
                         bool many, error *e);
void accuracy_inputs_free(accuracy_inputs *list);

/* ---- results ------------------------------------------------------------- */

typedef struct accuracy_tensor {
    char name[32]; /* "out", "lse", "dq" ...                                  */
    bool gradient;
    double scale, unit;
    double max, rms; /* in units; infinity: not finite                        */
} accuracy_tensor;

enum accuracy_way { /* in which the same bits are expected                    */
    ACCURACY_REPEAT,
    ACCURACY_THREADS, /* 1, 2 and 3 of them                                   */
    ACCURACY_LEVELS,
    ACCURACY_WAYS
};

typedef struct accuracy_same {
    bool tried, same;
    double ulp; /* the largest difference                                     */
} accuracy_same;

/* A kernel at a level on one input. */
typedef struct accuracy_result {
    char status[16];   /* "" not tried, "ok", "unsupported", those of isolate.h */
    char reason[320];  /* why not ok, or has no gradients                     */
    bool backward;     /* has gradients                                       */
    int tensors;
    accuracy_tensor tensor[CHECK_OUTPUTS];
    accuracy_same same[2][ACCURACY_WAYS]; /* by pass                          */
} accuracy_result;

/* Measures entries of one mechanism, those of a kernel behind one another, on an
 * input; `wanted` says which.  Errors are of calls with that many threads.  *current
 * is the entry that runs.  -1: the input could not be made or its reference is at
 * fault. */
int accuracy_measure(const accuracy_input *in, const att_entry *const *entry,
                     int count, const bool *wanted, int threads,
                     accuracy_result *out, volatile int *current, error *e);

/* The same in a child process of at most so many seconds: whoever dies there has
 * its status, and the others their turn. */
int accuracy_try(const accuracy_input *in, const att_entry *const *entry, int count,
                 int threads, double seconds, accuracy_result *out, error *e);

/* The tensor of a pass with the largest error; NULL: nothing was measured. */
const accuracy_tensor *accuracy_worst(const accuracy_result *r, enum att_pass pass);

/* ---- attnbench verify --accuracy ----------------------------------------- */

typedef struct accuracy_options {
    const char *name; /* of the command, for messages                         */
    bool (*selected)(const att_entry *entry, const void *arg);
    const void *arg;
    bool many;
    int threads;
    double timeout;   /* seconds of all kernels of a mechanism on one input   */
    const char *out;  /* folder of a journal, or NULL                         */
} accuracy_options;

/* Prints the table and appends rows; an exit code of error.h. */
int accuracy_verify(const accuracy_options *o);

#endif
