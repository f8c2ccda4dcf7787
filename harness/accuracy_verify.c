/* accuracy_verify.c - attnbench verify --accuracy. */
#include <stdlib.h>
#include <string.h>

#include "accuracy_row.h"
#include "journal.h"
#include "progress.h"
#include "stop.h"

enum { DTYPES = 3, ENTRIES = 64, PASSES = 2 };

typedef struct run {
    const accuracy_options *o;
    sweep_env env;
    journal before;
    journal_writer writer;
    bool open;      /* there is a journal                                     */
    bool env_written;
    int rows, kept, refused, died, wrong;
    int width;      /* of the column of kernels                               */
    progress bar;
    error error;
    int status;     /* exit code                                              */
    char left[8][600]; /* mechanisms whose long rows are not run, by reason   */
    const char *why[8];
} run;

static int fail(run *r, int status)
{
    r->status = status;
    return -1;
}

/* ---- one mechanism in one storage ---------------------------------------- */

typedef struct group {
    const att_mechanism *mechanism;
    int dtype;
    const att_entry *entry[ENTRIES];
    char levels[ENTRIES][32]; /* those of its kernel that are selected        */
    int count;
} group;

static void add_levels(group *g)
{
    for (int i = 0; i < g->count; i++) {
        char *out = g->levels[i];
        *out = 0;
        for (int k = 0; k < g->count; k++) {
            const size_t n = strlen(out);
            if (!strcmp(g->entry[k]->kernel->name, g->entry[i]->kernel->name))
                snprintf(out + n, sizeof g->levels[i] - n, "%s%s", n ? "," : "",
                         att_level_name(g->entry[k]->level));
        }
    }
}

static void make_group(const run *r, const att_mechanism *m, int dtype, group *g)
{
    const att_entry *entry;
    const size_t n = att_entries(&entry);
    *g = (group){ .mechanism = m, .dtype = dtype };
    for (size_t i = 0; i < n && g->count < ENTRIES; i++)
        if (entry[i].mechanism == m && r->o->selected(&entry[i], r->o->arg))
            g->entry[g->count++] = &entry[i];
    add_levels(g);
}

/* Row p of the group, if there is such a row: subject p. */
static bool subject_of(const run *r, const group *g, int p, accuracy_subject *s)
{
    const att_entry *entry = g->entry[p / PASSES];
    const enum att_pass pass = p % PASSES ? ATT_BACKWARD : ATT_FORWARD;
    *s = (accuracy_subject){ .entry = entry, .dtype = g->dtype, .pass = pass,
                             .threads = r->o->threads, .many = r->o->many,
                             .levels = g->levels[p / PASSES] };
    return pass == ATT_FORWARD ||
           (entry->kernel->backward && entry->mechanism->backward);
}

/* A row of before that is the same experiment and came to its end. */
static const json *find_row(const run *r, const accuracy_subject *s)
{
    char id[ACCURACY_ID];
    accuracy_row_id(s, &r->env, id);
    for (int i = r->before.count - 1; i >= 0; i--) {
        const json *row = r->before.rows[i];
        const char *other = json_text(json_get(row, "id"));
        const char *status = json_text(json_get(row, "status"));
        if (other && status && !strcmp(other, id) && strcmp(status, "interrupted"))
            return row;
    }
    return NULL;
}

static bool is_kept(const run *r, const group *g)
{
    accuracy_subject s;
    for (int p = 0; p < g->count * PASSES; p++)
        if (subject_of(r, g, p, &s) && !find_row(r, &s)) return false;
    return true;
}

static void count_row(run *r, const json *row)
{
    const char *status = json_text(json_get(row, "status"));
    r->rows++;
    r->wrong += !strcmp(status, "wrong");
    r->died += strcmp(status, "ok") && strcmp(status, "unsupported") &&
               strcmp(status, "memory") && strcmp(status, "wrong");
    progress_clear(&r->bar);
    if (!strcmp(status, "unsupported")) r->refused++;
    else accuracy_row_line(stdout, r->width, row);
}

static int append(run *r, const json *row)
{
    if (!r->open) return 0;
    if (!r->env_written && journal_append(&r->writer, r->env.row, &r->error) < 0)
        return fail(r, EXIT_MISSING);
    r->env_written = true;
    return journal_append(&r->writer, row, &r->error) < 0 ? fail(r, EXIT_MISSING)
                                                          : 0;
}

/* Mechanisms that share a reason to leave inputs out. */
static void note_left_out(run *r, const accuracy_input *in)
{
    const char *name = in->values.mechanism->name;
    int i = 0;
    while (i < 7 && r->why[i] && strcmp(r->why[i], in->left_out)) i++;
    r->why[i] = in->left_out;
    const size_t n = strlen(r->left[i]);
    snprintf(r->left[i] + n, sizeof r->left[i] - n, "%s%s", n ? ", " : "", name);
}

/* All inputs, one child after the other; result[i * count + k] is of entry k. */
static int measure(run *r, const group *g, const accuracy_inputs *list,
                   accuracy_result *result)
{
    error e;
    const double before = r->bar.done;
    for (int i = 0; i < list->count; i++) {
        const accuracy_input *in = &list->item[i];
        accuracy_result *of = &result[i * g->count];
        char text[160];
        snprintf(text, sizeof text, "%s, %s", g->mechanism->name, in->name);
        progress_show(&r->bar, before + (double)i / list->count, text);
        if (in->left_out && g->dtype == ATT_F32) note_left_out(r, in);
        if (in->left_out) continue;
        if (!accuracy_try(in, g->entry, g->count, r->o->threads, r->o->timeout, of,
                          &e))
            continue;
        if (stop_signal) return fail(r, EXIT_INTERRUPTED);
        for (int k = 0; k < g->count; k++) {
            snprintf(of[k].status, sizeof of[k].status, "reference");
            snprintf(of[k].reason, sizeof of[k].reason, "%.300s", e.text);
        }
    }
    return 0;
}

static int write_rows(run *r, const group *g, const accuracy_inputs *list,
                      const accuracy_result *result)
{
    const accuracy_result **of = calloc((size_t)list->count + 1, sizeof *of);
    accuracy_subject s;
    int rc = of ? 0 : error_set(&r->error, "out of memory for rows");
    for (int p = 0; !rc && p < g->count * PASSES; p++) {
        if (!subject_of(r, g, p, &s)) continue;
        for (int i = 0; i < list->count; i++)
            of[i] = &result[i * g->count + p / PASSES];
        json *row = accuracy_row(&s, &r->env, list, of);
        rc = append(r, row);
        if (!rc) count_row(r, row);
        json_free(row);
    }
    free(of);
    return rc;
}

static int measure_group(run *r, const group *g)
{
    accuracy_inputs list;
    if (accuracy_inputs_make(&list, g->mechanism, g->dtype, r->o->many,
                             &r->error))
        return fail(r, EXIT_MISSING);
    accuracy_result *result =
        calloc((size_t)list.count * (size_t)g->count + 1, sizeof *result);
    int rc = result ? measure(r, g, &list, result)
                    : error_set(&r->error, "out of memory for results");
    if (!rc) rc = write_rows(r, g, &list, result);
    free(result);
    accuracy_inputs_free(&list);
    return rc;
}

static void keep_group(run *r, const group *g)
{
    accuracy_subject s;
    for (int p = 0; p < g->count * PASSES; p++)
        if (subject_of(r, g, p, &s)) {
            count_row(r, find_row(r, &s));
            r->kept++;
        }
}

/* ---- all of them --------------------------------------------------------- */

static int run_groups(run *r)
{
    const att_mechanism *const *mechanism;
    const int n = (int)att_mechanisms(&mechanism);
    group *g = malloc(sizeof *g);
    int rc = g ? 0 : error_set(&r->error, "out of memory");
    progress_begin(&r->bar, (double)n * DTYPES);
    accuracy_row_header(stdout, r->width);
    for (int i = 0; !rc && i < n * DTYPES; i++) {
        r->bar.done = i;
        make_group(r, mechanism[i / DTYPES], i % DTYPES, g);
        if (!g->count) continue;
        if (is_kept(r, g)) keep_group(r, g);
        else rc = measure_group(r, g);
    }
    progress_clear(&r->bar);
    free(g);
    return rc;
}

static void say(const run *r)
{
    accuracy_row_legend(stdout);
    for (int i = 0; i < 8 && r->why[i]; i++)
        printf("long rows are not run of %s: %s\n", r->left[i], r->why[i]);
    printf("%d rows", r->rows);
    if (r->refused)
        printf(", of which %d not shown: storage or pass that the kernel does not "
               "have", r->refused);
    if (r->kept) printf("; %d were known", r->kept);
    if (r->open) printf("; journal: %s", r->writer.path);
    printf("\n");
    fflush(stdout);
}

static int width_of(const accuracy_options *o)
{
    const att_entry *entry;
    const size_t n = att_entries(&entry);
    size_t width = 6;
    for (size_t i = 0; i < n; i++)
        if (o->selected(&entry[i], o->arg) &&
            strlen(entry[i].kernel->name) > width)
            width = strlen(entry[i].kernel->name);
    return (int)width;
}

static int open_journal(run *r)
{
    if (sweep_env_identify(&r->env, &stop_signal, &r->error) < 0)
        return fail(r, stop_signal ? EXIT_INTERRUPTED : EXIT_MISSING);
    if (!r->o->out) return 0;
    if (journal_open(&r->writer, r->o->out, &r->before, &r->error) < 0)
        return fail(r, EXIT_MISSING);
    r->open = true;
    if (sweep_env_complete(&r->env, &r->before, NULL, 0, 0, NULL, &stop_signal,
                           &r->error) < 0)
        return fail(r, stop_signal ? EXIT_INTERRUPTED : EXIT_MISSING);
    return 0;
}

int accuracy_verify(const accuracy_options *o)
{
    run r = { .o = o, .width = width_of(o) };
    stop_catch();
    if (!open_journal(&r) && !run_groups(&r)) {
        say(&r);
        r.status = r.wrong ? EXIT_GATE : r.died ? EXIT_SOME_FAILED : EXIT_OK;
        if (!r.rows) {
            error_set(&r.error, "%s", att_level_none() ? att_level_none()
                                      : "no kernel is left of what was asked for");
            r.status = EXIT_MISSING;
        }
    } else if (!r.status) r.status = EXIT_MISSING;
    if (r.status == EXIT_INTERRUPTED)
        fprintf(stderr, "%s: interrupted%s\n", o->name,
                o->out ? "; the same command goes on" : "");
    else if (*r.error.text) fprintf(stderr, "%s: %s\n", o->name, r.error.text);
    if (r.open) {
        journal_free(&r.before);
        journal_close(&r.writer);
    }
    sweep_env_free(&r.env);
    return r.status;
}
