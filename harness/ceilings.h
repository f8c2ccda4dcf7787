/* ceilings.h - the last env row with ceilings that were measured on a quiet
 * machine, kept for the user's next runs in other folders:
 * $XDG_CACHE_HOME/attnbench/ceilings-MACHINE.json, or below ~/.cache.
 */
#ifndef CEILINGS_H
#define CEILINGS_H

#include "json.h"

/* The row that was kept for this machine (sweep_env's identity), or NULL.  It may
 * be of another program, or old: the caller looks.  Caller frees. */
json *ceilings_read(const char *machine);

/* Keeps the row, unless the machine was busy while it was measured.  A cache that
 * cannot be written is none. */
void ceilings_keep(const char *machine, const json *row);

#endif
