/* accuracy.c - what is measured, and the child process that does it. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "accuracy.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bound.h"
#include "isolate.h"
#include "shapes.h"
#include "stop.h"
#include "ulp.h"

/* ---- inputs -------------------------------------------------------------- */

/* A row that sees at least so many keys is long. */
#define LONG_ROW 1e4

/* Operations that a reference may take, in double and one after the other: a
 * quarter of a second, and half a minute. */
#define AFFORDABLE 5e7
#define AFFORDABLE_MANY 4e9

/* Most bytes that a kernel may take. */
#define MEMORY 1e9

enum side { ALL, KEYS }; /* keys: or what stands in their place               */

static const struct kind {
    const char *name;
    enum inputs_family family;
    enum side side;
    bool halves; /* what f16 and bf16 can hold                                */
} kinds[] = {
    { "normal", INPUTS_NORMAL, ALL, true },
    { "sharp logits", INPUTS_SHARP, KEYS, true },
    { "large logits", INPUTS_LARGE, KEYS, true },
    { "equal keys", INPUTS_CHANNELS, KEYS, true },
    { "one outlier", INPUTS_OUTLIER, KEYS, true },
    { "tiny", INPUTS_TINY, ALL, false },
    { "denormal", INPUTS_DENORMAL, ALL, false },
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* Grids of one size, by axes: those of 144 tokens, and of at least LONG_ROW. */
static const char *const usual_grid[] = { "144", "12x12", "4x6x6" };
static const char *const long_grid[] = { "10240", "80x128", "16x20x32" };

/* Index of the first of the three grids that the mechanism takes; -1: none. */
static int usual_problem(const att_mechanism *m, const char *const *grid, int dim,
                         att_problem *p)
{
    for (int axes = 0; axes < 3; axes++)
        if (shapes_usual(m, grid[axes], dim, p)) return axes;
    return -1;
}

static bool has_input(const att_mechanism *m, const att_problem *p,
                      enum att_slot slot)
{
    return att_input_name(m, p, slot) != NULL;
}

static enum att_slot keys_slot(const att_mechanism *m, const att_problem *p)
{
    return has_input(m, p, ATT_K) ? ATT_K : has_input(m, p, ATT_Q) ? ATT_Q : ATT_V;
}

static drawn values_of(const att_mechanism *m, const att_problem *p,
                       const struct kind *kind, uint64_t seed)
{
    drawn d = { .mechanism = m, .problem = *p, .grad = m->backward != NULL,
                .seed = seed };
    const enum att_slot keys = keys_slot(m, p);
    for (int i = 0; i < DRAW_DOUT; i++)
        if (kind->side == ALL || i == (int)keys) d.kind[i] = kind->family;
    return d; /* parameters and the upstream gradient stay normal */
}

static accuracy_input *add(accuracy_inputs *list, const char *name, bool ordinary,
                           const drawn *values)
{
    accuracy_input *grown =
        realloc(list->item, ((size_t)list->count + 1) * sizeof *grown);
    if (!grown) return NULL;
    list->item = grown;
    accuracy_input *in = &grown[list->count++];
    *in = (accuracy_input){ .name = name, .ordinary = ordinary, .values = *values };
    return in;
}

/* Keys of the longest row, if rows see about as many. */
static double keys_of_row(const att_mechanism *m, const att_problem *p)
{
    att_cost cost = { 0 };
    m->cost(p, ATT_FORWARD, &cost);
    return cost.pairs / ((double)att_tokens(p) * p->heads * p->batch);
}

/* What a reference does, about: the definition's operations; where rows are
 * normalised channel by channel it goes through the pairs of each one. */
static double work_of(const att_mechanism *m, const att_problem *p)
{
    att_cost cost = { 0 };
    m->cost(p, ATT_FORWARD, &cost);
    const double width = (double)p->head_dim + (double)att_value_dim(p);
    const unsigned channels = ATT_PER_CHANNEL | ATT_ROWS_SUM_1;
    return att_flops(&cost) +
           ((m->traits & channels) == channels ? cost.pairs * width : 0);
}

/* Few queries and many keys where they may differ in number, else a grid as long,
 * whose windows are as wide. */
static bool long_problem(const att_mechanism *m, att_problem *p)
{
    if (att_uses(m, ATT_FIELD_tokens_k) && shapes_usual(m, "16", 8, p)) {
        p->tokens_k = (int)LONG_ROW + 241; /* no multiple of a tile */
        if (!att_reject(m, p)) return true;
    }
    if (usual_problem(m, long_grid, 8, p) < 0) return false;
    if (!(m->traits & ATT_ONE_WIDTH)) p->heads = 1;
    att_problem wide = *p;
    wide.window = p->grid;
    for (int less = 0; att_uses(m, ATT_FIELD_window) && less < 2; less++) {
        for (int a = 0; less && a < p->grid.n; a++) wide.window.v[a]--;
        if (att_reject(m, &wide)) continue;
        *p = wide;
        break;
    }
    return !att_reject(m, p);
}

static int add_long(accuracy_inputs *list, const att_mechanism *m, int dtype,
                    bool many)
{
    static const char name[] = "long rows";
    att_problem p;
    if (!long_problem(m, &p)) return 0;
    p.dtype = dtype;
    att_canonical(m, &p);
    const drawn d = values_of(m, &p, &kinds[0], 1);
    accuracy_input *in = add(list, name, false, &d);
    if (!in) return -1;
    /* what has no pairs, or one of each token, sums over tokens all the same */
    const double keys = keys_of_row(m, &p), work = work_of(m, &p);
    if (keys > 1 && keys < LONG_ROW)
        in->left_out = "its rows see fewer keys, however many there are";
    else if (work > AFFORDABLE_MANY)
        in->left_out = "its reference would take minutes";
    else if (work > AFFORDABLE && !many)
        in->left_out = "its reference would take seconds; --many waits";
    return 0;
}

/* Every small shape of normal inputs in that storage. */
static int add_shapes(accuracy_inputs *list, const att_mechanism *m, int dtype,
                      error *e)
{
    shapes s;
    int rc = shapes_make(&s, m, SHAPES_FEW, e);
    if (rc) return -1;
    for (int i = 0; !rc && i < s.count; i++) {
        const att_problem *p = &s.item[i].problem;
        if (s.item[i].family != INPUTS_NORMAL || p->dtype != dtype) continue;
        const drawn d = values_of(m, p, &kinds[0], s.item[i].seed);
        if (!add(list, kinds[0].name, true, &d))
            rc = error_set(e, "out of memory for the list of inputs");
    }
    shapes_free(&s);
    return rc;
}

int accuracy_inputs_make(accuracy_inputs *list, const att_mechanism *m, int dtype,
                         bool many, error *e)
{
    att_problem p;
    int rc = 0;
    *list = (accuracy_inputs){ 0 };
    const bool some = usual_problem(m, usual_grid, 32, &p) >= 0;
    p.dtype = dtype;
    for (int k = 0; some && !rc && k < KINDS; k++) {
        if (dtype != ATT_F32 && !kinds[k].halves) continue;
        const drawn d = values_of(m, &p, &kinds[k], 1);
        rc = add(list, kinds[k].name, k == 0, &d) ? 0 : -1;
    }
    if (!rc) rc = add_long(list, m, dtype, many);
    if (rc) error_set(e, "out of memory for the list of inputs");
    if (!rc && many) rc = add_shapes(list, m, dtype, e);
    if (rc) accuracy_inputs_free(list);
    return rc;
}

void accuracy_inputs_free(accuracy_inputs *list)
{
    free(list->item);
    *list = (accuracy_inputs){ 0 };
}

/* ---- the reference ------------------------------------------------------- */

/* As kernels see them: att.h. */
static void flush_denormals(double *x, size_t n)
{
    for (size_t i = 0; x && i < n; i++)
        if (fabs(x[i]) < (double)FLT_MIN) x[i] = 0;
}

static int make_reference(const drawn *d, check_values *want, bounds *b, error *e)
{
    isolate_stage("running the reference");
    if (check_values_make(want, d->mechanism, &d->problem, d->grad, e) ||
        draw_fill(d, want, e))
        return -1;
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
        flush_denormals(want->in[s], want->elements[s]);
    check_reference(want, NULL);
    if (check_reference_sane(want, e)) return -1;
    return bounds_make(b, want, e);
}

/* ---- one kernel ---------------------------------------------------------- */

/* Results of a call on fresh memory, with the gradients if grad; the kernel does not
 * refuse the problem. */
static int call(const drawn *d, const att_entry *entry, int threads, bool grad,
                check_values *got, error *e)
{
    const char *why;
    if (check_values_make(got, d->mechanism, &d->problem, grad, e) ||
        draw_fill(d, got, e))
        return -1;
    why = check_run(entry, threads, &check_heap, got);
    return why ? error_set(e, "%s: %s", entry->kernel->name, why) : 0;
}

/* A gradient below this share of its terms cancels wholly. */
#define CANCELLED 1e-4

static double scale_of(const bounds *b, int i)
{
    const check_output *ref = &b->want->output[i];
    const double most = ulp_scale(ref->value, ref->elements);
    const double terms = bound_terms(b->want, i), scale = fmax(most, b->scale[i]);
    return most <= CANCELLED * terms ? fmax(scale, terms) : scale;
}

static void judge(const bounds *b, const check_values *got, accuracy_result *r)
{
    r->tensors = 0;
    for (int i = 0; i < got->outputs; i++) {
        const check_output *x = &got->output[i], *ref = &b->want->output[i];
        accuracy_tensor *t = &r->tensor[r->tensors++];
        const bool stored = i == 0 || x->gradient;
        memcpy(t->name, x->name, sizeof t->name);
        t->gradient = x->gradient;
        t->scale = scale_of(b, i);
        t->unit = ulp_unit(stored ? got->problem.dtype : ATT_F32, t->scale);
        const ulp_error e = ulp_compare(x->value, ref->value, x->elements, t->unit);
        t->max = e.max;
        t->rms = e.rms;
    }
}

/* Takes note of whether two calls of a kernel gave the same bits. */
static void note_same(accuracy_result *r, enum accuracy_way way,
                      const check_values *a, const check_values *b)
{
    for (int i = 0; i < r->tensors && i < a->outputs && i < b->outputs; i++) {
        const check_output *x = &a->output[i], *y = &b->output[i];
        accuracy_same *s =
            &r->same[x->gradient ? ATT_BACKWARD : ATT_FORWARD][way];
        if (!s->tried) *s = (accuracy_same){ .tried = true, .same = true };
        if (ulp_same_bits(x->value, y->value, x->elements)) continue;
        s->same = false;
        s->ulp = fmax(s->ulp, ulp_compare(x->value, y->value, x->elements,
                                          r->tensor[i].unit).max);
    }
}

/* One more call with t threads, held against another one. */
static int try_once(const drawn *d, const att_entry *entry, int t,
                    enum accuracy_way way, const check_values *other,
                    check_values *got, accuracy_result *r, error *e)
{
    if (call(d, entry, t, other->grad, got, e)) return -1;
    note_same(r, way, other, got);
    return 0;
}

/* Again with as many threads, and with others; with most of them twice. */
static int try_again(const drawn *d, const att_entry *entry, int threads,
                     const check_values *base, accuracy_result *r, error *e)
{
    enum { MOST = 3 };
    check_values got = { 0 }, again = { 0 };
    int rc = try_once(d, entry, threads, ACCURACY_REPEAT, base, &got, r, e);
    for (int t = 1; !rc && t <= MOST; t++) {
        check_values_free(&got);
        if (t != threads)
            rc = try_once(d, entry, t, ACCURACY_THREADS, base, &got, r, e);
    }
    if (!rc && got.outputs)
        rc = try_once(d, entry, MOST, ACCURACY_REPEAT, &got, &again, r, e);
    check_values_free(&got);
    check_values_free(&again);
    return rc;
}

/* NULL, or why the kernel does not take the problem, which r gets, too. */
static const char *refusal(const drawn *d, const att_entry *entry, bool grad,
                           accuracy_result *r)
{
    att_plan plan;
    const char *why = att_plan_create(&plan, entry, &d->problem, 3, grad, true);
    const bool large = !why && (double)plan.block_bytes > MEMORY;
    if (large) why = "it would take more than a gigabyte";
    if (!why) return NULL;
    snprintf(r->status, sizeof r->status, "%s", large ? "memory" : "unsupported");
    snprintf(r->reason, sizeof r->reason, "%s", why);
    return why;
}

static int measure_entry(const drawn *d, const att_entry *entry, int threads,
                         const bounds *b, check_values *base, accuracy_result *r,
                         error *e)
{
    const char *why = "";
    char stage[64];
    int rc = 0;
    snprintf(stage, sizeof stage, "running %s %s", entry->kernel->name,
             att_level_name(entry->level));
    isolate_stage(stage);
    *r = (accuracy_result){ .status = "" };
    for (int grad = d->grad; why && grad >= 0; grad--) {
        why = refusal(d, entry, grad, r);
        if (!why) rc = call(d, entry, threads, grad, base, e);
    }
    if (rc || why) return rc;
    snprintf(r->status, sizeof r->status, "ok");
    r->backward = base->grad;
    judge(b, base, r);
    return try_again(d, entry, threads, base, r, e);
}

/* ---- all kernels of a mechanism ------------------------------------------ */

int accuracy_measure(const accuracy_input *in, const att_entry *const *entry,
                     int count, const bool *wanted, int threads,
                     accuracy_result *out, volatile int *current, error *e)
{
    check_values want = { 0 };
    bounds b = { 0 };
    check_values *base = calloc((size_t)count + 1, sizeof *base);
    if (!base) return error_set(e, "out of memory for results");
    bool any = false;
    for (int i = 0; i < count; i++)
        any |= wanted[i] && !refusal(&in->values, entry[i], false, &out[i]);
    *current = -1;
    int rc = !any ? 0 : make_reference(&in->values, &want, &b, e);
    for (int i = 0; any && !rc && i < count; i++) {
        if (!wanted[i]) continue;
        *current = i;
        rc = measure_entry(&in->values, entry[i], threads, &b, &base[i], &out[i],
                           e);
        for (int k = 0; !rc && k < i; k++) {
            if (entry[k]->kernel != entry[i]->kernel &&
                strcmp(entry[k]->kernel->name, entry[i]->kernel->name))
                continue;
            note_same(&out[i], ACCURACY_LEVELS, &base[i], &base[k]);
            note_same(&out[k], ACCURACY_LEVELS, &base[k], &base[i]);
        }
    }
    for (int i = 0; i < count; i++) check_values_free(&base[i]);
    free(base);
    bounds_free(&b);
    check_values_free(&want);
    return rc;
}

const accuracy_tensor *accuracy_worst(const accuracy_result *r, enum att_pass pass)
{
    const accuracy_tensor *worst = NULL;
    for (int i = 0; i < r->tensors; i++)
        if (r->tensor[i].gradient == (pass == ATT_BACKWARD) &&
            (!worst || r->tensor[i].max > worst->max))
            worst = &r->tensor[i];
    return worst;
}

/* ---- in a child process -------------------------------------------------- */

/* What the child does, and in shared memory what it finds. */
typedef struct job {
    const accuracy_input *in;
    const att_entry *const *entry;
    int count, threads;
    bool failed;
    error e;
    volatile int current;
    bool wanted[64]; /* kernels of a mechanism at all levels                 */
    accuracy_result result[];
} job;

static json *examine(void *arg)
{
    job *j = arg;
    j->failed = accuracy_measure(j->in, j->entry, j->count, j->wanted, j->threads,
                                 j->result, &j->current, &j->e) != 0;
    return json_object();
}

/* Runs the child until nobody dies. */
static int run_job(job *j, double seconds, error *e)
{
    const isolate_limits limits = { .seconds = seconds, .stop = &stop_signal };
    for (;;) {
        isolate_result end;
        j->current = -1;
        if (isolate_run(examine, j, &limits, &end, e)) return -1;
        json_free(end.value);
        if (!strcmp(end.status, "ok")) {
            if (j->failed) *e = j->e;
            return j->failed ? -1 : 0;
        }
        if (j->current < 0 || stop_signal)
            return error_set(e, "%s: %s", end.status, end.reason);
        accuracy_result *r = &j->result[j->current];
        memcpy(r->status, end.status, sizeof r->status);
        memcpy(r->reason, end.reason, sizeof r->reason);
        r->tensors = 0;
        j->wanted[j->current] = false;
    }
}

int accuracy_try(const accuracy_input *in, const att_entry *const *entry, int count,
                 int threads, double seconds, accuracy_result *out, error *e)
{
    const size_t bytes = sizeof(job) + (size_t)count * sizeof *out;
    job *j = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                  -1, 0);
    if (j == MAP_FAILED)
        return error_set(e, "no memory for results: %s", strerror(errno));
    j->in = in;
    j->entry = entry;
    j->count = count;
    j->threads = threads;
    int rc = count > (int)(sizeof j->wanted / sizeof *j->wanted)
                 ? error_set(e, "%s has too many kernels",
                             in->values.mechanism->name)
                 : 0;
    for (int i = 0; !rc && i < count; i++) j->wanted[i] = true;
    if (!rc) rc = run_job(j, seconds, e);
    memcpy(out, j->result, (size_t)count * sizeof *out);
    munmap(j, bytes);
    return rc;
}
