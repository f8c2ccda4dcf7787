/* slice.c - which cases stand together. */
#include "slice.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Largest relative distance of the tokens of two maps that count as one
 * length: 2-D mechanisms take the grid nearest to a square. */
#define NEAR_TOKENS 0.07

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* Axes that a figure holds still, in the order in which values are chosen.  All
 * other fields of a problem make variants of a kernel: lines of their own. */
static const char *const still[] = {
    "pass", "inputs", "cache", "level", "dtype", "causal", "threads", "batch", "heads", "head_dim",
    "value_dim", "tokens_k", "tokens", "window", "seed",
};
enum { STILL = sizeof still / sizeof *still };

static bool is_still(const char *name)
{
    for (int i = 0; i < STILL; i++)
        if (!strcmp(name, still[i])) return true;
    return false;
}

static const column *column_named(const columns *c, const char *name)
{
    for (int i = 0; i < c->count; i++)
        if (!strcmp(c->item[i].name, name)) return &c->item[i];
    return NULL;
}

static bool is_one_of(const column *axis, const column *const *list, int n)
{
    for (int i = 0; i < n; i++)
        if (list[i] == axis) return true;
    return false;
}

/* ---- values of an axis --------------------------------------------------- */

/* An axis that a problem has without using it is written as 0 or null. */
static void value_of(const slice *s, const column *axis, const result *r,
                     char *out)
{
    column_text(axis, r, out, RESULT_TEXT);
    if (!strcmp(out, "0") && strcmp(axis->name, "causal")) *out = 0;
    if (!*out && !strcmp(axis->name, "causal")) strcpy(out, "0");
    if (strcmp(axis->name, "head_dim") == 0 && s && s->heads > 1) {
        const double d = slice_number(s, axis, r);
        if (!isnan(d)) snprintf(out, RESULT_TEXT, "%.10g", d);
    }
}

double slice_number(const slice *s, const column *axis, const result *r)
{
    double value[3];
    column_numbers(axis, r, value);
    if (s->heads > 1 && !strcmp(axis->name, "head_dim") &&
        result_axis_number(r, "heads") == 1)
        return value[0] / s->heads;
    return value[0];
}

/* Numbers by size, words by spelling. */
static int compare_values(const void *a, const void *b)
{
    char *ends[2];
    const double x = strtod(a, &ends[0]), y = strtod(b, &ends[1]);
    if (x != y && ends[0] != (const char *)a && ends[1] != (const char *)b)
        return x < y ? -1 : 1;
    return strcmp(a, b);
}

typedef struct tally {
    slice_value *value;
    int count;
} tally;

static void tally_add(tally *t, const char *value, bool ok)
{
    int i = 0;
    while (i < t->count && strcmp(t->value[i].text, value)) i++;
    if (i == t->count) {
        t->value = sure(realloc(t->value, (size_t)(i + 1) * sizeof *t->value));
        t->value[t->count++] = (slice_value){ 0 };
        snprintf(t->value[i].text, RESULT_TEXT, "%s", value);
    }
    t->value[i].cases += ok;
}

static void tally_axis(tally *t, const slice *s, const column *axis)
{
    char value[RESULT_TEXT];
    *t = (tally){ 0 };
    for (int i = 0; i < s->count; i++) {
        value_of(s, axis, s->item[i], value);
        if (*value) tally_add(t, value, s->item[i]->ok);
    }
}

static void tally_results(tally *t, const results *r, const column *axis)
{
    char value[RESULT_TEXT];
    *t = (tally){ 0 };
    for (int i = 0; i < r->count; i++) {
        value_of(NULL, axis, &r->item[i], value);
        if (*value) tally_add(t, value, r->item[i].ok);
    }
}

int slice_values(const results *r, const column *axis, slice_value **value)
{
    tally t;
    tally_results(&t, r, axis);
    if (t.count)
        qsort(t.value, (size_t)t.count, sizeof *t.value, compare_values);
    *value = t.value;
    return t.count;
}

/* Value to hold an axis at; index into t. */
static int choose(const tally *t, const char *axis)
{
    int best = 0;
    for (int i = 1; i < t->count; i++) {
        const int order = compare_values(t->value[i].text, t->value[best].text);
        bool better = t->value[i].cases > t->value[best].cases ||
                      (t->value[i].cases == t->value[best].cases && order < 0);
        if (!strcmp(axis, "pass")) better = order > 0; /* forward           */
        if (!strcmp(axis, "level")) better = order > 0;
        if (!strcmp(axis, "inputs")) better = order < 0; /* normal          */
        if (!strcmp(axis, "cache")) better = order > 0; /* warm             */
        if (better) best = i;
    }
    return best;
}

/* ---- holding an axis at a value ------------------------------------------ */

/* How far a case is from the value: 0 at it, 1 near enough if its kernel has
 * nothing closer, 2 away from it. */
static int distance(const slice *s, const column *axis, const char *value,
                    const result *r)
{
    char own[RESULT_TEXT];
    value_of(s, axis, r, own);
    if (!*own || !strcmp(own, value)) return 0;
    if (!strcmp(axis->name, "heads")) return strcmp(own, "1") ? 2 : 1;
    if (!strcmp(axis->name, "tokens")) {
        const double n = strtod(value, NULL), m = strtod(own, NULL);
        return fabs(n - m) <= NEAR_TOKENS * n ? 1 : 2;
    }
    return 2;
}

static bool kernel_has(const slice *s, const column *axis, const char *value,
                       const char *kernel)
{
    for (int i = 0; i < s->count; i++)
        if (!strcmp(s->item[i]->kernel, kernel) &&
            distance(s, axis, value, s->item[i]) == 0)
            return true;
    return false;
}

static void add_text(char *out, size_t size, const char *separator,
                     const char *text)
{
    const size_t n = strlen(out);
    const int more = snprintf(out + n, size - n, "%s%s", n ? separator : "",
                              text);
    if (more >= 0 && (size_t)more >= size - n) /* the rest is told to exist */
        strcpy(out + size - 4, "...");
}

/* Tells the values of cases that were dropped. */
static void note_hidden(slice *s, tally *dropped, const column *axis)
{
    char list[256] = "";
    if (dropped->count)
        qsort(dropped->value, (size_t)dropped->count, sizeof *dropped->value,
              compare_values);
    for (int i = 0; i < dropped->count; i++)
        add_text(list, sizeof list, ", ", dropped->value[i].text);
    if (!*list) return;
    add_text(s->hidden, sizeof s->hidden, "; ", axis->name);
    add_text(s->hidden, sizeof s->hidden, " ", list);
}

static void hold(slice *s, const column *axis, const char *value)
{
    const result **kept = sure(malloc((size_t)(s->count + 1) * sizeof *kept));
    tally dropped = { .count = 0 };
    char own[RESULT_TEXT];
    int n = 0;
    for (int i = 0; i < s->count; i++) {
        const int d = distance(s, axis, value, s->item[i]);
        if (d == 0 ||
            (d == 1 && !kernel_has(s, axis, value, s->item[i]->kernel)))
            kept[n++] = s->item[i];
        else {
            value_of(s, axis, s->item[i], own);
            tally_add(&dropped, own, true);
        }
    }
    note_hidden(s, &dropped, axis);
    free(dropped.value);
    free(s->item);
    s->item = kept;
    s->count = n;
    if (!strcmp(axis->name, "heads")) s->heads = strtod(value, NULL);
    if (s->fixed_count == SLICE_AXES) return;
    fixed_axis *f = &s->fixed[s->fixed_count++];
    f->axis = axis;
    snprintf(f->value, sizeof f->value, "%s", value);
}

static int no_such_value(const tally *t, const fixed_axis *asked, error *e)
{
    char list[512] = "";
    if (t->count)
        qsort(t->value, (size_t)t->count, sizeof *t->value, compare_values);
    for (int i = 0; i < t->count; i++)
        add_text(list, sizeof list, ", ", t->value[i].text);
    return error_set(e, "no case with %s=%s; there is %s", asked->axis->name,
                     asked->value, *list ? list : "none with that axis");
}

static bool tally_has(const tally *t, const char *value)
{
    for (int i = 0; i < t->count; i++)
        if (!strcmp(t->value[i].text, value)) return true;
    return false;
}

static int hold_asked(slice *s, const fixed_axis *asked, error *e)
{
    tally t;
    tally_axis(&t, s, asked->axis);
    const int rc = tally_has(&t, asked->value) ? 0 : no_such_value(&t, asked, e);
    free(t.value);
    if (rc < 0) return -1;
    hold(s, asked->axis, asked->value);
    return 0;
}

int slice_check(const results *r, const fixed_axis *asked, int count, error *e)
{
    for (int k = 0; k < count; k++) {
        tally t;
        tally_results(&t, r, asked[k].axis);
        const int rc = tally_has(&t, asked[k].value)
                           ? 0 : no_such_value(&t, &asked[k], e);
        free(t.value);
        if (rc < 0) return -1;
    }
    return 0;
}

/* ---- labels -------------------------------------------------------------- */

/* Whether the cases of one kernel differ in an axis. */
static bool differs(const slice *s, const column *axis, const char *kernel)
{
    char first[RESULT_TEXT], text[RESULT_TEXT];
    bool any = false;
    for (int i = 0; i < s->count; i++) {
        if (strcmp(s->item[i]->kernel, kernel)) continue;
        column_text(axis, s->item[i], any ? text : first, RESULT_TEXT);
        if (any && strcmp(first, text)) return true;
        any = true;
    }
    return false;
}

/* Axes that make variants: all but those held still and the grid, which the
 * number of tokens stands for. */
static bool makes_variants(const column *axis, const column *const *vary,
                           int vary_count)
{
    return axis->kind == COLUMN_AXIS && !is_still(axis->name) &&
           strcmp(axis->name, "grid") && !is_one_of(axis, vary, vary_count);
}

static char *label_of(const result *r, const column *const *varying, int n,
                      bool envs, bool caches)
{
    char text[256], value[RESULT_TEXT];
    snprintf(text, sizeof text, "%s", r->kernel);
    for (int i = 0; i < n; i++) {
        column_text(varying[i], r, value, sizeof value);
        if (!*value) continue;
        if (strspn(value, "0123456789.x-") == strlen(value)) {
            add_text(text, sizeof text, " ", varying[i]->name);
            add_text(text, sizeof text, "=", value);
        } else
            add_text(text, sizeof text, " ", value);
    }
    if (caches && result_is_cold(r)) add_text(text, sizeof text, "", SLICE_COLD);
    if (envs) {
        char id[12]; /* enough to tell them apart                            */
        snprintf(id, sizeof id, "@%.8s", r->env_id);
        add_text(text, sizeof text, " ", id);
    }
    return sure(strdup(text));
}

static void make_labels(slice *s, const results *r, const columns *c,
                        const column *const *vary, int vary_count)
{
    const column **varying = sure(malloc((size_t)c->count * sizeof *varying));
    const bool caches = is_one_of(column_named(c, "cache"), vary, vary_count);
    s->label = sure(calloc((size_t)s->count + 1, sizeof *s->label));
    for (int i = 0; i < s->count; i++) {
        const char *kernel = s->item[i]->kernel;
        int n = 0;
        if (s->label[i]) continue;
        for (int a = 0; a < c->count; a++)
            if (makes_variants(&c->item[a], vary, vary_count) &&
                differs(s, &c->item[a], kernel))
                varying[n++] = &c->item[a];
        for (int k = i; k < s->count; k++)
            if (!strcmp(s->item[k]->kernel, kernel))
                s->label[k] = label_of(s->item[k], varying, n,
                                       r->env_count > 1, caches);
    }
    free(varying);
}

/* ---- making -------------------------------------------------------------- */

static void start(slice *s, const results *r, const column *const *vary,
                  int vary_count)
{
    *s = (slice){ 0 };
    s->item = sure(malloc((size_t)(r->count + 1) * sizeof *s->item));
    for (int i = 0; i < r->count; i++) {
        bool has = true;
        for (int v = 0; v < vary_count; v++) {
            char text[RESULT_TEXT];
            value_of(NULL, vary[v], &r->item[i], text);
            has &= *text != 0;
        }
        if (has) s->item[s->count++] = &r->item[i];
    }
}

static bool asked_for(const column *axis, const fixed_axis *asked, int n)
{
    for (int i = 0; i < n; i++)
        if (asked[i].axis == axis) return true;
    return false;
}

int slice_make(slice *s, const results *r, const columns *c,
               const column *const *vary, int vary_count,
               const fixed_axis *asked, int asked_count, error *e)
{
    start(s, r, vary, vary_count);
    for (int i = 0; i < asked_count; i++)
        if (!is_one_of(asked[i].axis, vary, vary_count) &&
            hold_asked(s, &asked[i], e) < 0) {
            slice_free(s);
            return -1;
        }
    const column *grid = column_named(c, "grid");
    for (int i = 0; i < STILL; i++) {
        const column *axis = column_named(c, still[i]);
        tally t;
        if (!axis || is_one_of(axis, vary, vary_count) ||
            asked_for(axis, asked, asked_count))
            continue;
        /* the grid says more than the number of its tokens */
        if (!strcmp(still[i], "tokens") && grid &&
            is_one_of(grid, vary, vary_count))
            continue;
        tally_axis(&t, s, axis);
        if (t.count == 0) continue;
        hold(s, axis, t.value[choose(&t, axis->name)].text);
        free(t.value);
    }
    make_labels(s, r, c, vary, vary_count);
    return 0;
}

void slice_free(slice *s)
{
    for (int i = 0; s->label && i < s->count; i++) free(s->label[i]);
    free(s->label);
    free(s->item);
    *s = (slice){ 0 };
}

void slice_describe(const slice *s, char *out, size_t size)
{
    *out = 0;
    for (int i = 0; i < s->fixed_count; i++) {
        const fixed_axis *f = &s->fixed[i];
        char text[RESULT_TEXT + 32];
        if (!strcmp(f->axis->name, "inputs")) {
            if (!strcmp(f->value, "normal")) continue;
            snprintf(text, sizeof text, "%s inputs", f->value);
        } else if (!strcmp(f->axis->name, "cache")) {
            if (!strcmp(f->value, "warm")) continue;
            snprintf(text, sizeof text, "%s caches", f->value);
        } else if (f->axis->kind == COLUMN_TEXT) snprintf(text, sizeof text, "%s",
                                                   f->value);
        else if (!strcmp(f->axis->name, "causal")) {
            if (!strcmp(f->value, "0")) continue;
            snprintf(text, sizeof text, "causal %s", f->value);
        } else if (!strcmp(f->axis->name, "seed")) continue;
        else
            snprintf(text, sizeof text, "%s %s", f->axis->name, f->value);
        add_text(out, size, ", ", text);
    }
}

int slice_ask(fixed_axis *asked, int *count, const columns *c, const char *text,
              error *e)
{
    while (*text) {
        const size_t n = strcspn(text, ","), name = strcspn(text, "=");
        char key[RESULT_TEXT];
        if (name >= n || name >= sizeof key || n - name > RESULT_TEXT)
            return error_set(e, "'%.*s' is not of the form AXIS=VALUE", (int)n,
                             text);
        if (*count == SLICE_AXES)
            return error_set(e, "more than %d axes fixed", SLICE_AXES);
        snprintf(key, sizeof key, "%.*s", (int)name, text);
        fixed_axis *f = &asked[*count];
        f->axis = columns_find(c, key, e);
        if (!f->axis) return -1;
        if (f->axis->kind == COLUMN_VALUE)
            return error_set(e, "'%s' was measured, not varied: fix an axis",
                             key);
        snprintf(f->value, sizeof f->value, "%.*s", (int)(n - name - 1),
                 text + name + 1);
        (*count)++;
        text += n + (text[n] == ',');
    }
    return 0;
}
