#include "accuracy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- rows ---------------------------------------------------------------- */

static bool same_text(const char *a, const json *b)
{
    const char *text = json_text(b);
    return a && text && !strcmp(a, text);
}

static const char *machine_of(const journal *j, const json *row)
{
    struct row of = row_unknown();
    of.env = json_text(json_get(row, "env"));
    return json_text(json_get(journal_env(j, &of), "machine_id"));
}

static bool is_of(const journal *j, const json *row, const result *r,
                  const char *dtype)
{
    return same_text(r->kernel, json_get(row, "kernel")) &&
           same_text(r->level, json_get(row, "level")) &&
           same_text(r->pass, json_get(row, "pass")) &&
           same_text(dtype, json_get(row, "dtype")) &&
           same_text(r->row->code, json_get(row, "code")) &&
           same_text(machine_of(j, row), json_get(r->env, "machine_id"));
}

static double number(const json *row, const char *object, const char *key)
{
    return json_number(json_get(json_get(row, object), key), NAN);
}

static row_flag same(const json *row, const char *way)
{
    const json *x =
        json_get(json_get(json_get(row, "determinism"), way), "same");
    return json_true(x) ? ROW_YES : json_is_false(x) ? ROW_NO : ROW_UNKNOWN;
}

/* The last row that is of the case; NULL: none. */
static const json *row_of(const journal *j, const result *r)
{
    char dtype[RESULT_TEXT];
    result_axis(r, "dtype", dtype);
    for (int i = j->count - 1; i >= 0; i--)
        if (same_text("accuracy", json_get(j->rows[i], "kind")) &&
            is_of(j, j->rows[i], r, *dtype ? dtype : "f32"))
            return j->rows[i];
    return NULL;
}

static accuracy_errors errors_of(const json *row)
{
    return (accuracy_errors){
        .known = row != NULL,
        .max_ulp = number(row, "error", "max_ulp"),
        .rms_ulp = number(row, "error", "rms_ulp"),
        .stress_ulp = number(row, "stress", "max_ulp"),
        .repeat = same(row, "repeat"),
        .threads = same(row, "threads"),
        .levels = same(row, "levels"),
    };
}

void accuracy_join(results *r)
{
    bool some = false;
    for (int i = 0; i < r->journal.count && !some; i++)
        some = same_text("accuracy", json_get(r->journal.rows[i], "kind"));
    for (int i = 0; i < r->count; i++)
        r->item[i].accuracy =
            errors_of(some ? row_of(&r->journal, &r->item[i]) : NULL);
}

bool accuracy_any(const results *r)
{
    for (int i = 0; i < r->count; i++)
        if (r->item[i].accuracy.known) return true;
    return false;
}

/* ---- columns ------------------------------------------------------------- */

void accuracy_max_ulp(const result *r, double value[3])
{
    value[0] = r->accuracy.max_ulp;
}

void accuracy_rms_ulp(const result *r, double value[3])
{
    value[0] = r->accuracy.rms_ulp;
}

void accuracy_stress_ulp(const result *r, double value[3])
{
    value[0] = r->accuracy.stress_ulp;
}

static const char *word(row_flag same_bits)
{
    return same_bits == ROW_YES ? "yes" : same_bits == ROW_NO ? "no" : "";
}

const char *accuracy_repeat(const result *r)
{
    return word(r->accuracy.repeat);
}

const char *accuracy_threads(const result *r)
{
    return word(r->accuracy.threads);
}

const char *accuracy_levels(const result *r)
{
    return word(r->accuracy.levels);
}

bool accuracy_is_column(const column *c)
{
    return c->derive == accuracy_max_ulp || c->derive == accuracy_rms_ulp ||
           c->derive == accuracy_stress_ulp || c->word == accuracy_repeat ||
           c->word == accuracy_threads || c->word == accuracy_levels;
}

void accuracy_note(const results *r, char *out, size_t size)
{
    int without = 0;
    for (int i = 0; i < r->count; i++) without += !r->item[i].accuracy.known;
    *out = 0;
    if (without)
        snprintf(out, size, "%d of %d cases lack errors in ulp of their kernel, "
                            "level, storage and pass by the same code on the same "
                            "machine: 'attnbench verify --accuracy --out' with "
                            "this folder adds them", without, r->count);
}
