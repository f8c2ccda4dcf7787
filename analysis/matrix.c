/* matrix.c - effective matrices: row function, probe, and their agreement. */
#include "matrix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- values ------------------------------------------------------------- */

int matrix_open(check_values *v, const att_mechanism *m, const att_problem *p,
                error *e)
{
    const char *why = att_reject(m, p);
    if (why) return error_set(e, "%s: %s", m->name, why);
    if (p->batch != 1)
        return error_set(e, "%s: a map is of one input: batch must be 1",
                         m->name);
    if (check_values_make(v, m, p, false, e) < 0) {
        check_values_free(v);
        return -1;
    }
    for (int i = 0; i < v->parameters; i++) {
        const size_t n = att_elements(&v->parameter[i]);
        float *x = malloc((n + 1) * sizeof *x);
        if (!x) {
            check_values_free(v);
            return error_set(e, "%s: not enough memory for its parameters",
                             m->name);
        }
        att_parameter_fill(m, p, i, &v->parameter[i], x);
        for (size_t t = 0; t < n; t++) v->param[i][t] = x[t];
        free(x);
    }
    return 0;
}

void matrix_disturb(check_values *v, double std, uint64_t seed)
{
    for (int i = 0; i < v->parameters; i++) {
        uint64_t state = seed * ATT_PARAMS + (uint64_t)i;
        const size_t n = att_elements(&v->parameter[i]);
        for (size_t t = 0; t < n && !v->parameter[i].fixed; t++)
            v->param[i][t] += std * att_normal(&state);
    }
}

static att_ref reference(const check_values *v)
{
    att_ref r = { .p = &v->problem,
                  .q = v->in[ATT_Q],
                  .k = v->in[ATT_K],
                  .v = v->in[ATT_V],
                  .o = v->o };
    for (int i = 0; i < v->parameters; i++) r.param[i] = v->param[i];
    for (int i = 0; i < v->extras; i++) r.extra[i] = v->extra_value[i];
    return r;
}

/* ---- what there is ------------------------------------------------------ */

static bool linear(const att_mechanism *m)
{
    return m->traits & (ATT_LINEAR_IN_V | ATT_ON_K);
}

bool matrix_exists(const att_mechanism *m)
{
    return m->rows || linear(m);
}

bool matrix_has(const att_mechanism *m, enum att_part part)
{
    const bool branch = m->rows && (m->traits & ATT_CONVOLUTION);
    const bool baseline = branch && (m->traits & ATT_NOT_ATTENTION);
    if (!matrix_exists(m)) return false;
    switch (part) {
    case ATT_PART_ATTENTION: return !baseline;
    case ATT_PART_CONVOLUTION: return branch;
    case ATT_PART_TOTAL: return branch && !baseline;
    }
    return false;
}

bool matrix_per_channel(const att_mechanism *m, enum att_part part)
{
    if (m->traits & ATT_PER_CHANNEL) return true;
    if (!m->rows) return true; /* nothing is known about it */
    return part != ATT_PART_ATTENTION && (m->traits & ATT_CONVOLUTION);
}

/* The input that A multiplies. */
static enum att_slot moved(const check_values *v)
{
    if (v->mechanism->traits & ATT_ON_K) return ATT_K;
    return v->in[ATT_V] ? ATT_V : ATT_Q; /* a norm or filter of x */
}

void matrix_shape_of(const att_mechanism *m, const att_problem *p,
                     matrix_shape *out)
{
    att_shape o;
    att_shape_of(m, p, ATT_O, &o);
    *out = (matrix_shape){ .heads = o.heads,
                           .channels = o.channels,
                           .rows = (size_t)o.tokens,
                           .columns = att_columns(m, p) };
    if (out->rows != att_tokens(p) || out->columns != att_tokens(p)) return;
    out->grid.axes = p->grid.n;
    for (int a = 0; a < p->grid.n; a++) out->grid.side[a] = p->grid.v[a];
}

/* ---- the matrix --------------------------------------------------------- */

/* Output of the reference when input `slot` is x and all others are v's. */
static void run(const check_values *v, enum att_slot slot, const double *x,
                double *o)
{
    att_ref r = reference(v);
    if (slot == ATT_Q) r.q = x;
    if (slot == ATT_K) r.k = x;
    if (slot == ATT_V) r.v = x;
    r.o = o;
    att_reference_forward(v->mechanism, &r);
}

static size_t output_index(const matrix_shape *shape, int head, size_t i,
                           int channel)
{
    return ((size_t)head * shape->rows + i) * (size_t)shape->channels +
           (size_t)channel;
}

static void affine(const check_values *v, int head, int channel, size_t i,
                   double *gain, double *offset)
{
    const att_ref r = reference(v);
    *gain = 1;
    *offset = 0;
    if (v->mechanism->affine)
        v->mechanism->affine(&r, head, channel, i, gain, offset);
}

/* Columns of every head and channel at once: channels do not mix, so that one
 * run with all of token j at 1 and all else at 0 gives gain A_j + offset, and a
 * run on zeros the offset. */
typedef struct probe {
    size_t each;   /* elements of the output                                */
    double *zero;  /* [each]                                                */
    double *unit;  /* [columns][each]                                       */
} probe;

static void probe_free(probe *t)
{
    free(t->zero);
    free(t->unit);
}

static void probe_run(const check_values *v, double *x, probe *t)
{
    const enum att_slot s = moved(v);
    att_shape in;
    att_shape_of(v->mechanism, &v->problem, s, &in);
    const size_t tokens = (size_t)in.tokens, wide = (size_t)in.channels;
    run(v, s, x, t->zero);
    for (size_t j = 0; j < tokens; j++) {
        for (size_t h = 0; h < (size_t)in.heads; h++)
            for (size_t c = 0; c < wide; c++)
                x[(h * tokens + j) * wide + c] = 1;
        run(v, s, x, t->unit + j * t->each);
        memset(x, 0, v->elements[s] * sizeof *x);
    }
}

static int probe_make(const check_values *v, const matrix_shape *shape,
                      probe *t, error *e)
{
    double *x = calloc(v->elements[moved(v)] + 1, sizeof *x);
    *t = (probe){ .each = v->elements[ATT_O] };
    t->zero = malloc((t->each + 1) * sizeof *t->zero);
    t->unit = malloc((shape->columns * t->each + 1) * sizeof *t->unit);
    const bool made = x && t->zero && t->unit;
    if (made) probe_run(v, x, t);
    else probe_free(t);
    free(x);
    return made ? 0
                : error_set(e, "%s: not enough memory to probe it",
                            v->mechanism->name);
}

static void probe_matrix(const check_values *v, const probe *t,
                         const matrix_shape *shape, int head, int channel,
                         double *a)
{
    for (size_t i = 0; i < shape->rows; i++) {
        const size_t at = output_index(shape, head, i, channel);
        double gain, offset;
        affine(v, head, channel, i, &gain, &offset);
        for (size_t j = 0; j < shape->columns; j++)
            a[i * shape->columns + j] =
                (t->unit[j * t->each + at] - t->zero[at]) / gain;
    }
}

static int get_by_probe(const check_values *v, const matrix_shape *shape,
                        int head, int channel, double *a, error *e)
{
    probe t;
    if (probe_make(v, shape, &t, e) < 0) return -1;
    probe_matrix(v, &t, shape, head, channel, a);
    probe_free(&t);
    return 0;
}

/* A part as the mechanism tells it. */
static int get_raw(const check_values *v, const matrix_shape *shape, int head,
                   int channel, enum att_part part, double *a, error *e)
{
    const att_ref r = reference(v);
    if (!v->mechanism->rows)
        return get_by_probe(v, shape, head, channel, a, e);
    v->mechanism->rows(&r, head, channel, part, 0, shape->rows, a);
    return 0;
}

/* Without a convolution branch the attention is all that v passes through, with
 * whatever the mechanism does to it afterwards. */
static int get_one(const check_values *v, const matrix_shape *shape, int head,
                   int channel, enum att_part part, double *a, error *e)
{
    if (!(v->mechanism->traits & ATT_CONVOLUTION)) part = ATT_PART_TOTAL;
    return get_raw(v, shape, head, channel, part, a, e);
}

int matrix_get(const check_values *v, int head, int channel, enum att_part part,
               double *a, error *e)
{
    matrix_shape shape;
    matrix_shape_of(v->mechanism, &v->problem, &shape);
    if (channel != MATRIX_MEAN || !matrix_per_channel(v->mechanism, part))
        return get_one(v, &shape, head, channel < 0 ? 0 : channel, part, a, e);

    const size_t n = shape.rows * shape.columns;
    double *one = malloc((n + 1) * sizeof *one);
    if (!one)
        return error_set(e, "%s: not enough memory for a %zu x %zu matrix",
                         v->mechanism->name, shape.rows, shape.columns);
    int rc = 0;
    memset(a, 0, n * sizeof *a);
    for (int c = 0; c < shape.channels && rc == 0; c++) {
        rc = get_one(v, &shape, head, c, part, one, e);
        for (size_t i = 0; i < n; i++) a[i] += one[i] / shape.channels;
    }
    free(one);
    return rc;
}

/* ---- agreement ---------------------------------------------------------- */

/* The larger, or what is not a number. */
static double worse(double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : fmax(a, b);
}

static double relative(double x, double want)
{
    return fabs(x - want) / (1 + fabs(want));
}

typedef struct comparison {
    check_values *v;
    matrix_shape shape;
    double *a, *other;    /* [rows][columns]                                 */
    matrix_agreement *out;
} comparison;

/* o = gain (A v) + offset. */
static void compare_forward(const comparison *c, int head, int channel)
{
    const check_values *v = c->v;
    const enum att_slot s = moved(v);
    att_shape in;
    att_shape_of(v->mechanism, &v->problem, s, &in);
    const size_t wide = (size_t)in.channels, columns = c->shape.columns;
    const double *x = v->in[s] + (size_t)head * (size_t)in.tokens * wide;
    for (size_t i = 0; i < c->shape.rows; i++) {
        double sum = 0, gain, offset;
        for (size_t j = 0; j < columns; j++)
            sum += c->a[i * columns + j] * x[j * wide + (size_t)channel];
        affine(v, head, channel, i, &gain, &offset);
        const size_t at = output_index(&c->shape, head, i, channel);
        c->out->forward = worse(c->out->forward,
                                relative(gain * sum + offset, v->o[at]));
    }
}

static void compare_promises(const comparison *c, const double *attention)
{
    const unsigned traits = c->v->mechanism->traits;
    for (size_t i = 0; i < c->shape.rows; i++) {
        double sum = 0, least = 0;
        for (size_t j = 0; j < c->shape.columns; j++) {
            const double x = attention[i * c->shape.columns + j];
            sum += x;
            least = fmin(least, x);
        }
        if (traits & ATT_NONNEGATIVE)
            c->out->least = fmin(c->out->least, least);
        if ((traits & ATT_ROWS_SUM_1) && sum != 0)
            c->out->row_sum = worse(c->out->row_sum, fabs(sum - 1));
    }
}

/* Promises of the attention part; attention + convolution = total. */
static int compare_parts(const comparison *c, int head, int channel, error *e)
{
    const bool both = c->v->mechanism->traits & ATT_CONVOLUTION;
    const size_t n = c->shape.rows * c->shape.columns;
    if (get_raw(c->v, &c->shape, head, channel, ATT_PART_ATTENTION, c->other,
                e) < 0)
        return -1;
    compare_promises(c, c->other);
    if (!both) return 0;
    double *sum = malloc((n + 1) * sizeof *sum);
    if (!sum) return error_set(e, "not enough memory for a matrix");
    memcpy(sum, c->other, n * sizeof *sum);
    const int rc = get_raw(c->v, &c->shape, head, channel,
                           ATT_PART_CONVOLUTION, c->other, e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        c->out->parts =
            worse(c->out->parts, relative(sum[i] + c->other[i], c->a[i]));
    free(sum);
    return rc;
}

static void compare_probe(const comparison *c, const probe *t, int head,
                          int channel)
{
    const size_t n = c->shape.rows * c->shape.columns;
    probe_matrix(c->v, t, &c->shape, head, channel, c->other);
    for (size_t i = 0; i < n; i++)
        c->out->probe = worse(c->out->probe, relative(c->other[i], c->a[i]));
}

/* t: NULL for no probe. */
static int compare_head(const comparison *c, const probe *t, int head, error *e)
{
    const bool each = matrix_per_channel(c->v->mechanism, ATT_PART_TOTAL);
    for (int ch = 0; ch < c->shape.channels; ch++) {
        const bool fresh = each || ch == 0;
        if (fresh && get_one(c->v, &c->shape, head, ch, ATT_PART_TOTAL, c->a,
                             e) < 0)
            return -1;
        if (c->out->linear) compare_forward(c, head, ch);
        if (t) compare_probe(c, t, head, ch);
        if (fresh && compare_parts(c, head, ch, e) < 0) return -1;
    }
    return 0;
}

static int compare_all(const comparison *c, bool with_probe, error *e)
{
    probe t;
    int rc = 0;
    const bool probing = with_probe && c->out->linear;
    if (probing && probe_make(c->v, &c->shape, &t, e) < 0) return -1;
    run(c->v, ATT_O, NULL, c->v->o);
    if (probing) c->out->probe = 0;
    for (int h = 0; h < c->shape.heads && rc == 0; h++)
        rc = compare_head(c, probing ? &t : NULL, h, e);
    if (probing) probe_free(&t);
    return rc;
}

/* A v can only be formed if the columns are the tokens of what is moved. */
static bool comparable(const check_values *v, const matrix_shape *shape)
{
    att_shape in;
    att_shape_of(v->mechanism, &v->problem, moved(v), &in);
    return linear(v->mechanism) && shape->columns == (size_t)in.tokens &&
           shape->channels == in.channels && shape->heads == in.heads;
}

int matrix_compare(check_values *v, bool with_probe, matrix_agreement *out,
                   error *e)
{
    const att_mechanism *m = v->mechanism;
    comparison c = { .v = v, .out = out };
    matrix_shape_of(m, &v->problem, &c.shape);
    *out = (matrix_agreement){
        .linear = comparable(v, &c.shape),
        .probe = NAN,
        .row_sum = m->traits & ATT_ROWS_SUM_1 ? 0 : NAN,
        .least = m->traits & ATT_NONNEGATIVE ? 0 : NAN,
    };
    if (!matrix_exists(m)) return 0;

    const size_t n = c.shape.rows * c.shape.columns;
    c.a = malloc((n + 1) * sizeof *c.a);
    c.other = malloc((n + 1) * sizeof *c.other);
    const int rc = c.a && c.other
                       ? compare_all(&c, with_probe, e)
                       : error_set(e, "not enough memory for a matrix");
    free(c.a);
    free(c.other);
    return rc;
}

double matrix_check(const att_mechanism *m, const att_problem *p, uint64_t seed,
                    error *e)
{
    check_values v;
    matrix_agreement got;
    if (matrix_open(&v, m, p, e) < 0) return NAN;
    int rc = check_values_fill(&v, seed, INPUTS_NORMAL, e);
    if (rc == 0) rc = matrix_compare(&v, true, &got, e);
    check_values_free(&v);
    if (rc < 0) return NAN;
    if (isnan(got.probe)) got.probe = 0;
    return worse(got.forward, worse(got.parts, got.probe));
}
