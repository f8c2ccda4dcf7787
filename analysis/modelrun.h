/* modelrun.h - forward passes of whole models, measured in a child process. */
#ifndef MODELRUN_H
#define MODELRUN_H

#include "../harness/error.h"
#include "../harness/json.h"
#include "../harness/stats.h"
#include "zoo.h"

/* One model to run: "swin_t", "swin_t:repbn" (another norm) or
 * "swin_t:repbn:folded" (that norm folded into its neighbours). */
typedef struct model_spec {
    char text[96], name[96], norm[96]; /* norm "": the file's own             */
    bool folded;
    char *path;
} model_spec;

int model_spec_read(model_spec *s, const char *text, error *e);
void model_spec_free(model_spec *s);

typedef struct run_options {
    int threads, image; /* image 0: the file's                              */
    double seconds;     /* of sampling, for each model                      */
    uint64_t seed;
    const char *weights; /* checkpoint, or NULL                              */
} run_options;

typedef struct model_result {
    char name[96];    /* as asked for                               */
    char title[96];   /* as the model's file says                   */
    stats_summary ns; /* one forward pass of one picture            */
    zoo_count count;
    double top1;              /* published, NaN: none                       */
    double share[NET_SHARES]; /* of the time                                */
    double level[16];         /* likewise; the head counts to the last      */
    int levels;
    double linear_flops; /* flop/s of the linear layers                */
    double sgemm_flops;  /* flop/s of a 1024-cubed product, as measured
                            in the same process                        */
    double peak_rss;     /* bytes; NaN: several models in one process  */
    double held;         /* bytes of activations and plans             */
    json *samples;       /* of measure_samples()                       */
} model_result;

/* Measures one model after the other, each in a process of its own, or, if
 * `interleave`, all of them in one, a pass of each in turn.  ratio: if not NULL
 * and interleaved, of the time of model i to that of model 0 in the same turn.
 * Results belong to the caller, also after a failure. */
int model_run(const model_spec *specs, int count, const run_options *o,
              bool interleave, model_result *out, stats_summary *ratio,
              error *e);
void model_results_free(model_result *list, int count);

#endif
