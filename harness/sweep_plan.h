/* sweep_plan.h - suites, and the list of cases that one asks for.
 *
 * A suite file (harness/suites/NAME.json):
 *
 *     { "version": 1, "brief": "...",
 *       "time": 0.3, "timeout": 60, "ci": 0.02, "processes": 6, "passes": 3, "check": 5e7,
 *       "blocks": [ { "brief": "sequence length",
 *                     "kernels": ["*"], "not": ["*.gemm"], "plain": "one",
 *                     "axes": { "seq": "256..4096*4", "head-dim": 32 },
 *                     "seconds": 60 } ] }
 *
 * processes: of a case, dealt to the passes over all cases.  version: of the suite's contents; results of different versions are different
 * experiments.  Settings stand in the suite or in a block.  kernels, not:
 * patterns of kernel or mechanism names.  plain: which of the plain kernels of
 * a mechanism: "all"; "one"; "fallback": one where it has no fast kernel;
 * "none"; or "only": one and no fast kernel.  seconds: shared by the cases of
 * the block, in place of `time` for each.
 */
#ifndef SWEEP_PLAN_H
#define SWEEP_PLAN_H

#include "axes.h"
#include "error.h"
#include "sweep_case.h"

enum sweep_plain {
    SWEEP_PLAIN_ALL,
    SWEEP_PLAIN_ONE,
    SWEEP_PLAIN_FALLBACK,
    SWEEP_PLAIN_NONE,
    SWEEP_PLAIN_ONLY
};

typedef struct sweep_patterns {
    char **of;
    int count;
} sweep_patterns;

typedef struct sweep_block {
    sweep_patterns kernels, not; /* kernels of count 0: all                  */
    enum sweep_plain plain;
    axes axes;
    sweep_settings settings;
    double seconds; /* 0: settings.seconds stands                           */
} sweep_block;

typedef struct sweep_suite {
    char *name; /* "default", or the path of a file                         */
    char *brief;
    int version; /* 0: from the command line                                */
    sweep_block *block;
    int count;
} sweep_suite;

extern const sweep_settings sweep_settings_default;

/* "all", "one", "fallback", "none", "only": the enum, or -1. */
int sweep_plain_parse(const char *text);

/* Adds the patterns of a list a,b,c.  -1: one of them matches no kernel. */
int sweep_patterns_add(sweep_patterns *p, const char *list, error *e);
void sweep_patterns_free(sweep_patterns *p);

/* Reads a suite by name or file name (with a '/' or ".json"). */
int sweep_suite_read(sweep_suite *s, const char *name, error *e);
void sweep_suite_free(sweep_suite *s);

/* Folder of the suites: found from the program's own place, so that it works in
 * the source tree and where it is installed.  Allocated; NULL with e. */
char *sweep_suites_folder(error *e);
/* Names of the suites there, sorted, without ".json"; -1 with e. */
int sweep_suite_names(char ***out, error *e);
void sweep_suite_names_free(char **names, int count);

typedef struct sweep_cases {
    sweep_case *of;
    int count;
    char **note; /* what was left out, and which grids were chosen          */
    int notes;
} sweep_cases;

/* All cases, each once, in the order of the blocks; `over` replaces axes of
 * every block, kernels and not select further.  Cases of one problem have one
 * group number. */
int sweep_cases_list(const sweep_suite *s, const axes *over,
                     const sweep_patterns *kernels, const sweep_patterns *not,
                     sweep_cases *out, error *e);
void sweep_cases_free(sweep_cases *c);

#endif
