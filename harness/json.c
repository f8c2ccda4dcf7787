/* json.c - JSON by cJSON.  Running out of memory while a value is built ends
 * the program: what is built here is small. */
#include "json.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"

enum { FILE_LIMIT = 256 << 20 };

static void *sure(void *p)
{
    if (!p) abort();
    return p;
}

/* ---- reading and writing ------------------------------------------------- */

static void tell_place(const char *text, const char *at, const char *name,
                       const char *what, error *e)
{
    int line = 1, column = 1;
    for (const char *c = text; c < at; c++) {
        column = *c == '\n' ? 1 : column + 1;
        line += *c == '\n';
    }
    error_set(e, "%s:%d:%d: %s", name, line, column, what);
}

json *json_parse(const char *text, size_t size, const char *name, error *e)
{
    const char *end = NULL;
    cJSON *j = cJSON_ParseWithLengthOpts(text, size, &end, false);
    if (!end || end < text || end > text + size) end = text;
    if (!j) {
        tell_place(text, end, name, "not valid JSON here", e);
        return NULL;
    }
    while (end < text + size && *end && strchr(" \t\r\n", *end)) end++;
    if (end == text + size) return j;
    tell_place(text, end, name, "text after the end of the JSON value", e);
    cJSON_Delete(j);
    return NULL;
}

json *json_read_file(const char *path, error *e)
{
    char *text;
    size_t size;
    if (file_read(path, FILE_LIMIT, &text, &size, e) < 0) return NULL;
    json *j = json_parse(text, size, path, e);
    free(text);
    return j;
}

char *json_print(const json *j, bool indented)
{
    return sure(indented ? cJSON_Print(j) : cJSON_PrintUnformatted(j));
}

int json_write_file(const char *path, const json *j, error *e)
{
    file_writer w;
    if (file_begin(&w, path, e) < 0) return -1;
    char *text = json_print(j, true);
    fprintf(w.stream, "%s\n", text);
    free(text);
    return file_commit(&w, e);
}

void json_free(json *j)
{
    cJSON_Delete(j);
}

/* ---- building ------------------------------------------------------------ */

json *json_object(void)
{
    return sure(cJSON_CreateObject());
}

json *json_array(void)
{
    return sure(cJSON_CreateArray());
}

json *json_copy(const json *j)
{
    return sure(cJSON_Duplicate(j, true));
}

static json *number(double value)
{
    return sure(isfinite(value) ? cJSON_CreateNumber(value)
                                : cJSON_CreateNull());
}

static json *text_or_null(const char *value)
{
    return sure(value ? cJSON_CreateString(value) : cJSON_CreateNull());
}

/* A member of that name that was there before is replaced in its place. */
void json_put(json *object, const char *key, json *child)
{
    if (!child) child = sure(cJSON_CreateNull());
    const bool done =
        cJSON_GetObjectItemCaseSensitive(object, key)
            ? cJSON_ReplaceItemInObjectCaseSensitive(object, key, child)
            : cJSON_AddItemToObject(object, key, child);
    if (!done) abort();
}

void json_put_number(json *object, const char *key, double value)
{
    json_put(object, key, number(value));
}

void json_put_text(json *object, const char *key, const char *value)
{
    json_put(object, key, text_or_null(value));
}

void json_put_bool(json *object, const char *key, bool value)
{
    json_put(object, key, sure(cJSON_CreateBool(value)));
}

void json_put_null(json *object, const char *key)
{
    json_put(object, key, NULL);
}

void json_push(json *array, json *child)
{
    if (!cJSON_AddItemToArray(array, child)) abort();
}

void json_push_number(json *array, double value)
{
    json_push(array, number(value));
}

void json_push_text(json *array, const char *value)
{
    json_push(array, text_or_null(value));
}

/* ---- looking ------------------------------------------------------------- */

const json *json_get(const json *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

const json *json_at(const json *array, int index)
{
    return cJSON_GetArrayItem(array, index);
}

int json_size(const json *array_or_object)
{
    return array_or_object ? cJSON_GetArraySize(array_or_object) : 0;
}

const json *json_first(const json *j)
{
    return json_is_array(j) || json_is_object(j) ? j->child : NULL;
}

const json *json_next(const json *j)
{
    return j->next;
}

const char *json_key(const json *member)
{
    return member->string;
}

double json_number(const json *j, double absent)
{
    return json_is_number(j) ? j->valuedouble : absent;
}

const char *json_text(const json *j)
{
    return cJSON_GetStringValue(j);
}

bool json_is_null(const json *j)
{
    return cJSON_IsNull(j);
}

bool json_is_object(const json *j)
{
    return cJSON_IsObject(j);
}

bool json_is_array(const json *j)
{
    return cJSON_IsArray(j);
}

/* 1e999 is read as infinity: that is no number of ours. */
bool json_is_number(const json *j)
{
    return cJSON_IsNumber(j) && isfinite(j->valuedouble);
}

bool json_true(const json *j)
{
    return cJSON_IsTrue(j);
}

bool json_is_false(const json *j)
{
    return cJSON_IsFalse(j);
}
