#include "casefile.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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
    { "tokens_k", NULL, "follows from other fields; sizes are checked" },
    { "scale", "1", "none" },
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

static bool number(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && !*end;
}

static bool same_number(const char *text, double x)
{
    double y;
    return number(text, &y) && fabs(x - y) <= 1e-6 * fabs(x);
}

static bool informs(const char *key, const char *value)
{
    for (size_t i = 0; i < sizeof informational / sizeof *informational; i++)
        if (!strcmp(key, informational[i].key) &&
            (!informational[i].only ||
             same_number(value, atof(informational[i].only))))
            return true;
    return false;
}

/* Keys that follow from others; they are held against them once all are read. */
static bool implied(const char *key)
{
    static const char *const keys[] = { "eps",        "kernel_eps", "norm_eps",
                                        "mask_value", "momentum",   "pad",
                                        "masked",     "window_requested",
                                        "shift_requested" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(key, keys[i])) return true;
    return false;
}

static int disagree(const case_file *c, const char *key, const char *value,
                    const char *meant, error *e)
{
    return error_set(e, "%s: %s=%s, but %s of this problem has %s", c->file.path,
                     key, value, c->mechanism->name, meant);
}

static int check_constant(const case_file *c, const char *key,
                          const char *value, error *e)
{
    double x;
    char meant[96];
    if (!att_constant(c->mechanism, &c->problem, key, &x)) {
        /* a zero says that there is none */
        if (same_number(value, 0)) return 0;
        snprintf(meant, sizeof meant, "no %s: leave it out or set it to 0", key);
        return disagree(c, key, value, meant, e);
    }
    if (same_number(value, x)) return 0;
    snprintf(meant, sizeof meant, "%s=%g, which cannot be changed", key, x);
    return disagree(c, key, value, meant, e);
}

/* Padding of a map: of a convolution its half, of Swin whether there is any. */
static int check_pad(const case_file *c, const char *value, error *e)
{
    const att_problem *p = &c->problem;
    char meant[96];
    if (!att_uses(c->mechanism, ATT_FIELD_shift)) {
        const bool conv = att_uses(c->mechanism, ATT_FIELD_conv);
        const int half = att_at(conv ? &p->conv : &p->window, 0, 7) / 2;
        if (same_number(value, half)) return 0;
        snprintf(meant, sizeof meant, "pad=%d: half the kernel", half);
        return disagree(c, "pad", value, meant, e);
    }
    bool whole = true;
    for (int a = 0; a < p->grid.n; a++) {
        const int w = att_at(&p->window, a, 7);
        if (w < p->grid.v[a] || p->padding == ATT_PAD_TORCHVISION)
            whole &= p->grid.v[a] % w == 0;
    }
    if (!strcmp(value, "right/bottom")) return 0;
    if (!strcmp(value, "none") && whole) return 0;
    return disagree(c, "pad", value,
                    whole ? "pad=none or right/bottom"
                          : "pad=right/bottom: the window does not divide the "
                            "map",
                    e);
}

/* What was asked for before the window was clamped needs the effective value
 * beside it. */
static int check_requested(const case_file *c, const char *key,
                           const char *value, error *e)
{
    const bool window = *key == 'w';
    att_problem asked = c->problem;
    if (!archive_metadata(&c->file, window ? "kernel" : "shift") &&
        !archive_metadata(&c->file, window ? "window" : "shift"))
        return error_set(e, "%s: %s=%s without %s, the effective value: add it",
                         c->file.path, key, value, window ? "kernel" : "shift");
    if (att_set(&asked, window ? ATT_FIELD_window : ATT_FIELD_shift, value))
        return 0;
    return error_set(e, "%s: %s=%s is not a list of integers", c->file.path,
                     key, value);
}

static int check_implied(const case_file *c, error *e)
{
    for (int i = 0; i < c->file.metadata_count; i++) {
        const char *key = c->file.metadata[i].key;
        const char *value = c->file.metadata[i].value;
        const int field = att_field_find(key);
        int rc = 0;
        if (!implied(key) || (field >= 0 && att_uses(c->mechanism, field)))
            continue;
        if (!strcmp(key, "pad")) rc = check_pad(c, value, e);
        else if (strstr(key, "_requested")) rc = check_requested(c, key, value, e);
        else if (strcmp(key, "masked")) rc = check_constant(c, key, value, e);
        else if (same_number(value, 0) == !!archive_find(&c->file, "mask"))
            rc = error_set(e, "%s: masked=%s, but the file has %s tensor 'mask'",
                           c->file.path, value,
                           same_number(value, 0) ? "a" : "no");
        if (rc) return rc;
    }
    return 0;
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

/* offset=-ln M as its paper writes it. */
static bool log_offset(case_file *c, const char *key, const char *value)
{
    static const char *const spellings[] = { "-ln M", "-lnM", "-ln(M)",
                                             "-log M", "-log(M)" };
    if (!names(ATT_FIELD_offset, key) ||
        !att_uses(c->mechanism, ATT_FIELD_offset))
        return false;
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        if (!strcasecmp(value, spellings[i])) {
            c->log_offset = true;
            return true;
        }
    return false;
}

static int set_field(case_file *c, const char *key, const char *value, error *e)
{
    bool known = false, harmless = false, used = false;
    if (told_by_others(c, key) || log_offset(c, key, value)) return 0;
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
    if (harmless || implied(key) || informs(key, value)) return 0;
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
    if (c->log_offset) c->problem.offset = -log((double)att_keys(&c->problem));
    if (check_implied(c, e)) return -1;
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

/* Shape of a tensor; axes of length 1 may be there or not. */
typedef struct extent {
    size_t n, dim[ARRAY_DIMS];
} extent;

static extent extent_of(const array *a)
{
    extent x = { .n = (size_t)a->dims };
    memcpy(x.dim, a->dim, x.n * sizeof *x.dim);
    return x;
}

static extent extent_of_shape(const att_problem *p, const att_shape *s)
{
    return (extent){ 4, { (size_t)p->batch, (size_t)s->heads, (size_t)s->tokens,
                          (size_t)s->channels } };
}

static extent extent_of_tensor(const att_tensor *t, int batch)
{
    extent x = { .n = 1 + (size_t)t->dims, .dim = { (size_t)batch } };
    for (int i = 0; i < t->dims; i++) x.dim[1 + i] = (size_t)t->dim[i];
    return x;
}

static size_t extent_elements(const extent *x)
{
    size_t n = 1;
    for (size_t i = 0; i < x->n; i++) n *= x->dim[i];
    return n;
}

static bool extent_same(const extent *a, const extent *b)
{
    size_t i = 0, j = 0;
    for (;; i++, j++) {
        while (i < a->n && a->dim[i] == 1) i++;
        while (j < b->n && b->dim[j] == 1) j++;
        if (i == a->n || j == b->n) return i == a->n && j == b->n;
        if (a->dim[i] != b->dim[j]) return false;
    }
}

static const char *extent_text(const extent *x, char out[80])
{
    size_t at = 0;
    *out = 0;
    for (size_t i = 0; i < x->n && at < 80; i++) {
        if (x->n == 4 && i == 0 && x->dim[0] == 1) continue; /* one batch */
        at += (size_t)snprintf(out + at, 80 - at, "%s%zu", at ? ", " : "",
                               x->dim[i]);
    }
    return out;
}

/* 0 with *a set, or NULL if it is optional and not there; -1 with e. */
static int find_tensor(const case_file *c, const char *name, bool optional,
                       const extent *x, const array **a, error *e)
{
    char has[80], expects[80];
    *a = archive_find(&c->file, name);
    if (!*a && optional) return 0;
    if (!*a)
        return error_set(e, "%s: no tensor '%s', which %s needs", c->file.path,
                         name, c->mechanism->name);
    const extent own = extent_of(*a);
    if (extent_same(&own, x)) return 0;
    const size_t heads = (size_t)c->problem.heads;
    extent repeated = own; /* as if each head stood for a group */
    const bool divides = own.n == 3 && own.dim[0] && heads % own.dim[0] == 0;
    if (divides) repeated.dim[0] = heads;
    const bool grouped = divides && extent_same(&repeated, x);
    return error_set(e, "%s: '%s' is [%s] where %s expects [%s]%s",
                     c->file.path, name, extent_text(&own, has),
                     c->mechanism->name, extent_text(x, expects),
                     grouped ? ": heads that share keys (grouped queries) are "
                               "not known here; repeat each head of k and v"
                             : "");
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
        const extent x = extent_of_shape(p, &shape);
        if (extent_elements(&x) &&
            find_tensor(c, att_input_name(c->mechanism, p, s), false, &x, &a, e))
            return -1;
    }
    const int n = att_parameters(c->mechanism, p, t);
    for (int i = 0; i < n; i++) {
        const extent x = extent_of_tensor(&t[i], 1);
        if (att_elements(&t[i]) &&
            find_tensor(c, t[i].name, t[i].optional, &x, &a, e))
            return -1;
    }
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

static extent extent_of_slot(const case_file *c, enum att_slot slot)
{
    att_shape shape;
    att_shape_of(c->mechanism, &c->problem, slot, &shape);
    return extent_of_shape(&c->problem, &shape);
}

static int read_tensor(const case_file *c, const char *name, bool optional,
                       double *out, const extent *x, error *e)
{
    const array *a;
    if (find_tensor(c, name, optional, x, &a, e)) return -1;
    if (a) array_to_double(a, out); /* else it stays zero */
    return 0;
}

int case_file_fill(const case_file *c, check_values *v, error *e)
{
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++) {
        const extent x = extent_of_slot(c, s);
        if (v->in[s] &&
            read_tensor(c, att_input_name(c->mechanism, &c->problem, s), false,
                        v->in[s], &x, e))
            return -1;
    }
    for (int i = 0; i < v->parameters; i++) {
        const extent x = extent_of_tensor(&v->parameter[i], 1);
        if (v->param[i] &&
            read_tensor(c, v->parameter[i].name, v->parameter[i].optional,
                        v->param[i], &x, e))
            return -1;
    }
    const extent x = extent_of_slot(c, ATT_O);
    return v->grad ? read_tensor(c, "dout", false, v->dout, &x, e) : 0;
}

/* Shape of result i of v. */
static extent extent_of_output(const case_file *c, const check_values *v,
                               const check_output *got)
{
    for (enum att_slot s = ATT_Q; s <= ATT_O; s++)
        if (got->value == (s == ATT_O ? v->o : v->din[s]))
            return extent_of_slot(c, s);
    for (int i = 0; i < v->extras; i++)
        if (got->value == v->extra_value[i])
            return extent_of_tensor(&v->extra[i], c->problem.batch);
    for (int i = 0; i < v->parameters; i++)
        if (got->value == v->dparam[i])
            return extent_of_tensor(&v->parameter[i], 1);
    return (extent){ 1, { got->elements } };
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

static int compare_output(const case_file *c, const check_values *v,
                          const check_output *got, case_result *out, error *e)
{
    char name[sizeof BOUND + sizeof got->name];
    const size_t n = got->elements;
    const extent x = extent_of_output(c, v, got);
    if (!archive_find(&c->file, got->name)) return 0;
    double *want = malloc((2 * n + 1) * sizeof *want);
    if (!want) return error_set(e, "%s: out of memory", c->file.path);
    snprintf(name, sizeof name, BOUND "%s", got->name);
    const bool bounded = archive_find(&c->file, name) != NULL;
    int rc = read_tensor(c, got->name, false, want, &x, e);
    if (!rc && bounded) rc = read_tensor(c, name, false, want + n, &x, e);
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

/* Rows that the file has of each map, or 0 if its shape is not what rows()
 * gives. */
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
    const extent own = extent_of(a);
    const extent one = { 2, { rows, columns } }; /* equal in all heads */
    const extent all = { 3, { *maps, rows, columns } };
    const extent split = { 4, { (size_t)o.heads, *maps / (size_t)o.heads, rows,
                                columns } };
    if (extent_same(&own, &one)) *maps = 1;
    else if (!extent_same(&own, &all) && !extent_same(&own, &split)) return 0;
    return rows;
}

/* Files of mechanisms that resample their rows hold the map in between. */
static bool resamples(const att_mechanism *m)
{
    return att_uses(m, ATT_FIELD_upsample);
}

static int compare_matrix(const case_file *c, const check_values *v,
                          const struct matrix *x, case_result *out, error *e)
{
    const array *a = archive_find(&c->file, x->name);
    if (!a) return 0;
    size_t maps;
    const size_t rows = rows_of(v, x, a, &maps);
    if (rows == 0 && v->mechanism->rows && strcmp(x->name, "attn_inner") &&
        !resamples(v->mechanism)) {
        const extent own = extent_of(a);
        char has[80];
        return error_set(e, "%s: '%s' is [%s], which is not the shape of %s's "
                            "matrix [heads, queries, keys]",
                         c->file.path, x->name, extent_text(&own, has),
                         v->mechanism->name);
    }
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
        if (compare_output(c, v, &v->output[i], out, e)) return -1;
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

static archive_item item(const char *name, enum array_type type, const extent *x,
                         const void *data)
{
    archive_item a = { .name = name, .type = type, .dims = (int)x->n,
                       .data = data };
    memcpy(a.dim, x->dim, x->n * sizeof *x->dim);
    return a;
}

static bool add_floats(writing *w, const char *name, const double *from,
                       const extent *x)
{
    const size_t n = extent_elements(x);
    float *to = malloc((n + 1) * sizeof *to);
    for (size_t i = 0; to && i < n; i++) to[i] = (float)from[i];
    w->floats[w->items] = to;
    w->item[w->items++] = item(name, ARRAY_F32, x, to);
    return to != NULL;
}

static void add_doubles(writing *w, const char *before, const char *name,
                        const double *from, const extent *x)
{
    char *whole = w->name[w->names++];
    snprintf(whole, sizeof w->name[0], "%s%s", before, name);
    w->item[w->items++] = item(whole, ARRAY_F64, x, from);
}

static bool add_inputs(writing *w, const case_file *c, const check_values *v)
{
    bool made = true;
    for (enum att_slot s = ATT_Q; s <= ATT_V; s++) {
        const extent x = extent_of_slot(c, s);
        if (v->in[s])
            made &= add_floats(w, att_input_name(v->mechanism, &v->problem, s),
                               v->in[s], &x);
    }
    for (int i = 0; i < v->parameters; i++) {
        const extent x = extent_of_tensor(&v->parameter[i], 1);
        if (v->param[i])
            made &= add_floats(w, v->parameter[i].name, v->param[i], &x);
    }
    const extent x = extent_of_slot(c, ATT_O);
    if (v->grad) made &= add_floats(w, "dout", v->dout, &x);
    return made;
}

int case_file_write(const char *path, const bounds *b, const char *source,
                    const char *time_against, error *e)
{
    const check_values *v = b->want;
    const case_file c = { .mechanism = v->mechanism, .problem = v->problem };
    writing *w = calloc(1, sizeof *w);
    if (!w) return error_set(e, "%s: out of memory", path);
    add_problem(w, v->mechanism, &v->problem);
    tell(w, "source", source);
    if (time_against) tell(w, "time_against", time_against);
    const bool made = add_inputs(w, &c, v);
    const int floats = w->items;
    for (int i = 0; i < v->outputs; i++) {
        const check_output *o = &v->output[i];
        const extent x = extent_of_output(&c, v, o);
        add_doubles(w, "", o->name, o->value, &x);
        add_doubles(w, BOUND, o->name, b->of[i], &x);
    }
    const int rc = made ? archive_write(path, w->item, w->items, w->metadata, e)
                        : error_set(e, "%s: out of memory", path);
    for (int i = 0; i < floats; i++) free(w->floats[i]);
    free(w);
    return rc;
}
