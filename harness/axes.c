/* axes.c - lists and ranges of values, and their combinations. */
#include "axes.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

enum { MOST_VALUES = 4096, MOST_THREADS = 4096 };

/* ---- names --------------------------------------------------------------- */

static const struct {
    const char *name, *help;
} more[AXES - ATT_FIELD_COUNT] = {
    { "seq", "tokens N; 2-D and 3-D mechanisms get the nearest to a square "
             "or cube of exactly N" },
    { "threads", "threads of a call; all: one for each core" },
    { "level", "instruction-set level: best, all, v2, v3, v4" },
    { "pass", "forward, backward" },
    { "inputs", "normal; sharp: keys times 16, so that logits are as spread as "
                "those of trained models" },
    { "cache", "warm: the call was made just before; cold: all that it reads "
               "and writes is flushed from the caches before each call, and "
               "timed as it comes from memory ('attnbench cache' simulates)" },
};

const char *axes_name(int number)
{
    static char name[ATT_FIELD_COUNT][ATT_TEXT];
    if (number >= ATT_FIELD_COUNT) return more[number - ATT_FIELD_COUNT].name;
    snprintf(name[number], ATT_TEXT, "%s", att_fields[number].name);
    for (char *c = name[number]; *c; c++)
        if (*c == '_') *c = '-';
    return name[number];
}

const char *axes_help(int number)
{
    return number < ATT_FIELD_COUNT ? att_fields[number].help
                                    : more[number - ATT_FIELD_COUNT].help;
}

int axes_find(const char *name)
{
    char dashed[ATT_TEXT];
    snprintf(dashed, sizeof dashed, "%s", name);
    for (char *c = dashed; *c; c++)
        if (*c == '_') *c = '-';
    for (int a = 0; a < AXES; a++)
        if (!strcmp(dashed, axes_name(a))) return a;
    return -1;
}

/* ---- one value ----------------------------------------------------------- */

static int add(axis *x, int number, const char *text, error *e)
{
    if (x->count == MOST_VALUES)
        return error_set(e, "--%s: more than %d values", axes_name(number),
                         MOST_VALUES);
    char(*value)[ATT_TEXT] =
        realloc(x->value, (size_t)(x->count + 1) * sizeof *value);
    if (!value) abort();
    x->value = value;
    snprintf(value[x->count++], sizeof *value, "%s", text);
    return 0;
}

static int add_int(axis *x, int number, const char *text, int least, int most,
                   error *e)
{
    char *end;
    errno = 0;
    const long v = strtol(text, &end, 10);
    if (end == text || *end || errno || v < least || v > most)
        return error_set(e, "--%s: '%s' is not an integer from %d to %d",
                         axes_name(number), text, least, most);
    return add(x, number, text, e);
}

static int add_level(axis *x, const char *text, bool *missing, error *e)
{
    static const char *const names[] = { "best", "all",  "base",
                                         "v2",   "v3",   "v4" };
    const int level = att_level_parse(text);
    if (!strcmp(text, "all")) {
        const att_entry *entry;
        const size_t n = att_entries(&entry);
        for (int l = 0; l < ATT_LEVELS; l++)
            for (size_t i = 0; i < n; i++)
                if ((int)entry[i].level == l) {
                    if (add(x, AXIS_LEVEL, att_level_name(entry[i].level), e))
                        return -1;
                    break;
                }
        return 0;
    }
    if (level < 0) {
        const char *near = error_nearest(text, names, 6);
        return error_set(e,
                         "--level: '%s' is not a level%s%s%s: use best, all, "
                         "base, v2, v3 or v4",
                         text, near ? "; did you mean '" : "",
                         near ? near : "", near ? "'?" : "");
    }
    const char *why = strcmp(text, "best")
                          ? att_level_reject((enum att_level)level) : NULL;
    if (why) {
        if (missing) *missing = true;
        return error_set(e, "--level: %s; the best here is %s", why,
                         att_level_name(att_level_best()));
    }
    return add(x, AXIS_LEVEL, att_level_name((enum att_level)level), e);
}

/* Why no mechanism has a problem with this value, or NULL.  text is the value
 * as att_get() prints it. */
static const char *impossible(const att_problem *p, int field, const char *text)
{
    const enum att_field_kind kind = att_fields[field].kind;
    if ((kind == ATT_INT || kind == ATT_LIST) && strchr(text, '-'))
        return "must not be negative";
    bool positive = p->head_dim > 0 && p->heads > 0 && p->batch > 0;
    for (int a = 0; a < p->grid.n; a++) positive &= p->grid.v[a] > 0;
    return positive ? NULL : "must be at least 1";
}

static int add_field(axis *x, int field, const char *text, error *e)
{
    static const char *const kinds[] = {
        [ATT_INT] = "an integer",
        [ATT_REAL] = "a number",
        [ATT_LIST] = "an integer, or one for each grid axis as in 7x5",
        [ATT_ENUM] = "one of",
    };
    att_problem p = att_problem_default;
    char out[ATT_TEXT];
    if (!att_set(&p, (enum att_field)field, text)) {
        const att_field_info *f = &att_fields[field];
        const bool names = f->kind == ATT_ENUM;
        return error_set(e, "--%s: '%s' is not %s%s%.*s", axes_name(field),
                         text, kinds[f->kind], names ? " " : "",
                         names ? (int)strcspn(f->help, ":") : 0, f->help);
    }
    att_get(&p, (enum att_field)field, out);
    const char *why = impossible(&p, field, out);
    if (why)
        return error_set(e, "--%s: '%s' %s", axes_name(field), text, why);
    return add(x, field, out, e);
}

static int add_word(axis *x, int number, const char *text, const char *a,
                    const char *b, error *e)
{
    if (strcmp(text, a) && strcmp(text, b))
        return error_set(e, "--%s: '%s' is neither %s nor %s",
                         axes_name(number), text, a, b);
    return add(x, number, text, e);
}

static int add_value(axis *x, int number, const char *text, bool *missing,
                     error *e)
{
    char cores[ATT_TEXT];
    switch (number) {
    case AXIS_SEQ:
        return add_int(x, number, text, 1, INT_MAX / 2, e);
    case AXIS_THREADS:
        snprintf(cores, sizeof cores, "%d", machine_cores());
        return add_int(x, number, !strcmp(text, "all") ? cores : text, 1,
                       MOST_THREADS, e);
    case AXIS_LEVEL:
        return add_level(x, text, missing, e);
    case AXIS_PASS: return add_word(x, number, text, "forward", "backward", e);
    case AXIS_INPUTS: return add_word(x, number, text, "normal", "sharp", e);
    case AXIS_CACHE: return add_word(x, number, text, "warm", "cold", e);
    default:
        return add_field(x, number, text, e);
    }
}

/* ---- lists and ranges ---------------------------------------------------- */

static bool read_number(const char *text, char **end, double *out)
{
    errno = 0;
    *out = strtod(text, end);
    return *end != text && !errno && isfinite(*out);
}

/* text is "lo..hi*k" or "lo..hi+k". */
static int add_range(axis *x, int number, const char *text, bool *missing,
                     error *e)
{
    const char *dots = strstr(text, "..");
    char *end, low[ATT_TEXT];
    double lo, hi, k;
    snprintf(low, sizeof low, "%.*s", (int)(dots - text), text);
    const bool has_lo = read_number(low, &end, &lo) && !*end;
    const bool has_hi = has_lo && read_number(dots + 2, &end, &hi);
    const char sign = has_hi ? *end : 0;
    if (!has_hi || (sign != '*' && sign != '+') ||
        !read_number(end + 1, &end, &k) || *end)
        return error_set(e,
                         "--%s: '%s' is not a range: write lo..hi*k or "
                         "lo..hi+k, as in 256..16384*4",
                         axes_name(number), text);
    if (lo > hi || (sign == '*' ? lo <= 0 || k <= 1 : k <= 0))
        return error_set(e, "--%s: '%s' has no end: needs lo <= hi and %s",
                         axes_name(number), text,
                         sign == '*' ? "lo > 0, k > 1" : "k > 0");
    /* half a step of rounding in 0.1..0.3+0.1 must not lose the last value */
    for (int i = 0; i <= MOST_VALUES; i++) {
        const double v = sign == '*' ? lo * pow(k, i) : lo + k * i;
        char value[ATT_TEXT];
        if (v > hi * (1 + 1e-12)) break;
        snprintf(value, sizeof value, "%.12g", v);
        if (add_value(x, number, value, missing, e) < 0) return -1;
    }
    return 0;
}

static int add_item(axis *x, int number, const char *item, bool *missing,
                    error *e)
{
    if (!*item)
        return error_set(e, "--%s: an empty value; write values as a,b,c",
                         axes_name(number));
    return strstr(item, "..") ? add_range(x, number, item, missing, e)
                              : add_value(x, number, item, missing, e);
}

int axes_set(axes *a, int number, const char *text, bool *missing, error *e)
{
    axis x = { 0 };
    int rc = 0;
    for (const char *item = text; rc == 0; item++) {
        char one[ATT_TEXT];
        const size_t n = strcspn(item, ",");
        if (n >= sizeof one)
            rc = error_set(e, "--%s: a value is too long: %.40s...",
                           axes_name(number), item);
        else {
            snprintf(one, sizeof one, "%.*s", (int)n, item);
            rc = add_item(&x, number, one, missing, e);
        }
        item += n;
        if (!*item) break;
    }
    if (rc < 0) {
        free(x.value);
        return -1;
    }
    free(a->of[number].value);
    a->of[number] = x;
    return 0;
}

void axes_usual(axes *a, int number, const char *text)
{
    if (axes_set(a, number, text, NULL, NULL) == 0) a->of[number].usual = true;
}

void axes_overlay(axes *a, const axes *over)
{
    if (over->of[ATT_FIELD_radius].count) a->of[ATT_FIELD_window].usual = true;
    if (over->of[ATT_FIELD_window].count) a->of[ATT_FIELD_radius].usual = true;
    for (int i = 0; i < AXES; i++) {
        const axis *from = &over->of[i];
        if (from->count == 0) continue;
        /* seq and grid say the same thing in two ways */
        if (i == AXIS_SEQ || i == ATT_FIELD_grid) {
            a->of[AXIS_SEQ].count = 0;
            a->of[ATT_FIELD_grid].count = 0;
        }
        const size_t bytes = (size_t)from->count * sizeof *from->value;
        free(a->of[i].value);
        a->of[i].value = malloc(bytes);
        if (!a->of[i].value) abort();
        memcpy(a->of[i].value, from->value, bytes);
        a->of[i].count = from->count;
        a->of[i].usual = from->usual;
    }
}

void axes_free(axes *a)
{
    for (int i = 0; i < AXES; i++) free(a->of[i].value);
    *a = (axes){ 0 };
}

/* ---- combinations -------------------------------------------------------- */

double axes_combinations(const axes *a)
{
    double n = 1;
    for (int i = 0; i < AXES; i++)
        if (a->of[i].count) n *= a->of[i].count;
    return n;
}

static void apply(int number, const char *value, axes_point *out)
{
    switch (number) {
    case AXIS_SEQ: out->seq = atoi(value); break;
    case AXIS_THREADS: out->threads = atoi(value); break;
    case AXIS_LEVEL:
        out->level = (enum att_level)att_level_parse(value);
        break;
    case AXIS_PASS:
        out->pass = *value == 'f' ? ATT_FORWARD : ATT_BACKWARD;
        break;
    case AXIS_INPUTS:
        out->inputs = *value == 's' ? INPUTS_SHARP : INPUTS_NORMAL;
        break;
    case AXIS_CACHE: out->cold = *value == 'c'; break;
    default: att_set(&out->problem, (enum att_field)number, value);
    }
}

void axes_pick(const axes *a, size_t index, axes_point *out)
{
    *out = (axes_point){ .problem = att_problem_default,
                         .threads = 1,
                         .level = att_level_best(),
                         .pass = ATT_FORWARD };
    for (int i = AXES - 1; i >= 0; i--) {
        const axis *x = &a->of[i];
        if (x->count == 0) continue;
        apply(i, x->value[index % (size_t)x->count], out);
        if (x->usual && i < ATT_FIELD_COUNT) out->usual |= (uint64_t)1 << i;
        index /= (size_t)x->count;
    }
}

/* ---- a mechanism's view -------------------------------------------------- */

/* Largest divisor of n that is at most its square root. */
static int short_side(int n)
{
    int best = 1;
    for (int h = 1; h <= n / h; h++)
        if (n % h == 0) best = h;
    return best;
}

static void nearest_cube(int n, att_list *grid)
{
    int least = INT_MAX;
    for (int d = 1; (double)d * d * d <= n; d++) {
        if (n % d) continue;
        const int h = short_side(n / d), w = n / d / h;
        if (d + h + w >= least) continue;
        least = d + h + w;
        *grid = (att_list){ 3, { d, h, w } };
    }
}

static void fit_grid(const att_mechanism *m, int n, att_list *grid)
{
    const int h = short_side(n);
    *grid = (att_list){ 1, { n } };
    if (m->traits & ATT_IS_1D) return;
    if (m->traits & ATT_IS_2D) *grid = (att_list){ 2, { h, n / h } };
    else if (m->traits & ATT_IS_3D) nearest_cube(n, grid);
}

/* Fields that ask for other mathematics, not for another shape of it: leaving
 * them out would answer another question. */
static const char *cannot(const att_mechanism *m, const att_problem *p)
{
    for (int a = 0; a < p->causal.n; a++)
        if (p->causal.v[a] && !att_uses(m, ATT_FIELD_causal))
            return "has no causal form";
    if (p->tokens_k && (size_t)p->tokens_k != att_tokens(p) &&
        !att_uses(m, ATT_FIELD_tokens_k))
        return "needs as many keys as queries";
    if (p->value_dim && p->value_dim != p->head_dim &&
        !att_uses(m, ATT_FIELD_value_dim))
        return "needs value_dim = head_dim";
    return NULL;
}

/* A radius and a window are two names of one thing. */
static void one_name(const att_mechanism *m, uint64_t usual, att_problem *p)
{
    if (!att_uses(m, ATT_FIELD_radius) || !att_uses(m, ATT_FIELD_window) ||
        !p->radius || !p->window.n)
        return;
    if (usual & ATT_USE(radius)) p->radius = 0;
    else if (usual & ATT_USE(window)) p->window = (att_list){ 0 };
}

const char *axes_fit(const att_mechanism *m, const axes_point *point,
                     att_problem *out)
{
    *out = point->problem;
    one_name(m, point->usual, out);
    if (point->seq) fit_grid(m, point->seq, &out->grid);
    if (m->traits & ATT_ONE_WIDTH) {
        const double d = (double)out->head_dim * out->heads;
        const double dv = (double)out->value_dim * out->heads;
        if (d <= INT_MAX && dv <= INT_MAX) { /* else its reject() says so */
            out->head_dim = (int)d;
            out->value_dim = (int)dv;
            out->heads = 1;
        }
    }
    const char *why = cannot(m, out);
    att_canonical(m, out);
    return why;
}
