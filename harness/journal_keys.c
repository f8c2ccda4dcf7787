/* journal_keys.c - schema, page and check of the journal from its list of keys. */
#include "journal_keys.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "row.h"

enum { NAME = 64 };

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- schema -------------------------------------------------------------- */

/* A member of an object that is being made, made as an object if it is none. */
static json *member(json *of, const char *key)
{
    if (!json_is_object(json_get(of, key))) json_put(of, key, json_object());
    return (json *)json_get(of, key);
}

static void set_type(json *schema, const char *type, bool null)
{
    json *list = json_array();
    json_push_text(list, type);
    if (null) json_push_text(list, "null");
    json_put(schema, "type", list);
}

/* The schema of a member: of that name, or of all that no other names ("NAME"). */
static json *of_member(json *schema, const char *name)
{
    if (!json_get(schema, "type")) set_type(schema, "object", true);
    if (!strcmp(name, "NAME")) return member(schema, "additionalProperties");
    if (!json_get(schema, "additionalProperties"))
        json_put_bool(schema, "additionalProperties", false);
    return member(member(schema, "properties"), name);
}

/* The schema at the end of a path below `schema`. */
static json *at_path(json *schema, const char *path)
{
    char name[NAME];
    while (*path) {
        const size_t n = strcspn(path, ".[");
        snprintf(name, sizeof name, "%.*s", (int)n, path);
        schema = of_member(schema, name);
        path += n;
        if (*path == '[') {
            if (!json_get(schema, "type")) set_type(schema, "array", true);
            schema = member(schema, "items");
            path += 2;
        }
        path += *path == '.';
    }
    return schema;
}

static const char *json_type(enum row_type type)
{
    static const char *const words[] = {
        [ROW_TEXT] = "string",    [ROW_NUMBER] = "number",
        [ROW_INTEGER] = "integer", [ROW_COUNT] = "number",
        [ROW_FLAG] = "boolean",   [ROW_OBJECT] = "object",
        [ROW_ARRAY] = "array",    [ROW_SAMPLES] = "array",
        [ROW_GROUP] = "object",
    };
    return type == ROW_ANY || type == ROW_PAGE ? NULL : words[type];
}

static void describe(json *schema, const row_key *k, const char *meaning)
{
    char text[1024];
    const char *type = json_type(k->type);
    if (type) set_type(schema, type, k->need != ROW_REQUIRED);
    snprintf(text, sizeof text, "%s%s%s%s", meaning, *k->unit ? " (" : "",
             k->unit, *k->unit ? ")" : "");
    if (*text) json_put_text(schema, "description", text);
}

static json *schema_of(int kind)
{
    int n;
    const row_key *key = row_keys(&n);
    const char *meaning = "";
    unsigned kinds = 0;
    json *schema = json_object(), *required = json_array();
    set_type(schema, "object", false);
    for (int i = 0; i < n; i++) {
        const row_key *k = &key[i];
        if (*k->meaning) meaning = k->meaning;
        if (k->type == ROW_PAGE) kinds = k->kinds;
        else if (kinds & 1u << kind) {
            describe(at_path(schema, k->path), k,
                     k->type == ROW_GROUP ? "" : meaning);
            if (k->need == ROW_REQUIRED) json_push_text(required, k->path);
        }
    }
    json_put(schema, "required", required);
    json_put_text(at_path(schema, "kind"), "const", row_kinds[kind]);
    return schema;
}

json *journal_schema(void)
{
    char place[NAME];
    json *j = json_object(), *which = json_array(), *kinds = json_array();
    json *needed = json_array();
    json_push_text(needed, "kind");
    json_put_text(j, "$schema", "https://json-schema.org/draft/2020-12/schema");
    json_put_text(j, "title", "a row of an attnbench journal");
    json_put_text(j, "type", "object");
    for (int k = 0; k < row_kinds_count; k++) {
        json *one = json_object();
        json_put(member(j, "$defs"), row_kinds[k], schema_of(k));
        json_put_text(member(member(member(one, "if"), "properties"), "kind"),
                      "const", row_kinds[k]);
        snprintf(place, sizeof place, "#/$defs/%s", row_kinds[k]);
        json_put_text(member(one, "then"), "$ref", place);
        json_push(which, one);
        json_push_text(kinds, row_kinds[k]);
    }
    json_put(member(member(j, "properties"), "kind"), "enum", kinds);
    json_put(j, "required", needed);
    json_put(j, "allOf", which);
    return j;
}

/* ---- check --------------------------------------------------------------- */

static const char *type_of(const json *j)
{
    if (json_is_null(j)) return "null";
    if (json_text(j)) return "string";
    if (json_is_object(j)) return "object";
    if (json_is_array(j)) return "array";
    if (json_true(j) || json_is_false(j)) return "boolean";
    const double x = json_number(j, NAN);
    return x == rint(x) ? "integer" : "number";
}

static bool is_type(const char *type, const char *wanted)
{
    return !strcmp(type, wanted) ||
           (!strcmp(type, "integer") && !strcmp(wanted, "number"));
}

static bool type_fits(const json *schema, const json *value, const char *path,
                      char *why, size_t size)
{
    const char *type = type_of(value);
    const json *types = json_get(schema, "type");
    if (!types) return true;
    for (const json *x = json_first(types); x; x = json_next(x))
        if (is_type(type, json_text(x))) return true;
    snprintf(why, size, "%s: %s, and it should be %s", path, type,
             json_text(json_first(types)));
    return false;
}

static bool fits(const json *schema, const json *value, const char *path,
                 char *why, size_t size);

static bool member_fits(const json *schema, const json *x, const char *path,
                        char *why, size_t size)
{
    const json *of = json_get(json_get(schema, "properties"), json_key(x));
    const json *others = json_get(schema, "additionalProperties");
    char longer[4 * NAME];
    snprintf(longer, sizeof longer, "%s%s%s", path, *path ? "." : "",
             json_key(x));
    if (of || json_is_object(others))
        return fits(of ? of : others, x, longer, why, size);
    if (!json_is_false(others)) return true;
    snprintf(why, size, "%s: there is no such key", longer);
    return false;
}

static bool fits(const json *schema, const json *value, const char *path,
                 char *why, size_t size)
{
    char longer[4 * NAME];
    if (!type_fits(schema, value, path, why, size)) return false;
    for (const json *x = json_first(json_get(schema, "required")); x;
         x = json_next(x))
        if (!json_get(value, json_text(x))) {
            snprintf(why, size, "%s: it is not there", json_text(x));
            return false;
        }
    snprintf(longer, sizeof longer, "%s[]", path);
    for (const json *x = json_first(value); x; x = json_next(x))
        if (json_is_object(value)
                ? !member_fits(schema, x, path, why, size)
                : !fits(json_get(schema, "items"), x, longer, why, size))
            return false;
    return true;
}

bool journal_row_fits(const json *schema, const json *row, char *why,
                      size_t size)
{
    const char *kind = json_text(json_get(row, "kind"));
    const json *one = kind ? json_get(json_get(schema, "$defs"), kind) : NULL;
    if (one) return fits(one, row, "", why, size);
    snprintf(why, size, "kind: %s is none", kind ? kind : "null");
    return false;
}

/* ---- page ---------------------------------------------------------------- */

/* Where the line behind that begins. */
static const char *next_line(const char *at)
{
    const char *end = strchr(at, '\n');
    return end ? end + 1 : at + strlen(at);
}

/* One line for each key with a meaning, and for those that share it. */
static void print_table(FILE *f, const row_key *key, const row_key *end)
{
    fputs("| key | unit | meaning |\n|---|---|---|\n", f);
    for (const row_key *k = key; k < end;) {
        const row_key *first = k;
        if (k->type == ROW_GROUP) {
            k++;
            continue;
        }
        fputc('|', f);
        do
            if (k->type != ROW_GROUP) fprintf(f, " `%s`", k->path);
        while (++k < end && (!*k->meaning || k->type == ROW_GROUP) &&
               !(k->type == ROW_GROUP && k + 1 < end && *k[1].meaning));
        fprintf(f, " |%s%s | %s |\n", *first->unit ? " " : "", first->unit,
                first->meaning);
    }
}

/* The table of that name; false if there is none. */
static bool print_page(FILE *f, const char *name)
{
    int n;
    const row_key *key = row_keys(&n);
    for (int i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && key[k].type != ROW_PAGE; k++) {}
        if (strcmp(key[i].path, name)) continue;
        print_table(f, &key[i + 1], &key[k]);
        return true;
    }
    return false;
}

static int pages(void)
{
    int n, count = 0;
    const row_key *key = row_keys(&n);
    for (int i = 0; i < n; i++) count += key[i].type == ROW_PAGE;
    return count;
}

static int print_document(FILE *f, const char *page, error *e)
{
    static const char begin[] = "<!-- keys ", end[] = "<!-- end keys";
    char name[NAME];
    int made = 0;
    for (const char *at = page, *next; *at; at = next) {
        next = next_line(at);
        fwrite(at, 1, (size_t)(next - at), f);
        if (sscanf(at, "<!-- keys %63[a-z]", name) != 1 ||
            strncmp(at, begin, sizeof begin - 1))
            continue;
        if (!print_page(f, name))
            return error_set(e, "there are no keys '%s'", name);
        while (*next && strncmp(next, end, sizeof end - 1))
            next = next_line(next);
        made++;
    }
    if (made == pages()) return 0;
    return error_set(e, "%d tables, and there are %d lists of keys", made,
                     pages());
}

char *journal_document(const char *page, error *e)
{
    char *text = NULL;
    size_t size;
    FILE *f = sure(open_memstream(&text, &size));
    const int rc = print_document(f, page, e);
    if (fclose(f)) abort();
    if (rc == 0) return text;
    free(text);
    return NULL;
}
