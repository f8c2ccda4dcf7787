#include "accuracy_row.h"

#include <math.h>
#include <string.h>

#include "journal.h"
#include "text.h"

/* ---- worst of all -------------------------------------------------------- */

/* Over inputs and tensors: the largest error, where it was, and the largest rms. */
typedef struct worst {
    double max, rms;
    const char *tensor, *input;
} worst;

static void take(worst *w, const accuracy_tensor *t, const char *input)
{
    if (!w->tensor || t->max > w->max) {
        w->max = t->max;
        w->tensor = t->name;
        w->input = input;
    }
    w->rms = fmax(w->rms, t->rms);
}

static void take_pass(worst *w, const accuracy_result *r, enum att_pass pass,
                      const char *input)
{
    for (int i = 0; i < r->tensors; i++)
        if (r->tensor[i].gradient == (pass == ATT_BACKWARD))
            take(w, &r->tensor[i], input);
}

static bool measured(const accuracy_result *r, enum att_pass pass)
{
    return !strcmp(r->status, "ok") && (pass == ATT_FORWARD || r->backward);
}

/* ---- the row ------------------------------------------------------------- */

static const char *dtype_name(int dtype)
{
    static const char *const names[] = { "f32", "f16", "bf16" };
    return names[dtype];
}

static const char *pass_name(enum att_pass pass)
{
    return pass == ATT_FORWARD ? "forward" : "backward";
}

void accuracy_row_id(const accuracy_subject *s, const sweep_env *env, char *out)
{
    char code[SWEEP_ID];
    sweep_env_code(s->entry, code);
    snprintf(out, ACCURACY_ID, "accuracy of %.80s/%s,%s,t=%d,%s%s among %s %s %s",
             s->entry->kernel->name, att_level_name(s->entry->level),
             dtype_name(s->dtype), s->threads, pass_name(s->pass),
             s->many ? ",many" : "", s->levels, code, env->machine);
}

static json *error_of(const worst *w, bool named)
{
    json *j = json_object();
    if (!w->tensor) {
        json_put_null(j, "max_ulp");
        json_put_null(j, "rms_ulp");
    } else {
        json_put_number(j, "max_ulp", w->max);
        json_put_number(j, "rms_ulp", w->rms);
    }
    json_put_text(j, "tensor", w->tensor);
    if (named) json_put_text(j, "inputs", w->input);
    return j;
}

static json *tensors_of(const accuracy_result *r, enum att_pass pass)
{
    json *list = json_array();
    for (int i = 0; i < r->tensors; i++) {
        const accuracy_tensor *t = &r->tensor[i];
        if (t->gradient != (pass == ATT_BACKWARD)) continue;
        json *j = json_object();
        json_put_text(j, "name", t->name);
        json_put_number(j, "max_ulp", t->max);
        json_put_number(j, "rms_ulp", t->rms);
        json_put_number(j, "scale", t->scale);
        json_put_number(j, "unit", t->unit);
        json_push(list, j);
    }
    return list;
}

/* Status of one input, and why it is not ok. */
static const char *status_of(const accuracy_input *in, const accuracy_result *r,
                             enum att_pass pass, const char **reason)
{
    *reason = in->left_out ? in->left_out : r->reason;
    if (in->left_out) return "left out";
    if (!strcmp(r->status, "ok") && !measured(r, pass)) return "unsupported";
    if (!measured(r, pass)) return *r->status ? r->status : "interrupted";
    worst w = { 0 };
    take_pass(&w, r, pass, in->name);
    *reason = "infinite or not a number, unlike the reference";
    if (!isfinite(w.max)) return "wrong";
    *reason = NULL;
    return "ok";
}

static json *input_of(const accuracy_subject *s, const accuracy_input *in,
                      const accuracy_result *r)
{
    const char *reason, *status = status_of(in, r, s->pass, &reason);
    char name[ATT_NAME];
    worst w = { 0 };
    json *j = json_object();
    if (measured(r, s->pass)) take_pass(&w, r, s->pass, in->name);
    att_case_name(s->entry, &in->values.problem, s->threads, s->pass, name);
    json_put_text(j, "name", in->name);
    json_put_bool(j, "ordinary", in->ordinary);
    json_put_text(j, "case", name);
    json_put_text(j, "status", status);
    json_put_text(j, "reason", reason && *reason ? reason : NULL);
    json_put(j, "error", error_of(&w, false));
    json_put(j, "tensors", tensors_of(r, s->pass));
    return j;
}

/* On all inputs together. */
static json *determinism_of(const accuracy_inputs *list,
                            const accuracy_result *const *result,
                            enum att_pass pass)
{
    static const char *const names[] = { "repeat", "threads", "levels" };
    json *j = json_object();
    for (int way = 0; way < ACCURACY_WAYS; way++) {
        accuracy_same all = { .same = true };
        for (int i = 0; i < list->count; i++) {
            const accuracy_same *one = &result[i]->same[pass][way];
            if (!one->tried || !measured(result[i], pass)) continue;
            all.tried = true;
            all.same &= one->same;
            all.ulp = fmax(all.ulp, one->ulp);
        }
        json *x = json_object();
        if (all.tried) json_put_bool(x, "same", all.same);
        else json_put_null(x, "same");
        json_put_number(x, "ulp", all.tried ? all.ulp : NAN);
        json_put(j, names[way], x);
    }
    return j;
}

/* The worst that happened: on ordinary inputs whatever it is, on others what is
 * wrong or died; *reason gets where. */
static const char *whole_status(const accuracy_subject *s,
                                const accuracy_inputs *list,
                                const accuracy_result *const *result,
                                char *reason, size_t size)
{
    const char *whole = "ok";
    *reason = 0;
    for (int i = 0; i < list->count; i++) {
        const accuracy_input *in = &list->item[i];
        const char *why, *status = status_of(in, result[i], s->pass, &why);
        const bool quiet = !strcmp(status, "ok") || !strcmp(status, "left out") ||
                           !strcmp(status, "unsupported") ||
                           !strcmp(status, "memory");
        if (strcmp(whole, "ok") || (quiet && i > 0) || !strcmp(status, "ok"))
            continue;
        whole = status;
        snprintf(reason, size, "%s%s%s", quiet ? "" : in->name, quiet ? "" : ": ",
                 why ? why : "");
    }
    return whole;
}

json *accuracy_row(const accuracy_subject *s, const sweep_env *env,
                   const accuracy_inputs *list,
                   const accuracy_result *const *result)
{
    char id[ACCURACY_ID], code[SWEEP_ID], when[24], reason[400];
    worst usual = { 0 }, stress = { 0 };
    json *row = json_object(), *all = json_array();
    for (int i = 0; i < list->count; i++) {
        const accuracy_input *in = &list->item[i];
        json_push(all, input_of(s, in, result[i]));
        if (measured(result[i], s->pass))
            take_pass(in->ordinary ? &usual : &stress, result[i], s->pass,
                      in->name);
    }
    accuracy_row_id(s, env, id);
    sweep_env_code(s->entry, code);
    sweep_time(when);
    json_put_text(row, "kind", "accuracy");
    json_put_number(row, "schema", JOURNAL_SCHEMA);
    json_put_text(row, "id", id);
    json_put_text(row, "env", env->id);
    json_put_text(row, "code", code);
    json_put_text(row, "when", when);
    json_put_text(row, "mechanism", s->entry->mechanism->name);
    json_put_text(row, "family", s->entry->mechanism->family);
    json_put_text(row, "kernel", s->entry->kernel->name);
    json_put_bool(row, "plain", s->entry->kernel->plain);
    json_put_text(row, "level", att_level_name(s->entry->level));
    json_put_number(row, "threads", s->threads);
    json_put_text(row, "pass", pass_name(s->pass));
    json_put_text(row, "dtype", dtype_name(s->dtype));
    json_put_bool(row, "many", s->many);
    json_put_text(row, "status",
                  whole_status(s, list, result, reason, sizeof reason));
    json_put_text(row, "reason", *reason ? reason : NULL);
    json_put(row, "error", error_of(&usual, false));
    json_put(row, "stress", error_of(&stress, true));
    json_put(row, "determinism", determinism_of(list, result, s->pass));
    json_put(row, "inputs", all);
    return row;
}

/* ---- the table ----------------------------------------------------------- */

void accuracy_row_header(FILE *f, int width)
{
    fprintf(f, "%s%-*s %-5s %-5s %-8s | %8s %8s %-10s | %8s %-10s %-12s | %-9s %-9s "
               "%-9s%s\n",
            text_on(f, TEXT_BOLD), width, "kernel", "level", "dtype", "pass",
            "max ulp", "rms ulp", "tensor", "stress", "tensor", "inputs", "repeat",
            "threads", "levels", text_off(f, TEXT_BOLD));
    fflush(f);
}

static void print_ulp(FILE *f, const json *of, const char *key)
{
    char text[32];
    const bool infinite = json_text(json_get(of, "tensor"));
    const double x = json_number(json_get(of, key), infinite ? INFINITY : NAN);
    if (isnan(x)) snprintf(text, sizeof text, "-");
    else snprintf(text, sizeof text, x < 9.95 ? "%.2f" : x < 1e5 ? "%.0f" : "%.1e", x);
    fprintf(f, " %8s", text);
}

static void print_text(FILE *f, int width, const json *object, const char *key)
{
    const char *text = json_text(json_get(object, key));
    fprintf(f, " %-*s", width, text ? text : "-");
}

/* "same", "0.5 ulp" apart, or "-" where there was nothing to compare with. */
static void print_same(FILE *f, const json *row, const char *way)
{
    const json *x = json_get(json_get(row, "determinism"), way);
    char text[32];
    if (json_true(json_get(x, "same"))) snprintf(text, sizeof text, "same");
    else if (!json_is_false(json_get(x, "same"))) snprintf(text, sizeof text, "-");
    else
        snprintf(text, sizeof text, "%.2g ulp",
                 json_number(json_get(x, "ulp"), INFINITY));
    fprintf(f, " %-9s", text);
}

void accuracy_row_line(FILE *f, int width, const json *row)
{
    const char *status = json_text(json_get(row, "status"));
    const char *reason = json_text(json_get(row, "reason"));
    const json *usual = json_get(row, "error"), *stress = json_get(row, "stress");
    const enum text_color color =
        !strcmp(status, "unsupported") || !strcmp(status, "memory") ? TEXT_PLAIN
                                                                    : TEXT_BAD;
    fprintf(f, "%-*s", width, json_text(json_get(row, "kernel")));
    print_text(f, 5, row, "level");
    print_text(f, 5, row, "dtype");
    print_text(f, 8, row, "pass");
    fputs(" |", f);
    print_ulp(f, usual, "max_ulp");
    print_ulp(f, usual, "rms_ulp");
    print_text(f, 10, usual, "tensor");
    fputs(" |", f);
    print_ulp(f, stress, "max_ulp");
    print_text(f, 10, stress, "tensor");
    print_text(f, 12, stress, "inputs");
    fputs(" |", f);
    print_same(f, row, "repeat");
    print_same(f, row, "threads");
    print_same(f, row, "levels");
    if (strcmp(status, "ok"))
        fprintf(f, " %s%s%s%s%s", text_on(f, color), status, text_off(f, color),
                reason ? ": " : "", reason ? reason : "");
    fputc('\n', f);
    fflush(f);
}

void accuracy_row_legend(FILE *f)
{
    fputs("\nulp: unit in the last place of the largest value of the tensor in its "
          "storage.  max, rms: of the tensor\nwhere it is largest, on normal inputs; "
          "stress: likewise, on the worst of the other inputs.  same: bit by bit\non "
          "all inputs, else the largest difference.\n", f);
}
