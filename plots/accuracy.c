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
    return json_text(json_get(journal_env(j, row), "machine_id"));
}

static bool is_of(const journal *j, const json *row, const result *r,
                  const char *dtype)
{
    return same_text(r->kernel, json_get(row, "kernel")) &&
           same_text(r->level, json_get(row, "level")) &&
           same_text(r->pass, json_get(row, "pass")) &&
           same_text(dtype, json_get(row, "dtype")) &&
           same_text(json_text(json_get(row, "code")), json_get(r->row, "code")) &&
           same_text(machine_of(j, row), json_get(r->env, "machine_id"));
}

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

void accuracy_join(results *r)
{
    bool some = false;
    for (int i = 0; i < r->journal.count && !some; i++)
        some = same_text("accuracy", json_get(r->journal.rows[i], "kind"));
    for (int i = 0; some && i < r->count; i++)
        r->item[i].accuracy = row_of(&r->journal, &r->item[i]);
}

bool accuracy_any(const results *r)
{
    for (int i = 0; i < r->count; i++)
        if (r->item[i].accuracy) return true;
    return false;
}

/* ---- columns ------------------------------------------------------------- */

static double number(const result *r, const char *path)
{
    return json_number(result_member(r->accuracy, path), NAN);
}

void accuracy_max_ulp(const result *r, double value[3])
{
    value[0] = number(r, "error/max_ulp");
}

void accuracy_rms_ulp(const result *r, double value[3])
{
    value[0] = number(r, "error/rms_ulp");
}

void accuracy_stress_ulp(const result *r, double value[3])
{
    value[0] = number(r, "stress/max_ulp");
}

static const char *word(const result *r, const char *path)
{
    const json *same = result_member(r->accuracy, path);
    return json_true(same) ? "yes" : json_is_false(same) ? "no" : "";
}

const char *accuracy_repeat(const result *r)
{
    return word(r, "determinism/repeat/same");
}

const char *accuracy_threads(const result *r)
{
    return word(r, "determinism/threads/same");
}

const char *accuracy_levels(const result *r)
{
    return word(r, "determinism/levels/same");
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
    for (int i = 0; i < r->count; i++) without += !r->item[i].accuracy;
    *out = 0;
    if (without)
        snprintf(out, size, "%d of %d cases lack errors in ulp of their kernel, "
                            "level, storage and pass by the same code on the same "
                            "machine: 'attnbench verify --accuracy --out' with "
                            "this folder adds them", without, r->count);
}
