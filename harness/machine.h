/* machine.h - where a number was measured. */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdbool.h>
#include <stddef.h>

#include "json.h"

/* The machine's part of an env row: cpu, levels, caches and topology, memory,
 * frequency, governor, turbo, smt, thp, kernel, virtualisation, compiler, flags,
 * libraries with versions, blas core, git revision, binding, load, and
 * `warnings`, an array of {text, remedy}.  No host name, no user name. */
json *machine_describe(void);

size_t machine_memory_free(void);           /* bytes available now            */
int machine_cores(void);                    /* physical cores we may run on   */
/* Processors for n threads, one each and on cores of their own as long as there
 * are any: the next ones from where the caller runs, or (spread) as far apart as
 * they are.  What the program was allowed at the first call counts: children
 * inherit what the parent has found.  -1: fewer processors than threads, or unknown. */
int machine_places(int n, bool spread, int *processor);
size_t machine_cache(int level);            /* bytes of L1d, L2, L3; 0: none  */

const char *machine_hypervisor(void);       /* "KVM", or NULL on bare metal   */

double machine_load(void);                    /* over the last minute; or NaN   */
/* Frequency governors of these processors, each once, "powersave, performance";
 * false if the kernel offers none. */
bool machine_governor(const int *processor, int n, char *out, size_t size);

/* Ticks of /proc/stat's steal column; 0 where there is none. */
unsigned long long machine_steal(void);

/* What keeps times from being what they could be, now: the `warnings` of an env
 * row.  The caller frees. */
json *machine_warnings(void);
/* Level of the code that OpenBLAS runs on a processor that it calls by this name
 * ("Haswell" is v3); -1: not known. */
int machine_blas_level(const char *core);
/* Prints such a list on stderr, "! text: remedy" a line. */
void machine_tell(const json *warnings);

#endif
