/* guard.h - memory between pages that fault, for calls that are checked.
 *
 * What goes wrong ends the process with a line on stderr: use it in a child.
 * Not for several threads; at most 512 blocks at once.
 */
#ifndef GUARD_H
#define GUARD_H

#include "check.h"

/* Aligned to ATT_ALIGN and therefore less than that before the last page;
 * tight: right before it, aligned to nothing.  The bytes between block and page
 * edges are filled and checked on release, which aborts with a line if they
 * were written. */
void *guard_take(size_t bytes);
void *guard_take_tight(size_t bytes);
void guard_release(void *block);
void guard_seal(void *block); /* read-only from here on                      */

/* Calls with every block between guards, inputs sealed, called three times. */
extern const check_memory guard_memory;

#endif
