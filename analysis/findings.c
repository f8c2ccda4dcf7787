/* findings.c - attnbench findings: runs what a ledger asks for, and tells. */
#define _GNU_SOURCE /* asprintf */
#include "findings.h"
#include "ledger_rule.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../harness/commands.h"
#include "../harness/file.h"
#include "../harness/machine.h"
#include "../harness/progress.h"
#include "../harness/spelling.h"
#include "../harness/stop.h"
#include "../plots/gnuplot.h"
#include "mapfile.h"
#include "trainrecord.h"

typedef struct request {
    const char *out, *claims;
    const char *only[64];
    int count;
    bool list, retrain;
    error failure;
} request;

/* ---- which ------------------------------------------------------------------ */

/* A run and those whose output it reads. */
static void want_run(ledger *l, ledger_run *r)
{
    if (!r || r->wanted) return;
    r->wanted = true;
    for (int i = 0; i < r->words; i++)
        if (r->word[i][0] == '@')
            want_run(l, ledger_find_run(l, r->word[i] + 1));
}

static void want_runs(ledger *l, const json *source)
{
    const json *names = json_get(source, "run");
    const json *x = json_is_array(names) ? json_first(names) : names;
    for (; x; x = json_is_array(names) ? json_next(x) : NULL) {
        if (json_text(x)) want_run(l, ledger_find_run(l, json_text(x)));
    }
}

static int choose(ledger *l, const request *r, error *e)
{
    enum { NEAR = 256 }; /* among so many a spelling is looked for           */
    const char *ids[NEAR];
    int n = 0;
    for (int i = 0; i < l->claims && n < NEAR; i++) ids[n++] = l->claim[i].id;
    for (int k = 0; k < r->count; k++) {
        int i = 0;
        while (i < l->claims && strcmp(l->claim[i].id, r->only[k])) i++;
        if (i < l->claims) l->claim[i].wanted = true;
        else {
            const char *near = error_nearest(r->only[k], ids, n);
            return error_set(e, "no claim '%s'%s%s%s", r->only[k],
                             near ? "; did you mean '" : "", near ? near : "",
                             near ? "'?" : "; --list shows them");
        }
    }
    for (int i = 0; i < l->claims; i++) {
        ledger_claim *c = &l->claim[i];
        if (r->count == 0) c->wanted = true;
        for (int q = 0; c->wanted && q < c->quantities; q++)
            want_runs(l, c->quantity[q].source);
        for (const json *x = c->wanted ? json_first(c->pictures) : NULL; x;
             x = json_next(x))
            want_runs(l, x);
    }
    return 0;
}

/* ---- running ------------------------------------------------------------------ */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What a run writes, and what @NAME stands for: a folder, or a model file. */
static char *output_of(const ledger_run *r, const char *dir)
{
    if (r->ships) return strdup(r->ships);
    char *path = path_join(dir, r->name), *file;
    if (strcmp(r->word[0], "train")) return path;
    if (asprintf(&file, "%s.safetensors", path) < 0) abort();
    free(path);
    return file;
}

/* In the child: what the run prints goes into its log. */
static void become(const ledger *l, const ledger_run *r, const char *dir,
                   const char *log)
{
    char *argv[LEDGER_WORDS + 4];
    int n = 0;
    const int out = open(log, O_CREAT | O_TRUNC | O_WRONLY, 0666);
    if (out < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) _exit(127);
    argv[n++] = "attnbench";
    for (int i = 0; i < r->words; i++)
        argv[n++] = r->word[i][0] == '@'
                        ? output_of(ledger_find_run(l, r->word[i] + 1), dir)
                        : (char *)r->word[i];
    argv[n++] = "--out";
    argv[n++] = output_of(r, dir);
    argv[n] = NULL;
    execv("/proc/self/exe", argv);
    _exit(127);
}

/* Last line of a log, for the reason. */
static void last_line(const char *log, char *out, size_t size)
{
    char *text;
    size_t n;
    error e;
    *out = 0;
    if (file_read(log, 1 << 24, &text, &n, &e) < 0) return;
    while (n && text[n - 1] == '\n') text[--n] = 0;
    const char *line = strrchr(text, '\n');
    snprintf(out, size, "%.400s", line ? line + 1 : text);
    free(text);
}

/* Waits, and shows how long it has taken. */
static int watch(pid_t child, progress *bar, double before, const ledger_run *r)
{
    int status;
    const double start = now();
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (stop_signal) kill(child, SIGTERM);
        const double took = now() - start;
        progress_show(bar, before + (took < r->seconds ? took : r->seconds),
                      r->brief ? r->brief : r->name);
        usleep(100000);
    }
    return status;
}

static bool is_there(const char *path)
{
    struct stat there;
    return stat(path, &there) == 0;
}

/* A training whose record is here need not be run again; @NAME of one whose
 * model is not here cannot be looked at. */
static bool can_run(const ledger *l, ledger_run *r, bool retrain)
{
    const char *lacks = retrain ? NULL : r->ships;
    for (int i = 0; i < r->words && !lacks; i++) {
        const ledger_run *of = r->word[i][0] == '@'
                                   ? ledger_find_run(l, r->word[i] + 1)
                                   : NULL;
        if (of && of->ships && !is_there(of->ships)) lacks = of->ships;
    }
    if (!lacks) return true;
    snprintf(r->reason, sizeof r->reason,
             "needs %s, which is not here: run from the project's folder, or "
             "make it with --retrain", lacks);
    return false;
}

/* Whether a list of words is the run's command, its --out aside. */
static bool same_command(const json *words, const ledger_run *r)
{
    int i = 0;
    for (const json *w = json_first(words); w; w = json_next(w)) {
        const char *text = json_text(w);
        if (text && !strcmp(text, "--out")) {
            w = json_next(w);
            if (!w) break;
            continue;
        }
        if (i == r->words || !text || strcmp(text, r->word[i++])) return false;
    }
    return i == r->words;
}

/* A training whose record is there is done, if the record is of this command. */
static bool has_record(ledger_run *r)
{
    char *path = train_record_path(r->ships);
    error e = { "" };
    json *record = is_there(path) ? json_read_file(path, &e) : NULL;
    if (*e.text) snprintf(r->reason, sizeof r->reason, "%.500s", e.text);
    else if (record && !same_command(json_get(record, "command"), r))
        snprintf(r->reason, sizeof r->reason,
                 "%.200s is the record of another command than the ledger's: "
                 "--retrain makes it anew", path);
    else r->done = record != NULL;
    json_free(record);
    free(path);
    return r->done || *r->reason;
}

/* The folder of a run holds what one command wrote.  That command stands beside
 * it: rows of another one would be taken for this one's. */
static bool own_folder(const ledger *l, ledger_run *r, const char *folder)
{
    char *path;
    error e;
    json *words = json_array();
    if (asprintf(&path, "%s.command", folder) < 0) abort();
    for (int i = 0; i < r->words; i++) json_push_text(words, r->word[i]);
    json *before = is_there(path) ? json_read_file(path, &e) : NULL;
    const bool other = is_there(folder) && (!before || !same_command(before, r));
    if (other)
        snprintf(r->reason, sizeof r->reason,
                 "%.300s holds what another command of %.100s wrote: remove it, "
                 "or choose another --out", folder, l->path);
    else if (json_write_file(path, words, &e) < 0)
        snprintf(r->reason, sizeof r->reason, "%.500s", e.text);
    json_free(before);
    json_free(words);
    free(path);
    return !*r->reason;
}

static void run_one(const ledger *l, ledger_run *r, const char *dir,
                    progress *bar, double before, bool retrain)
{
    char last[420];
    if (r->ships && !retrain && has_record(r)) return;
    if (!can_run(l, r, retrain)) return;
    char *folder = path_join(dir, r->name), *log = NULL;
    if (!own_folder(l, r, folder)) {
        free(folder);
        return;
    }
    if (asprintf(&log, "%s.log", folder) < 0) abort();
    const pid_t child = fork();
    if (child == 0) become(l, r, dir, log);
    const int status = child < 0 ? -1 : watch(child, bar, before, r);
    last_line(log, last, sizeof last);
    /* Some cases of a sweep may be unsupported; what is missing is told by the
     * quantities. */
    r->done = status >= 0 && WIFEXITED(status) &&
              (WEXITSTATUS(status) == EXIT_OK ||
               WEXITSTATUS(status) == EXIT_SOME_FAILED);
    if (!r->done)
        snprintf(r->reason, sizeof r->reason, "attnbench %s failed: %s",
                 r->word[0], last);
    free(folder);
    free(log);
}

/* All runs that its quantities need were tried. */
static bool is_ready(const ledger *l, const ledger_claim *c)
{
    for (int q = 0; q < c->quantities; q++) {
        const json *names = json_get(c->quantity[q].source, "run");
        const json *x = json_is_array(names) ? json_first(names) : names;
        for (; x; x = json_is_array(names) ? json_next(x) : NULL)
            if (json_text(x) && !ledger_find_run(l, json_text(x))->tried)
                return false;
    }
    return true;
}

/* Verdicts of those claims that can be decided now, each a line. */
static void decide_ready(ledger *l, const char *dir, progress *bar)
{
    for (int i = 0; i < l->claims; i++) {
        ledger_claim *c = &l->claim[i];
        if (!c->wanted || c->measured || !is_ready(l, c)) continue;
        ledger_measure(l, c, dir);
        const ledger_rule *r = ledger_deciding(c);
        progress_clear(bar);
        printf("%-15s %-18s %s%s%s%s\n", ledger_verdicts[c->verdict], c->id,
               c->title, r ? "  [" : "", r ? r->effect : "", r ? "]" : "");
        fflush(stdout);
    }
}

/* What is ahead, where no bar shows it. */
static void tell_ahead(const ledger *l, bool retrain, const progress *bar)
{
    int runs = 0;
    for (int i = 0; i < l->runs; i++)
        runs += l->run[i].wanted && (retrain || !l->run[i].ships);
    if (!bar->visible && bar->total >= 60)
        fprintf(stderr, "%d runs, about %.0f minutes; a line as each claim is "
                        "decided\n", runs, bar->total / 60);
}

static int run_all(ledger *l, const char *dir, bool retrain, error *e)
{
    progress bar;
    double total = 0, done = 0;
    for (int i = 0; i < l->runs; i++)
        if (l->run[i].wanted && (retrain || !l->run[i].ships))
            total += l->run[i].seconds;
    if (folder_make(dir, e) < 0) return -1;
    progress_begin(&bar, total);
    tell_ahead(l, retrain, &bar);
    for (int i = 0; i < l->runs && !stop_signal; i++) {
        ledger_run *r = &l->run[i];
        if (!r->wanted) continue;
        run_one(l, r, dir, &bar, done, retrain);
        if (stop_signal) break;
        r->tried = true;
        if (!r->done) {
            progress_clear(&bar);
            fprintf(stderr, "! %s: %s\n", r->name, r->reason);
        }
        if (retrain || !r->ships) done += r->seconds;
        decide_ready(l, dir, &bar);
        progress_stage(&bar, stderr, done, r->brief ? r->brief : r->name);
    }
    progress_clear(&bar);
    if (!stop_signal) decide_ready(l, dir, &bar);
    return 0;
}

/* ---- telling ------------------------------------------------------------------ */

/* Runs of another build stay in a folder of their own. */
static void describe(findings_about *a)
{
    json *m = machine_describe();
    const json *cpu = json_get(m, "cpu"), *topology = json_get(m, "topology");
    const char *name = json_text(json_get(cpu, "name"));
    const char *guest = json_text(json_get(m, "virtualisation"));
    const time_t t = time(NULL);
    struct tm utc;
    struct stat self = { 0 };
    snprintf(a->machine, sizeof a->machine, "%s, %g threads%s%s",
             name ? name : "unknown processor",
             json_number(json_get(topology, "usable_threads"), 0),
             guest ? ", " : "", guest ? guest : "");
    snprintf(a->build, sizeof a->build, "attnbench %s, revision %s",
             ATTNBENCH_VERSION, mapfile_revision());
    gmtime_r(&t, &utc);
    strftime(a->date, sizeof a->date, "%Y-%m-%d", &utc);
    stat("/proc/self/exe", &self);
    snprintf(a->runs, sizeof a->runs, "runs-%08lx",
             (unsigned long)self.st_mtim.tv_sec & 0xffffffff);
    a->warnings = json_copy(json_get(m, "warnings"));
    a->load[0] = machine_load();
    json_free(m);
}

static int tell(ledger *l, const findings_about *a, error *e)
{
    error quiet;
    if (gnuplot_find(&quiet) == 0) {
        if (findings_figures(l, a, e) < 0) return -1;
    } else fprintf(stderr, "! no figures: %s\n", quiet.text);
    return findings_report(l, a, e);
}

static int findings(request *r, error *e)
{
    ledger l;
    findings_about about = { .dir = r->out };
    int code = EXIT_OK;
    if (ledger_read(&l, r->claims, e) < 0) return EXIT_USAGE;
    if (choose(&l, r, e) < 0) code = EXIT_USAGE;
    else if (r->list)
        for (int i = 0; i < l.claims; i++)
            printf("%-18s %s\n", l.claim[i].id, l.claim[i].title);
    else {
        const double start = now();
        describe(&about);
        machine_tell(about.warnings);
        char *runs = path_join(r->out, about.runs);
        if (run_all(&l, runs, r->retrain, e) < 0) code = EXIT_MISSING;
        about.seconds = now() - start;
        about.load[1] = machine_load();
        if (stop_signal) {
            error_set(e, "interrupted: the same command goes on");
            code = EXIT_INTERRUPTED;
        } else if (code == EXIT_OK) {
            if (tell(&l, &about, e) < 0) code = EXIT_MISSING;
        }
        for (int i = 0; i < l.claims && code == EXIT_OK; i++)
            if (l.claim[i].wanted &&
                l.claim[i].verdict == LEDGER_NOT_MEASURED) {
                error_set(e, "some claims could not be measured: see %s/"
                             "findings.md", r->out);
                code = EXIT_SOME_FAILED;
            }
        free(runs);
        json_free(about.warnings);
    }
    ledger_free(&l);
    return code;
}

/* ---- command -------------------------------------------------------------------- */

enum { KEY_OUT = 0x1000, KEY_CLAIMS, KEY_ONLY, KEY_LIST, KEY_RETRAIN };

static const struct argp_option options[] = {
    { "out", KEY_OUT, "DIR", 0, "folder (default results/findings)", 0 },
    { "claims", KEY_CLAIMS, "FILE", 0,
      "another ledger than results/claims.json", 0 },
    { "only", KEY_ONLY, "ID,...", 0, "only these claims", 0 },
    { "retrain", KEY_RETRAIN, NULL, 0,
      "make the trained models anew instead of taking those that ship", 0 },
    { "list", KEY_LIST, NULL, 0, "the claims, and nothing is run", 0 },
    { 0 }
};

static void add_only(request *r, char *text, struct argp_state *state)
{
    for (char *at = strtok(text, ","); at; at = strtok(NULL, ",")) {
        if (r->count == 64) argp_error(state, "--only: more than 64 claims");
        r->only[r->count++] = at;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    request *r = state->input;
    switch (key) {
    case KEY_OUT: r->out = arg; return 0;
    case KEY_CLAIMS: r->claims = arg; return 0;
    case KEY_ONLY: add_only(r, arg, state); return 0;
    case KEY_LIST: r->list = true; return 0;
    case KEY_RETRAIN: r->retrain = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const char doc[] =
    "Holds claims of papers against measurements on this machine.  Each claim "
    "of the ledger names runs of this program, the quantities to take from "
    "them, and the rules that decide: reproduced, differs (and how), not "
    "reproduced.  Writes findings.md, findings.tex, findings.json and "
    "figures.\v"
    "Examples:\n"
    "  attnbench findings\n"
    "  attnbench findings --only rank,focus --out /tmp/f\n"
    "Trained models and records of trainings come from results/models; "
    "--retrain makes them.";

int command_findings(int argc, char **argv)
{
    static const struct argp argp = { options, parse, NULL, doc,
                                      NULL,    NULL,  NULL };
    request r = { .out = "results/findings" };
    error e = { "" };
    argp_err_exit_status = EXIT_USAGE;
    int code = EXIT_USAGE;
    if (spelling_check(options, argc, argv, &e) == 0) {
        argp_parse(&argp, argc, argv, 0, NULL, &r);
        stop_catch();
        code = findings(&r, &e);
    }
    if (code != EXIT_OK) fprintf(stderr, "%s: %s\n", argv[0], e.text);
    return code;
}
