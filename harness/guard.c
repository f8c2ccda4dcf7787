/* guard.c - memory between pages that fault. */
#include "guard.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FILL = 0xa5, BLOCKS = 512 };

/* | guard | fill, block, fill (less than ATT_ALIGN) | guard | */
typedef struct guarded {
    char *block;
    size_t bytes;
    char *base; /* of the first guard                                       */
    size_t all; /* bytes with guards                                        */
    char *inner;
    size_t inner_bytes;
} guarded;

static guarded list[BLOCKS];

static guarded *find(const void *block)
{
    for (int i = 0; i < BLOCKS; i++)
        if (list[i].block == block) return &list[i];
    fprintf(stderr, "guard: unknown block, or more than %d at once\n", BLOCKS);
    abort();
}

static void *take(size_t bytes, size_t align)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t used = (bytes + align - 1) / align * align;
    const size_t inner = (used + page - 1) / page * page;
    guarded *g = find(NULL);

    g->base = mmap(NULL, inner + 2 * page, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g->base == MAP_FAILED ||
        (inner && mprotect(g->base + page, inner, PROT_READ | PROT_WRITE))) {
        perror("guard: mmap");
        abort();
    }
    g->all = inner + 2 * page;
    g->inner = g->base + page;
    g->inner_bytes = inner;
    g->bytes = bytes;
    g->block = g->inner + inner - used;
    if (inner) memset(g->inner, FILL, inner);
    return g->block;
}

void *guard_take(size_t bytes)
{
    return take(bytes, ATT_ALIGN);
}

void *guard_take_tight(size_t bytes)
{
    return take(bytes, 1);
}

void guard_release(void *block)
{
    guarded *g = find(block);
    for (char *c = g->inner; c < g->inner + g->inner_bytes; c++) {
        const bool inside = c >= g->block && c < g->block + g->bytes;
        if (inside || (unsigned char)*c == FILL) continue;
        fprintf(stderr, "guard: a byte %td from the start of a block of %zu "
                        "bytes was written\n",
                c - g->block, g->bytes);
        abort();
    }
    munmap(g->base, g->all);
    *g = (guarded){ 0 };
}

void guard_seal(void *block)
{
    guarded *g = find(block);
    if (g->inner_bytes) mprotect(g->inner, g->inner_bytes, PROT_READ);
}

const check_memory guard_memory = { .take = guard_take,
                                    .release = guard_release,
                                    .seal = guard_seal,
                                    .again = 2 };
