/* results.c - the cases of a journal. */
#include "results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/clean.h"
#include "../harness/file.h"
#include "sha256.h"

enum { READ_LIMIT = 1 << 30 };

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

static const char *text_or(const json *j, const char *absent)
{
    const char *text = json_text(j);
    return text ? text : absent;
}

/* ---- one row ------------------------------------------------------------- */

static void value_text(const json *value, char *out, size_t size)
{
    size_t at = 0;
    *out = 0;
    if (json_is_number(value))
        snprintf(out, size, "%.10g", json_number(value, 0));
    else if (json_text(value)) snprintf(out, size, "%s", json_text(value));
    else if (json_true(value)) snprintf(out, size, "1");
    else if (json_is_array(value))
        for (const json *x = json_first(value); x && at < size;
             x = json_next(x))
            at += (size_t)snprintf(out + at, size - at, at ? "x%g" : "%g",
                                   json_number(x, NAN));
}

void result_axis(const result *r, const char *axis, char *out)
{
    if (!strcmp(axis, "tokens")) {
        const double n = result_axis_number(r, axis);
        *out = 0;
        if (!isnan(n)) snprintf(out, RESULT_TEXT, "%.0f", n);
    } else
        value_text(json_get(r->row->problem, axis), out, RESULT_TEXT);
}

/* "56x28": calls out the entries one by one; the number of them, 0 if one is
 * not a number. */
static int entries(const char *text, double *product, bool *equal)
{
    double first = 0;
    int n = 0;
    *product = 1;
    *equal = true;
    while (*text) {
        char *end;
        const double v = strtod(text, &end);
        if (end == text || (*end && *end != 'x' && *end != ',')) return 0;
        if (n++ == 0) first = v;
        *equal &= v == first;
        *product *= v;
        text = end + (*end != 0);
    }
    return n;
}

double result_axis_number(const result *r, const char *axis)
{
    const bool tokens = !strcmp(axis, "tokens");
    char text[RESULT_TEXT];
    double product;
    bool equal;
    value_text(json_get(r->row->problem, tokens ? "grid" : axis), text,
               sizeof text);
    const int n = entries(text, &product, &equal);
    if (n == 0) return NAN;
    if (tokens || n == 1) return product;
    return equal ? strtod(text, NULL) : NAN;
}

/* ---- all rows ------------------------------------------------------------ */

static int check_case(const results *r, int row, error *e)
{
    const char *key;
    if (row_is_whole(&r->journal.row[row], &key)) return 0;
    return error_set(e, "%s:%d: a case row without a text \"%s\": not written "
                        "by attnbench sweep",
                     r->journal.path, r->journal.line[row], key);
}

static bool same_text(const json *a, const json *b, const char *key)
{
    const char *x = json_text(json_get(a, key)), *y = json_text(json_get(b, key));
    return x && y && !strcmp(x, y);
}

/* Whether the program of an env row has the kernel of a row as it was then. */
static bool has_code(const json *env, const struct row *row)
{
    char key[256];
    snprintf(key, sizeof key, "%s/%s", row->kernel ? row->kernel : "",
             row->level ? row->level : "");
    const char *code = json_text(json_get(json_get(env, "codes"), key));
    return code && row_has(row->code, code);
}

/* The environment of a row: the id of the first env row of the newest program on
 * that machine that has the same code (of_program: of the program itself). */
static const char *env_group(const journal *j, const struct row *row,
                             bool of_program)
{
    const json *env = journal_env(j, row), *newest = env;
    for (int i = j->envs - 1; env && !of_program && i >= 0; i--)
        if (same_text(j->env[i], env, "machine_id") &&
            has_code(j->env[i], row)) {
            newest = j->env[i];
            break;
        }
    for (int i = 0; env && i < j->envs; i++)
        if (same_text(j->env[i], newest, "machine_id") &&
            same_text(j->env[i], newest, "binary"))
            return text_or(json_get(j->env[i], "id"), "");
    return row->env ? row->env : "";
}

static result look_up(const results *r, const struct row *row, bool of_program)
{
    const bool timed = row_has(row->kind, "case");
    return (result){
        .row = row,
        .env = journal_env(&r->journal, row),
        .env_id = env_group(&r->journal, row, of_program),
        .name = row->case_,
        .mechanism = row->mechanism,
        .kernel = row->kernel,
        .family = row->family ? row->family : row->mechanism,
        .level = row->level,
        .pass = row->pass,
        .status = row->status,
        .reason = row->reason ? row->reason : "",
        .threads = isnan(row->threads) ? 1 : (int)row->threads,
        .ok = row_has(row->status, "ok") && (!timed || row->time_ns.median > 0),
        .unreliable = timed && (row->time_ns.unreliable == ROW_YES ||
                                row->roofline.implausible == ROW_YES ||
                                !(row->time_ns.n >= CLEAN_LEAST)),
    };
}

/* The environment whose cases are used: as asked for, or that of the last case;
 * NULL for all. */
static int choose_env(const results *r, const char *kind, const char *asked,
                      const char **out, error *e)
{
    const char *newest = NULL;
    *out = NULL;
    if (asked && !strcmp(asked, "all")) return 0;
    for (int i = 0; i < r->journal.count; i++) {
        const struct row *row = &r->journal.row[i];
        const char *id = row->env ? row->env : "";
        if (row_has(row->kind, kind) &&
            (!asked || !strncmp(id, asked, strlen(asked))))
            newest = env_group(&r->journal, row, asked != NULL);
    }
    *out = newest;
    if (newest || !asked) return 0;
    return error_set(e, "%s: no case of an environment '%s': see the env rows, "
                        "or use --env all", r->journal.path, asked);
}

/* By environment, case, place in the file. */
static int ascending_case(const void *a, const void *b)
{
    const result *x = *(const result *const *)a;
    const result *y = *(const result *const *)b;
    const int env = strcmp(x->env_id, y->env_id);
    const int name = env ? env : strcmp(x->name, y->name);
    return name ? name : (x > y) - (x < y);
}

/* Keeps the last row of each case and environment, in the order of rows. */
static void drop_replaced(results *r)
{
    const int n = r->count;
    const result **sorted = sure(malloc((size_t)(n + 1) * sizeof *sorted));
    bool *old = sure(calloc((size_t)n + 1, sizeof *old));
    for (int i = 0; i < n; i++) sorted[i] = &r->item[i];
    qsort(sorted, (size_t)n, sizeof *sorted, ascending_case);
    for (int i = 1; i < n; i++)
        old[sorted[i - 1] - r->item] =
            !strcmp(sorted[i - 1]->name, sorted[i]->name) &&
            !strcmp(sorted[i - 1]->env_id, sorted[i]->env_id);
    r->count = 0;
    for (int i = 0; i < n; i++)
        if (!old[i]) r->item[r->count++] = r->item[i];
    r->replaced = n - r->count;
    free(sorted);
    free(old);
}

static void list_envs(results *r)
{
    r->env = sure(malloc((size_t)(r->count + 1) * sizeof *r->env));
    for (int i = 0; i < r->count; i++) {
        int k = 0;
        while (k < r->env_count && strcmp(r->env[k], r->item[i].env_id)) k++;
        if (k == r->env_count) r->env[r->env_count++] = r->item[i].env_id;
    }
}

/* Cases whose first process has no case row behind it. */
static int count_unfinished(const journal *j)
{
    int n = 0;
    for (int i = 0; i < j->count; i++) {
        const struct row *row = &j->row[i];
        bool open = row_has(row->kind, "pass") && row->process == 0;
        for (int k = i + 1; k < j->count && open; k++)
            open = !row_has(j->row[k].kind, "case") ||
                   !row_has(j->row[k].case_, row->case_);
        n += open;
    }
    return n;
}

static int collect(results *r, enum results_kind which, const char *env,
                   error *e)
{
    const char *kind = which == RESULTS_TIMED ? "case" : "cache", *chosen;
    if (choose_env(r, kind, env, &chosen, e) < 0) return -1;
    /* an environment that is named is that of its own program */
    const bool of_program = env && strcmp(env, "all");
    r->item = sure(malloc((size_t)(r->journal.count + 1) * sizeof *r->item));
    r->other = sure(malloc((size_t)(r->journal.count + 1) * sizeof *r->other));
    for (int i = 0; i < r->journal.count; i++) {
        if (!row_has(r->journal.row[i].kind, kind)) continue;
        if (check_case(r, i, e) < 0) return -1;
        const result one = look_up(r, &r->journal.row[i], of_program);
        if (chosen && strcmp(one.env_id, chosen)) r->other[r->left_out++] = one;
        else r->item[r->count++] = one;
    }
    r->unfinished = which == RESULTS_TIMED ? count_unfinished(&r->journal) : 0;
    if (r->count == 0 && r->unfinished)
        return error_set(e, "%s: no case is finished yet, %d are under way: the "
                            "same sweep goes on with them",
                         r->journal.path, r->unfinished);
    if (r->count == 0)
        return error_set(e, "%s: no case in it yet: 'attnbench %s' adds them",
                         r->journal.path,
                         which == RESULTS_TIMED ? "sweep" : "cache");
    drop_replaced(r);
    list_envs(r);
    return 0;
}

int results_read(results *r, const char *dir, enum results_kind kind,
                 const char *env, error *e)
{
    char *bytes;
    size_t size;
    *r = (results){ 0 };
    if (journal_read(&r->journal, dir, e) < 0) return -1;
    if (file_read(r->journal.path, READ_LIMIT, &bytes, &size, e) == 0) {
        sha256_hex(bytes, size, r->hash);
        free(bytes);
        if (collect(r, kind, env, e) == 0) return 0;
    }
    results_free(r);
    return -1;
}

void results_free(results *r)
{
    journal_free(&r->journal);
    free(r->item);
    free(r->other);
    free(r->env);
    *r = (results){ 0 };
}

/* ---- what is left out ----------------------------------------------------- */

void results_say_left_out(const results *r, char *out, size_t size)
{
    enum { MOST = 6 };
    const char *kernel[MOST];
    int kernels = 0, n;
    *out = 0;
    if (r->unfinished)
        snprintf(out, size, "%d case%s not finished and left out: the same sweep "
                            "goes on with %s",
                 r->unfinished, r->unfinished == 1 ? " is" : "s are",
                 r->unfinished == 1 ? "it" : "them");
    if (!r->left_out) return;
    const size_t told = strlen(out);
    if (told && told + 2 < size) {
        memcpy(out + told, "; ", 3);
        out += told + 2;
        size -= told + 2;
    }
    for (int i = 0; i < r->left_out && kernels < MOST; i++) {
        int k = 0;
        while (k < kernels && strcmp(kernel[k], r->other[i].kernel)) k++;
        if (k == kernels) kernel[kernels++] = r->other[i].kernel;
    }
    n = snprintf(out, size, "%d case%s of another machine or of other code %s "
                            "left out (of ",
                 r->left_out, r->left_out == 1 ? "" : "s",
                 r->left_out == 1 ? "is" : "are");
    for (int k = 0; k < kernels && n > 0 && (size_t)n < size; k++)
        n += snprintf(out + n, size - (size_t)n, "%s%s", k ? ", " : "",
                      k == MOST - 1 ? "..." : kernel[k]);
    if (n > 0 && (size_t)n < size)
        snprintf(out + n, size - (size_t)n, "); --env all mixes them in");
}

/* ---- where the numbers are from ------------------------------------------ */

const json *results_ceilings(const json *env, const char *member)
{
    return json_get(json_get(env, "roofline"), member);
}

/* A member of an env row, or of the machine's description in it. */
static const json *about(const json *env, const char *object, const char *key)
{
    const json *in[] = { env, json_get(env, "machine") };
    for (int i = 0; i < 2; i++) {
        const json *j = json_get(object ? json_get(in[i], object) : in[i], key);
        if (j) return j;
    }
    return NULL;
}

void results_machine(const json *env, char *out, size_t size)
{
    const double cores =
        json_number(about(env, "topology", "usable_cores"), 0);
    const char *guest = json_text(about(env, NULL, "virtualisation"));
    int n = snprintf(out, size, "%s", text_or(about(env, "cpu", "name"), "?"));
    if (cores > 0 && n > 0 && (size_t)n < size)
        n += snprintf(out + n, size - (size_t)n, ", %.0f core%s", cores,
                      cores == 1 ? "" : "s");
    if (guest && n > 0 && (size_t)n < size)
        snprintf(out + n, size - (size_t)n, ", %s guest", guest);
}

/* Flags that change the code: -O, -m, -f without -fPIC. */
static bool matters(const char *flag, size_t n)
{
    return n > 2 && flag[0] == '-' && strchr("Omf", flag[1]) &&
           strncmp(flag, "-fPIC", n);
}

void results_compiler(const json *env, char *out, size_t size)
{
    const char *flags = text_or(about(env, NULL, "flags"), "");
    snprintf(out, size, "%s", text_or(about(env, NULL, "compiler"), "?"));
    while (*(flags += strspn(flags, " "))) {
        const size_t n = strcspn(flags, " "), at = strlen(out);
        if (matters(flags, n) && at + n + 2 < size)
            snprintf(out + at, size - at, " %.*s", (int)n, flags);
        flags += n;
    }
}

void results_revision(const json *env, char *out, size_t size)
{
    snprintf(out, size, "%s", text_or(about(env, NULL, "git_revision"), "?"));
}
