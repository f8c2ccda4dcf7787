/* json.h - the one place that meets cJSON.
 *
 * Setters on objects and arrays take ownership of children.  Numbers that are
 * not finite are written as null.  Getters accept NULL nodes and report what
 * they miss, so chains need no checks in between.
 */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

typedef struct cJSON json;

/* Parses exactly one value.  On failure NULL and "NAME:LINE:COLUMN: ..." in e.
 * Depth and size are bounded by cJSON's limits. */
json *json_parse(const char *text, size_t size, const char *name, error *e);
json *json_read_file(const char *path, error *e);
/* One line without trailing newline, or indented; caller frees. */
char *json_print(const json *j, bool indented);
int json_write_file(const char *path, const json *j, error *e);
void json_free(json *j);

json *json_object(void);
json *json_array(void);
json *json_copy(const json *j);

/* Add a member to an object.  json_put takes ownership of child (NULL: null). */
void json_put(json *object, const char *key, json *child);
void json_put_number(json *object, const char *key, double value);
void json_put_text(json *object, const char *key, const char *value);
void json_put_bool(json *object, const char *key, bool value);
void json_put_null(json *object, const char *key);
/* Append to an array. */
void json_push(json *array, json *child);
void json_push_number(json *array, double value);
void json_push_text(json *array, const char *value);

const json *json_get(const json *object, const char *key); /* or NULL       */
const json *json_at(const json *array, int index);         /* or NULL       */
int json_size(const json *array_or_object);
/* Walk the members of an object or the elements of an array:
 *     for (const json *x = json_first(j); x; x = json_next(x)) */
const json *json_first(const json *j);
const json *json_next(const json *j);
const char *json_key(const json *member); /* NULL in arrays                  */
double json_number(const json *j, double absent); /* absent if not a number  */
const char *json_text(const json *j);             /* NULL if not a string    */
bool json_is_null(const json *j);
bool json_is_object(const json *j);
bool json_is_array(const json *j);
bool json_is_number(const json *j);
bool json_true(const json *j);
bool json_is_false(const json *j);

#endif
