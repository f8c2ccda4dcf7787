/* findings_report.c - a ledger's verdicts as Markdown, LaTeX and JSON. */
#define _GNU_SOURCE /* open_memstream */
#include "findings.h"
#include "ledger_rule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../harness/cite.h"
#include "../harness/commands.h"
#include "../harness/file.h"

/* ---- numbers ------------------------------------------------------------------ */

/* "0.2 (0.1 to 0.3), 0.3"; no unit. */
static void put_numbers(FILE *f, const ledger_quantity *q)
{
    char text[80];
    for (int i = 0; i < q->count; i++) {
        ledger_number_text(&q->of[i], text, sizeof text);
        fprintf(f, "%s%s", i ? ", " : "", text);
    }
}

/* What stands behind a claim's title: its verdict, how it differs and what is
 * unclear; or (effects) the numbers of these rules, or else of the one that the
 * verdict rests on.  The caller frees. */
static char *verdict_text(const ledger_claim *c, bool effects)
{
    char *text;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) abort();
    if (!effects) fputs(ledger_verdicts[c->verdict], f);
    const char *between = effects ? "" : ": ";
    for (int i = 0; i < c->rules; i++) {
        const ledger_rule *r = &c->rule[i];
        const bool open = r->outcome == LEDGER_OPEN;
        if (r->outcome != LEDGER_FAILS && !open) continue;
        fputs(between, f);
        if (effects) fputs(r->effect, f);
        else
            fprintf(f, "%s%s", open ? "intervals too wide to tell: " : "",
                    !open ? r->otherwise : r->text ? r->text : r->condition);
        between = "; ";
    }
    const ledger_rule *r = ledger_deciding(c);
    if (effects && !*between && r) fputs(r->effect, f);
    fclose(f);
    return text;
}

static void paper_text(const ledger_claim *c, char *out, size_t size)
{
    size_t length;
    char title[200], year[16];
    const char *entry = cite_entry(c->paper, &length);
    if (!entry) {
        snprintf(out, size, "%s", c->paper);
        return;
    }
    cite_field(entry, length, "title", title, sizeof title);
    cite_field(entry, length, "year", year, sizeof year);
    snprintf(out, size, "%s (%s)", title, year);
}

/* ---- Markdown ------------------------------------------------------------------- */

static void md_cell(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') fputc('\\', f);
        fputc(*text == '\n' ? ' ' : *text, f);
    }
}

/* Lists for figures and constants repeat what is told elsewhere. */
static void md_quantity(FILE *f, const ledger_quantity *q)
{
    if (json_get(q->source, "list") || json_get(q->source, "value")) return;
    fputs("| ", f);
    md_cell(f, q->text);
    fputs(" | ", f);
    if (q->count) {
        put_numbers(f, q);
        fprintf(f, " %s", q->unit ? q->unit : "");
    } else {
        fputs("not known: ", f);
        md_cell(f, q->reason);
    }
    fputs(" | ", f);
    if (*q->note) fprintf(f, "%s; ", q->note);
    if (q->runs > 1) fprintf(f, "mean of %d seeds; ", q->runs);
    md_cell(f, q->how ? q->how : "");
    fputs(" |\n", f);
}

static void md_rules(FILE *f, const ledger_claim *c)
{
    for (int i = 0; i < c->rules; i++) {
        const ledger_rule *r = &c->rule[i];
        static const char *const words[] = { "holds", "fails", "unclear",
                                             "not decided" };
        fprintf(f, "* %s: %s (`%s`", words[r->outcome],
                r->text ? r->text : r->condition, r->condition);
        if (*r->effect) fprintf(f, ": %s", r->effect);
        if (r->at_least) fprintf(f, ", for at least %d", r->at_least);
        fprintf(f, "%s)\n", r->key ? "; the claim rests on it" : "");
    }
}

/* A command line as it can be given again: @NAME is the model of a training. */
static void md_run(FILE *f, const ledger *l, const ledger_run *r)
{
    const bool trains = !strcmp(r->word[0], "train");
    fputs("    attnbench", f);
    for (int w = 0; w < r->words; w++) {
        const ledger_run *of = r->word[w][0] == '@'
                                   ? ledger_find_run(l, r->word[w] + 1)
                                   : NULL;
        if (of && of->ships) fprintf(f, " %s", of->ships);
        else if (of) fprintf(f, " %s.safetensors", of->name);
        else
            fprintf(f, strpbrk(r->word[w], " *?") ? " '%s'" : " %s",
                    r->word[w]);
    }
    if (trains && r->ships) fprintf(f, " --out %s", r->ships);
    else if (trains) fprintf(f, " --out %s.safetensors", r->name);
    fputc('\n', f);
}

static void use_run(const ledger *l, const ledger_run *r, bool *used)
{
    if (!r) return;
    used[r - l->run] = true;
    for (int w = 0; w < r->words; w++)
        if (r->word[w][0] == '@')
            use_run(l, ledger_find_run(l, r->word[w] + 1), used);
}

static void md_runs(FILE *f, const ledger *l, const ledger_claim *c)
{
    bool *used = calloc((size_t)l->runs + 1, sizeof *used);
    if (!used) abort();
    for (int q = 0; q < c->quantities; q++) {
        const json *names = json_get(c->quantity[q].source, "run");
        const json *x = json_is_array(names) ? json_first(names) : names;
        for (; x; x = json_is_array(names) ? json_next(x) : NULL)
            if (json_text(x)) use_run(l, ledger_find_run(l, json_text(x)), used);
    }
    fputs("\nObtained with\n\n", f);
    for (int i = 0; i < l->runs; i++)
        if (used[i]) md_run(f, l, &l->run[i]);
    free(used);
}

static char *picture_path(const ledger_claim *c, int number,
                          const findings_about *a)
{
    char name[LEDGER_NAME + 32];
    snprintf(name, sizeof name, "figures/%s-%d.png", c->id, number);
    return path_join(a->dir, name);
}

/* Those that are there: a run that failed has left none. */
static void md_pictures(FILE *f, const ledger_claim *c, const findings_about *a)
{
    int number = 0;
    for (const json *x = json_first(c->pictures); x; x = json_next(x)) {
        char *path = picture_path(c, ++number, a);
        const char *text = json_text(json_get(x, "text"));
        if (access(path, F_OK) == 0)
            fprintf(f, "\n![%s](figures/%s-%d.png)\n\n*%s*\n", text, c->id,
                    number, text);
        free(path);
    }
}

static void md_claim(FILE *f, const ledger *l, const findings_about *a,
                     const ledger_claim *c, int number)
{
    char paper[256], *verdict = verdict_text(c, false);
    char *effects = verdict_text(c, true);
    paper_text(c, paper, sizeof paper);
    fprintf(f, "\n## %d. %s\n\n%s, %s.  It says: %s\n\n", number, c->title,
            paper, c->section, c->says);
    fprintf(f, "**%c%s.**%s%s\n\nExperiment: %s\n", verdict[0] - 'a' + 'A',
            verdict + 1, *effects ? "  Measured: " : "", effects, c->experiment);
    free(verdict);
    free(effects);
    if (c->caution) fprintf(f, "\nCaution: %s\n", c->caution);
    fputs("\n| quantity | measured | how |\n|---|---|---|\n", f);
    for (int i = 0; i < c->quantities; i++) md_quantity(f, &c->quantity[i]);
    fputc('\n', f);
    md_rules(f, c);
    if (findings_has_figure(c))
        fprintf(f, "\n![%s](figures/%s.svg)\n", c->title, c->id);
    md_pictures(f, c, a);
    md_runs(f, l, c);
}

/* What kept the machine from being quiet. */
static void md_machine(FILE *f, const findings_about *a)
{
    fprintf(f, "The machine's load was %.2f before the runs and %.2f after them, "
               "which themselves make some.\n", a->load[0], a->load[1]);
    for (const json *w = json_first(a->warnings); w; w = json_next(w)) {
        const char *text = json_text(json_get(w, "text"));
        if (text) fprintf(f, "* %s\n", text);
    }
}

static void md(FILE *f, const ledger *l, const findings_about *a)
{
    int number = 0;
    fprintf(f, "# Findings\n\nClaims of papers against measurements: %s, on %s,"
               " %s.  All runs took %.0f s.\n",
            a->build, a->machine, a->date, a->seconds);
    md_machine(f, a);
    fprintf(f, "\nBehind a number: its 95 %% "
               "interval where there is one; of a ratio the widest that those "
               "of its two sides allow; over seeds Student's t.  A rule holds "
               "if it does over the whole of the intervals, fails if it does so "
               "nowhere, and is unclear otherwise; so it is of a sampled number "
               "without an interval.  A claim is "
               "*reproduced* if all its rules hold, *differs* if one fails "
               "that it does not rest on, *not reproduced* if one fails that "
               "it rests on, *unclear* if the intervals are too wide to tell.  "
               "The ledger is %s; the runs are in %s.\n\n"
               "| | claim | verdict | what it rests on |\n|---|---|---|---|\n",
            l->path, a->runs);
    for (int i = 0; i < l->claims; i++) {
        const ledger_claim *c = &l->claim[i];
        const ledger_rule *r = ledger_deciding(c);
        if (!c->wanted) continue;
        fprintf(f, "| %d | %s | %s | ", ++number, c->title,
                ledger_verdicts[c->verdict]);
        if (r) {
            md_cell(f, r->text ? r->text : r->condition);
            fputs(": ", f);
            md_cell(f, r->effect);
        }
        fputs(" |\n", f);
    }
    number = 0;
    for (int i = 0; i < l->claims; i++)
        if (l->claim[i].wanted) md_claim(f, l, a, &l->claim[i], ++number);
}

/* ---- LaTeX ---------------------------------------------------------------------- */

static void tex_text(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (strchr("_%&#$", *text)) fprintf(f, "\\%c", *text);
        else if (*text == '^') fputs("\\textasciicircum{}", f);
        else if (*text == '~') fputs("\\textasciitilde{}", f);
        else if (*text == '<') fputs("\\textless{}", f);
        else if (*text == '>') fputs("\\textgreater{}", f);
        else fputc(*text, f);
    }
}

static void tex(FILE *f, const ledger *l, const findings_about *a)
{
    int number = 0;
    fprintf(f, "%% %s, on %s, %s\n%% needs \\usepackage{longtable,booktabs}\n"
               "\\begin{longtable}{rp{0.38\\linewidth}lp{0.4\\linewidth}}\n"
               "\\toprule\n & claim & paper & verdict \\\\\n\\midrule\n"
               "\\endhead\n",
            a->build, a->machine, a->date);
    for (int i = 0; i < l->claims; i++) {
        const ledger_claim *c = &l->claim[i];
        if (!c->wanted) continue;
        char *verdict = verdict_text(c, false), *effects = verdict_text(c, true);
        fprintf(f, "%d & ", ++number);
        tex_text(f, c->title);
        fprintf(f, " & \\cite{%s} & ", c->paper);
        tex_text(f, verdict);
        fputs(*effects ? ": " : "", f);
        tex_text(f, effects);
        free(verdict);
        free(effects);
        fputs(" \\\\\n", f);
    }
    fputs("\\bottomrule\n\\end{longtable}\n", f);
}

/* ---- JSON ----------------------------------------------------------------------- */

static json *quantity_json(const ledger_quantity *q)
{
    json *j = json_object(), *list[3];
    for (int k = 0; k < 3; k++) list[k] = json_array();
    for (int i = 0; i < q->count; i++) {
        json_push_number(list[0], q->of[i].value);
        json_push_number(list[1], q->of[i].lo);
        json_push_number(list[2], q->of[i].hi);
    }
    json_put_text(j, "name", q->name);
    json_put_text(j, "text", q->text);
    json_put_text(j, "unit", q->unit);
    json_put_text(j, "how", q->how);
    json_put(j, "value", list[0]);
    json_put(j, "lo", list[1]);
    json_put(j, "hi", list[2]);
    json_put_bool(j, "exact", q->exact);
    if (*q->note) json_put_text(j, "note", q->note);
    json_put_number(j, "seeds", q->runs > 1 ? q->runs : NAN);
    json_put_text(j, "reason", q->count ? NULL : q->reason);
    return j;
}

static json *claim_json(const ledger_claim *c)
{
    json *j = json_object(), *quantities = json_array(), *rules = json_array();
    json_put_text(j, "id", c->id);
    json_put_text(j, "title", c->title);
    json_put_text(j, "paper", c->paper);
    json_put_text(j, "section", c->section);
    json_put_text(j, "verdict", ledger_verdicts[c->verdict]);
    for (int i = 0; i < c->quantities; i++)
        json_push(quantities, quantity_json(&c->quantity[i]));
    for (int i = 0; i < c->rules; i++) {
        json *r = json_object();
        json_put_text(r, "if", c->rule[i].condition);
        json_put_bool(r, "key", c->rule[i].key);
        const ledger_rule *of = &c->rule[i];
        const bool open = of->outcome == LEDGER_OPEN;
        if (of->outcome == LEDGER_UNKNOWN || open) json_put_null(r, "holds");
        else json_put_bool(r, "holds", of->outcome == LEDGER_HOLDS);
        json_put_bool(r, "unclear", open);
        if (*of->effect) json_put_text(r, "effect", of->effect);
        if (of->outcome == LEDGER_FAILS) json_put_text(r, "how", of->otherwise);
        json_push(rules, r);
    }
    json_put(j, "quantities", quantities);
    json_put(j, "rules", rules);
    return j;
}

static int write_json(const ledger *l, const findings_about *a,
                      const char *path, error *e)
{
    json *j = json_object(), *claims = json_array();
    json_put_text(j, "kind", "findings");
    json_put_number(j, "schema", 1);
    json_put_text(j, "build", a->build);
    json_put_text(j, "machine", a->machine);
    json_put_text(j, "date", a->date);
    json_put_text(j, "runs", a->runs);
    json *load = json_array();
    for (int i = 0; i < 2; i++) json_push_number(load, a->load[i]);
    json_put(j, "load", load);
    json_put(j, "warnings", a->warnings ? json_copy(a->warnings) : NULL);
    for (int i = 0; i < l->claims; i++)
        if (l->claim[i].wanted) json_push(claims, claim_json(&l->claim[i]));
    json_put(j, "claims", claims);
    const int rc = json_write_file(path, j, e);
    json_free(j);
    return rc;
}

/* ---- files ---------------------------------------------------------------------- */

static int write_text(const ledger *l, const findings_about *a,
                      const char *name,
                      void (*print)(FILE *, const ledger *,
                                    const findings_about *),
                      error *e)
{
    file_writer w;
    char *path = path_join(a->dir, name);
    const int began = file_begin(&w, path, e);
    free(path);
    if (began < 0) return -1;
    print(w.stream, l, a);
    return file_commit(&w, e);
}

/* Pictures that runs of `maps` left behind, beside the figures. */
static int copy_picture(const ledger *l, const ledger_claim *c, int number,
                        const json *picture, const findings_about *a, error *e)
{
    const ledger_run *r = ledger_find_run(l, json_text(json_get(picture, "run")));
    if (!r->done) return 0;
    char *runs = path_join(a->dir, a->runs), *folder = path_join(runs, r->name);
    char *from = path_join(folder, json_text(json_get(picture, "file")));
    char *to = picture_path(c, number, a), *bytes = NULL;
    size_t size;
    file_writer w;
    int rc = file_read(from, (size_t)1 << 28, &bytes, &size, e);
    if (rc == 0) rc = file_begin(&w, to, e);
    if (rc == 0) {
        fwrite(bytes, 1, size, w.stream);
        rc = file_commit(&w, e);
    }
    free(bytes);
    free(from);
    free(to);
    free(folder);
    free(runs);
    return rc;
}

static int copy_pictures(const ledger *l, const findings_about *a, error *e)
{
    char *figures = path_join(a->dir, "figures");
    int rc = folder_make(figures, e);
    free(figures);
    for (int i = 0; i < l->claims && rc == 0; i++) {
        const ledger_claim *c = &l->claim[i];
        int number = 0;
        const json *x = c->wanted ? json_first(c->pictures) : NULL;
        for (; x && rc == 0; x = json_next(x))
            rc = copy_picture(l, c, ++number, x, a, e);
    }
    return rc;
}

int findings_report(const ledger *l, const findings_about *a, error *e)
{
    if (copy_pictures(l, a, e) < 0) return -1;
    char *path = path_join(a->dir, "findings.json");
    int rc = write_json(l, a, path, e);
    free(path);
    if (rc == 0) rc = write_text(l, a, "findings.md", md, e);
    if (rc == 0) rc = write_text(l, a, "findings.tex", tex, e);
    return rc;
}
