/* cache_geometry.c - caches as text, and those of the machine. */
#include "cache_geometry.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_LINE = 16, MOST_LINE = 4096 };
#define MOST_BYTES ((size_t)1 << (sizeof(size_t) > 4 ? 32 : 31))

static bool power_of_two(size_t n)
{
    return n && !(n & (n - 1));
}

static bool valid(const cache_level *c)
{
    return power_of_two(c->line) && c->line >= LEAST_LINE &&
           c->line <= MOST_LINE && c->bytes <= MOST_BYTES && c->ways > 0 &&
           c->ways <= c->bytes / c->line &&
           c->bytes % (c->ways * c->line) == 0 &&
           power_of_two(c->bytes / (c->ways * c->line));
}

int cache_level_parse(cache_level *out, const char *name, const char *text,
                      error *e)
{
    cache_level c;
    char rest;
    if (!strchr(text, '-') &&
        sscanf(text, "%zu,%zu,%zu%c", &c.bytes, &c.ways, &c.line, &rest) == 3 &&
        valid(&c)) {
        *out = c;
        return 0;
    }
    return error_set(e, "--%s: '%s' is not BYTES,WAYS,LINE with a power of two "
                        "of sets (BYTES / WAYS / LINE): write 32768,8,64",
                     name, text);
}

void cache_level_text(const cache_level *c, char *out)
{
    snprintf(out, CACHE_TEXT, "%zu,%zu,%zu", c->bytes, c->ways, c->line);
}

/* ---- the machine's ------------------------------------------------------- */

static bool is_type(const json *cache, const char *type)
{
    const char *text = json_text(json_get(cache, "type"));
    return text && !strcmp(text, type);
}

/* Sets to the power of two below; the ways take up the rest. */
static cache_level from_machine(const json *x)
{
    enum { USUAL_WAYS = 16 }; /* where the machine does not tell             */
    cache_level c = {
        .bytes = (size_t)json_number(json_get(x, "bytes"), 0),
        .ways = (size_t)json_number(json_get(x, "ways"), USUAL_WAYS),
        .line = (size_t)json_number(json_get(x, "line_bytes"), 64),
    };
    if (!c.bytes || !c.ways || !power_of_two(c.line)) return (cache_level){ 0 };
    size_t sets = 1;
    while (2 * sets <= c.bytes / c.line / c.ways) sets *= 2;
    c.ways = c.bytes / c.line / sets;
    c.bytes = sets * c.ways * c.line;
    return valid(&c) ? c : (cache_level){ 0 };
}

static cache_level find(const json *caches, int level, bool instruction)
{
    for (const json *x = json_first(caches); x; x = json_next(x))
        if (json_number(json_get(x, "level"), 0) == level &&
            is_type(x, "instruction") == instruction)
            return from_machine(x);
    return (cache_level){ 0 };
}

int cache_geometry_fill(cache_geometry *g, const json *caches, error *e)
{
    const cache_level l2 = find(caches, 2, false), l3 = find(caches, 3, false);
    if (!g->d1.bytes) g->d1 = find(caches, 1, false);
    if (!g->i1.bytes) g->i1 = find(caches, 1, true);
    if (!g->i1.bytes) g->i1 = g->d1; /* one first level for both            */
    if (!g->ll.bytes) g->ll = l3.bytes ? l3 : g->l2.bytes ? g->l2 : l2;
    if (!g->l2.bytes && l3.bytes) g->l2 = l2;
    if (g->d1.bytes && g->ll.bytes) return 0;
    return error_set(e, "the caches of this machine are not known: give --D1 "
                        "and --LL BYTES,WAYS,LINE");
}

json *cache_geometry_json(const cache_geometry *g)
{
    json *all = json_object();
#define PUT(member, name)                                                      \
    if (g->member.bytes) {                                                     \
        json *j = json_object();                                               \
        json_put_number(j, "bytes", (double)g->member.bytes);                  \
        json_put_number(j, "ways", (double)g->member.ways);                    \
        json_put_number(j, "line_bytes", (double)g->member.line);              \
        json_put(all, name, j);                                                \
    }
    CACHE_LEVELS(PUT)
#undef PUT
    return all;
}
