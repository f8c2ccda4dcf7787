#include "modelcount.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../harness/text.h"

const char *const count_format_names[COUNT_FORMATS] = {"aligned", "md", "csv",
                                                       "tex"};
static const char *const verdicts[] = {"", "exact", "rounds to", "differs"};

/* ---- the rule ---------------------------------------------------------------
 */

bool count_meets(double value, const char *printed, bool cut)
{
    char *end;
    const double digits = strtod(printed, &end);
    if (end == printed || !isfinite(digits)) return false;
    const double unit = *end == 'K'   ? 1e3
                        : *end == 'M' ? 1e6
                        : *end == 'G' ? 1e9
                        : *end == 0   ? 1
                                      : NAN;
    const char *point = strchr(printed, '.');
    const double scale =
        pow(10, point && point < end ? (double)(end - point - 1) : 0);
    const double wanted = round(digits * scale), x = value / unit * scale;
    return round(x) == wanted || (cut && floor(x) == wanted);
}

static void printed_text(const zoo_model *m, const char *key, char out[16])
{
    const char *text = json_text(json_get(json_get(m->file, "published"), key));
    snprintf(out, 16, "%s", text ? text : "");
}

/* Compares one integer of "expected", if it is there; true if it is met. */
static bool integer(const zoo_model *m, const char *key, double value,
                    model_count *out)
{
    const json *j = json_get(json_get(m->file, "expected"), key);
    if (!json_is_number(j)) return false;
    const bool met = json_number(j, 0) == value;
    out->integers++;
    out->wrong += !met;
    return met;
}

static enum count_verdict verdict(bool exact, const char *printed, bool met)
{
    if (*printed && !met) return COUNT_DIFFERS;
    if (exact) return COUNT_EXACT;
    return *printed ? COUNT_ROUNDS : COUNT_NOTHING;
}

void model_count_make(const zoo_model *m, model_count *out)
{
    *out = (model_count){0};
    zoo_counts(&m->network, &out->count);
    const zoo_count *c = &out->count;
    out->count.parameters +=
        json_number(json_get(m->file, "unused_parameters"), 0);
    const char *note = json_text(json_get(m->file, "assumption"));
    snprintf(out->note, sizeof out->note, "%s", note ? note : "");
    snprintf(out->name, sizeof out->name, "%s", m->name);
    printed_text(m, "parameters", out->parameters);
    printed_text(m, "flops", out->flops);
    const bool parameters = integer(m, "parameters", c->parameters, out);
    const bool macs = integer(m, "macs", c->macs, out);
    integer(m, "conv", c->share[NET_SHARE_CONV], out);
    integer(m, "linear", c->share[NET_SHARE_LINEAR], out);
    integer(m, "attention", c->share[NET_SHARE_ATTENTION], out);
    integer(m, "norm_elements", c->norm_elements, out);
    integer(m, "fvcore", c->fvcore, out);
    out->parameters_verdict =
        verdict(parameters, out->parameters,
                count_meets(c->parameters, out->parameters, true));
    out->flops_verdict = verdict(macs, out->flops,
                                 count_meets(c->macs, out->flops, false) ||
                                     count_meets(c->fvcore, out->flops, false));
    if (out->wrong) {
        if (!parameters) out->parameters_verdict = COUNT_DIFFERS;
        if (!macs) out->flops_verdict = COUNT_DIFFERS;
    }
}

/* ---- tables
 * ------------------------------------------------------------------- */

enum { COLUMNS = 14, TEXT = 64 };

static const struct column {
    const char *title, *key;
    bool text;
} columns[COLUMNS] = {
    {"model", "model", true},
    {"parameters", "parameters", false},
    {"printed", "parameters_printed", true},
    {"verdict", "parameters_verdict", true},
    {"MACs", "macs", false},
    {"convolution", "macs_conv", false},
    {"linear", "macs_linear", false},
    {"attention", "macs_attention", false},
    {"norm values", "norm_elements", false},
    {"fvcore", "fvcore", false},
    {"printed", "flops_printed", true},
    {"verdict", "flops_verdict", true},
    {"integers met", "integers_met", true},
    {"activations", "activation_bytes", false},
};

static void number(double x, bool machine, char out[TEXT])
{
    if (machine)
        snprintf(out, TEXT, "%.0f", x);
    else
        snprintf(out, TEXT, "%s", text_count(x));
}

static void cells(const model_count *m, bool machine, char out[COLUMNS][TEXT])
{
    const zoo_count *c = &m->count;
    snprintf(out[0], TEXT, "%s", m->name);
    number(c->parameters, machine, out[1]);
    snprintf(out[2], TEXT, "%s", m->parameters);
    snprintf(out[3], TEXT, "%s", verdicts[m->parameters_verdict]);
    number(c->macs, machine, out[4]);
    number(c->share[NET_SHARE_CONV], machine, out[5]);
    number(c->share[NET_SHARE_LINEAR], machine, out[6]);
    number(c->share[NET_SHARE_ATTENTION], machine, out[7]);
    number(c->norm_elements, machine, out[8]);
    number(c->fvcore, machine, out[9]);
    snprintf(out[10], TEXT, "%s", m->flops);
    snprintf(out[11], TEXT, "%s", verdicts[m->flops_verdict]);
    if (m->integers)
        snprintf(out[12], TEXT, "%d/%d", m->integers - m->wrong, m->integers);
    else
        out[12][0] = 0;
    if (machine)
        number(c->activations, true, out[13]);
    else
        snprintf(out[13], TEXT, "%s", text_bytes(c->activations));
}

static void print_tex(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (strchr("_%&#", *text)) fputc('\\', f);
        fputc(*text, f);
    }
}

static void print_row(FILE *f, enum count_format format,
                      const char *const cell[COLUMNS], const int *width)
{
    static const char *const start[] = {"", "| ", "", ""};
    static const char *const between[] = {"  ", " | ", ",", " & "};
    static const char *const end[] = {"\n", " |\n", "\n", " \\\\\n"};
    fputs(start[format], f);
    for (int i = 0; i < COLUMNS; i++) {
        const bool quoted = format == COUNT_CSV && strchr(cell[i], ',');
        if (i) fputs(between[format], f);
        if (format == COUNT_TEX)
            print_tex(f, cell[i]);
        else if (format != COUNT_ALIGNED)
            fprintf(f, quoted ? "\"%s\"" : "%s", cell[i]);
        else if (columns[i].text)
            fprintf(f, i + 1 < COLUMNS ? "%-*s" : "%.*s", width[i], cell[i]);
        else
            fprintf(f, "%*s", width[i], cell[i]);
    }
    fputs(end[format], f);
}

static void print_rule(FILE *f, enum count_format format, bool before)
{
    if (format == COUNT_MD && !before) {
        fputs("|", f);
        for (int i = 0; i < COLUMNS; i++)
            fputs(columns[i].text ? " --- |" : " ---: |", f);
        fputs("\n", f);
    }
    if (format != COUNT_TEX) return;
    if (!before) {
        fputs("\\hline\n", f);
        return;
    }
    fputs("\\begin{tabular}{", f);
    for (int i = 0; i < COLUMNS; i++) fputc(columns[i].text ? 'l' : 'r', f);
    fputs("}\n", f);
}

/* What counts assume or do not explain, once for each text. */
static void print_notes(FILE *f, const model_count *list, int n)
{
    for (int i = 0; i < n; i++) {
        bool told = !*list[i].note;
        for (int k = 0; k < i && !told; k++)
            told = !strcmp(list[k].note, list[i].note);
        if (told) continue;
        fputs("\n", f);
        for (int k = i; k < n; k++)
            if (!strcmp(list[k].note, list[i].note))
                fprintf(f, "%s%s", k == i ? "" : ", ", list[k].name);
        fprintf(f, ": %s\n", list[i].note);
    }
}

void model_count_print(FILE *f, const model_count *list, int n,
                       enum count_format format)
{
    const bool machine = format == COUNT_CSV;
    char text[COLUMNS][TEXT];
    const char *cell[COLUMNS];
    int width[COLUMNS];

    for (int i = 0; i < COLUMNS; i++) {
        cell[i] = machine ? columns[i].key : columns[i].title;
        width[i] = (int)strlen(cell[i]);
    }
    for (int k = 0; k < n; k++) {
        cells(&list[k], machine, text);
        for (int i = 0; i < COLUMNS; i++)
            if ((int)strlen(text[i]) > width[i])
                width[i] = (int)strlen(text[i]);
    }
    print_rule(f, format, true);
    print_row(f, format, cell, width);
    print_rule(f, format, false);
    for (int k = 0; k < n; k++) {
        cells(&list[k], machine, text);
        for (int i = 0; i < COLUMNS; i++) cell[i] = text[i];
        print_row(f, format, cell, width);
    }
    if (format == COUNT_TEX) fputs("\\end{tabular}\n", f);
    if (format == COUNT_ALIGNED || format == COUNT_MD) print_notes(f, list, n);
}
