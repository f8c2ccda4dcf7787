/* axes.h - what a sweep varies, one grammar for all axes:
 *
 *     a,b,c        values
 *     lo..hi*k     lo, lo k, lo k^2 ... up to hi
 *     lo..hi+k     lo, lo + k ... up to hi
 *
 * Axes are the fields of a problem (att_fields, so a new field is a new axis)
 * and six more: seq, threads, level, pass, inputs, cache.
 */
#ifndef AXES_H
#define AXES_H

#include "../kernels/plan.h"
#include "error.h"
#include "inputs.h"

enum {
    AXIS_SEQ = ATT_FIELD_COUNT, /* tokens; each mechanism gets its own grid  */
    AXIS_THREADS,               /* integers, or "all": the physical cores    */
    AXIS_LEVEL,                 /* names, "best" or "all"                    */
    AXIS_PASS,                  /* "forward", "backward"                     */
    AXIS_INPUTS,                /* "normal", "sharp"                         */
    AXIS_CACHE,                 /* "warm", "cold"                            */
    AXES
};

/* The values of one axis as texts; count 0: the axis was not given. */
typedef struct axis {
    int count;
    char (*value)[ATT_TEXT];
    bool usual; /* not asked for: gives way to another name of the same thing */
} axis;

typedef struct axes {
    axis of[AXES];
} axes;

/* One combination, before it is fitted to a mechanism. */
typedef struct axes_point {
    att_problem problem;
    int seq; /* 0: problem.grid stands as it is                             */
    int threads;
    enum att_level level;
    enum att_pass pass;
    enum inputs_family inputs;
    bool cold;
    uint64_t usual; /* ATT_USE() bits of fields that nobody asked for       */
} axes_point;

/* Long option of an axis: "head-dim"; static storage. */
const char *axes_name(int number);
const char *axes_help(int number);
/* Axis of a name with dashes or underscores, or -1. */
int axes_find(const char *name);

/* Sets all values of one axis from text; `axes` starts zeroed.  -1: e names the
 * axis, the value and what would be valid; `missing` (may be NULL) is set if
 * the value is valid but this CPU cannot run it. */
int axes_set(axes *a, int number, const char *text, bool *missing, error *e);
/* As axes_set, for a value that a command takes if nobody asks for another. */
void axes_usual(axes *a, int number, const char *text);
/* Every axis that `over` has replaces that of a. */
void axes_overlay(axes *a, const axes *over);
void axes_free(axes *a);

/* Number of combinations; axes that were not given count once.  The first axis
 * varies slowest. */
double axes_combinations(const axes *a);
void axes_pick(const axes *a, size_t index, axes_point *out);

/* The problem of a combination as this mechanism sees it.  seq becomes the grid
 * of that many tokens that is nearest to a square (a cube) for mechanisms of
 * 2-D (3-D) maps; mechanisms that see all heads as one width get heads x
 * head_dim as one head; fields without meaning get their defaults; of a radius
 * and a window, which say the same, the usual one gives way.  NULL, or
 * what the combination asks for and the mechanism does not have: causal, other
 * keys than queries, other value channels. */
const char *axes_fit(const att_mechanism *m, const axes_point *point,
                     att_problem *out);

#endif
