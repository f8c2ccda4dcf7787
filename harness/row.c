/* row.c - rows of the journal, read and written by their list of keys. */
#include "row.h"

#include <math.h>
#include <stdio.h>
#include <string.h>


/* ---- the list ------------------------------------------------------------ */

enum { ENV = 1, CASE = 2, CACHE = 4, AA = 8, END = 16, PASS = 32, ACCURACY = 64,
       EVERY = 127 };
const char *const row_kinds[] = { "env", "case", "cache", "aa", "end", "pass",
                                  "accuracy" };
const int row_kinds_count = sizeof row_kinds / sizeof *row_kinds;

#define AT(member) (int)offsetof(struct row, member)
#define COLUMN(name, key, title, better, standard)                             \
    { name, key, title, better, standard }
#define NO_COLUMN { 0 }
static const row_key keys[] = {
#define PAGE(name, kinds)                                                      \
    { ROW_PAGE, ROW_OPTIONAL, name, "", "", kinds, -1, NO_COLUMN },
#define OPEN(group, need)                                                      \
    { ROW_GROUP, ROW_##need, #group, "", "", 0, AT(group), NO_COLUMN },
#define F(type, group, name, need, unit, column, meaning)                      \
    { ROW_##type, ROW_##need, #group #name, unit, meaning, 0, AT(group name),  \
      column },
#define NAMED(type, member, key, need, unit, column, meaning)                  \
    { ROW_##type, ROW_##need, key, unit, meaning, 0, AT(member), column },
#define KEY(type, path, need, unit, meaning)                                   \
    { ROW_##type, ROW_##need, path, unit, meaning, 0, -1, NO_COLUMN },
#include "row_keys.inc"
};
enum { KEYS = sizeof keys / sizeof *keys };

const row_key *row_keys(int *count)
{
    *count = KEYS;
    return keys;
}

unsigned row_kind_bit(const char *kind)
{
    for (int i = 0; i < row_kinds_count; i++)
        if (row_has(kind, row_kinds[i])) return 1u << i;
    return 0;
}

bool row_has(const char *text, const char *wanted)
{
    return text && !strcmp(text, wanted);
}

/* ---- members ------------------------------------------------------------- */

/* Whether the key is a member of struct row, or groups some. */
static bool is_member(const row_key *k)
{
    return k->offset >= 0;
}

static const void *member(const struct row *r, const row_key *k)
{
    return (const char *)r + k->offset;
}

/* Of the rows that have it: those of the page it stands on. */
static unsigned kinds_of(const row_key *k)
{
    while (k->type != ROW_PAGE) k--;
    return k->kinds;
}

double row_number_of(const struct row *r, const row_key *k)
{
    const bool is = k->type == ROW_NUMBER || k->type == ROW_COUNT ||
                    k->type == ROW_INTEGER;
    return is ? *(const double *)member(r, k) : NAN;
}

const char *row_text_of(const struct row *r, const row_key *k)
{
    return k->type == ROW_TEXT ? *(const char *const *)member(r, k) : NULL;
}

static void set_unknown(struct row *r, const row_key *k)
{
    void *at = (char *)r + k->offset;
    switch (k->type) {
    case ROW_TEXT: *(const char **)at = NULL; break;
    case ROW_NUMBER:
    case ROW_COUNT:
    case ROW_INTEGER: *(double *)at = NAN; break;
    case ROW_FLAG: *(row_flag *)at = ROW_UNKNOWN; break;
    case ROW_OBJECT:
    case ROW_ARRAY: *(const json **)at = NULL; break;
    case ROW_SAMPLES: *(measurement *)at = (measurement){ 0 }; break;
    default: break;
    }
}

struct row row_unknown(void)
{
    static struct row unknown;
    static bool made;
    if (!made)
        for (int i = 0; i < KEYS; i++)
            if (is_member(&keys[i])) set_unknown(&unknown, &keys[i]);
    made = true;
    return unknown;
}

static bool is_known(const struct row *r, const row_key *k)
{
    const void *at = member(r, k);
    switch (k->type) {
    case ROW_TEXT: return *(const char *const *)at != NULL;
    case ROW_NUMBER:
    case ROW_COUNT:
    case ROW_INTEGER: return isfinite(*(const double *)at);
    case ROW_FLAG: return *(const row_flag *)at != ROW_UNKNOWN;
    case ROW_SAMPLES: return ((const measurement *)at)->process != NULL;
    default: return *(const json *const *)at != NULL;
    }
}

/* ---- reading ------------------------------------------------------------- */

static const char *type_word(enum row_type type)
{
    static const char *const words[] = {
        [ROW_TEXT] = "a text",       [ROW_NUMBER] = "a number",
        [ROW_COUNT] = "a number",
        [ROW_INTEGER] = "a whole number", [ROW_FLAG] = "true or false",
        [ROW_OBJECT] = "an object",  [ROW_GROUP] = "an object",
        [ROW_ARRAY] = "a list",      [ROW_SAMPLES] = "a list",
    };
    return words[type];
}

static const char *found_word(const json *j, enum row_type wanted)
{
    if (json_text(j)) return "a text";
    if (json_true(j) || json_is_false(j)) return "true or false";
    if (json_is_object(j)) return "an object";
    if (json_is_array(j)) return "a list";
    if (json_is_null(j)) return "null";
    if (!json_is_number(j)) return "a number that is not finite";
    return wanted == ROW_INTEGER ? "a number that is not whole" : "a number";
}

/* False if the value is of another type. */
static bool take(struct row *r, const row_key *k, const json *j)
{
    void *at = (char *)r + k->offset;
    const double x = json_number(j, NAN);
    if (json_is_null(j)) return true;
    switch (k->type) {
    case ROW_TEXT: return (*(const char **)at = json_text(j)) != NULL;
    case ROW_INTEGER:
        if (x != rint(x)) return false;
        *(double *)at = x;
        return true;
    case ROW_COUNT:
    case ROW_NUMBER: *(double *)at = x; return !isnan(x);
    case ROW_FLAG:
        *(row_flag *)at = json_true(j) ? ROW_YES : ROW_NO;
        return json_true(j) || json_is_false(j);
    case ROW_OBJECT: *(const json **)at = j; return json_is_object(j);
    case ROW_ARRAY: *(const json **)at = j; return json_is_array(j);
    case ROW_SAMPLES:
        if (!json_is_array(j)) return false;
        measurement_free(at); /* a key that is there twice */
        measurement_read(j, at);
        return true;
    default: return json_is_object(j);
    }
}

/* Index of the member of such rows with that path behind "prefix.", looked for
 * from *next on, where it is nearly always; -1: they have none. */
static int find(unsigned kind, const char *prefix, const char *name, int *next)
{
    const size_t n = strlen(prefix);
    for (int k = 0; k < KEYS; k++) {
        const int i = (*next + k) % KEYS;
        const char *path = keys[i].path;
        if (!is_member(&keys[i]) || strchr(name, '.')) continue;
        if (n && (strncmp(path, prefix, n) || path[n] != '.')) continue;
        if (strcmp(path + (n ? n + 1 : 0), name)) continue;
        if (!(kinds_of(&keys[i]) & kind)) continue;
        *next = i + 1;
        return i;
    }
    return -1;
}

static int refuse(const row_key *k, const json *j, const char *path, int line,
                  error *e)
{
    return error_set(e, "%s:%d: \"%s\" is %s and should be %s: correct or remove "
                        "this line, or restore the file from a copy",
                     path, line, k->path, found_word(j, k->type), type_word(k->type));
}

static int read_members(struct row *r, const json *j, const char *prefix,
                        int *next, const char *path, int line, error *e)
{
    const unsigned kind = row_kind_bit(r->kind);
    for (const json *x = json_first(j); x; x = json_next(x)) {
        const int i = find(kind, prefix, json_key(x), next);
        if (i < 0) continue;
        if (!take(r, &keys[i], x)) return refuse(&keys[i], x, path, line, e);
        if (keys[i].type == ROW_GROUP &&
            read_members(r, x, keys[i].path, next, path, line, e) < 0)
            return -1;
    }
    return 0;
}

int row_read(struct row *r, const json *j, const char *path, int line,
             error *e)
{
    int next = 0;
    *r = row_unknown();
    r->kind = json_text(json_get(j, "kind"));
    if (read_members(r, j, "", &next, path, line, e) == 0) return 0;
    row_free(r);
    return -1;
}

void row_take(struct row *r, const json *members)
{
    int next = 0;
    error e;
    read_members(r, members, "", &next, "", 0, &e);
}

void row_free(struct row *r)
{
    measurement_free(&r->time_ns.samples);
}

bool row_is_whole(const struct row *r, const char **key)
{
    const unsigned kind = row_kind_bit(r->kind);
    for (int i = 0; i < KEYS; i++) {
        const row_key *k = &keys[i];
        if (k->need != ROW_REQUIRED || !(kinds_of(k) & kind) || is_known(r, k))
            continue;
        *key = k->path;
        return false;
    }
    return true;
}

/* ---- writing ------------------------------------------------------------- */

static void put(json *to, const struct row *r, const row_key *k)
{
    const void *at = member(r, k);
    const char *dot = strrchr(k->path, '.'), *name = dot ? dot + 1 : k->path;
    if (!is_known(r, k)) {
        if (k->need == ROW_NULLABLE) json_put_null(to, name);
        return;
    }
    switch (k->type) {
    case ROW_TEXT: json_put_text(to, name, *(const char *const *)at); break;
    case ROW_NUMBER:
    case ROW_COUNT:
    case ROW_INTEGER: json_put_number(to, name, *(const double *)at); break;
    case ROW_FLAG: json_put_bool(to, name, *(const row_flag *)at == ROW_YES); break;
    case ROW_SAMPLES: json_put(to, name, measurement_write(at)); break;
    default: json_put(to, name, json_copy(*(const json *const *)at)); break;
    }
}

/* Puts the group at keys[i]; returns the index behind its members. */
static int put_group(json *to, const struct row *r, int i)
{
    const row_key *group = &keys[i];
    const size_t n = strlen(group->path);
    json *j = json_object();
    bool known = false;
    for (i++; i < KEYS && !strncmp(keys[i].path, group->path, n) &&
              keys[i].path[n] == '.';
         i++) {
        if (!is_member(&keys[i])) continue;
        known |= is_known(r, &keys[i]);
        put(j, r, &keys[i]);
    }
    if (known) json_put(to, group->path, j);
    else {
        json_free(j);
        if (group->need == ROW_NULLABLE) json_put_null(to, group->path);
    }
    return i;
}

json *row_write(const struct row *r)
{
    const unsigned kind = row_kind_bit(r->kind);
    struct row whole = *r;
    json *j = json_object();
    unsigned kinds = 0;
    whole.schema = JOURNAL_SCHEMA;
    for (int i = 0; i < KEYS;) {
        const row_key *k = &keys[i];
        if (k->type == ROW_PAGE) kinds = k->kinds;
        if (k->type == ROW_GROUP && (kinds & kind)) {
            i = put_group(j, &whole, i);
            continue;
        }
        if (is_member(k) && k->type != ROW_GROUP && (kinds & kind) &&
            !strchr(k->path, '.'))
            put(j, &whole, k);
        i++;
    }
    return j;
}
