/* ceilings.h - ceilings from run to run, in the user's cache:
 * $XDG_CACHE_HOME/attnbench/ceilings-MACHINE.json, or below ~/.cache.
 *
 * The last env row with ceilings is kept.  Of a quiet machine they serve the
 * user's next runs; in any case the best that runs of one program have seen
 * counts: a neighbour may halve what the hardware grants for minutes, and nothing
 * that a single run sees can tell.
 */
#ifndef CEILINGS_H
#define CEILINGS_H

#include <stdbool.h>

#include "json.h"

/* The row that was kept for this machine (sweep_env's identity), or NULL.  It may
 * be of another program, or old: the caller looks.  Caller frees. */
json *ceilings_read(const char *machine);

/* Keeps the row.  A cache that cannot be written is none. */
void ceilings_keep(const char *machine, const json *row);

/* Whether the machine was quiet while the ceilings of an env row were measured. */
bool ceilings_quiet(const json *row);

/* Raises each rate of `roofline` to that of `other`, both of the same program and
 * machine, adds the ceilings that only that has, and counts: `runs`. */
void ceilings_raise(json *roofline, const json *other);

#endif
