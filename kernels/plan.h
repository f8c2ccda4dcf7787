/* plan.h - how callers find mechanisms and kernels, describe problems and run
 * them.  harness/ and analysis/ include this file and nothing else of kernels/.
 */
#ifndef ATT_PLAN_H
#define ATT_PLAN_H

#ifndef ATT_UNIT
#define ATT_CALLER
#endif
#include "att.h"

/* ---- instruction-set levels --------------------------------------------------- */

enum att_level { ATT_BASE, ATT_V2, ATT_V3, ATT_V4, ATT_LEVELS };

const char *att_level_name(enum att_level level); /* "base" "v2" "v3" "v4"  */
enum att_level att_level_cpu(void);  /* the best that this processor can run */
enum att_level att_level_best(void); /* and that is built; base if none is  */
/* NULL if kernels of this level are built and run here, else why not, without a full
 * stop (static storage). */
const char *att_level_reject(enum att_level level);
/* NULL if any level runs here, else why none does and the remedy. */
const char *att_level_none(void);
/* Level of a name, or -1.  "best" is att_level_best(). */
int att_level_parse(const char *name);

/* ---- registry ------------------------------------------------------------------- */

typedef struct att_entry {
    const att_kernel *kernel;
    const att_mechanism *mechanism;
    enum att_level level;
    uint64_t code; /* hash of what it is made of: compiled code of the kernel's
                      file, of its mechanism's, and of what every kernel runs
                      in; of a plugin's, the shared object                   */
} att_entry;

/* All mechanisms, sorted by name.  *out is valid for the life of the program,
 * or until the next att_load_plugin(). */
size_t att_mechanisms(const att_mechanism *const **out);
/* All kernels at all levels that this CPU can run, sorted by name, then level. */
size_t att_entries(const att_entry **out);

const att_mechanism *att_find_mechanism(const char *name); /* or NULL       */
/* The entry of that name and level, or NULL. */
const att_entry *att_find(const char *kernel, enum att_level level);

/* Loads mechanisms and kernels of a shared object built on att.h.  NULL on
 * success, else one line that says why not (static storage). */
const char *att_load_plugin(const char *path);

/* ---- problems ------------------------------------------------------------------- */

enum att_field_kind { ATT_INT, ATT_REAL, ATT_LIST, ATT_ENUM };

typedef struct att_field_info {
    enum att_field_kind kind;
    const char *name;       /* "head_dim": journal key, long option          */
    const char *short_name; /* "d": in case names                            */
    const char *other_name; /* in case files; "" if none                     */
    const char *help;       /* of an ENUM: starts "a|b|c: "                  */
} att_field_info;

extern const att_field_info att_fields[ATT_FIELD_COUNT];
extern const att_problem att_problem_default;

/* Longest text of one field, and of a case name. */
enum { ATT_TEXT = 64, ATT_NAME = 256 };

/* Sets a field from text ("7", "7x5", "7,5", "relu").  False: not a value of it;
 * p is unchanged. */
bool att_set(att_problem *p, enum att_field f, const char *text);
/* Text of a field, as att_set reads it.  out holds ATT_TEXT bytes. */
void att_get(const att_problem *p, enum att_field f, char *out);
bool att_is_default(const att_problem *p, enum att_field f);
/* Field by long name or short name, or -1. */
int att_field_find(const char *name);

/* Whether the field changes the mechanism (grid, head_dim, heads, batch, dtype
 * always do). */
bool att_uses(const att_mechanism *m, enum att_field f);
/* Sets every field that m does not use to its default, so that equal problems
 * are equal bytes. */
void att_canonical(const att_mechanism *m, att_problem *p);

/* "na2d.tiled/g=56x56,d=32,w=7,h=1,b=1,t=2,v4,forward"; out holds ATT_NAME. */
void att_case_name(const att_entry *e, const att_problem *p, int threads,
                   enum att_pass pass, char *out);

/* NULL if the mechanism is defined for p, else the reason: the checks common to
 * all mechanisms, then the mechanism's own. */
const char *att_reject(const att_mechanism *m, const att_problem *p);

/* A constant of the definition that has no field, by the name that files give it
 * ("eps", "norm_eps", "momentum" ...); false if m has none of that name. */
bool att_constant(const att_mechanism *m, const att_problem *p, const char *key,
                  double *value);

void att_shape_of(const att_mechanism *m, const att_problem *p,
                  enum att_slot slot, att_shape *out);
/* Name of an input in case files, or NULL if the mechanism has none there. */
const char *att_input_name(const att_mechanism *m, const att_problem *p,
                           enum att_slot slot);
int att_parameters(const att_mechanism *m, const att_problem *p,
                   att_tensor out[ATT_PARAMS]);
int att_extras(const att_mechanism *m, const att_problem *p,
               att_tensor out[ATT_EXTRAS]);
/* Seeded default values of parameter `index`; data holds its elements. */
void att_parameter_fill(const att_mechanism *m, const att_problem *p, int index,
                        const att_tensor *t, float *data);
/* Children that are forked from here on need not draw them. */
void att_parameters_keep(const att_mechanism *m, const att_problem *p);
/* Columns of the effective matrix. */
size_t att_columns(const att_mechanism *m, const att_problem *p);
size_t att_dtype_bytes(int dtype);

/* ---- plans ---------------------------------------------------------------------- */

/* A kernel bound to a problem, with every byte it needs in one allocation.
 * Create once, run many times, free once.  It points into itself: pass its
 * address, never copy it. */
typedef struct att_plan {
    const att_entry *entry;
    att_problem problem;
    att_sizes sizes;
    att_cost cost[2];        /* by pass: the definition's; backward with grad */
    att_cost executed[2];    /* by pass: the kernel's own                    */
    int parameters, extras;
    att_tensor parameter[ATT_PARAMS];
    att_tensor extra[ATT_EXTRAS];
    size_t parameter_bytes;
    att_call call;           /* the caller sets q, k, v, o before each run; it
                                may also redirect param[], extra[]           */
    float *param[ATT_PARAMS]; /* writable view; after a change, prepare again */
    void *block;
    size_t block_bytes;
} att_plan;

/* NULL on success, else the reason (static text).  grad: forward() shall save
 * what backward() needs.  With dry, only sizes, costs and descriptions are
 * filled in and nothing is allocated. */
const char *att_plan_create(att_plan *plan, const att_entry *entry,
                            const att_problem *p, int threads, bool grad,
                            bool dry);
/* While a kernel runs, the calling thread and the team flush denormals: floats
 * below 2^-126 in magnitude count as 0, read or made.  The calling thread has its
 * own mode back afterwards. */
void att_plan_prepare(att_plan *plan);
void att_plan_forward(const att_plan *plan);
/* After att_plan_forward() on the same inputs. */
void att_plan_backward(const att_plan *plan, const att_grad *g);
void att_plan_free(att_plan *plan);

/* ---- references ------------------------------------------------------------------ */

/* The reference over the whole batch of r->p; gradients are zeroed first, those
 * of parameters summed over the batch. */
void att_reference_forward(const att_mechanism *m, const att_ref *r);
void att_reference_backward(const att_mechanism *m, const att_ref *r);

/* ---- numbers --------------------------------------------------------------------- */

/* splitmix64 and two normals from it (Box-Muller): the one random generator of
 * the project, so that every input can be made again from its seed. */
uint64_t att_random(uint64_t *state);
double att_uniform(uint64_t *state); /* in [0, 1)                            */
double att_normal(uint64_t *state);

/* A process that is going to fork children that draw the same numbers again and
 * again keeps them: the first n (at most a million) of att_normal() from a seed
 * on.  No error where memory lacks.  kept(): they, or NULL. */
void att_normals_keep(uint64_t seed, size_t n);
const double *att_normals_kept(uint64_t seed, size_t n);

/* n float to or from storage of a dtype (round to nearest even). */
void att_store(int dtype, void *out, const float *in, size_t n);
void att_fetch(int dtype, float *out, const void *in, size_t n);

#endif
