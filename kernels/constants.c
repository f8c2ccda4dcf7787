/* constants.c - numbers of the definitions that nobody can set, by the names that
 * files have for them: a file that was made with another one asks for another
 * mechanism.
 */
#include "plan.h"

#include <string.h>

static const struct {
    const char *key, *mechanism;
    double value;
} constants[] = {
    { "eps", "aft_full", 0 },          { "eps", "aft_local", 0 },
    { "eps", "aft_simple", 0 },        { "eps", "aft_conv", 0 },
    { "eps", "cosformer", 1e-6 },      { "eps", "efficient", 0 },
    { "eps", "external", 1e-9 },       { "eps", "favor_pm", 1e-6 },
    { "eps", "focused_linear", 1e-6 }, { "eps", "linear", 1e-6 },
    { "eps", "pernode_pool", 1e-8 },   { "eps", "sla", 1e-6 },
    { "eps", "sla_1d", 1e-6 },         { "mask_value", "swin", -100 },
    { "momentum", "batchnorm", 0.1 },  { "momentum", "repbn", 0.1 },
    { "momentum", "prepbn", 0.1 },     { "momentum", "repbn_fold", 0.1 },
};

static bool performer(const att_problem *p, const char *key, double *value)
{
    if (!strcmp(key, "kernel_eps"))
        *value = p->kernel_fn == ATT_FN_SOFTMAX ? 1e-4 : 1e-3;
    else if (!strcmp(key, "eps"))
        *value = att_at(&p->causal, 0, 0) ? 1e-6 : 0;
    else return false;
    return true;
}

static bool pairwise(const att_problem *p, const char *key, double *value)
{
    const int norm = p->normalisation, similarity = p->similarity;
    if (!strcmp(key, "norm_eps"))
        *value = norm == ATT_NORM_L1 || norm == ATT_NORM_MAX ||
                         norm == ATT_NORM_MINMAX
                     ? 1e-6
                     : 0;
    else if (!strcmp(key, "eps"))
        *value = similarity == ATT_COSINE || similarity == ATT_PEARSON ? 1e-8
                 : similarity == ATT_NEG_EUCLID                       ? 1e-12
                                                                      : 0;
    else return false;
    return true;
}

bool att_constant(const att_mechanism *m, const att_problem *p, const char *key,
                  double *value)
{
    if (!strcmp(m->name, "performer")) return performer(p, key, value);
    if (!strcmp(m->name, "pairwise")) return pairwise(p, key, value);
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (!strcmp(key, constants[i].key) &&
            !strcmp(m->name, constants[i].mechanism)) {
            *value = constants[i].value;
            return true;
        }
    return false;
}
