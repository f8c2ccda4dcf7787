/* modelcount.h - parameters and multiply-adds of models beside what their
 * papers print.
 *
 * Papers print multiply-adds as "FLOPs", and some add 5 operations for each
 * value that a norm reads, as the tool fvcore does: printed FLOPs are met if
 * either number, rounded to the digits printed, equals them.  Printed
 * parameters are met rounded or cut off.  Integers known from official code
 * (member "expected" of a model file) must be met exactly.
 */
#ifndef MODELCOUNT_H
#define MODELCOUNT_H

#include <stdio.h>

#include "zoo.h"

enum count_format {
    COUNT_ALIGNED,
    COUNT_MD,
    COUNT_CSV,
    COUNT_TEX,
    COUNT_FORMATS
};
extern const char *const count_format_names[COUNT_FORMATS];

enum count_verdict { COUNT_NOTHING, COUNT_EXACT, COUNT_ROUNDS, COUNT_DIFFERS };

typedef struct model_count {
    char name[64];
    zoo_count count;
    char parameters[16], flops[16]; /* as printed, "28M" "4.3G"; "": not   */
    enum count_verdict parameters_verdict, flops_verdict;
    char note[512];      /* what the count assumes               */
    int integers, wrong; /* of "expected": compared, not met    */
} model_count;

void model_count_make(const zoo_model *m, model_count *out);

/* Does a number meet printed digits such as "4.3G", rounded, or (cut) cut off?
 * False also for a text that is not such a number. */
bool count_meets(double value, const char *printed, bool cut);

void model_count_print(FILE *f, const model_count *list, int n,
                       enum count_format format);

#endif
