/* sweep_say.c - what a sweep tells people. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "machine.h"
#include "measure.h"
#include "sweep_run.h"

bool sweep_is_failure(const struct row *row)
{
    return !row_has(row->status, "ok") && !row_has(row->status, "unsupported") &&
           !row_has(row->status, "memory");
}

/* ---- before -------------------------------------------------------------- */

/* Whether the code that measured a row is that of its kernel now. */
static bool is_current(const struct row *row)
{
    char now[SWEEP_ID];
    const int l = row->level ? att_level_parse(row->level) : -1;
    const att_entry *e = row->kernel && l >= 0
                             ? att_find(row->kernel, (enum att_level)l) : NULL;
    if (!e) return false;
    sweep_env_code(e, now);
    return row_has(row->code, now);
}

/* Rows that the run leaves alone. */
static void warn_foreign(const sweep_run *r)
{
    int foreign = 0;
    for (int i = 0; i < r->before.count; i++) {
        const struct row *row = &r->before.row[i];
        const json *env = journal_env(&r->before, row);
        foreign += row_has(row->kind, "case") &&
                   (!row_has(json_text(json_get(env, "machine_id")),
                             r->env.machine) ||
                    !is_current(row));
    }
    if (foreign)
        fprintf(stderr, "%s: %d rows of %s are of other code or another "
                        "machine: they stay, and their cases are measured "
                        "anew\n",
                r->o->name, foreign, r->writer.path);
    if (r->changed)
        fprintf(stderr, "%s: %d case%s measured under other settings (%s): "
                        "they are measured again\n",
                r->o->name, r->changed, r->changed == 1 ? " was" : "s were",
                r->change);
}

void sweep_say_warnings(const sweep_run *r)
{
    machine_tell(json_get(r->env.row, "warnings"));
    warn_foreign(r);
}

/* "0.5 s", or "0.11 to 0.38 s" where the blocks of a suite differ. */
static void tell_seconds(const sweep_run *r, char *out, size_t size)
{
    double least = r->cases.of[0].settings.seconds, most = least;
    for (int i = 1; i < r->cases.count; i++) {
        const double s = r->cases.of[i].settings.seconds;
        if (s < least) least = s;
        if (s > most) most = s;
    }
    if (least == most) snprintf(out, size, "%.3g s", least);
    else snprintf(out, size, "%.2g to %.2g s", least, most);
}

/* Ceilings that this run did not measure itself. */
static void say_age(const json *roofline)
{
    const double hours = json_number(json_get(roofline, "age_s"), 0) / 3600;
    if (hours > 0)
        printf("# ceilings were measured %.2g h ago (--ceilings fresh measures "
               "them anew)\n", hours);
}

void sweep_say_legend(const sweep_run *r)
{
    if (r->kept)
        printf("# %d of %d cases are in %s already\n", r->kept, r->cases.count,
               r->writer.path);
    if (r->resumed)
        printf("# %d process%s of others %s, too\n", r->resumed,
               r->resumed == 1 ? "" : "es", r->resumed == 1 ? "is" : "are");
    if (r->left == 0) return;

    const sweep_settings *s = &r->cases.of[0].settings;
    const char *when =
        json_text(json_get(json_get(r->env.row, "roofline"), "when"));
    char processes[96] = "1 process each", seconds[64];
    if (s->processes > 1)
        snprintf(processes, sizeof processes,
                 "%d processes each, passes: %d, order of kernels rotated",
                 s->processes, s->passes < s->processes ? s->passes : s->processes);
    tell_seconds(r, seconds, sizeof seconds);
    for (int i = 0; i < r->cases.notes; i++) {
        const char *note = r->cases.note[i];
        const int n = (int)strlen(note);
        printf("# %.*s\n", n && note[n - 1] == ',' ? n - 1 : n, note);
    }
    if (r->suite.name)
        printf("# suite %s, version %d: %d cases\n", r->suite.name,
               r->suite.version, r->cases.count);
    printf("# median: of the time of one call, mean over processes; +- half of "
           "its 95 %% interval; samples with steal, involuntary switches or "
           "throttling left out\n");
    printf("# %s; until +- %g %%, or %s of samples (time), or more of them do "
           "not help (noise)\n",
           processes, 100 * s->ci, seconds);
    printf("# GFLOP/s: operations of the definition; %% roof: of what this "
           "machine's ceilings allow, measured at %s\n", when ? when : "?");
    say_age(json_get(r->env.row, "roofline"));
    sweep_table_header(stdout, r->width);
    fflush(stdout);
}

/* ---- after --------------------------------------------------------------- */

/* For the shell: in quotes if need be. */
static void print_word(FILE *f, const char *word)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST"
                               "UVWXYZ0123456789-_./=,:+@%";
    if (*word && word[strspn(word, safe)] == 0) {
        fputs(word, f);
        return;
    }
    fputc('\'', f);
    for (; *word; word++)
        if (*word == '\'') fputs("'\\''", f);
        else fputc(*word, f);
    fputc('\'', f);
}

/* The command as it was typed, options before "sweep" included. */
void sweep_say_resume(sweep_run *r)
{
    char *words;
    size_t size;
    progress_clear(&r->bar);
    fprintf(stderr, "%s: interrupted; what was measured is in %s; go on with:\n"
                    "  ", r->o->name, r->writer.path);
    if (file_read("/proc/self/cmdline", 1 << 20, &words, &size, NULL) < 0)
        return;
    for (size_t at = 0; at < size; at += strlen(words + at) + 1) {
        if (at) fputc(' ', stderr);
        print_word(stderr, words + at);
    }
    fputc('\n', stderr);
    free(words);
}

/* {status: number of cases}, in the order in which they are met. */
json *sweep_statuses(const sweep_run *r)
{
    json *counts = json_object();
    for (int i = 0; i < r->cases.count; i++) {
        const char *status = r->row[i] ? r->row[i]->status : NULL;
        if (!status) continue;
        json_put_number(counts, status,
                        1 + json_number(json_get(counts, status), 0));
    }
    return counts;
}

int sweep_exit_code(const sweep_run *r)
{
    int code = EXIT_OK;
    for (int i = 0; i < r->cases.count; i++) {
        if (!r->row[i] || !sweep_is_failure(r->row[i])) continue;
        if (row_has(r->row[i]->status, "wrong")) return EXIT_GATE;
        code = EXIT_SOME_FAILED;
    }
    return code;
}

void sweep_say_summary(const sweep_run *r, const json *counts, const json *fits,
                       const json *crossings)
{
    const char *comma = "";
    sweep_fits_print(stdout, fits);
    sweep_crossings_print(stdout, crossings);
    sweep_levels_print(stdout, r->row, r->cases.count);
    sweep_inputs_print(stdout, r->row, r->cases.count);
    printf("\n%d cases:", r->cases.count);
    for (const json *x = json_first(counts); x; x = json_next(x)) {
        printf("%s %.0f %s", comma, json_number(x, 0), json_key(x));
        comma = ",";
    }
    if (r->done > 0) {
        const double wall = measure_now() - r->start;
        printf("\nkernels ran in %.0f %% of %.1f s, %.1f s were ceilings of the "
               "machine, %.1f s waiting for a slow core; the rest: checks, inputs, "
               "processes", 100 * r->kernel / wall, wall, r->ceilings, r->waited);
    }
    if (r->again)
        printf("\n%d more process%s ran, of cases that neighbours left few clean "
               "samples", r->again, r->again == 1 ? "" : "es");
    printf("\njournal: %s\n", r->writer.path);
    if (sweep_exit_code(r) == EXIT_SOME_FAILED)
        printf("failed cases stay as they are; --retry measures them again\n");
    fflush(stdout);
}
