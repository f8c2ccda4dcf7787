#include "casefile.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- metadata -> problem ------------------------------------------------------ */

/* Keys that say something else than which problem it is, each with the reason.
 * A mechanism that has a field of that name reads it all the same. */
static const struct {
    const char *key, *only; /* only: this value; NULL: any                    */
    const char *why;
} informational[] = {
    { "op", NULL, "the mechanism" },
    { "format", NULL, "who wrote the file" },
    { "source", NULL, "where the numbers come from" },
    { "tolerance", NULL, "read elsewhere" },
    { "tolerance_grad", NULL, "read elsewhere" },
    { "time_against", NULL, "read elsewhere" },
    { "map", NULL, "2-D shape of tokens whose mechanism sees a sequence" },
    { "conv_dims", NULL, "grid axes longer than 1" },
    { "pad", NULL, "follows from grid and window" },
    { "window_requested", NULL, "before clamping; the file has both" },
    { "shift_requested", NULL, "before clamping; the file has both" },
    { "masked", NULL, "whether there is a tensor `mask`" },
    { "tokens_k", NULL, "follows from other fields; sizes are checked" },
    { "scale", "1", "none" },
    /* constants of definitions that have no field */
    { "eps", NULL, "constant of the definition" },
    { "kernel_eps", NULL, "constant of the definition" },
    { "norm_eps", NULL, "constant of the definition" },
    { "mask_value", NULL, "constant of the definition" },
    { "momentum", NULL, "constant of the definition" },
};

/* Keys that follow from others if the mechanism has this field. */
static const struct {
    const char *key;
    enum att_field field;
    const char *why;
} derived[] = {
    { "kernel", ATT_FIELD_block, "block + 2 halo" },
};

/* A tensor that by being in the file chooses the value of a field; the keys
 * then only tell how the tensor was made. */
static const struct {
    const char *tensor;
    enum att_field field;
    const char *value;
    const char *told[4];
} chosen[] = {
    { "mask", ATT_FIELD_mask, "prior", { "mask", "params", "kernel" } },
    { "index", ATT_FIELD_subset, "list", { "subset" } },
};

/* Tensors whose length is the value of a field that the file does not tell. */
static const struct {
    const char *tensor, *key;
    enum att_field field;
} counted[] = {
    { "b1", "hidden", ATT_FIELD_hidden },
};

static bool informs(const char *key, const char *value)
{
    for (size_t i = 0; i < sizeof informational / sizeof *informational; i++)
        if (!strcmp(key, informational[i].key) &&
            (!informational[i].only || !strcmp(value, informational[i].only)))
            return true;
    return false;
}

static bool told_by_others(const case_file *c, const char *key)
{
    for (size_t i = 0; i < sizeof derived / sizeof *derived; i++)
        if (!strcmp(key, derived[i].key) &&
            att_uses(c->mechanism, derived[i].field))
            return true;
    for (size_t i = 0; i < sizeof chosen / sizeof *chosen; i++) {
        if (!att_uses(c->mechanism, chosen[i].field) ||
            !archive_find(&c->file, chosen[i].tensor))
            continue;
        for (const char *const *told = chosen[i].told; *told; told++)
            if (!strcmp(key, *told)) return true;
    }
    return false;
}

/* Whether the value means what the field is anyway: "1,1" and the empty list
 * of zeros included. */
static bool means_default(enum att_field f, const char *value)
{
    att_problem p = att_problem_default;
    if (!att_set(&p, f, value)) return false;
    if (att_is_default(&p, f)) return true;
    if (att_fields[f].kind != ATT_LIST) return false;

    char text[ATT_TEXT];
    att_get(&att_problem_default, f, text);
    const int absent = strcmp(text, "none") ? atoi(text) : 0;
    for (const char *s = value; *s; s += *s != 0) {
        if (strtol(s, (char **)&s, 10) != absent) return false;
        if (*s && *s != ',' && *s != 'x') return false;
    }
    return true;
}

static bool names(enum att_field f, const char *key)
{
    return !strcmp(key, att_fields[f].name) || !strcmp(key, att_fields[f].other_name);
}

static int set_field(case_file *c, const char *key, const char *value, error *e)
{
    bool known = false, harmless = false, used = false;
    if (told_by_others(c, key)) return 0;
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        if (!names(f, key)) continue;
        known = true;
        if (!att_uses(c->mechanism, f)) {
            harmless |= means_default(f, value);
            continue;
        }
        used = true;
        if (att_set(&c->problem, f, value)) return 0;
    }
    if (used)
        return error_set(e, "%s: %s=%s is not a value that %s can read",
                         c->file.path, key, value, c->mechanism->name);
    if (harmless || informs(key, value)) return 0;
    if (known)
        return error_set(e, "%s: %s has no %s, but the file has %s=%s",
                         c->file.path, c->mechanism->name, key, key, value);
    return error_set(e, "%s: unknown metadata key '%s' (see tests/golden/"
                        "INDEX.md for those that are read)",
                     c->file.path, key);
}

static bool has_parameter(const case_file *c, const att_problem *p,
                          const char *name)
{
    att_tensor t[ATT_PARAMS];
    const int n = att_parameters(c->mechanism, p, t);
    for (int i = 0; i < n; i++)
        if (!strcmp(t[i].name, name) && att_elements(&t[i])) return true;
    return false;
}

/* Switches the learned position term on if the file has tensors that only then
 * exist. */
static void set_bias(case_file *c)
{
    att_problem with = c->problem, without = c->problem;
    with.bias = 1;
    without.bias = 0;
    if (!att_uses(c->mechanism, ATT_FIELD_bias) ||
        att_reject(c->mechanism, &with))
        return;
    for (int i = 0; i < c->file.count; i++) {
        const char *name = c->file.items[i].name;
        if (has_parameter(c, &with, name) &&
            (att_reject(c->mechanism, &without) ||
             !has_parameter(c, &without, name)))
            c->problem.bias = 1;
    }
}

static void set_counted(case_file *c)
{
    for (size_t i = 0; i < sizeof counted / sizeof *counted; i++) {
        const array *a = archive_find(&c->file, counted[i].tensor);
        char text[ATT_TEXT];
        if (!a || !att_uses(c->mechanism, counted[i].field) ||
            archive_metadata(&c->file, counted[i].key))
            continue;
        snprintf(text, sizeof text, "%zu", a->elements);
        att_set(&c->problem, counted[i].field, text);
    }
}

static int set_problem(case_file *c, error *e)
{
    c->problem = att_problem_default;
    c->problem.head_dim = 1; /* no other number is a guess worth making */
    for (int i = 0; i < c->file.metadata_count; i++)
        if (set_field(c, c->file.metadata[i].key, c->file.metadata[i].value, e))
            return -1;
    for (size_t i = 0; i < sizeof chosen / sizeof *chosen; i++)
        if (att_uses(c->mechanism, chosen[i].field) &&
            archive_find(&c->file, chosen[i].tensor))
            att_set(&c->problem, chosen[i].field, chosen[i].value);
    set_counted(c);
    set_bias(c);
    const char *why = att_reject(c->mechanism, &c->problem);
    if (why)
        return error_set(e, "%s: %s %s", c->file.path, c->mechanism->name, why);
    return 0;
}

/* ---- reading --------------------------------------------------------------------- */

static int read_tolerance(const case_file *c, const char *key, double usual,
                          double *out, error *e)
{
    const char *text = archive_metadata(&c->file, key);
    char *end;
    *out = usual;
    if (!text) return 0;
    *out = strtod(text, &end);
    if (end == text || *end || !isfinite(*out) || *out <= 0)
        return error_set(e, "%s: %s=%s is not a positive number", c->file.path,
                         key, text);
    return 0;
}

static int read_time_against(case_file *c, error *e)
{
    const char *text = archive_metadata(&c->file, "time_against");
    c->time_against = -1;
    for (int f = 0; text && f < INPUTS_FAMILIES; f++)
        if (!strcmp(text, inputs_family_name(f))) c->time_against = f;
    if (!text || c->time_against >= 0) return 0;
    return error_set(e, "%s: time_against=%s is no family of inputs",
                     c->file.path, text);
}

static int find_mechanism(case_file *c, error *e)
{
    const char *op = archive_metadata(&c->file, "op");
    if (!op)
        return error_set(e, "%s: no `op` in __metadata__: not a case file",
                         c->file.path);
    c->mechanism = att_find_mechanism(op);
    if (c->mechanism) return 0;

    const att_mechanism *const *all;
    const size_t n = att_mechanisms(&all);
    const char **name = malloc((n + 1) * sizeof *name);
    for (size_t i = 0; name && i < n; i++) name[i] = all[i]->name;
    const char *near = name ? error_nearest(op, name, (int)n) : NULL;
    error_set(e, "%s: unknown op '%s'%s%s%s", c->file.path, op,
              near ? "; did you mean '" : "", near ? near : "",
              near ? "'?" : "");
    free(name);
    return -1;
}

/* 0 with *a set, or NULL if it is optional and not there; -1 with e. */
static int find_tensor(const case_file *c, const char *name, bool optional,
                       size_t elements, const array **a, error *e)
{
    *a = archive_find(&c->file, name);
    if (!*a && optional) return 0;
    if (!*a)
        return error_set(e, "%s: no tensor '%s', which %s needs", c->file.path,
                         name, c->mechanism->name);
    if ((*a)->elements != elements)
        return error_set(e, "%s: '%s' has %zu values where %s expects %zu",
                         c->file.path, name, (*a)->elements, c->mechanism->name,
                         elements);
    return 0;
}

/* Metadata are words, tensors are bytes: what the problem needs has to be there
 * before anybody makes room for it. */
static int check_sizes(const case_file *c, error *e)
{
    const att_problem *p = &c->problem;
    att_tensor t[ATT_PARAMS];
    const array *a;
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++) {
        att_shape shape;
        att_shape_of(c->mechanism, p, s, &shape);
        const size_t n = (size_t)p->batch * att_shape_elements(&shape);
        if (n && find_tensor(c, att_input_name(c->mechanism, p, s), false, n,
                             &a, e))
            return -1;
    }
    const int n = att_parameters(c->mechanism, p, t);
    for (int i = 0; i < n; i++)
        if (att_elements(&t[i]) &&
            find_tensor(c, t[i].name, t[i].optional, att_elements(&t[i]), &a, e))
            return -1;
    return 0;
}

static void set_name(case_file *c, const char *path)
{
    const char *slash = strrchr(path, '/');
    snprintf(c->name, sizeof c->name, "%s", slash ? slash + 1 : path);
    char *dot = strrchr(c->name, '.');
    if (dot && dot != c->name) *dot = 0;
}

int case_file_read(case_file *c, const char *path, error *e)
{
    memset(c, 0, sizeof *c);
    set_name(c, path);
    if (archive_read(&c->file, path, e)) return -1;
    if (!find_mechanism(c, e) && !set_problem(c, e) &&
        !read_tolerance(c, "tolerance", 2e-5, &c->tolerance, e) &&
        !read_tolerance(c, "tolerance_grad", 1e-4, &c->tolerance_grad, e) &&
        !read_time_against(c, e) && !check_sizes(c, e)) {
        c->grad = archive_find(&c->file, "dout") != NULL;
        return 0;
    }
    case_file_free(c);
    return -1;
}

void case_file_free(case_file *c)
{
    archive_free(&c->file);
    memset(&c->file, 0, sizeof c->file);
}

/* ---- tensors ----------------------------------------------------------------------- */

static int read_tensor(const case_file *c, const char *name, bool optional,
                       double *out, size_t elements, error *e)
{
    const array *a;
    if (find_tensor(c, name, optional, elements, &a, e)) return -1;
    if (a) array_to_double(a, out); /* else it stays zero */
    return 0;
}

int case_file_fill(const case_file *c, check_values *v, error *e)
{
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
        if (v->in[s] &&
            read_tensor(c, att_input_name(c->mechanism, &c->problem, s), false,
                        v->in[s], v->elements[s], e))
            return -1;
    for (int i = 0; i < v->parameters; i++)
        if (v->param[i] &&
            read_tensor(c, v->parameter[i].name, v->parameter[i].optional,
                        v->param[i], att_elements(&v->parameter[i]), e))
            return -1;
    return v->grad ? read_tensor(c, "dout", false, v->dout, v->elements[ATT_O], e)
                   : 0;
}

/* ---- comparison -------------------------------------------------------------------- */

static void append_name(case_result *out, const char *before, const char *name,
                        const char *after)
{
    const size_t at = strlen(out->names);
    snprintf(out->names + at, sizeof out->names - at, "%s%s%s%s",
             at ? " " : "", before, name, after);
}

static void judge(case_result *out, const char *name, const double *x,
                  const double *ref, size_t n, double tolerance)
{
    const double d = check_difference(x, ref, n);
    append_name(out, "", name, "");
    out->compared++;
    if (!(d <= tolerance)) out->pass = false;
    if (out->tolerance > 0 && d / tolerance <= out->worst / out->tolerance)
        return;
    out->worst = d;
    out->tolerance = tolerance;
    snprintf(out->tensor, sizeof out->tensor, "%s", name);
}

/* Each value against a bound of its own. */
static void judge_bounds(case_result *out, const check_output *got,
                         const double *ref, const double *bound, double largest)
{
    double worst = out->tolerance > 0 ? out->worst / out->tolerance : -1;
    append_name(out, "", got->name, "");
    out->compared++;
    for (size_t i = 0; i < got->elements; i++) {
        const double ratio =
            bound_ratio(got->value[i], ref[i], bound[i], largest);
        if (!(ratio <= 1)) out->pass = false;
        if (ratio <= worst) continue;
        worst = ratio;
        out->worst = ratio * bound[i];
        out->tolerance = bound[i];
        snprintf(out->tensor, sizeof out->tensor, "%s", got->name);
    }
}

#define BOUND "bound_"

static int compare_output(const case_file *c, const check_output *got,
                          case_result *out, error *e)
{
    char name[sizeof BOUND + sizeof got->name];
    const size_t n = got->elements;
    if (!archive_find(&c->file, got->name)) return 0;
    double *want = malloc((2 * n + 1) * sizeof *want);
    if (!want) return error_set(e, "%s: out of memory", c->file.path);
    snprintf(name, sizeof name, BOUND "%s", got->name);
    const bool bounded = archive_find(&c->file, name) != NULL;
    int rc = read_tensor(c, got->name, false, want, n, e);
    if (!rc && bounded) rc = read_tensor(c, name, false, want + n, n, e);
    if (!rc && bounded)
        judge_bounds(out, got, want, want + n,
                     bound_largest(&c->problem, got->name));
    else if (!rc)
        judge(out, got->name, got->value, want, n,
              got->gradient ? c->tolerance_grad : c->tolerance);
    free(want);
    return rc;
}

/* Expected matrices: a part of the effective matrix, of every channel or of
 * channel 0, all rows or the first one of each head. */
static const struct matrix {
    const char *name;
    enum att_part part;
    bool channels, first_row;
} matrices_known[] = {
    { "attn", ATT_PART_ATTENTION, true, false },
    { "attn_inner", ATT_PART_ATTENTION, false, false },
    { "attn_full_c0", ATT_PART_TOTAL, false, false },
    { "dwc_mat_c0", ATT_PART_CONVOLUTION, false, false },
    { "weights", ATT_PART_ATTENTION, false, true },
};

/* Rows that the file has of each map, or 0 if it is not what rows() gives: some
 * files hold the inner map of a mechanism that resamples its rows. */
static size_t rows_of(const check_values *v, const struct matrix *x,
                      const array *a, size_t *maps)
{
    const att_mechanism *m = v->mechanism;
    att_shape o;
    att_shape_of(m, &v->problem, ATT_O, &o);
    const size_t columns = att_columns(m, &v->problem);
    const bool each = x->channels && (m->traits & ATT_PER_CHANNEL);
    const size_t rows = x->first_row ? 1 : (size_t)o.tokens;

    *maps = (size_t)o.heads * (each ? (size_t)o.channels : 1);
    if (!m->rows || columns == 0) return 0;
    if (a->elements == rows * columns) *maps = 1; /* equal in all heads */
    return a->elements == *maps * rows * columns ? rows : 0;
}

static int compare_matrix(const case_file *c, const check_values *v,
                          const struct matrix *x, case_result *out, error *e)
{
    const array *a = archive_find(&c->file, x->name);
    if (!a) return 0;
    size_t maps;
    const size_t rows = rows_of(v, x, a, &maps);
    if (rows == 0) {
        append_name(out, "(", x->name, ")");
        return 0;
    }
    double *got = malloc(a->elements * sizeof *got);
    double *want = malloc(a->elements * sizeof *want);
    int rc = -1;
    if (got && want) {
        att_ref r = { .p = &v->problem,
                      .q = v->in[ATT_Q],
                      .k = v->in[ATT_K],
                      .v = v->in[ATT_V] };
        for (int i = 0; i < v->parameters; i++) r.param[i] = v->param[i];
        const size_t one = a->elements / maps;
        const size_t heads = (size_t)v->problem.heads;
        const size_t channels = maps > heads ? maps / heads : 1;
        for (size_t i = 0; i < maps; i++)
            v->mechanism->rows(&r, (int)(i / channels), (int)(i % channels),
                               x->part, 0, rows, got + i * one);
        array_to_double(a, want);
        judge(out, x->name, got, want, a->elements, c->tolerance);
        rc = 0;
    } else error_set(e, "%s: out of memory", c->file.path);
    free(got);
    free(want);
    return rc;
}

/* ---- tensors that nobody asked for ----------------------------------------------- */

/* Intermediate results that a mechanism may or may not tell about. */
static const char *const intermediate[] = { "w_effective", "W_folded",
                                            "b_folded" };

static bool known_tensor(const check_values *v, const char *name)
{
    if (!strncmp(name, BOUND, strlen(BOUND))) name += strlen(BOUND);
    if (!strcmp(name, "dout")) return true;
    for (int s = 0; s < 3; s++) {
        const char *input = att_input_name(v->mechanism, &v->problem, s);
        if (input && !strcmp(name, input)) return true;
        /* A gradient with respect to an input; absent if grad is off. */
        if (input && name[0] == 'd' && !strcmp(name + 1, input)) return true;
    }
    for (int i = 0; i < v->parameters; i++) {
        const char *parameter = v->parameter[i].name;
        if (!v->param[i]) continue;
        if (!strcmp(name, parameter)) return true;
        if (!v->parameter[i].fixed && name[0] == 'd' &&
            !strcmp(name + 1, parameter))
            return true;
    }
    for (int i = 0; i < v->outputs; i++)
        if (!strcmp(name, v->output[i].name)) return true;
    for (size_t i = 0; i < sizeof matrices_known / sizeof *matrices_known; i++)
        if (!strcmp(name, matrices_known[i].name)) return true;
    return false;
}

static int refuse_unknown(const case_file *c, const check_values *v,
                          case_result *out, error *e)
{
    for (int i = 0; i < c->file.count; i++) {
        const char *name = c->file.items[i].name;
        bool told = known_tensor(v, name);
        for (size_t k = 0; !told && k < sizeof intermediate / sizeof(char *);
             k++)
            if (!strcmp(name, intermediate[k])) {
                append_name(out, "(", name, ")");
                told = true;
            }
        if (!told)
            return error_set(e, "%s: %s knows no tensor '%s'", c->file.path,
                             c->mechanism->name, name);
    }
    return 0;
}

int case_file_compare(const case_file *c, const check_values *v, bool matrices,
                      case_result *out, error *e)
{
    memset(out, 0, sizeof *out);
    out->pass = true;
    for (int i = 0; i < v->outputs; i++)
        if (compare_output(c, &v->output[i], out, e)) return -1;
    for (size_t i = 0;
         matrices && i < sizeof matrices_known / sizeof *matrices_known; i++)
        if (compare_matrix(c, v, &matrices_known[i], out, e)) return -1;
    if (refuse_unknown(c, v, out, e)) return -1;
    if (out->compared == 0)
        return error_set(e, "%s: no expected result in the file",
                         c->file.path);
    return 0;
}

/* ---- writing ----------------------------------------------------------------------- */

/* Items and metadata of a file that is being written. */
typedef struct writing {
    archive_item item[4 + ATT_PARAMS + 2 * CHECK_OUTPUTS];
    int items;
    char name[2 * CHECK_OUTPUTS][40], text[ATT_FIELD_COUNT][ATT_TEXT];
    int names;
    const char *metadata[2 * (ATT_FIELD_COUNT + 8)];
    int words;
    void *floats[4 + ATT_PARAMS];
} writing;

static void tell(writing *w, const char *key, const char *value)
{
    w->metadata[w->words++] = key;
    w->metadata[w->words++] = value;
}

static void add_problem(writing *w, const att_mechanism *m, const att_problem *p)
{
    tell(w, "op", m->name);
    for (int f = 0; f < ATT_FIELD_COUNT; f++) {
        if (!att_uses(m, f) || (att_is_default(p, f) && f != ATT_FIELD_grid &&
                                f != ATT_FIELD_head_dim))
            continue;
        att_get(p, f, w->text[f]);
        tell(w, att_fields[f].name, w->text[f]);
    }
}

static bool add_floats(writing *w, const char *name, const double *x, size_t n)
{
    float *to = malloc((n + 1) * sizeof *to);
    for (size_t i = 0; to && i < n; i++) to[i] = (float)x[i];
    w->floats[w->items] = to;
    w->item[w->items++] = (archive_item){
        .name = name, .type = ARRAY_F32, .dims = 1, .dim = { n }, .data = to
    };
    return to != NULL;
}

static void add_doubles(writing *w, const char *before, const char *name,
                        const double *x, size_t n)
{
    char *whole = w->name[w->names++];
    snprintf(whole, sizeof w->name[0], "%s%s", before, name);
    w->item[w->items++] = (archive_item){
        .name = whole, .type = ARRAY_F64, .dims = 1, .dim = { n }, .data = x
    };
}

static bool add_inputs(writing *w, const check_values *v)
{
    bool made = true;
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++)
        if (v->in[s])
            made &= add_floats(w, att_input_name(v->mechanism, &v->problem, s),
                               v->in[s], v->elements[s]);
    for (int i = 0; i < v->parameters; i++)
        if (v->param[i])
            made &= add_floats(w, v->parameter[i].name, v->param[i],
                               att_elements(&v->parameter[i]));
    if (v->grad) made &= add_floats(w, "dout", v->dout, v->elements[ATT_O]);
    return made;
}

int case_file_write(const char *path, const bounds *b, const char *source,
                    const char *time_against, error *e)
{
    const check_values *v = b->want;
    writing *w = calloc(1, sizeof *w);
    if (!w) return error_set(e, "%s: out of memory", path);
    add_problem(w, v->mechanism, &v->problem);
    tell(w, "source", source);
    if (time_against) tell(w, "time_against", time_against);
    const bool made = add_inputs(w, v);
    const int floats = w->items;
    for (int i = 0; i < v->outputs; i++) {
        const check_output *o = &v->output[i];
        add_doubles(w, "", o->name, o->value, o->elements);
        add_doubles(w, BOUND, o->name, b->of[i], o->elements);
    }
    const int rc = made ? archive_write(path, w->item, w->items, w->metadata, e)
                        : error_set(e, "%s: out of memory", path);
    for (int i = 0; i < floats; i++) free(w->floats[i]);
    free(w);
    return rc;
}
