/* cache_geometry.h - the caches that `attnbench cache` simulates. */
#ifndef CACHE_GEOMETRY_H
#define CACHE_GEOMETRY_H

#include <stddef.h>

#include "error.h"
#include "json.h"

/* X(member, name): instruction and data cache of a core, second level, last
 * level. */
#define CACHE_LEVELS(X) X(i1, "I1") X(d1, "D1") X(l2, "L2") X(ll, "LL")

typedef struct cache_level {
    size_t bytes, ways, line; /* bytes 0: there is none, or not known        */
} cache_level;

typedef struct cache_geometry {
    cache_level i1, d1, l2, ll;
} cache_geometry;

/* "BYTES,WAYS,LINE", each a number, as valgrind takes them; 0, or -1 with what
 * is wrong.  `name` is the option. */
int cache_level_parse(cache_level *out, const char *name, const char *text,
                      error *e);
/* The same text; out holds CACHE_TEXT bytes. */
enum { CACHE_TEXT = 48 };
void cache_level_text(const cache_level *c, char *out);

/* Fills what is 0 from the `caches` of an env row.  A number of sets that is no
 * power of two, which the simulator does not take, becomes one by more ways.
 * Without a third level, LL is the second and l2 stays 0.  -1: a cache is not
 * known, with the remedy. */
int cache_geometry_fill(cache_geometry *g, const json *caches, error *e);

/* {I1: {bytes, ways, line_bytes}, ...}, without those that are not there. */
json *cache_geometry_json(const cache_geometry *g);

#endif
