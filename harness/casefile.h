/* casefile.h - case files: inputs, parameters and expected results of a
 * mechanism in safetensors.  The format is described in results/README.md.
 */
#ifndef CASEFILE_H
#define CASEFILE_H

#include "array.h"
#include "bound.h"
#include "check.h"

typedef struct case_file {
    archive file;
    char name[128];      /* file name without folder and extension          */
    const att_mechanism *mechanism;
    att_problem problem;
    double tolerance, tolerance_grad;
    bool grad;           /* has `dout`: backward is checked as well         */
    int time_against;    /* family of inputs that may not be three times as
                            fast as those of the file; -1: not asked         */
    bool log_offset;     /* offset is minus the logarithm of the keys       */
} case_file;

/* Reads and understands a file.  -1: broken, its mechanism is unknown or lacks
 * what the file asks for. */
int case_file_read(case_file *c, const char *path, error *e);
void case_file_free(case_file *c);

/* Inputs and parameters of the file into v, made for its mechanism and problem
 * with grad as wanted. */
int case_file_fill(const case_file *c, check_values *v, error *e);

typedef struct case_result {
    double worst;      /* largest difference, on the scale of check_difference */
    char tensor[32];   /* of this tensor                                    */
    double tolerance;  /* that applied to it                                */
    int compared;      /* tensors                                           */
    bool pass;
    char names[512];   /* of the compared tensors                           */
} case_result;

/* Compares every output in v that the file has, by the bounds of the file's
 * tensors bound_NAME or else its tolerances.  `matrices`: also the effective
 * matrices, by the mechanism's rows() on v's inputs. */
int case_file_compare(const case_file *c, const check_values *v, bool matrices,
                      case_result *out, error *e);

/* Inputs and results of b->want, and b, as a case file.  source: where it is
 * from.  time_against: a family of inputs, or NULL. */
int case_file_write(const char *path, const bounds *b, const char *source,
                    const char *time_against, error *e);

#endif
