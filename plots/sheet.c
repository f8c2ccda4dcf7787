/* sheet.c - a table and its forms. */
#include "sheet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

int sheet_format_find(const char *name, error *e)
{
    static const char *const names[] = { "md", "csv", "tex", "json", "text" };
    const int n = sizeof names / sizeof *names;
    for (int i = 0; i < n; i++)
        if (!strcmp(name, names[i])) return i;
    return error_set(e, "unknown format '%s': use md, csv, tex, json or text",
                     name);
}

/* ---- making -------------------------------------------------------------- */

void sheet_text(char **member, const char *text)
{
    free(*member);
    *member = sure(strdup(text ? text : ""));
}

void sheet_column(sheet *s, const char *title, const char *key, bool right)
{
    s->column = sure(realloc(s->column,
                             (size_t)(s->columns + 1) * sizeof *s->column));
    heading *h = &s->column[s->columns++];
    *h = (heading){ .right = right };
    sheet_text(&h->title, title);
    sheet_text(&h->key, key);
}

void sheet_row(sheet *s)
{
    const size_t n = (size_t)(s->rows + 1) * (size_t)s->columns;
    s->at = sure(realloc(s->at, (n ? n : 1) * sizeof *s->at));
    for (int c = 0; c < s->columns; c++)
        s->at[s->rows * s->columns + c] = (cell){ .number = NAN };
    s->rows++;
}

cell *sheet_last(sheet *s, int column)
{
    return &s->at[(s->rows - 1) * s->columns + column];
}

void cell_word(cell *c, const char *word)
{
    sheet_text(&c->word, word);
    sheet_text(&c->text, word);
}

void cell_number(cell *c, double number, const char *text)
{
    c->number = number;
    sheet_text(&c->text, text);
}

void sheet_free(sheet *s)
{
    for (int i = 0; i < s->rows * s->columns; i++) {
        free(s->at[i].text);
        free(s->at[i].word);
    }
    for (int c = 0; c < s->columns; c++) {
        free(s->column[c].title);
        free(s->column[c].key);
    }
    free(s->at);
    free(s->column);
    free(s->group);
    free(s->caption);
    free(s->footnote);
    *s = (sheet){ 0 };
}

/* ---- what the forms share ------------------------------------------------ */

static const cell *at(const sheet *s, int row, int column)
{
    return &s->at[row * s->columns + column];
}

static const char *text_of(const cell *c)
{
    return c->text ? c->text : "";
}

/* Columns that a UTF-8 text takes, combining and wide letters aside. */
static int width_of(const char *text)
{
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void pad(FILE *f, const char *text, int width, bool right)
{
    const int space = width > width_of(text) ? width - width_of(text) : 0;
    fprintf(f, "%*s%s%*s", right ? space : 0, "", text, right ? 0 : space, "");
}

/* As short as reads back the same. */
static void exact(double v, char out[32])
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, v);
        if (strtod(out, NULL) == v) return;
    }
}

/* ---- Markdown and text --------------------------------------------------- */

/* Text in which a bar or star would be markup. */
static char *markdown(const char *text, bool bold)
{
    char *out = sure(malloc(2 * strlen(text) + 5)), *p = out;
    if (bold) p += sprintf(p, "**");
    for (; *text; text++) {
        if (strchr("|*<\\", *text)) *p++ = '\\';
        *p++ = *text;
    }
    strcpy(p, bold ? "**" : "");
    return out;
}

static char *plain(const char *text, bool bold)
{
    char *out = sure(malloc(strlen(text) + 2));
    sprintf(out, "%s%s", text, bold ? "*" : "");
    return out;
}

typedef char *dress(const char *text, bool bold);

static int *widths(const sheet *s, dress *dressed)
{
    int *width = sure(calloc((size_t)s->columns + 1, sizeof *width));
    for (int c = 0; c < s->columns; c++) {
        width[c] = width_of(s->column[c].title);
        for (int r = 0; r < s->rows; r++) {
            char *t = dressed(text_of(at(s, r, c)), at(s, r, c)->bold);
            if (width_of(t) > width[c]) width[c] = width_of(t);
            free(t);
        }
        if (width[c] < 3) width[c] = 3;
    }
    return width;
}

static void paragraph(FILE *f, const char *text)
{
    if (text && *text) fprintf(f, "%s\n\n", text);
}

static void write_md(FILE *f, const sheet *s)
{
    int *width = widths(s, markdown);
    if (s->caption) paragraph(f, s->caption);
    for (int c = 0; c < s->columns; c++) {
        fputs(c ? " | " : "| ", f);
        pad(f, s->column[c].title, width[c], s->column[c].right);
    }
    fputs(" |\n", f);
    for (int c = 0; c < s->columns; c++) {
        fputc('|', f);
        for (int i = 0; i < width[c] + 1; i++) fputc('-', f);
        fputc(s->column[c].right ? ':' : '-', f);
    }
    fputs("|\n", f);
    for (int r = 0; r < s->rows; r++) {
        for (int c = 0; c < s->columns; c++) {
            char *t = markdown(text_of(at(s, r, c)), at(s, r, c)->bold);
            fputs(c ? " | " : "| ", f);
            pad(f, t, width[c], s->column[c].right);
            free(t);
        }
        fputs(" |\n", f);
    }
    fputc('\n', f);
    if (s->footnote) paragraph(f, s->footnote);
    free(width);
}

static void write_text(FILE *f, const sheet *s)
{
    int *width = widths(s, plain);
    if (s->caption) paragraph(f, s->caption);
    for (int c = 0; c < s->columns; c++) {
        fputs(c ? "  " : "", f);
        pad(f, s->column[c].title,
            c + 1 < s->columns || s->column[c].right ? width[c] : 0,
            s->column[c].right);
    }
    fputc('\n', f);
    for (int r = 0; r < s->rows; r++) {
        for (int c = 0; c < s->columns; c++) {
            char *t = plain(text_of(at(s, r, c)), at(s, r, c)->bold);
            fputs(c ? "  " : "", f);
            pad(f, t, c + 1 < s->columns || s->column[c].right ? width[c] : 0,
                s->column[c].right);
            free(t);
        }
        fputc('\n', f);
    }
    if (s->footnote && *s->footnote) fprintf(f, "%s\n", s->footnote);
    free(width);
}

/* ---- CSV (RFC 4180) ------------------------------------------------------ */

static void csv_field(FILE *f, const char *text)
{
    if (!text[strcspn(text, ",\"\r\n")]) {
        fputs(text, f);
        return;
    }
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"') fputc('"', f);
        fputc(*text, f);
    }
    fputc('"', f);
}

static void write_csv(FILE *f, const sheet *s)
{
    for (int c = 0; c < s->columns; c++) {
        if (c) fputc(',', f);
        csv_field(f, s->column[c].key);
    }
    fputc('\n', f);
    for (int r = 0; r < s->rows; r++) {
        for (int c = 0; c < s->columns; c++) {
            const cell *x = at(s, r, c);
            char number[32] = "";
            if (!x->word && isfinite(x->number)) exact(x->number, number);
            if (c) fputc(',', f);
            csv_field(f, x->word ? x->word : number);
        }
        fputc('\n', f);
    }
}

/* ---- LaTeX --------------------------------------------------------------- */

/* Letters beyond ASCII that the tables use, for every engine and font. */
static const char *const tex_letters[][2] = {
    { "µ", "\\ensuremath{\\mu}" },
    { "±", "\\ensuremath{\\pm}" },
    { "†", "\\textsuperscript{\\textdagger}" },
    { "×", "\\ensuremath{\\times}" },
};

static void tex(FILE *f, const char *text)
{
    static const char special[] = "&%$#_{}";
    while (*text) {
        bool found = false;
        for (size_t i = 0; i < sizeof tex_letters / sizeof *tex_letters; i++) {
            const size_t n = strlen(tex_letters[i][0]);
            if (strncmp(text, tex_letters[i][0], n)) continue;
            fputs(tex_letters[i][1], f);
            text += n;
            found = true;
            break;
        }
        if (found) continue;
        if (strchr(special, *text)) fprintf(f, "\\%c", *text);
        else if (*text == '\\') fputs("\\textbackslash{}", f);
        else if (*text == '~') fputs("\\textasciitilde{}", f);
        else if (*text == '^') fputs("\\textasciicircum{}", f);
        else if (*text == '<' || *text == '>')
            fprintf(f, "\\ensuremath{%c}", *text);
        else fputc(*text, f);
        text++;
    }
}

static void tex_head(FILE *f, const sheet *s)
{
    fputs("\\toprule\n", f);
    if (s->group && s->columns > s->group_from) {
        for (int c = 0; c < s->group_from; c++) fputs(" & ", f);
        fprintf(f, "\\multicolumn{%d}{c}{", s->columns - s->group_from);
        tex(f, s->group);
        fprintf(f, "} \\\\\n\\cmidrule(lr){%d-%d}\n", s->group_from + 1,
                s->columns);
    }
    for (int c = 0; c < s->columns; c++) {
        fputs(c ? " & " : "", f);
        tex(f, s->column[c].title);
    }
    fputs(" \\\\\n\\midrule\n", f);
}

static void tex_rows(FILE *f, const sheet *s)
{
    for (int r = 0; r < s->rows; r++) {
        for (int c = 0; c < s->columns; c++) {
            const cell *x = at(s, r, c);
            fputs(c ? " & " : "", f);
            if (x->bold) fputs("\\textbf{", f);
            tex(f, text_of(x));
            if (x->bold) fputc('}', f);
        }
        fputs(" \\\\\n", f);
    }
    fputs("\\bottomrule\n", f);
}

static void tex_columns(FILE *f, const sheet *s)
{
    for (int c = 0; c < s->columns; c++)
        fputc(s->column[c].right ? 'r' : 'l', f);
}

static void tex_footnote(FILE *f, const sheet *s)
{
    if (!s->footnote || !*s->footnote) return;
    fputs("\n\\smallskip\n\\begin{minipage}{\\linewidth}\\footnotesize\n", f);
    tex(f, s->footnote);
    fputs("\n\\end{minipage}\n", f);
}

/* More rows than a page has. */
static void write_tex_long(FILE *f, const sheet *s)
{
    fputs("% needs \\usepackage{booktabs,longtable}\n\\begin{longtable}{", f);
    tex_columns(f, s);
    fputs("}\n", f);
    if (s->caption && *s->caption) {
        fputs("\\caption{", f);
        tex(f, s->caption);
        fputs("} \\\\\n", f);
    }
    tex_head(f, s);
    fputs("\\endhead\n", f);
    tex_rows(f, s);
    fputs("\\end{longtable}\n", f);
    tex_footnote(f, s);
}

static void write_tex(FILE *f, const sheet *s)
{
    enum { PAGE = 45 };
    if (s->rows > PAGE) {
        write_tex_long(f, s);
        return;
    }
    fputs("% needs \\usepackage{booktabs}\n\\begin{table}\n\\centering\n", f);
    if (s->caption && *s->caption) {
        fputs("\\caption{", f);
        tex(f, s->caption);
        fputs("}\n", f);
    }
    fputs("\\begin{tabular}{", f);
    tex_columns(f, s);
    fputs("}\n", f);
    tex_head(f, s);
    tex_rows(f, s);
    fputs("\\end{tabular}\n", f);
    tex_footnote(f, s);
    fputs("\\end{table}\n", f);
}

/* ---- JSON ---------------------------------------------------------------- */

json *sheet_rows(const sheet *s)
{
    json *rows = json_array();
    for (int r = 0; r < s->rows; r++) {
        json *row = json_object();
        for (int c = 0; c < s->columns; c++) {
            const cell *x = at(s, r, c);
            if (!x->word)
                json_put_number(row, s->column[c].key, x->number);
            else
                json_put_text(row, s->column[c].key,
                              *x->word ? x->word : NULL);
        }
        json_push(rows, row);
    }
    return rows;
}

void sheet_write(FILE *f, const sheet *s, enum sheet_format format)
{
    switch (format) {
    case SHEET_MD: write_md(f, s); break;
    case SHEET_TEXT: write_text(f, s); break;
    case SHEET_CSV: write_csv(f, s); break;
    case SHEET_TEX: write_tex(f, s); break;
    case SHEET_JSON: {
        json *rows = sheet_rows(s);
        char *text = json_print(rows, true);
        fprintf(f, "%s\n", text);
        free(text);
        json_free(rows);
        break;
    }
    }
}
